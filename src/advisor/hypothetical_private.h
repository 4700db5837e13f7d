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

/* Levels above the leaves of a btree with so many pages. */
extern int btree_height(double pages, double fanout);

#endif /* PGOPT_HYPOTHETICAL_PRIVATE_H */
