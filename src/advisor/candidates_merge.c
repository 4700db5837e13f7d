/*
 * candidates_merge.c
 *		What the statements' candidates could do for each other.
 *
 * Narrower forms: an index without its INCLUDEd columns, and its first key
 * alone, serve more statements for fewer bytes.  Merges: where one's keys begin
 * with the other's, or would if keys whose order does not matter changed
 * places, one index serves both; and two with the same keys that carry
 * different columns become one that carries both.  (The idea of merging is that
 * of Chaudhuri and Narasayya, "Index merging", ICDE 1999.)
 *
 * Then each statement is told which indexes might serve it: those on its tables
 * whose first column it searches, joins or sorts by, and whose predicate its
 * clauses imply.
 *
 * Memory: the set's context for what stays, the current one for what does not.
 * Cost: pairs on the same table with the same first keys, at most a sixth as many
 * as there are.
 */
#include "pgopt.h"

#include "access/sysattr.h"
#include "catalog/pg_am.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/lsyscache.h"

#include "candidates_private.h"

#define MIN_MERGES 16

/* --- what statements look for -------------------------------------------------------------- */

static void
remember_column(StatementUse *kept, const KeyColumn *column)
{
	if (column->attnum != 0)
		kept->columns = bms_add_member(kept->columns, column_member(column->attnum));
	else if (!list_member(kept->expressions, column->expression))
		kept->expressions = lappend(kept->expressions, copyObject(column->expression));
}

static void
remember_terms(StatementUse *kept, const List *terms)
{
	ListCell *cell;

	foreach(cell, terms)
		remember_column(kept, &((Term *) lfirst(cell))->column);
}

void
remember_uses(CandidateSet *set, const AdvisorStatement *statement, List *uses)
{
	MemoryContext caller = MemoryContextSwitchTo(set->context);
	ListCell *cell;

	set->private->statements[statement->id] = statement;
	foreach(cell, uses)
	{
		TableUse *use = lfirst(cell);
		StatementUse *kept = palloc0(sizeof(StatementUse));
		ListCell *inner;

		kept->statement = statement->id;
		kept->table = use->table;
		remember_terms(kept, use->terms);
		remember_terms(kept, use->joins);
		foreach(inner, use->arms)
			remember_terms(kept, lfirst(inner));
		foreach(inner, use->orders)
		{
			WantedOrder *order = lfirst(inner);

			remember_column(kept, linitial(order->columns));
		}
		kept->clauses = copyObject(use->clauses);
		if (use->coverable)
		{
			kept->needed = bms_copy(use->output);
			foreach(inner, use->clause_columns)
				kept->needed = bms_add_members(kept->needed, lfirst(inner));
		}
		set->private->uses = lappend(set->private->uses, kept);
	}
	MemoryContextSwitchTo(caller);
}

/* --- forms -------------------------------------------------------------------------------------- */

static bool
same_key(const HypotheticalColumn *a, const HypotheticalColumn *b)
{
	return a->attnum == b->attnum && a->opclass == b->opclass && a->collation == b->collation &&
		   a->descending == b->descending && a->nulls_first == b->nulls_first &&
		   (a->attnum != 0 || equal(a->expression, b->expression));
}

static bool
has_key(const HypotheticalIndex *index, int first, int last, const HypotheticalColumn *column)
{
	for (int i = first; i < last; i++)
		if (same_key(&index->columns[i], column))
			return true;
	return false;
}

static bool
has_attribute(const HypotheticalIndex *index, int ncolumns, AttrNumber attnum)
{
	for (int i = 0; i < ncolumns; i++)
		if (index->columns[i].attnum == attnum)
			return true;
	return false;
}

/* With so many of its keys, and nothing INCLUDEd. */
static void
add_prefix(CandidateSet *set, int id, int nkeys)
{
	const HypotheticalIndex *index = set->indexes[id];
	CandidateNotes *notes = &set->private->notes[id];
	HypotheticalIndex *prefix = hypothetical_make(index->table, "btree", nkeys);

	memcpy(prefix->columns, index->columns, sizeof(HypotheticalColumn) * nkeys);
	prefix->predicate = index->predicate;
	candidates_place(set, prefix, Min(notes->free, nkeys), 0);
}

static void
add_narrower(CandidateSet *set)
{
	int count = set->count;

	for (int i = 0; i < count; i++)
	{
		const HypotheticalIndex *index = set->indexes[i];

		if (index->am != BTREE_AM_OID)
			continue;
		if (index->ncolumns > index->nkeys)
			add_prefix(set, i, index->nkeys);
		if (index->nkeys > 1 && index->predicate == NIL)
			add_prefix(set, i, 1);
		if (index->nkeys > 2 && index->predicate == NIL)
			add_prefix(set, i, index->nkeys - 1);
	}
}

