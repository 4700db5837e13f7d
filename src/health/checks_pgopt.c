/*
 * checks_pgopt.c
 *		pgopt's own state: is it loaded, does it run, can it count?
 */
#include "pgopt.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "changes.h"
#include "core.h"
#include "health.h"

static Threshold loss_memory = {
	.name = "unknown_changes_memory",
	.unit = UNIT_SECONDS,
	.boot_value = 24 * 3600,
	.description = "How long changes that could not be counted are worth a warning.",
};

static void
check_preload(HealthRun *run)
{
	Finding finding = {
		.severity = "warning",
		.object = "pgopt",
		.message = "pgopt was not loaded when the server started: changes are not counted",
		.evidence = "{\"preloaded\": false}",
		.remedy_lock = "restart of the server",
	};

	if (pgopt_is_preloaded())
		return;
	finding.remedy = health_preload_remedy("pgopt");
	health_report(run, &finding);
}

static bool
process_lives(uint32 pid)
{
	return pid != 0 && BackendPidGetProc((int) pid) != NULL;
}

static void
check_worker(HealthRun *run)
{
	Finding finding = {
		.severity = "critical",
		.object = "pgopt worker",
		.message = "no worker looks after the managed views of this database",
	};

	if (RecoveryInProgress())
		run->unknown = "this is a standby: workers start on promotion";
	if (!pgopt_is_preloaded() || RecoveryInProgress() || health_registry(run)->nviews == 0)
		return;
	if (run->db != NULL && process_lives(pg_atomic_read_u32(&run->db->worker_pid)))
		return;
	finding.evidence = psprintf("{\"launcher_running\": %s, \"managed_views\": %d}",
								launcher_is_running() ? "true" : "false",
								health_registry(run)->nviews);
	finding.remedy = psprintf(
		"ALTER SYSTEM SET max_worker_processes = %d; -- then restart, if the server log says that no worker could be started",
		max_worker_processes + 8);
	finding.remedy_lock = "restart of the server";
	health_report(run, &finding);
}

static void
check_auto_refresh(HealthRun *run)
{
	Finding finding = {
		.severity = "info",
		.object = "pgopt.auto_refresh",
		.message = "workers do not refresh: pgopt.auto_refresh is off",
		.evidence = "{\"auto_refresh\": false}",
		.remedy = "ALTER SYSTEM SET pgopt.auto_refresh = on; SELECT pg_reload_conf();",
		.remedy_lock = "none",
	};

	if (!pgopt_auto_refresh && health_registry(run)->nviews > 0)
		health_report(run, &finding);
}

static void
check_unknown_changes(HealthRun *run)
{
	static const char *const reasons[LOST_REASONS] = {
		[LOST_TRACK_COUNTS] = "track_counts_off",
		[LOST_PREPARED] = "prepared_transactions",
		[LOST_CATALOG] = "text_search_configuration",
	};
	Finding finding = {
		.severity = "warning",
		.object = "change counters",
		.message =
			"changes were made in this database that could not be counted; views were refreshed on suspicion",
		.remedy = "SET track_counts = on; -- wherever it is turned off",
		.remedy_lock = "none",
	};
	StringInfoData evidence;

	if (!pgopt_is_preloaded())
	{
		run->unknown = "pgopt is not in shared_preload_libraries";
		return;
	}
	if (RecoveryInProgress())
	{
		run->unknown = "this is a standby: changes are counted on the primary";
		return;
	}
	if (run->db == NULL || database_lost(run->db) == 0)
		return;
	finding.since = (TimestampTz) pg_atomic_read_u64(&run->db->lost_at);
	if (run->now - finding.since >= loss_memory.value * USECS_PER_SEC)
		return;
	/* a text search configuration, or a collation, is changed on purpose; and where no view reads tables, none is hurt */
	if (database_lost(run->db) == pg_atomic_read_u64(&run->db->lost[LOST_CATALOG]) ||
		health_registry(run)->nviews == 0)
		finding.severity = "info";
	initStringInfo(&evidence);
	appendStringInfoChar(&evidence, '{');
	for (int i = 0; i < LOST_REASONS; i++)
		appendStringInfo(&evidence,
						 "%s\"%s\": " UINT64_FORMAT,
						 i ? ", " : "",
						 reasons[i],
						 pg_atomic_read_u64(&run->db->lost[i]));
	appendStringInfoChar(&evidence, '}');
	finding.evidence = evidence.data;
	health_report(run, &finding);
}

static void
check_room(HealthRun *run)
{
	Finding finding = {
		.severity = "warning",
		.object = "pgopt.max_tracked_tables",
		.message = "there is no room to count the changes of all tables that managed views read",
		.remedy_lock = "restart of the server",
	};
	int64 needed = 0; /* a table counts once for each view that reads it */

	if (!pgopt_is_preloaded())
	{
		run->unknown = "pgopt is not in shared_preload_libraries";
		return;
	}
	if (counters_refused() == 0)
	{
		if (!pgopt_track_all_tables || counters_in_use() < pgopt_max_tracked_tables)
			return;
		finding.severity = "info";
		finding.message = "there is no room to count the changes of all tables";
	}
	for (int i = 0; i < health_registry(run)->nviews; i++)
		needed += health_registry(run)->views[i].nrelids;
	finding.evidence =
		psprintf("{\"tracked\": " INT64_FORMAT
				 ", \"max_tracked_tables\": %d, \"read_by_views\": " INT64_FORMAT "}",
				 counters_in_use(),
				 pgopt_max_tracked_tables,
				 needed);
	finding.remedy =
		psprintf("ALTER SYSTEM SET pgopt.max_tracked_tables = " INT64_FORMAT "; -- then restart",
				 Min(2 * Max(needed, (int64) pgopt_max_tracked_tables), 10000000));
	health_report(run, &finding);
}

const HealthCheck checks_pgopt[] = {
	{
		.id = "pgopt_preload",
		.family = "pgopt",
		.weight = 1,
		.flags = CHECK_QUICK,
		.reference = README_SECTION("install"),
		.run = check_preload,
	},
	{
		.id = "pgopt_worker",
		.family = "pgopt",
		.weight = 1,
		.flags = CHECK_QUICK,
		.reference = README_SECTION("troubleshooting"),
		.run = check_worker,
	},
	{
		.id = "pgopt_auto_refresh",
		.family = "pgopt",
		.weight = 1,
		.reference = README_SECTION("settings"),
		.run = check_auto_refresh,
	},
	{
		.id = "pgopt_unknown_changes",
		.family = "counting",
		.weight = 1,
		.thresholds = {&loss_memory},
		.reference = README_SECTION("troubleshooting"),
		.run = check_unknown_changes,
	},
	{
		.id = "pgopt_room",
		.family = "counting",
		.weight = 1,
		.reference = README_SECTION("settings"),
		.run = check_room,
	},
};

const int checks_pgopt_count = lengthof(checks_pgopt);
