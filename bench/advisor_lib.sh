# What the benchmarks of the index advisor share: a server whose tables stay, and the way from a workload to its advice, to
# indexes as built, to costs and times. Source it after script/lib.sh and bench/lib.sh. Settings, as environment variables:
#   ADVISOR_DIR   where the server's data stays; /var/tmp/pgopt-advisor unless told. Remove it to start afresh.
#   ROUNDS=3      of the statements' times; 0 = none
#   PARALLEL=2    max_parallel_workers_per_gather
#   SETTINGS      more lines for postgresql.conf
#
# The statements of a database are in bench.statement; a configuration is a set of indexes that somebody advised. All of
# them are built once and stay side by side, and a configuration is looked at by making the others invalid in the
# catalog, which the planner then leaves out: so configurations can be measured in turn, statement by statement.
# shellcheck shell=sh

advisor_dir=${ADVISOR_DIR:-/var/tmp/pgopt-advisor}
rounds=${ROUNDS:-3}

# advisor_start: the server that lives on; its name for sql() and ask() is "advisor".
advisor_start() {
  cd /
  advisor=$advisor_dir/pg$pg_major
  mkdir -p "$advisor_dir"
  chmod 755 "$advisor_dir"
  give "$advisor_dir"
  if [ ! -e "$advisor/PG_VERSION" ]; then
    server_init "$advisor"
    say "include 'bench.conf'" >>"$advisor/postgresql.conf"
  fi
  ! server_running "$advisor" || die "$advisor is in use"
  mkdir -p "$advisor.s"
  give "$advisor.s"
  advisor_configure "pgopt"
  ln -sfn "$advisor" "$stage/advisor"
  ln -sfn "$advisor.s" "$stage/advisor.s"
  trap 'code=$?; trap - EXIT; server_stop "$advisor" fast || true; bench_end; exit $code' EXIT
  server_start "$advisor" || die "the server in $advisor did not start"
}

# advisor_configure LIBRARIES: the planner's settings are the server's own defaults, but for what is printed
advisor_configure() {
  cat >"$advisor/bench.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$advisor.s'
port = 5432
shared_buffers = 1GB
max_wal_size = 1GB
checkpoint_timeout = 1h
wal_level = minimal
max_wal_senders = 0
fsync = off
maintenance_work_mem = 256MB
max_worker_processes = 24
max_parallel_workers_per_gather = ${PARALLEL:-2}
timezone = 'UTC'
autovacuum = off
jit = off
log_line_prefix = '%m [%p] %q%a '
shared_preload_libraries = '$1'
$staging
${SETTINGS:-}
CONF
}

# advisor_libraries LIBRARIES: the same server with others
advisor_libraries() {
  server_stop "$advisor" fast
  advisor_configure "$1"
  server_start "$advisor" || die "the server in $advisor did not start"
}

has_package() {
  [ "$(ask advisor "SELECT count(*) FROM pg_available_extensions WHERE name = '$1'")" = 1 ]
}

# database_is_there NAME; and the two that make one: it has its name only when it is complete
database_is_there() {
  [ "$(database=postgres; ask advisor "SELECT count(*) FROM pg_database WHERE datname = '$1'")" = 1 ]
}

begin_database() {
  begun=$(date +%s)
  (database=postgres; sql advisor -c "DROP DATABASE IF EXISTS making_$1" -c "CREATE DATABASE making_$1")
}

end_database() {
  (database=making_$1; sql advisor -c 'VACUUM ANALYZE')
  (database=postgres; sql advisor -c "ALTER DATABASE making_$1 RENAME TO $1" -c CHECKPOINT)
  say "$1 made in $(($(date +%s) - begun)) s"
}

# measure_begin: pgopt as it is in this tree, no indexes of earlier runs, no configurations
measure_begin() {
  if [ "$(ask advisor "SELECT to_regclass('bench.configuration') IS NOT NULL")" = t ]; then
    sql advisor -c "CALL bench.clear()"
  fi
  sql advisor -c "DROP EXTENSION IF EXISTS pgopt CASCADE" -c "CREATE EXTENSION pgopt"
  sql advisor -f "$top/bench/advisor.sql"
}

