/*
 * delta_normalize.c
 *		Brings a rewritten query into the form that changes are compiled from,
 *		and refuses what cannot be refreshed incrementally.
 *
 * In that form there are no CTEs, no join aliases and no join that is inner but
 * below an outer one's side: a query's FROM is a list of tables, functions,
 * outer joins and of subqueries that could not be pulled up, its WHERE a list of
 * conditions.  Permissions are not in it: it is meant to become text again, which
 * is checked when it runs.
 *
 * No locks of its own: what the query names is locked by whoever rewrote it.
 * Cost: linear in the query's size times its depth.
 */
#include "pgopt.h"

#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/lsyscache.h"

#include "delta.h"

#define HINT_AGGREGATE_BELOW \
	"make a materialized view of the subquery, manage it too, and read it here"
#define HINT_WHOLE "it is refreshed as a whole"

static bool normalize_query(IncrementalPlan *plan, Query *query, bool top);

/* --- small mutators ------------------------------------------------------------ */

/*
 * Vars that say nothing but which column they are: what may make them null is
 * not told, nor under which name the user meant them.
 */
static bool
plain_vars(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var *var = (Var *) node;

		compat_clear_nulling(var);
		var->varnosyn = var->varno;
		var->varattnosyn = var->varattno;
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, plain_vars, context, 0);
	return expression_tree_walker(node, plain_vars, context);
}

typedef struct VarsWalk
{
	int level;
	List *vars;
} VarsWalk;

static bool
collect_vars(Node *node, VarsWalk *walk)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		if ((int) ((Var *) node)->varlevelsup == walk->level)
		{
			Var *var = copyObject((Var *) node);

			var->varlevelsup = 0;
			walk->vars = list_append_unique(walk->vars, var);
		}
		return false;
	}
	if (IsA(node, Query))
	{
		bool result;

		walk->level++;
		result = query_tree_walker((Query *) node, collect_vars, walk, QTW_IGNORE_JOINALIASES);
		walk->level--;
		return result;
	}
	return expression_tree_walker(node, collect_vars, walk);
}

List *
delta_vars(Node *node, int level)
{
	VarsWalk walk = {.level = level};

	(void) collect_vars(node, &walk);
	return walk.vars;
}

/* A range table entry that nothing refers to any more. */
static void
blank(RangeTblEntry *rte)
{
	*rte = (RangeTblEntry){.type = T_RangeTblEntry, .rtekind = RTE_RESULT};
	rte->eref = makeAlias("unused", NIL);
}

/* --- CTEs ----------------------------------------------------------------------- */

typedef struct CteWalk
{
	CommonTableExpr *cte;
	int level;
} CteWalk;

static bool
inline_cte(Node *node, CteWalk *walk)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_CTE && (int) rte->ctelevelsup == walk->level &&
			strcmp(rte->ctename, walk->cte->ctename) == 0)
		{
			rte->rtekind = RTE_SUBQUERY;
			rte->subquery = copyObject(castNode(Query, walk->cte->ctequery));
			if (walk->level > 0)
				IncrementVarSublevelsUp((Node *) rte->subquery, walk->level, 1);
			rte->ctename = NULL;
			rte->ctelevelsup = 0;
			rte->coltypes = rte->coltypmods = rte->colcollations = NIL;
		}
		return false;
	}
	if (IsA(node, Query))
	{
		bool result;

		walk->level++;
		result = query_tree_walker((Query *) node, inline_cte, walk, QTW_EXAMINE_RTES_AFTER);
		walk->level--;
		return result;
	}
	return expression_tree_walker(node, inline_cte, walk);
}

/*
 * Each mention of a CTE becomes a subquery of its own.  That gives the same rows,
 * since nothing volatile is let through.
 */
static bool
inline_ctes(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query *query = (Query *) node;

		while (query->cteList != NIL && !query->hasRecursive)
		{
			CteWalk walk = {.cte = linitial_node(CommonTableExpr, query->cteList)};

			query->cteList = list_delete_first(query->cteList);
			(void) query_tree_walker(query, inline_cte, &walk, QTW_EXAMINE_RTES_AFTER);
		}
		return query_tree_walker(query, inline_ctes, context, 0);
	}
	return expression_tree_walker(node, inline_ctes, context);
}

