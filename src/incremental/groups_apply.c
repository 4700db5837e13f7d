/*
 * groups_apply.c
 *		A change of the rows that groups are made of: what follows for the
 *		groups' state, and for the view.
 *
 * The changes of one group are added up first; then the state of the groups
 * that changed is read and combined with them.  What cannot be told from state
 * and change is asked of the tables: aggregates that are always computed anew,
 * and extremes of which none that was kept is left.  An aggregate with DISTINCT
 * is computed again from the group's values only if one came or went.  A group
 * that comes out as it was is not written, here or in the view.
 *
 * The state is read by index, in the order of its hashes, or as a whole where
 * so many groups changed that this costs less.
 *
 * Any sign that state and change do not fit, as a count below zero, is an
 * internal error: the caller then computes all.
 *
 * Memory: proportional to the groups that changed, and of values (for
 * aggregates with DISTINCT and extremes) to those that came or went.  All of it
 * is in one context, gone at the end.
 */
#include "pgopt.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "groups_private.h"

/* As many groups are taken for the whole where it is not known how many there are. */
#define MANY_GROUPS 1000

typedef struct Applying
{
	GroupsState *state;
	const GroupSpec *spec;
	MemoryContext context;
	GroupTable *table;
	ValueChanges **values; /* by accumulator, of kind ACC_DISTINCT */
	ViewGroup **groups;    /* those with changes, in the order of their hashes */
	int64 ngroups;
	int accumulator;   /* whose results are being received */
	ViewGroup **asked; /* the groups that a statement was asked for, by number */
	int64 nasked;
} Applying;

/* --- gathering what changed ------------------------------------------------------------ */

static void
add_row(Applying *applying, Datum *row, bool *nulls, int64 weight)
{
	GroupsState *state = applying->state;
	ViewGroup *group =
		group_table_find(applying->table, group_hash(state, row, nulls), row, nulls, true);

	if (group->changes == NULL)
		group->changes = palloc0(sizeof(AccumulatorChange) * applying->spec->naccumulators);
	for (int i = 0; i < applying->spec->naccumulators; i++)
	{
		const AccumulatorType *type = &state->accumulators[i];
		int input = type->spec->input;
		Datum value = input > 0 ? row[input - 1] : (Datum) 0;
		bool isnull = input > 0 && nulls[input - 1];

		if (type->spec->kind == ACC_DISTINCT)
			value_changes_add(applying->values[i], group, value, isnull, weight);
		else if (!isnull)
			accumulator_add(type, &group->changes[i], value, weight);
	}
}

static void
gather_changes(Applying *applying, Tuplestorestate *delta, TupleDesc desc)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	int weight = desc->natts - 1;

	while (tuplestore_gettupleslot(delta, true, false, slot))
	{
		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(slot);
		if (DatumGetInt64(slot->tts_values[weight]) != 0)
			add_row(applying,
					slot->tts_values,
					slot->tts_isnull,
					DatumGetInt64(slot->tts_values[weight]));
	}
	ExecDropSingleTupleTableSlot(slot);
	applying->ngroups = group_table_size(applying->table);
	applying->groups = group_table_list(applying->table);
}

/* --- the state before ------------------------------------------------------------------- */

static void
load_group(Applying *applying, TupleTableSlot *slot)
{
	Datum *row = slot->tts_values;
	bool *nulls = slot->tts_isnull;
	int first = GROUP_KEYS + applying->spec->nkeys;
	ViewGroup *group = group_table_find(applying->table,
										DatumGetInt64(row[GROUP_HASH]),
										row + GROUP_KEYS,
										nulls + GROUP_KEYS,
										false);

	if (group == NULL)
		return;
	group->in_state = true;
	group->state_row = slot->tts_tid;
	group->id = DatumGetInt64(row[GROUP_ID]);
	if (!nulls[GROUP_ROW])
		group->row = *(ItemPointer) DatumGetPointer(row[GROUP_ROW]);
	for (int i = 0; i < applying->spec->nkeys; i++)
	{
		if (!nulls[GROUP_KEYS + i])
			group->keys[i] = value_copy(&applying->state->keys[i], row[GROUP_KEYS + i]);
	}
	for (int i = 0; i < applying->spec->naccumulators; i++)
	{
		group->value_nulls[i] = nulls[first + i];
		group->values[i] =
			nulls[first + i] ? (Datum) 0
							 : value_copy(&applying->state->accumulators[i].column, row[first + i]);
	}
}

