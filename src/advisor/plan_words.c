/*
 * plan_words.c
 *		What is wrong with the nodes of a plan: one small function a problem.
 *
 * The thresholds are defined here, each with its reason.  A node that takes
 * less than PLAN_MIN_SHARE of the whole is left alone whatever it does.
 *
 * Locks: AccessShareLock on tables whose rows are counted.
 * Cost: one pass over the nodes; each rule looks at a node and its neighbours.
 */
#include "pgopt.h"

#include <math.h>

#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "plan_words.h"

/* An index pays where at most that part of the rows is wanted; the planner's costs say about the same. */
#define FEW_OF_THEM 0.1

/* Estimates that are this many times off make plans bad; less is normal. */
#define MISESTIMATED 10

/* Rows below which a misestimate changes nothing. */
#define MISESTIMATED_ROWS 100

/* Executions of a subquery, or of the inner side of a join, that are many. */
#define MANY_LOOPS 100

/* Of the rows of an index-only scan, that many may need the table. */
#define HEAP_FETCHES_PART 0.1

/* A bitmap that has lost its rows for that part of its pages makes them be checked again. */
#define LOSSY_PART 0.1

/* Blocks of temporary files that are worth knowing of: 8 MB. */
#define TEMPORARY_BLOCKS 1024

/* What the executor keeps for a row in memory besides its data. */
#define SORT_ROW_OVERHEAD  (24 + 24 + 16) /* SortTuple, header of the chunk, header of the tuple */
#define SORT_TAPE_OVERHEAD 64             /* what a row takes more in memory than on tape */
#define HASH_ROW_OVERHEAD \
	(16 + 16 + 16)        /* HashJoinTuple, header of the tuple, two bucket pointers */
#define GROUP_OVERHEAD 96 /* entry, tuple, transition values */
#define BITMAP_PAGE    64 /* PagetableEntry and its place in the hash table */

/* What is asked for is a little more than what was measured. */
#define RESERVE 1.1

#define KB      1024.0

/* --- what rules have in common ------------------------------------------------------ */

static char *
table_of(const PlanNode *node)
{
	if (node->relation == NULL)
		return "?";
	/* the aliases of partitions are made up */
	if (node->alias != NULL && strcmp(node->alias, node->relation) != 0 &&
		!(OidIsValid(node->relid) && get_rel_relispartition(node->relid)))
		return psprintf("%s (%s)", node->relation, node->alias);
	return pstrdup(node->relation);
}

/* "index scan of t by t_pkey", "hash join" */
static char *
name_of(const PlanNode *node)
{
	char *index = plan_text(node->json, "Index Name");
	char *name = pstrdup(node->type);

	name[0] = pg_tolower((unsigned char) name[0]);
	for (char *c = name + 1; *c != '\0'; c++)
		*c = pg_tolower((unsigned char) *c);
	if (node->relation != NULL)
		name = psprintf("%s of %s", name, table_of(node));
	if (index != NULL)
		name = psprintf("%s by %s", name, index);
	return name;
}

/* The first node above that does more than hand rows on. */
static PlanNode *
user_of(const PlanNode *node)
{
	PlanNode *parent = node->parent;

	while (parent != NULL &&
		   (strncmp(parent->type, "Gather", 6) == 0 || plan_is(parent, "Memoize") ||
			plan_is(parent, "Materialize") || plan_is(parent, "Hash") ||
			plan_is(parent, "Append") || plan_is(parent, "Result")))
		parent = parent->parent;
	return parent;
}

static bool
is_join(const PlanNode *node)
{
	return plan_is(node, "Nested Loop") || plan_is(node, "Hash Join") ||
		   plan_is(node, "Merge Join");
}

/* Executions that are not merely the processes that share one. */
static double
repetitions(const PlanNode *node)
{
	return Max(node->loops / node->processes, 1);
}

/* How far off the estimate is, at least 1; the sign says nothing. */
static double
misestimate(const PlanNode *node)
{
	double planned = Max(node->plan_rows, 1);
	double actual = Max(node->rows, 1);

	return Max(planned / actual, actual / planned);
}

