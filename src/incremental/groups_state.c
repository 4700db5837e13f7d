/*
 * groups_state.c
 *		The tables that hold the state of a view's groups.
 *
 * pgopt.groups_<view> has a row a group: the hash of its key, the number that
 * its values go by, where its row of the view is, the key, the accumulators.
 * pgopt.values_<view>_1, _2, ... have a row for each distinct value that a group
 * gives to an aggregate with DISTINCT, and how often.  They are logged tables
 * and members of the extension, made without commands, so that no event trigger
 * of a user's fires; the extension's owner owns them, and nobody is granted
 * anything.
 *
 * Only an index on what never changes of a row, so that updates stay within
 * their page (HOT); the free space for that is left by the fill factor.
 * Nothing plans queries over these tables: autovacuum need not analyze them.
 *
 * Locks: whoever holds ExclusiveLock on the matview is the only one to use its
 * state, with RowExclusiveLock to change some rows, AccessExclusiveLock to
 * replace all.  What is read is what the active snapshot sees.
 *
 * Memory: a GroupsState lives in the context in which it was opened.
 */
#include "pgopt.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "catalog/toasting.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "commands/tablecmds.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "groups_private.h"

/* Pages, read one after another, that a look-up by index costs as much as. */
#define LOOKUP_PAGES 0.2

/* Rows that are written at once when a table is filled. */
#define FILL_BATCH 500

static char *
groups_name(Oid matview)
{
	return psprintf("groups_%u", matview);
}

/* The tables of values are counted from 1. */
static char *
values_name(Oid matview, int number)
{
	return psprintf("values_%u_%d", matview, number);
}

/* --- shape ------------------------------------------------------------------------- */

static void
set_column(TupleDesc desc, int column, const char *name, Oid type, int32 typmod, Oid collation)
{
	TupleDescInitEntry(desc, column + 1, name, type, typmod, 0);
	TupleDescInitEntryCollation(desc, column + 1, collation);
}

static TupleDesc
groups_shape(const GroupSpec *spec)
{
	TupleDesc desc = CreateTemplateTupleDesc(GROUP_KEYS + spec->nkeys + spec->naccumulators);
	int column = GROUP_KEYS;

	set_column(desc, GROUP_HASH, "hash", INT8OID, -1, InvalidOid);
	set_column(desc, GROUP_ID, "id", INT8OID, -1, InvalidOid);
	set_column(desc, GROUP_ROW, "row", TIDOID, -1, InvalidOid);
	for (int i = 0; i < spec->nkeys; i++)
	{
		const ColumnType *key = &spec->keys[i];

		set_column(desc, column++, psprintf("k%d", i + 1), key->type, key->typmod, key->collation);
	}
	for (int i = 0; i < spec->naccumulators; i++)
	{
		const ColumnType *type = &spec->accumulators[i].column;

		set_column(
			desc, column++, psprintf("a%d", i + 1), type->type, type->typmod, type->collation);
	}
	return desc;
}

static TupleDesc
values_shape(const Accumulator *accumulator)
{
	const ColumnType *value = &accumulator->value;
	TupleDesc desc = CreateTemplateTupleDesc(VALUE_COLUMNS);

	set_column(desc, VALUE_ID, "id", INT8OID, -1, InvalidOid);
	set_column(desc, VALUE_HASH, "hash", INT8OID, -1, InvalidOid);
	set_column(desc, VALUE_VALUE, "v", value->type, value->typmod, value->collation);
	set_column(desc, VALUE_COUNT, "n", INT8OID, -1, InvalidOid);
	return desc;
}

TupleDesc
groups_store_desc(const GroupsState *state, bool with_accumulators)
{
	const GroupSpec *spec = state->spec;
	TupleDesc table = RelationGetDescr(state->groups.heap);
	int ncolumns = spec->nkeys + (with_accumulators ? spec->naccumulators : 0);
	TupleDesc desc = CreateTemplateTupleDesc(1 + ncolumns);

	set_column(desc, 0, "n", INT8OID, -1, InvalidOid);
	for (int i = 0; i < ncolumns; i++)
		TupleDescCopyEntry(desc, i + 2, table, GROUP_KEYS + i + 1);
	return desc;
}

