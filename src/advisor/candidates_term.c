/*
 * candidates_term.c
 *		Of one clause: which key column could search it, and in which operator class.
 *
 * A clause is searched where the planner would match it with an index: one side
 * is a column of the table, or an immutable expression over its columns, the
 * other one has none of them and is not volatile, and the operator belongs to a
 * family of an access method.  Btree is taken where it can; else the families
 * that hold the operator are looked up in pg_amop, with the default operator
 * class of the column's type first, so that extensions' classes (pg_trgm) are
 * found in whatever schema they are.
 *
 * Memory: the current context.
 */
#include "pgopt.h"

#include <ctype.h>
#include <math.h>

#include "access/htup_details.h"
#include "access/stratnum.h"
#include "catalog/pg_am.h"
#include "catalog/pg_amop.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_statistic.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/restrictinfo.h"
#include "parser/parse_coerce.h"
#include "rewrite/rewriteManip.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/lsyscache.h"
#include "utils/selfuncs.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "candidates_private.h"
#include "compat.h"
#include "core.h"

#define STARTS_WITH_OP 3877 /* ^@, which has no name of its own in every version */

/* --- key columns -------------------------------------------------------------------- */

/* What an index cannot be on: anything but columns, constants and functions of these. */
static bool
not_indexable_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_Param:
		case T_SubPlan:
		case T_AlternativeSubPlan:
		case T_SubLink:
		case T_PlaceHolderVar:
		case T_Aggref:
		case T_GroupingFunc:
		case T_WindowFunc:
		case T_CurrentOfExpr:
			return true;
		case T_Var:
			return castNode(Var, node)->varattno <= 0 || castNode(Var, node)->varlevelsup != 0;
		default:
			return expression_tree_walker(node, not_indexable_walker, context);
	}
}

/* A copy as an index of the table would have it. */
Node *
table_expression(const RelOptInfo *rel, Node *expression)
{
	Node *copy = copyObject(expression);

	if (rel->relid != 1)
		ChangeVarNodes(copy, rel->relid, 1, 0);
	return copy;
}

/* Number of values, bytes, and correlation where the column is plain. */
static void
describe_column(PlannerInfo *root, RelOptInfo *rel, Node *operand, KeyColumn *column)
{
	VariableStatData statistics;
	bool is_default;

	examine_variable(root, operand, rel->relid, &statistics);
	column->distinct = get_variable_numdistinct(&statistics, &is_default);
	column->known = !is_default;
	ReleaseVariableStats(statistics);
	if (column->attnum != 0)
		column->width = column_width(root->simple_rte_array[rel->relid]->relid, column->attnum);
	else
		column->width = get_typavgwidth(column->type, exprTypmod(operand));
}

/* The operand as a key column; false where it cannot be one.  Only btree's families are not looked at here. */
bool
read_key_column(PlannerInfo *root, RelOptInfo *rel, Node *operand, Oid collation, KeyColumn *column)
{
	memset(column, 0, sizeof(KeyColumn));
	while (IsA(operand, RelabelType))
		operand = (Node *) castNode(RelabelType, operand)->arg;
	if (IsA(operand, Var))
	{
		Var *var = (Var *) operand;

		if (var->varno != rel->relid || var->varattno <= 0 || var->varlevelsup != 0)
			return false;
		column->attnum = var->varattno;
		column->type = var->vartype;
		column->collation = OidIsValid(var->varcollid)
								? (OidIsValid(collation) ? collation : var->varcollid)
								: InvalidOid;
		describe_column(root, rel, operand, column);
		return true;
	}
	if (IsA(operand, Const) || not_indexable_walker(operand, NULL) ||
		!bms_equal(pull_varnos(root, operand), rel->relids) || contain_mutable_functions(operand))
		return false;
	column->type = exprType(operand);
	column->collation = exprCollation(operand);
	if (OidIsValid(column->collation) && OidIsValid(collation))
		column->collation = collation;
	column->expression = table_expression(rel, operand);
	describe_column(root, rel, operand, column);
	return true;
}

