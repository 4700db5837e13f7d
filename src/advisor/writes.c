/*
 * writes.c
 *		What an index costs those who write.
 *
 * How many entries.  An INSERT makes one for each row that the predicate lets
 * in.  An UPDATE that is not HOT makes one; one that is HOT makes none, and stays
 * so only if it sets no column of the index (summarizing indexes do not matter
 * from version 16 on).  How many are HOT today is the share that the table's
 * statistics count, all of it among those statements that set no indexed column.
 * An update that is HOT no longer also makes an entry in every other index of the
 * table, which is charged to the one that caused it.  A DELETE makes none, but
 * vacuum visits the leaf again.
 *
 * Beyond the statements there are COPY, foreign keys and what was not captured:
 * the table's own statistics count those, at the rate since it was last analyzed
 * (the only moment known with a counter that started then), over the time since
 * capture began.
 *
 * What an entry costs, in the planner's units, that is, one page read in order:
 *
 *   descent   50 * cpu_operator_cost a level and a comparison for each halving,
 *             as the planner charges a search of a btree
 *   read      random_page_cost for a leaf that is not cached: an index may fill
 *             as much of effective_cache_size as its share of the table and
 *             itself; ascending keys stay on the last leaf, which is
 *   write     the leaf is dirty, and goes out with a checkpoint, after a full
 *             page of WAL.  Ascending keys fill it before; others dirty one
 *             each, less often so where there are few
 *   WAL       the entry's bytes and the record's head, in pages
 *
 * Other access methods by what they do more: GIN inserts every key of a value,
 * at half the price because pending entries are merged in bulk; GiST computes
 * penalties on the way down; BRIN changes its summary only now and then.
 *
 * Cost: some catalog look-ups, and a walk over the statements.
 */
#include "pgopt.h"

#include <math.h>

#include "access/amapi.h"
#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/partition.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_statistic.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "pgstat.h"
#include "utils/lsyscache.h"
#include "utils/relcache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "candidates_private.h"
#include "compat.h"
#include "workload.h"
#include "writes.h"

#define RECORD_BYTES      50   /* head of a WAL record and of a tuple */
#define DIRTY_PAGES       1000 /* an index smaller than this has its leaves dirty already */
#define ASCENDING         0.95 /* correlation */
#define VACUUM_SHARE      0.3  /* of an entry's cost, to remove it again */
#define UNKNOWN_HOT       0.5
#define RATE_SECONDS      60
#define DEFAULT_TREE      2
#define DEFAULT_KEYS      10 /* of a value, in GIN, where nothing is known */
#define GIN_KEY_SHARE     0.5
#define GIST_TIMES        2.0
#define BRIN_SHARE        0.05
#define WEIGHT_OF_A_LEVEL 50.0

/* --- the index ---------------------------------------------------------------------------- */

static Bitmapset *
index_columns(const HypotheticalIndex *index)
{
	Bitmapset *columns = NULL;

	for (int i = 0; i < index->ncolumns; i++)
	{
		if (index->columns[i].attnum != 0)
			columns = bms_add_member(columns,
									 index->columns[i].attnum - FirstLowInvalidHeapAttributeNumber);
		else
			pull_varattnos(index->columns[i].expression, 1, &columns);
	}
	pull_varattnos((Node *) index->predicate, 1, &columns);
	return columns;
}

static void
table_size(Oid table, double *pages, double *tuples)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));

	*pages = *tuples = 1;
	if (!HeapTupleIsValid(tuple))
		return;
	*pages = Max(((Form_pg_class) GETSTRUCT(tuple))->relpages, 1);
	*tuples = Max(((Form_pg_class) GETSTRUCT(tuple))->reltuples, 1);
	ReleaseSysCache(tuple);
}

/* Share of the table's rows that have an entry. */
static double
index_share(const HypotheticalIndex *index)
{
	double pages;
	double tuples;

	if (index->predicate == NIL || !index->measured)
		return 1;
	table_size(index->table, &pages, &tuples);
	return Min(index->rows / tuples, 1);
}

static double
key_width(const HypotheticalIndex *index, int i)
{
	const HypotheticalColumn *column = &index->columns[i];

	if (column->attnum != 0)
		return column_width(index->table, column->attnum);
	return get_typavgwidth(column->type, column->typmod);
}

