#!/bin/sh
# bench/index_sizes.sh: how far the sizes and costs of indexes that do not exist are from those of the same indexes built.
#
# On tables of three kinds, one of them like TPC-H's lineitem, each definition of bench/index_sizes.sql is measured by
# pgopt_whatif_indexes() and priced by pgopt_whatif(), and then built. Errors are (model - built) / built. HypoPG's
# are beside where postgresql-15-hypopg is installed. Where an index has expressions the table is analyzed after it is
# built, as it must be for the planner to know them, so that a part of those errors of costs is ANALYZE's own: it draws
# other rows each time. CPU: of measuring all definitions in one call, so that each table is sampled once.
#   SCALE=1 bench/index_sizes.sh       SCALE 1: 600,000 rows of lineitem
set -eu
top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$top/script/lib.sh"
. "$top/bench/lib.sh"

bench_begin
new_server main "shared_preload_libraries = 'pgopt'" "fsync = off" "wal_level = minimal" "max_wal_senders = 0" \
  "jit = off" "max_parallel_workers_per_gather = 0" "max_parallel_maintenance_workers = 0" "maintenance_work_mem = 256MB"
start_server main
sql main -v "scale=${SCALE:-1}" -f "$top/bench/index_sizes.sql" >/dev/null
hypopg=false
sql main -c "CREATE EXTENSION hypopg" 2>/dev/null && hypopg=true
sql main <<'SQL'
CREATE EXTENSION pgopt;
CREATE TABLE outcomes (id int, model float, hypopg float, built float, cost float, cost_built float);
CREATE FUNCTION plan_cost(query text) RETURNS float LANGUAGE plpgsql AS $$
DECLARE plan json;
BEGIN
  EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO plan;
  RETURN plan -> 0 -> 'Plan' ->> 'Total Cost';
END $$;
CREATE FUNCTION hypopg_size(ddl text) RETURNS float LANGUAGE plpgsql AS $$
DECLARE size float;
BEGIN
  SELECT hypopg_relation_size(indexrelid) INTO size FROM hypopg_create_index(ddl);
  PERFORM hypopg_reset();
  RETURN size;
EXCEPTION WHEN OTHERS THEN RETURN NULL;
END $$;
DO $$
DECLARE d definitions;
BEGIN
  FOR d IN SELECT * FROM definitions ORDER BY id LOOP
    INSERT INTO outcomes
      SELECT d.id, size_bytes, hypopg_size('CREATE INDEX ' || d.ddl) FROM pgopt_whatif_indexes(ARRAY['CREATE INDEX ' || d.ddl]);
    IF d.query IS NOT NULL THEN
      UPDATE outcomes o SET cost = w.cost_after
        FROM pgopt_whatif(ARRAY['CREATE INDEX ' || d.ddl], ARRAY[d.query], false) w WHERE o.id = d.id;
    END IF;
    EXECUTE 'CREATE INDEX probe ' || d.ddl;
    IF EXISTS (SELECT FROM pg_index WHERE indexrelid = 'probe'::regclass AND indexprs IS NOT NULL) THEN
      EXECUTE 'ANALYZE ' || split_part(d.ddl, ' ', 2);
    END IF;
    UPDATE outcomes SET built = pg_relation_size('probe'),
           cost_built = CASE WHEN d.query IS NOT NULL THEN plan_cost(d.query) END WHERE id = d.id;
    DROP INDEX probe;
  END LOOP;
END $$;
SQL
say ""
sql main -P footer=off <<'SQL'
SELECT left(ddl, 64) AS index, pg_size_pretty(built::bigint) AS built, round((100 * (model / built - 1))::numeric, 1) AS "size %",
       round((100 * (hypopg / built - 1))::numeric, 1) AS "hypopg %", round((100 * (cost / cost_built - 1))::numeric, 1) AS "cost %"
  FROM outcomes JOIN definitions USING (id) ORDER BY id;
SQL
say "$(ask main "SELECT format('Sizes of %s indexes: median error %s %%, largest %s %%; HypoPG (of %s): median %s %%, largest %s %%', count(*),
    round((100 * percentile_cont(0.5) WITHIN GROUP (ORDER BY abs(model / built - 1)))::numeric, 1),
    round((100 * max(abs(model / built - 1)))::numeric, 1), count(hypopg),
    round((100 * percentile_cont(0.5) WITHIN GROUP (ORDER BY abs(hypopg / built - 1)))::numeric, 1),
    round((100 * max(abs(hypopg / built - 1)))::numeric, 1)) FROM outcomes")"
say "$(ask main "SELECT format('Costs of %s statements: median error %s %%, within 3 %%: %s; without expressions: largest %s %%', count(cost),
    round((100 * percentile_cont(0.5) WITHIN GROUP (ORDER BY abs(cost / cost_built - 1)))::numeric, 2),
    count(*) FILTER (WHERE abs(cost / cost_built - 1) <= 0.03),
    round((100 * max(abs(cost / cost_built - 1)) FILTER (WHERE ddl !~ '\(\(|\(lower|\(to_ts'))::numeric, 1))
  FROM outcomes JOIN definitions USING (id)")"
$hypopg || say "(HypoPG is not installed: apt-get install postgresql-15-hypopg)"

# What it costs: CPU of the backend.
sql main -At >"$stage/cpu" <<'SQL'
SELECT array_agg('CREATE INDEX ' || ddl) AS ddl FROM definitions WHERE ddl !~ ' USING gin' \gset
SELECT array_agg('CREATE INDEX ' || ddl) AS gin FROM definitions WHERE ddl ~ ' USING gin' \gset
\set cpu 'SELECT split_part(pg_read_file(''/proc/self/schedstat''), '' '', 1)'
\set three 'ARRAY[''CREATE INDEX ON lineitem (l_orderkey)'', ''CREATE INDEX ON events (id)'', ''CREATE INDEX ON documents (id)'']'
SELECT count(*) FROM pgopt_whatif_indexes(:'ddl'::text[] || :'gin'::text[]) \g /dev/null
:cpu;
SELECT count(*) FROM pgopt_whatif_indexes(:three);
:cpu;
SELECT count(*) FROM pgopt_whatif_indexes(:three || :'ddl'::text[]);
:cpu;
SELECT count(*) FROM pgopt_whatif_indexes(:three || :'gin'::text[]);
:cpu;
SQL
awk '{ v[NR] = $1 }
  END { sampled = (v[3] - v[1]) / 1e6
        printf "CPU: %.1f ms to sample three tables; %.2f ms an index (%d without GIN), %.1f ms a GIN index (%d)\n", \
          sampled, ((v[5] - v[3]) / 1e6 - sampled) / (v[4] - 3), v[4] - 3, ((v[7] - v[5]) / 1e6 - sampled) / (v[6] - 3), v[6] - 3 }' \
  "$stage/cpu"
