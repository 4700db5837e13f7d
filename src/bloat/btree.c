/*
 * btree.c
 *		What REINDEX would make of a B-tree.
 *
 * On each leaf page of the sample the entries are taken out of their posting
 * lists and packed anew as a build packs them: equal keys into posting lists
 * of up to a tenth of a page where the index may deduplicate, pages filled up
 * to the fillfactor, the last entry moved on to the next page.  A run of equal
 * keys that goes on behind the page's end is packed as a part of a long one.
 *
 * The number of leaf pages is the number of entries times the pages that one
 * entry takes.  The pages an entry takes vary little from page to page; the
 * number of entries is known from the sample of the table, better than from
 * the sample of the index, unless the index is partial.  Entries whose rows
 * are dead vanish in a build: each entry of the sample stays with the
 * probability that the table's sample gives.  Where it matters which of them
 * stay, in partial indexes and where equal keys share their space, some rows of
 * each page are looked up in the table.
 *
 * Cost: 3 to 6 microseconds a leaf page.
 */
#include "pgopt.h"

#include <math.h>

#include "access/heapam.h"
#include "access/itup.h"
#include "access/nbtree.h"
#include "storage/bufpage.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "sample.h"

/* Space of a page for items, with the place of the high key's line pointer taken. */
#define TREE_PAGE_SPACE \
	(BLCKSZ - SizeOfPageHeaderData - MAXALIGN(sizeof(BTPageOpaqueData)) - sizeof(ItemIdData))

/* Longest posting list tuple that a build makes. */
#define MAX_POSTING_SIZE (MAXALIGN_DOWN(BLCKSZ * 10 / 100) - sizeof(ItemIdData))

/* Pivot tuples that are measured. */
#define MAX_PIVOTS 100

/* Rows of a leaf page that are looked up in the table, about. */
#define MAX_LOOK_UPS 16

/* Leaf pages that were filled, and the one that is being filled. */
typedef struct LeafPacking
{
	double pages;
	int used;
	int items;
	int last;       /* size of the last item */
	int last_extra; /* of it, a posting list that its high key would not have */
	int reserve;    /* what the fillfactor leaves free */
} LeafPacking;

/*
 * Runs of equal keys that were looked up: their rows and bytes as a build would
 * leave them, as chance alone would, and squares of the differences.
 */
typedef struct LookUps
{
	double rows, bytes;
	double supposed_rows, supposed_bytes;
	double bb, br, rr;
} LookUps;

typedef struct TreeWalk
{
	Relation rel;
	bool deduplicate;
	bool partial;
	int key_columns;
	int columns;
	double survival; /* probability that an entry's row is not dead */
	pg_prng_state random;
	LeafPacking packing;

	/* The run of equal keys that is being gathered, and the key before it; on the locked page. */
	IndexTuple key;
	IndexTuple previous_key;
	Size key_size;
	int run;
	int carried; /* rows of runs that went on behind their page */

	double pivot_size; /* sum over pivots */
	int pivots;
	/* Rows that were looked up, since which of them are dead cannot be told from the index. */
	bool look_up;
	Relation table;
	BlockNumber table_blocks;
	Buffer table_buffer;
	SnapshotData not_removable;
	LookUps seen;
} TreeWalk;

static double
packing_position(const LeafPacking *packing)
{
	double used = (double) packing->used / (TREE_PAGE_SPACE - packing->reserve);

	return packing->pages + Min(used, 1.0);
}

/* Same bytes in the key: good enough, and what a build goes by.  Sizes are multiples of 8. */
static inline bool
same_key(IndexTuple a, Size size_a, IndexTuple b, Size size_b)
{
	const uint16 form = INDEX_NULL_MASK | INDEX_VAR_MASK;
	const char *key_a = (const char *) a + sizeof(IndexTupleData);
	const char *key_b = (const char *) b + sizeof(IndexTupleData);
	uint64 head_a, head_b;

	if (size_a != size_b || ((a->t_info ^ b->t_info) & form) != 0)
		return false;
	if (size_a <= sizeof(IndexTupleData))
		return true;
	memcpy(&head_a, key_a, sizeof(head_a));
	memcpy(&head_b, key_b, sizeof(head_b));
	return head_a == head_b && memcmp(key_a + sizeof(head_a),
									  key_b + sizeof(head_b),
									  size_a - sizeof(IndexTupleData) - sizeof(head_a)) == 0;
}

