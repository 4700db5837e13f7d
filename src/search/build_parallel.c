/*
 * build_parallel.c
 *		A build by several processes.
 *
 * Each of them, the leader too, reads its part of the table and leaves runs
 * in a set of temporary files that all share; the leader merges them.  The
 * leader's transaction is theirs, so that all see the same rows.
 *
 * Locks: workers lock table and index as the leader has them locked, which
 * does not block within a group.  Memory: each process has its share of
 * maintenance_work_mem.
 */
#include "pgopt.h"

#include "access/parallel.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "executor/instrument.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/condition_variable.h"
#include "storage/spin.h"
#include "tcop/tcopprot.h"
#include "utils/backend_status.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

#include "build_private.h"

/* In the shared memory's table of contents. */
#define KEY_SHARED       UINT64CONST(0xB500000000000001)
#define KEY_QUERY_TEXT   UINT64CONST(0xB500000000000002)
#define KEY_WAL_USAGE    UINT64CONST(0xB500000000000003)
#define KEY_BUFFER_USAGE UINT64CONST(0xB500000000000004)

typedef struct BuildShared
{
	/* fixed */
	Oid heap;
	Oid index;
	bool concurrent;
	Size budget; /* of each process */
	uint64 query_id;
	SharedFileSet fileset;
	ConditionVariable done; /* signalled by each process at its end */
	/* protected by the lock */
	slock_t lock;
	int ndone;
	double heap_tuples;
	double index_tuples;
	bool broken_hot_chain;
	/* the ParallelTableScanDesc follows */
} BuildShared;

#define shared_scan(shared) \
	((ParallelTableScanDesc) ((char *) (shared) + BUFFERALIGN(sizeof(BuildShared))))

struct BuildLeader
{
	ParallelContext *context;
	BuildShared *shared;
	Snapshot snapshot;
	WalUsage *wal_usage;
	BufferUsage *buffer_usage;
};

extern PGDLLEXPORT void pgopt_search_build_worker(dsm_segment *segment, shm_toc *toc);

static void
fill_shared(BuildShared *shared, Relation heap, Relation index, IndexInfo *info, int nprocesses,
			Snapshot snapshot, dsm_segment *segment)
{
	shared->heap = RelationGetRelid(heap);
	shared->index = RelationGetRelid(index);
	shared->concurrent = info->ii_Concurrent;
	shared->budget = (Size) maintenance_work_mem * 1024 / nprocesses;
	shared->query_id = (uint64) pgstat_get_my_query_id();
	SharedFileSetInit(&shared->fileset, segment);
	ConditionVariableInit(&shared->done);
	SpinLockInit(&shared->lock);
	shared->ndone = 0;
	shared->heap_tuples = 0;
	shared->index_tuples = 0;
	shared->broken_hot_chain = false;
	table_parallelscan_initialize(heap, shared_scan(shared), snapshot);
}

/* Launches workers; NULL when there are none to be had. */
BuildLeader *
build_begin_parallel(Relation heap, Relation index, IndexInfo *info, int nworkers)
{
	BuildLeader *leader = palloc0(sizeof(BuildLeader));
	Size query_size = debug_query_string != NULL ? strlen(debug_query_string) + 1 : 0;
	ParallelContext *context;
	Snapshot snapshot;
	Size shared_size;

	EnterParallelMode();
	context = CreateParallelContext("pgopt", "pgopt_search_build_worker", nworkers);
	/* As table_index_build_scan() does: rows that are dead to some only must be indexed, too. */
	snapshot = info->ii_Concurrent ? RegisterSnapshot(GetTransactionSnapshot()) : SnapshotAny;

	shared_size =
		add_size(BUFFERALIGN(sizeof(BuildShared)), table_parallelscan_estimate(heap, snapshot));
	shm_toc_estimate_chunk(&context->estimator, shared_size);
	shm_toc_estimate_chunk(&context->estimator, query_size);
	shm_toc_estimate_chunk(&context->estimator, mul_size(sizeof(WalUsage), nworkers));
	shm_toc_estimate_chunk(&context->estimator, mul_size(sizeof(BufferUsage), nworkers));
	shm_toc_estimate_keys(&context->estimator, 4);
	InitializeParallelDSM(context);
	leader->context = context;
	leader->snapshot = snapshot;
	if (context->seg == NULL)
	{
		build_end_parallel(leader);
		return NULL;
	}

	leader->shared = shm_toc_allocate(context->toc, shared_size);
	fill_shared(leader->shared, heap, index, info, nworkers + 1, snapshot, context->seg);
	shm_toc_insert(context->toc, KEY_SHARED, leader->shared);
	if (query_size > 0)
	{
		char *query = shm_toc_allocate(context->toc, query_size);

		memcpy(query, debug_query_string, query_size);
		shm_toc_insert(context->toc, KEY_QUERY_TEXT, query);
	}
	leader->wal_usage = shm_toc_allocate(context->toc, mul_size(sizeof(WalUsage), nworkers));
	shm_toc_insert(context->toc, KEY_WAL_USAGE, leader->wal_usage);
	leader->buffer_usage = shm_toc_allocate(context->toc, mul_size(sizeof(BufferUsage), nworkers));
	shm_toc_insert(context->toc, KEY_BUFFER_USAGE, leader->buffer_usage);

	LaunchParallelWorkers(context);
	if (context->nworkers_launched == 0)
	{
		build_end_parallel(leader);
		return NULL;
	}
	return leader;
}

