/*
 * maintain.c
 *		Keeps the logs small: what every view has read goes, views that are too
 *		far behind are given up, and what no view needs is no longer captured.
 *
 * A change goes only when its transaction is older than all valid views'
 * frontiers.  A view that is not valid may be about to become so, with a
 * frontier that nobody else sees yet.  So nothing goes while such a view is
 * being refreshed, which its lock tells, even if that transaction has let go of
 * its snapshot or is prepared; and nothing that is not older than every
 * snapshot in use, since one of them may be the next refresh's.  In this order:
 * that horizon, the locks, the frontiers.  A refresh that ends in between has
 * its frontier there; one that begins has a later snapshot.
 *
 * Locks: SHARE UPDATE EXCLUSIVE on a log while rows are deleted from it, so
 * that there is one at a time; ACCESS EXCLUSIVE to empty a log at one go, and
 * on the relation too to end its capture.  None is queued for.
 *
 * Cost: one statement, and for each log one look into its index; beyond that,
 * what there is to delete.
 */
#include "pgopt.h"

#include "access/genam.h"
#include "access/detoast.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/xid8.h"

#include "compat.h"
#include "core.h"
#include "rowlog_internal.h"

/* Rows that are deleted from a log in one call; the next one goes on. */
#define MOST_DELETED 200000

/* A log of fewer blocks is not worth making anew: deleting its rows is cheaper. */
#define FEWEST_EMPTIED 1024

/* Ending a capture locks readers out for a moment: only the first is asked for more than once. */
#define FIRST_DROP_WAIT_MS 20

/* A view that has to read a log. */
typedef struct Reader
{
	Oid view;
	char *frontier; /* NULL: it is not valid */
	uint64 oldest;  /* what it may have to read is of this transaction or later */
} Reader;

/* A log, and who has to read it. */
typedef struct Log
{
	Oid relid;
	Oid log;
	bool is_needed;
	List *readers; /* of Reader * */
} Log;

/* The oldest transaction that is not past for some snapshot in use that can read this table. */
static uint64
oldest_in_use(Oid table)
{
	Relation rel = table_open(table, AccessShareLock);
	TransactionId oldest = GetOldestNonRemovableTransactionId(rel);
	FullTransactionId next = ReadNextFullTransactionId(); /* not before, to be later */
	uint32 epoch = EpochFromFullTransactionId(next);

	table_close(rel, AccessShareLock);
	if (oldest > XidFromFullTransactionId(next))
		epoch--;
	return U64FromFullTransactionId(FullTransactionIdFromEpochAndXid(epoch, oldest));
}

/*
 * The logs and their readers, in the current context, as the active snapshot
 * sees them.  The tables are locked in the order in which DROP EXTENSION locks
 * them.
 */
static List *
load_logs(void)
{
	static SPIPlanPtr plan = NULL;
	MemoryContext caller = CurrentMemoryContext;
	PgoptSpi spi;
	List *logs = NIL;
	Log *log = NULL;
	uint64 rows;

	pgopt_spi_begin(&spi);
	rows = pgopt_spi_execute_kept(
		&plan,
		"SELECT l.relation, l.log, s.view, pg_snapshot_xmin(s.frontier), s.frontier::text"
		"  FROM (pgopt.matview m"
		"        JOIN pgopt.incremental_state s ON s.view = m.view AND m.home = pgopt.home()"
		"                                      AND m.incremental <> 'never'"
		"        JOIN pg_class c ON c.oid = s.view)"
		" RIGHT JOIN pgopt.row_log l ON l.relation = ANY (s.sources)"
		" ORDER BY l.relation",
		0,
		NULL,
		NULL,
		NULL,
		true,
		SPI_OK_SELECT);
	MemoryContextSwitchTo(caller);
	for (uint64 i = 0; i < rows; i++)
	{
		bool isnull;
		Oid relid = DatumGetObjectId(pgopt_spi_value(i, 1, &isnull));
		Oid view;
		Datum oldest;
		Reader *reader;

		if (log == NULL || log->relid != relid)
		{
			log = palloc0(sizeof(Log));
			log->relid = relid;
			log->log = DatumGetObjectId(pgopt_spi_value(i, 2, &isnull));
			logs = lappend(logs, log);
		}
		view = DatumGetObjectId(pgopt_spi_value(i, 3, &isnull));
		if (isnull)
			continue;
		reader = palloc0(sizeof(Reader));
		reader->view = view;
		oldest = pgopt_spi_value(i, 4, &isnull);
		if (!isnull)
		{
			reader->oldest = U64FromFullTransactionId(DatumGetFullTransactionId(oldest));
			reader->frontier = pgopt_spi_text(i, 5);
		}
		log->is_needed = true;
		log->readers = lappend(log->readers, reader);
	}
	pgopt_spi_end(&spi);
	return logs;
}

