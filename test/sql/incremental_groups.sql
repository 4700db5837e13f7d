--
-- Incremental refresh of views that group: what groups are made of is kept, and follows the changes.
--
-- The last part makes random changes; PGOPT_SEED=0.123 in the environment takes another seed, and a difference is
-- printed with the seed that made it.
--
\set seed 0.4242
\getenv seed PGOPT_SEED
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

-- Sums, averages and counts; keys that are NULL; groups that vanish and come back.
CREATE TABLE sale (id int PRIMARY KEY, shop text, kind text, n int, big bigint, price numeric(10,2), weight numeric,
                   ratio float8, at timestamptz, paid boolean);
INSERT INTO sale
SELECT i, CASE WHEN i % 5 > 0 THEN 'shop ' || i % 5 END, CASE WHEN i % 3 > 0 THEN 'kind ' || i % 3 END, i % 17,
       i * 4000000000, i * 1.25, CASE WHEN i % 4 > 0 THEN i * 0.1 END, i / 8.0, '2025-01-01 UTC'::timestamptz + i * interval '1 day',
       i % 2 = 0
  FROM generate_series(1, 60) i;
CREATE MATERIALIZED VIEW sums AS
    SELECT shop, kind, count(*) AS sales, count(weight) AS weighed, sum(n) AS n, avg(n) AS mean_n, sum(big) AS big,
           avg(big) AS mean_big, sum(price) AS price, avg(weight) AS mean_weight, sum(weight) AS weight
      FROM sale GROUP BY shop, kind;
SELECT managed('sums');
SELECT mode FROM refreshed('sums');
SELECT * FROM refreshed('sums');

INSERT INTO sale VALUES (100, NULL, NULL, 5, 7, 1, 0.125), (101, 'new', NULL, NULL, NULL, NULL, NULL), (102, NULL, 'kind 1', -1, 0, 0, 0);
UPDATE sale SET weight = NULL, n = NULL WHERE shop = 'shop 2';
UPDATE sale SET kind = NULL WHERE id IN (1, 2);
SELECT * FROM refreshed('sums');
SELECT * FROM sums WHERE shop IS NULL OR shop IN ('new', 'shop 2') ORDER BY shop, kind;

DELETE FROM sale WHERE shop IS NULL AND kind IS NULL OR shop = 'shop 3';
SELECT * FROM refreshed('sums');
SELECT count(*) FROM sums WHERE shop IS NULL AND kind IS NULL OR shop = 'shop 3';
INSERT INTO sale VALUES (103, 'shop 3', 'kind 2', 1, 1, 1, 1), (104, NULL, NULL, 1, 1, 1, 1.50);
SELECT * FROM refreshed('sums');
SELECT * FROM sums WHERE shop IS NULL AND kind IS NULL OR shop = 'shop 3' ORDER BY shop;

-- A group in which nothing changed keeps its row where it is, NULL keys or not.
CREATE TEMP TABLE places AS SELECT ctid AS place, shop, kind FROM sums;
UPDATE sale SET n = n + 1 WHERE shop = 'shop 1' AND kind = 'kind 1';
UPDATE sale SET ratio = ratio + 1;
UPDATE sale SET n = CASE WHEN id = 100 THEN n ELSE n + (CASE WHEN id % 2 = 0 THEN 1 ELSE -1 END) END WHERE shop IS NULL;
UPDATE sale SET n = CASE WHEN id = 100 THEN n ELSE n - (CASE WHEN id % 2 = 0 THEN 1 ELSE -1 END) END WHERE shop IS NULL;
SELECT * FROM refreshed('sums');
SELECT shop, kind FROM sums v WHERE NOT EXISTS (SELECT FROM places p WHERE place = v.ctid);

-- HAVING: rows appear and disappear while their groups stay.
CREATE MATERIALIZED VIEW busy AS SELECT shop, count(*) AS sales FROM sale GROUP BY shop HAVING count(*) > 11 AND sum(n) > 0;
SELECT managed('busy');
SELECT mode FROM refreshed('busy');
TABLE busy ORDER BY shop;
INSERT INTO sale (id, shop, n) VALUES (201, 'shop 2', 100);
UPDATE sale SET n = -1000 WHERE id = 4;
SELECT * FROM refreshed('busy');
TABLE busy ORDER BY shop;
UPDATE sale SET n = 4 WHERE id = 4;
DELETE FROM sale WHERE id = 201;
SELECT * FROM refreshed('busy');
TABLE busy ORDER BY shop;

