/*
 * candidates_read.c
 *		What a query does with a table, read from the planner's structures.
 *
 * Called from set_rel_pathlist_hook, when restrictions are distributed,
 * equivalence classes complete and the orders that are wanted known: so views
 * are expanded, subqueries pulled up, and equalities that follow from others
 * are there.
 *
 * A partitioned table is looked at as a whole; children by inheritance each for
 * itself, since an index of the parent does not reach them.
 *
 * Memory: the planner's context; what is kept of it is copied by whoever makes
 * indexes.  Cost: tens of microseconds a relation.
 */
#include "pgopt.h"

#include "access/sysattr.h"
#include "access/transam.h"
#include "catalog/pg_am.h"
#include "catalog/pg_amop.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/restrictinfo.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/selfuncs.h"

#include "candidates_private.h"
#include "compat.h"

#define PARTIAL_SELECTIVITY 0.5 /* a predicate that lets more in saves too little */
#define UNEQUAL_SELECTIVITY 0.2

/* --- which tables ------------------------------------------------------------------------ */

static bool
parent_is_partitioned(PlannerInfo *root, Index rti)
{
	AppendRelInfo *info = root->append_rel_array != NULL ? root->append_rel_array[rti] : NULL;

	return info != NULL &&
		   root->simple_rte_array[info->parent_relid]->relkind == RELKIND_PARTITIONED_TABLE;
}

static bool
is_of_interest(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte)
{
	if (rte->rtekind != RTE_RELATION || rte->relid < FirstNormalObjectId || IS_DUMMY_REL(rel) ||
		rte->tablesample != NULL)
		return false;
	if (rte->relkind == RELKIND_PARTITIONED_TABLE)
	{
		if (rel->reloptkind != RELOPT_BASEREL && parent_is_partitioned(root, rti))
			return false;
	}
	else if ((rte->relkind != RELKIND_RELATION && rte->relkind != RELKIND_MATVIEW) || rte->inh ||
			 (rel->reloptkind != RELOPT_BASEREL && parent_is_partitioned(root, rti)))
		return false;
	return get_rel_persistence(rte->relid) != RELPERSISTENCE_TEMP;
}

/* Pages and rows of a table; of a partitioned one, of those of its partitions that are not pruned. */
static void
add_up_size(PlannerInfo *root, RelOptInfo *rel, Index rti, double *pages, double *tuples)
{
	if (!root->simple_rte_array[rti]->inh)
	{
		*pages += rel->pages;
		*tuples += rel->tuples;
		return;
	}
	for (int i = 1; root->append_rel_array != NULL && i < root->simple_rel_array_size; i++)
	{
		AppendRelInfo *info = root->append_rel_array[i];

		if (info != NULL && info->parent_relid == rti && root->simple_rel_array[i] != NULL)
			add_up_size(root, root->simple_rel_array[i], i, pages, tuples);
	}
}

/* --- join clauses ---------------------------------------------------------------------------- */

/* What equivalence classes equate with columns of other relations. */
static void
read_equivalences(PlannerInfo *root, RelOptInfo *rel, TableUse *use)
{
	int i = -1;

	while ((i = bms_next_member(rel->eclass_indexes, i)) >= 0)
	{
		EquivalenceClass *ec = list_nth(root->eq_classes, i);
		CompatMemberIterator members;
		EquivalenceMember *member;
		Relids others = NULL;
		ListCell *cell;

		if (ec->ec_has_const || ec->ec_has_volatile || list_length(ec->ec_members) < 2)
			continue;
		foreach(cell, ec->ec_members)
		{
			EquivalenceMember *other = lfirst(cell);

			if (!other->em_is_child && !bms_overlap(other->em_relids, rel->relids) &&
				!bms_overlap(other->em_relids, rel->top_parent_relids))
				others = bms_add_members(others, other->em_relids);
		}
		if (others == NULL)
			continue;
		compat_member_iterator_begin(&members, ec, rel->relids);
		while ((member = compat_member_iterator_next(&members)) != NULL)
		{
			Term *term;
			Oid opclass;

			if (member->em_is_const || !bms_equal(member->em_relids, rel->relids))
				continue;
			term = palloc0(sizeof(Term));
			if (!read_key_column(
					root, rel, (Node *) member->em_expr, ec->ec_collation, &term->column))
				continue;
			opclass = GetDefaultOpClass(term->column.type, BTREE_AM_OID);
			if (!OidIsValid(opclass) ||
				!list_member_oid(ec->ec_opfamilies, get_opclass_family(opclass)))
				continue;
			term->kind = TERM_EQUAL;
			term->with = others;
			term->selectivity = 1.0 / Max(term->column.distinct, 1.0);
			use->joins = lappend(use->joins, term);
		}
	}
}

