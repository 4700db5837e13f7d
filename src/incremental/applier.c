/*
 * applier.c
 *		Changes the rows of a materialized view in place.
 *
 * Owns the RowApplier.  The server refuses DML on a materialized view in
 * CheckValidResultRel(), which only the executor's ModifyTable calls; below it,
 * table access methods and indexes make no difference.  Every change goes to
 * the view's own row log too, for materialized views that read this one.
 *
 * Locks: the caller's, which keep other writers out; ROW EXCLUSIVE on the
 * indexes.
 *
 * Memory: one context below that of applier_begin(), deleted by
 * applier_finish(); the changes are in tuplestores, which spill to disk beyond
 * work_mem.
 *
 * Cost: a row fetched, compared and perhaps written for each change.
 */
#include "pgopt.h"

#include "access/heapam.h"
#include "access/sysattr.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "optimizer/optimizer.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "compat.h"
#include "incremental_private.h"
#include "row_table.h"

/* The new heap takes the old one's place as a whole, for older snapshots too. */
#define FILL_OPTIONS (TABLE_INSERT_SKIP_FSM | TABLE_INSERT_FROZEN)

struct RowApplier
{
	Relation rel;
	ApplierKind kind;
	Snapshot snapshot;
	CommandId cid;
	MemoryContext context;
	int natts;
	uint64 written;

	/* Changes to make: the view's columns, the old row's place, where to tell the new one's. */
	TupleDesc desc;
	Datum *values;
	bool *nulls;
	Tuplestorestate *inserts;
	Tuplestorestate *updates;
	Tuplestorestate *deletes;

	/* making them */
	EState *estate;
	ResultRelInfo *info;
	TupleTableSlot *change; /* of a tuplestore */
	TupleTableSlot *new;
	TupleTableSlot *old;
	BulkInsertState bulk;
};

/* --- gathering ------------------------------------------------------------------------ */

static int64
tid_to_int64(const ItemPointerData *tid)
{
	return ((int64) ItemPointerGetBlockNumberNoCheck(tid) << 16) |
		   ItemPointerGetOffsetNumberNoCheck(tid);
}

static ItemPointerData
int64_to_tid(int64 number)
{
	ItemPointerData tid;

	ItemPointerSet(&tid, (BlockNumber) (number >> 16), (OffsetNumber) (number & 0xFFFF));
	return tid;
}

static TupleDesc
change_desc(Relation rel)
{
	int natts = RelationGetNumberOfAttributes(rel);
	TupleDesc desc = CreateTemplateTupleDesc(natts + 2);

	for (int i = 1; i <= natts; i++)
		TupleDescCopyEntry(desc, i, RelationGetDescr(rel), i);
	TupleDescInitEntry(desc, natts + 1, "old", INT8OID, -1, 0);
	TupleDescInitEntry(desc, natts + 2, "tell", INT8OID, -1, 0);
	return desc;
}

RowApplier *
applier_begin(Relation rel, ApplierKind kind, Snapshot snapshot)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt applier", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	RowApplier *applier = palloc0(sizeof(RowApplier));

	applier->context = context;
	applier->rel = rel;
	applier->kind = kind;
	applier->snapshot = snapshot;
	applier->cid = GetCurrentCommandId(true);
	applier->natts = RelationGetNumberOfAttributes(rel);
	applier->desc = change_desc(rel);
	applier->values = palloc(applier->desc->natts * sizeof(Datum));
	applier->nulls = palloc0(applier->desc->natts * sizeof(bool));
	applier->new = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsVirtual);
	if (kind == APPLY_FILL)
	{
		applier->bulk = GetBulkInsertState();
		/* rows may come while parallel workers run: then none can be assigned any more */
		(void) GetCurrentTransactionId();
	}
	MemoryContextSwitchTo(old);
	return applier;
}

/* Keeps a change; without a slot, a row without values. */
static void
put_change(RowApplier *applier, Tuplestorestate **store, TupleTableSlot *slot, int64 old,
		   ItemPointer tell)
{
	int natts = applier->natts;

	if (*store == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(applier->context);

		*store = tuplestore_begin_heap(false, false, work_mem);
		MemoryContextSwitchTo(caller);
	}
	if (slot != NULL)
	{
		slot_getsomeattrs(slot, natts);
		memcpy(applier->values, slot->tts_values, natts * sizeof(Datum));
		memcpy(applier->nulls, slot->tts_isnull, natts * sizeof(bool));
	}
	else
		memset(applier->nulls, true, natts * sizeof(bool));
	applier->values[natts] = Int64GetDatum(old);
	applier->values[natts + 1] = Int64GetDatum((int64) (intptr_t) tell);
	tuplestore_putvalues(*store, applier->desc, applier->values, applier->nulls);
}

