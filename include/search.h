/*
 * search.h
 *		Ranked full-text search: the access method pgopt_bm25, Portuguese
 *		analysis, and the functions over both.  src/search/README.md describes it.
 *
 * Owns: its indexes, and the planner hook that finds the index for a search.
 * Locks: src/search/pages.h.
 */
#ifndef PGOPT_SEARCH_H
#define PGOPT_SEARCH_H

#include "pgopt.h"

#include "utils/rel.h"

/* Reloptions and the planner's hook; called once by _PG_init, before the settings' prefix is reserved. */
extern void search_init(void);

/* OID of the access method pgopt_bm25 in this database, or InvalidOid where it is not. */
extern Oid search_access_method(void);

/* Schema of the extension's functions and operators, or InvalidOid where it is not installed. */
extern Oid search_schema(void);

/* OID of the type pgopt_query, or InvalidOid where the extension is not installed. */
extern Oid search_query_type(void);

/* OID of the text search configuration pgopt_portuguese; an error where it is not. */
extern Oid search_default_config(void);

/* What the pages of an index are used for, in pages. */
typedef struct SearchSpace
{
	double total;
	double free; /* on the list of free extents */
	double
		live; /* of segments, the share of documents that are not deleted; and the write buffer */
	double deleted; /* of segments, the share of deleted documents: until a merge */
} SearchSpace;

/* Cost: reads the meta page and the free page. */
extern void search_space_of_index(Relation index, SearchSpace *space);

/*
 * Merges what is worth merging in one index (open, RowExclusiveLock), one
 * merge a call; false when there was nothing to merge.  For the background
 * worker and for VACUUM; gives way at once when VACUUM works on the index.
 */
extern bool search_merge_step(Relation index);

/* The same in transactions of its own, until nothing is due; the index may be gone. */
extern void search_merge_all(Oid index);

/* Requests for that, of this database: takes one (false: there is none), or makes one. */
extern bool search_take_merge(Oid *index);
extern void search_request_merge(Oid index);

#endif /* PGOPT_SEARCH_H */
