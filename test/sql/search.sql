-- Searching: operators and plans, pgopt_search(), facets, distributions, row level security, partitions, no index.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgopt;
SET client_min_messages = notice;
\pset format unaligned
\pset tuples_only on

CREATE SCHEMA search_test;
SET search_path = search_test, public;
SET timezone = 'UTC';

CREATE TABLE docs (id int PRIMARY KEY, title text, content text, kind text, meta jsonb, day date);
INSERT INTO docs VALUES
  (1, 'Lei de licitações', 'Institui normas para licitações e contratos da Administração Pública, Lei nº 8.666/1993.', 'PL', '{"state": "SP"}', '1993-06-21'),
  (2, 'Transporte escolar', 'Dispõe sobre o transporte escolar dos alunos da zona rural.', 'PL', '{"state": "SP"}', '2012-02-01'),
  (3, 'Frete', 'Institui a política de pisos mínimos do transporte rodoviário de cargas: o frete.', 'MPV', '{"state": "RJ"}', '2018-08-08'),
  (4, 'Licitação do transporte', 'Regulamenta a licitação do transporte de passageiros na zona urbana e na área rural.', 'PL', '{}', '2019-01-15'),
  (5, NULL, NULL, NULL, NULL, NULL),
  (6, 'Orçamento', 'Estima a receita e fixa a despesa. Art. 5º, § 2º. PL 5634/2019.', 'PLN', '{"state": "DF"}', NULL);
CREATE INDEX docs_search ON docs USING pgopt_bm25 (title, content, kind pgopt_filter_ops, (meta->>'state') pgopt_filter_ops, day);

-- the operators, and the plans that they give
SELECT id FROM docs d WHERE d @@@ 'licitação' ORDER BY d <@> 'licitação' LIMIT 10;
SELECT id FROM docs WHERE title @@@ 'transporte' ORDER BY title <@> 'transporte';
EXPLAIN (COSTS OFF) SELECT id FROM docs d WHERE d @@@ 'licitação' ORDER BY d <@> 'licitação' LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM docs d WHERE d @@@ 'transporte' AND kind = 'PL' AND day >= '2010-01-01' AND meta->>'state' IN ('SP', 'RJ') ORDER BY d <@> 'transporte' LIMIT 10;
SELECT id FROM docs d WHERE d @@@ 'transporte' AND kind = 'PL' AND day >= '2010-01-01' AND meta->>'state' IN ('SP', 'RJ') ORDER BY d <@> 'transporte' LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM docs d WHERE d @@@ 'transporte' AND '2010-01-01' <= day AND kind IS NOT NULL;
SELECT id FROM docs d WHERE d @@@ 'transporte' AND '2010-01-01' <= day AND kind IS NOT NULL ORDER BY id;
-- only a filter: not for this index
EXPLAIN (COSTS OFF) SELECT id FROM docs WHERE kind = 'PL';

-- a score in the select list is the one that the order comes from, and the one that the row itself gives
SELECT count(*), bool_and(a.score = b.score) FROM
  (SELECT id, d <@> 'transporte rural' AS score FROM docs d WHERE d @@@ 'transporte rural' ORDER BY d <@> 'transporte rural' LIMIT 10) a
  JOIN (SELECT id, d <@> 'transporte rural' AS score FROM docs d OFFSET 0) b USING (id);
-- without a condition all rows come, those that do not match last
SELECT id, round((d <@> 'frete')::numeric, 3) < 0 FROM docs d ORDER BY d <@> 'frete';
-- order by score and something else
EXPLAIN (COSTS OFF) SELECT id FROM docs d WHERE d @@@ 'transporte' ORDER BY d <@> 'transporte', id;
SELECT id FROM docs d WHERE d @@@ 'transporte' ORDER BY d <@> 'transporte', id;
-- worst first: sorted
SELECT id FROM docs d WHERE d @@@ 'licitação' ORDER BY d <@> 'licitação' DESC;

-- parameters, joins, subqueries, views, cursors
SET plan_cache_mode = force_generic_plan;
PREPARE find(text, text) AS SELECT id FROM docs d WHERE d @@@ $1 AND kind = $2 ORDER BY d <@> $1 LIMIT 5;
EXECUTE find('transporte', 'PL');
EXECUTE find('frete', 'MPV');
EXECUTE find(NULL, 'MPV');
EXPLAIN (COSTS OFF) EXECUTE find('transporte', 'PL');
RESET plan_cache_mode;
SELECT q.words, (SELECT id FROM docs d WHERE d @@@ q.words ORDER BY d <@> q.words LIMIT 1)
  FROM (VALUES (1, 'frete'), (2, 'orçamento'), (3, 'nada disso')) q(n, words) ORDER BY q.n;
