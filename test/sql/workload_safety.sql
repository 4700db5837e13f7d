--
-- Capturing and planning statements does no harm
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgopt;
RESET client_min_messages;
SELECT pgopt_workload_reset();

-- a function in SQL that is not read to its end outlives the rows that its arguments came from
CREATE TABLE safety_row(name text, amount numeric, pad text);
INSERT INTO safety_row SELECT md5(i::text), i * 1.5, repeat('p', 300) FROM generate_series(1, 20000) i;
CREATE TABLE safety_key(name text, place int);
INSERT INTO safety_key SELECT md5(i::text), i FROM generate_series(1, 10) i;
CREATE FUNCTION safety_f(name text, amount numeric, above int) RETURNS SETOF int LANGUAGE sql STABLE AS
	'SELECT place FROM safety_key k WHERE k.name <> $1 AND k.place <> $2 AND k.place > $3';
SET work_mem = '64MB';
SELECT safety_f(name, amount, 3) FROM (SELECT * FROM safety_row ORDER BY pad, name DESC OFFSET 0) s LIMIT 1;
RESET work_mem;
SELECT pgopt.workload_flush();
-- what is kept are values that cannot have gone
SELECT s.parameters FROM pgopt_workload() w, pgopt_workload_samples(w.queryid) s
 WHERE w.query LIKE '%FROM safety_key%' AND w.query NOT LIKE '%INTO%';

-- who may see the workload cannot give its statements another meaning
CREATE FUNCTION safety_inner(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION safety_outer(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
	'BEGIN RETURN safety_inner($1); END';
ANALYZE safety_row;
SELECT pgopt_workload_reset();
SELECT count(*) FROM safety_row WHERE name = safety_outer('x');
SELECT count(*) FROM safety_key WHERE name = 'x';
SELECT pgopt.workload_flush();
CREATE ROLE safety_reader;
GRANT pg_read_all_stats TO safety_reader;
CREATE SCHEMA safety_reader AUTHORIZATION safety_reader;
SET ROLE safety_reader;
CREATE FUNCTION safety_reader.trap() RETURNS text LANGUAGE plpgsql IMMUTABLE AS
	$$ BEGIN RAISE WARNING 'trap called by %', current_user; RETURN ''; END $$;
CREATE FUNCTION safety_reader.safety_inner(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
	$$ BEGIN RAISE WARNING 'trap called by %', current_user; RETURN $1; END $$;
CREATE TEMP VIEW safety_key AS SELECT * FROM public.safety_key WHERE name > safety_reader.trap();
SET search_path = pg_temp, safety_reader, public;
SELECT count(*) >= 1 AS advised FROM pgopt_index_advice();
SELECT count(*) >= 1 AS priced FROM pgopt_whatif('{}');
SELECT count(*) >= 1 AS explained
  FROM pgopt_workload() w, pgopt_explain_slow(w.queryid) WHERE w.query LIKE '%safety_outer%';
RESET search_path;
DROP VIEW pg_temp.safety_key;
RESET ROLE;
SET client_min_messages = warning;
DROP SCHEMA safety_reader CASCADE;
RESET client_min_messages;
DROP ROLE safety_reader;
DROP FUNCTION safety_f, safety_outer, safety_inner;
DROP TABLE safety_row, safety_key;
