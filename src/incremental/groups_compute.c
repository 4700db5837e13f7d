/*
 * groups_compute.c
 *		All groups anew, from the tables.
 *
 * Computing all is the way when much has changed, so the state is written anew
 * as a whole, in bulk, and its indexes are built after: that costs less than to
 * look for what differs.  Of an old state that is valid only the places of the
 * view's rows are used, for the applier to leave alone those that are the same.
 *
 * Where the statement gives the values of an aggregate with DISTINCT one by one,
 * its rows are put together to groups here.
 *
 * Memory: 12 bytes a group; with aggregates with DISTINCT the groups too, with
 * an old state its groups' keys.  Everything else is in tuplestores.
 */
#include "pgopt.h"

#include "catalog/pg_operator_d.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/tuplesort.h"

#include "compat.h"
#include "groups_private.h"

typedef struct Computing
{
	GroupsState *state;
	MemoryContext context;
	MemoryContext row_context; /* reset with every row */
	int nkeys;
	int naccumulators;

	GroupTable *known; /* groups of the old state, and new ones if they are put together here */
	bool gather;       /* they are */
	Tuplestorestate *g;
	TupleDesc g_desc;
	int64 count;
	ItemPointerData *rows; /* of group n at n - 1; where the old state had them */
	int64 room;

	Tuplestorestate **p; /* by accumulator, of kind ACC_DISTINCT */
	TupleDesc *p_desc;
	int accumulator; /* whose values are being read, or results */
} Computing;

/* --- reading ---------------------------------------------------------------------------------- */

static void
read_old_state(Computing *computing)
{
	GroupsState *state = computing->state;
	StateScan scan;
	TupleTableSlot *slot;

	state_scan_begin(&scan, &state->groups, 0);
	while ((slot = state_scan_next(&scan)) != NULL)
	{
		ViewGroup *group = group_table_find(computing->known,
											DatumGetInt64(slot->tts_values[GROUP_HASH]),
											slot->tts_values + GROUP_KEYS,
											slot->tts_isnull + GROUP_KEYS,
											true);

		if (!slot->tts_isnull[GROUP_ROW])
			group->row = *(ItemPointer) DatumGetPointer(slot->tts_values[GROUP_ROW]);
	}
	state_scan_end(&scan);
}

/* Gives a group that the tables have its number; row is where its row of the view was, or NULL. */
static int64
number_group(Computing *computing, const ItemPointerData *row)
{
	if (computing->count == computing->room)
	{
		computing->room = Max(1024, computing->room * 2);
		computing->rows =
			computing->rows == NULL
				? MemoryContextAlloc(computing->context, sizeof(ItemPointerData) * computing->room)
				: repalloc_huge(computing->rows, sizeof(ItemPointerData) * computing->room);
	}
	if (row != NULL)
		computing->rows[computing->count] = *row;
	else
		ItemPointerSetInvalid(&computing->rows[computing->count]);
	return ++computing->count;
}

/* Sums and lists of nothing are NULL where they come from a statement. */
static void
replace_nulls(Computing *computing, Datum *values, bool *nulls)
{
	for (int i = 0; i < computing->naccumulators; i++)
	{
		if (nulls[i])
			values[i] = accumulator_initial(&computing->state->accumulators[i], &nulls[i]);
	}
}

static void
put_group(Computing *computing, int64 n, const Datum *keys, const bool *key_nulls,
		  const Datum *values, const bool *value_nulls)
{
	Datum row[MaxTupleAttributeNumber];
	bool nulls[MaxTupleAttributeNumber];
	int nkeys = computing->nkeys;

	row[0] = Int64GetDatum(n);
	nulls[0] = false;
	memcpy(row + 1, keys, sizeof(Datum) * nkeys);
	memcpy(nulls + 1, key_nulls, sizeof(bool) * nkeys);
	for (int i = 0; i < computing->naccumulators; i++)
	{
		nulls[1 + nkeys + i] = value_nulls[i];
		row[1 + nkeys + i] = accumulator_from_sql(
			&computing->state->accumulators[i], values[i], &nulls[1 + nkeys + i]);
	}
	tuplestore_putvalues(computing->g, computing->g_desc, row, nulls);
}

