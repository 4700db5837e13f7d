/*
 * scheduler.c
 *		The worker of a database: decides what is due and hands it out.
 *
 * Between cycles it waits on its latch, without transaction, snapshot or
 * lock.  What wakes it: a commit that reaches the number of changes for which
 * a table is armed, a change of the configuration or of definitions, the end
 * of a refresh, and the time at which the next view is due.
 *
 * Each cycle evaluates every managed view from shared memory.  Tables are
 * armed before the wait, and looked at once more after that, so that a commit
 * in between is not slept through.
 */
#include "pgopt.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/array.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "core.h"
#include "incremental.h"
#include "search.h"
#include "window.h"
#include "worker.h"
#include "workload.h"

/* A view that somebody else had locked, or whose refresh was lost, waits at least this long. */
#define BUSY_PAUSE_MS 1000

/* While a refresh runs, it is looked for statements that wait for it this often. */
#define YIELD_PAUSE_MS 500

/* pgopt.refresh_log is trimmed this often. */
#define TRIM_PAUSE_MS (3600 * 1000)

/* While no view is refreshed incrementally, nothing has to be looked at. */
#define LONG_NAP_MS (3600 * 1000)

/* After DDL, definitions are looked at once more no earlier than this after the last time. */
#define SHORTEST_VERIFICATION_PAUSE USECS_PER_SEC

/* Reading single views anew leaves their old strings behind: after so many, all are read. */
#define MAX_RELOADS 2000

/* A table that managed views read, and for how many rows it is armed. */
typedef struct ArmedTable
{
	Oid relid;               /* hash key */
	TableCounters *counters; /* NULL = no room for it */
	uint64 rows;             /* before the views were evaluated, as is the next */
	uint64 events;           /* everything that can make a view stale, added up */
	uint64 wake_at;
	bool all_fresh; /* every view that reads it has seen all its changes */
} ArmedTable;

static DatabaseState *db = NULL;
static Registry *registry = NULL;
static MemoryContext registry_context = NULL;
static MemoryContext cycle_context = NULL; /* reset after each cycle */
static HTAB *tables = NULL;                /* of ArmedTable; lives and dies with the registry */
static uint64 seen_config = 0;
static uint64 seen_state = 0;
static uint64 seen_ddl = 0;
static TimestampTz next_verification = 0; /* of definitions, after DDL */
static int reloads = 0;                   /* of single views, since everything was read */
static bool merging = false;              /* does a worker merge an index of this database? */

/* now() stands still in a worker unless it is told that a statement begins. */
static void
begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

/* The end of a transaction leaves TopMemoryContext behind: what is allocated there stays. */
static void
commit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(cycle_context);
}

static void
scheduler_exit(int code, Datum arg)
{
	uint32 self = (uint32) MyProcPid;

	if (db == NULL || pg_atomic_read_u32(&db->worker_pid) != self)
		return;
	pg_atomic_write_u32(&db->worker_procno, 0);
	(void) pg_atomic_compare_exchange_u32(&db->worker_pid, &self, 0);
	launcher_wake();
}

static uint64
rows_of(TableCounters *counters)
{
	return pg_atomic_read_u64(&counters->inserted) + pg_atomic_read_u64(&counters->updated) +
		   pg_atomic_read_u64(&counters->deleted);
}

static uint64
events_of(TableCounters *counters)
{
	return rows_of(counters) + pg_atomic_read_u64(&counters->truncated) +
		   pg_atomic_read_u64(&counters->unknown) + pg_atomic_read_u64(&counters->foreign);
}

static void
add_table(Oid relid)
{
	bool found;
	ArmedTable *table = hash_search(tables, &relid, HASH_ENTER, &found);

	if (!found)
	{
		table->counters = counters_register(relid);
		table->rows = table->counters ? rows_of(table->counters) : 0;
		table->events = 0; /* looked at once more before the first wait */
	}
}

static void
add_all_tables(void)
{
	for (int i = 0; i < registry->nviews; i++)
	{
		ManagedView *view = &registry->views[i];

		if (!view->exists)
			continue;
		add_table(view->oid);
		for (int j = 0; j < view->nrelids; j++)
			add_table(view->relids[j]);
	}
}

