/*
 * costs.c
 *		What a statement costs with a set of candidates: known, or reckoned.
 *
 * Of every planner call is kept what was shown, what was used and the cost, and
 * for each scan of the plan what any candidate would make of it, cheapest
 * first.  A set's cost is then looked up in a microsecond:
 *
 *	- exact where a known plan was chosen from the set or more, and reads nothing
 *	  that is not in it;
 *	- else the cheapest of the known plans, each with the best index of the set
 *	  for each of its scans, but never less than what a larger set costs.
 *
 * The planner is not quite that consistent: it takes a path for as good as
 * another that costs 1 % less, picks bitmaps greedily, and from geqo_threshold
 * relations on searches at random.  And an index on an expression brings
 * statistics that change estimates whether it is read or not: what is known
 * with other such indexes shown counts as reckoned.
 *
 * Memory: all in the context in which the model was made, but the planner's
 * waste.  Cost: planner calls are rationed, by the number of relations of the
 * statement and not by the clock, so that the same workload gets the same advice.
 */
#include "pgopt.h"

#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "utils/memutils.h"

#include "costs.h"
#include "harvest.h"

/* Planner calls that a statement may take: planning is dear where many relations are joined. */
static const struct
{
	int relations;
	int calls;
} ration[] = {{4, 30}, {7, 24}, {PG_INT32_MAX, 16}};

#define EXPLORING_SHARE 0.4 /* of them go to a first look */
#define MAX_PEELINGS    4

/* With fewer relations than this, plans with other indexes are the same plans with other scans. */
#define EXPLORING_FROM 2

/* The planner itself takes paths for equal that differ by this. */
#define TOLERANCE 0.01

/* A candidate in the place of what a scan reads now. */
typedef struct Option
{
	double difference; /* of the statement's cost */
	int index;         /* -1 = nothing new is needed */
} Option;

typedef struct Slot
{
	Bitmapset *indexes; /* that it reads now; then nothing changes */
	int noptions;
	Option *options; /* cheapest first; none after the first that needs nothing new */
} Slot;

typedef struct KnownPlan
{
	Bitmapset *shown;
	Bitmapset *used;
	Bitmapset *fixed;   /* that nothing can stand in for */
	Bitmapset *sighted; /* of those shown, the ones that bring statistics */
	double cost;
	double lowest; /* that it could be with all candidates */
	JoinSearch search;
	bool twin; /* the same plan is known from another call */
	int nscans;
	Slot *scans;
} KnownPlan;

typedef struct QueryCosts
{
	const AdvisorQuery *query;
	int calls;
	int ration;
	int relations;
	bool large;  /* its joins are not searched for in full each time */
	List *joins; /* KnownJoins */
	int naccesses;
	Access *accesses;
	int nplans;
	int room;
	KnownPlan *plans;
} QueryCosts;

typedef struct StatementCosts
{
	AdvisorStatement *statement;
	const Bitmapset *relevant;
	Bitmapset *sighted;
	bool failed;
	double today;
	QueryCosts *queries;
} StatementCosts;

struct CostModel
{
	CandidateSet *candidates;
	int nstatements;
	StatementCosts *statements;
	int planner_calls;
	MemoryContext context;
	MemoryContext planning;
};

/* --- learning --------------------------------------------------------------------- */

static int
compare_options(const void *a, const void *b)
{
	const Option *left = a;
	const Option *right = b;

	if (left->difference != right->difference)
		return left->difference < right->difference ? -1 : 1;
	return left->index - right->index;
}

/* With fewer values to search by, what comes out in excess is filtered by the join. */
static bool
stands_in(const Access *access, const Leaf *leaf, double *excess)
{
	Requirement needs = leaf->needs;

	*excess = 0;
	if (!bms_is_subset(access->meets.outer, needs.outer))
		return false;
	if (!bms_equal(access->meets.outer, needs.outer))
	{
		needs.outer = access->meets.outer;
		*excess = Max(access->rows - leaf->rows, 0) * (cpu_tuple_cost + cpu_operator_cost);
	}
	return harvest_meets(&access->meets, &needs);
}

