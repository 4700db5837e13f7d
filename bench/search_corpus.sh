#!/bin/sh
# bench/search_corpus.sh: makes the documents that the benchmarks of search use, and the indexes of the peers.
#
# All of it stays (bench/search_lib.sh says where, and what can be set), so that the benchmarks only add pgopt's index;
# they run this by themselves where something is missing. The peers search a stored tsvector, which is what they are
# fastest with, in a table of its own beside the plain one: GIN (with ts_rank), and RUM where its package is installed,
# alone and with the filters as columns of its index. Build times are printed, and of GIN as an expression too.
set -eu
top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$top/script/lib.sh"
. "$top/bench/lib.sh"
. "$top/bench/search_lib.sh"

bench_begin
corpus_start "fsync = off" "full_page_writes = off"
corpus_documents
corpus_peers
corpus_queries
corpus_shape
