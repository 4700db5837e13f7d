--
-- The monitoring views: their columns, a row of each that can be known, and who may look.  Sessions that wait for each
-- other, standbys and pg_stat_statements are in test/t/015_monitor.pl.
--
SET client_min_messages = warning;
-- a database of its own, whose statistics nobody else's tests change
CREATE DATABASE pgopt_monitor;
\set home :DBNAME
\c pgopt_monitor
SET client_min_messages = warning;
CREATE EXTENSION pgopt;
CREATE VIEW views AS SELECT name FROM unnest($${
	pgopt_active_connections, pgopt_autovacuum, pgopt_blocking, pgopt_cache_hit, pgopt_columns, pgopt_connections,
	pgopt_database_sizes, pgopt_foreign_keys, pgopt_index_cache, pgopt_index_sizes, pgopt_index_usage, pgopt_locks,
	pgopt_replication, pgopt_replication_slots, pgopt_sequences, pgopt_settings_advice, pgopt_table_cache,
	pgopt_table_sizes, pgopt_table_stats, pgopt_temp_files, pgopt_wal, pgopt_wraparound
}$$::regclass[]) name;

--
-- The columns that users were promised
--
\pset format unaligned
SELECT table_name, string_agg(column_name, ', ' ORDER BY ordinal_position) AS columns
  FROM information_schema.columns
 WHERE table_name IN (SELECT name::text FROM views)
 GROUP BY table_name ORDER BY table_name;
SELECT pg_get_function_arguments('pgopt_slow_queries'::regproc) AS pgopt_slow_queries;
\pset format aligned
-- everything runs with its reader's rights
SELECT relname FROM views JOIN pg_class ON oid = name
 WHERE NOT 'security_invoker=true' = ANY (coalesce(reloptions, '{}'));

--
-- A small database that has something to show.  Statistics reach the views when they are flushed.
--
CREATE SCHEMA civic;
CREATE TABLE civic.city (
	id serial PRIMARY KEY,
	name text NOT NULL,
	state char(2) DEFAULT 'SP'
) WITH (autovacuum_enabled = off);
CREATE TABLE civic.bill (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	city integer REFERENCES civic.city,
	state char(2),
	title text NOT NULL,
	body text,
	pages int GENERATED ALWAYS AS (length(title)) STORED
) WITH (autovacuum_enabled = off);
COMMENT ON COLUMN civic.bill.city IS 'where it was proposed';
CREATE INDEX bill_state ON civic.bill (state);
CREATE INDEX bill_title ON civic.bill (title);
CREATE MATERIALIZED VIEW civic.by_state AS SELECT state, count(*) FROM civic.bill GROUP BY state;
INSERT INTO civic.city (name) SELECT 'city ' || i FROM generate_series(1, 20) i;
INSERT INTO civic.bill (city, state, title, body)
	SELECT 1 + i % 20, CASE WHEN i % 4 > 0 THEN 'RJ' END, 'bill ' || i,
	       CASE i WHEN 1 THEN (SELECT string_agg(md5(j::text), '') FROM generate_series(1, 1000) j) END
	  FROM generate_series(1, 1000) i;
SELECT pg_stat_force_next_flush();
ANALYZE civic.city, civic.bill;
UPDATE civic.bill SET state = 'MG' WHERE id <= 100;
DELETE FROM civic.bill WHERE id > 900;
SET enable_seqscan = off;
SELECT count(*) FROM civic.bill WHERE title = 'bill 7';
SELECT count(*) FROM civic.bill a JOIN LATERAL (SELECT FROM civic.city c WHERE c.id = a.city OFFSET 0) c ON true WHERE a.id <= 40;
RESET enable_seqscan;
SELECT pg_stat_force_next_flush();

--
-- Sizes: those of the server's functions
--
SELECT schema_name, table_name, kind, estimated_rows, total_size = pg_size_pretty(total_bytes) AS pretty,
       total_bytes = pg_total_relation_size(oid) AS total, table_bytes = pg_table_size(oid) AS table,
       index_bytes = pg_indexes_size(oid) AS indexes, toast_bytes = pg_total_relation_size(reltoastrelid) AS toast
  FROM pgopt_table_sizes JOIN pg_class ON oid = format('%I.%I', schema_name, table_name)::regclass
 WHERE schema_name = 'civic' ORDER BY total_bytes DESC;
SELECT array_agg(total_bytes) = array_agg(total_bytes ORDER BY total_bytes DESC) AS largest_first FROM pgopt_table_sizes;
SELECT table_name, index_name, index_bytes = pg_relation_size(format('%I.%I', schema_name, index_name)::regclass, 'main') AS bytes,
       percent_of_table > 0 AS percent, estimated_rows, method, is_unique, is_valid
  FROM pgopt_index_sizes WHERE schema_name = 'civic' ORDER BY index_name;
