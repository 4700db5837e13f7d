/*
 * candidates_make.c
 *		From what a query does with a table, the indexes that could help.
 *
 * Btree: the columns compared by equality, those with most values first, then
 * one range; the columns that are joined by, with those; the order that is
 * wanted after the equalities; each also so wide that the table need not be
 * read.  Then the same with constant clauses as a predicate; BRIN where the
 * rows lie in the column's order; hash where values are too wide for a btree; and
 * the access methods that searches by other operators need.
 *
 * They are ranked by what they might be worth, narrow, wide and partial ones apart.
 *
 * Memory: drafts live in the current context, indexes in the set's.
 */
#include "pgopt.h"

#include "access/sysattr.h"
#include "catalog/pg_am.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"

#include "candidates_draft.h"

#define MAX_EQUAL        4
#define BRIN_CORRELATION 0.9
#define PARTIAL_SHARE    0.5
#define MAX_PREDICATES   4

/* --- shapes -------------------------------------------------------------------------------------- */

static int
compare_equal(const ListCell *a, const ListCell *b)
{
	const Term *left = lfirst(a);
	const Term *right = lfirst(b);

	if (left->list != right->list)
		return left->list ? 1 : -1;
	if (left->column.distinct != right->column.distinct)
		return left->column.distinct > right->column.distinct ? -1 : 1;
	return left->column.attnum - right->column.attnum;
}

static int
compare_range(const ListCell *a, const ListCell *b)
{
	const Term *left = lfirst(a);
	const Term *right = lfirst(b);

	if (left->selectivity != right->selectivity)
		return left->selectivity < right->selectivity ? -1 : 1;
	return left->column.attnum - right->column.attnum;
}

/* Sorts terms into equalities and ranges, one a column; two ends of a range count together. */
static void
sort_terms(Making *making, const List *terms, const List *without)
{
	ListCell *cell;

	making->equal = NIL;
	making->ranges = NIL;
	making->nplain = 0;
	foreach(cell, terms)
	{
		Term *term = lfirst(cell);
		Term *other;

		if (term->kind == TERM_SEARCH || has_column(without, &term->column))
			continue;
		if (term->kind == TERM_EQUAL)
		{
			if (term_of(making->equal, &term->column) == NULL)
			{
				making->equal = lappend(making->equal, term);
				making->nplain += term->list ? 0 : 1;
			}
			continue;
		}
		other = term_of(making->ranges, &term->column);
		if (other == NULL)
		{
			other = palloc(sizeof(Term));
			*other = *term;
			making->ranges = lappend(making->ranges, other);
		}
		else
			other->selectivity = Max(other->selectivity + term->selectivity - 1, 0.005);
	}
	list_sort(making->equal, compare_equal);
	list_sort(making->ranges, compare_range);
}

/* Columns that are joined with each other relation. */
static void
group_joins(Making *making)
{
	Relids with = NULL;
	ListCell *cell;
	int other = -1;

	foreach(cell, making->use->joins)
	{
		Term *term = lfirst(cell);

		if (term->kind == TERM_EQUAL)
			with = bms_add_members(with, term->with);
	}
	while ((other = bms_next_member(with, other)) >= 0)
	{
		List *group = NIL;
		List *terms = NIL;
		bool seen = false;

		foreach(cell, making->use->joins)
		{
			Term *term = lfirst(cell);

			if (term->kind == TERM_EQUAL && bms_is_member(other, term->with) &&
				term_of(terms, &term->column) == NULL)
				terms = lappend(terms, term);
		}
		list_sort(terms, compare_equal);
		group = term_columns(terms, MAX_EQUAL);
		foreach(cell, making->groups)
		{
			List *before = lfirst(cell);

			if (list_length(before) == list_length(group) &&
				list_length(with_columns(before, group, INDEX_MAX_KEYS)) == list_length(before))
				seen = true;
		}
		if (!seen)
			making->groups = lappend(making->groups, group);
	}
}