/* --- packing ---------------------------------------------------------------------------- */

/* The size of the high key between two keys that a page's end separates. */
static void
measure_pivot(TreeWalk *walk, IndexTuple left, IndexTuple right, Size right_size)
{
	Size size = right_size;

	if (walk->pivots >= MAX_PIVOTS || left == NULL)
		return;
	if (left == right)
		size += MAXALIGN(sizeof(ItemPointerData));
	else if (walk->columns > 1)
	{
		int kept = _bt_keep_natts_fast(walk->rel, left, right);

		if (kept < walk->columns)
		{
			IndexTuple pivot = index_truncate_tuple(
				RelationGetDescr(walk->rel), right, Min(kept, walk->key_columns));

			size = IndexTupleSize(pivot);
			pfree(pivot);
		}
		if (kept > walk->key_columns)
			size += MAXALIGN(sizeof(ItemPointerData));
	}
	walk->pivot_size += size;
	walk->pivots++;
}

/*
 * Adds an item, as _bt_buildadd() does.  extra is the part of it that is a
 * posting list.
 */
static inline void
pack_item(TreeWalk *walk, int size, int extra, bool equal_keys)
{
	LeafPacking *packing = &walk->packing;
	int left = (int) (TREE_PAGE_SPACE - sizeof(ItemIdData)) - packing->used;

	if (left < size + (int) MAXALIGN(sizeof(ItemPointerData)) ||
		(left + packing->last_extra < packing->reserve && packing->items >= 2))
	{
		packing->pages++;
		packing->used = packing->last + sizeof(ItemIdData);
		packing->items = 1;
		if (equal_keys)
			measure_pivot(walk, walk->key, walk->key, walk->key_size);
		else
			measure_pivot(walk, walk->previous_key, walk->key, walk->key_size);
	}
	packing->used += size + sizeof(ItemIdData);
	packing->items++;
	packing->last = size;
	packing->last_extra = extra;
}

/* How many of n entries are still there after a rebuild. */
static inline int
survivors(TreeWalk *walk, int n)
{
	int left = 0;

	if (walk->survival >= 1.0)
		return n;
	for (int i = 0; i < n; i++)
		left += pg_prng_double(&walk->random) < walk->survival;
	return left;
}

/* Rows that a posting list of a build holds at most, with this key; 1 where it makes none. */
static inline int
posting_limit(const TreeWalk *walk, Size key_size)
{
	Size most = MAXALIGN_DOWN(MAX_POSTING_SIZE);

	if (!walk->deduplicate || key_size + 2 * sizeof(ItemPointerData) > most)
		return 1;
	return (most - key_size) / sizeof(ItemPointerData);
}

/*
 * Packs the run of equal keys.  What is left over of one that goes on behind
 * the page waits for the next such run: of long runs only full posting lists
 * count, and the rest where they end.
 */
static inline int
flush_run(TreeWalk *walk, bool goes_on)
{
	int most;
	int left, kept;
	bool first = true;

	if (walk->key == NULL || walk->run == 0)
		return 0;
	kept = left = survivors(walk, walk->run);
	if (left == 1 && !goes_on)
	{
		pack_item(walk, walk->key_size, 0, false);
		walk->run = 0;
		walk->previous_key = walk->key;
		return 1;
	}
	most = posting_limit(walk, walk->key_size);
	if (most > 1 && goes_on)
	{
		left += walk->carried;
		walk->carried = left % most;
		left -= walk->carried;
	}
	while (left > 0)
	{
		int count = Min(left, most);
		Size list = count > 1 ? MAXALIGN(count * sizeof(ItemPointerData)) : 0;

		pack_item(walk, walk->key_size + list, list, !first);
		left -= count;
		first = false;
	}
	walk->run = 0;
	walk->previous_key = walk->key;
	return kept;
}