SELECT q.words, d.id FROM (VALUES ('frete'), ('orçamento')) q(words) JOIN docs d ON d @@@ q.words ORDER BY 1, 2;
CREATE VIEW recent AS SELECT * FROM docs WHERE day > '2000-01-01';
SELECT id FROM recent r WHERE r.content @@@ 'transporte' ORDER BY id;
WITH found AS MATERIALIZED (SELECT id, d <@> 'rural' AS score FROM docs d WHERE d @@@ 'rural') SELECT id FROM found ORDER BY score, id;
SELECT o.id FROM docs o LEFT JOIN docs d ON d.id = o.id + 1 AND d @@@ 'frete' WHERE d.id IS NOT NULL;
-- conditions that belong to an outer join, or to the inside of NOT EXISTS, leave out no row of the other side
SET enable_seqscan = off;
SELECT d.id, o.id FROM docs d LEFT JOIN docs o ON d @@@ 'frete' AND o.id = d.id ORDER BY 1, 2;
SELECT d.id, o.id FROM docs d LEFT JOIN docs o ON d.kind = 'MPV' AND d @@@ 'transporte' AND o.id = d.id ORDER BY 1, 2;
SELECT d.id, o.id FROM docs d FULL JOIN docs o ON o.id = d.id AND d.id IN (3, 4) AND o.id IN (3, 4) WHERE d @@@ 'transporte' ORDER BY 1, 2;
SELECT d.id FROM docs d WHERE NOT EXISTS (SELECT FROM docs o WHERE d @@@ 'transporte' AND o.id = d.id) ORDER BY 1;
SELECT d.id FROM docs d WHERE NOT EXISTS (SELECT FROM docs o WHERE o @@@ 'transporte' AND o.id = d.id) ORDER BY 1;
SELECT d.id, o.id FROM docs d LEFT JOIN docs o ON o @@@ d.title AND o.id <> d.id ORDER BY 1, 2;
RESET enable_seqscan;
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM docs d WHERE d @@@ 'transporte' ORDER BY d <@> 'transporte';
FETCH 1 FROM c;
FETCH 1 FROM c;
FETCH ALL FROM c;
COMMIT;
-- changed and locked by what they hold
BEGIN;
UPDATE docs d SET kind = 'X' WHERE d @@@ '"zona rural"' RETURNING id;
DELETE FROM docs d WHERE d @@@ 'frete' RETURNING id;
SELECT id FROM docs d WHERE d @@@ 'transporte' ORDER BY id FOR UPDATE;
SELECT id, kind FROM docs d WHERE d @@@ 'transporte' ORDER BY d <@> 'transporte';
ROLLBACK;

-- the language
SELECT id FROM docs d WHERE d @@@ 'transporte "zona rural" -frete' ORDER BY d <@> 'transporte "zona rural" -frete';
SELECT id FROM docs d WHERE d @@@ '+transporte +rural' ORDER BY id;
SELECT id FROM docs d WHERE d @@@ '"zona rural"' ORDER BY id;
SELECT id FROM docs d WHERE d @@@ 'title:transporte' ORDER BY id;
SELECT id FROM docs d WHERE d @@@ 'LEI 8666/93' ORDER BY d <@> 'LEI 8666/93' LIMIT 1;
SELECT id FROM docs d WHERE d @@@ 'pl5634/19' ORDER BY d <@> 'pl5634/19' LIMIT 1;
-- text that is in no index
SELECT 'O transporte escolar' @@@ 'TRANSPORTES', 'O transporte escolar' @@@ '+escola +rural', ROW('a'::text, 'zona rural'::text) @@@ '"zona rural"';
SELECT 'texto' <@> 'texto';

-- an index without positions: phrases are looked up in the rows
BEGIN;
DROP INDEX docs_search;
CREATE INDEX docs_search ON docs USING pgopt_bm25 (title, content) WITH (positions = off);
SET LOCAL enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT id FROM docs d WHERE d @@@ '"zona rural"' ORDER BY d <@> '"zona rural"';
EXPLAIN (COSTS OFF) SELECT id FROM docs d WHERE d @@@ 'zona rural' ORDER BY d <@> 'zona rural';
SELECT id FROM docs d WHERE d @@@ '"zona rural"' ORDER BY d <@> '"zona rural"';
SELECT id FROM docs d WHERE d @@@ 'zona -"zona rural"' ORDER BY id;
SELECT key, headline FROM pgopt_search('docs', 'transporte "zona rural"') ORDER BY position;
ROLLBACK;

