/*
 * progress.c
 *		pgopt_advisor_progress(): runs of the advisor that are under way.
 */
#include "pgopt.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core.h"
#include "progress.h"

PG_FUNCTION_INFO_V1(pgopt_advisor_progress);

#define MAX_RUNS         32
#define PROGRESS_COLUMNS 7

typedef struct ProgressSlot
{
	pg_atomic_uint32 pid; /* 0 = free */
	Oid database;
	Oid userid;
	TimestampTz started;
	const char
		*phase; /* a constant of the library, which is at the same address in every process */
	int done;
	int total;
	int planner_calls;
} ProgressSlot;

static ProgressSlot *slots = NULL;
static ProgressSlot *mine = NULL;

static void
request(void)
{
	RequestAddinShmemSpace(MAX_RUNS * sizeof(ProgressSlot));
}

static void
startup(void)
{
	bool found;

	slots = ShmemInitStruct("pgopt advisor progress", MAX_RUNS * sizeof(ProgressSlot), &found);
	if (found)
		return;
	memset(slots, 0, MAX_RUNS * sizeof(ProgressSlot));
	for (int i = 0; i < MAX_RUNS; i++)
		pg_atomic_init_u32(&slots[i].pid, 0);
}

static const ShmemRoom room = {.request = request, .startup = startup};

void
progress_init(void)
{
	if (process_shared_preload_libraries_in_progress)
		shmem_add_room(&room);
}

void
progress_end(void)
{
	if (mine != NULL)
		pg_atomic_write_u32(&mine->pid, 0);
	mine = NULL;
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
		progress_end();
}

static void
at_exit(int code, Datum arg)
{
	progress_end();
}

void
progress_begin(void)
{
	static bool registered = false;

	if (slots == NULL)
		return;
	if (!registered)
	{
		RegisterXactCallback(at_transaction_end, NULL);
		before_shmem_exit(at_exit, (Datum) 0);
		registered = true;
	}
	progress_end();
	for (int i = 0; i < MAX_RUNS && mine == NULL; i++)
	{
		uint32 free_slot = 0;

		if (pg_atomic_compare_exchange_u32(&slots[i].pid, &free_slot, (uint32) MyProcPid))
			mine = &slots[i];
	}
	if (mine == NULL)
		return;
	mine->database = MyDatabaseId;
	mine->userid = GetUserId();
	mine->started = GetCurrentTimestamp();
	progress_report("reading the workload", 0, 0, 0);
}

void
progress_report(const char *phase, int done, int total, int planner_calls)
{
	if (mine == NULL)
		return;
	mine->phase = phase;
	mine->done = done;
	mine->total = total;
	mine->planner_calls = planner_calls;
}

Datum
pgopt_advisor_progress(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; slots != NULL && i < MAX_RUNS; i++)
	{
		const ProgressSlot *slot = &slots[i];
		uint32 pid = pg_atomic_read_u32(&unconstify(ProgressSlot *, slot)->pid);
		const char *phase = slot->phase;
		Datum values[PROGRESS_COLUMNS];
		bool nulls[PROGRESS_COLUMNS] = {false};

		if (pid == 0 || phase == NULL || slot->database != MyDatabaseId)
			continue;
		values[0] = Int32GetDatum((int32) pid);
		values[1] = ObjectIdGetDatum(slot->userid);
		values[2] = TimestampTzGetDatum(slot->started);
		values[3] = CStringGetTextDatum(phase);
		values[4] = Int32GetDatum(slot->done);
		values[5] = Int32GetDatum(slot->total);
		values[6] = Int32GetDatum(slot->planner_calls);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
