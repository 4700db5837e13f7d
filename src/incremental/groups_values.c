/*
 * groups_values.c
 *		How often a group gives a value to an aggregate with DISTINCT.
 *
 * What changes is added up by group and value, then found in the table: by
 * index, in its order, or by reading it as a whole where that costs less.  A
 * group in which a value came or went is marked: the aggregate's result is to
 * be computed anew.
 *
 * Memory: proportional to the values whose number changes, in the context that
 * is current when they are added.
 */
#include "pgopt.h"

#include "common/hashfn.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "groups_private.h"

/* Beyond this part of its groups, reading a table as a whole costs less than by index. */
#define READ_ALL_PART 0.2

/* A value that an aggregate with DISTINCT gets more or less often from a group than before. */
typedef struct ValueChange
{
	ViewGroup *group;
	uint64 hash;
	Datum value;
	bool isnull;
	int64 change;
	int64 count; /* in the state */
	bool in_state;
	ItemPointerData state_row;
} ValueChange;

typedef struct ValueEntry
{
	ValueChange *value;
	char status;
} ValueEntry;

static bool
same_value(const ValueType *type, const ValueChange *a, const ValueChange *b)
{
	return a->group == b->group && a->hash == b->hash &&
		   value_equal(type, a->value, a->isnull, b->value, b->isnull);
}

#define SH_PREFIX            valuehash
#define SH_ELEMENT_TYPE      ValueEntry
#define SH_KEY_TYPE          ValueChange *
#define SH_KEY               value
#define SH_HASH_KEY(tb, key) murmurhash32((uint32) hash_combine64((key)->hash, (key)->group->hash))
#define SH_EQUAL(tb, a, b)   same_value((tb)->private_data, (a), (b))
#define SH_SCOPE             static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct ValueChanges
{
	const ValueType *type;
	StateTable *table;
	int accumulator;
	valuehash_hash *hash;
};

ValueChanges *
value_changes_create(GroupsState *state, int accumulator)
{
	ValueChanges *changes = palloc(sizeof(ValueChanges));

	changes->type = &state->accumulators[accumulator].value;
	changes->table = &state->values[accumulator];
	changes->accumulator = accumulator;
	changes->hash =
		valuehash_create(CurrentMemoryContext, 256, &state->accumulators[accumulator].value);
	return changes;
}

void
value_changes_add(ValueChanges *changes, ViewGroup *group, Datum value, bool isnull, int64 weight)
{
	ValueChange probe = {.group = group,
						 .hash = value_hash(changes->type, value, isnull),
						 .value = value,
						 .isnull = isnull};
	ValueEntry *entry = valuehash_lookup(changes->hash, &probe);
	bool found;

	if (entry == NULL)
	{
		ValueChange *change = palloc(sizeof(ValueChange));

		*change = probe;
		if (!isnull)
			change->value = value_copy(changes->type, value);
		entry = valuehash_insert(changes->hash, change, &found);
	}
	entry->value->change += weight;
}

/* --- the values before ---------------------------------------------------------------- */

static int
compare_places(const void *a, const void *b)
{
	const ValueChange *va = *(ValueChange *const *) a;
	const ValueChange *vb = *(ValueChange *const *) b;

	if (va->group->id != vb->group->id)
		return va->group->id < vb->group->id ? -1 : 1;
	if (va->hash != vb->hash)
		return (int64) va->hash < (int64) vb->hash ? -1 : 1;
	return 0;
}

/* Values whose number changes, in the order of the index. */
static ValueChange **
list_values(valuehash_hash *hash, int64 *count)
{
	ValueChange **list =
		MemoryContextAllocHuge(CurrentMemoryContext, sizeof(ValueChange *) * (hash->members + 1));
	valuehash_iterator iterator;
	ValueEntry *entry;

	*count = 0;
	valuehash_start_iterate(hash, &iterator);
	while ((entry = valuehash_iterate(hash, &iterator)) != NULL)
	{
		if (entry->value->change != 0)
			list[(*count)++] = entry->value;
	}
	qsort(list, *count, sizeof(ValueChange *), compare_places);
	return list;
}

static void
load_value(valuehash_hash *hash, ViewGroup *group, TupleTableSlot *slot)
{
	ValueChange probe = {.group = group,
						 .hash = DatumGetInt64(slot->tts_values[VALUE_HASH]),
						 .value = slot->tts_values[VALUE_VALUE],
						 .isnull = slot->tts_isnull[VALUE_VALUE]};
	ValueEntry *entry = valuehash_lookup(hash, &probe);

	if (entry == NULL)
		return;
	entry->value->in_state = true;
	entry->value->state_row = slot->tts_tid;
	entry->value->count = DatumGetInt64(slot->tts_values[VALUE_COUNT]);
}

