-- Tables of mixed kinds, and the indexes that index_sizes.sh compares on them; with :scale 1 lineitem has 600,000 rows.
SELECT setseed(0.4711);

CREATE TABLE lineitem AS
SELECT (g / 4)::int + 1 AS l_orderkey,
       (1 + floor(random() * 20000 * :scale))::int AS l_partkey,
       (1 + floor(random() * 1000 * :scale))::int AS l_suppkey,
       (g % 4)::int + 1 AS l_linenumber,
       (1 + floor(random() * 50))::numeric(15,2) AS l_quantity,
       (900 + floor(random() * 10000000) / 100)::numeric(15,2) AS l_extendedprice,
       (floor(random() * 11) / 100)::numeric(15,2) AS l_discount,
       (ARRAY['R','A','N','N'])[1 + floor(random() * 4)]::char(1) AS l_returnflag,
       (ARRAY['O','F'])[1 + floor(random() * 2)]::char(1) AS l_linestatus,
       date '1992-01-01' + floor(random() * 2526)::int AS l_shipdate,
       date '1992-02-01' + floor(random() * 2526)::int AS l_commitdate,
       (ARRAY['DELIVER IN PERSON','COLLECT COD','NONE','TAKE BACK RETURN'])[1 + floor(random() * 4)]::char(25) AS l_shipinstruct,
       (ARRAY['REG AIR','AIR','RAIL','SHIP','TRUCK','MAIL','FOB'])[1 + floor(random() * 7)]::char(10) AS l_shipmode,
       substr(md5(random()::text) || md5(random()::text), 1, 10 + floor(random() * 34)::int) AS l_comment
  FROM generate_series(0, (600000 * :scale)::bigint - 1) g;

-- a log: in order of time, skewed, with nulls, arrays and documents
CREATE TABLE events AS
SELECT g AS id,
       timestamptz '2024-01-01' + g * interval '7 seconds' + random() * interval '1 minute' AS created,
       (power(random(), 4) * 20000)::int AS user_id,
       (ARRAY['click','view','view','view','view','buy','error'])[1 + floor(random() * 7)] AS kind,
       CASE WHEN random() < 0.9 THEN NULL ELSE floor(random() * 1000)::int END AS ref,
       gen_random_uuid() AS uuid,
       'user' || floor(random() * 30000)::int || '@example.' || (ARRAY['com','org','net'])[1 + floor(random() * 3)] AS email,
       (ARRAY['São Paulo','Rio de Janeiro','Curitiba','Recife','Belém'])[1 + floor(power(random(), 3) * 5)] AS city,
       ARRAY(SELECT floor(power(random(), 2) * 300)::int FROM generate_series(1, 1 + (g % 5)) WHERE g IS NOT NULL) AS tags,
       jsonb_build_object('type', (ARRAY['a','b','c'])[1 + floor(random() * 3)], 'n', floor(random() * 5000)::int,
                          'ip', '10.0.' || floor(random() * 50)::int || '.' || floor(random() * 250)::int) AS data,
       random() AS ratio,
       inet '10.0.0.0' + floor(random() * 60000)::int AS ip,
       point(random() * 100, random() * 100) AS place,
       tstzrange(timestamptz '2024-01-01' + g * interval '7 seconds', timestamptz '2024-01-01' + g * interval '7 seconds' + random() * interval '1 hour') AS during,
       random() < 0.02 AS deleted,
       repeat(md5(floor(random() * 40000)::text), 1 + floor(power(random(), 6) * 40)::int) AS url
  FROM generate_series(1, (300000 * :scale)::int) g;

-- texts
CREATE TABLE documents AS
SELECT g AS id,
       string_agg('w' || floor(power(random(), 3) * 15000)::int, ' ') AS body,
       'Lei nº ' || g || ' de ' || (1950 + g % 75) AS title
  FROM generate_series(1, (40000 * :scale)::int) g, generate_series(1, 40) w
 GROUP BY g;

CREATE EXTENSION IF NOT EXISTS pg_trgm;
VACUUM ANALYZE;

