-- Incremental refresh of views that do not group: each row that changed is found and changed in place.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgopt;
RESET client_min_messages;

-- Refreshes a view; says how, and how many rows its definition gives that it has not, and the reverse.
CREATE FUNCTION refreshed(view regclass, OUT mode text, OUT missing bigint, OUT surplus bigint)
LANGUAGE plpgsql AS $$
DECLARE
    definition text := rtrim(pg_get_viewdef(view), ';');
BEGIN
    SELECT r.mode INTO mode FROM pgopt_refresh(view) r;
    EXECUTE format('SELECT count(*) FROM (%s EXCEPT ALL TABLE %s) d', definition, view) INTO missing;
    EXECUTE format('SELECT count(*) FROM (TABLE %s EXCEPT ALL (%s)) d', view, definition) INTO surplus;
END $$;

CREATE FUNCTION managed(view regclass) RETURNS void LANGUAGE sql
SET client_min_messages = warning AS $$
    SELECT pgopt_manage(view, strategy => 'manual', incremental => 'always');
$$;

-- A view with a unique index, whose columns come in another order than the table's.
CREATE TABLE item (gone int, id int PRIMARY KEY, price numeric, name text, note text);
ALTER TABLE item DROP COLUMN gone;
INSERT INTO item SELECT i, i * 1.5, 'item ' || i, 'nothing' FROM generate_series(1, 10) i;
CREATE MATERIALIZED VIEW item_view AS
    SELECT upper(name) AS name, price * 2 AS price, id FROM item WHERE price > 3;
CREATE UNIQUE INDEX ON item_view (id);
CREATE INDEX ON item_view (price);
SELECT managed('item_view');
SELECT mode FROM refreshed('item_view');

INSERT INTO item VALUES (11, 100, 'new', NULL), (12, 1, 'too cheap', NULL);
UPDATE item SET price = price + 1 WHERE id IN (1, 4);
UPDATE item SET name = NULL WHERE id = 5;
DELETE FROM item WHERE id IN (2, 6);
SELECT * FROM refreshed('item_view');
SELECT * FROM item_view ORDER BY id;

-- Rows that do not change stay where they are, and one that changed stays on its page.
CREATE TEMP TABLE places AS SELECT ctid AS place, id FROM item_view;
UPDATE item SET note = 'not in the view' WHERE id = 7;
UPDATE item SET name = upper(name) WHERE id = 8;
UPDATE item SET name = 'changed' WHERE id = 9;
UPDATE item SET name = 'changed, and back' WHERE id = 10;
UPDATE item SET name = 'item 10' WHERE id = 10;
SELECT * FROM refreshed('item_view');
SELECT id, v.name FROM item_view v JOIN places USING (id) WHERE v.ctid <> places.place ORDER BY id;

-- Keys that change places in one refresh, and a key that is taken over.
UPDATE item SET id = -id WHERE id IN (7, 8, 9);
UPDATE item SET id = CASE id WHEN -7 THEN 8 WHEN -8 THEN 9 ELSE 7 END WHERE id < 0;
DELETE FROM item WHERE id = 10;
INSERT INTO item VALUES (10, 50, 'another ten', NULL);
SELECT * FROM refreshed('item_view');
SELECT id, name FROM item_view WHERE id BETWEEN 7 AND 10 ORDER BY id;

-- Equal is not the same: 1.0 and 1.00 look different.
UPDATE item SET price = 7.50 WHERE price = 7.5;
SELECT * FROM refreshed('item_view');
SELECT id, price FROM item_view WHERE price = 15 ORDER BY id;

-- Indexes agree with the rows.
SET enable_seqscan = off;
SELECT id, name FROM item_view WHERE id = 8;
SELECT count(*) FROM item_view WHERE price BETWEEN 0 AND 1000000;
SELECT id, name FROM item_view WHERE price = 100;
RESET enable_seqscan;

