/*
 * groups_compile.h
 *		What the files that split a query with groups share.
 *
 * The query is split in three: what the rows give (the keys of their group, and
 * the inputs of accumulators), what a group's state keeps (accumulators), and
 * what the view shows of it (expressions over the state).  Gray et al., Data
 * Cube, Data Mining and Knowledge Discovery 1 (1997), section 5, call aggregates
 * distributive, algebraic or holistic; here the first two become sums and counts,
 * and the last are computed anew, from the group's distinct values if it is
 * those alone that count.
 */
#ifndef PGOPT_GROUPS_COMPILE_H
#define PGOPT_GROUPS_COMPILE_H

#include "pgopt.h"

#include "nodes/primnodes.h"

#include "incremental_private.h"

/* An accumulator in the making. */
typedef struct Draft
{
	AccumulatorKind kind;
	Expr *input; /* over the query's columns; NULL: every row counts */
	ColumnType column;
	Expr *whole;       /* over the query's columns: the accumulator from the tables */
	Aggref *aggregate; /* ACC_DISTINCT, ACC_SUM_INT: what the user wrote */
	int count;         /* ACC_SUM_INT: the draft that counts the same input */
} Draft;

typedef struct GroupCompiler
{
	IncrementalPlan *plan;
	Query *query;
	bool is_global;
	Bitmapset *padded; /* range table entries whose columns an outer join can make NULL */
	List *keys;        /* of Expr * */
	List *key_clauses; /* of SortGroupClause * */
	List *drafts;      /* of Draft *; the first counts rows */
	List *touching;    /* of Expr *: inputs of what is computed anew, whose changes must be seen */
} GroupCompiler;

/* groups_compile_aggregates.c */
extern Draft *groups_add_draft(GroupCompiler *compiler, AccumulatorKind kind, Expr *input,
							   ColumnType column, Expr *whole);
extern Expr *groups_compile_aggregate(GroupCompiler *compiler, Aggref *aggregate);
extern Expr *groups_show_key(GroupCompiler *compiler, int number);
extern Expr *groups_recompute_expression(GroupCompiler *compiler, Expr *expression);
extern Node *groups_count_letters_fast(Node *node, void *context);
extern void groups_join_counts_and_sums(GroupCompiler *compiler);

/* groups_compile_types.c */
extern bool groups_is_storable(Oid type);
extern bool groups_can_be_hashed(Oid type);
extern int groups_fixed_scale(Expr *expression);
extern bool groups_equal_is_same(Expr *expression);

/* groups_compile_sql.c */
extern ColumnType groups_type_of(Expr *expression);
extern Aggref *groups_make_aggregate(const char *schema, const char *name, Oid result,
									 Expr *argument, Expr *filter);
extern Expr *groups_make_named_call(const char *name, Expr *argument);
extern Expr *groups_make_call(Oid function, Oid result, List *arguments);
extern Expr *groups_make_element(Expr *array, Oid element, int index);
extern Expr *groups_make_coalesce(Expr *expression, Const *otherwise);
extern Const *groups_make_bigint(int64 value);
extern Const *groups_make_null(ColumnType type);
extern Expr *groups_make_when(Expr *condition, Expr *result);
extern char *groups_expression_text(Query *query, Expr *expression);
extern void
groups_write_sql(GroupCompiler *compiler, GroupSpec *spec, Expr *having, List *view_columns);

#endif /* PGOPT_GROUPS_COMPILE_H */
