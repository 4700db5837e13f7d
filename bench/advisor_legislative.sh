#!/bin/sh
# bench/advisor_legislative.sh: the index advisor on the example of a legislative monitor: 100,000 documents with their
# proceedings, subjects and alerts, primary keys only, and 48 statements, each as often as it is run: jsonb containment and
# keys, words within titles, full text, arrays, partial and expression cases, pages in order, joins, aggregates, and writes.
#
# The workload is captured as it runs. Budgets are shares of the tables' size: 1/20, 1/4, 1/2 and none. Costs and times are
# weighed by how often a statement is run; otherwise like bench/advisor.sh. The peer is HypoPG, which knows B-trees on columns.
#   DOCUMENTS=100000 ROUNDS=3 bench/advisor_legislative.sh      bench/advisor_lib.sh lists what else can be set
set -eu
top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$top/script/lib.sh"
. "$top/bench/lib.sh"
. "$top/bench/advisor_lib.sh"

documents=${DOCUMENTS:-100000}
database=legislative_$documents
examples=$top/examples/legislative

bench_begin
advisor_start
if ! database_is_there "$database"; then
  begin_database "$database"
  (
    database=making_$database
    sql advisor -o /dev/null -f "$examples/schema.sql"
    sql advisor -o /dev/null -f "$examples/load_sample.sql" <"$examples/sample/bills.tsv"
    sql advisor -o /dev/null -v documents="$documents" -f "$examples/generate.sql"
    sql advisor -v documents="$documents" -f "$top/bench/legislative_tables.sql"
  )
  end_database "$database"
fi
measure_begin
sql advisor -c "TRUNCATE bench.statement"
sql advisor -f "$top/bench/legislative_statements.sql"
table_mb=$(ask advisor "SELECT round(sum(pg_table_size(oid)) / 1048576) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")
say "tables: $table_mb MB; $(ask advisor "SELECT count(*) || ' statements, run ' || sum(calls) || ' times' FROM bench.statement")"

quiet "advice"
run_workload
configurations=
for share in 20 4 2; do
  advise "captured_1/$share" $((table_mb / share))
  configurations="$configurations captured_1/$share"
done
advise captured_none none
configurations="$configurations captured_none"
for configuration in $configurations; do
  foresee "$configuration"
done
[ -n "${NO_PEERS:-}" ] || ! has_package hypopg || {
  quiet "HypoPG"
  sql advisor -f "$top/bench/advisor_hypopg.sql"
  sql advisor -c "CALL bench.peer_extend('hypopg_1/4', 1048576.0 * $((table_mb / 4)), 'true')"
  configurations="$configurations hypopg_1/4"
}

quiet "building"
build_all
sql advisor -c "CALL bench.price()"
if [ "$rounds" -gt 0 ]; then
  quiet "running, $rounds rounds"
  sql advisor -c "CALL bench.measure(string_to_array('${configurations# }', ' '), $rounds)"
fi
sql advisor -v small=true -P border=2 -P footer=off -f "$top/bench/advisor_report.sql"
