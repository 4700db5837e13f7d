/*
 * pending.c
 *		The write buffer: documents that are inserted, until they are a segment.
 *
 * A chain of pages, from the meta page's pending_head to pending_tail.  Each
 * page carries an owner of its own (the pages of one large record share one)
 * and names the owner of the next, so that a reader knows what to expect.
 * Their contents, one after the other, are the records.  A record is never
 * split but when it is larger than a page; such a one begins on a new page.
 *
 * What a crash does, record by record (WAL records are atomic; a page that
 * nothing refers to is found by VACUUM, search_reclaim):
 *	- an insert that fits on the tail is one WAL record of the meta page and
 *	  the tail: either the document is there and counted, or it is not;
 *	- one that does not is one WAL record of the meta page, the old tail and
 *	  the new one, which is written whole.  A crash before it loses a page;
 *	- a document larger than a page is written to new pages, one WAL record
 *	  each, and then linked by one record of the meta page and the old tail.
 *	  A crash before that one loses pages, not documents: the insert's
 *	  transaction has not committed either;
 *	- a flush writes a segment, and then changes the meta page in one WAL
 *	  record: it lists the segment and moves the head of the chain behind the
 *	  documents that the segment holds.  Before it they are in the buffer
 *	  only, after it in the segment only.  The pages before the new head are
 *	  put on the free list next; a crash before that loses pages.
 * The segment's pages precede that record in the WAL, so that it is replayed
 * over whole segments only, on a standby as in recovery.
 *
 * Readers take the meta page as it is at one moment, read as many documents
 * as it counts, and hold no lock between two pages.
 *
 * Memory: an insert builds its record in the caller's context; a reader has a
 * context of its own.  Cost: an insert changes two or three pages.
 */
#include "pgopt.h"

#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"

#include "inverter.h"
#include "merge.h"
#include "pages.h"
#include "pending_private.h"
#include "segment.h"

/* At the beginning of a page's content. */
typedef struct PendingPage
{
	uint64 next_owner; /* of the page that opaque.next leads to */
} PendingPage;

#define PENDING_ROOM (SEARCH_PAGE_CONTENT - sizeof(PendingPage))

/* --- inserts ----------------------------------------------------------------------------- */

static Size
room_on(Page page)
{
	return ((PageHeader) page)->pd_upper - ((PageHeader) page)->pd_lower;
}

/* Appends bytes to a page that is new, or is a copy registered for WAL. */
static void
append_bytes(Page page, const char *bytes, Size size)
{
	memcpy((char *) page + ((PageHeader) page)->pd_lower, bytes, size);
	((PageHeader) page)->pd_lower += size;
}

static void
init_page(Page page, uint64 owner, BlockNumber next, uint64 next_owner)
{
	PendingPage start = {next_owner};

	search_init_page(page, owner, SEARCH_PAGE_PENDING);
	SearchPageGetOpaque(page)->next = next;
	append_bytes(page, (const char *) &start, sizeof(start));
}

/* Locks the chain's tail; InvalidBuffer when there is no chain. */
static Buffer
lock_tail(Relation index, const SearchMeta *meta)
{
	BlockNumber nblocks = 0;
	Buffer buffer;

	if (meta->pending_tail == InvalidBlockNumber)
		return InvalidBuffer;
	buffer = search_read_block(index, meta->pending_tail, &nblocks);
	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	search_check_page(index, buffer, SEARCH_PAGE_PENDING);
	return buffer;
}

/* Hangs new pages onto the chain, within a change of the meta page. */
static void
link_pages(MetaChange *change, Buffer tail, BlockNumber first, BlockNumber last, uint64 owner,
		   uint32 npages)
{
	SearchMeta *meta = change->meta;

	if (BufferIsValid(tail))
	{
		Page page = GenericXLogRegisterBuffer(change->xlog, tail, 0);

		SearchPageGetOpaque(page)->next = first;
		((PendingPage *) SearchPageContent(page))->next_owner = owner;
	}
	else
	{
		meta->pending_head = first;
		meta->pending_owner = owner;
		meta->pending_start = sizeof(PendingPage);
	}
	meta->pending_tail = last;
	meta->pending_pages += npages;
}

/* Counts the document.  Returns whether the buffer is larger than it should be. */
static bool
count_document(SearchMeta *meta, const SearchSettings *settings, const Document *document)
{
	meta->pending_docs++;
	meta->pending_length += document->length;
	return (uint64) meta->pending_pages * (BLCKSZ / 1024) >= (uint64) settings->pending_limit;
}

