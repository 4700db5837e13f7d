/*
 * incremental.c
 *		Decides how a view is refreshed, and sees it done.
 *
 * The state of a view is valid if it says of a frontier: the view and the
 * state of its groups are what its query gave in that snapshot, and every
 * change since is in the row logs.  Each refresh checks what could make that
 * untrue (see incremental_choose()), and then trusts it.
 *
 * Locks, memory, cost: see incremental.h.
 */
#include "pgopt.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/varlena.h"

#include "compat.h"
#include "core.h"
#include "sources.h"

/* No change takes less room in a row log: an upper bound for how many there are. */
#define SMALLEST_LOG_ROW 40

struct IncrementalRefresh
{
	Relation rel;
	IncrementalMode mode;
	IncrementalPlan *plan; /* NULL where the dependencies are in the way */
	List *sources;         /* of Source * */
	uint64 fingerprint;
	Snapshot snapshot;
	IncrementalState state;
	char *hindrance; /* no state can be kept, for this reason */
	char *hint;      /* what would help, or NULL */
	char *reason;    /* the last state is of no use, for this reason */
	int64 limit;     /* changes beyond which computing all is cheaper */
	int64 changes;   /* that were applied; -1 = not counted */
	char *error;     /* of an attempt that failed */
	bool computed;   /* the state of the groups was made */
	bool reads_own;  /* this transaction's own changes of what it reads */
};

static const char *const mode_names[] = {
	[INCREMENTAL_NEVER] = "never",
	[INCREMENTAL_AUTO] = "auto",
	[INCREMENTAL_ALWAYS] = "always",
};

const char *
incremental_mode_name(IncrementalMode mode)
{
	return mode_names[mode];
}

bool
incremental_mode_from_name(const char *name, IncrementalMode *mode)
{
	for (int i = 0; i < lengthof(mode_names); i++)
	{
		if (pg_strcasecmp(name, mode_names[i]) == 0)
		{
			*mode = (IncrementalMode) i;
			return true;
		}
	}
	return false;
}

/*
 * Statements name what is in pg_catalog without its schema, so it has to be
 * searched first.  It is unless a search_path says otherwise.
 */
static bool
searches_catalog_first(void)
{
	char *path = pstrdup(namespace_search_path);
	List *names;
	ListCell *lc;

	if (!SplitIdentifierString(path, ',', &names))
		return false;
	foreach(lc, names)
		if (strcmp(lfirst(lc), "pg_catalog") == 0)
			return foreach_current_index(lc) == 0;
	return true;
}

char *
incremental_hindrance(IncrementalPlan *plan, const char *untracked, List *sources, char **hint)
{
	ListCell *lc;

	*hint = NULL;
	if (untracked != NULL)
		return pstrdup(untracked);
	if (plan->program == NULL)
	{
		*hint = plan->refusal_hint;
		return plan->refusal;
	}
	if (!searches_catalog_first())
		return pstrdup("its search_path names another schema before pg_catalog");
	foreach(lc, sources)
	{
		const Source *source = lfirst(lc);
		char *why = rowlog_why_not(source->relid, plan->owner, source->columns);

		if (why != NULL)
			return psprintf(
				"changes of %s cannot be captured: %s", get_rel_name(source->relid), why);
	}
	return NULL;
}

/* A relation whose changes are not captured with all columns that the view reads, or NULL. */
static Source *
first_uncovered(List *sources)
{
	ListCell *lc;

	foreach(lc, sources)
	{
		Source *source = lfirst(lc);

		if (!rowlog_covers(source->relid, source->columns))
			return source;
	}
	return NULL;
}

IncrementalRefresh *
incremental_begin(Relation rel, IncrementalMode mode, const char *untracked, uint64 fingerprint)
{
	IncrementalRefresh *refresh;

	if (mode == INCREMENTAL_NEVER)
		return NULL;
	refresh = palloc0(sizeof(IncrementalRefresh));
	refresh->rel = rel;
	refresh->mode = mode;
	refresh->fingerprint = fingerprint;
	refresh->changes = -1;
	refresh->plan = plan_get(RelationGetRelid(rel));
	if (untracked == NULL && refresh->plan->program != NULL)
		refresh->sources = sources_of(refresh->plan);
	refresh->hindrance =
		incremental_hindrance(refresh->plan, untracked, refresh->sources, &refresh->hint);
	return refresh;
}

