/*
 * dispatch.c
 *		Refresh workers: processes that refresh one view after the other, and
 *		merge segments of search indexes.
 *
 * A refresh worker that is done waits a little for the next view of its
 * database, so that a view that changes all the time costs no fork each time.
 * Its slot is freed when the process ends, in whatever way.
 */
#include "pgopt.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "core.h"
#include "search.h"
#include "worker.h"

#define LINGER_MS 5000

/* The server's own caches grow a little with each refresh: a process does no more than this. */
#define MAX_JOBS 200

/* A process that was asked for and has not appeared after this will not. */
#define START_PATIENCE_MS 30000

static int my_slot = -1;

/* --- handing out ---------------------------------------------------------------- */

static void
assign(RefreshSlot *slot, Oid view, const char *source, const char *reason, DispatchTicket *ticket)
{
	slot->state = SLOT_STARTING;
	slot->dboid = MyDatabaseId;
	slot->view = view;
	slot->job++;
	slot->quit = false;
	slot->gave_way = false;
	slot->busy = false;
	slot->requester = ticket ? compat_my_procno() : -1;
	if (ticket != NULL)
	{
		ticket->slot = slot - slots_array();
		ticket->job = slot->job;
	}
	slot->since = GetCurrentTimestamp();
	strlcpy(slot->source, source, sizeof(slot->source));
	strlcpy(slot->reason, reason ? reason : "", sizeof(slot->reason));
}

static bool
start_process(int number)
{
	BackgroundWorker worker = {0};

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = Int32GetDatum(number);
	strlcpy(worker.bgw_library_name, "pgopt", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "pgopt_refresh_worker_main", BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "pgopt refresh worker %d", number);
	strlcpy(worker.bgw_type, "pgopt refresh", BGW_MAXLEN);
	return RegisterDynamicBackgroundWorker(&worker, NULL);
}

DispatchResult
dispatch_refresh(Oid view, int priority, const char *source, const char *reason,
				 DispatchTicket *ticket)
{
	RefreshSlot *slots = slots_array();
	RefreshSlot *own_idle = NULL;
	RefreshSlot *other_idle = NULL;
	RefreshSlot *unused = NULL;
	TimestampTz now = GetCurrentTimestamp();
	DispatchResult result = DISPATCH_STARTED;
	int busy = 0;
	int processes = 0;

	slots_lock(true);
	for (int i = 0; i < PGOPT_MAX_REFRESH_SLOTS; i++)
	{
		RefreshSlot *slot = &slots[i];

		if (slot->state == SLOT_STARTING && slot->pid == 0 &&
			TimestampDifferenceExceeds(slot->since, now, START_PATIENCE_MS))
			slot->state = SLOT_FREE;
		switch (slot->state)
		{
			case SLOT_LOST:
				/* its database's worker takes note of it, if there is one */
				if (!TimestampDifferenceExceeds(slot->since, now, START_PATIENCE_MS))
					break;
				slot->state = SLOT_FREE;
				/* FALLTHROUGH */
			case SLOT_FREE:
				if (unused == NULL)
					unused = slot;
				break;
			case SLOT_STARTING:
			case SLOT_RUNNING:
				if (slot->dboid == MyDatabaseId && slot->view == view)
					result = DISPATCH_RUNNING;
				busy++;
				processes++;
				break;
			case SLOT_IDLE:
				processes++;
				if (slot->dboid == MyDatabaseId && !slot->quit)
					own_idle = slot;
				else if (!slot->quit)
					other_idle = slot;
				break;
		}
	}

	if (result == DISPATCH_RUNNING)
		;
	else if (busy >= pgopt_max_refresh_workers ||
			 (busy == pgopt_max_refresh_workers - 1 && busy > 0 && priority > CRITICAL_PRIORITY))
		result = DISPATCH_BUSY;
	else if (own_idle != NULL)
	{
		assign(own_idle, view, source, reason, ticket);
		SetLatch(&GetPGProcByNumber(own_idle->procno)->procLatch);
	}
	else if (processes >= pgopt_max_refresh_workers && other_idle != NULL)
	{
		/* its process is needed for this database; its end sets our latch */
		other_idle->quit = true;
		SetLatch(&GetPGProcByNumber(other_idle->procno)->procLatch);
		result = DISPATCH_BUSY;
	}
	else if (unused == NULL || processes >= pgopt_max_refresh_workers)
		result = DISPATCH_BUSY;
	else
	{
		assign(unused, view, source, reason, ticket);
		unused->pid = 0;
	}
	slots_unlock();

	if (result == DISPATCH_STARTED && own_idle == NULL && !start_process(unused - slots))
	{
		slots_lock(true);
		unused->state = SLOT_FREE;
		slots_unlock();
		result = busy > 0 ? DISPATCH_BUSY : DISPATCH_NO_PROCESS;
	}
	return result;
}

