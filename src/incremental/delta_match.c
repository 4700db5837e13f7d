/*
 * delta_match.c
 *		The change of whether a row is matched, in EXISTS and in outer joins.
 *
 * Where rows of a subquery match a row outside by equality alone, the condition
 * says that the row's keys are among the subquery's distinct keys.  Those change
 * only where the number of rows of a key comes to or from zero: a store of such
 * keys, with weights 1 and -1, is joined instead of the condition.
 *
 * Otherwise matches are counted for each row outside that a changed row may match.
 */
#include "pgopt.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
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
#include "utils/rel.h"
#include "utils/typcache.h"

#include "delta.h"

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

/* Is it what joins can hash or merge by? */
bool
delta_is_equality(OpExpr *op)
{
	Oid type = exprType(linitial(op->args));

	return op_strict(op->opno) &&
		   (op_mergejoinable(op->opno, type) || op_hashjoinable(op->opno, type));
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

/* A column does not remember that its expression said COLLATE. */
static Node *
with_collation(Node *node, Oid collation)
{
	CollateExpr *result = makeNode(CollateExpr);

	if (!OidIsValid(collation))
		return node;
	result->arg = (Expr *) node;
	result->collOid = collation;
	result->location = -1;
	return (Node *) result;
}

/* Is it an equality that groups the subquery's side as GROUP BY does? */
static bool
add_key(Match *match, OpExpr *op)
{
	for (int side = 0; side < 2 && delta_is_equality(op); side++)
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
		lfirst(list_nth_cell(key->args, side)) =
			with_collation((Node *) column_param(inner, list_length(match->inner)),
						   IsA(inner, Var) ? InvalidOid : op->inputcollid);
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

/* Does an index on this column serve whoever looks for one of its values? */
bool
delta_leads_index(Oid relid, AttrNumber attnum)
{
	Relation rel = relation_open(relid, AccessShareLock);
	List *indexes = RelationGetIndexList(rel);
	bool found = false;
	ListCell *lc;

	foreach(lc, indexes)
	{
		Relation index = index_open(lfirst_oid(lc), AccessShareLock);

		if (index->rd_index->indisvalid && index->rd_index->indkey.values[0] == attnum &&
			(index->rd_rel->relam == BTREE_AM_OID || index->rd_rel->relam == HASH_AM_OID) &&
			heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
			found = true;
		index_close(index, NoLock);
	}
	relation_close(rel, NoLock);
	return found;
}

/* Is there an index that finds the rows of a key? */
static bool
has_index(Level *level, List *inner)
{
	ListCell *lc;

	foreach(lc, inner)
	{
		Var *var = lfirst(lc);
		RangeTblEntry *rte;

		if (!IsA(var, Var))
			continue;
		rte = rt_fetch(var->varno, level->query->rtable);
		if (rte->rtekind == RTE_RELATION && delta_leads_index(rte->relid, var->varattno))
			return true;
	}
	return false;
}

/* The rows of the subquery that have one of the changed keys. */
static char *
all_of_keys(Level *level, Product *product, List *inner, Factor *changed)
{
	Product joined = *product;

	joined.factors = lappend(list_copy(product->factors), changed);
	return delta_deparse(delta_term(level, &joined, list_make1(changed), NULL, inner));
}

/*
 * The same, but no more of a key than tell whether it has, and had, any: with an
 * index that costs little even where a key has many rows.
 */
static char *
some_of_keys(Level *level, Product *product, List *inner, Factor *changed)
{
	Compiler *compiler = level->compiler;
	Query *query = delta_new_query();
	int rti = delta_add_entry(compiler, query, changed->store);
	Node *weight = delta_weight(rti);
	Product probed = *product;
	Query *probe;

	probed.quals = list_concat(delta_fill_keys(compiler, changed, rti, 1), product->quals);
	probe = delta_term(level, &probed, NIL, NULL, NIL);
	((Var *) weight)->varlevelsup = 1;
	probe->limitCount = delta_at_least_one(delta_operation("+", weight, delta_bigint(1)));
	probe->limitOption = LIMIT_OPTION_COUNT;

	delta_name_columns(compiler, query, rti, changed->store);
	delta_add_item(query, rti);
	(void) delta_add_lateral(query, probe);
	for (int i = 1; i <= list_length(inner); i++)
		delta_add_target(
			query, (Expr *) delta_column(compiler, rti, changed->store, i), psprintf("c%d", i));
	return delta_deparse(query);
}

/* Keys that are new among the subquery's, and those that went. */
static int
emit_distinct_keys(Level *level, Product *product, List *inner, int changes)
{
	Compiler *compiler = level->compiler;
	Factor *changed = of_store(changes, inner);
	const char *name = delta_store(compiler, changes)->name;
	char *columns = column_list(list_length(inner));
	int target = delta_add_store(compiler, inner);
	char *now;
	StringInfoData sql;

	now = has_index(level, inner) ? some_of_keys(level, product, inner, changed)
								  : all_of_keys(level, product, inner, changed);
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
		((CoalesceExpr *) result)->args = list_make2(coerce_to_target_type(NULL,
																		   (Node *) aggregate,
																		   type,
																		   INT8OID,
																		   -1,
																		   COERCION_EXPLICIT,
																		   COERCE_EXPLICIT_CAST,
																		   -1),
													 delta_bigint(0));
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
	Query *query = delta_new_query();
	int rti = delta_add_entry(to->compiler, query, to->store);

	delta_name_columns(to->compiler, query, rti, to->store);
	delta_add_item(query, rti);
	query->jointree->quals =
		(Node *) make_ands_explicit((List *) vars_to_store((Node *) quals, to));
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

/* --- what is shown of it --------------------------------------------------------------- */

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
