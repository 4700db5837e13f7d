/*
 * scan.h
 *		Index scans, and what functions share with them: compiled queries,
 *		scores of single rows.
 */
#ifndef PGOPT_SEARCH_SCAN_H
#define PGOPT_SEARCH_SCAN_H

#include "access/genam.h"

#include "document.h"
#include "query.h"
#include "topk.h"

/* The access method's scan callbacks (scan.c). */
extern IndexScanDesc search_beginscan(Relation index, int nkeys, int norderbys);
extern void
search_rescan(IndexScanDesc scan, ScanKey keys, int nkeys, ScanKey orderbys, int norderbys);
extern bool search_gettuple(IndexScanDesc scan, ScanDirection direction);
extern void search_endscan(IndexScanDesc scan);

/*
 * A bound query, parsed with its index's analyzer, with the statistics of the
 * whole collection: of all partitions when query->index is a partitioned
 * index.  Made once a statement (kept by index, text and fields for the
 * current command); the result lives as long as the statement.  `index` is
 * the index at hand: query->index itself or one of its leaves.
 */
typedef struct CompiledQuery
{
	SearchQuery *query;
	SearchStats stats;
	const SearchSettings *settings; /* a copy */
} CompiledQuery;

extern const CompiledQuery *search_compile(Relation index, const PgoptQuery *query);

/* Does the document match, and with which score?  The plain way: no index involved. */
extern bool search_evaluate(const CompiledQuery *compiled, const Document *document, Score *score);

/* A score that a scan of this backend that is still open has just computed for that row. */
extern bool search_known_score(Oid index, const PgoptQuery *query, ItemPointer tid, Score *score);

/* Has this backend a scan of the index open? */
extern bool search_scan_is_open(Oid index);

#endif /* PGOPT_SEARCH_SCAN_H */
