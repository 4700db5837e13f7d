/*
 * join_search.h
 *		The order of joins, found by less than the whole search.
 */
#ifndef PGOPT_JOIN_SEARCH_H
#define PGOPT_JOIN_SEARCH_H

#include "pgopt.h"

#include "nodes/pathnodes.h"

/* From so many relations on, the search for their order is most of what planning takes. */
#define JOIN_SEARCH_LARGE 8

typedef enum JoinSearch
{
	JOIN_SEARCH_FULL,  /* as the settings have it */
	JOIN_SEARCH_LIGHT, /* where it is large: the genetic search, with few tries */
	JOIN_SEARCH_KNOWN, /* where it is large: the best that can be made of joins that are known */
} JoinSearch;

/* Two sets of relations that a plan joins. */
typedef struct KnownJoin
{
	int query; /* which of the statement's (sub)queries */
	Relids left;
	Relids right;
} KnownJoin;

/*
 * From now on orders are searched for like this, until the end, which must come
 * whatever happens.  known: KnownJoins; number: tells which (sub)query it is.
 */
extern void join_search_begin(JoinSearch how, const List *known, int (*number)(PlannerInfo *root));
extern void join_search_end(void);

/* The largest search since it began. */
extern int join_search_largest(void);

/* Adds the join to the list, in the current context, unless it is there. */
extern List *join_search_remember(List *known, int query, Relids left, Relids right);

#endif /* PGOPT_JOIN_SEARCH_H */
