/*
 * operators.c
 *		The functions behind @@@ and <@>.
 *
 * What a user writes is replaced by pgopt.row_matches() and pgopt.row_order()
 * when the statement is planned (plan.c), and these by an index scan where it
 * can be used.  Where it cannot (a filter above a join, a row that is checked
 * again after a concurrent change, a score in the select list), they read the
 * row by its place and compute the answer from its text, with the statistics
 * of the index: the same bits as the index gives.  A score that a scan of the
 * same search has just computed is taken from there.
 *
 * Both take an argument of type internal, which no user can write: they trust
 * that the place is one that the statement may read.
 *
 * Memory: the executor state for index expressions lives as long as the
 * function's call site; everything of one row is freed with it.  Cost: the
 * analysis of one row's text, unless a scan knows the score.
 */
#include "pgopt.h"

#include "access/htup_details.h"
#include "access/tableam.h"
#include "access/table.h"
#include "catalog/index.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"

#include "compat.h"
#include "plan.h"
#include "scan.h"
#include "search.h"

PG_FUNCTION_INFO_V1(pgopt_match_record);
PG_FUNCTION_INFO_V1(pgopt_match_text);
PG_FUNCTION_INFO_V1(pgopt_order_unbound);
PG_FUNCTION_INFO_V1(pgopt_bind_query);
PG_FUNCTION_INFO_V1(pgopt_row_matches);
PG_FUNCTION_INFO_V1(pgopt_row_order);
PG_FUNCTION_INFO_V1(pgopt_query_match);
PG_FUNCTION_INFO_V1(pgopt_query_order);

/* --- rows by their place ----------------------------------------------------------- */

/* Kept between the calls of one call site. */
typedef struct RowState
{
	MemoryContext context; /* of one row */
	Oid table;
	Oid bound; /* the search's index ... */
	Oid index; /* ... and the one of this table */
	bool heir; /* which is no part of that: the table inherits from the other one */
} RowState;

static RowState *
row_state(FunctionCallInfo fcinfo)
{
	RowState *state = fcinfo->flinfo->fn_extra;

	if (state == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);

		state = palloc0(sizeof(RowState));
		state->context =
			AllocSetContextCreate(CurrentMemoryContext, "pgopt row search", ALLOCSET_DEFAULT_SIZES);
		MemoryContextSwitchTo(old);
		fcinfo->flinfo->fn_extra = state;
	}
	return state;
}

/*
 * Does the row match, and with which score?  Reads it and evaluates the search
 * on it, unless a scan knows its score.  The row is one that the statement at
 * hand has read itself, so that no snapshot needs to be asked.
 *
 * The index's expressions run with the rights of the current user, as they do
 * when that user inserts a row.  The server takes the owner's rights for
 * maintenance only (CREATE INDEX, ANALYZE), and so does pgopt_search_verify().
 */
static bool
evaluate_row(RowState *state, Oid table, ItemPointer place, const PgoptQuery *query,
			 bool only_score, Score *score)
{
	MemoryContext old;
	Relation heap;
	Relation index;
	const CompiledQuery *compiled;
	TupleTableSlot *slot;
	EState *estate;
	IndexInfo *info;
	Datum values[INDEX_MAX_KEYS];
	bool nulls[INDEX_MAX_KEYS];
	bool matches = false;

	*score = 0;
	if (state->table != table || state->bound != query->index)
	{
		state->index = search_index_of_table(query->index, table);
		state->heir = !OidIsValid(state->index) && query->fields == 0;
		if (state->heir)
			state->index = search_find_index(table);
		state->table = table;
		state->bound = query->index;
	}
	if (!OidIsValid(state->index))
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table \"%s\" has no index of its own for this search", get_rel_name(table)),
			 errhint("Create the pgopt_bm25 index on this table too.")));
	if (state->heir)
		query = search_bind_query(query->text, PGOPT_QUERY_TEXT_LENGTH(query), state->index, 0);
	/* A score of 0 is one of a row that does not match, or all but: which of them is looked up. */
	if (search_known_score(state->index, query, place, score) && (only_score || *score > 0))
		return true;
	*score = 0;

	old = MemoryContextSwitchTo(state->context);
	heap = table_open(table, AccessShareLock);
	index = index_open(state->index, AccessShareLock);
	slot = table_slot_create(heap, NULL);
	if (table_tuple_fetch_row_version(heap, place, SnapshotAny, slot))
	{
		info = BuildIndexInfo(index);
		estate = CreateExecutorState();
		GetPerTupleExprContext(estate)->ecxt_scantuple = slot;
		FormIndexDatum(info, slot, estate, values, nulls);
		compiled =
			search_compile(index, query); /* after the index's expressions, which may search */
		matches = search_evaluate(
			compiled,
			document_analyze(search_analyzer(index), search_settings(index), values, nulls),
			score);
		FreeExecutorState(estate);
	}
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	table_close(heap, AccessShareLock);
	MemoryContextSwitchTo(old);
	MemoryContextReset(state->context);
	return matches;
}

