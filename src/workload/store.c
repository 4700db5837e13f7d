/*
 * store.c
 *		Counts of statements in shared memory.
 *
 * Owns the hash table of statements, the slots of databases, the list of
 * statements whose rows are to be counted.  The table is partitioned; an
 * execution takes its partition's lock shared, and the entry's spinlock.  A new
 * statement takes it exclusively.  When the table is full, a tenth of its
 * entries goes, least used first, so that many distinct statements cost one
 * pass over the table for every tenth of it.
 *
 * Nothing here raises an error or allocates, but what hands out copies.
 */
#include "pgopt.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "core.h"
#include "workload_internal.h"

#define PARTITIONS   16
#define WANTED_PLANS 32
#define TRANCHE      "pgopt workload"

/* Entries age by this at each eviction. */
#define USAGE_DECREASE 0.9

/* A sample is also taken of an execution so many times as slow as the slowest sampled one. */
#define MUCH_SLOWER 2.0

/* Below this nothing is called slow. */
#define SHORTEST_SLOW_MS 1.0

typedef struct WorkloadShared
{
	pg_atomic_uint32 entries;
	pg_atomic_uint32 wanted_plans; /* in use */
	pg_atomic_uint64 wanted[WANTED_PLANS];
	pg_atomic_uint64 counters[USAGE_COUNTERS];
	WorkloadDatabase databases[PGOPT_MAX_DATABASES];
} WorkloadShared;

static WorkloadShared *shared = NULL;
static HTAB *statements = NULL;
static LWLockPadded *locks = NULL; /* PARTITIONS, the buffer's, the databases' */
static WorkloadDatabase *own_database = NULL;

#define BUFFER_LOCK    (&locks[PARTITIONS].lock)
#define DATABASES_LOCK (&locks[PARTITIONS + 1].lock)

void
store_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(WorkloadShared)));
	RequestAddinShmemSpace(hash_estimate_size(pgopt_workload_statements, sizeof(StatementEntry)));
	RequestAddinShmemSpace(buffer_shmem_size());
	RequestNamedLWLockTranche(TRANCHE, PARTITIONS + 2);
}

void
store_startup(void)
{
	HASHCTL info = {0};
	bool found;

	shared = ShmemInitStruct("pgopt workload", sizeof(WorkloadShared), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(WorkloadShared));
		pg_atomic_init_u32(&shared->entries, 0);
		pg_atomic_init_u32(&shared->wanted_plans, 0);
		for (int i = 0; i < WANTED_PLANS; i++)
			pg_atomic_init_u64(&shared->wanted[i], 0);
		for (int i = 0; i < USAGE_COUNTERS; i++)
			pg_atomic_init_u64(&shared->counters[i], 0);
		for (int i = 0; i < PGOPT_MAX_DATABASES; i++)
		{
			WorkloadDatabase *database = &shared->databases[i];

			pg_atomic_init_u32(&database->installed, INSTALLED_UNKNOWN);
			pg_atomic_init_u32(&database->waiting, 0);
			pg_atomic_init_u64(&database->since, 0);
			pg_atomic_init_u64(&database->period, 0);
			pg_atomic_init_u64(&database->written, 0);
			pg_atomic_init_u64(&database->next, 0);
		}
	}
	info.keysize = sizeof(StatementKey);
	info.entrysize = sizeof(StatementEntry);
	info.num_partitions = PARTITIONS;
	statements = ShmemInitHash("pgopt workload statements",
							   pgopt_workload_statements,
							   pgopt_workload_statements,
							   &info,
							   HASH_ELEM | HASH_BLOBS | HASH_PARTITION);
	locks = GetNamedLWLockTranche(TRANCHE);
	buffer_startup(BUFFER_LOCK);
}

bool
store_ready(void)
{
	return shared != NULL;
}

void
store_add(UsageCounter counter, uint64 n)
{
	pg_atomic_fetch_add_u64(&shared->counters[counter], n);
}

void
store_usage(WorkloadUsage *usage)
{
	usage->entries = pg_atomic_read_u32(&shared->entries);
	usage->evicted = pg_atomic_read_u64(&shared->counters[USAGE_EVICTED]);
	usage->lost = pg_atomic_read_u64(&shared->counters[USAGE_LOST]);
	usage->dropped = pg_atomic_read_u64(&shared->counters[USAGE_DROPPED]);
	usage->long_texts = pg_atomic_read_u64(&shared->counters[USAGE_LONG]);
	usage->failed = pg_atomic_read_u64(&shared->counters[USAGE_FAILED]);
	usage->buffer_size = (int64) pgopt_workload_memory * 1024;
	usage->buffer_bytes = buffer_used();
}

