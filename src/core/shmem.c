/*
 * shmem.c
 *		Asks for the rooms' shared memory and has them set it up.
 *
 * Everything in it dies with a crash of the server, on purpose: what it held
 * is then unknown, and the rooms treat it so.
 */
#include "pgopt.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "core.h"

#define MAX_ROOMS 12

static const ShmemRoom *rooms[MAX_ROOMS];
static int nrooms = 0;
static bool shmem_ready = false;
static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static void
pgopt_shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();

	for (int i = 0; i < nrooms; i++)
		rooms[i]->request();
}

static void
pgopt_shmem_startup(void)
{
	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (int i = 0; i < nrooms; i++)
		rooms[i]->startup();
	LWLockRelease(AddinShmemInitLock);
	shmem_ready = true;
}

void
shmem_init(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = pgopt_shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = pgopt_shmem_startup;
}

void
shmem_add_room(const ShmemRoom *room)
{
	Assert(nrooms < MAX_ROOMS);
	rooms[nrooms++] = room;
}

bool
pgopt_is_preloaded(void)
{
	return shmem_ready;
}

void
pgopt_require_preload(const char *what)
{
	if (!shmem_ready)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s needs pgopt to be loaded when the server starts", what),
				 errhint(PGOPT_PRELOAD_HINT)));
}
