/*
 * segment_merge.c
 *		Makes one segment of several.
 *
 * Documents are numbered anew, in the order of the readers and leaving out
 * the deleted ones.  Terms, words and the values of filters are merged by a
 * heap of the readers.  A term's blocks lie one behind the other, as do its
 * positions, so that they are read along the streams, page by page, without
 * skip entries; differences of positions are copied as they are.
 *
 * Memory: see segment.h.  Locks: none between pages (segment.h).
 */
#include "postgres.h"

#include "lib/binaryheap.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/memutils.h"

#include "score.h"
#include "segment_private.h"

#define NO_DOCUMENT PG_UINT32_MAX

/* One of the segments being merged. */
typedef struct MergeSource
{
	SegmentReader *reader;
	uint32 base;     /* what is added to its documents, when none is deleted ... */
	uint32 *numbers; /* ... or the new number of each, or NO_DOCUMENT; NULL: none is deleted */
	/* postings */
	TermCursor *terms;
	const char *term;
	int length;
	TermInfo info;
	SegmentPage postings;
	SegmentPage positions;
	/* words */
	WordCursor *words;
	uint32 df;
	/* values of a filter */
	SegmentPage values;
	uint32 values_page; /* of the dictionary */
	uint32 value_i;     /* on the page */
	uint32 value_code;
	Datum value;
	uint8 *used;   /* by code: does a live document have it? NULL: all */
	uint32 *codes; /* new ones */
} MergeSource;

typedef struct MergeState
{
	SegmentWriter *writer;
	int nsources;
	MergeSource *sources;
	const SearchFilterColumn *column; /* of the values that are compared */
	/* a block of postings */
	uint32 docs[SEARCH_BLOCK_SIZE];
	uint32 tf[SEARCH_MAX_FIELDS][SEARCH_BLOCK_SIZE];
	uint32 counts[SEARCH_BLOCK_SIZE]; /* positions of each */
} MergeState;

/* Pages read one after the other must be there: nobody replaces what is being merged. */
static void
check_stale(const MergeSource *source)
{
	if (*source->reader->stale)
		elog(ERROR, "segment was replaced while it was merged");
}

/* --- documents -------------------------------------------------------------------------- */

#define MERGE_CHUNK 4096 /* documents at a time */

static void
merge_documents(MergeState *state, MergeSource *source)
{
	SegmentWriter *writer = state->writer;
	SegmentReader *reader = source->reader;
	const SegmentHeader *header = reader->header;
	ItemPointerData *tids = palloc(MERGE_CHUNK * sizeof(ItemPointerData));
	uint8 *lengths = palloc(MERGE_CHUNK);
	uint64 *deleted = palloc(MERGE_CHUNK / 8);
	double all = 0;
	double gone = 0;

	source->base = writer->header->ndocs;
	for (uint32 from = 0; from < header->ndocs; from += MERGE_CHUNK)
	{
		uint32 n = Min(MERGE_CHUNK, header->ndocs - from);

		CHECK_FOR_INTERRUPTS();
		segment_tids(reader, from, n, tids);
		segment_lengths(reader, from, n, lengths);
		segment_deleted(reader, from, n, deleted);
		check_stale(source);
		for (uint32 i = 0; i < n; i++)
		{
			bool live = (deleted[i / 64] >> i % 64 & 1) == 0;

			all += length_decode(lengths[i]);
			if (!live && source->numbers == NULL)
			{
				source->numbers = MemoryContextAllocHuge(CurrentMemoryContext,
														 (Size) header->ndocs * sizeof(uint32));
				for (uint32 doc = 0; doc < from + i; doc++)
					source->numbers[doc] = source->base + doc;
			}
			if (source->numbers != NULL)
				source->numbers[from + i] = live ? writer->header->ndocs : NO_DOCUMENT;
			if (live)
				writer_add_document(writer, &tids[i], lengths[i]);
			else
				gone += length_decode(lengths[i]);
		}
	}
	if (all > gone)
		writer->header->total_length +=
			(uint64) rint((double) header->total_length * ((all - gone) / all));
	pfree(tids);
	pfree(lengths);
	pfree(deleted);
}

