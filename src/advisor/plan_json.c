/*
 * plan_json.c
 *		Reads plans from JSON, and finds out which of their nodes take the time.
 *
 * A node's share is that of its own time where times were taken for each node.
 * Where they were not (the workload measures with TIMING OFF, which costs the
 * statement next to nothing), it is that of its own cost, corrected by how many
 * rows really came; without any measurement, that of its estimated cost.
 *
 * Locks: AccessShareLock on tables whose rows are counted.
 * Cost: one pass over the nodes for each of these steps.
 */
#include "pgopt.h"

#include <math.h>

#include "access/relation.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "optimizer/plancat.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/rel.h"

#include "plan_json.h"

/* --- JSON ------------------------------------------------------------------------- */

static JsonbValue *
property(JsonbContainer *json, const char *key, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(json, key, (int) strlen(key), value);
}

double
plan_number(JsonbContainer *json, const char *key, double otherwise)
{
	JsonbValue value;

	if (property(json, key, &value) == NULL || value.type != jbvNumeric)
		return otherwise;
	return DatumGetFloat8(DirectFunctionCall1(numeric_float8, NumericGetDatum(value.val.numeric)));
}

char *
plan_text(JsonbContainer *json, const char *key)
{
	JsonbValue value;

	if (property(json, key, &value) == NULL || value.type != jbvString)
		return NULL;
	return pnstrdup(value.val.string.val, value.val.string.len);
}

bool
plan_flag(JsonbContainer *json, const char *key)
{
	JsonbValue value;

	return property(json, key, &value) != NULL && value.type == jbvBool && value.val.boolean;
}

JsonbContainer *
plan_part(JsonbContainer *json, const char *key)
{
	JsonbValue value;

	if (property(json, key, &value) == NULL || value.type != jbvBinary)
		return NULL;
	return value.val.binary.data;
}

int
plan_length(JsonbContainer *array)
{
	return array != NULL && JsonContainerIsArray(array) ? JsonContainerSize(array) : 0;
}

JsonbContainer *
plan_element(JsonbContainer *array, int i)
{
	JsonbValue *value = getIthJsonbValueFromContainer(array, i);

	return value != NULL && value->type == jbvBinary ? value->val.binary.data : NULL;
}

/* --- the tree ----------------------------------------------------------------------- */

static Oid
find_relation(const PlanNode *node, List *relations)
{
	Oid found = InvalidOid;
	ListCell *cell;

	foreach(cell, relations)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, cell);
		char *name;

		if (rte->rtekind != RTE_RELATION)
			continue;
		name = get_rel_name(rte->relid);
		if (name == NULL || strcmp(name, node->relation) != 0)
			continue;
		if (node->alias != NULL && rte->eref != NULL &&
			strcmp(rte->eref->aliasname, node->alias) == 0)
			return rte->relid;
		if (!OidIsValid(found))
			found = rte->relid;
	}
	return found;
}

static PlanNode *
read_node(PlanTree *tree, JsonbContainer *json, PlanNode *parent, List *relations)
{
	PlanNode *node = palloc0(sizeof(PlanNode));
	JsonbContainer *plans;

	check_stack_depth();
	node->json = json;
	node->parent = parent;
	node->type = plan_text(json, "Node Type");
	if (node->type == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("plan has a node without type")));
	node->relationship = plan_text(json, "Parent Relationship");
	node->relation = plan_text(json, "Relation Name");
	node->alias = plan_text(json, "Alias");
	if (node->relation != NULL)
		node->relid = find_relation(node, relations);
	node->startup_cost = plan_number(json, "Startup Cost", 0);
	node->total_cost = plan_number(json, "Total Cost", 0);
	node->plan_rows = plan_number(json, "Plan Rows", 0);
	node->width = plan_number(json, "Plan Width", 0);
	node->rows = plan_number(json, "Actual Rows", -1);
	node->loops = plan_number(json, "Actual Loops", 0);
	if (node->rows >= 0)
		tree->measured = true;
	node->executed = node->rows >= 0 && node->loops > 0;
	node->removed = plan_number(json, "Rows Removed by Filter", 0) * node->loops;
	if (plan_number(json, "Actual Total Time", -1) >= 0)
		tree->timed = true;
	node->processes = parent != NULL ? parent->processes : 1;
	if (parent != NULL && strncmp(parent->type, "Gather", 6) == 0 &&
		(node->relationship == NULL || strcmp(node->relationship, "InitPlan") != 0))
		node->processes = 1 + (int) plan_number(parent->json,
												"Workers Launched",
												plan_number(parent->json, "Workers Planned", 0));

	tree->nodes = lappend(tree->nodes, node);
	plans = plan_part(json, "Plans");
	for (int i = 0; i < plan_length(plans); i++)
	{
		JsonbContainer *child = plan_element(plans, i);

		if (child != NULL)
			node->children = lappend(node->children, read_node(tree, child, node, relations));
	}
	return node;
}

