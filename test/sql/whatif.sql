--
-- Indexes that do not exist: their sizes, and plans with them
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgopt;
CREATE EXTENSION IF NOT EXISTS pg_trgm;
RESET client_min_messages;
SET max_parallel_workers_per_gather = 0;

CREATE SCHEMA whatif;
SET search_path = whatif, public;
CREATE TABLE laws (id int PRIMARY KEY, year int, kind text, title text, tags int[], data jsonb, published date, "Odd ""name" int);
INSERT INTO laws
SELECT g, 1950 + g % 75, (ARRAY['lei','decreto','portaria','lei','lei'])[1 + g % 5], 'Lei ' || md5(g::text) || ' de ' || 1950 + g % 75,
       ARRAY[g % 50, g % 7], jsonb_build_object('n', g % 500, 'k', g % 3), date '1950-01-01' + g, g % 11
  FROM generate_series(1, 20000) g;
VACUUM ANALYZE laws;

-- what would be used; each against the plan of today
SELECT left(query, 60) AS query, calls, cost_after < cost_before AS cheaper, round((cost_after / cost_before - ratio)::numeric, 9) AS ratio_is_after_by_before, used
  FROM pgopt_whatif(ARRAY[
	'CREATE INDEX ON laws (year, published DESC)',
	'CREATE INDEX ON laws ((data ->> ''n''))',
	'CREATE INDEX ON laws ("Odd ""name") WHERE kind = ''decreto''',
	'CREATE INDEX ON laws USING gin (tags)',
	'CREATE INDEX ON laws USING gin (data jsonb_path_ops)',
	'CREATE INDEX ON laws USING gin (title gin_trgm_ops)',
	'CREATE INDEX ON laws USING brin (published)',
	'CREATE INDEX ON laws USING hash (title)',
	'CREATE INDEX ON laws (kind text_pattern_ops) INCLUDE (year)'], ARRAY[
	'SELECT id FROM laws WHERE year = 1988 ORDER BY published DESC LIMIT 5',
	'SELECT * FROM laws WHERE data ->> ''n'' = ''77''',
	'SELECT * FROM laws WHERE kind = ''decreto'' AND "Odd ""name" = 3',
	'SELECT * FROM laws WHERE tags @> ARRAY[42]',
	'SELECT * FROM laws WHERE data @> ''{"n": 3}''',
	'SELECT * FROM laws WHERE title LIKE ''%abcdef%''',
	'SELECT * FROM laws WHERE title = ''Lei 1''',
	'SELECT year FROM laws WHERE kind LIKE ''port%''',
	'SELECT * FROM laws WHERE id = 7'], explain => false);

-- the plan, and one without an index that exists
SELECT regexp_replace(plan, '\(cost=.*?\)', '', 'g') AS plan FROM pgopt_whatif(ARRAY['CREATE INDEX my_name ON laws (year)'], ARRAY['SELECT * FROM laws WHERE year = 1988']);
SELECT regexp_replace(plan, '\(cost=.*?\)', '', 'g') AS plan, ratio > 10 AS dearer FROM pgopt_whatif(ARRAY['DROP INDEX laws_pkey'], ARRAY['SELECT * FROM laws WHERE id = 7']);
-- several statements in one text, writes, and what reads no table
SELECT ltrim(query) AS query, used FROM pgopt_whatif(ARRAY['CREATE INDEX ON laws (year)'], ARRAY['SELECT 1; SELECT title FROM laws WHERE year = 1990 AND id < 10; DELETE FROM laws WHERE year = 1950'], false);

-- nobody else sees them, and nothing remains
EXPLAIN (COSTS OFF) SELECT * FROM laws WHERE year = 1988;
BEGIN;
SELECT count(*) FROM pgopt_whatif(ARRAY['CREATE INDEX ON laws (year)'], ARRAY['SELECT * FROM laws WHERE year = 1988']);
EXPLAIN (COSTS OFF) SELECT * FROM laws WHERE year = 1988;
SELECT count(*) FROM laws WHERE year = 1988;
SAVEPOINT a;
SELECT count(*) FROM pgopt_whatif(ARRAY['CREATE INDEX ON laws (year)'], ARRAY['SELECT * FROM laws WHERE year = 1 / 0']);
ROLLBACK TO a;
SELECT count(*) FROM pgopt_whatif(ARRAY['CREATE INDEX ON laws (year)'], ARRAY['SELECT * FROM laws WHERE year = nix']);
ROLLBACK TO a;
EXPLAIN (COSTS OFF) SELECT * FROM laws WHERE year = 1988;
COMMIT;

