/*
 * hypothetical_private.h
 *		What the files behind hypothetical.h share.
 */
#ifndef PGOPT_HYPOTHETICAL_PRIVATE_H
#define PGOPT_HYPOTHETICAL_PRIVATE_H

#include "pgopt.h"

#include "catalog/pg_am.h"

#include "hypothetical.h"

/* Access methods whose size and cost are modelled. */
static inline bool
am_is_known(Oid am)
{
	return am == BTREE_AM_OID || am == HASH_AM_OID || am == GIN_AM_OID || am == GIST_AM_OID ||
		   am == SPGIST_AM_OID || am == BRIN_AM_OID;
}

/* A WHERE clause as the relcache has it: implicitly ANDed, in a copy. */
extern List *canonical_predicate(Node *predicate);

/* Levels above the leaves of a btree with so many pages in all. */
extern int btree_height(double pages, double fanout);

/* Estimators of access methods for hypothetical indexes (index_costs.c). */
extern void gin_cost(PlannerInfo *root, IndexPath *path, double loop_count, Cost *startup,
					 Cost *total, Selectivity *selectivity, double *correlation, double *pages);
extern void brin_cost(PlannerInfo *root, IndexPath *path, double loop_count, Cost *startup,
					  Cost *total, Selectivity *selectivity, double *correlation, double *pages);

/* A whole number from the index's WITH (...), or the default. */
extern int index_option(const HypotheticalIndex *index, const char *name, int otherwise);

#endif /* PGOPT_HYPOTHETICAL_PRIVATE_H */
