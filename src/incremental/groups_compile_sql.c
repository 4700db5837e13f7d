/*
 * groups_compile_sql.c
 *		The statements of a view that groups: query trees, written out by the
 *		server itself under the search_path that plan_compile() has set.
 *
 * Memory: all in the plan's context.  Cost: linear in the definition.
 */
#include "pgopt.h"

#include "catalog/namespace.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_func.h"
#include "parser/parse_oper.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"

#include "compat.h"
#include "groups_compile.h"

/* --- expressions --------------------------------------------------------------- */

ColumnType
groups_type_of(Expr *expression)
{
	ColumnType column;

	column.type = exprType((Node *) expression);
	column.typmod = exprTypmod((Node *) expression);
	column.collation = exprCollation((Node *) expression);
	return column;
}

/* An aggregate of one argument, or of all rows (NULL), and a filter (or NULL). */
Aggref *
groups_make_aggregate(const char *schema, const char *name, Oid result, Expr *argument,
					  Expr *filter)
{
	Aggref *aggregate = makeNode(Aggref);
	List *names = list_make2(makeString(pstrdup(schema)), makeString(pstrdup(name)));
	Oid polymorphic[] = {ANYELEMENTOID, ANYOID};
	Oid type;

	aggregate->aggtype = result;
	aggregate->aggkind = AGGKIND_NORMAL;
	aggregate->aggsplit = AGGSPLIT_SIMPLE;
	aggregate->aggno = -1;
	aggregate->aggtransno = -1;
	aggregate->location = -1;
	aggregate->aggfilter = copyObject(filter);
	if (argument == NULL)
	{
		aggregate->aggstar = true;
		aggregate->aggfnoid = LookupFuncName(names, 0, NULL, false);
		return aggregate;
	}

	type = exprType((Node *) argument);
	aggregate->args = list_make1(makeTargetEntry(copyObject(argument), 1, NULL, false));
	aggregate->aggargtypes = list_make1_oid(type);
	aggregate->inputcollid = exprCollation((Node *) argument);
	if (OidIsValid(get_typcollation(result)))
		aggregate->aggcollid = aggregate->inputcollid;
	aggregate->aggfnoid = LookupFuncName(names, 1, &type, true);
	for (int i = 0; i < lengthof(polymorphic) && !OidIsValid(aggregate->aggfnoid); i++)
		aggregate->aggfnoid = LookupFuncName(names, 1, &polymorphic[i], true);
	if (!OidIsValid(aggregate->aggfnoid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("aggregate %s.%s(%s) does not exist", schema, name, format_type_be(type)),
				 errhint("CREATE EXTENSION pgopt makes those of pgopt.")));
	return aggregate;
}

/* A function of this extension's, of one argument. */
Expr *
groups_make_named_call(const char *name, Expr *argument)
{
	Oid type = exprType((Node *) argument);
	Oid function = LookupFuncName(
		list_make2(makeString(PGOPT_SCHEMA), makeString(pstrdup(name))), 1, &type, false);

	return groups_make_call(function, get_func_rettype(function), list_make1(argument));
}

