/*
 * heap.c
 *		What VACUUM FULL would make of a table.
 *
 * On each page of the sample every row that a rewrite keeps is measured as the
 * rewrite would form it: dropped columns are null, columns that were added
 * with a default are filled in, out-of-line values are fetched back and put
 * out again.  The rows are then packed onto imaginary pages one after the
 * other, as the server packs them, fillfactor and the row that does not fit
 * any more included.  A page's share is how far the packing moved on.
 *
 * Cost: 2 to 6 microseconds a page of a hundred rows; only rows of tables with
 * dropped or missing columns and rows with out-of-line values are taken apart.
 */
#include "pgopt.h"

#include "access/detoast.h"
#include "access/heapam.h"
#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "access/toast_internals.h"
#include "access/visibilitymap.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "portability/instr_time.h"
#include "storage/bufpage.h"
#include "storage/procarray.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "sample.h"

/* Space that a line pointer and its row take. */
#define ROW_SPACE(length) (MAXALIGN(length) + sizeof(ItemIdData))
#define PAGE_SPACE        (BLCKSZ - SizeOfPageHeaderData)

/* Units of a sample, at least; and rows a page from which a unit is one page. */
#define MIN_UNITS 48
#define MANY_ROWS 24

/* Pages that were filled, and the one that is being filled. */
typedef struct HeapPacking
{
	double pages;
	Size used;
	int rows;
	Size reserve; /* what the fillfactor leaves free */
} HeapPacking;

typedef struct HeapWalk
{
	Relation rel;
	TransactionId horizon;
	bool rows_only;
	bool reform; /* columns were dropped: every row changes its form */
	int natts;
	Size toast_target;
	Datum *values;
	bool *isnull;
	HeapPacking packing;
	HeapPacking toast; /* out-of-line values that are kept */

	/* While a unit's last page is filled up with rows from behind it. */
	bool filling_up;
	Size own_space;
	double own_position;
} HeapWalk;

static double
packing_position(const HeapPacking *packing)
{
	double used = (double) packing->used / (PAGE_SPACE - packing->reserve);

	return packing->pages + Min(used, 1.0);
}

/* Ends a page that has no room for a row, as raw_heap_insert() in the server does. */
static void
make_room(HeapPacking *packing, Size length)
{
	Size left = PAGE_SPACE - packing->used;

	if (packing->rows > 0 && (packing->rows >= MaxHeapTuplesPerPage ||
							  MAXALIGN(length) + packing->reserve + sizeof(ItemIdData) > left))
	{
		packing->pages++;
		packing->used = 0;
		packing->rows = 0;
	}
}

static void
pack_row(HeapPacking *packing, Size length)
{
	make_room(packing, length);
	packing->used += ROW_SPACE(length);
	packing->rows++;
}

/* --- the length of a row after a rewrite ------------------------------------------ */

/* Packs the pieces of an out-of-line value as the TOAST table holds them. */
static void
pack_value(HeapWalk *walk, Datum value)
{
	const Size overhead = MAXALIGN(SizeofHeapTupleHeader) + sizeof(Oid) + sizeof(int32) + VARHDRSZ;
	struct varatt_external pointer;
	Size left;

	if (walk->filling_up)
		return;

	VARATT_EXTERNAL_GET_POINTER(pointer, (struct varlena *) DatumGetPointer(value));
	for (left = VARATT_EXTERNAL_GET_EXTSIZE(pointer); left > TOAST_MAX_CHUNK_SIZE;
		 left -= TOAST_MAX_CHUNK_SIZE)
		pack_row(&walk->toast, overhead + TOAST_MAX_CHUNK_SIZE);
	pack_row(&walk->toast, overhead + left);
}

static bool
is_out_of_line(Form_pg_attribute att, Datum value)
{
	return att->attlen == -1 && VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(value));
}

/*
 * Which values a rewrite puts out of line: it fetches those back that are
 * there and begins anew with the longest.  Compression is taken to have been
 * tried.  Returns the change in length, and in the TOAST table.
 */
