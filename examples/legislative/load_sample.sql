-- Loads sample/bills.tsv, read from standard input. Called by load.sh; documents that are there already stay.

\set ON_ERROR_STOP on
SET client_encoding = 'UTF8';
SET client_min_messages = warning;
SET datestyle = 'ISO, YMD';

CREATE TEMP TABLE incoming (
    urn text, document_type text, title text, state text, orgao text, ano text, categoria text,
    modal_transporte text, published_on date, collected_at timestamptz, content text
);

\copy incoming FROM pstdin WITH (HEADER true)

INSERT INTO legislative_documents (urn, title, content, document_type, metadata, published_on, collected_at)
SELECT urn, title, content, document_type,
       jsonb_strip_nulls(jsonb_build_object('state', state, 'orgao', orgao, 'ano', ano, 'categoria', categoria,
                                            'modal_transporte', modal_transporte)),
       published_on, collected_at
  FROM incoming
    ON CONFLICT (urn) DO NOTHING;

DROP TABLE incoming;
ANALYZE legislative_documents;
