/*
 * strategy.c
 *		When a view is due: a pure function of what is known about it.
 *
 * What is not known to be unchanged may have changed: it counts as one
 * pending change of unknown age.
 */
#include "pgopt.h"

#include "utils/timestamp.h"

#include "matview.h"

/*
 * An immediate view is not refreshed for more than a quarter of the time: the
 * next refresh starts no earlier after the last one than three times what that
 * took, up to this.
 */
#define LONGEST_REST (INT64CONST(10) * USECS_PER_SEC)

/*
 * Strategy smart: a read of stale rows is worth this much refresh time.
 */
#define WORTH_OF_A_READ (INT64CONST(100) * 1000)

/* A refresh is never reckoned cheaper than this, nor one whose cost is not known yet. */
#define LEAST_COST (INT64CONST(10) * 1000)

static StrategyDecision
due_now(const char *reason)
{
	StrategyDecision decision = {true, false, reason, 0, 0};

	return decision;
}

static StrategyDecision
wait_until(TimestampTz next_at, int64 wake_after)
{
	StrategyDecision decision = {false, false, NULL, next_at, wake_after};

	return decision;
}

static StrategyDecision
decide_immediate(const StrategyInput *input)
{
	TimestampTz rested =
		input->last_refresh + input->last_duration + Min(3 * input->last_duration, LONGEST_REST);

	/* What no counter can tell is looked after by the clock. */
	if (!input->trackable && !(input->known && (input->pending > 0 || input->truncated)))
	{
		TimestampTz next_at = input->last_refresh + input->interval;

		return input->now >= next_at ? due_now("it may have changed, and its interval has passed")
									 : wait_until(next_at, 1);
	}
	if (input->unchanged)
		return wait_until(DT_NOEND, 1);
	if (input->known && input->pending == 0 && !input->truncated)
		return wait_until(DT_NOEND, 1); /* in flight: its commit will tell */
	if (input->now < rested)
		return wait_until(rested, 0);
	return due_now(input->known ? "a change was committed" : "it may have changed");
}

static StrategyDecision
decide_scheduled(const StrategyInput *input)
{
	TimestampTz next_at = Max(input->last_refresh, input->last_checked) + input->interval;
	StrategyDecision decision;

	if (input->now < next_at)
		return wait_until(next_at, 0);
	decision = due_now("its interval has passed");
	if (input->unchanged)
	{
		decision.due = false;
		decision.skip = true;
		decision.reason = "its interval has passed, and nothing changed";
		decision.next_at = input->now + input->interval;
	}
	return decision;
}

static StrategyDecision
decide_threshold(const StrategyInput *input)
{
	TimestampTz next_at = input->last_refresh + input->interval;

	if (input->known && (input->pending >= input->threshold || input->truncated))
		return due_now(input->truncated ? "what it reads was truncated"
										: "the pending changes reached the threshold");
	if (input->unchanged && input->now >= next_at)
		return wait_until(DT_NOEND, 1);
	if (input->now >= next_at)
		return due_now("its interval has passed with changes pending");
	return wait_until(next_at, input->threshold - input->pending);
}

/*
 * smart: due when what stale reads are worth outweighs what a refresh costs,
 *
 *		stale reads x min(1, pending / threshold) x 0.1 s >= mean duration,
 *
 * and at the latest when the oldest change that it does not show is as old as
 * the interval.  Reads are the scans of the view and its indexes since it was
 * last known to be fresh.
 */
static StrategyDecision
decide_smart(const StrategyInput *input)
{
	double share;
	double worth;
	TimestampTz bound;

	if (input->unchanged)
		return wait_until(DT_NOEND, 1);

	bound = (input->changed_since ? input->changed_since : input->last_refresh) + input->interval;
	if (input->now >= bound)
		return due_now("its greatest staleness was reached");

	share = input->known && !input->truncated ? (double) input->pending / input->threshold : 1.0;
	worth = (double) input->stale_reads * Min(share, 1.0) * WORTH_OF_A_READ;
	if (worth >= (double) Max(input->mean_duration, LEAST_COST))
		return due_now("its stale reads outweigh a refresh");
	return wait_until(Min(bound, input->now + input->naptime), 0);
}

StrategyDecision
strategy_decide(const StrategyInput *input)
{
	if (input->strategy == STRATEGY_MANUAL)
		return wait_until(DT_NOEND, 0);
	if (input->now < input->retry_at)
		return wait_until(input->retry_at, 0);
	if (!input->refreshed)
		return due_now("it was not refreshed by pgopt yet");
	if (input->failures > 0)
		return due_now("the last refresh failed");

	switch (input->strategy)
	{
		case STRATEGY_IMMEDIATE:
			return decide_immediate(input);
		case STRATEGY_SCHEDULED:
			return decide_scheduled(input);
		case STRATEGY_THRESHOLD:
			return decide_threshold(input);
		case STRATEGY_SMART:
			return decide_smart(input);
		case STRATEGY_MANUAL:
			break;
	}
	return wait_until(DT_NOEND, 0);
}