/* The bound search of a call; NULL where an argument is. */
static PgoptQuery *
row_arguments(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		return NULL;
	return (PgoptQuery *) PG_DETOAST_DATUM(PG_GETARG_DATUM(2));
}

Datum
pgopt_row_matches(PG_FUNCTION_ARGS)
{
	PgoptQuery *query = row_arguments(fcinfo);
	Score score;

	if (query == NULL)
		PG_RETURN_NULL();
	PG_RETURN_BOOL(evaluate_row(row_state(fcinfo),
								PG_GETARG_OID(1),
								(ItemPointer) DatumGetPointer(PG_GETARG_DATUM(0)),
								query,
								false,
								&score));
}

Datum
pgopt_row_order(PG_FUNCTION_ARGS)
{
	PgoptQuery *query = row_arguments(fcinfo);
	Score score;

	if (query == NULL)
		PG_RETURN_NULL();
	if (!evaluate_row(row_state(fcinfo),
					  PG_GETARG_OID(1),
					  (ItemPointer) DatumGetPointer(PG_GETARG_DATUM(0)),
					  query,
					  true,
					  &score))
		score = 0;
	PG_RETURN_FLOAT8(score == 0 ? 0.0 : -(score / SCORE_UNIT));
}

/* bind_query(words, index, fields, internal) */
Datum
pgopt_bind_query(PG_FUNCTION_ARGS)
{
	text *words;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	words = PG_GETARG_TEXT_PP(0);
	PG_RETURN_POINTER(search_bind_query(VARDATA_ANY(words),
										VARSIZE_ANY_EXHDR(words),
										PG_GETARG_OID(1),
										(uint32) PG_GETARG_INT32(2)));
}

/* --- the access method's operators --------------------------------------------------- */

/*
 * Reached only where the executor checks an index condition again after a
 * concurrent change: there the planner has kept the search as a filter
 * besides, which looks at the whole row.
 */
Datum
pgopt_query_match(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(true);
}

Datum
pgopt_query_order(PG_FUNCTION_ARGS)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("a score can only be computed for a row of a table"),
			 errhint("Write ORDER BY t <@> 'words', where t is the table or a text column of its "
					 "pgopt_bm25 index.")));
	PG_RETURN_NULL();
}

/* --- searches that no index answers ---------------------------------------------------- */


/* Kept between the calls of one call site: the default analysis, and the search of the last call. */
typedef struct TextState
{
	MemoryContext context; /* of the analyzer and the search */
	MemoryContext row;     /* of one row */
	Analyzer *analyzer;
	text *words;
	CompiledQuery compiled;
} TextState;

#define TEXT_STATE_LIMIT (16 * 1024 * 1024)