/* The node whose estimate is wrong although those below it are right. */
static PlanNode *
origin_of_misestimate(PlanNode *node)
{
	ListCell *cell;

	foreach(cell, node->children)
	{
		PlanNode *child = lfirst(cell);

		if (child->relationship != NULL && (strcmp(child->relationship, "InitPlan") == 0 ||
											strcmp(child->relationship, "SubPlan") == 0))
			continue;
		if (child->executed && !plan_is(child, "Bitmap Index Scan") &&
			misestimate(child) >= MISESTIMATED)
			return origin_of_misestimate(child);
	}
	return node;
}

/* Was it planned for any values of parameters, although they are known? */
static bool
is_for_any_values(const PlanReview *review, const PlanNode *node)
{
	static const char *const conditions[] = {"Index Cond", "Recheck Cond", "Filter"};
	int nparams = review->sample != NULL ? review->sample->nparams : 0;

	for (int param = 1; param <= nparams; param++)
		for (int i = 0; i < lengthof(conditions); i++)
		{
			char *text = plan_text(node->json, conditions[i]);

			if (review->sample->param_known[param - 1] && text != NULL &&
				strstr(text, psprintf("$%d", param)) != NULL)
				return true;
		}
	return false;
}

/* What would make the estimate of a node right. */
static void
remedy_estimate(PlanReview *review, PlanFinding *finding, PlanNode *origin)
{
	char *statistics = NULL;

	finding->relid = origin->relid;
	origin->reported = true;
	if (is_for_any_values(review, origin))
	{
		plan_remedy_add(finding, "SET plan_cache_mode = 'force_custom_plan';");
		return;
	}
	if (OidIsValid(origin->relid))
		statistics = plan_statistics_ddl(review, origin->relid);
	if (statistics != NULL)
		plan_remedy_add(finding, statistics);
	else if (OidIsValid(origin->relid))
		plan_remedy_add(finding, psprintf("ANALYZE %s;", plan_table_name(origin->relid)));
}

/* --- reading too much ----------------------------------------------------------------- */

/* Rows that the statement needs of a scan that has no filter: those that a Limit above its sort leaves. */
static double
rows_after_limit(const PlanNode *scan)
{
	const PlanNode *user = user_of(scan);

	if (user == NULL || !plan_is(user, "Sort"))
		return -1;
	user = user_of(user);
	return user != NULL && plan_is(user, "Limit") ? plan_all_rows(user) : -1;
}

static bool
has_priced_index(const PlanReview *review, Oid relid)
{
	ListCell *cell;

	if (!OidIsValid(relid))
		return false;
	foreach(cell, review->indexes)
	{
		Oid table = ((PricedIndex *) lfirst(cell))->table;

		if (table == relid || table == plan_known_table(relid))
			return true;
	}
	return false;
}

/* Is the table read elsewhere in the plan, by a condition?  Then an index on it is for that. */
static bool
is_filtered_elsewhere(const PlanReview *review, const PlanNode *node)
{
	ListCell *cell;

	foreach(cell, review->tree->nodes)
	{
		const PlanNode *other = lfirst(cell);

		if (other != node && other->relid == node->relid &&
			(plan_text(other->json, "Filter") != NULL ||
			 plan_text(other->json, "Index Cond") != NULL))
			return true;
	}
	return false;
}

static void
sequential_scan(PlanReview *review, PlanNode *node)
{
	bool measured = review->tree->measured;
	bool filtered = plan_text(node->json, "Filter") != NULL;
	double read = measured ? plan_all_rows(node) + node->removed
						   : plan_table_rows(node->relid, NULL) * repetitions(node) * node->part;
	double returned = plan_all_rows(node);
	double limited = rows_after_limit(node);
	bool repeated = repetitions(node) > 1;
	PlanFinding *finding;

	if (!plan_is(node, "Seq Scan") || read < PLAN_MANY_ROWS)
		return;
	/* rows are planned for one process, of which the leader does less the more others there are */
	if (!measured && plan_flag(node->json, "Parallel Aware"))
		returned *= node->processes - 1 + Max(1 - 0.3 * (node->processes - 1), 0);
	if (limited >= 0 && limited < returned)
		returned = limited;
	if (!filtered && repeated && user_of(node) != NULL)
		returned = Min(returned, plan_all_rows(user_of(node)));
	if (returned > FEW_OF_THEM * read &&
		(!has_priced_index(review, node->relid) || is_filtered_elsewhere(review, node)))
		return;

	finding = plan_report(review, "sequential_scan", node->share);
	finding->what =
		repeated ? psprintf("sequential scan of %s, repeated %s times, reads %s to return %s",
							table_of(node),
							plan_count(repetitions(node)),
							plan_rows_text(read),
							plan_count(returned))
				 : psprintf("sequential scan of %s reads %s to return %s",
							table_of(node),
							plan_rows_text(read),
							plan_count(returned));
	plan_evidence_node(finding, node);
	plan_evidence_number(finding, "rows_read", rint(read));
	plan_evidence_number(finding, "rows_returned", rint(returned));
	plan_evidence_number(finding, "loops", node->loops);
	(void) plan_remedy_indexes(review, finding);
}

