/*
 * plan_conditions.c
 *		Conditions that no index can serve as they are written.
 *
 * They are read from the plan that is made now, since a plan in JSON has them
 * as text only.  A condition that an index serves is none of a scan's filters
 * any more; so every one that is found here is checked row by row.
 *
 * Locks: none; the tables were locked when the statement was planned.
 * Cost: one pass over the plan's conditions.
 */
#include "pgopt.h"

#include <math.h>

#include "access/relation.h"
#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_statistic_ext.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/primnodes.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteManip.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "compat.h"
#include "core.h"
#include "plan_tree.h"
#include "plan_words.h"

/* CREATE STATISTICS takes no more (STATS_MAX_DIMENSIONS). */
#define MAX_STATISTICS_COLUMNS 8

#define TRIGRAM_OPCLASS        "gin_trgm_ops"

/* --- collecting -------------------------------------------------------------------- */

static ScanConditions *
conditions_of(const PlanReview *review, Oid relid)
{
	ListCell *cell;

	foreach(cell, review->conditions)
		if (((ScanConditions *) lfirst(cell))->relid == relid)
			return lfirst(cell);
	return NULL;
}

/* In an index-only scan Vars stand for the columns of the index. */
static Node *
resolve_index_vars(Node *node, void *indextlist)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && ((Var *) node)->varno == INDEX_VAR)
	{
		int column = ((Var *) node)->varattno;

		if (column > 0 && column <= list_length((List *) indextlist))
			return copyObject(
				(Node *) list_nth_node(TargetEntry, (List *) indextlist, column - 1)->expr);
		return copyObject(node);
	}
	return expression_tree_mutator(node, resolve_index_vars, indextlist);
}

static List *
for_table(List *clauses, Index varno)
{
	List *copy = copyObject(clauses);

	ChangeVarNodes((Node *) copy, (int) varno, 1, 0);
	return copy;
}

static void
add_conditions(PlanReview *review, Index varno, List *filter, List *served)
{
	RangeTblEntry *rte = list_nth_node(RangeTblEntry, review->plan->rtable, (int) varno - 1);
	ScanConditions *conditions;

	if (rte->rtekind != RTE_RELATION || (filter == NIL && served == NIL))
		return;
	conditions = conditions_of(review, rte->relid);
	if (conditions == NULL)
	{
		conditions = palloc0(sizeof(ScanConditions));
		conditions->relid = rte->relid;
		review->conditions = lappend(review->conditions, conditions);
	}
	filter = for_table(filter, varno);
	conditions->filter = list_concat(conditions->filter, filter);
	conditions->all = list_concat(conditions->all, filter);
	conditions->all = list_concat(conditions->all, for_table(served, varno));
}

static bool
collect_not_in(Node *node, PlanReview *review)
{
	if (node == NULL)
		return false;
	if (is_notclause(node) && IsA(get_notclausearg((Expr *) node), SubPlan))
	{
		SubPlan *subplan = (SubPlan *) get_notclausearg((Expr *) node);

		if (subplan->subLinkType == ANY_SUBLINK && !subplan->useHashTable)
			review->not_in = lappend(review->not_in, subplan->plan_name);
	}
	return expression_tree_walker(node, collect_not_in, (void *) review);
}

static void
collect(Plan *plan, Plan *parent, void *arg)
{
	PlanReview *review = arg;

	(void) collect_not_in((Node *) plan->qual, review);
	(void) collect_not_in((Node *) plan->targetlist, review);
	switch (nodeTag(plan))
	{
		case T_SeqScan:
		case T_SampleScan:
		case T_TidScan:
		case T_TidRangeScan:
			add_conditions(review, ((Scan *) plan)->scanrelid, plan->qual, NIL);
			break;
		case T_IndexScan:
			add_conditions(review,
						   ((Scan *) plan)->scanrelid,
						   plan->qual,
						   ((IndexScan *) plan)->indexqualorig);
			break;
		case T_IndexOnlyScan:
		{
			IndexOnlyScan *scan = (IndexOnlyScan *) plan;

			add_conditions(review,
						   scan->scan.scanrelid,
						   (List *) resolve_index_vars((Node *) plan->qual, scan->indextlist),
						   (List *) resolve_index_vars((Node *) scan->indexqual, scan->indextlist));
			break;
		}
		case T_BitmapHeapScan:
			add_conditions(review,
						   ((Scan *) plan)->scanrelid,
						   plan->qual,
						   ((BitmapHeapScan *) plan)->bitmapqualorig);
			break;
		default:
			break;
	}
}

