/*
 * run.c
 *		Runs the statements of a plan, and a program of changes with them.
 *
 * A statement is a cached plan of the server's (utils/plancache.h), used
 * without SPI: its text is parsed with search_path pinned to pg_catalog, which
 * is what it was written for, and planned and run with the search_path that the
 * view's functions expect.  One is kept for each order of magnitude of the
 * sizes of the stores that it reads, since the best plan for ten changes is not
 * the best for a million.
 *
 * Locks: ACCESS SHARE on what a statement reads, to the end of the transaction.
 *
 * Memory: statements live until the IncrementalPlan's context goes, which drops
 * them; at most MAX_STATEMENTS a plan.  A DeltaRun has a context of its own
 * below the caller's; its stores spill to disk beyond work_mem.
 *
 * Cost: with a plan at hand, that of starting and running the executor.
 */
#include "pgopt.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "jit/jit.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "core.h"
#include "incremental_private.h"
#include "row_table.h"

/* A leaf with fewer rows is not worth being netted. */
#define ROWS_WORTH_NETTING 16

/* A larger one is, if among so many of its rows one in so many was there before. */
#define NETTING_SAMPLE 400
#define NETTING_SHARE  8

/* All are dropped when there would be more. */
#define MAX_STATEMENTS 200

/* A plan for fewer rows than this from stores is not worth being compiled to machine code. */
#define ROWS_WORTH_JIT 10000

typedef struct Statement
{
	uint64 hash; /* of text, and of the stores' columns and magnitudes */
	char *sql;
	CachedPlanSource *source;
} Statement;

struct StatementCache
{
	MemoryContext context; /* of the statements; the cached plans have their own */
	List *statements;      /* of Statement * */
	MemoryContextCallback drop;
};

/* --- statements ----------------------------------------------------------------- */

static void
drop_statement(Statement *statement)
{
	DropCachedPlan(statement->source);
	pfree(statement->sql);
	pfree(statement);
}

static void
drop_statements(void *arg)
{
	StatementCache *cache = arg;
	ListCell *lc;

	foreach(lc, cache->statements)
		drop_statement(lfirst(lc));
	list_free(cache->statements);
	cache->statements = NIL;
}

static StatementCache *
statement_cache(IncrementalPlan *plan)
{
	if (plan->statements == NULL)
	{
		StatementCache *cache = MemoryContextAllocZero(plan->context, sizeof(StatementCache));

		cache->context =
			AllocSetContextCreate(plan->context, "pgopt statements", ALLOCSET_SMALL_SIZES);
		cache->drop.func = drop_statements;
		cache->drop.arg = cache;
		/* not of plan->context itself: children go first, and the list is in one */
		MemoryContextRegisterResetCallback(cache->context, &cache->drop);
		plan->statements = cache;
	}
	return plan->statements;
}

static int
order_of_magnitude(int64 n)
{
	int magnitude = 0;

	for (; n >= 10; n /= 10)
		magnitude++;
	return magnitude;
}

static uint64
statement_hash(const char *sql, const NamedStore *stores, int nstores)
{
	uint64 hash = hash_bytes_extended((const unsigned char *) sql, strlen(sql), 0);

	for (int i = 0; i < nstores; i++)
	{
		TupleDesc desc = stores[i].desc;

		hash =
			hash_combine64(hash, order_of_magnitude(tuplestore_tuple_count(stores[i].store)) + 1);
		for (int j = 0; j < desc->natts; j++)
			hash = hash_combine64(hash, TupleDescAttr(desc, j)->atttypid);
	}
	return hash;
}

static QueryEnvironment *
stores_environment(const NamedStore *stores, int nstores)
{
	QueryEnvironment *env = create_queryEnv();

	for (int i = 0; i < nstores; i++)
	{
		EphemeralNamedRelation enr = palloc0(sizeof(EphemeralNamedRelationData));

		enr->md.name = unconstify(char *, stores[i].name);
		enr->md.reliddesc = InvalidOid;
		enr->md.tupdesc = stores[i].desc;
		enr->md.enrtype = ENR_NAMED_TUPLESTORE;
		enr->md.enrtuples = tuplestore_tuple_count(stores[i].store);
		enr->reldata = stores[i].store;
		register_ENR(env, enr);
	}
	return env;
}

