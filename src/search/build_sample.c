/*
 * build_sample.c
 *		Counts the forms of words in a sample of the table, for the restoring
 *		table.
 *
 * Ranges of a few blocks are read in an order that is spread over the table
 * from the first on, each once, until the sample is large enough: the same
 * blocks for the same table.  Rows and columns are those of the index, partial
 * or over expressions.
 *
 * Cost: a second or so, however large the table is.
 */
#include "pgopt.h"

#include "access/tableam.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"

#include "build_private.h"

#define SAMPLE_DOCUMENTS  30000
#define SAMPLE_BYTES      (50 * 1024 * 1024)
#define SAMPLE_FIELD      (64 * 1024) /* bytes of one text */
#define SAMPLE_BLOCKS     16384       /* of the table */
#define BLOCKS_IN_A_RANGE 8

typedef struct Sample
{
	const SearchSettings *settings;
	RestoreBuilder *builder;
	MemoryContext document;
	int documents; /* to go */
	int64 bytes;   /* to go */
} Sample;

static void
sample_row(Relation index, ItemPointer tid, Datum *values, bool *isnull, bool alive, void *state)
{
	Sample *sample = state;
	MemoryContext old;

	if (sample->documents <= 0 || sample->bytes <= 0)
		return;
	old = MemoryContextSwitchTo(sample->document);
	for (int field = 0; field < sample->settings->nfields; field++)
	{
		int column = sample->settings->fields[field] - 1;
		struct varlena *text;
		int length;

		if (isnull[column])
			continue;
		text = PG_DETOAST_DATUM_SLICE(values[column], 0, SAMPLE_FIELD);
		length = VARSIZE_ANY_EXHDR(text);
		/* The cut may be within a character. */
		length = pg_mbcliplen(
			VARDATA_ANY(text), length, Min(length, SAMPLE_FIELD - MAX_MULTIBYTE_CHAR_LEN));
		restore_builder_add(sample->builder, VARDATA_ANY(text), length);
		sample->bytes -= length;
	}
	sample->documents--;
	MemoryContextSwitchTo(old);
	MemoryContextReset(sample->document);
}

static uint32
greatest_common_divisor(uint32 a, uint32 b)
{
	while (b != 0)
	{
		uint32 rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

/* The restoring table's bytes, palloc'd. */
bytea *
build_sample(Relation heap, Relation index, IndexInfo *info, uint32 *nwords)
{
	BlockNumber nblocks = RelationGetNumberOfBlocks(heap);
	uint32 nranges = (nblocks + BLOCKS_IN_A_RANGE - 1) / BLOCKS_IN_A_RANGE;
	uint32 step = (uint32) (nranges * 0.6180339887) + 1;
	uint32 range = 0;
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt sample", ALLOCSET_DEFAULT_SIZES);
	Sample sample = {
		.settings = build_copy_settings(index, context),
		.builder = restore_builder_create(context),
		.document =
			AllocSetContextCreate(context, "pgopt sampled document", ALLOCSET_DEFAULT_SIZES),
		.documents = SAMPLE_DOCUMENTS,
		/* The forms take less memory than the text. */
		.bytes = Min(SAMPLE_BYTES, (int64) maintenance_work_mem * 1024),
	};
	bytea *result;

	while (greatest_common_divisor(step, nranges) > 1)
		step++;
	for (uint32 i = 0; i < Min(nranges, SAMPLE_BLOCKS / BLOCKS_IN_A_RANGE); i++)
	{
		BlockNumber first = range * BLOCKS_IN_A_RANGE;

		CHECK_FOR_INTERRUPTS();
		table_index_build_range_scan(heap,
									 index,
									 info,
									 false,
									 false,
									 false,
									 first,
									 Min(BLOCKS_IN_A_RANGE, nblocks - first),
									 sample_row,
									 &sample,
									 NULL);
		if (sample.documents <= 0 || sample.bytes <= 0)
			break;
		range = ((uint64) range + step) % nranges;
	}
	result = restore_builder_finish(sample.builder, nwords);
	MemoryContextDelete(context);
	return result;
}
