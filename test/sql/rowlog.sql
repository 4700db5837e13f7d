-- Row logs: which rows of a captured table changed, and what a refresh makes of them.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgopt;
RESET client_min_messages;

-- What the log of a table holds that the one view over it has not read.
CREATE FUNCTION unread(relation regclass, OUT op "char", OUT changes jsonb) RETURNS SETOF record
LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT l.op, jsonb_strip_nulls(to_jsonb(l) - ''xid'' - ''op'') FROM pgopt.log_%s l, pgopt.incremental_state s'
        ' WHERE %s = ANY (s.sources) AND s.valid AND NOT pg_visible_in_snapshot(l.xid, s.frontier)'
        ' ORDER BY l.xid, l.ctid', relation::oid, relation::oid);
END $$;

-- Refreshes a view; says how, and in how many rows it differs from its definition.
CREATE FUNCTION refreshed(view regclass, OUT mode text, OUT differences bigint)
LANGUAGE plpgsql AS $$
DECLARE
    definition text := rtrim(pg_get_viewdef(view), ';');
BEGIN
    SELECT r.mode INTO mode FROM pgopt_refresh(view) r;
    EXECUTE format('SELECT count(*) FROM ((%s EXCEPT ALL TABLE %s) UNION ALL (TABLE %s EXCEPT ALL (%s))) d',
                   definition, view, view, definition) INTO differences;
END $$;

-- Has its tables captured, where they are not.
CREATE FUNCTION managed(view regclass) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    SET LOCAL client_min_messages = warning;
    PERFORM pgopt_manage(view, strategy => 'manual', incremental => 'always');
    RETURN (SELECT incremental_reason FROM pgopt_matviews m WHERE m.view = managed.view);
END $$;

-- --- what is logged -------------------------------------------------------------------------

CREATE TABLE bill (id int PRIMARY KEY, gone int, state text, votes int, content text, seen timestamptz);
ALTER TABLE bill DROP COLUMN gone;
INSERT INTO bill SELECT i, 'SP', i, NULL FROM generate_series(1, 5) i;
CREATE MATERIALIZED VIEW by_state AS
    SELECT state, count(*), sum(votes), max(length(content)) AS longest FROM bill GROUP BY state;
SELECT managed('by_state');
SELECT relation::regclass, log = ('pgopt.log_' || relation)::regclass AS is_named_so FROM pgopt.row_log;
SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type
  FROM pgopt.row_log l JOIN pg_attribute a ON a.attrelid = l.log AND a.attnum > 0 ORDER BY a.attnum;
SELECT * FROM refreshed('by_state');
SELECT * FROM refreshed('by_state');

-- The trigger is the server's business: \d does not show it, and DISABLE TRIGGER USER leaves it alone.
\d bill
ALTER TABLE bill DISABLE TRIGGER USER;
INSERT INTO bill VALUES (6, 'RJ', 6, 'a text');
ALTER TABLE bill ENABLE TRIGGER USER;
UPDATE bill SET votes = 60 WHERE id = 6;
UPDATE bill SET state = NULL WHERE id = 1;
UPDATE bill SET state = 'MG' WHERE id = 1;
DELETE FROM bill WHERE id = 2;
SELECT * FROM unread('bill');
SELECT * FROM refreshed('by_state');

-- An UPDATE of nothing that a view reads is not logged.
UPDATE bill SET seen = now(), votes = votes, state = state || '';
SELECT * FROM unread('bill');

-- What a transaction rolls back is not read; neither is what it has not done yet.
BEGIN;
UPDATE bill SET votes = 0 WHERE id = 3;
SAVEPOINT a;
UPDATE bill SET votes = 1 WHERE id = 3;
ROLLBACK TO a;
SAVEPOINT b;
UPDATE bill SET votes = 2 WHERE id = 3;
RELEASE b;
COMMIT;
BEGIN;
DELETE FROM bill;
ROLLBACK;
SELECT * FROM unread('bill');
SELECT * FROM refreshed('by_state');

