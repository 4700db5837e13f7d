/*
 * groups_compile_aggregates.c
 *		What the state of a group keeps for each aggregate, and how the
 *		aggregate's result follows from it.
 *
 * The result must be the one that the view's own query gives, down to the
 * digits shown: sums are NULL where nothing was summed, averages are divided as
 * avg() does it, and a sum of numerics shows as many digits as the longest
 * summand that is still there.
 *
 * Memory: all in the plan's context.  Cost: linear in the definition, but for
 * the search of an equal accumulator among those there are.
 */
#include "pgopt.h"

#include "access/htup_details.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "compat.h"
#include "groups_compile.h"

static const ColumnType bigint_column = {INT8OID, -1, InvalidOid};
static const ColumnType numeric_column = {NUMERICOID, -1, InvalidOid};

/* Is this a column that is never NULL? */
static bool
is_never_null(GroupCompiler *compiler, Expr *expression)
{
	Var *var = (Var *) expression;
	RangeTblEntry *rte;

	if (IsA(expression, Const))
		return !((Const *) expression)->constisnull;
	if (!IsA(expression, Var) || var->varlevelsup > 0 ||
		bms_is_member(var->varno, compiler->padded))
		return false;
	rte = rt_fetch(var->varno, compiler->query->rtable);
	return rte->rtekind == RTE_RELATION && var->varattno > 0 &&
		   compat_column_is_not_null(rte->relid, var->varattno);
}

static HeapTuple
aggregate_tuple(Oid aggregate)
{
	HeapTuple tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggregate));

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", aggregate);
	return tuple;
}

/* --- the drafts ---------------------------------------------------------------- */

/* The draft of an accumulator; an equal one is used twice. */
Draft *
groups_add_draft(GroupCompiler *compiler, AccumulatorKind kind, Expr *input, ColumnType column,
				 Expr *whole)
{
	ListCell *lc;
	Draft *draft;

	foreach(lc, compiler->drafts)
	{
		draft = lfirst(lc);
		if (draft->kind == kind && equal(draft->input, input) &&
			(kind == ACC_DISTINCT || kind == ACC_RECOMPUTED ? equal(draft->whole, whole) : true))
			return draft;
	}
	draft = palloc0(sizeof(Draft));
	draft->kind = kind;
	draft->input = input;
	draft->column = column;
	draft->whole = whole;
	compiler->drafts = lappend(compiler->drafts, draft);
	return draft;
}

static int
draft_index(GroupCompiler *compiler, Draft *draft)
{
	ListCell *lc;
	int index = 0;

	foreach(lc, compiler->drafts)
	{
		if (lfirst(lc) == draft)
			return index;
		index++;
	}
	elog(ERROR, "accumulator is not in its list");
	return -1;
}

/* Its column of g(n, k1, ..., a1, ...), the table that final_sql reads. */
static Expr *
state_column(GroupCompiler *compiler, Draft *draft)
{
	return (Expr *) makeVar(1,
							1 + list_length(compiler->keys) + draft_index(compiler, draft) + 1,
							draft->column.type,
							draft->column.typmod,
							draft->column.collation,
							0);
}

static Expr *
and_also(Expr *first, Expr *second)
{
	if (first == NULL)
		return second;
	return makeBoolExpr(AND_EXPR, list_make2(first, second), -1);
}

/* count(*) FILTER (WHERE condition) */
static Draft *
count_rows(GroupCompiler *compiler, Expr *condition)
{
	Aggref *whole;

	if (condition == NULL)
		return linitial(compiler->drafts);
	whole = groups_make_aggregate("pg_catalog", "count", INT8OID, NULL, condition);
	return groups_add_draft(
		compiler,
		ACC_COUNT,
		groups_make_when(copyObject(condition), (Expr *) makeBoolConst(true, false)),
		bigint_column,
		(Expr *) whole);
}

