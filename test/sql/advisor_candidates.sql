-- Which indexes are thought of at all, before any is priced: on tables made for each kind, and none where none must be.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgopt;
CREATE EXTENSION IF NOT EXISTS pg_trgm;
RESET client_min_messages;
SET search_path = cand, public;
CREATE SCHEMA cand;

CREATE FUNCTION cand.of(VARIADIC queries text[]) RETURNS SETOF text LANGUAGE sql AS
$$ SELECT replace(definition, 'cand.', '') FROM pgopt.index_candidates(queries) ORDER BY definition COLLATE "C" $$;

CREATE TABLE orders (
  id         bigint PRIMARY KEY,
  customer   int NOT NULL,
  state      text NOT NULL,
  total      numeric NOT NULL,
  created    timestamp NOT NULL,
  shipped    timestamp,
  paid       boolean NOT NULL,
  email      text NOT NULL,
  notes      jsonb NOT NULL,
  tags       text[] NOT NULL,
  body       text NOT NULL
);
INSERT INTO orders
SELECT i, i % 997, (ARRAY['done', 'done', 'done', 'done', 'open'])[1 + i % 5], i % 1000, timestamp '2024-01-01' + i * interval '1 minute',
       CASE WHEN i % 50 > 0 THEN timestamp '2024-01-01' + i * interval '2 minutes' END, i % 20 > 0, 'User' || i % 5003 || '@example.org',
       jsonb_build_object('kind', 'k' || i % 100, 'n', i), ARRAY['t' || i % 50, 'u' || i % 70], repeat(md5(i::text), 6)
  FROM generate_series(1, 20000) AS i;
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, region text NOT NULL, padding text NOT NULL);
INSERT INTO customers SELECT i, 'customer ' || i, 'r' || i % 10, repeat('x', 300) FROM generate_series(0, 996) AS i;
VACUUM ANALYZE orders, customers;

