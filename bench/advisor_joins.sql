-- A snowflake of films and the people who made them, 21 tables of up to 500,000 rows with primary keys only, and 100
-- statements that join 8 to 17 of them; everything is drawn by hashes, the same each time. The statements are made to be
-- planned, not to be run: many would join millions of rows.

\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET synchronous_commit = off;

CREATE FUNCTION draw(k bigint, purpose bigint, n int) RETURNS int LANGUAGE sql IMMUTABLE
AS $$ SELECT ((hashint8extended(k, purpose) & 9223372036854775807) % n)::int $$;
-- The same, but low numbers come far more often.
CREATE FUNCTION skewed(k bigint, purpose bigint, n int) RETURNS int LANGUAGE sql IMMUTABLE
AS $$ SELECT (power(draw(k, purpose, 1000003) / 1000003.0::float8, 3) * n)::int % n $$;

CREATE TABLE kind_type (id int PRIMARY KEY, kind text);
CREATE TABLE role_type (id int PRIMARY KEY, role text);
CREATE TABLE info_type (id int PRIMARY KEY, info text);
CREATE TABLE link_type (id int PRIMARY KEY, link text);
CREATE TABLE company_type (id int PRIMARY KEY, kind text);
CREATE TABLE status_type (id int PRIMARY KEY, status text);
CREATE TABLE country (id int PRIMARY KEY, code text, region text);
INSERT INTO kind_type SELECT i, 'kind ' || i FROM generate_series(0, 6) AS i;
INSERT INTO role_type SELECT i, 'role ' || i FROM generate_series(0, 11) AS i;
INSERT INTO info_type SELECT i, 'info ' || i FROM generate_series(0, 112) AS i;
INSERT INTO link_type SELECT i, 'link ' || i FROM generate_series(0, 17) AS i;
INSERT INTO company_type SELECT i, 'company type ' || i FROM generate_series(0, 3) AS i;
INSERT INTO status_type SELECT i, 'status ' || i FROM generate_series(0, 3) AS i;
INSERT INTO country SELECT i, 'C' || i, 'region ' || i % 7 FROM generate_series(0, 199) AS i;

CREATE TABLE film (id int PRIMARY KEY, kind_id int, year int, title text, country_id int);
INSERT INTO film SELECT i, skewed(i, 1, 7), 2020 - skewed(i, 2, 100), 'Film ' || md5(i::text), skewed(i, 3, 200) FROM generate_series(0, 299999) AS i;
CREATE TABLE person (id int PRIMARY KEY, name text, gender char(1), born int, country_id int);
INSERT INTO person SELECT i, md5('n' || i), substr('mf', 1 + draw(i, 1, 2), 1), 2000 - skewed(i, 2, 110), skewed(i, 3, 200) FROM generate_series(0, 299999) AS i;
CREATE TABLE part_played (id int PRIMARY KEY, name text);
INSERT INTO part_played SELECT i, md5('p' || i) FROM generate_series(0, 99999) AS i;
CREATE TABLE company (id int PRIMARY KEY, name text, country_id int);
INSERT INTO company SELECT i, 'Company ' || md5(i::text), skewed(i, 1, 200) FROM generate_series(0, 49999) AS i;
CREATE TABLE keyword (id int PRIMARY KEY, keyword text);
INSERT INTO keyword SELECT i, 'keyword-' || i FROM generate_series(0, 49999) AS i;

