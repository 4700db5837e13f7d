/*
 * checks_backup.c
 *		Does the WAL go where backups need it?
 */
#include "pgopt.h"

#include <unistd.h>

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "storage/fd.h"
#include "utils/guc.h"

#include "health.h"

static Threshold failing_critical = {
	.name = "archiver_failing_critical",
	.unit = UNIT_SECONDS,
	.boot_value = 3600,
	.description = "How long ago the archiver's last failure may be to be critical.",
};

static Threshold failing_warning = {
	.name = "archiver_failing_warning",
	.unit = UNIT_SECONDS,
	.boot_value = 24 * 3600,
	.description = "How long ago the archiver's last failure may be to be a warning.",
};

static Threshold backlog_warning = {
	.name = "archive_backlog_warning",
	.unit = UNIT_NUMBER,
	.boot_value = 32,
	.description = "WAL files that wait for the archiver from which they are a warning.",
};

static Threshold backlog_critical = {
	.name = "archive_backlog_critical",
	.unit = UNIT_NUMBER,
	.boot_value = 256,
	.description = "WAL files that wait for the archiver from which they are critical.",
};

/* Does this server archive? A standby does only with archive_mode = always. */
#define ARCHIVES                                   \
	"(current_setting('archive_mode') = 'always' " \
	" OR current_setting('archive_mode') = 'on' AND NOT pg_is_in_recovery()) "

/*
 * The counts of failures never go down: what counts is that the last attempt
 * failed.
 */
static const char archiver_failing[] =
	"SELECT CASE WHEN extract(epoch FROM t.now - s.last_failed_time) <= $1 THEN 'critical' "
	"            ELSE 'warning' END, "
	"       'archiver', "
	"       format('WAL file %s could not be archived %s ago, and none since; the server keeps WAL "
	"until it can', "
	"              s.last_failed_wal, date_trunc('second', t.now - s.last_failed_time)), "
	"       jsonb_build_object("
	"         'last_failed_wal', s.last_failed_wal, "
	"         'last_failed_time', s.last_failed_time, "
	"         'last_archived_wal', s.last_archived_wal, "
	"         'last_archived_time', s.last_archived_time, "
	"         'failed_count', s.failed_count, "
	"         'archive_command', current_setting('archive_command'), "
	"         'archive_library', current_setting('archive_library')), "
	"       coalesce(s.last_archived_time, s.last_failed_time), "
	"       'SELECT pg_switch_wal(); -- after what archive_command calls works again: the server log "
	"says why it failed', "
	"       'none' "
	"  FROM pg_stat_archiver s, clock_timestamp() t (now) "
	" WHERE " ARCHIVES "   AND extract(epoch FROM t.now - s.last_failed_time) <= greatest($1, $2) "
	"   AND (s.last_archived_time IS NULL OR s.last_failed_time > s.last_archived_time)";

/* Names of WAL files that wait, without a look at the files: there may be many. */
static void
check_backlog(HealthRun *run)
{
	DIR *dir;
	struct dirent *entry;
	int64 ready = 0;
	char oldest[MAXFNAMELEN] = "";
	double bytes;
	Finding finding = {
		.object = "archiver",
		.remedy =
			"SELECT pg_switch_wal(); -- after what archive_command calls is faster, or works again",
		.remedy_lock = "none",
	};

	if (!XLogArchivingActive() || (RecoveryInProgress() && !XLogArchivingAlways()))
		return;
	dir = AllocateDir(XLOGDIR "/archive_status");
	while ((entry = ReadDir(dir, XLOGDIR "/archive_status")) != NULL)
	{
		size_t length = strlen(entry->d_name);

		if (length < strlen(".ready") || strcmp(entry->d_name + length - 6, ".ready") != 0)
			continue;
		ready++;
		entry->d_name[length - 6] = '\0';
		if (oldest[0] == '\0' || strcmp(entry->d_name, oldest) < 0)
			strlcpy(oldest, entry->d_name, sizeof(oldest));
	}
	FreeDir(dir);
	if (ready < threshold_value(&backlog_warning))
		return;

	bytes = (double) ready * wal_segment_size;
	finding.severity = ready >= threshold_value(&backlog_critical) ? "critical" : "warning";
	finding.message =
		psprintf(INT64_FORMAT " WAL files (%.0f MB) wait for the archiver, the oldest is %s",
				 ready,
				 bytes / 1048576,
				 oldest);
	finding.evidence = psprintf("{\"ready\": " INT64_FORMAT ", \"bytes\": %.0f, \"oldest\": %s}",
								ready,
								bytes,
								health_json_string(oldest));
	health_report(run, &finding);
}

