/*
 * harvest.c
 *		One planner call, and all that can be learned from it.
 *
 * While the planner works on a relation, each candidate is shown to it alone,
 * and the paths that come out are kept: for each way of reading a relation
 * (with or without values of other relations, in some order or none, as a
 * worker's share) what it costs by which index.  That is what INUM (Papadomanolakis,
 * Dash, Ailamaki: "Efficient use of the query optimizer for automated physical
 * design", VLDB 2007) gets by a planner call for each order, and PINUM (Maier,
 * Dash, Alagiannis, Ailamaki, Heinis: "PARINDA", 2010) inside the planner.
 *
 * The plan that is chosen is taken apart into its scans, each with what the
 * rest of the plan asks of it and with how often its cost counts: the cost of
 * the same plan with another index in place of a scan's follows by addition.
 * It is the paths that are taken apart, not the plan, which no longer knows
 * about orders and parameters.
 *
 * Locks: those of planning.  Memory: see harvest_plan().  Cost: one planner
 * call; where candidates are priced alone, about as much again for each 50.
 */
#include "pgopt.h"

#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/cost.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/planner.h"
#include "parser/parsetree.h"
#include "utils/memutils.h"

#include "compat.h"
#include "harvest.h"
#include "hypothetical.h"
#include "plan_tree.h"

/* How often a subplan is run, and for how much of its output. */
typedef struct Evaluations
{
	double times;
	SubLinkType type;
} Evaluations;

/* A call under way. */
typedef struct Call
{
	const AdvisorQuery *query;
	const CandidateSet *candidates;
	const Bitmapset *visible;
	bool accesses;
	JoinSearch search;
	List **known; /* joins */
	MemoryContext results;
	Harvest *harvest;
	bool done;
	List *roots; /* the (sub)queries, in the order in which the planner gets to their relations */
	PlannerInfo *top;
	int access_room;
	int leaf_room;
	struct Evaluations *subplans; /* by their numbers, which count from 1 */
	set_rel_pathlist_hook_type next_pathlist_hook;
	create_upper_paths_hook_type next_upper_hook;
} Call;

static Call *call = NULL;

/* How a path's cost is part of the statement's. */
typedef struct Share
{
	double startup;
	double run;
	bool ordered; /* somebody above relies on its order */
} Share;

/* --- requirements ------------------------------------------------------------- */

static int
query_number(PlannerInfo *root)
{
	int number = 0;
	ListCell *cell;

	foreach(cell, call->roots)
	{
		if (lfirst(cell) == root)
			return number;
		number++;
	}
	call->roots = lappend(call->roots, root);
	return number;
}

static uint64
order_number(PlannerInfo *root, const PathKey *key)
{
	EquivalenceClass *class = key->pk_eclass;
	int number = 0;
	ListCell *cell;

	while (class->ec_merged != NULL)
		class = class->ec_merged;
	foreach(cell, root->eq_classes)
	{
		if (lfirst(cell) == class)
			break;
		number++;
	}
	return ((uint64) number << 40) ^ ((uint64) key->pk_opfamily << 8) ^
		   ((uint64) compat_pathkey_direction(key) << 1) ^ (key->pk_nulls_first ? 1 : 0);
}

static void
set_requirement(Requirement *requirement, PlannerInfo *root, const Path *path, bool partial,
				bool ordered)
{
	MemoryContext old = MemoryContextSwitchTo(call->results);
	ListCell *cell;

	requirement->query = query_number(root);
	requirement->relation = (int) path->parent->relid;
	requirement->outer = bms_copy(PATH_REQ_OUTER(path));
	requirement->partial = partial;
	requirement->norders = 0;
	requirement->orders = NULL;
	if (ordered && path->pathkeys != NIL)
	{
		requirement->orders = palloc(list_length(path->pathkeys) * sizeof(uint64));
		foreach(cell, path->pathkeys)
			requirement->orders[requirement->norders++] = order_number(root, lfirst(cell));
	}
	MemoryContextSwitchTo(old);
}

bool
harvest_meets(const Requirement *meets, const Requirement *needs)
{
	if (meets->query != needs->query || meets->relation != needs->relation ||
		meets->partial != needs->partial || meets->norders < needs->norders ||
		!bms_equal(meets->outer, needs->outer))
		return false;
	for (int i = 0; i < needs->norders; i++)
		if (meets->orders[i] != needs->orders[i])
			return false;
	return true;
}

