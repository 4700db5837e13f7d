-- What bench/search.sh measures: statements by kind of search, query and method.

\set ON_ERROR_STOP on
DROP TABLE IF EXISTS plan_note;
INSERT INTO statement
SELECT k.kind, k.kind_order, q.class, q.position, m.method, m.repeats,
       CASE
         WHEN k.kind = 'whole function' AND m.family = 'pgopt' THEN
           format('SELECT * FROM search_documents_ranked(%L, NULL, NULL, 50)', q.query)
         WHEN k.kind = 'whole function' AND m.family = 'gin' THEN
           format('SELECT id, title, rank, ts_headline(''portuguese'', content, query) FROM (
                     SELECT id, title, content, query, ts_rank(tsv, query) AS rank
                       FROM peer_gin, to_tsquery(''portuguese'', %L) AS query WHERE tsv @@ query
                      ORDER BY rank DESC LIMIT 50) AS best', q.alternatives)
         WHEN k.kind = 'whole function' THEN
           format('SELECT id, title, rank, ts_headline(''portuguese'', content, query) FROM (
                     SELECT id, title, content, query, tsv <=> query AS rank
                       FROM peer_rum, to_tsquery(''portuguese'', %L) AS query WHERE tsv @@ query
                      ORDER BY tsv <=> query LIMIT 50) AS best', q.alternatives)
         WHEN k.kind = 'facets' AND m.family = 'pgopt' THEN
           format('SELECT * FROM pgopt_facets(''legislative_documents'', %L, ''{document_type,state}'')', q.query)
         WHEN k.kind = 'facets' THEN
           format('SELECT document_type, metadata->>''state'', count(*) FROM peer_gin
                    WHERE tsv @@ to_tsquery(''portuguese'', %L) GROUP BY GROUPING SETS ((1), (2))', q.alternatives)
         WHEN m.family = 'pgopt' THEN
           format('SELECT id, title FROM legislative_documents AS d WHERE d @@@ %L %s ORDER BY d <@> %1$L LIMIT 50',
                  q.query, k.condition)
         WHEN m.family = 'gin' THEN
           format('SELECT id, title FROM peer_gin AS d WHERE tsv @@ to_tsquery(''portuguese'', %L) %s
                    ORDER BY ts_rank(tsv, to_tsquery(''portuguese'', %1$L)) DESC LIMIT 50', q.alternatives, k.condition)
         ELSE
           format('SELECT id, title FROM peer_rum AS d WHERE tsv @@ to_tsquery(''portuguese'', %L) %s
                    ORDER BY tsv <=> to_tsquery(''portuguese'', %1$L) LIMIT 50', q.alternatives, k.condition)
       END
  FROM search_query AS q
 CROSS JOIN (VALUES ('top 50', 1, 3, ''),
                    ('narrow filter', 2, 1, $$AND metadata->>'state' = 'AL'$$),
                    ('narrow filter and type', 3, 1, $$AND metadata->>'state' = 'AL' AND document_type = 'PL'$$),
                    ('two wide filters', 4, 1, $$AND metadata->>'state' = 'SP' AND document_type = 'PL'$$),
                    ('whole function', 5, 1, ''),
                    ('facets', 6, 1, '')) AS k (kind, kind_order, positions, condition)
 CROSS JOIN (VALUES ('pgopt', 'pgopt', 3), ('again', 'pgopt', 3), ('gin', 'gin', 1), ('rum', 'rum', 2)) AS m (method, family, repeats)
 WHERE q.position <= k.positions AND (m.family <> 'rum' OR (:rum = 1 AND k.kind <> 'facets'));

-- Is the plan the one that a method stands for?
CREATE TABLE plan_note AS SELECT NULL::text AS note WITH NO DATA;
DO $$
DECLARE
  s statement;
  line text;
  used bool;
BEGIN
  FOR s IN SELECT * FROM statement WHERE method <> 'again' AND kind NOT IN ('whole function', 'facets') AND position = 1 LOOP
    used := false;
    FOR line IN EXECUTE 'EXPLAIN ' || s.statement LOOP
      used := used OR line ~ CASE s.method WHEN 'pgopt' THEN 'Index Scan using legislative_documents_search_idx'
                                           WHEN 'gin' THEN 'Bitmap Index Scan on peer_gin_tsv_idx'
                                           ELSE 'Index Scan (using|on) peer_rum_tsv_idx' END;
    END LOOP;
    IF NOT used THEN
      INSERT INTO plan_note VALUES (format('%s does not use its index for "%s", %s', s.method, s.class, s.kind));
    END IF;
  END LOOP;
END
$$;
