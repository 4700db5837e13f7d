/*
 * checks_load.c
 *		What the server spends its time on: spills, checkpoints, reads,
 *		statements that fail or take long.
 *
 * Evidence first: little work is no evidence, and neither is what a bulk load
 * does once.  A load shows in the WAL: what it reads and spills to build
 * indexes is in proportion to what it writes.
 */
#include "pgopt.h"

#include <unistd.h>

#include "access/xlog.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "core.h"
#include "health.h"
#include "monitor.h"

static Threshold temp_info = {
	.name = "temp_bytes_info",
	.unit = UNIT_MB,
	.boot_value = 100,
	.description = "Temporary files written within the window of counters that are worth knowing.",
};

static Threshold temp_warning = {
	.name = "temp_bytes_warning",
	.unit = UNIT_MB,
	.boot_value = 1024,
	.description = "Temporary files written within the window of counters that are a warning.",
};

static Threshold checkpoint_interval = {
	.name = "checkpoint_interval_warning",
	.unit = UNIT_SECONDS,
	.boot_value = 30,
	.description =
		"Mean interval between checkpoints for want of WAL space below which it is a warning.",
};

static Threshold checkpoint_count = {
	.name = "checkpoint_min_count",
	.unit = UNIT_NUMBER,
	.boot_value = 5,
	.description = "How many checkpoints for want of WAL space are evidence.",
};

static Threshold cache_info = {
	.name = "cache_hit_info",
	.unit = UNIT_PERCENT,
	.boot_value = 95,
	.description =
		"Share of block accesses found in shared_buffers below which it is worth knowing.",
};

static Threshold cache_warning = {
	.name = "cache_hit_warning",
	.unit = UNIT_PERCENT,
	.boot_value = 80,
	.description = "Share of block accesses found in shared_buffers below which it is a warning.",
};

static Threshold cache_accesses = {
	.name = "cache_hit_min_accesses",
	.unit = UNIT_NUMBER,
	.boot_value = 10000,
	.description = "How many block accesses are evidence.",
};

static Threshold rollback_share = {
	.name = "rollbacks_warning",
	.unit = UNIT_PERCENT,
	.boot_value = 10,
	.description = "Share of transactions rolled back that is a warning.",
};

static Threshold rollback_transactions = {
	.name = "rollbacks_min_transactions",
	.unit = UNIT_NUMBER,
	.boot_value = 1000,
	.description = "How many transactions are evidence.",
};

static Threshold slow_mean = {
	.name = "slow_statement_mean",
	.unit = UNIT_MILLISECONDS,
	.boot_value = 1000,
	.description = "Mean duration from which a statement is slow.",
};

static Threshold slow_calls = {
	.name = "slow_statement_min_calls",
	.unit = UNIT_NUMBER,
	.boot_value = 3,
	.description = "How many calls of a slow statement are evidence.",
};

static Threshold slow_share = {
	.name = "slow_statement_share_warning",
	.unit = UNIT_PERCENT,
	.boot_value = 5,
	.description = "Share of the time of all statements from which a slow one is a warning.",
};

static Threshold evicting_info = {
	.name = "pgss_evictions_info",
	.unit = UNIT_NUMBER,
	.boot_value = 1,
	.description = "How often an hour pg_stat_statements may discard statements.",
};

static Threshold evicting_warning = {
	.name = "pgss_evictions_warning",
	.unit = UNIT_NUMBER,
	.boot_value = 10,
	.description = "How often an hour pg_stat_statements discards statements that is a warning.",
};

/* SQL text: the quoted schema of pg_stat_statements, for remedies. */
#define STATEMENTS_SCHEMA                              \
	"(SELECT quote_ident(n.nspname)"                   \
	"   FROM pg_extension e"                           \
	"   JOIN pg_namespace n ON n.oid = e.extnamespace" \
	"  WHERE e.extname = 'pg_stat_statements')"

/* SQL text: how long the counters grew. */
#define DURATION "make_interval(secs => round(d.seconds))"

