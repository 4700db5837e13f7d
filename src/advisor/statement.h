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
	const char *search_path;
	const char *failure; /* why it cannot be planned; NULL where it can */
} AdvisorStatement;

#define ADVISOR_MAX_SAMPLES 3

/*
 * From the workload; an AdvisorStatement for each that can be planned and reads
 * or writes an ordinary table, in the same order, in the current context; their
 * ids count from 0.  failed, unless NULL, gets those that cannot be parsed any
 * more, with the reason.
 *
 * The tables are locked with AccessShareLock until the transaction ends; see
 * statements_give_way().
 */
extern List *statements_prepare(List *workload, List **failed);

/* The search_path for a user's statement that was not captured. */
extern const char *statement_path_unknown(Oid userid);

/* From texts that the caller gives, run once each; planned as the caller. An error where one cannot be parsed. */
extern List *statements_from_texts(ArrayType *texts);

/*
 * Raises an error if somebody waits for a lock on a table that is locked here:
 * readers would wait behind him.  Looks at most every 100 ms.
 */
extern void statements_give_way(List *statements);

/*
 * Plans it, with what is shown (hypothetical.h), as its user.  Raises what the
 * planner raises.  The plan is in the current context.
 */
extern PlannedStmt *statement_plan(const AdvisorQuery *query);

/* Is the value of any of its parameters not known? */
extern bool statement_values_unknown(const AdvisorQuery *query);

/* Calls a function as the user, under his search_path. */
extern void
statement_as_user(const AdvisorStatement *statement, void (*callback)(void *arg), void *arg);

/*
 * The same, in a subtransaction that is rolled back whatever happens.  False
 * where it raised an error, whose message is then the statement's failure.
 */
extern bool statement_try(AdvisorStatement *statement, void (*callback)(void *arg), void *arg);

#endif /* PGOPT_STATEMENT_H */
