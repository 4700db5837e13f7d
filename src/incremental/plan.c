/*
 * plan.c
 *		How a view can be refreshed from what changed: its definition, as the
 *		rewriter expands it, is compiled into a program and, if it groups, what a
 *		group's state is made of.
 *
 * Statements are written under a search_path of pg_catalog alone, so that they
 * name all else in full, and mean the same wherever they are parsed.
 *
 * Locks: AccessShareLock on all that the definition reads, until the
 * transaction ends.  Memory: the plan is in the context of the caller.
 */
#include "pgopt.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "rewrite/prs2lock.h"
#include "rewrite/rewriteHandler.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "compat.h"
#include "incremental_private.h"

bool
plan_refuse(IncrementalPlan *plan, const char *hint, const char *fmt, ...)
{
	StringInfoData text;

	if (plan->refusal != NULL)
		return false;
	initStringInfo(&text);
	for (;;)
	{
		va_list arguments;
		int needed;

		va_start(arguments, fmt);
		needed = appendStringInfoVA(&text, fmt, arguments);
		va_end(arguments);
		if (needed == 0)
			break;
		enlargeStringInfo(&text, needed);
	}
	plan->refusal = text.data;
	plan->refusal_hint = hint != NULL ? pstrdup(hint) : NULL;
	return false;
}

void
plan_add_part(IncrementalPlan *plan, const char *part, const char *way, const char *reason,
			  const char *hint)
{
	PlanPart *entry = palloc0(sizeof(PlanPart));

	entry->part = pstrdup(part);
	entry->way = pstrdup(way);
	entry->reason = pstrdup(reason);
	entry->hint = hint != NULL ? pstrdup(hint) : NULL;
	plan->parts = lappend(plan->parts, entry);
}

static void
pin(const char *setting, const char *value)
{
	(void) set_config_option(
		setting, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

int
plan_pin_search_path(void)
{
	int nest_level = NewGUCNestLevel();

	pin("search_path", "pg_catalog, pg_temp");
	pin("standard_conforming_strings", "on");
	return nest_level;
}

/* Constants keep all their digits, and mean the same whatever DateStyle they are read under. */
int
plan_pin_deparsing(void)
{
	int nest_level = plan_pin_search_path();

	pin("extra_float_digits", "3");
	pin("DateStyle", "ISO");
	pin("IntervalStyle", "postgres");
	return nest_level;
}

Query *
plan_definition(Relation rel)
{
	Query *query;
	List *rewritten;

	if (rel->rd_rel->relkind != RELKIND_MATVIEW || rel->rd_rules == NULL ||
		rel->rd_rules->numLocks != 1)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a materialized view", RelationGetRelationName(rel))));
	query = copyObject(linitial_node(Query, rel->rd_rules->rules[0]->actions));
	AcquireRewriteLocks(query, true, false);
	rewritten = QueryRewrite(query);
	if (list_length(rewritten) != 1)
		elog(ERROR, "unexpected rewritten definition of \"%s\"", RelationGetRelationName(rel));
	return linitial_node(Query, rewritten);
}

/* --- what rewriting leaves behind ------------------------------------------------------- */

/* A view reads with the rights of its own owner; a statement with those of the matview's. */
static bool
check_rights(IncrementalPlan *plan, Oid relid)
{
	if (pg_class_aclcheck(relid, plan->owner, ACL_SELECT) == ACLCHECK_OK ||
		pg_attribute_aclcheck_all(relid, plan->owner, ACL_SELECT, ACLMASK_ALL) == ACLCHECK_OK)
		return true;
	return plan_refuse(
		plan,
		psprintf("GRANT SELECT ON %s TO %s.",
				 quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
											get_rel_name(relid)),
				 quote_identifier(GetUserNameFromId(plan->owner, false))),
		"table %s is read through a view, and the owner of the materialized view may "
		"not read it",
		get_rel_name(relid));
}

/*
 * Some comparisons are written out without the schema of their operator.  One
 * of the server's own is found all the same.
 */
static bool
check_written_operator(IncrementalPlan *plan, Oid operator, const char * clause)
{
	if (OidIsValid(operator) && operator>= FirstNormalObjectId)
		return plan_refuse(plan,
						   "Compare with = instead.",
						   "%s uses an operator of an extension or a user",
						   clause);
	return true;
}

static bool
check_walker(Node *node, IncrementalPlan *plan)
{
	if (node == NULL || plan->refusal != NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_RELATION && rte->relkind != RELKIND_VIEW)
			(void) check_rights(plan, rte->relid);
		return false;
	}
	if (IsA(node, Query))
	{
		if (((Query *) node)->hasRowSecurity)
			plan_refuse(plan, NULL, "row security filters what the view's owner sees");
		return query_tree_walker((Query *) node, check_walker, plan, QTW_EXAMINE_RTES_BEFORE);
	}
	if (IsA(node, DistinctExpr))
		(void) check_written_operator(plan, ((OpExpr *) node)->opno, "IS DISTINCT FROM");
	else if (IsA(node, NullIfExpr))
		(void) check_written_operator(plan, ((OpExpr *) node)->opno, "NULLIF");
	else if (IsA(node, CaseExpr) && ((CaseExpr *) node)->arg != NULL)
	{
		ListCell *lc;

		foreach(lc, ((CaseExpr *) node)->args)
		{
			Node *condition = (Node *) ((CaseWhen *) lfirst(lc))->expr;

			if (IsA(condition, OpExpr))
				(void) check_written_operator(plan, ((OpExpr *) condition)->opno, "CASE");
		}
	}
	return expression_tree_walker(node, check_walker, plan);
}

