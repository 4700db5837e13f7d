/* pgopt--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION pgopt" to load this file. \quit

CREATE SCHEMA pgopt;
COMMENT ON SCHEMA pgopt IS 'tables of pgopt; what users call is named pgopt_* and lives in the extension''s schema';

-- ---------------------------------------------------------------------------
-- Tables
-- ---------------------------------------------------------------------------

CREATE FUNCTION pgopt.home() RETURNS text
	AS 'MODULE_PATHNAME', 'pgopt_home' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pgopt.home() IS 'this database of this server: where the OIDs in pgopt.matview mean something';

CREATE TABLE pgopt.matview (
	home text NOT NULL DEFAULT pgopt.home(),
	view oid NOT NULL,
	schema_name name NOT NULL,
	view_name name NOT NULL,
	strategy text NOT NULL
		CHECK (strategy IN ('immediate', 'scheduled', 'threshold', 'smart', 'manual')),
	refresh_interval interval NOT NULL
		CHECK (refresh_interval BETWEEN interval '1 second' AND interval '366 days'),
	threshold_changes bigint NOT NULL CHECK (threshold_changes >= 1),
	priority integer NOT NULL CHECK (priority BETWEEN 1 AND 10),
	settings text[],
	incremental text NOT NULL DEFAULT 'never' CHECK (incremental IN ('auto', 'always', 'never')),
	managed_by name NOT NULL,
	managed_since timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (home, view)
);
COMMENT ON TABLE pgopt.matview IS 'materialized views that pgopt refreshes, as users configured them with pgopt_manage()';
COMMENT ON COLUMN pgopt.matview.home IS 'where view is the OID of the materialized view; rows that were restored elsewhere find theirs by name';
COMMENT ON COLUMN pgopt.matview.schema_name IS 'its name when pgopt last looked: a view that is dropped and created again stays managed';
COMMENT ON COLUMN pgopt.matview.settings IS 'settings that can change what a query yields, as they were when the view was put under management; each refresh uses them';
COMMENT ON COLUMN pgopt.matview.incremental IS 'whether a refresh applies what changed instead of computing all: auto chooses by measured cost, always does wherever it can, never captures nothing';
COMMENT ON COLUMN pgopt.matview.managed_by IS 'who put it under management';
SELECT pg_catalog.pg_extension_config_dump('pgopt.matview', '');

CREATE TABLE pgopt.matview_state (
	view oid PRIMARY KEY,
	epoch bigint NOT NULL DEFAULT 0,
	relations oid[] NOT NULL DEFAULT '{}',
	upstream oid[] NOT NULL DEFAULT '{}',
	fingerprint bigint NOT NULL DEFAULT 0,
	untracked text,
	seen_rows bigint NOT NULL DEFAULT 0,
	seen_truncated bigint NOT NULL DEFAULT 0,
	seen_unknown bigint NOT NULL DEFAULT 0,
	seen_lost bigint NOT NULL DEFAULT 0,
	seen_foreign bigint NOT NULL DEFAULT 0,
	ddl_generation bigint NOT NULL DEFAULT 0,
	seen_reads bigint NOT NULL DEFAULT 0,
	last_refresh timestamptz,
	last_checked timestamptz,
	last_duration_us bigint NOT NULL DEFAULT 0,
	mean_duration_us bigint,
	last_mode text,
	last_error text,
	last_sqlstate text,
	failures integer NOT NULL DEFAULT 0,
	retry_at timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE pgopt.matview_state IS 'what the last refresh of each view saw: sums of the change counters, valid within one epoch (start of the server)';

CREATE TABLE pgopt.incremental_state (
	view oid PRIMARY KEY,
	valid boolean NOT NULL DEFAULT false,
	reason text,
	frontier pg_snapshot,
	sources oid[] NOT NULL DEFAULT '{}',
	source_marks bigint[] NOT NULL DEFAULT '{}',
	view_mark bigint NOT NULL DEFAULT 0,
	fingerprint bigint NOT NULL DEFAULT 0,
	full_us bigint,
	fixed_us bigint,
	change_ns bigint,
	last_changes bigint,
	last_error text
) WITH (fillfactor = 50);
COMMENT ON TABLE pgopt.incremental_state IS 'up to where each view has consumed the row logs, and what its refreshes cost';
COMMENT ON COLUMN pgopt.incremental_state.valid IS 'false: the next refresh computes all, for the reason given';
COMMENT ON COLUMN pgopt.incremental_state.frontier IS 'the snapshot whose changes the view contains';
COMMENT ON COLUMN pgopt.incremental_state.sources IS 'stored relations whose row logs it consumes';
COMMENT ON COLUMN pgopt.incremental_state.source_marks IS 'what told, at the frontier, that nothing happened to each source but logged changes';

CREATE TABLE pgopt.refresh_log (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	view oid NOT NULL,
	view_name text NOT NULL,
	started_at timestamptz NOT NULL,
	duration interval NOT NULL,
	outcome text NOT NULL CHECK (outcome IN ('refreshed', 'unchanged', 'failed')),
	mode text CHECK (mode IN ('incremental', 'concurrent', 'full')),
	source text NOT NULL,
	reason text,
	pending_changes bigint,
	sqlstate text,
	message text
);
CREATE INDEX refresh_log_started_at ON pgopt.refresh_log (started_at);
CREATE INDEX refresh_log_view ON pgopt.refresh_log (view, started_at DESC);
COMMENT ON TABLE pgopt.refresh_log IS 'every refresh and its outcome; kept for pgopt.refresh_log_retention';
COMMENT ON COLUMN pgopt.refresh_log.outcome IS 'refreshed, failed, or unchanged (the first of a row of findings that nothing changed)';
COMMENT ON COLUMN pgopt.refresh_log.source IS 'worker, due (pgopt_refresh_due) or user';
COMMENT ON COLUMN pgopt.refresh_log.pending_changes IS 'rows that had changed since the refresh before; null where that is not known';

REVOKE ALL ON ALL TABLES IN SCHEMA pgopt FROM PUBLIC;
GRANT USAGE ON SCHEMA pgopt TO PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA pgopt TO pg_monitor;

-- ---------------------------------------------------------------------------
-- Row logs
-- ---------------------------------------------------------------------------

CREATE TABLE pgopt.row_log (
	relation oid PRIMARY KEY,
	log regclass NOT NULL,
	captured_since timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE pgopt.row_log IS 'relations whose changed rows are logged, for views that are refreshed incrementally';
COMMENT ON COLUMN pgopt.row_log.log IS 'the table that holds old and new values of the columns that those views read';
REVOKE ALL ON pgopt.row_log FROM PUBLIC;
GRANT SELECT ON pgopt.row_log TO pg_monitor;

CREATE FUNCTION pgopt.log_change() RETURNS trigger
	AS 'MODULE_PATHNAME', 'pgopt_log_change' LANGUAGE C;
COMMENT ON FUNCTION pgopt.log_change() IS 'writes a row of a captured table to its log; does nothing in a trigger that pgopt did not make';
REVOKE ALL ON FUNCTION pgopt.log_change() FROM PUBLIC;

-- ---------------------------------------------------------------------------
-- Materialized views
-- ---------------------------------------------------------------------------

CREATE FUNCTION pgopt_version() RETURNS text
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pgopt_version() IS 'version of the library that is loaded';

CREATE FUNCTION pgopt_manage(
	view regclass,
	strategy text DEFAULT NULL,
	refresh_interval interval DEFAULT NULL,
	threshold_changes bigint DEFAULT NULL,
	priority integer DEFAULT NULL,
	incremental text DEFAULT NULL)
RETURNS void
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgopt_manage(regclass, text, interval, bigint, integer, text) IS
	'keeps a materialized view fresh: strategy immediate, scheduled, threshold, smart (default) or manual; interval (30 minutes); threshold (1000 rows); priority 1 (first) to 10 (5); incremental auto, always or never (default). Null keeps what is configured';

CREATE FUNCTION pgopt_unmanage(view regclass) RETURNS boolean
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgopt_unmanage(regclass) IS 'stops looking after a materialized view; false if it was not managed';

CREATE FUNCTION pgopt_unmanage(view text) RETURNS boolean
	AS 'MODULE_PATHNAME', 'pgopt_unmanage_by_name' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgopt_unmanage(text) IS 'the same by name, also for a materialized view that was dropped';

CREATE FUNCTION pgopt_refresh(
	INOUT view regclass, OUT outcome text, OUT mode text, OUT duration interval, OUT message text)
RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT;

CREATE FUNCTION pgopt_refresh_all(
	OUT view regclass, OUT outcome text, OUT mode text, OUT duration interval, OUT message text)
RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgopt_refresh(regclass) IS 'refreshes a managed view now, after the managed views that it reads and that are not fresh';
COMMENT ON FUNCTION pgopt_refresh_all() IS 'refreshes every managed view that the caller owns, in order of priority and dependency';

CREATE FUNCTION pgopt_refresh_due(
	OUT view regclass, OUT outcome text, OUT mode text, OUT duration interval, OUT message text)
RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgopt_refresh_due() IS 'refreshes the managed views that are due and that the caller owns: for pg_cron where no worker may run';

CREATE FUNCTION pgopt.matview_status(
	OUT view regclass, OUT strategy text, OUT pending_changes bigint,
	OUT staleness double precision, OUT fresh boolean, OUT last_refresh timestamptz,
	OUT last_duration interval, OUT last_mode text, OUT last_error text,
	OUT next_refresh timestamptz, OUT priority integer, OUT refresh_interval interval,
	OUT threshold_changes bigint, OUT state text, OUT reason text, OUT advice text,
	OUT failures integer, OUT last_sqlstate text, OUT incremental text,
	OUT incremental_reason text, OUT log_bytes bigint, OUT state_bytes bigint)
RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'pgopt_matview_status' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgopt.matview_status() IS 'rows of pgopt_matviews';

CREATE VIEW pgopt_matviews AS
	SELECT view, strategy, pending_changes, round(staleness::numeric, 3) AS staleness, fresh,
	       last_refresh, last_duration, last_mode, last_error, next_refresh, priority,
	       refresh_interval, threshold_changes, state, reason, advice, failures, last_sqlstate,
	       incremental, incremental_reason, log_bytes, state_bytes
	  FROM pgopt.matview_status()
	 ORDER BY priority, view::text;
COMMENT ON VIEW pgopt_matviews IS 'managed materialized views and how stale they are';
COMMENT ON COLUMN pgopt_matviews.pending_changes IS 'rows changed in what it reads since its last refresh; null = not known';
COMMENT ON COLUMN pgopt_matviews.staleness IS '0 = nothing pending; 1 - 0.3 ^ (pending / threshold + age / interval); above 0.7 = overdue';
COMMENT ON COLUMN pgopt_matviews.fresh IS 'true only when it is certain that its query would give what it holds, and so for the managed views that it reads';
COMMENT ON COLUMN pgopt_matviews.last_mode IS 'incremental (what changed was applied), concurrent, or full (built beside the old rows and swapped)';
COMMENT ON COLUMN pgopt_matviews.next_refresh IS 'when it is due by the clock; null = when something changes, or when asked';
COMMENT ON COLUMN pgopt_matviews.state IS 'waiting, due, refreshing, retrying, manual or missing';
COMMENT ON COLUMN pgopt_matviews.reason IS 'why it is not fresh';
COMMENT ON COLUMN pgopt_matviews.incremental IS 'as configured: auto, always or never';
COMMENT ON COLUMN pgopt_matviews.incremental_reason IS 'why its next refresh computes everything; null = it can be incremental, or was not asked for';
COMMENT ON COLUMN pgopt_matviews.log_bytes IS 'disk that the row logs of what it reads take; views that read the same tables share them';
COMMENT ON COLUMN pgopt_matviews.state_bytes IS 'disk that the state of its groups takes';
COMMENT ON COLUMN pgopt_matviews.advice IS 'index that would let it be refreshed without making readers wait';

CREATE FUNCTION pgopt.matview_dependency_list(
	OUT view regclass, OUT relation text, OUT kind text, OUT depth integer, OUT tracked boolean,
	OUT reason text)
RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'pgopt_matview_dependency_list' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgopt.matview_dependency_list() IS 'rows of pgopt_matview_dependencies';

CREATE VIEW pgopt_matview_dependencies AS
	SELECT view, relation, kind, depth, tracked, reason FROM pgopt.matview_dependency_list();
COMMENT ON VIEW pgopt_matview_dependencies IS 'what each managed view reads, directly or not, and whether its changes can be counted';

CREATE FUNCTION pgopt.table_change_list(
	OUT relation regclass, OUT inserted bigint, OUT updated bigint, OUT deleted bigint,
	OUT truncated boolean, OUT known boolean, OUT last_change timestamptz)
RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'pgopt_table_change_list' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgopt.table_change_list() IS 'rows of pgopt_table_changes';

CREATE VIEW pgopt_table_changes AS
	SELECT relation, inserted, updated, deleted, truncated, known, last_change
	  FROM pgopt.table_change_list()
	 ORDER BY relation::text;
COMMENT ON VIEW pgopt_table_changes IS 'rows that committed transactions changed since the server started, for tables that managed views read (or all: pgopt.track_all_tables)';
COMMENT ON COLUMN pgopt_table_changes.known IS 'false where some changes could not be counted';

CREATE FUNCTION pgopt_explain_refresh(
	view regclass, OUT part text, OUT way text, OUT reason text, OUT cost_ms double precision,
	OUT hint text)
RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgopt_explain_refresh(regclass) IS
	'how a materialized view would be refreshed now and why, what that costs by measurement, and how each part of its definition can be refreshed incrementally, or what stands in the way';

CREATE FUNCTION pgopt_refresh_advice(
	OUT view regclass, OUT strategy text, OUT refresh_interval interval,
	OUT threshold_changes bigint, OUT reason text, OUT saves interval, OUT apply_sql text)
RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgopt_refresh_advice() IS
	'the strategy, interval and threshold that would fit each managed view by the history of seven days, why, the refresh time a day that it saves, and the SQL that applies it';

-- Incremental refresh: aggregates of groups' state

CREATE FUNCTION pgopt.smallest_add(internal, anyelement) RETURNS internal
	AS 'MODULE_PATHNAME', 'pgopt_smallest_add' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION pgopt.smallest_add(internal, anyelement) IS 'internal: adds a value';
CREATE FUNCTION pgopt.largest_add(internal, anyelement) RETURNS internal
	AS 'MODULE_PATHNAME', 'pgopt_largest_add' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION pgopt.largest_add(internal, anyelement) IS 'internal: adds a value';
CREATE FUNCTION pgopt.smallest_combine(internal, internal) RETURNS internal
	AS 'MODULE_PATHNAME', 'pgopt_smallest_combine' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION pgopt.smallest_combine(internal, internal) IS 'internal: joins what two workers found';
CREATE FUNCTION pgopt.largest_combine(internal, internal) RETURNS internal
	AS 'MODULE_PATHNAME', 'pgopt_largest_combine' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION pgopt.largest_combine(internal, internal) IS 'internal: joins what two workers found';
CREATE FUNCTION pgopt.extremes_serialize(internal) RETURNS bytea
	AS 'MODULE_PATHNAME', 'pgopt_extremes_serialize' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pgopt.extremes_serialize(internal) IS 'internal: what a worker found, as it is sent';
CREATE FUNCTION pgopt.extremes_deserialize(bytea, internal) RETURNS internal
	AS 'MODULE_PATHNAME', 'pgopt_extremes_deserialize' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pgopt.extremes_deserialize(bytea, internal) IS 'internal: what a worker found, as it was sent';
CREATE FUNCTION pgopt.extremes_result(internal, anyelement) RETURNS anyarray
	AS 'MODULE_PATHNAME', 'pgopt_extremes_result' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION pgopt.extremes_result(internal, anyelement) IS 'internal: the values as an array';

CREATE AGGREGATE pgopt.smallest(anyelement) (
	SFUNC = pgopt.smallest_add, STYPE = internal, SSPACE = 600,
	FINALFUNC = pgopt.extremes_result, FINALFUNC_EXTRA,
	COMBINEFUNC = pgopt.smallest_combine,
	SERIALFUNC = pgopt.extremes_serialize, DESERIALFUNC = pgopt.extremes_deserialize,
	PARALLEL = SAFE);
COMMENT ON AGGREGATE pgopt.smallest(anyelement) IS 'the 64 smallest values, in order, duplicates included, without NULLs';
CREATE AGGREGATE pgopt.largest(anyelement) (
	SFUNC = pgopt.largest_add, STYPE = internal, SSPACE = 600,
	FINALFUNC = pgopt.extremes_result, FINALFUNC_EXTRA,
	COMBINEFUNC = pgopt.largest_combine,
	SERIALFUNC = pgopt.extremes_serialize, DESERIALFUNC = pgopt.extremes_deserialize,
	PARALLEL = SAFE);
COMMENT ON AGGREGATE pgopt.largest(anyelement) IS 'the 64 largest values, the largest first, duplicates included, without NULLs';

CREATE AGGREGATE pgopt.count_and_sum(integer) (
	SFUNC = pg_catalog.int4_avg_accum, STYPE = bigint[], INITCOND = '{0,0}',
	COMBINEFUNC = pg_catalog.int4_avg_combine, PARALLEL = SAFE);
COMMENT ON AGGREGATE pgopt.count_and_sum(integer) IS 'how many values there are, and their sum';
CREATE AGGREGATE pgopt.count_and_sum(smallint) (
	SFUNC = pg_catalog.int2_avg_accum, STYPE = bigint[], INITCOND = '{0,0}',
	COMBINEFUNC = pg_catalog.int4_avg_combine, PARALLEL = SAFE);
COMMENT ON AGGREGATE pgopt.count_and_sum(smallint) IS 'how many values there are, and their sum';

CREATE FUNCTION pgopt.scale_mark(numeric) RETURNS numeric
	AS 'MODULE_PATHNAME', 'pgopt_scale_mark' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pgopt.scale_mark(numeric) IS '10 to the power of 16 times the digits after the point: a sum of them tells how many values have how many digits';
CREATE FUNCTION pgopt.longest_scale(numeric) RETURNS integer
	AS 'MODULE_PATHNAME', 'pgopt_longest_scale' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pgopt.longest_scale(numeric) IS 'the most digits after the point in a sum of pgopt.scale_mark()';

CREATE FUNCTION pgopt.text_length(text) RETURNS integer
	AS 'MODULE_PATHNAME', 'pgopt_text_length' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pgopt.text_length(text) IS 'what length() gives, sooner';

-- End of incremental refresh's aggregates

-- ---------------------------------------------------------------------------
-- Health
-- ---------------------------------------------------------------------------

CREATE FUNCTION pgopt.counter_deltas(
	OUT basis text, OUT since timestamptz, OUT seconds double precision, OUT xact_commit bigint,
	OUT xact_rollback bigint, OUT blks_fetched bigint, OUT blks_hit bigint, OUT temp_files bigint,
	OUT temp_bytes bigint, OUT deadlocks bigint, OUT conflicts bigint, OUT sessions bigint,
	OUT sessions_abandoned bigint, OUT sessions_fatal bigint, OUT sessions_killed bigint,
	OUT checkpoints_timed bigint, OUT checkpoints_requested bigint, OUT wal_bytes bigint,
	OUT archived bigint, OUT archive_failures bigint)
RETURNS record
	AS 'MODULE_PATHNAME', 'pgopt_counter_deltas' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgopt.counter_deltas() IS
	'growth of this database''s and the server''s counters within the last hour (basis window: never before the last start, reload or reset), or since they began (basis lifetime, where pgopt is not preloaded)';

CREATE FUNCTION pgopt_restart_window() RETURNS timestamptz
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgopt_restart_window() IS
	'counts from now on: what happened in this database before is no longer evidence for health checks that compare counters over time';
REVOKE ALL ON FUNCTION pgopt_restart_window() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgopt_restart_window() TO pg_monitor;

CREATE FUNCTION pgopt.run_checks(
	mode text,
	OUT check_id text, OUT component text, OUT state text, OUT reason text, OUT severity text,
	OUT object text, OUT message text, OUT evidence jsonb, OUT threshold text,
	OUT since timestamptz, OUT remedy text, OUT remedy_lock text, OUT reference text,
	OUT family text, OUT weight double precision, OUT component_weight double precision)
RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'pgopt_run_checks' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgopt.run_checks(text) IS
	'runs every check (mode full) or the cheap ones (quick): a row each that is ok or unknown, and a row a finding';

CREATE FUNCTION pgopt_checks(
	mode text DEFAULT 'full',
	OUT check_id text, OUT component text, OUT state text, OUT reason text)
RETURNS SETOF record
	LANGUAGE sql VOLATILE STRICT
BEGIN ATOMIC
	SELECT r.check_id, r.component, min(r.state), min(r.reason)
	  FROM pgopt.run_checks(mode) r
	 GROUP BY r.check_id, r.component
	 ORDER BY min(CASE r.state WHEN 'found' THEN 1 WHEN 'unknown' THEN 2 ELSE 3 END), r.check_id;
END;
COMMENT ON FUNCTION pgopt_checks(text) IS 'every check with its state: ok, found, or unknown and why';

CREATE FUNCTION pgopt_checks_json(mode text DEFAULT 'full') RETURNS jsonb
	LANGUAGE sql VOLATILE STRICT
BEGIN ATOMIC
	SELECT jsonb_agg(to_jsonb(c) - 'n' ORDER BY c.n)
	  FROM pgopt_checks(mode) WITH ORDINALITY c (check_id, component, state, reason, n);
END;
COMMENT ON FUNCTION pgopt_checks_json(text) IS 'pgopt_checks() as jsonb, for programs';

CREATE FUNCTION pgopt_findings(
	mode text DEFAULT 'full',
	OUT severity text, OUT component text, OUT check_id text, OUT object text, OUT message text,
	OUT evidence jsonb, OUT threshold text, OUT since timestamptz, OUT remedy text,
	OUT remedy_lock text, OUT reference text)
RETURNS SETOF record
	LANGUAGE sql VOLATILE STRICT
BEGIN ATOMIC
	SELECT r.severity, r.component, r.check_id, r.object, r.message, r.evidence, r.threshold,
	       r.since, r.remedy, r.remedy_lock, r.reference
	  FROM pgopt.run_checks(mode) r
	 WHERE r.state = 'found'
	 ORDER BY CASE r.severity WHEN 'critical' THEN 1 WHEN 'warning' THEN 2 ELSE 3 END,
	          r.check_id, r.object;
END;
COMMENT ON FUNCTION pgopt_findings(text) IS 'what is wrong, worst first, with the SQL that mends it and the lock that this takes';

/*
 * The score.  A finding costs its check's weight x its severity (critical 1,
 * warning 0.35, info 0.015); what the findings of one family cost together
 * saturates at 2 (1 - exp(-sum / 2)).  A component's score is 100 x exp(-sum
 * over its families); the overall score their weighted mean, at most 59 with a
 * critical finding and at most 79 with a warning.  With infos alone it is at
 * least 95.
 */