/* Elements that a value has; they end the histogram of their number. */
static double
mean_elements(Oid table, AttrNumber attnum)
{
	HeapTuple tuple = attnum != 0 ? column_statistics(table, attnum) : NULL;
	AttStatsSlot slot;
	double elements = DEFAULT_KEYS;

	if (!HeapTupleIsValid(tuple))
		return elements;
	if (get_attstatsslot(&slot, tuple, STATISTIC_KIND_DECHIST, InvalidOid, ATTSTATSSLOT_NUMBERS))
	{
		if (slot.nnumbers > 0)
			elements = slot.numbers[slot.nnumbers - 1];
		free_attstatsslot(&slot);
	}
	ReleaseSysCache(tuple);
	return Max(elements, 1);
}

/* Entries that a value makes in an inverted index: elements of an array; letters of a text, three at a time; or a guess. */
static double
keys_of_value(const HypotheticalIndex *index)
{
	const HypotheticalColumn *column = &index->columns[0];
	double width = key_width(index, 0);

	switch (column->type)
	{
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			return Max(width, 1);
		case TSVECTOROID:
		case JSONBOID:
			return Max(width / 10, 1);
		default:
			return mean_elements(index->table, column->attnum);
	}
}

static double
btree_entry_cost(const HypotheticalIndex *index)
{
	double table_pages;
	double tuples;
	double rows;
	double pages;
	double width = 0;
	double levels = index->tree_height > 0 ? index->tree_height : DEFAULT_TREE;
	double cost;
	bool ascending;

	table_size(index->table, &table_pages, &tuples);
	for (int i = 0; i < index->ncolumns; i++)
		width += key_width(index, i);
	rows = index->measured ? Max(index->rows, 1) : tuples;
	pages = index->measured ? Max(index->pages, 1) : rows * (width + 12) / (BLCKSZ * 0.9);
	ascending = column_correlation(index->table, index->columns[0].attnum) > ASCENDING;

	cost = (levels + 1) * WEIGHT_OF_A_LEVEL * cpu_operator_cost +
		   log2(rows + 1) * cpu_operator_cost + cpu_index_tuple_cost;
	if (ascending)
		cost += 2 * seq_page_cost * (width + 12) / BLCKSZ;
	else
	{
		double cache = effective_cache_size * pages / (pages + table_pages);

		cost += random_page_cost * (1 - Min(cache / pages, 1));
		cost += 2 * seq_page_cost * Min(pages / DIRTY_PAGES, 1) * 0.5;
	}
	return cost + seq_page_cost * (width + RECORD_BYTES) / BLCKSZ;
}

double
hypothetical_insert_cost(const HypotheticalIndex *index)
{
	double entry = btree_entry_cost(index);

	switch (index->am)
	{
		case GIN_AM_OID:
			return entry * keys_of_value(index) * GIN_KEY_SHARE;
		case GIST_AM_OID:
		case SPGIST_AM_OID:
			return entry * GIST_TIMES;
		case BRIN_AM_OID:
			return entry * BRIN_SHARE;
		default:
			return entry;
	}
}

/* --- the table ------------------------------------------------------------------------------ */

typedef struct TableWrites
{
	double hot;         /* share of updates */
	double others;      /* indexes that are there */
	Bitmapset *indexed; /* columns whose update cannot be HOT, offset */
	double inserted;    /* rows a second, since it was analyzed; 0 where that is not known */
	double updated;
	double deleted;
} TableWrites;

