/*
 * search_set.h
 *		The search for the best set of candidates.
 */
#ifndef PGOPT_SEARCH_SET_H
#define PGOPT_SEARCH_SET_H

#include "pgopt.h"

#include "candidates.h"
#include "costs.h"
#include "selection.h"
#include "writes.h"

typedef struct Search
{
	CostModel *model;
	const CandidateSet *candidates;
	int nstatements;
	AdvisorStatement **statements; /* by id */
	double *time;                  /* by statement: its share of the workload's time */
	double *voice;                 /* by statement: 1 / those that are heard; 0 = negligible */
	SelectionGoal goal;
	double *bytes;     /* by candidate */
	WriteCost *writes; /* by candidate */
	double write_unit; /* share of the workload's time that one planner unit of writing is */
	double byte_price;
	Bitmapset **statements_of; /* by candidate: statements to which it could make a difference */
	List *groups;              /* Bitmapsets: candidates that some plan reads together */
} Search;

/* After all statements are explored.  In the current context. */
extern Search *search_create(CostModel *model, List *statements, CandidateSet *candidates,
							 const SelectionGoal *goal);

/* How bad it is with the set; only differences mean anything.  confirm: asks the planner where that is needed. */
extern double search_loss(Search *search, const Bitmapset *set, bool confirm);

/* The best set that was found. */
extern Bitmapset *search_run(Search *search, SelectionProgress progress);

#endif /* PGOPT_SEARCH_SET_H */