static void
filter_discards(PlanReview *review, PlanNode *node)
{
	double removed = node->removed;
	double returned = plan_all_rows(node);
	char *filter = plan_text(node->json, "Filter");
	PlanFinding *finding;

	if (plan_is(node, "Seq Scan") || plan_is(node, "CTE Scan"))
		return;
	if (is_join(node))
	{
		removed = plan_number(node->json, "Rows Removed by Join Filter", 0) * node->loops;
		filter = plan_text(node->json, "Join Filter");
	}
	else if (!review->tree->measured && plan_is(node, "Bitmap Heap Scan") && filter != NULL)
	{
		const PlanNode *bitmap = plan_child(node, "Outer");

		if (bitmap != NULL)
			removed = (bitmap->plan_rows - node->plan_rows) * node->loops;
	}
	if (filter == NULL || removed < PLAN_MANY_ROWS || returned > FEW_OF_THEM * (removed + returned))
		return;

	finding = plan_report(review, "filter_discards", node->share);
	finding->what = psprintf("%s finds %s, and the filter throws away %s of them",
							 name_of(node),
							 plan_rows_text(removed + returned),
							 plan_count(removed));
	plan_evidence_node(finding, node);
	plan_evidence_number(finding, "rows_found", rint(removed + returned));
	plan_evidence_number(finding, "rows_removed", rint(removed));
	(void) plan_remedy_indexes(review, finding);
}

static void
many_heap_fetches(PlanReview *review, PlanNode *node)
{
	double fetches = plan_number(node->json, "Heap Fetches", 0);
	PlanFinding *finding;

	if (!plan_is(node, "Index Only Scan") || fetches < PLAN_MANY_ROWS ||
		fetches < HEAP_FETCHES_PART * (plan_all_rows(node) + node->removed))
		return;
	finding = plan_report(review, "many_heap_fetches", node->share);
	finding->what = psprintf("%s had to look into the table for %s of %s, because VACUUM has not "
							 "marked their pages as visible to all",
							 name_of(node),
							 plan_count(fetches),
							 plan_rows_text(plan_all_rows(node) + node->removed));
	plan_evidence_node(finding, node);
	plan_evidence_number(finding, "heap_fetches", fetches);
	if (OidIsValid(node->relid))
		plan_remedy_add(finding,
						psprintf("VACUUM %s;", plan_table_name(plan_known_table(node->relid))));
}

static void
lossy_bitmap(PlanReview *review, PlanNode *node)
{
	double lossy = plan_number(node->json, "Lossy Heap Blocks", 0);
	double exact = plan_number(node->json, "Exact Heap Blocks", 0);
	PlanFinding *finding;

	if (lossy < 1 || lossy < LOSSY_PART * (lossy + exact))
		return;
	finding = plan_report(review, "lossy_bitmap", node->share);
	finding->what =
		psprintf("the bitmap of %s did not fit into work_mem: of %s of its %s pages all rows were "
				 "read and checked again",
				 table_of(node),
				 plan_count(lossy),
				 plan_count(lossy + exact));
	plan_evidence_node(finding, node);
	plan_evidence_number(finding, "lossy_blocks", lossy);
	plan_evidence_number(finding, "exact_blocks", exact);
	plan_evidence_number(finding,
						 "rows_removed_by_recheck",
						 plan_number(node->json, "Rows Removed by Index Recheck", 0) * node->loops);
	plan_remedy_add(finding, plan_work_mem((lossy + exact) * BITMAP_PAGE * RESERVE));
}

