/*
 * plan.c
 *		How the planner finds the index for a search.
 *
 * A user writes d @@@ 'words' and ORDER BY d <@> 'words', where d is a table
 * (all text columns of its index) or a text column of it.  Neither operand can
 * be matched to an index column by the server, and neither can be computed
 * from the operand alone: a score needs the statistics of the collection.
 * So both operators have a support function that replaces them, when the
 * statement is planned, by functions of the row's place and of the search
 * bound to its index:
 *
 *		pgopt.row_matches(d.ctid, d.tableoid, search, NULL)
 *		pgopt.row_order(d.ctid, d.tableoid, search, NULL)
 *
 * These can be computed for any row (operators.c), and a hook offers the
 * index path that makes it unnecessary: the condition and the order become
 * operators of the access method on the first text column.  Conditions on
 * filter columns go into the index too.
 *
 * The planner's lists live in its own context.  Cost: nothing for tables
 * without such an index, else a pass over the restrictions of the table for
 * each filter column.
 */
#include "pgopt.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/partition.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/supportnodes.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/restrictinfo.h"
#include "parser/parse_func.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/selfuncs.h"
#include "utils/syscache.h"

#include "compat.h"
#include "handler.h"
#include "plan.h"
#include "scan.h"
#include "search.h"

PG_FUNCTION_INFO_V1(pgopt_search_support);

static set_rel_pathlist_hook_type previous_set_rel_pathlist = NULL;

/* --- binding ------------------------------------------------------------------ */

PgoptQuery *
search_bind_query(const char *text, int length, Oid index, uint32 fields)
{
	Size size = offsetof(PgoptQuery, text) + length;
	PgoptQuery *query = palloc0(size);

	SET_VARSIZE(query, size);
	query->index = index;
	query->fields = fields;
	memcpy(query->text, text, length);
	return query;
}

Oid
search_index_of_table(Oid index, Oid table)
{
	Relation rel;
	List *indexes;
	ListCell *lc;
	Oid found = InvalidOid;

	rel = table_open(table, AccessShareLock);
	indexes = RelationGetIndexList(rel);
	foreach(lc, indexes)
	{
		Oid candidate = lfirst_oid(lc);

		if (candidate == index || (get_rel_relispartition(candidate) &&
								   list_member_oid(get_partition_ancestors(candidate), index)))
			found = candidate;
	}
	table_close(rel, AccessShareLock);
	return found;
}

/* A usable pgopt_bm25 index, open under AccessShareLock, or NULL. */
static Relation
open_search_index(Oid index, Oid access_method)
{
	Relation rel = relation_open(index, AccessShareLock);

	if (rel->rd_rel->relam == access_method && rel->rd_index != NULL && rel->rd_index->indisvalid)
		return rel;
	relation_close(rel, AccessShareLock);
	return NULL;
}

/*
 * Which text columns of the index does the operand stand for?  The whole row
 * for all of them (0), one of the columns or expressions for that one.
 */
static bool
operand_fields(Relation index, Node *operand, Index varno, uint32 *fields)
{
	const SearchSettings *settings = search_settings(index);
	List *expressions;

	if (IsA(operand, Var) && ((Var *) operand)->varattno == 0)
	{
		*fields = 0;
		return true;
	}

	expressions = RelationGetIndexExpressions(index);
	if (varno != 1)
		ChangeVarNodes((Node *) expressions, 1, varno, 0);
	for (int field = 0; field < settings->nfields; field++)
	{
		int column = settings->fields[field] - 1;
		AttrNumber attno = index->rd_index->indkey.values[column];
		bool same;

		if (attno != 0)
			same = IsA(operand, Var) && ((Var *) operand)->varattno == attno;
		else
		{
			int place = 0;

			for (int before = 0; before < column; before++)
				if (index->rd_index->indkey.values[before] == 0)
					place++;
			same = equal(operand, list_nth(expressions, place));
		}
		if (same)
		{
			*fields = (uint32) 1 << field;
			return true;
		}
	}
	return false;
}

