/*
 * refresh.c
 *		Refreshes one view and records what the refresh saw.
 *
 * Order of events, on which correctness rests (see matview.h):
 *
 *	1. the generation of DDL, then what the view reads, by its definition now;
 *	2. all of it is counted from here on;
 *	3. the counters are read;
 *	4. a new snapshot is taken, and the view is refreshed with it;
 *	5. the sums of step 3 are written, in the same transaction.
 *
 * What changed is applied where the view is refreshed incrementally and that is
 * possible (incremental.h).  Otherwise a view with a usable unique index is
 * refreshed by the server's REFRESH MATERIALIZED VIEW CONCURRENTLY.  Any other is built anew beside the old one
 * under ExclusiveLock, which readers do not notice, and swapped at the end:
 * REFRESH itself would hold AccessExclusiveLock while the query runs.  The
 * lock for the swap is asked for with pgopt.refresh_lock_timeout, several
 * times, before the work is given up.
 */
#include "pgopt.h"

#include "access/genam.h"
#include "access/multixact.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/cluster.h"
#include "commands/matview.h"
#include "commands/tablecmds.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "rewrite/rewriteHandler.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "core.h"
#include "incremental.h"
#include "matview.h"
#include "matview_internal.h"

#define SWAP_ATTEMPTS       6
#define FIRST_SWAP_PAUSE_MS 50

const char *
refresh_mode_name(RefreshMode mode)
{
	switch (mode)
	{
		case REFRESH_INCREMENTAL:
			return "incremental";
		case REFRESH_CONCURRENT:
			return "concurrent";
		case REFRESH_FULL:
			break;
	}
	return "full";
}

/*
 * Applies the settings that were in force when the view was put under
 * management: what it shows must not depend on who refreshes it.  A setting
 * that is gone is no reason not to refresh.
 */
static void
apply_pinned_settings(ArrayType *settings)
{
	Datum *elements;
	int nelements;

	if (settings == NULL)
		return;
	deconstruct_array(settings, TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &nelements);
	for (int i = 0; i < nelements; i++)
	{
		char *name = TextDatumGetCString(elements[i]);
		char *value = strchr(name, '=');

		if (value == NULL)
			continue;
		*value++ = '\0';
		if (strcmp(name, "search_path") == 0)
		{
			if (!COMPAT_REFRESH_USES_SEARCH_PATH)
				continue;
			/* nobody's temporary objects come first */
			if (strstr(value, "pg_temp") == NULL)
				value = psprintf("%s%spg_temp", value, *value ? ", " : "");
		}
		(void) set_config_option(
			name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, WARNING, false);
	}
}

/* What the user configured: the settings of the refresh, and whether it may be incremental. */
static ArrayType *
load_configuration(Oid matview, IncrementalMode *mode)
{
	static SPIPlanPtr plan = NULL;
	PgoptSpi spi;
	Oid types[] = {OIDOID};
	Datum values[] = {ObjectIdGetDatum(matview)};
	MemoryContext caller = CurrentMemoryContext;
	ArrayType *settings = NULL;
	bool isnull;

	*mode = INCREMENTAL_NEVER;
	pgopt_spi_begin(&spi);
	if (pgopt_spi_execute_kept(&plan,
							   "SELECT settings, incremental FROM pgopt.matview"
							   " WHERE view = $1 AND home = pgopt.home()",
							   1,
							   types,
							   values,
							   NULL,
							   true,
							   SPI_OK_SELECT) > 0)
	{
		Datum value = pgopt_spi_value(0, 1, &isnull);

		if (!isnull)
		{
			MemoryContext old = MemoryContextSwitchTo(caller);

			settings = DatumGetArrayTypePCopy(value);
			MemoryContextSwitchTo(old);
		}
		(void) incremental_mode_from_name(pgopt_spi_text(0, 2), mode);
	}
	pgopt_spi_end(&spi);
	return settings;
}

