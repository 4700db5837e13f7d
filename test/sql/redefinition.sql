--
-- What a view reads is redefined: what it holds may be wrong although no row changed.
--
\getenv abs_srcdir PG_ABS_SRCDIR
\set set_setting :abs_srcdir '/sql/include/set.psql'
\set setting pgopt.auto_refresh
\set value off
\i :set_setting
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgopt;
CREATE SCHEMA redefinition;
SET search_path = redefinition, public;

CREATE FUNCTION is_fresh(of regclass) RETURNS boolean LANGUAGE sql AS
	'SELECT fresh FROM pgopt_matviews WHERE view = of';
CREATE FUNCTION refresh(of regclass) RETURNS void LANGUAGE sql AS
	'SELECT FROM pgopt_refresh(of)';

CREATE TABLE author (id int PRIMARY KEY, name text);
CREATE TABLE sale (book int, day date) PARTITION BY RANGE (day);
CREATE TABLE sale_2023 PARTITION OF sale FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
CREATE TABLE sale_2024 PARTITION OF sale FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY RANGE (day);
CREATE TABLE sale_2024_h1 PARTITION OF sale_2024 FOR VALUES FROM ('2024-01-01') TO ('2024-07-01');
CREATE TABLE person (name text);
CREATE TABLE student (school text) INHERITS (person);
CREATE FUNCTION immutable_f(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 + 1; END';
INSERT INTO author VALUES (1, 'Cora');
INSERT INTO sale VALUES (1, '2024-01-02');
CREATE VIEW people AS SELECT name FROM person;
CREATE VIEW named AS SELECT name FROM people UNION SELECT name FROM author;
CREATE MATERIALIZED VIEW tables AS SELECT count(*) FROM sale;
CREATE MATERIALIZED VIEW through_views AS SELECT count(*) FROM named;
CREATE MATERIALIZED VIEW y_immutable AS SELECT immutable_f(id) FROM author;
SELECT count(pgopt_manage(oid, 'manual')) FROM pg_class WHERE relnamespace = 'redefinition'::regnamespace AND relkind = 'm';

CREATE FUNCTION freshness(OUT through_views boolean, OUT tables boolean, OUT y_immutable boolean) LANGUAGE sql AS $$
	SELECT is_fresh('through_views'), is_fresh('tables'), is_fresh('y_immutable');
$$;
SELECT refresh('through_views'), refresh('tables'), refresh('y_immutable');
SELECT * FROM freshness();
-- a view in between
CREATE OR REPLACE VIEW people AS SELECT upper(name) AS name FROM person;
SELECT * FROM freshness();
SELECT refresh('through_views');
-- a function
CREATE OR REPLACE FUNCTION immutable_f(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 + 2; END';
SELECT is_fresh('y_immutable') AS y_immutable;
SELECT refresh('y_immutable');
-- a partition with rows that comes, and one that goes
CREATE TABLE sale_2025 (LIKE sale);
INSERT INTO sale_2025 VALUES (1, '2025-03-03');
ALTER TABLE sale ATTACH PARTITION sale_2025 FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
SELECT is_fresh('tables') AS tables;
SELECT refresh('tables');
SELECT is_fresh('tables') AS tables, relation, depth FROM pgopt_matview_dependencies
 WHERE view = 'tables'::regclass AND kind = 'partition' ORDER BY relation;
ALTER TABLE sale DETACH PARTITION sale_2023;
SELECT is_fresh('tables') AS tables;
SELECT refresh('tables');
-- what was detached no longer matters
INSERT INTO sale_2023 VALUES (1, '2023-01-01');
SELECT is_fresh('tables') AS tables;
DROP TABLE sale_2024_h1;
SELECT is_fresh('tables') AS tables;
SELECT refresh('tables');
-- a child that comes with rows
CREATE TABLE pupil AS SELECT 'Bia'::text AS name;
ALTER TABLE pupil INHERIT person;
SELECT is_fresh('through_views') AS through_views;
SELECT refresh('through_views');
ALTER TABLE pupil NO INHERIT person;
SELECT is_fresh('through_views') AS through_views;
SELECT refresh('through_views');
-- rolled back: nothing happened
BEGIN;
CREATE OR REPLACE VIEW people AS SELECT lower(name) AS name FROM person;
ROLLBACK;
SELECT is_fresh('through_views') AS through_views;
-- DDL that has nothing to do with it
CREATE VIEW unrelated AS SELECT 1;
CREATE TABLE also_unrelated PARTITION OF sale_2024 FOR VALUES FROM ('2024-07-01') TO ('2025-01-01');
SELECT is_fresh('through_views') AS through_views;
-- dictionaries of text search are part of what a query yields; one that is new is not (see contents.sql)
SELECT refresh('through_views');
CREATE TEXT SEARCH CONFIGURATION unrelated (COPY = simple);
SELECT is_fresh('through_views') AS through_views;
ALTER TEXT SEARCH CONFIGURATION unrelated DROP MAPPING FOR word;
SELECT is_fresh('through_views') AS through_views;


--
-- Columns, labels and other things that views read without naming them
--
CREATE TABLE whole (a int);
INSERT INTO whole VALUES (1);
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE feeling (m mood);
INSERT INTO feeling VALUES ('sad');
CREATE FUNCTION inner_f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
CREATE FUNCTION outer_f(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN redefinition.inner_f($1); END';
CREATE MATERIALIZED VIEW whole_rows AS SELECT to_jsonb(w) AS row FROM whole w;
CREATE MATERIALIZED VIEW labels AS SELECT m::text AS label FROM feeling;
CREATE MATERIALIZED VIEW nested AS SELECT outer_f(a) FROM whole;
SELECT pgopt_manage('whole_rows', 'manual'), pgopt_manage('labels', 'manual'), pgopt_manage('nested', 'manual');
-- whole rows have all columns that their table has
SELECT refresh('whole_rows');
ALTER TABLE whole ADD COLUMN b int DEFAULT 7;
SELECT is_fresh('whole_rows') AND NOT EXISTS (TABLE whole_rows EXCEPT SELECT to_jsonb(w) FROM whole w) AS fresh_and_right,
       is_fresh('whole_rows') AND EXISTS (TABLE whole_rows EXCEPT SELECT to_jsonb(w) FROM whole w) AS fresh_and_wrong;
SELECT refresh('whole_rows');
ALTER TABLE whole RENAME COLUMN b TO c;
SELECT is_fresh('whole_rows') AND EXISTS (TABLE whole_rows EXCEPT SELECT to_jsonb(w) FROM whole w) AS fresh_and_wrong;
SELECT refresh('whole_rows');
ALTER TABLE whole ALTER COLUMN c TYPE int USING c + 1;
SELECT is_fresh('whole_rows') AND EXISTS (TABLE whole_rows EXCEPT SELECT to_jsonb(w) FROM whole w) AS fresh_and_wrong;
SELECT refresh('whole_rows');
ALTER TABLE whole DROP COLUMN c;
SELECT is_fresh('whole_rows') AND EXISTS (TABLE whole_rows EXCEPT SELECT to_jsonb(w) FROM whole w) AS fresh_and_wrong;
-- a generated column's expression can be replaced from 17 on
CREATE TABLE generated (a int, g int GENERATED ALWAYS AS (a + 1) STORED);
INSERT INTO generated VALUES (1);
CREATE MATERIALIZED VIEW of_generated AS SELECT g FROM generated;
SELECT pgopt_manage('of_generated', 'manual');
SELECT refresh('of_generated');
DO $$
BEGIN
	IF current_setting('server_version_num')::int >= 170000 THEN
		EXECUTE 'ALTER TABLE generated ALTER COLUMN g SET EXPRESSION AS (a + 100)';
	END IF;
END $$;
SELECT is_fresh('of_generated') AND EXISTS (TABLE of_generated EXCEPT SELECT g FROM generated) AS fresh_and_wrong;
-- labels of an enum
SELECT refresh('labels');
ALTER TYPE mood RENAME VALUE 'sad' TO 'unhappy';
SELECT is_fresh('labels') AS labels;
-- a function that the view's function calls
SELECT refresh('nested');
CREATE OR REPLACE FUNCTION inner_f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 100';
SELECT is_fresh('nested') AS nested;
-- names and descriptions that functions of the server look up
CREATE MATERIALIZED VIEW names AS SELECT tableoid::regclass::text AS t FROM author;
CREATE MATERIALIZED VIEW descriptions AS SELECT obj_description('redefinition.author'::regclass, 'pg_class') AS d;
CREATE MATERIALIZED VIEW types AS SELECT format_type('mood'::regtype, NULL) AS t;
CREATE MATERIALIZED VIEW ages AS SELECT age(xmin) FROM author;
SELECT pgopt_manage('names', 'manual'), pgopt_manage('descriptions', 'manual'), pgopt_manage('types', 'manual'),
       pgopt_manage('ages', 'manual');
SELECT refresh('names'), refresh('descriptions'), refresh('types'), refresh('ages');
ALTER TABLE author RENAME TO writer;
ALTER TYPE mood RENAME TO temper;
COMMENT ON TABLE writer IS 'who wrote it';
SELECT is_fresh('names') AS names, is_fresh('descriptions') AS descriptions, is_fresh('types') AS types, is_fresh('ages') AS ages;
-- row security that is turned on, for a view whose owner does not own the table
CREATE ROLE redefinition_reader;
GRANT ALL ON SCHEMA redefinition TO redefinition_reader;
CREATE TABLE secret (who name);
INSERT INTO secret VALUES ('redefinition_reader'), ('other');
GRANT SELECT ON secret TO redefinition_reader;
CREATE MATERIALIZED VIEW of_reader AS SELECT count(*) FROM secret;
ALTER MATERIALIZED VIEW of_reader OWNER TO redefinition_reader;
CREATE VIEW readers_view AS SELECT who FROM secret;
ALTER VIEW readers_view OWNER TO redefinition_reader;
CREATE MATERIALIZED VIEW through_reader AS SELECT count(*) FROM readers_view;
SELECT pgopt_manage('of_reader', 'manual'), pgopt_manage('through_reader', 'manual');
SELECT refresh('of_reader'), refresh('through_reader');
SELECT is_fresh('of_reader') AS of_reader, is_fresh('through_reader') AS through_reader;
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
SELECT is_fresh('of_reader') AS of_reader, is_fresh('through_reader') AS through_reader;
CREATE POLICY own ON secret USING (who = 'redefinition_reader');
SELECT refresh('of_reader'), refresh('through_reader');
SELECT of_reader.count, is_fresh('of_reader') AS of_reader, through_reader.count, is_fresh('through_reader') AS through_reader
  FROM of_reader, through_reader;

DROP SCHEMA redefinition CASCADE;
DROP EXTENSION pgopt;
DROP ROLE redefinition_reader;
ALTER SYSTEM RESET pgopt.auto_refresh;
SELECT pg_reload_conf();