static void
draft_restrictions(Making *making)
{
	List *equal = term_columns(making->equal, MAX_EQUAL);
	int nequal = list_length(equal);
	Term *first = list_length(making->ranges) > 0 ? linitial(making->ranges) : NULL;
	Term *second = list_length(making->ranges) > 1 ? lsecond(making->ranges) : NULL;

	if (equal != NIL)
	{
		draft_btree(making, equal, nequal, NULL);
		if (first == NULL)
			draft_wide(making, equal, nequal, NULL);
		if (nequal > 1)
			draft_btree(making, list_make1(linitial(equal)), 1, NULL);
	}
	if (first == NULL)
		return;
	if (equal != NIL)
	{
		draft_both(making, with_term(equal, first), nequal, NULL);
		if (second != NULL)
			draft_btree(making, with_term(equal, second), nequal, NULL);
	}
	if (second != NULL)
		draft_btree(making, with_term(with_term(equal, first), second), nequal, NULL);
	draft_both(making, with_term(NIL, first), 0, NULL);
	if (second != NULL)
		draft_both(making, with_term(NIL, second), 0, NULL);
}

static void
draft_joins(Making *making)
{
	List *equal = term_columns(making->equal, MAX_EQUAL);
	Term *range = making->ranges != NIL ? linitial(making->ranges) : NULL;
	ListCell *cell;

	foreach(cell, making->groups)
	{
		List *group = lfirst(cell);
		List *more = with_columns(group, equal, MAX_KEYS);
		int ngroup = list_length(group);

		draft_btree(making, group, ngroup, NULL);
		if (ngroup > 1)
			draft_btree(making, list_make1(linitial(group)), 1, NULL);
		if (equal != NIL)
		{
			draft_btree(making, more, list_length(more), NULL);
			draft_both(making, with_columns(equal, group, MAX_KEYS), list_length(equal), NULL);
		}
		if (range != NULL)
			draft_btree(making, with_term(more, range), list_length(more), NULL);
		draft_wide(making, range != NULL ? with_term(more, range) : more, list_length(more), NULL);
	}
}

static void
draft_orders(Making *making)
{
	List *plain = term_columns(making->equal, Min(making->nplain, MAX_EQUAL - 1));
	List *filters =
		list_concat(term_columns(making->equal, MAX_EQUAL), term_columns(making->ranges, 1));
	ListCell *cell;

	foreach(cell, making->use->orders)
	{
		WantedOrder *order = lfirst(cell);
		List *keys = with_columns(plain, order->columns, MAX_KEYS);

		draft_both(making, keys, list_length(plain), order);
		if (plain != NIL && order->limited)
			draft_btree(making, list_truncate(list_copy(order->columns), MAX_KEYS), 0, order);
		if (list_length(with_columns(keys, filters, MAX_KEYS)) > list_length(keys))
			draft_btree(making, with_columns(keys, filters, MAX_KEYS), list_length(plain), order);
	}
}

static void
draft_arms(Making *making)
{
	List *equal = making->equal;
	List *ranges = making->ranges;
	int nplain = making->nplain;
	ListCell *cell;

	foreach(cell, making->use->arms)
	{
		List *keys;

		sort_terms(making, lfirst(cell), NIL);
		keys = term_columns(making->equal, MAX_EQUAL);
		if (making->ranges != NIL)
			keys = with_term(keys, linitial(making->ranges));
		draft_btree(making, keys, list_length(making->equal), NULL);
	}
	making->equal = equal;
	making->ranges = ranges;
	making->nplain = nplain;
}