/* Scans of the view so far, those of this backend that are not reported yet included. */
static int64
count_reads(Relation rel)
{
	List *relids = lcons_oid(RelationGetRelid(rel), RelationGetIndexList(rel));
	ListCell *lc;
	int64 reads = 0;

	foreach(lc, relids)
	{
		PgStat_StatTabEntry *entry = pgstat_fetch_stat_tabentry(lfirst_oid(lc));
		PgStat_TableStatus *pending = find_tabstat_entry(lfirst_oid(lc));

		if (entry != NULL)
			reads += compat_tabentry_scans(entry);
		if (pending != NULL)
			reads += compat_tabstat_scans(pending);
	}
	return reads;
}

static void
take_baseline(Oid matview, DatabaseState *db, Baseline *baseline)
{
	TableCounters *own;

	memset(baseline, 0, sizeof(Baseline));
	if (db != NULL)
	{
		/* Definitions that are being committed now: the next look at them is needed anyway. */
		baseline->ddl_generation = pg_atomic_read_u64(&db->ddl_generation);
		pg_read_barrier();
		if (pg_atomic_read_u32(&db->ddl_in_flight) > 0)
			baseline->ddl_generation = 0;
	}
	baseline->dependencies = dependencies_resolve(matview, false);
	baseline->taken = GetCurrentTimestamp();
	if (db == NULL)
		return;

	for (int i = 0; i < baseline->dependencies->nrelids; i++)
		(void) counters_claim(baseline->dependencies->relids[i]);
	own = counters_claim(matview);

	baseline->lost = database_lost(db);
	baseline->foreign = own ? pg_atomic_read_u64(&own->foreign) : 0;
	counters_sum(baseline->dependencies->relids, baseline->dependencies->nrelids, &baseline->sums);
	tracker_add_own_changes(
		baseline->dependencies->relids, baseline->dependencies->nrelids, &baseline->sums);
}

/* Runs the view's query into a new heap.  Returns the rows. */
static uint64
fill_heap(Query *definition, Oid heap)
{
	List *rewritten;
	Query *query = copyObject(definition);
	PlannedStmt *plan;
	QueryDesc *desc;
	uint64 rows;

	AcquireRewriteLocks(query, true, false);
	rewritten = QueryRewrite(query);
	if (list_length(rewritten) != 1)
		elog(ERROR, "unexpected rewrite result for a materialized view");
	CHECK_FOR_INTERRUPTS();

	plan = pg_plan_query(
		linitial_node(Query, rewritten), "REFRESH MATERIALIZED VIEW", CURSOR_OPT_PARALLEL_OK, NULL);
	PushCopiedSnapshot(GetActiveSnapshot());
	UpdateActiveSnapshotCommandId();
	desc = CreateQueryDesc(plan,
						   "REFRESH MATERIALIZED VIEW",
						   GetActiveSnapshot(),
						   InvalidSnapshot,
						   CreateTransientRelDestReceiver(heap),
						   NULL,
						   NULL,
						   0);
	ExecutorStart(desc, 0);
	compat_ExecutorRun(desc);
	rows = desc->estate->es_processed;
	ExecutorFinish(desc);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
	PopActiveSnapshot();
	return rows;
}

/* Whoever has locked the view's row in pgopt.matview_state is waited for before readers are. */
static void
lock_state(Oid matview)
{
	PgoptSpi spi;
	Oid types[] = {OIDOID};
	Datum values[] = {ObjectIdGetDatum(matview)};

	pgopt_spi_begin(&spi);
	(void) pgopt_spi_execute("SELECT FROM pgopt.matview_state WHERE view = $1 FOR UPDATE",
							 1,
							 types,
							 values,
							 NULL,
							 false,
							 SPI_OK_SELECT);
	pgopt_spi_end(&spi);
}

/* Waits for the lock for as long as lock_timeout allows. Returns false when that was too short. */
static bool
try_swap_lock(Oid matview, bool last_attempt)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool locked = false;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		LockRelationOid(matview, AccessExclusiveLock);
		ReleaseCurrentSubTransaction();
		locked = true;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		RollbackAndReleaseCurrentSubTransaction();
		CurrentResourceOwner = owner;
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE || last_attempt)
			ReThrowError(error);
		FlushErrorState();
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return locked;
}