/* --- pages -------------------------------------------------------------------------------- */

/* Does a rebuild keep this row, or one that was updated from it in place? */
static bool
is_row_kept(TreeWalk *walk, ItemPointer tid)
{
	BlockNumber block = ItemPointerGetBlockNumber(tid);
	ItemPointerData address = *tid;
	HeapTupleData row;
	bool kept;

	if (block >= walk->table_blocks)
		return false;
	if (!BufferIsValid(walk->table_buffer) || BufferGetBlockNumber(walk->table_buffer) != block)
	{
		if (BufferIsValid(walk->table_buffer))
			ReleaseBuffer(walk->table_buffer);
		walk->table_buffer = ReadBuffer(walk->table, block);
	}
	LockBuffer(walk->table_buffer, BUFFER_LOCK_SHARE);
	kept = heap_hot_search_buffer(
		&address, walk->table, walk->table_buffer, &walk->not_removable, &row, NULL, true);
	LockBuffer(walk->table_buffer, BUFFER_LOCK_UNLOCK);
	return kept;
}

static double
run_bytes(const TreeWalk *walk, Size key_size, int rows)
{
	int most = posting_limit(walk, key_size);
	double bytes = 0;

	for (int count; rows > 0; rows -= count)
	{
		count = Min(rows, most);
		bytes += key_size + sizeof(ItemIdData) +
				 (count > 1 ? MAXALIGN(count * sizeof(ItemPointerData)) : 0);
	}
	return bytes;
}

/* What a run of so many rows takes on average when each stays with the same probability. */
static double
supposed_bytes(const TreeWalk *walk, Size key_size, int rows)
{
	double q = walk->survival;
	double chance = pow(1 - q, rows); /* that none is left */
	double bytes = 0;

	if (q >= 1.0 || rows > 64)
		return run_bytes(walk, key_size, (int) rint(rows * q));
	for (int left = 1; left <= rows; left++)
	{
		chance *= q / (1 - q) * (rows - left + 1) / left;
		bytes += chance * run_bytes(walk, key_size, left);
	}
	return bytes;
}

static void
look_up_run(TreeWalk *walk, Size key_size, int rows, int kept)
{
	LookUps *seen = &walk->seen;
	double supposed = supposed_bytes(walk, key_size, rows);
	double bytes = run_bytes(walk, key_size, kept);
	double more_bytes = bytes - supposed;
	double more_rows = kept - rows * walk->survival;

	seen->bytes += bytes;
	seen->rows += kept;
	seen->supposed_bytes += supposed;
	seen->supposed_rows += rows * walk->survival;
	seen->bb += more_bytes * more_bytes;
	seen->br += more_bytes * more_rows;
	seen->rr += more_rows * more_rows;
}

/*
 * By how much an entry that stays takes more, or less, than if dead rows were
 * spread evenly over the keys.  What may be chance is mostly left out.
 */
static double
key_share(const LookUps *seen, double *error)
{
	double each, share, noise;

	*error = 0;
	if (seen->rows <= 0 || seen->supposed_rows <= 0)
		return 1.0;
	each = seen->supposed_bytes / seen->supposed_rows;
	share = seen->bytes / seen->rows / each;
	noise = sqrt(Max(seen->bb - 2 * each * seen->br + each * each * seen->rr, 0)) /
			seen->supposed_bytes;
	*error = noise;
	if (fabs(share - 1) <= noise)
		return 1.0;
	return 1 + (share - 1) * (1 - (noise * noise) / ((share - 1) * (share - 1)));
}

/*
 * Looks some rows up, from an entry at random on: what share of them is dead,
 * and whether the dead ones share their keys with live ones.
 */
