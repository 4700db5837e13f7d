/*
 * slots.c
 *		The places of refresh workers: which view is being refreshed, by whom.
 *
 * Owns SlotTable in shared memory; everything in it is under its lock, which
 * is the first in the lock order and held for a few instructions only.
 */
#include "pgopt.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "core.h"
#include "matview.h"

typedef struct SlotTable
{
	LWLock *lock;
	RefreshSlot slots[PGOPT_MAX_REFRESH_SLOTS];
} SlotTable;

static SlotTable *table = NULL;

static void
slots_shmem_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(SlotTable)));
	RequestNamedLWLockTranche("pgopt refresh slots", 1);
}

static void
slots_shmem_startup(void)
{
	bool found;

	table = ShmemInitStruct("pgopt refresh slots", sizeof(SlotTable), &found);
	if (!found)
	{
		memset(table, 0, sizeof(SlotTable));
		table->lock = &(GetNamedLWLockTranche("pgopt refresh slots"))[0].lock;
	}
}

void
slots_init(void)
{
	static const ShmemRoom room = {slots_shmem_request, slots_shmem_startup};

	shmem_add_room(&room);
}

void
slots_lock(bool exclusive)
{
	LWLockAcquire(table->lock, exclusive ? LW_EXCLUSIVE : LW_SHARED);
}

void
slots_unlock(void)
{
	LWLockRelease(table->lock);
}

RefreshSlot *
slots_array(void)
{
	return table->slots;
}

TimestampTz
slots_running_since(Oid view)
{
	TimestampTz since = 0;

	if (table == NULL)
		return 0;
	slots_lock(false);
	for (int i = 0; i < PGOPT_MAX_REFRESH_SLOTS; i++)
	{
		RefreshSlot *slot = &table->slots[i];

		if (slot->dboid == MyDatabaseId && slot->view == view &&
			(slot->state == SLOT_STARTING || slot->state == SLOT_RUNNING))
			since = slot->since;
	}
	slots_unlock();
	return since;
}
