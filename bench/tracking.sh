#!/bin/sh
# bench/tracking.sh: what counting changes costs the writers.
#
# pgbench writes single rows (4 clients, one INSERT or UPDATE a transaction, prepared statements) into two tables that
# 20 materialized views read, on servers with the same data files:
#   plain      without the library                     again      the same once more: the noise of the comparison
#   pgopt      preloaded, 20 views managed, none due   refreshing 20 views by threshold: refreshes happen all the time,
#   trigger    without the library; statement triggers            what they cost is included
#              UPDATE a counter, a row a table
# A round runs every server twice, in order and then in reverse, so that drift cancels out, and each round begins with
# another one; its ratio is the sum of both to that of plain. Printed: the median of the rounds' ratios of TPS, the lowest and highest, and the same of the
# CPU time that the writers' backends took a transaction (from the server's account of its ended children). Other work
# on the machine disturbs the second much less; for TPS a ratio of 0.98 is one of CPU of 1.02 where CPU is the bound.
#   ROUNDS=12 SECONDS_EACH=3 CLIENTS=4 THRESHOLD=100000 MODES="off on" (synchronous_commit)
#   VARIANTS="plain pgopt refreshing trigger again" (plain must be first) VERBOSE=1    bench/tracking.sh
set -eu
top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$top/script/lib.sh"
. "$top/bench/lib.sh"

rounds=${ROUNDS:-12}
seconds=${SECONDS_EACH:-3}
clients=${CLIENTS:-4}
threshold=${THRESHOLD:-100000}
variants=${VARIANTS:-plain pgopt refreshing trigger again}

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
for v in $variants; do
  case $v in
    plain) ;;
    pgopt | refreshing) copy_server plain "$v" "shared_preload_libraries = 'pgopt'" ;;
    trigger | again) copy_server plain "$v" ;;
    *) die "unknown variant $v" ;;
  esac
done
for v in $variants; do
  start_server "$v"
  case $v in
    pgopt)
      sql pgopt -c "CREATE EXTENSION pgopt" -c "SELECT pgopt_manage(format('summary_%s', i)::regclass,
          CASE WHEN i % 2 = 0 THEN 'manual' ELSE 'scheduled' END, interval '1 day') FROM generate_series(1, 20) i" \
        -c "SELECT count(*) FROM pgopt_refresh_all()" >/dev/null
      ;;
    refreshing)
      sql refreshing -c "CREATE EXTENSION pgopt" -c "SELECT pgopt_manage(format('summary_%s', i)::regclass,
          'threshold', interval '1 day', $threshold) FROM generate_series(1, 20) i" >/dev/null
      ;;
    trigger)
      for t in account event; do
        sql trigger -c "CREATE TRIGGER count_change AFTER INSERT OR UPDATE OR DELETE ON $t EXECUTE FUNCTION count_change()"
      done
      ;;
  esac
done

echo 'INSERT INTO event (account, amount) VALUES (:client_id, 1);' >"$stage/insert.sql"
printf '%s\n' '\set id random(1, 10000)' 'UPDATE account SET balance = balance + 1 WHERE id = :id;' >"$stage/update.sql"

settled="SELECT NOT EXISTS (SELECT FROM pgopt_matviews WHERE state IN ('due', 'refreshing', 'retrying'))"

# run_once VARIANT MODE: one measured run, from the same state each time; TPS, clock ticks of CPU, transactions
run_once() {
  sql "$1" -c "TRUNCATE event" -c "VACUUM account" -c "VACUUM counter" -c "CHECKPOINT" </dev/null
  if [ "$1" = refreshing ]; then wait_until 60 refreshing "the refreshes to end" "$settled"; fi
  PGOPTIONS="-c synchronous_commit=$2" tps_and_cpu "$1" -M prepared -c "$clients" -j 2 -T "$seconds" \
    -f "$stage/insert.sql" -f "$stage/update.sql"
}

for mode in ${MODES:-off on}; do
  quiet "synchronous_commit = $mode, $rounds rounds of 2 x $seconds s each"
  case $variants in
    *refreshing*) ask refreshing "SELECT coalesce(max(id), 0) FROM pgopt.refresh_log" >"$stage/log_before" ;;
  esac
  run_once plain "$mode" >/dev/null # warm-up
  compare_rounds "$mode"
  ratio_table
  case $variants in *refreshing*) ;; *) continue ;; esac
  say "  refreshes on \"refreshing\": $(ask refreshing "SELECT count(*) || ', ' || round(sum(extract(epoch FROM duration)), 1)
     || ' s in all' FROM pgopt.refresh_log WHERE id > $(cat "$stage/log_before")")"
done
case $variants in
  *pgopt*)
    say ""
    say "rows counted on \"pgopt\": $(ask pgopt "SELECT string_agg(relation || ' +' || inserted || ' ~' || updated, ', '
      ORDER BY relation::text) FROM pgopt_table_changes WHERE relation IN ('account'::regclass, 'event'::regclass)")"
    ;;
esac
