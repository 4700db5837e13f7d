/*
 * prepared.c
 *		Prepared transactions: what they changed counts when they commit.
 *
 * COMMIT PREPARED fires no transaction callback with the transaction's
 * counts.  So PREPARE leaves a record in shared memory: which tables the
 * transaction changed.  From then on it holds those tables in flight.  COMMIT
 * PREPARED through SQL takes the counts as the difference that the server's
 * own two-phase code makes to this backend's pending statistics.  A logical
 * replication worker commits without passing through SQL: there the worker's
 * prepared_reconcile() sees that the transaction is gone and marks the tables
 * as unknown.  After a restart, and for a database that pgopt did not look
 * after when the transaction was prepared, prepared_adopt() makes the record
 * from the locks that the transaction holds.
 *
 * Owns PreparedShared and the hash of touched tables, both under
 * PreparedShared.lock.  Cost: per prepared transaction, its tables; per new
 * table with prepared transactions around, one scan of the touched tables.
 */
#include "pgopt.h"

#include "access/transam.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "changes_internal.h"
#include "compat.h"
#include "core.h"

#define TOUCHES_PER_TRANSACTION 32

typedef struct PreparedXact
{
	TransactionId xid; /* InvalidTransactionId = free */
	Oid dboid;
	bool all;  /* touched more tables than could be recorded */
	bool ddl;  /* changed catalogs that views depend on, or may have */
	bool gone; /* reconcile saw it gone once */
	char gid[GIDSIZE];
} PreparedXact;

typedef struct TouchKey
{
	TransactionId xid;
	Oid relid;
} TouchKey;

typedef struct Touch
{
	TouchKey key;
	Oid dboid;
	bool pinned; /* holds the table's entry in flight */
} Touch;

typedef struct PreparedShared
{
	LWLock *lock;
	pg_atomic_uint32 count;                    /* transactions recorded */
	PreparedXact xacts[FLEXIBLE_ARRAY_MEMBER]; /* max_prepared_xacts */
} PreparedShared;

static PreparedShared *shared = NULL;
static HTAB *touches = NULL;

static Size
prepared_size(void)
{
	return MAXALIGN(add_size(offsetof(PreparedShared, xacts),
							 mul_size(max_prepared_xacts, sizeof(PreparedXact))));
}

static long
max_touches(void)
{
	return (long) max_prepared_xacts * TOUCHES_PER_TRANSACTION + 1;
}

void
prepared_shmem_request(void)
{
	RequestAddinShmemSpace(prepared_size());
	RequestAddinShmemSpace(hash_estimate_size(max_touches(), sizeof(Touch)));
	RequestNamedLWLockTranche("pgopt prepared", 1);
}

