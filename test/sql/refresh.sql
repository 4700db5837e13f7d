--
-- Refreshing: what is due when, in which order, by which way, and what happens when it fails.
--
\getenv abs_srcdir PG_ABS_SRCDIR
\set set_setting :abs_srcdir '/sql/include/set.psql'
\set setting pgopt.auto_refresh
\set value off
\i :set_setting
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgopt;
CREATE SCHEMA refresh;
SET search_path = refresh, public;
CREATE FUNCTION is_fresh(of regclass) RETURNS boolean LANGUAGE sql AS
	'SELECT fresh FROM pgopt_matviews WHERE view = of';
-- as if so much time had gone by since the last refresh and check
CREATE FUNCTION make_older(of regclass, age interval) RETURNS void LANGUAGE sql AS $$
	UPDATE pgopt.matview_state SET last_refresh = last_refresh - age, last_checked = last_checked - age WHERE view = of;
$$;

CREATE TABLE bill (id int, year int, at timestamptz);
INSERT INTO bill SELECT i, 2000 + i % 5, '2024-03-10 23:30+00' FROM generate_series(1, 50) i;

--
-- The two ways
--
CREATE MATERIALIZED VIEW by_year AS SELECT year, count(*) AS bills FROM bill GROUP BY year;
SELECT pgopt_manage('by_year', 'manual');
SELECT view, last_refresh, last_duration, last_mode, next_refresh FROM pgopt_matviews;
SELECT view, outcome, mode, duration > '0' AS took_time, message FROM pgopt_refresh('by_year');
CREATE UNIQUE INDEX ON by_year (year);
INSERT INTO bill VALUES (51, 2000), (52, 2010);
SELECT outcome, mode FROM pgopt_refresh('by_year');
SELECT * FROM by_year ORDER BY year;
-- with no data yet there is nothing to compare with
REFRESH MATERIALIZED VIEW by_year WITH NO DATA;
SELECT outcome, mode FROM pgopt_refresh('by_year');
SELECT outcome, mode FROM pgopt_refresh('by_year');
SELECT last_refresh <= now() AS refreshed, last_duration > '0' AS took_time, last_mode, last_error, next_refresh FROM pgopt_matviews;

-- the full way keeps everything that hangs on the view
CREATE MATERIALIZED VIEW large AS SELECT id, repeat(md5(id::text), 1000) AS body FROM bill;
ALTER MATERIALIZED VIEW large SET (fillfactor = 70);
CREATE INDEX large_id ON large (id);
COMMENT ON MATERIALIZED VIEW large IS 'kept';
CREATE ROLE refresh_reader;
GRANT SELECT ON large TO refresh_reader;
ALTER MATERIALIZED VIEW large ALTER COLUMN body SET STATISTICS 7;
SELECT pgopt_manage('large', 'manual');
CREATE TEMP TABLE before AS SELECT oid, relfilenode FROM pg_class WHERE oid IN ('large'::regclass, 'large_id'::regclass);
DELETE FROM bill WHERE id > 40;
SELECT outcome, mode FROM pgopt_refresh('large');
SELECT c.relname, c.relfilenode <> b.relfilenode AS rewritten, c.reloptions, obj_description(c.oid) AS comment,
       has_table_privilege('refresh_reader', c.oid, 'SELECT') AS granted
  FROM pg_class c JOIN before b USING (oid) ORDER BY c.relname;
SELECT attstattarget FROM pg_attribute WHERE attrelid = 'large'::regclass AND attname = 'body';
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT length(body) FROM large WHERE id = 7;
SELECT length(body) FROM large WHERE id = 7;
RESET enable_seqscan;
SELECT (SELECT count(*) FROM large) = (SELECT count(*) FROM bill) AS complete, is_fresh('large') AS fresh;
SELECT count(*) AS left_behind FROM pg_class WHERE relname ~ '^pg_temp_' OR relrewrite <> 0;

--
-- Chains
--
CREATE MATERIALIZED VIEW step_1 AS SELECT id, year FROM bill;
CREATE VIEW between AS SELECT * FROM step_1 WHERE year < 2003;
CREATE MATERIALIZED VIEW step_2 AS SELECT year, count(*) AS n FROM between GROUP BY year;
CREATE MATERIALIZED VIEW step_3 AS SELECT sum(n) AS n FROM step_2;
CREATE MATERIALIZED VIEW beside AS SELECT count(*) AS n FROM step_1;
SELECT pgopt_manage('step_3', 'manual', priority => 1), pgopt_manage('step_2', 'manual', priority => 9),
       pgopt_manage('step_1', 'manual', priority => 10), pgopt_manage('beside', 'manual', priority => 2);
