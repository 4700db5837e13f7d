--
-- An index depends on its text search configuration: neither goes away without the other.
--
SET client_min_messages = warning; CREATE EXTENSION IF NOT EXISTS pgopt; RESET client_min_messages;
CREATE SCHEMA search_dependency;
SET search_path = search_dependency, public;
CREATE TABLE doc (id int, body text);
INSERT INTO doc VALUES (1, 'uma palavra'), (2, 'outras palavras');
CREATE TEXT SEARCH CONFIGURATION config_a (COPY = simple);
CREATE TEXT SEARCH CONFIGURATION config_b (COPY = portuguese);
CREATE TEXT SEARCH CONFIGURATION config_c (COPY = portuguese);
-- which index depends on which configuration, how often
CREATE FUNCTION dependencies(OUT index regclass, OUT config text, OUT deptype "char", OUT count bigint)
RETURNS SETOF record LANGUAGE sql AS $$
	SELECT objid::regclass, c.cfgname, d.deptype, count(*)
	  FROM pg_depend d JOIN pg_class r ON d.classid = 'pg_class'::regclass AND d.objid = r.oid
	  JOIN pg_ts_config c ON d.refclassid = 'pg_ts_config'::regclass AND d.refobjid = c.oid
	 WHERE r.relnamespace = 'search_dependency'::regnamespace
	 GROUP BY 1, 2, 3 ORDER BY 1, 2
$$;

-- refused, and where it is wanted, the index goes along
CREATE INDEX doc_search ON doc USING pgopt_bm25 (body) WITH (text_config = 'search_dependency.config_a');
SELECT * FROM dependencies();
DROP TEXT SEARCH CONFIGURATION config_a;
DROP TEXT SEARCH CONFIGURATION config_a CASCADE;
SELECT to_regclass('doc_search') AS gone;
-- an index that goes leaves nothing
CREATE INDEX doc_search ON doc USING pgopt_bm25 (body) WITH (text_config = 'search_dependency.config_b');
DROP INDEX doc_search;
SELECT * FROM dependencies();
CREATE TEXT SEARCH CONFIGURATION config_a (COPY = simple);

-- pgopt's own configuration, which the extension holds anyway; the server's
CREATE INDEX doc_search ON doc USING pgopt_bm25 (body);
SELECT * FROM dependencies();
ALTER INDEX doc_search SET (text_config = 'portuguese');
SELECT * FROM dependencies();

-- the option says it, from the time on when it is set
ALTER INDEX doc_search SET (text_config = 'search_dependency.config_a');
SELECT * FROM dependencies();
ALTER INDEX doc_search SET (text_config = 'search_dependency.config_b'), SET (k1 = 1.1), SET (text_config = 'search_dependency.config_c');
SELECT * FROM dependencies();
BEGIN;
ALTER INDEX doc_search SET (text_config = 'search_dependency.config_a');
ROLLBACK;
SELECT * FROM dependencies();
ALTER INDEX doc_search SET (text_config = 'search_dependency.nonesuch');
ALTER INDEX doc_search RENAME TO doc_found;
ALTER TABLE doc ADD COLUMN more int;
SELECT * FROM dependencies();
-- building again changes nothing
REINDEX INDEX doc_found;
REINDEX TABLE doc;
REINDEX INDEX CONCURRENTLY doc_found;
TRUNCATE doc;
VACUUM FULL doc;
INSERT INTO doc VALUES (1, 'uma palavra'), (2, 'outras palavras');
SELECT * FROM dependencies();
-- also where the option was changed in between
ALTER INDEX doc_found SET (text_config = 'search_dependency.config_b');
REINDEX INDEX CONCURRENTLY doc_found;
SELECT * FROM dependencies();
SELECT id FROM doc WHERE body @@@ 'palavra' ORDER BY id;
DROP TEXT SEARCH CONFIGURATION config_c;
DROP TEXT SEARCH CONFIGURATION config_b;
-- where the name stands for another one by now, once the index is built of it
ALTER TEXT SEARCH CONFIGURATION config_b RENAME TO config_c;
CREATE TEXT SEARCH CONFIGURATION config_b (COPY = simple);
SELECT * FROM dependencies();
REINDEX INDEX doc_found;
SELECT * FROM dependencies();
ALTER INDEX doc_found RESET (text_config);
SELECT * FROM dependencies();
DROP INDEX doc_found;
CREATE INDEX CONCURRENTLY doc_search ON doc USING pgopt_bm25 (body) WITH (text_config = 'search_dependency.config_a');
SELECT * FROM dependencies();
DROP INDEX doc_search;

-- what expressions and conditions of an index name is theirs
CREATE INDEX doc_search ON doc USING pgopt_bm25 ((to_tsvector('config_c', body)::text))
	WITH (text_config = 'search_dependency.config_a') WHERE to_tsvector('config_b', body) IS NOT NULL;
SELECT * FROM dependencies();
ALTER INDEX doc_search SET (text_config = 'search_dependency.config_b');
SELECT index, config, deptype FROM dependencies();
ALTER INDEX doc_search SET (text_config = 'search_dependency.config_a');
SELECT index, config, deptype FROM dependencies();
ALTER INDEX doc_search RESET (text_config);
SELECT index, config, deptype FROM dependencies();
DROP INDEX doc_search;

-- other indexes and tables
CREATE INDEX ON doc (body) WITH (fillfactor = 70);
ALTER INDEX doc_body_idx SET (fillfactor = 80);
SELECT * FROM dependencies();

-- partitions: the index of all, and one that is attached later
CREATE TABLE part (id int, body text) PARTITION BY RANGE (id);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (1) TO (100);
CREATE INDEX part_search ON part USING pgopt_bm25 (body) WITH (text_config = 'search_dependency.config_a');
CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (100) TO (200);
CREATE TABLE part_3 (LIKE part);
CREATE INDEX part_3_search ON part_3 USING pgopt_bm25 (body) WITH (text_config = 'search_dependency.config_a');
ALTER TABLE part ATTACH PARTITION part_3 FOR VALUES FROM (200) TO (300);
SELECT * FROM dependencies();
DROP TEXT SEARCH CONFIGURATION config_a;
SET client_min_messages = warning;
DROP TEXT SEARCH CONFIGURATION config_a CASCADE;
RESET client_min_messages;
SELECT * FROM dependencies();
SELECT count(*) FROM pg_class WHERE relnamespace = 'search_dependency'::regnamespace AND relname ~ '^part.*(search|idx)';

SET client_min_messages = warning;
DROP SCHEMA search_dependency CASCADE;
