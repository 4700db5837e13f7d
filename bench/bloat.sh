#!/bin/sh
# bench/bloat.sh: what pgopt's estimates of bloat cost and how far off they are, on relations with a known truth.
#
# Tables and indexes are filled and spoiled, everything that fits is brought into shared buffers, and every method is
# timed in turn, round by round: pgopt_table_bloat() and pgopt_index_bloat(); pgstattuple(), pgstattuple_approx() and
# pgstatindex() of contrib; and the estimate from pg_stats that many monitoring queries make (rows times average
# widths). Then VACUUM FULL and REINDEX show the truth. Errors are in percentage points of the relation's size, with
# what each method would call reclaimable: for pgstattuple free and dead space, for pgstatindex the leaves' density
# below the fillfactor and the pages that are empty or deleted.
#   SIZE_MB=1000 ROUNDS=7 bench/bloat.sh       SIZE_MB: of the largest table; all of it takes about 5 times as much
set -eu
top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$top/script/lib.sh"
. "$top/bench/lib.sh"

size=${SIZE_MB:-1000}
rounds=${ROUNDS:-7}

bench_begin
free_mb=$(df -Pm "$stage" | awk 'NR == 2 { print $4 }')
[ "$free_mb" -gt $((size * 9)) ] || die "$free_mb MB are free, $((size * 9)) are needed for SIZE_MB=$size"
new_server main "shared_preload_libraries = 'pgopt'" "fsync = off" "wal_level = minimal" "max_wal_senders = 0" \
  "shared_buffers = $((size * 5))MB" "max_wal_size = 20GB" "maintenance_work_mem = 512MB" "jit = off" \
  "max_parallel_workers_per_gather = 0" "max_parallel_maintenance_workers = 1"
start_server main

rows=$((size * 20000))
begun=$(date +%s)
sql main <<SQL
CREATE EXTENSION pgopt;
CREATE EXTENSION pgstattuple;
CREATE EXTENSION pg_prewarm;
SELECT setseed(0.5);
-- deleted at random and vacuumed: what most bloated tables look like
CREATE TABLE vacuumed (id int, n int);
INSERT INTO vacuumed SELECT g, g % 5000 FROM generate_series(1, $rows * 13 / 10) g;
CREATE INDEX vacuumed_id ON vacuumed (id);
DELETE FROM vacuumed WHERE random() < 0.4;
VACUUM ANALYZE vacuumed;
-- never vacuumed, rows of all lengths
CREATE TABLE unvacuumed (id bigint, v text);
INSERT INTO unvacuumed SELECT g, repeat('x', (random() * 120)::int) FROM generate_series(1, $rows / 3) g;
ANALYZE unvacuumed;
DELETE FROM unvacuumed WHERE id % 1000000 < 200000 OR random() < 0.2;
-- a dropped column, and free space in a few places
CREATE TABLE dropped (id int, gone text, v text);
INSERT INTO dropped SELECT g, md5(g::text) || md5((-g)::text), md5(g::text) FROM generate_series(1, $rows / 4) g;
ALTER TABLE dropped DROP COLUMN gone;
DELETE FROM dropped WHERE hashint4(id / 5000) % 4 = 0;
VACUUM ANALYZE dropped;
-- wide rows
CREATE TABLE wide (id int, v text);
ALTER TABLE wide ALTER v SET STORAGE PLAIN;
INSERT INTO wide SELECT g, repeat('x', 400 + (random() * 2500)::int) FROM generate_series(1, $rows / 60) g;
DELETE FROM wide WHERE random() < 0.35;
VACUUM ANALYZE wide;
-- freshly loaded
CREATE TABLE fresh WITH (fillfactor = 80) AS SELECT g AS id, md5(g::text) AS v FROM generate_series(1, $rows / 3) g;
VACUUM ANALYZE fresh;
-- indexes that grew by insertion in random order, and one of few keys
CREATE TABLE keys (id uuid, kind text);
CREATE INDEX keys_kind ON keys (kind);
CREATE INDEX keys_id ON keys (id);
INSERT INTO keys SELECT gen_random_uuid(), 'kind ' || (power(random(), 3) * 100000)::int
  FROM generate_series(1, $rows / 2);
DELETE FROM keys WHERE random() < 0.25;
VACUUM ANALYZE keys;
SQL
say "filled in $(($(date +%s) - begun)) s"

sql main <<'SQL'
CREATE TABLE relation AS
  SELECT oid::regclass AS name, relkind, pg_relation_size(oid) AS size FROM pg_class
   WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i') AND relname <> 'relation';
CREATE TABLE measured (name regclass, method text, round int, ms float8, reclaimable float8, inside bool,
                       low float8, high float8);

