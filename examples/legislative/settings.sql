-- Session defaults of the application, set once for the database.
--
--     psql -d legislative -f settings.sql
--
-- They hold from the next connection on.

\set ON_ERROR_STOP on

SELECT format('ALTER DATABASE %I SET %s = %L', current_database(), name, value)
  FROM (VALUES ('timezone', 'America/Sao_Paulo'),
               ('default_text_search_config', 'pg_catalog.portuguese'),
               ('datestyle', 'ISO, DMY')) AS defaults (name, value)
\gexec
