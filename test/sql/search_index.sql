--
-- The access method pgopt_bm25: what an index can be declared with, and that
-- it says what its table says whatever is done to either.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgopt;
\set VERBOSITY default

--
-- Operator classes
--
SELECT opcname, opcintype::regtype AS type, opcdefault AS is_default, amvalidate(c.oid) AS valid
  FROM pg_opclass c JOIN pg_am a ON a.oid = opcmethod WHERE amname = 'pgopt_bm25' ORDER BY opcname;

-- classes that do not fit are told
CREATE FUNCTION search_index_compare(int4, int4) RETURNS int8 LANGUAGE sql IMMUTABLE AS 'SELECT 0::int8';
CREATE OPERATOR CLASS search_index_bad FOR TYPE int4 USING pgopt_bm25 AS
	OPERATOR 1 <, OPERATOR 5 >, FUNCTION 1 search_index_compare(int4, int4);
SET client_min_messages = info;
SELECT amvalidate(oid) FROM pg_opclass WHERE opcname = 'search_index_bad';
SET client_min_messages = warning;
DROP OPERATOR FAMILY search_index_bad USING pgopt_bm25;
DROP FUNCTION search_index_compare;

--
-- Options
--
CREATE TYPE search_index_state AS ENUM ('draft', 'approved', 'repealed');
CREATE TABLE search_index (
	id int PRIMARY KEY, title text, content varchar, note char(20), kind text, state char(2),
	stage search_index_state, published date, pages int, price numeric, active boolean, key uuid, ratio float8,
	at timestamptz, metadata jsonb DEFAULT '{}')
	WITH (autovacuum_enabled = off);

CREATE INDEX ON search_index USING pgopt_bm25 (title) WITH (k1 = 10.5);
CREATE INDEX ON search_index USING pgopt_bm25 (title) WITH (k1 = -1);
CREATE INDEX ON search_index USING pgopt_bm25 (title) WITH (b = 1.1);
CREATE INDEX ON search_index USING pgopt_bm25 (title) WITH (pending_limit = 63);
CREATE INDEX ON search_index USING pgopt_bm25 (title) WITH (positions = maybe);
CREATE INDEX ON search_index USING pgopt_bm25 (title) WITH (fastupdate = on);
CREATE INDEX ON search_index USING pgopt_bm25 (title) WITH (text_config = 'klingon');
CREATE INDEX ON search_index USING pgopt_bm25 (title) WITH (text_config = 'nowhere.portuguese');
CREATE INDEX ON search_index USING pgopt_bm25 (title) WITH (text_config = 'a.b.c.d');
CREATE INDEX ON search_index USING pgopt_bm25 (title pgopt_text_ops (weight = 0));
CREATE INDEX ON search_index USING pgopt_bm25 (title pgopt_text_ops (heaviness = 2));
\set VERBOSITY sqlstate
CREATE INDEX ON search_index USING pgopt_bm25 (title, kind pgopt_filter_ops (weight = 2));
\set VERBOSITY default

-- what it cannot be
CREATE INDEX ON search_index USING pgopt_bm25 (pages);
CREATE INDEX ON search_index USING pgopt_bm25 (title pgopt_filter_ops);
CREATE INDEX ON search_index USING pgopt_bm25 (metadata);
CREATE INDEX ON search_index USING pgopt_bm25 (title pgopt_int4_filter_ops);
CREATE UNIQUE INDEX ON search_index USING pgopt_bm25 (title);
CREATE INDEX ON search_index USING pgopt_bm25 (title) INCLUDE (pages);
CREATE INDEX ON search_index USING pgopt_bm25 (title DESC);
CREATE INDEX ON search_index USING pgopt_bm25
	((title || '1'), (title || '2'), (title || '3'), (title || '4'), (title || '5'), (title || '6'), (title || '7'), (title || '8'), (title || '9'));
SELECT format('CREATE INDEX ON search_index USING pgopt_bm25 (title, %s)', string_agg(format('(pages + %s)', i), ', '))
  FROM generate_series(1, 25) i \gexec
CLUSTER search_index USING search_index_title_idx;

