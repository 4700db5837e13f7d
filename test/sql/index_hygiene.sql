--
-- pgopt_index_hygiene(): indexes that are at fault, and nothing that only looks so.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgopt;
RESET client_min_messages;

CREATE SCHEMA hygiene;
SET search_path = hygiene, public;
-- what is told of these tables
CREATE VIEW told AS
	SELECT h.* FROM public.pgopt_index_hygiene() h JOIN pg_class c ON c.oid = h.table_name
	 WHERE c.relnamespace = 'hygiene'::regnamespace;

--
-- Duplicate, redundant, invalid
--
CREATE TABLE twin (id int CONSTRAINT twin_pkey PRIMARY KEY, a int, b int, c int, d int, t text, v tsvector);
INSERT INTO twin SELECT i, i, i, i % 10, i % 100, 't' || i, to_tsvector('simple', 't' || i) FROM generate_series(1, 500) i;
CREATE INDEX twin_a ON twin (a);
CREATE INDEX twin_a_again ON twin (a) WITH (fillfactor = 70);
CREATE INDEX twin_id ON twin (id);
CREATE UNIQUE INDEX twin_id_unique ON twin (id);
CREATE INDEX twin_lower ON twin (lower(t), a);
CREATE INDEX twin_lower_again ON twin ((lower(t)), a);
CREATE INDEX twin_part ON twin (c, a) WHERE b > 10 AND a IS NOT NULL;
CREATE INDEX twin_part_again ON twin (c, a) WHERE (b > 10) AND (a IS NOT NULL);
CREATE INDEX twin_include ON twin (d DESC) INCLUDE (a, b);
CREATE INDEX twin_include_again ON twin (d DESC) INCLUDE (b, a);
CREATE INDEX twin_gin ON twin USING gin (v);
CREATE INDEX twin_gin_again ON twin USING gin (v) WITH (fastupdate = off);
-- each begins the next
CREATE INDEX twin_b ON twin (b);
CREATE INDEX twin_bc ON twin (b, c);
CREATE UNIQUE INDEX twin_bcd ON twin (b, c, d);
CREATE INDEX twin_low_b ON twin (lower(t), (a + b));
CREATE INDEX twin_low_bc ON twin (lower(t), (a + b), c);
-- a name that needs quotes
CREATE INDEX "Twin; ""odd"" -- name" ON twin (a);
\set VERBOSITY terse
CREATE UNIQUE INDEX CONCURRENTLY twin_failed ON twin (c);
\set VERBOSITY default
SELECT problem, index, ddl, confidence FROM told WHERE problem IN ('invalid', 'duplicate', 'redundant') ORDER BY problem, index::text COLLATE "C";
SELECT problem, index, reason FROM told WHERE index IN ('twin_a_again'::regclass, 'twin_b'::regclass, 'twin_failed'::regclass) ORDER BY problem;

