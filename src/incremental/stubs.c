/*
 * stubs.c
 *		Weak stand-ins: the library links while the parts are being written.
 */
#include "pgopt.h"

#include "incremental_private.h"

#define MISSING(name) elog(ERROR, "%s is not there yet", name)
#define WEAK          __attribute__((weak))

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
