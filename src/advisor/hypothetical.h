/*
 * hypothetical.h
 *		Indexes that do not exist: their definition, size, and place in plans.
 *
 * A hypothetical index is shown to the planner by get_relation_info_hook, only
 * between hypothetical_show() and hypothetical_hide(), only in this process,
 * and only in calls of standard_planner(), not of planner(): what is planned for
 * being executed, by a function that planning runs, sees none.  Its OID is in no
 * catalog.
 *
 * Memory: an index and what it points to live in the context in which it was made.
 */
#ifndef PGOPT_HYPOTHETICAL_H
#define PGOPT_HYPOTHETICAL_H

#include "pgopt.h"

#include "access/attnum.h"
#include "nodes/bitmapset.h"
#include "nodes/pathnodes.h"
#include "nodes/pg_list.h"

typedef struct HypotheticalColumn
{
	AttrNumber attnum; /* of the table; 0 = an expression */
	Node *expression;  /* Vars have varno 1; NULL for a column */
	Oid type;
	int32 typmod;
	Oid collation;
	Oid opclass;           /* InvalidOid for one that is only INCLUDEd */
	List *opclass_options; /* DefElem; usually NIL */
	bool descending;
	bool nulls_first;
} HypotheticalColumn;

typedef struct HypotheticalIndex
{
	int id;  /* its place in the run's array; set by whoever keeps the array */
	Oid oid; /* stands for it in plans */
	char *
		name; /* in EXPLAIN and in the statement that makes it, where it is free; NULL = the server's choice */
	Oid table;
	Oid am;
	bool unique;
	bool nulls_not_distinct; /* of a unique one */
	int nkeys;               /* those that are searched come first */
	int ncolumns;            /* with those that are INCLUDEd */
	HypotheticalColumn *columns;
	List *
		predicate; /* implicitly ANDed, Vars have varno 1, as a real index's in the relcache; NIL = all rows */
	List *options; /* DefElem, reloptions (pages_per_range...); usually NIL */

	/* set by hypothetical_measure() */
	bool measured;
	char *
		problem; /* why it could not be built, as the sample shows; it is then too large for any use */
	double table_rows; /* of the table, all partitions */
	double rows;       /* entries */
	BlockNumber pages;
	int tree_height; /* btree: levels above the leaves; -1 where not known */
	double fanout;   /* btree: pages that an inner page points to */
	double bytes;    /* all pages */
	double entries;  /* gin: distinct keys, and pages of their tree and of places */
	double entry_pages;
	double data_pages;
	int pages_per_range; /* brin */
	List *
		key_stats; /* by expression: a HeapTuple of pg_statistic's shape, made from a sample, or NULL; see statistics.c */
} HypotheticalIndex;

extern void hypothetical_init(void); /* installs the hooks; called once by _PG_init */

/* From CREATE INDEX; an error where the statement is none, or could not be run by anybody.  Needs no right to create it. */
extern HypotheticalIndex *hypothetical_parse(const char *ddl);

/* An index with room for so many columns, all fields zero, the access method by name ("btree", "gin"). */
extern HypotheticalIndex *hypothetical_make(Oid table, const char *am, int ncolumns);

/* Fills in type, typmod, collation and the default operator class of the access method; false where it has none. */
extern bool hypothetical_set_column(HypotheticalIndex *index, int column, AttrNumber attnum,
									Node *expression, bool included);

/*
 * The statement that makes it, with a name that is free in the table's schema
 * and not in taken (names handed out before; the new one is appended).
 * CONCURRENTLY unless the table is partitioned.  Without a semicolon.
 */
extern char *hypothetical_ddl(const HypotheticalIndex *index, bool concurrently, List **taken);

/* The name alone; taken may be NULL. */
extern char *hypothetical_name(const HypotheticalIndex *index, List **taken);

/* Without name and CONCURRENTLY: two that are equal do the same.  "public.t USING btree (a, b DESC) INCLUDE (c) WHERE ..." */
extern char *hypothetical_definition(const HypotheticalIndex *index);

extern bool hypothetical_equal(const HypotheticalIndex *a, const HypotheticalIndex *b);

/* A real index that does all that it would do (same keys or more in the same order, same predicate or none...); or InvalidOid. */
extern Oid hypothetical_covered_by(const HypotheticalIndex *index);

/* Sizes it up (size.c); samples the table once a run.  Also the statistics of its expressions. */
extern void hypothetical_measure(HypotheticalIndex *index);

/* Forgets the samples of tables that were taken. */
extern void hypothetical_forget_samples(void);

/*
 * Shows these to the planner, and nothing else hypothetical, until hidden.
 * visible: ids of those of the array that count; NULL = all (and an empty set
 * is NULL: show none of them by nindexes = 0).  Also hides the
 * real indexes whose OIDs are in without (what-if of a DROP).  An error in
 * between is no harm: the end of the (sub)transaction hides them.  Cheap:
 * changing visible costs nothing.  The indexes, measured before, must outlive
 * this.
 */
extern void hypothetical_show(HypotheticalIndex **indexes, int nindexes, const Bitmapset *visible,
							  List *without);
extern void hypothetical_hide(void);

/*
 * By the OID that stands in plans (IndexScan.indexid, IndexOptInfo.indexoid);
 * NULL = a real one.  Knows what was shown last, hidden or not, until the
 * (sub)transaction ends.
 */
extern HypotheticalIndex *hypothetical_by_oid(Oid oid);

/* What one insertion of a row costs it, in the planner's units; part: share of rows that the predicate lets in. (writes.c) */
extern double hypothetical_insert_cost(const HypotheticalIndex *index);

#endif /* PGOPT_HYPOTHETICAL_H */
