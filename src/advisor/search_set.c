/*
 * search_set.c
 *		The search for the best set of candidates; selection.c says how.
 */
#include "pgopt.h"

#include <math.h>

#include "miscadmin.h"
#include "utils/float.h"
#include "utils/rel.h"

#include "search_set.h"

/*
 * Weight of the mean of relative costs against the logarithm of their sum.  On
 * TPC-H at 65 to 325 MB a half gives the same means as one, and lower sums;
 * a quarter gives the same sums.
 */
#define VOICE 0.5

/* An index as large as all of the tables must make things better by this. */
#define SPACE 0.02

/*
 * Costs are not times: what runs today is known, and another plan that is said
 * to be a little cheaper is as often slower.  So another plan counts as if it
 * cost this many times more: small gains are losses, large ones stay large.
 */
#define DOUBT     1.08
#define SAME_PLAN 1e-6

/* What a move must bring, and what must help one statement by how much. */
#define MIN_GAIN       0.0005
#define HELP_STATEMENT 0.04

/* Statements that are too cheap to be heard: a call, and their share of all. */
#define NEGLIGIBLE_COST  20.0
#define NEGLIGIBLE_SHARE 1e-7

/* A difference that is not worth a planner call. */
#define UNCHANGED      0.005

#define MAX_GROUP      4
#define EXCHANGE_LOOKS 20 /* prices that are asked for to fill the room of those that go */
#define EXCHANGE_PAIRS 12 /* where there are no more, two go at once as well */
#define MAX_EXCHANGES  24

/* Where the search begins: selection.c; and with how many moves the last of them. */
#define STARTS        5
#define FORCED_STARTS 12

/* Of what is found, so many are improved. */
#define IMPROVED 2

/* A set under way, and what each statement costs with it. */
typedef struct State
{
	Bitmapset *set;
	double bytes;
	double *costs; /* by statement */
	double time;   /* of all, as a share of today's, writing included */
	double mean;
	double loss;
} State;

/* What a move changes. */
typedef struct Effect
{
	double time;
	double mean;
	double helped; /* the largest share of its cost that one statement saves */
} Effect;

/* Candidates to be added together. */
typedef struct Move
{
	Bitmapset *add;
	Bitmapset *statements;
	Effect first;  /* where nothing else is there */
	Effect effect; /* as last priced */
	int priced;    /* at which step */
	bool confirmed;
	double
		bytes; /* of those that are not there yet, and how many they are, and the gain: by weigh() */
	int count;
	double gain;
} Move;

/* --- judging ---------------------------------------------------------------------------- */

static double
loss_of(const Search *search, double time, double mean, double bytes)
{
	return log(Max(time, 1e-12)) + VOICE * mean + search->byte_price * bytes;
}

/* What is left of a statement's cost of today; of another plan than today's, doubted. */
static double
felt(double cost, double today)
{
	double part = cost / today;

	return fabs(part - 1) < SAME_PLAN ? 1 : part * DOUBT;
}

static double
set_bytes(const Search *search, const Bitmapset *set)
{
	double bytes = 0;
	int i = -1;

	while ((i = bms_next_member(set, i)) >= 0)
		bytes += search->bytes[i];
	return bytes;
}

static double
write_share(const Search *search, const Bitmapset *set)
{
	double share = 0;
	int i = -1;

	while ((i = bms_next_member(set, i)) >= 0)
		share += search->writes[i].cost * search->write_unit;
	return share;
}

static State *
make_state(Search *search, const Bitmapset *set, bool confirm)
{
	State *state = palloc0(sizeof(State));

	state->set = bms_copy(set);
	state->bytes = set_bytes(search, set);
	state->costs = palloc0(Max(search->nstatements, 1) * sizeof(double));
	state->time = write_share(search, set);
	for (int s = 0; s < search->nstatements; s++)
	{
		double today = costs_today(search->model, s);
		double part = 1;

		if (!costs_known(search->model, s))
			continue;
		state->costs[s] = confirm ? costs_confirm(search->model, s, set)
								  : costs_reckon(search->model, s, set, NULL);
		if (today > 0)
			part = felt(state->costs[s], today);
		state->time += search->time[s] * part;
		state->mean += search->voice[s] * part;
	}
	state->loss = loss_of(search, state->time, state->mean, state->bytes);
	return state;
}

