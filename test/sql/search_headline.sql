--
-- pgopt_headline(): the fragments that show why a document was found.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgopt;
RESET client_min_messages;
\pset format unaligned
\pset tuples_only on

--
-- Marks
--
SELECT pgopt_headline('A licitação foi anulada.', 'licitacao');
SELECT pgopt_headline('A licitacao foi anulada; as LICITAÇÕES também.', 'licitações');
SELECT pgopt_headline('Educação e saúde: saúde pública, educação básica.', 'saude "educacao basica"');
-- a phrase is one mark, and only where it stands
SELECT pgopt_headline('A Secretaria de Saúde, a secretaria da educação e a saúde.', '"secretaria de saúde"');
-- but a word that is asked for by itself too is marked everywhere
SELECT pgopt_headline('A zona rural e a zona urbana.', '"zona rural" zona');
-- what must not be there is not shown
SELECT pgopt_headline('O frete do transporte escolar.', 'transporte -frete');
SELECT pgopt_headline('O frete do transporte escolar.', 'transporte -"transporte escolar"');
-- numbers, however punctuated
SELECT pgopt_headline('Conforme a Lei nº 8.666/1993, art. 5º, e o PL 5634/2019.', 'lei 8666/1993');
SELECT pgopt_headline('Conforme a Lei nº 8.666/1993, art. 5º, e o PL 5634/2019.', '8666');
SELECT pgopt_headline('Conforme a Lei nº 8.666/1993, art. 5º, e o PL 5634/2019.', '"PL 5634/2019"');

--
-- Fragments
--
CREATE TEMP TABLE search_headline_text (body text);
INSERT INTO search_headline_text
	SELECT string_agg(CASE i WHEN 60 THEN 'transporte' WHEN 64 THEN 'escolar' WHEN 150 THEN 'merenda' WHEN 200 THEN 'transporte' ELSE 'palavra' || chr(97 + i % 26) END, ' ' ORDER BY i)
	  FROM generate_series(1, 300) i;
SELECT pgopt_headline(body, 'transporte escolar merenda') FROM search_headline_text;
SELECT pgopt_headline(body, 'transporte escolar merenda', max_fragments => 1, fragment_words => 8) FROM search_headline_text;
SELECT pgopt_headline(body, 'transporte escolar merenda', max_fragments => 5, fragment_words => 3, delimiter => ' / ') FROM search_headline_text;
-- the earlier of two that are worth the same
SELECT pgopt_headline(body, 'transporte', max_fragments => 1, fragment_words => 5) FROM search_headline_text;
SELECT pgopt_headline(body, 'transporte', max_fragments => 2, fragment_words => 5) FROM search_headline_text;
-- at the edges
SELECT pgopt_headline('merenda ' || body, 'merenda', max_fragments => 1, fragment_words => 5) FROM search_headline_text;
SELECT pgopt_headline(body || ' creches.', 'creche', '<em>', '</em>', 1, 5) FROM search_headline_text;
-- a phrase is worth more than its words
SELECT pgopt_headline(repeat('zona ', 30) || 'rural ' || repeat('e mais ', 30) || 'na zona rural do município', '"zona rural"', max_fragments => 1, fragment_words => 6);
SELECT pgopt_headline('zona aqui rural. ' || repeat('E mais. ', 30) || 'Na zona rural do município.', 'zona rural "zona rural"', max_fragments => 1, fragment_words => 6);
-- nothing found: the beginning
SELECT pgopt_headline(body, 'inexistente', fragment_words => 5) FROM search_headline_text;
SELECT pgopt_headline(body, '', fragment_words => 2) FROM search_headline_text;
SELECT pgopt_headline(body, NULL, fragment_words => 2) FROM search_headline_text;
-- white space and control characters
SELECT pgopt_headline(E'  A\n\n\tlicitação\r\nfoi \x01\x02 anulada.' || chr(160) || E'\n', 'licitação');
-- nothing there
SELECT '[' || pgopt_headline('', 'licitação') || ']', '[' || pgopt_headline(NULL, 'licitação') || ']', '[' || pgopt_headline(E' \n ', 'licitação') || ']';

