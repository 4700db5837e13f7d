#!/bin/sh
# bench/incremental_writes.sh: what capturing changes for incremental refresh costs the writers.
#
# pgbench changes single rows of tables that materialized views read, on servers with the same data files:
#   plain    pgopt preloaded, the views managed with incremental => 'never': nothing is captured
#   again    the same once more: the noise of the comparison
#   capture  the same views managed with incremental => 'always': every change is logged
#   ivm      without pgopt; pg_ivm keeps the same views up to date within the writers' transactions. Only with PG_IVM=FOLDER,
#            into which pg_ivm was installed: make install DESTDIR=FOLDER with_llvm=no
# in these loads, each with one client and with four, synchronous_commit off and on:
#   account   UPDATE of pgbench_accounts by its key, 1,000,000 accounts; sum and count by branch
#   document  UPDATE of a document's metadata and amount; of views A (with an immutable date_trunc) and C of incremental.sh
#   text      UPDATE of a document's text, 1.4 kB, which view A reads
#   insert    INSERT of a document
#   aside     UPDATE of a column that no view reads
# A round runs every server twice, in order and then in reverse, so that drift cancels out, and each round begins with
# another one; its ratio is the sum of both to that of plain. Printed: the median of the rounds' ratios of TPS with the lowest
# and highest, and of the CPU time that the backends took a transaction. Between the runs, not timed, the views of "capture"
# are refreshed, and tables vacuumed.
#   ROUNDS=4 SECONDS_EACH=2 LOADS="account document text insert" (and aside) CLIENTS="1 4" MODES="off on" DOCUMENTS=100000
#   PROTOCOL=prepared (or simple) VARIANTS="plain capture ivm again" (plain must be first) VERBOSE=1
#   bench/incremental_writes.sh
set -eu
top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$top/script/lib.sh"
. "$top/bench/lib.sh"

rounds=${ROUNDS:-4}
seconds=${SECONDS_EACH:-2}
loads=${LOADS:-account document text insert}
documents=${DOCUMENTS:-100000}
variants=${VARIANTS:-plain capture ivm again}
if [ -z "${PG_IVM:-}" ]; then variants=$(say "$variants" | sed 's/ ivm//'); fi

view_account="SELECT bid, count(*) AS accounts, sum(abalance) AS balance FROM pgbench_accounts GROUP BY bid"
view_a="SELECT document_type, date_trunc('month', collected_at AT TIME ZONE 'America/Sao_Paulo') AS month, metadata->>'state' AS state,
  count(*) AS documents, avg(length(content)) AS average_length FROM w.documents GROUP BY 1, 2, 3"
view_c="SELECT o.region, date_part('year', d.collected_at AT TIME ZONE 'America/Sao_Paulo') AS year, count(*) AS documents,
  sum(d.amount) AS amount, min(d.amount) AS smallest, max(d.amount) AS largest
  FROM w.documents AS d JOIN w.organs AS o ON o.name = d.metadata->>'orgao' GROUP BY 1, 2"

bench_begin
cd /
new_server plain
start_server plain
bench plain -i -s 10 -q 2>/dev/null
sample_paragraphs | sql plain -v schema=w -v documents="$documents" -v words=true -f "$top/bench/incremental_documents.sql"
sql plain -c "ALTER TABLE w.documents ADD seen int NOT NULL DEFAULT 0" -c "ALTER TABLE w.documents SET (fillfactor = 50)" \
  -c "ALTER TABLE pgbench_accounts SET (fillfactor = 50)" -c "VACUUM (FULL, ANALYZE)" -c "VACUUM ANALYZE"
server_stop "$stage/plain"
for v in $variants; do
  case $v in
    plain) ;;
    again | capture) copy_server plain "$v" "shared_preload_libraries = 'pgopt'" ;;
    ivm)
      # where the server's user may read it
      cp -a "$PG_IVM" "$stage/ivm_root"
      chmod -R a+rX "$stage/ivm_root"
      copy_server plain ivm "shared_preload_libraries = 'pg_ivm'" "extension_destdir = '$stage/ivm_root'" \
        "dynamic_library_path = '$stage/ivm_root$pkglibdir:\$libdir'"
      ;;
    *) die "unknown variant $v" ;;
  esac