SELECT total_bytes BETWEEN 0.9 * pg_database_size(current_database()) AND 1.1 * pg_database_size(current_database()) AS bytes,
       total_size IS NOT NULL AS size, percent_of_all BETWEEN 0 AND 100 AS percent, connections > 0 AS connections, connection_limit
  FROM pgopt_database_sizes WHERE database = current_database();
-- partitions name their root; what has no files has no size; a relation that is gone has none
CREATE TABLE civic.vote (day date, yes int) PARTITION BY RANGE (day);
CREATE TABLE civic.vote_2024 PARTITION OF civic.vote FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
SELECT table_name, total_bytes, partition_of FROM pgopt_table_sizes WHERE table_name LIKE 'vote%';
SELECT pgopt.relation_bytes('civic.vote'::regclass) AS no_files, pgopt.relation_bytes(1) AS no_relation;
-- all forks, of unlogged tables too
CREATE UNLOGGED TABLE civic.scratch (i int PRIMARY KEY);
INSERT INTO civic.scratch SELECT generate_series(1, 10000);
VACUUM civic.scratch;
SELECT sum(pgopt.relation_bytes(r)) = sum(pg_relation_size(r, 'main') + pg_relation_size(r, 'fsm') + pg_relation_size(r, 'vm') + pg_relation_size(r, 'init')) AS all_forks
  FROM unnest('{civic.scratch, civic.scratch_pkey, civic.bill, pg_class, pg_database}'::regclass[]) r;

--
-- Use and cache
--
SELECT schema_name, table_name, live_rows, dead_rows, dead_percent, index_scans > 0 AS index_scans, inserted, updated, hot_percent IS NOT NULL AS hot,
       deleted, changed_since_analyze, last_vacuum, last_analyze IS NOT NULL AS analysed
  FROM pgopt_table_stats WHERE schema_name = 'civic' AND table_name IN ('bill', 'city') ORDER BY table_name;
SELECT table_name, index_name, CASE WHEN scans < 10 THEN scans END AS scans, index_bytes > 0 AS bytes, usage, kind, is_valid
  FROM pgopt_index_usage WHERE schema_name = 'civic' AND table_name IN ('bill', 'city') ORDER BY index_name;
SELECT array_agg(scans) = array_agg(scans ORDER BY scans) AS least_used_first FROM pgopt_index_usage;
SELECT table_name, hits > 100 AS hits, reads >= 0 AS reads, hit_percent BETWEEN 50 AND 100 AS percent,
       index_hits > 10 AS index_hits, index_hit_percent BETWEEN 10 AND 100 AS index_percent, toast_hits > 0 AS toast_hits
  FROM pgopt_table_cache WHERE schema_name = 'civic' AND table_name = 'bill';
SELECT index_name, hits > 0 AS hits, hit_percent BETWEEN 1 AND 100 AS percent
  FROM pgopt_index_cache WHERE index_name IN ('bill_pkey', 'city_pkey') ORDER BY index_name;
SELECT database IN ('(all)') AS all, hits > 0 AS hits, hit_percent BETWEEN 1 AND 100 AS percent, read_size IS NOT NULL AS size
  FROM pgopt_cache_hit WHERE database IN ('(all)', current_database());
SELECT sum(hits) FILTER (WHERE database = '(all)') = sum(hits) FILTER (WHERE database <> '(all)') AS adds_up FROM pgopt_cache_hit;

--
-- Autovacuum: thresholds that hold for each table
--
ALTER TABLE civic.city SET (autovacuum_enabled = on, autovacuum_vacuum_threshold = 7, autovacuum_vacuum_scale_factor = 0.5,
	autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_threshold = 1000);
SELECT table_name, part, due, dead_rows, vacuum_at, vacuum_percent, inserted_rows, insert_at, insert_percent, changed_rows, analyze_at,
       freeze_percent, running_pid, why_not
  FROM pgopt_autovacuum WHERE schema_name = 'civic' AND table_name IN ('bill', 'city') ORDER BY table_name;
DELETE FROM civic.bill WHERE id = 1;
SELECT pg_stat_force_next_flush();
-- a TOAST table counts by itself, with the parameters of its table
SELECT table_name, part, due, dead_rows, why_not FROM pgopt_autovacuum WHERE table_name = 'bill' ORDER BY part;
VACUUM (ANALYZE) civic.bill;
SELECT due, dead_rows, changed_rows, last_vacuum IS NOT NULL AS vacuumed, last_autovacuum, last_analyze IS NOT NULL AS analysed
  FROM pgopt_autovacuum WHERE table_name = 'bill' AND part = 'table';