/*
 * The index that answers a search on the operand; one without a predicate
 * before one with, then the greatest OID (the newest).
 */
static Oid
choose_index(Oid table, Node *operand, Index varno, uint32 *fields)
{
	Oid access_method = search_access_method();
	Relation rel;
	List *indexes;
	ListCell *lc;
	Oid chosen = InvalidOid;
	bool chosen_partial = false;

	if (!OidIsValid(access_method))
		return InvalidOid;
	rel = relation_open(table, AccessShareLock);
	indexes = RelationGetIndexList(rel);
	foreach(lc, indexes)
	{
		Relation index = open_search_index(lfirst_oid(lc), access_method);
		uint32 mask = 0;
		bool partial;

		if (index == NULL)
			continue;
		partial = RelationGetIndexPredicate(index) != NIL;
		if ((operand == NULL || operand_fields(index, operand, varno, &mask)) &&
			(!OidIsValid(chosen) || (chosen_partial && !partial) ||
			 (chosen_partial == partial && lfirst_oid(lc) > chosen)))
		{
			chosen = lfirst_oid(lc);
			chosen_partial = partial;
			if (fields != NULL)
				*fields = mask;
		}
		relation_close(index, AccessShareLock);
	}
	relation_close(rel, AccessShareLock);
	return chosen;
}

Oid
search_find_index(Oid table)
{
	return choose_index(table, NULL, 0, NULL);
}

/* One of the internal functions, by name. */
static Oid
internal_function(const char *name, int nargs, const Oid *types)
{
	return LookupFuncName(
		list_make2(makeString("pgopt"), makeString(pstrdup(name))), nargs, types, true);
}

/* The search, bound: a constant when its text is one, else a call that binds it when the plan runs. */
static Expr *
bound_query(Node *words, Oid query_type, Oid index, uint32 fields)
{
	Oid types[] = {TEXTOID, REGCLASSOID, INT4OID, INTERNALOID};
	Oid binder;

	if (IsA(words, Const))
	{
		Const *constant = (Const *) words;
		text *value;
		PgoptQuery *query;

		if (constant->constisnull)
			return (Expr *) makeNullConst(query_type, -1, InvalidOid);
		value = DatumGetTextPP(constant->constvalue);
		query = search_bind_query(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), index, fields);
		return (Expr *) makeConst(
			query_type, -1, InvalidOid, -1, PointerGetDatum(query), false, false);
	}

	binder = internal_function("bind_query", 4, types);
	if (!OidIsValid(binder))
		return NULL;
	return (Expr *) makeFuncExpr(
		binder,
		query_type,
		list_make4(
			words,
			makeConst(
				REGCLASSOID, -1, InvalidOid, sizeof(Oid), ObjectIdGetDatum(index), false, true),
			makeConst(INT4OID, -1, InvalidOid, sizeof(int32), Int32GetDatum(fields), false, true),
			makeNullConst(INTERNALOID, -1, InvalidOid)),
		InvalidOid,
		InvalidOid,
		COERCE_EXPLICIT_CALL);
}

/* The relation that a Var stands for, at whatever level of the query; NULL when it is no table. */
static RangeTblEntry *
table_of_var(PlannerInfo *root, const Var *var)
{
	RangeTblEntry *rte;

	for (Index level = var->varlevelsup; level > 0; level--)
	{
		root = root->parent_root;
		if (root == NULL)
			return NULL;
	}
	if (IS_SPECIAL_VARNO(var->varno) || var->varno > list_length(root->parse->rtable))
		return NULL;
	rte = rt_fetch(var->varno, root->parse->rtable);
	if (rte->rtekind != RTE_RELATION ||
		(rte->relkind != RELKIND_RELATION && rte->relkind != RELKIND_MATVIEW &&
		 rte->relkind != RELKIND_PARTITIONED_TABLE))
		return NULL;
	return rte;
}

