--
-- What makes a statement slow: each problem in a small case that has it.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgopt;
RESET client_min_messages;

SET jit = off;
SET max_parallel_workers_per_gather = 0;
SET timezone = 'UTC';

CREATE SCHEMA explain_slow;
SET search_path = explain_slow, public;

CREATE TABLE agency (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE document (id int PRIMARY KEY, agency int, title text, collected timestamptz, kind text, region text, code char(8), body text);
INSERT INTO agency SELECT g, 'agency ' || g FROM generate_series(1, 200) g;
INSERT INTO document
	SELECT g, g % 200 + 1, 'Decree ' || g, '2024-01-01'::timestamptz + g * interval '10 minutes',
	       'kind ' || g % 20, 'region ' || g % 20, 'C' || g, repeat('x', 100)
	  FROM generate_series(1, 20000) g;
SELECT pg_stat_force_next_flush();
VACUUM ANALYZE agency, document;

-- the statement that was captured with that text
CREATE FUNCTION id_of(marker text) RETURNS bigint LANGUAGE sql AS $$
	SELECT queryid FROM pgopt_workload() WHERE query LIKE '%' || marker || '%' ORDER BY last_seen DESC LIMIT 1 $$;
-- what hurts, without numbers that depend on anything
CREATE FUNCTION problems(marker text, run boolean DEFAULT false)
RETURNS TABLE (problem text, "table" text, remedy text, cheaper boolean) LANGUAGE sql AS $$
	SELECT problem, evidence ->> 'table', remedy, cost_after < cost_before
	  FROM pgopt_explain_slow(id_of(marker), run) WHERE step > 0 AND problem <> 'not_reproduced' ORDER BY step $$;

--
-- The statement comes first, then what hurts
--
SELECT /* scan */ id, title FROM document WHERE agency = 17 AND region = 'region 16' AND id % 7 = 1;
SELECT step, problem, evidence ->> 'plan' AS plan, cost_after < cost_before AS cheaper, evidence ->> 'role' = current_user AS own,
       (evidence ->> 'calls')::float AS calls, share IS NULL AS no_share
  FROM pgopt_explain_slow(id_of('/* scan */')) WHERE step = 0;
SELECT problem, share > 0.9 AS most, what ~ '^sequential scan of document reads 20,000 rows to return \d' AS what, evidence ->> 'table' AS "table",
       remedy ~ '^CREATE INDEX CONCURRENTLY \S+ ON explain_slow.document ' AS remedy, cost_after < cost_before AS cheaper
  FROM pgopt_explain_slow(id_of('/* scan */')) WHERE problem = 'sequential_scan';
SELECT pgopt_explain_slow_plan(id_of('/* scan */')) ~ 'Seq Scan on document .*\n  Filter: ' AS plan;
SELECT pgopt_explain_slow_plan(id_of('/* scan */'), true) ~ 'actual time=.*rows=.*Rows Removed by Filter: 1' AS plan_of_now;
SELECT jsonb_path_query_array(j, '$.findings[*].problem') AS problems, j #>> '{plan,Plan,Node Type}' AS node, j -> 'queryid' = to_jsonb(id_of('/* scan */')) AS id
  FROM pgopt_explain_slow_json(id_of('/* scan */')) j;
-- run now, it says the same, of what really came
SELECT problem, evidence ->> 'rows_read' AS read, evidence ->> 'rows_returned' AS returned
  FROM pgopt_explain_slow(id_of('/* scan */'), true) WHERE problem = 'sequential_scan';
-- the index as printed can be made, and then nothing is wrong any more
SELECT remedy AS ddl, substring(remedy FROM 'CONCURRENTLY (\S+) ON') AS index FROM pgopt_explain_slow(id_of('/* scan */')) WHERE problem = 'sequential_scan' \gset
:ddl
SELECT * FROM problems('/* scan */');
DROP INDEX :"index";

--
-- Conditions that no index can serve as they are written
--
SELECT /* lower */ count(*) FROM document WHERE lower(title) = 'decree 77';
SELECT problem, "table", remedy, cheaper FROM problems('/* lower */') WHERE problem LIKE 'function%';
SELECT /* trunc */ count(*) FROM document WHERE date_trunc('day', collected) = '2024-02-03';
SELECT problem, "table", remedy, cheaper FROM problems('/* trunc */') WHERE problem LIKE 'function%';
SELECT /* extract */ count(*) FROM document WHERE extract(year FROM collected) = 2023;
SELECT problem, "table", remedy, cheaper FROM problems('/* extract */') WHERE problem LIKE 'function%';
SELECT /* plus */ count(*) FROM document WHERE id + 1 = 78;
SELECT problem, "table", cheaper, remedy ~ 'move the arithmetic' AS advice FROM problems('/* plus */') WHERE problem LIKE 'function%';
SELECT /* coalesce */ count(*) FROM document WHERE coalesce(agency, 0) = 7;
SELECT problem, "table", cheaper, remedy ~ 'compare agency itself' AS advice FROM problems('/* coalesce */') WHERE problem LIKE 'function%';
SELECT /* day */ count(*) FROM document WHERE collected::date = '2024-02-03';
SELECT problem, "table", remedy FROM problems('/* day */') WHERE problem LIKE 'type%';
SELECT /* numeric */ count(*) FROM document WHERE id = 77.0;
SELECT problem, "table", remedy FROM problems('/* numeric */') WHERE problem LIKE 'type%';
SELECT /* text */ count(*) FROM document WHERE id::text IN ('77', '78');
SELECT problem, "table", remedy FROM problems('/* text */') WHERE problem LIKE 'type%';
SELECT /* like */ count(*) FROM document WHERE title LIKE '%ree 777%';
SELECT problem, "table", remedy FROM problems('/* like */') WHERE problem LIKE 'leading%';
SELECT /* regex */ count(*) FROM document WHERE title ~* 'ree 777';
SELECT problem, "table" FROM problems('/* regex */') WHERE problem LIKE 'leading%';
-- none of these has such a problem: few rows are looked at, and nothing could be asked of an index
SELECT /* fine */ count(*) FROM document WHERE id = 77 AND title LIKE 'Decree%' AND lower(region) <> 'x';
SELECT /* not */ count(*) FROM document WHERE lower(region) <> 'x' AND id::text NOT LIKE '7%';
SELECT problem FROM problems('/* fine */') WHERE problem ~ 'function|cast|leading';
SELECT problem FROM problems('/* not */') WHERE problem ~ 'function|cast|leading';

--
-- Memory
--
SET work_mem = '256kB';
SELECT /* sort */ count(*) FROM (SELECT title, body FROM document ORDER BY title OFFSET 0) s;
SELECT problem FROM problems('/* sort */') WHERE problem LIKE '%spilled';
SELECT problem, remedy AS set_sort FROM problems('/* sort */', true) WHERE problem LIKE '%spilled' \gset
SELECT /* join */ count(*) FROM document d JOIN document e ON d.id = e.id WHERE d.body <> e.title;
SELECT problem FROM problems('/* join */') WHERE problem LIKE '%spilled';
SET enable_mergejoin = off;
SET enable_nestloop = off;
SELECT problem, remedy AS set_join FROM problems('/* join */', true) WHERE problem LIKE '%spilled' \gset
SELECT /* groups */ count(*) FROM (SELECT title, count(*) FROM document GROUP BY title OFFSET 0) g;
SET enable_sort = off;
SELECT problem, remedy AS set_groups FROM problems('/* groups */', true) WHERE problem LIKE '%spilled' \gset
-- with what they ask for nothing is written any more
:set_sort
SELECT count(*) AS sort_spilled FROM problems('/* sort */', true) WHERE problem LIKE '%spilled';
:set_join
SELECT count(*) AS hash_spilled FROM problems('/* join */', true) WHERE problem LIKE '%spilled';
:set_groups
SELECT count(*) AS groups_spilled FROM problems('/* groups */', true) WHERE problem LIKE '%spilled';
RESET enable_mergejoin; RESET enable_nestloop; RESET enable_sort;

SET work_mem = '64kB';
CREATE TABLE wide (id int, x int, filler char(400));
INSERT INTO wide SELECT g, g % 10, '' FROM generate_series(1, 20000) g;
CREATE INDEX ON wide (x);
SELECT pg_stat_force_next_flush();
VACUUM ANALYZE wide;
SET enable_seqscan = off; SET enable_indexscan = off;
SELECT /* lossy */ count(filler) FROM wide WHERE x < 2;
SELECT problem, remedy AS set_lossy FROM problems('/* lossy */', true) WHERE problem LIKE 'lossy%' \gset
\echo :problem
:set_lossy
SELECT count(*) AS lossy FROM problems('/* lossy */', true) WHERE problem LIKE 'lossy%';
RESET enable_seqscan; RESET enable_indexscan; RESET work_mem;

--
-- Estimates
--
-- the columns say the same, which the planner cannot know
SELECT /* both */ count(*) FROM document d JOIN agency a ON a.id = d.agency WHERE d.kind = 'kind 3' AND d.region = 'region 3' AND left(d.code, 1) = 'C';
SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off; SET enable_memoize = off; SET enable_seqscan = off;
SELECT problem, "table" FROM problems('/* both */', true) WHERE problem ~ 'misestimated';
RESET enable_seqscan; RESET enable_nestloop; SET enable_nestloop = off; SET enable_hashjoin = on;
SELECT /* and */ count(*) FROM document d JOIN agency a ON a.id = d.agency WHERE d.kind = 'kind 3' AND d.region = 'region 3';
SELECT problem, "table", remedy FROM problems('/* and */', true) WHERE problem ~ 'misestimated';
CREATE STATISTICS document_both ON kind, region FROM document;
ANALYZE document;
SELECT problem, "table", remedy FROM problems('/* and */', true) WHERE problem ~ 'misestimated';
DROP STATISTICS document_both;
ANALYZE document;
RESET enable_nestloop; RESET enable_hashjoin; RESET enable_mergejoin; RESET enable_material; RESET enable_memoize;
-- what was counted, where no plan was measured
SELECT /* counted */ id FROM document WHERE kind = 'kind 3' AND region = 'region 3' \g /dev/null
SELECT problem, "table", remedy FROM problems('/* counted */') WHERE problem = 'misestimated';
-- old statistics, and none
CREATE TABLE fresh (id int, x int, filler text);
ALTER TABLE fresh SET (autovacuum_enabled = off);
INSERT INTO fresh SELECT g, g, repeat('x', 100) FROM generate_series(1, 3000) g;
SELECT pg_stat_force_next_flush();
SELECT /* fresh */ count(*) FROM fresh WHERE x = 7;
SELECT problem, "table", remedy FROM problems('/* fresh */') WHERE problem = 'stale_statistics';
ANALYZE fresh;
SELECT problem, "table", remedy FROM problems('/* fresh */') WHERE problem = 'stale_statistics';
UPDATE fresh SET x = 7 WHERE id > 1000;
SELECT pg_stat_force_next_flush();
SELECT problem, "table", remedy FROM problems('/* fresh */') WHERE problem = 'stale_statistics';
SELECT /* fresh join */ count(*) FROM fresh f JOIN agency a ON a.id = f.id WHERE f.x = 7;
SELECT problem, "table", remedy FROM problems('/* fresh join */', true) WHERE problem = 'stale_statistics';

--
-- The shape of the statement
--
SELECT /* correlated */ count(id) FROM document d WHERE id <= 300 AND id = (SELECT max(e.id) FROM document e WHERE e.agency = d.agency AND e.id <= 300);
SELECT problem, "table", remedy ~ 'write the subquery as a join' AS advice FROM problems('/* correlated */', true) WHERE problem = 'correlated_subquery';
SET work_mem = '64kB';
SELECT /* not in */ count(*) FROM document WHERE id <= 200 AND id NOT IN (SELECT id + 0 FROM document WHERE id > 0);
SELECT problem, remedy ~ 'NOT EXISTS' AS advice FROM problems('/* not in */') WHERE problem = 'not_in_subquery';
RESET work_mem;
WITH d AS MATERIALIZED (SELECT * FROM document) SELECT /* cte */ title FROM d WHERE id = 7;
SELECT problem, remedy FROM problems('/* cte */') WHERE problem = 'cte_materialized';
SELECT problem, remedy FROM problems('/* cte */', true) WHERE problem = 'cte_materialized';
SELECT /* offset */ title FROM document ORDER BY id LIMIT 2 OFFSET 15000;
SELECT problem, remedy ~ 'begin after the last row' AS advice FROM problems('/* offset */') WHERE problem = 'large_offset';
SELECT problem, remedy ~ 'begin after the last row' AS advice FROM problems('/* offset */', true) WHERE problem = 'large_offset';
-- what the index finds, and the filter throws away
CREATE INDEX document_kind ON document (kind);
SET enable_seqscan = off;
SELECT /* discards */ id FROM document WHERE kind IN ('kind 1', 'kind 2', 'kind 3') AND body = 'y';
SELECT problem, "table" FROM problems('/* discards */', true) WHERE problem = 'filter_discards';
DROP INDEX document_kind;
-- rows of which the index cannot tell whether they are visible
UPDATE document SET kind = kind WHERE id <= 10000;
SET enable_bitmapscan = off;
SELECT /* fetches */ count(id) FROM document WHERE id <= 10000;
SELECT problem, "table", remedy FROM problems('/* fetches */', true) WHERE problem = 'many_heap_fetches';
VACUUM document;
SELECT problem, "table", remedy FROM problems('/* fetches */', true) WHERE problem = 'many_heap_fetches';
RESET enable_seqscan; RESET enable_bitmapscan;
-- a foreign key that nothing helps to look up
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int, parent int REFERENCES parent ON DELETE CASCADE, "Other" int);
INSERT INTO parent SELECT g FROM generate_series(1, 5000) g;
INSERT INTO child SELECT g, g FROM generate_series(1, 5000) g;
SELECT pg_stat_force_next_flush();
ANALYZE parent, child;
DELETE /* cascade */ FROM parent WHERE id < 5;
SELECT problem, "table", remedy FROM problems('/* cascade */') WHERE problem LIKE 'foreign%';
CREATE INDEX ON child (parent);
SELECT problem, "table", remedy FROM problems('/* cascade */') WHERE problem LIKE 'foreign%';
-- of many partitions one is shown
CREATE TABLE measure (day date, place int, value int) PARTITION BY RANGE (day);
SELECT format('CREATE TABLE measure_%s PARTITION OF measure FOR VALUES FROM (%L) TO (%L)', m, make_date(2024, m, 1), make_date(2024, m + 1, 1))
  FROM generate_series(1, 4) m \gexec
