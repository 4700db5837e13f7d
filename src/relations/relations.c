/*
 * relations.c
 *		One pass over the catalogs and the cumulative statistics for all who
 *		look at many relations.
 *
 * pg_class, pg_index, pg_constraint and pg_inherits are read from end to end,
 * each once, under one snapshot; nothing is asked relation by relation, no
 * relation is opened and the caches of the session stay as they are.  Of the
 * statistics, the shared entries are read where they are: fetching them in the
 * usual way would leave a copy of each in the transaction and a reference to
 * each in the session.
 *
 * Memory: a context of its own under the caller's.  Locks: AccessShare on the
 * catalogs; for each relation a partition lock of the statistics' hash table
 * and then its entry's, shared, for the time of a copy, in the order that the
 * server takes them.
 */
#include "pgopt.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/reloptions.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "core.h"
#include "relations.h"

/* Where each relation is: tables 0 and up, indexes -1 and down, sequences from SEQUENCES up. */
typedef struct Position
{
	Oid oid;
	int at;
	char status;
} Position;

#define SEQUENCES         (1 << 30)

#define SH_PREFIX         positions
#define SH_ELEMENT_TYPE   Position
#define SH_KEY_TYPE       Oid
#define SH_KEY            oid
#define SH_HASH_KEY(t, k) murmurhash32(k)
#define SH_EQUAL(t, a, b) ((a) == (b))
#define SH_SCOPE          static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* Arrays that grow; their elements may be pointed to once all of them are there. */
typedef struct Capacity
{
	int tables;
	int indexes;
	int constraints;
	int sequences;
} Capacity;

#define FIRST_CAPACITY 512

/* Of pg_class, where it is full. */
#define ROWS_A_PAGE 38

/* Of a pg_class with more pages most are empty. */
#define MOST_PAGES 16384

/* Zeroed room for one more. */
#define ADD(array, count, capacity)                                                             \
	((count) == (capacity) ? (void) ((array) = enlarge((array), &(capacity), sizeof(*(array)))) \
						   : (void) 0,                                                          \
	 memset(&(array)[(count)], 0, sizeof(*(array))),                                            \
	 &(array)[(count)++])

/* Small pieces that live as long as the whole, without a header each. */
#define PIECES_SIZE (64 * 1024)

typedef struct Pieces
{
	char *next;
	Size left;
} Pieces;

static void *
enlarge(void *array, int *capacity, Size size)
{
	if (array == NULL)
	{
		*capacity = FIRST_CAPACITY;
		return palloc(*capacity * size);
	}
	*capacity *= 2;
	return repalloc_huge(array, *capacity * size);
}

static void *
piece(Pieces *pieces, Size size)
{
	void *result;

	size = MAXALIGN(size);
	if (size > pieces->left)
	{
		pieces->left = Max(PIECES_SIZE, size);
		pieces->next = palloc(pieces->left);
	}
	result = pieces->next;
	pieces->next += size;
	pieces->left -= size;
	return result;
}

static void *
piece_of(Pieces *pieces, const void *data, Size size)
{
	return memcpy(piece(pieces, size), data, size);
}

static void
note_position(Relations *relations, Oid oid, int at)
{
	bool found;

	positions_insert(relations->positions, oid, &found)->at = at;
}

RelationInfo *
relations_table(const Relations *relations, Oid oid)
{
	Position *position = positions_lookup(relations->positions, oid);

	return position != NULL && position->at >= 0 && position->at < SEQUENCES
			   ? &relations->tables[position->at]
			   : NULL;
}

RelationIndex *
relations_index(const Relations *relations, Oid oid)
{
	Position *position = positions_lookup(relations->positions, oid);

	return position != NULL && position->at < 0 ? &relations->indexes[-1 - position->at] : NULL;
}

RelationSequence *
relations_sequence(const Relations *relations, Oid oid)
{
	Position *position = positions_lookup(relations->positions, oid);

	return position != NULL && position->at >= SEQUENCES
			   ? &relations->sequences[position->at - SEQUENCES]
			   : NULL;
}

static RelationClass
class_of(Oid namespace, char persistence, Oid information_schema)
{
	if (persistence == RELPERSISTENCE_TEMP)
		return RELATION_TEMP;
	if (namespace == PG_TOAST_NAMESPACE)
		return RELATION_TOAST;
	if (namespace == PG_CATALOG_NAMESPACE || namespace == information_schema)
		return RELATION_CATALOG;
	return RELATION_USER;
}

