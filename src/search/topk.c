/*
 * topk.c
 *		The best k documents of a view.
 *
 * A segment is worked through in groups of documents, a group in windows.
 * From the skip entries of the terms comes an upper bound of every window of
 * the group; windows are then taken in a few sweeps, those with the highest
 * bounds first, each sweep in the order of the documents.  What cannot reach
 * the k-th best score is left out; topk_window.c evaluates the others.
 *
 * A document with exactly the k-th score wins by its heap pointer; so nothing
 * is left out whose bound is equal to that score.
 *
 * Memory: one context a call: a cursor (5 kB) and 2 bytes a window for each
 * term, 1 bit a document of the group where there is a filter, some 100 kB.
 * The heap is the caller's array.  Cost: one pass over the skip entries (1 for
 * each 128 postings), and the decoding of the blocks in which there may be a
 * winner.
 */
#include "pgopt.h"

#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/memutils.h"

#include "topk_private.h"

#define GROUP_SIZE  (512 * 1024) /* documents */
#define WINDOW_AIMS 128          /* postings that a window should have */
#define TIDS_CHUNK  64
#define LAZY_MAX    1024 /* hits whose heap pointers are read when they are needed */
#define BUCKETS     256

/* --- the k best ------------------------------------------------------------------------ */

static const ItemPointerData *
document_tid(TopkRun *run, uint32 doc)
{
	if (doc < run->tids_from || doc >= run->tids_from + run->tids_n)
	{
		run->tids_from = doc - doc % TIDS_CHUNK;
		run->tids_n = Min(TIDS_CHUNK, run->segment->ndocs - run->tids_from);
		segment_tids(run->segment->reader, run->tids_from, run->tids_n, run->tids);
	}
	return &run->tids[doc - run->tids_from];
}

/*
 * A hit of the segment at hand begins with its document's number in place of
 * the heap pointer, and offset 0: most hits are displaced before anybody asks.
 */
static inline bool
hit_is_open(const SearchHit *hit)
{
	return ItemPointerGetOffsetNumberNoCheck(&hit->tid) == InvalidOffsetNumber;
}

static inline void
resolve_hit(TopkRun *run, SearchHit *hit)
{
	if (hit_is_open(hit))
		hit->tid = *document_tid(run, ItemPointerGetBlockNumberNoCheck(&hit->tid));
}

/* Does a come before b in the order? */
static inline bool
hit_before(TopkRun *run, SearchHit *a, SearchHit *b)
{
	if (a->score != b->score)
		return a->score > b->score;
	if (!run->segment_ascends || !hit_is_open(a) || !hit_is_open(b))
	{
		resolve_hit(run, a);
		resolve_hit(run, b);
	}
	return ItemPointerCompare(&a->tid, &b->tid) < 0;
}

