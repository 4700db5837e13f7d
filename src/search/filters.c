/*
 * filters.c
 *		Conditions on filter columns: on values, and as bitmaps over a segment.
 *
 * In a segment a column's values are numbered in ascending order, so that a
 * comparison is a range of codes, found by one search in the dictionary.  All
 * conditions on one column come together as one range, or as one bit a code.
 *
 * Memory: what filters_open_segment() makes lives in the current context: 1
 * bit a distinct value for IN lists and other unions, 16 bytes otherwise.
 * Cost: a bitmap reads 1, 2 or 4 bytes a document and condition; conditions
 * that allow every code, and segments without deleted documents, cost nothing.
 */
#include "pgopt.h"

#include "access/skey.h"
#include "access/stratnum.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/array.h"
#include "utils/lsyscache.h"

#include "view.h"

/* --- conditions on values ----------------------------------------------------------- */

static void
prepare_array(const SearchFilterColumn *column, FilterKey *key, Datum array)
{
	ArrayType *values = DatumGetArrayTypeP(array);
	int16 typlen;
	bool typbyval;
	char typalign;
	Datum *elements;
	bool *nulls;
	int n;

	get_typlenbyvalalign(ARR_ELEMTYPE(values), &typlen, &typbyval, &typalign);
	deconstruct_array(
		values, ARR_ELEMTYPE(values), typlen, typbyval, typalign, &elements, &nulls, &n);
	key->values = palloc(Max(n, 1) * sizeof(Datum));
	key->nvalues = 0;
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			key->values[key->nvalues++] = elements[i];
}

ViewFilters *
filters_prepare(const SearchSettings *settings, ScanKey keys, int nkeys)
{
	ViewFilters *filters = palloc0(sizeof(ViewFilters));

	filters->settings = settings;
	filters->keys = palloc0(Max(nkeys, 1) * sizeof(FilterKey));
	for (int i = 0; i < nkeys; i++)
	{
		FilterKey *key = &filters->keys[filters->nkeys];
		const SearchFilterColumn *column;
		int f = 0;

		while (f < settings->nfilters && settings->filters[f].attno != keys[i].sk_attno)
			f++;
		if (f == settings->nfilters)
			elog(ERROR, "column %d is not a filter of the index", keys[i].sk_attno);
		column = &settings->filters[f];
		key->filter = f;
		if (keys[i].sk_flags & SK_SEARCHNULL)
			key->test = FILTER_IS_NULL;
		else if (keys[i].sk_flags & SK_SEARCHNOTNULL)
			key->test = FILTER_IS_NOT_NULL;
		else if (keys[i].sk_flags & SK_ISNULL)
		{
			filters->never = true;
			continue;
		}
		else
		{
			key->test = FILTER_COMPARE;
			key->strategy = keys[i].sk_strategy;
			if (keys[i].sk_flags & SK_SEARCHARRAY)
				prepare_array(column, key, keys[i].sk_argument);
			else
			{
				key->values = palloc(sizeof(Datum));
				key->values[0] = keys[i].sk_argument;
				key->nvalues = 1;
			}
		}
		filters->nkeys++;
	}
	return filters;
}

static bool
key_allows(const ViewFilters *filters, const FilterKey *key, Datum value, bool null)
{
	const SearchFilterColumn *column = &filters->settings->filters[key->filter];

	if (key->test != FILTER_COMPARE)
		return null == (key->test == FILTER_IS_NULL);
	if (null)
		return false;
	for (int i = 0; i < key->nvalues; i++)
	{
		int order = DatumGetInt32(FunctionCall2Coll(
			(FmgrInfo *) &column->compare, column->collation, value, key->values[i]));
		bool holds = false;

		switch (key->strategy)
		{
			case BTLessStrategyNumber:
				holds = order < 0;
				break;
			case BTLessEqualStrategyNumber:
				holds = order <= 0;
				break;
			case BTEqualStrategyNumber:
				holds = order == 0;
				break;
			case BTGreaterEqualStrategyNumber:
				holds = order >= 0;
				break;
			case BTGreaterStrategyNumber:
				holds = order > 0;
				break;
			default:
				elog(ERROR, "unrecognized strategy of a filter: %d", key->strategy);
		}
		if (holds)
			return true;
	}
	return false;
}

bool
filters_allow(ViewFilters *filters, const Datum *values, const bool *nulls)
{
	if (filters->never)
		return false;
	for (int i = 0; i < filters->nkeys; i++)
	{
		const FilterKey *key = &filters->keys[i];

		if (!key_allows(filters, key, values[key->filter], nulls[key->filter]))
			return false;
	}
	return true;
}

/* --- conditions on codes ------------------------------------------------------------- */

static inline bool
code_bit(const uint64 *codes, uint32 code)
{
	return (codes[code / 64] >> (code % 64)) & 1;
}

