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
	bool reform; /* columns were dropped: every row changes its form */
	int natts;
	Size toast_target;
	Datum *values;
	bool *isnull;
	HeapPacking packing;
	double toast_now; /* out-of-line data of the rows that were measured */
	double toast_kept;
} HeapWalk;

static double
packing_position(const HeapPacking *packing)
{
	double used = (double) packing->used / (PAGE_SPACE - packing->reserve);

	return packing->pages + Min(used, 1.0);
}

/* As raw_heap_insert() in the server does. */
static void
pack_row(HeapPacking *packing, Size length)
{
	Size left = PAGE_SPACE - packing->used;

	if (packing->rows > 0 && (packing->rows >= MaxHeapTuplesPerPage ||
							  MAXALIGN(length) + packing->reserve + sizeof(ItemIdData) > left))
	{
		packing->pages++;
		packing->used = 0;
		packing->rows = 0;
	}
	packing->used += ROW_SPACE(length);
	packing->rows++;
}

/* --- the length of a row after a rewrite ------------------------------------------ */

/* Space that an out-of-line value takes in the TOAST table. */
static double
toast_space(struct varlena *value)
{
	struct varatt_external pointer;
	Size size;

	VARATT_EXTERNAL_GET_POINTER(pointer, value);
	size = VARATT_EXTERNAL_GET_EXTSIZE(pointer);
	return (double) (size / TOAST_MAX_CHUNK_SIZE) *
			   ROW_SPACE(SizeofHeapTupleHeader + 1 + sizeof(Oid) + sizeof(int32) + VARHDRSZ +
						 TOAST_MAX_CHUNK_SIZE) +
		   (size % TOAST_MAX_CHUNK_SIZE > 0
				? ROW_SPACE(SizeofHeapTupleHeader + 1 + sizeof(Oid) + sizeof(int32) + VARHDRSZ +
							size % TOAST_MAX_CHUNK_SIZE)
				: 0);
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
			walk->toast_kept +=
				toast_space((struct varlena *) DatumGetPointer(walk->values[biggest]));
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

		if (out_of_line && !walk->isnull[i] && is_out_of_line(att, walk->values[i]))
			walk->toast_now += toast_space((struct varlena *) DatumGetPointer(walk->values[i]));
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
measure_heap_page(void *state, Buffer buffer, SamplePage *sampled)
{
	HeapWalk *walk = state;
	Page page = BufferGetPage(buffer);
	float *value = sampled->value;
	double before = packing_position(&walk->packing);
	bool all_visible;
	OffsetNumber rows;

	if (PageIsNew(page))
	{
		value[PAGE_FREE] = PAGE_SPACE;
		return;
	}
	value[PAGE_FREE] = PageGetExactFreeSpace(page);
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
		row.t_data = (HeapTupleHeader) PageGetItem(page, item);
		row.t_len = ItemIdGetLength(item);
		row.t_tableOid = RelationGetRelid(walk->rel);
		ItemPointerSet(&row.t_self, sampled->block, n);
		if (all_visible)
		{
			value[PAGE_LIVE_ROWS] += 1;
			keep_row(walk, &row, value);
		}
		else
			measure_row(walk, &row, buffer, value);
	}
	value[PAGE_REWRITTEN] = packing_position(&walk->packing) - before;
}

/* --- the table --------------------------------------------------------------------------- */

static void
begin_walk(HeapWalk *walk, Relation rel)
{
	TupleDesc desc = RelationGetDescr(rel);

	memset(walk, 0, sizeof(HeapWalk));
	walk->rel = rel;
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

	while (i > 0 && sample->pages[i - 1].value[PAGE_REWRITTEN] == 0 &&
		   sample->pages[i - 1].value[PAGE_HELD_ROWS] == 0)
		i--;
	return (double) (sample->size - i) * sample->population / Max(sample->size, 1);
}

static void
conclude(const Sample *sample, const HeapWalk *walk, BloatEstimate *estimate)
{
	double n = sample->population;
	double error, ignored, margin;

	estimate->pages = sample->population;
	estimate->pages_sampled = sample->size;
	estimate->size = n * BLCKSZ;
	estimate->free_bytes = n * sample_mean(sample, PAGE_FREE, &ignored);
	estimate->dead_bytes = n * sample_mean(sample, PAGE_DEAD, &ignored);
	estimate->held_bytes = n * sample_mean(sample, PAGE_HELD, &ignored);
	estimate->live_rows = n * sample_mean(sample, PAGE_LIVE_ROWS, &ignored);
	estimate->dead_rows = n * sample_mean(sample, PAGE_DEAD_ROWS, &ignored);
	estimate->held_rows = n * sample_mean(sample, PAGE_HELD_ROWS, &ignored);
	estimate->entries = n * sample_mean(sample, PAGE_ENTRIES, &estimate->entries_error);
	estimate->entries_error *= n;
	estimate->dead_entries = n * sample_mean(sample, PAGE_DEAD_ENTRIES, &ignored);
	estimate->toast_kept = walk->toast_now > 0 ? Min(walk->toast_kept / walk->toast_now, 1.0) : 1.0;
	estimate->empty_tail = empty_tail(sample);

	if (sample_whole(sample))
	{
		estimate->exact = true;
		estimate->rewritten = BLCKSZ * (walk->packing.pages + (walk->packing.rows > 0 ? 1.0 : 0.0));
		margin = BLCKSZ;
	}
	else
	{
		estimate->rewritten = n * BLCKSZ * sample_mean(sample, PAGE_REWRITTEN, &error);

		/* A bit of a stretch may differ from what was drawn of it without any sign of it. */
		margin = n * BLCKSZ * (2.1 * error + 0.0025 + 0.5 / sample->size);
	}
	estimate->rewritten_low = Max(estimate->rewritten - margin, 0.0);
	estimate->rewritten_high = estimate->rewritten + margin;
	margin /= Max(estimate->size, BLCKSZ);
	estimate->confidence = sample_whole(sample) || margin <= 0.02 ? BLOAT_HIGH
						   : margin <= 0.06                       ? BLOAT_MEDIUM
																  : BLOAT_LOW;
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
	estimate->toast_kept = 1.0;
	if (rel->rd_rel->relam != HEAP_TABLE_AM_OID)
	{
		estimate->reason = "its access method is not heap";
		MemoryContextSwitchTo(old);
		MemoryContextDelete(context);
		return;
	}

	sample_begin(&sample, rel, 0);
	begin_walk(&walk, rel);
	if (sample.population <= budget->whole)
	{
		sample_all(&sample);
		sample_measure(&sample, measure_heap_page, &walk);
	}
	else
	{
		int limit = sample_limit(&sample, budget);
		double error, entries_error, entries;

		maps_read(&sample);
		sample_draw(&sample, Min(budget->first, limit));
		for (;;)
		{
			sample_measure(&sample, measure_heap_page, &walk);
			(void) sample_mean(&sample, PAGE_REWRITTEN, &error);
			entries = sample_mean(&sample, PAGE_ENTRIES, &entries_error);
			if (Max(error, entries > 0 ? entries_error / entries : 0) * 200 <= budget->target ||
				sample.size * 2 > limit || !sample_double(&sample))
				break;
		}
	}
	conclude(&sample, &walk, estimate);
	FreeAccessStrategy(sample.strategy);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	INSTR_TIME_SET_CURRENT(duration);
	INSTR_TIME_SUBTRACT(duration, start);
	estimate->milliseconds = INSTR_TIME_GET_MILLISEC(duration);
}