/* What everybody may do with a relation. */
static AclMode
granted_to_public(HeapTuple tuple, TupleDesc desc)
{
	bool isnull;
	Datum datum = heap_getattr(tuple, Anum_pg_class_relacl, desc, &isnull);
	AclMode granted = ACL_NO_RIGHTS;
	Acl *acl;

	if (isnull)
		return ACL_NO_RIGHTS;
	acl = DatumGetAclP(datum);
	for (int i = 0; i < ACL_NUM(acl); i++)
		if (ACL_DAT(acl)[i].ai_grantee == ACL_ID_PUBLIC)
			granted |= ACLITEM_GET_PRIVS(ACL_DAT(acl)[i]);
	if ((Pointer) acl != DatumGetPointer(datum))
		pfree(acl);
	return granted;
}

static void
read_table(Relations *relations, Capacity *capacity, HeapTuple tuple, TupleDesc desc, Oid schema)
{
	Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);
	RelationInfo *table = ADD(relations->tables, relations->ntables, capacity->tables);

	table->oid = form->oid;
	table->namespace = form->relnamespace;
	table->owner = form->relowner;
	table->am = form->relam;
	table->class = class_of(form->relnamespace, form->relpersistence, schema);
	table->kind = form->relkind;
	table->persistence = form->relpersistence;
	table->replica_identity = form->relreplident;
	table->shared = form->relisshared;
	table->partition = form->relispartition;
	table->populated = form->relispopulated;
	table->has_triggers = form->relhastriggers;
	table->has_subclass = form->relhassubclass;
	table->row_security = form->relrowsecurity;
	table->to_public = granted_to_public(tuple, desc);
	table->pages = (uint32) Max(form->relpages, 0);
	table->all_visible = (uint32) Max(form->relallvisible, 0);
	table->all_frozen = (uint32) Max(compat_relallfrozen(form), 0);
	table->tuples = form->reltuples;
	table->frozenxid = form->relfrozenxid;
	table->minmxid = form->relminmxid;
	table->toast_oid = form->reltoastrelid;
	if (!heap_attisnull(tuple, Anum_pg_class_reloptions, desc))
		table->options = (StdRdOptions *) extractRelOptions(tuple, desc, NULL);
	if (form->relhastriggers)
		relations->ntriggered++;
	note_position(relations, form->oid, relations->ntables - 1);
}

static void
read_classes(Relations *relations, Capacity *capacity, Snapshot snapshot)
{
	Oid information_schema = get_namespace_oid("information_schema", true);
	Relation rel = table_open(RelationRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0, NULL);
	HeapTuple tuple;

	relations->positions = positions_create(
		CurrentMemoryContext, Min(RelationGetNumberOfBlocks(rel), MOST_PAGES) * ROWS_A_PAGE, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);

		CHECK_FOR_INTERRUPTS();
		switch (form->relkind)
		{
			case RELKIND_RELATION:
			case RELKIND_PARTITIONED_TABLE:
			case RELKIND_MATVIEW:
			case RELKIND_TOASTVALUE:
				read_table(relations, capacity, tuple, RelationGetDescr(rel), information_schema);
				break;
			case RELKIND_INDEX:
			case RELKIND_PARTITIONED_INDEX:
			{
				RelationIndex *index =
					ADD(relations->indexes, relations->nindexes, capacity->indexes);

				index->oid = form->oid;
				index->am = form->relam;
				index->partitioned = form->relkind == RELKIND_PARTITIONED_INDEX;
				index->partition = form->relispartition;
				index->pages = (uint32) Max(form->relpages, 0);
				index->bytes = (double) index->pages * BLCKSZ;
				index->tuples = form->reltuples;
				note_position(relations, form->oid, -relations->nindexes);
				break;
			}
			case RELKIND_SEQUENCE:
			{
				RelationSequence *sequence =
					ADD(relations->sequences, relations->nsequences, capacity->sequences);

				sequence->oid = form->oid;
				sequence->persistence = form->relpersistence;
				sequence->class =
					class_of(form->relnamespace, form->relpersistence, information_schema);
				note_position(relations, form->oid, SEQUENCES + relations->nsequences - 1);
				break;
			}
		}
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	for (int i = 0; i < relations->ntables; i++)
	{
		RelationInfo *table = &relations->tables[i];

		if (!OidIsValid(table->toast_oid))
			continue;
		table->toast = relations_table(relations, table->toast_oid);
		if (table->toast == NULL)
			continue;
		table->toast->main = table;
		if (table->toast->options == NULL)
			table->toast->options = table->options; /* as autovacuum does */
	}
}

