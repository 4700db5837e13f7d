/*
 * topk.h
 *		Runs a query over an index: the best k, or all that match.
 *
 * A SearchView is the index at one moment: its segments, and the documents of
 * its write buffer that hold a term of the query.  Everything that was
 * committed before the caller's snapshot was taken is in it; rows that the
 * snapshot does not see may be too, and the caller checks that (an index
 * scan's executor does).  Documents whose pointers VACUUM removed are never
 * given out.
 *
 * Order: score descending, then heap pointer ascending.
 *
 * Top-k works in windows of the document numbers: block maxima bound what a
 * window can give, the terms that cannot lift a document over the k-th best
 * score alone are looked up only for documents that others found
 * (Turtle and Flood 1995, MaxScore; Ding and Suel 2011, block maxima).
 */
#ifndef PGOPT_SEARCH_TOPK_H
#define PGOPT_SEARCH_TOPK_H

#include "postgres.h"

#include "access/skey.h"

#include "query.h"
#include "score.h"
#include "segment.h"

typedef struct SearchHit
{
	Score score;
	ItemPointerData tid;
} SearchHit;

/* For qsort(): the best first, equal scores by ctid. */
extern int search_compare_hits(const void *a, const void *b);

/* Statistics of a collection and of a query's terms in it. */
typedef struct SearchStats
{
	CollectionStats collection;
	uint64 *df; /* one a term of the query */
} SearchStats;

typedef struct SearchView SearchView;

/*
 * query may be NULL: all documents, score 0.  filters are scan keys on filter
 * columns (sk_attno the index column; =, <, <=, >=, >, IN as SK_SEARCHARRAY,
 * IS [NOT] NULL), all of which must hold.  Lives in a context of its own below
 * the current one.
 */
extern SearchView *
search_view_open(Relation index, const SearchQuery *query, ScanKey filters, int nfilters);
extern void search_view_close(SearchView *view);

/* This index's part of the statistics (adds to *stats): call for each partition's view, then set the sum. */
extern void search_view_add_stats(SearchView *view, SearchStats *stats);
extern void search_view_set_stats(SearchView *view, const SearchStats *stats);

/*
 * The best k, in order; fewer when no more match.  Can be called again with a
 * greater k.  Opens the index anew by itself when a segment was replaced.
 */
extern int search_topk(SearchView *view, int k, SearchHit *hits);

/* The best k of those that come after a hit in the order; after may be NULL. */
extern int search_topk_after(SearchView *view, const SearchHit *after, int k, SearchHit *hits);

/* The same by computing the score of every matching document: for tests. */
extern int search_exhaustive(SearchView *view, int k, SearchHit *hits);

/*
 * Every match once, in no order, until it gives false.  When a segment's pages
 * are used again meanwhile, which only replay on a standby does under an open
 * snapshot, it goes on with a new view and leaves out what it has given (6
 * bytes each are kept there); elsewhere that is a serialization failure.
 */
extern bool search_next(SearchView *view, ItemPointer tid);

/*
 * For facets: for each match its heap pointer, the part of the index that
 * holds it (0: the write buffer; from 1 on: segments, whose codes are in the
 * order of the values, 0 for NULL), and for each of `filters` (numbers from 0)
 * the code of its value within that part; in the write buffer equal values may
 * have several codes.  What a code stands for is asked once a code, after the
 * matches.  When a segment's pages were used again meanwhile, both end in a
 * serialization failure.
 */
typedef void (*SearchMatch)(void *state, ItemPointer tid, int part, const uint32 *codes);
extern void
search_matches(SearchView *view, const int *filters, int nfilters, SearchMatch match, void *state);
extern Datum search_match_value(SearchView *view, int part, int filter, uint32 code, bool *isnull);

#endif /* PGOPT_SEARCH_TOPK_H */