PlanTree *
plan_json_parse(const char *json, List *relations)
{
	PlanTree *tree = palloc0(sizeof(PlanTree));
	Jsonb *jsonb = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json)));
	JsonbContainer *plan = NULL;

	tree->json = &jsonb->root;
	if (JsonContainerIsArray(tree->json) && !JsonContainerIsScalar(tree->json))
		tree->json = plan_element(tree->json, 0);
	if (tree->json != NULL && JsonContainerIsObject(tree->json))
		plan = plan_part(tree->json, "Plan");
	if (plan == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("this is no plan in JSON")));
	tree->milliseconds = plan_number(tree->json, "Execution Time", 0);
	tree->root = read_node(tree, plan, NULL, relations);
	return tree;
}

PlanNode *
plan_child(const PlanNode *node, const char *relationship)
{
	ListCell *cell;

	foreach(cell, node->children)
	{
		PlanNode *child = lfirst(cell);

		if (child->relationship != NULL && strcmp(child->relationship, relationship) == 0)
			return child;
	}
	return NULL;
}

static bool
is_related(const PlanNode *node, const char *relationship)
{
	return node->relationship != NULL && strcmp(node->relationship, relationship) == 0;
}

double
plan_table_rows(Oid relid, BlockNumber *pages)
{
	Relation rel = OidIsValid(relid) ? try_relation_open(relid, AccessShareLock) : NULL;
	BlockNumber blocks = 0;
	double rows = 0;
	double visible = 0;

	if (pages != NULL)
		*pages = 0;
	if (rel == NULL)
		return 0;
	if (RELKIND_HAS_TABLE_AM(rel->rd_rel->relkind))
		estimate_rel_size(rel, NULL, &blocks, &rows, &visible);
	if (pages != NULL)
		*pages = blocks;
	relation_close(rel, AccessShareLock);
	return rows;
}

/* --- what takes the time ---------------------------------------------------------------- */

/* The part of its rows that a Limit above it asks for; 1 where nodes in between read everything first. */
static double
part_asked_for(const PlanNode *node)
{
	const PlanNode *parent = node->parent;
	double range;

	if (parent == NULL || !is_related(node, "Outer") || !plan_is(parent, "Limit"))
		return 1;
	range = node->total_cost - node->startup_cost;
	if (range <= 0 || parent->total_cost >= node->total_cost)
		return 1;
	return Max(parent->total_cost - node->startup_cost, 0) / range;
}

static bool
reads_all_first(const PlanNode *node)
{
	const char *strategy;

	if (plan_is(node, "Sort") || plan_is(node, "Hash") || plan_is(node, "Gather"))
		return true;
	strategy = plan_text(node->json, "Strategy");
	return plan_is(node, "Aggregate") && strategy != NULL && strcmp(strategy, "Sorted") != 0;
}

/* Is it a subquery that is run once, and looked up in a hash table? */
static bool
is_hashed_subplan(const PlanNode *node)
{
	static const char *const conditions[] = {"Filter", "Join Filter", "One-Time Filter"};
	char *name = plan_text(node->json, "Subplan Name");

	if (name == NULL || node->parent == NULL)
		return false;
	name = psprintf("hashed %s", name);
	for (int i = 0; i < lengthof(conditions); i++)
	{
		char *text = plan_text(node->parent->json, conditions[i]);

		if (text != NULL && strstr(text, name) != NULL)
			return true;
	}
	return false;
}