static const char temp_spills_query[] =
	"SELECT CASE WHEN d.temp_bytes >= $2 AND d.temp_bytes > d.wal_bytes"
	"            THEN 'warning' ELSE 'info' END,"
	"       'database ' || quote_ident(current_database()),"
	"       format('%s in %s temporary files within %s: work_mem (%s kB) is too small for some statements',"
	"              pg_size_pretty(d.temp_bytes), d.temp_files, " DURATION ", d.work_mem_kb),"
	"       jsonb_build_object("
	"           'temp_bytes', d.temp_bytes,"
	"           'temp_files', d.temp_files,"
	"           'wal_bytes', d.wal_bytes,"
	"           'bytes_per_file', d.temp_bytes / d.temp_files,"
	"           'work_mem_bytes', d.work_mem_kb * 1024,"
	"           'seconds', round(d.seconds),"
	"           'basis', d.basis),"
	"       d.since,"
	"       CASE WHEN d.work_mem_kb <= 128 * 1024"
	"            THEN format('ALTER SYSTEM SET work_mem = ''%skB''; SELECT pg_reload_conf();',"
	"                        least(greatest(d.work_mem_kb * 2, "
	"                                       (2 ^ ceil(log(2, 1 + d.temp_bytes / d.temp_files / 1024)))::bigint * 2), "
	"                              greatest(d.work_mem_kb * 2, 64 * 1024)))"
	"            ELSE " SQL_RESTART_WINDOW
	"                 || ' -- work_mem is large: give more to the role whose statements need it'"
	"       END,"
	"       'none'"
	"  FROM (SELECT d.*,"
	"               (SELECT s.reset_val::bigint FROM pg_settings s WHERE s.name = 'work_mem')"
	"               AS work_mem_kb"
	"          FROM pgopt.counter_deltas() d"
	"         WHERE d.temp_bytes >= $1"
	"           AND d.temp_files > 0"
	"        OFFSET 0) d";

/*
 * How many checkpoints came because max_wal_size was full follows from the
 * WAL: one begins at the latest when max_wal_size / (1 +
 * checkpoint_completion_target) of it was written, and a quarter less where
 * that is few segments.  Those that somebody asked for count only as far.
 */
static const char checkpoints_query[] =
	"SELECT CASE WHEN d.every < $1 THEN 'warning' ELSE 'info' END,"
	"       'max_wal_size',"
	"       format('%s checkpoints within %s, one every %s s, came because max_wal_size (%s) was full',"
	"              d.by_wal, " DURATION ", round(d.every), current_setting('max_wal_size')),"
	"       jsonb_build_object("
	"           'checkpoints_by_wal', d.by_wal,"
	"           'checkpoints_requested', d.checkpoints_requested,"
	"           'checkpoints_timed', d.checkpoints_timed,"
	"           'wal_bytes', d.wal_bytes,"
	"           'max_wal_size_bytes', d.max_wal_size,"
	"           'seconds', round(d.seconds),"
	"           'basis', d.basis),"
	"       d.since,"
	"       format('ALTER SYSTEM SET max_wal_size = ''%sMB''; SELECT pg_reload_conf();"
	" -- pg_wal may grow to this',"
	"              ceil(least(greatest(d.max_wal_size * d.timeout / d.every, d.max_wal_size * 2),"
	"                         d.max_wal_size * 16) / 1048576)),"
	"       'none'"
	"  FROM (SELECT d.*, d.seconds / d.by_wal AS every"
	"          FROM (SELECT d.*, w.max_wal_size, w.timeout,"
	"                       least(d.checkpoints_requested,"
	"                             floor(d.wal_bytes / (0.75 * w.max_wal_size / (1 + w.target)))) AS by_wal"
	"                  FROM pgopt.counter_deltas() d,"
	"                       (SELECT pg_size_bytes(current_setting('max_wal_size')),"
	"                               current_setting('checkpoint_completion_target')::float8,"
	"                               extract(epoch FROM"
	"                                       current_setting('checkpoint_timeout')::interval)::float8)"
	"                       AS w (max_wal_size, target, timeout)) d"
	"         WHERE d.by_wal >= greatest($2, 1)) d"
	" WHERE d.every < d.timeout";

/*
 * A restore reads what it wrote once for each index and foreign key; five
 * times its WAL was measured.  The size of the database is only asked for
 * where the rest is so.
 */
