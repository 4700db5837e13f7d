--
-- What is counted: every way in which rows change, and nothing that was rolled back.
--
-- look() shows what was counted since it was last called. One materialized
-- view reads all the tables, so that all of them are counted.
--
\getenv abs_srcdir PG_ABS_SRCDIR
\set set_setting :abs_srcdir '/sql/include/set.psql'
\set setting pgopt.auto_refresh
\set value off
\i :set_setting
SET client_min_messages = warning;
-- a database of its own: what was not known before in another test is known here
CREATE DATABASE pgopt_tracking;
\set home :DBNAME
\c pgopt_tracking
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgopt;
CREATE SCHEMA tracking;
CREATE SCHEMA tracking_other;
SET search_path = tracking, public;

CREATE TABLE author (id int PRIMARY KEY, name text);
CREATE TABLE book (
	id int PRIMARY KEY,
	author int REFERENCES author ON DELETE CASCADE ON UPDATE CASCADE,
	title text);
CREATE TABLE loan (id int PRIMARY KEY, book int REFERENCES book ON DELETE SET NULL);
CREATE TABLE archive (LIKE book);
CREATE TABLE tracking_other.far (id int);
CREATE TABLE bill (id int, year int NOT NULL) PARTITION BY RANGE (year);
CREATE TABLE bill_2023 PARTITION OF bill FOR VALUES FROM (2023) TO (2024);
CREATE TABLE bill_2024 PARTITION OF bill FOR VALUES FROM (2024) TO (2025) PARTITION BY LIST (id);
CREATE TABLE bill_2024_rest PARTITION OF bill_2024 DEFAULT;
CREATE TABLE person (id int);
CREATE TABLE senator (state text) INHERITS (person);
CREATE TABLE emptied (id int);
CREATE TABLE kept (id int);
CREATE TABLE prepared (id int);
CREATE TABLE prepared_emptied (id int);

CREATE MATERIALIZED VIEW everything AS
	SELECT (SELECT count(*) FROM author) AS authors, (SELECT count(*) FROM book) AS books,
	       (SELECT count(*) FROM loan) AS loans, (SELECT count(*) FROM archive) AS archived,
	       (SELECT count(*) FROM tracking_other.far) AS far, (SELECT count(*) FROM bill) AS bills,
	       (SELECT count(*) FROM person) AS persons, (SELECT count(*) FROM emptied) AS emptied,
	       (SELECT count(*) FROM kept) AS kept, (SELECT count(*) FROM prepared) AS prepared,
	       (SELECT count(*) FROM prepared_emptied) AS prepared_emptied;
SELECT pgopt_manage('everything', 'manual');

CREATE TEMP TABLE seen (relation regclass PRIMARY KEY, inserted bigint, updated bigint, deleted bigint);
CREATE FUNCTION look(OUT relation regclass, OUT inserted bigint, OUT updated bigint, OUT deleted bigint, OUT truncated boolean)
RETURNS SETOF record LANGUAGE sql AS $$
	WITH now AS (
		SELECT * FROM pgopt_table_changes WHERE relation <> 'everything'::regclass
	), remember AS (
		INSERT INTO seen SELECT n.relation, n.inserted, n.updated, n.deleted FROM now n
		ON CONFLICT (relation) DO UPDATE
			SET inserted = excluded.inserted, updated = excluded.updated, deleted = excluded.deleted
	)
	SELECT n.relation, n.inserted - coalesce(s.inserted, 0), n.updated - coalesce(s.updated, 0),
	       n.deleted - coalesce(s.deleted, 0), n.truncated
	  FROM now n LEFT JOIN seen s USING (relation)
	 WHERE (n.inserted, n.updated, n.deleted) IS DISTINCT FROM (s.inserted, s.updated, s.deleted)
	 ORDER BY n.relation::text;
$$;

-- all tables are counted from now on, in whatever schema; partitions show as their root
SELECT relation, inserted, updated, deleted, truncated, known, last_change FROM pgopt_table_changes
 WHERE relation <> 'everything'::regclass;
SELECT count(*) > 0 AS looked FROM look();

--
-- Rows
--
-- 3 inserted, 2 updated, 1 deleted
INSERT INTO author VALUES (1, 'Cora'), (2, 'Drummond'), (3, 'Clarice');
UPDATE author SET name = upper(name) WHERE id <= 2;
DELETE FROM author WHERE id = 3;
SELECT * FROM look();

