-- The report of bench/incremental.sh, of what it measured, on standard input: round, size, way, view, milliseconds, mode.

SET client_min_messages = warning;
CREATE TEMP TABLE measured (n int GENERATED ALWAYS AS IDENTITY, round int, size text, way text, view text, ms float8, mode text);
\copy measured (round, size, way, view, ms, mode) FROM pstdin
DELETE FROM measured WHERE round = 0;

CREATE TEMP VIEW once AS -- one number for each round
SELECT round, size, min(n) AS place, view, way, percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) AS ms
  FROM measured GROUP BY round, size, view, way;
CREATE TEMP VIEW compared AS
SELECT o.*, p.ms AS plain, p.ms / o.ms AS times FROM once AS o JOIN once AS p USING (round, size, view) WHERE p.way = 'plain';
CREATE TEMP VIEW again AS -- the second plain refresh of a round against the first
SELECT round, size, view, max(ms) FILTER (WHERE nth = 2) / max(ms) FILTER (WHERE nth = 1) AS ratio
  FROM (SELECT *, row_number() OVER (PARTITION BY round, size, view ORDER BY n) AS nth FROM measured WHERE way = 'plain') AS p
 GROUP BY 1, 2, 3;
CREATE TEMP VIEW summary AS
SELECT size, view, way, min(place) AS place, percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) AS ms,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY plain) AS plain,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY times) AS times, min(times) AS low, max(times) AS high
  FROM compared GROUP BY size, view, way;

CREATE FUNCTION pg_temp.short(x float8) RETURNS numeric LANGUAGE sql
AS $$ SELECT CASE WHEN x >= 100 THEN round(x::numeric) WHEN x >= 10 THEN round(x::numeric, 1) ELSE round(x::numeric, 2) END $$;

\echo milliseconds (medians), and ratios as median, lowest and highest of the rounds:
SELECT size AS "rows changed", upper(view) AS view, pg_temp.short(p.ms) AS plain,
       (SELECT format('%s to %s', pg_temp.short(min(ratio)), pg_temp.short(max(ratio))) FROM again AS a WHERE a.size = p.size AND a.view = p.view) AS "plain again/plain",
       pg_temp.short(n.ms) AS never, pg_temp.short(l.ms) AS always,
       CASE WHEN l.ms IS NOT NULL THEN format('%s (%s to %s)', pg_temp.short(l.times), pg_temp.short(l.low), pg_temp.short(l.high)) END AS "plain/always",
       pg_temp.short(u.ms) AS auto,
       CASE WHEN u.ms IS NOT NULL THEN format('%s (%s to %s)', pg_temp.short(1 / u.times), pg_temp.short(1 / u.high), pg_temp.short(1 / u.low)) END AS "auto/plain",
       (SELECT string_agg(format('%s %s', count, mode), ', ')
          FROM (SELECT mode, count(*) FROM measured AS m WHERE m.size = p.size AND m.view = p.view AND way = 'auto' GROUP BY mode) AS modes) AS "auto was"
  FROM summary AS p
  LEFT JOIN (SELECT * FROM summary WHERE way = 'never') AS n USING (size, view)
  LEFT JOIN (SELECT * FROM summary WHERE way = 'always') AS l USING (size, view)
  LEFT JOIN (SELECT * FROM summary WHERE way = 'auto') AS u USING (size, view)
 WHERE p.way = 'plain'
 ORDER BY (SELECT min(place) FROM summary AS s WHERE s.size = p.size), view;

\echo what is wanted:
WITH wanted (place, size, view, least) AS (
  VALUES (1, '10', 'a', 500), (2, '10', 'b', 200), (3, '10', 'c', 500), (4, '0.1%', 'a', 100), (5, '0.1%', 'b', 20), (6, '0.1%', 'c', 300),
         (7, '1%', 'a', 80), (8, '1%', 'b', 8), (9, '1%', 'c', 80))
SELECT format('%s, %s rows: plain/always', upper(view), size) AS what, '>= ' || least AS wanted, pg_temp.short(times) AS measured,
       CASE WHEN times >= least THEN 'yes' ELSE 'NO' END AS met
  FROM (SELECT w.place, w.size, w.view, least, times FROM wanted AS w JOIN summary AS s USING (size, view) WHERE way = 'always'
        ) AS of_always
 UNION ALL
SELECT format('%s, any size: auto/plain (worst: %s)', upper(view), size), '<= 1.15', pg_temp.short(1 / times), CASE WHEN 1 / times <= 1.15 THEN 'yes' ELSE 'NO' END
  FROM (SELECT DISTINCT ON (view) view, size, times FROM summary WHERE way = 'auto' ORDER BY view, times) AS of_auto;
