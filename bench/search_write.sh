#!/bin/sh
# bench/search_write.sh: what pgopt's index costs writers, and what writing costs searches; against GIN with fastupdate.
#
# build   CREATE INDEX over all documents, with and without positions, and GIN over to_tsvector(): seconds and size. One
#         after the other without parallel workers, maintenance_work_mem 256MB, twice with BUILDS=2.
# insert  single INSERTs by pgbench into tables of the same shape, one with pgopt's index, one with GIN's, one with pgopt's
#         again (the noise), one with neither; round by round, the order turned round each time.
# load    searches beside a steady load of INSERTs, UPDATEs and DELETEs, against the same searches alone.
# update  searches after UPDATES updates with VACUUM after each fifth of the table, against the same after REINDEX.
#   PARTS="build insert load update" ROUNDS=5 SECONDS_EACH=8 RATE=200 WRITE_DOCUMENTS=100000 UPDATES=200000
#   bench/search_write.sh      (the promise is about WRITE_DOCUMENTS=500000 UPDATES=1000000; bench/search_lib.sh has more)
set -eu
top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$top/script/lib.sh"
. "$top/bench/lib.sh"
. "$top/bench/search_lib.sh"

parts=${PARTS:-build insert load update}
rounds=${ROUNDS:-5}
seconds=${SECONDS_EACH:-8}
rate=${RATE:-200}
n=${WRITE_DOCUMENTS:-100000}
updates=${UPDATES:-200000}

bench_begin
corpus_start "synchronous_commit = off"
corpus_documents
corpus_peers
corpus_queries
if [ "$n" -gt "$documents" ]; then n=$documents; fi

has_part() {
  case " $parts " in *" $1 "*) return 0 ;; *) return 1 ;; esac
}

# ratio NAME A B: of search_built
ratio() {
  ask corpus "SELECT format('%s: time %s, size %s', '$1', round(a.seconds / b.seconds, 2), round(a.bytes::numeric / b.bytes, 2))
    FROM search_built AS a, search_built AS b WHERE a.name = '$2' AND b.name = '$3'"
}

# --- build ---------------------------------------------------------------------------------------------------------

if has_part build; then
  sql corpus -c "DROP EXTENSION IF EXISTS pgopt CASCADE" -c "CREATE EXTENSION pgopt"
  corpus_warm
  quiet "building indexes over $documents documents"
  i=0
  while [ $i -lt "${BUILDS:-1}" ]; do
    i=$((i + 1))
    timed "GIN over to_tsvector()" built "CREATE INDEX built ON legislative_documents
      USING gin (to_tsvector('portuguese', title || ' ' || content))"
    sql corpus -c "DROP INDEX built"
    timed "pgopt, with positions" built "CREATE INDEX built ON legislative_documents USING pgopt_bm25 $search_columns"
    sql corpus -c "DROP INDEX built"
    timed "pgopt, without positions" built "CREATE INDEX built ON legislative_documents USING pgopt_bm25 $search_columns
      WITH (positions = off)"
    sql corpus -c "DROP INDEX built"
    ratio "with positions, against GIN (wanted: time <= 1, size <= 1.6)" "pgopt, with positions" "GIN over to_tsvector()"
    ratio "without, against GIN (wanted: size <= 1)" "pgopt, without positions" "GIN over to_tsvector()"
  done
fi

# --- tables to write to ----------------------------------------------------------------------------------------------

# new_table NAME: the first n documents, and a primary key
new_table() {
  sql corpus -c "DROP TABLE IF EXISTS $1" -c "CREATE TABLE $1 (LIKE legislative_documents INCLUDING DEFAULTS INCLUDING IDENTITY)" \
    -c "INSERT INTO $1 OVERRIDING SYSTEM VALUE SELECT * FROM legislative_documents WHERE id <= $n ORDER BY id" \
    -c "ALTER TABLE $1 ADD PRIMARY KEY (id)" -c "SELECT setval(pg_get_serial_sequence('$1', 'id'), $n)" >/dev/null
}

index_pgopt() {
  sql corpus -c "CREATE INDEX $1_search ON $1 USING pgopt_bm25 $search_columns" -c "VACUUM ANALYZE $1"
}

if has_part insert || has_part load || has_part update; then
  has_part build || sql corpus -c "DROP EXTENSION IF EXISTS pgopt CASCADE" -c "CREATE EXTENSION pgopt"
  say ""
  say "tables of $n documents"
fi