/* How often the planner thinks that a node is executed each time its parent is. */
static double
planned_loops(const PlanNode *node)
{
	const PlanNode *parent = node->parent;
	double others = 0;
	ListCell *cell;

	if (parent == NULL || is_related(node, "InitPlan"))
		return 1;
	if (plan_is(parent, "Nested Loop") && is_related(node, "Inner"))
	{
		const PlanNode *outer = plan_child(parent, "Outer");

		if (outer == NULL)
			return 1;
		/* what does not fit into the parent's cost is saved by caches */
		others = outer->total_cost;
		if (node->total_cost > 0)
			return Max(1, Min(outer->plan_rows, (parent->total_cost - others) / node->total_cost));
		return Max(1, outer->plan_rows);
	}
	if (is_related(node, "SubPlan") && !is_hashed_subplan(node) && node->total_cost > 0)
	{
		foreach(cell, parent->children)
		{
			const PlanNode *child = lfirst(cell);

			if (!is_related(child, "SubPlan"))
				others += child->total_cost;
		}
		return Max(1, (parent->total_cost - others) / node->total_cost);
	}
	return 1;
}

/* What the node itself costs each time, as planned. */
static double
planned_own(const PlanNode *node)
{
	double cost = node->total_cost;
	ListCell *cell;

	foreach(cell, node->children)
	{
		const PlanNode *child = lfirst(cell);

		if (is_related(child, "InitPlan"))
			continue;
		cost -= child->total_cost * planned_loops(child) * part_asked_for(child);
	}
	return Max(cost, 0);
}

/* How many times as much as planned it had to look at, each time. */
static double
more_than_planned(const PlanNode *node)
{
	double planned = 0;
	double actual = 0;
	ListCell *cell;

	foreach(cell, node->children)
	{
		const PlanNode *child = lfirst(cell);

		if (is_related(child, "InitPlan") || is_related(child, "SubPlan"))
			continue;
		planned += child->plan_rows * planned_loops(child);
		actual += plan_all_rows(child) / node->loops;
	}
	if (node->children == NIL || planned == 0)
	{
		planned = plan_is(node, "Seq Scan") ? plan_table_rows(node->relid, NULL) / node->processes
											: node->plan_rows;
		actual = node->rows + node->removed / node->loops;
	}
	if (planned < 1)
		return Max(actual, 1);
	return Max(actual, 1) / planned;
}

/* Milliseconds from its beginning to its end, all of its executions together. */
static double
elapsed(const PlanNode *node)
{
	return plan_number(node->json, "Actual Total Time", 0) * node->loops / node->processes;
}

static double
own_time(const PlanTree *tree, const PlanNode *node)
{
	double time = elapsed(node);
	char *cte = plan_is(node, "CTE Scan") ? plan_text(node->json, "CTE Name") : NULL;
	ListCell *cell;

	foreach(cell, node->children)
		time -= elapsed(lfirst(cell));
	/* the rows of a CTE are made while they are read */
	if (cte != NULL)
	{
		cte = psprintf("CTE %s", cte);
		foreach(cell, tree->nodes)
		{
			const PlanNode *other = lfirst(cell);
			char *name = plan_text(other->json, "Subplan Name");

			if (name != NULL && strcmp(name, cte) == 0)
				time -= elapsed(other);
		}
	}
	return Max(time, 0);
}

static double
add_up(PlanNode *node)
{
	ListCell *cell;

	node->share_all = node->share;
	foreach(cell, node->children)
		node->share_all += add_up(lfirst(cell));
	return node->share_all;
}

void
plan_json_weigh(PlanTree *tree)
{
	double all = 0;
	ListCell *cell;

	foreach(cell, tree->nodes)
	{
		PlanNode *node = lfirst(cell);

		node->part = part_asked_for(node);
		/* what is not asked for is not asked for below it either */
		if (node->parent != NULL && !reads_all_first(node->parent))
			node->part *= node->parent->part;
		if (!tree->measured)
		{
			node->rows = node->plan_rows;
			node->loops = planned_loops(node) * (node->parent != NULL ? node->parent->loops : 1);
		}
	}
	foreach(cell, tree->nodes)
	{
		PlanNode *node = lfirst(cell);

		CHECK_FOR_INTERRUPTS();
		if (!tree->measured)
			node->own = planned_own(node) * node->loops * node->part;
		else if (!node->executed)
			node->own = 0;
		else if (tree->timed)
			node->own = own_time(tree, node);
		else
			node->own = planned_own(node) * node->loops * more_than_planned(node);
		all += node->own;
	}
	foreach(cell, tree->nodes)
	{
		PlanNode *node = lfirst(cell);

		node->share = all > 0 ? node->own / all : 0;
	}
	(void) add_up(tree->root);
}

/* --- comparison -------------------------------------------------------------------------- */

