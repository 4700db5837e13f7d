-- Rows for the tables of schema.sql, with the cardinalities and distributions of the TPC-H specification (4.2.3).
--
--     psql -v scale=0.5 -f schema.sql -f generate.sql
--
-- The same rows on every machine: everything that is drawn is a hash of the row's number and a purpose. Texts are strung
-- together from sentences of our own, in which the patterns that statements look for are about as frequent as there.
-- About a minute at scale 0.5 (lineitem 3 million rows, all of it 0.7 GB).

\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET work_mem = '256MB';
SET maintenance_work_mem = '256MB';
SET synchronous_commit = off;
SET max_parallel_workers_per_gather = 0;
SET jit = off;
\if :{?scale} \else \set scale 0.5 \endif
SELECT (:scale * 10000)::int AS suppliers, (:scale * 200000)::int AS parts, (:scale * 150000)::int AS customers,
       (:scale * 1500000)::int AS orders, greatest((:scale * 1000)::int, 1) AS clerks \gset

-- A number from 0 to n - 1. One expression, so that the planner puts it in line.
CREATE FUNCTION pg_temp.draw(k bigint, purpose bigint, n int) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT ((hashint8extended(k, purpose) & 9223372036854775807) % n)::int $$;

CREATE FUNCTION pg_temp.phone(k bigint, purpose bigint, nation int) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT concat_ws('-', nation + 10, 100 + pg_temp.draw(k, purpose, 900), 100 + pg_temp.draw(k, purpose + 1, 900),
                       1000 + pg_temp.draw(k, purpose + 2, 9000)) $$;

