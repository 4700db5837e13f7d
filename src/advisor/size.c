/*
 * size.c
 *		How large an index would be: what all access methods have in common.
 *
 * Rows and distinct keys are those of the sample (rows.h) and of the statistics
 * that ANALYZE keeps; each access method's own file makes pages of them.
 *
 * Cost: after the table's sample, tens of microseconds an index; the first time
 * that a column, an expression or a predicate is asked for, a pass over the
 * sample.
 */
#include "pgopt.h"

#include <math.h>

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_statistic.h"
#include "catalog/pg_statistic_ext.h"
#include "commands/vacuum.h"
#include "common/hashfn.h"
#include "port/pg_bitutils.h"
#include "statistics/statistics.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "hypothetical.h"
#include "hypothetical_private.h"
#include "rows.h"
#include "size.h"

/* Standard errors, and at most what part, by which an estimate may be off and still say nothing. */
#define NOISE            1.5
#define SURELY_DEPENDENT 0.25

/* --- distinct keys --------------------------------------------------------------- */

/* Distinct values among counted ones, and how many were seen once. */
typedef struct Counts
{
	int rows;
	int distinct;
	int once;
	int heavy;      /* of the distinct ones, those seen often */
	int heavy_rows; /* theirs */
	int *count;     /* of each, most first, where asked for */
} Counts;

/*
 * Duj1 takes all values for equally frequent.  Where rows have theirs at random
 * the numbers of rows are spread as Poisson's distribution, and then it finds
 * too few when a good part of all rows was seen.  This finds the number C of
 * values to draw from for which it would have found what it did, and says how
 * many of these would occur in all rows.
 */
static double
correct_estimate(double estimate, double seen, double population)
{
	double low = log(Max(estimate, 1));
	double high = log(population * 50);

	if (seen >= population || estimate < 2 || estimate >= population * 0.98)
		return estimate;
	for (int i = 0; i < 40; i++)
	{
		double middle = (low + high) / 2;
		double values = exp(middle);
		double once = seen * exp(-seen / values);
		double distinct = values * (1 - exp(-seen / values));
		double found = seen * distinct / (seen - once + once * seen / population);

		if (found < estimate)
			low = middle;
		else
			high = middle;
	}
	return exp(low) * (1 - exp(-population / exp(low)));
}

/*
 * Haas and Stokes, "Estimating the number of classes in a finite population",
 * JASA 93 (1998), the estimator Duj1, which ANALYZE uses: n d / (n - f1 + f1 n / N).
 */
double
size_estimate_distinct(double seen, double distinct, double once, double population)
{
	if (seen <= 0)
		return 0;
	if (seen >= population || once <= 0)
		return distinct;
	return correct_estimate(
		Min(seen * distinct / (seen - once + once * seen / population), population),
		seen,
		population);
}

/* Frequent values are left out of it, and counted as they are: the same paper's Duj2a. */
static double
distinct_estimate(const Counts *counts, double population)
{
	double rest = counts->rows - counts->heavy_rows;
	double share = counts->rows > 0 ? rest / counts->rows : 0;

	return Max(1,
			   counts->heavy +
				   size_estimate_distinct(
					   rest, counts->distinct - counts->heavy, counts->once, population * share));
}

/* From the statistics of a column; -1 where they do not say. */
double
size_known_distinct(Oid table, AttrNumber attnum, bool inherited, double population)
{
	HeapTuple tuple = SearchSysCache3(
		STATRELATTINH, ObjectIdGetDatum(table), Int16GetDatum(attnum), BoolGetDatum(inherited));
	Form_pg_statistic form;
	double distinct;

	if (!HeapTupleIsValid(tuple))
		return -1;
	form = (Form_pg_statistic) GETSTRUCT(tuple);
	distinct = form->stadistinct < 0 ? -form->stadistinct * population : form->stadistinct;
	/* ANALYZE looks at 300 rows for each entry of its histograms. */
	distinct = correct_estimate(distinct, 300.0 * default_statistics_target, population);
	/* Nulls are one more value in an index. */
	if (form->stanullfrac > 0)
		distinct += 1;
	ReleaseSysCache(tuple);
	return distinct > 0 ? Max(distinct, 1) : -1;
}

