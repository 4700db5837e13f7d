/*
 * requests.c
 *		pgopt_refresh_all() and pgopt_refresh_due().
 *
 * Called by itself, such a function hands each refresh to a refresh worker
 * and waits for it: each is a transaction of its own, several run at once, and
 * no lock of one is kept while the next one runs.  Inside a transaction block
 * the refreshes belong to that transaction, and so they do where no worker
 * process can be had.
 */
#include "pgopt.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "core.h"
#include "worker.h"

PG_FUNCTION_INFO_V1(pgopt_refresh_all);
PG_FUNCTION_INFO_V1(pgopt_refresh_due);

/* Pause before a view is tried again that somebody else is refreshing. */
#define POLL_MS 50

typedef enum JobState
{
	JOB_NONE,
	JOB_HANDED_OUT,
	JOB_BLOCKED /* being refreshed on somebody else's account */
} JobState;

typedef struct Job
{
	JobState state;
	DispatchTicket ticket;
	int64 last_log; /* the view's newest row in pgopt.refresh_log before it */
} Job;

/* Nothing of this transaction may be in the way of the workers. */
static bool
may_delegate(void)
{
	return pgopt_is_preloaded() && !IsTransactionBlock() && !IsolationUsesXactSnapshot() &&
		   !TransactionIdIsValid(GetTopTransactionIdIfAny());
}

/* The view's newest row in the log after the given one.  Returns false when there is none. */
static bool
newest_log(Oid view, int64 after, int64 *id, char **outcome, char **mode, int64 *duration,
		   char **message)
{
	MemoryContext caller = CurrentMemoryContext;
	PgoptSpi spi;
	Oid types[] = {OIDOID, INT8OID};
	Datum values[] = {ObjectIdGetDatum(view), Int64GetDatum(after)};
	bool isnull;
	bool found;

	pgopt_spi_begin(&spi);
	found = pgopt_spi_execute("SELECT id, outcome, mode,"
							  "       (extract(epoch FROM duration) * 1000000)::int8,"
							  "       coalesce(sqlstate || ': ' || message, reason)"
							  "  FROM pgopt.refresh_log WHERE view = $1 AND id > $2"
							  " ORDER BY id DESC LIMIT 1",
							  lengthof(types),
							  types,
							  values,
							  NULL,
							  false,
							  SPI_OK_SELECT) > 0;
	if (found)
	{
		MemoryContext spi_context = MemoryContextSwitchTo(caller);

		*id = DatumGetInt64(pgopt_spi_value(0, 1, &isnull));
		*outcome = pgopt_spi_text(0, 2);
		*mode = pgopt_spi_text(0, 3);
		*duration = DatumGetInt64(pgopt_spi_value(0, 4, &isnull));
		*message = pgopt_spi_text(0, 5);
		MemoryContextSwitchTo(spi_context);
	}
	pgopt_spi_end(&spi);
	return found;
}

static int64
newest_log_id(Oid view)
{
	int64 id = 0;
	int64 duration;
	char *text;

	(void) newest_log(view, 0, &id, &text, &text, &duration, &text);
	return id;
}

/* Takes in what ended.  Returns the number of jobs that are under way. */
static int
collect(ReturnSetInfo *rsinfo, Registry *registry, Job *jobs)
{
	int pending = 0;

	for (int i = 0; i < registry->nviews; i++)
	{
		ManagedView *view = &registry->views[i];
		Job *job = &jobs[i];
		int64 id;
		int64 duration;
		char *outcome;
		char *mode;
		char *message;

		if (job->state == JOB_NONE)
			continue;
		if (job->state == JOB_BLOCKED)
		{
			job->state = JOB_NONE;
			view->running = false;
			continue;
		}
		if (!dispatch_finished(&job->ticket))
		{
			pending++;
			continue;
		}
		job->state = JOB_NONE;
		view->running = false;
		view->done = true;
		view->failed = true;
		if (newest_log(view->oid, job->last_log, &id, &outcome, &mode, &duration, &message))
		{
			view->failed = strcmp(outcome, "failed") == 0;
			matview_put_outcome(rsinfo, view->oid, outcome, mode, duration, message);
		}
		else
			matview_put_outcome(rsinfo,
								view->oid,
								"failed",
								NULL,
								0,
								"the refresh worker ended without a result; see the server log");
	}
	return pending;
}