/* Why what the last refresh left cannot be built on, or NULL. */
static char *
why_invalid(IncrementalRefresh *refresh)
{
	const IncrementalState *state = &refresh->state;
	ListCell *lc;

	if (!state->found || !state->valid)
		return state->reason ? state->reason : "no refresh has made its state yet";
	if (state->fingerprint != refresh->fingerprint)
		return "what it reads was redefined";
	if (state->view_mark != rowlog_mark(RelationGetRelid(refresh->rel), refresh->snapshot))
		return "it was refreshed without pgopt, or altered";
	if (refresh->plan->groups != NULL && !groups_tables_exist(refresh->plan))
		return "the state of its groups is gone";
	if (list_length(refresh->sources) != state->nsources)
		return "it reads other tables than before";
	foreach(lc, refresh->sources)
	{
		const Source *source = lfirst(lc);
		int i = 0;

		while (i < state->nsources && state->sources[i] != source->relid)
			i++;
		if (i == state->nsources)
			return psprintf("it did not read %s before", get_rel_name(source->relid));
		if (state->marks[i] != source->mark)
			return psprintf("%s was truncated, rewritten or altered", get_rel_name(source->relid));
	}
	return NULL;
}

/* --- chains of matviews refreshed in one transaction ---------------------------- */

/*
 * A view may read matviews that the same transaction has refreshed before it.
 * Its frontier then counts the transaction itself as read.  That is right as
 * long as nothing is added to the logs of these matviews any more: whoever
 * refreshes one of them again in the same transaction has to take the state of
 * the views in this list back.
 */
typedef struct OwnReader
{
	TransactionId xid; /* entries of other transactions are free */
	Oid view;
	Oid source;
} OwnReader;

#define MAX_OWN_READERS 64
static OwnReader own_readers[MAX_OWN_READERS];

static bool
note_own_reader(Oid view, Oid source)
{
	TransactionId xid = GetTopTransactionId();

	for (int i = 0; i < MAX_OWN_READERS; i++)
	{
		OwnReader *reader = &own_readers[i];

		if (reader->xid == xid && (reader->view != view || reader->source != source))
			continue;
		reader->xid = xid;
		reader->view = view;
		reader->source = source;
		return true;
	}
	return false;
}

static void
take_back_own_readers(Oid source)
{
	TransactionId xid = GetTopTransactionIdIfAny();

	for (int i = 0; i < MAX_OWN_READERS && TransactionIdIsValid(xid); i++)
	{
		OwnReader *reader = &own_readers[i];

		if (reader->xid != xid || reader->source != source)
			continue;
		/* The entry stays: a rollback to a savepoint would undo this alone. */
		state_invalidate(reader->view,
						 "what it reads was refreshed again by the transaction that refreshed it");
	}
}

/* Can what the transaction itself has written to the logs be counted as read? */
static bool
may_read_own_changes(IncrementalRefresh *refresh)
{
	ListCell *lc;

	foreach(lc, refresh->sources)
		if (get_rel_relkind(((Source *) lfirst(lc))->relid) != RELKIND_MATVIEW)
			return false;
	foreach(lc, refresh->sources)
		if (!note_own_reader(RelationGetRelid(refresh->rel), ((Source *) lfirst(lc))->relid))
			return false;
	return true;
}

