--
-- DDL that may change what expressions yield makes all that was counted unknown; DDL that cannot does not.
--
\getenv abs_srcdir PG_ABS_SRCDIR
\set set_setting :abs_srcdir '/sql/include/set.psql'
\set setting pgopt.auto_refresh
\set value off
\i :set_setting
SET client_min_messages = warning;
-- a database of its own: what was not known before in another test is known here
CREATE DATABASE pgopt_contents;
\set home :DBNAME
\c pgopt_contents
SET client_min_messages = warning; CREATE EXTENSION IF NOT EXISTS pgopt; RESET client_min_messages;
CREATE SCHEMA contents;
SET search_path = contents, public;

CREATE TABLE bill (id int, summary text);
INSERT INTO bill VALUES (1, 'As leis das eleições');
CREATE TEXT SEARCH CONFIGURATION old_config (COPY = simple);
CREATE TEXT SEARCH DICTIONARY old_dictionary (TEMPLATE = simple);
CREATE FUNCTION lexemes(text) RETURNS tsvector LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN to_tsvector('contents.old_config', $1); END $$;
CREATE MATERIALIZED VIEW by_constant AS SELECT id, to_tsvector('old_config', summary) AS words FROM bill;
CREATE MATERIALIZED VIEW by_name AS SELECT id, lexemes(summary) AS words FROM bill;
SET client_min_messages = warning;
SELECT pgopt_manage('by_constant', 'manual'), pgopt_manage('by_name', 'manual');
CREATE FUNCTION refresh() RETURNS void LANGUAGE sql AS $$ SELECT FROM pgopt_refresh_all() $$;
-- known: no change was lost; the rest: which views are called fresh
CREATE FUNCTION look(OUT known boolean, OUT by_constant boolean, OUT by_name boolean) LANGUAGE sql AS $$
	SELECT c.pending_changes IS NOT NULL, c.fresh, n.fresh
	  FROM pgopt_matviews c, pgopt_matviews n
	 WHERE c.view = 'by_constant'::regclass AND n.view = 'by_name'::regclass
$$;
-- runs statements in one transaction, and says what they left known and fresh
CREATE PROCEDURE try(statements text) LANGUAGE plpgsql AS $$
DECLARE
	seen record;
BEGIN
	PERFORM refresh();
	COMMIT;
	EXECUTE statements;
	COMMIT;
	SELECT * INTO seen FROM look();
	RAISE INFO 'known: %, by_constant: %, by_name: %', seen.known, seen.by_constant, seen.by_name;
END $$;
CALL try('SELECT 1');