-- Without GROUP BY there is one row, even over nothing.
CREATE TABLE single (v int, t text);
CREATE MATERIALIZED VIEW whole AS
    SELECT count(*) AS rows, sum(v) AS total, min(v) AS least, max(t) AS most, count(DISTINCT t) AS texts,
           string_agg(DISTINCT t, ',') AS list, bool_or(v > 5) AS some
      FROM single;
CREATE MATERIALIZED VIEW whole_anew AS SELECT array_agg(v ORDER BY v) AS list, max(v) AS most FROM single;
SELECT managed('whole'), managed('whole_anew');
SELECT v, mode FROM (VALUES ('whole'), ('whole_anew')) n (v), refreshed(v::regclass);
TABLE whole;
INSERT INTO single VALUES (1, 'a'), (2, 'b'), (NULL, NULL), (9, 'b');
SELECT v, r.* FROM (VALUES ('whole'), ('whole_anew')) n (v), refreshed(v::regclass) r;
TABLE whole;
TABLE whole_anew;
DELETE FROM single WHERE v = 9 OR v IS NULL;
SELECT v, r.* FROM (VALUES ('whole'), ('whole_anew')) n (v), refreshed(v::regclass) r;
TABLE whole;
DELETE FROM single;
SELECT v, r.* FROM (VALUES ('whole'), ('whole_anew')) n (v), refreshed(v::regclass) r;
TABLE whole;
TABLE whole_anew;

-- Minimum and maximum: more values than are kept, those kept go, all go; duplicates; NULL is none.
CREATE TABLE reading (place text, v int, t text COLLATE "C", a int[]);
INSERT INTO reading SELECT 'p' || i % 2, i / 2, 'text ' || i, ARRAY[i, -i] FROM generate_series(1, 400) i;
INSERT INTO reading SELECT 'same', 7, 'same', '{1}' FROM generate_series(1, 100);
INSERT INTO reading VALUES ('none', NULL, NULL, NULL);
CREATE MATERIALIZED VIEW extremes AS
    SELECT place, min(v) AS least, max(v) AS most, min(t) AS first, max(a) AS last FROM reading GROUP BY place;
SELECT managed('extremes');
SELECT mode FROM refreshed('extremes');
INSERT INTO reading VALUES ('p0', -5, 'zzz', '{999}'), ('p1', 1000, ' ', NULL), ('none', 3, NULL, NULL);
SELECT * FROM refreshed('extremes');
DELETE FROM reading WHERE v < 20 AND v <> 7;
SELECT * FROM refreshed('extremes');
DELETE FROM reading WHERE v < 90 AND v <> 7;
SELECT * FROM refreshed('extremes');
DELETE FROM reading WHERE ctid IN (SELECT ctid FROM reading WHERE place = 'same' LIMIT 99);
SELECT * FROM refreshed('extremes');
TABLE extremes ORDER BY place;
UPDATE reading SET v = NULL, t = NULL WHERE place IN ('p1', 'none');
DELETE FROM reading WHERE place = 'p0';
SELECT * FROM refreshed('extremes');
TABLE extremes ORDER BY place;
INSERT INTO reading VALUES ('p0', 1, 'back', '{}');
SELECT * FROM refreshed('extremes');
TABLE extremes ORDER BY place;

-- A group keeps to its own values when many groups are new, or change places, at once.
INSERT INTO reading SELECT 'q' || i, i, 't' || i, '{}' FROM generate_series(1, 300) i, generate_series(1, 2);
SELECT * FROM refreshed('extremes');
UPDATE reading SET place = 'q' || 301 - substr(place, 2)::int WHERE place ~ 'q';
SELECT * FROM refreshed('extremes');

-- Values of aggregates with DISTINCT come and go.
CREATE TABLE vote (voter int, choice text, topic text, at date);
INSERT INTO vote SELECT i, 'choice ' || i % 4, 'topic ' || i % 3, '2025-01-01'::date + i % 7 FROM generate_series(1, 50) i;
CREATE MATERIALIZED VIEW choices AS
    SELECT topic, string_agg(DISTINCT choice, ', ') AS choices, count(*) AS votes FROM vote GROUP BY topic;
