/*
 * capture.c
 *		Begins and ends the capture of a relation's changes.
 *
 * Owns the rows of pgopt.row_log, the tables pgopt.log_<oid>, and the triggers.
 * The logs belong to the extension: pg_dump leaves them out, DROP EXTENSION
 * takes them along.  They, and the triggers, are made by the server's own
 * functions rather than by statements, so that no event trigger of a user runs.
 *
 * Locks: SHARE ROW EXCLUSIVE on the relation, which waits for its writers to
 * end, then ACCESS EXCLUSIVE on the log where its columns change; in this
 * order, each under pgopt.refresh_lock_timeout.
 */
#include "pgopt.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/heap.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "catalog/toasting.h"
#include "commands/comment.h"
#include "commands/defrem.h"
#include "commands/event_trigger.h"
#include "commands/tablecmds.h"
#include "commands/trigger.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "compat.h"
#include "core.h"
#include "rowlog_internal.h"

#define TRIGGER_NAME "pgopt_log"

Oid
rowlog_function(void)
{
	List *name = list_make2(makeString(PGOPT_SCHEMA), makeString("log_change"));

	return LookupFuncName(name, 0, NULL, true);
}

void
rowlog_log_name(Oid relid, NameData *name)
{
	snprintf(NameStr(*name), NAMEDATALEN, "log_%u", relid);
}

Oid
rowlog_find_log(Oid relid)
{
	Oid nsp = get_namespace_oid(PGOPT_SCHEMA, true);
	NameData name;

	rowlog_log_name(relid, &name);
	return OidIsValid(nsp) ? get_relname_relid(NameStr(name), nsp) : InvalidOid;
}

/* Waits for no longer than pgopt.refresh_lock_timeout. */
static bool
lock_in_time(Oid relid, LOCKMODE lockmode)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	int save_nestlevel = NewGUCNestLevel();
	volatile bool locked = false;

	settings_set_lock_timeout(pgopt_refresh_lock_timeout);
	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		LockRelationOid(relid, lockmode);
		ReleaseCurrentSubTransaction();
		locked = true;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		RollbackAndReleaseCurrentSubTransaction();
		CurrentResourceOwner = owner;
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
			ReThrowError(error);
		FlushErrorState();
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	AtEOXact_GUC(false, save_nestlevel);
	return locked;
}

/* --- may it be captured? ------------------------------------------------------ */

char *
rowlog_why_not(Oid relid, Oid owner, const Bitmapset *columns)
{
	Relation rel = try_relation_open(relid, AccessShareLock);
	char *name;
	char *answer = NULL;
	int column = -1;

	if (rel == NULL)
		return psprintf("relation with OID %u does not exist", relid);
	name = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
									  RelationGetRelationName(rel));
	if (relid < FirstNormalObjectId)
		answer = psprintf("%s belongs to the server", name);
	else if (RelationGetNamespace(rel) == get_namespace_oid(PGOPT_SCHEMA, true))
		answer = psprintf("%s belongs to pgopt", name);
	else if (rel->rd_rel->relkind != RELKIND_RELATION && rel->rd_rel->relkind != RELKIND_MATVIEW)
		answer = psprintf("%s is neither a table nor a materialized view", name);
	else if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		answer = psprintf("%s is temporary", name);
	else if (rel->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED)
		answer = psprintf("%s is unlogged: its rows may vanish in a crash", name);
	else if (rel->rd_rel->relkind == RELKIND_RELATION &&
			 pg_class_aclcheck(relid, owner, ACL_TRIGGER) != ACLCHECK_OK)
		answer = psprintf("%s lacks the privilege TRIGGER on %s",
						  quote_identifier(GetUserNameFromId(owner, false)),
						  name);
	else if (LOG_FIXED_COLUMNS + 2 * bms_num_members(columns) > MaxHeapAttributeNumber)
		answer = psprintf("too many columns of %s are read", name);

	while (answer == NULL && (column = bms_next_member(columns, column)) >= 0)
	{
		AttrNumber attnum = column + FirstLowInvalidHeapAttributeNumber;
		Form_pg_attribute att;

		if (attnum <= 0 || attnum > RelationGetNumberOfAttributes(rel))
		{
			answer = psprintf("a system column of %s, or its whole row, is read", name);
			break;
		}
		att = TupleDescAttr(RelationGetDescr(rel), attnum - 1);
		if (compat_is_virtual(att))
			answer = psprintf("column %s of %s is virtual", NameStr(att->attname), name);
	}
	relation_close(rel, AccessShareLock);
	return answer;
}

