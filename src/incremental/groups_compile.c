/*
 * groups_compile.c
 *		Splits a query with GROUP BY, DISTINCT, UNION or aggregates into what its
 *		rows give, what the state of a group keeps, and what the view shows.
 *
 * Memory: all in the plan's context.  Cost: linear in the definition.
 */
#include "pgopt.h"

#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parse_oper.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"

#include "compat.h"
#include "groups_compile.h"

/* --- which columns can be NULL ---------------------------------------------------- */

/* Adds the range table entries in a part of FROM to those that an outer join can pad. */
static void
find_padded(Node *node, bool is_padded, Bitmapset **padded)
{
	ListCell *lc;

	if (IsA(node, RangeTblRef))
	{
		if (is_padded)
			*padded = bms_add_member(*padded, ((RangeTblRef *) node)->rtindex);
	}
	else if (IsA(node, FromExpr))
	{
		foreach(lc, ((FromExpr *) node)->fromlist)
			find_padded(lfirst(lc), is_padded, padded);
	}
	else
	{
		JoinExpr *join = castNode(JoinExpr, node);

		find_padded(join->larg,
					is_padded || join->jointype == JOIN_RIGHT || join->jointype == JOIN_FULL,
					padded);
		find_padded(join->rarg,
					is_padded || join->jointype == JOIN_LEFT || join->jointype == JOIN_FULL,
					padded);
	}
}

/* --- the key ------------------------------------------------------------------------ */

static int
key_number(GroupCompiler *compiler, Expr *expression)
{
	ListCell *lc;
	int number = 0;

	foreach(lc, compiler->keys)
	{
		number++;
		if (equal(lfirst(lc), expression))
			return number;
	}
	return 0;
}

static bool
add_key(GroupCompiler *compiler, Expr *expression, SortGroupClause *clause)
{
	Oid type = exprType((Node *) expression);

	if (key_number(compiler, expression) > 0)
		return true;
	if (!groups_is_storable(type))
		return plan_refuse(compiler->plan,
						   "Group by the columns themselves.",
						   "groups are made by %s, whose type cannot be kept in a table",
						   groups_expression_text(compiler->query, expression));
	if (!groups_can_be_hashed(type))
		return plan_refuse(compiler->plan,
						   "Group by a value of a type that can be hashed, such as text.",
						   "groups are made by %s, whose type cannot be hashed",
						   groups_expression_text(compiler->query, expression));
	compiler->keys = lappend(compiler->keys, expression);
	compiler->key_clauses = lappend(compiler->key_clauses, clause);
	return true;
}

/* Columns that stand alone, since the key determines them, become a part of it. */
static bool
add_dependent_columns(Node *node, GroupCompiler *compiler)
{
	if (node == NULL || IsA(node, Aggref) || key_number(compiler, (Expr *) node) > 0)
		return false;
	if (IsA(node, Var) && ((Var *) node)->varlevelsup == 0)
	{
		Oid type = exprType(node);

		/* others are computed anew */
		if (groups_is_storable(type) && groups_can_be_hashed(type))
			(void) add_key(compiler, copyObject((Expr *) node), NULL);
		return false;
	}
	return expression_tree_walker(node, add_dependent_columns, compiler);
}

static bool
collect_keys(GroupCompiler *compiler)
{
	Query *query = compiler->query;
	List *clauses = query->groupClause != NIL ? query->groupClause : query->distinctClause;
	ListCell *lc;

	if (query->groupClause == NIL && query->hasAggs)
		clauses = NIL;
	foreach(lc, clauses)
	{
		SortGroupClause *clause = lfirst(lc);

		if (!add_key(compiler,
					 copyObject((Expr *) get_sortgroupclause_expr(clause, query->targetList)),
					 clause))
			return false;
	}
	if (query->groupClause != NIL)
	{
		foreach(lc, query->targetList)
			if (!((TargetEntry *) lfirst(lc))->resjunk)
				(void) add_dependent_columns((Node *) lfirst(lc), compiler);
		(void) add_dependent_columns(query->havingQual, compiler);
	}
	compiler->is_global = clauses == NIL;
	return true;
}

/*
 * DISTINCT after GROUP BY does nothing when all of the key is shown; otherwise
 * groups would have to be grouped again.
 */
