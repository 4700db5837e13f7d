/*
 * launcher.c
 *		Finds the databases that have the extension and keeps a worker in each.
 *
 * Whether a database has the extension can only be seen from inside it: a
 * worker is started there, which ends at once if there is nothing to do.
 * Each database is probed once after the start of the server, and again when
 * a commit changes its list of extensions; CREATE and DROP DATABASE announce
 * themselves in the same way (see tracker.c).
 *
 * The launcher owns no shared memory.  Its list of databases is in its own
 * memory, and rebuilt when it starts.
 */
#include "pgopt.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "core.h"
#include "worker.h"

/* A worker that ended without having been asked to is started again after this. */
#define RESTART_PAUSE_MS 2000

/* Probes that may be under way at once. */
#define MAX_STARTING 4

typedef struct LaunchedDatabase
{
	Oid dboid;   /* hash key */
	bool listed; /* still in pg_database */
	bool wanted; /* a worker is to be started */
	TimestampTz not_before;
	BackgroundWorkerHandle *handle; /* NULL = no worker */
} LaunchedDatabase;

static HTAB *launched = NULL;
static ProcessUtility_hook_type prev_ProcessUtility = NULL;

/*
 * Settings of the database or the server that are meant for sessions.  A
 * refresh must not wait for a synchronous standby while it holds the lock of
 * a swap, nor end by a timeout, nor see less than the counters do.
 */
static const struct
{
	const char *name;
	const char *value;
} worker_settings[] = {
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_read_only", "off"},
	{"default_transaction_deferrable", "off"},
	{"statement_timeout", "0"},
	{"lock_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
	{"idle_session_timeout", "0"},
	{"transaction_timeout", "0"}, /* from 17 on */
	{"synchronous_commit", "local"},
	{"session_replication_role", "origin"},
	{"track_counts", "on"},
	{"stats_fetch_consistency", "none"},
	{"zero_damaged_pages", "off"},
};

void
worker_setup(void)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, StatementCancelHandler);
	BackgroundWorkerUnblockSignals();

	/* A reload between the fork and this point was ignored. */
	ConfigReloadPending = true;

	for (int i = 0; i < lengthof(worker_settings); i++)
		if (GetConfigOption(worker_settings[i].name, true, false) != NULL)
			SetConfigOption(
				worker_settings[i].name, worker_settings[i].value, PGC_SUSET, PGC_S_OVERRIDE);
}

static LaunchedDatabase *
launched_entry(Oid dboid)
{
	bool found;
	LaunchedDatabase *entry = hash_search(launched, &dboid, HASH_ENTER, &found);

	if (!found)
	{
		entry->listed = true;
		entry->wanted = false;
		entry->not_before = 0;
		entry->handle = NULL;
	}
	return entry;
}

/* One that an earlier launcher started counts too. */
static bool
has_worker(Oid dboid)
{
	DatabaseState *db = database_state_of(dboid);
	uint32 pid = db ? pg_atomic_read_u32(&db->worker_pid) : 0;

	return pid != 0 && BackendPidGetProc((int) pid) != NULL;
}

/* Reads pg_database: marks databases to probe, forgets those that are gone. */
static void
read_databases(void)
{
	Relation rel;
	TableScanDesc scan;
	HeapTuple tuple;
	HASH_SEQ_STATUS seq;
	LaunchedDatabase *entry;

	hash_seq_init(&seq, launched);
	while ((entry = hash_seq_search(&seq)) != NULL)
		entry->listed = false;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		if (!form->datallowconn)
			continue;
		entry = launched_entry(form->oid);
		entry->listed = true;
		if (entry->handle == NULL && !has_worker(form->oid))
			entry->wanted = true;
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	PopActiveSnapshot();
	CommitTransactionCommand();

	hash_seq_init(&seq, launched);
	while ((entry = hash_seq_search(&seq)) != NULL)
	{
		if (entry->listed || entry->handle != NULL)
			continue;
		counters_forget_database(entry->dboid);
		database_forget(entry->dboid);
		hash_search(launched, &entry->dboid, HASH_REMOVE, NULL);
	}
}

