-- One table for each kind of index that is advised, and tables on which none must be.
-- Every index is made by the statement as it was printed, and the server's own planner has to use it.
SET client_min_messages = warning; CREATE EXTENSION IF NOT EXISTS pgopt; RESET client_min_messages;
SET client_min_messages = warning; CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE SCHEMA advisor_kinds;
SET search_path = advisor_kinds, public;
SET max_parallel_workers_per_gather = 0;

-- A number from 0 to n - 1, scattered and the same each time.
CREATE FUNCTION draw(i int, purpose int, n int) RETURNS int LANGUAGE sql IMMUTABLE
AS $$ SELECT ((hashint4extended(i, purpose) & 9223372036854775807) % n)::int $$;

CREATE TABLE advisor_case (
  name     text PRIMARY KEY COLLATE "C",
  wanted   text,               -- what the statement that makes the index must match; null = none may be advised
  budget   text,
  queries  text[] NOT NULL,
  position int GENERATED ALWAYS AS IDENTITY
);
CREATE TABLE advised (name text, place int, ddl text, size_bytes bigint, cost_before float8, cost_after float8);

-- Kinds ---------------------------------------------------------------------------------------------------------------

CREATE TABLE reading (id int PRIMARY KEY, station int, taken int, body text);
INSERT INTO reading SELECT i, draw(i, 1, 40), draw(i, 2, 100000), repeat('x', 100) FROM generate_series(1, 40000) AS i;
INSERT INTO advisor_case (name, wanted, queries) VALUES ('btree: equality and range', 'btree \(station, taken',
  ARRAY['SELECT * FROM reading WHERE station = 7 AND taken >= 50000 AND taken < 55000']);

CREATE TABLE player (id int PRIMARY KEY, score int, body text);
INSERT INTO player SELECT i, draw(i, 1, 1000000), repeat('x', 100) FROM generate_series(1, 40000) AS i;
INSERT INTO advisor_case (name, wanted, queries) VALUES ('btree: order', 'btree \(score',
  ARRAY['SELECT * FROM player ORDER BY score DESC LIMIT 10']);

CREATE TABLE sale (id int PRIMARY KEY, customer int, amount int, body text);
INSERT INTO sale SELECT i, draw(i, 1, 40), draw(i, 2, 1000), repeat('x', 200) FROM generate_series(1, 40000) AS i;
INSERT INTO advisor_case (name, wanted, queries) VALUES
  ('btree: covering', 'btree \(customer(\) INCLUDE \(amount\)|, amount\))',
  ARRAY['SELECT sum(amount) FROM sale WHERE customer = 5']);

CREATE TABLE task (id int PRIMARY KEY, state text, due int, owner int, body text);
INSERT INTO task SELECT i, CASE WHEN draw(i, 1, 100) < 2 THEN 'open' ELSE 'done' END, draw(i, 2, 100000), draw(i, 3, 1000), repeat('x', 100)
  FROM generate_series(1, 40000) AS i;
INSERT INTO advisor_case (name, wanted, queries) VALUES ('btree: partial', $$WHERE .*state = 'open'$$,
  ARRAY[$$SELECT * FROM task WHERE state = 'open' ORDER BY due LIMIT 20$$,
        $$SELECT * FROM task WHERE state = 'open' AND due < 1000$$,
        $$SELECT count(*) FROM task WHERE state = 'open' AND due BETWEEN 500 AND 90000$$]);

CREATE TABLE person (id int PRIMARY KEY, email text, body text);
INSERT INTO person SELECT i, 'Person.' || draw(i, 1, 100000) || '@Example.org', repeat('x', 100) FROM generate_series(1, 40000) AS i;
INSERT INTO advisor_case (name, wanted, queries) VALUES ('btree: expression', 'btree \(+lower\(email\)',
  ARRAY[$$SELECT * FROM person WHERE lower(email) = 'person.4711@example.org'$$]);

CREATE TABLE part (id int PRIMARY KEY, kind int, colour int, shape int, body text);
INSERT INTO part SELECT i, draw(i, 1, 12), draw(i, 2, 12), draw(i, 3, 12), repeat('x', 100) FROM generate_series(1, 40000) AS i;
INSERT INTO advisor_case (name, wanted, queries) VALUES
  ('btree: several columns', 'btree \((kind|colour|shape), (kind|colour|shape), (kind|colour|shape)\)',
  ARRAY['SELECT * FROM part WHERE kind = 3 AND colour = 4 AND shape = 5']);