/* Registers what all views read, and lets go of what none reads any more. */
static void
register_tables(void)
{
	HASHCTL info = {0};
	HASH_SEQ_STATUS scan;
	ArmedTable *table;
	Oid *relids;
	int nrelids = 0;

	info.keysize = sizeof(Oid);
	info.entrysize = sizeof(ArmedTable);
	info.hcxt = registry_context;
	tables = hash_create("pgopt armed tables", 256, &info, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	add_all_tables();

	relids = MemoryContextAlloc(registry_context, (hash_get_num_entries(tables) + 1) * sizeof(Oid));
	hash_seq_init(&scan, tables);
	while ((table = hash_seq_search(&scan)) != NULL)
		relids[nrelids++] = table->relid;
	qsort(relids, nrelids, sizeof(Oid), oid_cmp);
	counters_retain(relids, nrelids, GetActiveSnapshot()->xmin);
}

/* What a view reads was redefined: its sums mean nothing from now on. */
static void
persist_redefinitions(void)
{
	for (int i = 0; i < registry->nviews; i++)
	{
		ManagedView *view = &registry->views[i];
		Oid types[] = {OIDOID, INT8OID};
		Datum values[2];
		PgoptSpi spi;

		if (!view->redefined)
			continue;
		values[0] = ObjectIdGetDatum(view->oid);
		values[1] = Int64GetDatum((int64) view->fingerprint);
		pgopt_spi_begin(&spi);
		if (pgopt_spi_execute("UPDATE pgopt.matview_state SET epoch = 0 WHERE view IN"
							  " (SELECT view FROM pgopt.matview_state"
							  "   WHERE view = $1 AND fingerprint = $2 FOR UPDATE SKIP LOCKED)",
							  lengthof(types),
							  types,
							  values,
							  NULL,
							  false,
							  SPI_OK_UPDATE) > 0)
			view->epoch = 0;
		pgopt_spi_end(&spi);
	}
}

/* Could every definition be looked at?  One that DDL has locked is tried again. */
static bool
all_verified(uint64 generation)
{
	for (int i = 0; i < registry->nviews; i++)
	{
		ManagedView *view = &registry->views[i];

		if (view->exists && view->has_state && view->epoch == changes_epoch() &&
			view->ddl_generation != generation)
			return false;
	}
	return true;
}

/* Ends the process when the extension is gone.  Inside a transaction. */
static void
end_without_extension(void)
{
	if (OidIsValid(pgopt_extension_oid()))
		return;
	counters_retain(NULL, 0, GetActiveSnapshot()->xmin);
	commit();
	pg_atomic_write_u32(&db->wanted, 0);
	proc_exit(0);
}

/* Reads everything anew.  Ends the process when the extension is gone. */
static void
load_registry(void)
{
	MemoryContext old;
	uint64 generation;
	TimestampTz start = GetCurrentTimestamp();

	/* The generations come first: what is changed after that moves them on. */
	generation = pg_atomic_read_u64(&db->ddl_generation);
	seen_config = pg_atomic_read_u64(&db->config_generation);
	seen_state = database_state_generation(db);
	reloads = 0;

	begin();
	end_without_extension();
	pg_atomic_write_u32(&db->config_relid, pgopt_table_oid("matview"));
	registry_rebind();
	UpdateActiveSnapshotCommandId();

	MemoryContextReset(registry_context);
	old = MemoryContextSwitchTo(registry_context);
	registry = registry_load(registry_context);
	MemoryContextSwitchTo(old);

	registry->trusts_definitions = true;
	registry_verify(registry, db);
	persist_redefinitions();
	if (all_verified(generation))
		seen_ddl = generation;
	register_tables();
	commit();

	pg_atomic_write_u32(&db->wants_ddl, 1);

	/* Frequent DDL must not keep this process busy: a twentieth of the time at most. */
	next_verification = GetCurrentTimestamp();
	next_verification += Max(SHORTEST_VERIFICATION_PAUSE, 20 * (next_verification - start));
}

/* Catches up with refreshes that were committed, view by view where there are few. */
static void
follow_state_changes(void)
{
	Oid views[STATE_RING];
	int nviews = database_take_state_changes(db, &seen_state, views);

	reloads += Max(nviews, 0);
	if (nviews < 0 || reloads > MAX_RELOADS)
	{
		load_registry();
		return;
	}
	if (nviews == 0)
		return;
	begin();
	end_without_extension();
	registry_reload(registry, views, nviews);
	registry_verify(registry, db);
	add_all_tables();
	commit();
}

/*
 * Takes over which of our views are being refreshed now, and what became of
 * those that were: one that somebody else had locked is left alone for a
 * moment; one whose process ended in the middle has failed.
 */
static void
mark_running(TimestampTz now)
{
	RefreshSlot *slots = slots_array();
	RefreshSlot lost[PGOPT_MAX_REFRESH_SLOTS];
	int nlost = 0;

	for (int i = 0; i < registry->nviews; i++)
		registry->views[i].running = false;
	merging = false;
	slots_lock(true);
	for (int i = 0; i < PGOPT_MAX_REFRESH_SLOTS; i++)
	{
		RefreshSlot *slot = &slots[i];
		ManagedView *view;

		if (slot->state == SLOT_FREE || slot->dboid != MyDatabaseId)
			continue;
		if (slot->state == SLOT_LOST)
		{
			lost[nlost++] = *slot;
			slot->state = SLOT_FREE;
			continue;
		}
		if (strcmp(slot->source, WORKER_MERGE) == 0)
		{
			merging = merging || slot->state != SLOT_IDLE;
			continue;
		}
		view = registry_find(registry, slot->view);
		if (view == NULL)
			continue;
		if (slot->state != SLOT_IDLE)
			view->running = true;
		else if (slot->busy)
			view->retry_at =
				Max(view->retry_at, TimestampTzPlusMilliseconds(slot->since, BUSY_PAUSE_MS));
	}
	slots_unlock();

	for (int i = 0; i < nlost; i++)
	{
		ManagedView *view = registry_find(registry, lost[i].view);
		ErrorData error = {0};

		if (view == NULL || strcmp(lost[i].source, WORKER_MERGE) == 0)
			continue;
		error.sqlerrcode = ERRCODE_ADMIN_SHUTDOWN;
		error.message = "the refresh worker ended before the refresh did; see the server log";
		worker_note_failure(view->oid, lost[i].source, lost[i].reason, now - lost[i].since, &error);
		/* until the state is read again */
		view->retry_at = TimestampTzPlusMilliseconds(now, BUSY_PAUSE_MS);
	}
}

static void
note_skipped(TimestampTz now)
{
	bool begun = false;

	for (int i = 0; i < registry->nviews; i++)
	{
		ManagedView *view = &registry->views[i];

		if (!view->skip || view->running)
			continue;
		if (!begun)
			begin();
		begun = true;
		matview_note_unchanged(view->oid, "worker", view->due_reason);
		view->last_checked = now;
	}
	if (begun)
		commit();
}

/*
 * Hands out what is due.  Returns false when something has to wait for a
 * process.  That we wait is said first: the end that we wait for may be now.
 */
static bool
hand_out(void)
{
	int worst = MAX_PRIORITY;
	ManagedView *view;

	while ((view = plan_next(registry, worst)) != NULL)
	{
		pg_atomic_write_u32(&db->waits_for_slot, 1);
		switch (
			dispatch_refresh(view->oid, view->effective_priority, "worker", view->due_reason, NULL))
		{
			case DISPATCH_STARTED:
			case DISPATCH_RUNNING:
				view->running = true;
				break;
			case DISPATCH_BUSY:
				if (worst == CRITICAL_PRIORITY)
					return false;
				worst = CRITICAL_PRIORITY;
				break;
			case DISPATCH_NO_PROCESS:
				/* better late than never: in this process, and nothing else meanwhile */
				ereport(
					LOG,
					(errmsg("pgopt refreshes in its only worker, since no other can be started"),
					 errhint("Increase max_worker_processes.")));
				worker_run_job(view->oid, "worker", view->due_reason);
				view->done = true;
				break;
		}
	}
	return worst == MAX_PRIORITY;
}

/*
 * Hands out the merges that inserts into search indexes asked for, after all
 * refreshes.  Returns false when one has to wait for a process.
 */
static bool
hand_out_merges(void)
{
	Oid index;

	while (search_take_merge(&index))
	{
		switch (dispatch_refresh(index, MAX_PRIORITY, WORKER_MERGE, NULL, NULL))
		{
			case DISPATCH_STARTED:
				merging = true;
				break;
			case DISPATCH_RUNNING:
				break; /* it goes on until nothing is left */
			case DISPATCH_BUSY:
			case DISPATCH_NO_PROCESS:
				search_request_merge(index);
				return false;
		}
	}
	return true;
}

/* Before the evaluation: what changes from here on is not seen by it. */
static void
read_tables(void)
{
	HASH_SEQ_STATUS scan;
	ArmedTable *table;

	hash_seq_init(&scan, tables);
	while ((table = hash_seq_search(&scan)) != NULL)
	{
		if (table->counters == NULL)
			continue;
		table->rows = rows_of(table->counters);
		table->events = events_of(table->counters);
	}
	pg_read_barrier();
}

/*
 * Sets for each table the number of rows at which a commit wakes us: the rows
 * that a view still lacks, spread over the tables that it reads, since one of
 * them must reach its share before all together reach the sum.
 */
static void
arm_tables(void)
{
	HASH_SEQ_STATUS scan;
	ArmedTable *table;

	hash_seq_init(&scan, tables);
	while ((table = hash_seq_search(&scan)) != NULL)
	{
		table->wake_at = PG_UINT64_MAX;
		table->all_fresh = true;
	}

	for (int i = 0; i < registry->nviews; i++)
	{
		ManagedView *view = &registry->views[i];
		int64 share = 0;

		if (!view->exists)
			continue;
		if (view->wake_after > 0 && !view->running && view->nrelids > 0)
			share = (view->wake_after + view->nrelids - 1) / view->nrelids;
		/* a REFRESH that is not pgopt's, maybe WITH NO DATA */
		table = hash_search(tables, &view->oid, HASH_FIND, NULL);
		if (table != NULL && view->strategy != STRATEGY_MANUAL && !view->running)
			table->wake_at = Min(table->wake_at, table->rows + 1);
		for (int j = 0; j < view->nrelids; j++)
		{
			table = hash_search(tables, &view->relids[j], HASH_FIND, NULL);
			if (table == NULL)
				continue;
			if (share > 0)
				table->wake_at = Min(table->wake_at, table->rows + share);
			if (!view->unchanged)
				table->all_fresh = false;
		}
	}

	hash_seq_init(&scan, tables);
	while ((table = hash_seq_search(&scan)) != NULL)
	{
		if (table->counters == NULL)
			continue;
		pg_atomic_write_u64(&table->counters->wake_at, table->wake_at);
		if (table->all_fresh && pg_atomic_read_u64(&table->counters->first_change) != 0)
			pg_atomic_write_u64(&table->counters->first_change, 0);
		pg_memory_barrier();

		/* A commit may have come since the evaluation, or before its stamp was wiped out. */
		if (events_of(table->counters) != table->events)
		{
			uint64 none = 0;

			(void) pg_atomic_compare_exchange_u64(
				&table->counters->first_change,
				&none,
				pg_atomic_read_u64(&table->counters->last_change));
			if (table->wake_at != PG_UINT64_MAX)
				SetLatch(MyLatch);
		}
	}
}

/* Milliseconds until the next view is due by the clock. */
static long
time_to_wait(TimestampTz now)
{
	TimestampTz next_at = TimestampTzPlusMilliseconds(now, 24 * 3600 * 1000);

	for (int i = 0; i < registry->nviews; i++)
	{
		ManagedView *view = &registry->views[i];

		if (view->exists && !view->running && !view->due && view->next_at < next_at)
			next_at = view->next_at;
	}
	return TimestampDifferenceMilliseconds(now, next_at) + 1;
}

/* Are there things to look after that announce themselves to nobody? */
static bool
needs_naps(void)
{
	if (prepared_count(MyDatabaseId) > 0)
		return true;
	for (int i = 0; i < registry->nviews; i++)
		if (registry->views[i].strategy == STRATEGY_SMART && !registry->views[i].unchanged)
			return true;
	return false;
}

static bool
any_running(void)
{
	for (int i = 0; i < registry->nviews; i++)
		if (registry->views[i].running)
			return true;
	return false;
}

static bool
definitions_moved(void)
{
	return seen_ddl != pg_atomic_read_u64(&db->ddl_generation);
}

static long
cycle(void)
{
	TimestampTz now;
	long timeout;

	now = GetCurrentTimestamp();
	if (registry == NULL || seen_config != pg_atomic_read_u64(&db->config_generation) ||
		(definitions_moved() && now >= next_verification))
		load_registry();
	else
		follow_state_changes();
	prepared_reconcile(db);

	now = GetCurrentTimestamp();
	pg_atomic_write_u64(&db->worker_beat, (uint64) now);
	read_tables();
	status_evaluate(registry, db, now);

	/* Reads of a view that is known to be fresh are none of stale rows. */
	for (int i = 0; i < registry->nviews; i++)
		if (registry->views[i].unchanged)
			registry->views[i].seen_reads = registry->views[i].reads;

	mark_running(now);
	plan_make(registry, now);
	timeout = TRIM_PAUSE_MS;
	if (pgopt_auto_refresh)
	{
		note_skipped(now);
		if (!hand_out())
			timeout = Min(timeout, pgopt_worker_naptime);
		timeout = Min(timeout, time_to_wait(now));
	}
	if (!hand_out_merges())
		timeout = Min(timeout, pgopt_worker_naptime);
	if (definitions_moved())
		timeout = Min(timeout, Max(TimestampDifferenceMilliseconds(now, next_verification), 10));
	if (needs_naps())
		timeout = Min(timeout, pgopt_worker_naptime);
	if (any_running() || merging)
	{
		begin();
		yield_to_waiters();
		commit();
		timeout = Min(timeout, YIELD_PAUSE_MS);
	}
	arm_tables();
	return timeout;
}

static void
trim_log(TimestampTz *last)
{
	TimestampTz now = GetCurrentTimestamp();

	if (*last != 0 && !TimestampDifferenceExceeds(*last, now, TRIM_PAUSE_MS))
		return;
	*last = now;
	begin();
	(void) matview_trim_log();
	commit();
	pgstat_report_stat(true);
}

/* What is done for incremental refreshes between them: arguments and results of core_try(). */
typedef struct Preparation
{
	Oid view;
	PrepareResult result;
} Preparation;

static void
prepare_view(void *arg)
{
	Preparation *preparation = arg;
	char *reason;
	char *hint;

	preparation->result = matview_prepare_incremental(preparation->view, &reason, &hint);
}

static void
maintain_logs(void *arg)
{
	*(bool *) arg = incremental_maintain();
}

static bool
any_incremental(void)
{
	for (int i = 0; registry != NULL && i < registry->nviews; i++)
		if (strcmp(registry->views[i].incremental, "never") != 0)
			return true;
	return false;
}

/*
 * Views that were restored, or that read new partitions, get their row logs
 * before they are refreshed; what all views have read goes.  Returns the time
 * to the next look.
 */
static long
keep_row_logs(TimestampTz *last)
{
	static bool tidied = false;
	TimestampTz now = GetCurrentTimestamp();
	long left = pgopt_worker_naptime - TimestampDifferenceMilliseconds(*last, now);
	List *views;
	ListCell *lc;
	ErrorData *error;
	bool done = false;

	if (any_incremental())
		tidied = false;
	else if (tidied)
		return LONG_NAP_MS;
	if (*last != 0 && left > 0)
		return left;
	*last = now;
	begin();
	MemoryContextSwitchTo(cycle_context);
	views = matview_unprepared();
	commit();
	foreach(lc, views)
	{
		Preparation preparation = {.view = lfirst_oid(lc)};

		do
		{
			preparation.result = PREPARE_REFUSED;
			begin();
			error = core_try(prepare_view, &preparation, true);
			if (error != NULL)
				ereport(
					LOG,
					(errcode(error->sqlerrcode),
					 errmsg(
						 "pgopt could not prepare the incremental refresh of materialized view %u: %s",
						 preparation.view,
						 error->message)));
			commit();
		} while (preparation.result == PREPARE_MORE);
	}
	begin();
	error = core_try(maintain_logs, &done, true);
	if (error != NULL)
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("pgopt could not tidy the row logs: %s", error->message)));
	commit();
	pgstat_report_stat(true);
	tidied = done && !any_incremental();
	return pgopt_worker_naptime;
}

