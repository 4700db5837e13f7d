/*
 * changes.h
 *		What committed, and how much of it: exact counts per table.
 *
 * Owns, in shared memory: one TableCounters a counted table, one
 * DatabaseState a database with managed views, the list of prepared
 * transactions, and the server's epoch.  All of it dies with the server; the
 * epoch tells a reader that it did.
 *
 * The promise: a change that committed is counted, or its table (or the whole
 * database) is marked as unknown.  The counts follow visibility at a distance
 * of microseconds; in_flight covers that distance, so a reader who looks at
 * in_flight first and at the counts after it never takes a table for
 * unchanged that is not.
 *
 * Locks: see pgopt.h for the order.  Counters are atomics: a partition lock
 * protects only which entries exist.  Entries that are registered or in
 * flight are never removed.
 *
 * Cost: a transaction without an id pays one comparison; one with an id pays,
 * for each table that it changed, two look-ups in a shared hash table and a
 * few atomic additions.  Nothing is paid per row.
 */
#ifndef PGOPT_CHANGES_H
#define PGOPT_CHANGES_H

#include "pgopt.h"

#include "port/atomics.h"
#include "storage/spin.h"

typedef struct TableKey
{
	Oid dboid;
	Oid relid;
} TableKey;

/*
 * Counts of one table since the server started (rows), of transactions that
 * truncated or dropped it, and of changes of unknown size.
 *
 * registered: a managed view reads it.  claimed_by: the transaction that
 * registered it, as long as others may not see why.  Both are under the
 * partition lock.  in_flight: transactions that may be visible but are not
 * counted yet, and prepared ones.  foreign: for a matview, changes that pgopt
 * did not make itself.  birth: number of the entry among all that were ever
 * made; one that was removed and made again never compares equal.
 */
typedef struct TableCounters
{
	TableKey key; /* hash key: must be first */
	bool registered;
	TransactionId claimed_by;
	uint64 birth;
	pg_atomic_uint32 in_flight;
	pg_atomic_uint64 inserted;
	pg_atomic_uint64 updated;
	pg_atomic_uint64 deleted;
	pg_atomic_uint64 truncated;
	pg_atomic_uint64 unknown;
	pg_atomic_uint64 foreign;
	pg_atomic_uint64 first_change; /* TimestampTz; not seen by all views yet; 0 = none */
	pg_atomic_uint64 last_change;  /* TimestampTz; 0 = none */
	pg_atomic_uint64 wake_at;      /* rows at which to wake the worker; UINT64_MAX = never */

	/* For a managed view: at this generation its definition gave this fingerprint. */
	pg_atomic_uint64 verified_generation;
	pg_atomic_uint64 verified_fingerprint;
} TableCounters;

/* Why changes of a whole database became unknown. */
typedef enum LostReason
{
	LOST_TRACK_COUNTS, /* a transaction wrote with track_counts off */
	LOST_PREPARED,     /* a prepared transaction could not be followed */
	LOST_CATALOG,      /* DDL whose effect on contents cannot be told (text search) */
	LOST_REASONS       /* number of reasons */
} LostReason;

/* Views whose state changed, that a worker can catch up with one by one. */
#define STATE_RING 64

/*
 * A database that pgopt looks after.
 *
 * epoch: random, see changes_epoch().  in_flight: transactions that will mark
 * the database as lost.  ddl_generation moves when what views read may have
 * been redefined, function_generation when a function was made, replaced or
 * dropped, or what functions find by name may be another, config_generation
 * when pgopt.matview or the extension changed; the first of these is held in
 * flight by ddl_in_flight as tables are.  state_ring holds the views whose
 * state changed last: number n in slot n % STATE_RING.  wanted: a worker found the extension, so one is to run.  waits_for_slot: the
 * worker found all refresh workers taken.  hold: pid of a backend that needs
 * the database to itself.  worker_beat: TimestampTz of the last cycle.
 */
typedef struct DatabaseState
{
	pg_atomic_uint32 dboid; /* InvalidOid = free */
	uint64 epoch;
	TimestampTz made_at; /* since when pgopt looks after it */
	pg_atomic_uint32 in_flight;
	pg_atomic_uint64 lost[LOST_REASONS];
	pg_atomic_uint64 lost_at; /* TimestampTz of the last one; 0 = never */
	pg_atomic_uint32 ddl_in_flight;
	pg_atomic_uint64 ddl_generation;
	pg_atomic_uint64 function_generation;
	pg_atomic_uint32 config_relid; /* pgopt.matview of this database */
	pg_atomic_uint64 config_generation;
	slock_t state_mutex; /* protects the two below */
	uint64 state_generation;
	Oid state_ring[STATE_RING];
	pg_atomic_uint32 worker_procno; /* number + 1 of its PGPROC; 0 = none */
	pg_atomic_uint32 worker_pid;
	pg_atomic_uint64 worker_beat;
	pg_atomic_uint32 wanted;
	pg_atomic_uint32 waits_for_slot;
	pg_atomic_uint32 hold;
	pg_atomic_uint32 wants_ddl;        /* the worker wants to be woken by the next DDL */
	pg_atomic_uint32 prepared_adopted; /* those from before the start were looked at */
} DatabaseState;

