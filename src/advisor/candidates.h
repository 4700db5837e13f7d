/*
 * candidates.h
 *		Which indexes could help a statement.
 *
 * They are read from what the planner itself makes of the statement
 * (set_rel_pathlist_hook: restriction clauses, equivalence classes, path keys,
 * the columns that are needed), so that views, subqueries, partitions and
 * implied equalities are seen as it sees them.
 */
#ifndef PGOPT_CANDIDATES_H
#define PGOPT_CANDIDATES_H

#include "pgopt.h"

#include "nodes/pathnodes.h"

#include "hypothetical.h"
#include "statement.h"

/* All candidates of a run; an index's id is its place here. */
typedef struct CandidateSet
{
	HypotheticalIndex **indexes;
	int count;
	int capacity;
	Bitmapset **
		of_statement; /* by AdvisorStatement.id: those that came from it, and others on its tables that might serve it */
	int nstatements;
	MemoryContext context;
	struct CandidatePrivate *private; /* of candidates*.c */
} CandidateSet;

/* A set for so many statements, in the current context. */
extern CandidateSet *candidates_create(int nstatements);

/* Adds it unless one that is equal is there, or a real index covers it; its id, or -1. */
extern int candidates_add(CandidateSet *set, HypotheticalIndex *index);

/*
 * Plans the statement once, without anything hypothetical, and adds what could
 * help it.  Returns the cost of that plan: of all of its queries, by weight.
 */
extern double candidates_collect(CandidateSet *set, const AdvisorStatement *statement);

/* Then, once for all statements: merges (one index that serves what two would), and narrower and wider forms. */
extern void candidates_merge(CandidateSet *set);

#endif /* PGOPT_CANDIDATES_H */