/* Adds a record that fits on a page: to the tail, or else to a new page. */
static bool
append_small(Relation index, const SearchSettings *settings, const char *record, Size size,
			 const Document *document)
{
	Extent fresh = {InvalidBlockNumber, 0};
	bool full;

	for (;;)
	{
		MetaChange change;
		Buffer tail;
		Buffer buffer = InvalidBuffer;

		search_begin_change(index, &change);
		tail = lock_tail(index, change.meta);
		if (BufferIsValid(tail) && room_on(BufferGetPage(tail)) >= size)
			append_bytes(GenericXLogRegisterBuffer(change.xlog, tail, 0), record, size);
		else if (fresh.npages == 0)
		{
			search_abort_change(&change);
			if (BufferIsValid(tail))
				UnlockReleaseBuffer(tail);
			search_share_allocation(index);
			fresh = search_allocate(index, 1);
			continue;
		}
		else
		{
			uint64 owner = change.meta->next_owner++;
			Page page;

			buffer = ReadBuffer(index, fresh.start);
			LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
			page = GenericXLogRegisterBuffer(change.xlog, buffer, GENERIC_XLOG_FULL_IMAGE);
			init_page(page, owner, InvalidBlockNumber, 0);
			append_bytes(page, record, size);
			link_pages(&change, tail, fresh.start, fresh.start, owner, 1);
		}
		full = count_document(change.meta, settings, document);
		search_commit_change(&change);
		if (BufferIsValid(buffer))
			UnlockReleaseBuffer(buffer);
		if (BufferIsValid(tail))
			UnlockReleaseBuffer(tail);

		if (fresh.npages > 0)
		{
			/* somebody else was quicker with a new page */
			if (!BufferIsValid(buffer))
				search_free(index, &fresh, 1, true);
			search_unshare_allocation(index);
		}
		return full;
	}
}

static void
write_page(Relation index, BlockNumber block, uint64 owner, BlockNumber next, const char *bytes,
		   Size size)
{
	Buffer buffer = ReadBufferExtended(index, MAIN_FORKNUM, block, RBM_ZERO_AND_LOCK, NULL);

	START_CRIT_SECTION();
	init_page(BufferGetPage(buffer), owner, next, next == InvalidBlockNumber ? 0 : owner);
	append_bytes(BufferGetPage(buffer), bytes, size);
	MarkBufferDirty(buffer);
	if (RelationNeedsWAL(index))
		log_newpage_buffer(buffer, true);
	END_CRIT_SECTION();
	UnlockReleaseBuffer(buffer);
}

/* Adds a record of several pages: all are written, then linked. */
static bool
append_large(Relation index, const SearchSettings *settings, const char *record, Size size,
			 const Document *document)
{
	uint32 npages = (size + PENDING_ROOM - 1) / PENDING_ROOM;
	BlockNumber *blocks = palloc(npages * sizeof(BlockNumber));
	uint64 owner = search_new_owner(index);
	MetaChange change;
	Buffer tail;
	bool full;

	search_share_allocation(index);
	for (uint32 n = 0; n < npages;)
	{
		Extent extent = search_allocate(index, Min(npages - n, 32));

		CHECK_FOR_INTERRUPTS();
		for (uint32 i = 0; i < extent.npages; i++)
			blocks[n++] = extent.start + i;
	}
	for (uint32 i = 0; i < npages; i++)
	{
		CHECK_FOR_INTERRUPTS();
		write_page(index,
				   blocks[i],
				   owner,
				   i + 1 < npages ? blocks[i + 1] : InvalidBlockNumber,
				   record + (Size) i * PENDING_ROOM,
				   Min(size - (Size) i * PENDING_ROOM, PENDING_ROOM));
	}

	search_begin_change(index, &change);
	tail = lock_tail(index, change.meta);
	link_pages(&change, tail, blocks[0], blocks[npages - 1], owner, npages);
	full = count_document(change.meta, settings, document);
	search_commit_change(&change);
	if (BufferIsValid(tail))
		UnlockReleaseBuffer(tail);
	search_unshare_allocation(index);
	pfree(blocks);
	return full;
}

void
pending_insert(Relation index, const SearchSettings *settings, ItemPointer tid,
			   const Document *document, const Datum *values, const bool *isnull)
{
	char *record = pending_make_record(settings, tid, document, values, isnull);
	uint32 size = pending_record_size(record);
	bool full;

	if (size <= PENDING_ROOM)
		full = append_small(index, settings, record, size, document);
	else
		full = append_large(index, settings, record, size, document);
	pfree(record);

	/* Whoever has the lock makes a segment of ours too, or the next insert does. */
	if (full && search_try_lock_flush(index))
	{
		(void) pending_flush(index);
		search_unlock_flush(index);
		merge_after_flush(index);
	}
}

/* --- reading --------------------------------------------------------------------------------- */