/* What was counted under other settings is no evidence about these. */
static void
note_counters(bool reloaded)
{
	if (!reloaded && !window_is_due())
		return;
	begin();
	if (reloaded)
		window_restart();
	else
		window_note();
	commit();
}

/* What was captured goes to the tables. */
static void
write_workload(void)
{
	if (!workload_is_due())
		return;
	begin();
	workload_flush();
	commit();
	pgstat_report_stat(true);
}

/*
 * The same when this process is told to end, so that a restart of the server
 * loses nothing.  Not after an error of its own.
 */
static void
write_workload_at_exit(int code, Datum arg)
{
	if (IsTransactionOrTransactionBlock() || workload_wait() > 3600 * 1000 / 2)
		return;
	begin();
	workload_flush();
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* Finds out whether this database is ours to look after, and takes it. */
static void
attach(void)
{
	uint32 other;

	begin();
	if (!OidIsValid(pgopt_extension_oid()))
	{
		db = database_state();
		if (db != NULL)
			pg_atomic_write_u32(&db->wanted, 0);
		db = NULL;
		proc_exit(0);
	}
	db = database_attach();
	commit();
	if (db == NULL)
	{
		ereport(LOG,
				(errmsg("pgopt looks after at most %d databases; this one is left out",
						PGOPT_MAX_DATABASES)));
		proc_exit(0);
	}
	pg_atomic_write_u32(&db->wanted, 1);
	before_shmem_exit(scheduler_exit, (Datum) 0);
	before_shmem_exit(write_workload_at_exit, (Datum) 0);
	other = pg_atomic_read_u32(&db->worker_pid);
	if ((other != 0 && BackendPidGetProc((int) other) != NULL) ||
		!pg_atomic_compare_exchange_u32(&db->worker_pid, &other, (uint32) MyProcPid))
		proc_exit(0); /* there is one already: the launcher was restarted */
	pg_atomic_write_u32(&db->worker_procno, (uint32) compat_my_procno() + 1);

	/* Whoever holds the database looks at our pid after that, we at the hold after our pid. */
	pg_memory_barrier();
	if (pg_atomic_read_u32(&db->hold) != 0)
		proc_exit(0);
}

void
pgopt_worker_main(Datum arg)
{
	TimestampTz last_trim = 0;
	TimestampTz last_look_at_logs = 0;

	worker_setup();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);
	registry_context =
		AllocSetContextCreate(TopMemoryContext, "pgopt registry", ALLOCSET_DEFAULT_SIZES);
	cycle_context = AllocSetContextCreate(TopMemoryContext, "pgopt cycle", ALLOCSET_DEFAULT_SIZES);
	attach();

	for (;;)
	{
		long timeout;
		bool reloaded = false;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			reloaded = true;
		}

		MemoryContextSwitchTo(cycle_context);
		note_counters(reloaded);
		timeout = cycle();
		trim_log(&last_trim);
		write_workload();
		timeout = Min(timeout, keep_row_logs(&last_look_at_logs));
		timeout = Min(timeout, window_wait());
		timeout = Min(timeout, workload_wait());
		MemoryContextSwitchTo(TopMemoryContext);
		MemoryContextReset(cycle_context);
		pgstat_report_activity(STATE_IDLE, NULL);

		(void) WaitLatch(
			MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout, PG_WAIT_EXTENSION);
	}
}
