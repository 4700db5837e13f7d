/*
 * row_table.c
 *		Rows in memory, found by their content.
 *
 * Of a long value only the length goes into the hash by which a row is found,
 * so that a scan does not read all TOAST of a view; a second hash, over all of
 * a row, is computed where the first is equal, once a row.
 */
#include "pgopt.h"

#include "access/detoast.h"
#include "access/genam.h"
#include "catalog/pg_am.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "compat.h"
#include "row_table.h"

/* Bytes above which a value's content is not in the first hash. */
#define LONG_VALUE 1024

/* So many fit in any case. */
#define FEW_ROWS 100

/* Of an entry, besides its row: itself, its part of the hash table, chunk headers. */
#define ENTRY_OVERHEAD (sizeof(RowEntry) + 2 * sizeof(RowBucket) + 32)

typedef struct RowBucket
{
	uint64 hash;
	RowEntry *entries;
	char status;
} RowBucket;

#define SH_PREFIX            rowhash
#define SH_ELEMENT_TYPE      RowBucket
#define SH_KEY_TYPE          uint64
#define SH_KEY               hash
#define SH_HASH_KEY(tb, key) ((uint32) (key))
#define SH_EQUAL(tb, a, b)   ((a) == (b))
#define SH_SCOPE             static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct RowTable
{
	MemoryContext context;
	TupleDesc desc;
	int ncolumns;
	const RowKey *key;
	rowhash_hash *buckets;
	TupleTableSlot *slot; /* of an entry */
	MemoryContext scratch;

	/* the last row looked for */
	bool has_long_value;
};

/* --- values ---------------------------------------------------------------------- */

/* Are both the same value in the same TOAST table? */
static bool
same_toast_pointer(Datum a, Datum b)
{
	struct varlena *x = (struct varlena *) DatumGetPointer(a);
	struct varlena *y = (struct varlena *) DatumGetPointer(b);

	return VARATT_IS_EXTERNAL_ONDISK(x) && VARATT_IS_EXTERNAL_ONDISK(y) &&
		   memcmp(VARDATA_EXTERNAL(x), VARDATA_EXTERNAL(y), sizeof(varatt_external)) == 0;
}

bool
column_image_eq(Form_pg_attribute attribute, Datum a, bool a_isnull, Datum b, bool b_isnull)
{
	if (a_isnull || b_isnull)
		return a_isnull && b_isnull;
	if (attribute->attlen == -1 && same_toast_pointer(a, b))
		return true;
	return datum_image_eq(a, b, attribute->attbyval, attribute->attlen);
}

static uint32
column_hash(RowTable *table, TupleTableSlot *slot, int column)
{
	Form_pg_attribute attribute = TupleDescAttr(table->desc, column - 1);
	bool isnull;
	Datum value = slot_getattr(slot, column, &isnull);

	if (isnull)
		return 0;
	if (attribute->attlen == -1)
	{
		Size size = toast_raw_datum_size(value);

		if (size > LONG_VALUE)
		{
			table->has_long_value = true;
			return hash_bytes_uint32((uint32) size);
		}
	}
	return datum_image_hash(value, attribute->attbyval, attribute->attlen);
}

static bool
columns_eq(TupleDesc desc, TupleTableSlot *a, TupleTableSlot *b, int column)
{
	bool a_isnull;
	bool b_isnull;
	Datum a_value = slot_getattr(a, column, &a_isnull);
	Datum b_value = slot_getattr(b, column, &b_isnull);

	return column_image_eq(TupleDescAttr(desc, column - 1), a_value, a_isnull, b_value, b_isnull);
}

/* --- rows ------------------------------------------------------------------------- */

static bool
key_is_whole(const RowKey *key, TupleTableSlot *slot)
{
	if (key == NULL || !OidIsValid(key->index))
		return false;
	for (int i = 0; i < key->natts; i++)
		if (slot_attisnull(slot, key->attnums[i]))
			return false;
	return true;
}

/* By the key, if the row has one: then all rows with this key are found together. */
uint64
row_table_hash(RowTable *table, TupleTableSlot *slot)
{
	MemoryContext old = MemoryContextSwitchTo(table->scratch);
	uint64 hash = 0;

	table->has_long_value = false;
	if (key_is_whole(table->key, slot))
		for (int i = 0; i < table->key->natts; i++)
			hash =
				hash_bytes_uint32_extended(column_hash(table, slot, table->key->attnums[i]), hash);
	else
		for (int i = 1; i <= table->ncolumns; i++)
			hash = hash_bytes_uint32_extended(column_hash(table, slot, i), hash);
	MemoryContextSwitchTo(old);
	MemoryContextReset(table->scratch);
	return hash;
}

static uint64
full_hash(RowTable *table, TupleTableSlot *slot)
{
	uint64 hash = 1;

	for (int i = 1; i <= table->ncolumns; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(table->desc, i - 1);
		bool isnull;
		Datum value = slot_getattr(slot, i, &isnull);

		hash = hash_bytes_uint32_extended(
			isnull ? 0 : datum_image_hash(value, attribute->attbyval, attribute->attlen), hash);
	}
	return hash != 0 ? hash : 1;
}

TupleTableSlot *
row_table_slot(RowTable *table, const RowEntry *entry)
{
	return ExecStoreMinimalTuple(entry->tuple, table->slot, false);
}

