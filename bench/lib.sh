# Shell functions that the benchmarks share. Source it with
#   top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P); . "$top/script/lib.sh"; . "$top/bench/lib.sh"
#
# Every benchmark builds the tree, and starts private servers (own data folders and sockets, no TCP) in a folder that
# goes away at the end. The system is not touched. Settings of all of them, as environment variables:
#   MAX_LOAD=0.7  wait before each measurement until the load average of the last minute is below this, at most
#                 MAX_WAIT seconds (600); without it nothing waits, and the load is only printed
#   PG_CONFIG     measure with another server (of a release build!) and install no packages
#   PGOPT_KEEP=1  keep the folder with the servers' data and logs
# shellcheck shell=sh

bench_servers=
started=$(date +%s)

# bench_begin: build, stage, and say what is measured where
bench_begin() {
  [ -n "${PG_CONFIG:-}" ] || "$top/script/setup" build
  load_pg_config
  if "$bindir/postgres" -V >/dev/null 2>&1 && "$PG_CONFIG" --configure | grep -q enable-cassert; then
    say "Note: this server has assertions, its times mean nothing."
  fi
  make_stage
  trap 'code=$?; trap - EXIT; bench_end; exit $code' EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 141' PIPE
  trap 'exit 143' TERM
  objects=$top/build/bench-pg$pg_version
  if ! mkdir -p "$objects" 2>/dev/null || ! [ -w "$objects" ]; then
    objects=$stage/objects
    mkdir -p "$objects"
  fi
  copy_sources "$objects"
  build "$objects" || die "the build failed; all of its output is in $objects/build.log"
  mkdir -p "$stage/root"
  install_staged "$objects" "$stage/root"
  started=$(date +%s)
  say "PostgreSQL $pg_version, $(nproc) cores ($(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1))," \
    "pgopt at $(git -C "$top" rev-parse --short HEAD 2>/dev/null || echo unknown), $(date -u '+%Y-%m-%d %H:%M') UTC," \
    "load $(load)"
}

bench_end() {
  say "took $(($(date +%s) - started)) s, load $(load)" 2>/dev/null || true
  if [ -n "${PGOPT_KEEP:-}" ]; then
    for s in $bench_servers; do server_stop "$stage/$s" immediate || true; done
    say "kept: $stage"
  else
    remove_stage
  fi
}

load() {
  cut -d ' ' -f 1 /proc/loadavg
}

# quiet WHAT: wait for a quiet machine where that was asked for, and say how loaded it is
quiet() {
  if [ -n "${MAX_LOAD:-}" ]; then
    give_up=$(($(date +%s) + ${MAX_WAIT:-600}))
    while [ "$(load | awk -v max="$MAX_LOAD" '{ print ($1 >= max) }')" = 1 ] && [ "$(date +%s)" -lt "$give_up" ]; do
      sleep 10
    done
  fi
  say ""
  say "$1 (load before: $(load))"
}

# configure NAME [SETTING...]: append to the server's postgresql.conf
configure() {
  conf=$stage/$1/postgresql.conf
  shift
  for setting in "$@"; do say "$setting"; done >>"$conf"
}

# new_server NAME [SETTING...]: initdb, with what all servers of the benchmarks share
new_server() {
  server_init "$stage/$1"
  mkdir -p "$stage/$1.s"
  give "$stage/$1.s"
  configure "$1" "listen_addresses = ''" "unix_socket_directories = '$stage/$1.s'" "port = 5432" \
    "shared_buffers = 256MB" "max_wal_size = 4GB" "checkpoint_timeout = 30min" "max_connections = 40" \
    "max_worker_processes = 24" "timezone = 'UTC'" "autovacuum = off" "log_line_prefix = '%m [%p] %q%a '" "$staging"
  shift_name=$1
  shift
  configure "$shift_name" "$@"
}

# copy_server FROM TO [SETTING...]: the same data files, of a server that is stopped
copy_server() {
  cp -a "$stage/$1" "$stage/$2"
  mkdir -p "$stage/$2.s"
  give "$stage/$2.s"
  shift_name=$2
  shift 2
  configure "$shift_name" "unix_socket_directories = '$stage/$shift_name.s'" "$@"
}

start_server() {
  bench_servers="$bench_servers $1"
  server_start "$stage/$1" || die "server $1 did not start"
}

# sql SERVER ARGUMENT...: psql as superuser; ask SERVER SQL: one value
sql() {
  psql_on=$1
  shift
  PGHOST=$stage/$psql_on.s PGPORT=5432 PGUSER=postgres PGDATABASE=${database:-postgres} PGCLIENTENCODING=UTF8 \
    PGOPTIONS="-c client_min_messages=warning ${PGOPTIONS:-}" "$bindir/psql" -X -q -v ON_ERROR_STOP=1 "$@"
}

ask() {
  sql "$1" -At -c "$2" </dev/null
}

# bench SERVER ARGUMENT...: pgbench
bench() {
  bench_on=$1
  shift
  PGHOST=$stage/$bench_on.s PGPORT=5432 PGUSER=postgres PGDATABASE=${database:-postgres} "$bindir/pgbench" -n "$@"
}