/* The state becomes that with another set, which makes a difference to these statements only. */
static void
change_state(Search *search, State *state, const Bitmapset *set, const Bitmapset *statements,
			 bool confirm)
{
	Bitmapset *old = state->set;
	int s = -1;

	state->time += write_share(search, set) - write_share(search, old);
	while ((s = bms_next_member(statements, s)) >= 0)
	{
		double today = costs_today(search->model, s);
		double cost;
		double change;

		if (!costs_known(search->model, s) || today <= 0)
			continue;
		cost = confirm ? costs_confirm(search->model, s, set)
					   : costs_reckon(search->model, s, set, NULL);
		change = felt(cost, today) - felt(state->costs[s], today);
		state->time += search->time[s] * change;
		state->mean += search->voice[s] * change;
		state->costs[s] = cost;
	}
	state->set = bms_copy(set);
	state->bytes = set_bytes(search, set);
	state->loss = loss_of(search, state->time, state->mean, state->bytes);
	bms_free(old);
}

static State *
copy_state(const Search *search, const State *state)
{
	State *copy = palloc(sizeof(State));

	*copy = *state;
	copy->set = bms_copy(state->set);
	copy->costs = palloc(Max(search->nstatements, 1) * sizeof(double));
	memcpy(copy->costs, state->costs, search->nstatements * sizeof(double));
	return copy;
}

static void
free_state(State *state)
{
	bms_free(state->set);
	pfree(state->costs);
	pfree(state);
}

double
search_loss(Search *search, const Bitmapset *set, bool confirm)
{
	State *state = make_state(search, set, confirm);
	double loss = state->loss;

	free_state(state);
	return loss;
}

/* What another set changes, that makes a difference to these statements only. */
static Effect
effect_of(Search *search, const State *state, const Bitmapset *set, const Bitmapset *statements,
		  bool confirm)
{
	Effect effect = {write_share(search, set) - write_share(search, state->set), 0, 0};
	int s = -1;

	while ((s = bms_next_member(statements, s)) >= 0)
	{
		double today = costs_today(search->model, s);
		double now = state->costs[s];
		double then;
		double change;

		if (!costs_known(search->model, s) || today <= 0)
			continue;
		then = costs_reckon(search->model, s, set, NULL);
		if (confirm && fabs(then - now) > UNCHANGED * now)
			then = costs_confirm(search->model, s, set);
		change = felt(then, today) - felt(now, today);
		effect.time += search->time[s] * change;
		effect.mean += search->voice[s] * change;
		if (search->voice[s] > 0 && now > 0)
			effect.helped = Max(effect.helped, (now - then) / now);
	}
	return effect;
}

static double
loss_after(const Search *search, const State *state, const Effect *effect, double bytes)
{
	return loss_of(
		search, state->time + effect->time, state->mean + effect->mean, state->bytes + bytes);
}

static Bitmapset *
statements_of(const Search *search, const Bitmapset *set)
{
	Bitmapset *statements = NULL;
	int i = -1;

	while ((i = bms_next_member(set, i)) >= 0)
		statements = bms_add_members(statements, search->statements_of[i]);
	return statements;
}

static bool
fits(const Search *search, double bytes, int count)
{
	return bytes <= search->goal.budget &&
		   (search->goal.max_indexes == 0 || count <= search->goal.max_indexes);
}

/* --- adding ------------------------------------------------------------------------------- */

static void
add_move(Search *search, const State *none, List **moves, const Bitmapset *add, bool certain)
{
	Bitmapset *statements = statements_of(search, add);
	Effect effect = effect_of(search, none, add, statements, false);
	Move *move;

	CHECK_FOR_INTERRUPTS();
	if (effect.helped < HELP_STATEMENT && !certain)
	{
		bms_free(statements);
		return;
	}
	move = palloc0(sizeof(Move));
	move->add = bms_copy(add);
	move->statements = statements;
	move->first = effect;
	*moves = lappend(*moves, move);
}