/*
 * One that serves both: a's keys, then b's, then what either INCLUDEs.  b's keys
 * must begin with a's, in any order where either does not mind; or they begin
 * alike, and what follows is INCLUDEd, so that the table need not be read.  NULL
 * where neither is so.
 */
static HypotheticalIndex *
merge_two(CandidateSet *set, int a, int b)
{
	const HypotheticalIndex *left = set->indexes[a];
	const HypotheticalIndex *right = set->indexes[b];
	int common = left->nkeys;
	int free_left = set->private->notes[a].free;
	int free_right = set->private->notes[b].free;
	const HypotheticalIndex *first = left;
	HypotheticalIndex *merged;
	HypotheticalColumn columns[MAX_COLUMNS];
	int n = 0;
	int nkeys;

	if (right->nkeys < common)
		return NULL;
	for (int i = 0; i < common; i++)
		if (!has_key(right, 0, common, &left->columns[i]))
			common = 0;
	if (common > 0 && free_right < common)
	{
		/* b minds: then its order, where a does not */
		bool same = true;

		for (int i = 0; i < common; i++)
			same &= same_key(&left->columns[i], &right->columns[i]);
		if (!same && free_left < common)
			common = 0;
		first = right;
	}
	if (common == 0)
	{
		/* what they begin with alike is kept in order, the rest is carried along */
		if ((a > b && left->nkeys == right->nkeys) ||
			(left->ncolumns == left->nkeys && right->ncolumns == right->nkeys))
			return NULL;
		while (common < left->nkeys && same_key(&left->columns[common], &right->columns[common]))
			common++;
		if (common == 0)
			return NULL;
		for (int i = 0; i < common; i++)
			columns[n++] = left->columns[i];
	}
	else
	{
		for (int i = 0; i < common; i++)
			columns[n++] = first->columns[i];
		for (int i = common; i < right->nkeys; i++)
			columns[n++] = right->columns[i];
	}
	nkeys = n;
	for (int side = 0; side < 2; side++)
	{
		const HypotheticalIndex *from = side == 0 ? left : right;

		for (int i = 0; i < from->ncolumns; i++)
		{
			bool there = from->columns[i].attnum == 0;

			for (int j = 0; j < n && !there; j++)
				there = columns[j].attnum == from->columns[i].attnum;
			if (there)
				continue;
			if (n == MAX_COLUMNS)
				return NULL;
			columns[n] = from->columns[i];
			columns[n].opclass = InvalidOid;
			columns[n].collation = InvalidOid;
			columns[n].descending = false;
			columns[n].nulls_first = false;
			n++;
		}
	}
	if (nkeys > MAX_KEYS)
		return NULL;
	merged = hypothetical_make(left->table, "btree", n);
	memcpy(merged->columns, columns, sizeof(HypotheticalColumn) * n);
	merged->nkeys = nkeys;
	merged->predicate = left->predicate;
	return merged;
}

typedef struct Pair
{
	int a;
	int b;
	double worth;
} Pair;

static int
compare_pairs(const void *a, const void *b)
{
	const Pair *left = a;
	const Pair *right = b;

	return left->worth > right->worth ? -1 : left->worth < right->worth;
}

/* Those first that help most together. */
static void
add_merges(CandidateSet *set)
{
	int count = set->count;
	int limit = Max(count / 6, MIN_MERGES);
	int npairs = 0;
	int size = 1024;
	Pair *pairs = palloc(sizeof(Pair) * size);

	for (int a = 0; a < count; a++)
	{
		const HypotheticalIndex *left = set->indexes[a];

		CHECK_FOR_INTERRUPTS();
		if (left->am != BTREE_AM_OID)
			continue;
		for (int b = 0; b < count; b++)
		{
			const HypotheticalIndex *right = set->indexes[b];

			if (a == b || right->table != left->table || right->am != BTREE_AM_OID ||
				!has_key(right, 0, left->nkeys, &left->columns[0]) ||
				!equal(left->predicate, right->predicate))
				continue;
			if (npairs == size)
				pairs = repalloc(pairs, sizeof(Pair) * (size *= 2));
			pairs[npairs].a = a;
			pairs[npairs].b = b;
			pairs[npairs++].worth = set->private->notes[a].worth + set->private->notes[b].worth;
		}
	}
	qsort(pairs, npairs, sizeof(Pair), compare_pairs);
	for (int i = 0; i < npairs && set->count < count + limit; i++)
	{
		HypotheticalIndex *merged = merge_two(set, pairs[i].a, pairs[i].b);

		if (merged != NULL)
			candidates_place(set, merged, 0, 0);
	}
	pfree(pairs);
}