-- what it reads comes first, and only that
SELECT view, outcome, message FROM pgopt_refresh('step_3');
INSERT INTO bill VALUES (60, 2001), (61, 2002), (62, 2004);
SELECT is_fresh('step_1') AS step_1, is_fresh('step_2') AS step_2, is_fresh('step_3') AS step_3;
SELECT view, outcome, message FROM pgopt_refresh('step_3');
SELECT n = (SELECT count(*) FROM bill WHERE year < 2003) AS right, is_fresh('step_3') AS fresh FROM step_3;
-- all of them: never before what they read
BEGIN;
SELECT view, outcome FROM pgopt_refresh_all();
COMMIT;
-- by itself, several at once, in transactions of their own: the order holds
SELECT max(id) AS seen FROM pgopt.refresh_log \gset
SELECT view, outcome, mode, message FROM pgopt_refresh_all() ORDER BY view::text;
SELECT string_agg(view_name, ' ' ORDER BY id) FROM pgopt.refresh_log WHERE id > :seen AND view_name ~ 'step';
SELECT view, pending_changes, fresh FROM pgopt_matviews ORDER BY view::text;
SELECT count(pgopt_unmanage(view)) FROM pgopt_matviews;

--
-- When it is due
--
CREATE MATERIALIZED VIEW by_due AS SELECT count(*) AS n FROM bill;
-- whatever it is, the first time; but not manual
SELECT pgopt_manage('by_due', 'manual', '1 hour', 10);
SELECT outcome FROM pgopt_refresh_due();
SELECT pgopt_manage('by_due', 'immediate');
SELECT state FROM pgopt_matviews;
SELECT view, outcome, mode, message FROM pgopt_refresh_due();
-- immediate: at the first change
SELECT make_older('by_due', '1 minute');
SELECT outcome FROM pgopt_refresh_due();
INSERT INTO bill VALUES (70, 2001);
SELECT state FROM pgopt_matviews;
SELECT outcome, message FROM pgopt_refresh_due();
-- scheduled: at its time, unless it is certain that nothing changed
SELECT pgopt_manage('by_due', 'scheduled');
INSERT INTO bill VALUES (71, 2001);
SELECT outcome FROM pgopt_refresh_due();
SELECT state, next_refresh > now() AS later FROM pgopt_matviews;
SELECT make_older('by_due', '59 minutes');
SELECT outcome FROM pgopt_refresh_due();
SELECT make_older('by_due', '1 minute');
SELECT state, next_refresh <= clock_timestamp() AS now FROM pgopt_matviews;
SELECT outcome, message FROM pgopt_refresh_due();
SELECT make_older('by_due', '61 minutes');
SELECT outcome, message FROM pgopt_refresh_due();
SELECT outcome FROM pgopt_refresh_due();
SELECT make_older('by_due', '61 minutes');
SELECT outcome, message FROM pgopt_refresh_due();
-- threshold: at so many rows, or after the interval with at least one
SELECT pgopt_manage('by_due', 'threshold');
SELECT make_older('by_due', '2 hours');
SELECT outcome FROM pgopt_refresh_due();
SELECT outcome FROM pgopt_refresh('by_due');
INSERT INTO bill SELECT 80 + i, 2001 FROM generate_series(1, 9) i;
SELECT outcome FROM pgopt_refresh_due();
DELETE FROM bill WHERE id = 81;
SELECT outcome, message FROM pgopt_refresh_due();
UPDATE bill SET year = 2002 WHERE id = 82;
SELECT outcome FROM pgopt_refresh_due();
SELECT make_older('by_due', '1 hour');
SELECT outcome, message FROM pgopt_refresh_due();
TRUNCATE bill;
SELECT outcome, message FROM pgopt_refresh_due();
-- smart: when it is read while stale, or when it has been stale for as long as the interval
SELECT pgopt_manage('by_due', 'smart');
SELECT make_older('by_due', '2 hours');
SELECT outcome FROM pgopt_refresh_due();
INSERT INTO bill SELECT i, 2001 FROM generate_series(1, 10) i;
SELECT outcome FROM pgopt_refresh_due();
DO $$ BEGIN FOR i IN 1..100 LOOP PERFORM n FROM by_due; END LOOP; END $$;
SELECT pg_stat_force_next_flush();
SELECT outcome, message FROM pgopt_refresh_due();
INSERT INTO bill VALUES (11, 2001);
SELECT outcome FROM pgopt_refresh_due();
SELECT pgopt_manage('by_due', refresh_interval => '1 second');
DO $$
BEGIN
	FOR i IN 1..1000 LOOP
		EXIT WHEN EXISTS (SELECT FROM pgopt_matviews WHERE state = 'due');
		PERFORM pg_sleep(0.02);
	END LOOP;
