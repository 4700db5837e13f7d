--
-- What a managed view reads, and what of it can be counted.
--
\getenv abs_srcdir PG_ABS_SRCDIR
\set set_setting :abs_srcdir '/sql/include/set.psql'
\set setting pgopt.auto_refresh
\set value off
\i :set_setting
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgopt;
CREATE SCHEMA dependencies;
SET search_path = dependencies, public;

CREATE FUNCTION reads(of regclass,
	OUT depth int, OUT relation text, OUT kind text, OUT tracked boolean, OUT reason text)
RETURNS SETOF record LANGUAGE sql AS $$
	SELECT depth, relation, kind, tracked, reason FROM pgopt_matview_dependencies
	 WHERE view = of ORDER BY depth, relation COLLATE "C";
$$;
CREATE FUNCTION is_fresh(of regclass) RETURNS boolean LANGUAGE sql AS
	'SELECT fresh FROM pgopt_matviews WHERE view = of';
-- refreshes a view, and says whether it is fresh then
CREATE FUNCTION refresh(of regclass) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pgopt_refresh(of);
	RETURN NULL;
END $$;

CREATE TABLE author (id int PRIMARY KEY, name text, born date);
CREATE TABLE book (id int PRIMARY KEY, author int, title text, price numeric);
CREATE TABLE sale (book int, day date, at timestamptz) PARTITION BY RANGE (day);
CREATE TABLE sale_2023 PARTITION OF sale FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
CREATE TABLE sale_2024 PARTITION OF sale FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY RANGE (day);
CREATE TABLE sale_2024_h1 PARTITION OF sale_2024 FOR VALUES FROM ('2024-01-01') TO ('2024-07-01');
CREATE TABLE person (name text);
CREATE TABLE student (school text) INHERITS (person);
INSERT INTO author VALUES (1, 'Cora', '1889-08-20');
INSERT INTO book VALUES (1, 1, 'Poemas', 30);
INSERT INTO sale VALUES (1, '2024-01-02', '2024-01-02 23:30+00');

--
-- What is read
--
-- tables of joins, sublinks, CTEs, set operations, LATERAL and HAVING
CREATE MATERIALIZED VIEW tables AS
	WITH dear AS (SELECT * FROM book WHERE price > 20)
	SELECT a.name, d.title, l.n
	  FROM author a JOIN dear d ON d.author = a.id
	  CROSS JOIN LATERAL (SELECT count(*) AS n FROM ONLY person p WHERE p.name = a.name) l
	 WHERE EXISTS (SELECT FROM sale s WHERE s.book = d.id)
	UNION ALL
	SELECT school, min(name), count(*) FROM student GROUP BY school
	HAVING count(*) > (SELECT count(*) FROM author WHERE born IS NULL);
SELECT pgopt_manage('tables', 'manual');
SELECT * FROM reads('tables');

-- children unless ONLY; views in views
CREATE VIEW people AS SELECT name FROM person;
CREATE VIEW named AS SELECT name FROM people UNION SELECT name FROM author;
CREATE MATERIALIZED VIEW through_views AS SELECT count(*) FROM named;
SELECT pgopt_manage('through_views', 'manual');
SELECT * FROM reads('through_views');

-- a matview counts as a table; what it reads in turn is the next one's matter
CREATE MATERIALIZED VIEW over_matview AS SELECT count(*) FROM through_views, book;
SELECT pgopt_manage('over_matview', 'manual');
SELECT relation, kind, tracked FROM reads('over_matview') WHERE depth = 1;
-- a view of nothing is fresh once it was refreshed
CREATE MATERIALIZED VIEW constant AS SELECT 1 AS one;
SELECT pgopt_manage('constant', 'manual');
SELECT * FROM reads('constant');
SELECT refresh('constant'), refresh('tables'), refresh('through_views');
SELECT refresh('over_matview');
SELECT view, pending_changes, fresh FROM pgopt_matviews ORDER BY view::text;

-- a change is seen by those whose query it can reach, and by those above them
INSERT INTO person VALUES ('Ana');
SELECT view, pending_changes, fresh, reason FROM pgopt_matviews ORDER BY view::text;
SELECT refresh('through_views');
SELECT refresh('over_matview');
SELECT view, fresh FROM pgopt_matviews WHERE NOT fresh;
SELECT refresh('tables');
INSERT INTO sale VALUES (1, '2024-02-03');
SELECT view, pending_changes FROM pgopt_matviews WHERE NOT fresh;
SELECT refresh('tables');