static const char cache_hit_query[] =
	"SELECT CASE WHEN d.percent < $1 AND d.missed * d.block_size > 8 * d.wal_bytes"
	"            THEN 'warning' ELSE 'info' END,"
	"       'database ' || quote_ident(current_database()),"
	"       format('%s %% of %s block accesses within %s were found in shared_buffers (%s),"
	" and the database has %s',"
	"              round(d.percent), d.blks_fetched, " DURATION ","
	"              current_setting('shared_buffers'), pg_size_pretty(d.size)),"
	"       jsonb_build_object("
	"           'accesses', d.blks_fetched,"
	"           'found', d.blks_hit,"
	"           'percent', round(d.percent, 1),"
	"           'shared_buffers_bytes', d.buffers,"
	"           'database_bytes', d.size,"
	"           'machine_memory_bytes', d.memory,"
	"           'wal_bytes', d.wal_bytes,"
	"           'seconds', round(d.seconds),"
	"           'basis', d.basis),"
	"       d.since,"
	"       CASE WHEN d.fitting > d.buffers * 1.2"
	"            THEN format('ALTER SYSTEM SET shared_buffers = ''%sMB''; -- then restart',"
	"                        ceil(d.fitting / 1048576))"
	"            ELSE " SQL_RESTART_WINDOW
	"                 || ' -- shared_buffers has its share of the memory: look for what reads so much'"
	"       END,"
	"       CASE WHEN d.fitting > d.buffers * 1.2 THEN 'restart of the server' ELSE 'none' END"
	"  FROM (SELECT d.*, least(d.memory / 4, d.size * 1.1) AS fitting"
	"          FROM (SELECT d.*, machine.memory,"
	"                       d.blks_fetched - d.blks_hit AS missed,"
	"                       d.blks_hit * 100.0 / d.blks_fetched AS percent,"
	"                       current_setting('block_size')::int AS block_size,"
	"                       pg_size_bytes(current_setting('shared_buffers')) AS buffers,"
	/* which asks for each file; with tens of thousands of them the catalog's pages will do */
	"                       CASE WHEN pg_relation_size('pg_class') < 4 * 1024 * 1024"
	"                            THEN pg_database_size(current_database())"
	"                            ELSE (SELECT sum(c.relpages::bigint) FROM pg_class c)"
	"                                 * current_setting('block_size')::bigint END AS size"
	"                  FROM pgopt.counter_deltas() d, machine"
	"                 WHERE d.blks_fetched >= greatest($3, 1)"
	"                   AND d.blks_hit * 100.0 / nullif(d.blks_fetched, 0) < $2"
	"                OFFSET 0) d) d"
	" WHERE d.size > d.buffers";

static const char rollbacks_query[] =
	"SELECT 'warning',"
	"       'database ' || quote_ident(current_database()),"
	"       format('%s of %s transactions within %s were rolled back (%s %%)',"
	"              d.xact_rollback, d.xact_commit + d.xact_rollback, " DURATION ","
	"              round(d.xact_rollback * 100.0 / (d.xact_commit + d.xact_rollback))),"
	"       jsonb_build_object("
	"           'committed', d.xact_commit,"
	"           'rolled_back', d.xact_rollback,"
	"           'percent', round(d.xact_rollback * 100.0 / (d.xact_commit + d.xact_rollback), 1),"
	"           'deadlocks', d.deadlocks,"
	"           'seconds', round(d.seconds),"
	"           'basis', d.basis),"
	"       d.since,"
	"       " SQL_RESTART_WINDOW
	" || ' -- once the statements that fail are mended: the server log has them',"
	"       'none'"
	"  FROM pgopt.counter_deltas() d"
	" WHERE d.xact_commit + d.xact_rollback >= greatest($2, 1)"
	"   AND d.xact_rollback * 100.0 >= $1 * (d.xact_commit + d.xact_rollback)";

/*
 * The numbers first, without the texts, which are in a file; they are read
 * where there are slow statements.  Utility statements, backups and refreshes
 * are as slow as they are.
 */