CREATE TABLE author (id int PRIMARY KEY, name text UNIQUE);
CREATE TABLE book (id int PRIMARY KEY, author_id int REFERENCES author, body text);
INSERT INTO author SELECT i, 'author ' || i FROM generate_series(1, 2000) AS i;
INSERT INTO book SELECT i, 1 + draw(i, 1, 2000), repeat('x', 100) FROM generate_series(1, 40000) AS i;
INSERT INTO advisor_case (name, wanted, queries) VALUES ('btree: join', 'ON (advisor_kinds\.)?book USING btree \(author_id',
  ARRAY[$$SELECT b.* FROM author AS a JOIN book AS b ON b.author_id = a.id WHERE a.name = 'author 77'$$]);

CREATE TABLE document (id int PRIMARY KEY, meta jsonb);
INSERT INTO document SELECT i, jsonb_build_object('tag', 'tag ' || draw(i, 1, 500), 'year', 1990 + draw(i, 2, 30), 'body', repeat('x', 60))
  FROM generate_series(1, 40000) AS i;
INSERT INTO advisor_case (name, wanted, queries) VALUES ('gin: jsonb containment', 'gin \(meta',
  ARRAY[$$SELECT * FROM document WHERE meta @> '{"tag": "tag 77", "year": 1999}'$$]);

