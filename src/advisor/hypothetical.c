/*
 * hypothetical.c
 *		What a hypothetical index is made of.
 *
 * A definition comes from a CREATE INDEX statement, which is analysed as
 * DefineIndex() would, or from whoever looks for candidates.  Expressions and
 * predicates are kept in the form that the relcache gives the planner.
 *
 * Locks: AccessShare on the table, waited for at most LOCK_WAIT, and kept
 * until the transaction ends.  Memory: everything in the context of the caller.
 *
 * Cost: some look-ups in the system caches.
 */
#include "pgopt.h"

#include "access/amapi.h"
#include "access/relation.h"
#include "access/reloptions.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/heap.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "commands/defrem.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/prep.h"
#include "parser/parse_utilcmd.h"
#include "parser/parser.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "compat.h"
#include "core.h"
#include "hypothetical.h"
#include "hypothetical_private.h"

/* The longest that a lock on a table is waited for. */
#define LOCK_WAIT 1000 /* ms */

/* OIDs that stand for hypothetical indexes are counted down from here, far from where the server's counter usually is. */
#define FIRST_OID ((Oid) 0xFFFFFFFE)
#define LAST_OID  ((Oid) 0xF0000000)

static Oid
next_oid(void)
{
	static Oid next = FIRST_OID;
	Oid oid;

	do
	{
		oid = next;
		next = next > LAST_OID ? next - 1 : FIRST_OID;
	} while (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(oid)));
	return oid;
}

static HypotheticalIndex *
make_index(Oid table, Oid am, int ncolumns)
{
	HypotheticalIndex *index = palloc0(sizeof(HypotheticalIndex));

	index->id = -1;
	index->oid = next_oid();
	index->table = table;
	index->am = am;
	index->ncolumns = ncolumns;
	index->nkeys = ncolumns;
	index->columns = palloc0(sizeof(HypotheticalColumn) * ncolumns);
	index->tree_height = -1;
	return index;
}

HypotheticalIndex *
hypothetical_make(Oid table, const char *am, int ncolumns)
{
	return make_index(table, get_am_oid(am, false), ncolumns);
}

bool
hypothetical_set_column(HypotheticalIndex *index, int column, AttrNumber attnum, Node *expression,
						bool included)
{
	HypotheticalColumn *col = &index->columns[column];

	memset(col, 0, sizeof(HypotheticalColumn));
	col->attnum = attnum;
	col->expression = attnum == 0 ? expression : NULL;
	if (attnum != 0)
		get_atttypetypmodcoll(index->table, attnum, &col->type, &col->typmod, &col->collation);
	else
	{
		col->type = exprType(expression);
		col->typmod = exprTypmod(expression);
		col->collation = exprCollation(expression);
	}
	if (included)
	{
		index->nkeys = Min(index->nkeys, column);
		col->collation = InvalidOid;
		return true;
	}
	col->opclass = GetDefaultOpClass(col->type, index->am);
	return OidIsValid(col->opclass);
}

/* --- from a statement --------------------------------------------------------- */

static IndexStmt *
parse_statement(const char *ddl)
{
	List *statements = raw_parser(ddl, RAW_PARSE_DEFAULT);
	Node *statement;

	if (list_length(statements) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("one statement is wanted, not %d", list_length(statements)),
				 errdetail("The text is: %s", ddl)));
	statement = linitial_node(RawStmt, statements)->stmt;
	if (!IsA(statement, IndexStmt))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("not a CREATE INDEX statement"),
				 errdetail("The text is: %s", ddl)));
	return castNode(IndexStmt, statement);
}