/* The range of codes for one value of a key; empty when first > last. */
static CodeRange
value_range(ViewSegment *segment, const FilterKey *key, Datum value)
{
	CodeRange range = {1, segment->header->filters[key->filter].nvalues};

	switch (key->strategy)
	{
		case BTLessStrategyNumber:
		case BTLessEqualStrategyNumber:
			range.last = segment_filter_upto(
				segment->reader, key->filter, value, key->strategy == BTLessEqualStrategyNumber);
			break;
		case BTGreaterStrategyNumber:
		case BTGreaterEqualStrategyNumber:
			range.first =
				segment_filter_upto(
					segment->reader, key->filter, value, key->strategy == BTGreaterStrategyNumber) +
				1;
			break;
		case BTEqualStrategyNumber:
			range.first = segment_filter_upto(segment->reader, key->filter, value, false) + 1;
			range.last = segment_filter_upto(segment->reader, key->filter, value, true);
			break;
		default:
			elog(ERROR, "unrecognized strategy of a filter: %d", key->strategy);
	}
	return range;
}

/* Brings a key into the column's codes: ranges meet in a range, anything else in bits. */
static void
narrow_codes(ViewSegment *segment, SegmentFilter *filter, const FilterKey *key)
{
	uint32 nvalues = segment->header->filters[key->filter].nvalues;
	Size nwords = nvalues / 64 + 1;
	CodeRange range;
	uint64 *codes;

	if (key->test == FILTER_IS_NULL)
		range = (CodeRange){0, 0};
	else if (key->test == FILTER_IS_NOT_NULL)
		range = (CodeRange){1, nvalues};
	else if (key->nvalues == 1)
		range = value_range(segment, key, key->values[0]);
	else
		range = (CodeRange){1, 0};

	if (key->test != FILTER_COMPARE || key->nvalues <= 1)
	{
		filter->range.first = Max(filter->range.first, range.first);
		filter->range.last = Min(filter->range.last, range.last);
		return;
	}

	codes = palloc_extended(nwords * sizeof(uint64), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int i = 0; i < key->nvalues; i++)
	{
		CHECK_FOR_INTERRUPTS();
		range = value_range(segment, key, key->values[i]);
		for (uint32 code = range.first; code <= range.last && code <= nvalues; code++)
			codes[code / 64] |= UINT64CONST(1) << (code % 64);
	}
	if (filter->codes == NULL)
		filter->codes = codes;
	else
		for (Size w = 0; w < nwords; w++)
			filter->codes[w] &= codes[w];
}

/* Makes a range of the bits where they are one. */
static void
simplify_codes(SegmentFilter *filter)
{
	uint32 first = filter->range.first;
	uint32 last = filter->range.last;
	uint32 code;

	if (filter->codes == NULL || first > last)
		return;
	while (first <= last && !code_bit(filter->codes, first))
		first++;
	while (last > first && !code_bit(filter->codes, last))
		last--;
	filter->range = (CodeRange){first, last};
	for (code = first; code <= last; code++)
		if (!code_bit(filter->codes, code))
			return;
	filter->codes = NULL;
}

bool
filters_open_segment(ViewFilters *filters, ViewSegment *segment)
{
	const SearchSettings *settings = filters->settings;

	segment->nfilters = 0;
	segment->filters = NULL;
	if (filters->never)
		return false;
	if (filters->nkeys == 0)
		return true;
	segment->filters = palloc0(settings->nfilters * sizeof(SegmentFilter));
	for (int f = 0; f < settings->nfilters; f++)
	{
		SegmentFilter *filter = &segment->filters[segment->nfilters];
		uint32 nvalues = segment->header->filters[f].nvalues;

		*filter = (SegmentFilter){.filter = f, .range = {0, nvalues}};
		for (int i = 0; i < filters->nkeys; i++)
			if (filters->keys[i].filter == f)
				narrow_codes(segment, filter, &filters->keys[i]);
		simplify_codes(filter);
		if (filter->range.first > filter->range.last)
			return false;
		if (filter->codes != NULL || filter->range.first > 0 || filter->range.last < nvalues)
			segment->nfilters++;
	}
	return true;
}

/* --- bitmaps --------------------------------------------------------------------------- */

#define CODES_CHUNK 8192 /* documents; a multiple of 64 */

typedef uint8 Codes8 __attribute__((vector_size(16)));

/* Eight bytes, the lowest bit of each, become eight bits, the first byte the lowest. */
static inline uint64
gather_bits(const uint8 *bytes)
{
	uint64 eight;

	memcpy(&eight, bytes, sizeof(eight));
#ifdef WORDS_BIGENDIAN
	eight = pg_bswap64(eight);
#endif
	return ((eight & UINT64CONST(0x0101010101010101)) * UINT64CONST(0x0102040810204080)) >> 56;
}

