/*
 * row_table.h
 *		Rows in memory, found by their content.
 *
 * Two rows are equal if their columns have the same bytes, however they are
 * stored: that is stricter than the equality of some types (1.0 and 1.00, text
 * under some collations), and is what makes an incremental refresh give exactly
 * what a full one gives.
 *
 * Memory: a table has a context of its own below the caller's.  What would not
 * fit is taken in several passes, each over the rows of one part.
 */
#ifndef PGOPT_ROW_TABLE_H
#define PGOPT_ROW_TABLE_H

#include "pgopt.h"

#include "access/attnum.h"
#include "access/tupdesc.h"
#include "executor/tuptable.h"
#include "storage/itemptr.h"
#include "utils/relcache.h"
#include "utils/tuplestore.h"

/* The columns of a unique index by which a row of a view can be found. */
typedef struct RowKey
{
	Oid index; /* InvalidOid: there is none */
	int natts;
	AttrNumber attnums[INDEX_MAX_KEYS];
} RowKey;

/* Something to remember of one of the equal rows. */
typedef struct RowTag
{
	struct RowTag *next;
	ItemPointer tell;
} RowTag;

typedef struct RowEntry
{
	struct RowEntry *next; /* with the same hash */
	MinimalTuple tuple;
	int64 count; /* the user's: added up over equal rows */
	RowTag *tags;
	uint64 full_hash; /* 0: not known yet */
} RowEntry;

typedef struct RowTable RowTable;

extern void row_key_find(Relation rel, RowKey *key);

/* Of rows of which the first ncolumns count; key may be NULL.  Rows added have this descriptor. */
extern RowTable *row_table_create(TupleDesc desc, int ncolumns, const RowKey *key);
extern void row_table_free(RowTable *table);

/* Rows that are equal, or have the same key, have the same hash. */
extern uint64 row_table_hash(RowTable *table, TupleTableSlot *slot);
extern RowEntry *row_table_find(RowTable *table, TupleTableSlot *slot, uint64 hash);
extern RowEntry *row_table_add(RowTable *table, TupleTableSlot *slot, uint64 hash);
extern void row_table_add_tag(RowTable *table, RowEntry *entry, ItemPointer tell);

/* A row with the key of this one, and a count above 0. */
extern RowEntry *row_table_find_by_key(RowTable *table, TupleTableSlot *slot, uint64 hash);

/* Calls back for each entry; the slot holds its row. */
typedef void (*RowVisitor)(RowEntry *entry, TupleTableSlot *slot, void *arg);
extern void row_table_visit(RowTable *table, RowVisitor visit, void *arg);

/* The row of an entry, until the next call or look-up. */
extern TupleTableSlot *row_table_slot(RowTable *table, const RowEntry *entry);

/* In how many parts the rows of a store have to be taken (reads it), and which one a row is in. */
extern int row_table_parts(Tuplestorestate *store, TupleTableSlot *slot);
static inline int
row_table_part(uint64 hash, int parts)
{
	return (int) ((hash >> 32) % parts);
}

/* The same bytes, however they are stored? */
extern bool
column_image_eq(Form_pg_attribute attribute, Datum a, bool a_isnull, Datum b, bool b_isnull);

#endif /* PGOPT_ROW_TABLE_H */