/* --- filters ---------------------------------------------------------------------------- */

static int
compare_values(Datum a, Datum b, void *arg)
{
	const MergeState *state = arg;
	const MergeSource *left = &state->sources[DatumGetInt32(a)];
	const MergeSource *right = &state->sources[DatumGetInt32(b)];
	int order = filter_compare(state->column, left->value, right->value);

	/* The heap gives the greatest first. */
	return order != 0 ? -order : DatumGetInt32(b) - DatumGetInt32(a);
}

/* The next value that is in use; false at the end. */
static bool
next_value(MergeSource *source, int filter)
{
	const FilterHeader *header = &source->reader->header->filters[filter];

	do
	{
		if (source->value_code == header->nvalues)
			return false;
		source->value_code++;
		source->value_i++;
		if (source->value_code == 1 ||
			source->value_i >= ((const FilterPage *) SegmentPageContent(&source->values))->nvalues)
		{
			CHECK_FOR_INTERRUPTS();
			source->values_page = source->value_code == 1 ? 0 : source->values_page + 1;
			source->value_i = 0;
			if (source->values_page >= header->dictionary_pages)
				segment_corrupted(source->reader,
								  header->dictionary_page,
								  "begins a filter's values, but some are missing");
			segment_filter_page(source->reader, filter, source->values_page, &source->values);
			check_stale(source);
		}
	} while (source->used != NULL && !source->used[source->value_code]);
	source->value = segment_filter_datum(source->reader, filter, &source->values, source->value_i);
	return true;
}