/* Every candidate that does anything for anybody, and what plans read together. */
static List *
make_moves(Search *search)
{
	List *moves = NIL;
	State *none = make_state(search, NULL, false);
	Bitmapset *in_groups = NULL;
	ListCell *cell;

	foreach(cell, search->groups)
		in_groups = bms_add_members(in_groups, lfirst(cell));
	for (int i = 0; i < search->candidates->count; i++)
	{
		Bitmapset *alone = bms_make_singleton(i);

		add_move(search, none, &moves, alone, bms_is_member(i, in_groups));
		bms_free(alone);
	}
	foreach(cell, search->groups)
		add_move(search, none, &moves, lfirst(cell), false);
	free_state(none);
	return moves;
}

/* What the move would bring, if it still did what it did when it was priced; negative where it is out of the question. */
static void
weigh(const Search *search, const State *state, Move *move, const Effect *effect)
{
	int i = -1;

	move->bytes = 0;
	move->count = 0;
	move->gain = -1;
	while ((i = bms_next_member(move->add, i)) >= 0)
		if (!bms_is_member(i, state->set))
		{
			move->bytes += search->bytes[i];
			move->count++;
		}
	if (move->count > 0 && effect->helped >= HELP_STATEMENT &&
		fits(search, state->bytes + move->bytes, bms_num_members(state->set) + move->count))
		move->gain = state->loss - loss_after(search, state, effect, move->bytes);
}

static void
price_move(Search *search, const State *state, Move *move, bool confirm)
{
	Bitmapset *set = bms_union(state->set, move->add);

	move->effect = effect_of(search, state, set, move->statements, confirm);
	move->confirmed = confirm;
	weigh(search, state, move, &move->effect);
	bms_free(set);
}

static void
make_move(Search *search, State *state, const Move *move)
{
	Bitmapset *set = bms_union(state->set, move->add);

	change_state(search, state, set, move->statements, false);
	bms_free(set);
}

/* Has anything changed for one of its statements since? */
static bool
is_stale(const Move *move, const int *changed)
{
	int s = -1;

	while ((s = bms_next_member(move->statements, s)) >= 0)
		if (changed[s] > move->priced)
			return true;
	return false;
}

static void
note_change(int *changed, const Bitmapset *statements, int step)
{
	int s = -1;

	while ((s = bms_next_member(statements, s)) >= 0)
		changed[s] = step;
}

/* How good a gain is for its bytes: power 1 = for each byte, 0 = whatever it takes. */
static double
score_of(const Move *move, double power)
{
	return power == 0 ? move->gain : move->gain / pow(move->bytes, power);
}

/*
 * Adds what is best until nothing fits or helps.
 * What a move brings hardly grows as others are made, so the one that looked
 * best is priced anew, and the others only when they get to the top (Leskovec et
 * al.: "Cost-effective outbreak detection in networks", KDD 2007); all of them
 * before it ends.
 */
static void
add_greedily(Search *search, State *state, List *moves, double power)
{
	int *changed = palloc0(Max(search->nstatements, 1) * sizeof(int));
	bool empty = bms_is_empty(state->set);
	bool all_priced = false;
	ListCell *cell;

	foreach(cell, moves)
	{
		Move *move = lfirst(cell);

		move->priced = empty ? 0 : -1;
		move->confirmed = false;
		move->effect = move->first;
	}
	for (int step = 1;; step++)
	{
		Move *best = NULL;
		double best_score = 0;

		CHECK_FOR_INTERRUPTS();
		foreach(cell, moves)
		{
			Move *move = lfirst(cell);
			double score;

			weigh(search, state, move, &move->effect);
			if (move->gain < MIN_GAIN)
				continue;
			score = score_of(move, power);
			if (best == NULL || score > best_score)
			{
				best = move;
				best_score = score;
			}
		}
		if (best == NULL)
		{
			if (all_priced)
				break;
			foreach(cell, moves)
			{
				Move *move = lfirst(cell);

				CHECK_FOR_INTERRUPTS();
				weigh(search, state, move, &move->first);
				if (move->count == 0 ||
					!fits(search,
						  state->bytes + move->bytes,
						  bms_num_members(state->set) + move->count) ||
					!is_stale(move, changed))
					continue;
				price_move(search, state, move, false);
				move->priced = step;
			}
			all_priced = true;
		}
		else if (is_stale(best, changed))
		{
			price_move(search, state, best, false);
			best->priced = step;
		}
		else if (!best->confirmed)
		{
			int calls = costs_planner_calls(search->model);

			price_move(search, state, best, true);
			if (costs_planner_calls(search->model) > calls)
				note_change(changed, best->statements, step);
			best->priced = step;
		}
		else
		{
			make_move(search, state, best);
			note_change(changed, best->statements, step);
			all_priced = false;
		}
	}
	pfree(changed);
}

