/*
 * shape.c
 *		What a backend remembers of the logs that it writes and reads.
 *
 * Owns a hash table by relation in CacheMemoryContext.  Relcache invalidation
 * of the relation or of its log marks an entry; it is built again when it is
 * next asked for.
 *
 * Cost: one look-up in a hash table a changed row, and none for the relation
 * that was asked for last.
 */
#include "pgopt.h"

#include "access/relation.h"
#include "catalog/index.h"
#include "access/genam.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "rowlog_internal.h"

static HTAB *shapes = NULL;
static LogShape *last_shape = NULL;
static uint64 invalidations = 0;

static void
shape_invalidate(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS status;
	LogShape *shape;

	invalidations++;
	if (shapes == NULL)
		return;
	hash_seq_init(&status, shapes);
	while ((shape = hash_seq_search(&status)) != NULL)
	{
		if (relid == InvalidOid || relid == shape->relid || relid == shape->log)
			shape->is_valid = false;
	}
}

void
shape_init(void)
{
	CacheRegisterRelcacheCallback(shape_invalidate, (Datum) 0);
}

/* A matview's changes are logged by whoever makes them. */
static bool
fires_always(Relation rel)
{
	const Trigger *trigger;

	if (rel->rd_rel->relkind == RELKIND_MATVIEW)
		return true;
	trigger = rowlog_find_trigger(rel);
	return trigger != NULL && trigger->tgenabled == TRIGGER_FIRES_ALWAYS;
}

/* The number in a column's name, o<attnum>, if the relation still has that column with that type. */
static AttrNumber
logged_column(TupleDesc desc, Form_pg_attribute column)
{
	int attnum = atoi(NameStr(column->attname) + 1);
	Form_pg_attribute attribute;

	if (attnum < 1 || attnum > desc->natts)
		return InvalidAttrNumber;
	attribute = TupleDescAttr(desc, attnum - 1);
	if (attribute->attisdropped || getBaseType(attribute->atttypid) != column->atttypid ||
		attribute->attlen != column->attlen)
		return InvalidAttrNumber;
	return attnum;
}

Oid
rowlog_index(Relation log)
{
	List *indexes = RelationGetIndexList(log);

	return linitial_oid(indexes);
}

static void
shape_fill(LogShape *shape, Relation rel, Relation log)
{
	MemoryContext old = MemoryContextSwitchTo(shape->context);
	TupleDesc desc = RelationGetDescr(log);
	Relation index = index_open(rowlog_index(log), AccessShareLock);

	shape->log = RelationGetRelid(log);
	shape->index = RelationGetRelid(index);
	shape->index_info = BuildIndexInfo(index);
	index_close(index, AccessShareLock);
	shape->npairs = (desc->natts - LOG_FIXED_COLUMNS) / 2;
	shape->pairs = palloc0((shape->npairs + 1) * sizeof(LogPair));
	shape->last_attnum = 0;
	for (int i = 0; i < shape->npairs; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, LOG_OLD(i) - 1);
		LogPair *pair = &shape->pairs[i];

		pair->attnum = logged_column(RelationGetDescr(rel), column);
		pair->length = column->attlen;
		pair->by_value = column->attbyval;
		shape->last_attnum = Max(shape->last_attnum, pair->attnum);
	}
	shape->is_captured = fires_always(rel);
	MemoryContextSwitchTo(old);
}

/*
 * Nothing that shapes the log changes while the caller has a lock on the
 * relation and on the log.  So a shape that was invalidated while it was built
 * is right for now, but not to be kept.
 */
static void
shape_build(LogShape *shape, Relation rel)
{
	uint64 before = invalidations;
	Oid log;

	if (shape->context == NULL)
		shape->context =
			AllocSetContextCreate(CacheMemoryContext, "pgopt row log", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(shape->context);
	shape->log = InvalidOid;
	shape->npairs = 0;
	shape->pairs = NULL;
	shape->is_captured = false;
	shape->is_full = false;

	log = rowlog_find_log(shape->relid);
	if (OidIsValid(log))
	{
		Relation log_rel = try_relation_open(log, AccessShareLock);

		if (log_rel != NULL)
		{
			shape_fill(shape, rel, log_rel);
			relation_close(log_rel, AccessShareLock);
		}
	}
	shape->is_valid = before == invalidations;
}

LogShape *
shape_get(Relation rel)
{
	Oid relid = RelationGetRelid(rel);
	bool found;

	if (last_shape != NULL && last_shape->relid == relid && last_shape->is_valid)
		return last_shape;
	if (shapes == NULL)
	{
		HASHCTL control = {
			.keysize = sizeof(Oid), .entrysize = sizeof(LogShape), .hcxt = CacheMemoryContext};

		shapes = hash_create("pgopt row logs", 32, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	last_shape = hash_search(shapes, &relid, HASH_ENTER, &found);
	if (!found)
	{
		memset(last_shape, 0, sizeof(LogShape));
		last_shape->relid = relid;
	}
	if (!last_shape->is_valid)
		shape_build(last_shape, rel);
	return last_shape;
}

Relation
shape_open_log(Relation rel, LOCKMODE lockmode, LogShape **shape)
{
	for (;;)
	{
		Relation log;
		Oid logid;

		*shape = shape_get(rel);
		logid = (*shape)->log;
		if (!OidIsValid(logid))
			return NULL;
		log = try_relation_open(logid, lockmode);
		if (log == NULL)
			return NULL;
		if (!(*shape)->is_valid)
			*shape = shape_get(rel);
		if ((*shape)->log == logid)
			return log;
		relation_close(log, lockmode);
		CHECK_FOR_INTERRUPTS();
	}
}

int
shape_find_pair(const LogShape *shape, AttrNumber attnum)
{
	for (int i = 0; i < shape->npairs; i++)
	{
		if (shape->pairs[i].attnum == attnum)
			return i;
	}
	return -1;
}
