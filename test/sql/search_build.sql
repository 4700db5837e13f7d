-- Building search indexes: in memory, in runs, by several processes, and of every kind of table; verification.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgopt;
SET client_min_messages = notice;
\pset format unaligned
\pset tuples_only on

CREATE SCHEMA search_build;
SET search_path = search_build, public;

-- 10,000 documents of words with a skew, some of them rare, with numbers, empty and missing texts and equal values in other digits
CREATE TABLE docs (id int PRIMARY KEY, title text, body text, kind text, amount numeric, day date);
INSERT INTO docs
  SELECT i, nullif(words[1 + i % 97 % 40] || ' ' || words[1 + i % 13], words[5] || ' ' || words[5]),
         CASE WHEN i % 500 = 7 THEN NULL WHEN i % 500 = 8 THEN '' ELSE
           (SELECT string_agg(words[1 + ((i * 7919 + j * j * 31 + j * i % 17) % 1009 % (1 + (i * 31 + j * 17) % 40))], ' ')
              FROM generate_series(1, 10 + i % 50) j)
           || ' nº ' || i || '/' || 1990 + i % 30 || ' relator' || i % 331 || ' codigo' || i END,
         CASE WHEN i % 11 > 0 THEN 'K' || i % 5 END,
         CASE i % 4 WHEN 0 THEN i % 9 * 1.0 WHEN 1 THEN i % 9 * 1.00 WHEN 2 THEN i % 9 END,
         date '2000-01-01' + i % 400
    FROM generate_series(1, 10000) i,
         (SELECT string_to_array('licitação transporte escolar rural município câmara projeto lei orçamento público '
                                 'saúde educação estado não já de que servidor concurso contrato pregão eletrônico '
                                 'frete cargas rodovia ferrovia criança adolescente proteção dados ação direito '
                                 'tributário imposto serviço água saneamento energia licitações projetos', ' ')) w(words);