-- nothing: no row is touched, or only locked
UPDATE author SET name = 'x' WHERE id = 100;
DELETE FROM author WHERE id = 100;
INSERT INTO author SELECT 9, 'nobody' WHERE false;
SELECT id FROM author ORDER BY id FOR UPDATE;
SELECT * FROM look();

-- COPY: 3 books
COPY book FROM stdin;
1	1	Poemas
2	2	Sentimento do mundo
3	2	Claro enigma
\.
SELECT * FROM look();

-- INSERT ... SELECT: 2 loans, and 1 row in another schema
INSERT INTO loan SELECT id, id FROM book WHERE id < 3;
INSERT INTO tracking_other.far VALUES (1);
SELECT * FROM look();

-- foreign keys: 1 author and 2 books updated
UPDATE author SET id = 20 WHERE id = 2;
SELECT * FROM look();

-- 1 author and 2 books deleted, 1 loan set to null
DELETE FROM author WHERE id = 20;
SELECT * FROM look();

-- data-modifying CTE: 1 book deleted, its loan set to null, 1 row archived
WITH gone AS (DELETE FROM book WHERE id = 1 RETURNING *)
INSERT INTO archive SELECT * FROM gone;
SELECT * FROM look();

-- MERGE: 1 inserted, 1 updated, 1 deleted
INSERT INTO author VALUES (5, 'Rachel'), (6, 'Graciliano');
SELECT count(*) AS looked FROM look();
MERGE INTO author a
USING (VALUES (5, 'Rachel de Queiroz'), (6, NULL), (7, 'Guimarães')) AS n (id, name) ON a.id = n.id
WHEN MATCHED AND n.name IS NULL THEN DELETE
WHEN MATCHED THEN UPDATE SET name = n.name
WHEN NOT MATCHED THEN INSERT VALUES (n.id, n.name);
SELECT * FROM look();

-- ON CONFLICT: 1 inserted (8), 1 updated (7), and 5 left alone
INSERT INTO author VALUES (5, 'x') ON CONFLICT DO NOTHING;
INSERT INTO author VALUES (7, 'Guimarães Rosa'), (8, 'Lygia') ON CONFLICT (id) DO UPDATE SET name = excluded.name;
SELECT * FROM look();

-- a trigger that writes elsewhere: 2 books, 2 archived
CREATE FUNCTION keep_copy() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO archive SELECT new.*;
	RETURN NULL;
END $$;
CREATE TRIGGER keep_copy AFTER INSERT ON book FOR EACH ROW EXECUTE FUNCTION keep_copy();
INSERT INTO book VALUES (10, 5, 'O quinze'), (11, 7, 'Sagarana');
SELECT * FROM look();

-- a trigger that suppresses the row: nothing
CREATE FUNCTION suppress() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER suppress BEFORE INSERT ON loan FOR EACH ROW EXECUTE FUNCTION suppress();
INSERT INTO loan VALUES (50, 10);
SELECT * FROM look();
DROP TRIGGER suppress ON loan;

-- a deferred trigger that fires at commit: 1 loan, 1 far
CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO tracking_other.far VALUES (new.id);
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON loan DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION at_commit();
INSERT INTO loan VALUES (51, 10);
SELECT * FROM look();
DROP TRIGGER at_commit ON loan;

-- a DO block: 10 inserted, 10 updated, 4 deleted
DO $$
BEGIN
	FOR i IN 1..10 LOOP
		INSERT INTO kept VALUES (i);
		UPDATE kept SET id = -id WHERE id = i;
	END LOOP;
	DELETE FROM kept WHERE id <= -7;
END $$;
SELECT * FROM look();

-- a procedure that commits on its way: 3 + 2 inserted, 100 rolled back
CREATE PROCEDURE step_by_step() LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO kept SELECT generate_series(11, 13);
	COMMIT;
	INSERT INTO kept SELECT generate_series(101, 200);
	ROLLBACK;
	INSERT INTO kept SELECT generate_series(14, 15);
END $$;
CALL step_by_step();
SELECT * FROM look();

-- through a view that can be written: 2 inserted, 1 deleted; and a rule that makes an INSERT of a DELETE: 1 archived
CREATE VIEW kept_view AS SELECT id FROM kept;
INSERT INTO kept_view VALUES (51), (52);
DELETE FROM kept_view WHERE id = 51;
CREATE RULE instead AS ON DELETE TO kept_view DO INSTEAD INSERT INTO archive VALUES (old.id);
DELETE FROM kept_view WHERE id = 52;
SELECT * FROM look();