-- equality, then a range; covering where what is needed is narrow
SELECT * FROM cand.of('SELECT * FROM orders WHERE customer = 5 AND created > ''2024-01-05''');
SELECT * FROM cand.of('SELECT total FROM orders WHERE customer = 5 AND created > ''2024-01-05''');
-- an order, forwards, backwards, mixed, with NULLS
SELECT * FROM cand.of('SELECT * FROM orders WHERE customer = 5 ORDER BY created DESC LIMIT 10');
SELECT * FROM cand.of('SELECT * FROM orders ORDER BY created DESC, total LIMIT 10');
SELECT * FROM cand.of('SELECT * FROM orders ORDER BY shipped DESC NULLS LAST LIMIT 10');
-- pages by a row comparison
SELECT * FROM cand.of('SELECT * FROM orders WHERE (created, id) > (''2024-01-05'', 5) ORDER BY created, id LIMIT 10');
-- the least and the greatest
SELECT * FROM cand.of('SELECT max(created) FROM orders');
-- joins; a correlated subquery; a semijoin
SELECT * FROM cand.of('SELECT c.name, o.total FROM customers c JOIN orders o ON o.customer = c.id WHERE c.region = ''r1''');
SELECT * FROM cand.of('SELECT id, (SELECT max(created) FROM orders o WHERE o.customer = c.id) FROM customers c');
SELECT * FROM cand.of('SELECT * FROM customers c WHERE EXISTS (SELECT FROM orders o WHERE o.customer = c.id AND total > 990)');
-- grouping
SELECT * FROM cand.of('SELECT customer, sum(total) FROM orders GROUP BY customer');
-- lists, missing values, flags
SELECT * FROM cand.of('SELECT * FROM orders WHERE customer IN (1, 2, 3) AND total = 7');
SELECT * FROM cand.of('SELECT id FROM orders WHERE shipped IS NULL AND customer = 6');
SELECT * FROM cand.of('SELECT * FROM orders WHERE NOT paid');
SELECT * FROM cand.of('SELECT * FROM orders WHERE state = ''open'' AND created > ''2024-01-10'' ORDER BY created LIMIT 20');
-- a value that is a parameter makes no predicate
SELECT * FROM cand.of('SELECT * FROM orders WHERE state = $1 AND customer = $2');
-- expressions
SELECT * FROM cand.of('SELECT * FROM orders WHERE lower(email) = ''user7@example.org''');
SELECT * FROM cand.of('SELECT * FROM orders WHERE notes ->> ''kind'' = ''k7'' ORDER BY created LIMIT 5');
SELECT * FROM cand.of('SELECT date_trunc(''day'', created), count(*) FROM orders GROUP BY 1');
SELECT * FROM cand.of('SELECT * FROM orders WHERE created::date = ''2024-01-05''');
-- what a stable function makes cannot be indexed
SELECT * FROM cand.of('SELECT * FROM orders WHERE date_trunc(''day'', created::timestamptz) = ''2024-01-05''');
SELECT * FROM cand.of('SELECT * FROM orders WHERE random() < 0.01 AND customer + random() = 3');
-- texts that begin with, that contain
SELECT * FROM cand.of('SELECT * FROM orders WHERE email LIKE ''User12%''');
SELECT * FROM cand.of('SELECT * FROM orders WHERE body LIKE ''%abcdef%''');
SELECT * FROM cand.of('SELECT * FROM orders WHERE body ILIKE ''%abcdef%'' AND state = ''open''');
SELECT * FROM cand.of('SELECT * FROM orders WHERE body ~ ''abc.*def''');
-- documents, arrays, words
SELECT * FROM cand.of('SELECT * FROM orders WHERE notes @> ''{"kind": "k7"}''');
SELECT * FROM cand.of('SELECT * FROM orders WHERE notes ? ''kind''');
SELECT * FROM cand.of('SELECT * FROM orders WHERE notes @> ''{"kind": "k7"}'' AND notes ?| ARRAY[''kind'']');
SELECT * FROM cand.of('SELECT * FROM orders WHERE tags @> ARRAY[''t7'']', 'SELECT * FROM orders WHERE ARRAY[''t7'', ''t8''] && tags');
SELECT * FROM cand.of('SELECT * FROM orders WHERE to_tsvector(''english'', body) @@ to_tsquery(''english'', ''word'')');
SELECT * FROM cand.of('SELECT * FROM orders WHERE ''t7'' = ANY (tags)');
-- arms of an OR
SELECT * FROM cand.of('SELECT * FROM orders WHERE customer = 3 OR email = ''User7@example.org''');
SELECT * FROM cand.of('SELECT * FROM orders WHERE customer = 3 OR length(body) > random()');
-- several statements: one that serves both
SELECT replace(definition, 'cand.', '') AS definition, statements
  FROM pgopt.index_candidates(ARRAY['SELECT total FROM orders WHERE customer = 5', 'SELECT created FROM orders WHERE customer = 6 AND total > 3'])
 ORDER BY definition COLLATE "C";
-- subqueries, CTEs, set operations, views, DML
CREATE VIEW cand.open_orders AS SELECT * FROM orders WHERE state = 'open';
SELECT * FROM cand.of('WITH o AS MATERIALIZED (SELECT * FROM orders WHERE customer = 3) SELECT * FROM o UNION ALL SELECT * FROM orders WHERE email = ''x''');
SELECT * FROM cand.of('SELECT * FROM open_orders WHERE customer = 3');
SELECT * FROM cand.of('UPDATE orders SET paid = true WHERE customer = 3', 'DELETE FROM orders WHERE email = ''x''');

-- regions and distances
CREATE TABLE places (id int PRIMARY KEY, at point NOT NULL, during int4range NOT NULL, name text NOT NULL);
INSERT INTO places SELECT i, point(i % 100, i / 100), int4range(i, i + 10), 'place ' || i FROM generate_series(1, 5000) AS i;
VACUUM ANALYZE places;
SELECT * FROM cand.of('SELECT * FROM places ORDER BY at <-> point(3, 4) LIMIT 3');
SELECT * FROM cand.of('SELECT * FROM places WHERE at <@ box(point(0, 0), point(2, 2))');
SELECT * FROM cand.of('SELECT * FROM places WHERE during && int4range(5, 7)');
SELECT * FROM cand.of('SELECT * FROM places ORDER BY name <-> ''place 3'' LIMIT 3');

