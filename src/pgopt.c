/*
 * pgopt.c
 *		Loads the rooms, in order.
 */
#include "pgopt.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "advisor.h"
#include "bloat.h"
#include "changes.h"
#include "core.h"
#include "health.h"
#include "matview.h"
#include "rowlog.h"
#include "search.h"
#include "window.h"
#include "worker.h"
#include "workload.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(pgopt_version);
PG_FUNCTION_INFO_V1(pgopt_preload_check);

void _PG_init(void);

void
_PG_init(void)
{
	rowlog_init();
	workload_init();
	bloat_init();
	advisor_init();
	health_init();
	search_init();
	settings_init(); /* reserves the prefix: comes last */

	/* What counts and refreshes needs shared memory, and so a place in the preload list. */
	if (!process_shared_preload_libraries_in_progress)
		return;

	shmem_init();
	window_init();
	changes_init();
	slots_init();
	worker_init();
}

Datum
pgopt_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(PGOPT_VERSION));
}

/* Called by CREATE EXTENSION: says at once what would be missed later. */
Datum
pgopt_preload_check(PG_FUNCTION_ARGS)
{
	if (!pgopt_is_preloaded())
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pgopt was not loaded when the server started"),
				 errdetail("Changes are not counted, and nothing is refreshed by itself."),
				 errhint(PGOPT_PRELOAD_HINT)));
	PG_RETURN_VOID();
}
