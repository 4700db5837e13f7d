-- The report of bench/search.sh.

CREATE TEMP VIEW once AS  -- one number for each query, method and round
SELECT kind, class, position, method, round, percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) AS ms, min(rows) AS rows
  FROM measured GROUP BY 1, 2, 3, 4, 5;
CREATE TEMP VIEW compared AS
SELECT o.*, o.ms / p.ms AS times
  FROM once AS o JOIN once AS p USING (kind, class, position, round) WHERE p.method = 'pgopt';
CREATE TEMP VIEW summary AS
SELECT (SELECT min(kind_order) FROM statement AS s WHERE s.kind = c.kind) AS kind_order, kind, class,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) FILTER (WHERE method = 'pgopt') AS pgopt,
       max(ms) FILTER (WHERE method = 'pgopt') AS slowest,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) FILTER (WHERE method = 'gin') AS gin,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) FILTER (WHERE method = 'rum') AS rum,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY times) FILTER (WHERE method = 'again') AS again,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY times) FILTER (WHERE method = 'gin') AS gin_times,
       min(times) FILTER (WHERE method = 'gin') AS gin_low, max(times) FILTER (WHERE method = 'gin') AS gin_high,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY times) FILTER (WHERE method = 'rum') AS rum_times,
       min(times) FILTER (WHERE method = 'rum') AS rum_low, max(times) FILTER (WHERE method = 'rum') AS rum_high
  FROM compared AS c
 GROUP BY kind, class;

\echo
\echo milliseconds at the median, and how many times those of pgopt the others take (lowest and highest of all rounds):
SELECT kind, class, round(pgopt::numeric, 2) AS pgopt, round(slowest::numeric, 2) AS "its slowest",
       round(again::numeric, 2) AS "again/pgopt", round(gin::numeric, 1) AS gin, round(rum::numeric, 1) AS rum,
       format('%s (%s to %s)', round(gin_times::numeric, 1), round(gin_low::numeric, 1), round(gin_high::numeric, 1)) AS "gin/pgopt",
       CASE WHEN rum_times IS NOT NULL THEN format('%s (%s to %s)', round(rum_times::numeric, 1), round(rum_low::numeric, 1), round(rum_high::numeric, 1)) END AS "rum/pgopt"
  FROM summary ORDER BY kind_order, length(class) > 8 DESC, class COLLATE "C";

\echo what is wanted:
WITH wanted AS (
    SELECT 1 AS place, 'GIN, single words from 10 % on' AS what, '>= 100' AS wanted, min(gin_times) AS worst, min(gin_times) >= 100 AS met
      FROM summary WHERE kind = 'top 50' AND class IN ('1 word, 10 %', '1 word, 30 %', '1 word, 49 %')
    UNION ALL
    SELECT 2, 'RUM, single words from 10 % on', '>= 10', min(rum_times), min(rum_times) >= 10
      FROM summary WHERE kind = 'top 50' AND class IN ('1 word, 10 %', '1 word, 30 %', '1 word, 49 %')
    UNION ALL
    SELECT 3, 'RUM, several words', '>= 25', min(rum_times), min(rum_times) >= 25
      FROM summary WHERE kind = 'top 50' AND class LIKE '% words'
    UNION ALL
    SELECT 4, 'RUM, single words of 1 %', '>= 1', min(rum_times), min(rum_times) >= 1
      FROM summary WHERE kind = 'top 50' AND class = '1 word, 1 %'
    UNION ALL
    SELECT 5, 'narrow filter against none (query by query, highest)', '<= 2', max(times), max(times) <= 2
      FROM (SELECT f.class, percentile_cont(0.5) WITHIN GROUP (ORDER BY f.ms / p.ms) AS times
              FROM once AS f JOIN once AS p USING (class, position, round, method)
             WHERE f.kind = 'narrow filter' AND p.kind = 'top 50' AND method = 'pgopt' GROUP BY f.class) AS filtered
    UNION ALL
    SELECT 6, 'whole function with 50 headlines, ms at the median (highest of all classes)', '< 40', max(pgopt), max(pgopt) < 40
      FROM summary WHERE kind = 'whole function')
SELECT what, wanted, round(worst::numeric, 2) AS measured, CASE WHEN met THEN 'yes' WHEN NOT met THEN 'NO' END AS met
  FROM wanted ORDER BY place;
SELECT format('%s of %s statements did not return 50 rows: %s', count(*), (SELECT count(*) FROM statement), string_agg(format('%s %s #%s %s %s', kind, class, position, method, rows), ', '))
       AS "note"
  FROM (SELECT DISTINCT kind, class, position, method, rows FROM once WHERE rows <> 50 AND method <> 'again' AND kind <> 'facets') AS few
HAVING count(*) > 0;