CREATE FUNCTION pg_temp.address(k bigint, purpose bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT left(translate(md5(purpose || ':' || k) || md5(k || ':' || purpose), '0123456789', 'gZ3hM, kXp'),
                  10 + pg_temp.draw(k, purpose, 31)) $$;

-- Sentences to cut comments from, 240 characters each. Some nouns and adjectives come more often than others.
CREATE TEMP TABLE sentence AS
WITH vocabulary AS (
    SELECT regexp_split_to_array('requests requests requests requests packages packages packages packages accounts
              accounts accounts accounts deposits deposits deposits deposits
              instructions instructions invoices letters pallets crates drivers cartons
              ledgers receipts schedules carriers harbours trains bridges engines
              gardens lanterns rivers sailors', '\s+') AS nouns,
           regexp_split_to_array('special special pending pending unusual unusual express express final final final
              regular regular regular silent silent even bold careful quick slow busy
              idle ruthless', '\s+') AS adjectives,
           regexp_split_to_array('sleep wake haggle nag cajole detect integrate solve rest hurry wait travel vanish gather
              settle print', '\s+') AS verbs,
           regexp_split_to_array('slyly quickly carefully furiously blithely boldly evenly never always often quietly', '\s+') AS adverbs,
           regexp_split_to_array('about above across after against along among around before beneath beside between', '\s+') AS prepositions
)
SELECT i AS sentence, (SELECT left(string_agg(
                concat_ws(' ', adverbs[1 + pg_temp.draw(n, 1, cardinality(adverbs))],
                               adjectives[1 + pg_temp.draw(n, 2, cardinality(adjectives))],
                               nouns[1 + pg_temp.draw(n, 3, cardinality(nouns))],
                               verbs[1 + pg_temp.draw(n, 4, cardinality(verbs))],
                               prepositions[1 + pg_temp.draw(n, 5, cardinality(prepositions))], 'the',
                               nouns[1 + pg_temp.draw(n, 6, cardinality(nouns))]) ||
                (ARRAY['.', ',', ';', '', ''])[1 + pg_temp.draw(n, 7, 5)], ' ' ORDER BY n), 240)
             FROM generate_series(i * 10::bigint, i * 10::bigint + 9) AS n) AS words
  FROM vocabulary, generate_series(0, 19999) AS i;

INSERT INTO region SELECT r.i - 1, name, left(words, 31 + pg_temp.draw(r.i, 10, 85))
  FROM unnest(ARRAY['AFRICA', 'AMERICA', 'ASIA', 'EUROPE', 'MIDDLE EAST']) WITH ORDINALITY AS r (name, i)
  JOIN sentence ON sentence = r.i;

INSERT INTO nation SELECT n.i - 1, name, region, left(words, 31 + pg_temp.draw(n.i, 11, 84))
  FROM ROWS FROM (unnest(ARRAY['ALGERIA', 'ARGENTINA', 'BRAZIL', 'CANADA', 'EGYPT', 'ETHIOPIA', 'FRANCE', 'GERMANY', 'INDIA',
                    'INDONESIA', 'IRAN', 'IRAQ', 'JAPAN', 'JORDAN', 'KENYA', 'MOROCCO', 'MOZAMBIQUE', 'PERU', 'CHINA', 'ROMANIA',
                    'SAUDI ARABIA', 'VIETNAM', 'RUSSIA', 'UNITED KINGDOM', 'UNITED STATES'],
              ARRAY[0, 1, 1, 1, 4, 0, 3, 3, 2, 2, 4, 4, 2, 4, 0, 0, 0, 1, 2, 3, 4, 2, 3, 3, 1])) WITH ORDINALITY AS n (name, region, i)
  JOIN sentence ON sentence = 100 + n.i;

-- Five of 10,000 suppliers have complaints, five are recommended: the words stand apart, somewhere in the comment.
INSERT INTO supplier
SELECT i, 'Supplier#' || lpad(i::text, 9, '0'), pg_temp.address(i, 20), nation, pg_temp.phone(i, 21, nation),
       (pg_temp.draw(i, 24, 1099999) - 99999) / 100.0,
       CASE WHEN i % 2000 IN (358, 1193)
            THEN left(words, 10 + pg_temp.draw(i, 25, 25)) || 'Customer ' || substr(words, 100, 1 + pg_temp.draw(i, 26, 20))
                 || CASE i % 2000 WHEN 358 THEN 'Complaints' ELSE 'Recommends' END || substr(words, 140, 14)
            ELSE left(words, 25 + pg_temp.draw(i, 25, 76)) END
  FROM (SELECT i, pg_temp.draw(i, 23, 25) AS nation FROM generate_series(1, :suppliers) AS i) AS drawn
  JOIN sentence ON sentence = i % 20000
 ORDER BY i;

-- Names are five different colours of 92: four steps of at most 22 go less than once around.
INSERT INTO part
SELECT i,
       concat_ws(' ', colours[1 + first], colours[1 + (first + a) % 92], colours[1 + (first + a + b) % 92],
                      colours[1 + (first + a + b + c) % 92], colours[1 + (first + a + b + c + d) % 92]),
       'Manufacturer#' || maker, 'Brand#' || maker || 1 + pg_temp.draw(i, 33, 5),
       concat_ws(' ', (ARRAY['STANDARD', 'SMALL', 'MEDIUM', 'LARGE', 'ECONOMY', 'PROMO'])[1 + pg_temp.draw(i, 34, 6)],
                      (ARRAY['ANODIZED', 'BURNISHED', 'PLATED', 'POLISHED', 'BRUSHED'])[1 + pg_temp.draw(i, 35, 5)],
                      (ARRAY['TIN', 'NICKEL', 'BRASS', 'STEEL', 'COPPER'])[1 + pg_temp.draw(i, 36, 5)]),
       1 + pg_temp.draw(i, 37, 50),
       concat_ws(' ', (ARRAY['SM', 'LG', 'MED', 'JUMBO', 'WRAP'])[1 + pg_temp.draw(i, 38, 5)],
                      (ARRAY['CASE', 'BOX', 'BAG', 'JAR', 'PKG', 'PACK', 'CAN', 'DRUM'])[1 + pg_temp.draw(i, 39, 8)]),
       (90000 + (i / 10) % 20001 + 100 * (i % 1000)) / 100.0,
       substr(words, 1 + pg_temp.draw(i, 41, 40), 5 + pg_temp.draw(i, 40, 18))
  FROM (SELECT i, 1 + pg_temp.draw(i, 30, 5) AS maker, pg_temp.draw(i, 31, 92) AS first,
               1 + pg_temp.draw(i, 32, 22) AS a, 1 + pg_temp.draw(i, 42, 22) AS b,
               1 + pg_temp.draw(i, 43, 22) AS c, 1 + pg_temp.draw(i, 44, 22) AS d
          FROM generate_series(1, :parts) AS i) AS drawn
  JOIN sentence ON sentence = drawn.i % 20000,
       (SELECT regexp_split_to_array('almond antique aquamarine azure beige bisque black blanched blue blush brown burlywood
              burnished chartreuse chiffon chocolate coral cornflower cornsilk cream
              cyan dark deep dim dodger drab firebrick floral forest frosted gainsboro
              ghost goldenrod green grey honeydew hot indian ivory khaki lace lavender
              lawn lemon light lime linen magenta maroon medium metallic midnight mint
              misty moccasin navajo navy olive orange orchid pale papaya peach peru pink
              plum powder puff purple red rose rosy royal saddle salmon sandy seashell
              sienna sky slate smoke snow spring steel tan thistle tomato turquoise
              violet wheat white yellow', '\s+') AS colours) AS list
 ORDER BY drawn.i;

INSERT INTO partsupp
SELECT p, (p + n * (:suppliers / 4 + (p - 1) / :suppliers)) % :suppliers + 1,
       1 + pg_temp.draw(k, 50, 9999), (100 + pg_temp.draw(k, 51, 99901)) / 100.0,
       substr(words, 1 + pg_temp.draw(k, 52, 40), 49 + pg_temp.draw(k, 53, 150))
  FROM (SELECT p, n, 4::bigint * p + n AS k FROM generate_series(1, :parts) AS p, generate_series(0, 3) AS n) AS drawn
  JOIN sentence ON sentence = pg_temp.draw(k, 54, 20000)
 ORDER BY p, n;

INSERT INTO customer
SELECT i, 'Customer#' || lpad(i::text, 9, '0'), pg_temp.address(i, 60), nation, pg_temp.phone(i, 61, nation),
       (pg_temp.draw(i, 64, 1099999) - 99999) / 100.0,
       (ARRAY['AUTOMOBILE', 'BUILDING', 'FURNITURE', 'MACHINERY', 'HOUSEHOLD'])[1 + pg_temp.draw(i, 65, 5)],
       substr(words, 1 + pg_temp.draw(i, 67, 100), 29 + pg_temp.draw(i, 66, 88))
  FROM (SELECT c AS i, pg_temp.draw(c, 63, 25) AS nation FROM generate_series(1, :customers) AS c) AS drawn
  JOIN sentence ON sentence = pg_temp.draw(drawn.i, 68, 20000)
 ORDER BY drawn.i;

-- Lines follow from the number of their order: its date, and how many there are. Keys of orders leave 24 of 32 free.
CREATE FUNCTION pg_temp.order_date(o bigint) RETURNS date LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT date '1992-01-01' + pg_temp.draw(o, 70, 2406) $$;

INSERT INTO lineitem
SELECT (o - 1) / 8 * 32 + (o - 1) % 8 + 1, p,
       (p + pg_temp.draw(k, 82, 4) * (:suppliers / 4 + (p - 1) / :suppliers)) % :suppliers + 1, n,
       quantity, quantity * ((90000 + (p / 10) % 20001 + 100 * (p % 1000)) / 100.0),
       pg_temp.draw(k, 84, 11) / 100.0, pg_temp.draw(k, 85, 9) / 100.0,
       CASE WHEN shipped + received > date '1995-06-17' THEN 'N' WHEN pg_temp.draw(k, 86, 2) = 0 THEN 'R' ELSE 'A' END,
       CASE WHEN shipped > date '1995-06-17' THEN 'O' ELSE 'F' END,
       shipped, ordered + 30 + pg_temp.draw(k, 87, 61), shipped + received,
       (ARRAY['DELIVER IN PERSON', 'COLLECT COD', 'NONE', 'TAKE BACK RETURN'])[1 + pg_temp.draw(k, 88, 4)],
       (ARRAY['REG AIR', 'AIR', 'RAIL', 'SHIP', 'TRUCK', 'MAIL', 'FOB'])[1 + pg_temp.draw(k, 89, 7)],
       substr(words, 1 + pg_temp.draw(k, 90, 180), 10 + pg_temp.draw(k, 91, 34))
  FROM (SELECT o, n, k, ordered, 1 + pg_temp.draw(k, 81, :parts) AS p, 1 + pg_temp.draw(k, 83, 50) AS quantity,
               ordered + 1 + pg_temp.draw(k, 92, 121) AS shipped, 1 + pg_temp.draw(k, 93, 30) AS received
          FROM (SELECT o, n, 8::bigint * o + n AS k, pg_temp.order_date(o) AS ordered
                  FROM generate_series(1, :orders) AS o, generate_series(1, 7) AS n
                 WHERE n <= 1 + pg_temp.draw(o, 71, 7)) AS lines) AS drawn
  JOIN sentence ON sentence = pg_temp.draw(k, 94, 20000)
 ORDER BY o, n;
ALTER TABLE lineitem ADD PRIMARY KEY (l_orderkey, l_linenumber);

-- Customers whose number divides by 3 order nothing.
INSERT INTO orders
SELECT l_orderkey, customer + (customer - 1) / 2, CASE WHEN open = 0 THEN 'F' WHEN open = lines THEN 'O' ELSE 'P' END, total,
       pg_temp.order_date(o),
       (ARRAY['1-URGENT', '2-HIGH', '3-MEDIUM', '4-NOT SPECIFIED', '5-LOW'])[1 + pg_temp.draw(o, 73, 5)],
       'Clerk#' || lpad((1 + pg_temp.draw(o, 74, :clerks))::text, 9, '0'), 0,
       substr(words, 1 + pg_temp.draw(o, 75, 150), 19 + pg_temp.draw(o, 76, 60))
  FROM (SELECT *, 1 + pg_temp.draw(o, 72, :customers - :customers / 3) AS customer
          FROM (SELECT l_orderkey, (l_orderkey - 1) / 32 * 8 + (l_orderkey - 1) % 32 + 1 AS o,
                       count(*) AS lines, count(*) FILTER (WHERE l_linestatus = 'O') AS open,
                       sum(round(l_extendedprice * (1 + l_tax) * (1 - l_discount), 2)) AS total
                  FROM lineitem GROUP BY l_orderkey) AS sums) AS drawn
  JOIN sentence ON sentence = pg_temp.draw(o, 77, 20000)
 ORDER BY l_orderkey;
ALTER TABLE orders ADD PRIMARY KEY (o_orderkey);
