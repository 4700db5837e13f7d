#!/bin/sh
# bench/instructions.sh: what counting changes costs a writing backend, in instructions. Needs valgrind.
#
# The same transactions as in tracking.sh, from one client, on servers that run under callgrind: instructions of the
# backend a transaction, the server's start and the backend's own left out by the difference of two runs. This does not
# depend on what else the machine does, and it is the share of the server's user time only: the kernel's part
# (network, flush) and the client's come on top in practice, so that the share in TPS is smaller.
#   plain   without the library
#   idle    preloaded, no extension in this database
#   views   preloaded, 20 managed views that read the tables
#   trigger without the library; statement triggers UPDATE a counter, a row a table
#   TRANSACTIONS=2000 VARIANTS="plain idle views trigger" bench/instructions.sh
set -eu
top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$top/script/lib.sh"
. "$top/bench/lib.sh"

transactions=${TRANSACTIONS:-2000}
variants=${VARIANTS:-plain idle views trigger}

if ! have valgrind; then
  say "skipped: valgrind is not installed"
  exit 0
fi
bench_begin
new_server plain "log_disconnections = on" "shared_buffers = 64MB" "log_line_prefix = '%p %a '" "max_connections = 10"
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
echo 'INSERT INTO event (account, amount) VALUES (:client_id, 1);' >"$stage/insert.sql"
printf '%s\n' '\set id random(1, 10000)' 'UPDATE account SET balance = balance + 1 WHERE id = :id;' >"$stage/update.sql"

# backend_instructions SERVER N: run N transactions, print the instructions of the backend that served them
backend_instructions() {
  bench "$1" -M prepared --random-seed=7 -c 1 -t "$2" -f "$stage/$3.sql" >/dev/null 2>&1 </dev/null
  for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    sleep 1
    # the last one to disconnect; callgrind writes at its end
    pid=$(grep 'pgbench.*disconnection' "$stage/$1.log" | tail -n 1 | cut -d ' ' -f 1)
    if [ -n "$pid" ] && grep -q '^totals:' "$stage/callgrind.$pid" 2>/dev/null; then
      sed -n 's/^totals: //p' "$stage/callgrind.$pid"
      cp "$stage/callgrind.$pid" "$stage/profile.$1.$3"
      rm -f "$stage/callgrind.$pid"
      return
    fi
  done
  die "callgrind left no file of the backend"
}

printf '  %-10s %14s %8s %14s %8s\n' instructions "an INSERT" ratio "an UPDATE" ratio
for v in $variants; do
  [ "$v" = plain ] || copy_server plain "$v"
  case $v in idle | views) configure "$v" "shared_preload_libraries = 'pgopt'" ;; esac
  case $v in
    views)
      start_server views
      sql views -c "CREATE EXTENSION pgopt" -c "SELECT pgopt_manage(format('summary_%s', i)::regclass,
        CASE WHEN i % 3 = 0 THEN 'manual' WHEN i % 3 = 1 THEN 'scheduled' ELSE 'threshold' END, interval '1 day', 1000000000)
        FROM generate_series(1, 20) i" -c "SELECT count(*) FROM pgopt_refresh_all()" >/dev/null
      server_stop "$stage/views"
      ;;
    trigger)
      start_server trigger
      for t in account event; do
        sql trigger -c "CREATE TRIGGER count_change AFTER INSERT OR UPDATE OR DELETE ON $t EXECUTE FUNCTION count_change()"
      done
      server_stop "$stage/trigger"
      ;;
  esac
  as_user valgrind --tool=callgrind --trace-children=yes --callgrind-out-file="$stage/callgrind.%p" -q \
    "$bindir/postgres" -D "$stage/$v" >"$stage/$v.log" 2>&1 &
  server=$!
  until [ "$(ask "$v" "SELECT true" 2>/dev/null || true)" = t ]; do sleep 1; done
  if [ "$v" = views ]; then
    wait_until 300 views "the first refreshes" \
      "SELECT bool_and(state = 'manual' OR state = 'waiting') FROM pgopt_matviews"
  fi
  for kind in insert update; do
    few=$(backend_instructions "$v" $((transactions / 4)) "$kind")
    many=$(backend_instructions "$v" $((transactions / 4 + transactions)) "$kind")
    echo $(((many - few) / transactions)) >"$stage/$v.$kind"
  done
  kill -INT "$(head -n 1 "$stage/$v/postmaster.pid")"
  wait "$server" || true
  awk -v v="$v" -v i="$(cat "$stage/$v.insert")" -v u="$(cat "$stage/$v.update")" -v pi="$(cat "$stage/plain.insert")" \
    -v pu="$(cat "$stage/plain.update")" \
    'BEGIN { printf "  %-10s    %14d %8.4f %14d %8.4f\n", v, i, i / pi, u, u / pu }'
done
if [ -n "${PROFILE:-}" ] && [ -f "$stage/profile.views.update" ]; then
  say "" "pgopt in the profile of \"views\", UPDATE (exclusive instructions):"
  callgrind_annotate "$stage/profile.views.update" 2>/dev/null | grep -i pgopt | head -n 20
fi
