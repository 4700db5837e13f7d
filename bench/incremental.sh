#!/bin/sh
# bench/incremental.sh: what a refresh takes that applies what changed, against one that computes all.
#
# Three views of 1,000,000 documents with real texts (bench/incremental_views.sql): A counts and averages by type, month and
# state, B collects distinct organs by mode, state and type, C joins with organs and takes sum, min and max by region and
# year. Each is there several times, and after each change of so many rows all of them are refreshed in turn:
#   plain    not managed, REFRESH MATERIALIZED VIEW: what a user has without; twice, before and after the others (A/A)
#   never    managed by pgopt, incremental => 'never'
#   always   incremental => 'always'
#   auto     incremental => 'auto': pgopt chooses at each refresh
# A third of the changed rows is updated (metadata, text and amount: nothing that a view reads stays but type and time), a
# third deleted and a third inserted. A time is that of the statement in a session that refreshed the view before, commit included, as
# psql sees it. Ratios are those of a round, printed as median, lowest and highest. Changes are not timed; after each the
# table is vacuumed (after each tenth of it where a change is larger, so that it does not grow).
# Then the same change of 1,000 rows in a table and in one ten times larger.
#   PARTS="size scale" ROUNDS=3 SIZES="10 0.1% 1% 3% 10% 30% 100%" WAYS="plain never always auto" DOCUMENTS=1000000
#   SCALES="wide:100000:1000000"   SCALE_ROUNDS=7   (narrow:1000000:10000000: rows without a text; making them takes long)
#   INCREMENTAL_DIR=/var/tmp/pgopt-incremental (the tables stay there; remove it to start afresh)   SETTINGS (of the server)
#   bench/incremental.sh
set -eu
top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$top/script/lib.sh"
. "$top/bench/lib.sh"

parts=${PARTS:-size scale}
rounds=${ROUNDS:-3}
sizes=${SIZES:-10 0.1% 1% 3% 10% 30% 100%}
ways=${WAYS:-plain never always auto}
documents=${DOCUMENTS:-1000000}
scales=${SCALES:-wide:100000:1000000}
scale_rounds=${SCALE_ROUNDS:-7}
incremental_dir=${INCREMENTAL_DIR:-/var/tmp/pgopt-incremental}
database=incremental
managed= # schemas whose views "always" are there

has_part() {
  case " $parts " in *" $1 "*) return 0 ;; *) return 1 ;; esac
}

# The server that lives on; its name for sql() and ask() is "documents".
documents_start() {
  cd /
  server=$incremental_dir/pg$pg_major
  mkdir -p "$incremental_dir"
  chmod 755 "$incremental_dir"
  give "$incremental_dir"
  if [ ! -e "$server/PG_VERSION" ]; then
    server_init "$server"
    say "include 'bench.conf'" >>"$server/postgresql.conf"
  fi
  ! server_running "$server" || die "$server is in use"
  mkdir -p "$server.s"
  give "$server.s"
  cat >"$server/bench.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$server.s'
port = 5432
shared_buffers = 4GB
max_wal_size = 20GB
checkpoint_timeout = 1h
max_worker_processes = 24
maintenance_work_mem = 256MB
timezone = 'America/Sao_Paulo'
jit = off
log_line_prefix = '%m [%p] %q%a '
shared_preload_libraries = 'pgopt'
$staging
${SETTINGS:-}
CONF
  ln -sfn "$server" "$stage/documents"
  ln -sfn "$server.s" "$stage/documents.s"
  trap 'code=$?; trap - EXIT; server_stop "$server" fast || true; bench_end; exit $code' EXIT
  server_start "$server" || die "the server in $server did not start"
  if [ "$(database=postgres; ask documents "SELECT count(*) FROM pg_database WHERE datname = 'incremental'")" = 0 ]; then
    (database=postgres; ask documents "CREATE DATABASE incremental")
  fi
}