--
-- Markup of a document is text, unless asked otherwise
--
SELECT pgopt_headline('<script>alert("licitação")</script> & <b>licitação</b>', 'licitação');
SELECT pgopt_headline('<img src=x onerror="alert(''licitação'')"> &lt;licitação&gt; &amp;', 'licitação');
SELECT pgopt_headline('"><svg/onload=licitação>', 'licitação', '<mark class="a">', '</mark>');
-- a document that imitates the marks
SELECT pgopt_headline('<b>edital</b> [edital] licitação', 'licitação');
-- selectors are the caller's, as they are; so is the delimiter
SELECT pgopt_headline('uma licitação', 'licitação', '<span title="&">', '</span>');
SELECT pgopt_headline('uma licitação', 'licitação', '', '');
SELECT pgopt_headline('uma licitação', 'licitação', NULL, NULL);
-- a search with markup changes nothing
SELECT pgopt_headline('uma licitação <i>', '<i>licitação</i> onerror=alert(1)');
-- no bare < > " or ' from a document, whatever the search and the cut
SELECT count(*) FILTER (WHERE h ~ '[<>"'']' OR h ~ '&(?!(amp|lt|gt|quot|#39);)') AS unsafe, count(*) AS headlines
  FROM (SELECT pgopt_headline(string_agg((ARRAY['<b>', '"', '''', '&', '&amp;', '<!--', 'licitação', 'zona rural', '>', 'é', '</', '<script', ' ', '&#'])[1 + (i * seed * 7919 + i * i) % 14],
	                                         CASE WHEN i % 3 = 0 THEN '' ELSE ' ' END ORDER BY i), 'licitação "zona rural"', '[', ']', 1 + seed % 4, 1 + seed % 7) AS h
	      FROM generate_series(1, 80) i, generate_series(1, 200) seed GROUP BY seed) s;

-- as markup: tags and entities stay whole and unmarked
SELECT pgopt_headline('<p class="licitação">Uma <i>licitação</i> &amp; &licitacao; outra</p>', 'licitação', escape_html => false);
SELECT pgopt_headline('um dois <a href="tres quatro cinco seis">sete licitação oito</a> nove dez', 'licitação', max_fragments => 1, fragment_words => 6, escape_html => false);
SELECT pgopt_headline('a < b e licitação > c & d', 'licitação', escape_html => false);

--
-- Characters of several bytes are never cut
--
SELECT pgopt_headline(repeat('日本語', 100) || ' licitação ' || repeat('日本語', 100), 'licitação', max_fragments => 1, fragment_words => 3) LIKE '%日本% <b>licitação</b> 日本%' AS whole;
SELECT count(*) AS valid
  FROM (SELECT convert_to(pgopt_headline(repeat('é', n) || '€😀licitação 日本語' || repeat('😀', n), 'licitação', fragment_words => 1 + n % 5), 'UTF8') AS h FROM generate_series(0, 200) n) s
 WHERE convert_from(h, 'UTF8') IS NOT NULL;

--
-- Large documents: linear, and the end of a very large one is not looked at
--
SELECT pgopt_headline(repeat('palavra comum ', 100000) || 'licitação final', 'licitação', fragment_words => 4, max_fragments => 1);
SELECT left(pgopt_headline(repeat('palavra comum ', 750000) || 'licitação final', 'licitação', fragment_words => 4, max_fragments => 1), 60);
SELECT pgopt_headline(repeat('licitação e zona rural ', 450000), 'licitação "zona rural"', max_fragments => 1, fragment_words => 6);
SELECT length(pgopt_headline(repeat('x', 10000000), 'licitação')), length(pgopt_headline(repeat('é', 5000000), 'x'));
SELECT pgopt_headline(repeat('a ', 500000), '"' || repeat('a ', 200) || '"', config => 'simple', max_fragments => 1, fragment_words => 3);

--
-- Other configurations; bad input
--
SELECT pgopt_headline('The running dogs', 'dog "running dog"', config => 'english');
SELECT pgopt_headline('The running dogs', 'dog', config => 'simple');
SELECT pgopt_headline('A licitação', 'licitacao', config => 'portuguese');
SELECT s, pgopt_headline('Licitações: the dogs', s, config => c) FROM (VALUES ('licitação', 'pgopt_portuguese'::regconfig), ('dog', 'english'), ('dog', 'simple'), ('dog', 'english')) v (s, c);
SELECT pgopt_headline('a', 'a', config => 'no_such_configuration');
SELECT pgopt_headline('a', 'a', config => 1::oid::regconfig);
SELECT pgopt_headline('a', 'a', max_fragments => 0);
SELECT pgopt_headline('a', 'a', fragment_words => 1001);
