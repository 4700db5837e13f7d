/*
 * counters.c
 *		The table of counters: one entry a counted table, for all databases.
 *
 * Owns a partitioned hash table in shared memory whose size is fixed at
 * start.  A partition lock protects which entries exist; what they hold are
 * atomics.  An entry that is registered or in flight is never removed, so its
 * pointer stays good for whoever registered it or pinned it.
 *
 * What transaction callbacks call (pin, find, enter, add) raises no error and
 * allocates no memory of the process: an error there would be the user's.
 */
#include "pgopt.h"

#include "access/transam.h"
#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "changes_internal.h"
#include "core.h"

#define PARTITIONS 32

typedef struct CountersShared
{
	LWLockPadded *locks;               /* PARTITIONS of them */
	pg_atomic_uint64 births;           /* entries made so far */
	pg_atomic_uint32 nothing_to_evict; /* nothing was let go of since this was found out */
	pg_atomic_uint64 refused;          /* registrations that found no room */
} CountersShared;

static CountersShared *shared = NULL;
static HTAB *counters_hash = NULL;

void
counters_shmem_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(CountersShared)));
	RequestAddinShmemSpace(hash_estimate_size(pgopt_max_tracked_tables, sizeof(TableCounters)));
	RequestNamedLWLockTranche("pgopt counters", PARTITIONS);
}

void
counters_shmem_startup(void)
{
	HASHCTL info;
	bool found;

	shared = ShmemInitStruct("pgopt counters", sizeof(CountersShared), &found);
	if (!found)
	{
		shared->locks = GetNamedLWLockTranche("pgopt counters");
		pg_atomic_init_u32(&shared->nothing_to_evict, 0);
		pg_atomic_init_u64(&shared->births, 0);
		pg_atomic_init_u64(&shared->refused, 0);
	}

	memset(&info, 0, sizeof(info));
	info.keysize = sizeof(TableKey);
	info.entrysize = sizeof(TableCounters);
	info.num_partitions = PARTITIONS;
	counters_hash = ShmemInitHash("pgopt counters hash",
								  pgopt_max_tracked_tables,
								  pgopt_max_tracked_tables,
								  &info,
								  HASH_ELEM | HASH_BLOBS | HASH_PARTITION | HASH_FIXED_SIZE);
}

static inline LWLock *
partition_lock(uint32 hash)
{
	return &shared->locks[hash % PARTITIONS].lock;
}

static TableCounters *
lookup(Oid dboid, Oid relid, bool pin)
{
	TableKey key = {dboid, relid};
	uint32 hash = get_hash_value(counters_hash, &key);
	TableCounters *entry;

	LWLockAcquire(partition_lock(hash), LW_SHARED);
	entry = hash_search_with_hash_value(counters_hash, &key, hash, HASH_FIND, NULL);
	if (entry != NULL && pin)
		pg_atomic_fetch_add_u32(&entry->in_flight, 1);
	LWLockRelease(partition_lock(hash));
	return entry;
}

TableCounters *
counters_find(Oid dboid, Oid relid)
{
	return shared ? lookup(dboid, relid, false) : NULL;
}

/* Finds an entry of this database and marks it as in flight. */
TableCounters *
counters_pin(Oid relid)
{
	return lookup(MyDatabaseId, relid, true);
}

void
counters_unpin(TableCounters *counters)
{
	pg_atomic_fetch_sub_u32(&counters->in_flight, 1);
}

static void
init_entry(TableCounters *entry)
{
	entry->registered = false;
	entry->claimed_by = InvalidTransactionId;
	entry->birth = pg_atomic_add_fetch_u64(&shared->births, 1);
	pg_atomic_init_u64(&entry->verified_generation, 0);
	pg_atomic_init_u64(&entry->verified_fingerprint, 0);
	pg_atomic_init_u32(&entry->in_flight, 0);
	pg_atomic_init_u64(&entry->inserted, 0);
	pg_atomic_init_u64(&entry->updated, 0);
	pg_atomic_init_u64(&entry->deleted, 0);
	pg_atomic_init_u64(&entry->truncated, 0);
	pg_atomic_init_u64(&entry->unknown, 0);
	pg_atomic_init_u64(&entry->foreign, 0);
	pg_atomic_init_u64(&entry->first_change, 0);
	pg_atomic_init_u64(&entry->last_change, 0);
	pg_atomic_init_u64(&entry->wake_at, PG_UINT64_MAX);
}

