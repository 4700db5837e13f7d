/*
 * statement.c
 *		The SQL that the functions of search run.
 *
 * Everything that comes from a user is quoted; names are qualified, and the
 * statements run with search_path pinned.  Memory: the current context.
 */
#include "pgopt.h"

#include "access/genam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
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
	return psprintf("(%s)",
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
		char *operator = get_opname(((OpExpr *) expression)->opno);

		if (operator != NULL && strcmp(operator, "->>") == 0 && key->consttype == TEXTOID &&
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

/* A scalar of JSON as an untyped literal of SQL: the column's operator gives it its type. */
static char *
scalar_literal(const JsonbValue *value, const char *key)
{
	switch (value->type)
	{
		case jbvString:
			return statement_literal(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return psprintf(
				"'%s'",
				DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric))));
		case jbvBool:
			return pstrdup(value->val.boolean ? "'true'" : "'false'");
		default:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the filter on \"%s\" has a value that is no string, number or boolean", key),
					 errhint("Use {\"column\": value}, {\"column\": [values]}, {\"column\": null} or "
							 "{\"column\": {\"gte\": value, \"lt\": value}}.")));
	}
	return NULL;
}

static const char *
range_operator(const JsonbValue *name, const char *key)
{
	static const char *const names[][2] = {
		{"gte", ">="}, {"gt", ">"}, {"lte", "<="}, {"lt", "<"}};

	for (int i = 0; i < lengthof(names); i++)
		if (name->val.string.len == strlen(names[i][0]) &&
			memcmp(name->val.string.val, names[i][0], name->val.string.len) == 0)
			return names[i][1];
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the filter on \"%s\" has an unknown comparison \"%s\"",
					key,
					pnstrdup(name->val.string.val, name->val.string.len)),
			 errhint("The comparisons are gte, gt, lte and lt.")));
	return NULL;
}

/* One filter, as conditions on a column of that type. */
static void
append_filter(StringInfo sql, const char *column, const char *type, const char *key, JsonbValue *value)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue part;

	if (value->type == jbvNull)
	{
		appendStringInfo(sql, " AND %s IS NULL", column);
		return;
	}
	if (value->type != jbvBinary)
	{
		appendStringInfo(sql, " AND %s = %s::%s", column, scalar_literal(value, key), type);
		return;
	}

	it = JsonbIteratorInit(value->val.binary.data);
	token = JsonbIteratorNext(&it, &part, true);
	if (token == WJB_BEGIN_ARRAY)
	{
		bool first = true;

		/* NULL among the values matches nothing, as in SQL's IN. */
		appendStringInfo(sql, " AND %s = ANY (ARRAY[", column);
		while ((token = JsonbIteratorNext(&it, &part, true)) == WJB_ELEM)
		{
			appendStringInfo(sql,
							 "%s%s",
							 first ? "" : ", ",
							 part.type == jbvNull ? "NULL" : scalar_literal(&part, key));
			first = false;
		}
		appendStringInfo(sql, "]::%s[])", type);
		return;
	}

	while ((token = JsonbIteratorNext(&it, &part, true)) == WJB_KEY)
	{
		const char *operator = range_operator(&part, key);

		(void) JsonbIteratorNext(&it, &part, true);
		appendStringInfo(
			sql, " AND %s %s %s::%s", column, operator, scalar_literal(&part, key), type);
	}
}

char *
statement_filters(Relation index, Oid table, Jsonb *filters)
{
	StringInfoData sql;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue part;

	initStringInfo(&sql);
	if (filters == NULL)
		return sql.data;
	if (!JB_ROOT_IS_OBJECT(filters))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("filters must be a JSON object"),
				 errhint("For example '{\"document_type\": [\"PL\", \"PEC\"], \"state\": \"SP\"}'.")));

	it = JsonbIteratorInit(&filters->root);
	(void) JsonbIteratorNext(&it, &part, true);
	while ((token = JsonbIteratorNext(&it, &part, true)) == WJB_KEY)
	{
		char *key = pnstrdup(part.val.string.val, part.val.string.len);
		int column = index == NULL ? 0 : statement_find_column(index, key);
		char *expression;
		Oid type;

		if (column != 0)
		{
			expression = statement_column(index, column);
			type = TupleDescAttr(RelationGetDescr(index), column - 1)->atttypid;
		}
		else
		{
			AttrNumber attno = get_attnum(table, key);

			if (attno <= 0)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("there is no column \"%s\" to filter by", key),
						 index == NULL
							 ? 0
							 : errhint("Filter columns of the index \"%s\": %s. Other columns of the table "
									   "can be used too.",
									   RelationGetRelationName(index),
									   filter_names(index))));
			expression = psprintf("%s.%s", STATEMENT_ALIAS, quote_identifier(key));
			type = get_atttype(table, attno);
		}
		(void) JsonbIteratorNext(&it, &part, true);
		append_filter(&sql, expression, format_type_be_qualified(type), key, &part);
	}
	return sql.data;
}

List *
statement_leaves(Oid index)
{
	List *all = find_all_inheritors(index, AccessShareLock, NULL);
	List *leaves = NIL;
	ListCell *lc;

	foreach (lc, all)
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_INDEX)
			leaves = lappend_oid(leaves, lfirst_oid(lc));
	return leaves;
}
