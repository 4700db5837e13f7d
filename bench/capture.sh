#!/bin/sh
# bench/capture.sh: what capturing the workload costs the statements.
#
# pgbench on servers with the same data files, 2 clients each:
#   plain    pgopt preloaded, pgopt.workload_capture off, no query ids: what capture is compared with
#   again    the same once more: the noise of the comparison
#   capture  pgopt preloaded as it comes: every execution is counted, samples go to the tables
#   server   pg_stat_statements instead, without pgopt: what the server's own way of counting costs
# in three kinds of load: pgbench -S with prepared statements (the cheapest statement there is, so the dearest capture),
# pgbench -S with simple ones, and TPC-B with prepared statements and synchronous_commit off.
# A round runs every server twice, in order and then in reverse, so that drift cancels out, and each round begins with
# another one; its ratio is the sum of both to that of plain. Printed: the median of the rounds' ratios of TPS, the lowest
# and highest, and the same of the CPU time that the backends took a transaction (from the server's account of its ended
# children). Then the instructions of a backend a transaction, by callgrind (where valgrind is installed): repeatable on
# any machine, but of the server's own part of the time only, so that its share is larger than that of TPS. At the end
# distinct statements, more than shared memory has room for, and what became of the server's memory and speed.
#   PARTS="tps instructions distinct" LOADS="select simple write" ROUNDS=10 SECONDS_EACH=2 CLIENTS=2 TRANSACTIONS=2000
#   DISTINCT=100000 VARIANTS="plain capture server again" (plain must be first) VERBOSE=1 PROFILE=1    bench/capture.sh
set -eu
top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$top/script/lib.sh"
. "$top/bench/lib.sh"

rounds=${ROUNDS:-10}
seconds=${SECONDS_EACH:-2}
clients=${CLIENTS:-2}
parts=${PARTS:-tps instructions distinct}
loads=${LOADS:-select simple write}
transactions=${TRANSACTIONS:-2000}
variants=${VARIANTS:-plain capture server again}
distinct=${DISTINCT:-100000}

bench_begin
new_server plain "shared_preload_libraries = 'pgopt'"
start_server plain
sql plain -c "CREATE EXTENSION pgopt"
bench plain -i -s 5 -q 2>/dev/null
sql plain -c "VACUUM ANALYZE"
server_stop "$stage/plain"
for v in $variants; do
  case $v in
    plain) ;;
    again) copy_server plain "$v" ;;
    capture) copy_server plain "$v" ;;
    server) copy_server plain "$v" "shared_preload_libraries = 'pg_stat_statements'" ;;
    *) die "unknown variant $v" ;;
  esac
done
for v in plain again; do
  [ -d "$stage/$v" ] && configure "$v" "pgopt.workload_capture = off" "compute_query_id = off"
done
for v in $variants; do start_server "$v"; done

# options LOAD: pgbench's
options() {
  case $1 in
    select) echo "-S -M prepared" ;;
    simple) echo "-S -M simple" ;;
    write) echo "-M prepared" ;;
    *) die "unknown load $1" ;;
  esac
}

# run_once VARIANT LOAD: one measured run; TPS, clock ticks of CPU, transactions
run_once() {
  # shellcheck disable=SC2046
  PGOPTIONS="-c synchronous_commit=off" tps_and_cpu "$1" $(options "$2") -c "$clients" -j 1 -T "$seconds"
}

measure_tps() {
  quiet "$load, $rounds rounds of 2 x $seconds s each"
  for v in $variants; do run_once "$v" "$load" >/dev/null; done # warm-up
  compare_rounds "$load"
  ratio_table
}

# backend_instructions VARIANT LOAD N: run N transactions, print the instructions of the backend that served them
backend_instructions() {
  # shellcheck disable=SC2046
  bench "$1" $(options "$2") --random-seed=7 -c 1 -t "$3" >/dev/null 2>&1 </dev/null
  for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    sleep 1
    # the last one to disconnect; callgrind writes at its end
    pid=$(grep 'pgbench.*disconnection' "$stage/$1.log" | tail -n 1 | sed 's/.*\[\([0-9]*\)\].*/\1/')
    if [ -n "$pid" ] && grep -q '^totals:' "$stage/callgrind.$pid" 2>/dev/null; then
      sed -n 's/^totals: //p' "$stage/callgrind.$pid"
      mv "$stage/callgrind.$pid" "$stage/profile.$1.$2"
      return
    fi
  done
  die "callgrind left no file of the backend"
}