static void
read_indexes(Relations *relations, Pieces *pieces, Snapshot snapshot)
{
	Relation rel = table_open(IndexRelationId, AccessShareLock);
	TupleDesc desc = RelationGetDescr(rel);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0, NULL);
	HeapTuple tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_index form = (Form_pg_index) GETSTRUCT(tuple);
		RelationIndex *index = relations_index(relations, form->indexrelid);
		bool isnull;

		CHECK_FOR_INTERRUPTS();
		if (index == NULL)
			continue;
		index->unique = form->indisunique;
		index->nulls_not_distinct = form->indnullsnotdistinct;
		index->primary = form->indisprimary;
		index->exclusion = form->indisexclusion;
		index->immediate = form->indimmediate;
		index->clustered = form->indisclustered;
		index->valid = form->indisvalid;
		index->ready = form->indisready;
		index->live = form->indislive;
		index->replica_identity = form->indisreplident;
		index->has_predicate = !heap_attisnull(tuple, Anum_pg_index_indpred, desc);
		index->has_expressions = !heap_attisnull(tuple, Anum_pg_index_indexprs, desc);
		index->natts = form->indnatts;
		index->nkeys = form->indnkeyatts;
		index->keys = piece_of(pieces, form->indkey.values, form->indnatts * sizeof(int16));
		/* these three have as many elements as there are keys */
		index->opclasses = piece_of(pieces,
									((oidvector *) DatumGetPointer(heap_getattr(
										 tuple, Anum_pg_index_indclass, desc, &isnull)))
										->values,
									form->indnkeyatts * sizeof(Oid));
		index->collations = piece_of(pieces,
									 ((oidvector *) DatumGetPointer(heap_getattr(
										  tuple, Anum_pg_index_indcollation, desc, &isnull)))
										 ->values,
									 form->indnkeyatts * sizeof(Oid));
		index->options = piece_of(pieces,
								  ((int2vector *) DatumGetPointer(
									   heap_getattr(tuple, Anum_pg_index_indoption, desc, &isnull)))
									  ->values,
								  form->indnkeyatts * sizeof(int16));
		index->table = relations_table(relations, form->indrelid);
		if (index->table != NULL)
		{
			index->next = index->table->indexes;
			index->table->indexes = index;
		}
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

static void
read_constraints(Relations *relations, Capacity *capacity, Pieces *pieces, Snapshot snapshot)
{
	Relation rel = table_open(ConstraintRelationId, AccessShareLock);
	TupleDesc desc = RelationGetDescr(rel);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0, NULL);
	HeapTuple tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tuple);
		RelationConstraint *constraint;
		bool isnull;
		Datum keys;

		CHECK_FOR_INTERRUPTS();
		if (form->convalidated && form->contype != CONSTRAINT_FOREIGN)
			continue;
		constraint = ADD(relations->constraints, relations->nconstraints, capacity->constraints);
		constraint->oid = form->oid;
		constraint->table = relations_table(relations, form->conrelid);
		constraint->referenced = relations_table(relations, form->confrelid);
		if (form->contype == CONSTRAINT_FOREIGN)
		{
			RelationIndex *index = relations_index(relations, form->conindid);

			if (index != NULL)
				index->referenced = true;
		}
		constraint->parent = form->conparentid;
		constraint->type = form->contypid;
		constraint->kind = form->contype;
		constraint->on_delete = form->confdeltype;
		constraint->on_update = form->confupdtype;
		constraint->valid = form->convalidated;
		constraint->enforced = compat_conenforced(form);
		constraint->inherited = form->coninhcount > 0 && !form->conislocal;

		keys = heap_getattr(tuple, Anum_pg_constraint_conkey, desc, &isnull);
		if (!isnull)
		{
			ArrayType *array = DatumGetArrayTypeP(keys);

			constraint->nkeys = (int16) ARR_DIMS(array)[0];
			constraint->keys =
				piece_of(pieces, ARR_DATA_PTR(array), constraint->nkeys * sizeof(int16));
			if ((Pointer) array != DatumGetPointer(keys))
				pfree(array);
		}
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	for (int i = 0; i < relations->nconstraints; i++)
	{
		RelationConstraint *constraint = &relations->constraints[i];

		if (constraint->table != NULL)
		{
			constraint->next = constraint->table->constraints;
			constraint->table->constraints = constraint;
		}
	}
}

