/*
 * plan_tree.h
 *		A walk over all nodes of a plan.
 */
#ifndef PGOPT_PLAN_TREE_H
#define PGOPT_PLAN_TREE_H

#include "pgopt.h"

#include "nodes/plannodes.h"

/* Called for each node, parents first; parent is NULL at the top and for subplans. */
typedef void (*PlanVisitor)(Plan *plan, Plan *parent, void *arg);

/* All nodes of a statement's plan, those of its subplans and init plans included. */
extern void plan_tree_visit(const PlannedStmt *statement, PlanVisitor visit, void *arg);

/* The index that a node reads, or InvalidOid. */
extern Oid plan_tree_index(const Plan *plan);

#endif /* PGOPT_PLAN_TREE_H */
