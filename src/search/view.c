/*
 * view.c
 *		A search's view of an index: its segments, and what its write buffer
 *		holds of the query.
 *
 * The meta page is read once and tells what there is; segments and buffer are
 * read after it without any lock that lasts.  Whatever has been replaced
 * meanwhile says so (stale), and the view is opened anew.
 *
 * Memory: view->context, below the one that was current when it was opened;
 * what was read from the index in view->state below that: a reader a segment,
 * and the documents of the write buffer that match.  Cost: a look-up of each
 * term in each segment, and one pass over the write buffer.
 */
#include "pgopt.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/memutils.h"

#include "pages.h"
#include "view.h"

#define MAX_ATTEMPTS 30

/* --- the write buffer ------------------------------------------------------------------ */

/* A query as buffered documents are tested with it. */
typedef struct BufferQuery
{
	const SearchQuery *query;
	uint32 *hashes;
	bool *in_phrase; /* positions are needed */
	HeldTerms *terms;
	bool *held;
} BufferQuery;

static BufferQuery *
buffer_query(const SearchQuery *query)
{
	BufferQuery *bq = palloc0(sizeof(BufferQuery));

	bq->query = query;
	bq->hashes = palloc(Max(query->nterms, 1) * sizeof(uint32));
	for (int i = 0; i < query->nterms; i++)
		bq->hashes[i] =
			hash_bytes((const unsigned char *) query->terms[i].term, query->terms[i].length);
	bq->in_phrase = query_phrase_terms(query);
	bq->terms = held_terms_create(query);
	bq->held = palloc0(Max(query->nclauses, 1) * sizeof(bool));
	return bq;
}

/* df may be NULL; it counts documents that have the term in any field, as segments do. */
static bool
buffered_document_matches(SearchView *view, BufferQuery *bq, const PendingDocument *document,
						  uint64 *df)
{
	const SearchQuery *query = bq->query;
	HeldTerms *terms = bq->terms;
	bool any = false;

	for (int i = 0; i < query->nterms; i++)
	{
		const QueryTerm *term = &query->terms[i];
		uint32 tf[SEARCH_MAX_FIELDS] = {0};
		uint32 *positions = NULL;
		bool found = pending_find_term(document,
									   term->term,
									   term->length,
									   bq->hashes[i],
									   tf,
									   bq->in_phrase[i] ? &positions : NULL,
									   bq->in_phrase[i] ? &terms->npositions[i] : NULL);

		terms->tf[i] = found ? weighted_tf(view->settings, term->fields, tf) : 0;
		terms->positions[i] = positions;
		any |= found;
		if (found && df != NULL)
			df[i]++;
	}
	return any && query_matches(query, view->settings, terms, bq->held);
}

/* Keeps what the document's score needs. */
static void
keep_document(SearchView *view, const PendingDocument *document, BufferQuery *bq, bool matches)
{
	const SearchSettings *settings = view->settings;
	MemoryContext old = MemoryContextSwitchTo(view->state);
	ViewDocument *kept;

	if (view->ndocuments == view->allocated)
	{
		view->allocated = Max(64, view->allocated * 2);
		view->documents =
			view->documents == NULL
				? palloc(view->allocated * sizeof(ViewDocument))
				: repalloc_huge(view->documents, view->allocated * sizeof(ViewDocument));
	}
	kept = &view->documents[view->ndocuments++];
	memset(kept, 0, sizeof(ViewDocument));
	kept->tid = document->tid;
	kept->length = length_encode(document->length);
	kept->matches = matches;
	if (matches && bq != NULL)
	{
		const SearchQuery *query = bq->query;
		int n = 0;

		for (int c = 0; c < query->nclauses; c++)
			kept->nheld += bq->held[c];
		for (int i = 0; i < query->nterms; i++)
			kept->nterms += bq->terms->tf[i] > 0;
		kept->held = palloc(kept->nheld * sizeof(uint32));
		kept->terms = palloc(kept->nterms * sizeof(uint16));
		kept->tf = palloc(kept->nterms * sizeof(double));
		for (int c = 0; c < query->nclauses; c++)
			if (bq->held[c])
				kept->held[n++] = c;
		n = 0;
		for (int i = 0; i < query->nterms; i++)
			if (bq->terms->tf[i] > 0)
			{
				kept->terms[n] = i;
				kept->tf[n++] = bq->terms->tf[i];
			}
	}
	if (view->values)
	{
		kept->values = palloc(settings->nfilters * sizeof(Datum));
		kept->nulls = palloc(settings->nfilters * sizeof(bool));
		for (int f = 0; f < settings->nfilters; f++)
		{
			kept->nulls[f] = document->filter_nulls[f];
			kept->values[f] = kept->nulls[f] ? (Datum) 0
											 : datumCopy(document->filters[f],
														 settings->filters[f].typbyval,
														 settings->filters[f].typlen);
		}
	}
	MemoryContextSwitchTo(old);
}

