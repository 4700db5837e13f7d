--
-- What users write into a search: how it is read shows in what a headline marks.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgopt;
RESET client_min_messages;
\pset format unaligned
\pset tuples_only on

CREATE VIEW search_query_text AS SELECT
	'A secretaria de saúde compra guarda-chuvas. Decreto-lei 200/1967; Lei nº 8.666/1993, art. 5º. '
	'O frete do transporte escolar na zona rural; a zona urbana.'::text AS body;
CREATE FUNCTION search_query_marks(VARIADIC searches text[]) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT s || '  =>  ' || coalesce((SELECT string_agg(m[1], ' | ')
	                                    FROM search_query_text, regexp_matches(pgopt_headline(body, s, '[', ']', 1, 100, escape_html => false), '\[([^]]*)\]', 'g') m), 'nothing')
	  FROM unnest(searches) WITH ORDINALITY u (s, n) ORDER BY n
$$;

-- words: any accents, any inflection, any order, no stop words
SELECT search_query_marks('saude', 'SAÚDE secretarias', 'licitação', 'a de o', '', '   ', '?!...', 'rurais escolares');

-- phrases, in any quotes; stop words keep their places
SELECT search_query_marks('"zona rural"', '“zona rural”', '«zona rural»', '"rural zona"', '"secretaria de saude"', '"secretaria saude"',
	'"secretaria da saude"', '"frete"', '"a" "de o"', '""', '"zona urbana" rural', 'zona"rural"frete');
-- one that is not closed ends with the text
SELECT search_query_marks('frete "zona rural', 'frete "', '"', '"""');

-- minus and plus, at the beginning of a word only
SELECT search_query_marks('frete -escolar', '+frete escolar', '-frete', 'escolar -"zona rural" zona', 'escolar +"zona rural"', '"zona urbana"-frete escolar',
	'escolar-frete', 'escolar - frete', 'escolar --frete', 'escolar -', '-', '+', '+-', '- -', '-"', '+"zona rural');
-- words with hyphens are words
SELECT search_query_marks('guarda-chuva', '+guarda-chuva', '"guarda chuva"', 'decreto-lei', '-decreto-lei lei', '+decreto-lei');

-- numbers are found however they are written
SELECT search_query_marks('8666/93', 'lei 8.666/1993', 'lei 8666', '"lei 8.666"', '"lei nº 8.666/1993"', '+8666/1993', 'lei -8.666/1993', 'art. 5º', 'art 5', '200/1967');

-- what looks like a column and is none is a word
SELECT search_query_marks('escolar:frete', 'http://zona', ':frete', 'frete:', '-title:frete rural', '(frete)', 'zona,rural;frete', 'frete' || chr(160) || '-zona');

-- no nesting, no operators but these
SELECT search_query_marks('((((frete))))', 'frete & !zona | rural', 'frete <-> zona', 'frete:*', '''frete''', '\frete', E'frete\t\n-zona');

--
-- Limits
--
\set SHOW_CONTEXT never
SELECT pgopt_headline('frete', repeat('frete ', 200000));
SELECT pgopt_headline('frete', (SELECT string_agg('palavra' || translate(i::text, '0123456789', 'abcdefghij'), ' ') FROM generate_series(1, 400) i));
SELECT pgopt_headline('frete', (SELECT string_agg('"x' || chr(97 + i) || 'x x' || chr(97 + j / 2) || repeat('y', j % 2) || 'x"', ' ') FROM generate_series(0, 25) i, generate_series(0, 49) j));
SELECT pgopt_headline('frete', '"' || repeat('zona rural ', 1025) || '"');

-- as much as is allowed, in no time
CREATE TEMP TABLE search_query_long (name text, search text);
INSERT INTO search_query_long VALUES
	('one word', repeat('frete ', 174000)),
	('signs', repeat('- ', 500000) || 'frete'),
	('signed words', repeat('-a +o ', 170000) || 'frete'),
	('quotes', repeat('"', 1000000) || 'frete'),
	('phrases', repeat('"zona rural" ', 80000) || 'frete'),
	('colons', repeat('a:b:', 250000) || ' frete'),
	('one long word', repeat('x', 1000000) || ' frete'),
	('spaces', repeat(' ', 1000000) || 'frete'),
	('parentheses', repeat('(', 500000) || 'frete' || repeat(')', 500000)),
	('plus', repeat('+', 1000000) || ' frete');