--
-- What cannot be counted: such a view is never called fresh
--
CREATE TABLE secret (who name, what text);
CREATE SEQUENCE counter;
CREATE FUNCTION stable_f(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1 + (SELECT count(*)::int FROM dependencies.book)';
CREATE FUNCTION volatile_f(int) RETURNS int LANGUAGE plpgsql VOLATILE AS 'BEGIN RETURN $1; END';
CREATE FUNCTION immutable_f(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 + 1; END';
CREATE FOREIGN DATA WRAPPER dependencies_elsewhere;
CREATE SERVER dependencies_files FOREIGN DATA WRAPPER dependencies_elsewhere;
CREATE FOREIGN TABLE letter (line text) SERVER dependencies_files;

CREATE MATERIALIZED VIEW x_now AS SELECT count(*) FROM sale WHERE at < now();
CREATE MATERIALIZED VIEW x_current_date AS SELECT count(*) FROM sale WHERE day < current_date - 7;
CREATE MATERIALIZED VIEW x_localtimestamp AS SELECT localtimestamp AS at;
CREATE MATERIALIZED VIEW x_age AS SELECT age(born) FROM author;
CREATE MATERIALIZED VIEW x_clock AS SELECT clock_timestamp() AS at;
CREATE MATERIALIZED VIEW x_text_to_time AS SELECT 'now'::text::timestamptz AS at;
CREATE MATERIALIZED VIEW x_random AS SELECT random() AS r;
CREATE MATERIALIZED VIEW x_sample AS SELECT count(*) FROM author TABLESAMPLE bernoulli (50);
CREATE MATERIALIZED VIEW x_stable AS SELECT stable_f(id) FROM author;
CREATE MATERIALIZED VIEW x_volatile AS SELECT volatile_f(id) FROM author;
CREATE MATERIALIZED VIEW x_in_aggregate AS SELECT max(volatile_f(id)) OVER (PARTITION BY id) FROM author;
CREATE MATERIALIZED VIEW x_order_by AS SELECT name FROM author ORDER BY stable_f(id) LIMIT 1;
CREATE MATERIALIZED VIEW x_from_function AS SELECT * FROM volatile_f(1);
CREATE MATERIALIZED VIEW x_user AS SELECT current_user AS u;
CREATE MATERIALIZED VIEW x_setting AS SELECT current_setting('work_mem') AS s;
CREATE MATERIALIZED VIEW x_catalog AS SELECT count(*) FROM pg_class;
CREATE MATERIALIZED VIEW x_catalog_view AS SELECT count(*) FROM pg_stat_activity;
CREATE MATERIALIZED VIEW x_size AS SELECT pg_table_size('author') AS s;
CREATE MATERIALIZED VIEW x_sequence AS SELECT last_value FROM counter;
CREATE MATERIALIZED VIEW x_foreign AS SELECT count(*) FROM letter WITH NO DATA;
CREATE VIEW of_today AS SELECT count(*) FROM sale WHERE day = current_date;
CREATE MATERIALIZED VIEW x_in_view AS SELECT * FROM of_today;
-- these can be counted: immutable functions, and stable ones of the server that only depend on pinned settings
CREATE MATERIALIZED VIEW y_immutable AS SELECT immutable_f(id) FROM author;
CREATE MATERIALIZED VIEW y_time_zone AS SELECT date_trunc('day', at) AS day, to_char(at, 'TMMonth') AS month FROM sale;
CREATE MATERIALIZED VIEW y_text_search AS SELECT to_tsvector(title) AS v FROM book;
CREATE MATERIALIZED VIEW y_cast AS SELECT at::date AS day, price::text AS price, title || at::text AS t FROM sale, book;
CREATE MATERIALIZED VIEW y_literal AS SELECT '2024-01-01'::date AS day;
SELECT count(pgopt_manage(oid, 'manual')) FROM pg_class WHERE relnamespace = 'dependencies'::regnamespace AND relname ~ '^[xy]_';
-- (the foreign server of this test has nothing to read from)
SELECT count(refresh(oid)) FROM pg_class WHERE relnamespace = 'dependencies'::regnamespace AND relname ~ '^[xy]_' AND relispopulated;
SELECT m.view, m.fresh, d.relation, d.kind, d.reason
  FROM pgopt_matviews m LEFT JOIN pgopt_matview_dependencies d ON d.view = m.view AND NOT d.tracked
 WHERE m.view::text ~ '^[xy]_' ORDER BY m.view::text COLLATE "C", d.relation COLLATE "C";
-- named even where the server can count them, since they can be replaced
SELECT relation, kind, tracked, reason FROM reads('y_immutable');
SELECT count(pgopt_unmanage(view)) FROM pgopt_matviews WHERE view::text ~ '^x_';
SELECT count(pgopt_unmanage(view)) FROM pgopt_matviews WHERE view::text ~ '^y_' AND view::text <> 'y_immutable';

--
-- Row security hides rows from the view's owner, by rules of its own
--
CREATE ROLE dependencies_reader;
GRANT ALL ON SCHEMA dependencies TO dependencies_reader;
GRANT SELECT ON secret TO dependencies_reader;
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON secret USING (who = current_user);
CREATE MATERIALIZED VIEW of_owner AS SELECT count(*) FROM secret;
CREATE MATERIALIZED VIEW of_reader AS SELECT count(*) FROM secret;
ALTER MATERIALIZED VIEW of_reader OWNER TO dependencies_reader;
SELECT pgopt_manage('of_owner', 'manual');
SELECT pgopt_manage('of_reader', 'manual');
SELECT refresh('of_owner'), refresh('of_reader');
SELECT is_fresh('of_owner') AS of_owner, is_fresh('of_reader') AS of_reader;
SELECT relation, tracked, reason FROM reads('of_reader');

DROP FOREIGN DATA WRAPPER dependencies_elsewhere CASCADE;
DROP SCHEMA dependencies CASCADE;
DROP EXTENSION pgopt;
DROP ROLE dependencies_reader;
ALTER SYSTEM RESET pgopt.auto_refresh;
SELECT pg_reload_conf();