/* A system column of the row that `var` belongs to. */
static Var *
system_column(Var *var, AttrNumber attno, Oid type)
{
	Var *column = copyObject(var);

	column->varattno = attno;
	column->varattnosyn = attno;
	column->vartype = type;
	column->vartypmod = -1;
	column->varcollid = InvalidOid;
	return column;
}

/* Replaces one of the four operators' functions; NULL leaves it. */
static Node *
bind_operator(PlannerInfo *root, FuncExpr *call)
{
	Oid types[] = {TIDOID, OIDOID, InvalidOid, INTERNALOID};
	bool ordering = call->funcresulttype == FLOAT8OID;
	Node *operand = linitial(call->args);
	Node *words = lsecond(call->args);
	List *vars;
	ListCell *lc;
	Var *var;
	RangeTblEntry *rte;
	Oid index;
	uint32 fields;
	Expr *query;
	Oid function;

	while (IsA(operand, RelabelType))
		operand = (Node *) ((RelabelType *) operand)->arg;
	vars = pull_vars_of_level(operand, 0);
	if (vars == NIL && IsA(operand, Var))
		vars = list_make1(operand); /* of an outer query */
	if (vars == NIL)
		return NULL;
	var = linitial(vars);
	foreach(lc, vars)
		if (((Var *) lfirst(lc))->varno != var->varno)
			return NULL;
	rte = table_of_var(root, var);
	if (rte == NULL)
		return NULL;

	/* Vars of the index's expressions are of level 0. */
	index = choose_index(rte->relid, operand, var->varno, &fields);
	if (!OidIsValid(index))
		return NULL;

	types[2] = search_query_type();
	query = bound_query(words, types[2], index, fields);
	function = internal_function(ordering ? "row_order" : "row_matches", 4, types);
	if (query == NULL || !OidIsValid(function))
		return NULL;
	return (Node *) makeFuncExpr(
		function,
		ordering ? FLOAT8OID : BOOLOID,
		list_make4(system_column(var, SelfItemPointerAttributeNumber, TIDOID),
				   system_column(var, TableOidAttributeNumber, OIDOID),
				   query,
				   makeNullConst(INTERNALOID, -1, InvalidOid)),
		InvalidOid,
		InvalidOid,
		COERCE_EXPLICIT_CALL);
}

/* How many rows of its table does the search match?  From the index's own counts, where the search is known. */
static bool
estimate_matches(PlannerInfo *root, List *args, double *selectivity)
{
	Var *ctid = linitial(args);
	Node *bound = lthird(args);
	Const *constant = (Const *) bound;
	PgoptQuery *query;
	Oid leaf;
	Relation index;
	const CompiledQuery *compiled;
	double any = 0;
	double all = 1;
	bool must = false;
	double ndocs;

	if (!IsA(bound, Const) || constant->constisnull || !IsA(ctid, Var) || ctid->varlevelsup != 0)
		return false;
	/* Under row security an estimate would tell how many hidden rows hold a word. */
	if (planner_rt_fetch(ctid->varno, root)->securityQuals != NIL)
		return false;
	query = (PgoptQuery *) PG_DETOAST_DATUM(constant->constvalue);
	leaf = query->index;
	if (get_rel_relkind(leaf) != RELKIND_INDEX)
		leaf = search_index_of_table(leaf, planner_rt_fetch(ctid->varno, root)->relid);
	if (!OidIsValid(leaf) || get_rel_relkind(leaf) != RELKIND_INDEX)
		return false;

	index = index_open(leaf, AccessShareLock);
	compiled = search_compile(index, query);
	ndocs = Max(compiled->stats.collection.ndocs, 1);
	for (int i = 0; i < compiled->query->nclauses; i++)
	{
		const QueryClause *clause = &compiled->query->clauses[i];
		double fraction = 1;

		for (int t = 0; t < clause->nterms; t++)
			fraction *= Min((double) compiled->stats.df[clause->terms[t]] / ndocs, 1);
		if (clause->sign == CLAUSE_MUST)
		{
			must = true;
			all *= fraction;
		}
		else if (clause->sign == CLAUSE_SHOULD)
			any = any + fraction - any * fraction;
	}
	index_close(index, AccessShareLock);
	*selectivity = must ? all : any;
	CLAMP_PROBABILITY(*selectivity);
	return true;
}

