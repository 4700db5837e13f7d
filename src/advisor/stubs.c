/* Weak stand-ins for what has not landed yet; goes away before the room is complete. */
#include "pgopt.h"

#include "utils/array.h"

#include "advisor.h"
#include "candidates.h"
#include "hypothetical.h"
#include "selection.h"
#include "statement.h"
#include "workload.h"
#include "writes.h"

#define WEAK __attribute__((weak))
__attribute__((weak)) bool pgopt_workload_capture = true;
#define MISSING elog(ERROR, "%s has not landed", __func__)

WEAK void
workload_init(void)
{
}
WEAK List *
workload_read(int64 queryid)
{
	MISSING;
	return NIL;
}
WEAK TimestampTz
workload_since(void)
{
	return 0;
}
WEAK void
workload_flush(void)
{
}
WEAK bool
workload_is_due(void)
{
	return false;
}
WEAK long
workload_wait(void)
{
	return 3600000L;
}
WEAK void
workload_new_period(void)
{
}
WEAK HypotheticalIndex *
hypothetical_parse(const char *ddl)
{
	MISSING;
	return NULL;
}
WEAK HypotheticalIndex *
hypothetical_make(Oid table, const char *am, int ncolumns)
{
	MISSING;
	return NULL;
}
WEAK bool
hypothetical_set_column(HypotheticalIndex *index, int column, AttrNumber attnum, Node *expression,
						bool included)
{
	MISSING;
	return false;
}
WEAK char *
hypothetical_ddl(const HypotheticalIndex *index, bool concurrently, List **taken)
{
	MISSING;
	return NULL;
}
WEAK char *
hypothetical_definition(const HypotheticalIndex *index)
{
	MISSING;
	return NULL;
}
WEAK bool
hypothetical_equal(const HypotheticalIndex *a, const HypotheticalIndex *b)
{
	MISSING;
	return false;
}
WEAK Oid
hypothetical_covered_by(const HypotheticalIndex *index)
{
	MISSING;
	return InvalidOid;
}
WEAK void
hypothetical_measure(HypotheticalIndex *index)
{
	MISSING;
}
WEAK void
hypothetical_forget_samples(void)
{
}
WEAK void
hypothetical_show(HypotheticalIndex **indexes, int nindexes, const Bitmapset *visible,
				  List *without)
{
	MISSING;
}
WEAK void
hypothetical_hide(void)
{
}
WEAK HypotheticalIndex *
hypothetical_by_oid(Oid oid)
{
	return NULL;
}
WEAK double
hypothetical_insert_cost(const HypotheticalIndex *index)
{
	MISSING;
	return 0;
}
WEAK CandidateSet *
candidates_create(int nstatements)
{
	MISSING;
	return NULL;
}
WEAK int
candidates_add(CandidateSet *set, HypotheticalIndex *index)
{
	MISSING;
	return -1;
}
WEAK double
candidates_collect(CandidateSet *set, const AdvisorStatement *statement)
{
	MISSING;
	return 0;
}
WEAK void
candidates_merge(CandidateSet *set)
{
	MISSING;
}
WEAK Selection *
selection_run(List *statements, const SelectionGoal *goal, SelectionProgress progress)
{
	MISSING;
	return NULL;
}
WEAK void
writes_price(const HypotheticalIndex *index, List *statements, WriteCost *cost)
{
	MISSING;
}

WEAK void
hypothetical_init(void)
{
}

WEAK void
candidates_init(void)
{
}
