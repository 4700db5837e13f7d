--
-- Portuguese analysis, through the text search configuration
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgopt;
RESET client_min_messages;

-- what the parser makes of a text
SELECT alias, token FROM ts_parse('pgopt_parser',
	'A Lei nº 8.666, de 21 de junho de 1993 (art. 5º), e o PL5634/2019: S.A. &amp; R$ 1.234,56.') p
  JOIN ts_token_type('pgopt_parser') t USING (tokid);
SELECT alias, description FROM ts_token_type('pgopt_parser');

--
-- Words meet whatever their accents, case, number: one line, one term
--
CREATE FUNCTION terms(text) RETURNS text LANGUAGE sql IMMUTABLE AS
	$$ SELECT string_agg(lexeme, ' ' ORDER BY positions[1], lexeme) FROM unnest(to_tsvector('pgopt_portuguese', $1)) $$;
SELECT words, count(DISTINCT terms(word)) AS terms, min(terms(word)) AS term
  FROM (VALUES
	('licitação licitações licitacao licitacoes LICITAÇÕES LICITACAO Licitação licita&ccedil;&atilde;o'),
	('decisão decisões decisao decisoes'),
	('órgão órgãos orgao orgaos'),
	('público públicos publico públicas PÚBLICA'),
	('federal federais'),
	('responsável responsáveis responsavel responsaveis'),
	('possível possíveis possivel'),
	('imóvel imóveis imoveis'),
	('instância instâncias instancia instancias'),
	('competência competências competencia'),
	('tributário tributária tributários tributárias tributaria'),
	('obrigatório obrigatória obrigatorias'),
	('constituído constituída constituídos constituir constituiu constituido'),
	('viagem viagens'),
	('papel papéis papeis'),
	('farol faróis'),
	('réu réus reu reus RÉUS'),
	('grau graus'),
	('europeu europeus'),
	('capitão capitães'),
	('civil civis'),
	('matéria matérias materia'),
	('secretaria secretarias Secretaria SECRETARIA'),
	('português portugues PORTUGUÊS')) v (words),
       regexp_split_to_table(words, ' ') word
 GROUP BY words ORDER BY 2 DESC, 3;

-- decomposed letters are the same as composed ones
SELECT terms(normalize('São João: ações à mão', NFD)) = terms('São João: ações à mão') AS same;
-- soft hyphens and ligatures
SELECT terms(U&'lici\00ADta\00E7\00E3o') AS soft_hyphen, terms(U&'\FB01scal') AS ligature, terms('Æther Straße œuvre') AS letters;
-- other scripts stay, in lower case
SELECT terms('МИР Привет ΑΒΓ');

--
-- Stop words, with accents and without, take a position
--
SELECT terms('não nao NÃO é à às há são já até você') IS NULL AS none;
SELECT to_tsvector('pgopt_portuguese', 'não há transporte para o escolar');
SELECT ts_lexize('pgopt_portuguese', 'não') AS stop, ts_lexize('pgopt_portuguese', 'Escolas') AS word, ts_lexize('pgopt_portuguese', '...') AS nothing;

--
-- Numbers meet however they are punctuated: one line, one query that finds all
--
SELECT texts, bool_and(to_tsvector('pgopt_portuguese', t) @@ phraseto_tsquery('pgopt_portuguese', q)) AS found,
       string_agg(t, ' | ') FILTER (WHERE NOT to_tsvector('pgopt_portuguese', t) @@ phraseto_tsquery('pgopt_portuguese', q)) AS not_found
  FROM (VALUES
	('8666/1993', 'Lei nº 8.666, de 21 de junho de 1993 | lei 8666 de 1993 | Lei 8.666, de 21.6.1993'),
	('0001234-56.2020.8.26.0100', '00012345620208260100 | 0001234-56.2020.8.26.0100'),
	('00012345620208260100', '0001234-56.2020.8.26.0100'),
	('lei 8666/1993', 'Lei nº 8.666/1993 | lei 8666/93 | Lei n. 8.666/93 | LEI N.º 8.666/1993 | Lei No. 8.666/93 | Lei 8.666 / 1993 | Lei nº 8.666 /1993 | lei 8666/ 1993 | Lei 8.666-1993 | lei 8666–1993 | Lei no 8.666/93'),
	('8.666 / 1993', 'Lei 8.666 de 1993 | LEI Nº 8.666, DE 1993 | Lei no 8.666 de 1993 | 8.666-1993'),
	('8666', 'Lei nº 8.666/1993 | lei 8666 | Lei 8.666, de 21 de junho de 1993 | 08666'),
	('pl 5634/2019', 'PL 5634/2019 | PL5634/2019 | PL nº 5.634/19 | PL n° 5634/2019 | PL 5634-2019 | PL n. 5634 / 2019 | PL no 5634/2019'),
	('art. 5', 'art. 5º | Art 5° | arts. 5o e 6o | art. 5.º | artigo 5º'),
	('sumula 7', 'Súmula 07 | Súmula nº 7 | súmula n. 7'),
	('2026-11-21', '21/11/2026 | 21.11.2026 | 21-11-2026 | 2026-11-21 | 21/11/26 | 21 de novembro de 2026'),
	('icms', 'ICMS | I.C.M.S. | i.c.m.s'),
	('petrobras sa', 'Petrobras S.A. | PETROBRAS S/A | petrobras sa'),
	('covid 19', 'COVID-19 | covid19 | Covid 19'),
	('r$ 1234,56', 'R$ 1.234,56 | R$1234,56'),
	('decreto lei', 'decreto-lei | Decreto Lei')) v (q, texts),
       regexp_split_to_table(texts, ' \| ') t
 GROUP BY texts ORDER BY texts;

