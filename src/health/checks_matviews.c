/*
 * checks_matviews.c
 *		Materialized views that do not keep themselves fresh.
 *
 * Findings about views that the caller may not see are not made: such checks
 * are unknown, and name the grant that is missing.
 */
#include "pgopt.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "changes.h"
#include "core.h"
#include "health.h"

static Threshold failures_critical = {
	.name = "failed_refreshes_critical",
	.unit = UNIT_NUMBER,
	.boot_value = 5,
	.description =
		"Number of refreshes of a view that failed in a row from which on it is critical.",
};

static Threshold overdue_staleness = {
	.name = "overdue_staleness",
	.unit = UNIT_PERCENT,
	.boot_value = 100 * OVERDUE_STALENESS,
	.description = "Staleness of a view (0 to 100) above which it is overdue.",
};

static char *
qualified(const ManagedView *view)
{
	return quote_qualified_identifier(view->schema, view->name);
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
	Registry *registry = health_registry(run);

	while (*i < registry->nviews)
	{
		ManagedView *view = &registry->views[(*i)++];

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
check_failing(HealthRun *run)
{
	ManagedView *view;

	for (int i = 0; (view = next_visible(run, &i)) != NULL;)
	{
		Finding finding = {0};

		if (view->failures == 0 || slots_running_since(view->oid) != 0)
			continue;
		finding.severity = view->failures >= failures_critical.value ? "critical" : "warning";
		finding.object = qualified(view);
		finding.message =
			psprintf("%s of %s failed: %s",
					 view->failures == 1 ? "the last refresh"
										 : psprintf("the last %d refreshes", view->failures),
					 finding.object,
					 view->last_error ? view->last_error : "?");
		finding.evidence =
			psprintf("{\"failures\": %d, \"sqlstate\": %s, \"message\": %s}",
					 view->failures,
					 health_json_string(view->last_sqlstate ? view->last_sqlstate : ""),
					 health_json_string(view->last_error ? view->last_error : ""));
		finding.since = view->last_refresh;
		finding.remedy = call_on("pgopt_refresh", view);
		finding.remedy_lock = "EXCLUSIVE on the view";
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
		if (100 * view->staleness <= overdue_staleness.value || age <= view->interval)
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
		finding.since = view->changed_since;
		finding.remedy = call_on("pgopt_refresh", view);
		finding.remedy_lock = "EXCLUSIVE on the view";
		health_report(run, &finding);
	}
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
		finding.evidence = psprintf("{\"untracked\": %s}", health_json_string(view->untracked));
		health_report(run, &finding);
	}
}

const HealthCheck checks_matviews[] = {
	{
		.id = "matview_failing",
		.family = "stale",
		.weight = 1,
		.thresholds = {&failures_critical},
		.reference = README_SECTION("troubleshooting"),
		.run = check_failing,
	},
	{
		.id = "matview_overdue",
		.family = "stale",
		.weight = 1,
		.thresholds = {&overdue_staleness},
		.reference = README_SECTION("troubleshooting"),
		.run = check_overdue,
	},
	{
		.id = "matview_missing",
		.family = "definition",
		.weight = 1,
		.reference = README_SECTION("troubleshooting"),
		.run = check_missing,
	},
	{
		.id = "matview_blocking",
		.family = "definition",
		.weight = 1,
		.reference = README_SECTION("how-it-works"),
		.run = check_blocking,
	},
	{
		.id = "matview_untracked",
		.family = "definition",
		.weight = 1,
		.reference = README_SECTION("troubleshooting"),
		.run = check_untracked,
	},
};

const int checks_matviews_count = lengthof(checks_matviews);