static Size
toast_again(HeapWalk *walk, Size header, Size length)
{
	TupleDesc desc = RelationGetDescr(walk->rel);
	Size size[MaxHeapAttributeNumber];
	Size data = length;
	Size limit = walk->toast_target - header;
	bool changed = false;
	Size result = length;

	for (int i = 0; i < walk->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		struct varlena *value;

		size[i] = 0;
		if (walk->isnull[i] || att->attlen != -1)
			continue;
		value = (struct varlena *) DatumGetPointer(walk->values[i]);
		if (VARATT_IS_EXTERNAL_ONDISK(value))
		{
			struct varatt_external pointer;

			VARATT_EXTERNAL_GET_POINTER(pointer, value);
			size[i] = VARATT_EXTERNAL_GET_EXTSIZE(pointer) + VARHDRSZ;
			data += size[i] - TOAST_POINTER_SIZE;
		}
		else if (att->attstorage == TYPSTORAGE_EXTENDED || att->attstorage == TYPSTORAGE_EXTERNAL)
			size[i] = VARSIZE_ANY(value);
	}
	while (data > limit)
	{
		int biggest = -1;

		for (int i = 0; i < walk->natts; i++)
		{
			if (size[i] > MAXALIGN(TOAST_POINTER_SIZE) && (biggest < 0 || size[i] > size[biggest]))
				biggest = i;
		}
		if (biggest < 0)
			break;
		data -= size[biggest] - TOAST_POINTER_SIZE;
		size[biggest] = 0;
		if (!is_out_of_line(TupleDescAttr(desc, biggest), walk->values[biggest]))
			changed = true; /* one more goes out */
		else
			pack_value(walk, walk->values[biggest]);
	}
	for (int i = 0; i < walk->natts && !changed; i++)
	{
		if (size[i] > 0 && is_out_of_line(TupleDescAttr(desc, i), walk->values[i]))
			changed = true; /* one comes back */
	}
	if (changed)
		result = data;
	return result;
}

static Size
rewritten_length(HeapWalk *walk, HeapTuple row)
{
	TupleDesc desc = RelationGetDescr(walk->rel);
	Size header = SizeofHeapTupleHeader;
	Size data;
	bool nulls = false;
	bool out_of_line = HeapTupleHasExternal(row);

	if (!walk->reform && !out_of_line && HeapTupleHeaderGetNatts(row->t_data) >= walk->natts)
		return row->t_len;

	heap_deform_tuple(row, desc, walk->values, walk->isnull);
	for (int i = 0; i < walk->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped)
			walk->isnull[i] = true;
		nulls |= walk->isnull[i];
	}
	if (nulls)
		header += BITMAPLEN(walk->natts);
	header = MAXALIGN(header);
	data = heap_compute_data_size(desc, walk->values, walk->isnull);
	if (out_of_line && walk->toast_target > 0)
		data = toast_again(walk, header, data);
	return header + data;
}

/* --- pages ------------------------------------------------------------------------------ */

static void
keep_row(HeapWalk *walk, HeapTuple row, float *value)
{
	if (!walk->rows_only)
		pack_row(&walk->packing, rewritten_length(walk, row));
	value[PAGE_ENTRIES] += 1;
}

static void
measure_row(HeapWalk *walk, HeapTuple row, Buffer buffer, float *value)
{
	uint16 mask = row->t_data->t_infomask;
	HTSV_Result fate = HEAPTUPLE_LIVE;

	/* What nearly all rows are needs no call. */
	if ((mask & (HEAP_XMIN_COMMITTED | HEAP_XMAX_INVALID)) !=
		(HEAP_XMIN_COMMITTED | HEAP_XMAX_INVALID))
		fate = HeapTupleSatisfiesVacuum(row, walk->horizon, buffer);

	switch (fate)
	{
		case HEAPTUPLE_LIVE:
		case HEAPTUPLE_INSERT_IN_PROGRESS:
			value[PAGE_LIVE_ROWS] += 1;
			keep_row(walk, row, value);
			break;
		case HEAPTUPLE_DELETE_IN_PROGRESS:
			value[PAGE_LIVE_ROWS] += 1;
			keep_row(walk, row, value);
			if (HeapTupleIsHotUpdated(row))
				value[PAGE_ENTRIES] -= 1;
			break;
		case HEAPTUPLE_RECENTLY_DEAD:
			value[PAGE_HELD_ROWS] += 1;
			value[PAGE_HELD] += ROW_SPACE(row->t_len);
			keep_row(walk, row, value);
			if (HeapTupleIsHotUpdated(row))
				value[PAGE_ENTRIES] -= 1;
			break;
		case HEAPTUPLE_DEAD:
			value[PAGE_DEAD_ROWS] += 1;
			value[PAGE_DEAD] += ROW_SPACE(row->t_len);

			/* One entry a chain; an update that was rolled back made none if it was HOT. */
			if (!HeapTupleIsHotUpdated(row) &&
				!(HeapTupleIsHeapOnly(row) && HeapTupleHeaderXminInvalid(row->t_data)))
				value[PAGE_DEAD_ENTRIES] += 1;
			break;
	}
}

