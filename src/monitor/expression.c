/*
 * expression.c
 *		Text of a column's default, for pgopt_columns.
 *
 * From PostgreSQL 17 on pg_get_expr() locks the table whose columns it names,
 * and so waits behind an ALTER TABLE.  This asks for that lock first, and does
 * without the text where somebody is in the way.
 */
#include "pgopt.h"

#include "fmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "monitor.h"

PG_FUNCTION_INFO_V1(pgopt_column_default);

Datum
pgopt_column_default(PG_FUNCTION_ARGS)
{
	LOCAL_FCINFO(expression, 2);
	Oid relid = PG_GETARG_OID(1);
	Datum text;

	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		PG_RETURN_NULL();
	InitFunctionCallInfoData(*expression, fcinfo->flinfo, 2, PG_GET_COLLATION(), NULL, NULL);
	expression->args[0].value = PG_GETARG_DATUM(0);
	expression->args[0].isnull = false;
	expression->args[1].value = ObjectIdGetDatum(relid);
	expression->args[1].isnull = false;
	text = pg_get_expr(expression);
	UnlockRelationOid(relid, AccessShareLock);
	if (expression->isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(text);
}
