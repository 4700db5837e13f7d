--
-- Random changes in random transactions, with subtransactions that are rolled back, against an exact ledger; and
-- whenever a view is called fresh, its rows against its query.
--
-- The ledger is a table that is changed along with the others, so what is rolled back is rolled back there too.
-- PGOPT_SEED=0.123 in the environment takes another seed; a difference is printed with the seed that made it.
--
\getenv abs_srcdir PG_ABS_SRCDIR
\set set_setting :abs_srcdir '/sql/include/set.psql'
\set setting pgopt.auto_refresh
\set value off
\i :set_setting
\set seed 0.4242
\getenv seed PGOPT_SEED
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgopt;
CREATE SCHEMA random;
SET search_path = random, public;

CREATE TABLE plain (id int PRIMARY KEY, k int, x int);
CREATE TABLE parent (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, k int);
CREATE TABLE child (parent int REFERENCES parent ON DELETE CASCADE, x int);
CREATE TABLE part (id int GENERATED ALWAYS AS IDENTITY, k int, x int) PARTITION BY RANGE (k);
CREATE TABLE part_0 PARTITION OF part FOR VALUES FROM (0) TO (10);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (10) TO (20);
CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (20) TO (30) PARTITION BY RANGE (k);
CREATE TABLE part_2a PARTITION OF part_2 DEFAULT;
CREATE TABLE base (k int, x int);
CREATE TABLE heir (y int) INHERITS (base);

CREATE MATERIALIZED VIEW of_plain AS SELECT k, count(*), sum(x) FROM plain GROUP BY k;
CREATE UNIQUE INDEX ON of_plain (k);
CREATE MATERIALIZED VIEW of_join AS SELECT p.k, count(*), sum(c.x) FROM parent p JOIN child c ON c.parent = p.id GROUP BY p.k;
CREATE MATERIALIZED VIEW of_part AS SELECT k, count(*), sum(x) FROM part GROUP BY k;
CREATE MATERIALIZED VIEW of_base AS SELECT k, count(*), sum(x) FROM base GROUP BY k;
CREATE MATERIALIZED VIEW of_views AS SELECT k, a.sum AS a, b.sum AS b FROM of_plain a FULL JOIN of_part b USING (k);

CREATE TABLE ledger (
	relation regclass PRIMARY KEY,
	inserted bigint DEFAULT 0, updated bigint DEFAULT 0, deleted bigint DEFAULT 0,
	-- as it was when the transaction began
	inserted_before bigint DEFAULT 0, updated_before bigint DEFAULT 0, deleted_before bigint DEFAULT 0);
INSERT INTO ledger (relation)
	SELECT unnest('{plain,parent,child,part,base,heir}'::regclass[]);
CREATE TABLE result (batches int DEFAULT 0, differences int DEFAULT 0, fresh int DEFAULT 0, stale int DEFAULT 0);
INSERT INTO result DEFAULT VALUES;

CREATE FUNCTION note(what regclass, i bigint, u bigint, d bigint) RETURNS void LANGUAGE sql AS
	'UPDATE ledger SET inserted = inserted + i, updated = updated + u, deleted = deleted + d WHERE relation = what';

-- a TRUNCATE makes the server forget what the transaction did to the table before
CREATE FUNCTION note_truncate(what regclass) RETURNS void LANGUAGE sql AS
	'UPDATE ledger SET inserted = inserted_before, updated = updated_before, deleted = deleted_before WHERE relation = what';

CREATE FUNCTION one_of(n int) RETURNS int LANGUAGE sql AS 'SELECT floor(random() * n)::int';

