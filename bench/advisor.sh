#!/bin/sh
# bench/advisor.sh: the index advisor on TPC-H at scale factor 0.5, primary keys only, against what HypoPG and pg_qualstats
# make of the same statements.
#
# The 22 statements have the specification's validation parameters; "19" are those without q02, q17 and q20, which are
# 99.6 % of the cost of all. For budgets of 65, 160 and 325 MB, and without one, pgopt is asked with the 19 that it
# captured, with the texts of the 19, and of the 22. Every index is then built by the statement as it was printed. What is
# compared: EXPLAIN's cost with the indexes there, relative to none; their bytes as built against the budget and against
# what was foreseen; run times of the 19; CPU of the advice. What was promised stands beside it.
#   ROUNDS=0 bench/advisor.sh       no run times; bench/advisor_lib.sh lists what else can be set
#   SCALE=0.5                       a database for each
#   TIMED="captured_65 captured_none texts19_65 texts19_none hypopg_65"
set -eu
top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$top/script/lib.sh"
. "$top/bench/lib.sh"
. "$top/bench/advisor_lib.sh"

scale=${SCALE:-0.5}
database=tpch_$(say "$scale" | tr . _)
timed=${TIMED:-captured_65 captured_none texts19_65 texts19_none hypopg_65}
small="name NOT IN ('q02', 'q17', 'q20')"

bench_begin
advisor_start
if ! database_is_there "$database"; then
  begin_database "$database"
  (database=making_$database; sql advisor -v scale="$scale" -f "$top/bench/tpch/schema.sql" -f "$top/bench/tpch/generate.sql")
  end_database "$database"
fi
measure_begin
sql advisor -c "TRUNCATE bench.statement"
for f in "$top"/bench/tpch/q*.sql; do
  name=$(basename "$f" .sql)
  say "INSERT INTO bench.statement (name, query, timed) SELECT n, rtrim(:'query', E'; \n'), n NOT IN ('q02', 'q17', 'q20')
    FROM (SELECT :'name' AS n) AS given;" | sql advisor -v name="$name" -v query="$(cat "$f")"
done

if [ -z "${NO_PEERS:-}" ] && has_package pg_qualstats; then
  advisor_libraries "pgopt, pg_stat_statements, pg_qualstats"
  quiet "pg_qualstats"
  peer_qualstats
  advisor_libraries pgopt
fi

quiet "advice"
run_workload "$small"
texts19="ARRAY(SELECT query FROM bench.statement WHERE $small ORDER BY name)"
texts22="ARRAY(SELECT query FROM bench.statement ORDER BY name)"
for budget in 65 160 325 none; do
  advise "captured_$budget" "$budget"
  advise "texts19_$budget" "$budget" "$texts19"
  advise "texts22_$budget" "$budget" "$texts22"
done
for configuration in $(ask advisor "SELECT name FROM bench.configuration WHERE author = 'pgopt' ORDER BY position"); do
  foresee "$configuration"
done
[ -n "${NO_PEERS:-}" ] || ! has_package hypopg || {
  quiet "HypoPG"
  sql advisor -f "$top/bench/advisor_hypopg.sql"
  for budget in 65 160 325; do
    sql advisor -c "CALL bench.peer_extend('hypopg_$budget', 1048576.0 * $budget, 'timed')"
  done
}

quiet "building"
build_all
sql advisor -c "CALL bench.price()"
if [ "$rounds" -gt 0 ]; then
  quiet "running the 19, $rounds rounds"
  sql advisor -c "CALL bench.measure(string_to_array('$timed', ' '), $rounds)"
fi
sql advisor -v small="$small" -P border=2 -P footer=off -f "$top/bench/advisor_report.sql"
sql advisor -P border=2 -P footer=off <<'SQL'
SELECT c.name AS configuration, promised AS "promised, of none", round(with_it / without, 4) AS "cost, of none",
       with_it / without <= promised AS kept
  FROM (VALUES ('captured_65', 0.70, true), ('captured_160', 0.59, true), ('captured_325', 0.57, true), ('texts19_65', 0.70, true),
               ('texts19_160', 0.59, true), ('texts19_325', 0.57, true), ('texts22_65', 0.0035, false)) AS c (name, promised, small),
       LATERAL (SELECT sum(cost) FILTER (WHERE configuration = c.name)::numeric AS with_it,
                       sum(cost) FILTER (WHERE configuration = 'none')::numeric AS without
                  FROM bench.cost AS k WHERE NOT c.small OR k.name NOT IN ('q02', 'q17', 'q20')) AS k;
SQL
