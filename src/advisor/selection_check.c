/*
 * selection_check.c
 *		pgopt.selection_check(): the clever way against the plain one.
 *
 * For tests.  Of few candidates for some statements, every set is planned; then
 * what the cost model says is compared with it, and what the search finds with
 * the best set that there is.  With n candidates 2^n planner calls a statement.
 */
#include "pgopt.h"

#include <math.h>

#include "common/pg_prng.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/memutils.h"

#include "costs.h"
#include "search_set.h"
#include "selection.h"

PG_FUNCTION_INFO_V1(pgopt_selection_check);

#define CHECKED_CANDIDATES 8
#define CHECK_COLUMNS      7

/* A difference that the planner does not see itself. */
#define SAME 0.02

/* At most so many of all candidates, drawn by lot, as a set of their own. */
static CandidateSet *
draw_candidates(CandidateSet *all, int nstatements, pg_prng_state *random)
{
	CandidateSet *drawn = candidates_create(nstatements);
	int *order = palloc(Max(all->count, 1) * sizeof(int));

	for (int i = 0; i < all->count; i++)
	{
		int j = (int) pg_prng_uint64_range(random, 0, i);

		order[i] = order[j];
		order[j] = i;
	}
	for (int i = 0; i < Min(all->count, CHECKED_CANDIDATES); i++)
	{
		int before = order[i];
		int id = candidates_add(drawn, all->indexes[before]);

		if (id < 0)
			continue;
		for (int s = 0; s < nstatements; s++)
			if (bms_is_member(before, all->of_statement[s]))
				drawn->of_statement[s] = bms_add_member(drawn->of_statement[s], id);
	}
	return drawn;
}

static Bitmapset *
set_of_bits(int bits, int count)
{
	Bitmapset *set = NULL;

	for (int i = 0; i < count; i++)
		if (bits & (1 << i))
			set = bms_add_member(set, i);
	return set;
}

static int
compare_doubles(const void *a, const void *b)
{
	double left = *(const double *) a;
	double right = *(const double *) b;

	return left < right ? -1 : left > right ? 1 : 0;
}

Datum
pgopt_selection_check(PG_FUNCTION_ARGS)
{
	List *statements = statements_from_texts(PG_GETARG_ARRAYTYPE_P(0));
	int n = list_length(statements);
	pg_prng_state random;
	CandidateSet *all = candidates_create(n);
	CandidateSet *candidates;
	SelectionGoal goal = {0};
	CostModel *asked;
	CostModel *known;
	Search *search;
	Search *truth;
	Bitmapset *found;
	int nsets;
	int exact = 0;
	int exact_wrong = 0;
	int reckoned = 0;
	double *errors;
	double nothing;
	double best;
	double total = 0;
	Datum values[CHECK_COLUMNS];
	bool nulls[CHECK_COLUMNS] = {false};
	TupleDesc tupdesc;
	ListCell *cell;

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	pg_prng_seed(&random, (uint64) PG_GETARG_INT32(1));

	foreach(cell, statements)
		(void) candidates_collect(all, lfirst(cell));
	candidates_merge(all);
	candidates = draw_candidates(all, n, &random);
	for (int i = 0; i < candidates->count; i++)
	{
		hypothetical_measure(candidates->indexes[i]);
		total += candidates->indexes[i]->bytes;
	}
	nsets = 1 << candidates->count;
	goal.budget = total * (0.2 + 0.8 * pg_prng_double(&random));

	/* one model learns as it does for an advice, the other by asking for each set */
	known = costs_create(statements, candidates);
	asked = costs_create(statements, candidates);
	for (int s = 0; s < n; s++)
	{
		costs_explore(known, s);
		costs_explore(asked, s);
	}
	errors = palloc(Max(n * nsets, 1) * sizeof(double));
	for (int s = 0; s < n; s++)
		for (int bits = 0; bits < nsets; bits++)
		{
			Bitmapset *set = set_of_bits(bits, candidates->count);
			bool is_exact;
			double cost = costs_reckon(known, s, set, &is_exact);
			double real = costs_plan(asked, s, set, NULL);
			double error = real > 0 ? fabs(cost / real - 1) : 0;

			CHECK_FOR_INTERRUPTS();
			if (is_exact)
			{
				exact++;
				if (error > SAME)
					exact_wrong++;
			}
			else
				errors[reckoned++] = error;
			bms_free(set);
		}
	qsort(errors, reckoned, sizeof(double), compare_doubles);

	search = search_create(known, statements, candidates, &goal);
	truth = search_create(asked, statements, candidates, &goal);
	found = search_run(search, NULL);
	nothing = search_loss(truth, NULL, false);
	best = nothing;
	for (int bits = 0; bits < nsets; bits++)
	{
		Bitmapset *set = set_of_bits(bits, candidates->count);
		double bytes = 0;
		int i = -1;

		while ((i = bms_next_member(set, i)) >= 0)
			bytes += candidates->indexes[i]->bytes;
		if (bytes <= goal.budget)
			best = Min(best, search_loss(truth, set, false));
		bms_free(set);
	}

	values[0] = Int32GetDatum(candidates->count);
	values[1] = Int32GetDatum(exact);
	values[2] = Int32GetDatum(exact_wrong);
	values[3] = Int32GetDatum(reckoned);
	values[4] = Float8GetDatum(reckoned > 0 ? errors[reckoned / 2] : 0);
	values[5] = Float8GetDatum(nothing - best);
	values[6] = Float8GetDatum(nothing - search_loss(truth, found, false));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(tupdesc, values, nulls)));
}