-- what moves rows without changing them is no change
SELECT outcome FROM pgopt_refresh('everything');
VACUUM FULL kept;
CLUSTER author USING author_pkey;
REINDEX TABLE author;
VACUUM ANALYZE author;
SELECT * FROM look();
SELECT view, pending_changes, fresh FROM pgopt_matviews;

--
-- What was rolled back
--
BEGIN;
INSERT INTO kept VALUES (1), (2);
DELETE FROM author;
ROLLBACK;
SELECT * FROM look();

-- a statement that fails half-way
INSERT INTO author VALUES (30, 'new'), (5, 'duplicate');
SELECT * FROM look();

-- savepoints: 1 + 4 inserted, 1 updated
BEGIN;
INSERT INTO kept VALUES (301);
SAVEPOINT a;
INSERT INTO kept VALUES (302), (303);
SAVEPOINT b;
INSERT INTO kept VALUES (304), (305), (306);
ROLLBACK TO b;
UPDATE kept SET id = id WHERE id = 302;
ROLLBACK TO a;
SAVEPOINT c;
INSERT INTO kept VALUES (307), (308), (309), (310);
UPDATE kept SET id = id WHERE id = 307;
RELEASE c;
COMMIT;
SELECT * FROM look();

-- exception blocks: the row of the block that fails is gone, the others count: 4 inserted
DO $$
BEGIN
	FOR i IN 400..405 LOOP
		BEGIN
			INSERT INTO kept VALUES (i);
			IF i % 3 = 0 THEN
				RAISE division_by_zero;
			END IF;
		EXCEPTION WHEN division_by_zero THEN
			NULL;
		END;
	END LOOP;
END $$;
SELECT count(*) FROM kept WHERE id BETWEEN 400 AND 405;
SELECT * FROM look();

-- a handler that writes itself: 1 deleted, the block's own 5 inserted rows are gone
DO $$
BEGIN
	INSERT INTO kept SELECT generate_series(501, 505);
	RAISE 'no';
EXCEPTION WHEN raise_exception THEN
	DELETE FROM kept WHERE id = 405 OR id = 404;
END $$;
SELECT * FROM look();

--
-- TRUNCATE is a flag, not a number
--
INSERT INTO emptied VALUES (1), (2), (3);
SELECT * FROM look();
-- rolled back, alone and in a subtransaction: 1 inserted, no flag
BEGIN;
TRUNCATE emptied;
ROLLBACK;
BEGIN;
INSERT INTO emptied VALUES (4);
SAVEPOINT a;
TRUNCATE emptied;
INSERT INTO emptied VALUES (5), (6);
ROLLBACK TO a;
COMMIT;
SELECT count(*) FROM emptied;
SELECT * FROM look();
-- for good: what was inserted before it in the transaction is not counted, what came after it is
BEGIN;
INSERT INTO emptied VALUES (7), (8);
TRUNCATE emptied;
INSERT INTO emptied VALUES (9);
COMMIT;
SELECT * FROM look();
-- through a foreign key
TRUNCATE author CASCADE;
SELECT relation, truncated FROM pgopt_table_changes WHERE truncated ORDER BY relation::text;

--
-- Partitions count for their root, children for themselves
--
INSERT INTO bill VALUES (1, 2023), (2, 2024), (3, 2024);
INSERT INTO bill_2023 VALUES (4, 2023);
SELECT * FROM look();
-- a row that moves to another partition is deleted there and inserted here
UPDATE bill SET year = 2024 WHERE id = 1;
SELECT * FROM look();
-- a partition that is attached later counts too, once a refresh has seen it
CREATE TABLE bill_2025 PARTITION OF bill FOR VALUES FROM (2025) TO (2026);
SELECT outcome FROM pgopt_refresh('everything');
INSERT INTO bill VALUES (5, 2025), (6, 2025);
SELECT * FROM look();
INSERT INTO person VALUES (1);
INSERT INTO senator VALUES (2, 'RS'), (3, 'AC');
UPDATE person SET id = id + 10;
SELECT * FROM look();

--
-- Prepared transactions count when they commit
--
BEGIN;
INSERT INTO prepared VALUES (1), (2), (3);
UPDATE prepared SET id = 30 WHERE id = 3;
DELETE FROM prepared WHERE id = 1;
INSERT INTO kept VALUES (601);
PREPARE TRANSACTION 'tracking_a';
SELECT * FROM look();
-- rows of this session's own meanwhile
INSERT INTO prepared VALUES (4);
SELECT * FROM look();
COMMIT PREPARED 'tracking_a';
SELECT * FROM look();

