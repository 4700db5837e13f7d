/*
 * spi.c
 *		The one way in which pgopt runs SQL on its own tables.
 *
 * Every statement on pgopt's tables runs as the owner of the extension and
 * with search_path pinned, so that neither a caller without rights nor a
 * hostile schema can change what it means; the statements themselves name
 * pgopt's tables with their schema.  What reads the server's own catalogs runs
 * as the caller.  Cost: one SPI connection a block.
 */
#include "pgopt.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

#include "core.h"

/* Owner of the extension: bootstrap superuser where it is not there. */
static Oid
extension_owner(void)
{
	Relation rel;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple tuple;
	Oid owner = BOOTSTRAP_SUPERUSERID;

	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyInit(
		&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum("pgopt"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return owner;
}

void
pgopt_spi_begin(PgoptSpi *spi)
{
	Oid owner = extension_owner();

	pgopt_spi_begin_as_caller(spi);
	SetUserIdAndSecContext(
		owner, spi->save_sec_context | SECURITY_LOCAL_USERID_CHANGE | PGOPT_SECURITY_OWN);
}

void
pgopt_spi_begin_as_caller(PgoptSpi *spi)
{
	GetUserIdAndSecContext(&spi->save_userid, &spi->save_sec_context);
	SetUserIdAndSecContext(spi->save_userid, spi->save_sec_context | PGOPT_SECURITY_OWN);
	spi->save_nestlevel = NewGUCNestLevel();
	(void) set_config_option("search_path",
							 "pg_catalog, pg_temp",
							 PGC_USERSET,
							 PGC_S_SESSION,
							 GUC_ACTION_SAVE,
							 true,
							 0,
							 false);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

void
pgopt_spi_end(PgoptSpi *spi)
{
	SPI_finish();
	AtEOXact_GUC(false, spi->save_nestlevel);
	SetUserIdAndSecContext(spi->save_userid, spi->save_sec_context);
}

uint64
pgopt_spi_execute(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls,
				  bool read_only, int expected)
{
	int result;

	result = SPI_execute_with_args(sql, nargs, types, values, nulls, read_only, 0);
	if (result != expected)
		elog(ERROR, "statement gave %s: %s", SPI_result_code_string(result), sql);
	return SPI_processed;
}

uint64
pgopt_spi_execute_kept(SPIPlanPtr *kept, const char *sql, int nargs, Oid *types, Datum *values,
					   const char *nulls, bool read_only, int expected)
{
	int result;

	if (*kept == NULL)
	{
		SPIPlanPtr plan = SPI_prepare(sql, nargs, types);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "statement gave %s: %s", SPI_result_code_string(SPI_result), sql);
		*kept = plan;
	}
	result = SPI_execute_plan(*kept, values, nulls, read_only, 0);
	if (result != expected)
		elog(ERROR, "statement gave %s: %s", SPI_result_code_string(result), sql);
	return SPI_processed;
}

Datum
pgopt_spi_value(uint64 row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull);
}

char *
pgopt_spi_text(uint64 row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

Oid
pgopt_extension_oid(void)
{
	return get_extension_oid("pgopt", true);
}

Oid
pgopt_table_oid(const char *name)
{
	Oid nsp;

	if (!OidIsValid(pgopt_extension_oid()))
		return InvalidOid;
	nsp = get_namespace_oid(PGOPT_SCHEMA, true);
	return OidIsValid(nsp) ? get_relname_relid(name, nsp) : InvalidOid;
}