-- A big value that stays as it is is kept once.
UPDATE bill SET content = (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 500) i) WHERE id = 3;
SELECT * FROM refreshed('by_state');
UPDATE bill SET votes = votes + 1 WHERE id = 3;
SELECT op, changes->>'o4' AS votes, changes->>'n4' AS votes, length(changes->>'o5') AS content, changes ? 'n5' AS again
  FROM unread('bill');
UPDATE bill SET content = content || 'x' WHERE id = 3;
UPDATE bill SET content = 'short' WHERE id = 3;
SELECT op, length(changes->>'o5') AS content, length(changes->>'n5') AS content FROM unread('bill');
SELECT * FROM refreshed('by_state');

-- COPY, ON CONFLICT, MERGE, and what replicas write.
COPY bill (id, state, votes) FROM stdin;
10	BA	10
11	BA	11
\.
INSERT INTO bill VALUES (10, 'BA', 100), (12, 'BA', 12)
    ON CONFLICT (id) DO UPDATE SET votes = excluded.votes;
MERGE INTO bill USING (VALUES (11), (13)) v (id) ON v.id = bill.id
    WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id, state) VALUES (v.id, 'CE');
SET session_replication_role = replica;
UPDATE bill SET votes = 13 WHERE id = 13;
RESET session_replication_role;
SELECT * FROM unread('bill');
SELECT * FROM refreshed('by_state');

-- --- what makes a log useless, for one refresh ----------------------------------------------

TRUNCATE bill;
INSERT INTO bill VALUES (1, 'SP', 1);
SELECT * FROM refreshed('by_state');
SELECT * FROM refreshed('by_state');

ALTER TABLE bill DISABLE TRIGGER ALL;
INSERT INTO bill VALUES (2, 'SP', 2);
ALTER TABLE bill ENABLE TRIGGER ALL;
SELECT * FROM refreshed('by_state');
-- It no longer fires for replicas; the worker, or whoever configures the view again, mends that.
SELECT tgenabled FROM pg_trigger WHERE tgrelid = 'bill'::regclass;
SELECT managed('by_state');
SELECT tgenabled FROM pg_trigger WHERE tgrelid = 'bill'::regclass;
SELECT * FROM refreshed('by_state');
INSERT INTO bill VALUES (3, 'SP', 3);
SELECT * FROM refreshed('by_state');

-- Past the limit a (sub)transaction leaves one row that says so, and the view is computed anew.
SET pgopt.incremental_log_limit = '1MB';
BEGIN;
INSERT INTO bill SELECT i, 'SP', i FROM generate_series(100, 30000) i;
SAVEPOINT a;
UPDATE bill SET votes = votes + 1;
RELEASE a;
DELETE FROM bill WHERE id % 2 = 0;
COMMIT;
SELECT op, count(*) > 10000 AS many, count(*) < 3 AS few FROM unread('bill') GROUP BY op ORDER BY op;
SELECT pg_relation_size(log) / 100000 AS size FROM pgopt.row_log WHERE relation = 'bill'::regclass;
SELECT * FROM refreshed('by_state');
RESET pgopt.incremental_log_limit;
INSERT INTO bill VALUES (40000, 'RS', 1);
SELECT * FROM refreshed('by_state');

-- A row whose old and new values do not fit in one.
CREATE TABLE wide (id int, a tsquery, b tsquery);
CREATE MATERIALIZED VIEW widest AS SELECT id, a::text AS a, b::text AS b FROM wide;
SELECT managed('widest');
SELECT * FROM refreshed('widest');
INSERT INTO wide SELECT 1, t, t FROM (SELECT string_agg('a' || i, ' & ')::tsquery FROM generate_series(1, 100) i) q (t);
SELECT * FROM refreshed('widest');
UPDATE wide SET a = replace(a::text, 'a', 'b')::tsquery;
UPDATE wide SET a = 'x', b = 'y';
BEGIN;
INSERT INTO wide SELECT 2, a, b FROM wide;
UPDATE wide SET a = (SELECT string_agg('a' || i, ' & ') FROM generate_series(1, 100) i)::tsquery,
                b = (SELECT string_agg('a' || i, ' & ') FROM generate_series(1, 100) i)::tsquery;