TupleDesc
values_store_desc(const GroupsState *state, int accumulator)
{
	const ColumnType *value = &state->spec->accumulators[accumulator].value;
	TupleDesc desc = CreateTemplateTupleDesc(P_COLUMNS);

	set_column(desc, P_ID, "id", INT8OID, -1, InvalidOid);
	set_column(desc, P_VALUE, "v", value->type, value->typmod, value->collation);
	set_column(desc, P_HASH, "hash", INT8OID, -1, InvalidOid);
	set_column(desc, P_COUNT, "n", INT8OID, -1, InvalidOid);
	return desc;
}

/* --- made and dropped ------------------------------------------------------------------ */

static Oid
find_table(const char *name)
{
	return get_relname_relid(name, get_namespace_oid(PGOPT_SCHEMA, false));
}

static Oid
owner_of_own_tables(void)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(find_table("incremental_state")));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "table %s.incremental_state is missing", PGOPT_SCHEMA);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

static void
make_index(Oid table, const char *name, List *columns)
{
	IndexStmt *statement = makeNode(IndexStmt);
	ListCell *lc;

	statement->relation = makeRangeVar(PGOPT_SCHEMA, pstrdup(name), -1);
	statement->accessMethod = "btree";
	foreach(lc, columns)
	{
		IndexElem *element = makeNode(IndexElem);

		element->name = lfirst(lc);
		element->ordering = SORTBY_DEFAULT;
		element->nulls_ordering = SORTBY_NULLS_DEFAULT;
		statement->indexParams = lappend(statement->indexParams, element);
	}
	compat_DefineIndex(table, statement);
}

static void
make_table(const char *name, TupleDesc shape, int fillfactor, List *index_columns)
{
	CreateStmt *statement = makeNode(CreateStmt);
	ObjectAddress table;
	ObjectAddress extension;

	statement->relation = makeRangeVar(PGOPT_SCHEMA, pstrdup(name), -1);
	statement->accessMethod = "heap";
	statement->oncommit = ONCOMMIT_NOOP;
	statement->options =
		list_make4(makeDefElem("fillfactor", (Node *) makeInteger(fillfactor), -1),
				   makeDefElem("autovacuum_vacuum_scale_factor", (Node *) makeFloat("0.1"), -1),
				   makeDefElem("autovacuum_vacuum_insert_threshold", (Node *) makeInteger(-1), -1),
				   makeDefElem("autovacuum_analyze_threshold", (Node *) makeInteger(INT_MAX), -1));
	for (int i = 0; i < shape->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(shape, i);

		statement->tableElts = lappend(statement->tableElts,
									   makeColumnDef(NameStr(column->attname),
													 column->atttypid,
													 column->atttypmod,
													 column->attcollation));
	}
	table = DefineRelation(statement, RELKIND_RELATION, InvalidOid, NULL, NULL);
	CommandCounterIncrement();
	NewRelationCreateToastTable(table.objectId, (Datum) 0);

	ObjectAddressSet(extension, ExtensionRelationId, get_extension_oid("pgopt", false));
	recordDependencyOn(&table, &extension, DEPENDENCY_EXTENSION);
	make_index(table.objectId, psprintf("%s_key", name), index_columns);
	CommandCounterIncrement();
}

static void
drop_table(Oid relid)
{
	ObjectAddress table;

	ObjectAddressSet(table, RelationRelationId, relid);
	performDeletion(&table,
					DROP_RESTRICT,
					PERFORM_DELETION_INTERNAL | PERFORM_DELETION_QUIETLY |
						PERFORM_DELETION_SKIP_EXTENSIONS);
	CommandCounterIncrement();
}

