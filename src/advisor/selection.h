/*
 * selection.h
 *		Which of the candidates to build, within a budget.
 */
#ifndef PGOPT_SELECTION_H
#define PGOPT_SELECTION_H

#include "pgopt.h"

#include "candidates.h"
#include "statement.h"

/* One index of the answer, best first. */
typedef struct SelectedIndex
{
	HypotheticalIndex *index;
	double benefit; /* of the objective, that it alone adds to those before it */
	double
		cost_before; /* planner units: cost x calls of the statements that it helps, without any new index */
	double cost_after; /* with it and those before it */
	double
		write_cost; /* the same unit, over the same executions: what writing to it costs, HOT updates lost included */
	double hot_lost;       /* updates that could no longer be HOT */
	double writes;         /* entries that would be made */
	Bitmapset *statements; /* ids of those that it helps */
} SelectedIndex;

typedef struct Selection
{
	int nselected;
	SelectedIndex *selected;
	double *cost_before; /* by statement id: planner cost of one call, today */
	double *cost_after;  /* with all that is selected, by real plans */
	Bitmapset **used;    /* by statement id: of the selected, those in its plans */
	int planner_calls;
	int candidates;
} Selection;

/* What the caller wants. */
typedef struct SelectionGoal
{
	double budget;   /* bytes; infinity() = no limit */
	int max_indexes; /* 0 = no limit */
} SelectionGoal;

/* Told now and then how far it is; checks for interrupts itself besides. */
typedef void (*SelectionProgress)(const char *phase, int done, int total, int planner_calls);

extern Selection *
selection_run(List *statements, const SelectionGoal *goal, SelectionProgress progress);

#endif /* PGOPT_SELECTION_H */
