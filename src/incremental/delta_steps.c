/*
 * delta_steps.c
 *		The statements that compute a product's change.
 */
#include "pgopt.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"

#include "delta.h"

/* --- Vars ----------------------------------------------------------------------------- */

typedef struct Replace
{
	Compiler *compiler;
	const List *changed; /* of Factor * */
	int first;           /* entry of the first one's store; the others follow */
	Relids nulled;
	int level;
} Replace;

static Node *
replacement(Var *var, Replace *replace)
{
	ListCell *lc;

	if (bms_is_member(var->varno, replace->nulled))
		return (Node *) makeNullConst(var->vartype, var->vartypmod, var->varcollid);
	foreach(lc, replace->changed)
	{
		Factor *factor = lfirst(lc);
		int rti = replace->first + foreach_current_index(lc);
		int column = 0;
		ListCell *lc2;
		Var *result;

		if (!bms_is_member(var->varno, factor->rtis))
			continue;
		if (OidIsValid(delta_store(replace->compiler, factor->store)->relid))
			column = delta_leaf_column(replace->compiler, factor->store, var);
		else
			foreach(lc2, factor->columns)
			{
				Var *candidate = lfirst(lc2);

				if (candidate->varno == var->varno && candidate->varattno == var->varattno)
					column = foreach_current_index(lc2) + 1;
			}
		if (column == 0)
			elog(ERROR, "column %d of entry %d is not in its store", var->varattno, var->varno);
		result = delta_column(replace->compiler, rti, factor->store, column);
		result->varlevelsup = replace->level;
		return (Node *) result;
	}
	return NULL;
}

static Node *
replace_vars(Node *node, Replace *replace)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Node *result = NULL;

		if ((int) ((Var *) node)->varlevelsup == replace->level)
			result = replacement((Var *) node, replace);
		return result != NULL ? result : copyObject(node);
	}
	if (IsA(node, Query))
	{
		Query *result;

		replace->level++;
		result = query_tree_mutator((Query *) node, replace_vars, replace, 0);
		replace->level--;
		return (Node *) result;
	}
	return expression_tree_mutator(node, replace_vars, replace);
}

typedef struct Fill
{
	Compiler *compiler;
	int rti;
	int store;
	int level;
} Fill;

static Node *
fill_params(Node *node, Fill *fill)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXEC)
	{
		Var *var = delta_column(fill->compiler, fill->rti, fill->store, ((Param *) node)->paramid);

		var->varlevelsup = fill->level;
		return (Node *) var;
	}
	return expression_tree_mutator(node, fill_params, fill);
}

List *
delta_fill_keys(Compiler *compiler, const Factor *factor, int rti, int level)
{
	Fill fill = {.compiler = compiler, .rti = rti, .store = factor->store, .level = level};

	return (List *) fill_params((Node *) factor->keys, &fill);
}

/* --- terms ------------------------------------------------------------------------------ */

/* Functions that belong beside those that they use; the order of all others is kept. */
static void
put_lateral_last(Query *query)
{
	List *first = NIL;
	List *last = NIL;
	ListCell *lc;

	foreach(lc, query->jointree->fromlist)
	{
		Node *node = lfirst(lc);

		if (IsA(node, RangeTblRef) &&
			rt_fetch(((RangeTblRef *) node)->rtindex, query->rtable)->lateral)
			last = lappend(last, node);
		else
			first = lappend(first, node);
	}
	query->jointree->fromlist = list_concat(first, last);
}

static Node *
bigint_of(int rti)
{
	return (Node *) makeVar(rti, 1, INT8OID, -1, InvalidOid, 0);
}

/* 1 where matches came to a row that had none, -1 where it lost its last. */
static Node *
add_counts(Query *query, Factor *factor, List **quals)
{
	Node *now = bigint_of(delta_add_lateral(query, factor->matching));
	Node *change = bigint_of(delta_add_lateral(query, factor->changed));
	Node *is = delta_at_most_one(now);
	Node *was = delta_at_most_one(delta_operation("-", copyObject(now), change));

	*quals = lappend(*quals, delta_operation("<>", is, was));
	return delta_operation("-", copyObject(is), copyObject(was));
}

/* Puts a changed factor into a term; gives its weight. */
static Node *
add_changed(Compiler *compiler, Query *query, Factor *factor, int rti, List **quals)
{
	if (factor->matching != NULL)
	{
		*quals = list_concat_copy(*quals, factor->keys);
		return add_counts(query, factor, quals);
	}
	delta_add_item(query, rti);
	*quals = list_concat(*quals, delta_fill_keys(compiler, factor, rti, 0));
	return delta_weight(rti);
}

