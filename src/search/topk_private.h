/*
 * topk_private.h
 *		What topk.c (the hits, and the order in which documents are gone through)
 *		and topk_window.c (the documents themselves) share.
 */
#ifndef PGOPT_SEARCH_TOPK_PRIVATE_H
#define PGOPT_SEARCH_TOPK_PRIVATE_H

#include "view.h"

#define WINDOW_MIN 256 /* documents that have one bound; powers of 2 */
#define WINDOW_MAX 4096
#define SPAN_MAX   WINDOW_MAX /* documents of windows that are evaluated together */

/* A clause that counts for the score, in the segment at hand. */
typedef struct TopkClause
{
	const QueryClause *clause;
	bool must;
	uint32 df; /* of its rarest word */
	int rarest;
	double *weights; /* by word of the clause */
	ScoreBound *bounds;
	Score bound; /* in the window at hand */
} TopkClause;

typedef struct TopkRun
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
	bool segment_ascends; /* heap pointers are in the order of the documents' numbers */
	SegmentQuery *sq;
	SegmentQuery **required;
	int nclauses;
	TopkClause *clauses;
	int nmust;
	int nnots;
	const QueryClause **nots;
	uint32 width;        /* of a window */
	uint32 lengths_from; /* of the part of the lengths that is in memory */
	uint32 lengths_n;
	uint8 *lengths;
	uint32 tids_from;
	uint32 tids_n;
	ItemPointerData *tids;

	/* group */
	uint32 base;
	uint32 end;
	uint32 nwindows;
	uint64 *allowed; /* NULL: all */
	uint32 nallowed;
	uint16 **impacts; /* by term and window; 0: the term is not there */
	Score *bounds;    /* by window; negative: no document can match */

	/* window */
	uint32 from;
	uint32 to;
	const uint64 *window_allowed;
	TopkClause **order; /* clauses that occur in the window, as they are evaluated ... */
	Score *rest;        /* ... and the sum of the bounds from each on */
	int nordered;
	Score acc[SPAN_MAX]; /* 0 wherever `touched` is off */
	uint64 touched[SPAN_MAX / 64];
	int ncandidates;
	uint16 candidates[SPAN_MAX];
	Score scores[SPAN_MAX];
	bool found[SPAN_MAX]; /* does the candidate hold a clause? */
} TopkRun;

/* What a document needs at least. */
static inline Score
needed_score(const TopkRun *run)
{
	return run->n == run->k ? run->heap[0].score : 0;
}

static inline bool
bit_is_set(const uint64 *bits, uint32 i)
{
	return (bits[i / 64] >> (i % 64)) & 1;
}

/* Takes a document of the segment at hand among the best, if it belongs there. */
extern void topk_offer(TopkRun *run, Score score, uint32 doc);

/* What a clause can add to a document of n windows, `window` on; 0 when none of them can hold it. */
extern Score topk_clause_bound(const TopkRun *run, const TopkClause *tc, uint32 window, uint32 n);

/* How many of the next windows, at most `limit`, are worth evaluating at once? */
extern uint32 topk_span(TopkRun *run, uint32 window, uint32 limit);

/* Evaluates n windows, `window` on, and offers their documents. */
extern void topk_evaluate(TopkRun *run, uint32 window, uint32 n);

#endif /* PGOPT_SEARCH_TOPK_PRIVATE_H */