static TableCounters *
enter(Oid relid, bool registered, TransactionId claimed_by)
{
	TableKey key = {MyDatabaseId, relid};
	uint32 hash = get_hash_value(counters_hash, &key);
	TableCounters *entry;
	bool found;

	LWLockAcquire(partition_lock(hash), LW_EXCLUSIVE);
	entry = hash_search_with_hash_value(counters_hash, &key, hash, HASH_ENTER_NULL, &found);
	if (entry != NULL)
	{
		if (!found)
			init_entry(entry);
		if (registered)
			entry->registered = true;
		/* of several claims, the youngest one outlives the others */
		if (TransactionIdIsValid(claimed_by) &&
			(!TransactionIdIsValid(entry->claimed_by) ||
			 TransactionIdFollows(claimed_by, entry->claimed_by)))
			entry->claimed_by = claimed_by;
	}
	LWLockRelease(partition_lock(hash));
	return entry;
}

/*
 * Keys of the entries of one database, or of unregistered idle ones of all
 * (InvalidOid).  All partitions are locked, but shared: commits go on.
 */
static TableKey *
list_keys(Oid dboid, int *count)
{
	long room = hash_get_num_entries(counters_hash) + 1024;
	TableKey *keys = palloc(room * sizeof(TableKey));
	HASH_SEQ_STATUS scan;
	TableCounters *entry;

	*count = 0;
	for (int i = 0; i < PARTITIONS; i++)
		LWLockAcquire(&shared->locks[i].lock, LW_SHARED);
	hash_seq_init(&scan, counters_hash);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		bool wanted = OidIsValid(dboid)
						  ? entry->key.dboid == dboid
						  : !entry->registered && pg_atomic_read_u32(&entry->in_flight) == 0;

		if (wanted && *count < room)
			keys[(*count)++] = entry->key;
	}
	for (int i = PARTITIONS - 1; i >= 0; i--)
		LWLockRelease(&shared->locks[i].lock);
	return keys;
}

/*
 * Removes one unregistered, idle entry of any database to make room.  It
 * happens only when a view needs a table that finds none.
 */
static bool
evict_one(void)
{
	int count;
	TableKey *keys;
	bool evicted = false;

	if (pg_atomic_exchange_u32(&shared->nothing_to_evict, 1) != 0)
		return false;
	keys = list_keys(InvalidOid, &count);

	for (int i = 0; i < count && !evicted; i++)
	{
		uint32 hash = get_hash_value(counters_hash, &keys[i]);
		TableCounters *entry;

		LWLockAcquire(partition_lock(hash), LW_EXCLUSIVE);
		entry = hash_search_with_hash_value(counters_hash, &keys[i], hash, HASH_FIND, NULL);
		if (entry != NULL && !entry->registered && pg_atomic_read_u32(&entry->in_flight) == 0)
		{
			hash_search_with_hash_value(counters_hash, &keys[i], hash, HASH_REMOVE, NULL);
			evicted = true;
		}
		LWLockRelease(partition_lock(hash));
	}
	pfree(keys);
	if (evicted)
		pg_atomic_write_u32(&shared->nothing_to_evict, 0);
	return evicted;
}

static TableCounters *
register_table(Oid relid, TransactionId claimed_by)
{
	TableCounters *entry;

	if (shared == NULL)
		return NULL;
	entry = enter(relid, true, claimed_by);
	if (entry == NULL && evict_one())
		entry = enter(relid, true, claimed_by);
	if (entry == NULL)
		pg_atomic_fetch_add_u64(&shared->refused, 1);
	else
		prepared_pin_new_entry(entry);
	return entry;
}

