/*
 * write.c
 *		Logs changes: the trigger on captured tables, and what the refresh of a
 *		captured matview calls.
 *
 * Nothing here may make a user's statement fail.  What cannot be logged, a row
 * that is too wide or a log that is past its limit, becomes a row LOG_LOST,
 * which sends every reader that comes upon it to a full refresh; one such row
 * a subtransaction is enough.  Rows go straight into the heap and the index:
 * no SQL, no privileges.  They are hidden from logical decoding, since nobody
 * subscribes to a log.
 *
 * Locks: ROW EXCLUSIVE on the log and its index, to the end of the transaction.
 * Memory: the caller's, which is reset after each row.
 */
#include "pgopt.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "storage/freespace.h"
#include "utils/datum.h"
#include "utils/rel.h"
#include "utils/xid8.h"

#include "compat.h"
#include "rowlog_internal.h"

PG_FUNCTION_INFO_V1(pgopt_log_change);

/* Bytes of a row's free space that are asked for where TOAST's own rows are meant. */
#define TOAST_ROW_SIZE 2000

static BlockNumber
limit_blocks(void)
{
	return (BlockNumber) ((int64) pgopt_incremental_log_limit * 1024 / BLCKSZ);
}

/* Has a table room for a row below the limit? */
static bool
has_room(Relation rel, Size size)
{
	return RelationGetNumberOfBlocks(rel) <= limit_blocks() ||
		   GetPageWithFreeSpace(rel, size) < limit_blocks();
}

static bool
toast_has_room(Relation log)
{
	Relation toast;
	bool answer;

	if (!OidIsValid(log->rd_rel->reltoastrelid))
		return true;
	toast = table_open(log->rd_rel->reltoastrelid, RowExclusiveLock);
	answer = has_room(toast, TOAST_ROW_SIZE);
	table_close(toast, RowExclusiveLock);
	return answer;
}

/* Would TOAST leave a row that fits in a page? */
static bool
fits_in_page(HeapTuple tuple, TupleDesc desc, const Datum *values, const bool *nulls)
{
	Size size = tuple->t_data->t_hoff;

	if (tuple->t_len <= MaxHeapTupleSize && !HeapTupleHasExternal(tuple))
		return true;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		Size width;

		if (nulls[i])
			continue;
		width = att_addlength_datum(0, att->attlen, values[i]);
		if (att->attlen == -1 && att->attstorage != TYPSTORAGE_PLAIN)
			width = Min(width, MAXALIGN(TOAST_POINTER_SIZE));
		size = att_align_nominal(size, att->attalign) + width;
	}
	return size <= MaxHeapTupleSize;
}

static void
insert_row(LogShape *shape, Relation log, HeapTuple tuple, Datum *values, bool *nulls)
{
	Relation index = index_open(shape->index, RowExclusiveLock);

	heap_insert(log, tuple, GetCurrentCommandId(true), HEAP_INSERT_NO_LOGICAL, NULL);
	(void) index_insert(index,
						&values[LOG_XID - 1],
						&nulls[LOG_XID - 1],
						&tuple->t_self,
						log,
						UNIQUE_CHECK_NO,
						false,
						shape->index_info);
	index_close(index, NoLock);
	shape->is_full = ItemPointerGetBlockNumber(&tuple->t_self) > limit_blocks();
}

/* What the log does not hold is told once a subtransaction: what is rolled back takes it along. */
static void
note_lost(LogShape *shape, Relation log, Datum *values, bool *nulls)
{
	uint64 xid = U64FromFullTransactionId(GetTopFullTransactionId());
	SubTransactionId subid = GetCurrentSubTransactionId();

	if (shape->lost_xid == xid && shape->lost_subid == subid)
		return;
	values[LOG_OP - 1] = CharGetDatum(LOG_LOST);
	for (int i = LOG_OP; i < RelationGetDescr(log)->natts; i++)
		nulls[i] = true;
	insert_row(shape, log, heap_form_tuple(RelationGetDescr(log), values, nulls), values, nulls);
	shape->is_full = true;
	shape->lost_xid = xid;
	shape->lost_subid = subid;
}

/*
 * Fills in the pairs of an UPDATE, and the mask of those that stayed as they
 * were.  Values are compared as they are stored: TOASTed ones that the UPDATE
 * left alone have the same pointer.  Returns whether any differs.
 */
