/*
 * databases.c
 *		The table of databases that pgopt looks after, and the launcher's mail.
 *
 * Owns DatabaseTable in shared memory.  A slot is taken and freed under
 * DatabaseTable.lock; its fields are atomics, read without it.  A slot never
 * moves, so a backend keeps the pointer to its own database's slot and looks
 * again only when the table's version moved.
 *
 * Cost: a look-up scans PGOPT_MAX_DATABASES slots, once a backend.
 */
#include "pgopt.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#include "changes_internal.h"
#include "core.h"

#define PROBE_RING 32

typedef struct DatabaseTable
{
	LWLock *lock;
	pg_atomic_uint32 version;         /* moves when a slot is taken or freed */
	pg_atomic_uint32 launcher_procno; /* number + 1; 0 = none */
	slock_t probe_mutex;              /* protects the three below */
	Oid probes[PROBE_RING];
	int nprobes;
	bool probe_all;
	DatabaseState databases[PGOPT_MAX_DATABASES];
} DatabaseTable;

static DatabaseTable *table = NULL;

/* This backend's own database, and the version at which it was looked up. */
static DatabaseState *my_state = NULL;
static uint32 my_version = 0;

void
databases_shmem_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(DatabaseTable)));
	RequestNamedLWLockTranche("pgopt databases", 1);
}

void
databases_shmem_startup(void)
{
	bool found;

	table = ShmemInitStruct("pgopt databases", sizeof(DatabaseTable), &found);
	if (found)
		return;

	memset(table, 0, sizeof(DatabaseTable));
	table->lock = &(GetNamedLWLockTranche("pgopt databases"))[0].lock;
	pg_atomic_init_u32(&table->version, 1);
	pg_atomic_init_u32(&table->launcher_procno, 0);
	SpinLockInit(&table->probe_mutex);
	table->probe_all = true;
	for (int i = 0; i < PGOPT_MAX_DATABASES; i++)
		pg_atomic_init_u32(&table->databases[i].dboid, InvalidOid);
}

DatabaseState *
database_state_of(Oid dboid)
{
	if (table == NULL || !OidIsValid(dboid))
		return NULL;
	for (int i = 0; i < PGOPT_MAX_DATABASES; i++)
		if (pg_atomic_read_u32(&table->databases[i].dboid) == dboid)
			return &table->databases[i];
	return NULL;
}

DatabaseState *
database_state(void)
{
	uint32 version;

	if (table == NULL)
		return NULL;
	version = pg_atomic_read_u32(&table->version);
	if (version != my_version)
	{
		my_state = database_state_of(MyDatabaseId);
		my_version = version;
	}
	return my_state;
}

uint64
changes_epoch(void)
{
	DatabaseState *db = database_state();

	return db ? db->epoch : 0;
}

/* Fills a free slot; the caller holds the lock.  The OID comes last: it makes the slot visible. */
static void
init_slot(DatabaseState *db, Oid dboid)
{
	db->made_at = GetCurrentTimestamp();
	pg_atomic_init_u32(&db->in_flight, 0);
	for (int i = 0; i < LOST_REASONS; i++)
		pg_atomic_init_u64(&db->lost[i], 0);
	pg_atomic_init_u64(&db->lost_at, 0);
	pg_atomic_init_u32(&db->ddl_in_flight, 0);
	pg_atomic_init_u64(&db->ddl_generation, 1);
	pg_atomic_init_u64(&db->function_generation, 1);
	if (!pg_strong_random(&db->epoch, sizeof(db->epoch)))
		db->epoch = (uint64) GetCurrentTimestamp();
	db->epoch = (db->epoch & PG_INT64_MAX) | 1; /* it is kept in a bigint, and 0 is none */
	pg_atomic_init_u32(&db->config_relid, InvalidOid);
	pg_atomic_init_u64(&db->config_generation, 1);
	SpinLockInit(&db->state_mutex);
	db->state_generation = 1;
	pg_atomic_init_u32(&db->worker_procno, 0);
	pg_atomic_init_u32(&db->worker_pid, 0);
	pg_atomic_init_u32(&db->wants_ddl, 0);
	pg_atomic_init_u32(&db->wanted, 0);
	pg_atomic_init_u32(&db->waits_for_slot, 0);
	pg_atomic_init_u32(&db->hold, 0);
	pg_atomic_init_u32(&db->prepared_adopted, 0);
	pg_atomic_init_u64(&db->worker_beat, 0);
	pg_write_barrier();
	pg_atomic_write_u32(&db->dboid, dboid);
}

/* The slot of a database, made if need be; NULL when there is none left.  The caller holds the lock. */
static DatabaseState *
find_or_make(Oid dboid)
{
	DatabaseState *db = database_state_of(dboid);

	for (int i = 0; db == NULL && i < PGOPT_MAX_DATABASES; i++)
	{
		if (pg_atomic_read_u32(&table->databases[i].dboid) != InvalidOid)
			continue;
		db = &table->databases[i];
		init_slot(db, dboid);
		pg_atomic_fetch_add_u32(&table->version, 1);
	}
	return db;
}

DatabaseState *
database_attach(void)
{
	DatabaseState *db = database_state();

	if (table == NULL)
		return NULL;

	if (db == NULL)
	{
		LWLockAcquire(table->lock, LW_EXCLUSIVE);
		db = find_or_make(MyDatabaseId);
		LWLockRelease(table->lock);
		if (db == NULL)
			return NULL;
	}

	if (pg_atomic_read_u32(&db->config_relid) == InvalidOid)
		pg_atomic_write_u32(&db->config_relid, pgopt_table_oid("matview"));
	if (pg_atomic_read_u32(&db->prepared_adopted) == 0)
		prepared_adopt(db);
	return db;
}