static void
look_up_rows(TreeWalk *walk, Page page, BTPageOpaque opaque, float *value)
{
	OffsetNumber last = PageGetMaxOffsetNumber(page);
	OffsetNumber n = P_FIRSTDATAKEY(opaque);
	IndexTuple key = NULL;
	Size key_size = 0;
	int rows = 0, kept = 0, looked_up = 0, alive = 0;
	bool complete = false;

	if (n > last)
		return;
	n = pg_prng_uint64_range(&walk->random, n, last);
	for (; n <= last && looked_up < MAX_LOOK_UPS; n++)
	{
		ItemId item = PageGetItemId(page, n);
		IndexTuple entry = (IndexTuple) PageGetItem(page, item);
		bool posting = BTreeTupleIsPosting(entry);
		int count = posting ? BTreeTupleGetNPosting(entry) : 1;
		Size size = MAXALIGN(posting ? BTreeTupleGetPostingOffset(entry) : IndexTupleSize(entry));

		if (ItemIdIsDead(item))
			continue;
		if (key == NULL || !same_key(key, key_size, entry, size))
		{
			/* The first run may have begun before the place where we did. */
			if (complete)
				look_up_run(walk, key_size, rows, kept);
			complete = (key != NULL);
			key = entry;
			key_size = size;
			rows = kept = 0;
		}
		for (int i = 0; i < count && looked_up < MAX_LOOK_UPS * 2; i++)
		{
			bool is_kept =
				is_row_kept(walk, posting ? BTreeTupleGetPostingN(entry, i) : &entry->t_tid);

			rows++;
			looked_up++;
			kept += is_kept;
			alive += is_kept;
		}
	}
	value[PAGE_LOOKED_UP] += looked_up;
	value[PAGE_ALIVE] += alive;
}

static void
measure_leaf(TreeWalk *walk, Page page, BTPageOpaque opaque, float *value)
{
	OffsetNumber last = PageGetMaxOffsetNumber(page);
	double before = packing_position(&walk->packing);
	bool goes_on = false;
	int kept = 0;
	int all = 0;

	walk->key = walk->previous_key = NULL;
	walk->run = 0;
	for (OffsetNumber n = P_FIRSTDATAKEY(opaque); n <= last; n++)
	{
		ItemId item = PageGetItemId(page, n);
		IndexTuple entry = (IndexTuple) PageGetItem(page, item);
		int rows = 1;
		Size size = IndexTupleSize(entry);

		if (BTreeTupleIsPosting(entry))
		{
			rows = BTreeTupleGetNPosting(entry);
			size = BTreeTupleGetPostingOffset(entry);
		}
		size = MAXALIGN(size);
		if (ItemIdIsDead(item))
		{
			value[PAGE_DEAD_ROWS] += rows;
			value[PAGE_DEAD] += MAXALIGN(IndexTupleSize(entry)) + sizeof(ItemIdData);
			continue;
		}
		all += rows;
		if (walk->deduplicate && walk->key != NULL &&
			same_key(walk->key, walk->key_size, entry, size))
			walk->run += rows;
		else
		{
			kept += flush_run(walk, false);
			walk->key = entry;
			walk->key_size = size;
			walk->run = rows;
		}
	}
	/* A high key with a row's address in it says that equal keys follow on the next page. */
	if (walk->deduplicate && !P_RIGHTMOST(opaque))
	{
		IndexTuple high_key = (IndexTuple) PageGetItem(page, PageGetItemId(page, P_HIKEY));

		goes_on = BTreeTupleGetHeapTID(high_key) != NULL;
	}
	kept += flush_run(walk, goes_on);
	walk->key = walk->previous_key = NULL;
	value[PAGE_RAW_ENTRIES] = all;
	value[PAGE_ENTRIES] = kept;
	value[PAGE_REWRITTEN] = packing_position(&walk->packing) - before;
	if (walk->look_up)
	{
		look_up_rows(walk, page, opaque, value);
		if (walk->partial && value[PAGE_LOOKED_UP] > 0)
		{
			double share = value[PAGE_ALIVE] / value[PAGE_LOOKED_UP] / walk->survival;

			value[PAGE_REWRITTEN] *= share;
			value[PAGE_ENTRIES] *= share;
		}
	}
	value[PAGE_KINDS] = 1;
	value[PAGE_FREE] = PageGetExactFreeSpace(page);
}

