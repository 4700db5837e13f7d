/*
 * rowlog.h
 *		Which rows changed: a log of old and new values for each table whose
 *		managed views are refreshed incrementally.
 *
 * Owns the tables pgopt.row_log (which relations are captured) and
 * pgopt.log_<oid> (the changes of one relation), and the internal trigger that
 * writes them.  A log holds only the columns that some view reads, and no row
 * for an UPDATE that changes none of them.
 *
 * Each change is kept with the number of its top-level transaction.  A reader
 * names the snapshot up to which it has read before, its frontier, and gets
 * what its own snapshot sees and the frontier did not: never less, never twice,
 * in whatever order transactions commit.
 *
 * Locks: capturing needs SHARE ROW EXCLUSIVE on the table for a moment, under
 * pgopt.refresh_lock_timeout; writing, ROW EXCLUSIVE on the log until the end
 * of the writer's transaction, even where there is nothing to log, so that
 * whoever changes the log's columns knows that all its writers have ended.
 *
 * Memory: nothing outlives the call but the cached shape of each log, in
 * CacheMemoryContext, forgotten by relcache invalidation.
 *
 * Cost: a changed row costs its writer one row in the log and one entry in the
 * log's index on the transaction's number; reading costs what changed since the
 * frontier's oldest running transaction.
 */
#ifndef PGOPT_ROWLOG_H
#define PGOPT_ROWLOG_H

#include "pgopt.h"

#include "access/attnum.h"
#include "executor/tuptable.h"
#include "nodes/bitmapset.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"
#include "utils/tuplestore.h"

extern int pgopt_incremental_log_limit; /* kB a relation; past it the log is dropped */

/* rowlog_read() gives these instead of a number of rows. */
#define ROWLOG_TOO_MANY (-1) /* more than the limit */
#define ROWLOG_LOST     (-2) /* the log was dropped in between, or never complete */

extern void rowlog_init(void);

/*
 * Why changes of a stored relation (a table, a partition, a matview) cannot be
 * captured for a view of this owner, palloc'd, or NULL.  Columns are attribute
 * numbers minus FirstLowInvalidHeapAttributeNumber.
 */
extern char *rowlog_why_not(Oid relid, Oid owner, const Bitmapset *columns);

/* Is it captured now, with at least these columns? */
extern bool rowlog_covers(Oid relid, const Bitmapset *columns);

/*
 * Captures a relation from here on, with these columns besides those that are
 * captured already.  Returns false when a lock could not be had in time:
 * nothing has changed then.  Changes of transactions that have ended before are
 * not in the log: a snapshot taken after the caller's commit sees them all.
 */
extern bool rowlog_ensure(Oid relid, const Bitmapset *columns);

/* Ends it, and drops the log.  Returns false when a lock could not be had. */
extern bool rowlog_drop(Oid relid);

/*
 * What tells that nothing happened to a relation but logged changes: differs
 * after TRUNCATE, a rewrite, DDL, REFRESH, or a trigger that was disabled, as
 * the snapshot sees it.
 */
extern int64 rowlog_mark(Oid relid, Snapshot snapshot);

/*
 * Appends to the store the changes of the relation that the snapshot sees and
 * the frontier (a pg_snapshot) does not: the named columns, then the weight, 1
 * for a row that came and -1 for one that went.  A change of none of the named
 * columns is left out.  Returns the number of changes read, or ROWLOG_TOO_MANY,
 * or ROWLOG_LOST.
 */
extern int64 rowlog_read(Oid relid, int ncolumns, const AttrNumber *attnums, Datum frontier,
						 Snapshot snapshot, int64 limit, Tuplestorestate *store, TupleDesc desc);

/* Has the current transaction itself written to the log? */
extern bool rowlog_written_by_me(Oid relid);

/*
 * Logs a change of a matview that its refresh made; either slot may be NULL.
 * Does nothing where it is not captured.
 */
extern void rowlog_append(Relation rel, TupleTableSlot *old, TupleTableSlot *new);

/* Bytes on disk, indexes and TOAST included; 0 where it is not captured. */
extern int64 rowlog_bytes(Oid relid);

/*
 * Deletes what every valid view in pgopt.incremental_state has read, gives up
 * views whose part of a log passed the limit, and ends the capture of what no
 * managed view needs.  Queues for no lock; returns false if one that could not
 * be had has left a capture for the next call to end.  The caller begins and
 * commits a transaction for it.
 */
extern bool rowlog_maintain(void);

#endif /* PGOPT_ROWLOG_H */