/* Which codes do live documents have? */
static void
find_used_codes(MergeSource *source, int filter)
{
	const SegmentHeader *header = source->reader->header;
	uint32 *codes = palloc(MERGE_CHUNK * sizeof(uint32));

	source->used = MemoryContextAllocExtended(CurrentMemoryContext,
											  (Size) header->filters[filter].nvalues + 1,
											  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (uint32 from = 0; from < header->ndocs; from += MERGE_CHUNK)
	{
		uint32 n = Min(MERGE_CHUNK, header->ndocs - from);

		CHECK_FOR_INTERRUPTS();
		segment_codes(source->reader, filter, from, n, codes);
		check_stale(source);
		for (uint32 i = 0; i < n; i++)
		{
			if (source->numbers[from + i] != NO_DOCUMENT)
				source->used[codes[i]] = 1;
		}
	}
	pfree(codes);
}

static void
write_codes(SegmentWriter *writer, MergeSource *source, int filter)
{
	const SegmentHeader *header = source->reader->header;
	uint32 *codes = palloc(MERGE_CHUNK * sizeof(uint32));

	for (uint32 from = 0; from < header->ndocs; from += MERGE_CHUNK)
	{
		uint32 n = Min(MERGE_CHUNK, header->ndocs - from);

		CHECK_FOR_INTERRUPTS();
		segment_codes(source->reader, filter, from, n, codes);
		check_stale(source);
		for (uint32 i = 0; i < n; i++)
		{
			if (source->numbers == NULL || source->numbers[from + i] != NO_DOCUMENT)
				segment_writer_add_filter_code(writer, source->codes[codes[i]]);
		}
	}
	pfree(codes);
}

static void
merge_filter(MergeState *state, int filter)
{
	SegmentWriter *writer = state->writer;
	binaryheap *heap = binaryheap_allocate(state->nsources, compare_values, state);
	Datum last = (Datum) 0;
	uint32 code = 0;

	state->column = &writer->settings->filters[filter];
	writer_begin_filter(writer, filter);
	for (int i = 0; i < state->nsources; i++)
	{
		MergeSource *source = &state->sources[i];

		source->value_code = 0;
		source->values_page = 0;
		source->used = NULL;
		if (source->numbers != NULL)
			find_used_codes(source, filter);
		source->codes = MemoryContextAllocExtended(
			CurrentMemoryContext,
			((Size) source->reader->header->filters[filter].nvalues + 1) * sizeof(uint32),
			MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
		if (next_value(source, filter))
			binaryheap_add_unordered(heap, Int32GetDatum(i));
	}
	binaryheap_build(heap);

	while (!binaryheap_empty(heap))
	{
		int i = DatumGetInt32(binaryheap_first(heap));
		MergeSource *source = &state->sources[i];

		if (code == 0 || filter_compare(state->column, last, source->value) != 0)
		{
			if (code > 0 && !state->column->typbyval)
				pfree(DatumGetPointer(last));
			segment_writer_add_filter_value(writer, source->value);
			last = datumCopy(source->value, state->column->typbyval, state->column->typlen);
			code++;
		}
		source->codes[source->value_code] = code;
		if (next_value(source, filter))
			binaryheap_replace_first(heap, Int32GetDatum(i));
		else
			binaryheap_remove_first(heap);
	}
	if (code > 0 && !state->column->typbyval)
		pfree(DatumGetPointer(last));
	binaryheap_free(heap);

	for (int i = 0; i < state->nsources; i++)
	{
		MergeSource *source = &state->sources[i];

		write_codes(writer, source, filter);
		if (source->used != NULL)
			pfree(source->used);
		pfree(source->codes);
	}
}

/* --- terms ------------------------------------------------------------------------------ */

static int
compare_terms(Datum a, Datum b, void *arg)
{
	const MergeState *state = arg;
	const MergeSource *left = &state->sources[DatumGetInt32(a)];
	const MergeSource *right = &state->sources[DatumGetInt32(b)];
	int order = key_compare(left->term, left->length, right->term, right->length);

	return order != 0 ? -order : DatumGetInt32(b) - DatumGetInt32(a);
}

/*
 * The page that a stream's next bytes are on: the leaf itself for an inlined
 * term, else the one at hand or another one.
 */
static const SegmentPage *
stream_page(MergeSource *source, SegmentPage *copy, SegmentPointer pointer)
{
	const SegmentPage *leaf = term_cursor_leaf(source->terms);
	uint32 page = SegmentPointerPage(pointer);

	if (page == leaf->page)
		return leaf;
	if (page != copy->page)
	{
		segment_copy_page(source->reader, page, copy);
		check_stale(source);
	}
	return copy;
}

/* The same, on the next page when nothing is left on this one. */
static const SegmentPage *
stream_next(MergeSource *source, SegmentPage *copy, uint32 *offset, const SegmentPage *page)
{
	if (*offset < page->length)
		return page;
	*offset = 0;
	page = stream_page(source, copy, SEGMENT_POINTER(page->next, 0));
	if (page->length == 0)
		segment_corrupted(source->reader, page->page, "is empty");
	return page;
}

/* The differences of positions of a block, being copied. */
typedef struct PlacesCopy
{
	const SegmentPage *page;
	uint32 offset;
	uint64 left; /* in the packs not yet read */
	uint32 have; /* of the pack at hand ... */
	uint32 used;
	uint32 places[SEARCH_BLOCK_SIZE];
} PlacesCopy;

/* Gives the next n of them to the writer, or nobody. */
static void
copy_places(MergeState *state, MergeSource *source, PlacesCopy *copy, uint64 n, bool keep)
{
	while (n > 0)
	{
		uint32 count;

		if (copy->used == copy->have)
		{
			uint32 size;

			CHECK_FOR_INTERRUPTS();
			copy->page = stream_next(source, &source->positions, &copy->offset, copy->page);
			copy->have = (uint32) Min(SEARCH_BLOCK_SIZE, copy->left);
			size = unpack_numbers(SegmentPageContent(copy->page) + copy->offset,
								  copy->page->length - copy->offset,
								  copy->have,
								  0,
								  copy->places);
			if (size == 0)
				segment_corrupted(source->reader, copy->page->page, "has wrong positions");
			copy->offset += size;
			copy->left -= copy->have;
			copy->used = 0;
		}
		count = (uint32) Min(n, copy->have - copy->used);
		if (keep)
			writer_add_places(state->writer, copy->places + copy->used, count);
		copy->used += count;
		n -= count;
	}
}

/* Adds postings [from, from + n) of the block to the writer's, where there is room for them. */
static void
append_postings(MergeState *state, const MergeSource *source, uint32 fields, int from, int n)
{
	SegmentWriter *writer = state->writer;
	int to = writer->n;

	if (source->numbers == NULL)
	{
		for (int i = 0; i < n; i++)
			writer->docs[to + i] = state->docs[from + i] + source->base;
	}
	else
	{
		for (int i = 0; i < n; i++)
			writer->docs[to + i] = source->numbers[state->docs[from + i]];
	}
	for (int field = 0; field < writer->header->nfields; field++)
	{
		if (fields & ((uint32) 1 << field))
			memcpy(writer->tf[field] + to, state->tf[field] + from, n * sizeof(uint32));
		else
			memset(writer->tf[field] + to, 0, n * sizeof(uint32));
	}
	writer->n += n;
	writer->info.df += n;
}

/* Adds a source's postings of the term at hand. */
static void
merge_postings(MergeState *state, MergeSource *source)
{
	SegmentWriter *writer = state->writer;
	SegmentReader *reader = source->reader;
	bool positions = writer->settings->positions;
	const SegmentPage *page = stream_page(source, &source->postings, source->info.postings);
	uint32 offset = SegmentPointerOffset(source->info.postings);
	uint32 left = source->info.df;
	int64 previous = -1;
	PlacesCopy places;

	if (positions)
	{
		places.page = stream_page(source, &source->positions, source->info.positions);
		places.offset = SegmentPointerOffset(source->info.positions);
	}
	while (left > 0)
	{
		int n = (int) Min(SEARCH_BLOCK_SIZE, left);
		uint32 fields, size;

		CHECK_FOR_INTERRUPTS();
		page = stream_next(source, &source->postings, &offset, page);
		size = block_decode(SegmentPageContent(page) + offset,
							page->length - offset,
							n,
							reader->header->nfields,
							previous,
							reader->header->ndocs,
							state->docs,
							state->tf,
							&fields);
		if (size == 0)
			segment_corrupted(reader, page->page, "has a wrong block of postings");
		offset += size;
		left -= n;
		previous = state->docs[n - 1];

		if (positions)
		{
			places.left = 0;
			places.have = 0;
			places.used = 0;
			memset(state->counts, 0, sizeof(state->counts));
			for (uint32 rest = fields; rest != 0; rest &= rest - 1)
			{
				const uint32 *tf = state->tf[pg_rightmost_one_pos32(rest)];

				for (int i = 0; i < n; i++)
					state->counts[i] += tf[i];
			}
			for (int i = 0; i < n; i++)
				places.left += state->counts[i];
		}

		/* As many as live, and fit into the writer's block, at a time. */
		for (int i = 0; i < n;)
		{
			uint64 sum = 0;
			int room, count;

			writer_make_room(writer);
			room = Min(SEARCH_BLOCK_SIZE - writer->n, n - i);
			count = room;
			if (source->numbers != NULL)
			{
				count = 0;
				while (count < room && source->numbers[state->docs[i + count]] != NO_DOCUMENT)
					count++;
				if (count == 0)
				{
					if (positions)
						copy_places(state, source, &places, state->counts[i], false);
					i++;
					continue;
				}
			}
			append_postings(state, source, fields, i, count);
			if (positions)
			{
				for (int j = i; j < i + count; j++)
					sum += state->counts[j];
				copy_places(state, source, &places, sum, true);
			}
			i += count;
		}
	}
}

/* Moves a source on to its next term, or its next word; false at the end. */
typedef bool (*NextKey)(MergeSource *source);

static bool
next_term(MergeSource *source)
{
	return term_cursor_next(source->terms, &source->term, &source->length, &source->info);
}

static bool
next_word(MergeSource *source)
{
	return word_cursor_next(source->words, &source->term, &source->length, &source->df);
}

/* The sources in the order of their first keys. */
static binaryheap *
first_keys(MergeState *state, NextKey next)
{
	binaryheap *heap = binaryheap_allocate(state->nsources, compare_terms, state);

	for (int i = 0; i < state->nsources; i++)
		if (next(&state->sources[i]))
			binaryheap_add_unordered(heap, Int32GetDatum(i));
	binaryheap_build(heap);
	return heap;
}

/* Moves the first source of the heap on. */
static void
replace_first_key(MergeState *state, binaryheap *heap, NextKey next)
{
	Datum first = binaryheap_first(heap);

	if (next(&state->sources[DatumGetInt32(first)]))
		binaryheap_replace_first(heap, first);
	else
		binaryheap_remove_first(heap);
}

static void
merge_terms(MergeState *state)
{
	SegmentWriter *writer = state->writer;
	binaryheap *heap;
	bool begun = false;

	for (int i = 0; i < state->nsources; i++)
		state->sources[i].terms = term_cursor_open(state->sources[i].reader);
	heap = first_keys(state, next_term);
	while (!binaryheap_empty(heap))
	{
		MergeSource *source = &state->sources[DatumGetInt32(binaryheap_first(heap))];

		if (begun)
		{
			int order =
				key_compare(writer->term, writer->term_length, source->term, source->length);

			if (order > 0)
				segment_corrupted(source->reader,
								  term_cursor_leaf(source->terms)->page,
								  "has terms that do not ascend");
			if (order < 0)
			{
				segment_writer_end_term(writer);
				begun = false;
			}
		}
		if (!begun)
			segment_writer_begin_term(writer, source->term, source->length);
		begun = true;
		merge_postings(state, source);
		replace_first_key(state, heap, next_term);
	}
	if (begun)
		segment_writer_end_term(writer);
	binaryheap_free(heap);
	for (int i = 0; i < state->nsources; i++)
	{
		MergeSource *source = &state->sources[i];

		check_stale(source);
		term_cursor_close(source->terms);
		if (source->postings.image != NULL)
			pfree(source->postings.image);
		if (source->positions.image != NULL)
			pfree(source->positions.image);
	}
}

/* --- words ------------------------------------------------------------------------------ */

static void
merge_words(MergeState *state)
{
	SegmentWriter *writer = state->writer;
	binaryheap *heap;
	char word[SEARCH_MAX_TERM];
	int length = 0;
	uint64 df = 0;

	for (int i = 0; i < state->nsources; i++)
		state->sources[i].words = word_cursor_open(state->sources[i].reader);
	heap = first_keys(state, next_word);
	while (!binaryheap_empty(heap))
	{
		MergeSource *source = &state->sources[DatumGetInt32(binaryheap_first(heap))];

		if (length > 0 && key_compare(word, length, source->term, source->length) != 0)
		{
			segment_writer_add_word(writer, word, length, (uint32) Min(df, PG_UINT32_MAX));
			df = 0;
		}
		if (df == 0)
		{
			memcpy(word, source->term, source->length);
			length = source->length;
		}
		df += source->df;
		replace_first_key(state, heap, next_word);
	}
	if (length > 0)
		segment_writer_add_word(writer, word, length, (uint32) Min(df, PG_UINT32_MAX));
	binaryheap_free(heap);
	for (int i = 0; i < state->nsources; i++)
	{
		check_stale(&state->sources[i]);
		word_cursor_close(state->sources[i].words);
	}
}

/* --- all ---------------------------------------------------------------------------------- */

void
segment_merge(SegmentReader **readers, int nreaders, SegmentWriter *writer)
{
	MergeState *state = palloc0(sizeof(MergeState));

	state->writer = writer;
	state->nsources = nreaders;
	state->sources = palloc0(nreaders * sizeof(MergeSource));
	for (int i = 0; i < nreaders; i++)
	{
		MergeSource *source = &state->sources[i];

		source->reader = readers[i];
		source->postings.page = InvalidBlockNumber;
		source->positions.page = InvalidBlockNumber;
		source->values.page = InvalidBlockNumber;
		check_stale(source);
		merge_documents(state, source);
	}
	for (int filter = 0; filter < writer->header->nfilters; filter++)
		merge_filter(state, filter);
	merge_terms(state);
	merge_words(state);

	for (int i = 0; i < nreaders; i++)
	{
		if (state->sources[i].numbers != NULL)
			pfree(state->sources[i].numbers);
		if (state->sources[i].values.image != NULL)
			pfree(state->sources[i].values.image);
	}
	pfree(state->sources);
	pfree(state);
}
