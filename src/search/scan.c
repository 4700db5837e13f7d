/*
 * scan.c
 *		The access method's index scans.
 *
 * An ordered scan takes batches of the best documents, of growing size, each
 * continuing in the total order (score, heap pointer) after the last one that
 * was given.  The statistics are taken once a scan, so that the order does
 * not move; when the index is opened anew between two batches, rows that the
 * caller's snapshot sees have the same score as before, and nothing is given
 * twice.  After the matches, a scan that has an order and no search condition
 * gives all other documents with score 0.  A scan without an order streams
 * the matches.
 *
 * Owns: the list of this backend's open scans, from which functions in the
 * same statement take the score of the row at hand (search_known_score).
 *
 * Memory: a context for the scan, which leaves the list when it is deleted,
 * at an error too; below it one for each rescan.  Locks: none beyond the
 * executor's on the index.
 */
#include "pgopt.h"

#include "access/relscan.h"
#include "catalog/pg_type.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "compat.h"
#include "compile.h"
#include "handler.h"
#include "scan.h"
#include "view.h"

#define FIRST_BATCH  64
#define BATCH_GROWTH 4
#define MAX_BATCH    (1 << 26)

typedef struct OpenScan
{
	MemoryContext context;
	MemoryContext run; /* since the last rescan */
	MemoryContextCallback on_delete;
	dlist_node node;
	IndexScanDesc scan;

	/* The scan at hand. */
	bool started;
	bool finished;
	bool ordered;
	bool null_order; /* the query to order by is NULL */
	const PgoptQuery *order;
	int npinned;
	const CompiledQuery **pinned;
	SearchView *view;
	int batch;
	SearchHit *hits;
	int nhits;
	int at;
	SearchHit last;
	bool gave;      /* `last` is set */
	bool others;    /* documents that do not match are wanted after the matches ... */
	bool in_others; /* ... and are being given */
	bool current;   /* `score` is that of the row that was just given */
	Score score;
} OpenScan;

static dlist_head open_scans = DLIST_STATIC_INIT(open_scans);

/* --- beginning and end ------------------------------------------------------------------ */

static void
unpin_all(OpenScan *state)
{
	while (state->npinned > 0)
		compiled_unpin(state->pinned[--state->npinned]);
}

static void
forget_scan(void *arg)
{
	OpenScan *state = arg;

	unpin_all(state);
	dlist_delete(&state->node);
}

IndexScanDesc
search_beginscan(Relation index, int nkeys, int norderbys)
{
	IndexScanDesc scan = RelationGetIndexScan(index, nkeys, norderbys);
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt index scan", ALLOCSET_SMALL_SIZES);
	OpenScan *state = MemoryContextAllocZero(context, sizeof(OpenScan));

	if (norderbys > 1)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("an index scan can be ordered by one search only")));
	state->context = context;
	/* not below it: children are gone when forget_scan() is called */
	state->pinned = MemoryContextAlloc(context, (nkeys + norderbys + 1) * sizeof(CompiledQuery *));
	state->run = AllocSetContextCreate(context, "run", ALLOCSET_DEFAULT_SIZES);
	state->scan = scan;
	state->on_delete.func = forget_scan;
	state->on_delete.arg = state;
	MemoryContextRegisterResetCallback(context, &state->on_delete);
	dlist_push_head(&open_scans, &state->node);

	if (norderbys > 0)
	{
		scan->xs_orderbyvals = palloc0(norderbys * sizeof(Datum));
		scan->xs_orderbynulls = palloc(norderbys * sizeof(bool));
		memset(scan->xs_orderbynulls, true, norderbys * sizeof(bool));
	}
	scan->opaque = state;
	return scan;
}

void
search_rescan(IndexScanDesc scan, ScanKey keys, int nkeys, ScanKey orderbys, int norderbys)
{
	OpenScan *state = scan->opaque;

	if (keys != NULL && scan->numberOfKeys > 0)
		memmove(scan->keyData, keys, scan->numberOfKeys * sizeof(ScanKeyData));
	if (orderbys != NULL && scan->numberOfOrderBys > 0)
		memmove(scan->orderByData, orderbys, scan->numberOfOrderBys * sizeof(ScanKeyData));

	unpin_all(state);
	MemoryContextReset(state->run);
	state->started = false;
	state->finished = false;
	state->current = false;
	state->gave = false;
	state->in_others = false;
	state->order = NULL;
	state->view = NULL;
	state->hits = NULL;
	state->nhits = 0;
	state->at = 0;
	state->batch = 0;
}

void
search_endscan(IndexScanDesc scan)
{
	OpenScan *state = scan->opaque;

	scan->opaque = NULL;
	MemoryContextDelete(state->context);
}

/* --- the start of a scan ------------------------------------------------------------------ */

static bool
same_search(const PgoptQuery *a, const PgoptQuery *b)
{
	return VARSIZE(a) == VARSIZE(b) && memcmp(a, b, VARSIZE(a)) == 0;
}

static CompiledQuery *
compile_and_pin(OpenScan *state, const PgoptQuery *query, bool *complete)
{
	CompiledQuery *compiled = compile_begin(state->scan->indexRelation, query, complete);

	compiled_pin(compiled);
	state->pinned[state->npinned++] = compiled;
	return compiled;
}

static bool
is_text_column(const SearchSettings *settings, AttrNumber attno)
{
	for (int f = 0; f < settings->nfields; f++)
		if (settings->fields[f] == attno)
			return true;
	return false;
}

/*
 * Reads the scan keys and opens the view.  The first search is the one that is
 * ordered by, or the first condition; the other conditions must match besides.
 */
