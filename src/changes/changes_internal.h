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

/* Was anything changed in a table, in one transaction? */
static inline bool
changed_something(const PgStat_TableXactStatus *trans)
{
	return trans->tuples_inserted > 0 || trans->tuples_updated > 0 || trans->tuples_deleted > 0 ||
		   trans->truncdropped;
}

/* catalogs.c */

/* What a change of a system catalog means to pgopt. */
typedef enum CatalogMeaning
{
	CATALOG_NOTHING,
	CATALOG_DEFINITIONS, /* what views read may have been redefined */
	CATALOG_FUNCTIONS,   /* the same, by what the functions that they call find */
	CATALOG_ROLES,       /* who may see which rows may have changed, in any database */
	CATALOG_CONTENTS,    /* what expressions yield may have changed */
	CATALOG_EXTENSION,   /* an extension came or went */
	CATALOG_DATABASE     /* a database came or went */
} CatalogMeaning;

extern bool catalogs_keep_contents(const PgStat_TableXactStatus *changes);
extern CatalogMeaning
catalog_meaning(const PgStat_TableXactStatus *trans, bool altered, bool contents_kept);

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
