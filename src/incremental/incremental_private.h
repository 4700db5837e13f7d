/*
 * incremental_private.h
 *		What the files of the room incremental share.
 *
 * A view's definition is compiled into a program: a list of statements, each of
 * which reads tables and the changes of tables, and gives changes.  Changes are
 * rows with a weight: n rows that came have weight n, n that went have -n.  The
 * program's result is the change of the view's rows, or, for a view that
 * groups, of what its groups are made of; then a table of the groups' state
 * tells what follows for the rows of the view (Griffin and Libkin, Incremental
 * Maintenance of Views with Duplicates, SIGMOD 1995; Gupta, Mumick and
 * Subrahmanian, Maintaining Views Incrementally, SIGMOD 1993).
 */
#ifndef PGOPT_INCREMENTAL_PRIVATE_H
#define PGOPT_INCREMENTAL_PRIVATE_H

#include "pgopt.h"

#include "access/attnum.h"
#include "executor/tuptable.h"
#include "nodes/bitmapset.h"
#include "nodes/parsenodes.h"
#include "utils/queryenvironment.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"
#include "utils/tuplestore.h"

#include "rowlog.h"

/* --- programs --------------------------------------------------------------- */

typedef struct ColumnType
{
	Oid type;
	int32 typmod;
	Oid collation;
} ColumnType;

/*
 * Changes while a refresh runs: a tuplestore that statements read by its name.
 * Columns are named c1, c2, ...; the weight, a bigint named w, follows.
 *
 * A leaf holds what rowlog_read() gives for a relation (and, if inherited, for
 * all that inherits from it: partitions, children).
 */
typedef struct DeltaStore
{
	char name[NAMEDATALEN]; /* d1, d2, ... */
	int ncolumns;           /* without the weight */
	ColumnType *columns;
	Oid relid; /* of a leaf, else InvalidOid */
	bool inherited;
	AttrNumber *attnums; /* of a leaf: which column of the relation each is */
} DeltaStore;

/*
 * SELECT c1, ..., cn, w: what is added to a store.  Tables are as they are
 * after the change.  It gives no rows, and is not run, if any store in needs is
 * empty.
 */
typedef struct DeltaStep
{
	char *sql;
	int target;       /* index of a store that is no leaf */
	Bitmapset *reads; /* indexes of stores; all were filled by steps before */
	Bitmapset *needs;
} DeltaStep;

typedef struct DeltaProgram
{
	int nstores;
	DeltaStore *stores;
	int nsteps;
	DeltaStep *steps;
	int result; /* index of the store that holds the program's result; may be a leaf */
} DeltaProgram;

/* --- groups ------------------------------------------------------------------ */

typedef enum AccumulatorKind
{
	ACC_COUNT,       /* bigint: rows whose input is not null; input 0: all rows */
	ACC_SUM_INT,     /* bigint: sum of the not null values of a smallint or integer input */
	ACC_SUM_NUMERIC, /* numeric: sum of the not null values of a bigint or numeric input */
	ACC_SMALLEST,    /* array of the input's type: its EXTREMES_KEPT smallest values, in order */
	ACC_LARGEST,     /* the same with the largest, largest first */
	ACC_DISTINCT,    /* result of an aggregate over the input's distinct values, nulls included */
	ACC_RECOMPUTED   /* result of an aggregate; computed anew whenever its group changes */
} AccumulatorKind;

/* Values that a state keeps of min() and max(), duplicates included. */
#define EXTREMES_KEPT 64

typedef struct Accumulator
{
	AccumulatorKind kind;
	int input;         /* column of the program's result, from 1; 0 = none */
	ColumnType column; /* of its column in the state, a1, a2, ... */
	ColumnType value;  /* of its input */
	char *
		distinct_sql; /* ACC_DISTINCT: SELECT id, result FROM p GROUP BY id; p(id bigint, v value) */
} Accumulator;

/*
 * A view with GROUP BY, DISTINCT, UNION or aggregates.  The first nkeys columns
 * of the program's result are the group's key, the others inputs.  The first
 * accumulator counts the group's rows: at 0 there is no group, but for the one
 * of a view without GROUP BY (is_global), which always exists.
 */