static void
sift_down(TopkRun *run, SearchHit *hit)
{
	SearchHit *heap = run->heap;
	int i = 0;

	for (;;)
	{
		int child = 2 * i + 1;

		if (child >= run->n)
			break;
		if (child + 1 < run->n && hit_before(run, &heap[child], &heap[child + 1]))
			child++;
		if (!hit_before(run, hit, &heap[child]))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = *hit;
}

/* The worst one is on top. */
static void
sift_up(TopkRun *run, SearchHit *hit)
{
	SearchHit *heap = run->heap;
	int i = run->n++;

	while (i > 0 && hit_before(run, &heap[(i - 1) / 2], hit))
	{
		heap[i] = heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	heap[i] = *hit;
}

static void
offer_hit(TopkRun *run, SearchHit *hit)
{
	if (run->after != NULL)
	{
		SearchHit after = *run->after;

		if (!hit_before(run, &after, hit))
			return;
	}
	if (run->n < run->k)
		sift_up(run, hit);
	else if (hit_before(run, hit, &run->heap[0]))
		sift_down(run, hit);
}

void
topk_offer(TopkRun *run, Score score, uint32 doc)
{
	SearchHit hit = {.score = score};

	ItemPointerSet(&hit.tid, doc, InvalidOffsetNumber);
	if (run->k > LAZY_MAX)
		resolve_hit(run, &hit);
	offer_hit(run, &hit);
}

static void
offer_tid(TopkRun *run, Score score, const ItemPointerData *tid)
{
	SearchHit hit = {.score = score, .tid = *tid};

	offer_hit(run, &hit);
}

int
search_compare_hits(const void *a, const void *b)
{
	const SearchHit *x = a;
	const SearchHit *y = b;

	if (x->score != y->score)
		return x->score > y->score ? -1 : 1;
	return ItemPointerCompare((ItemPointer) &x->tid, (ItemPointer) &y->tid);
}

/* --- a group of windows -------------------------------------------------------------------------- */

/* The largest impact of each term in each window, from its skip entries. */
static void
collect_impacts(TopkRun *run, SegmentTerm *term, uint16 *impacts)
{
	PostingCursor *cursor = term->cursor;
	uint32 block = posting_seek(cursor, 0, run->base);
	uint32 low = run->base;

	memset(impacts, 0, run->nwindows * sizeof(uint16));
	for (; block < cursor->nblocks && low < run->end; block++)
	{
		uint32 last = posting_block_last(cursor, block);
		uint16 impact = Max(posting_block_impact(cursor, block), 1);
		uint32 from = (low - run->base) / run->width;
		uint32 to = (Min(last, run->end - 1) - run->base) / run->width;

		for (uint32 w = from; w <= to; w++)
			impacts[w] = Max(impacts[w], impact);
		if (last == PG_UINT32_MAX)
			break;
		low = last + 1;
		if (block % 1024 == 0)
			CHECK_FOR_INTERRUPTS();
	}
}

/* Upper bounds of all windows; false when no document of the group can match. */
static bool
collect_bounds(TopkRun *run)
{
	bool possible = false;

	for (int i = 0; i < run->view->query->nterms; i++)
		if (run->impacts[i] != NULL)
			collect_impacts(run, &run->sq->terms[i], run->impacts[i]);
	for (uint32 w = 0; w < run->nwindows; w++)
	{
		Score sum = 0;

		for (int c = 0; c < run->nclauses; c++)
		{
			Score bound = topk_clause_bound(run, &run->clauses[c], w, 1);

			if (bound == 0 && run->clauses[c].must)
			{
				sum = 0;
				break;
			}
			sum += bound;
		}
		run->bounds[w] = sum > 0 ? sum : -1;
		possible |= sum > 0;
	}
	return possible;
}

/* Takes the windows out in which the filters leave nothing. */
static void
filter_windows(TopkRun *run)
{
	uint32 words = run->width / 64;
	uint32 nwords = (run->end - run->base + 63) / 64;

	filters_bitmap(run->segment, run->base, run->end - run->base, run->allowed);
	run->nallowed = 0;
	for (uint32 w = 0; w < run->nwindows; w++)
	{
		uint32 n = 0;

		for (uint32 i = w * words; i < Min((w + 1) * words, nwords); i++)
			n += pg_popcount64(run->allowed[i]);
		if (n == 0)
			run->bounds[w] = -1;
		run->nallowed += n;
	}
}

/* A bound that about `wanted` windows reach. */
static Score
sweep_limit(const TopkRun *run, uint32 wanted)
{
	uint32 buckets[BUCKETS] = {0};
	Score max = 0;
	uint32 n = 0;

	for (uint32 w = 0; w < run->nwindows; w++)
		max = Max(max, run->bounds[w]);
	max++;
	for (uint32 w = 0; w < run->nwindows; w++)
		if (run->bounds[w] >= 0)
			buckets[(int) ((double) run->bounds[w] / max * BUCKETS)]++;
	for (int b = BUCKETS - 1; b > 0; b--)
	{
		n += buckets[b];
		if (n >= wanted)
			return (Score) ((double) max / BUCKETS * b);
	}
	return 0;
}

/* The windows whose bound is at least `from` and below `below`. */
static void
sweep(TopkRun *run, Score from, Score below)
{
	uint32 most = SPAN_MAX / run->width;
	uint32 n;

	for (uint32 w = 0; w < run->nwindows && !run->view->stale; w += n)
	{
		Score need = Max(from, needed_score(run));

		n = 0;
		while (n < most && w + n < run->nwindows && run->bounds[w + n] >= need &&
			   run->bounds[w + n] < below)
			n++;
		if (n == 0)
		{
			n = 1;
			continue;
		}
		n = topk_span(run, w, n);
		topk_evaluate(run, w, n);
	}
}

static void
run_group(TopkRun *run)
{
	Score first;
	Score second;

	run->nwindows = (run->end - run->base + run->width - 1) / run->width;
	if (!collect_bounds(run))
		return;
	if (run->allowed != NULL)
		filter_windows(run);
	first = sweep_limit(run, Max(run->nwindows / 64, 1));
	second = Min(first, sweep_limit(run, Max(run->nwindows / 8, 1)));
	sweep(run, first, PG_INT64_MAX);
	sweep(run, second, first);
	sweep(run, 0, second);
}

/* --- a segment --------------------------------------------------------------------------------------- */

static void
prepare_clauses(TopkRun *run)
{
	const SearchQuery *query = run->view->query;
	const SegmentHeader *header = run->segment->header;
	double scale = score_bound_scale(
		header->k1, header->b, header->average_length, &run->view->stats.collection);

	run->clauses = palloc0(Max(query->nclauses, 1) * sizeof(TopkClause));
	run->nots = palloc0(Max(query->nclauses, 1) * sizeof(QueryClause *));
	run->order = palloc(Max(query->nclauses, 1) * sizeof(TopkClause *));
	run->rest = palloc((query->nclauses + 1) * sizeof(Score));
	run->nclauses = 0;
	run->nmust = 0;
	run->nnots = 0;
	for (int c = 0; c < query->nclauses; c++)
	{
		const QueryClause *clause = &query->clauses[c];
		TopkClause *tc = &run->clauses[run->nclauses];

		if (!run->sq->present[c])
			continue;
		if (clause->sign == CLAUSE_MUST_NOT)
		{
			if (clause_decidable(clause, run->view->settings))
				run->nots[run->nnots++] = clause;
			continue;
		}
		tc->clause = clause;
		tc->must = clause->sign == CLAUSE_MUST;
		run->nmust += tc->must;
		tc->rarest = clause_rarest(run->sq, clause);
		tc->df = run->sq->terms[tc->rarest].df;
		tc->weights = palloc(clause->nterms * sizeof(double));
		tc->bounds = palloc(clause->nterms * sizeof(ScoreBound));
		for (int i = 0; i < clause->nterms; i++)
		{
			tc->weights[i] = clause->boost * run->idf[clause->terms[i]];
			tc->bounds[i] = score_bound_prepare(tc->weights[i], scale);
		}
		run->nclauses++;
	}
}

/* What no document of the segment can exceed. */
static Score
segment_bound(const TopkRun *run)
{
	Score sum = 0;

	for (int c = 0; c < run->nclauses; c++)
		for (int i = 0; i < run->clauses[c].clause->nterms; i++)
		{
			const TermInfo *term = &run->segment->terms[run->clauses[c].clause->terms[i]];

			sum += score_bound(&run->clauses[c].bounds[i], term->max_impact);
		}
	return sum;
}

/* Wide enough for some postings, narrow enough for the bounds to be worth something. */
static uint32
window_width(const TopkRun *run)
{
	double postings = 0;
	uint32 width = WINDOW_MIN;

	for (int c = 0; c < run->nclauses; c++)
		postings += run->clauses[c].df;
	while (width < WINDOW_MAX && postings * width / run->segment->ndocs < WINDOW_AIMS)
		width *= 2;
	return width;
}

/* Reads the heap pointers that are still missing; the next segment counts its documents anew. */
static void
resolve_hits(TopkRun *run)
{
	for (int i = 0; i < run->n && !run->view->stale; i++)
		resolve_hit(run, &run->heap[i]);
}

static void
run_segment(TopkRun *run, ViewSegment *segment)
{
	const SearchView *view = run->view;
	const SearchQuery *query = view->query;
	uint32 group = Min(GROUP_SIZE, segment->ndocs);
	uint32 nwindows;

	if (segment->excluded || segment->ndocs == 0)
		return;
	run->segment = segment;
	run->segment_ascends = segment->header->tids_ascend != 0;
	run->sq = segment_query_open(segment->reader, view->settings, query, segment->terms);
	if (!run->sq->possible)
		return;
	run->required = palloc(Max(view->nrequired, 1) * sizeof(SegmentQuery *));
	for (int i = 0; i < view->nrequired; i++)
	{
		run->required[i] = segment_query_open(
			segment->reader, view->settings, view->required[i], segment->required[i]);
		if (!run->required[i]->possible)
			return;
	}
	prepare_clauses(run);
	if (segment_bound(run) < needed_score(run))
		return;

	run->width = window_width(run);
	run->lengths_n = run->tids_n = 0;
	nwindows = (group + run->width - 1) / run->width;
	run->bounds = palloc(nwindows * sizeof(Score));
	run->impacts = palloc0(Max(query->nterms, 1) * sizeof(uint16 *));
	for (int c = 0; c < run->nclauses; c++)
		for (int i = 0; i < run->clauses[c].clause->nterms; i++)
		{
			int term = run->clauses[c].clause->terms[i];

			if (run->impacts[term] == NULL)
				run->impacts[term] = palloc(nwindows * sizeof(uint16));
		}
	run->allowed = segment->nfilters > 0 || segment->deleted
					   ? palloc((group + 63) / 64 * sizeof(uint64))
					   : NULL;
	run->end = 0;
	while (run->end < segment->ndocs && !view->stale)
	{
		run->base = run->end;
		run->end += Min(GROUP_SIZE, segment->ndocs - run->base);
		run_group(run);
	}
	resolve_hits(run);
}

/* --- all together --------------------------------------------------------------------------------------- */

/* The documents of the write buffer: they are in memory. */
static void
run_buffer(TopkRun *run)
{
	const SearchView *view = run->view;
	double *tf = palloc0(Max(view->query->nterms, 1) * sizeof(double));

	for (uint32 i = 0; i < view->ndocuments; i++)
	{
		const ViewDocument *document = &view->documents[i];
		Score score = 0;

		if (!document->matches)
			continue;
		for (uint32 t = 0; t < document->nterms; t++)
			tf[document->terms[t]] = document->tf[t];
		for (uint32 h = 0; h < document->nheld; h++)
			score += clause_part(&view->query->clauses[document->held[h]],
								 run->idf,
								 tf,
								 run->norms[document->length]);
		offer_tid(run, score, &document->tid);
	}
	pfree(tf);
}

/* Without a query, all have the score 0. */
static void
run_everything(TopkRun *run)
{
	const SearchView *view = run->view;

	for (uint32 i = 0; i < view->ndocuments; i++)
		offer_tid(run, 0, &view->documents[i].tid);
	for (int s = 0; s < view->nsegments && !view->stale; s++)
	{
		ViewSegment *segment = run->segment = &view->segments[s];

		run->segment_ascends = segment->header->tids_ascend != 0;
		run->tids_n = 0;
		for (uint32 base = 0, n; base < segment->ndocs && !segment->excluded; base += n)
		{
			n = Min(WINDOW_MAX, segment->ndocs - base);

			CHECK_FOR_INTERRUPTS();
			filters_bitmap(segment, base, n, run->touched);
			for (uint32 d = 0; d < n && !view->stale; d++)
				if (bit_is_set(run->touched, d))
					topk_offer(run, 0, base + d);
		}
		resolve_hits(run);
	}
}

int
search_topk_after(SearchView *view, const SearchHit *after, int k, SearchHit *hits)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt top-k", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	int attempt = 1;
	int n;

	Assert(k > 0);
	view_settle_stats(view);
	for (;;)
	{
		TopkRun *run = palloc0(sizeof(TopkRun));

		run->view = view;
		run->after = after;
		run->k = k;
		run->heap = hits;
		run->lengths = palloc(WINDOW_MAX);
		run->tids = palloc(TIDS_CHUNK * sizeof(ItemPointerData));
		if (view->query == NULL)
			run_everything(run);
		else
		{
			run->idf = query_idf(view->query, &view->stats);
			score_norms(&view->stats.collection, run->norms);
			run_buffer(run);
			run->context = AllocSetContextCreate(context, "segment", ALLOCSET_DEFAULT_SIZES);
			for (int s = 0; s < view->nsegments && !view->stale; s++)
			{
				MemoryContextSwitchTo(run->context);
				run_segment(run, &view->segments[s]);
				MemoryContextReset(run->context);
			}
			MemoryContextSwitchTo(context);
		}
		n = run->n;
		if (!view->stale)
			break;
		MemoryContextReset(context);
		view_reopen(view, ++attempt);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	qsort(hits, n, sizeof(SearchHit), search_compare_hits);
	return n;
}

int
search_topk(SearchView *view, int k, SearchHit *hits)
{
	return search_topk_after(view, NULL, k, hits);
}
