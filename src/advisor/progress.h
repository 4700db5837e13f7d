/*
 * progress.h
 *		How far those are who ask for advice.
 *
 * Owns, in shared memory: one slot for each of so many runs at once; a run that
 * finds none goes on without.  A slot is taken and given back by its process
 * alone; the numbers in it are written without a lock, each by itself.
 */
#ifndef PGOPT_PROGRESS_H
#define PGOPT_PROGRESS_H

#include "pgopt.h"

extern void progress_init(void); /* called once by _PG_init */

/* Begins a run; it ends by itself with the transaction, or before. */
extern void progress_begin(void);
extern void progress_end(void);

/* phase: a constant text. */
extern void progress_report(const char *phase, int done, int total, int planner_calls);

#endif /* PGOPT_PROGRESS_H */
