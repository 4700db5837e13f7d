#!/bin/sh
# bench/health.sh: what pgopt_health() takes, with many tables.
#
# A database for each number of tables, each with a primary key filled by a sequence (every tenth of int, the others of
# bigint), a TOAST table and one row; every tenth table has an index of its own, every hundredth refers to another
# without an index. That is five relations a table. Measured: the first call of a session and the median of those that
# follow, as time and as CPU (on a busy machine the second says more), the same in quick mode, which checks cost most,
# and the memory that the session keeps.
#   TABLES="1000 50000" ROUNDS=5 bench/health.sh
set -eu
top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$top/script/lib.sh"
. "$top/bench/lib.sh"

sizes=${TABLES:-1000 50000}
rounds=${ROUNDS:-5}

bench_begin
new_server main "shared_preload_libraries = 'pgopt'" "max_locks_per_transaction = 1024" "fsync = off" \
  "synchronous_commit = off"
start_server main

fill() {
  ask main "CREATE DATABASE d$1" >/dev/null
  database=d$1
  sql main <<SQL
CREATE EXTENSION pgopt;
CREATE TABLE hub (id int PRIMARY KEY);
INSERT INTO hub VALUES (1);
CREATE PROCEDURE fill(tables int) LANGUAGE plpgsql AS \$\$
BEGIN
  FOR t IN 1..tables LOOP
    EXECUTE format('CREATE TABLE t_%s (id %s GENERATED ALWAYS AS IDENTITY PRIMARY KEY, h int %s, body text)', t,
      CASE WHEN t % 10 = 0 THEN 'int' ELSE 'bigint' END, CASE WHEN t % 100 = 0 THEN 'REFERENCES hub' ELSE '' END);
    EXECUTE format('INSERT INTO t_%s (h, body) VALUES (1, ''x'')', t);
    IF t % 10 = 1 THEN
      EXECUTE format('CREATE INDEX ON t_%s (h)', t);
    END IF;
    IF t % 100 = 0 THEN
      COMMIT;
    END IF;
  END LOOP;
END \$\$;
CALL fill($1);
SQL
  sql main -c 'VACUUM ANALYZE pg_catalog.pg_class, pg_catalog.pg_index, pg_catalog.pg_attribute' \
    -c 'VACUUM pg_catalog.pg_depend, pg_catalog.pg_constraint, pg_catalog.pg_sequence' -c CHECKPOINT
}

# calls CALL N: for each of N calls in one session, the first one of its life first, "milliseconds CPU-milliseconds"
calls() {
  {
    say 'SELECT pg_backend_pid() AS pid \gset'
    say '\setenv BACKEND :pid'
    i=0
    while [ $i -lt "$2" ]; do
      i=$((i + 1))
      say '\! sed "s/^/CPU: /" /proc/$BACKEND/schedstat'
      say "$1;"
    done
    say '\! sed "s/^/CPU: /" /proc/$BACKEND/schedstat'
  } >"$stage/calls.sql"
  sql main -At -c '\timing on' -f "$stage/calls.sql" | awk '/^CPU: / { cpu = $2 / 1e6; if (seen++) print time, cpu - last
    last = cpu } /^Time: / { time = $2 }'
}

report() {
  : >"$stage/first"
  : >"$stage/rest"
  round=0
  while [ $round -lt "$rounds" ]; do
    round=$((round + 1))
    calls "$2" 4 >"$stage/calls"
    head -n 1 "$stage/calls" >>"$stage/first"
    tail -n 3 "$stage/calls" >>"$stage/rest"
  done
  for part in first rest; do
    case $part in first) which="first call of a session" ;; *) which="later calls" ;; esac
    say "$1, $which: $(cut -d ' ' -f 1 "$stage/$part" | median) ms, CPU $(cut -d ' ' -f 2 "$stage/$part" | median) ms"
  done
}

for n in $sizes; do
  fill "$n"
  database=d$n
  quiet "$n tables: $(ask main "SELECT count(*) FROM pg_class") relations"
  report "pgopt_health()" "SELECT score FROM pgopt_health()"
  report "pgopt_health('quick')" "SELECT score FROM pgopt_health('quick')"
  say "The dearest checks of a first and of a later call, ms (the first that looks at relations reads the catalogs):"
  {
    say "SET client_min_messages = debug1;"
    say "SELECT score FROM pgopt_health();"
    say "\\echo later"
    say "SELECT score FROM pgopt_health();"
  } >"$stage/calls.sql"
  sql main -At -f "$stage/calls.sql" >"$stage/checks.out" 2>&1
  for part in first later; do
    awk -v part=$part '/^later/ { now = 1 } / check [a-z0-9_]+ took / { if ((part == "later") == (now == 1)) {
      sub(/.* check /, ""); print $3, $1 } }' "$stage/checks.out" | sort -rn | head -n 10 | sed "s/^/  $part  /"
  done
  sql main -At <<'SQL' | sed 's/^/memory of the session after three calls: /'
SELECT FROM pgopt_health() \g /dev/null
SELECT FROM pgopt_health() \g /dev/null
SELECT FROM pgopt_health() \g /dev/null
SELECT pg_size_pretty(sum(total_bytes)) FROM pg_backend_memory_contexts;
SQL
  database=postgres
done
