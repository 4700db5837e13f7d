/*
 * posting_cursor.c
 *		Reads the postings of a term: blocks in any order, skip entries,
 *		positions.
 *
 * A block is decoded from its page under the share lock, without a copy.  Of
 * the skip entries one page is kept; which pages there are is known once they
 * were passed, so that going back costs no more than going on.  Positions are
 * packs of 128 differences that follow each other along the stream and never
 * cross a page's end; they are unpacked one by one when they are asked for.
 *
 * Cost: see segment.h; loading a block takes one page look-up and 3 arrays of
 * 128 numbers, 150 to 250 ns.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "segment_private.h"

typedef struct PostingSkipPage
{
	uint32 page;
	int64 before; /* last document before the first entry's block, or -1 */
} PostingSkipPage;

typedef struct PostingPositions
{
	uint32 block; /* for which the rest is valid */
	SegmentPointer start;
	uint64 starts[SEARCH_BLOCK_SIZE + 1]; /* place of each posting's numbers among the block's */
	/* the packs */
	SegmentPointer next;
	uint64 next_pack; /* number of the pack that `next` points to */
	uint64 pack;      /* loaded, or PG_UINT64_MAX */
	uint32 numbers[SEARCH_BLOCK_SIZE];
	/* the result */
	uint32 *result;
	uint32 result_size;
} PostingPositions;

void
posting_open(PostingCursor *cursor, SegmentReader *reader, const TermInfo *info)
{
	cursor->reader = reader;
	cursor->info = *info;
	cursor->nblocks = info->df / SEARCH_BLOCK_SIZE + (info->df % SEARCH_BLOCK_SIZE != 0);
	cursor->block = PG_UINT32_MAX;
	cursor->n = 0;
	cursor->fields = 0;
	cursor->context = CurrentMemoryContext;
	cursor->recent_page = InvalidBlockNumber;
	cursor->recent = InvalidBuffer;
	cursor->copied = false;
	cursor->copy = NULL;
	cursor->skips = NULL;
	cursor->skips_first = 0;
	cursor->skips_n = 0;
	cursor->skip_pages = NULL;
	cursor->skip_pages_n = 0;
	cursor->skip_pages_size = 0;
	cursor->positions = NULL;
}

void
posting_close(PostingCursor *cursor)
{
	if (cursor->skips != NULL)
		pfree(cursor->skips);
	if (cursor->skip_pages != NULL)
		pfree(cursor->skip_pages);
	if (cursor->copy != NULL)
		pfree(cursor->copy);
	if (cursor->positions != NULL)
	{
		if (cursor->positions->result != NULL)
			pfree(cursor->positions->result);
		pfree(cursor->positions);
	}
	cursor->skips = NULL;
	cursor->skip_pages = NULL;
	cursor->copy = NULL;
	cursor->positions = NULL;
}

/* --- skip entries ------------------------------------------------------------------------ */

static void
add_skip_page(PostingCursor *cursor, uint32 page, int64 before)
{
	if (cursor->skip_pages_n == cursor->skip_pages_size)
	{
		uint32 size = Max(4, cursor->skip_pages_size * 2);

		if (cursor->skip_pages == NULL)
			cursor->skip_pages =
				MemoryContextAlloc(cursor->context, size * sizeof(PostingSkipPage));
		else
			cursor->skip_pages = repalloc(cursor->skip_pages, size * sizeof(PostingSkipPage));
		cursor->skip_pages_size = size;
	}
	cursor->skip_pages[cursor->skip_pages_n].page = page;
	cursor->skip_pages[cursor->skip_pages_n].before = before;
	cursor->skip_pages_n++;
}