static bool
has_shape(const char *name, TupleDesc shape)
{
	Oid relid = find_table(name);
	Relation rel = OidIsValid(relid) ? try_table_open(relid, AccessShareLock) : NULL;
	TupleDesc desc;
	bool same;

	if (rel == NULL)
		return false;
	desc = RelationGetDescr(rel);
	same = desc->natts == shape->natts && list_length(RelationGetIndexList(rel)) == 1;
	for (int i = 0; same && i < desc->natts; i++)
	{
		Form_pg_attribute is = TupleDescAttr(desc, i);
		Form_pg_attribute should = TupleDescAttr(shape, i);

		same = !is->attisdropped && is->atttypid == should->atttypid &&
			   is->atttypmod == should->atttypmod && is->attcollation == should->attcollation;
	}
	table_close(rel, AccessShareLock);
	return same;
}

bool
groups_tables_exist(IncrementalPlan *plan)
{
	const GroupSpec *spec = plan->groups;
	int ndistinct = 0;

	if (!has_shape(groups_name(plan->matview), groups_shape(spec)))
		return false;
	for (int i = 0; i < spec->naccumulators; i++)
	{
		const Accumulator *accumulator = &spec->accumulators[i];

		if (accumulator->kind == ACC_DISTINCT &&
			!has_shape(values_name(plan->matview, ++ndistinct), values_shape(accumulator)))
			return false;
	}
	return !OidIsValid(find_table(values_name(plan->matview, ndistinct + 1)));
}

/* As the owner of the extension, whatever the view's owner may do. */
void
groups_create_tables(IncrementalPlan *plan)
{
	const GroupSpec *spec = plan->groups;
	Oid save_userid;
	int save_sec_context;
	int ndistinct = 0;

	if (groups_tables_exist(plan))
		return;
	GetUserIdAndSecContext(&save_userid, &save_sec_context);
	SetUserIdAndSecContext(owner_of_own_tables(), save_sec_context | SECURITY_LOCAL_USERID_CHANGE);
	groups_drop_tables(plan->matview);
	make_table(groups_name(plan->matview), groups_shape(spec), 60, list_make1("hash"));
	for (int i = 0; i < spec->naccumulators; i++)
	{
		if (spec->accumulators[i].kind == ACC_DISTINCT)
			make_table(values_name(plan->matview, ++ndistinct),
					   values_shape(&spec->accumulators[i]),
					   80,
					   list_make2("id", "hash"));
	}
	SetUserIdAndSecContext(save_userid, save_sec_context);
}

void
groups_drop_tables(Oid matview)
{
	Oid relid = find_table(groups_name(matview));

	if (OidIsValid(relid))
		drop_table(relid);
	for (int i = 1; OidIsValid(relid = find_table(values_name(matview, i))); i++)
		drop_table(relid);
}

static int64
table_bytes(Oid relid)
{
	return DatumGetInt64(DirectFunctionCall1(pg_total_relation_size, ObjectIdGetDatum(relid)));
}

int64
groups_bytes(Oid matview)
{
	Oid relid = find_table(groups_name(matview));
	int64 bytes = OidIsValid(relid) ? table_bytes(relid) : 0;

	for (int i = 1; OidIsValid(relid = find_table(values_name(matview, i))); i++)
		bytes += table_bytes(relid);
	return bytes;
}

/* --- opened ---------------------------------------------------------------------------- */

static void
open_table(StateTable *table, const char *name, LOCKMODE lockmode)
{
	Oid index;

	table->heap = table_open(find_table(name), lockmode);
	index = linitial_oid(RelationGetIndexList(table->heap));
	table->index = index_open(index, lockmode);
	table->index_info = BuildIndexInfo(table->index);
	table->slot = table_slot_create(table->heap, NULL);
	table->write = MakeSingleTupleTableSlot(RelationGetDescr(table->heap), &TTSOpsVirtual);
	ExecClearTuple(table->write);
}

static void
close_table(StateTable *table)
{
	if (table->heap == NULL)
		return;
	ExecDropSingleTupleTableSlot(table->slot);
	ExecDropSingleTupleTableSlot(table->write);
	index_close(table->index, NoLock);
	table_close(table->heap, NoLock);
}