static int64
rows_in(const NamedStore *stores, int nstores)
{
	int64 rows = 0;

	for (int i = 0; i < nstores; i++)
		rows += tuplestore_tuple_count(stores[i].store);
	return rows;
}

/* Parsing happens under a search_path of its own; the caller's is kept for planning. */
static CachedPlanSource *
parse_statement(const char *sql, QueryEnvironment *env)
{
	int nest_level = plan_pin_search_path();
	List *parsed;
	List *rewritten;
	RawStmt *raw;
	CachedPlanSource *source;

	parsed = pg_parse_query(sql);
	if (list_length(parsed) != 1)
		elog(ERROR, "not a single statement: %s", sql);
	raw = linitial_node(RawStmt, parsed);
	source = CreateCachedPlan(raw, sql, CMDTAG_SELECT);
	rewritten = pg_analyze_and_rewrite_fixedparams(raw, sql, NULL, 0, env);
	AtEOXact_GUC(true, nest_level);
	CompleteCachedPlan(source, rewritten, NULL, NULL, 0, NULL, NULL, CURSOR_OPT_PARALLEL_OK, false);
	return source;
}

/* What cannot be parsed any more names something that was renamed: then the plan is compiled again. */
static CachedPlanSource *
parse_statement_of(const IncrementalPlan *plan, const char *sql, QueryEnvironment *env)
{
	CachedPlanSource *source = NULL;

	PG_TRY();
	{
		source = parse_statement(sql, env);
	}
	PG_CATCH();
	{
		plan_forget(plan->matview);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return source;
}

/*
 * Would the server use it as it is?  Otherwise it would parse it again, under
 * the wrong search_path.  The locks keep it so: those that the server takes
 * next are held then, and what is held lets no invalidation in.
 */
static bool
statement_is_valid(Statement *statement)
{
	ListCell *lc;

	foreach(lc, statement->source->relationOids)
		LockRelationOid(lfirst_oid(lc), AccessShareLock);
	return CachedPlanIsValid(statement->source) &&
		   compat_search_path_is_current(statement->source->search_path);
}

static Statement *
statement_get(IncrementalPlan *plan, const char *sql, const NamedStore *stores, int nstores,
			  QueryEnvironment *env)
{
	StatementCache *cache = statement_cache(plan);
	uint64 hash = statement_hash(sql, stores, nstores);
	CachedPlanSource *source;
	Statement *statement;
	MemoryContext old;
	ListCell *lc;

	foreach(lc, cache->statements)
	{
		statement = lfirst(lc);
		if (statement->hash != hash || strcmp(statement->sql, sql) != 0)
			continue;
		if (statement_is_valid(statement))
			return statement;
		cache->statements = foreach_delete_current(cache->statements, lc);
		drop_statement(statement);
		break;
	}
	if (list_length(cache->statements) >= MAX_STATEMENTS)
		drop_statements(cache);

	source = parse_statement_of(plan, sql, env);
	old = MemoryContextSwitchTo(cache->context);
	statement = palloc(sizeof(Statement));
	statement->hash = hash;
	statement->sql = pstrdup(sql);
	statement->source = source;
	cache->statements = lappend(cache->statements, statement);
	MemoryContextSwitchTo(old);
	SaveCachedPlan(source);
	return statement;
}

/* --- running a statement ----------------------------------------------------------- */

typedef struct RowReceiverDest
{
	DestReceiver pub;
	RowReceiver receive;
	void *arg;
	MemoryContext context; /* of the caller */
} RowReceiverDest;

static void
dest_nothing(DestReceiver *self)
{
}

static void
dest_startup(DestReceiver *self, int operation, TupleDesc desc)
{
}

static bool
dest_receive(TupleTableSlot *slot, DestReceiver *self)
{
	RowReceiverDest *dest = (RowReceiverDest *) self;
	MemoryContext old = MemoryContextSwitchTo(dest->context);

	dest->receive(slot, dest->arg);
	MemoryContextSwitchTo(old);
	return true;
}

static void
statement_error_context(void *arg)
{
	errcontext("statement of an incremental refresh: %s", (const char *) arg);
}

uint64
plan_query(IncrementalPlan *plan, const char *sql, const NamedStore *stores, int nstores,
		   RowReceiver receive, void *arg)
{
	QueryEnvironment *env = stores_environment(stores, nstores);
	RowReceiverDest dest = {{dest_receive, dest_startup, dest_nothing, dest_nothing, DestNone},
							receive,
							arg,
							CurrentMemoryContext};
	ErrorContextCallback error_context = {
		error_context_stack, statement_error_context, unconstify(char *, sql)};
	CachedPlan *cached;
	PlannedStmt planned;
	QueryDesc *desc;
	uint64 rows;
	Oid userid;
	int security_context;

	error_context_stack = &error_context;
	/* no part of the workload: nobody could run it without the stores */
	GetUserIdAndSecContext(&userid, &security_context);
	SetUserIdAndSecContext(userid, security_context | PGOPT_SECURITY_OWN);
	cached = GetCachedPlan(
		statement_get(plan, sql, stores, nstores, env)->source, NULL, CurrentResourceOwner, env);
	planned = *linitial_node(PlannedStmt, cached->stmt_list);
	if (planned.commandType != CMD_SELECT)
		elog(ERROR, "not a SELECT: %s", sql);
	if (nstores > 0 && rows_in(stores, nstores) < ROWS_WORTH_JIT)
		planned.jitFlags = PGJIT_NONE;

	desc = CreateQueryDesc(
		&planned, sql, GetActiveSnapshot(), InvalidSnapshot, &dest.pub, NULL, env, 0);
	ExecutorStart(desc, EXEC_FLAG_SKIP_TRIGGERS);
	compat_ExecutorRun(desc);
	rows = desc->estate->es_processed;
	ExecutorFinish(desc);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
	ReleaseCachedPlan(cached, CurrentResourceOwner);
	SetUserIdAndSecContext(userid, security_context);
	error_context_stack = error_context.previous;
	return rows;
}

/* --- running a program ---------------------------------------------------------------- */

static TupleDesc
store_desc(const DeltaStore *store)
{
	TupleDesc desc = CreateTemplateTupleDesc(store->ncolumns + 1);

	for (int i = 0; i < store->ncolumns; i++)
	{
		const ColumnType *column = &store->columns[i];
		char name[NAMEDATALEN];

		snprintf(name, sizeof(name), "c%d", i + 1);
		TupleDescInitEntry(desc, i + 1, name, column->type, column->typmod, 0);
		TupleDescInitEntryCollation(desc, i + 1, column->collation);
	}
	TupleDescInitEntry(desc, store->ncolumns + 1, "w", INT8OID, -1, 0);
	return desc;
}

/* The same columns, by their names, in a relation that inherits from the leaf's. */
static AttrNumber *
child_columns(const DeltaStore *leaf, Oid child)
{
	AttrNumber *attnums = palloc(leaf->ncolumns * sizeof(AttrNumber));

	for (int i = 0; i < leaf->ncolumns; i++)
	{
		char *name = get_attname(leaf->relid, leaf->attnums[i], false);

		attnums[i] = get_attnum(child, name);
		if (attnums[i] == InvalidAttrNumber)
			elog(ERROR, "relation %u has no column \"%s\"", child, name);
		pfree(name);
	}
	return attnums;
}

/*
 * Reads the changes of one leaf, at most limit.  Returns their number, or
 * ROWLOG_TOO_MANY or ROWLOG_LOST.
 */
static int64
read_leaf(DeltaRun *run, int number, Datum frontier, int64 limit)
{
	const DeltaStore *leaf = &run->plan->program->stores[number];
	List *relids = list_make1_oid(leaf->relid);
	int64 total = 0;
	ListCell *lc;

	if (leaf->inherited)
		relids = find_all_inheritors(leaf->relid, AccessShareLock, NULL);
	foreach(lc, relids)
	{
		Oid relid = lfirst_oid(lc);
		int64 rows;

		CHECK_FOR_INTERRUPTS();
		if (!RELKIND_HAS_STORAGE(get_rel_relkind(relid)))
			continue;
		rows = rowlog_read(relid,
						   leaf->ncolumns,
						   relid == leaf->relid ? leaf->attnums : child_columns(leaf, relid),
						   frontier,
						   run->snapshot,
						   limit - total,
						   run->stores[number],
						   run->descs[number]);
		if (rows < 0)
			return rows;
		total += rows;
	}
	return total;
}

static int64
weight_of(TupleTableSlot *slot)
{
	bool isnull;

	return DatumGetInt64(slot_getattr(slot, slot->tts_tupleDescriptor->natts, &isnull));
}

/* Do many of the first rows come again, because the same row was changed again? */
static bool
is_worth_netting(Tuplestorestate *store, TupleDesc desc, TupleTableSlot *slot)
{
	RowTable *table = row_table_create(desc, desc->natts - 1, NULL);
	int rows = 0;
	int met_again = 0;

	while (rows < NETTING_SAMPLE && tuplestore_gettupleslot(store, true, false, slot))
	{
		CHECK_FOR_INTERRUPTS();
		rows++;
		if (row_table_add(table, slot, row_table_hash(table, slot))->count++ > 0)
			met_again++;
	}
	row_table_free(table);
	tuplestore_rescan(store);
	return met_again * NETTING_SHARE >= rows;
}

typedef struct NetTarget
{
	Tuplestorestate *store;
	TupleDesc desc;
	Datum *values;
	bool *nulls;
} NetTarget;

static void
put_net_row(RowEntry *entry, TupleTableSlot *slot, void *arg)
{
	NetTarget *target = arg;
	int ncolumns = target->desc->natts - 1;

	if (entry->count == 0)
		return;
	slot_getallattrs(slot);
	memcpy(target->values, slot->tts_values, ncolumns * sizeof(Datum));
	memcpy(target->nulls, slot->tts_isnull, ncolumns * sizeof(bool));
	target->values[ncolumns] = Int64GetDatum(entry->count);
	tuplestore_putvalues(target->store, target->desc, target->values, target->nulls);
}

/*
 * Adds up the weights of equal rows of a leaf: a row that was changed again and
 * again came once and went once.  Saves work, where it fits into memory;
 * nothing depends on it.
 */
static void
net_leaf(DeltaRun *run, int number)
{
	Tuplestorestate *store = run->stores[number];
	NetTarget target = {.desc = run->descs[number]};
	TupleTableSlot *slot = MakeSingleTupleTableSlot(target.desc, &TTSOpsMinimalTuple);

	if (is_worth_netting(store, target.desc, slot) && row_table_parts(store, slot) == 1)
	{
		int natts = target.desc->natts;
		RowTable *table = row_table_create(target.desc, natts - 1, NULL);

		while (tuplestore_gettupleslot(store, true, false, slot))
		{
			CHECK_FOR_INTERRUPTS();
			row_table_add(table, slot, row_table_hash(table, slot))->count += weight_of(slot);
		}
		target.store = tuplestore_begin_heap(false, false, work_mem);
		target.values = palloc(natts * sizeof(Datum));
		target.nulls = palloc0(natts * sizeof(bool));
		row_table_visit(table, put_net_row, &target);
		row_table_free(table);
		tuplestore_end(store);
		run->stores[number] = target.store;
	}
	ExecDropSingleTupleTableSlot(slot);
}

DeltaRun *
delta_begin(IncrementalPlan *plan, Datum frontier, Snapshot snapshot, int64 limit, int64 *why)
{
	DeltaProgram *program = plan->program;
	MemoryContext context = AllocSetContextCreate(
		CurrentMemoryContext, "pgopt changes of a refresh", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	DeltaRun *run = palloc0(sizeof(DeltaRun));

	run->context = context;
	run->plan = plan;
	run->snapshot = snapshot;
	run->stores = palloc(program->nstores * sizeof(Tuplestorestate *));
	run->descs = palloc(program->nstores * sizeof(TupleDesc));
	run->rows = palloc0(program->nstores * sizeof(int64));
	for (int i = 0; i < program->nstores; i++)
	{
		run->stores[i] = tuplestore_begin_heap(false, false, work_mem);
		run->descs[i] = store_desc(&program->stores[i]);
	}

	for (int i = 0; i < program->nstores; i++)
	{
		int64 changes;

		if (!OidIsValid(program->stores[i].relid))
			continue;
		changes = read_leaf(run, i, frontier, limit - run->changes);
		if (changes < 0)
		{
			MemoryContextSwitchTo(old);
			delta_end(run);
			*why = changes;
			return NULL;
		}
		run->changes += changes;
		if (changes >= ROWS_WORTH_NETTING)
			net_leaf(run, i);
		run->rows[i] = tuplestore_tuple_count(run->stores[i]);
	}
	MemoryContextSwitchTo(old);
	return run;
}

typedef struct StepTarget
{
	Tuplestorestate *store;
	TupleDesc desc;
	bool checked;
} StepTarget;

/* What a step gives must be what its target declares: readers take the bytes for that. */
static void
receive_step(TupleTableSlot *slot, void *arg)
{
	StepTarget *target = arg;

	if (!target->checked)
	{
		TupleDesc desc = slot->tts_tupleDescriptor;

		if (desc->natts != target->desc->natts)
			elog(ERROR, "a step gives %d columns, not %d", desc->natts, target->desc->natts);
		for (int i = 0; i < desc->natts; i++)
			if (TupleDescAttr(desc, i)->atttypid != TupleDescAttr(target->desc, i)->atttypid)
				elog(ERROR,
					 "column %d of a step is of type %u, not %u",
					 i + 1,
					 TupleDescAttr(desc, i)->atttypid,
					 TupleDescAttr(target->desc, i)->atttypid);
		target->checked = true;
	}
	tuplestore_puttupleslot(target->store, slot);
}

static bool
step_gives_nothing(const DeltaRun *run, const DeltaStep *step)
{
	for (int i = -1; (i = bms_next_member(step->needs, i)) >= 0;)
		if (run->rows[i] == 0)
			return true;
	return false;
}

Tuplestorestate *
delta_evaluate(DeltaRun *run)
{
	DeltaProgram *program = run->plan->program;
	NamedStore *stores = palloc(program->nstores * sizeof(NamedStore));
	Tuplestorestate *result = run->stores[program->result];

	for (int i = 0; i < program->nsteps; i++)
	{
		const DeltaStep *step = &program->steps[i];
		StepTarget target = {run->stores[step->target], run->descs[step->target], false};
		int nstores = 0;

		if (step_gives_nothing(run, step))
			continue;
		for (int j = -1; (j = bms_next_member(step->reads, j)) >= 0;)
			stores[nstores++] =
				(NamedStore){program->stores[j].name, run->stores[j], run->descs[j]};
		run->rows[step->target] +=
			plan_query(run->plan, step->sql, stores, nstores, receive_step, &target);
	}
	pfree(stores);
	tuplestore_select_read_pointer(result, 0);
	tuplestore_rescan(result);
	return result;
}

void
delta_end(DeltaRun *run)
{
	for (int i = 0; i < run->plan->program->nstores; i++)
		tuplestore_end(run->stores[i]);
	MemoryContextDelete(run->context);
}