void
prepared_shmem_startup(void)
{
	HASHCTL info;
	bool found;

	shared = ShmemInitStruct("pgopt prepared", prepared_size(), &found);
	if (!found)
	{
		memset(shared, 0, prepared_size());
		shared->lock = &(GetNamedLWLockTranche("pgopt prepared"))[0].lock;
		pg_atomic_init_u32(&shared->count, 0);
	}

	memset(&info, 0, sizeof(info));
	info.keysize = sizeof(TouchKey);
	info.entrysize = sizeof(Touch);
	touches = ShmemInitHash("pgopt prepared tables",
							max_touches(),
							max_touches(),
							&info,
							HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
}

static PreparedXact *
find_xact(TransactionId xid)
{
	for (int i = 0; i < max_prepared_xacts; i++)
		if (shared->xacts[i].xid == xid)
			return &shared->xacts[i];
	return NULL;
}

/* Records a prepared transaction of this database.  Raises nothing, allocates nothing. */
void
prepared_record(DatabaseState *db, TransactionId xid, const char *gid, bool all, bool ddl,
				const Oid *relids, int nrelids)
{
	PreparedXact *xact;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (find_xact(xid) != NULL)
	{
		LWLockRelease(shared->lock);
		return;
	}
	xact = find_xact(InvalidTransactionId);
	if (xact == NULL)
	{
		/* no view is called fresh from now on */
		pg_atomic_fetch_add_u32(&db->in_flight, 1);
		LWLockRelease(shared->lock);
		return;
	}
	xact->xid = xid;
	xact->dboid = MyDatabaseId;
	xact->all = all;
	xact->ddl = ddl;
	xact->gone = false;
	strlcpy(xact->gid, gid, GIDSIZE);
	pg_atomic_fetch_add_u32(&shared->count, 1);

	for (int i = 0; i < nrelids; i++)
	{
		TouchKey key = {xid, relids[i]};
		bool found;
		Touch *touch = hash_search(touches, &key, HASH_ENTER_NULL, &found);

		if (touch == NULL)
		{
			xact->all = true;
			break;
		}
		if (!found)
		{
			touch->dboid = MyDatabaseId;
			touch->pinned = (counters_pin(relids[i]) != NULL);
		}
	}
	if (xact->all)
		pg_atomic_fetch_add_u32(&db->in_flight, 1);
	if (xact->ddl)
		pg_atomic_fetch_add_u32(&db->ddl_in_flight, 1);
	LWLockRelease(shared->lock);
	database_wake_worker(db); /* from now on it looks now and then whether they are still there */
}

/* A table is counted from now on: prepared transactions that changed it hold it in flight. */
void
prepared_pin_new_entry(TableCounters *counters)
{
	HASH_SEQ_STATUS scan;
	Touch *touch;

	if (pg_atomic_read_u32(&shared->count) == 0)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	hash_seq_init(&scan, touches);
	while ((touch = hash_seq_search(&scan)) != NULL)
	{
		if (touch->key.relid == counters->key.relid && touch->dboid == counters->key.dboid &&
			!touch->pinned)
		{
			pg_atomic_fetch_add_u32(&counters->in_flight, 1);
			touch->pinned = true;
		}
	}
	LWLockRelease(shared->lock);
}

/* What becomes of a record's tables when it goes away. */
typedef enum Resolution
{
	RESOLVED_COUNTED, /* nothing changed, or its counts were added */
	RESOLVED_UNKNOWN  /* committed, and nobody knows the counts */
} Resolution;

static void
forget_xact(DatabaseState *db, PreparedXact *xact, Resolution resolution)
{
	HASH_SEQ_STATUS scan;
	Touch *touch;
	TimestampTz now = GetCurrentTimestamp();

	hash_seq_init(&scan, touches);
	while ((touch = hash_seq_search(&scan)) != NULL)
	{
		TableCounters *counters;

		if (touch->key.xid != xact->xid)
			continue;
		if (touch->key.relid == pg_atomic_read_u32(&db->config_relid))
			pg_atomic_fetch_add_u64(&db->config_generation, 1);
		counters = touch->pinned ? counters_find(touch->dboid, touch->key.relid) : NULL;
		if (counters != NULL)
		{
			if (resolution == RESOLVED_UNKNOWN)
			{
				pg_atomic_fetch_add_u64(&counters->foreign, 1);
				counters_mark_unknown(db, counters, now);
			}
			counters_unpin(counters);
		}
		hash_search(touches, &touch->key, HASH_REMOVE, NULL);
	}
	if (xact->all)
		pg_atomic_fetch_sub_u32(&db->in_flight, 1);
	if (xact->ddl)
		pg_atomic_fetch_sub_u32(&db->ddl_in_flight, 1);
	xact->xid = InvalidTransactionId;
	pg_atomic_fetch_sub_u32(&shared->count, 1);
}

/* What DDL it was is not recorded, so it was any. */
static void
announce_ddl(DatabaseState *db)
{
	pg_atomic_fetch_add_u64(&db->function_generation, 1);
	pg_atomic_fetch_add_u64(&db->config_generation, 1);
	databases_redefine_all();
	launcher_request_probe(MyDatabaseId);
}

/* This backend's pending counts for a table, which the server's two-phase code adds to. */
static TableDelta
pending_counts(Oid relid)
{
	PgStat_TableStatus *status = find_tabstat_entry(relid);
	TableDelta delta = {0};

	if (status != NULL)
	{
		delta.inserted = compat_tabstat_inserted(status);
		delta.updated = compat_tabstat_updated(status);
		delta.deleted = compat_tabstat_deleted(status);
		delta.truncated = compat_tabstat_truncated(status);
	}
	return delta;
}

/*
 * Before COMMIT PREPARED or ROLLBACK PREPARED: remembers the tables and this
 * backend's pending counts of them.  Allocates in the current context.
 */
void
prepared_before_finish(const char *gid, PreparedWatch *watch)
{
	HASH_SEQ_STATUS scan;
	Touch *touch;
	long room = max_touches();

	memset(watch, 0, sizeof(PreparedWatch));
	if (max_prepared_xacts == 0)
		return;
	watch->relids = palloc(room * sizeof(Oid));

	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < max_prepared_xacts; i++)
	{
		PreparedXact *xact = &shared->xacts[i];

		if (TransactionIdIsValid(xact->xid) && xact->dboid == MyDatabaseId &&
			strcmp(xact->gid, gid) == 0)
		{
			watch->known = true;
			watch->xid = xact->xid;
			break;
		}
	}
	if (watch->known)
	{
		hash_seq_init(&scan, touches);
		while ((touch = hash_seq_search(&scan)) != NULL)
			if (touch->key.xid == watch->xid)
				watch->relids[watch->nrelids++] = touch->key.relid;
	}
	LWLockRelease(shared->lock);

	watch->before = palloc((watch->nrelids + 1) * sizeof(TableDelta));
	for (int i = 0; i < watch->nrelids; i++)
		watch->before[i] = pending_counts(watch->relids[i]);
}