/* --- memory ----------------------------------------------------------------------------- */

/* kB on disk of the process that wrote most; 0 where none did. */
static double
sort_disk(const PlanNode *node)
{
	JsonbContainer *workers = plan_part(node->json, "Workers");
	double most = 0;

	for (int i = -1; i < plan_length(workers); i++)
	{
		JsonbContainer *json = i < 0 ? node->json : plan_element(workers, i);
		char *type = plan_text(json, "Sort Space Type");

		if (type != NULL && strcmp(type, "Disk") == 0)
			most = Max(most, plan_number(json, "Sort Space Used", 0));
	}
	return most;
}

static void
sort_spilled(PlanReview *review, PlanNode *node)
{
	double rows = node->rows; /* of one process */
	double disk = sort_disk(node);
	double bytes;
	PlanFinding *finding;

	if (!plan_is(node, "Sort"))
		return;
	if (review->tree->measured)
	{
		if (disk == 0)
			return;
		bytes = (disk * KB + rows * SORT_TAPE_OVERHEAD) * RESERVE;
	}
	else
	{
		/* for a Limit only so many rows are kept */
		if (node->parent != NULL && plan_is(node->parent, "Limit"))
			rows = Min(rows, node->parent->plan_rows);
		bytes = rows * (MAXALIGN((int) node->width) + SORT_ROW_OVERHEAD);
		if (bytes <= work_mem * KB)
			return;
		bytes *= RESERVE;
	}
	finding = plan_report(review, "sort_spilled", node->share);
	if (review->tree->measured)
		finding->what = psprintf("sort of %s did not fit into work_mem and wrote %s to disk",
								 plan_rows_text(plan_all_rows(node)),
								 plan_bytes(disk * KB));
	else
		finding->what = psprintf("sort of %s will not fit into work_mem (%s)",
								 plan_rows_text(plan_all_rows(node)),
								 plan_bytes(work_mem * KB));
	plan_evidence_node(finding, node);
	plan_evidence_number(finding, "rows", rint(plan_all_rows(node)));
	plan_evidence_number(finding, "disk_kb", disk);
	plan_evidence_number(finding, "memory_needed", rint(bytes));
	plan_remedy_add(finding, plan_work_mem(bytes));
}

static void
hash_spilled(PlanReview *review, PlanNode *node)
{
	bool aggregate = plan_is(node, "Aggregate");
	double rows = node->rows;
	double batches;
	double peak = plan_number(node->json, "Peak Memory Usage", 0) * KB;
	double bytes;
	PlanFinding *finding;

	if (aggregate)
	{
		batches = plan_number(node->json, "HashAgg Batches", 0);
		if (!review->tree->measured)
			batches = 1 + plan_number(node->json, "Planned Partitions", 0);
		rows += node->removed / Max(node->loops, 1);
		bytes = Max(rows * (MAXALIGN((int) node->width) + GROUP_OVERHEAD), 2 * peak);
	}
	else if (plan_is(node, "Hash"))
	{
		batches = plan_number(node->json, "Hash Batches", 0);
		bytes = rows * (MAXALIGN((int) node->width) + HASH_ROW_OVERHEAD);
		if (plan_flag(node->json, "Parallel Aware"))
			bytes *= node->loops;
		if (!review->tree->measured)
			batches = ceil(bytes / (work_mem * KB * hash_mem_multiplier * node->processes));
		else
			bytes = Max(bytes, peak * batches / 2); /* batches are powers of two */
		if (plan_flag(node->json, "Parallel Aware"))
			bytes /= node->processes; /* each adds its work_mem */
	}
	else
		return;
	if (batches <= 1)
		return;
	bytes *= RESERVE;

	finding = plan_report(
		review, "hash_spilled", node->share + (node->parent != NULL ? node->parent->share : 0));
	if (review->tree->measured)
		finding->what = psprintf("%s of %s did not fit into memory and was split into %s batches "
								 "on disk",
								 aggregate ? "hash table of groups" : "hash table of a join",
								 plan_rows_text(rows),
								 plan_count(batches));
	else
		finding->what = psprintf("%s of %s will not fit into memory (%s)",
								 aggregate ? "hash table of groups" : "hash table of a join",
								 plan_rows_text(rows),
								 plan_bytes(work_mem * KB * hash_mem_multiplier));
	plan_evidence_node(finding, node);
	plan_evidence_number(finding, "rows", rint(rows));
	plan_evidence_number(finding, "batches", batches);
	plan_evidence_number(finding, "disk_kb", plan_number(node->json, "Disk Usage", 0));
	plan_evidence_number(finding, "memory_needed", rint(bytes));
	plan_remedy_add(finding, plan_work_mem(bytes / hash_mem_multiplier));
}