/* Reads the i-th page of skip entries, which is known; false: stale. */
static bool
read_skip_page(PostingCursor *cursor, uint32 i, uint32 on_first)
{
	SegmentReader *reader = cursor->reader;
	uint32 page = cursor->skip_pages[i].page;
	uint32 first = i == 0 ? 0 : on_first + (i - 1) * SKIPS_PER_PAGE;
	uint32 n = Min(cursor->nblocks - first, i == 0 ? on_first : SKIPS_PER_PAGE);
	uint32 offset = i == 0 ? SegmentPointerOffset(cursor->info.skips) : 0;
	SegmentView view;

	if (!segment_view(reader, page, InvalidBuffer, &view))
		return false;
	if (offset + n * sizeof(SkipEntry) > view.length)
		segment_corrupted(reader, page, "is too short for skip entries");
	cursor->skips_n = 0;
	memcpy(cursor->skips, view.content + offset, n * sizeof(SkipEntry));
	cursor->skips_first = first;
	cursor->skips_n = n;
	segment_view_end(&view);
	if (i + 1 == cursor->skip_pages_n && first + n < cursor->nblocks)
		add_skip_page(cursor, view.next, cursor->skips[n - 1].last);
	return true;
}

/* Makes the block's skip entry available; false: stale. */
static bool
load_skips(PostingCursor *cursor, uint32 block)
{
	uint32 offset = SegmentPointerOffset(cursor->info.skips);
	uint32 on_first;
	uint32 i;

	Assert(block < cursor->nblocks);
	if (likely(block - cursor->skips_first < cursor->skips_n))
		return true;
	if (offset + sizeof(SkipEntry) > SEARCH_PAGE_CONTENT)
		segment_corrupted(cursor->reader,
						  SegmentPointerPage(cursor->info.skips),
						  "is not where a term's skip entries are");
	on_first = (SEARCH_PAGE_CONTENT - offset) / sizeof(SkipEntry);
	i = block < on_first ? 0 : 1 + (block - on_first) / SKIPS_PER_PAGE;
	if (cursor->skips == NULL)
	{
		cursor->skips = MemoryContextAlloc(
			cursor->context, Min(cursor->nblocks, SKIPS_PER_PAGE) * sizeof(SkipEntry));
		add_skip_page(cursor, SegmentPointerPage(cursor->info.skips), -1);
	}
	while (i >= cursor->skip_pages_n)
	{
		CHECK_FOR_INTERRUPTS();
		if (!read_skip_page(cursor, cursor->skip_pages_n - 1, on_first))
			return false;
	}
	return read_skip_page(cursor, i, on_first);
}

static inline const SkipEntry *
skip_entry(const PostingCursor *cursor, uint32 block)
{
	return &cursor->skips[block - cursor->skips_first];
}

uint32
posting_block_last(PostingCursor *cursor, uint32 block)
{
	if (cursor->nblocks == 1)
	{
		if (cursor->block != 0)
			posting_load(cursor, 0);
		return cursor->n > 0 ? cursor->docs[cursor->n - 1] : PG_UINT32_MAX;
	}
	return load_skips(cursor, block) ? skip_entry(cursor, block)->last : PG_UINT32_MAX;
}

uint32
posting_block_impact(PostingCursor *cursor, uint32 block)
{
	if (cursor->nblocks == 1)
		return cursor->info.max_impact;
	return load_skips(cursor, block) ? skip_entry(cursor, block)->max_impact : 0;
}

uint32
posting_seek(PostingCursor *cursor, uint32 from, uint32 target)
{
	if (cursor->nblocks == 1)
	{
		if (from > 0)
			return 1;
		if (cursor->block != 0)
			posting_load(cursor, 0);
		return cursor->n > 0 && cursor->docs[cursor->n - 1] >= target ? 0 : 1;
	}
	while (from < cursor->nblocks)
	{
		uint32 end, low, high;
		uint32 step = 1;

		if (!load_skips(cursor, from))
			break;
		end = cursor->skips_first + cursor->skips_n;
		if (skip_entry(cursor, end - 1)->last < target)
		{
			from = end;
			continue;
		}
		/* It is mostly near: double the step, then halve it. */
		low = from;
		high = from;
		while (skip_entry(cursor, high)->last < target)
		{
			low = high + 1;
			high = Min(high + step, end - 1);
			step *= 2;
		}
		while (low < high)
		{
			uint32 middle = (low + high) / 2;

			if (skip_entry(cursor, middle)->last < target)
				low = middle + 1;
			else
				high = middle;
		}
		return low;
	}
	return cursor->nblocks;
}