/* The table, locked and opened. */
static Relation
open_table(RangeVar *name)
{
	int level = NewGUCNestLevel();
	Oid oid;
	Relation rel;

	if (LockTimeout == 0 || LockTimeout > LOCK_WAIT)
		settings_set_lock_timeout(LOCK_WAIT);
	oid = RangeVarGetRelid(name, AccessShareLock, false);
	AtEOXact_GUC(false, level);

	rel = relation_open(oid, NoLock);
	switch (rel->rd_rel->relkind)
	{
		case RELKIND_RELATION:
		case RELKIND_MATVIEW:
		case RELKIND_PARTITIONED_TABLE:
			break;
		default:
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("cannot create index on relation \"%s\"", RelationGetRelationName(rel)),
					 errdetail_relkind_not_supported(rel->rd_rel->relkind)));
	}
	if (RELATION_IS_OTHER_TEMP(rel))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot create indexes on temporary tables of other sessions")));
	if (IsSystemRelation(rel))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied: \"%s\" is a system catalog",
						RelationGetRelationName(rel))));
	return rel;
}

/* What can be priced, and is allowed for the access method. */
static void
check_access_method(const IndexStmt *stmt, Oid am)
{
	IndexAmRoutine *routine = GetIndexAmRoutineByAmId(am, false);

	if (!am_is_known(am))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("an index of access method \"%s\" that does not exist cannot be priced",
						stmt->accessMethod),
				 errdetail("The access methods btree, hash, gin, gist, spgist and brin can.")));
	if (stmt->unique && !routine->amcanunique)
		ereport(
			ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("access method \"%s\" does not support unique indexes", stmt->accessMethod)));
	if (stmt->indexIncludingParams != NIL && !routine->amcaninclude)
		ereport(
			ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("access method \"%s\" does not support included columns", stmt->accessMethod)));
	if (list_length(stmt->indexParams) > 1 && !routine->amcanmulticol)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("access method \"%s\" does not support multicolumn indexes",
						stmt->accessMethod)));
	if (stmt->options != NIL)
		(void) index_reloptions(
			routine->amoptions,
			transformRelOptions((Datum) 0, stmt->options, NULL, NULL, false, false),
			true);
}

static void
refuse_mutable(Node *expression, const char *where)
{
	/* As it will be planned: that inserts defaults, and may find a volatile-looking call constant. */
	if (contain_mutable_functions((Node *) expression_planner((Expr *) copyObject(expression))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("functions in index %s must be marked IMMUTABLE", where)));
}

static void
set_key(HypotheticalColumn *col, const IndexElem *element, const char *am_name, Oid am)
{
	if (element->collation != NIL)
		col->collation = get_collation_oid(element->collation, false);
	if (type_is_collatable(col->type))
	{
		if (!OidIsValid(col->collation))
			ereport(ERROR,
					(errcode(ERRCODE_INDETERMINATE_COLLATION),
					 errmsg("could not determine which collation to use for index expression"),
					 errhint("Use the COLLATE clause to set the collation explicitly.")));
	}
	else if (OidIsValid(col->collation))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("collations are not supported by type %s", format_type_be(col->type))));

	col->opclass = ResolveOpClass(element->opclass, col->type, am_name, am);
	col->opclass_options = element->opclassopts;
	if (am == BTREE_AM_OID)
	{
		col->descending = element->ordering == SORTBY_DESC;
		col->nulls_first = element->nulls_ordering == SORTBY_NULLS_DEFAULT
							   ? col->descending
							   : element->nulls_ordering == SORTBY_NULLS_FIRST;
	}
	else if (element->ordering != SORTBY_DEFAULT || element->nulls_ordering != SORTBY_NULLS_DEFAULT)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("access method \"%s\" does not support ASC/DESC and NULLS FIRST/LAST",
						am_name)));
}

