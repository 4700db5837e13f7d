/*
 * rowlog.c
 *		The room's setting, and what it registers when the library is loaded.
 */
#include "pgopt.h"

#include "utils/guc.h"

#include "rowlog_internal.h"

int pgopt_incremental_log_limit = 1024 * 1024;

void
rowlog_init(void)
{
	DefineCustomIntVariable(
		"pgopt.incremental_log_limit",
		"Size to which the log of one table's changed rows may grow.",
		"Past it changes are no longer kept, and the views that read the table need a full refresh.",
		&pgopt_incremental_log_limit,
		1024 * 1024,
		1024,
		INT_MAX,
		PGC_SUSET,
		GUC_UNIT_KB,
		NULL,
		NULL,
		NULL);
	shape_init();
}
