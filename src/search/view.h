/*
 * view.h
 *		A search's view of an index, from the inside: what topk.c, matches.c,
 *		filters.c and view.c share.
 *
 * Memory: view->context holds the view; view->state below it what was read
 * from the index, thrown away when the view is opened anew.
 */
#ifndef PGOPT_SEARCH_VIEW_H
#define PGOPT_SEARCH_VIEW_H

#include "clauses.h"
#include "pending.h"
#include "topk.h"

/* --- filters (filters.c) ------------------------------------------------------------ */

typedef enum FilterTest
{
	FILTER_COMPARE,
	FILTER_IS_NULL,
	FILTER_IS_NOT_NULL
} FilterTest;

/* A condition on a filter column; holds when it does for any of the values. */
typedef struct FilterKey
{
	int filter;
	FilterTest test;
	StrategyNumber strategy; /* btree's */
	int nvalues;
	Datum *values;
} FilterKey;

typedef struct ViewFilters
{
	const SearchSettings *settings;
	bool never; /* a comparison with NULL */
	int nkeys;
	FilterKey *keys;
} ViewFilters;

typedef struct CodeRange
{
	uint32 first;
	uint32 last;
} CodeRange;

/* The codes of one filter column that a segment's documents may have. */
typedef struct SegmentFilter
{
	int filter;
	CodeRange range; /* where it is one range ... */
	uint64 *codes;   /* ... or NULL, and a bit a code */
} SegmentFilter;

typedef struct ViewSegment ViewSegment;

extern ViewFilters *filters_prepare(const SearchSettings *settings, ScanKey keys, int nkeys);
extern bool filters_allow(ViewFilters *filters, const Datum *values, const bool *nulls);

/* Sets segment->filters; false when no document can pass. */
extern bool filters_open_segment(ViewFilters *filters, ViewSegment *segment);

/* Bit i tells whether document from + i is allowed and not deleted; from is a multiple of 64. */
extern void filters_bitmap(const ViewSegment *segment, uint32 from, uint32 n, uint64 *bits);

/* --- the view (view.c) ---------------------------------------------------------------- */

struct ViewSegment
{
	SegmentReader *reader;
	const SegmentHeader *header;
	uint64 total_length;
	uint32 ndocs;
	bool deleted;  /* some documents are */
	bool excluded; /* by the filters */
	int nfilters;
	SegmentFilter *filters;
	TermInfo *terms;     /* the query's; df is 0 for one that the segment does not have */
	TermInfo **required; /* those of the queries that must match besides */
};

/* A document of the write buffer that the filters allow. */
typedef struct ViewDocument
{
	ItemPointerData tid;
	uint8 length; /* code */
	bool matches; /* the query; false only where others are wanted too */
	uint32 nheld; /* clauses of the query that count for the score */
	uint32 *held;
	uint32 nterms; /* the query's terms that it holds ... */
	uint16 *terms;
	double *tf;    /* ... and how often, weighted */
	Datum *values; /* of the filter columns, where they are wanted */
	bool *nulls;
} ViewDocument;

typedef struct MatchStream MatchStream;

struct SearchView
{
	MemoryContext context;
	Relation index;
	SearchSettings *settings;
	const SearchQuery *query; /* NULL: all documents */
	int nrequired;
	const SearchQuery **required; /* must match too, without a part in the score */
	bool others;                  /* documents that do not match will be asked for too */
	bool values;                  /* filter values of buffered documents are wanted */
	ViewFilters *filters;
	SearchStats stats;
	bool stats_set;
	MatchStream *stream;

	/* From here on: the index at one moment. */
	MemoryContext state;
	bool stale;
	int nsegments;
	ViewSegment *segments; /* largest first */
	uint32 ndocuments;
	uint32 allocated;
	ViewDocument *documents;
	uint64 pending_docs; /* all of the write buffer */
	uint64 pending_length;
	uint64 *pending_df;
};

/*
 * As search_view_open(), with queries that a document must match besides, and
 * with a notice that those which do not match the first will be asked for.
 * The queries must outlive the view.
 */
extern SearchView *
view_open(Relation index, const SearchQuery *query, const SearchQuery *const *required,
		  int nrequired, ScanKey filters, int nfilters, bool others);

/* After `stale`: the index as it is now.  attempt counts from 1 and ends in an error. */
extern void view_reopen(SearchView *view, int attempt);

/* Takes the index's own statistics when nobody has set others. */
extern void view_settle_stats(SearchView *view);

/* --- matches (matches.c) ---------------------------------------------------------------- */

/* As search_next(), for the documents that do not match the query but everything else. */
extern bool view_next_other(SearchView *view, ItemPointer tid);

#endif /* PGOPT_SEARCH_VIEW_H */
