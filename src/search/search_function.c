/*
 * search_function.c
 *		pgopt_search(): corrected, filtered, ranked, with headlines.
 *
 * The search itself is a statement over the table that runs as the caller
 * (statement.h); what is done here is to correct typing errors, to say why
 * there is nothing to find, and to make headlines of the rows that came.
 *
 * Memory: the function's context, freed with it.  Cost: the statement's, one
 * pass over the index's word list where a word is unknown, and the analysis of
 * the rows returned.
 */
#include "pgopt.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"

#include "compile.h"
#include "core.h"
#include "document.h"
#include "headline.h"
#include "pages.h"
#include "pending.h"
#include "plan.h"
#include "scan.h"
#include "search.h"
#include "search_function.h"
#include "statement.h"

PG_FUNCTION_INFO_V1(pgopt_search);

#define MAX_RESULTS 100000

/* --- corrections --------------------------------------------------------------------- */

/* The words of one segment, as correction_scan() takes them. */
static bool
next_segment_word(void *source, const char **word, int *length, uint32 *df)
{
	return word_cursor_next(source, word, length, df);
}

/* Words of the write buffer, sorted, one after the other. */
typedef struct BufferedWords
{
	char **words;
	int n;
	int allocated;
	int next;
} BufferedWords;

static bool
next_buffered_word(void *source, const char **word, int *length, uint32 *df)
{
	BufferedWords *buffered = source;

	if (buffered->next >= buffered->n)
		return false;
	*word = buffered->words[buffered->next];
	*length = strlen(*word);
	*df = 0;
	do
		(*df)++;
	while (++buffered->next < buffered->n && strcmp(buffered->words[buffered->next], *word) == 0);
	return true;
}