TableCounters *
counters_register(Oid relid)
{
	return register_table(relid, InvalidTransactionId);
}

TableCounters *
counters_claim(Oid relid)
{
	return register_table(relid, GetTopTransactionId());
}

/* For pgopt.track_all_tables: a full table is no harm here, no view reads this one. */
TableCounters *
counters_enter_unregistered(Oid relid)
{
	pg_atomic_write_u32(&shared->nothing_to_evict, 0);
	return enter(relid, false, InvalidTransactionId);
}

/*
 * Lets go of one table, unless a transaction that did not end before xmin has
 * claimed it: what that one will commit may need it.
 */
static void
release_entry(const TableKey *key, bool kept, TransactionId xmin, bool remove)
{
	uint32 hash = get_hash_value(counters_hash, key);
	TableCounters *entry;

	LWLockAcquire(partition_lock(hash), LW_EXCLUSIVE);
	entry = hash_search_with_hash_value(counters_hash, key, hash, HASH_FIND, NULL);
	if (entry != NULL && TransactionIdIsValid(entry->claimed_by) && TransactionIdIsValid(xmin))
	{
		if (TransactionIdPrecedes(entry->claimed_by, xmin))
			entry->claimed_by = InvalidTransactionId;
		else
			kept = true;
	}
	if (entry != NULL && !kept)
	{
		entry->registered = false;
		pg_atomic_write_u32(&shared->nothing_to_evict, 0);
		pg_atomic_write_u64(&entry->wake_at, PG_UINT64_MAX);
		if (remove && pg_atomic_read_u32(&entry->in_flight) == 0)
			hash_search_with_hash_value(counters_hash, key, hash, HASH_REMOVE, NULL);
	}
	LWLockRelease(partition_lock(hash));
}

/* Only entries that change are locked, one at a time: commits wait for next to nothing. */
static void
release_entries(Oid dboid, const Oid *keep, int nkeep, TransactionId xmin, bool remove)
{
	int count;
	TableKey *keys = list_keys(dboid, &count);

	for (int i = 0; i < count; i++)
	{
		bool kept = nkeep > 0 && bsearch(&keys[i].relid, keep, nkeep, sizeof(Oid), oid_cmp) != NULL;
		TableCounters *entry = kept ? counters_find(dboid, keys[i].relid) : NULL;

		if (kept && (entry == NULL || !TransactionIdIsValid(entry->claimed_by)))
			continue;
		release_entry(&keys[i], kept, xmin, remove);
	}
	pfree(keys);
}

void
counters_retain(const Oid *relids, int nrelids, TransactionId xmin)
{
	if (shared != NULL)
		release_entries(MyDatabaseId, relids, nrelids, xmin, !pgopt_track_all_tables);
}

void
counters_forget_database(Oid dboid)
{
	if (shared != NULL)
		release_entries(dboid, NULL, 0, InvalidTransactionId, true);
}

void
counters_sum(const Oid *relids, int nrelids, ChangeSums *sums)
{
	memset(sums, 0, sizeof(ChangeSums));
	sums->complete = (shared != NULL);
	if (shared == NULL)
		return;

	for (int i = 0; i < nrelids; i++)
	{
		TableCounters *entry = lookup(MyDatabaseId, relids[i], false);
		TimestampTz first;
		TimestampTz last;

		if (entry == NULL)
		{
			sums->complete = false;
			continue;
		}

		/* in_flight before the counts: see the head of changes.h */
		if (pg_atomic_read_u32(&entry->in_flight) > 0)
			sums->in_flight = true;
		pg_read_barrier();
		sums->rows += pg_atomic_read_u64(&entry->inserted) + pg_atomic_read_u64(&entry->updated) +
					  pg_atomic_read_u64(&entry->deleted);
		sums->truncated += pg_atomic_read_u64(&entry->truncated);
		sums->unknown += pg_atomic_read_u64(&entry->unknown) + entry->birth;
		first = (TimestampTz) pg_atomic_read_u64(&entry->first_change);
		last = (TimestampTz) pg_atomic_read_u64(&entry->last_change);
		if (first != 0 && (sums->first_change == 0 || first < sums->first_change))
			sums->first_change = first;
		sums->last_change = Max(sums->last_change, last);

		/* The entry was not ours to keep: was it replaced while we read? */
		pg_read_barrier();
		if (entry->key.relid != relids[i] || entry->key.dboid != MyDatabaseId)
			sums->complete = false;
	}
}

