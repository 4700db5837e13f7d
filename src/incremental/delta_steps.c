/*
 * delta_steps.c
 *		The statements that compute a product's change.
 */
#include "pgopt.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parser.h"
#include "parser/parse_oper.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/ruleutils.h"

#include "delta.h"

/* --- text ------------------------------------------------------------------------ */

/* A query's text, which means the same under search_path = pg_catalog. */
char *
delta_deparse(Query *query)
{
	int nesting = NewGUCNestLevel();
	char *sql;

	(void) set_config_option(
		"search_path", "pg_catalog", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	sql = pg_get_querydef(copyObject(query), false);
	AtEOXact_GUC(true, nesting);
	return sql;
}

/* --- stores in FROM ----------------------------------------------------------------- */

/*
 * A store looks like a CTE that is defined elsewhere, which becomes its mere
 * name.  Its first column is the weight here, since a table's store may get
 * more columns later: only names matter in the end.
 */
static int
add_store_entry(Compiler *compiler, Query *query, int store)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);

	rte->rtekind = RTE_CTE;
	rte->ctename = delta_store(compiler, store)->name;
	rte->inFromCl = true;
	rte->eref = makeAlias(rte->ctename, NIL);
	query->rtable = lappend(query->rtable, rte);
	return list_length(query->rtable);
}

static void
name_store_columns(Compiler *compiler, Query *query, int rti, int store)
{
	RangeTblEntry *rte = rt_fetch(rti, query->rtable);

	rte->eref->colnames = list_make1(makeString("w"));
	for (int i = 1; i <= delta_store(compiler, store)->ncolumns; i++)
		rte->eref->colnames = lappend(rte->eref->colnames, makeString(psprintf("c%d", i)));
}

static Var *
store_column(Compiler *compiler, int rti, int store, int column)
{
	ColumnType *type = &delta_store(compiler, store)->columns[column - 1];

	return makeVar(rti, column + 1, type->type, type->typmod, type->collation, 0);
}

static Node *
store_weight(int rti)
{
	return (Node *) makeVar(rti, 1, INT8OID, -1, InvalidOid, 0);
}

static void
add_item(Query *query, int rti)
{
	RangeTblRef *ref = makeNode(RangeTblRef);

	ref->rtindex = rti;
	query->jointree->fromlist = lappend(query->jointree->fromlist, ref);
}

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
		result = store_column(replace->compiler, rti, factor->store, column);
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
} Fill;

/* A key's Params stand for the columns of the condition's store. */
static Node *
fill_params(Node *node, Fill *fill)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXEC)
		return (Node *) store_column(
			fill->compiler, fill->rti, fill->store, ((Param *) node)->paramid);
	return expression_tree_mutator(node, fill_params, fill);
}

/* --- terms ------------------------------------------------------------------------------ */

static Node *
operation(const char *name, Node *left, Node *right)
{
	return (Node *) make_op(NULL, SystemFuncName(pstrdup(name)), left, right, NULL, -1);
}

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

Query *
delta_term(Level *level, const Product *product, const List *changed, Relids nulled, List *outputs)
{
	Compiler *compiler = level->compiler;
	Query *query = makeNode(Query);
	List *quals = list_copy(product->quals);
	Node *weight = NULL;
	bool negative = list_length(changed) % 2 == 0;
	Replace replace = {.compiler = compiler, .changed = changed, .nulled = nulled};
	int rti;
	ListCell *lc;

	query->commandType = CMD_SELECT;
	query->rtable = copyObject(level->query->rtable);
	query->jointree = makeFromExpr(NIL, NULL);

	replace.first = list_length(query->rtable) + 1;
	foreach(lc, changed)
	{
		Factor *factor = lfirst(lc);

		rti = add_store_entry(compiler, query, factor->store);
		weight = weight == NULL ? store_weight(rti) : operation("*", weight, store_weight(rti));
		negative ^= factor->negated;
	}
	foreach(lc, product->factors)
	{
		Factor *factor = lfirst(lc);
		Fill fill = {.compiler = compiler, .store = factor->store, .rti = replace.first};
		ListCell *lc2;

		if (!list_member_ptr(changed, factor))
		{
			query->jointree->fromlist = list_concat(query->jointree->fromlist, factor->after);
			quals = list_concat(quals, factor->quals);
			continue;
		}
		foreach(lc2, changed)
			if (lfirst(lc2) == factor)
				fill.rti = replace.first + foreach_current_index(lc2);
		add_item(query, fill.rti);
		quals = list_concat(quals, (List *) fill_params((Node *) factor->keys, &fill));
	}
	if (negative)
		weight = operation("-", NULL, weight);
	foreach(lc, outputs)
		query->targetList = lappend(query->targetList,
									makeTargetEntry(lfirst(lc),
													foreach_current_index(lc) + 1,
													psprintf("c%d", foreach_current_index(lc) + 1),
													false));
	if (weight != NULL)
		query->targetList = lappend(
			query->targetList,
			makeTargetEntry((Expr *) weight, list_length(outputs) + 1, pstrdup("w"), false));
	if (quals != NIL)
		query->jointree->quals = (Node *) make_ands_explicit(quals);
	put_lateral_last(query);

	query = query_tree_mutator(query, replace_vars, &replace, 0);
	rti = replace.first;
	foreach(lc, changed)
		name_store_columns(compiler, query, rti++, ((Factor *) lfirst(lc))->store);
	delta_blank_unused(query);
	return query;
}

bool
delta_emit(Level *level, Product *product, Relids nulled, List *outputs, int target)
{
	Compiler *compiler = level->compiler;
	List *changing = NIL;
	ListCell *lc;

	foreach(lc, product->factors)
		if (((Factor *) lfirst(lc))->store != NO_STORE)
			changing = lappend(changing, lfirst(lc));
	if (list_length(changing) > MAX_CHANGING_FACTORS)
		return plan_refuse(
			compiler->plan, NULL, "more than %d tables are joined", MAX_CHANGING_FACTORS);

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