--
-- What is new changes nothing that was there before; but a function may find it by name
--
CALL try('CREATE TEXT SEARCH CONFIGURATION new_config (COPY = old_config)');
CALL try('CREATE TEXT SEARCH DICTIONARY new_dictionary (TEMPLATE = simple)');
CALL try('CREATE TEXT SEARCH CONFIGURATION mapped (PARSER = "default");
	ALTER TEXT SEARCH CONFIGURATION mapped ADD MAPPING FOR word WITH simple, new_dictionary;
	ALTER TEXT SEARCH CONFIGURATION mapped ALTER MAPPING REPLACE simple WITH old_dictionary;
	ALTER TEXT SEARCH CONFIGURATION mapped DROP MAPPING FOR word');
CALL try('CREATE TEXT SEARCH DICTIONARY passing (TEMPLATE = simple); ALTER TEXT SEARCH DICTIONARY passing (Accept = false); DROP TEXT SEARCH DICTIONARY passing');
CALL try('CREATE OPERATOR ### (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl, COMMUTATOR = ##!);
	CREATE OPERATOR ##! (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl, COMMUTATOR = ###)');
CALL try('CREATE TYPE mood AS ENUM (''sad'', ''ok''); ALTER TYPE mood RENAME VALUE ''sad'' TO ''unhappy''');

--
-- What was there before and says something else changes what expressions yield
--
CALL try('ALTER TEXT SEARCH CONFIGURATION old_config ALTER MAPPING FOR word WITH portuguese_stem');
CALL try('ALTER TEXT SEARCH CONFIGURATION old_config ALTER MAPPING REPLACE portuguese_stem WITH simple');
CALL try('ALTER TEXT SEARCH CONFIGURATION old_config DROP MAPPING FOR email');
CALL try('ALTER TEXT SEARCH CONFIGURATION old_config ADD MAPPING FOR email WITH old_dictionary');
CALL try('ALTER TEXT SEARCH DICTIONARY old_dictionary (Accept = false)');
CALL try('INSERT INTO pg_ts_config_map SELECT mapcfg, maptokentype, 2, mapdict FROM pg_ts_config_map WHERE mapcfg = ''old_config''::regconfig AND maptokentype = 2');
CALL try('ALTER TEXT SEARCH CONFIGURATION new_config RENAME TO newer; ALTER TEXT SEARCH CONFIGURATION newer DROP MAPPING FOR url');
-- with what is new beside it, and whatever was rolled back
CALL try('CREATE TEXT SEARCH CONFIGURATION beside (COPY = simple); ALTER TEXT SEARCH CONFIGURATION old_config DROP MAPPING FOR url');
CALL try($$ DO $do$
BEGIN
	ALTER TEXT SEARCH CONFIGURATION old_config DROP MAPPING FOR word;
	RAISE division_by_zero;
EXCEPTION WHEN division_by_zero THEN
	CREATE TEXT SEARCH CONFIGURATION after_error (COPY = old_config);
END $do$ $$);
CALL try($$ DO $do$
BEGIN
	CREATE TEXT SEARCH CONFIGURATION before_error (COPY = old_config);
	RAISE division_by_zero;
EXCEPTION WHEN division_by_zero THEN
	ALTER TEXT SEARCH CONFIGURATION old_config DROP MAPPING FOR file;
END $do$ $$);
-- what was there before and goes, although nothing is known to use it
CALL try('DROP TEXT SEARCH CONFIGURATION mapped');
CALL try('DROP TEXT SEARCH DICTIONARY new_dictionary');
-- a new dictionary may be the one that a thesaurus finds by name
CREATE TEXT SEARCH DICTIONARY thesaurus (TEMPLATE = thesaurus, DictFile = thesaurus_sample, Dictionary = simple);
CALL try('CREATE TEXT SEARCH DICTIONARY contents.simple (TEMPLATE = pg_catalog.simple, Accept = false)');
DROP TEXT SEARCH DICTIONARY thesaurus;
-- labels and operators
CALL try('ALTER TYPE mood RENAME VALUE ''ok'' TO ''fine''');
CALL try('DROP OPERATOR ### (int, int)');
-- prepared
SELECT refresh();
BEGIN;
CREATE TEXT SEARCH CONFIGURATION in_prepared (COPY = old_config);
PREPARE TRANSACTION 'contents_new';
COMMIT PREPARED 'contents_new';
SELECT * FROM look();
SELECT refresh();
BEGIN;
ALTER TEXT SEARCH CONFIGURATION old_config DROP MAPPING FOR host;
PREPARE TRANSACTION 'contents_old';
SELECT known, by_constant IS TRUE AS by_constant FROM look();
COMMIT PREPARED 'contents_old';
SELECT * FROM look();

--
-- pgopt's own text search objects, operators and the like come and go with it
--
DROP SCHEMA contents CASCADE;
\c :home
DROP DATABASE pgopt_contents;
CREATE DATABASE pgopt_contents;
\c pgopt_contents
SET client_min_messages = warning; CREATE EXTENSION IF NOT EXISTS pgopt; RESET client_min_messages;
SET client_min_messages = warning;
CREATE TABLE bill (id int);
CREATE MATERIALIZED VIEW bills AS SELECT count(*) FROM bill;
-- from here on the database is looked after
SELECT pgopt_manage('bills', 'manual');
INSERT INTO bill VALUES (1);
SELECT relation, inserted, known FROM pgopt_table_changes WHERE relation = 'bill'::regclass;
-- another extension, made of functions
DROP EXTENSION plpgsql;
CREATE EXTENSION plpgsql;
SELECT relation, inserted, known FROM pgopt_table_changes WHERE relation = 'bill'::regclass;
DROP EXTENSION pgopt;
CREATE EXTENSION pgopt;
SELECT pgopt_manage('bills', 'manual');
INSERT INTO bill VALUES (2);
SELECT relation, known FROM pgopt_table_changes WHERE relation = 'bill'::regclass;
SELECT severity, object FROM pgopt_findings() WHERE check_id = 'pgopt_unknown_changes';
-- with what uses them
CREATE TEXT SEARCH CONFIGURATION user_config (COPY = pgopt_portuguese);
DROP EXTENSION pgopt CASCADE;
CREATE EXTENSION pgopt;
SELECT pgopt_manage('bills', 'manual');
SELECT relation, known FROM pgopt_table_changes WHERE relation = 'bill'::regclass;
SELECT severity, object FROM pgopt_findings() WHERE check_id = 'pgopt_unknown_changes';

\c :home
DROP DATABASE pgopt_contents;
ALTER SYSTEM RESET pgopt.auto_refresh;
SELECT pg_reload_conf();
