/*
 * checks_disk.c
 *		Room on the file systems that the server writes to.
 */
#include "pgopt.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "access/xlog_internal.h"
#include "commands/tablespace.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"

#include "health.h"

static Threshold disk_warning = {
	.name = "disk_space_warning",
	.unit = UNIT_PERCENT,
	.boot_value = 80,
	.description = "Use of a file system from which it is a warning.",
};

static Threshold disk_critical = {
	.name = "disk_space_critical",
	.unit = UNIT_PERCENT,
	.boot_value = 90,
	.description = "Use of a file system from which it is critical.",
};

static Threshold wal_factor = {
	.name = "wal_size_warning",
	.unit = UNIT_NUMBER,
	.boot_value = 2,
	.description = "Multiple of max_wal_size from which the size of pg_wal is a warning.",
};

static Threshold wal_minimum = {
	.name = "wal_size_minimum",
	.unit = UNIT_MB,
	.boot_value = 1024,
	.description = "Size of pg_wal below which it is none.",
};

/* A file system, and what of the server is on it. */
typedef struct FileSystem
{
	dev_t device;
	const char *path;
	StringInfoData uses; /* for people */
	StringInfoData list; /* elements of a JSON array */
	struct statvfs space;
	struct FileSystem *next;
} FileSystem;

/* Adds what is at the path; false where it cannot be looked at. */
static bool
add_use(FileSystem **systems, const char *use, const char *path)
{
	struct stat where;
	struct statvfs space;
	char resolved[PATH_MAX];
	FileSystem *system = *systems;

	if (stat(path, &where) != 0 || statvfs(path, &space) != 0)
		return false;
	while (system != NULL && system->device != where.st_dev)
		system = system->next;
	if (system == NULL)
	{
		system = palloc0(sizeof(FileSystem));
		system->device = where.st_dev;
		system->path = pstrdup(realpath(path, resolved) != NULL ? resolved : path);
		system->space = space;
		initStringInfo(&system->uses);
		initStringInfo(&system->list);
		system->next = *systems;
		*systems = system;
	}
	appendStringInfo(&system->uses, "%s%s", system->uses.len > 0 ? ", " : "", use);
	appendStringInfo(
		&system->list, "%s%s", system->list.len > 0 ? ", " : "", health_json_string(use));
	return true;
}

static bool
add_tablespaces(FileSystem **systems)
{
	DIR *dir = AllocateDir("pg_tblspc");
	struct dirent *entry;
	bool all = true;

	while ((entry = ReadDir(dir, "pg_tblspc")) != NULL)
	{
		Oid oid = atooid(entry->d_name);
		char *name = OidIsValid(oid) ? get_tablespace_name(oid) : NULL;

		if (name != NULL && !add_use(systems,
									 psprintf("tablespace %s", quote_identifier(name)),
									 psprintf("pg_tblspc/%s", entry->d_name)))
			all = false;
	}
	FreeDir(dir);
	return all;
}

/* The same numbers as df's. */
static void
report_space(HealthRun *run, const FileSystem *system)
{
	double unit = system->space.f_frsize;
	double used = (system->space.f_blocks - system->space.f_bfree) * unit;
	double available = system->space.f_bavail * unit;
	double percent = used + available > 0 ? ceil(100 * used / (used + available)) : 0;
	Finding finding = {
		.severity = percent >= threshold_value(&disk_critical) ? "critical" : "warning",
		.object = system->uses.data,
		.remedy = psprintf("-- free space on the file system of %s, or enlarge it; what takes it: "
						   "SELECT * FROM pgopt_database_sizes, pgopt_table_sizes",
						   system->path),
	};

	if (percent < threshold_value(&disk_warning))
		return;
	finding.message = psprintf("the disk of %s (%s) is %.0f %% full: %s are left",
							   system->uses.data,
							   system->path,
							   percent,
							   text_to_cstring(DatumGetTextPP(DirectFunctionCall1(
								   pg_size_pretty, Int64GetDatum((int64) available)))));
	finding.evidence = psprintf("{\"path\": %s, \"holds\": [%s], \"percent\": %.0f, "
								"\"bytes\": %.0f, \"used_bytes\": %.0f, \"available_bytes\": %.0f}",
								health_json_string(system->path),
								system->list.data,
								percent,
								system->space.f_blocks * unit,
								used,
								available);
	health_report(run, &finding);
}

static void
check_space(HealthRun *run)
{
	FileSystem *systems = NULL;
	bool all = add_use(&systems, "data directory", DataDir);

	all = add_use(&systems, "pg_wal", XLOGDIR) && all;
	all = add_tablespaces(&systems) && all;
	for (FileSystem *system = systems; system != NULL; system = system->next)
		report_space(run, system);
	if (!all)
		run->unknown = "the file system of a tablespace cannot be looked at";
}

/* What keeps WAL, where it is told by other checks. */
static const char wal_size[] =
	"WITH wal AS MATERIALIZED ("
	" SELECT count(*) AS files, coalesce(sum(w.size), 0)::bigint AS bytes "
	"   FROM pg_ls_waldir() w "
	"  WHERE w.name ~ '^[0-9A-F]{24}$'"
	"), expected AS MATERIALIZED ("
	" SELECT greatest($1 * pg_size_bytes(current_setting('max_wal_size')) "
	"                 + pg_size_bytes(current_setting('wal_keep_size')), $2) AS bytes"
	"), cause AS ("
	" SELECT CASE WHEN (SELECT max(pg_wal_lsn_diff("
	"                            CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() "
	"                                 ELSE pg_current_wal_lsn() END, s.restart_lsn)) "
	"                     FROM pg_replication_slots s) > 0.5 * (SELECT e.bytes FROM expected e) "
	"             THEN 'replication slots' "
	"             WHEN current_setting('archive_mode') <> 'off' "
	"              AND (a.last_failed_time > coalesce(a.last_archived_time, '-infinity') "
	"                   OR current_setting('archive_command') || current_setting('archive_library') = '') "
	"             THEN 'archiver' END AS name "
	"   FROM pg_stat_archiver a"
	") "
	"SELECT CASE WHEN c.name IS NULL THEN 'warning' ELSE 'info' END, "
	"       'pg_wal', "
	"       format('pg_wal has %s, where max_wal_size is %s%s', "
	"              pg_size_pretty(w.bytes), current_setting('max_wal_size'), "
	"              ': it is kept for the ' || c.name), "
	"       jsonb_build_object('bytes', w.bytes, 'files', w.files, 'expected_bytes', e.bytes::bigint, "
	"         'max_wal_size', current_setting('max_wal_size'), "
	"         'wal_keep_size', current_setting('wal_keep_size'), 'kept_for', c.name), "
	"       NULL::timestamptz, "
	"       CASE WHEN c.name IS NULL THEN 'CHECKPOINT;' END, "
	"       CASE WHEN c.name IS NULL THEN 'none' END "
	"  FROM wal w, expected e, cause c "
	" WHERE w.bytes > e.bytes";

const HealthCheck checks_disk[] = {
	{
		.id = "disk_space",
		.family = "space",
		.weight = 2,
		.flags = CHECK_QUICK,
		.needs = "pg_monitor",
		.thresholds = {&disk_warning, &disk_critical},
		.reference = PG_DOCS("disk-full.html"),
		.run = check_space,
	},
	{
		.id = "wal_size",
		.family = "wal",
		.weight = 1,
		.needs = "pg_monitor",
		.thresholds = {&wal_factor, &wal_minimum},
		.reference = PG_DOCS("wal-configuration.html"),
		.query = wal_size,
	},
};

const int checks_disk_count = lengthof(checks_disk);