static void
put_value(Computing *computing, const ViewGroup *group, Datum value, bool isnull, int64 count)
{
	int accumulator = computing->accumulator;
	const ValueType *type = &computing->state->accumulators[accumulator].value;
	Datum row[P_COLUMNS];
	bool nulls[P_COLUMNS] = {false};

	row[P_ID] = Int64GetDatum(group->n);
	row[P_VALUE] = value;
	nulls[P_VALUE] = isnull;
	row[P_HASH] = Int64GetDatum((int64) value_hash(type, value, isnull));
	row[P_COUNT] = Int64GetDatum(count);
	tuplestore_putvalues(computing->p[accumulator], computing->p_desc[accumulator], row, nulls);
}

/* Makes a part what a group has, or adds it to that. */
static void
merge_part(Computing *computing, ViewGroup *group, bool is_first, const Datum *values,
		   const bool *nulls)
{
	for (int i = 0; i < computing->naccumulators; i++)
	{
		const AccumulatorType *type = &computing->state->accumulators[i];
		Datum merged = values[i];
		MemoryContext old;

		if (!is_first && !nulls[i])
			merged = accumulator_merge(type, group->values[i], merged);
		old = MemoryContextSwitchTo(computing->context);
		if (!is_first && !group->value_nulls[i] && !type->column.by_value)
			pfree(DatumGetPointer(group->values[i]));
		group->value_nulls[i] = nulls[i];
		group->values[i] = nulls[i] ? (Datum) 0 : value_copy(&type->column, merged);
		MemoryContextSwitchTo(old);
	}
}

/* The group of the keys, or NULL; one put together here is made and numbered when it first comes. */
static ViewGroup *
find_group(Computing *computing, Datum *keys, bool *nulls, bool create, bool *is_first)
{
	uint64 hash = group_hash(computing->state, keys, nulls);
	MemoryContext old = MemoryContextSwitchTo(computing->context);
	ViewGroup *group = group_table_find(computing->known, hash, keys, nulls, create);

	MemoryContextSwitchTo(old);
	*is_first = group != NULL && group->n == 0;
	if (*is_first)
		group->n = number_group(computing, &group->row);
	return group;
}

/* A row of full_sql: the keys, perhaps a value, the accumulators. */
static void
receive_group(TupleTableSlot *slot, void *arg)
{
	Computing *computing = arg;
	int full_distinct = computing->state->spec->full_distinct;
	int nkeys = computing->nkeys;
	int first = nkeys + (full_distinct >= 0 ? 1 : 0);
	MemoryContext old = MemoryContextSwitchTo(computing->row_context);
	ViewGroup *group = NULL;
	Datum *values;
	bool *nulls;
	bool is_first;

	CHECK_FOR_INTERRUPTS();
	slot_getallattrs(slot);
	values = slot->tts_values;
	nulls = slot->tts_isnull;
	replace_nulls(computing, values + first, nulls + first);
	if (computing->known != NULL)
		group = find_group(computing, values, nulls, computing->gather, &is_first);
	if (computing->gather)
	{
		merge_part(computing, group, is_first, values + first, nulls + first);
		computing->accumulator = full_distinct;
		if (full_distinct >= 0)
			put_value(computing, group, values[nkeys], nulls[nkeys], DatumGetInt64(values[first]));
	}
	else
		put_group(computing,
				  group != NULL ? group->n : number_group(computing, NULL),
				  values,
				  nulls,
				  values + first,
				  nulls + first);
	MemoryContextSwitchTo(old);
	MemoryContextReset(computing->row_context);
}

/* A row of one of values_sql: the keys, a value, how often. */
static void
receive_value(TupleTableSlot *slot, void *arg)
{
	Computing *computing = arg;
	int nkeys = computing->nkeys;
	MemoryContext old = MemoryContextSwitchTo(computing->row_context);
	ViewGroup *group;
	bool is_first;

	CHECK_FOR_INTERRUPTS();
	slot_getallattrs(slot);
	group = find_group(computing, slot->tts_values, slot->tts_isnull, false, &is_first);
	if (group == NULL || is_first)
		elog(ERROR, "a value belongs to no group");
	put_value(computing,
			  group,
			  slot->tts_values[nkeys],
			  slot->tts_isnull[nkeys],
			  DatumGetInt64(slot->tts_values[nkeys + 1]));
	MemoryContextSwitchTo(old);
	MemoryContextReset(computing->row_context);
}

/* --- aggregates with DISTINCT --------------------------------------------------------------- */

typedef struct Results
{
	Computing *computing;
	ViewGroup **groups; /* by number */
} Results;

