--
-- Bloat: what a rewrite gives back. How exact that is, t/031_bloat_accuracy.pl shows; here are shapes, kinds of
-- relations, remedies and privileges. Tables are small enough to be read whole, so that numbers repeat.
--
CREATE EXTENSION pgopt;
CREATE SCHEMA bloat;
SET search_path = bloat, public;

CREATE TABLE t (id int PRIMARY KEY, n int, v text) WITH (autovacuum_enabled = off);
INSERT INTO t SELECT g, g % 7, 'x' FROM generate_series(1, 20000) g;
CREATE INDEX t_n ON t (n);

-- freshly loaded: nothing to gain
SELECT relation, part, size_bytes, reclaimable_bytes, dead_bytes, held_bytes, live_rows, dead_rows, pages_sampled,
       confidence, remedy, remedy_lock, reason
  FROM pgopt_table_bloat('t');
SELECT index, table_name, method, size_bytes, reclaimable_bytes, entries, pages_sampled, confidence, remedy, reason
  FROM pgopt_index_bloat('t') WHERE table_name = 't'::regclass ORDER BY index::text;

-- dead rows, then free space, then neither
DELETE FROM t WHERE id % 2 = 0;
SELECT reclaimable_percent, free_bytes, dead_bytes, live_rows, dead_rows FROM pgopt_table_bloat('t') WHERE part = 'table';
VACUUM t;
SELECT reclaimable_percent, free_bytes, dead_bytes, live_rows, dead_rows FROM pgopt_table_bloat('t') WHERE part = 'table';
SELECT index, reclaimable_percent, entries FROM pgopt_index_bloat('t_n') ORDER BY 1;
CREATE TEMP TABLE estimate AS SELECT size_bytes - reclaimable_bytes AS size FROM pgopt_table_bloat('t') WHERE part = 'table'
	UNION ALL SELECT size_bytes - reclaimable_bytes FROM pgopt_index_bloat('t_n');
VACUUM FULL t;
SELECT array_agg(size) = ARRAY[pg_relation_size('t'), pg_relation_size('t_n')] AS exactly FROM estimate;
SELECT reclaimable_bytes FROM pgopt_table_bloat('t') WHERE part = 'table';
DROP TABLE estimate;

-- a rewrite makes it larger: nothing to gain, and no negative number
ALTER TABLE t SET (fillfactor = 20);
SELECT reclaimable_bytes, reclaimable_low, reclaimable_high FROM pgopt_table_bloat('t') WHERE part = 'table';

--
-- Kinds of relations
--
CREATE TABLE empty ();
CREATE UNLOGGED TABLE unlogged AS SELECT g FROM generate_series(1, 1000) g;
CREATE TEMP TABLE temporary AS SELECT g FROM generate_series(1, 1000) g;
DELETE FROM temporary WHERE g > 500;
CREATE MATERIALIZED VIEW matview AS SELECT g FROM generate_series(1, 1000) g;
CREATE MATERIALIZED VIEW unpopulated AS SELECT 1 WITH NO DATA;
CREATE TABLE parent (id int, v text) PARTITION BY LIST (id);
CREATE TABLE parent_1 PARTITION OF parent FOR VALUES IN (1);
CREATE TABLE parent_2 PARTITION OF parent FOR VALUES IN (2) PARTITION BY LIST (v);
CREATE TABLE parent_2_a PARTITION OF parent_2 FOR VALUES IN ('a');
CREATE INDEX parent_id ON parent (id);
INSERT INTO parent SELECT 1, 'x' FROM generate_series(1, 1000);
SELECT relation, part, size_bytes > 0 AS has_pages, live_rows, dead_rows, confidence
  FROM unnest('{empty,unlogged,temporary,matview,unpopulated}'::regclass[]) WITH ORDINALITY r (oid, n),
       pgopt_table_bloat(oid) ORDER BY n, part;
SELECT relation, part, live_rows FROM pgopt_table_bloat('parent') ORDER BY relation::text, part;
SELECT index, table_name, entries FROM pgopt_index_bloat('parent_id') ORDER BY 1;
SELECT index, table_name, entries FROM pgopt_index_bloat('parent') WHERE index::text !~ 'pg_toast' ORDER BY 1;
SELECT count(*) FROM pgopt_table_bloat('pg_catalog.pg_class') WHERE part = 'table' AND live_rows > 300;
SELECT index FROM pgopt_index_bloat('pg_catalog.pg_am') ORDER BY index::text;

-- other access methods: of low confidence, with the reason
CREATE TABLE others (a int, b int4range, c int[], d text, e point);
INSERT INTO others SELECT g, int4range(g, g + 5), ARRAY[g, g + 1], g::text, point(g, g) FROM generate_series(1, 3000) g;
CREATE INDEX others_brin ON others USING brin (a);
CREATE INDEX others_gin ON others USING gin (c);
CREATE INDEX others_gist ON others USING gist (b);
CREATE INDEX others_hash ON others USING hash (a);
CREATE INDEX others_spgist ON others USING spgist (d);
SELECT method, confidence, entries, remedy, reason FROM pgopt_index_bloat('others') WHERE table_name = 'others'::regclass
 ORDER BY method;

-- what has no pages
CREATE VIEW a_view AS SELECT 1;
CREATE SEQUENCE a_sequence;
SELECT * FROM pgopt_table_bloat('a_view');
SELECT * FROM pgopt_table_bloat('a_sequence');
SELECT * FROM pgopt_table_bloat('t_n');
SELECT * FROM pgopt_index_bloat('a_view');
SELECT * FROM pgopt_table_bloat(4294967295::oid::regclass);