/* From CREATE STATISTICS (ndistinct) on exactly these columns; -1 where there are none. */
static double
extended_distinct(const HypotheticalIndex *index, int nkeys, bool inherited)
{
	Relation rel = table_open(index->table, NoLock);
	List *oids = RelationGetStatExtList(rel);
	Bitmapset *wanted = NULL;
	double found = -1;
	ListCell *cell;

	table_close(rel, NoLock);
	if (oids == NIL)
		return -1;
	for (int i = 0; i < nkeys; i++)
	{
		if (index->columns[i].attnum <= 0)
			return -1;
		wanted = bms_add_member(wanted, index->columns[i].attnum);
	}
	foreach(cell, oids)
	{
		MVNDistinct *stats;
		HeapTuple data = SearchSysCache2(
			STATEXTDATASTXOID, ObjectIdGetDatum(lfirst_oid(cell)), BoolGetDatum(inherited));
		bool built;

		if (!HeapTupleIsValid(data))
			continue;
		built = statext_is_kind_built(data, STATS_EXT_NDISTINCT);
		ReleaseSysCache(data);
		if (!built)
			continue;
		stats = statext_ndistinct_load(lfirst_oid(cell), inherited);
		for (int i = 0; i < stats->nitems && found < 0; i++)
		{
			Bitmapset *has = NULL;

			for (int j = 0; j < stats->items[i].nattributes; j++)
				has = bms_add_member(has, Max(stats->items[i].attributes[j], 0));
			if (bms_equal(has, wanted))
				found = stats->items[i].ndistinct;
		}
	}
	list_free(oids);
	return found;
}

/* Hash of the first nkeys keys of a row. */
static inline uint32
key_hash(const SizeInput *input, int nkeys, int row)
{
	uint32 hash = 0;

	for (int i = 0; i < nkeys; i++)
		hash = hash_combine(hash, input->hashes[i][row]);
	return hash == 0 ? 1 : hash;
}

static int
by_count(const void *a, const void *b)
{
	return *(const int *) b - *(const int *) a;
}

/* Counts the keys of the rows that are counted (NULL: all); groups: keep the counts, too. */
static void
count_keys(const SizeInput *input, int nkeys, const bool *counted, bool groups, Counts *counts)
{
	uint32 size = pg_nextpower2_32(Max(input->nrows * 2, 16));
	uint32 *keys = palloc0(sizeof(uint32) * size);
	int *seen = palloc0(sizeof(int) * size);

	memset(counts, 0, sizeof(Counts));
	for (int row = 0; row < input->nrows; row++)
	{
		uint32 hash;
		uint32 slot;

		if (counted != NULL && !counted[row])
			continue;
		counts->rows++;
		hash = key_hash(input, nkeys, row);
		for (slot = hash & (size - 1); keys[slot] != 0 && keys[slot] != hash;)
			slot = (slot + 1) & (size - 1);
		keys[slot] = hash;
		if (seen[slot]++ == 0)
		{
			counts->distinct++;
			counts->once++;
		}
		else if (seen[slot] == 2)
			counts->once--;
	}
	for (uint32 slot = 0; slot < size; slot++)
		if (seen[slot] >= HEAVY_COUNT)
		{
			counts->heavy++;
			counts->heavy_rows += seen[slot];
		}
	if (groups)
	{
		int n = 0;

		counts->count = palloc(sizeof(int) * Max(counts->distinct, 1));
		for (uint32 slot = 0; slot < size; slot++)
			if (seen[slot] > 0)
				counts->count[n++] = seen[slot];
		qsort(counts->count, n, sizeof(int), by_count);
	}
	pfree(keys);
	pfree(seen);
}

/* How many distinct values the first nkeys keys have. */
static double
distinct_keys(const SizeInput *input, int nkeys, const Counts *counts)
{
	const HypotheticalIndex *index = input->index;
	double population = Max(index->rows, 1);
	double estimate = distinct_estimate(counts, population);
	double least = 1;
	double most = 1;
	bool bounded = true;

	if (input->sample->whole && counts->rows >= population)
		return Max(counts->distinct, 1);
	for (int i = 0; i < nkeys; i++)
	{
		double known = -1;

		if (index->columns[i].attnum > 0)
			known = size_known_distinct(
				index->table, index->columns[i].attnum, input->partitioned, index->table_rows);
		if (known < 0)
			bounded = false;
		else
		{
			least = Max(least, known);
			most *= known;
		}
	}
	/* Statistics of all rows bound from above what some of them have, but not from below. */
	if (index->predicate == NIL)
	{
		double known = nkeys > 1 ? extended_distinct(index, nkeys, input->partitioned) : -1;

		if (known > 0)
			return Min(known, population);
		if (nkeys == 1 && bounded)
			return Min(least, population);
		estimate = Max(estimate, least);
		/* Columns that the sample does not show to depend on each other do not. */
		if (bounded)
		{
			double independent = Max(least, most * (1 - exp(-population / most)));
			double noise = sqrt(2 * independent) / Max(counts->rows, 1);

			if (fabs(estimate - independent) < Min(NOISE * noise, SURELY_DEPENDENT) * independent)
				estimate = independent;
		}
	}
	else if (counts->rows < FEW_ROWS && bounded)
		/* Cardenas' formula: distinct values of so many rows drawn at random. */
		estimate = most * (1 - pow(1 - 1 / most, population));
	if (bounded)
		estimate = Min(estimate, most);
	return Max(1, Min(estimate, population));
}

