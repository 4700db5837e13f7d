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
 * some pages are looked up in the table: not before the sample is complete and
 * no page of the index is locked any more, in the order of the table's blocks,
 * and of no more than MAX_TABLE_PAGES of them.  Rows on pages that the
 * visibility map calls all-visible stay, and are not read.
 *
 * Cost: 3 to 6 microseconds a leaf page, and a read of each page of the table.
 */
#include "pgopt.h"

#include <math.h>

#include "access/heapam.h"
#include "access/itup.h"
#include "access/nbtree.h"
#include "access/visibilitymap.h"
#include "miscadmin.h"
#include "storage/bufpage.h"
#include "utils/hsearch.h"
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

/* Entries of a leaf page whose rows are looked up in the table, and such rows. */
#define MAX_LOOK_UPS  16
#define MAX_LEAF_ROWS (2 * MAX_LOOK_UPS)

/* Pages of the table that are read for that, about, and leaf pages that ask for them. */
#define MAX_TABLE_PAGES 1000
#define MAX_LEAVES      512
#define PREFETCH_PAGES  16

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

/* A row to look up, of an entry whose key takes so much. */
typedef struct LeafRow
{
	ItemPointerData tid;
	uint16 key_size;
	bool first; /* of a run of equal keys */
	bool kept;
} LeafRow;

/* Some rows of a leaf page, in the index's order. */
typedef struct LeafRows
{
	BlockNumber leaf;
	int count;
	bool looked_up;
	float rewritten; /* PAGE_REWRITTEN */
	LeafRow rows[MAX_LEAF_ROWS];
} LeafRows;

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
	/* Rows to look up, since which of them are dead cannot be told from the index. */
	bool look_up;
	Relation table;
	LeafRows *leaves;
	int leaf_count;
	int leaf_room;

	/* And what was found: see key_share(), weigh_kept(). */
	LookUps seen;
	double kept_share;
	double kept_error;
} TreeWalk;

static double
packing_position(const LeafPacking *packing)
{
	double used = (double) packing->used / (TREE_PAGE_SPACE - packing->reserve);

	return packing->pages + Min(used, 1.0);
}

/* Same bytes in the key: good enough, and what a build goes by. */
static inline bool
same_key(IndexTuple a, Size size_a, IndexTuple b, Size size_b)
{
	const uint16 form = INDEX_NULL_MASK | INDEX_VAR_MASK;
	const char *key_a = (const char *) a + sizeof(IndexTupleData);
	const char *key_b = (const char *) b + sizeof(IndexTupleData);
	uint64 head_a, head_b;

	if (size_a != size_b || ((a->t_info ^ b->t_info) & form) != 0)
		return false;
	if (size_a < sizeof(IndexTupleData) + sizeof(head_a))
		return memcmp(key_a, key_b, size_a - sizeof(IndexTupleData)) == 0;
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

/* Notes some rows to look up, from an entry at random on; the page is locked. */
static void
note_rows(TreeWalk *walk, Page page, BTPageOpaque opaque, BlockNumber block, float rewritten)
{
	OffsetNumber last = PageGetMaxOffsetNumber(page);
	OffsetNumber n = P_FIRSTDATAKEY(opaque);
	IndexTuple key = NULL;
	Size key_size = 0;
	int entries = 0;
	LeafRows *leaf;

	if (n > last)
		return;
	if (walk->leaf_count == walk->leaf_room)
	{
		walk->leaf_room = Max(2 * walk->leaf_room, 64);
		walk->leaves = walk->leaves == NULL
						   ? palloc(walk->leaf_room * sizeof(LeafRows))
						   : repalloc_huge(walk->leaves, walk->leaf_room * sizeof(LeafRows));
	}
	leaf = &walk->leaves[walk->leaf_count];
	leaf->leaf = block;
	leaf->count = 0;
	leaf->looked_up = false;
	leaf->rewritten = rewritten;
	n = pg_prng_uint64_range(&walk->random, n, last);
	for (; n <= last && leaf->count < MAX_LOOK_UPS && entries < MAX_LOOK_UPS; n++)
	{
		ItemId item = PageGetItemId(page, n);
		IndexTuple entry = (IndexTuple) PageGetItem(page, item);
		bool posting = BTreeTupleIsPosting(entry);
		int count = posting ? BTreeTupleGetNPosting(entry) : 1;
		Size size = MAXALIGN(posting ? BTreeTupleGetPostingOffset(entry) : IndexTupleSize(entry));
		bool first = key == NULL || !same_key(key, key_size, entry, size);

		if (ItemIdIsDead(item))
			continue;
		key = entry;
		key_size = size;
		entries++;
		for (int i = 0; i < count && leaf->count < MAX_LEAF_ROWS; i++)
			leaf->rows[leaf->count++] = (LeafRow){
				.tid = posting ? *BTreeTupleGetPostingN(entry, i) : entry->t_tid,
				.key_size = size,
				.first = first && i == 0,
			};
	}
	if (leaf->count > 0)
		walk->leaf_count++;
}

static void
measure_leaf(TreeWalk *walk, Page page, BTPageOpaque opaque, BlockNumber block, float *value)
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
		note_rows(walk, page, opaque, block, value[PAGE_REWRITTEN]);
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
		measure_leaf(walk, page, opaque, block, value);
	else
		value[PAGE_FREE] = PageGetExactFreeSpace(page);
}

