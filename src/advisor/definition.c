/*
 * definition.c
 *		Hypothetical indexes as text, and compared with each other and with real ones.
 *
 * Texts are made under a search_path of pg_catalog alone, so that everything
 * else in them is qualified and they mean the same under any other.
 *
 * Locks: AccessShare on the table and its indexes where these are looked at.
 * Memory: texts in the context of the caller.  Cost: look-ups in the caches.
 */
#include "pgopt.h"

#include "access/genam.h"
#include "access/reloptions.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_opclass.h"
#include "commands/defrem.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "hypothetical.h"
#include "hypothetical_private.h"

/* --- as text ------------------------------------------------------------------ */

static void
append_options(StringInfo text, const List *options)
{
	const char *separator = "";
	ListCell *cell;

	foreach(cell, options)
	{
		DefElem *option = lfirst_node(DefElem, cell);
		char *value = option->arg != NULL ? defGetString(option) : "true";

		appendStringInfo(text, "%s%s = ", separator, quote_identifier(option->defname));
		appendStringInfoString(text, quote_literal_cstr(value));
		separator = ", ";
	}
}

static void
append_opclass(StringInfo text, const HypotheticalIndex *index, const HypotheticalColumn *col)
{
	HeapTuple tuple;
	Form_pg_opclass opclass;

	if (col->opclass == GetDefaultOpClass(col->type, index->am) && col->opclass_options == NIL)
		return;
	tuple = SearchSysCache1(CLAOID, ObjectIdGetDatum(col->opclass));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator class %u", col->opclass);
	opclass = (Form_pg_opclass) GETSTRUCT(tuple);
	appendStringInfoChar(text, ' ');
	if (opclass->opcnamespace != PG_CATALOG_NAMESPACE)
		appendStringInfo(text, "%s.", quote_identifier(get_namespace_name(opclass->opcnamespace)));
	appendStringInfoString(text, quote_identifier(NameStr(opclass->opcname)));
	ReleaseSysCache(tuple);
	if (col->opclass_options != NIL)
	{
		appendStringInfoString(text, " (");
		append_options(text, col->opclass_options);
		appendStringInfoChar(text, ')');
	}
}

/* The collation that the column has of itself. */
static Oid
own_collation(const HypotheticalIndex *index, const HypotheticalColumn *col)
{
	Oid type;
	int32 typmod;
	Oid collation;

	if (col->attnum == 0)
		return exprCollation(col->expression);
	get_atttypetypmodcoll(index->table, col->attnum, &type, &typmod, &collation);
	return collation;
}

static void
append_columns(StringInfo text, const HypotheticalIndex *index, int from, int to)
{
	List *context = deparse_context_for(get_rel_name(index->table), index->table);

	for (int i = from; i < to; i++)
	{
		const HypotheticalColumn *col = &index->columns[i];

		if (i > from)
			appendStringInfoString(text, ", ");
		if (col->attnum != 0)
			appendStringInfoString(text,
								   quote_identifier(get_attname(index->table, col->attnum, false)));
		else
			appendStringInfo(
				text, "(%s)", deparse_expression(col->expression, context, false, false));
		if (i >= index->nkeys)
			continue;
		if (OidIsValid(col->collation) && col->collation != own_collation(index, col))
			appendStringInfo(text, " COLLATE %s", generate_collation_name(col->collation));
		append_opclass(text, index, col);
		if (col->descending)
			appendStringInfoString(text, " DESC");
		if (col->nulls_first != col->descending)
			appendStringInfoString(text, col->nulls_first ? " NULLS FIRST" : " NULLS LAST");
	}
}

