/*
 * relation_size.c
 *		Size, age and last use of one relation, for the monitoring views and
 *		the health checks.
 *
 * pg_relation_size() and its family open the relation, and so stand in the
 * queue behind any ALTER TABLE: a look at the sizes would hang exactly when
 * somebody wants to look.  This asks the catalog cache for the files and the
 * file system for their lengths; a relation that goes away meanwhile has no
 * size.  Cost: three or four stat() calls a relation, a few microseconds.
 */
#include "pgopt.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "monitor.h"

PG_FUNCTION_INFO_V1(pgopt_relation_bytes);
PG_FUNCTION_INFO_V1(pgopt_last_scan);

/* Path of the relation's first file, from the data directory; NULL where it has none. */
static char *
relation_path(Oid relid)
{
	LOCAL_FCINFO(fcinfo, 1);
	Datum path;

	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = ObjectIdGetDatum(relid);
	fcinfo->args[0].isnull = false;
	path = pg_relation_filepath(fcinfo);
	return fcinfo->isnull ? NULL : TextDatumGetCString(path);
}

/* Adds the length of one fork, all segments. False where the first is not there or cannot be asked. */
static bool
add_fork(const char *path, const char *fork, int64 *bytes)
{
	char segment[MAXPGPATH];
	struct stat status;

	for (int i = 0;; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (i == 0)
			snprintf(segment, sizeof(segment), "%s%s", path, fork);
		else
			snprintf(segment, sizeof(segment), "%s%s.%d", path, fork, i);
		if (stat(segment, &status) != 0)
			return i > 0;
		*bytes += status.st_size;
		if (status.st_size < (int64) RELSEG_SIZE * BLCKSZ)
			return true;
	}
}

double
relation_file_bytes(Oid relid)
{
	char *path = relation_path(relid);
	int64 bytes = 0;

	return path != NULL && add_fork(path, "", &bytes) ? (double) bytes : -1;
}

TimestampTz
relation_file_created(Oid relid)
{
#ifdef STATX_BTIME
	char *path = relation_path(relid);
	struct statx file;

	if (path != NULL && statx(AT_FDCWD, path, 0, STATX_BTIME, &file) == 0 &&
		(file.stx_mask & STATX_BTIME) != 0)
		return time_t_to_timestamptz((pg_time_t) file.stx_btime.tv_sec) +
			   file.stx_btime.tv_nsec / 1000;
#endif
	return 0;
}

/* All forks of one relation, without its indexes and TOAST. */
Datum
pgopt_relation_bytes(PG_FUNCTION_ARGS)
{
	Oid relid = PG_GETARG_OID(0);
	HeapTuple tuple;
	char kind;
	char persistence;
	char *path;
	int64 bytes = 0;

	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	if (!HeapTupleIsValid(tuple))
		PG_RETURN_NULL();
	kind = ((Form_pg_class) GETSTRUCT(tuple))->relkind;
	persistence = ((Form_pg_class) GETSTRUCT(tuple))->relpersistence;
	ReleaseSysCache(tuple);

	path = relation_path(relid);
	if (path == NULL || !add_fork(path, "", &bytes))
		PG_RETURN_NULL();
	if (kind != RELKIND_SEQUENCE)
		(void) add_fork(path, "_fsm", &bytes);
	if (kind != RELKIND_SEQUENCE && kind != RELKIND_INDEX)
		(void) add_fork(path, "_vm", &bytes);
	if (persistence == RELPERSISTENCE_UNLOGGED)
		(void) add_fork(path, "_init", &bytes);
	pfree(path);
	PG_RETURN_INT64(bytes);
}

/* When the relation was last scanned; servers before 16 do not record it. */
Datum
pgopt_last_scan(PG_FUNCTION_ARGS)
{
	TimestampTz when = compat_last_scan(PG_GETARG_OID(0));

	if (when == 0)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(when);
}
