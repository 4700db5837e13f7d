/*
 * index_costs.c
 *		What scans of hypothetical GIN and BRIN indexes cost.
 *
 * Of those that exist the server's estimators look at the metapage, of others
 * they invent what it would say.  Here they are called so that they invent what
 * the size model knows, and what still differs is set right afterwards.  All
 * other access methods' estimators use only what get_relation_info() gives.
 */
#include "pgopt.h"

#include <math.h>

#include "access/amapi.h"
#include "access/brin.h"
#include "access/brin_page.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "utils/index_selfuncs.h"
#include "utils/spccache.h"

#include "hypothetical.h"
#include "hypothetical_private.h"

/*
 * gincostestimate() takes nine tenths of the pages for entries, with a hundred
 * keys each.  Pages of entries count most, so they are made right.  A search
 * reads its keys' part of the other pages, which is then too little where keys
 * are few and in many rows.
 */
void
gin_cost(PlannerInfo *root, IndexPath *path, double loop_count, Cost *startup, Cost *total,
		 Selectivity *selectivity, double *correlation, double *pages)
{
	IndexOptInfo *info = path->indexinfo;
	const HypotheticalIndex *index = hypothetical_by_oid(info->indexoid);
	BlockNumber real_pages = info->pages;
	double random_page_cost_here;
	double keys;
	double data;

	if (index == NULL)
	{
		gincostestimate(root, path, loop_count, startup, total, selectivity, correlation, pages);
		return;
	}
	info->pages = (BlockNumber) Max(ceil(index->entry_pages / 0.9), 1);
	gincostestimate(root, path, loop_count, startup, total, selectivity, correlation, pages);
	info->pages = real_pages;
	if (loop_count > 1 || index->entries < 1)
		return;
	/* What the search in the tree cost says how many keys are looked for. */
	get_tablespace_page_costs(info->reltablespace, &random_page_cost_here, NULL);
	if (random_page_cost_here <= 0)
		return;
	keys = floor(*startup / random_page_cost_here /
					 Max(rint(pow(Max(index->entry_pages, 1), 0.15)), 1) +
				 0.01);
	keys = Min(keys, index->entries);
	data = ceil(index->data_pages * keys / index->entries);
	if (data > *pages)
	{
		*total += (data - *pages) * random_page_cost_here;
		*pages = data;
	}
}

/*
 * brincostestimate() takes the default number of pages for a range, and counts
 * one page more of the map than the metapage of a real index would say.
 */
void
brin_cost(PlannerInfo *root, IndexPath *path, double loop_count, Cost *startup, Cost *total,
		  Selectivity *selectivity, double *correlation, double *pages)
{
	IndexOptInfo *info = path->indexinfo;
	const HypotheticalIndex *index = hypothetical_by_oid(info->indexoid);
	RelOptInfo *rel = info->rel;
	BlockNumber real_pages = rel->pages;
	double ranges;
	double taken_pages;
	double real_map;
	double taken_map;
	double random_cost;
	double sequential_cost;

	if (index == NULL || index->pages_per_range <= 0)
	{
		brincostestimate(root, path, loop_count, startup, total, selectivity, correlation, pages);
		return;
	}
	ranges = Max(ceil((double) rel->pages / index->pages_per_range), 1);
	taken_pages = ranges * BRIN_DEFAULT_PAGES_PER_RANGE;
	rel->pages = (BlockNumber) Min(taken_pages, MaxBlockNumber);
	brincostestimate(root, path, loop_count, startup, total, selectivity, correlation, pages);
	rel->pages = real_pages;

	get_tablespace_page_costs(info->reltablespace, &random_cost, &sequential_cost);
	taken_map = floor(ranges / REVMAP_PAGE_MAXITEMS + 1);
	real_map = floor((ranges - 1) / REVMAP_PAGE_MAXITEMS);
	*startup += (real_map - taken_map) * sequential_cost * loop_count;
	*total += (real_map - taken_map) * (sequential_cost - random_cost) * loop_count;
	/* Each range that is read sets the bits of its pages. */
	*total += 0.1 * cpu_operator_cost * *selectivity * ranges *
			  (index->pages_per_range - BRIN_DEFAULT_PAGES_PER_RANGE);
}
