/*
 * rowlog_internal.h
 *		What the files of the room rowlog share.
 *
 * A log's columns: xid, op, same, and for each column of the relation that is
 * captured a pair, o<attnum> and n<attnum>, with its old and its new value.
 * Of an UPDATE's values that stay as they were only the old one is kept; bit k
 * of same says that pair k is such a one.
 */
#ifndef PGOPT_ROWLOG_INTERNAL_H
#define PGOPT_ROWLOG_INTERNAL_H

#include "pgopt.h"

#include "access/attnum.h"
#include "nodes/bitmapset.h"
#include "nodes/execnodes.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"
#include "utils/reltrigger.h"

#include "rowlog.h"

#define LOG_INSERT 'I'
#define LOG_UPDATE 'U'
#define LOG_DELETE 'D'
#define LOG_LOST   'X' /* changes that were not logged */

/* Columns of a log before its pairs. */
#define LOG_XID           1
#define LOG_OP            2
#define LOG_SAME          3
#define LOG_FIXED_COLUMNS 3

#define LOG_OLD(pair)     (LOG_FIXED_COLUMNS + 1 + 2 * (pair))
#define LOG_NEW(pair)     (LOG_FIXED_COLUMNS + 2 + 2 * (pair))

/* A captured column. */
typedef struct LogPair
{
	AttrNumber attnum; /* in the relation; 0: it is no longer what is logged */
	int16 length;
	bool by_value;
} LogPair;

/* What this backend knows of a relation's log. */
typedef struct LogShape
{
	Oid relid;        /* hash key */
	bool is_valid;    /* false after relcache invalidation */
	bool is_captured; /* there is a log, and for a table the trigger fires always */
	Oid log;          /* InvalidOid: none */
	Oid index;        /* on xid */
	IndexInfo *index_info;
	int npairs;
	LogPair *pairs;
	AttrNumber last_attnum; /* of the captured ones */
	MemoryContext context;  /* of what hangs from it */

	bool is_full;    /* what was written last was past the limit */
	uint64 lost_xid; /* the transaction, and its subtransaction, that wrote LOG_LOST last */
	SubTransactionId lost_subid;
} LogShape;

/* --- shape.c ----------------------------------------------------------------- */

/* Never NULL. The caller has a lock on the relation; right until the next lock is taken. */
extern LogShape *shape_get(Relation rel);

/* Opens the log with a lock on it; NULL where there is none. */
extern Relation shape_open_log(Relation rel, LOCKMODE lockmode, LogShape **shape);

/* A log's index on xid. */
extern Oid rowlog_index(Relation log);

/* Index of the pair that holds a column, or -1. */
extern int shape_find_pair(const LogShape *shape, AttrNumber attnum);

extern void shape_init(void);

/* --- capture.c --------------------------------------------------------------- */

/* OID of pgopt.log_change(), or InvalidOid. */
extern Oid rowlog_function(void);

extern void rowlog_log_name(Oid relid, NameData *name);

/* The relation's log, or InvalidOid; its trigger, or NULL. */
extern Oid rowlog_find_log(Oid relid);
extern Trigger *rowlog_find_trigger(Relation rel);

/* The log that a snapshot sees, and its number of columns. */
extern Oid rowlog_visible_log(Oid relid, Snapshot snapshot, int *ncolumns);

/* Takes a lock without queueing for it; false if it could not be had in this time. */
extern bool rowlog_poll_lock(Oid relid, LOCKMODE lockmode, int milliseconds);

/* What a publication of all tables would do to logs, palloc'd; NULL where there is none. */
extern char *rowlog_publication(void);

/* Ends the capture; the caller holds AccessExclusiveLock on the relation and on its log, where they exist. */
extern void capture_end(Oid relid);

#endif /* PGOPT_ROWLOG_INTERNAL_H */
