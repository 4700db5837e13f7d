-- The three views of the benchmarks of incremental refresh, with their unique indexes. Called with
--   -v schema=NAME    -v way=NAME (which they are named after)

\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET search_path = :schema;
\set a :way _a
\set b :way _b
\set c :way _c

CREATE MATERIALIZED VIEW :a AS
SELECT document_type, date_trunc('month', collected_at) AS month, metadata->>'state' AS state,
       count(*) AS documents, avg(length(content)) AS average_length
  FROM documents
 GROUP BY 1, 2, 3;
CREATE UNIQUE INDEX ON :a (document_type, month, state);

CREATE MATERIALIZED VIEW :b AS
SELECT metadata->>'modal_transporte' AS mode, metadata->>'state' AS state, document_type,
       count(*) AS documents, string_agg(DISTINCT metadata->>'orgao', ', ') AS organs
  FROM documents
 WHERE metadata->>'modal_transporte' IS NOT NULL
 GROUP BY 1, 2, 3;
CREATE UNIQUE INDEX ON :b (mode, state, document_type);

CREATE MATERIALIZED VIEW :c AS
SELECT o.region, extract(year FROM d.collected_at) AS year,
       count(*) AS documents, sum(d.amount) AS amount, min(d.amount) AS smallest, max(d.amount) AS largest
  FROM documents AS d JOIN organs AS o ON o.name = d.metadata->>'orgao'
 GROUP BY 1, 2;
CREATE UNIQUE INDEX ON :c (region, year);