SELECT name, pgopt_headline('zona rural: frete', search, '[', ']') FROM search_query_long;
DO $$
DECLARE
	began timestamptz;
	slow text;
BEGIN
	FOR slow IN SELECT name FROM search_query_long LOOP
		began := clock_timestamp();
		PERFORM pgopt_headline('frete', search) FROM search_query_long WHERE name = slow;
		IF clock_timestamp() - began > interval '5 seconds' THEN
			RAISE WARNING '% took %', slow, clock_timestamp() - began;
		END IF;
	END LOOP;
END $$;

-- the type is a text to whoever looks at it
SELECT 'transporte "zona rural" -frete'::pgopt_query;
SELECT repeat('frete ', 3)::pgopt_query::text;

--
-- Columns
--
CREATE TABLE search_query_docs (id integer PRIMARY KEY, title text, content text);
INSERT INTO search_query_docs VALUES
	(1, 'Transporte escolar', 'Trata da merenda na zona rural.'),
	(2, 'Merenda', 'Trata do transporte escolar na zona urbana.'),
	(3, 'Zona rural', 'Trata de frete e de guarda-chuvas.'),
	(4, 'Title', 'Trata da palavra inglesa title; licitação.'),
	(5, 'Licitação', 'Trata de licitações, e da licitante.');
CREATE INDEX search_query_index ON search_query_docs USING pgopt_bm25 (title, content);
CREATE FUNCTION search_query_finds(VARIADIC searches text[]) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT s || '  =>  ' || coalesce((SELECT string_agg(key, ', ' ORDER BY key::integer) || CASE WHEN min(searched) <> s THEN ', searched: ' || min(searched) ELSE '' END
	                                    FROM pgopt_search('search_query_docs', s)), 'nothing')
	  FROM unnest(searches) WITH ORDINALITY u (s, n) ORDER BY n
$$;
SELECT search_query_finds('merenda', 'title:merenda', 'Title:merenda', 'TITLE:"zona rural"', 'content:"zona rural"', 'merenda -title:merenda', '+content:merenda zona',
	'title:escolar content:frete', '+title:escolar +content:escolar', 'title: merenda', 'titles:merenda', 'title:"escolar transporte"', 'content:guarda-chuva',
	'-title:-merenda zona', '"title:merenda"', 'x:title:merenda', 'title:title');
-- a search in one column knows the names of the others, in which it finds nothing
SELECT array_agg(id ORDER BY id) FROM search_query_docs WHERE content @@@ 'merenda';
SELECT array_agg(id ORDER BY id) FROM search_query_docs WHERE content @@@ 'title:merenda frete';
SELECT array_agg(id ORDER BY id) FROM search_query_docs WHERE content @@@ '+title:merenda frete';
SELECT array_agg(id ORDER BY id) FROM search_query_docs WHERE content @@@ 'frete -title:zona';

--
-- Numbers with signs and in phrases: however the documents write them
--
CREATE TABLE search_query_laws (id integer PRIMARY KEY, body text);
INSERT INTO search_query_laws VALUES
	(1, 'A Lei 8.666/1993 trata'), (2, 'A Lei nº 8.666, de 21 de junho de 1993, art. 5º, trata'), (3, 'a lei 8666/93, art. 5º'),
	(4, 'lei 8666 de 1993'), (5, 'lei 8666 e ano 1993'),
	(11, 'processo nº 00012345620198260100 julgado'), (12, 'processo 0001234-56.2019.8.26.0100 julgado'), (13, '0001234 56 2019 8 26 0100 julgado'),
	(6, 'Lei nº 8.666 / 1993'), (7, 'lei 8.666 /1993, art. 5º'), (8, 'Lei nº 8.666-1993'), (9, 'LEI Nº 8.666, DE 1993'), (10, 'Lei no 8.666 de 1993, art. 5º'),
	(31, 'PL 5634-2019'), (32, 'PL n. 5634 / 2019'), (33, 'PL no 5.634, de 2019'), (34, 'PL 5.634/19'), (35, 'PL 5634 e ano 2019'),
	(21, '24/48 horas'), (22, 'Lei nº 24/48'), (23, '24/1948'), (24, 'em 24 ou 48 horas');