/* The first columns of a slot as a row of the view; valid as long as the slot's. */
static TupleTableSlot *
new_row(RowApplier *applier, TupleTableSlot *slot)
{
	slot_getsomeattrs(slot, applier->natts);
	ExecClearTuple(applier->new);
	memcpy(applier->new->tts_values, slot->tts_values, applier->natts * sizeof(Datum));
	memcpy(applier->new->tts_isnull, slot->tts_isnull, applier->natts * sizeof(bool));
	return ExecStoreVirtualTuple(applier->new);
}

void
applier_insert(RowApplier *applier, TupleTableSlot *slot, ItemPointer tid)
{
	if (applier->kind != APPLY_FILL)
	{
		put_change(applier, &applier->inserts, slot, 0, tid);
		return;
	}
	table_tuple_insert(
		applier->rel, new_row(applier, slot), applier->cid, FILL_OPTIONS, applier->bulk);
	if (tid != NULL)
		*tid = applier->new->tts_tid;
	ExecClearTuple(applier->new); /* frees what was made to write it */
	applier->written++;
}

void
applier_update(RowApplier *applier, const ItemPointerData *old, TupleTableSlot *slot,
			   ItemPointer tid)
{
	Assert(applier->kind != APPLY_FILL);
	put_change(applier, &applier->updates, slot, tid_to_int64(old), tid);
}

void
applier_delete(RowApplier *applier, const ItemPointerData *old)
{
	Assert(applier->kind != APPLY_FILL);
	put_change(applier, &applier->deletes, NULL, tid_to_int64(old), NULL);
}

/* --- making the changes ------------------------------------------------------------------ */

static void
open_for_changes(RowApplier *applier)
{
	applier->estate = CreateExecutorState();
	applier->info = makeNode(ResultRelInfo);
	InitResultRelInfo(applier->info, applier->rel, 0, NULL, 0);
	ExecOpenIndices(applier->info, false);
	applier->change = MakeSingleTupleTableSlot(applier->desc, &TTSOpsMinimalTuple);
	applier->old = table_slot_create(applier->rel, NULL);
}

static void
close_after_changes(RowApplier *applier)
{
	ExecCloseIndices(applier->info);
	ExecDropSingleTupleTableSlot(applier->change);
	ExecDropSingleTupleTableSlot(applier->old);
	FreeExecutorState(applier->estate);
}

/* Columns on which unique indexes of the view depend, minus FirstLowInvalidHeapAttributeNumber. */
static Bitmapset *
unique_columns(const ResultRelInfo *info)
{
	Bitmapset *columns = NULL;

	for (int i = 0; i < info->ri_NumIndices; i++)
	{
		Relation index = info->ri_IndexRelationDescs[i];
		IndexInfo *index_info = info->ri_IndexRelationInfo[i];

		if (!index->rd_index->indisunique)
			continue;
		for (int j = 0; j < index_info->ii_NumIndexKeyAttrs; j++)
			if (index_info->ii_IndexAttrNumbers[j] != 0)
				columns = bms_add_member(columns,
										 index_info->ii_IndexAttrNumbers[j] -
											 FirstLowInvalidHeapAttributeNumber);
		pull_varattnos((Node *) index_info->ii_Expressions, 1, &columns);
		pull_varattnos((Node *) index_info->ii_Predicate, 1, &columns);
	}
	return columns;
}

static void
check_result(RowApplier *applier, TM_Result result)
{
	if (result != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("a row of materialized view \"%s\" was changed by someone else",
						RelationGetRelationName(applier->rel)),
				 errdetail_internal("The table access method returned %d.", (int) result)));
}

/* The old row of a change, in applier->old. */
static ItemPointerData
fetch_old(RowApplier *applier)
{
	ItemPointerData tid = int64_to_tid(DatumGetInt64(applier->change->tts_values[applier->natts]));

	if (!table_tuple_fetch_row_version(applier->rel, &tid, applier->snapshot, applier->old))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("materialized view \"%s\" has no row at (%u,%u)",
						RelationGetRelationName(applier->rel),
						ItemPointerGetBlockNumberNoCheck(&tid),
						ItemPointerGetOffsetNumberNoCheck(&tid))));
	slot_getallattrs(applier->old);
	return tid;
}

