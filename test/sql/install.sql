--
-- What CREATE EXTENSION makes, who may use it, and that it goes away again.
--
CREATE EXTENSION IF NOT EXISTS pgopt;

SELECT extversion = pgopt_version() AS library_fits FROM pg_extension WHERE extname = 'pgopt';

CREATE VIEW install_objects AS
	SELECT d.classid, d.objid, d.classid::regclass::text AS catalog,
	       CASE d.classid WHEN 'pg_proc'::regclass THEN d.objid::regprocedure::text
	                      WHEN 'pg_class'::regclass THEN d.objid::regclass::text
	                      ELSE pg_describe_object(d.classid, d.objid, 0) END AS object
	  FROM pg_depend d JOIN pg_extension e ON d.refobjid = e.oid
	 WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'pgopt'
	   AND d.classid <> 'pg_type'::regclass;

-- what users call
SELECT object FROM install_objects WHERE catalog IN ('pg_proc', 'pg_class') AND object !~ '^pgopt\.' ORDER BY catalog, object;

-- what they need not know
SELECT object FROM install_objects WHERE NOT (catalog IN ('pg_proc', 'pg_class') AND object !~ '^pgopt\.') ORDER BY catalog, object;

-- the columns that users were promised
\pset format unaligned
SELECT table_name, string_agg(column_name, ', ' ORDER BY ordinal_position) AS columns
  FROM information_schema.columns
 WHERE table_name IN ('pgopt_matviews', 'pgopt_matview_dependencies', 'pgopt_table_changes')
    OR (table_schema = 'pgopt' AND table_name = 'refresh_log')
 GROUP BY table_name ORDER BY table_name;
\pset format aligned

--
-- Everything says what it is: no rows
--
SELECT catalog, object FROM install_objects
 WHERE objid NOT IN (SELECT objoid FROM pg_description WHERE objsubid = 0 AND classoid = install_objects.classid)
   AND NOT EXISTS (SELECT FROM pg_class WHERE oid = objid AND relkind IN ('i', 'S'))
 ORDER BY catalog, object;

-- columns of the status view that do not speak for themselves
SELECT attname FROM pg_attribute a
 WHERE attrelid = 'pgopt_matviews'::regclass AND col_description(attrelid, attnum) IS NOT NULL
 ORDER BY attnum;

-- every setting has a description and a range or unit where it is a number
SELECT name, boot_val, unit, vartype, context
  FROM pg_settings WHERE name LIKE 'pgopt.%' AND context <> 'user' ORDER BY name;
-- those that anybody may set for a session are thresholds of health checks
SELECT count(*) > 0 AS some, count(*) FILTER (WHERE short_desc !~ '^[A-Z].*\.$' OR vartype <> 'integer') AS not_described
  FROM pg_settings WHERE name LIKE 'pgopt.%' AND context = 'user';
-- the prefix is ours
SET pgopt.no_such_setting = 1;

--
-- Privileges
--
CREATE ROLE install_nobody;
CREATE ROLE install_monitor IN ROLE pg_monitor;

-- nobody but their owner writes pgopt's tables, and only pg_monitor reads them: no rows
SELECT c.relname, r.rolname, p.privilege
  FROM pg_class c, pg_roles r,
       unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) p (privilege)
 WHERE c.relnamespace = 'pgopt'::regnamespace AND c.relkind IN ('r', 'v', 'm')
   AND r.rolname IN ('install_nobody', 'install_monitor', 'pg_monitor')
   AND has_table_privilege(r.rolname, c.oid, p.privilege)
   AND NOT (r.rolname <> 'install_nobody' AND p.privilege = 'SELECT')
 ORDER BY 1, 2, 3;
SELECT c.relname FROM pg_class c
 WHERE c.relnamespace = 'pgopt'::regnamespace AND c.relkind = 'r' AND has_table_privilege('pg_monitor', c.oid, 'SELECT')
 ORDER BY 1;
SELECT has_sequence_privilege('install_nobody', 'pgopt.refresh_log_id_seq', 'USAGE, UPDATE') AS may_use_sequence;
-- the users' views are open: each shows what its reader may see
SELECT c.relname, array_agg(p.privilege ORDER BY p.privilege) AS to_everybody
  FROM pg_class c, unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) p (privilege)
 WHERE c.relname LIKE 'pgopt\_%' AND c.relkind = 'v' AND has_table_privilege('install_nobody', c.oid, p.privilege)
 GROUP BY c.relname ORDER BY c.relname;
-- no function runs with its owner's rights, and none takes a search_path from its caller into SQL of its own
SELECT object FROM install_objects JOIN pg_proc ON oid = objid WHERE prosecdef;
SELECT object FROM install_objects JOIN pg_proc ON oid = objid JOIN pg_language l ON l.oid = prolang
 WHERE lanname NOT IN ('c', 'internal') AND prosqlbody IS NULL;
-- the schema cannot be filled by others
SELECT has_schema_privilege('install_nobody', 'pgopt', 'CREATE') AS may_create,
       has_schema_privilege('install_nobody', 'pgopt', 'USAGE') AS may_use;
SET ROLE install_nobody;
INSERT INTO pgopt.matview (view, schema_name, view_name, strategy, refresh_interval, threshold_changes, priority, managed_by)
	VALUES ('pg_class'::regclass, 'a', 'b', 'manual', '1 hour', 1, 1, 'c');
DELETE FROM pgopt.refresh_log;
SELECT count(*) FROM pgopt.matview_state;
SELECT count(*) FROM pgopt_matviews;
SELECT count(*) FROM pgopt_matview_dependencies;
SELECT count(*) >= 0 AS readable FROM pgopt_table_changes;
RESET ROLE;
SET ROLE install_monitor;
SELECT count(*) FROM pgopt.refresh_log;
DELETE FROM pgopt.refresh_log;
RESET ROLE;

--
-- What users configured is dumped, what pgopt measured is not
--
SELECT c.oid::regclass AS dumped FROM pg_extension, unnest(extconfig) c (oid) WHERE extname = 'pgopt' ORDER BY 1;

--
-- It goes away and comes back, in another schema too
--
DROP VIEW install_objects;
DROP EXTENSION pgopt;
SELECT count(*) FROM pg_namespace WHERE nspname = 'pgopt';
SELECT count(*) FROM pg_proc WHERE proname LIKE 'pgopt%';
CREATE SCHEMA install_elsewhere;
CREATE EXTENSION pgopt SCHEMA install_elsewhere;
SELECT count(*) FROM install_elsewhere.pgopt_matviews;
SELECT status IS NOT NULL AS answers FROM install_elsewhere.pgopt_health();
SELECT count(*) > 0 AS answers FROM install_elsewhere.pgopt_checks();
ALTER EXTENSION pgopt SET SCHEMA public;
DROP EXTENSION pgopt;
DROP SCHEMA install_elsewhere;
-- a schema of that name that is somebody else's is left alone
CREATE SCHEMA pgopt;
\set SHOW_CONTEXT never
CREATE EXTENSION pgopt;
\set SHOW_CONTEXT errors
DROP SCHEMA pgopt;

DROP ROLE install_nobody, install_monitor;
