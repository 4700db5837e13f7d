/*
 * bloat.c
 *		The functions pgopt_table_bloat() and pgopt_index_bloat().
 *
 * A relation is locked with AccessShareLock if that is to be had at once, and
 * let go when it has been measured; one that is not is reported as locked, one
 * that was dropped meanwhile is left out.  Who may measure: the owner of the
 * table, whoever may select from it, and members of pg_stat_scan_tables.
 *
 * Cost: for all relations of a database, one look at pg_class and some ten
 * microseconds a relation to learn its size, besides what is measured.
 */
#include "pgopt.h"

#include <math.h>

#include "access/genam.h"
#include "access/relation.h"
#include "access/htup_details.h"
#include "access/reloptions.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/catalog.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "bloat.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(pgopt_table_bloat);
PG_FUNCTION_INFO_V1(pgopt_index_bloat);

/* A relation to measure.  table is that of an index, or owner of a TOAST table. */
typedef struct BloatTarget
{
	Oid relid;
	Oid table;
	double size; /* what is known of it before it is locked */
	bool locked;
} BloatTarget;

typedef struct BloatTargets
{
	BloatTarget *items;
	int count;
	int room;
	int refused; /* relations that the caller may not measure */
} BloatTargets;

/* What was found for a table, kept for its TOAST table or its indexes. */
typedef struct TableEstimate
{
	Oid relid; /* hash key: must be first */
	BloatEstimate estimate;
} TableEstimate;

/* --- who may measure what ------------------------------------------------------------------- */

bool
bloat_may_measure(Oid table)
{
	return has_privs_of_role(GetUserId(), ROLE_PG_STAT_SCAN_TABLES) ||
		   compat_owns_relation(table, GetUserId()) ||
		   pg_class_aclcheck(table, GetUserId(), ACL_SELECT) == ACLCHECK_OK;
}

static void
require_may_measure(Oid table, Oid relid)
{
	if (bloat_may_measure(table))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to measure \"%s\"", get_rel_name(relid)),
			 errdetail("It takes ownership of the table, SELECT on it, or the privileges of the "
					   "role pg_stat_scan_tables."),
			 errhint("GRANT pg_stat_scan_tables TO %s;",
					 quote_identifier(GetUserNameFromId(GetUserId(), false)))));
}

/* --- which relations ------------------------------------------------------------------------- */

/* Has it files here?  On a standby an unlogged relation has none to speak of. */
static bool
has_storage(Relation rel)
{
	return RELKIND_HAS_STORAGE(rel->rd_rel->relkind) && !RELATION_IS_OTHER_TEMP(rel) &&
		   (RelationIsPermanent(rel) || RelationUsesLocalBuffers(rel) || !RecoveryInProgress());
}

static void
add_target(BloatTargets *targets, Oid relid, Oid table, double pages_known, double min_size)
{
	BloatTarget target = {.relid = relid, .table = table, .size = pages_known * BLCKSZ};
	Relation rel = bloat_open(relid, &target.locked);

	if (rel != NULL)
	{
		bool measurable = has_storage(rel);

		if (measurable)
			target.size = (double) RelationGetNumberOfBlocks(rel) * BLCKSZ;
		relation_close(rel, AccessShareLock);
		if (!measurable)
			return;
	}
	else if (!target.locked)
		return;
	if (target.size < min_size)
		return;
	if (targets->count >= targets->room)
	{
		targets->room = Max(targets->room * 2, 64);
		targets->items = targets->items == NULL
							 ? palloc(sizeof(BloatTarget) * targets->room)
							 : repalloc(targets->items, sizeof(BloatTarget) * targets->room);
	}
	targets->items[targets->count++] = target;
}