/* What other nodes keep, they write to temporary files. */
static void
temporary_files(PlanReview *review, PlanNode *node)
{
	double blocks = plan_number(node->json, "Temp Written Blocks", 0);
	PlanFinding *finding;
	ListCell *cell;

	if (!plan_is(node, "Materialize") && !plan_is(node, "CTE Scan") &&
		!plan_is(node, "WindowAgg") && !plan_is(node, "Function Scan"))
		return;
	foreach(cell, node->children)
		blocks -= plan_number(((PlanNode *) lfirst(cell))->json, "Temp Written Blocks", 0);
	if (blocks < TEMPORARY_BLOCKS)
		return;
	finding = plan_report(review, "temporary_files", node->share);
	finding->what = psprintf("%s keeps %s, which do not fit into work_mem: %s were written to disk",
							 name_of(node),
							 plan_rows_text(node->rows),
							 plan_bytes(blocks * BLCKSZ));
	plan_evidence_node(finding, node);
	plan_evidence_number(finding, "temporary_blocks", blocks);
	plan_remedy_add(finding, plan_work_mem(blocks * BLCKSZ * 2 * RESERVE));
}

/* --- estimates ---------------------------------------------------------------------------- */

static void
nested_loop_misestimated(PlanReview *review, PlanNode *node)
{
	PlanNode *outer = plan_child(node, "Outer");
	PlanNode *inner = plan_child(node, "Inner");
	PlanNode *origin;
	PlanFinding *finding;

	if (!plan_is(node, "Nested Loop") || outer == NULL || inner == NULL || !outer->executed ||
		outer->rows < MISESTIMATED * Max(outer->plan_rows, 1) || inner->loops < MANY_LOOPS)
		return;
	origin = origin_of_misestimate(outer);
	finding = plan_report(review, "nested_loop_misestimated", node->share + inner->share_all);
	finding->what = psprintf("nested loop: %s was expected to give %s and gave %s, so that %s was "
							 "run %s times",
							 name_of(outer),
							 plan_rows_text(Max(outer->plan_rows, 1)),
							 plan_count(outer->rows),
							 name_of(inner),
							 plan_count(inner->loops));
	plan_evidence_node(finding, origin);
	plan_evidence_number(finding, "rows_expected", outer->plan_rows);
	plan_evidence_number(finding, "rows_actual", rint(outer->rows));
	plan_evidence_number(finding, "loops", inner->loops);
	remedy_estimate(review, finding, origin);
}

/* Is the number of its rows an estimate of its own, and a measured number? */
static bool
is_estimated_itself(const PlanNode *node)
{
	static const char *const others[] = {"Hash",
										 "Materialize",
										 "Memoize",
										 "Gather",
										 "Gather Merge",
										 "Limit",
										 "ModifyTable",
										 "Bitmap Index Scan",
										 "BitmapAnd",
										 "BitmapOr"};

	for (int i = 0; i < lengthof(others); i++)
		if (plan_is(node, others[i]))
			return false;
	return true;
}

/* May it have been stopped before it gave all of its rows? */
static bool
may_be_stopped(const PlanNode *node)
{
	for (const PlanNode *above = node->parent; above != NULL; above = above->parent)
	{
		char *join = plan_text(above->json, "Join Type");

		if (plan_is(above, "Limit") || plan_is(above, "Merge Join") || plan_is(above, "Unique") ||
			(plan_is(above, "Nested Loop") &&
			 (plan_flag(above->json, "Inner Unique") ||
			  (join != NULL && (strcmp(join, "Semi") == 0 || strcmp(join, "Anti") == 0)))))
			return true;
		if (above->relationship != NULL && (strcmp(above->relationship, "SubPlan") == 0 ||
											strcmp(above->relationship, "InitPlan") == 0))
			return true;
	}
	return false;
}

