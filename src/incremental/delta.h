/*
 * delta.h
 *		What the files of the compiler of changes (delta_*.c) share.
 *
 * The rows of a query are taken for a product: of its tables' rows, of its
 * conditions, and of its EXISTS conditions, each a factor that is 1 or 0 for a
 * row.  Where factors change, the change of the product is the sum over the not
 * empty sets S of changed factors of
 *
 *		(-1)^(|S| + 1) * changes of the factors in S * the others as they are after
 *
 * which is multiplying out the product of (after - change).  Each term becomes a
 * statement that starts from the stores of S, which are small.  What is no
 * product (outer joins, UNION ALL) is a sum of products.
 *
 * Memory: all is allocated in the caller's context, that of the plan.
 */
#ifndef PGOPT_DELTA_H
#define PGOPT_DELTA_H

#include "pgopt.h"

#include "nodes/parsenodes.h"
#include "nodes/pathnodes.h"

#include "compat.h"
#include "incremental_private.h"

/* More factors than these that can change are multiplied in two goes. */
#define MAX_CHANGING_FACTORS 5

typedef struct Compiler
{
	IncrementalPlan *plan;
	List *stores; /* of DeltaStore * */
	List *steps;  /* of DeltaStep * */
} Compiler;

/* A query that is compiled. */
typedef struct Level
{
	Compiler *compiler;
	Query *query; /* whose range table Vars point to */
	List *above;  /* expressions over it that are read by whoever uses its rows */
} Level;

#define NO_STORE (-1)

typedef struct Factor
{
	int store;     /* of its change; NO_STORE: it never changes */
	List *after;   /* what it is after the change: items of FROM, */
	List *quals;   /* and conditions */
	Relids rtis;   /* range table entries that an item stands for; NULL for a condition */
	List *columns; /* of Var *: what the columns of an item's store are; NIL for a table's */

	/*
	 * Of an EXISTS condition (delta_match.c).  Either these conditions, with
	 * Params for the columns of the store, join rows to the changes of whether
	 * there is a match; or matches are counted for each row that passes them.
	 */
	bool negated;
	List *keys;      /* of Node * */
	Query *matching; /* SELECT n: rows that match now */
	Query *changed;  /* SELECT s: how many more these are than before */
} Factor;

typedef struct Product
{
	List *factors; /* of Factor *, in the order of FROM */
	List *quals;   /* ANDed, over the level's Vars */
	List *outer;   /* ANDed, those that refer to the query around it */
} Product;

/* --- delta_normalize.c -------------------------------------------------------- */

/* The range table entries that a join tree or set operation is made of. */
extern Relids delta_entries(Node *node);

/* Entries that the query's FROM does not mention say nothing any more. */
extern void delta_blank_unused(Query *query);

/* Vars of the query's own level in an expression, or of one further out. */
extern List *delta_vars(Node *node, int level);

/* --- delta_sources.c: what a query's FROM and WHERE are a product of ------------ */

extern int delta_add_store(Compiler *compiler, List *columns);
extern DeltaStore *delta_store(Compiler *compiler, int number);
extern void delta_add_step(Compiler *compiler, char *sql, int target, Bitmapset *needs);

/* The column of a table's store that holds an attribute; added if need be. */
extern int delta_leaf_column(Compiler *compiler, int store, const Var *var);

extern List *delta_entry_vars(RangeTblEntry *rte, int level);
extern bool delta_reads_tables(Node *node);
extern bool delta_gather(Level *level, Node *jointree, Product *product);
extern bool delta_gather_quals(Level *level, Node *quals, Product *product);

/* --- delta_build.c: pieces of queries -------------------------------------------- */

extern char *delta_deparse(Query *query);
extern Query *delta_new_query(void);

/* A store in a query's range table; named once the query is complete. */
extern int delta_add_entry(Compiler *compiler, Query *query, int store);
extern void delta_name_columns(Compiler *compiler, Query *query, int rti, int store);
extern Var *delta_column(Compiler *compiler, int rti, int store, int column);
extern Node *delta_weight(int rti);

extern void delta_add_item(Query *query, int rti);
extern int delta_add_lateral(Query *query, Query *subquery);
extern void delta_add_target(Query *query, Expr *expr, char *name);
extern Node *delta_operation(const char *name, Node *left, Node *right);
extern Node *delta_bigint(int64 value);
extern Node *delta_at_most_one(Node *node);
extern Node *delta_at_least_one(Node *node);

/* --- delta_steps.c: statements --------------------------------------------------- */

/* A condition's keys, with columns of its store, which is an entry some levels up. */
extern List *delta_fill_keys(Compiler *compiler, const Factor *factor, int rti, int level);

/*
 * The query whose rows are the term of these factors: outputs, then the weight
 * (without factors: the product as it is, and no weight).
 * Vars of nulled entries are NULL.
 */
extern Query *
delta_term(Level *level, const Product *product, const List *changed, Relids nulled, List *outputs);

/* Adds the steps of a product's change to a store. */
extern bool delta_emit(Level *level, Product *product, Relids nulled, List *outputs, int target);

/* --- delta_exists.c ---------------------------------------------------------------- */

extern bool delta_gather_sublink(Level *level, Node *qual, Product *product);
extern Node *delta_not_exists(Query *query);

/* --- delta_match.c ----------------------------------------------------------------- */

/* A factor that is 1 where rows of a query exist (or do not), given by its EXISTS form. */
extern Factor *delta_exists(Level *level, Query *query, bool negated, Node *after);
extern bool delta_leads_index(Oid relid, AttrNumber attnum);

/* Is it what joins can hash or merge by? */
extern bool delta_is_equality(OpExpr *op);
extern const char *delta_exists_way(const Factor *factor);
extern const char *delta_exists_reason(const Factor *factor);

/* --- delta_compile.c ------------------------------------------------------------- */

extern bool delta_columns(Compiler *compiler, Query *query, List *numbers, int target);

/* The index that conditions want and a large table does not have, or NULL. */
extern char *delta_index_hint(Level *level, Node *quals);

/* A part of the plan that is named after what it reads. */
extern void delta_add_part(Level *level, const char *before, Relids rtis, const char *after,
						   const char *way, const char *reason, const char *hint);

/* An outer join as a sum of products, each of them times more. */
extern bool
delta_outer_join(Level *level, JoinExpr *join, const Product *more, List *outputs, int target);

#endif /* PGOPT_DELTA_H */