static int
list_position(const List *list, const void *datum)
{
	ListCell *lc;

	foreach(lc, list)
		if (lfirst(lc) == datum)
			return foreach_current_index(lc);
	return -1;
}

Query *
delta_term(Level *level, const Product *product, const List *changed, Relids nulled, List *outputs)
{
	Compiler *compiler = level->compiler;
	Query *query = delta_new_query();
	List *quals = list_copy(product->quals);
	Node *weight = NULL;
	bool negative = list_length(changed) % 2 == 0;
	Replace replace = {.compiler = compiler, .changed = changed, .nulled = nulled};
	int rti;
	ListCell *lc;

	query->rtable = copyObject(level->query->rtable);
	replace.first = list_length(query->rtable) + 1;
	foreach(lc, changed)
		(void) delta_add_entry(compiler, query, ((Factor *) lfirst(lc))->store);

	foreach(lc, product->factors)
	{
		Factor *factor = lfirst(lc);
		int place = list_position(changed, factor);
		Node *factor_weight;

		if (place < 0)
		{
			query->jointree->fromlist = list_concat(query->jointree->fromlist, factor->after);
			quals = list_concat(quals, factor->quals);
			continue;
		}
		factor_weight = add_changed(compiler, query, factor, replace.first + place, &quals);
		weight = weight == NULL ? factor_weight : delta_operation("*", weight, factor_weight);
		negative ^= factor->negated;
	}
	if (negative && weight != NULL)
		weight = delta_operation("-", NULL, weight);

	foreach(lc, outputs)
		delta_add_target(query, lfirst(lc), psprintf("c%d", foreach_current_index(lc) + 1));
	if (weight != NULL)
		delta_add_target(query, (Expr *) weight, pstrdup("w"));
	if (quals != NIL)
		query->jointree->quals = (Node *) make_ands_explicit(quals);
	put_lateral_last(query);

	/* before, since nothing is known of what is in no item */
	delta_blank_unused(query);
	query = query_tree_mutator(query, replace_vars, &replace, 0);
	rti = replace.first;
	foreach(lc, changed)
		delta_name_columns(compiler, query, rti++, ((Factor *) lfirst(lc))->store);
	return query;
}

/* --- products of many factors ---------------------------------------------------------------- */

static Relids
varnos(Node *node)
{
	Relids result = NULL;
	ListCell *lc;

	foreach(lc, delta_vars(node, 0))
		result = bms_add_member(result, lfirst_node(Var, lc)->varno);
	return result;
}

/* Is there a condition that joins it to those entries, and to no others? */
static bool
joins_to(const Factor *factor, Relids entries, const List *quals)
{
	ListCell *lc;

	foreach(lc, quals)
	{
		Relids used = varnos(lfirst(lc));

		if (bms_overlap(used, factor->rtis) && bms_overlap(used, entries) &&
			bms_is_subset(used, bms_union(factor->rtis, entries)))
			return true;
	}
	return false;
}

/* A condition that is about those entries only, or else a table that is joined to them. */
static Factor *
next_factor(const List *changing, const List *chosen, Relids entries, const List *quals)
{
	Factor *any = NULL;
	Factor *joined = NULL;
	ListCell *lc;

	foreach(lc, changing)
	{
		Factor *factor = lfirst(lc);

		if (list_member_ptr(chosen, factor))
			continue;
		if (factor->rtis == NULL)
		{
			if (bms_is_subset(varnos((Node *) factor->quals), entries))
				return factor;
			continue;
		}
		if (joined == NULL && joins_to(factor, entries, quals))
			joined = factor;
		if (any == NULL)
			any = factor;
	}
	return joined != NULL ? joined : any;
}

/* Vars of some entries that the rest of a product needs. */
static List *
needed_of(Level *level, const Product *rest, Relids entries, List *outputs)
{
	List *vars = delta_vars((Node *) outputs, 0);
	List *result = NIL;
	ListCell *lc;

	vars = list_concat_unique(vars, delta_vars((Node *) rest->quals, 0));
	foreach(lc, rest->factors)
	{
		Factor *factor = lfirst(lc);
		int rti = -1;

		vars = list_concat_unique(vars, delta_vars((Node *) factor->quals, 0));
		vars = list_concat_unique(vars, delta_vars((Node *) factor->keys, 0));
		while ((rti = bms_next_member(factor->rtis, rti)) >= 0)
			vars =
				list_concat_unique(vars, delta_entry_vars(rt_fetch(rti, level->query->rtable), 0));
	}
	foreach(lc, vars)
		if (bms_is_member(lfirst_node(Var, lc)->varno, entries))
			result = lappend(result, lfirst(lc));
	return result;
}

