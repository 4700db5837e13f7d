/*
 * changes_internal.h
 *		What the files of this room share with each other only.
 */
#ifndef PGOPT_CHANGES_INTERNAL_H
#define PGOPT_CHANGES_INTERNAL_H

#include "changes.h"

#include "pgstat.h"
#include "storage/lwlock.h"

/* Counts of one transaction for one table. */
typedef struct TableDelta
{
	uint64 inserted;
	uint64 updated;
	uint64 deleted;
	bool truncated;
} TableDelta;

/* counters.c */
extern void counters_shmem_request(void);
extern void counters_shmem_startup(void);
extern TableCounters *counters_pin(Oid relid);
extern TableCounters *counters_enter_unregistered(Oid relid);
extern void counters_unpin(TableCounters *counters);
extern void
counters_add(DatabaseState *db, TableCounters *counters, const TableDelta *delta, TimestampTz now);
extern void counters_mark_unknown(DatabaseState *db, TableCounters *counters, TimestampTz now);

/* databases.c */
extern void databases_shmem_request(void);
extern void databases_shmem_startup(void);

/* prepared.c */

/* What a COMMIT PREPARED needs to remember from before it to after it. */
typedef struct PreparedWatch
{
	bool known; /* the transaction was recorded */
	TransactionId xid;
	int nrelids;
	Oid *relids;        /* palloc'd, as is the next */
	TableDelta *before; /* this backend's pending counts, per table */
} PreparedWatch;

extern void prepared_shmem_request(void);
extern void prepared_shmem_startup(void);
extern void prepared_record(DatabaseState *db, TransactionId xid, const char *gid, bool all,
							bool ddl, const Oid *relids, int nrelids);
extern void prepared_pin_new_entry(TableCounters *counters);
extern void prepared_before_finish(const char *gid, PreparedWatch *watch);
extern void prepared_after_commit(DatabaseState *db, const PreparedWatch *watch);
extern void prepared_after_rollback(DatabaseState *db, const PreparedWatch *watch);

#endif /* PGOPT_CHANGES_INTERNAL_H */
