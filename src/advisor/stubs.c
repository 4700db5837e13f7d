/* Weak stand-ins for what has not landed yet; goes away before the room is complete. */
#include "pgopt.h"


#include "advisor.h"
#include "candidates.h"
#include "hypothetical.h"
#include "selection.h"
#include "statement.h"
#include "workload.h"
#include "writes.h"

#define WEAK __attribute__((weak))
__attribute__((weak)) bool pgopt_workload_capture = true;
#define MISSING elog(ERROR, "%s has not landed", __func__)

WEAK void
workload_init(void)
{
}
WEAK List *
workload_read(int64 queryid)
{
	MISSING;
	return NIL;
}
WEAK TimestampTz
workload_since(void)
{
	return 0;
}
WEAK void
workload_flush(void)
{
}
WEAK bool
workload_is_due(void)
{
	return false;
}
WEAK long
workload_wait(void)
{
	return 3600000L;
}
WEAK void
workload_new_period(void)
{
}


WEAK void
candidates_init(void)
{
}
