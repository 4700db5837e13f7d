/*
 * candidates.c
 *		The set of indexes that could help, and the planner calls that fill it.
 *
 * Owns set_rel_pathlist_hook and planner_hook while a statement is planned for
 * its candidates, and no longer; whoever had them before is called.  Equal indexes
 * are found by a hash of what defines them.
 *
 * Memory: indexes, notes and sets of ids live in the set's context; what is read
 * of a statement lives in a context of its own, gone when its indexes are made.
 *
 * Cost: one planner call a query, and some hundred microseconds of making.
 */
#include "pgopt.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/paths.h"
#include "optimizer/planner.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "candidates_private.h"

#define FIRST_CAPACITY 256

/* --- the set ------------------------------------------------------------------------- */

static void
rehash(CandidateSet *set, int nbuckets)
{
	CandidatePrivate *private = set->private;

	if (private->buckets != NULL)
		pfree(private->buckets);
	private->nbuckets = nbuckets;
	private->buckets = MemoryContextAlloc(set->context, sizeof(int) * nbuckets);
	memset(private->buckets, -1, sizeof(int) * nbuckets);
	for (int i = 0; i < set->count; i++)
	{
		int *bucket = &private->buckets[private->notes[i].hash % nbuckets];

		private->notes[i].next = *bucket;
		*bucket = i;
	}
}

CandidateSet *
candidates_create(int nstatements)
{
	CandidateSet *set = palloc0(sizeof(CandidateSet));

	set->context = CurrentMemoryContext;
	set->nstatements = nstatements;
	set->of_statement = palloc0(sizeof(Bitmapset *) * Max(nstatements, 1));
	set->capacity = FIRST_CAPACITY;
	set->indexes = palloc0(sizeof(HypotheticalIndex *) * set->capacity);
	set->private = palloc0(sizeof(CandidatePrivate));
	set->private->notes = palloc0(sizeof(CandidateNotes) * set->capacity);
	set->private->statements = palloc0(sizeof(AdvisorStatement *) * Max(nstatements, 1));
	rehash(set, FIRST_CAPACITY * 2);
	return set;
}

/* The parts that hypothetical_equal() compares, without looking into expressions. */
static uint32
hash_index(const HypotheticalIndex *index)
{
	uint32 hash = hash_combine(murmurhash32(index->table), murmurhash32(index->am));

	hash = hash_combine(hash, murmurhash32(list_length(index->predicate) * 64 + index->nkeys));
	for (int i = 0; i < index->nkeys; i++)
	{
		const HypotheticalColumn *column = &index->columns[i];

		hash = hash_combine(hash,
							murmurhash32(((uint32) column->attnum << 2) |
										 (column->descending ? 2 : 0) |
										 (column->nulls_first ? 1 : 0)));
		hash = hash_combine(hash, murmurhash32(column->opclass));
	}
	/* the order of those that are only INCLUDEd means nothing */
	for (int i = index->nkeys; i < index->ncolumns; i++)
		hash += murmurhash32((uint32) index->columns[i].attnum);
	return hash;
}

static int
find_equal(const CandidateSet *set, const HypotheticalIndex *index, uint32 hash)
{
	const CandidatePrivate *private = set->private;

	for (int i = private->buckets[hash % private->nbuckets]; i >= 0; i = private->notes[i].next)
		if (private->notes[i].hash == hash && hypothetical_equal(set->indexes[i], index))
			return i;
	return -1;
}

static int
append_index(CandidateSet *set, HypotheticalIndex *index, uint32 hash)
{
	CandidatePrivate *private = set->private;
	int id = set->count;
	int *bucket;

	if (id == set->capacity)
	{
		set->capacity *= 2;
		set->indexes = repalloc(set->indexes, sizeof(HypotheticalIndex *) * set->capacity);
		private->notes = repalloc(private->notes, sizeof(CandidateNotes) * set->capacity);
		rehash(set, set->capacity * 2);
	}
	index->id = id;
	set->indexes[id] = index;
	set->count++;
	memset(&private->notes[id], 0, sizeof(CandidateNotes));
	private->notes[id].hash = hash;
	bucket = &private->buckets[hash % private->nbuckets];
	private->notes[id].next = *bucket;
	*bucket = id;
	return id;
}