/* Does a backend need this database to itself?  One that died does not. */
static bool
is_held(Oid dboid)
{
	DatabaseState *db = database_state_of(dboid);
	uint32 holder = db ? pg_atomic_read_u32(&db->hold) : 0;

	if (holder == 0)
		return false;
	if (BackendPidGetProc((int) holder) != NULL)
		return true;
	(void) pg_atomic_compare_exchange_u32(&db->hold, &holder, 0);
	return false;
}

static void
start_worker(LaunchedDatabase *entry)
{
	BackgroundWorker worker = {0};

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = ObjectIdGetDatum(entry->dboid);
	strlcpy(worker.bgw_library_name, "pgopt", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "pgopt_worker_main", BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "pgopt worker for database %u", entry->dboid);
	strlcpy(worker.bgw_type, "pgopt worker", BGW_MAXLEN);

	entry->not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), RESTART_PAUSE_MS);
	if (RegisterDynamicBackgroundWorker(&worker, &entry->handle))
		entry->wanted = false;
	else
	{
		entry->handle = NULL;
		ereport(LOG,
				(errmsg("pgopt could not start a worker for database %u", entry->dboid),
				 errhint("Increase max_worker_processes.")));
	}
}

/* Looks after workers that ended and starts those that are wanted. Returns the ms to wait. */
static long
tend_workers(void)
{
	HASH_SEQ_STATUS seq;
	LaunchedDatabase *entry;
	TimestampTz now = GetCurrentTimestamp();
	int starting = 0;
	long timeout = pgopt_worker_naptime;

	hash_seq_init(&seq, launched);
	while ((entry = hash_seq_search(&seq)) != NULL)
	{
		DatabaseState *db;
		pid_t pid;

		/* one that an earlier launcher started, and that ended since */
		if (entry->handle == NULL && !has_worker(entry->dboid))
		{
			db = database_state_of(entry->dboid);
			if (db != NULL && pg_atomic_read_u32(&db->wanted) != 0)
				entry->wanted = true;
		}
		if (entry->handle == NULL || GetBackgroundWorkerPid(entry->handle, &pid) != BGWH_STOPPED)
		{
			db = database_state_of(entry->dboid);
			if (entry->handle != NULL && (db == NULL || pg_atomic_read_u32(&db->worker_pid) == 0))
				starting++;
			continue;
		}
		pfree(entry->handle);
		entry->handle = NULL;
		if (!entry->listed)
			launcher_request_probe(InvalidOid); /* to forget it */
		db = database_state_of(entry->dboid);
		if (db != NULL && pg_atomic_read_u32(&db->wanted) != 0)
			entry->wanted = true;
	}

	hash_seq_init(&seq, launched);
	while ((entry = hash_seq_search(&seq)) != NULL)
	{
		if (!entry->wanted || entry->handle != NULL)
			continue;
		/* one that an earlier launcher started, or that is about to end: once it has */
		if (has_worker(entry->dboid))
			continue;
		if (starting >= MAX_STARTING || is_held(entry->dboid) || now < entry->not_before)
		{
			timeout = Min(timeout, RESTART_PAUSE_MS / 4);
			continue;
		}
		start_worker(entry);
		starting++;
	}
	return timeout;
}

static void
launcher_exit(int code, Datum arg)
{
	launcher_announce(-1);
}