/*
 * Adds what a transaction did.  The wake-up is armed for a number of rows by
 * the worker and disarmed by the first commit that reaches it, so that a
 * burst of commits sets the latch once.
 */
static void
wake_if_due(DatabaseState *db, TableCounters *counters, bool always)
{
	uint64 wake_at = pg_atomic_read_u64(&counters->wake_at);
	uint64 rows;

	if (wake_at == PG_UINT64_MAX)
		return;
	rows = pg_atomic_read_u64(&counters->inserted) + pg_atomic_read_u64(&counters->updated) +
		   pg_atomic_read_u64(&counters->deleted);
	if ((always || rows >= wake_at) &&
		pg_atomic_compare_exchange_u64(&counters->wake_at, &wake_at, PG_UINT64_MAX))
		database_wake_worker(db);
}

static void
stamp(TableCounters *counters, TimestampTz now)
{
	uint64 none = 0;

	(void) pg_atomic_compare_exchange_u64(&counters->first_change, &none, (uint64) now);
	pg_atomic_write_u64(&counters->last_change, (uint64) now);
}

void
counters_add(DatabaseState *db, TableCounters *counters, const TableDelta *delta, TimestampTz now)
{
	stamp(counters, now);
	if (delta->inserted > 0)
		pg_atomic_fetch_add_u64(&counters->inserted, delta->inserted);
	if (delta->updated > 0)
		pg_atomic_fetch_add_u64(&counters->updated, delta->updated);
	if (delta->deleted > 0)
		pg_atomic_fetch_add_u64(&counters->deleted, delta->deleted);
	if (delta->truncated)
		pg_atomic_fetch_add_u64(&counters->truncated, 1);
	wake_if_due(db, counters, delta->truncated);
}

void
counters_mark_unknown(DatabaseState *db, TableCounters *counters, TimestampTz now)
{
	stamp(counters, now);
	pg_atomic_fetch_add_u64(&counters->unknown, 1);
	wake_if_due(db, counters, true);
}

Oid *
counters_list(int *count)
{
	TableKey *keys = list_keys(MyDatabaseId, count);
	Oid *relids = palloc((*count + 1) * sizeof(Oid));

	for (int i = 0; i < *count; i++)
		relids[i] = keys[i].relid;
	pfree(keys);
	return relids;
}

bool
counters_is_verified(Oid view, uint64 generation, uint64 fingerprint)
{
	TableCounters *entry = counters_find(MyDatabaseId, view);

	if (entry == NULL || pg_atomic_read_u64(&entry->verified_generation) != generation)
		return false;
	pg_read_barrier();
	return pg_atomic_read_u64(&entry->verified_fingerprint) == fingerprint;
}

/* Only the worker sets it. */
void
counters_set_verified(Oid view, uint64 generation, uint64 fingerprint)
{
	TableCounters *entry = counters_find(MyDatabaseId, view);

	if (entry == NULL)
		return;
	pg_atomic_write_u64(&entry->verified_generation, 0);
	pg_write_barrier();
	pg_atomic_write_u64(&entry->verified_fingerprint, fingerprint);
	pg_write_barrier();
	pg_atomic_write_u64(&entry->verified_generation, generation);
}

int64
counters_in_use(void)
{
	return counters_hash ? hash_get_num_entries(counters_hash) : 0;
}

uint64
counters_refused(void)
{
	return shared ? pg_atomic_read_u64(&shared->refused) : 0;
}
