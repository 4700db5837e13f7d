/*
 * matches.c
 *		All documents of a view that match: one after the other, with their
 *		filter values, or with their scores by plain evaluation.
 *
 * A stream goes through the write buffer and the segments in windows of
 * documents; a window's matches are found as bits, and their heap pointers are
 * read before anything of it is given out.  When the index was replaced under
 * it, it starts again and leaves out what it has given.
 *
 * Memory: the stream's window (50 kB) in the view's context; on a standby 6
 * bytes for each match given besides.  Cost: all postings of the query, once.
 */
#include "pgopt.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/memutils.h"

#include "view.h"

#define STREAM_WINDOW 4096 /* documents */
#define FEW_MATCHES   8    /* whose heap pointers are read one by one */

struct MatchStream
{
	bool others; /* what does not match is wanted */
	int attempt;
	bool keep; /* what was given; a replaced segment can come up */
	uint64 ngiven;
	uint64 nsorted;
	uint64 allocated;
	ItemPointerData *given;

	int segment;           /* -1: write buffer */
	uint32 document;       /* of the write buffer */
	MemoryContext context; /* of a segment */
	SegmentQuery *query;
	SegmentQuery **required;
	uint32 next; /* first document of the next window */

	/* The window at hand. */
	uint32 from;
	uint32 to;
	uint32 at; /* next document to give, from `from` */
	uint64 bits[STREAM_WINDOW / 64];
	ItemPointerData tids[STREAM_WINDOW];

	/* Filters whose codes are wanted, for search_matches(). */
	int nfilters;
	const int *filters;
	uint32 *codes; /* by filter and document of the window */
};

/* --- what was given ----------------------------------------------------------------- */

static int
compare_tids(const void *a, const void *b)
{
	return ItemPointerCompare((ItemPointer) a, (ItemPointer) b);
}

static void
remember_given(SearchView *view, MatchStream *stream, ItemPointer tid)
{
	if (!stream->keep)
	{
		stream->ngiven++;
		return;
	}
	if (stream->ngiven == stream->allocated)
	{
		MemoryContext old = MemoryContextSwitchTo(view->context);

		stream->allocated = Max(1024, stream->allocated * 2);
		stream->given =
			stream->given == NULL
				? palloc(stream->allocated * sizeof(ItemPointerData))
				: repalloc_huge(stream->given, stream->allocated * sizeof(ItemPointerData));
		MemoryContextSwitchTo(old);
	}
	stream->given[stream->ngiven++] = *tid;
}

static bool
was_given(const MatchStream *stream, ItemPointer tid)
{
	return stream->nsorted > 0 &&
		   bsearch(tid, stream->given, stream->nsorted, sizeof(ItemPointerData), compare_tids) !=
			   NULL;
}

/* --- windows ---------------------------------------------------------------------------- */

static void
begin_stream(MatchStream *stream)
{
	stream->segment = -1;
	stream->document = 0;
	stream->next = 0;
	stream->from = stream->to = stream->at = 0;
}

static MatchStream *
view_stream(SearchView *view, bool others)
{
	if (view->stream == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(view->context);

		view->stream = palloc0(sizeof(MatchStream));
		view->stream->others = others;
		view->stream->keep = RecoveryInProgress();
		view->stream->context =
			AllocSetContextCreate(view->context, "stream", ALLOCSET_DEFAULT_SIZES);
		MemoryContextSwitchTo(old);
		begin_stream(view->stream);
	}
	Assert(view->stream->others == others);
	return view->stream;
}

static void
changed_during_search(const SearchView *view)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("index \"%s\" changed during a search", RelationGetRelationName(view->index)),
			 errhint("Try again.")));
}

static void
restart_stream(SearchView *view, MatchStream *stream)
{
	if (stream->ngiven > 0 && !stream->keep)
		changed_during_search(view);
	MemoryContextReset(stream->context);
	view_reopen(view, ++stream->attempt);
	if (stream->ngiven > 0)
		qsort(stream->given, stream->ngiven, sizeof(ItemPointerData), compare_tids);
	stream->nsorted = stream->ngiven;
	begin_stream(stream);
}