/*
 * Asks for the lock of the swap.  Readers that come while it waits in the
 * queue wait behind it, so each attempt is short and the pauses between them
 * let readers through.
 */
static void
lock_for_swap(Oid matview)
{
	long pause = FIRST_SWAP_PAUSE_MS;

	for (int attempt = 1; !try_swap_lock(matview, attempt == SWAP_ATTEMPTS); attempt++)
	{
		(void) WaitLatch(
			MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, pause, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		pause *= 2;
	}
}

/* A new heap for the view, and what it is filled with. */
typedef struct NewHeap
{
	Relation rel;
	IncrementalRefresh *incremental; /* where it makes the state of groups too, else NULL */
	Oid heap;
	uint64 rows;
} NewHeap;

static void
make_heap(void *arg)
{
	NewHeap *new = arg;
	Relation rel = new->rel;

	new->heap = make_new_heap(RelationGetRelid(rel),
							  rel->rd_rel->reltablespace,
							  rel->rd_rel->relam,
							  rel->rd_rel->relpersistence,
							  ExclusiveLock);
	LockRelationOid(new->heap, AccessExclusiveLock);
	if (new->incremental != NULL)
	{
		Relation heap = table_open(new->heap, NoLock);

		new->rows = incremental_compute(new->incremental, heap, false);
		table_close(heap, NoLock);
	}
	else
		new->rows = fill_heap(linitial_node(Query, rel->rd_rules->rules[0]->actions), new->heap);
}

/*
 * Builds the view anew and swaps.  The caller has ExclusiveLock.  This is
 * what the server's ExecRefreshMatView() does without CONCURRENTLY, but for
 * the moment at which readers are locked out.
 */
static void
refresh_full(Relation rel, IncrementalRefresh *incremental)
{
	Oid matview = RelationGetRelid(rel);
	NewHeap new = {.rel = rel};

	if (rel->rd_rules == NULL || rel->rd_rules->numLocks != 1 ||
		list_length(rel->rd_rules->rules[0]->actions) != 1)
		elog(ERROR, "materialized view \"%s\" has no single rule", RelationGetRelationName(rel));
	CheckTableNotInUse(rel, "REFRESH MATERIALIZED VIEW");

	if (incremental_has_groups(incremental))
		new.incremental = incremental;
	if (new.incremental == NULL || !incremental_try(incremental, make_heap, &new))
	{
		new.incremental = NULL;
		make_heap(&new);
	}

	/* the query may have called what sets it */
	settings_set_lock_timeout(pgopt_refresh_lock_timeout);
	lock_state(matview);
	lock_for_swap(matview);
	CheckTableNotInUse(rel, "REFRESH MATERIALIZED VIEW");
	SetMatViewPopulatedState(rel, true);
	finish_heap_swap(matview,
					 new.heap,
					 false,
					 false,
					 true,
					 true,
					 RecentXmin,
					 ReadNextMultiXactId(),
					 rel->rd_rel->relpersistence);
	pgstat_count_truncate(rel);
	pgstat_count_heap_insert(rel, new.rows);
}

char *
relation_qualified_name(Relation rel)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
									  RelationGetRelationName(rel));
}

/* The view's owner, with the settings that were pinned: how its definition is looked at and run. */
typedef struct OwnerScope
{
	Oid save_userid;
	int save_sec_context;
	int save_nestlevel;
} OwnerScope;

/*
 * The server's own, called directly so that it runs the query in the active
 * snapshot.  The view is locked, but not open here: it must not be in use.  It
 * restricts what the query may do by itself, and makes a temporary table.
 */