CREATE TABLE cast_entry (id int PRIMARY KEY, film_id int, person_id int, role_id int, part_id int, place int);
INSERT INTO cast_entry SELECT i, skewed(i, 1, 300000), draw(i, 2, 300000), skewed(i, 3, 12), draw(i, 4, 100000), draw(i, 5, 60) FROM generate_series(0, 499999) AS i;
CREATE TABLE film_company (id int PRIMARY KEY, film_id int, company_id int, company_type_id int, note text);
INSERT INTO film_company SELECT i, draw(i, 1, 300000), skewed(i, 2, 50000), draw(i, 3, 4), CASE draw(i, 4, 5) WHEN 0 THEN '(co-production)' WHEN 1 THEN '(presents)' END FROM generate_series(0, 299999) AS i;
CREATE TABLE film_info (id int PRIMARY KEY, film_id int, info_type_id int, info text);
INSERT INTO film_info SELECT i, draw(i, 1, 300000), skewed(i, 2, 113), 'value ' || skewed(i, 3, 2000) FROM generate_series(0, 499999) AS i;
CREATE TABLE film_rating (id int PRIMARY KEY, film_id int, info_type_id int, rating numeric(3,1), votes int);
INSERT INTO film_rating SELECT i, i * 3 / 2, draw(i, 2, 3), draw(i, 3, 91) / 10.0 + 1, skewed(i, 4, 100000) FROM generate_series(0, 199999) AS i;
CREATE TABLE person_info (id int PRIMARY KEY, person_id int, info_type_id int, info text);
INSERT INTO person_info SELECT i, draw(i, 1, 300000), skewed(i, 2, 113), 'value ' || skewed(i, 3, 5000) FROM generate_series(0, 299999) AS i;
CREATE TABLE film_keyword (id int PRIMARY KEY, film_id int, keyword_id int);
INSERT INTO film_keyword SELECT i, draw(i, 1, 300000), skewed(i, 2, 50000) FROM generate_series(0, 399999) AS i;
CREATE TABLE film_link (id int PRIMARY KEY, film_id int, linked_id int, link_type_id int);
INSERT INTO film_link SELECT i, draw(i, 1, 300000), draw(i, 2, 300000), draw(i, 3, 18) FROM generate_series(0, 49999) AS i;
CREATE TABLE film_alias (id int PRIMARY KEY, film_id int, title text, country_id int);
INSERT INTO film_alias SELECT i, draw(i, 1, 300000), 'Alias ' || md5(i::text), skewed(i, 2, 200) FROM generate_series(0, 99999) AS i;
CREATE TABLE person_alias (id int PRIMARY KEY, person_id int, name text);
INSERT INTO person_alias SELECT i, draw(i, 1, 300000), md5('a' || i) FROM generate_series(0, 99999) AS i;
CREATE TABLE film_status (id int PRIMARY KEY, film_id int, subject_id int, status_id int);
INSERT INTO film_status SELECT i, draw(i, 1, 300000), draw(i, 2, 4), draw(i, 3, 4) FROM generate_series(0, 99999) AS i;

-- What can be joined, both ways.
CREATE TABLE edge (n int GENERATED ALWAYS AS IDENTITY, a text, a_col text, b text, b_col text);
INSERT INTO edge (a, a_col, b, b_col)
SELECT * FROM (VALUES ('film', 'kind_id', 'kind_type', 'id'), ('film', 'country_id', 'country', 'id'), ('cast_entry', 'film_id', 'film', 'id'),
  ('cast_entry', 'person_id', 'person', 'id'), ('cast_entry', 'role_id', 'role_type', 'id'), ('cast_entry', 'part_id', 'part_played', 'id'),
  ('film_company', 'film_id', 'film', 'id'), ('film_company', 'company_id', 'company', 'id'), ('film_company', 'company_type_id', 'company_type', 'id'),
  ('company', 'country_id', 'country', 'id'), ('film_info', 'film_id', 'film', 'id'), ('film_info', 'info_type_id', 'info_type', 'id'),
  ('film_rating', 'film_id', 'film', 'id'), ('film_rating', 'info_type_id', 'info_type', 'id'), ('person_info', 'person_id', 'person', 'id'),
  ('person_info', 'info_type_id', 'info_type', 'id'), ('film_keyword', 'film_id', 'film', 'id'), ('film_keyword', 'keyword_id', 'keyword', 'id'),
  ('film_link', 'film_id', 'film', 'id'), ('film_link', 'linked_id', 'film', 'id'), ('film_link', 'link_type_id', 'link_type', 'id'),
  ('film_alias', 'film_id', 'film', 'id'), ('person_alias', 'person_id', 'person', 'id'), ('film_status', 'film_id', 'film', 'id'),
  ('film_status', 'status_id', 'status_type', 'id'), ('person', 'country_id', 'country', 'id')) AS e;
INSERT INTO edge (a, a_col, b, b_col) SELECT b, b_col, a, a_col FROM edge WHERE b IN ('film', 'person', 'company', 'keyword') ORDER BY n;

