-- The tables that the benchmarks of the advisor print; read after bench.price() and bench.measure().
-- :small = a condition on the statement's name: the costs and times of those are summed.

\pset null ''
\echo
\echo 'Configurations. Ratios are to no indexes at all, of sums over all calls; "of each" is the geometric mean of the statements'' own ratios.'
WITH cost AS (
    SELECT k.configuration, sum(s.calls * k.cost) / sum(s.calls * n.cost) AS ratio, exp(avg(ln(k.cost / n.cost))) AS of_each,
           count(*) FILTER (WHERE k.cost < 0.98 * n.cost) AS better
      FROM bench.cost AS k JOIN bench.cost AS n USING (name) JOIN bench.statement AS s USING (name)
     WHERE n.configuration = 'none' AND (:small) GROUP BY k.configuration
), every AS (
    SELECT k.configuration, sum(s.calls * k.cost) / sum(s.calls * n.cost) AS ratio
      FROM bench.cost AS k JOIN bench.cost AS n USING (name) JOIN bench.statement AS s USING (name) WHERE n.configuration = 'none' GROUP BY k.configuration
), took AS (
    SELECT t.configuration, sum(s.calls * t.ms) / sum(s.calls * n.ms) AS ratio, exp(avg(ln(t.ms / n.ms))) AS of_each
      FROM bench.time AS t JOIN bench.time AS n USING (name) JOIN bench.statement AS s USING (name) WHERE n.configuration = 'none' GROUP BY t.configuration
), built AS (
    SELECT configuration, count(*) AS indexes, sum(pg_relation_size(index)) AS bytes, sum(predicted) AS predicted
      FROM bench.advice GROUP BY configuration
)
SELECT c.name AS configuration, c.author AS by, indexes, round((budget / 1048576)::numeric) AS "budget MB",
       round(bytes / 1048576, 1) AS "built MB", round((predicted / 1048576)::numeric, 1) AS "foreseen MB",
       round(cost.ratio::numeric, 4) AS cost, round(every.ratio::numeric, 4) AS "cost of all", round(cost.of_each::numeric, 3) AS "of each",
       better, round(took.ratio::numeric, 3) AS "run time", round(took.of_each::numeric, 3) AS "of each ",
       round(cpu_ms::numeric) AS "CPU ms", round(ms::numeric) AS "ms"
  FROM (SELECT * FROM bench.configuration UNION ALL VALUES ('again', '', NULL::float8, NULL::float8, NULL::float8, 0)) AS c
  LEFT JOIN cost ON cost.configuration = c.name LEFT JOIN every ON every.configuration = c.name
  LEFT JOIN took ON took.configuration = c.name LEFT JOIN built ON built.configuration = c.name
 ORDER BY position;

\echo 'Sizes: what was foreseen of each index, against the bytes as built'
WITH size AS (
    SELECT DISTINCT ON (c.author, bench.nameless(ddl)) regexp_replace(c.author, ',.*', '') AS author, predicted / pg_relation_size(index) - 1 AS error
      FROM bench.advice JOIN bench.configuration AS c ON c.name = configuration
     WHERE predicted IS NOT NULL AND index IS NOT NULL
)
SELECT author AS by, count(*) AS indexes, round(100 * percentile_cont(0.5) WITHIN GROUP (ORDER BY abs(error))::numeric, 1) AS "median error %",
       round(100 * min(error)::numeric, 1) AS "lowest", round(100 * max(error)::numeric, 1) AS "highest"
  FROM size GROUP BY author ORDER BY author;
SELECT DISTINCT ON (abs(predicted / pg_relation_size(index) - 1), bench.nameless(ddl)) bench.nameless(ddl) AS "worst foreseen", predicted::bigint,
       pg_relation_size(index) AS built, round(100 * (predicted / pg_relation_size(index) - 1)::numeric, 1) AS "error %"
  FROM bench.advice JOIN bench.configuration AS c ON c.name = configuration
 WHERE author = 'pgopt' AND index IS NOT NULL ORDER BY abs(predicted / pg_relation_size(index) - 1) DESC, bench.nameless(ddl) LIMIT 5;

\echo 'What pgopt_whatif() said that statements would cost, against EXPLAIN with the indexes built'
SELECT configuration, count(*) AS statements, count(*) FILTER (WHERE abs(f.cost / k.cost - 1) > 0.03) AS "off by over 3 %",
       round(100 * (sum(f.cost) / sum(k.cost) - 1)::numeric, 2) AS "sum, error %",
       round(100 * percentile_cont(0.5) WITHIN GROUP (ORDER BY abs(f.cost / k.cost - 1))::numeric, 2) AS "median error %",
       (array_agg(format('%s %s %%', name, round(100 * (f.cost / k.cost - 1)::numeric, 1)) ORDER BY abs(f.cost / k.cost - 1) DESC))[1] AS worst
  FROM bench.cost_foreseen AS f JOIN bench.cost AS k USING (configuration, name)
 GROUP BY configuration ORDER BY configuration;

\echo 'What was advised'
SELECT configuration, place, bench.nameless(ddl) AS index, round((predicted / 1048576)::numeric, 1) AS "foreseen MB",
       round(pg_relation_size(index) / 1048576.0, 1) AS "built MB", priority
  FROM bench.advice JOIN bench.configuration AS c ON c.name = configuration ORDER BY position, place;

\echo 'Statement by statement: the share of the cost without indexes, and what is left of it; then of the time'
SELECT n.name, round((100 * s.calls * n.cost / sum(s.calls * n.cost) OVER ())::numeric, 2) AS "% of all",
       (SELECT string_agg(format('%s %s', k.configuration, round((k.cost / n.cost)::numeric, 3)), ', ' ORDER BY k.configuration)
          FROM bench.cost AS k JOIN bench.configuration AS c ON c.name = k.configuration
         WHERE k.name = n.name AND c.author = 'pgopt' AND k.cost < 0.995 * n.cost) AS "cost of it",
       (SELECT round(ms::numeric) FROM bench.time AS t WHERE t.name = n.name AND t.configuration = 'none') AS "ms",
       (SELECT string_agg(format('%s %s', t.configuration, round((t.ms / t0.ms)::numeric, 3)), ', ' ORDER BY t.configuration)
          FROM bench.time AS t JOIN bench.time AS t0 ON t0.name = t.name AND t0.configuration = 'none'
         WHERE t.name = n.name AND t.configuration <> 'none') AS "time of it"
  FROM bench.cost AS n JOIN bench.statement AS s USING (name) WHERE n.configuration = 'none' ORDER BY n.name;
