/*
 * workload.h
 *		What statements this server runs: how often, how long, and with what.
 *
 * The server's own texts are normalised, and many of those cannot be parsed
 * again ("date $1").  Here are kept, for each statement by its query id, a few
 * of its original texts or parameter sets, as the planner needs them, with
 * counts and times.
 *
 * Owns, in shared memory: a hash table of statements of bounded size
 * (pgopt.workload_statements; the least used goes when it is full), and a ring
 * of samples (pgopt.workload_memory) that waits to be written to the tables
 * pgopt.workload_* by the database's worker, every ten seconds while something
 * waits, and when the worker ends: a restart loses nothing, a crash what was not
 * written.  Nothing is kept of utility statements, of pgopt's own, nor of
 * statements that read no tables or catalogs only.  Executions that fail, or are
 * cancelled, are not counted.  Bodies of functions in standard SQL (BEGIN ATOMIC)
 * have no query ids on any server, and are not seen.
 *
 * Locks: one LWLock a partition of the hash table, one for the ring, one for the
 * slots of databases; held for a look-up, a copy, or a pass to make room.
 * Nothing raises an error in a user's statement.
 *
 * Cost: two clock readings (that pg_stat_statements shares), one look-up and one
 * spinlock a statement; a sample copies the text once, at the 1st, 2nd, 4th,
 * 8th... execution, and at one that is much slower than those before.
 */
#ifndef PGOPT_WORKLOAD_H
#define PGOPT_WORKLOAD_H

#include "pgopt.h"

#include "nodes/params.h"
#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"

extern bool pgopt_workload_capture;           /* at all? */
extern bool pgopt_workload_capture_constants; /* with constants and parameters? */
extern double
	pgopt_workload_sample_rate;       /* share of executions that is looked at; counts are scaled */
extern int pgopt_workload_statements; /* entries in shared memory */
extern int pgopt_workload_memory;     /* kB of the ring */
extern int pgopt_workload_slow; /* ms; executions that take longer are kept with their plans */

extern void workload_init(void); /* settings; hooks and shared memory where preloaded */

/* One original text, or one set of parameters. */
typedef struct WorkloadSample
{
	const char *query;       /* one statement, parsable under search_path; $n are parameters */
	const char *search_path; /* as it was set, "$user" included */
	int nparams;
	Oid *param_types;          /* nparams; 0 where it is not known */
	const char **param_values; /* as text; NULL = SQL null or, where not known, none */
	bool *param_known;         /* false: plan as for any value */
	double milliseconds;       /* this execution */
	double rows;
	TimestampTz captured;
	const char
		*plan; /* EXPLAIN (ANALYZE, FORMAT JSON) of this execution, where it was slow; or NULL */
} WorkloadSample;

typedef struct WorkloadStatement
{
	int64 queryid;
	Oid userid; /* who ran it: it is planned as him */
	double calls;
	double milliseconds; /* all calls together; execution only */
	double rows;
	TimestampTz first_seen;
	TimestampTz last_seen;
	bool captured;   /* false: pg_stat_statements knows it, nothing was captured */
	CmdType command; /* CMD_UNKNOWN where only pg_stat_statements knows it */
	int nsamples;    /* latest first */
	WorkloadSample *samples;
	const char *text; /* for people; NULL where it is longer than 64 kB, or was never seen */
} WorkloadStatement;

/*
 * What this database has run, most time first: the tables, and what has not
 * been written yet, and what only pg_stat_statements knows.  Statements whose
 * user is gone are left out.  queryid 0 = all.  In the current context.  Inside
 * a transaction; may run on a standby.
 */
extern List *workload_read(int64 queryid);

/* When capture began here: what is older, nothing is known of.  0 = nothing was captured yet. */
extern TimestampTz workload_since(void);

/* Writes what waits in shared memory to this database's tables; in a transaction that may write. */
extern void workload_flush(void);

/* Is it time to?  Needs no transaction. */
extern bool workload_is_due(void);
extern long workload_wait(void); /* milliseconds until it is */

/*
 * Begins a new period: what runs from now on is counted apart from what ran
 * before (pgopt.workload_history), because an index came or went.
 */
extern void workload_new_period(void);

#endif /* PGOPT_WORKLOAD_H */