-- a function that the planner runs has its own statements planned without them
CREATE FUNCTION fifty() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM FROM laws WHERE year = 1988; RETURN 1988; END $$;
SELECT used FROM pgopt_whatif(ARRAY['CREATE INDEX ON laws (year)'], ARRAY['SELECT * FROM laws WHERE year = fifty()']);
SELECT fifty();

--
-- Sizes, as built
--
CREATE FUNCTION size_error(ddl text) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE model bigint; built bigint;
BEGIN
	SELECT size_bytes INTO model FROM pgopt_whatif_indexes(ARRAY['CREATE INDEX ' || ddl]);
	EXECUTE 'CREATE INDEX probe ' || ddl;
	built := pg_relation_size('probe');
	DROP INDEX probe;
	RETURN abs(model - built) / built::numeric;
END $$;
SELECT ddl, size_error(ddl) <= 0.25 AS close FROM (VALUES
	('ON laws (id)'), ('ON laws (year)'), ('ON laws (kind)'), ('ON laws (title)'), ('ON laws (published, year)'), ('ON laws (year, kind)'),
	('ON laws (year) INCLUDE (title)'), ('ON laws (published) WHERE kind = ''decreto'''), ('ON laws (lower(title))'), ('ON laws ((data ->> ''n''))'),
	('ON laws USING hash (id)'), ('ON laws USING gin (tags)'), ('ON laws USING gin (data)'), ('ON laws USING gin (title gin_trgm_ops)'),
	('ON laws USING brin (published) WITH (pages_per_range = 4)')) v (ddl);

-- costs, as built and analysed
CREATE FUNCTION cost_error(ddl text, query text) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE model float; plan json; built float;
BEGIN
	SELECT cost_after INTO model FROM pgopt_whatif(ARRAY['CREATE INDEX ' || ddl], ARRAY[query], false);
	EXECUTE 'CREATE INDEX probe ' || ddl;
	IF ddl ~ '\(\(' THEN ANALYZE laws; END IF;
	EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO plan;
	built := plan -> 0 -> 'Plan' ->> 'Total Cost';
	DROP INDEX probe;
	RETURN abs(model - built) / built;
END $$;
SELECT ddl, cost_error(ddl, query) <= 0.03 AS close FROM (VALUES
	('ON laws (year)', 'SELECT * FROM laws WHERE year = 1988'),
	('ON laws (year, published DESC)', 'SELECT id FROM laws WHERE year = 1988 ORDER BY published DESC LIMIT 5'),
	('ON laws (published) INCLUDE (year)', 'SELECT year FROM laws WHERE published < ''1960-01-01'''),
	('ON laws (published) WHERE kind = ''decreto''', 'SELECT * FROM laws WHERE kind = ''decreto'' AND published < ''1960-01-01'''),
	('ON laws ((data ->> ''k''))', 'SELECT count(*) FROM laws WHERE data ->> ''k'' = ''2'' AND id < 3000'),
	('ON laws USING hash (title)', 'SELECT * FROM laws WHERE title = ''Lei 1'''),
	('ON laws USING gin (tags)', 'SELECT * FROM laws WHERE tags @> ARRAY[42]'),
	('ON laws USING gin (title gin_trgm_ops)', 'SELECT * FROM laws WHERE title LIKE ''%abcdef%'''),
	('ON laws USING brin (published) WITH (pages_per_range = 4)', 'SELECT * FROM laws WHERE published < ''1951-01-01''')) v (ddl, query);