static void
measure_tree_page(void *state, Buffer buffer, BlockNumber block, float *value)
{
	TreeWalk *walk = state;
	Page page = BufferGetPage(buffer);
	BTPageOpaque opaque;

	if (PageIsNew(page))
	{
		value[PAGE_FREE] = BLCKSZ;
		return;
	}
	opaque = BTPageGetOpaque(page);
	if (P_IGNORE(opaque))
		value[PAGE_FREE] = BLCKSZ;
	else if (P_ISLEAF(opaque))
		measure_leaf(walk, page, opaque, value);
	else
		value[PAGE_FREE] = PageGetExactFreeSpace(page);
}

/* --- the index ----------------------------------------------------------------------------- */

/* Pages of the whole tree, with the metapage and the levels above the leaves. */
static double
tree_pages(const TreeWalk *walk, double leaves)
{
	double pivot = walk->pivots > 0 ? walk->pivot_size / walk->pivots
									: MAXALIGN(sizeof(IndexTupleData)) + MAXALIGN(sizeof(Datum));
	double space = TREE_PAGE_SPACE - BLCKSZ * (100 - BTREE_NONLEAF_FILLFACTOR) / 100;
	double fanout = Max(floor(space / (pivot + sizeof(ItemIdData))), 2.0);
	double pages = 1 + leaves;

	for (double level = leaves; level > 1.0;)
	{
		level = ceil(level / fanout);
		pages += level;
	}
	return pages;
}

static void
begin_walk(TreeWalk *walk, Relation rel, Relation table, const BloatEstimate *heap)
{
	memset(walk, 0, sizeof(TreeWalk));
	walk->rel = rel;
	walk->key_columns = IndexRelationGetNumberOfKeyAttributes(rel);
	walk->columns = IndexRelationGetNumberOfAttributes(rel);
	walk->partial = !heap_attisnull(rel->rd_indextuple, Anum_pg_index_indpred, NULL);
	walk->deduplicate =
		BTGetDeduplicateItems(rel) && !rel->rd_index->indisunique && _bt_allequalimage(rel, false);
	walk->packing.reserve = BTGetTargetPageFreeSpace(rel);
	walk->survival = 1.0;
	pg_prng_seed(&walk->random, pg_prng_uint64(&pg_global_prng_state));
	if (heap == NULL || heap->confidence == BLOAT_UNKNOWN)
		return;

	if (heap->dead_entries > 0.002 * heap->entries)
		walk->survival = Max(heap->entries / (heap->entries + heap->dead_entries), 0.001);
	if (walk->partial || (walk->deduplicate && walk->survival < 0.98))
	{
		walk->look_up = true;
		walk->table = table;
		walk->table_blocks = RelationGetNumberOfBlocks(table);
		walk->table_buffer = InvalidBuffer;
		InitNonVacuumableSnapshot(walk->not_removable, GlobalVisTestFor(table));
	}
}

static double
square(double x)
{
	return x * x;
}

