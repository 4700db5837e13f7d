--
-- pgopt_index_verdicts(): what an index did to the statements on its table.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgopt;
RESET client_min_messages;

CREATE SCHEMA verdict;
SET search_path = verdict, public;
SET max_parallel_workers_per_gather = 0;
SET jit = off;
SELECT pgopt_workload_reset();
CREATE VIEW judged AS
	SELECT v.* FROM public.pgopt_index_verdicts() v JOIN pg_class c ON c.oid = v.table_name
	 WHERE c.relnamespace = 'verdict'::regnamespace;
CREATE VIEW captured AS
	SELECT h.* FROM pgopt.workload_history h JOIN pgopt.workload_statements USING (queryid, userid) WHERE query ~ '^SELECT .* FROM act WHERE';
CREATE TABLE given (queryid bigint, userid oid, period_start timestamptz, PRIMARY KEY (queryid, userid, period_start));
-- until so many executions of this test's statements were written; what each of the new ones took on average is given
-- then, since what it really took depends on the machine
CREATE PROCEDURE flush(executions int, mean float8) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..1500 LOOP
		PERFORM pgopt.workload_flush();
		COMMIT;
		EXIT WHEN (SELECT sum(calls) FROM captured) >= executions;
		PERFORM pg_sleep(0.02);
	END LOOP;
	WITH fresh AS (
		INSERT INTO given SELECT queryid, userid, period_start FROM captured ON CONFLICT DO NOTHING RETURNING *)
	UPDATE pgopt.workload_history h SET milliseconds = calls * mean, squares = calls * mean ^ 2 * 1.1
	  FROM fresh f WHERE (h.queryid, h.userid, h.period_start) = (f.queryid, f.userid, f.period_start);
END $$;

--
-- Statements that are run: an index that helps, and one that does not
--
CREATE TABLE act (id int, kind int, subject int, body text) WITH (autovacuum_enabled = off);
-- those of kind 9 have the highest numbers, and no number lies near the next
INSERT INTO act SELECT i, i / 5000, i % 977, repeat('x', 60) FROM generate_series(0, 49999) i ORDER BY hashint4(i);
ANALYZE act;
\set ECHO none
\o /dev/null
SELECT 'SELECT count(*) FROM act WHERE subject = ' || i FROM generate_series(1, 30) i \gexec
SELECT 'SELECT id FROM act WHERE kind = 9 ORDER BY id LIMIT ' || i FROM generate_series(1, 30) i \gexec
CALL flush(60, 20);
\o
\set ECHO all
-- the definition is what counts, not the name
INSERT INTO pgopt.index_advice (definition, ddl, table_oid, size_bytes, queryids, cost_before, cost_after)
	VALUES ('verdict.act USING btree (subject)', 'CREATE INDEX CONCURRENTLY act_subject_idx ON verdict.act USING btree (subject)',
	        'act'::regclass, 0, '{}', 1, 1);
CREATE INDEX "another name" ON act (subject);
\set ECHO none
\o /dev/null
SELECT 'SELECT count(*) FROM act WHERE subject = ' || i FROM generate_series(1, 30) i \gexec
CALL flush(90, 2);
\o
\set ECHO all
SELECT index_name, table_name, advised, verdict, ratio < 0.5 AS much, index_verdict, revert
  FROM judged WHERE calls_after = 30;
SELECT index_name, verdict, calls_before, calls_after FROM judged WHERE verdict = 'too few' AND calls_before = 30;
SELECT created_at BETWEEN now() - interval '1 hour' AND now() AS created, size_bytes = pg_relation_size(index_name) AS size
  FROM judged WHERE verdict = 'faster';
SELECT reason ~ '^[0-9.]+ m?s a call on average before \(30 calls\), [0-9.]+ m?s since \(30 calls\); of the index: of 1 statements' AS reason
  FROM judged WHERE verdict = 'faster';