# --- insert ----------------------------------------------------------------------------------------------------------

# inserts TABLE: TPS and the 50th, 99th and 100th percentiles of the latency in milliseconds
inserts() {
  cat >"$stage/insert.sql" <<SQL
\\set id random(1, $documents)
INSERT INTO $1 (urn, title, content, document_type, metadata, published_on)
SELECT urn, title, content, document_type, metadata, published_on FROM legislative_documents WHERE id = :id;
SQL
  rm -f "$stage"/insert.log.*
  done_each=$(tps corpus -c 1 -M prepared -T "$seconds" -f "$stage/insert.sql" -l --log-prefix="$stage/insert.log" --random-seed="$2")
  cat "$stage"/insert.log.* | awk '{ print $3 / 1000 }' | sort -n | awk -v tps="$done_each" '{ v[NR] = $1 }
    END { print tps, v[int((NR + 1) / 2)], v[int(NR * 0.99 + 0.5)], v[NR] }'
}

if has_part insert; then
  for t in write_none write_gin write_pgopt write_again; do new_table $t; done
  sql corpus -c "CREATE INDEX ON write_gin USING gin (to_tsvector('portuguese', title || ' ' || content))"
  index_pgopt write_pgopt
  index_pgopt write_again
  corpus_warm
  quiet "single INSERTs, $rounds rounds of $seconds s"
  : >"$stage/inserts"
  order="write_none write_gin write_pgopt write_again"
  round=0
  while [ $round -le "$rounds" ]; do
    for t in $order; do
      say "$round $t $(inserts $t $round)" >>"$stage/inserts"
    done
    order=$(say "$order" | awk '{ for (i = NF; i > 0; i--) printf "%s ", $i }')
    round=$((round + 1))
  done
  # the first round warms up
  for t in write_none write_gin write_pgopt write_again; do
    awk -v t=$t '$1 > 0 && $2 == t { print $3 }' "$stage/inserts" | spread |
      { read -r m low high; say "$t: $m a second ($low to $high); latency ms: median" \
        "$(awk -v t=$t '$1 > 0 && $2 == t { print $4 }' "$stage/inserts" | median)," \
        "99th percentile $(awk -v t=$t '$1 > 0 && $2 == t { print $5 }' "$stage/inserts" | median)," \
        "worst $(awk -v t=$t '$1 > 0 && $2 == t { print $6 }' "$stage/inserts" | sort -n | tail -n 1)"; }
  done
  for t in write_gin write_again write_none; do
    say "write_pgopt against $t: $(awk -v t=$t '$1 > 0 { r[$1, $2] = $3; n = $1 } END { for (i = 1; i <= n; i++)
      print r[i, "write_pgopt"] / r[i, t] }' "$stage/inserts" | spread) times as many (median, lowest, highest)$(
      [ $t != write_gin ] || say ", wanted: >= 1")"
  done
  for t in write_gin write_again write_none; do sql corpus -c "DROP TABLE $t"; done
fi

# --- searches beside and after writing -------------------------------------------------------------------------------

# searches TABLE LABEL SECONDS: run the queries one after the other for so long; what each took is kept under the label
searches() {
  sql corpus -c "CALL search_for('$1', '$2', '$3 s')"
}

# against A B: the searches of A in terms of those of B
against() {
  ask corpus "WITH each AS (SELECT label, query, percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) AS ms,
                                   percentile_cont(0.95) WITHIN GROUP (ORDER BY ms) AS p95
                              FROM searched GROUP BY label, query)
    SELECT format('%s against %s: %s times at the median over the queries (lowest %s, highest %s); medians %s and %s ms, 95th percentiles %s and %s ms',
                  '$1', '$2', round(percentile_cont(0.5) WITHIN GROUP (ORDER BY a.ms / b.ms)::numeric, 2),
                  round(min(a.ms / b.ms)::numeric, 2), round(max(a.ms / b.ms)::numeric, 2),
                  round(percentile_cont(0.5) WITHIN GROUP (ORDER BY a.ms)::numeric, 2),
                  round(percentile_cont(0.5) WITHIN GROUP (ORDER BY b.ms)::numeric, 2),
                  round(percentile_cont(0.5) WITHIN GROUP (ORDER BY a.p95)::numeric, 2),
                  round(percentile_cont(0.5) WITHIN GROUP (ORDER BY b.p95)::numeric, 2))
      FROM each AS a JOIN each AS b USING (query) WHERE a.label = '$1' AND b.label = '$2'"
}

