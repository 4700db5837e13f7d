#!/bin/sh
# bench/search.sh: the fifty best documents of 500,000, warm, by pgopt, by GIN with ts_rank, and by RUM.
#
# Single words that 1, 10, 30 and 49 % of the documents hold, and 3, 4 and 8 words any of which will do; without a filter,
# with a narrow one (0.9 % of the documents), with that and a type, and with two wide ones; then all of
# search_documents_ranked() with 50 headlines, and the counts by type and state of all documents found. Every query goes to
# every method in turn, round by round, planning included; the order turns round each time. "again" is pgopt once more:
# how far its ratio is from 1 is the noise. Ratios are medians of the rounds' ratios, so that drift cancels out.
# GIN ranks before it makes headlines. What is wanted stands beside the result where the project promises something.
#   ROUNDS=5 bench/search.sh       bench/search_lib.sh lists what else can be set; KEEP_INDEX=1 measures the index as it is
set -eu
top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$top/script/lib.sh"
. "$top/bench/lib.sh"
. "$top/bench/search_lib.sh"

rounds=${ROUNDS:-5}

bench_begin
corpus_start
corpus_documents
corpus_peers
corpus_queries
corpus_shape
corpus_index
corpus_warm
say "$(ask corpus "SELECT string_agg(format('%s %s', relname, pg_size_pretty(pg_relation_size(oid))), ', ' ORDER BY relname)
  FROM pg_class WHERE relname IN ('legislative_documents_search_idx', 'peer_gin_tsv_idx', 'peer_rum_tsv_idx')")"

sql corpus -f "$top/bench/search_time.sql"
sql corpus -v rum="$(has_relation peer_rum_tsv_idx && say 1 || say 0)" -f "$top/bench/search_statements.sql"
ask corpus "SELECT note FROM plan_note" | sed 's/^/Note: /'
quiet "measuring, $rounds rounds"
sql corpus -c "CALL measure($rounds)"
sql corpus -P border=2 -P footer=off -f "$top/bench/search_report.sql"
