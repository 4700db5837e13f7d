/*
 * size_gin.c
 *		How large a GIN index would be.
 *
 * The keys of the sample's rows are extracted by the operator class itself.  A
 * key has a tuple in the tree of entries, with the places of its rows, packed
 * as differences of seven bits a byte; where these are too many for a tuple
 * they are a tree of their own, of full pages.
 *
 * Cost: the operator class's extraction, of as many rows as EXTRACT_KEYS allow.
 */
#include "pgopt.h"

#include <math.h>

#include "access/gin.h"
#include "access/ginblock.h"
#include "access/gin_private.h"
#include "access/itup.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/bufpage.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "compat.h"
#include "hypothetical.h"
#include "hypothetical_private.h"
#include "rows.h"
#include "size.h"

/* Extraction ends after so many keys, or bytes of values, but not before that many rows: 5 to 10 milliseconds each. */
#define EXTRACT_KEYS  65536
#define EXTRACT_BYTES (2 * 1024 * 1024)
#define EXTRACT_ROWS  100

/*
 * What of the tree's pages is used: entries come in order, and a page that is
 * full is cut in the middle.
 */
#define ENTRY_FILL 0.52

/* Bytes of a list of places that is a tuple's, before it is made a tree; of one in a page of a tree. */
#define LIST_HEADER      8
#define SEGMENT_SIZE     256

#define ENTRY_PAGE_SPACE (BLCKSZ - SizeOfPageHeaderData - MAXALIGN(sizeof(GinPageOpaqueData)))

/* A key of the sample. */
typedef struct Key
{
	uint32 hash;
	int count; /* rows */
	int bytes; /* of the key */
} Key;

typedef struct Keys
{
	MemoryContext context;
	Key *keys;
	uint32 size;
	int used;
	int once;
	double bytes; /* of all distinct keys */
	double total; /* keys of all rows */
	int rows;
} Keys;

static void
grow(Keys *keys)
{
	Key *old = keys->keys;
	uint32 size = keys->size;

	keys->size = size > 0 ? size * 2 : 4096;
	keys->keys = MemoryContextAllocZero(keys->context, sizeof(Key) * keys->size);
	for (uint32 i = 0; i < size; i++)
	{
		uint32 slot = old[i].hash & (keys->size - 1);

		if (old[i].count == 0)
			continue;
		while (keys->keys[slot].count != 0)
			slot = (slot + 1) & (keys->size - 1);
		keys->keys[slot] = old[i];
	}
	if (old != NULL)
		pfree(old);
}

static void
add_key(Keys *keys, uint32 hash, int bytes)
{
	uint32 slot;

	if (keys->used * 2 >= (int) keys->size)
		grow(keys);
	for (slot = hash & (keys->size - 1);
		 keys->keys[slot].count != 0 && keys->keys[slot].hash != hash;)
		slot = (slot + 1) & (keys->size - 1);
	if (keys->keys[slot].count == 0)
	{
		keys->keys[slot].hash = hash;
		keys->keys[slot].bytes = bytes;
		keys->bytes += bytes;
		keys->used++;
	}
	keys->keys[slot].count++;
	keys->once += keys->keys[slot].count == 1 ? 1 : keys->keys[slot].count == 2 ? -1 : 0;
	keys->total++;
}

static int
datum_bytes(Datum value, int16 length)
{
	if (length > 0)
		return length;
	if (length == -2)
		return strlen(DatumGetCString(value)) + 1;
	return VARSIZE_ANY_EXHDR(DatumGetPointer(value)) + 1;
}

static uint32
datum_hash(Datum value, int16 length, bool byval, int column)
{
	uint32 hash;

	if (byval)
		hash = hash_combine(murmurhash32((uint32) value), (uint32) ((uint64) value >> 32));
	else if (length == -1)
		hash = hash_bytes((unsigned char *) VARDATA_ANY(DatumGetPointer(value)),
						  VARSIZE_ANY_EXHDR(DatumGetPointer(value)));
	else
		hash = hash_bytes((unsigned char *) DatumGetPointer(value), datum_bytes(value, length));
	return hash_combine(hash, column);
}

/* The keys of one row's value. */
static void
extract_row(Keys *keys, FmgrInfo *extract, const HypotheticalColumn *col, Datum value, int16 length,
			bool byval, int column)
{
	int32 n = 0;
	bool *nulls = NULL;
	Datum *found = (Datum *) DatumGetPointer(FunctionCall3Coll(
		extract, col->collation, value, PointerGetDatum(&n), PointerGetDatum(&nulls)));
	uint32 *seen = palloc(sizeof(uint32) * Max(n, 1));
	int nseen = 0;

	for (int i = 0; i < n; i++)
	{
		bool isnull = nulls != NULL && nulls[i];
		uint32 hash =
			isnull ? hash_combine(1, column) : datum_hash(found[i], length, byval, column);
		bool twice = false;

		/* A row is listed once under a key; long lists of keys have few twice, and are not searched. */
		for (int j = Max(0, nseen - 64); j < nseen && !twice; j++)
			twice = seen[j] == hash;
		seen[nseen++] = hash;
		if (!twice)
			add_key(keys, hash, isnull ? 0 : datum_bytes(found[i], length));
	}
	if (n == 0)
		add_key(keys, hash_combine(2, column), 0);
}

