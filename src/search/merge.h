/*
 * merge.h
 *		Which segments become one, and who does it.
 */
#ifndef PGOPT_SEARCH_MERGE_H
#define PGOPT_SEARCH_MERGE_H

#include "pages.h"

/* After a flush by an insert: has the background worker merge, or merges itself where that cannot wait. */
extern void merge_after_flush(Relation index);

/*
 * Makes one of the smallest segments, so that the list has room.  The caller
 * holds the structure lock, shared or exclusive.  False when others are at it.
 */
extern bool merge_smallest(Relation index);

/* search_merge_step() for a caller that holds the structure lock. */
extern bool merge_due(Relation index);

#endif /* PGOPT_SEARCH_MERGE_H */