static void
start_scan(OpenScan *state)
{
	IndexScanDesc scan = state->scan;
	Relation index = scan->indexRelation;
	const SearchSettings *settings = search_settings(index);
	int nkeys = scan->numberOfKeys;
	ScanKey filters = palloc(Max(nkeys, 1) * sizeof(ScanKeyData));
	const SearchQuery **required = palloc(Max(nkeys, 1) * sizeof(SearchQuery *));
	const PgoptQuery **searches = palloc(Max(nkeys, 1) * sizeof(PgoptQuery *));
	int nfilters = 0;
	int nrequired = 0;
	int nsearches = 0;
	const PgoptQuery *first = NULL;
	CompiledQuery *compiled = NULL;
	bool complete = false;

	state->ordered = scan->numberOfOrderBys > 0;
	state->null_order = false;
	state->others = state->ordered;
	scan->xs_recheck = false;
	scan->xs_recheckorderby = false;
	for (int i = 0; i < nkeys; i++)
	{
		ScanKey key = &scan->keyData[i];

		if (!is_text_column(settings, key->sk_attno))
			filters[nfilters++] = *key;
		else if (key->sk_flags & (SK_SEARCHNULL | SK_SEARCHNOTNULL))
			scan->xs_recheck = true; /* the index takes NULL for an empty text */
		else if (key->sk_flags & SK_ISNULL)
		{
			state->finished = true;
			return;
		}
		else
			searches[nsearches++] = (PgoptQuery *) PG_DETOAST_DATUM_COPY(key->sk_argument);
	}

	if (state->ordered)
	{
		ScanKey key = &scan->orderByData[0];

		if (key->sk_flags & SK_ISNULL)
		{
			state->ordered = false;
			state->null_order = true;
			state->others = false;
		}
		else
			first = state->order = (PgoptQuery *) PG_DETOAST_DATUM_COPY(key->sk_argument);
	}
	if (first == NULL && nsearches > 0)
		first = searches[0];
	if (first != NULL)
		compiled = compile_and_pin(state, first, &complete);
	for (int i = 0; i < nsearches; i++)
	{
		bool ignored;

		if (same_search(searches[i], first))
			state->others = false;
		else
			required[nrequired++] = compile_and_pin(state, searches[i], &ignored)->query;
	}

	state->view = view_open(index,
							compiled != NULL ? compiled->query : NULL,
							required,
							nrequired,
							filters,
							nfilters,
							state->others);
	if (state->ordered)
	{
		if (!complete)
			compile_finish(compiled, state->view);
		search_view_set_stats(state->view, &compiled->stats);
	}
}

/* --- rows ------------------------------------------------------------------------------------ */

/* The next batch of the order; false when there is none. */
static bool
next_batch(OpenScan *state)
{
	Size room = work_mem * (Size) 1024 / sizeof(SearchHit);
	int most = (int) Min(Max(room, 1024), MAX_BATCH);

	if (state->batch > 0 && state->nhits < state->batch)
		return false; /* the last one was not full */
	state->batch = state->batch == 0 ? FIRST_BATCH : Min(state->batch * BATCH_GROWTH, most);
	if (state->hits != NULL)
		pfree(state->hits);
	state->hits = palloc_extended(state->batch * sizeof(SearchHit), MCXT_ALLOC_HUGE);
	state->nhits = search_topk_after(
		state->view, state->gave ? &state->last : NULL, state->batch, state->hits);
	state->at = 0;
	return state->nhits > 0;
}

static bool
next_row(OpenScan *state, ItemPointer tid, Score *score)
{
	*score = 0;
	if (!state->ordered)
		return search_next(state->view, tid);
	if (!state->in_others)
	{
		if (state->at < state->nhits || next_batch(state))
		{
			state->last = state->hits[state->at++];
			state->gave = true;
			*tid = state->last.tid;
			*score = state->last.score;
			return true;
		}
		if (!state->others)
			return false;
		state->in_others = true;
	}
	return view_next_other(state->view, tid);
}

bool
search_gettuple(IndexScanDesc scan, ScanDirection direction)
{
	OpenScan *state = scan->opaque;
	MemoryContext old = MemoryContextSwitchTo(state->run);

	Assert(ScanDirectionIsForward(direction));
	if (!state->started)
	{
		state->started = true;
		compat_count_index_scan(scan);
		start_scan(state);
	}
	state->current = false;
	if (!state->finished)
		state->finished = !next_row(state, &scan->xs_heaptid, &state->score);
	if (!state->finished && scan->numberOfOrderBys > 0)
	{
		Oid type = FLOAT8OID;
		IndexOrderByDistance distance;

		distance.value = state->score == 0 ? 0.0 : -(state->score / SCORE_UNIT);
		distance.isnull = state->null_order;
		index_store_float8_orderby_distances(scan, &type, &distance, false);
		state->current = state->ordered;
	}
	MemoryContextSwitchTo(old);
	return !state->finished;
}

/*
 * The executor puts the place of the row itself, within its chain of versions,
 * where the scan had put the index's pointer; so it is compared with that.
 */
bool
search_known_score(Oid index, const PgoptQuery *query, ItemPointer tid, Score *score)
{
	dlist_iter iter;

	dlist_foreach(iter, &open_scans)
	{
		const OpenScan *state = dlist_container(OpenScan, node, iter.cur);

		if (state->current && RelationGetRelid(state->scan->indexRelation) == index &&
			ItemPointerEquals(&state->scan->xs_heaptid, tid) && same_search(state->order, query))
		{
			*score = state->score;
			return true;
		}
	}
	return false;
}

bool
search_scan_is_open(Oid index)
{
	dlist_iter iter;

	dlist_foreach(iter, &open_scans)
	{
		const OpenScan *state = dlist_container(OpenScan, node, iter.cur);

		if (RelationGetRelid(state->scan->indexRelation) == index)
			return true;
	}
	return false;
}
