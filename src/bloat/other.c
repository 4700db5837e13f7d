/*
 * other.c
 *		Indexes of the access methods whose rebuild is not simulated.
 *
 * What they hold is known from a sample of pages, what a build would make of
 * it is not: how a GiST or GIN page fills up depends on the order of
 * insertion.  So only pages that hold nothing count as reclaimable for sure,
 * and free space beyond what a fresh index leaves as reclaimable by guess.
 * All of it is of low confidence.
 *
 * Cost: a page header a page.
 */
#include "pgopt.h"

#include "catalog/pg_am.h"
#include "portability/instr_time.h"
#include "storage/bufpage.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "sample.h"
#include "search.h"

/* Share of its used pages that a fresh index of any method may leave free. */
#define FRESH_FREE 0.35

static void
measure_any_page(void *state, Buffer buffer, BlockNumber block, float *value)
{
	Page page = BufferGetPage(buffer);

	if (PageIsNew(page))
	{
		value[PAGE_FREE] = BLCKSZ;
		return;
	}
	value[PAGE_FREE] = PageGetExactFreeSpace(page);
	if (PageGetSpecialSize(page) + SizeOfPageHeaderData + value[PAGE_FREE] >= BLCKSZ)
		value[PAGE_FREE] = BLCKSZ;
	else
	{
		value[PAGE_KINDS] = 1;
		value[PAGE_REWRITTEN] = Min(1.0, (BLCKSZ - value[PAGE_FREE]) / (BLCKSZ * (1 - FRESH_FREE)));
	}
}

void
bloat_measure_other(Relation rel, const BloatBudget *budget, BloatEstimate *estimate)
{
	Sample sample;
	double n, error, used, used_error, ignored;

	sample_begin(&sample, rel, 0, 1);
	n = sample.population;
	if (n <= budget->whole)
		sample_all(&sample);
	else
	{
		maps_read(&sample);
		sample_draw(&sample, Min(budget->first, (int) n));
	}
	sample_measure(&sample, measure_any_page, NULL, NULL);
	estimate->pages = sample.population;
	estimate->pages_sampled = sample.size;
	estimate->size = n * BLCKSZ;
	estimate->free_bytes = n * sample_mean(&sample, PAGE_FREE, &ignored);
	estimate->rewritten = n * BLCKSZ * sample_mean(&sample, PAGE_REWRITTEN, &error);
	used = n * BLCKSZ * sample_mean(&sample, PAGE_KINDS, &used_error);
	estimate->rewritten_low = Max(Min(estimate->size - estimate->free_bytes, estimate->rewritten) -
									  2.1 * error * n * BLCKSZ,
								  0);
	estimate->rewritten_high = Max(used + 2.1 * used_error * n * BLCKSZ, estimate->rewritten);
	/* The buckets that are to come have their pages already, in a fresh index too. */
	if (rel->rd_rel->relam == HASH_AM_OID)
		estimate->rewritten_high = estimate->size;
	estimate->confidence = BLOAT_LOW;
	FreeAccessStrategy(sample.strategy);
	switch (rel->rd_rel->relam)
	{
		case GIN_AM_OID:
			estimate->reason = "what a rebuild makes of a GIN index cannot be told from its pages";
			break;
		case GIST_AM_OID:
			estimate->reason = "what a rebuild makes of a GiST index cannot be told from its pages";
			break;
		case HASH_AM_OID:
			estimate->reason =
				"a hash index is rebuilt with as many buckets as its rows need, rounded up";
			break;
		case BRIN_AM_OID:
			estimate->reason = "a BRIN index is small however much of it is free";
			break;
		case SPGIST_AM_OID:
			estimate->reason =
				"what a rebuild makes of an SP-GiST index cannot be told from its pages";
			break;
		default:
			estimate->reason = "its access method is not one that pgopt knows";
			break;
	}
}

/* A pgopt_bm25 index counts what it uses its pages for. */
static void
bloat_measure_search(Relation rel, BloatEstimate *estimate)
{
	SearchSpace space;

	search_space_of_index(rel, &space);
	estimate->pages = space.total;
	estimate->pages_sampled = 2;
	estimate->size = space.total * BLCKSZ;
	estimate->free_bytes = space.free * BLCKSZ;
	estimate->rewritten = (space.total - space.free - space.deleted) * BLCKSZ;
	/* Several segments hold words twice that one holds once. */
	estimate->rewritten_low = 0.8 * estimate->rewritten;
	/* The next merge of all segments takes as many free pages as they are: an index at work needs them. */
	estimate->rewritten_high = (space.total - space.free + Min(space.free, space.live)) * BLCKSZ;
	estimate->confidence = BLOAT_MEDIUM;
	estimate->reason = "counted by the index: free pages, and the share of deleted documents";
}

void
bloat_measure_index(Relation rel, Relation table, const BloatEstimate *heap,
					const BloatBudget *budget, BloatEstimate *estimate)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt bloat", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	instr_time start, duration;

	INSTR_TIME_SET_CURRENT(start);
	memset(estimate, 0, sizeof(BloatEstimate));
	if (rel->rd_rel->relam == BTREE_AM_OID)
		bloat_measure_btree(rel, table, heap, budget, estimate);
	else if (rel->rd_rel->relam == search_access_method())
		bloat_measure_search(rel, estimate);
	else
		bloat_measure_other(rel, budget, estimate);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	INSTR_TIME_SET_CURRENT(duration);
	INSTR_TIME_SUBTRACT(duration, start);
	estimate->milliseconds = INSTR_TIME_GET_MILLISEC(duration);
}