/* --- refusals -------------------------------------------------------------------- */

static bool
is_volatile(Oid funcid, void *context)
{
	if (func_volatile(funcid) != PROVOLATILE_VOLATILE)
		return false;
	*(Oid *) context = funcid;
	return true;
}

static bool
find_volatile(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (check_functions_in_node(node, is_volatile, context))
		return true;
	if (IsA(node, NextValueExpr))
	{
		*(Oid *) context = InvalidOid;
		return true;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, find_volatile, context, 0);
	return expression_tree_walker(node, find_volatile, context);
}

/* What no query may have, wherever it stands. */
static bool
refuse_clauses(IncrementalPlan *plan, Query *query, bool top)
{
	if (query->commandType != CMD_SELECT || query->hasModifyingCTE)
		return plan_refuse(plan, NULL, "it changes data");
	if (query->hasRecursive)
		return plan_refuse(plan, NULL, "WITH RECURSIVE: a change can reach any row");
	if (query->rowMarks != NIL)
		return plan_refuse(plan, "leave FOR UPDATE or FOR SHARE out", "it locks rows");
	if (query->limitCount != NULL || query->limitOffset != NULL)
		return plan_refuse(plan,
						   "keep all rows, and limit where the view is read",
						   "LIMIT or OFFSET: which rows are in it depends on all others");
	if (query->hasWindowFuncs || query->windowClause != NIL)
		return plan_refuse(plan,
						   "compute window functions where the view is read",
						   "window functions: a row's value depends on other rows");
	if (query->hasTargetSRFs)
		return plan_refuse(plan,
						   "call the function in FROM, with LATERAL",
						   "a function that returns a set, in the select list");
	if (query->hasDistinctOn)
		return plan_refuse(plan, NULL, "DISTINCT ON: which row is kept depends on all others");
	if (query->groupingSets != NIL)
		return plan_refuse(
			plan, "make one view for each grouping", "GROUPING SETS, ROLLUP or CUBE");
	if (top)
		return true;
	if (query->hasAggs || query->groupClause != NIL || query->havingQual != NULL)
		return plan_refuse(
			plan, HINT_AGGREGATE_BELOW, "aggregates or GROUP BY below the top of the query");
	if (query->distinctClause != NIL)
		return plan_refuse(plan, HINT_AGGREGATE_BELOW, "DISTINCT below the top of the query");
	return true;
}

static bool
check_relation(IncrementalPlan *plan, RangeTblEntry *rte)
{
	char relkind = get_rel_relkind(rte->relid);

	if (rte->tablesample != NULL)
		return plan_refuse(plan, NULL, "TABLESAMPLE: samples differ from run to run");
	if (rte->securityQuals != NIL)
		return plan_refuse(plan, NULL, "row security filters table %s", get_rel_name(rte->relid));
	switch (relkind)
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
		case RELKIND_MATVIEW:
			return true;
		case RELKIND_FOREIGN_TABLE:
			return plan_refuse(plan,
							   NULL,
							   "changes of the foreign table %s cannot be seen",
							   get_rel_name(rte->relid));
		default:
			return plan_refuse(
				plan, NULL, "changes of %s cannot be seen", get_rel_name(rte->relid));
	}
}

typedef struct ColumnsWalk
{
	IncrementalPlan *plan;
	List *queries; /* innermost first */
} ColumnsWalk;

/* System columns and whole rows are in no store. */
static bool
refuse_columns(Node *node, ColumnsWalk *walk)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var *var = (Var *) node;
		Query *query = list_nth(walk->queries, var->varlevelsup);
		RangeTblEntry *rte = rt_fetch(var->varno, query->rtable);

		if (var->varattno < 0)
		{
			(void) plan_refuse(
				walk->plan, "leave the column out", "a system column of %s", rte->eref->aliasname);
			return true;
		}
		if (var->varattno == 0)
		{
			(void) plan_refuse(
				walk->plan, "name the columns", "a row of %s as a whole", rte->eref->aliasname);
			return true;
		}
		return false;
	}
	if (IsA(node, Query))
	{
		bool result;

		walk->queries = lcons(node, walk->queries);
		result = query_tree_walker((Query *) node, refuse_columns, walk, QTW_IGNORE_JOINALIASES);
		walk->queries = list_delete_first(walk->queries);
		return result;
	}
	return expression_tree_walker(node, refuse_columns, walk);
}

