/*
 * plan_words.h
 *		What is wrong with a plan, in words, and what would help.
 *
 * Each problem has a short name that does not change, and one function that
 * finds it.  A function looks at one node of the plan (plan_words.c), at one
 * condition of the statement (plan_conditions.c), or at the statement as a
 * whole (plan_statement.c); where it finds its problem it reports a finding.
 *
 * Memory: findings live in the context in which they are reported.
 */
#ifndef PGOPT_PLAN_WORDS_H
#define PGOPT_PLAN_WORDS_H

#include "pgopt.h"

#include "lib/stringinfo.h"
#include "nodes/plannodes.h"

#include "hypothetical.h"
#include "plan_json.h"
#include "statement.h"
#include "workload.h"

/* An index that would help, priced with the statement's own plan. */
typedef struct PricedIndex
{
	HypotheticalIndex *index;
	Oid table;
	char *ddl;
	double bytes;
	double cost; /* of the statement, with this index alone */
} PricedIndex;

/* The conditions on one table that a plan made now has. */
typedef struct ScanConditions
{
	Oid relid;
	List *filter; /* those that no index serves; Vars of the table have varno 1 */
	List *all;    /* with those that an index serves */
} ScanConditions;

typedef struct PlanFinding
{
	const char *problem;
	double share; /* of the time or the cost; NAN where that means nothing */
	const char *what;
	StringInfoData evidence; /* "key": value, ... */
	const char *remedy;      /* NULL where nothing is known to help */
	double cost_before;      /* NAN where it was not priced */
	double cost_after;
	Oid relid;  /* that it is about, or InvalidOid */
	int others; /* partitions of which the same is to be said */
} PlanFinding;

/* A statement with its plan, and what was found. */
typedef struct PlanReview
{
	const WorkloadStatement *known;
	const WorkloadSample *sample; /* that is planned; NULL where there is none */
	AdvisorStatement *statement;  /* NULL where it cannot be planned */
	const AdvisorQuery *query;    /* the sample's */
	PlannedStmt *plan;            /* made now, or NULL */
	double cost;                  /* of that plan */
	PlanTree *estimate;           /* of that plan, or NULL */
	PlanTree *tree;               /* that is looked at: measured, run or estimated; or NULL */
	const char *source;           /* "measured", "run", "estimated" */
	List *conditions;             /* ScanConditions */
	List *not_in;                 /* names of subplans that NOT IN goes through row by row */
	List *indexes;                /* PricedIndex */
	List *names;                  /* of indexes, that were handed out */
	List *findings;               /* PlanFinding */
} PlanReview;

/* What takes less is not what makes a statement slow. */
#define PLAN_MIN_SHARE 0.02

/* A scan of fewer rows is as good as any index. */
#define PLAN_MANY_ROWS 1000

/* --- plan_words.c: nodes ---------------------------------------------------- */

extern void plan_words_nodes(PlanReview *review);

/* --- plan_conditions.c ------------------------------------------------------ */

/* Fills in review->conditions from review->plan. */
extern void plan_conditions_collect(PlanReview *review);
extern void plan_words_conditions(PlanReview *review);

/* Is that subplan the right side of NOT IN, and not looked up in a hash table? */
extern bool plan_is_not_in(const PlanReview *review, const char *subplan);

/* CREATE STATISTICS for what the statement's conditions on a table have in common; NULL where it would say nothing new. */
extern char *plan_statistics_ddl(const PlanReview *review, Oid relid);

/* --- plan_statement.c ------------------------------------------------------- */

extern void plan_words_statement(PlanReview *review);

/* --- explain_slow.c ------------------------------------------------------------ */


/* Plans it; to be called as its user.  plan and cost unless NULL. */
extern PlanTree *plan_explain_estimate(const AdvisorQuery *query, PlannedStmt **plan, double *cost);

/* --- plan_price.c -------------------------------------------------------------- */

/* Fills in review->indexes with what the advisor would build for this statement alone. */
extern void plan_price_candidates(PlanReview *review);

/* Prices an index that somebody thought of; NULL where it does not make the statement cheaper. */
extern PricedIndex *plan_price_index(PlanReview *review, const char *ddl);

/* --- findings (plan_findings.c) --------------------------------------------- */

/* A relation's share of the whole, all of its scans and partitions together. */
extern double plan_share_of(const PlanReview *review, Oid relid);

/* The table as people know it: not its partition. */
extern Oid plan_known_table(Oid relid);

extern PlanFinding *plan_report(PlanReview *review, const char *problem, double share);
extern void plan_evidence_number(PlanFinding *finding, const char *key, double value);
extern void plan_evidence_text(PlanFinding *finding, const char *key, const char *value);

/* The node, its table and its conditions. */
extern void plan_evidence_node(PlanFinding *finding, const PlanNode *node);

/* Proposes the priced indexes of the finding's table, in addition to what it has; false where there are none. */
extern bool plan_remedy_indexes(PlanReview *review, PlanFinding *finding);

/* Appends a line of SQL or advice to what the finding has. */
extern void plan_remedy_add(PlanFinding *finding, const char *remedy);

extern void plan_fold_partitions(PlanReview *review);

/* "500,000", "3.2"; "1 row", "12 rows" */
extern char *plan_count(double number);
extern char *plan_rows_text(double number);

/* "40 %"; "3.4 s"; "12 MB" */
extern char *plan_percent(double share);
extern char *plan_time(double milliseconds);
extern char *plan_bytes(double bytes);

/* Qualified and quoted, for SQL; NULL where it is gone. */
extern char *plan_table_name(Oid relid);

/* "SET work_mem = '12MB'" for what needs so many bytes of it; more than is sensible is said. */
extern char *plan_work_mem(double bytes);

#endif /* PGOPT_PLAN_WORDS_H */
