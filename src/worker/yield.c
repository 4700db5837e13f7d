/*
 * yield.c
 *		Refreshes give way to statements that wait for them.
 *
 * A refresh holds ACCESS SHARE on what it reads for as long as it runs.
 * Nobody notices, until a statement asks for a lock that conflicts with it,
 * such as ALTER TABLE: that one waits, and all readers and writers of the
 * table wait behind it.  So a refresh worker that somebody has waited for
 * longer than pgopt.refresh_lock_timeout is cancelled, and tries again later.
 *
 * Cost: while a refresh runs, one look at pg_locks a second or so.
 */
#include "pgopt.h"

#include <signal.h>

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/timestamp.h"

#include "core.h"
#include "worker.h"

/* Refresh workers of this database that run for longer than the timeout. Returns their number. */
static int
running_pids(Datum *pids, TimestampTz now)
{
	RefreshSlot *slots = slots_array();
	int count = 0;

	slots_lock(false);
	for (int i = 0; i < PGOPT_MAX_REFRESH_SLOTS; i++)
		if (slots[i].state == SLOT_RUNNING && slots[i].dboid == MyDatabaseId &&
			TimestampDifferenceExceeds(slots[i].since, now, pgopt_refresh_lock_timeout))
			pids[count++] = Int32GetDatum(slots[i].pid);
	slots_unlock();
	return count;
}

static void
cancel(int pid)
{
	RefreshSlot *slots = slots_array();

	slots_lock(true);
	for (int i = 0; i < PGOPT_MAX_REFRESH_SLOTS; i++)
	{
		if (slots[i].pid != pid || slots[i].state != SLOT_RUNNING)
			continue;
		slots[i].gave_way = true;
		(void) kill(pid, SIGINT);
	}
	slots_unlock();
}

void
yield_to_waiters(void)
{
	Datum pids[PGOPT_MAX_REFRESH_SLOTS];
	int npids = running_pids(pids, GetCurrentTimestamp());
	Oid types[] = {INT4OID, INT4ARRAYOID};
	Datum values[2];
	PgoptSpi spi;
	uint64 rows;

	if (npids == 0 || pgopt_refresh_lock_timeout == 0)
		return;
	values[0] = Int32GetDatum(pgopt_refresh_lock_timeout);
	values[1] =
		PointerGetDatum(construct_array(pids, npids, INT4OID, sizeof(int32), true, TYPALIGN_INT));

	pgopt_spi_begin(&spi);
	rows =
		pgopt_spi_execute("SELECT DISTINCT blocker FROM pg_locks w"
						  " CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS blocker"
						  " WHERE NOT w.granted AND w.locktype = 'relation'"
						  "   AND w.waitstart < clock_timestamp() - $1 * interval '1 millisecond'"
						  "   AND w.pid <> ALL ($2) AND blocker = ANY ($2)",
						  lengthof(types),
						  types,
						  values,
						  NULL,
						  false,
						  SPI_OK_SELECT);
	for (uint64 row = 0; row < rows; row++)
	{
		bool isnull;

		cancel(DatumGetInt32(pgopt_spi_value(row, 1, &isnull)));
	}
	pgopt_spi_end(&spi);
}
