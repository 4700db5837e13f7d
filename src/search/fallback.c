/*
 * fallback.c
 *		pgopt_search() over a table that has no pgopt_bm25 index.
 *
 * A tsvector column, or an index over to_tsvector(...), takes its place: the
 * same language, ranked by ts_rank, which knows nothing of how rare a word is
 * and reads every matching row.  A notice says so.
 *
 * Memory: the function's context.  Cost: the statement's: all matching rows.
 */
#include "pgopt.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "rewrite/rewriteHandler.h"
#include "tsearch/ts_cache.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"

#include "core.h"
#include "search_function.h"
#include "statement.h"

/* What stands in for the index. */
typedef struct VectorSource
{
	char *vector; /* SQL */
	char *body;   /* SQL of the text for headlines */
	Oid config;
} VectorSource;

/* SQL of all text columns, for a vector whose text is not known. */
static char *
text_columns(TupleDesc descriptor)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "concat_ws(E'\\n'");
	for (int i = 0; i < descriptor->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(descriptor, i);

		if (!attribute->attisdropped &&
			(attribute->atttypid == TEXTOID || attribute->atttypid == VARCHAROID))
			appendStringInfo(
				&sql, ", %s.%s", STATEMENT_ALIAS, quote_identifier(NameStr(attribute->attname)));
	}
	appendStringInfoString(&sql, ", '')");
	return sql.data;
}

/* to_tsvector(config, text) among the expressions of an index? */
static bool
vector_of_index(Relation index, VectorSource *source)
{
	int place = 0;

	for (int column = 1; column <= index->rd_index->indnkeyatts; column++)
	{
		FuncExpr *call;
		List *context;

		if (index->rd_index->indkey.values[column - 1] != 0)
			continue;
		call = list_nth(RelationGetIndexExpressions(index), place++);
		if (!IsA(call, FuncExpr) || call->funcid != F_TO_TSVECTOR_REGCONFIG_TEXT ||
			!IsA(linitial(call->args), Const))
			continue;
		context =
			deparse_context_for(get_rel_name(index->rd_index->indrelid), index->rd_index->indrelid);
		source->vector = statement_column(index, column);
		source->body = deparse_expression(lsecond(call->args), context, false, false);
		source->config = DatumGetObjectId(((Const *) linitial(call->args))->constvalue);
		return true;
	}
	return false;
}

/* The configuration of the first to_tsvector(config, text) in an expression. */
static bool
find_config(Node *node, Oid *config)
{
	if (node == NULL)
		return false;
	if (IsA(node, FuncExpr) && ((FuncExpr *) node)->funcid == F_TO_TSVECTOR_REGCONFIG_TEXT &&
		IsA(linitial(((FuncExpr *) node)->args), Const))
	{
		*config = DatumGetObjectId(((Const *) linitial(((FuncExpr *) node)->args))->constvalue);
		return true;
	}
	return expression_tree_walker(node, find_config, config);
}

/* A tsvector column; generated or not, as asked for: the expression that generates it tells its configuration. */
static bool
vector_of_column(Relation rel, bool generated, VectorSource *source)
{
	TupleDesc descriptor = RelationGetDescr(rel);

	for (int i = 0; i < descriptor->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(descriptor, i);

		if (attribute->attisdropped || attribute->atttypid != TSVECTOROID ||
			(attribute->attgenerated != '\0') != generated)
			continue;
		if (generated && !find_config(build_column_default(rel, i + 1), &source->config))
			continue;
		source->vector =
			psprintf("%s.%s", STATEMENT_ALIAS, quote_identifier(NameStr(attribute->attname)));
		source->body = text_columns(descriptor);
		return true;
	}
	return false;
}

/*
 * What tells its configuration comes first: a generated tsvector column, an
 * index over to_tsvector(config, text), and only then any tsvector column, for
 * which source->config stays as it is.
 */
static bool
find_vector(Oid table, VectorSource *source)
{
	Relation rel = table_open(table, AccessShareLock);
	bool found = vector_of_column(rel, true, source);
	List *indexes = RelationGetIndexList(rel);
	ListCell *lc;

	foreach(lc, indexes)
	{
		Relation index;

		if (found)
			break;
		index = relation_open(lfirst_oid(lc), AccessShareLock);
		found = index->rd_index->indisvalid && RelationGetIndexPredicate(index) == NIL &&
				vector_of_index(index, source);
		relation_close(index, AccessShareLock);
	}
	found = found || vector_of_column(rel, false, source);
	table_close(rel, AccessShareLock);
	return found;
}