static void
measure_heap_page(void *state, Buffer buffer, BlockNumber block, float *value)
{
	HeapWalk *walk = state;
	Page page = BufferGetPage(buffer);
	double before = packing_position(&walk->packing);
	double toast_before = packing_position(&walk->toast);
	bool all_visible;
	OffsetNumber rows;
	int counted = 0;

	if (PageIsNew(page))
	{
		value[PAGE_FREE] += PAGE_SPACE;
		return;
	}
	value[PAGE_FREE] += PageGetExactFreeSpace(page);
	all_visible = PageIsAllVisible(page);
	rows = PageGetMaxOffsetNumber(page);
	for (OffsetNumber n = FirstOffsetNumber; n <= rows; n++)
	{
		ItemId item = PageGetItemId(page, n);
		HeapTupleData row;

		if (ItemIdIsDead(item))
		{
			value[PAGE_DEAD] += sizeof(ItemIdData);
			value[PAGE_DEAD_ENTRIES] += 1;
		}
		if (!ItemIdIsNormal(item))
			continue;
		if (all_visible && walk->rows_only)
		{
			counted++;
			continue;
		}
		row.t_data = (HeapTupleHeader) PageGetItem(page, item);
		row.t_len = ItemIdGetLength(item);
		row.t_tableOid = RelationGetRelid(walk->rel);
		ItemPointerSet(&row.t_self, block, n);
		if (all_visible)
		{
			value[PAGE_LIVE_ROWS] += 1;
			keep_row(walk, &row, value);
		}
		else
			measure_row(walk, &row, buffer, value);
	}
	value[PAGE_LIVE_ROWS] += counted;
	value[PAGE_ENTRIES] += counted;
	value[PAGE_REWRITTEN] += packing_position(&walk->packing) - before;
	value[PAGE_TOAST] += packing_position(&walk->toast) - toast_before;
}

/*
 * Behind a unit of several pages: fills the last imaginary page up with the
 * rows that come next, so that the unit has its fair share of what is lost at
 * the end of that page, and the next unit begins a page of its own.
 */
static bool
fill_up(void *state, Buffer buffer, BlockNumber block, float *value)
{
	HeapWalk *walk = state;
	HeapPacking *packing = &walk->packing;
	double pages = packing->pages;
	OffsetNumber rows = 0;
	Page page;

	if (!walk->filling_up)
	{
		walk->filling_up = true;
		walk->own_space = packing->used;
		walk->own_position = packing_position(packing);
	}
	if (walk->own_space > 0 && BufferIsValid(buffer))
	{
		page = BufferGetPage(buffer);
		rows = PageIsNew(page) ? 0 : PageGetMaxOffsetNumber(page);
	}
	for (OffsetNumber n = FirstOffsetNumber; n <= rows; n++)
	{
		HeapTupleData row;
		ItemId item = PageGetItemId(page, n);
		Size used = packing->used;
		Size length;

		if (!ItemIdIsNormal(item))
			continue;
		row.t_data = (HeapTupleHeader) PageGetItem(page, item);
		row.t_len = ItemIdGetLength(item);
		row.t_tableOid = RelationGetRelid(walk->rel);
		ItemPointerSet(&row.t_self, block, n);
		if (HeapTupleSatisfiesVacuum(&row, walk->horizon, buffer) == HEAPTUPLE_DEAD)
			continue;
		length = rewritten_length(walk, &row);
		make_room(packing, length);
		if (packing->pages > pages)
		{
			value[PAGE_REWRITTEN] += pages + (double) walk->own_space / used - walk->own_position;
			break;
		}
		packing->used += ROW_SPACE(length);
		packing->rows++;
	}
	if (packing->pages == pages && walk->own_space > 0 && BufferIsValid(buffer))
		return true;
	packing->pages = pages + 1;
	packing->used = 0;
	packing->rows = 0;
	walk->filling_up = false;
	return false;
}