-- compounds: the one term that stands for all of it
SELECT t, (SELECT string_agg(lexeme, ' ' ORDER BY positions[1], length(lexeme) DESC, lexeme)
             FROM unnest(to_tsvector('pgopt_portuguese', t))) AS terms
  FROM unnest(ARRAY['0001234-56.2020.8.26.0100', '00012345620208260100', '12.345.678/0001-90', '12345678000190',
	'123.456.789-09', 'TC 012.345/2019-6', '70040-020', '1.2', '1,2,3', '8.666/93,8.987/95', '1.234,05', '24/48', '000', '12/2019',
	'21 de novembro de 2026', '1º de Março de 2020', '31 de abril', '8.666 de 1993', 'LC 101, de 4.5.2000',
	'5a 5º 5ª 5° 10os', '3G 220V', '1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16.17']) t;

-- a hyphen, or a slash with spaces, before a year: a law, but no period, date, process or telephone number
SELECT t, (SELECT string_agg(lexeme, ' ' ORDER BY positions[1], length(lexeme) DESC, lexeme)
             FROM unnest(to_tsvector('pgopt_portuguese', t))) AS terms
  FROM unnest(ARRAY['8.666-1993', '8.666 / 1993', '8.666&nbsp;/ 1993', '100-2019', '8.666 / 1993,8.987 / 1995', '8.666 / 1993 / SP', '12 / 2019',
	'1990-1995', '1.990-1995', '10-15', '12-2019', '345-1799', '345-2100', '3322-1234', '21-11-2026', '10 / 11 / 2019', '2019 / 11 / 10', '10/11 / 2019',
	'1234567-2019', '123.456.789-2019', '8.666-1993-1994', '8.666-1993/2', '8.666 / 1993-2', '8.666 / 1993.5', '8.666 / 93', '8.666 / 19935', '8.666 - 1993',
	'1.234,56 / 2019', '8.666 de 1993 / 1995', '8.666' || repeat(' ', 20) || '/ 1993']) t;

-- what announces a number is no word, otherwise it is
SELECT t, to_tsvector('pgopt_portuguese', t) FROM unnest(ARRAY['nº 5', 'N.º 5', 'n. 5', 'No. 5', 'no 5', 'nos. 5 e 6',
	'no 8.666', 'no 8.666/93', 'no 5634 / 2019', 'no 5634-2019', 'no 1234567-89.2019.8.26.0100', 'no 1.234,56', 'no 21.11.2026', 'no 1.2', 'no 24/48', 'no 1990-1995', 'arte 5', 'a arte', 'art.', 'nº']) t;

--
-- Odd input
--
SELECT to_tsvector('pgopt_portuguese', '') AS empty, to_tsvector('pgopt_portuguese', ' .,;&-/º°§ ') AS nothing;
-- too long a word is left out, and takes a position
SELECT to_tsvector('pgopt_portuguese', 'antes ' || repeat('x', 300) || ' fim ' || repeat('1', 300) || ' 9');
SELECT length(lexeme) FROM unnest(to_tsvector('pgopt_portuguese', repeat('x', 255) || ' ' || repeat('x', 256)));
-- the server takes no token of 2 kB: longer ones are cut, without a notice
SELECT count(*), max(length(token)), sum(length(token)) FROM ts_parse('pgopt_parser', repeat(' ', 5000) || repeat('ç', 5000) || repeat('-', 5000));
SELECT terms('&nbsp;a&b; &foo; AT&T &#231;&#xE3; &# &');
SELECT terms(string_agg(chr(i), '')) IS NOT NULL AS survives FROM generate_series(1, 70000) i WHERE i NOT BETWEEN 55296 AND 57343;