/* --- join trees -------------------------------------------------------------------- */

Relids
delta_entries(Node *node)
{
	Relids result = NULL;
	ListCell *lc;

	if (node == NULL)
		return NULL;
	if (IsA(node, RangeTblRef))
		result = bms_make_singleton(((RangeTblRef *) node)->rtindex);
	else if (IsA(node, FromExpr))
	{
		foreach(lc, ((FromExpr *) node)->fromlist)
			result = bms_join(result, delta_entries(lfirst(lc)));
	}
	else if (IsA(node, JoinExpr))
	{
		JoinExpr *join = (JoinExpr *) node;

		result = bms_join(delta_entries(join->larg), delta_entries(join->rarg));
		if (join->rtindex != 0)
			result = bms_add_member(result, join->rtindex);
	}
	else if (IsA(node, SetOperationStmt))
	{
		SetOperationStmt *operation = (SetOperationStmt *) node;

		result = bms_join(delta_entries(operation->larg), delta_entries(operation->rarg));
	}
	return result;
}

/* What FROM does not mention (views' OLD and NEW, joins that were flattened) goes. */
void
delta_blank_unused(Query *query)
{
	Relids used =
		bms_join(delta_entries((Node *) query->jointree), delta_entries(query->setOperations));
	ListCell *lc;

	foreach(lc, query->rtable)
		if (!bms_is_member(foreach_current_index(lc) + 1, used))
			blank(lfirst(lc));
}

static List *
numbers_to(int n)
{
	List *result = NIL;

	for (int i = 1; i <= n; i++)
		result = lappend_int(result, i);
	return result;
}

/*
 * Joins without names, which hide those of their tables, and without USING,
 * whose operator would be looked for again: their conditions are there as such.
 * Of an entry's columns only the number is still looked at.
 */
static int
make_joins_plain(Query *query, Node *node)
{
	JoinExpr *join = (JoinExpr *) node;
	RangeTblEntry *rte;
	ListCell *lc;
	int left;
	int right;

	if (IsA(node, FromExpr))
		foreach(lc, ((FromExpr *) node)->fromlist)
			(void) make_joins_plain(query, lfirst(lc));
	if (!IsA(node, JoinExpr))
		return 0;

	rte = rt_fetch(join->rtindex, query->rtable);
	left = make_joins_plain(query, join->larg);
	right = make_joins_plain(query, join->rarg);
	if (IsA(join->larg, JoinExpr))
		rte->joinleftcols = numbers_to(left);
	if (IsA(join->rarg, JoinExpr))
		rte->joinrightcols = numbers_to(right);
	list_sort(rte->joinleftcols, list_int_cmp);
	list_sort(rte->joinrightcols, list_int_cmp);

	join->usingClause = NIL;
	join->isNatural = false;
	join->alias = rte->alias = NULL;
	join->join_using_alias = rte->join_using_alias = NULL;
	rte->joinmergedcols = 0;
	rte->joinaliasvars = NIL;
	rte->eref->colnames = NIL;
	foreach(lc, list_concat_copy(rte->joinleftcols, rte->joinrightcols))
	{
		rte->joinaliasvars = lappend(rte->joinaliasvars, makeNullConst(INT4OID, -1, InvalidOid));
		rte->eref->colnames = lappend(rte->eref->colnames, makeString(pstrdup("unused")));
	}
	return list_length(rte->joinaliasvars);
}

