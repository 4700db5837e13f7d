/*
 * delta_sources.c
 *		What a query's FROM and WHERE are a product of, and the stores that hold
 *		the changes of its factors.
 */
#include "pgopt.h"

#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"

#include "delta.h"

/* --- stores ----------------------------------------------------------------------- */

DeltaStore *
delta_store(Compiler *compiler, int number)
{
	return list_nth(compiler->stores, number);
}

static int
new_store(Compiler *compiler)
{
	DeltaStore *store = palloc0(sizeof(DeltaStore));

	compiler->stores = lappend(compiler->stores, store);
	snprintf(store->name, NAMEDATALEN, "d%d", list_length(compiler->stores));
	return list_length(compiler->stores) - 1;
}

/* A store of these expressions, of Expr *. */
int
delta_add_store(Compiler *compiler, List *columns)
{
	int number = new_store(compiler);
	DeltaStore *store = delta_store(compiler, number);
	ListCell *lc;

	store->columns = palloc0(sizeof(ColumnType) * list_length(columns));
	foreach(lc, columns)
	{
		Node *column = lfirst(lc);
		ColumnType *type = &store->columns[store->ncolumns++];

		type->type = exprType(column);
		type->typmod = exprTypmod(column);
		type->collation = exprCollation(column);
	}
	return number;
}

void
delta_add_step(Compiler *compiler, char *sql, int target, Bitmapset *needs)
{
	DeltaStep *step = palloc0(sizeof(DeltaStep));

	step->sql = sql;
	step->target = target;
	step->reads = needs;
	step->needs = needs;
	compiler->steps = lappend(compiler->steps, step);
}

/* The store of a table's changes; all its mentions share it. */
static int
leaf_store(Compiler *compiler, RangeTblEntry *rte)
{
	bool inherited = rte->inh && (get_rel_relkind(rte->relid) == RELKIND_PARTITIONED_TABLE ||
								  has_subclass(rte->relid));
	ListCell *lc;
	DeltaStore *store;
	int number;

	foreach(lc, compiler->stores)
	{
		store = lfirst(lc);
		if (store->relid == rte->relid && store->inherited == inherited)
			return foreach_current_index(lc);
	}
	number = new_store(compiler);
	store = delta_store(compiler, number);
	store->relid = rte->relid;
	store->inherited = inherited;
	store->columns = palloc0(sizeof(ColumnType) * MaxHeapAttributeNumber);
	store->attnums = palloc0(sizeof(AttrNumber) * MaxHeapAttributeNumber);
	plan_add_part(compiler->plan,
				  get_rel_name(rte->relid),
				  "row log",
				  inherited ? "its changes, and those of its partitions or children, are logged"
							: "its changes are logged",
				  NULL);
	return number;
}

int
delta_leaf_column(Compiler *compiler, int number, const Var *var)
{
	DeltaStore *store = delta_store(compiler, number);
	ColumnType *type;

	for (int i = 0; i < store->ncolumns; i++)
		if (store->attnums[i] == var->varattno)
			return i + 1;
	store->attnums[store->ncolumns] = var->varattno;
	type = &store->columns[store->ncolumns++];
	type->type = var->vartype;
	type->typmod = var->vartypmod;
	type->collation = var->varcollid;
	return store->ncolumns;
}

/* --- what can change ----------------------------------------------------------------- */

static bool
reads_tables(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
		return ((RangeTblEntry *) node)->rtekind == RTE_RELATION;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, reads_tables, context, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, reads_tables, context);
}

/* Does a query, or do the subqueries in an expression, read any table? */
bool
delta_reads_tables(Node *node)
{
	return reads_tables(node, NULL);
}

static bool
entries_change(Query *query, Relids rtis)
{
	int rti = -1;

	while ((rti = bms_next_member(rtis, rti)) >= 0)
	{
		RangeTblEntry *rte = rt_fetch(rti, query->rtable);

		/* FROM ONLY a partitioned table never gives a row */
		if ((rte->rtekind == RTE_RELATION &&
			 (rte->inh || get_rel_relkind(rte->relid) != RELKIND_PARTITIONED_TABLE)) ||
			(rte->rtekind == RTE_SUBQUERY && delta_reads_tables((Node *) rte->subquery)))
			return true;
	}
	return false;
}

/* Vars in the expressions of an entry that is neither a table nor a join. */
List *
delta_entry_vars(RangeTblEntry *rte, int level)
{
	List *vars = delta_vars((Node *) rte->functions, level);

	vars = list_concat_unique(vars, delta_vars((Node *) rte->values_lists, level));
	vars = list_concat_unique(vars, delta_vars((Node *) rte->tablefunc, level));
	return list_concat_unique(vars, delta_vars((Node *) rte->subquery, level));
}

