/*
 * candidates_private.h
 *		What the files behind candidates.h share: how one query uses one table.
 *
 * candidates.c        keeps the set, plans each query with the hook that reads
 * candidates_read.c   what a query does with a table, from the planner's structures
 * candidates_term.c   of one clause: which key column it could search, in which operator class
 * candidates_draft.c  indexes on paper, and their crude worth
 * candidates_make.c   from that, indexes; the worth decides which are kept
 * candidates_merge.c  merges and narrower forms; which index might serve which statement
 */
#ifndef PGOPT_CANDIDATES_PRIVATE_H
#define PGOPT_CANDIDATES_PRIVATE_H

#include "pgopt.h"

#include "access/htup.h"
#include "nodes/pathnodes.h"

#include "candidates.h"

/* A key column: of the table, or an expression, whose Vars have varno 1. */
typedef struct KeyColumn
{
	AttrNumber attnum;
	Node *expression;
	Oid type;
	Oid collation; /* that the clause compares by */
	Oid opclass;   /* InvalidOid = the access method's default */
	bool descending;
	bool nulls_first;
	double width;    /* bytes */
	double distinct; /* values */
	bool known;      /* by statistics, not by default */
} KeyColumn;

typedef enum TermKind
{
	TERM_EQUAL, /* = constant, IN, IS NULL, boolean */
	TERM_RANGE, /* <, >, BETWEEN, LIKE 'x%', IS NOT NULL */
	TERM_SEARCH /* only another access method can: jsonb, arrays, texts, ranges, distances */
} TermKind;

/* A clause that an index could search. */
typedef struct Term
{
	TermKind kind;
	KeyColumn column;
	Oid am;      /* of TERM_SEARCH */
	bool list;   /* IN: does not keep the order of what follows */
	bool path;   /* jsonb_path_ops is meant, which the default one serves too */
	List *more;  /* of a row comparison: the KeyColumns after the first */
	Relids with; /* of a join clause: the other side; NULL of a restriction */
	double selectivity;
	double correlation; /* of the column, without sign */
} Term;

/* A clause that could be an index's predicate. */
typedef struct PartialClause
{
	Node *clause; /* varno 1 */
	AttrNumber attnum;
	Node *expression; /* what it compares, where that is no column */
	double selectivity;
	bool alone; /* worth a predicate of its own; others only narrow one further */
} PartialClause;

/* An order that the query would like. */
typedef struct WantedOrder
{
	List *columns; /* KeyColumns */
	bool complete; /* all of what was wanted */
	bool limited;  /* only the first rows count */
	bool grouping; /* any direction would do */
} WantedOrder;

/* What a query does with a table. */
typedef struct TableUse
{
	Oid table;
	int query; /* of the statement, which one */
	double pages;
	double tuples;
	double rows; /* that the restrictions leave */
	double row_width;
	List *terms;          /* Terms of all restrictions */
	List *joins;          /* Terms of join clauses */
	List *arms;           /* of an OR: Lists of Terms, each arm one */
	List *orders;         /* WantedOrders */
	List *partial;        /* PartialClauses */
	List *clauses;        /* all restrictions, varno 1: what a predicate is proved from */
	List *clause_columns; /* beside these: Bitmapsets, the columns that each needs */
	Bitmapset
		*output; /* columns that are needed above, offset by FirstLowInvalidHeapAttributeNumber */
	bool coverable; /* an index-only scan is possible */
} TableUse;

/* Of a statement, kept to the end of the run: what its queries look for in a table. */
typedef struct StatementUse
{
	int statement;
	Oid table;
	Bitmapset
		*columns; /* it searches, joins or sorts by, offset by FirstLowInvalidHeapAttributeNumber */
	List *expressions; /* the same for expressions, varno 1 */
	Bitmapset *needed; /* all columns that it reads; NULL where no index-only scan is possible */
	List *clauses;     /* restrictions, varno 1 */
} StatementUse;

#define MAX_KEYS 5

/* Beside the array of indexes: what only this room needs to know of them. */
typedef struct CandidateNotes
{
	uint32 hash;
	int next; /* of the same bucket; -1 = none */
	int free; /* so many of the first keys may change places for the statement it was made for */
	double worth; /* crude: planner units that it might save */
	signed char
		real[MAX_KEYS +
			 1]; /* does a real index begin with so many of its keys? 1, -1; 0 = not asked yet */
} CandidateNotes;

typedef struct CandidatePrivate
{
	CandidateNotes *notes;
	int *buckets;
	int nbuckets;
	List *uses;                          /* StatementUses */
	const AdvisorStatement **statements; /* those that were collected; they outlive the set */
} CandidatePrivate;

#define MAX_KEYS          5
#define MAX_COLUMNS       10
#define MAX_PER_STATEMENT 60
#define MAX_PER_TABLE_USE 10
#define SMALL_TABLE_PAGES 10   /* reading these is never worth an index */
#define BRIN_PAGES        1024 /* from here on */
#define MAX_LISTED        10   /* elements of an IN list that makes a predicate */
#define MAX_PARTIAL_VALUES \
	10 /* a column with more distinct values is looked up by, not told apart by */

#define column_member(attnum) ((attnum) -FirstLowInvalidHeapAttributeNumber)

/* candidates_read.c: in the planner's hook; NULL where no index is to be advised.  Allocates in the current context. */
extern TableUse *read_table_use(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte);

/* candidates_term.c */
extern List *read_terms(PlannerInfo *root, RelOptInfo *rel, Node *clause, bool join);
extern bool read_key_column(PlannerInfo *root, RelOptInfo *rel, Node *operand, Oid collation,
							KeyColumn *column);
extern Term *
search_term(PlannerInfo *root, RelOptInfo *rel, Node *operand, Oid op, Oid collation, char purpose);
extern HeapTuple column_statistics(Oid table, AttrNumber attnum);
extern double column_width(Oid table, AttrNumber attnum);
extern double column_correlation(Oid table, AttrNumber attnum);
extern Node *table_expression(const RelOptInfo *rel, Node *expression);

/* candidates_make.c: adds what could help; with the ids it may use. */
extern void make_candidates(CandidateSet *set, const AdvisorStatement *statement, List *uses);

/* candidates_merge.c: keeps what the statement looks for. */
extern void remember_uses(CandidateSet *set, const AdvisorStatement *statement, List *uses);

/* candidates.c: the id of it or of its equal, -1 where a real index covers it. */
extern int candidates_place(CandidateSet *set, HypotheticalIndex *index, int free, double worth);

#endif /* PGOPT_CANDIDATES_PRIVATE_H */