BEGIN;
INSERT INTO prepared VALUES (100), (101);
PREPARE TRANSACTION 'tracking_b';
ROLLBACK PREPARED 'tracking_b';
SELECT * FROM look();

-- by another session, with a subtransaction that was rolled back, and a table that was emptied
BEGIN;
INSERT INTO prepared VALUES (200), (201);
SAVEPOINT a;
INSERT INTO prepared VALUES (202), (203), (204);
ROLLBACK TO a;
TRUNCATE prepared_emptied;
INSERT INTO prepared_emptied VALUES (1);
PREPARE TRANSACTION 'tracking_c';
SELECT relation, inserted, truncated FROM pgopt_table_changes WHERE relation::text ~ '^prepared';
\c -
SET client_min_messages = warning;
SET search_path = tracking, public;
COMMIT PREPARED 'tracking_c';
SELECT relation, inserted, updated, deleted, truncated FROM pgopt_table_changes WHERE relation::text ~ '^prepared';
-- one that does not exist is the user's error, not a change
COMMIT PREPARED 'tracking_nonesuch';
SELECT relation, inserted, truncated, known FROM pgopt_table_changes WHERE relation::text ~ '^prepared';

--
-- Who saw what: the view knows of all this
--
SELECT outcome FROM pgopt_refresh('everything');
SELECT view, pending_changes, fresh FROM pgopt_matviews;
INSERT INTO kept SELECT generate_series(701, 707);
INSERT INTO tracking_other.far VALUES (2);
SELECT view, pending_changes, fresh, reason FROM pgopt_matviews;

-- with pgopt.track_all_tables, tables that no view reads are counted too: here CREATE TABLE AS with 4 rows, and COPY
\set setting pgopt.track_all_tables
\set value on
\i :set_setting
CREATE TABLE made AS SELECT generate_series(1, 4) AS id;
COPY made FROM stdin;
5
6
\.
-- temporary tables are nobody's business even then
CREATE TEMP TABLE scratch AS SELECT 1 AS id;
INSERT INTO scratch VALUES (2);
SELECT relation, inserted, updated, deleted, truncated FROM pgopt_table_changes
 WHERE relation IN ('made'::regclass, 'scratch'::regclass);
\set value off
\i :set_setting

--
-- track_counts = off leaves nothing to count: then it is not known what changed
--
CREATE FUNCTION uncounted() RETURNS void LANGUAGE sql SET track_counts = off AS 'INSERT INTO tracking.kept VALUES (0)';
CREATE FUNCTION refreshed(OUT fresh boolean, OUT known boolean) LANGUAGE sql AS $$
	SELECT m.fresh, m.pending_changes IS NOT NULL FROM pgopt_matviews m WHERE view = 'everything'::regclass;
$$;
SELECT outcome FROM pgopt_refresh('everything');
SELECT * FROM refreshed();
-- reading does no harm
SET track_counts = off;
SELECT count(*) > 0 AS read FROM kept;
RESET track_counts;
SELECT * FROM refreshed();
-- for the session
SET track_counts = off;
INSERT INTO kept VALUES (801);
RESET track_counts;
SELECT * FROM refreshed();
SELECT bool_or(known) AS any_known FROM pgopt_table_changes;
SELECT outcome FROM pgopt_refresh('everything');
SELECT * FROM refreshed();
-- in the middle of a transaction, and back on before its end
BEGIN;
INSERT INTO kept VALUES (802);
SET LOCAL track_counts = off;
COPY kept FROM stdin;
803
\.
SET LOCAL track_counts = on;
INSERT INTO kept VALUES (804);
COMMIT;
SELECT * FROM refreshed();
SELECT outcome FROM pgopt_refresh('everything');
-- for a function
SELECT uncounted();
SELECT * FROM refreshed();
SELECT outcome FROM pgopt_refresh('everything');
SELECT * FROM refreshed();
-- rolled back: nothing happened
BEGIN;
SELECT uncounted();
ROLLBACK;
SELECT * FROM refreshed();
-- a TRUNCATE
SET track_counts = off;
TRUNCATE kept;
RESET track_counts;
SELECT * FROM refreshed();
SELECT outcome FROM pgopt_refresh('everything');
DROP SCHEMA tracking, tracking_other CASCADE;
DROP EXTENSION pgopt;
\c :home
DROP DATABASE pgopt_tracking;
ALTER SYSTEM RESET pgopt.auto_refresh;
ALTER SYSTEM RESET pgopt.track_all_tables;
SELECT pg_reload_conf();