--
-- Remedies
--
CREATE TABLE big (id int, v text) WITH (autovacuum_enabled = off);
CREATE INDEX big_id ON big (id);
INSERT INTO big SELECT g, repeat('x', 500) FROM generate_series(1, 60000) g;
DELETE FROM big WHERE id % 3 <> 0;
SELECT remedy, remedy_lock, reason FROM pgopt_table_bloat('big') WHERE part = 'table';
BEGIN;
ALTER TABLE big RESET (autovacuum_enabled);
SELECT remedy, remedy_lock, reason FROM pgopt_table_bloat('big') WHERE part = 'table';
ALTER TABLE big SET (autovacuum_vacuum_scale_factor = 0.01);
SELECT remedy, remedy_lock, reason FROM pgopt_table_bloat('big') WHERE part = 'table';
ALTER TABLE big SET (autovacuum_enabled = off);
COMMIT;
VACUUM (TRUNCATE off) big;
SELECT remedy, remedy_lock, reason FROM pgopt_table_bloat('big') WHERE part = 'table';
DELETE FROM big WHERE id > 5000;
VACUUM (TRUNCATE off) big;
SELECT remedy, remedy_lock, reason FROM pgopt_table_bloat('big') WHERE part = 'table';
VACUUM (TRUNCATE) big;
SELECT remedy FROM pgopt_table_bloat('big') WHERE part = 'table';

-- without an argument: what is large enough, the largest first
SELECT count(*) > 0 AS found, bool_and(size_bytes >= 100000) AS large,
       array_agg(size_bytes) = array_agg(size_bytes ORDER BY size_bytes DESC) AS in_order
  FROM pgopt_table_bloat(min_size => 100000);
SELECT count(*) > 0 AS found, bool_and(size_bytes >= 100000) AS large FROM pgopt_index_bloat(min_size => 100000);
SELECT jsonb_typeof(j) AS type, j -> 0 ->> 'part' AS part, j -> 0 ? 'reclaimable_low' AS has_interval
  FROM pgopt_table_bloat_json('t') j;
SELECT jsonb_array_length(pgopt_index_bloat_json('t_n')), pgopt_index_bloat_json(min_size => 1000000000000);

--
-- Tables that wait for VACUUM
--
CREATE TABLE waiting (id int, v text) WITH (autovacuum_vacuum_threshold = 1000000000);
INSERT INTO waiting SELECT g, repeat('x', 800) FROM generate_series(1, 30000) g;
ANALYZE waiting;
SELECT count(*) FROM pgopt_vacuum_candidates() WHERE relation = 'waiting'::regclass;
DELETE FROM waiting WHERE id % 2 = 0;
SELECT pg_stat_force_next_flush();
SELECT relation, dead_rows BETWEEN 14000 AND 16000 AS half, dead_percent BETWEEN 48 AND 52 AS percent,
       dead_bytes > 10000000 AS bytes, last_vacuum, reason, remedy
  FROM pgopt_vacuum_candidates() WHERE relation = 'waiting'::regclass;
ALTER TABLE waiting SET (autovacuum_enabled = off);
SELECT reason, remedy FROM pgopt_vacuum_candidates() WHERE relation = 'waiting'::regclass
 AND current_setting('autovacuum')::bool;
VACUUM waiting;
SELECT count(*) FROM pgopt_vacuum_candidates() WHERE relation = 'waiting'::regclass;

--
-- Privileges: the owner, who may read the table, and pg_stat_scan_tables (so pg_monitor)
--
CREATE ROLE bloat_nobody;
CREATE ROLE bloat_reader;
CREATE ROLE bloat_monitor IN ROLE pg_monitor;
GRANT USAGE ON SCHEMA bloat TO bloat_nobody, bloat_reader, bloat_monitor;
GRANT SELECT ON t TO bloat_reader;
SET ROLE bloat_nobody;
SELECT * FROM pgopt_table_bloat('t');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM pgopt_index_bloat('t_n');
SELECT count(*) FROM pgopt_vacuum_candidates() WHERE relation = 't'::regclass;
SET ROLE bloat_reader;
SELECT live_rows FROM pgopt_table_bloat('t') WHERE part = 'table';
SELECT entries FROM pgopt_index_bloat('t_n');
SELECT * FROM pgopt_table_bloat('big');
SET client_min_messages = warning;
SELECT bool_or(relation = 't'::regclass) AS mine, bool_or(relation = 'big'::regclass) AS theirs FROM pgopt_table_bloat(min_size => 1);
RESET client_min_messages;
SET ROLE bloat_monitor;
SELECT live_rows FROM pgopt_table_bloat('t') WHERE part = 'table';
SELECT bool_or(relation = 'big'::regclass) AS theirs FROM pgopt_table_bloat(min_size => 1);
RESET ROLE;

-- not fooled by objects of others
CREATE FUNCTION bloat.to_jsonb(anyelement) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
CREATE TABLE bloat.pg_class (oid oid);
SELECT jsonb_array_length(pgopt_table_bloat_json('t')) > 0 AS untouched;

-- inside a transaction that changed it, also one that is rolled back to a savepoint
BEGIN;
DELETE FROM t WHERE id < 1000;
SAVEPOINT s;
TRUNCATE t;
SELECT size_bytes, live_rows FROM pgopt_table_bloat('t') WHERE part = 'table';
ROLLBACK TO s;
SELECT live_rows, dead_rows FROM pgopt_table_bloat('t') WHERE part = 'table';
ROLLBACK;

SET client_min_messages = warning;
DROP SCHEMA bloat CASCADE;
DROP ROLE bloat_nobody, bloat_reader, bloat_monitor;
DROP EXTENSION pgopt;