/*
 * What it takes to look at a row: its text has to be fetched and analysed, at
 * about one operator's cost a byte.
 */
static bool
estimate_row_cost(SupportRequestCost *request)
{
	PlannerInfo *root = request->root;
	FuncExpr *call = (FuncExpr *) request->node;
	Var *ctid;
	RelOptInfo *rel;
	Relation table;
	double bytes;

	if (root == NULL || call == NULL || !IsA(call, FuncExpr) || list_length(call->args) != 4)
		return false;
	ctid = linitial(call->args);
	if (!IsA(ctid, Var) || ctid->varlevelsup != 0 || root->simple_rel_array == NULL ||
		ctid->varno >= root->simple_rel_array_size)
		return false;
	rel = root->simple_rel_array[ctid->varno];
	if (rel == NULL || rel->rtekind != RTE_RELATION || rel->tuples < 1)
		return false;

	table = table_open(planner_rt_fetch(ctid->varno, root)->relid, NoLock); /* is locked */
	bytes = (double) rel->pages * BLCKSZ;
	if (OidIsValid(table->rd_rel->reltoastrelid))
	{
		Relation toast = table_open(table->rd_rel->reltoastrelid, AccessShareLock);

		bytes += (double) RelationGetNumberOfBlocks(toast) * BLCKSZ;
		table_close(toast, AccessShareLock);
	}
	table_close(table, NoLock);
	request->startup = 0;
	request->per_tuple = cpu_operator_cost * (1000 + bytes / rel->tuples);
	return true;
}

Datum
pgopt_search_support(PG_FUNCTION_ARGS)
{
	Node *request = (Node *) PG_GETARG_POINTER(0);

	if (IsA(request, SupportRequestSimplify))
	{
		SupportRequestSimplify *simplify = (SupportRequestSimplify *) request;

		if (simplify->root != NULL && list_length(simplify->fcall->args) == 2)
			PG_RETURN_POINTER(bind_operator(simplify->root, simplify->fcall));
	}
	else if (IsA(request, SupportRequestSelectivity))
	{
		SupportRequestSelectivity *estimate = (SupportRequestSelectivity *) request;

		if (list_length(estimate->args) == 4 &&
			estimate_matches(estimate->root, estimate->args, &estimate->selectivity))
			PG_RETURN_POINTER(request);
	}
	else if (IsA(request, SupportRequestCost) && estimate_row_cost((SupportRequestCost *) request))
		PG_RETURN_POINTER(request);
	PG_RETURN_POINTER(NULL);
}

/* --- the index path -------------------------------------------------------------- */

/* What the hook needs to know of one index. */
typedef struct SearchPath
{
	PlannerInfo *root;
	RelOptInfo *rel;
	IndexOptInfo *index;
	Oid query_type;
	Oid row_matches;
	Oid row_order;
	int column;          /* first text column, from 0 */
	Oid search_operator; /* text @@@ pgopt_query */
	Oid order_operator;  /* text <@> pgopt_query */
	List *clauses;       /* IndexClauses, by column */
} SearchPath;

/* Whose index is the search bound to?  InvalidOid when that cannot be told. */
static Oid
index_of_query(const SearchPath *path, Node *query)
{
	if (IsA(query, Const))
	{
		Const *constant = (Const *) query;

		if (constant->constisnull || constant->consttype != path->query_type)
			return InvalidOid;
		return ((PgoptQuery *) PG_DETOAST_DATUM(constant->constvalue))->index;
	}
	if (IsA(query, FuncExpr) && list_length(((FuncExpr *) query)->args) == 4 &&
		IsA(lsecond(((FuncExpr *) query)->args), Const))
		return DatumGetObjectId(((Const *) lsecond(((FuncExpr *) query)->args))->constvalue);
	return InvalidOid;
}

