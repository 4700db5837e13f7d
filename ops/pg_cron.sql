-- Refreshes what is due once a minute through pg_cron, where pgopt's own workers may not
-- (pgopt.auto_refresh = off).
--
--     psql -d DATABASE -f ops/pg_cron.sql
--
-- DATABASE is the one that cron.database_name names; who runs this must own the managed views.
-- Can be run again: the job is replaced.

\set ON_ERROR_STOP on

SELECT cron.schedule('pgopt', '* * * * *', 'SELECT pgopt_refresh_due()');
