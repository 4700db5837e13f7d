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
 * context of its own.  Cost: an insert changes two or three pages; finding a
 * term in a document is a binary search over 16 bits of hashes.
 */
#include "pgopt.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/datum.h"
#include "utils/memutils.h"

#include "compat.h"
#include "inverter.h"
#include "merge.h"
#include "pages.h"
#include "pending.h"
#include "segment.h"

/* At the beginning of a page's content. */
typedef struct PendingPage
{
	uint64 next_owner; /* of the page that opaque.next leads to */
} PendingPage;

#define PENDING_ROOM (SEARCH_PAGE_CONTENT - sizeof(PendingPage))

/*
 * A record: this header, then
 *	the terms' hashes, 16 bits each, ascending;
 *	in the same order where in the terms each begins, 16 bits, or 32 (WIDE);
 *	the terms, ascending; the words, ascending; the filters' values.
 * Nothing is aligned.  Numbers in the terms are varints: 7 bits a byte, the
 * lowest first.
 */
typedef struct RecordHeader
{
	uint32 size; /* of the record */
	uint32 length;
	uint32 nterms;
	uint32 nwords;
	uint32 terms_size;
	uint32 words_size;
	ItemPointerData tid;
	uint16 flags;
} RecordHeader;

#define RECORD_WIDE 1

#define MAX_VARINT  5

/* Documents of this many kB at once are more than anybody's write buffer. */
#define MAX_RECORD (MaxAllocSize - 1024)

/* --- making records ------------------------------------------------------------------ */

static inline char *
put_varint(char *to, uint32 value)
{
	while (value >= 0x80)
	{
		*to++ = (char) (value | 0x80);
		value >>= 7;
	}
	*to++ = (char) value;
	return to;
}

static inline char *
put_bytes(char *to, const void *bytes, Size size)
{
	memcpy(to, bytes, size);
	return to + size;
}

/* Length, term; a mask of fields where there are several, occurrences in each; differences of positions. */
static char *
put_term(char *to, const DocumentTerm *term, const SearchSettings *settings)
{
	uint32 last = 0;

	to = put_varint(to, term->length);
	to = put_bytes(to, term->term, term->length);
	if (settings->nfields > 1)
	{
		uint8 mask = 0;

		for (int field = 0; field < settings->nfields; field++)
			if (term->tf[field] > 0)
				mask |= 1 << field;
		*to++ = (char) mask;
	}
	for (int field = 0; field < settings->nfields; field++)
		if (term->tf[field] > 0 || settings->nfields == 1)
			to = put_varint(to, term->tf[field]);
	if (!settings->positions)
		return to;
	for (uint32 i = 0; i < term->npositions; i++)
	{
		to = put_varint(to, term->positions[i] - last);
		last = term->positions[i];
	}
	return to;
}

static Size
bound_of_term(const DocumentTerm *term, const SearchSettings *settings)
{
	return MAX_VARINT + term->length + 1 + settings->nfields * MAX_VARINT +
		   (settings->positions ? (Size) term->npositions * MAX_VARINT : 0);
}

#define ST_SORT          sort_hashes
#define ST_ELEMENT_TYPE  uint64
#define ST_COMPARE(a, b) (*(a) < *(b) ? -1 : *(a) > *(b))
#define ST_COMPARE_RUNTIME_POINTER_UNUSED
#define ST_SCOPE static
#define ST_DEFINE
#include "lib/sort_template.h"

/* Hashes and places of the terms, into the record; `sorted` has hash << 32 | place. */
static void
put_hashes(char *hashes, char *offsets, const uint64 *sorted, uint32 n, bool wide)
{
	for (uint32 i = 0; i < n; i++)
	{
		uint16 hash = (uint16) (sorted[i] >> 32);
		uint32 offset = (uint32) sorted[i];
		uint16 narrow = (uint16) offset;

		hashes = put_bytes(hashes, &hash, sizeof(hash));
		if (wide)
			offsets = put_bytes(offsets, &offset, sizeof(offset));
		else
			offsets = put_bytes(offsets, &narrow, sizeof(narrow));
	}
}