/* Everything in this database of one of two kinds. */
static void
collect_all(BloatTargets *targets, bool indexes, double min_size)
{
	Relation classes = table_open(RelationRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(classes, InvalidOid, false, NULL, 0, NULL);
	HeapTuple tuple;
	BloatTarget *found = NULL;
	double *pages = NULL;
	int count = 0;
	int room = 0;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);

		if (indexes ? form->relkind != RELKIND_INDEX
					: form->relkind != RELKIND_RELATION && form->relkind != RELKIND_MATVIEW)
			continue;
		if (count + 2 > room)
		{
			room = Max(room * 2, 1024);
			found = found == NULL ? palloc(sizeof(BloatTarget) * room)
								  : repalloc_huge(found, sizeof(BloatTarget) * room);
			pages = pages == NULL ? palloc(sizeof(double) * room)
								  : repalloc_huge(pages, sizeof(double) * room);
		}
		pages[count] = form->relpages;
		found[count].relid = form->oid;
		found[count++].table = form->oid;
		if (!indexes && OidIsValid(form->reltoastrelid))
		{
			pages[count] = 0;
			found[count].relid = form->reltoastrelid;
			found[count++].table = form->oid;
		}
	}
	systable_endscan(scan);
	table_close(classes, AccessShareLock);

	for (int i = 0; i < count; i++)
	{
		Oid table = found[i].table;

		CHECK_FOR_INTERRUPTS();
		if (indexes)
		{
			table = IndexGetRelation(found[i].relid, true);
			if (!OidIsValid(table))
				continue;
		}
		if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(table)))
			continue;
		if (!bloat_may_measure(table))
		{
			targets->refused += found[i].relid == found[i].table || indexes;
			continue;
		}
		add_target(targets, found[i].relid, table, pages[i], min_size);
	}
}

static Oid
toast_of(Oid table)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Oid toast = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		toast = ((Form_pg_class) GETSTRUCT(tuple))->reltoastrelid;
		ReleaseSysCache(tuple);
	}
	return toast;
}

static void
add_indexes_of(BloatTargets *targets, Oid table)
{
	bool locked;
	Relation rel = bloat_open(table, &locked);
	List *indexes;
	ListCell *cell;

	if (rel == NULL)
		return;
	indexes = RelationGetIndexList(rel);
	relation_close(rel, AccessShareLock);
	foreach(cell, indexes)
		add_target(targets, lfirst_oid(cell), table, 0, 0);
}

static void
wrong_kind(Oid relid, bool indexes)
{
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 indexes
				 ? errmsg("\"%s\" is not an index, table or materialized view", get_rel_name(relid))
				 : errmsg("\"%s\" is not a table or materialized view", get_rel_name(relid))));
}

