/*
 * delta_compile.c
 *		The program that gives the change of a query's rows.
 */
#include "pgopt.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "delta.h"

/* --- what is shown of it --------------------------------------------------------------- */

/* The names of what a join tree reads. */
static void
append_names(StringInfo names, Query *query, Relids rtis)
{
	const char *separator = "";
	int rti = -1;

	while ((rti = bms_next_member(rtis, rti)) >= 0)
	{
		RangeTblEntry *rte = rt_fetch(rti, query->rtable);

		if (rte->rtekind == RTE_JOIN)
			continue;
		appendStringInfo(names,
						 "%s%s",
						 separator,
						 rte->rtekind == RTE_RELATION ? get_rel_name(rte->relid)
													  : rte->eref->aliasname);
		separator = " JOIN ";
	}
}

static double
rows_of(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	double rows = 0;

	if (HeapTupleIsValid(tuple))
	{
		rows = ((Form_pg_class) GETSTRUCT(tuple))->reltuples;
		ReleaseSysCache(tuple);
	}
	return rows;
}

/* Without an index a table this large is better not read for a few changes. */
#define LARGE_TABLE 10000

char *
delta_index_hint(Level *level, Node *quals)
{
	ListCell *lc;

	foreach(lc, make_ands_implicit((Expr *) quals))
	{
		OpExpr *op = lfirst(lc);

		if (!IsA(op, OpExpr) || list_length(op->args) != 2 || !delta_is_equality(op) ||
			!IsA(linitial(op->args), Var) || !IsA(lsecond(op->args), Var))
			continue;
		for (int side = 0; side < 2; side++)
		{
			Var *var = list_nth(op->args, side);
			RangeTblEntry *rte;

			if (var->varlevelsup != 0)
				continue;
			rte = rt_fetch(var->varno, level->query->rtable);
			if (rte->rtekind == RTE_RELATION && rows_of(rte->relid) >= LARGE_TABLE &&
				!delta_leads_index(rte->relid, var->varattno))
				return psprintf(
					"CREATE INDEX ON %s (%s)",
					quote_qualified_identifier(get_namespace_name(get_rel_namespace(rte->relid)),
											   get_rel_name(rte->relid)),
					quote_identifier(get_attname(rte->relid, var->varattno, false)));
		}
	}
	return NULL;
}

void
delta_add_part(Level *level, const char *before, Relids rtis, const char *after, const char *way,
			   const char *reason, const char *hint)
{
	StringInfoData part;
	ListCell *lc;

	initStringInfo(&part);
	appendStringInfoString(&part, before);
	append_names(&part, level->query, rtis);
	appendStringInfoString(&part, after);
	foreach(lc, level->compiler->plan->parts)
	{
		PlanPart *other = lfirst(lc);

		if (strcmp(other->part, part.data) == 0 && strcmp(other->way, way) == 0)
			return;
	}
	plan_add_part(level->compiler->plan, part.data, way, reason, hint);
}

/* --- queries ------------------------------------------------------------------------ */

static bool
plain_query(Compiler *compiler, Query *query, List *outputs, int target)
{
	Level level = {.compiler = compiler, .query = query, .above = outputs};
	Product product = {0};
	List *items = query->jointree->fromlist;

	if (list_length(items) > 1)
		delta_add_part(&level,
					   "",
					   delta_entries((Node *) query->jointree),
					   "",
					   "join delta",
					   "changed rows are joined with what the other tables hold now",
					   delta_index_hint(&level, query->jointree->quals));
	/* an outer join that is all there is needs no store of its own */
	if (list_length(items) == 1 && IsA(linitial(items), JoinExpr))
		return delta_gather_quals(&level, query->jointree->quals, &product) &&
			   delta_outer_join(&level, linitial(items), &product, outputs, target);
	return delta_gather(&level, (Node *) query->jointree, &product) &&
		   delta_emit(&level, &product, NULL, outputs, target);
}

/* The columns of one side of a UNION ALL, with the types of the whole. */
static bool
union_side(Compiler *compiler, Query *query, SetOperationStmt *top, Node *side, bool all,
		   List *numbers, int target)
{
	if (IsA(side, SetOperationStmt))
	{
		SetOperationStmt *operation = (SetOperationStmt *) side;

		if (operation->op != SETOP_UNION)
			return plan_refuse(compiler->plan,
							   "write it with EXISTS or NOT EXISTS",
							   operation->op == SETOP_EXCEPT ? "EXCEPT" : "INTERSECT");
		if (all && !operation->all)
			return plan_refuse(
				compiler->plan, NULL, "UNION without ALL below the top of the query");
		return union_side(compiler, query, top, operation->larg, all, numbers, target) &&
			   union_side(compiler, query, top, operation->rarg, all, numbers, target);
	}
	return delta_columns(compiler,
						 rt_fetch(((RangeTblRef *) side)->rtindex, query->rtable)->subquery,
						 numbers,
						 target);
}

