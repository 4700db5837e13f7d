-- What bench/advisor_lib.sh keeps in a database that is measured: statements, configurations, their indexes, costs, times.
-- The schema has no part in the workload: sessions that use it are not captured, or use it in statements of pgopt's own.

\set ON_ERROR_STOP on
CREATE SCHEMA IF NOT EXISTS bench;
CREATE TABLE IF NOT EXISTS bench.statement (
  name  text PRIMARY KEY COLLATE "C",
  query text NOT NULL,
  calls int NOT NULL DEFAULT 1,
  timed boolean NOT NULL DEFAULT true
);
CREATE TABLE IF NOT EXISTS bench.configuration (
  name     text PRIMARY KEY,
  author   text NOT NULL,
  budget   float8,
  cpu_ms   float8,
  ms       float8,
  position int GENERATED ALWAYS AS IDENTITY
);
CREATE TABLE IF NOT EXISTS bench.advice (
  configuration text REFERENCES bench.configuration ON DELETE CASCADE,
  place      int,
  ddl        text NOT NULL,
  predicted  float8,
  write_cost float8,
  priority   text,
  reason     text,
  index      oid
);
CREATE TABLE IF NOT EXISTS bench.cost_foreseen (configuration text, name text, cost float8);
CREATE TABLE IF NOT EXISTS bench.cost (configuration text, name text, cost float8);
CREATE TABLE IF NOT EXISTS bench.measured (configuration text, name text, round int, ms float8);

-- The statement without the index's name and CONCURRENTLY: the same index, whoever advises it.
CREATE OR REPLACE FUNCTION bench.nameless(ddl text) RETURNS text LANGUAGE sql IMMUTABLE
AS $$ SELECT regexp_replace(regexp_replace(ddl, '^CREATE INDEX (CONCURRENTLY )?(IF NOT EXISTS )?(("([^"]|"")+"|[^ "]+) )?ON (public\.)?', ''), ' USING btree ', ' ') $$;

-- The index that was made last, by this statement: a name of its own frees the one that was advised.
CREATE OR REPLACE PROCEDURE bench.built(statement text) LANGUAGE plpgsql AS $$
DECLARE
  made oid;
BEGIN
  SELECT max(indexrelid) INTO made FROM pg_index;
  EXECUTE format('ALTER INDEX %s RENAME TO bench_advised_%s', made::regclass, made);
  UPDATE bench.advice SET index = made WHERE bench.nameless(ddl) = bench.nameless(statement);
END $$;

-- Expressions have statistics only after ANALYZE.
CREATE OR REPLACE PROCEDURE bench.analyze_expressions() LANGUAGE plpgsql AS $$
DECLARE
  t regclass;
BEGIN
  FOR t IN SELECT DISTINCT indrelid::regclass FROM pg_index WHERE indexprs IS NOT NULL
              AND indexrelid IN (SELECT index FROM bench.advice) LOOP
    EXECUTE format('ANALYZE %s', t);
  END LOOP;
END $$;

-- The planner sees the indexes of this configuration, and of no other.
CREATE OR REPLACE PROCEDURE bench.show(wanted text) LANGUAGE plpgsql AS $$
BEGIN
  UPDATE pg_index AS i SET indisvalid = NOT i.indisvalid
   WHERE indexrelid IN (SELECT index FROM bench.advice)
     AND indisvalid <> (indexrelid IN (SELECT index FROM bench.advice WHERE configuration = wanted AND index IS NOT NULL));
END $$;

CREATE OR REPLACE PROCEDURE bench.clear() LANGUAGE plpgsql AS $$
DECLARE
  i oid;
BEGIN
  FOR i IN SELECT DISTINCT index FROM bench.advice WHERE index IN (SELECT oid FROM pg_class) LOOP
    EXECUTE format('DROP INDEX %s', i::regclass);
  END LOOP;
  TRUNCATE bench.configuration, bench.advice, bench.cost, bench.cost_foreseen, bench.measured;
END $$;

CREATE OR REPLACE FUNCTION bench.plan_cost(query text) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
  plan json;
BEGIN
  EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO plan;
  RETURN (plan->0->'Plan'->>'Total Cost')::float8;
END $$;

-- What every statement costs in every configuration, by EXPLAIN. The configuration "none" has no indexes.
CREATE OR REPLACE PROCEDURE bench.price() LANGUAGE plpgsql AS $$
DECLARE
  c text;
BEGIN
  DELETE FROM bench.cost;
  FOR c IN SELECT name FROM bench.configuration UNION ALL SELECT 'none' LOOP
    CALL bench.show(c);
    COMMIT;
    INSERT INTO bench.cost SELECT c, name, bench.plan_cost(query) FROM bench.statement;
    COMMIT;
  END LOOP;
END $$;

-- Times, statement by statement and round by round; the configurations of a statement in turn, in reverse order in every
-- other round. What a statement writes is rolled back. "again" is "none" once more: how far it is from 1 is the noise.
CREATE OR REPLACE PROCEDURE bench.measure(configurations text[], rounds int) LANGUAGE plpgsql AS $$
DECLARE
  s record;
  c text;
  begun timestamptz;
  took float8;
BEGIN
  FOR this_round IN 1..rounds LOOP
    FOR s IN SELECT name, query FROM bench.statement WHERE timed ORDER BY md5(name || this_round) LOOP
      FOR c IN SELECT u.c FROM unnest('{none,again}' || configurations) WITH ORDINALITY AS u (c, i)
                ORDER BY i * CASE this_round % 2 WHEN 0 THEN 1 ELSE -1 END LOOP
        CALL bench.show(c);
        COMMIT;
        begun := clock_timestamp();
        EXECUTE s.query;
        took := extract(epoch FROM clock_timestamp() - begun) * 1000;
        ROLLBACK;
        INSERT INTO bench.measured VALUES (c, s.name, this_round, took);
      END LOOP;
      COMMIT;
    END LOOP;
  END LOOP;
END $$;

-- A configuration's time for a statement is the median of its rounds.
CREATE OR REPLACE VIEW bench.time AS
SELECT configuration, name, percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) AS ms
  FROM bench.measured GROUP BY configuration, name;
