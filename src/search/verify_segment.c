/*
 * verify_segment.c
 *		What can be said of a segment without the table.
 *
 * Arrays and filter dictionaries are as the header says; terms and words
 * ascend; the blocks of a term's postings are as its skip entries and its
 * dictionary entry say, and no bound is lower than what it bounds.
 *
 * Memory: a byte a document.  Cost: reads the segment once, and its postings
 * once more for the sums that are compared with the table.
 */
#include "pgopt.h"

#include <math.h>

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "score.h"
#include "verify_private.h"

#define CHUNK                 4096 /* documents at a time */
#define NO_ENTRY              PG_UINT32_MAX
#define IMPACT_SCALE          65535.0

#define report(verifier, ...) verify_report(verifier, InvalidBlockNumber, NULL, __VA_ARGS__)

/* A segment being verified. */
typedef struct SegmentCheck
{
	Verifier *verifier;
	SegmentReader *reader;
	const SegmentHeader *header;
	uint8 *lengths; /* codes, by document */
	double norms[256];
	uint64 npostings;
} SegmentCheck;

uint64
verify_posting_sum(const SearchSettings *settings, const char *term, int length, const uint32 *tf,
				   const uint32 *positions, uint32 npositions)
{
	uint64 sum = hash_bytes_extended((const unsigned char *) term, length, 0);

	sum = hash_bytes_extended((const unsigned char *) tf, settings->nfields * sizeof(uint32), sum);
	if (settings->positions)
		sum = hash_bytes_extended(
			(const unsigned char *) positions, npositions * sizeof(uint32), sum);
	return sum;
}

/* --- arrays --------------------------------------------------------------------------------- */

static void
check_documents(SegmentCheck *check, const SegmentEntry *entry)
{
	const SegmentHeader *header = check->header;
	ItemPointerData *tids = palloc(CHUNK * sizeof(ItemPointerData));
	uint64 deleted[CHUNK / 64];
	uint32 ndeleted = 0;
	double least = 0;

	if (header->ndocs == 0)
		report(check->verifier, "the segment is empty");
	for (uint32 from = 0; from < header->ndocs; from += CHUNK)
	{
		uint32 n = Min(CHUNK, header->ndocs - from);

		CHECK_FOR_INTERRUPTS();
		segment_tids(check->reader, from, n, tids);
		segment_lengths(check->reader, from, n, check->lengths + from);
		segment_deleted(check->reader, from, n, deleted);
		for (uint32 i = 0; i < n; i++)
		{
			if (!ItemPointerIsValid(&tids[i]))
				report(check->verifier, "document %u has no valid row pointer", from + i);
			least += length_decode(check->lengths[from + i]);
			ndeleted += deleted[i / 64] >> (i % 64) & 1;
		}
	}
	/* A step of quantised lengths is an eighth at most; merges share out what they drop in proportion. */
	if (header->total_length < least * 0.999 - 100 || header->total_length > least * 1.126 + 100)
		report(check->verifier,
			   "the total length is " UINT64_FORMAT ", but the documents have at least %.0f",
			   header->total_length,
			   least);
	if (header->total_length != entry->total_length)
		report(check->verifier, "the meta page tells of another total length than the header");
	/* VACUUM counts after it has set the bits: a crash may leave more of these, until the next one. */
	if (ndeleted < entry->ndeleted)
		report(check->verifier,
			   "%u documents are deleted, the meta page tells of %u",
			   ndeleted,
			   entry->ndeleted);
	pfree(tids);
}