UPDATE wide SET a = replace(a::text, 'a', 'b')::tsquery, b = replace(b::text, 'a', 'b')::tsquery;
SAVEPOINT a;
UPDATE wide SET a = replace(a::text, 'b', 'a')::tsquery, b = replace(b::text, 'b', 'a')::tsquery;
ROLLBACK TO a;
COMMIT;
SELECT op, pg_column_size(changes) > 1000 AS is_big FROM unread('wide');
SELECT * FROM refreshed('widest');
DELETE FROM wide WHERE id = 2;
SELECT * FROM refreshed('widest');

-- --- columns -----------------------------------------------------------------------------------

-- A second view widens the log; the first reads on.
UPDATE bill SET votes = 5 WHERE id = 1;
CREATE MATERIALIZED VIEW latest AS SELECT id, seen FROM bill WHERE id < 10;
SELECT managed('latest');
SELECT * FROM refreshed('latest');
SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type
  FROM pgopt.row_log l JOIN pg_attribute a ON a.attrelid = l.log AND a.attnum > 9
 WHERE l.relation = 'bill'::regclass ORDER BY a.attnum;
UPDATE bill SET seen = '2024-01-01' WHERE id = 1;
SELECT * FROM refreshed('by_state');
SELECT * FROM refreshed('latest');

-- Columns that come and go.
ALTER TABLE bill ADD COLUMN kind text DEFAULT 'PL';
CREATE MATERIALIZED VIEW kinds AS SELECT kind, count(*) FROM bill GROUP BY kind;
SELECT managed('kinds');
SELECT * FROM refreshed('kinds');
UPDATE bill SET kind = 'PEC' WHERE id = 1;
SELECT * FROM refreshed('kinds');
SELECT * FROM kinds ORDER BY kind;
SELECT pgopt_unmanage('latest'::regclass);
DROP MATERIALIZED VIEW latest;
ALTER TABLE bill DROP COLUMN seen;
UPDATE bill SET kind = 'PLP' WHERE id = 1;
SELECT * FROM refreshed('kinds');
SELECT * FROM refreshed('by_state');
UPDATE bill SET kind = 'PLV' WHERE id = 1;
SELECT * FROM refreshed('kinds');

-- A type is not kept by a log that still has it.
CREATE TYPE phase AS ENUM ('open', 'closed');
CREATE DOMAIN positive AS int NOT NULL CHECK (VALUE > 0);
CREATE TABLE session (id positive, phase phase, notes varchar(10));
CREATE MATERIALIZED VIEW sessions AS SELECT * FROM session;
SELECT managed('sessions');
SELECT * FROM refreshed('sessions');
INSERT INTO session VALUES (1, 'open', 'first');
UPDATE session SET phase = 'closed';
SELECT * FROM unread('session');
SELECT * FROM refreshed('sessions');
DROP MATERIALIZED VIEW sessions;
ALTER TABLE session DROP COLUMN phase, ALTER COLUMN notes TYPE int USING 0;
DROP TYPE phase;
INSERT INTO session VALUES (2, 2);
CREATE MATERIALIZED VIEW sessions AS SELECT * FROM session;
SELECT managed('sessions');
SELECT * FROM refreshed('sessions');
INSERT INTO session VALUES (3, 3);
SELECT * FROM refreshed('sessions');
DROP TABLE session CASCADE;

-- --- partitions, foreign keys --------------------------------------------------------------------