static void
refresh_concurrently(char *schema, char *name, const OwnerScope *scope)
{
	RefreshMatViewStmt *statement = makeNode(RefreshMatViewStmt);
	Oid userid;
	int sec_context;

	statement->concurrent = true;
	statement->relation = makeRangeVar(schema, name, -1);
	GetUserIdAndSecContext(&userid, &sec_context);
	SetUserIdAndSecContext(userid, scope->save_sec_context | SECURITY_LOCAL_USERID_CHANGE);
	compat_ExecRefreshMatView(statement, "REFRESH MATERIALIZED VIEW CONCURRENTLY");
	SetUserIdAndSecContext(userid, sec_context);
}

/* Computes everything.  The relation may be another one after it, of the same view. */
static RefreshMode
refresh_all(Relation *rel, IncrementalRefresh *incremental, const OwnerScope *scope)
{
	Oid matview = RelationGetRelid(*rel);
	char *schema = get_namespace_name(RelationGetNamespace(*rel));
	char *name = pstrdup(RelationGetRelationName(*rel));
	uint64 rows;

	if (!RelationIsPopulated(*rel) || !matview_has_usable_index(*rel, false))
	{
		refresh_full(*rel, incremental);
		return REFRESH_FULL;
	}
	if (incremental_has_groups(incremental) && incremental_try_compute(incremental, *rel, &rows))
		return REFRESH_CONCURRENT;
	table_close(*rel, NoLock);
	refresh_concurrently(schema, name, scope);
	*rel = table_open(matview, NoLock);
	if (strcmp(name, RelationGetRelationName(*rel)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("%s was renamed while it was refreshed",
						quote_qualified_identifier(schema, name))));
	return REFRESH_CONCURRENT;
}

/* In the active snapshot, by whatever way is possible and cheapest. */
static RefreshMode
refresh_in_snapshot(Relation *rel, IncrementalRefresh *incremental, const OwnerScope *scope,
					int64 pending, RefreshWay *way)
{
	uint64 rows;

	*way = WAY_FULL;
	if (incremental != NULL)
		*way = incremental_choose(incremental, RelationIsPopulated(*rel), pending);
	if (*way == WAY_APPLY && incremental_apply(incremental, &rows))
		return REFRESH_INCREMENTAL;
	if (*way == WAY_APPLY && incremental_has_groups(incremental))
		*way = WAY_COMPUTE;
	if (*way == WAY_COMPUTE && incremental_try_compute(incremental, *rel, &rows))
		return REFRESH_CONCURRENT;
	*way = WAY_FULL;
	return refresh_all(rel, incremental, scope);
}

static void
begin_as_owner(OwnerScope *scope, Oid owner, ArrayType *settings)
{
	GetUserIdAndSecContext(&scope->save_userid, &scope->save_sec_context);
	scope->save_nestlevel = NewGUCNestLevel();
	settings_set_lock_timeout(pgopt_refresh_lock_timeout);
	SetUserIdAndSecContext(owner, scope->save_sec_context | SECURITY_RESTRICTED_OPERATION);
	apply_pinned_settings(settings);
	compat_RestrictSearchPath();
}

static void
end_as_owner(const OwnerScope *scope)
{
	SetUserIdAndSecContext(scope->save_userid, scope->save_sec_context);
	AtEOXact_GUC(false, scope->save_nestlevel);
}

static Relation
open_matview(Oid matview, LOCKMODE lock)
{
	Relation rel = try_relation_open(matview, lock);

	if (rel == NULL || rel->rd_rel->relkind != RELKIND_MATVIEW)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("materialized view with OID %u does not exist", matview)));
	return rel;
}

