-- The materialized views of the legislative monitor, and one function.
--
--     psql -d legislative -f views.sql
--
-- Can be run again: what is there is left alone. Who keeps the views fresh, and when, is in manage.sql.
--
-- Two things make the refreshes cheap and the answers certain:
--   * every view has a unique index on plain columns, so that it can be refreshed CONCURRENTLY, and no key
--     column holds a NULL (CONCURRENTLY rewrites a row with a NULL in its key each time): documents of no
--     single state are counted under 'BR';
--   * no expression depends on the session's settings. The month of collection is the month in São Paulo,
--     whoever refreshes, so the view can only go stale by a change of its tables.

\set ON_ERROR_STOP on
SET client_min_messages = warning;

-- Documents and their average length, by type, month of collection and state.
CREATE MATERIALIZED VIEW IF NOT EXISTS mv_document_statistics AS
SELECT document_type,
       date_trunc('month', collected_at AT TIME ZONE 'America/Sao_Paulo')::date AS month,
       coalesce(metadata->>'state', 'BR') AS state,
       count(*) AS document_count,
       round(avg(length(content)), 1) AS avg_content_length
  FROM legislative_documents
 GROUP BY 1, 2, 3;

CREATE UNIQUE INDEX IF NOT EXISTS mv_document_statistics_key
    ON mv_document_statistics (document_type, month, state);

COMMENT ON MATERIALIZED VIEW mv_document_statistics IS
    'documents and average content length, by type, month of collection and state';

-- Documents and who issued them, by mode of transport, state and type, where a mode is given.
CREATE MATERIALIZED VIEW IF NOT EXISTS mv_transport_summary AS
SELECT metadata->>'modal_transporte' AS transport_mode,
       coalesce(metadata->>'state', 'BR') AS state,
       document_type,
       count(*) AS document_count,
       string_agg(DISTINCT metadata->>'orgao', ', ' ORDER BY metadata->>'orgao') AS organs
  FROM legislative_documents
 WHERE metadata->>'modal_transporte' IS NOT NULL
 GROUP BY 1, 2, 3;

CREATE UNIQUE INDEX IF NOT EXISTS mv_transport_summary_key
    ON mv_transport_summary (transport_mode, state, document_type);

COMMENT ON MATERIALIZED VIEW mv_transport_summary IS
    'documents and distinct issuing organs, by mode of transport, state and type';

-- Documents by state and year. It reads mv_document_statistics, not the table: it is as fresh as that view.
CREATE MATERIALIZED VIEW IF NOT EXISTS mv_state_overview AS
SELECT state,
       extract(year FROM month)::int AS year,
       sum(document_count)::bigint AS document_count,
       count(DISTINCT document_type) AS document_types,
       round(sum(avg_content_length * document_count) / sum(document_count), 1) AS avg_content_length
  FROM mv_document_statistics
 GROUP BY 1, 2;

CREATE UNIQUE INDEX IF NOT EXISTS mv_state_overview_key
    ON mv_state_overview (state, year);

COMMENT ON MATERIALIZED VIEW mv_state_overview IS
    'documents by state and year, read from mv_document_statistics';

-- Where the documents come from: straight from the table, so always current.
CREATE OR REPLACE FUNCTION get_document_distribution_by_state()
RETURNS TABLE (state text, document_count bigint, latest_document timestamptz, transport_related bigint)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT coalesce(metadata->>'state', 'BR'),
           count(*),
           max(collected_at),
           count(metadata->>'modal_transporte')
      FROM legislative_documents
     GROUP BY 1
     ORDER BY 2 DESC, 1
$$;

COMMENT ON FUNCTION get_document_distribution_by_state() IS
    'documents, the latest one and those about transport, by state; BR stands for no single state';