--
-- Documents and queries give the same terms with accents and without
--
CREATE TABLE search_analysis (id int, body text);
INSERT INTO search_analysis VALUES
	(1, 'A licitação para transporte escolar na zona rural foi anulada por decisão do Tribunal de Contas.'),
	(2, 'Dispõe sobre a concessão de benefícios previdenciários às servidoras públicas municipais.'),
	(3, 'Institui o Programa Nacional de Alfabetização, nos termos da Lei nº 9.394, de 20 de dezembro de 1996.');
CREATE INDEX search_analysis_body ON search_analysis USING gin (to_tsvector('pgopt_portuguese', body));
CREATE FUNCTION unaccent_all(text) RETURNS text LANGUAGE sql IMMUTABLE AS
	$$ SELECT translate($1, 'áàâãéêíóôõúüçÁÀÂÃÉÊÍÓÔÕÚÜÇ', 'aaaaeeiooouucAAAAEEIOOOUUC') $$;
SELECT bool_and(to_tsvector('pgopt_portuguese', body) = to_tsvector('pgopt_portuguese', unaccent_all(body))) AS same,
       bool_and(to_tsvector('pgopt_portuguese', body) = to_tsvector('pgopt_portuguese', upper(unaccent_all(body)))) AS same_in_capitals
  FROM search_analysis;
SELECT q, (SELECT array_agg(id ORDER BY id) FROM search_analysis WHERE to_tsvector('pgopt_portuguese', body) @@ websearch_to_tsquery('pgopt_portuguese', q)) AS ids
  FROM unnest(ARRAY['licitacoes', 'LICITAÇÃO "zona rural"', 'beneficio previdenciario', 'servidor público municipal or decisões', 'lei 9394/96', '"lei 9.394"', '20/12/1996', '-licitação programa']) q;
SELECT to_tsquery('pgopt_portuguese', '8.666/1993 & licitações'), to_tsquery('pgopt_portuguese', 'licit:*'), websearch_to_tsquery('pgopt_portuguese', '"Lei nº 8.666/93" -não');
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT id FROM search_analysis WHERE to_tsvector('pgopt_portuguese', body) @@ to_tsquery('pgopt_portuguese', 'licitacao');
RESET enable_seqscan;

-- the server's headlines
SELECT ts_headline('pgopt_portuguese', body, websearch_to_tsquery('pgopt_portuguese', 'licitacoes decisao'), 'HighlightAll=true') FROM search_analysis WHERE id = 1;
SELECT ts_headline('pgopt_portuguese', body, websearch_to_tsquery('pgopt_portuguese', '9394/1996 or "20/12/1996"'), 'HighlightAll=true') FROM search_analysis WHERE id = 3;
SELECT ts_headline('pgopt_portuguese', 'Lei nº 8.666/93, e outra.', websearch_to_tsquery('pgopt_portuguese', 'lei 8666/1993'));

-- the dictionary has no parameters
CREATE TEXT SEARCH DICTIONARY search_analysis_wrong (TEMPLATE = pgopt_template, StopWords = portuguese);

--
-- An index restores accents: a word's forms meet however often they are written without
--
CREATE TABLE search_restore (id int, body text);
INSERT INTO search_restore VALUES (1, 'A licitação foi feita.'), (2, 'As LICITAÇÕES foram feitas'), (3, 'a licitacao sem acento'),
	(4, 'SOFÁS, FARÓIS E TROFÉUS'), (5, 'sofas, farois e trofeus'), (6, 'O farol, o sofá, o troféu');
INSERT INTO search_restore SELECT 10 + i, 'LICITACAO, LICITACOES, FAROIS' FROM generate_series(1, 7) i;
CREATE INDEX search_restore_index ON search_restore USING pgopt_bm25 (body);
SELECT q, (SELECT string_agg(id::text, ' ' ORDER BY id) FROM search_restore r WHERE r @@@ q) AS ids
  FROM unnest(ARRAY['licitacao', 'licitação', 'licitações', 'LICITACOES', 'faróis', 'farol', 'sofas', 'trofeu']) q;
-- accents that are hardly ever there are errors
TRUNCATE search_restore;
INSERT INTO search_restore SELECT i, CASE WHEN i = 1 THEN 'frenté' ELSE 'frente' END FROM generate_series(1, 12) i;
REINDEX INDEX search_restore_index;
SELECT count(*) FROM search_restore r WHERE r @@@ 'frentes';
DROP TABLE search_restore;

DROP TABLE search_analysis;
DROP FUNCTION terms(text), unaccent_all(text);
