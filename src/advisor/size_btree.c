/*
 * size_btree.c
 *		How large a B-tree would be, as CREATE INDEX builds it.
 *
 * Follows the server's _bt_load(): equal keys become posting lists where the
 * operator classes say that equal means identical, of at most a tenth of a page;
 * a leaf is full when less than 100 - fillfactor percent are left, not counting
 * the list of its last item, which goes on to the next page and leaves its key
 * behind; inner pages are filled to 70 %.
 *
 * Pages are filled one after the other with keys and groups drawn from the
 * sample, until enough of them are.
 */
#include "pgopt.h"

#include <math.h>

#include "access/itup.h"
#include "access/nbtree.h"
#include "common/pg_prng.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/bufpage.h"
#include "utils/lsyscache.h"

#include "hypothetical.h"
#include "hypothetical_private.h"
#include "rows.h"
#include "size.h"

/* Pages that are filled to see how many rows one has. */
#define PAGES_FILLED      30
#define PAGES_FILLED_SAME 4 /* where all entries have one size */

/* Bytes of a new page for items, the place of its high key's line pointer taken off. */
#define PAGE_SPACE \
	(BLCKSZ - SizeOfPageHeaderData - MAXALIGN(sizeof(BTPageOpaqueData)) - sizeof(ItemIdData))

#define POSTING_MAX (MAXALIGN_DOWN((BLCKSZ * 10 / 100)) - sizeof(ItemIdData))

/* A group with so many full posting lists is not filled in one by one. */
#define LONG_GROUP 8

/* As long as Poisson's distribution is drawn from by multiplication. */
#define POISSON_SMALL 30

typedef struct Leaf
{
	int full; /* bytes that must be left */
	double used;
	int items;
	double rows;
	/* the last item */
	double last_size;
	double last_extra;
	double last_rows;
	/* pages that are done */
	double pages;
	double rows_done;
} Leaf;

typedef struct Filling
{
	const SizeInput *input;
	pg_prng_state random;
	bool deduplicated;
	int nentries;
	Size *entries; /* sizes of sampled ones */
	bool same;     /* all of them */
	KeyGroups groups;
	double rate; /* of Poisson's distribution, for groups that are not known one by one */
	Leaf leaf;
} Filling;

/* Does the operator class say that equal values are identical? */
static bool
is_image_equal(const HypotheticalIndex *index)
{
	if (index->ncolumns != index->nkeys)
		return false;
	for (int i = 0; i < index->nkeys; i++)
	{
		const HypotheticalColumn *col = &index->columns[i];
		Oid input = get_opclass_input_type(col->opclass);
		Oid proc =
			get_opfamily_proc(get_opclass_family(col->opclass), input, input, BTEQUALIMAGE_PROC);

		if (!OidIsValid(proc) ||
			!DatumGetBool(OidFunctionCall1Coll(proc, col->collation, ObjectIdGetDatum(input))))
			return false;
	}
	return true;
}

/* --- leaves ------------------------------------------------------------------------- */

/* As _bt_buildadd() does it; extra: bytes of a posting list. */
static void
add_item(Leaf *leaf, double size, double extra, double rows)
{
	double space = PAGE_SPACE - leaf->used - sizeof(ItemIdData);

	if (leaf->items > 1 &&
		(space < size + MAXALIGN(sizeof(ItemPointerData)) || space + leaf->last_extra < leaf->full))
	{
		leaf->pages++;
		leaf->rows_done += leaf->rows - leaf->last_rows;
		leaf->used = leaf->last_size + sizeof(ItemIdData);
		leaf->rows = leaf->last_rows;
		leaf->items = 1;
	}
	leaf->used += size + sizeof(ItemIdData);
	leaf->rows += rows;
	leaf->items++;
	leaf->last_size = size;
	leaf->last_extra = extra;
	leaf->last_rows = rows;
}

static int
posting_limit(Size entry)
{
	return (int) ((MAXALIGN_DOWN(POSTING_MAX) - entry) / sizeof(ItemPointerData));
}

static void
add_posting(Leaf *leaf, Size entry, int rows)
{
	Size size = rows > 1 ? MAXALIGN(entry + rows * sizeof(ItemPointerData)) : entry;

	add_item(leaf, size, size - entry, rows);
}