static TextState *
text_state(FunctionCallInfo fcinfo, text *words)
{
	TextState *state = fcinfo->flinfo->fn_extra;
	MemoryContext old;
	SearchQuery *query;

	if (state != NULL && analyzer_memory(state->analyzer) <= TEXT_STATE_LIMIT &&
		datumIsEqual(PointerGetDatum(state->words), PointerGetDatum(words), false, -1))
		return state;
	if (state != NULL)
	{
		fcinfo->flinfo->fn_extra = NULL;
		MemoryContextDelete(state->context);
	}

	old = MemoryContextSwitchTo(AllocSetContextCreate(
		fcinfo->flinfo->fn_mcxt, "pgopt text search", ALLOCSET_DEFAULT_SIZES));
	state = palloc0(sizeof(TextState));
	state->context = CurrentMemoryContext;
	state->row = AllocSetContextCreate(state->context, "row", ALLOCSET_DEFAULT_SIZES);
	state->analyzer = analyzer_create(search_default_config(), NULL, state->context);
	state->words = (text *) DatumGetPointer(datumCopy(PointerGetDatum(words), false, -1));
	query = search_query_parse(state->analyzer,
							   VARDATA_ANY(words),
							   VARSIZE_ANY_EXHDR(words),
							   NULL,
							   0,
							   ((uint32) 1 << SEARCH_MAX_FIELDS) - 1);

	/* Only whether a row matches is asked: any statistics do. */
	state->compiled.query = query;
	state->compiled.stats.collection =
		(CollectionStats){.ndocs = 2, .average_length = 1, .k1 = 1, .b = 0};
	state->compiled.stats.df = palloc0(Max(query->nterms, 1) * sizeof(uint64));
	for (int i = 0; i < query->nterms; i++)
		state->compiled.stats.df[i] = 1;
	MemoryContextSwitchTo(old);
	fcinfo->flinfo->fn_extra = state;
	return state;
}

/* Does a row of that many texts match?  Each is a field of its own, the last one takes what is over. */
static bool
texts_match(TextState *state, Datum *values, int n)
{
	MemoryContext old = MemoryContextSwitchTo(state->row);
	SearchSettings settings = {0};
	bool nulls[SEARCH_MAX_FIELDS] = {false};
	Score score;
	bool matches;

	if (n > SEARCH_MAX_FIELDS)
	{
		StringInfoData rest;

		initStringInfo(&rest);
		for (int i = SEARCH_MAX_FIELDS - 1; i < n; i++)
			appendStringInfo(&rest, "%s\n", TextDatumGetCString(values[i]));
		values[SEARCH_MAX_FIELDS - 1] =
			PointerGetDatum(cstring_to_text_with_len(rest.data, rest.len));
		n = SEARCH_MAX_FIELDS;
	}
	settings.nfields = n;
	while ((1 << settings.field_bits) < n)
		settings.field_bits++;
	for (int i = 0; i < n; i++)
	{
		settings.fields[i] = i + 1;
		settings.weights[i] = 1;
	}
	settings.positions = true;
	state->compiled.settings = &settings;
	matches = search_evaluate(
		&state->compiled, document_analyze(state->analyzer, &settings, values, nulls), &score);
	state->compiled.settings = NULL;
	MemoryContextSwitchTo(old);
	MemoryContextReset(state->row);
	return matches;
}

Datum
pgopt_match_text(PG_FUNCTION_ARGS)
{
	Datum value = PG_GETARG_DATUM(0);

	PG_RETURN_BOOL(texts_match(text_state(fcinfo, PG_GETARG_TEXT_PP(1)), &value, 1));
}

Datum
pgopt_match_record(PG_FUNCTION_ARGS)
{
	HeapTupleHeader record = PG_GETARG_HEAPTUPLEHEADER(0);
	TextState *state = text_state(fcinfo, PG_GETARG_TEXT_PP(1));
	TupleDesc descriptor =
		lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(record), HeapTupleHeaderGetTypMod(record));
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(record), .t_data = record};
	Datum *texts = palloc(descriptor->natts * sizeof(Datum));
	int n = 0;

	for (int i = 0; i < descriptor->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(descriptor, i);
		bool null;
		Datum value;

		if (attribute->attisdropped ||
			(attribute->atttypid != TEXTOID && attribute->atttypid != VARCHAROID &&
			 attribute->atttypid != BPCHAROID))
			continue;
		value = heap_getattr(&tuple, i + 1, descriptor, &null);
		if (!null)
			texts[n++] = value;
	}
	ReleaseTupleDesc(descriptor);
	if (n == 0)
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(texts_match(state, texts, n));
}

Datum
pgopt_order_unbound(PG_FUNCTION_ARGS)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		 errmsg("there is no pgopt_bm25 index for this search"),
		 errdetail("A score needs the statistics of the whole collection, which the index keeps."),
		 errhint("CREATE INDEX ON table USING pgopt_bm25 (columns), and search the table or one of "
				 "those columns, not a subquery over it.")));
	PG_RETURN_NULL();
}