/* --- who is served --------------------------------------------------------------------------------- */

typedef struct Service
{
	int id;
	int kind; /* narrow first, then those that spare the table, then others */
	double worth;
} Service;

static int
compare_services(const void *a, const void *b)
{
	const Service *left = a;
	const Service *right = b;

	if (left->kind != right->kind)
		return left->kind - right->kind;
	return left->worth > right->worth ? -1 : left->worth < right->worth;
}

/* So many keys from the first on does the statement search, join or sort by. */
static int
useful_keys(const HypotheticalIndex *index, const StatementUse *use)
{
	for (int i = 0; i < index->nkeys; i++)
	{
		const HypotheticalColumn *column = &index->columns[i];

		if (column->attnum != 0 ? !bms_is_member(column_member(column->attnum), use->columns)
								: !list_member(use->expressions, column->expression))
			return i;
	}
	return index->nkeys;
}

/* Is there a real index that has these first keys?  Looked up once. */
static bool
prefix_is_real(CandidateSet *set, int id, int nkeys)
{
	const HypotheticalIndex *index = set->indexes[id];
	CandidateNotes *notes = &set->private->notes[id];

	if (index->am != BTREE_AM_OID || nkeys > MAX_KEYS)
		return false;
	if (notes->real[nkeys] == 0)
	{
		HypotheticalIndex prefix = *index;

		prefix.nkeys = prefix.ncolumns = nkeys;
		prefix.predicate = NIL;
		notes->real[nkeys] = OidIsValid(hypothetical_covered_by(&prefix)) ? 1 : -1;
	}
	return notes->real[nkeys] > 0;
}

/* How it would serve: 0 to 2, -1 = not at all. */
static int
service_of(CandidateSet *set, int id, const StatementUse *use)
{
	const HypotheticalIndex *index = set->indexes[id];
	int searched;
	bool covering = use->needed != NULL && index->am == BTREE_AM_OID;
	int member = -1;

	if (index->table != use->table)
		return -1;
	searched = useful_keys(index, use);
	while (covering && (member = bms_next_member(use->needed, member)) >= 0)
		covering =
			has_attribute(index, index->ncolumns, member + FirstLowInvalidHeapAttributeNumber);
	if (!covering && index->predicate == NIL &&
		(searched == 0 || prefix_is_real(set, id, searched)))
		return -1;
	if (index->predicate != NIL && !predicate_implied_by(index->predicate, use->clauses, false))
		return -1;
	if (index->nkeys == index->ncolumns)
		return 0;
	return covering ? 1 : 2;
}

typedef struct Assignment
{
	CandidateSet *set;
	int statement;
} Assignment;

static void
assign_statement(void *arg)
{
	Assignment *here = arg;
	CandidateSet *set = here->set;
	Bitmapset **own = &set->of_statement[here->statement];
	int limit = Max(MAX_PER_STATEMENT, bms_num_members(*own) + MAX_PER_STATEMENT / 4);
	Service *services = palloc(sizeof(Service) * Max(set->count, 1));
	int nservices = 0;

	for (int i = 0; i < set->count; i++)
	{
		int kind = -1;
		ListCell *cell;

		if (bms_is_member(i, *own))
			continue;
		foreach(cell, set->private->uses)
		{
			const StatementUse *use = lfirst(cell);
			int one;

			if (use->statement != here->statement)
				continue;
			one = service_of(set, i, use);
			if (one >= 0 && (kind < 0 || one < kind))
				kind = one;
		}
		if (kind < 0)
			continue;
		services[nservices].id = i;
		services[nservices].kind = kind;
		services[nservices++].worth = set->private->notes[i].worth;
	}
	qsort(services, nservices, sizeof(Service), compare_services);
	for (int i = 0; i < nservices && bms_num_members(*own) < limit; i++)
		*own = bms_add_member(*own, services[i].id);
	pfree(services);
}

/* As the statement's user: whether clauses imply a predicate is found out with operators on his constants. */
static void
assign_statements(CandidateSet *set)
{
	for (int i = 0; i < set->nstatements; i++)
	{
		Assignment here = {set, i};

		CHECK_FOR_INTERRUPTS();
		if (set->private->statements[i] != NULL)
			statement_as_user(set->private->statements[i], assign_statement, &here);
	}
}

void
candidates_merge(CandidateSet *set)
{
	MemoryContext caller = MemoryContextSwitchTo(set->context);

	add_narrower(set);
	add_merges(set);
	assign_statements(set);
	MemoryContextSwitchTo(caller);
}