static inline uint64
gather_word(const uint8 bytes[64])
{
	uint64 word = 0;

	for (int i = 0; i < 8; i++)
		word |= gather_bits(bytes + i * 8) << (i * 8);
	return word;
}

/* Takes the documents out of a word of bits whose codes the filter's bits do not have; the range has been looked at. */
static uint64
apply_codes(const SegmentFilter *filter, const void *codes, uint32 width, uint64 word)
{
	uint64 allowed = word;

	for (uint64 rest = word; rest != 0; rest &= rest - 1)
	{
		int i = pg_rightmost_one_pos64(rest);
		uint32 code = width == 1   ? ((const uint8 *) codes)[i]
					  : width == 2 ? ((const uint16 *) codes)[i]
								   : ((const uint32 *) codes)[i];

		if (!code_bit(filter->codes, code))
			allowed &= ~(UINT64CONST(1) << i);
	}
	return allowed;
}

/* Takes the documents out of bits whose code is not in the range; one function a width, for the compiler's vectors. */
#define DEFINE_APPLY_RANGE(name, type)                                                       \
	static void name(const SegmentFilter *filter, const void *all, uint32 n, uint64 *bits)   \
	{                                                                                        \
		type first = (type) filter->range.first;                                             \
		type span = (type) (filter->range.last - filter->range.first);                       \
                                                                                             \
		for (uint32 base = 0; base < n; base += 64)                                          \
		{                                                                                    \
			const type *codes = (const type *) all + base;                                   \
			uint8 in_range[64];                                                              \
                                                                                             \
			if (bits[base / 64] == 0)                                                        \
				continue;                                                                    \
			for (int i = 0; i < 64; i++)                                                     \
				in_range[i] = (type) (codes[i] - first) <= span;                             \
			bits[base / 64] &= gather_word(in_range);                                        \
			if (filter->codes != NULL)                                                       \
				bits[base / 64] = apply_codes(filter, codes, sizeof(type), bits[base / 64]); \
		}                                                                                    \
	}
DEFINE_APPLY_RANGE(apply_range_2, uint16)
DEFINE_APPLY_RANGE(apply_range_4, uint32)

/* The same for codes of one byte, with vectors of ours: most filters are of this kind. */
static void
apply_range_1(const SegmentFilter *filter, const uint8 *codes, uint32 n, uint64 *bits)
{
	const Codes8 zero = {0};
	const Codes8 first = zero + (uint8) filter->range.first;
	const Codes8 span = zero + (uint8) (filter->range.last - filter->range.first);

	for (uint32 base = 0; base < n; base += 64)
	{
		uint8 in_range[64];

		if (bits[base / 64] == 0)
			continue;
		for (int i = 0; i < 64; i += sizeof(Codes8))
		{
			Codes8 sixteen;

			memcpy(&sixteen, codes + base + i, sizeof(sixteen));
			sixteen = (Codes8) (sixteen - first <= span);
			memcpy(in_range + i, &sixteen, sizeof(sixteen));
		}
		bits[base / 64] &= gather_word(in_range);
		if (filter->codes != NULL)
			bits[base / 64] = apply_codes(filter, codes + base, 1, bits[base / 64]);
	}
}

/* All filters on one chunk of documents. */
static void
apply_filters(const ViewSegment *segment, uint32 from, uint32 n, uint64 *bits)
{
	uint32 codes[CODES_CHUNK];

	for (int f = 0; f < segment->nfilters; f++)
	{
		const SegmentFilter *filter = &segment->filters[f];
		uint32 width = segment_raw_codes(segment->reader, filter->filter, from, n, codes);

		/* Up to the end of the last word, whose bits are off there. */
		if (n % 64 != 0)
			memset((char *) codes + n * width, 0, (64 - n % 64) * width);
		if (width == 1)
			apply_range_1(filter, (uint8 *) codes, n, bits);
		else if (width == 2)
			apply_range_2(filter, codes, n, bits);
		else
			apply_range_4(filter, codes, n, bits);
	}
}

void
filters_bitmap(const ViewSegment *segment, uint32 from, uint32 n, uint64 *bits)
{
	if (segment->deleted)
	{
		segment_deleted(segment->reader, from, n, bits);
		for (uint32 w = 0; w < (n + 63) / 64; w++)
			bits[w] = ~bits[w];
	}
	else
		memset(bits, 0xFF, (n + 63) / 64 * sizeof(uint64));
	if (n % 64 != 0)
		bits[n / 64] &= (UINT64CONST(1) << (n % 64)) - 1;

	for (uint32 base = 0; base < n && segment->nfilters > 0; base += CODES_CHUNK)
	{
		CHECK_FOR_INTERRUPTS();
		apply_filters(segment, from + base, Min(CODES_CHUNK, n - base), bits + base / 64);
	}
}
