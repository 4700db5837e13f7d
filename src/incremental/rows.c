/*
 * rows.c
 *		Changes of the rows of a view that does not group.
 *
 * The change says which rows came and which went, by content: what came and
 * went again is netted out, and each row that went is found in the view by a
 * unique index, or, without one or where many went, in one scan.  Where a row
 * came with the key of one that went, the row is updated in place.
 *
 * Locks: ACCESS SHARE on the index.  Memory: a table of the changed rows (see
 * row_table.h), in parts if they are too many.  Cost: an index look-up for each
 * row that went, or a scan of the view a part.
 */
#include "pgopt.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "compat.h"
#include "incremental_private.h"
#include "row_table.h"

/* An index look-up costs about as much as scanning so many rows. */
#define ROWS_SCANNED_PER_LOOKUP 8

/* A view is taken to have so many rows as long as nobody has counted them. */
#define UNCOUNTED_ROWS 1000

typedef struct RowsChange
{
	Relation rel;
	Snapshot snapshot;
	RowApplier *applier;
	int natts;
	RowKey key;
	RowTable *table;
	TupleTableSlot *view_slot;
	int64 went; /* rows that are still to be found */

	/* look-ups */
	Relation index;
	IndexScanDesc scan;
	ScanKeyData scan_keys[INDEX_MAX_KEYS];
	bool all_found;
} RowsChange;

/* --- netting -------------------------------------------------------------------------- */

static int64
weight_of(TupleTableSlot *slot, int natts)
{
	bool isnull;

	return DatumGetInt64(slot_getattr(slot, natts + 1, &isnull));
}

static void
load_part(RowsChange *change, Tuplestorestate *delta, TupleTableSlot *slot, int part, int parts)
{
	while (tuplestore_gettupleslot(delta, true, false, slot))
	{
		uint64 hash = row_table_hash(change->table, slot);

		CHECK_FOR_INTERRUPTS();
		if (row_table_part(hash, parts) == part)
			row_table_add(change->table, slot, hash)->count += weight_of(slot, change->natts);
	}
	tuplestore_rescan(delta);
}

static void
count_went(RowEntry *entry, TupleTableSlot *slot, void *arg)
{
	if (entry->count < 0)
		((RowsChange *) arg)->went -= entry->count;
}

/* --- finding the rows that went ------------------------------------------------------- */

/* The row of the view is to go, or to become one that came with its key. */
static void
replace_row(RowsChange *change, RowEntry *entry, uint64 hash)
{
	RowEntry *came = row_table_find_by_key(change->table, change->view_slot, hash);

	if (came != NULL)
	{
		applier_update(change->applier,
					   &change->view_slot->tts_tid,
					   row_table_slot(change->table, came),
					   NULL);
		came->count--;
	}
	else
		applier_delete(change->applier, &change->view_slot->tts_tid);
	entry->count++;
	change->went--;
}

static void
begin_lookups(RowsChange *change)
{
	change->index = index_open(change->key.index, AccessShareLock);
	for (int i = 0; i < change->key.natts; i++)
	{
		Oid type = change->index->rd_opcintype[i];
		Oid operator=
			get_opfamily_member(change->index->rd_opfamily[i], type, type, BTEqualStrategyNumber);

		if (!OidIsValid(operator))
			elog(ERROR, "index %u has no equality operator", change->key.index);
		ScanKeyEntryInitialize(&change->scan_keys[i],
							   0,
							   i + 1,
							   BTEqualStrategyNumber,
							   InvalidOid,
							   change->index->rd_indcollation[i],
							   get_opcode(operator),
							   (Datum) 0);
	}
	change->scan =
		compat_index_beginscan(change->rel, change->index, change->snapshot, change->key.natts);
}

static void
end_lookups(RowsChange *change)
{
	index_endscan(change->scan);
	index_close(change->index, NoLock);
}

/* Equal keys need not be equal bytes: what is found must be the row that is wanted. */
static void
look_up(RowEntry *entry, TupleTableSlot *slot, void *arg)
{
	RowsChange *change = arg;

	if (entry->count >= 0)
		return;
	for (int i = 0; i < change->key.natts; i++)
	{
		bool isnull;

		change->scan_keys[i].sk_argument = slot_getattr(slot, change->key.attnums[i], &isnull);
		if (isnull)
		{
			change->all_found = false;
			return;
		}
	}
	index_rescan(change->scan, change->scan_keys, change->key.natts, NULL, 0);
	while (entry->count < 0 &&
		   index_getnext_slot(change->scan, ForwardScanDirection, change->view_slot))
	{
		uint64 hash = row_table_hash(change->table, change->view_slot);

		if (row_table_find(change->table, change->view_slot, hash) == entry)
			replace_row(change, entry, hash);
	}
	if (entry->count < 0)
		change->all_found = false;
}

static void
scan_view(RowsChange *change)
{
	TableScanDesc scan = table_beginscan(change->rel, change->snapshot, 0, NULL);

	while (change->went > 0 &&
		   table_scan_getnextslot(scan, ForwardScanDirection, change->view_slot))
	{
		uint64 hash = row_table_hash(change->table, change->view_slot);
		RowEntry *entry = row_table_find(change->table, change->view_slot, hash);

		CHECK_FOR_INTERRUPTS();
		if (entry != NULL && entry->count < 0)
			replace_row(change, entry, hash);
	}
	table_endscan(scan);
}

static void
find_rows(RowsChange *change)
{
	change->all_found = false;
	if (OidIsValid(change->key.index) && change->went * ROWS_SCANNED_PER_LOOKUP <
											 Max(change->rel->rd_rel->reltuples, UNCOUNTED_ROWS))
	{
		change->all_found = true;
		begin_lookups(change);
		row_table_visit(change->table, look_up, change);
		end_lookups(change);
	}
	if (!change->all_found)
		scan_view(change);
	if (change->went > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("materialized view \"%s\" has not the rows that changed",
						RelationGetRelationName(change->rel)),
				 errdetail("Rows that should have been found: " INT64_FORMAT ".", change->went)));
}

/* --- rows that came ---------------------------------------------------------------------- */

static void
insert_rows(RowEntry *entry, TupleTableSlot *slot, void *arg)
{
	RowsChange *change = arg;

	for (int64 i = 0; i < entry->count; i++)
		applier_insert(change->applier, slot, NULL);
}

void
rows_apply(IncrementalPlan *plan, DeltaRun *run, Tuplestorestate *delta, RowApplier *applier)
{
	RowsChange change = {.snapshot = run->snapshot, .applier = applier};
	TupleDesc desc = run->descs[plan->program->result];
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	int parts = row_table_parts(delta, slot);

	change.rel = table_open(plan->matview, AccessShareLock);
	change.natts = RelationGetNumberOfAttributes(change.rel);
	if (desc->natts != change.natts + 1)
		elog(ERROR, "a change has %d columns, its view has %d", desc->natts - 1, change.natts);
	change.view_slot = table_slot_create(change.rel, NULL);
	row_key_find(change.rel, &change.key);

	for (int part = 0; part < parts; part++)
	{
		change.table = row_table_create(desc, change.natts, &change.key);
		load_part(&change, delta, slot, part, parts);
		row_table_visit(change.table, count_went, &change);
		if (change.went > 0)
			find_rows(&change);
		row_table_visit(change.table, insert_rows, &change);
		row_table_free(change.table);
	}

	ExecDropSingleTupleTableSlot(change.view_slot);
	ExecDropSingleTupleTableSlot(slot);
	table_close(change.rel, NoLock);
}