static const bool *
passing(const SizeInput *input)
{
	return input->filter != NULL ? input->filter->passes : NULL;
}

static void
make_groups(KeyGroups *groups, const Counts *counts, double distinct, double rows)
{
	double scale = counts->rows > 0 ? rows / counts->rows : 1;
	double left = rows;

	groups->rows = rows;
	groups->distinct = distinct;
	groups->sizes = palloc(sizeof(double) * Max(counts->distinct, 1));
	while (groups->nsizes < counts->distinct &&
		   (counts->count[groups->nsizes] >= HEAVY_COUNT || scale <= 1))
	{
		double size = Max(counts->count[groups->nsizes] * scale, 1);

		groups->sizes[groups->nsizes++] = size;
		left -= size;
	}
	groups->distinct = Max(groups->distinct, groups->nsizes);
	if (groups->distinct - groups->nsizes >= 1)
		groups->others = Max(1, left / (groups->distinct - groups->nsizes));
}

void
size_groups(SizeInput *input, int nkeys, KeyGroups *groups)
{
	Counts counts;

	memset(groups, 0, sizeof(KeyGroups));
	if (input->nrows == 0 || input->hashes == NULL)
	{
		groups->rows = input->index->rows;
		groups->distinct = input->index->rows;
		groups->others = 1;
		return;
	}
	count_keys(input, nkeys, passing(input), true, &counts);
	input->distinct[nkeys] = distinct_keys(input, nkeys, &counts);
	make_groups(groups, &counts, input->distinct[nkeys], input->index->rows);
}

void
size_groups_of(SizeInput *input, int nkeys, const bool *counted, double rows, KeyGroups *groups)
{
	Counts counts;

	memset(groups, 0, sizeof(KeyGroups));
	count_keys(input, nkeys, counted, true, &counts);
	make_groups(groups, &counts, distinct_estimate(&counts, Max(rows, counts.rows)), rows);
}

void
size_groups_scale(KeyGroups *groups, double factor)
{
	double others = groups->distinct - groups->nsizes;
	double rows = others * groups->others;

	if (others < 1)
		return;
	others = Max(1, Min(others * factor, rows));
	groups->distinct = groups->nsizes + others;
	groups->others = Max(1, rows / others);
}

double
size_distinct(SizeInput *input, int nkeys)
{
	Counts counts;

	if (input->nrows == 0 || input->hashes == NULL)
		return input->index->rows;
	if (input->distinct[nkeys] == 0)
	{
		count_keys(input, nkeys, passing(input), false, &counts);
		input->distinct[nkeys] = distinct_keys(input, nkeys, &counts);
	}
	return input->distinct[nkeys];
}

/* --- index tuples ------------------------------------------------------------------ */

/* How the index stores a column. */
static void
stored_form(const HypotheticalIndex *index, int i, const RowColumn *column, StoredForm *form)
{
	const HypotheticalColumn *col = &index->columns[i];
	Oid type = col->type;
	HeapTuple tuple;

	if (OidIsValid(col->opclass))
	{
		Form_pg_opclass opclass;

		tuple = SearchSysCache1(CLAOID, ObjectIdGetDatum(col->opclass));
		if (!HeapTupleIsValid(tuple))
			elog(ERROR, "cache lookup failed for operator class %u", col->opclass);
		opclass = (Form_pg_opclass) GETSTRUCT(tuple);
		if (OidIsValid(opclass->opckeytype) && !IsPolymorphicType(opclass->opckeytype))
			type = opclass->opckeytype;
		ReleaseSysCache(tuple);
	}
	form->converted = type != col->type;
	form->type = type;
	if (column != NULL && !form->converted)
	{
		form->length = column->form.attlen;
		form->align = column->form.attalign;
	}
	else
	{
		bool byval;

		get_typlenbyvalalign(type, &form->length, &byval, &form->align);
	}
}

/* Bytes of data that a row's entry has, from the tuple's start. */
Size
size_entry(const SizeInput *input, int ncolumns, int row)
{
	Size size = sizeof(IndexTupleData);

	for (int i = 0; i < ncolumns; i++)
		if (input->columns[i]->nnulls > 0 && input->columns[i]->nulls[row])
		{
			size = MAXALIGN(sizeof(IndexTupleData) + sizeof(IndexAttributeBitMapData));
			break;
		}
	for (int i = 0; i < ncolumns; i++)
	{
		const StoredForm *form = &input->forms[i];
		int16 bytes;

		if (input->columns[i]->nnulls > 0 && input->columns[i]->nulls[row])
			continue;
		bytes = input->sizes[i][row];
		if (form->converted)
			/* name as cstring is the only one among ordered opclasses */
			size += form->length > 0 ? form->length
									 : strlen(DatumGetPointer(input->columns[i]->values[row])) + 1;
		else if (bytes < 0)
			size += -bytes;
		else
			size = att_align_nominal(size, form->align) + bytes;
	}
	return MAXALIGN(size);
}

