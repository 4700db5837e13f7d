--
-- The worker: views are refreshed by themselves. Nothing here waits for a fixed time; await() polls, for 30 seconds
-- at most.
--
\getenv abs_srcdir PG_ABS_SRCDIR
\set set_setting :abs_srcdir '/sql/include/set.psql'
\set setting pgopt.auto_refresh
\set value on
\i :set_setting
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgopt;
CREATE SCHEMA worker;
SET search_path = worker, public;
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
CREATE FUNCTION is_fresh(of text) RETURNS boolean LANGUAGE sql AS
	'SELECT fresh FROM pgopt_matviews WHERE view = of::regclass';
CREATE FUNCTION refreshes(of text) RETURNS bigint LANGUAGE sql AS
	'SELECT count(*) FROM pgopt.refresh_log WHERE view_name = ''worker.'' || of AND outcome = ''refreshed''';

-- one of them looks after this database
CALL await($$ EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'pgopt worker' AND datname = current_database()) $$);
SELECT count(*) AS launchers FROM pg_stat_activity WHERE backend_type = 'pgopt launcher';

CREATE TABLE bill (id int, year int);
CREATE MATERIALIZED VIEW never AS SELECT count(*) FROM bill;
SELECT pgopt_manage('never', 'manual');

--
-- immediate: after every commit, once
--
CREATE MATERIALIZED VIEW at_once AS SELECT count(*) AS n FROM bill;
SELECT pgopt_manage('at_once', 'immediate');
CALL await($$ is_fresh('at_once') $$);
SELECT source, outcome, mode, reason FROM pgopt.refresh_log WHERE view = 'at_once'::regclass;
INSERT INTO bill VALUES (1, 2024), (2, 2024), (3, 2023);
CALL await($$ (SELECT n = 3 FROM at_once) AND is_fresh('at_once') $$);
SELECT source, outcome, mode, reason, pending_changes FROM pgopt.refresh_log WHERE view = 'at_once'::regclass ORDER BY id OFFSET 1;
-- what is rolled back wakes nobody; a TRUNCATE, a COPY, a prepared transaction do
BEGIN;
INSERT INTO bill VALUES (4, 2024);
ROLLBACK;
TRUNCATE bill;
CALL await($$ (SELECT n = 0 FROM at_once) AND is_fresh('at_once') $$);
COPY bill FROM stdin;
1	2024
2	2024
\.
CALL await($$ (SELECT n = 2 FROM at_once) AND is_fresh('at_once') $$);
BEGIN;
INSERT INTO bill VALUES (5, 2024);
PREPARE TRANSACTION 'worker';
COMMIT PREPARED 'worker';
CALL await($$ (SELECT n = 3 FROM at_once) AND is_fresh('at_once') $$);
-- once for each of them; seldom, a wake-up that crosses a refresh makes one more
SELECT refreshes('at_once') BETWEEN 5 AND 7 AS once_each;
-- a burst of commits makes fewer refreshes than commits
CREATE PROCEDURE burst(n int) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..n LOOP
		INSERT INTO bill VALUES (100 + i, 2000 + i % 10);
		COMMIT;
	END LOOP;
END $$;
CALL burst(500);
CALL await($$ (SELECT n = 503 FROM at_once) AND is_fresh('at_once') $$);
SELECT refreshes('at_once') < 400 AS coalesced;
-- another view's definition, in a new place: still refreshed
DROP MATERIALIZED VIEW at_once;
CREATE MATERIALIZED VIEW at_once AS SELECT count(*) + 1000 AS n FROM bill;
CALL await($$ is_fresh('at_once') $$);
ALTER MATERIALIZED VIEW at_once RENAME TO renamed;
DELETE FROM bill WHERE id > 100;
CALL await($$ (SELECT n = 1003 FROM renamed) AND is_fresh('renamed') $$);
SELECT pgopt_unmanage('renamed'::regclass);

--
-- threshold: not before so many rows
--
CREATE MATERIALIZED VIEW at_ten AS SELECT count(*) AS n FROM bill;
SELECT pgopt_manage('at_ten', 'threshold', '1 day', 10);
CALL await($$ is_fresh('at_ten') $$);
INSERT INTO bill SELECT 10 + i, 2024 FROM generate_series(1, 4) i;
INSERT INTO bill SELECT 20 + i, 2024 FROM generate_series(1, 5) i;
DELETE FROM bill WHERE id = 25;
CALL await($$ is_fresh('at_ten') $$);
SELECT pending_changes, reason FROM pgopt.refresh_log WHERE view = 'at_ten'::regclass ORDER BY id OFFSET 1;
SELECT pgopt_unmanage('at_ten'::regclass);

--
-- scheduled: at its time; and nothing but a note when nothing changed
--
CREATE MATERIALIZED VIEW by_clock AS SELECT count(*) AS n FROM bill;
SELECT pgopt_manage('by_clock', 'scheduled', '1 second');
CALL await($$ EXISTS (SELECT FROM pgopt.refresh_log WHERE view = 'by_clock'::regclass AND outcome = 'unchanged') $$);
INSERT INTO bill VALUES (30, 2024);
CALL await($$ refreshes('by_clock') = 2 $$);
SELECT outcome, reason FROM pgopt.refresh_log WHERE view = 'by_clock'::regclass ORDER BY id LIMIT 3;
SELECT pgopt_unmanage('by_clock'::regclass);