/* --- each candidate alone ------------------------------------------------------------ */

static void
keep_access(PlannerInfo *root, const Path *path, int index, bool partial)
{
	Harvest *harvest = call->harvest;
	Access *access;

	if (harvest->naccesses == call->access_room)
	{
		call->access_room = Max(64, call->access_room * 2);
		harvest->accesses =
			harvest->accesses == NULL
				? MemoryContextAlloc(call->results, call->access_room * sizeof(Access))
				: repalloc(harvest->accesses, call->access_room * sizeof(Access));
	}
	access = &harvest->accesses[harvest->naccesses++];
	set_requirement(&access->meets, root, path, partial, true);
	access->index = index;
	access->startup = path->startup_cost;
	access->total = path->total_cost;
	access->rows = path->rows;
}

/* What these indexes alone make of the relation. */
static void
price_alone(PlannerInfo *root, RelOptInfo *rel, List *indexes, int index)
{
	ListCell *cell;

	rel->indexlist = indexes;
	rel->pathlist = NIL;
	rel->partial_pathlist = NIL;
	if (index < 0)
	{
		int workers = 0;

		add_path(rel, create_seqscan_path(root, rel, rel->lateral_relids, 0));
		if (rel->consider_parallel && bms_is_empty(rel->lateral_relids))
			workers = compute_parallel_worker(rel, rel->pages, -1, max_parallel_workers_per_gather);
		if (workers > 0)
			add_partial_path(rel, create_seqscan_path(root, rel, NULL, workers));
	}
	create_index_paths(root, rel);
	foreach(cell, rel->pathlist)
		keep_access(root, lfirst(cell), index, false);
	foreach(cell, rel->partial_pathlist)
		keep_access(root, lfirst(cell), index, true);
}

static void
price_each(PlannerInfo *root, RelOptInfo *rel)
{
	List *indexes = rel->indexlist;
	List *paths = rel->pathlist;
	List *partial_paths = rel->partial_pathlist;
	List *real = NIL;
	bool hypothetical = false;
	ListCell *cell;

	foreach(cell, indexes)
	{
		IndexOptInfo *info = lfirst(cell);

		if (info->hypothetical && hypothetical_by_oid(info->indexoid) != NULL)
			hypothetical = true;
		else
			real = lappend(real, info);
	}
	if (!hypothetical)
		return;
	price_alone(root, rel, real, -1);
	foreach(cell, indexes)
	{
		IndexOptInfo *info = lfirst(cell);
		HypotheticalIndex *index = info->hypothetical ? hypothetical_by_oid(info->indexoid) : NULL;

		CHECK_FOR_INTERRUPTS();
		if (index != NULL)
			price_alone(root, rel, list_make1(info), index->id);
	}
	rel->indexlist = indexes;
	rel->pathlist = paths;
	rel->partial_pathlist = partial_paths;
}

static void
on_relation(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte)
{
	if (call->next_pathlist_hook != NULL)
		call->next_pathlist_hook(root, rel, rti, rte);
	(void) query_number(root);
	if (rte->rtekind != RTE_RELATION || rte->inh)
		return;
	call->harvest->relations++;
	if (call->accesses && rte->tablesample == NULL && !IS_DUMMY_REL(rel))
		price_each(root, rel);
}

static void
on_upper_relation(PlannerInfo *root, UpperRelationKind stage, RelOptInfo *input, RelOptInfo *output,
				  void *extra)
{
	if (call->next_upper_hook != NULL)
		call->next_upper_hook(root, stage, input, output, extra);
	if (stage == UPPERREL_FINAL && root->query_level == 1 && root->parent_root == NULL)
		call->top = root;
}

/* --- the chosen plan's scans ------------------------------------------------------------- */

static void walk(PlannerInfo *root, Path *path, Share share);

static void
add_index(Bitmapset **set, const IndexOptInfo *info)
{
	const HypotheticalIndex *index =
		info->hypothetical ? hypothetical_by_oid(info->indexoid) : NULL;

	if (index != NULL)
		*set = bms_add_member(*set, index->id);
}

