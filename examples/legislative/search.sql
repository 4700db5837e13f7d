-- Ranked search over the documents.
--
--     psql -d legislative -f search.sql
--
-- Needs pgopt in the database (CREATE EXTENSION pgopt), and replaces get_document_distribution_by_state() of views.sql
-- by one that reads the search index only. Can be run again: the index is left alone when it is there.

\set ON_ERROR_STOP on
SET client_min_messages = warning;

-- Words are looked for in title and content; the other columns are filters that live in the same index.
CREATE INDEX IF NOT EXISTS legislative_documents_search_idx
    ON legislative_documents
 USING pgopt_bm25 (title pgopt_text_ops (weight = 2), content,
                   document_type pgopt_filter_ops,
                   (metadata->>'state') pgopt_filter_ops,
                   (metadata->>'modal_transporte') pgopt_filter_ops,
                   collected_at);

-- The best documents for a search, typing errors corrected. Types and states: any of them, or null for all.
CREATE OR REPLACE FUNCTION search_documents_ranked(
    search_query text, doc_types text[] DEFAULT NULL, states text[] DEFAULT NULL, limit_count int DEFAULT 50)
RETURNS TABLE (id bigint, title text, rank real, headline text)
LANGUAGE sql STABLE
AS $$
    SELECT d.id, d.title, s.score, s.headline
      FROM pgopt_search('legislative_documents', search_query,
                        filters => CASE WHEN doc_types IS NULL THEN '{}'
                                        ELSE jsonb_build_object('document_type', doc_types) END
                                || CASE WHEN states IS NULL THEN '{}'
                                        ELSE jsonb_build_object('state', states) END,
                        max_results => least(coalesce(limit_count, 50), 100000)) AS s
      JOIN legislative_documents AS d ON d.id = s.key::bigint
     ORDER BY s.position
$$;

COMMENT ON FUNCTION search_documents_ranked(text, text[], text[], int) IS
    'documents by relevance (words, "phrases", -not, +must), best first, with a headline that is safe in HTML';

-- The same answer as from the table, out of one pass over the search index.
CREATE OR REPLACE FUNCTION get_document_distribution_by_state()
RETURNS TABLE (state text, document_count bigint, latest_document timestamptz, transport_related bigint)
LANGUAGE sql STABLE
AS $$
    SELECT coalesce(s.value, 'BR'),
           sum(s.documents)::bigint,
           max(s.latest::timestamptz),
           coalesce(sum(t.documents), 0)::bigint
      FROM pgopt_distribution('legislative_documents', 'state', 'collected_at') AS s
      LEFT JOIN pgopt_facets('legislative_documents', NULL, ARRAY['state'],
                             '{"modal_transporte": {"null": false}}') AS t
        ON t.value IS NOT DISTINCT FROM s.value
     GROUP BY 1
     ORDER BY 2 DESC, 1
$$;

-- Titles that look alike, whatever their words mean: for double entries, and for titles half remembered.
CREATE OR REPLACE FUNCTION find_similar_titles(wanted text, limit_count int DEFAULT 10)
RETURNS TABLE (id bigint, title text, similarity real)
LANGUAGE sql STABLE
AS $$
    SELECT d.id, d.title, similarity(d.title, wanted)
      FROM legislative_documents AS d
     WHERE d.title % wanted
     ORDER BY 3 DESC, 1
     LIMIT limit_count
$$;

COMMENT ON FUNCTION find_similar_titles(text, int) IS
    'titles by trigram similarity (pg_trgm), most alike first';