--
-- Structure
--
SELECT position AS "#", column_name, data_type, is_nullable AS "null?", default_value, in_primary_key AS pk, null_percent, distinct_values,
       mean_bytes, comment
  FROM pgopt_columns WHERE schema_name = 'civic' AND table_name = 'bill';
SELECT kind, count(*) FROM pgopt_columns WHERE schema_name = 'civic' GROUP BY kind ORDER BY kind;

CREATE TABLE civic.place (a int, b int, c int, PRIMARY KEY (a, b));
CREATE TABLE civic.event (
	a int, b int, "Odd ""name" int,
	CONSTRAINT in_order FOREIGN KEY (a, b) REFERENCES civic.place,
	CONSTRAINT odd FOREIGN KEY ("Odd ""name") REFERENCES civic.city ON DELETE CASCADE ON UPDATE SET NULL);
CREATE INDEX event_partial ON civic.event (a, b) WHERE a > 0;
ALTER TABLE civic.event ADD CONSTRAINT late FOREIGN KEY (b) REFERENCES civic.city NOT VALID;
SELECT table_name, constraint_name, columns, referenced_table, referenced_columns, on_update, on_delete, is_validated, is_indexed, create_index
  FROM pgopt_foreign_keys WHERE schema_name = 'civic' ORDER BY table_name, constraint_name;
SELECT create_index FROM pgopt_foreign_keys WHERE constraint_name = 'odd' \gexec
-- the columns of a key come first in the index, in any order
CREATE INDEX event_other_order ON civic.event (b, a, "Odd ""name");
SELECT constraint_name, is_indexed, index_name, create_index FROM pgopt_foreign_keys WHERE table_name = 'event' ORDER BY constraint_name;

--
-- Numbers that run out
--
CREATE TABLE civic.small (id smallint, back int, quiet int);
CREATE SEQUENCE civic.up OWNED BY civic.small.id;
SELECT setval('civic.up', 29491);
CREATE SEQUENCE civic.by_default AS bigint;
ALTER TABLE civic.small ALTER back SET DEFAULT nextval('civic.by_default');
SELECT setval('civic.by_default', 2040109465);
CREATE SEQUENCE civic.down INCREMENT BY -10 MINVALUE -1000 MAXVALUE -1 START -1 CYCLE;
SELECT setval('civic.down', -500);
CREATE SEQUENCE civic.whole MINVALUE -9223372036854775808 START 1;
SELECT nextval('civic.whole');
CREATE SEQUENCE civic.never;
SELECT sequence_name, last_value, limit_value, used_percent, values_left, increment, cycles, used_by, column_type, note
  FROM pgopt_sequences WHERE schema_name = 'civic' ORDER BY used_percent DESC NULLS LAST, sequence_name;

SELECT kind, object, xid_age = age(datfrozenxid) AS age, xid_percent, mxid_percent, percent_to_autovacuum BETWEEN 0 AND 100 AS not_yet
  FROM pgopt_wraparound JOIN pg_database ON datname = object WHERE kind = 'database' AND object = current_database();
SELECT count(*), count(vacuum) AS with_vacuum, max(xid_age) = (SELECT max(age(relfrozenxid)) FROM pg_class WHERE relkind IN ('r', 't', 'm')) AS oldest
  FROM pgopt_wraparound WHERE kind <> 'database';

--
-- Temporary files: now, and in all
--
SET work_mem = '64kB';
BEGIN;
DECLARE spilling CURSOR FOR SELECT i FROM generate_series(1, 100000) i ORDER BY -i;
FETCH 1 FROM spilling;
SELECT now_files > 0 AS files, now_bytes > 100000 AS bytes, now_size IS NOT NULL AS size, now_pids = ARRAY[pg_backend_pid()] AS mine
  FROM pgopt_temp_files WHERE database = current_database();
COMMIT;
RESET work_mem;
SELECT pg_stat_force_next_flush();
SELECT files > 0 AS files, total_bytes > 100000 AS bytes, total_size IS NOT NULL AS size, now_files, now_size, now_pids
  FROM pgopt_temp_files WHERE database = current_database();

--
-- WAL and slots
--
SELECT pg_create_physical_replication_slot('monitor_slot', true) IS NOT NULL AS made;
CREATE TABLE civic.much AS SELECT i FROM generate_series(1, 10000) i;
SELECT slot, type, active, retained_bytes > 100000 AS retained, retained_size IS NOT NULL AS size, wal_status, safe_bytes, invalid_because
  FROM pgopt_replication_slots WHERE slot = 'monitor_slot';
