# What the benchmarks of search share: a server whose documents stay, because making them takes minutes. Source it after
# script/lib.sh and bench/lib.sh. Settings, as environment variables:
#   SEARCH_DIR       where the server's data stays; /var/tmp/pgopt-search unless told. Remove it to start afresh.
#   SEARCH_TEXTS     real texts that documents are made of: a `kind TAB text` a line, plain or gzipped, consecutive ones
#                    together. Without it, the paragraphs of the 360 bills of examples/legislative/sample.
#   DOCUMENTS=500000 a database for each number
#   SEED=1           other documents
#   SHARED_MB=5120   shared buffers: all tables and indexes should fit, for what is compared is warm
# shellcheck shell=sh

search_dir=${SEARCH_DIR:-/var/tmp/pgopt-search}
documents=${DOCUMENTS:-500000}
corpus_database=documents_$documents
database=$corpus_database

# The server that lives on. Its name for sql() and ask() is "corpus".
corpus_start() {
  corpus=$search_dir/pg$pg_major
  mkdir -p "$search_dir"
  chmod 755 "$search_dir"
  give "$search_dir"
  if [ ! -e "$corpus/PG_VERSION" ]; then
    say "making $corpus"
    server_init "$corpus"
    say "include 'bench.conf'" >>"$corpus/postgresql.conf"
  fi
  ! server_running "$corpus" || die "$corpus is in use"
  mkdir -p "$search_dir/pg$pg_major.s"
  give "$search_dir/pg$pg_major.s"
  cat >"$corpus/bench.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$search_dir/pg$pg_major.s'
port = 5432
shared_buffers = ${SHARED_MB:-5120}MB
max_wal_size = 20GB
checkpoint_timeout = 1h
max_connections = 40
max_worker_processes = 24
wal_level = minimal
max_wal_senders = 0
maintenance_work_mem = 256MB
work_mem = 64MB
effective_cache_size = 12GB
random_page_cost = 1.1
timezone = 'UTC'
autovacuum = off
jit = off
max_parallel_workers_per_gather = 0
max_parallel_maintenance_workers = 0
log_line_prefix = '%m [%p] %q%a '
shared_preload_libraries = 'pgopt'
$staging
CONF
  for setting in "$@"; do say "$setting"; done >>"$corpus/bench.conf"
  ln -sfn "$corpus" "$stage/corpus"
  ln -sfn "$search_dir/pg$pg_major.s" "$stage/corpus.s"
  trap 'code=$?; trap - EXIT; server_stop "$corpus" fast || true; bench_end; exit $code' EXIT
  server_start "$corpus" || die "the server in $corpus did not start"
}

# corpus_restart [SETTING...]: the same with other settings
corpus_restart() {
  server_stop "$corpus" fast
  for setting in "$@"; do say "$setting"; done >>"$corpus/bench.conf"
  server_start "$corpus" || die "the server in $corpus did not start"
}

# The texts, `kind TAB text` a line.
corpus_texts() {
  if [ -z "${SEARCH_TEXTS:-}" ]; then
    sample_paragraphs | sed 's/^/bill\t/'
  elif gzip -t "$SEARCH_TEXTS" 2>/dev/null; then
    gzip -dc "$SEARCH_TEXTS"
  else
    cat "$SEARCH_TEXTS"
  fi | tr -d '\r'
}

# The documents, in the database of their number, unless they are there.
corpus_documents() {
  if [ "$(database=postgres; ask corpus "SELECT count(*) FROM pg_database WHERE datname = '$corpus_database'")" = 1 ]; then
    return
  fi
  [ -z "${SEARCH_TEXTS:-}" ] || [ -r "$SEARCH_TEXTS" ] || die "cannot read $SEARCH_TEXTS"
  begun=$(date +%s)
  (database=postgres; ask corpus "DROP DATABASE IF EXISTS making_$corpus_database" >/dev/null)
  (database=postgres; ask corpus "CREATE DATABASE making_$corpus_database" >/dev/null)
  corpus_texts | (database=making_$corpus_database; sql corpus -v documents="$documents" -v seed="${SEED:-1}" \
    -f "$top/bench/search_corpus.sql")
  (database=making_$corpus_database; sql corpus -c 'VACUUM ANALYZE legislative_documents')
  (database=postgres; ask corpus "ALTER DATABASE making_$corpus_database RENAME TO $corpus_database" >/dev/null)
  (database=postgres; sql corpus -c CHECKPOINT)
  say "$documents documents made in $(($(date +%s) - begun)) s"
}

