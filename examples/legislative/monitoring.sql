-- Plain views for looking after the database, under the names that the monitor's users know. They are parts of pgopt's
-- own (pgopt_slow_queries(), pgopt_index_usage, pgopt_table_sizes), which have more columns; for members of pg_monitor.
--
--     psql -d legislative -f monitoring.sql
--     psql -d legislative -v slow='200 milliseconds' -f monitoring.sql
--
-- v_slow_queries needs shared_preload_libraries = 'pgopt, pg_stat_statements'; the others need nothing.

\set ON_ERROR_STOP on
SET client_min_messages = warning;

\if :{?slow}
\else
\set slow '1 second'
\endif

CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
CREATE EXTENSION IF NOT EXISTS pgopt;

-- Statements of this database that take a second or more on average.
CREATE OR REPLACE VIEW v_slow_queries AS
SELECT query, calls, mean_ms, max_ms, total_ms, rows, hit_percent
  FROM pgopt_slow_queries(min_mean => :'slow', max_rows => NULL)
 ORDER BY mean_ms DESC;

COMMENT ON VIEW v_slow_queries IS 'statements that are slow on average: 1 s or more, unless it was made with another limit';

-- How often each index is used: unused (never), rarely_used (fewer than 10 scans), active.
CREATE OR REPLACE VIEW v_index_usage AS
SELECT schema_name, table_name, index_name, scans, rows_read, index_bytes, index_size, usage
  FROM pgopt_index_usage
 ORDER BY scans, index_bytes DESC;

COMMENT ON VIEW v_index_usage IS 'scans of each index since the statistics were reset: unused, rarely_used or active';

-- What takes the space: tables and materialized views with their indexes.
CREATE OR REPLACE VIEW v_table_sizes AS
SELECT schema_name, table_name, kind, estimated_rows, total_bytes, total_size, table_size, index_size
  FROM pgopt_table_sizes
 ORDER BY total_bytes DESC;

COMMENT ON VIEW v_table_sizes IS 'size of each table and materialized view, with its indexes';
