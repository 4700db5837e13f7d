--
-- pgopt_manage() and pgopt_unmanage(): defaults, errors, and what becomes of a view that changes its name.
--
\getenv abs_srcdir PG_ABS_SRCDIR
\set set_setting :abs_srcdir '/sql/include/set.psql'
\set setting pgopt.auto_refresh
\set value off
\i :set_setting
CREATE EXTENSION IF NOT EXISTS pgopt;
CREATE SCHEMA manage;
CREATE SCHEMA manage_other;
SET search_path = manage, public;
CREATE TABLE bill (id int, year int, title text);
CREATE MATERIALIZED VIEW by_year AS SELECT year, count(*) AS bills FROM bill GROUP BY year;
CREATE VIEW settings AS
	SELECT view, strategy, refresh_interval, threshold_changes, priority, state FROM pgopt_matviews;
-- waits until the worker has noticed what DDL did
CREATE PROCEDURE await(what text, shown boolean DEFAULT false) LANGUAGE plpgsql AS $$
DECLARE
	done boolean;
BEGIN
	FOR i IN 1..1500 LOOP
		EXECUTE 'SELECT ' || what INTO done;
		EXIT WHEN done;
		ROLLBACK;
		PERFORM pg_sleep(0.02);
	END LOOP;
	IF done IS NOT TRUE THEN
		RAISE 'timed out: %', what;
	END IF;
END $$;

-- the defaults, and two words of advice: no index, and the one that would do
SELECT pgopt_manage('by_year');
SELECT * FROM settings;
CREATE UNIQUE INDEX ON by_year (year);

-- NULL keeps what is configured
SELECT pgopt_manage('by_year', 'threshold', threshold_changes => 50);
SELECT pgopt_manage('by_year', refresh_interval => '2 hours');
SELECT pgopt_manage('by_year', priority => 1);
SELECT * FROM settings;
-- by position, in capitals
SELECT pgopt_manage('by_year', 'Scheduled', '1 day', 7, 10);
SELECT * FROM settings;
-- the ends of the ranges
SELECT pgopt_manage('by_year', 'immediate', '1 second', 1, 1);
SELECT pgopt_manage('by_year', 'smart', '366 days', 1000000000000, 10);
SELECT * FROM settings;
SELECT count(*) AS views, max(managed_by) = session_user AS by_me FROM pgopt.matview;

--
-- Errors
--
\set SHOW_CONTEXT never
SELECT pgopt_manage('bill');
SELECT pgopt_manage('settings');
SELECT pgopt_manage('nonesuch');
SELECT pgopt_manage(0::oid::regclass);
SELECT pgopt_manage(NULL);
SELECT pgopt_manage('by_year', 'daily');
SELECT pgopt_manage('by_year', '');
SELECT pgopt_manage('by_year', refresh_interval => '0.9 seconds');
SELECT pgopt_manage('by_year', refresh_interval => '-1 day');
SELECT pgopt_manage('by_year', refresh_interval => '367 days');
SELECT pgopt_manage('by_year', refresh_interval => '170000000 years');
SELECT pgopt_manage('by_year', threshold_changes => 0);
SELECT pgopt_manage('by_year', threshold_changes => -5);
SELECT pgopt_manage('by_year', threshold_changes => 1000000000001);
SELECT pgopt_manage('by_year', priority => 0);
SELECT pgopt_manage('by_year', priority => 11);
BEGIN READ ONLY;
SELECT pgopt_manage('by_year', 'manual');
ROLLBACK;
BEGIN READ ONLY;
SELECT pgopt_unmanage('by_year'::regclass);
ROLLBACK;
BEGIN READ ONLY;
SELECT * FROM pgopt_refresh('by_year');
ROLLBACK;
BEGIN READ ONLY;
SELECT * FROM pgopt_refresh_all();
ROLLBACK;
BEGIN READ ONLY;
SELECT * FROM pgopt_refresh_due();
ROLLBACK;
CREATE ROLE manage_stranger;
GRANT USAGE ON SCHEMA manage TO manage_stranger;
SET ROLE manage_stranger;
SELECT pgopt_manage('by_year', 'manual');
SELECT pgopt_unmanage('by_year'::regclass);
SELECT pgopt_unmanage('by_year'::text);
SELECT * FROM pgopt_refresh('by_year');
RESET ROLE;
-- their SQLSTATEs
CREATE FUNCTION sqlstate_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'none';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
SELECT statement, sqlstate_of('SELECT ' || statement)
  FROM (VALUES ($$pgopt_manage('bill')$$), ($$pgopt_manage('nonesuch')$$), ($$pgopt_manage(NULL)$$),
               ($$pgopt_manage('by_year', 'daily')$$),
               ($$pgopt_manage('by_year', refresh_interval => '0')$$),
               ($$pgopt_manage('by_year', threshold_changes => 0)$$),
               ($$pgopt_manage('by_year', priority => 0)$$),
               ($$pgopt_unmanage('manage.nonesuch'::text)$$),
               ($$pgopt_unmanage('a.b.c.d'::text)$$),
               ($$pgopt_unmanage(''::text)$$),
               ($$pgopt_refresh('bill')$$)) AS s (statement);
