/*
 * plan_price.c
 *		What indexes would make of one statement's plan.
 *
 * The indexes are those that the advisor would build for this statement alone,
 * and those that the wording of a condition asks for.  Each is priced by
 * planning the statement with it.
 *
 * Locks: AccessShareLock on the tables, which the statement's preparation took.
 * Cost: that of the selection for one statement, and a planner call an index.
 */
#include "pgopt.h"

#include <math.h>

#include "access/xact.h"

#include "core.h"
#include "plan_tree.h"
#include "plan_words.h"
#include "selection.h"

/* More indexes than that for one statement nobody builds. */
#define MAX_INDEXES 3

/* A plan that is cheaper by less is no other plan. */
#define CHEAPER 0.99

typedef struct Pricing
{
	PlanReview *review;
	const char *ddl;
	HypotheticalIndex *index; /* NULL where it would not help */
	double cost;
} Pricing;

static void
note_use(Plan *plan, Plan *parent, void *arg)
{
	Pricing *pricing = arg;

	if (plan_tree_index(plan) == pricing->index->oid)
		pricing->cost = -fabs(pricing->cost);
}

/* Plans the statement with it; false where its plan would not be cheaper, or not use it. */
static bool
price(Pricing *pricing)
{
	PlannedStmt *plan;

	hypothetical_show(&pricing->index, 1, NULL, NIL);
	plan = statement_plan(pricing->review->query);
	hypothetical_hide();
	pricing->cost = plan->planTree->total_cost;
	if (pricing->cost > CHEAPER * pricing->review->cost)
		return false;
	plan_tree_visit(plan, note_use, pricing);
	if (pricing->cost > 0)
		return false;
	pricing->cost = -pricing->cost;
	return true;
}

static PricedIndex *
add_index(PlanReview *review, const Pricing *pricing)
{
	PricedIndex *index = palloc0(sizeof(PricedIndex));

	index->index = pricing->index;
	index->table = pricing->index->table;
	index->ddl = hypothetical_ddl(pricing->index, true, &review->names);
	index->bytes = pricing->index->bytes;
	index->cost = pricing->cost;
	review->indexes = lappend(review->indexes, index);
	return index;
}

typedef struct Attempt
{
	void (*callback)(Pricing *pricing);
	Pricing *pricing;
} Attempt;

static void
attempt_to(void *arg)
{
	const Attempt *attempt = arg;

	XactReadOnly = true; /* until the subtransaction ends */
	attempt->callback(attempt->pricing);
}

/*
 * Runs it in a subtransaction, and says why it failed, or NULL; being cancelled,
 * giving way and running out of something go on.  What is shown of hypothetical
 * indexes ends with the subtransaction.
 */
static char *
try(void (*callback)(Pricing *pricing), Pricing *pricing)
{
	Attempt attempt = {.callback = callback, .pricing = pricing};
	ErrorData *error = core_try(attempt_to, &attempt, true);

	if (error == NULL)
		return NULL;
	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_INSUFFICIENT_RESOURCES ||
		error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		ReThrowError(error);
	return error->message;
}

static void
select_and_price(Pricing *pricing)
{
	PlanReview *review = pricing->review;
	SelectionGoal goal = {.budget = INFINITY, .max_indexes = MAX_INDEXES};
	Selection *selection = selection_run(list_make1(review->statement), &goal, NULL);

	for (int i = 0; i < selection->nselected; i++)
	{
		pricing->index = selection->selected[i].index;
		if (price(pricing))
			(void) add_index(review, pricing);
	}
}

void
plan_price_candidates(PlanReview *review)
{
	Pricing pricing = {.review = review};
	char *error = try(select_and_price, &pricing);
	PlanFinding *finding;

	if (error == NULL)
		return;
	finding = plan_report(review, "indexes_not_priced", NAN);
	finding->what = psprintf("what indexes would help could not be found out: %s", error);
	plan_evidence_text(finding, "error", error);
}

static void
parse_and_price(Pricing *pricing)
{
	pricing->index = hypothetical_parse(pricing->ddl);
	if (OidIsValid(hypothetical_covered_by(pricing->index)))
	{
		pricing->index = NULL;
		return;
	}
	hypothetical_measure(pricing->index);
	if (!price(pricing))
		pricing->index = NULL;
}

PricedIndex *
plan_price_index(PlanReview *review, const char *ddl)
{
	Pricing pricing = {.review = review, .ddl = ddl};
	ListCell *cell;

	/* what cannot be made, as an expression that is not immutable after all, is not proposed */
	if (review->query == NULL || try(parse_and_price, &pricing) != NULL || pricing.index == NULL)
		return NULL;
	foreach(cell, review->indexes)
	{
		PricedIndex *other = lfirst(cell);

		if (hypothetical_equal(other->index, pricing.index))
			return other;
	}
	return add_index(review, &pricing);
}