struct PendingReader
{
	Relation index;
	const SearchSettings *settings;
	bool *stale;
	MemoryContext context;
	MemoryContext values; /* of one document's filters */
	BlockNumber nblocks;  /* the file's, as it was */
	uint32 left;          /* documents */
	BlockNumber block;    /* of the page at hand; InvalidBlockNumber at the end */
	uint64 owner;
	BlockNumber next;
	uint64 next_owner;
	uint32 at; /* in the page's content */
	uint32 end;
	PGAlignedBlock page; /* a copy */
	char *record;        /* one that does not lie on a page of its own */
	Size record_size;
	Datum filters[SEARCH_MAX_FILTERS];
	bool filter_nulls[SEARCH_MAX_FILTERS];
	Extent *passed; /* pages that were read to the end, before the one at hand */
	int npassed;
	int allocated;
	bool keep_passed;
};

static void
note_passed(PendingReader *reader, BlockNumber block)
{
	Extent *last = reader->npassed > 0 ? &reader->passed[reader->npassed - 1] : NULL;

	if (last != NULL && last->start + last->npages == block)
	{
		last->npages++;
		return;
	}
	if (reader->npassed == reader->allocated)
	{
		reader->allocated = Max(64, 2 * reader->allocated);
		if (reader->passed == NULL)
			reader->passed =
				MemoryContextAlloc(reader->context, reader->allocated * sizeof(Extent));
		else
			reader->passed = repalloc(reader->passed, reader->allocated * sizeof(Extent));
	}
	reader->passed[reader->npassed++] = (Extent){block, 1};
}

/* Copies a page of the chain.  False when it belongs to something else by now. */
static bool
read_page(PendingReader *reader, BlockNumber block, uint64 owner)
{
	Buffer buffer;
	Page page;

	CHECK_FOR_INTERRUPTS();
	buffer = search_read_block(reader->index, block, &reader->nblocks);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	if (!search_page_is_owned(reader->index, buffer, SEARCH_PAGE_PENDING, owner))
	{
		UnlockReleaseBuffer(buffer);
		*reader->stale = true;
		return false;
	}
	page = BufferGetPage(buffer);
	memcpy(reader->page.data, page, ((PageHeader) page)->pd_lower);
	reader->block = block;
	reader->owner = owner;
	reader->next = SearchPageGetOpaque(page)->next;
	reader->next_owner = ((PendingPage *) SearchPageContent(page))->next_owner;
	reader->at = sizeof(PendingPage);
	reader->end = ((PageHeader) page)->pd_lower - SEARCH_PAGE_OFFSET;
	UnlockReleaseBuffer(buffer);
	/* An empty page would do no harm but in a circle. */
	if (reader->end <= sizeof(PendingPage))
		search_corrupted(reader->index, block, "The page holds no part of a document.");
	return true;
}

static bool
read_next_page(PendingReader *reader)
{
	if (reader->next == InvalidBlockNumber)
		search_corrupted(reader->index,
						 reader->block,
						 "The page ends the write buffer, which has more documents.");
	if (reader->keep_passed)
		note_passed(reader, reader->block);
	return read_page(reader, reader->next, reader->next_owner);
}

PendingReader *
pending_open(Relation index, const SearchSettings *settings, const SearchMeta *meta, bool *stale)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt write buffer", ALLOCSET_SMALL_SIZES);
	PendingReader *reader = MemoryContextAlloc(context, sizeof(PendingReader));

	memset(reader, 0, offsetof(PendingReader, page));
	reader->index = index;
	reader->settings = settings;
	reader->stale = stale;
	reader->context = context;
	reader->values =
		AllocSetContextCreate(context, "pgopt write buffer values", ALLOCSET_SMALL_SIZES);
	reader->left = meta->pending_head == InvalidBlockNumber ? 0 : meta->pending_docs;
	reader->record = NULL;
	reader->record_size = 0;
	reader->passed = NULL;
	reader->npassed = reader->allocated = 0;
	reader->keep_passed = false;
	if (reader->left > 0 && read_page(reader, meta->pending_head, meta->pending_owner))
	{
		reader->at = meta->pending_start;
		if (reader->at > reader->end || reader->at < sizeof(PendingPage))
			search_corrupted(
				index, meta->pending_head, "The page is too short for the write buffer's head.");
	}
	return reader;
}

static char *
at_page(PendingReader *reader)
{
	return SearchPageContent(reader->page.data) + reader->at;
}

