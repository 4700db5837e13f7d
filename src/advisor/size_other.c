/*
 * size_other.c
 *		How large hash, BRIN, GiST and SP-GiST indexes would be.
 *
 * Hash and BRIN follow the server's own rules of building.  The trees of GiST
 * and SP-GiST depend on how the operator class splits pages, so their pages are
 * taken to be as full as they were found to be on average.
 */
#include "pgopt.h"

#include <math.h>

#include "access/brin.h"
#include "access/brin_page.h"
#include "access/brin_tuple.h"
#include "access/hash.h"
#include "access/itup.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "storage/bufpage.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "hypothetical.h"
#include "hypothetical_private.h"
#include "rows.h"
#include "size.h"

/* Buckets that are filled to see how many pages overflow. */
#define BUCKETS_FILLED 400

/* What of a page is used where rows were inserted one by one, and where they were sorted. */
#define GIST_FILL         0.66
#define GIST_ORDERED_FILL 0.39
#define SPGIST_FILL       0.69


/* Share of neighbours in order, from which on all are taken to be. */
#define ORDERED         0.9

#define TREE_PAGE_SPACE (BLCKSZ - SizeOfPageHeaderData - 16)

/* Bytes of a sign array of trigrams or words above the leaves, unless the index sets siglen. */
#define SIGNATURE_ENTRY 24

/* --- hash --------------------------------------------------------------------------- */

/* Pages that buckets need, each at least one; rows with one key share a bucket. */
static double
fill_buckets(const KeyGroups *groups, double buckets, int capacity)
{
	int filled = (int) Min(buckets, BUCKETS_FILLED);
	double *rows = palloc0(sizeof(double) * filled);
	double share = filled / buckets;
	double others = groups->distinct - groups->nsizes;
	double pages = 0;
	pg_prng_state random;

	pg_prng_seed(&random, 1);
	/* Large groups are not many: each goes to some bucket, or to one that is not looked at. */
	for (int i = 0; i < groups->nsizes; i++)
	{
		double bucket = pg_prng_double(&random) * buckets;

		if (bucket < filled)
			rows[(int) bucket] += groups->sizes[i];
		else if (groups->sizes[i] > capacity)
			pages += (ceil(groups->sizes[i] / capacity) - 1) * share;
	}
	for (double i = 0; i < others * share; i++)
		rows[pg_prng_uint64_range(&random, 0, filled - 1)] += Max(groups->others, 1);
	for (int i = 0; i < filled; i++)
		pages += Max(1, ceil(rows[i] / capacity));
	return pages / share;
}

void
size_hash(SizeInput *input)
{
	HypotheticalIndex *index = input->index;
	int item = MAXALIGN(sizeof(IndexTupleData)) + MAXALIGN(sizeof(uint32)) + sizeof(ItemIdData);
	int fillfactor = index_option(index, "fillfactor", HASH_DEFAULT_FILLFACTOR);
	int wanted = Max(10, BLCKSZ * fillfactor / 100 / item);
	double buckets = index->table_rows / wanted;
	KeyGroups groups;

	/* As _hash_init_metabuffer(), from all rows of the table even where the index is partial. */
	if (buckets <= 2)
		buckets = 2;
	else
		buckets = _hash_get_totalbuckets(_hash_spareindex((uint32) Min(buckets, 0x40000000)));
	size_groups(input, 1, &groups);
	index->pages = (BlockNumber) Min(
		2 + ceil(fill_buckets(&groups, buckets, TREE_PAGE_SPACE / item)), MaxBlockNumber);
}

/* --- BRIN --------------------------------------------------------------------------- */

/* Bytes of data that a column has in the summary of a range, before alignment. */
static double
summary_size(const SizeInput *input, int column)
{
	const HypotheticalColumn *col = &input->index->columns[column];
	Oid family = get_opclass_family(col->opclass);
	Oid type = get_opclass_input_type(col->opclass);
	Oid info = get_opfamily_proc(family, type, type, BRIN_PROCNUM_OPCINFO);
	double size = 0;
	int n = 0;

	/* Of blooms the filter for a tenth of the rows, of several intervals 32 values: both as by default. */
	if (info == F_BRIN_BLOOM_OPCINFO)
		return 0.1 * MaxHeapTuplesPerPage * input->index->pages_per_range * 9.6 / BITS_PER_BYTE;
	for (int row = 0; row < input->nrows && input->sizes != NULL && n < MEAN_ROWS; row++)
		if (!input->columns[column]->nulls[row])
		{
			size += abs(input->sizes[column][row]);
			n++;
		}
	size = n > 0 ? size / n : get_typavgwidth(col->type, col->typmod);
	if (info == F_BRIN_MINMAX_MULTI_OPCINFO)
		return 32 * size + 20;
	if (info == F_BRIN_INCLUSION_OPCINFO)
		return size + 2;
	return 2 * size;
}

