--
-- pgopt_health(): what is wrong, why, and the SQL that mends it; and it does.
--
\getenv abs_srcdir PG_ABS_SRCDIR
\set set_setting :abs_srcdir '/sql/include/set.psql'
\set setting pgopt.auto_refresh
\set value on
\i :set_setting
-- the test server is not durable (pg_regress starts it so), which is critical: the scores are those of the components
SET client_min_messages = warning;
-- a database of its own: what other tests left unknown is none of its
CREATE DATABASE pgopt_health;
\set home :DBNAME
\c pgopt_health
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
-- runs the remedies of a check's findings
CREATE PROCEDURE mend(which text) LANGUAGE plpgsql AS $$
DECLARE
	todo text;
BEGIN
	FOR todo IN SELECT remedy FROM pgopt_findings() WHERE check_id = which LOOP
		EXECUTE todo;
	END LOOP;
END $$;
CREATE VIEW found AS SELECT severity, check_id, object, message FROM pgopt_findings() WHERE component IN ('pgopt', 'matviews');

--
-- A healthy database
--
CREATE TABLE bill (id int, year int);
CREATE MATERIALIZED VIEW by_year AS SELECT year, count(*) AS bills FROM bill GROUP BY year;
CREATE UNIQUE INDEX ON by_year (year);
SELECT pgopt_manage('by_year', 'immediate');
CALL await($$ (SELECT fresh FROM pgopt_matviews) AND (SELECT components ->> 'matviews' = '100' FROM pgopt_health()) $$);
SELECT score > 0 AS score, coverage > 0.8 AS coverage, components -> 'matviews' AS matviews, components -> 'pgopt' AS pgopt FROM pgopt_health();
SELECT * FROM pgopt_checks() WHERE component IN ('pgopt', 'matviews') ORDER BY check_id;
-- a quick look asks less
SELECT count(*) BETWEEN 1 AND (SELECT count(*) FROM pgopt_checks()) - 5 AS fewer FROM pgopt_checks('quick');
SELECT components -> 'pgopt' AS pgopt FROM pgopt_health('quick');
SELECT pgopt_health('thorough');
-- the same for programs
SELECT (SELECT array_agg(k ORDER BY k) FROM jsonb_object_keys(j) k) AS keys
  FROM pgopt_health_json() j;
SELECT pgopt_findings_json() = (SELECT findings FROM pgopt_health()) AS findings,
       jsonb_array_length(pgopt_checks_json()) = (SELECT count(*) FROM pgopt_checks()) AS checks,
       pgopt_checks_json() @> '[{"check_id": "matview_blocking", "component": "matviews", "state": "ok", "reason": null}]' AS check;

--
-- Nothing that an administrator must know goes unsaid
--
\set value off
\i :set_setting
SELECT * FROM found;
SELECT (components ->> 'pgopt')::int >= 95 AS score FROM pgopt_health();

-- no unique index: readers wait for the end of each refresh
CREATE MATERIALIZED VIEW no_index AS SELECT year, max(id) AS last FROM bill GROUP BY year;
SELECT pgopt_manage('no_index', 'manual');
SELECT outcome FROM pgopt_refresh('no_index');
SELECT severity, object, message, remedy, remedy_lock, reference FROM pgopt_findings() WHERE check_id = 'matview_blocking';
CALL mend('matview_blocking');
SELECT count(*) FROM pgopt_findings() WHERE check_id = 'matview_blocking';
SELECT outcome, mode FROM pgopt_refresh('no_index');

-- something that cannot be counted
CREATE MATERIALIZED VIEW clocked AS SELECT count(*) FROM bill WHERE now() IS NOT NULL;
CREATE UNIQUE INDEX ON clocked (count);
SELECT pgopt_manage('clocked', 'manual');
SELECT outcome FROM pgopt_refresh('clocked');
SELECT severity, object, message, evidence, remedy FROM pgopt_findings() WHERE check_id = 'matview_untracked';
SELECT pgopt_unmanage('clocked'::regclass);