List *
matview_explain(Oid matview)
{
	DatabaseState *db = database_state();
	IncrementalMode mode;
	ArrayType *settings = load_configuration(matview, &mode);
	Relation rel = open_matview(matview, AccessShareLock);
	OwnerScope scope;
	Dependencies *dependencies;
	Registry *registry = registry_load_evaluated(db);
	ManagedView *view = registry_find(registry, matview);
	int64 pending = view != NULL && view->known ? view->pending : -1;
	IncrementalRefresh *incremental;
	RefreshWay way;
	List *parts;

	begin_as_owner(&scope, rel->rd_rel->relowner, settings);
	dependencies = dependencies_resolve(matview, false);
	incremental = incremental_begin(rel,
									mode == INCREMENTAL_NEVER ? INCREMENTAL_AUTO : mode,
									dependencies->untracked,
									dependencies->fingerprint);
	PushActiveSnapshot(GetTransactionSnapshot());
	way = incremental_choose(incremental, RelationIsPopulated(rel), pending);
	parts = incremental_explain(incremental, way, pending);
	PopActiveSnapshot();
	end_as_owner(&scope);
	relation_close(rel, NoLock);
	return parts;
}

PrepareResult
matview_prepare_incremental(Oid matview, char **reason, char **hint)
{
	IncrementalMode mode;
	ArrayType *settings = load_configuration(matview, &mode);
	Relation rel;
	OwnerScope scope;
	PrepareResult result;

	if (mode == INCREMENTAL_NEVER)
		return PREPARE_DONE;
	rel = open_matview(matview, AccessShareLock);
	begin_as_owner(&scope, rel->rd_rel->relowner, settings);
	result =
		incremental_prepare(matview, dependencies_resolve(matview, false)->untracked, reason, hint);
	end_as_owner(&scope);
	relation_close(rel, NoLock);
	return result;
}

void
matview_refresh(Oid matview, const char *source, const char *reason, RefreshResult *result)
{
	DatabaseState *db = database_attach();
	Baseline baseline;
	Relation rel;
	OwnerScope scope;
	int save_nestlevel;
	ArrayType *settings;
	IncrementalMode mode;
	IncrementalRefresh *incremental;
	RefreshWay way;
	int64 pending;
	instr_time start;
	instr_time duration;

	INSTR_TIME_SET_CURRENT(start);
	settings = load_configuration(matview, &mode);
	save_nestlevel = NewGUCNestLevel();
	settings_set_lock_timeout(pgopt_refresh_lock_timeout);

	/* One refresh of a view at a time; readers do not notice this lock. */
	rel = open_matview(matview, ExclusiveLock);
	begin_as_owner(&scope, rel->rd_rel->relowner, settings);

	take_baseline(matview, db, &baseline);
	pending = outcome_pending(matview, &baseline);

	incremental = incremental_begin(
		rel, mode, baseline.dependencies->untracked, baseline.dependencies->fingerprint);
	PushActiveSnapshot(GetTransactionSnapshot());
	result->mode = refresh_in_snapshot(&rel, incremental, &scope, pending, &way);
	INSTR_TIME_SET_CURRENT(duration);
	INSTR_TIME_SUBTRACT(duration, start);
	result->duration = INSTR_TIME_GET_MICROSEC(duration);
	if (incremental != NULL)
		incremental_record(incremental, rel, way, result->duration);
	PopActiveSnapshot();
	baseline.reads = count_reads(rel);
	table_close(rel, NoLock);
	end_as_owner(&scope);

	/*
	 * Under an isolation level with one snapshot for the whole transaction,
	 * the refresh saw less than the counters: then it is recorded as a refresh
	 * of unknown content.
	 */
	if (IsolationUsesXactSnapshot())
		baseline.foreign--;
	else
		tracker_own_refresh(matview);
	outcome_record(matview, &baseline, result);
	outcome_log(matview,
				source,
				reason,
				"refreshed",
				refresh_mode_name(result->mode),
				result->duration,
				pending,
				NULL,
				NULL);
	tracker_note_state_change(matview);
	AtEOXact_GUC(false, save_nestlevel);
}

void
matview_lock(Oid matview)
{
	int save_nestlevel = NewGUCNestLevel();

	/* Long enough for the server to end an autovacuum of the view that is in the way. */
	settings_set_lock_timeout(Max(pgopt_refresh_lock_timeout, 3 * DeadlockTimeout));
	LockRelationOid(matview, ExclusiveLock);
	AtEOXact_GUC(false, save_nestlevel);
}
