/*
 * evaluate.c
 *		A query on one document, the plain way; and compiled queries.
 *
 * Owns: the backend's cache of compiled queries.  An entry is good for one
 * statement: statistics change with every insert, and all rows of a statement
 * are to be scored with the same ones.
 *
 * Memory: an entry has a context of its own below "pgopt compiled searches",
 * which lives as long as the backend and holds COMPILED_MAX entries; an entry
 * that a scan has pinned outlives its place in the cache.  Cost: a look-up
 * compares the query's bytes; a miss parses the query and finds its terms in
 * every segment, of all partitions when it is bound to a partitioned index.
 */
#include "pgopt.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/xact.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compile.h"
#include "scan.h"
#include "view.h"

/* --- one document ----------------------------------------------------------------- */

HeldTerms *
held_terms_create(const SearchQuery *query)
{
	HeldTerms *terms = palloc(sizeof(HeldTerms));
	int n = Max(query->nterms, 1);

	terms->tf = palloc0(n * sizeof(double));
	terms->positions = palloc0(n * sizeof(uint32 *));
	terms->npositions = palloc0(n * sizeof(uint32));
	return terms;
}

/* Is the value among the positions, which ascend? */
static bool
has_position(const uint32 *positions, uint32 n, uint32 value)
{
	uint32 low = 0;
	uint32 high = n;

	while (low < high)
	{
		uint32 middle = low + (high - low) / 2;

		if (positions[middle] < value)
			low = middle + 1;
		else
			high = middle;
	}
	return low < n && positions[low] == value;
}

bool
phrase_occurs(const QueryClause *clause, int field_bits, const uint32 *const *positions,
			  const uint32 *npositions)
{
	uint32 field_mask = ((uint32) 1 << field_bits) - 1;

	for (uint32 p = 0; p < npositions[0]; p++)
	{
		uint32 first = positions[0][p];
		int i;

		if (!(clause->fields & (1U << (first & field_mask))))
			continue;
		for (i = 1; i < clause->nterms; i++)
			if (!has_position(positions[i],
							  npositions[i],
							  first + ((clause->places[i] - clause->places[0]) << field_bits)))
				break;
		if (i == clause->nterms)
			return true;
	}
	return false;
}

static bool
clause_holds(const QueryClause *clause, const SearchSettings *settings, const HeldTerms *terms)
{
	const uint32 **positions;
	uint32 *npositions;
	bool occurs;

	for (int i = 0; i < clause->nterms; i++)
		if (terms->tf[clause->terms[i]] <= 0)
			return false;
	if (clause->nterms == 0)
		return false;
	if (!clause->phrase || clause->nterms == 1 || !settings->positions)
		return true;

	positions = palloc(clause->nterms * sizeof(uint32 *));
	npositions = palloc(clause->nterms * sizeof(uint32));
	for (int i = 0; i < clause->nterms; i++)
	{
		positions[i] = terms->positions[clause->terms[i]];
		npositions[i] = terms->npositions[clause->terms[i]];
	}
	occurs = phrase_occurs(clause, settings->field_bits, positions, npositions);
	pfree(positions);
	pfree(npositions);
	return occurs;
}

bool
query_matches(const SearchQuery *query, const SearchSettings *settings, const HeldTerms *terms,
			  bool *held)
{
	bool must = false;
	bool any = false;

	for (int c = 0; c < query->nclauses; c++)
	{
		const QueryClause *clause = &query->clauses[c];
		bool holds = clause_holds(clause, settings, terms);

		if (held != NULL)
			held[c] = holds && clause->sign != CLAUSE_MUST_NOT;
		switch (clause->sign)
		{
			case CLAUSE_MUST:
				must = true;
				if (!holds)
					return false;
				break;
			case CLAUSE_MUST_NOT:
				if (holds && clause_decidable(clause, settings))
					return false;
				break;
			case CLAUSE_SHOULD:
				any |= holds;
				break;
		}
	}
	return must || any;
}

double *
query_idf(const SearchQuery *query, const SearchStats *stats)
{
	double *idf = palloc(Max(query->nterms, 1) * sizeof(double));

	for (int i = 0; i < query->nterms; i++)
		idf[i] =
			score_idf(stats->collection.ndocs, Min((double) stats->df[i], stats->collection.ndocs));
	return idf;
}

bool *
query_phrase_terms(const SearchQuery *query)
{
	bool *terms = palloc0(Max(query->nterms, 1) * sizeof(bool));

	for (int c = 0; c < query->nclauses; c++)
		if (query->clauses[c].phrase && query->clauses[c].nterms > 1)
			for (int i = 0; i < query->clauses[c].nterms; i++)
				terms[query->clauses[c].terms[i]] = true;
	return terms;
}

