/*
 * statement.h
 *		Statements of the workload, ready to be planned.
 *
 * Parsed, analysed and planned as the user who ran them, under
 * SECURITY_RESTRICTED_OPERATION and their search_path: planning may run their
 * functions.  Each in a subtransaction, so that one that cannot be planned any
 * more is left out with its reason and harms no other.
 */
#ifndef PGOPT_STATEMENT_H
#define PGOPT_STATEMENT_H

#include "pgopt.h"

#include "nodes/bitmapset.h"
#include "nodes/params.h"
#include "nodes/plannodes.h"
#include "utils/array.h"

#include "workload.h"

/* One sample of a statement, analysed and rewritten. */
typedef struct AdvisorQuery
{
	struct AdvisorStatement *statement;
	Query *query; /* never changed: the planner gets a copy */
	ParamListInfo params;
	const char *text;
	double
		weight; /* share of the statement's calls that it stands for; the shares of a statement are 1 together */
} AdvisorQuery;

typedef struct AdvisorStatement
{
	int id;
	int64 queryid;
	Oid userid;
	double calls;        /* at least 1 */
	double milliseconds; /* all calls; 0 = not known */
	double rows;         /* all calls */
	CmdType command;
	List *relations; /* OIDs of the ordinary tables that it reads or writes, views expanded */
	Oid target;      /* of INSERT, UPDATE, DELETE, MERGE */
	Bitmapset
		*updated; /* columns that an UPDATE sets, offset by FirstLowInvalidHeapAttributeNumber */
	int nqueries;
	AdvisorQuery *queries; /* at most ADVISOR_MAX_SAMPLES */
	const char *text;
	const char *failure; /* why it cannot be planned; NULL where it can */
} AdvisorStatement;

#define ADVISOR_MAX_SAMPLES 3

/*
 * From the workload; an AdvisorStatement for each, in the same order, in the
 * current context.  Those that read no ordinary table are left out.
 */
extern List *statements_prepare(List *workload);

/* From texts that the caller gives, run once each; planned as the caller. An error where one cannot be parsed. */
extern List *statements_from_texts(ArrayType *texts);

/*
 * Plans it, with what is shown (hypothetical.h), as its user.  Raises what the
 * planner raises.  The plan is in the current context.
 */
extern PlannedStmt *statement_plan(const AdvisorQuery *query);

/* The same for a function that wants to be called as the user, under his search_path. */
extern void
statement_as_user(const AdvisorStatement *statement, void (*callback)(void *arg), void *arg);

#endif /* PGOPT_STATEMENT_H */