/* The search of a call of row_matches or row_order on this table and index, or NULL. */
static Node *
query_of_call(const SearchPath *path, Node *expression, Oid function)
{
	FuncExpr *call = (FuncExpr *) expression;
	Var *ctid;
	Node *query;
	Oid bound;

	if (!IsA(expression, FuncExpr) || call->funcid != function)
		return NULL;
	ctid = linitial(call->args);
	query = lthird(call->args);
	if (!IsA(ctid, Var) || ctid->varno != path->rel->relid || ctid->varlevelsup != 0)
		return NULL;
	if (bms_is_member(path->rel->relid, pull_varnos(path->root, query)) ||
		contain_volatile_functions(query))
		return NULL;
	bound = index_of_query(path, query);
	if (bound != path->index->indexoid &&
		!(OidIsValid(bound) && get_rel_relispartition(path->index->indexoid) &&
		  list_member_oid(get_partition_ancestors(path->index->indexoid), bound)))
		return NULL;
	return query;
}

static Expr *
index_column(const IndexOptInfo *index, int column)
{
	TargetEntry *entry = list_nth(index->indextlist, column);

	return copyObject(entry->expr);
}

/* column operator value, as a qualification for the index */
static Expr *
column_operator(const SearchPath *path, int column, Oid operator, Oid result, Node *value,
				Oid collation)
{
	Expr *operand = index_column(path->index, column);
	OpExpr *expression;

	/* varchar and the like are text to the operator */
	if (column == path->column && exprType((Node *) operand) != TEXTOID)
		operand = (Expr *) makeRelabelType(
			operand, TEXTOID, -1, exprCollation((Node *) operand), COERCE_IMPLICIT_CAST);
	expression = (OpExpr *)
		make_opclause(operator, result, false, operand, (Expr *) value, InvalidOid, collation);
	set_opfuncid(expression);
	return (Expr *) expression;
}

static void
add_clause(SearchPath *path, RestrictInfo *rinfo, int column, Expr *derived, bool lossy)
{
	IndexClause *clause = makeNode(IndexClause);

	clause->rinfo = rinfo;
	clause->indexquals =
		list_make1(derived == NULL ? rinfo : make_simple_restrictinfo(path->root, derived));
	clause->lossy = lossy;
	clause->indexcol = column;
	clause->indexcols = NIL;
	path->clauses = lappend(path->clauses, clause);
}

/* May the other side of a comparison with an index column be computed before the table is read? */
static bool
usable_value(const SearchPath *path, Node *value)
{
	return !bms_is_member(path->rel->relid, pull_varnos(path->root, value)) &&
		   !contain_volatile_functions(value);
}