typedef struct GroupSpec
{
	int nkeys;
	ColumnType *keys;
	bool is_global;
	int naccumulators;
	Accumulator *accumulators;

	/*
	 * SELECT k1, ..., [v,] a1, ...: every group from the tables.  With
	 * full_distinct >= 0 (index of the only ACC_DISTINCT) the rows are grouped by
	 * that input v too, after the keys, and those of one group are to be added
	 * up; ACC_DISTINCT columns are NULL.
	 */
	char *full_sql;
	int full_distinct;

	/* For each ACC_DISTINCT not covered by full_distinct: SELECT k1, ..., v, count(*); else NULL. */
	char **values_sql;

	/* SELECT n, the view's columns FROM g, those groups that HAVING lets through; g(n bigint, k1, ..., a1, ...). */
	char *final_sql;

	/* What groups_recompute_sql() makes its statement of. */
	Query *source;
	List *source_keys;         /* of Expr * */
	List *source_accumulators; /* of TargetEntry * or Expr *, with Aggrefs */
} GroupSpec;

/*
 * SELECT n, a1, ... of the groups in k(n bigint, k1, ...), from the tables
 * (ACC_DISTINCT columns are NULL).  Keys in nulls are NULL in all rows of k, the
 * others in none.  palloc'd.
 */
extern char *groups_recompute_sql(const GroupSpec *spec, const Bitmapset *nulls);

/* --- plans -------------------------------------------------------------------- */

/* A part of a view, as pgopt_explain_refresh() shows it. */
typedef struct PlanPart
{
	char *part;   /* what the user wrote: a table, a join, an aggregate, a clause */
	char *way;    /* how it is refreshed */
	char *reason; /* why so */
	char *hint;   /* what would allow a better way, or NULL */
} PlanPart;

typedef struct StatementCache StatementCache;

typedef struct IncrementalPlan
{
	MemoryContext context; /* the plan and all that hangs from it */
	Oid matview;
	Oid owner;
	DeltaProgram *program; /* NULL: it cannot be incremental, for the reason in refusal */
	GroupSpec *groups;     /* NULL: the program's result is the change of the view's rows */
	char *refusal;
	char *refusal_hint;
	List *parts;                /* of PlanPart * */
	StatementCache *statements; /* of plan_query(); NULL until there are some */
} IncrementalPlan;

/* Compiles in the current context.  Reads the catalog; the caller holds a lock on the matview. */
extern IncrementalPlan *plan_compile(Oid matview);

/* The same, kept in this backend until something that it reads is redefined. */
extern IncrementalPlan *plan_get(Oid matview);
extern void plan_forget(Oid matview);

/* The query of a matview, rewritten: views in it are subqueries then.  Locks what it reads. */
extern Query *plan_definition(Relation rel);

/* While compiling: keeps the first refusal; returns false. */
extern bool plan_refuse(IncrementalPlan *plan, const char *hint, const char *fmt, ...)
	pg_attribute_printf(3, 4);
extern void plan_add_part(IncrementalPlan *plan, const char *part, const char *way,
						  const char *reason, const char *hint);

/* Settings for parsing statements, and for writing them; both end with AtEOXact_GUC(true, result). */
extern int plan_pin_search_path(void);
extern int plan_pin_deparsing(void);

/*
 * delta_normalize(): a rewritten query with CTEs and simple subqueries inlined
 * and join aliases resolved; checks what no incremental refresh can do.  NULL
 * and a refusal where it found some.
 *
 * delta_compile(): the program that gives the change of these expressions (of
 * Expr *, over the query's own Vars, no aggregates) over the query's FROM and
 * WHERE.  The query's target list, GROUP BY, HAVING and DISTINCT are ignored.
 * For a query that is a UNION ALL, outputs is NIL: its columns.
 */
extern Query *delta_normalize(IncrementalPlan *plan, Query *rewritten);
extern DeltaProgram *delta_compile(IncrementalPlan *plan, Query *query, List *outputs);

/* Splits a query that groups; sets plan->groups and plan->program. */
extern bool groups_compile(IncrementalPlan *plan, Query *query);