void
pgopt_launcher_main(Datum arg)
{
	HASHCTL info = {0};

	worker_setup();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	info.keysize = sizeof(Oid);
	info.entrysize = sizeof(LaunchedDatabase);
	info.hcxt = TopMemoryContext;
	launched = hash_create("pgopt databases", 64, &info, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	before_shmem_exit(launcher_exit, (Datum) 0);
	launcher_announce(compat_my_procno());
	launcher_request_probe(InvalidOid);

	for (;;)
	{
		Oid dboid;
		bool all;
		long timeout;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		while (launcher_take_probe(&dboid, &all))
		{
			if (all)
				read_databases();
			if (OidIsValid(dboid))
			{
				LaunchedDatabase *entry = launched_entry(dboid);

				entry->wanted = true;
				entry->not_before = 0;
			}
		}
		timeout = tend_workers();
		pgstat_report_activity(STATE_IDLE, NULL);
		(void) WaitLatch(
			MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout, PG_WAIT_EXTENSION);
	}
}

/* --- statements that need a database to themselves ----------------------------- */

/* The database that a statement needs without other sessions, or NULL. */
static const char *
exclusive_database(Node *statement)
{
	ListCell *lc;

	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			return castNode(DropdbStmt, statement)->dbname;
		case T_RenameStmt:
			if (castNode(RenameStmt, statement)->renameType == OBJECT_DATABASE)
				return castNode(RenameStmt, statement)->subname;
			return NULL;
		case T_CreatedbStmt:
			foreach(lc, castNode(CreatedbStmt, statement)->options)
			{
				DefElem *option = lfirst_node(DefElem, lc);

				if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
					return defGetString(option);
			}
			return "template1";
		case T_AlterDatabaseStmt:
			foreach(lc, castNode(AlterDatabaseStmt, statement)->options)
				if (strcmp(lfirst_node(DefElem, lc)->defname, "tablespace") == 0)
					return castNode(AlterDatabaseStmt, statement)->dbname;
			return NULL;
		default:
			return NULL;
	}
}

static bool
is_template(Oid dboid)
{
	HeapTuple tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(dboid));
	bool result = false;

	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
		ReleaseSysCache(tuple);
	}
	return result;
}

static bool
may_create_databases(void)
{
	HeapTuple tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	bool result = false;

	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
		ReleaseSysCache(tuple);
	}
	return result;
}

/* Only who could carry out the statement may stop a worker with it. */
static bool
may_hold(Oid dboid, Node *statement)
{
	if (superuser() || compat_owns_database(dboid, GetUserId()))
		return true;
	return IsA(statement, CreatedbStmt) && may_create_databases() && is_template(dboid);
}

/* Ends pgopt's processes in a database; the server waits up to 5 seconds for that. */
static void
end_workers(DatabaseState *db, Oid dboid)
{
	uint32 pid = pg_atomic_read_u32(&db->worker_pid);
	RefreshSlot *slots = slots_array();

	if (pid != 0)
		(void) kill((pid_t) pid, SIGTERM);
	slots_lock(true);
	for (int i = 0; i < PGOPT_MAX_REFRESH_SLOTS; i++)
	{
		if (slots[i].state == SLOT_FREE || slots[i].dboid != dboid)
			continue;
		slots[i].quit = true;
		if (slots[i].pid != 0)
			(void) kill(slots[i].pid, SIGTERM);
	}
	slots_unlock();
}

static void
worker_ProcessUtility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
					  ProcessUtilityContext context, ParamListInfo params,
					  QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	const char *name = pgopt_is_preloaded() ? exclusive_database(pstmt->utilityStmt) : NULL;
	Oid dboid = name ? get_database_oid(name, true) : InvalidOid;
	DatabaseState *db = NULL;

	if (OidIsValid(dboid) && may_hold(dboid, pstmt->utilityStmt))
		db = database_hold(dboid);
	if (db == NULL)
	{
		next_ProcessUtility(prev_ProcessUtility,
							pstmt,
							queryString,
							readOnlyTree,
							context,
							params,
							queryEnv,
							dest,
							qc);
		return;
	}

	end_workers(db, dboid);
	PG_TRY();
	{
		next_ProcessUtility(prev_ProcessUtility,
							pstmt,
							queryString,
							readOnlyTree,
							context,
							params,
							queryEnv,
							dest,
							qc);
	}
	PG_FINALLY();
	{
		database_unhold(db);
		launcher_request_probe(InvalidOid);
	}
	PG_END_TRY();
}

void
worker_init(void)
{
	BackgroundWorker worker = {0};

	/* pg_upgrade wants its servers to itself. */
	if (IsBinaryUpgrade)
		return;

	prev_ProcessUtility = ProcessUtility_hook;
	ProcessUtility_hook = worker_ProcessUtility;

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 5;
	strlcpy(worker.bgw_library_name, "pgopt", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "pgopt_launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "pgopt launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "pgopt launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}