/* Vars of a part of a join tree that are read in the rest of it. */
static List *
vars_outside(Node *node, Node *except)
{
	List *vars = NIL;
	ListCell *lc;

	if (node == except || IsA(node, RangeTblRef))
		return NIL;
	if (IsA(node, FromExpr))
	{
		foreach(lc, ((FromExpr *) node)->fromlist)
			vars = list_concat_unique(vars, vars_outside(lfirst(lc), except));
		return list_concat_unique(vars, delta_vars(((FromExpr *) node)->quals, 0));
	}
	vars = vars_outside(((JoinExpr *) node)->larg, except);
	vars = list_concat_unique(vars, vars_outside(((JoinExpr *) node)->rarg, except));
	return list_concat_unique(vars, delta_vars(((JoinExpr *) node)->quals, 0));
}

static List *
needed_vars(Level *level, Node *node, Relids rtis)
{
	Query *query = level->query;
	List *vars = delta_vars((Node *) level->above, 0);
	List *result = NIL;
	ListCell *lc;

	vars = list_concat_unique(vars, vars_outside((Node *) query->jointree, node));
	foreach(lc, query->rtable)
		if (!bms_is_member(foreach_current_index(lc) + 1, rtis))
			vars = list_concat_unique(vars, delta_entry_vars(lfirst(lc), 0));
	foreach(lc, vars)
		if (bms_is_member(lfirst_node(Var, lc)->varno, rtis))
			result = lappend(result, lfirst(lc));
	return result;
}

/* Does it refer to something beside it? */
static bool
is_lateral(Query *query, Relids rtis)
{
	int rti = -1;

	while ((rti = bms_next_member(rtis, rti)) >= 0)
	{
		ListCell *lc;

		foreach(lc, delta_entry_vars(rt_fetch(rti, query->rtable), 0))
			if (!bms_is_member(lfirst_node(Var, lc)->varno, rtis))
				return true;
	}
	return false;
}

/* --- factors -------------------------------------------------------------------------- */

static Factor *
new_factor(Node *node, Relids rtis)
{
	Factor *factor = palloc0(sizeof(Factor));

	factor->store = NO_STORE;
	factor->after = list_make1(node);
	factor->rtis = rtis;
	return factor;
}

static bool
gather_subquery(Level *level, Factor *factor, RangeTblEntry *rte)
{
	Compiler *compiler = level->compiler;
	List *numbers = NIL;
	ListCell *lc;

	factor->columns = needed_vars(level, linitial(factor->after), factor->rtis);
	factor->store = delta_add_store(compiler, factor->columns);
	foreach(lc, factor->columns)
		numbers = lappend_int(numbers, lfirst_node(Var, lc)->varattno);
	return delta_columns(compiler, rte->subquery, numbers, factor->store);
}

static bool
gather_outer_join(Level *level, Factor *factor, JoinExpr *join)
{
	factor->columns = needed_vars(level, (Node *) join, factor->rtis);
	factor->store = delta_add_store(level->compiler, factor->columns);
	return delta_outer_join(level, join, NULL, factor->columns, factor->store);
}

static bool
gather_item(Level *level, Node *node, Product *product)
{
	Compiler *compiler = level->compiler;
	Relids rtis = delta_entries(node);
	Factor *factor = new_factor(node, rtis);
	RangeTblEntry *rte;

	product->factors = lappend(product->factors, factor);
	if (!entries_change(level->query, rtis))
		return true;
	if (is_lateral(level->query, rtis))
		return plan_refuse(
			compiler->plan, "write it as a join", "a LATERAL subquery that is more than a join");
	if (IsA(node, JoinExpr))
		return gather_outer_join(level, factor, (JoinExpr *) node);

	rte = rt_fetch(bms_singleton_member(rtis), level->query->rtable);
	if (rte->rtekind == RTE_SUBQUERY)
		return gather_subquery(level, factor, rte);
	factor->store = leaf_store(compiler, rte);
	return true;
}

bool
delta_gather_quals(Level *level, Node *quals, Product *product)
{
	ListCell *lc;

	foreach(lc, make_ands_implicit((Expr *) quals))
	{
		Node *qual = lfirst(lc);

		if (contain_vars_of_level(qual, 1) && delta_reads_tables(qual))
			return plan_refuse(level->compiler->plan,
							   "join the inner subquery's tables to those of the outer one",
							   "a subquery in a subquery that refers to the query around both");
		if (contain_vars_of_level(qual, 1))
			product->outer = lappend(product->outer, qual);
		else if (!delta_reads_tables(qual))
			product->quals = lappend(product->quals, qual);
		else if (!delta_gather_sublink(level, qual, product))
			return false;
	}
	return true;
}

/* An inner join and its conditions. */
bool
delta_gather(Level *level, Node *node, Product *product)
{
	ListCell *lc;

	if (IsA(node, FromExpr))
	{
		FromExpr *from = (FromExpr *) node;

		foreach(lc, from->fromlist)
			if (!delta_gather(level, lfirst(lc), product))
				return false;
		return delta_gather_quals(level, from->quals, product);
	}
	if (IsA(node, JoinExpr) && ((JoinExpr *) node)->jointype == JOIN_INNER)
	{
		JoinExpr *join = (JoinExpr *) node;

		return delta_gather(level, join->larg, product) &&
			   delta_gather(level, join->rarg, product) &&
			   delta_gather_quals(level, join->quals, product);
	}
	return gather_item(level, node, product);
}
