/*
 * selection.c
 *		Which of the candidates to build, within a budget.
 *
 * A set is judged by two sums over the statements: the time that all take
 * together, writing included, and the mean of what each takes relative to
 * today.  The first is the user's bill; of its logarithm, so that when the one
 * statement that took nearly all is cured the rest is heard.  The second gives
 * every statement a voice that is as loud as any other's.  A byte costs a
 * little, so that of two sets that do the same the smaller is better.
 *
 * The search starts from five sides: from nothing by benefit for each byte, for
 * the root of the bytes, and by benefit alone; from the best without a limit,
 * which is then relaxed until it fits (Bruno and Chaudhuri: "Automatic physical
 * database tuning: a relaxation-based approach", SIGMOD 2005); and from each of
 * those that bring most alone.  Indexes that some plan reads together are tried
 * together.  What is found is improved by exchanging one of its indexes, and at
 * last two of them, for others.  Moves are compared by reckoned costs; the one
 * that looks best is confirmed by the planner before it is made (costs.h).
 *
 * Memory: the current context.  Locks: those of planning.
 *
 * Cost: planner calls, rationed in costs.c; between them some microseconds a
 * statement and move.
 */
#include "pgopt.h"

#include <math.h>

#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "utils/memutils.h"

#include "costs.h"
#include "join_search.h"
#include "search_set.h"
#include "selection.h"
#include "writes.h"

/* What one index does for a statement that is said to be helped, at least. */
#define HELP_STATEMENT 0.04

static void
report(SelectionProgress progress, const char *phase, int done, int total, int calls)
{
	CHECK_FOR_INTERRUPTS();
	if (progress != NULL)
		progress(phase, done, total, calls);
}

/* --- the answer ---------------------------------------------------------------------- */

/* The chosen ones in the order in which each does most for its bytes to those before it. */
static int *
rank(Search *search, const Bitmapset *chosen, double *benefits)
{
	int count = bms_num_members(chosen);
	int *order = palloc(Max(count, 1) * sizeof(int));
	Bitmapset *before = NULL;
	double loss = search_loss(search, NULL, false);

	for (int place = 0; place < count; place++)
	{
		int best = -1;
		double best_score = 0;
		double best_loss = 0;
		int i = -1;

		while ((i = bms_next_member(chosen, i)) >= 0)
		{
			Bitmapset *with;
			double after;
			double score;

			if (bms_is_member(i, before))
				continue;
			with = bms_add_member(bms_copy(before), i);
			after = search_loss(search, with, false);
			bms_free(with);
			score = (loss - after) / search->bytes[i];
			if (best < 0 || score > best_score)
			{
				best = i;
				best_score = score;
				best_loss = after;
			}
		}
		order[place] = best;
		benefits[place] = loss - best_loss;
		loss = best_loss;
		before = bms_add_member(before, best);
	}
	return order;
}

static void
describe(Search *search, SelectedIndex *selected, int index, const Bitmapset *before,
		 const Selection *selection)
{
	Bitmapset *with = bms_add_member(bms_copy(before), index);
	int s = -1;

	selected->index = search->candidates->indexes[index];
	selected->write_cost = search->writes[index].cost;
	selected->hot_lost = search->writes[index].hot_lost;
	selected->writes = search->writes[index].entries;
	while ((s = bms_next_member(search->statements_of[index], s)) >= 0)
	{
		double calls = search->statements[s]->calls;
		double without_it = costs_reckon(search->model, s, before, NULL);
		double with_it = costs_reckon(search->model, s, with, NULL);

		if (!bms_is_member(index, selection->used[s]) &&
			with_it > without_it * (1 - HELP_STATEMENT))
			continue;
		selected->statements = bms_add_member(selected->statements, s);
		selected->cost_before += calls * selection->cost_before[s];
		selected->cost_after += calls * with_it;
	}
}

static Selection *
answer(Search *search, const Bitmapset *chosen, SelectionProgress progress)
{
	Selection *selection = palloc0(sizeof(Selection));
	int n = search->nstatements;
	double *benefits = palloc(Max(bms_num_members(chosen), 1) * sizeof(double));
	Bitmapset *used = NULL;
	Bitmapset *before = NULL;
	int *order;

	selection->cost_before = palloc0(Max(n, 1) * sizeof(double));
	selection->cost_after = palloc0(Max(n, 1) * sizeof(double));
	selection->used = palloc0(Max(n, 1) * sizeof(Bitmapset *));
	for (int s = 0; s < n; s++)
	{
		report(progress, "confirming", s, n, costs_planner_calls(search->model));
		if (!costs_known(search->model, s))
			continue;
		selection->cost_before[s] = costs_today(search->model, s);
		selection->cost_after[s] = costs_plan(search->model, s, chosen, &selection->used[s]);
		used = bms_add_members(used, selection->used[s]);
	}

	/* What no plan reads after all is not built; the plans stay the same without it. */
	chosen = used;
	order = rank(search, chosen, benefits);
	selection->nselected = bms_num_members(chosen);
	selection->selected = palloc0(Max(selection->nselected, 1) * sizeof(SelectedIndex));
	for (int place = 0; place < selection->nselected; place++)
	{
		describe(search, &selection->selected[place], order[place], before, selection);
		selection->selected[place].benefit = benefits[place];
		before = bms_add_member(before, order[place]);
	}
	selection->planner_calls = costs_planner_calls(search->model);
	selection->candidates = search->candidates->count;
	return selection;
}

typedef struct Collecting
{
	CandidateSet *candidates;
	const AdvisorStatement *statement;
} Collecting;

static void
collect_one(void *arg)
{
	Collecting *collecting = arg;

	(void) candidates_collect(collecting->candidates, collecting->statement);
}

/* A statement that cannot be planned any more gets no candidates of its own, and stops no other. */
static void
collect(List *statements, CandidateSet *candidates, SelectionProgress progress)
{
	ListCell *cell;

	foreach(cell, statements)
	{
		AdvisorStatement *statement = lfirst(cell);
		Collecting collecting = {.candidates = candidates, .statement = statement};

		report(progress,
			   "looking for candidates",
			   statement->id,
			   list_length(statements),
			   statement->id);
		(void) statement_try(statement, collect_one, &collecting);
	}
	candidates_merge(candidates);
}

/* What is read of the statements does not depend on the order of their joins. */
static void
collect_lightly(List *statements, CandidateSet *candidates, SelectionProgress progress)
{
	join_search_begin(JOIN_SEARCH_LIGHT, NIL, NULL);
	PG_TRY();
	{
		collect(statements, candidates, progress);
	}
	PG_CATCH();
	{
		join_search_end();
		PG_RE_THROW();
	}
	PG_END_TRY();
	join_search_end();
}

Selection *
selection_run(List *statements, const SelectionGoal *goal, SelectionProgress progress)
{
	int n = list_length(statements);
	CandidateSet *candidates = candidates_create(n);
	CostModel *model;
	Search *search;

	collect_lightly(statements, candidates, progress);
	for (int i = 0; i < candidates->count; i++)
	{
		report(progress, "measuring candidates", i, candidates->count, n);
		hypothetical_measure(candidates->indexes[i]);
	}

	model = costs_create(statements, candidates);
	for (int s = 0; s < n; s++)
	{
		report(progress, "pricing candidates", s, n, n + costs_planner_calls(model));
		costs_explore(model, s);
	}

	search = search_create(model, statements, candidates, goal);
	return answer(search, search_run(search, progress), progress);
}
