/*
 * candidates_draft.c
 *		Indexes on paper, and what they might be worth.
 *
 * There are more of these than can be priced, so they are ranked by a crude
 * estimate of what they save: a scan of the table, less what is read instead
 * (heap pages touched by n rows that lie anywhere: pages * (1 - exp(-n / pages)),
 * the usual approximation of Cardenas, "Analysis and performance of inverted
 * data base structures", CACM 18(5), 1975).  It decides nothing but who is asked
 * for a price.
 *
 * Memory: the current context.
 */
#include "pgopt.h"

#include <math.h>

#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_statistic.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "mb/pg_wchar.h"
#include "optimizer/optimizer.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "candidates_draft.h"
#include "monitor.h"

#define LOOKUPS        100.0 /* of a join, for want of knowing */
#define WIDE_ROW_SHARE 0.75  /* a copy of more than this of the table is no index */
#define WIDE_COLUMN    200   /* bytes */
#define LARGEST_INCLUDED \
	1300 /* bytes that INCLUDEd columns may take at most: half a btree's limit */
#define SHORT_TEXT          32   /* bytes on average */
#define LARGEST_SMALL_VALUE 32   /* bytes of a type without a fixed length whose values are short */
#define ENTRY_BYTES         12   /* head and line pointer */
#define LITTLE              0.02 /* share of a scan that nobody would notice */

/* --- lists of columns ---------------------------------------------------------------- */

bool
same_column(const KeyColumn *a, const KeyColumn *b)
{
	if (a->attnum != b->attnum)
		return false;
	return a->attnum != 0 || equal(a->expression, b->expression);
}

bool
has_column(const List *columns, const KeyColumn *column)
{
	ListCell *cell;

	foreach(cell, columns)
		if (same_column(lfirst(cell), column))
			return true;
	return false;
}

/* A new list: keys, and those of more that are not there yet. */
List *
with_columns(const List *keys, const List *more, int limit)
{
	List *result = list_copy(keys);
	ListCell *cell;

	foreach(cell, more)
		if (list_length(result) < limit && !has_column(result, lfirst(cell)))
			result = lappend(result, lfirst(cell));
	return result;
}

List *
with_term(const List *keys, Term *term)
{
	return with_columns(
		with_columns(keys, list_make1(&term->column), MAX_KEYS), term->more, MAX_KEYS);
}

List *
term_columns(const List *terms, int limit)
{
	List *result = NIL;
	ListCell *cell;

	foreach(cell, terms)
	{
		Term *term = lfirst(cell);

		if (list_length(result) < limit)
			result = lappend(result, &term->column);
	}
	return result;
}

Term *
term_of(const List *terms, const KeyColumn *column)
{
	ListCell *cell;

	foreach(cell, terms)
	{
		Term *term = lfirst(cell);

		if (same_column(&term->column, column))
			return term;
	}
	return NULL;
}

/* --- columns of the table --------------------------------------------------------------- */

double
column_distinct(Oid table, AttrNumber attnum, double tuples)
{
	HeapTuple tuple = column_statistics(table, attnum);
	double distinct;

	if (!HeapTupleIsValid(tuple))
		return 0;
	distinct = ((Form_pg_statistic) GETSTRUCT(tuple))->stadistinct;
	ReleaseSysCache(tuple);
	return distinct < 0 ? -distinct * tuples : distinct;
}

/* Would a btree keep equal values of the column once? */
static bool
is_deduplicated(Oid table, AttrNumber attnum)
{
	Oid type = get_atttype(table, attnum);
	Oid opclass = GetDefaultOpClass(type, BTREE_AM_OID);

	return OidIsValid(opclass) && OidIsValid(get_opfamily_proc(get_opclass_family(opclass),
															   get_opclass_input_type(opclass),
															   get_opclass_input_type(opclass),
															   BTEQUALIMAGE_PROC));
}

Bitmapset *
needed_columns(const Making *making)
{
	const TableUse *use = making->use;
	Bitmapset *needed = bms_copy(use->output);
	ListCell *clause;
	ListCell *columns;

	forboth(clause, use->clauses, columns, use->clause_columns)
		if (!list_member(making->predicate, lfirst(clause)))
			needed = bms_add_members(needed, lfirst(columns));
	return needed;
}

/* --- worth ----------------------------------------------------------------------------------- */

static double
crude_worth(const Making *making, const Draft *draft, const WantedOrder *order)
{
	const TableUse *use = making->use;
	double scan = use->pages + use->tuples * 0.01;
	double selectivity = making->share;
	double entry = ENTRY_BYTES;
	double rows;
	double cost;
	bool joined = false;
	bool ordered = order != NULL;
	ListCell *cell;
	int member = -1;

	foreach(cell, draft->keys)
	{
		KeyColumn *key = lfirst(cell);

		entry += key->width;
	}
	while ((member = bms_next_member(draft->include, member)) >= 0)
		entry += column_width(use->table, member + FirstLowInvalidHeapAttributeNumber);
	foreach(cell, draft->keys)
	{
		KeyColumn *key = lfirst(cell);
		Term *term = term_of(making->equal, key);

		if (term != NULL)
		{
			selectivity *= term->selectivity;
			continue;
		}
		term = term_of(use->joins, key);
		if (term != NULL && !ordered)
		{
			selectivity *= term->selectivity;
			joined = true;
			continue;
		}
		term = term_of(making->ranges, key);
		if (term == NULL)
			break;
		selectivity *= term->selectivity; /* a second range at least filters in the index */
	}
	rows = Max(use->tuples * selectivity, 1);
	if (joined)
	{
		cost = LOOKUPS * (8 + rows * (draft->wide ? 0.02 : 2));
		return Max(scan - cost, scan * LITTLE * 2);
	}
	if (draft->wide)
		cost = selectivity * use->tuples * entry / (BLCKSZ * 0.8) + rows * 0.01;
	else
		cost = use->pages * (1 - exp(-rows / use->pages)) * (rows < use->pages ? 3 : 1.2) +
			   rows * 0.015;
	if (ordered)
	{
		double wanted = Max(use->rows, 2);

		if (order->limited)
			return scan * 0.9;
		return Max(scan - cost, scan * LITTLE) + wanted * log2(wanted) * cpu_operator_cost * 2;
	}
	return scan - cost;
}