/* Its row of pg_statistic, of a partitioned table that of all partitions; to be released where valid. */
HeapTuple
column_statistics(Oid table, AttrNumber attnum)
{
	HeapTuple tuple = SearchSysCache3(
		STATRELATTINH, ObjectIdGetDatum(table), Int16GetDatum(attnum), BoolGetDatum(false));

	if (!HeapTupleIsValid(tuple))
		tuple = SearchSysCache3(
			STATRELATTINH, ObjectIdGetDatum(table), Int16GetDatum(attnum), BoolGetDatum(true));
	return tuple;
}

double
column_width(Oid table, AttrNumber attnum)
{
	HeapTuple tuple = column_statistics(table, attnum);
	int32 width = 0;

	if (HeapTupleIsValid(tuple))
	{
		width = ((Form_pg_statistic) GETSTRUCT(tuple))->stawidth;
		ReleaseSysCache(tuple);
	}
	if (width <= 0)
	{
		Oid type;
		int32 typmod;
		Oid collation;

		get_atttypetypmodcoll(table, attnum, &type, &typmod, &collation);
		width = get_typavgwidth(type, typmod);
	}
	return width;
}

/* Of the column's values with the order of rows, with its sign; 0 where it is not known. */
double
column_correlation(Oid table, AttrNumber attnum)
{
	HeapTuple tuple = attnum != 0 ? column_statistics(table, attnum) : NULL;
	AttStatsSlot slot;
	double correlation = 0;

	if (!HeapTupleIsValid(tuple))
		return 0;
	if (get_attstatsslot(
			&slot, tuple, STATISTIC_KIND_CORRELATION, InvalidOid, ATTSTATSSLOT_NUMBERS))
	{
		if (slot.nnumbers > 0)
			correlation = slot.numbers[0];
		free_attstatsslot(&slot);
	}
	ReleaseSysCache(tuple);
	return correlation;
}

static Oid
btree_family(Oid type)
{
	Oid opclass = GetDefaultOpClass(type, BTREE_AM_OID);

	return OidIsValid(opclass) ? get_opclass_family(opclass) : InvalidOid;
}

/* --- other access methods ------------------------------------------------------------- */

/* An operator class of the family that takes the column's type: the default one, or any. */
static Oid
class_of_family(Oid am, Oid family, Oid input, Oid type)
{
	Oid preferred = GetDefaultOpClass(type, am);
	Oid found = InvalidOid;
	CatCList *list;

	if (OidIsValid(preferred) && get_opclass_family(preferred) == family)
		return preferred;
	list = SearchSysCacheList1(CLAAMNAMENSP, ObjectIdGetDatum(am));
	for (int i = 0; i < list->n_members && !OidIsValid(found); i++)
	{
		Form_pg_opclass form = (Form_pg_opclass) GETSTRUCT(&list->members[i]->tuple);

		if (form->opcfamily == family && (form->opcintype == input || form->opcintype == type) &&
			IsBinaryCoercible(type, form->opcintype))
			found = form->oid;
	}
	ReleaseSysCacheList(list);
	return found;
}

/* What finds most first: an inverted index knows each element, a tree of regions gets lost. */
static int
am_rank(Oid am)
{
	return am == GIN_AM_OID ? 0 : am == GIST_AM_OID ? 1 : am == SPGIST_AM_OID ? 2 : 3;
}

/*
 * The access methods but btree, hash and BRIN that know the operator: searching
 * by it, or ordering by it (purpose 'o').  The best one; and a class that is
 * not its type's default comes after one that is.
 */
