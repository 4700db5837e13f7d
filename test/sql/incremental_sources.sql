-- What a view reads, and how its changes are found; and what stands in the way.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgopt;
RESET client_min_messages;

CREATE SCHEMA sources;
SET search_path = sources, public;
CREATE TABLE orders (id integer, customer integer, amount numeric(10,2), note text);
CREATE TABLE customers (id integer PRIMARY KEY, name text, region integer);
CREATE TABLE blocked (customer integer NOT NULL, since date);
CREATE TABLE events (at date, customer integer) PARTITION BY RANGE (at);
CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE VIEW big_orders AS SELECT id, customer, amount FROM orders WHERE amount > 100;
CREATE VIEW regions AS
	SELECT c.region, count(*) AS n FROM orders o JOIN customers c ON c.id = o.customer GROUP BY 1;

-- Shows the parts of a query, as if it were a view.
CREATE FUNCTION parts(query text) RETURNS TABLE (part text, way text, reason text, hint text)
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE 'CREATE MATERIALIZED VIEW sources.v AS ' || query || ' WITH NO DATA';
	RETURN QUERY SELECT e.part, e.way,
		regexp_replace(e.reason, 'changes of \w+ are not captured yet', 'not yet'), e.hint
		FROM pgopt_explain_refresh('sources.v') e;
	DROP MATERIALIZED VIEW sources.v;
END
$$;

\pset format unaligned
\pset fieldsep ' | '
\pset footer off
\pset tuples_only on

-- one table, joins, and what is pulled up into them
SELECT * FROM parts('SELECT id, amount FROM orders WHERE amount > 3');
SELECT * FROM parts('SELECT o.id, c.name FROM orders o JOIN customers c ON c.id = o.customer');
SELECT * FROM parts('WITH b AS (SELECT * FROM big_orders) SELECT b.id, c.name FROM b, customers c WHERE c.id = b.customer');
SELECT * FROM parts('SELECT a.id FROM orders a JOIN orders b USING (customer)');
SELECT * FROM parts('SELECT region, n + 1 FROM regions WHERE n > 2');

-- outer joins, EXISTS, IN
SELECT * FROM parts('SELECT c.name, o.id FROM customers c LEFT JOIN orders o ON o.customer = c.id');
SELECT * FROM parts('SELECT c.name, o.id FROM customers c LEFT JOIN orders o ON o.customer = c.id WHERE o.amount > 3');
SELECT * FROM parts('SELECT c.name, b.since FROM customers c FULL JOIN blocked b ON b.customer = c.id');
SELECT * FROM parts('SELECT name FROM customers c WHERE EXISTS (SELECT FROM orders o WHERE o.customer = c.id)');
SELECT * FROM parts('SELECT name FROM customers c WHERE EXISTS (SELECT FROM orders o WHERE o.customer = c.id AND o.amount > c.region)');
SELECT * FROM parts('SELECT name FROM customers WHERE id NOT IN (SELECT customer FROM blocked)');

-- partitions, UNION ALL
SELECT * FROM parts('SELECT at, customer FROM events');
SELECT * FROM parts('SELECT id FROM orders UNION ALL SELECT id FROM customers');

-- what cannot be
SELECT * FROM parts('SELECT id FROM orders LIMIT 3');
SELECT * FROM parts('SELECT id, rank() OVER (ORDER BY amount) FROM orders');
SELECT * FROM parts('SELECT DISTINCT ON (customer) id FROM orders');
SELECT * FROM parts('SELECT customer, count(*) FROM orders GROUP BY CUBE (customer)');
SELECT * FROM parts('SELECT c.name, s.n FROM customers c JOIN (SELECT customer, count(*) AS n FROM orders GROUP BY 1) s ON s.customer = c.id');
SELECT * FROM parts('SELECT c.name FROM customers c JOIN (SELECT DISTINCT customer FROM orders) s ON s.customer = c.id');
SELECT * FROM parts('SELECT id FROM orders EXCEPT SELECT id FROM customers');
SELECT * FROM parts('SELECT name, (SELECT max(amount) FROM orders o WHERE o.customer = c.id) FROM customers c');
SELECT * FROM parts('SELECT name FROM customers c WHERE region = 1 OR EXISTS (SELECT FROM orders o WHERE o.customer = c.id)');
SELECT * FROM parts('WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 3) SELECT i FROM r, orders');
SELECT * FROM parts('SELECT id, random() FROM orders');
SELECT * FROM parts('SELECT id, unnest(ARRAY[1, 2]) FROM orders');
SELECT * FROM parts('SELECT id, ctid::text AS place FROM orders');
SELECT * FROM parts('SELECT o FROM orders o');
SELECT * FROM parts('SELECT id FROM orders TABLESAMPLE SYSTEM (10)');
SELECT * FROM parts('SELECT name FROM customers c WHERE EXISTS (SELECT FROM orders o WHERE EXISTS (SELECT FROM blocked b WHERE b.customer = c.id))');
SELECT * FROM parts('SELECT c.name, s.id FROM customers c, LATERAL (SELECT o.id FROM orders o WHERE o.customer = c.id UNION ALL SELECT c.id) s');

SET client_min_messages = warning;
DROP SCHEMA sources CASCADE;
DROP EXTENSION pgopt;