static const char slow_statements_query[] =
	"WITH measured AS MATERIALIZED ("
	"    SELECT s.userid, s.dbid, s.queryid, s.calls, s.rows,"
	"           s.mean_exec_time / 1000 AS mean,"
	"           s.max_exec_time / 1000 AS longest,"
	"           s.total_exec_time / 1000 AS total,"
	"           100 * s.total_exec_time / nullif(sum(s.total_exec_time) OVER (), 0) AS share"
	"      FROM pgss.pg_stat_statements(false) s"
	"     WHERE s.dbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())"
	"), slow AS MATERIALIZED ("
	"    SELECT m.*,"
	"           (SELECT q.query"
	"              FROM pgss.pg_stat_statements(true) q"
	"             WHERE q.userid = m.userid"
	"               AND q.dbid = m.dbid"
	"               AND q.queryid = m.queryid"
	"             LIMIT 1) AS query"
	"      FROM measured m"
	"     WHERE m.mean >= $1"
	"       AND m.calls >= $2"
	"     ORDER BY m.total DESC"
	"     LIMIT 100"
	") SELECT CASE WHEN s.share >= $3 THEN 'warning' ELSE 'info' END,"
	"       'statement ' || s.queryid,"
	"       format('statement %s took %s s on average and was called %s times:"
	" %s %% of the time of all statements',"
	"              s.queryid, round(s.mean::numeric, 2), s.calls, round(s.share)),"
	"       jsonb_build_object("
	"           'queryid', s.queryid::text," /* 64 bits are too many for some readers of JSON */
	"           'query', left(s.query, 1000),"
	"           'role', r.rolname,"
	"           'calls', s.calls,"
	"           'mean_seconds', round(s.mean::numeric, 3),"
	"           'max_seconds', round(s.longest::numeric, 3),"
	"           'total_seconds', round(s.total::numeric, 3),"
	"           'share_percent', round(s.share::numeric, 1),"
	"           'rows', s.rows),"
	"       NULL::timestamptz,"
	"       format(E'SELECT query FROM %1$s.pg_stat_statements WHERE queryid = %2$s; -- EXPLAIN it\\n"
	"SELECT %1$s.pg_stat_statements_reset(%3$s, %4$s, %2$s); -- once it is faster: counts it anew',"
	"              " STATEMENTS_SCHEMA ", s.queryid, s.userid, s.dbid),"
	"       'none'"
	"  FROM slow s"
	"  LEFT JOIN pg_roles r ON r.oid = s.userid"
	" WHERE s.query ~* '^\\s*((/\\*.*?\\*/|--[^\\n]*)\\s*)*\\(*\\s*"
	"(select|insert|update|delete|merge|with|values|table)\\M'"
	"   AND s.query !~* '\\m(pg_backup_start|pg_backup_stop|pgopt_refresh(_all|_due)?)\\M'";

static const char evicting_query[] =
	"SELECT CASE WHEN i.an_hour >= $2 THEN 'warning' ELSE 'info' END,"
	"       'pg_stat_statements',"
	"       format('pg_stat_statements has room for %s statements and discarded some %s times since %s',"
	"              current_setting('pg_stat_statements.max'), i.dealloc, i.stats_reset),"
	"       jsonb_build_object("
	"           'evictions', i.dealloc,"
	"           'an_hour', round(i.an_hour, 1),"
	"           'max', current_setting('pg_stat_statements.max')::int),"
	"       i.stats_reset,"
	"       format(E'SELECT %s.pg_stat_statements_reset(); -- counts all statements anew\\n"
	"ALTER SYSTEM SET pg_stat_statements.max = %s; -- then restart',"
	"              " STATEMENTS_SCHEMA ","
	"              current_setting('pg_stat_statements.max')::bigint * 2),"
	"       'restart of the server'"
	"  FROM (SELECT i.dealloc, i.stats_reset,"
	"               i.dealloc / greatest(extract(epoch FROM clock_timestamp() - i.stats_reset) / 3600,"
	"                                    1) AS an_hour"
	"          FROM pgss.pg_stat_statements_info i) i"
	" WHERE i.an_hour >= $1";

static void
check_cache_hit(HealthRun *run)
{
	health_query(run,
				 psprintf("WITH machine AS (SELECT %.0f::float8 AS memory) %s",
						  health_machine_memory(),
						  cache_hit_query));
}

/* The quoted name of the schema of pg_stat_statements; NULL where it cannot be asked. */
static char *
statements_schema(HealthRun *run)
{
	char *schema = NULL;

	if (!monitor_statements_preloaded())
	{
		run->unknown = "pg_stat_statements is not in shared_preload_libraries";
		return NULL;
	}
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	pgopt_spi_execute("SELECT quote_ident(n.nspname)"
					  "  FROM pg_extension e"
					  "  JOIN pg_namespace n ON n.oid = e.extnamespace"
					  " WHERE e.extname = 'pg_stat_statements'",
					  0,
					  NULL,
					  NULL,
					  NULL,
					  true,
					  SPI_OK_SELECT);
	if (SPI_processed == 1)
		schema = MemoryContextStrdup(run->context, pgopt_spi_text(0, 1));
	else
		run->unknown = "the extension pg_stat_statements is not in this database";
	SPI_finish();
	return schema;
}

/* Runs a query in which the schema of pg_stat_statements is called pgss. */
static void
statements_query(HealthRun *run, const char *query)
{
	char *schema = statements_schema(run);
	StringInfoData sql;

	if (schema == NULL)
		return;
	initStringInfo(&sql);
	while (*query != '\0')
	{
		const char *name = strstr(query, "pgss.");

		if (name == NULL)
		{
			appendStringInfoString(&sql, query);
			break;
		}
		appendBinaryStringInfo(&sql, query, name - query);
		appendStringInfo(&sql, "%s.", schema);
		query = name + strlen("pgss.");
	}
	health_query(run, sql.data);
}