END $$;
SELECT outcome, message FROM pgopt_refresh_due();
-- the log of all this
SELECT view_name, source, outcome, reason FROM pgopt.refresh_log WHERE view = 'by_due'::regclass ORDER BY id;
SELECT pgopt_unmanage('by_due'::regclass);

--
-- Failures
--
CREATE TABLE number (n int);
INSERT INTO number VALUES (1), (2);
CREATE MATERIALIZED VIEW quotient AS SELECT 10 / n AS q FROM number;
CREATE MATERIALIZED VIEW over_quotient AS SELECT sum(q) FROM quotient;
CREATE MATERIALIZED VIEW unlike AS SELECT count(*) FROM number;
SELECT pgopt_manage('quotient', 'immediate', priority => 1), pgopt_manage('over_quotient', 'immediate', priority => 1),
       pgopt_manage('unlike', 'immediate', priority => 9);
SELECT count(*) FROM pgopt_refresh_due();
INSERT INTO number VALUES (0);
SELECT make_older(view, '1 minute') FROM pgopt_matviews;
-- asked for by name: the error is the caller's
SELECT outcome FROM pgopt_refresh('quotient');
SELECT view, failures, last_error FROM pgopt_matviews WHERE failures > 0;
-- otherwise it is kept, and holds up nobody
SELECT view, outcome, mode, message FROM pgopt_refresh_due() ORDER BY view::text;
SELECT view, fresh, state, failures, last_sqlstate, last_error FROM pgopt_matviews ORDER BY view::text;
SELECT next_refresh > now() AS later FROM pgopt_matviews WHERE view = 'quotient'::regclass;
SELECT view_name, outcome, mode, sqlstate, message FROM pgopt.refresh_log WHERE view = 'quotient'::regclass ORDER BY id DESC LIMIT 1;
-- it waits, longer each time
SELECT outcome FROM pgopt_refresh_due() WHERE view = 'quotient'::regclass;
UPDATE pgopt.matview_state SET retry_at = now() WHERE view = 'quotient'::regclass;
SELECT outcome, message FROM pgopt_refresh_due() WHERE view = 'quotient'::regclass;
SELECT failures, retry_at > now() + '6 seconds' AS longer FROM pgopt.matview_state WHERE view = 'quotient'::regclass;
BEGIN;
SELECT view, outcome, message FROM pgopt_refresh_all() ORDER BY view::text;
COMMIT;
-- the old rows are still there
SELECT * FROM quotient ORDER BY q;
-- mended
DELETE FROM number WHERE n = 0;
UPDATE pgopt.matview_state SET retry_at = now() WHERE view = 'quotient'::regclass;
SELECT outcome, message FROM pgopt_refresh_due() WHERE view = 'quotient'::regclass;
SELECT failures, last_error, last_sqlstate, state FROM pgopt_matviews WHERE view = 'quotient'::regclass;
-- a detail is kept with the message
CREATE UNIQUE INDEX quotient_q ON quotient (q);
INSERT INTO number VALUES (2);
BEGIN;
SELECT outcome, message FROM pgopt_refresh_all() WHERE view = 'quotient'::regclass;
COMMIT;
SELECT last_sqlstate, last_error FROM pgopt_matviews WHERE view = 'quotient'::regclass;
DROP MATERIALIZED VIEW over_quotient, quotient, unlike;
SELECT count(pgopt_unmanage(view_name)) FROM (SELECT schema_name || '.' || view_name AS view_name FROM pgopt.matview) v;