INSERT INTO measure SELECT '2024-01-01'::date + g % 120, g % 500, g FROM generate_series(1, 20000) g;
SELECT pg_stat_force_next_flush();
ANALYZE measure;
SELECT /* partitions */ count(*) FROM measure WHERE place = 7 AND value % 2 = 1;
SELECT problem, what ~ 'and the like in 3 more of the partitions of measure$' AS folded, remedy FROM pgopt_explain_slow(id_of('/* partitions */'), true) WHERE problem = 'sequential_scan';
-- compiled for nothing
SET jit = on; SET jit_above_cost = 0; SET jit_inline_above_cost = 0; SET jit_optimize_above_cost = 0;
SELECT pg_jit_available() = EXISTS (SELECT FROM problems('/* fine */', true) WHERE problem = 'slow_plan_jit') AS noticed;
RESET jit_above_cost; RESET jit_inline_above_cost; RESET jit_optimize_above_cost; SET jit = off;

--
-- Plans that were measured when the statement was slow
--
SET pgopt.workload_slow = '1ms';
SELECT /* slow */ count(*) FROM document, pg_sleep(0.005) WHERE kind = 'kind 3' AND id > 100;
SELECT /* slow */ count(*) FROM document, pg_sleep(0.005) WHERE kind = 'kind 3' AND id > 100;
SELECT /* slow */ count(*) FROM document, pg_sleep(0.005) WHERE kind = 'kind 3' AND id > 100;
SELECT problem, evidence ->> 'plan' AS plan, (evidence ->> 'plan_milliseconds')::float > 1 AS slow FROM pgopt_explain_slow(id_of('/* slow */')) WHERE step = 0;
SELECT problem, "table", remedy FROM problems('/* slow */') WHERE problem IN ('sequential_scan', 'plan_changed');
CREATE INDEX document_kind ON document (kind);
SELECT problem FROM problems('/* slow */') WHERE problem = 'plan_changed';
DROP INDEX document_kind;
-- prepared, with values
PREPARE of_agency (int, text) AS SELECT /* prepared */ count(*) FROM document WHERE agency = $1 AND region = $2;
EXECUTE of_agency (17, 'region 16');
SELECT problem, evidence ->> 'rows_read' AS read, remedy IS NOT NULL AS remedy FROM pgopt_explain_slow(id_of('agency = $1'), true) WHERE problem = 'sequential_scan';
-- with the plan for any values
PREPARE of_kind (text) AS SELECT /* generic */ max(title), (SELECT 1 FROM pg_sleep(0.005)) FROM document WHERE kind = $1;
UPDATE document SET kind = 'all' WHERE id > 100;
CREATE INDEX document_kind ON document (kind);
SELECT pg_stat_force_next_flush();
VACUUM ANALYZE document;
SET plan_cache_mode = force_generic_plan;
EXECUTE of_kind ('all');
EXECUTE of_kind ('all');
EXECUTE of_kind ('all');
SELECT problem, remedy FROM problems('kind = $1') WHERE problem IN ('generic_plan', 'plan_changed', 'misestimated');
RESET plan_cache_mode;
DROP INDEX document_kind;

