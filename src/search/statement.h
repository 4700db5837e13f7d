/*
 * statement.h
 *		The SQL that the functions of search run, as the caller: so that row
 *		level security, privileges, partitions and snapshots are the server's
 *		business.
 */
#ifndef PGOPT_SEARCH_STATEMENT_H
#define PGOPT_SEARCH_STATEMENT_H

#include "postgres.h"

#include "access/skey.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/rel.h"

/* The table's name in statements: cannot be taken for a column. */
#define STATEMENT_ALIAS "\"pgopt document\""

/* SQL of an index column, over STATEMENT_ALIAS.  Column from 1. */
extern char *statement_column(Relation index, int column);

/* What users call it: the column's name, for (metadata->>'state') "state", else the expression. */
extern char *statement_column_name(Relation index, int column);

/* The index column of that name; 0 when there is none. */
extern int statement_find_column(Relation index, const char *name);

/* The qualified names of the table, of the operators, and a literal. */
extern char *statement_table(Oid table);
extern char *statement_operator(const char *name);
extern char *statement_literal(const char *text, int length);

/* One condition that filters ask for. */
typedef enum FilterKind
{
	FILTER_COMPARE, /* by the strategy, with the one value */
	FILTER_ANY,     /* equal to one of the values */
	FILTER_NULL,
	FILTER_NOT_NULL
} FilterKind;

typedef struct FilterCondition
{
	FilterKind kind;
	StrategyNumber strategy; /* btree's */
	int column;              /* of the index, from 1; 0: only a column of the table */
	char *expression;        /* SQL of the column */
	Oid type;
	List *values; /* C strings; NULL for null */
} FilterCondition;

/*
 * What filters {"column": value, ...} ask for: a value is equal to, one of an
 * array of, null for IS NULL, an object {"gte": .., "lt": ..} for a range,
 * {"null": false} for IS NOT NULL.
 * Keys are filter columns of the index, by name, or other columns of the
 * table.  Errors: ERRCODE_INVALID_PARAMETER_VALUE with the names that there
 * are.  index and filters may be NULL.
 */
extern List *statement_parse_filters(Relation index, Oid table, Jsonb *filters);

/* Finds one column by its name, or raises that error: sets column, expression and type. */
extern void
statement_resolve_column(Relation index, Oid table, const char *name, FilterCondition *column);

/* " AND ..." for them. */
extern char *statement_conditions(List *conditions);

/* Scan keys for them; false when one is on no filter column of the index. */
extern bool statement_scan_keys(Relation index, List *conditions, ScanKey *keys, int *nkeys);

/* The number of a filter from 0 by the index column; -1 when the column is none. */
extern int statement_filter_number(Relation index, int column);

/* Leaf indexes of an index: itself, or those of all partitions. */
extern List *statement_leaves(Oid index);

#endif /* PGOPT_SEARCH_STATEMENT_H */
