/*
 * segment_read.c
 *		Reads segments: pages, arrays, filter dictionaries.
 *
 * One share lock at a time, let go before a function returns.  Nothing that
 * was read is believed: an offset, width or count is checked before it is
 * used, so that a damaged page gives an error and no more.
 *
 * Cost: a look-up in the buffer table for each page; memory: the header, and
 * for a file one page.
 */
#include "postgres.h"

#include "access/tupmacs.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "compat.h"
#include "pages.h"
#include "segment_private.h"

void
segment_corrupted(SegmentReader *reader, uint32 page, const char *what)
{
	if (reader->file != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("temporary file of an index build is corrupted at page %u", page),
				 errdetail("The page %s.", what)));
	if (page >= reader->header->npages)
		search_corrupted(reader->index, reader->header_block, what);
	search_corrupted(reader->index, segment_block(reader, page), what);
}

/* --- pages ------------------------------------------------------------------------------ */

typedef enum PageState
{
	PAGE_GOOD,
	PAGE_REPLACED,
	PAGE_BAD
} PageState;

static inline PageState
page_state(Page page, uint64 owner, uint16 kind)
{
	const SearchPageOpaque *opaque;
	PageHeader header = (PageHeader) page;

	if (header->pd_special != BLCKSZ - MAXALIGN(sizeof(SearchPageOpaque)))
		return PAGE_BAD;
	opaque = SearchPageGetOpaque(page);
	if (opaque->id != SEARCH_PAGE_ID)
		return PAGE_BAD;
	if (opaque->owner != owner)
		return PAGE_REPLACED;
	if (opaque->kind != kind || header->pd_lower < SEARCH_PAGE_OFFSET ||
		header->pd_lower > header->pd_special)
		return PAGE_BAD;
	return PAGE_GOOD;
}

/*
 * A page of another owner: the segment was replaced, unless the meta page
 * still lists it (it is changed before pages are given up).
 */
static void
note_replaced(Relation index, uint64 id, BlockNumber block, bool *stale)
{
	SearchMeta *meta = search_read_meta(index);

	for (uint32 i = 0; i < meta->nsegments; i++)
	{
		if (meta->segments[i].id == id)
			search_corrupted(index, block, "belongs to another part of the index");
	}
	pfree(meta);
	*stale = true;
}

BlockNumber
segment_block(SegmentReader *reader, uint32 page)
{
	const SegmentHeader *header = reader->header;
	uint32 i = reader->extent;

	if (reader->file != NULL)
		return page;
	if (page < reader->extent_first[i] ||
		page - reader->extent_first[i] >= header->extents[i].npages)
	{
		uint32 low = 0;
		uint32 high = header->nextents - 1;

		while (low < high)
		{
			uint32 middle = (low + high + 1) / 2;

			if (reader->extent_first[middle] <= page)
				low = middle;
			else
				high = middle - 1;
		}
		reader->extent = i = low;
	}
	return header->extents[i].start + (page - reader->extent_first[i]);
}

static void
read_image(SegmentReader *reader, uint32 page, char *image)
{
	if (BufFileSeekBlock(reader->file, page) != 0 ||
		BufFileRead(reader->file, image, BLCKSZ) != BLCKSZ)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read page %u of an index build's temporary file: %m", page)));
}

/* Spares the buffer table where the block is still in the buffer that it was in. */
static inline Buffer
read_block(Relation index, BlockNumber block, Buffer recent)
{
	if (BufferIsValid(recent) &&
		ReadRecentBuffer(compat_rel_files(index), MAIN_FORKNUM, block, recent))
		return recent;
	return ReadBuffer(index, block);
}