/* Why this refresh cannot leave a state behind, or NULL. */
static char *
why_no_state(IncrementalRefresh *refresh)
{
	Source *uncovered = first_uncovered(refresh->sources);
	ListCell *lc;

	if (uncovered != NULL)
		return psprintf("changes of %s are not captured yet", get_rel_name(uncovered->relid));
	if (refresh->plan->groups != NULL && !groups_tables_exist(refresh->plan))
		return "the tables for the state of its groups are not there yet";
	foreach(lc, refresh->sources)
	{
		const Source *source = lfirst(lc);

		if (!rowlog_written_by_me(source->relid))
			continue;
		refresh->reads_own = may_read_own_changes(refresh);
		if (refresh->reads_own)
			break;
		return psprintf("%s was changed by the transaction that refreshed it",
						get_rel_name(source->relid));
	}
	return NULL;
}

/* At most as many changes are waiting. */
static int64
upper_bound(const IncrementalRefresh *refresh, int64 pending)
{
	int64 bytes = 0;
	ListCell *lc;

	foreach(lc, refresh->sources)
		bytes += rowlog_bytes(((Source *) lfirst(lc))->relid);
	return pending < 0 ? bytes / SMALLEST_LOG_ROW : Min(pending, bytes / SMALLEST_LOG_ROW);
}

RefreshWay
incremental_choose(IncrementalRefresh *refresh, bool populated, int64 pending)
{
	refresh->snapshot = GetActiveSnapshot();
	state_load(RelationGetRelid(refresh->rel), &refresh->state);
	if (refresh->hindrance == NULL)
		refresh->hindrance = why_no_state(refresh);
	if (refresh->hindrance != NULL)
		return WAY_FULL;

	sources_mark(refresh->sources, refresh->snapshot);
	refresh->reason = populated ? why_invalid(refresh) : "it was not populated";
	if (refresh->reason != NULL)
		return WAY_FULL;
	refresh->limit =
		refresh->mode == INCREMENTAL_ALWAYS ? PG_INT64_MAX : choice_limit(&refresh->state.costs);
	if (pending > refresh->limit && upper_bound(refresh, pending) > refresh->limit)
		return refresh->plan->groups ? WAY_COMPUTE : WAY_FULL;
	return WAY_APPLY;
}

typedef struct Attempt
{
	IncrementalRefresh *refresh;
	Relation rel;
	uint64 rows;
	int64 why; /* of changes that could not be read: ROWLOG_*, or 0 */
} Attempt;

bool
incremental_try(IncrementalRefresh *refresh, void (*callback)(void *arg), void *arg)
{
	ErrorData *error = core_try(callback, arg, true);

	if (error == NULL)
		return true;
	refresh->computed = false;
	refresh->error = psprintf("%s: %s", unpack_sql_state(error->sqlerrcode), error->message);
	refresh->reason = refresh->error;
	ereport(DEBUG1,
			(errmsg("pgopt could not refresh materialized view \"%s\" incrementally: %s",
					RelationGetRelationName(refresh->rel),
					refresh->error)));
	return false;
}

static void
apply_changes(void *arg)
{
	Attempt *attempt = arg;
	IncrementalRefresh *refresh = attempt->refresh;
	IncrementalPlan *plan = refresh->plan;
	DeltaRun *run;
	Tuplestorestate *delta;
	RowApplier *applier;

	run = delta_begin(
		plan, refresh->state.frontier, refresh->snapshot, refresh->limit, &attempt->why);
	if (run == NULL)
		return;
	attempt->why = 0;
	refresh->changes = run->changes;
	if (run->changes > 0)
	{
		delta = delta_evaluate(run);
		applier = applier_begin(refresh->rel, APPLY_CHANGES, refresh->snapshot);
		if (plan->groups != NULL)
			attempt->rows = groups_apply(plan, run, delta, applier);
		else
		{
			rows_apply(plan, run, delta, applier);
			attempt->rows = applier_finish(applier);
		}
	}
	delta_end(run);
}

bool
incremental_apply(IncrementalRefresh *refresh, uint64 *rows)
{
	Attempt attempt = {.refresh = refresh};

	if (!incremental_try(refresh, apply_changes, &attempt))
		return false;
	if (attempt.why == ROWLOG_LOST)
		refresh->reason =
			"changes that it had not read were dropped: see pgopt.incremental_log_limit";
	*rows = attempt.rows;
	return attempt.why == 0;
}

