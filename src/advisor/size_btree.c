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
#define PAGES_FILLED      20
#define PAGES_FILLED_SAME 4 /* where all entries have one size */

/* Bytes of a new page for items, the place of its high key's line pointer taken off. */
#define PAGE_SPACE \
	(BLCKSZ - SizeOfPageHeaderData - MAXALIGN(sizeof(BTPageOpaqueData)) - sizeof(ItemIdData))

#define POSTING_MAX (MAXALIGN_DOWN((BLCKSZ * 10 / 100)) - sizeof(ItemIdData))

/* The server's BTMaxItemSize. */
#define ENTRY_MAX                                                                      \
	(MAXALIGN_DOWN((BLCKSZ - MAXALIGN(SizeOfPageHeaderData + 3 * sizeof(ItemIdData)) - \
					MAXALIGN(sizeof(BTPageOpaqueData))) /                              \
				   3) -                                                                \
	 MAXALIGN(sizeof(ItemPointerData)))

/* A group with so many full posting lists is not filled in one by one. */
#define LONG_GROUP 8

/* Parts that entries of different lengths are cut into, and rows of the sample that one should have. */
#define STRATA  4
#define STRATUM 200

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

/* Rows whose entries are about as long: how often a key occurs may depend on its length. */
typedef struct Stratum
{
	int nentries;
	Size *entries; /* sizes of sampled ones */
	KeyGroups groups;
	double rate;  /* of Poisson's distribution, for groups that are not known one by one */
	double empty; /* exp(-rate) */
} Stratum;