GroupsState *
groups_open(IncrementalPlan *plan, LOCKMODE lockmode)
{
	const GroupSpec *spec = plan->groups;
	GroupsState *state = palloc0(sizeof(GroupsState));

	if (!groups_tables_exist(plan))
		elog(ERROR, "tables of the groups of view %u are missing", plan->matview);
	state->plan = plan;
	state->spec = spec;
	state->keys = palloc(sizeof(ValueType) * spec->nkeys);
	for (int i = 0; i < spec->nkeys; i++)
		value_type_init(&state->keys[i], &spec->keys[i]);
	state->accumulators = palloc(sizeof(AccumulatorType) * spec->naccumulators);
	accumulator_types_init(state->accumulators, spec);

	open_table(&state->groups, groups_name(plan->matview), lockmode);
	state->values = palloc0(sizeof(StateTable) * spec->naccumulators);
	for (int i = 0; i < spec->naccumulators; i++)
	{
		if (spec->accumulators[i].kind == ACC_DISTINCT)
			open_table(&state->values[i], values_name(plan->matview, ++state->ndistinct), lockmode);
	}
	return state;
}

void
groups_close(GroupsState *state)
{
	close_table(&state->groups);
	for (int i = 0; i < state->spec->naccumulators; i++)
		close_table(&state->values[i]);
}

/* --- written ------------------------------------------------------------------------------ */

static TupleTableSlot *
slot_of(TupleTableSlot *slot, Datum *values, bool *nulls)
{
	int natts = slot->tts_tupleDescriptor->natts;

	ExecClearTuple(slot);
	memcpy(slot->tts_values, values, sizeof(Datum) * natts);
	memcpy(slot->tts_isnull, nulls, sizeof(bool) * natts);
	return ExecStoreVirtualTuple(slot);
}

/* The columns of the index are the table's first. */
static void
insert_into_index(StateTable *table, TupleTableSlot *slot)
{
	index_insert(table->index,
				 slot->tts_values,
				 slot->tts_isnull,
				 &slot->tts_tid,
				 table->heap,
				 UNIQUE_CHECK_NO,
				 false,
				 table->index_info);
}

void
state_row_insert(StateTable *table, Datum *values, bool *nulls)
{
	TupleTableSlot *slot = slot_of(table->write, values, nulls);

	simple_table_tuple_insert(table->heap, slot);
	insert_into_index(table, slot);
}

void
state_row_update(StateTable *table, ItemPointer tid, Datum *values, bool *nulls)
{
	TupleTableSlot *slot = slot_of(table->write, values, nulls);
	CompatUpdateIndexes indexes;

	simple_table_tuple_update(table->heap, tid, slot, GetActiveSnapshot(), &indexes);
	if (compat_update_indexes(indexes))
		insert_into_index(table, slot);
}

void
state_row_delete(StateTable *table, ItemPointer tid)
{
	simple_table_tuple_delete(table->heap, tid, GetActiveSnapshot());
}

/* --- read ------------------------------------------------------------------------------------ */

bool
state_scan_pays(StateTable *table, int64 lookups)
{
	return lookups * LOOKUP_PAGES > RelationGetNumberOfBlocks(table->heap);
}

void
state_scan_begin(StateScan *scan, StateTable *table, int nkeys)
{
	memset(scan, 0, sizeof(StateScan));
	scan->table = table;
	scan->nkeys = nkeys;
	if (nkeys == 0)
		scan->heap = table_beginscan(table->heap, GetActiveSnapshot(), 0, NULL);
	else
		scan->index = compat_index_beginscan(table->heap, table->index, GetActiveSnapshot(), nkeys);
}

void
state_scan_find(StateScan *scan, int64 first, int64 second)
{
	ScanKeyInit(&scan->keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(first));
	ScanKeyInit(&scan->keys[1], 2, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(second));
	index_rescan(scan->index, scan->keys, scan->nkeys, NULL, 0);
}