--
-- Rows from before, rows from after; every type of filter
--
CREATE FUNCTION search_index_fill(first int, last int) RETURNS void LANGUAGE sql AS $$
	INSERT INTO search_index
	SELECT i, 'Lei nº ' || i, CASE WHEN i % 10 > 0 THEN 'transporte escolar no município ' || i % 7 END, 'nota ' || i % 3,
	       (ARRAY['PL', 'PEC', 'LEI'])[1 + i % 3], CASE WHEN i % 4 > 0 THEN (ARRAY['SP', 'RJ', 'MG'])[i % 4] END,
	       (ARRAY['draft', 'approved', 'repealed'])[1 + i % 3]::search_index_state, date '2020-01-01' + i, i % 50,
	       i / 8.0, i % 2 = 0, md5(i::text)::uuid, i / 3.0, timestamptz '2020-01-01 00:00Z' + i * interval '1 hour',
	       jsonb_build_object('organ', 'C' || i % 5)
	  FROM generate_series(first, last) i
$$;
SELECT search_index_fill(1, 500);
CREATE INDEX search_index_all ON search_index USING pgopt_bm25
	(title pgopt_text_ops (weight = 3), content, note, kind pgopt_filter_ops, state pgopt_bpchar_filter_ops, stage, published,
	 pages, price, active, key, ratio, at, (metadata ->> 'organ') pgopt_filter_ops)
	WITH (k1 = 1.2, b = 0.75, pending_limit = 64);
SELECT search_index_fill(501, 1000);
SELECT documents, deleted, pending_documents > 0 AS buffered, positions, k1, b, pending_limit, text_config, stemmer_changed
  FROM pgopt_search_stats('search_index_all');
SELECT * FROM pgopt_search_verify('search_index_all');
VACUUM search_index;
SELECT documents, deleted, pending_documents FROM pgopt_search_stats('search_index_all');
SELECT * FROM pgopt_search_verify('search_index_all');