/* Where nothing is known of the values. */
static Size
guess_entry(const HypotheticalIndex *index)
{
	Size size = sizeof(IndexTupleData);

	for (int i = 0; i < index->ncolumns; i++)
		size += get_typavgwidth(index->columns[i].type, index->columns[i].typmod);
	return MAXALIGN(size);
}

double
size_mean_entry(const SizeInput *input)
{
	double sum = 0;
	int n = 0;

	if (input->nrows == 0 || input->sizes == NULL)
		return guess_entry(input->index);
	for (int row = 0; row < input->nrows && n < MEAN_ROWS; row++)
	{
		if (input->filter != NULL && !input->filter->passes[row])
			continue;
		sum += size_entry(input, input->index->ncolumns, row);
		n++;
	}
	return n > 0 ? sum / n : guess_entry(input->index);
}

/* --- all together --------------------------------------------------------------------- */

static void
prepare(SizeInput *input, HypotheticalIndex *index)
{
	bool known = true;

	memset(input, 0, sizeof(SizeInput));
	input->index = index;
	input->sample = rows_sample(index->table);
	input->partitioned = get_rel_relkind(index->table) == RELKIND_PARTITIONED_TABLE;
	input->nrows = input->sample->nrows;
	index->table_rows = input->sample->tuples;
	index->rows = index->table_rows;
	if (index->predicate != NIL)
	{
		input->filter = rows_filter(input->sample, index->predicate);
		index->rows *= input->filter->share;
		input->nrows = Min(input->nrows, input->filter->nrows);
		if (!input->filter->known)
			input->filter = NULL;
	}
	input->columns = palloc(sizeof(RowColumn *) * index->ncolumns);
	input->forms = palloc(sizeof(StoredForm) * index->ncolumns);
	for (int i = 0; i < index->ncolumns; i++)
	{
		RowColumn *column =
			rows_column(input->sample, index->columns[i].attnum, index->columns[i].expression);

		input->columns[i] = column;
		stored_form(index, i, column, &input->forms[i]);
		if (column->known)
			input->nrows = Min(input->nrows, column->nrows);
		else
			known = false;
	}
	if (!known)
		return;
	input->hashes = palloc(sizeof(uint32 *) * index->ncolumns);
	input->sizes = palloc(sizeof(int16 *) * index->ncolumns);
	for (int i = 0; i < index->ncolumns; i++)
	{
		input->hashes[i] = rows_hashes(input->sample, input->columns[i]);
		input->sizes[i] = rows_sizes(input->sample, input->columns[i]);
	}
}

/* What CREATE INDEX would stumble over. */
static void
note_problems(SizeInput *input)
{
	HypotheticalIndex *index = input->index;
	const char *problem = NULL;

	if (index->predicate != NIL)
		problem = rows_filter(input->sample, index->predicate)->problem;
	for (int i = 0; i < index->ncolumns && problem == NULL; i++)
		problem = input->columns[i]->problem;
	if (problem == NULL && input->largest > input->largest_allowed)
		problem = psprintf("a row of %zu bytes is too large for the index, at most %zu are allowed",
						   input->largest,
						   input->largest_allowed);
	if (problem == NULL)
		return;
	index->problem = pstrdup(problem);
	index->pages = MaxBlockNumber;
}

void
hypothetical_measure(HypotheticalIndex *index)
{
	MemoryContext context;
	MemoryContext old;
	SizeInput input;
	bool shown;

	if (index->measured)
		return;
	shown = injection_pause();
	context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt index size", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	prepare(&input, index);
	switch (index->am)
	{
		case BTREE_AM_OID:
			size_btree(&input);
			break;
		case HASH_AM_OID:
			size_hash(&input);
			break;
		case GIN_AM_OID:
			size_gin(&input);
			break;
		case BRIN_AM_OID:
			size_brin(&input);
			break;
		default:
			size_gist(&input);
			break;
	}
	MemoryContextSwitchTo(old);
	note_problems(&input);
	index->bytes = (double) index->pages * BLCKSZ;
	index->key_stats = statistics_of(index, input.sample);
	index->measured = true;
	MemoryContextDelete(context);
	injection_resume(shown);
}

void
hypothetical_forget_samples(void)
{
	rows_forget();
}
