/*
 * delta_exists.c
 *		EXISTS, IN, ANY and ALL as factors, each brought into the form of EXISTS.
 */
#include "pgopt.h"

#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "delta.h"

/* --- the EXISTS form of a condition -------------------------------------------------- */

typedef struct FillSublink
{
	List *targets;
} FillSublink;

/* Params in the test of a sublink are the subquery's columns. */
static Node *
fill_sublink(Node *node, FillSublink *fill)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_SUBLINK)
	{
		TargetEntry *target = list_nth(fill->targets, ((Param *) node)->paramid - 1);

		return copyObject((Node *) target->expr);
	}
	return expression_tree_mutator(node, fill_sublink, fill);
}

/* A set operation as the only item of a query. */
static Query *
wrap_query(Query *inner)
{
	Query *query = makeNode(Query);
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	RangeTblRef *ref = makeNode(RangeTblRef);
	List *names = NIL;
	ListCell *lc;

	foreach(lc, inner->targetList)
	{
		TargetEntry *target = lfirst(lc);
		Var *var = makeVarFromTargetEntry(1, target);

		names = lappend(names, makeString(psprintf("c%d", target->resno)));
		query->targetList =
			lappend(query->targetList, makeTargetEntry((Expr *) var, target->resno, NULL, false));
	}
	rte->rtekind = RTE_SUBQUERY;
	rte->subquery = inner;
	rte->inFromCl = true;
	rte->alias = makeAlias("u", names);
	rte->eref = copyObject(rte->alias);
	ref->rtindex = 1;
	query->commandType = CMD_SELECT;
	query->rtable = list_make1(rte);
	query->jointree = makeFromExpr(list_make1(ref), NULL);
	return query;
}

Node *
delta_not_exists(Query *query)
{
	SubLink *sublink = makeNode(SubLink);
	Query *subselect = copyObject(query);

	subselect->targetList = NIL;
	sublink->subLinkType = EXISTS_SUBLINK;
	sublink->subselect = (Node *) subselect;
	return (Node *) make_notclause((Expr *) sublink);
}

static bool
is_not_null(Node *node, Query *query)
{
	Var *var = (Var *) node;
	ListCell *lc;

	if (IsA(node, RelabelType))
		return is_not_null((Node *) ((RelabelType *) node)->arg, query);
	if (IsA(node, Const))
		return !((Const *) node)->constisnull;
	if (!IsA(node, Var) || var->varlevelsup != 0)
		return false;
	foreach(lc, query->jointree->fromlist)
		if (IsA(lfirst(lc), RangeTblRef) && lfirst_node(RangeTblRef, lc)->rtindex == var->varno)
		{
			RangeTblEntry *rte = rt_fetch(var->varno, query->rtable);

			return rte->rtekind == RTE_RELATION &&
				   compat_column_is_not_null(rte->relid, var->varattno);
		}
	return false;
}

/*
 * The comparison in ANY and ALL as a condition of the subquery.  A row that is
 * neither equal nor different counts against NOT ... ANY, and against ALL.
 */
static Node *
sublink_condition(SubLink *sublink, Node *test, bool negated)
{
	BooleanTest *result;

	if (sublink->subLinkType == ANY_SUBLINK && !negated)
		return test;
	result = makeNode(BooleanTest);
	result->arg = (Expr *) test;
	result->booltesttype = sublink->subLinkType == ANY_SUBLINK ? IS_NOT_FALSE
						   : negated                           ? IS_FALSE
															   : IS_NOT_TRUE;
	result->location = -1;
	return (Node *) result;
}

/* Adds the condition that (no) row of a query exists for which this is true. */
static bool
add_exists(Level *level, Query *query, Node *condition, bool negated, Node *after, Product *product)
{
	Level inside = {.compiler = level->compiler};
	Factor *factor;

	query = inside.query = copyObject(query);
	if (condition != NULL)
		query->jointree->quals = (Node *) make_ands_explicit(
			list_concat(make_ands_implicit((Expr *) query->jointree->quals),
						make_ands_implicit((Expr *) copyObject(condition))));
	factor = delta_exists(level, query, negated, after != NULL ? after : delta_not_exists(query));
	if (factor == NULL)
		return false;
	product->factors = lappend(product->factors, factor);
	if (factor->store != NO_STORE)
		delta_add_part(&inside,
					   negated ? "NOT EXISTS (" : "EXISTS (",
					   delta_entries((Node *) query->jointree),
					   ")",
					   delta_exists_way(factor),
					   delta_exists_reason(factor),
					   delta_index_hint(&inside, query->jointree->quals));
	return true;
}

