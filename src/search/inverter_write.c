/*
 * inverter_write.c
 *		From the inverter's memory to a segment: terms, words and values in order.
 *
 * Memory: 16 bytes a term, then 16 a word.  Cost: a sort by the first bytes of
 * terms and words, and one pass over the chunks of postings.
 */
#include "pgopt.h"

#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/memutils.h"

#include "compat.h"
#include "inverter_private.h"

static int
compare_keys(const InverterSortKey *a, const InverterSortKey *b, int key_at)
{
	if (a->prefix != b->prefix)
		return a->prefix < b->prefix ? -1 : 1;
	return term_compare(
		(char *) a->entry + key_at, a->entry->length, (char *) b->entry + key_at, b->entry->length);
}

#define ST_SORT               sort_keys
#define ST_ELEMENT_TYPE       InverterSortKey
#define ST_COMPARE(a, b, arg) compare_keys(a, b, *(arg))
#define ST_COMPARE_ARG_TYPE   const int
#define ST_SCOPE              static
#define ST_CHECK_FOR_INTERRUPTS
#define ST_DEFINE
#include "lib/sort_template.h"

/* Reads a term's chunks. */
typedef struct ChunkReader
{
	const char *read;
	const char *end;
	uint16 chunk;
} ChunkReader;

static uint64
get_number_across(ChunkReader *reader)
{
	uint64 number = 0;

	for (int shift = 0;; shift += 7)
	{
		uint8 byte;

		if (reader->read == reader->end)
		{
			memcpy(&reader->read, reader->end, sizeof(char *));
			reader->chunk = Min(2 * reader->chunk, MAX_CHUNK);
			reader->end = reader->read + reader->chunk;
		}
		byte = (uint8) *reader->read++;
		number |= (uint64) (byte & 0x7F) << shift;
		if (byte < 0x80)
			return number;
	}
}

static inline uint64
get_number(ChunkReader *reader)
{
	const char *from = reader->read;
	uint64 number;

	if (reader->end - from < MAX_VARINT)
		return get_number_across(reader);
	number = (uint8) *from++;
	if (number >= 0x80)
	{
		number &= 0x7F;
		for (int shift = 7;; shift += 7)
		{
			uint8 byte = (uint8) *from++;

			number |= (uint64) (byte & 0x7F) << shift;
			if (byte < 0x80)
				break;
		}
	}
	reader->read = from;
	return number;
}

/* A table's entries in the order of their keys; palloc'd. */
static InverterSortKey *
sorted_keys(Inverter *inverter, InverterTable *table)
{
	InverterSortKey *keys =
		MemoryContextAllocHuge(inverter->document, table->n * sizeof(InverterSortKey));
	uint32 n = 0;

	for (uint32 i = 0; i < table->size; i++)
	{
		InverterEntry *entry = table->slots[i];
		uint64 prefix = 0;

		if (entry == NULL)
			continue;
		memcpy(&prefix, (char *) entry + table->key_at, Min(entry->length, sizeof(prefix)));
		keys[n].prefix = pg_ntoh64(prefix);
		keys[n].entry = entry;
		n++;
	}
	Assert(n == table->n);
	sort_keys(keys, n, &table->key_at);
	return keys;
}

static void
write_term(Inverter *inverter, SegmentWriter *writer, const InverterTerm *term)
{
	const SearchSettings *settings = inverter->settings;
	ChunkReader reader = {term->first, term->first + FIRST_CHUNK, FIRST_CHUNK};
	uint32 document = 0;

	segment_writer_begin_term(writer, term->term, term->entry.length);
	for (uint32 i = 0; i < term->df; i++)
	{
		uint32 tf[SEARCH_MAX_FIELDS] = {0};
		uint64 occurrences;
		Size npositions = 0;

		document += (uint32) get_number(&reader);
		occurrences = get_number(&reader);
		if (occurrences & 1)
		{
			npositions = (occurrences >> 1) / settings->nfields;
			tf[(occurrences >> 1) % settings->nfields] = (uint32) npositions;
		}
		else
		{
			for (int field = 0; field < settings->nfields; field++)
			{
				if (occurrences >> 1 & (uint64) 1 << field)
				{
					tf[field] = (uint32) get_number(&reader);
					npositions += tf[field];
				}
			}
		}
		if (settings->positions)
		{
			uint32 position = 0;

			if (npositions > inverter->positions_allocated)
			{
				inverter->positions_allocated = Max(2 * npositions, 1024);
				inverter->positions = inverter_grow(
					inverter, inverter->positions, inverter->positions_allocated * sizeof(uint32));
			}
			for (Size p = 0; p < npositions; p++)
			{
				position += (uint32) get_number(&reader);
				inverter->positions[p] = position;
			}
		}
		else
			npositions = 0;
		segment_writer_add_posting(writer, document, tf, inverter->positions, (uint32) npositions);
	}
	segment_writer_end_term(writer);
}

