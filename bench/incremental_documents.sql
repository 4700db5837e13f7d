-- Makes a schema of documents and what changes them. Called by the benchmarks of incremental refresh, with
--   -v schema=NAME    -v documents=1000000    -v words=true|false (false: narrow rows, a title for a text)
-- and paragraphs of real texts on standard input, a line each.
--
-- Type, state, mode of transport, organ and amount are drawn with a skew by hashes of a number, the same each time. 35 %
-- of the documents have a mode, 8 % no state; they were collected in five years, more of them lately. A text is a run of
-- paragraphs, 1.4 kB on average and 6 kB at most.

\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET client_encoding = 'UTF8';
CREATE SCHEMA :schema;
SET search_path = :schema;

CREATE TABLE passage (id int PRIMARY KEY, text text NOT NULL);
CREATE TEMP TABLE paragraph (n int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text);
-- as one column, whatever quotes and backslashes there are
\copy paragraph (text) FROM pstdin WITH (FORMAT csv, DELIMITER E'\x01', QUOTE E'\x02')
ANALYZE paragraph;
INSERT INTO passage
SELECT i, CASE WHEN :words THEN drawn.text ELSE left(drawn.text, 5 + i % 40) END
  FROM generate_series(0, 9999) AS i,
       LATERAL (SELECT string_agg(p.text, E'\n' ORDER BY p.n) AS text FROM paragraph AS p
                 WHERE p.n BETWEEN 1 + i * 7919 % 5000 AND 1 + i * 7919 % 5000 + i % 25) AS drawn;

-- a number from 0 to 1, of a key and a purpose
CREATE FUNCTION draw(key bigint, purpose int) RETURNS float8 LANGUAGE sql IMMUTABLE
AS $$ SELECT (hashint8extended(key, purpose) & 281474976710655) / 281474976710656.0::float8 $$;

CREATE TABLE organs (id int PRIMARY KEY, name text NOT NULL UNIQUE, region text NOT NULL);
INSERT INTO organs
SELECT i - 1, (ARRAY['Câmara dos Deputados','Senado Federal','ANTT','ANTAQ','ANAC','ANP','DNIT','IBAMA','TCU','CGU'])[i], 'Federal'
  FROM generate_series(1, 10) AS i;
INSERT INTO organs
SELECT 10 * s + kind,
       (ARRAY['Assembleia Legislativa','Secretaria de Transportes','Agência Reguladora','Tribunal de Contas'])[kind + 1] || ' (' || state || ')',
       CASE WHEN state IN ('SP','MG','RJ','ES') THEN 'Sudeste' WHEN state IN ('RS','PR','SC') THEN 'Sul'
            WHEN state IN ('GO','DF','MT','MS') THEN 'Centro-Oeste' WHEN state IN ('PA','AM','TO','RO','AC','AP','RR') THEN 'Norte'
            ELSE 'Nordeste' END
  FROM unnest(ARRAY['SP','MG','RJ','RS','PR','BA','PE','CE','SC','PA','GO','DF','AM','ES','MA','MT','PB','MS','RN','PI','AL','SE',
                    'TO','RO','AC','AP','RR']) WITH ORDINALITY AS states (state, s), generate_series(0, 3) AS kind;

-- the document that a number stands for
CREATE FUNCTION drawn(key bigint)
  RETURNS TABLE (document_type text, collected_at timestamptz, metadata jsonb, content text, amount numeric)