bool
segment_view(SegmentReader *reader, uint32 number, Buffer recent, SegmentView *view)
{
	Page page;
	PageState state;

	if (number >= reader->header->npages)
		segment_corrupted(
			reader, number, "is the header of a segment in which something points beyond the end");
	if (reader->file != NULL)
	{
		if (reader->image == NULL)
			reader->image = MemoryContextAlloc(reader->context, BLCKSZ);
		if (reader->image_page != number)
		{
			reader->image_page = InvalidBlockNumber;
			read_image(reader, number, reader->image);
			reader->image_page = number;
		}
		view->buffer = InvalidBuffer;
		page = reader->image;
	}
	else
	{
		if (*reader->stale)
			return false;
		view->buffer = read_block(reader->index, segment_block(reader, number), recent);
		LockBuffer(view->buffer, BUFFER_LOCK_SHARE);
		page = BufferGetPage(view->buffer);
	}

	state = page_state(page, reader->header->id, SEARCH_PAGE_SEGMENT);
	if (likely(state == PAGE_GOOD))
	{
		view->content = SearchPageContent(page);
		view->length = ((PageHeader) page)->pd_lower - SEARCH_PAGE_OFFSET;
		view->next = SearchPageGetOpaque(page)->next;
		/* Streams go forward, so that no walk along them can be endless. */
		if (likely(view->next > number))
			return true;
		state = PAGE_BAD;
	}
	segment_view_end(view);
	if (state == PAGE_BAD || reader->file != NULL)
		segment_corrupted(reader, number, "is not one of a segment, or its header is wrong");
	note_replaced(reader->index, reader->header->id, segment_block(reader, number), reader->stale);
	return false;
}

bool
segment_copy_page(SegmentReader *reader, uint32 page, SegmentPage *copy)
{
	SegmentView view;

	if (copy->image == NULL)
		copy->image = MemoryContextAlloc(reader->context, BLCKSZ);
	copy->page = InvalidBlockNumber;
	if (!segment_view(reader, page, InvalidBuffer, &view))
		return false;
	memcpy(SearchPageContent(copy->image), view.content, view.length);
	copy->page = page;
	copy->length = view.length;
	copy->next = view.next;
	segment_view_end(&view);
	return true;
}

/* --- opening ---------------------------------------------------------------------------- */

/* Do `n` pages from `first` on lie in the segment? */
static inline bool
pages_fit(const SegmentHeader *header, uint32 first, uint64 n)
{
	return n == 0 || (first < header->npages && n <= header->npages - first);
}

static inline uint64
pages_for(uint64 n, uint32 per_page)
{
	return (n + per_page - 1) / per_page;
}

static bool
tree_fits(const SegmentHeader *header, uint32 root, uint32 height, uint32 first_leaf)
{
	if (root == InvalidBlockNumber)
		return true;
	return root < header->npages && first_leaf < header->npages && height < TREE_MAX_HEIGHT;
}

/* What is wrong with a header, or NULL. */
static const char *
check_header(const SegmentHeader *header, const SearchSettings *settings, BlockNumber nblocks)
{
	uint64 n = 0;

	if (header->nfields != settings->nfields || header->nfilters != settings->nfilters)
		return "is the header of a segment with other columns than the index";
	if (header->ndocs > SEARCH_MAX_DOCUMENTS)
		return "gives a wrong number of documents";
	for (uint32 i = 0; i < header->nextents; i++)
	{
		const Extent *extent = &header->extents[i];

		if (extent->start < SEARCH_FIRST_BLOCK || extent->start >= nblocks || extent->npages == 0 ||
			extent->npages > nblocks - extent->start)
			return "lists a wrong extent";
		n += extent->npages;
	}
	if (n < header->npages)
		return "lists too few extents";
	if (!pages_fit(header, header->tids_page, pages_for(header->ndocs, TIDS_PER_PAGE)) ||
		!pages_fit(header, header->lengths_page, pages_for(header->ndocs, LENGTHS_PER_PAGE)) ||
		!pages_fit(header, header->deleted_page, pages_for(header->ndocs, DELETED_PER_PAGE)))
		return "gives a wrong place of an array";
	for (int i = 0; i < header->nfilters; i++)
	{
		const FilterHeader *filter = &header->filters[i];

		if (filter->width != 1 && filter->width != 2 && filter->width != 4)
			return "gives a wrong width of a filter's codes";
		if (!pages_fit(header,
					   filter->codes_page,
					   pages_for(header->ndocs, SEARCH_PAGE_CONTENT / filter->width)) ||
			!pages_fit(header, filter->dictionary_page, filter->dictionary_pages) ||
			(filter->nvalues > 0) != (filter->dictionary_pages > 0))
			return "gives a wrong place of a filter";
	}
	if (!tree_fits(header, header->terms_root, header->terms_height, header->terms_first_leaf) ||
		!tree_fits(header, header->words_root, header->words_height, header->words_first_leaf))
		return "gives a wrong place of a dictionary";
	return NULL;
}