-- the planner takes rows of a kind for spread over all numbers
INSERT INTO pgopt.index_advice (definition, ddl, table_oid, size_bytes, queryids, cost_before, cost_after)
	VALUES ('verdict.act USING btree (id)', 'CREATE INDEX CONCURRENTLY act_id_idx ON verdict.act USING btree (id)', 'act'::regclass, 0, '{}', 1, 1);
CREATE INDEX act_by_id ON act (id);
EXPLAIN (COSTS OFF) SELECT id FROM act WHERE kind = 9 ORDER BY id LIMIT 1;
\set ECHO none
\o /dev/null
SELECT 'SELECT id FROM act WHERE kind = 9 ORDER BY id LIMIT ' || i FROM generate_series(1, 30) i \gexec
CALL flush(120, 40);
\o
\set ECHO all
SELECT index_name, advised, verdict, ratio > 1.1 AS slower, index_verdict, revert
  FROM judged WHERE index_name = 'act_by_id'::regclass AND calls_after >= 30 AND calls_before >= 30;
SELECT severity, object, message ~ 'was made on advice, of [0-9]+ statements that could be compared' AS message, remedy, remedy_lock
  FROM pgopt_findings() WHERE check_id = 'index_verdict_slower' AND object ~ 'act_by_id';
SELECT DISTINCT revert FROM judged WHERE index_name = 'act_by_id'::regclass AND revert IS NOT NULL \gexec
SELECT count(*) FROM judged WHERE index_name::text = 'act_by_id';
SELECT count(*) FROM pgopt_findings() WHERE check_id = 'index_verdict_slower' AND object ~ 'act_by_id';

--
-- The arithmetic, on numbers that are given
--
-- executions of a statement in an hour before an index of its table, or after: so many, of a mean and a standard deviation
CREATE FUNCTION ran(statement bigint, index regclass, after boolean, calls int, mean float8, deviation float8) RETURNS void
BEGIN ATOMIC
	INSERT INTO pgopt.workload_history
	SELECT $1, (SELECT oid FROM pg_roles WHERE rolname = current_user),
	       created + CASE WHEN after THEN 1 ELSE -1 END * interval '1 hour',
	       created + CASE WHEN after THEN 1 ELSE -1 END * interval '1 hour' + interval '1 minute',
	       calls, calls * mean, calls * mean ^ 2 + (calls - 1) * deviation ^ 2, calls
	  FROM (SELECT (pg_stat_file(pg_relation_filepath($2))).modification AS created) f;
END;
CREATE FUNCTION known(statement bigint, command int, query text) RETURNS void
BEGIN ATOMIC
	INSERT INTO pgopt.workload_statements (queryid, userid, command, first_seen, query, search_path, template, param_types)
	SELECT $1, (SELECT oid FROM pg_roles WHERE rolname = current_user), $2, now(), $3, 'verdict', false, '{}';
END;
CREATE TABLE bill (id int PRIMARY KEY, author int, state int, votes int, parent int);
CREATE TABLE other (id int PRIMARY KEY);
CREATE VIEW open_bill AS SELECT * FROM bill WHERE state = 1;
CREATE INDEX bill_author ON bill (author);
SELECT known(101, 1, 'SELECT id FROM bill WHERE author = 5'), known(102, 1, 'SELECT count(*) FROM bill'),
       known(103, 1, 'SELECT votes FROM open_bill WHERE id < 7'), known(104, 3, 'INSERT INTO bill VALUES (1, 2, 3, 4)'),
       known(105, 2, 'UPDATE bill SET votes = 1 WHERE id = 2'), known(106, 1, 'SELECT max(id) FROM bill'),
       known(107, 1, 'SELECT 1 FROM other'), known(108, 1, 'SELECT id FROM bill WHERE no_such_column = 1'),
       known(109, 1, 'SELECT min(id) FROM bill'), known(110, 1, 'SELECT avg(id) FROM bill');