CREATE TABLE definitions (id serial, ddl text, query text);
INSERT INTO definitions (ddl, query) VALUES
	('ON lineitem (l_orderkey)', 'SELECT * FROM lineitem WHERE l_orderkey = 4711'),
	('ON lineitem (l_partkey)', 'SELECT * FROM lineitem WHERE l_partkey = 77'),
	('ON lineitem (l_shipdate)', 'SELECT sum(l_quantity) FROM lineitem WHERE l_shipdate BETWEEN ''1995-01-01'' AND ''1995-01-20'''),
	('ON lineitem (l_returnflag)', NULL),
	('ON lineitem (l_shipmode)', NULL),
	('ON lineitem (l_quantity)', 'SELECT count(*) FROM lineitem WHERE l_quantity < 2'),
	('ON lineitem (l_extendedprice)', 'SELECT * FROM lineitem WHERE l_extendedprice > 100800'),
	('ON lineitem (l_partkey, l_suppkey)', 'SELECT * FROM lineitem WHERE l_partkey = 77 AND l_suppkey < 100'),
	('ON lineitem (l_suppkey, l_shipdate)', 'SELECT * FROM lineitem WHERE l_suppkey = 7 AND l_shipdate > ''1997-01-01'''),
	('ON lineitem (l_shipdate, l_discount)', 'SELECT * FROM lineitem WHERE l_shipdate = ''1997-01-01'' AND l_discount = 0.05'),
	('ON lineitem (l_shipdate, l_commitdate)', 'SELECT * FROM lineitem WHERE l_shipdate = ''1997-01-01'' AND l_commitdate < ''1993-01-01'''),
	('ON lineitem (l_orderkey) INCLUDE (l_quantity, l_shipdate)', 'SELECT l_quantity FROM lineitem WHERE l_orderkey BETWEEN 100 AND 300'),
	('ON lineitem (l_shipdate) INCLUDE (l_extendedprice, l_discount)', 'SELECT sum(l_extendedprice * l_discount) FROM lineitem WHERE l_shipdate BETWEEN ''1995-01-01'' AND ''1995-04-20'''),
	('ON lineitem (l_shipdate) WHERE l_returnflag = ''R''', 'SELECT * FROM lineitem WHERE l_returnflag = ''R'' AND l_shipdate = ''1997-01-01'''),
	('ON lineitem (l_comment)', 'SELECT * FROM lineitem WHERE l_comment = ''x'''),
	('ON lineitem (l_shipinstruct, l_shipmode, l_shipdate)', NULL),
	('ON lineitem USING hash (l_partkey)', 'SELECT * FROM lineitem WHERE l_partkey = 77'),
	('ON lineitem USING brin (l_shipdate)', NULL),
	('ON lineitem USING brin (l_orderkey) WITH (pages_per_range = 16)', 'SELECT * FROM lineitem WHERE l_orderkey BETWEEN 100 AND 300'),
	('ON events (id)', 'SELECT * FROM events WHERE id = 5'),
	('ON events (created)', 'SELECT * FROM events WHERE created BETWEEN ''2024-01-05'' AND ''2024-01-06'''),
	('ON events (user_id)', 'SELECT * FROM events WHERE user_id = 555'),
	('ON events (user_id, created DESC)', 'SELECT * FROM events WHERE user_id = 555 ORDER BY created DESC LIMIT 10'),
	('ON events (kind)', 'SELECT * FROM events WHERE kind = ''buy'' AND id < 1000'),
	('ON events (kind, created)', 'SELECT * FROM events WHERE kind = ''buy'' ORDER BY created DESC LIMIT 10'),
	('ON events (ref)', 'SELECT * FROM events WHERE ref = 5'),
	('ON events (ref) WHERE ref IS NOT NULL', 'SELECT * FROM events WHERE ref = 5'),
	('ON events (created) WHERE deleted', 'SELECT * FROM events WHERE deleted AND created > ''2024-01-20'''),
	('ON events (uuid)', 'SELECT * FROM events WHERE uuid = ''00000000-0000-0000-0000-000000000000'''),
	('ON events (email)', 'SELECT * FROM events WHERE email = ''user5@example.com'''),
	('ON events (lower(email))', 'SELECT * FROM events WHERE lower(email) = ''user5@example.com'''),
	('ON events (city, kind)', 'SELECT * FROM events WHERE city = ''Belém'' AND kind = ''buy'''),
	('ON events ((data ->> ''ip''))', 'SELECT * FROM events WHERE data ->> ''ip'' = ''10.0.5.5'''),
	('ON events (((data ->> ''n'')::int))', 'SELECT * FROM events WHERE (data ->> ''n'')::int < 100'),
	('ON events (ip)', 'SELECT * FROM events WHERE ip = ''10.0.5.5'''),
	('ON events (ratio)', 'SELECT * FROM events WHERE ratio < 0.01'),
	('ON events (url)', 'SELECT * FROM events WHERE url < ''02'''),
	('ON events USING hash (uuid)', 'SELECT * FROM events WHERE uuid = ''00000000-0000-0000-0000-000000000000'''),
	('ON events USING hash (user_id)', 'SELECT * FROM events WHERE user_id = 555'),
	('ON events USING gin (tags)', 'SELECT * FROM events WHERE tags @> ''{7}'''),
	('ON events USING gin (data)', 'SELECT * FROM events WHERE data @> ''{"n": 5}'''),
	('ON events USING gin (data jsonb_path_ops)', 'SELECT * FROM events WHERE data @> ''{"n": 5}'''),
	('ON events USING gin (email gin_trgm_ops)', 'SELECT * FROM events WHERE email LIKE ''%user55%'''),
	('ON events USING brin (created)', 'SELECT * FROM events WHERE created BETWEEN ''2024-01-05'' AND ''2024-01-06'''),
	('ON events USING gist (place)', 'SELECT * FROM events WHERE place <@ box ''((1,1),(2,2))'''),
	('ON events USING gist (during)', 'SELECT * FROM events WHERE during @> timestamptz ''2024-01-07'''),
	('ON events USING spgist (email)', NULL),
	('ON events USING spgist (place)', 'SELECT * FROM events WHERE place <@ box ''((1,1),(2,2))'''),
	('ON documents (title)', 'SELECT * FROM documents WHERE title = ''Lei'''),
	('ON documents USING gin (to_tsvector(''simple'', body))', 'SELECT * FROM documents WHERE to_tsvector(''simple'', body) @@ ''w77'''),
	('ON documents USING gin (title gin_trgm_ops)', 'SELECT * FROM documents WHERE title LIKE ''%Lei nº 77%''');