/* The change of a query's columns of these numbers. */
bool
delta_columns(Compiler *compiler, Query *query, List *numbers, int target)
{
	DeltaStore *store = delta_store(compiler, target);
	List *outputs = NIL;
	ListCell *lc;

	check_stack_depth();
	if (query->setOperations != NULL)
	{
		SetOperationStmt *top = castNode(SetOperationStmt, query->setOperations);

		if (top->all)
			plan_add_part(
				compiler->plan, "UNION ALL", "each part", "its parts change by themselves", NULL);
		/* whoever asks for the change of a UNION makes its rows distinct itself */
		return union_side(compiler, query, top, (Node *) top, top->all, numbers, target);
	}
	foreach(lc, numbers)
	{
		TargetEntry *entry = list_nth(query->targetList, lfirst_int(lc) - 1);
		ColumnType *type = &store->columns[foreach_current_index(lc)];
		Node *output = (Node *) entry->expr;

		output = coerce_to_target_type(NULL,
									   output,
									   exprType(output),
									   type->type,
									   -1,
									   COERCION_IMPLICIT,
									   COERCE_IMPLICIT_CAST,
									   -1);
		if (output == NULL)
			elog(ERROR, "a column of a set operation has another type");
		outputs = lappend(outputs, output);
	}
	return plain_query(compiler, query, outputs, target);
}

/* --- outer joins ---------------------------------------------------------------------- */

typedef struct Raise
{
	Relids rtis;
	int level;
} Raise;

/* Vars of some entries come from the query around, now. */
static bool
raise_vars(Node *node, Raise *raise)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var *var = (Var *) node;

		if ((int) var->varlevelsup == raise->level && bms_is_member(var->varno, raise->rtis))
			var->varlevelsup++;
		return false;
	}
	if (IsA(node, Query))
	{
		bool result;

		raise->level++;
		result = query_tree_walker((Query *) node, raise_vars, raise, QTW_IGNORE_JOINALIASES);
		raise->level--;
		return result;
	}
	return expression_tree_walker(node, raise_vars, raise);
}

/* The rows of one side that match a row of the other, as a subquery of it. */
static Query *
matching_rows(Level *level, Node *side, Relids other, Node *condition)
{
	Query *query = makeNode(Query);
	Raise raise = {.rtis = other};

	query->commandType = CMD_SELECT;
	query->rtable = copyObject(level->query->rtable);
	query->jointree = makeFromExpr(list_make1(copyObject(side)), copyObject(condition));
	delta_blank_unused(query);
	(void) query_tree_walker(query, raise_vars, &raise, QTW_IGNORE_JOINALIASES);
	return query;
}

static Product *
product_of(const Product *side, const Product *other, const Product *more)
{
	Product *product = palloc0(sizeof(Product));

	product->factors = list_concat_copy(side->factors, other ? other->factors : NIL);
	product->quals = list_concat_copy(side->quals, other ? other->quals : NIL);
	if (more != NULL)
	{
		product->factors = list_concat(product->factors, more->factors);
		product->quals = list_concat(product->quals, more->quals);
	}
	return product;
}

typedef struct ToNull
{
	Relids rtis;
} ToNull;

static Node *
vars_to_null(Node *node, ToNull *to)
{
	Var *var = (Var *) node;

	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && var->varlevelsup == 0 && bms_is_member(var->varno, to->rtis))
		return (Node *) makeNullConst(var->vartype, var->vartypmod, var->varcollid);
	return expression_tree_mutator(node, vars_to_null, to);
}

/* Do the conditions let no row through where these entries are NULL? */
static bool
rejects_nulls(const Product *product, Relids rtis)
{
	ToNull to = {.rtis = rtis};
	ListCell *lc;

	foreach(lc, product->quals)
	{
		Const *value = (Const *) eval_const_expressions(NULL, vars_to_null(lfirst(lc), &to));

		if (IsA(value, Const) && (value->constisnull || !DatumGetBool(value->constvalue)))
			return true;
	}
	return false;
}