static Datum
filter_datum(const SearchFilterColumn *column, InverterValue *entry)
{
	return column->typbyval ? entry->value.datum : PointerGetDatum(entry->value.bytes);
}

/* By value; which of several equal ones stands for them is settled by the order in which they came. */
static int
compare_values(const void *a, const void *b, void *arg)
{
	InverterValue *x = *(InverterValue *const *) a;
	InverterValue *y = *(InverterValue *const *) b;
	SearchFilterColumn *column = arg;
	int order;

	CHECK_FOR_INTERRUPTS();
	order = DatumGetInt32(FunctionCall2Coll(
		&column->compare, column->collation, filter_datum(column, x), filter_datum(column, y)));
	if (order == 0)
		return x->code < y->code ? -1 : x->code > y->code;
	return order;
}

static void
write_filter(Inverter *inverter, SegmentWriter *writer, int filter)
{
	SearchFilterColumn column = inverter->settings->filters[filter];
	const InverterFilter *state = &inverter->filters[filter];
	uint32 n = state->values.n;
	InverterValue **values = palloc_extended((Size) n * sizeof(InverterValue *), MCXT_ALLOC_HUGE);
	uint32 *codes = palloc_extended(((Size) n + 1) * sizeof(uint32), MCXT_ALLOC_HUGE);
	uint32 nvalues = 0;

	for (uint32 i = 0, at = 0; i < state->values.size; i++)
	{
		if (state->values.slots[i] != NULL)
			values[at++] = (InverterValue *) state->values.slots[i];
	}
	qsort_arg(values, n, sizeof(InverterValue *), compare_values, &column);
	codes[0] = 0;
	for (uint32 i = 0; i < n; i++)
	{
		if (i == 0 || DatumGetInt32(FunctionCall2Coll(&column.compare,
													  column.collation,
													  filter_datum(&column, values[i - 1]),
													  filter_datum(&column, values[i]))) != 0)
			values[nvalues++] = values[i];
		codes[values[i]->code] = nvalues;
	}
	segment_writer_begin_filter(writer, filter, nvalues);
	for (uint32 i = 0; i < nvalues; i++)
		segment_writer_add_filter_value(writer, filter_datum(&column, values[i]));
	for (uint32 i = 0; i < inverter->ndocs; i++)
	{
		segment_writer_add_filter_code(writer, codes[state->codes[i]]);
		if (i % 65536 == 0)
			CHECK_FOR_INTERRUPTS();
	}
	pfree(values);
	pfree(codes);
}

void
inverter_write(Inverter *inverter, SegmentWriter *writer)
{
	InverterSortKey *keys;

	for (uint32 i = 0; i < inverter->ndocs; i++)
	{
		segment_writer_add_document(writer, &inverter->tids[i], inverter->lengths[i]);
		if (i % 65536 == 0)
			CHECK_FOR_INTERRUPTS();
	}
	for (int f = 0; f < inverter->settings->nfilters; f++)
		write_filter(inverter, writer, f);

	keys = sorted_keys(inverter, &inverter->terms);
	for (uint32 i = 0; i < inverter->terms.n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		write_term(inverter, writer, (InverterTerm *) keys[i].entry);
	}
	pfree(keys);

	keys = sorted_keys(inverter, &inverter->words);
	for (uint32 i = 0; i < inverter->words.n; i++)
	{
		const InverterWord *word = (InverterWord *) keys[i].entry;

		CHECK_FOR_INTERRUPTS();
		segment_writer_add_word(writer, word->word, word->entry.length, word->df);
	}
	pfree(keys);
}