static SegmentReader *
reader_create(const SearchSettings *settings)
{
	SegmentReader *reader = palloc0(sizeof(SegmentReader));

	reader->context = CurrentMemoryContext;
	reader->settings = settings;
	reader->image_page = InvalidBlockNumber;
	return reader;
}

SegmentReader *
segment_open(Relation index, const SearchSettings *settings, const SegmentEntry *entry, bool *stale)
{
	SegmentReader *reader = reader_create(settings);
	SegmentHeader *header = palloc0(BLCKSZ);
	BlockNumber nblocks = 0;
	Buffer buffer;
	Page page;
	PageState state;
	uint32 length = 0;
	const char *wrong;
	uint32 first = 0;

	reader->index = index;
	reader->stale = stale;
	reader->header = header;
	reader->header_block = entry->header;

	buffer = search_read_block(index, entry->header, &nblocks);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	state = page_state(page, entry->id, SEARCH_PAGE_HEADER);
	if (state == PAGE_GOOD)
	{
		length = ((PageHeader) page)->pd_lower - SEARCH_PAGE_OFFSET;
		memcpy(header, SearchPageContent(page), length);
	}
	UnlockReleaseBuffer(buffer);

	if (state == PAGE_REPLACED)
	{
		note_replaced(index, entry->id, entry->header, stale);
		header->id = entry->id;
		header->nfields = settings->nfields;
		header->nfilters = settings->nfilters;
		header->terms_root = header->words_root = InvalidBlockNumber;
		return reader; /* an empty one */
	}
	if (state == PAGE_BAD)
		search_corrupted(index, entry->header, "is not a segment's header");
	if (length < offsetof(SegmentHeader, extents) ||
		header->nextents != (length - offsetof(SegmentHeader, extents)) / sizeof(Extent))
		search_corrupted(index, entry->header, "is a segment's header of a wrong length");
	if (header->id != entry->id || header->ndocs != entry->ndocs || header->npages != entry->npages)
		search_corrupted(
			index, entry->header, "is a segment's header, but not as the meta page says");
	wrong = check_header(header, settings, nblocks);
	if (wrong != NULL)
		search_corrupted(index, entry->header, wrong);

	reader->extent_first = palloc((header->nextents + 1) * sizeof(uint32));
	for (uint32 i = 0; i < header->nextents; i++)
	{
		reader->extent_first[i] = first;
		first += header->extents[i].npages;
	}
	return reader;
}

SegmentReader *
segment_open_temporary(BufFile *file, const SearchSettings *settings, SegmentHeader *header)
{
	SegmentReader *reader = reader_create(settings);

	reader->file = file;
	reader->stale = &reader->never_stale;
	reader->header = header;
	return reader;
}

void
segment_close(SegmentReader *reader)
{
	if (reader->file == NULL)
		pfree(reader->header);
	if (reader->extent_first != NULL)
		pfree(reader->extent_first);
	if (reader->image != NULL)
		pfree(reader->image);
	pfree(reader);
}

const SegmentHeader *
segment_header(const SegmentReader *reader)
{
	return reader->header;
}

/* --- arrays ------------------------------------------------------------------------------ */

/* Copies n entries of `width` bytes, `from` on; zeros when the segment is gone. */
static void
read_array(SegmentReader *reader, uint32 first_page, uint32 width, uint32 from, uint32 n, char *out)
{
	uint32 per_page = SEARCH_PAGE_CONTENT / width;

	while (n > 0)
	{
		uint32 page = first_page + from / per_page;
		uint32 offset = from % per_page;
		uint32 count = Min(n, per_page - offset);
		SegmentView view;

		if (!segment_view(reader, page, InvalidBuffer, &view))
		{
			memset(out, 0, (Size) n * width);
			return;
		}
		if ((offset + count) * width > view.length)
			segment_corrupted(reader, page, "is too short for an array");
		memcpy(out, view.content + offset * width, (Size) count * width);
		segment_view_end(&view);
		out += count * width;
		from += count;
		n -= count;
	}
}

