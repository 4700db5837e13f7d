/*
 * candidates_draft.h
 *		Indexes on paper, while those of one table in one query are made.
 */
#ifndef PGOPT_CANDIDATES_DRAFT_H
#define PGOPT_CANDIDATES_DRAFT_H

#include "pgopt.h"

#include "candidates_private.h"

#define WIDE_KEY 500 /* bytes; values much larger than the mean would not fit into a btree's page */

typedef struct Draft
{
	Oid am;
	List *keys;         /* KeyColumns */
	Bitmapset *include; /* offset */
	List *predicate;
	int free;
	double worth;
	bool wide; /* an index-only scan is meant */
} Draft;

/* One table in one query, while drafts are made. */
typedef struct Making
{
	const TableUse *use;
	List *equal; /* Terms, one a column: plain ones first, then lists */
	int nplain;
	List *ranges; /* Terms, most selective first */
	List *groups; /* Lists of KeyColumns, joined with the same relation */
	List *drafts;
	List *predicate; /* clauses, while partial ones are made */
	double share;    /* of rows that it lets in */
} Making;

/* Lists of KeyColumns; those that return one make a new one. */
extern bool same_column(const KeyColumn *a, const KeyColumn *b);
extern bool has_column(const List *columns, const KeyColumn *column);
extern List *with_columns(const List *keys, const List *more, int limit);
extern List *with_term(const List *keys, Term *term);
extern List *term_columns(const List *terms, int limit);
extern Term *term_of(const List *terms, const KeyColumn *column);

/* Number of values of a column, 0 where it is not known. */
extern double column_distinct(Oid table, AttrNumber attnum, double tuples);

/* Columns that a scan with the predicate has to see; those of the predicate's own clauses are not needed. */
extern Bitmapset *needed_columns(const Making *making);

/* Adds it to the drafts where it might be worth something: as it is; so wide that the table need not be read; both. */
extern void draft_btree(Making *making, List *keys, int free, const WantedOrder *order);
extern void draft_wide(Making *making, List *keys, int free, const WantedOrder *order);
extern void draft_both(Making *making, List *keys, int free, const WantedOrder *order);

#endif /* PGOPT_CANDIDATES_DRAFT_H */
