--
-- The ranking on a collection of the project's own: 90 documents of a municipal legislature and 30 queries with
-- graded judgments (test/data; 3 is what was looked for, 1 is beside it). nDCG@10 of the queries as they are, without
-- accents, and with one typing error in one word. Words of the queries often stand in the documents in another form.
--
\getenv abs_srcdir PG_ABS_SRCDIR
\set relevance :abs_srcdir '/sql/include/relevance.psql'
\set documents :abs_srcdir '/data/search_documents.tsv'
\set judgments :abs_srcdir '/data/search_judgments.tsv'
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgopt;
\i :relevance
CREATE TABLE relevance_documents (id int PRIMARY KEY, title text NOT NULL, content text NOT NULL);
COPY relevance_documents FROM :'documents';
CREATE TEMP TABLE line (query int, text text, judgments text);
COPY line FROM :'judgments';
INSERT INTO query SELECT query, text FROM line;
INSERT INTO judgment
SELECT query, split_part(pair, ':', 1)::int, split_part(pair, ':', 2)::int FROM line, string_to_table(judgments, ' ') AS pair;
SELECT (SELECT count(*) FROM relevance_documents) AS documents, (SELECT count(*) FROM query) AS queries,
       count(*) AS judgments, count(*) FILTER (WHERE document IN (SELECT id FROM relevance_documents)) AS known
  FROM judgment;

CREATE INDEX ON relevance_documents USING pgopt_bm25 (title, content);

CREATE TEMP VIEW variants AS
SELECT id, text, 'plain' AS variant FROM query
 UNION ALL
SELECT id, pg_temp.without_accents(text), 'without accents' FROM query
 UNION ALL
SELECT id, pg_temp.with_typing_error(text, 'pgopt ' || seed), 'typing error ' || seed FROM query, generate_series(1, 5) AS seed;

-- typing errors are errors, and the same ones each time
SELECT count(*) FILTER (WHERE v.text = q.text) AS unchanged, max(abs(length(v.text) - length(q.text))) AS longest
  FROM variants AS v JOIN query AS q USING (id) WHERE variant LIKE 'typing error%';

INSERT INTO found
SELECT v.variant, v.id, s.key::int, s.position
  FROM variants AS v
 CROSS JOIN LATERAL pgopt_search('relevance_documents', v.text, max_results => 10, headlines => false) AS s;
INSERT INTO found
SELECT 'ts_rank', q.id, s.id, s.position
  FROM query AS q
 CROSS JOIN LATERAL (
       SELECT d.id, row_number() OVER (ORDER BY ts_rank(v, t) DESC, d.id) AS position
         FROM relevance_documents AS d, to_tsvector('portuguese', d.title || ' ' || d.content) AS v,
              CAST(replace(plainto_tsquery('portuguese', q.text)::text, '&', '|') AS tsquery) AS t
        WHERE v @@ t ORDER BY position LIMIT 10) AS s;

-- the operators rank as the function does
SELECT count(*) AS differences
  FROM query AS q
 CROSS JOIN LATERAL (SELECT array_agg(id) AS ids FROM (
       SELECT d.id FROM relevance_documents AS d WHERE d @@@ q.text ORDER BY d <@> q.text LIMIT 10) AS best) AS o
 WHERE o.ids IS DISTINCT FROM (SELECT array_agg(document ORDER BY position) FROM found WHERE variant = 'plain' AND query = q.id);

-- what is promised
SELECT (SELECT ndcg FROM quality WHERE variant = 'plain') >= 0.95 AS plain,
       abs((SELECT ndcg FROM quality WHERE variant = 'plain')
           - (SELECT ndcg FROM quality WHERE variant = 'without accents')) <= 0.005 AS without_accents,
       (SELECT avg(ndcg) FROM quality WHERE variant LIKE 'typing error%') >= 0.95 AS typing_errors,
       (SELECT ndcg FROM quality WHERE variant = 'plain')
           > (SELECT ndcg FROM quality WHERE variant = 'ts_rank') AS better_than_ts_rank,
       (SELECT sum(without_results) FROM quality) = 0 AS all_find_something;

-- the best document is first for nearly all
SELECT count(*) >= 28 AS best_first
  FROM found AS f JOIN judgment AS j USING (query, document) WHERE variant = 'plain' AND position = 1 AND grade = 3;

DROP TABLE relevance_documents;