/* --- taking away ----------------------------------------------------------------------------- */

/* The member whose loss hurts least, for each byte or at all; -1 where there is none. */
static int
least_missed(Search *search, const State *state, bool by_byte, double *worse)
{
	int best = -1;
	double best_score = 0;
	int i = -1;

	while ((i = bms_next_member(state->set, i)) >= 0)
	{
		Bitmapset *set = bms_del_member(bms_copy(state->set), i);
		Effect effect = effect_of(search, state, set, search->statements_of[i], false);
		double loss = loss_after(search, state, &effect, -search->bytes[i]) - state->loss;
		double score = by_byte ? loss / search->bytes[i] : loss;

		CHECK_FOR_INTERRUPTS();
		if (best < 0 || score < best_score)
		{
			best = i;
			best_score = score;
			*worse = loss;
		}
		bms_free(set);
	}
	return best;
}

static State *
without(Search *search, const State *state, int index, bool confirm)
{
	Bitmapset *set = bms_del_member(bms_copy(state->set), index);
	State *result = copy_state(search, state);

	change_state(search, result, set, search->statements_of[index], confirm);
	bms_free(set);
	return result;
}

/* Takes away until it fits. */
static State *
relax(Search *search, State *state)
{
	while (!fits(search, state->bytes, bms_num_members(state->set)))
	{
		double worse;
		int index = least_missed(search, state, true, &worse);
		State *next = without(search, state, index, false);

		free_state(state);
		state = next;
	}
	return state;
}

/* Takes away what does next to nothing for the rest. */
static State *
trim(Search *search, State *state)
{
	for (;;)
	{
		double worse;
		int index = least_missed(search, state, false, &worse);
		State *next;

		if (index < 0 || worse >= MIN_GAIN)
			return state;
		next = without(search, state, index, true);
		if (next->loss - state->loss >= MIN_GAIN)
		{
			/* It only seemed so; now that it is known, another is the least missed. */
			double known;

			free_state(next);
			next = make_state(search, state->set, false);
			free_state(state);
			state = next;
			if (least_missed(search, state, false, &known) == index && known >= MIN_GAIN)
				return state;
			if (known == worse)
				return state;
			continue;
		}
		free_state(state);
		state = next;
	}
}

/* --- exchanging -------------------------------------------------------------------------------- */

/*
 * Adds what looks best for some room that became free, by reckoned costs alone.
 * A move that was not looked at here counts as if nothing else were there.
 */
static void
refill(Search *search, State *state, List *moves, const Bitmapset *gone, double power)
{
	int step = 1;
	ListCell *cell;

	foreach(cell, moves)
		((Move *) lfirst(cell))->priced = 0;
	for (int looks = 0; looks < EXCHANGE_LOOKS; looks++)
	{
		Move *best = NULL;
		double best_score = 0;

		CHECK_FOR_INTERRUPTS();
		foreach(cell, moves)
		{
			Move *move = lfirst(cell);
			double score;

			if (bms_overlap(gone, move->add))
				continue;
			weigh(search, state, move, move->priced > 0 ? &move->effect : &move->first);
			if (move->gain < MIN_GAIN)
				continue;
			score = score_of(move, power);
			if (best == NULL || score > best_score)
			{
				best = move;
				best_score = score;
			}
		}
		if (best == NULL)
			return;
		if (best->priced < step)
		{
			price_move(search, state, best, false);
			best->priced = step;
		}
		else
		{
			make_move(search, state, best);
			step++;
		}
	}
}

/* Those for others: NULL where that makes it no better. */
static State *
exchange(Search *search, const State *state, List *moves, Bitmapset *gone)
{
	Bitmapset *rest = bms_difference(state->set, gone);
	Bitmapset *left = statements_of(search, gone);

	for (double power = 0; power <= 1; power += 0.5)
	{
		State *next = copy_state(search, state);

		change_state(search, next, rest, left, false);
		refill(search, next, moves, gone, power);
		if (next->loss < state->loss - MIN_GAIN)
		{
			Bitmapset *added = bms_difference(next->set, state->set);
			Bitmapset *set = bms_copy(next->set);

			change_state(search, next, set, bms_union(left, statements_of(search, added)), true);
			if (next->loss < state->loss - MIN_GAIN)
				return next;
		}
		free_state(next);
	}
	return NULL;
}