static void
bitmap_indexes(Path *path, Bitmapset **set)
{
	List *children = NIL;
	ListCell *cell;

	if (IsA(path, IndexPath))
		add_index(set, ((IndexPath *) path)->indexinfo);
	else if (IsA(path, BitmapAndPath))
		children = ((BitmapAndPath *) path)->bitmapquals;
	else if (IsA(path, BitmapOrPath))
		children = ((BitmapOrPath *) path)->bitmapquals;
	foreach(cell, children)
		bitmap_indexes(lfirst(cell), set);
}

/* A subplan's clause that is evaluated so often. */
typedef struct Evaluation
{
	double times;
	bool found;
} Evaluation;

static void
count_subplan(SubPlan *subplan, double times)
{
	/* One without parameters is run once: hashed, materialized, or an init plan. */
	if (subplan->parParam == NIL || subplan->useHashTable)
		times = 1;
	call->subplans[subplan->plan_id].times += times;
	call->subplans[subplan->plan_id].type =
		subplan->useHashTable ? EXPR_SUBLINK : subplan->subLinkType;
}

static bool
count_in_expression(Node *node, Evaluation *evaluation)
{
	if (node == NULL)
		return false;
	if (IsA(node, RestrictInfo))
		return count_in_expression((Node *) ((RestrictInfo *) node)->clause, evaluation);
	if (IsA(node, AlternativeSubPlan))
	{
		/* as setrefs.c will choose */
		SubPlan *best = NULL;
		double best_cost = 0;
		ListCell *cell;

		foreach(cell, ((AlternativeSubPlan *) node)->subplans)
		{
			SubPlan *subplan = lfirst_node(SubPlan, cell);
			double cost = subplan->startup_cost + evaluation->times * subplan->per_call_cost;

			if (best == NULL || cost <= best_cost)
			{
				best = subplan;
				best_cost = cost;
			}
		}
		evaluation->found = true;
		count_subplan(best, evaluation->times);
		return false;
	}
	if (IsA(node, SubPlan))
	{
		evaluation->found = true;
		count_subplan((SubPlan *) node, evaluation->times);
	}
	return expression_tree_walker(node, count_in_expression, evaluation);
}

/* Counts the subplans in it; true where there are any. */
static bool
count_subplans(PlannerInfo *root, List *clauses, double times)
{
	Evaluation evaluation = {.times = times};
	ListCell *cell;

	if (root->glob->subplans == NIL)
		return false;
	foreach(cell, clauses)
		(void) count_in_expression(lfirst(cell), &evaluation);
	return evaluation.found;
}

/* Tuples that a scan looks at. */
static double
tuples_scanned(const Path *path)
{
	double tuples = path->parent->tuples;

	if (IsA(path, IndexPath))
		return tuples * ((const IndexPath *) path)->indexselectivity;
	if (IsA(path, BitmapHeapPath))
	{
		Cost cost;
		Selectivity selectivity;

		cost_bitmap_tree_node(((const BitmapHeapPath *) path)->bitmapqual, &cost, &selectivity);
		return tuples * selectivity;
	}
	return tuples;
}

static void
keep_leaf(PlannerInfo *root, Path *path, Share share)
{
	Harvest *harvest = call->harvest;
	Bitmapset *indexes = NULL;
	MemoryContext old = MemoryContextSwitchTo(call->results);
	Leaf *leaf;

	if (IsA(path, IndexPath))
		add_index(&indexes, ((IndexPath *) path)->indexinfo);
	else if (IsA(path, BitmapHeapPath))
		bitmap_indexes(((BitmapHeapPath *) path)->bitmapqual, &indexes);
	MemoryContextSwitchTo(old);

	/* Where a subplan is evaluated for each tuple, costs are those of the subplan too: no comparison with others. */
	if (count_subplans(root,
					   path->parent->baserestrictinfo,
					   tuples_scanned(path) * Max(share.run, share.startup)))
		return;

	if (harvest->nleaves == call->leaf_room)
	{
		call->leaf_room = Max(8, call->leaf_room * 2);
		harvest->leaves = harvest->leaves == NULL
							  ? MemoryContextAlloc(call->results, call->leaf_room * sizeof(Leaf))
							  : repalloc(harvest->leaves, call->leaf_room * sizeof(Leaf));
	}
	leaf = &harvest->leaves[harvest->nleaves++];
	set_requirement(&leaf->needs, root, path, path->parallel_aware, share.ordered);
	leaf->indexes = indexes;
	leaf->startup = path->startup_cost;
	leaf->total = path->total_cost;
	leaf->rows = path->rows;
	leaf->startup_share = share.startup;
	leaf->run_share = share.run;
}