static void
read_table_writes(Oid table, TableWrites *writes)
{
	PgStat_StatTabEntry *entry = pgstat_fetch_stat_tabentry(table);
	Relation rel = try_table_open(table, AccessShareLock);

	memset(writes, 0, sizeof(TableWrites));
	writes->hot = UNKNOWN_HOT;
	if (rel != NULL)
	{
		writes->indexed = RelationGetIndexAttrBitmap(rel, COMPAT_HOT_BLOCKING_COLUMNS);
		writes->others = list_length(RelationGetIndexList(rel));
		table_close(rel, NoLock);
	}
	if (entry != NULL)
	{
		TimestampTz analyzed =
			Max(compat_tabentry_analyzed(entry), compat_tabentry_autoanalyzed(entry));
		double inserted = entry->tuples_inserted;
		double updated = entry->tuples_updated;
		double deleted = entry->tuples_deleted;
		double all = inserted + updated + deleted;

		if (updated > 0)
			writes->hot = Min(entry->tuples_hot_updated / updated, 1);
		if (analyzed != 0 && all > 0)
		{
			double seconds = (GetCurrentTimestamp() - analyzed) / (double) USECS_PER_SEC;
			double rate = compat_tabentry_modified(entry) / Max(seconds, 1);

			if (seconds >= RATE_SECONDS)
			{
				writes->inserted = rate * inserted / all;
				writes->updated = rate * updated / all;
				writes->deleted = rate * deleted / all;
			}
		}
	}
}

/* --- all of it --------------------------------------------------------------------------------- */

/* How many rows of the statement's go into the index's table: all, or none; or a partition's part of its parent's. */
static double
rows_written(const AdvisorStatement *statement, Oid table)
{
	double rows = statement->milliseconds > 0 ? statement->rows : statement->calls;
	double pages;
	double part;
	double whole;

	if (statement->target == table)
		return rows;
	if (!OidIsValid(statement->target))
		return 0;
	if (get_rel_relispartition(statement->target) &&
		list_member_oid(get_partition_ancestors(statement->target), table))
		return rows;
	if (get_rel_relispartition(table) &&
		list_member_oid(get_partition_ancestors(table), statement->target))
	{
		table_size(table, &pages, &part);
		table_size(statement->target, &pages, &whole);
		return rows * Min(part / Max(whole, part), 1);
	}
	return 0;
}

void
writes_price(const HypotheticalIndex *index, List *statements, WriteCost *cost)
{
	TableWrites table;
	Bitmapset *columns = index_columns(index);
	double share = index_share(index);
	double entry = hypothetical_insert_cost(index);
	double inserted = 0;
	double updated = 0;
	double deleted = 0;
	double changed = 0;         /* updated, and not HOT with this index */
	double updates_hotable = 0; /* by statements that set no indexed column */
	double hot;
	bool summarizing = compat_am_is_summarizing(index->am);
	bool measured = false;
	ListCell *cell;

	memset(cost, 0, sizeof(WriteCost));
	read_table_writes(index->table, &table);
	foreach(cell, statements)
	{
		const AdvisorStatement *statement = lfirst(cell);
		double rows;

		measured |= statement->milliseconds > 0;
		if (statement->command == CMD_SELECT)
			continue;
		rows = rows_written(statement, index->table);
		if (statement->command == CMD_INSERT)
			inserted += rows;
		else if (statement->command == CMD_DELETE)
			deleted += rows;
		else
		{
			updated += rows;
			if (!bms_overlap(statement->updated, table.indexed))
				updates_hotable += rows;
		}
	}

	/* those that are HOT are all among those that can be */
	hot = updates_hotable > 0 ? Min(table.hot * updated / updates_hotable, 1) : 0;
	foreach(cell, statements)
	{
		const AdvisorStatement *statement = lfirst(cell);
		double rows;
		double still_hot;

		if (statement->command != CMD_UPDATE && statement->command != CMD_MERGE)
			continue;
		rows = rows_written(statement, index->table);
		still_hot = bms_overlap(statement->updated, table.indexed) ? 0 : rows * hot;
		if (!summarizing && bms_overlap(statement->updated, columns))
		{
			cost->hot_lost += still_hot;
			still_hot = 0;
		}
		changed += rows - still_hot;
	}

	/* what the statements do not account for */
	if (measured && workload_since() != 0)
	{
		double seconds =
			Max((GetCurrentTimestamp() - workload_since()) / (double) USECS_PER_SEC, 0);

		inserted = Max(inserted, table.inserted * seconds);
		changed += Max(table.updated * seconds - updated, 0) * (1 - table.hot);
		deleted = Max(deleted, table.deleted * seconds);
	}
	cost->entries = (inserted + changed) * share;
	cost->cost = entry * (cost->entries + (changed + deleted) * share * VACUUM_SHARE +
						  cost->hot_lost * table.others * (1 + VACUUM_SHARE));
	bms_free(columns);
}
