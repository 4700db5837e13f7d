/*
 * stubs.c
 *		Weak stand-ins: the library links while the parts are being written.
 */
#include "pgopt.h"

#include "incremental_private.h"

#define MISSING(name) elog(ERROR, "%s is not there yet", name)
#define WEAK          __attribute__((weak))

int pgopt_incremental_log_limit WEAK;
WEAK void
rowlog_init(void)
{
}
WEAK char *
rowlog_why_not(Oid relid, Oid owner, const Bitmapset *columns)
{
	return "stub";
}
WEAK bool
rowlog_covers(Oid relid, const Bitmapset *columns)
{
	return false;
}
WEAK bool
rowlog_ensure(Oid relid, const Bitmapset *columns)
{
	return false;
}
WEAK bool
rowlog_drop(Oid relid)
{
	return true;
}
WEAK int64
rowlog_mark(Oid relid, Snapshot snapshot)
{
	return 0;
}
WEAK int64
rowlog_read(Oid relid, int ncolumns, const AttrNumber *attnums, Datum frontier, Snapshot snapshot,
			int64 limit, Tuplestorestate *store, TupleDesc desc)
{
	return ROWLOG_LOST;
}
WEAK bool
rowlog_written_by_me(Oid relid)
{
	return false;
}
WEAK void
rowlog_append(Relation rel, TupleTableSlot *old, TupleTableSlot *new)
{
}
WEAK int64
rowlog_bytes(Oid relid)
{
	return 0;
}
WEAK void
rowlog_maintain(void)
{
}
WEAK IncrementalPlan *
plan_get(Oid matview)
{
	return plan_compile(matview);
}
WEAK void
groups_create_tables(IncrementalPlan *plan)
{
	MISSING("groups_create_tables");
}
WEAK bool
groups_tables_exist(IncrementalPlan *plan)
{
	return false;
}
WEAK void
groups_drop_tables(Oid matview)
{
}
WEAK int64
groups_bytes(Oid matview)
{
	return 0;
}
WEAK uint64
groups_apply(IncrementalPlan *plan, DeltaRun *run, Tuplestorestate *delta, RowApplier *applier)
{
	MISSING("groups_apply");
	return 0;
}
WEAK uint64
groups_compute(IncrementalPlan *plan, RowApplier *applier, bool state_is_valid)
{
	MISSING("groups_compute");
	return 0;
}
