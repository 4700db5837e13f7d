/*
 * window.h
 *		How much the server's cumulative counters grew lately.
 *
 * Owns, in shared memory: for each database that pgopt looks after, samples
 * of its counters and the server's, one a minute, for an hour.  The worker
 * takes them; so does whoever asks and finds none yet (a standby has no
 * worker).  They die with the server, and a reload of the configuration begins
 * a new window: what was counted under other settings is no evidence about
 * these.
 *
 * Locks: one LWLock, held for a copy of one sample or one scan of a ring; no
 * other is taken under it.  Cost: a sample is a dozen look-ups in the
 * statistics.
 */
#ifndef PGOPT_WINDOW_H
#define PGOPT_WINDOW_H

#include "pgopt.h"

/* How often a sample is taken. */
#define WINDOW_SAMPLE_MS (60 * 1000)

extern void window_init(void); /* called once by _PG_init */

/* Takes a sample of this database if the last one is old; in a transaction. */
extern void window_note(void);

/* Begins a new window here and now, for a reload of the configuration; in a transaction. */
extern void window_restart(void);

/* Is it time for a sample?  Needs no transaction. */
extern bool window_is_due(void);

/* Milliseconds until it is. */
extern long window_wait(void);

/* Did the lifetime counters begin less than this long ago? For where there is no window. */
extern bool window_lifetime_is_short(int seconds);

#endif /* PGOPT_WINDOW_H */