/* Leaf pages after a rebuild, and the standard error of that. */
static double
rebuilt_leaves(const Sample *sample, const TreeWalk *walk, const BloatEstimate *heap, double *error)
{
	double n = sample->population;
	double direct, direct_error, ratio, ratio_error, by_rows, by_rows_error, weight, share;
	double share_error;

	/* Dead rows that share their keys with live ones vanish without a trace, others do not. */
	share = key_share(&walk->seen, &share_error);
	direct = share * n * sample_mean(sample, PAGE_REWRITTEN, &direct_error);
	direct_error = hypot(share * n * direct_error, share_error * direct);
	*error = direct_error;

	if (heap == NULL || heap->confidence == BLOAT_UNKNOWN || !walk->rel->rd_index->indisvalid ||
		walk->partial)
		return direct;
	if (sample_whole(sample) && walk->survival >= 1.0)
		return direct;

	/* Every row that stays has one entry: what does an entry take? */
	ratio = share * sample_ratio(sample, PAGE_REWRITTEN, PAGE_ENTRIES, &ratio_error);
	if (ratio <= 0)
		return direct;
	by_rows = ratio * heap->entries;
	by_rows_error = hypot(ratio * heap->entries_error, heap->entries * share * ratio_error);
	by_rows_error = hypot(by_rows_error, share_error * by_rows);
	if (walk->survival < 0.98)
	{
		*error = by_rows_error;
		return by_rows;
	}
	/* Two estimates whose errors have little to do with each other. */
	weight = square(direct_error) / Max(square(direct_error) + square(by_rows_error), 1e-12);
	*error = hypot(weight * by_rows_error, (1 - weight) * direct_error);
	return weight * by_rows + (1 - weight) * direct;
}

static void
conclude(const Sample *sample, const TreeWalk *walk, const BloatEstimate *heap,
		 BloatEstimate *estimate)
{
	double n = sample->population;
	double error, ignored, margin, leaves, doubt;

	leaves = rebuilt_leaves(sample, walk, heap, &error);
	if (sample_whole(sample))
		leaves = ceil(leaves);
	estimate->size = (n + 1) * BLCKSZ;
	estimate->pages = sample->population + 1;
	estimate->pages_sampled = sample->size + 1;
	estimate->exact = sample_whole(sample) && walk->survival >= 1.0;
	estimate->rewritten = BLCKSZ * tree_pages(walk, leaves);
	estimate->free_bytes = n * sample_mean(sample, PAGE_FREE, &ignored);
	estimate->dead_bytes = n * sample_mean(sample, PAGE_DEAD, &ignored);
	estimate->dead_rows = n * sample_mean(sample, PAGE_DEAD_ROWS, &ignored);
	estimate->live_rows = n * sample_mean(sample, PAGE_RAW_ENTRIES, &ignored);
	estimate->entries = n * sample_mean(sample, PAGE_ENTRIES, &estimate->entries_error);
	estimate->entries_error *= n;

	/* Which entries are dead is not known, and what keys they share. */
	doubt = (walk->deduplicate ? 0.005 : 0.003) + 0.03 * (1.0 - walk->survival);
	if (!sample_whole(sample))
		doubt += 0.5 / sample->size;
	margin = BLCKSZ * (2.1 * error + doubt * n + 1);
	estimate->rewritten_low = Max(estimate->rewritten - margin, BLCKSZ);
	estimate->rewritten_high = estimate->rewritten + margin;
	margin /= estimate->size;
	estimate->confidence = estimate->exact || margin <= 0.03 ? BLOAT_HIGH
						   : margin <= 0.08                  ? BLOAT_MEDIUM
															 : BLOAT_LOW;
}

void
bloat_measure_btree(Relation rel, Relation table, const BloatEstimate *heap,
					const BloatBudget *budget, BloatEstimate *estimate)
{
	Sample sample;
	TreeWalk walk;

	/* The metapage stays what it is. */
	sample_begin(&sample, rel, 1, 1);
	begin_walk(&walk, rel, table, heap);
	if (sample.population <= budget->whole)
	{
		sample_all(&sample);
		sample_measure(&sample, measure_tree_page, NULL, &walk);
	}
	else
	{
		int limit = sample_limit(&sample, budget);
		double error;

		maps_read(&sample);
		sample_draw(&sample, Min(budget->first, limit));
		for (;;)
		{
			sample_measure(&sample, measure_tree_page, NULL, &walk);
			(void) rebuilt_leaves(&sample, &walk, heap, &error);
			if (error / sample.population * 200 <= budget->target || sample.size * 2 > limit ||
				!sample_double(&sample))
				break;
		}
	}
	if (walk.look_up && BufferIsValid(walk.table_buffer))
		ReleaseBuffer(walk.table_buffer);
	conclude(&sample, &walk, heap, estimate);
	FreeAccessStrategy(sample.strategy);
}