# make_documents KIND ROWS: a schema of that name, unless it is there
make_documents() {
  [ "$(ask documents "SELECT to_regnamespace('$1_$2') IS NOT NULL")" = f ] || return 0
  begun=$(date +%s)
  words=true
  [ "$1" = wide ] || words=false
  sql documents -c "DROP SCHEMA IF EXISTS making CASCADE"
  sample_paragraphs | sql documents -v schema=making -v documents="$2" -v words=$words -f "$top/bench/incremental_documents.sql"
  sql documents -c "VACUUM ANALYZE making.documents" -c "ALTER SCHEMA making RENAME TO $1_$2"
  say "$2 documents ($1) made in $(($(date +%s) - begun)) s"
}

# manage SCHEMA WAY: its views, managed that way and refreshed for the first time
manage() {
  [ "$(ask documents "SELECT to_regclass('$1.$2_c') IS NOT NULL")" = t ] ||
    sql documents -v schema="$1" -v way="$2" -f "$top/bench/incremental_views.sql"
  [ "$2" != plain ] || return 0
  for view in a b c; do
    ask documents "SELECT pgopt_manage('$1.$2_$view', 'manual', incremental => '$2')" >/dev/null
    ask documents "SELECT format('%s: %s, %s s %s', view, mode, round(extract(epoch FROM duration), 2), message)
      FROM pgopt_refresh('$1.$2_$view')"
  done
}

# The rest writes statements for one session of psql, whose output measured() reads.
# change SCHEMA DOCUMENTS ROWS: a tenth of the table at most at a time
change() {
  say "SELECT '' FROM $1.choose($3);"
  awk -v schema="$1" -v chosen=$(((2 * $3 + 2) / 3)) -v step=$(($2 / 15)) 'BEGIN {
    for (first = 1; first <= chosen; first += step) {
      last = first + step - 1
      if (last > chosen) last = chosen
      printf "SELECT '\'\'' FROM change(%d, %d);\nVACUUM documents;\n", first, last
    }
  }'
}

# timed ROUND SIZE WAY VIEW STATEMENT
timed() {
  say "\\echo @ $1 $2 $3 $4" "" | sed '/^ *$/d'
  say "$5"
}

refresh() {
  if [ "$3" = plain ]; then
    timed "$1" "$2" "$3" "$4" "REFRESH MATERIALIZED VIEW plain_$4;"
  else
    timed "$1" "$2" "$3" "$4" "SELECT mode || ' ' || coalesce(message, '') FROM pgopt_refresh('$3_$4');"
  fi
}

# measured FILE SCHEMA: run the statements; a line for each that was timed: round, size, way, view, milliseconds, mode
measured() {
  { say "SET search_path = $2, public;" '\timing on'; cat "$1"; } >"$stage/run.sql"
  sql documents -At -f "$stage/run.sql" >"$stage/run.out" 2>"$stage/run.err" || die "$(tail -n 3 "$stage/run.err")"
  awk -v OFS='\t' '$1 == "@" { round = $2; size = $3; way = $4; view = $5; mode = ""; next }
    $1 == "Time:" { if (view != "") print round, size, way, view, $2, mode; view = ""; next }
    view != "" && NF { mode = $1; if ($1 != "incremental" && NF > 1 && !seen[$0]++) print way, view, size ": " $0 > "/dev/stderr" }' \
    "$stage/run.out"
}

# rows SIZE: how many rows 0.1% or 10 are
rows() {
  case $1 in
    *%) awk -v share="${1%\%}" -v n="$documents" 'BEGIN { printf "%d", n * share / 100 }' ;;
    *) say "$1" ;;
  esac
}