static Expr *
is_not_null(Expr *argument)
{
	NullTest *test = makeNode(NullTest);

	test->arg = copyObject(argument);
	test->nulltesttype = IS_NOT_NULL;
	test->argisrow = false;
	test->location = -1;
	return (Expr *) test;
}

static Expr *
argument_of(Aggref *aggregate)
{
	return ((TargetEntry *) linitial(aggregate->args))->expr;
}

/* The argument, NULL for rows that the filter leaves out. */
static Expr *
filtered_argument(Aggref *aggregate)
{
	Expr *argument = copyObject(argument_of(aggregate));

	return aggregate->aggfilter == NULL
			   ? argument
			   : groups_make_when(copyObject(aggregate->aggfilter), argument);
}

/*
 * Counts what an aggregate takes in: arguments that are not NULL.  What sums it
 * too has the argument as its input already; else whether it is there will do,
 * and costs less to carry.
 */
static Draft *
count_argument(GroupCompiler *compiler, Aggref *aggregate, bool is_carried)
{
	Expr *argument = argument_of(aggregate);
	Expr *condition = aggregate->aggfilter;
	Expr *input;

	if (is_never_null(compiler, argument))
		return count_rows(compiler, condition);
	if (is_carried || get_typbyval(exprType((Node *) argument)))
		input = filtered_argument(aggregate);
	else
		input = groups_make_when(and_also(copyObject(condition), is_not_null(argument)),
								 (Expr *) makeBoolConst(true, false));
	return groups_add_draft(
		compiler,
		ACC_COUNT,
		input,
		bigint_column,
		(Expr *) groups_make_aggregate("pg_catalog", "count", INT8OID, argument, condition));
}

static Expr *
as_numeric(Expr *bigint)
{
	return groups_make_call(F_NUMERIC_INT8, NUMERICOID, list_make1(bigint));
}

static Const *
zero_numeric(void)
{
	return makeConst(
		NUMERICOID, -1, InvalidOid, -1, NumericGetDatum(int64_to_numeric(0)), false, false);
}

/* The result, or NULL where nothing was counted. */
static Expr *
unless_empty(GroupCompiler *compiler, Draft *count, Expr *result)
{
	if (count == linitial(compiler->drafts) && !compiler->is_global)
		return result;
	return groups_make_when(
		groups_make_call(
			F_INT8GT, BOOLOID, list_make2(state_column(compiler, count), groups_make_bigint(0))),
		result);
}

static Expr *
extreme_of(GroupCompiler *compiler, AccumulatorKind kind, Aggref *aggregate)
{
	Expr *argument = argument_of(aggregate);
	Oid element = exprType((Node *) argument);
	ColumnType column = {get_array_type(element), -1, exprCollation((Node *) argument)};
	Draft *draft = groups_add_draft(
		compiler,
		kind,
		filtered_argument(aggregate),
		column,
		(Expr *) groups_make_aggregate(PGOPT_SCHEMA,
									   kind == ACC_SMALLEST ? "smallest" : "largest",
									   column.type,
									   argument,
									   aggregate->aggfilter));

	return groups_make_element(state_column(compiler, draft), element, 1);
}

/* sum() and avg() of whole numbers that fit in four bytes. */
static Expr *
sum_of_integers(GroupCompiler *compiler, Aggref *aggregate, bool average)
{
	Draft *count = count_argument(compiler, aggregate, true);
	Expr *whole = (Expr *) groups_make_aggregate(
		"pg_catalog", "sum", INT8OID, argument_of(aggregate), aggregate->aggfilter);
	Draft *sum = groups_add_draft(compiler,
								  ACC_SUM_INT,
								  filtered_argument(aggregate),
								  bigint_column,
								  groups_make_coalesce(whole, groups_make_bigint(0)));
	Expr *result = state_column(compiler, sum);

	sum->aggregate = aggregate;
	sum->count = draft_index(compiler, count);
	if (average)
		result = groups_make_call(
			F_NUMERIC_DIV,
			NUMERICOID,
			list_make2(as_numeric(result), as_numeric(state_column(compiler, count))));
	return unless_empty(compiler, count, result);
}