-- faster, beyond doubt
SELECT ran(101, 'bill_author', false, 100, 20, 5), ran(101, 'bill_author', true, 50, 2, 1);
-- sure, but less than 10 %
SELECT ran(102, 'bill_author', false, 10000, 10, 1), ran(102, 'bill_author', true, 10000, 9.2, 1);
-- much, but not sure
SELECT ran(103, 'bill_author', false, 6, 10, 9), ran(103, 'bill_author', true, 6, 15, 9);
-- writers: one pays
SELECT ran(104, 'bill_author', false, 1000, 0.10, 0.02), ran(104, 'bill_author', true, 1000, 0.15, 0.02);
SELECT ran(105, 'bill_author', false, 1000, 0.10, 0.02), ran(105, 'bill_author', true, 1000, 0.10, 0.02);
-- too few
SELECT ran(106, 'bill_author', false, 4, 10, 1), ran(106, 'bill_author', true, 1000, 1, 1);
-- another table, and one that cannot be planned any more
SELECT ran(107, 'bill_author', false, 100, 1, 0.1), ran(107, 'bill_author', true, 100, 9, 0.1);
SELECT ran(108, 'bill_author', false, 100, 1, 0.1), ran(108, 'bill_author', true, 100, 9, 0.1);
-- constant times are sure enough
SELECT ran(109, 'bill_author', false, 5, 10, 0), ran(109, 'bill_author', true, 5, 5, 0);
SELECT ran(110, 'bill_author', false, 5, 10, 0), ran(110, 'bill_author', true, 5, 10, 0);
SELECT queryid, calls_before, round(mean_ms_before::numeric, 3) AS before, calls_after, round(mean_ms_after::numeric, 3) AS after,
       round(ratio::numeric, 2) AS ratio, verdict, index_verdict, revert, advised
  FROM judged WHERE index_name = 'bill_author'::regclass ORDER BY queryid;
SELECT queryid, reason FROM judged WHERE index_name = 'bill_author'::regclass AND queryid IN (104, 106) ORDER BY queryid;
-- a statement that reads and got slower outweighs what others save
SELECT known(111, 1, 'SELECT sum(id) FROM bill'), ran(111, 'bill_author', false, 100, 1, 0.1), ran(111, 'bill_author', true, 100, 1.5, 0.1);
SELECT DISTINCT index_verdict, revert FROM judged WHERE index_name = 'bill_author'::regclass;
-- so do writes that lose more than is saved
DELETE FROM pgopt.workload_history WHERE queryid IN (101, 109, 111);
SELECT DISTINCT index_verdict, revert FROM judged WHERE index_name = 'bill_author'::regclass;
-- no difference, and nobody used it
DELETE FROM pgopt.workload_history WHERE queryid = 104;
SELECT DISTINCT index_verdict, revert FROM judged WHERE index_name = 'bill_author'::regclass;
DELETE FROM pgopt.workload_history WHERE queryid < 200 AND queryid <> 106;
SELECT DISTINCT index_verdict, revert FROM judged WHERE index_name = 'bill_author'::regclass;
-- what is there for more than queries is not taken back
CREATE UNIQUE INDEX bill_votes ON bill (votes);
SELECT known(112, 1, 'SELECT id FROM bill WHERE votes = 1'), ran(112, 'bill_votes', false, 100, 1, 0.1), ran(112, 'bill_votes', true, 100, 3, 0.1);
SELECT queryid, verdict, index_verdict, revert FROM judged WHERE index_name = 'bill_votes'::regclass AND queryid = 112;

--
-- Who may look
--
CREATE ROLE verdict_stats IN ROLE pg_read_all_stats;
CREATE ROLE verdict_nobody;
SET ROLE verdict_stats;
SELECT count(*) > 0 AS some FROM public.pgopt_index_verdicts();
SELECT count(*) FROM pgopt.index_advice;
SET ROLE verdict_nobody;
SELECT count(*) FROM public.pgopt_index_verdicts();
RESET ROLE;
DROP ROLE verdict_stats, verdict_nobody;
DELETE FROM pgopt.index_advice;
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA verdict CASCADE;
SELECT pgopt_workload_reset();
DROP EXTENSION pgopt;