bench_begin
documents_start
if has_part size; then make_documents wide "$documents"; fi
if has_part scale; then
  for scale in $scales; do
    kind=${scale%%:*}
    pair=${scale#*:}
    make_documents "$kind" "${pair%:*}"
    make_documents "$kind" "${pair#*:}"
  done
fi
sql documents -c "DROP EXTENSION IF EXISTS pgopt CASCADE" -c "CREATE EXTENSION pgopt" -c CHECKPOINT
say "$(ask documents "SELECT string_agg(name || ' ' || current_setting(name), ', ' ORDER BY name) FROM pg_settings WHERE name IN ('fsync',
  'synchronous_commit', 'wal_level', 'full_page_writes', 'shared_buffers', 'work_mem', 'max_parallel_workers_per_gather', 'jit',
  'pgopt.incremental_log_limit')")"

# --- changes of different size ------------------------------------------------------------------------------------------

if has_part size; then
  schema=wide_$documents
  say "$(ask documents "SELECT format('documents: %s, %s bytes of text each', pg_size_pretty(pg_table_size('$schema.documents')),
    (SELECT round(avg(octet_length(content))) FROM $schema.documents WHERE id <= 10000))")"
  for way in $ways; do manage "$schema" "$way"; done
  others=$(say "$ways" | sed 's/plain//; s/never//')
  case $ways in *always*) managed=$schema ;; esac

  # round 0 warms up: everything is planned for each size, and small changes were applied before
  for size in $sizes; do
    n=$(rows "$size")
    [ "$n" -le $((documents / 100)) ] || continue
    change "$schema" "$documents" "$n"
    for view in a b c; do
      for way in $others; do refresh 0 "$size" "$way" $view; done
    done
  done >"$stage/statements"
  for round in $(seq "$rounds"); do
    for size in $sizes; do
      n=$(rows "$size")
      # short ones several times; a full refresh beside the first
      repeats=1
      [ "$n" -gt $((documents / 100)) ] || repeats=2
      [ "$n" -gt $((documents / 1000)) ] || repeats=5
      for repeat in $(seq $repeats); do
        change "$schema" "$documents" "$n"
        for view in $(say "a b c" | awk -v r="$round" '{ for (i = 0; i < 3; i++) print $((i + r) % 3 + 1) }'); do
          [ "$repeat" -gt 1 ] || refresh "$round" "$size" plain "$view"
          for way in $others; do refresh "$round" "$size" "$way" "$view"; done
          [ "$repeat" -gt 1 ] || refresh "$round" "$size" plain "$view"
          case "$ways $size $repeat" in *never*" 10 1") refresh "$round" "$size" never "$view" ;; esac
        done
      done
    done
  done >>"$stage/statements"
  quiet "changes of $sizes of $documents rows, $rounds rounds"
  measured "$stage/statements" "$schema" >"$stage/measured"
  sql documents -P border=2 -P footer=off -f "$top/bench/incremental_report.sql" <"$stage/measured"
fi

# --- the same change in larger tables -------------------------------------------------------------------------------------

if has_part scale; then
  for scale in $scales; do
    kind=${scale%%:*}
    pair=${scale#*:}
    small=${pair%:*}
    large=${pair#*:}
    say ""
    for n in $small $large; do
      case " $managed " in
        *" ${kind}_$n "*) ;;
        *) manage "${kind}_$n" always ;;
      esac
    done
    : >"$stage/small"
    : >"$stage/large"
    quiet "1,000 changed rows of $small and of $large documents ($kind), $scale_rounds rounds"
    for round in $(seq 0 "$scale_rounds"); do
      for which in small large; do
        n=$small
        [ $which = small ] || n=$large
        {
          # what the session keeps of a view is there after the first change, and the second is measured
          for again in 1 2; do
            change "${kind}_$n" "$n" 1000
            for view in a b c; do refresh $((round * (again - 1))) $which always $view; done
          done
        } >"$stage/statements"
        measured "$stage/statements" "${kind}_$n" | awk '$1 > 0' >>"$stage/$which"
      done
    done
    printf '  %-6s %12s %12s %8s %8s %8s\n' view "ms, $small" "ms, $large" ratio lowest highest
    for view in a b c; do
      awk -v v=$view '$4 == v { print $5 }' "$stage/small" >"$stage/x"
      awk -v v=$view '$4 == v { print $5 }' "$stage/large" >"$stage/y"
      # shellcheck disable=SC2046
      printf '  %-6s %12.2f %12.2f %8s %8s %8s\n' $view "$(median <"$stage/x")" "$(median <"$stage/y")" \
        $(paste "$stage/x" "$stage/y" | awk '{ print $2 / $1 }' | spread)
    done
    say "  modes: $(cut -f 6 "$stage/small" "$stage/large" | sort | uniq -c | awk '{ printf "%s%s %s", s, $2, $1; s = ", " }') (wanted: ratio <= 1.3)"
  done
fi
