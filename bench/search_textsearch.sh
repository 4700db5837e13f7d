#!/bin/sh
# bench/search_textsearch.sh: pgopt beside pg_textsearch, in one database: the fifty best documents without and with filters.
#
# Needs a server of 17 or 18 that has pg_textsearch installed, which the project does not do; without it this says so and
# ends. PG_CONFIG says which server. Both indexes hold title and content with k1 = 0.9 and b = 0.4. Where pg_textsearch
# filters is the planner's choice: a B-tree before it, or the rows that come out of it; rows that got lost on the way are
# counted. Queries, rounds and ratios are as in bench/search.sh.
#   PG_CONFIG=/usr/lib/postgresql/17/bin/pg_config ROUNDS=7 bench/search_textsearch.sh      (bench/search_lib.sh has more)
set -eu
top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$top/script/lib.sh"
. "$top/bench/lib.sh"
. "$top/bench/search_lib.sh"

load_pg_config
if ! [ -e "$pkglibdir/pg_textsearch.so" ]; then
  say "skipped: pg_textsearch is not installed with $("$PG_CONFIG" --version)"
  exit 0
fi
rounds=${ROUNDS:-7}

bench_begin
corpus_start "shared_preload_libraries = 'pgopt, pg_textsearch'"
corpus_documents
corpus_peers
corpus_queries
corpus_index
# its operator has the same name as one of pgopt's; its planner hook finds what belongs to it by the search path
sql corpus -c "DROP EXTENSION IF EXISTS pg_textsearch CASCADE" -c "DROP SCHEMA IF EXISTS textsearch" \
  -c "CREATE SCHEMA textsearch" -c "CREATE EXTENSION pg_textsearch SCHEMA textsearch" \
  -c "ALTER DATABASE $database SET search_path = public, textsearch"
# its index holds one column, and a plain one is what it is fastest with: title and content in one, in a table of its own
sql corpus -c "DROP TABLE IF EXISTS peer_textsearch" -c "CREATE TABLE peer_textsearch AS
    SELECT *, title || ' ' || content AS body FROM legislative_documents ORDER BY id" \
  -c "CREATE INDEX ON peer_textsearch (document_type)" -c "CREATE INDEX ON peer_textsearch ((metadata->>'state'))"
timed "pg_textsearch" peer_textsearch_body_idx "CREATE INDEX peer_textsearch_body_idx ON peer_textsearch
  USING bm25 (body) WITH (text_config = 'portuguese', k1 = 0.9, b = 0.4)"
sql corpus -c "VACUUM ANALYZE peer_textsearch"
corpus_warm
ask corpus "SELECT format('%s: %s s, %s', name, seconds, pg_size_pretty(bytes)) FROM search_built
  WHERE name IN ('pgopt, with positions', 'pg_textsearch')"

sql corpus -f "$top/bench/search_time.sql"
sql corpus <<'SQL'
INSERT INTO statement
SELECT k.kind, k.kind_order, q.class, q.position, m.method, 3,
       CASE WHEN m.method = 'textsearch' THEN
         format('SELECT id, title FROM peer_textsearch %s ORDER BY body
                   OPERATOR(textsearch.<@>) textsearch.to_bm25query(%L, ''peer_textsearch_body_idx'') LIMIT 50',
                'WHERE ' || k.condition, q.query)
       ELSE
         format('SELECT id, title FROM legislative_documents AS d WHERE %s d @@@ %L ORDER BY d <@> %2$L LIMIT 50',
                k.condition || ' AND', q.query) END
  FROM search_query AS q
 CROSS JOIN (VALUES ('top 50', 1, NULL),
                    ('narrow filter', 2, $$metadata->>'state' = 'AL'$$),
                    ('narrow filter and type', 3, $$metadata->>'state' = 'AL' AND document_type = 'PL'$$),
                    ('two wide filters', 4, $$metadata->>'state' = 'SP' AND document_type = 'PL'$$)) AS k (kind, kind_order, condition)
 CROSS JOIN (VALUES ('pgopt'), ('again'), ('textsearch')) AS m (method);
SQL
for kind in "top 50" "narrow filter"; do
  statement=$(ask corpus "SELECT statement FROM statement WHERE method = 'textsearch' AND kind = '$kind' AND class = '1 word, 10 %' AND position = 1")
  say ""
  say "pg_textsearch's plan, $kind:"
  sql corpus -At -c "EXPLAIN (COSTS OFF) $statement"
done
quiet "measuring, $rounds rounds"
sql corpus -c "CALL measure($rounds)"
sql corpus -P border=2 -P footer=off <<'SQL'
CREATE TEMP VIEW once AS
SELECT kind, class, position, method, round, percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) AS ms, min(rows) AS rows
  FROM measured GROUP BY 1, 2, 3, 4, 5;
CREATE TEMP VIEW compared AS
SELECT o.*, p.ms / o.ms AS share, o.ms / p.ms AS times, o.rows - p.rows AS more
  FROM once AS o JOIN once AS p USING (kind, class, position, round) WHERE p.method = 'pgopt';
\echo
\echo milliseconds at the median; pgopt in terms of pg_textsearch (wanted without a filter: at most 1), and the other
\echo way round (wanted with narrow filters: at least 5), lowest and highest of all rounds:
SELECT kind, class,
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) FILTER (WHERE method = 'pgopt')::numeric, 2) AS pgopt,
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY times) FILTER (WHERE method = 'again')::numeric, 2) AS "again/pgopt",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) FILTER (WHERE method = 'textsearch')::numeric, 2) AS textsearch,
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY share) FILTER (WHERE method = 'textsearch')::numeric, 2) AS "pgopt/textsearch",
       format('%s (%s to %s)', round(percentile_cont(0.5) WITHIN GROUP (ORDER BY times) FILTER (WHERE method = 'textsearch')::numeric, 1),
              round(min(times) FILTER (WHERE method = 'textsearch')::numeric, 1),
              round(max(times) FILTER (WHERE method = 'textsearch')::numeric, 1)) AS "textsearch/pgopt",
       min(more) FILTER (WHERE method = 'textsearch') AS "rows it lost"
  FROM compared GROUP BY kind, class
 ORDER BY (SELECT min(kind_order) FROM statement AS s WHERE s.kind = compared.kind), length(class) > 8 DESC, class COLLATE "C";
SQL
