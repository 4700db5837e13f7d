#!/bin/sh
# bench/tracking.sh: what counting changes costs the writers.
#
# pgbench writes single rows (4 clients, one INSERT or UPDATE a transaction, prepared statements) into two tables that
# 20 materialized views read, on servers with the same data files:
#   plain      without the library                     again      the same once more: the noise of the comparison
#   pgopt      preloaded, 20 views managed, none due   refreshing 20 views by threshold: refreshes happen all the time,
#   trigger    without the library; statement triggers            what they cost is included
#              UPDATE a counter, a row a table
# A round runs every server twice, in order and then in reverse, so that drift cancels out; its ratio is the sum of
# both to that of plain. Printed: the median of the ratios, and the lowest and highest.
#   ROUNDS=12 SECONDS_EACH=3 CLIENTS=4 THRESHOLD=100000 MODES="off on" (synchronous_commit) bench/tracking.sh
set -eu
top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$top/script/lib.sh"
. "$top/bench/lib.sh"

rounds=${ROUNDS:-12}
seconds=${SECONDS_EACH:-3}
clients=${CLIENTS:-4}
threshold=${THRESHOLD:-100000}
variants="plain pgopt refreshing trigger again"

bench_begin
new_server plain
start_server plain
sql plain <<'SQL'
CREATE TABLE account (id int PRIMARY KEY, branch int NOT NULL, balance bigint NOT NULL DEFAULT 0) WITH (fillfactor = 50);
INSERT INTO account SELECT i, i % 50 FROM generate_series(1, 10000) i;
CREATE TABLE event (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account int NOT NULL, amount int NOT NULL,
                    at timestamptz NOT NULL DEFAULT now());
DO $$
BEGIN
  FOR i IN 1..20 LOOP
    EXECUTE format('CREATE MATERIALIZED VIEW summary_%s AS SELECT branch %% %s AS branch, count(*) AS accounts,
      sum(balance) AS balance, (SELECT max(id) FROM event) AS last_event FROM account GROUP BY 1', i, 30 + i);
    EXECUTE format('CREATE UNIQUE INDEX ON summary_%s (branch)', i);
  END LOOP;
END $$;
CREATE TABLE counter (relation oid PRIMARY KEY, changes bigint NOT NULL) WITH (fillfactor = 10);
INSERT INTO counter VALUES ('account'::regclass, 0), ('event'::regclass, 0);
CREATE FUNCTION count_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE counter SET changes = changes + 1 WHERE relation = TG_RELID;
  RETURN NULL;
END $$;
VACUUM ANALYZE;
SQL
server_stop "$stage/plain"
for v in pgopt refreshing; do copy_server plain "$v" "shared_preload_libraries = 'pgopt'"; done
for v in trigger again; do copy_server plain "$v"; done
for v in $variants; do start_server "$v"; done

sql pgopt -c "CREATE EXTENSION pgopt" -c "SELECT pgopt_manage(format('summary_%s', i)::regclass,
    CASE WHEN i % 2 = 0 THEN 'manual' ELSE 'scheduled' END, interval '1 day') FROM generate_series(1, 20) i" \
  -c "SELECT count(*) FROM pgopt_refresh_all()" >/dev/null
sql refreshing -c "CREATE EXTENSION pgopt" -c "SELECT pgopt_manage(format('summary_%s', i)::regclass,
    'threshold', interval '1 day', $threshold) FROM generate_series(1, 20) i" >/dev/null
sql trigger -c "CREATE TRIGGER count_change AFTER INSERT OR UPDATE OR DELETE ON account EXECUTE FUNCTION count_change()" \
  -c "CREATE TRIGGER count_change AFTER INSERT OR UPDATE OR DELETE ON event EXECUTE FUNCTION count_change()"

echo 'INSERT INTO event (account, amount) VALUES (:client_id, 1);' >"$stage/insert.sql"
printf '%s\n' '\set id random(1, 10000)' 'UPDATE account SET balance = balance + 1 WHERE id = :id;' >"$stage/update.sql"

settled="SELECT NOT EXISTS (SELECT FROM pgopt_matviews WHERE state IN ('due', 'refreshing', 'retrying'))"

# run_once VARIANT MODE: one measured run, from the same state each time
run_once() {
  sql "$1" -c "TRUNCATE event" -c "VACUUM account" -c "VACUUM counter" -c "CHECKPOINT" </dev/null
  if [ "$1" = refreshing ]; then wait_until 60 refreshing "the refreshes to end" "$settled"; fi
  PGOPTIONS="-c synchronous_commit=$2" tps "$1" -M prepared -c "$clients" -j 2 -T "$seconds" \
    -f "$stage/insert.sql" -f "$stage/update.sql"
}

for mode in ${MODES:-off on}; do
  quiet "synchronous_commit = $mode, $rounds rounds of 2 x $seconds s each"
  rm -f "$stage"/ratio.*
  ask refreshing "SELECT coalesce(max(id), 0) FROM pgopt.refresh_log" >"$stage/log_before"
  run_once plain "$mode" >/dev/null # warm-up
  for round in $(seq "$rounds"); do
    rm -f "$stage"/tps.*
    for v in $variants; do run_once "$v" "$mode" >>"$stage/tps.$v"; done
    for v in $(say "$variants" | tr ' ' '\n' | sed '1!G;h;$!d'); do run_once "$v" "$mode" >>"$stage/tps.$v"; done
    base=$(awk '{ s += $1 } END { print s }' "$stage/tps.plain")
    for v in $variants; do
      awk -v base="$base" '{ s += $1 } END { printf "%.4f\n", s / base }' "$stage/tps.$v" >>"$stage/ratio.$v"
      awk '{ s += $1 } END { printf "%.1f\n", s / NR }' "$stage/tps.$v" >>"$stage/ratio.tps.$v"
    done
    if [ -n "${VERBOSE:-}" ]; then
      say "round $round: $(for v in $variants; do printf '%s %s  ' "$v" "$(tail -n 1 "$stage/ratio.$v")"; done)"
    fi
  done
  printf '  %-12s %10s %10s %10s %10s\n' variant tps ratio lowest highest
  for v in $variants; do
    # shellcheck disable=SC2046
    printf '  %-12s %10.0f %10s %10s %10s\n' "$v" "$(median <"$stage/ratio.tps.$v")" $(spread <"$stage/ratio.$v")
  done
  say "  refreshes on \"refreshing\": $(ask refreshing "SELECT count(*) || ', ' || round(sum(extract(epoch FROM duration)), 1)
     || ' s in all' FROM pgopt.refresh_log WHERE id > $(cat "$stage/log_before")")"
done
say ""
say "rows counted on \"pgopt\": $(ask pgopt "SELECT string_agg(relation || ' +' || inserted || ' ~' || updated, ', ' ORDER BY relation::text)
  FROM pgopt_table_changes WHERE relation IN ('account'::regclass, 'event'::regclass)")"