--
-- Look-alikes
--
CREATE TABLE alike (id int PRIMARY KEY, a int, b int, t text, n int, u int, x int, v tsvector, r int4range, z int NOT NULL);
CREATE INDEX alike_t ON alike (t);
CREATE INDEX alike_opclass ON alike (t text_pattern_ops);
CREATE INDEX alike_collation ON alike (t COLLATE "C");
CREATE INDEX alike_a ON alike (a);
CREATE INDEX alike_desc ON alike (a DESC);
CREATE INDEX alike_nulls ON alike (a NULLS FIRST);
CREATE INDEX alike_hash ON alike USING hash (a);
CREATE INDEX alike_part ON alike (a) WHERE b > 1;
CREATE INDEX alike_part_other ON alike (a) WHERE b > 2;
CREATE INDEX alike_include ON alike (a) INCLUDE (b);
CREATE INDEX alike_lower ON alike (lower(t));
CREATE INDEX alike_upper ON alike (upper(t));
CREATE INDEX alike_ba ON alike (b, a);
CREATE INDEX alike_ba_desc ON alike (b DESC, a, n);
-- begins another one, but is unique
CREATE UNIQUE INDEX alike_n ON alike (n);
CREATE INDEX alike_nb ON alike (n, b);
-- both unique, but not alike
CREATE UNIQUE INDEX alike_u ON alike (u);
CREATE UNIQUE INDEX alike_u_nulls ON alike (u) NULLS NOT DISTINCT;
ALTER TABLE alike ADD CONSTRAINT alike_u_late UNIQUE (u) DEFERRABLE;
-- parameters of operator classes and methods
CREATE INDEX alike_gist ON alike USING gist (v);
CREATE INDEX alike_gist_long ON alike USING gist (v tsvector_ops (siglen = 512));
CREATE INDEX alike_brin ON alike USING brin (x);
CREATE INDEX alike_brin_fine ON alike USING brin (x) WITH (pages_per_range = 8);
-- constraints, replica identity, clustering, and what others refer to
ALTER TABLE alike ADD CONSTRAINT alike_key UNIQUE (id);
ALTER TABLE alike ADD CONSTRAINT alike_excludes EXCLUDE USING gist (r WITH &&);
CREATE INDEX alike_r ON alike USING gist (r);
CREATE UNIQUE INDEX alike_identity ON alike (z);
ALTER TABLE alike REPLICA IDENTITY USING INDEX alike_identity;
CREATE UNIQUE INDEX alike_z ON alike (z);
CREATE INDEX alike_clustered ON alike (x);
ALTER TABLE alike CLUSTER ON alike_clustered;
CREATE INDEX alike_xz ON alike (x, z);
CREATE TABLE refers (id int PRIMARY KEY, z int REFERENCES alike (z));
CREATE INDEX refers_z ON refers (z);
SELECT problem, index, ddl FROM told WHERE table_name = 'alike'::regclass AND problem <> 'unused';
-- a unique index of a partition does not give way to a plain one of the partitioned table
CREATE TABLE part (id int, k int, m int, body text) PARTITION BY RANGE (id);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (100);
CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (100) TO (200);
CREATE INDEX part_k ON part (k);
CREATE UNIQUE INDEX part_1_k_unique ON part_1 (k);
CREATE INDEX part_2_k_own ON part_2 (k);
CREATE INDEX part_m ON part (m);
CREATE INDEX part_m_again ON part (m);
CREATE INDEX part_m_only ON ONLY part (m, k);
SELECT problem, index, ddl, lock FROM told WHERE table_name::text ~ 'part' AND problem <> 'unused' ORDER BY index::text COLLATE "C";

--
-- Foreign keys
--
CREATE TABLE two (a int, b int, PRIMARY KEY (a, b));
CREATE TABLE "Child" (id int PRIMARY KEY, x int, y int, "Z z" int REFERENCES twin, w int REFERENCES twin,
	CONSTRAINT "of two" FOREIGN KEY (x, y) REFERENCES two, CONSTRAINT of_x FOREIGN KEY (x) REFERENCES twin,
	CONSTRAINT of_x_again FOREIGN KEY (x) REFERENCES alike);
CREATE INDEX child_w ON "Child" (w);
CREATE TABLE part_child (id int, k int REFERENCES twin) PARTITION BY RANGE (id);
SELECT index, ddl, lock, reason FROM told WHERE problem = 'foreign_key_unindexed' ORDER BY ddl COLLATE "C";

--
-- Unused: not before it was watched for long enough
--
CREATE TABLE used (id int PRIMARY KEY, g int, h int, k int, p int REFERENCES twin, q text);
INSERT INTO used SELECT i, i, i, i, i % 500 + 1, i FROM generate_series(1, 3000) i;
CREATE INDEX used_g ON used (g);
CREATE INDEX used_k ON used (k);
CREATE INDEX used_p ON used (p);
CREATE INDEX used_pq ON used (p, q);
CREATE INDEX used_q ON used (q);
CREATE INDEX used_q_expression ON used ((q || 'x'));
ANALYZE used;
SET enable_seqscan = off;
SELECT count(*) FROM used WHERE g = 1;
SELECT count(*) FROM used WHERE k = 1;
RESET enable_seqscan;
CREATE INDEX used_gh ON used (g, h);
SELECT pg_stat_force_next_flush();
SELECT index, usage, scans, confidence, regexp_replace(ddl, 'before [^:]*:..', 'before DATE') AS ddl,
       regexp_replace(reason, '(for|before|since) [0-9].*', '\1 ...') AS reason
  FROM told WHERE table_name = 'used'::regclass AND problem NOT IN ('redundant') ORDER BY index::text COLLATE "C";
-- nothing of it is run
\set ECHO none
SELECT ddl FROM told WHERE problem = 'unused' \gexec
\set ECHO all
SELECT count(*) FROM pg_indexes WHERE schemaname = 'hygiene' AND tablename = 'used';

