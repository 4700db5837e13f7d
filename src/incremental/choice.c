/*
 * choice.c
 *		Is it cheaper to apply what changed, or to compute everything?
 *
 * By what refreshes of the same view cost before: a fixed part, which is the
 * least that one of a few changes took lately, and moving means of what each
 * change adds and of the time of a full one.  Pure functions.
 *
 * A full refresh that was chosen makes the mean cost of a change a little
 * smaller, so that one bad measurement is not believed for ever.
 */
#include "pgopt.h"

#include "sources.h"

/* Before anything was measured. */
#define ASSUMED_FIXED_US  2000
#define ASSUMED_CHANGE_NS 20000

/* A full refresh is preferred where the other way would save less than a fifth. */
#define PREFERENCE 0.8

/* So few changes tell of the fixed part. */
#define FEW_CHANGES 50

static int64
fixed_us(const RefreshCosts *costs)
{
	return costs->fixed_us > 0 ? costs->fixed_us : ASSUMED_FIXED_US;
}

static int64
change_ns(const RefreshCosts *costs)
{
	return costs->change_ns > 0 ? costs->change_ns : ASSUMED_CHANGE_NS;
}

double
choice_predict_us(const RefreshCosts *costs, int64 changes)
{
	return fixed_us(costs) + (double) changes * change_ns(costs) / 1000;
}

int64
choice_limit(const RefreshCosts *costs)
{
	double room;

	if (costs->full_us == 0)
		return PG_INT64_MAX;
	room = costs->full_us * PREFERENCE - Min(fixed_us(costs), costs->full_us / 2);
	return (int64) Max(room * 1000 / change_ns(costs), 1);
}

static int64
moving_mean(int64 mean, int64 value)
{
	return Max(mean == 0 ? value : (3 * mean + value) / 4, 1);
}

void
choice_learn_apply(RefreshCosts *costs, int64 changes, int64 duration)
{
	if (changes <= FEW_CHANGES)
		costs->fixed_us = costs->fixed_us == 0 || duration < costs->fixed_us
							  ? Max(duration, 1)
							  : moving_mean(costs->fixed_us, duration);
	else
		costs->change_ns = moving_mean(
			costs->change_ns, Max(duration - costs->fixed_us, duration / 4) * 1000 / changes);
}

void
choice_learn_full(RefreshCosts *costs, int64 duration)
{
	costs->full_us = moving_mean(costs->full_us, duration);
	if (costs->change_ns > 0)
		costs->change_ns = Max(costs->change_ns - costs->change_ns / 10, 1);
}