-- the same rows with the index as without
CREATE FUNCTION search_index_same(condition text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	with_index int[];
	without int[];
BEGIN
	SET LOCAL enable_seqscan = off;
	EXECUTE format('SELECT array_agg(id ORDER BY id) FROM (SELECT id FROM search_index d WHERE d @@@ ''transporte escolar'' AND %s OFFSET 0) s', condition)
		INTO with_index;
	SET LOCAL enable_seqscan = on;
	SET LOCAL enable_indexscan = off;
	EXECUTE format('SELECT array_agg(id ORDER BY id) FROM search_index WHERE content IS NOT NULL AND %s', condition) INTO without;
	SET LOCAL enable_indexscan = on;
	RETURN CASE WHEN with_index IS NOT DISTINCT FROM without THEN format('same: %s rows', coalesce(cardinality(without), 0))
		ELSE format('DIFFERENT: %s %s', with_index, without) END;
END $$;
SELECT condition, search_index_same(condition) FROM unnest(ARRAY[
	'true', 'kind = ''PEC''', 'kind IN (''PL'', ''LEI'')', 'state = ''SP''', 'state IS NULL', 'state IS NOT NULL',
	'stage > ''draft''', 'stage = ANY (''{approved,repealed}'')', 'published >= ''2021-01-01''', 'published < ''2020-06-01''',
	'pages = 7', 'pages BETWEEN 10 AND 12', 'price <= 12.5', 'price = 0.125', 'active', 'NOT active', 'key = md5(''17'')::uuid',
	'ratio > 300', 'at < ''2020-01-03 00:00Z''', 'metadata ->> ''organ'' = ''C3''', 'kind = ''PL'' AND state = ''RJ'' AND pages > 25',
	'kind = ''none''', 'kind = NULL', 'pages = 7::bigint', 'id < 100'])
	WITH ORDINALITY AS c (condition, i) ORDER BY i;

--
-- Changes: UPDATE, DELETE, ROLLBACK, savepoints, VACUUM, places used again
--
BEGIN;
SELECT search_index_fill(1001, 1100);
SAVEPOINT a;
SELECT search_index_fill(1101, 1200);
ROLLBACK TO a;
SELECT count(*) FROM search_index d WHERE d @@@ 'transporte';
ROLLBACK;
SELECT count(*) FROM search_index d WHERE d @@@ 'transporte';
UPDATE search_index SET content = 'saúde e educação' WHERE id % 5 = 1;
DELETE FROM search_index WHERE id % 3 = 0;
SELECT count(*) FROM search_index d WHERE d @@@ 'transporte';
SELECT count(*) FROM search_index d WHERE d @@@ 'educacao';
VACUUM search_index;
SELECT search_index_same('content NOT LIKE ''saúde%''');
SELECT * FROM pgopt_search_verify('search_index_all');

-- rows that come to lie where others were
CREATE TABLE search_reuse (id int, t text) WITH (autovacuum_enabled = off);
CREATE INDEX search_reuse_t ON search_reuse USING pgopt_bm25 (t);
INSERT INTO search_reuse SELECT i, 'primeira ' || i FROM generate_series(1, 1000) i;
SELECT ctid AS place FROM search_reuse WHERE id = 500 \gset
DELETE FROM search_reuse;
VACUUM (TRUNCATE off) search_reuse;
SELECT documents, pending_documents FROM pgopt_search_stats('search_reuse_t');
INSERT INTO search_reuse SELECT i, 'segunda ' || i FROM generate_series(1, 1000) i;
SELECT count(*) AS at_the_same_place FROM search_reuse WHERE ctid = :'place';
SELECT count(*) FROM search_reuse WHERE t @@@ 'primeira';
SELECT count(*) FROM search_reuse WHERE t @@@ 'segunda';
-- the same with half of a segment, and of the write buffer
VACUUM search_reuse;
INSERT INTO search_reuse SELECT i, 'terceira ' || i FROM generate_series(1001, 2000) i;
DELETE FROM search_reuse WHERE id % 2 = 0;
VACUUM (TRUNCATE off) search_reuse;
INSERT INTO search_reuse SELECT i, 'quarta ' || i FROM generate_series(1, 1000) i;
SELECT count(*) FILTER (WHERE t LIKE 'segunda%') AS second, count(*) FILTER (WHERE t LIKE 'terceira%') AS third,
       count(*) FILTER (WHERE t LIKE 'quarta%') AS wrong
  FROM search_reuse WHERE t @@@ 'segunda terceira';
SELECT * FROM pgopt_search_verify('search_reuse_t');
DROP TABLE search_reuse;

-- merges: many small segments become few, and what was deleted goes away
CREATE TABLE search_merge (id int, t text, k int) WITH (autovacuum_enabled = off);
CREATE INDEX search_merge_t ON search_merge USING pgopt_bm25 (t, k) WITH (pending_limit = 64);
DO $$
BEGIN
	FOR i IN 1 .. 3000 LOOP
		INSERT INTO search_merge VALUES (i, repeat('palavra' || i % 97 || ' lei ', 20) || md5(i::text), i % 10);
	END LOOP;
END $$;
SELECT documents, segments < 20 AS few_segments FROM pgopt_search_stats('search_merge_t');
SELECT * FROM pgopt_search_verify('search_merge_t');
DELETE FROM search_merge WHERE id <= 2000;
VACUUM search_merge;
SELECT documents, deleted FROM pgopt_search_stats('search_merge_t');
SELECT count(*) FROM search_merge WHERE t @@@ 'lei' AND k = 3;
SELECT * FROM pgopt_search_verify('search_merge_t');
DELETE FROM search_merge;
-- VACUUM keeps what a snapshot of somebody else, a worker or autovacuum, may still see
DO $$
BEGIN
	WHILE EXISTS (SELECT FROM pg_stat_activity
	               WHERE datname = current_database() AND pid <> pg_backend_pid()
	                 AND coalesce(backend_xmin, backend_xid) IS NOT NULL) LOOP
		PERFORM pg_sleep(0.01), pg_stat_clear_snapshot();
	END LOOP;
END $$;
VACUUM search_merge;
SELECT documents, deleted, segments, terms FROM pgopt_search_stats('search_merge_t');
DROP TABLE search_merge;

--
-- Options later; REINDEX; what needs it
--
ALTER INDEX search_index_all SET (k1 = 0.5, pending_limit = 128, positions = off);
SELECT k1, b, pending_limit, positions FROM pgopt_search_stats('search_index_all');
SELECT count(*) FROM search_index d WHERE d @@@ '"transporte escolar"';
REINDEX INDEX search_index_all;
SELECT k1, b, pending_limit, positions FROM pgopt_search_stats('search_index_all');
SELECT search_index_fill(2001, 2100);
SELECT * FROM pgopt_search_verify('search_index_all');
ALTER INDEX search_index_all RESET (positions);
REINDEX TABLE CONCURRENTLY search_index;
SELECT positions, documents FROM pgopt_search_stats('search_index_all');
SELECT * FROM pgopt_search_verify('search_index_all');
ALTER INDEX search_index_all SET (b = 2);

-- a text search configuration of one's own, named with its schema
CREATE SCHEMA search_other;
CREATE TEXT SEARCH CONFIGURATION search_other.search_index_config (COPY = simple);
SET search_path = search_other, public;
CREATE INDEX search_index_simple ON search_index USING pgopt_bm25 (content) WITH (text_config = search_index_config);
CREATE INDEX search_index_simple ON search_index USING pgopt_bm25 (content) WITH (text_config = 'search_other.search_index_config');
SELECT text_config, restored_words FROM pgopt_search_stats('search_index_simple');
RESET search_path;
INSERT INTO search_index (id, content) VALUES (3000, 'x');
SELECT count(*) FROM search_index WHERE content @@@ 'x';
-- it cannot be dropped (see search_dependency.sql), but it can lose its name
ALTER TEXT SEARCH CONFIGURATION search_other.search_index_config RENAME TO renamed_config;
SELECT text_config, stemmer_changed FROM pgopt_search_stats('search_index_simple');
INSERT INTO search_index (id, content) VALUES (3001, 'x');
SELECT count(*) FROM search_index WHERE content @@@ 'x';
VACUUM search_index;
ALTER INDEX search_index_simple SET (text_config = 'simple');
REINDEX INDEX search_index_simple;
SELECT text_config, stemmer_changed FROM pgopt_search_stats('search_index_simple');
DROP INDEX search_index_simple;
DROP TEXT SEARCH CONFIGURATION search_other.renamed_config;
DROP SCHEMA search_other;

--
-- CONCURRENTLY, expression and partial indexes, several on one table
--
CREATE INDEX CONCURRENTLY search_index_some ON search_index USING pgopt_bm25 ((title || ' ' || content), pages) WHERE kind = 'PL';
SELECT documents = (SELECT count(*) FROM search_index WHERE kind = 'PL') AS only_those FROM pgopt_search_stats('search_index_some');
SELECT * FROM pgopt_search_verify('search_index_some');
INSERT INTO search_index (id, title, content, kind) VALUES (3002, 'a', 'b', 'PL'), (3003, 'a', 'b', 'PEC');
SELECT documents = (SELECT count(*) FROM search_index WHERE kind = 'PL') AS only_those FROM pgopt_search_stats('search_index_some');
SELECT * FROM pgopt_search_verify('search_index_all');
DROP INDEX CONCURRENTLY search_index_some;

--
-- Documents from empty to large
--
INSERT INTO search_index (id, title, content) VALUES (4001, '', ''), (4002, NULL, NULL), (4003, '   ', '!?'),
	(4004, 'o a de', 'não'), (4005, repeat('x', 3000), repeat('palavra ', 100000)),
	(4006, 'grande', (SELECT string_agg('w' || i, ' ') FROM generate_series(1, 60000) i));
SELECT count(*) FROM search_index WHERE content @@@ 'w59999';
SELECT id FROM search_index d WHERE d @@@ 'palavra' AND id > 4000;
SELECT * FROM pgopt_search_verify('search_index_all');
VACUUM search_index;
SELECT id FROM search_index d WHERE d @@@ 'w59999';
SELECT * FROM pgopt_search_verify('search_index_all');
-- a filter's value has a limit, a row has none
INSERT INTO search_index (id, kind) VALUES (4007, repeat('y', 2100));
DELETE FROM search_index WHERE id > 4000;

--
-- Unlogged and temporary tables; TRUNCATE; tables that change their form
--
CREATE UNLOGGED TABLE search_unlogged (t text);
CREATE INDEX search_unlogged_t ON search_unlogged USING pgopt_bm25 (t);
INSERT INTO search_unlogged SELECT 'lei ' || i FROM generate_series(1, 100) i;
SELECT count(*) FROM search_unlogged WHERE t @@@ 'lei';
TRUNCATE search_unlogged;
SELECT count(*) FROM search_unlogged WHERE t @@@ 'lei';
INSERT INTO search_unlogged VALUES ('lei 1');
ALTER TABLE search_unlogged SET LOGGED;
SELECT count(*) FROM search_unlogged WHERE t @@@ 'lei';
SELECT * FROM pgopt_search_verify('search_unlogged_t');
ALTER TABLE search_unlogged ALTER t TYPE varchar(100);
SELECT count(*) FROM search_unlogged WHERE t @@@ 'lei';
DROP TABLE search_unlogged;

BEGIN;
CREATE TEMPORARY TABLE search_temporary (t text) ON COMMIT DELETE ROWS;
CREATE INDEX search_temporary_t ON search_temporary USING pgopt_bm25 (t) WITH (pending_limit = 64);
INSERT INTO search_temporary SELECT 'lei ' || repeat(md5(i::text) || ' ', 20) FROM generate_series(1, 500) i;
SELECT count(*) FROM search_temporary WHERE t @@@ 'lei';
SELECT documents, segments > 0 AS flushed FROM pgopt_search_stats('search_temporary_t');
COMMIT;
SELECT count(*) FROM search_temporary WHERE t @@@ 'lei';
DROP TABLE search_temporary;

-- partitions
CREATE TABLE search_parts (id int, kind text, t text) PARTITION BY LIST (kind);
CREATE TABLE search_parts_a PARTITION OF search_parts FOR VALUES IN ('a');
CREATE INDEX search_parts_t ON search_parts USING pgopt_bm25 (t) WITH (k1 = 1.5);
CREATE TABLE search_parts_b PARTITION OF search_parts FOR VALUES IN ('b');
INSERT INTO search_parts SELECT i, (ARRAY['a', 'b'])[1 + i % 2], 'lei ' || i FROM generate_series(1, 10) i;
SELECT documents, k1 FROM pgopt_search_stats('search_parts_b_t_idx');
SELECT * FROM pgopt_search_stats('search_parts_t');
DROP TABLE search_parts;

--
-- More partitions than compiled searches are kept
--
CREATE TABLE search_many (id int, t text, body text) PARTITION BY HASH (id);
DO $$BEGIN
	FOR i IN 0..39 LOOP
		EXECUTE format('CREATE TABLE search_many_%s PARTITION OF search_many FOR VALUES WITH (MODULUS 40, REMAINDER %s)', i, i);
	END LOOP;
END$$;
CREATE INDEX ON search_many USING pgopt_bm25 (t, body);
INSERT INTO search_many SELECT i, 'carro', 'corpo do carro azul' FROM generate_series(1, 200) i;
SELECT count(*), min(headline), max(headline) FROM pgopt_search('search_many', 'carro azul', max_results => 150);
DROP TABLE search_many;

--
-- Who may see what; what is no index of ours
--
CREATE ROLE search_index_reader;
CREATE ROLE search_index_monitor IN ROLE pg_monitor;
SET ROLE search_index_reader;
SELECT documents FROM pgopt_search_stats('search_index_all');
RESET ROLE;
GRANT SELECT ON search_index TO search_index_reader;
SET ROLE search_index_reader;
SELECT documents > 0 AS readable FROM pgopt_search_stats('search_index_all');
SET ROLE search_index_monitor;
SELECT documents > 0 AS readable FROM pgopt_search_stats('search_index_all');
RESET ROLE;
REVOKE SELECT ON search_index FROM search_index_reader;
DROP ROLE search_index_reader, search_index_monitor;
SELECT * FROM pgopt_search_stats('search_index_pkey');
SELECT * FROM pgopt_search_stats('search_index');
SELECT pgopt_search_stats(0);

-- conditions on filters alone have better indexes
EXPLAIN (COSTS OFF) SELECT count(*) FROM search_index WHERE pages = 7;

DROP TABLE search_index CASCADE;
DROP FUNCTION search_index_fill, search_index_same;
DROP TYPE search_index_state;