CREATE TABLE vote (id int, year int, yes int DEFAULT 1) PARTITION BY RANGE (year);
CREATE TABLE vote_2023 PARTITION OF vote FOR VALUES FROM (2023) TO (2024);
CREATE TABLE vote_2024 (yes int DEFAULT 1, year int, id int);
ALTER TABLE vote ATTACH PARTITION vote_2024 FOR VALUES FROM (2024) TO (2025);
CREATE MATERIALIZED VIEW votes AS SELECT year, sum(yes) FROM vote GROUP BY year;
SELECT managed('votes');
SELECT * FROM refreshed('votes');
SELECT relation::regclass FROM pgopt.row_log WHERE relation::regclass::text LIKE 'vote%' ORDER BY 1;
INSERT INTO vote VALUES (1, 2023), (2, 2023), (3, 2024);
SELECT * FROM refreshed('votes');
UPDATE vote SET year = 2024 WHERE id = 1;
SELECT * FROM unread('vote_2023');
SELECT * FROM unread('vote_2024');
SELECT * FROM refreshed('votes');
CREATE TABLE vote_2025 PARTITION OF vote FOR VALUES FROM (2025) TO (2026);
INSERT INTO vote VALUES (4, 2025);
SELECT managed('votes');
SELECT * FROM refreshed('votes');
UPDATE vote SET yes = 7 WHERE id = 4;
SELECT * FROM refreshed('votes');
ALTER TABLE vote DETACH PARTITION vote_2023;
SELECT * FROM refreshed('votes');
SELECT * FROM votes ORDER BY year;

CREATE TABLE organ (id int PRIMARY KEY);
CREATE TABLE act (organ int REFERENCES organ ON DELETE CASCADE ON UPDATE CASCADE, n int);
INSERT INTO organ VALUES (1), (2), (3);
INSERT INTO act VALUES (1, 1), (2, 2), (3, 3);
CREATE MATERIALIZED VIEW acts AS SELECT organ, sum(n) FROM act GROUP BY organ;
SELECT managed('acts');
SELECT * FROM refreshed('acts');
DELETE FROM organ WHERE id = 1;
UPDATE organ SET id = 20 WHERE id = 2;
SELECT * FROM unread('act');
SELECT * FROM refreshed('acts');

-- A matview over a matview.
CREATE MATERIALIZED VIEW total AS SELECT sum(sum) FROM acts;
SELECT managed('total');
SELECT * FROM refreshed('total');
SELECT * FROM refreshed('acts');
SELECT * FROM refreshed('total');
INSERT INTO act VALUES (20, 5), (3, NULL);
DELETE FROM act WHERE organ = 3;
SELECT * FROM refreshed('acts');
SELECT * FROM unread('acts');
SELECT * FROM refreshed('total');

-- --- who may what ------------------------------------------------------------------------------------

