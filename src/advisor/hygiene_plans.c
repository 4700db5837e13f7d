/*
 * hygiene_plans.c
 *		Indexes that the workload's statements would use now.
 *
 * The statements are planned again, as those who ran them, so that an index
 * whose scans were forgotten (or that is younger than the statements) is not
 * taken for one that nobody needs.
 *
 * Memory: a context of its own, reset with each statement.  Cost: a planner
 * call for each sample of a statement that reads one of the tables.
 */
#include "pgopt.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "hygiene.h"
#include "plan_tree.h"
#include "statement.h"
#include "workload.h"

typedef struct Planning
{
	const AdvisorQuery *query;
	MemoryContext context; /* of indexes */
	List *indexes;
} Planning;

static void
note_index(Plan *plan, Plan *parent, void *arg)
{
	Planning *planning = arg;
	Oid index = plan_tree_index(plan);
	MemoryContext old;

	if (!OidIsValid(index))
		return;
	old = MemoryContextSwitchTo(planning->context);
	planning->indexes = list_append_unique_oid(planning->indexes, index);
	MemoryContextSwitchTo(old);
}

static void
plan_query(void *arg)
{
	Planning *planning = arg;

	plan_tree_visit(statement_plan(planning->query), note_index, planning);
}

/* Does it read any of these tables, or what is a partition of the same one? */
static bool
reads(const Relations *relations, const AdvisorStatement *statement, List *roots)
{
	ListCell *cell;

	foreach(cell, statement->relations)
	{
		RelationInfo *table = relations_table(relations, lfirst_oid(cell));

		if (table != NULL && list_member_oid(roots, relation_root(table)->oid))
			return true;
	}
	return false;
}

List *
hygiene_planned_indexes(const Relations *relations, List *roots)
{
	Planning planning = {.context = CurrentMemoryContext};
	MemoryContext context;
	MemoryContext each;
	ListCell *cell;

	if (workload_since() == 0)
		return NIL;
	context = AllocSetContextCreate(planning.context, "pgopt hygiene", ALLOCSET_DEFAULT_SIZES);
	each = AllocSetContextCreate(context, "pgopt hygiene plan", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	foreach(cell, statements_prepare(workload_read(0), NULL))
	{
		AdvisorStatement *statement = lfirst(cell);

		if (statement->failure != NULL || !reads(relations, statement, roots))
			continue;
		MemoryContextSwitchTo(each);
		for (int i = 0; i < statement->nqueries; i++)
		{
			CHECK_FOR_INTERRUPTS();
			planning.query = &statement->queries[i];
			/* one that cannot be planned any more uses nothing */
			if (!statement_try(statement, plan_query, &planning))
				break;
		}
		MemoryContextSwitchTo(context);
		MemoryContextReset(each);
	}
	MemoryContextSwitchTo(planning.context);
	MemoryContextDelete(context);
	return planning.indexes;
}