static void
extract_column(const SizeInput *input, int i, Keys *keys)
{
	const HypotheticalColumn *col = &input->index->columns[i];
	const RowColumn *column = input->columns[i];
	Oid family = get_opclass_family(col->opclass);
	Oid type = get_opclass_input_type(col->opclass);
	Oid key_type = input->forms[i].type;
	MemoryContext scratch =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt keys", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;
	FmgrInfo extract;
	int16 length;
	bool byval;
	char align;
	Size bytes = 0;

	memset(keys, 0, sizeof(Keys));
	keys->context = CurrentMemoryContext;
	/* An array's elements are the keys where the operator class is for all arrays. */
	if (type == ANYARRAYOID)
		key_type = get_base_element_type(col->type);
	get_typlenbyvalalign(key_type, &length, &byval, &align);
	fmgr_info(get_opfamily_proc(family, type, type, GIN_EXTRACTVALUE_PROC), &extract);
	grow(keys);
	old = MemoryContextSwitchTo(scratch);
	for (int row = 0; row < input->nrows && column->known; row++)
	{
		if (input->filter != NULL && !input->filter->passes[row])
			continue;
		CHECK_FOR_INTERRUPTS();
		if (keys->rows >= EXTRACT_ROWS && (keys->total >= EXTRACT_KEYS || bytes >= EXTRACT_BYTES))
			break;
		keys->rows++;
		if (column->nulls[row])
			add_key(keys, hash_combine(3, i), 0);
		else
		{
			bytes += rows_raw_bytes(column->values[row], column->form.attlen);
			extract_row(keys, &extract, col, column->values[row], length, byval, i);
		}
		MemoryContextReset(scratch);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
}

/* --- pages ---------------------------------------------------------------------------- */

typedef struct Pages
{
	double entries;
	double entry_bytes; /* of the leaves of the tree of entries */
	double key_bytes;
	double data;
} Pages;

/*
 * Bytes of the places of rows rows out of all: differences within a block take
 * one byte, those to a later block as many as seven bits a byte need for the
 * blocks between, which follow the geometric distribution.
 */
static double
places_bytes(const SizeInput *input, double rows)
{
	double all = Max(input->index->table_rows, rows);
	double blocks = Max(input->sample->blocks, 1);
	double hit = 1 - pow(1 - Min(rows / all, 1), Max(all / blocks, 1));
	double jumps = Min(rows, blocks * hit);
	double near = pow(1 - hit, 7);
	double far = pow(1 - hit, 1023);
	double farther = pow(1 - hit, 131071);

	return (rows - jumps) + jumps * (2 + near + far + farther);
}

/* So many keys, each in so many rows. */
static void
add_entries(Pages *pages, const SizeInput *input, double keys, double key_bytes, double rows)
{
	double places = places_bytes(input, rows);
	double tuple = sizeof(IndexTupleData) + key_bytes;

	pages->entries += keys;
	pages->key_bytes += keys * key_bytes;
	if (tuple + LIST_HEADER + places <= GinMaxItemSize)
		tuple += LIST_HEADER + places;
	else
	{
		double leaves = places * (1 + (double) LIST_HEADER / SEGMENT_SIZE) / GinDataPageMaxDataSize;

		leaves = leaves <= 1 ? 1 : leaves <= 3 ? ceil(leaves) : leaves + 0.5;
		if (leaves > 1)
			leaves += 1 + floor(leaves * sizeof(PostingItem) / GinDataPageMaxDataSize);
		pages->data += keys * leaves;
	}
	/* Of many, half of what alignment may cost on average. */
	tuple = keys > 1 ? tuple + (MAXIMUM_ALIGNOF - 1) / 2.0 : MAXALIGN((Size) tuple);
	pages->entry_bytes += keys * (tuple + sizeof(ItemIdData));
}

static void
add_column(Pages *pages, const SizeInput *input, const Keys *keys)
{
	const HypotheticalIndex *index = input->index;
	double scale = index->rows / keys->rows;
	double rest = keys->total;
	double rest_bytes = keys->bytes;
	int rest_keys = keys->used;
	double attribute = index->nkeys > 1 ? sizeof(int16) : 0;
	double distinct;

	for (uint32 i = 0; i < keys->size; i++)
	{
		const Key *key = &keys->keys[i];

		if (key->count < HEAVY_COUNT && (scale > 1 || key->count == 0))
			continue;
		add_entries(pages, input, 1, key->bytes + attribute, Max(key->count * scale, 1));
		rest -= key->count;
		rest_bytes -= key->bytes;
		rest_keys--;
	}
	if (rest_keys == 0)
		return;
	/* Each pair of a row and a key is one of the population. */
	distinct = Max(1, size_estimate_distinct(rest, rest_keys, keys->once, rest * scale));
	add_entries(pages,
				input,
				distinct,
				rest_bytes / rest_keys + attribute,
				Max(1, rest * scale / distinct));
}

void
size_gin(SizeInput *input)
{
	HypotheticalIndex *index = input->index;
	Pages pages = {0};
	double leaves;
	double inner;

	for (int i = 0; i < index->nkeys; i++)
	{
		Keys keys;

		extract_column(input, i, &keys);
		if (keys.rows > 0 && index->rows >= 1)
			add_column(&pages, input, &keys);
		else
			/* Nothing is known of it: a few keys a row, each in a few rows. */
			add_entries(&pages, input, index->rows, sizeof(int64), 3);
	}
	leaves = ceil(pages.entry_bytes /
				  (ENTRY_PAGE_SPACE * (pages.entry_bytes > ENTRY_PAGE_SPACE ? ENTRY_FILL : 1)));
	leaves = Max(leaves, 1);
	inner =
		leaves > 1
			? ceil(leaves *
				   (MAXALIGN((Size) (sizeof(IndexTupleData) + pages.key_bytes / pages.entries)) +
					sizeof(ItemIdData)) /
				   (ENTRY_PAGE_SPACE * ENTRY_FILL))
			: 0;
	index->entries = pages.entries;
	index->entry_pages = leaves + inner;
	index->data_pages = pages.data;
	/* The first page has statistics. */
	index->pages = (BlockNumber) Min(1 + leaves + inner + pages.data, MaxBlockNumber);
}
