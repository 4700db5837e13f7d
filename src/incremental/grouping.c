/*
 * grouping.c
 *		Values and groups in memory: hashed, compared, found.
 *
 * Two values are the same if the equality operator of their type's default
 * B-tree or hash class says so under the column's collation, and NULLs are;
 * that is what GROUP BY and DISTINCT do.  The hash of a group is kept on disk,
 * so it is made of the types' extended hash functions alone, without a seed
 * that depends on the process.  A type without hash functions takes the hash of
 * its bits where equal values have equal bits, and else 0: its values are then
 * found by looking at all.
 *
 * Memory: a GroupTable and its groups live in the context that is current when
 * they are made.
 */
#include "pgopt.h"

#include "access/nbtree.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"

#include "compat.h"
#include "groups_private.h"

/* --- values ------------------------------------------------------------------- */

/* Do equal values of the type have equal bits, so that an index on it may deduplicate? */
static bool
equality_is_of_images(const ValueType *type)
{
	TypeCacheEntry *cache = type->cache;
	Oid proc;

	if (!OidIsValid(cache->btree_opf))
		return false;
	proc = get_opfamily_proc(
		cache->btree_opf, cache->btree_opintype, cache->btree_opintype, BTEQUALIMAGE_PROC);
	return OidIsValid(proc) && DatumGetBool(OidFunctionCall1Coll(
								   proc, type->collation, ObjectIdGetDatum(cache->btree_opintype)));
}

void
value_type_init(ValueType *type, const ColumnType *column)
{
	memset(type, 0, sizeof(ValueType));
	type->type = column->type;
	type->collation = column->collation;
	if (!OidIsValid(column->type))
		return;
	get_typlenbyvalalign(column->type, &type->length, &type->by_value, &type->align);
	type->cache = lookup_type_cache(
		column->type,
		TYPECACHE_EQ_OPR_FINFO | TYPECACHE_CMP_PROC_FINFO | TYPECACHE_HASH_PROC_FINFO |
			TYPECACHE_HASH_EXTENDED_PROC_FINFO | TYPECACHE_BTREE_OPFAMILY);
	if (!OidIsValid(type->cache->hash_extended_proc) && !OidIsValid(type->cache->hash_proc))
		type->hash_image = equality_is_of_images(type);
}

uint64
value_hash(const ValueType *type, Datum value, bool isnull)
{
	TypeCacheEntry *cache = type->cache;

	if (isnull)
		return 0;
	if (OidIsValid(cache->hash_extended_proc))
		return DatumGetUInt64(FunctionCall2Coll(
			&cache->hash_extended_proc_finfo, type->collation, value, UInt64GetDatum(0)));
	if (OidIsValid(cache->hash_proc))
		return DatumGetUInt32(FunctionCall1Coll(&cache->hash_proc_finfo, type->collation, value));
	return type->hash_image ? datum_image_hash(value, type->by_value, type->length) : 0;
}

bool
value_equal(const ValueType *type, Datum a, bool a_null, Datum b, bool b_null)
{
	if (a_null || b_null)
		return a_null == b_null;
	if (!OidIsValid(type->cache->eq_opr))
		return datum_image_eq(a, b, type->by_value, type->length);
	return DatumGetBool(FunctionCall2Coll(&type->cache->eq_opr_finfo, type->collation, a, b));
}

int
value_compare(const ValueType *type, Datum a, Datum b)
{
	return DatumGetInt32(FunctionCall2Coll(&type->cache->cmp_proc_finfo, type->collation, a, b));
}

Datum
value_copy(const ValueType *type, Datum value)
{
	return datumCopy(value, type->by_value, type->length);
}

bool
value_same_image(const ValueType *type, Datum a, bool a_null, Datum b, bool b_null)
{
	if (a_null || b_null)
		return a_null == b_null;
	return datum_image_eq(a, b, type->by_value, type->length);
}

/* --- groups --------------------------------------------------------------------- */

typedef struct GroupEntry
{
	ViewGroup *group;
	char status;
} GroupEntry;

static bool
same_group(const GroupsState *state, const ViewGroup *a, const ViewGroup *b)
{
	if (a->hash != b->hash)
		return false;
	for (int i = 0; i < state->spec->nkeys; i++)
	{
		if (!value_equal(&state->keys[i], a->keys[i], a->key_nulls[i], b->keys[i], b->key_nulls[i]))
			return false;
	}
	return true;
}