/* Does a choice of the planner rest on it: how to join, sort or group? */
static bool
has_effect(const PlanNode *node)
{
	for (const PlanNode *above = node->parent; above != NULL; above = above->parent)
		if (is_join(above) || plan_is(above, "Sort") || plan_is(above, "Aggregate"))
			return true;
	return false;
}

static void
misestimated(PlanReview *review, PlanNode *node)
{
	PlanFinding *finding;

	if (!node->executed || node->reported || !is_estimated_itself(node))
		return;
	if (misestimate(node) < MISESTIMATED || Max(node->rows, node->plan_rows) < MISESTIMATED_ROWS ||
		origin_of_misestimate(node) != node || !has_effect(node) ||
		(node->rows < node->plan_rows && may_be_stopped(node)))
		return;
	finding = plan_report(review, "misestimated", node->share);
	finding->what = psprintf("%s was expected to give %s and gave %s: %s times %s",
							 name_of(node),
							 plan_rows_text(Max(node->plan_rows, 1)),
							 plan_count(node->rows),
							 plan_count(misestimate(node)),
							 node->rows > node->plan_rows ? "more" : "fewer");
	plan_evidence_node(finding, node);
	plan_evidence_number(finding, "rows_expected", node->plan_rows);
	plan_evidence_number(finding, "rows_actual", rint(node->rows));
	remedy_estimate(review, finding, node);
}

/* --- the shape of the statement ------------------------------------------------------------- */

/* The first table that a node or one below it reads; NULL where there is none. */
static const PlanNode *
first_table(const PlanNode *node)
{
	ListCell *cell;

	if (node->relation != NULL)
		return node;
	foreach(cell, node->children)
	{
		const PlanNode *found = first_table(lfirst(cell));

		if (found != NULL)
			return found;
	}
	return NULL;
}

static void
correlated_subquery(PlanReview *review, PlanNode *node)
{
	const PlanNode *table = first_table(node);
	bool not_in;
	char *name;
	PlanFinding *finding;

	if (node->relationship == NULL || strcmp(node->relationship, "SubPlan") != 0 ||
		node->loops < MANY_LOOPS || node->share_all < PLAN_MIN_SHARE)
		return;
	name = plan_text(node->json, "Subplan Name");
	not_in = plan_is_not_in(review, name);
	finding =
		plan_report(review, not_in ? "not_in_subquery" : "correlated_subquery", node->share_all);
	if (not_in)
	{
		finding->what = psprintf("NOT IN (SELECT ...) goes through the subquery's %s for each of "
								 "%s",
								 plan_rows_text(node->rows),
								 plan_rows_text(node->loops));
		plan_remedy_add(finding,
						"write NOT EXISTS (SELECT FROM ... WHERE ... = ...) instead of NOT IN: it "
						"can be joined (it differs where the columns can be null)");
	}
	else
	{
		finding->what = psprintf("a subquery%s is run again for each of %s",
								 table != NULL ? psprintf(" on %s", table_of(table)) : "",
								 plan_rows_text(node->loops));
		plan_remedy_add(finding,
						"write the subquery as a join with a GROUP BY of its own, so that it is "
						"run once");
	}
	plan_evidence_text(finding, "subplan", name);
	plan_evidence_node(finding, table != NULL ? table : node);
	plan_evidence_number(finding, "loops", node->loops);
}

