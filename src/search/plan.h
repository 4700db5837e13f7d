/*
 * plan.h
 *		How the planner finds the index for a search.
 */
#ifndef PGOPT_SEARCH_PLAN_H
#define PGOPT_SEARCH_PLAN_H

#include "postgres.h"

#include "query.h"

/* Installs the planner's hook; called once by search_init(). */
extern void search_plan_init(void);

/* A search bound to an index; palloc'd. */
extern PgoptQuery *search_bind_query(const char *text, int length, Oid index, uint32 fields);

/* The index of a table (or partition) that belongs to a bound query: query's own, or its partition there. */
extern Oid search_index_of_table(Oid index, Oid table);

/* The best pgopt_bm25 index of a table for a user's search; InvalidOid when there is none. */
extern Oid search_find_index(Oid table);

#endif /* PGOPT_SEARCH_PLAN_H */