static bool
same_text(JsonbContainer *a, JsonbContainer *b, const char *key)
{
	char *x = plan_text(a, key);
	char *y = plan_text(b, key);

	return x == NULL || y == NULL ? x == y : strcmp(x, y) == 0;
}

static bool
alike(const PlanNode *a, const PlanNode *b)
{
	static const char *const keys[] = {
		"Node Type", "Join Type", "Strategy", "Relation Name", "Index Name", "Parent Relationship"};

	check_stack_depth();
	for (int i = 0; i < lengthof(keys); i++)
		if (!same_text(a->json, b->json, keys[i]))
			return false;
	if (list_length(a->children) != list_length(b->children))
		return false;
	for (int i = 0; i < list_length(a->children); i++)
		if (!alike(list_nth(a->children, i), list_nth(b->children, i)))
			return false;
	return true;
}

bool
plan_json_alike(const PlanTree *a, const PlanTree *b)
{
	return alike(a->root, b->root);
}

/* --- as text ------------------------------------------------------------------------------- */

/* What a line of its own says, in this order; then whatever else there is. */
static const char *const details[] = {"Output",
									  "Sort Key",
									  "Presorted Key",
									  "Group Key",
									  "Index Cond",
									  "Recheck Cond",
									  "TID Cond",
									  "Order By",
									  "Hash Cond",
									  "Merge Cond",
									  "Join Filter",
									  "Cache Key",
									  "Filter",
									  "Sort Method",
									  "Sort Space Type",
									  "Workers Planned"};

/* What the first line says, or nobody wants to know. */
static const char *const silent[] = {"Node Type",
									 "Parent Relationship",
									 "Subplan Name",
									 "Parallel Aware",
									 "Async Capable",
									 "Strategy",
									 "Partial Mode",
									 "Operation",
									 "Command",
									 "Join Type",
									 "Inner Unique",
									 "Single Copy",
									 "Disabled",
									 "Scan Direction",
									 "Index Name",
									 "Relation Name",
									 "Schema",
									 "Alias",
									 "CTE Name",
									 "Function Name",
									 "Startup Cost",
									 "Total Cost",
									 "Plan Rows",
									 "Plan Width",
									 "Actual Startup Time",
									 "Actual Total Time",
									 "Actual Rows",
									 "Actual Loops",
									 "Cache Mode"};

static bool
is_one_of(const char *key, const char *const *keys, int count)
{
	for (int i = 0; i < count; i++)
		if (strcmp(key, keys[i]) == 0)
			return true;
	return false;
}

/* A value on one line; NULL for what would be no news: zero, objects. */
static char *
value_text(JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return pnstrdup(value->val.string.val, value->val.string.len);
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		case jbvNumeric:
		{
			char *text = DatumGetCString(
				DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));

			return strcmp(text, "0") == 0 || strcmp(text, "0.000") == 0 ? NULL : text;
		}
		case jbvBinary:
		{
			StringInfoData all;

			initStringInfo(&all);
			for (int i = 0; i < plan_length(value->val.binary.data); i++)
			{
				JsonbValue *one = getIthJsonbValueFromContainer(value->val.binary.data, i);
				char *text = one->type != jbvBinary ? value_text(one) : NULL;

				if (text != NULL)
					appendStringInfo(&all, "%s%s", all.len > 0 ? ", " : "", text);
			}
			return all.len > 0 ? all.data : NULL;
		}
		default:
			return NULL;
	}
}

static void
detail_lines(StringInfo out, JsonbContainer *json, int indent, bool with_known)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue key;
	JsonbValue value;

	for (int i = 0; with_known && i < lengthof(details); i++)
	{
		char *text = property(json, details[i], &value) != NULL ? value_text(&value) : NULL;

		if (text != NULL)
			appendStringInfo(out, "%*s%s: %s\n", indent, "", details[i], text);
	}
	iterator = JsonbIteratorInit(json);
	while ((token = JsonbIteratorNext(&iterator, &key, true)) != WJB_DONE)
	{
		char *name;
		char *text;

		if (token != WJB_KEY)
			continue;
		name = pnstrdup(key.val.string.val, key.val.string.len);
		(void) JsonbIteratorNext(&iterator, &value, true);
		if (is_one_of(name, details, lengthof(details)) ||
			is_one_of(name, silent, lengthof(silent)))
			continue;
		text = value_text(&value);
		if (text != NULL)
			appendStringInfo(out, "%*s%s: %s\n", indent, "", name, text);
	}
}