-- the estimate from statistics: rows times what a row of average widths takes
CREATE FUNCTION by_statistics(r regclass) RETURNS float8 LANGUAGE sql AS $$
  SELECT pg_relation_size(r) - 8192 * ceil(CASE WHEN c.relkind = 'r'
      THEN greatest(t.reltuples, 0) * (24 + w.width + 4)
           / ((8192 - 24) * coalesce((SELECT option_value::float8 FROM pg_options_to_table(c.reloptions)
                                       WHERE option_name = 'fillfactor'), 100) / 100)
      ELSE greatest(t.reltuples, 0) * (8 + ceil(w.width / 8) * 8 + 4) / ((8192 - 40) * 0.9) END)
    FROM pg_class c
    LEFT JOIN pg_index i ON i.indexrelid = c.oid
    JOIN pg_class t ON t.oid = coalesce(i.indrelid, c.oid)
    CROSS JOIN LATERAL (SELECT sum((1 - s.null_frac) * s.avg_width) AS width
                          FROM pg_stats s JOIN pg_attribute a ON a.attname = s.attname AND a.attrelid = t.oid
                         WHERE s.schemaname = 'public' AND s.tablename = t.relname
                           AND (i.indkey IS NULL OR a.attnum = ANY (i.indkey))) w
   WHERE c.oid = r $$;

CREATE PROCEDURE measure(rounds int) LANGUAGE plpgsql AS $$
DECLARE
  r record;
  m record;
  begun timestamptz;
  found record;
BEGIN
  FOR round IN 0..rounds LOOP
    FOR r IN SELECT * FROM relation ORDER BY size LOOP
      FOR m IN
        SELECT * FROM (VALUES
          ('r', 'pgopt', 'SELECT reclaimable_bytes::float8 AS a, reclaimable_low::float8 AS low,
             reclaimable_high::float8 AS high FROM pgopt_table_bloat(%L::regclass) WHERE part = ''table'''),
          ('r', 'pgstattuple', 'SELECT (free_space + dead_tuple_len)::float8 AS a, NULL::float8 AS low, NULL::float8 AS high
             FROM pgstattuple(%L::regclass)'),
          ('r', 'pgstattuple_approx', 'SELECT approx_free_space + dead_tuple_len::float8 AS a, NULL::float8 AS low,
             NULL::float8 AS high FROM pgstattuple_approx(%L::regclass)'),
          ('r', 'statistics', 'SELECT by_statistics(%L) AS a, NULL::float8 AS low, NULL::float8 AS high'),
          ('i', 'pgopt', 'SELECT reclaimable_bytes::float8 AS a, reclaimable_low::float8 AS low,
             reclaimable_high::float8 AS high FROM pgopt_index_bloat(%L::regclass)'),
          ('i', 'pgstatindex', 'SELECT index_size - 8192 * (1 + internal_pages + leaf_pages * avg_leaf_density / 90) AS a,
             NULL::float8 AS low, NULL::float8 AS high FROM pgstatindex(%L::regclass)'),
          ('i', 'statistics', 'SELECT by_statistics(%L) AS a, NULL::float8 AS low, NULL::float8 AS high')) v (kind, method, query)
         WHERE kind = r.relkind
      LOOP
        begun := clock_timestamp();
        EXECUTE format(m.query, r.name) INTO found;
        INSERT INTO measured VALUES (r.name, m.method, round,
          extract(epoch FROM clock_timestamp() - begun) * 1000, greatest(found.a, 0), NULL, found.low, found.high);
        COMMIT;
      END LOOP;
    END LOOP;
  END LOOP;
  DELETE FROM measured WHERE round = 0;
END $$;
SQL
sql main -c "SELECT count(pg_prewarm(name)) FROM relation" >/dev/null

quiet "measuring, $rounds rounds"
sql main -c "CALL measure($rounds)"
for r in $(ask main "SELECT name FROM relation WHERE relkind = 'i'"); do sql main -c "REINDEX INDEX $r"; done
sql main -c "CREATE TABLE truth AS SELECT name, pg_relation_size(name) AS size FROM relation WHERE relkind = 'i'"
for r in $(ask main "SELECT name FROM relation WHERE relkind = 'r'"); do sql main -c "VACUUM FULL $r"; done
sql main -c "INSERT INTO truth SELECT name, pg_relation_size(name) FROM relation WHERE relkind = 'r'"

say ""
say "percent reclaimable in truth; by method: milliseconds (median), times those of pgopt, mean and worst error in points"
sql main -P border=2 <<'SQL'
CREATE VIEW error AS
  SELECT m.*, r.relkind, r.size, 100.0 * (m.reclaimable - greatest(r.size - t.size, 0)) / r.size AS error,
         100.0 * greatest(r.size - t.size, 0) / r.size AS truth,
         greatest(r.size - t.size, 0) BETWEEN m.low AND m.high AS held
    FROM measured m JOIN relation r USING (name) JOIN truth t USING (name);
SELECT e.name, round(min(e.size) / 1048576.0) AS mb, round(min(truth), 1) AS truth, method,
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY ms)::numeric, 2) AS ms,
       round((percentile_cont(0.5) WITHIN GROUP (ORDER BY p.pgopt_ms / ms) * 100)::numeric, 2) AS "pgopt's % of it",
       round(avg(abs(error))::numeric, 2) AS "mean error", round(max(abs(error))::numeric, 2) AS "worst error",
       count(*) FILTER (WHERE held) || ' of ' || count(held) AS "interval holds"
  FROM error e JOIN (SELECT name, round, ms AS pgopt_ms FROM measured WHERE method = 'pgopt') p USING (name, round)
 GROUP BY e.name, relkind, method ORDER BY relkind DESC, min(e.size), e.name, method;
SELECT relkind, method, round(avg(abs(error))::numeric, 2) AS "mean error", round(max(abs(error))::numeric, 2) AS "worst error"
  FROM error GROUP BY relkind, method ORDER BY relkind DESC, 3;
SQL
