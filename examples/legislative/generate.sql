-- Scales legislative_documents up to a number of documents, by recombining those that were loaded.
--
--     psql -d legislative -v documents=100000 -f generate.sql
--
-- A bill becomes a new bill of the same kind: its articles are mixed with those of another bill on the same
-- subject and numbered again, its reasons with that bill's reasons; date, author and process number are new.
-- Texts without articles are strung together from runs of consecutive texts, about 1.4 kB long. So the words
-- that occur together, and how often, stay as they are in real documents; process numbers and names add the
-- long tail of rare words.
--
-- The same loaded documents give the same generated ones on every machine. Run again with a larger number to
-- add to them. -v as_of='2025-10-31' is the day before which documents are collected.

\set ON_ERROR_STOP on
SET client_min_messages = warning;
\if :{?documents} \else \set documents 10000 \endif
\if :{?as_of} \else \set as_of '2025-10-31 18:00:00-03' \endif
\ir draw.sql

BEGIN;
SET LOCAL work_mem = '128MB';
SET LOCAL jit = off;

-- Bills with articles and reasons, cut into parts.
CREATE TEMP TABLE source_bill ON COMMIT DROP AS
WITH cut AS (
    SELECT urn, document_type, metadata,
           split_part(title, ' nº ', 1) AS kind, regexp_replace(title, '^[^:]*: ', '') AS summary,
           strpos(content, E'\nArt. 1') AS articles_at,
           regexp_instr(content, E'\n(JUSTIFICAÇÃO|EXPOSIÇÃO DE MOTIVOS|RAZÕES)\n') AS reasons_at,
           content
      FROM legislative_documents
     WHERE urn NOT LIKE 'urn:lex:br:exemplo:%'
), parts AS (
    SELECT *,
           substr(content, 1, articles_at - 1) AS opening,
           regexp_split_to_array(substr(content, articles_at + 1, reasons_at - articles_at - 1), E'\n(?=Art\\. \\d)') AS articles,
           string_to_array(substr(content, reasons_at + 1), E'\n') AS closing
      FROM cut
     WHERE articles_at > 1 AND reasons_at > articles_at
)
SELECT row_number() OVER (ORDER BY grp COLLATE "C", urn COLLATE "C") AS n,
       row_number() OVER (PARTITION BY grp ORDER BY urn COLLATE "C") AS n_in_group,
       count(*) OVER (PARTITION BY grp) AS group_size,
       *
  FROM (SELECT urn, document_type, metadata, kind, summary, opening,
               concat_ws('/', document_type, metadata->>'categoria', metadata->>'modal_transporte') AS grp,
               (SELECT array_agg(regexp_replace(a, '^Art\. \d+[º.] ', '') ORDER BY i)
                  FROM unnest(articles) WITH ORDINALITY AS u (a, i)) AS articles,
               closing[1] AS heading,
               closing[2:cardinality(closing) - 1] AS reasons,
               closing[cardinality(closing)] AS signature
          FROM parts
         WHERE cardinality(closing) >= 3) AS p;

CREATE INDEX ON source_bill (n);
CREATE INDEX ON source_bill (grp, n_in_group);

-- Everything else, in the order in which it was loaded.
CREATE TEMP TABLE source_text ON COMMIT DROP AS
SELECT row_number() OVER (ORDER BY id) - 1 AS n, document_type, metadata, title, content
  FROM legislative_documents AS d
 WHERE urn NOT LIKE 'urn:lex:br:exemplo:%'
   AND NOT EXISTS (SELECT FROM source_bill AS b WHERE b.urn = d.urn);

CREATE INDEX ON source_text (n);
ANALYZE source_bill, source_text;

SELECT (SELECT count(*) FROM source_bill) AS bills,
       (SELECT count(*) FROM source_text) AS texts,
       (SELECT coalesce(avg(length(content)), 1) FROM source_text) AS text_length,
       greatest(:documents - (SELECT count(*) FROM legislative_documents), 0) AS missing,
       (SELECT coalesce(max(split_part(urn, ';', 2)::bigint), 0)
          FROM legislative_documents WHERE urn LIKE 'urn:lex:br:exemplo:%') AS last
