-- Loads real texts, read from standard input: a text a line, `kind TAB text`. Called by load.sh.
-- The kind `bill` becomes bills, `court` decisions of courts, any other kind a document of that name. State,
-- organ, mode of transport and dates are drawn from the text itself (a hash), so that a text gets the same ones
-- each time it is loaded. A text that is there already stays.

\set ON_ERROR_STOP on
SET client_encoding = 'UTF8';
SET client_min_messages = warning;
\if :{?as_of} \else \set as_of '2025-10-31 18:00:00-03' \endif
\ir draw.sql

CREATE TEMP TABLE incoming (line_number bigint GENERATED ALWAYS AS IDENTITY, line text);

-- as one column, whatever quotes and backslashes there are
\copy incoming (line) FROM pstdin WITH (FORMAT csv, DELIMITER E'\x01', QUOTE E'\x02')

WITH texts AS (
    SELECT line_number, lower(trim(split_part(line, E'\t', 1))) AS kind,
           trim(substr(line, strpos(line, E'\t') + 1)) AS text
      FROM incoming
     WHERE strpos(line, E'\t') > 1
), keyed AS (
    SELECT DISTINCT ON (key) *
      FROM (SELECT *, md5(text) AS key FROM texts WHERE text <> '') AS t
     ORDER BY key, line_number
), drawn AS (
    SELECT line_number, kind, text, key,
           pg_temp.draw_time(pg_temp.draw(key, 'time'), :'as_of') AS collected_at,
           CASE WHEN pg_temp.draw(key, 'has state') < .92 THEN pg_temp.draw_state(pg_temp.draw(key, 'state')) END AS state,
           CASE WHEN pg_temp.draw(key, 'has mode') < .35 THEN pg_temp.draw_mode(pg_temp.draw(key, 'mode')) END AS mode,
           pg_temp.draw(key, 'type') AS u_type,
           pg_temp.draw(key, 'organ') AS u_organ,
           pg_temp.draw(key, 'category') AS u_category
      FROM keyed
), described AS (
    SELECT *,
           CASE kind
               WHEN 'bill' THEN (ARRAY['PL','REQ','PDL','PLP','PEC','INC'])[1 + width_bucket(u_type, ARRAY[.62,.74,.82,.89,.95]::float8[])]
               WHEN 'court' THEN (ARRAY['ACO','DEC'])[1 + width_bucket(u_type, ARRAY[.70]::float8[])]
               ELSE upper(kind)
           END AS document_type,
           CASE WHEN kind = 'court' THEN
                    (ARRAY['Supremo Tribunal Federal','Superior Tribunal de Justiça','Tribunal de Contas da União',
                           'Tribunal Superior do Trabalho','Superior Tribunal Militar'])[1 + width_bucket(u_organ, ARRAY[.38,.66,.84,.95]::float8[])]
                WHEN mode IS NOT NULL AND u_organ < .30 THEN
                    CASE mode WHEN 'aéreo' THEN 'ANAC' WHEN 'aquaviário' THEN 'ANTAQ' WHEN 'dutoviário' THEN 'ANP' ELSE 'ANTT' END
                WHEN u_organ < .75 OR state IS NULL THEN 'Câmara dos Deputados'
                WHEN u_organ < .88 THEN 'Senado Federal'
                WHEN state = 'DF' THEN 'Câmara Legislativa do Distrito Federal'
                ELSE 'Assembleia Legislativa (' || state || ')'
           END AS organ,
           CASE WHEN mode IS NOT NULL THEN 'transporte'
                ELSE (ARRAY['tributação','administração pública','saúde','educação','trabalho','segurança pública','meio ambiente'])
                     [1 + width_bucket(u_category, ARRAY[.24,.44,.60,.74,.86,.94]::float8[])]
           END AS category
      FROM drawn
)
INSERT INTO legislative_documents (urn, title, content, document_type, metadata, published_on, collected_at)
SELECT 'urn:lex:br:textos:' || kind || ';' || key,
       document_type || ' – ' ||
       CASE WHEN length(text) <= 110 THEN text ELSE regexp_replace(left(text, 110), '\s+\S*$', '') || ' …' END,
       text, document_type,
       jsonb_strip_nulls(jsonb_build_object(
           'state', state, 'orgao', organ,
           'ano', extract(year FROM collected_at AT TIME ZONE 'America/Sao_Paulo')::text,
           'categoria', category, 'modal_transporte', mode)),
       (collected_at AT TIME ZONE 'America/Sao_Paulo')::date - floor(pg_temp.draw(key, 'delay') * 5)::int,
       collected_at
  FROM described
 ORDER BY line_number
    ON CONFLICT (urn) DO NOTHING;

DROP TABLE incoming;
ANALYZE legislative_documents;