CREATE MATERIALIZED VIEW choices_and_dates AS
    SELECT topic, array_agg(DISTINCT choice ORDER BY choice DESC) AS choices, count(DISTINCT at) AS days,
           sum(DISTINCT voter % 5) AS s, min(voter) AS least
      FROM vote GROUP BY topic;
SELECT managed('choices'), managed('choices_and_dates');
SELECT v, mode FROM (VALUES ('choices'), ('choices_and_dates')) n (v), refreshed(v::regclass);
INSERT INTO vote VALUES (51, 'another', 'topic 1', '2025-02-01'), (52, 'choice 1', 'topic 2', '2025-01-03');
SELECT v, r.* FROM (VALUES ('choices'), ('choices_and_dates')) n (v), refreshed(v::regclass) r;
TABLE choices ORDER BY topic;
UPDATE vote SET choice = NULL WHERE voter = 51;
DELETE FROM vote WHERE topic = 'topic 2' AND choice = 'choice 1';
SELECT v, r.* FROM (VALUES ('choices'), ('choices_and_dates')) n (v), refreshed(v::regclass) r;
TABLE choices_and_dates ORDER BY topic;
DELETE FROM vote WHERE topic = 'topic 0';
INSERT INTO vote SELECT i, 'many ' || i, 'topic 4', '2025-01-01' FROM generate_series(1, 3000) i;
SELECT v, r.* FROM (VALUES ('choices'), ('choices_and_dates')) n (v), refreshed(v::regclass) r;
UPDATE vote SET choice = 'fewer ' || voter % 10 WHERE topic = 'topic 4';
INSERT INTO vote VALUES (51, 'x', 'topic 0', NULL);
SELECT v, r.* FROM (VALUES ('choices'), ('choices_and_dates')) n (v), refreshed(v::regclass) r;

-- What is computed anew for the groups that changed.
CREATE MATERIALIZED VIEW anew AS
    SELECT shop, paid, round(stddev(ratio)::numeric, 9) AS s, sum(ratio) AS r, string_agg(kind, ',' ORDER BY id) AS kinds,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY n) AS middle
      FROM sale GROUP BY shop, paid;
SELECT managed('anew');
SELECT mode FROM refreshed('anew');
UPDATE sale SET ratio = 'NaN' WHERE id = 9;
UPDATE sale SET kind = 'other' WHERE id = 10;
INSERT INTO sale (id, ratio, n) VALUES (301, 1e10, 3), (302, -1e10, 4);
SELECT * FROM refreshed('anew');
UPDATE sale SET ratio = 9 / 8.0 WHERE id = 9;
DELETE FROM sale WHERE id IN (301, 302);
SELECT * FROM refreshed('anew');

-- NaN and infinity cannot be taken out of a sum: then all is computed, and it goes on from there.
INSERT INTO sale (id, shop, weight) VALUES (400, 'odd', 'NaN'), (401, 'shop 1', 'infinity');
SELECT missing, surplus FROM refreshed('sums');
SELECT weight FROM sums WHERE shop = 'odd';
DELETE FROM sale WHERE id IN (400, 401);
SELECT missing, surplus FROM refreshed('sums');
UPDATE sale SET weight = 5 WHERE id = 12;
SELECT * FROM refreshed('sums');

-- Keys of all kinds of types.
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE DOMAIN percent AS int CHECK (VALUE BETWEEN 0 AND 100);
CREATE TYPE pair AS (a int, b text);
CREATE TABLE odd (m mood, p percent, c pair, a text[], j jsonb, f float8, d numeric, ch char(5), b bit(3), r int4range, v int);
INSERT INTO odd
SELECT (ARRAY['good', 'bad']::mood[])[1 + i % 2], i % 3, ROW(i % 2, 'x')::pair, ARRAY['y', (i % 2)::text], jsonb_build_object('k', i % 3),
       i % 2, i % 3, 'c' || i % 2, (i % 4)::bit(3), int4range(i % 3, 5), i
  FROM generate_series(1, 40) i;
