/*
 * size.h
 *		What the size models of the access methods share.
 */
#ifndef PGOPT_SIZE_H
#define PGOPT_SIZE_H

#include "pgopt.h"

#include "access/itup.h"

#include "hypothetical.h"
#include "rows.h"

/* A key that the sample has so often is counted on its own; the others are taken together. */
#define HEAVY_COUNT 8

/* With fewer rows of the sample nothing is concluded on distinct keys. */
#define FEW_ROWS 30

/* Rows that the mean size of an entry is taken from. */
#define MEAN_ROWS 1000

/* How an index keeps a column. */
typedef struct StoredForm
{
	Oid type;
	int16 length;
	char align;
	bool converted; /* the operator class keeps another type */
} StoredForm;

typedef struct SizeInput
{
	HypotheticalIndex *index; /* its rows and table_rows are set */
	RowSample *sample;
	RowFilter *filter; /* NULL: all rows */
	bool partitioned;
	int nrows; /* of the sample that all columns know */
	RowColumn **columns;
	StoredForm *forms;
	const uint32 **hashes; /* NULL: a column is not known */
	const int16 **sizes;
	Size largest; /* of the entries that were looked at, where there is a limit */
	Size largest_allowed;
	double distinct[INDEX_MAX_KEYS + 1]; /* of so many of the first keys; 0 = not asked for yet */
} SizeInput;

/* How the rows fall into groups of equal keys. */
typedef struct KeyGroups
{
	double rows;
	double distinct;
	int nsizes; /* groups whose size the sample tells, largest first */
	double *sizes;
	double others; /* mean size of the other groups; 0 = there are none */
} KeyGroups;

extern void size_groups(SizeInput *input, int nkeys, KeyGroups *groups);

/* Of those rows of the sample that are counted, which stand for so many; only by the sample. */
extern void
size_groups_of(SizeInput *input, int nkeys, const bool *counted, double rows, KeyGroups *groups);

/* Makes the groups that are not known one by one so many times as many. */
extern void size_groups_scale(KeyGroups *groups, double factor);

extern double size_distinct(SizeInput *input, int nkeys);

/* Of a population, from those seen of it: distinct ones, and those seen once. */
extern double size_estimate_distinct(double seen, double distinct, double once, double population);

/* Distinct values of a column of the table by ANALYZE; -1 where it does not know. */
extern double size_known_distinct(Oid table, AttrNumber attnum, bool inherited, double population);

/* Bytes of a row's index tuple, header included, aligned. */
extern Size size_entry(const SizeInput *input, int ncolumns, int row);
extern double size_mean_entry(const SizeInput *input);

/* They set pages, and what is known of the tree. */
extern void size_btree(SizeInput *input);
extern void size_hash(SizeInput *input);
extern void size_gin(SizeInput *input);
extern void size_brin(SizeInput *input);
extern void size_gist(SizeInput *input);

/* Statistics of expressions, one a key that is an expression, in the current context (statistics.c). */
extern List *statistics_of(const HypotheticalIndex *index, RowSample *sample);

/* Shows nothing while something is planned on our own account; gives what injection_resume() wants. */
extern bool injection_pause(void);
extern void injection_resume(bool shown);

#endif /* PGOPT_SIZE_H */
