/*
 * statement.c
 *		The SQL that the functions of search run.
 *
 * Everything that comes from a user is quoted; names are qualified, and the
 * statements run with search_path pinned.  Memory: the current context.
 */
#include "pgopt.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"

#include "handler.h"
#include "search.h"
#include "settings.h"
#include "statement.h"

/* --- names ------------------------------------------------------------------------- */

char *
statement_column(Relation index, int column)
{
	AttrNumber attno = index->rd_index->indkey.values[column - 1];

	if (attno != 0)
		return psprintf("%s.%s",
						STATEMENT_ALIAS,
						quote_identifier(get_attname(index->rd_index->indrelid, attno, false)));
	return psprintf(
		"(%s)",
		TextDatumGetCString(DirectFunctionCall3(pg_get_indexdef_ext,
												ObjectIdGetDatum(RelationGetRelid(index)),
												Int32GetDatum(column),
												BoolGetDatum(false))));
}

/* The expression of an index column. */
static Node *
column_expression(Relation index, int column)
{
	int place = 0;

	for (int before = 0; before < column - 1; before++)
		if (index->rd_index->indkey.values[before] == 0)
			place++;
	return list_nth(RelationGetIndexExpressions(index), place);
}

char *
statement_column_name(Relation index, int column)
{
	AttrNumber attno = index->rd_index->indkey.values[column - 1];
	Node *expression;

	if (attno != 0)
		return get_attname(index->rd_index->indrelid, attno, false);

	/* document ->> 'key', for json and jsonb */
	expression = column_expression(index, column);
	if (IsA(expression, OpExpr) && list_length(((OpExpr *) expression)->args) == 2 &&
		IsA(lsecond(((OpExpr *) expression)->args), Const))
	{
		Const *key = lsecond(((OpExpr *) expression)->args);
		char *operator= get_opname(((OpExpr *) expression)->opno);

		if (operator!= NULL && strcmp(operator, "->>") == 0 && key->consttype == TEXTOID &&
			!key->constisnull)
			return TextDatumGetCString(key->constvalue);
	}
	return statement_column(index, column);
}

int
statement_find_column(Relation index, const char *name)
{
	for (int column = 1; column <= index->rd_index->indnkeyatts; column++)
	{
		char *own = statement_column_name(index, column);
		char *expression = statement_column(index, column);
		int length = strlen(expression);

		if (strcmp(own, name) == 0 || strcmp(expression, name) == 0 ||
			(expression[0] == '(' && (int) strlen(name) == length - 2 &&
			 strncmp(expression + 1, name, length - 2) == 0))
			return column;
	}
	return 0;
}

char *
statement_table(Oid table)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(table)),
									  get_rel_name(table));
}

char *
statement_operator(const char *name)
{
	return psprintf("OPERATOR(%s.%s)", quote_identifier(get_namespace_name(search_schema())), name);
}

char *
statement_literal(const char *text, int length)
{
	return quote_literal_cstr(pnstrdup(text, length));
}

/* --- filters ------------------------------------------------------------------------- */

/* "a, b and c": the filter columns that an index has, for hints. */
static char *
filter_names(Relation index)
{
	const SearchSettings *settings = search_settings(index);
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < settings->nfilters; i++)
		appendStringInfo(&names,
						 "%s\"%s\"",
						 i == 0 ? "" : ", ",
						 statement_column_name(index, settings->filters[i].attno));
	return names.data;
}

/* A scalar of JSON as the column's type reads it; NULL for null. */
static char *
scalar_text(const JsonbValue *value, const char *key)
{
	switch (value->type)
	{
		case jbvNull:
			return NULL;
		case jbvString:
			return pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return DatumGetCString(
				DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		default:
			ereport(
				ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the filter on \"%s\" has a value that is no string, number or boolean",
						key),
				 errhint("Use {\"column\": value}, {\"column\": [values]}, {\"column\": null} or "
						 "{\"column\": {\"gte\": value, \"lt\": value}}.")));
	}
	return NULL;
}

/* By btree's strategy numbers. */
static const char *const operator_names[] = {NULL, "<", "<=", "=", ">=", ">"};

static StrategyNumber
range_strategy(const JsonbValue *name, const char *key)
{
	static const char *const names[] = {NULL, "lt", "lte", NULL, "gte", "gt"};

	for (int i = 1; i < lengthof(names); i++)
		if (names[i] != NULL && name->val.string.len == strlen(names[i]) &&
			memcmp(name->val.string.val, names[i], name->val.string.len) == 0)
			return i;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the filter on \"%s\" has an unknown comparison \"%s\"",
					key,
					pnstrdup(name->val.string.val, name->val.string.len)),
			 errhint("The comparisons are gte, gt, lte and lt; null takes true or false.")));
	return InvalidStrategy;
}