static const DocumentTerm *
find_document_term(const Document *document, const QueryTerm *wanted)
{
	int low = 0;
	int high = document->nterms;

	while (low < high)
	{
		int middle = low + (high - low) / 2;
		const DocumentTerm *term = &document->terms[middle];
		int order = term_compare(term->term, term->length, wanted->term, wanted->length);

		if (order == 0)
			return term;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

bool
search_evaluate(const CompiledQuery *compiled, const Document *document, Score *score)
{
	const SearchQuery *query = compiled->query;
	SearchSettings with_positions = *compiled->settings;
	const SearchSettings *settings = &with_positions;
	HeldTerms *terms = held_terms_create(query);
	bool *held = palloc0(Max(query->nclauses, 1) * sizeof(bool));
	double *idf;
	double norm;

	*score = 0;
	with_positions.positions =
		true; /* the document has them, whether the index keeps them or not */
	for (int i = 0; i < query->nterms; i++)
	{
		const DocumentTerm *term = find_document_term(document, &query->terms[i]);

		if (term == NULL)
			continue;
		terms->tf[i] = weighted_tf(settings, query->terms[i].fields, term->tf);
		terms->positions[i] = term->positions;
		terms->npositions[i] = term->npositions;
	}
	if (!query_matches(query, settings, terms, held))
		return false;
	idf = query_idf(query, &compiled->stats);
	norm = score_norm(&compiled->stats.collection, length_encode(document->length));
	for (int c = 0; c < query->nclauses; c++)
		if (held[c])
			*score += clause_part(&query->clauses[c], idf, terms->tf, norm);
	return true;
}

/* --- compiled queries ---------------------------------------------------------------- */

#define COMPILED_MAX 32

/* Which statement is at work. */
typedef struct StatementKey
{
	TimestampTz transaction;
	TimestampTz statement;
	CommandId command; /* of the snapshot: functions that write get new statistics */
} StatementKey;

typedef struct CompiledEntry
{
	CompiledQuery compiled; /* first: what callers hold is the entry */
	MemoryContext context;
	dlist_node node;
	bool cached;
	bool complete; /* with statistics */
	int pins;
	StatementKey key;
	Oid index;
	PgoptQuery *bound;
} CompiledEntry;

static dlist_head cache = DLIST_STATIC_INIT(cache); /* last used first */
static int cached = 0;
static MemoryContext cache_context = NULL;

static StatementKey
current_statement(void)
{
	StatementKey key = {0};

	key.transaction = GetCurrentTransactionStartTimestamp();
	key.statement = GetCurrentStatementStartTimestamp();
	key.command = ActiveSnapshotSet() ? GetActiveSnapshot()->curcid : InvalidCommandId;
	return key;
}

static bool
same_statement(const StatementKey *a, const StatementKey *b)
{
	return a->transaction == b->transaction && a->statement == b->statement &&
		   a->command == b->command;
}

static bool
same_query(const PgoptQuery *a, const PgoptQuery *b)
{
	return VARSIZE(a) == VARSIZE(b) && memcmp(a, b, VARSIZE(a)) == 0;
}

static void
forget_entry(CompiledEntry *entry)
{
	dlist_delete(&entry->node);
	entry->cached = false;
	cached--;
	if (entry->pins == 0)
		MemoryContextDelete(entry->context);
}

void
compiled_pin(const CompiledQuery *compiled)
{
	((CompiledEntry *) compiled)->pins++;
}

void
compiled_unpin(const CompiledQuery *compiled)
{
	CompiledEntry *entry = (CompiledEntry *) compiled;

	if (--entry->pins == 0 && !entry->cached)
		MemoryContextDelete(entry->context);
}

static void
end_of_keeping(void *compiled)
{
	compiled_unpin(compiled);
}

void
compiled_keep(const CompiledQuery *compiled)
{
	MemoryContextCallback *callback = palloc(sizeof(MemoryContextCallback));

	callback->func = end_of_keeping;
	callback->arg = unconstify(CompiledQuery *, compiled);
	compiled_pin(compiled);
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
}

/* The index at hand must be the query's own, or a partition's. */
static void
check_bound(Relation index, const PgoptQuery *query)
{
	if (!OidIsValid(query->index))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the search is not bound to an index"),
				 errhint("Write WHERE t @@@ 'words', where t is the table or a text column of its "
						 "pgopt_bm25 index.")));
	if (query->index != RelationGetRelid(index) &&
		!(index->rd_rel->relispartition &&
		  list_member_oid(get_partition_ancestors(RelationGetRelid(index)), query->index)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the search is bound to another index than \"%s\"",
						RelationGetRelationName(index))));
}

/* The name under which a query can ask for a column: the table's, where it is one. */
static const char *
field_name(Relation index, AttrNumber attno)
{
	AttrNumber column = index->rd_index->indkey.values[attno - 1];

	if (column != 0)
		return get_attname(index->rd_index->indrelid, column, false);
	return pstrdup(NameStr(TupleDescAttr(RelationGetDescr(index), attno - 1)->attname));
}

static SearchQuery *
parse_query(Relation index, const SearchSettings *settings, const PgoptQuery *query)
{
	const char *names[SEARCH_MAX_FIELDS];

	for (int f = 0; f < settings->nfields; f++)
		names[f] = field_name(index, settings->fields[f]);
	return search_query_parse(search_analyzer(index),
							  query->text,
							  PGOPT_QUERY_TEXT_LENGTH(query),
							  names,
							  settings->nfields,
							  query->fields);
}

