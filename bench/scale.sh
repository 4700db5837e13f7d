#!/bin/sh
# bench/scale.sh: what many managed views cost the worker, on a server where nothing or little happens.
#
# Two databases of one server: 100 views over 1,000 tables, and 1,000 views over 10,000 tables (each view reads ten).
# Strategies mixed as in use: half smart, a fifth threshold, a fifth scheduled (1 hour), a tenth immediate. Measured
# for the worker of each database: CPU over IDLE_SECONDS without any change, CPU a commit that changes what an
# immediate view reads (with the cycles that follow its refresh), what a threshold view reads (it is not reached), and
# what no view reads, memory, and the time of the status views.
#   IDLE_SECONDS=60 WAKEUPS=100 VIEWS="100 1000" bench/scale.sh
set -eu
top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$top/script/lib.sh"
. "$top/bench/lib.sh"

idle=${IDLE_SECONDS:-60}
wakeups=${WAKEUPS:-100}
sizes=${VIEWS:-100 1000}

bench_begin
new_server main "shared_preload_libraries = 'pgopt'" "max_locks_per_transaction = 256" "fsync = off"
start_server main

# fill VIEWS: a database with that many, ten tables each, all refreshed once
fill() {
  ask main "CREATE DATABASE d$1" >/dev/null
  database=d$1
  sql main <<SQL
CREATE EXTENSION pgopt;
CREATE PROCEDURE fill(views int) LANGUAGE plpgsql AS \$\$
DECLARE
  branches text;
BEGIN
  FOR v IN 1..views LOOP
    branches := '';
    FOR t IN 1..10 LOOP
      EXECUTE format('CREATE TABLE t_%s_%s (id int, amount int)', v, t);
      EXECUTE format('INSERT INTO t_%s_%s SELECT i, i FROM generate_series(1, 10) i', v, t);
      branches := branches || CASE WHEN t > 1 THEN ' UNION ALL ' ELSE '' END
        || format('SELECT %s AS source, id, amount FROM t_%s_%s', t, v, t);
    END LOOP;
    EXECUTE format('CREATE MATERIALIZED VIEW v_%s AS SELECT source, count(*) AS rows, sum(amount) AS amount FROM (%s) b
                    GROUP BY source', v, branches);
    EXECUTE format('CREATE UNIQUE INDEX ON v_%s (source)', v);
    COMMIT;
  END LOOP;
END \$\$;
CALL fill($1);
-- how long a query takes: median and longest of seven, milliseconds
CREATE FUNCTION time_of(query text) RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
  times float8[];
  begun timestamptz;
BEGIN
  FOR i IN 1..7 LOOP
    begun := clock_timestamp();
    EXECUTE 'SELECT count(x) FROM (' || query || ' OFFSET 0) x';
    times := times || extract(epoch FROM clock_timestamp() - begun)::float8 * 1000;
  END LOOP;
  RETURN (SELECT round((percentile_cont(0.5) WITHIN GROUP (ORDER BY t))::numeric, 1) || ' ms (longest '
            || round(max(t)::numeric, 1) || ')' FROM unnest(times) t);
END \$\$;
CREATE TABLE unrelated (n int);
VACUUM ANALYZE;
SQL
  begun=$(date +%s%N)
  sql main >/dev/null <<SQL
SELECT count(pgopt_manage(format('v_%s', v)::regclass,
    CASE WHEN v % 10 = 0 THEN 'immediate' WHEN v % 10 < 3 THEN 'threshold' WHEN v % 10 < 5 THEN 'scheduled' ELSE 'smart' END,
    CASE WHEN v % 10 IN (3, 4) THEN interval '1 hour' END))
  FROM generate_series(1, $1) v;
SQL
  managed=$(date +%s%N)
  wait_until 900 main "the first refreshes" "SELECT count(*) = $1 FROM pgopt_matviews WHERE fresh"
  refreshed=$(date +%s%N)
  say "$1 views over ${1}0 tables: pgopt_manage() $(((managed - begun) / 1000000)) ms in all," \
    "first refreshes $(((refreshed - managed) / 1000000)) ms in all"
}

worker_pid() {
  ask main "SELECT pid FROM pg_stat_activity WHERE datname = 'd$1' AND backend_type = 'pgopt worker'"
}

# commits COUNT SQL...: spaced commits, one connection; $i in the SQL is their number
commits() {
  count=$1
  text=$2
  for i in $(seq "$count"); do
    say "$text" | sed "s/\$i/$i/g"
    sleep 0.15
  done | sql main
}

# measure WORKER LABEL COMMAND...: CPU and wake-ups of the worker during a command, per commit
measure() {
  pid=$1
  label=$2
  shift 2
  cpu=$(cpu_ns "$pid")
  switches=$(proc_status "$pid" voluntary_ctxt_switches)
  "$@"
  sleep 2
  awk -v label="$label" -v n="$wakeups" -v cpu=$(($(cpu_ns "$pid") - cpu)) \
    -v s=$(($(proc_status "$pid" voluntary_ctxt_switches) - switches)) \
    'BEGIN { printf "  %-52s %8.3f ms CPU a commit, %.1f waits a commit\n", label, cpu / 1e6 / n, s / n }'
}

for n in $sizes; do fill "$n"; done
sleep 7 # refresh workers have gone

quiet "idle for $idle s: CPU of the workers"
for n in $sizes; do
  pid=$(worker_pid "$n")
  say "$pid $(cpu_ns "$pid") $(proc_status "$pid" voluntary_ctxt_switches)" >"$stage/idle.$n"
done
launcher=$(ask main "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pgopt launcher'")
launcher_cpu=$(cpu_ns "$launcher")
sleep "$idle"
for n in $sizes; do
  read -r pid cpu switches <"$stage/idle.$n"
  awk -v n="$n" -v t="$idle" -v cpu=$(($(cpu_ns "$pid") - cpu)) -v s=$(($(proc_status "$pid" voluntary_ctxt_switches) - switches)) \
    'BEGIN { printf "  worker, %5d views: %8.1f ms (%.4f %% of a core), woke up %d times\n", n, cpu / 1e6, cpu / 1e7 / t, s }'
done
awk -v t="$idle" -v cpu=$(($(cpu_ns "$launcher") - launcher_cpu)) \
  'BEGIN { printf "  launcher:            %8.1f ms (%.4f %% of a core)\n", cpu / 1e6, cpu / 1e7 / t }'

for n in $sizes; do
  database=d$n
  pid=$(worker_pid "$n")
  quiet "$n views over ${n}0 tables"
  ask main "SELECT time_of('SELECT * FROM pgopt_matviews')" >/dev/null # warms the caches of nobody but the server
  for q in "SELECT * FROM pgopt_matviews" "SELECT * FROM pgopt_health()" "SELECT * FROM pgopt_table_changes" \
    "SELECT * FROM pgopt_matview_dependencies"; do
    printf '  %-52s %s\n' "$q" "$(ask main "SELECT time_of('$q')")"
  done
  measure "$pid" "commit to a table of an immediate view (refreshed)" commits "$wakeups" \
    'INSERT INTO t_10_1 VALUES ($i, 1);'
  measure "$pid" "commit to a table of a threshold view" commits "$wakeups" 'INSERT INTO t_1_1 VALUES ($i, 1);'
  measure "$pid" "commit to a table that no view reads" commits "$wakeups" 'INSERT INTO unrelated VALUES ($i);'
  say "  worker's memory: RSS $(($(proc_status "$pid" VmRSS) / 1024)) MB, of which its own $(($(proc_status "$pid" RssAnon) / 1024)) MB"
  ask main "INSERT INTO t_5_1 VALUES (0, 0)" >/dev/null
  cpu=$(cpu_ns "$pid")
  sleep 30
  awk -v cpu=$(($(cpu_ns "$pid") - cpu)) 'BEGIN { printf "  idle with a change pending for a smart view: %.4f %% of a core\n",
    cpu / 1e7 / 30 }'
  [ "$(worker_pid "$n")" = "$pid" ] || die "the worker was restarted"
done