/* --- databases -------------------------------------------------------------------- */

static WorkloadDatabase *
find_slot(Oid dboid)
{
	for (int i = 0; i < PGOPT_MAX_DATABASES; i++)
		if (shared->databases[i].dboid == dboid)
			return &shared->databases[i];
	return NULL;
}

WorkloadDatabase *
store_database(void)
{
	static bool no_room = false;
	TimestampTz now;

	if (own_database != NULL || no_room || shared == NULL || !OidIsValid(MyDatabaseId))
		return own_database;
	now = GetCurrentTimestamp();
	LWLockAcquire(DATABASES_LOCK, LW_EXCLUSIVE);
	own_database = find_slot(MyDatabaseId);
	if (own_database == NULL && (own_database = find_slot(InvalidOid)) != NULL)
	{
		pg_atomic_write_u32(&own_database->installed, INSTALLED_UNKNOWN);
		pg_atomic_write_u32(&own_database->waiting, 0);
		pg_atomic_write_u64(&own_database->since, 0);
		pg_atomic_write_u64(&own_database->period, (uint64) now);
		pg_atomic_write_u64(&own_database->written, 0);
		pg_atomic_write_u64(&own_database->next, 0);
		own_database->dboid = MyDatabaseId;
	}
	LWLockRelease(DATABASES_LOCK);
	no_room = own_database == NULL;
	return own_database;
}

/* --- entries ------------------------------------------------------------------------ */

static LWLock *
partition_lock(uint32 hash)
{
	return &locks[hash % PARTITIONS].lock;
}

static void
lock_all(LWLockMode mode)
{
	for (int i = 0; i < PARTITIONS; i++)
		LWLockAcquire(&locks[i].lock, mode);
}

static void
unlock_all(void)
{
	for (int i = PARTITIONS - 1; i >= 0; i--)
		LWLockRelease(&locks[i].lock);
}

/* The entry, with its partition's lock held shared; NULL, and no lock, where there is none. */
static StatementEntry *
find_entry(const StatementKey *key, LWLock **lock)
{
	uint32 hash = get_hash_value(statements, key);
	StatementEntry *entry;

	*lock = partition_lock(hash);
	LWLockAcquire(*lock, LW_SHARED);
	entry = hash_search_with_hash_value(statements, key, hash, HASH_FIND, NULL);
	if (entry == NULL)
		LWLockRelease(*lock);
	return entry;
}

static void
add_counts(PeriodCounts *to, const PeriodCounts *from)
{
	to->calls += from->calls;
	to->milliseconds += from->milliseconds;
	to->squares += from->squares;
	to->rows += from->rows;
	to->last = Max(to->last, from->last);
}

/*
 * The counts of the period that goes on.  What an entry can hold are two: where
 * a third one begins before any was written, the second is added to the first.
 */
static PeriodCounts *
current_counts(StatementEntry *entry, TimestampTz period)
{
	if (entry->current.start < period)
	{
		if (entry->current.calls > 0 && entry->previous.calls > 0)
			add_counts(&entry->previous, &entry->current);
		else if (entry->current.calls > 0)
			entry->previous = entry->current;
		memset(&entry->current, 0, sizeof(PeriodCounts));
		entry->current.start = period;
	}
	return &entry->current;
}

static bool
is_power_of_two(uint64 n)
{
	return (n & (n - 1)) == 0;
}

bool
store_count(const StatementKey *key, Execution *execution)
{
	double ms = execution->milliseconds;
	StatementEntry *entry;
	PeriodCounts *counts;
	LWLock *lock;

	execution->sample = execution->want_plan = false;
	entry = find_entry(key, &lock);
	if (entry == NULL)
		return false;

	SpinLockAcquire(&entry->mutex);
	counts = current_counts(entry, execution->period);
	counts->calls += execution->weight;
	counts->milliseconds += execution->weight * ms;
	counts->squares += execution->weight * ms * ms;
	counts->rows += execution->weight * execution->rows;
	counts->last = Max(counts->last, execution->at);
	entry->last_seen = Max(entry->last_seen, execution->at);
	entry->usage += 1.0 + ms;
	entry->command = execution->command;
	entry->seen++;
	if (ms >= pgopt_workload_slow)
	{
		entry->slow_runs++;
		execution->want_plan = !execution->has_plan && is_power_of_two(entry->slow_runs);
	}
	if (execution->may_sample &&
		(entry->seen >= entry->next_sample || (execution->has_plan && ms >= pgopt_workload_slow) ||
		 (ms >= SHORTEST_SLOW_MS && ms > MUCH_SLOWER * entry->slowest)))
	{
		execution->sample = true;
		entry->next_sample = Max(entry->next_sample, 2 * entry->seen);
		entry->slowest = Max(entry->slowest, ms);
	}
	SpinLockRelease(&entry->mutex);
	LWLockRelease(lock);
	return true;
}