static FilterCondition *
add_condition(List **conditions, const FilterCondition *column, FilterKind kind,
			  StrategyNumber strategy, List *values)
{
	FilterCondition *condition = palloc(sizeof(FilterCondition));
	Oid input;
	Oid parameter;
	ListCell *lc;

	/* What is no value of the type is an error here, not within a statement that the user did not write. */
	getTypeInputInfo(column->type, &input, &parameter);
	foreach(lc, values)
		if (lfirst(lc) != NULL)
			(void) OidInputFunctionCall(input, lfirst(lc), parameter, -1);

	*condition = *column;
	condition->kind = kind;
	condition->strategy = strategy;
	condition->values = values;
	*conditions = lappend(*conditions, condition);
	return condition;
}

/* The conditions on one column. */
static void
parse_filter(List **conditions, const FilterCondition *column, const char *key, JsonbValue *value)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue part;

	if (value->type == jbvNull)
	{
		add_condition(conditions, column, FILTER_NULL, InvalidStrategy, NIL);
		return;
	}
	if (value->type != jbvBinary)
	{
		add_condition(conditions,
					  column,
					  FILTER_COMPARE,
					  BTEqualStrategyNumber,
					  list_make1(scalar_text(value, key)));
		return;
	}

	it = JsonbIteratorInit(value->val.binary.data);
	token = JsonbIteratorNext(&it, &part, true);
	if (token == WJB_BEGIN_ARRAY)
	{
		List *values = NIL;

		while ((token = JsonbIteratorNext(&it, &part, true)) == WJB_ELEM)
			values = lappend(values, scalar_text(&part, key));
		add_condition(conditions, column, FILTER_ANY, BTEqualStrategyNumber, values);
		return;
	}
	while ((token = JsonbIteratorNext(&it, &part, true)) == WJB_KEY)
	{
		bool null = part.val.string.len == 4 && memcmp(part.val.string.val, "null", 4) == 0;
		StrategyNumber strategy = null ? InvalidStrategy : range_strategy(&part, key);

		(void) JsonbIteratorNext(&it, &part, true);
		if (null)
		{
			if (part.type != jbvBool)
				ereport(
					ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the filter on \"%s\" has a \"null\" that is neither true nor false",
							key)));
			add_condition(conditions,
						  column,
						  part.val.boolean ? FILTER_NULL : FILTER_NOT_NULL,
						  InvalidStrategy,
						  NIL);
			continue;
		}
		add_condition(
			conditions, column, FILTER_COMPARE, strategy, list_make1(scalar_text(&part, key)));
	}
}

List *
statement_parse_filters(Relation index, Oid table, Jsonb *filters)
{
	List *conditions = NIL;
	JsonbIterator *it;
	JsonbValue part;

	if (filters == NULL)
		return NIL;
	if (!JB_ROOT_IS_OBJECT(filters))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("filters must be a JSON object"),
			 errhint("For example '{\"document_type\": [\"PL\", \"PEC\"], \"state\": \"SP\"}'.")));

	it = JsonbIteratorInit(&filters->root);
	(void) JsonbIteratorNext(&it, &part, true);
	while (JsonbIteratorNext(&it, &part, true) == WJB_KEY)
	{
		FilterCondition column = {0};
		char *key = pnstrdup(part.val.string.val, part.val.string.len);

		statement_resolve_column(index, table, key, &column);
		(void) JsonbIteratorNext(&it, &part, true);
		parse_filter(&conditions, &column, key, &part);
	}
	return conditions;
}

/* An expression of that name in any index of the table: what the table itself has no column for. */
static bool
find_expression(Oid table, const char *name, FilterCondition *column)
{
	Relation rel = table_open(table, AccessShareLock);
	List *indexes = RelationGetIndexList(rel);
	ListCell *lc;
	bool found = false;

	foreach(lc, indexes)
	{
		Relation index = relation_open(lfirst_oid(lc), AccessShareLock);
		int number = found ? 0 : statement_find_column(index, name);

		if (number != 0)
		{
			column->expression = statement_column(index, number);
			column->type = TupleDescAttr(RelationGetDescr(index), number - 1)->atttypid;
			found = true;
		}
		relation_close(index, AccessShareLock);
	}
	table_close(rel, AccessShareLock);
	return found;
}

void
statement_resolve_column(Relation index, Oid table, const char *name, FilterCondition *column)
{
	AttrNumber attno;

	column->column = index == NULL ? 0 : statement_find_column(index, name);
	if (column->column != 0)
	{
		column->expression = statement_column(index, column->column);
		column->type = TupleDescAttr(RelationGetDescr(index), column->column - 1)->atttypid;
		return;
	}
	attno = get_attnum(table, name);
	if (attno <= 0 && find_expression(table, name, column))
		return;
	if (attno <= 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("there is no column \"%s\" to filter or count by", name),
			 index == NULL
				 ? 0
				 : errhint(
					   "Filter columns of the index \"%s\": %s. Other columns of the table can be "
					   "used too.",
					   RelationGetRelationName(index),
					   filter_names(index))));
	column->expression = psprintf("%s.%s", STATEMENT_ALIAS, quote_identifier(name));
	column->type = get_atttype(table, attno);
}