\gset
SELECT greatest(1, round(1400 / :text_length))::int AS run_length, :bills + :texts = 0 AS no_source
\gset
\if :no_source
DO $$
BEGIN
    RAISE EXCEPTION 'there are no documents to recombine'
        USING HINT = 'Load some first, for example with load.sh.';
END
$$;
\endif

-- What is drawn for each new document. Some sources are drawn far more often than others.
CREATE TEMP TABLE drawn ON COMMIT DROP AS
SELECT k, pg_temp.draw(k, 'kind') * (:bills + :texts) < :bills AS is_bill,
       1 + floor(power(pg_temp.draw(k, 'bill'), 1.3) * :bills)::bigint AS bill,
       pg_temp.draw(k, 'second') AS u_second,
       floor(pg_temp.draw(k, 'text') * :texts)::bigint AS first_text,
       greatest(1, round(:run_length * (0.5 + pg_temp.draw(k, 'length'))))::int AS texts,
       pg_temp.draw_time(pg_temp.draw(k, 'time'), :'as_of') AS collected_at,
       pg_temp.draw_state(pg_temp.draw(k, 'state')) AS state,
       pg_temp.draw(k, 'name') AS u_name,
       pg_temp.draw(k, 'surname') AS u_surname,
       floor(pg_temp.draw(k, 'delay') * 5)::int AS delay,
       1 + floor(pg_temp.draw(k, 'number') * 6000)::int AS number,
       format('%s.%s/%s-%s', 10000 + floor(pg_temp.draw(k, 'unit') * 90)::int * 1000,
              lpad(floor(pg_temp.draw(k, 'process') * 1000000)::text, 6, '0'),
              extract(year FROM pg_temp.draw_time(pg_temp.draw(k, 'time'), :'as_of')),
              lpad(floor(pg_temp.draw(k, 'digit') * 100)::text, 2, '0')) AS process
  FROM (SELECT i::text AS k FROM generate_series(:last + 1, :last + :missing) AS i) AS s;

