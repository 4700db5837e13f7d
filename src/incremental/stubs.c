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