static inline void
check_range(SegmentReader *reader, uint32 from, uint32 n)
{
	if (from > reader->header->ndocs || n > reader->header->ndocs - from)
		elog(ERROR, "documents %u to %u of a segment of %u", from, from + n, reader->header->ndocs);
}

void
segment_tids(SegmentReader *reader, uint32 from, uint32 n, ItemPointerData *tids)
{
	check_range(reader, from, n);
	read_array(reader, reader->header->tids_page, sizeof(ItemPointerData), from, n, (char *) tids);
	if (*reader->stale)
		return;
	for (uint32 i = 0; i < n; i++)
	{
		if (!ItemPointerIsValid(&tids[i]))
			segment_corrupted(reader,
							  reader->header->tids_page + (from + i) / TIDS_PER_PAGE,
							  "has a heap pointer that is not valid");
	}
}

void
segment_lengths(SegmentReader *reader, uint32 from, uint32 n, uint8 *lengths)
{
	check_range(reader, from, n);
	read_array(reader, reader->header->lengths_page, 1, from, n, (char *) lengths);
}

void
segment_codes(SegmentReader *reader, int filter, uint32 from, uint32 n, uint32 *codes)
{
	const FilterHeader *header = &reader->header->filters[filter];
	uint32 greatest = 0;

	check_range(reader, from, n);
	Assert(filter >= 0 && filter < reader->header->nfilters);

	/* To the end of the result, from where they are widened in place. */
	if (header->width == 4)
		read_array(reader, header->codes_page, 4, from, n, (char *) codes);
	else if (header->width == 2)
	{
		const uint16 *narrow = (uint16 *) codes + n;

		read_array(reader, header->codes_page, 2, from, n, (char *) narrow);
		for (uint32 i = 0; i < n; i++)
			codes[i] = narrow[i];
	}
	else
	{
		const uint8 *narrow = (uint8 *) codes + (Size) 3 * n;

		read_array(reader, header->codes_page, 1, from, n, (char *) narrow);
		for (uint32 i = 0; i < n; i++)
			codes[i] = narrow[i];
	}
	for (uint32 i = 0; i < n; i++)
		greatest = Max(greatest, codes[i]);
	if (greatest > header->nvalues)
		segment_corrupted(reader,
						  header->codes_page + from / (SEARCH_PAGE_CONTENT / header->width),
						  "has a filter's code without a value");
}

uint32
segment_raw_codes(SegmentReader *reader, int filter, uint32 from, uint32 n, void *codes)
{
	const FilterHeader *header = &reader->header->filters[filter];

	check_range(reader, from, n);
	Assert(filter >= 0 && filter < reader->header->nfilters);
	read_array(reader, header->codes_page, header->width, from, n, codes);
	return header->width;
}

void
segment_deleted(SegmentReader *reader, uint32 from, uint32 n, uint64 *bits)
{
	Assert(from % 64 == 0);
	check_range(reader, from, n);
	read_array(reader,
			   reader->header->deleted_page,
			   sizeof(uint64),
			   from / 64,
			   (uint32) pages_for(n, 64),
			   (char *) bits);
}

/* --- filter dictionaries ------------------------------------------------------------------ */

bool
segment_filter_page(SegmentReader *reader, int filter, uint32 i, SegmentPage *copy)
{
	const FilterHeader *header = &reader->header->filters[filter];
	const FilterPage *values;

	if (!segment_copy_page(reader, header->dictionary_page + i, copy))
		return false;
	values = (const FilterPage *) SegmentPageContent(copy);
	if (copy->length < sizeof(FilterPage) || values->nvalues == 0 || values->first_code == 0 ||
		values->first_code > header->nvalues ||
		values->nvalues - 1 > header->nvalues - values->first_code ||
		values->starts > copy->length ||
		values->nvalues > (copy->length - values->starts) / sizeof(uint16) ||
		values->starts % sizeof(uint16) != 0)
		segment_corrupted(reader, copy->page, "is not one of filter values");
	return true;
}

