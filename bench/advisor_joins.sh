#!/bin/sh
# bench/advisor_joins.sh: what advice costs for 100 statements that join 8 to 17 tables, and how soon it ends when cancelled.
#
# The statements are given as texts and never run. Printed are the CPU of one call (15 s are promised), its planner calls
# against those of planning each statement once, the costs as built relative to none, and the time from pg_cancel_backend()
# to the call's end, at several moments.
#   REPEAT=3 BUDGET=100 bench/advisor_joins.sh      bench/advisor_lib.sh lists what else can be set
set -eu
top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$top/script/lib.sh"
. "$top/bench/lib.sh"
. "$top/bench/advisor_lib.sh"

repeat=${REPEAT:-3}
budget=${BUDGET:-100}
database=joins

bench_begin
advisor_start
if ! database_is_there joins; then
  begin_database joins
  (database=making_joins; sql advisor -f "$top/bench/advisor_joins.sql")
  end_database joins
fi
measure_begin
sql advisor -c "TRUNCATE bench.statement" \
  -c "INSERT INTO bench.statement (name, query, timed) SELECT 's' || lpad(s::text, 3, '0'), query, false FROM statement"
ask advisor "SELECT count(*) || ' statements, ' || count(*) FILTER (WHERE n >= 12) || ' of them with 12 relations or more; '
    || (SELECT count(*) || ' tables, ' || pg_size_pretty(sum(pg_table_size(oid))) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace)
  FROM (SELECT regexp_count(query, ' AS t') AS n FROM bench.statement) AS s"

texts="ARRAY(SELECT query FROM bench.statement ORDER BY name)"
quiet "planning each statement once, and advice"
sql advisor -At <<'SQL'
SELECT pg_backend_pid() AS pid \gset
\setenv PID :pid
\o /dev/null
SELECT sum(bench.plan_cost('SELECT 1')), count(*) FROM pg_class;
\! cut -d ' ' -f 1 /proc/$PID/schedstat >/tmp/pgopt_plans.$PPID
SELECT sum(bench.plan_cost(query)) FROM bench.statement;
\! echo "planning all of them once: $(( ($(cut -d ' ' -f 1 /proc/$PID/schedstat) - $(cat /tmp/pgopt_plans.$PPID)) / 1000000 )) ms of CPU"; rm -f /tmp/pgopt_plans.$PPID
SQL
for i in $(seq "$repeat"); do
  advise "all_$i" none "$texts"
  advise "budget${budget}_$i" "$budget" "$texts"
done
for configuration in "all_1" "budget${budget}_1"; do
  foresee "$configuration"
done

quiet "cancelling"
for after in 0.2 0.5 1 2 4; do
  { say "SELECT count(*) FROM pgopt_index_advice(queries => $texts);" | sql advisor -o /dev/null >/dev/null 2>&1 || true; } &
  sql advisor -At <<SQL
DO \$\$
DECLARE
  victim int;
  begun timestamptz;
BEGIN
  WHILE victim IS NULL LOOP
    PERFORM pg_sleep(0.01), pg_stat_clear_snapshot();
    SELECT pid INTO victim FROM pg_stat_activity WHERE query LIKE '%FROM pgopt_index_advice%' AND state = 'active' AND pid <> pg_backend_pid();
  END LOOP;
  PERFORM pg_sleep($after);
  begun := clock_timestamp();
  IF NOT pg_cancel_backend(victim) THEN
    RAISE 'nothing to cancel';
  END IF;
  WHILE EXISTS (SELECT FROM pg_stat_activity WHERE pid = victim AND state = 'active' AND query LIKE '%FROM pgopt_index_advice%') LOOP
    PERFORM pg_sleep(0.001), pg_stat_clear_snapshot();
  END LOOP;
  RAISE WARNING 'cancelled after $after s: over % ms later', round(extract(epoch FROM clock_timestamp() - begun) * 1000);
EXCEPTION WHEN OTHERS THEN
  RAISE WARNING 'cancelled after $after s: %', SQLERRM;
END \$\$;
SQL
  wait
done

quiet "building"
build_all
sql advisor -c "CALL bench.price()"
sql advisor -v small=true -P border=2 -P footer=off -f "$top/bench/advisor_report.sql"