static const char archive_off[] =
	"SELECT 'info', "
	"       'archive_mode', "
	"       'WAL is not archived: a backup restores to when it was made, not to a point in time', "
	"       jsonb_build_object("
	"         'archive_mode', current_setting('archive_mode'), "
	"         'wal_level', current_setting('wal_level')), "
	"       NULL::timestamptz, "
	"       'ALTER SYSTEM SET archive_mode = on; -- with an archive_command; then restart', "
	"       'restart of the server' "
	" WHERE current_setting('archive_mode') = 'off'";

/* Commands that succeed without keeping anything. */
static const char archive_nothing[] =
	"SELECT 'warning', "
	"       'archive_command', "
	"       CASE WHEN c.command = '' "
	"            THEN 'archive_mode is on without an archive_command: WAL is kept, and kept here only' "
	"            ELSE format('archive_command = %L reports success and keeps nothing: backups cannot "
	"be restored to a point in time', c.command) END, "
	"       jsonb_build_object("
	"         'archive_mode', current_setting('archive_mode'), "
	"         'archive_command', c.command, "
	"         'archive_library', current_setting('archive_library')), "
	"       NULL::timestamptz, "
	"       'ALTER SYSTEM SET archive_mode = off; -- then restart; or let archive_command keep the files', "
	"       'restart of the server' "
	"  FROM (SELECT current_setting('archive_command') AS command) c "
	" WHERE " ARCHIVES "   AND current_setting('archive_library') = '' "
	"   AND c.command ~* '^[[:space:]]*((/usr)?/bin/true|true|:|exit([[:space:]]+0)?|cd[[:space:]]+[.]"
	"|rem([[:space:]].*)?|echo([[:space:]][^&|;>]*)?|#.*|)[[:space:];]*$'";

static const char wal_level_minimal[] =
	"SELECT 'info', "
	"       'wal_level', "
	"       'wal_level is minimal: neither base backups while the server runs, nor standbys, nor "
	"archiving', "
	"       jsonb_build_object('wal_level', 'minimal'), "
	"       NULL::timestamptz, "
	"       'ALTER SYSTEM SET wal_level = replica; -- then restart', "
	"       'restart of the server' "
	" WHERE current_setting('wal_level') = 'minimal'";

const HealthCheck checks_backup[] = {
	{
		.id = "archiver_failing",
		.family = "archiver",
		.weight = 1.5,
		.flags = CHECK_QUICK,
		.thresholds = {&failing_critical, &failing_warning},
		.reference = PG_DOCS("continuous-archiving.html#BACKUP-ARCHIVING-WAL"),
		.query = archiver_failing,
	},
	{
		.id = "archive_backlog",
		.family = "archiver",
		.weight = 1,
		.needs = "pg_monitor",
		.thresholds = {&backlog_warning, &backlog_critical},
		.reference = PG_DOCS("continuous-archiving.html#BACKUP-ARCHIVING-WAL"),
		.run = check_backlog,
	},
	{
		.id = "archive_nothing",
		.family = "archiver",
		.weight = 1.5,
		.reference = PG_DOCS("runtime-config-wal.html#GUC-ARCHIVE-COMMAND"),
		.query = archive_nothing,
	},
	{
		.id = "archive_off",
		.family = "point in time",
		.weight = 1,
		.flags = CHECK_PRIMARY,
		.reference = PG_DOCS("continuous-archiving.html"),
		.query = archive_off,
	},
	{
		.id = "wal_level_minimal",
		.family = "point in time",
		.weight = 1,
		.reference = PG_DOCS("runtime-config-wal.html#GUC-WAL-LEVEL"),
		.query = wal_level_minimal,
	},
};

const int checks_backup_count = lengthof(checks_backup);