/* Adds the restriction to the index's conditions when it is one on that filter column. */
static void
match_filter(SearchPath *path, RestrictInfo *rinfo, int column)
{
	IndexOptInfo *index = path->index;
	Oid family = index->opfamily[column];
	Oid collation = index->indexcollations[column];
	Node *clause = (Node *) rinfo->clause;

	if (IsA(clause, OpExpr) && list_length(((OpExpr *) clause)->args) == 2)
	{
		OpExpr *operator=(OpExpr *) clause;
		Node *left = linitial(operator->args);
		Node *right = lsecond(operator->args);

		if (OidIsValid(collation) && collation != operator->inputcollid)
			return;
		if (match_index_to_operand(left, column, index))
		{
			if (op_in_opfamily(operator->opno, family) && usable_value(path, right))
				add_clause(path, rinfo, column, NULL, false);
		}
		else if (match_index_to_operand(right, column, index))
		{
			Oid commutator = get_commutator(operator->opno);

			if (OidIsValid(commutator) && op_in_opfamily(commutator, family) &&
				usable_value(path, left))
				add_clause(path,
						   rinfo,
						   column,
						   make_opclause(commutator,
										 BOOLOID,
										 false,
										 (Expr *) right,
										 (Expr *) left,
										 InvalidOid,
										 operator->inputcollid),
						   false);
		}
	}
	else if (IsA(clause, ScalarArrayOpExpr))
	{
		ScalarArrayOpExpr *any = (ScalarArrayOpExpr *) clause;

		if (any->useOr && (!OidIsValid(collation) || collation == any->inputcollid) &&
			match_index_to_operand(linitial(any->args), column, index) &&
			op_in_opfamily(any->opno, family) && usable_value(path, lsecond(any->args)))
			add_clause(path, rinfo, column, NULL, false);
	}
	else if (IsA(clause, NullTest))
	{
		NullTest *test = (NullTest *) clause;

		if (!test->argisrow && match_index_to_operand((Node *) test->arg, column, index))
			add_clause(path, rinfo, column, NULL, false);
	}
	else if (index->opcintype[column] == BOOLOID)
	{
		/* The planner makes flag and NOT flag of flag = true and flag = false. */
		bool negated = is_notclause(clause);
		Node *flag = negated ? (Node *) get_notclausearg((Expr *) clause) : clause;

		if (match_index_to_operand(flag, column, index))
			add_clause(path,
					   rinfo,
					   column,
					   make_opclause(BooleanEqualOperator,
									 BOOLOID,
									 false,
									 (Expr *) flag,
									 (Expr *) makeBoolConst(!negated, false),
									 InvalidOid,
									 InvalidOid),
					   false);
	}
}

/* Does the first thing that the query is to be sorted by come from this index?  Its search, or NULL. */
static Node *
match_order(const SearchPath *path)
{
	PathKey *key;
	CompatMemberIterator members;
	EquivalenceMember *member;

	if (path->root->query_pathkeys == NIL)
		return NULL;
	key = linitial(path->root->query_pathkeys);
	if (!compat_pathkey_ascending(key) || key->pk_nulls_first || key->pk_eclass->ec_has_volatile)
		return NULL;
	compat_member_iterator_begin(&members, key->pk_eclass, path->rel->relids);
	while ((member = compat_member_iterator_next(&members)) != NULL)
	{
		if (bms_equal(member->em_relids, path->rel->relids))
		{
			Node *query = query_of_call(path, (Node *) member->em_expr, path->row_order);

			if (query != NULL)
				return query;
		}
	}
	return NULL;
}

/*
 * Can the index tell all that the search asks for?  One without positions
 * cannot tell a phrase: it gives the rows that hold its words, and the row
 * itself has to be looked at, for the score too.
 */
static bool
answers_search(const SearchPath *path, Node *query)
{
	Relation index = index_open(path->index->indexoid, NoLock); /* the planner holds a lock */
	bool answers = search_settings(index)->positions;

	if (!answers && IsA(query, Const))
	{
		const CompiledQuery *compiled =
			search_compile(index, (PgoptQuery *) PG_DETOAST_DATUM(((Const *) query)->constvalue));

		answers = true;
		for (int i = 0; i < compiled->query->nclauses; i++)
			if (compiled->query->clauses[i].phrase)
				answers = false;
	}
	index_close(index, NoLock);
	return answers;
}

