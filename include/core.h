/*
 * core.h
 *		Settings, shared memory, and the one way in which pgopt runs SQL.
 *
 * Owns: the GUC variables; the request for shared memory (each room asks for
 * its own part); the SPI helper.  Locks: none of its own.  Memory: what the
 * SPI helper returns lives in the context that the caller names.
 */
#ifndef PGOPT_CORE_H
#define PGOPT_CORE_H

#include "pgopt.h"

#include "executor/spi.h"
#include "tcop/utility.h"

/* --- settings (settings.c) ------------------------------------------------ */

extern bool pgopt_auto_refresh;         /* may workers refresh? */
extern int pgopt_max_refresh_workers;   /* refreshes at once, whole server */
extern int pgopt_refresh_lock_timeout;  /* ms; 0 = wait for ever */
extern int pgopt_refresh_log_retention; /* minutes; 0 = keep everything */
extern int pgopt_worker_naptime;        /* ms */
extern bool pgopt_track_all_tables;     /* count tables that no view reads? */
extern int pgopt_max_tracked_tables;    /* entries in shared memory */

extern void settings_init(void);

/* Sets lock_timeout until the caller's GUC nest level ends. */
extern void settings_set_lock_timeout(int milliseconds);

/* --- shared memory (shmem.c) ---------------------------------------------- */

/* Was the library loaded by shared_preload_libraries, with shared memory? */
extern bool pgopt_is_preloaded(void);

/* What a room needs of shared memory: called in the postmaster, in the order of shmem_add_room(). */
typedef struct ShmemRoom
{
	void (*request)(void); /* RequestAddinShmemSpace() and friends */
	void (*startup)(void); /* under AddinShmemInitLock */
} ShmemRoom;

extern void shmem_init(void);
extern void shmem_add_room(const ShmemRoom *room);

#define PGOPT_PRELOAD_HINT \
	"Add this line to postgresql.conf and restart: shared_preload_libraries = 'pgopt'"

/* Raises a clear error, with the line to add, when pgopt is not preloaded. */
extern void pgopt_require_preload(const char *what);

/* --- hooks (hooks.c) ------------------------------------------------------- */

/* Hands a utility statement on to the hook that was there before, or to the server. */
extern void
next_ProcessUtility(ProcessUtility_hook_type previous, PlannedStmt *pstmt, const char *queryString,
					bool readOnlyTree, ProcessUtilityContext context, ParamListInfo params,
					QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc);

/* --- attempts (try.c) ------------------------------------------------------ */

/*
 * Runs the callback in a subtransaction.  Returns NULL, or the error that it
 * raised, in the current context; whatever it did is then undone, and also
 * after success unless it is to be kept.  Rolling back gives back locks, the
 * user and settings.  That somebody cancels the caller, or ends the server, is
 * raised again.
 */
extern ErrorData *core_try(void (*callback)(void *arg), void *arg, bool keep);

/* --- collations (collation.c) --------------------------------------------- */

/* Does it compare bytes, so that a plain B-tree of text finds LIKE 'x%'? */
extern bool collation_is_c(Oid collation);

/* --- SQL (spi.c) ---------------------------------------------------------- */

/*
 * State between pgopt_spi_begin() and pgopt_spi_end(): all SQL that pgopt
 * runs on its own tables runs as the owner of the extension, with search_path
 * pinned to pg_catalog.  An error in between needs no clean-up by the caller:
 * (sub)transaction abort restores user and settings.
 */
typedef struct PgoptSpi
{
	Oid save_userid;
	int save_sec_context;
	int save_nestlevel;
} PgoptSpi;

extern void pgopt_spi_begin(PgoptSpi *spi);

/*
 * A bit of our own in the security context, beside the server's: what runs
 * under it is pgopt's doing, and no part of the workload.  It goes away as the
 * others do, at the end of the block or of the (sub)transaction.
 */
#define PGOPT_SECURITY_OWN 0x4000

/* The same as the caller: for the server's catalogs and statistics, of which everybody sees what is theirs. */
extern void pgopt_spi_begin_as_caller(PgoptSpi *spi);
extern void pgopt_spi_end(PgoptSpi *spi);

/* Runs one statement with parameters; expected is an SPI_OK_* code. Returns the rows processed. */
extern uint64 pgopt_spi_execute(const char *sql, int nargs, Oid *types, Datum *values,
								const char *nulls, bool read_only, int expected);

/*
 * The same for a statement that is run often: *kept, a static variable of the
 * caller's that starts as NULL, keeps its plan for the life of the backend.
 */
extern uint64
pgopt_spi_execute_kept(SPIPlanPtr *kept, const char *sql, int nargs, Oid *types, Datum *values,
					   const char *nulls, bool read_only, int expected);

/* One column of one row of SPI_tuptable; text comes back palloc'd in the current context. */
extern Datum pgopt_spi_value(uint64 row, int column, bool *isnull);
extern char *pgopt_spi_text(uint64 row, int column);

/* OID of the extension in this database, or InvalidOid. */
extern Oid pgopt_extension_oid(void);

/* OID of one of pgopt's own tables, or InvalidOid where the extension is not installed. */
extern Oid pgopt_table_oid(const char *name);

#endif /* PGOPT_CORE_H */