static void
read_join_clauses(PlannerInfo *root, RelOptInfo *rel, TableUse *use)
{
	ListCell *cell;

	foreach(cell, rel->joininfo)
	{
		RestrictInfo *info = lfirst_node(RestrictInfo, cell);
		ListCell *arm;

		if (!join_clause_is_movable_to(info, rel) || !restriction_is_securely_promotable(info, rel))
			continue;
		if (info->orclause == NULL)
		{
			use->joins = list_concat(use->joins, read_terms(root, rel, (Node *) info, true));
			continue;
		}
		foreach(arm, castNode(BoolExpr, info->orclause)->args)
		{
			Node *clause = lfirst(arm);

			if (IsA(clause, RestrictInfo))
				use->joins = list_concat(use->joins, read_terms(root, rel, clause, true));
		}
	}
}

/* --- restrictions ------------------------------------------------------------------------------ */

/* A bitmap of several indexes needs something to search in every arm. */
static List *
read_arms(PlannerInfo *root, RelOptInfo *rel, BoolExpr * or)
{
	List *arms = NIL;
	ListCell *cell;

	foreach(cell, or->args)
	{
		Node *arm = lfirst(cell);
		List *clauses = is_andclause(arm) ? castNode(BoolExpr, arm)->args : list_make1(arm);
		List *terms = NIL;
		ListCell *clause;

		foreach(clause, clauses)
			terms = list_concat(terms, read_terms(root, rel, lfirst(clause), false));
		if (terms == NIL)
			return NIL;
		arms = lappend(arms, terms);
	}
	return arms;
}

static int
list_elements(Node *array)
{
	if (!IsA(array, Const) || castNode(Const, array)->constisnull)
		return -1;
	return ArrayGetNItems(ARR_NDIM(DatumGetArrayTypeP(castNode(Const, array)->constvalue)),
						  ARR_DIMS(DatumGetArrayTypeP(castNode(Const, array)->constvalue)));
}

static bool
contains_param_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Param) || IsA(node, SubPlan) || IsA(node, AlternativeSubPlan))
		return true;
	return expression_tree_walker(node, contains_param_walker, context);
}

static bool
is_datetime(Oid type)
{
	char category;
	bool preferred;

	get_type_category_preferred(getBaseType(type), &category, &preferred);
	return category == TYPCATEGORY_DATETIME;
}

/*
 * A clause that tells rows apart for good, by a constant: a state, a kind, a
 * flag, what is missing.  Not one that looks up one of many values, nor a
 * range, whose ends move with time.
 */
static PartialClause *
read_partial(PlannerInfo *root, RelOptInfo *rel, RestrictInfo *info)
{
	Node *clause = (Node *) info->clause;
	Node *operand = clause;
	PartialClause *partial;
	KeyColumn column;
	double limit = PARTIAL_SELECTIVITY;
	double selectivity;
	bool alone = true;
	bool tells_apart = true;

	if (contains_param_walker(clause, NULL) || contain_mutable_functions(clause))
		return NULL;
	if (IsA(clause, OpExpr) && list_length(castNode(OpExpr, clause)->args) == 2)
	{
		OpExpr *op = (OpExpr *) clause;
		Node *left = linitial(op->args);
		Node *right = lsecond(op->args);
		Oid equality;
		Oid opclass;

		if (IsA(left, Const))
		{
			operand = right;
			right = left;
		}
		else
			operand = left;
		while (IsA(operand, RelabelType))
			operand = (Node *) castNode(RelabelType, operand)->arg;
		if (!IsA(right, Const))
		{
			/* two columns of the row compared: its selectivity is a guess, so only to narrow */
			while (IsA(right, RelabelType))
				right = (Node *) castNode(RelabelType, right)->arg;
			if (!IsA(operand, Var) || !IsA(right, Var))
				return NULL;
			alone = false;
		}
		else
		{
			opclass = GetDefaultOpClass(exprType(operand), BTREE_AM_OID);
			if (!OidIsValid(opclass))
				return NULL;
			if (get_op_opfamily_strategy(op->opno, get_opclass_family(opclass)) !=
				BTEqualStrategyNumber)
			{
				equality = get_negator(op->opno);
				if (!OidIsValid(equality) ||
					get_op_opfamily_strategy(equality, get_opclass_family(opclass)) !=
						BTEqualStrategyNumber)
					return NULL;
				limit = UNEQUAL_SELECTIVITY;
			}
		}
	}
	else if (IsA(clause, ScalarArrayOpExpr))
	{
		ScalarArrayOpExpr *list = (ScalarArrayOpExpr *) clause;
		int elements = list_elements(lsecond(list->args));
		Oid opclass;

		operand = linitial(list->args);
		while (IsA(operand, RelabelType))
			operand = (Node *) castNode(RelabelType, operand)->arg;
		opclass = GetDefaultOpClass(exprType(operand), BTREE_AM_OID);
		if (!list->useOr || elements < 1 || elements > MAX_LISTED || !OidIsValid(opclass) ||
			get_op_opfamily_strategy(list->opno, get_opclass_family(opclass)) !=
				BTEqualStrategyNumber)
			return NULL;
	}
	else if (IsA(clause, NullTest) && !castNode(NullTest, clause)->argisrow)
	{
		operand = (Node *) castNode(NullTest, clause)->arg;
		tells_apart = false;
	}
	else if (IsA(clause, BooleanTest))
		operand = (Node *) castNode(BooleanTest, clause)->arg;
	else if (is_notclause(clause))
		operand = (Node *) get_notclausearg(clause);
	else if (!IsA(clause, Var))
		return NULL;

	selectivity = clause_selectivity(root, (Node *) info, rel->relid, JOIN_INNER, NULL);
	if (selectivity > limit || !read_key_column(root, rel, operand, InvalidOid, &column))
		return NULL;
	if (alone &&
		(tells_apart ? !column.known || column.distinct > MAX_PARTIAL_VALUES : column.attnum == 0))
		return NULL; /* one of many values, or nobody knows of how many */
	if (alone && tells_apart && is_datetime(exprType(operand)))
		return NULL; /* tomorrow another */
	partial = palloc0(sizeof(PartialClause));
	partial->clause = table_expression(rel, clause);
	partial->attnum = alone ? column.attnum : InvalidAttrNumber;
	partial->expression = alone ? column.expression : NULL;
	partial->selectivity = selectivity;
	partial->alone = alone;
	return partial;
}

