-- A day at the collector: 60 documents come in, 12 are corrected, 8 are withdrawn.
--
--     psql -d legislative -f changes.sql
--
-- Can be run as often as you like. The new documents are substitutes of ones that are there.

\set ON_ERROR_STOP on

BEGIN;

INSERT INTO legislative_documents (urn, title, content, document_type, metadata, published_on, collected_at)
SELECT urn || '@substitutivo;' || pg_current_xact_id()::text,
       'Substitutivo – ' || title, content, document_type,
       metadata || jsonb_build_object('ano', extract(year FROM now())::text),
       current_date, now()
  FROM (SELECT * FROM legislative_documents
         WHERE urn NOT LIKE '%@substitutivo;%'
         ORDER BY md5(urn || pg_current_xact_id()::text) LIMIT 60) AS originals;

UPDATE legislative_documents
   SET content = content || E'\nTexto revisto em ' || to_char(now(), 'DD/MM/YYYY') || '.'
 WHERE id IN (SELECT id FROM legislative_documents ORDER BY md5(urn || now()::text) LIMIT 12);

DELETE FROM legislative_documents
 WHERE id IN (SELECT id FROM legislative_documents
               WHERE urn LIKE '%@substitutivo;%' ORDER BY collected_at, md5(urn) LIMIT 8);

COMMIT;
