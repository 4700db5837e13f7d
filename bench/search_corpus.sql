-- Makes the documents that search is measured on, out of real texts. Called by bench/search_corpus.sh, with
--   -v documents=500000    how many                -v seed=1    another number gives other documents
-- and texts on standard input, a line each: `kind TAB text`, in the order in which they stand in their source.
--
-- A document is two runs of consecutive texts, about 1.4 kB together, so that which words occur together, and how often,
-- is as it is in the texts. Process numbers, which are unique, and names whose frequencies fall off like those of words
-- do make the long tail. Type, state, mode of transport, organ and dates are drawn with a skew: AL has 0.9 % of the
-- documents. The same texts and seed give the same documents on every machine.

\set ON_ERROR_STOP on
SET client_encoding = 'UTF8';
SET client_min_messages = warning;
\set as_of '2025-10-31 18:00:00-03'
\ir ../examples/legislative/schema.sql
\ir ../examples/legislative/draw.sql

-- Here other indexes do what these two are for.
DROP INDEX legislative_documents_content_fts_idx, legislative_documents_title_trgm_idx;

CREATE TEMP TABLE incoming (n bigint GENERATED ALWAYS AS IDENTITY, line text);
-- as one column, whatever quotes and backslashes there are
\copy incoming (line) FROM pstdin WITH (FORMAT csv, DELIMITER E'\x01', QUOTE E'\x02')

-- The texts, numbered from 0: queries are drawn from them too.
CREATE TABLE search_text AS
SELECT row_number() OVER (ORDER BY n) - 1 AS n, trim(substr(line, strpos(line, E'\t') + 1)) AS text
  FROM incoming
 WHERE strpos(line, E'\t') > 1 AND trim(substr(line, strpos(line, E'\t') + 1)) <> '';
CREATE UNIQUE INDEX ON search_text (n);
ANALYZE search_text;

SELECT count(*) AS texts, greatest(1, round(1400 / avg(length(text)) / 2))::int AS run_length FROM search_text \gset

-- A name that is the rarer the larger u is; the commonest of 331,776 has one person in 18.
CREATE FUNCTION pg_temp.draw_rare_name(u float8) RETURNS text
LANGUAGE sql IMMUTABLE
AS $$
    SELECT initcap(syllable[1 + rank % 24] || syllable[1 + rank / 24 % 24] || syllable[1 + rank / 576 % 24] ||
                   syllable[1 + rank / 13824 % 24])
      FROM (SELECT floor(power(331776, u))::int AS rank,
                   ARRAY['ba','ce','di','fo','gu','la','me','ni','po','ru','sa','te','vi','zo','bra','cla',
                         'dre','fri','gro','lha','nho','que','tur','val'] AS syllable) AS drawn
$$;

INSERT INTO legislative_documents (urn, title, content, document_type, metadata, published_on, collected_at)
SELECT format('urn:lex:br:exemplo:%s;%s', lower(d.document_type), d.i),
       format('%s nº %s, de %s: %s', d.document_type, d.number, extract(year FROM t.day),
              CASE WHEN length(first.text) <= 90 THEN first.text
                   ELSE regexp_replace(left(first.text, 90), '\s+\S*$', '') END),
       concat_ws(E'\n', a.text, b.text,
                 format('Processo nº %s-%s.%s.%s.%s', lpad((d.i::bigint * 7919 % 9999991)::text, 7, '0'), 10 + d.number % 90,
                        extract(year FROM t.day), 1 + d.number % 9, lpad((d.number % 97)::text, 4, '0')),
                 format('Interessado: %s %s', pg_temp.draw_person(d.u_name, d.u_surname, d.u_woman < .5),
                        pg_temp.draw_rare_name(pg_temp.draw(d.k, 'first rare name'))),
                 CASE WHEN d.u_woman < .7 THEN 'Advogado: ' || pg_temp.draw_rare_name(pg_temp.draw(d.k, 'second rare name'))
                      || ' ' || pg_temp.draw_rare_name(pg_temp.draw(d.k, 'third rare name')) END),
       d.document_type,
       jsonb_strip_nulls(jsonb_build_object(
           'state', d.state, 'ano', extract(year FROM t.day)::text, 'modal_transporte', d.mode,
           'orgao', CASE WHEN d.mode IS NOT NULL AND d.u_organ < .3 THEN
                              CASE d.mode WHEN 'aéreo' THEN 'ANAC' WHEN 'aquaviário' THEN 'ANTAQ' WHEN 'dutoviário' THEN 'ANP'
                                          ELSE 'ANTT' END
                         WHEN d.u_organ < .7 OR d.state IS NULL THEN 'Câmara dos Deputados'
                         WHEN d.u_organ < .85 THEN 'Senado Federal'
                         ELSE 'Assembleia Legislativa (' || d.state || ')' END,
           'categoria', CASE WHEN d.mode IS NOT NULL THEN 'transporte'
                             ELSE (ARRAY['tributação','administração pública','saúde','educação','trabalho'])[1 + d.number % 5] END)),
       t.day, d.collected_at
  FROM (SELECT i, k, floor(pg_temp.draw(k, 'first run') * :texts)::bigint AS first_text,
               floor(pg_temp.draw(k, 'second run') * :texts)::bigint AS second_text,
               round(:run_length * (.25 + 1.5 * pg_temp.draw(k, 'first length')))::int AS first_length,
               round(:run_length * (.25 + 1.5 * pg_temp.draw(k, 'second length')))::int AS second_length,
               (ARRAY['PL','REQ','PDL','PLP','PEC','INC','MPV'])
                   [1 + width_bucket(pg_temp.draw(k, 'type'), ARRAY[.48,.66,.78,.87,.94,.98]::float8[])] AS document_type,
               CASE WHEN pg_temp.draw(k, 'has state') < .92 THEN pg_temp.draw_state(pg_temp.draw(k, 'state')) END AS state,
               CASE WHEN pg_temp.draw(k, 'has mode') < .35 THEN pg_temp.draw_mode(pg_temp.draw(k, 'mode')) END AS mode,
               pg_temp.draw(k, 'organ') AS u_organ, pg_temp.draw(k, 'woman') AS u_woman,
               pg_temp.draw(k, 'name') AS u_name, pg_temp.draw(k, 'surname') AS u_surname,
               1 + floor(pg_temp.draw(k, 'number') * 6000)::int AS number,
               pg_temp.draw_time(pg_temp.draw(k, 'time'), :'as_of') AS collected_at
          FROM (SELECT i, :'seed' || ':' || i AS k FROM generate_series(1, :documents) AS i) AS numbered) AS d
  JOIN search_text AS first ON first.n = d.first_text
 CROSS JOIN LATERAL (SELECT string_agg(s.text, E'\n' ORDER BY s.n) AS text FROM search_text AS s
                      WHERE s.n BETWEEN d.first_text AND d.first_text + greatest(d.first_length, 1) - 1) AS a
 CROSS JOIN LATERAL (SELECT string_agg(s.text, E'\n' ORDER BY s.n) AS text FROM search_text AS s
                      WHERE s.n BETWEEN d.second_text AND d.second_text + greatest(d.second_length, 1) - 1) AS b
 CROSS JOIN LATERAL (SELECT (d.collected_at AT TIME ZONE 'America/Sao_Paulo')::date AS day) AS t
 ORDER BY d.i;