/* --- the table --------------------------------------------------------------------------- */

static void
begin_walk(HeapWalk *walk, Relation rel, bool rows_only)
{
	TupleDesc desc = RelationGetDescr(rel);

	memset(walk, 0, sizeof(HeapWalk));
	walk->rel = rel;
	walk->rows_only = rows_only;
	walk->horizon = GetOldestNonRemovableTransactionId(rel);
	walk->natts = desc->natts;
	walk->values = palloc(sizeof(Datum) * Max(desc->natts, 1));
	walk->isnull = palloc(sizeof(bool) * Max(desc->natts, 1));
	walk->packing.reserve = RelationGetTargetPageFreeSpace(rel, HEAP_DEFAULT_FILLFACTOR);
	if (OidIsValid(rel->rd_rel->reltoastrelid))
		walk->toast_target = RelationGetToastTupleTarget(rel, TOAST_TUPLE_TARGET);
	for (int i = 0; i < desc->natts; i++)
		walk->reform |= TupleDescAttr(desc, i)->attisdropped;
}

/* Pages at the end of the table on which the sample found nothing to keep. */
static double
empty_tail(const Sample *sample)
{
	int i = sample->size;

	while (i > 0 && sample->units[i - 1].value[PAGE_REWRITTEN] == 0 &&
		   sample->units[i - 1].value[PAGE_HELD_ROWS] == 0)
		i--;
	return (double) (sample->size - i) * sample->blocks / Max(sample->size, 1);
}

static void
conclude(const Sample *sample, const HeapWalk *walk, BloatEstimate *estimate)
{
	double n = sample->population;
	double error, ignored, margin;

	estimate->pages = sample->blocks;
	estimate->columns_dropped = walk->reform;
	estimate->pages_sampled = sample_pages(sample);
	estimate->size = (double) sample->blocks * BLCKSZ;
	estimate->free_bytes = n * sample_mean(sample, PAGE_FREE, &ignored);
	estimate->dead_bytes = n * sample_mean(sample, PAGE_DEAD, &ignored);
	estimate->held_bytes = n * sample_mean(sample, PAGE_HELD, &ignored);
	estimate->live_rows = n * sample_mean(sample, PAGE_LIVE_ROWS, &ignored);
	estimate->dead_rows = n * sample_mean(sample, PAGE_DEAD_ROWS, &ignored);
	estimate->held_rows = n * sample_mean(sample, PAGE_HELD_ROWS, &ignored);
	estimate->entries = n * sample_mean(sample, PAGE_ENTRIES, &estimate->entries_error);
	estimate->entries_error *= n;
	estimate->dead_entries = n * sample_mean(sample, PAGE_DEAD_ENTRIES, &ignored);
	estimate->empty_tail = empty_tail(sample);

	estimate->toast = n * BLCKSZ * sample_mean(sample, PAGE_TOAST, &estimate->toast_error);
	estimate->toast_error *= n * BLCKSZ;

	if (sample->in_order)
	{
		estimate->exact = true;
		estimate->rewritten = BLCKSZ * (walk->packing.pages + (walk->packing.rows > 0 ? 1.0 : 0.0));
		estimate->toast = BLCKSZ * (walk->toast.pages + (walk->toast.rows > 0 ? 1.0 : 0.0));
		margin = BLCKSZ;
	}
	else
	{
		estimate->rewritten = n * BLCKSZ * sample_mean(sample, PAGE_REWRITTEN, &error);
		estimate->rewritten_error = n * BLCKSZ * error;

		/* A bit of a stretch may differ from what was drawn of it without any sign of it. */
		margin = n * BLCKSZ * 2.1 * error + estimate->size * (0.0025 + 0.5 / sample->size);
	}
	estimate->rewritten_low = Max(estimate->rewritten - margin, 0.0);
	estimate->rewritten_high = estimate->rewritten + margin;
	margin /= Max(estimate->size, (double) BLCKSZ);
	estimate->confidence = sample->in_order || margin <= 0.02 ? BLOAT_HIGH
						   : margin <= 0.06                   ? BLOAT_MEDIUM
															  : BLOAT_LOW;
}