/* Opens the segment's postings; false when it has nothing to give. */
static bool
open_stream_segment(SearchView *view, MatchStream *stream)
{
	const ViewSegment *segment = &view->segments[stream->segment];
	MemoryContext old;
	bool possible = !segment->excluded && segment->ndocs > 0;

	MemoryContextReset(stream->context);
	stream->next = 0;
	stream->query = NULL;
	old = MemoryContextSwitchTo(stream->context);
	if (possible && view->query != NULL)
	{
		stream->query =
			segment_query_open(segment->reader, view->settings, view->query, segment->terms);
		possible = stream->others || stream->query->possible;
	}
	stream->required = palloc(Max(view->nrequired, 1) * sizeof(SegmentQuery *));
	for (int i = 0; i < view->nrequired && possible; i++)
	{
		stream->required[i] = segment_query_open(
			segment->reader, view->settings, view->required[i], segment->required[i]);
		possible = stream->required[i]->possible;
	}
	if (stream->nfilters > 0)
		stream->codes = palloc(stream->nfilters * STREAM_WINDOW * sizeof(uint32));
	MemoryContextSwitchTo(old);
	return possible;
}

/* The matches of the window; returns their number. */
static uint32
find_matches(SearchView *view, MatchStream *stream)
{
	const ViewSegment *segment = &view->segments[stream->segment];
	uint32 n = stream->to - stream->from;
	uint32 nwords = (n + 63) / 64;
	uint32 count = 0;
	uint64 more[STREAM_WINDOW / 64];

	filters_bitmap(segment, stream->from, n, stream->bits);
	for (int i = 0; i < view->nrequired; i++)
	{
		segment_query_bits(stream->required[i], stream->from, stream->to, stream->bits, more);
		memcpy(stream->bits, more, nwords * sizeof(uint64));
	}
	if (stream->query != NULL)
	{
		segment_query_bits(stream->query, stream->from, stream->to, stream->bits, more);
		for (uint32 w = 0; w < nwords; w++)
			stream->bits[w] = stream->others ? stream->bits[w] & ~more[w] : more[w];
	}
	else if (stream->others)
		memset(stream->bits, 0, nwords * sizeof(uint64));
	for (uint32 w = 0; w < nwords; w++)
		count += pg_popcount64(stream->bits[w]);
	return count;
}

static void
read_window(SearchView *view, MatchStream *stream, uint32 count)
{
	const ViewSegment *segment = &view->segments[stream->segment];
	uint32 n = stream->to - stream->from;

	if (count <= FEW_MATCHES)
	{
		for (uint32 w = 0; w < (n + 63) / 64; w++)
			for (uint64 word = stream->bits[w]; word != 0; word &= word - 1)
			{
				uint32 d = w * 64 + pg_rightmost_one_pos64(word);

				segment_tids(segment->reader, stream->from + d, 1, &stream->tids[d]);
			}
	}
	else
		segment_tids(segment->reader, stream->from, n, stream->tids);
	for (int f = 0; f < stream->nfilters; f++)
		segment_codes(segment->reader,
					  stream->filters[f],
					  stream->from,
					  n,
					  stream->codes + f * STREAM_WINDOW);
}

/* Goes to the next window that has matches; false at the end. */
static bool
next_window(SearchView *view, MatchStream *stream)
{
	for (;;)
	{
		uint32 count;

		CHECK_FOR_INTERRUPTS();
		if (view->stale)
		{
			restart_stream(view, stream);
			return true; /* the write buffer comes first again */
		}
		if (stream->segment < 0 || stream->next >= view->segments[stream->segment].ndocs)
		{
			do
			{
				if (++stream->segment >= view->nsegments)
				{
					stream->segment = view->nsegments;
					return false;
				}
			} while (!open_stream_segment(view, stream));
		}
		stream->from = stream->next;
		stream->to =
			stream->from + Min(STREAM_WINDOW, view->segments[stream->segment].ndocs - stream->from);
		stream->next = stream->to;
		stream->at = 0;
		count = find_matches(view, stream);
		if (count > 0 && !view->stale)
			read_window(view, stream, count);
		if (count > 0 && !view->stale)
			return true;
	}
}