static void
read_buffer(SearchView *view, const SearchMeta *meta)
{
	MemoryContext context;
	MemoryContext row;
	MemoryContext old;
	PendingReader *reader;
	PendingDocument document;
	BufferQuery *query = NULL;
	BufferQuery **required;

	if (view->query != NULL)
		view->pending_df = palloc0(Max(view->query->nterms, 1) * sizeof(uint64));
	if (meta->pending_head == InvalidBlockNumber)
		return;

	context = AllocSetContextCreate(view->state, "write buffer", ALLOCSET_DEFAULT_SIZES);
	row = AllocSetContextCreate(context, "document", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	if (view->query != NULL)
		query = buffer_query(view->query);
	required = palloc(Max(view->nrequired, 1) * sizeof(BufferQuery *));
	for (int i = 0; i < view->nrequired; i++)
		required[i] = buffer_query(view->required[i]);
	reader = pending_open(view->index, view->settings, meta, &view->stale);
	while (!view->stale && pending_next(reader, &document))
	{
		bool matches = true;
		bool passes;

		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(row);
		view->pending_docs++;
		view->pending_length += document.length;
		if (query != NULL)
			matches = buffered_document_matches(view, query, &document, view->pending_df);
		passes = (matches || view->others) &&
				 filters_allow(view->filters, document.filters, document.filter_nulls);
		for (int i = 0; passes && i < view->nrequired; i++)
			passes = buffered_document_matches(view, required[i], &document, NULL);
		if (passes)
			keep_document(view, &document, query, matches);
		MemoryContextReset(row);
		MemoryContextSwitchTo(context);
	}
	pending_close(reader);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* --- segments ----------------------------------------------------------------------------- */

static TermInfo *
find_terms(SegmentReader *reader, const SearchQuery *query)
{
	TermInfo *terms = palloc0(Max(query->nterms, 1) * sizeof(TermInfo));

	for (int i = 0; i < query->nterms; i++)
		if (!segment_find_term(reader, query->terms[i].term, query->terms[i].length, &terms[i]))
			terms[i].df = 0;
	return terms;
}

static void
open_segment(SearchView *view, ViewSegment *segment, const SegmentEntry *entry)
{
	segment->reader = segment_open(view->index, view->settings, entry, &view->stale);
	if (view->stale)
		return;
	segment->header = segment_header(segment->reader);
	segment->ndocs = entry->ndocs;
	segment->total_length = entry->total_length;
	segment->deleted = entry->ndeleted > 0;
	segment->excluded = !filters_open_segment(view->filters, segment);

	/* Terms are looked up in any case: their numbers of documents belong to the statistics. */
	if (view->query != NULL)
		segment->terms = find_terms(segment->reader, view->query);
	segment->required = palloc(Max(view->nrequired, 1) * sizeof(TermInfo *));
	for (int i = 0; i < view->nrequired; i++)
		segment->required[i] = find_terms(segment->reader, view->required[i]);
}

static int
larger_segment_first(const void *a, const void *b)
{
	const SegmentEntry *x = a;
	const SegmentEntry *y = b;

	if (x->ndocs != y->ndocs)
		return x->ndocs > y->ndocs ? -1 : 1;
	return x->id < y->id ? -1 : 1;
}

/* Reads the index; sets stale when it changed under our hands. */
static void
read_index(SearchView *view)
{
	MemoryContext old;
	SearchMeta *meta;

	view->stale = false;
	view->ndocuments = 0;
	view->allocated = 0;
	view->documents = NULL;
	view->pending_docs = 0;
	view->pending_length = 0;
	MemoryContextReset(view->state);
	old = MemoryContextSwitchTo(view->state);

	meta = search_read_meta(view->index);
	view->nsegments = meta->nsegments;
	view->segments = palloc0(Max(meta->nsegments, 1) * sizeof(ViewSegment));
	qsort(meta->segments, meta->nsegments, sizeof(SegmentEntry), larger_segment_first);
	for (int i = 0; i < view->nsegments && !view->stale; i++)
	{
		CHECK_FOR_INTERRUPTS();
		open_segment(view, &view->segments[i], &meta->segments[i]);
	}
	if (!view->stale)
		read_buffer(view, meta);
	pfree(meta);
	MemoryContextSwitchTo(old);
}

void
view_reopen(SearchView *view, int attempt)
{
	do
	{
		CHECK_FOR_INTERRUPTS();
		if (attempt++ > MAX_ATTEMPTS)
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("index \"%s\" changed too often during a search",
							RelationGetRelationName(view->index)),
					 errhint("Try again.")));
		read_index(view);
	} while (view->stale);
}