-- indexes that do the same already
CREATE INDEX laws_a ON laws (year, kind);
CREATE INDEX laws_b ON laws (published DESC);
CREATE INDEX laws_c ON laws ((lower(title)));
CREATE INDEX laws_d ON laws (kind) WHERE year > 2000;
SELECT ddl, covered_by FROM pgopt_whatif_indexes(ARRAY[
	'CREATE INDEX ON laws (year)', 'CREATE INDEX ON laws (year, kind)', 'CREATE INDEX ON laws (kind, year)',
	'CREATE INDEX ON laws (year DESC, kind DESC)', 'CREATE INDEX ON laws (year, kind DESC)', 'CREATE INDEX ON laws (year NULLS FIRST)',
	'CREATE INDEX ON laws (year) INCLUDE (kind)', 'CREATE INDEX ON laws (year) INCLUDE (title)', 'CREATE INDEX ON laws (year, kind COLLATE "C")',
	'CREATE INDEX ON laws (year, kind text_pattern_ops)', 'CREATE INDEX ON laws (id, year)', 'CREATE INDEX ON laws (id) INCLUDE (year)',
	'CREATE INDEX ON laws (published)', 'CREATE INDEX ON laws (published NULLS FIRST)', 'CREATE INDEX ON laws (lower(title))',
	'CREATE INDEX ON laws (lower(kind))', 'CREATE INDEX ON laws (kind)', 'CREATE INDEX ON laws (kind) WHERE year > 2000',
	'CREATE INDEX ON laws (kind) WHERE year > 2010', 'CREATE INDEX ON laws (year) WHERE kind = ''lei''', 'CREATE UNIQUE INDEX ON laws (year)',
	'CREATE INDEX ON laws USING hash (year)']);
DROP INDEX laws_a, laws_b, laws_c, laws_d;

--
-- What cannot be
--
CREATE VIEW a_view AS SELECT * FROM laws;
CREATE TABLE unsortable (j json, p point);
SELECT ddl, problem FROM pgopt_whatif_indexes(ARRAY[
	'CREATE INDEX ON nix (a)', 'CREATE INDEX ON laws (nix)', 'CREATE INDEX ON a_view (year)', 'CREATE INDEX ON unsortable (j)',
	'CREATE INDEX ON laws (ctid)', 'CREATE INDEX ON laws ((random()))', 'CREATE INDEX ON laws (year) WHERE published < now()',
	'CREATE INDEX ON laws (year); CREATE INDEX ON laws (kind)', 'CREATE TABLE x ()', 'CREATE INDEX ON laws', '', 'CREATE INDEX ON laws USING nix (year)',
	'CREATE INDEX ON laws USING hash (year, kind)', 'CREATE INDEX ON laws USING gin (year)', 'CREATE INDEX ON laws USING gin (tags DESC)',
	'CREATE INDEX ON laws USING gin (tags) INCLUDE (year)', 'CREATE INDEX ON laws (year COLLATE "C")', 'CREATE INDEX ON laws (year) INCLUDE ((id + 1))',
	'CREATE INDEX ON laws (year) WITH (nix = 1)', 'CREATE UNIQUE INDEX ON laws USING brin (year)', 'CREATE INDEX ON pg_class (relname)',
	'DROP INDEX nix', 'DROP INDEX laws']);
\set VERBOSITY sqlstate
SELECT count(*) FROM pgopt_whatif(ARRAY['CREATE INDEX ON laws (nix)'], ARRAY['SELECT 1']);
SELECT count(*) FROM pgopt_whatif(ARRAY['VACUUM'], ARRAY['SELECT 1']);
SELECT count(*) FROM pgopt_whatif(ARRAY['CREATE INDEX ON nix (a)'], ARRAY['SELECT 1']);
SELECT count(*) FROM pgopt_whatif(ARRAY[NULL], ARRAY['SELECT 1']);
\set VERBOSITY default
SELECT count(*) FROM pgopt_whatif(NULL);
SELECT count(*) FROM pgopt_whatif(ARRAY[]::text[], ARRAY[]::text[]);

-- what only the rows show
CREATE TABLE wide (a int, t text);
ALTER TABLE wide ALTER t SET STORAGE PLAIN;
INSERT INTO wide SELECT g, repeat('x', g * 20) FROM generate_series(1, 200) g;
SELECT ddl, problem IS NOT NULL AS has_problem, size_bytes IS NULL AS has_no_size
  FROM pgopt_whatif_indexes(ARRAY['CREATE INDEX ON wide (t)', 'CREATE INDEX ON wide ((1 / (a - 7)))', 'CREATE INDEX ON wide (a) WHERE 1 / (a - 7) > 0', 'CREATE INDEX ON wide (a)']);
SELECT used FROM pgopt_whatif(ARRAY['CREATE INDEX ON wide (t)'], ARRAY['SELECT * FROM wide WHERE t = ''x'''], false);