/* Where to tell the place of the row of applier->change, or NULL. */
static ItemPointer
whom_to_tell(const RowApplier *applier)
{
	return (ItemPointer) (intptr_t) DatumGetInt64(applier->change->tts_values[applier->natts + 1]);
}

static void
tell(const RowApplier *applier, const ItemPointerData *tid)
{
	ItemPointer target = whom_to_tell(applier);

	if (target != NULL)
		*target = *tid;
}

static void
delete_old(RowApplier *applier, ItemPointer tid)
{
	TM_FailureData failure;

	check_result(applier,
				 table_tuple_delete(applier->rel,
									tid,
									applier->cid,
									applier->snapshot,
									InvalidSnapshot,
									true,
									&failure,
									false));
	rowlog_append(applier->rel, applier->old, NULL);
}

static void
apply_delete(RowApplier *applier)
{
	ItemPointerData tid = fetch_old(applier);

	delete_old(applier, &tid);
	applier->written++;
}

static void
apply_insert(RowApplier *applier)
{
	TupleTableSlot *new = new_row(applier, applier->change);

	table_tuple_insert(applier->rel, new, applier->cid, 0, applier->bulk);
	if (applier->info->ri_NumIndices > 0)
		list_free(compat_ExecInsertIndexTuples(applier->info, new, applier->estate, false, false));
	rowlog_append(applier->rel, NULL, new);
	tell(applier, &new->tts_tid);
	applier->written++;
}

static void
update_in_place(RowApplier *applier, ItemPointer tid)
{
	TupleTableSlot *new = new_row(applier, applier->change);
	TM_FailureData failure;
	LockTupleMode lock_mode;
	CompatUpdateIndexes update_indexes;

	check_result(applier,
				 table_tuple_update(applier->rel,
									tid,
									new,
									applier->cid,
									applier->snapshot,
									InvalidSnapshot,
									true,
									&failure,
									&lock_mode,
									&update_indexes));
	if (applier->info->ri_NumIndices > 0 && compat_update_indexes(update_indexes))
		list_free(compat_ExecInsertIndexTuples(
			applier->info, new, applier->estate, true, compat_only_summarizing(update_indexes)));
	rowlog_append(applier->rel, applier->old, new);
	tell(applier, &new->tts_tid);
	applier->written++;
}

/*
 * An update that changes the key of a unique index is a deletion and an
 * insertion: the key may be that of another row that has yet to change.
 */
static void
apply_update(RowApplier *applier, const Bitmapset *unique)
{
	TupleDesc desc = RelationGetDescr(applier->rel);
	TupleTableSlot *change = applier->change;
	ItemPointerData tid = fetch_old(applier);
	bool changed = false;

	for (int i = 0; i < applier->natts; i++)
	{
		if (column_image_eq(TupleDescAttr(desc, i),
							change->tts_values[i],
							change->tts_isnull[i],
							applier->old->tts_values[i],
							applier->old->tts_isnull[i]))
			continue;
		changed = true;
		if (!bms_is_member(i + 1 - FirstLowInvalidHeapAttributeNumber, unique))
			continue;
		delete_old(applier, &tid);
		put_change(applier, &applier->inserts, change, 0, whom_to_tell(applier));
		return;
	}
	if (changed)
		update_in_place(applier, &tid);
	else
		tell(applier, &tid);
}

/* The next change of a store, in applier->change, with empty memory for it. */
static bool
next_change(RowApplier *applier, Tuplestorestate *store)
{
	CHECK_FOR_INTERRUPTS();
	ExecClearTuple(applier->change);
	ExecClearTuple(applier->new);
	ExecClearTuple(applier->old);
	ResetPerTupleExprContext(applier->estate);
	if (store == NULL || !tuplestore_gettupleslot(store, true, false, applier->change))
		return false;
	slot_getallattrs(applier->change);
	return true;
}

static void
make_changes(RowApplier *applier)
{
	MemoryContext caller;

	caller = MemoryContextSwitchTo(GetPerTupleMemoryContext(applier->estate));
	while (next_change(applier, applier->deletes))
		apply_delete(applier);
	if (applier->updates != NULL)
	{
		Bitmapset *unique;

		MemoryContextSwitchTo(applier->context);
		unique = unique_columns(applier->info);
		MemoryContextSwitchTo(GetPerTupleMemoryContext(applier->estate));
		while (next_change(applier, applier->updates))
			apply_update(applier, unique);
	}
	while (next_change(applier, applier->inserts))
		apply_insert(applier);
	MemoryContextSwitchTo(caller);
}

