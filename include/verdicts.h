/*
 * verdicts.h
 *		Whether indexes that were made have made statements faster, or slower.
 *
 * The workload counts in periods, one of which ends whenever an index comes or
 * goes; so the times of a statement before and after are known apart.  They are
 * told from chance by Welch's test.
 *
 * Locks: AccessShare on the tables of the workload's statements, as preparing
 * them takes.  Memory: the caller's context.  Cost: the analysis of each
 * statement of the workload, and a query for each index that is judged.
 */
#ifndef PGOPT_VERDICTS_H
#define PGOPT_VERDICTS_H

#include "pgopt.h"

#include "nodes/pg_list.h"

#include "relations.h"

typedef enum StatementOutcome
{
	OUTCOME_TOO_FEW, /* calls to compare */
	OUTCOME_SAME,
	OUTCOME_FASTER,
	OUTCOME_SLOWER,
} StatementOutcome;

/* What is known of the executions in some periods. */
typedef struct Timing
{
	double calls;
	double milliseconds; /* their sum */
	double squares;      /* sum of their squares */
} Timing;

typedef struct StatementVerdict
{
	int64 queryid;
	bool writes; /* to the index's table */
	Timing before;
	Timing after;
	double t; /* Welch's statistic; where there are enough calls */
	StatementOutcome outcome;
} StatementVerdict;

typedef enum IndexOutcome
{
	INDEX_TOO_EARLY,
	INDEX_KEEP,
	INDEX_REVERT, /* a statement that reads got slower, or writes lost more than others gained */
	INDEX_UNUSED,
} IndexOutcome;

typedef struct IndexVerdict
{
	const RelationIndex *index;
	bool advised;
	TimestampTz created;
	List *statements; /* StatementVerdict, those that matter most first */
	int faster;
	int slower;
	double saved; /* milliseconds, by those that are faster or slower, over their calls since */
	IndexOutcome outcome;
	char *
		revert; /* statement; NULL where nothing got slower, or it is there for more than queries */
	char *reason;
} IndexVerdict;

/* Of all indexes that were advised, and then of others that came since the workload is known. */
extern List *verdicts_read(const Relations *relations, bool advised_only);

#endif /* PGOPT_VERDICTS_H */