CREATE FUNCTION pgopt_health(
	mode text DEFAULT 'full',
	OUT score integer, OUT status text, OUT coverage numeric, OUT confidence text,
	OUT components jsonb, OUT findings jsonb)
RETURNS record
	LANGUAGE sql VOLATILE STRICT
BEGIN ATOMIC
	WITH run AS MATERIALIZED (
		SELECT r.*,
		       CASE r.severity WHEN 'critical' THEN 1 WHEN 'warning' THEN 0.35
		                       WHEN 'info' THEN 0.015 ELSE 0 END AS penalty
		  FROM pgopt.run_checks(mode) r
	), family AS (
		SELECT r.component, r.component_weight, r.family,
		       2 * (1 - exp(- sum(r.weight * r.penalty) / 2)) AS penalty
		  FROM run r GROUP BY r.component, r.component_weight, r.family
	), component AS (
		SELECT f.component, f.component_weight, 100 * exp(- sum(f.penalty)) AS score
		  FROM family f GROUP BY f.component, f.component_weight
	), overall AS (
		SELECT CASE WHEN count(*) FILTER (WHERE r.severity = 'critical') > 0 THEN least(59, mean.score)
		            WHEN count(*) FILTER (WHERE r.severity = 'warning') > 0 THEN least(79, mean.score)
		            ELSE greatest(95, mean.score) END::integer AS score,
		       round(count(DISTINCT r.check_id) FILTER (WHERE r.state <> 'unknown')::numeric
		             / count(DISTINCT r.check_id), 2) AS coverage,
		       jsonb_agg(jsonb_build_object(
		           'severity', r.severity, 'component', r.component, 'check_id', r.check_id,
		           'object', r.object, 'message', r.message, 'evidence', r.evidence,
		           'threshold', r.threshold, 'since', r.since, 'remedy', r.remedy,
		           'remedy_lock', r.remedy_lock, 'reference', r.reference)
		           ORDER BY CASE r.severity WHEN 'critical' THEN 1 WHEN 'warning' THEN 2 ELSE 3 END,
		                    r.check_id, r.object)
		         FILTER (WHERE r.state = 'found') AS findings
		  FROM run r,
		       (SELECT sum(c.component_weight * c.score) / sum(c.component_weight) AS score
		          FROM component c) mean
		 GROUP BY mean.score
	)
	SELECT o.score,
	       CASE WHEN o.score < 60 THEN 'critical' WHEN o.score < 80 THEN 'warning'
	            ELSE 'healthy' END,
	       o.coverage,
	       CASE WHEN o.coverage >= 0.9 THEN 'high' WHEN o.coverage >= 0.6 THEN 'medium'
	            ELSE 'low' END,
	       (SELECT jsonb_object_agg(c.component, round(c.score::numeric)) FROM component c),
	       coalesce(o.findings, '[]')
	  FROM overall o;
END;
COMMENT ON FUNCTION pgopt_health(text) IS
	'score 0-100, status (healthy, warning below 80, critical below 60), how much could be checked, and the findings, worst first; mode quick asks only what is cheap, for a probe every few seconds';

CREATE FUNCTION pgopt_health_json(mode text DEFAULT 'full') RETURNS jsonb
	LANGUAGE sql VOLATILE STRICT
BEGIN ATOMIC
	SELECT to_jsonb(h) FROM pgopt_health(mode) h;
END;
COMMENT ON FUNCTION pgopt_health_json(text) IS 'pgopt_health() as jsonb, for programs';

CREATE FUNCTION pgopt_findings_json(mode text DEFAULT 'full') RETURNS jsonb
	LANGUAGE sql VOLATILE STRICT
BEGIN ATOMIC
	SELECT h.findings FROM pgopt_health(mode) h;
END;
COMMENT ON FUNCTION pgopt_findings_json(text) IS 'pgopt_findings() as jsonb, for programs';

-- ---------------------------------------------------------------------------
-- Bloat
-- ---------------------------------------------------------------------------

CREATE FUNCTION pgopt_table_bloat(
	relation regclass DEFAULT NULL, min_size bigint DEFAULT 10485760,
	OUT relation regclass, OUT part text, OUT size_bytes bigint, OUT reclaimable_bytes bigint,
	OUT reclaimable_low bigint, OUT reclaimable_high bigint, OUT reclaimable_percent numeric,
	OUT free_bytes bigint, OUT dead_bytes bigint, OUT held_bytes bigint, OUT live_rows bigint,
	OUT dead_rows bigint, OUT pages_sampled integer, OUT confidence text, OUT remedy text,
	OUT remedy_lock text, OUT reason text)
RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgopt_table_bloat(regclass, bigint) IS
	'what a rewrite of a table, and of its TOAST table, would give back, with its 95 % interval, measured on a sample of pages; without a table: all tables and materialized views of at least min_size bytes, largest first. free_bytes can take new rows, dead_bytes could after a vacuum, held_bytes are dead rows that an old snapshot may need';

CREATE FUNCTION pgopt_index_bloat(
	relation regclass DEFAULT NULL, min_size bigint DEFAULT 10485760,
	OUT index regclass, OUT table_name regclass, OUT method text, OUT size_bytes bigint,
	OUT reclaimable_bytes bigint, OUT reclaimable_low bigint, OUT reclaimable_high bigint,
	OUT reclaimable_percent numeric, OUT free_bytes bigint, OUT dead_bytes bigint,
	OUT entries bigint, OUT pages_sampled integer, OUT confidence text, OUT remedy text,
	OUT remedy_lock text, OUT reason text)
RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgopt_index_bloat(regclass, bigint) IS
	'what a rebuild of an index, or of all indexes of a table, would give back, with its 95 % interval, measured on a sample of pages; without an argument: all indexes of at least min_size bytes, largest first. Confidence is low for other methods than btree';

CREATE FUNCTION pgopt_vacuum_candidates(
	OUT relation regclass, OUT dead_rows bigint, OUT dead_percent numeric, OUT dead_bytes bigint,
	OUT last_vacuum timestamptz, OUT last_autovacuum timestamptz, OUT autovacuum_enabled boolean,
	OUT reason text, OUT remedy text)
RETURNS SETOF record
	LANGUAGE sql VOLATILE STRICT
BEGIN ATOMIC
	WITH suspect AS (
		SELECT c.oid, c.relkind, c.reltuples, c.relname, n.nspname, s.last_vacuum, s.last_autovacuum,
		       greatest(s.n_dead_tup, t.n_dead_tup) AS dead,
		       greatest(s.n_dead_tup::numeric / nullif(s.n_dead_tup + s.n_live_tup, 0),
		                t.n_dead_tup::numeric / nullif(t.n_dead_tup + t.n_live_tup, 0)) AS share,
		       coalesce(o.enabled, true) AS enabled, s.n_dead_tup,
		       coalesce(o.base, current_setting('autovacuum_vacuum_threshold')::numeric)
		       + coalesce(o.scale, current_setting('autovacuum_vacuum_scale_factor')::numeric)
		         * greatest(c.reltuples, 0)::numeric AS threshold
		  FROM pg_class c
		  JOIN pg_namespace n ON n.oid = c.relnamespace
		  JOIN pg_stat_all_tables s ON s.relid = c.oid
		  LEFT JOIN pg_stat_all_tables t ON t.relid = c.reltoastrelid
		  CROSS JOIN LATERAL (
		       SELECT bool_and(option_value::boolean) FILTER (WHERE option_name = 'autovacuum_enabled') AS enabled,
		              max(option_value) FILTER (WHERE option_name = 'autovacuum_vacuum_threshold')::numeric AS base,
		              max(option_value) FILTER (WHERE option_name = 'autovacuum_vacuum_scale_factor')::numeric AS scale
		         FROM pg_options_to_table(c.reloptions)) o
		 WHERE c.relkind IN ('r', 'm')
		   AND (pg_has_role('pg_stat_scan_tables', 'USAGE') OR pg_has_role(c.relowner, 'USAGE')
		        OR has_table_privilege(c.oid, 'SELECT'))
		   AND (c.relpersistence <> 't' OR c.relnamespace = pg_my_temp_schema())
		   -- a page holds one row at least
		   AND greatest(s.n_dead_tup, t.n_dead_tup) * current_setting('block_size')::bigint >= 10485760
	), measured AS (
		SELECT s.*, m.*
		  FROM suspect s
		  CROSS JOIN LATERAL (
		       SELECT max(b.dead_rows) FILTER (WHERE b.part = 'table') AS dead_rows,
		              max(100.0 * b.dead_rows / nullif(b.dead_rows + b.live_rows, 0)) AS percent,
		              sum(b.dead_bytes) AS dead_bytes, sum(b.held_bytes) AS held_bytes,
		              max(100.0 * (b.dead_bytes + b.held_bytes) / nullif(b.size_bytes, 0)) AS bytes_percent
		         FROM pgopt_table_bloat(s.oid::regclass) b) m
		 WHERE s.share >= 0.2 AND m.dead_bytes + m.held_bytes >= 10485760
		   AND (m.percent >= 20 OR m.bytes_percent >= 20)
	)
	SELECT m.oid::regclass, m.dead_rows, round(m.percent, 1), m.dead_bytes::bigint, m.last_vacuum,
	       m.last_autovacuum, m.enabled AND current_setting('autovacuum')::boolean,
	       CASE WHEN m.held_bytes > m.dead_bytes
	            THEN 'most of the dead rows may still be needed by ' || coalesce(h.holder, 'an old snapshot')
	            WHEN NOT current_setting('autovacuum')::boolean THEN 'autovacuum is off'
	            WHEN NOT current_setting('track_counts')::boolean
	            THEN 'autovacuum does not know of it: track_counts is off'
	            WHEN NOT m.enabled THEN 'autovacuum is turned off for this table'
	            WHEN m.n_dead_tup <= m.threshold
	            THEN format('autovacuum waits for %s dead rows', round(m.threshold))
	            ELSE 'autovacuum has not come to it yet' END,
	       format('VACUUM (ANALYZE) %I.%I;', m.nspname, m.relname)
	       || CASE WHEN m.held_bytes > m.dead_bytes THEN ' -- once that has ended'
	               WHEN NOT m.enabled
	               THEN format(E'\nALTER %s %I.%I RESET (autovacuum_enabled);',
	                           CASE m.relkind WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END,
	                           m.nspname, m.relname)
	               WHEN m.n_dead_tup <= m.threshold AND m.nspname <> 'pg_catalog'
	               THEN format(E'\nALTER %s %I.%I SET (autovacuum_vacuum_scale_factor = 0.05);',
	                           CASE m.relkind WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END,
	                           m.nspname, m.relname)
	               ELSE '' END
	  FROM measured m
	  LEFT JOIN LATERAL (
	       SELECT holder
	         FROM (SELECT format('the session with pid %s', a.pid) AS holder,
	                      greatest(age(a.backend_xmin), age(a.backend_xid)) AS age
	                 FROM pg_stat_activity a WHERE a.pid <> pg_backend_pid()
	               UNION ALL
	               SELECT format('the prepared transaction %L', p.gid), age(p.transaction)
	                 FROM pg_prepared_xacts p
	               UNION ALL
	               SELECT format('the replication slot %I', r.slot_name), age(r.xmin)
	                 FROM pg_replication_slots r) x
	        WHERE age IS NOT NULL ORDER BY age DESC LIMIT 1) h ON true
	 ORDER BY m.dead_bytes + m.held_bytes DESC, m.oid;
END;
COMMENT ON FUNCTION pgopt_vacuum_candidates() IS
	'tables of which at least 20 % and 10 MB are dead rows by the statistics and by a measurement, why autovacuum has not removed them, and the SQL that does';

CREATE FUNCTION pgopt_table_bloat_json(
	relation regclass DEFAULT NULL, min_size bigint DEFAULT 10485760)
RETURNS jsonb
	LANGUAGE sql VOLATILE
BEGIN ATOMIC
	SELECT coalesce(jsonb_agg(to_jsonb(b)), '[]') FROM pgopt_table_bloat($1, $2) b;
END;
COMMENT ON FUNCTION pgopt_table_bloat_json(regclass, bigint) IS 'pgopt_table_bloat() as a jsonb array, for programs';

CREATE FUNCTION pgopt_index_bloat_json(
	relation regclass DEFAULT NULL, min_size bigint DEFAULT 10485760)
RETURNS jsonb
	LANGUAGE sql VOLATILE
BEGIN ATOMIC
	SELECT coalesce(jsonb_agg(to_jsonb(b)), '[]') FROM pgopt_index_bloat($1, $2) b;
END;
COMMENT ON FUNCTION pgopt_index_bloat_json(regclass, bigint) IS 'pgopt_index_bloat() as a jsonb array, for programs';