-- Bills: the first and the last article and reason are the bill's own, of the others a part is taken.
INSERT INTO legislative_documents (urn, title, content, document_type, metadata, published_on, collected_at)
SELECT format('urn:lex:br:exemplo:%s;%s', lower(a.document_type), d.k),
       format('%s nº %s, de %s: %s', a.kind, d.number, t.year, a.summary),
       concat_ws(E'\n', a.opening, articles.list, a.heading, reasons.list,
                 regexp_replace(split_part(a.signature, '. ', 1), '\d+º? de \S+ de \d+', t.date_text) || '. ' ||
                 coalesce(substring(a.signature FROM '(Deputad[oa]|Senadora?|Diretora?-Geral) ?') || ' ' ||
                          pg_temp.draw_person(d.u_name, d.u_surname, a.signature ~ '(Deputada|Senadora|Diretora)') || '. ', '') ||
                 'Processo nº ' || d.process || '.'),
       a.document_type,
       a.metadata || jsonb_build_object('ano', t.year)
                  || CASE WHEN a.metadata->>'orgao' IN ('Câmara dos Deputados', 'Senado Federal')
                          THEN jsonb_build_object('state', d.state) ELSE '{}' END,
       t.published_on, d.collected_at
  FROM drawn AS d
  JOIN source_bill AS a ON a.n = d.bill
  JOIN source_bill AS b ON b.grp = a.grp AND b.n_in_group = 1 + floor(d.u_second * a.group_size)::bigint
 CROSS JOIN LATERAL (SELECT day AS published_on, extract(year FROM day)::text AS year,
                            format('%s de %s de %s', CASE extract(day FROM day) WHEN 1 THEN '1º' ELSE extract(day FROM day)::text END,
                                   (ARRAY['janeiro','fevereiro','março','abril','maio','junho','julho','agosto',
                                          'setembro','outubro','novembro','dezembro'])[extract(month FROM day)::int],
                                   extract(year FROM day)) AS date_text
                       FROM (SELECT (d.collected_at AT TIME ZONE 'America/Sao_Paulo')::date - d.delay AS day) AS published) AS t
 CROSS JOIN LATERAL (
       SELECT string_agg('Art. ' || i || CASE WHEN i < 10 THEN 'º ' ELSE '. ' END || article, E'\n' ORDER BY i) AS list
         FROM (SELECT article, row_number() OVER (ORDER BY place) AS i
                 FROM (SELECT DISTINCT ON (left(article, 60)) article, place
                         FROM (SELECT x, CASE WHEN o = cardinality(a.articles) THEN 1000 ELSE o END::float8
                                 FROM unnest(a.articles) WITH ORDINALITY AS u (x, o)
                                UNION ALL
                               SELECT x, o + 0.5
                                 FROM unnest(b.articles) WITH ORDINALITY AS u (x, o)
                                WHERE b.n <> a.n AND o > 1 AND o < cardinality(b.articles)) AS both_bills (article, place)
                        ORDER BY left(article, 60), place) AS once
                WHERE place IN (1, 1000) OR pg_temp.draw(d.k, left(article, 30)) < .62) AS numbered) AS articles
 CROSS JOIN LATERAL (
       SELECT string_agg(reason, E'\n' ORDER BY place) AS list
         FROM (SELECT DISTINCT ON (left(reason, 40)) reason, place
                 FROM (SELECT x, CASE WHEN o = cardinality(a.reasons) THEN 1000 ELSE o END::float8
                         FROM unnest(a.reasons) WITH ORDINALITY AS u (x, o)
                        UNION ALL
                       SELECT x, o + 0.5
                         FROM unnest(b.reasons) WITH ORDINALITY AS u (x, o)
                        WHERE b.n <> a.n AND o > 1 AND o < cardinality(b.reasons)) AS both_bills (reason, place)
                ORDER BY left(reason, 40), place) AS once
        WHERE place IN (1, 1000) OR pg_temp.draw(d.k, left(reason, 30)) < .62) AS reasons
 WHERE d.is_bill
 ORDER BY d.k::bigint;

-- Texts: a run of consecutive ones.
INSERT INTO legislative_documents (urn, title, content, document_type, metadata, published_on, collected_at)
SELECT format('urn:lex:br:exemplo:%s;%s', lower(first.document_type), d.k),
       first.title,
       run.content || E'\nProcesso nº ' || d.process || '. ' ||
       CASE WHEN d.u_second < .5 THEN 'Relator: ' ELSE 'Relatora: ' END ||
       pg_temp.draw_person(d.u_name, d.u_surname, d.u_second >= .5) || '.',
       first.document_type,
       first.metadata || jsonb_build_object('ano', extract(year FROM published_on)::text)
                      || CASE WHEN first.metadata ? 'state' THEN jsonb_build_object('state', d.state) ELSE '{}' END,
       published_on, d.collected_at
  FROM drawn AS d
  JOIN source_text AS first ON first.n = d.first_text
 CROSS JOIN LATERAL (SELECT string_agg(s.content, E'\n' ORDER BY s.n) AS content
                       FROM source_text AS s
                      WHERE s.n BETWEEN d.first_text AND d.first_text + d.texts - 1) AS run
 CROSS JOIN LATERAL (SELECT (d.collected_at AT TIME ZONE 'America/Sao_Paulo')::date - d.delay AS published_on) AS t
 WHERE NOT d.is_bill
 ORDER BY d.k::bigint;

COMMIT;
ANALYZE legislative_documents;
SELECT count(*) AS documents, pg_size_pretty(pg_total_relation_size('legislative_documents')) AS size
  FROM legislative_documents;
