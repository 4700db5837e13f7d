--
-- The workload: which statements are captured, with what, and who sees it.
--
SET client_min_messages = warning; CREATE EXTENSION IF NOT EXISTS pgopt; RESET client_min_messages;

CREATE TABLE workload_bill (id int PRIMARY KEY, introduced date, title text, price numeric, tags text[], note jsonb);
INSERT INTO workload_bill
	SELECT i, date '2020-01-01' + i % 500, 'PL ' || i, i, ARRAY['a' || i % 3], jsonb_build_object('n', i)
	  FROM generate_series(1, 1000) i;
ANALYZE workload_bill;
SELECT pgopt_workload_reset();

-- what is known of statements on our tables
CREATE VIEW workload_seen AS
	SELECT calls, rows, samples, captured, query FROM pgopt_workload()
	 WHERE query ~ 'workload_bill' AND query !~ 'pgopt' ORDER BY query COLLATE "C";
-- and their samples
CREATE VIEW workload_values AS
	SELECT s.query, s.parameters, s.rows, s.duration_ms >= 0 AS timed
	  FROM pgopt_workload() w, pgopt_workload_samples(w.queryid) s
	 WHERE w.query ~ 'workload_bill' AND w.query !~ 'pgopt'
	 ORDER BY s.query COLLATE "C", s.parameters::text COLLATE "C", s.rows;

--
-- Texts are kept as they were sent, with their constants
--
SELECT count(*) FROM workload_bill WHERE introduced = date '2020-02-03';
SELECT count(*) FROM workload_bill WHERE introduced > now() - interval '3 days';
SELECT title /* a comment */ FROM workload_bill WHERE id = 7; -- another
SELECT title FROM workload_bill WHERE id = 8;
SELECT title FROM workload_bill WHERE id = 9;
UPDATE workload_bill SET price = price + 1 WHERE id IN (1, 2);
DELETE FROM workload_bill WHERE id = 1000;
WITH w AS (SELECT * FROM workload_bill WHERE price > 995) SELECT count(*) FROM w;
SELECT 1 AS first \; SELECT id FROM workload_bill WHERE title = 'PL 5' \; SELECT 3 AS third;
-- what reads no table, or the server's catalogs only, is left out, as are utility statements
SELECT 1;
SELECT count(*) > 0 FROM pg_class;
VACUUM workload_bill;
-- so is what pgopt's own tables are asked
SELECT count(*) >= 0 FROM pgopt.refresh_log;
-- plans that are not executed do not count
EXPLAIN (COSTS OFF) SELECT * FROM workload_bill WHERE id = 44;
SELECT * FROM workload_seen;
SELECT * FROM workload_values;

-- written to the tables it says the same
SELECT pgopt.workload_flush();
SELECT * FROM workload_seen;
SELECT * FROM workload_values;
SELECT sum(h.calls) AS calls, bool_and(h.milliseconds > 0 AND h.squares > 0 AND h.period_start <= h.period_end) AS sound
  FROM pgopt.workload_statements s JOIN pgopt.workload_history h USING (queryid, userid)
 WHERE s.query ~ 'workload_bill';
-- and goes on counting
SELECT title FROM workload_bill WHERE id = 10;
SELECT calls, samples FROM workload_seen WHERE query ~ 'WHERE id = 7';

