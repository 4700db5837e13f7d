/*
 * plan.c
 *		Which views are refreshed next.
 *
 * Priority comes first, but a view is never refreshed before the managed
 * matviews that it reads: those that are not known to be unchanged become due
 * with it, at its priority, so that a chain is brought up to date in one go.
 * A view upstream that keeps failing holds nobody up.
 *
 * Cost: linear in views and edges, plus a scan of the due views a refresh.
 */
#include "pgopt.h"

#include "utils/timestamp.h"

#include "compat.h"
#include "core.h"
#include "matview.h"

static bool
in_backoff(const ManagedView *view, TimestampTz now)
{
	return now < view->retry_at;
}

static void
mark_due(Registry *registry, ManagedView *view, int priority, const char *reason, TimestampTz now,
		 bool asked_for)
{
	if (!view->exists)
		return;
	if (view->due && view->effective_priority <= priority)
		return;
	if (!view->due)
		view->due_reason = reason;
	view->due = true;
	view->skip = false;
	view->effective_priority = Min(view->effective_priority, priority);

	for (int i = 0; i < view->nupstream; i++)
	{
		ManagedView *upstream = registry_find(registry, view->upstream[i]);

		if (upstream == NULL || upstream == view || in_backoff(upstream, now))
			continue;
		if (asked_for ? upstream->fresh
					  : upstream->chain_unchanged || upstream->strategy == STRATEGY_MANUAL)
			continue;
		mark_due(registry, upstream, priority, "a due view reads it", now, asked_for);
	}
}

static void
plan_clear(Registry *registry)
{
	for (int i = 0; i < registry->nviews; i++)
	{
		ManagedView *view = &registry->views[i];

		view->due = view->skip = view->done = view->failed = view->follows = false;
		view->due_reason = NULL;
		view->effective_priority = view->priority;
		view->next_at = DT_NOEND;
		view->wake_after = 0;
	}
}

/*
 * An immediate view whose upstream is due will be due after that: it is now,
 * so that its priority counts for the whole chain.
 */
static void
follow_upstream(Registry *registry, ManagedView *view, TimestampTz now)
{
	if (!view->exists || view->due || view->strategy != STRATEGY_IMMEDIATE || !view->known ||
		view->chain_unchanged || in_backoff(view, now))
		return;
	for (int i = 0; i < view->nupstream; i++)
	{
		ManagedView *upstream = registry_find(registry, view->upstream[i]);

		if (upstream == NULL || upstream == view || !upstream->due)
			continue;
		if (view->due_since == 0)
			view->due_since = now;
		mark_due(registry, view, view->priority, "a view that it reads is due", now, false);
		view->follows = true;
		return;
	}
}

/* Takes over everything that the strategies say, for views that are not being refreshed. */
void
plan_make(Registry *registry, TimestampTz now)
{
	plan_clear(registry);
	for (int i = 0; i < registry->nviews; i++)
	{
		ManagedView *view = &registry->views[i];
		StrategyInput input;
		StrategyDecision decision;

		if (!view->exists)
			continue;
		input.strategy = view->strategy;
		input.now = now;
		input.interval = view->interval;
		input.threshold = view->threshold;
		input.refreshed = view->populated && view->last_refresh != 0;
		input.known = view->known;
		input.trackable = (view->untracked == NULL && !view->no_room);
		input.unchanged = view->chain_unchanged;
		input.pending = view->pending;
		input.truncated = view->truncated;
		input.last_refresh = view->last_refresh;
		input.last_checked = view->last_checked;
		input.changed_since = view->changed_since;
		input.last_duration = view->last_duration;
		input.mean_duration = view->mean_duration;
		input.stale_reads = Max(view->reads - view->seen_reads, 0);
		input.failures = view->failures;
		input.retry_at = view->retry_at;
		input.naptime = (int64) pgopt_worker_naptime * 1000;
		decision = strategy_decide(&input);

		view->next_at = decision.due ? now : decision.next_at;
		view->wake_after = decision.wake_after;
		if (decision.skip)
		{
			view->skip = true;
			view->due_reason = decision.reason;
		}
		if (!decision.due)
			view->due_since = 0;
		else if (view->due_since == 0)
			view->due_since = now;
		if (decision.due)
			mark_due(registry, view, view->priority, decision.reason, now, false);
	}

	for (int i = 0; i < registry->nviews; i++)
		follow_upstream(registry, &registry->views[i], now);
}

void
plan_request(Registry *registry, ManagedView *view)
{
	plan_clear(registry);
	mark_due(registry, view, view->priority, "asked for", GetCurrentTimestamp(), true);
}

/* Every view takes the best priority of those that read it; upstream lists what they read in turn. */
void
plan_request_all(Registry *registry, Oid role)
{
	plan_clear(registry);
	for (int i = 0; i < registry->nviews; i++)
	{
		ManagedView *view = &registry->views[i];

		view->due = view->exists && compat_owns_relation(view->oid, role);
		view->due_reason = "asked for";
	}
	for (int i = 0; i < registry->nviews; i++)
	{
		ManagedView *view = &registry->views[i];

		for (int j = 0; view->due && j < view->nupstream; j++)
		{
			ManagedView *upstream = registry_find(registry, view->upstream[j]);

			if (upstream != NULL)
				upstream->effective_priority = Min(upstream->effective_priority, view->priority);
		}
	}
}

/*
 * A view waits for what it reads, but only once: one that was refreshed since
 * the view became due may be due again all the time.
 */
static bool
waits_for_upstream(Registry *registry, const ManagedView *view)
{
	for (int i = 0; i < view->nupstream; i++)
	{
		ManagedView *upstream = registry_find(registry, view->upstream[i]);

		if (upstream == NULL || upstream == view)
			continue;
		if (view->due_since != 0 && upstream->last_refresh > view->due_since)
			continue;
		if (upstream->running || (upstream->due && !upstream->done))
			return true;
	}
	return false;
}

/* A view that is due for its upstream's sake alone has nothing to do where that failed. */
static bool
has_nothing_to_follow(Registry *registry, const ManagedView *view)
{
	if (!view->follows)
		return false;
	for (int i = 0; i < view->nupstream; i++)
	{
		ManagedView *upstream = registry_find(registry, view->upstream[i]);

		if (upstream != NULL && upstream->failed)
			return true;
	}
	return false;
}

ManagedView *
plan_next(Registry *registry, int worst_priority)
{
	ManagedView *best = NULL;

	for (int i = 0; i < registry->nviews; i++)
	{
		ManagedView *view = &registry->views[i];

		if (!view->due || view->running || view->done || view->effective_priority > worst_priority)
			continue;
		if (best != NULL && (best->effective_priority < view->effective_priority ||
							 (best->effective_priority == view->effective_priority &&
							  best->last_refresh <= view->last_refresh)))
			continue;
		if (has_nothing_to_follow(registry, view))
			view->due = false;
		else if (!waits_for_upstream(registry, view))
			best = view;
	}
	return best;
}
