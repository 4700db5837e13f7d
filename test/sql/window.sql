--
-- Counters over a window: what health checks compare over time.
--
SET client_min_messages = warning;
CREATE DATABASE pgopt_window;
\set home :DBNAME
\c pgopt_window
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgopt;
CREATE PROCEDURE await(condition text) LANGUAGE plpgsql AS $$
DECLARE
	done boolean;
BEGIN
	FOR i IN 1..1500 LOOP
		EXECUTE 'SELECT ' || condition INTO done;
		EXIT WHEN done;
		ROLLBACK;
		PERFORM pg_sleep(0.02);
	END LOOP;
	IF done IS NOT TRUE THEN
		RAISE 'timed out: %', condition;
	END IF;
END $$;
CREATE VIEW deltas AS SELECT * FROM pgopt.counter_deltas();

-- a window begins with the first look, the worker's or ours
SELECT basis, since <= clock_timestamp() AS since, seconds >= 0 AS seconds FROM deltas;

-- what happens in it is counted, once the statistics have it
SELECT pgopt_restart_window() IS NOT NULL AS restarted;
SELECT xact_rollback, temp_files, temp_bytes, deadlocks, sessions_fatal FROM deltas;
BEGIN; SELECT 1 AS one; ROLLBACK;
BEGIN; SELECT 1 AS one; ROLLBACK;
SET work_mem = '64kB';
SELECT count(*) FROM (SELECT n FROM generate_series(1, 200000) n ORDER BY n DESC OFFSET 1) s;
RESET work_mem;
SELECT pg_stat_force_next_flush();
CALL await($$ (SELECT temp_files > 0 AND xact_rollback >= 2 FROM deltas) $$);
SELECT xact_rollback >= 2 AS rollbacks, xact_commit > 0 AS commits, temp_bytes > 1000000 AS spilled, wal_bytes >= 0 AS wal,
       blks_hit <= blks_fetched AS blocks, seconds > 0 AS seconds
  FROM deltas;

-- another begins when asked for
SELECT pgopt_restart_window() IS NOT NULL AS restarted;
SELECT temp_files, temp_bytes FROM deltas;

-- and with other settings: what was counted under the old ones is no evidence about the new
SET work_mem = '64kB';
SELECT count(*) FROM (SELECT n FROM generate_series(1, 200000) n ORDER BY n DESC OFFSET 1) s;
RESET work_mem;
SELECT pg_stat_force_next_flush();
CALL await($$ (SELECT temp_files > 0 FROM deltas) $$);
SELECT since AS before FROM deltas \gset
SELECT pg_reload_conf();
CALL await(format($$ (SELECT since > %L AND temp_files = 0 FROM deltas) $$, :'before'));

-- statistics that are reset begin another, too: nothing is ever negative
SET work_mem = '64kB';
SELECT count(*) FROM (SELECT n FROM generate_series(1, 200000) n ORDER BY n DESC OFFSET 1) s;
RESET work_mem;
SELECT pg_stat_force_next_flush();
CALL await($$ (SELECT temp_files > 0 FROM deltas) $$);
SELECT pgopt_restart_window() IS NOT NULL AS restarted;
SELECT pg_stat_reset();
CALL await($$ (SELECT temp_files = 0 FROM deltas) $$);
SELECT count(*) FILTER (WHERE value::text LIKE '-%') AS negative FROM deltas, jsonb_each(to_jsonb(deltas));

-- who may
CREATE ROLE window_nobody;
SET ROLE window_nobody;
SELECT pgopt_restart_window();
RESET ROLE;
GRANT pg_monitor TO window_nobody;
SET ROLE window_nobody;
SELECT pgopt_restart_window() IS NOT NULL AS restarted;
RESET ROLE;
DROP ROLE window_nobody;

\c :home
DROP DATABASE pgopt_window;