static int
compare_usage(const void *a, const void *b)
{
	double left = (*(StatementEntry *const *) a)->usage;
	double right = (*(StatementEntry *const *) b)->usage;

	return (left > right) - (left < right);
}

/* Makes room for a tenth of the table.  The caller holds all partition locks. */
static void
evict(void)
{
	HASH_SEQ_STATUS scan;
	StatementEntry **all;
	StatementEntry *entry;
	int n = 0;
	int victims;
	int lost = 0;

	all = malloc(pgopt_workload_statements * sizeof(StatementEntry *));
	if (all == NULL)
		return;
	hash_seq_init(&scan, statements);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		entry->usage *= USAGE_DECREASE;
		if (n < pgopt_workload_statements)
			all[n++] = entry;
	}
	qsort(all, n, sizeof(StatementEntry *), compare_usage);
	victims = Min(n, Max(1, pgopt_workload_statements / 10));
	for (int i = 0; i < victims; i++)
	{
		StatementKey key = all[i]->key;

		lost += all[i]->current.calls > 0 || all[i]->previous.calls > 0;
		hash_search(statements, &key, HASH_REMOVE, NULL);
	}
	free(all);
	pg_atomic_fetch_sub_u32(&shared->entries, victims);
	store_add(USAGE_EVICTED, victims);
	store_add(USAGE_LOST, lost);
}

void
store_create(const StatementKey *key, CmdType command, TimestampTz now)
{
	uint32 hash = get_hash_value(statements, key);
	LWLock *lock = partition_lock(hash);
	StatementEntry *entry;
	bool found;

	if (pg_atomic_read_u32(&shared->entries) >= (uint32) pgopt_workload_statements)
	{
		lock_all(LW_EXCLUSIVE);
		if (pg_atomic_read_u32(&shared->entries) >= (uint32) pgopt_workload_statements)
			evict();
		unlock_all();
	}
	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = hash_search_with_hash_value(statements, key, hash, HASH_ENTER_NULL, &found);
	if (entry != NULL && !found)
	{
		memset((char *) entry + sizeof(StatementKey),
			   0,
			   sizeof(StatementEntry) - sizeof(StatementKey));
		SpinLockInit(&entry->mutex);
		entry->command = command;
		entry->next_sample = 1;
		entry->first_seen = now;
		pg_atomic_fetch_add_u32(&shared->entries, 1);
	}
	LWLockRelease(lock);
}

bool
store_has_text(const StatementKey *key)
{
	LWLock *lock;
	StatementEntry *entry = find_entry(key, &lock);
	bool has_text = entry != NULL && entry->has_text;

	if (entry != NULL)
		LWLockRelease(lock);
	return has_text;
}

void
store_set_text(const StatementKey *key, bool has_text)
{
	LWLock *lock;
	StatementEntry *entry = find_entry(key, &lock);

	if (entry == NULL)
		return;
	SpinLockAcquire(&entry->mutex);
	entry->has_text = has_text;
	if (!has_text)
		entry->next_sample = entry->seen + 1;
	SpinLockRelease(&entry->mutex);
	LWLockRelease(lock);
}

void
store_postpone(const StatementKey *key)
{
	LWLock *lock;
	StatementEntry *entry = find_entry(key, &lock);

	if (entry == NULL)
		return;
	SpinLockAcquire(&entry->mutex);
	entry->next_sample = entry->seen + 1 + entry->seen / 8;
	SpinLockRelease(&entry->mutex);
	LWLockRelease(lock);
}