void
prepared_after_commit(DatabaseState *db, const PreparedWatch *watch)
{
	TimestampTz now = GetCurrentTimestamp();
	PreparedXact *xact;

	if (!watch->known)
	{
		database_mark_lost(db, LOST_PREPARED);
		return;
	}

	for (int i = 0; i < watch->nrelids; i++)
	{
		const TableDelta *before = &watch->before[i];
		TableDelta after = pending_counts(watch->relids[i]);
		TableCounters *counters = counters_find(MyDatabaseId, watch->relids[i]);

		if (counters == NULL)
			continue;
		after.inserted -= before->inserted;
		after.updated -= before->updated;
		after.deleted -= before->deleted;
		if (after.inserted + after.updated + after.deleted == 0 && !after.truncated)
			continue;
		/* who refreshed a matview in it is not recorded, so it was somebody else */
		pg_atomic_fetch_add_u64(&counters->foreign, 1);
		counters_add(db, counters, &after, now);
	}

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	xact = find_xact(watch->xid);
	if (xact != NULL)
	{
		if (xact->all)
			database_mark_lost(db, LOST_PREPARED);
		if (xact->ddl)
			announce_ddl(db);
		forget_xact(db, xact, RESOLVED_COUNTED);
	}
	LWLockRelease(shared->lock);
	database_wake_worker(db);
}

void
prepared_after_rollback(DatabaseState *db, const PreparedWatch *watch)
{
	PreparedXact *xact;

	if (!watch->known)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	xact = find_xact(watch->xid);
	if (xact != NULL)
		forget_xact(db, xact, RESOLVED_COUNTED);
	LWLockRelease(shared->lock);
}

/*
 * Records this database's prepared transactions that pgopt did not see being
 * prepared: what they changed is what they hold a lock for writing on.
 */
void
prepared_adopt(DatabaseState *db)
{
	PgoptSpi spi;
	uint64 rows;

	if (max_prepared_xacts > 0)
	{
		pgopt_spi_begin(&spi);
		rows =
			pgopt_spi_execute("SELECT p.transaction, p.gid, l.relation"
							  "  FROM pg_prepared_xacts p"
							  "  LEFT JOIN pg_locks l ON l.locktype = 'relation'"
							  "       AND l.pid IS NULL AND l.granted"
							  "       AND l.virtualtransaction = '-1/' || p.transaction::text"
							  "       AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock',"
							  "                      'ExclusiveLock', 'AccessExclusiveLock')"
							  " WHERE p.database = current_database()"
							  " ORDER BY p.transaction::text",
							  0,
							  NULL,
							  NULL,
							  NULL,
							  false,
							  SPI_OK_SELECT);
		for (uint64 row = 0; row < rows;)
		{
			bool isnull;
			TransactionId xid = DatumGetTransactionId(pgopt_spi_value(row, 1, &isnull));
			char *gid = pgopt_spi_text(row, 2);
			Oid *relids = palloc(rows * sizeof(Oid));
			int nrelids = 0;

			for (; row < rows && DatumGetTransactionId(pgopt_spi_value(row, 1, &isnull)) == xid;
				 row++)
			{
				Oid relid = DatumGetObjectId(pgopt_spi_value(row, 3, &isnull));

				if (!isnull && relid >= FirstNormalObjectId)
					relids[nrelids++] = relid;
			}
			prepared_record(db, xid, gid, true, true, relids, nrelids);
		}
		pgopt_spi_end(&spi);
	}
	pg_atomic_write_u32(&db->prepared_adopted, 1);
}

/*
 * Finds recorded transactions that ended without passing through SQL.  One
 * that ends right now may still be about to be counted by its own backend, so
 * it is taken for lost only when it is found gone a second time.
 */
void
prepared_reconcile(DatabaseState *db)
{
	if (shared == NULL || pg_atomic_read_u32(&shared->count) == 0)
		return;

	for (int i = 0; i < max_prepared_xacts; i++)
	{
		PreparedXact *xact = &shared->xacts[i];
		TransactionId xid = xact->xid;
		bool committed;

		if (!TransactionIdIsValid(xid) || xact->dboid != MyDatabaseId ||
			TransactionIdIsInProgress(xid))
			continue;
		committed = TransactionIdDidCommit(xid);

		LWLockAcquire(shared->lock, LW_EXCLUSIVE);
		if (xact->xid == xid && !xact->gone)
			xact->gone = true;
		else if (xact->xid == xid)
		{
			if (committed && xact->all)
				database_mark_lost(db, LOST_PREPARED);
			if (committed && xact->ddl)
				announce_ddl(db);
			forget_xact(db, xact, committed ? RESOLVED_UNKNOWN : RESOLVED_COUNTED);
		}
		LWLockRelease(shared->lock);
	}
}

int
prepared_count(Oid dboid)
{
	int count = 0;

	if (shared == NULL || pg_atomic_read_u32(&shared->count) == 0)
		return 0;
	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < max_prepared_xacts; i++)
		if (TransactionIdIsValid(shared->xacts[i].xid) && shared->xacts[i].dboid == dboid)
			count++;
	LWLockRelease(shared->lock);
	return count;
}