/* The items of an inner join, and its conditions. */
static void
flatten_inner(Node *node, List **items, List **quals)
{
	ListCell *lc;

	if (IsA(node, FromExpr))
	{
		FromExpr *from = (FromExpr *) node;

		foreach(lc, from->fromlist)
			flatten_inner(lfirst(lc), items, quals);
		*quals = list_concat(*quals, make_ands_implicit((Expr *) from->quals));
	}
	else if (IsA(node, JoinExpr) && ((JoinExpr *) node)->jointype == JOIN_INNER)
	{
		JoinExpr *join = (JoinExpr *) node;

		flatten_inner(join->larg, items, quals);
		flatten_inner(join->rarg, items, quals);
		*quals = list_concat(*quals, make_ands_implicit((Expr *) join->quals));
	}
	else
		*items = lappend(*items, node);
}

static void
flatten_from(Query *query)
{
	List *items = NIL;
	List *quals = NIL;

	flatten_inner((Node *) query->jointree, &items, &quals);
	query->jointree = makeFromExpr(items, quals == NIL ? NULL : (Node *) make_ands_explicit(quals));
}

/* --- subqueries -------------------------------------------------------------------- */

static bool
is_simple(Query *subquery)
{
	return subquery->setOperations == NULL && !subquery->hasAggs && subquery->groupClause == NIL &&
		   subquery->havingQual == NULL && subquery->distinctClause == NIL;
}

/* Puts the parts of a subquery into its parent's FROM and WHERE. */
static Query *
pull_up(Query *query, int item)
{
	int rti = list_nth_node(RangeTblRef, query->jointree->fromlist, item)->rtindex;
	RangeTblEntry *entry = rt_fetch(rti, query->rtable);
	RangeTblEntry *original = copyObject(entry);
	Query *subquery = original->subquery;
	ListCell *lc;

	OffsetVarNodes((Node *) subquery, list_length(query->rtable), 0);
	IncrementVarSublevelsUp((Node *) subquery, -1, 1);
	if (entry->lateral)
		foreach(lc, subquery->rtable)
		{
			RangeTblEntry *inner = lfirst(lc);

			if (inner->rtekind == RTE_SUBQUERY || inner->rtekind == RTE_FUNCTION ||
				inner->rtekind == RTE_VALUES || inner->rtekind == RTE_TABLEFUNC)
				inner->lateral = true;
		}

	blank(entry);
	lfirst(list_nth_cell(query->jointree->fromlist, item)) = makeFromExpr(NIL, NULL);
	query = (Query *) compat_ReplaceVarsFromTargetList(
		(Node *) query, rti, original, subquery->targetList);
	query->rtable = list_concat(query->rtable, subquery->rtable);
	lfirst(list_nth_cell(query->jointree->fromlist, item)) = subquery->jointree;
	query->hasSubLinks |= subquery->hasSubLinks;
	return query;
}

/* Pulls up what can be, until nothing is left.  Scribbles on the query given. */
static void
pull_up_subqueries(Query *query)
{
	bool found;

	do
	{
		ListCell *lc;

		found = false;
		flatten_from(query);
		foreach(lc, query->jointree->fromlist)
		{
			RangeTblEntry *rte;

			if (!IsA(lfirst(lc), RangeTblRef))
				continue;
			rte = rt_fetch(lfirst_node(RangeTblRef, lc)->rtindex, query->rtable);
			if (rte->rtekind == RTE_SUBQUERY && is_simple(rte->subquery))
			{
				*query = *pull_up(query, foreach_current_index(lc));
				found = true;
				break;
			}
		}
	} while (found);
}

static bool
normalize_subqueries(IncrementalPlan *plan, Query *query)
{
	ListCell *lc;

	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind != RTE_SUBQUERY)
			continue;
		if (!normalize_query(plan, rte->subquery, !delta_reads_tables((Node *) rte->subquery)))
			return false;

		/* The names that the query knows its columns by; and it is no view any more. */
		rte->alias = copyObject(rte->eref);
		rte->relid = InvalidOid;
		rte->security_barrier = false;
	}
	return true;
}

/* --- subqueries in expressions ------------------------------------------------------ */

typedef struct SublinkWalk
{
	IncrementalPlan *plan;
	bool failed;
} SublinkWalk;