int
build_workers(const BuildLeader *leader)
{
	return leader->context->nworkers_launched;
}

/* Snapshot, shared memory and parallel mode are given up; workers have ended, or never were. */
void
build_end_parallel(BuildLeader *leader)
{
	ParallelContext *context = leader->context;

	if (context->seg != NULL)
	{
		WaitForParallelWorkersToFinish(context);
		for (int i = 0; i < context->nworkers_launched; i++)
			InstrAccumParallelQuery(&leader->buffer_usage[i], &leader->wal_usage[i]);
	}
	if (IsMVCCSnapshot(leader->snapshot))
		UnregisterSnapshot(leader->snapshot);
	DestroyParallelContext(context);
	ExitParallelMode();
}

/* One process's part: reads what of the table it gets, and leaves runs. */
static void
scan_part(BuildShared *shared, Builder *builder, Relation heap, IndexInfo *info)
{
	TableScanDesc scan = table_beginscan_parallel(heap, shared_scan(shared));
	double heap_tuples;

	info->ii_Concurrent = shared->concurrent;
	heap_tuples = table_index_build_scan(
		heap, builder->index, info, true, builder->leader, builder_add, builder, scan);
	builder_spill(builder);
	if (!builder->leader)
		builder_publish_runs(builder);

	SpinLockAcquire(&shared->lock);
	shared->ndone++;
	shared->heap_tuples += heap_tuples;
	shared->index_tuples += builder->ntuples;
	if (info->ii_BrokenHotChain)
		shared->broken_hot_chain = true;
	SpinLockRelease(&shared->lock);
	ConditionVariableSignal(&shared->done);
}

static Builder *
create_builder(BuildShared *shared, Relation index, int participant)
{
	Builder *builder = builder_create(index, shared->budget);

	builder->fileset = &shared->fileset;
	builder->participant = participant;
	return builder;
}

/*
 * Takes part in the scan, waits for the others, and gives a builder that has
 * everybody's runs.  Returns the number of the table's rows.
 */
double
build_parallel_scan(BuildLeader *leader, Relation heap, Relation index, IndexInfo *info,
					Builder **result)
{
	BuildShared *shared = leader->shared;
	int nworkers = leader->context->nworkers_launched;
	Builder *builder = create_builder(shared, index, nworkers);
	double heap_tuples;

	builder->leader = true;
	scan_part(shared, builder, heap, info);

	/* A worker that never started is an error here, and none to wait for. */
	WaitForParallelWorkersToAttach(leader->context);
	for (;;)
	{
		int ndone;

		SpinLockAcquire(&shared->lock);
		ndone = shared->ndone;
		heap_tuples = shared->heap_tuples;
		builder->ntuples = shared->index_tuples;
		if (shared->broken_hot_chain)
			info->ii_BrokenHotChain = true;
		SpinLockRelease(&shared->lock);
		if (ndone == nworkers + 1)
			break;
		ConditionVariableSleep(&shared->done, WAIT_EVENT_PARALLEL_CREATE_INDEX_SCAN);
	}
	ConditionVariableCancelSleep();

	for (int i = 0; i < nworkers; i++)
		builder_adopt_runs(builder, i);
	/* All the memory is the leader's now. */
	builder->budget = (Size) maintenance_work_mem * 1024;
	*result = builder;
	return heap_tuples;
}

void
pgopt_search_build_worker(dsm_segment *segment, shm_toc *toc)
{
	BuildShared *shared = shm_toc_lookup(toc, KEY_SHARED, false);
	WalUsage *wal_usage = shm_toc_lookup(toc, KEY_WAL_USAGE, false);
	BufferUsage *buffer_usage = shm_toc_lookup(toc, KEY_BUFFER_USAGE, false);
	LOCKMODE heap_lock = shared->concurrent ? ShareUpdateExclusiveLock : ShareLock;
	LOCKMODE index_lock = shared->concurrent ? RowExclusiveLock : AccessExclusiveLock;
	Builder *builder;
	Relation heap;
	Relation index;

	debug_query_string = shm_toc_lookup(toc, KEY_QUERY_TEXT, true);
	pgstat_report_activity(STATE_RUNNING, debug_query_string);
	pgstat_report_query_id(shared->query_id, false);

	heap = table_open(shared->heap, heap_lock);
	index = index_open(shared->index, index_lock);
	SharedFileSetAttach(&shared->fileset, segment);
	InstrStartParallelQuery();
	builder = create_builder(shared, index, ParallelWorkerNumber);
	scan_part(shared, builder, heap, BuildIndexInfo(index));
	builder_free(builder);
	InstrEndParallelQuery(&buffer_usage[ParallelWorkerNumber], &wal_usage[ParallelWorkerNumber]);
	index_close(index, index_lock);
	table_close(heap, heap_lock);
}