LANGUAGE sql STABLE AS $$
SELECT (ARRAY['PL','REQ','PDL','PLP','PEC','INC','MPV'])
         [1 + width_bucket(draw(key, 1), ARRAY[.48,.66,.78,.87,.94,.98]::float8[])],
       timestamptz '2025-10-31 18:00:00-03' - floor(power(draw(key, 2), 1.4) * 157766400) * interval '1 second',
       jsonb_strip_nulls(jsonb_build_object(
         'state', (ARRAY['SP','MG','RJ','RS','PR','BA','PE','CE','SC','PA','GO','DF','AM','ES','MA','MT','PB','MS','RN','PI','AL','SE',
                         'TO','RO','AC','AP','RR'])[s.n],
         'modal_transporte', CASE WHEN draw(key, 5) < .35 THEN
           (ARRAY['rodoviário','urbano','ferroviário','aquaviário','aéreo','dutoviário'])
             [1 + width_bucket(draw(key, 6), ARRAY[.50,.70,.81,.90,.97]::float8[])] END,
         'orgao', o.name,
         'ano', (2020 + floor(draw(key, 2) * 6))::int::text,
         'categoria', (ARRAY['transporte','tributação','administração pública','saúde','educação','trabalho'])
           [1 + floor(draw(key, 7) * 6)::int])),
       p.text,
       round((1000 * exp(9 * draw(key, 8)))::numeric, 2)
  FROM (SELECT CASE WHEN draw(key, 3) < .92 THEN
                 1 + width_bucket(draw(key, 4), ARRAY[.190,.305,.400,.465,.525,.580,.630,.670,.710,.745,.777,.808,.838,.862,
                                                      .884,.905,.921,.936,.950,.961,.971,.979,.985,.990,.994,.997]::float8[]) END AS n) AS s
  JOIN organs AS o ON o.id = CASE WHEN s.n IS NULL OR draw(key, 9) < .45 THEN floor(10 * power(draw(key, 10), 2))::int
                                  ELSE 10 * s.n + floor(4 * power(draw(key, 10), 1.5))::int END
  JOIN passage AS p ON p.id = floor(draw(key, 11) * 10000)::int
$$;

CREATE TABLE documents (
  id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  document_type text NOT NULL,
  collected_at  timestamptz NOT NULL,
  metadata      jsonb NOT NULL,
  content       text NOT NULL,
  amount        numeric(14,2) NOT NULL
) WITH (autovacuum_enabled = false); -- vacuumed between the measurements
ALTER TABLE passage SET (autovacuum_enabled = false);
ANALYZE passage, organs;
INSERT INTO documents (document_type, collected_at, metadata, content, amount)
SELECT d.* FROM generate_series(1, :documents) AS key, drawn(key) AS d;

-- What is to be changed next: documents in an order of their own each time.
CREATE UNLOGGED TABLE chosen (position bigint PRIMARY KEY, id bigint NOT NULL) WITH (autovacuum_enabled = false);
CREATE SEQUENCE changes;

-- choose(n) prepares a change of n rows, a third of each kind: of ten, four updates, three deletes and three inserts.
CREATE FUNCTION choose(n bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  seed bigint := nextval('changes');
BEGIN
  TRUNCATE chosen;
  INSERT INTO chosen
  SELECT row_number() OVER (), id
    FROM (SELECT id FROM documents ORDER BY hashint8extended(id, seed) LIMIT (2 * n + 2) / 3) AS picked;
END $$;

-- change(first, last) changes those at these positions: each second goes and another comes, the others get new metadata (and
-- with it another state, mode and organ), another text and another amount.
CREATE FUNCTION change(first bigint, last bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  other bigint := 1000000007 * nextval('changes');
BEGIN
  UPDATE documents AS d SET metadata = n.metadata, content = n.content, amount = n.amount
    FROM chosen AS c, drawn(c.id + other) AS n
   WHERE c.position BETWEEN first AND last AND c.position % 2 = 1 AND d.id = c.id;
  DELETE FROM documents AS d USING chosen AS c
   WHERE c.position BETWEEN first AND last AND c.position % 2 = 0 AND d.id = c.id;
  INSERT INTO documents (document_type, collected_at, metadata, content, amount)
  SELECT n.* FROM chosen AS c, drawn(c.id + other) AS n
   WHERE c.position BETWEEN first AND last AND c.position % 2 = 0;
END $$;