static void
load_all_values(ValueChanges *changes, ViewGroup **groups, int64 ngroups)
{
	ViewGroup **by_id = groups_by_id(groups, ngroups);
	StateScan scan;
	TupleTableSlot *slot;

	state_scan_begin(&scan, changes->table, 0);
	while ((slot = state_scan_next(&scan)) != NULL)
	{
		ViewGroup *group = group_of_id(by_id, ngroups, DatumGetInt64(slot->tts_values[VALUE_ID]));

		if (group != NULL)
			load_value(changes->hash, group, slot);
	}
	state_scan_end(&scan);
	pfree(by_id);
}

static void
load_values(ValueChanges *changes, ValueChange **list, int64 count, ViewGroup **groups,
			int64 ngroups)
{
	StateScan scan;
	TupleTableSlot *slot;

	if (state_scan_pays(changes->table, count))
	{
		load_all_values(changes, groups, ngroups);
		return;
	}
	state_scan_begin(&scan, changes->table, 2);
	for (int64 i = 0; i < count; i++)
	{
		if (!list[i]->group->in_state || (i > 0 && compare_places(&list[i], &list[i - 1]) == 0))
			continue;
		state_scan_find(&scan, list[i]->group->id, (int64) list[i]->hash);
		while ((slot = state_scan_next(&scan)) != NULL)
			load_value(changes->hash, list[i]->group, slot);
	}
	state_scan_end(&scan);
}

/* --- and after -------------------------------------------------------------------------- */

static void
write_value(StateTable *table, ValueChange *value)
{
	Datum row[VALUE_COLUMNS];
	bool nulls[VALUE_COLUMNS] = {false};
	int64 count = value->count + value->change;

	if (count < 0)
		elog(ERROR, "a count of values became " INT64_FORMAT, count);
	row[VALUE_ID] = Int64GetDatum(value->group->id);
	row[VALUE_HASH] = Int64GetDatum((int64) value->hash);
	row[VALUE_VALUE] = value->value;
	nulls[VALUE_VALUE] = value->isnull;
	row[VALUE_COUNT] = Int64GetDatum(count);
	if (!value->in_state)
		state_row_insert(table, row, nulls);
	else if (count == 0)
		state_row_delete(table, &value->state_row);
	else
		state_row_update(table, &value->state_row, row, nulls);
}

void
value_changes_write(ValueChanges *changes, ViewGroup **groups, int64 ngroups)
{
	int64 count;
	ValueChange **list = list_values(changes->hash, &count);

	load_values(changes, list, count, groups, ngroups);
	for (int64 i = 0; i < count; i++)
	{
		ValueChange *value = list[i];

		CHECK_FOR_INTERRUPTS();
		write_value(changes->table, value);
		if (!value->in_state || value->count + value->change == 0)
			value->group->anew = bms_add_member(value->group->anew, changes->accumulator);
	}
	pfree(list);
}

/* --- all values of some groups ------------------------------------------------------------ */

static void
put_value(Tuplestorestate *p, TupleDesc desc, const ViewGroup *group, TupleTableSlot *slot)
{
	Datum row[P_COLUMNS];
	bool nulls[P_COLUMNS] = {false};

	row[P_ID] = Int64GetDatum(group->n);
	row[P_VALUE] = slot->tts_values[VALUE_VALUE];
	nulls[P_VALUE] = slot->tts_isnull[VALUE_VALUE];
	row[P_HASH] = slot->tts_values[VALUE_HASH];
	row[P_COUNT] = slot->tts_values[VALUE_COUNT];
	tuplestore_putvalues(p, desc, row, nulls);
}

void
values_read(StateTable *table, double part, ViewGroup **groups, int64 ngroups, Tuplestorestate *p,
			TupleDesc desc)
{
	bool read_all = part > READ_ALL_PART;
	StateScan scan;
	TupleTableSlot *slot;

	state_scan_begin(&scan, table, read_all ? 0 : 1);
	if (read_all)
	{
		ViewGroup **by_id = groups_by_id(groups, ngroups);

		while ((slot = state_scan_next(&scan)) != NULL)
		{
			int64 id = DatumGetInt64(slot->tts_values[VALUE_ID]);
			ViewGroup *group = group_of_id(by_id, ngroups, id);

			if (group != NULL)
				put_value(p, desc, group, slot);
		}
		pfree(by_id);
	}
	for (int64 i = 0; !read_all && i < ngroups; i++)
	{
		state_scan_find(&scan, groups[i]->id, 0);
		while ((slot = state_scan_next(&scan)) != NULL)
			put_value(p, desc, groups[i], slot);
	}
	state_scan_end(&scan);
}