/* The views that nobody refreshes right now. */
static List *
idle_views(List *logs)
{
	List *idle = NIL;
	ListCell *lc;
	ListCell *lc2;

	foreach(lc, logs)
	{
		foreach(lc2, ((const Log *) lfirst(lc))->readers)
		{
			Oid view = ((const Reader *) lfirst(lc2))->view;

			if (!ConditionalLockRelationOid(view, RowShareLock))
				continue;
			UnlockRelationOid(view, RowShareLock);
			idle = lappend_oid(idle, view);
		}
	}
	return idle;
}

static SysScanDesc
scan_log(Relation log, StrategyNumber strategy, RegProcedure procedure, uint64 xid,
		 Snapshot snapshot)
{
	ScanKeyData key;

	ScanKeyInit(&key,
				LOG_XID,
				strategy,
				procedure,
				FullTransactionIdGetDatum(FullTransactionIdFromU64(xid)));
	return systable_beginscan(log, rowlog_index(log), true, snapshot, 1, &key);
}

/* --- views that are too far behind ----------------------------------------------- */

static Size
external_size(HeapTuple tuple, TupleDesc desc, Datum *values, bool *nulls)
{
	Size size = 0;

	heap_deform_tuple(tuple, desc, values, nulls);
	for (int i = 0; i < desc->natts; i++)
	{
		struct varatt_external pointer;

		if (nulls[i] || TupleDescAttr(desc, i)->attlen != -1 ||
			!VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(values[i])))
			continue;
		VARATT_EXTERNAL_GET_POINTER(pointer, (struct varlena *) DatumGetPointer(values[i]));
		size += VARATT_EXTERNAL_GET_EXTSIZE(pointer);
	}
	return size;
}

/* Are there more bytes from this transaction on than one log may hold, or changes that it could not? */
static bool
exceeds_limit(Relation log, uint64 oldest)
{
	TupleDesc desc = RelationGetDescr(log);
	Datum *values = palloc(desc->natts * sizeof(Datum));
	bool *nulls = palloc(desc->natts * sizeof(bool));
	int64 left = (int64) pgopt_incremental_log_limit * 1024;
	SysScanDesc scan =
		scan_log(log, BTGreaterEqualStrategyNumber, F_XID8GE, oldest, GetActiveSnapshot());
	HeapTuple tuple;

	while (left >= 0 && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool isnull;

		CHECK_FOR_INTERRUPTS();
		if (DatumGetChar(heap_getattr(tuple, LOG_OP, desc, &isnull)) == LOG_LOST)
			left = -1;
		left -= MAXALIGN(tuple->t_len) + sizeof(ItemIdData);
		if (HeapTupleHasExternal(tuple))
			left -= external_size(tuple, desc, values, nulls);
	}
	systable_endscan(scan);
	pfree(values);
	pfree(nulls);
	return left < 0;
}

/* Unless its row is locked, or it has been refreshed in between. */
static void
give_up(const Reader *reader, const char *reason)
{
	PgoptSpi spi;
	Oid types[] = {OIDOID, TEXTOID, TEXTOID};
	Datum values[] = {ObjectIdGetDatum(reader->view),
					  CStringGetTextDatum(reader->frontier),
					  CStringGetTextDatum(reason)};

	pgopt_spi_begin(&spi);
	(void) pgopt_spi_execute("UPDATE pgopt.incremental_state"
							 "   SET valid = false, frontier = NULL, reason = $3"
							 " WHERE view IN (SELECT view FROM pgopt.incremental_state"
							 "                 WHERE view = $1 AND frontier::text = $2"
							 "                   FOR UPDATE SKIP LOCKED)",
							 lengthof(types),
							 types,
							 values,
							 NULL,
							 false,
							 SPI_OK_UPDATE);
	pgopt_spi_end(&spi);
}

/* What those have not read is kept until the next call, which finds them no longer valid. */
static void
give_up_laggards(const Log *log, Relation rel)
{
	ListCell *lc;

	if (rowlog_bytes(log->relid) <= (int64) pgopt_incremental_log_limit * 1024)
		return;
	foreach(lc, log->readers)
	{
		const Reader *reader = lfirst(lc);

		if (reader->frontier != NULL && exceeds_limit(rel, reader->oldest))
			give_up(reader,
					psprintf("more rows of %s changed than pgopt.incremental_log_limit keeps",
							 get_rel_name(log->relid)));
	}
}