void
database_forget(Oid dboid)
{
	DatabaseState *db;

	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	db = database_state_of(dboid);
	if (db != NULL)
	{
		pg_atomic_write_u32(&db->dboid, InvalidOid);
		pg_atomic_fetch_add_u32(&table->version, 1);
	}
	LWLockRelease(table->lock);
}

DatabaseState *
database_hold(Oid dboid)
{
	DatabaseState *db;
	uint32 nobody = 0;

	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	db = find_or_make(dboid);
	if (db != NULL && !pg_atomic_compare_exchange_u32(&db->hold, &nobody, (uint32) MyProcPid))
		db = NULL;
	LWLockRelease(table->lock);
	return db;
}

/* A slot that served for nothing else is freed; the launcher frees that of a dropped database. */
void
database_unhold(DatabaseState *db)
{
	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	pg_atomic_write_u32(&db->hold, 0);
	if (pg_atomic_read_u32(&db->config_relid) == InvalidOid &&
		pg_atomic_read_u32(&db->worker_pid) == 0)
	{
		pg_atomic_write_u32(&db->dboid, InvalidOid);
		pg_atomic_fetch_add_u32(&table->version, 1);
	}
	LWLockRelease(table->lock);
}

uint64
database_lost(DatabaseState *db)
{
	uint64 sum = 0;

	for (int i = 0; i < LOST_REASONS; i++)
		sum += pg_atomic_read_u64(&db->lost[i]);
	return sum;
}

void
database_mark_lost(DatabaseState *db, LostReason reason)
{
	pg_atomic_fetch_add_u64(&db->lost[reason], 1);
	pg_atomic_write_u64(&db->lost_at, (uint64) GetCurrentTimestamp());
	database_wake_worker(db);
}

static void
wake_procno(pg_atomic_uint32 *procno)
{
	uint32 number = pg_atomic_read_u32(procno);

	/*
	 * A process may have ended and another have taken its place: that one then
	 * finds its latch set for nothing, which every process must bear.
	 */
	if (number != 0)
		SetLatch(&GetPGProcByNumber(number - 1)->procLatch);
}

void
database_wake_worker(DatabaseState *db)
{
	wake_procno(&db->worker_procno);
}

void
database_wake_for_ddl(DatabaseState *db)
{
	if (pg_atomic_exchange_u32(&db->wants_ddl, 0) != 0)
		database_wake_worker(db);
}

void
databases_redefine_all(void)
{
	for (int i = 0; i < PGOPT_MAX_DATABASES; i++)
	{
		if (pg_atomic_read_u32(&table->databases[i].dboid) == InvalidOid)
			continue;
		pg_atomic_fetch_add_u64(&table->databases[i].ddl_generation, 1);
		database_wake_for_ddl(&table->databases[i]);
	}
}

void
database_push_state_change(DatabaseState *db, Oid matview)
{
	SpinLockAcquire(&db->state_mutex);
	db->state_ring[db->state_generation % STATE_RING] = matview;
	db->state_generation++;
	SpinLockRelease(&db->state_mutex);
}

uint64
database_state_generation(DatabaseState *db)
{
	uint64 generation;

	SpinLockAcquire(&db->state_mutex);
	generation = db->state_generation;
	SpinLockRelease(&db->state_mutex);
	return generation;
}

int
database_take_state_changes(DatabaseState *db, uint64 *seen, Oid *views)
{
	int count = 0;

	SpinLockAcquire(&db->state_mutex);
	if (db->state_generation - *seen > STATE_RING)
		count = -1;
	else
		for (uint64 n = *seen; n < db->state_generation; n++)
			views[count++] = db->state_ring[n % STATE_RING];
	*seen = db->state_generation;
	SpinLockRelease(&db->state_mutex);
	return count;
}

void
databases_wake_waiting(void)
{
	for (int i = 0; i < PGOPT_MAX_DATABASES; i++)
	{
		DatabaseState *db = &table->databases[i];
		Oid dboid = pg_atomic_read_u32(&db->dboid);

		if (OidIsValid(dboid) &&
			(pg_atomic_exchange_u32(&db->waits_for_slot, 0) != 0 || dboid == MyDatabaseId))
			database_wake_worker(db);
	}
}

void
launcher_wake(void)
{
	if (table != NULL)
		wake_procno(&table->launcher_procno);
}

void
launcher_request_probe(Oid dboid)
{
	if (table == NULL)
		return;
	SpinLockAcquire(&table->probe_mutex);
	if (!OidIsValid(dboid) || table->nprobes == PROBE_RING)
		table->probe_all = true;
	else
		table->probes[table->nprobes++] = dboid;
	SpinLockRelease(&table->probe_mutex);
	launcher_wake();
}

bool
launcher_take_probe(Oid *dboid, bool *all)
{
	bool found = false;

	SpinLockAcquire(&table->probe_mutex);
	*all = table->probe_all;
	table->probe_all = false;
	*dboid = InvalidOid;
	if (table->nprobes > 0)
	{
		*dboid = table->probes[--table->nprobes];
		found = true;
	}
	SpinLockRelease(&table->probe_mutex);
	return found || *all;
}

void
launcher_announce(int procno)
{
	pg_atomic_write_u32(&table->launcher_procno, (uint32) (procno + 1));
}

bool
launcher_is_running(void)
{
	return table != NULL && pg_atomic_read_u32(&table->launcher_procno) != 0;
}