static void
load_groups(Applying *applying)
{
	StateTable *table = &applying->state->groups;
	StateScan scan;
	TupleTableSlot *slot;

	if (state_scan_pays(table, applying->ngroups))
	{
		state_scan_begin(&scan, table, 0);
		while ((slot = state_scan_next(&scan)) != NULL)
			load_group(applying, slot);
	}
	else
	{
		state_scan_begin(&scan, table, 1);
		for (int64 i = 0; i < applying->ngroups; i++)
		{
			uint64 hash = applying->groups[i]->hash;

			if (i > 0 && hash == applying->groups[i - 1]->hash)
				continue;
			state_scan_find(&scan, (int64) hash, 0);
			while ((slot = state_scan_next(&scan)) != NULL)
				load_group(applying, slot);
		}
	}
	state_scan_end(&scan);
}

/* Groups that are new get the numbers by which their values go. */
static void
number_new_groups(Applying *applying)
{
	int64 last = -1;

	if (applying->state->ndistinct == 0)
		return;
	for (int64 i = 0; i < applying->ngroups; i++)
	{
		ViewGroup *group = applying->groups[i];

		if (group->in_state)
			continue;
		for (int j = 0; last < 0; j++)
		{
			if (applying->state->values[j].heap != NULL)
				last = state_last_id(&applying->state->values[j]);
		}
		group->id = ++last;
	}
}

/* --- combining --------------------------------------------------------------------------------- */

static bool
is_gone(const Applying *applying, const ViewGroup *group)
{
	return !applying->spec->is_global && DatumGetInt64(group->values[0]) == 0;
}

static void
combine_group(Applying *applying, ViewGroup *group)
{
	for (int i = 0; i < applying->spec->naccumulators; i++)
	{
		const AccumulatorType *type = &applying->state->accumulators[i];
		CombineResult result = COMBINE_EXHAUSTED;

		if (type->spec->kind != ACC_RECOMPUTED)
			result = accumulator_combine(type, &group->values[i], &group->changes[i]);
		if (result == COMBINE_EXHAUSTED)
			group->anew = bms_add_member(group->anew, i);
		if (result == COMBINE_CHANGED)
			group->changed = true;
	}
}

static void
combine_groups(Applying *applying)
{
	for (int64 i = 0; i < applying->ngroups; i++)
	{
		CHECK_FOR_INTERRUPTS();
		combine_group(applying, applying->groups[i]);
	}
}

/* --- computed anew ------------------------------------------------------------------------------------ */

/* Results come in whatever context the statement runs in. */
static void
set_result(Applying *applying, ViewGroup *group, int accumulator, Datum value, bool isnull)
{
	const AccumulatorType *type = &applying->state->accumulators[accumulator];
	MemoryContext old = MemoryContextSwitchTo(applying->context);

	value = accumulator_from_sql(type, value, &isnull);
	if (!value_same_image(&type->column,
						  group->values[accumulator],
						  group->value_nulls[accumulator],
						  value,
						  isnull))
		group->changed = true;
	group->value_nulls[accumulator] = isnull;
	group->values[accumulator] = isnull ? (Datum) 0 : value_copy(&type->column, value);
	MemoryContextSwitchTo(old);
}

static ViewGroup *
asked_group(Applying *applying, int64 n)
{
	if (n < 1 || n > applying->nasked)
		elog(ERROR, "group " INT64_FORMAT " was not asked for", n);
	return applying->asked[n - 1];
}

/* Accumulators of a group, from the tables; those that were not asked for must be what they are. */
static void
set_results(Applying *applying, ViewGroup *group, const Datum *values, const bool *nulls)
{
	int i = -1;

	if (nulls[0] || DatumGetInt64(values[0]) != DatumGetInt64(group->values[0]))
		elog(ERROR, "the tables have another number of rows of a group than its state");
	while ((i = bms_next_member(group->anew, i)) >= 0)
	{
		if (applying->state->accumulators[i].spec->kind != ACC_DISTINCT)
			set_result(applying, group, i, values[i], nulls[i]);
	}
}

static void
receive_recomputed(TupleTableSlot *slot, void *arg)
{
	Applying *applying = arg;
	ViewGroup *group;

	slot_getallattrs(slot);
	group = asked_group(applying, DatumGetInt64(slot->tts_values[0]));
	set_results(applying, group, slot->tts_values + 1, slot->tts_isnull + 1);
	group->n = 0;
}

static void
receive_global(TupleTableSlot *slot, void *arg)
{
	Applying *applying = arg;

	slot_getallattrs(slot);
	set_results(applying, applying->groups[0], slot->tts_values, slot->tts_isnull);
}

static bool
needs_tables(const Applying *applying, const ViewGroup *group)
{
	int i = -1;

	while ((i = bms_next_member(group->anew, i)) >= 0)
	{
		if (applying->state->accumulators[i].spec->kind != ACC_DISTINCT)
			return !is_gone(applying, group);
	}
	return false;
}

static Bitmapset *
null_keys(const Applying *applying, const ViewGroup *group)
{
	Bitmapset *nulls = NULL;

	for (int i = 0; i < applying->spec->nkeys; i++)
	{
		if (group->key_nulls[i])
			nulls = bms_add_member(nulls, i);
	}
	return nulls;
}

