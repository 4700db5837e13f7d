/*
 * hooks.c
 *		What all of pgopt's hooks do at their end: call the next one.
 */
#include "pgopt.h"

#include "core.h"

void
next_ProcessUtility(ProcessUtility_hook_type previous, PlannedStmt *pstmt, const char *queryString,
					bool readOnlyTree, ProcessUtilityContext context, ParamListInfo params,
					QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	if (previous == NULL)
		previous = standard_ProcessUtility;
	previous(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
}