static int
compare_words(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* Offers the words of one index to the corrections. What was replaced meanwhile, and all after it, is left out. */
static void
scan_words(Relation index, Correction *corrections, int n)
{
	const SearchSettings *settings = search_settings(index);
	bool stale = false;
	SearchMeta *meta = search_read_meta(index);
	BufferedWords buffered = {0};
	PendingReader *pending;
	PendingDocument document;

	for (uint32 i = 0; i < meta->nsegments && !stale; i++)
	{
		SegmentReader *reader = segment_open(index, settings, &meta->segments[i], &stale);
		WordCursor *cursor;

		if (reader == NULL)
			break;
		cursor = word_cursor_open(reader);
		correction_scan(corrections, n, next_segment_word, cursor);
		word_cursor_close(cursor);
		segment_close(reader);
	}

	pending = pending_open(index, settings, meta, &stale);
	while (pending_next(pending, &document))
	{
		uint32 place = 0;
		const char *word;
		int length;

		while (pending_next_word(&document, &place, &word, &length))
		{
			if (buffered.n == buffered.allocated)
			{
				buffered.allocated = Max(1024, buffered.allocated * 2);
				buffered.words =
					buffered.words == NULL
						? palloc(buffered.allocated * sizeof(char *))
						: repalloc_huge(buffered.words, buffered.allocated * sizeof(char *));
			}
			buffered.words[buffered.n++] = pnstrdup(word, length);
		}
	}
	pending_close(pending);
	qsort(buffered.words, buffered.n, sizeof(char *), compare_words);
	correction_scan(corrections, n, next_buffered_word, &buffered);
}

/* The names of an index's text columns, for column: in searches. */
static const char **
field_names(Relation index)
{
	const SearchSettings *settings = search_settings(index);
	const char **names = palloc(settings->nfields * sizeof(char *));

	for (int i = 0; i < settings->nfields; i++)
		names[i] = statement_column_name(index, settings->fields[i]);
	return names;
}

/*
 * The search with its unknown words corrected; NULL when none is to be or can
 * be.  *known is set when any of the words is in the index.
 */
static char *
corrected_search(Relation index, Oid bound, const CompiledQuery *compiled, const char *words,
				 int length, bool *known)
{
	SearchQuery *query = compiled->query;
	Correction *corrections = palloc(Max(query->nwords, 1) * sizeof(Correction));
	int n = 0;
	ListCell *lc;
	bool found = false;

	*known = false;
	for (int i = 0; i < query->nterms; i++)
		*known = *known || compiled->stats.df[i] > 0;
	for (int i = 0; i < query->nwords; i++)
	{
		const QueryWord *word = &query->words[i];

		if (compiled->stats.df[word->term] > 0)
			continue;
		correction_begin(&corrections[n], word->word, word->length, word->flags);
		if (corrections[n].max_distance > 0)
			n++;
	}
	if (n == 0)
		return NULL;

	foreach(lc, statement_leaves(bound))
	{
		Relation leaf = index_open(lfirst_oid(lc), AccessShareLock);

		scan_words(leaf, corrections, n);
		index_close(leaf, AccessShareLock);
	}
	for (int i = 0; i < n; i++)
		found = found || corrections[i].best_distance < PG_INT32_MAX;
	if (!found)
		return NULL;
	*known = true;
	return search_query_correct(search_analyzer(index),
								words,
								length,
								field_names(index),
								search_settings(index)->nfields,
								corrections,
								n);
}

/* --- the statement ---------------------------------------------------------------------- */

char *
search_key_expression(Oid table)
{
	Relation rel = table_open(table, AccessShareLock);
	Oid primary_key;
	StringInfoData sql;
	char *result = pstrdup("NULL::text");

	(void) RelationGetIndexList(rel); /* fills in rd_pkindex */
	primary_key = rel->rd_pkindex;
	table_close(rel, AccessShareLock);
	if (OidIsValid(primary_key))
	{
		Relation index = index_open(primary_key, AccessShareLock);
		int n = index->rd_index->indnkeyatts;

		initStringInfo(&sql);
		for (int column = 1; column <= n; column++)
			appendStringInfo(
				&sql, "%s%s", column == 1 ? "" : ", ", statement_column(index, column));
		result = n == 1 ? psprintf("%s::text", sql.data) : psprintf("ROW(%s)::text", sql.data);
		index_close(index, AccessShareLock);
	}
	return result;
}

/* SQL for the text that headlines are made of: the columns after the first, or the only one. `declared` is index or its partitioned one. */
static char *
body_expression(Relation index, Relation declared)
{
	const SearchSettings *settings = search_settings(index);
	StringInfoData sql;

	if (settings->nfields == 1)
		return psprintf("%s::text", statement_column(declared, settings->fields[0]));
	initStringInfo(&sql);
	appendStringInfoString(&sql, "concat_ws(E'\\n'");
	for (int i = 1; i < settings->nfields; i++)
		appendStringInfo(&sql, ", %s", statement_column(declared, settings->fields[i]));
	appendStringInfoChar(&sql, ')');
	return sql.data;
}

void
search_return_rows(ReturnSetInfo *rsinfo, Analyzer *analyzer, const SearchQuery *query,
				   const HeadlineOptions *options, const char *searched, int64 skip)
{
	Datum searched_text = CStringGetTextDatum(searched);
	TupleDesc descriptor = SPI_tuptable->tupdesc;
	MemoryContext row_context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt search row", ALLOCSET_DEFAULT_SIZES);

	for (uint64 i = 0; i < SPI_tuptable->numvals; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		MemoryContext old = MemoryContextSwitchTo(row_context);
		Datum values[RESULT_COLUMNS];
		bool nulls[RESULT_COLUMNS] = {false};

		CHECK_FOR_INTERRUPTS();
		values[RESULT_POSITION] = Int32GetDatum((int32) (skip + i + 1));
		values[RESULT_RELATION] = SPI_getbinval(row, descriptor, 1, &nulls[RESULT_RELATION]);
		values[RESULT_PLACE] = SPI_getbinval(row, descriptor, 2, &nulls[RESULT_PLACE]);
		values[RESULT_KEY] = SPI_getbinval(row, descriptor, 3, &nulls[RESULT_KEY]);
		values[RESULT_SCORE] = SPI_getbinval(row, descriptor, 4, &nulls[RESULT_SCORE]);
		values[RESULT_HEADLINE] = SPI_getbinval(row, descriptor, 5, &nulls[RESULT_HEADLINE]);
		values[RESULT_SEARCHED] = searched_text;
		if (!nulls[RESULT_HEADLINE])
		{
			text *document = DatumGetTextPP(values[RESULT_HEADLINE]);

			values[RESULT_HEADLINE] = PointerGetDatum(search_headline(
				analyzer, query, VARDATA_ANY(document), VARSIZE_ANY_EXHDR(document), options));
		}
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_context);
	}
	MemoryContextDelete(row_context);
}

/* How rare each term is, for headlines. */
static double *
term_weights(const CompiledQuery *compiled)
{
	double *weights = palloc(Max(compiled->query->nterms, 1) * sizeof(double));

	for (int i = 0; i < compiled->query->nterms; i++)
		weights[i] = score_idf(compiled->stats.collection.ndocs, compiled->stats.df[i]);
	return weights;
}

bool
search_nothing_to_find(const SearchQuery *query, bool known, const char *words)
{
	bool wanted = false;

	for (int i = 0; i < query->nclauses; i++)
		wanted = wanted || query->clauses[i].sign != CLAUSE_MUST_NOT;

	if (query->only_stop_words)
		ereport(NOTICE, (errmsg("the search holds only stop words: \"%s\"", words)));
	else if (query->nclauses == 0)
		ereport(NOTICE, (errmsg("the search is empty")));
	else if (!wanted)
		ereport(NOTICE,
				(errmsg("the search only says what not to find: \"%s\"", words),
				 errhint("Add a word to look for.")));
	else if (!known)
		ereport(NOTICE, (errmsg("no document holds any of the words: \"%s\"", words)));
	else
		return false;
	return true;
}