static int
compare_partial(const ListCell *a, const ListCell *b)
{
	const PartialClause *left = lfirst(a);
	const PartialClause *right = lfirst(b);

	if (left->alone != right->alone)
		return left->alone ? -1 : 1;
	return left->selectivity < right->selectivity ? -1 : left->selectivity > right->selectivity;
}

static void
read_restrictions(PlannerInfo *root, RelOptInfo *rel, TableUse *use)
{
	ListCell *cell;

	foreach(cell, rel->baserestrictinfo)
	{
		RestrictInfo *info = lfirst_node(RestrictInfo, cell);
		PartialClause *partial;
		Bitmapset *columns = NULL;

		pull_varattnos((Node *) info->clause, rel->relid, &columns);
		use->clauses = lappend(use->clauses, table_expression(rel, (Node *) info->clause));
		use->clause_columns = lappend(use->clause_columns, columns);
		if (info->pseudoconstant || !restriction_is_securely_promotable(info, rel))
			continue;
		if (info->orclause != NULL)
			use->arms = list_concat(use->arms, read_arms(root, rel, (BoolExpr *) info->orclause));
		else
			use->terms = list_concat(use->terms, read_terms(root, rel, (Node *) info, false));
		partial = read_partial(root, rel, info);
		if (partial != NULL)
			use->partial = lappend(use->partial, partial);
	}
	list_sort(use->partial, compare_partial);
}

/* --- orders -------------------------------------------------------------------------------------- */

static Node *
member_of_relation(EquivalenceClass *ec, RelOptInfo *rel)
{
	CompatMemberIterator members;
	EquivalenceMember *member;

	compat_member_iterator_begin(&members, ec, rel->relids);
	while ((member = compat_member_iterator_next(&members)) != NULL)
		if (!member->em_is_const && bms_equal(member->em_relids, rel->relids))
			return (Node *) member->em_expr;
	return NULL;
}

/* ORDER BY column <-> constant: only an access method that orders by operators knows it. */
static bool
read_distance(PlannerInfo *root, RelOptInfo *rel, Node *expression, TableUse *use)
{
	OpExpr *op = (OpExpr *) expression;
	Node *operand;
	Node *other;
	Term *term;

	if (!IsA(expression, OpExpr) || list_length(op->args) != 2)
		return false;
	operand = linitial(op->args);
	other = lsecond(op->args);
	if (!bms_equal(pull_varnos(root, operand), rel->relids))
	{
		operand = other;
		other = linitial(op->args);
	}
	if (bms_overlap(pull_varnos(root, other), rel->relids))
		return false;
	term = search_term(root, rel, operand, op->opno, op->inputcollid, AMOP_ORDER);
	if (term == NULL)
		return false;
	term->selectivity = 0.01;
	use->terms = lappend(use->terms, term);
	return true;
}