/* The first exchange of one, or of two where they are few, that makes it better. */
static State *
find_exchange(Search *search, const State *state, List *moves, bool pairs)
{
	State *next = NULL;
	int i = -1;
	int j;

	while (next == NULL && (i = bms_next_member(state->set, i)) >= 0)
		next = exchange(search, state, moves, bms_make_singleton(i));
	if (!pairs || bms_num_members(state->set) > EXCHANGE_PAIRS)
		return next;
	i = -1;
	while (next == NULL && (i = bms_next_member(state->set, i)) >= 0)
	{
		j = i;
		while (next == NULL && (j = bms_next_member(state->set, j)) >= 0)
			next = exchange(search, state, moves, bms_add_member(bms_make_singleton(i), j));
	}
	return next;
}

static State *
improve(Search *search, State *state, List *moves, bool pairs)
{
	for (int i = 0; i < MAX_EXCHANGES; i++)
	{
		State *next = find_exchange(search, state, moves, pairs);

		if (next == NULL)
			break;
		free_state(state);
		state = next;
		add_greedily(search, state, moves, 0);
	}
	return trim(search, state);
}

/* --- the search ----------------------------------------------------------------------------------- */

static int
compare_first(const ListCell *a, const ListCell *b)
{
	const Move *left = lfirst(a);
	const Move *right = lfirst(b);

	return left->gain > right->gain ? -1 : left->gain < right->gain ? 1 : 0;
}

/* From nothing, but for one of the moves that bring most by themselves: the best by reckoned costs. */
static State *
start_with_one(Search *search, List *moves)
{
	State *none = make_state(search, NULL, false);
	State *best = NULL;
	List *firsts = list_copy(moves);
	ListCell *cell;

	foreach(cell, moves)
		weigh(search, none, lfirst(cell), &((Move *) lfirst(cell))->first);
	list_sort(firsts, compare_first);
	firsts = list_truncate(firsts, FORCED_STARTS);
	while (firsts != NIL && ((Move *) llast(firsts))->gain <= 0)
		firsts = list_truncate(firsts, list_length(firsts) - 1);
	foreach(cell, firsts)
		for (double power = 0; power <= 1; power += 0.5)
		{
			State *state = copy_state(search, none);

			make_move(search, state, lfirst(cell));
			refill(search, state, moves, NULL, power);
			if (best == NULL || state->loss < best->loss)
				best = state;
		}
	if (best == NULL)
		return none;
	free_state(none);
	return best;
}

/* The best without a limit, as much of it as fits. */
static State *
start_unlimited(Search *search, List *moves)
{
	SelectionGoal goal = search->goal;
	State *state = make_state(search, NULL, false);

	search->goal.budget = get_float8_infinity();
	search->goal.max_indexes = 0;
	add_greedily(search, state, moves, 0);
	search->goal = goal;
	return relax(search, state);
}

static State *
start_search(Search *search, List *moves, int start)
{
	State *state;

	if (start < 3)
	{
		state = make_state(search, NULL, false);
		add_greedily(search, state, moves, 1 - start * 0.5);
		return state;
	}
	state = start == 3 ? start_unlimited(search, moves) : start_with_one(search, moves);
	add_greedily(search, state, moves, 0);
	return state;
}

/* By what is known now, which is more than when it was found. */
static int
compare_states(const ListCell *a, const ListCell *b)
{
	double left = ((State *) lfirst(a))->loss;
	double right = ((State *) lfirst(b))->loss;

	return left < right ? -1 : left > right ? 1 : 0;
}

static List *
sort_states(Search *search, List *states)
{
	ListCell *cell;

	foreach(cell, states)
		lfirst(cell) = make_state(search, ((State *) lfirst(cell))->set, true);
	list_sort(states, compare_states);
	return states;
}