/* Clauses that make no difference to whether rows exist. */
static void
simplify_exists(Query *query, bool exists)
{
	Const *limit = (Const *) eval_const_expressions(NULL, query->limitCount);

	query->sortClause = NIL;
	if (exists && limit != NULL && IsA(limit, Const) && query->limitOffset == NULL &&
		(limit->constisnull || DatumGetInt64(limit->constvalue) > 0))
		query->limitCount = NULL;
	if (query->setOperations != NULL || query->hasTargetSRFs)
		return;
	if (!query->hasDistinctOn)
		query->distinctClause = NIL;
	if (!query->hasAggs && query->groupingSets == NIL && query->havingQual == NULL)
		query->groupClause = NIL;
}

static bool
normalize_sublinks(Node *node, SublinkWalk *walk)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query)) /* a subquery in FROM: done with */
		return false;
	if (IsA(node, SubLink))
	{
		SubLink *sublink = (SubLink *) node;
		Query *query = castNode(Query, sublink->subselect);

		if (normalize_sublinks(sublink->testexpr, walk))
			return true;
		if (sublink->subLinkType == EXISTS_SUBLINK || sublink->subLinkType == ANY_SUBLINK ||
			sublink->subLinkType == ALL_SUBLINK)
			simplify_exists(query, sublink->subLinkType == EXISTS_SUBLINK);
		else if (delta_reads_tables((Node *) query))
			walk->failed = !plan_refuse(
				walk->plan, "join the subquery instead", "a subquery that stands for a value");
		if (walk->failed)
			return true;
		walk->failed = !normalize_query(walk->plan, query, !delta_reads_tables((Node *) query));
		return walk->failed;
	}
	return expression_tree_walker(node, normalize_sublinks, walk);
}

/* --- the whole ----------------------------------------------------------------------- */

/* Columns that were only sorted by. */
static void
drop_sorting(Query *query)
{
	List *targets = NIL;
	ListCell *lc;

	query->sortClause = NIL;
	foreach(lc, query->targetList)
	{
		TargetEntry *target = lfirst(lc);

		if (!target->resjunk ||
			get_sortgroupref_clause_noerr(target->ressortgroupref, query->groupClause) != NULL)
			targets = lappend(targets, target);
	}
	query->targetList = targets;
}

static void
resolve_aliases(Query *query)
{
	ListCell *lc;

	compat_flatten_group_exprs(query);
	query->targetList = (List *) compat_flatten_join_alias_vars(query, (Node *) query->targetList);
	query->havingQual = compat_flatten_join_alias_vars(query, query->havingQual);
	query->jointree = (FromExpr *) compat_flatten_join_alias_vars(query, (Node *) query->jointree);
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		rte->functions = (List *) compat_flatten_join_alias_vars(query, (Node *) rte->functions);
		rte->values_lists =
			(List *) compat_flatten_join_alias_vars(query, (Node *) rte->values_lists);
		rte->tablefunc =
			(TableFunc *) compat_flatten_join_alias_vars(query, (Node *) rte->tablefunc);
		if (rte->lateral && rte->subquery != NULL)
			rte->subquery = (Query *) compat_flatten_join_alias_vars(query, (Node *) rte->subquery);
	}
}

static bool
normalize_query(IncrementalPlan *plan, Query *query, bool top)
{
	SublinkWalk walk = {.plan = plan};
	ListCell *lc;

	check_stack_depth();
	if (!refuse_clauses(plan, query, top))
		return false;

	drop_sorting(query);
	resolve_aliases(query);
	delta_blank_unused(query);
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind == RTE_RELATION && !check_relation(plan, rte))
			return false;
		if (delta_reads_tables((Node *) rte->functions) ||
			delta_reads_tables((Node *) rte->values_lists) ||
			delta_reads_tables((Node *) rte->tablefunc))
			return plan_refuse(plan,
							   "join the subquery with LATERAL instead",
							   "a subquery in what a function in FROM is given");
	}
	compat_forget_permissions(query);
	(void) make_joins_plain(query, (Node *) query->jointree);

	if (!normalize_subqueries(plan, query))
		return false;
	if (delta_reads_tables((Node *) query->targetList) || delta_reads_tables(query->havingQual))
		return plan_refuse(
			plan, "join the subquery instead", "a subquery in the select list or in HAVING");
	(void) query_tree_walker(query, normalize_sublinks, &walk, QTW_IGNORE_RT_SUBQUERIES);
	if (walk.failed)
		return false;
	pull_up_subqueries(query);
	delta_blank_unused(query);
	return true;
}

