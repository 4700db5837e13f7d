/*
 * topk.c
 *		The best k documents of a view.
 *
 * A segment is worked through in groups of documents, a group in windows.
 * From the skip entries of the terms comes an upper bound of every window of
 * the group; windows are then taken in a few sweeps, those with the highest
 * bounds first, each sweep in the order of the documents.  What cannot reach
 * the k-th best score is left out.  Within a window the clauses with the
 * largest bounds are decoded and added up, as many as it takes for the others
 * not to reach the k-th score by themselves; those are looked up only for the
 * documents that can still win.  Where a filter leaves fewer documents than
 * the postings are, its documents are the candidates, and all clauses are
 * looked up.
 *
 * A document with exactly the k-th score wins by its heap pointer; so nothing
 * is left out whose bound is equal to that score.
 *
 * Memory: one context a call: a cursor (5 kB) and 2 bytes a window for each
 * term, 1 bit a document of the group where there is a filter, some 100 kB.  The heap is
 * the caller's array.  Cost: one pass over the skip entries (1 for each 128
 * postings), and the decoding of the blocks in which there may be a winner.
 */
#include "pgopt.h"

#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/memutils.h"

#include "view.h"

#define GROUP_SIZE  (512 * 1024) /* documents */
#define WINDOW_MIN  256          /* documents; powers of 2 */
#define WINDOW_MAX  4096
#define WINDOW_AIMS 128 /* postings that a window should have */
#define SPAN_MAX    WINDOW_MAX /* documents that are evaluated together ... */
#define SPAN_AIMS   256        /* ... so that there are as many postings to decode */
#define FILTER_FACTOR 8.0      /* a look-up costs as much as that many postings */
#define TIDS_CHUNK  64
#define BUCKETS     256

/* A clause that counts for the score, in the segment at hand. */
typedef struct RunClause
{
	const QueryClause *clause;
	bool must;
	uint32 df; /* of its rarest word */
	int rarest;
	double *weights; /* by word of the clause */
	ScoreBound *bounds;
	Score bound; /* in the window at hand */
} RunClause;

typedef struct Run
{
	SearchView *view;
	const SearchHit *after;
	int k;
	int n;
	SearchHit *heap; /* worst hit first */
	const double *idf;
	double norms[256];

	/* segment */
	MemoryContext context;
	ViewSegment *segment;
	SegmentQuery *sq;
	SegmentQuery **required;
	bool filtered; /* by filters, deleted bits, or queries that must match besides */
	int nclauses;
	RunClause *clauses;
	int nmust;
	int nnots;
	const QueryClause **nots;
	uint32 width; /* of a window */
	uint32 lengths_from;
	uint32 lengths_n;
	uint8 *lengths;
	uint32 tids_from;
	uint32 tids_n;
	ItemPointerData *tids;

	/* group */
	uint32 base;
	uint32 end;
	uint32 nwindows;
	uint64 *allowed;  /* NULL: all */
	uint16 **impacts; /* by term and window; 0: the term is not there */
	Score *bounds;    /* by window; negative: no document can match */

	/* window */
	uint32 from;
	uint32 to;
	const uint64 *window_allowed;
	RunClause **order; /* clauses that occur in the window, as they are evaluated ... */
	Score *rest;       /* ... and the sum of the bounds from each on */
	int nordered;
	Score acc[SPAN_MAX]; /* 0 wherever `touched` is off */
	uint64 touched[SPAN_MAX / 64];
	int ncandidates;
	uint16 candidates[SPAN_MAX];
	Score scores[SPAN_MAX];
	bool found[SPAN_MAX]; /* does the candidate hold a clause? */
} Run;

/* --- the k best ------------------------------------------------------------------------ */

/* Does a come before b in the order? */
static inline bool
hit_before(Score score, const ItemPointerData *tid, const SearchHit *b)
{
	if (score != b->score)
		return score > b->score;
	return ItemPointerCompare((ItemPointer) tid, (ItemPointer) &b->tid) < 0;
}