CREATE FUNCTION found() RETURNS TABLE (search text, place bigint, id int, score float8) LANGUAGE plpgsql AS $$
BEGIN
  FOREACH search IN ARRAY ARRAY['licitação', 'projeto de lei', '"transporte escolar" rural', 'água +saneamento -frete', 'relator17', '120/2010'] LOOP
    RETURN QUERY EXECUTE format('SELECT %1$L::text, row_number() OVER (), * FROM
      (SELECT id, d <@> %1$L FROM docs d WHERE d @@@ %1$L ORDER BY d <@> %1$L LIMIT 30) x', search);
    RETURN QUERY EXECUTE format('SELECT %1$L || '' filtered'', row_number() OVER (), * FROM
      (SELECT id, d <@> %1$L FROM docs d WHERE d @@@ %1$L AND kind = ''K3'' AND amount >= 2 AND day < ''2000-11-11'' ORDER BY d <@> %1$L LIMIT 30) x', search);
  END LOOP;
END $$;

-- in memory
SET max_parallel_maintenance_workers = 0;
CREATE INDEX docs_search ON docs USING pgopt_bm25 (title, body, kind pgopt_filter_ops, amount, day);
SELECT * FROM pgopt_search_verify('docs_search');
CREATE TABLE expected AS SELECT * FROM found();
SELECT search, count(*) FROM expected GROUP BY 1 ORDER BY 1;

CREATE VIEW differences AS
  (SELECT 'missing', * FROM (SELECT * FROM expected EXCEPT ALL SELECT * FROM found()) m)
  UNION ALL (SELECT 'new', * FROM (SELECT * FROM found() EXCEPT ALL SELECT * FROM expected) n);

-- in runs that are merged in several passes, which leave temporary files behind in the statistics
SELECT pg_stat_force_next_flush();
SELECT temp_files AS files_before FROM pg_stat_database WHERE datname = current_database() \gset
SET maintenance_work_mem = '1MB';
REINDEX INDEX docs_search;
SELECT pg_stat_force_next_flush();
SELECT temp_files > :files_before + 8 AS merged FROM pg_stat_database WHERE datname = current_database();
SELECT * FROM pgopt_search_verify('docs_search');
SELECT * FROM differences;

-- by several processes, if there are any to be had
ALTER TABLE docs SET (parallel_workers = 2);
SET max_parallel_maintenance_workers = 2;
REINDEX INDEX docs_search;
SELECT * FROM pgopt_search_verify('docs_search');
SELECT * FROM differences;
RESET maintenance_work_mem;
REINDEX INDEX docs_search;
SELECT * FROM pgopt_search_verify('docs_search');
SELECT * FROM differences;

-- while others write
REINDEX INDEX CONCURRENTLY docs_search;
SELECT * FROM pgopt_search_verify('docs_search');
SELECT * FROM differences;
DROP INDEX docs_search;
CREATE INDEX CONCURRENTLY docs_search ON docs USING pgopt_bm25 (title, body, kind pgopt_filter_ops, amount, day);
SELECT * FROM pgopt_search_verify('docs_search');
SELECT * FROM differences;

-- an index knows which rows it should hold
CREATE INDEX docs_partial ON docs USING pgopt_bm25 ((lower(title) || ' ' || coalesce(body, '')), (id % 3)) WITH (positions = off) WHERE kind = 'K1';
SELECT * FROM pgopt_search_verify('docs_partial');
DELETE FROM docs WHERE id % 10 = 0;
UPDATE docs SET kind = 'K1', body = body || ' atualizado' WHERE id % 10 = 1;
SELECT * FROM pgopt_search_verify('docs_search');
SELECT * FROM pgopt_search_verify('docs_partial');
VACUUM docs;
SELECT * FROM pgopt_search_verify('docs_search', fraction => 0.1);
SELECT * FROM pgopt_search_verify('docs_partial', check_table => false);
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM docs;
REINDEX INDEX docs_search;
SELECT * FROM pgopt_search_verify('docs_search');
COMMIT;
DROP TABLE docs CASCADE;

-- tables without rows, unlogged, temporary, made and emptied in one transaction
CREATE TABLE nothing (t text, n int);
CREATE INDEX nothing_search ON nothing USING pgopt_bm25 (t, n);
SELECT * FROM pgopt_search_verify('nothing_search');
INSERT INTO nothing VALUES ('algo', 1), (NULL, NULL);
SELECT * FROM pgopt_search_verify('nothing_search');
CREATE UNLOGGED TABLE unlogged (t text);
INSERT INTO unlogged VALUES ('sem registro'), ('outro');
CREATE INDEX unlogged_search ON unlogged USING pgopt_bm25 (t);
SELECT * FROM pgopt_search_verify('unlogged_search');
CREATE TEMPORARY TABLE passing (t text);
INSERT INTO passing VALUES ('passageiro');
CREATE INDEX passing_search ON passing USING pgopt_bm25 (t);
SELECT * FROM pgopt_search_verify('passing_search');
BEGIN;
CREATE TABLE fresh (t text);
INSERT INTO fresh VALUES ('açaí'), ('açaí'), ('acai');
CREATE INDEX fresh_search ON fresh USING pgopt_bm25 (t);
SELECT count(*) FROM fresh WHERE t @@@ 'acai';
TRUNCATE fresh;
SELECT count(*) FROM fresh WHERE t @@@ 'acai';
INSERT INTO fresh VALUES ('açaí de novo');
SELECT count(*) FROM fresh WHERE t @@@ 'acai';
COMMIT;
SELECT * FROM pgopt_search_verify('fresh_search');

-- documents of many megabytes, and of no words
CREATE TABLE large (id int, t text);
INSERT INTO large SELECT 1, repeat('licitação pública do transporte escolar nº 12/2020, ', 200000);
INSERT INTO large VALUES (2, '... de que não ...'), (3, repeat('!', 100000)), (4, 'licitação');
SELECT id, length(t) FROM large ORDER BY id;
SET maintenance_work_mem = '1MB';
CREATE INDEX large_search ON large USING pgopt_bm25 (t, id);
SELECT * FROM pgopt_search_verify('large_search');
SELECT id FROM large WHERE t @@@ '"transporte escolar"';
RESET maintenance_work_mem;

-- another configuration has no restoring table
CREATE TABLE english (t text);
INSERT INTO english SELECT 'the running dogs ran ' || i FROM generate_series(1, 100) i;
CREATE INDEX english_search ON english USING pgopt_bm25 (t) WITH (text_config = 'english');
SELECT * FROM pgopt_search_verify('english_search');
SELECT count(*) FROM english WHERE t @@@ 'dog';

-- what verification finds: rows that the index missed, rows it missed going away, and others in their places
CREATE TEMPORARY TABLE missed (id int, t text, n numeric); -- which VACUUM clears whatever others see
INSERT INTO missed SELECT i, 'documento número ' || i, i FROM generate_series(1, 6) i;
CREATE INDEX missed_search ON missed USING pgopt_bm25 (t, n);
INSERT INTO missed VALUES (7, 'no buffer', 7);
UPDATE pg_index SET indisready = false WHERE indexrelid = 'missed_search'::regclass;
INSERT INTO missed VALUES (8, 'esquecido', 8);
SELECT part, place, problem FROM pgopt_search_verify('missed_search');
DELETE FROM missed WHERE id IN (2, 3, 7);
VACUUM missed;
SELECT part, place, problem FROM pgopt_search_verify('missed_search');
INSERT INTO missed VALUES (9, 'outro documento no lugar de outro', 2.0), (10, 'documento número documento', NULL), (11, 'no buffer', 7.0);
SELECT part, place, problem FROM pgopt_search_verify('missed_search') ORDER BY place, problem;
SELECT count(*) FROM pgopt_search_verify('missed_search', check_table => false);
UPDATE pg_index SET indisready = true WHERE indexrelid = 'missed_search'::regclass;
REINDEX TABLE missed;
SELECT * FROM pgopt_search_verify('missed_search');

-- progress
SELECT phase, pg_indexam_progress_phasename(a.oid, phase) FROM pg_am a, generate_series(0, 7) phase WHERE amname = 'pgopt_bm25' ORDER BY 1;

-- what cannot be
\set VERBOSITY default
CREATE TABLE unfit (t text, f text);
INSERT INTO unfit VALUES ('a', repeat('x', 3000));
CREATE INDEX unfit_search ON unfit USING pgopt_bm25 (t, f pgopt_filter_ops);
TRUNCATE unfit;
CREATE INDEX unfit_search ON unfit USING pgopt_bm25 (t, f pgopt_filter_ops);
INSERT INTO unfit VALUES ('a', repeat('x', 1996)), ('a', 'x'), ('a', 'y');
INSERT INTO unfit VALUES ('a', repeat('x', 1997));
VACUUM unfit;
SELECT * FROM pgopt_search_verify('unfit_search');
SELECT * FROM pgopt_search_verify('large_search', fraction => 2);
SELECT * FROM pgopt_search_verify('large');
SELECT * FROM pgopt_search_verify(0);
CREATE INDEX other_kind ON large (id);
SELECT * FROM pgopt_search_verify('other_kind');
CREATE ROLE search_build_nobody;
GRANT USAGE ON SCHEMA search_build TO search_build_nobody;
GRANT SELECT ON large TO search_build_nobody;
SET ROLE search_build_nobody;
SELECT * FROM pgopt_search_verify('large_search');
RESET ROLE;

SET client_min_messages = warning;
DROP SCHEMA search_build CASCADE;
DROP ROLE search_build_nobody;