StatementEntry *
store_entries(bool take, int *count)
{
	StatementEntry *entries;
	StatementEntry *entry;
	HASH_SEQ_STATUS scan;
	int room;

	/* memory first: nothing may be raised under the locks */
	room = (int) pg_atomic_read_u32(&shared->entries) + 1000;
	entries = MemoryContextAllocHuge(CurrentMemoryContext, room * sizeof(StatementEntry));
	*count = 0;
	lock_all(LW_SHARED);
	hash_seq_init(&scan, statements);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		StatementEntry *copy = &entries[*count];

		if (entry->key.dboid != MyDatabaseId || *count == room)
			continue;
		SpinLockAcquire(&entry->mutex);
		*copy = *entry;
		if (take)
		{
			entry->current.calls = entry->current.milliseconds = 0;
			entry->current.squares = entry->current.rows = 0;
			memset(&entry->previous, 0, sizeof(PeriodCounts));
		}
		SpinLockRelease(&entry->mutex);
		if (take ? copy->current.calls > 0 || copy->previous.calls > 0 : copy->seen > 0)
			(*count)++;
	}
	unlock_all();
	return entries;
}

void
store_give_back(const StatementEntry *taken)
{
	LWLock *lock;
	StatementEntry *entry = find_entry(&taken->key, &lock);

	if (entry == NULL)
	{
		store_add(USAGE_LOST, 1);
		return;
	}
	SpinLockAcquire(&entry->mutex);
	if (taken->previous.calls > 0)
	{
		if (entry->previous.calls == 0)
			entry->previous.start = taken->previous.start;
		add_counts(&entry->previous, &taken->previous);
	}
	if (taken->current.start == entry->current.start)
		add_counts(&entry->current, &taken->current);
	else
	{
		if (entry->previous.calls == 0)
			entry->previous.start = taken->current.start;
		add_counts(&entry->previous, &taken->current);
	}
	SpinLockRelease(&entry->mutex);
	LWLockRelease(lock);
}

static void
forget_entries_of(Oid dboid)
{
	HASH_SEQ_STATUS scan;
	StatementEntry *entry;
	uint32 removed = 0;

	lock_all(LW_EXCLUSIVE);
	hash_seq_init(&scan, statements);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		StatementKey key = entry->key;

		if (key.dboid != dboid)
			continue;
		hash_search(statements, &key, HASH_REMOVE, NULL);
		removed++;
	}
	pg_atomic_fetch_sub_u32(&shared->entries, removed);
	unlock_all();
}

void
store_forget_entries(void)
{
	forget_entries_of(MyDatabaseId);
}

void
store_forget_database(Oid dboid)
{
	WorkloadDatabase *database;

	if (shared == NULL)
		return;
	forget_entries_of(dboid);
	LWLockAcquire(DATABASES_LOCK, LW_EXCLUSIVE);
	database = find_slot(dboid);
	if (database != NULL)
		database->dboid = InvalidOid;
	LWLockRelease(DATABASES_LOCK);
}

/* --- statements whose rows are to be counted ------------------------------------------ */

/* A number for the statement that is never 0; two that share one do no harm. */
static uint64
wanted_number(const StatementKey *key)
{
	uint64 number = hash_combine64(key->queryid, ((uint64) key->dboid << 32) | key->userid);

	return number != 0 ? number : 1;
}

void
store_want_plan(const StatementKey *key)
{
	uint64 number = wanted_number(key);
	pg_atomic_uint64 *last = &shared->wanted[number % WANTED_PLANS];

	for (int i = 0; i < WANTED_PLANS; i++)
	{
		uint64 free = 0;

		if (pg_atomic_read_u64(&shared->wanted[i]) == number)
			return;
		if (pg_atomic_compare_exchange_u64(&shared->wanted[i], &free, number))
		{
			pg_atomic_fetch_add_u32(&shared->wanted_plans, 1);
			return;
		}
	}
	/* one that waits may not come again */
	if (pg_atomic_exchange_u64(last, number) == 0)
		pg_atomic_fetch_add_u32(&shared->wanted_plans, 1);
}

bool
store_plans_wanted(void)
{
	return pg_atomic_read_u32(&shared->wanted_plans) > 0;
}

bool
store_take_plan(const StatementKey *key)
{
	uint64 number = wanted_number(key);

	for (int i = 0; i < WANTED_PLANS; i++)
	{
		uint64 expected = number;

		if (pg_atomic_read_u64(&shared->wanted[i]) == number &&
			pg_atomic_compare_exchange_u64(&shared->wanted[i], &expected, 0))
		{
			pg_atomic_fetch_sub_u32(&shared->wanted_plans, 1);
			return true;
		}
	}
	return false;
}
