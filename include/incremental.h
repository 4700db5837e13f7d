/*
 * incremental.h
 *		Refreshes a materialized view by what changed in what it reads.
 *
 * Owns pgopt.incremental_state and, through its files, the tables with the
 * state of each view's groups.  A refresh takes one snapshot.  What the row
 * logs (rowlog.h) hold that this snapshot sees, and the one of the refresh
 * before did not, is turned into changes of the view's rows; these, the groups'
 * state and the new frontier are written in one transaction.  Whatever makes
 * that uncertain leads to a full refresh, which makes the state anew.
 *
 * The order of a refresh, in matview_refresh():
 *
 *	1. incremental_begin(), before the snapshot: compiles the view, locks what it reads;
 *	2. incremental_choose(), in the snapshot: what can be done, and what is cheapest;
 *	3. incremental_apply(), or incremental_compute(), or the caller's own full refresh;
 *	4. incremental_record().
 *
 * Locks: the caller holds ExclusiveLock on the view, which makes it the only
 * writer of its state; ACCESS SHARE on what the view reads.  Memory: an
 * IncrementalRefresh lives in the caller's context; compiled views are kept in
 * the backend.
 *
 * Cost: proportional to the changes; with none, a look at each row log.
 */
#ifndef PGOPT_INCREMENTAL_H
#define PGOPT_INCREMENTAL_H

#include "pgopt.h"

#include "nodes/pg_list.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

typedef enum IncrementalMode
{
	INCREMENTAL_NEVER,
	INCREMENTAL_AUTO,
	INCREMENTAL_ALWAYS
} IncrementalMode;

extern bool incremental_mode_from_name(const char *name, IncrementalMode *mode);
extern const char *incremental_mode_name(IncrementalMode mode);

/* How a refresh is to be done. */
typedef enum RefreshWay
{
	WAY_APPLY,   /* what changed is applied */
	WAY_COMPUTE, /* all groups are computed; what differs is written */
	WAY_FULL     /* the view's query is run; a view of groups needs incremental_compute() for it */
} RefreshWay;

typedef struct IncrementalRefresh IncrementalRefresh;

/* NULL where the mode is never.  untracked and fingerprint are those of the view's dependencies. */
extern IncrementalRefresh *
incremental_begin(Relation rel, IncrementalMode mode, const char *untracked, uint64 fingerprint);

/* pending: rows changed since the last refresh as the counters have it, or -1. */
extern RefreshWay incremental_choose(IncrementalRefresh *refresh, bool populated, int64 pending);

/*
 * Applies what changed.  Returns false when it could not be done: nothing is
 * changed then, and a full refresh must follow in the same snapshot.
 */
extern bool incremental_apply(IncrementalRefresh *refresh, uint64 *rows);

/* Does a full refresh have to make the state of groups too, by incremental_compute()? */
extern bool incremental_has_groups(const IncrementalRefresh *refresh);

/*
 * Computes all rows of a view that groups, with its state, and writes them to
 * the view itself, what is equal being left alone (concurrently), or to a new
 * heap that the caller swaps in.  Returns the rows written.
 */
extern uint64 incremental_compute(IncrementalRefresh *refresh, Relation target, bool concurrently);

/*
 * Runs what computes groups in a subtransaction.  Returns false when it failed:
 * the reason is kept, and the view has to be refreshed without its state.
 */
extern bool incremental_try(IncrementalRefresh *refresh, void (*callback)(void *arg), void *arg);
extern bool incremental_try_compute(IncrementalRefresh *refresh, Relation rel, uint64 *rows);

/* Writes what the next refresh has to know, in the transaction of this one.  duration: microseconds. */
extern void
incremental_record(IncrementalRefresh *refresh, Relation rel, RefreshWay way, int64 duration);

typedef enum PrepareResult
{
	PREPARE_DONE,
	PREPARE_MORE,   /* one step was taken: to be called again, if need be in the next transaction */
	PREPARE_REFUSED /* something stands in the way */
} PrepareResult;

/*
 * Makes what incremental refresh of a view needs: row logs and tables for its
 * groups, one table's log a call.  Takes SHARE ROW EXCLUSIVE on that table
 * until the end of the transaction, so whoever can should commit in between.
 * Reason and hint are for PREPARE_REFUSED.
 */
extern PrepareResult
incremental_prepare(Oid matview, const char *untracked, char **reason, char **hint);

/* The view is no longer to be refreshed incrementally. */
extern void incremental_forget(Oid matview);

/* What pgopt_matviews shows of it. */
typedef struct IncrementalStatus
{
	bool found;
	char *reason;      /* why the next refresh cannot be incremental, or NULL */
	int64 log_bytes;   /* of the logs that it reads, which other views may share */
	int64 state_bytes; /* of its groups' state */
} IncrementalStatus;

extern void incremental_status(Oid matview, IncrementalStatus *status);

/* A row of what pgopt_explain_refresh() shows. */
typedef struct RefreshPart
{
	const char *part;
	const char *way;
	const char *reason;
	double cost_ms; /* as measured; negative = not known */
	const char *hint;
} RefreshPart;

/*
 * How the view would be refreshed now, and each of its parts, as a list of
 * RefreshPart *; after incremental_choose(), which gave this way.
 */
extern List *incremental_explain(IncrementalRefresh *refresh, RefreshWay way, int64 pending);

/*
 * Tidies the row logs and what belonged to views that are gone, in a
 * transaction of its own.  Returns false if something is left to do that a lock
 * stood in the way of.
 */
extern bool incremental_maintain(void);

#endif /* PGOPT_INCREMENTAL_H */