/*
 * How many consecutive pages make a unit: what is lost at the end of a page
 * depends on the row that comes next, and all the more the wider rows are.
 */
static int
run_length(Relation rel, int budget)
{
	Form_pg_class form = rel->rd_rel;
	double rows, pages;
	Sample sample;
	HeapWalk walk;

	if (budget < MIN_UNITS || (form->relpages > 0 && form->reltuples / form->relpages >= MANY_ROWS))
		return 1;
	sample_begin(&sample, rel, 0, 1);
	begin_walk(&walk, rel, false);
	sample_draw(&sample, Min(16, sample.population));
	sample_measure(&sample, measure_heap_page, NULL, &walk);
	FreeAccessStrategy(sample.strategy);
	rows = sample_mean(&sample, PAGE_LIVE_ROWS, &pages);
	pages = sample_mean(&sample, PAGE_REWRITTEN, &pages);
	if (rows >= MANY_ROWS * pages)
		return 1;
	return rows >= 8 * pages ? 2 : rows >= 4 * pages ? 4 : 8;
}

/* Draws and measures until the estimates are good enough, or the budget is used up. */
static void
sample_enough(Sample *sample, HeapWalk *walk, const BloatBudget *budget)
{
	int limit;

	sample_set_run(sample, budget->rows_only ? 1 : run_length(sample->rel, budget->first));
	limit = sample_limit(sample, budget);
	maps_read(sample);
	sample_draw(sample,
				Min(Max(budget->first / sample->run, Min(MIN_UNITS, budget->first)), limit));
	for (;;)
	{
		double error, entries_error, entries;

		sample_measure(sample, measure_heap_page, fill_up, walk);
		(void) sample_mean(sample, PAGE_REWRITTEN, &error);
		entries = sample_mean(sample, PAGE_ENTRIES, &entries_error);
		error /= sample->run;
		if (entries > 0)
			error = Max(error, entries_error / entries);
		if (200 * error <= budget->target || sample->size * 2 > limit || !sample_double(sample))
			return;
	}
}

void
bloat_measure_heap(Relation rel, const BloatBudget *budget, BloatEstimate *estimate)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt bloat", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	instr_time start, duration;
	Sample sample;
	HeapWalk walk;

	INSTR_TIME_SET_CURRENT(start);
	memset(estimate, 0, sizeof(BloatEstimate));
	if (rel->rd_rel->relam != HEAP_TABLE_AM_OID)
	{
		estimate->reason = "its access method is not heap";
		MemoryContextSwitchTo(old);
		MemoryContextDelete(context);
		return;
	}

	sample_begin(&sample, rel, 0, 1);
	begin_walk(&walk, rel, budget->rows_only);
	if (sample.blocks <= budget->whole)
	{
		sample_all(&sample);
		sample_measure(&sample, measure_heap_page, NULL, &walk);
	}
	else
		sample_enough(&sample, &walk, budget);
	conclude(&sample, &walk, estimate);
	FreeAccessStrategy(sample.strategy);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	INSTR_TIME_SET_CURRENT(duration);
	INSTR_TIME_SUBTRACT(duration, start);
	estimate->milliseconds = INSTR_TIME_GET_MILLISEC(duration);
}

void
bloat_weigh_toast(const BloatEstimate *table, BloatEstimate *toast)
{
	double own = Max(toast->rewritten_error, 0.005 * toast->size);
	double margin;

	if (table->confidence == BLOAT_UNKNOWN || toast->confidence == BLOAT_UNKNOWN ||
		(table->toast_error > own && !table->columns_dropped))
		return;
	margin = 2.1 * table->toast_error +
			 (table->exact ? BLCKSZ : toast->size * (0.0025 + 0.5 / table->pages_sampled));
	toast->rewritten = table->toast;
	toast->rewritten_error = table->toast_error;
	toast->rewritten_low = Max(toast->rewritten - margin, 0.0);
	toast->rewritten_high = toast->rewritten + margin;
	if (!table->exact)
		toast->confidence = Min(toast->confidence, table->confidence);
}