static void
list_options(const QueryCosts *costs, const Leaf *leaf, Slot *scan)
{
	Option *options = palloc(Max(costs->naccesses, 1) * sizeof(Option));
	int noptions = 0;
	int kept = 0;
	Bitmapset *seen = NULL;

	for (int i = 0; i < costs->naccesses; i++)
	{
		const Access *access = &costs->accesses[i];
		double excess;

		if (access->meets.relation != leaf->needs.relation || !stands_in(access, leaf, &excess))
			continue;
		options[noptions].index = access->index;
		options[noptions++].difference = leaf->startup_share * (access->startup - leaf->startup) +
										 leaf->run_share * ((access->total - access->startup) -
															(leaf->total - leaf->startup) + excess);
	}
	qsort(options, noptions, sizeof(Option), compare_options);
	while (kept < noptions)
	{
		int index = options[kept].index;

		kept++;
		if (index < 0)
			break;
		if (!bms_is_member(index, seen))
		{
			seen = bms_add_member(seen, index);
			continue;
		}
		kept--;
		memmove(&options[kept], &options[kept + 1], (noptions - kept - 1) * sizeof(Option));
		noptions--;
	}
	scan->indexes = leaf->indexes;
	scan->noptions = kept;
	scan->options = palloc(Max(kept, 1) * sizeof(Option));
	memcpy(scan->options, options, kept * sizeof(Option));
	pfree(options);
	bms_free(seen);
}

/* --- reckoning ---------------------------------------------------------------------- */

/* What is best for a scan with this set: NULL where that is what it reads now; *possible: that there is anything. */
static Option *
best_option(const Slot *scan, const Bitmapset *set, bool *possible)
{
	bool as_is = bms_is_subset(scan->indexes, set);

	*possible = true;
	for (int i = 0; i < scan->noptions; i++)
	{
		Option *option = &scan->options[i];

		if (as_is && option->difference >= 0)
			return NULL;
		if (option->index < 0 || bms_is_member(option->index, set))
			return option;
	}
	*possible = as_is;
	return NULL;
}

/* A known plan with the best of the set in the place of each scan; -1 where it cannot be had. */
static double
adapt(const KnownPlan *known, const Bitmapset *set, int *changes)
{
	double cost = known->cost;

	*changes = 0;
	if (known->twin || !bms_is_subset(known->fixed, set))
		return -1;
	for (int i = 0; i < known->nscans; i++)
	{
		bool possible;
		const Option *option = best_option(&known->scans[i], set, &possible);

		if (!possible)
			return -1;
		if (option != NULL)
		{
			cost += option->difference;
			(*changes)++;
		}
	}
	return cost;
}

static void
find_lowest(KnownPlan *known)
{
	known->lowest = known->cost;
	for (int i = 0; i < known->nscans; i++)
		if (known->scans[i].noptions > 0)
			known->lowest += Min(known->scans[i].options[0].difference, 0);
}

/*
 * The planner was asked, and the set costs more than a known plan would with
 * other indexes: what they were thought to change is not so.
 */
static void
correct(KnownPlan *known, const Bitmapset *set, double cost)
{
	int changes;
	double expected = adapt(known, set, &changes);

	if (expected < 0 || changes == 0 || expected > cost * (1 - TOLERANCE))
		return;
	for (int i = 0; i < known->nscans; i++)
	{
		Slot *scan = &known->scans[i];
		bool possible;
		Option *option = best_option(scan, set, &possible);

		if (option == NULL)
			continue;
		option->difference += (cost - expected) / changes;
		qsort(scan->options, scan->noptions, sizeof(Option), compare_options);
	}
	find_lowest(known);
}