/* Offers the path, or paths, that this index gives. */
static void
add_search_paths(SearchPath *path)
{
	PlannerInfo *root = path->root;
	RelOptInfo *rel = path->rel;
	Relids outer = bms_copy(rel->lateral_relids);
	/* Where rows are locked or changed, a concurrent change makes the executor check the row again: by the row itself. */
	bool recheck = root->parse->commandType != CMD_SELECT || root->parse->rowMarks != NIL;
	Node *order = match_order(path);
	bool search = false;
	List *restrictions = list_copy(rel->baserestrictinfo);
	ListCell *lc;

	/*
	 * A condition in the ON of an outer join may be about this table alone and
	 * yet must not leave out its rows: only those that join it to others count.
	 */
	foreach(lc, rel->joininfo)
	{
		RestrictInfo *rinfo = lfirst_node(RestrictInfo, lc);

		if (!bms_is_subset(rinfo->clause_relids, rel->relids) &&
			join_clause_is_movable_to(rinfo, rel))
			restrictions = lappend(restrictions, rinfo);
	}
	if (order != NULL && !answers_search(path, order))
		order = NULL;
	for (int column = 0; column < path->index->nkeycolumns; column++)
	{
		foreach(lc, restrictions)
		{
			RestrictInfo *rinfo = lfirst_node(RestrictInfo, lc);
			bool join = !bms_is_subset(rinfo->clause_relids, rel->relids);

			if (!restriction_is_securely_promotable(rinfo, rel) || rinfo->pseudoconstant)
				continue;
			if (column == path->column)
			{
				Node *query = query_of_call(path, (Node *) rinfo->clause, path->row_matches);

				if (query == NULL)
					continue;
				add_clause(path,
						   rinfo,
						   column,
						   column_operator(
							   path, column, path->search_operator, BOOLOID, query, InvalidOid),
						   recheck || !answers_search(path, query));
				outer = bms_add_members(outer, bms_difference(rinfo->clause_relids, rel->relids));
				search = true;
			}
			else if (!join && !OidIsValid(get_opfamily_member(path->index->opfamily[column],
															  TEXTOID,
															  path->query_type,
															  SEARCH_STRATEGY_MATCH)))
				match_filter(path, rinfo, column);
		}
	}
	if (!search && order == NULL)
		return;

	add_path(rel,
			 (Path *) create_index_path(
				 root,
				 path->index,
				 path->clauses,
				 order == NULL
					 ? NIL
					 : list_make1(column_operator(
						   path, path->column, path->order_operator, FLOAT8OID, order, InvalidOid)),
				 order == NULL ? NIL : list_make1_int(path->column),
				 order == NULL ? NIL : list_make1(linitial(root->query_pathkeys)),
				 ForwardScanDirection,
				 false,
				 bms_is_empty(outer) ? NULL : outer,
				 1.0,
				 false));
}

static void
search_set_rel_pathlist(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte)
{
	ListCell *lc;

	if (previous_set_rel_pathlist)
		previous_set_rel_pathlist(root, rel, rti, rte);
	if (rte->rtekind != RTE_RELATION || !IS_SIMPLE_REL(rel) || IS_DUMMY_REL(rel))
		return;

	foreach(lc, rel->indexlist)
	{
		IndexOptInfo *index = lfirst_node(IndexOptInfo, lc);
		SearchPath path = {.root = root, .rel = rel, .index = index};
		Oid types[] = {TIDOID, OIDOID, InvalidOid, INTERNALOID};

		if (index->amcostestimate != search_costestimate || index->hypothetical ||
			(index->indpred != NIL && !index->predOK))
			continue;
		path.query_type = types[2] = search_query_type();
		path.row_matches = internal_function("row_matches", 4, types);
		path.row_order = internal_function("row_order", 4, types);
		path.column = -1;
		for (int column = 0; column < index->nkeycolumns && path.column < 0; column++)
		{
			path.search_operator = get_opfamily_member(
				index->opfamily[column], TEXTOID, path.query_type, SEARCH_STRATEGY_MATCH);
			path.order_operator = get_opfamily_member(
				index->opfamily[column], TEXTOID, path.query_type, SEARCH_STRATEGY_ORDER);
			if (OidIsValid(path.search_operator) && OidIsValid(path.order_operator))
				path.column = column;
		}
		if (path.column >= 0 && OidIsValid(path.row_matches) && OidIsValid(path.row_order))
			add_search_paths(&path);
	}
}

void
search_plan_init(void)
{
	previous_set_rel_pathlist = set_rel_pathlist_hook;
	set_rel_pathlist_hook = search_set_rel_pathlist;
}
