/*
 * checks_settings.c
 *		Settings that endanger the data, that are wrong, or that nobody has
 *		looked at.
 *
 * What a session has set for itself is no finding: the value that counts is
 * that with which sessions start (reset_val), and those that roles and
 * databases are given.  That also leaves out what a run of the checks pins.
 */
#include "pgopt.h"

#include <math.h>

#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/guc.h"

#include "compat.h"
#include "health.h"
#include "places.h"
#include "relations.h"

static Threshold work_mem_risk = {
	.name = "work_mem_risk_info",
	.unit = UNIT_PERCENT,
	.boot_value = 100,
	.description = "Share of the machine's memory that one work_mem for each connection may take.",
};

static Threshold shared_buffers_small = {
	.name = "default_shared_buffers_info",
	.unit = UNIT_NUMBER,
	.boot_value = 10,
	.description =
		"How many times larger than shared_buffers a database may be, while that is 128 MB.",
};

/* What initdb writes. */
#define DEFAULT_SHARED_BUFFERS (128 * 1048576.0)

/* For a boolean setting that must have one value everywhere. pg_settings is only read where it has not. */
#define MUST_BE(setting, safe, danger)                                                     \
	"WITH pinned AS (" PINNED "), place AS ("                                              \
	"    SELECT s.name, s.source, 0::oid AS dbid, 0::oid AS roleid, s.reset_val AS value"  \
	"      FROM pg_settings s"                                                             \
	"     WHERE current_setting('" setting "') <> '" safe "'"                              \
	"       AND s.name = '" setting "'"                                                    \
	"       AND s.reset_val <> '" safe "'"                                                 \
	"       AND s.source NOT IN ('global', 'database', 'user', 'database user', 'client')" \
	"    UNION ALL"                                                                        \
	"    SELECT p.name, 'pinned', p.dbid, p.roleid, p.value"                               \
	"      FROM pinned p"                                                                  \
	"     WHERE CASE p.name WHEN '" setting "'"                                            \
	"                THEN p.value::boolean <> '" safe "'::boolean"                         \
	"           END"                                                                       \
	") " REPORT_PLACES("critical", safe, danger)

static const char planner_methods_query[] =
	"WITH pinned AS (" PINNED "), method AS MATERIALIZED ("
	"    SELECT s.name, s.source, s.reset_val"
	"      FROM pg_settings s"
	"     WHERE s.name LIKE 'enable\\_%'"
	"       AND s.vartype = 'bool'"
	"       AND s.boot_val = 'on'"
	"), place AS ("
	"    SELECT m.name, m.source, 0::oid AS dbid, 0::oid AS roleid, m.reset_val AS value"
	"      FROM method m"
	"     WHERE m.reset_val = 'off'"
	"       AND m.source NOT IN ('global', 'database', 'user', 'database user', 'client')"
	"    UNION ALL"
	"    SELECT p.name, 'pinned', p.dbid, p.roleid, p.value"
	"      FROM pinned p"
	"      JOIN method m ON m.name = p.name"
	"     WHERE CASE WHEN p.name LIKE 'enable\\_%' THEN NOT p.value::boolean END"
	") " REPORT_PLACES("warning", "on", "the planner avoids this method for every statement");

static const char synchronous_commit_query[] =
	"WITH pinned AS (" PINNED "), place AS ("
	"    SELECT s.name, s.source, 0::oid AS dbid, 0::oid AS roleid, s.reset_val AS value"
	"      FROM pg_settings s"
	"     WHERE current_setting('synchronous_commit') = 'off'"
	"       AND s.name = 'synchronous_commit'"
	"       AND s.reset_val = 'off'"
	"       AND s.source NOT IN ('global', 'database', 'user', 'database user', 'client')"
	"    UNION ALL"
	"    SELECT p.name, 'pinned', p.dbid, p.roleid, p.value"
	"      FROM pinned p"
	"     WHERE p.name = 'synchronous_commit'"
	"       AND lower(p.value) IN ('off', 'false', 'no', '0')"
	") " REPORT_PLACES("info", "on", "what committed last can be lost in a crash");