/* The i-th value of a page; points into the copy when passed by reference. */
Datum
segment_filter_datum(SegmentReader *reader, int filter, const SegmentPage *copy, uint32 i)
{
	const SearchFilterColumn *column = &reader->settings->filters[filter];
	const char *content = SegmentPageContent(copy);
	const FilterPage *values = (const FilterPage *) content;
	const uint16 *starts = (const uint16 *) (content + values->starts);
	uint32 start = starts[i];
	uint32 end = values->starts;
	const char *value = content + start;
	bool fits = start >= sizeof(FilterPage) && start < end;

	if (fits)
	{
		uint32 available = end - start;

		if (column->typlen > 0)
			fits = available >= (uint32) column->typlen &&
				   (uintptr_t) value == att_align_nominal((uintptr_t) value, column->typalign);
		else if (column->typlen == -2)
			fits = memchr(value, 0, available) != NULL;
		else if (VARATT_IS_SHORT(value))
			fits = VARSIZE_SHORT(value) >= VARHDRSZ_SHORT && VARSIZE_SHORT(value) <= available;
		else
			fits = available >= VARHDRSZ && VARATT_IS_4B_U(value) &&
				   (uintptr_t) value == att_align_nominal((uintptr_t) value, column->typalign) &&
				   VARSIZE_4B(value) >= VARHDRSZ && VARSIZE_4B(value) <= available;
	}
	if (!fits)
		segment_corrupted(reader, copy->page, "has a wrong filter value");
	return fetch_att(value, column->typbyval, column->typlen);
}

/* Does the i-th value of the page come before the end of what is looked for? */
static inline bool
value_within(SegmentReader *reader, int filter, const SegmentPage *copy, uint32 i, Datum value,
			 bool inclusive)
{
	int order = filter_compare(
		&reader->settings->filters[filter], segment_filter_datum(reader, filter, copy, i), value);

	return order < 0 || (inclusive && order == 0);
}

uint32
segment_filter_upto(SegmentReader *reader, int filter, Datum value, bool inclusive)
{
	const FilterHeader *header = &reader->header->filters[filter];
	SegmentPage copy = {InvalidBlockNumber, 0, 0, NULL};
	const FilterPage *values;
	uint32 low = 0;
	uint32 high = header->dictionary_pages;
	uint32 result = 0;

	if (header->nvalues == 0)
		return 0;

	/* The last page whose first value is within, then the last value of it. */
	while (low < high)
	{
		uint32 middle = low + (high - low) / 2;

		CHECK_FOR_INTERRUPTS();
		if (!segment_filter_page(reader, filter, middle, &copy))
			goto done;
		if (value_within(reader, filter, &copy, 0, value, inclusive))
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0)
		goto done;
	if (copy.page != header->dictionary_page + low - 1 &&
		!segment_filter_page(reader, filter, low - 1, &copy))
		goto done;
	values = (const FilterPage *) SegmentPageContent(&copy);
	low = 1;
	high = values->nvalues;
	while (low < high)
	{
		uint32 middle = (low + high) / 2;

		if (value_within(reader, filter, &copy, middle, value, inclusive))
			low = middle + 1;
		else
			high = middle;
	}
	result = values->first_code + low - 1;

done:
	pfree(copy.image);
	return result;
}

Datum
segment_filter_value(SegmentReader *reader, int filter, uint32 code)
{
	const FilterHeader *header = &reader->header->filters[filter];
	const SearchFilterColumn *column = &reader->settings->filters[filter];
	SegmentPage copy = {InvalidBlockNumber, 0, 0, NULL};
	uint32 low = 0;
	uint32 high;
	Datum result = (Datum) 0;

	if (code == 0 || code > header->nvalues)
		elog(ERROR, "value %u of %u", code, header->nvalues);
	high = header->dictionary_pages - 1;
	for (;;)
	{
		uint32 middle = (low + high + 1) / 2;
		const FilterPage *values;

		if (!segment_filter_page(reader, filter, middle, &copy))
			break;
		values = (const FilterPage *) SegmentPageContent(&copy);
		if (code < values->first_code && low < middle)
			high = middle - 1;
		else if (code >= values->first_code && code - values->first_code < values->nvalues)
		{
			result =
				datumCopy(segment_filter_datum(reader, filter, &copy, code - values->first_code),
						  column->typbyval,
						  column->typlen);
			break;
		}
		else if (code > values->first_code && middle < high)
			low = middle + 1;
		else
			segment_corrupted(reader, copy.page, "has filter values in a wrong order");
	}
	pfree(copy.image);
	return result;
}
