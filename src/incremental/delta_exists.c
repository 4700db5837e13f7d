/*
 * delta_exists.c
 *		The change of EXISTS, IN, and of what is not matched in an outer join.
 *
 * Where rows of a subquery match a row outside by equality alone, the condition
 * says that the row's keys are among the subquery's distinct keys.  Those change
 * only where the number of rows of a key comes to or from zero: a store of such
 * keys, with weights 1 and -1, is joined instead of the condition.
 *
 * Otherwise matches are counted for each row outside that a changed row may match.
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

const char *
delta_exists_way(const Factor *factor)
{
	if (factor->store == NO_STORE)
		return "none needed";
	return factor->matching != NULL ? "match counts" : "key delta";
}

const char *
delta_exists_reason(const Factor *factor)
{
	if (factor->store == NO_STORE)
		return "it reads no table";
	return factor->matching != NULL
			   ? "rows are matched by more than equality: matches are counted anew for each row "
				 "that a changed row may match"
			   : "only keys that came or went among the rows to be matched change anything";
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
					   delta_exists_reason(factor));
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

static bool
is_equality(OpExpr *op)
{
	Oid type = exprType(linitial(op->args));

	return op_strict(op->opno) &&
		   (op_mergejoinable(op->opno, type) || op_hashjoinable(op->opno, type));
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
	if (!OidIsValid(equality->opno) || !is_equality(equality))
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
		is_equality((OpExpr *) sublink->testexpr))
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

/* --- keys ---------------------------------------------------------------------------- */

typedef struct Match
{
	List *inner; /* of Node *: what of the subquery is compared */
	List *keys;  /* of Node *: the comparisons, with Params for inner ones */
	List *equal; /* of Node *: the comparisons as they are */
	List *outer; /* of Node *: conditions about the row outside alone */
} Match;

static bool
same_collation(Oid collation, Oid other)
{
	return collation == other || !OidIsValid(collation) || !OidIsValid(other) ||
		   (get_collation_isdeterministic(collation) && get_collation_isdeterministic(other));
}

/* Stands for the column of a store that holds an expression. */
static Param *
column_param(Node *expr, int column)
{
	Param *param = makeNode(Param);

	param->paramkind = PARAM_EXEC;
	param->paramid = column;
	param->paramtype = exprType(expr);
	param->paramtypmod = exprTypmod(expr);
	param->paramcollid = exprCollation(expr);
	param->location = -1;
	return param;
}

/* Is it an equality that groups the subquery's side as GROUP BY does? */
static bool
add_key(Match *match, OpExpr *op)
{
	for (int side = 0; side < 2 && is_equality(op); side++)
	{
		Node *inner = list_nth(op->args, side);
		Node *outer = list_nth(op->args, 1 - side);
		TypeCacheEntry *type;
		OpExpr *key;

		if (contain_vars_of_level(inner, 1) || !contain_vars_of_level(inner, 0) ||
			contain_vars_of_level(outer, 0) ||
			!same_collation(op->inputcollid, exprCollation(inner)))
			continue;
		type = lookup_type_cache(exprType(inner), TYPECACHE_EQ_OPR);
		if (!OidIsValid(type->eq_opr) || !equality_ops_are_compatible(op->opno, type->eq_opr))
			continue;

		match->inner = lappend(match->inner, inner);
		key = copyObject(op);
		lfirst(list_nth_cell(key->args, side)) = column_param(inner, list_length(match->inner));
		IncrementVarSublevelsUp((Node *) key, -1, 1);
		match->keys = lappend(match->keys, key);
		match->equal = lappend(match->equal, op);
		return true;
	}
	return false;
}

/* Takes the conditions that refer to the row outside apart; false if keys do not say it all. */
static bool
find_keys(List *quals, Match *match)
{
	bool complete = true;
	ListCell *lc;

	foreach(lc, quals)
	{
		Node *qual = lfirst(lc);

		if (!contain_vars_of_level(qual, 0))
		{
			Node *outer = copyObject(qual);

			IncrementVarSublevelsUp(outer, -1, 1);
			match->outer = lappend(match->outer, outer);
		}
		else if (!IsA(qual, OpExpr) || list_length(((OpExpr *) qual)->args) != 2 ||
				 !add_key(match, (OpExpr *) qual))
			complete = false;
	}
	return complete;
}

/* --- changes of keys --------------------------------------------------------------------- */

static char *
column_list(int n)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 1; i <= n; i++)
		appendStringInfo(&list, "c%d, ", i);
	return list.data;
}

static char *
group_by(int n)
{
	StringInfoData list;

	if (n == 0)
		return "()";
	initStringInfo(&list);
	for (int i = 1; i <= n; i++)
		appendStringInfo(&list, "%sc%d", i == 1 ? "" : ", ", i);
	return list.data;
}