CREATE MATERIALIZED VIEW by_mood AS SELECT m, p, c, a, count(*), max(v) FROM odd GROUP BY 1, 2, 3, 4;
CREATE MATERIALIZED VIEW by_json AS SELECT j, ch, r, count(*), count(DISTINCT m) AS moods, count(DISTINCT b) AS bits, max(p) FROM odd GROUP BY 1, 2, 3;
CREATE MATERIALIZED VIEW by_number AS SELECT d, f, count(*), sum(v) FROM odd GROUP BY 1, 2;
CREATE MATERIALIZED VIEW distinct_rows AS SELECT DISTINCT m, ch, v % 4 AS v FROM odd;
CREATE TABLE odd_view (v regclass);
INSERT INTO odd_view VALUES ('by_mood'), ('by_json'), ('by_number'), ('distinct_rows');
SELECT managed(v) FROM odd_view;
SELECT v, mode FROM odd_view, refreshed(v);
UPDATE odd SET m = NULL, c = NULL, j = NULL, f = '-0', d = 1.00 WHERE v % 7 = 0;
UPDATE odd SET p = 99, a = '{}', ch = 'new', v = v + 1 WHERE v % 11 = 0;
INSERT INTO odd SELECT * FROM odd WHERE v < 5;
SELECT v, r.* FROM odd_view, refreshed(v) r;
DELETE FROM odd WHERE v < 5 OR m = 'bad';
SELECT v, r.* FROM odd_view, refreshed(v) r;

-- The state is the extension's, and goes with the view.
SELECT count(*) > 0 AS kept FROM pg_class WHERE relnamespace = 'pgopt'::regnamespace AND relname ~ '^(groups|values)_.*\d$';
SELECT DISTINCT deptype FROM pg_depend d JOIN pg_class c ON c.oid = d.objid AND d.classid = 'pg_class'::regclass
 WHERE relname ~ '^(groups|values)_.*\d$' AND relkind = 'r' AND refclassid = 'pg_extension'::regclass;
SELECT 'pgopt.groups_' || 'choices'::regclass::oid AS groups, 'pgopt.values_' || 'choices'::regclass::oid || '_1' AS values \gset
SELECT count(*) FROM :groups;
SELECT sum(n) = (SELECT count(*) FROM vote) AS counted FROM :values;
SELECT pgopt_unmanage('choices'::regclass);
SELECT to_regclass(:'groups'), to_regclass(:'values');

-- Random changes. One view for each way of its own.
CREATE SCHEMA random;
SET search_path = random, public;
CREATE TABLE fact (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, k text, l int, n int, m numeric(8,2), t text, b boolean);
CREATE TABLE dimension (k text, region text);
INSERT INTO dimension SELECT 'k' || i, 'r' || i % 3 FROM generate_series(0, 7) i;
CREATE MATERIALIZED VIEW v1 AS SELECT k, count(*), sum(n), avg(m), count(n) AS c FROM fact GROUP BY k;
CREATE MATERIALIZED VIEW v2 AS SELECT k, b, min(n), max(m), min(t) AS t, bool_and(b) FROM fact GROUP BY k, b HAVING count(*) > 3;
CREATE MATERIALIZED VIEW v3 AS SELECT l, string_agg(DISTINCT t, ',') AS t, count(DISTINCT n) AS n FROM fact GROUP BY l;
CREATE MATERIALIZED VIEW v4 AS SELECT k, b, string_agg(DISTINCT t, ',') AS t, count(*), max(n) FROM fact WHERE n > 10 GROUP BY k, b;
CREATE MATERIALIZED VIEW v5 AS SELECT count(*), sum(m), max(n), count(DISTINCT t) AS t FROM fact WHERE l <> 3;
CREATE MATERIALIZED VIEW v6 AS SELECT region, b, count(*), sum(m), min(f.k) FROM fact f LEFT JOIN dimension d ON d.k = f.k GROUP BY 1, 2;
CREATE MATERIALIZED VIEW v7 AS SELECT k, array_agg(n ORDER BY id) AS n, variance(n) AS v, min(l) AS l FROM fact GROUP BY k;
CREATE MATERIALIZED VIEW v8 AS SELECT DISTINCT k, l, b FROM fact;
CREATE MATERIALIZED VIEW v9 AS SELECT k, NULL::text AS region FROM fact UNION SELECT k, region FROM dimension;
CREATE TABLE result (view regclass PRIMARY KEY, incremental int DEFAULT 0, others int DEFAULT 0, differences int DEFAULT 0);
INSERT INTO result SELECT 'random.v' || i FROM generate_series(1, 9) i;

