/*
 * vacuum.h
 *		What VACUUM does to an index.
 */
#ifndef PGOPT_SEARCH_VACUUM_H
#define PGOPT_SEARCH_VACUUM_H

#include "access/genam.h"

/* ambulkdelete, amvacuumcleanup. */
extern IndexBulkDeleteResult *
search_bulkdelete(IndexVacuumInfo *info, IndexBulkDeleteResult *stats,
				  IndexBulkDeleteCallback callback, void *callback_state);
extern IndexBulkDeleteResult *
search_vacuumcleanup(IndexVacuumInfo *info, IndexBulkDeleteResult *stats);

#endif /* PGOPT_SEARCH_VACUUM_H */