bool
rowlog_covers(Oid relid, const Bitmapset *columns)
{
	Relation rel = try_relation_open(relid, AccessShareLock);
	const LogShape *shape;
	bool answer;
	int column = -1;

	if (rel == NULL)
		return false;
	shape = shape_get(rel);
	answer = shape->is_captured;
	while (answer && (column = bms_next_member(columns, column)) >= 0)
		answer = shape_find_pair(shape, column + FirstLowInvalidHeapAttributeNumber) >= 0;
	relation_close(rel, AccessShareLock);
	return answer;
}

/* --- the log ------------------------------------------------------------------- */

/*
 * Rows come and go all the time: autovacuum is to make their place free again
 * early.  Nobody plans queries over them, so there is nothing to analyze.
 */
static Datum
log_options(void)
{
	static const char *const options[] = {"autovacuum_vacuum_threshold=2000",
										  "autovacuum_vacuum_scale_factor=0.1",
										  "autovacuum_vacuum_insert_threshold=-1",
										  "autovacuum_analyze_threshold=2147483647"};
	Datum elements[lengthof(options)];

	for (int i = 0; i < lengthof(options); i++)
		elements[i] = CStringGetTextDatum(options[i]);
	return PointerGetDatum(
		construct_array(elements, lengthof(options), TEXTOID, -1, false, TYPALIGN_INT));
}

static ObjectAddress
extension_address(void)
{
	ObjectAddress address;

	ObjectAddressSet(address, ExtensionRelationId, pgopt_extension_oid());
	return address;
}

/*
 * A log is no reason to keep a type that its relation no longer needs: DROP
 * TYPE must not fail for it.  A column whose type is gone is no longer read or
 * written; rowlog_maintain() drops the log, or the next capture makes it anew.
 */
static void
forget_types(Oid log)
{
	Relation depend = table_open(DependRelationId, RowExclusiveLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&keys[0],
				Anum_pg_depend_classid,
				BTEqualStrategyNumber,
				F_OIDEQ,
				ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(
		&keys[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(log));
	scan = systable_beginscan(depend, DependDependerIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);

		if (form->objsubid > 0 &&
			(form->refclassid == TypeRelationId || form->refclassid == CollationRelationId))
			CatalogTupleDelete(depend, &tuple->t_self);
	}
	systable_endscan(scan);
	table_close(depend, RowExclusiveLock);
}

static void
init_pair(TupleDesc desc, int pair, Form_pg_attribute att)
{
	for (int i = 0; i < 2; i++)
	{
		AttrNumber column = i == 0 ? LOG_OLD(pair) : LOG_NEW(pair);
		char name[NAMEDATALEN];

		snprintf(name, sizeof(name), "%c%d", i == 0 ? 'o' : 'n', att->attnum);
		TupleDescInitEntry(desc, column, name, getBaseType(att->atttypid), -1, 0);
		TupleDescInitEntryCollation(desc, column, att->attcollation);
	}
}

static void
create_index(Oid log)
{
	IndexStmt *stmt = makeNode(IndexStmt);
	IndexElem *column = makeNode(IndexElem);
	char name[NAMEDATALEN];

	column->name = "xid";
	column->ordering = SORTBY_DEFAULT;
	column->nulls_ordering = SORTBY_NULLS_DEFAULT;
	snprintf(name, sizeof(name), "%s_xid", get_rel_name(log));
	stmt->idxname = name;
	stmt->accessMethod = "btree";
	stmt->indexParams = list_make1(column);
	(void) compat_define_index(log, stmt);
}

/* Columns are in the order of their numbers. */
static Oid
create_log(Relation rel, const Bitmapset *columns)
{
	Oid nsp = get_namespace_oid(PGOPT_SCHEMA, false);
	TupleDesc desc = CreateTemplateTupleDesc(LOG_FIXED_COLUMNS + 2 * bms_num_members(columns));
	ObjectAddress address;
	ObjectAddress extension = extension_address();
	Datum options = log_options();
	NameData name;
	int column = -1;
	int pair = 0;
	Oid log;

	TupleDescInitEntry(desc, LOG_XID, "xid", XID8OID, -1, 0);
	TupleDescInitEntry(desc, LOG_OP, "op", CHAROID, -1, 0);
	TupleDescInitEntry(desc, LOG_SAME, "same", BYTEAOID, -1, 0);
	while ((column = bms_next_member(columns, column)) >= 0)
		init_pair(
			desc,
			pair++,
			TupleDescAttr(RelationGetDescr(rel), column + FirstLowInvalidHeapAttributeNumber - 1));

	rowlog_log_name(RelationGetRelid(rel), &name);
	log = heap_create_with_catalog(NameStr(name),
								   nsp,
								   rel->rd_rel->reltablespace,
								   InvalidOid,
								   InvalidOid,
								   InvalidOid,
								   GetUserId(),
								   HEAP_TABLE_AM_OID,
								   desc,
								   NIL,
								   RELKIND_RELATION,
								   RELPERSISTENCE_PERMANENT,
								   false,
								   false,
								   ONCOMMIT_NOOP,
								   options,
								   false,
								   false,
								   true,
								   InvalidOid,
								   NULL);
	CommandCounterIncrement();
	NewRelationCreateToastTable(log, (Datum) 0);
	create_index(log);
	forget_types(log);
	ObjectAddressSet(address, RelationRelationId, log);
	recordDependencyOn(&address, &extension, DEPENDENCY_EXTENSION);
	CreateComments(log,
				   RelationRelationId,
				   0,
				   "old and new values of rows that changed, for incremental refreshes");
	CommandCounterIncrement();
	return log;
}

static void
drop_object(Oid class, Oid object)
{
	ObjectAddress address;

	ObjectAddressSet(address, class, object);
	performDeletion(&address,
					DROP_CASCADE,
					PERFORM_DELETION_INTERNAL | PERFORM_DELETION_QUIETLY |
						PERFORM_DELETION_SKIP_EXTENSIONS);
	CommandCounterIncrement();
}

static List *
add_pair_commands(Form_pg_attribute att, List *commands)
{
	for (int i = 0; i < 2; i++)
	{
		AlterTableCmd *command = makeNode(AlterTableCmd);

		command->subtype = AT_AddColumn;
		command->def = (Node *) makeColumnDef(psprintf("%c%d", i == 0 ? 'o' : 'n', att->attnum),
											  getBaseType(att->atttypid),
											  -1,
											  att->attcollation);
		commands = lappend(commands, command);
	}
	return commands;
}

/* The caller has ACCESS EXCLUSIVE on the log. */
static void
alter_log(Oid log, List *commands)
{
	EventTriggerInhibitCommandCollection();
	PG_TRY();
	{
		AlterTableInternal(log, commands, false);
	}
	PG_FINALLY();
	{
		EventTriggerUndoInhibitCommandCollection();
	}
	PG_END_TRY();
	CommandCounterIncrement();
	NewRelationCreateToastTable(log, (Datum) 0);
	forget_types(log);
	CommandCounterIncrement();
}

static bool
widen_log(Relation rel, Oid log, const Bitmapset *columns)
{
	List *commands = NIL;
	int column = -1;

	if (!lock_in_time(log, AccessExclusiveLock))
		return false;
	while ((column = bms_next_member(columns, column)) >= 0)
		commands = add_pair_commands(
			TupleDescAttr(RelationGetDescr(rel), column + FirstLowInvalidHeapAttributeNumber - 1),
			commands);
	alter_log(log, commands);
	return true;
}

/* --- the trigger ---------------------------------------------------------------- */

Trigger *
rowlog_find_trigger(Relation rel)
{
	Oid function = rowlog_function();

	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		Trigger *trigger = &rel->trigdesc->triggers[i];

		if (trigger->tgfoid == function && trigger->tgisinternal)
			return trigger;
	}
	return NULL;
}