/* Parents of partitions, and of their indexes. */
static void
read_inheritance(Relations *relations, Snapshot snapshot)
{
	Relation rel = table_open(InheritsRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0, NULL);
	HeapTuple tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_inherits form = (Form_pg_inherits) GETSTRUCT(tuple);
		RelationInfo *table = relations_table(relations, form->inhrelid);
		RelationIndex *index = table == NULL ? relations_index(relations, form->inhrelid) : NULL;

		CHECK_FOR_INTERRUPTS();
		if (table != NULL && table->partition)
			table->parent = relations_table(relations, form->inhparent);
		else if (index != NULL)
			index->parent = relations_index(relations, form->inhparent);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/* What belongs to extensions: one range of an index of pg_depend. */
static void
read_members(Relations *relations, Snapshot snapshot)
{
	Relation rel = table_open(DependRelationId, AccessShareLock);
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple tuple;

	ScanKeyInit(&key,
				Anum_pg_depend_refclassid,
				BTEqualStrategyNumber,
				F_OIDEQ,
				ObjectIdGetDatum(ExtensionRelationId));
	scan = systable_beginscan(rel, DependReferenceIndexId, true, snapshot, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);
		Position *position;

		CHECK_FOR_INTERRUPTS();
		if (form->deptype != DEPENDENCY_EXTENSION || form->classid != RelationRelationId)
			continue;
		position = positions_lookup(relations->positions, form->objid);
		if (position == NULL || position->at < 0)
			continue;
		if (position->at >= SEQUENCES)
			relations->sequences[position->at - SEQUENCES].extension = true;
		else
			relations->tables[position->at].extension = true;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/* The statistics of one relation, read where they are. */
static bool
read_stats(Oid oid, bool shared, PgStat_StatTabEntry *stats)
{
	PgStat_HashKey key;
	PgStatShared_HashEntry *entry;
	bool known = false;

	memset(&key, 0, sizeof(key));
	key.kind = PGSTAT_KIND_RELATION;
	key.dboid = shared ? InvalidOid : MyDatabaseId;
	compat_stats_key_object(key) = oid;

	entry = dshash_find(pgStatLocal.shared_hash, &key, false);
	if (entry == NULL)
		return false;
	if (!entry->dropped)
	{
		PgStatShared_Relation *body = dsa_get_address(pgStatLocal.dsa, entry->body);

		LWLockAcquire(&body->header.lock, LW_SHARED);
		*stats = body->stats;
		LWLockRelease(&body->header.lock);
		known = true;
	}
	dshash_release_lock(pgStatLocal.shared_hash, entry);
	return known;
}

static void
read_all_stats(Relations *relations)
{
	PgStat_StatTabEntry entry;

	for (int i = 0; i < relations->ntables; i++)
	{
		RelationInfo *table = &relations->tables[i];
		RelationStats *stats = &table->stats;

		CHECK_FOR_INTERRUPTS();
		stats->known = read_stats(table->oid, table->shared, &entry);
		if (!stats->known)
			continue;
		stats->scans = entry.numscans;
		stats->read = entry.tuples_returned;
		stats->inserted = entry.tuples_inserted;
		stats->updated = entry.tuples_updated;
		stats->deleted = entry.tuples_deleted;
		stats->hot_updated = entry.tuples_hot_updated;
		stats->live = compat_tabentry_live(&entry);
		stats->dead = compat_tabentry_dead(&entry);
		stats->modified = compat_tabentry_modified(&entry);
		stats->added = compat_tabentry_added(&entry);
		stats->vacuumed =
			Max(compat_tabentry_vacuumed(&entry), compat_tabentry_autovacuumed(&entry));
		stats->analyzed =
			Max(compat_tabentry_analyzed(&entry), compat_tabentry_autoanalyzed(&entry));
	}
	for (int i = 0; i < relations->nindexes; i++)
	{
		RelationIndex *index = &relations->indexes[i];

		CHECK_FOR_INTERRUPTS();
		if (index->table == NULL || index->partitioned)
			continue;
		index->stats_known = read_stats(index->oid, index->table->shared, &entry);
		if (index->stats_known)
		{
			index->scans = entry.numscans;
			index->table->index_scans += entry.numscans;
		}
	}
}

/* Rows, bytes and scans of indexes: those of partitions added to all of their ancestors. */
static void
add_up(Relations *relations)
{
	for (int i = 0; i < relations->ntables; i++)
	{
		RelationInfo *table = &relations->tables[i];
		double rows;

		if (table->kind == RELKIND_PARTITIONED_TABLE)
			continue;
		rows = Max(Max(table->tuples, (double) table->stats.live), 0);
		table->rows = rows;
		table->bytes = (double) table->pages * BLCKSZ;
		for (RelationInfo *p = table->parent; p != NULL; p = p->parent)
		{
			p->rows += rows;
			p->bytes += table->bytes;
		}
	}
	for (int i = 0; i < relations->nindexes; i++)
	{
		RelationIndex *index = &relations->indexes[i];

		if (index->partitioned)
			continue;
		for (RelationIndex *p = index->parent; p != NULL; p = p->parent)
		{
			p->bytes += index->bytes;
			p->scans += index->scans;
		}
	}
}

Relations *
relations_read(MemoryContext parent)
{
	MemoryContext old = MemoryContextSwitchTo(
		AllocSetContextCreate(parent, "pgopt relations", ALLOCSET_DEFAULT_SIZES));
	Relations *relations = palloc0(sizeof(Relations));
	Capacity capacity = {0};
	Pieces pieces = {0};
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());

	read_classes(relations, &capacity, snapshot);
	read_indexes(relations, &pieces, snapshot);
	read_constraints(relations, &capacity, &pieces, snapshot);
	read_inheritance(relations, snapshot);
	read_members(relations, snapshot);
	UnregisterSnapshot(snapshot);
	read_all_stats(relations);
	add_up(relations);
	MemoryContextSwitchTo(old);
	return relations;
}

char *
relation_name(Oid oid)
{
	char *name = get_rel_name(oid);
	char *schema = name != NULL ? get_namespace_name_or_temp(get_rel_namespace(oid)) : NULL;

	return schema != NULL ? quote_qualified_identifier(schema, name) : NULL;
}

char *
relation_column(Oid oid, int16 attnum)
{
	char *name = get_attname(oid, attnum, true);

	return name != NULL ? pstrdup(quote_identifier(name)) : NULL;
}

bool
relation_may_read(Oid oid)
{
	bool missing = false;

	return pg_class_aclcheck_ext(oid, GetUserId(), ACL_SELECT, &missing) == ACLCHECK_OK && !missing;
}

RelationInfo *
relation_root(RelationInfo *table)
{
	while (table->parent != NULL)
		table = table->parent;
	return table;
}

bool
relation_is_maintained(const RelationInfo *table)
{
	LOCKTAG tag;
	int count = 0;

	SET_LOCKTAG_RELATION(tag, table->shared ? InvalidOid : MyDatabaseId, table->oid);
	(void) GetLockConflicts(&tag, ShareUpdateExclusiveLock, &count);
	return count > 0;
}

char *
bytes_text(double bytes)
{
	return TextDatumGetCString(
		DirectFunctionCall1(pg_size_pretty, Int64GetDatum((int64) Max(bytes, 0))));
}

/*
 * The later of when the database's were reset and when the server's began,
 * which is after its last crash; since one of the server's may have been reset
 * by itself, the earliest of them.
 */
TimestampTz
relations_statistics_since(bool *reset)
{
	TimestampTz server;
	TimestampTz database;
	bool unknown;
	bool never;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	(void) pgopt_spi_execute(
		"SELECT least((SELECT stats_reset FROM pg_stat_bgwriter),"
		"             (SELECT stats_reset FROM pg_stat_archiver),"
		"             (SELECT stats_reset FROM pg_stat_wal)),"
		" (SELECT stats_reset FROM pg_stat_database WHERE datname = current_database())",
		0,
		NULL,
		NULL,
		NULL,
		true,
		SPI_OK_SELECT);
	server = DatumGetTimestampTz(pgopt_spi_value(0, 1, &unknown));
	database = DatumGetTimestampTz(pgopt_spi_value(0, 2, &never));
	SPI_finish();
	if (unknown)
		server = 0;
	*reset = !never && database > server;
	return *reset ? database : server;
}

/* --- parts of indexes that are seldom needed ------------------------------- */

static char *
index_tree(Oid oid, int attribute)
{
	HeapTuple tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(oid));
	char *result = NULL;
	bool isnull;
	Datum tree;

	if (!HeapTupleIsValid(tuple))
		return NULL;
	tree = SysCacheGetAttr(INDEXRELID, tuple, attribute, &isnull);
	if (!isnull)
		result = TextDatumGetCString(tree);
	ReleaseSysCache(tuple);
	return result;
}

char *
index_expressions(Oid oid)
{
	return index_tree(oid, Anum_pg_index_indexprs);
}

char *
index_predicate(Oid oid)
{
	return index_tree(oid, Anum_pg_index_indpred);
}