typedef struct Filling
{
	SizeInput *input;
	pg_prng_state random;
	bool deduplicated;
	bool same; /* all entries have one size */
	int nstrata;
	Stratum strata[STRATA];
	double distinct; /* groups of all */
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
draw_entry(Filling *filling, const Stratum *stratum)
{
	if (filling->same)
		return stratum->entries[0];
	return stratum->entries[pg_prng_uint64_range(&filling->random, 0, stratum->nentries - 1)];
}

/* Rows with one key. */
static void
add_group(Filling *filling, const Stratum *stratum, double size)
{
	Size entry = draw_entry(filling, stratum);
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
draw_other(Filling *filling, const Stratum *stratum)
{
	double rate = stratum->rate;
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

		for (n = 0; product > stratum->empty; n++)
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

/* Pages of a stratum's groups that are so large that they are almost only full posting lists; *rows are theirs. */
static double
long_groups(Filling *filling, Stratum *stratum, double *rows)
{
	KeyGroups *groups = &stratum->groups;
	Size entry = stratum->entries[stratum->nentries / 2];
	int limit = posting_limit(entry);
	int n = 0;
	double lists = 0;
	Leaf leaf = {.full = filling->leaf.full};

	if (limit < 2)
		return 0;
	for (; n < groups->nsizes && groups->sizes[n] >= (double) limit * LONG_GROUP; n++)
	{
		lists += groups->sizes[n] / limit;
		*rows += groups->sizes[n];
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
	Stratum *stratum = &filling->strata[0];
	KeyGroups *groups;
	double place = pg_prng_double(&filling->random) * filling->distinct;
	int last = filling->nstrata - 1;

	while (stratum < &filling->strata[last] && place >= stratum->groups.distinct)
		place -= (stratum++)->groups.distinct;
	groups = &stratum->groups;
	if (groups->nsizes > 0 && (place < groups->nsizes || groups->distinct <= groups->nsizes))
		add_group(filling,
				  stratum,
				  groups->sizes[pg_prng_uint64_range(&filling->random, 0, groups->nsizes - 1)]);
	else
		add_group(filling, stratum, draw_other(filling, stratum));
}

/* Number of leaves. */
static double
fill_leaves(Filling *filling)
{
	double rows = filling->input->index->rows;
	double long_rows = 0;
	double pages = 0;
	Leaf *leaf = &filling->leaf;
	int wanted = PAGES_FILLED;

	for (int i = 0; i < filling->nstrata && filling->deduplicated; i++)
	{
		pages += long_groups(filling, &filling->strata[i], &long_rows);
		filling->distinct += filling->strata[i].groups.distinct;
	}
	rows -= long_rows;
	if (rows < 1 || (filling->deduplicated && filling->distinct < 1))
		return Max(1, ceil(pages));
	if (!filling->deduplicated && filling->same)
		wanted = PAGES_FILLED_SAME;
	while (leaf->pages < wanted && leaf->rows_done + leaf->rows < rows)
	{
		CHECK_FOR_INTERRUPTS();
		if (filling->deduplicated)
			draw_group(filling);
		else
			add_group(filling, &filling->strata[0], 1);
	}
	if (leaf->pages < wanted)
		return ceil(pages) + leaf->pages + (leaf->items > 0 ? 1 : 0);
	return ceil(pages + rows / (leaf->rows_done / leaf->pages));
}

/* A stratum of the rows whose stratum it is; all of the index's rows where it is the only one. */
static void
add_stratum(Filling *filling, const Size *sizes, const uint8 *strata, int rows, int all)
{
	SizeInput *input = filling->input;
	int number = filling->nstrata++;
	Stratum *stratum = &filling->strata[number];
	bool *counted = palloc0(sizeof(bool) * input->nrows);

	stratum->entries = palloc(sizeof(Size) * rows);
	for (int row = 0; row < input->nrows && stratum->nentries < rows; row++)
	{
		counted[row] = sizes[row] > 0 && strata[sizes[row] / MAXIMUM_ALIGNOF] == number;
		if (counted[row])
			stratum->entries[stratum->nentries++] = sizes[row];
	}
	if (filling->deduplicated && rows == all)
		size_groups(input, input->index->nkeys, &stratum->groups);
	else if (filling->deduplicated)
		size_groups_of(
			input, input->index->nkeys, counted, input->index->rows * rows / all, &stratum->groups);
	pfree(counted);
}

/* What is known of all rows holds for the strata together. */
static void
settle_strata(Filling *filling)
{
	double sum = 0;

	for (int i = 0; i < filling->nstrata; i++)
		sum += filling->strata[i].groups.distinct;
	if (filling->nstrata > 1)
	{
		double known = size_distinct(filling->input, filling->input->index->nkeys);

		for (int i = 0; i < filling->nstrata; i++)
			size_groups_scale(&filling->strata[i].groups, known / sum);
	}
	for (int i = 0; i < filling->nstrata; i++)
	{
		filling->strata[i].rate = poisson_rate(filling->strata[i].groups.others);
		filling->strata[i].empty = exp(-filling->strata[i].rate);
	}
}

/* Where there is nothing to learn from. */
static void
set_one_entry(Filling *filling)
{
	Stratum *stratum = &filling->strata[filling->nstrata++];

	filling->same = true;
	stratum->nentries = 1;
	stratum->entries = palloc(sizeof(Size));
	stratum->entries[0] = MAXALIGN((Size) size_mean_entry(filling->input));
	size_groups(filling->input, filling->input->index->nkeys, &stratum->groups);
	settle_strata(filling);
}

static void
set_strata(Filling *filling)
{
	const SizeInput *input = filling->input;
	int nrows = filling->deduplicated ? input->nrows : Min(input->nrows, MEAN_ROWS);
	Size *sizes = palloc0(sizeof(Size) * Max(input->nrows, 1));
	int *rows_of_size = palloc0(sizeof(int) * (BLCKSZ / MAXIMUM_ALIGNOF + 1));
	uint8 *strata = palloc0(BLCKSZ / MAXIMUM_ALIGNOF + 1);
	int all = 0;
	int before = 0;
	int rows = 0;
	int number = 0;
	int counts[STRATA] = {0};

	for (int row = 0; row < nrows && input->sizes != NULL; row++)
	{
		if (input->filter != NULL && !input->filter->passes[row])
			continue;
		sizes[row] = Min(size_entry(input, input->index->ncolumns, row), BLCKSZ);
		filling->input->largest = Max(filling->input->largest, sizes[row]);
		rows_of_size[sizes[row] / MAXIMUM_ALIGNOF]++;
		all++;
	}
	if (all == 0)
	{
		set_one_entry(filling);
		return;
	}
	for (int i = 0; i <= BLCKSZ / MAXIMUM_ALIGNOF; i++)
	{
		if (rows_of_size[i] == 0)
			continue;
		if (filling->deduplicated && number < STRATA - 1 && rows >= Max(all / STRATA, STRATUM) &&
			all - before - rows >= STRATUM)
		{
			before += rows;
			rows = 0;
			number++;
		}
		strata[i] = number;
		rows += rows_of_size[i];
		counts[number] += rows_of_size[i];
		filling->same = rows_of_size[i] == all;
	}
	for (int i = 0; i <= number; i++)
		add_stratum(filling, sizes, strata, counts[i], all);
	if (filling->deduplicated)
		settle_strata(filling);
}

/* --- inner pages ---------------------------------------------------------------------- */

/* Mean size of a key between two leaves: columns after the first that differs are left out. */
static double
pivot_size(Filling *filling, double leaves)
{
	SizeInput *input = filling->input;
	const HypotheticalIndex *index = input->index;
	double items = Max(index->rows, 1);
	double size = 0;
	double before = 0;

	if (input->sizes == NULL || input->nrows == 0)
		return filling->strata[0].entries[0];
	if (filling->deduplicated)
		items = Max(size_distinct(input, index->nkeys), leaves);
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
			return filling->strata[0].entries[0];
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

	input->largest_allowed = ENTRY_MAX;
	index->tree_height = 0;
	index->fanout = 2;
	if (index->rows < 1)
	{
		/* Only the page that says where the root is, and that there is none. */
		index->pages = 1;
		return;
	}
	pg_prng_seed(&filling.random, 1);
	filling.deduplicated =
		!index->unique && index_option(index, "deduplicate_items", 1) && is_image_equal(index);
	set_strata(&filling);
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
