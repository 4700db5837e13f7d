/*
 * vacuum.c
 *		What VACUUM does to an index.
 */
#include "pgopt.h"

#include "pages.h"
#include "vacuum.h"

IndexBulkDeleteResult *
search_bulkdelete(IndexVacuumInfo *info, IndexBulkDeleteResult *stats,
				  IndexBulkDeleteCallback callback, void *callback_state)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("VACUUM of pgopt_bm25 indexes is not there yet")));
	return NULL;
}

IndexBulkDeleteResult *
search_vacuumcleanup(IndexVacuumInfo *info, IndexBulkDeleteResult *stats)
{
	return stats;
}