/*
 * The next match: a document of the write buffer (*document) or of the window
 * (stream->at - 1).
 */
static bool
next_match(SearchView *view, MatchStream *stream, ItemPointer tid, const ViewDocument **document)
{
	for (;;)
	{
		*document = NULL;
		if (stream->segment < 0)
		{
			while (stream->document < view->ndocuments)
			{
				*document = &view->documents[stream->document++];
				if ((*document)->matches == stream->others)
					continue;
				*tid = (*document)->tid;
				if (was_given(stream, tid))
					continue;
				remember_given(view, stream, tid);
				return true;
			}
			*document = NULL;
		}
		else
			while (stream->at < stream->to - stream->from)
			{
				uint32 w = stream->at / 64;
				uint64 word = stream->bits[w] & (PG_UINT64_MAX << (stream->at % 64));

				if (word == 0)
				{
					stream->at = (w + 1) * 64;
					continue;
				}
				stream->at = w * 64 + pg_rightmost_one_pos64(word) + 1;
				*tid = stream->tids[stream->at - 1];
				if (was_given(stream, tid))
					continue;
				remember_given(view, stream, tid);
				return true;
			}
		if (stream->segment >= view->nsegments || !next_window(view, stream))
			return false;
	}
}

bool
search_next(SearchView *view, ItemPointer tid)
{
	const ViewDocument *document;

	return next_match(view, view_stream(view, false), tid, &document);
}

bool
view_next_other(SearchView *view, ItemPointer tid)
{
	const ViewDocument *document;

	return next_match(view, view_stream(view, true), tid, &document);
}

/* --- with filter values -------------------------------------------------------------------- */

/* The codes of a buffered document's values are its own number. */
static void
buffered_codes(const SearchView *view, const ViewDocument *document, const int *filters,
			   int nfilters, uint32 *codes)
{
	for (int f = 0; f < nfilters; f++)
		codes[f] = document->nulls[filters[f]] ? 0 : document - view->documents + 1;
}

void
search_matches(SearchView *view, const int *filters, int nfilters, SearchMatch match, void *state)
{
	MatchStream *stream = view_stream(view, false);
	uint32 codes[SEARCH_MAX_FILTERS];
	ItemPointerData tid;
	const ViewDocument *document;

	Assert(stream->ngiven == 0);
	if (nfilters > 0 && !view->values)
	{
		view->values = true;
		view_reopen(view, 1);
	}
	stream->nfilters = nfilters;
	stream->filters = filters;
	stream->keep = false; /* codes of a segment that was replaced would mean nothing */
	while (next_match(view, stream, &tid, &document))
	{
		if (document != NULL)
			buffered_codes(view, document, filters, nfilters, codes);
		else
			for (int f = 0; f < nfilters; f++)
				codes[f] = stream->codes[f * STREAM_WINDOW + stream->at - 1];
		match(state, &tid, document != NULL ? 0 : stream->segment + 1, codes);
	}
}

Datum
search_match_value(SearchView *view, int part, int filter, uint32 code, bool *isnull)
{
	Datum value;

	*isnull = code == 0;
	if (*isnull)
		return (Datum) 0;
	if (part == 0)
		return view->documents[code - 1].values[filter];
	value = segment_filter_value(view->segments[part - 1].reader, filter, code);
	if (view->stale)
		changed_during_search(view);
	return value;
}

/* --- plain evaluation ------------------------------------------------------------------------- */