static bool
shows_various_scales(Expr *argument)
{
	return exprType((Node *) argument) == NUMERICOID && groups_fixed_scale(argument) < 0;
}

/* The number with as many digits after the point as the longest of these arguments has (scale.c). */
static Expr *
round_to_longest(GroupCompiler *compiler, Expr *number, Expr *argument, Expr *filter)
{
	Aggref *marks =
		groups_make_aggregate("pg_catalog",
							  "sum",
							  NUMERICOID,
							  groups_make_named_call("scale_mark", copyObject(argument)),
							  filter);
	Draft *draft = groups_add_draft(compiler,
									ACC_SUM_NUMERIC,
									filtered_argument(marks),
									numeric_column,
									groups_make_coalesce((Expr *) marks, zero_numeric()));

	return groups_make_call(
		F_ROUND_NUMERIC_INT4,
		NUMERICOID,
		list_make2(number, groups_make_named_call("longest_scale", state_column(compiler, draft))));
}

/*
 * A key as the view shows it.  Where equal keys can look different, it must be
 * one that a row of the group has now.
 */
Expr *
groups_show_key(GroupCompiler *compiler, int number)
{
	Expr *key = list_nth(compiler->keys, number - 1);
	ColumnType type = groups_type_of(key);
	Expr *kept = (Expr *) makeVar(1, 1 + number, type.type, type.typmod, type.collation, 0);

	if (groups_equal_is_same(key))
		return kept;
	if (type.type == NUMERICOID)
		return round_to_longest(compiler, kept, key, NULL);
	plan_add_part(
		compiler->plan,
		psprintf("GROUP BY %s", groups_expression_text(compiler->query, key)),
		"groups that changed are computed anew",
		"keys that are equal can look different, and one that is there must be shown",
		"group by a value that looks the same where it is equal, such as text or numeric with "
		"a scale");
	return groups_recompute_expression(compiler, key);
}

/*
 * sum() and avg() of bigints and numerics.  Where summands can have more or
 * fewer digits after the point, those of the longest ones are kept: adding and
 * taking away leaves the sum with the digits of all that were ever there.
 */
static Expr *
sum_of_numerics(GroupCompiler *compiler, Aggref *aggregate, bool average)
{
	Draft *count = count_argument(compiler, aggregate, true);
	Expr *whole = (Expr *) groups_make_aggregate(
		"pg_catalog", "sum", NUMERICOID, argument_of(aggregate), aggregate->aggfilter);
	Draft *sum = groups_add_draft(compiler,
								  ACC_SUM_NUMERIC,
								  filtered_argument(aggregate),
								  numeric_column,
								  groups_make_coalesce(whole, zero_numeric()));
	Expr *result = state_column(compiler, sum);

	if (shows_various_scales(argument_of(aggregate)))
		result = round_to_longest(compiler, result, argument_of(aggregate), aggregate->aggfilter);
	if (average)
		result = groups_make_call(F_NUMERIC_DIV,
								  NUMERICOID,
								  list_make2(result, as_numeric(state_column(compiler, count))));
	return unless_empty(compiler, count, result);
}

/* bool_and() is true if no row is false, bool_or() if one is true. */
static Expr *
all_or_any(GroupCompiler *compiler, Aggref *aggregate, bool all)
{
	Expr *argument = argument_of(aggregate);
	Draft *count = count_argument(compiler, aggregate, true);
	Expr *decisive = copyObject(argument);
	Draft *found;

	if (all)
		decisive = makeBoolExpr(NOT_EXPR, list_make1(decisive), -1);
	found = count_rows(compiler, and_also(aggregate->aggfilter, decisive));
	return unless_empty(
		compiler,
		count,
		groups_make_call(all ? F_INT8EQ : F_INT8GT,
						 BOOLOID,
						 list_make2(state_column(compiler, found), groups_make_bigint(0))));
}

