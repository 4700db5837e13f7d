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
 * order, each under pgopt.refresh_lock_timeout, and without standing in a queue.
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
#include "catalog/pg_publication.h"
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
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "core.h"
#include "rowlog_internal.h"

#define TRIGGER_NAME  "pgopt_log"

#define LOCK_PAUSE_US 1000

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

/*
 * Asks again and again rather than queue: whoever comes while a request waits
 * in a queue waits behind it.
 */
bool
rowlog_poll_lock(Oid relid, LOCKMODE lockmode, int milliseconds)
{
	TimestampTz start = GetCurrentTimestamp();

	while (!ConditionalLockRelationOid(relid, lockmode))
	{
		CHECK_FOR_INTERRUPTS();
		if (TimestampDifferenceExceeds(start, GetCurrentTimestamp(), milliseconds))
			return false;
		pg_usleep(LOCK_PAUSE_US);
	}
	return true;
}

static bool
lock_in_time(Oid relid, LOCKMODE lockmode)
{
	/* Zero waits without limit. */
	return rowlog_poll_lock(
		relid, lockmode, pgopt_refresh_lock_timeout > 0 ? pgopt_refresh_lock_timeout : INT_MAX);
}

/* --- may it be captured? ------------------------------------------------------ */

/*
 * Logs are tables, and a publication of all tables would publish them: to
 * subscribers that have no such tables, and stop for it.
 */
char *
rowlog_publication(void)
{
	Relation publications = table_open(PublicationRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(publications, InvalidOid, false, NULL, 0, NULL);
	char *answer = NULL;
	HeapTuple tuple;

	while (answer == NULL && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_publication form = (Form_pg_publication) GETSTRUCT(tuple);

		if (form->puballtables)
			answer = psprintf("publication %s FOR ALL TABLES would publish its row log",
							  quote_identifier(NameStr(form->pubname)));
	}
	systable_endscan(scan);
	table_close(publications, AccessShareLock);
	return answer;
}

static char *
why_not_relation(Relation rel, Oid owner)
{
	char *publication = rowlog_publication();

	if (publication != NULL)
		return publication;
	if (RelationGetRelid(rel) < FirstNormalObjectId)
		return pstrdup("it belongs to the server");
	if (RelationGetNamespace(rel) == get_namespace_oid(PGOPT_SCHEMA, true))
		return pstrdup("it belongs to pgopt");
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		return pstrdup("it is temporary");
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED)
		return pstrdup("it is unlogged: its rows may vanish in a crash");
	if (rel->rd_rel->relkind == RELKIND_MATVIEW)
		return NULL;
	if (rel->rd_rel->relkind != RELKIND_RELATION)
		return pstrdup("it is neither a table nor a materialized view");
	if (pg_class_aclcheck(RelationGetRelid(rel), owner, ACL_TRIGGER) != ACLCHECK_OK)
		return psprintf("%s lacks the privilege TRIGGER on it",
						quote_identifier(GetUserNameFromId(owner, false)));
	return NULL;
}

static char *
why_not_columns(Relation rel, const Bitmapset *columns)
{
	int column = -1;

	while ((column = bms_next_member(columns, column)) >= 0)
	{
		AttrNumber attnum = column + FirstLowInvalidHeapAttributeNumber;
		Form_pg_attribute att;

		if (attnum <= 0 || attnum > RelationGetNumberOfAttributes(rel))
			return pstrdup("a system column, or a row as a whole, is read");
		att = TupleDescAttr(RelationGetDescr(rel), attnum - 1);
		if (compat_is_virtual(att))
			return psprintf("column %s is virtual", quote_identifier(NameStr(att->attname)));
	}
	if (LOG_FIXED_COLUMNS + 2 * bms_num_members(columns) > MaxHeapAttributeNumber)
		return pstrdup("too many columns are read");
	return NULL;
}

char *
rowlog_why_not(Oid relid, Oid owner, const Bitmapset *columns)
{
	Relation rel = try_relation_open(relid, AccessShareLock);
	char *answer;

	if (rel == NULL)
		return pstrdup("it does not exist");
	answer = why_not_relation(rel, owner);
	if (answer == NULL)
		answer = why_not_columns(rel, columns);
	relation_close(rel, AccessShareLock);
	return answer;
}

/*
 * To the snapshot in use it must have been captured, too: changes that came
 * before are not in the log.
 */
bool
rowlog_covers(Oid relid, const Bitmapset *columns)
{
	Relation rel = try_relation_open(relid, AccessShareLock);
	const LogShape *shape;
	int log_columns = MaxHeapAttributeNumber;
	bool answer;
	int column = -1;

	if (rel == NULL)
		return false;
	shape = shape_get(rel);
	answer = shape->is_captured;
	if (answer && ActiveSnapshotSet())
		answer = rowlog_visible_log(relid, GetActiveSnapshot(), &log_columns) == shape->log;
	while (answer && (column = bms_next_member(columns, column)) >= 0)
	{
		int pair = shape_find_pair(shape, column + FirstLowInvalidHeapAttributeNumber);

		answer = pair >= 0 && LOG_NEW(pair) <= log_columns;
	}
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
										  "toast_tuple_target=8160",
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
capture_end(Oid relid)
{
	PgoptSpi spi;
	Oid types[] = {OIDOID};
	Datum values[] = {ObjectIdGetDatum(relid)};
	Relation rel = try_relation_open(relid, NoLock);
	Oid log = rowlog_find_log(relid);

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
	Oid log;

	if (!lock_in_time(relid, AccessExclusiveLock))
		return false;
	log = rowlog_find_log(relid);
	if (OidIsValid(log) && !lock_in_time(log, AccessExclusiveLock))
		return false;
	capture_end(relid);
	return true;
}