/* --- blocks ------------------------------------------------------------------------------- */

/*
 * Shows a page of blocks.  Blocks of a term mostly lie on the same page as the
 * one before: from the third on in a row they are taken from a copy, which
 * costs as much as two locks; postings never change.
 */
static bool
posting_page(PostingCursor *cursor, uint32 page, SegmentView *view)
{
	bool again = page == cursor->recent_page;

	if (again && cursor->copied)
	{
		if (*cursor->reader->stale)
			return false;
		view->buffer = InvalidBuffer;
		view->content = cursor->copy;
		view->length = cursor->copy_length;
		return true;
	}
	if (!segment_view(cursor->reader, page, again ? cursor->recent : InvalidBuffer, view))
		return false;
	if (again && BufferIsValid(view->buffer))
	{
		if (cursor->copy == NULL)
			cursor->copy = MemoryContextAlloc(cursor->context, BLCKSZ);
		memcpy(cursor->copy, view->content, view->length);
		cursor->copy_length = view->length;
		cursor->copied = true;
	}
	else
		cursor->copied = false;
	cursor->recent_page = page;
	cursor->recent = view->buffer;
	return true;
}

void
posting_load(PostingCursor *cursor, uint32 block)
{
	SegmentReader *reader = cursor->reader;
	SegmentPointer pointer = cursor->info.postings;
	uint32 page, offset;
	int64 previous = -1;
	int64 last = -1;
	int n = SEARCH_BLOCK_SIZE;
	SegmentView view;
	uint32 size = 0;

	Assert(block < cursor->nblocks);
	cursor->block = block;
	cursor->n = 0;
	cursor->fields = 0;
	if (block == cursor->nblocks - 1)
		n = cursor->info.df - block * SEARCH_BLOCK_SIZE;
	if (cursor->nblocks > 1)
	{
		const SkipEntry *entry;

		if (!load_skips(cursor, block))
			return;
		entry = skip_entry(cursor, block);
		pointer = SEGMENT_POINTER(entry->page, entry->offset);
		last = entry->last;
		if (block > cursor->skips_first)
			previous = skip_entry(cursor, block - 1)->last;
		else if (block > 0)
		{
			/* It is the first on its page. */
			uint32 on_first = (SEARCH_PAGE_CONTENT - SegmentPointerOffset(cursor->info.skips)) /
							  sizeof(SkipEntry);

			previous = cursor->skip_pages[1 + (block - on_first) / SKIPS_PER_PAGE].before;
		}
	}

	page = SegmentPointerPage(pointer);
	offset = SegmentPointerOffset(pointer);
	if (!posting_page(cursor, page, &view))
		return;
	if (likely(offset < view.length))
		size = block_decode(view.content + offset,
							view.length - offset,
							n,
							reader->header->nfields,
							previous,
							reader->header->ndocs,
							cursor->docs,
							cursor->tf,
							&cursor->fields);
	segment_view_end(&view);
	if (unlikely(size == 0 || (last >= 0 && cursor->docs[n - 1] != last)))
	{
		cursor->fields = 0;
		segment_corrupted(reader, page, "has a wrong block of postings");
	}
	cursor->n = n;
}

/* --- positions ---------------------------------------------------------------------------- */

/* Sets up the loaded block's positions. */
static void
begin_positions(PostingCursor *cursor)
{
	PostingPositions *positions = cursor->positions;
	uint64 sum = 0;

	if (positions == NULL)
	{
		positions = MemoryContextAlloc(cursor->context, sizeof(PostingPositions));
		positions->result_size = 64;
		positions->result =
			MemoryContextAlloc(cursor->context, positions->result_size * sizeof(uint32));
		positions->block = PG_UINT32_MAX;
		cursor->positions = positions;
	}
	if (positions->block == cursor->block)
		return;

	for (int i = 0; i < cursor->n; i++)
	{
		positions->starts[i] = sum;
		for (uint32 fields = cursor->fields; fields != 0; fields &= fields - 1)
			sum += cursor->tf[pg_rightmost_one_pos32(fields)][i];
	}
	positions->starts[cursor->n] = sum;

	positions->start = cursor->info.positions;
	if (cursor->nblocks > 1 && load_skips(cursor, cursor->block))
	{
		const SkipEntry *entry = skip_entry(cursor, cursor->block);

		positions->start = SEGMENT_POINTER(entry->positions_page, entry->positions_offset);
	}
	positions->next = positions->start;
	positions->next_pack = 0;
	positions->pack = PG_UINT64_MAX;
	positions->block = cursor->block;
}