/* The record that comes next: on the page, or put together from several. NULL when stale. */
static const char *
next_record(PendingReader *reader)
{
	const char *record;
	uint32 size;

	if (reader->at == reader->end && !read_next_page(reader))
		return NULL;
	if (reader->end - reader->at < MIN_RECORD)
		search_corrupted(reader->index, reader->block, "The page ends within a document.");
	size = pending_record_size(at_page(reader));
	if (size < MIN_RECORD || size > MAX_RECORD)
		search_corrupted(
			reader->index, reader->block, "The page has a document of an impossible size.");
	if (size <= reader->end - reader->at)
	{
		record = at_page(reader);
		reader->at += size;
		return record;
	}

	if (reader->at != sizeof(PendingPage))
		search_corrupted(reader->index, reader->block, "The page ends within a document.");
	if (size > reader->record_size)
	{
		if (reader->record != NULL)
			pfree(reader->record);
		reader->record_size = size;
		reader->record = MemoryContextAlloc(reader->context, reader->record_size);
	}
	for (Size got = 0;;)
	{
		Size part = Min(size - got, reader->end - reader->at);

		memcpy(reader->record + got, at_page(reader), part);
		got += part;
		reader->at += part;
		if (got == size)
			return reader->record;
		if (!read_next_page(reader))
			return NULL;
	}
}

bool
pending_next(PendingReader *reader, PendingDocument *document)
{
	const char *record;
	MemoryContext old;
	bool sound;

	if (reader->left == 0 || *reader->stale || (record = next_record(reader)) == NULL)
		return false;
	reader->left--;
	MemoryContextReset(reader->values);
	old = MemoryContextSwitchTo(reader->values);
	sound = pending_read_record(
		record, reader->settings, reader->filters, reader->filter_nulls, document);
	MemoryContextSwitchTo(old);
	if (!sound)
		search_corrupted(reader->index, reader->block, "The page has a document that is cut off.");
	return true;
}

void
pending_close(PendingReader *reader)
{
	MemoryContextDelete(reader->context);
}

/* --- segments of the buffer -------------------------------------------------------------------------- */

/* Lists the segment and takes its documents, of that length, out of the buffer: all that the reader has passed. */
static void
commit_segment(PendingReader *reader, const SegmentEntry *entry, uint64 length)
{
	MetaChange change;
	SearchMeta *meta;
	uint32 passed = 0;

	for (int i = 0; i < reader->npassed; i++)
		passed += reader->passed[i].npages;

	search_begin_change(reader->index, &change);
	meta = change.meta;
	if (meta->nsegments >= SEARCH_MAX_SEGMENTS || meta->pending_docs < entry->ndocs)
		elog(ERROR, "write buffer of index \"%s\" changed", RelationGetRelationName(reader->index));
	meta->segments[meta->nsegments++] = *entry;
	meta->pending_docs -= entry->ndocs;
	meta->pending_length -= length;
	if (meta->pending_docs == 0)
	{
		/* the page at hand is the tail, and has nothing more */
		note_passed(reader, reader->block);
		meta->pending_head = meta->pending_tail = InvalidBlockNumber;
		meta->pending_owner = 0;
		meta->pending_start = 0;
		meta->pending_pages = 0;
	}
	else
	{
		meta->pending_head = reader->block;
		meta->pending_owner = reader->owner;
		meta->pending_start = reader->at;
		meta->pending_pages -= passed;
	}
	search_commit_change(&change);

	search_free(reader->index, reader->passed, reader->npassed, true);
	reader->npassed = 0;
}

static void
write_segment(PendingReader *reader, Inverter *inverter, const SearchMeta *meta)
{
	SegmentWriter *writer = segment_writer_begin(reader->index,
												 reader->settings,
												 search_new_owner(reader->index),
												 search_average_length(meta));
	SegmentEntry entry;

	inverter_write(inverter, writer);
	segment_writer_finish(writer, &entry, NULL);
	commit_segment(reader, &entry, inverter_total_length(inverter));
	inverter_reset(inverter);
}

uint32
pending_flush(Relation index)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt_bm25 flush", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	SearchSettings settings = *search_settings(index);
	SearchMeta *meta = search_read_meta(index);
	bool stale = false;
	PendingReader *reader = pending_open(index, &settings, meta, &stale);
	Inverter *inverter = inverter_create(&settings, NULL, context);
	PendingDocument document;
	uint32 room = SEARCH_MAX_SEGMENTS - meta->nsegments;
	uint32 flushed = 0;

	reader->keep_passed = true;
	while (room > 0 && pending_next(reader, &document))
	{
		inverter_add_pending(inverter, &document);
		flushed++;
		if (reader->left > 0 && inverter_memory(inverter) < (Size) maintenance_work_mem * 1024)
			continue;
		write_segment(reader, inverter, meta);
		room--;
	}
	if (stale)
		search_corrupted(
			index, meta->pending_head, "The page has not the owner that the write buffer has.");
	pending_close(reader);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return flushed;
}
