/*
 * groups_show.c
 *		Rows of the view from what its groups are made of.
 *
 * Memory: one byte a group besides what the caller has.
 */
#include "pgopt.h"

#include "access/table.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "groups_private.h"

typedef struct Showing
{
	RowApplier *applier;
	int64 count;
	const ItemPointerData *old;
	ItemPointerData *new;
	bool *shown;
	TupleTableSlot *row;
} Showing;

/* A row of final_sql: the number of its group, the columns of the view. */
static void
show_row(TupleTableSlot *slot, void *arg)
{
	Showing *showing = arg;
	TupleTableSlot *row = showing->row;
	int natts = row->tts_tupleDescriptor->natts;
	int64 i;

	slot_getallattrs(slot);
	i = DatumGetInt64(slot->tts_values[0]) - 1;
	if (i < 0 || i >= showing->count || showing->shown[i])
		elog(ERROR, "group " INT64_FORMAT " is shown twice or unknown", i + 1);
	showing->shown[i] = true;

	ExecClearTuple(row);
	memcpy(row->tts_values, slot->tts_values + 1, sizeof(Datum) * natts);
	memcpy(row->tts_isnull, slot->tts_isnull + 1, sizeof(bool) * natts);
	ExecStoreVirtualTuple(row);
	if (ItemPointerIsValid(&showing->old[i]))
		applier_update(showing->applier, &showing->old[i], row, &showing->new[i]);
	else
		applier_insert(showing->applier, row, &showing->new[i]);
}

uint64
groups_show(GroupsState *state, RowApplier *applier, Tuplestorestate *g, int64 count,
			const ItemPointerData *old, ItemPointerData *new)
{
	Relation rel = table_open(state->plan->matview, NoLock);
	NamedStore store = {.name = "g", .store = g, .desc = groups_store_desc(state, true)};
	Showing showing = {
		.applier = applier,
		.count = count,
		.old = old,
		.new = new,
		.shown = MemoryContextAllocExtended(
			CurrentMemoryContext, Max(count, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO),
		.row = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsVirtual),
	};

	for (int64 i = 0; i < count; i++)
		ItemPointerSetInvalid(&new[i]);
	(void) plan_query(state->plan, state->spec->final_sql, &store, 1, show_row, &showing);
	for (int64 i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!showing.shown[i] && ItemPointerIsValid(&old[i]))
			applier_delete(applier, &old[i]);
	}
	pfree(showing.shown);
	ExecDropSingleTupleTableSlot(showing.row);
	table_close(rel, NoLock);
	return applier_finish(applier);
}

/* --- results of aggregates with DISTINCT -------------------------------------------------- */

typedef struct Distinct
{
	DistinctReceiver receive;
	void *arg;
} Distinct;

static void
receive_result(TupleTableSlot *slot, void *arg)
{
	Distinct *distinct = arg;

	slot_getallattrs(slot);
	distinct->receive(DatumGetInt64(slot->tts_values[0]),
					  slot->tts_values[1],
					  slot->tts_isnull[1],
					  distinct->arg);
}

void
groups_distinct(GroupsState *state, int accumulator, Tuplestorestate *p, DistinctReceiver receive,
				void *arg)
{
	NamedStore store = {.name = "p", .store = p, .desc = values_store_desc(state, accumulator)};
	Distinct distinct = {.receive = receive, .arg = arg};

	(void) plan_query(state->plan,
					  state->spec->accumulators[accumulator].distinct_sql,
					  &store,
					  1,
					  receive_result,
					  &distinct);
}