# measure_instructions VARIANT: of each load, into files
measure_instructions() {
  server_stop "$stage/$1"
  configure "$1" "log_disconnections = on" "shared_buffers = 128MB"
  as_user valgrind --tool=callgrind --trace-children=yes --callgrind-out-file="$stage/callgrind.%p" -q \
    "$bindir/postgres" -D "$stage/$1" >"$stage/$1.log" 2>&1 &
  server=$!
  until [ "$(ask "$1" "SELECT true" 2>/dev/null || true)" = t ]; do sleep 1; done
  for load in $loads; do
    few=$(backend_instructions "$1" "$load" $((transactions / 4)))
    many=$(backend_instructions "$1" "$load" $((transactions / 4 + transactions)))
    echo $(((many - few) / transactions)) >"$stage/instructions.$1.$load"
  done
  kill -INT "$(head -n 1 "$stage/$1/postmaster.pid")"
  wait "$server" || true
  start_server "$1"
}

case " $parts " in
  *" tps "*) for load in $loads; do measure_tps; done ;;
esac

case " $parts " in
  *" instructions "*)
    if have valgrind; then
      say ""
      for v in $variants; do
        [ "$v" = again ] || measure_instructions "$v"
      done
      printf '  %-12s' instructions
      for load in $loads; do printf ' %10s %8s' "$load" ratio; done
      echo
      for v in $variants; do
        [ "$v" = again ] && continue
        printf '  %-12s' "$v"
        for load in $loads; do
          cat "$stage/instructions.$v.$load" "$stage/instructions.plain.$load" |
            awk 'NR == 1 { n = $1 } NR == 2 { printf " %10d %8.4f", n, n / $1 }'
        done
        echo
      done
      if [ -n "${PROFILE:-}" ]; then
        say "" "pgopt in the profile of \"capture\":"
        callgrind_annotate "$stage/profile.capture.${loads%% *}" 2>/dev/null | grep -iE 'pgopt|Instr' | head -n 20
      fi
    fi
    ;;
esac

case " $parts " in *" distinct "*) ;; *) exit 0 ;; esac

# Statements of different shape: columns named differently have no ids of their own, lists of different lengths have.
quiet "$distinct distinct statements"
awk -v n="$distinct" 'BEGIN {
  split("aid bid abalance", c, " ")
  for (i = 0; i < n; i++) {
    s = ""
    for (j = i; j > 0; j = int(j / 3)) s = s (s == "" ? "" : " + ") c[j % 3 + 1]
    printf "SELECT %s FROM pgbench_accounts WHERE aid = %d;\n", s == "" ? "bid" : s, i % 500000 + 1
  }
}' >"$stage/distinct.sql"
for v in plain capture; do
  sql "$v" -At -f "$stage/distinct.sql" >/dev/null # plans nothing twice: each is another one
  from=$(date +%s.%N)
  sql "$v" -At -f "$stage/distinct.sql" >/dev/null
  say "$from $(date +%s.%N)" | awk -v v="$v" -v n="$distinct" '{ printf "  %-12s %8.0f statements a second\n", v, n / ($2 - $1) }'
done
say "  $(ask capture "SELECT statements || ' statements in shared memory, ' || statements_evicted || ' went, ' || memory_used ||
  ' of ' || memory_size || ' bytes of samples, ' || samples_dropped || ' found no room' FROM pgopt_workload_status()")"
say "  tables: $(ask capture "SELECT pg_size_pretty(sum(pg_total_relation_size(c))) FROM unnest(
  '{pgopt.workload_statements,pgopt.workload_samples,pgopt.workload_history}'::regclass[]) c")"