static char *
definition(const HypotheticalIndex *index)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text,
					 "%s USING %s (",
					 quote_qualified_identifier(get_namespace_name(get_rel_namespace(index->table)),
												get_rel_name(index->table)),
					 quote_identifier(get_am_name(index->am)));
	append_columns(&text, index, 0, index->nkeys);
	appendStringInfoChar(&text, ')');
	if (index->ncolumns > index->nkeys)
	{
		appendStringInfoString(&text, " INCLUDE (");
		append_columns(&text, index, index->nkeys, index->ncolumns);
		appendStringInfoChar(&text, ')');
	}
	if (index->nulls_not_distinct)
		appendStringInfoString(&text, " NULLS NOT DISTINCT");
	if (index->options != NIL)
	{
		appendStringInfoString(&text, " WITH (");
		append_options(&text, index->options);
		appendStringInfoChar(&text, ')');
	}
	if (index->predicate != NIL)
	{
		List *context = deparse_context_for(get_rel_name(index->table), index->table);
		Node *predicate = (Node *) make_ands_explicit(copyObject(index->predicate));

		appendStringInfo(&text, " WHERE %s", deparse_expression(predicate, context, false, false));
	}
	return text.data;
}

char *
hypothetical_definition(const HypotheticalIndex *index)
{
	int level = NewGUCNestLevel();
	char *text;

	(void) set_config_option(
		"search_path", "pg_catalog", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	text = definition(index);
	AtEOXact_GUC(false, level);
	return text;
}

/* What the server would call a column in the name of an index. */
static const char *
column_name(const HypotheticalIndex *index, const HypotheticalColumn *col)
{
	const char *name = NULL;

	if (col->attnum != 0)
		return get_attname(index->table, col->attnum, false);
	if (IsA(col->expression, FuncExpr) &&
		((FuncExpr *) col->expression)->funcformat == COERCE_EXPLICIT_CALL)
		name = get_func_name(((FuncExpr *) col->expression)->funcid);
	return name != NULL ? name : "expr";
}

static bool
name_is_taken(const char *name, Oid namespace, const List *taken)
{
	ListCell *cell;

	foreach(cell, taken)
		if (strcmp(name, lfirst(cell)) == 0)
			return true;
	return OidIsValid(get_relname_relid(name, namespace));
}

char *
hypothetical_name(const HypotheticalIndex *index, List **taken)
{
	Oid namespace = get_rel_namespace(index->table);
	const char *table = get_rel_name(index->table);
	StringInfoData columns;
	char label[16] = "idx";

	if (index->name != NULL && !name_is_taken(index->name, namespace, taken != NULL ? *taken : NIL))
	{
		if (taken != NULL)
			*taken = lappend(*taken, index->name);
		return index->name;
	}
	initStringInfo(&columns);
	for (int i = 0; i < index->ncolumns && columns.len < NAMEDATALEN; i++)
	{
		if (i > 0)
			appendStringInfoChar(&columns, '_');
		appendStringInfoString(&columns, column_name(index, &index->columns[i]));
	}
	/* makeObjectName() shortens names at characters, but takes no longer ones than the server's. */
	columns.len = pg_mbcliplen(columns.data, columns.len, NAMEDATALEN - 1);
	columns.data[columns.len] = '\0';
	for (int i = 1;; i++)
	{
		char *name = makeObjectName(table, columns.data, label);

		if (!name_is_taken(name, namespace, taken != NULL ? *taken : NIL))
		{
			if (taken != NULL)
				*taken = lappend(*taken, name);
			return name;
		}
		snprintf(label, sizeof(label), "idx%d", i);
	}
}

char *
hypothetical_ddl(const HypotheticalIndex *index, bool concurrently, List **taken)
{
	if (get_rel_relkind(index->table) == RELKIND_PARTITIONED_TABLE)
		concurrently = false;
	return psprintf("CREATE %sINDEX %s%s ON %s",
					index->unique ? "UNIQUE " : "",
					concurrently ? "CONCURRENTLY " : "",
					quote_identifier(hypothetical_name(index, taken)),
					hypothetical_definition(index));
}

/* --- compared ----------------------------------------------------------------- */

static bool
same_column(const HypotheticalColumn *a, const HypotheticalColumn *b)
{
	return a->attnum == b->attnum && (a->attnum != 0 || equal(a->expression, b->expression));
}

/* Order of what is INCLUDEd means nothing. */
static bool
includes_all(const HypotheticalIndex *a, const HypotheticalIndex *b)
{
	for (int i = b->nkeys; i < b->ncolumns; i++)
	{
		bool found = false;

		for (int j = a->nkeys; j < a->ncolumns && !found; j++)
			found = same_column(&a->columns[j], &b->columns[i]);
		if (!found)
			return false;
	}
	return true;
}

bool
hypothetical_equal(const HypotheticalIndex *a, const HypotheticalIndex *b)
{
	if (a->table != b->table || a->am != b->am || a->unique != b->unique ||
		a->nulls_not_distinct != b->nulls_not_distinct || a->nkeys != b->nkeys ||
		a->ncolumns != b->ncolumns || list_length(a->predicate) != list_length(b->predicate))
		return false;
	for (int i = 0; i < a->nkeys; i++)
	{
		const HypotheticalColumn *x = &a->columns[i];
		const HypotheticalColumn *y = &b->columns[i];

		if (!same_column(x, y) || x->opclass != y->opclass || x->collation != y->collation ||
			x->descending != y->descending || x->nulls_first != y->nulls_first ||
			!equal(x->opclass_options, y->opclass_options))
			return false;
	}
	return includes_all(a, b) && equal(a->options, b->options) &&
		   list_difference(a->predicate, b->predicate) == NIL &&
		   list_difference(b->predicate, a->predicate) == NIL;
}

/* A real index as if it were none; NULL where it is of another kind, or cannot be used. */
static HypotheticalIndex *
from_real(Relation rel, Relation real)
{
	Form_pg_index form = real->rd_index;
	List *expressions = RelationGetIndexExpressions(real);
	HypotheticalIndex *index = palloc0(sizeof(HypotheticalIndex));
	ListCell *next = list_head(expressions);

	index->oid = RelationGetRelid(real);
	index->table = RelationGetRelid(rel);
	index->am = real->rd_rel->relam;
	index->unique = form->indisunique;
	index->nulls_not_distinct = form->indnullsnotdistinct;
	index->nkeys = form->indnkeyatts;
	index->ncolumns = form->indnatts;
	index->columns = palloc0(sizeof(HypotheticalColumn) * index->ncolumns);
	index->predicate = RelationGetIndexPredicate(real);
	for (int i = 0; i < index->ncolumns; i++)
	{
		HypotheticalColumn *col = &index->columns[i];

		col->attnum = form->indkey.values[i];
		if (col->attnum == 0)
		{
			col->expression = lfirst(next);
			next = lnext(expressions, next);
		}
		if (i >= index->nkeys)
			continue;
		/* Only the family is at hand; see same_key(). */
		col->opclass = real->rd_opfamily[i];
		col->type = real->rd_opcintype[i];
		col->collation = real->rd_indcollation[i];
		col->descending = (real->rd_indoption[i] & INDOPTION_DESC) != 0;
		col->nulls_first = (real->rd_indoption[i] & INDOPTION_NULLS_FIRST) != 0;
	}
	return index;
}

/* mine is hypothetical, real from from_real(). */
static bool
same_key(const HypotheticalColumn *mine, const HypotheticalColumn *real)
{
	return same_column(mine, real) && mine->collation == real->collation &&
		   get_opclass_family(mine->opclass) == real->opclass &&
		   get_opclass_input_type(mine->opclass) == real->type;
}

static bool
has_column(const HypotheticalIndex *index, int ncolumns, const HypotheticalColumn *col)
{
	for (int i = 0; i < ncolumns; i++)
		if (same_column(&index->columns[i], col))
			return true;
	return false;
}

/* Forwards, or all of it backwards. */
static bool
same_order(const HypotheticalIndex *mine, const HypotheticalIndex *real, int nkeys)
{
	bool forwards = true;
	bool backwards = true;

	for (int i = 0; i < nkeys; i++)
	{
		const HypotheticalColumn *x = &mine->columns[i];
		const HypotheticalColumn *y = &real->columns[i];

		if (!same_key(x, y))
			return false;
		forwards &= x->descending == y->descending && x->nulls_first == y->nulls_first;
		backwards &= x->descending != y->descending && x->nulls_first != y->nulls_first;
	}
	return forwards || backwards;
}

/* No two entries with the same keys, nulls included. */
static bool
really_unique(Relation rel, const HypotheticalIndex *real)
{
	if (!real->unique)
		return false;
	for (int i = 0; i < real->nkeys && !real->nulls_not_distinct; i++)
		if (real->columns[i].attnum <= 0 ||
			!TupleDescAttr(RelationGetDescr(rel), real->columns[i].attnum - 1)->attnotnull)
			return false;
	return true;
}

static bool
covers_ordered(Relation rel, const HypotheticalIndex *mine, const HypotheticalIndex *real)
{
	if (mine->unique && !(real->unique && real->nkeys == mine->nkeys))
		return false;
	/* What follows after keys that are unique orders nothing any more. */
	if (really_unique(rel, real) && real->nkeys <= mine->nkeys && mine->ncolumns == mine->nkeys)
		return same_order(mine, real, real->nkeys);
	if (mine->nkeys > real->nkeys || !same_order(mine, real, mine->nkeys))
		return false;
	for (int i = mine->nkeys; i < mine->ncolumns; i++)
		if (!has_column(real, real->ncolumns, &mine->columns[i]))
			return false;
	return true;
}

/* All keys of it, wherever they stand, unless ordered. */
static bool
covers_unordered(const HypotheticalIndex *mine, const HypotheticalIndex *real, bool ordered)
{
	if (mine->nkeys > real->nkeys)
		return false;
	for (int i = 0; i < mine->nkeys; i++)
	{
		bool found = false;

		if (mine->columns[i].opclass_options != NIL)
			return false;
		for (int j = ordered ? i : 0; j < (ordered ? i + 1 : real->nkeys) && !found; j++)
			found = same_key(&mine->columns[i], &real->columns[j]);
		if (!found)
			return false;
	}
	for (int i = mine->nkeys; i < mine->ncolumns; i++)
		if (!has_column(real, real->ncolumns, &mine->columns[i]))
			return false;
	return true;
}

/* May the real one be used wherever mine is, and as well? */
static bool
covers_predicate(const HypotheticalIndex *mine, const HypotheticalIndex *real)
{
	Bitmapset *wanted = NULL;
	int attnum = -1;

	if (list_difference(real->predicate, mine->predicate) != NIL &&
		!predicate_implied_by(real->predicate, mine->predicate, false))
		return false;
	if (list_difference(mine->predicate, real->predicate) == NIL)
		return true;
	/* Mine leaves out more rows; the real one does as well only where it has the columns to tell by. */
	pull_varattnos((Node *) mine->predicate, 1, &wanted);
	while ((attnum = bms_next_member(wanted, attnum)) >= 0)
	{
		HypotheticalColumn col = {.attnum = attnum + FirstLowInvalidHeapAttributeNumber};

		if (col.attnum <= 0 || !has_column(real, real->nkeys, &col))
			return false;
	}
	return true;
}

static bool
covers(Relation rel, const HypotheticalIndex *mine, const HypotheticalIndex *real)
{
	if (mine->am != real->am || !covers_predicate(mine, real))
		return false;
	switch (mine->am)
	{
		case BTREE_AM_OID:
			return covers_ordered(rel, mine, real);
		case BRIN_AM_OID:
			/* Another pages_per_range makes it another index. */
			return mine->options == NIL && covers_unordered(mine, real, false);
		case GIN_AM_OID:
			return covers_unordered(mine, real, false);
		default:
			return covers_unordered(mine, real, true);
	}
}

Oid
hypothetical_covered_by(const HypotheticalIndex *index)
{
	Relation rel = table_open(index->table, AccessShareLock);
	List *oids = RelationGetIndexList(rel);
	Oid found = InvalidOid;
	ListCell *cell;

	foreach(cell, oids)
	{
		Relation real = index_open(lfirst_oid(cell), AccessShareLock);

		if (real->rd_index->indisvalid && covers(rel, index, from_real(rel, real)))
			found = RelationGetRelid(real);
		index_close(real, NoLock);
		if (OidIsValid(found))
			break;
	}
	list_free(oids);
	table_close(rel, NoLock);
	return found;
}
