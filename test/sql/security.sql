--
-- Who may do what, and that nobody else's objects get in the way.
--
\getenv abs_srcdir PG_ABS_SRCDIR
\set set_setting :abs_srcdir '/sql/include/set.psql'
\set setting pgopt.auto_refresh
\set value off
\i :set_setting
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgopt;
CREATE ROLE security_ana;
CREATE ROLE security_bia;
CREATE ROLE security_watcher IN ROLE pg_monitor;
CREATE ROLE security_team;
GRANT security_team TO security_bia;
CREATE SCHEMA security;
GRANT ALL ON SCHEMA security TO PUBLIC;
SET search_path = security, public;

SET ROLE security_ana;
CREATE TABLE bill (id int, who text DEFAULT current_user);
INSERT INTO bill VALUES (1, 'Cora');
CREATE FUNCTION only_me() RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN current_user; END';
CREATE MATERIALIZED VIEW of_ana AS SELECT count(*) AS n, only_me() AS ran_as FROM bill;
CREATE MATERIALIZED VIEW second_of_ana AS SELECT n FROM of_ana;
GRANT SELECT ON bill, of_ana TO security_bia, security_team;
SELECT pgopt_manage('of_ana', 'manual'), pgopt_manage('second_of_ana', 'manual');
SET ROLE security_bia;
CREATE TABLE own (id int);
CREATE MATERIALIZED VIEW of_bia AS SELECT n FROM of_ana, own;
CREATE MATERIALIZED VIEW of_team AS SELECT count(*) FROM bill;
ALTER MATERIALIZED VIEW of_team OWNER TO security_team;
SELECT pgopt_manage('of_bia', 'manual'), pgopt_manage('of_team', 'manual');

--
-- Everybody sees their own, and their roles'; pg_monitor sees all
--
SELECT view FROM pgopt_matviews ORDER BY view::text;
SELECT view, relation FROM pgopt_matview_dependencies ORDER BY view::text, relation;
SELECT relation FROM pgopt_table_changes WHERE relation::text IN ('bill', 'own') ORDER BY relation::text;
SELECT count(*) FROM pgopt_refresh_advice() WHERE view = 'of_ana'::regclass;
SET ROLE security_ana;
SELECT view FROM pgopt_matviews ORDER BY view::text;
SELECT relation FROM pgopt_table_changes WHERE relation::text IN ('bill', 'own') ORDER BY relation::text;
SET ROLE security_watcher;
SELECT view FROM pgopt_matviews WHERE view::text ~ '^security|of_' ORDER BY view::text;
SELECT relation FROM pgopt_table_changes WHERE relation::text ~ '(bill|own)$' ORDER BY relation::text;

--
-- Changing a view is its owner's
--
SELECT pgopt_manage('of_ana', 'immediate');
SELECT pgopt_unmanage('of_ana'::regclass);
SELECT pgopt_unmanage('of_ana'::text);
SELECT outcome FROM pgopt_refresh('of_ana');
SELECT view, outcome FROM pgopt_refresh_all();
SELECT view, outcome FROM pgopt_refresh_due();
SET ROLE security_bia;
SELECT pgopt_manage('of_ana', 'immediate');
SELECT pgopt_unmanage('of_ana'::regclass);
SELECT outcome FROM pgopt_refresh('of_ana');
-- what a view of one's own reads is left alone when it is another's
SELECT view, outcome FROM pgopt_refresh('of_bia');
SELECT view, outcome FROM pgopt_refresh_all() ORDER BY view::text;
SET ROLE security_ana;
SELECT view, outcome FROM pgopt_refresh('second_of_ana');
SELECT strategy FROM pgopt_matviews WHERE view = 'of_ana'::regclass;

--
-- pgopt's tables are closed, and so are its inner functions to the curious
--
SELECT count(*) FROM pgopt.matview;
UPDATE pgopt.matview SET priority = 1;
INSERT INTO pgopt.refresh_log (view, view_name, started_at, duration, outcome, source) VALUES (1, 'x', now(), '0', 'failed', 'x');
DELETE FROM pgopt.matview_state;
TRUNCATE pgopt.refresh_log;
SELECT view, count(*) FROM pgopt.matview_status() GROUP BY view ORDER BY view::text;
CREATE TABLE pgopt.mine (id int);
SET pgopt.refresh_lock_timeout = 0;
RESET ROLE;

--
-- A refresh runs as the view's owner, whoever asks for it, and cannot change who that is
--
SELECT view, outcome FROM pgopt_refresh('of_ana');
SELECT ran_as FROM of_ana;
BEGIN;
SELECT outcome FROM pgopt_refresh_all() WHERE view = 'of_ana'::regclass;
COMMIT;
SELECT ran_as FROM of_ana;
-- and by a refresh worker
SELECT outcome FROM pgopt_refresh_all() WHERE view = 'of_ana'::regclass;
SELECT ran_as FROM of_ana;
SELECT current_user = session_user AS still_me;
-- without the right to read any more it fails, and says so
REVOKE SELECT ON bill FROM security_team;
BEGIN;
SELECT view, outcome, message FROM pgopt_refresh_all() WHERE view = 'of_team'::regclass;
COMMIT;
GRANT SELECT ON bill TO security_team;
-- a trap: what a view's query does runs as its owner, and cannot leave anything behind in the session of who asks
SET ROLE security_ana;
CREATE FUNCTION trap() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE 'CREATE TEMP TABLE left_behind (id int)';
	RETURN 1;