static Share
all_at_once(Share share)
{
	return (Share){share.startup, share.startup, false};
}

static Share
unordered(Share share)
{
	return (Share){share.startup, share.run, false};
}

static Share
ordered(Share share)
{
	return (Share){share.startup, share.run, true};
}

static void
walk_nested_loop(PlannerInfo *root, JoinPath *join, Share share)
{
	Path *inner = join->innerjoinpath;
	double loops = Max(join->outerjoinpath->rows, 1.0);
	Share inside = {share.startup + share.run * (loops - 1), share.run * loops, false};

	walk(root, join->outerjoinpath, share);
	if (IsA(inner, MaterialPath))
		walk(root, ((MaterialPath *) inner)->subpath, unordered(share));
	else if (IsA(inner, MemoizePath))
	{
		const MemoizePath *memoize = (MemoizePath *) inner;
		double misses = memoize->est_entries > 0 ? Min(loops, memoize->est_entries) / loops : 1.0;

		inside.startup *= misses;
		inside.run *= misses;
		walk(root, memoize->subpath, inside);
	}
	else
		walk(root, inner, inside);
}

static void
walk_join(PlannerInfo *root, JoinPath *join, Share share)
{
	double tuples = join->path.rows;
	MemoryContext old = MemoryContextSwitchTo(call->results);

	*call->known = join_search_remember(*call->known,
										query_number(root),
										join->outerjoinpath->parent->relids,
										join->innerjoinpath->parent->relids);
	MemoryContextSwitchTo(old);
	switch (nodeTag(join))
	{
		case T_NestPath:
			walk_nested_loop(root, join, share);
			break;
		case T_MergePath:
		{
			const MergePath *merge = (const MergePath *) join;

			walk(root,
				 join->outerjoinpath,
				 merge->outersortkeys != NIL ? all_at_once(share) : ordered(share));
			walk(root,
				 join->innerjoinpath,
				 merge->innersortkeys != NIL ? all_at_once(share) : ordered(share));
			break;
		}
		default:
			walk(root, join->outerjoinpath, unordered(share));
			walk(root, join->innerjoinpath, all_at_once(share));
			break;
	}

	/* A subplan is run for what passed the other clauses: about three times what passes it too. */
	(void) count_subplans(
		root, join->joinrestrictinfo, 3 * Max(tuples, 1.0) * Max(share.run, share.startup));
}

static void
walk_children(PlannerInfo *root, List *paths, Share share)
{
	ListCell *cell;

	foreach(cell, paths)
		walk(root, lfirst(cell), share);
}

static void
walk_aggregate(PlannerInfo *root, AggStrategy strategy, Path *child, Share share)
{
	if (strategy == AGG_SORTED)
		walk(root, child, ordered(share));
	else
		walk(root, child, all_at_once(share));
}

static void
walk_limit(PlannerInfo *root, const LimitPath *limit, Share share)
{
	const Path *child = limit->subpath;
	double run = child->total_cost - child->startup_cost;
	double part = run > 0 ? (limit->path.total_cost - child->startup_cost) / run : 1.0;

	share.run *= Min(Max(part, 0.0), 1.0);
	walk(root, limit->subpath, share);
}

static void
walk_minmax(PlannerInfo *root, const MinMaxAggPath *path, Share share)
{
	ListCell *cell;

	foreach(cell, path->mmaggregates)
	{
		const MinMaxAggInfo *info = lfirst(cell);
		double rows = Max(info->path->rows, 1.0);

		walk(info->subroot, info->path, (Share){share.startup, share.startup / rows, true});
	}
}