done
configure plain "shared_preload_libraries = 'pgopt'"
for v in $variants; do
  start_server "$v"
  if [ "$v" = ivm ]; then
    sql ivm -c "CREATE EXTENSION pg_ivm" -c "SELECT pgivm.create_immv('by_branch', \$\$$view_account\$\$)" \
      -c "SELECT pgivm.create_immv('by_type', \$\$$view_a\$\$)" -c "SELECT pgivm.create_immv('by_region', \$\$$view_c\$\$)" >/dev/null
  else
    sql "$v" -c "CREATE EXTENSION pgopt" -c "CREATE MATERIALIZED VIEW by_branch AS $view_account" \
      -c "CREATE MATERIALIZED VIEW by_type AS $view_a" -c "CREATE MATERIALIZED VIEW by_region AS $view_c" \
      -c "CREATE UNIQUE INDEX ON by_branch (bid)" -c "CREATE UNIQUE INDEX ON by_type (document_type, month, state)" \
      -c "CREATE UNIQUE INDEX ON by_region (region, year)"
    how=never
    if [ "$v" = capture ]; then how=always; fi
    sql "$v" -c "SELECT pgopt_manage(v::regclass, 'manual', incremental => '$how') FROM unnest('{by_branch,by_type,by_region}'::text[]) v" >/dev/null
    sql "$v" -At -c "SELECT count(*) FROM pgopt_refresh_all()" >/dev/null
  fi
done

# the statements of each load
printf '%s\n' '\set id random(1, 1000000)' '\set delta random(-5000, 5000)' \
  'UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :id;' >"$stage/account.sql"
printf '%s\n' "\\set id random(1, $documents)" '\set state random(1, 27)' \
  "UPDATE w.documents SET metadata = jsonb_set(metadata, '{state}', to_jsonb(chr(64 + :state))), amount = amount + 1 WHERE id = :id;" \
  >"$stage/document.sql"
printf '%s\n' "\\set id random(1, $documents)" '\set other random(0, 9999)' \
  "UPDATE w.documents SET content = (SELECT text FROM w.passage WHERE id = :other) WHERE id = :id;" >"$stage/text.sql"
printf '%s\n' "\\set id random(1, $documents)" \
  "INSERT INTO w.documents (document_type, collected_at, metadata, content, amount) SELECT document_type, collected_at, metadata, content, amount FROM w.documents WHERE id = :id;" \
  >"$stage/insert.sql"
printf '%s\n' "\\set id random(1, $documents)" 'UPDATE w.documents SET seen = seen + 1 WHERE id = :id;' >"$stage/aside.sql"

# settle VARIANT: the same state before each run
settle() {
  sql "$1" -c "DELETE FROM w.documents WHERE id > $documents" </dev/null
  if [ "$1" = capture ]; then
    refreshed=$(ask capture "SELECT string_agg(DISTINCT mode, ' ') FROM pgopt_refresh_all()")
    [ "$refreshed" = incremental ] || say "$load $mode: refreshed $refreshed" >>"$stage/notes"
  fi
  sql "$1" -c "VACUUM pgbench_accounts" -c "VACUUM w.documents" -c "CHECKPOINT" </dev/null
}

# run_once VARIANT LOAD: one measured run; TPS, clock ticks of CPU, transactions
run_once() {
  settle "$1"
  PGOPTIONS="-c synchronous_commit=$mode" tps_and_cpu "$1" -M "${PROTOCOL:-prepared}" -c "$clients" -j 1 -T "$seconds" -f "$stage/$2.sql"
}

measure() {
  rm -f "$stage/notes"
  for v in $variants; do run_once "$v" "$load" >/dev/null; done # warm-up
  compare_rounds "$load"
  for v in $variants; do
    # shellcheck disable=SC2046
    printf '  %-9s %-4s %7s %-9s %8.0f %10s %8s %8s %12s %8s %8s\n' "$load" "$mode" "$clients" "$v" $(ratios "$v")
  done
  if [ -e "$stage/notes" ]; then sort "$stage/notes" | uniq -c; fi
}

quiet "$rounds rounds of 2 x $seconds s each; wanted: capture with synchronous_commit off >= 0.90 of plain's TPS"
printf '  %-9s %-4s %7s %-9s %8s %10s %8s %8s %12s %8s %8s\n' load sync clients variant tps "tps ratio" lowest highest "cpu ratio" lowest highest
for load in $loads; do
  for mode in ${MODES:-off on}; do
    for clients in ${CLIENTS:-1 4}; do measure; done
  done
done
case $variants in
  *capture*)
    say "after it all, log and state: $(ask capture "SELECT pg_size_pretty(sum(pg_total_relation_size(c.oid))) FROM pg_class AS c
      WHERE relnamespace = 'pgopt'::regnamespace AND relkind = 'r' AND relname ~ '^(log|groups|values)_'")"
    ;;
esac
