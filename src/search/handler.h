/*
 * handler.h
 *		The access method's numbers, and what the planner's part needs of it.
 */
#ifndef PGOPT_SEARCH_HANDLER_H
#define PGOPT_SEARCH_HANDLER_H

#include "postgres.h"

#include "nodes/pathnodes.h"

/* Operators of text columns; those of filter columns have btree's numbers. */
#define SEARCH_STRATEGY_MATCH 1 /* text @@@ pgopt_query */
#define SEARCH_STRATEGY_ORDER 2 /* text <@> pgopt_query */

/* Support functions. */
#define SEARCH_PROC_COMPARE 1 /* filter columns: as btree's */
#define SEARCH_PROC_OPTIONS 2 /* text columns: weight */

/* Registers the reloptions and hooks; called once by search_init(). */
extern void search_handler_init(void);

extern void search_costestimate(struct PlannerInfo *root, struct IndexPath *path, double loop_count,
								Cost *startup_cost, Cost *total_cost, Selectivity *selectivity,
								double *correlation, double *pages);

#endif /* PGOPT_SEARCH_HANDLER_H */