/* What only other access methods search, BRIN, and hashes of what is too wide for a btree. */
static void
draft_others(Making *making)
{
	const TableUse *use = making->use;
	List *terms = list_concat(list_copy(use->terms), use->joins);
	ListCell *cell;

	foreach(cell, use->arms)
		terms = list_concat(terms, lfirst(cell));
	foreach(cell, terms)
	{
		Term *term = lfirst(cell);
		Draft *draft;

		if (term->kind == TERM_SEARCH)
		{
			draft = palloc0(sizeof(Draft));
			draft->am = term->am;
			draft->keys = list_make1(&term->column);
			draft->predicate = making->predicate;
			draft->worth = use->pages + use->tuples * 0.01 * (1 - term->selectivity);
			making->drafts = lappend(making->drafts, draft);
		}
		else if (term->kind == TERM_EQUAL && !term->list && term->column.width > WIDE_KEY &&
				 OidIsValid(GetDefaultOpClass(term->column.type, HASH_AM_OID)))
		{
			draft = palloc0(sizeof(Draft));
			draft->am = HASH_AM_OID;
			draft->keys = list_make1(&term->column);
			draft->predicate = making->predicate;
			draft->worth = use->pages * (1 - term->selectivity);
			making->drafts = lappend(making->drafts, draft);
		}
		else if (making->predicate == NIL && use->pages >= BRIN_PAGES && term->with == NULL &&
				 term->correlation >= BRIN_CORRELATION && term->column.attnum != 0 &&
				 OidIsValid(GetDefaultOpClass(term->column.type, BRIN_AM_OID)))
		{
			draft = palloc0(sizeof(Draft));
			draft->am = BRIN_AM_OID;
			draft->keys = list_make1(&term->column);
			draft->worth = use->pages * (1 - term->selectivity);
			making->drafts = lappend(making->drafts, draft);
		}
	}
}

/* Nothing to search: an index that is narrower than the table. */
static void
draft_narrow(Making *making)
{
	const TableUse *use = making->use;
	Bitmapset *needed;
	List *keys = NIL;
	int member = -1;
	ListCell *cell;

	if (making->drafts != NIL || !use->coverable)
		return;
	foreach(cell, use->terms)
		if (((Term *) lfirst(cell))->kind == TERM_SEARCH)
			return;
	needed = needed_columns(making);
	while ((member = bms_next_member(needed, member)) >= 0 && keys == NIL)
	{
		KeyColumn *key = palloc0(sizeof(KeyColumn));
		int32 typmod;

		key->attnum = member + FirstLowInvalidHeapAttributeNumber;
		get_atttypetypmodcoll(use->table, key->attnum, &key->type, &typmod, &key->collation);
		if (!OidIsValid(GetDefaultOpClass(key->type, BTREE_AM_OID)))
			continue;
		key->width = column_width(use->table, key->attnum);
		key->distinct = column_distinct(use->table, key->attnum, use->tuples);
		keys = list_make1(key);
	}
	draft_wide(making, keys, 0, NULL);
}

/* --- partial -------------------------------------------------------------------------------------- */

static void
draft_with_predicate(Making *making, const List *clauses)
{
	const TableUse *use = making->use;
	List *without = NIL;
	List *keys = NIL;
	ListCell *cell;

	making->predicate = NIL;
	making->share = 1;
	foreach(cell, clauses)
	{
		PartialClause *partial = lfirst(cell);

		making->predicate = lappend(making->predicate, partial->clause);
		making->share *= partial->selectivity;
		if (partial->alone)
		{
			KeyColumn *column = palloc0(sizeof(KeyColumn));

			column->attnum = partial->attnum;
			column->expression = partial->expression;
			without = lappend(without, column);
		}
	}
	if (making->share <= PARTIAL_SHARE)
	{
		sort_terms(making, use->terms, without);
		keys = term_columns(making->equal, MAX_EQUAL - 1);
		if (making->ranges != NIL)
			keys = with_term(keys, linitial(making->ranges));
		if (keys != NIL)
			draft_both(making, keys, list_length(making->equal), NULL);
		foreach(cell, making->groups)
			draft_both(making, with_columns(lfirst(cell), keys, MAX_KEYS), 0, NULL);
		foreach(cell, use->orders)
		{
			WantedOrder *order = lfirst(cell);

			draft_both(
				making,
				with_columns(term_columns(making->equal, making->nplain), order->columns, MAX_KEYS),
				making->nplain,
				order);
		}
		draft_others(making);
		if (keys == NIL && making->groups == NIL && use->orders == NIL)
		{
			PartialClause *partial = linitial(clauses);
			Term *term = NULL;
			KeyColumn column = {.attnum = partial->attnum, .expression = partial->expression};

			/* nothing else is asked: what is read, or else the column itself */
			draft_narrow(making);
			foreach(cell, use->terms)
				if (same_column(&((Term *) lfirst(cell))->column, &column))
					term = lfirst(cell);
			if (term != NULL)
				draft_btree(making, list_make1(&term->column), 0, NULL);
		}
	}
	making->predicate = NIL;
	making->share = 1;
}