/* How many rows of each key came or went. */
static int
emit_key_changes(Level *level, Product *product, List *inner)
{
	Compiler *compiler = level->compiler;
	List *changing = NIL;
	char *columns = column_list(list_length(inner));
	char *source;
	int target;
	int store;
	ListCell *lc;

	foreach(lc, product->factors)
		if (((Factor *) lfirst(lc))->store != NO_STORE)
			changing = lappend(changing, lfirst(lc));
	if (list_length(changing) == 1)
	{
		store = ((Factor *) linitial(changing))->store;
		source =
			psprintf("(%s) r", delta_deparse(delta_term(level, product, changing, NULL, inner)));
	}
	else
	{
		store = delta_add_store(compiler, inner);
		if (!delta_emit(level, product, NULL, inner, store))
			return NO_STORE;
		source = delta_store(compiler, store)->name;
	}

	target = delta_add_store(compiler, inner);
	delta_add_step(compiler,
				   psprintf("SELECT %ssum(w)::bigint AS w FROM %s GROUP BY %s HAVING sum(w) <> 0",
							columns,
							source,
							group_by(list_length(inner))),
				   target,
				   bms_make_singleton(store));
	return target;
}

/* The condition that a row of the subquery has a key of a store. */
static Factor *
of_store(int store, List *inner)
{
	Factor *factor = palloc0(sizeof(Factor));
	ListCell *lc;

	factor->store = store;
	foreach(lc, inner)
	{
		Node *expr = lfirst(lc);
		TypeCacheEntry *type = lookup_type_cache(exprType(expr), TYPECACHE_EQ_OPR);

		factor->keys =
			lappend(factor->keys,
					make_opclause(type->eq_opr,
								  BOOLOID,
								  false,
								  (Expr *) copyObject(expr),
								  (Expr *) column_param(expr, foreach_current_index(lc) + 1),
								  InvalidOid,
								  exprCollation(expr)));
	}
	return factor;
}

/* Keys that are new among the subquery's, and those that went. */
static int
emit_distinct_keys(Level *level, Product *product, List *inner, int changes)
{
	Compiler *compiler = level->compiler;
	Product counted = *product;
	Factor *changed = of_store(changes, inner);
	const char *name = delta_store(compiler, changes)->name;
	char *columns = column_list(list_length(inner));
	int target = delta_add_store(compiler, inner);
	char *now;
	StringInfoData sql;

	counted.factors = lappend(list_copy(product->factors), changed);
	now = delta_deparse(delta_term(level, &counted, list_make1(changed), NULL, inner));

	initStringInfo(&sql);
	appendStringInfo(&sql,
					 "SELECT %sleast(n, 1) - least(n - s, 1) AS w FROM ("
					 "SELECT %ssum(n)::bigint AS n, sum(s)::bigint AS s FROM ("
					 "SELECT %s0 AS n, w AS s FROM %s UNION ALL (SELECT %s1, 0 FROM (%s) r",
					 columns,
					 columns,
					 columns,
					 name,
					 columns,
					 now);
	/* without keys any row matches: more than would be gone are not looked for */
	if (inner == NIL)
		appendStringInfo(&sql, " LIMIT (SELECT greatest(w + 1, 1) FROM %s)", name);
	appendStringInfo(&sql,
					 ")) u GROUP BY %s) g WHERE least(n, 1) <> least(n - s, 1)",
					 group_by(list_length(inner)));
	delta_add_step(compiler, sql.data, target, bms_make_singleton(changes));
	return target;
}

/* --- counted matches ------------------------------------------------------------------- */

static Query *
query_of(RangeTblEntry *rte, List *quals)
{
	Query *query = makeNode(Query);
	RangeTblRef *ref = makeNode(RangeTblRef);

	ref->rtindex = 1;
	query->commandType = CMD_SELECT;
	query->rtable = list_make1(rte);
	query->jointree =
		makeFromExpr(list_make1(ref), quals == NIL ? NULL : (Node *) make_ands_explicit(quals));
	return query;
}

