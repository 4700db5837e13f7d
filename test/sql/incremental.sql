-- Incremental refresh: what users configure, which way a refresh takes, and why.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgopt;
RESET client_min_messages;
CREATE SCHEMA inc;
SET search_path = inc, public;

CREATE TABLE bills (id int PRIMARY KEY, state text, pages int, kind text);
INSERT INTO bills SELECT i, (ARRAY['SP', 'RJ', 'MG', NULL])[1 + i % 4], i % 50, 'pl' FROM generate_series(1, 200) i;
CREATE MATERIALIZED VIEW by_state AS
	SELECT state, count(*) AS bills, sum(pages) AS pages, max(pages) AS longest FROM bills GROUP BY state;
CREATE UNIQUE INDEX ON by_state (state);
CREATE MATERIALIZED VIEW long_bills AS SELECT id, state, pages FROM bills WHERE pages > 40;
CREATE UNIQUE INDEX ON long_bills (id);
CREATE MATERIALIZED VIEW of_views AS SELECT bills % 2 AS odd, sum(pages) AS pages FROM by_state GROUP BY 1;

-- one refresh; its way, and whether the view shows what its query gives
CREATE FUNCTION refreshed(view regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	way text;
	differences bigint;
BEGIN
	SELECT r.mode INTO way FROM pgopt_refresh(view) r WHERE r.view = refreshed.view;
	EXECUTE format('WITH d AS (%s) SELECT count(*) FROM ((TABLE d EXCEPT ALL TABLE %s) UNION ALL (TABLE %2$s EXCEPT ALL TABLE d)) x',
		rtrim(pg_get_viewdef(view), ';'), view) INTO differences;
	RETURN way || CASE WHEN differences > 0 THEN ', ' || differences || ' differences' ELSE '' END;
END $$;
CREATE VIEW reasons AS
	SELECT view, incremental, last_mode, incremental_reason FROM pgopt_matviews ORDER BY view::text;

-- what is configured
SELECT pgopt_manage('by_state', 'manual', incremental => 'sometimes');
SELECT pgopt_manage('by_state', 'manual');
SELECT * FROM reasons;
SELECT pgopt_manage('by_state', incremental => 'always');
SELECT pgopt_manage('long_bills', 'manual', incremental => 'auto');
SELECT pgopt_manage('of_views', 'manual', incremental => 'AUTO');
SELECT * FROM reasons;
-- auto decides by time, so that this test does not use it
SELECT pgopt_manage('long_bills', incremental => 'always'), pgopt_manage('of_views', incremental => 'always');

-- the first refresh computes all, the next ones what changed
SELECT refreshed('by_state'), refreshed('long_bills'), refreshed('of_views');
UPDATE bills SET pages = pages + 1 WHERE id = 7;
SELECT refreshed('by_state'), refreshed('long_bills'), refreshed('of_views');
DELETE FROM bills WHERE state IS NULL;
INSERT INTO bills VALUES (1001, 'AC', 77, 'pec'), (1002, 'AC', NULL, 'pec');
SELECT refreshed('by_state'), refreshed('long_bills'), refreshed('of_views');
SELECT refreshed('by_state'), refreshed('long_bills'), refreshed('of_views');
SELECT * FROM by_state ORDER BY state;

-- an UPDATE of what no view reads is not logged
UPDATE bills SET kind = 'x';
SELECT part, way, reason FROM pgopt_explain_refresh('long_bills') LIMIT 1;
SELECT refreshed('by_state');

-- what somebody else did to the view or to what it reads: all is computed, and then changes again
REFRESH MATERIALIZED VIEW by_state;
SELECT refreshed('by_state');
SELECT refreshed('by_state');
REFRESH MATERIALIZED VIEW CONCURRENTLY long_bills;
SELECT refreshed('long_bills');
UPDATE bills SET pages = 45 WHERE id < 4;
SELECT refreshed('long_bills');
ALTER TABLE bills ADD COLUMN note text;
UPDATE bills SET pages = 46 WHERE id < 4;
SELECT refreshed('by_state'), refreshed('long_bills');
UPDATE bills SET pages = 47 WHERE id < 4;
SELECT refreshed('by_state'), refreshed('long_bills');
TRUNCATE bills;
INSERT INTO bills SELECT i, 'SP', i, 'pl' FROM generate_series(1, 60) i;
SELECT refreshed('by_state'), refreshed('long_bills'), refreshed('of_views');
UPDATE bills SET pages = 47 WHERE id < 4;
SELECT refreshed('by_state'), refreshed('long_bills'), refreshed('of_views');
ALTER TABLE bills DISABLE TRIGGER ALL;
UPDATE bills SET pages = 3 WHERE id < 4;
ALTER TABLE bills ENABLE TRIGGER ALL;
SELECT refreshed('by_state'), refreshed('long_bills');
SELECT * FROM reasons WHERE view = 'by_state'::regclass;
SELECT pgopt_manage('by_state', incremental => 'always');
SELECT refreshed('by_state'), refreshed('long_bills');

-- a transaction that changed a table itself; what it does after the refresh is not lost
BEGIN;
UPDATE bills SET pages = 48 WHERE id = 10;
SELECT refreshed('by_state');
UPDATE bills SET pages = 49 WHERE id = 10;
COMMIT;
SELECT * FROM reasons WHERE view = 'by_state'::regclass;
SELECT refreshed('by_state');
SELECT refreshed('by_state');
BEGIN;
SELECT refreshed('by_state');
UPDATE bills SET pages = 51 WHERE id = 10;
COMMIT;
SELECT refreshed('by_state');

-- a refresh that is rolled back consumed nothing
UPDATE bills SET pages = 52 WHERE id = 10;
BEGIN;
SELECT refreshed('by_state');
ROLLBACK;
SELECT refreshed('by_state');

-- a view that cannot
CREATE MATERIALIZED VIEW top AS SELECT id FROM bills ORDER BY pages DESC LIMIT 3;
SELECT pgopt_manage('top', 'manual', incremental => 'always');
SET client_min_messages = error;
SELECT pgopt_manage('top', 'manual', incremental => 'auto');
RESET client_min_messages;
SELECT refreshed('top');
SELECT * FROM reasons WHERE view = 'top'::regclass;
SELECT part, way, reason, hint FROM pgopt_explain_refresh('top');

-- explained
SELECT part, way, reason, hint FROM pgopt_explain_refresh('by_state') WHERE part <> 'instead';
SELECT part, way FROM pgopt_explain_refresh('of_views') WHERE part <> 'instead';
SELECT pgopt_explain_refresh('bills');
SELECT view, log_bytes > 0 AS has_log, state_bytes > 0 AS has_state FROM pgopt_matviews ORDER BY view::text;

-- never again: nothing stays behind
SELECT pgopt_manage('by_state', incremental => 'never'), pgopt_unmanage('long_bills'), pgopt_unmanage('of_views'), pgopt_unmanage('top');
SELECT refreshed('by_state');
SELECT count(*) FROM pgopt.incremental_state;
SELECT relname FROM pg_class WHERE relnamespace = 'pgopt'::regnamespace AND relname ~ '^(groups|values)_' ORDER BY 1;

SET client_min_messages = warning;
RESET search_path;
DROP SCHEMA inc CASCADE;
DROP EXTENSION pgopt;