static void
receive_distinct(int64 n, Datum value, bool isnull, void *arg)
{
	Results *results = arg;
	Computing *computing = results->computing;
	int i = computing->accumulator;
	ViewGroup *group = results->groups[n - 1];
	MemoryContext old = MemoryContextSwitchTo(computing->context);

	group->value_nulls[i] = isnull;
	group->values[i] =
		isnull ? (Datum) 0 : value_copy(&computing->state->accumulators[i].column, value);
	MemoryContextSwitchTo(old);
}

/* Results of aggregates with DISTINCT; then the groups are complete. */
static void
complete_groups(Computing *computing)
{
	GroupsState *state = computing->state;
	int64 nknown = group_table_size(computing->known);
	ViewGroup **known = group_table_list(computing->known);
	Results results = {.computing = computing};

	results.groups = MemoryContextAllocHuge(CurrentMemoryContext,
											sizeof(ViewGroup *) * Max(computing->count, 1));
	for (int64 i = 0; i < nknown; i++)
	{
		if (known[i]->n > 0)
			results.groups[known[i]->n - 1] = known[i];
	}
	for (int i = 0; i < computing->naccumulators; i++)
	{
		if (computing->p[i] == NULL)
			continue;
		computing->accumulator = i;
		groups_distinct(state, i, computing->p[i], receive_distinct, &results);
	}
	for (int64 i = 0; i < computing->count; i++)
	{
		ViewGroup *group = results.groups[i];
		MemoryContext old;

		CHECK_FOR_INTERRUPTS();
		old = MemoryContextSwitchTo(computing->row_context);
		put_group(
			computing, group->n, group->keys, group->key_nulls, group->values, group->value_nulls);
		MemoryContextSwitchTo(old);
		MemoryContextReset(computing->row_context);
	}
	pfree(results.groups);
	pfree(known);
}

/* --- writing -------------------------------------------------------------------------------------- */

/* Groups that the tables no longer have lose their rows of the view. */
static void
delete_vanished(Computing *computing, RowApplier *applier)
{
	int64 nknown = group_table_size(computing->known);
	ViewGroup **known = group_table_list(computing->known);

	for (int64 i = 0; i < nknown; i++)
	{
		if (known[i]->n == 0 && ItemPointerIsValid(&known[i]->row))
			applier_delete(applier, &known[i]->row);
	}
	pfree(known);
}

static void
write_groups(Computing *computing, const ItemPointerData *rows)
{
	GroupsState *state = computing->state;
	StateFill *fill = state_fill_begin(&state->groups);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(computing->g_desc, &TTSOpsMinimalTuple);
	int ncolumns = computing->nkeys + computing->naccumulators;
	Datum values[MaxTupleAttributeNumber];
	bool nulls[MaxTupleAttributeNumber];

	tuplestore_select_read_pointer(computing->g, 0);
	tuplestore_rescan(computing->g);
	while (tuplestore_gettupleslot(computing->g, true, false, slot))
	{
		int64 n;

		slot_getallattrs(slot);
		n = DatumGetInt64(slot->tts_values[0]);
		memcpy(values + GROUP_KEYS, slot->tts_values + 1, sizeof(Datum) * ncolumns);
		memcpy(nulls + GROUP_KEYS, slot->tts_isnull + 1, sizeof(bool) * ncolumns);
		values[GROUP_HASH] =
			Int64GetDatum((int64) group_hash(state, values + GROUP_KEYS, nulls + GROUP_KEYS));
		nulls[GROUP_HASH] = false;
		values[GROUP_ID] = Int64GetDatum(n);
		nulls[GROUP_ID] = false;
		values[GROUP_ROW] = PointerGetDatum(&rows[n - 1]);
		nulls[GROUP_ROW] = !ItemPointerIsValid(&rows[n - 1]);
		state_fill_add(fill, values, nulls);
	}
	ExecDropSingleTupleTableSlot(slot);
	state_fill_end(fill);
}

/* In the order of their index, so that the values of one group are together. */
static Tuplesortstate *
sort_values(Computing *computing, int accumulator, TupleTableSlot *slot)
{
	AttrNumber columns[] = {P_ID + 1, P_HASH + 1};
	Oid operators[] = {Int8LessOperator, Int8LessOperator};
	Oid collations[] = {InvalidOid, InvalidOid};
	bool nulls_first[] = {false, false};
	Tuplesortstate *sort = tuplesort_begin_heap(computing->p_desc[accumulator],
												2,
												columns,
												operators,
												collations,
												nulls_first,
												maintenance_work_mem,
												NULL,
												TUPLESORT_NONE);

	tuplestore_select_read_pointer(computing->p[accumulator], 0);
	tuplestore_rescan(computing->p[accumulator]);
	while (tuplestore_gettupleslot(computing->p[accumulator], true, false, slot))
	{
		CHECK_FOR_INTERRUPTS();
		tuplesort_puttupleslot(sort, slot);
	}
	tuplesort_performsort(sort);
	return sort;
}

