#!/bin/sh
# bench/relevance.sh [FOLDER]: how good the ranking is, nDCG@10 on a test collection with graded judgments.
#
# FOLDER holds doc.csv (columns ID, TEXT and perhaps TITLE), query.csv (ID, TEXT) and qrel.csv (QUERY_ID, DOC_ID, SCORE from 0
# to 3), as the collection JurisTCU of the Tribunal de Contas da União has them (150 queries, three groups of 50, the first
# from a search log; the text of a document is its statement). Other columns are ignored. Without FOLDER: the project's own
# small collection in test/data, which is an easy one. Each query is searched as it is, without accents, and with one typing
# error in one word (SEEDS=5 drawings, averaged); beside it the peers: ts_rank with all words, and with any. Queries that
# find nothing count 0; the gain of a grade is 2^grade - 1.
set -eu
top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
case ${1:-} in
  '') collection= ;;
  *) collection=$(CDPATH= cd -- "$1" && pwd -P) ;;
esac
. "$top/script/lib.sh"
. "$top/bench/lib.sh"

bench_begin
new_server main "shared_preload_libraries = 'pgopt'" "fsync = off"
start_server main

# load_csv FILE TABLE: a CSV file with a header line, all of its columns as text, their names in lower case
load_csv() {
  columns=$(head -n 1 "$1" | tr -d '\r\357\273\277"' | tr 'A-Z' 'a-z' | tr ',' '\n' | awk '{ printf "%s\"%s\" text", n++ ? ", " : "", $0 }')
  sql main -c "CREATE TABLE $2 ($columns)"
  sql main -c "COPY $2 FROM STDIN (FORMAT csv, HEADER)" <"$1"
}

if [ -n "$collection" ]; then
  for f in doc query qrel; do [ -r "$collection/$f.csv" ] || die "there is no $collection/$f.csv"; done
  load_csv "$collection/doc.csv" raw_doc
  load_csv "$collection/query.csv" raw_query
  load_csv "$collection/qrel.csv" raw_qrel
else
  collection=$top/test/data
  sql main -c "CREATE TABLE raw_doc (id text, title text, text text)" \
    -c "CREATE TABLE line (query text, text text, judgments text)"
  sql main -c "COPY raw_doc FROM STDIN" <"$collection/search_documents.tsv"
  sql main -c "COPY line FROM STDIN" <"$collection/search_judgments.tsv"
  sql main -c "CREATE TABLE raw_query AS SELECT query AS id, text FROM line" -c "CREATE TABLE raw_qrel AS
    SELECT query AS query_id, split_part(pair, ':', 1) AS doc_id, split_part(pair, ':', 2) AS score
      FROM line, string_to_table(judgments, ' ') AS pair"
fi
titled=$(ask main "SELECT count(*) FROM pg_attribute WHERE attrelid = 'raw_doc'::regclass AND attname = 'title'")
if [ "$titled" = 1 ]; then text="title || ' ' || text" columns="title, text"; else text=text columns=text; fi

{
  say "\\i $top/test/sql/include/relevance.psql"
  cat <<SQL
CREATE EXTENSION pgopt;
CREATE TABLE documents AS SELECT regexp_replace(id, '\\D', '', 'g')::int AS doc_id, $columns FROM raw_doc;
ALTER TABLE documents ADD PRIMARY KEY (doc_id);
CREATE INDEX ON documents USING pgopt_bm25 ($columns);
ANALYZE documents;
INSERT INTO query SELECT id::int, text FROM raw_query;
INSERT INTO judgment SELECT query_id::int, regexp_replace(doc_id, '\\D', '', 'g')::int, round(score::numeric)::int FROM raw_qrel;
CREATE TEMP TABLE variants AS
SELECT 'pgopt, plain' AS variant, id, text FROM query
 UNION ALL
SELECT 'pgopt, without accents', id, pg_temp.without_accents(text) FROM query
 UNION ALL
SELECT 'pgopt, typing error ' || seed, id, pg_temp.with_typing_error(text, 'pgopt ' || seed)
  FROM query, generate_series(1, ${SEEDS:-5}) AS seed;
INSERT INTO found
SELECT v.variant, v.id, s.key::int, s.position
  FROM variants AS v CROSS JOIN LATERAL pgopt_search('documents', v.text, max_results => 10, headlines => false) AS s;
CREATE TEMP TABLE vectors AS SELECT doc_id, to_tsvector('portuguese', $text) AS v FROM documents AS d;
INSERT INTO found
SELECT m.variant, q.id, s.doc_id, s.position
  FROM query AS q
 CROSS JOIN LATERAL (SELECT plainto_tsquery('portuguese', q.text)::text AS words) AS w
 CROSS JOIN LATERAL (VALUES ('ts_rank, all words', words), ('ts_rank, any word', replace(words, '&', '|'))) AS m (variant, words)
 CROSS JOIN LATERAL (
       SELECT doc_id, row_number() OVER (ORDER BY ts_rank(v, m.words::tsquery) DESC, doc_id) AS position
         FROM vectors WHERE v @@ m.words::tsquery ORDER BY position LIMIT 10) AS s;
\\pset border 2
\\pset footer off
SELECT (SELECT count(*) FROM documents) AS documents, (SELECT count(*) FROM query) AS queries,
       (SELECT count(*) FROM judgment) AS judgments,
       (SELECT count(DISTINCT document) FROM judgment WHERE document IN (SELECT doc_id FROM documents)) AS "judged documents";
SELECT CASE WHEN variant ~ 'typing' THEN 'pgopt, one typing error' ELSE variant END AS search,
       round(avg(ndcg)::numeric, 4) AS "nDCG@10", round(min(ndcg)::numeric, 4) AS "lowest drawing", round(max(ndcg)::numeric, 4) AS highest,
       round(avg(without_results), 1) AS "find nothing"
  FROM quality GROUP BY 1 ORDER BY 1;
SELECT format('%s to %s', min(query), max(query)) AS queries,
       round(avg(ndcg) FILTER (WHERE variant = 'pgopt, plain')::numeric, 4) AS plain,
       round(avg(ndcg) FILTER (WHERE variant = 'pgopt, without accents')::numeric, 4) AS "without accents",
       round(avg(ndcg) FILTER (WHERE variant ~ 'typing')::numeric, 4) AS "typing error",
       round(avg(ndcg) FILTER (WHERE variant = 'ts_rank, any word')::numeric, 4) AS "ts_rank, any word"
  FROM quality_of_query GROUP BY (query - 1) / 50 ORDER BY min(query);
SELECT q.text AS query, v.text AS "as typed", round(p.ndcg::numeric, 3) AS plain, round(t.ndcg::numeric, 3) AS "typing error"
  FROM quality_of_query AS p
  JOIN quality_of_query AS t ON t.query = p.query AND t.variant ~ 'typing'
  JOIN variants AS v ON v.variant = t.variant AND v.id = t.query
  JOIN query AS q ON q.id = p.query
 WHERE p.variant = 'pgopt, plain'
 ORDER BY p.ndcg - t.ndcg DESC, q.text LIMIT ${SHOW:-8};
SQL
} >"$stage/relevance.sql"
quiet "$collection"
sql main -f "$stage/relevance.sql"
