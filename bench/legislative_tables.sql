-- Around the documents of examples/legislative: agencies, proceedings, subjects and alerts, drawn by hashes, the same each
-- time. No indexes but those of primary keys, and the unique one of urn.

\set ON_ERROR_STOP on
SET client_min_messages = warning;
DO $$
DECLARE
  i regclass;
BEGIN
  FOR i IN SELECT indexrelid FROM pg_index WHERE indrelid = 'legislative_documents'::regclass AND NOT indisunique LOOP
    EXECUTE format('DROP INDEX %s', i);
  END LOOP;
END $$;

CREATE FUNCTION pg_temp.draw(k bigint, purpose bigint, n int) RETURNS int LANGUAGE sql IMMUTABLE
AS $$ SELECT ((hashint8extended(k, purpose) & 9223372036854775807) % n)::int $$;

CREATE TABLE agencies (
  id     int PRIMARY KEY,
  name   text NOT NULL,
  sphere text NOT NULL,
  state  text
);
INSERT INTO agencies
SELECT row_number() OVER (ORDER BY name COLLATE "C"), name, 'federal', NULL
  FROM (SELECT DISTINCT metadata->>'orgao' AS name FROM legislative_documents WHERE metadata ? 'orgao') AS o;
INSERT INTO agencies
SELECT 1000 + i, (ARRAY['Secretaria de Transportes', 'Assembleia Legislativa', 'Câmara Municipal', 'Agência Reguladora'])[1 + i % 4] || ' nº ' || i, 'estadual',
       (ARRAY['SP','MG','RJ','RS','PR','BA','PE','CE','SC','PA','GO','DF','AM','ES','MA','MT','PB','MS','RN','PI','AL','SE','TO','RO','AC','AP','RR'])[1 + i % 27]
  FROM generate_series(1, 400) AS i;

-- Three to a document; 3 % of them are open.
CREATE TABLE proceedings (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  document_id bigint NOT NULL,
  agency_id   int NOT NULL,
  step        text NOT NULL,
  status      text NOT NULL,
  due         date NOT NULL,
  happened_at timestamptz NOT NULL,
  note        text
);
INSERT INTO proceedings (document_id, agency_id, step, status, due, happened_at, note)
SELECT 1 + pg_temp.draw(i, 1, :documents), 1001 + pg_temp.draw(i, 2, 400),
       (ARRAY['distribuição', 'parecer', 'audiência pública', 'votação', 'sanção', 'arquivamento'])[1 + pg_temp.draw(i, 3, 6)],
       CASE WHEN pg_temp.draw(i, 4, 100) < 3 THEN 'aberta' ELSE 'encerrada' END,
       date '2021-01-01' + pg_temp.draw(i, 5, 1800), timestamptz '2021-01-01 00:00+00' + i * (interval '1700 days' / (3 * :documents)),
       CASE WHEN pg_temp.draw(i, 6, 3) = 0 THEN 'Processo remetido à comissão em ' || pg_temp.draw(i, 7, 28) + 1 || ' dias, com ' || pg_temp.draw(i, 8, 400) || ' folhas' END
  FROM generate_series(1, 3 * :documents) AS i;

CREATE TABLE subjects (
  document_id bigint PRIMARY KEY,
  keywords    text[] NOT NULL,
  search      tsvector NOT NULL,
  reviewed    boolean NOT NULL,
  reviewer    text
);
INSERT INTO subjects
SELECT id, keywords, to_tsvector('portuguese', title || ' ' || array_to_string(keywords, ' ')), pg_temp.draw(id, 9, 50) > 0,
       'revisor.' || pg_temp.draw(id, 10, 300) || '@Exemplo.gov.br'
  FROM (SELECT id, title, ARRAY(SELECT 'assunto-' || floor(power(pg_temp.draw(id * 10 + n, 11, 100000) / 100000.0, 2) * 900)::int
                                  FROM generate_series(1, 2 + pg_temp.draw(id, 12, 4)) AS n) AS keywords
          FROM legislative_documents) AS d;

CREATE TABLE alerts (
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  email      text NOT NULL,
  filter     jsonb NOT NULL,
  active     boolean NOT NULL,
  created_at timestamptz NOT NULL,
  last_sent  timestamptz
);
INSERT INTO alerts (email, filter, active, created_at, last_sent)
SELECT 'Leitor.' || pg_temp.draw(i, 13, 40000) || '@Exemplo.com.br',
       jsonb_build_object('state', (ARRAY['SP','MG','RJ','RS','PR','BA','PE','CE'])[1 + pg_temp.draw(i, 14, 8)], 'keyword', 'assunto-' || pg_temp.draw(i, 15, 900)),
       pg_temp.draw(i, 16, 10) = 0, timestamptz '2022-01-01 00:00+00' + pg_temp.draw(i, 17, 1300) * interval '1 day',
       CASE WHEN pg_temp.draw(i, 18, 3) > 0 THEN timestamptz '2025-01-01 00:00+00' + pg_temp.draw(i, 19, 300) * interval '1 day' END
  FROM generate_series(1, 60000) AS i;