/* --- replacing all rows ------------------------------------------------------------------- */

static ItemPointer
take_tag(RowEntry *entry)
{
	RowTag *tag = entry->tags;

	entry->tags = tag->next;
	entry->count--;
	return tag->tell;
}

typedef struct Leftovers
{
	RowApplier *applier;
	Tuplestorestate **store;
} Leftovers;

static void
put_leftovers(RowEntry *entry, TupleTableSlot *slot, void *arg)
{
	Leftovers *leftovers = arg;

	while (entry->count > 0)
		put_change(leftovers->applier, leftovers->store, slot, 0, take_tag(entry));
}

/*
 * Old rows that are among the new ones stay; the others are deleted, or become
 * the new row that has their key.
 */
static void
compare_part(RowApplier *applier, RowTable *table, int part, int parts)
{
	TableScanDesc scan = table_beginscan(applier->rel, applier->snapshot, 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, applier->old))
	{
		uint64 hash = row_table_hash(table, applier->old);
		RowEntry *entry;

		CHECK_FOR_INTERRUPTS();
		if (row_table_part(hash, parts) != part)
			continue;
		entry = row_table_find(table, applier->old, hash);
		if (entry != NULL && entry->count > 0)
		{
			ItemPointer target = take_tag(entry);

			if (target != NULL)
				*target = applier->old->tts_tid;
			continue;
		}
		entry = row_table_find_by_key(table, applier->old, hash);
		if (entry != NULL)
			applier_update(
				applier, &applier->old->tts_tid, row_table_slot(table, entry), take_tag(entry));
		else
			applier_delete(applier, &applier->old->tts_tid);
	}
	table_endscan(scan);
}

/* Finds what differs between the view and the rows that came; leaves those that are new. */
static void
compare_with_view(RowApplier *applier)
{
	Tuplestorestate *all = applier->inserts;
	Tuplestorestate *new_ones = NULL;
	Leftovers leftovers = {applier, &new_ones};
	RowKey key;
	int parts = 1;

	row_key_find(applier->rel, &key);
	if (all != NULL)
		parts = row_table_parts(all, applier->change);
	for (int part = 0; part < parts; part++)
	{
		RowTable *table = row_table_create(applier->desc, applier->natts, &key);

		while (all != NULL && tuplestore_gettupleslot(all, true, false, applier->change))
		{
			uint64 hash = row_table_hash(table, applier->change);
			RowEntry *entry;

			CHECK_FOR_INTERRUPTS();
			if (row_table_part(hash, parts) != part)
				continue;
			slot_getallattrs(applier->change);
			entry = row_table_add(table, applier->change, hash);
			row_table_add_tag(table, entry, whom_to_tell(applier));
			entry->count++;
		}
		if (all != NULL)
			tuplestore_rescan(all);
		compare_part(applier, table, part, parts);
		row_table_visit(table, put_leftovers, &leftovers);
		row_table_free(table);
	}
	if (all != NULL)
		tuplestore_end(all);
	applier->inserts = new_ones;
}

uint64
applier_finish(RowApplier *applier)
{
	uint64 written;

	if (applier->kind == APPLY_FILL)
	{
		FreeBulkInsertState(applier->bulk);
		table_finish_bulk_insert(applier->rel, FILL_OPTIONS);
	}
	else if (applier->kind == APPLY_REPLACE || applier->inserts != NULL ||
			 applier->updates != NULL || applier->deletes != NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(applier->context);

		open_for_changes(applier);
		if (applier->kind == APPLY_REPLACE)
			compare_with_view(applier);
		make_changes(applier);
		close_after_changes(applier);
		MemoryContextSwitchTo(caller);
	}

	if (applier->inserts != NULL)
		tuplestore_end(applier->inserts);
	if (applier->updates != NULL)
		tuplestore_end(applier->updates);
	if (applier->deletes != NULL)
		tuplestore_end(applier->deletes);
	ExecDropSingleTupleTableSlot(applier->new);
	written = applier->written;
	MemoryContextDelete(applier->context);
	CommandCounterIncrement();
	return written;
}