--
-- Partitions, inheritance, empty tables
--
CREATE TABLE measures (id int, at date, v numeric) PARTITION BY RANGE (at);
CREATE TABLE measures_1 PARTITION OF measures FOR VALUES FROM ('2024-01-01') TO ('2024-07-01');
CREATE TABLE measures_2 (v numeric, gone int, at date, id int);
ALTER TABLE measures_2 DROP COLUMN gone;
ALTER TABLE measures ATTACH PARTITION measures_2 FOR VALUES FROM ('2024-07-01') TO ('2025-01-01');
INSERT INTO measures SELECT g, date '2024-01-01' + g % 366, g FROM generate_series(1, 20000) g;
VACUUM ANALYZE measures;
SELECT regexp_replace(plan, '\(cost=.*?\)', '', 'g') AS plan
  FROM pgopt_whatif(ARRAY['CREATE INDEX ON measures (id)', 'CREATE INDEX ON measures ((id + 1), at) WHERE v > 19000'],
                    ARRAY['SELECT * FROM measures WHERE id = 5', 'SELECT * FROM measures WHERE id + 1 = 7 AND v > 19000', 'SELECT * FROM measures_2 WHERE id = 5']);
CREATE TABLE sizes AS SELECT size_bytes AS model FROM pgopt_whatif_indexes(ARRAY['CREATE INDEX ON measures (id)']);
CREATE INDEX measures_id ON measures (id);
SELECT abs(model - built) <= 0.25 * built AS close
  FROM sizes, (SELECT sum(pg_relation_size(inhrelid)) AS built FROM pg_inherits WHERE inhparent = 'measures_id'::regclass) b;
CREATE INDEX real_one ON measures (at);
SELECT regexp_replace(plan, '\(cost=.*?\)', '', 'g') AS plan FROM pgopt_whatif(ARRAY['DROP INDEX real_one'], ARRAY['SELECT * FROM measures WHERE at = ''2024-02-03''']);

CREATE TABLE parent (a int, b int);
CREATE TABLE child () INHERITS (parent);
INSERT INTO child SELECT g, g FROM generate_series(1, 5000) g;
INSERT INTO parent SELECT g, g FROM generate_series(1, 5000) g;
VACUUM ANALYZE parent;
VACUUM ANALYZE child;
SELECT regexp_replace(plan, '\(cost=.*?\)', '', 'g') AS plan FROM pgopt_whatif(ARRAY['CREATE INDEX ON parent (a)'], ARRAY['SELECT * FROM parent WHERE a = 5']);

CREATE TABLE empty (a int, b text);
SELECT ddl, size_bytes, entries, problem FROM pgopt_whatif_indexes(ARRAY['CREATE INDEX ON empty (a)', 'CREATE INDEX ON empty (lower(b)) WHERE a > 5', 'CREATE INDEX ON empty USING gin (to_tsvector(''simple'', b))']);

--
-- Functions of others are not run on a table's rows: such an expression has no statistics, and a guessed size
--
CREATE ROLE whatif_other;
CREATE ROLE whatif_reader IN ROLE pg_read_all_stats;
GRANT USAGE, CREATE ON SCHEMA whatif TO whatif_other, whatif_reader;
GRANT SELECT ON laws TO whatif_other, whatif_reader;
CREATE TABLE traces (who text);
GRANT INSERT ON traces TO PUBLIC;
SET ROLE whatif_other;
CREATE FUNCTION spy(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN INSERT INTO whatif.traces VALUES (current_user); RETURN t; END $$;
SELECT count(*) FROM pgopt_whatif(ARRAY['CREATE INDEX ON laws (year)'], ARRAY['SELECT 1']);
SELECT count(*) FROM pgopt_whatif_indexes(ARRAY['CREATE INDEX ON laws (year)']);
RESET ROLE;
ALTER TABLE laws OWNER TO whatif_reader;
SET ROLE whatif_reader;
SELECT size_bytes > 0 AS guessed, problem FROM pgopt_whatif_indexes(ARRAY['CREATE INDEX ON laws (spy(title))']);
SELECT used FROM pgopt_whatif(ARRAY['CREATE INDEX ON laws (year)'], ARRAY['SELECT * FROM laws WHERE year = 1988'], false);
RESET ROLE;
SELECT count(*) AS traces FROM traces;

SET client_min_messages = warning;
DROP SCHEMA whatif CASCADE;
DROP ROLE whatif_other, whatif_reader;
DROP EXTENSION pg_trgm;