/* Through the index. */
static void
search_with_index(ReturnSetInfo *rsinfo, Oid bound, const SearchArguments *arguments)
{
	List *leaves = statement_leaves(bound);
	const char *words = arguments->words;
	int length = arguments->length;
	Relation index;
	Relation declared;
	const CompiledQuery *compiled;
	HeadlineOptions options = headline_defaults;
	bool known = false;
	char *corrected = NULL;
	char *sql;
	PgoptSpi spi;

	if (leaves == NIL)
		return; /* partitioned, and no partition yet */
	index = index_open(linitial_oid(leaves), AccessShareLock);
	compiled = search_compile(index, search_bind_query(words, length, bound, 0));
	compiled_keep(compiled); /* what follows compiles the search for every partition */

	/* Under row level security not even the words of hidden rows may show. */
	if (check_enable_rls(arguments->table, InvalidOid, true) == RLS_ENABLED)
		known = true;
	else if (arguments->correct)
		corrected = corrected_search(index, bound, compiled, words, length, &known);
	else
		for (int i = 0; i < compiled->query->nterms; i++)
			known = known || compiled->stats.df[i] > 0;
	if (search_nothing_to_find(compiled->query, known, words))
	{
		index_close(index, AccessShareLock);
		return;
	}
	if (corrected != NULL && strcmp(corrected, words) != 0)
	{
		words = corrected;
		length = strlen(words);
		compiled = search_compile(index, search_bind_query(words, length, bound, 0));
		compiled_keep(compiled);
	}

	pgopt_spi_begin_as_caller(&spi); /* pins search_path: names in the statement are qualified */
	declared = relation_open(bound, AccessShareLock);
	sql = psprintf("SELECT " STATEMENT_ALIAS ".tableoid::regclass, " STATEMENT_ALIAS ".ctid, %s, "
				   "(- (" STATEMENT_ALIAS " %s %s))::real, %s FROM %s " STATEMENT_ALIAS
				   " WHERE " STATEMENT_ALIAS " %s %s%s ORDER BY " STATEMENT_ALIAS
				   " %s %s LIMIT " INT64_FORMAT " OFFSET " INT64_FORMAT,
				   search_key_expression(arguments->table),
				   statement_operator("<@>"),
				   statement_literal(words, length),
				   arguments->headlines ? body_expression(index, declared) : "NULL::text",
				   statement_table(arguments->table),
				   statement_operator("@@@"),
				   statement_literal(words, length),
				   statement_conditions(
					   statement_parse_filters(declared, arguments->table, arguments->filters)),
				   statement_operator("<@>"),
				   statement_literal(words, length),
				   arguments->limit,
				   arguments->skip);
	relation_close(declared, AccessShareLock);

	(void) pgopt_spi_execute(sql, 0, NULL, NULL, NULL, true, SPI_OK_SELECT);
	options.weights = term_weights(compiled);
	if (search_settings(index)->nfields > 1)
		options.fields = ~(uint32) 1; /* as body_expression() has it */
	search_return_rows(
		rsinfo, search_analyzer(index), compiled->query, &options, words, arguments->skip);
	pgopt_spi_end(&spi);
	index_close(index, AccessShareLock);
}

void
search_check_access(Oid table)
{
	char kind = get_rel_relkind(table);

	if (kind != RELKIND_RELATION && kind != RELKIND_MATVIEW && kind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s is no table that can be searched",
						kind == '\0' ? psprintf("OID %u", table)
									 : psprintf("\"%s\"", get_rel_name(table))),
				 errhint("Name a table, partitioned table or materialized view.")));
	if (pg_class_aclcheck(table, GetUserId(), ACL_SELECT) != ACLCHECK_OK &&
		pg_attribute_aclcheck_all(table, GetUserId(), ACL_SELECT, ACLMASK_ALL) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, get_relkind_objtype(kind), get_rel_name(table));
}

Datum
pgopt_search(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	SearchArguments arguments;
	text *words;
	Oid index;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		ereport(
			ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the table to search must be named")));
	arguments.table = PG_GETARG_OID(0);
	words = PG_ARGISNULL(1) ? cstring_to_text("") : PG_GETARG_TEXT_PP(1);
	arguments.words = text_to_cstring(words);
	arguments.length = VARSIZE_ANY_EXHDR(words);
	arguments.filters = PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2);
	arguments.limit = PG_ARGISNULL(3) ? MAX_RESULTS : PG_GETARG_INT32(3);
	arguments.skip = PG_ARGISNULL(4) ? 0 : PG_GETARG_INT32(4);
	arguments.headlines = !PG_ARGISNULL(5) && PG_GETARG_BOOL(5);
	arguments.correct = !PG_ARGISNULL(6) && PG_GETARG_BOOL(6);

	if (arguments.limit < 0 || arguments.limit > MAX_RESULTS || arguments.skip < 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("max_results must be between 0 and %d, and skip not negative", MAX_RESULTS)));

	search_check_access(arguments.table);
	index = search_find_index(arguments.table);
	if (OidIsValid(index))
		search_with_index(rsinfo, index, &arguments);
	else
		search_without_index(rsinfo, &arguments);
	return (Datum) 0;
}