/* The rows of one side that match none of the other, with NULLs in its place. */
static bool
emit_padded(Level *level, JoinExpr *join, Product *side, Node *kept, Node *nulled,
			const Product *more, List *outputs, int target)
{
	Query *matching = matching_rows(level, nulled, delta_entries(kept), join->quals);
	Product *product = product_of(side, NULL, more);
	Factor *none;

	if (rejects_nulls(product, delta_entries(nulled)))
		return true;
	none = delta_exists(level, matching, true, delta_not_exists(matching));
	if (none == NULL)
		return false;
	delta_add_part(level,
				   join->jointype == JOIN_FULL ? "FULL JOIN " : "LEFT JOIN ",
				   delta_entries(nulled),
				   "",
				   delta_exists_way(none),
				   delta_exists_reason(none),
				   delta_index_hint(level, join->quals));
	product->factors = lappend(product->factors, none);
	return delta_emit(level, product, delta_entries(nulled), outputs, target);
}

bool
delta_outer_join(Level *level, JoinExpr *join, const Product *more, List *outputs, int target)
{
	Node *kept = join->jointype == JOIN_RIGHT ? join->rarg : join->larg;
	Node *other = join->jointype == JOIN_RIGHT ? join->larg : join->rarg;
	Product left = {0};
	Product right = {0};
	Product *joined;

	check_stack_depth();
	if (delta_reads_tables(join->quals))
		return plan_refuse(
			level->compiler->plan, NULL, "a subquery in the condition of an outer join");
	if (!delta_gather(level, kept, &left) || !delta_gather(level, other, &right))
		return false;

	joined = product_of(&left, &right, more);
	joined->quals =
		list_concat(joined->quals, make_ands_implicit((Expr *) copyObject(join->quals)));
	if (!delta_emit(level, joined, NULL, outputs, target) ||
		!emit_padded(level, join, &left, kept, other, more, outputs, target))
		return false;
	return join->jointype != JOIN_FULL ||
		   emit_padded(level, join, &right, other, kept, more, outputs, target);
}

/* --- the program ------------------------------------------------------------------------ */

/* The rows of a single table are what its log gives, if columns are all that is asked for. */
static int
leaf_result(Compiler *compiler, Query *query, List *outputs)
{
	Level level = {.compiler = compiler, .query = query, .above = outputs};
	List *items = query->jointree->fromlist;
	Product product = {0};
	Factor *factor;
	ListCell *lc;

	if (list_length(items) != 1 || !IsA(linitial(items), RangeTblRef) ||
		query->jointree->quals != NULL ||
		rt_fetch(linitial_node(RangeTblRef, items)->rtindex, query->rtable)->rtekind !=
			RTE_RELATION)
		return NO_STORE;
	foreach(lc, outputs)
		for (int i = 0; i <= foreach_current_index(lc); i++)
			if (!IsA(lfirst(lc), Var) ||
				(i < foreach_current_index(lc) && equal(list_nth(outputs, i), lfirst(lc))))
				return NO_STORE;
	if (!delta_gather(&level, (Node *) query->jointree, &product))
		return NO_STORE;
	factor = linitial(product.factors);
	foreach(lc, outputs)
		(void) delta_leaf_column(compiler, factor->store, lfirst_node(Var, lc));
	return factor->store;
}

static DeltaProgram *
program_of(Compiler *compiler, int result)
{
	DeltaProgram *program = palloc0(sizeof(DeltaProgram));
	ListCell *lc;

	program->nstores = list_length(compiler->stores);
	program->stores = palloc0(sizeof(DeltaStore) * program->nstores);
	foreach(lc, compiler->stores)
		program->stores[foreach_current_index(lc)] = *(DeltaStore *) lfirst(lc);
	program->nsteps = list_length(compiler->steps);
	program->steps = palloc0(sizeof(DeltaStep) * program->nsteps);
	foreach(lc, compiler->steps)
		program->steps[foreach_current_index(lc)] = *(DeltaStep *) lfirst(lc);
	program->result = result;
	return program;
}

DeltaProgram *
delta_compile(IncrementalPlan *plan, Query *query, List *outputs)
{
	Compiler compiler = {.plan = plan};
	int result;

	if (query->setOperations != NULL)
	{
		SetOperationStmt *top = castNode(SetOperationStmt, query->setOperations);
		List *numbers = NIL;
		List *columns = NIL;
		ListCell *lc;

		foreach(lc, top->colTypes)
		{
			int i = foreach_current_index(lc);

			numbers = lappend_int(numbers, i + 1);
			columns = lappend(columns,
							  makeNullConst(lfirst_oid(lc),
											list_nth_int(top->colTypmods, i),
											list_nth_oid(top->colCollations, i)));
		}
		result = delta_add_store(&compiler, columns);
		return delta_columns(&compiler, query, numbers, result) ? program_of(&compiler, result)
																: NULL;
	}
	result = leaf_result(&compiler, query, outputs);
	if (result == NO_STORE)
	{
		result = delta_add_store(&compiler, outputs);
		if (!plain_query(&compiler, query, outputs, result))
			return NULL;
	}
	return program_of(&compiler, result);
}