static void
walk(PlannerInfo *root, Path *path, Share share)
{
	check_stack_depth();
	if (path == NULL)
		return;
	switch (nodeTag(path))
	{
		case T_Path:
			if (path->pathtype == T_SeqScan)
				keep_leaf(root, path, share);
			break;
		case T_IndexPath:
		case T_BitmapHeapPath:
			keep_leaf(root, path, share);
			break;
		case T_NestPath:
		case T_MergePath:
		case T_HashPath:
			walk_join(root, (JoinPath *) path, share);
			break;
		case T_SubqueryScanPath:
			walk(path->parent->subroot, ((SubqueryScanPath *) path)->subpath, share);
			break;
		case T_AppendPath:
			walk_children(root, ((AppendPath *) path)->subpaths, share);
			break;
		case T_MergeAppendPath:
			walk_children(root, ((MergeAppendPath *) path)->subpaths, ordered(share));
			break;
		case T_MaterialPath:
			walk(root, ((MaterialPath *) path)->subpath, share);
			break;
		case T_MemoizePath:
			walk(root, ((MemoizePath *) path)->subpath, share);
			break;
		case T_UniquePath:
			walk(root, ((UniquePath *) path)->subpath, all_at_once(share));
			break;
		case T_GatherPath:
			walk(root, ((GatherPath *) path)->subpath, unordered(share));
			break;
		case T_GatherMergePath:
			walk(root, ((GatherMergePath *) path)->subpath, ordered(share));
			break;
		case T_ProjectionPath:
			(void) count_subplans(root,
								  path->pathtarget->exprs,
								  Max(path->rows, 1.0) * Max(share.run, share.startup));
			walk(root, ((ProjectionPath *) path)->subpath, share);
			break;
		case T_ProjectSetPath:
			walk(root, ((ProjectSetPath *) path)->subpath, share);
			break;
		case T_SortPath:
			walk(root, ((SortPath *) path)->subpath, all_at_once(share));
			break;
		case T_IncrementalSortPath:
			walk(root, ((IncrementalSortPath *) path)->spath.subpath, ordered(share));
			break;
		case T_GroupPath:
			walk(root, ((GroupPath *) path)->subpath, ordered(share));
			break;
		case T_UpperUniquePath:
			walk(root, ((UpperUniquePath *) path)->subpath, ordered(share));
			break;
		case T_AggPath:
			(void) count_subplans(root,
								  ((AggPath *) path)->qual,
								  3 * Max(path->rows, 1.0) * Max(share.run, share.startup));
			walk_aggregate(
				root, ((AggPath *) path)->aggstrategy, ((AggPath *) path)->subpath, share);
			break;
		case T_GroupingSetsPath:
			walk_aggregate(root,
						   ((GroupingSetsPath *) path)->aggstrategy,
						   ((GroupingSetsPath *) path)->subpath,
						   share);
			break;
		case T_MinMaxAggPath:
			walk_minmax(root, (MinMaxAggPath *) path, share);
			break;
		case T_WindowAggPath:
			walk(root, ((WindowAggPath *) path)->subpath, ordered(share));
			break;
		case T_SetOpPath:
			walk_children(root, compat_setop_children((SetOpPath *) path), ordered(share));
			break;
		case T_RecursiveUnionPath:
			/* The planner expects ten rounds, too (cost_recursive_union). */
			walk(root, ((RecursiveUnionPath *) path)->leftpath, unordered(share));
			walk(root,
				 ((RecursiveUnionPath *) path)->rightpath,
				 (Share){10 * share.startup, 10 * share.run, false});
			break;
		case T_LockRowsPath:
			walk(root, ((LockRowsPath *) path)->subpath, share);
			break;
		case T_ModifyTablePath:
			walk(root, ((ModifyTablePath *) path)->subpath, share);
			break;
		case T_LimitPath:
			walk_limit(root, (LimitPath *) path, share);
			break;
		default:
			break;
	}
}

static void
count_init_plans(PlannerInfo *root)
{
	ListCell *cell;

	foreach(cell, root->init_plans)
		count_subplan(lfirst_node(SubPlan, cell), 1);
}

/* As make_subplan() and cost_subplan() have it. */
static void
walk_subplan(PlannerInfo *root, const Evaluations *evaluations)
{
	RelOptInfo *final = fetch_upper_rel(root, UPPERREL_FINAL, NULL);
	Share share = {evaluations->times, evaluations->times, root->sort_pathkeys != NIL};
	double fraction = 0;
	Path *path;

	if (final->cheapest_total_path == NULL)
		return;
	if (evaluations->type == EXISTS_SUBLINK)
		fraction = 1.0;
	else if (evaluations->type == ALL_SUBLINK || evaluations->type == ANY_SUBLINK)
		fraction = 0.5;
	path = get_cheapest_fractional_path(final, fraction);
	if (fraction > 0)
		share.run *= fraction >= 1.0 ? 1.0 / Max(path->rows, 1.0) : fraction;
	walk(root, path, share);
}