static void
draft_partial(Making *making, const List *allowed)
{
	List *saved = making->drafts;
	List *drafts = NIL;
	int nalone = 0;
	ListCell *cell;

	making->drafts = NIL;
	foreach(cell, allowed)
	{
		PartialClause *partial = lfirst(cell);

		if (!partial->alone || nalone == 2)
			break;
		nalone++;
		draft_with_predicate(making, list_make1(partial));
		drafts = list_concat(drafts, making->drafts);
		making->drafts = NIL;
	}
	if (nalone > 0 && list_length(allowed) > 1)
	{
		draft_with_predicate(making, list_truncate(list_copy(allowed), MAX_PREDICATES));
		drafts = list_concat(drafts, making->drafts);
	}
	making->drafts = list_concat(saved, drafts);
}

/* --- choice ------------------------------------------------------------------------------------------- */

/* Finished in the set's context; the id of it or of its equal. */
static int
place_draft(CandidateSet *set, Oid table, const Draft *draft, double calls)
{
	MemoryContext caller = MemoryContextSwitchTo(set->context);
	int nkeys = list_length(draft->keys);
	int ncolumns = nkeys + bms_num_members(draft->include);
	HypotheticalIndex *index = hypothetical_make(table, get_am_name(draft->am), ncolumns);
	bool possible = true;
	int member = -1;
	int id = -1;
	ListCell *cell;

	index->nkeys = nkeys;
	foreach(cell, draft->keys)
	{
		KeyColumn *key = lfirst(cell);
		int i = foreach_current_index(cell);
		HypotheticalColumn *column = &index->columns[i];

		possible &=
			hypothetical_set_column(index, i, key->attnum, copyObject(key->expression), false) ||
			OidIsValid(key->opclass);
		if (OidIsValid(key->opclass))
			column->opclass = key->opclass;
		if (OidIsValid(key->collation))
			column->collation = key->collation;
		column->descending = key->descending;
		column->nulls_first = key->nulls_first;
	}
	while ((member = bms_next_member(draft->include, member)) >= 0)
		hypothetical_set_column(
			index, nkeys++, member + FirstLowInvalidHeapAttributeNumber, NULL, true);
	index->nkeys = list_length(draft->keys);
	index->predicate = copyObject(draft->predicate);
	if (possible)
		id = candidates_place(set, index, draft->free, draft->worth * calls);
	MemoryContextSwitchTo(caller);
	return id;
}

static int
compare_worth(const ListCell *a, const ListCell *b)
{
	const Draft *left = lfirst(a);
	const Draft *right = lfirst(b);

	return left->worth > right->worth ? -1 : left->worth < right->worth;
}

/* The best ones, narrow and wide and partial in turn: a small budget needs other ones than a large one. */
static List *
best_drafts(List *drafts)
{
	List *kinds[3] = {NIL, NIL, NIL};
	List *result = NIL;
	ListCell *cell;

	foreach(cell, drafts)
	{
		Draft *draft = lfirst(cell);
		int kind = draft->predicate != NIL ? 2 : draft->wide ? 1 : 0;

		kinds[kind] = lappend(kinds[kind], draft);
	}
	for (int i = 0; i < lengthof(kinds); i++)
		list_sort(kinds[i], compare_worth);
	for (int rank = 0; list_length(result) < MAX_PER_TABLE_USE; rank++)
	{
		bool more = false;

		for (int i = 0; i < lengthof(kinds); i++)
			if (rank < list_length(kinds[i]))
			{
				result = lappend(result, list_nth(kinds[i], rank));
				more = true;
			}
		if (!more)
			break;
	}
	return result;
}