static char *
make_record(const SearchSettings *settings, ItemPointer tid, const Document *document,
			const Datum *values, const bool *isnull)
{
	RecordHeader header = {0};
	Datum filters[SEARCH_MAX_FILTERS];
	Size bound = sizeof(RecordHeader);
	Size tables;
	uint64 *sorted = palloc(Max(document->nterms, 1) * sizeof(uint64));
	char *record;
	char *terms;
	char *to;

	for (int i = 0; i < document->nterms; i++)
		bound += sizeof(uint16) + sizeof(uint32) + bound_of_term(&document->terms[i], settings);
	for (int i = 0; i < document->nwords; i++)
		bound += MAX_VARINT + document->words[i].length;
	for (int i = 0; i < settings->nfilters; i++)
	{
		const SearchFilterColumn *filter = &settings->filters[i];
		bool null = isnull[filter->attno - 1];

		filters[i] = values[filter->attno - 1];
		if (!null && filter->typlen == -1)
			filters[i] = PointerGetDatum(PG_DETOAST_DATUM_PACKED(filters[i]));
		bound += datumEstimateSpace(filters[i], null, filter->typbyval, filter->typlen);
	}
	if (bound > MAX_RECORD)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("document is too large for a pgopt_bm25 index"),
				 errdetail("Its terms take %zu bytes.", bound)));

	/* The terms are written behind the widest possible tables, and moved when these are narrow. */
	record = palloc(bound);
	tables = document->nterms * (sizeof(uint16) + sizeof(uint32));
	terms = to = record + sizeof(RecordHeader) + tables;
	for (int i = 0; i < document->nterms; i++)
	{
		const DocumentTerm *term = &document->terms[i];
		uint32 hash = hash_bytes((const unsigned char *) term->term, term->length);

		sorted[i] = ((uint64) (hash & 0xFFFF) << 32) | (uint32) (to - terms);
		to = put_term(to, term, settings);
	}
	header.terms_size = to - terms;
	header.flags = header.terms_size > PG_UINT16_MAX ? RECORD_WIDE : 0;
	if (header.flags == 0)
	{
		tables = document->nterms * 2 * sizeof(uint16);
		memmove(record + sizeof(RecordHeader) + tables, terms, header.terms_size);
		to = record + sizeof(RecordHeader) + tables + header.terms_size;
	}
	sort_hashes(sorted, document->nterms);
	put_hashes(record + sizeof(RecordHeader),
			   record + sizeof(RecordHeader) + document->nterms * sizeof(uint16),
			   sorted,
			   document->nterms,
			   header.flags != 0);

	terms = to;
	for (int i = 0; i < document->nwords; i++)
	{
		to = put_varint(to, document->words[i].length);
		to = put_bytes(to, document->words[i].word, document->words[i].length);
	}
	header.words_size = to - terms;
	for (int i = 0; i < settings->nfilters; i++)
	{
		const SearchFilterColumn *filter = &settings->filters[i];

		datumSerialize(
			filters[i], isnull[filter->attno - 1], filter->typbyval, filter->typlen, &to);
	}
	header.size = to - record;
	header.length = document->length;
	header.nterms = document->nterms;
	header.nwords = document->nwords;
	header.tid = *tid;
	memcpy(record, &header, sizeof(header));
	pfree(sorted);
	return record;
}

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
	Buffer buffer;

	if (meta->pending_tail == InvalidBlockNumber)
		return InvalidBuffer;
	buffer = ReadBuffer(index, meta->pending_tail);
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
	char *record = make_record(settings, tid, document, values, isnull);
	uint32 size;
	bool full;

	memcpy(&size, record + offsetof(RecordHeader, size), sizeof(size));
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
	buffer = ReadBuffer(reader->index, block);
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
	RecordHeader header;
	const char *record;
	Size got;

	if (reader->at == reader->end && !read_next_page(reader))
		return NULL;
	if (reader->end - reader->at < sizeof(header))
		search_corrupted(reader->index, reader->block, "The page ends within a document.");
	memcpy(&header, at_page(reader), sizeof(header));
	if (header.size < sizeof(header) || header.size > MAX_RECORD)
		search_corrupted(
			reader->index, reader->block, "The page has a document of an impossible size.");
	if (header.size <= reader->end - reader->at)
	{
		record = at_page(reader);
		reader->at += header.size;
		return record;
	}

	if (reader->at != sizeof(PendingPage))
		search_corrupted(reader->index, reader->block, "The page ends within a document.");
	if (header.size > reader->record_size)
	{
		if (reader->record != NULL)
			pfree(reader->record);
		reader->record_size = header.size;
		reader->record = MemoryContextAlloc(reader->context, reader->record_size);
	}
	for (got = 0;;)
	{
		Size part = Min(header.size - got, reader->end - reader->at);

		memcpy(reader->record + got, at_page(reader), part);
		got += part;
		reader->at += part;
		if (got == header.size)
			return reader->record;
		if (!read_next_page(reader))
			return NULL;
	}
}