-- ---------------------------------------------------------------------------
-- Monitoring views
-- ---------------------------------------------------------------------------

/*
 * What people look at in psql.  Everything here runs with its reader's rights
 * (security_invoker), needs pg_monitor, works on a standby, and waits for
 * nobody's lock: sizes come from the file system, not from pg_relation_size(),
 * which queues behind ALTER TABLE.
 *
 * Cost.  Views of sessions, databases and replication cost what the server's
 * own views do.  Those of tables read pg_class once and ask the statistics for
 * each row, some ten microseconds a table; sizes add two to four stat() calls a
 * relation.  A filter on schema_name or table_name is applied before that.
 * With 50,000 tables (250,000 relations) the dearest, pgopt_sequences,
 * pgopt_columns and pgopt_table_sizes, take two to three seconds.
 */

CREATE FUNCTION pgopt.relation_bytes(relation oid) RETURNS bigint
	AS 'MODULE_PATHNAME', 'pgopt_relation_bytes' LANGUAGE C VOLATILE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pgopt.relation_bytes(oid) IS
	'bytes of the files of one relation, without its indexes and TOAST; takes no lock, so that it never waits; null = no files';

CREATE FUNCTION pgopt.last_scan(relation oid) RETURNS timestamptz
	AS 'MODULE_PATHNAME', 'pgopt_last_scan' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pgopt.last_scan(oid) IS 'when a table or index was last scanned; null = not since the statistics were reset, or the server is older than 16';

CREATE FUNCTION pgopt.sequence_state(sequence oid, OUT last_value bigint, OUT note text)
RETURNS record
	AS 'MODULE_PATHNAME', 'pgopt_sequence_state' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION pgopt.sequence_state(oid) IS
	'last value of a sequence that the caller may read, or why there is none; never waits, and keeps no lock';

CREATE FUNCTION pgopt.column_default(expression pg_node_tree, relation oid) RETURNS text
	AS 'MODULE_PATHNAME', 'pgopt_column_default' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pgopt.column_default(pg_node_tree, oid) IS
	'text of a column''s default; null while another session has the table locked, since it never waits';

CREATE FUNCTION pgopt.percent(part numeric, whole numeric) RETURNS numeric
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN round(100 * part / nullif(whole, 0), 1);
COMMENT ON FUNCTION pgopt.percent(numeric, numeric) IS 'part of a whole in percent; null where the whole is 0';

CREATE FUNCTION pgopt.age(since timestamptz) RETURNS interval
	LANGUAGE sql VOLATILE STRICT PARALLEL SAFE
RETURN date_trunc('milliseconds', greatest(clock_timestamp() - since, interval '0'));
COMMENT ON FUNCTION pgopt.age(timestamptz) IS 'time passed since then';