void
size_brin(SizeInput *input)
{
	HypotheticalIndex *index = input->index;
	double ranges;
	double revmap;
	double per_page;
	bool nulls = false;
	Size tuple;
	double data = 0;

	index->pages_per_range = index_option(index, "pages_per_range", BRIN_DEFAULT_PAGES_PER_RANGE);
	ranges = ceil((double) input->sample->blocks / index->pages_per_range);
	for (int i = 0; i < index->nkeys; i++)
	{
		nulls |= input->columns[i]->nnulls > 0;
		data += summary_size(input, i);
	}
	tuple = SizeOfBrinTuple + (nulls ? (index->nkeys * 2 + 7) / 8 : 0);
	tuple = MAXALIGN(MAXALIGN(tuple) + (Size) data) + sizeof(ItemIdData);
	per_page = Max(1, floor(TREE_PAGE_SPACE / tuple));
	revmap = floor(ranges / REVMAP_PAGE_MAXITEMS) + 1;
	index->rows = ranges;
	index->pages = (BlockNumber) Max(1 + revmap + ceil(ranges / per_page), 2);
}

/* --- GiST and SP-GiST --------------------------------------------------------------------- */

/* What GiST keeps of a row in a leaf, on average. */
static double
gist_entry(const SizeInput *input)
{
	const HypotheticalIndex *index = input->index;
	double size = sizeof(IndexTupleData);

	for (int i = 0; i < index->ncolumns; i++)
	{
		const HypotheticalColumn *col = &index->columns[i];
		double bytes = 0;
		int n = 0;

		for (int row = 0; row < input->nrows && input->sizes != NULL && n < MEAN_ROWS; row++)
			if (!input->columns[i]->nulls[row])
			{
				bytes += abs(input->sizes[i][row]);
				n++;
			}
		bytes = n > 0 ? bytes / n : get_typavgwidth(col->type, col->typmod);
		if (i < index->nkeys && input->forms[i].converted)
		{
			if (input->forms[i].length > 0)
				bytes = input->forms[i].length;
			else if (col->type == TSVECTOROID)
				/* an array of hashes, one a word of about 15 bytes */
				bytes = Min(bytes / 15 * sizeof(int32) + 8, 512);
			else if (col->type == TEXTOID)
				/* an array of trigrams, about one a letter */
				bytes = bytes * 3 + 5;
		}
		size += bytes;
	}
	return MAXALIGN((Size) size) + sizeof(ItemIdData);
}

typedef struct PlacedRow
{
	int place;
	int row;
} PlacedRow;

static int
by_place(const void *a, const void *b)
{
	return ((const PlacedRow *) a)->place - ((const PlacedRow *) b)->place;
}

/* Do the values of the first column mostly ascend, or descend, through the table? */
static bool
is_ordered(const SizeInput *input)
{
	const RowColumn *column = input->columns[0];
	TypeCacheEntry *type = lookup_type_cache(column->form.atttypid, TYPECACHE_CMP_PROC_FINFO);
	int nrows = Min(input->nrows, MEAN_ROWS);
	PlacedRow *rows;
	int last = -1;
	int up = 0;
	int down = 0;

	if (!OidIsValid(type->cmp_proc) || !column->known)
		return false;
	rows = palloc(sizeof(PlacedRow) * Max(nrows, 1));
	for (int row = 0; row < nrows; row++)
		rows[row] = (PlacedRow){.place = input->sample->places[row], .row = row};
	qsort(rows, nrows, sizeof(PlacedRow), by_place);
	for (int i = 0; i < nrows; i++)
	{
		int row = rows[i].row;

		if (column->nulls[row])
			continue;
		if (last >= 0)
		{
			int32 order = DatumGetInt32(FunctionCall2Coll(&type->cmp_proc_finfo,
														  type->typcollation,
														  column->values[last],
														  column->values[row]));

			up += order < 0;
			down += order > 0;
		}
		last = row;
	}
	return Max(up, down) > ORDERED * (up + down);
}

void
size_gist(SizeInput *input)
{
	HypotheticalIndex *index = input->index;
	double entry;
	double fill;
	double pages;

	if (index->am == SPGIST_AM_OID)
	{
		/* The part of a text that the tree itself says is not kept in the leaf. */
		entry = size_mean_entry(input) + sizeof(ItemIdData) + 4;
		fill = SPGIST_FILL;
		if (index->columns[0].type == TEXTOID || index->columns[0].type == VARCHAROID)
			entry = Max(24, entry * 0.7);
	}
	else
	{
		entry = gist_entry(input);
		fill = is_ordered(input) ? GIST_ORDERED_FILL : GIST_FILL;
	}
	pages = ceil(index->rows * entry / (TREE_PAGE_SPACE * fill));
	pages += ceil(pages * Max(entry, SIGNATURE_ENTRY) / (TREE_PAGE_SPACE * fill));
	if (index->am == SPGIST_AM_OID)
		pages += 1;
	index->pages = (BlockNumber) Max(Min(pages, MaxBlockNumber), 1);
}