/* Does every query of the statement that reads the table have the clause? */
static bool
in_all_queries(const AdvisorStatement *statement, const List *uses, const TableUse *use,
			   const PartialClause *partial)
{
	for (int query = 0; query < statement->nqueries; query++)
	{
		bool found = false;
		ListCell *cell;

		foreach(cell, uses)
		{
			TableUse *other = lfirst(cell);

			if (other->query == query && other->table == use->table &&
				list_member(other->clauses, partial->clause))
				found = true;
		}
		if (!found)
			return false;
	}
	return true;
}

static bool
is_value_walker(Node *node, void *context)
{
	ParamListInfo params = context;

	if (node == NULL)
		return false;
	if (IsA(node, Const))
	{
		Const *constant = (Const *) node;
		Oid element = get_element_type(constant->consttype);

		for (int i = 0; i < params->numParams; i++)
		{
			ParamExternData *param = &params->params[i];

			if (!OidIsValid(param->ptype) || param->isnull || constant->constisnull)
				continue;
			if (param->ptype == element)
				return true;
			if (param->ptype == constant->consttype &&
				datumIsEqual(
					param->value, constant->constvalue, constant->constbyval, constant->constlen))
				return true;
		}
		return false;
	}
	return expression_tree_walker(node, is_value_walker, context);
}

/* Clauses that hold for the statement whenever it runs, as far as is known: a parameter's value must have been seen twice. */
static List *
lasting_clauses(const AdvisorStatement *statement, const List *uses, const TableUse *use)
{
	List *result = NIL;
	ParamListInfo params = statement->queries[use->query].params;
	ListCell *cell;

	foreach(cell, use->partial)
	{
		PartialClause *partial = lfirst(cell);

		if (statement->nqueries > 1)
		{
			if (!in_all_queries(statement, uses, use, partial))
				continue;
		}
		else if (params != NULL && is_value_walker(partial->clause, params))
			continue;
		result = lappend(result, partial);
	}
	return result;
}

static List *
make_drafts(const AdvisorStatement *statement, const List *uses, const TableUse *use)
{
	Making making = {.use = use, .share = 1};

	sort_terms(&making, use->terms, NIL);
	group_joins(&making);
	draft_restrictions(&making);
	draft_joins(&making);
	draft_orders(&making);
	draft_arms(&making);
	draft_narrow(&making);
	draft_others(&making);
	draft_partial(&making, lasting_clauses(statement, uses, use));
	return best_drafts(making.drafts);
}

void
make_candidates(CandidateSet *set, const AdvisorStatement *statement, List *uses)
{
	List *lists = NIL;
	Bitmapset *ids = NULL;
	ListCell *cell;
	int count = 0;
	MemoryContext caller;

	foreach(cell, uses)
		lists = lappend(lists, make_drafts(statement, uses, lfirst(cell)));

	/* the best of each table, then the second best of each... */
	for (int rank = 0; rank < MAX_PER_TABLE_USE + 2 && count < MAX_PER_STATEMENT; rank++)
	{
		ListCell *use;

		CHECK_FOR_INTERRUPTS();
		forboth(cell, lists, use, uses)
		{
			List *drafts = lfirst(cell);
			int id;

			if (rank >= list_length(drafts) || count >= MAX_PER_STATEMENT)
				continue;
			id = place_draft(
				set, ((TableUse *) lfirst(use))->table, list_nth(drafts, rank), statement->calls);
			if (id < 0 || bms_is_member(id, ids))
				continue;
			ids = bms_add_member(ids, id);
			count++;
		}
	}
	caller = MemoryContextSwitchTo(set->context);
	set->of_statement[statement->id] = bms_add_members(set->of_statement[statement->id], ids);
	MemoryContextSwitchTo(caller);
}