static void
select_aggregate(Query *query, Oid function, Oid type, Node *argument)
{
	Aggref *aggregate = makeNode(Aggref);
	Node *result = (Node *) aggregate;

	aggregate->aggfnoid = function;
	aggregate->aggtype = type;
	aggregate->aggkind = AGGKIND_NORMAL;
	aggregate->aggsplit = AGGSPLIT_SIMPLE;
	aggregate->aggno = aggregate->aggtransno = -1;
	aggregate->location = -1;
	if (argument == NULL)
		aggregate->aggstar = true;
	else
	{
		aggregate->aggargtypes = list_make1_oid(exprType(argument));
		aggregate->args = list_make1(makeTargetEntry((Expr *) argument, 1, NULL, false));
		/* over no rows a sum is NULL */
		result = (Node *) makeNode(CoalesceExpr);
		((CoalesceExpr *) result)->coalescetype = INT8OID;
		((CoalesceExpr *) result)->args = list_make2(
			coerce_to_target_type(NULL,
								  (Node *) aggregate,
								  type,
								  INT8OID,
								  -1,
								  COERCION_EXPLICIT,
								  COERCE_EXPLICIT_CAST,
								  -1),
			makeConst(
				INT8OID, -1, InvalidOid, sizeof(int64), Int64GetDatum(0), false, FLOAT8PASSBYVAL));
		((CoalesceExpr *) result)->location = -1;
	}
	query->hasAggs = true;
	query->targetList = list_make1(makeTargetEntry((Expr *) result, 1, pstrdup("n"), false));
}

typedef struct ToStore
{
	Compiler *compiler;
	List *columns;
	int store;
} ToStore;

static Node *
vars_to_store(Node *node, ToStore *to)
{
	ListCell *lc;

	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && ((Var *) node)->varlevelsup == 0)
	{
		foreach(lc, to->columns)
			if (equal(node, lfirst(lc)))
				return (Node *) delta_column(
					to->compiler, 1, to->store, foreach_current_index(lc) + 1);
		elog(ERROR, "a compared column is not in the store");
	}
	return expression_tree_mutator(node, vars_to_store, to);
}

/* A query over a store of changes instead of the subquery, with these of its conditions. */
static Query *
over_store(ToStore *to, List *quals)
{
	Query *scratch = makeNode(Query);
	Query *query;

	(void) delta_add_entry(to->compiler, scratch, to->store);
	delta_name_columns(to->compiler, scratch, 1, to->store);
	query = query_of(linitial(scratch->rtable), (List *) vars_to_store((Node *) quals, to));
	return query;
}

/*
 * Matches are counted for each row outside that a changed row may match; with no
 * equality among the conditions, that is all the rows that one does match.
 */
static bool
count_matches(Level *level, Product *product, Match *match, Factor *factor)
{
	ToStore to = {.compiler = level->compiler};
	List *near = match->equal != NIL ? match->equal : product->outer;
	SubLink *candidate = makeNode(SubLink);

	to.columns = delta_vars((Node *) product->outer, 0);
	to.store = delta_add_store(level->compiler, to.columns);
	if (!delta_emit(level, product, NULL, to.columns, to.store))
		return false;

	factor->store = to.store;
	factor->matching = copyObject(level->query);
	select_aggregate(factor->matching, F_COUNT_, INT8OID, NULL);
	factor->changed = over_store(&to, product->outer);
	select_aggregate(factor->changed, F_SUM_INT8, NUMERICOID, delta_weight(1));
	candidate->subLinkType = EXISTS_SUBLINK;
	candidate->subselect = (Node *) over_store(&to, near);
	factor->keys = lappend(match->outer, candidate);
	return true;
}

/* --- the factor ------------------------------------------------------------------------------ */

/* Does anything but the conditions of its WHERE refer to the query around? */
static bool
refers_outside(Query *query)
{
	Node *quals = query->jointree->quals;
	bool result;

	query->jointree->quals = NULL;
	result = contain_vars_of_level((Node *) query->jointree, 1);
	query->jointree->quals = quals;
	for (int i = 0; i < list_length(query->rtable) && !result; i++)
		result = delta_entry_vars(list_nth(query->rtable, i), 1) != NIL;
	return result;
}

Factor *
delta_exists(Level *level, Query *query, bool negated, Node *after)
{
	Compiler *compiler = level->compiler;
	Level inside = {.compiler = compiler, .query = query};
	Factor *factor = palloc0(sizeof(Factor));
	Product product = {0};
	Match match = {0};
	int changes;

	factor->store = NO_STORE;
	factor->quals = list_make1(after);
	factor->negated = negated;
	if (!delta_reads_tables((Node *) query))
		return factor;
	if (refers_outside(query))
	{
		(void) plan_refuse(compiler->plan,
						   "refer to the outer query in WHERE only, and not two levels up",
						   "a subquery that refers to the query around it elsewhere than in WHERE");
		return NULL;
	}
	if (!delta_gather(&inside, (Node *) query->jointree, &product))
		return NULL;
	if (!find_keys(product.outer, &match))
		return count_matches(&inside, &product, &match, factor) ? factor : NULL;
	changes = emit_key_changes(&inside, &product, match.inner);
	if (changes == NO_STORE)
		return NULL;
	factor->store = emit_distinct_keys(&inside, &product, match.inner, changes);
	factor->keys = list_concat(match.keys, match.outer);
	return factor;
}