/* --- what all have read --------------------------------------------------------------- */

/* Is there a row of this transaction or later, of whatever state? */
static bool
has_row_from(Relation log, uint64 xid)
{
	SysScanDesc scan = scan_log(log, BTGreaterEqualStrategyNumber, F_XID8GE, xid, SnapshotAny);
	bool answer = HeapTupleIsValid(systable_getnext(scan));

	systable_endscan(scan);
	return answer;
}

/*
 * Empties a big log of which nothing is needed any more.  Whoever has written
 * to it and not ended holds a lock that is in the way, so what is not there
 * now under the lock will not come from the past.
 */
static bool
empty_log(Relation log, uint64 limit)
{
	if (RelationGetNumberOfBlocks(log) < FEWEST_EMPTIED || has_row_from(log, limit) ||
		!ConditionalLockRelation(log, AccessExclusiveLock))
		return false;
	if (has_row_from(log, limit))
		return false;
	compat_truncate(log);
	return true;
}

static void
delete_rows(Relation log, uint64 limit)
{
	SysScanDesc scan = scan_log(log, BTLessStrategyNumber, F_XID8LT, limit, GetActiveSnapshot());
	HeapTuple tuple;
	int64 deleted = 0;

	while (deleted++ < MOST_DELETED && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		CHECK_FOR_INTERRUPTS();
		simple_heap_delete(log, &tuple->t_self);
	}
	systable_endscan(scan);
}

/* From which transaction on changes are to be kept. */
static uint64
oldest_needed(const Log *log, uint64 horizon, List *idle)
{
	uint64 oldest = horizon;
	ListCell *lc;

	foreach(lc, log->readers)
	{
		const Reader *reader = lfirst(lc);

		if (reader->frontier != NULL)
			oldest = Min(oldest, reader->oldest);
		else if (!list_member_oid(idle, reader->view))
			return 0;
	}
	return oldest;
}

static void
tidy(const Log *log, uint64 horizon, List *idle)
{
	Relation rel;
	uint64 limit = oldest_needed(log, horizon, idle);

	if (!ConditionalLockRelationOid(log->log, ShareUpdateExclusiveLock))
		return;
	rel = try_relation_open(log->log, NoLock);
	if (rel == NULL)
		return;
	give_up_laggards(log, rel);
	if (limit > 0 && !empty_log(rel, limit))
		delete_rows(rel, limit);
	relation_close(rel, NoLock);
}

/* --- captures that end -------------------------------------------------------------------- */

static bool
end_capture(const Log *log, int timeout)
{
	if (!rowlog_poll_lock(log->relid, AccessExclusiveLock, timeout) ||
		!rowlog_poll_lock(log->log, AccessExclusiveLock, timeout))
		return false;
	capture_end(log->relid);
	return true;
}

bool
rowlog_maintain(void)
{
	Oid table = pgopt_table_oid("row_log");
	uint64 horizon;
	char *publication = rowlog_publication();
	List *idle;
	List *logs;
	ListCell *lc;
	int timeout = FIRST_DROP_WAIT_MS;
	bool all_done = true;

	if (!OidIsValid(table))
		return true;
	horizon = oldest_in_use(table);
	PushActiveSnapshot(GetLatestSnapshot());
	idle = idle_views(load_logs());
	PopActiveSnapshot();
	PushActiveSnapshot(GetLatestSnapshot());
	logs = load_logs();
	foreach(lc, logs)
	{
		Log *log = lfirst(lc);
		ListCell *reader;

		if (publication != NULL)
		{
			foreach(reader, log->readers)
				if (((const Reader *) lfirst(reader))->frontier != NULL)
					give_up(lfirst(reader), publication);
			log->is_needed = false;
		}
		if (log->is_needed && SearchSysCacheExists1(RELOID, ObjectIdGetDatum(log->relid)))
			tidy(log, horizon, idle);
		else
			log->is_needed = false;
	}

	/* Last, because readers of those relations wait from here to the end of the transaction. */
	foreach(lc, logs)
	{
		const Log *log = lfirst(lc);

		if (log->is_needed)
			continue;
		if (end_capture(log, timeout))
			timeout = 0;
		else
			all_done = false;
	}
	PopActiveSnapshot();
	return all_done;
}
