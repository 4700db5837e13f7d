/*
 * matview.h
 *		Managed materialized views: what they read, when they are due, how they
 *		are refreshed.
 *
 * Owns the tables pgopt.matview (what users configured), pgopt.matview_state
 * (what the last refresh saw) and pgopt.refresh_log.  It owns no shared
 * memory: the counters are those of changes.h.
 *
 * How a refresh and the counters fit together: the counters are read first,
 * then the refresh takes its snapshot.  Whatever was counted by then was
 * visible, so the refresh contains it; what was visible but not counted yet
 * is counted later and looks like a change that is still to come.  The sums
 * are written to pgopt.matview_state in the transaction of the refresh, so
 * that they hold exactly if the refresh does.
 *
 * Locks: a refresh takes ExclusiveLock on the view (readers do not wait) and,
 * where it cannot use REFRESH ... CONCURRENTLY, AccessExclusiveLock for the
 * final swap, each under pgopt.refresh_lock_timeout; ACCESS SHARE on what the
 * view reads.  Rows of pgopt's tables are written last.
 *
 * Memory: a Registry and all that hangs from it lives in the context that
 * registry_load() was given.
 *
 * Cost: loading is one query over the managed views; evaluating a view is one
 * look-up in shared memory a table that it reads; resolving what a view reads
 * parses its definition, and only happens at a refresh and after DDL.
 */
#ifndef PGOPT_MATVIEW_H
#define PGOPT_MATVIEW_H

#include "pgopt.h"

#include "nodes/pg_list.h"

#include "changes.h"
#include "incremental.h"

struct ReturnSetInfo;

typedef enum Strategy
{
	STRATEGY_IMMEDIATE,
	STRATEGY_SCHEDULED,
	STRATEGY_THRESHOLD,
	STRATEGY_SMART,
	STRATEGY_MANUAL
} Strategy;

#define DEFAULT_STRATEGY    "smart"
#define DEFAULT_INTERVAL_US (INT64CONST(30) * 60 * USECS_PER_SEC)
#define DEFAULT_THRESHOLD   1000
#define DEFAULT_PRIORITY    5
#define MIN_INTERVAL_US     USECS_PER_SEC
#define MAX_INTERVAL_US     (INT64CONST(366) * USECS_PER_DAY)
#define MIN_PRIORITY        1
#define MAX_PRIORITY        10

/* Views of this priority and better may use the last free refresh worker. */
#define CRITICAL_PRIORITY 3

/* Above this staleness a view is overdue. */
#define OVERDUE_STALENESS 0.7

/* --- what a view reads (dependencies.c) ------------------------------------ */

typedef struct Dependency
{
	Oid relid;        /* InvalidOid for a function or an expression */
	const char *name; /* of what is no relation */
	const char *kind;
	int depth;             /* 1 = named in the view's own definition */
	const char *untracked; /* why counters cannot tell, or NULL */
} Dependency;

typedef struct Dependencies
{
	Oid *relids; /* relations whose rows it reads; sorted, no duplicates */
	int nrelids;
	Oid *upstream; /* those of them that are matviews, and what these read in turn */
	int nupstream;
	uint64 fingerprint;    /* differs when the same counts could mean another result */
	const char *untracked; /* the first reason why counters cannot tell, or NULL */
	List *details;         /* of Dependency *, in the order of discovery */
} Dependencies;

/*
 * Reads the catalog; the result is palloc'd.  With nowait it gives NULL where
 * a definition is locked by DDL.  Errors: the view is gone, or is no matview.
 */
extern Dependencies *dependencies_resolve(Oid matview, bool nowait);

/* --- managed views (registry.c) -------------------------------------------- */