static void
set_from_element(HypotheticalColumn *col, const IndexElem *element, Relation rel, bool included)
{
	Node *expression = element->expr;

	if (element->name != NULL)
	{
		col->attnum = get_attnum(RelationGetRelid(rel), element->name);
		if (col->attnum == InvalidAttrNumber)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" does not exist", element->name),
					 errdetail("It is looked for in table %s.",
							   quote_identifier(RelationGetRelationName(rel)))));
	}
	else
	{
		if (included)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("expressions are not supported in included columns")));
		col->collation = exprCollation(expression);
		while (IsA(expression, CollateExpr))
			expression = (Node *) ((CollateExpr *) expression)->arg;
		if (IsA(expression, Var) && ((Var *) expression)->varattno != InvalidAttrNumber)
			col->attnum = ((Var *) expression)->varattno;
	}
	if (col->attnum < 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("index creation on system columns is not supported")));
	if (col->attnum > 0 && compat_is_virtual(TupleDescAttr(RelationGetDescr(rel), col->attnum - 1)))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("indexes on virtual generated columns are not supported")));
	if (col->attnum > 0)
	{
		Oid collation;

		get_atttypetypmodcoll(
			RelationGetRelid(rel), col->attnum, &col->type, &col->typmod, &collation);
		if (!OidIsValid(col->collation))
			col->collation = collation;
	}
	else
	{
		refuse_mutable(expression, "expression");
		col->type = exprType(expression);
		col->typmod = exprTypmod(expression);
		CheckAttributeType("expression", col->type, col->collation, NIL, 0);
		/* As RelationGetIndexExpressions() gives it. */
		col->expression = eval_const_expressions(NULL, copyObject(expression));
		fix_opfuncids(col->expression);
	}
	if (included)
		col->collation = InvalidOid;
}

static void
refuse_key_options(const IndexElem *element)
{
	if (element->collation != NIL || element->opclass != NIL ||
		element->ordering != SORTBY_DEFAULT || element->nulls_ordering != SORTBY_NULLS_DEFAULT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("including column does not support a collation, an operator class, "
						"ASC/DESC or NULLS FIRST/LAST")));
}

/* As RelationGetIndexPredicate() gives it. */
List *
canonical_predicate(Node *predicate)
{
	List *clauses;

	if (predicate == NULL)
		return NIL;
	predicate = eval_const_expressions(NULL, copyObject(predicate));
	clauses = make_ands_implicit((Expr *) canonicalize_qual((Expr *) predicate, false));
	fix_opfuncids((Node *) clauses);
	return clauses;
}

HypotheticalIndex *
hypothetical_parse(const char *ddl)
{
	IndexStmt *stmt = parse_statement(ddl);
	Relation rel = open_table(stmt->relation);
	Oid am = get_am_oid(stmt->accessMethod, false);
	HypotheticalIndex *index;
	List *elements;
	int column = 0;
	ListCell *cell;

	check_access_method(stmt, am);
	stmt = transformIndexStmt(RelationGetRelid(rel), stmt, ddl);
	elements = list_concat_copy(stmt->indexParams, stmt->indexIncludingParams);
	if (list_length(elements) > INDEX_MAX_KEYS)
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_COLUMNS),
				 errmsg("cannot use more than %d columns in an index", INDEX_MAX_KEYS)));

	index = make_index(RelationGetRelid(rel), am, list_length(elements));
	index->nkeys = list_length(stmt->indexParams);
	index->unique = stmt->unique;
	index->nulls_not_distinct = stmt->nulls_not_distinct;
	index->options = stmt->options;
	index->name = stmt->idxname;
	foreach(cell, elements)
	{
		IndexElem *element = lfirst_node(IndexElem, cell);
		bool included = column >= index->nkeys;

		set_from_element(&index->columns[column], element, rel, included);
		if (included)
			refuse_key_options(element);
		else
			set_key(&index->columns[column], element, stmt->accessMethod, am);
		column++;
	}
	if (stmt->whereClause != NULL)
	{
		refuse_mutable(stmt->whereClause, "predicate");
		index->predicate = canonical_predicate(stmt->whereClause);
	}
	relation_close(rel, NoLock);
	return index;
}

int
index_option(const HypotheticalIndex *index, const char *name, int otherwise)
{
	ListCell *cell;

	foreach(cell, index->options)
	{
		DefElem *option = lfirst_node(DefElem, cell);
		bool on;

		if (pg_strcasecmp(option->defname, name) != 0 || option->arg == NULL)
			continue;
		if (IsA(option->arg, Integer))
			return intVal(option->arg);
		if (parse_bool(defGetString(option), &on))
			return on;
		return pg_strtoint32(defGetString(option));
	}
	return otherwise;
}
