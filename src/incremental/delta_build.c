/*
 * delta_build.c
 *		Pieces of the queries that become statements.
 */
#include "pgopt.h"

#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_oper.h"
#include "parser/parser.h"
#include "parser/parsetree.h"
#include "utils/ruleutils.h"

#include "delta.h"

/* --- text ------------------------------------------------------------------------ */

/* A query's text, under the search_path that plan_compile() has set. */
char *
delta_deparse(Query *query)
{
	return pg_get_querydef(copyObject(query), false);
}

/* --- stores in FROM ----------------------------------------------------------------- */

/*
 * A store looks like a CTE that is defined elsewhere, which becomes its mere
 * name.  Its first column is the weight here, since a table's store may get
 * more columns later: only names matter in the end.
 */
int
delta_add_entry(Compiler *compiler, Query *query, int store)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);

	rte->rtekind = RTE_CTE;
	rte->ctename = delta_store(compiler, store)->name;
	rte->inFromCl = true;
	rte->eref = makeAlias(rte->ctename, NIL);
	query->rtable = lappend(query->rtable, rte);
	return list_length(query->rtable);
}

void
delta_name_columns(Compiler *compiler, Query *query, int rti, int store)
{
	RangeTblEntry *rte = rt_fetch(rti, query->rtable);

	rte->eref->colnames = list_make1(makeString("w"));
	for (int i = 1; i <= delta_store(compiler, store)->ncolumns; i++)
		rte->eref->colnames = lappend(rte->eref->colnames, makeString(psprintf("c%d", i)));
}

Var *
delta_column(Compiler *compiler, int rti, int store, int column)
{
	ColumnType *type = &delta_store(compiler, store)->columns[column - 1];

	return makeVar(rti, column + 1, type->type, type->typmod, type->collation, 0);
}

Node *
delta_weight(int rti)
{
	return (Node *) makeVar(rti, 1, INT8OID, -1, InvalidOid, 0);
}

void
delta_add_item(Query *query, int rti)
{
	RangeTblRef *ref = makeNode(RangeTblRef);

	ref->rtindex = rti;
	query->jointree->fromlist = lappend(query->jointree->fromlist, ref);
}

/* --- expressions ---------------------------------------------------------------------- */

Node *
delta_operation(const char *name, Node *left, Node *right)
{
	return (Node *) make_op(NULL, SystemFuncName(pstrdup(name)), left, right, NULL, -1);
}

Node *
delta_bigint(int64 value)
{
	return (Node *) makeConst(
		INT8OID, -1, InvalidOid, sizeof(int64), Int64GetDatum(value), false, FLOAT8PASSBYVAL);
}

static Node *
bound(MinMaxOp which, Node *node)
{
	MinMaxExpr *result = makeNode(MinMaxExpr);

	result->minmaxtype = INT8OID;
	result->op = which;
	result->args = list_make2(node, delta_bigint(1));
	result->location = -1;
	return (Node *) result;
}

Node *
delta_at_most_one(Node *node)
{
	return bound(IS_LEAST, node);
}

Node *
delta_at_least_one(Node *node)
{
	return bound(IS_GREATEST, node);
}

/* --- queries -------------------------------------------------------------------------- */

void
delta_add_target(Query *query, Expr *expr, char *name)
{
	int number = list_length(query->targetList) + 1;

	query->targetList = lappend(query->targetList, makeTargetEntry(expr, number, name, false));
}

/* A subquery that is computed for each row of the items before it. */
int
delta_add_lateral(Query *query, Query *subquery)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	ListCell *lc;

	rte->rtekind = RTE_SUBQUERY;
	rte->subquery = copyObject(subquery);
	rte->lateral = true;
	rte->inFromCl = true;
	rte->alias = makeAlias("m", NIL);
	foreach(lc, subquery->targetList)
		rte->alias->colnames =
			lappend(rte->alias->colnames, makeString(lfirst_node(TargetEntry, lc)->resname));
	rte->eref = copyObject(rte->alias);
	query->rtable = lappend(query->rtable, rte);
	delta_add_item(query, list_length(query->rtable));
	return list_length(query->rtable);
}

Query *
delta_new_query(void)
{
	Query *query = makeNode(Query);

	query->commandType = CMD_SELECT;
	query->jointree = makeFromExpr(NIL, NULL);
	return query;
}