--
-- Parameters
--
SELECT pgopt_workload_reset();
PREPARE workload_p (int, text, date) AS SELECT title FROM workload_bill WHERE id = $1 AND title = $2 AND introduced < $3;
EXECUTE workload_p (5, 'PL 5', '2021-01-01');
EXECUTE workload_p (6, NULL, '2021-01-01');
EXECUTE workload_p (7, 'x', '2021-01-01');
EXECUTE workload_p (8, $$it's "quoted" \$$, '2021-01-01');
DEALLOCATE workload_p;
-- long ones are unknown; so are those of types whose output may be anybody's function
PREPARE workload_p (text, numeric[], workload_bill) AS
	SELECT count(*) FROM workload_bill b WHERE title = $1 AND price = ANY ($2) AND b <> $3;
EXECUTE workload_p (repeat('x', 2000), '{1,2}', NULL);
EXECUTE workload_p ('y', '{3}', ROW(1, NULL, NULL, NULL, NULL, NULL));
DEALLOCATE workload_p;
SELECT * FROM workload_seen;
SELECT * FROM workload_values;

--
-- Statements in functions: with parameters where the text names variables
--
SELECT pgopt_workload_reset();
DO $$
DECLARE
	wanted int := 3;
	found text;
	many bigint;
	bill workload_bill;
BEGIN
	FOR i IN 1..3 LOOP
		SELECT title INTO found FROM workload_bill WHERE id = wanted + i;
	END LOOP;
	many := (SELECT count(*) FROM workload_bill WHERE title = found);
	IF EXISTS (SELECT FROM workload_bill WHERE price = many) THEN
		PERFORM 1 FROM workload_bill WHERE price < many;
	END IF;
	EXECUTE 'SELECT count(*) FROM workload_bill WHERE id < $1' INTO many USING wanted;
	EXECUTE 'SELECT count(*) FROM workload_bill WHERE id > 990' INTO many;
	SELECT * INTO bill FROM workload_bill WHERE id = 4;
	UPDATE workload_bill SET note = bill.note WHERE id = bill.id;
	FOR found IN SELECT title FROM workload_bill WHERE id < wanted LOOP
		NULL;
	END LOOP;
END $$;
CREATE FUNCTION workload_f(a int, low date) RETURNS bigint LANGUAGE sql AS
	'UPDATE workload_bill SET price = 0 WHERE id = -a; SELECT count(*) FROM workload_bill WHERE id > a AND introduced > low';
SELECT workload_f(990, '2020-01-05');
SELECT * FROM workload_seen;
SELECT * FROM workload_values;

--
-- Statements within others
--
SELECT pgopt_workload_reset();
BEGIN;
DECLARE workload_c CURSOR FOR SELECT id FROM workload_bill WHERE title > 'PL 99' ORDER BY id;
FETCH 2 FROM workload_c;
FETCH 2 FROM workload_c;
-- nothing is fetched from this one
DECLARE workload_d CURSOR FOR SELECT id FROM workload_bill WHERE title > 'PL 98';
COMMIT;
CREATE TABLE workload_copy AS SELECT id AS a FROM workload_bill WHERE id < 10;
SELECT id AS b INTO workload_copy2 FROM workload_bill WHERE id < 11;
COPY (SELECT id AS c FROM workload_bill WHERE id = 99) TO STDOUT;
DO $$ BEGIN EXECUTE 'EXPLAIN (ANALYZE) SELECT id AS d FROM workload_bill WHERE id < 0'; END $$;
SELECT calls, samples, captured, query FROM workload_seen;
DROP TABLE workload_copy, workload_copy2;

--
-- What fails is not counted, and what is captured harms nobody
--
SELECT pgopt_workload_reset();
\set VERBOSITY terse
SELECT 1 / (id - 5) FROM workload_bill WHERE id = 5;
SET statement_timeout = '20ms';
SELECT pg_sleep(10) FROM workload_bill WHERE id = 6;
RESET statement_timeout;
BEGIN;
SAVEPOINT s;
SELECT count(*) AS before FROM workload_bill WHERE id = 11;
SELECT 1 / (id - 5) FROM workload_bill WHERE id = 5;
ROLLBACK TO s;
SELECT count(*) AS after FROM workload_bill WHERE id = 12;
ROLLBACK;
\set VERBOSITY default
-- parallel plans are counted once
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
SELECT count(*) AS parallel FROM workload_bill WHERE price > 10;
CREATE FUNCTION workload_g(a int) RETURNS int LANGUAGE plpgsql PARALLEL SAFE STABLE AS
	$$ BEGIN RETURN (SELECT min(id) FROM workload_bill WHERE id >= a); END $$;
SELECT count(DISTINCT workload_g(id)) AS nested FROM workload_bill WHERE price > 20;
RESET parallel_setup_cost; RESET parallel_tuple_cost; RESET min_parallel_table_scan_size;
SELECT calls, samples > 0 AS sampled, query FROM workload_seen WHERE query !~ 'min\(id\)';
SELECT samples_failed FROM pgopt_workload_status();

--
-- Long texts are counted, not kept
--
SELECT pgopt_workload_reset();
DO $$ BEGIN EXECUTE 'SELECT count(*) AS ' || repeat(' ', 70000) || 'long FROM workload_bill'; END $$;
SELECT w.calls, w.samples, w.captured, w.query FROM pgopt_workload() w
 WHERE w.query IS NULL AND w.rows = 1;
SELECT samples_too_long > 0 AS some FROM pgopt_workload_status();

--
-- Many executions, few samples
--
SELECT pgopt_workload_reset();
DO $$ BEGIN
	FOR i IN 1..100 LOOP
		EXECUTE 'SELECT count(*) FROM workload_bill WHERE id = ' || i;
	END LOOP;
END $$;
SELECT pgopt.workload_flush();
SELECT calls, samples BETWEEN 5 AND 8 AS few FROM workload_seen;

--
-- Slow ones are kept with their plans
--
SELECT pgopt_workload_reset();
SET pgopt.workload_slow = '20ms';
DO $$ BEGIN
	FOR i IN 1..4 LOOP
		PERFORM pg_sleep(0.025) FROM workload_bill WHERE id = 3;
	END LOOP;
END $$;
RESET pgopt.workload_slow;
SELECT calls, captured FROM workload_seen;
SELECT has_plan FROM pgopt_workload() w, pgopt_workload_samples(w.queryid) WHERE has_plan;
SELECT pgopt.workload_flush();
SELECT round((plan::json -> 0 -> 'Plan' ->> 'Actual Rows')::numeric) AS rows FROM pgopt.workload_samples WHERE plan IS NOT NULL;

--
-- Periods: an index ends one
--
SELECT pgopt_workload_reset();
SELECT count(*) AS period FROM workload_bill WHERE price = 3;
CREATE INDEX workload_price ON workload_bill (price);
SELECT count(*) AS period FROM workload_bill WHERE price = 4;
SELECT count(*) AS period FROM workload_bill WHERE price = 5;
-- one that others never see does not
CREATE TEMP TABLE workload_temp AS SELECT 1 AS a;
CREATE INDEX ON workload_temp (a);
BEGIN;
DROP INDEX workload_price;
ROLLBACK;
SELECT count(*) AS period FROM workload_bill WHERE price = 6;
DROP INDEX workload_price;
SELECT pgopt.workload_flush();
SELECT count(*) AS period FROM workload_bill WHERE price = 7;
SELECT pgopt.workload_flush();
SELECT calls FROM pgopt.workload_history h JOIN pgopt.workload_statements s USING (queryid, userid)
 WHERE s.query ~ 'AS period' ORDER BY period_start;
DROP TABLE workload_temp;

--
-- A part of the executions stands for all
--
SELECT pgopt_workload_reset();
SET pgopt.workload_sample_rate = 0.2;
DO $$ BEGIN
	FOR i IN 1..2000 LOOP
		PERFORM count(*) FROM workload_bill WHERE id = 1;
	END LOOP;
END $$;
RESET pgopt.workload_sample_rate;
SELECT calls BETWEEN 1500 AND 2500 AS about, calls % 5 AS by_five FROM workload_seen;

--
-- Off
--
SELECT pgopt_workload_reset();
SET pgopt.workload_capture = off;
SELECT count(*) FROM workload_bill WHERE id = 1;
SELECT capturing, reason FROM pgopt_workload_status();
RESET pgopt.workload_capture;
SELECT count(*) FROM workload_seen;
SET compute_query_id = off;
SELECT count(*) FROM workload_bill WHERE id = 1;
SELECT capturing, reason FROM pgopt_workload_status();
RESET compute_query_id;
SELECT count(*) FROM workload_seen;

--
-- Without constants
--
SET pgopt.workload_capture_constants = off;
SELECT count(*) FROM workload_bill WHERE introduced = date '2020-02-03' AND title = 'a secret';
SELECT title || 'a secret' AS t, count(*) FROM workload_bill WHERE price IS NULL GROUP BY title || 'a secret';
INSERT INTO workload_bill VALUES (2000, '2020-02-03', 'a secret', 1234.5, '{secret}', '{"a": "secret"}');
SELECT id, price::numeric(10, 1), 'a secret'::varchar(20) FROM workload_bill WHERE id = 2000 AND price IS NOT NULL OR title IN ('a secret', 'b secret');
PREPARE workload_p (text) AS SELECT id FROM workload_bill WHERE title = $1 AND title <> 'b secret';
EXECUTE workload_p ('a secret');
DEALLOCATE workload_p;
DO $$ DECLARE secret text := 'a secret'; BEGIN PERFORM FROM workload_bill WHERE title = secret AND title <> 'b secret'; END $$;
SET pgopt.workload_slow = '1ms';
DO $$ BEGIN FOR i IN 1..4 LOOP EXECUTE 'SELECT pg_sleep(0.002) FROM workload_bill WHERE id = 3 AND title <> ''a secret'''; END LOOP; END $$;
RESET pgopt.workload_slow;
SELECT * FROM workload_seen WHERE query !~ 'workload_seen';
SELECT query, parameters FROM workload_values;
SELECT pgopt.workload_flush();
SELECT count(*) FROM pgopt.workload_statements WHERE query ~ 'secret''|secret"|2020|1234';
SELECT count(*) FROM pgopt.workload_samples;
SELECT query FROM workload_seen WHERE query ~ 'introduced' AND query ~ 'count';
RESET pgopt.workload_capture_constants;

--
-- Who sees it
--
CREATE ROLE workload_nobody;
CREATE ROLE workload_reader IN ROLE pg_read_all_stats;
SELECT pgopt_workload_reset();
GRANT SELECT ON workload_bill TO workload_nobody;
\set SHOW_CONTEXT never
SET ROLE workload_nobody;
SELECT count(*) AS mine FROM workload_bill WHERE id = 1;
SELECT count(*) FROM pgopt_workload();
SELECT count(*) FROM pgopt_workload_samples(1);
SELECT pgopt_workload_status() IS NULL;
SELECT pgopt_workload_reset();
SELECT pgopt.workload_flush();
SELECT count(*) FROM pgopt.workload_samples;
SELECT count(*) FROM pgopt.workload_statements;
SELECT count(*) FROM pgopt.workload_history;
SET pgopt.workload_capture = off;
SET ROLE workload_reader;
SELECT username, calls, query FROM pgopt_workload() WHERE query ~ 'AS mine';
SELECT count(*) FROM pgopt.workload_samples;
SELECT pgopt_workload_reset();
RESET ROLE;
-- statements of those who are gone are left out
REVOKE ALL ON workload_bill FROM workload_nobody;
DROP ROLE workload_nobody, workload_reader;
SELECT count(*) FROM workload_seen WHERE query ~ 'AS mine';

--
-- Forgotten
--
SELECT pgopt_workload_reset();
SELECT count(*) FROM workload_seen;
SELECT count(*) FROM pgopt.workload_samples;

DROP VIEW workload_seen, workload_values;
DROP FUNCTION workload_f(int, date), workload_g(int);
DROP TABLE workload_bill;
