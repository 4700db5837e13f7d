/*
 * groups_private.h
 *		What the files that keep the state of groups share with each other only.
 *
 *		groups_state.c		the tables: made, dropped, read and written
 *		grouping.c			values and keys of groups in memory
 *		accumulate.c		what a group is made of: counts, sums, extremes
 *		groups_show.c		rows of the view from what groups are made of
 *		groups_apply.c		a change of the groups
 *		groups_values.c		how often a group gives values to aggregates with DISTINCT
 *		groups_compute.c	all groups anew
 */
#ifndef PGOPT_GROUPS_PRIVATE_H
#define PGOPT_GROUPS_PRIVATE_H

#include "incremental_private.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "nodes/execnodes.h"
#include "storage/itemptr.h"
#include "utils/typcache.h"

/* --- values (grouping.c) ------------------------------------------------------ */

/* How values of a column are hashed, compared and copied. */
typedef struct ValueType
{
	Oid type;
	Oid collation;
	int16 length;
	bool by_value;
	char align;
	TypeCacheEntry *cache;
	bool hash_image; /* no hash function, but equal values have the same bits */
} ValueType;

extern void value_type_init(ValueType *type, const ColumnType *column);
extern uint64 value_hash(const ValueType *type, Datum value, bool isnull);
extern bool value_equal(const ValueType *type, Datum a, bool a_null, Datum b, bool b_null);
extern int value_compare(const ValueType *type, Datum a, Datum b); /* NULLs excluded */
extern Datum value_copy(const ValueType *type, Datum value);
extern bool value_same_image(const ValueType *type, Datum a, bool a_null, Datum b, bool b_null);

/* --- accumulators (accumulate.c) ------------------------------------------------- */

typedef struct AccumulatorType
{
	const Accumulator *spec;
	ValueType column;
	ValueType value;
} AccumulatorType;

typedef struct WeightedValue
{
	Datum value;
	int64 weight;
} WeightedValue;

/* What is to be added to an accumulator. */
typedef struct AccumulatorChange
{
	int64 number;          /* of counts and sums */
	Datum sum;             /* numeric, besides number; 0 = none */
	WeightedValue *values; /* of extremes, in no order */
	int nvalues;
	int room;
} AccumulatorChange;

typedef enum CombineResult
{
	COMBINE_SAME,
	COMBINE_CHANGED,
	COMBINE_EXHAUSTED /* no extreme is known any more */
} CombineResult;

extern void accumulator_types_init(AccumulatorType *types, const GroupSpec *spec);

/* What it is for a group without rows. */
extern Datum accumulator_initial(const AccumulatorType *type, bool *isnull);

/* Allocates in the current context. */
extern void
accumulator_add(const AccumulatorType *type, AccumulatorChange *change, Datum value, int64 weight);

/* Replaces *value by what it is after the change. */
extern CombineResult
accumulator_combine(const AccumulatorType *type, Datum *value, AccumulatorChange *change);

/* What the state keeps of a statement's result. */
extern Datum accumulator_from_sql(const AccumulatorType *type, Datum value, bool *isnull);

/* Adds up two parts of one group that statements gave; none is NULL. */
extern Datum accumulator_merge(const AccumulatorType *type, Datum a, Datum b);

/* --- the tables (groups_state.c) ---------------------------------------------- */

/* Columns of pgopt.groups_<view>, from 0; the accumulators follow the keys. */
enum
{
	GROUP_HASH,
	GROUP_ID,
	GROUP_ROW,
	GROUP_KEYS
};

/* Columns of pgopt.values_<view>_<n>, from 0. */
enum
{
	VALUE_ID,
	VALUE_HASH,
	VALUE_VALUE,
	VALUE_COUNT,
	VALUE_COLUMNS
};

typedef struct StateTable
{
	Relation heap;
	Relation index;
	IndexInfo *index_info;
	TupleTableSlot *slot;  /* to read */
	TupleTableSlot *write; /* to write */
} StateTable;

/* A view's state, open. */
typedef struct GroupsState
{
	IncrementalPlan *plan;
	const GroupSpec *spec;
	ValueType *keys;
	AccumulatorType *accumulators;
	StateTable groups;
	StateTable *values; /* by accumulator; only those of kind ACC_DISTINCT are open */
	int ndistinct;
} GroupsState;

extern GroupsState *groups_open(IncrementalPlan *plan, LOCKMODE lockmode);
extern void groups_close(GroupsState *state);

extern void state_row_insert(StateTable *table, Datum *values, bool *nulls);
extern void state_row_update(StateTable *table, ItemPointer tid, Datum *values, bool *nulls);
extern void state_row_delete(StateTable *table, ItemPointer tid);