--
-- smart: stale for no longer than the interval, read or not
--
CREATE MATERIALIZED VIEW by_use AS SELECT count(*) AS n FROM bill;
SELECT pgopt_manage('by_use', 'smart', '1 second', 1000000);
CALL await($$ is_fresh('by_use') $$);
INSERT INTO bill VALUES (31, 2024);
CALL await($$ is_fresh('by_use') $$);
SELECT reason FROM pgopt.refresh_log WHERE view = 'by_use'::regclass ORDER BY id OFFSET 1;
SELECT pgopt_unmanage('by_use'::regclass);

--
-- A chain, in its order, although the last one has the best priority
--
CREATE MATERIALIZED VIEW step_1 AS SELECT id, year FROM bill;
CREATE MATERIALIZED VIEW step_2 AS SELECT year, count(*) AS n FROM step_1 GROUP BY year;
CREATE MATERIALIZED VIEW step_3 AS SELECT sum(n) AS n FROM step_2;
SELECT pgopt_manage('step_1', 'immediate', priority => 9), pgopt_manage('step_2', 'immediate', priority => 5),
       pgopt_manage('step_3', 'immediate', priority => 1);
CALL await($$ is_fresh('step_1') AND is_fresh('step_2') AND is_fresh('step_3') $$);
SELECT max(id) AS seen FROM pgopt.refresh_log \gset
INSERT INTO bill SELECT i, 1990 FROM generate_series(1, 7) i;
CALL await($$ (SELECT n = (SELECT count(*) FROM bill) FROM step_3) AND is_fresh('step_3') $$);
SELECT string_agg(view_name, ' ' ORDER BY id) AS order FROM pgopt.refresh_log WHERE id > :seen;
SELECT n = (SELECT count(*) FROM bill) AS right FROM step_3;

--
-- A view that fails holds up nobody, and comes back by itself
--
CREATE MATERIALIZED VIEW failing AS SELECT sum(1 / (year - 1900)) AS s FROM bill;
SELECT pgopt_manage('failing', 'immediate', priority => 1);
CALL await($$ is_fresh('failing') $$);
INSERT INTO bill VALUES (40, 1900);
CALL await($$ EXISTS (SELECT FROM pgopt_matviews WHERE view = 'failing'::regclass AND state = 'retrying') $$);
SELECT failures > 0 AS failed, last_sqlstate, last_error FROM pgopt_matviews WHERE view = 'failing'::regclass;
CALL await($$ is_fresh('step_3') $$);
DELETE FROM bill WHERE year = 1900;
CALL await($$ is_fresh('failing') $$);
SELECT failures, last_sqlstate, last_error FROM pgopt_matviews WHERE view = 'failing'::regclass;

--
-- Turned off and on again
--
\set setting pgopt.auto_refresh
\set value off
\i :set_setting
SELECT refreshes('step_1') AS before \gset
INSERT INTO bill VALUES (50, 2024);
SELECT state FROM pgopt_matviews WHERE view = 'step_1'::regclass;
SELECT refreshes('step_1') = :before AS not_refreshed, is_fresh('step_1') AS fresh;
\set value on
\i :set_setting
CALL await($$ is_fresh('step_3') $$);

-- manual is what it says
SELECT refreshes('never'), is_fresh('never') AS fresh;

--
-- A database of its own: its worker comes with the extension, and is no hindrance
--
\set home :DBNAME
CREATE DATABASE pgopt_worker;
\c pgopt_worker
SET client_min_messages = warning;
CREATE EXTENSION pgopt;
CREATE TABLE bill (id int);
CREATE MATERIALIZED VIEW bills AS SELECT count(*) AS n FROM bill;
SELECT pgopt_manage('bills', 'immediate');
INSERT INTO bill VALUES (1);
DO $$
BEGIN
	FOR i IN 1..1500 LOOP
		EXIT WHEN (SELECT fresh FROM pgopt_matviews);
		PERFORM pg_sleep(0.02);
	END LOOP;
END $$;
SELECT n, fresh FROM bills, pgopt_matviews;
\c :home
DROP DATABASE pgopt_worker;
SET client_min_messages = warning;

-- the extension is dropped while its worker is at it
SET search_path = worker, public;
CALL burst(20);
DROP EXTENSION pgopt;
INSERT INTO bill VALUES (60, 2024);
CALL await($$ NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'pgopt worker' AND datname = current_database()) $$);
CREATE EXTENSION pgopt SCHEMA public;
CALL await($$ EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'pgopt worker' AND datname = current_database()) $$);
SELECT count(*) FROM pgopt_matviews;

DROP SCHEMA worker CASCADE;
DROP EXTENSION pgopt;
ALTER SYSTEM RESET pgopt.auto_refresh;
SELECT pg_reload_conf();