static Size
draw_entry(Filling *filling)
{
	if (filling->same)
		return filling->entries[0];
	return filling->entries[pg_prng_uint64_range(&filling->random, 0, filling->nentries - 1)];
}

/* Rows with one key. */
static void
add_group(Filling *filling, double size)
{
	Size entry = draw_entry(filling);
	int limit = posting_limit(entry);
	double left = Max(1, rint(size));

	if (!filling->deduplicated || limit < 2)
	{
		for (; left >= 1; left--)
			add_item(&filling->leaf, entry, 0, 1);
		return;
	}
	for (; left > 0; left -= limit)
		add_posting(&filling->leaf, entry, (int) Min(left, limit));
}

/* A group that the sample does not know: at least one row, and Poisson's distribution otherwise. */
static double
draw_other(Filling *filling)
{
	double rate = filling->rate;
	double n = 0;

	if (rate <= 0)
		return 1;
	if (rate > POISSON_SMALL)
	{
		double u = Max(pg_prng_double(&filling->random), 1e-12);
		double v = pg_prng_double(&filling->random);

		return Max(1, rint(rate + sqrt(rate) * sqrt(-2 * log(u)) * cos(2 * M_PI * v)));
	}
	while (n == 0)
	{
		double product = pg_prng_double(&filling->random);
		double limit = exp(-rate);

		for (n = 0; product > limit; n++)
			product *= pg_prng_double(&filling->random);
	}
	return n;
}

/* The rate at which groups that are not empty have this mean: mean = rate / (1 - exp(-rate)). */
static double
poisson_rate(double mean)
{
	double rate = mean;

	if (mean <= 1.0001)
		return 0;
	for (int i = 0; i < 50; i++)
		rate = mean * (1 - exp(-rate));
	return rate;
}

/* Pages of groups so large that they are almost only full posting lists; *rows are theirs. */
static double
long_groups(Filling *filling, double *rows)
{
	KeyGroups *groups = &filling->groups;
	Size entry;
	int limit;
	int n = 0;
	double lists = 0;
	Leaf leaf = {.full = filling->leaf.full};

	*rows = 0;
	if (!filling->deduplicated)
		return 0;
	entry = (Size) MAXALIGN((Size) size_mean_entry(filling->input));
	limit = posting_limit(entry);
	if (limit < 2)
		return 0;
	while (n < groups->nsizes && groups->sizes[n] >= (double) limit * LONG_GROUP)
	{
		lists += groups->sizes[n] / limit;
		*rows += groups->sizes[n];
		n++;
	}
	if (n == 0)
		return 0;
	groups->sizes += n;
	groups->nsizes -= n;
	groups->distinct -= n;
	while (leaf.pages < PAGES_FILLED_SAME)
		add_posting(&leaf, entry, limit);
	/* On average half a list is left over at the end of a group, and takes its own key. */
	return (lists + n * 0.5 * (entry + sizeof(ItemIdData)) / (POSTING_MAX + sizeof(ItemIdData))) *
		   limit / (leaf.rows_done / leaf.pages);
}

static void
draw_group(Filling *filling)
{
	KeyGroups *groups = &filling->groups;
	bool known = groups->nsizes > 0 &&
				 (groups->distinct <= groups->nsizes ||
				  pg_prng_double(&filling->random) * groups->distinct < groups->nsizes);

	if (known)
		add_group(filling,
				  groups->sizes[pg_prng_uint64_range(&filling->random, 0, groups->nsizes - 1)]);
	else
		add_group(filling, draw_other(filling));
}

/* Number of leaves. */
static double
fill_leaves(Filling *filling)
{
	double rows = filling->input->index->rows;
	double long_rows;
	double pages = long_groups(filling, &long_rows);
	Leaf *leaf = &filling->leaf;
	int wanted = PAGES_FILLED;

	rows -= long_rows;
	if (rows < 1)
		return Max(1, ceil(pages));
	if (!filling->deduplicated && filling->same)
		wanted = PAGES_FILLED_SAME;
	while (leaf->pages < wanted && leaf->rows_done + leaf->rows < rows)
	{
		CHECK_FOR_INTERRUPTS();
		if (filling->deduplicated)
			draw_group(filling);
		else
			add_group(filling, 1);
	}
	if (leaf->pages < wanted)
		return ceil(pages) + leaf->pages + (leaf->items > 0 ? 1 : 0);
	return ceil(pages + rows / (leaf->rows_done / leaf->pages));
}