Term *
search_term(PlannerInfo *root, RelOptInfo *rel, Node *operand, Oid op, Oid collation, char purpose)
{
	CatCList *list;
	KeyColumn column;
	Oid best_class = InvalidOid;
	Oid best_am = InvalidOid;
	bool best_default = false;
	Term *term;

	if (!read_key_column(root, rel, operand, collation, &column))
		return NULL;
	list = SearchSysCacheList1(AMOPOPID, ObjectIdGetDatum(op));
	for (int i = 0; i < list->n_members; i++)
	{
		Form_pg_amop form = (Form_pg_amop) GETSTRUCT(&list->members[i]->tuple);
		Oid opclass;
		bool is_default;

		if (form->amoppurpose != purpose || am_rank(form->amopmethod) > 2)
			continue;
		opclass =
			class_of_family(form->amopmethod, form->amopfamily, form->amoplefttype, column.type);
		if (!OidIsValid(opclass))
			continue;
		is_default = GetDefaultOpClass(column.type, form->amopmethod) == opclass;
		if (OidIsValid(best_class) && (am_rank(form->amopmethod) > am_rank(best_am) ||
									   (form->amopmethod == best_am && best_default >= is_default)))
			continue;
		best_class = opclass;
		best_am = form->amopmethod;
		best_default = is_default;
	}
	ReleaseSysCacheList(list);
	if (!OidIsValid(best_class))
		return NULL;

	/* Containment of jsonb alone is searched by hashes of paths: smaller, and finer. */
	term = palloc0(sizeof(Term));
	if (best_am == GIN_AM_OID && column.type == JSONBOID)
	{
		Oid paths = get_opclass_oid(
			GIN_AM_OID, list_make2(makeString("pg_catalog"), makeString("jsonb_path_ops")), true);

		if (OidIsValid(paths) && op_in_opfamily(op, get_opclass_family(paths)))
		{
			best_class = paths;
			best_default = false;
			term->path = true;
		}
	}
	term->kind = TERM_SEARCH;
	term->column = column;
	term->column.opclass = best_default ? InvalidOid : best_class;
	term->am = best_am;
	return term;
}

/* --- texts that begin with ------------------------------------------------------------- */

/* Does the pattern begin with what is no wildcard? */
static bool
has_prefix(Oid op, const Const *pattern)
{
	char *words;

	if (pattern->constisnull || (pattern->consttype != TEXTOID && pattern->consttype != BPCHAROID))
		return false;
	words = TextDatumGetCString(pattern->constvalue);
	switch (op)
	{
		case OID_TEXT_LIKE_OP:
		case OID_BPCHAR_LIKE_OP:
			return words[0] != '\0' && words[0] != '%' && words[0] != '_';
		case OID_TEXT_REGEXEQ_OP:
		case OID_BPCHAR_REGEXEQ_OP:
			return words[0] == '^' &&
				   (isalnum((unsigned char) words[1]) || IS_HIGHBIT_SET(words[1])) &&
				   strchr(words, '|') == NULL;
		default:
			return words[0] != '\0';
	}
}

/* The class of characters, bytewise, of a type; InvalidOid where there is none. */
static Oid
pattern_class(Oid type)
{
	const char *name = type == TEXTOID      ? "text_pattern_ops"
					   : type == VARCHAROID ? "varchar_pattern_ops"
					   : type == BPCHAROID  ? "bpchar_pattern_ops"
											: NULL;

	if (name == NULL)
		return InvalidOid;
	return get_opclass_oid(
		BTREE_AM_OID, list_make2(makeString("pg_catalog"), makeString(pstrdup(name))), true);
}

/* LIKE 'x%' and its kin, as the planner makes a range of it. */
static Term *
prefix_term(PlannerInfo *root, RelOptInfo *rel, Node *operand, Oid op, Node *other, Oid collation)
{
	KeyColumn column;
	Term *term;

	if (op != OID_TEXT_LIKE_OP && op != OID_BPCHAR_LIKE_OP && op != OID_TEXT_REGEXEQ_OP &&
		op != OID_BPCHAR_REGEXEQ_OP && op != STARTS_WITH_OP)
		return NULL;
	if (!IsA(other, Const) || !has_prefix(op, (Const *) other))
		return NULL;
	if (OidIsValid(collation) && !get_collation_isdeterministic(collation))
		return NULL;
	if (!read_key_column(root, rel, operand, InvalidOid, &column))
		return NULL;
	if (!OidIsValid(column.collation))
		return NULL;
	if (!collation_is_c(column.collation))
	{
		column.opclass = pattern_class(getBaseType(column.type));
		if (!OidIsValid(column.opclass))
			return NULL;
	}
	term = palloc0(sizeof(Term));
	term->kind = TERM_RANGE;
	term->column = column;
	return term;
}