/* It depends on the extension in a way that lets DROP EXTENSION drop it without being told to. */
static void
create_trigger(Relation rel)
{
	CreateTrigStmt *stmt = makeNode(CreateTrigStmt);
	ObjectAddress extension = extension_address();
	ObjectAddress trigger;

	stmt->trigname = TRIGGER_NAME;
	stmt->funcname = list_make2(makeString(PGOPT_SCHEMA), makeString("log_change"));
	stmt->row = true;
	stmt->timing = TRIGGER_TYPE_AFTER;
	stmt->events = TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE;
	trigger = CreateTriggerFiringOn(stmt,
									NULL,
									RelationGetRelid(rel),
									InvalidOid,
									InvalidOid,
									InvalidOid,
									rowlog_function(),
									InvalidOid,
									NULL,
									true,
									false,
									TRIGGER_FIRES_ALWAYS);
	recordDependencyOn(&trigger, &extension, DEPENDENCY_AUTO_EXTENSION);
	CommandCounterIncrement();
}

/* ENABLE TRIGGER ALL makes it one that does not fire for replicas. */
static void
set_fires_always(Oid trigger)
{
	Relation triggers = table_open(TriggerRelationId, RowExclusiveLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(
		&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(trigger));
	scan = systable_beginscan(triggers, TriggerOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		tuple = heap_copytuple(tuple);
		((Form_pg_trigger) GETSTRUCT(tuple))->tgenabled = TRIGGER_FIRES_ALWAYS;
		CatalogTupleUpdate(triggers, &tuple->t_self, tuple);
	}
	systable_endscan(scan);
	table_close(triggers, RowExclusiveLock);
	CommandCounterIncrement();
}

/* --- capture --------------------------------------------------------------------- */

static void
record_capture(Oid relid, Oid log)
{
	Oid types[] = {OIDOID, OIDOID};
	Datum values[] = {ObjectIdGetDatum(relid), ObjectIdGetDatum(log)};

	(void) pgopt_spi_execute("INSERT INTO pgopt.row_log (relation, log) VALUES ($1, $2)"
							 " ON CONFLICT (relation) DO UPDATE SET log = excluded.log,"
							 "  captured_since = now()",
							 2,
							 types,
							 values,
							 NULL,
							 false,
							 SPI_OK_INSERT);
}

/* The columns that it lacks, or that are not what is logged; those that are still good go to *good. */
static Bitmapset *
missing_columns(const LogShape *shape, const Bitmapset *columns, Bitmapset **good, bool *outdated)
{
	Bitmapset *missing = bms_copy(columns);

	*good = NULL;
	*outdated = false;
	for (int i = 0; i < shape->npairs; i++)
	{
		int column = shape->pairs[i].attnum - FirstLowInvalidHeapAttributeNumber;

		if (shape->pairs[i].attnum == InvalidAttrNumber)
		{
			*outdated = true;
			continue;
		}
		*good = bms_add_member(*good, column);
		missing = bms_del_member(missing, column);
	}
	return missing;
}

/* The caller has SHARE ROW EXCLUSIVE on the relation: nobody writes to it or to its log. */
static bool
capture_begin(Relation rel, const Bitmapset *columns)
{
	Oid relid = RelationGetRelid(rel);
	Oid log = rowlog_find_log(relid);
	bool is_table = rel->rd_rel->relkind == RELKIND_RELATION;
	const Trigger *trigger = is_table ? rowlog_find_trigger(rel) : NULL;
	bool has_trigger = trigger != NULL;
	bool fires_always = has_trigger && trigger->tgenabled == TRIGGER_FIRES_ALWAYS;
	Oid trigger_oid = has_trigger ? trigger->tgoid : InvalidOid;

	if (OidIsValid(log))
	{
		Bitmapset *good;
		bool outdated;
		Bitmapset *missing = missing_columns(shape_get(rel), columns, &good, &outdated);

		if (outdated || (is_table && !has_trigger))
		{
			/* What it holds is of no use: the columns changed, or there was no trigger. */
			if (!lock_in_time(log, AccessExclusiveLock))
				return false;
			drop_object(RelationRelationId, log);
			log = InvalidOid;
			columns = bms_union(good, columns);
		}
		else if (!bms_is_empty(missing) && !widen_log(rel, log, missing))
			return false;
	}
	if (!OidIsValid(log))
	{
		log = create_log(rel, columns);
		record_capture(relid, log);
	}
	if (is_table && !has_trigger)
		create_trigger(rel);
	else if (is_table && !fires_always)
		set_fires_always(trigger_oid);
	CacheInvalidateRelcacheByRelid(relid);
	CommandCounterIncrement();
	return true;
}

bool
rowlog_ensure(Oid relid, const Bitmapset *columns)
{
	PgoptSpi spi;
	Relation rel;
	bool done;

	if (rowlog_covers(relid, columns))
		return true;
	if (!lock_in_time(relid, ShareRowExclusiveLock))
		return false;
	rel = relation_open(relid, NoLock);
	pgopt_spi_begin(&spi);
	done = capture_begin(rel, columns);
	pgopt_spi_end(&spi);
	relation_close(rel, NoLock);
	return done;
}

void
capture_end(Oid relid, Oid log)
{
	PgoptSpi spi;
	Oid types[] = {OIDOID};
	Datum values[] = {ObjectIdGetDatum(relid)};
	Relation rel = try_relation_open(relid, NoLock);

	pgopt_spi_begin(&spi);
	if (rel != NULL)
	{
		const Trigger *trigger = rowlog_find_trigger(rel);
		Oid trigger_oid = trigger != NULL ? trigger->tgoid : InvalidOid;

		relation_close(rel, NoLock);
		if (OidIsValid(trigger_oid))
			drop_object(TriggerRelationId, trigger_oid);
		CacheInvalidateRelcacheByRelid(relid);
	}
	if (OidIsValid(log))
		drop_object(RelationRelationId, log);
	(void) pgopt_spi_execute("DELETE FROM pgopt.row_log WHERE relation = $1",
							 1,
							 types,
							 values,
							 NULL,
							 false,
							 SPI_OK_DELETE);
	pgopt_spi_end(&spi);
}

bool
rowlog_drop(Oid relid)
{
	Oid log = rowlog_find_log(relid);

	if (!lock_in_time(relid, AccessExclusiveLock))
		return false;
	log = rowlog_find_log(relid);
	if (OidIsValid(log) && !lock_in_time(log, AccessExclusiveLock))
		return false;
	capture_end(relid, log);
	return true;
}