static void
set_entries(Filling *filling)
{
	const SizeInput *input = filling->input;

	filling->entries = palloc(sizeof(Size) * MEAN_ROWS);
	filling->same = true;
	for (int row = 0; row < input->nrows && input->sizes != NULL && filling->nentries < MEAN_ROWS;
		 row++)
	{
		if (input->filter != NULL && !input->filter->passes[row])
			continue;
		filling->entries[filling->nentries] = size_entry(input, input->index->ncolumns, row);
		filling->same &= filling->entries[filling->nentries] == filling->entries[0];
		filling->nentries++;
	}
	if (filling->nentries == 0)
		filling->entries[filling->nentries++] =
			(Size) MAXALIGN((Size) size_mean_entry(filling->input));
}

/* --- inner pages ---------------------------------------------------------------------- */

/* Mean size of a key between two leaves: columns after the first that differs are left out. */
static double
pivot_size(Filling *filling, double leaves)
{
	SizeInput *input = (SizeInput *) filling->input;
	const HypotheticalIndex *index = input->index;
	double items = Max(index->rows, 1);
	double size = 0;
	double before = 0;

	if (input->sizes == NULL || input->nrows == 0)
		return filling->entries[0];
	if (filling->deduplicated)
		items = Max(filling->groups.distinct, leaves);
	for (int i = 1; i <= index->nkeys; i++)
	{
		double distinct = Min(size_distinct(input, i), items);
		double sum = 0;
		int n = 0;

		for (int row = 0; row < input->nrows && n < MEAN_ROWS / 10; row++)
			if (input->filter == NULL || input->filter->passes[row])
			{
				sum += size_entry(input, i, row);
				n++;
			}
		if (n == 0)
			return filling->entries[0];
		if (distinct > before)
			size += (distinct - before) / items * sum / n;
		before = Max(before, distinct);
		if (i == index->nkeys && before < items)
			/* Leaves that equal keys cross are told apart by the place of a row. */
			size += (items - before) / items * (sum / n + MAXALIGN(sizeof(ItemPointerData)));
	}
	return size;
}

int
btree_height(double pages, double fanout)
{
	int height = 0;

	for (pages = (pages - 1) * (1 - 1 / fanout); pages > 1; height++)
		pages = ceil(pages / fanout);
	return height;
}

void
size_btree(SizeInput *input)
{
	HypotheticalIndex *index = input->index;
	int fillfactor = index_option(index, "fillfactor", BTREE_DEFAULT_FILLFACTOR);
	Filling filling = {.input = input, .leaf.full = BLCKSZ * (100 - fillfactor) / 100};
	double leaves;
	double level;
	double pages;

	index->tree_height = 0;
	index->fanout = 2;
	if (index->rows < 1)
	{
		/* Only the page that says where the root is, and that there is none. */
		index->pages = 1;
		return;
	}
	pg_prng_seed(&filling.random, 1);
	set_entries(&filling);
	filling.deduplicated =
		!index->unique && index_option(index, "deduplicate_items", 1) && is_image_equal(index);
	if (filling.deduplicated)
	{
		size_groups(input, index->nkeys, &filling.groups);
		filling.rate = poisson_rate(filling.groups.others);
	}
	leaves = fill_leaves(&filling);
	index->fanout =
		floor((PAGE_SPACE - sizeof(ItemIdData) - BLCKSZ * (100 - BTREE_NONLEAF_FILLFACTOR) / 100) /
			  (pivot_size(&filling, leaves) + sizeof(ItemIdData)));
	index->fanout = Max(index->fanout, 2);
	pages = leaves;
	for (level = leaves; level > 1; index->tree_height++)
	{
		level = ceil(level / index->fanout);
		pages += level;
	}
	index->pages = (BlockNumber) Min(pages + 1, MaxBlockNumber);
}