/* A query that gives the columns of its only subquery as they are. */
static bool
is_wrapper(Query *query)
{
	ListCell *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *target = lfirst(lc);
		Var *var = (Var *) target->expr;

		if (target->resjunk || !IsA(var, Var) || var->varattno != target->resno)
			return false;
	}
	return query->jointree->quals == NULL;
}

/*
 * SELECT ... FROM (a query that groups): the expressions move into the subquery,
 * and conditions become its HAVING.  So views over views that group are like
 * views that group.
 */
static Query *
enter_only_subquery(Query *query)
{
	Query *inner;
	RangeTblRef *item;
	RangeTblEntry *rte;
	List *targets;
	ListCell *lc;

	if (list_length(query->jointree->fromlist) != 1 || !is_simple(query) || query->hasSubLinks ||
		query->limitCount != NULL || query->limitOffset != NULL || query->hasWindowFuncs ||
		query->hasTargetSRFs || query->rowMarks != NIL)
		return query;
	item = linitial(query->jointree->fromlist);
	if (!IsA(item, RangeTblRef))
		return query;
	rte = rt_fetch(item->rtindex, query->rtable);
	inner = rte->subquery;
	if (rte->rtekind != RTE_SUBQUERY || is_simple(inner))
		return query;

	drop_sorting(query);
	if (list_length(query->targetList) == list_length(inner->targetList) && is_wrapper(query))
	{
		foreach(lc, inner->targetList)
			((TargetEntry *) lfirst(lc))->resname =
				list_nth_node(TargetEntry, query->targetList, foreach_current_index(lc))->resname;
		return inner;
	}
	if (inner->setOperations != NULL || inner->distinctClause != NIL || inner->hasWindowFuncs ||
		inner->hasTargetSRFs || inner->limitCount != NULL || inner->limitOffset != NULL)
		return query;

	drop_sorting(inner);
	targets = (List *) compat_ReplaceVarsFromTargetList(
		(Node *) query->targetList, item->rtindex, rte, inner->targetList);
	inner->havingQual =
		make_and_qual(inner->havingQual,
					  compat_ReplaceVarsFromTargetList(
						  query->jointree->quals, item->rtindex, rte, inner->targetList));

	/* what is grouped by stays */
	foreach(lc, inner->targetList)
	{
		TargetEntry *target = flatCopyTargetEntry(lfirst(lc));

		if (target->ressortgroupref == 0)
			continue;
		target->resjunk = true;
		target->resno = list_length(targets) + 1;
		targets = lappend(targets, target);
	}
	inner->targetList = targets;
	return inner;
}

Query *
delta_normalize(IncrementalPlan *plan, Query *rewritten)
{
	Query *query = copyObject(rewritten);
	ColumnsWalk walk = {.plan = plan};
	Oid funcid = InvalidOid;

	if (query_tree_walker(query, find_volatile, &funcid, 0))
	{
		(void) plan_refuse(plan,
						   NULL,
						   "the volatile function %s",
						   OidIsValid(funcid) ? get_func_name(funcid) : "nextval");
		return NULL;
	}
	(void) plain_vars((Node *) query, NULL);
	(void) inline_ctes((Node *) query, NULL);
	for (Query *inner = enter_only_subquery(query); inner != query;)
	{
		query = inner;
		inner = enter_only_subquery(query);
	}
	if (!normalize_query(plan, query, true))
		return NULL;
	(void) plain_vars((Node *) query, NULL);
	if (refuse_columns((Node *) query, &walk))
		return NULL;
	return query;
}