#define SH_PREFIX            grouphash
#define SH_ELEMENT_TYPE      GroupEntry
#define SH_KEY_TYPE          ViewGroup *
#define SH_KEY               group
#define SH_HASH_KEY(tb, key) murmurhash32((uint32) ((key)->hash ^ ((key)->hash >> 32)))
#define SH_EQUAL(tb, a, b)   same_group((tb)->private_data, (a), (b))
#define SH_SCOPE             static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct GroupTable
{
	const GroupsState *state;
	grouphash_hash *hash;
};

uint64
group_hash(const GroupsState *state, const Datum *keys, const bool *nulls)
{
	uint64 hash = 0;

	for (int i = 0; i < state->spec->nkeys; i++)
		hash = hash_combine64(hash, value_hash(&state->keys[i], keys[i], nulls[i]));
	return hash;
}

GroupTable *
group_table_create(const GroupsState *state)
{
	GroupTable *table = palloc(sizeof(GroupTable));

	table->state = state;
	table->hash = grouphash_create(CurrentMemoryContext, 256, unconstify(GroupsState *, state));
	return table;
}

static ViewGroup *
make_group(const GroupsState *state, const ViewGroup *probe)
{
	int nkeys = state->spec->nkeys;
	int naccumulators = state->spec->naccumulators;
	ViewGroup *group = palloc0(sizeof(ViewGroup));

	group->hash = probe->hash;
	group->keys = palloc(sizeof(Datum) * (nkeys + naccumulators));
	group->key_nulls = palloc(sizeof(bool) * (nkeys + naccumulators));
	group->values = group->keys + nkeys;
	group->value_nulls = group->key_nulls + nkeys;
	ItemPointerSetInvalid(&group->state_row);
	ItemPointerSetInvalid(&group->row);
	for (int i = 0; i < nkeys; i++)
	{
		group->key_nulls[i] = probe->key_nulls[i];
		group->keys[i] =
			probe->key_nulls[i] ? (Datum) 0 : value_copy(&state->keys[i], probe->keys[i]);
	}
	for (int i = 0; i < naccumulators; i++)
		group->values[i] = accumulator_initial(&state->accumulators[i], &group->value_nulls[i]);
	return group;
}

ViewGroup *
group_table_find(GroupTable *table, uint64 hash, Datum *keys, bool *nulls, bool create)
{
	ViewGroup probe = {.hash = hash, .keys = keys, .key_nulls = nulls};
	GroupEntry *entry = grouphash_lookup(table->hash, &probe);
	bool found;

	if (entry != NULL)
		return entry->group;
	if (!create)
		return NULL;
	entry = grouphash_insert(table->hash, make_group(table->state, &probe), &found);
	return entry->group;
}

int64
group_table_size(GroupTable *table)
{
	return table->hash->members;
}

/* All groups, in the order of their hashes: that of the index on them. */
static int
compare_hashes(const void *a, const void *b)
{
	int64 ha = (int64) (*(ViewGroup *const *) a)->hash;
	int64 hb = (int64) (*(ViewGroup *const *) b)->hash;

	return ha < hb ? -1 : ha > hb;
}

ViewGroup **
group_table_list(GroupTable *table)
{
	int64 size = table->hash->members;
	ViewGroup **list =
		MemoryContextAllocHuge(CurrentMemoryContext, sizeof(ViewGroup *) * Max(size, 1));
	grouphash_iterator iterator;
	GroupEntry *entry;
	int64 i = 0;

	grouphash_start_iterate(table->hash, &iterator);
	while ((entry = grouphash_iterate(table->hash, &iterator)) != NULL)
		list[i++] = entry->group;
	qsort(list, size, sizeof(ViewGroup *), compare_hashes);
	return list;
}

static int
compare_ids(const void *a, const void *b)
{
	int64 ia = (*(ViewGroup *const *) a)->id;
	int64 ib = (*(ViewGroup *const *) b)->id;

	return ia < ib ? -1 : ia > ib;
}

ViewGroup **
groups_by_id(ViewGroup **groups, int64 count)
{
	ViewGroup **by_id =
		MemoryContextAllocHuge(CurrentMemoryContext, sizeof(ViewGroup *) * Max(count, 1));

	memcpy(by_id, groups, sizeof(ViewGroup *) * count);
	qsort(by_id, count, sizeof(ViewGroup *), compare_ids);
	return by_id;
}

ViewGroup *
group_of_id(ViewGroup **by_id, int64 count, int64 id)
{
	ViewGroup probe = {.id = id};
	ViewGroup *key = &probe;
	ViewGroup **found = bsearch(&key, by_id, count, sizeof(ViewGroup *), compare_ids);

	return found != NULL ? *found : NULL;
}