/* Sums over the tables that a view reads; compare two of them for equality, never for order. */
typedef struct ChangeSums
{
	uint64 rows; /* inserted + updated + deleted */
	uint64 truncated;
	uint64 unknown;
	TimestampTz first_change; /* oldest unseen; 0 = none */
	TimestampTz last_change;
	bool in_flight;
	bool complete; /* every table has an entry */
} ChangeSums;

/* --- life cycle ------------------------------------------------------------ */

extern void changes_init(void); /* hooks and callbacks; called once by _PG_init */

/*
 * A number that differs for every start of the server, crash restarts
 * included, and for every database: counters of one epoch mean nothing in
 * another.  0 where the database has none.
 */
extern uint64 changes_epoch(void);

/* --- databases (databases.c) ----------------------------------------------- */

/* This database's state; NULL where it has none (yet). */
extern DatabaseState *database_state(void);

/*
 * This database's state, made if need be; NULL only when the table of
 * databases is full.  Looks at prepared transactions from before (catalog
 * access), so it must run in a transaction.
 */
extern DatabaseState *database_attach(void);
extern DatabaseState *database_state_of(Oid dboid);
extern void database_forget(Oid dboid);

/*
 * Keeps workers out of a database for this backend, whether or not pgopt looks
 * after it; NULL when another backend does, or the table of databases is full.
 */
extern DatabaseState *database_hold(Oid dboid);
extern void database_unhold(DatabaseState *db);
extern uint64 database_lost(DatabaseState *db);
extern void database_mark_lost(DatabaseState *db, LostReason reason);

/*
 * Wakes the worker for DDL.  Of many statements one does: it looks at
 * definitions once a second at most.
 */
extern void database_wake_for_ddl(DatabaseState *db);

/* Makes the workers of all databases look at the definitions of their views again. */
extern void databases_redefine_all(void);

/* Sets the latch of the database's worker; harmless when there is none. */
extern void database_wake_worker(DatabaseState *db);

/* Adds to, and reads, the list of views whose state changed. */
extern void database_push_state_change(DatabaseState *db, Oid matview);
extern uint64 database_state_generation(DatabaseState *db);

/*
 * Views whose state changed after generation *seen, which is moved on.
 * Returns their number, or -1 if there were more than are kept.
 */
extern int database_take_state_changes(DatabaseState *db, uint64 *seen, Oid *views);

/* Wakes this database's worker, and those that wait for a refresh worker to become free. */
extern void databases_wake_waiting(void);

/* --- the launcher's mail (databases.c) -------------------------------------- */

/* Asks the launcher to look at a database (InvalidOid: at the list of databases). */
extern void launcher_request_probe(Oid dboid);
extern bool launcher_take_probe(Oid *dboid, bool *all);
extern void launcher_announce(int procno); /* its PGPROC number; -1 = gone */
extern bool launcher_is_running(void);
extern void launcher_wake(void);

/* --- counters (counters.c) -------------------------------------------------- */

/* Entry of a table, or NULL.  Valid for as long as it is registered or in flight. */
extern TableCounters *counters_find(Oid dboid, Oid relid);

/* Makes sure that a table of this database is counted; NULL when shared memory is full. */
extern TableCounters *counters_register(Oid relid);

/*
 * The same for a transaction that is about to commit what makes a view need
 * the table.  Assigns a transaction id.
 */
extern TableCounters *counters_claim(Oid relid);

/*
 * Lets go of tables of this database that are not in the (sorted) list and
 * were not claimed by a transaction that a snapshot with this xmin may not see.
 */
extern void counters_retain(const Oid *relids, int nrelids, TransactionId xmin);

/* Removes entries of this database, or of one that is gone. */
extern void counters_forget_database(Oid dboid);

/* Sums over tables; missing entries make it incomplete. */
extern void counters_sum(const Oid *relids, int nrelids, ChangeSums *sums);

/* Tables of this database that have an entry; palloc'd. */
extern Oid *counters_list(int *count);

/* Has the definition of a managed view been looked at in this generation, with this result? */
extern bool counters_is_verified(Oid view, uint64 generation, uint64 fingerprint);
extern void counters_set_verified(Oid view, uint64 generation, uint64 fingerprint);

/* Number of tables counted in the server now. */
extern int64 counters_in_use(void);

/* Number of times that a table could not be registered for want of room. */
extern uint64 counters_refused(void);

/* --- the transaction callback (tracker.c) ------------------------------------ */

/*
 * Says that the change of this matview in the current transaction is pgopt's
 * own.  Forgotten at the end of the transaction and when its subtransaction
 * aborts.  Other changes of it count as somebody else's; a REFRESH statement in
 * the transaction makes all its changes of matviews so.
 */
extern void tracker_own_refresh(Oid matview);

/* Tells the worker, at commit, that this view's row in pgopt.matview_state changed. */
extern void tracker_note_state_change(Oid matview);

/*
 * Adds what the current transaction itself has changed so far in these
 * (sorted) tables: its own refresh sees it, but it is counted at commit.
 */
extern void tracker_add_own_changes(const Oid *relids, int nrelids, ChangeSums *sums);

/* --- prepared transactions (prepared.c) --------------------------------------- */

extern void prepared_adopt(DatabaseState *db);
extern void prepared_reconcile(DatabaseState *db);
extern int prepared_count(Oid dboid);

#endif /* PGOPT_CHANGES_H */
