/*
 * statement.h
 *		The SQL that the functions of search run, as the caller: so that row
 *		level security, privileges, partitions and snapshots are the server's
 *		business.
 */
#ifndef PGOPT_SEARCH_STATEMENT_H
#define PGOPT_SEARCH_STATEMENT_H

#include "postgres.h"

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

/*
 * " AND ..." for filters {"column": value, ...}: a value is equal to, one of
 * an array of, null for IS NULL, an object {"gte": .., "lt": ..} for a range.
 * Keys are filter columns of the index, by name, or other columns of the
 * table.  Errors: ERRCODE_INVALID_PARAMETER_VALUE with the names that there are.
 */
extern char *statement_filters(Relation index, Oid table, Jsonb *filters);

/* Leaf indexes of an index: itself, or those of all partitions. */
extern List *statement_leaves(Oid index);

#endif /* PGOPT_SEARCH_STATEMENT_H */