CREATE INDEX ON search_query_laws USING pgopt_bm25 (body);
SELECT q || '  =>  ' || coalesce((SELECT string_agg(id::text, ' ' ORDER BY id) FROM search_query_laws l WHERE l @@@ q), 'nothing')
  FROM unnest(ARRAY['+8666/1993', '"8.666/1993"', '+"8.666/1993"', '"Lei 8.666/1993"', '"Lei nº 8.666, de 21 de junho de 1993"', 'lei -8666/1993', '+8.666-1993', '"8.666 / 1993"', '"Lei no 8.666 de 1993"', '"Lei 8.666 / 1993"',
	'ano -8.666/1993', 'lei -8.666-1993', '+5634/2019', '"PL 5634-2019"', '"PL n. 5634 / 2019"', 'pl -5634/2019', '+1990-1995',
	'+0001234-56.2019.8.26.0100', '"0001234-56.2019.8.26.0100"', '+00012345620198260100', '"processo nº 00012345620198260100 julgado"',
	'"processo 0001234-56.2019.8.26.0100 julgado"', 'julgado -0001234-56.2019.8.26.0100',
	'"24/48 horas"', '24/48', '+24/48', '"lei 24/48"', '+24/1948']) q;
-- what follows the number: it takes a place, but in several words as many places
SELECT q || '  =>  ' || coalesce((SELECT string_agg(id::text, ' ' ORDER BY id) FROM search_query_laws l WHERE l @@@ q), 'nothing')
  FROM unnest(ARRAY['"lei 8666/1993 art. 5º"', '"lei 8.666 art. 5º"', '"lei nº 8.666, de 21 de junho de 1993, art. 5º"', '"21 de junho"']) q;
DROP TABLE search_query_laws;

--
-- Typing errors
--
-- one letter missing, too many, another one, exchanged; two from eight letters on
SELECT search_query_finds('merend', 'merrenda', 'meremda', 'mernnda', 'merneda', 'trasnporte', 'tranporte', 'tarnsprote', 'licitasao', 'mremneda');
-- every word by itself, wherever it stands; operators and columns stay
SELECT search_query_finds('"zona rurl" -merenda', 'content:mernda', '+frte zona', 'title:zona title:rurla "zona urban"', 'guarda-chuvs');
-- also where two are of one stem that is unknown
SELECT search_query_finds('trasnporte trasnportes', 'merenxa merenxas title:merenxa');
-- known words, short ones and numbers are not changed; nor is what is too far
SELECT search_query_finds('licitante', 'fre', '8667', 'xmerxenda', 'frxtx');
-- of two that are as near, the one that more documents have
INSERT INTO search_query_docs SELECT 10 + i, 'Pato', CASE WHEN i < 3 THEN 'gatos' ELSE 'patos' END FROM generate_series(1, 6) i;
SELECT search_query_finds('xatos');
-- also where they are in several segments and in the write buffer
INSERT INTO search_query_docs SELECT 20 + i, 'Gato', 'gatos' FROM generate_series(1, 3) i;
VACUUM search_query_docs;
INSERT INTO search_query_docs SELECT 30 + i, 'Gato', 'gatos' FROM generate_series(1, 3) i;
SELECT search_query_finds('xatos');

DROP FUNCTION search_query_finds(text[]);
DROP TABLE search_query_docs;
DROP FUNCTION search_query_marks(text[]);
DROP VIEW search_query_text;