Bitmapset *
search_run(Search *search, SelectionProgress progress)
{
	List *moves = make_moves(search);
	List *found = NIL;
	List *improved = NIL;
	ListCell *cell;

	for (int start = 0; start < STARTS; start++)
	{
		if (progress != NULL)
			progress("selecting", start, STARTS, costs_planner_calls(search->model));
		found = lappend(found, start_search(search, moves, start));
	}
	found = list_truncate(sort_states(search, found), IMPROVED);
	foreach(cell, found)
		improved = lappend(improved, improve(search, lfirst(cell), moves, false));
	improved = sort_states(search, improved);
	return improve(search, linitial(improved), moves, true)->set;
}

/* What the times say, or where they are not known the planner. */
static void
weigh_statements(Search *search)
{
	double known_time = 0;
	double known_cost = 0;
	double total = 0;
	double unit;
	int heard = 0;

	for (int s = 0; s < search->nstatements; s++)
	{
		const AdvisorStatement *statement = search->statements[s];

		if (costs_known(search->model, s) && statement->milliseconds > 0)
		{
			known_time += statement->milliseconds;
			known_cost += statement->calls * costs_today(search->model, s);
		}
	}
	unit = known_time > 0 && known_cost > 0 ? known_time / known_cost : 1;
	for (int s = 0; s < search->nstatements; s++)
	{
		const AdvisorStatement *statement = search->statements[s];

		if (!costs_known(search->model, s))
			continue;
		search->time[s] = statement->milliseconds > 0
							  ? statement->milliseconds
							  : statement->calls * costs_today(search->model, s) * unit;
		total += search->time[s];
	}
	total = Max(total, 1e-9);
	search->write_unit = unit / total;
	for (int s = 0; s < search->nstatements; s++)
	{
		search->time[s] /= total;
		if (costs_known(search->model, s) && search->time[s] >= NEGLIGIBLE_SHARE &&
			costs_today(search->model, s) >= NEGLIGIBLE_COST)
		{
			search->voice[s] = 1;
			heard++;
		}
	}
	for (int s = 0; s < search->nstatements; s++)
		search->voice[s] /= Max(heard, 1);
}

static bool
group_is_known(const List *groups, const Bitmapset *set)
{
	ListCell *cell;

	foreach(cell, groups)
		if (bms_equal(lfirst(cell), set))
			return true;
	return false;
}

Search *
search_create(CostModel *model, List *statements, CandidateSet *candidates,
			  const SelectionGoal *goal)
{
	Search *search = palloc0(sizeof(Search));
	int n = list_length(statements);
	List *tables = NIL;
	double table_bytes = 0;
	ListCell *cell;

	search->model = model;
	search->candidates = candidates;
	search->goal = *goal;
	search->nstatements = n;
	search->statements = palloc0(Max(n, 1) * sizeof(AdvisorStatement *));
	search->time = palloc0(Max(n, 1) * sizeof(double));
	search->voice = palloc0(Max(n, 1) * sizeof(double));
	search->bytes = palloc0(Max(candidates->count, 1) * sizeof(double));
	search->writes = palloc0(Max(candidates->count, 1) * sizeof(WriteCost));
	search->statements_of = palloc0(Max(candidates->count, 1) * sizeof(Bitmapset *));
	foreach(cell, statements)
	{
		AdvisorStatement *statement = lfirst(cell);
		int i = -1;

		search->statements[statement->id] = statement;
		while ((i = bms_next_member(costs_relevant(model, statement->id), i)) >= 0)
			search->statements_of[i] = bms_add_member(search->statements_of[i], statement->id);
	}
	for (int s = 0; s < n; s++)
		foreach(cell, costs_groups(model, s))
			if (bms_num_members(lfirst(cell)) <= MAX_GROUP &&
				!group_is_known(search->groups, lfirst(cell)))
				search->groups = lappend(search->groups, lfirst(cell));
	for (int i = 0; i < candidates->count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		search->bytes[i] = candidates->indexes[i]->bytes;
		writes_price(candidates->indexes[i], statements, &search->writes[i]);
		tables = list_append_unique_oid(tables, candidates->indexes[i]->table);
	}
	foreach(cell, tables)
	{
		Relation table = RelationIdGetRelation(lfirst_oid(cell));

		if (RelationIsValid(table))
		{
			table_bytes += (double) table->rd_rel->relpages * BLCKSZ;
			RelationClose(table);
		}
	}
	search->byte_price = SPACE / Max(table_bytes, BLCKSZ);
	weigh_statements(search);
	return search;
}
