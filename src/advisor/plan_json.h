/*
 * plan_json.h
 *		A plan as EXPLAIN (FORMAT JSON) tells it, with what each node takes.
 *
 * Plans that were measured come as JSON, from the workload; those made now are
 * turned into the same JSON by the server, so that everything that reads plans
 * reads one form.  The JSON itself stays at hand: what a rule needs it asks for
 * by the name that EXPLAIN has for it.
 *
 * Memory: everything in the context in which the tree was made.
 */
#ifndef PGOPT_PLAN_JSON_H
#define PGOPT_PLAN_JSON_H

#include "pgopt.h"

#include "nodes/pg_list.h"
#include "storage/block.h"
#include "utils/jsonb.h"

typedef struct PlanNode
{
	JsonbContainer *json;
	struct PlanNode *parent;
	List *children;
	const char *type; /* "Seq Scan" */
	const char *
		relationship; /* to the parent: Outer, Inner, Member, SubPlan, InitPlan, Subquery; or NULL */
	const char *relation; /* its name, or NULL */
	const char *alias;
	Oid relid; /* InvalidOid where it is not known */

	/* as planned, of one execution of the node */
	double startup_cost;
	double total_cost;
	double plan_rows;
	double width;

	bool executed;  /* measured, and executed at all */
	double rows;    /* of one execution: measured, else planned */
	double loops;   /* executions: measured, else as many as the costs above it account for */
	int processes;  /* that share the loops: 1, or workers and leader */
	double removed; /* by the filter, all loops together */
	double part;    /* of its rows that a Limit above it asks for, as planned */

	double own; /* what the node itself takes: ms, or the planner's units for the rows that came */
	double share;     /* of all that the statement takes, 0 to 1 */
	double share_all; /* with what is below it */
	bool reported;    /* a rule has said that its estimate is wrong */
} PlanNode;

typedef struct PlanTree
{
	JsonbContainer *json; /* with "Plan", "Triggers", "JIT"... */
	PlanNode *root;
	List *nodes;         /* all of them, parents first */
	bool measured;       /* with actual rows */
	bool timed;          /* with the times of nodes */
	double milliseconds; /* "Execution Time", 0 where it is not there */
} PlanTree;

/*
 * From what EXPLAIN gave, an object or an array of one; an error where it is
 * something else.  relations: RangeTblEntries in which the tables are looked up.
 */
extern PlanTree *plan_json_parse(const char *json, List *relations);

/* Works out own, share and share_all; afterwards, because it wants the relids. */
extern void plan_json_weigh(PlanTree *tree);

/* A property of the node by EXPLAIN's name; what is given where it is not there. */
extern double plan_number(JsonbContainer *json, const char *key, double otherwise);
extern char *plan_text(JsonbContainer *json, const char *key); /* or NULL */
extern bool plan_flag(JsonbContainer *json, const char *key);
extern JsonbContainer *
plan_part(JsonbContainer *json, const char *key); /* object or array; or NULL */
extern JsonbContainer *plan_element(JsonbContainer *array, int i);
extern int plan_length(JsonbContainer *array); /* 0 for NULL */

extern PlanNode *plan_child(const PlanNode *node, const char *relationship); /* or NULL */

static inline bool
plan_is(const PlanNode *node, const char *type)
{
	return strcmp(node->type, type) == 0;
}

/* Rows that it gave, or is going to give, in all of its executions. */
static inline double
plan_all_rows(const PlanNode *node)
{
	return node->rows * node->loops;
}

/* Two trees are alike if they do the same in the same way on the same relations. */
extern bool plan_json_alike(const PlanTree *a, const PlanTree *b);

/* The table's rows, and pages unless NULL, as the planner counts them; 0 where it is gone. */
extern double plan_table_rows(Oid relid, BlockNumber *pages);

/* As EXPLAIN shows it to people. */
extern char *plan_json_text(const PlanTree *tree);

#endif /* PGOPT_PLAN_JSON_H */