/* --- what is computed anew --------------------------------------------------------- */

/*
 * The expression, an aggregate or a key, is computed from the tables whenever
 * its group changes; for that a change of any of its columns must be seen.
 */
Expr *
groups_recompute_expression(GroupCompiler *compiler, Expr *expression)
{
	Draft *draft = groups_add_draft(
		compiler, ACC_RECOMPUTED, NULL, groups_type_of(expression), copyObject(expression));
	ListCell *lc;

	foreach(lc, pull_var_clause((Node *) expression, PVC_RECURSE_AGGREGATES))
		compiler->touching = list_append_unique(compiler->touching, lfirst(lc));
	return state_column(compiler, draft);
}

/* Does the aggregate look at its values in such a way that NULLs make no difference? */
static bool
ignores_nulls(Aggref *aggregate)
{
	HeapTuple tuple;
	bool strict;

	if (aggregate->aggfnoid == F_STRING_AGG_TEXT_TEXT ||
		aggregate->aggfnoid == F_STRING_AGG_BYTEA_BYTEA)
		return true;
	tuple = aggregate_tuple(aggregate->aggfnoid);
	strict = func_strict(((Form_pg_aggregate) GETSTRUCT(tuple))->aggtransfn);
	ReleaseSysCache(tuple);
	return strict;
}

/* Does it start from a value, and so can give one over no rows? */
static bool
has_initial_value(Aggref *aggregate)
{
	HeapTuple tuple = aggregate_tuple(aggregate->aggfnoid);
	bool is_null;

	(void) SysCacheGetAttr(AGGFNOID, tuple, Anum_pg_aggregate_agginitval, &is_null);
	ReleaseSysCache(tuple);
	return !is_null;
}

/* Does the aggregate give the same whether a value comes once or more often? */
static bool
is_idempotent(Oid aggregate)
{
	switch (aggregate)
	{
		case F_BIT_AND_INT2:
		case F_BIT_AND_INT4:
		case F_BIT_AND_INT8:
		case F_BIT_AND_BIT:
		case F_BIT_OR_INT2:
		case F_BIT_OR_INT4:
		case F_BIT_OR_INT8:
		case F_BIT_OR_BIT:
			return true;
		default:
			return false;
	}
}

/* Why the distinct values of a group cannot be kept for an aggregate, or NULL. */
static const char *
why_no_distinct_values(GroupCompiler *compiler, Aggref *aggregate)
{
	Expr *argument;
	ListCell *lc;

	if (aggregate->aggkind != AGGKIND_NORMAL || aggregate->args == NIL)
		return "its values are ordered";
	argument = argument_of(aggregate);
	for_each_from(lc, aggregate->args, 1)
		if (!IsA(((TargetEntry *) lfirst(lc))->expr, Const))
			return "more than one of its arguments changes from row to row";
	if (!groups_is_storable(exprType((Node *) argument)))
		return "values of its argument's type cannot be kept in a table";
	if (!groups_can_be_hashed(exprType((Node *) argument)))
		return "values of its argument's type cannot be hashed";
	if (aggregate->aggfnoid != F_COUNT_ANY && !groups_equal_is_same(argument))
		return "equal values of its argument can look different";
	if (aggregate->aggfilter != NULL && !ignores_nulls(aggregate))
		return "it has a FILTER and does not ignore NULL";
	if (compiler->is_global && aggregate->aggfnoid != F_COUNT_ANY && has_initial_value(aggregate))
		return "its result over no rows is a value of its own";
	return NULL;
}

