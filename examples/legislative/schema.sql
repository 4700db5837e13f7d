-- The table of the legislative monitor and its indexes.
--
--     psql -d legislative -f schema.sql
--
-- Can be run again: what is there is left alone.

\set ON_ERROR_STOP on
SET client_min_messages = warning;

CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE TABLE IF NOT EXISTS legislative_documents (
  id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  urn           text NOT NULL,
  title         text NOT NULL,
  content       text NOT NULL,
  document_type text NOT NULL,
  metadata      jsonb NOT NULL DEFAULT '{}',
  published_on  date,
  collected_at  timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE legislative_documents IS
  'bills and other legislative documents as they were collected';
COMMENT ON COLUMN legislative_documents.urn IS
  'LexML name of the document, e.g. urn:lex:br:senado.federal:projeto.lei;pl:2024-03-05;1992';
COMMENT ON COLUMN legislative_documents.document_type IS
  'PL, PLP, PEC, PDL, MPV, REQ, INC, RES ...';
COMMENT ON COLUMN legislative_documents.metadata IS
  'state (UF), orgao, ano, categoria, modal_transporte; a key that does not apply is absent';

CREATE UNIQUE INDEX IF NOT EXISTS legislative_documents_urn_idx
  ON legislative_documents (urn);
CREATE INDEX IF NOT EXISTS legislative_documents_type_collected_idx
  ON legislative_documents (document_type, collected_at DESC);

CREATE INDEX IF NOT EXISTS legislative_documents_state_idx
  ON legislative_documents ((metadata->>'state'));
CREATE INDEX IF NOT EXISTS legislative_documents_orgao_idx
  ON legislative_documents ((metadata->>'orgao'));
CREATE INDEX IF NOT EXISTS legislative_documents_ano_idx
  ON legislative_documents ((metadata->>'ano'));
CREATE INDEX IF NOT EXISTS legislative_documents_categoria_idx
  ON legislative_documents ((metadata->>'categoria'));
CREATE INDEX IF NOT EXISTS legislative_documents_modal_transporte_idx
  ON legislative_documents ((metadata->>'modal_transporte'));

CREATE INDEX IF NOT EXISTS legislative_documents_content_fts_idx
  ON legislative_documents USING gin (to_tsvector('portuguese', content));
CREATE INDEX IF NOT EXISTS legislative_documents_title_trgm_idx
  ON legislative_documents USING gin (title gin_trgm_ops);