/* Asks the tables for all groups that need it and whose keys are NULL in these columns. */
static void
recompute(Applying *applying, const Bitmapset *nulls)
{
	int nkeys = applying->spec->nkeys;
	NamedStore k = {.name = "k",
					.store = tuplestore_begin_heap(true, false, work_mem),
					.desc = groups_store_desc(applying->state, false)};
	Datum row[MaxTupleAttributeNumber];
	bool isnull[MaxTupleAttributeNumber];

	applying->nasked = 0;
	for (int64 i = 0; i < applying->ngroups; i++)
	{
		ViewGroup *group = applying->groups[i];

		CHECK_FOR_INTERRUPTS();
		if (!needs_tables(applying, group) || !bms_equal(null_keys(applying, group), nulls))
			continue;
		applying->asked[applying->nasked++] = group;
		group->n = applying->nasked;
		row[0] = Int64GetDatum(group->n);
		isnull[0] = false;
		memcpy(row + 1, group->keys, sizeof(Datum) * nkeys);
		memcpy(isnull + 1, group->key_nulls, sizeof(bool) * nkeys);
		tuplestore_putvalues(k.store, k.desc, row, isnull);
	}
	(void) plan_query(applying->state->plan,
					  groups_recompute_sql(applying->spec, nulls),
					  &k,
					  1,
					  receive_recomputed,
					  applying);
	for (int64 i = 0; i < applying->nasked; i++)
	{
		if (applying->asked[i]->n != 0)
			elog(ERROR, "the tables have no rows of a group that its state counts");
	}
	tuplestore_end(k.store);
}

/* The only group of a view without GROUP BY is computed as a whole, as it may be one without rows. */
static void
recompute_groups(Applying *applying)
{
	List *patterns = NIL;
	ListCell *lc;

	for (int64 i = 0; i < applying->ngroups; i++)
	{
		Bitmapset *nulls;

		if (!needs_tables(applying, applying->groups[i]))
			continue;
		if (applying->spec->is_global && applying->spec->full_distinct < 0)
		{
			(void) plan_query(
				applying->state->plan, applying->spec->full_sql, NULL, 0, receive_global, applying);
			return;
		}
		nulls = null_keys(applying, applying->groups[i]);
		foreach(lc, patterns)
		{
			if (bms_equal(lfirst(lc), nulls))
				break;
		}
		if (lc == NULL)
			patterns = lappend(patterns, nulls);
	}
	foreach(lc, patterns)
		recompute(applying, lfirst(lc));
}

static void
receive_distinct(int64 n, Datum value, bool isnull, void *arg)
{
	Applying *applying = arg;

	set_result(applying, asked_group(applying, n), applying->accumulator, value, isnull);
}

/* Without values, the result is what the aggregate gives for no rows. */
static void
compute_distinct(Applying *applying, int accumulator)
{
	GroupsState *state = applying->state;
	double known_groups = Max(state->groups.heap->rd_rel->reltuples, MANY_GROUPS);
	Tuplestorestate *p;

	applying->accumulator = accumulator;
	applying->nasked = 0;
	for (int64 i = 0; i < applying->ngroups; i++)
	{
		ViewGroup *group = applying->groups[i];

		if (!bms_is_member(accumulator, group->anew) || is_gone(applying, group))
			continue;
		applying->asked[applying->nasked++] = group;
		group->n = applying->nasked;
		if (DatumGetInt64(group->values[0]) == 0)
			set_result(applying, group, accumulator, (Datum) 0, true);
	}
	if (applying->nasked == 0)
		return;
	p = tuplestore_begin_heap(true, false, work_mem);
	values_read(&state->values[accumulator],
				applying->nasked / known_groups,
				applying->asked,
				applying->nasked,
				p,
				values_store_desc(state, accumulator));
	groups_distinct(state, accumulator, p, receive_distinct, applying);
	tuplestore_end(p);
}

/* What was written of the values is to be seen when they are read again. */
static void
compute_distincts(Applying *applying)
{
	for (int i = 0; i < applying->spec->naccumulators; i++)
	{
		if (applying->values[i] != NULL)
			value_changes_write(applying->values[i], applying->groups, applying->ngroups);
	}
	CommandCounterIncrement();
	PushCopiedSnapshot(GetActiveSnapshot());
	UpdateActiveSnapshotCommandId();
	for (int i = 0; i < applying->spec->naccumulators; i++)
	{
		if (applying->values[i] != NULL)
			compute_distinct(applying, i);
	}
	PopActiveSnapshot();
}

/* --- the view, and the state after --------------------------------------------------------------------- */

