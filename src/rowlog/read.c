/*
 * read.c
 *		Reads a log: what changed between a frontier and a snapshot.
 *
 * Locks: ACCESS SHARE on the log to the end of the transaction, since TOASTed
 * values in the store still point into it.
 */
#include "pgopt.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"

#include "rowlog_internal.h"

static SysScanDesc
begin_scan(Relation log, Oid index, StrategyNumber strategy, RegProcedure procedure, Datum xid,
		   Snapshot snapshot)
{
	ScanKeyData key;

	ScanKeyInit(&key, LOG_XID, strategy, procedure, xid);
	return systable_beginscan(log, index, true, snapshot, 1, &key);
}

/* One value of a change, of the row before or after it. */
typedef struct LogRow
{
	Datum *values;
	bool *nulls;
} LogRow;

static bool
is_same(const LogRow *row, int pair)
{
	const bytea *same;

	if (row->nulls[LOG_SAME - 1])
		return false;
	same = DatumGetByteaPP(row->values[LOG_SAME - 1]);
	if (pair / BITS_PER_BYTE >= VARSIZE_ANY_EXHDR(same))
		return false;
	return (VARDATA_ANY(same)[pair / BITS_PER_BYTE] >> (pair % BITS_PER_BYTE)) & 1;
}

static bool
changed(const LogRow *row, int npairs, const int *pairs, const LogShape *shape)
{
	for (int i = 0; i < npairs; i++)
	{
		int old = LOG_OLD(pairs[i]) - 1;
		int new = LOG_NEW(pairs[i]) - 1;

		if (is_same(row, pairs[i]))
			continue;
		if (row->nulls[old] != row->nulls[new])
			return true;
		if (!row->nulls[old] && !datumIsEqual(row->values[old],
											  row->values[new],
											  shape->pairs[pairs[i]].by_value,
											  shape->pairs[pairs[i]].length))
			return true;
	}
	return false;
}

static void
put_row(Tuplestorestate *store, TupleDesc desc, const LogRow *row, int npairs, const int *pairs,
		bool after, Datum *values, bool *nulls)
{
	bool is_update = DatumGetChar(row->values[LOG_OP - 1]) == LOG_UPDATE;

	for (int i = 0; i < npairs; i++)
	{
		bool new = after && !(is_update && is_same(row, pairs[i]));
		int column = (new ? LOG_NEW(pairs[i]) : LOG_OLD(pairs[i])) - 1;

		values[i] = row->values[column];
		nulls[i] = row->nulls[column];
	}
	values[npairs] = Int64GetDatum(after ? 1 : -1);
	nulls[npairs] = false;
	tuplestore_putvalues(store, desc, values, nulls);
}

int64
rowlog_read(Oid relid, int ncolumns, const AttrNumber *attnums, Datum frontier, Snapshot snapshot,
			int64 limit, Tuplestorestate *store, TupleDesc desc)
{
	Relation rel = relation_open(relid, AccessShareLock);
	LogShape *shape;
	Relation log = shape_open_log(rel, AccessShareLock, &shape);
	int *pairs = palloc((ncolumns + 1) * sizeof(int));
	Datum *values = palloc((ncolumns + 1) * sizeof(Datum));
	bool *nulls = palloc((ncolumns + 1) * sizeof(bool));
	Datum seen = PointerGetDatum(PG_DETOAST_DATUM(frontier));
	LogRow row;
	SysScanDesc scan;
	HeapTuple tuple;
	int64 count = 0;

	relation_close(rel, NoLock);
	if (log == NULL)
		return ROWLOG_LOST;
	for (int i = 0; i < ncolumns; i++)
	{
		pairs[i] = shape_find_pair(shape, attnums[i]);
		if (pairs[i] < 0)
		{
			relation_close(log, NoLock);
			return ROWLOG_LOST;
		}
	}
	row.values = palloc(RelationGetDescr(log)->natts * sizeof(Datum));
	row.nulls = palloc(RelationGetDescr(log)->natts * sizeof(bool));

	scan = begin_scan(log,
					  shape->index,
					  BTGreaterEqualStrategyNumber,
					  F_XID8GE,
					  DirectFunctionCall1(pg_snapshot_xmin, seen),
					  snapshot);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		char op;

		CHECK_FOR_INTERRUPTS();
		heap_deform_tuple(tuple, RelationGetDescr(log), row.values, row.nulls);
		if (DatumGetBool(
				DirectFunctionCall2(pg_visible_in_snapshot, row.values[LOG_XID - 1], seen)))
			continue;
		op = DatumGetChar(row.values[LOG_OP - 1]);
		if (op == LOG_LOST)
		{
			count = ROWLOG_LOST;
			break;
		}
		if (op == LOG_UPDATE && !changed(&row, ncolumns, pairs, shape))
			continue;
		if (++count > limit)
		{
			count = ROWLOG_TOO_MANY;
			break;
		}
		if (op != LOG_INSERT)
			put_row(store, desc, &row, ncolumns, pairs, false, values, nulls);
		if (op != LOG_DELETE)
			put_row(store, desc, &row, ncolumns, pairs, true, values, nulls);
	}
	systable_endscan(scan);
	relation_close(log, NoLock);
	pfree(row.values);
	pfree(row.nulls);
	pfree(pairs);
	pfree(values);
	pfree(nulls);
	return count;
}