/* Hands out what can be handed out now.  Returns false when no process can be had. */
static bool
hand_out(Registry *registry, Job *jobs, const char *source, bool *waiting)
{
	ManagedView *view;
	int worst = MAX_PRIORITY;

	*waiting = false;
	while ((view = plan_next(registry, worst)) != NULL)
	{
		Job *job = &jobs[view - registry->views];

		job->last_log = newest_log_id(view->oid);
		switch (dispatch_refresh(
			view->oid, view->effective_priority, source, view->due_reason, &job->ticket))
		{
			case DISPATCH_STARTED:
				job->state = JOB_HANDED_OUT;
				view->running = true;
				break;
			case DISPATCH_RUNNING:
				job->state = JOB_BLOCKED;
				view->running = true;
				*waiting = true;
				break;
			case DISPATCH_BUSY:
				*waiting = true;
				if (worst == CRITICAL_PRIORITY)
					return true;
				worst = CRITICAL_PRIORITY;
				break;
			case DISPATCH_NO_PROCESS:
				return false;
		}
	}
	return true;
}

static void
run_in_session(ReturnSetInfo *rsinfo, Registry *registry, const char *source)
{
	ManagedView *view;

	while ((view = plan_next(registry, MAX_PRIORITY)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		matview_refresh_isolated(rsinfo, view, source);
		view->done = true;
	}
}

static void
run_plan(ReturnSetInfo *rsinfo, Registry *registry, const char *source, bool delegate)
{
	Job *jobs = palloc0((registry->nviews + 1) * sizeof(Job));
	bool processes = delegate;
	bool waiting = false;

	while (processes)
	{
		int pending;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		pending = collect(rsinfo, registry, jobs);
		if (!hand_out(registry, jobs, source, &waiting) && pending == 0)
			break;
		for (int i = 0; i < registry->nviews; i++)
			waiting = waiting || jobs[i].state != JOB_NONE;
		if (!waiting)
			return;
		(void) WaitLatch(
			MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, POLL_MS, PG_WAIT_EXTENSION);
	}
	run_in_session(rsinfo, registry, source);
}

Datum
pgopt_refresh_all(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bool delegate;
	Registry *registry;

	matview_require_writable("pgopt_refresh_all()");
	InitMaterializedSRF(fcinfo, 0);
	registry_rebind();
	delegate = may_delegate();
	registry = registry_load_evaluated(pgopt_is_preloaded() ? database_attach() : NULL);
	plan_request_all(registry, GetUserId());
	run_plan(rsinfo, registry, "user", delegate);
	return (Datum) 0;
}

Datum
pgopt_refresh_due(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bool delegate;
	Registry *registry;

	matview_require_writable("pgopt_refresh_due()");
	InitMaterializedSRF(fcinfo, 0);
	registry_rebind();
	delegate = may_delegate();
	registry = registry_load_evaluated(pgopt_is_preloaded() ? database_attach() : NULL);
	plan_make(registry, GetCurrentTimestamp());
	for (int i = 0; i < registry->nviews; i++)
	{
		ManagedView *view = &registry->views[i];

		if (!view->exists || !compat_owns_relation(view->oid, GetUserId()))
			view->due = view->skip = false;
	}
	run_plan(rsinfo, registry, "due", delegate);

	/* Written last: rows that it locks would stop others from recording their refreshes. */
	for (int i = 0; i < registry->nviews; i++)
	{
		ManagedView *view = &registry->views[i];

		if (!view->skip)
			continue;
		matview_note_unchanged(view->oid, "due", view->due_reason);
		matview_put_outcome(rsinfo, view->oid, "unchanged", NULL, 0, view->due_reason);
	}
	/* Where no worker runs, this is who keeps the log short. */
	(void) matview_trim_log();
	return (Datum) 0;
}