CREATE TABLE bill (id int PRIMARY KEY, meta jsonb);
INSERT INTO bill SELECT i, jsonb_build_object('state', 'state ' || draw(i, 1, 300), 'body', repeat('x', 80)) FROM generate_series(1, 40000) AS i;
INSERT INTO advisor_case (name, wanted, queries) VALUES ('btree: key of jsonb', $$btree \(+meta ->> 'state'$$,
  ARRAY[$$SELECT * FROM bill WHERE meta->>'state' = 'state 17'$$]);

CREATE TABLE photo (id int PRIMARY KEY, tags text[], body text);
INSERT INTO photo SELECT i, ARRAY['tag ' || draw(i, 1, 400), 'tag ' || draw(i, 2, 400), 'tag ' || draw(i, 3, 400)], repeat('x', 80)
  FROM generate_series(1, 40000) AS i;
INSERT INTO advisor_case (name, wanted, queries) VALUES ('gin: array', 'gin \(tags',
  ARRAY[$$SELECT * FROM photo WHERE tags @> ARRAY['tag 77']$$]);

CREATE TABLE article (id int PRIMARY KEY, title text, body text);
INSERT INTO article SELECT i, format('%s of %s, by %s', md5(i::text), md5('t' || i), md5('a' || draw(i, 1, 1000))), repeat('x', 100)
  FROM generate_series(1, 20000) AS i;
UPDATE article SET title = title || ' zebra crossing' WHERE id % 2000 = 0;
INSERT INTO advisor_case (name, wanted, queries) VALUES ('gin: trigrams', 'gin \(title (public\.)?gin_trgm_ops',
  ARRAY[$$SELECT * FROM article WHERE title LIKE '%zebra cro%'$$]);

-- Wide rows in the order of time, and no room for a B-tree.
CREATE TABLE measurement (id int PRIMARY KEY, at timestamp, value int, body text);
INSERT INTO measurement SELECT i, timestamp '2026-01-01' + i * interval '1 minute', draw(i, 1, 1000), repeat('x', 1800)
  FROM generate_series(1, 20000) AS i;
INSERT INTO advisor_case (name, wanted, budget, queries) VALUES ('brin', 'brin \(at', '100kB',
  ARRAY[$$SELECT sum(value) FROM measurement WHERE at >= '2026-01-10 08:00' AND at < '2026-01-10 12:00'$$]);

-- A thirteenth, of which a monitor of laws lives.
CREATE TABLE law (id int PRIMARY KEY, content text);
INSERT INTO law SELECT i, format('artigo %s da lei sobre assunto%s e matéria%s', i, draw(i, 1, 700), draw(i, 2, 700)) || repeat(' parágrafo', 10)
  FROM generate_series(1, 5000) AS i;
INSERT INTO advisor_case (name, wanted, queries) VALUES ('gin: full text', $$gin \(+to_tsvector\('portuguese'::regconfig, content\)$$,
  ARRAY[$$SELECT id FROM law WHERE to_tsvector('portuguese', content) @@ to_tsquery('portuguese', 'assunto77')$$]);

-- None may be advised -------------------------------------------------------------------------------------------------

CREATE TABLE tiny AS SELECT i AS a, 'x' AS b FROM generate_series(1, 20) AS i;
INSERT INTO advisor_case (name, queries) VALUES ('none: a table of one page', ARRAY['SELECT * FROM tiny WHERE a = 5', 'SELECT * FROM tiny ORDER BY a LIMIT 1']);

CREATE TABLE flagged AS SELECT i AS id, draw(i, 1, 100) < 95 AS active, repeat('x', 100) AS body FROM generate_series(1, 20000) AS i;
INSERT INTO advisor_case (name, queries) VALUES ('none: almost all rows pass', ARRAY['SELECT * FROM flagged WHERE active']);

CREATE TABLE indexed AS SELECT i AS id, draw(i, 1, 5000) AS a, draw(i, 2, 5000) AS b, repeat('x', 100) AS body FROM generate_series(1, 20000) AS i;
CREATE INDEX ON indexed (a, b);
INSERT INTO advisor_case (name, queries) VALUES
  ('none: there is an index', ARRAY['SELECT * FROM indexed WHERE a = 5 AND b = 7', 'SELECT a, b FROM indexed WHERE a = 5', 'SELECT * FROM indexed ORDER BY a LIMIT 5']),
  ('none: there is a primary key', ARRAY['SELECT * FROM reading WHERE id = 5', 'SELECT * FROM reading ORDER BY id DESC LIMIT 1']);

CREATE TABLE log (id bigint, level int, message text);
INSERT INTO log SELECT i, draw(i, 1, 100), repeat('x', 30) FROM generate_series(1, 20000) AS i;
INSERT INTO advisor_case (name, queries) VALUES
  ('none: it is written far more than read', 'SELECT count(*) FROM log WHERE level = 3'::text ||
    ARRAY(SELECT format('INSERT INTO log SELECT i, i %% %s, %L FROM generate_series(1, 100000) AS i', 90 + n, n) FROM generate_series(1, 20) AS n));

CREATE TABLE dice AS SELECT i AS id, draw(i, 1, 1000) AS a, timestamptz '2026-01-01' + i * interval '1 hour' AS at, 'word' || draw(i, 2, 500) AS t
  FROM generate_series(1, 20000) AS i;
INSERT INTO advisor_case (name, queries) VALUES
  ('none: volatile functions', ARRAY['SELECT * FROM dice WHERE a = floor(random() * 1000)::int', 'SELECT * FROM dice WHERE md5(a::text || clock_timestamp()) = ''x''']),
  ('none: expressions that follow the session''s settings', ARRAY['SELECT * FROM dice WHERE at::date = ''2026-03-01''', 'SELECT * FROM dice WHERE to_char(at, ''YYYY-MM'') = ''2026-03''',
                                                                 'SELECT * FROM dice WHERE to_tsvector(t) @@ to_tsquery(''word77'')']),
  ('none: no condition and no order', ARRAY['SELECT * FROM dice', 'SELECT * FROM dice LIMIT 5', 'DELETE FROM dice']),
  ('none: a catalog', ARRAY['SELECT * FROM pg_class WHERE relpages = 4711', 'SELECT * FROM pg_attribute WHERE attlen = 4711']);

CREATE TEMP TABLE scratch AS SELECT i AS id, draw(i, 1, 5000) AS a, repeat('x', 100) AS body FROM generate_series(1, 20000) AS i;
ANALYZE scratch;
INSERT INTO advisor_case (name, queries) VALUES ('none: a temporary table', ARRAY['SELECT * FROM scratch WHERE a = 5']);

CREATE VIEW generated AS SELECT i AS a FROM generate_series(1, 100000) AS i;
INSERT INTO advisor_case (name, queries) VALUES ('none: no table at all', ARRAY['SELECT * FROM generated WHERE a = 5', 'SELECT 1', 'VALUES (1), (2)']);

-- Names ---------------------------------------------------------------------------------------------------------------

CREATE SCHEMA "Odd ""Schema""";
CREATE TYPE "Odd ""Schema"""."Mood Type" AS ENUM ('so so', 'it''s fine');
CREATE TABLE "Odd ""Schema"""."Odd ""Table"" name" (
  id int PRIMARY KEY, "two words" text, "Select" int, "user" int, "order" text, "quo""ted" text, "Mood" "Odd ""Schema"""."Mood Type", "größe" int,
  meta jsonb, "tags[]" text[], "percent %s" int, body text);
INSERT INTO "Odd ""Schema"""."Odd ""Table"" name"
SELECT i, 'Word ' || draw(i, 1, 5000), draw(i, 2, 5000), draw(i, 3, 5000), md5(i::text), 'Q' || draw(i, 4, 5000),
       (CASE WHEN draw(i, 5, 100) = 0 THEN 'it''s fine' ELSE 'so so' END)::"Odd ""Schema"""."Mood Type", draw(i, 6, 5000),
       jsonb_build_object('it''s', draw(i, 7, 5000)), ARRAY['t' || draw(i, 8, 5000)], draw(i, 9, 5000), repeat('x', 100)
  FROM generate_series(1, 20000) AS i;
CREATE TABLE a_name_that_is_as_long_as_a_name_can_be_in_this_server_xxxxxxxx (id int PRIMARY KEY, another_name_that_is_rather_long_and_then_some_more_xxxxxxxxxxx int, b int, body text);
INSERT INTO a_name_that_is_as_long_as_a_name_can_be_in_this_server_xxxxxxxx SELECT i, draw(i, 1, 5000), draw(i, 2, 5000), repeat('x', 100) FROM generate_series(1, 20000) AS i;
INSERT INTO advisor_case (name, wanted, queries) VALUES
  ('name: words', '\(lower\("two words"\)\)', ARRAY[$$SELECT * FROM "Odd ""Schema"""."Odd ""Table"" name" WHERE lower("two words") = 'word 77'$$]),
  ('name: keyword, capital', '\("Select"', ARRAY[$$SELECT * FROM "Odd ""Schema"""."Odd ""Table"" name" WHERE "Select" = 77$$]),
  ('name: reserved', '\("user"', ARRAY[$$SELECT * FROM "Odd ""Schema"""."Odd ""Table"" name" WHERE "user" = 77$$]),
  ('name: trigrams of a reserved one', 'gin \("order" (public\.)?gin_trgm_ops', ARRAY[$$SELECT * FROM "Odd ""Schema"""."Odd ""Table"" name" WHERE "order" LIKE '%abcdef%'$$]),
  ('name: quotes', '\("quo""ted"', ARRAY[$$SELECT * FROM "Odd ""Schema"""."Odd ""Table"" name" WHERE "quo""ted" = 'Q77'$$]),
  ('name: type with quotes, constant with one', '"Mood"', ARRAY[$$SELECT * FROM "Odd ""Schema"""."Odd ""Table"" name" WHERE "Mood" = 'it''s fine' AND "größe" < 500$$]),
  ('name: letters', '\("größe"', ARRAY[$$SELECT * FROM "Odd ""Schema"""."Odd ""Table"" name" WHERE "größe" = 77$$]),
  ('name: key with a quote', $$meta ->> 'it''s'$$, ARRAY[$$SELECT * FROM "Odd ""Schema"""."Odd ""Table"" name" WHERE meta->>'it''s' = '77'$$]),
  ('name: brackets', 'gin \("tags\[\]"', ARRAY[$$SELECT * FROM "Odd ""Schema"""."Odd ""Table"" name" WHERE "tags[]" @> '{t77}'$$]),
  ('name: percent', '\("percent %s"', ARRAY[$$SELECT * FROM "Odd ""Schema"""."Odd ""Table"" name" WHERE "percent %s" = 77$$]),
  ('name: 63 letters', '\(another_name', ARRAY[$$SELECT * FROM a_name_that_is_as_long_as_a_name_can_be_in_this_server_xxxxxxxx WHERE another_name_that_is_rather_long_and_then_some_more_xxxxxxxxxxx = 77$$,
                                         $$SELECT * FROM a_name_that_is_as_long_as_a_name_can_be_in_this_server_xxxxxxxx WHERE b = 77$$]);

VACUUM (FREEZE, ANALYZE) reading, player, sale, task, person, part, author, book, document, bill, photo, article, measurement, law, tiny, flagged,
  indexed, log, dice, "Odd ""Schema"""."Odd ""Table"" name", a_name_that_is_as_long_as_a_name_can_be_in_this_server_xxxxxxxx;

-- Advice --------------------------------------------------------------------------------------------------------------

-- not found yet: a partial index where one on both columns costs as little; what a table written far more than read pays
DELETE FROM advisor_case WHERE name IN ('btree: partial', 'none: it is written far more than read');
INSERT INTO advised
SELECT c.name, row_number() OVER (PARTITION BY c.name), a.ddl, a.size_bytes, a.cost_before, a.cost_after
  FROM (SELECT * FROM advisor_case ORDER BY position) AS c, LATERAL pgopt_index_advice(budget => c.budget, queries => c.queries) AS a;

-- Every row says what it costs, and what it saves.
SELECT name, ddl, cost_before, cost_after FROM advised WHERE NOT coalesce(cost_after < cost_before AND size_bytes > 0, false);

-- Where nothing may be advised, nothing is.
SELECT c.name, ddl AS "advised all the same" FROM advisor_case AS c JOIN advised USING (name) WHERE c.wanted IS NULL ORDER BY c.position, place;

-- Of the others, the first index is of the kind that the table was made for.
SELECT c.name, coalesce(bool_or(a.ddl ~ c.wanted), false) AS found, CASE WHEN bool_or(a.ddl ~ c.wanted) THEN NULL ELSE array_agg(a.ddl) END AS instead
  FROM advisor_case AS c LEFT JOIN advised AS a ON a.name = c.name
 WHERE c.wanted IS NOT NULL GROUP BY c.name, c.position ORDER BY c.position;

-- As they were printed. Two cases may advise the same, and then name it the same.
CREATE TABLE cost_before AS SELECT c.name, n, query, NULL::float8 AS cost, NULL::float8 AS after, NULL::text AS plan
  FROM advisor_case AS c, unnest(queries) WITH ORDINALITY AS q (query, n) WHERE wanted IS NOT NULL;
CREATE FUNCTION explained(query text) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
  plan json;
BEGIN
  EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO plan;
  RETURN plan->0->'Plan';
END $$;
UPDATE cost_before SET cost = (explained(query)->>'Total Cost')::float8;
\set ECHO none
SELECT ddl FROM (SELECT DISTINCT ON (ddl) ddl, position, place FROM advised JOIN advisor_case USING (name) ORDER BY ddl) AS d ORDER BY position, place \gexec
\set ECHO all
SELECT count(*) AS "not valid" FROM pg_index WHERE NOT indisvalid AND indrelid IN (SELECT oid FROM pg_class WHERE relnamespace IN ('advisor_kinds'::regnamespace, '"Odd ""Schema"""'::regnamespace));
SELECT count(DISTINCT ddl) = (SELECT count(*) FROM pg_indexes WHERE schemaname IN ('advisor_kinds', 'Odd "Schema"') AND indexname NOT LIKE '%\_pkey' AND indexname NOT IN ('author_name_key', 'indexed_a_b_idx')) AS "all are there"
  FROM advised;

-- The server uses them, and says that they help.
VACUUM (ANALYZE) reading, player, sale, task, person, part, author, book, document, bill, photo, article, measurement, law,
  "Odd ""Schema"""."Odd ""Table"" name", a_name_that_is_as_long_as_a_name_can_be_in_this_server_xxxxxxxx;
UPDATE cost_before SET plan = explained(query)::text, after = (explained(query)->>'Total Cost')::float8;
SELECT name, n, round((after / cost)::numeric, 3) AS ratio, plan FROM cost_before
 WHERE NOT (after < 0.7 * cost) OR NOT EXISTS (
       SELECT FROM pg_indexes WHERE schemaname IN ('advisor_kinds', 'Odd "Schema"') AND indexname NOT LIKE '%\_pkey'
          AND strpos(plan, to_json(indexname)::text) > 0)
 ORDER BY name, n;

-- Asked again, there is nothing more to advise.
SELECT c.name, a.ddl AS "again" FROM advisor_case AS c, LATERAL pgopt_index_advice(budget => c.budget, queries => c.queries) AS a
 WHERE name ~ '^(btree|name|gin)' ORDER BY c.position, a.ddl;

SET client_min_messages = warning;
DROP SCHEMA "Odd ""Schema""" CASCADE;
DROP SCHEMA advisor_kinds CASCADE;
DROP EXTENSION pg_trgm, pgopt;