static bool
same_terms(const SearchQuery *a, const SearchQuery *b)
{
	if (a->nterms != b->nterms)
		return false;
	for (int i = 0; i < a->nterms; i++)
		if (a->terms[i].length != b->terms[i].length ||
			memcmp(a->terms[i].term, b->terms[i].term, a->terms[i].length) != 0)
			return false;
	return true;
}

/* The statistics of all partitions; those of the query's terms as this partition writes them. */
static void
collect_partitions(CompiledEntry *entry)
{
	dlist_iter iter;
	List *indexes;
	ListCell *lc;
	const SearchQuery *query = entry->compiled.query;

	/* Another partition has usually asked for the same before. */
	dlist_foreach(iter, &cache)
	{
		CompiledEntry *other = dlist_container(CompiledEntry, node, iter.cur);

		if (other != entry && other->complete && same_statement(&other->key, &entry->key) &&
			same_query(other->bound, entry->bound) && same_terms(other->compiled.query, query))
		{
			entry->compiled.stats.collection = other->compiled.stats.collection;
			memcpy(
				entry->compiled.stats.df, other->compiled.stats.df, query->nterms * sizeof(uint64));
			return;
		}
	}

	indexes = find_all_inheritors(entry->bound->index, AccessShareLock, NULL);
	foreach(lc, indexes)
	{
		Relation leaf;
		SearchView *view;

		CHECK_FOR_INTERRUPTS();
		if (get_rel_relkind(lfirst_oid(lc)) != RELKIND_INDEX)
			continue;
		leaf = index_open(lfirst_oid(lc), AccessShareLock);
		view = search_view_open(leaf, query, NULL, 0);
		search_view_add_stats(view, &entry->compiled.stats);
		search_view_close(view);
		index_close(leaf, NoLock);
	}
	list_free(indexes);
}

static CompiledEntry *
create_entry(Relation index, const PgoptQuery *query)
{
	CompiledEntry *entry;
	SearchSettings *settings;
	MemoryContext context;
	MemoryContext old;

	check_bound(index, query);
	if (cache_context == NULL)
		cache_context = AllocSetContextCreate(
			TopMemoryContext, "pgopt compiled searches", ALLOCSET_DEFAULT_SIZES);

	/* Below the caller's context until it is whole. */
	context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt compiled search", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	entry = palloc0(sizeof(CompiledEntry));
	entry->context = context;
	entry->key = current_statement();
	entry->index = RelationGetRelid(index);
	entry->bound = palloc(VARSIZE(query));
	memcpy(entry->bound, query, VARSIZE(query));
	settings = palloc(sizeof(SearchSettings));
	*settings = *search_settings(index);
	entry->compiled.settings = settings;
	entry->compiled.query = parse_query(index, settings, query);
	entry->compiled.stats.df = palloc0(Max(entry->compiled.query->nterms, 1) * sizeof(uint64));
	MemoryContextSwitchTo(old);
	if (query->index != entry->index)
	{
		collect_partitions(entry);
		entry->complete = true;
	}
	MemoryContextSetParent(context, cache_context);
	return entry;
}

CompiledQuery *
compile_begin(Relation index, const PgoptQuery *query, bool *complete)
{
	StatementKey key = current_statement();
	CompiledEntry *entry = NULL;
	dlist_iter iter;

	dlist_foreach(iter, &cache)
	{
		CompiledEntry *candidate = dlist_container(CompiledEntry, node, iter.cur);

		if (candidate->index == RelationGetRelid(index) && same_query(candidate->bound, query))
		{
			entry = candidate;
			break;
		}
	}
	if (entry != NULL && !same_statement(&entry->key, &key))
	{
		forget_entry(entry);
		entry = NULL;
	}
	if (entry == NULL)
	{
		entry = create_entry(index, query);
		if (cached >= COMPILED_MAX)
			forget_entry(dlist_tail_element(CompiledEntry, node, &cache));
		dlist_push_head(&cache, &entry->node);
		entry->cached = true;
		cached++;
	}
	else
		dlist_move_head(&cache, &entry->node);
	*complete = entry->complete;
	return &entry->compiled;
}

void
compile_finish(CompiledQuery *compiled, SearchView *view)
{
	CompiledEntry *entry = (CompiledEntry *) compiled;

	memset(&compiled->stats.collection, 0, sizeof(CollectionStats));
	memset(compiled->stats.df, 0, compiled->query->nterms * sizeof(uint64));
	search_view_add_stats(view, &compiled->stats);
	entry->complete = true;
}

const CompiledQuery *
search_compile(Relation index, const PgoptQuery *query)
{
	bool complete;
	CompiledQuery *compiled = compile_begin(index, query, &complete);

	if (!complete)
	{
		SearchView *view = search_view_open(index, compiled->query, NULL, 0);

		compile_finish(compiled, view);
		search_view_close(view);
	}
	return compiled;
}