-- nor where what is known of the workload uses them
SET pgopt.unused_index_info = 0;
SELECT problem, index FROM told WHERE index IN ('used_g'::regclass, 'used_k'::regclass);
SELECT pgopt_workload_reset();
-- now that it was: the longer one goes, so the shorter one stays; and one stays for the foreign key
SELECT problem, index, scans, usage, confidence, ddl FROM told WHERE table_name = 'used'::regclass ORDER BY index::text COLLATE "C";
SET pgopt.unused_index_warning = 0;
SELECT problem, index, confidence FROM told WHERE index = 'used_q'::regclass;
RESET pgopt.unused_index_warning;
-- neither constraints nor what looks like them
SELECT index FROM told WHERE problem IN ('unused', 'rarely_used')
   AND index IN (SELECT indexrelid FROM pg_index WHERE indisunique OR indisreplident OR indisclustered OR indisexclusion);

-- one whose scans were forgotten, but that what is known of the workload would use
CREATE TABLE asked (id int PRIMARY KEY, a int);
INSERT INTO asked SELECT i, i FROM generate_series(1, 10000) i;
CREATE INDEX asked_a ON asked (a);
ANALYZE asked;
SELECT id FROM asked WHERE a = 77;
SELECT pg_stat_force_next_flush();
SELECT pg_stat_reset_single_table_counters('asked_a'::regclass);
SELECT problem, index FROM told WHERE table_name = 'asked'::regclass;
SELECT pgopt_workload_reset();
SELECT problem, index FROM told WHERE table_name = 'asked'::regclass;
DROP TABLE asked;
RESET pgopt.unused_index_info;

-- a standby may use it
SELECT slot_name FROM pg_create_physical_replication_slot('hygiene_standby');
SET pgopt.unused_index_info = 0;
SELECT problem, index, confidence, ddl, reason ~ 'standby has scans of its own' AS named FROM told WHERE index = 'used_q'::regclass;
RESET pgopt.unused_index_info;
SELECT pg_drop_replication_slot('hygiene_standby');

--
-- Bloated
--
CREATE TABLE swollen (id int PRIMARY KEY, body text) WITH (autovacuum_enabled = off);
INSERT INTO swollen SELECT i, 'x' FROM generate_series(1, 20000) i;
DELETE FROM swollen WHERE id % 20 <> 0;
VACUUM swollen;
SELECT problem, index FROM told WHERE table_name = 'swollen'::regclass;
SET pgopt.bloat_size = 0;
SELECT problem, index, ddl, reason ~ '^a rebuild would give back .* at least' AS reason, lock FROM told WHERE table_name = 'swollen'::regclass;

--
-- All of it at once leaves what it must
--
CREATE TABLE kept AS SELECT c.conrelid, c.conname FROM pg_constraint c WHERE c.connamespace = 'hygiene'::regnamespace;
SET pgopt.unused_index_info = 0;
\set ECHO none
\o /dev/null
SELECT ddl FROM told \gexec
\o
\set ECHO all
SELECT conname FROM kept k WHERE NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conrelid = k.conrelid AND c.conname = k.conname);
SELECT indexrelid::regclass AS marked FROM pg_index WHERE (indisreplident OR indisclustered) AND indrelid = 'alike'::regclass ORDER BY 1;
SELECT tablename, indexname FROM pg_indexes WHERE schemaname = 'hygiene' ORDER BY tablename COLLATE "C", indexname COLLATE "C";
SELECT problem, index, ddl FROM told WHERE problem NOT IN ('unused', 'rarely_used', 'bloated');
RESET pgopt.unused_index_info;
RESET pgopt.bloat_size;

--
-- Partial indexes on the columns of foreign keys: one that leaves out rows does not serve, one without nulls does
--
CREATE TABLE partial_parent (id int PRIMARY KEY);
CREATE TABLE partial_child (a int REFERENCES partial_parent, b int REFERENCES partial_parent, s int);
CREATE INDEX partial_child_a ON partial_child (a) WHERE s = 1;
CREATE INDEX partial_child_b ON partial_child (b) WHERE b IS NOT NULL;
SELECT index, ddl FROM public.pgopt_index_hygiene()
 WHERE table_name = 'partial_child'::regclass AND problem = 'foreign_key_unindexed';

--
-- Who may look
--
CREATE ROLE hygiene_monitor IN ROLE pg_monitor;
CREATE ROLE hygiene_nobody;
GRANT USAGE ON SCHEMA hygiene TO hygiene_monitor, hygiene_nobody;
SET ROLE hygiene_monitor;
SELECT count(*) >= 0 AS may FROM public.pgopt_index_hygiene();
SET ROLE hygiene_nobody;
SELECT count(*) >= 0 AS may FROM public.pgopt_index_hygiene();
RESET ROLE;
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA hygiene CASCADE;
DROP ROLE hygiene_monitor, hygiene_nobody;
DROP EXTENSION pgopt;