static Node *
is_null(Node *node)
{
	NullTest *test = makeNode(NullTest);

	test->arg = (Expr *) copyObject(node);
	test->nulltesttype = IS_NULL;
	test->location = -1;
	return (Node *) test;
}

static Node *
raised(Node *node)
{
	node = copyObject(node);
	IncrementVarSublevelsUp(node, 1, 0);
	return node;
}

/*
 * x NOT IN (a query that gives y): no y is x, none is NULL, and if x is NULL
 * there is none.  In this form indexes can serve it, and keys give its change.
 */
static bool
gather_not_in(Level *level, OpExpr *test, Query *query, Product *product)
{
	FillSublink fill = {.targets = query->targetList};
	Node *outer = linitial(test->args);
	Node *inner = fill_sublink(lsecond(test->args), &fill);

	if (!add_exists(level, query, fill_sublink(raised((Node *) test), &fill), true, NULL, product))
		return false;
	if (!is_not_null(inner, query) &&
		!add_exists(level, query, is_null(inner), true, NULL, product))
		return false;
	return is_not_null(outer, level->query) ||
		   add_exists(level, query, is_null(raised(outer)), true, NULL, product);
}

/* x <> ALL means NOT x = ANY. */
static void
simplify_all(SubLink *sublink, bool *negated)
{
	OpExpr *op = (OpExpr *) sublink->testexpr;
	OpExpr *equality;

	if (sublink->subLinkType != ALL_SUBLINK || !IsA(op, OpExpr) || list_length(op->args) != 2)
		return;
	equality = copyObject(op);
	equality->opno = get_negator(op->opno);
	equality->opfuncid = InvalidOid;
	if (!OidIsValid(equality->opno) || !delta_is_equality(equality))
		return;
	sublink->subLinkType = ANY_SUBLINK;
	sublink->testexpr = (Node *) equality;
	*negated = !*negated;
}

bool
delta_gather_sublink(Level *level, Node *qual, Product *product)
{
	bool negated = false;
	Node *node = qual;
	SubLink *sublink = NULL;
	FillSublink fill;
	Query *query;
	Node *test;

	while (is_notclause(node))
	{
		negated = !negated;
		node = (Node *) get_notclausearg((Expr *) node);
	}
	if (IsA(node, SubLink))
		sublink = copyObject((SubLink *) node);
	if (sublink == NULL || delta_reads_tables(sublink->testexpr) ||
		(sublink->subLinkType != EXISTS_SUBLINK && sublink->subLinkType != ANY_SUBLINK &&
		 sublink->subLinkType != ALL_SUBLINK))
		return plan_refuse(level->compiler->plan,
						   "write it as conditions joined by AND, or as a join",
						   "a subquery in a condition other than EXISTS, IN, ANY or ALL");

	query = castNode(Query, sublink->subselect);
	if (query->setOperations != NULL)
		query = wrap_query(query);
	if (sublink->subLinkType == EXISTS_SUBLINK)
		return add_exists(level, query, NULL, negated, qual, product);

	simplify_all(sublink, &negated);
	if (sublink->subLinkType == ANY_SUBLINK && negated && IsA(sublink->testexpr, OpExpr) &&
		delta_is_equality((OpExpr *) sublink->testexpr))
		return gather_not_in(level, (OpExpr *) sublink->testexpr, query, product);

	fill.targets = query->targetList;
	test = fill_sublink(raised(sublink->testexpr), &fill);
	/* ALL is true where no row says otherwise */
	return add_exists(level,
					  query,
					  sublink_condition(sublink, test, negated),
					  negated ^ (sublink->subLinkType == ALL_SUBLINK),
					  qual,
					  product);
}