/* --- marks ------------------------------------------------------------------------ */

static SysScanDesc
scan_by_oid(Relation catalog, AttrNumber column, Oid oid, Oid index, Snapshot snapshot)
{
	ScanKeyData key;

	ScanKeyInit(&key, column, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(oid));
	return systable_beginscan(catalog, index, true, snapshot, 1, &key);
}

/* The transaction that wrote the relation's row in pg_class. */
static TransactionId
class_xmin(Oid relid, Snapshot snapshot)
{
	Relation classes = table_open(RelationRelationId, AccessShareLock);
	SysScanDesc scan = scan_by_oid(classes, Anum_pg_class_oid, relid, ClassOidIndexId, snapshot);
	HeapTuple tuple = systable_getnext(scan);
	TransactionId xmin = InvalidTransactionId;

	if (HeapTupleIsValid(tuple))
		xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
	systable_endscan(scan);
	table_close(classes, AccessShareLock);
	return xmin;
}

/* The same of its trigger. */
static TransactionId
trigger_xmin(Oid relid, Snapshot snapshot)
{
	Oid function = rowlog_function();
	Relation triggers = table_open(TriggerRelationId, AccessShareLock);
	SysScanDesc scan =
		scan_by_oid(triggers, Anum_pg_trigger_tgrelid, relid, TriggerRelidNameIndexId, snapshot);
	TransactionId xmin = InvalidTransactionId;
	HeapTuple tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

		if (form->tgfoid == function && form->tgisinternal)
			xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
	}
	systable_endscan(scan);
	table_close(triggers, AccessShareLock);
	return xmin;
}

/* The log that the snapshot sees: one that was made anew has not all that the one before had. */
Oid
rowlog_visible_log(Oid relid, Snapshot snapshot, int *ncolumns)
{
	Relation classes = table_open(RelationRelationId, AccessShareLock);
	ScanKeyData keys[2];
	NameData name;
	SysScanDesc scan;
	HeapTuple tuple;
	Oid log = InvalidOid;

	rowlog_log_name(relid, &name);
	ScanKeyInit(
		&keys[0], Anum_pg_class_relname, BTEqualStrategyNumber, F_NAMEEQ, NameGetDatum(&name));
	ScanKeyInit(&keys[1],
				Anum_pg_class_relnamespace,
				BTEqualStrategyNumber,
				F_OIDEQ,
				ObjectIdGetDatum(get_namespace_oid(PGOPT_SCHEMA, true)));
	scan = systable_beginscan(classes, ClassNameNspIndexId, true, snapshot, 2, keys);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		log = ((Form_pg_class) GETSTRUCT(tuple))->oid;
		*ncolumns = ((Form_pg_class) GETSTRUCT(tuple))->relnatts;
	}
	systable_endscan(scan);
	table_close(classes, AccessShareLock);
	return log;
}

int64
rowlog_mark(Oid relid, Snapshot snapshot)
{
	int ncolumns;
	uint32 parts[] = {class_xmin(relid, snapshot),
					  trigger_xmin(relid, snapshot),
					  rowlog_visible_log(relid, snapshot, &ncolumns)};

	return (int64) hash_bytes_extended((const unsigned char *) parts, sizeof(parts), 0);
}

/* Who has neither altered a relation nor written to its log has not the locks for it. */
bool
rowlog_written_by_me(Oid relid)
{
	FullTransactionId xid = GetTopFullTransactionIdIfAny();
	Relation rel;
	Relation log;
	LogShape *shape;
	bool answer;

	if (!FullTransactionIdIsValid(xid))
		return false;
	rel = try_relation_open(relid, AccessShareLock);
	if (rel == NULL)
		return false;
	answer = CheckRelationLockedByMe(rel, ShareUpdateExclusiveLock, true) &&
			 (TransactionIdIsCurrentTransactionId(class_xmin(relid, NULL)) ||
			  TransactionIdIsCurrentTransactionId(trigger_xmin(relid, NULL)));
	log = answer ? NULL : shape_open_log(rel, AccessShareLock, &shape);
	relation_close(rel, AccessShareLock);
	if (log == NULL)
		return answer;
	if (CheckRelationLockedByMe(log, RowExclusiveLock, true))
	{
		SysScanDesc scan = begin_scan(log,
									  shape->index,
									  BTEqualStrategyNumber,
									  F_XID8EQ,
									  FullTransactionIdGetDatum(xid),
									  SnapshotSelf);

		answer = HeapTupleIsValid(systable_getnext(scan));
		systable_endscan(scan);
	}
	relation_close(log, AccessShareLock);
	return answer;
}

int64
rowlog_bytes(Oid relid)
{
	Oid log = rowlog_find_log(relid);
	FmgrInfo function;
	LOCAL_FCINFO(fcinfo, 1);
	Datum bytes;

	if (!OidIsValid(log))
		return 0;

	/* NULL where the log has just been dropped, which DirectFunctionCall1() does not allow. */
	fmgr_info(F_PG_TOTAL_RELATION_SIZE, &function);
	InitFunctionCallInfoData(*fcinfo, &function, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = ObjectIdGetDatum(log);
	fcinfo->args[0].isnull = false;
	bytes = FunctionCallInvoke(fcinfo);
	return fcinfo->isnull ? 0 : DatumGetInt64(bytes);
}