static bool
fill_update(const LogShape *shape, TupleTableSlot *old, TupleTableSlot *new, Datum *values,
			bool *nulls)
{
	int nbytes = (shape->npairs + BITS_PER_BYTE - 1) / BITS_PER_BYTE;
	bytea *same = palloc0(VARHDRSZ + nbytes);
	bool any_same = false;
	bool any_differs = false;

	for (int i = 0; i < shape->npairs; i++)
	{
		const LogPair *pair = &shape->pairs[i];
		int column = pair->attnum - 1;
		bool is_same;

		if (column < 0)
			continue;
		values[LOG_OLD(i) - 1] = old->tts_values[column];
		nulls[LOG_OLD(i) - 1] = old->tts_isnull[column];
		is_same =
			old->tts_isnull[column] == new->tts_isnull[column] &&
			(old->tts_isnull[column] ||
			 datumIsEqual(
				 old->tts_values[column], new->tts_values[column], pair->by_value, pair->length));
		if (is_same)
		{
			VARDATA(same)[i / BITS_PER_BYTE] |= 1 << (i % BITS_PER_BYTE);
			any_same = true;
		}
		else
		{
			values[LOG_NEW(i) - 1] = new->tts_values[column];
			nulls[LOG_NEW(i) - 1] = new->tts_isnull[column];
			any_differs = true;
		}
	}
	if (any_same)
	{
		SET_VARSIZE(same, VARHDRSZ + nbytes);
		values[LOG_SAME - 1] = PointerGetDatum(same);
		nulls[LOG_SAME - 1] = false;
	}
	return any_differs;
}

static void
log_change(Relation rel, TupleTableSlot *old, TupleTableSlot *new)
{
	LogShape *shape;
	Relation log = shape_open_log(rel, RowExclusiveLock, &shape);
	TupleDesc desc;
	Datum *values;
	bool *nulls;
	HeapTuple tuple;

	if (log == NULL)
		return;
	desc = RelationGetDescr(log);
	values = palloc(desc->natts * sizeof(Datum));
	nulls = palloc(desc->natts * sizeof(bool));
	memset(nulls, true, desc->natts * sizeof(bool));

	if (old != NULL)
		slot_getsomeattrs(old, shape->last_attnum);
	if (new != NULL)
		slot_getsomeattrs(new, shape->last_attnum);
	if (old != NULL && new != NULL)
	{
		values[LOG_OP - 1] = CharGetDatum(LOG_UPDATE);
		if (!fill_update(shape, old, new, values, nulls))
		{
			table_close(log, NoLock);
			return;
		}
	}
	else
	{
		TupleTableSlot *slot = old != NULL ? old : new;

		values[LOG_OP - 1] = CharGetDatum(old != NULL ? LOG_DELETE : LOG_INSERT);
		for (int i = 0; i < shape->npairs; i++)
		{
			int column = shape->pairs[i].attnum - 1;
			int target = (old != NULL ? LOG_OLD(i) : LOG_NEW(i)) - 1;

			if (column < 0)
				continue;
			values[target] = slot->tts_values[column];
			nulls[target] = slot->tts_isnull[column];
		}
	}
	values[LOG_XID - 1] = FullTransactionIdGetDatum(GetTopFullTransactionId());
	nulls[LOG_XID - 1] = nulls[LOG_OP - 1] = false;

	tuple = heap_form_tuple(desc, values, nulls);
	if ((shape->is_full && !has_room(log, tuple->t_len)) ||
		(HeapTupleHasExternal(tuple) && !toast_has_room(log)) ||
		!fits_in_page(tuple, desc, values, nulls))
		note_lost(shape, log, values, nulls);
	else
		insert_row(shape, log, tuple, values, nulls);
	table_close(log, NoLock);
}

/*
 * The trigger that rowlog_ensure() makes is internal; any other that calls
 * this function does nothing.
 */
Datum
pgopt_log_change(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("pgopt.log_change() was not called by a trigger")));
	if (!trigger->tg_trigger->tgisinternal || !TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		return PointerGetDatum(NULL);

	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		log_change(trigger->tg_relation, NULL, trigger->tg_trigslot);
	else if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		log_change(trigger->tg_relation, trigger->tg_trigslot, NULL);
	else
		log_change(trigger->tg_relation, trigger->tg_trigslot, trigger->tg_newslot);
	return PointerGetDatum(NULL);
}

void
rowlog_append(Relation rel, TupleTableSlot *old, TupleTableSlot *new)
{
	if (shape_get(rel)->is_captured)
		log_change(rel, old, new);
}
