/*
 * worker.h
 *		The processes: a launcher, a worker a database, refresh workers.
 *
 * The launcher finds the databases that have the extension and keeps one
 * worker running in each.  A worker decides what is due, and hands each
 * refresh to a refresh worker, of which there are at most
 * pgopt.max_refresh_workers in the server.  On a standby none of them runs;
 * they start on promotion.
 *
 * A worker holds no lock and no snapshot while it waits.  It wakes up when a
 * commit that a view waits for sets its latch, and otherwise at the time when
 * the next view is due.
 *
 * Memory: the registry lives in a context of its own, made anew when the
 * configuration changes; everything else in one that is reset each cycle.
 *
 * Cost of a cycle: one look-up in shared memory a table that a managed view
 * reads; after a refresh, one query over the managed views besides.
 */
#ifndef PGOPT_WORKER_H
#define PGOPT_WORKER_H

#include "pgopt.h"

#include "matview.h"

extern void worker_init(void); /* registers the launcher, hooks DROP DATABASE and the like */

/* --- entry points of the processes -------------------------------------------- */

extern PGDLLEXPORT void pgopt_launcher_main(Datum arg);
extern PGDLLEXPORT void pgopt_worker_main(Datum arg);
extern PGDLLEXPORT void pgopt_refresh_worker_main(Datum arg);

/* Refreshes one view in transactions of its own; a failure is kept, not raised. */
extern void worker_run_job(Oid view, const char *source, const char *reason);

/* Keeps a failure in a transaction of its own; an error in that is logged and forgotten. */
extern void worker_note_failure(Oid view, const char *source, const char *reason, int64 duration,
								ErrorData *failure);

/* The source of a job that is no refresh: merging segments of a search index, whose OID stands for the view's. */
#define WORKER_MERGE "merge"

/* Hands a view of this database to a refresh worker. */
typedef enum DispatchResult
{
	DISPATCH_STARTED,
	DISPATCH_RUNNING,   /* this view is being refreshed already */
	DISPATCH_BUSY,      /* all refresh workers are taken; one that ends sets the latch */
	DISPATCH_NO_PROCESS /* max_worker_processes leaves no room */
} DispatchResult;

/* Tells a job from others that the same process did before or does after it. */
typedef struct DispatchTicket
{
	int slot;
	uint32 job;
} DispatchTicket;

/* The ticket may be NULL; whoever asks for one has its latch set when the job ends. */
extern DispatchResult dispatch_refresh(Oid view, int priority, const char *source,
									   const char *reason, DispatchTicket *ticket);
extern bool dispatch_finished(const DispatchTicket *ticket);

/* Cancels refreshes that other statements wait for.  Runs in a transaction of the caller's. */
extern void yield_to_waiters(void);

/* Signals and settings that all three kinds of process start with. */
extern void worker_setup(void);

#endif /* PGOPT_WORKER_H */