int
candidates_place(CandidateSet *set, HypotheticalIndex *index, int free, double worth)
{
	uint32 hash = hash_index(index);
	int id = find_equal(set, index, hash);

	if (id < 0)
	{
		if (OidIsValid(hypothetical_covered_by(index)))
			return -1;
		id = append_index(set, index, hash);
		set->private->notes[id].free = free;
	}
	else
		set->private->notes[id].free = Min(set->private->notes[id].free, free);
	set->private->notes[id].worth += worth;
	return id;
}

int
candidates_add(CandidateSet *set, HypotheticalIndex *index)
{
	uint32 hash = hash_index(index);

	if (find_equal(set, index, hash) >= 0 || OidIsValid(hypothetical_covered_by(index)))
		return -1;
	return append_index(set, index, hash);
}

/* --- reading a statement ---------------------------------------------------------------- */

typedef struct Collecting
{
	int query;
	List *uses; /* TableUses */
} Collecting;

static Collecting *collecting = NULL;
static set_rel_pathlist_hook_type next_pathlist_hook = NULL;
static planner_hook_type next_planner = NULL;

/*
 * statement_plan() does not call planner_hook: who comes here plans the
 * statements of a function that planning evaluates.
 */
static PlannedStmt *
plan_others(Query *query, const char *text, int options, ParamListInfo params)
{
	Collecting *here = collecting;
	PlannedStmt *plan;

	collecting = NULL;
	PG_TRY();
	{
		plan = next_planner != NULL ? next_planner(query, text, options, params)
									: standard_planner(query, text, options, params);
	}
	PG_FINALLY();
	{
		collecting = here;
	}
	PG_END_TRY();
	return plan;
}

static void
collect_relation(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte)
{
	Collecting *here = collecting;
	TableUse *use;

	if (next_pathlist_hook != NULL)
		next_pathlist_hook(root, rel, rti, rte);
	if (here == NULL)
		return;
	use = read_table_use(root, rel, rti, rte);
	if (use == NULL)
		return;
	use->query = here->query;
	here->uses = lappend(here->uses, use);
}

double
candidates_collect(CandidateSet *set, const AdvisorStatement *statement)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt candidates", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	Collecting here = {0};
	double cost = 0;

	if (set_rel_pathlist_hook == collect_relation)
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("candidates for indexes are being collected already"),
			 errdetail(
				 "A function that is evaluated while a statement is planned asks for them again.")));
	next_pathlist_hook = set_rel_pathlist_hook;
	set_rel_pathlist_hook = collect_relation;
	next_planner = planner_hook;
	planner_hook = plan_others;
	PG_TRY();
	{
		for (int i = 0; i < statement->nqueries; i++)
		{
			PlannedStmt *plan;

			here.query = i;
			collecting = &here;
			plan = statement_plan(&statement->queries[i]);
			collecting = NULL;
			cost += plan->planTree->total_cost * statement->queries[i].weight;
		}
	}
	PG_FINALLY();
	{
		collecting = NULL;
		set_rel_pathlist_hook = next_pathlist_hook;
		next_pathlist_hook = NULL;
		planner_hook = next_planner;
		next_planner = NULL;
	}
	PG_END_TRY();
	make_candidates(set, statement, here.uses);
	remember_uses(set, statement, here.uses);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	return cost;
}

/* --- for those who want to see ------------------------------------------------------------ */

PG_FUNCTION_INFO_V1(pgopt_index_candidates);

/* pgopt.index_candidates(queries text[], OUT definition text, OUT statements int[]) */
Datum
pgopt_index_candidates(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	List *statements = statements_from_texts(PG_GETARG_ARRAYTYPE_P(0));
	CandidateSet *set = candidates_create(list_length(statements));
	ListCell *cell;

	InitMaterializedSRF(fcinfo, 0);
	foreach(cell, statements)
	{
		AdvisorStatement *statement = lfirst(cell);

		if (statement->failure == NULL)
			candidates_collect(set, statement);
	}
	candidates_merge(set);
	for (int i = 0; i < set->count; i++)
	{
		Datum values[2];
		bool nulls[2] = {false, false};
		Datum *ids = palloc(sizeof(Datum) * Max(set->nstatements, 1));
		int nids = 0;

		for (int j = 0; j < set->nstatements; j++)
			if (bms_is_member(i, set->of_statement[j]))
				ids[nids++] = Int32GetDatum(j + 1);
		values[0] = CStringGetTextDatum(hypothetical_definition(set->indexes[i]));
		values[1] =
			PointerGetDatum(construct_array(ids, nids, INT4OID, sizeof(int32), true, TYPALIGN_INT));
		tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
	}
	return (Datum) 0;
}