CREATE FUNCTION pgopt.lock_target(
	locktype text, database oid, relation oid, page integer, tuple smallint, virtualxid text,
	transactionid xid, classid oid, objid oid, objsubid smallint) RETURNS text
	LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE
	WHEN relation IS NOT NULL THEN
		CASE locktype WHEN 'relation' THEN '' WHEN 'tuple' THEN 'row (' || page || ',' || tuple || ') of '
		              WHEN 'page' THEN 'page ' || page || ' of ' ELSE locktype || ' of ' END
		|| CASE WHEN database IN (0, (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
		        THEN relation::regclass::text ELSE 'relation ' || relation || ' of another database' END
	WHEN transactionid IS NOT NULL THEN 'end of transaction ' || transactionid
	WHEN virtualxid IS NOT NULL THEN 'end of transaction ' || virtualxid
	WHEN locktype = 'advisory' AND objsubid = 1 THEN 'advisory ' || ((classid::bigint << 32) | objid::bigint)
	WHEN locktype = 'advisory' THEN 'advisory ' || classid || ', ' || objid
	WHEN classid IS NOT NULL THEN classid::regclass::text || ' ' || objid
	ELSE locktype END;
COMMENT ON FUNCTION pgopt.lock_target(text, oid, oid, integer, smallint, text, xid, oid, oid, smallint) IS
	'what a row of pg_locks is about, in words';

-- Sessions and locks

CREATE VIEW pgopt_active_connections WITH (security_invoker = true) AS
	SELECT a.pid, a.datname AS database, a.usename AS user_name,
	       a.application_name AS application, coalesce(host(a.client_addr), 'local') AS client,
	       a.state, pgopt.age(a.state_change) AS state_age, pgopt.age(a.xact_start) AS transaction_age,
	       a.wait_event_type || ': ' || a.wait_event AS waits_for,
	       CASE WHEN a.wait_event_type = 'Lock' THEN pg_blocking_pids(a.pid) END AS blocked_by,
	       a.query
	  FROM pg_stat_activity a
	 WHERE a.backend_type = 'client backend' AND a.state <> 'idle' AND a.pid <> pg_backend_pid()
	 ORDER BY a.xact_start NULLS LAST, a.pid;
COMMENT ON VIEW pgopt_active_connections IS
	'sessions of clients that are not idle, except this one, the oldest transaction first; costs nothing in tables';
COMMENT ON COLUMN pgopt_active_connections.state_age IS 'how long it has been in its state; for an active one, how long its statement has run';
COMMENT ON COLUMN pgopt_active_connections.blocked_by IS 'pids that hold the lock that it waits for, or are in the queue before it; 0 = a prepared transaction';

CREATE VIEW pgopt_connections WITH (security_invoker = true) AS
	SELECT a.datname AS database, a.usename AS user_name, a.application_name AS application,
	       coalesce(host(a.client_addr), 'local') AS client, coalesce(a.state, 'unknown') AS state,
	       count(*) AS connections,
	       pgopt.percent(count(*), current_setting('max_connections')::numeric) AS percent_of_max,
	       pgopt.age(min(a.state_change)) AS longest_in_state,
	       pgopt.age(min(a.xact_start)) AS oldest_transaction,
	       pgopt.age(min(a.backend_start)) AS oldest_connection
	  FROM pg_stat_activity a
	 WHERE a.backend_type = 'client backend'
	 GROUP BY 1, 2, 3, 4, 5
	 ORDER BY connections DESC, database, user_name, application, client, state;
COMMENT ON VIEW pgopt_connections IS
	'how many connections clients have, by database, user, application, client and state, most first; costs nothing in tables';
COMMENT ON COLUMN pgopt_connections.percent_of_max IS 'of max_connections';

/*
 * A waiter can have many blockers: whoever holds the lock and whoever stands
 * before it in the queue.  Its parent in the tree is one that does not wait
 * itself, if there is any, else the one that has waited longest, so that there
 * is one way up from each.  A circle (a deadlock that the server has not broken
 * yet) starts with its lowest pid.  pg_blocking_pids() holds all lock
 * partitions, and so is asked for waiters only.
 */
CREATE VIEW pgopt_blocking WITH (security_invoker = true) AS
	WITH RECURSIVE waiter AS MATERIALIZED (
		SELECT a.pid, pg_blocking_pids(a.pid) AS blocked_by
		  FROM pg_stat_activity a
		 WHERE a.wait_event_type = 'Lock'
	), lock AS MATERIALIZED (
		SELECT l.* FROM pg_locks l WHERE NOT l.granted OR l.locktype = 'tuple'
	), waiting AS MATERIALIZED (
		SELECT w.pid, w.blocked_by, l.waitstart, l.mode,
		       pgopt.lock_target(l.locktype, l.database, l.relation, l.page, l.tuple, l.virtualxid,
		                         l.transactionid, l.classid, l.objid, l.objsubid) AS target,
		       coalesce(l.relation, t.relation) AS relation,
		       coalesce(l.database, t.database) AS database,
		       CASE WHEN l.relation IS NULL THEN
		           pgopt.lock_target(t.locktype, t.database, t.relation, t.page, t.tuple, NULL, NULL, NULL, NULL, NULL)
		       END AS for_row,
		       row_number() OVER (ORDER BY l.waitstart, w.pid) AS place
		  FROM waiter w
		  LEFT JOIN LATERAL (SELECT * FROM lock l WHERE l.pid = w.pid AND NOT l.granted
		                      ORDER BY l.waitstart LIMIT 1) l ON true
		  /* who waits for another transaction's end because of a row has a lock on that row */
		  LEFT JOIN LATERAL (SELECT * FROM lock t WHERE t.pid = w.pid AND t.granted LIMIT 1) t
		            ON l.locktype = 'transactionid'
		 WHERE cardinality(w.blocked_by) > 0
	), edge AS MATERIALIZED (
		SELECT DISTINCT ON (w.pid) w.pid, b.pid AS parent, p.pid IS NOT NULL AS parent_waits
		  FROM waiting w CROSS JOIN unnest(w.blocked_by) b (pid) LEFT JOIN waiting p ON p.pid = b.pid
		 ORDER BY w.pid, p.place NULLS FIRST, b.pid
	), up (start, pid) AS (
		SELECT e.pid, e.parent FROM edge e WHERE e.parent_waits
		UNION
		SELECT u.start, e.parent FROM up u JOIN edge e ON e.pid = u.pid WHERE e.parent_waits
	), circle AS (
		SELECT u.start AS pid FROM up u GROUP BY u.start
		HAVING bool_or(u.pid = u.start) AND min(u.pid) = u.start
	), tree (root_pid, pid, depth, path) AS (
		SELECT r.pid, r.pid, 0, '{}'::bigint[]
		  FROM (SELECT e.parent AS pid FROM edge e WHERE NOT e.parent_waits UNION SELECT c.pid FROM circle c) r
		UNION ALL
		SELECT t.root_pid, e.pid, t.depth + 1, t.path || w.place
		  FROM tree t JOIN edge e ON e.parent = t.pid JOIN waiting w ON w.pid = e.pid
		 WHERE e.pid NOT IN (SELECT c.pid FROM circle c)
	), counted AS (
		SELECT t.*, count(*) OVER (PARTITION BY t.root_pid) - 1 AS blocked FROM tree t
	)
	SELECT repeat('  ', c.depth) || CASE WHEN c.depth > 0 THEN '+ ' ELSE '' END
	       || CASE c.pid WHEN 0 THEN 'prepared' ELSE c.pid::text END AS session,
	       c.depth, c.root_pid, c.pid, w.blocked_by,
	       CASE WHEN c.depth = 0 THEN c.blocked END AS blocked,
	       pgopt.age(w.waitstart) AS wait, w.mode AS lock_mode, coalesce(w.for_row, w.target) AS waits_for,
	       CASE WHEN w.database IN (0, (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
	            THEN w.relation::regclass END AS relation,
	       a.datname AS database, a.usename AS user_name, a.application_name AS application,
	       a.state, pgopt.age(a.xact_start) AS transaction_age, a.query
	  FROM counted c
	  LEFT JOIN waiting w ON w.pid = c.pid
	  LEFT JOIN pg_stat_activity a ON a.pid = c.pid
	 ORDER BY c.blocked DESC, c.root_pid, c.path;
COMMENT ON VIEW pgopt_blocking IS
	'who waits for whom, as a tree: the root of each, which waits for nobody, first; asks pg_blocking_pids() for waiting sessions only, and costs nothing where nobody waits';
COMMENT ON COLUMN pgopt_blocking.session IS 'pid, indented by depth; "prepared" = a prepared transaction, see pg_prepared_xacts';
COMMENT ON COLUMN pgopt_blocking.root_pid IS 'the session at the root; end that one (pg_terminate_backend) and the others go on';
COMMENT ON COLUMN pgopt_blocking.blocked_by IS 'all that it waits for; at a root only within a deadlock';
COMMENT ON COLUMN pgopt_blocking.blocked IS 'at the root: sessions that wait for it, directly or not';

CREATE VIEW pgopt_locks WITH (security_invoker = true) AS
	SELECT l.pid, d.datname AS database, l.locktype AS lock_type,
	       pgopt.lock_target(l.locktype, l.database, l.relation, l.page, l.tuple, l.virtualxid,
	                         l.transactionid, l.classid, l.objid, l.objsubid) AS target,
	       l.mode AS lock_mode, l.granted, pgopt.age(l.waitstart) AS wait,
	       a.usename AS user_name, a.application_name AS application, a.state,
	       pgopt.age(a.xact_start) AS transaction_age, a.query
	  FROM pg_locks l
	  LEFT JOIN pg_stat_activity a ON a.pid = l.pid
	  LEFT JOIN pg_database d ON d.oid = l.database
	 WHERE l.pid IS DISTINCT FROM pg_backend_pid()
	   AND (l.locktype NOT IN ('virtualxid', 'transactionid') OR NOT l.granted)
	 ORDER BY l.granted, l.waitstart, a.xact_start, l.pid, l.locktype, target, l.mode;
COMMENT ON VIEW pgopt_locks IS
	'locks that others hold (prepared transactions have no pid), those that are waited for first, without each transaction''s lock on itself; costs what pg_locks does, nothing in tables';

-- Cache

CREATE VIEW pgopt_cache_hit WITH (security_invoker = true) AS
	SELECT CASE WHEN grouping(s.datname) = 1 THEN '(all)' ELSE s.datname::text END AS database,
	       sum(s.blks_hit)::bigint AS hits, sum(s.blks_read)::bigint AS reads,
	       pgopt.percent(sum(s.blks_hit), sum(s.blks_hit + s.blks_read)) AS hit_percent,
	       pg_size_pretty(sum(s.blks_read) * current_setting('block_size')::numeric) AS read_size,
	       max(s.stats_reset) AS since
	  FROM pg_stat_database s
	 WHERE s.datname IS NOT NULL
	 GROUP BY GROUPING SETS ((), (s.datname))
	 ORDER BY grouping(s.datname) DESC, reads DESC, database;
COMMENT ON VIEW pgopt_cache_hit IS
	'how often blocks were found in shared buffers, over all and by database; costs nothing in tables';
COMMENT ON COLUMN pgopt_cache_hit.hits IS 'blocks; with fewer than 10,000 hits and reads the percentage says little';
COMMENT ON COLUMN pgopt_cache_hit.reads IS 'blocks that the operating system was asked for; its own cache may have had them';
COMMENT ON COLUMN pgopt_cache_hit.since IS 'when the statistics were reset; null = never';

CREATE VIEW pgopt_table_cache WITH (security_invoker = true) AS
	SELECT n.nspname AS schema_name, c.relname AS table_name, s.hits, s.reads,
	       pgopt.percent(s.hits, s.hits + s.reads) AS hit_percent,
	       s.index_hits, s.index_reads,
	       pgopt.percent(s.index_hits, s.index_hits + s.index_reads) AS index_hit_percent,
	       s.toast_hits, s.toast_reads,
	       pgopt.percent(s.toast_hits, s.toast_hits + s.toast_reads) AS toast_hit_percent
	  FROM pg_class c
	  JOIN pg_namespace n ON n.oid = c.relnamespace
	 CROSS JOIN LATERAL (
		SELECT pg_stat_get_blocks_hit(c.oid) AS hits,
		       pg_stat_get_blocks_fetched(c.oid) - pg_stat_get_blocks_hit(c.oid) AS reads,
		       coalesce(i.hits, 0) AS index_hits, coalesce(i.reads, 0) AS index_reads,
		       pg_stat_get_blocks_hit(nullif(c.reltoastrelid, 0)) AS toast_hits,
		       pg_stat_get_blocks_fetched(nullif(c.reltoastrelid, 0))
		       - pg_stat_get_blocks_hit(nullif(c.reltoastrelid, 0)) AS toast_reads
		  FROM (SELECT sum(pg_stat_get_blocks_hit(i.indexrelid))::bigint AS hits,
		               sum(pg_stat_get_blocks_fetched(i.indexrelid) - pg_stat_get_blocks_hit(i.indexrelid))::bigint AS reads
		          FROM pg_index i WHERE i.indrelid = c.oid) i
		OFFSET 0) s
	 WHERE c.relkind IN ('r', 'm')
	   AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
	 ORDER BY s.reads + s.index_reads + coalesce(s.toast_reads, 0) DESC, 1, 2;
COMMENT ON VIEW pgopt_table_cache IS
	'blocks of each table, its indexes and its TOAST found in shared buffers (hits) or not (reads), most reads first; about 15 microseconds a table';
COMMENT ON COLUMN pgopt_table_cache.hits IS 'blocks of the table itself; percentages of a few blocks say little';

CREATE VIEW pgopt_index_cache WITH (security_invoker = true) AS
	SELECT n.nspname AS schema_name, t.relname AS table_name, c.relname AS index_name, s.hits, s.reads,
	       pgopt.percent(s.hits, s.hits + s.reads) AS hit_percent
	  FROM pg_index i
	  JOIN pg_class c ON c.oid = i.indexrelid
	  JOIN pg_class t ON t.oid = i.indrelid
	  JOIN pg_namespace n ON n.oid = t.relnamespace
	 CROSS JOIN LATERAL (
		SELECT pg_stat_get_blocks_hit(c.oid) AS hits,
		       pg_stat_get_blocks_fetched(c.oid) - pg_stat_get_blocks_hit(c.oid) AS reads
		OFFSET 0) s
	 WHERE c.relkind = 'i' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
	 ORDER BY s.reads DESC, 1, 2, 3;
COMMENT ON VIEW pgopt_index_cache IS
	'blocks of each index found in shared buffers (hits) or not (reads), most reads first; about 15 microseconds an index';

-- Sizes

CREATE VIEW pgopt_table_sizes WITH (security_invoker = true) AS
	SELECT n.nspname AS schema_name, c.relname AS table_name,
	       CASE c.relkind WHEN 'm' THEN 'materialized view' ELSE 'table' END AS kind,
	       greatest(c.reltuples, 0)::bigint AS estimated_rows,
	       s.main + s.toast + s.indexes AS total_bytes,
	       pg_size_pretty(s.main + s.toast + s.indexes) AS total_size,
	       s.main + s.toast AS table_bytes, pg_size_pretty(s.main + s.toast) AS table_size,
	       s.indexes AS index_bytes, pg_size_pretty(s.indexes) AS index_size,
	       s.toast AS toast_bytes, pg_size_pretty(s.toast) AS toast_size,
	       CASE WHEN c.relispartition THEN pg_partition_root(c.oid) END AS partition_of
	  FROM pg_class c
	  JOIN pg_namespace n ON n.oid = c.relnamespace
	 CROSS JOIN LATERAL (
		SELECT coalesce(pgopt.relation_bytes(c.oid), 0) AS main,
		       CASE WHEN c.reltoastrelid = 0 THEN 0 ELSE
		           coalesce(pgopt.relation_bytes(c.reltoastrelid), 0)
		           + coalesce((SELECT sum(pgopt.relation_bytes(i.indexrelid))::bigint
		                         FROM pg_index i WHERE i.indrelid = c.reltoastrelid), 0) END AS toast,
		       CASE WHEN NOT c.relhasindex THEN 0 ELSE
		           coalesce((SELECT sum(pgopt.relation_bytes(i.indexrelid))::bigint
		                       FROM pg_index i WHERE i.indrelid = c.oid), 0) END AS indexes) s
	 WHERE c.relkind IN ('r', 'm')
	   AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
	 ORDER BY total_bytes DESC, 1, 2;
COMMENT ON VIEW pgopt_table_sizes IS
	'size of each table and materialized view with its indexes, largest first; asks the file system, about 40 microseconds a table';
COMMENT ON COLUMN pgopt_table_sizes.estimated_rows IS 'as of the last VACUUM or ANALYZE';
COMMENT ON COLUMN pgopt_table_sizes.total_bytes IS 'table_bytes and index_bytes';
COMMENT ON COLUMN pgopt_table_sizes.table_bytes IS 'with TOAST';
COMMENT ON COLUMN pgopt_table_sizes.toast_bytes IS 'with the index of the TOAST table; part of table_bytes';
COMMENT ON COLUMN pgopt_table_sizes.partition_of IS 'the partitioned table at the root';

CREATE VIEW pgopt_index_sizes WITH (security_invoker = true) AS
	SELECT n.nspname AS schema_name, t.relname AS table_name, c.relname AS index_name,
	       s.bytes AS index_bytes, pg_size_pretty(s.bytes) AS index_size,
	       pgopt.percent(s.bytes, s.table_bytes) AS percent_of_table,
	       greatest(c.reltuples, 0)::bigint AS estimated_rows,
	       m.amname AS method, i.indisunique AS is_unique, i.indisvalid AS is_valid
	  FROM pg_index i
	  JOIN pg_class c ON c.oid = i.indexrelid
	  JOIN pg_class t ON t.oid = i.indrelid
	  JOIN pg_namespace n ON n.oid = t.relnamespace
	  JOIN pg_am m ON m.oid = c.relam
	 CROSS JOIN LATERAL (
		SELECT coalesce(pgopt.relation_bytes(c.oid), 0) AS bytes,
		       coalesce(pgopt.relation_bytes(t.oid), 0) AS table_bytes) s
	 WHERE c.relkind = 'i' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
	 ORDER BY s.bytes DESC, 1, 2, 3;
COMMENT ON VIEW pgopt_index_sizes IS 'size of each index, largest first; asks the file system, about 20 microseconds an index';
COMMENT ON COLUMN pgopt_index_sizes.percent_of_table IS 'of the table without its TOAST';

CREATE VIEW pgopt_database_sizes WITH (security_invoker = true) AS
	SELECT d.datname AS database, pg_get_userbyid(d.datdba) AS owner,
	       s.bytes AS total_bytes, pg_size_pretty(s.bytes) AS total_size,
	       pgopt.percent(s.bytes, sum(s.bytes) OVER ()) AS percent_of_all,
	       t.spcname AS tablespace, pg_stat_get_db_numbackends(d.oid) AS connections,
	       nullif(d.datconnlimit, -1) AS connection_limit
	  FROM pg_database d
	  JOIN pg_tablespace t ON t.oid = d.dattablespace
	 CROSS JOIN LATERAL (SELECT pg_database_size(d.oid) AS bytes) s
	 ORDER BY s.bytes DESC NULLS LAST, 1;
COMMENT ON VIEW pgopt_database_sizes IS
	'size of each database, largest first; asks the file system for every file: about 2 microseconds each, in all databases';
COMMENT ON COLUMN pgopt_database_sizes.connections IS 'server processes connected to it, with those that work in the background';

CREATE VIEW pgopt_temp_files WITH (security_invoker = true) AS
	WITH now AS MATERIALIZED (
		SELECT substring(f.name FROM '^pgsql_tmp([0-9]+)\.')::integer AS pid, f.size
		  FROM pg_tablespace t CROSS JOIN LATERAL pg_ls_tmpdir(t.oid) f
		 WHERE t.spcname <> 'pg_global'
	), by_database AS (
		SELECT a.datid, count(*) AS files, sum(n.size)::bigint AS bytes, array_agg(DISTINCT n.pid) AS pids
		  FROM now n JOIN pg_stat_activity a ON a.pid = n.pid
		 GROUP BY a.datid
	)
	SELECT d.datname AS database, d.temp_files AS files, d.temp_bytes AS total_bytes,
	       pg_size_pretty(d.temp_bytes) AS total_size,
	       pg_size_pretty(d.temp_bytes / nullif(d.temp_files, 0)) AS mean_size,
	       d.stats_reset AS since,
	       coalesce(n.files, 0) AS now_files, coalesce(n.bytes, 0) AS now_bytes,
	       pg_size_pretty(coalesce(n.bytes, 0)) AS now_size, n.pids AS now_pids
	  FROM pg_stat_database d LEFT JOIN by_database n ON n.datid = d.datid
	 WHERE d.datname IS NOT NULL
	 ORDER BY coalesce(n.bytes, 0) DESC, d.temp_bytes DESC, 1;
COMMENT ON VIEW pgopt_temp_files IS
	'temporary files of sorts and hashes that did not fit into work_mem, by database: in all, and those that exist now; costs nothing in tables';
COMMENT ON COLUMN pgopt_temp_files.files IS 'since the statistics were reset; a file counts when it is closed';
COMMENT ON COLUMN pgopt_temp_files.now_files IS 'without those that parallel workers share';
COMMENT ON COLUMN pgopt_temp_files.now_pids IS 'sessions that have them; see pgopt_active_connections';

-- Tables and indexes

CREATE VIEW pgopt_table_stats WITH (security_invoker = true) AS
	SELECT n.nspname AS schema_name, c.relname AS table_name,
	       s.live AS live_rows, s.dead AS dead_rows, pgopt.percent(s.dead, s.live + s.dead) AS dead_percent,
	       pg_stat_get_numscans(c.oid) AS seq_scans, s.seq_rows AS seq_rows_read,
	       coalesce(i.scans, 0) AS index_scans, coalesce(i.rows, 0) + pg_stat_get_tuples_fetched(c.oid) AS index_rows_read,
	       s.inserted, s.updated, pgopt.percent(pg_stat_get_tuples_hot_updated(c.oid), s.updated) AS hot_percent,
	       s.deleted, pg_stat_get_mod_since_analyze(c.oid) AS changed_since_analyze,
	       greatest(pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid)) AS last_vacuum,
	       greatest(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)) AS last_analyze
	  FROM pg_class c
	  JOIN pg_namespace n ON n.oid = c.relnamespace
	 CROSS JOIN LATERAL (
		SELECT pg_stat_get_live_tuples(c.oid) AS live, pg_stat_get_dead_tuples(c.oid) AS dead,
		       pg_stat_get_tuples_returned(c.oid) AS seq_rows, pg_stat_get_tuples_inserted(c.oid) AS inserted,
		       pg_stat_get_tuples_updated(c.oid) AS updated, pg_stat_get_tuples_deleted(c.oid) AS deleted
		OFFSET 0) s
	 CROSS JOIN LATERAL (
		SELECT sum(pg_stat_get_numscans(i.indexrelid))::bigint AS scans,
		       sum(pg_stat_get_tuples_fetched(i.indexrelid))::bigint AS rows
		  FROM pg_index i WHERE i.indrelid = c.oid) i
	 WHERE c.relkind IN ('r', 'm')
	   AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
	 ORDER BY s.inserted + s.updated + s.deleted + s.seq_rows DESC, 1, 2;
COMMENT ON VIEW pgopt_table_stats IS
	'rows, scans, changes and last maintenance of each table since the statistics were reset, the most used first; about 20 microseconds a table';
COMMENT ON COLUMN pgopt_table_stats.live_rows IS 'as the statistics estimate them';
COMMENT ON COLUMN pgopt_table_stats.hot_percent IS 'updates that needed no new index entries';
COMMENT ON COLUMN pgopt_table_stats.last_vacuum IS 'by a user or by autovacuum';

CREATE VIEW pgopt_index_usage WITH (security_invoker = true) AS
	SELECT n.nspname AS schema_name, t.relname AS table_name, c.relname AS index_name,
	       s.scans, s.rows_read, s.bytes AS index_bytes, pg_size_pretty(s.bytes) AS index_size,
	       CASE WHEN s.scans = 0 THEN 'unused' WHEN s.scans < 10 THEN 'rarely_used' ELSE 'active' END AS usage,
	       pgopt.last_scan(c.oid) AS last_scan,
	       CASE WHEN i.indisprimary THEN 'primary key' WHEN i.indisexclusion THEN 'exclusion'
	            WHEN i.indisunique THEN 'unique' WHEN i.indisreplident THEN 'replica identity'
	            ELSE 'index' END AS kind,
	       i.indisvalid AS is_valid,
	       pg_stat_get_db_stat_reset_time((SELECT d.oid FROM pg_database d WHERE d.datname = current_database())) AS since
	  FROM pg_index i
	  JOIN pg_class c ON c.oid = i.indexrelid
	  JOIN pg_class t ON t.oid = i.indrelid
	  JOIN pg_namespace n ON n.oid = t.relnamespace
	 CROSS JOIN LATERAL (
		SELECT pg_stat_get_numscans(c.oid) AS scans, pg_stat_get_tuples_returned(c.oid) AS rows_read,
		       coalesce(pgopt.relation_bytes(c.oid), 0) AS bytes) s
	 WHERE c.relkind = 'i' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
	 ORDER BY s.scans, s.bytes DESC, 1, 2, 3;
COMMENT ON VIEW pgopt_index_usage IS
	'how often each index was scanned since the statistics were reset: unused, rarely_used (fewer than 10) or active; least used and largest first; about 20 microseconds an index';
COMMENT ON COLUMN pgopt_index_usage.rows_read IS 'index entries';
COMMENT ON COLUMN pgopt_index_usage.last_scan IS 'from PostgreSQL 16 on';
COMMENT ON COLUMN pgopt_index_usage.kind IS 'only an index of kind "index" is there for speed alone; standbys have scans of their own';
COMMENT ON COLUMN pgopt_index_usage.since IS 'when the statistics were reset; null = never';

/*
 * Autovacuum's own arithmetic.  A TOAST table counts by itself, with the
 * storage parameters of its table where it has none.
 */
CREATE VIEW pgopt_autovacuum WITH (security_invoker = true) AS
	WITH server AS MATERIALIZED (
		SELECT current_setting('autovacuum')::boolean AS enabled,
		       current_setting('track_counts')::boolean AS track_counts,
		       current_setting('autovacuum_vacuum_threshold')::float8 AS vacuum_base,
		       current_setting('autovacuum_vacuum_scale_factor')::float8 AS vacuum_scale,
		       coalesce(current_setting('autovacuum_vacuum_max_threshold', true), '-1')::float8 AS vacuum_max,
		       current_setting('autovacuum_vacuum_insert_threshold')::float8 AS insert_base,
		       current_setting('autovacuum_vacuum_insert_scale_factor')::float8 AS insert_scale,
		       current_setting('autovacuum_analyze_threshold')::float8 AS analyze_base,
		       current_setting('autovacuum_analyze_scale_factor')::float8 AS analyze_scale,
		       current_setting('autovacuum_freeze_max_age')::integer AS freeze_max_age,
		       current_setting('autovacuum_multixact_freeze_max_age')::integer AS multixact_max_age,
		       current_setting('autovacuum_max_workers')::integer AS workers,
		       current_setting('server_version_num')::integer AS version,
		       pg_is_in_recovery() AS standby,
		       (SELECT count(*) FROM pg_stat_activity a WHERE a.backend_type = 'autovacuum worker') AS busy,
		       (SELECT min(a.xact_start) FROM pg_stat_activity a
		         WHERE a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL) AS oldest_transaction
	), progress AS MATERIALIZED (
		SELECT p.relid, p.pid, 'vacuum: ' || p.phase
		       || coalesce(', ' || round(100.0 * p.heap_blks_scanned / nullif(p.heap_blks_total, 0)) || ' % scanned', '') AS doing
		  FROM pg_stat_progress_vacuum p WHERE p.datname = current_database()
		UNION ALL
		SELECT p.relid, p.pid, 'analyze: ' || p.phase
		       || coalesce(', ' || round(100.0 * p.sample_blks_scanned / nullif(p.sample_blks_total, 0)) || ' % sampled', '')
		  FROM pg_stat_progress_analyze p WHERE p.datname = current_database()
	), counted AS (
		SELECT n.nspname AS schema_name, coalesce(t.relname, c.relname) AS table_name,
		       c.relkind = 't' AS is_toast, c.oid,
		       pg_stat_get_dead_tuples(c.oid) AS dead, pg_stat_get_ins_since_vacuum(c.oid) AS inserted,
		       CASE WHEN c.relkind <> 't' THEN pg_stat_get_mod_since_analyze(c.oid) END AS changed,
		       age(c.relfrozenxid) AS xid_age, mxid_age(c.relminmxid) AS mxid_age,
		       greatest(c.reltuples, 0) AS rows,
		       /* 18 weighs inserts by the share of the table that is not frozen */
		       CASE WHEN s.version >= 180000 AND c.relpages > 0
		            THEN 1 - least((to_jsonb(c.*) ->> 'relallfrozen')::float8 / c.relpages, 1) ELSE 1 END AS unfrozen,
		       o.*
		  FROM pg_class c
		 CROSS JOIN server s
		  LEFT JOIN pg_class t ON c.relkind = 't' AND t.reltoastrelid = c.oid
		  JOIN pg_namespace n ON n.oid = coalesce(t.relnamespace, c.relnamespace)
		 CROSS JOIN LATERAL (
			SELECT max(p.option_value) FILTER (WHERE p.option_name = 'autovacuum_enabled')::boolean AS enabled,
			       max(p.option_value) FILTER (WHERE p.option_name = 'autovacuum_vacuum_threshold')::float8 AS vacuum_base,
			       max(p.option_value) FILTER (WHERE p.option_name = 'autovacuum_vacuum_scale_factor')::float8 AS vacuum_scale,
			       max(p.option_value) FILTER (WHERE p.option_name = 'autovacuum_vacuum_max_threshold')::float8 AS vacuum_max,
			       max(p.option_value) FILTER (WHERE p.option_name = 'autovacuum_vacuum_insert_threshold')::float8 AS insert_base,
			       max(p.option_value) FILTER (WHERE p.option_name = 'autovacuum_vacuum_insert_scale_factor')::float8 AS insert_scale,
			       max(p.option_value) FILTER (WHERE p.option_name = 'autovacuum_analyze_threshold')::float8 AS analyze_base,
			       max(p.option_value) FILTER (WHERE p.option_name = 'autovacuum_analyze_scale_factor')::float8 AS analyze_scale,
			       max(p.option_value) FILTER (WHERE p.option_name = 'autovacuum_freeze_max_age')::integer AS freeze_max_age,
			       max(p.option_value) FILTER (WHERE p.option_name = 'autovacuum_multixact_freeze_max_age')::integer AS multixact_max_age
			  FROM pg_options_to_table(coalesce(c.reloptions, t.reloptions)) p) o
		 WHERE (c.relkind IN ('r', 'm') OR (c.relkind = 't' AND pg_stat_get_dead_tuples(c.oid) > 0))
		   AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
	), threshold AS (
		SELECT c.*, s.enabled AS server_enabled, s.track_counts, s.workers, s.busy, s.standby, s.oldest_transaction,
		       CASE WHEN coalesce(c.vacuum_max, s.vacuum_max) >= 0
		            THEN least(coalesce(c.vacuum_max, s.vacuum_max),
		                       coalesce(c.vacuum_base, s.vacuum_base) + coalesce(c.vacuum_scale, s.vacuum_scale) * c.rows)
		            ELSE coalesce(c.vacuum_base, s.vacuum_base) + coalesce(c.vacuum_scale, s.vacuum_scale) * c.rows
		       END AS dead_at,
		       CASE WHEN coalesce(c.insert_base, s.insert_base) >= 0
		            THEN coalesce(c.insert_base, s.insert_base)
		                 + coalesce(c.insert_scale, s.insert_scale) * c.rows * c.unfrozen
		       END AS inserted_at,
		       CASE WHEN NOT c.is_toast
		            THEN coalesce(c.analyze_base, s.analyze_base) + coalesce(c.analyze_scale, s.analyze_scale) * c.rows
		       END AS changed_at,
		       least(c.freeze_max_age, s.freeze_max_age) AS freeze_at,
		       least(c.multixact_max_age, s.multixact_max_age) AS multixact_at,
		       greatest(pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid)) AS last_vacuum
		  FROM counted c CROSS JOIN server s
	), due AS (
		SELECT t.*, t.xid_age > t.freeze_at OR t.mxid_age > t.multixact_at AS freeze_due,
		       t.dead > t.dead_at OR coalesce(t.inserted > t.inserted_at, false) AS vacuum_due,
		       coalesce(t.changed > t.changed_at, false) AS analyze_due
		  FROM threshold t
	)
	SELECT d.schema_name, d.table_name, CASE WHEN d.is_toast THEN 'TOAST' ELSE 'table' END AS part,
	       concat_ws(', ', CASE WHEN d.freeze_due THEN 'freeze' END, CASE WHEN d.vacuum_due THEN 'vacuum' END,
	                 CASE WHEN d.analyze_due THEN 'analyze' END) AS due,
	       d.dead AS dead_rows, d.dead_at::bigint AS vacuum_at,
	       pgopt.percent(d.dead, d.dead_at::numeric) AS vacuum_percent,
	       d.inserted AS inserted_rows, d.inserted_at::bigint AS insert_at,
	       pgopt.percent(d.inserted, d.inserted_at::numeric) AS insert_percent,
	       d.changed AS changed_rows, d.changed_at::bigint AS analyze_at,
	       pgopt.percent(d.changed, d.changed_at::numeric) AS analyze_percent,
	       greatest(pgopt.percent(d.xid_age, d.freeze_at), pgopt.percent(d.mxid_age, d.multixact_at)) AS freeze_percent,
	       d.last_vacuum, pg_stat_get_last_autovacuum_time(d.oid) AS last_autovacuum,
	       greatest(pg_stat_get_last_analyze_time(d.oid), pg_stat_get_last_autoanalyze_time(d.oid)) AS last_analyze,
	       p.pid AS running_pid, p.doing AS running,
	       CASE WHEN p.pid IS NOT NULL THEN NULL
	            WHEN d.standby THEN 'this is a standby: its primary vacuums'
	            /* neither switch keeps autovacuum from freezing */
	            WHEN d.freeze_due AND d.busy >= d.workers THEN 'all ' || d.workers || ' autovacuum workers are busy'
	            WHEN d.freeze_due THEN 'next round, within autovacuum_naptime'
	            WHEN NOT d.server_enabled THEN 'autovacuum is off'
	            WHEN NOT d.track_counts THEN 'track_counts is off'
	            WHEN NOT d.enabled THEN 'autovacuum_enabled is off for this table'
	            WHEN NOT d.vacuum_due AND NOT d.analyze_due THEN NULL
	            WHEN d.dead > d.dead_at AND d.last_vacuum > d.oldest_transaction
	              THEN 'vacuumed, but a transaction that began at '
	                   || date_trunc('second', d.oldest_transaction) || ' may still see its dead rows'
	            WHEN d.busy >= d.workers THEN 'all ' || d.workers || ' autovacuum workers are busy'
	            ELSE 'next round, within autovacuum_naptime' END AS why_not
	  FROM due d
	  LEFT JOIN progress p ON p.relid = d.oid
	 ORDER BY d.freeze_due DESC, p.pid IS NULL,
	          greatest(d.dead / nullif(d.dead_at, 0), d.inserted / nullif(d.inserted_at, 0),
	                   d.changed / nullif(d.changed_at, 0)) DESC NULLS LAST, 1, 2, 3;
COMMENT ON VIEW pgopt_autovacuum IS
	'how far each table is from being vacuumed and analysed, by the thresholds that hold for it, what runs now and why what is due does not; the most due first; about 20 microseconds a table';
COMMENT ON COLUMN pgopt_autovacuum.part IS 'the table, or its TOAST table where that has dead rows';
COMMENT ON COLUMN pgopt_autovacuum.due IS 'freeze, vacuum, analyze; empty = nothing';
COMMENT ON COLUMN pgopt_autovacuum.vacuum_at IS 'dead rows from which it is vacuumed: settings or storage parameters, and rows';
COMMENT ON COLUMN pgopt_autovacuum.insert_at IS 'rows inserted since the last vacuum from which it is vacuumed; null = never for that reason';
COMMENT ON COLUMN pgopt_autovacuum.analyze_at IS 'rows changed since the last analyze from which it is analysed';
COMMENT ON COLUMN pgopt_autovacuum.freeze_percent IS 'of the age of transaction or multixact IDs at which autovacuum freezes it, enabled or not';
COMMENT ON COLUMN pgopt_autovacuum.running IS 'vacuum or analyze that works on it now, of autovacuum or of a user';

CREATE VIEW pgopt_foreign_keys WITH (security_invoker = true) AS
	SELECT n.nspname AS schema_name, c.relname AS table_name, k.conname AS constraint_name,
	       f.columns, k.confrelid::regclass AS referenced_table, f.referenced_columns,
	       CASE k.confupdtype WHEN 'a' THEN 'NO ACTION' WHEN 'r' THEN 'RESTRICT' WHEN 'c' THEN 'CASCADE'
	                          WHEN 'n' THEN 'SET NULL' ELSE 'SET DEFAULT' END AS on_update,
	       CASE k.confdeltype WHEN 'a' THEN 'NO ACTION' WHEN 'r' THEN 'RESTRICT' WHEN 'c' THEN 'CASCADE'
	                          WHEN 'n' THEN 'SET NULL' ELSE 'SET DEFAULT' END AS on_delete,
	       k.convalidated AS is_validated, i.index IS NOT NULL AS is_indexed, i.index AS index_name,
	       greatest(c.reltuples, 0)::bigint AS estimated_rows,
	       CASE WHEN i.index IS NULL THEN
	           format('CREATE INDEX %sON %I.%I (%s);', CASE c.relkind WHEN 'p' THEN '' ELSE 'CONCURRENTLY ' END,
	                  n.nspname, c.relname, f.quoted) END AS create_index
	  FROM pg_constraint k
	  JOIN pg_class c ON c.oid = k.conrelid
	  JOIN pg_namespace n ON n.oid = c.relnamespace
	 CROSS JOIN LATERAL (
		SELECT string_agg(a.attname, ', ' ORDER BY u.place) AS columns,
		       string_agg(quote_ident(a.attname), ', ' ORDER BY u.place) AS quoted,
		       string_agg(r.attname, ', ' ORDER BY u.place) AS referenced_columns
		  FROM ROWS FROM (unnest(k.conkey), unnest(k.confkey)) WITH ORDINALITY u (here, there, place)
		  JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.here
		  JOIN pg_attribute r ON r.attrelid = k.confrelid AND r.attnum = u.there) f
	  LEFT JOIN LATERAL (
		SELECT x.relname AS index
		  FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
		 WHERE i.indrelid = k.conrelid AND i.indisvalid AND i.indpred IS NULL
		   /* the first columns of the index are those of the key, in any order */
		   AND i.indnkeyatts >= cardinality(k.conkey)
		   AND (i.indkey::smallint[])[0:cardinality(k.conkey) - 1] @> k.conkey
		   AND (m.amname = 'btree' OR (m.amname = 'hash' AND cardinality(k.conkey) = 1))
		 ORDER BY i.indnkeyatts, x.relname LIMIT 1) i ON true
	 WHERE k.contype = 'f' AND k.conparentid = 0
	   AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
	 ORDER BY is_indexed, c.reltuples DESC, 1, 2, 3;
COMMENT ON VIEW pgopt_foreign_keys IS
	'foreign keys, and whether an index serves them; without one, a DELETE or an UPDATE of the key in the referenced table reads the whole table; those without first; about 50 microseconds a key';
COMMENT ON COLUMN pgopt_foreign_keys.is_validated IS 'false = made NOT VALID and never validated';
COMMENT ON COLUMN pgopt_foreign_keys.estimated_rows IS 'of the table that has the key';
COMMENT ON COLUMN pgopt_foreign_keys.create_index IS 'the index that is missing';

CREATE VIEW pgopt_columns WITH (security_invoker = true) AS
	SELECT n.nspname AS schema_name, c.relname AS table_name,
	       CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view'
	                      WHEN 'm' THEN 'materialized view' ELSE 'foreign table' END AS kind,
	       a.attnum AS position, a.attname AS column_name,
	       format_type(a.atttypid, a.atttypmod) AS data_type, NOT a.attnotnull AS is_nullable,
	       CASE WHEN a.attidentity <> '' THEN 'identity'
	            WHEN a.attgenerated <> '' THEN 'generated: ' || pgopt.column_default(d.adbin, d.adrelid)
	            ELSE pgopt.column_default(d.adbin, d.adrelid) END AS default_value,
	       coalesce(a.attnum = ANY (p.indkey::smallint[]), false) AS in_primary_key,
	       round((100 * s.null_frac)::numeric, 1) AS null_percent,
	       CASE WHEN s.n_distinct < 0 THEN - s.n_distinct * greatest(c.reltuples, 0) ELSE s.n_distinct END::bigint AS distinct_values,
	       s.avg_width AS mean_bytes, e.description AS comment
	  FROM pg_class c
	  JOIN pg_namespace n ON n.oid = c.relnamespace
	  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
	  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
	  LEFT JOIN pg_index p ON p.indrelid = c.oid AND p.indisprimary
	  LEFT JOIN pg_description e ON e.classoid = 'pg_class'::regclass AND e.objoid = a.attrelid AND e.objsubid = a.attnum
	  LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname
	                      AND s.inherited = (c.relkind = 'p')
	 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
	   AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
	 ORDER BY 1, 2, 4;
COMMENT ON VIEW pgopt_columns IS
	'columns of tables and views with their statistics; about 15 microseconds a column, so name a table or a schema where there are many';
COMMENT ON COLUMN pgopt_columns.default_value IS 'null also while another session has the table locked';
COMMENT ON COLUMN pgopt_columns.null_percent IS 'as of the last ANALYZE; null = never analysed, or the reader may not SELECT the column';
COMMENT ON COLUMN pgopt_columns.distinct_values IS 'estimated';
COMMENT ON COLUMN pgopt_columns.mean_bytes IS 'mean width of a value as it is stored';

-- Write-ahead log and replication

CREATE VIEW pgopt_wal WITH (security_invoker = true) AS
	SELECT w.bytes AS wal_bytes, pg_size_pretty(w.bytes) AS wal_size,
	       date_trunc('second', make_interval(secs => w.seconds)) AS within,
	       round((w.bytes / nullif(w.seconds, 0))::numeric) AS bytes_per_second,
	       pg_size_pretty((w.bytes / nullif(w.seconds, 0))::bigint) || '/s' AS rate,
	       pg_size_pretty((86400 * w.bytes / nullif(w.seconds, 0))::bigint) AS size_per_day,
	       d.checkpoints_timed, d.checkpoints_requested, d.archived, d.archive_failures,
	       f.files AS kept_files, f.bytes AS kept_bytes, pg_size_pretty(f.bytes) AS kept_size,
	       current_setting('max_wal_size') AS max_wal_size, d.basis, w.since
	  FROM pgopt.counter_deltas() d
	 CROSS JOIN LATERAL (
		SELECT d.wal_bytes AS bytes, d.since, d.seconds WHERE d.basis = 'window'
		UNION ALL
		SELECT s.wal_bytes::bigint, s.stats_reset, extract(epoch FROM clock_timestamp() - s.stats_reset)::float8
		  FROM pg_stat_wal s WHERE d.basis <> 'window') w
	 CROSS JOIN (SELECT count(*) AS files, sum(l.size)::bigint AS bytes FROM pg_ls_waldir() l) f;
COMMENT ON VIEW pgopt_wal IS
	'how fast WAL is written (on a standby: replayed), over up to the last hour, and how much of it pg_wal keeps; costs nothing in tables';
COMMENT ON COLUMN pgopt_wal.wal_bytes IS 'written since';
COMMENT ON COLUMN pgopt_wal.rate IS 'null at the very first look, with which the counting begins';
COMMENT ON COLUMN pgopt_wal.size_per_day IS 'at this rate';
COMMENT ON COLUMN pgopt_wal.kept_bytes IS 'of the files in pg_wal';
COMMENT ON COLUMN pgopt_wal.basis IS 'window, or lifetime where pgopt is not preloaded: since the statistics were reset';

CREATE VIEW pgopt_replication WITH (security_invoker = true) AS
	WITH here AS MATERIALIZED (
		SELECT r.standby,
		       CASE WHEN r.standby THEN coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
		            ELSE pg_current_wal_lsn() END AS lsn,
		       CASE WHEN r.standby THEN pg_last_wal_replay_lsn() END AS replayed,
		       CASE WHEN r.standby THEN pg_is_wal_replay_paused() END AS paused
		  FROM (SELECT pg_is_in_recovery() AS standby) r
	)
	SELECT CASE WHEN s.state = 'backup' THEN 'base backup'
	            WHEN l.slot_type = 'logical' THEN 'logical' ELSE 'standby' END AS kind,
	       r.application_name AS name, coalesce(host(r.client_addr), 'local') AS client,
	       r.usename AS user_name, r.pid, r.state, r.sync_state, l.slot_name AS slot,
	       pg_wal_lsn_diff(h.lsn, r.sent_lsn)::bigint AS unsent_bytes,
	       pg_wal_lsn_diff(h.lsn, r.flush_lsn)::bigint AS flush_lag_bytes,
	       pg_wal_lsn_diff(h.lsn, r.replay_lsn)::bigint AS replay_lag_bytes,
	       pg_size_pretty(pg_wal_lsn_diff(h.lsn, r.replay_lsn)) AS replay_lag_size,
	       r.write_lag, r.flush_lag, r.replay_lag, r.reply_time AS last_message
	  FROM pg_stat_replication r
	 CROSS JOIN here h
	 CROSS JOIN LATERAL (SELECT r.state) s
	  LEFT JOIN pg_replication_slots l ON l.active_pid = r.pid
	UNION ALL
	SELECT 'this standby', current_setting('cluster_name'),
	       w.sender_host || coalesce(':' || w.sender_port, ''), NULL, w.pid,
	       concat_ws(', ', coalesce(w.status, 'not connected'), CASE WHEN h.paused THEN 'replay paused' END),
	       NULL, w.slot_name, NULL,
	       pg_wal_lsn_diff(greatest(w.latest_end_lsn, h.lsn), h.lsn)::bigint,
	       pg_wal_lsn_diff(greatest(w.latest_end_lsn, h.lsn), h.replayed)::bigint,
	       pg_size_pretty(pg_wal_lsn_diff(greatest(w.latest_end_lsn, h.lsn), h.replayed)),
	       NULL, NULL,
	       /* without anything to replay, the time since the last transaction is no lag */
	       CASE WHEN w.pid IS NOT NULL AND h.replayed >= h.lsn THEN interval '0'
	            ELSE pgopt.age(pg_last_xact_replay_timestamp()) END,
	       w.last_msg_receipt_time
	  FROM here h LEFT JOIN pg_stat_wal_receiver w ON true
	 WHERE h.standby
	 ORDER BY replay_lag_bytes DESC NULLS LAST, name, pid;
COMMENT ON VIEW pgopt_replication IS
	'who follows this server and how far behind, the furthest first; a standby has a row for itself, too; costs nothing in tables';
COMMENT ON COLUMN pgopt_replication.kind IS 'standby, logical, base backup, or this standby';
COMMENT ON COLUMN pgopt_replication.client IS 'of "this standby": the server that sends';
COMMENT ON COLUMN pgopt_replication.unsent_bytes IS 'of WAL that was not sent yet';
COMMENT ON COLUMN pgopt_replication.replay_lag_bytes IS 'of WAL that cannot be seen there yet';
COMMENT ON COLUMN pgopt_replication.replay_lag IS 'time; null = it follows without delay, or has not said';

CREATE VIEW pgopt_replication_slots WITH (security_invoker = true) AS
	WITH here AS MATERIALIZED (
		SELECT CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
		            ELSE pg_current_wal_lsn() END AS lsn
	)
	SELECT s.slot_name AS slot, s.slot_type AS type, s.database, s.plugin, s.active, s.active_pid AS pid,
	       pg_wal_lsn_diff(h.lsn, s.restart_lsn)::bigint AS retained_bytes,
	       pg_size_pretty(pg_wal_lsn_diff(h.lsn, s.restart_lsn)) AS retained_size,
	       s.wal_status, s.safe_wal_size AS safe_bytes, pg_size_pretty(s.safe_wal_size) AS safe_size,
	       age(s.xmin) AS xmin_age, age(s.catalog_xmin) AS catalog_xmin_age,
	       pg_wal_lsn_diff(h.lsn, s.confirmed_flush_lsn)::bigint AS unconfirmed_bytes,
	       (to_jsonb(s.*) ->> 'inactive_since')::timestamptz AS inactive_since,
	       coalesce(to_jsonb(s.*) ->> 'invalidation_reason',
	                CASE WHEN s.wal_status = 'lost' THEN 'wal_removed' END) AS invalid_because,
	       l.spill_bytes AS spilled_bytes, s.temporary
	  FROM pg_replication_slots s
	 CROSS JOIN here h
	  LEFT JOIN pg_stat_replication_slots l ON l.slot_name = s.slot_name
	 ORDER BY s.restart_lsn NULLS FIRST, s.slot_name;
COMMENT ON VIEW pgopt_replication_slots IS
	'replication slots and what they make the server keep, those that lost their WAL or keep most of it first; costs nothing in tables';
COMMENT ON COLUMN pgopt_replication_slots.retained_bytes IS 'WAL from the oldest that it needs; null = it needs none, or has lost it';
COMMENT ON COLUMN pgopt_replication_slots.safe_bytes IS 'of WAL that can be written before it loses some; null = no limit (max_slot_wal_keep_size)';
COMMENT ON COLUMN pgopt_replication_slots.xmin_age IS 'transactions whose dead rows it keeps from VACUUM';
COMMENT ON COLUMN pgopt_replication_slots.catalog_xmin_age IS 'the same in the catalogs';
COMMENT ON COLUMN pgopt_replication_slots.unconfirmed_bytes IS 'of WAL that a logical subscriber has not confirmed';
COMMENT ON COLUMN pgopt_replication_slots.inactive_since IS 'from PostgreSQL 17 on';
COMMENT ON COLUMN pgopt_replication_slots.spilled_bytes IS 'of transactions that were too large for logical_decoding_work_mem, since the statistics were reset';

-- Numbers that run out

CREATE VIEW pgopt_wraparound WITH (security_invoker = true) AS
	SELECT w.kind, w.object, w.xid_age, pgopt.percent(w.xid_age, 2147483648) AS xid_percent,
	       w.mxid_age, pgopt.percent(w.mxid_age, 2147483648) AS mxid_percent,
	       greatest(pgopt.percent(w.xid_age, least(w.freeze_at, current_setting('autovacuum_freeze_max_age')::integer)),
	                pgopt.percent(w.mxid_age, current_setting('autovacuum_multixact_freeze_max_age')::integer))
	         AS percent_to_autovacuum,
	       w.vacuum
	  FROM (SELECT 'database' AS kind, d.datname::text AS object, age(d.datfrozenxid) AS xid_age,
	               mxid_age(d.datminmxid) AS mxid_age, NULL::integer AS freeze_at, NULL AS vacuum
	          FROM pg_database d
	        UNION ALL
	        SELECT CASE c.relkind WHEN 't' THEN 'TOAST' WHEN 'm' THEN 'materialized view' ELSE 'table' END,
	               coalesce(t.oid, c.oid)::regclass::text, c.xid_age, c.mxid_age,
	               (SELECT o.option_value::integer FROM pg_options_to_table(coalesce(c.reloptions, t.reloptions)) o
	                 WHERE o.option_name = 'autovacuum_freeze_max_age'),
	               format('VACUUM (FREEZE) %s;', coalesce(t.oid, c.oid)::regclass)
	          FROM (SELECT c.oid, c.relkind, c.reloptions, age(c.relfrozenxid) AS xid_age, mxid_age(c.relminmxid) AS mxid_age
	                  FROM pg_class c
	                 WHERE c.relkind IN ('r', 'm', 't')
	                 ORDER BY greatest(age(c.relfrozenxid), mxid_age(c.relminmxid)) DESC, c.relpages DESC, c.oid
	                 LIMIT 20) c
	          LEFT JOIN pg_class t ON c.relkind = 't' AND t.reltoastrelid = c.oid) w
	 ORDER BY w.kind <> 'database', greatest(w.xid_age, w.mxid_age) DESC;
COMMENT ON VIEW pgopt_wraparound IS
	'how much of the transaction and multixact IDs each database has used up since it was frozen, and the 20 tables of this database that hold it up; about 2 microseconds a table';
COMMENT ON COLUMN pgopt_wraparound.xid_age IS 'transactions';
COMMENT ON COLUMN pgopt_wraparound.xid_percent IS 'of 2^31; the server stops to take writes just below 100';
COMMENT ON COLUMN pgopt_wraparound.percent_to_autovacuum IS 'of the age at which autovacuum freezes by itself; over 100 it does not get through';

/*
 * A sequence ends where its own range does, or that of a column that it fills:
 * one that owns it, or whose default it is.
 */
CREATE VIEW pgopt_sequences WITH (security_invoker = true) AS
	SELECT n.nspname AS schema_name, c.relname AS sequence_name, v.last_value,
	       CASE WHEN s.seqincrement > 0 THEN e.highest ELSE e.lowest END AS limit_value,
	       CASE WHEN s.seqincrement > 0 THEN pgopt.percent(v.last_value - e.lowest::numeric, e.highest - e.lowest::numeric)
	            ELSE pgopt.percent(e.highest - v.last_value::numeric, e.highest - e.lowest::numeric) END AS used_percent,
	       CASE WHEN s.seqincrement > 0 THEN trunc((e.highest - v.last_value::numeric) / s.seqincrement)
	            ELSE trunc((e.lowest - v.last_value::numeric) / s.seqincrement) END AS values_left,
	       s.seqincrement AS increment, s.seqcycle AS cycles, format_type(s.seqtypid, NULL) AS data_type,
	       o.column_of AS used_by, o.column_type,
	       v.note
	  FROM pg_sequence s
	  JOIN pg_class c ON c.oid = s.seqrelid
	  JOIN pg_namespace n ON n.oid = c.relnamespace
	 CROSS JOIN LATERAL pgopt.sequence_state(c.oid) v
	  LEFT JOIN LATERAL (
		SELECT format('%s.%I', a.attrelid::regclass, a.attname) AS column_of,
		       format_type(a.atttypid, a.atttypmod) AS column_type, a.atttypid
		  FROM (SELECT d.refobjid AS relid, d.refobjsubid AS attnum
		          FROM pg_depend d
		         WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
		           AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
		        UNION ALL
		        SELECT f.adrelid, f.adnum
		          FROM pg_depend d JOIN pg_attrdef f ON f.oid = d.objid
		         WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.classid = 'pg_attrdef'::regclass) u
		  JOIN pg_attribute a ON a.attrelid = u.relid AND a.attnum = u.attnum
		 ORDER BY CASE a.atttypid WHEN 'int2'::regtype THEN 1 WHEN 'int4'::regtype THEN 2 ELSE 3 END, u.relid, u.attnum
		 LIMIT 1) o ON true
	 CROSS JOIN LATERAL (
		SELECT least(s.seqmax, CASE o.atttypid WHEN 'int2'::regtype THEN 32767
		                                       WHEN 'int4'::regtype THEN 2147483647 END) AS highest,
		       greatest(s.seqmin, CASE o.atttypid WHEN 'int2'::regtype THEN -32768
		                                          WHEN 'int4'::regtype THEN -2147483648 END) AS lowest) e
	 WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
	 ORDER BY used_percent DESC NULLS LAST, 1, 2;
COMMENT ON VIEW pgopt_sequences IS
	'how much of each sequence is used up, counting the type of the column that it fills; fullest first; reads each sequence: about 50 microseconds';
COMMENT ON COLUMN pgopt_sequences.limit_value IS 'last value that the sequence and the column can take';
COMMENT ON COLUMN pgopt_sequences.note IS 'why last_value is not there: never used, not readable (with the GRANT), locked';
COMMENT ON COLUMN pgopt_sequences.values_left IS 'calls of nextval(); a sequence that cycles starts again after them';
COMMENT ON COLUMN pgopt_sequences.used_by IS 'the column with the smallest type, where there are several';

-- Settings

/*
 * Few rules, each of which is right wherever it applies.  Settings of the
 * server are told from those of a session by their source: what a role or a
 * database pins is shown as theirs.
 */
CREATE VIEW pgopt_settings_advice WITH (security_invoker = true) AS
	WITH rule (name, bad, severity, why) AS (VALUES
		('fsync', 'off', 'critical', 'a crash of the machine can leave every database corrupted'),
		('full_page_writes', 'off', 'critical', 'a crash of the machine can leave torn pages that recovery cannot mend'),
		('zero_damaged_pages', 'on', 'critical', 'damaged pages are replaced by empty ones: rows vanish silently'),
		('ignore_checksum_failure', 'on', 'critical', 'damaged pages are read as if they were sound'),
		('ignore_invalid_pages', 'on', 'critical', 'recovery goes on over missing pages and hides the loss'),
		('autovacuum', 'off', 'critical', 'tables bloat, statistics grow old, and transaction IDs run out'),
		('track_counts', 'off', 'critical', 'autovacuum does not run without it, and nothing is counted'),
		('session_replication_role', 'replica', 'warning', 'triggers and foreign keys do not fire'),
		('ignore_system_indexes', 'on', 'warning', 'every look at a catalog reads all of it'),
		('allow_system_table_mods', 'on', 'warning', 'a slip can destroy a system catalog'),
		('track_activities', 'off', 'warning', 'nobody can see what sessions do'),
		('password_encryption', 'md5', 'warning', 'new passwords are kept as MD5 hashes, which can be used to log in as they are'),
		('synchronous_commit', 'off', 'info', 'the last transactions before a crash can be lost after they were confirmed')
	), server AS (
		SELECT s.name, s.setting, s.unit, s.boot_val, s.context, s.source, s.pending_restart
		  FROM pg_settings s
	), pinned AS (
		SELECT CASE WHEN r.setrole = 0 THEN format('database %I', d.datname)
		            WHEN r.setdatabase = 0 THEN format('role %I', pg_get_userbyid(r.setrole))
		            ELSE format('role %I in database %I', pg_get_userbyid(r.setrole), d.datname) END AS scope,
		       CASE WHEN r.setrole = 0 AND r.setdatabase = 0 THEN 'ALTER ROLE ALL'
		            WHEN r.setrole = 0 THEN format('ALTER DATABASE %I', d.datname)
		            WHEN r.setdatabase = 0 THEN format('ALTER ROLE %I', pg_get_userbyid(r.setrole))
		            ELSE format('ALTER ROLE %I IN DATABASE %I', pg_get_userbyid(r.setrole), d.datname) END AS alter,
		       split_part(c.pair, '=', 1) AS name, substr(c.pair, strpos(c.pair, '=') + 1) AS value
		  FROM pg_db_role_setting r
		  LEFT JOIN pg_database d ON d.oid = r.setdatabase
		 CROSS JOIN unnest(r.setconfig) c (pair)
	), said (severity, name, scope, value, why, suggestion) AS (
		SELECT r.severity, s.name, 'server', s.setting, r.why,
		       format('ALTER SYSTEM SET %I = %L; ', s.name, s.boot_val)
		       || CASE s.context WHEN 'postmaster' THEN '-- and restart the server' ELSE 'SELECT pg_reload_conf();' END
		  FROM rule r JOIN server s USING (name)
		 WHERE s.setting = r.bad AND s.source NOT IN ('database', 'user', 'database user', 'client', 'session')
		UNION ALL
		SELECT r.severity, p.name, p.scope, p.value, r.why, format('%s RESET %I;', p.alter, p.name)
		  FROM rule r JOIN pinned p USING (name)
		 WHERE p.value = r.bad OR (r.bad IN ('on', 'off') AND lower(p.value) IN ('true', 'false', '1', '0', 'yes', 'no')
		                           AND p.value::boolean = r.bad::boolean)
		UNION ALL
		SELECT 'warning', s.name, 'server', s.setting, 'the planner may not use this at all, for any statement',
		       format('ALTER SYSTEM SET %I = on; SELECT pg_reload_conf();', s.name)
		  FROM server s
		 WHERE s.name LIKE 'enable\_%' AND s.boot_val = 'on' AND s.setting = 'off'
		   AND s.source NOT IN ('database', 'user', 'database user', 'client', 'session')
		UNION ALL
		SELECT 'warning', p.name, p.scope, p.value, 'the planner may not use this at all, for any statement',
		       format('%s RESET %I;', p.alter, p.name)
		  FROM pinned p JOIN server s USING (name)
		 WHERE p.name LIKE 'enable\_%' AND s.boot_val = 'on' AND lower(p.value) IN ('off', 'false', 'no', '0')
		UNION ALL
		SELECT 'warning', s.name, 'server', s.setting, 'was changed in a file, and waits for a restart of the server',
		       '-- restart the server'
		  FROM server s WHERE s.pending_restart
		UNION ALL
		SELECT 'warning', s.name, 'server', s.setting, 'archive_mode is on, but nothing says where to: WAL piles up in pg_wal',
		       NULL
		  FROM server s
		 WHERE s.name = 'archive_command' AND s.setting IN ('', '(disabled)')
		   AND current_setting('archive_mode') <> 'off' AND current_setting('archive_library', true) = ''
		UNION ALL
		SELECT 'warning', s.name, 'server', s.setting, 'tables are frozen so late that little room is left when that takes long',
		       'ALTER SYSTEM RESET autovacuum_freeze_max_age; -- and restart the server'
		  FROM server s WHERE s.name = 'autovacuum_freeze_max_age' AND s.setting::bigint > 1000000000
		UNION ALL
		SELECT 'info', s.name, 'server', s.setting, 'every statement is written to the log',
		       'ALTER SYSTEM SET log_min_duration_statement = ''1s''; SELECT pg_reload_conf();'
		  FROM server s WHERE s.name = 'log_min_duration_statement' AND s.setting = '0'
		   AND s.source NOT IN ('database', 'user', 'database user', 'client', 'session')
		UNION ALL
		SELECT 'info', s.name, 'server', s.setting,
		       'is the default of 128 MB, while the tables and indexes of this database take '
		       || pg_size_pretty(t.bytes) || ': a quarter of the memory is a usual start',
		       '-- ALTER SYSTEM SET shared_buffers to a quarter of the memory, and restart the server'
		  FROM server s
		 CROSS JOIN LATERAL (SELECT sum(c.relpages::bigint) * current_setting('block_size')::bigint AS bytes FROM pg_class c) t
		 WHERE s.name = 'shared_buffers' AND s.setting::bigint * current_setting('block_size')::bigint <= 134217728
		   AND t.bytes > 10 * 134217728::bigint
	)
	SELECT a.severity, a.name AS setting, a.scope,
	       CASE WHEN a.scope = 'server' THEN current_setting(a.name) ELSE a.value END AS value,
	       CASE WHEN s.unit IN ('8kB', 'kB', 'MB') THEN
	                pg_size_pretty(s.boot_val::bigint * CASE s.unit WHEN '8kB' THEN 8192 WHEN 'kB' THEN 1024 ELSE 1048576 END)
	            ELSE s.boot_val || coalesce(s.unit, '') END AS boot_value,
	       a.why, a.suggestion
	  FROM said a LEFT JOIN server s USING (name)
	 ORDER BY CASE a.severity WHEN 'critical' THEN 1 WHEN 'warning' THEN 2 ELSE 3 END, a.name, a.scope;
COMMENT ON VIEW pgopt_settings_advice IS
	'settings that are dangerous or out of place, of the server, a database or a role, worst first; empty where there are none; about 0.2 microseconds a table';
COMMENT ON COLUMN pgopt_settings_advice.scope IS 'server, or the database or role that it is set for';
COMMENT ON COLUMN pgopt_settings_advice.boot_value IS 'what the server takes when nothing is configured';
COMMENT ON COLUMN pgopt_settings_advice.suggestion IS 'SQL; comments say what has to be done besides';

-- Statements

CREATE FUNCTION pgopt_slow_queries(
	min_mean interval DEFAULT '1 second', min_total interval DEFAULT NULL, max_rows integer DEFAULT 50,
	OUT user_name name, OUT queryid bigint, OUT calls bigint, OUT mean_ms numeric, OUT max_ms numeric,
	OUT total_ms numeric, OUT total_percent numeric, OUT rows bigint, OUT hit_percent numeric,
	OUT temp_bytes bigint, OUT temp_size text, OUT wal_bytes bigint, OUT wal_size text, OUT query text)
RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE ROWS 50;
COMMENT ON FUNCTION pgopt_slow_queries(interval, interval, integer) IS
	'statements of this database in pg_stat_statements, wherever that is installed, that take at least min_mean on average (1 second) or min_total in all (not asked), most time in all first; null for a limit = without it; costs nothing in tables';

REVOKE ALL ON FUNCTION pgopt_slow_queries(interval, interval, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgopt_slow_queries(interval, interval, integer) TO pg_monitor;
GRANT SELECT ON pgopt_active_connections, pgopt_connections, pgopt_blocking, pgopt_locks, pgopt_cache_hit,
	pgopt_table_cache, pgopt_index_cache, pgopt_table_sizes, pgopt_index_sizes, pgopt_database_sizes,
	pgopt_temp_files, pgopt_table_stats, pgopt_index_usage, pgopt_autovacuum, pgopt_foreign_keys,
	pgopt_columns, pgopt_wal, pgopt_replication, pgopt_replication_slots, pgopt_wraparound, pgopt_sequences,
	pgopt_settings_advice TO pg_monitor;

-- End of monitoring views

-- ---------------------------------------------------------------------------
-- Search
-- ---------------------------------------------------------------------------

-- Portuguese analysis

CREATE FUNCTION pgopt.search_parser_start(internal, integer) RETURNS internal
	AS 'MODULE_PATHNAME', 'pgopt_parser_start' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pgopt.search_parser_start(internal, integer) IS 'of the text search parser pgopt_parser';
CREATE FUNCTION pgopt.search_parser_token(internal, internal, internal) RETURNS internal
	AS 'MODULE_PATHNAME', 'pgopt_parser_token' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pgopt.search_parser_token(internal, internal, internal) IS 'of the text search parser pgopt_parser';
CREATE FUNCTION pgopt.search_parser_end(internal) RETURNS void
	AS 'MODULE_PATHNAME', 'pgopt_parser_end' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pgopt.search_parser_end(internal) IS 'of the text search parser pgopt_parser';
CREATE FUNCTION pgopt.search_parser_lextypes(internal) RETURNS internal
	AS 'MODULE_PATHNAME', 'pgopt_parser_lextypes' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pgopt.search_parser_lextypes(internal) IS 'of the text search parser pgopt_parser';
CREATE FUNCTION pgopt.search_dictionary_init(internal) RETURNS internal
	AS 'MODULE_PATHNAME', 'pgopt_dictionary_init' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pgopt.search_dictionary_init(internal) IS 'of the text search template pgopt_template';
CREATE FUNCTION pgopt.search_dictionary_lexize(internal, internal, internal, internal) RETURNS internal
	AS 'MODULE_PATHNAME', 'pgopt_dictionary_lexize' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pgopt.search_dictionary_lexize(internal, internal, internal, internal) IS
	'of the text search template pgopt_template';

CREATE TEXT SEARCH PARSER @extschema@.pgopt_parser (
	START = pgopt.search_parser_start, GETTOKEN = pgopt.search_parser_token, END = pgopt.search_parser_end,
	LEXTYPES = pgopt.search_parser_lextypes, HEADLINE = pg_catalog.prsd_headline);
COMMENT ON TEXT SEARCH PARSER @extschema@.pgopt_parser IS
	'words, and numbers as Brazilian laws, courts and bills write them, however they are punctuated';
CREATE TEXT SEARCH TEMPLATE @extschema@.pgopt_template (
	INIT = pgopt.search_dictionary_init, LEXIZE = pgopt.search_dictionary_lexize);
COMMENT ON TEXT SEARCH TEMPLATE @extschema@.pgopt_template IS 'Portuguese stems that do not depend on accents';
CREATE TEXT SEARCH DICTIONARY @extschema@.pgopt_portuguese (TEMPLATE = @extschema@.pgopt_template);
COMMENT ON TEXT SEARCH DICTIONARY @extschema@.pgopt_portuguese IS 'Portuguese stems that do not depend on accents';
CREATE TEXT SEARCH CONFIGURATION @extschema@.pgopt_portuguese (PARSER = @extschema@.pgopt_parser);
COMMENT ON TEXT SEARCH CONFIGURATION @extschema@.pgopt_portuguese IS
	'Portuguese with or without accents, and numbers however they are punctuated; for pgopt_bm25 and for tsvector alike';
ALTER TEXT SEARCH CONFIGURATION @extschema@.pgopt_portuguese
	ADD MAPPING FOR word, compound, written, number WITH @extschema@.pgopt_portuguese;

-- End of Portuguese analysis

-- The type of searches, and operators

CREATE TYPE pgopt_query;
CREATE FUNCTION pgopt.query_in(cstring) RETURNS pgopt_query
	AS 'MODULE_PATHNAME', 'pgopt_query_in' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pgopt.query_in(cstring) IS 'input function of pgopt_query';
CREATE FUNCTION pgopt.query_out(pgopt_query) RETURNS cstring
	AS 'MODULE_PATHNAME', 'pgopt_query_out' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pgopt.query_out(pgopt_query) IS 'output function of pgopt_query';
CREATE TYPE pgopt_query (INPUT = pgopt.query_in, OUTPUT = pgopt.query_out, INTERNALLENGTH = VARIABLE, STORAGE = extended);
COMMENT ON TYPE pgopt_query IS 'a search: words, "phrases", -not, +must, column:word';

CREATE FUNCTION pgopt.search_support(internal) RETURNS internal
	AS 'MODULE_PATHNAME', 'pgopt_search_support' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pgopt.search_support(internal) IS 'planner support: binds a search to the index of its table, and estimates how many rows match';

CREATE FUNCTION pgopt.match(document record, search text) RETURNS boolean
	AS 'MODULE_PATHNAME', 'pgopt_match_record' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 1000 SUPPORT pgopt.search_support;
COMMENT ON FUNCTION pgopt.match(record, text) IS 'implementation of the operator @@@';
CREATE FUNCTION pgopt.match(document text, search text) RETURNS boolean
	AS 'MODULE_PATHNAME', 'pgopt_match_text' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 1000 SUPPORT pgopt.search_support;
COMMENT ON FUNCTION pgopt.match(text, text) IS 'implementation of the operator @@@';
CREATE FUNCTION pgopt.score_order(document record, search text) RETURNS double precision
	AS 'MODULE_PATHNAME', 'pgopt_order_unbound' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 1000 SUPPORT pgopt.search_support;
COMMENT ON FUNCTION pgopt.score_order(record, text) IS 'implementation of the operator <@>';
CREATE FUNCTION pgopt.score_order(document text, search text) RETURNS double precision
	AS 'MODULE_PATHNAME', 'pgopt_order_unbound' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 1000 SUPPORT pgopt.search_support;
COMMENT ON FUNCTION pgopt.score_order(text, text) IS 'implementation of the operator <@>';

CREATE FUNCTION pgopt.bind_query(search text, index regclass, fields integer, internal) RETURNS pgopt_query
	AS 'MODULE_PATHNAME', 'pgopt_bind_query' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION pgopt.bind_query(text, regclass, integer, internal) IS 'put into plans by search_support: binds a search that is known when the plan runs';
CREATE FUNCTION pgopt.row_matches(place tid, table_oid oid, search pgopt_query, internal) RETURNS boolean
	AS 'MODULE_PATHNAME', 'pgopt_row_matches' LANGUAGE C STABLE PARALLEL SAFE COST 1000 SUPPORT pgopt.search_support;
COMMENT ON FUNCTION pgopt.row_matches(tid, oid, pgopt_query, internal) IS 'put into plans by search_support: does the row at that place match?';
CREATE FUNCTION pgopt.row_order(place tid, table_oid oid, search pgopt_query, internal) RETURNS double precision
	AS 'MODULE_PATHNAME', 'pgopt_row_order' LANGUAGE C STABLE PARALLEL SAFE COST 1000 SUPPORT pgopt.search_support;
COMMENT ON FUNCTION pgopt.row_order(tid, oid, pgopt_query, internal) IS 'put into plans by search_support: minus the score of the row at that place';

CREATE OPERATOR @@@ (LEFTARG = record, RIGHTARG = text, FUNCTION = pgopt.match, RESTRICT = matchingsel, JOIN = matchingjoinsel);
COMMENT ON OPERATOR @@@ (record, text) IS 'does the row of a table match the search, in any text column of its pgopt_bm25 index?';
CREATE OPERATOR @@@ (LEFTARG = text, RIGHTARG = text, FUNCTION = pgopt.match, RESTRICT = matchingsel, JOIN = matchingjoinsel);
COMMENT ON OPERATOR @@@ (text, text) IS 'does the text match the search?';
CREATE OPERATOR <@> (LEFTARG = record, RIGHTARG = text, FUNCTION = pgopt.score_order);
COMMENT ON OPERATOR <@> (record, text) IS 'minus the BM25 score of the row, for ORDER BY ... LIMIT: the best rows come first';
CREATE OPERATOR <@> (LEFTARG = text, RIGHTARG = text, FUNCTION = pgopt.score_order);
COMMENT ON OPERATOR <@> (text, text) IS 'minus the BM25 score of the row, by this column alone, for ORDER BY ... LIMIT';

-- What the access method's text columns are searched by; put into plans.
CREATE FUNCTION pgopt.query_match(text, pgopt_query) RETURNS boolean
	AS 'MODULE_PATHNAME', 'pgopt_query_match' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pgopt.query_match(text, pgopt_query) IS 'implementation of the operator @@@';
CREATE FUNCTION pgopt.query_order(text, pgopt_query) RETURNS double precision
	AS 'MODULE_PATHNAME', 'pgopt_query_order' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pgopt.query_order(text, pgopt_query) IS 'implementation of the operator <@>';
CREATE OPERATOR pgopt.@@@ (LEFTARG = text, RIGHTARG = pgopt_query, FUNCTION = pgopt.query_match);
COMMENT ON OPERATOR pgopt.@@@ (text, pgopt_query) IS 'index condition of a search, in plans';
CREATE OPERATOR pgopt.<@> (LEFTARG = text, RIGHTARG = pgopt_query, FUNCTION = pgopt.query_order);
COMMENT ON OPERATOR pgopt.<@> (text, pgopt_query) IS 'index order of a search, in plans';

-- End of operators

-- The access method

CREATE FUNCTION pgopt_bm25_handler(internal) RETURNS index_am_handler
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgopt_bm25_handler(internal) IS 'handler of the access method pgopt_bm25';
CREATE ACCESS METHOD pgopt_bm25 TYPE INDEX HANDLER pgopt_bm25_handler;
COMMENT ON ACCESS METHOD pgopt_bm25 IS 'ranked full-text search: inverted index with BM25 scores, and filters inside the index';

CREATE FUNCTION pgopt.text_options(internal) RETURNS void
	AS 'MODULE_PATHNAME', 'pgopt_text_options' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pgopt.text_options(internal) IS 'options of a column that is searched: weight';

CREATE OPERATOR FAMILY pgopt_text_ops USING pgopt_bm25;
COMMENT ON OPERATOR FAMILY pgopt_text_ops USING pgopt_bm25 IS 'text that is searched';
CREATE OPERATOR CLASS pgopt_text_ops DEFAULT FOR TYPE text USING pgopt_bm25 FAMILY pgopt_text_ops AS
	OPERATOR 1 pgopt.@@@ (text, pgopt_query),
	OPERATOR 2 pgopt.<@> (text, pgopt_query) FOR ORDER BY pg_catalog.float_ops,
	FUNCTION 2 (text, text) pgopt.text_options(internal);
COMMENT ON OPERATOR CLASS pgopt_text_ops USING pgopt_bm25 IS 'text that is searched; option: weight';
CREATE OPERATOR CLASS pgopt_bpchar_ops DEFAULT FOR TYPE bpchar USING pgopt_bm25 FAMILY pgopt_text_ops AS
	FUNCTION 2 (bpchar, bpchar) pgopt.text_options(internal);
COMMENT ON OPERATOR CLASS pgopt_bpchar_ops USING pgopt_bm25 IS 'char(n) that is searched; option: weight';

CREATE OPERATOR CLASS pgopt_filter_ops FOR TYPE text USING pgopt_bm25 AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 pg_catalog.bttextcmp(text, text);
COMMENT ON OPERATOR FAMILY pgopt_filter_ops USING pgopt_bm25 IS 'text that filters';
COMMENT ON OPERATOR CLASS pgopt_filter_ops USING pgopt_bm25 IS 'text that filters';
CREATE OPERATOR CLASS pgopt_int2_filter_ops DEFAULT FOR TYPE int2 USING pgopt_bm25 AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 pg_catalog.btint2cmp(int2, int2);
COMMENT ON OPERATOR FAMILY pgopt_int2_filter_ops USING pgopt_bm25 IS 'int2 that filters';
COMMENT ON OPERATOR CLASS pgopt_int2_filter_ops USING pgopt_bm25 IS 'int2 that filters';
CREATE OPERATOR CLASS pgopt_int4_filter_ops DEFAULT FOR TYPE int4 USING pgopt_bm25 AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 pg_catalog.btint4cmp(int4, int4);
COMMENT ON OPERATOR FAMILY pgopt_int4_filter_ops USING pgopt_bm25 IS 'int4 that filters';
COMMENT ON OPERATOR CLASS pgopt_int4_filter_ops USING pgopt_bm25 IS 'int4 that filters';
CREATE OPERATOR CLASS pgopt_int8_filter_ops DEFAULT FOR TYPE int8 USING pgopt_bm25 AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 pg_catalog.btint8cmp(int8, int8);
COMMENT ON OPERATOR FAMILY pgopt_int8_filter_ops USING pgopt_bm25 IS 'int8 that filters';
COMMENT ON OPERATOR CLASS pgopt_int8_filter_ops USING pgopt_bm25 IS 'int8 that filters';
CREATE OPERATOR CLASS pgopt_numeric_filter_ops DEFAULT FOR TYPE numeric USING pgopt_bm25 AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 pg_catalog.numeric_cmp(numeric, numeric);
COMMENT ON OPERATOR FAMILY pgopt_numeric_filter_ops USING pgopt_bm25 IS 'numeric that filters';
COMMENT ON OPERATOR CLASS pgopt_numeric_filter_ops USING pgopt_bm25 IS 'numeric that filters';
CREATE OPERATOR CLASS pgopt_float4_filter_ops DEFAULT FOR TYPE float4 USING pgopt_bm25 AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 pg_catalog.btfloat4cmp(float4, float4);
COMMENT ON OPERATOR FAMILY pgopt_float4_filter_ops USING pgopt_bm25 IS 'float4 that filters';
COMMENT ON OPERATOR CLASS pgopt_float4_filter_ops USING pgopt_bm25 IS 'float4 that filters';
CREATE OPERATOR CLASS pgopt_float8_filter_ops DEFAULT FOR TYPE float8 USING pgopt_bm25 AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 pg_catalog.btfloat8cmp(float8, float8);
COMMENT ON OPERATOR FAMILY pgopt_float8_filter_ops USING pgopt_bm25 IS 'float8 that filters';
COMMENT ON OPERATOR CLASS pgopt_float8_filter_ops USING pgopt_bm25 IS 'float8 that filters';
CREATE OPERATOR CLASS pgopt_bool_filter_ops DEFAULT FOR TYPE bool USING pgopt_bm25 AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 pg_catalog.btboolcmp(bool, bool);
COMMENT ON OPERATOR FAMILY pgopt_bool_filter_ops USING pgopt_bm25 IS 'boolean that filters';
COMMENT ON OPERATOR CLASS pgopt_bool_filter_ops USING pgopt_bm25 IS 'boolean that filters';
CREATE OPERATOR CLASS pgopt_date_filter_ops DEFAULT FOR TYPE date USING pgopt_bm25 AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 pg_catalog.date_cmp(date, date);
COMMENT ON OPERATOR FAMILY pgopt_date_filter_ops USING pgopt_bm25 IS 'date that filters';
COMMENT ON OPERATOR CLASS pgopt_date_filter_ops USING pgopt_bm25 IS 'date that filters';
CREATE OPERATOR CLASS pgopt_timestamp_filter_ops DEFAULT FOR TYPE timestamp USING pgopt_bm25 AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 pg_catalog.timestamp_cmp(timestamp, timestamp);
COMMENT ON OPERATOR FAMILY pgopt_timestamp_filter_ops USING pgopt_bm25 IS 'timestamp that filters';
COMMENT ON OPERATOR CLASS pgopt_timestamp_filter_ops USING pgopt_bm25 IS 'timestamp that filters';
CREATE OPERATOR CLASS pgopt_timestamptz_filter_ops DEFAULT FOR TYPE timestamptz USING pgopt_bm25 AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 pg_catalog.timestamptz_cmp(timestamptz, timestamptz);
COMMENT ON OPERATOR FAMILY pgopt_timestamptz_filter_ops USING pgopt_bm25 IS 'timestamptz that filters';
COMMENT ON OPERATOR CLASS pgopt_timestamptz_filter_ops USING pgopt_bm25 IS 'timestamptz that filters';
CREATE OPERATOR CLASS pgopt_uuid_filter_ops DEFAULT FOR TYPE uuid USING pgopt_bm25 AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 pg_catalog.uuid_cmp(uuid, uuid);
COMMENT ON OPERATOR FAMILY pgopt_uuid_filter_ops USING pgopt_bm25 IS 'uuid that filters';
COMMENT ON OPERATOR CLASS pgopt_uuid_filter_ops USING pgopt_bm25 IS 'uuid that filters';
CREATE OPERATOR CLASS pgopt_enum_filter_ops DEFAULT FOR TYPE anyenum USING pgopt_bm25 AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 pg_catalog.enum_cmp(anyenum, anyenum);
COMMENT ON OPERATOR FAMILY pgopt_enum_filter_ops USING pgopt_bm25 IS 'enum that filters';
COMMENT ON OPERATOR CLASS pgopt_enum_filter_ops USING pgopt_bm25 IS 'enum that filters';
CREATE OPERATOR CLASS pgopt_char_filter_ops DEFAULT FOR TYPE "char" USING pgopt_bm25 AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 pg_catalog.btcharcmp("char", "char");
COMMENT ON OPERATOR FAMILY pgopt_char_filter_ops USING pgopt_bm25 IS '"char" that filters';
COMMENT ON OPERATOR CLASS pgopt_char_filter_ops USING pgopt_bm25 IS '"char" that filters';
CREATE OPERATOR CLASS pgopt_bpchar_filter_ops FOR TYPE bpchar USING pgopt_bm25 AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 pg_catalog.bpcharcmp(bpchar, bpchar);
COMMENT ON OPERATOR FAMILY pgopt_bpchar_filter_ops USING pgopt_bm25 IS 'char(n) that filters';
COMMENT ON OPERATOR CLASS pgopt_bpchar_filter_ops USING pgopt_bm25 IS 'char(n) that filters';

CREATE FUNCTION pgopt_search_stats(
	index regclass,
	OUT documents bigint, OUT deleted bigint, OUT segments integer, OUT largest_segment bigint,
	OUT pending_documents bigint, OUT pending_bytes bigint,
	OUT terms bigint, OUT words bigint, OUT postings bigint, OUT average_length double precision,
	OUT bytes bigint, OUT segment_bytes bigint, OUT free_bytes bigint,
	OUT positions boolean, OUT restored_words bigint,
	OUT k1 real, OUT b real, OUT pending_limit integer, OUT text_config regconfig, OUT stemmer_changed boolean)
RETURNS record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgopt_search_stats(regclass) IS
	'size and shape of a pgopt_bm25 index: documents (those in the write buffer too), deleted ones that wait for a merge, segments and the documents of the largest, what is in the write buffer, sums of the segments'' terms, words and postings, free bytes that the next writes use, words in the table that restores accents, and whether the stemmer is another one than at build time (then REINDEX); for who may read the table, and pg_monitor; costs a page a segment';

-- End of the access method

-- Headlines

CREATE FUNCTION pgopt_headline(
	document text, search text, start_sel text DEFAULT '<b>', stop_sel text DEFAULT '</b>',
	max_fragments integer DEFAULT 2, fragment_words integer DEFAULT 15, delimiter text DEFAULT ' ... ',
	escape_html boolean DEFAULT true, config regconfig DEFAULT NULL)
RETURNS text
	AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION pgopt_headline(text, text, text, text, integer, integer, text, boolean, regconfig) IS
	'the parts of a document that a search finds, with its words marked however they are accented and inflected; everything from the document is escaped for HTML unless escape_html is off; config is pgopt_portuguese where it is not given; costs an analysis of the document, up to its first 4 MB';

-- End of headlines

-- Functions of search

CREATE FUNCTION pgopt_search(
	"table" regclass, search text, filters jsonb DEFAULT NULL, max_results integer DEFAULT 50,
	skip integer DEFAULT 0, headlines boolean DEFAULT true, correct boolean DEFAULT true,
	OUT "position" integer, OUT key text, OUT score real, OUT headline text, OUT searched text,
	OUT relation regclass, OUT place tid)
RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C STABLE ROWS 50 COST 10000;
COMMENT ON FUNCTION pgopt_search(regclass, text, jsonb, integer, integer, boolean, boolean) IS
	'the best rows for a search (words, "phrases", -not, +must, column:word), typing errors corrected; key is the primary key, relation and place tell the row (tableoid, ctid); filters as {"column": value}, or [values], null, {"gte": value, "lt": value}, {"null": false}; costs what the index reads for the best rows, and the headlines';

CREATE FUNCTION pgopt_facets(
	"table" regclass, search text, columns text[] DEFAULT NULL, filters jsonb DEFAULT NULL, max_values integer DEFAULT NULL,
	OUT facet text, OUT value text, OUT documents bigint)
RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C STABLE ROWS 100 COST 10000;
COMMENT ON FUNCTION pgopt_facets(regclass, text, text[], jsonb, integer) IS
	'how many rows that match a search (null: all rows) have each value of the columns (all filter columns of the index by default), most first; exact; costs one pass over the matches in the index';

CREATE FUNCTION pgopt_distribution(
	"table" regclass, "column" text, latest_column text DEFAULT NULL, search text DEFAULT NULL, filters jsonb DEFAULT NULL,
	OUT value text, OUT documents bigint, OUT latest text, OUT matching bigint)
RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C STABLE ROWS 100 COST 10000;
COMMENT ON FUNCTION pgopt_distribution(regclass, text, text, text, jsonb) IS
	'for each value of a column: how many rows have it, their latest value of another column, and how many of them match a search; exact; costs one pass over the index, and one over the matches';

-- End of functions of search

-- Verification of search indexes

CREATE FUNCTION pgopt_search_verify(
	index regclass, check_table boolean DEFAULT true, fraction double precision DEFAULT 1,
	OUT part text, OUT block bigint, OUT place tid, OUT problem text)
RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT COST 100000;
COMMENT ON FUNCTION pgopt_search_verify(regclass, boolean, double precision) IS
	'what is wrong with a pgopt_bm25 index: no rows when it is sound; with check_table also whether it says what its table says, of all rows or a fraction of them; for the index''s owner; searches and writes go on, VACUUM of the index waits; costs a read of the index and the table, and the analysis of the rows';

-- The index from the inside

CREATE FUNCTION pgopt.search_topk(
	index regclass, search text, k integer, fields integer DEFAULT 0, OUT place tid, OUT score double precision)
RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'pgopt_search_topk' LANGUAGE C STABLE STRICT ROWS 50 COST 1000;
COMMENT ON FUNCTION pgopt.search_topk(regclass, text, integer, integer) IS
	'the best k documents of an index, whether their rows are visible or not; fields is a mask of its text columns (0: all); for its owner';
CREATE FUNCTION pgopt.search_exhaustive(
	index regclass, search text, k integer, fields integer DEFAULT 0, OUT place tid, OUT score double precision)
RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'pgopt_search_exhaustive' LANGUAGE C STABLE STRICT ROWS 50 COST 1000;
COMMENT ON FUNCTION pgopt.search_exhaustive(regclass, text, integer, integer) IS
	'the same from the scores of all documents that match: for tests, and slow';
REVOKE ALL ON FUNCTION pgopt.search_topk(regclass, text, integer, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION pgopt.search_exhaustive(regclass, text, integer, integer) FROM PUBLIC;

-- End of the index from the inside

-- ---------------------------------------------------------------------------
-- Workload: what statements the server runs
-- ---------------------------------------------------------------------------

CREATE TABLE pgopt.workload_statements (
	queryid bigint NOT NULL,
	userid oid NOT NULL,
	command bigint NOT NULL,
	first_seen timestamptz NOT NULL,
	query text,
	search_path text,
	template boolean,
	param_types oid[],
	PRIMARY KEY (queryid, userid)
);
COMMENT ON TABLE pgopt.workload_statements IS 'statements that were captured, each by its query id and who ran it';
COMMENT ON COLUMN pgopt.workload_statements.template IS 'the text was put together by pgopt, with parameters for variables (or for all constants), and stands for samples without a text';

CREATE TABLE pgopt.workload_samples (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	queryid bigint NOT NULL,
	userid oid NOT NULL,
	captured_at timestamptz NOT NULL,
	query text,
	search_path text NOT NULL,
	param_types oid[] NOT NULL,
	param_values text[] NOT NULL,
	param_known boolean[] NOT NULL,
	milliseconds double precision NOT NULL,
	rows double precision NOT NULL,
	plan text
);
CREATE INDEX workload_samples_statement ON pgopt.workload_samples (queryid, userid);
COMMENT ON TABLE pgopt.workload_samples IS 'single executions of captured statements, at most eight of each: texts as they were sent, or parameters; plans of slow ones';

CREATE TABLE pgopt.workload_history (
	queryid bigint NOT NULL,
	userid oid NOT NULL,
	period_start timestamptz NOT NULL,
	period_end timestamptz NOT NULL,
	calls double precision NOT NULL,
	milliseconds double precision NOT NULL,
	squares double precision NOT NULL,
	rows double precision NOT NULL,
	PRIMARY KEY (queryid, userid, period_start)
) WITH (fillfactor = 70);
CREATE INDEX workload_history_period_start ON pgopt.workload_history (period_start);
COMMENT ON TABLE pgopt.workload_history IS 'executions of captured statements by periods: one ends each hour, and when an index was made, rebuilt or dropped; kept for pgopt.workload_retention';
COMMENT ON COLUMN pgopt.workload_history.period_end IS 'the last execution in it';
COMMENT ON COLUMN pgopt.workload_history.squares IS 'sum of the squares of the executions'' milliseconds';

REVOKE ALL ON pgopt.workload_statements, pgopt.workload_samples, pgopt.workload_history FROM PUBLIC;
REVOKE ALL ON SEQUENCE pgopt.workload_samples_id_seq FROM PUBLIC;

CREATE FUNCTION pgopt_workload(
	OUT queryid bigint, OUT userid oid, OUT username name, OUT calls bigint,
	OUT total_ms double precision, OUT mean_ms double precision, OUT rows bigint, OUT samples integer,
	OUT captured boolean, OUT first_seen timestamptz, OUT last_seen timestamptz, OUT query text)
RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE ROWS 1000 COST 100000;
COMMENT ON FUNCTION pgopt_workload() IS
	'what this database has run since pgopt captures it (statements that read or write tables), most time first; captured is false for what only pg_stat_statements knows; for pg_read_all_stats; costs a read of what is kept';
REVOKE ALL ON FUNCTION pgopt_workload() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgopt_workload() TO pg_read_all_stats;

CREATE FUNCTION pgopt_workload_samples(
	queryid bigint,
	OUT captured_at timestamptz, OUT username name, OUT query text, OUT search_path text,
	OUT parameters jsonb, OUT duration_ms double precision, OUT rows bigint, OUT has_plan boolean)
RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT ROWS 10 COST 1000;
COMMENT ON FUNCTION pgopt_workload_samples(bigint) IS
	'single executions of a statement that were captured, newest first, with their parameters as text (those that are known); for pg_read_all_stats';
REVOKE ALL ON FUNCTION pgopt_workload_samples(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgopt_workload_samples(bigint) TO pg_read_all_stats;

CREATE FUNCTION pgopt_workload_status(
	OUT capturing boolean, OUT reason text, OUT constants boolean, OUT since timestamptz,
	OUT period_start timestamptz, OUT last_written timestamptz,
	OUT statements bigint, OUT statements_evicted bigint, OUT statements_lost bigint,
	OUT memory_used bigint, OUT memory_size bigint,
	OUT samples_dropped bigint, OUT samples_too_long bigint, OUT samples_failed bigint)
RETURNS record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgopt_workload_status() IS
	'whether statements are captured here, and if not, why; since when; of the whole server, since its start: statements in shared memory, those that went for want of room (lost: with counts that were not written yet), bytes of samples that wait to be written, and samples that found no room, were longer than 64 kB, or failed';
REVOKE ALL ON FUNCTION pgopt_workload_status() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgopt_workload_status() TO pg_monitor;

CREATE FUNCTION pgopt_workload_reset() RETURNS void
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgopt_workload_reset() IS 'forgets all that was captured in this database';
REVOKE ALL ON FUNCTION pgopt_workload_reset() FROM PUBLIC;

CREATE FUNCTION pgopt.workload_flush() RETURNS void
	AS 'MODULE_PATHNAME', 'pgopt_workload_flush' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgopt.workload_flush() IS 'writes at once what the worker writes every ten seconds';
REVOKE ALL ON FUNCTION pgopt.workload_flush() FROM PUBLIC;

-- End of workload

-- ---------------------------------------------------------------------------
-- Index advisor
-- ---------------------------------------------------------------------------

-- What-if

CREATE FUNCTION pgopt_whatif(
	ddl text[], queries text[] DEFAULT NULL, explain boolean DEFAULT true,
	OUT queryid bigint, OUT query text, OUT calls double precision, OUT cost_before double precision,
	OUT cost_after double precision, OUT ratio double precision, OUT used text[], OUT plan text)
RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE ROWS 20 COST 100000;
COMMENT ON FUNCTION pgopt_whatif(text[], text[], boolean) IS
	'what a set of indexes (CREATE INDEX, and DROP INDEX of some that exist) would do for the statements that ran here, or for those given: the planner''s cost of one call without and with them, their ratio, which of them it would use, and the plan; nothing is built or executed; costs two planner calls a statement, and a sample of the tables';
REVOKE ALL ON FUNCTION pgopt_whatif(text[], text[], boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgopt_whatif(text[], text[], boolean) TO pg_read_all_stats;

CREATE FUNCTION pgopt_whatif_indexes(
	indexes text[],
	OUT ddl text, OUT size_bytes bigint, OUT entries double precision, OUT pages bigint, OUT tree_height integer,
	OUT covered_by regclass, OUT problem text)
RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE ROWS 10 COST 100000;
COMMENT ON FUNCTION pgopt_whatif_indexes(text[]) IS
	'how large indexes would be that do not exist: bytes, entries and pages, the levels of a B-tree above its leaves, an index that already does the same, and why the statement would fail; costs a sample of the tables';
REVOKE ALL ON FUNCTION pgopt_whatif_indexes(text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgopt_whatif_indexes(text[]) TO pg_read_all_stats;

-- End of what-if

-- Candidates

CREATE FUNCTION pgopt.index_candidates(queries text[], OUT definition text, OUT statements integer[])
RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'pgopt_index_candidates' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgopt.index_candidates(text[]) IS
	'indexes that could help these queries, before any is priced, and the queries that each might serve';
REVOKE ALL ON FUNCTION pgopt.index_candidates(text[]) FROM PUBLIC;

-- End of candidates

-- Advice

CREATE FUNCTION pgopt_index_advice(
	budget text DEFAULT NULL, queries text[] DEFAULT NULL, max_indexes integer DEFAULT NULL,
	OUT ddl text, OUT size_bytes bigint, OUT cost_before double precision, OUT cost_after double precision,
	OUT write_cost double precision, OUT queryids bigint[], OUT priority text, OUT reason text, OUT size text,
	OUT "table" regclass, OUT statements jsonb)
RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE ROWS 10 COST 1000000;
COMMENT ON FUNCTION pgopt_index_advice(text, text[], integer) IS
	'indexes worth building for the statements that ran here (or for those given), best first, together no larger than the budget (''500MB''; null: no limit); costs are the planner''s, over all calls: of the statements that the index helps, before and after, and of writing to it; nothing is built or executed; costs some planner calls a statement; pgopt_advisor_progress() shows how far it is';
REVOKE ALL ON FUNCTION pgopt_index_advice(text, text[], integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgopt_index_advice(text, text[], integer) TO pg_read_all_stats;

CREATE FUNCTION pgopt_advisor_progress(
	OUT pid integer, OUT userid oid, OUT started timestamptz, OUT phase text, OUT done integer, OUT total integer,
	OUT planner_calls integer)
RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE ROWS 1;
COMMENT ON FUNCTION pgopt_advisor_progress() IS
	'calls of pgopt_index_advice() that are under way in this database, and how far they are; pg_cancel_backend(pid) stops one';
REVOKE ALL ON FUNCTION pgopt_advisor_progress() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgopt_advisor_progress() TO pg_monitor;
CREATE FUNCTION pgopt.selection_check(
	queries text[], seed integer, OUT candidates integer, OUT exact integer, OUT exact_wrong integer,
	OUT reckoned integer, OUT reckoned_error double precision, OUT best double precision, OUT found double precision)
RETURNS record
	AS 'MODULE_PATHNAME', 'pgopt_selection_check' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgopt.selection_check(text[], integer) IS
	'for tests: of up to 8 candidates drawn by the seed, costs that the advisor takes for known or reckons against those of the planner, and what the best set brings against the one that is found; plans every set';
REVOKE ALL ON FUNCTION pgopt.selection_check(text[], integer) FROM PUBLIC;

-- End of advice

-- Slow statements explained

CREATE FUNCTION pgopt_explain_slow(
	queryid bigint, run boolean DEFAULT false,
	OUT step integer, OUT problem text, OUT share real, OUT what text, OUT evidence jsonb, OUT remedy text,
	OUT cost_before double precision, OUT cost_after double precision)
RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT ROWS 10 COST 1000000;
COMMENT ON FUNCTION pgopt_explain_slow(bigint, boolean) IS
	'what makes a statement slow, and what would help: a row for the statement, then its problems, worst first, with their share of its time (or of its cost, where no times were taken) and the planner''s cost before and after where the remedy was priced; from the plan that was measured when it was slow, else from an estimate; run runs it now, as the user who ran it, if it only reads';
REVOKE ALL ON FUNCTION pgopt_explain_slow(bigint, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgopt_explain_slow(bigint, boolean) TO pg_read_all_stats;

CREATE FUNCTION pgopt_explain_slow_plan(queryid bigint, run boolean DEFAULT false) RETURNS text
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT COST 1000000;
COMMENT ON FUNCTION pgopt_explain_slow_plan(bigint, boolean) IS
	'the plan that pgopt_explain_slow() looks at, as text; null where there is none';
REVOKE ALL ON FUNCTION pgopt_explain_slow_plan(bigint, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgopt_explain_slow_plan(bigint, boolean) TO pg_read_all_stats;

CREATE FUNCTION pgopt_explain_slow_json(queryid bigint, run boolean DEFAULT false) RETURNS jsonb
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT COST 1000000;
COMMENT ON FUNCTION pgopt_explain_slow_json(bigint, boolean) IS
	'what pgopt_explain_slow() says, and the plan, for programs';
REVOKE ALL ON FUNCTION pgopt_explain_slow_json(bigint, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgopt_explain_slow_json(bigint, boolean) TO pg_read_all_stats;

-- End of slow statements explained

-- ---------------------------------------------------------------------------
-- Index hygiene and verdicts
-- ---------------------------------------------------------------------------

CREATE FUNCTION pgopt_index_hygiene(
	OUT index regclass, OUT problem text, OUT ddl text, OUT reason text, OUT table_name regclass,
	OUT size_bytes bigint, OUT usage text, OUT scans bigint, OUT confidence text, OUT lock text)
RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgopt_index_hygiene() IS
	'indexes that are invalid, duplicate, redundant (another one begins with their columns), unused, rarely_used or bloated, and foreign keys without an index (foreign_key_unindexed), with the statement that mends it and the lock that this takes. All statements may be run at once: where it is too early to judge they are comments. Nothing is dropped that a constraint, a replica identity, a foreign key or CLUSTER rests on';
REVOKE ALL ON FUNCTION pgopt_index_hygiene() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgopt_index_hygiene() TO pg_monitor;

CREATE TABLE pgopt.index_advice (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	given_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	definition text NOT NULL,
	ddl text NOT NULL,
	table_oid oid NOT NULL,
	size_bytes bigint NOT NULL,
	queryids bigint[] NOT NULL,
	cost_before double precision NOT NULL,
	cost_after double precision NOT NULL
);
COMMENT ON TABLE pgopt.index_advice IS 'indexes that pgopt_index_advice() gave lately, by which pgopt_index_verdicts() knows them again';
COMMENT ON COLUMN pgopt.index_advice.definition IS 'table, method, columns and predicate, as pgopt writes them, without a name';
REVOKE ALL ON pgopt.index_advice FROM PUBLIC;
REVOKE ALL ON SEQUENCE pgopt.index_advice_id_seq FROM PUBLIC;

CREATE FUNCTION pgopt_index_verdicts(
	OUT index_name regclass, OUT table_name regclass, OUT created_at timestamptz, OUT size_bytes bigint,
	OUT queryid bigint, OUT calls_before bigint, OUT mean_ms_before double precision, OUT calls_after bigint,
	OUT mean_ms_after double precision, OUT ratio double precision, OUT verdict text, OUT index_verdict text,
	OUT revert text, OUT reason text, OUT advised boolean)
RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgopt_index_verdicts() IS
	'for each index that came since the workload is known (advised: because pgopt_index_advice() gave it), and each statement that touches its table: mean times of up to a week before and of all calls since, whether it got faster or slower (by Welch''s test and 10 % at least), what that means for the index (keep, revert, unused, too early), and the statement that takes it back where something got slower';
REVOKE ALL ON FUNCTION pgopt_index_verdicts() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgopt_index_verdicts() TO pg_read_all_stats;

-- End of index hygiene and verdicts

-- ---------------------------------------------------------------------------

CREATE FUNCTION pgopt.preload_check() RETURNS void
	AS 'MODULE_PATHNAME', 'pgopt_preload_check' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgopt.preload_check() IS 'warns when the library was not loaded by shared_preload_libraries';

GRANT SELECT ON pgopt_matviews, pgopt_matview_dependencies, pgopt_table_changes TO PUBLIC;

SELECT pgopt.preload_check();