# run_workload [CONDITION]: reset what was captured, and run each statement as often as it says, in a session of its own
run_workload() {
  ask advisor "SELECT rtrim(query, E'; \n') || ';' FROM bench.statement, generate_series(1, calls)
    WHERE ${1:-true} ORDER BY generate_series, name" >"$stage/workload.sql"
  ask advisor "SELECT pgopt_workload_reset()" >/dev/null
  begun=$(date +%s)
  { say 'BEGIN;'; cat "$stage/workload.sql"; say 'ROLLBACK;'; } | sql advisor -o /dev/null
  say "the workload ran in $(($(date +%s) - begun)) s"
  # what was rolled back leaves pages that are no longer all visible, which building an index would only notice later
  sql advisor -c "VACUUM"
}

# advise CONFIGURATION BUDGET-MB|none [QUERIES]: pgopt's advice; QUERIES is an SQL array, else what was captured.
# In a new session: what the call costs is all that a caller pays.
advise() {
  limit=NULL
  [ "$2" = none ] || limit="'$2MB'"
  queries=
  [ -z "${3:-}" ] || queries=", queries => $3"
  sql advisor -At >"$stage/advise.out" <<SQL 2>&1 || { say "no advice for $1: $(grep ERROR "$stage/advise.out")"; return 0; }
SELECT pg_backend_pid() AS pid \gset
\setenv PID :pid
INSERT INTO bench.configuration (name, author, budget) VALUES ('$1', 'pgopt', 1048576.0 * $( [ "$2" = none ] && say NULL || say "$2"));
\o /dev/null
SELECT count(*) FROM pg_class;
\o
\! cut -d ' ' -f 1 /proc/\$PID/schedstat
\timing on
INSERT INTO bench.advice (configuration, place, ddl, predicted, write_cost, priority, reason)
SELECT '$1', row_number() OVER (), ddl, size_bytes, write_cost, priority, reason
  FROM pgopt_index_advice(budget => $limit$queries);
\timing off
\! cut -d ' ' -f 1 /proc/\$PID/schedstat
SQL
  awk '/^Time/ { ms = $2; next } { ns[++n] = $1 } END { print (ns[2] - ns[1]) / 1e6, ms }' "$stage/advise.out" |
    while read -r cpu ms; do
      ask advisor "UPDATE bench.configuration SET cpu_ms = $cpu, ms = $ms WHERE name = '$1'"
    done
}

# foresee CONFIGURATION [CONDITION]: what pgopt_whatif() says the statements will cost with it
foresee() {
  sql advisor -c "INSERT INTO bench.cost_foreseen
    SELECT '$1', s.name, w.cost_after
      FROM bench.statement AS s,
           pgopt_whatif(ARRAY(SELECT ddl FROM bench.advice WHERE configuration = '$1'), ARRAY[s.query], false) AS w
     WHERE ${2:-true}"
}

# build_all: every index that anybody advised, by the statement as it was printed, under a name that is free
build_all() {
  begun=$(date +%s)
  ask advisor "SELECT min(ddl) FROM bench.advice WHERE index IS NULL GROUP BY bench.nameless(ddl) ORDER BY 1" >"$stage/ddl"
  failed=0
  while IFS= read -r ddl; do
    if said=$(sql advisor -c "$ddl" 2>&1 </dev/null); then
      say "CALL bench.built(:'ddl')" | sql advisor -v ddl="$ddl"
    else
      failed=$((failed + 1))
      say "FAILED: $ddl: $said"
    fi
  done <"$stage/ddl"
  sql advisor -c "CALL bench.analyze_expressions()"
  say "$(wc -l <"$stage/ddl") indexes built in $(($(date +%s) - begun)) s, $failed statements failed"
}

# peer_qualstats: what pg_qualstats advises after the workload ran; it has no budget
peer_qualstats() {
  sql advisor -c "CREATE EXTENSION IF NOT EXISTS pg_stat_statements" -c "CREATE EXTENSION IF NOT EXISTS pg_qualstats" \
    -c "SELECT pg_qualstats_reset()" -o /dev/null
  ask advisor "SELECT rtrim(query, E'; \n') || ';' FROM bench.statement WHERE timed ORDER BY name" >"$stage/workload.sql"
  { say 'SET pg_qualstats.sample_rate = 1; BEGIN;'; cat "$stage/workload.sql"; say 'ROLLBACK;'; } | sql advisor -o /dev/null
  sql advisor <<'SQL'
INSERT INTO bench.configuration (name, author) VALUES ('qualstats', 'pg_qualstats');
INSERT INTO bench.advice (configuration, place, ddl)
SELECT 'qualstats', row_number() OVER (), ddl
  FROM (SELECT DISTINCT coalesce(i->>'ddl', i #>> '{}') AS ddl FROM json_array_elements(pg_qualstats_index_advisor(min_filter => 1000)->'indexes') AS i) AS advised;
SQL
}