/* A lexeme as tsquery reads it, with quotes and backslashes doubled. */
static void
append_lexeme(StringInfo query, const QueryTerm *term)
{
	appendStringInfoChar(query, '\'');
	for (int i = 0; i < term->length; i++)
	{
		if (term->term[i] == '\'' || term->term[i] == '\\')
			appendStringInfoChar(query, term->term[i]);
		appendStringInfoChar(query, term->term[i]);
	}
	appendStringInfoChar(query, '\'');
}

/* One clause: a lexeme, or lexemes at their distances. */
static void
append_clause(StringInfo tsquery, const SearchQuery *query, const QueryClause *clause)
{
	appendStringInfoChar(tsquery, '(');
	for (int i = 0; i < clause->nterms; i++)
	{
		if (i > 0)
			appendStringInfo(tsquery, " <%u> ", clause->places[i] - clause->places[i - 1]);
		append_lexeme(tsquery, &query->terms[clause->terms[i]]);
	}
	appendStringInfoChar(tsquery, ')');
}

/* The search as a tsquery: all of +, else any without a sign, and none of -. */
static char *
tsquery_text(const SearchQuery *query)
{
	StringInfoData tsquery;
	ClauseSign wanted = CLAUSE_SHOULD;
	bool first = true;

	for (int i = 0; i < query->nclauses; i++)
		if (query->clauses[i].sign == CLAUSE_MUST)
			wanted = CLAUSE_MUST;

	initStringInfo(&tsquery);
	appendStringInfoChar(&tsquery, '(');
	for (int i = 0; i < query->nclauses; i++)
	{
		if (query->clauses[i].sign != wanted)
			continue;
		appendStringInfoString(&tsquery, first ? "" : wanted == CLAUSE_MUST ? " & " : " | ");
		append_clause(&tsquery, query, &query->clauses[i]);
		first = false;
	}
	appendStringInfoChar(&tsquery, ')');
	for (int i = 0; i < query->nclauses; i++)
		if (query->clauses[i].sign == CLAUSE_MUST_NOT)
		{
			appendStringInfoString(&tsquery, " & !");
			append_clause(&tsquery, query, &query->clauses[i]);
		}
	return tsquery.data;
}

void
search_without_index(ReturnSetInfo *rsinfo, const SearchArguments *arguments)
{
	VectorSource source;
	Analyzer *analyzer;
	SearchQuery *query;
	char *tsquery;
	char *sql;
	PgoptSpi spi;
	const char *table = get_rel_name(arguments->table);

	source.config = getTSCurrentConfig(true);
	pgopt_spi_begin_as_caller(&spi); /* pins search_path: names in the statement are qualified */
	if (!find_vector(arguments->table, &source))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has neither a pgopt_bm25 index nor a tsvector", table),
				 errhint("CREATE INDEX ON %s USING pgopt_bm25 (text columns).",
						 statement_table(arguments->table))));

	analyzer = analyzer_create(source.config, NULL, CurrentMemoryContext);
	query = search_query_parse(analyzer, arguments->words, arguments->length, NULL, 0, 0);
	if (search_nothing_to_find(query, true, arguments->words))
	{
		pgopt_spi_end(&spi);
		return;
	}
	ereport(
		NOTICE,
		(errmsg(
			 "table \"%s\" has no pgopt_bm25 index: every matching row is read, and ranked by ts_rank",
			 table),
		 errhint("CREATE INDEX ON %s USING pgopt_bm25 (text columns) makes this search faster, and "
				 "its order better.",
				 statement_table(arguments->table))));

	tsquery = tsquery_text(query);
	tsquery = statement_literal(tsquery, strlen(tsquery));
	sql = psprintf(
		"SELECT " STATEMENT_ALIAS ".tableoid::regclass, " STATEMENT_ALIAS ".ctid, %s, "
		"ts_rank(%s, %s::tsquery) AS score, %s FROM %s " STATEMENT_ALIAS
		" WHERE %s @@ %s::tsquery%s ORDER BY score DESC, " STATEMENT_ALIAS
		".ctid LIMIT " INT64_FORMAT " OFFSET " INT64_FORMAT,
		search_key_expression(arguments->table),
		source.vector,
		tsquery,
		arguments->headlines ? source.body : "NULL::text",
		statement_table(arguments->table),
		source.vector,
		tsquery,
		statement_conditions(statement_parse_filters(NULL, arguments->table, arguments->filters)),
		arguments->limit,
		arguments->skip);

	(void) pgopt_spi_execute(sql, 0, NULL, NULL, NULL, true, SPI_OK_SELECT);
	search_return_rows(
		rsinfo, analyzer, query, &headline_defaults, arguments->words, arguments->skip);
	pgopt_spi_end(&spi);
}