/* The hits of one segment, document by document. */
static void
evaluate_segment(SearchView *view, ViewSegment *segment, const double *idf, SearchHit **hits,
				 int *n, int *allocated)
{
	const SearchQuery *query = view->query;
	HeldTerms *terms = held_terms_create(query);
	bool *in_phrase = query_phrase_terms(query);
	bool *held = palloc0(Max(query->nclauses, 1) * sizeof(bool));
	SegmentTerm *postings = palloc0(Max(query->nterms, 1) * sizeof(SegmentTerm));
	SegmentQuery sq = {.settings = view->settings};

	for (int i = 0; i < query->nterms; i++)
	{
		if (segment->terms[i].df == 0)
			continue;
		postings[i].fields = query->terms[i].fields;
		postings[i].cursor = palloc0(sizeof(PostingCursor));
		postings[i].low = 1;
		posting_open(postings[i].cursor, segment->reader, &segment->terms[i]);
	}
	for (uint32 doc = 0; doc < segment->ndocs && !view->stale; doc++)
	{
		SearchHit hit = {0};
		uint8 length;
		uint64 allowed;

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < query->nterms; i++)
		{
			SegmentTerm *term = &postings[i];

			terms->tf[i] = 0;
			if (term->cursor == NULL || !term_find(term, doc))
				continue;
			terms->tf[i] = term_tf(&sq, term, term->at);
			if (in_phrase[i] && view->settings->positions)
				terms->npositions[i] =
					posting_positions(term->cursor, term->at, &terms->positions[i]);
		}
		if (!query_matches(query, view->settings, terms, held))
			continue;
		filters_bitmap(
			segment, doc - doc % 64, Min(64, segment->ndocs - (doc - doc % 64)), &allowed);
		if (!(allowed & (UINT64CONST(1) << (doc % 64))))
			continue;
		segment_lengths(segment->reader, doc, 1, &length);
		segment_tids(segment->reader, doc, 1, &hit.tid);
		for (int c = 0; c < query->nclauses; c++)
			if (held[c])
				hit.score += clause_part(&query->clauses[c],
										 idf,
										 terms->tf,
										 score_norm(&view->stats.collection, length));
		if (*n == *allocated)
			*hits = repalloc_huge(*hits, (*allocated *= 2) * sizeof(SearchHit));
		(*hits)[(*n)++] = hit;
	}
}

/* The same of the write buffer. */
static void
evaluate_buffer(SearchView *view, const double *idf, SearchHit **hits, int *n, int *allocated)
{
	for (uint32 i = 0; i < view->ndocuments; i++)
	{
		const ViewDocument *document = &view->documents[i];
		double *tf = palloc0(Max(view->query->nterms, 1) * sizeof(double));
		SearchHit hit = {.tid = document->tid};

		for (uint32 t = 0; t < document->nterms; t++)
			tf[document->terms[t]] = document->tf[t];
		for (uint32 h = 0; h < document->nheld; h++)
			hit.score += clause_part(&view->query->clauses[document->held[h]],
									 idf,
									 tf,
									 score_norm(&view->stats.collection, document->length));
		pfree(tf);
		if (!document->matches)
			continue;
		if (*n == *allocated)
			*hits = repalloc_huge(*hits, (*allocated *= 2) * sizeof(SearchHit));
		(*hits)[(*n)++] = hit;
	}
}

int
search_exhaustive(SearchView *view, int k, SearchHit *hits)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt exhaustive", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	int allocated = 1024;
	SearchHit *all = palloc(allocated * sizeof(SearchHit));
	int attempt = 1;
	int n;

	view_settle_stats(view);
	for (;;)
	{
		double *idf = query_idf(view->query, &view->stats);

		n = 0;
		evaluate_buffer(view, idf, &all, &n, &allocated);
		for (int s = 0; s < view->nsegments && !view->stale; s++)
			if (!view->segments[s].excluded)
				evaluate_segment(view, &view->segments[s], idf, &all, &n, &allocated);
		if (!view->stale)
			break;
		view_reopen(view, ++attempt);
	}
	qsort(all, n, sizeof(SearchHit), search_compare_hits);
	n = Min(n, k);
	memcpy(hits, all, n * sizeof(SearchHit));
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return n;
}