SELECT pg_drop_replication_slot('monitor_slot');
SELECT count(*) FROM pgopt_replication;
SELECT wal_bytes >= 0 AS bytes, "within" >= '0' AS within, kept_files > 0 AS files, kept_bytes > 1000000 AS kept, max_wal_size, basis, since <= now() AS since
  FROM pgopt_wal;

--
-- Settings: those of this server, and what databases and roles pin
--
CREATE ROLE "Monitor, who""";
ALTER ROLE "Monitor, who""" SET synchronous_commit = off;
ALTER DATABASE pgopt_monitor SET enable_seqscan = false;
ALTER ROLE "Monitor, who""" IN DATABASE pgopt_monitor SET session_replication_role = replica;
-- a session's own affair is none of the server's
SET enable_hashjoin = off;
SELECT severity, setting, scope, value, boot_value, suggestion FROM pgopt_settings_advice
 WHERE setting IN ('fsync', 'autovacuum', 'enable_hashjoin') OR scope ~ 'onitor';
SELECT suggestion FROM pgopt_settings_advice WHERE scope ~ 'onitor' ORDER BY setting \gexec
SELECT count(*) FROM pgopt_settings_advice WHERE scope ~ 'onitor';

--
-- Sessions: this one is among the connections, but not among the active
--
SELECT database, application, client, state, connections, percent_of_max > 0 AS percent, longest_in_state IS NOT NULL AS age
  FROM pgopt_connections WHERE database = current_database() AND application = current_setting('application_name');
SELECT count(*) FROM pgopt_active_connections WHERE pid = pg_backend_pid();
SELECT count(*) FROM pgopt_locks WHERE pid = pg_backend_pid();
SELECT count(*) FROM pgopt_blocking WHERE database = current_database();

--
-- Slow queries need pg_stat_statements, and say so
--
SELECT * FROM pgopt_slow_queries();

--
-- Who may look: pg_monitor, and nobody else
--
CREATE ROLE monitor_nobody;
CREATE ROLE monitor_watcher IN ROLE pg_monitor;
CREATE VIEW readable AS SELECT format('SELECT %L AS view, count(v) >= 0 AS readable FROM %s v', name, name) AS query FROM views;
GRANT SELECT ON views, readable TO PUBLIC;
SELECT name FROM views WHERE has_table_privilege('monitor_nobody', name, 'SELECT') OR NOT has_table_privilege('monitor_watcher', name, 'SELECT');
SELECT has_function_privilege('monitor_nobody', p, 'EXECUTE') AS nobody, has_function_privilege('monitor_watcher', p, 'EXECUTE') AS watcher
  FROM CAST('pgopt_slow_queries(interval, interval, integer)' AS regprocedure) p;
SET ROLE monitor_nobody;
SELECT count(*) FROM pgopt_locks;
SELECT * FROM pgopt_slow_queries();
SET ROLE monitor_watcher;
\pset tuples_only on
SELECT query FROM readable ORDER BY 1 \gexec
\pset tuples_only off
-- what pg_monitor alone may not read is unknown, with the grant that is missing
SELECT sequence_name, last_value, used_percent, note FROM pgopt_sequences WHERE sequence_name = 'up';
SELECT null_percent, distinct_values FROM pgopt_columns WHERE table_name = 'bill' AND column_name = 'state';
RESET ROLE;

--
-- A hostile search_path changes nothing
--
CREATE SCHEMA trap;
CREATE FUNCTION trap.spring() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped as %', current_user; END $$;
CREATE FUNCTION trap.eq(oid, oid) RETURNS boolean LANGUAGE sql AS 'SELECT trap.spring()';
CREATE FUNCTION trap.eq(name, name) RETURNS boolean LANGUAGE sql AS 'SELECT trap.spring()';
CREATE FUNCTION trap.eq(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT trap.spring()';
CREATE OPERATOR trap.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = trap.eq);
CREATE OPERATOR trap.= (LEFTARG = name, RIGHTARG = name, FUNCTION = trap.eq);
CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.eq);
CREATE FUNCTION trap.pg_size_pretty(bigint) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE ''trapped''; END';
CREATE FUNCTION trap.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS 'BEGIN RAISE ''trapped''; END';
CREATE TABLE trap.pg_class (oid oid);
CREATE TABLE trap.pg_stat_activity (pid int);
SET search_path = trap, public, pg_catalog;
\pset tuples_only on
SELECT query FROM public.readable ORDER BY query USING OPERATOR(pg_catalog.<) \gexec
\pset tuples_only off
RESET search_path;

\c :home
DROP DATABASE pgopt_monitor;
DROP ROLE "Monitor, who""", monitor_nobody, monitor_watcher;