/* Rows whose first nkeys columns, of type bigint, are these; with nkeys = 0 all, in their order on disk. */
typedef struct StateScan
{
	StateTable *table;
	IndexScanDesc index;
	TableScanDesc heap;
	ScanKeyData keys[2];
	int nkeys;
} StateScan;

extern void state_scan_begin(StateScan *scan, StateTable *table, int nkeys);
extern void state_scan_find(StateScan *scan, int64 first, int64 second);
extern TupleTableSlot *state_scan_next(StateScan *scan); /* NULL: no more */
extern void state_scan_end(StateScan *scan);

/* Is it cheaper to read the whole table than to look up this number of rows? */
extern bool state_scan_pays(StateTable *table, int64 lookups);

/* The largest id in a table of values; 0 when it is empty. */
extern int64 state_last_id(StateTable *values);

/* The columns of g and k, which are a number and the groups' columns; k has no accumulators. */
extern TupleDesc groups_store_desc(const GroupsState *state, bool with_accumulators);

/* The columns of p, from 0. */
enum
{
	P_ID,
	P_VALUE,
	P_HASH,
	P_COUNT,
	P_COLUMNS
};
extern TupleDesc values_store_desc(const GroupsState *state, int accumulator);

/* Replaces all rows of a table. */
typedef struct StateFill StateFill;
extern StateFill *state_fill_begin(StateTable *table);
extern void state_fill_add(StateFill *fill, Datum *values, bool *nulls);
extern void state_fill_end(StateFill *fill);

/* --- groups in memory (grouping.c) ------------------------------------------------ */

typedef struct ViewGroup
{
	uint64 hash;
	Datum *keys;
	bool *key_nulls;
	int64 n; /* from 1, in the store of changed groups; 0 = not in there */

	int64 id;
	bool in_state;
	ItemPointerData state_row;
	ItemPointerData row; /* of the view; invalid = none */
	Datum *values;       /* of the accumulators */
	bool *value_nulls;
	AccumulatorChange *changes; /* in groups_apply.c only */
	Bitmapset *anew;            /* accumulators to be computed anew */
	bool changed;               /* the state is to be written */
} ViewGroup;

typedef struct GroupTable GroupTable;

extern GroupTable *group_table_create(const GroupsState *state);
extern uint64 group_hash(const GroupsState *state, const Datum *keys, const bool *nulls);
/* With create, an unknown group is made in the current context. */
extern ViewGroup *
group_table_find(GroupTable *table, uint64 hash, Datum *keys, bool *nulls, bool create);
extern int64 group_table_size(GroupTable *table);
extern ViewGroup **group_table_list(GroupTable *table);

/* The same groups in the order of their ids; and one of those, or NULL. */
extern ViewGroup **groups_by_id(ViewGroup **groups, int64 count);
extern ViewGroup *group_of_id(ViewGroup **by_id, int64 count, int64 id);

/* --- values of aggregates with DISTINCT (groups_values.c) ---------------------------- */

typedef struct ValueChanges ValueChanges;

extern ValueChanges *value_changes_create(GroupsState *state, int accumulator);
extern void
value_changes_add(ValueChanges *changes, ViewGroup *group, Datum value, bool isnull, int64 weight);

/* Brings the table up to date; groups are all that have changes, with their ids. */
extern void value_changes_write(ValueChanges *changes, ViewGroup **groups, int64 ngroups);

/* Appends the values of these groups, which are that part of all, to p, with their numbers n. */
extern void values_read(StateTable *table, double part, ViewGroup **groups, int64 ngroups,
						Tuplestorestate *p, TupleDesc desc);

/* --- rows of the view (groups_show.c) ---------------------------------------------- */

/*
 * Tells the applier what follows for the view's rows from the groups in g,
 * numbered 1 to count, and finishes it.  old[n - 1] is where the row of group n
 * was, or invalid; new[n - 1] becomes where it is.  Groups that have a row and
 * are not in g lose it.  Returns the rows written.
 */
extern uint64 groups_show(GroupsState *state, RowApplier *applier, Tuplestorestate *g, int64 count,
						  const ItemPointerData *old, ItemPointerData *new);

/* Where results of ACC_DISTINCT go. */
typedef void (*DistinctReceiver)(int64 n, Datum value, bool isnull, void *arg);
extern void groups_distinct(GroupsState *state, int accumulator, Tuplestorestate *p,
							DistinctReceiver receive, void *arg);

#endif /* PGOPT_GROUPS_PRIVATE_H */