/* A value that datumSerialize() has written; checked, and advances *from. */
static Datum
restore_value(PendingReader *reader, const SearchFilterColumn *filter, const char **from,
			  const char *end, bool *isnull)
{
	char *next = unconstify(char *, *from);
	Size available = end - *from;
	int kind = 0; /* -2: NULL, -1: by value, else the length */
	bool fits = available >= sizeof(kind);
	Datum value;

	if (fits)
	{
		memcpy(&kind, *from, sizeof(kind));
		available -= sizeof(kind);
		if (kind == -1)
			fits = filter->typbyval && available >= sizeof(Datum);
		else if (kind != -2)
			fits = !filter->typbyval && kind >= VARHDRSZ_SHORT && available >= (Size) kind &&
				   (filter->typlen <= 0 || kind == filter->typlen);
	}
	if (!fits)
		search_corrupted(
			reader->index, reader->block, "The page has a document with a value that is too long.");
	value = datumRestore(&next, isnull);
	if (!*isnull && filter->typlen == -1 &&
		(VARATT_IS_EXTERNAL(DatumGetPointer(value)) ||
		 VARATT_IS_COMPRESSED(DatumGetPointer(value)) ||
		 VARSIZE_ANY(DatumGetPointer(value)) > kind))
		search_corrupted(
			reader->index, reader->block, "The page has a document with a value that is too long.");
	*from = next;
	return value;
}

bool
pending_next(PendingReader *reader, PendingDocument *document)
{
	RecordHeader header;
	const char *record;
	Size tables;
	MemoryContext old;
	const char *values;

	if (reader->left == 0 || *reader->stale || (record = next_record(reader)) == NULL)
		return false;
	reader->left--;

	memcpy(&header, record, sizeof(header));
	tables = header.nterms *
			 (header.flags & RECORD_WIDE ? sizeof(uint16) + sizeof(uint32) : 2 * sizeof(uint16));
	if (sizeof(header) + tables + header.terms_size + header.words_size > header.size)
		search_corrupted(
			reader->index, reader->block, "The page has a document of which parts are missing.");
	document->tid = header.tid;
	document->length = header.length;
	document->nterms = header.nterms;
	document->nwords = header.nwords;
	document->hashes = record + sizeof(header);
	document->offsets = document->hashes + header.nterms * sizeof(uint16);
	document->terms = document->hashes + tables;
	document->words = document->terms + header.terms_size;
	document->end = document->words + header.words_size;
	document->settings = reader->settings;
	document->filters = reader->filters;
	document->filter_nulls = reader->filter_nulls;

	MemoryContextReset(reader->values);
	old = MemoryContextSwitchTo(reader->values);
	values = document->end;
	for (int i = 0; i < reader->settings->nfilters; i++)
		reader->filters[i] = restore_value(reader,
										   &reader->settings->filters[i],
										   &values,
										   record + header.size,
										   &reader->filter_nulls[i]);
	MemoryContextSwitchTo(old);
	return true;
}

void
pending_close(PendingReader *reader)
{
	MemoryContextDelete(reader->context);
}

/* --- terms of a document ------------------------------------------------------------------------ */

pg_noreturn static void corrupted_document(void);

static void
corrupted_document(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INDEX_CORRUPTED),
			 errmsg("a document in the write buffer of a pgopt_bm25 index is corrupted"),
			 errhint("Rebuild the index with REINDEX.")));
}

