/*
 * collation.c
 *		Does a collation compare bytes?
 *
 * The server has a function for it, under a name that changed, in a header
 * that needs those of ICU, which few machines have.
 */
#include "pgopt.h"

#include "access/htup_details.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

#include "core.h"

/* The provider whose collations all compare bytes; from 17 on. */
#define PROVIDER_BUILTIN 'b'

bool
collation_is_c(Oid collation)
{
	bool is_default = collation == DEFAULT_COLLATION_OID;
	int cache = is_default ? DATABASEOID : COLLOID;
	HeapTuple tuple =
		SearchSysCache1(cache, ObjectIdGetDatum(is_default ? MyDatabaseId : collation));
	char provider;
	bool is_c = false;

	if (!HeapTupleIsValid(tuple))
		return false;
	provider = is_default ? ((Form_pg_database) GETSTRUCT(tuple))->datlocprovider
						  : ((Form_pg_collation) GETSTRUCT(tuple))->collprovider;
	if (provider == PROVIDER_BUILTIN)
		is_c = true;
	else if (provider == COLLPROVIDER_LIBC)
	{
		bool isnull;
		Datum name = SysCacheGetAttr(cache,
									 tuple,
									 is_default ? Anum_pg_database_datcollate
												: Anum_pg_collation_collcollate,
									 &isnull);

		if (!isnull)
		{
			char *locale = TextDatumGetCString(name);

			is_c = strcmp(locale, "C") == 0 || strcmp(locale, "POSIX") == 0;
			pfree(locale);
		}
	}
	ReleaseSysCache(tuple);
	return is_c;
}