static const char pending_restart_query[] =
	"SELECT 'warning',"
	"       s.name,"
	"       format('%s was changed, and the server must be restarted for it: it still is %s',"
	"              s.name, current_setting(s.name)),"
	"       jsonb_build_object("
	"           'setting', s.name,"
	"           'running_value', current_setting(s.name),"
	"           'configuration_loaded_at', pg_conf_load_time()),"
	"       NULL::timestamptz,"
	"       format('-- restart the server; or take the change of %I back where it was made', s.name),"
	"       'restart of the server'"
	"  FROM pg_settings s"
	" WHERE s.pending_restart";

/*
 * A setting that merely waits for a restart counts as an error in
 * pg_file_settings, with the text of a wrong value; reading it is what marks
 * such a setting in this session, so it is read first.
 */
static const char config_file_query[] =
	"WITH wrong AS MATERIALIZED ("
	"    SELECT f.sourcefile, f.sourceline, f.name, f.setting, f.error"
	"      FROM pg_show_all_file_settings() f"
	"     WHERE f.error IS NOT NULL"
	") SELECT 'critical',"
	"       format('%s line %s', regexp_replace(w.sourcefile, '^.*/', ''), w.sourceline),"
	"       format('line %s of %s is wrong (%s): the server would not start again',"
	"              w.sourceline, w.sourcefile, concat_ws(': ', w.name, w.error)),"
	"       jsonb_build_object("
	"           'file', w.sourcefile,"
	"           'line', w.sourceline,"
	"           'setting', w.name,"
	"           'value', w.setting,"
	"           'error', w.error),"
	"       NULL::timestamptz,"
	"       CASE WHEN s.vartype IS NOT NULL AND w.sourcefile LIKE '%postgresql.auto.conf'"
	"            THEN format('ALTER SYSTEM RESET %I; SELECT pg_reload_conf();', w.name)"
	"            WHEN s.vartype IN ('bool', 'integer', 'real', 'enum')"
	"            THEN format('ALTER SYSTEM SET %I = %L; SELECT pg_reload_conf();"
	" -- the value that runs; or mend line %s of %s',"
	"                        w.name, s.reset_val, w.sourceline, w.sourcefile)"
	"            ELSE format('SELECT pg_reload_conf(); -- once line %s of %s is mended',"
	"                        w.sourceline, w.sourcefile)"
	"       END,"
	"       'none'"
	"  FROM wrong w"
	"  LEFT JOIN LATERAL ("
	"      SELECT s.vartype, s.reset_val, s.pending_restart"
	"        FROM pg_settings s"
	"       WHERE s.name = w.name"
	"  ) s ON true"
	" WHERE s.pending_restart IS NOT TRUE";

/* A rule that is there in spite of an error is one that cannot match: of hostssl, while ssl is off. */
static const char hba_file_query[] =
	"SELECT CASE WHEN h.type IS NULL THEN 'critical' ELSE 'info' END,"
	"       format('%s line %s', " COMPAT_HBA_FILE ", h.line_number),"
	"       format(CASE WHEN h.type IS NULL"
	"                   THEN 'line %s of %s is wrong (%s): it is not loaded,"
	" and the server would not start again'"
	"                   ELSE 'line %s of %s does nothing (%s)' END,"
	"              h.line_number, " COMPAT_HBA_FILE ", h.error),"
	"       jsonb_build_object("
	"           'file', " COMPAT_HBA_FILE ","
	"           'line', h.line_number,"
	"           'error', h.error),"
	"       NULL::timestamptz,"
	"       format('SELECT pg_reload_conf(); -- once line %s of %s is mended',"
	"              h.line_number, " COMPAT_HBA_FILE "),"
	"       'none'"
	"  FROM pg_hba_file_rules() h"
	" WHERE h.error IS NOT NULL";

static const char ident_file_query[] =
	"SELECT 'warning',"
	"       format('%s line %s', " COMPAT_IDENT_FILE ", m.line_number),"
	"       format('line %s of %s is wrong (%s): none of its changes is loaded',"
	"              m.line_number, " COMPAT_IDENT_FILE ", m.error),"
	"       jsonb_build_object("
	"           'file', " COMPAT_IDENT_FILE ","
	"           'line', m.line_number,"
	"           'error', m.error),"
	"       NULL::timestamptz,"
	"       format('SELECT pg_reload_conf(); -- once line %s of %s is mended',"
	"              m.line_number, " COMPAT_IDENT_FILE "),"
	"       'none'"
	"  FROM pg_ident_file_mappings() m"
	" WHERE m.error IS NOT NULL";

