/*
 * costs.h
 *		What a statement costs with a set of candidates: known, or reckoned.
 *
 * What a planner call teaches holds for other sets too.  A plan that was chosen
 * with the candidates C shown, and that reads U of them, would be chosen with
 * every set between U and C; no set within C is cheaper, none that contains U
 * dearer.  Where that does not settle it, the cost is reckoned: a known plan
 * with other indexes in the place of its scans (harvest.h).
 */
#ifndef PGOPT_COSTS_H
#define PGOPT_COSTS_H

#include "pgopt.h"

#include "candidates.h"
#include "statement.h"

typedef struct CostModel CostModel;

/* Of statements whose candidates are complete and measured.  In the current context. */
extern CostModel *costs_create(List *statements, CandidateSet *candidates);

/* Plans the statement without and with its candidates, and with what is left of them when those that were used are gone. */
extern void costs_explore(CostModel *model, int statement);

/*
 * Planner cost of one call of the statement with the set.  exact, unless NULL:
 * that the planner would say the same, as far as it finds its best plan.
 */
extern double costs_reckon(CostModel *model, int statement, const Bitmapset *set, bool *exact);

/* The same, after a planner call where that is needed and the statement has calls left. */
extern double costs_confirm(CostModel *model, int statement, const Bitmapset *set);

/* The same, by real plans whatever it takes; used, unless NULL: the candidates in them. */
extern double costs_plan(CostModel *model, int statement, const Bitmapset *set, Bitmapset **used);

/* Without any of them. */
extern double costs_today(const CostModel *model, int statement);

/* Candidates that could make a difference to it. */
extern const Bitmapset *costs_relevant(const CostModel *model, int statement);

/* False where it cannot be planned any more. */
extern bool costs_known(const CostModel *model, int statement);

/* Sets that plans of the statement read together, two or more of them: a list of Bitmapset. */
extern List *costs_groups(const CostModel *model, int statement);

extern int costs_planner_calls(const CostModel *model);

#endif /* PGOPT_COSTS_H */