static void
check_slow_statements(HealthRun *run)
{
	statements_query(run, slow_statements_query);
}

static void
check_evicting(HealthRun *run)
{
	statements_query(run, evicting_query);
}

/* Are its files on the machine? If not, preloading it would keep the server from starting. */
static bool
statements_available(void)
{
	char path[MAXPGPATH];
	bool available;

	get_share_path(my_exec_path, path);
	strlcat(path, "/extension/" MONITOR_STATEMENTS ".control", sizeof(path));
	if (access(path, F_OK) == 0)
		return true;
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	available = pgopt_spi_execute("SELECT FROM pg_available_extensions()"
								  " WHERE name = '" MONITOR_STATEMENTS "'",
								  0,
								  NULL,
								  NULL,
								  NULL,
								  true,
								  SPI_OK_SELECT) > 0;
	SPI_finish();
	return available;
}

static void
check_statements(HealthRun *run)
{
	bool preloaded = monitor_statements_preloaded();
	bool installed = OidIsValid(get_extension_oid(MONITOR_STATEMENTS, true));
	Finding finding = {
		.severity = "info",
		.object = MONITOR_STATEMENTS,
		.remedy_lock = "none",
	};

	if (preloaded && installed)
		return;
	finding.message = preloaded ? "the extension pg_stat_statements is not in this database: "
								  "slow statements go unseen"
								: "pg_stat_statements was not loaded when the server started: "
								  "slow statements go unseen";
	finding.evidence = psprintf("{\"preloaded\": %s, \"created\": %s}",
								preloaded ? "true" : "false",
								installed ? "true" : "false");
	if (preloaded && !RecoveryInProgress())
		finding.remedy = "CREATE EXTENSION pg_stat_statements;";
	else if (!preloaded && statements_available())
	{
		finding.remedy = psprintf(
			"%s%s",
			installed || RecoveryInProgress() ? "" : "CREATE EXTENSION pg_stat_statements;\n",
			health_preload_remedy(MONITOR_STATEMENTS));
		finding.remedy_lock = "restart of the server";
	}
	health_report(run, &finding);
}

const HealthCheck checks_load[] = {
	{
		.id = "temp_spills",
		.family = "memory",
		.weight = 1,
		.flags = CHECK_DELTAS,
		.thresholds = {&temp_info, &temp_warning},
		.reference = DOCS("runtime-config-resource.html#GUC-WORK-MEM"),
		.query = temp_spills_query,
	},
	{
		.id = "checkpoints_frequent",
		.family = "checkpoints",
		.weight = 1,
		.flags = CHECK_DELTAS | CHECK_PRIMARY,
		.thresholds = {&checkpoint_interval, &checkpoint_count},
		.reference = DOCS("wal-configuration.html"),
		.query = checkpoints_query,
	},
	{
		.id = "cache_hit",
		.family = "memory",
		.weight = 1,
		.flags = CHECK_DELTAS,
		.thresholds = {&cache_warning, &cache_info, &cache_accesses},
		.reference = DOCS("runtime-config-resource.html#GUC-SHARED-BUFFERS"),
		.run = check_cache_hit,
	},
	{
		.id = "rollbacks",
		.family = "rollbacks",
		.weight = 1,
		.flags = CHECK_DELTAS,
		.thresholds = {&rollback_share, &rollback_transactions},
		.reference = DOCS("monitoring-stats.html#MONITORING-PG-STAT-DATABASE-VIEW"),
		.query = rollbacks_query,
	},
	{
		.id = "slow_statements",
		.family = "statements",
		.weight = 1,
		.needs = "pg_read_all_stats",
		.thresholds = {&slow_mean, &slow_calls, &slow_share},
		.reference = DOCS("pgstatstatements.html"),
		.run = check_slow_statements,
	},
	{
		.id = "pgss_missing",
		.family = "pg_stat_statements",
		.weight = 1,
		.reference = DOCS("pgstatstatements.html"),
		.run = check_statements,
	},
	{
		.id = "pgss_evicting",
		.family = "pg_stat_statements",
		.weight = 1,
		.thresholds = {&evicting_info, &evicting_warning},
		.reference = DOCS("pgstatstatements.html#PGSTATSTATEMENTS-PG-STAT-STATEMENTS-INFO"),
		.run = check_evicting,
	},
};

const int checks_load_count = lengthof(checks_load);