/* --- drafts ------------------------------------------------------------------------------------ */

static void
add_draft(Making *making, Draft *draft, const WantedOrder *order)
{
	ListCell *cell;

	if (draft->keys == NIL || list_length(draft->keys) > INDEX_MAX_KEYS)
		return;
	foreach(cell, draft->keys)
		if (((KeyColumn *) lfirst(cell))->width > WIDE_KEY)
			return;
	draft->predicate = making->predicate;
	draft->worth = crude_worth(making, draft, order);
	if (draft->worth < LITTLE * making->use->pages)
		return;
	making->drafts = lappend(making->drafts, draft);
}

void
draft_btree(Making *making, List *keys, int free, const WantedOrder *order)
{
	Draft *draft = palloc0(sizeof(Draft));

	draft->am = BTREE_AM_OID;
	draft->keys = keys;
	draft->free = free;
	add_draft(making, draft, order);
}

/* Is anything in its TOAST table? */
static bool
has_long_values(Oid table)
{
	Relation rel = table_open(table, NoLock);
	Oid toast = rel->rd_rel->reltoastrelid;

	table_close(rel, NoLock);
	return OidIsValid(toast) && relation_file_bytes(toast) > 0;
}

/*
 * Bytes that a value of it can take at most; -1 where there is no bound.  Texts
 * without one count as short where all that is there is.
 */
static int
column_largest(const TableUse *use, AttrNumber attnum)
{
	Oid table = use->table;
	Oid type;
	int32 typmod;
	Oid collation;
	int16 length;

	get_atttypetypmodcoll(table, attnum, &type, &typmod, &collation);
	type = getBaseTypeAndTypmod(type, &typmod);
	length = get_typlen(type);
	if (length > 0)
		return length;
	switch (type)
	{
		case NUMERICOID:
		case INETOID:
		case CIDROID:
			return LARGEST_SMALL_VALUE;
		case VARCHAROID:
		case BPCHAROID:
			return typmod > VARHDRSZ
					   ? (typmod - VARHDRSZ) * pg_database_encoding_max_length() + VARHDRSZ
					   : -1;
		case TEXTOID:
			return column_width(table, attnum) <= SHORT_TEXT && !has_long_values(table)
					   ? LARGEST_SMALL_VALUE
					   : -1;
		default:
			return -1;
	}
}

/* The same with what else is needed, where that is not nearly the table itself. */
void
draft_wide(Making *making, List *keys, int free, const WantedOrder *order)
{
	int largest = 0;
	const TableUse *use = making->use;
	Draft *draft;
	Bitmapset *rest;
	double width = 0;
	double values = 1;
	bool deduplicates = true;
	ListCell *cell;
	int member;

	if (!use->coverable || keys == NIL)
		return;
	rest = needed_columns(making);
	foreach(cell, keys)
	{
		KeyColumn *key = lfirst(cell);

		width += key->width;
		values *= Max(key->distinct, 1);
		if (key->attnum != 0)
		{
			rest = bms_del_member(rest, column_member(key->attnum));
			deduplicates &= is_deduplicated(use->table, key->attnum);
		}
	}
	if (bms_num_members(rest) + list_length(keys) > MAX_COLUMNS)
		return;
	member = -1;
	while ((member = bms_next_member(rest, member)) >= 0)
	{
		AttrNumber attnum = member + FirstLowInvalidHeapAttributeNumber;
		double column = attnum > 0 ? column_width(use->table, attnum) : WIDE_COLUMN + 1;
		int most = attnum > 0 ? column_largest(use, attnum) : -1;
		double distinct;

		/* a later row that is too long for the index would be refused to the user */
		if (column > WIDE_COLUMN || most < 0 || (largest += most) > LARGEST_INCLUDED)
			return;
		width += column;
		distinct = column_distinct(use->table, attnum, use->tuples);
		values *= distinct > 0 ? distinct : use->tuples;
		deduplicates = deduplicates && is_deduplicated(use->table, attnum);
	}
	if (width + ENTRY_BYTES > use->row_width * WIDE_ROW_SHARE)
		return;

	/* Where whole entries repeat, a btree keeps them once, but only if all columns are keys. */
	if (deduplicates && values < use->tuples / 2 &&
		bms_num_members(rest) + list_length(keys) <= MAX_KEYS)
	{
		keys = list_copy(keys);
		member = -1;
		while ((member = bms_next_member(rest, member)) >= 0)
		{
			KeyColumn *key = palloc0(sizeof(KeyColumn));
			int32 typmod;

			key->attnum = member + FirstLowInvalidHeapAttributeNumber;
			get_atttypetypmodcoll(use->table, key->attnum, &key->type, &typmod, &key->collation);
			key->width = column_width(use->table, key->attnum);
			keys = lappend(keys, key);
		}
		rest = NULL;
	}
	draft = palloc0(sizeof(Draft));
	draft->am = BTREE_AM_OID;
	draft->keys = keys;
	draft->include = rest;
	draft->free = free;
	draft->wide = true;
	add_draft(making, draft, order);
}

void
draft_both(Making *making, List *keys, int free, const WantedOrder *order)
{
	draft_btree(making, keys, free, order);
	draft_wide(making, keys, free, order);
}