/* Unpacks one of the block's packs; false: stale. */
static bool
load_pack(PostingCursor *cursor, uint64 pack)
{
	SegmentReader *reader = cursor->reader;
	PostingPositions *positions = cursor->positions;
	uint64 total = positions->starts[cursor->n];

	if (pack < positions->next_pack)
	{
		positions->next = positions->start;
		positions->next_pack = 0;
	}
	positions->pack = PG_UINT64_MAX;
	while (positions->next_pack <= pack)
	{
		uint32 page = SegmentPointerPage(positions->next);
		uint32 offset = SegmentPointerOffset(positions->next);
		SegmentView view;
		uint32 size = 1;

		CHECK_FOR_INTERRUPTS();
		if (!segment_view(reader, page, InvalidBuffer, &view))
			return false;
		while (offset < view.length && positions->next_pack <= pack)
		{
			int n = (int) Min(SEARCH_BLOCK_SIZE, total - positions->next_pack * SEARCH_BLOCK_SIZE);

			if (positions->next_pack == pack)
				size = unpack_numbers(
					view.content + offset, view.length - offset, n, 0, positions->numbers);
			else
				size = packed_size(view.content + offset, view.length - offset, n);
			if (size == 0)
				break;
			offset += size;
			positions->next_pack++;
		}
		segment_view_end(&view);
		if (size == 0 || offset > view.length)
			segment_corrupted(reader, page, "has wrong positions");
		if (positions->next_pack <= pack)
			positions->next = SEGMENT_POINTER(view.next, 0);
		else
			positions->next = SEGMENT_POINTER(page, offset);
	}
	positions->pack = pack;
	return true;
}

int
posting_positions(PostingCursor *cursor, int i, const uint32 **result)
{
	PostingPositions *positions;
	uint64 start, n;
	uint32 done = 0;
	uint32 place = 0;
	int bits = cursor->reader->settings->field_bits;

	Assert(cursor->block < cursor->nblocks || cursor->n == 0);
	*result = NULL;
	if (i >= cursor->n || cursor->info.positions == 0)
		return 0;
	begin_positions(cursor);
	positions = cursor->positions;
	start = positions->starts[i];
	n = positions->starts[i + 1] - start;

	for (uint32 fields = cursor->fields; fields != 0; fields &= fields - 1)
	{
		uint32 field = pg_rightmost_one_pos32(fields);
		uint32 left = cursor->tf[field][i];

		while (left > 0)
		{
			uint64 pack = (start + done) / SEARCH_BLOCK_SIZE;
			uint32 from = (start + done) % SEARCH_BLOCK_SIZE;
			uint32 count = Min(left, SEARCH_BLOCK_SIZE - from);

			if (positions->pack != pack && !load_pack(cursor, pack))
				return 0;
			/* As the packs turn out to be there, since a wrong count can be large. */
			if (done + count > positions->result_size)
			{
				uint64 size = Min(n, (uint64) (done + count) * 2);

				if (size > MaxAllocSize / sizeof(uint32))
					segment_corrupted(cursor->reader,
									  SegmentPointerPage(positions->next),
									  "has too many positions for a document");
				positions->result = repalloc(positions->result, size * sizeof(uint32));
				positions->result_size = (uint32) size;
			}
			for (uint32 j = 0; j < count; j++)
			{
				place += positions->numbers[from + j];
				positions->result[done + j] = place << bits | field;
			}
			done += count;
			left -= count;
		}
	}
	*result = positions->result;
	return (int) done;
}