-- a view that is gone
DROP MATERIALIZED VIEW no_index;
SELECT severity, object, message, remedy FROM pgopt_findings() WHERE check_id = 'matview_missing';
CALL mend('matview_missing');
SELECT count(*) FROM pgopt_findings() WHERE check_id = 'matview_missing';

-- a view that fails: a warning, and critical when it goes on
CREATE MATERIALIZED VIEW failing AS SELECT id, 100 / year AS q FROM bill;
CREATE UNIQUE INDEX ON failing (id);
SELECT pgopt_manage('failing', 'manual');
INSERT INTO bill VALUES (1, 2024), (2, 0);
SELECT outcome FROM pgopt_refresh_all() WHERE view = 'failing'::regclass;
SELECT severity, object, message, evidence, threshold, remedy FROM pgopt_findings() WHERE check_id = 'matview_failing';
SELECT (components ->> 'matviews')::int BETWEEN 60 AND 79 AS score FROM pgopt_health();
BEGIN;
SELECT outcome FROM pgopt_refresh_all() WHERE view = 'failing'::regclass;
SELECT outcome FROM pgopt_refresh_all() WHERE view = 'failing'::regclass;
SELECT outcome FROM pgopt_refresh_all() WHERE view = 'failing'::regclass;
SELECT outcome FROM pgopt_refresh_all() WHERE view = 'failing'::regclass;
COMMIT;
SELECT severity, message FROM pgopt_findings() WHERE check_id = 'matview_failing';
SELECT (components ->> 'matviews')::int < 60 AS score FROM pgopt_health();
SELECT check_id, state FROM pgopt_checks() WHERE state <> 'ok' AND component IN ('pgopt', 'matviews') ORDER BY check_id;
-- the worst comes first
SELECT f ->> 'severity' AS severity, f ->> 'check_id' AS check_id FROM pgopt_health() h, jsonb_array_elements(h.findings) WITH ORDINALITY x (f, n) WHERE f ->> 'component' IN ('pgopt', 'matviews') ORDER BY n;
DELETE FROM bill WHERE year = 0;
CALL mend('matview_failing');
SELECT * FROM found;

-- overdue: neither refreshed nor excused
SELECT pgopt_manage('failing', 'scheduled', '1 second', 1);
INSERT INTO bill VALUES (3, 2024);
CALL await($$ EXISTS (SELECT FROM pgopt_findings() WHERE check_id = 'matview_overdue' AND object ~ 'failing') $$);
SELECT severity, object, message, evidence -> 'pending_changes' AS pending, threshold, since IS NOT NULL AS since, remedy
  FROM pgopt_findings() WHERE check_id = 'matview_overdue' AND object ~ 'failing';
CALL mend('matview_overdue');
SELECT count(*) FROM pgopt_findings() WHERE check_id = 'matview_overdue';
SELECT pgopt_unmanage('failing'::regclass);

-- changes that nobody counted
SET track_counts = off;
INSERT INTO bill VALUES (4, 2024);
RESET track_counts;
SELECT severity, message, evidence -> 'track_counts_off' AS track_counts_off, remedy FROM pgopt_findings() WHERE check_id = 'pgopt_unknown_changes';

--
-- What its reader may not see is unknown, not fine
--
CREATE ROLE health_nobody;
SET ROLE health_nobody;
SELECT check_id, state, reason FROM pgopt_checks() WHERE component = 'matviews' ORDER BY check_id;
SELECT coverage < 1 AS not_all FROM pgopt_health();
SELECT count(*) FROM pgopt_findings() WHERE object ~ 'by_year';
RESET ROLE;
DROP ROLE health_nobody;

--
-- All well again
--
\set value on
\i :set_setting
CALL await($$ (SELECT fresh FROM pgopt_matviews) $$);
SELECT check_id FROM found;

\c :home
DROP DATABASE pgopt_health;
ALTER SYSTEM RESET pgopt.auto_refresh;
SELECT pg_reload_conf();