/* --- clauses ----------------------------------------------------------------------------- */

/* Which side is the table's, and is the other one free of it? */
static bool
split_sides(PlannerInfo *root, RelOptInfo *rel, Node *left, Node *right, bool *swapped,
			Relids *with)
{
	Relids left_rels = pull_varnos(root, left);
	Relids right_rels = pull_varnos(root, right);

	if (bms_equal(left_rels, rel->relids) && !bms_overlap(right_rels, rel->relids) &&
		!contain_volatile_functions(right))
	{
		*swapped = false;
		*with = right_rels;
		return true;
	}
	if (bms_equal(right_rels, rel->relids) && !bms_overlap(left_rels, rel->relids) &&
		!contain_volatile_functions(left))
	{
		*swapped = true;
		*with = left_rels;
		return true;
	}
	return false;
}

static List *
operator_terms(PlannerInfo *root, RelOptInfo *rel, const OpExpr *clause)
{
	List *terms = NIL;
	Node *operand = (Node *) linitial(clause->args);
	Node *other = list_length(clause->args) == 2 ? (Node *) lsecond(clause->args) : NULL;
	Oid op = clause->opno;
	Oid family;
	bool swapped;
	Relids with;
	Term *term = NULL;
	Term *search;
	KeyColumn column;
	int strategy = 0;

	if (other == NULL || !split_sides(root, rel, operand, other, &swapped, &with))
		return NIL;
	if (swapped)
	{
		Node *first = operand;

		operand = other;
		other = first;
		op = get_commutator(op);
		if (!OidIsValid(op))
			return NIL;
	}
	while (IsA(operand, RelabelType))
		operand = (Node *) castNode(RelabelType, operand)->arg;
	family = btree_family(exprType(operand));
	if (OidIsValid(family))
		strategy = get_op_opfamily_strategy(op, family);
	if (strategy != 0)
	{
		if (!read_key_column(root, rel, operand, clause->inputcollid, &column))
			return NIL;
		term = palloc0(sizeof(Term));
		term->kind = strategy == BTEqualStrategyNumber ? TERM_EQUAL : TERM_RANGE;
		term->column = column;
	}
	else
		term = prefix_term(root, rel, operand, op, other, clause->inputcollid);
	if (term != NULL)
	{
		term->with = with;
		terms = lappend(terms, term);
	}
	if (strategy == 0)
	{
		search = search_term(root, rel, operand, op, clause->inputcollid, AMOP_SEARCH);
		if (search != NULL)
		{
			search->with = with;
			terms = lappend(terms, search);
		}
	}
	return terms;
}

static List *
list_terms(PlannerInfo *root, RelOptInfo *rel, const ScalarArrayOpExpr *clause)
{
	Node *operand = (Node *) linitial(clause->args);
	Node *other = (Node *) lsecond(clause->args);
	Relids with = pull_varnos(root, other);
	Oid family;
	int strategy;
	Term *term;

	if (!clause->useOr || bms_overlap(with, rel->relids) || contain_volatile_functions(other))
		return NIL;
	while (IsA(operand, RelabelType))
		operand = (Node *) castNode(RelabelType, operand)->arg;
	family = btree_family(exprType(operand));
	strategy = OidIsValid(family) ? get_op_opfamily_strategy(clause->opno, family) : 0;
	if (strategy == 0)
		return NIL;
	term = palloc0(sizeof(Term));
	if (!read_key_column(root, rel, operand, clause->inputcollid, &term->column))
		return NIL;
	term->kind = strategy == BTEqualStrategyNumber ? TERM_EQUAL : TERM_RANGE;
	term->list = term->kind == TERM_EQUAL;
	term->with = with;
	return list_make1(term);
}

