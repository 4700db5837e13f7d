/*
 * search.c
 *		The room's start, and its names in the catalogs.
 */
#include "pgopt.h"

#include "access/htup_details.h"
#include "catalog/pg_am.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_ts_config.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "handler.h"
#include "plan.h"
#include "search.h"

void
search_init(void)
{
	search_handler_init();
	search_plan_init();
}

/* The access method's tuple tells both its OID and, by its handler, the schema of pgopt's functions. */
static Oid
access_method(Oid *schema)
{
	HeapTuple tuple = SearchSysCache1(AMNAME, CStringGetDatum("pgopt_bm25"));
	Form_pg_am form;
	Oid oid;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	form = (Form_pg_am) GETSTRUCT(tuple);
	oid = form->oid;
	if (schema != NULL)
		*schema = get_func_namespace(form->amhandler);
	ReleaseSysCache(tuple);
	return oid;
}

Oid
search_access_method(void)
{
	return access_method(NULL);
}

Oid
search_schema(void)
{
	Oid schema;

	return OidIsValid(access_method(&schema)) ? schema : InvalidOid;
}

Oid
search_query_type(void)
{
	Oid schema;

	if (!OidIsValid(access_method(&schema)))
		return InvalidOid;
	return GetSysCacheOid2(
		TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("pgopt_query"), ObjectIdGetDatum(schema));
}

Oid
search_default_config(void)
{
	Oid schema;
	Oid config = InvalidOid;

	if (OidIsValid(access_method(&schema)))
		config = GetSysCacheOid2(TSCONFIGNAMENSP,
								 Anum_pg_ts_config_oid,
								 CStringGetDatum("pgopt_portuguese"),
								 ObjectIdGetDatum(schema));
	if (!OidIsValid(config))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("text search configuration \"pgopt_portuguese\" does not exist"),
				 errhint("It comes with the extension: CREATE EXTENSION pgopt.")));
	return config;
}
