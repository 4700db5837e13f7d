/*
 * keys.c
 *		Sequences and integer keys that run out of numbers.
 *
 * A sequence is one page with one row, which is read as such: asking it in the
 * usual way opens the relation and leaves it in the session's caches, which
 * for tens of thousands of them takes seconds and 100 MB.  Keys that no
 * sequence fills are looked up at the end of their index.
 *
 * The values are shown to those who may read the relation; everybody sees what
 * percentage of the numbers has gone.
 *
 * Locks: RowExclusive on the sequence, AccessShare on the index that is read, if
 * it is to be had at once, until it is read.
 */
#include "pgopt.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_sequence.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "compat.h"
#include "health.h"
#include "monitor.h"
#include "relations.h"
#include "suspects.h"

/* With more of them, those that only end with bigint are not read: they do not end. */
#define FEW_SEQUENCES 5000

/* Tables of fewer rows, and with fewer inserts, are not looked at; of the others so many, the largest. */
#define KEY_ROWS  10000
#define MOST_KEYS 200

Threshold keys_warning = {
	.name = "keys_used_warning",
	.unit = UNIT_PERCENT,
	.boot_value = 85,
	.description =
		"Percentage of the numbers of a sequence or an integer key that are used up that is a "
		"warning.",
};

Threshold keys_critical = {
	.name = "keys_used_critical",
	.unit = UNIT_PERCENT,
	.boot_value = 95,
	.description =
		"Percentage of the numbers of a sequence or an integer key that are used up that is "
		"critical.",
};

/* The range of an integer type; false for any other. */
static bool
type_range(Oid type, int64 *least, int64 *most)
{
	switch (type)
	{
		case INT2OID:
			*least = PG_INT16_MIN;
			*most = PG_INT16_MAX;
			return true;
		case INT4OID:
			*least = PG_INT32_MIN;
			*most = PG_INT32_MAX;
			return true;
		case INT8OID:
			*least = PG_INT64_MIN;
			*most = PG_INT64_MAX;
			return true;
		default:
			return false;
	}
}

static const char *
type_text(Oid type)
{
	return type == INT2OID ? "smallint" : type == INT4OID ? "integer" : "bigint";
}

static bool
add_severity(double percent, Severity *severity)
{
	if (percent < Min(threshold_value(&keys_warning), threshold_value(&keys_critical)))
		return false;
	*severity = percent >= threshold_value(&keys_critical) ? SEVERITY_CRITICAL : SEVERITY_WARNING;
	return true;
}

/* --- sequences ----------------------------------------------------------------- */

typedef struct UsedSequence
{
	Oid oid;
	int64 value;
	int64 limit;
	int64 increment;
	double percent;
	Oid type;  /* of the sequence */
	Oid table; /* that owns it, or 0 */
	int16 column;
	Oid column_type; /* 0 where the column is not what ends first */
} UsedSequence;

/*
 * The last value of a sequence; false where it cannot be had just now.  Its
 * entry of classes (pg_class) is looked up past the cache, which would keep it.
 */