-- What can be asked of a table; % stands for its alias, # for a number from 0 to 999.
CREATE TABLE filter (n int GENERATED ALWAYS AS IDENTITY, t text, condition text);
INSERT INTO filter (t, condition) VALUES
  ('film', '%.year BETWEEN 1950 + # % 60 AND 1953 + # % 60'), ('film', '%.year > 2018'), ('film', '%.title LIKE ''Film #%'''), ('film', '%.kind_id = # % 7 AND %.year = 1990 + # % 30'),
  ('film', '%.country_id IN (5 + # % 90, 6 + # % 90)'), ('film', '%.title ILIKE ''%ab#%'''), ('person', '%.born = 1900 + # % 90 AND %.gender = ''f'''), ('person', '%.name LIKE ''a#%'''),
  ('person', '%.gender = ''m'''), ('person', '%.born < 1905'), ('cast_entry', '%.place = # % 60'), ('cast_entry', '%.role_id = # % 12 AND %.place < 3'), ('film_company', '%.note = ''(presents)'''),
  ('film_company', '%.note IS NULL'), ('film_info', '%.info = ''value #'''), ('film_info', '%.info_type_id = # % 113'), ('film_info', '%.info IN (''value #'', ''value 3'', ''value 777'')'),
  ('film_rating', '%.rating > 9.5'), ('film_rating', '%.votes > 60000 AND %.rating BETWEEN 8 AND 9'), ('person_info', '%.info = ''value #'''), ('keyword', '%.keyword = ''keyword-#'''),
  ('keyword', '%.keyword IN (''keyword-#'', ''keyword-7'', ''keyword-70'')'), ('company', '%.name LIKE ''Company #%'''), ('company', '%.country_id = # % 200'), ('country', '%.code = ''C'' || # % 200'),
  ('country', '%.region = ''region 3'''), ('info_type', '%.info = ''info '' || # % 113'), ('kind_type', '%.kind = ''kind 1'''), ('role_type', '%.role = ''role 2'''), ('link_type', '%.link = ''link 3'''),
  ('company_type', '%.kind = ''company type 1'''), ('status_type', '%.status <> ''status 0'''), ('film_status', '%.subject_id = 2'), ('film_alias', '%.title LIKE ''Alias #%'''), ('part_played', '%.name = md5(''p#'')'),
  ('person_alias', '%.name LIKE ''ab%'''), ('film_link', '%.link_type_id = # % 18'), ('film_keyword', '%.keyword_id = # * 13');

CREATE FUNCTION statement_of(s int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  wanted int := 8 + s % 10;
  tables text[] := ARRAY[(ARRAY['film', 'person', 'film', 'cast_entry'])[1 + draw(s, 1, 4)]];
  conditions text[] := '{}';
  e edge;
  f filter;
  at int;
  try int := 0;
BEGIN
  WHILE cardinality(tables) < wanted LOOP
    try := try + 1;
    at := 1 + draw(s * 1000 + try, 2, cardinality(tables));
    SELECT * INTO e FROM edge WHERE a = tables[at] ORDER BY draw(s * 1000 + try, 100 + n, 1000000) LIMIT 1;
    -- a table twice at most, and a key not followed twice from the same row
    CONTINUE WHEN e IS NULL OR (SELECT count(*) FROM unnest(tables) AS t WHERE t = e.b) > 1
      OR (e.b_col = 'id' AND format('t%s.%s = ', at, e.a_col) = ANY (SELECT left(c, length(format('t%s.%s = ', at, e.a_col))) FROM unnest(conditions) AS c));
    tables := tables || e.b;
    conditions := conditions || format('t%s.%s = t%s.%s', at, e.a_col, cardinality(tables), e.b_col);
  END LOOP;
  FOR i IN 1..wanted LOOP
    CONTINUE WHEN draw(s * 1000 + i, 3, 100) >= 45 AND NOT (i = wanted AND cardinality(conditions) < wanted);
    SELECT * INTO f FROM filter WHERE t = tables[i] ORDER BY draw(s * 1000 + i, 200 + n, 1000000) LIMIT 1;
    CONTINUE WHEN f IS NULL;
    conditions := conditions || replace(regexp_replace(f.condition, '%\.', 't' || i || '.', 'g'), '#', draw(s * 1000 + i, 4, 1000)::text);
  END LOOP;
  RETURN (SELECT format('SELECT %s FROM %s WHERE %s%s',
                        (ARRAY['count(*)', format('min(t%s.id), count(*)', wanted), 't1.id, count(*)', 't1.*'])[1 + draw(s, 5, 4)],
                        (SELECT string_agg(t || ' AS t' || i, ', ' ORDER BY i) FROM unnest(tables) WITH ORDINALITY AS u (t, i)),
                        array_to_string(conditions, ' AND '),
                        (ARRAY['', '', ' GROUP BY t1.id ORDER BY 2 DESC LIMIT 10', ' ORDER BY t1.id LIMIT 50'])[1 + draw(s, 5, 4)]));
END $$;
CREATE TABLE statement AS SELECT s, statement_of(s) AS query FROM generate_series(1, 100) AS s;
