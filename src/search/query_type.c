/*
 * query_type.c
 *		The SQL type pgopt_query: a search, bound to an index or not.
 *
 * Text in, text out: what it is bound to is the planner's business and does
 * not outlive a plan.
 */
#include "pgopt.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "plan.h"

PG_FUNCTION_INFO_V1(pgopt_query_in);
PG_FUNCTION_INFO_V1(pgopt_query_out);

Datum
pgopt_query_in(PG_FUNCTION_ARGS)
{
	const char *words = PG_GETARG_CSTRING(0);

	PG_RETURN_POINTER(search_bind_query(words, strlen(words), InvalidOid, 0));
}

Datum
pgopt_query_out(PG_FUNCTION_ARGS)
{
	PgoptQuery *query = (PgoptQuery *) PG_DETOAST_DATUM(PG_GETARG_DATUM(0));

	PG_RETURN_CSTRING(pnstrdup(query->text, PGOPT_QUERY_TEXT_LENGTH(query)));
}