/* Sessions in which neither triggers nor foreign keys fire. */
static const char replication_role_query[] =
	"WITH pinned AS (" PINNED "), place AS ("
	"    SELECT s.name, s.source, 0::oid AS dbid, 0::oid AS roleid, s.reset_val AS value"
	"      FROM pg_settings s"
	"     WHERE current_setting('session_replication_role') <> 'origin'"
	"       AND s.name = 'session_replication_role'"
	"       AND s.reset_val <> 'origin'"
	"       AND s.source NOT IN ('global', 'database', 'user', 'database user', 'client')"
	"    UNION ALL"
	"    SELECT p.name, 'pinned', p.dbid, p.roleid, p.value"
	"      FROM pinned p"
	"     WHERE p.name = 'session_replication_role'"
	"       AND p.value <> 'origin'"
	") " REPORT_PLACES("warning", "origin", "neither triggers nor foreign keys fire");

static void
check_config_file(HealthRun *run)
{
	if (health_may_call(run, "pg_show_all_file_settings()"))
		health_query(run, config_file_query);
}

static void
check_hba_file(HealthRun *run)
{
	if (health_may_call(run, "pg_hba_file_rules()"))
		health_query(run, hba_file_query);
}

static void
check_ident_file(HealthRun *run)
{
	if (health_may_call(run, "pg_ident_file_mappings()"))
		health_query(run, ident_file_query);
}

/* The value of an integer setting with which sessions start, in its unit. */
static int
reset_value(const char *name)
{
	return atoi(GetConfigOptionResetString(name));
}

static void
check_work_mem(HealthRun *run)
{
	double memory = health_machine_memory();
	double wanted = reset_value("work_mem") * 1024.0 * MaxConnections;
	int64 fitting;
	Finding finding = {
		.severity = "info",
		.object = "work_mem",
		.remedy_lock = "none",
	};

	if (memory <= 0)
		run->unknown = "the machine does not tell how much memory it has";
	if (memory <= 0 || wanted <= memory * threshold_value(&work_mem_risk) / 100)
		return;
	fitting = Max(1, (int64) (memory / 4 / MaxConnections / 1048576));
	finding.message = psprintf("one work_mem (%d MB) for each of %d connections is %.0f %% of the "
							   "machine's memory, and a statement can take several",
							   reset_value("work_mem") / 1024,
							   MaxConnections,
							   wanted * 100 / memory);
	finding.evidence = psprintf("{\"work_mem_bytes\": %.0f, \"max_connections\": %d, "
								"\"machine_memory_bytes\": %.0f}",
								reset_value("work_mem") * 1024.0,
								MaxConnections,
								memory);
	finding.remedy = psprintf(
		"ALTER SYSTEM SET work_mem = '" INT64_FORMAT "MB'; SELECT pg_reload_conf();", fitting);
	health_report(run, &finding);
}

/* Bytes that tables, indexes and TOAST had when they were last vacuumed or analysed. */
static double
database_bytes(const Relations *relations)
{
	double pages = 0;

	for (int i = 0; i < relations->ntables; i++)
		if (relations->tables[i].kind != RELKIND_PARTITIONED_TABLE)
			pages += relations->tables[i].pages;
	for (int i = 0; i < relations->nindexes; i++)
		if (!relations->indexes[i].partitioned)
			pages += relations->indexes[i].pages;
	return pages * BLCKSZ;
}

static void
check_shared_buffers(HealthRun *run)
{
	double buffers = (double) NBuffers * BLCKSZ;
	double memory = health_machine_memory();
	double size;
	double fitting;
	Finding finding = {
		.severity = "info",
		.object = "shared_buffers",
		.remedy_lock = "restart of the server",
	};

	if (buffers > DEFAULT_SHARED_BUFFERS)
		return;
	size = database_bytes(health_relations(run));
	if (size <= buffers * threshold_value(&shared_buffers_small))
		return;
	fitting = Min(floor(memory / 4 / 1048576), ceil(size / 1048576));
	finding.message = psprintf("shared_buffers is %.0f MB, and the tables and indexes of this "
							   "database have %.0f MB",
							   buffers / 1048576,
							   size / 1048576);
	finding.evidence = psprintf("{\"shared_buffers_bytes\": %.0f, \"database_bytes\": %.0f, "
								"\"machine_memory_bytes\": %.0f}",
								buffers,
								size,
								memory);
	if (fitting * 1048576 > buffers)
		finding.remedy =
			psprintf("ALTER SYSTEM SET shared_buffers = '%.0fMB'; -- then restart", fitting);
	health_report(run, &finding);
}