if has_part load || has_part update; then
  sql corpus <<'SQL'
DROP TABLE IF EXISTS searched;
CREATE UNLOGGED TABLE searched (label text, query text, ms float8);
CREATE OR REPLACE PROCEDURE search_for(relation regclass, label text, how_long interval) LANGUAGE plpgsql AS $$
DECLARE
  q record;
  begun timestamptz;
  until timestamptz := clock_timestamp() + how_long;
BEGIN
  WHILE clock_timestamp() < until LOOP
    FOR q IN SELECT query FROM search_query ORDER BY random() LOOP
      begun := clock_timestamp();
      EXECUTE format('SELECT id, title FROM %s AS d WHERE d @@@ %L ORDER BY d <@> %2$L LIMIT 50', relation, q.query);
      INSERT INTO searched VALUES (label, q.query, extract(epoch FROM clock_timestamp() - begun) * 1000);
      COMMIT;
    END LOOP;
  END LOOP;
END $$;
SQL
fi

if has_part load; then
  new_table write_pgopt
  index_pgopt write_pgopt
  corpus_warm
  cat >"$stage/load.sql" <<SQL
\\set id random(1, $documents)
\\set place random(1, $n)
\\set what random(1, 10)
\\if :what <= 5
INSERT INTO write_pgopt (urn, title, content, document_type, metadata, published_on)
SELECT urn, title, content, document_type, metadata, published_on FROM legislative_documents WHERE id = :id;
\\elif :what <= 8
UPDATE write_pgopt AS w SET title = d.title, content = d.content FROM legislative_documents AS d
 WHERE w.id = :place AND d.id = :id;
\\else
DELETE FROM write_pgopt WHERE id = :place;
\\endif
SQL
  quiet "searches beside writing"
  searches write_pgopt "alone" 3
  sql corpus -c "TRUNCATE searched"
  searches write_pgopt "alone" $((seconds * 2))
  { tps corpus -c 1 -T $((seconds * 4 + 2)) -R "$rate" -f "$stage/load.sql" >"$stage/load.tps" || say "the writer failed" >&2; } &
  sleep 1
  searches write_pgopt "beside writing" $((seconds * 4))
  wait
  say "$(cat "$stage/load.tps") writes a second (half INSERT, 30 % UPDATE, 20 % DELETE)"
  say "$(against "beside writing" "alone") (wanted: <= 2)"
fi

if has_part update; then
  new_table write_pgopt
  index_pgopt write_pgopt
  corpus_warm
  quiet "searches after $updates updates of $n documents"
  searches write_pgopt "before" 3
  sql corpus -c "DELETE FROM searched WHERE label = 'before'"
  searches write_pgopt "before" "$seconds"
  size_before=$(ask corpus "SELECT pg_relation_size('write_pgopt_search')")
  begun=$(date +%s)
  chunk=$((n / 5))
  left=$updates
  seed=0
  while [ "$left" -gt 0 ]; do
    if [ "$chunk" -gt "$left" ]; then chunk=$left; fi
    seed=$((seed + 1))
    # each update gives a document the text of another one
    sql corpus -c "UPDATE write_pgopt AS w SET title = d.title, content = d.content
        FROM (SELECT id, 1 + (id * 7919 + $seed * 104729) % $documents AS other FROM write_pgopt
               ORDER BY hashint8extended(id, $seed) LIMIT $chunk) AS c
        JOIN legislative_documents AS d ON d.id = c.other
       WHERE w.id = c.id" -c "VACUUM write_pgopt"
    left=$((left - chunk))
  done
  say "updated and vacuumed in $(($(date +%s) - begun)) s"
  sql corpus -c "ANALYZE write_pgopt"
  corpus_warm
  searches write_pgopt "after updates" "$seconds"
  size_after=$(ask corpus "SELECT pg_relation_size('write_pgopt_search')")
  sql corpus -c "REINDEX INDEX write_pgopt_search"
  corpus_warm
  searches write_pgopt "after REINDEX" "$seconds"
  size_fresh=$(ask corpus "SELECT pg_relation_size('write_pgopt_search')")
  say "$(against "after updates" "after REINDEX") (wanted: <= 2)"
  say "$(against "after updates" "before")"
  say "size of the index: $size_before before, $size_after after updates, $size_fresh after REINDEX"
fi
sql corpus -c "DROP TABLE IF EXISTS write_pgopt"