/* A table with its TOAST table, or its indexes, or an index; of a partitioned one, all leaves. */
static void
collect_one(BloatTargets *targets, Oid relid, bool indexes)
{
	char kind = get_rel_relkind(relid);
	List *relations;
	ListCell *cell;

	if (kind == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	if (indexes ? !strchr("rmtiIp", kind) : !strchr("rmtp", kind))
		wrong_kind(relid, indexes);
	if (kind == RELKIND_INDEX || kind == RELKIND_PARTITIONED_INDEX)
		require_may_measure(IndexGetRelation(relid, false), relid);
	else
		require_may_measure(relid, relid);

	relations = kind == RELKIND_PARTITIONED_TABLE || kind == RELKIND_PARTITIONED_INDEX
					? find_all_inheritors(relid, NoLock, NULL)
					: list_make1_oid(relid);
	foreach(cell, relations)
	{
		Oid leaf = lfirst_oid(cell);
		char leaf_kind = get_rel_relkind(leaf);

		if (leaf_kind == RELKIND_INDEX)
		{
			Oid table = IndexGetRelation(leaf, true);

			if (OidIsValid(table))
				add_target(targets, leaf, table, 0, 0);
		}
		else if (strchr("rmt", leaf_kind) == NULL || leaf_kind == '\0')
			continue;
		else if (indexes)
		{
			add_indexes_of(targets, leaf);
			if (OidIsValid(toast_of(leaf)))
				add_indexes_of(targets, toast_of(leaf));
		}
		else
		{
			add_target(targets, leaf, leaf, 0, 0);
			if (OidIsValid(toast_of(leaf)))
				add_target(targets, toast_of(leaf), leaf, 0, 0);
		}
	}
}

static int
compare_targets(const void *a, const void *b)
{
	const BloatTarget *x = a;
	const BloatTarget *y = b;

	if (x->size != y->size)
		return x->size > y->size ? -1 : 1;
	return x->relid < y->relid ? -1 : x->relid > y->relid;
}

static void
collect(FunctionCallInfo fcinfo, BloatTargets *targets, bool indexes)
{
	memset(targets, 0, sizeof(BloatTargets));
	if (!PG_ARGISNULL(0))
		collect_one(targets, PG_GETARG_OID(0), indexes);
	else
	{
		collect_all(targets, indexes, PG_ARGISNULL(1) ? 0 : (double) PG_GETARG_INT64(1));
		if (targets->refused > 0)
			ereport(NOTICE,
					(errmsg_plural("%d relation was left out, because you may not measure it",
								   "%d relations were left out, because you may not measure them",
								   targets->refused,
								   targets->refused),
					 errhint("GRANT pg_stat_scan_tables TO %s;",
							 quote_identifier(GetUserNameFromId(GetUserId(), false)))));
	}
	if (targets->count > 1)
		qsort(targets->items, targets->count, sizeof(BloatTarget), compare_targets);
}

/* --- rows -------------------------------------------------------------------------------------- */

#define MAX_COLUMNS 20

typedef struct BloatRow
{
	Datum values[MAX_COLUMNS];
	bool nulls[MAX_COLUMNS];
	int columns;
} BloatRow;

static void
put(BloatRow *row, Datum value)
{
	row->nulls[row->columns] = false;
	row->values[row->columns++] = value;
}

static void
put_text(BloatRow *row, const char *text)
{
	row->nulls[row->columns] = (text == NULL);
	row->values[row->columns++] = text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

static void
put_number(BloatRow *row, double number, bool known)
{
	row->nulls[row->columns] = !known;
	row->values[row->columns++] = Int64GetDatum((int64) rint(number));
}

static void
put_reclaimable(BloatRow *row, const BloatEstimate *estimate, double size)
{
	bool known = estimate->confidence != BLOAT_UNKNOWN;
	char percent[32];

	put_number(row, known ? estimate->size : size, known || size > 0);
	put_number(row, bloat_reclaimable(estimate), known);
	put_number(row, bloat_reclaimable_low(estimate), known);
	put_number(row, bloat_reclaimable_high(estimate), known);
	snprintf(
		percent, sizeof(percent), "%.2f", bloat_percent(bloat_reclaimable(estimate), estimate));
	row->nulls[row->columns] = !known;
	row->values[row->columns++] = DirectFunctionCall3(
		numeric_in, CStringGetDatum(percent), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	put_number(row, estimate->free_bytes, known);
	put_number(row, estimate->dead_bytes, known);
}

static void
put_verdict(BloatRow *row, const BloatEstimate *estimate, const BloatRemedy *remedy)
{
	bool known = estimate->confidence != BLOAT_UNKNOWN;

	row->nulls[row->columns] = !known;
	row->values[row->columns++] = Int32GetDatum(estimate->pages_sampled);
	put_text(row, bloat_confidence_name(estimate->confidence));
	put_text(row, remedy->sql);
	put_text(row, remedy->lock);
	put_text(row, remedy->reason);
}

/* --- tables ------------------------------------------------------------------------------------- */

static void
put_table_row(ReturnSetInfo *rsinfo, const BloatTarget *target, Relation table,
			  const BloatEstimate *estimate, const char *reason)
{
	BloatRow row = {.columns = 0};
	bool known = estimate->confidence != BLOAT_UNKNOWN;
	BloatRemedy remedy = {.reason = reason};

	if (known && table != NULL)
		bloat_table_remedy(table, estimate, bloat_is_worth_it(estimate), &remedy);
	put(&row, ObjectIdGetDatum(target->table));
	put_text(&row, target->relid == target->table ? "table" : "toast");
	put_reclaimable(&row, estimate, target->size);
	put_number(&row, estimate->held_bytes, known);
	put_number(&row, estimate->live_rows, known);
	put_number(&row, estimate->dead_rows, known);
	put_verdict(&row, estimate, &remedy);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row.values, row.nulls);
}

static HTAB *
begin_estimates(void)
{
	HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(TableEstimate)};

	control.hcxt = CurrentMemoryContext;
	return hash_create("pgopt bloat", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* What is known of a table, measured if it is not yet. */
static const BloatEstimate *
table_estimate(HTAB *estimates, Relation table, const BloatBudget *budget)
{
	Oid relid = RelationGetRelid(table);
	bool found;
	TableEstimate *entry = hash_search(estimates, &relid, HASH_ENTER, &found);

	if (!found)
	{
		entry->estimate.confidence = BLOAT_UNKNOWN;
		bloat_measure_heap(table, budget, &entry->estimate);
	}
	return &entry->estimate;
}

Datum
pgopt_table_bloat(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	BloatTargets targets;
	HTAB *estimates;

	InitMaterializedSRF(fcinfo, 0);
	collect(fcinfo, &targets, false);
	estimates = begin_estimates();
	for (int i = 0; i < targets.count; i++)
	{
		BloatTarget *target = &targets.items[i];
		BloatEstimate estimate = {.confidence = BLOAT_UNKNOWN};
		Relation table, toast;
		bool locked;

		CHECK_FOR_INTERRUPTS();
		table = bloat_open(target->table, &locked);
		if (table == NULL)
		{
			if (locked)
				put_table_row(rsinfo, target, NULL, &estimate, "locked");
			continue;
		}
		if (target->relid == target->table)
		{
			estimate = *table_estimate(estimates, table, &bloat_budget_full);
			put_table_row(rsinfo, target, table, &estimate, estimate.reason);
		}
		else if ((toast = bloat_open(target->relid, &locked)) != NULL)
		{
			bloat_measure_heap(toast, &bloat_budget_full, &estimate);
			relation_close(toast, AccessShareLock);
			if (estimate.pages > 0)
				bloat_weigh_toast(table_estimate(estimates, table, &bloat_budget_full), &estimate);
			put_table_row(rsinfo, target, table, &estimate, estimate.reason);
		}
		else if (locked)
			put_table_row(rsinfo, target, table, &estimate, "locked");
		relation_close(table, AccessShareLock);
	}
	return (Datum) 0;
}

/* --- indexes -------------------------------------------------------------------------------------- */

static void
put_index_row(ReturnSetInfo *rsinfo, const BloatTarget *target, Relation index,
			  const BloatEstimate *estimate, const char *reason)
{
	BloatRow row = {.columns = 0};
	bool known = estimate->confidence != BLOAT_UNKNOWN;
	BloatRemedy remedy = {.reason = reason};

	if (known)
		bloat_index_remedy(index, bloat_is_worth_it(estimate), &remedy);
	put(&row, ObjectIdGetDatum(target->relid));
	put(&row, ObjectIdGetDatum(target->table));
	put_text(&row, index == NULL ? NULL : get_am_name(index->rd_rel->relam));
	put_reclaimable(&row, estimate, target->size);
	put_number(&row, estimate->live_rows, known && index->rd_rel->relam == BTREE_AM_OID);
	put_verdict(&row, estimate, &remedy);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row.values, row.nulls);
}

Datum
pgopt_index_bloat(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	BloatTargets targets;
	HTAB *estimates;

	InitMaterializedSRF(fcinfo, 0);
	collect(fcinfo, &targets, true);
	estimates = begin_estimates();
	for (int i = 0; i < targets.count; i++)
	{
		BloatTarget *target = &targets.items[i];
		BloatEstimate estimate = {.confidence = BLOAT_UNKNOWN};
		Relation table, index = NULL;
		bool locked;

		CHECK_FOR_INTERRUPTS();
		table = bloat_open(target->table, &locked);
		if (table != NULL)
		{
			index = bloat_open(target->relid, &locked);
			if (index != NULL)
			{
				const BloatEstimate *heap = NULL;

				if (index->rd_rel->relam == BTREE_AM_OID)
					heap = table_estimate(estimates, table, &bloat_budget_rows);
				bloat_measure_index(index, table, heap, &bloat_budget_index, &estimate);
				put_index_row(rsinfo, target, index, &estimate, estimate.reason);
				relation_close(index, AccessShareLock);
			}
			relation_close(table, AccessShareLock);
		}
		if (index == NULL && locked)
			put_index_row(rsinfo, target, NULL, &estimate, "locked");
	}
	return (Datum) 0;
}
