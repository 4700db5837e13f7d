/*
 * join_search.c
 *		The order of joins, found by less than the whole search.
 *
 * Where many relations are joined nearly all of planning is the search for the
 * order, and from one set of indexes to the next the good orders are mostly the
 * same.  So a statement is searched in full without any index and with the
 * final ones; in between, the joins of the plans that were found so far are put
 * together anew, by dynamic programming as the planner's own search does it, but
 * over these joins alone.
 *
 * Owns join_search_hook between begin and end; whoever had it is asked for full
 * searches.  Cost: about 50 microseconds a known join, instead of tens of
 * milliseconds.
 */
#include "pgopt.h"

#include "optimizer/geqo.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"

#include "join_search.h"

/* What a light search tries; the planner's own tries 500 orders for 12 relations. */
#define LIGHT_POOL        12
#define LIGHT_GENERATIONS 24

static struct
{
	JoinSearch how;
	const List *known;
	int (*number)(PlannerInfo *root);
	int largest;
	join_search_hook_type previous;
	int geqo_pool_size;
	int geqo_generations;
} search;

static RelOptInfo *
search_fully(PlannerInfo *root, int levels, List *relations)
{
	if (search.previous != NULL)
		return search.previous(root, levels, relations);
	if (enable_geqo && levels >= geqo_threshold)
		return geqo(root, levels, relations);
	return standard_join_search(root, levels, relations);
}

static RelOptInfo *
search_lightly(PlannerInfo *root, int levels, List *relations)
{
	RelOptInfo *result;

	Geqo_pool_size = LIGHT_POOL;
	Geqo_generations = LIGHT_GENERATIONS;
	result = geqo(root, levels, relations);
	Geqo_pool_size = search.geqo_pool_size;
	Geqo_generations = search.geqo_generations;
	return result;
}

static RelOptInfo *
find_relation(const List *relations, Relids relids)
{
	ListCell *cell;

	foreach(cell, relations)
	{
		RelOptInfo *rel = lfirst(cell);

		if (bms_equal(rel->relids, relids))
			return rel;
	}
	return NULL;
}

/* How many of what is to be joined are in it; 0 where one is so in part only. */
static int
count_members(const List *relations, Relids relids)
{
	int count = 0;
	ListCell *cell;

	foreach(cell, relations)
	{
		const RelOptInfo *rel = lfirst(cell);

		if (bms_is_subset(rel->relids, relids))
			count++;
		else if (bms_overlap(rel->relids, relids))
			return 0;
	}
	return count;
}

/* NULL where the known joins do not join all. */
static RelOptInfo *
join_known(PlannerInfo *root, int levels, List *relations)
{
	int query = search.number(root);
	List **joins = palloc0((levels + 1) * sizeof(List *));
	int before = list_length(root->join_rel_list);
	struct HTAB *hash = root->join_rel_hash;
	List *result;
	ListCell *cell;

	foreach(cell, search.known)
	{
		KnownJoin *join = lfirst(cell);
		int left;
		int right;

		if (join->query != query)
			continue;
		left = count_members(relations, join->left);
		right = count_members(relations, join->right);
		if (left > 0 && right > 0)
			joins[left + right] = lappend(joins[left + right], join);
	}
	if (joins[levels] == NIL)
		return NULL;

	/* As standard_join_search() does it, but so that another search can follow, as geqo_eval() does that. */
	root->join_rel_hash = NULL;
	root->join_rel_level = palloc0((levels + 1) * sizeof(List *));
	root->join_rel_level[1] = relations;
	for (int level = 2; level <= levels; level++)
	{
		root->join_cur_level = level;
		foreach(cell, joins[level])
		{
			const KnownJoin *join = lfirst(cell);
			RelOptInfo *left = find_relation(
				root->join_rel_level[count_members(relations, join->left)], join->left);
			RelOptInfo *right = find_relation(
				root->join_rel_level[count_members(relations, join->right)], join->right);

			if (left != NULL && right != NULL)
				(void) make_join_rel(root, left, right);
		}
		foreach(cell, root->join_rel_level[level])
		{
			RelOptInfo *rel = lfirst(cell);

			generate_partitionwise_join_paths(root, rel);
			if (level < levels)
				generate_useful_gather_paths(root, rel, false);
			set_cheapest(rel);
		}
	}
	result = root->join_rel_level[levels];
	root->join_rel_level = NULL;
	if (result != NIL)
		return linitial(result);
	root->join_rel_list = list_truncate(root->join_rel_list, before);
	root->join_rel_hash = hash;
	return NULL;
}

static RelOptInfo *
search_joins(PlannerInfo *root, int levels, List *relations)
{
	RelOptInfo *result = NULL;

	search.largest = Max(search.largest, levels);
	if (levels >= JOIN_SEARCH_LARGE && search.how == JOIN_SEARCH_KNOWN)
		result = join_known(root, levels, relations);
	if (levels >= JOIN_SEARCH_LARGE && search.how == JOIN_SEARCH_LIGHT)
		result = search_lightly(root, levels, relations);
	return result != NULL ? result : search_fully(root, levels, relations);
}

void
join_search_begin(JoinSearch how, const List *known, int (*number)(PlannerInfo *root))
{
	search.how = how;
	search.known = known;
	search.number = number;
	search.largest = 0;
	search.previous = join_search_hook;
	search.geqo_pool_size = Geqo_pool_size;
	search.geqo_generations = Geqo_generations;
	join_search_hook = search_joins;
}

void
join_search_end(void)
{
	join_search_hook = search.previous;
	Geqo_pool_size = search.geqo_pool_size;
	Geqo_generations = search.geqo_generations;
}

int
join_search_largest(void)
{
	return search.largest;
}

List *
join_search_remember(List *known, int query, Relids left, Relids right)
{
	KnownJoin *join;
	ListCell *cell;

	foreach(cell, known)
	{
		join = lfirst(cell);
		if (join->query == query &&
			((bms_equal(join->left, left) && bms_equal(join->right, right)) ||
			 (bms_equal(join->left, right) && bms_equal(join->right, left))))
			return known;
	}
	join = palloc(sizeof(KnownJoin));
	join->query = query;
	join->left = bms_copy(left);
	join->right = bms_copy(right);
	return lappend(known, join);
}