-- pgopt_search()
SELECT position, key, score > 0, headline, searched, relation FROM pgopt_search('docs', 'licitacao');
SELECT key, headline FROM pgopt_search('docs', 'transporte "zona rural" -frete');
SELECT key, searched FROM pgopt_search('docs', 'transprote escolra');
SELECT key, searched FROM pgopt_search('docs', 'transprote', correct => false);
SELECT key, headline FROM pgopt_search('docs', 'transporte', headlines => false, max_results => 1, skip => 1);
SELECT key FROM pgopt_search('docs', 'transporte', filters => '{"kind": ["PL", "MPV"], "state": "SP"}');
SELECT key FROM pgopt_search('docs', 'transporte', filters => '{"day": {"gte": "2012-02-01", "lt": "2019-01-01"}}') ORDER BY key;
SELECT key FROM pgopt_search('docs', 'transporte', filters => '{"state": null}');
SELECT key FROM pgopt_search('docs', 'transporte', filters => '{"state": {"null": false}, "id": 3}');
SELECT d.id, s.score > 0 FROM pgopt_search('docs', 'frete') s JOIN docs d ON d.ctid = s.place AND d.tableoid = s.relation;
-- nothing to find: a notice, no error
SELECT count(*) FROM pgopt_search('docs', '');
SELECT count(*) FROM pgopt_search('docs', NULL);
SELECT count(*) FROM pgopt_search('docs', 'de para com o');
SELECT count(*) FROM pgopt_search('docs', 'xyzxyzxyz');
SELECT count(*) FROM pgopt_search('docs', '-frete');
SELECT count(*) FROM pgopt_search('docs', '+ - "" : ( ) | & !');
-- what is wrong is said
SELECT * FROM pgopt_search('docs', 'frete', filters => '{"nope": 1}');
SELECT * FROM pgopt_search('docs', 'frete', filters => '[1]');
SELECT * FROM pgopt_search('docs', 'frete', filters => '{"day": {"after": 1}}');
SELECT * FROM pgopt_search('docs', 'frete', filters => '{"day": "tomorrow or so"}');
SELECT * FROM pgopt_search('docs', 'frete', filters => '{"kind": [["PL"]]}');
SELECT * FROM pgopt_search('docs', 'frete', max_results => -1);
SELECT * FROM pgopt_search('docs_search', 'frete');
SELECT * FROM pgopt_search(NULL, 'frete');
SELECT * FROM pgopt_search('docs', repeat('a ', 600000));

-- facets and distributions, and the same by SQL
SELECT facet, value, documents FROM pgopt_facets('docs', 'transporte');
SELECT facet, value, documents FROM pgopt_facets('docs', NULL, ARRAY['kind'], max_values => 2);
SELECT facet, value, documents FROM pgopt_facets('docs', 'transporte', ARRAY['state'], '{"kind": "PL"}');
SELECT facet, value, documents FROM pgopt_facets('docs', 'transporte', ARRAY['id']);
SELECT value, documents, latest, matching FROM pgopt_distribution('docs', 'kind', 'day', 'transporte');
SELECT value, documents, latest, matching FROM pgopt_distribution('docs', 'kind', 'id', 'transporte');
SELECT value, documents, latest, matching FROM pgopt_distribution('docs', 'state');
SELECT * FROM pgopt_facets('docs', 'transporte', ARRAY['nope']);

