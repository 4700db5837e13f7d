/*
 * merge_queue.c
 *		Requests for merges, from inserts to the background worker.
 *
 * Owns, in shared memory, a list of indexes in which merges are due, under a
 * spinlock.  It is best effort: a request that is lost is made again after the
 * next flush, and VACUUM merges without being asked.
 *
 * Cost: a look through at most MAX_REQUESTS entries, once a flush and once a
 * cycle of a worker.
 */
#include "pgopt.h"

#include "miscadmin.h"
#include "storage/shmem.h"
#include "storage/spin.h"

#include "changes.h"
#include "core.h"
#include "merge_queue.h"
#include "search.h"

#define MAX_REQUESTS 256

typedef struct MergeQueue
{
	slock_t mutex;
	int n;
	uint32 replaced; /* how often one gave way to another */
	struct
	{
		Oid dboid;
		Oid index;
	} requests[MAX_REQUESTS];
} MergeQueue;

static MergeQueue *queue = NULL;

static void
queue_shmem_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(MergeQueue)));
}

static void
queue_shmem_startup(void)
{
	bool found;

	queue = ShmemInitStruct("pgopt merges", sizeof(MergeQueue), &found);
	if (found)
		return;
	memset(queue, 0, sizeof(MergeQueue));
	SpinLockInit(&queue->mutex);
}

void
merge_queue_init(void)
{
	static const ShmemRoom room = {
		.request = queue_shmem_request,
		.startup = queue_shmem_startup,
	};

	shmem_add_room(&room);
}

void
search_request_merge(Oid index)
{
	bool noted = false;

	SpinLockAcquire(&queue->mutex);
	for (int i = 0; i < queue->n && !noted; i++)
		noted = queue->requests[i].dboid == MyDatabaseId && queue->requests[i].index == index;
	if (!noted)
	{
		/* full: perhaps of databases that are gone, so that one has to give way */
		int place = queue->n < MAX_REQUESTS ? queue->n++ : queue->replaced++ % MAX_REQUESTS;

		queue->requests[place].dboid = MyDatabaseId;
		queue->requests[place].index = index;
	}
	SpinLockRelease(&queue->mutex);
}

bool
search_take_merge(Oid *index)
{
	bool found = false;

	if (queue == NULL)
		return false;
	SpinLockAcquire(&queue->mutex);
	for (int i = 0; i < queue->n && !found; i++)
	{
		if (queue->requests[i].dboid != MyDatabaseId)
			continue;
		*index = queue->requests[i].index;
		queue->requests[i] = queue->requests[--queue->n];
		found = true;
	}
	SpinLockRelease(&queue->mutex);
	return found;
}

bool
merge_request(Relation index)
{
	DatabaseState *db;

	if (queue == NULL || !pgopt_is_preloaded() || RelationUsesLocalBuffers(index))
		return false;
	db = database_state();
	if (db == NULL || pg_atomic_read_u32(&db->worker_procno) == 0)
		return false;
	search_request_merge(RelationGetRelid(index));
	database_wake_worker(db);
	return true;
}