static bool
check_distinct_of_groups(GroupCompiler *compiler)
{
	Query *query = compiler->query;
	ListCell *lc;

	if (query->distinctClause == NIL || (query->groupClause == NIL && !query->hasAggs))
		return true;
	foreach(lc, query->groupClause)
	{
		SortGroupClause *clause = lfirst(lc);
		TargetEntry *entry = get_sortgroupref_tle(clause->tleSortGroupRef, query->targetList);

		if (entry->resjunk)
			return plan_refuse(compiler->plan,
							   "Leave DISTINCT out, or show all that is grouped by.",
							   "DISTINCT applies to the result of GROUP BY");
	}
	return true;
}

/* --- what the view shows --------------------------------------------------------------- */

typedef struct Showing
{
	GroupCompiler *compiler;
	bool failed;
} Showing;

/* An expression over the query's columns becomes one over g(n, k1, ..., a1, ...). */
static Node *
show_mutator(Node *node, Showing *showing)
{
	GroupCompiler *compiler = showing->compiler;
	int number;

	if (node == NULL || showing->failed)
		return NULL;
	number = key_number(compiler, (Expr *) node);
	if (number > 0)
		return (Node *) groups_show_key(compiler, number);
	if (IsA(node, Aggref))
	{
		Expr *result = groups_compile_aggregate(compiler, (Aggref *) node);

		showing->failed = result == NULL;
		return (Node *) result;
	}
	if (IsA(node, Var))
		return (Node *) groups_recompute_expression(compiler, (Expr *) node);
	if (IsA(node, GroupingFunc) || IsA(node, SubLink) || IsA(node, WindowFunc))
	{
		showing->failed = true;
		plan_refuse(compiler->plan,
					NULL,
					IsA(node, GroupingFunc) ? "GROUPING() is used"
					: IsA(node, SubLink)    ? "there is a subquery in the select list or in HAVING"
											: "there is a window function");
		return NULL;
	}
	return expression_tree_mutator(node, show_mutator, showing);
}

/* --- the result ------------------------------------------------------------------------- */

/*
 * The distinct value by which full_sql groups besides the key, or -1.  What its
 * subgroups give must add up: what is computed anew does not.
 */
static int
choose_full_distinct(GroupCompiler *compiler)
{
	ListCell *lc;
	int index = 0;
	int found = -1;

	foreach(lc, compiler->drafts)
	{
		Draft *draft = lfirst(lc);

		if (draft->kind == ACC_RECOMPUTED || (draft->kind == ACC_DISTINCT && found >= 0))
			return -1;
		if (draft->kind == ACC_DISTINCT)
			found = index;
		index++;
	}
	return found;
}

/* The number of an input among the program's outputs, which it is added to once. */
static int
input_number(List **outputs, int nkeys, Expr *input)
{
	for (int i = nkeys; i < list_length(*outputs); i++)
		if (equal(list_nth(*outputs, i), input))
			return i + 1;
	*outputs = lappend(*outputs, input);
	return list_length(*outputs);
}

/* Fills the specification; returns the expressions whose change the program is to give. */
static List *
make_spec(GroupCompiler *compiler, GroupSpec *spec)
{
	List *outputs = list_copy(compiler->keys);
	ListCell *lc;
	int index = 0;

	spec->is_global = compiler->is_global;
	spec->nkeys = list_length(compiler->keys);
	spec->keys = palloc0(Max(spec->nkeys, 1) * sizeof(ColumnType));
	foreach(lc, compiler->keys)
		spec->keys[index++] = groups_type_of(lfirst(lc));

	index = 0;
	spec->naccumulators = list_length(compiler->drafts);
	spec->accumulators = palloc0(spec->naccumulators * sizeof(Accumulator));
	foreach(lc, compiler->drafts)
	{
		Draft *draft = lfirst(lc);
		Accumulator *accumulator = &spec->accumulators[index++];

		accumulator->kind = draft->kind;
		accumulator->column = draft->column;
		if (draft->input != NULL)
		{
			accumulator->value = groups_type_of(draft->input);
			accumulator->input = input_number(&outputs, spec->nkeys, draft->input);
		}
		spec->source_accumulators = lappend(
			spec->source_accumulators,
			draft->kind == ACC_DISTINCT ? (Expr *) groups_make_null(draft->column) : draft->whole);
	}
	spec->source = compiler->query;
	spec->source_keys = compiler->keys;
	spec->full_distinct = choose_full_distinct(compiler);
	return list_concat_unique(outputs, compiler->touching);
}