typedef struct ManagedView
{
	/* configuration, and what the catalog says now */
	Oid oid;
	char *schema;
	char *name;
	Oid owner;
	bool exists; /* false: dropped, waiting to be created again */
	bool populated;
	Strategy strategy;
	int64 interval;  /* microseconds */
	int64 threshold; /* rows */
	int priority;
	char *incremental; /* auto, always or never */
	TimestampTz managed_since;
	Oid *scan_relids; /* the view and its indexes: whose scans are its reads */
	int nscan_relids;

	/* what the last refresh saw; only with has_state */
	bool has_state;
	uint64 epoch;
	Oid *relids;
	int nrelids;
	Oid *upstream;
	int nupstream;
	uint64 fingerprint;
	char *untracked;
	uint64 seen_rows;
	uint64 seen_truncated;
	uint64 seen_unknown;
	uint64 seen_lost;
	uint64 seen_foreign;
	uint64 ddl_generation;
	int64 seen_reads;
	TimestampTz last_refresh; /* when its content was true; 0 = never */
	TimestampTz last_checked; /* when it was last found unchanged */
	int64 last_duration;      /* microseconds */
	int64 mean_duration;
	char *last_mode;
	char *last_error;
	char *last_sqlstate;
	int failures; /* in a row */
	TimestampTz retry_at;

	/* evaluated; see status_evaluate() */
	bool known;
	bool unchanged;
	bool chain_unchanged;
	bool fresh;
	bool truncated;
	bool no_room;       /* not all that it reads can be counted */
	bool redefined;     /* it does not read what it read at its last refresh */
	uint64 resolved_at; /* generation at which what it reads was found, if never refreshed */
	int64 pending;
	TimestampTz changed_since;
	double staleness;
	int64 reads;
	const char *reason;

	/* planned; see plan_make() */
	bool due;
	TimestampTz due_since; /* by its own strategy; 0 = it is not */
	bool skip;
	bool running;
	bool done;
	bool failed;  /* in this run of the plan */
	bool follows; /* due only because what it reads is */
	int effective_priority;
	const char *due_reason;
	TimestampTz next_at; /* DT_NOEND = nothing but a change makes it due */
	int64 wake_after;    /* rows more that make it worth a look; 0 = no number does */
	int mark;            /* for walks over the graph */
} ManagedView;

typedef struct Registry
{
	MemoryContext context;
	ManagedView *views;
	int nviews;
	bool trusts_definitions; /* DDL since the last look at them makes no view uncertain */
	ManagedView **by_oid;    /* sorted */
} Registry;

extern Registry *registry_load(MemoryContext context);

/* Reads some of its views anew.  What they held before stays allocated in its context. */
extern void registry_reload(Registry *registry, const Oid *views, int nviews);
extern ManagedView *registry_find(const Registry *registry, Oid oid);

/* Checks the definitions of views that DDL may have changed since their refresh. */
extern void registry_verify(Registry *registry, DatabaseState *db);

/* Loads, verifies and evaluates, in the current memory context: for SQL functions. */
extern Registry *registry_load_evaluated(DatabaseState *db);

/* Gives views that were dropped and created again their new OID, and renamed ones their name. */
extern void registry_rebind(void);

extern bool strategy_from_name(const char *name, Strategy *strategy);
extern const char *strategy_name(Strategy strategy);

/* --- how stale (status.c) ----------------------------------------------------- */

/* Evaluates all views from shared memory: no catalog access, no lock. */
extern void status_evaluate(Registry *registry, DatabaseState *db, TimestampTz now);

/* Staleness from 0 to 1; see the comment at the function. */
extern double staleness_score(double pending_share, double age_share);

/* --- refreshes in progress (slots.c) -------------------------------------------- */

typedef enum SlotState
{
	SLOT_FREE,
	SLOT_STARTING, /* a worker process was asked for */
	SLOT_RUNNING,  /* refreshing */
	SLOT_LOST,     /* the process ended in the middle of it */
	SLOT_IDLE      /* done; the process waits for the next view of its database */
} SlotState;

/* A refresh worker's place.  All fields under the slot lock. */
typedef struct RefreshSlot
{
	SlotState state;
	Oid dboid;
	Oid view;      /* what it refreshes, or refreshed last */
	uint32 job;    /* number of the job, to tell two of the same view apart */
	bool busy;     /* the view was locked by somebody else for too long */
	bool gave_way; /* it was cancelled for somebody who waited */
	bool quit;     /* the process is asked to end */
	pid_t pid;     /* 0 until the process runs */
	int procno;
	TimestampTz since; /* of the state */
	int requester;     /* number of the PGPROC that waits for the job; -1 = none */
	char source[8];    /* who wants it: worker, user or due; or what it is: merge (worker.h) */
	char reason[96];   /* why the view is refreshed */
} RefreshSlot;

extern void slots_init(void);
extern void slots_lock(bool exclusive);
extern void slots_unlock(void);
extern RefreshSlot *slots_array(void); /* PGOPT_MAX_REFRESH_SLOTS of them */

/* When the refresh of a view of this database that is in progress began, or 0. */
extern TimestampTz slots_running_since(Oid view);

/* May the current user see a view or table of this owner? */
extern bool matview_may_see(Oid owner);
extern bool matview_role_may_see(Oid role, Oid owner);