/* --- rows in the table ---------------------------------------------------------------------- */

/* A page of the table, in a hash table by its number. */
typedef struct TablePage
{
	BlockNumber block; /* hash key: must be first */
	bool all_visible;
} TablePage;

static int
compare_leaves(const void *a, const void *b)
{
	const LeafRows *x = a;
	const LeafRows *y = b;

	return x->leaf < y->leaf ? -1 : x->leaf > y->leaf;
}

static int
compare_rows(const void *a, const void *b)
{
	return ItemPointerCompare(&(*(LeafRow *const *) a)->tid, &(*(LeafRow *const *) b)->tid);
}

/*
 * Chooses leaf pages, spread evenly over the index however many they become,
 * until their rows lie on as many pages of the table as may be read.  Returns
 * the number of rows on such pages.
 */
static int
choose_rows(TreeWalk *walk, LeafRow **chosen)
{
	HASHCTL control = {.keysize = sizeof(BlockNumber), .entrysize = sizeof(TablePage)};
	HTAB *pages;
	BlockNumber blocks = RelationGetNumberOfBlocks(walk->table);
	Buffer map = InvalidBuffer;
	int count = 0, to_read = 0, leaves = Min(walk->leaf_count, MAX_LEAVES);
	double place = pg_prng_double(&walk->random);

	control.hcxt = CurrentMemoryContext;
	pages = hash_create("pgopt table pages", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (int i = 0; i < leaves && to_read < MAX_TABLE_PAGES; i++)
	{
		LeafRows *leaf;

		/* Steps of the golden ratio divide what they go round evenly at any time. */
		place = fmod(place + 0.6180339887498949, 1.0);
		leaf = &walk->leaves[Min((int) (place * walk->leaf_count), walk->leaf_count - 1)];
		if (leaf->looked_up)
			continue;
		leaf->looked_up = true;
		for (int k = 0; k < leaf->count; k++)
		{
			LeafRow *row = &leaf->rows[k];
			BlockNumber block = ItemPointerGetBlockNumber(&row->tid);
			TablePage *page;
			bool found;

			if (block >= blocks)
				continue;
			page = hash_search(pages, &block, HASH_ENTER, &found);
			if (!found)
			{
				page->all_visible = VM_ALL_VISIBLE(walk->table, block, &map);
				to_read += !page->all_visible;
			}
			if (page->all_visible)
				row->kept = true;
			else
				chosen[count++] = row;
		}
	}
	if (BufferIsValid(map))
		ReleaseBuffer(map);
	hash_destroy(pages);
	return count;
}

/* Does a rebuild keep these rows, or ones that were updated from them in place? */
static void
read_rows(TreeWalk *walk, LeafRow **rows, int count, BufferAccessStrategy strategy)
{
	SnapshotData not_removable;
	int ahead = 0, pages_ahead = 0;

	InitNonVacuumableSnapshot(not_removable, GlobalVisTestFor(walk->table));
	for (int i = 0; i < count;)
	{
		BlockNumber block = ItemPointerGetBlockNumber(&rows[i]->tid);
		Buffer buffer;

		CHECK_FOR_INTERRUPTS();
		for (; ahead < count && pages_ahead <= PREFETCH_PAGES; ahead++)
		{
			BlockNumber next = ItemPointerGetBlockNumber(&rows[ahead]->tid);

			if (ahead > 0 && next == ItemPointerGetBlockNumber(&rows[ahead - 1]->tid))
				continue;
			(void) PrefetchBuffer(walk->table, MAIN_FORKNUM, next);
			pages_ahead++;
		}
		buffer = ReadBufferExtended(walk->table, MAIN_FORKNUM, block, RBM_NORMAL, strategy);
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		for (; i < count && ItemPointerGetBlockNumber(&rows[i]->tid) == block; i++)
		{
			ItemPointerData tid = rows[i]->tid;
			HeapTupleData row;

			rows[i]->kept =
				heap_hot_search_buffer(&tid, walk->table, buffer, &not_removable, &row, NULL, true);
		}
		UnlockReleaseBuffer(buffer);
		pages_ahead--;
	}
}

/* Whether dead rows share their keys with live ones. */
static void
weigh_runs(TreeWalk *walk, const LeafRows *leaf)
{
	int begin = 0, runs = 0, kept = 0;

	/* The first run may have begun before the place where we did, the last one may go on. */
	for (int k = 0; k < leaf->count; k++)
	{
		if (leaf->rows[k].first && k > 0)
		{
			if (runs++ > 0)
				look_up_run(walk, leaf->rows[begin].key_size, k - begin, kept);
			begin = k;
			kept = 0;
		}
		kept += leaf->rows[k].kept;
	}
}

static int
rows_kept(const LeafRows *leaf)
{
	int kept = 0;

	for (int k = 0; k < leaf->count; k++)
		kept += leaf->rows[k].kept;
	return kept;
}

/*
 * Of a partial index: the share of its rows that stay, by that of the table's,
 * and the standard error from the differences of neighbours.
 */
static void
weigh_kept(TreeWalk *walk)
{
	double weight = 0, kept = 0, differences = 0, last = 0, share;
	int leaves = 0;

	for (int i = 0; i < walk->leaf_count; i++)
	{
		const LeafRows *leaf = &walk->leaves[i];

		if (!leaf->looked_up)
			continue;
		weight += leaf->rewritten;
		kept += leaf->rewritten * rows_kept(leaf) / leaf->count;
	}
	if (weight <= 0)
		return;
	share = kept / weight;
	for (int i = 0; i < walk->leaf_count; i++)
	{
		const LeafRows *leaf = &walk->leaves[i];
		double residual;

		if (!leaf->looked_up)
			continue;
		residual = leaf->rewritten * ((double) rows_kept(leaf) / leaf->count - share);
		if (leaves++ > 0)
			differences += (residual - last) * (residual - last);
		last = residual;
	}
	walk->kept_share = share / walk->survival;
	if (leaves > 1)
		walk->kept_error = sqrt(differences / 2 * leaves / (leaves - 1)) / weight / walk->survival;
}

/* After the sample: what share of the rows is dead, and how the dead ones are spread over the keys. */
static void
look_up_rows(TreeWalk *walk, const Sample *sample)
{
	LeafRow **rows = palloc(sizeof(LeafRow *) * Min(walk->leaf_count, MAX_LEAVES) * MAX_LEAF_ROWS);
	int count;

	qsort(walk->leaves, walk->leaf_count, sizeof(LeafRows), compare_leaves);
	count = choose_rows(walk, rows);
	if (count > 1)
		qsort(rows, count, sizeof(LeafRow *), compare_rows);
	read_rows(walk, rows, count, sample->strategy);
	for (int i = 0; i < walk->leaf_count; i++)
		if (walk->leaves[i].looked_up)
			weigh_runs(walk, &walk->leaves[i]);
	if (walk->partial)
		weigh_kept(walk);
	pfree(rows);
	pfree(walk->leaves);
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
	walk->kept_share = 1.0;
	pg_prng_seed(&walk->random, pg_prng_uint64(&pg_global_prng_state));
	if (heap == NULL || heap->confidence == BLOAT_UNKNOWN)
		return;

	if (heap->dead_entries > 0.002 * heap->entries)
		walk->survival = Max(heap->entries / (heap->entries + heap->dead_entries), 0.001);
	if (walk->partial || (walk->deduplicate && walk->survival < 0.98))
	{
		walk->look_up = true;
		walk->table = table;
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
	share = key_share(&walk->seen, &share_error) * walk->kept_share;
	share_error = hypot(share_error, walk->kept_error);
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
	estimate->entries =
		walk->kept_share * n * sample_mean(sample, PAGE_ENTRIES, &estimate->entries_error);
	estimate->entries_error *= walk->kept_share * n;

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
	if (walk.leaf_count > 0)
		look_up_rows(&walk, &sample);
	conclude(&sample, &walk, heap, estimate);
	FreeAccessStrategy(sample.strategy);
}