static inline const char *
get_varint(const char *from, const char *end, uint32 *value)
{
	uint32 result = 0;
	int shift = 0;
	uint8 byte;

	do
	{
		if (unlikely(from >= end))
			corrupted_document();
		byte = (uint8) *from++;
		result |= (uint32) (byte & 0x7F) << shift;
		shift += 7;
	} while ((byte & 0x80) && shift < 35);
	*value = result;
	return from;
}

/* A term or word: its length, and where it begins. */
static inline const char *
get_text(const char *from, const char *end, uint32 *length)
{
	from = get_varint(from, end, length);
	if (unlikely(*length > (Size) (end - from)))
		corrupted_document();
	return from;
}

/* Reads what follows the term itself.  Returns the end, unless positions are not asked for. */
static const char *
get_occurrences(const PendingDocument *document, const char *from, uint32 *tf, uint32 **positions,
				uint32 *npositions)
{
	const SearchSettings *settings = document->settings;
	uint8 mask = 1;
	uint64 n = 0;
	uint32 last = 0;

	if (settings->nfields > 1)
	{
		if (from >= document->words)
			corrupted_document();
		mask = (uint8) *from++;
	}
	for (int field = 0; field < settings->nfields; field++)
	{
		tf[field] = 0;
		if (mask & (1 << field))
			from = get_varint(from, document->words, &tf[field]);
		n += tf[field];
	}
	if (unlikely(n == 0))
		corrupted_document();
	if (positions == NULL)
		return from;
	*positions = NULL;
	*npositions = 0;
	if (!settings->positions)
		return from;
	if (n > document->words - from)
		corrupted_document();
	*npositions = (uint32) n;
	*positions = palloc(Max(n, 1) * sizeof(uint32));
	for (uint32 i = 0; i < n; i++)
	{
		uint32 difference;

		from = get_varint(from, document->words, &difference);
		(*positions)[i] = last += difference;
	}
	return from;
}

static inline uint16
hash_at(const PendingDocument *document, uint32 i)
{
	uint16 hash;

	memcpy(&hash, document->hashes + i * sizeof(hash), sizeof(hash));
	return hash;
}

static inline const char *
term_at(const PendingDocument *document, uint32 i)
{
	uint32 offset;

	if (document->offsets + document->nterms * sizeof(uint16) == document->terms)
	{
		uint16 narrow;

		memcpy(&narrow, document->offsets + i * sizeof(narrow), sizeof(narrow));
		offset = narrow;
	}
	else
		memcpy(&offset, document->offsets + i * sizeof(offset), sizeof(offset));
	if (unlikely(offset >= (Size) (document->words - document->terms)))
		corrupted_document();
	return document->terms + offset;
}

bool
pending_find_term(const PendingDocument *document, const char *term, int length, uint32 hash,
				  uint32 *tf, uint32 **positions, uint32 *npositions)
{
	uint16 wanted = (uint16) hash;
	uint32 low = 0;
	uint32 high = document->nterms;

	while (low < high)
	{
		uint32 middle = low + (high - low) / 2;

		if (hash_at(document, middle) < wanted)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < document->nterms && hash_at(document, low) == wanted; low++)
	{
		uint32 found_length;
		const char *found = get_text(term_at(document, low), document->words, &found_length);

		if (found_length != (uint32) length || memcmp(found, term, length) != 0)
			continue;
		(void) get_occurrences(document, found + length, tf, positions, npositions);
		return true;
	}
	return false;
}

bool
pending_next_term(const PendingDocument *document, uint32 *place, const char **term, int *length,
				  uint32 *tf, uint32 **positions, uint32 *npositions)
{
	const char *from = document->terms + *place;
	uint32 found_length;

	if (from >= document->words)
		return false;
	*term = get_text(from, document->words, &found_length);
	*length = (int) found_length;
	from = get_occurrences(document, *term + *length, tf, positions, npositions);
	*place = from - document->terms;
	return true;
}

bool
pending_next_word(const PendingDocument *document, uint32 *place, const char **word, int *length)
{
	const char *from = document->words + *place;
	uint32 found_length;

	if (from >= document->end)
		return false;
	*word = get_text(from, document->end, &found_length);
	*length = (int) found_length;
	*place = *word + *length - document->words;
	return true;
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
