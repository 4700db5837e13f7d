/*
 * checks.c
 *		The table of checks, one function each.
 *
 * Findings about views that the user may not see are not made: such checks
 * are unknown, and name the grant that is missing.
 */
#include "pgopt.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "changes.h"
#include "core.h"
#include "health.h"

/* A view that failed this often in a row is critical. */
#define CRITICAL_FAILURES 5

/* How long after a loss of counts it is still worth telling. */
#define LOSS_MEMORY_MS (24 * 3600 * 1000)

static char *
qualified(const ManagedView *view)
{
	return quote_qualified_identifier(view->schema, view->name);
}

static char *
json_string(const char *text)
{
	StringInfoData json;

	initStringInfo(&json);
	escape_json(&json, text);
	return json.data;
}

static char *
call_on(const char *function, const ManagedView *view)
{
	return psprintf("SELECT %s(%s);", function, quote_literal_cstr(qualified(view)));
}

/*
 * The next managed view that the user may see.  Hidden ones make the check
 * unknown, unless it finds something.
 */
static ManagedView *
next_visible(HealthRun *run, int *i)
{
	while (*i < run->registry->nviews)
	{
		ManagedView *view = &run->registry->views[(*i)++];

		if (matview_may_see(view->owner))
			return view;
		if (run->found == 0)
			run->unknown = "other roles' materialized views cannot be seen; GRANT pg_monitor";
	}
	if (run->found > 0)
		run->unknown = NULL;
	return NULL;
}

static void
check_preload(HealthRun *run)
{
	Finding finding = {
		.severity = "warning",
		.object = "pgopt",
		.message = "pgopt was not loaded when the server started: changes are not counted",
		.evidence = "{\"preloaded\": false}",
		.remedy =
			"ALTER SYSTEM SET shared_preload_libraries = 'pgopt'; -- with those already there; then restart",
		.remedy_lock = "restart of the server",
		.reference = "README, Install",
	};

	if (!pgopt_is_preloaded())
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
		.threshold = "one worker",
		.reference = "README, Troubleshooting",
	};

	if (RecoveryInProgress())
		run->unknown = "this is a standby: workers start on promotion";
	if (!pgopt_is_preloaded() || RecoveryInProgress() || run->registry->nviews == 0)
		return;
	if (run->db != NULL && process_lives(pg_atomic_read_u32(&run->db->worker_pid)))
		return;
	finding.evidence = psprintf("{\"launcher_running\": %s, \"managed_views\": %d}",
								launcher_is_running() ? "true" : "false",
								run->registry->nviews);
	finding.remedy =
		"ALTER SYSTEM SET max_worker_processes = 16; -- then restart, if the server log says that no worker could be started";
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
		.reference = "README, Settings",
	};

	if (!pgopt_auto_refresh && run->registry->nviews > 0)
		health_report(run, &finding);
}

static void
check_failing(HealthRun *run)
{
	ManagedView *view;

	for (int i = 0; (view = next_visible(run, &i)) != NULL;)
	{
		Finding finding = {0};

		if (view->failures == 0 || slots_running_since(view->oid) != 0)
			continue;
		finding.severity = view->failures >= CRITICAL_FAILURES ? "critical" : "warning";
		finding.object = qualified(view);
		finding.message =
			psprintf("%s of %s failed: %s",
					 view->failures == 1 ? "the last refresh"
										 : psprintf("the last %d refreshes", view->failures),
					 finding.object,
					 view->last_error ? view->last_error : "?");
		finding.evidence = psprintf("{\"failures\": %d, \"sqlstate\": %s, \"message\": %s}",
									view->failures,
									json_string(view->last_sqlstate ? view->last_sqlstate : ""),
									json_string(view->last_error ? view->last_error : ""));
		finding.threshold = psprintf("1 failure; %d in a row are critical", CRITICAL_FAILURES);
		finding.since = view->last_refresh;
		finding.remedy = call_on("pgopt_refresh", view);
		finding.remedy_lock = "EXCLUSIVE on the view";
		finding.reference = "pgopt.refresh_log";
		health_report(run, &finding);
	}
}