EXCEPTION WHEN OTHERS THEN
	RAISE LOG 'security test: %', SQLERRM;
	RETURN -1;
END $$;
CREATE FUNCTION trap_role() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE 'RESET ROLE';
	RETURN current_user;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
CREATE MATERIALIZED VIEW traps AS SELECT trap() AS temp, trap_role() AS role, only_me() AS ran_as WITH NO DATA;
SELECT pgopt_manage('traps', 'manual');
RESET ROLE;
SELECT outcome FROM pgopt_refresh('traps');
SELECT * FROM traps;
SELECT to_regclass('pg_temp.left_behind') AS left_behind, current_user = session_user AS still_me;
CREATE UNIQUE INDEX ON traps (temp);
SELECT outcome, mode FROM pgopt_refresh('traps');
SELECT * FROM traps;
SELECT to_regclass('pg_temp.left_behind') AS left_behind, current_user = session_user AS still_me;

--
-- A hostile search_path: everything that pgopt names could be shadowed here
--
CREATE SCHEMA security_trap;
GRANT ALL ON SCHEMA security_trap TO security_ana;
SET ROLE security_ana;
SET search_path = security_trap, security, public, pg_catalog;
CREATE FUNCTION security_trap.hostile() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped as %', current_user; END $$;
CREATE FUNCTION security_trap.eq(oid, oid) RETURNS boolean LANGUAGE sql AS 'SELECT security_trap.hostile()';
CREATE FUNCTION security_trap.eq(name, name) RETURNS boolean LANGUAGE sql AS 'SELECT security_trap.hostile()';
CREATE FUNCTION security_trap.eq("char", "char") RETURNS boolean LANGUAGE sql AS 'SELECT security_trap.hostile()';
CREATE FUNCTION security_trap.eq(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT security_trap.hostile()';
CREATE FUNCTION security_trap.eq(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT security_trap.hostile()';
CREATE OPERATOR security_trap.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = security_trap.eq);
CREATE OPERATOR security_trap.= (LEFTARG = name, RIGHTARG = name, FUNCTION = security_trap.eq);
CREATE OPERATOR security_trap.= (LEFTARG = "char", RIGHTARG = "char", FUNCTION = security_trap.eq);
CREATE OPERATOR security_trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = security_trap.eq);
CREATE OPERATOR security_trap.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = security_trap.eq);
CREATE FUNCTION security_trap.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS 'BEGIN RAISE ''trapped''; END';
CREATE FUNCTION security_trap.round(numeric, int) RETURNS numeric LANGUAGE plpgsql AS 'BEGIN RAISE ''trapped''; END';
CREATE FUNCTION security_trap.to_jsonb(anyelement) RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN RAISE ''trapped''; END';
CREATE FUNCTION security_trap.exp(float8) RETURNS float8 LANGUAGE plpgsql AS 'BEGIN RAISE ''trapped''; END';
CREATE FUNCTION security_trap.power(float8, float8) RETURNS float8 LANGUAGE plpgsql AS 'BEGIN RAISE ''trapped''; END';
CREATE FUNCTION security_trap.pg_has_role(oid, name, text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''trapped''; END';
CREATE TABLE security_trap.pg_class (oid oid, relname name, relkind "char", relnamespace oid, relowner oid, relispopulated boolean);
CREATE TABLE security_trap.pg_namespace (oid oid, nspname name);
CREATE TABLE security_trap.matview (view oid);
CREATE TABLE security_trap.refresh_log (id int);
-- nothing is trapped, by its owner, by another owner, or by a superuser
SELECT public.pgopt_manage('of_ana', 'smart');
SELECT outcome FROM public.pgopt_refresh('of_ana');
INSERT INTO bill VALUES (2);
SELECT outcome FROM public.pgopt_refresh_due();
SELECT count(*) FROM public.pgopt_matviews;
SELECT count(*) > 0 AS rows FROM public.pgopt_matview_dependencies;
SELECT count(*) > 0 AS rows FROM public.pgopt_table_changes;
SELECT status IS NOT NULL AS answers FROM public.pgopt_health();
SELECT public.pgopt_health_json() IS NOT NULL AS answers;
SELECT count(*) >= 0 AS answers FROM public.pgopt_refresh_advice();
RESET ROLE;
SELECT public.pgopt_manage('security.of_bia', 'threshold');
SELECT count(*) FROM public.pgopt_refresh_all();
SELECT count(*) FROM public.pgopt_matviews;
SELECT status IS NOT NULL AS answers FROM public.pgopt_health();
SELECT count(*) >= 0 AS answers FROM public.pgopt_refresh_advice();
SELECT public.pgopt_unmanage('security.of_bia'::regclass);
SELECT public.pgopt_unmanage('security.of_team'::text);
SET search_path = security, public;
DROP SCHEMA security_trap CASCADE;

DROP SCHEMA security CASCADE;
DROP EXTENSION pgopt;
DROP OWNED BY security_ana, security_bia, security_watcher, security_team;
DROP ROLE security_ana, security_bia, security_watcher, security_team;
ALTER SYSTEM RESET pgopt.auto_refresh;
SELECT pg_reload_conf();