/* SELECT * FROM (the UNION) AS u, to be grouped by all its columns. */
static Query *
wrap_union(Query *inner)
{
	Query *query = makeNode(Query);
	RangeTblEntry *entry = makeNode(RangeTblEntry);
	RangeTblRef *reference = makeNode(RangeTblRef);
	ListCell *lc;
	List *names = NIL;
	SetOperationStmt *operation = castNode(SetOperationStmt, inner->setOperations);

	foreach(lc, inner->targetList)
	{
		TargetEntry *inner_entry = lfirst(lc);
		int number = foreach_current_index(lc);
		TargetEntry *column;
		SortGroupClause *clause = makeNode(SortGroupClause);

		if (inner_entry->resjunk)
			continue;
		names = lappend(names, makeString(pstrdup(inner_entry->resname)));
		column = makeTargetEntry((Expr *) makeVar(1,
												  inner_entry->resno,
												  list_nth_oid(operation->colTypes, number),
												  list_nth_int(operation->colTypmods, number),
												  list_nth_oid(operation->colCollations, number),
												  0),
								 inner_entry->resno,
								 pstrdup(inner_entry->resname),
								 false);
		column->ressortgroupref = inner_entry->resno;
		get_sort_group_operators(exprType((Node *) column->expr),
								 false,
								 true,
								 false,
								 &clause->sortop,
								 &clause->eqop,
								 NULL,
								 &clause->hashable);
		clause->tleSortGroupRef = column->ressortgroupref;
		query->targetList = lappend(query->targetList, column);
		query->groupClause = lappend(query->groupClause, clause);
	}
	entry->rtekind = RTE_SUBQUERY;
	entry->subquery = inner;
	entry->alias = makeAlias("u", NIL);
	entry->eref = makeAlias("u", names);
	entry->inFromCl = true;
	reference->rtindex = 1;
	query->commandType = CMD_SELECT;
	query->canSetTag = true;
	query->rtable = list_make1(entry);
	query->jointree = makeFromExpr(list_make1(reference), NULL);
	return query;
}

bool
groups_compile(IncrementalPlan *plan, Query *query)
{
	bool is_union = query->setOperations != NULL;
	GroupCompiler compiler = {0};
	Showing showing = {&compiler, false};
	GroupSpec *spec = palloc0(sizeof(GroupSpec));
	List *view_columns = NIL;
	List *outputs;
	Expr *having;
	ListCell *lc;
	ColumnType count = {INT8OID, -1, InvalidOid};

	compiler.plan = plan;
	compiler.query = is_union ? wrap_union(query) : query;
	if (compiler.query->groupingSets != NIL)
		return plan_refuse(plan,
						   "Make a materialized view of each set.",
						   "there is GROUPING SETS, ROLLUP or CUBE");
	find_padded((Node *) compiler.query->jointree, false, &compiler.padded);
	if (!check_distinct_of_groups(&compiler) || !collect_keys(&compiler))
		return false;

	/* a group is there as long as it has rows */
	(void) groups_add_draft(
		&compiler,
		ACC_COUNT,
		NULL,
		count,
		(Expr *) groups_make_aggregate("pg_catalog", "count", INT8OID, NULL, NULL));

	foreach(lc, compiler.query->targetList)
	{
		TargetEntry *entry = lfirst(lc);

		if (entry->resjunk)
			continue;
		entry = flatCopyTargetEntry(entry);
		entry->expr = (Expr *) show_mutator((Node *) entry->expr, &showing);
		view_columns = lappend(view_columns, entry);
	}
	having = (Expr *) show_mutator(compiler.query->havingQual, &showing);
	if (showing.failed)
		return false;
	if (having != NULL)
		plan_add_part(
			plan,
			psprintf("HAVING %s",
					 groups_expression_text(compiler.query, (Expr *) compiler.query->havingQual)),
			"asked of each group that changed",
			"groups that it leaves out are kept in the state, too",
			NULL);
	groups_join_counts_and_sums(&compiler);
	foreach(lc, compiler.drafts)
	{
		Draft *draft = lfirst(lc);

		draft->input = (Expr *) groups_count_letters_fast((Node *) draft->input, NULL);
		draft->whole = (Expr *) groups_count_letters_fast((Node *) draft->whole, NULL);
	}

	outputs = make_spec(&compiler, spec);
	groups_write_sql(&compiler, spec, having, view_columns);
	plan->groups = spec;
	plan->program = delta_compile(plan, query, is_union ? NIL : outputs);
	return plan->program != NULL;
}