/* Is this the planner's way to min() or max()?  It tries NULLs at either end, where one will do. */
static bool
is_extreme(PlannerInfo *root)
{
	TargetEntry *target;

	if (list_length(root->parse->targetList) != 1 || root->parse->limitCount == NULL)
		return false;
	target = linitial(root->parse->targetList);
	return target->resname != NULL && strcmp(target->resname, "agg_target") == 0;
}

static void
read_order(PlannerInfo *root, RelOptInfo *rel, List *pathkeys, bool grouping, TableUse *use)
{
	WantedOrder *order = palloc0(sizeof(WantedOrder));
	bool extreme = is_extreme(root);
	bool limited = root->limit_tuples > 0 || root->tuple_fraction > 0;
	KeyColumn *first;
	ListCell *cell;

	foreach(cell, pathkeys)
	{
		PathKey *key = lfirst(cell);
		Node *expression = member_of_relation(key->pk_eclass, rel);
		KeyColumn *column = palloc0(sizeof(KeyColumn));
		Oid opclass;

		if (expression == NULL || key->pk_eclass->ec_has_volatile)
			break;
		if (order->columns == NIL && read_distance(root, rel, expression, use))
			return;
		if (!read_key_column(root, rel, expression, key->pk_eclass->ec_collation, column))
			break;
		opclass = GetDefaultOpClass(column->type, BTREE_AM_OID);
		if (!OidIsValid(opclass) || get_opclass_family(opclass) != key->pk_opfamily)
			break;
		if (extreme && key->pk_nulls_first == compat_pathkey_ascending(key))
			break;
		column->descending = !compat_pathkey_ascending(key);
		column->nulls_first = key->pk_nulls_first;
		order->columns = lappend(order->columns, column);
	}
	if (order->columns == NIL)
		return;
	/* a scan backwards gives the opposite order: one form of the two, the one that reads plainest */
	first = linitial(order->columns);
	if (first->descending && first->nulls_first)
		foreach(cell, order->columns)
		{
			KeyColumn *column = lfirst(cell);

			column->descending = !column->descending;
			column->nulls_first = !column->nulls_first;
		}
	order->complete = list_length(order->columns) == list_length(pathkeys);
	order->limited = limited;
	order->grouping = grouping;
	if (order->complete || limited || grouping)
		use->orders = lappend(use->orders, order);
}

static void
read_orders(PlannerInfo *root, RelOptInfo *rel, TableUse *use)
{
	struct
	{
		List *pathkeys;
		bool grouping;
	} wanted[] = {{root->query_pathkeys, root->query_pathkeys == root->group_pathkeys},
				  {root->sort_pathkeys, false},
				  {root->window_pathkeys, false},
				  {root->distinct_pathkeys, true},
				  {root->group_pathkeys, true}};

	for (int i = 0; i < lengthof(wanted); i++)
	{
		bool seen = wanted[i].pathkeys == NIL;

		for (int j = 0; j < i && !seen; j++)
			seen = compare_pathkeys(wanted[i].pathkeys, wanted[j].pathkeys) == PATHKEYS_EQUAL;
		if (!seen)
			read_order(root, rel, wanted[i].pathkeys, wanted[i].grouping, use);
	}
}

/* --- all of it ------------------------------------------------------------------------------------- */

TableUse *
read_table_use(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte)
{
	TableUse *use;
	double pages = 0;
	double tuples = 0;
	Cardinality estimated = rel->tuples;
	int member = -1;

	if (!is_of_interest(root, rel, rti, rte))
		return NULL;
	add_up_size(root, rel, rti, &pages, &tuples);
	if (pages <= SMALL_TABLE_PAGES)
		return NULL;
	use = palloc0(sizeof(TableUse));
	use->table = rte->relid;
	use->pages = pages;
	use->tuples = Max(tuples, 1);
	use->rows = Max(rel->rows, 1);
	use->row_width = pages * BLCKSZ / use->tuples;
	pull_varattnos((Node *) rel->reltarget->exprs, rel->relid, &use->output);
	use->coverable = true;
	while ((member = bms_next_member(use->output, member)) >= 0)
		if (member + FirstLowInvalidHeapAttributeNumber <= 0)
			use->coverable = false;

	/* of a partitioned table the planner has what passes the restrictions there, while numbers of values are parts of all */
	rel->tuples = use->tuples;
	read_restrictions(root, rel, use);
	read_equivalences(root, rel, use);
	read_join_clauses(root, rel, use);
	read_orders(root, rel, use);
	rel->tuples = estimated;
	return use;
}