# tps SERVER ARGUMENT...: transactions a second, without the time to connect
tps() {
  bench "$@" 2>"$stage/pgbench.err" >"$stage/pgbench.out" </dev/null || { cat "$stage/pgbench.err" >&2; return 1; }
  sed -n 's/^tps = \([0-9.]*\).*/\1/p' "$stage/pgbench.out"
}

# children_cpu SERVER: clock ticks that its ended processes have used
children_cpu() {
  sed 's/.*) //' "/proc/$(head -n 1 "$stage/$1/postmaster.pid")/stat" | awk '{ print $14 + $15 }'
}

# tps_and_cpu SERVER ARGUMENT...: one run of pgbench; TPS, clock ticks of CPU of its backends, transactions
tps_and_cpu() {
  cpu=$(children_cpu "$1")
  rate=$(tps "$@")
  sleep 0.2
  n=$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' "$stage/pgbench.out")
  say "$rate $(($(children_cpu "$1") - cpu)) $n"
}

# compare_rounds LOAD: $rounds rounds of $variants, the first of which is "plain". The caller's run_once VARIANT LOAD
# prints what tps_and_cpu does. A round runs every variant twice, in order and then in reverse, so that drift cancels
# out, and each round begins with another one; its ratio is the sum of both runs to that of plain.
compare_rounds() {
  rm -f "$stage"/ratio.*
  for round in $(seq "$rounds"); do
    rm -f "$stage"/run.* "$stage"/base.*
    order=$(say "$variants" | awk -v r="$round" '{ for (i = 0; i < NF; i++) print $((i + r) % NF + 1) }')
    for v in $order $(say "$order" | sed '1!G;h;$!d'); do run_once "$v" "$1" >>"$stage/run.$v"; done
    for v in $variants; do
      # TPS, and clock ticks of CPU a transaction, over both runs; then both relative to plain
      awk '{ t += $1; c += $2; n += $3 } END { printf "%.1f %.9f\n", t / NR, c / n }' "$stage/run.$v" >"$stage/base.$v"
      cat "$stage/base.plain" "$stage/base.$v" | awk 'NR == 1 { t = $1; c = $2 } NR == 2 { printf "%.4f %.4f\n", $1 / t, $2 / c }' \
        >"$stage/now"
      cut -d ' ' -f 1 "$stage/base.$v" >>"$stage/ratio.tps.$v"
      cut -d ' ' -f 1 "$stage/now" >>"$stage/ratio.$v"
      cut -d ' ' -f 2 "$stage/now" >>"$stage/ratio.cpu.$v"
    done
    if [ -n "${VERBOSE:-}" ]; then
      say "round $round: $(for v in $variants; do printf '%s %s %s  ' "$v" "$(tail -n 1 "$stage/ratio.$v")" "$(tail -n 1 "$stage/ratio.cpu.$v")"; done)"
    fi
  done
}

# ratios VARIANT: of those rounds, the median TPS; then the median, lowest and highest ratio of TPS, and of CPU
ratios() {
  say "$(median <"$stage/ratio.tps.$1") $(spread <"$stage/ratio.$1") $(spread <"$stage/ratio.cpu.$1")"
}

ratio_table() {
  printf '  %-12s %8s %10s %8s %8s %12s %8s %8s\n' variant tps "tps ratio" lowest highest "cpu ratio" lowest highest
  for v in $variants; do
    # shellcheck disable=SC2046
    printf '  %-12s %8.0f %10s %8s %8s %12s %8s %8s\n' "$v" $(ratios "$v")
  done
}

# wait_until SECONDS SERVER WHAT SQL: until the query says t
wait_until() {
  give_up=$(($(date +%s) + $1))
  until [ "$(ask "$2" "$4")" = t ]; do
    [ "$(date +%s)" -lt "$give_up" ] || die "waited $1 s in vain for $3"
    sleep 0.3
  done
}

# Numbers on standard input -> median; -> "median lowest highest"
median() {
  sort -n | awk '{ v[NR] = $1 } END { if (NR) print (v[int((NR + 1) / 2)] + v[int((NR + 2) / 2)]) / 2 }'
}

spread() {
  sort -n | awk '{ v[NR] = $1 } END { if (NR)
    printf "%.3f %.3f %.3f\n", (v[int((NR + 1) / 2)] + v[int((NR + 2) / 2)]) / 2, v[1], v[NR] }'
}

# cpu_ns PID: nanoseconds of CPU that a process has used; from clock ticks where the kernel keeps no better account
cpu_ns() {
  if [ -r "/proc/$1/schedstat" ]; then
    cut -d ' ' -f 1 "/proc/$1/schedstat"
  else
    sed 's/.*) //' "/proc/$1/stat" | awk -v hz="$(getconf CLK_TCK)" '{ printf "%.0f\n", ($12 + $13) * 1e9 / hz }'
  fi
}

# proc_status PID FIELD: a number of /proc/PID/status
proc_status() {
  awk -v f="$2:" '$1 == f { print $2 }' "/proc/$1/status"
}

# sample_paragraphs: those of the 360 bills of the example, a line each
sample_paragraphs() {
  sed 1d "$top/examples/legislative/sample/bills.tsv" | cut -f 11 | awk '{ n = split($0, paragraphs, /\\n/)
    for (i = 1; i <= n; i++) if (length(paragraphs[i]) > 20) print paragraphs[i] }'
}