--
-- Not by pgopt: what it holds is not known
--
CREATE MATERIALIZED VIEW mine AS SELECT count(*) FROM bill;
SELECT pgopt_manage('mine', 'manual');
SELECT outcome FROM pgopt_refresh('mine');
SELECT fresh, reason FROM pgopt_matviews;
REFRESH MATERIALIZED VIEW mine;
SELECT fresh, pending_changes, reason FROM pgopt_matviews;
SELECT outcome FROM pgopt_refresh('mine');
SELECT fresh FROM pgopt_matviews;
-- rolled back
BEGIN;
REFRESH MATERIALIZED VIEW mine;
ROLLBACK;
SELECT fresh FROM pgopt_matviews;
-- after one of pgopt's in the same transaction, rolled back or not
BEGIN;
SAVEPOINT a;
SELECT outcome FROM pgopt_refresh('mine');
ROLLBACK TO a;
REFRESH MATERIALIZED VIEW mine;
COMMIT;
SELECT fresh FROM pgopt_matviews;
SELECT outcome FROM pgopt_refresh('mine');
BEGIN;
SELECT outcome FROM pgopt_refresh('mine');
REFRESH MATERIALIZED VIEW mine;
COMMIT;
SELECT fresh FROM pgopt_matviews;
-- with a snapshot older than the counters
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT outcome FROM pgopt_refresh('mine');
COMMIT;
SELECT fresh FROM pgopt_matviews;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT outcome FROM pgopt_refresh('mine');
COMMIT;
SELECT fresh FROM pgopt_matviews;
SELECT outcome FROM pgopt_refresh('mine');
SELECT fresh FROM pgopt_matviews;
-- pgopt's own, rolled back: all as before
INSERT INTO bill VALUES (90, 2001);
BEGIN;
SELECT outcome FROM pgopt_refresh('mine');
ROLLBACK;
SELECT fresh, pending_changes FROM pgopt_matviews;
SELECT outcome FROM pgopt_refresh('mine');
-- changes of the same transaction, before and after it
BEGIN;
INSERT INTO bill VALUES (91, 2001);
SELECT outcome FROM pgopt_refresh('mine');
COMMIT;
SELECT count = (SELECT count(*) FROM bill) AS right, is_fresh('mine') AS fresh FROM mine;
BEGIN;
SELECT outcome FROM pgopt_refresh('mine');
INSERT INTO bill VALUES (92, 2001);
COMMIT;
SELECT count = (SELECT count(*) FROM bill) AS right, is_fresh('mine') AS fresh FROM mine;
BEGIN;
SAVEPOINT a;
INSERT INTO bill VALUES (93, 2001);
SELECT outcome FROM pgopt_refresh('mine');
ROLLBACK TO a;
COMMIT;
SELECT count = (SELECT count(*) FROM bill) AS right, is_fresh('mine') AS fresh FROM mine;
SELECT pgopt_unmanage('mine'::regclass);

--
-- What it shows does not depend on who refreshes it: settings are those of the day when it was put under management
--
SET timezone = 'America/Sao_Paulo';
SET datestyle = 'ISO, DMY';
INSERT INTO bill VALUES (100, 2024, '2024-03-10 23:30+00');
CREATE MATERIALIZED VIEW dated AS
	SELECT at::date AS day, date_trunc('month', at) = '2024-03-01 00:00-03' AS local_month, at::text AS text,
	       '02/03/2024'::text::date - '2024-01-01' AS days
	  FROM bill WHERE id = 100;
SELECT pgopt_manage('dated', 'manual');
SELECT outcome FROM pgopt_refresh('dated');
SELECT day, local_month, text, days FROM dated;
SET timezone = 'Asia/Tokyo';
SET datestyle = 'SQL, MDY';
SELECT outcome FROM pgopt_refresh('dated');
SHOW timezone;
SHOW datestyle;
SET datestyle = 'ISO, MDY';
SELECT day, local_month, text, days FROM dated;
-- a refresh worker's session has the server's settings
SELECT outcome FROM pgopt_refresh_all();
SELECT day, local_month, text, days FROM dated;
RESET timezone;
RESET datestyle;

--
-- The log is kept for as long as the setting says
--
INSERT INTO pgopt.refresh_log (view, view_name, started_at, duration, outcome, source)
	VALUES (1, 'old', now() - interval '31 days', '1 s', 'refreshed', 'user'),
	       (1, 'not so old', now() - interval '29 days', '1 s', 'refreshed', 'user');
SELECT count(*) AS due FROM pgopt_refresh_due();
SELECT view_name FROM pgopt.refresh_log WHERE view = 1;

DROP SCHEMA refresh CASCADE;
DROP EXTENSION pgopt;
DROP ROLE refresh_reader;
ALTER SYSTEM RESET pgopt.auto_refresh;
SELECT pg_reload_conf();