-- nothing of this changed anything
SELECT * FROM settings;

-- rolled back
BEGIN;
SELECT pgopt_unmanage('by_year'::regclass);
SELECT count(*) FROM settings;
ROLLBACK;
SELECT count(*) FROM settings;

-- not managed
CREATE MATERIALIZED VIEW stray AS SELECT 1 AS one;
SELECT * FROM pgopt_refresh('stray');
SELECT pgopt_unmanage('stray'::regclass);
SELECT pgopt_unmanage('stray');

--
-- Advice: the key is what the query groups by; without one the user has to know
--
CREATE MATERIALIZED VIEW "Odd name" AS SELECT DISTINCT year AS "Ano", title FROM bill;
CREATE MATERIALIZED VIEW no_key AS SELECT year, title FROM bill;
CREATE MATERIALIZED VIEW hidden_key AS SELECT count(*) FROM bill GROUP BY year;
SELECT pgopt_manage('"Odd name"', 'manual');
SELECT pgopt_manage('no_key', 'manual');
SELECT pgopt_manage('hidden_key', 'manual');
-- indexes that REFRESH CONCURRENTLY cannot use are none
CREATE UNIQUE INDEX ON no_key (title) WHERE year > 2000;
CREATE UNIQUE INDEX ON no_key (lower(title));
CREATE INDEX ON no_key (year);
SELECT view, advice FROM pgopt_matviews ORDER BY view::text COLLATE "C";
CREATE UNIQUE INDEX ON no_key (year, title);
SELECT view, advice FROM pgopt_matviews WHERE view = 'no_key'::regclass;
SELECT count(pgopt_unmanage(view)) FROM pgopt_matviews WHERE view <> 'by_year'::regclass;

--
-- Names change, the view stays managed
--
SELECT outcome FROM pgopt_refresh('by_year');
ALTER MATERIALIZED VIEW by_year RENAME TO per_year;
SELECT view, strategy, state FROM pgopt_matviews;
ALTER MATERIALIZED VIEW per_year SET SCHEMA manage_other;
SELECT view, strategy, state FROM pgopt_matviews;
ALTER MATERIALIZED VIEW manage_other.per_year OWNER TO manage_stranger;
GRANT USAGE ON SCHEMA manage_other TO manage_stranger;
GRANT SELECT ON bill TO manage_stranger;
GRANT CREATE ON SCHEMA manage_other TO manage_stranger;
SET ROLE manage_stranger;
SELECT pgopt_manage('manage_other.per_year', priority => 3);
SELECT outcome FROM pgopt_refresh('manage_other.per_year');
RESET ROLE;
SELECT view, strategy, priority, state, fresh FROM pgopt_matviews;
ALTER MATERIALIZED VIEW manage_other.per_year OWNER TO CURRENT_USER;
ALTER MATERIALIZED VIEW manage_other.per_year SET SCHEMA manage;
ALTER MATERIALIZED VIEW per_year RENAME TO by_year;
SELECT view, strategy, priority FROM pgopt_matviews;

-- with a new definition: dropped and created again it is still managed, and no longer fresh
SELECT pgopt_manage('by_year', 'manual', '3 hours', 30, 3);
DROP MATERIALIZED VIEW by_year;
SELECT state, fresh, pending_changes, reason ~ 'does not exist; create it again' AS says_why FROM pgopt_matviews;
CREATE MATERIALIZED VIEW by_year AS SELECT year, count(*) AS bills, max(title) AS last FROM bill GROUP BY year;
CALL await($$ NOT EXISTS (SELECT FROM pgopt_matviews WHERE state = 'missing') $$);
SELECT view, strategy, refresh_interval, threshold_changes, priority, state, fresh FROM pgopt_matviews;
SELECT outcome FROM pgopt_refresh('by_year');
SELECT view, fresh FROM pgopt_matviews;

-- dropped for good
DROP MATERIALIZED VIEW by_year;
SELECT state, fresh FROM pgopt_matviews;
SELECT pgopt_unmanage('manage_other.by_year'::text);
SET ROLE manage_stranger;
SELECT pgopt_unmanage('manage.by_year'::text);
RESET ROLE;
SELECT pgopt_unmanage('manage.by_year');
SELECT count(*) FROM pgopt_matviews;

-- a view that lost its data is shown so
CREATE MATERIALIZED VIEW empty AS SELECT count(*) FROM bill WITH NO DATA;
SET client_min_messages = warning;
SELECT pgopt_manage('empty', 'manual');
SELECT view, fresh, staleness, reason FROM pgopt_matviews;
SELECT outcome, mode FROM pgopt_refresh('empty');
SELECT view, fresh, staleness, reason FROM pgopt_matviews;
REFRESH MATERIALIZED VIEW empty WITH NO DATA;
SELECT view, fresh, staleness > 0.69 AS overdue, reason FROM pgopt_matviews;

DROP SCHEMA manage, manage_other CASCADE;
DROP EXTENSION pgopt;
DROP ROLE manage_stranger;
ALTER SYSTEM RESET pgopt.auto_refresh;
SELECT pg_reload_conf();