--
-- What is not known, not run, and nobody's business
--
SELECT * FROM pgopt_explain_slow(4711);
SELECT * FROM pgopt_explain_slow(0);
SELECT pgopt_explain_slow_plan(4711);
SELECT pgopt_explain_slow(NULL);
DELETE /* delete */ FROM document WHERE id = 5 AND title = 'x';
SELECT problem, evidence ->> 'plan' AS plan FROM pgopt_explain_slow(id_of('/* delete */')) WHERE step = 0;
\set VERBOSITY terse
CREATE FUNCTION last_error(marker text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE detail text; hint text;
BEGIN
	PERFORM * FROM pgopt_explain_slow(id_of(marker), true);
	RETURN 'none';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN sqlstate || ' ' || regexp_replace(sqlerrm, '-?\d{5,}', 'N') || ' | ' || detail || ' | ' || hint;
END $$;
SELECT last_error('/* delete */');
SELECT /* locks */ id FROM document WHERE id = 6 FOR UPDATE;
SELECT last_error('/* locks */');
WITH w AS (UPDATE document SET kind = 'x' WHERE id = 6 RETURNING id) SELECT /* writes */ * FROM w;
SELECT last_error('/* writes */');

-- a statement of another user, whose functions write
CREATE ROLE explain_slow_user;
CREATE ROLE explain_slow_reader IN ROLE pg_read_all_stats;
GRANT USAGE, CREATE ON SCHEMA explain_slow TO explain_slow_user;
GRANT USAGE ON SCHEMA explain_slow TO explain_slow_reader;
GRANT SELECT ON document TO explain_slow_user;
SET ROLE explain_slow_user;
CREATE TABLE written (who name, what text);
CREATE FUNCTION writes(int) RETURNS boolean LANGUAGE plpgsql COST 1 AS $$ BEGIN INSERT INTO written VALUES (current_user, 'volatile'); RETURN true; END $$;
CREATE FUNCTION hides(int) RETURNS boolean LANGUAGE sql STABLE COST 1 AS $$ SELECT writes($1) $$;
CREATE FUNCTION folded(int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT CASE WHEN writes($1) THEN 1 END $$;
SELECT /* volatile */ count(*) FROM document WHERE id < 5 AND writes(id);
SELECT /* hidden */ count(*) FROM document WHERE id < 5 AND hides(id);
RESET ROLE;
SELECT count(*) FROM written;
SELECT last_error('/* volatile */');
SELECT last_error('/* hidden */');
SELECT evidence ->> 'role' AS role FROM pgopt_explain_slow(id_of('/* hidden */')) WHERE step = 0;
SELECT count(*) FROM written;
-- a function that planning runs
SET ROLE explain_slow_user;
SELECT /* folded */ count(*) FROM document WHERE agency = folded(1);
TRUNCATE written;
RESET ROLE;
SELECT problem FROM pgopt_explain_slow(id_of('/* folded */')) WHERE step = 0 OR problem = 'not_planned';
SELECT count(*) FROM written;
SET ROLE explain_slow_user;
SELECT /* his */ count(*) FROM document WHERE id < 5 AND id + 0 = 4;
RESET ROLE;
-- what he may not read any more
REVOKE SELECT ON document FROM explain_slow_user;
SELECT problem, what FROM pgopt_explain_slow(id_of('/* his */')) WHERE step > 0;
SELECT last_error('/* his */');
GRANT SELECT ON document TO explain_slow_user;

-- for pg_read_all_stats, and nobody else
SET ROLE explain_slow_reader;
SELECT id_of('/* his */') AS id \gset
SELECT problem, evidence ->> 'role' AS role FROM pgopt_explain_slow(:id) WHERE step = 0;
SELECT problem, evidence ->> 'plan' AS plan FROM pgopt_explain_slow(:id, true) WHERE step = 0;
SET ROLE explain_slow_user;
SELECT * FROM pgopt_explain_slow(:id);
SELECT pgopt_explain_slow_plan(:id);
SELECT pgopt_explain_slow_json(:id);
RESET ROLE;

-- it is given up when the caller's time is over
SET explain_slow.sleep = 0;
SELECT /* sleeps */ count(*) FROM document, pg_sleep(current_setting('explain_slow.sleep')::float) WHERE id = 1;
SET explain_slow.sleep = 600;
SET statement_timeout = '200ms';
SELECT count(*) FROM pgopt_explain_slow(id_of('/* sleeps */'), true);
RESET statement_timeout;
SET explain_slow.sleep = 0;
SELECT count(*) > 0 AS answers FROM pgopt_explain_slow(id_of('/* sleeps */'), true);
-- what ran in a transaction that only reads stays so, and one that writes may go on
BEGIN READ ONLY;
SELECT count(*) > 0 AS answers FROM pgopt_explain_slow(id_of('/* scan */'), true);
COMMIT;
BEGIN;
SELECT count(*) > 0 AS answers FROM pgopt_explain_slow(id_of('/* scan */'), true);
INSERT INTO agency VALUES (1000, 'new');
SHOW transaction_read_only;
ROLLBACK;

-- a table that is gone, and one that is another
CREATE TABLE gone (id int, x int);
INSERT INTO gone SELECT g, g FROM generate_series(1, 2000) g;
SELECT /* gone */ count(*), (SELECT 1 FROM pg_sleep(0.005)) FROM gone WHERE x = 7;
SELECT /* gone */ count(*), (SELECT 1 FROM pg_sleep(0.005)) FROM gone WHERE x = 7;
SELECT /* gone */ count(*), (SELECT 1 FROM pg_sleep(0.005)) FROM gone WHERE x = 7;
DROP TABLE gone;
SELECT problem, what FROM pgopt_explain_slow(id_of('/* gone */')) WHERE problem = 'not_planned';
SELECT problem, remedy FROM problems('/* gone */') WHERE problem = 'sequential_scan';
SELECT last_error('/* gone */');
CREATE TABLE gone (id int, x text);
SELECT problem, what FROM pgopt_explain_slow(id_of('/* gone */')) WHERE problem = 'not_planned';
\set VERBOSITY default

RESET ROLE;
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA explain_slow CASCADE;
DROP OWNED BY explain_slow_user;
DROP ROLE explain_slow_user, explain_slow_reader;
DROP EXTENSION pgopt;
