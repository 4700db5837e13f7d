/*
 * status.c
 *		How stale managed views are: the counters now against those that the
 *		last refresh saw.
 *
 * Reads shared memory and the cumulative statistics only.  Everything that is
 * not certain is unknown, with its reason.
 */
#include "pgopt.h"

#include <math.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "utils/timestamp.h"

#include "changes.h"
#include "compat.h"
#include "core.h"
#include "matview.h"

/*
 * Staleness: 1 - 0.3 ^ (pending / threshold + age / interval).
 *
 * 0 with nothing pending; exactly 0.7, the bound of "overdue", where a view
 * has used up what it was allowed in changes and age together; nearing 1
 * beyond.  It rises with each of the two and never falls.
 */
double
staleness_score(double pending_share, double age_share)
{
	double x = Max(pending_share, 0) + Max(age_share, 0);

	return 1.0 - pow(1.0 - OVERDUE_STALENESS, x);
}

/* Scans of the view and its indexes so far, as the statistics have them. */
static int64
count_reads(const ManagedView *view)
{
	int64 reads = 0;

	for (int i = 0; i < view->nscan_relids; i++)
	{
		PgStat_StatTabEntry *entry = pgstat_fetch_stat_tabentry(view->scan_relids[i]);

		if (entry != NULL)
			reads += compat_tabentry_scans(entry);
	}
	return reads;
}

/*
 * Was the definition looked at since the last DDL?  The worker does not ask:
 * it looks a little later, and schedules by what it knew until then.
 */
static bool
definition_is_certain(const Registry *registry, const ManagedView *view, DatabaseState *db)
{
	uint64 generation = pg_atomic_read_u64(&db->ddl_generation);

	return registry->trusts_definitions || view->ddl_generation == generation;
}

/* Why it cannot be told what changed since the last refresh, or NULL when it can. */
static const char *
why_unknown(const Registry *registry, const ManagedView *view, DatabaseState *db,
			const ChangeSums *sums)
{
	TableCounters *own;

	if (db == NULL)
		return pgopt_is_preloaded() ? "no change is counted in this database yet"
									: "pgopt is not in shared_preload_libraries";
	if (!view->exists)
		return "the materialized view does not exist";
	if (!view->populated)
		return "it has not been populated";
	if (!view->has_state || view->last_refresh == 0)
		return "pgopt has not refreshed it yet";
	if (view->epoch == 0)
		return "what it reads was redefined since the last refresh";
	if (view->epoch != changes_epoch())
		return "the server was restarted since the last refresh";
	if (view->redefined || !definition_is_certain(registry, view, db))
		return "what it reads may have been redefined since the last refresh";
	if (database_lost(db) != view->seen_lost)
		return "changes were not counted in this database since the last refresh";
	if (!sums->complete)
		return "pgopt.max_tracked_tables leaves no room to count what it reads";
	own = counters_find(MyDatabaseId, view->oid);
	if (own == NULL || pg_atomic_read_u64(&own->foreign) != view->seen_foreign)
		return "it was refreshed without pgopt since";
	if (sums->unknown != view->seen_unknown)
		return "a change of unknown size was made since the last refresh";
	return NULL;
}

static void
evaluate_view(const Registry *registry, ManagedView *view, DatabaseState *db, TimestampTz now)
{
	ChangeSums sums;
	TableCounters *own = counters_find(MyDatabaseId, view->oid);
	bool in_flight;
	const char *unknown;
	double age;

	/* What is in flight is looked at before the counts: see changes.h. */
	in_flight = db == NULL || pg_atomic_read_u32(&db->in_flight) > 0 ||
				pg_atomic_read_u32(&db->ddl_in_flight) > 0 ||
				(own != NULL && pg_atomic_read_u32(&own->in_flight) > 0);
	pg_read_barrier();
	counters_sum(view->relids, view->nrelids, &sums);
	in_flight = in_flight || sums.in_flight;

	unknown = why_unknown(registry, view, db, &sums);
	view->known = (unknown == NULL);
	/* before the first refresh of an epoch, entries may just not have been made yet */
	view->no_room =
		db != NULL && view->has_state && view->epoch == changes_epoch() && !sums.complete;
	/* a refresh counts its own transaction's changes, which a TRUNCATE after it takes back */
	view->pending = view->known ? Max((int64) (sums.rows - view->seen_rows), 0) : 0;
	view->truncated = view->known && sums.truncated != view->seen_truncated;
	view->changed_since = 0;
	if (!view->known)
		view->changed_since = view->last_refresh;
	else if (view->pending > 0 || view->truncated)
		view->changed_since = Max(sums.first_change, view->last_refresh);
	view->unchanged = view->known && sums.rows == view->seen_rows && !view->truncated &&
					  !in_flight && view->untracked == NULL;

	if (!view->known)
		view->reason = unknown;
	else if (view->truncated)
		view->reason = "a table that it reads was truncated or dropped";
	else if (view->pending > 0)
		view->reason = "rows that it reads were changed";
	else if (view->untracked != NULL)
		view->reason = view->untracked;
	else if (in_flight)
		view->reason = "a transaction that changes what it reads is being committed or is prepared";
	else
		view->reason = NULL;

	age = view->changed_since == 0 ? 0 : (double) (now - view->changed_since) / view->interval;
	if (view->last_refresh == 0)
		view->staleness = 1.0;
	else if (!view->known || view->truncated)
		view->staleness = staleness_score(1.0, age);
	else if (view->pending > 0)
		view->staleness = staleness_score((double) view->pending / view->threshold, age);
	else if (view->untracked != NULL)
		view->staleness = staleness_score(0, (double) (now - view->last_refresh) / view->interval);
	else
		view->staleness = 0;
	if (view->strategy == STRATEGY_SMART)
		view->reads = count_reads(view);
}

/* Folds what a view reads into it.  mark: 0 = not looked at, 1 = done or in progress. */
static void
fold_upstream(Registry *registry, ManagedView *view)
{
	if (view->mark == 1)
		return;
	view->mark = 1;
	view->chain_unchanged = view->unchanged;
	view->fresh = view->unchanged;

	for (int i = 0; i < view->nupstream; i++)
	{
		ManagedView *upstream = registry_find(registry, view->upstream[i]);

		if (upstream == NULL || upstream == view)
			continue;
		fold_upstream(registry, upstream);
		if (!upstream->fresh)
		{
			view->fresh = false;
			if (view->reason == NULL)
				view->reason = "a materialized view that it reads is not fresh";
		}
		if (!upstream->chain_unchanged && upstream->strategy != STRATEGY_MANUAL)
		{
			view->chain_unchanged = false;
			if (view->changed_since == 0)
				view->changed_since = Max(upstream->changed_since, view->last_refresh);
		}
	}
}

void
status_evaluate(Registry *registry, DatabaseState *db, TimestampTz now)
{
	for (int i = 0; i < registry->nviews; i++)
		evaluate_view(registry, &registry->views[i], db, now);
	for (int i = 0; i < registry->nviews; i++)
		registry->views[i].mark = 0;
	for (int i = 0; i < registry->nviews; i++)
		fold_upstream(registry, &registry->views[i]);
}