Expr *
groups_make_call(Oid function, Oid result, List *arguments)
{
	return (Expr *) makeFuncExpr(
		function, result, arguments, InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
}

/* array[index] */
Expr *
groups_make_element(Expr *array, Oid element, int index)
{
	SubscriptingRef *subscript = makeNode(SubscriptingRef);

	subscript->refcontainertype = exprType((Node *) array);
	subscript->refelemtype = element;
	subscript->refrestype = element;
	subscript->reftypmod = -1;
	subscript->refcollid = exprCollation((Node *) array);
	subscript->refupperindexpr =
		list_make1(makeConst(INT4OID, -1, InvalidOid, 4, Int32GetDatum(index), false, true));
	subscript->refexpr = array;
	return (Expr *) subscript;
}

Expr *
groups_make_coalesce(Expr *expression, Const *otherwise)
{
	CoalesceExpr *coalesce = makeNode(CoalesceExpr);

	coalesce->coalescetype = exprType((Node *) expression);
	coalesce->coalescecollid = exprCollation((Node *) expression);
	coalesce->args = list_make2(expression, otherwise);
	coalesce->location = -1;
	return (Expr *) coalesce;
}

Const *
groups_make_bigint(int64 value)
{
	return makeConst(
		INT8OID, -1, InvalidOid, sizeof(int64), Int64GetDatum(value), false, FLOAT8PASSBYVAL);
}

Const *
groups_make_null(ColumnType type)
{
	return makeNullConst(type.type, type.typmod, type.collation);
}

/* CASE WHEN condition THEN result END */
Expr *
groups_make_when(Expr *condition, Expr *result)
{
	CaseExpr *expression = makeNode(CaseExpr);
	CaseWhen *when = makeNode(CaseWhen);

	when->expr = condition;
	when->result = result;
	when->location = -1;
	expression->casetype = exprType((Node *) result);
	expression->casecollid = exprCollation((Node *) result);
	expression->args = list_make1(when);
	expression->defresult = (Expr *) groups_make_null(groups_type_of(result));
	expression->location = -1;
	return (Expr *) expression;
}

/*
 * The expression as a user would write it.  The server writes names of several
 * tables' columns only within a query; of that, all but the expression is cut
 * off again.
 */
char *
groups_expression_text(Query *query, Expr *expression)
{
	static const char start[] = " SELECT true";
	Query *copy = copyObject(query);
	TargetEntry *entry = makeTargetEntry((Expr *) makeBoolConst(true, false), 1, NULL, false);
	char *rest;
	char *text;

	copy->targetList = list_make1(entry);
	copy->groupClause = NIL;
	copy->distinctClause = NIL;
	copy->sortClause = NIL;
	copy->havingQual = NULL;
	rest = pg_get_querydef(copyObject(copy), false);
	if (strncmp(rest, start, strlen(start)) != 0)
		elog(ERROR, "unexpected text of a query: %s", rest);
	rest += strlen(start);

	entry->expr = expression;
	text = pg_get_querydef(copy, false);
	if (strlen(text) < strlen(rest))
		elog(ERROR, "unexpected text of a query: %s", text);
	text[strlen(text) - strlen(rest)] = '\0';
	return text + strlen(" SELECT ");
}

/* --- queries --------------------------------------------------------------------- */

static char *
numbered(const char *letter, int number)
{
	return psprintf("%s%d", letter, number);
}

/* A SELECT over a table that statements find by its name when they run: g, k or p. */
static Query *
select_from_named(const char *name, List *column_names)
{
	Query *query = makeNode(Query);
	RangeTblEntry *entry = makeNode(RangeTblEntry);
	RangeTblRef *reference = makeNode(RangeTblRef);

	/* what is written the same, and can be written: WITH's names come first, too */
	entry->rtekind = RTE_CTE;
	entry->ctename = pstrdup(name);
	entry->eref = makeAlias(name, column_names);
	entry->inFromCl = true;
	reference->rtindex = 1;
	query->commandType = CMD_SELECT;
	query->canSetTag = true;
	query->rtable = list_make1(entry);
	query->jointree = makeFromExpr(list_make1(reference), NULL);
	return query;
}

static void
add_output(Query *query, Expr *expression, char *name)
{
	query->targetList =
		lappend(query->targetList,
				makeTargetEntry(expression, list_length(query->targetList) + 1, name, false));
}

static void
group_by(Query *query, TargetEntry *entry, SortGroupClause *like)
{
	SortGroupClause *clause;

	if (like != NULL)
		clause = copyObject(like);
	else
	{
		clause = makeNode(SortGroupClause);
		get_sort_group_operators(exprType((Node *) entry->expr),
								 false,
								 true,
								 false,
								 &clause->sortop,
								 &clause->eqop,
								 NULL,
								 &clause->hashable);
	}
	entry->ressortgroupref = list_length(query->groupClause) + 1;
	clause->tleSortGroupRef = entry->ressortgroupref;
	query->groupClause = lappend(query->groupClause, clause);
}

/* The user's FROM and WHERE alone. */
static Query *
bare_query(const Query *source)
{
	Query *query = copyObject((Query *) source);

	query->targetList = NIL;
	query->groupClause = NIL;
	query->groupDistinct = false;
	query->distinctClause = NIL;
	query->sortClause = NIL;
	query->havingQual = NULL;
	query->hasAggs = true;
	return query;
}

/* SELECT k1, ..., and the outputs to come, of each group. */
static Query *
grouped_query(GroupCompiler *compiler)
{
	Query *query = bare_query(compiler->query);
	ListCell *key;
	ListCell *clause;
	int number = 0;

	forboth(key, compiler->keys, clause, compiler->key_clauses)
	{
		add_output(query, copyObject(lfirst(key)), numbered("k", ++number));
		group_by(query, llast(query->targetList), lfirst(clause));
	}
	return query;
}

static char *
write_full_sql(GroupCompiler *compiler, GroupSpec *spec)
{
	Query *query = grouped_query(compiler);
	ListCell *lc;
	int number = 0;

	if (spec->full_distinct >= 0)
	{
		Draft *draft = list_nth(compiler->drafts, spec->full_distinct);

		add_output(query, copyObject(draft->input), "v");
		group_by(query, llast(query->targetList), NULL);
	}
	foreach(lc, compiler->drafts)
	{
		Draft *draft = lfirst(lc);

		add_output(query,
				   draft->kind == ACC_DISTINCT ? (Expr *) groups_make_null(draft->column)
											   : copyObject(draft->whole),
				   numbered("a", ++number));
	}
	return pg_get_querydef(query, false);
}

static char *
write_values_sql(GroupCompiler *compiler, Draft *draft)
{
	Query *query = grouped_query(compiler);

	add_output(query, copyObject(draft->input), "v");
	group_by(query, llast(query->targetList), NULL);
	add_output(
		query, (Expr *) groups_make_aggregate("pg_catalog", "count", INT8OID, NULL, NULL), "count");
	return pg_get_querydef(query, false);
}

/* SELECT id, result FROM p GROUP BY id */
static char *
write_distinct_sql(Draft *draft)
{
	Query *query = select_from_named("p", list_make2(makeString("id"), makeString("v")));
	Aggref *aggregate = copyObject(draft->aggregate);
	TargetEntry *argument = linitial(aggregate->args);
	ColumnType value = groups_type_of(draft->input);

	argument->expr = (Expr *) makeVar(1, 2, value.type, value.typmod, value.collation, 0);
	add_output(query, (Expr *) makeVar(1, 1, INT8OID, -1, InvalidOid, 0), "id");
	group_by(query, llast(query->targetList), NULL);
	add_output(query, (Expr *) aggregate, "result");
	query->hasAggs = true;
	return pg_get_querydef(query, false);
}

/* The columns n, k1, ..., a1, ... of the table g. */
static List *
state_column_names(const GroupSpec *spec)
{
	List *names = list_make1(makeString("n"));

	for (int i = 1; i <= spec->nkeys; i++)
		names = lappend(names, makeString(numbered("k", i)));
	for (int i = 1; i <= spec->naccumulators; i++)
		names = lappend(names, makeString(numbered("a", i)));
	return names;
}

static char *
write_final_sql(const GroupSpec *spec, Expr *having, List *view_columns)
{
	Query *query = select_from_named("g", state_column_names(spec));
	ListCell *lc;

	add_output(query, (Expr *) makeVar(1, 1, INT8OID, -1, InvalidOid, 0), "n");
	foreach(lc, view_columns)
	{
		TargetEntry *entry = lfirst(lc);

		add_output(query, entry->expr, entry->resname);
	}
	query->jointree->quals = (Node *) having;
	return pg_get_querydef(query, false);
}

void
groups_write_sql(GroupCompiler *compiler, GroupSpec *spec, Expr *having, List *view_columns)
{
	ListCell *lc;
	int index = 0;

	spec->full_sql = write_full_sql(compiler, spec);
	spec->final_sql = write_final_sql(spec, having, view_columns);
	spec->values_sql = palloc0(Max(spec->naccumulators, 1) * sizeof(char *));
	foreach(lc, compiler->drafts)
	{
		Draft *draft = lfirst(lc);

		if (draft->kind == ACC_DISTINCT)
		{
			spec->accumulators[index].distinct_sql = write_distinct_sql(draft);
			if (index != spec->full_distinct)
				spec->values_sql[index] = write_values_sql(compiler, draft);
		}
		index++;
	}
}

/* key = k.kN, or key IS NULL */
static Expr *
same_key(Expr *key, Index table, AttrNumber attnum, bool is_null)
{
	ColumnType type = groups_type_of(key);
	Oid operator;
	Var *other;

	if (is_null)
	{
		NullTest *test = makeNode(NullTest);

		test->arg = copyObject(key);
		test->nulltesttype = IS_NULL;
		test->argisrow = false;
		test->location = -1;
		return (Expr *) test;
	}
	other = makeVar(table, attnum, type.type, type.typmod, type.collation, 0);
	get_sort_group_operators(type.type, false, true, false, NULL, &operator, NULL, NULL);
	return make_opclause(
		operator, BOOLOID, false, copyObject(key), (Expr *) other, InvalidOid, type.collation);
}

/*
 * A view without GROUP BY has its one row even over nothing, which a group of
 * k's numbers would not have.
 */
static Query *
number_only_group(Query *grouped)
{
	Query *query = select_from_named("k", list_make1(makeString("n")));
	RangeTblEntry *entry = makeNode(RangeTblEntry);
	RangeTblRef *reference = makeNode(RangeTblRef);
	List *names = NIL;
	ListCell *lc;

	add_output(query, (Expr *) makeVar(1, 1, INT8OID, -1, InvalidOid, 0), "n");
	foreach(lc, grouped->targetList)
	{
		TargetEntry *column = lfirst(lc);
		ColumnType type = groups_type_of(column->expr);

		names = lappend(names, makeString(column->resname));
		add_output(query,
				   (Expr *) makeVar(2, column->resno, type.type, type.typmod, type.collation, 0),
				   column->resname);
	}
	entry->rtekind = RTE_SUBQUERY;
	entry->subquery = grouped;
	entry->alias = makeAlias("s", NIL);
	entry->eref = makeAlias("s", names);
	entry->inFromCl = true;
	reference->rtindex = 2;
	query->rtable = lappend(query->rtable, entry);
	query->jointree->fromlist = lappend(query->jointree->fromlist, reference);
	return query;
}

/* Makes a query of all groups one of those in k. */
static void
join_named_groups(Query *query, const GroupSpec *spec, const Bitmapset *nulls)
{
	List *names = list_make1(makeString("n"));
	RangeTblRef *reference = makeNode(RangeTblRef);
	List *conditions = NIL;
	ListCell *lc;
	int number = 0;

	for (int i = 1; i <= spec->nkeys; i++)
		names = lappend(names, makeString(numbered("k", i)));
	query->rtable = lappend(query->rtable, linitial(select_from_named("k", names)->rtable));
	reference->rtindex = list_length(query->rtable);
	query->jointree->fromlist = lappend(query->jointree->fromlist, reference);

	add_output(query, (Expr *) makeVar(reference->rtindex, 1, INT8OID, -1, InvalidOid, 0), "n");
	group_by(query, llast(query->targetList), NULL);
	foreach(lc, spec->source_keys)
	{
		bool is_null = bms_is_member(number, nulls);
		TargetEntry *entry;

		number++;
		conditions =
			lappend(conditions, same_key(lfirst(lc), reference->rtindex, number + 1, is_null));
		/* a key may be shown: then it must be grouped by, too */
		entry = makeTargetEntry(copyObject(lfirst(lc)), number + 1, NULL, true);
		query->targetList = lappend(query->targetList, entry);
		group_by(query, entry, NULL);
	}
	if (query->jointree->quals != NULL)
		conditions = lcons(query->jointree->quals, conditions);
	query->jointree->quals = (Node *) make_ands_explicit(conditions);
}

char *
groups_recompute_sql(const GroupSpec *spec, const Bitmapset *nulls)
{
	Query *query = bare_query(spec->source);
	ListCell *lc;
	int number = 0;
	int nest_level;
	char *sql;

	if (!spec->is_global)
		join_named_groups(query, spec, nulls);
	foreach(lc, spec->source_accumulators)
		add_output(query, copyObject(lfirst(lc)), numbered("a", ++number));
	if (spec->is_global)
		query = number_only_group(query);

	nest_level = plan_pin_deparsing();
	sql = pg_get_querydef(query, false);
	AtEOXact_GUC(true, nest_level);
	return sql;
}
