/*
 * advisor.h
 *		Which indexes would help, priced by the server's own planner.
 *
 * The statements come from the workload.  Each is planned, as the user who ran
 * it, with indexes that do not exist shown to the planner; nothing is executed,
 * nothing is locked but AccessShare on the tables while planning.
 *
 * Memory: contexts of a run, gone with it.  Nothing in shared memory but the
 * progress of those who run.
 *
 * Cost: some planner calls a statement (advisor/costs.h says how many), and a
 * sample of pages of each table that an index may be built on.
 */
#ifndef PGOPT_ADVISOR_H
#define PGOPT_ADVISOR_H

#include "pgopt.h"

extern void advisor_init(void); /* hooks, settings and shared memory; called once by _PG_init */

#endif /* PGOPT_ADVISOR_H */