/* --- UNION -------------------------------------------------------------------------------- */

/*
 * UNION is UNION ALL with equal rows made one at the end; a UNION within it can
 * be UNION ALL, then.  Returns false for what is neither.
 */
static bool
make_union_all(Node *node)
{
	SetOperationStmt *operation = (SetOperationStmt *) node;

	if (!IsA(node, SetOperationStmt))
		return true;
	if (operation->op != SETOP_UNION)
		return false;
	operation->all = true;
	operation->groupClauses = NIL;
	return make_union_all(operation->larg) && make_union_all(operation->rarg);
}

static bool
is_union(Query *query)
{
	SetOperationStmt *operation = (SetOperationStmt *) query->setOperations;

	return operation != NULL && operation->op == SETOP_UNION && !operation->all;
}

/* --- compiling ------------------------------------------------------------------------------ */

static void
compile(IncrementalPlan *plan, Query *query)
{
	bool unite = is_union(query);
	bool groups;
	List *outputs = NIL;
	ListCell *lc;

	(void) check_walker((Node *) query, plan);
	if (plan->refusal != NULL)
		return;
	/* INTERSECT and EXCEPT are left for delta_normalize() to name */
	if (unite && make_union_all(query->setOperations))
		plan_add_part(plan,
					  "UNION",
					  "grouped by all columns",
					  "a row is there as long as one of its parts gives it",
					  "write UNION ALL if no row comes twice");
	query = delta_normalize(plan, query);
	if (query == NULL)
		return;

	groups = unite || (query->setOperations == NULL &&
					   (query->hasAggs || query->groupClause != NIL || query->groupingSets != NIL ||
						query->distinctClause != NIL || query->havingQual != NULL));
	if (groups)
	{
		(void) groups_compile(plan, query);
		return;
	}
	if (query->setOperations == NULL)
	{
		foreach(lc, query->targetList)
		{
			TargetEntry *entry = lfirst(lc);

			if (!entry->resjunk)
				outputs = lappend(outputs, entry->expr);
		}
	}
	plan->program = delta_compile(plan, query, outputs);
}

IncrementalPlan *
plan_compile(Oid matview)
{
	IncrementalPlan *plan = palloc0(sizeof(IncrementalPlan));
	Relation rel = relation_open(matview, AccessShareLock);
	int nest_level = plan_pin_deparsing();

	plan->context = CurrentMemoryContext;
	plan->matview = matview;
	plan->owner = rel->rd_rel->relowner;
	compile(plan, plan_definition(rel));
	if (plan->refusal != NULL)
		plan->program = NULL;
	AtEOXact_GUC(true, nest_level);
	relation_close(rel, NoLock);
	return plan;
}