SearchView *
view_open(Relation index, const SearchQuery *query, const SearchQuery *const *required,
		  int nrequired, ScanKey filters, int nfilters, bool others)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt search view", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	SearchView *view = palloc0(sizeof(SearchView));

	view->context = context;
	view->index = index;
	view->settings = palloc(sizeof(SearchSettings));
	*view->settings = *search_settings(index);
	for (int f = 0; f < view->settings->nfilters; f++)
		fmgr_info_copy(&view->settings->filters[f].compare,
					   (FmgrInfo *) &search_settings(index)->filters[f].compare,
					   context);
	view->query = query;
	view->nrequired = nrequired;
	view->required = palloc(Max(nrequired, 1) * sizeof(SearchQuery *));
	for (int i = 0; i < nrequired; i++)
		view->required[i] = required[i];
	view->others = others;
	view->filters = filters_prepare(view->settings, filters, nfilters);
	view->state = AllocSetContextCreate(context, "index", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(old);
	view_reopen(view, 1);
	return view;
}

SearchView *
search_view_open(Relation index, const SearchQuery *query, ScanKey filters, int nfilters)
{
	return view_open(index, query, NULL, 0, filters, nfilters, false);
}

void
search_view_close(SearchView *view)
{
	MemoryContextDelete(view->context);
}

/* --- statistics ---------------------------------------------------------------------------- */

void
search_view_add_stats(SearchView *view, SearchStats *stats)
{
	double ndocs = stats->collection.ndocs + view->pending_docs;
	double length =
		stats->collection.ndocs * stats->collection.average_length + view->pending_length;

	for (int s = 0; s < view->nsegments; s++)
	{
		ndocs += view->segments[s].ndocs;
		length += view->segments[s].total_length;
	}
	stats->collection.ndocs = ndocs;
	stats->collection.average_length = ndocs > 0 ? length / ndocs : 0;
	stats->collection.k1 = view->settings->k1;
	stats->collection.b = view->settings->b;
	if (view->query == NULL)
		return;
	for (int i = 0; i < view->query->nterms; i++)
	{
		stats->df[i] += view->pending_df[i];
		for (int s = 0; s < view->nsegments; s++)
			stats->df[i] += view->segments[s].terms[i].df;
	}
}

void
search_view_set_stats(SearchView *view, const SearchStats *stats)
{
	int n = view->query != NULL ? view->query->nterms : 0;

	view->stats.collection = stats->collection;
	if (view->stats.df == NULL)
		view->stats.df = MemoryContextAllocZero(view->context, Max(n, 1) * sizeof(uint64));
	memcpy(view->stats.df, stats->df, n * sizeof(uint64));
	view->stats_set = true;
}

void
view_settle_stats(SearchView *view)
{
	SearchStats stats = {0};

	if (view->stats_set)
		return;
	stats.df = MemoryContextAllocZero(
		view->context, Max(view->query ? view->query->nterms : 0, 1) * sizeof(uint64));
	search_view_add_stats(view, &stats);
	search_view_set_stats(view, &stats);
	pfree(stats.df);
}