#define DANGEROUS(setting, check, safe, danger, section)                     \
	{                                                                        \
		.id = check, .family = setting, .weight = 2, .flags = CHECK_QUICK,   \
		.reference = DOCS(section), .query = MUST_BE(setting, safe, danger), \
	}

const HealthCheck checks_settings[] = {
	DANGEROUS("fsync", "fsync_off", "on", "a crash of the machine can destroy every database",
			  "runtime-config-wal.html#GUC-FSYNC"),
	DANGEROUS("full_page_writes", "full_page_writes_off", "on",
			  "pages that a crash leaves half written cannot be repaired",
			  "runtime-config-wal.html#GUC-FULL-PAGE-WRITES"),
	DANGEROUS("zero_damaged_pages", "zero_damaged_pages", "off",
			  "damaged pages are emptied, and their rows lost, by whoever reads them",
			  "runtime-config-developer.html#GUC-ZERO-DAMAGED-PAGES"),
	DANGEROUS("ignore_checksum_failure", "ignore_checksum_failure", "off",
			  "damaged pages are read as if they were sound",
			  "runtime-config-developer.html#GUC-IGNORE-CHECKSUM-FAILURE"),
	DANGEROUS(
		"autovacuum", "autovacuum_off", "on",
		"tables bloat, statistics age, and nothing looks after transaction ids but emergency vacuums",
		"runtime-config-autovacuum.html#GUC-AUTOVACUUM"),
	DANGEROUS("track_counts", "track_counts_off", "on",
			  "autovacuum cannot see what changed, and does nothing",
			  "runtime-config-statistics.html#GUC-TRACK-COUNTS"),
	{
		.id = "planner_methods_off",
		.family = "planner",
		.weight = 1,
		.reference = DOCS("runtime-config-query.html#RUNTIME-CONFIG-QUERY-ENABLE"),
		.query = planner_methods_query,
	},
	{
		.id = "pending_restart",
		.family = "pending_restart",
		.weight = 1,
		.reference = DOCS("view-pg-settings.html"),
		.query = pending_restart_query,
	},
	{
		.id = "config_file_errors",
		.family = "files",
		.weight = 1,
		.reference = DOCS("view-pg-file-settings.html"),
		.run = check_config_file,
	},
	{
		.id = "hba_file_errors",
		.family = "files",
		.weight = 1,
		.reference = DOCS("view-pg-hba-file-rules.html"),
		.run = check_hba_file,
	},
	{
		.id = "ident_file_errors",
		.family = "files",
		.weight = 1,
		.reference = DOCS("view-pg-ident-file-mappings.html"),
		.run = check_ident_file,
	},
	{
		.id = "replication_role",
		.family = "replication_role",
		.weight = 1,
		.reference = DOCS("runtime-config-client.html#GUC-SESSION-REPLICATION-ROLE"),
		.query = replication_role_query,
	},
	{
		.id = "synchronous_commit_off",
		.family = "synchronous_commit",
		.weight = 1,
		.reference = DOCS("wal-async-commit.html"),
		.query = synchronous_commit_query,
	},
	{
		.id = "work_mem_risk",
		.family = "memory",
		.weight = 1,
		.thresholds = {&work_mem_risk},
		.reference = DOCS("runtime-config-resource.html#GUC-WORK-MEM"),
		.run = check_work_mem,
	},
	{
		.id = "memory_defaults",
		.family = "memory",
		.weight = 1,
		.thresholds = {&shared_buffers_small},
		.reference = DOCS("runtime-config-resource.html#GUC-SHARED-BUFFERS"),
		.run = check_shared_buffers,
	},
};

const int checks_settings_count = lengthof(checks_settings);
