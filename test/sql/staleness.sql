--
-- The score of staleness: 0 with nothing pending, 0.7 where a view has used up what it was allowed, rising with every
-- change and with age. And fresh is true only when it is certain.
--
\getenv abs_srcdir PG_ABS_SRCDIR
\set set_setting :abs_srcdir '/sql/include/set.psql'
\set setting pgopt.auto_refresh
\set value off
\i :set_setting
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgopt;
CREATE SCHEMA staleness;
SET search_path = staleness, public;
CREATE TABLE bill (id int);
CREATE MATERIALIZED VIEW bills AS SELECT count(*) FROM bill;
CREATE MATERIALIZED VIEW strict AS SELECT count(*) FROM bill;
CREATE MATERIALIZED VIEW clocked AS SELECT count(*) FROM bill WHERE now() IS NOT NULL;
CREATE MATERIALIZED VIEW above AS SELECT * FROM bills;

-- never refreshed: as stale as can be
SELECT pgopt_manage('bills', 'manual', '1 day', 100), pgopt_manage('strict', 'manual', '1 day', 10),
       pgopt_manage('clocked', 'manual', '1 day', 100), pgopt_manage('above', 'manual', '1 day', 100);
SELECT view, staleness, fresh, reason FROM pgopt_matviews ORDER BY view::text;
SELECT count(*) FROM pgopt_refresh_all();
SELECT view, staleness, fresh FROM pgopt_matviews ORDER BY view::text;

-- by changes: 10 of 100, and 10 of 10
INSERT INTO bill SELECT generate_series(1, 10);
SELECT view, pending_changes, round(staleness, 2) AS staleness, fresh FROM pgopt_matviews WHERE view <> 'clocked'::regclass ORDER BY view::text;
INSERT INTO bill SELECT generate_series(11, 100);
SELECT view, pending_changes, round(staleness, 2) AS staleness, staleness > 0.7 AS overdue FROM pgopt_matviews
 WHERE view IN ('bills'::regclass, 'strict'::regclass) ORDER BY view::text;
-- more than that only brings it nearer to 1
INSERT INTO bill SELECT generate_series(101, 10000);
SELECT view, pending_changes, round(staleness, 2) AS staleness FROM pgopt_matviews WHERE view = 'bills'::regclass;

-- monotone in changes and in time
SELECT count(*) FROM pgopt_refresh_all();
CREATE TABLE series (n int GENERATED ALWAYS AS IDENTITY, staleness float8);
CREATE PROCEDURE observe(times int) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..times LOOP
		INSERT INTO series (staleness) SELECT staleness FROM pgopt.matview_status() WHERE view = 'strict'::regclass;
		COMMIT;
		INSERT INTO bill VALUES (i);
		COMMIT;
	END LOOP;
END $$;
CALL observe(30);
SELECT min(staleness) AS least, max(staleness) < 1 AS below_one, count(*) FILTER (WHERE staleness <= before) AS not_rising
  FROM (SELECT staleness, lag(staleness) OVER (ORDER BY n) AS before FROM series) s;
SELECT staleness FROM pgopt.matview_status() WHERE view = 'strict'::regclass \gset a_
SELECT pg_sleep(0.01);
SELECT staleness > :a_staleness AS rises_with_age FROM pgopt.matview_status() WHERE view = 'strict'::regclass;
-- a shorter interval, and a lower threshold, make it staler
SELECT staleness AS before FROM pgopt.matview_status() WHERE view = 'bills'::regclass \gset
SELECT pgopt_manage('bills', threshold_changes => 50);
SELECT staleness > :before AS staler, staleness AS before FROM pgopt.matview_status() WHERE view = 'bills'::regclass \gset
\echo :staler
SELECT pgopt_manage('bills', refresh_interval => '1 second');
SELECT staleness > :before AS staler FROM pgopt.matview_status() WHERE view = 'bills'::regclass;

-- not known, or emptied: as if the threshold were reached
SELECT count(*) FROM pgopt_refresh_all();
SELECT pgopt_manage('bills', refresh_interval => '1 day');
TRUNCATE bill;
SELECT round(staleness, 2) AS staleness, pending_changes, fresh, reason FROM pgopt_matviews WHERE view = 'bills'::regclass;
SELECT count(*) FROM pgopt_refresh_all();
REFRESH MATERIALIZED VIEW bills;
SELECT round(staleness, 2) AS staleness, pending_changes, fresh, reason FROM pgopt_matviews WHERE view = 'bills'::regclass;
-- what reads a view that is not fresh is not fresh either
SELECT fresh, reason IS NOT NULL AS says_why FROM pgopt_matviews WHERE view = 'above'::regclass;

-- what cannot be counted ages with the clock
SELECT outcome FROM pgopt_refresh('clocked');
SELECT staleness < 0.01 AS young, fresh FROM pgopt_matviews WHERE view = 'clocked'::regclass;
UPDATE pgopt.matview_state SET last_refresh = last_refresh - interval '1 day' WHERE view = 'clocked'::regclass;
SELECT round(staleness, 2) AS staleness, fresh FROM pgopt_matviews WHERE view = 'clocked'::regclass;

DROP SCHEMA staleness CASCADE;
DROP EXTENSION pgopt;
ALTER SYSTEM RESET pgopt.auto_refresh;
SELECT pg_reload_conf();