CREATE ROLE rowlog_nobody;
GRANT CREATE ON SCHEMA public TO rowlog_nobody;
SELECT has_table_privilege('rowlog_nobody', log, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') AS may
  FROM pgopt.row_log GROUP BY 1;
SET ROLE rowlog_nobody;
CREATE TABLE mine (id int);
CREATE TRIGGER pgopt_log AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION pgopt.log_change();
SELECT pgopt.log_change();
RESET ROLE;
CREATE TRIGGER pgopt_log AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION pgopt.log_change();
CREATE TRIGGER pgopt_log_all BEFORE INSERT ON mine EXECUTE FUNCTION pgopt.log_change();
INSERT INTO mine VALUES (1);
TABLE mine;

-- Capturing needs the privilege TRIGGER, and a table that can be captured.
CREATE MATERIALIZED VIEW others AS SELECT votes FROM bill;
ALTER MATERIALIZED VIEW others OWNER TO rowlog_nobody;
GRANT SELECT ON bill TO rowlog_nobody;
SELECT pgopt_manage('others', strategy => 'manual', incremental => 'auto');
GRANT TRIGGER ON bill TO rowlog_nobody;
SELECT managed('others');
SELECT * FROM refreshed('others');
DELETE FROM bill WHERE id = 4;
SELECT * FROM refreshed('others');
DROP MATERIALIZED VIEW others;
CREATE UNLOGGED TABLE fleeting (id int);
CREATE MATERIALIZED VIEW moments AS SELECT id FROM fleeting;
SELECT pgopt_manage('moments', strategy => 'manual', incremental => 'auto');
DROP TABLE fleeting CASCADE;
CREATE MATERIALIZED VIEW places AS SELECT ctid::text AS place FROM organ;
SELECT pgopt_manage('places', strategy => 'manual', incremental => 'auto');
DROP MATERIALIZED VIEW places;
SET client_min_messages = error;
CREATE PUBLICATION everything FOR ALL TABLES;
RESET client_min_messages;
CREATE MATERIALIZED VIEW organs AS SELECT id FROM organ;
SELECT pgopt_manage('organs', strategy => 'manual', incremental => 'auto');
DROP PUBLICATION everything;
SELECT managed('organs');
SELECT * FROM refreshed('organs');
INSERT INTO organ VALUES (4);
SELECT * FROM refreshed('organs');

-- No event trigger of a user sees what is made for a capture.
CREATE TABLE witness (tag text);
CREATE FUNCTION testify() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO witness VALUES (tg_tag);
END $$;
CREATE TABLE seen (id int, kind text);
CREATE MATERIALIZED VIEW sights AS SELECT id FROM seen;
CREATE MATERIALIZED VIEW sight_kinds AS SELECT kind FROM seen;
CREATE EVENT TRIGGER starts ON ddl_command_start EXECUTE FUNCTION testify();
CREATE EVENT TRIGGER ends ON ddl_command_end EXECUTE FUNCTION testify();
CREATE EVENT TRIGGER drops ON sql_drop EXECUTE FUNCTION testify();
SELECT managed('sights');
SELECT * FROM refreshed('sights');
SELECT managed('sight_kinds');
SELECT * FROM refreshed('sight_kinds');
SELECT pgopt_unmanage('sights'::regclass);
SELECT pgopt_unmanage('sight_kinds'::regclass);
DROP EVENT TRIGGER starts;
DROP EVENT TRIGGER ends;
DROP EVENT TRIGGER drops;
SELECT * FROM witness WHERE tag <> 'REFRESH MATERIALIZED VIEW';

-- Names in other schemas deceive nobody.
CREATE SCHEMA evil;
CREATE FUNCTION evil.xid8ge(xid8, xid8) RETURNS boolean LANGUAGE sql AS 'SELECT 1 / 0 > 0';
CREATE OPERATOR evil.>= (LEFTARG = xid8, RIGHTARG = xid8, FUNCTION = evil.xid8ge);
CREATE TABLE evil.row_log (relation oid, log oid);
SET search_path = evil, public;
INSERT INTO organ VALUES (50);
SELECT * FROM refreshed('organs');
RESET search_path;
DROP SCHEMA evil CASCADE;

-- --- the end ---------------------------------------------------------------------------------------------

-- DROP TABLE leaves its log to the worker; DROP EXTENSION leaves nothing.
DROP TABLE wide CASCADE;
DROP TABLE mine, witness, seen CASCADE;
DROP EXTENSION pgopt CASCADE;
SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal OR tgname LIKE '%log%';
SELECT count(*) FROM pg_class WHERE relname ~ '^log_[0-9]';
INSERT INTO bill VALUES (50000, 'SP', 1);
DROP TABLE bill, vote, vote_2023, organ, act CASCADE;
DROP FUNCTION unread, refreshed, managed, testify;
REVOKE CREATE ON SCHEMA public FROM rowlog_nobody;
DROP ROLE rowlog_nobody;