-- Where the definition gives one key twice, neither way works; the view stays as it was.
CREATE TABLE twice (id int, v text);
INSERT INTO twice VALUES (1, 'one'), (2, 'two');
CREATE MATERIALIZED VIEW twice_view AS SELECT id, v FROM twice;
CREATE UNIQUE INDEX ON twice_view (id);
SELECT managed('twice_view');
SELECT mode FROM refreshed('twice_view');
INSERT INTO twice VALUES (2, 'two again');
\set VERBOSITY terse
SELECT * FROM refreshed('twice_view');
\set VERBOSITY default
TABLE twice_view ORDER BY id;
DELETE FROM twice WHERE v = 'two';
SELECT * FROM refreshed('twice_view');
TABLE twice_view ORDER BY id;

-- Unique indexes by which no row can be found, but which must not be violated on the way.
CREATE TABLE place (id int, code text, active boolean);
INSERT INTO place SELECT i, 'c' || i, i % 2 = 0 FROM generate_series(1, 6) i;
CREATE MATERIALIZED VIEW place_view AS SELECT id, code, active FROM place;
CREATE UNIQUE INDEX ON place_view (lower(code));
CREATE UNIQUE INDEX ON place_view (code) WHERE active;
SELECT managed('place_view');
SELECT mode FROM refreshed('place_view');
UPDATE place SET code = 'c' || 7 - id;
SELECT * FROM refreshed('place_view');
UPDATE place SET active = NOT active;
UPDATE place SET code = upper(code) WHERE id = 1;
SELECT * FROM refreshed('place_view');
TABLE place_view ORDER BY id;

-- No index at all: equal rows, NULLs.
CREATE TABLE loose (a int, b text);
INSERT INTO loose SELECT i % 3, NULLIF(i % 2, 0)::text FROM generate_series(1, 12) i;
CREATE MATERIALIZED VIEW loose_view AS SELECT b, a FROM loose;
SELECT managed('loose_view');
SELECT mode FROM refreshed('loose_view');
DELETE FROM loose WHERE ctid IN (SELECT ctid FROM loose WHERE a = 1 AND b IS NULL LIMIT 1);
INSERT INTO loose VALUES (NULL, NULL), (NULL, NULL), (2, NULL);
SELECT * FROM refreshed('loose_view');
SELECT a, b, count(*) FROM loose_view GROUP BY a, b ORDER BY a, b;
DELETE FROM loose WHERE ctid IN (SELECT ctid FROM loose WHERE a IS NULL LIMIT 1);
UPDATE loose SET a = NULL WHERE a = 2 AND b IS NOT NULL;
SELECT * FROM refreshed('loose_view');
SELECT a, b, count(*) FROM loose_view GROUP BY a, b ORDER BY a, b;

-- A unique index whose column is NULL in some rows.
CREATE TABLE owner (id int, pet text);
INSERT INTO owner VALUES (1, 'cat'), (2, 'dog'), (NULL, 'bird'), (NULL, 'bird'), (NULL, NULL);
CREATE MATERIALIZED VIEW owner_view AS SELECT id, pet FROM owner;
CREATE UNIQUE INDEX ON owner_view (id);
SELECT managed('owner_view');
SELECT mode FROM refreshed('owner_view');
DELETE FROM owner WHERE pet IS NULL;
DELETE FROM owner WHERE ctid IN (SELECT ctid FROM owner WHERE pet = 'bird' LIMIT 1);
UPDATE owner SET id = NULL WHERE id = 2;
UPDATE owner SET pet = 'old cat' WHERE id = 1;
SELECT * FROM refreshed('owner_view');
SELECT * FROM owner_view ORDER BY id, pet;

-- Long values, stored out of line: of equal length, equal in part, compressed or not.
CREATE TABLE letter (id int, body text, packed text);
ALTER TABLE letter ALTER body SET STORAGE EXTERNAL;
INSERT INTO letter
SELECT i, repeat(md5(i::text), 200), repeat(i::text, 10000) FROM generate_series(1, 20) i;
CREATE MATERIALIZED VIEW letter_view AS SELECT body, packed, id % 5 AS box FROM letter;
ALTER MATERIALIZED VIEW letter_view ALTER body SET STORAGE EXTERNAL;
SELECT managed('letter_view');
SELECT mode FROM refreshed('letter_view');
UPDATE letter SET body = repeat(md5(id::text), 199) || md5('x') WHERE id = 3;
UPDATE letter SET id = id + 1 WHERE id = 12;
UPDATE letter SET packed = packed || '!' WHERE id = 7;
DELETE FROM letter WHERE id IN (8, 18);
INSERT INTO letter SELECT id + 100, body, packed FROM letter WHERE id = 9;
SELECT * FROM refreshed('letter_view');
SELECT box, count(*), sum(length(body)), sum(length(packed)) FROM letter_view GROUP BY box ORDER BY box;