/* (a, b) > (x, y): as far as columns follow each other on the same side. */
static List *
row_terms(PlannerInfo *root, RelOptInfo *rel, const RowCompareExpr *clause)
{
	Term *term = NULL;
	ListCell *left;
	ListCell *right;
	ListCell *collation;
	bool first_swapped = false;

	forthree(left, clause->largs, right, clause->rargs, collation, clause->inputcollids)
	{
		KeyColumn column;
		bool swapped;
		Relids with;
		Node *operand;

		if (!split_sides(root, rel, lfirst(left), lfirst(right), &swapped, &with))
			break;
		operand = swapped ? lfirst(right) : lfirst(left);
		if ((term != NULL && swapped != first_swapped) ||
			!read_key_column(root, rel, operand, lfirst_oid(collation), &column) ||
			!OidIsValid(btree_family(column.type)))
			break;
		if (term == NULL)
		{
			term = palloc0(sizeof(Term));
			term->kind = TERM_RANGE;
			term->column = column;
			term->with = with;
			first_swapped = swapped;
		}
		else
		{
			KeyColumn *copy = palloc(sizeof(KeyColumn));

			*copy = column;
			term->more = lappend(term->more, copy);
		}
	}
	return term != NULL ? list_make1(term) : NIL;
}

static List *
single_term(PlannerInfo *root, RelOptInfo *rel, Node *operand, TermKind kind)
{
	Term *term = palloc0(sizeof(Term));

	if (!bms_equal(pull_varnos(root, operand), rel->relids) ||
		!read_key_column(root, rel, operand, InvalidOid, &term->column) ||
		!OidIsValid(btree_family(term->column.type)))
		return NIL;
	term->kind = kind;
	return list_make1(term);
}

/*
 * What an index could search of the clause: none, one, or alternatives.  The
 * terms of a join clause have their other side; those of restrictions none.
 */
List *
read_terms(PlannerInfo *root, RelOptInfo *rel, Node *clause, bool join)
{
	List *terms = NIL;
	RestrictInfo *info = NULL;
	double selectivity;
	ListCell *cell;

	if (IsA(clause, RestrictInfo))
	{
		info = (RestrictInfo *) clause;
		clause = (Node *) info->clause;
	}
	if (IsA(clause, OpExpr))
		terms = operator_terms(root, rel, (OpExpr *) clause);
	else if (IsA(clause, ScalarArrayOpExpr))
		terms = list_terms(root, rel, (ScalarArrayOpExpr *) clause);
	else if (IsA(clause, RowCompareExpr))
		terms = row_terms(root, rel, (RowCompareExpr *) clause);
	else if (IsA(clause, NullTest) && !castNode(NullTest, clause)->argisrow)
		terms = single_term(root,
							rel,
							(Node *) castNode(NullTest, clause)->arg,
							castNode(NullTest, clause)->nulltesttype == IS_NULL ? TERM_EQUAL
																				: TERM_RANGE);
	else if (IsA(clause, BooleanTest) && (castNode(BooleanTest, clause)->booltesttype == IS_TRUE ||
										  castNode(BooleanTest, clause)->booltesttype == IS_FALSE))
		terms = single_term(root, rel, (Node *) castNode(BooleanTest, clause)->arg, TERM_EQUAL);
	else if (is_notclause(clause) && IsA(get_notclausearg(clause), Var))
		terms = single_term(root, rel, (Node *) get_notclausearg(clause), TERM_EQUAL);
	else if (IsA(clause, Var) && castNode(Var, clause)->vartype == BOOLOID)
		terms = single_term(root, rel, clause, TERM_EQUAL);
	else if (IsA(clause, FuncExpr) && exprType(clause) == BOOLOID)
		terms = single_term(root, rel, clause, TERM_EQUAL);
	if (terms == NIL)
		return NIL;

	if (join)
		selectivity = -1; /* that of one look-up, below */
	else
		selectivity = clause_selectivity(
			root, info != NULL ? (Node *) info : clause, rel->relid, JOIN_INNER, NULL);
	foreach(cell, terms)
	{
		Term *term = lfirst(cell);

		term->selectivity = selectivity;
		if (join)
			term->selectivity =
				term->kind == TERM_EQUAL ? 1.0 / Max(term->column.distinct, 1.0) : 1.0 / 3;
		else
			term->with = NULL;
		if (term->kind != TERM_SEARCH)
			term->correlation = fabs(
				column_correlation(root->simple_rte_array[rel->relid]->relid, term->column.attnum));
	}
	return terms;
}