-- row level security and privileges
CREATE ROLE search_reader;
GRANT USAGE ON SCHEMA search_test TO search_reader;
SET ROLE search_reader;
SELECT * FROM pgopt_search('docs', 'frete');
SELECT * FROM pgopt_facets('docs', 'frete');
SELECT * FROM pgopt_distribution('docs', 'kind');
RESET ROLE;
GRANT SELECT (id, title) ON docs TO search_reader;
SET ROLE search_reader;
SELECT * FROM pgopt_search('docs', 'frete');
SELECT id FROM docs WHERE title @@@ 'frete';
SELECT id FROM docs d WHERE d @@@ 'frete';
RESET ROLE;
GRANT SELECT ON docs TO search_reader;
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY only_pl ON docs FOR SELECT USING (kind = 'PL');
SET ROLE search_reader;
SELECT key FROM pgopt_search('docs', 'transporte') ORDER BY key;
SELECT count(*) FROM pgopt_search('docs', 'frete');
SELECT key, searched FROM pgopt_search('docs', 'fretr');
SELECT facet, value, documents FROM pgopt_facets('docs', NULL, ARRAY['kind']);
SELECT value, documents, matching FROM pgopt_distribution('docs', 'kind', NULL, 'transporte');
SELECT id FROM docs d WHERE d @@@ 'transporte' ORDER BY d <@> 'transporte' LIMIT 5;
RESET ROLE;
ALTER TABLE docs DISABLE ROW LEVEL SECURITY;

-- partitions: scores compare with those of one table
CREATE TABLE parts (id int, title text, content text, kind text, meta jsonb, day date) PARTITION BY LIST (kind);
CREATE TABLE parts_pl PARTITION OF parts FOR VALUES IN ('PL');
CREATE TABLE parts_other PARTITION OF parts DEFAULT;
CREATE INDEX parts_search ON parts USING pgopt_bm25 (title, content, kind pgopt_filter_ops, (meta->>'state') pgopt_filter_ops, day);
INSERT INTO parts SELECT * FROM docs;
EXPLAIN (COSTS OFF) SELECT id FROM parts p WHERE p @@@ 'transporte' ORDER BY p <@> 'transporte' LIMIT 3;
CREATE TABLE whole AS SELECT * FROM docs;
CREATE INDEX ON whole USING pgopt_bm25 (title, content);
SELECT d.id, d <@> 'transporte rural' = p.score FROM whole d JOIN
  (SELECT id, p <@> 'transporte rural' AS score FROM parts p WHERE p @@@ 'transporte rural' ORDER BY p <@> 'transporte rural' LIMIT 10) p USING (id) ORDER BY p.score;
SELECT position, relation FROM pgopt_search('parts', 'transporte') ORDER BY position;
SELECT facet, value, documents FROM pgopt_facets('parts', 'transporte', ARRAY['kind']);

-- inheritance: every table has an index, and statistics, of its own
CREATE TABLE old_docs () INHERITS (whole);
INSERT INTO old_docs SELECT * FROM docs WHERE id = 2;
SELECT tableoid::regclass, id FROM whole d WHERE d @@@ '"zona rural"' ORDER BY 1;
CREATE INDEX ON old_docs USING pgopt_bm25 (title, content);
SELECT tableoid::regclass, id FROM whole d WHERE d @@@ '"zona rural"' ORDER BY 1;
SELECT count(*) FROM pgopt_search('whole', 'zona rural');

-- without the index: over a tsvector, slower, and it says so
DROP INDEX docs_search;
SELECT key FROM pgopt_search('docs', 'transporte');
ALTER TABLE docs ADD v tsvector GENERATED ALWAYS AS (to_tsvector('portuguese', coalesce(title, '') || ' ' || coalesce(content, ''))) STORED;
SELECT key, score > 0, headline FROM pgopt_search('docs', 'transporte "zona rural" -frete', filters => '{"kind": "PL"}') ORDER BY key;
SET default_text_search_config = 'english'; -- the column knows better
SELECT key FROM pgopt_search('docs', 'licitação') ORDER BY key;
RESET default_text_search_config;
ALTER TABLE docs DROP v;
CREATE INDEX ON docs USING gin (to_tsvector('public.pgopt_portuguese', content));
SELECT key, headline FROM pgopt_search('docs', 'transporte +rural') ORDER BY key;
SELECT facet, value, documents FROM pgopt_facets('docs', 'transporte', ARRAY['kind']);
CREATE INDEX ON docs ((meta->>'state')); -- names the expression
SELECT facet, value, documents FROM pgopt_facets('docs', 'transporte', ARRAY['state']);
SELECT value, documents, latest, matching FROM pgopt_distribution('docs', 'state', 'day', 'transporte');
EXPLAIN (COSTS OFF) SELECT id FROM docs d WHERE d @@@ 'transporte';
SELECT id FROM docs d WHERE d @@@ 'transporte' ORDER BY d <@> 'transporte';

SET client_min_messages = warning;
DROP SCHEMA search_test CASCADE;
DROP ROLE search_reader;
