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
	managed_by name NOT NULL,
	managed_since timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (home, view)
);
COMMENT ON TABLE pgopt.matview IS 'materialized views that pgopt refreshes, as users configured them with pgopt_manage()';
COMMENT ON COLUMN pgopt.matview.home IS 'where view is the OID of the materialized view; rows that were restored elsewhere find theirs by name';
COMMENT ON COLUMN pgopt.matview.schema_name IS 'its name when pgopt last looked: a view that is dropped and created again stays managed';
COMMENT ON COLUMN pgopt.matview.settings IS 'settings that can change what a query yields, as they were when the view was put under management; each refresh uses them';
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

CREATE TABLE pgopt.refresh_log (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	view oid NOT NULL,
	view_name text NOT NULL,
	started_at timestamptz NOT NULL,
	duration interval NOT NULL,
	outcome text NOT NULL CHECK (outcome IN ('refreshed', 'unchanged', 'failed')),
	mode text CHECK (mode IN ('concurrent', 'full')),
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
	priority integer DEFAULT NULL)
RETURNS void
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgopt_manage(regclass, text, interval, bigint, integer) IS
	'keeps a materialized view fresh: strategy immediate, scheduled, threshold, smart (default) or manual; interval (30 minutes); threshold (1000 rows); priority 1 (first) to 10 (5). Null keeps what is configured';

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
	OUT failures integer, OUT last_sqlstate text)
RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'pgopt_matview_status' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgopt.matview_status() IS 'rows of pgopt_matviews';

CREATE VIEW pgopt_matviews AS
	SELECT view, strategy, pending_changes, round(staleness::numeric, 3) AS staleness, fresh,
	       last_refresh, last_duration, last_mode, last_error, next_refresh, priority,
	       refresh_interval, threshold_changes, state, reason, advice, failures, last_sqlstate
	  FROM pgopt.matview_status()
	 ORDER BY priority, view::text;
COMMENT ON VIEW pgopt_matviews IS 'managed materialized views and how stale they are';
COMMENT ON COLUMN pgopt_matviews.pending_changes IS 'rows changed in what it reads since its last refresh; null = not known';
COMMENT ON COLUMN pgopt_matviews.staleness IS '0 = nothing pending; 1 - 0.3 ^ (pending / threshold + age / interval); above 0.7 = overdue';
COMMENT ON COLUMN pgopt_matviews.fresh IS 'true only when it is certain that its query would give what it holds, and so for the managed views that it reads';
COMMENT ON COLUMN pgopt_matviews.last_mode IS 'concurrent, or full (built beside the old rows and swapped)';
COMMENT ON COLUMN pgopt_matviews.next_refresh IS 'when it is due by the clock; null = when something changes, or when asked';
COMMENT ON COLUMN pgopt_matviews.state IS 'waiting, due, refreshing, retrying, manual or missing';
COMMENT ON COLUMN pgopt_matviews.reason IS 'why it is not fresh';
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

CREATE FUNCTION pgopt_refresh_advice(
	OUT view regclass, OUT strategy text, OUT refresh_interval interval,
	OUT threshold_changes bigint, OUT reason text, OUT saves interval, OUT apply_sql text)
RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgopt_refresh_advice() IS
	'the strategy, interval and threshold that would fit each managed view by the history of seven days, why, the refresh time a day that it saves, and the SQL that applies it';

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

CREATE FUNCTION pgopt.preload_check() RETURNS void
	AS 'MODULE_PATHNAME', 'pgopt_preload_check' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgopt.preload_check() IS 'warns when the library was not loaded by shared_preload_libraries';

GRANT SELECT ON pgopt_matviews, pgopt_matview_dependencies, pgopt_table_changes TO PUBLIC;

SELECT pgopt.preload_check();