# timed NAME RELATION SQL: run a statement that makes an index (or a table), and keep how long it took and what it takes
timed() {
  sql corpus -c 'CHECKPOINT'
  took=$(sql corpus -At -c '\timing on' -c "$3" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p')
  sql corpus -c "CREATE TABLE IF NOT EXISTS search_built (name text PRIMARY KEY, seconds numeric, bytes bigint, at timestamptz)" \
    -c "INSERT INTO search_built VALUES ('$1', round($took / 1000.0, 1), pg_relation_size('$2'), now())
        ON CONFLICT (name) DO UPDATE SET seconds = excluded.seconds, bytes = excluded.bytes, at = excluded.at"
  say "$1: $(ask corpus "SELECT seconds || ' s, ' || pg_size_pretty(bytes) FROM search_built WHERE name = '$1'")"
}

has_relation() {
  [ "$(ask corpus "SELECT to_regclass('$1') IS NOT NULL")" = t ]
}

# What users would have instead: a stored tsvector with GIN, and with RUM where its package is installed. Both tables
# have the rows of legislative_documents. RUM's index holds the filters too: it is no slower for it, and fast with them.
corpus_peers() {
  if ! has_relation peer_gin_tsv_idx; then
    sql corpus -c "DROP TABLE IF EXISTS peer_gin" \
      -c "CREATE TABLE peer_gin (LIKE legislative_documents, tsv tsvector)"
    timed "the column tsvector" peer_gin "INSERT INTO peer_gin SELECT d.*, to_tsvector('portuguese', title || ' ' || content)
      FROM legislative_documents AS d ORDER BY id"
    sql corpus -c "CREATE INDEX ON peer_gin (document_type)" -c "CREATE INDEX ON peer_gin ((metadata->>'state'))"
    timed "GIN over the column" peer_gin_tsv_idx "CREATE INDEX peer_gin_tsv_idx ON peer_gin USING gin (tsv)"
    sql corpus -c "VACUUM ANALYZE peer_gin"
  fi
  if ! has_relation peer_rum_tsv_idx && [ "$(ask corpus "SELECT count(*) FROM pg_available_extensions WHERE name = 'rum'")" = 1 ]; then
    sql corpus -c "CREATE EXTENSION IF NOT EXISTS rum" -c "DROP TABLE IF EXISTS peer_rum" \
      -c "CREATE TABLE peer_rum AS SELECT * FROM peer_gin ORDER BY id"
    timed "RUM over the column and two filters" peer_rum_tsv_idx "CREATE INDEX peer_rum_tsv_idx ON peer_rum
      USING rum (tsv rum_tsvector_ops, (metadata->>'state'), document_type)"
    sql corpus -c "VACUUM ANALYZE peer_rum"
  fi
}

# Queries, unless they are there; and what all of it looks like.
corpus_queries() {
  has_relation search_query || sql corpus -f "$top/bench/search_queries.sql"
}

corpus_shape() {
  say ""
  sql corpus -P border=2 -P footer=off <<'SQL'
SELECT count(*) AS documents, pg_size_pretty(sum(octet_length(title) + octet_length(content))) AS "their text",
       round(avg(octet_length(content))) AS "bytes a document",
       pg_size_pretty(pg_table_size('legislative_documents')) AS "table",
       round(100.0 * count(*) FILTER (WHERE metadata->>'state' = 'AL') / count(*), 2) AS "% in AL",
       round(100.0 * count(*) FILTER (WHERE metadata->>'state' = 'SP' AND document_type = 'PL') / count(*), 2) AS "% PL in SP"
  FROM legislative_documents;
SELECT name AS made, seconds, pg_size_pretty(bytes) AS size FROM search_built ORDER BY at;
SELECT class, query, share AS "% of the documents" FROM search_query ORDER BY words, class COLLATE "C", position;
SQL
}

# The columns of pgopt's index: those of examples/legislative/search.sql.
search_columns="(title pgopt_text_ops (weight = 2), content, document_type pgopt_filter_ops,
  (metadata->>'state') pgopt_filter_ops, (metadata->>'modal_transporte') pgopt_filter_ops, collected_at)"

# pgopt, its index and its functions as they are in this tree, on the plain table.
corpus_index() {
  if [ -n "${KEEP_INDEX:-}" ] && has_relation legislative_documents_search_idx; then
    return
  fi
  sql corpus -c "DROP EXTENSION IF EXISTS pgopt CASCADE" -c "CREATE EXTENSION pgopt"
  timed "pgopt, with positions" legislative_documents_search_idx "CREATE INDEX legislative_documents_search_idx
    ON legislative_documents USING pgopt_bm25 $search_columns"
  sql corpus -f "$top/examples/legislative/search.sql"
  sql corpus -c "VACUUM ANALYZE legislative_documents"
}

# Everything into shared buffers.
corpus_warm() {
  sql corpus -c "CREATE EXTENSION IF NOT EXISTS pg_prewarm" -c "SELECT sum(pg_prewarm(c.oid))
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'i', 't') AND (n.nspname = 'public' OR c.relname ~ '^pg_toast_[0-9]+(_index)?\$')" >/dev/null
}
