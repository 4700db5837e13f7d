/*
 * plan_tree.c
 *		A walk over all nodes of a plan.
 *
 * The server has one for plans in execution only.
 */
#include "pgopt.h"

#include "miscadmin.h"

#include "plan_tree.h"

static void visit_node(Plan *plan, Plan *parent, PlanVisitor visit, void *arg);

static void
visit_list(List *plans, Plan *parent, PlanVisitor visit, void *arg)
{
	ListCell *cell;

	foreach(cell, plans)
		visit_node((Plan *) lfirst(cell), parent, visit, arg);
}

static void
visit_node(Plan *plan, Plan *parent, PlanVisitor visit, void *arg)
{
	if (plan == NULL)
		return;
	check_stack_depth();
	visit(plan, parent, arg);
	visit_node(plan->lefttree, plan, visit, arg);
	visit_node(plan->righttree, plan, visit, arg);
	switch (nodeTag(plan))
	{
		case T_Append:
			visit_list(((Append *) plan)->appendplans, plan, visit, arg);
			break;
		case T_MergeAppend:
			visit_list(((MergeAppend *) plan)->mergeplans, plan, visit, arg);
			break;
		case T_BitmapAnd:
			visit_list(((BitmapAnd *) plan)->bitmapplans, plan, visit, arg);
			break;
		case T_BitmapOr:
			visit_list(((BitmapOr *) plan)->bitmapplans, plan, visit, arg);
			break;
		case T_SubqueryScan:
			visit_node(((SubqueryScan *) plan)->subplan, plan, visit, arg);
			break;
		case T_CustomScan:
			visit_list(((CustomScan *) plan)->custom_plans, plan, visit, arg);
			break;
		default:
			break;
	}
}

void
plan_tree_visit(const PlannedStmt *statement, PlanVisitor visit, void *arg)
{
	visit_node(statement->planTree, NULL, visit, arg);
	visit_list(statement->subplans, NULL, visit, arg);
}

Oid
plan_tree_index(const Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_IndexScan:
			return ((const IndexScan *) plan)->indexid;
		case T_IndexOnlyScan:
			return ((const IndexOnlyScan *) plan)->indexid;
		case T_BitmapIndexScan:
			return ((const BitmapIndexScan *) plan)->indexid;
		default:
			return InvalidOid;
	}
}