static void
check_overdue(HealthRun *run)
{
	ManagedView *view;

	if (RecoveryInProgress())
	{
		run->unknown = "this is a standby: changes are counted on the primary";
		return;
	}

	for (int i = 0; (view = next_visible(run, &i)) != NULL;)
	{
		Finding finding = {0};
		int64 age;

		if (!view->exists || view->failures > 0 || view->strategy == STRATEGY_MANUAL)
			continue;

		/* Over its score, and over its interval: a view that is due may take its turn first. */
		/* one that was never refreshed: since it is managed, or was restored */
		age = run->now - (view->last_refresh != 0 ? view->changed_since
						  : run->db != NULL       ? Max(view->managed_since, run->db->made_at)
												  : view->managed_since);
		if (view->staleness <= OVERDUE_STALENESS || age <= view->interval)
			continue;
		if (slots_running_since(view->oid) != 0)
			continue;
		finding.severity = "warning";
		finding.object = qualified(view);
		finding.message = psprintf("%s is overdue: %s",
								   finding.object,
								   view->reason ? view->reason : "it was never refreshed");
		finding.evidence = psprintf(
			"{\"staleness\": %.3f, \"pending_changes\": %s, \"age_seconds\": " INT64_FORMAT "}",
			view->staleness,
			view->known ? psprintf(INT64_FORMAT, view->pending) : "null",
			age / USECS_PER_SEC);
		finding.threshold = psprintf("staleness %.1f, and %s without a refresh",
									 OVERDUE_STALENESS,
									 psprintf(INT64_FORMAT " s", view->interval / USECS_PER_SEC));
		finding.since = view->changed_since;
		finding.remedy = call_on("pgopt_refresh", view);
		finding.remedy_lock = "EXCLUSIVE on the view";
		finding.reference = "pgopt_matviews";
		health_report(run, &finding);
	}
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
		.threshold = "none within a day",
		.remedy = "SET track_counts = on; -- wherever it is turned off",
		.remedy_lock = "none",
		.reference = "README, Troubleshooting",
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
	if (TimestampDifferenceExceeds(finding.since, run->now, LOSS_MEMORY_MS))
		return;
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
		.reference = "README, Settings",
	};

	if (!pgopt_is_preloaded())
	{
		run->unknown = "pgopt is not in shared_preload_libraries";
		return;
	}
	if (counters_refused() == 0)
		return;
	finding.evidence = psprintf("{\"tracked\": " INT64_FORMAT ", \"max_tracked_tables\": %d}",
								counters_in_use(),
								pgopt_max_tracked_tables);
	finding.threshold = psprintf("%d tables", pgopt_max_tracked_tables);
	finding.remedy = psprintf("ALTER SYSTEM SET pgopt.max_tracked_tables = %d; -- then restart",
							  pgopt_max_tracked_tables * 2);
	health_report(run, &finding);
}

static void
check_missing(HealthRun *run)
{
	ManagedView *view;

	for (int i = 0; (view = next_visible(run, &i)) != NULL;)
	{
		Finding finding = {0};

		if (view->exists)
			continue;
		finding.severity = "info";
		finding.object = qualified(view);
		finding.message = psprintf("%s is managed, but does not exist", finding.object);
		finding.evidence = "{\"exists\": false}";
		finding.remedy = call_on("pgopt_unmanage", view);
		finding.remedy_lock = "none";
		finding.reference = "pgopt_matviews";
		health_report(run, &finding);
	}
}

static void
check_blocking(HealthRun *run)
{
	ManagedView *view;

	for (int i = 0; (view = next_visible(run, &i)) != NULL;)
	{
		Finding finding = {0};

		if (!view->exists || view->last_mode == NULL || strcmp(view->last_mode, "full") != 0)
			continue;
		finding.remedy = matview_index_advice(view->oid, true);
		if (finding.remedy == NULL)
			continue;
		finding.severity = "info";
		finding.object = qualified(view);
		finding.message =
			psprintf("readers of %s wait for the end of each refresh: it has no unique index",
					 finding.object);
		finding.evidence = psprintf("{\"last_mode\": \"full\", \"last_duration_ms\": %.1f}",
									view->last_duration / 1000.0);
		finding.remedy_lock = "SHARE on the view";
		finding.reference = "README, How it works";
		health_report(run, &finding);
	}
}

static void
check_untracked(HealthRun *run)
{
	ManagedView *view;

	for (int i = 0; (view = next_visible(run, &i)) != NULL;)
	{
		Finding finding = {0};

		if (!view->exists || view->untracked == NULL)
			continue;
		finding.severity = "info";
		finding.object = qualified(view);
		finding.message = psprintf(
			"changes of what %s reads cannot all be counted (%s)", finding.object, view->untracked);
		finding.evidence = psprintf("{\"untracked\": %s}", json_string(view->untracked));
		finding.reference = "pgopt_matview_dependencies";
		health_report(run, &finding);
	}
}

const HealthCheck health_checks[] = {
	{"pgopt_preload", "pgopt", check_preload},
	{"pgopt_worker", "pgopt", check_worker},
	{"pgopt_auto_refresh", "pgopt", check_auto_refresh},
	{"pgopt_unknown_changes", "pgopt", check_unknown_changes},
	{"pgopt_room", "pgopt", check_room},
	{"matview_failing", "matviews", check_failing},
	{"matview_overdue", "matviews", check_overdue},
	{"matview_missing", "matviews", check_missing},
	{"matview_blocking", "matviews", check_blocking},
	{"matview_untracked", "matviews", check_untracked},
};

const int health_check_count = lengthof(health_checks);