bool
dispatch_finished(const DispatchTicket *ticket)
{
	RefreshSlot *slot = &slots_array()[ticket->slot];
	bool finished;

	slots_lock(false);
	finished = slot->job != ticket->job || slot->state == SLOT_IDLE || slot->state == SLOT_LOST ||
			   slot->state == SLOT_FREE;
	slots_unlock();
	return finished;
}

/* --- the process ----------------------------------------------------------------- */

/* Wakes who waits for the end of a job, and who waits for a place. */
static void
announce_end(int requester)
{
	if (requester >= 0)
		SetLatch(&GetPGProcByNumber(requester)->procLatch);
	databases_wake_waiting();
}

static void
free_slot(int code, Datum arg)
{
	RefreshSlot *slot = &slots_array()[my_slot];
	int requester = -1;

	slots_lock(true);
	if (slot->pid == MyProcPid)
	{
		/* one that was asked to quit did not fail: what it had to do is still due */
		if (!slot->quit && (slot->state == SLOT_RUNNING || slot->state == SLOT_STARTING))
			slot->state = SLOT_LOST;
		else
			slot->state = SLOT_FREE;
		slot->since = GetCurrentTimestamp();
		slot->pid = 0;
		requester = slot->requester;
	}
	slots_unlock();
	announce_end(requester);
}

/* Takes the job that lies in the slot. Returns false when there is none. */
static bool
take_job(RefreshSlot *slot, Oid *view, char *source, char *reason, bool *quit)
{
	bool found;

	slots_lock(true);
	*quit = slot->quit;
	found = (slot->state == SLOT_STARTING && !slot->quit);
	if (found)
	{
		slot->state = SLOT_RUNNING;
		slot->since = GetCurrentTimestamp();
		*view = slot->view;
		strlcpy(source, slot->source, sizeof(slot->source));
		strlcpy(reason, slot->reason, sizeof(slot->reason));
	}
	slots_unlock();
	return found;
}

void
worker_note_failure(Oid view, const char *source, const char *reason, int64 duration,
					ErrorData *failure)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		if (OidIsValid(pgopt_extension_oid()))
			matview_note_failure(view, source, reason, duration, failure);
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		EmitErrorReport();
		FlushErrorState();
		AbortCurrentTransaction();
	}
	PG_END_TRY();
}

/* Says what a cancellation was for, when it was ours. */
static void
explain_cancellation(ErrorData *failure)
{
	if (my_slot < 0 || !slots_array()[my_slot].gave_way)
		return;
	failure->sqlerrcode = ERRCODE_LOCK_NOT_AVAILABLE;
	failure->message = "gave way to a statement that waited for a lock of the refresh";
	failure->detail = NULL;
}