void
plan_conditions_collect(PlanReview *review)
{
	plan_tree_visit(review->plan, collect, review);
}

bool
plan_is_not_in(const PlanReview *review, const char *subplan)
{
	ListCell *cell;

	foreach(cell, review->not_in)
		if (subplan != NULL && lfirst(cell) != NULL && strcmp(lfirst(cell), subplan) == 0)
			return true;
	return false;
}

/* --- comparisons -------------------------------------------------------------------- */

/* "wrapped operator other", wrapped being the side with the table's columns. */
typedef struct Comparison
{
	Oid relid;
	Node *clause;
	Oid opno; /* InvalidOid: a function of its own */
	Oid function;
	Node *wrapped;
	Node *other; /* without columns of the table */
} Comparison;

static Node *
strip(Node *node)
{
	while (node != NULL && IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	return node;
}

static char *
expression_text(Oid relid, Node *expression)
{
	char *name = get_rel_name(relid);

	return deparse_expression(
		expression, deparse_context_for(name != NULL ? name : "?", relid), false, false);
}

/* Can an index be asked for it?  B-tree by the type's own order, GIN by its default operators. */
static bool
is_indexable(const Comparison *comparison, Oid am)
{
	Oid opclass = GetDefaultOpClass(exprType(strip(comparison->wrapped)), am);

	if (!OidIsValid(comparison->opno))
		return am == BTREE_AM_OID; /* a condition by itself: WHERE f(x) */
	return OidIsValid(opclass) &&
		   get_op_opfamily_strategy(comparison->opno, get_opclass_family(opclass)) != 0;
}

/* Does a scan of the table look at so many rows that conditions matter? */
static bool
reads_many_rows(const PlanReview *review, Oid relid)
{
	ListCell *cell;

	foreach(cell, review->tree->nodes)
	{
		const PlanNode *node = lfirst(cell);
		const PlanNode *bitmap = plan_child(node, "Outer");

		if (node->relid != relid)
			continue;
		if (review->tree->measured ? node->removed + plan_all_rows(node) >= PLAN_MANY_ROWS
			: plan_is(node, "Bitmap Heap Scan") && bitmap != NULL
				? bitmap->plan_rows * node->loops >= PLAN_MANY_ROWS
				: (plan_is(node, "Seq Scan") || plan_text(node->json, "Index Cond") == NULL) &&
					  plan_table_rows(relid, NULL) * node->loops >= PLAN_MANY_ROWS)
			return true;
	}
	return false;
}

/* Unless the same was said of another partition. */
static PlanFinding *
report(PlanReview *review, const Comparison *comparison, const char *problem, char *what)
{
	Oid table = plan_known_table(comparison->relid);
	PlanFinding *finding;
	ListCell *cell;

	foreach(cell, review->findings)
	{
		const PlanFinding *other = lfirst(cell);

		if (strcmp(other->problem, problem) == 0 && other->relid == table &&
			strcmp(other->what, what) == 0)
			return NULL;
	}
	finding = plan_report(review, problem, plan_share_of(review, comparison->relid));
	finding->what = what;
	finding->relid = table;
	plan_evidence_text(finding, "table", get_rel_name(table));
	plan_evidence_text(
		finding, "condition", expression_text(comparison->relid, comparison->clause));
	return finding;
}

/* Proposes an index on an expression, priced; false where it would not help or cannot be. */
static bool
propose_index(PlanReview *review, PlanFinding *finding, const char *method, const char *key)
{
	PricedIndex *index;
	char *table = plan_table_name(finding->relid);

	if (table == NULL)
		return false;
	index =
		plan_price_index(review, psprintf("CREATE INDEX ON %s USING %s (%s)", table, method, key));
	if (index == NULL)
		return false;
	plan_remedy_add(finding, psprintf("%s;", index->ddl));
	finding->cost_before = review->cost;
	finding->cost_after = index->cost;
	return true;
}

/* --- patterns ------------------------------------------------------------------------ */

static bool
is_like(Oid function)
{
	switch (function)
	{
		case F_TEXTLIKE:
		case F_NAMELIKE:
		case F_BPCHARLIKE:
		case F_TEXTICLIKE:
		case F_NAMEICLIKE:
		case F_BPCHARICLIKE:
			return true;
		default:
			return false;
	}
}

static bool
is_regex(Oid function)
{
	switch (function)
	{
		case F_TEXTREGEXEQ:
		case F_NAMEREGEXEQ:
		case F_BPCHARREGEXEQ:
		case F_TEXTICREGEXEQ:
		case F_NAMEICREGEXEQ:
		case F_BPCHARICREGEXEQ:
			return true;
		default:
			return false;
	}
}

/* The pattern that a column or expression is matched with; NULL where it is not known. */
static char *
pattern_of(const Comparison *comparison)
{
	const Const *constant = (const Const *) strip(comparison->other);

	if (constant == NULL || !IsA(constant, Const) || constant->constisnull ||
		(constant->consttype != TEXTOID && constant->consttype != BPCHAROID))
		return NULL;
	return TextDatumGetCString(constant->constvalue);
}

/* The operator class of pg_trgm for GIN; NULL where the extension is not there. */
static char *
trigram_opclass(void)
{
	CatCList *list = SearchSysCacheList2(
		CLAAMNAMENSP, ObjectIdGetDatum(GIN_AM_OID), CStringGetDatum(TRIGRAM_OPCLASS));
	char *name = NULL;

	if (list->n_members > 0)
	{
		Form_pg_opclass form = (Form_pg_opclass) GETSTRUCT(&list->members[0]->tuple);

		name = quote_qualified_identifier(get_namespace_name(form->opcnamespace), TRIGRAM_OPCLASS);
	}
	ReleaseCatCacheList(list);
	return name;
}

static bool
leading_wildcard(PlanReview *review, const Comparison *comparison)
{
	char *pattern = pattern_of(comparison);
	bool like = is_like(comparison->function);
	char *column;
	PlanFinding *finding;
	char *opclass;

	if (pattern == NULL || (!like && !is_regex(comparison->function)))
		return false;
	if (like ? pattern[0] != '%' && pattern[0] != '_' : pattern[0] == '^')
		return false;
	column = expression_text(comparison->relid, strip(comparison->wrapped));
	finding = report(review,
					 comparison,
					 "leading_wildcard",
					 psprintf("%s on %s: %s, so that a B-tree index cannot find the rows",
							  expression_text(comparison->relid, comparison->clause),
							  get_rel_name(plan_known_table(comparison->relid)),
							  like ? "the pattern begins with a wildcard"
								   : "the regular expression may match anywhere"));
	if (finding == NULL)
		return true;

	opclass = trigram_opclass();
	if (opclass != NULL)
	{
		if (!propose_index(review, finding, "gin", psprintf("(%s) %s", column, opclass)))
			(void) plan_remedy_indexes(review, finding);
		return true;
	}
	plan_remedy_add(finding,
					psprintf("CREATE EXTENSION pg_trgm;\n"
							 "CREATE INDEX CONCURRENTLY ON %s USING gin ((%s) gin_trgm_ops);",
							 plan_table_name(finding->relid),
							 column));
	return true;
}

/* LIKE 'abc%' is a range only where the order of text is that of its bytes. */
static bool
prefix_in_collation(PlanReview *review, const Comparison *comparison)
{
	char *pattern = pattern_of(comparison);
	const Var *column = (const Var *) strip(comparison->wrapped);
	PlanFinding *finding;

	if (pattern == NULL || (comparison->function != F_TEXTLIKE) || !IsA(column, Var) ||
		pattern[0] == '%' || pattern[0] == '_' || pattern[0] == '\0' ||
		!OidIsValid(column->varcollid) || collation_is_c(column->varcollid))
		return false;
	finding = report(review,
					 comparison,
					 "prefix_in_collation",
					 psprintf("%s on %s: in the column's collation texts that begin alike do not "
							  "stand together, so that an ordinary index cannot find them",
							  expression_text(comparison->relid, comparison->clause),
							  get_rel_name(plan_known_table(comparison->relid))));
	if (finding != NULL)
		(void) propose_index(
			review,
			finding,
			"btree",
			psprintf("(%s) text_pattern_ops",
					 expression_text(comparison->relid, (Node *) unconstify(Var *, column))));
	return true;
}

/* --- what is wrapped around columns ----------------------------------------------------- */

/* The column that is only converted to another type; NULL where it is something else. */
static Var *
converted_column(Node *wrapped)
{
	Node *arg = NULL;

	wrapped = strip(wrapped);
	if (IsA(wrapped, FuncExpr))
	{
		FuncExpr *call = (FuncExpr *) wrapped;

		if ((call->funcformat == COERCE_IMPLICIT_CAST ||
			 call->funcformat == COERCE_EXPLICIT_CAST) &&
			call->args != NIL)
			arg = linitial(call->args);
	}
	else if (IsA(wrapped, CoerceViaIO))
		arg = (Node *) ((CoerceViaIO *) wrapped)->arg;
	else if (IsA(wrapped, ArrayCoerceExpr))
		arg = (Node *) ((ArrayCoerceExpr *) wrapped)->arg;
	arg = strip(arg);
	return arg != NULL && IsA(arg, Var) ? (Var *) arg : NULL;
}

static bool
type_cast_on_column(PlanReview *review, const Comparison *comparison)
{
	Var *column = converted_column(comparison->wrapped);
	Oid type = exprType(strip(comparison->wrapped));
	char *name;
	PlanFinding *finding;

	if (column == NULL || column->varattno <= 0 || !is_indexable(comparison, BTREE_AM_OID))
		return false;
	name = get_attname(comparison->relid, column->varattno, true);
	if (name == NULL)
		return false;
	finding = report(review,
					 comparison,
					 "type_cast_on_column",
					 psprintf("%s on %s: the column %s is converted from %s to %s in each row, so "
							  "that an index on it cannot be used",
							  expression_text(comparison->relid, comparison->clause),
							  get_rel_name(plan_known_table(comparison->relid)),
							  quote_identifier(name),
							  format_type_be(column->vartype),
							  format_type_be(type)));
	if (finding == NULL)
		return true;
	plan_evidence_text(finding, "column", name);
	plan_evidence_text(finding, "column_type", format_type_be(column->vartype));
	plan_evidence_text(finding, "compared_as", format_type_be(type));
	if (type == DATEOID && (column->vartype == TIMESTAMPOID || column->vartype == TIMESTAMPTZOID))
		plan_remedy_add(finding,
						psprintf("write %s >= day AND %s < day + 1 instead of %s::date = day",
								 quote_identifier(name),
								 quote_identifier(name),
								 quote_identifier(name)));
	else
		plan_remedy_add(finding,
						psprintf("compare %s with a value of type %s: convert the value, not the "
								 "column",
								 quote_identifier(name),
								 format_type_be(column->vartype)));
	return true;
}

/* How to write it without the function; NULL where there is no general way. */
static char *
rewritten(Oid relid, Node *wrapped, const char *operator_name)
{
	if (IsA(wrapped, FuncExpr))
	{
		FuncExpr *call = (FuncExpr *) wrapped;
		const char *function = get_func_name(call->funcid);
		Node *argument = NULL;
		char *column;
		ListCell *cell;

		if (function == NULL || get_func_namespace(call->funcid) != PG_CATALOG_NAMESPACE)
			return NULL;
		foreach(cell, call->args)
			if (argument == NULL && contain_var_clause(lfirst(cell)))
				argument = lfirst(cell);
		if (argument == NULL)
			return NULL;
		column = expression_text(relid, argument);
		if (strcmp(function, "date_trunc") == 0)
		{
			const Const *unit = linitial(call->args);

			if (IsA(unit, Const) && !unit->constisnull && operator_name != NULL &&
				strcmp(operator_name, "=") == 0)
				return psprintf("write %s >= value AND %s < value + interval '1 %s' instead of %s "
								"= value",
								column,
								column,
								TextDatumGetCString(unit->constvalue),
								expression_text(relid, wrapped));
			return psprintf("compare %s itself with the beginning of the period", column);
		}
		if (strcmp(function, "date_part") == 0 || strcmp(function, "extract") == 0 ||
			strcmp(function, "to_char") == 0 || strcmp(function, "date") == 0 ||
			strcmp(function, "age") == 0)
			return psprintf(
				"write %s >= beginning AND %s < end of the period instead", column, column);
		return NULL;
	}
	if (IsA(wrapped, CoalesceExpr))
	{
		char *column = expression_text(relid, linitial(((CoalesceExpr *) wrapped)->args));

		return psprintf("compare %s itself, and add OR %s IS NULL where the value that COALESCE "
						"gives fits",
						column,
						column);
	}
	if (IsA(wrapped, OpExpr) && list_length(((OpExpr *) wrapped)->args) == 2)
	{
		char *name = get_opname(((OpExpr *) wrapped)->opno);

		if (name != NULL && strspn(name, "+-*/") == strlen(name))
			return "move the arithmetic to the other side, so that the column stands alone";
	}
	return NULL;
}

static bool
function_on_column(PlanReview *review, const Comparison *comparison)
{
	Node *wrapped = strip(comparison->wrapped);
	char *expression;
	char *advice;
	PlanFinding *finding;

	if (IsA(wrapped, Var) || IsA(wrapped, RowExpr) || IsA(wrapped, SubPlan) ||
		contain_subplans(wrapped) ||
		(!is_indexable(comparison, BTREE_AM_OID) && !is_indexable(comparison, GIN_AM_OID)))
		return false;
	expression = expression_text(comparison->relid, wrapped);
	finding = report(
		review,
		comparison,
		"function_on_column",
		psprintf("%s on %s: %s is computed for each row, so that an index on the column cannot be "
				 "used",
				 expression_text(comparison->relid, comparison->clause),
				 get_rel_name(plan_known_table(comparison->relid)),
				 expression));
	if (finding == NULL)
		return true;
	plan_evidence_text(finding, "expression", expression);

	advice = rewritten(comparison->relid,
					   wrapped,
					   OidIsValid(comparison->opno) ? get_opname(comparison->opno) : NULL);
	if (!contain_mutable_functions(wrapped))
	{
		bool found = propose_index(review,
								   finding,
								   is_indexable(comparison, BTREE_AM_OID) ? "btree" : "gin",
								   psprintf("(%s)", expression));

		if (!found && advice == NULL)
			(void) plan_remedy_indexes(review, finding);
	}
	plan_remedy_add(finding, advice);
	return true;
}

/* The first that fits says it. */
static bool (*const condition_rules[])(PlanReview *review, const Comparison *comparison) = {
	leading_wildcard,
	prefix_in_collation,
	type_cast_on_column,
	function_on_column,
};

static void
check_comparison(PlanReview *review, const Comparison *comparison)
{
	for (int i = 0; i < lengthof(condition_rules); i++)
		if (condition_rules[i](review, comparison))
			return;
}

static void
check_sides(PlanReview *review, Oid relid, Node *clause, Oid opno, Oid function, List *args)
{
	Node *left = linitial(args);
	Node *right = lsecond(args);
	Comparison comparison = {.relid = relid, .clause = clause, .opno = opno, .function = function};

	if (contain_var_clause(left) && contain_var_clause(right))
		return;
	comparison.wrapped = contain_var_clause(left) ? left : right;
	comparison.other = contain_var_clause(left) ? right : left;
	if (contain_var_clause(comparison.wrapped))
		check_comparison(review, &comparison);
}

static void
check_clause(PlanReview *review, Oid relid, Node *clause)
{
	ListCell *cell;

	check_stack_depth();
	if (is_andclause(clause) || is_orclause(clause))
	{
		foreach(cell, ((BoolExpr *) clause)->args)
			check_clause(review, relid, lfirst(cell));
	}
	else if (IsA(clause, OpExpr) && list_length(((OpExpr *) clause)->args) == 2)
	{
		OpExpr *op = (OpExpr *) clause;

		check_sides(review, relid, clause, op->opno, op->opfuncid, op->args);
	}
	else if (IsA(clause, ScalarArrayOpExpr))
	{
		ScalarArrayOpExpr *op = (ScalarArrayOpExpr *) clause;

		check_sides(review, relid, clause, op->opno, op->opfuncid, op->args);
	}
	else if (IsA(clause, FuncExpr) && contain_var_clause(clause))
	{
		Comparison comparison = {.relid = relid, .clause = clause, .wrapped = clause};

		check_comparison(review, &comparison);
	}
}

void
plan_words_conditions(PlanReview *review)
{
	ListCell *cell;

	foreach(cell, review->conditions)
	{
		const ScanConditions *conditions = lfirst(cell);
		ListCell *clause;

		if (plan_share_of(review, conditions->relid) < PLAN_MIN_SHARE ||
			!reads_many_rows(review, conditions->relid))
			continue;
		foreach(clause, conditions->filter)
		{
			CHECK_FOR_INTERRUPTS();
			check_clause(review, conditions->relid, lfirst(clause));
		}
	}
}

/* --- statistics ---------------------------------------------------------------------------- */

/* Are there statistics on these columns together already? */
static bool
has_statistics(Oid relid, const Bitmapset *columns)
{
	Relation rel = try_relation_open(relid, AccessShareLock);
	bool found = false;
	ListCell *cell;

	if (rel == NULL)
		return false;
	foreach(cell, RelationGetStatExtList(rel))
	{
		HeapTuple tuple = SearchSysCache1(STATEXTOID, ObjectIdGetDatum(lfirst_oid(cell)));
		Form_pg_statistic_ext form;
		Bitmapset *theirs = NULL;

		if (!HeapTupleIsValid(tuple))
			continue;
		form = (Form_pg_statistic_ext) GETSTRUCT(tuple);
		for (int i = 0; i < form->stxkeys.dim1; i++)
			theirs = bms_add_member(theirs, form->stxkeys.values[i]);
		found |= bms_is_subset(columns, theirs);
		ReleaseSysCache(tuple);
	}
	relation_close(rel, AccessShareLock);
	return found;
}

/* An expression that conditions compare with something, of which nothing is known unless an index has it. */
static Node *
unknown_expression(const ScanConditions *conditions)
{
	ListCell *cell;

	foreach(cell, conditions->all)
	{
		OpExpr *op = lfirst(cell);
		Node *left;

		if (!IsA(op, OpExpr) || list_length(op->args) != 2)
			continue;
		left = strip(linitial(op->args));
		if (!IsA(left, Var) && converted_column(left) == NULL && contain_var_clause(left) &&
			!contain_mutable_functions(left) && !contain_subplans(left) &&
			!contain_var_clause(lsecond(op->args)))
			return left;
	}
	return NULL;
}

/* A name for statistics that is free in the table's schema. */
static char *
statistics_name(Oid relid, const char *part)
{
	Oid schema = get_rel_namespace(relid);
	char *label = pstrdup("stat");

	for (int i = 1;; i++)
	{
		char *name = makeObjectName(get_rel_name(relid), part, label);

		if (!SearchSysCacheExists2(STATEXTNAMENSP, CStringGetDatum(name), ObjectIdGetDatum(schema)))
			return quote_qualified_identifier(get_namespace_name(schema), name);
		label = psprintf("stat%d", i);
	}
}

char *
plan_statistics_ddl(const PlanReview *review, Oid relid)
{
	const ScanConditions *conditions = conditions_of(review, relid);
	char *table = plan_table_name(relid);
	Bitmapset *attributes = NULL;
	Bitmapset *columns = NULL;
	StringInfoData list;
	StringInfoData part;
	Node *expression;
	int attribute = -1;

	if (conditions == NULL || table == NULL)
		return NULL;
	expression = unknown_expression(conditions);
	if (expression != NULL)
		return psprintf("CREATE STATISTICS %s ON (%s) FROM %s;\nANALYZE %s;",
						statistics_name(relid, "expr"),
						expression_text(relid, expression),
						table,
						table);

	pull_varattnos((Node *) conditions->all, 1, &attributes);
	initStringInfo(&list);
	initStringInfo(&part);
	while ((attribute = bms_next_member(attributes, attribute)) >= 0)
	{
		AttrNumber attnum = attribute + FirstLowInvalidHeapAttributeNumber;
		char *name = attnum > 0 ? get_attname(relid, attnum, true) : NULL;

		if (name == NULL || bms_num_members(columns) == MAX_STATISTICS_COLUMNS ||
			!OidIsValid(lookup_type_cache(get_atttype(relid, attnum), TYPECACHE_LT_OPR)->lt_opr))
			continue;
		columns = bms_add_member(columns, attnum);
		appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "", quote_identifier(name));
		appendStringInfo(&part, "%s%s", part.len > 0 ? "_" : "", name);
	}
	if (bms_num_members(columns) < 2 || has_statistics(relid, columns))
		return NULL;
	return psprintf("CREATE STATISTICS %s ON %s FROM %s;\nANALYZE %s;",
					statistics_name(relid, part.data),
					list.data,
					table,
					table);
}
