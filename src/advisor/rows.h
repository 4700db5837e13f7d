/*
 * rows.h
 *		A sample of a table's rows, for sizes and statistics of indexes.
 *
 * Taken once a run for each table, when the first of its indexes is measured,
 * and kept until rows_forget() or the end of the transaction.  What is computed
 * from it, columns, expressions and predicates, is kept with it.
 *
 * Locks: AccessShare on the table and its partitions, until the transaction
 * ends.  Memory: a context of the transaction.
 */
#ifndef PGOPT_ROWS_H
#define PGOPT_ROWS_H

#include "pgopt.h"

#include "access/attnum.h"
#include "access/htup.h"
#include "access/tupdesc.h"
#include "nodes/pg_list.h"
#include "nodes/primnodes.h"
#include "storage/block.h"

/* A column, or expression, of all sampled rows. */
typedef struct RowColumn
{
	AttrNumber attnum; /* 0 = an expression */
	Node *expression;
	FormData_pg_attribute form; /* type, length, alignment, storage */
	bool known;                 /* false: an expression that must not be, or cannot be, evaluated */
	const char *problem;        /* what it raised */
	int nrows; /* the first ones of the sample; fewer where evaluating them is much work */
	Datum *values;
	bool *nulls;
	int nnulls;
	uint32 *hashes;  /* of the image of each value; see rows_hashes() */
	int16 *sizes;    /* see rows_sizes() */
	HeapTuple stats; /* of an expression, of pg_statistic's shape; see statistics.c */
	bool stats_tried;
} RowColumn;

/* The rows that a predicate lets in. */
typedef struct RowFilter
{
	List *predicate;
	bool known;
	const char *problem; /* what it raised */
	int nrows;           /* that were tried, the first of the sample */
	bool *passes;
	int npassing;
	double share; /* of all rows of the table */
} RowFilter;

typedef struct RowSample
{
	Oid table;
	double tuples;      /* rows of the table, with its partitions */
	BlockNumber blocks; /* the same */
	bool whole;         /* the sample is all of it */
	int nrows;
	HeapTuple *rows; /* of the table's own row type, in random order */
	int *places;     /* where each stood in the table, among those of the sample */
	TupleDesc desc;
	Oid owner;
	List *columns;
	List *filters;
	MemoryContext context;
} RowSample;

extern RowSample *rows_sample(Oid table);

extern RowColumn *rows_column(RowSample *sample, AttrNumber attnum, Node *expression);

/* Hashes of a column that is known. */
extern const uint32 *rows_hashes(RowSample *sample, RowColumn *column);

/* Bytes of each value as it would be in an index tuple; negative: of one that is not aligned. */
extern const int16 *rows_sizes(RowSample *sample, RowColumn *column);

/* Of a column's value that is not null, as it is once it is back from TOAST. */
extern Size rows_raw_bytes(Datum value, int16 length);

extern RowFilter *rows_filter(RowSample *sample, List *predicate);

/*
 * Calls a function as the table's owner, in a restricted operation and a
 * subtransaction that is rolled back.  Returns the error that it raised, or NULL.
 */
extern const char *rows_as_owner(const RowSample *sample, void (*callback)(void *arg), void *arg);

extern void rows_forget(void);

#endif /* PGOPT_ROWS_H */