static bool
read_sequence(Relation classes, Oid oid, BufferAccessStrategy strategy, int64 *value)
{
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple tuple;
	bool called;
	bool found;

	/* a lesser lock would let ALTER SEQUENCE and TRUNCATE replace the file meanwhile */
	if (!ConditionalLockRelationOid(oid, RowExclusiveLock))
		return false;
	ScanKeyInit(&key, Anum_pg_class_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(oid));
	scan = systable_beginscan(classes, ClassOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	found = HeapTupleIsValid(tuple) &&
			sequence_read((Form_pg_class) GETSTRUCT(tuple), strategy, value, &called);
	systable_endscan(scan);
	UnlockRelationOid(oid, RowExclusiveLock);
	return found;
}

static double
percent_of(int64 value, int64 start, int64 limit)
{
	return (double) limit == (double) start
			   ? 100
			   : 100.0 * ((double) value - start) / ((double) limit - start);
}

static bool
describe_sequence(HealthRun *run, const Suspect *suspect, Finding *finding)
{
	const UsedSequence *used = suspect->what;
	char *name = relation_name(used->oid);
	char *table = OidIsValid(used->table) ? relation_name(used->table) : NULL;
	char *column = table != NULL ? relation_column(used->table, used->column) : NULL;
	char *values;

	if (name == NULL)
		return false;
	finding->object = name;
	if (OidIsValid(used->column_type) && column != NULL)
		finding->message = psprintf("the sequence %s has used %.1f %% of the numbers that its "
									"column %s of %s, %s, can hold",
									name,
									used->percent,
									column,
									table,
									type_text(used->column_type));
	else
		finding->message =
			psprintf("the sequence %s has used %.1f %% of its numbers", name, used->percent);
	values = relation_may_read(used->oid)
				 ? psprintf("\"last_value\": " INT64_FORMAT ", ", used->value)
				 : "";
	finding->evidence =
		psprintf("{%s\"percent\": %.2f, \"limit\": " INT64_FORMAT ", \"increment\": " INT64_FORMAT
				 ", \"type\": \"%s\", \"table\": %s, \"column\": %s}",
				 values,
				 used->percent,
				 used->limit,
				 used->increment,
				 type_text(used->type),
				 table != NULL ? health_json_string(table) : "null",
				 column != NULL ? health_json_string(column) : "null");

	/* a column that ends later or never needs no change */
	if (used->type == INT8OID && !OidIsValid(used->column_type) &&
		(used->limit == PG_INT64_MAX || used->limit == PG_INT64_MIN))
		return true;
	finding->remedy = psprintf(
		"ALTER SEQUENCE %s AS bigint NO %s;", name, used->increment > 0 ? "MAXVALUE" : "MINVALUE");
	finding->remedy_lock = "SHARE ROW EXCLUSIVE on the sequence";
	if (column != NULL && get_atttype(used->table, used->column) != INT8OID)
	{
		finding->remedy = psprintf(
			"ALTER TABLE %s ALTER COLUMN %s TYPE bigint; %s -- rewrites the table; columns "
			"that refer to it need the same",
			table,
			column,
			finding->remedy);
		finding->remedy_lock = LOCK_ALL;
	}
	return true;
}

/* Does the column that owns it end before it does? */
static void
apply_column(UsedSequence *used, int64 start)
{
	int32 column;
	int64 least;
	int64 most;
	Oid type;

	if (!sequenceIsOwned(used->oid, DEPENDENCY_AUTO, &used->table, &column) &&
		!sequenceIsOwned(used->oid, DEPENDENCY_INTERNAL, &used->table, &column))
		return;
	used->column = (int16) column;
	type = get_atttype(used->table, used->column);
	if (!type_range(type, &least, &most))
		return;
	if (used->increment > 0 ? most < used->limit : least > used->limit)
	{
		used->limit = used->increment > 0 ? most : least;
		used->percent = percent_of(used->value, start, used->limit);
		used->column_type = type;
	}
}

void
keys_check_sequences(HealthRun *run)
{
	Relations *relations = health_relations(run);
	BufferAccessStrategy strategy = GetAccessStrategy(BAS_BULKREAD);
	Suspects suspects = {0};
	Relation classes = table_open(RelationRelationId, AccessShareLock);
	Relation rel = table_open(SequenceRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	bool few = relations->nsequences <= FEW_SEQUENCES;
	HeapTuple tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_sequence form = (Form_pg_sequence) GETSTRUCT(tuple);
		const RelationSequence *sequence = relations_sequence(relations, form->seqrelid);
		bool up = form->seqincrement > 0;
		int64 start = up ? form->seqmin : form->seqmax;
		UsedSequence used = {
			.oid = form->seqrelid,
			.limit = up ? form->seqmax : form->seqmin,
			.increment = form->seqincrement,
			.type = form->seqtypid,
		};
		Severity severity;

		CHECK_FOR_INTERRUPTS();
		if (sequence == NULL || sequence->class != RELATION_USER || sequence->extension ||
			form->seqcycle)
			continue;
		if (!few && (used.limit == PG_INT64_MAX || used.limit == PG_INT64_MIN))
			continue;
		/* on a standby these have nothing to read */
		if (sequence->persistence == RELPERSISTENCE_UNLOGGED && RecoveryInProgress())
			continue;
		if (!read_sequence(classes, sequence->oid, strategy, &used.value))
			continue;
		used.percent = percent_of(used.value, start, used.limit);
		/* only of those that are far enough for the smallest column it matters whose they are */
		if (used.value > PG_INT16_MAX / 4 || used.value < PG_INT16_MIN / 4 ||
			used.percent >= threshold_value(&keys_warning))
			apply_column(&used, start);
		if (add_severity(used.percent, &severity))
			suspects_add(&suspects,
						 severity,
						 used.percent,
						 memcpy(palloc(sizeof(used)), &used, sizeof(used)),
						 NULL);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	table_close(classes, AccessShareLock);
	FreeAccessStrategy(strategy);
	suspects_report(run, &suspects, describe_sequence, "sequences run out of numbers");
}

/* --- integer keys that no sequence fills ------------------------------------------- */

typedef struct UsedKey
{
	const RelationIndex *index;
	RelationInfo *table; /* the partitioned one */
	int64 value;
	Oid type;
	double percent;
} UsedKey;

static bool
is_filled_by_sequence(RelationInfo *table, int16 column)
{
	ListCell *cell;

	foreach(cell, getOwnedSequences(table->oid))
	{
		Oid owner;
		int32 owned;

		if ((sequenceIsOwned(lfirst_oid(cell), DEPENDENCY_AUTO, &owner, &owned) ||
			 sequenceIsOwned(lfirst_oid(cell), DEPENDENCY_INTERNAL, &owner, &owned)) &&
			owned == column)
			return true;
	}
	return false;
}

/*
 * The largest key.  Where a few of the largest are far above all others they
 * are something else than the next number; those below them count.
 */
static bool
largest_key(const RelationIndex *info, int64 most, int64 *value)
{
	bool descending = (info->options[0] & INDOPTION_DESC) != 0;
	Relation index;
	Buffer buffer = InvalidBuffer;
	int64 keys[4];
	int nkeys = 0;

	if (!ConditionalLockRelationOid(info->oid, AccessShareLock))
		return false;
	index = try_relation_open(info->oid, NoLock);
	if (index != NULL && index->rd_rel->relkind == RELKIND_INDEX && index->rd_index->indisvalid)
		buffer = compat_bt_get_endpoint(index, 0, !descending);
	if (BufferIsValid(buffer))
	{
		Page page = BufferGetPage(buffer);
		BTPageOpaque opaque = BTPageGetOpaque(page);
		OffsetNumber first = P_FIRSTDATAKEY(opaque);
		OffsetNumber last = PageGetMaxOffsetNumber(page);

		for (int i = 0; i <= (int) last - (int) first && nkeys < lengthof(keys); i++)
		{
			OffsetNumber at = descending ? first + i : last - i;
			IndexTuple entry = (IndexTuple) PageGetItem(page, PageGetItemId(page, at));
			bool isnull;
			Datum key = index_getattr(entry, 1, RelationGetDescr(index), &isnull);

			if (!isnull)
				keys[nkeys++] =
					most == PG_INT16_MAX ? DatumGetInt16(key) : (int64) DatumGetInt32(key);
		}
		_bt_relbuf(index, buffer);
	}
	if (index != NULL)
		relation_close(index, NoLock);
	UnlockRelationOid(info->oid, AccessShareLock);

	for (int i = 0; i < nkeys; i++)
		if (i == nkeys - 1 || keys[i] - keys[i + 1] <= most / 10)
		{
			*value = keys[i];
			return true;
		}
	return false;
}

static bool
describe_key(HealthRun *run, const Suspect *suspect, Finding *finding)
{
	const UsedKey *used = suspect->what;
	char *table = relation_name(used->table->oid);
	char *column = relation_column(used->index->table->oid, used->index->keys[0]);

	if (table == NULL || column == NULL)
		return false;
	finding->object = psprintf("%s of %s", column, table);
	finding->message = psprintf("the keys in %s of %s have reached %.1f %% of what %s can hold",
								column,
								table,
								used->percent,
								type_text(used->type));
	finding->evidence = psprintf("{%s\"percent\": %.2f, \"type\": \"%s\", \"rows\": %.0f}",
								 relation_may_read(used->index->table->oid)
									 ? psprintf("\"largest\": " INT64_FORMAT ", ", used->value)
									 : "",
								 used->percent,
								 type_text(used->type),
								 used->table->rows);
	finding->remedy =
		psprintf("ALTER TABLE %s ALTER COLUMN %s TYPE bigint; -- rewrites the table; columns that "
				 "refer to it need the same",
				 table,
				 column);
	finding->remedy_lock = LOCK_ALL;
	return true;
}

void
keys_check_integers(HealthRun *run)
{
	Relations *relations = health_relations(run);
	Suspects largest = {0};
	Suspects suspects = {0};
	UsedKey **told = NULL;

	for (int i = 0; i < relations->nindexes; i++)
	{
		RelationIndex *index = &relations->indexes[i];

		if (!index->primary || index->partitioned || index->nkeys != 1 || index->table == NULL ||
			index->am != BTREE_AM_OID || !index->valid || index->keys[0] <= 0 ||
			(index->opclasses[0] != INT4_BTREE_OPS_OID &&
			 index->opclasses[0] != INT2_BTREE_OPS_OID) ||
			!relation_is_users(index->table) || index->table->kind != RELKIND_RELATION)
			continue;
		if (index->table->rows >= KEY_ROWS || index->table->stats.inserted >= KEY_ROWS)
			suspects_add(&largest,
						 SEVERITY_INFO,
						 Max(index->table->rows, (double) index->table->stats.inserted),
						 index,
						 NULL);
	}
	suspects_sort(&largest);

	for (int i = 0; i < Min(largest.count, MOST_KEYS); i++)
	{
		const RelationIndex *index = largest.all[i].what;
		RelationInfo *root = relation_root(index->table);
		UsedKey *used = palloc0(sizeof(UsedKey));
		char *column;
		int64 least;
		int64 most;
		Severity severity;

		CHECK_FOR_INTERRUPTS();
		used->index = index;
		used->table = root;
		used->type = index->opclasses[0] == INT2_BTREE_OPS_OID ? INT2OID : INT4OID;
		(void) type_range(used->type, &least, &most);
		if (!largest_key(index, most, &used->value))
			continue;
		used->percent = 100.0 * used->value / most;
		if (!add_severity(used->percent, &severity))
			continue;

		/* numbers of columns may differ between a partition and its parent */
		column = get_attname(index->table->oid, index->keys[0], true);
		if (column == NULL || is_filled_by_sequence(root, get_attnum(root->oid, column)) ||
			is_filled_by_sequence(index->table, index->keys[0]))
			continue;
		if (root != index->table)
		{
			/* the worst of its partitions */
			if (told == NULL)
				told = palloc0(relations->ntables * sizeof(UsedKey *));
			if (told[root - relations->tables] != NULL)
			{
				if (told[root - relations->tables]->percent < used->percent)
					*told[root - relations->tables] = *used;
				continue;
			}
			told[root - relations->tables] = used;
		}
		suspects_add(&suspects, severity, used->percent, used, NULL);
	}
	for (int i = 0; i < suspects.count; i++)
	{
		suspects.all[i].badness = ((const UsedKey *) suspects.all[i].what)->percent;
		(void) add_severity(suspects.all[i].badness, &suspects.all[i].severity);
	}
	suspects_report(run, &suspects, describe_key, "integer keys run out of numbers");
}
