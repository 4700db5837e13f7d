/*
 * monitor.h
 *		What users look at in psql: sessions, locks, sizes, statistics.
 *
 * Nearly all of it is views in the install script ("Monitoring views"), which
 * run with their reader's rights.  Here is only what a view cannot say: where
 * pg_stat_statements lives, sizes that are measured without waiting for
 * anybody's lock, and statistics that not every server version has.
 *
 * Owns no shared memory (the window of counters, in the same room, has a header
 * of its own) and takes no lock on users' relations.  Memory: the context of
 * the caller.
 */
#ifndef PGOPT_MONITOR_H
#define PGOPT_MONITOR_H

#include "pgopt.h"

#include "catalog/pg_class.h"
#include "datatype/timestamp.h"
#include "storage/buf.h"

#define MONITOR_STATEMENTS "pg_stat_statements"

/* Is it among the libraries that the server loaded when it started? */
extern bool monitor_statements_preloaded(void);

/* --- files of relations (relation_size.c) -------------------------------------- */

/* What its files take now, without opening it; -1 where it has none or is gone. */
extern double relation_file_bytes(Oid oid);

/* When its file was made, where the system tells; else 0.  A rewritten one's is younger than the relation. */
extern TimestampTz relation_file_created(Oid oid);

/* --- sequences (sequence.c) ------------------------------------------------------ */

/*
 * The only row of a sequence, whose entry of pg_class was read under
 * RowExclusiveLock, or its file may be another one by now.  False where its
 * page is none of a sequence's.
 */
extern bool sequence_read(Form_pg_class class, BufferAccessStrategy strategy, int64 *last_value,
						  bool *is_called);

#endif /* PGOPT_MONITOR_H */