/* --- when due, and in which order (strategy.c, plan.c) ------------------------- */

/* What a strategy looks at: a pure function decides. */
typedef struct StrategyInput
{
	Strategy strategy;
	TimestampTz now;
	int64 interval;
	int64 threshold;
	bool refreshed; /* populated, and refreshed by pgopt before */
	bool known;     /* pending and truncated are exact */
	bool trackable; /* counters see everything that it reads */
	bool unchanged; /* certain: nothing changed, here or upstream */
	int64 pending;
	bool truncated;
	TimestampTz last_refresh;
	TimestampTz last_checked;
	TimestampTz changed_since; /* oldest change not seen yet; 0 = none known */
	int64 last_duration;
	int64 mean_duration;
	int64 stale_reads;
	int failures;
	TimestampTz retry_at;
	int64 naptime; /* microseconds between two looks at use */
} StrategyInput;

typedef struct StrategyDecision
{
	bool due;
	bool skip; /* its time has come, but it is certain that nothing changed */
	const char *reason;
	TimestampTz next_at;
	int64 wake_after;
} StrategyDecision;

extern StrategyDecision strategy_decide(const StrategyInput *input);

extern void plan_make(Registry *registry, TimestampTz now);

/* Plans one view, after what it reads and what is not fresh; or all views that a role owns. */
extern void plan_request(Registry *registry, ManagedView *view);
extern void plan_request_all(Registry *registry, Oid role);

/* Next view to refresh of at least this priority, or NULL. */
extern ManagedView *plan_next(Registry *registry, int worst_priority);

/* --- refresh (refresh.c) ------------------------------------------------------- */

typedef enum RefreshMode
{
	REFRESH_INCREMENTAL,
	REFRESH_CONCURRENT,
	REFRESH_FULL
} RefreshMode;

typedef struct RefreshResult
{
	RefreshMode mode;
	int64 duration; /* microseconds */
} RefreshResult;

/*
 * Refreshes a view in the current transaction, as its owner and with the
 * settings that were pinned when it was put under management, and records
 * what it saw.  Raises whatever the refresh raises.
 */
extern void
matview_refresh(Oid matview, const char *source, const char *reason, RefreshResult *result);

/* Views that are to be refreshed incrementally and cannot be at the next refresh; an OID list. */
extern List *matview_unprepared(void);

/*
 * Makes what an incremental refresh of a managed view needs, where the view is
 * to be refreshed so and it is not there yet, step by step: see
 * incremental_prepare().
 */
extern PrepareResult matview_prepare_incremental(Oid matview, char **reason, char **hint);

/*
 * Takes the lock that one refresh of a view at a time holds; readers do not
 * notice it.  Errors: 55P03 when it could not be had for some seconds.
 */
extern void matview_lock(Oid matview);

/*
 * Before the first refresh of a view in an epoch: keeps that it was begun, so
 * that one that takes the server down with it is not repeated at once.
 */
extern void matview_note_attempt(Oid matview);

/* It was not begun after all. */
extern void matview_forget_attempt(Oid matview);

/* Errors for a SQL function that writes, on a standby and in a read-only transaction. */
extern void matview_require_writable(const char *function);

/* One row of what pgopt_refresh(), pgopt_refresh_all() and pgopt_refresh_due() return. */
extern void matview_put_outcome(struct ReturnSetInfo *rsinfo, Oid matview, const char *outcome,
								const char *mode, int64 duration, const char *message);

/* Refreshes in a subtransaction of the caller's transaction; a failure is kept, and becomes a row. */
extern void
matview_refresh_isolated(struct ReturnSetInfo *rsinfo, ManagedView *view, const char *source);

/* Keeps a failure, in a transaction of the caller's that follows the failed one. */
extern void matview_note_failure(Oid matview, const char *source, const char *reason,
								 int64 duration, const ErrorData *error);

/* Keeps that a view was found unchanged at its time. */
extern void matview_note_unchanged(Oid matview, const char *source, const char *reason);

/*
 * The CREATE UNIQUE INDEX that would let it be refreshed CONCURRENTLY, or
 * NULL if there is one; with nowait also where the view is locked.
 */
extern char *matview_index_advice(Oid matview, bool nowait);

/* Deletes what pgopt.refresh_log_retention no longer wants. Returns the rows deleted. */
extern int64 matview_trim_log(void);

extern const char *refresh_mode_name(RefreshMode mode);

#endif /* PGOPT_MATVIEW_H */
