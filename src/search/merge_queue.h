/*
 * merge_queue.h
 *		Requests for merges, from inserts to the background worker.
 */
#ifndef PGOPT_SEARCH_MERGE_QUEUE_H
#define PGOPT_SEARCH_MERGE_QUEUE_H

#include "utils/rel.h"

extern void merge_queue_init(void);

/* Asks for the merges that are due in an index.  False when nobody would hear. */
extern bool merge_request(Relation index);

#endif /* PGOPT_SEARCH_MERGE_QUEUE_H */