static void
write_values(Computing *computing, int accumulator)
{
	StateFill *fill = state_fill_begin(&computing->state->values[accumulator]);
	TupleTableSlot *slot =
		MakeSingleTupleTableSlot(computing->p_desc[accumulator], &TTSOpsMinimalTuple);
	Tuplesortstate *sort = sort_values(computing, accumulator, slot);
	Datum values[VALUE_COLUMNS];
	bool nulls[VALUE_COLUMNS] = {false};

	while (tuplesort_gettupleslot(sort, true, false, slot, NULL))
	{
		slot_getallattrs(slot);
		values[VALUE_ID] = slot->tts_values[P_ID];
		values[VALUE_HASH] = slot->tts_values[P_HASH];
		values[VALUE_VALUE] = slot->tts_values[P_VALUE];
		nulls[VALUE_VALUE] = slot->tts_isnull[P_VALUE];
		values[VALUE_COUNT] = slot->tts_values[P_COUNT];
		state_fill_add(fill, values, nulls);
	}
	tuplesort_end(sort);
	ExecDropSingleTupleTableSlot(slot);
	state_fill_end(fill);
}

/* Without a row, a statement that also groups by a value gives no group, not even the only one. */
static void
compute_groups(Computing *computing)
{
	const GroupSpec *spec = computing->state->spec;
	IncrementalPlan *plan = computing->state->plan;
	bool is_first;

	(void) plan_query(plan, spec->full_sql, NULL, 0, receive_group, computing);
	if (spec->is_global && computing->count == 0)
		(void) find_group(computing, NULL, NULL, true, &is_first);
	for (int i = 0; i < computing->naccumulators; i++)
	{
		computing->accumulator = i;
		if (computing->p[i] != NULL && i != spec->full_distinct)
			(void) plan_query(plan, spec->values_sql[i], NULL, 0, receive_value, computing);
	}
	if (computing->gather)
		complete_groups(computing);
}

static void
begin_computing(Computing *computing, GroupsState *state, bool state_is_valid)
{
	const GroupSpec *spec = state->spec;

	memset(computing, 0, sizeof(Computing));
	computing->state = state;
	computing->context = CurrentMemoryContext;
	computing->row_context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt group part", ALLOCSET_SMALL_SIZES);
	computing->nkeys = spec->nkeys;
	computing->naccumulators = spec->naccumulators;
	computing->gather = state->ndistinct > 0;
	if (computing->gather || state_is_valid)
		computing->known = group_table_create(state);
	computing->g = tuplestore_begin_heap(true, false, work_mem);
	computing->g_desc = groups_store_desc(state, true);
	computing->p = palloc0(sizeof(Tuplestorestate *) * spec->naccumulators);
	computing->p_desc = palloc0(sizeof(TupleDesc) * spec->naccumulators);
	for (int i = 0; i < spec->naccumulators; i++)
	{
		if (spec->accumulators[i].kind != ACC_DISTINCT)
			continue;
		computing->p[i] = tuplestore_begin_heap(true, false, work_mem);
		computing->p_desc[i] = values_store_desc(state, i);
	}
}

uint64
groups_compute(IncrementalPlan *plan, RowApplier *applier, bool state_is_valid)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt groups", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	GroupsState *state = groups_open(plan, AccessExclusiveLock);
	Computing computing;
	ItemPointerData *rows;
	uint64 written;

	begin_computing(&computing, state, state_is_valid);
	if (state_is_valid)
		read_old_state(&computing);
	compute_groups(&computing);
	if (state_is_valid)
		delete_vanished(&computing, applier);
	rows = MemoryContextAllocHuge(context, sizeof(ItemPointerData) * Max(computing.count, 1));
	written = groups_show(state, applier, computing.g, computing.count, computing.rows, rows);
	write_groups(&computing, rows);
	for (int i = 0; i < computing.naccumulators; i++)
	{
		if (computing.p[i] != NULL)
			write_values(&computing, i);
		if (computing.p[i] != NULL)
			tuplestore_end(computing.p[i]);
	}
	tuplestore_end(computing.g);
	groups_close(state);
	CommandCounterIncrement();
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	return written;
}