-- a large table whose rows lie in order
CREATE TABLE readings (taken timestamp NOT NULL, sensor int NOT NULL, value float8 NOT NULL, padding text NOT NULL);
INSERT INTO readings SELECT timestamp '2024-01-01' + i * interval '1 second', i % 100, i % 7, repeat('x', 400) FROM generate_series(1, 30000) AS i;
VACUUM ANALYZE readings;
SELECT * FROM cand.of('SELECT avg(value) FROM readings WHERE taken BETWEEN ''2024-01-01 02:00'' AND ''2024-01-01 03:00''');

-- partitions: an index of the whole; children by inheritance: each its own
CREATE TABLE parts (id int, region int, padding text) PARTITION BY LIST (region);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES IN (2);
INSERT INTO parts SELECT i, 1 + i % 2, repeat('x', 300) FROM generate_series(1, 2000) AS i;
CREATE TABLE animals (id int, padding text);
CREATE TABLE cats () INHERITS (animals);
INSERT INTO cats SELECT i, repeat('x', 300) FROM generate_series(1, 1000) AS i;
ANALYZE parts, animals, cats;
SELECT * FROM cand.of('SELECT * FROM parts WHERE id = 7');
SELECT * FROM cand.of('SELECT * FROM parts_1 WHERE id = 7');
SELECT * FROM cand.of('SELECT * FROM animals WHERE id = 7');

-- odd names, and collations
CREATE TABLE "Odd ""table" ("select" int, "Weiß" text COLLATE "C", padding text);
INSERT INTO "Odd ""table" SELECT i, i, repeat('x', 300) FROM generate_series(1, 1000) AS i;
ANALYZE "Odd ""table";
SELECT * FROM cand.of('SELECT * FROM "Odd ""table" WHERE "select" = 7 AND "Weiß" > ''x''');
SELECT * FROM cand.of('SELECT * FROM "Odd ""table" WHERE "Weiß" LIKE ''x%''');
SELECT * FROM cand.of('SELECT * FROM "Odd ""table" WHERE "Weiß" = ''x'' COLLATE "POSIX"');

-- what a function reads that planning evaluates is not the statement's; nor does one that fails leave anything behind
CREATE FUNCTION cand.five() RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM FROM places WHERE name = 'x'; RETURN 5; END $$;
SELECT * FROM cand.of('SELECT * FROM orders WHERE customer = five()');
\set VERBOSITY terse
SELECT * FROM cand.of('SELECT * FROM orders WHERE customer = 1 / 0');
SELECT * FROM cand.of('SELECT * FROM orders WHERE customer = 1');
CREATE FUNCTION cand.again() RETURNS int IMMUTABLE LANGUAGE plpgsql AS
$$ BEGIN RETURN (SELECT count(*) FROM cand.of('SELECT * FROM orders WHERE customer = 1')); END $$;
SELECT * FROM cand.of('SELECT * FROM orders WHERE customer = again()');
\set VERBOSITY default
-- texts that are too long for a btree
CREATE TABLE pages (url text, content text);
INSERT INTO pages SELECT 'u' || i, (SELECT string_agg(md5(i || ':' || j), '') FROM generate_series(1, 30) AS j) FROM generate_series(1, 1000) AS i;
ANALYZE pages;
SELECT * FROM cand.of('SELECT * FROM pages WHERE content = ''x'' AND url = ''u''');

-- none: a table of few pages, a temporary one, a catalog, what a real index does already
CREATE TABLE few (id int, state text);
INSERT INTO few SELECT i, 'x' FROM generate_series(1, 200) AS i;
CREATE TEMP TABLE passing AS SELECT i AS id, repeat('x', 300) AS padding FROM generate_series(1, 2000) AS i;
ANALYZE few, passing;
SELECT * FROM cand.of('SELECT * FROM few WHERE id = 3');
SELECT * FROM cand.of('SELECT * FROM passing WHERE id = 3');
SELECT * FROM cand.of('SELECT * FROM pg_class WHERE relpages = 3');
SELECT * FROM cand.of('SELECT * FROM orders WHERE id = 3');
SELECT * FROM cand.of('SELECT * FROM orders');
-- a security barrier: only what does not leak is searched below it
CREATE VIEW cand.guarded WITH (security_barrier) AS SELECT * FROM orders WHERE customer = 3;
SELECT * FROM cand.of('SELECT * FROM guarded WHERE body LIKE ''%x%''');

DROP SCHEMA cand CASCADE;
DROP EXTENSION pg_trgm, pgopt;