/* set holds nothing but what is relevant to the statement. */
static double
reckon_query(const StatementCosts *statement, const QueryCosts *costs, const Bitmapset *set,
			 bool *exact)
{
	Bitmapset *sighted = statement->sighted == NULL ? NULL : bms_intersect(set, statement->sighted);
	double floor = 0;
	double seen = -1;
	double best = -1;

	*exact = false;
	for (int i = 0; i < costs->nplans; i++)
	{
		const KnownPlan *known = &costs->plans[i];
		bool same_estimates = bms_equal(known->sighted, sighted);
		bool enough = bms_is_subset(known->used, set);
		double cost;
		int changes;

		if (same_estimates && known->search != JOIN_SEARCH_LIGHT &&
			bms_is_subset(set, known->shown))
		{
			if (enough)
			{
				*exact = true;
				bms_free(sighted);
				return known->cost;
			}
			floor = Max(floor, known->cost);
		}
		cost = best < 0 || known->lowest < best ? adapt(known, set, &changes) : -1;
		if (enough && (seen < 0 || known->cost < seen))
			seen = known->cost;
		if (enough && (cost < 0 || known->cost < cost))
			cost = known->cost;
		if (cost >= 0 && (best < 0 || cost < best))
			best = cost;
	}
	bms_free(sighted);
	if (seen >= 0)
		floor = Min(floor, seen);
	return Max(best, floor);
}

double
costs_reckon(CostModel *model, int statement, const Bitmapset *set, bool *exact)
{
	const StatementCosts *known = &model->statements[statement];
	Bitmapset *relevant = bms_intersect(set, known->relevant);
	bool all_exact = true;
	double cost = 0;

	for (int i = 0; i < known->statement->nqueries; i++)
	{
		bool one_exact;

		cost += known->statement->queries[i].weight *
				reckon_query(known, &known->queries[i], relevant, &one_exact);
		all_exact &= one_exact;
	}
	bms_free(relevant);
	if (exact != NULL)
		*exact = all_exact;
	return cost;
}

/* --- asking ------------------------------------------------------------------------------ */

static int
calls_allowed(int relations, int nqueries)
{
	int i = 0;

	while (relations > ration[i].relations)
		i++;
	return Max(ration[i].calls / nqueries, 5);
}

/* Plans it with the set and remembers; false where it cannot be planned. */
static bool
ask_planner(CostModel *model, StatementCosts *statement, QueryCosts *costs, const Bitmapset *set,
			JoinSearch search)
{
	MemoryContext old = MemoryContextSwitchTo(model->context);
	bool first = costs->nplans == 0;
	Harvest harvest;
	KnownPlan *known;

	CHECK_FOR_INTERRUPTS();
	model->planner_calls++;
	costs->calls++;
	if (!harvest_plan(costs->query,
					  model->candidates,
					  set,
					  first,
					  search,
					  &costs->joins,
					  model->planning,
					  &harvest))
	{
		statement->failed = true;
		MemoryContextSwitchTo(old);
		return false;
	}
	if (first)
	{
		costs->naccesses = harvest.naccesses;
		costs->accesses = harvest.accesses;
		costs->relations = harvest.relations;
		costs->large = harvest.joined >= JOIN_SEARCH_LARGE;
		costs->ration = calls_allowed(harvest.relations, statement->statement->nqueries);
	}
	if (costs->nplans == costs->room)
	{
		costs->room = Max(16, costs->room * 2);
		costs->plans = costs->plans == NULL
						   ? palloc(costs->room * sizeof(KnownPlan))
						   : repalloc(costs->plans, costs->room * sizeof(KnownPlan));
	}
	known = &costs->plans[costs->nplans];
	memset(known, 0, sizeof(KnownPlan));
	known->shown = bms_copy(set);
	known->used = harvest.used;
	known->fixed = harvest.fixed;
	known->sighted = bms_intersect(set, statement->sighted);
	known->cost = harvest.cost;
	known->search = costs->large ? search : JOIN_SEARCH_FULL;
	for (int i = 0; i < costs->nplans && !known->twin; i++)
		known->twin =
			costs->plans[i].cost == known->cost && bms_equal(costs->plans[i].used, known->used);
	if (!known->twin)
	{
		known->nscans = harvest.nleaves;
		known->scans = palloc(Max(harvest.nleaves, 1) * sizeof(Slot));
		for (int i = 0; i < harvest.nleaves; i++)
			list_options(costs, &harvest.leaves[i], &known->scans[i]);
	}
	costs->nplans++;
	for (int i = 0; i < costs->nplans - 1; i++)
		correct(&costs->plans[i], set, known->cost);
	find_lowest(known);
	MemoryContextSwitchTo(old);
	return true;
}