static Expr *
distinct_values(GroupCompiler *compiler, Aggref *aggregate)
{
	ColumnType column = groups_type_of((Expr *) aggregate);
	Aggref *over_values = copyObject(aggregate);
	Draft *draft;

	over_values->aggfilter = NULL;
	draft = groups_add_draft(
		compiler, ACC_DISTINCT, filtered_argument(aggregate), column, (Expr *) over_values);
	draft->aggregate = over_values;
	/* a view without GROUP BY shows its row even over nothing */
	if (compiler->is_global && aggregate->aggfnoid == F_COUNT_ANY)
		return groups_make_coalesce(state_column(compiler, draft), groups_make_bigint(0));
	return state_column(compiler, draft);
}

/* --- one aggregate ------------------------------------------------------------------- */

/* The order in which min() or max() looks for its result: ACC_SMALLEST, ACC_LARGEST, or neither. */
static bool
seeks_extreme(Aggref *aggregate, AccumulatorKind *kind)
{
	HeapTuple tuple;
	Oid operator;
	TypeCacheEntry *entry;
	Oid type;

	if (aggregate->aggkind != AGGKIND_NORMAL || list_length(aggregate->aggargtypes) != 1)
		return false;
	tuple = aggregate_tuple(aggregate->aggfnoid);
	operator=((Form_pg_aggregate) GETSTRUCT(tuple))->aggsortop;
	ReleaseSysCache(tuple);
	if (!OidIsValid(operator))
		return false;

	type = exprType((Node *) argument_of(aggregate));
	if (!groups_is_storable(type) || !OidIsValid(get_array_type(type)) ||
		type != aggregate->aggtype)
		return false;
	entry = lookup_type_cache(type, TYPECACHE_LT_OPR | TYPECACHE_GT_OPR | TYPECACHE_CMP_PROC);
	if (!OidIsValid(entry->cmp_proc))
		return false;
	*kind = operator== entry->lt_opr ? ACC_SMALLEST : ACC_LARGEST;
	return operator== entry->lt_opr || operator== entry->gt_opr;
}

static void
explain(GroupCompiler *compiler, Aggref *aggregate, const char *way, const char *reason,
		const char *hint)
{
	plan_add_part(compiler->plan,
				  groups_expression_text(compiler->query, (Expr *) aggregate),
				  way,
				  reason,
				  hint);
}

/*
 * The aggregate's result, over g(n, k1, ..., a1, ...).  NULL if the view cannot
 * be incremental for its sake.
 */