bool
incremental_has_groups(const IncrementalRefresh *refresh)
{
	return refresh != NULL && refresh->hindrance == NULL && refresh->plan->groups != NULL;
}

uint64
incremental_compute(IncrementalRefresh *refresh, Relation target, bool concurrently)
{
	bool state_is_valid = concurrently && refresh->reason == NULL;
	ApplierKind kind = !concurrently ? APPLY_FILL : state_is_valid ? APPLY_CHANGES : APPLY_REPLACE;
	uint64 rows;

	rows = groups_compute(
		refresh->plan, applier_begin(target, kind, refresh->snapshot), state_is_valid);
	refresh->computed = true;
	return rows;
}

static void
compute_concurrently(void *arg)
{
	Attempt *attempt = arg;

	attempt->rows = incremental_compute(attempt->refresh, attempt->rel, true);
}

bool
incremental_try_compute(IncrementalRefresh *refresh, Relation rel, uint64 *rows)
{
	Attempt attempt = {.refresh = refresh, .rel = rel};

	if (!incremental_try(refresh, compute_concurrently, &attempt))
		return false;
	*rows = attempt.rows;
	return true;
}

void
incremental_record(IncrementalRefresh *refresh, Relation rel, RefreshWay way, int64 duration)
{
	IncrementalState *state = &refresh->state;
	Oid matview = RelationGetRelid(rel);

	if (way == WAY_APPLY)
		choice_learn_apply(&state->costs, refresh->changes, duration);
	else
		choice_learn_full(&state->costs, duration);

	state->reason = refresh->hindrance;
	if (incremental_has_groups(refresh) && way == WAY_FULL && !refresh->computed)
		state->reason = refresh->error;
	state->valid = (state->reason == NULL);
	state->last_error = refresh->error;
	state->frontier = (Datum) 0;
	if (state->valid)
	{
		Snapshot latest;

		state->frontier = frontier_of(refresh->snapshot, refresh->reads_own);
		state->fingerprint = refresh->fingerprint;

		/* What this transaction did to the view is in its mark. */
		CommandCounterIncrement();
		latest = RegisterSnapshot(GetLatestSnapshot());
		state->view_mark = rowlog_mark(matview, latest);
		UnregisterSnapshot(latest);
	}
	state_save(matview, state, refresh->sources, refresh->changes);
	take_back_own_readers(matview);
}

static void
add_part(List **parts, const char *part, const char *way, const char *reason, double cost_us,
		 const char *hint)
{
	RefreshPart *row = palloc(sizeof(RefreshPart));

	row->part = part;
	row->way = way;
	row->reason = reason;
	row->cost_ms = cost_us <= 0 ? -1 : cost_us / 1000;
	row->hint = hint;
	*parts = lappend(*parts, row);
}

List *
incremental_explain(IncrementalRefresh *refresh, RefreshWay way, int64 pending)
{
	const RefreshCosts *costs = &refresh->state.costs;
	const char *name = RelationGetRelationName(refresh->rel);
	const char *reason = refresh->hindrance ? refresh->hindrance : refresh->reason;
	bool measured = costs->fixed_us > 0 || costs->change_ns > 0;
	double predicted = measured ? choice_predict_us(costs, Max(pending, 0)) : 0;
	List *parts = NIL;
	ListCell *lc;

	if (way == WAY_APPLY)
		add_part(&parts,
				 name,
				 "incremental",
				 pending < 0 ? "the number of changes is not known"
							 : psprintf("at most " INT64_FORMAT " changes", pending),
				 predicted,
				 NULL);
	else
		add_part(&parts,
				 name,
				 "full",
				 reason ? reason
						: psprintf("more than " INT64_FORMAT
								   " changes: computing everything costs less",
								   refresh->limit),
				 costs->full_us,
				 refresh->hint);
	if (refresh->hindrance == NULL && way == WAY_APPLY)
		add_part(&parts,
				 "instead",
				 "full",
				 refresh->mode == INCREMENTAL_ALWAYS
					 ? "never: incremental => 'always'"
					 : psprintf("from " INT64_FORMAT " changes on", refresh->limit),
				 costs->full_us,
				 NULL);
	foreach(lc, refresh->plan->parts)
	{
		const PlanPart *part = lfirst(lc);

		add_part(&parts, part->part, part->way, part->reason, 0, part->hint);
	}
	return parts;
}

