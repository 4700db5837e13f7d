/*
 * sources.h
 *		What the files that decide about a refresh share: sources.c, state.c,
 *		choice.c, incremental.c and explain.c.
 */
#ifndef PGOPT_SOURCES_H
#define PGOPT_SOURCES_H

#include "pgopt.h"

#include "nodes/pg_list.h"

#include "incremental.h"
#include "incremental_private.h"

/* A stored relation whose row log a view consumes. */
typedef struct Source
{
	Oid relid;
	Bitmapset *columns; /* attribute numbers minus FirstLowInvalidHeapAttributeNumber */
	int64 mark;         /* rowlog_mark() */
} Source;

/* Locks and lists them; palloc'd. */
extern List *sources_of(const IncrementalPlan *plan);
extern void sources_mark(List *sources, Snapshot snapshot);

/* --- pgopt.incremental_state (state.c) --------------------------------------- */

/* What was measured; 0 = not yet. */
typedef struct RefreshCosts
{
	int64 full_us;   /* computing everything */
	int64 fixed_us;  /* applying next to nothing */
	int64 change_ns; /* what each change adds to that */
} RefreshCosts;

typedef struct IncrementalState
{
	bool found;
	bool valid;
	char *reason;   /* why it is not valid, or NULL */
	Datum frontier; /* pg_snapshot; 0 = none */
	int nsources;
	Oid *sources;
	int64 *marks;
	int64 view_mark;
	uint64 fingerprint;
	RefreshCosts costs;
	char *last_error;
} IncrementalState;

extern void state_load(Oid matview, IncrementalState *state);
extern void state_save(Oid matview, const IncrementalState *state, List *sources, int64 changes);
extern void state_delete(Oid matview);

/* The next refresh computes everything, for this reason. */
extern void state_invalidate(Oid matview, const char *reason);

/* The pg_snapshot of a snapshot; are this transaction's own changes read? */
extern Datum frontier_of(Snapshot snapshot, bool reads_own);

/* --- which way is cheaper (choice.c) ------------------------------------------- */

/* Number of changes up to which applying them is expected to be cheaper than computing everything. */
extern int64 choice_limit(const RefreshCosts *costs);
extern double choice_predict_us(const RefreshCosts *costs, int64 changes);
extern void choice_learn_apply(RefreshCosts *costs, int64 changes, int64 duration);
extern void choice_learn_full(RefreshCosts *costs, int64 duration);

/* Why no refresh of the view can be incremental, or NULL; the hint too. */
extern char *
incremental_hindrance(IncrementalPlan *plan, const char *untracked, List *sources, char **hint);

#endif /* PGOPT_SOURCES_H */
