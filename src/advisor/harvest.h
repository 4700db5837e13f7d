/*
 * harvest.h
 *		One planner call, and all that can be learned from it.
 */
#ifndef PGOPT_HARVEST_H
#define PGOPT_HARVEST_H

#include "pgopt.h"

#include "nodes/pathnodes.h"

#include "candidates.h"
#include "join_search.h"
#include "statement.h"

/*
 * What the rest of a plan asks of a scan.  Numbers stand for what the planner
 * points to, because each of its runs has its own: they count in the order in
 * which it gets to them, which is the same in each.
 */
typedef struct Requirement
{
	int query;    /* which of the statement's (sub)queries */
	int relation; /* its range table index */
	Relids outer; /* the relations whose values it is called with */
	bool partial; /* a worker's share */
	int norders;
	uint64 *orders; /* the path keys, by equivalence class, operator family and direction */
} Requirement;

/* One way to read a relation, that some candidate alone, or what exists, allows. */
typedef struct Access
{
	Requirement meets;
	int index; /* a candidate's id; -1 = it takes nothing new */
	Cost startup;
	Cost total;
	double rows;
} Access;

/* A scan in a plan. */
typedef struct Leaf
{
	Requirement needs;
	Bitmapset *indexes; /* candidates that it reads */
	Cost startup;
	Cost total;
	double rows;
	double
		startup_share; /* how often its startup cost, and its run cost, are part of the statement's */
	double run_share;
} Leaf;

typedef struct Harvest
{
	double cost;
	Bitmapset *used;  /* candidates that the plan reads */
	Bitmapset *fixed; /* those among them whose scans are not in leaves */
	int nleaves;
	Leaf *leaves;
	int naccesses;
	Access *accesses;
	int relations; /* base relations that were planned, those of subqueries included */
	int joined;    /* the most of them whose order was searched for at once */
} Harvest;

/*
 * Plans with these candidates shown; false where the planner raises an error.
 * accesses: price each of them alone too.  search: how the order of joins is
 * found; those of the plan are added to the known ones.  The result is in the
 * current context, the planner's waste is in that of planning, which is reset.
 */
extern bool harvest_plan(const AdvisorQuery *query, const CandidateSet *candidates,
						 const Bitmapset *visible, bool accesses, JoinSearch search, List **known,
						 MemoryContext planning, Harvest *harvest);

/* Can a path that meets this stand where that is needed? */
extern bool harvest_meets(const Requirement *meets, const Requirement *needs);

#endif /* PGOPT_HARVEST_H */