/* 'value'::type, or NULL::type */
static void
append_value(StringInfo sql, const char *value, const char *type)
{
	appendStringInfo(sql, "%s::%s", value == NULL ? "NULL" : quote_literal_cstr(value), type);
}

char *
statement_conditions(List *conditions)
{
	StringInfoData sql;
	ListCell *lc;

	initStringInfo(&sql);
	foreach(lc, conditions)
	{
		FilterCondition *condition = lfirst(lc);
		char *type = format_type_be_qualified(condition->type);
		ListCell *value;

		appendStringInfo(&sql, " AND %s ", condition->expression);
		switch (condition->kind)
		{
			case FILTER_NULL:
				appendStringInfoString(&sql, "IS NULL");
				break;
			case FILTER_NOT_NULL:
				appendStringInfoString(&sql, "IS NOT NULL");
				break;
			case FILTER_COMPARE:
				appendStringInfo(&sql, "%s ", operator_names[condition->strategy]);
				append_value(&sql, linitial(condition->values), type);
				break;
			case FILTER_ANY:
				appendStringInfoString(&sql, "= ANY (ARRAY[");
				foreach(value, condition->values)
				{
					append_value(&sql, lfirst(value), type);
					if (lnext(condition->values, value) != NULL)
						appendStringInfoString(&sql, ", ");
				}
				appendStringInfo(&sql, "]::%s[])", type);
				break;
		}
	}
	return sql.data;
}

int
statement_filter_number(Relation index, int column)
{
	const SearchSettings *settings = search_settings(index);

	for (int i = 0; i < settings->nfilters; i++)
		if (settings->filters[i].attno == column)
			return i;
	return -1;
}

/* One key, with its value or values read by the type's input function. */
static void
make_scan_key(Relation index, const FilterCondition *condition, ScanKey key)
{
	int column = condition->column;
	Oid declared = index->rd_opcintype[column - 1];
	Oid operator;
	Oid input;
	Oid parameter;
	int n = list_length(condition->values);
	Datum *values = palloc(Max(n, 1) * sizeof(Datum));
	bool *nulls = palloc(Max(n, 1) * sizeof(bool));
	int flags = 0;
	Datum argument = (Datum) 0;
	ListCell *lc;

	if (condition->kind == FILTER_NULL || condition->kind == FILTER_NOT_NULL)
	{
		ScanKeyEntryInitialize(
			key,
			SK_ISNULL | (condition->kind == FILTER_NULL ? SK_SEARCHNULL : SK_SEARCHNOTNULL),
			column,
			InvalidStrategy,
			InvalidOid,
			InvalidOid,
			InvalidOid,
			(Datum) 0);
		return;
	}

	operator= get_opfamily_member(
		index->rd_opfamily[column - 1], declared, declared, condition->strategy);
	getTypeInputInfo(condition->type, &input, &parameter);
	foreach(lc, condition->values)
	{
		int i = foreach_current_index(lc);

		nulls[i] = lfirst(lc) == NULL;
		values[i] = nulls[i] ? (Datum) 0 : OidInputFunctionCall(input, lfirst(lc), parameter, -1);
	}
	if (condition->kind == FILTER_ANY)
	{
		int16 length;
		bool by_value;
		char align;
		int dims[1] = {n};
		int lower[1] = {1};

		get_typlenbyvalalign(condition->type, &length, &by_value, &align);
		flags = SK_SEARCHARRAY;
		argument = PointerGetDatum(construct_md_array(
			values, nulls, n == 0 ? 0 : 1, dims, lower, condition->type, length, by_value, align));
	}
	else if (nulls[0])
		flags = SK_ISNULL;
	else
		argument = values[0];
	ScanKeyEntryInitialize(key,
						   flags,
						   column,
						   condition->strategy,
						   declared,
						   index->rd_indcollation[column - 1],
						   get_opcode(operator),
						   argument);
}

bool
statement_scan_keys(Relation index, List *conditions, ScanKey *keys, int *nkeys)
{
	ListCell *lc;

	*nkeys = list_length(conditions);
	*keys = palloc(Max(*nkeys, 1) * sizeof(ScanKeyData));
	foreach(lc, conditions)
	{
		FilterCondition *condition = lfirst(lc);

		if (condition->column == 0 || statement_filter_number(index, condition->column) < 0)
			return false;
		make_scan_key(index, condition, &(*keys)[foreach_current_index(lc)]);
	}
	return true;
}

List *
statement_leaves(Oid index)
{
	List *all = find_all_inheritors(index, AccessShareLock, NULL);
	List *leaves = NIL;
	ListCell *lc;

	foreach(lc, all)
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_INDEX)
			leaves = lappend_oid(leaves, lfirst_oid(lc));
	return leaves;
}