CREATE FUNCTION change(refreshes boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	r int := one_of(10);
	n bigint;
	m bigint;
	view text := (ARRAY['of_plain', 'of_join', 'of_part', 'of_base', 'of_views'])[1 + one_of(5)];
BEGIN
	CASE one_of(27)
		WHEN 0, 1 THEN
			SELECT count(*) INTO n FROM plain WHERE id BETWEEN r * 20 AND r * 20 + 7;
			INSERT INTO plain SELECT i, i % 5, i FROM generate_series(r * 20, r * 20 + 7) i ON CONFLICT DO NOTHING;
			PERFORM note('plain', 8 - n, 0, 0);
		WHEN 2 THEN
			SELECT count(*) INTO n FROM plain WHERE id BETWEEN r * 20 + 5 AND r * 20 + 9;
			INSERT INTO plain SELECT i, i % 5, i FROM generate_series(r * 20 + 5, r * 20 + 9) i
				ON CONFLICT (id) DO UPDATE SET x = plain.x + 1;
			PERFORM note('plain', 5 - n, n, 0);
		WHEN 3 THEN
			UPDATE plain SET x = x + 1 WHERE id % 10 = r;
			GET DIAGNOSTICS n = ROW_COUNT;
			PERFORM note('plain', 0, n, 0);
		WHEN 4 THEN
			DELETE FROM plain WHERE id % 10 = r;
			GET DIAGNOSTICS n = ROW_COUNT;
			PERFORM note('plain', 0, 0, n);
		WHEN 5 THEN
			SELECT count(*) FILTER (WHERE id < 50), count(*) INTO n, m FROM plain WHERE id BETWEEN 45 AND 54;
			MERGE INTO plain p USING generate_series(45, 54) i ON p.id = i
			WHEN MATCHED AND p.id < 50 THEN DELETE
			WHEN MATCHED THEN UPDATE SET x = -p.x
			WHEN NOT MATCHED THEN INSERT VALUES (i, i % 5, i);
			PERFORM note('plain', 10 - m, m - n, n);
		WHEN 6 THEN
			IF random() < 0.4 THEN
				TRUNCATE plain;
				PERFORM note_truncate('plain');
			END IF;
		WHEN 7, 8 THEN
			INSERT INTO parent (k) SELECT i % 5 FROM generate_series(1, 1 + r) i;
			PERFORM note('parent', 1 + r, 0, 0);
		WHEN 9, 10 THEN
			INSERT INTO child SELECT id, r FROM parent WHERE id % 4 = r % 4;
			GET DIAGNOSTICS n = ROW_COUNT;
			PERFORM note('child', n, 0, 0);
		WHEN 11 THEN
			SELECT count(*) INTO n FROM child WHERE parent % 10 = r;
			DELETE FROM parent WHERE id % 10 = r;
			GET DIAGNOSTICS m = ROW_COUNT;
			PERFORM note('parent', 0, 0, m), note('child', 0, 0, n);
		WHEN 12, 13 THEN
			INSERT INTO part (k, x) SELECT (i * r) % 30, i FROM generate_series(1, 10) i;
			PERFORM note('part', 10, 0, 0);
		WHEN 14 THEN
			UPDATE part SET x = x + 1 WHERE id % 10 = r;
			GET DIAGNOSTICS n = ROW_COUNT;
			PERFORM note('part', 0, n, 0);
		WHEN 15 THEN
			-- to another partition: deleted here, inserted there
			UPDATE part SET k = (k + 10) % 30 WHERE id % 10 = r;
			GET DIAGNOSTICS n = ROW_COUNT;
			PERFORM note('part', n, 0, n);
		WHEN 16 THEN
			WITH gone AS (DELETE FROM part WHERE id % 10 = r RETURNING k, x)
			INSERT INTO base SELECT * FROM gone;
			GET DIAGNOSTICS n = ROW_COUNT;
			PERFORM note('part', 0, 0, n), note('base', n, 0, 0);
		WHEN 17 THEN
			IF random() < 0.2 THEN
				TRUNCATE part;
				PERFORM note_truncate('part');
			END IF;
		WHEN 18 THEN
			INSERT INTO heir SELECT i, r, i FROM generate_series(1, r) i;
			PERFORM note('heir', r, 0, 0);
		WHEN 19 THEN
			SELECT count(*) FILTER (WHERE tableoid = 'base'::regclass), count(*) FILTER (WHERE tableoid = 'heir'::regclass)
			  INTO n, m FROM base WHERE k = r;
			UPDATE base SET x = x + 1 WHERE k = r;
			PERFORM note('base', 0, n, 0), note('heir', 0, m, 0);
		WHEN 20, 21, 22, 23, 24, 25 THEN
			IF refreshes THEN
				PERFORM pgopt_refresh(view::regclass);
			END IF;
		WHEN 26 THEN
			IF refreshes AND random() < 0.3 THEN
				EXECUTE 'REFRESH MATERIALIZED VIEW ' || view;
			END IF;
	END CASE;
END $$;

CREATE FUNCTION changes(depth int, refreshes boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 0..one_of(4) LOOP
		IF depth < 3 AND random() < 0.3 THEN
			BEGIN
				PERFORM changes(depth + 1, refreshes);
				IF random() < 0.4 THEN
					RAISE SQLSTATE 'PX001';
				END IF;
			EXCEPTION WHEN SQLSTATE 'PX001' THEN
				IF random() < 0.5 THEN
					PERFORM change(refreshes);
				END IF;
			END;
		ELSE
			PERFORM change(refreshes);
		END IF;
	END LOOP;
END $$;

CREATE FUNCTION compare(seed float8, batch int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	c record;
	n bigint;
BEGIN
	FOR c IN SELECT l.relation, l.inserted, l.updated, l.deleted, t.inserted AS i, t.updated AS u, t.deleted AS d
	           FROM ledger l LEFT JOIN pgopt_table_changes t USING (relation)
	          WHERE (l.inserted, l.updated, l.deleted) IS DISTINCT FROM (t.inserted, t.updated, t.deleted) LOOP
		RAISE WARNING 'seed %, batch %: %: counted % % %, the ledger has % % %',
			seed, batch, c.relation, c.i, c.u, c.d, c.inserted, c.updated, c.deleted;
		UPDATE result SET differences = differences + 1;
	END LOOP;
	FOR c IN SELECT view, fresh, pg_get_viewdef(view) AS query FROM pgopt_matviews LOOP
		UPDATE result SET fresh = result.fresh + c.fresh::int, stale = stale + (NOT c.fresh)::int;
		CONTINUE WHEN NOT c.fresh;
		EXECUTE format('SELECT count(*) FROM ((TABLE %1$s EXCEPT ALL (%2$s)) UNION ALL ((%2$s) EXCEPT ALL TABLE %1$s)) d',
		               c.view, rtrim(c.query, ';')) INTO n;
		IF n > 0 THEN
			RAISE WARNING 'seed %, batch %: % is called fresh and differs by % rows', seed, batch, c.view, n;
			UPDATE result SET differences = differences + 1;
		END IF;
	END LOOP;
	UPDATE result SET batches = batches + 1;
END $$;

CREATE PROCEDURE run(seed float8, batches int, refreshes boolean) LANGUAGE plpgsql AS $$
DECLARE
	repeatable boolean;
	undo boolean;
BEGIN
	PERFORM setseed(seed);
	FOR batch IN 1..batches LOOP
		UPDATE ledger SET inserted_before = inserted, updated_before = updated, deleted_before = deleted;
		repeatable := random() < 0.1;
		undo := random() < 0.2;
		PERFORM set_config('default_transaction_isolation',
		                   CASE WHEN repeatable THEN 'repeatable read' ELSE 'read committed' END, false);
		COMMIT;
		PERFORM changes(0, refreshes);
		IF undo THEN
			ROLLBACK;
		ELSE
			COMMIT;
		END IF;
		PERFORM compare(seed, batch);
	END LOOP;
END $$;

SELECT count(pgopt_manage(v, 'manual')) FROM unnest('{of_plain,of_join,of_part,of_base,of_views}'::regclass[]) v;
SELECT count(*) FROM pgopt_refresh_all();
CALL run(:seed, 300, true);
-- both of fresh and stale views there were plenty
SELECT batches, differences, fresh > 100 AS fresh, stale > 100 AS stale FROM result;

-- and with the workers at it all the time
UPDATE result SET batches = 0, fresh = 0, stale = 0;
SELECT count(pgopt_manage(v, 'immediate')) FROM unnest('{of_plain,of_join,of_part,of_base,of_views}'::regclass[]) v;
\set value on
\i :set_setting
CALL run(:seed + 0.1, 200, false);
SELECT batches, differences FROM result;
DO $$
BEGIN
	FOR i IN 1..1500 LOOP
		EXIT WHEN (SELECT bool_and(fresh) FROM pgopt_matviews);
		PERFORM pg_sleep(0.02);
	END LOOP;
END $$;
SELECT compare(:seed + 0.1, 201);
SELECT differences FROM result;
SELECT view, fresh, failures FROM pgopt_matviews ORDER BY view::text;

DROP SCHEMA random CASCADE;
DROP EXTENSION pgopt;
ALTER SYSTEM RESET pgopt.auto_refresh;
SELECT pg_reload_conf();