RowEntry *
row_table_find(RowTable *table, TupleTableSlot *slot, uint64 hash)
{
	RowBucket *bucket = rowhash_lookup(table->buckets, hash);
	RowEntry *entry = NULL;
	uint64 full = 0;
	MemoryContext old;

	if (bucket == NULL)
		return NULL;
	old = MemoryContextSwitchTo(table->scratch);
	for (entry = bucket->entries; entry != NULL; entry = entry->next)
	{
		TupleTableSlot *candidate = row_table_slot(table, entry);
		int column = 1;

		if (table->has_long_value && bucket->entries->next != NULL)
		{
			if (full == 0)
				full = full_hash(table, slot);
			if (entry->full_hash == 0)
				entry->full_hash = full_hash(table, candidate);
			if (entry->full_hash != full)
				continue;
		}
		while (column <= table->ncolumns && columns_eq(table->desc, slot, candidate, column))
			column++;
		if (column > table->ncolumns)
			break;
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(table->scratch);
	return entry;
}

RowEntry *
row_table_find_by_key(RowTable *table, TupleTableSlot *slot, uint64 hash)
{
	RowBucket *bucket;
	RowEntry *entry;

	if (!key_is_whole(table->key, slot))
		return NULL;
	bucket = rowhash_lookup(table->buckets, hash);
	for (entry = bucket != NULL ? bucket->entries : NULL; entry != NULL; entry = entry->next)
	{
		TupleTableSlot *candidate;
		int i = 0;

		if (entry->count <= 0)
			continue;
		candidate = row_table_slot(table, entry);
		while (i < table->key->natts &&
			   columns_eq(table->desc, slot, candidate, table->key->attnums[i]))
			i++;
		if (i == table->key->natts)
			return entry;
	}
	return NULL;
}

RowEntry *
row_table_add(RowTable *table, TupleTableSlot *slot, uint64 hash)
{
	RowEntry *entry = row_table_find(table, slot, hash);
	RowBucket *bucket;
	MemoryContext old;
	bool found;

	if (entry != NULL)
		return entry;
	old = MemoryContextSwitchTo(table->context);
	entry = palloc0(sizeof(RowEntry));
	entry->tuple = ExecCopySlotMinimalTuple(slot);
	bucket = rowhash_insert(table->buckets, hash, &found);
	entry->next = found ? bucket->entries : NULL;
	bucket->entries = entry;
	MemoryContextSwitchTo(old);
	return entry;
}

void
row_table_add_tag(RowTable *table, RowEntry *entry, ItemPointer tell)
{
	RowTag *tag = MemoryContextAlloc(table->context, sizeof(RowTag));

	tag->tell = tell;
	tag->next = entry->tags;
	entry->tags = tag;
}

void
row_table_visit(RowTable *table, RowVisitor visit, void *arg)
{
	rowhash_iterator iterator;
	RowBucket *bucket;

	rowhash_start_iterate(table->buckets, &iterator);
	while ((bucket = rowhash_iterate(table->buckets, &iterator)) != NULL)
		for (RowEntry *entry = bucket->entries; entry != NULL; entry = entry->next)
		{
			CHECK_FOR_INTERRUPTS();
			visit(entry, row_table_slot(table, entry), arg);
		}
}

RowTable *
row_table_create(TupleDesc desc, int ncolumns, const RowKey *key)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt rows", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	RowTable *table = palloc0(sizeof(RowTable));

	table->context = context;
	table->desc = desc;
	table->ncolumns = ncolumns;
	table->key = key;
	table->buckets = rowhash_create(context, 64, NULL);
	table->slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	table->scratch = AllocSetContextCreate(context, "pgopt row", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(old);
	return table;
}

void
row_table_free(RowTable *table)
{
	ExecDropSingleTupleTableSlot(table->slot);
	MemoryContextDelete(table->context);
}

/* A refresh is maintenance: it may take as much memory as that. */
int
row_table_parts(Tuplestorestate *store, TupleTableSlot *slot)
{
	int64 rows = tuplestore_tuple_count(store);
	int64 bytes = rows * ENTRY_OVERHEAD;

	if (rows < FEW_ROWS)
		return 1;
	while (tuplestore_gettupleslot(store, true, false, slot))
	{
		bool should_free;
		MinimalTuple tuple = ExecFetchSlotMinimalTuple(slot, &should_free);

		CHECK_FOR_INTERRUPTS();
		bytes += tuple->t_len;
		if (should_free)
			pfree(tuple);
	}
	tuplestore_rescan(store);
	return 1 + (int) (bytes / ((int64) maintenance_work_mem * 1024));
}

/* --- keys -------------------------------------------------------------------------- */

static bool
index_finds_rows(Relation index)
{
	Form_pg_index form = index->rd_index;

	if (!form->indisunique || !form->indimmediate || !form->indisvalid ||
		index->rd_rel->relam != BTREE_AM_OID || RelationGetIndexPredicate(index) != NIL)
		return false;
	for (int i = 0; i < form->indnkeyatts; i++)
		if (form->indkey.values[i] <= 0)
			return false;
	return true;
}

/* Takes ACCESS SHARE on the indexes, to the end of the transaction on the one that it found. */
void
row_key_find(Relation rel, RowKey *key)
{
	List *indexes = RelationGetIndexList(rel);
	ListCell *lc;

	key->index = InvalidOid;
	foreach(lc, indexes)
	{
		Relation index = index_open(lfirst_oid(lc), AccessShareLock);

		if (index_finds_rows(index))
		{
			key->index = lfirst_oid(lc);
			key->natts = index->rd_index->indnkeyatts;
			for (int i = 0; i < key->natts; i++)
				key->attnums[i] = index->rd_index->indkey.values[i];
			index_close(index, NoLock);
			break;
		}
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
}
