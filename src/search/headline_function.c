/*
 * headline_function.c
 *		pgopt_headline(): a headline of any text.
 *
 * Memory: the analyzer and the parsed search live as long as the function's
 * call site, so that a statement pays for them once.  Locks: none.
 */
#include "pgopt.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "compat.h"
#include "headline.h"
#include "search.h"

/* An analyzer that a statement keeps is made anew when it grew over this. */
#define ANALYZER_BYTES (16 * 1024 * 1024)

PG_FUNCTION_INFO_V1(pgopt_headline);

/* Kept between the calls of one call site. */
typedef struct HeadlineState
{
	Oid config;
	Analyzer *analyzer;
	MemoryContext query_context;
	text *query_text; /* what `query` was parsed from */
	SearchQuery *query;
} HeadlineState;

static const SearchQuery *
headline_query(FunctionCallInfo fcinfo, HeadlineState *state, text *query_text)
{
	MemoryContext old;

	if (state->query != NULL &&
		VARSIZE_ANY_EXHDR(query_text) == VARSIZE_ANY_EXHDR(state->query_text) &&
		memcmp(VARDATA_ANY(query_text),
			   VARDATA_ANY(state->query_text),
			   VARSIZE_ANY_EXHDR(query_text)) == 0)
		return state->query;

	state->query = NULL;
	if (state->query_context == NULL)
		state->query_context = AllocSetContextCreate(
			fcinfo->flinfo->fn_mcxt, "pgopt headline query", ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(state->query_context);
	old = MemoryContextSwitchTo(state->query_context);
	state->query_text =
		cstring_to_text_with_len(VARDATA_ANY(query_text), VARSIZE_ANY_EXHDR(query_text));
	state->query = search_query_parse(
		state->analyzer, VARDATA_ANY(query_text), VARSIZE_ANY_EXHDR(query_text), NULL, 0, 0);
	MemoryContextSwitchTo(old);
	return state->query;
}

static HeadlineState *
headline_state(FunctionCallInfo fcinfo, Oid config)
{
	HeadlineState *state = fcinfo->flinfo->fn_extra;

	if (state == NULL)
	{
		state = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(HeadlineState));
		fcinfo->flinfo->fn_extra = state;
	}
	if (state->analyzer != NULL &&
		(state->config != config || analyzer_memory(state->analyzer) > ANALYZER_BYTES))
	{
		analyzer_free(state->analyzer);
		state->analyzer = NULL;
		state->query = NULL;
	}
	if (state->analyzer == NULL)
	{
		state->analyzer = analyzer_create(config, NULL, fcinfo->flinfo->fn_mcxt);
		state->config = config;
	}
	return state;
}

static int
argument_in_range(FunctionCallInfo fcinfo, int number, const char *name, int default_value,
				  int largest)
{
	int value = PG_ARGISNULL(number) ? default_value : PG_GETARG_INT32(number);

	if (value < 1 || value > largest)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("%s must be between 1 and %d", name, largest),
				errdetail("It is %d.", value));
	return value;
}

static const char *
text_argument(FunctionCallInfo fcinfo, int number)
{
	return PG_ARGISNULL(number) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(number));
}

/*
 * pgopt_headline(document, query, start_sel, stop_sel, max_fragments,
 *				  fragment_words, delimiter, escape_html, config)
 */
Datum
pgopt_headline(PG_FUNCTION_ARGS)
{
	HeadlineOptions options = headline_defaults;
	HeadlineState *state;
	text *document;
	text *query;
	int length;

	options.start_sel = text_argument(fcinfo, 2);
	options.stop_sel = text_argument(fcinfo, 3);
	options.max_fragments = argument_in_range(
		fcinfo, 4, "max_fragments", options.max_fragments, HEADLINE_MAX_FRAGMENTS);
	options.fragment_words =
		argument_in_range(fcinfo, 5, "fragment_words", options.fragment_words, HEADLINE_MAX_WORDS);
	options.delimiter = text_argument(fcinfo, 6);
	options.escape_html = PG_ARGISNULL(7) || PG_GETARG_BOOL(7);
	if (PG_ARGISNULL(0))
		PG_RETURN_TEXT_P(cstring_to_text(""));

	/* No more of a large document is fetched than is looked at. */
	document = PG_GETARG_TEXT_P_SLICE(0, 0, HEADLINE_SCAN_LIMIT);
	length = VARSIZE_ANY_EXHDR(document);
	if (length == HEADLINE_SCAN_LIMIT)
		length = pg_mbcliplen(VARDATA_ANY(document), length, length);
	query = PG_ARGISNULL(1) ? cstring_to_text("") : PG_GETARG_TEXT_PP(1);

	state = headline_state(fcinfo, PG_ARGISNULL(8) ? search_default_config() : PG_GETARG_OID(8));
	PG_RETURN_TEXT_P(search_headline(state->analyzer,
									 headline_query(fcinfo, state, query),
									 VARDATA_ANY(document),
									 length,
									 &options));
}
