/*
 * slow_queries.c
 *		pgopt_slow_queries(): what pg_stat_statements has counted.
 *
 * That extension may be absent, not preloaded, in any schema, and of any
 * version: the statement is made up from the columns that its view has.  It
 * runs as the caller, who sees what pg_stat_statements shows him; texts that
 * it hides from him are left out.  Cost: one reading of pg_stat_statements,
 * whatever the number of tables.
 */
#include "pgopt.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "core.h"
#include "monitor.h"

PG_FUNCTION_INFO_V1(pgopt_slow_queries);

#define SLOW_QUERY_COLUMNS 16

bool
monitor_statements_preloaded(void)
{
	List *names;
	ListCell *cell;
	bool found = false;

	if (shared_preload_libraries_string == NULL ||
		!SplitDirectoriesString(pstrdup(shared_preload_libraries_string), ',', &names))
		return false;
	foreach(cell, names)
	{
		const char *name = last_dir_separator((char *) lfirst(cell));

		name = name != NULL ? name + 1 : (char *) lfirst(cell);
		found |=
			strcmp(name, MONITOR_STATEMENTS) == 0 || strcmp(name, MONITOR_STATEMENTS DLSUFFIX) == 0;
	}
	return found;
}

/* The view, or an error that says how to get it. */
static Oid
statements_view(void)
{
	bool installed = OidIsValid(get_extension_oid(MONITOR_STATEMENTS, true));
	bool isnull;

	if (!monitor_statements_preloaded())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg(MONITOR_STATEMENTS " was not loaded when the server started"),
				 errdetail("Without it the server does not count its statements."),
				 errhint("Add it in postgresql.conf and restart: "
						 "shared_preload_libraries = 'pgopt, " MONITOR_STATEMENTS "'.%s",
						 installed ? "" : " Then run CREATE EXTENSION " MONITOR_STATEMENTS ".")));
	if (!installed)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the extension " MONITOR_STATEMENTS " is not in this database"),
				 errhint("Run CREATE EXTENSION " MONITOR_STATEMENTS ".")));
	pgopt_spi_execute(
		"SELECT c.oid FROM pg_extension e JOIN pg_class c"
		" ON c.relnamespace = e.extnamespace AND c.relname = e.extname AND c.relkind = 'v'"
		" WHERE e.extname = '" MONITOR_STATEMENTS "'",
		0,
		NULL,
		NULL,
		NULL,
		true,
		SPI_OK_SELECT);
	if (SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the extension " MONITOR_STATEMENTS " has no view of that name")));
	return DatumGetObjectId(pgopt_spi_value(0, 1, &isnull));
}

/* The column of that name, as s.name, or what to take where the view has none. */
static const char *
column(Oid view, const char *name, const char *otherwise)
{
	return get_attnum(view, name) != InvalidAttrNumber ? psprintf("s.%s", name) : otherwise;
}

static char *
statements_sql(Oid view)
{
	StringInfoData sql;
	/* the names of version 1.8 (server 13) on; an extension that was never updated has the old ones */
	const char *total = column(view, "total_exec_time", "s.total_time");
	const char *mean = column(view, "mean_exec_time", "s.mean_time");
	const char *max = column(view, "max_exec_time", "s.max_time");

	initStringInfo(&sql);
	appendStringInfo(
		&sql,
		"SELECT r.rolname, s.queryid, s.calls, round((%s)::numeric, 1), round((%s)::numeric, 1),"
		" round((%s)::numeric, 1),"
		/* statements in functions are part of those that called them */
		" round((100 * %s / nullif(sum(%s) FILTER (WHERE %s) OVER (), 0))::numeric, 1),"
		" s.rows,"
		" round(100.0 * s.shared_blks_hit / nullif(s.shared_blks_hit + s.shared_blks_read, 0), 1),"
		" s.temp_blks_written * $4, pg_size_pretty(s.temp_blks_written * $4),"
		" (%s)::bigint, pg_size_pretty((%s)::numeric), s.query, %s AS mean, %s AS total"
		" FROM %s.%s s LEFT JOIN pg_roles r ON r.oid = s.userid"
		" WHERE s.dbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())",
		mean,
		max,
		total,
		total,
		total,
		column(view, "toplevel", "true"),
		column(view, "wal_bytes", "NULL"),
		column(view, "wal_bytes", "NULL"),
		mean,
		total,
		quote_identifier(get_namespace_name(get_rel_namespace(view))),
		quote_identifier(get_rel_name(view)));
	return psprintf("SELECT * FROM (%s) q"
					" WHERE (($1 IS NULL AND $2 IS NULL) OR q.mean >= $1 OR q.total >= $2)"
					"   AND q.query <> '<insufficient privilege>'"
					" ORDER BY q.total DESC LIMIT $3",
					sql.data);
}

/* An interval in milliseconds. */
static Datum
milliseconds(Datum interval)
{
	Interval *span = DatumGetIntervalP(interval);
	double days = span->day + span->month * (double) DAYS_PER_MONTH;

	return Float8GetDatum(span->time / 1000.0 + days * SECS_PER_DAY * 1000.0);
}

Datum
pgopt_slow_queries(PG_FUNCTION_ARGS)
{
	static Oid types[4] = {FLOAT8OID, FLOAT8OID, INT8OID, INT8OID};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum args[4] = {0};
	char nulls[5] = "nnn ";
	PgoptSpi spi;

	InitMaterializedSRF(fcinfo, 0);

	if (!PG_ARGISNULL(0))
	{
		args[0] = milliseconds(PG_GETARG_DATUM(0));
		nulls[0] = ' ';
	}
	if (!PG_ARGISNULL(1))
	{
		args[1] = milliseconds(PG_GETARG_DATUM(1));
		nulls[1] = ' ';
	}
	if (!PG_ARGISNULL(2))
	{
		if (PG_GETARG_INT32(2) < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("max_rows must not be negative")));
		args[2] = Int64GetDatum(PG_GETARG_INT32(2));
		nulls[2] = ' ';
	}
	args[3] = Int64GetDatum(BLCKSZ);

	pgopt_spi_begin_as_caller(&spi);
	pgopt_spi_execute(
		statements_sql(statements_view()), 4, types, args, nulls, true, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Datum values[SLOW_QUERY_COLUMNS];
		bool isnull[SLOW_QUERY_COLUMNS];

		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values, isnull);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
	}
	pgopt_spi_end(&spi);
	return (Datum) 0;
}
