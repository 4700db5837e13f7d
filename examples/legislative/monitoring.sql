-- Plain views for looking after the database.
--
--     psql -d legislative -f monitoring.sql
--
-- v_slow_queries needs shared_preload_libraries = 'pg_stat_statements' to have rows; the others need nothing.

\set ON_ERROR_STOP on
SET client_min_messages = warning;

CREATE EXTENSION IF NOT EXISTS pg_stat_statements;

-- Statements of this database that take more than a second on average.
CREATE OR REPLACE VIEW v_slow_queries AS
SELECT s.query,
       s.calls,
       round(s.mean_exec_time::numeric, 1) AS mean_ms,
       round(s.max_exec_time::numeric, 1) AS max_ms,
       round(s.total_exec_time::numeric, 1) AS total_ms,
       s.rows,
       round(100.0 * s.shared_blks_hit / nullif(s.shared_blks_hit + s.shared_blks_read, 0), 1) AS hit_percent
  FROM pg_stat_statements AS s
 WHERE s.dbid = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
   AND s.mean_exec_time > 1000
 ORDER BY s.mean_exec_time DESC;

COMMENT ON VIEW v_slow_queries IS 'statements with a mean execution time over 1 s';

-- How often each index is used: unused (never), rarely_used (fewer than 10 scans), active.
CREATE OR REPLACE VIEW v_index_usage AS
SELECT schemaname AS schema_name,
       relname AS table_name,
       indexrelname AS index_name,
       idx_scan AS scans,
       idx_tup_read AS rows_read,
       pg_relation_size(indexrelid) AS index_bytes,
       pg_size_pretty(pg_relation_size(indexrelid)) AS index_size,
       CASE WHEN idx_scan = 0 THEN 'unused'
            WHEN idx_scan < 10 THEN 'rarely_used'
            ELSE 'active'
       END AS usage
  FROM pg_stat_user_indexes
 ORDER BY idx_scan, pg_relation_size(indexrelid) DESC;

COMMENT ON VIEW v_index_usage IS 'scans of each index since the statistics were reset: unused, rarely_used or active';

-- What takes the space: tables and materialized views with their indexes.
CREATE OR REPLACE VIEW v_table_sizes AS
SELECT n.nspname AS schema_name,
       c.relname AS table_name,
       CASE c.relkind WHEN 'm' THEN 'materialized view' ELSE 'table' END AS kind,
       greatest(c.reltuples, 0)::bigint AS estimated_rows,
       pg_total_relation_size(c.oid) AS total_bytes,
       pg_size_pretty(pg_total_relation_size(c.oid)) AS total_size,
       pg_size_pretty(pg_table_size(c.oid)) AS table_size,
       pg_size_pretty(pg_indexes_size(c.oid)) AS index_size
  FROM pg_class AS c
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm')
   AND n.nspname NOT IN ('pg_catalog', 'information_schema')
   AND n.nspname NOT LIKE 'pg\_toast%'
   AND n.nspname NOT LIKE 'pg\_temp%'
 ORDER BY pg_total_relation_size(c.oid) DESC;

COMMENT ON VIEW v_table_sizes IS 'size of each table and materialized view, with its indexes';