static void
walk_subplans(PlannerGlobal *glob)
{
	/* A subplan's own subplans have lower numbers. */
	for (int number = list_length(glob->subroots); number >= 1; number--)
	{
		PlannerInfo *root = list_nth(glob->subroots, number - 1);

		if (call->subplans[number].times > 0 && root != NULL)
			walk_subplan(root, &call->subplans[number]);
	}
}

static void
find_used(Plan *plan, Plan *parent, void *arg)
{
	Oid oid = plan_tree_index(plan);
	const HypotheticalIndex *index = OidIsValid(oid) ? hypothetical_by_oid(oid) : NULL;

	if (index != NULL)
		call->harvest->used = bms_add_member(call->harvest->used, index->id);
}

/* --- the call ---------------------------------------------------------------------------------- */

static void
plan_and_read(void *arg)
{
	Harvest *harvest = call->harvest;
	PlannedStmt *plan = statement_plan(call->query);
	MemoryContext old;
	Bitmapset *in_leaves = NULL;

	harvest->cost = plan->planTree->total_cost;
	old = MemoryContextSwitchTo(call->results);
	plan_tree_visit(plan, find_used, NULL);
	MemoryContextSwitchTo(old);

	if (call->top != NULL)
	{
		RelOptInfo *final = fetch_upper_rel(call->top, UPPERREL_FINAL, NULL);
		ListCell *cell;

		call->subplans =
			palloc0((list_length(call->top->glob->subroots) + 1) * sizeof(Evaluations));
		count_init_plans(call->top);
		foreach(cell, call->roots)
			if (lfirst(cell) != call->top)
				count_init_plans(lfirst(cell));
		walk(call->top, final->cheapest_total_path, (Share){1, 1, call->top->sort_pathkeys != NIL});
		walk_subplans(call->top->glob);
	}
	for (int i = 0; i < harvest->nleaves; i++)
		in_leaves = bms_add_members(in_leaves, harvest->leaves[i].indexes);
	MemoryContextSwitchTo(call->results);
	harvest->fixed = bms_difference(harvest->used, in_leaves);
	MemoryContextSwitchTo(old);
}

static void
release(void)
{
	set_rel_pathlist_hook = call->next_pathlist_hook;
	create_upper_paths_hook = call->next_upper_hook;
	call->harvest->joined = join_search_largest();
	join_search_end();
	hypothetical_hide();
	call = NULL;
}

/* Whatever happens, nothing is shown and nobody is called afterwards. */
static void
plan_shown(void)
{
	join_search_begin(call->search, *call->known, query_number);
	PG_TRY();
	{
		set_rel_pathlist_hook = on_relation;
		create_upper_paths_hook = on_upper_relation;
		if (!bms_is_empty(call->visible))
			hypothetical_show(
				call->candidates->indexes, call->candidates->count, call->visible, NIL);
		call->done = statement_try(call->query->statement, plan_and_read, NULL);
	}
	PG_CATCH();
	{
		release();
		PG_RE_THROW();
	}
	PG_END_TRY();
	release();
}

bool
harvest_plan(const AdvisorQuery *query, const CandidateSet *candidates, const Bitmapset *visible,
			 bool accesses, JoinSearch search, List **known, MemoryContext planning,
			 Harvest *harvest)
{
	Call this = {.query = query,
				 .candidates = candidates,
				 .visible = visible,
				 .accesses = accesses,
				 .search = search,
				 .known = known,
				 .results = CurrentMemoryContext,
				 .harvest = harvest,
				 .next_pathlist_hook = set_rel_pathlist_hook,
				 .next_upper_hook = create_upper_paths_hook};

	memset(harvest, 0, sizeof(Harvest));
	call = &this;
	MemoryContextSwitchTo(planning);
	plan_shown();
	MemoryContextSwitchTo(this.results);
	MemoryContextReset(planning);
	return this.done;
}