CREATE FUNCTION one_of(VARIADIC choices text[]) RETURNS text LANGUAGE sql VOLATILE AS
    'SELECT choices[1 + floor(random() * array_length(choices, 1))::int]';
CREATE FUNCTION add_rows(number int) RETURNS void LANGUAGE sql VOLATILE AS $$
    INSERT INTO fact (k, l, n, m, t, b)
    SELECT CASE WHEN random() < 0.9 THEN 'k' || floor(random() * 9)::int END, floor(random() * 6)::int,
           CASE WHEN random() < 0.9 THEN floor(random() * 100)::int END, round((random() * 1000)::numeric, 2),
           't' || floor(random() * 20)::int, CASE WHEN random() < 0.9 THEN random() < 0.5 END
      FROM generate_series(1, number) $$;
CREATE FUNCTION change_rows() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    those text := format('id IN (SELECT id FROM fact ORDER BY random() LIMIT %s)', one_of('1', '3', '20', '200'));
BEGIN
    CASE one_of('add', 'add', 'delete', 'clear', 'dimension', 'update', 'update', 'update')
    WHEN 'add' THEN PERFORM add_rows(one_of('1', '5', '50')::int);
    WHEN 'delete' THEN EXECUTE 'DELETE FROM fact WHERE ' || those;
    WHEN 'clear' THEN EXECUTE 'DELETE FROM fact WHERE ' || one_of('k IS NULL', 'b', 'l = 2', 'n > 80', 't < ''t12''', 'k = ''k3''');
    WHEN 'dimension' THEN EXECUTE 'UPDATE dimension SET region = ' || one_of('''r1''', 'NULL', '''r'' || floor(random() * 5)')
                        || ' WHERE random() < 0.3';
    ELSE EXECUTE 'UPDATE fact SET ' || one_of('n = n + 1', 'n = NULL', 'm = -m', 'k = ''k'' || floor(random() * 9)', 'b = NOT b',
                                              't = ''t'' || floor(random() * 30)', 'l = l + 1', 'k = NULL, t = NULL')
                 || ' WHERE ' || those;
    END CASE;
END $$;
CREATE PROCEDURE random_changes(batches int) LANGUAGE plpgsql AS $$
DECLARE
    r record;
BEGIN
    FOR batch IN 1 .. batches LOOP
        FOR step IN 1 .. one_of('1', '2', '4')::int LOOP
            BEGIN
                PERFORM change_rows();
                IF random() < 0.1 THEN
                    RAISE division_by_zero;
                END IF;
            EXCEPTION WHEN division_by_zero THEN NULL;
            END;
        END LOOP;
        COMMIT;
        FOR r IN SELECT view FROM result ORDER BY view LOOP
            CONTINUE WHEN random() < 0.3;
            UPDATE result SET incremental = incremental + (mode = 'incremental')::int, others = others + (mode <> 'incremental')::int,
                              differences = differences + missing + surplus
              FROM refreshed(r.view) WHERE view = r.view;
            COMMIT;
        END LOOP;
    END LOOP;
END $$;

SELECT setseed(:seed);
SELECT add_rows(300);
SELECT managed(view) FROM result;
SELECT bool_and(missing + surplus = 0) FROM result, refreshed(view);
CALL random_changes(25);
SELECT count(*) FILTER (WHERE incremental > 0 AND others = 0) AS incremental, sum(differences) AS differences FROM result;
SELECT :'seed' AS seed, * FROM result WHERE differences > 0;

SET client_min_messages = warning;
DROP SCHEMA random CASCADE;
RESET search_path;
DROP TABLE sale, single, reading, vote, odd, odd_view CASCADE;
DROP FUNCTION refreshed, managed;
DROP EXTENSION pgopt CASCADE;
DROP TYPE mood, pair;
DROP DOMAIN percent;
RESET client_min_messages;