PrepareResult
incremental_prepare(Oid matview, const char *untracked, char **reason, char **hint)
{
	IncrementalPlan *plan = plan_get(matview);
	List *sources = NIL;
	IncrementalState state;
	Source *uncovered;
	bool lacks_tables;

	if (untracked == NULL && plan->program != NULL)
		sources = sources_of(plan);
	*reason = incremental_hindrance(plan, untracked, sources, hint);
	if (*reason != NULL)
		return PREPARE_REFUSED;

	/* before pgopt.row_log, as DROP EXTENSION locks them */
	state_load(matview, &state);
	uncovered = first_uncovered(sources);
	if (uncovered != NULL && !rowlog_ensure(uncovered->relid, uncovered->columns))
	{
		*reason = psprintf("the lock on %s that capturing its changes needs could not be had",
						   get_rel_name(uncovered->relid));
		*hint = pstrdup("it is tried again at the next refresh");
		return PREPARE_REFUSED;
	}
	lacks_tables = plan->groups != NULL && !groups_tables_exist(plan);
	if (lacks_tables)
		groups_create_tables(plan);

	/* The logs' keeper has to know of this view as soon as there is a log. */
	if (uncovered != NULL || lacks_tables || !state.found)
	{
		state.valid = false;
		state.reason = "no refresh has made its state yet";
		state.frontier = (Datum) 0;
		state_save(matview, &state, sources, -1);
	}
	return uncovered != NULL ? PREPARE_MORE : PREPARE_DONE;
}

void
incremental_forget(Oid matview)
{
	state_delete(matview);
	groups_drop_tables(matview);
}

void
incremental_status(Oid matview, IncrementalStatus *status)
{
	IncrementalState state;

	memset(status, 0, sizeof(IncrementalStatus));
	state_load(matview, &state);
	status->found = state.found;
	if (!state.found)
		return;
	status->reason = state.reason;
	status->state_bytes = groups_bytes(matview);
	for (int i = 0; i < state.nsources; i++)
		status->log_bytes += rowlog_bytes(state.sources[i]);
}

/*
 * Views that are gone, or are no longer to be refreshed incrementally.  The
 * tables are locked in the order in which DROP EXTENSION locks them.
 */
static List *
abandoned(void)
{
	static SPIPlanPtr plan = NULL;
	MemoryContext caller = CurrentMemoryContext;
	PgoptSpi spi;
	List *views = NIL;
	uint64 count;
	bool isnull;

	pgopt_spi_begin(&spi);
	count = pgopt_spi_execute_kept(&plan,
								   "SELECT s.view"
								   "  FROM (pgopt.matview m JOIN pg_class c"
								   "         ON c.oid = m.view AND c.relkind = 'm'"
								   "        AND m.home = pgopt.home() AND m.incremental <> 'never')"
								   " RIGHT JOIN pgopt.incremental_state s ON s.view = m.view"
								   " WHERE m.view IS NULL",
								   0,
								   NULL,
								   NULL,
								   NULL,
								   true,
								   SPI_OK_SELECT);
	for (uint64 i = 0; i < count; i++)
	{
		Oid view = DatumGetObjectId(pgopt_spi_value(i, 1, &isnull));
		MemoryContext old = MemoryContextSwitchTo(caller);

		views = lappend_oid(views, view);
		MemoryContextSwitchTo(old);
	}
	pgopt_spi_end(&spi);
	return views;
}

bool
incremental_maintain(void)
{
	ListCell *lc;

	foreach(lc, abandoned())
		incremental_forget(lfirst_oid(lc));
	return rowlog_maintain();
}