static void
put_group(Applying *applying, Tuplestorestate *g, TupleDesc desc, const ViewGroup *group)
{
	int nkeys = applying->spec->nkeys;
	int naccumulators = applying->spec->naccumulators;
	Datum row[MaxTupleAttributeNumber];
	bool nulls[MaxTupleAttributeNumber];

	row[0] = Int64GetDatum(group->n);
	nulls[0] = false;
	memcpy(row + 1, group->keys, sizeof(Datum) * nkeys);
	memcpy(nulls + 1, group->key_nulls, sizeof(bool) * nkeys);
	memcpy(row + 1 + nkeys, group->values, sizeof(Datum) * naccumulators);
	memcpy(nulls + 1 + nkeys, group->value_nulls, sizeof(bool) * naccumulators);
	tuplestore_putvalues(g, desc, row, nulls);
}

static void
write_group(Applying *applying, ViewGroup *group)
{
	StateTable *table = &applying->state->groups;
	int first = GROUP_KEYS + applying->spec->nkeys;
	Datum row[MaxTupleAttributeNumber];
	bool nulls[MaxTupleAttributeNumber];

	if (is_gone(applying, group))
	{
		if (group->in_state)
			state_row_delete(table, &group->state_row);
		return;
	}
	row[GROUP_HASH] = Int64GetDatum((int64) group->hash);
	nulls[GROUP_HASH] = false;
	row[GROUP_ID] = Int64GetDatum(group->id);
	nulls[GROUP_ID] = false;
	row[GROUP_ROW] = PointerGetDatum(&group->row);
	nulls[GROUP_ROW] = !ItemPointerIsValid(&group->row);
	memcpy(row + GROUP_KEYS, group->keys, sizeof(Datum) * applying->spec->nkeys);
	memcpy(nulls + GROUP_KEYS, group->key_nulls, sizeof(bool) * applying->spec->nkeys);
	memcpy(row + first, group->values, sizeof(Datum) * applying->spec->naccumulators);
	memcpy(nulls + first, group->value_nulls, sizeof(bool) * applying->spec->naccumulators);
	if (group->in_state)
		state_row_update(table, &group->state_row, row, nulls);
	else
		state_row_insert(table, row, nulls);
}

static uint64
show_groups(Applying *applying, RowApplier *applier)
{
	Tuplestorestate *g = tuplestore_begin_heap(true, false, work_mem);
	TupleDesc desc = groups_store_desc(applying->state, true);
	ItemPointerData *old;
	ItemPointerData *new;
	int64 count = 0;
	uint64 written = 0;

	for (int64 i = 0; i < applying->ngroups; i++)
	{
		ViewGroup *group = applying->groups[i];

		CHECK_FOR_INTERRUPTS();
		if (!group->changed || (is_gone(applying, group) && !group->in_state))
			continue;
		applying->groups[count++] = group;
		group->n = count;
		if (!is_gone(applying, group))
			put_group(applying, g, desc, group);
	}
	applying->ngroups = count;
	old = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(ItemPointerData) * (count + 1));
	new = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(ItemPointerData) * (count + 1));
	for (int64 i = 0; i < count; i++)
		old[i] = applying->groups[i]->row;
	if (count > 0)
		written = groups_show(applying->state, applier, g, count, old, new);
	else
		written = applier_finish(applier);
	for (int64 i = 0; i < count; i++)
		applying->groups[i]->row = new[i];
	tuplestore_end(g);
	return written;
}

static void
begin_applying(Applying *applying, GroupsState *state)
{
	const GroupSpec *spec = state->spec;

	memset(applying, 0, sizeof(Applying));
	applying->state = state;
	applying->spec = spec;
	applying->context = CurrentMemoryContext;
	applying->table = group_table_create(state);
	applying->values = palloc0(sizeof(ValueChanges *) * spec->naccumulators);
	for (int i = 0; i < spec->naccumulators; i++)
	{
		if (spec->accumulators[i].kind == ACC_DISTINCT)
			applying->values[i] = value_changes_create(state, i);
	}
}

uint64
groups_apply(IncrementalPlan *plan, DeltaRun *run, Tuplestorestate *delta, RowApplier *applier)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt groups", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	GroupsState *state = groups_open(plan, RowExclusiveLock);
	Applying applying;
	uint64 written;

	begin_applying(&applying, state);
	gather_changes(&applying, delta, run->descs[plan->program->result]);
	load_groups(&applying);
	number_new_groups(&applying);
	combine_groups(&applying);
	applying.asked = MemoryContextAllocHuge(context, sizeof(ViewGroup *) * (applying.ngroups + 1));
	recompute_groups(&applying);
	if (state->ndistinct > 0)
		compute_distincts(&applying);
	written = show_groups(&applying, applier);
	for (int64 i = 0; i < applying.ngroups; i++)
	{
		CHECK_FOR_INTERRUPTS();
		write_group(&applying, applying.groups[i]);
	}
	groups_close(state);
	CommandCounterIncrement();
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	return written;
}
