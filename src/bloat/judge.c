/*
 * judge.c
 *		From where on space that a rewrite gives back is a finding, and whether an
 *		index has so much of it.
 *
 * 32 pages tell whether there may be enough at all; only then is it measured
 * well.  What counts is the lower end of the interval, without what dead
 * entries take, which a vacuum makes usable.
 */
#include "pgopt.h"

#include "access/relation.h"

#include "bloat.h"

Threshold bloat_worth_percent = {
	.name = "bloat_percent",
	.unit = UNIT_PERCENT,
	.boot_value = 30,
	.description = "Percentage of a relation that a rewrite must give back to be a finding.",
};

Threshold bloat_worth_size = {
	.name = "bloat_size",
	.unit = UNIT_MB,
	.boot_value = 10,
	.description = "Size that a rewrite of a relation must give back to be a finding.",
};

bool
bloat_is_enough(double bytes, const BloatEstimate *estimate)
{
	return bytes >= threshold_value(&bloat_worth_size) &&
		   bloat_percent(bytes, estimate) >= threshold_value(&bloat_worth_percent);
}

bool
bloat_judge_index(Oid index, Oid table, BloatJudgement *judgement)
{
	BloatEstimate *estimate = &judgement->estimate;
	bool locked;
	Relation heap = bloat_open(table, &locked);
	Relation rel = heap != NULL ? bloat_open(index, &locked) : NULL;

	if (rel != NULL)
	{
		judgement->reading = index;
		bloat_measure_index(rel, heap, NULL, &bloat_budget_screen, estimate);
		if (bloat_is_enough(bloat_reclaimable_high(estimate), estimate))
		{
			BloatEstimate rows;
			double entries;

			judgement->reading = table;
			bloat_measure_heap(heap, &bloat_budget_rows, &rows);
			judgement->reading = InvalidOid;
			bloat_measure_index(rel, heap, &rows, &bloat_budget_index, estimate);
			entries = rows.entries + rows.dead_entries;
			judgement->low = bloat_reclaimable_low(estimate);
			if (entries > 0)
				judgement->low -= estimate->size * rows.dead_entries / entries;
			judgement->low = Max(judgement->low, 0);
			bloat_index_remedy(rel, true, &judgement->remedy);
		}
		relation_close(rel, AccessShareLock);
	}
	if (heap != NULL)
		relation_close(heap, AccessShareLock);
	return rel != NULL || !locked;
}
