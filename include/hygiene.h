/*
 * hygiene.h
 *		Which indexes are broken, which nobody needs, and which foreign keys have
 *		none.
 *
 * What is told of all indexes holds together: whoever follows all of it at
 * once is left, for each query and each foreign key that an index serves, with
 * one that serves it.  An index that takes the place of another stays; one
 * that goes takes nobody's place.
 *
 * An index of a partition is the business of the partitioned table's index:
 * judged there, and here only what a partition has of its own otherwise.
 *
 * Owns no shared memory and takes no lock but those of planning the workload's
 * statements on tables with an index that may be unused.  Memory: the
 * caller's context.  Cost: some comparisons for each pair of indexes of a table,
 * besides the planning.
 */
#ifndef PGOPT_HYGIENE_H
#define PGOPT_HYGIENE_H

#include "pgopt.h"

#include "nodes/pg_list.h"

#include "relations.h"
#include "threshold.h"

extern Threshold
	hygiene_unused_info; /* how long an index must have been watched to be called unused */
extern Threshold hygiene_unused_warning; /* to be sure */

/* Scans below which an index is rarely used. */
#define HYGIENE_RARE_SCANS 10

typedef enum IndexFault
{
	FAULT_NONE,
	FAULT_INVALID,
	FAULT_DUPLICATE,   /* another one does the same; cover */
	FAULT_REDUNDANT,   /* another one begins with its keys; cover */
	FAULT_UNUSED,      /* for as long as it takes to say so */
	FAULT_RARELY_USED, /* the same */
	FAULT_UNSEEN,      /* not used, but for less long than that, or by nobody who is seen here */
} IndexFault;

typedef struct IndexJudgement
{
	IndexFault fault;
	const RelationIndex *cover; /* what takes its place */
	const RelationIndex
		*longer;       /* what begins with its keys, where it goes for that or as a duplicate */
	bool covers;       /* it takes the place of another one */
	TimestampTz since; /* its scans are counted since then; 0 = not known */
} IndexJudgement;

typedef struct Hygiene
{
	const Relations *relations;
	TimestampTz now;
	TimestampTz since;         /* scans are counted since then; 0 = not known */
	bool reset;                /* because somebody reset them */
	int standbys;              /* that are connected and may have scans of their own */
	int slots;                 /* of standbys that are not connected */
	double seconds;            /* for which an index must have been watched */
	IndexJudgement *judgement; /* of each of relations->indexes */
} Hygiene;

/* Judges all indexes; whether those of fewer bytes are used is not asked. */
extern Hygiene *hygiene_judge(const Relations *relations, TimestampTz now, double unused_bytes);

static inline IndexJudgement *
hygiene_of(const Hygiene *hygiene, const RelationIndex *index)
{
	return &hygiene->judgement[index - hygiene->relations->indexes];
}

/* Does it go, by itself or with the partitioned index that it belongs to? */
extern bool hygiene_drops(const Hygiene *hygiene, const RelationIndex *index);

/* Does a primary key, unique or exclusion constraint own it? */
extern bool index_has_constraint(const RelationIndex *index);

/* Is it there for queries alone: neither unique, nor a replica identity, nor what a table is clustered on? */
extern bool index_is_for_queries(const RelationIndex *index);

/* As the catalog has it by now, and nobody is just building or dropping it. */
extern bool index_is_invalid(const RelationIndex *index);

/* Was it left over by a REINDEX CONCURRENTLY? */
extern bool index_is_leftover(const RelationIndex *index);

/* What gets rid of one that no constraint owns, and what that locks. */
extern char *index_drop_sql(const RelationIndex *index, const char *name, const char **lock);

/*
 * What mends one that is invalid: to build it anew, or to drop it where that is
 * of no use, or would fail again (*failed: because of duplicates).
 */
extern char *index_invalid_sql(const Hygiene *hygiene, const RelationIndex *index, const char *name,
							   const char **lock, bool *failed);

/* --- foreign keys (hygiene_keys.c) --------------------------------------------- */

/* Has a foreign key of the users' own no index that finds the rows that refer to a given one? */
extern bool key_lacks_index(const RelationConstraint *constraint);

/* Would an index on the columns of one serve the other, too? */
extern bool key_serves_key(const RelationConstraint *longer, const RelationConstraint *shorter);

/* Would a foreign key have no index if this one went, and those that go anyway? hygiene may be NULL. */
extern bool key_needs_index(const Hygiene *hygiene, const RelationIndex *index);

/* "a, b", quoted; NULL where one is gone. */
extern char *key_columns(const RelationConstraint *constraint);

/* CREATE INDEX, and what it locks; name: of the index, quoted, or NULL for one that the server chooses. */
extern char *
key_index_sql(const RelationConstraint *constraint, const char *name, const char **lock);

/* --- plans (hygiene_plans.c) ----------------------------------------------------- */

/* OIDs of indexes that the workload's statements use; of those on the tables given (roots, by OID), or partitions. */
extern List *hygiene_planned_indexes(const Relations *relations, List *roots);

#endif /* PGOPT_HYGIENE_H */