-- More than fits into memory, found by scanning and by the index.
SET work_mem = '64kB';
SET maintenance_work_mem = '1MB';
CREATE TABLE big (id int PRIMARY KEY, v text);
INSERT INTO big SELECT i, md5(i::text) FROM generate_series(1, 20000) i;
CREATE MATERIALIZED VIEW big_view AS SELECT id, v FROM big;
CREATE MATERIALIZED VIEW big_values AS SELECT left(v, 3) AS v, 'all' AS kind FROM big;
CREATE UNIQUE INDEX ON big_view (id);
ANALYZE big_view;
SELECT managed('big_view'), managed('big_values');
SELECT v.mode, w.mode FROM refreshed('big_view') v, refreshed('big_values') w;
UPDATE big SET v = 'x' || v WHERE id % 3 = 0;
DELETE FROM big WHERE id % 7 = 0;
INSERT INTO big SELECT i, md5(i::text) FROM generate_series(20001, 25000) i;
SELECT * FROM refreshed('big_view');
SELECT * FROM refreshed('big_values');
UPDATE big SET v = 'y' WHERE id % 100 = 0;
UPDATE big SET v = v || 'z' WHERE id % 200 = 0;
SELECT * FROM refreshed('big_view');
SELECT * FROM refreshed('big_values');
TRUNCATE big;
SELECT * FROM refreshed('big_view');
RESET work_mem;
RESET maintenance_work_mem;

-- A view over a view: the first one's refresh logs what it changes.
CREATE MATERIALIZED VIEW dear AS SELECT id, name FROM item_view WHERE price > 20;
CREATE UNIQUE INDEX ON dear (id);
SELECT managed('dear');
SELECT mode FROM refreshed('item_view');
SELECT mode FROM refreshed('dear');
UPDATE item SET price = price + 10 WHERE id IN (3, 5);
UPDATE item SET name = 'renamed' WHERE id = 11;
DELETE FROM item WHERE id = 7;
SELECT * FROM refreshed('item_view');
SELECT * FROM refreshed('dear');
TABLE dear ORDER BY id;

-- What it was compiled for is redefined in the meantime.
CREATE FUNCTION shown(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 * 10';
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE day (id int, m mood);
INSERT INTO day VALUES (1, 'good'), (2, 'bad');
CREATE MATERIALIZED VIEW day_view AS SELECT shown(id) AS id, m FROM day WHERE m > 'good'::mood;
SELECT managed('day_view');
SELECT mode FROM refreshed('day_view');
INSERT INTO day VALUES (3, 'bad');
SELECT * FROM refreshed('day_view');
ALTER TYPE mood RENAME TO temper;
ALTER FUNCTION shown(int) RENAME TO displayed;
INSERT INTO day VALUES (4, 'bad'), (5, 'good');
SELECT missing, surplus FROM refreshed('day_view');
INSERT INTO day VALUES (6, 'bad');
SELECT * FROM refreshed('day_view');
ALTER TABLE day RENAME m TO t;
UPDATE day SET t = 'good' WHERE id = 6;
SELECT missing, surplus FROM refreshed('day_view');
UPDATE day SET t = 'bad' WHERE id = 5;
SELECT * FROM refreshed('day_view');
TABLE day_view ORDER BY id;

SET client_min_messages = warning;
DROP TABLE item, twice, place, loose, owner, letter, big, day CASCADE;
DROP FUNCTION refreshed, managed, displayed;
DROP TYPE temper;
DROP EXTENSION pgopt CASCADE;
RESET client_min_messages;