TupleTableSlot *
state_scan_next(StateScan *scan)
{
	TupleTableSlot *slot = scan->table->slot;
	bool found;

	CHECK_FOR_INTERRUPTS();
	if (scan->heap != NULL)
		found = table_scan_getnextslot(scan->heap, ForwardScanDirection, slot);
	else
		found = index_getnext_slot(scan->index, ForwardScanDirection, slot);
	if (!found)
		return NULL;
	slot_getallattrs(slot);
	return slot;
}

void
state_scan_end(StateScan *scan)
{
	ExecClearTuple(scan->table->slot);
	if (scan->heap != NULL)
		table_endscan(scan->heap);
	else
		index_endscan(scan->index);
}

/* Every group that exists has values, so no larger id is in use. */
int64
state_last_id(StateTable *values)
{
	IndexScanDesc scan =
		compat_index_beginscan(values->heap, values->index, GetActiveSnapshot(), 0);
	int64 id = 0;
	bool isnull;

	index_rescan(scan, NULL, 0, NULL, 0);
	if (index_getnext_slot(scan, BackwardScanDirection, values->slot))
		id = DatumGetInt64(slot_getattr(values->slot, VALUE_ID + 1, &isnull));
	ExecClearTuple(values->slot);
	index_endscan(scan);
	return id;
}

/* --- filled ------------------------------------------------------------------------------------ */

struct StateFill
{
	StateTable *table;
	TupleTableSlot *slots[FILL_BATCH];
	int nslots;
	BulkInsertState bulk;
	CommandId command;
	Oid relid;
};

/*
 * Gives the table new, empty files: the old ones are gone when the transaction
 * commits, and back when it does not.
 */
static void
truncate_table(Relation heap)
{
	Oid toast = heap->rd_rel->reltoastrelid;

	compat_set_new_files(heap, heap->rd_rel->relpersistence);
	if (OidIsValid(toast))
	{
		Relation rel = table_open(toast, AccessExclusiveLock);

		compat_set_new_files(rel, rel->rd_rel->relpersistence);
		table_close(rel, NoLock);
		compat_reindex_relation(toast);
	}
	CommandCounterIncrement();
}

/* The index is closed until the end, when it is built anew. */
StateFill *
state_fill_begin(StateTable *table)
{
	StateFill *fill = palloc0(sizeof(StateFill));

	index_close(table->index, NoLock);
	truncate_table(table->heap);
	fill->table = table;
	fill->relid = RelationGetRelid(table->heap);
	fill->bulk = GetBulkInsertState();
	fill->command = GetCurrentCommandId(true);
	return fill;
}

static void
write_batch(StateFill *fill)
{
	table_multi_insert(fill->table->heap, fill->slots, fill->nslots, fill->command, 0, fill->bulk);
	for (int i = 0; i < fill->nslots; i++)
		ExecClearTuple(fill->slots[i]);
	fill->nslots = 0;
}

void
state_fill_add(StateFill *fill, Datum *values, bool *nulls)
{
	TupleDesc desc = RelationGetDescr(fill->table->heap);

	CHECK_FOR_INTERRUPTS();
	if (fill->slots[fill->nslots] == NULL)
		fill->slots[fill->nslots] = MakeSingleTupleTableSlot(desc, &TTSOpsHeapTuple);
	ExecForceStoreHeapTuple(heap_form_tuple(desc, values, nulls), fill->slots[fill->nslots], true);
	if (++fill->nslots == FILL_BATCH)
		write_batch(fill);
}

void
state_fill_end(StateFill *fill)
{
	StateTable *table = fill->table;

	if (fill->nslots > 0)
		write_batch(fill);
	for (int i = 0; i < FILL_BATCH && fill->slots[i] != NULL; i++)
		ExecDropSingleTupleTableSlot(fill->slots[i]);
	FreeBulkInsertState(fill->bulk);
	compat_reindex_relation(fill->relid);
	table->index = index_open(linitial_oid(RelationGetIndexList(table->heap)), NoLock);
	pfree(fill);
}