double
costs_confirm(CostModel *model, int statement, const Bitmapset *set)
{
	StatementCosts *known = &model->statements[statement];
	Bitmapset *relevant = bms_intersect(set, known->relevant);
	double cost = 0;

	for (int i = 0; i < known->statement->nqueries; i++)
	{
		QueryCosts *costs = &known->queries[i];
		bool exact;

		(void) reckon_query(known, costs, relevant, &exact);
		if (!exact && !known->failed && costs->calls < costs->ration)
			(void) ask_planner(model, known, costs, relevant, JOIN_SEARCH_KNOWN);
		cost += known->statement->queries[i].weight * reckon_query(known, costs, relevant, &exact);
	}
	bms_free(relevant);
	return cost;
}

double
costs_plan(CostModel *model, int statement, const Bitmapset *set, Bitmapset **used)
{
	StatementCosts *known = &model->statements[statement];
	Bitmapset *relevant = bms_intersect(set, known->relevant);
	double cost = 0;

	if (used != NULL)
		*used = NULL;
	for (int i = 0; i < known->statement->nqueries && !known->failed; i++)
	{
		QueryCosts *costs = &known->queries[i];
		const KnownPlan *plan = NULL;

		for (int j = 0; j < costs->nplans; j++)
			if (costs->plans[j].search == JOIN_SEARCH_FULL &&
				bms_equal(costs->plans[j].shown, relevant))
				plan = &costs->plans[j];
		if (plan == NULL && ask_planner(model, known, costs, relevant, JOIN_SEARCH_FULL))
			plan = &costs->plans[costs->nplans - 1];
		if (plan == NULL)
			break;
		cost += known->statement->queries[i].weight * plan->cost;
		if (used != NULL)
			*used = bms_add_members(*used, plan->used);
	}
	bms_free(relevant);
	return cost;
}

/* Of the candidates, those on the same tables as these. */
static Bitmapset *
on_table(const CostModel *model, const Bitmapset *candidates, Oid table)
{
	Bitmapset *result = NULL;
	int i = -1;

	while ((i = bms_next_member(candidates, i)) >= 0)
		if (model->candidates->indexes[i]->table == table)
			result = bms_add_member(result, i);
	return result;
}

static bool
may_explore(const StatementCosts *statement, const QueryCosts *costs)
{
	return !statement->failed && costs->calls < costs->ration * EXPLORING_SHARE;
}

/* Plans with the set unless the answer is known. */
static void
look_at(CostModel *model, StatementCosts *statement, QueryCosts *costs, const Bitmapset *set)
{
	bool exact;

	if (!may_explore(statement, costs))
		return;
	(void) reckon_query(statement, costs, set, &exact);
	if (!exact)
		(void) ask_planner(model, statement, costs, set, JOIN_SEARCH_KNOWN);
}