/* --- running statements ---------------------------------------------------------- */

typedef void (*RowReceiver)(TupleTableSlot *slot, void *arg);

/* A tuplestore that a statement reads by name. */
typedef struct NamedStore
{
	const char *name;
	Tuplestorestate *store;
	TupleDesc desc;
} NamedStore;

/*
 * Runs a SELECT of the plan as the current user in the active snapshot, without
 * seeing what the current command has written; hands each row to the receiver,
 * in the caller's memory context.  Prepared statements are kept with the plan,
 * one for each order of magnitude of the stores' sizes.  Returns the number of
 * rows.
 */
extern uint64 plan_query(IncrementalPlan *plan, const char *sql, const NamedStore *stores,
						 int nstores, RowReceiver receive, void *arg);

typedef struct DeltaRun
{
	MemoryContext context;
	IncrementalPlan *plan;
	Snapshot snapshot;
	Tuplestorestate **stores; /* one a store of the program */
	TupleDesc *descs;
	int64 *rows;
	int64 changes; /* rows in the leaves */
} DeltaRun;

/*
 * Reads the leaves.  Returns NULL, and in *why ROWLOG_TOO_MANY or ROWLOG_LOST,
 * if there are more than limit changes or a log is not complete.
 */
extern DeltaRun *
delta_begin(IncrementalPlan *plan, Datum frontier, Snapshot snapshot, int64 limit, int64 *why);
/* Runs the steps; returns the result's store, rewound. */
extern Tuplestorestate *delta_evaluate(DeltaRun *run);
extern void delta_end(DeltaRun *run);

/* --- changing the view's rows ------------------------------------------------------ */

typedef enum ApplierKind
{
	APPLY_CHANGES, /* rows that are named are updated or deleted, others inserted */
	APPLY_REPLACE, /* only inserts come, which are to be all rows; equal ones stay where they are */
	APPLY_FILL     /* only inserts come, into a new heap without indexes */
} ApplierKind;

typedef struct RowApplier RowApplier;

/*
 * Gathers the changes, and makes them in applier_finish(): deletes first, then
 * updates that leave the columns of unique indexes alone, then inserts.  A row
 * that would not change is not written.  *tid is set by applier_finish() to
 * where the row is then (may be NULL).  Slots are copied.
 * The relation is open with a lock that keeps other writers out.
 */
extern RowApplier *applier_begin(Relation rel, ApplierKind kind, Snapshot snapshot);
extern void applier_insert(RowApplier *applier, TupleTableSlot *slot, ItemPointer tid);
extern void applier_update(RowApplier *applier, const ItemPointerData *old, TupleTableSlot *slot,
						   ItemPointer tid);
extern void applier_delete(RowApplier *applier, const ItemPointerData *old);
extern uint64 applier_finish(RowApplier *applier); /* rows written */

/* Changes of the rows of a view that does not group: finds those that went by their content. */
extern void
rows_apply(IncrementalPlan *plan, DeltaRun *run, Tuplestorestate *delta, RowApplier *applier);

/* --- the state of groups (tables pgopt.groups_<view> and pgopt.values_<view>_<n>) ------ */

/* Makes the tables that the plan needs; existing ones of another shape are replaced. */
extern void groups_create_tables(IncrementalPlan *plan);
extern bool groups_tables_exist(IncrementalPlan *plan);
extern void groups_drop_tables(Oid matview); /* the matview may be gone */
extern int64 groups_bytes(Oid matview);

/* Adds the change to the state; tells the applier what follows, and finishes it. */
extern uint64
groups_apply(IncrementalPlan *plan, DeltaRun *run, Tuplestorestate *delta, RowApplier *applier);

/*
 * Computes all groups from the tables, in the active snapshot.  With
 * state_is_valid the applier is of kind APPLY_CHANGES and only what differs is
 * written; else the state is thrown away and made anew, and the applier is of
 * one of the two other kinds.  Finishes the applier.
 */
extern uint64 groups_compute(IncrementalPlan *plan, RowApplier *applier, bool state_is_valid);

#endif /* PGOPT_INCREMENTAL_PRIVATE_H */