/* What the server's own text calls the node. */
static char *
node_label(const PlanNode *node)
{
	StringInfoData label;
	char *join = plan_text(node->json, "Join Type");
	char *strategy = plan_text(node->json, "Strategy");
	char *operation = plan_text(node->json, "Operation");
	char *index = plan_text(node->json, "Index Name");
	char *partial = plan_text(node->json, "Partial Mode");
	const char *name = node->type;

	initStringInfo(&label);
	if (partial != NULL && strcmp(partial, "Simple") != 0)
		appendStringInfo(&label, "%s ", partial);
	if (plan_flag(node->json, "Parallel Aware"))
		appendStringInfoString(&label, "Parallel ");
	if (plan_is(node, "Aggregate") && strategy != NULL && strcmp(strategy, "Plain") != 0)
		name = strcmp(strategy, "Sorted") == 0   ? "GroupAggregate"
			   : strcmp(strategy, "Hashed") == 0 ? "HashAggregate"
												 : "MixedAggregate";
	else if (operation != NULL)
		name = operation;
	if (join != NULL && strcmp(join, "Inner") != 0)
	{
		/* "Hash Left Join", "Nested Loop Left Join" */
		int length = (int) strlen(name);

		if (length > 5 && strcmp(name + length - 5, " Join") == 0)
			length -= 5;
		appendStringInfo(&label, "%.*s %s Join", length, name, join);
	}
	else
		appendStringInfoString(&label, name);
	if (index != NULL)
		appendStringInfo(&label, " using %s", quote_identifier(index));
	if (node->relation != NULL)
		appendStringInfo(&label, " on %s", quote_identifier(node->relation));
	else
	{
		char *other = plan_text(node->json, "CTE Name");

		if (other == NULL)
			other = plan_text(node->json, "Function Name");
		if (other != NULL)
			appendStringInfo(&label, " on %s", quote_identifier(other));
	}
	if (node->alias != NULL && (node->relation == NULL || strcmp(node->alias, node->relation) != 0))
		appendStringInfo(&label, " %s", quote_identifier(node->alias));
	return label.data;
}

static void
node_lines(StringInfo out, const PlanNode *node, int depth)
{
	char *subplan = plan_text(node->json, "Subplan Name");
	int indent = depth > 0 ? 6 * depth - 4 : 0;
	ListCell *cell;

	check_stack_depth();
	if (subplan != NULL)
		appendStringInfo(out, "%*s%s\n", indent, "", subplan);
	appendStringInfo(out,
					 "%*s%s%s  (cost=%.2f..%.2f rows=%.0f width=%.0f)",
					 indent,
					 "",
					 depth > 0 ? "->  " : "",
					 node_label(node),
					 node->startup_cost,
					 node->total_cost,
					 node->plan_rows,
					 node->width);
	if (node->executed)
	{
		double startup = plan_number(node->json, "Actual Startup Time", -1);

		appendStringInfoString(out, " (actual ");
		if (startup >= 0)
			appendStringInfo(
				out, "time=%.3f..%.3f ", startup, plan_number(node->json, "Actual Total Time", 0));
		appendStringInfo(out, "rows=%g loops=%.0f)", node->rows, node->loops);
	}
	else if (plan_number(node->json, "Actual Loops", -1) == 0)
		appendStringInfoString(out, " (never executed)");
	appendStringInfoChar(out, '\n');
	detail_lines(out, node->json, indent + (depth > 0 ? 6 : 2), true);
	foreach(cell, node->children)
		node_lines(out, lfirst(cell), depth + 1);
}

char *
plan_json_text(const PlanTree *tree)
{
	StringInfoData out;
	JsonbContainer *triggers = plan_part(tree->json, "Triggers");
	JsonbContainer *jit = plan_part(tree->json, "JIT");

	initStringInfo(&out);
	node_lines(&out, tree->root, 0);
	for (int i = 0; i < plan_length(triggers); i++)
	{
		appendStringInfoString(&out, "Trigger\n");
		detail_lines(&out, plan_element(triggers, i), 2, true);
	}
	if (jit != NULL)
	{
		appendStringInfoString(&out, "JIT\n");
		detail_lines(&out, jit, 2, true);
	}
	detail_lines(&out, tree->json, 0, false);
	while (out.len > 0 && out.data[out.len - 1] == '\n')
		out.data[--out.len] = '\0';
	return out.data;
}