static void
begin_job(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
commit_job(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* The view was locked by somebody else: kept in the slot, for the worker to wait a moment. */
static void
note_busy(Oid view)
{
	begin_job();
	matview_forget_attempt(view);
	commit_job();
	if (my_slot < 0)
		return;
	slots_lock(true);
	slots_array()[my_slot].busy = true;
	slots_unlock();
}

void
worker_run_job(Oid view, const char *source, const char *reason)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData *volatile failure = NULL;
	volatile bool locked = false;
	RefreshResult result;
	PrepareResult prepared;
	char *why_not;
	char *hint;
	instr_time start;
	instr_time duration;

	INSTR_TIME_SET_CURRENT(start);
	PG_TRY();
	{
		begin_job();
		matview_note_attempt(view);
		commit_job();

		do
		{
			begin_job();
			prepared = matview_prepare_incremental(view, &why_not, &hint);
			commit_job();
		} while (prepared == PREPARE_MORE);

		begin_job();
		pgstat_report_activity(
			STATE_RUNNING,
			psprintf("refreshing materialized view %s",
					 DatumGetCString(DirectFunctionCall1(regclassout, ObjectIdGetDatum(view)))));
		matview_lock(view);
		locked = true;
		matview_refresh(view, source, reason, &result);
		commit_job();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		failure = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
	}
	PG_END_TRY();

	if (failure != NULL && !locked && failure->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		note_busy(view);
	else if (failure != NULL)
	{
		explain_cancellation(failure);
		INSTR_TIME_SET_CURRENT(duration);
		INSTR_TIME_SUBTRACT(duration, start);
		ereport(
			LOG,
			(errcode(failure->sqlerrcode),
			 errmsg("pgopt could not refresh materialized view %u: %s", view, failure->message)));
		worker_note_failure(view, source, reason, INSTR_TIME_GET_MICROSEC(duration), failure);
	}
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* Merges segments of a search index.  A failure is logged and forgotten: VACUUM merges too. */
static void
run_merge(Oid index)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		pgstat_report_activity(STATE_RUNNING, psprintf("merging segments of index %u", index));
		search_merge_all(index);
	}
	PG_CATCH();
	{
		ErrorData *failure;

		MemoryContextSwitchTo(context);
		failure = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
		explain_cancellation(failure);
		ereport(
			LOG,
			(errcode(failure->sqlerrcode),
			 errmsg("pgopt could not merge segments of index %u: %s", index, failure->message)));
	}
	PG_END_TRY();
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
}

void
pgopt_refresh_worker_main(Datum arg)
{
	RefreshSlot *slot;
	MemoryContext job_context;
	int jobs = 0;

	my_slot = DatumGetInt32(arg);
	slot = &slots_array()[my_slot];

	slots_lock(true);
	if (slot->state != SLOT_STARTING || slot->pid != 0)
	{
		slots_unlock();
		proc_exit(0); /* given up for lost before it appeared */
	}
	slot->pid = MyProcPid;
	slot->procno = compat_my_procno();
	slots_unlock();
	before_shmem_exit(free_slot, (Datum) 0);

	worker_setup();
	BackgroundWorkerInitializeConnectionByOid(slot->dboid, InvalidOid, 0);
	job_context = AllocSetContextCreate(TopMemoryContext, "pgopt refresh", ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		Oid view;
		char source[lengthof(slot->source)];
		char reason[lengthof(slot->reason)];
		bool quit;
		int requester;
		int events;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}

		QueryCancelPending = false; /* one that came too late for the last job */
		if (take_job(slot, &view, source, reason, &quit))
		{
			MemoryContextSwitchTo(job_context);
			if (strcmp(source, WORKER_MERGE) == 0)
				run_merge(view);
			else
				worker_run_job(view, source, reason);
			MemoryContextSwitchTo(TopMemoryContext);
			MemoryContextReset(job_context);

			slots_lock(true);
			slot->state = SLOT_IDLE;
			slot->quit = slot->quit || ++jobs >= MAX_JOBS;
			slot->since = GetCurrentTimestamp();
			requester = slot->requester;
			slot->requester = -1;
			slots_unlock();
			announce_end(requester);
			continue;
		}
		if (quit)
			break;

		events = WaitLatch(
			MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LINGER_MS, PG_WAIT_EXTENSION);
		if (events & WL_TIMEOUT)
		{
			bool idle;

			slots_lock(true);
			idle = (slot->state == SLOT_IDLE);
			if (idle)
				slot->quit = true;
			slots_unlock();
			if (idle)
				break;
		}
	}
	proc_exit(0);
}