static void
sift_down(SearchHit *heap, int n, int i, const SearchHit *hit)
{
	for (;;)
	{
		int child = 2 * i + 1;

		if (child >= n)
			break;
		if (child + 1 < n && hit_before(heap[child].score, &heap[child].tid, &heap[child + 1]))
			child++;
		if (!hit_before(hit->score, &hit->tid, &heap[child]))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = *hit;
}

static void
offer(Run *run, Score score, const ItemPointerData *tid)
{
	SearchHit hit = {.score = score, .tid = *tid};

	if (run->after != NULL &&
		(hit_before(score, tid, run->after) ||
		 (score == run->after->score &&
		  ItemPointerEquals((ItemPointer) tid, (ItemPointer) &run->after->tid))))
		return;
	if (run->n < run->k)
	{
		int i = run->n++;

		/* The worst one is to be on top. */
		while (i > 0 && hit_before(run->heap[(i - 1) / 2].score, &run->heap[(i - 1) / 2].tid, &hit))
		{
			run->heap[i] = run->heap[(i - 1) / 2];
			i = (i - 1) / 2;
		}
		run->heap[i] = hit;
	}
	else if (hit_before(score, tid, &run->heap[0]))
		sift_down(run->heap, run->n, 0, &hit);
}

/* What a document needs at least. */
static inline Score
needed(const Run *run)
{
	return run->n == run->k ? run->heap[0].score : 0;
}

static int
compare_hits(const void *a, const void *b)
{
	const SearchHit *x = a;
	const SearchHit *y = b;

	if (x->score != y->score)
		return x->score > y->score ? -1 : 1;
	return ItemPointerCompare((ItemPointer) &x->tid, (ItemPointer) &y->tid);
}

/* --- arrays of the segment ---------------------------------------------------------------- */

/* The length codes of the window, by document - run->from. */
static const uint8 *
window_lengths(Run *run)
{
	if (run->from < run->lengths_from || run->to > run->lengths_from + run->lengths_n)
	{
		run->lengths_from = run->from - run->from % WINDOW_MAX;
		run->lengths_n = Min(WINDOW_MAX, run->segment->ndocs - run->lengths_from);
		segment_lengths(run->segment->reader, run->lengths_from, run->lengths_n, run->lengths);
	}
	return run->lengths + (run->from - run->lengths_from);
}

static const ItemPointerData *
document_tid(Run *run, uint32 doc)
{
	if (doc < run->tids_from || doc >= run->tids_from + run->tids_n)
	{
		run->tids_from = doc - doc % TIDS_CHUNK;
		run->tids_n = Min(TIDS_CHUNK, run->segment->ndocs - run->tids_from);
		segment_tids(run->segment->reader, run->tids_from, run->tids_n, run->tids);
	}
	return &run->tids[doc - run->tids_from];
}

/* --- a window -------------------------------------------------------------------------------- */

static inline bool
bit_is_set(const uint64 *bits, uint32 i)
{
	return (bits[i / 64] >> (i % 64)) & 1;
}

/* What a clause can add to a document of n windows, `window` on; 0 when none of them can hold it. */
static Score
clause_bound(const Run *run, const RunClause *rc, uint32 window, uint32 n)
{
	Score bound = 0;

	for (int i = 0; i < rc->clause->nterms; i++)
	{
		const uint16 *impacts = run->impacts[rc->clause->terms[i]];
		uint16 impact = impacts[window];

		for (uint32 w = window + 1; w < window + n; w++)
			impact = Max(impact, impacts[w]);
		if (impact == 0)
			return 0;
		bound += score_bound(&rc->bounds[i], impact);
	}
	return bound;
}

/* The part of a document's score from a clause all of whose words were just found in it. */
static inline Score
found_part(const Run *run, const RunClause *rc, double norm)
{
	Score part = 0;

	for (int i = 0; i < rc->clause->nterms; i++)
	{
		const SegmentTerm *term = &run->sq->terms[rc->clause->terms[i]];

		part += score_part(rc->weights[i], term_tf(run->sq, term, term->at), norm);
	}
	return part;
}

/*
 * Does the document hold the clause, and what does that add?  A document that
 * cannot reach `need` with this part and `more` is not looked at closely.
 */
static bool
look_up(Run *run, const RunClause *rc, uint32 doc, double norm, Score more, Score need, Score *part)
{
	if (!clause_find(run->sq, rc->clause, doc))
		return false;
	*part = found_part(run, rc, norm);
	if (!rc->clause->phrase || rc->clause->nterms == 1)
		return true;
	return *part + more >= need && clause_in_place(run->sq, rc->clause);
}

static inline void
touch(Run *run, uint32 d, Score part)
{
	run->acc[d] += part;
	run->touched[d / 64] |= UINT64CONST(1) << (d % 64);
}

/* Adds a word's parts to all documents of the window that have it. */
static void
add_word(Run *run, const RunClause *rc, const uint8 *lengths)
{
	const SegmentQuery *sq = run->sq;
	SegmentTerm *term = &sq->terms[rc->clause->terms[0]];
	const PostingCursor *cursor = term->cursor;
	const uint32 *docs = cursor->docs;
	const uint64 *allowed = run->window_allowed;
	double weight = rc->weights[0];
	uint32 doc = run->from;

	while (doc < run->to && term_seek(term, doc))
	{
		int first = term->at;
		int i = first;
		uint32 to = run->to;
		uint32 fields = cursor->fields & term->fields;

		if ((fields & (fields - 1)) == 0 && fields != 0)
		{
			int f = pg_rightmost_one_pos32(fields);
			const uint32 *tf = cursor->tf[f];
			double field_weight = sq->settings->weights[f];
			bool all = fields == cursor->fields;

			for (; i < term->n && docs[i] < to; i++)
			{
				uint32 d = docs[i] - run->from;

				if (allowed != NULL && !bit_is_set(allowed, d))
					continue;
				if (!all && tf[i] == 0)
					continue;
				touch(run, d, score_part(weight, field_weight * tf[i], run->norms[lengths[d]]));
			}
		}
		else
			for (; i < term->n && docs[i] < to; i++)
			{
				uint32 d = docs[i] - run->from;
				double tf;

				if (allowed != NULL && !bit_is_set(allowed, d))
					continue;
				tf = term_tf(sq, term, i);
				if (tf > 0)
					touch(run, d, score_part(weight, tf, run->norms[lengths[d]]));
			}
		if (i < term->n)
		{
			term->at = i;
			break;
		}
		doc = term->last + 1;
	}
}

/* The same for a phrase: by its rarest word; others is what the window's other clauses can add. */
static void
add_phrase(Run *run, const RunClause *rc, const uint8 *lengths, Score others)
{
	SegmentTerm *term = &run->sq->terms[rc->rarest];
	const uint32 *docs = term->cursor->docs;
	uint32 doc = run->from;
	Score need = needed(run);

	while (doc < run->to && term_seek(term, doc))
	{
		int i = term->at;

		for (; i < term->n && docs[i] < run->to; i++)
		{
			uint32 d = docs[i] - run->from;
			Score part;

			if (run->window_allowed != NULL && !bit_is_set(run->window_allowed, d))
				continue;
			if (look_up(run, rc, docs[i], run->norms[lengths[d]], others, need, &part))
				touch(run, d, part);
		}
		if (i < term->n)
			break;
		doc = term->last + 1;
	}
}

static void
add_clause(Run *run, const RunClause *rc, const uint8 *lengths)
{
	if (rc->clause->nterms == 1)
		add_word(run, rc, lengths);
	else
		add_phrase(run, rc, lengths, run->rest[0] - rc->bound);
}

/*
 * Puts the window's clauses in order: those that must match, the rarest first;
 * then by bound, the largest first.  False when no document can win.
 */
static bool
order_clauses(Run *run, uint32 window, uint32 nwindows, Score need)
{
	Score sum = 0;
	int n = 0;

	for (int c = 0; c < run->nclauses; c++)
	{
		RunClause *rc = &run->clauses[c];
		int i;

		rc->bound = clause_bound(run, rc, window, nwindows);
		if (rc->bound == 0)
		{
			if (rc->must)
				return false;
			continue;
		}
		for (i = n++; i > 0; i--)
		{
			const RunClause *other = run->order[i - 1];

			if (rc->must ? other->must && other->df <= rc->df
						 : other->must || other->bound >= rc->bound)
				break;
			run->order[i] = run->order[i - 1];
		}
		run->order[i] = rc;
	}
	run->nordered = n;
	for (int i = n - 1; i >= 0; i--)
	{
		sum += run->order[i]->bound;
		run->rest[i] = sum;
	}
	run->rest[n] = 0;
	return n > 0 && sum >= need;
}

/* How many clauses must be added up, so that the others alone are not enough? */
static int
essential_clauses(const Run *run, Score need)
{
	int n = 1;

	if (run->nmust > 0)
		return 1;
	while (n < run->nordered && run->rest[n] >= need)
		n++;
	return n;
}

/* Candidates that cannot reach `need` any more fall out. */
static void
drop_candidates(Run *run, Score more, Score need)
{
	int n = 0;

	for (int i = 0; i < run->ncandidates; i++)
		if (run->scores[i] + more >= need)
		{
			run->candidates[n] = run->candidates[i];
			run->found[n] = run->found[i];
			run->scores[n++] = run->scores[i];
		}
	run->ncandidates = n;
}

/* Looks a clause up for all candidates. */
static void
look_up_candidates(Run *run, int ordered, const uint8 *lengths, Score need)
{
	const RunClause *rc = run->order[ordered];
	Score more = run->rest[ordered + 1];
	int n = 0;

	for (int i = 0; i < run->ncandidates; i++)
	{
		uint16 d = run->candidates[i];
		Score score = run->scores[i];
		Score part = 0;
		bool found =
			look_up(run, rc, run->from + d, run->norms[lengths[d]], score + more, need, &part);

		if (found)
			score += part;
		else if (rc->must)
			continue;
		if (score + more < need)
			continue;
		run->candidates[n] = d;
		run->found[n] = run->found[i] || found;
		run->scores[n++] = score;
	}
	run->ncandidates = n;
}

/* The documents that were added up become candidates. */
static void
collect_touched(Run *run, Score more, Score need)
{
	int nwords = (run->to - run->from + 63) / 64;

	run->ncandidates = 0;
	for (int w = 0; w < nwords; w++)
	{
		uint64 word = run->touched[w];

		run->touched[w] = 0;
		for (; word != 0; word &= word - 1)
		{
			int d = w * 64 + pg_rightmost_one_pos64(word);
			Score score = run->acc[d];

			run->acc[d] = 0;
			if (score + more < need)
				continue;
			run->candidates[run->ncandidates] = d;
			run->found[run->ncandidates] = true;
			run->scores[run->ncandidates++] = score;
		}
	}
}

/* All documents that the filter allows become candidates. */
static void
collect_allowed(Run *run)
{
	int nwords = (run->to - run->from + 63) / 64;

	run->ncandidates = 0;
	for (int w = 0; w < nwords; w++)
		for (uint64 word = run->window_allowed[w]; word != 0; word &= word - 1)
		{
			run->candidates[run->ncandidates] = w * 64 + pg_rightmost_one_pos64(word);
			run->found[run->ncandidates] = false;
			run->scores[run->ncandidates++] = 0;
		}
}

/* What is left has its whole score. */
static void
offer_candidates(Run *run)
{
	for (int i = 0; i < run->ncandidates; i++)
	{
		uint32 doc = run->from + run->candidates[i];
		Score score = run->scores[i];
		bool rejected = !run->found[i] || score < needed(run);

		for (int c = 0; c < run->nnots && !rejected; c++)
			rejected =
				clause_find(run->sq, run->nots[c], doc) && clause_in_place(run->sq, run->nots[c]);
		if (!rejected && (run->after == NULL || score <= run->after->score))
			offer(run, score, document_tid(run, doc));
	}
}

/*
 * The documents of the window that may be given out at all; NULL for all.
 * Their number goes to *n.
 */
static const uint64 *
allowed_documents(Run *run, uint64 *bits, uint32 *n)
{
	const uint64 *allowed = NULL;
	int nwords = (run->to - run->from + 63) / 64;

	*n = run->to - run->from;
	if (run->allowed != NULL)
		allowed = run->allowed + (run->from - run->base) / 64;
	for (int i = 0; i < run->view->nrequired; i++)
	{
		uint64 more[SPAN_MAX / 64];

		segment_query_bits(run->required[i], run->from, run->to, allowed, more);
		memcpy(bits, more, nwords * sizeof(uint64));
		allowed = bits;
	}
	if (allowed != NULL)
	{
		*n = 0;
		for (int w = 0; w < nwords; w++)
			*n += pg_popcount64(allowed[w]);
	}
	return allowed;
}

/* Evaluates n windows at once, `window` on. */
static void
run_windows(Run *run, uint32 window, uint32 nwindows)
{
	Score need = needed(run);
	uint64 bits[SPAN_MAX / 64];
	uint32 nallowed;
	double expected = 0;
	const uint8 *lengths;
	int n;

	CHECK_FOR_INTERRUPTS();
	run->from = run->base + window * run->width;
	run->to = Min(run->from + nwindows * run->width, run->end);
	if (!order_clauses(run, window, nwindows, need))
		return;
	run->window_allowed = allowed_documents(run, bits, &nallowed);
	if (nallowed == 0)
		return;
	lengths = window_lengths(run);
	n = essential_clauses(run, need);
	for (int i = 0; i < n; i++)
		expected += run->order[i]->df;
	expected *= (double) (run->to - run->from) / run->segment->ndocs;

	if (run->window_allowed != NULL && nallowed * FILTER_FACTOR < expected)
	{
		n = 0;
		collect_allowed(run);
	}
	else
	{
		for (int i = 0; i < n; i++)
			add_clause(run, run->order[i], lengths);
		collect_touched(run, run->rest[n], need);
	}
	for (int i = n; i < run->nordered && run->ncandidates > 0; i++)
		look_up_candidates(run, i, lengths, need);
	drop_candidates(run, 0, need);
	if (!run->view->stale)
		offer_candidates(run);
}

/* --- a group of windows -------------------------------------------------------------------------- */

/* The largest impact of each term in each window, from its skip entries. */
static void
collect_impacts(Run *run, SegmentTerm *term, uint16 *impacts)
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
collect_bounds(Run *run)
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
			Score bound = clause_bound(run, &run->clauses[c], w, 1);

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
filter_windows(Run *run)
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
sweep_limit(const Run *run, uint32 wanted)
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

/* How many of the next windows, at most `limit`, are worth evaluating at once? */
static uint32
span_windows(Run *run, uint32 window, uint32 limit)
{
	Score need = needed(run);
	double postings = 0;
	int n;

	if (limit == 1 || !order_clauses(run, window, 1, need))
		return 1;
	n = essential_clauses(run, need);
	for (int i = 0; i < n; i++)
		postings += run->order[i]->df;
	postings *= (double) run->width / run->segment->ndocs;
	if (run->allowed != NULL)
		postings = Min(postings,
					   (double) run->nallowed * FILTER_FACTOR * run->width / (run->end - run->base));
	return Max((uint32) Min(SPAN_AIMS / postings, limit), 1);
}

/* The windows whose bound is at least `from` and below `below`. */
static void
sweep(Run *run, Score from, Score below)
{
	uint32 most = SPAN_MAX / run->width;
	uint32 n;

	for (uint32 w = 0; w < run->nwindows && !run->view->stale; w += n)
	{
		Score need = Max(from, needed(run));

		n = 0;
		while (n < most && w + n < run->nwindows && run->bounds[w + n] >= need &&
			   run->bounds[w + n] < below)
			n++;
		if (n == 0)
		{
			n = 1;
			continue;
		}
		n = span_windows(run, w, n);
		run_windows(run, w, n);
	}
}

static void
run_group(Run *run)
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
prepare_clauses(Run *run)
{
	const SearchQuery *query = run->view->query;
	const SegmentHeader *header = run->segment->header;
	double scale = score_bound_scale(
		header->k1, header->b, header->average_length, &run->view->stats.collection);

	run->clauses = palloc0(Max(query->nclauses, 1) * sizeof(RunClause));
	run->nots = palloc0(Max(query->nclauses, 1) * sizeof(QueryClause *));
	run->order = palloc(Max(query->nclauses, 1) * sizeof(RunClause *));
	run->rest = palloc((query->nclauses + 1) * sizeof(Score));
	run->nclauses = 0;
	run->nmust = 0;
	run->nnots = 0;
	for (int c = 0; c < query->nclauses; c++)
	{
		const QueryClause *clause = &query->clauses[c];
		RunClause *rc = &run->clauses[run->nclauses];

		if (!run->sq->present[c])
			continue;
		if (clause->sign == CLAUSE_MUST_NOT)
		{
			if (clause_decidable(clause, run->view->settings))
				run->nots[run->nnots++] = clause;
			continue;
		}
		rc->clause = clause;
		rc->must = clause->sign == CLAUSE_MUST;
		run->nmust += rc->must;
		rc->rarest = clause_rarest(run->sq, clause);
		rc->df = run->sq->terms[rc->rarest].df;
		rc->weights = palloc(clause->nterms * sizeof(double));
		rc->bounds = palloc(clause->nterms * sizeof(ScoreBound));
		for (int i = 0; i < clause->nterms; i++)
		{
			rc->weights[i] = clause->boost * run->idf[clause->terms[i]];
			rc->bounds[i] = score_bound_prepare(rc->weights[i], scale);
		}
		run->nclauses++;
	}
}

/* What no document of the segment can exceed. */
static Score
segment_bound(const Run *run)
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
window_width(const Run *run)
{
	double postings = 0;
	uint32 width = WINDOW_MIN;

	for (int c = 0; c < run->nclauses; c++)
		postings += run->clauses[c].df;
	while (width < WINDOW_MAX && postings * width / run->segment->ndocs < WINDOW_AIMS)
		width *= 2;
	return width;
}

static void
run_segment(Run *run, ViewSegment *segment)
{
	const SearchView *view = run->view;
	const SearchQuery *query = view->query;
	uint32 group = Min(GROUP_SIZE, segment->ndocs);
	uint32 nwindows;

	if (segment->excluded || segment->ndocs == 0)
		return;
	run->segment = segment;
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
	if (segment_bound(run) < needed(run))
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
	for (uint32 base = 0; base < segment->ndocs && !view->stale; base += GROUP_SIZE)
	{
		run->base = base;
		run->end = Min(base + GROUP_SIZE, segment->ndocs);
		run_group(run);
	}
}

/* --- all together --------------------------------------------------------------------------------------- */

/* The documents of the write buffer: they are in memory. */
static void
run_buffer(Run *run)
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
		offer(run, score, &document->tid);
	}
	pfree(tf);
}

/* Without a query, all have the score 0. */
static void
run_everything(Run *run)
{
	const SearchView *view = run->view;

	for (uint32 i = 0; i < view->ndocuments; i++)
		offer(run, 0, &view->documents[i].tid);
	for (int s = 0; s < view->nsegments && !view->stale; s++)
	{
		ViewSegment *segment = run->segment = &view->segments[s];

		run->tids_n = 0;
		for (uint32 base = 0; base < segment->ndocs && !segment->excluded; base += WINDOW_MAX)
		{
			uint32 n = Min(WINDOW_MAX, segment->ndocs - base);

			CHECK_FOR_INTERRUPTS();
			filters_bitmap(segment, base, n, run->touched);
			for (uint32 d = 0; d < n && !view->stale; d++)
				if (bit_is_set(run->touched, d))
					offer(run, 0, document_tid(run, base + d));
		}
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
		Run *run = palloc0(sizeof(Run));

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
	qsort(hits, n, sizeof(SearchHit), compare_hits);
	return n;
}

int
search_topk(SearchView *view, int k, SearchHit *hits)
{
	return search_topk_after(view, NULL, k, hits);
}