static void
cte_materialized(PlanReview *review, PlanNode *node)
{
	char *cte = plan_is(node, "CTE Scan") ? plan_text(node->json, "CTE Name") : NULL;
	char *subplan = cte != NULL ? psprintf("CTE %s", cte) : NULL;
	PlanNode *made = NULL;
	double read;
	PlanFinding *finding;
	ListCell *cell;

	if (cte == NULL || plan_text(node->json, "Filter") == NULL)
		return;
	foreach(cell, review->tree->nodes)
	{
		PlanNode *other = lfirst(cell);
		char *name = plan_text(other->json, "Subplan Name");

		if (name != NULL && strcmp(name, subplan) == 0)
			made = other;
	}
	if (made == NULL || plan_is(made, "Recursive Union") || plan_is(made, "ModifyTable"))
		return;
	read = review->tree->measured ? plan_all_rows(node) + node->removed
								  : made->plan_rows * node->loops;
	if (read < PLAN_MANY_ROWS || plan_all_rows(node) > FEW_OF_THEM * read)
		return;
	finding = plan_report(review, "cte_materialized", node->share + made->share_all);
	finding->what =
		psprintf("WITH %s is computed as a whole, %s, of which a filter outside keeps %s",
				 quote_identifier(cte),
				 plan_rows_text(read / node->loops),
				 plan_count(plan_all_rows(node) / node->loops));
	plan_evidence_text(finding, "cte", cte);
	plan_evidence_node(finding, node);
	plan_evidence_number(finding, "rows_made", rint(read));
	plan_remedy_add(finding,
					psprintf("WITH %s AS NOT MATERIALIZED (...), so that the filter is applied "
							 "inside",
							 quote_identifier(cte)));
}

static void
large_offset(PlanReview *review, PlanNode *node)
{
	PlanNode *below = plan_child(node, "Outer");
	double skipped;
	PlanFinding *finding;

	if (!plan_is(node, "Limit") || below == NULL)
		return;
	if (review->tree->measured)
		skipped = plan_all_rows(below) - plan_all_rows(node);
	else
	{
		/* the planner's way back: what is skipped is part of the startup cost */
		double range = below->total_cost - below->startup_cost;

		skipped =
			range > 0 ? (node->startup_cost - below->startup_cost) / range * below->plan_rows : 0;
	}
	if (skipped < PLAN_MANY_ROWS || plan_all_rows(node) > FEW_OF_THEM * skipped)
		return;
	finding = plan_report(
		review, "large_offset", node->share_all * skipped / (skipped + plan_all_rows(node)));
	finding->what = psprintf("OFFSET makes %s only to throw them away, for %s that are wanted",
							 plan_rows_text(skipped),
							 plan_count(plan_all_rows(node)));
	plan_evidence_number(finding, "rows_skipped", rint(skipped));
	plan_evidence_number(finding, "rows_returned", rint(plan_all_rows(node)));
	plan_remedy_add(finding,
					"begin after the last row of the page before: WHERE (sort columns) > (its "
					"values) ORDER BY sort columns LIMIT n, instead of OFFSET");
}

static void
workers_not_launched(PlanReview *review, PlanNode *node)
{
	double planned = plan_number(node->json, "Workers Planned", 0);
	double launched = plan_number(node->json, "Workers Launched", planned);
	PlanFinding *finding;

	if (!node->executed || launched >= planned)
		return;
	finding = plan_report(
		review, "workers_not_launched", node->share_all * (planned - launched) / (planned + 1));
	finding->what = psprintf("of %s parallel workers that were planned %s could be started",
							 plan_count(planned),
							 launched > 0 ? psprintf("only %s", plan_count(launched)) : "none");
	plan_evidence_node(finding, node);
	plan_evidence_number(finding, "workers_planned", planned);
	plan_evidence_number(finding, "workers_launched", launched);
	plan_remedy_add(finding,
					psprintf("ALTER SYSTEM SET max_parallel_workers = %d; -- and "
							 "max_worker_processes above it, if as many cores are there",
							 max_parallel_workers * 2));
}

/* --- the table of rules -------------------------------------------------------------------- */

static void (*const node_rules[])(PlanReview *review, PlanNode *node) = {
	sequential_scan,
	filter_discards,
	many_heap_fetches,
	lossy_bitmap,
	sort_spilled,
	hash_spilled,
	temporary_files,
	nested_loop_misestimated, /* before misestimated, which leaves out what it has said */
	misestimated,
	correlated_subquery,
	cte_materialized,
	large_offset,
	workers_not_launched,
};

void
plan_words_nodes(PlanReview *review)
{
	for (int i = 0; i < lengthof(node_rules); i++)
	{
		ListCell *cell;

		foreach(cell, review->tree->nodes)
		{
			PlanNode *node = lfirst(cell);

			CHECK_FOR_INTERRUPTS();
			if (node->loops > 0 && node->share_all >= PLAN_MIN_SHARE)
				node_rules[i](review, node);
		}
	}
}