Expr *
groups_compile_aggregate(GroupCompiler *compiler, Aggref *aggregate)
{
	bool is_distinct = aggregate->aggdistinct != NIL;
	const char *hint = NULL;
	const char *why;
	AccumulatorKind kind;

	if (seeks_extreme(aggregate, &kind))
	{
		explain(compiler,
				aggregate,
				psprintf("the group's %d %s values are kept",
						 EXTREMES_KEPT,
						 kind == ACC_SMALLEST ? "smallest" : "largest"),
				"when so many of them have gone, the group is computed anew",
				NULL);
		return extreme_of(compiler, kind, aggregate);
	}

	switch (aggregate->aggfnoid)
	{
		case F_BOOL_AND:
		case F_EVERY:
		case F_BOOL_OR:
			explain(
				compiler, aggregate, "counted", "what is true and what is false is counted", NULL);
			return all_or_any(compiler, aggregate, aggregate->aggfnoid != F_BOOL_OR);
		default:
			break;
	}

	if (!is_distinct)
	{
		switch (aggregate->aggfnoid)
		{
			case F_COUNT_:
			case F_COUNT_ANY:
				explain(compiler, aggregate, "counted", "changes are added to the count", NULL);
				return state_column(compiler,
									aggregate->aggstar
										? count_rows(compiler, aggregate->aggfilter)
										: count_argument(compiler, aggregate, false));
			case F_SUM_INT2:
			case F_SUM_INT4:
			case F_AVG_INT2:
			case F_AVG_INT4:
				explain(compiler,
						aggregate,
						"summed",
						"changes are added to the sum and the count",
						NULL);
				return sum_of_integers(compiler,
									   aggregate,
									   aggregate->aggfnoid == F_AVG_INT2 ||
										   aggregate->aggfnoid == F_AVG_INT4);
			case F_SUM_INT8:
			case F_SUM_NUMERIC:
			case F_AVG_INT8:
			case F_AVG_NUMERIC:
				if (shows_various_scales(argument_of(aggregate)))
				{
					why = "changes are added to the sum and the count; digits after the point are "
						  "counted, too";
					hint = "a numeric with a scale, such as numeric(12,2), would do without that";
				}
				else
					why = "changes are added to the sum and the count";
				explain(compiler, aggregate, "summed", why, hint);
				return sum_of_numerics(compiler,
									   aggregate,
									   aggregate->aggfnoid == F_AVG_INT8 ||
										   aggregate->aggfnoid == F_AVG_NUMERIC);
			default:
				break;
		}
	}

	if (is_distinct || is_idempotent(aggregate->aggfnoid))
	{
		why = why_no_distinct_values(compiler, aggregate);
		if (why == NULL)
		{
			explain(
				compiler,
				aggregate,
				"from the group's distinct values",
				"how often each comes is kept; the result is computed from them when one comes or "
				"goes",
				NULL);
			return distinct_values(compiler, aggregate);
		}
	}
	else
	{
		switch (aggregate->aggfnoid)
		{
			case F_SUM_FLOAT4:
			case F_SUM_FLOAT8:
			case F_AVG_FLOAT4:
			case F_AVG_FLOAT8:
				why = "adding and taking away floating point numbers drifts";
				hint = "cast to numeric to have sums kept instead of computed anew";
				break;
			default:
				why = "its result cannot be told from a change alone";
				break;
		}
	}
	if (!groups_is_storable(aggregate->aggtype))
	{
		plan_refuse(compiler->plan,
					"cast the result to a type that a table can have",
					"the result of %s() cannot be kept in a table",
					get_func_name(aggregate->aggfnoid));
		return NULL;
	}
	explain(compiler, aggregate, "groups that changed are computed anew", why, hint);
	return groups_recompute_expression(compiler, (Expr *) copyObject(aggregate));
}

/*
 * One aggregate gives both the sum and the count of the same integers, so that
 * a costly argument is evaluated once.
 */
void
groups_join_counts_and_sums(GroupCompiler *compiler)
{
	ListCell *lc;

	foreach(lc, compiler->drafts)
	{
		Draft *sum = lfirst(lc);
		Draft *count;
		Aggref *both;

		if (sum->kind != ACC_SUM_INT || sum->count == 0)
			continue;
		count = list_nth(compiler->drafts, sum->count);
		both = groups_make_aggregate(PGOPT_SCHEMA,
									 "count_and_sum",
									 INT8ARRAYOID,
									 argument_of(sum->aggregate),
									 sum->aggregate->aggfilter);
		count->whole = groups_make_element((Expr *) both, INT8OID, 1);
		sum->whole = groups_make_element((Expr *) copyObject(both), INT8OID, 2);
	}
}

/*
 * length() of texts reads them letter by letter, which costs more than all else
 * of a view that takes averages of it.  In UTF-8, every byte but those that
 * continue a letter is one.
 */
Node *
groups_count_letters_fast(Node *node, void *context)
{
	FuncExpr *call = (FuncExpr *) node;

	if (node == NULL || GetDatabaseEncoding() != PG_UTF8)
		return node;
	if (IsA(node, FuncExpr) &&
		(call->funcid == F_TEXTLEN || call->funcid == F_LENGTH_TEXT ||
		 call->funcid == F_CHAR_LENGTH_TEXT || call->funcid == F_CHARACTER_LENGTH_TEXT))
		return (Node *) groups_make_named_call(
			"text_length", (Expr *) groups_count_letters_fast(linitial(call->args), context));
	return expression_tree_mutator(node, groups_count_letters_fast, context);
}