static void
add_factor(Product *part, Factor *one, Factor *factor)
{
	part->factors = lappend(part->factors, factor);
	one->rtis = bms_add_members(one->rtis, factor->rtis);
	one->after = list_concat(one->after, factor->after);
	one->quals = list_concat(one->quals, factor->quals);
}

/* The first that refers to nothing else than those entries. */
static Factor *
next_constant(Level *level, const List *constant, Relids entries)
{
	ListCell *lc;

	foreach(lc, constant)
	{
		Factor *factor = lfirst(lc);
		Relids used = varnos((Node *) factor->quals);
		int rti = -1;

		while ((rti = bms_next_member(factor->rtis, rti)) >= 0)
		{
			RangeTblEntry *rte = rt_fetch(rti, level->query->rtable);
			ListCell *lc2;

			foreach(lc2, delta_entry_vars(rte, 0))
				used = bms_add_member(used, lfirst_node(Var, lc2)->varno);
		}
		if (bms_is_subset(used, bms_union(entries, factor->rtis)))
			return factor;
	}
	return NULL;
}

/*
 * Makes about half of the factors that change one, with a store for its change.
 * Lists of VALUES and the like are in it only if they are all that is in the way.
 */
static bool
fold_factors(Level *level, Product *product, List *changing, Relids nulled, List *outputs,
			 Product *folded)
{
	int wanted = Min(MAX_CHANGING_FACTORS, (list_length(changing) + 2) / 2);
	Product part = {0};
	Factor *one = palloc0(sizeof(Factor));
	List *constant = list_difference_ptr(product->factors, changing);
	int chosen = 0;
	ListCell *lc;

	while (chosen < wanted)
	{
		Factor *factor =
			next_factor(changing, part.factors, bms_union(one->rtis, nulled), product->quals);

		if (factor != NULL)
			chosen++;
		else if ((factor = next_constant(level, constant, one->rtis)) != NULL)
			constant = list_delete_ptr(constant, factor);
		else
			break;
		add_factor(&part, one, factor);
	}
	if (chosen < 2)
		return plan_refuse(level->compiler->plan, NULL, "too many conditions about other tables");
	foreach(lc, product->quals)
	{
		Node *qual = lfirst(lc);

		if (bms_is_subset(varnos(qual), one->rtis))
			part.quals = lappend(part.quals, qual);
		else
			folded->quals = lappend(folded->quals, qual);
	}
	one->quals = list_concat(one->quals, part.quals);
	foreach(lc, product->factors)
		if (!list_member_ptr(part.factors, lfirst(lc)))
			folded->factors = lappend(folded->factors, lfirst(lc));

	one->columns = needed_of(level, folded, one->rtis, outputs);
	one->store = delta_add_store(level->compiler, one->columns);
	folded->factors = lcons(one, folded->factors);
	return delta_emit(level, &part, nulled, one->columns, one->store);
}

bool
delta_emit(Level *level, Product *product, Relids nulled, List *outputs, int target)
{
	Compiler *compiler = level->compiler;
	List *changing = NIL;
	ListCell *lc;

	check_stack_depth();
	foreach(lc, product->factors)
		if (((Factor *) lfirst(lc))->store != NO_STORE)
			changing = lappend(changing, lfirst(lc));
	if (list_length(changing) > MAX_CHANGING_FACTORS)
	{
		Product folded = {0};

		return fold_factors(level, product, changing, nulled, outputs, &folded) &&
			   delta_emit(level, &folded, nulled, outputs, target);
	}
	for (uint32 set = 1; set < (uint32) 1 << list_length(changing); set++)
	{
		List *changed = NIL;
		Bitmapset *needs = NULL;

		CHECK_FOR_INTERRUPTS();
		foreach(lc, changing)
			if (set & ((uint32) 1 << foreach_current_index(lc)))
			{
				changed = lappend(changed, lfirst(lc));
				needs = bms_add_member(needs, ((Factor *) lfirst(lc))->store);
			}
		delta_add_step(compiler,
					   delta_deparse(delta_term(level, product, changed, nulled, outputs)),
					   target,
					   needs);
	}
	return true;
}