static void
check_filter(SegmentCheck *check, int filter)
{
	SearchFilterColumn column = check->verifier->settings->filters[filter];
	uint32 nvalues = check->header->filters[filter].nvalues;
	uint32 *codes = palloc(CHUNK * sizeof(uint32));
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt verify", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Datum last = (Datum) 0;

	for (uint32 from = 0; from < check->header->ndocs; from += CHUNK)
	{
		uint32 n = Min(CHUNK, check->header->ndocs - from);

		CHECK_FOR_INTERRUPTS();
		segment_codes(check->reader, filter, from, n, codes);
		for (uint32 i = 0; i < n; i++)
		{
			if (codes[i] > nvalues)
				report(check->verifier,
					   "document %u has value %u of column %d, of %u values",
					   from + i,
					   codes[i],
					   column.attno,
					   nvalues);
		}
	}
	for (uint32 code = 1; code <= nvalues && !check->verifier->stale; code++)
	{
		Datum value = segment_filter_value(check->reader, filter, code);

		CHECK_FOR_INTERRUPTS();
		if (code > 1 &&
			DatumGetInt32(FunctionCall2Coll(&column.compare, column.collation, last, value)) >= 0)
			report(check->verifier,
				   "value %u of column %d is not greater than the one before",
				   code,
				   column.attno);
		if (code > 1 && !column.typbyval)
			pfree(DatumGetPointer(last));
		last = value;
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	pfree(codes);
}

/* --- postings -------------------------------------------------------------------------------- */

/* tf of a posting in every field. */
static void
posting_tf(const PostingCursor *cursor, int i, int nfields, uint32 *tf)
{
	for (int field = 0; field < nfields; field++)
		tf[field] = cursor->fields & ((uint32) 1 << field) ? cursor->tf[field][i] : 0;
}

/* Positions ascend, and each field has as many as the term occurs there. */
static bool
positions_fit(const SearchSettings *settings, const uint32 *tf, const uint32 *positions, int n)
{
	uint32 count[SEARCH_MAX_FIELDS] = {0};

	for (int i = 0; i < n; i++)
	{
		uint32 field = positions[i] & (((uint32) 1 << settings->field_bits) - 1);

		if (field >= settings->nfields || (i > 0 && positions[i] < positions[i - 1]))
			return false;
		count[field]++;
	}
	return memcmp(count, tf, settings->nfields * sizeof(uint32)) == 0;
}

/* The loaded block. Returns what its bound should be at least. */
static double
check_block(SegmentCheck *check, PostingCursor *cursor, const char *term, int length, int64 *last)
{
	const SearchSettings *settings = check->verifier->settings;
	double greatest = 0;

	for (int i = 0; i < cursor->n; i++)
	{
		uint32 doc = cursor->docs[i];
		uint32 tf[SEARCH_MAX_FIELDS];
		double weighted = 0;

		if ((int64) doc <= *last || doc >= check->header->ndocs)
		{
			report(check->verifier,
				   "postings of \"%.*s\" are not in order at document %u",
				   length,
				   term,
				   doc);
			return greatest;
		}
		*last = doc;
		posting_tf(cursor, i, settings->nfields, tf);
		for (int field = 0; field < settings->nfields; field++)
			weighted += (double) settings->weights[field] * tf[field];
		if (weighted == 0)
			report(check->verifier, "\"%.*s\" does not occur in document %u", length, term, doc);
		greatest = Max(greatest, weighted / (weighted + check->norms[check->lengths[doc]]));
		if (settings->positions)
		{
			const uint32 *positions;
			int n = posting_positions(cursor, i, &positions);

			if (!check->verifier->stale && !positions_fit(settings, tf, positions, n))
				report(check->verifier,
					   "positions of \"%.*s\" in document %u are not in order",
					   length,
					   term,
					   doc);
		}
	}
	return greatest * IMPACT_SCALE;
}

static void
check_term(SegmentCheck *check, const char *term, int length, const TermInfo *info)
{
	PostingCursor cursor;
	uint32 df = 0;
	int64 last = -1;
	double greatest = 0;

	posting_open(&cursor, check->reader, info);
	for (uint32 block = 0; block < cursor.nblocks; block++)
	{
		double impact;

		CHECK_FOR_INTERRUPTS();
		posting_load(&cursor, block);
		if (check->verifier->stale)
			break;
		impact = check_block(check, &cursor, term, length, &last);
		greatest = Max(greatest, impact);
		if (cursor.n == 0 || posting_block_last(&cursor, block) != cursor.docs[cursor.n - 1])
			report(check->verifier,
				   "block %u of \"%.*s\" does not end with the document that its skip entry tells",
				   block,
				   length,
				   term);
		if (posting_block_impact(&cursor, block) < impact * (1 - 1e-9))
			report(check->verifier,
				   "the bound of block %u of \"%.*s\" is %u, and should be %.0f",
				   block,
				   length,
				   term,
				   posting_block_impact(&cursor, block),
				   ceil(impact));
		df += cursor.n;
	}
	posting_close(&cursor);
	if (check->verifier->stale)
		return;
	if (df != info->df)
		report(
			check->verifier, "\"%.*s\" has %u postings instead of %u", length, term, df, info->df);
	if (info->max_impact < greatest * (1 - 1e-9))
		report(check->verifier,
			   "the bound of \"%.*s\" is %u, and should be %.0f",
			   length,
			   term,
			   info->max_impact,
			   ceil(greatest));
	check->npostings += df;
}

/* --- terms and words ---------------------------------------------------------------------------- */

/* Remembers a term or word; false when it is not greater than the one before. */
static bool
ascends(char *last, int *last_length, const char *string, int length)
{
	bool result = length <= SEARCH_MAX_TERM &&
				  (*last_length < 0 || term_compare(last, *last_length, string, length) < 0);

	*last_length = Min(length, SEARCH_MAX_TERM);
	memcpy(last, string, *last_length);
	return result;
}

static void
check_terms(SegmentCheck *check)
{
	TermCursor *cursor = term_cursor_open(check->reader);
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt verify", ALLOCSET_DEFAULT_SIZES);
	char last[SEARCH_MAX_TERM];
	int last_length = -1;
	uint64 nterms = 0;
	const char *term;
	int length;
	TermInfo info;

	while (term_cursor_next(cursor, &term, &length, &info))
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		CHECK_FOR_INTERRUPTS();
		nterms++;
		if (!ascends(last, &last_length, term, length))
			report(check->verifier, "term \"%.*s\" is not in order", length, term);
		check_term(check, term, length, &info);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	term_cursor_close(cursor);
	MemoryContextDelete(context);
	if (check->verifier->stale)
		return;
	if (nterms != check->header->nterms)
		report(check->verifier,
			   "there are " UINT64_FORMAT " terms instead of " UINT64_FORMAT,
			   nterms,
			   check->header->nterms);
	if (check->npostings != check->header->npostings)
		report(check->verifier,
			   "there are " UINT64_FORMAT " postings instead of " UINT64_FORMAT,
			   check->npostings,
			   check->header->npostings);
}

/* Each term is found by a search, too, not only by reading all leaves. */
static void
check_tree(SegmentCheck *check)
{
	TermCursor *cursor = term_cursor_open(check->reader);
	const char *term;
	int length;
	TermInfo info;

	while (term_cursor_next(cursor, &term, &length, &info))
	{
		TermInfo found;

		CHECK_FOR_INTERRUPTS();
		if (!segment_find_term(check->reader, term, length, &found) || found.df != info.df)
		{
			if (!check->verifier->stale)
				report(check->verifier, "a search does not find term \"%.*s\"", length, term);
		}
	}
	term_cursor_close(cursor);
}

static void
check_words(SegmentCheck *check)
{
	WordCursor *cursor = word_cursor_open(check->reader);
	char last[SEARCH_MAX_TERM];
	int last_length = -1;
	uint64 nwords = 0;
	const char *word;
	int length;
	uint32 df;

	while (word_cursor_next(cursor, &word, &length, &df))
	{
		CHECK_FOR_INTERRUPTS();
		nwords++;
		if (!ascends(last, &last_length, word, length))
			report(check->verifier, "word \"%.*s\" is not in order", length, word);
		if (df == 0 || !document_keeps_word(word, length))
			report(check->verifier, "\"%.*s\" should not be in the word list", length, word);
	}
	word_cursor_close(cursor);
	if (!check->verifier->stale && nwords != check->header->nwords)
		report(check->verifier,
			   "there are " UINT64_FORMAT " words instead of " UINT64_FORMAT,
			   nwords,
			   check->header->nwords);
}

void
verify_segment(Verifier *verifier, int segment)
{
	const SegmentEntry *entry = &verifier->meta->segments[segment];
	SegmentCheck check = {.verifier = verifier, .reader = verifier->segments[segment]};
	CollectionStats stats;

	if (verifier->stale)
		return;
	check.header = segment_header(check.reader);
	check.lengths = palloc_extended(check.header->ndocs, MCXT_ALLOC_HUGE);
	stats = (CollectionStats){.ndocs = check.header->ndocs,
							  .average_length = check.header->average_length,
							  .k1 = check.header->k1,
							  .b = check.header->b};
	score_norms(&stats, check.norms);

	check_documents(&check, entry);
	for (int filter = 0; filter < verifier->settings->nfilters; filter++)
		check_filter(&check, filter);
	check_terms(&check);
	check_tree(&check);
	check_words(&check);
	pfree(check.lengths);
}

/* --- sums ------------------------------------------------------------------------------------------ */

void
verify_sum_postings(Verifier *verifier, int segment, VerifyEntry *entries, Size n)
{
	SegmentReader *reader = verifier->segments[segment];
	const SearchSettings *settings = verifier->settings;
	uint32 ndocs = segment_header(reader)->ndocs;
	uint32 *places = palloc_extended((Size) ndocs * sizeof(uint32), MCXT_ALLOC_HUGE);
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt verify", ALLOCSET_DEFAULT_SIZES);
	TermCursor *terms = term_cursor_open(reader);
	const char *term;
	int length;
	TermInfo info;

	/* The entry of each document. */
	memset(places, 0xFF, (Size) ndocs * sizeof(uint32));
	for (Size i = 0; i < n; i++)
		places[entries[i].document] = (uint32) i;

	while (term_cursor_next(terms, &term, &length, &info))
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		PostingCursor cursor;

		posting_open(&cursor, reader, &info);
		for (uint32 block = 0; block < cursor.nblocks && !verifier->stale; block++)
		{
			CHECK_FOR_INTERRUPTS();
			posting_load(&cursor, block);
			for (int i = 0; i < cursor.n; i++)
			{
				uint32 place = places[cursor.docs[i]];
				uint32 tf[SEARCH_MAX_FIELDS];
				const uint32 *positions = NULL;
				int npositions = 0;

				if (place == NO_ENTRY)
					continue;
				posting_tf(&cursor, i, settings->nfields, tf);
				if (settings->positions)
					npositions = posting_positions(&cursor, i, &positions);
				entries[place].sum +=
					verify_posting_sum(settings, term, length, tf, positions, npositions);
			}
		}
		posting_close(&cursor);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	term_cursor_close(terms);
	MemoryContextDelete(context);
	pfree(places);
}