static void
explore_query(CostModel *model, StatementCosts *statement, QueryCosts *costs)
{
	Bitmapset *left;
	Bitmapset *best;
	List *tables = NIL;
	int i;
	ListCell *cell;

	if (!ask_planner(model, statement, costs, statement->relevant, JOIN_SEARCH_LIGHT) ||
		!ask_planner(model, statement, costs, NULL, JOIN_SEARCH_FULL))
		return;
	look_at(model, statement, costs, statement->relevant);
	best = costs->plans[costs->large ? costs->nplans - 1 : 0].used;

	/* What there is without those that are used; and again. */
	left = bms_difference(statement->relevant, best);
	for (int round = 0; round < MAX_PEELINGS && may_explore(statement, costs); round++)
	{
		int plans = costs->nplans;

		look_at(model, statement, costs, left);
		if (costs->nplans == plans || bms_is_empty(costs->plans[plans].used) ||
			costs->relations < EXPLORING_FROM)
			break;
		left = bms_del_members(left, costs->plans[plans].used);
	}

	if (costs->relations < EXPLORING_FROM)
		return;

	/* Plans that read one table by an index have their own joins. */
	i = -1;
	while ((i = bms_next_member(best, i)) >= 0)
		tables = list_append_unique_oid(tables, model->candidates->indexes[i]->table);
	if (list_length(tables) > 1)
		foreach(cell, tables)
			look_at(
				model, statement, costs, on_table(model, statement->relevant, lfirst_oid(cell)));

	/* And what each of the best is worth to the others. */
	i = -1;
	if (bms_num_members(best) > 1)
		while ((i = bms_next_member(best, i)) >= 0)
			look_at(model, statement, costs, bms_del_member(bms_copy(statement->relevant), i));
}

void
costs_explore(CostModel *model, int statement)
{
	StatementCosts *known = &model->statements[statement];
	MemoryContext old = MemoryContextSwitchTo(model->context);
	bool exact;

	for (int i = 0; i < known->statement->nqueries && !known->failed; i++)
		explore_query(model, known, &known->queries[i]);
	MemoryContextSwitchTo(old);
	if (!known->failed)
		known->today = costs_reckon(model, statement, NULL, &exact);
}

/* --- questions --------------------------------------------------------------------------------- */

static bool
brings_statistics(const HypotheticalIndex *index)
{
	for (int i = 0; i < index->nkeys; i++)
		if (index->columns[i].attnum == 0)
			return true;
	return false;
}

CostModel *
costs_create(List *statements, CandidateSet *candidates)
{
	CostModel *model = palloc0(sizeof(CostModel));
	ListCell *cell;

	model->candidates = candidates;
	model->nstatements = list_length(statements);
	model->statements = palloc0(Max(model->nstatements, 1) * sizeof(StatementCosts));
	model->context = CurrentMemoryContext;
	model->planning =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt planning", ALLOCSET_DEFAULT_SIZES);
	foreach(cell, statements)
	{
		AdvisorStatement *statement = lfirst(cell);
		StatementCosts *known = &model->statements[statement->id];
		int i = -1;

		known->statement = statement;
		known->relevant = candidates->of_statement[statement->id];
		known->queries = palloc0(statement->nqueries * sizeof(QueryCosts));
		for (int j = 0; j < statement->nqueries; j++)
			known->queries[j].query = &statement->queries[j];
		while ((i = bms_next_member(known->relevant, i)) >= 0)
			if (brings_statistics(candidates->indexes[i]))
				known->sighted = bms_add_member(known->sighted, i);
	}
	return model;
}

double
costs_today(const CostModel *model, int statement)
{
	return model->statements[statement].today;
}

const Bitmapset *
costs_relevant(const CostModel *model, int statement)
{
	return model->statements[statement].relevant;
}

bool
costs_known(const CostModel *model, int statement)
{
	return !model->statements[statement].failed;
}

List *
costs_groups(const CostModel *model, int statement)
{
	const StatementCosts *known = &model->statements[statement];
	List *groups = NIL;

	for (int i = 0; i < known->statement->nqueries; i++)
		for (int j = 0; j < known->queries[i].nplans; j++)
		{
			Bitmapset *used = known->queries[i].plans[j].used;

			if (!known->queries[i].plans[j].twin && bms_membership(used) == BMS_MULTIPLE)
				groups = lappend(groups, used);
		}
	return groups;
}

int
costs_planner_calls(const CostModel *model)
{
	return model->planner_calls;
}
