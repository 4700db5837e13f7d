/*
 * matview_internal.h
 *		What the files of this room share with each other only.
 */
#ifndef PGOPT_MATVIEW_INTERNAL_H
#define PGOPT_MATVIEW_INTERNAL_H

#include "matview.h"

#include "utils/rel.h"

/* What the counters said before the snapshot was taken. */
typedef struct Baseline
{
	Dependencies *dependencies;
	ChangeSums sums;
	uint64 ddl_generation;
	uint64 lost;
	uint64 foreign;
	int64 reads;
	TimestampTz taken;
} Baseline;

/* index.c */
extern bool matview_has_usable_index(Relation rel, bool nowait);

/* outcome.c */
extern int64 outcome_pending(Oid matview, const Baseline *baseline);
extern void outcome_record(Oid matview, const Baseline *baseline, const RefreshResult *result);
extern void outcome_log(Oid matview, const char *source, const char *reason, const char *outcome,
						const char *mode, int64 duration, int64 pending, const char *sqlstate,
						const char *message);

/*
 * refresh.c: how a matview would be refreshed now, managed or not; a list of
 * RefreshPart * (incremental.h)
 */
extern List *matview_explain(Oid matview);

/* refresh.c: the quoted name of a relation with its schema, palloc'd */
extern char *relation_qualified_name(Relation rel);

#endif /* PGOPT_MATVIEW_INTERNAL_H */
