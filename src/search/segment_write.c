/*
 * segment_write.c
 *		Writes segments.
 *
 * Pages are filled in memory, one a stream, and put into the file when they
 * are full; a page that is being filled has its number already, so that
 * others can point to it.  In the index file, pages come from
 * search_allocate() in extents that grow with the segment; what the last
 * extent has too much is given back.  No buffer is locked but while a page is
 * copied into it.
 *
 * The caller holds the index's structure lock, or the index is not yet
 * visible to others.  After an error the pages are nobody's, until VACUUM
 * reclaims them.
 *
 * Memory: a byte a document, and a page a stream (about ten).
 */
#include "postgres.h"

#include "access/tupmacs.h"
#include "access/xloginsert.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "pages.h"
#include "score.h"
#include "segment_private.h"

#define FIRST_EXTENT   16
#define LARGEST_EXTENT 1024

/* --- pages ------------------------------------------------------------------------------ */

uint32
writer_new_page(SegmentWriter *writer)
{
	if (writer->header->npages >= MaxBlockNumber)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("a segment is too large")));
	return writer->header->npages++;
}

char *
writer_new_image(SegmentWriter *writer)
{
	char *image = MemoryContextAlloc(writer->context, BLCKSZ);

	search_init_page((Page) image, writer->header->id, SEARCH_PAGE_SEGMENT);
	return image;
}

static void
allocate_extent(SegmentWriter *writer)
{
	uint32 wanted = Max(writer->allocated / 4, FIRST_EXTENT);
	Extent extent;
	Extent *last = writer->nextents > 0 ? &writer->extents[writer->nextents - 1] : NULL;

	/* Larger ones only where their number would not fit into the header else. */
	if (writer->nextents < SEGMENT_MAX_EXTENTS / 2)
		wanted = Min(wanted, LARGEST_EXTENT);
	extent = search_allocate(writer->index, wanted);
	writer->allocated += extent.npages;
	if (last != NULL && last->start + last->npages == extent.start)
	{
		last->npages += extent.npages;
		return;
	}
	if (writer->nextents >= SEGMENT_MAX_EXTENTS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("index \"%s\" is too fragmented", RelationGetRelationName(writer->index)),
				 errhint("REINDEX the index.")));
	writer->extents[writer->nextents++] = extent;
}

static void
put_block(SegmentWriter *writer, BlockNumber block, const char *image)
{
	Buffer buffer = ReadBufferExtended(writer->index, MAIN_FORKNUM, block, RBM_ZERO_AND_LOCK, NULL);

	START_CRIT_SECTION();
	memcpy(BufferGetPage(buffer), image, BLCKSZ);
	MarkBufferDirty(buffer);
	if (writer->log)
		log_newpage_buffer(buffer, true);
	END_CRIT_SECTION();
	UnlockReleaseBuffer(buffer);
}

static void
put_file(SegmentWriter *writer, uint32 page, char *image)
{
	if (BufFileSeekBlock(writer->file, page) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not seek to page %u of an index build's temporary file", page)));
	BufFileWrite(writer->file, image, BLCKSZ);
}

/* The image keeps its header, but its content may be filled anew. */
void
writer_put_page(SegmentWriter *writer, uint32 page, char *image, uint32 used, uint32 next)
{
	uint32 first = 0;

	CHECK_FOR_INTERRUPTS();
	Assert(used <= SEARCH_PAGE_CONTENT);
	((PageHeader) image)->pd_lower = SEARCH_PAGE_OFFSET + used;
	SearchPageGetOpaque(image)->next = next;
	memset(SearchPageContent(image) + used, 0, SEARCH_PAGE_CONTENT - used);

	if (writer->file != NULL)
	{
		/* A temporary file cannot be written far beyond its end. */
		if (page > writer->written)
		{
			PGAlignedBlock empty;

			memset(empty.data, 0, BLCKSZ);
			for (; writer->written < page; writer->written++)
				put_file(writer, writer->written, empty.data);
		}
		put_file(writer, page, image);
		writer->written = Max(writer->written, page + 1);
		return;
	}

	while (page >= writer->allocated)
		allocate_extent(writer);
	/* From the end, near which all of them are. */
	first = writer->allocated;
	for (uint32 i = writer->nextents; i-- > 0;)
	{
		first -= writer->extents[i].npages;
		if (page >= first)
		{
			put_block(writer, writer->extents[i].start + (page - first), image);
			break;
		}
	}
}

/* --- streams ---------------------------------------------------------------------------- */

/* Where the next `size` bytes of the stream go, all on one page. */
static char *
stream_reserve(SegmentWriter *writer, WriterStream *stream, uint32 size)
{
	Assert(size <= SEARCH_PAGE_CONTENT);
	if (stream->page == InvalidBlockNumber)
	{
		if (stream->image == NULL)
			stream->image = writer_new_image(writer);
		stream->page = writer_new_page(writer);
		stream->used = 0;
	}
	else if (stream->used + size > SEARCH_PAGE_CONTENT)
	{
		uint32 next = writer_new_page(writer);

		writer_put_page(writer, stream->page, stream->image, stream->used, next);
		stream->page = next;
		stream->used = 0;
	}
	return SearchPageContent(stream->image) + stream->used;
}

static SegmentPointer
stream_append(SegmentWriter *writer, WriterStream *stream, const void *data, uint32 size)
{
	char *place = stream_reserve(writer, stream, size);
	SegmentPointer pointer = SEGMENT_POINTER(stream->page, stream->used);

	memcpy(place, data, size);
	stream->used += size;
	return pointer;
}

static void
stream_end(SegmentWriter *writer, WriterStream *stream)
{
	if (stream->page != InvalidBlockNumber)
		writer_put_page(writer, stream->page, stream->image, stream->used, InvalidBlockNumber);
	stream->page = InvalidBlockNumber;
}

/* --- beginning -------------------------------------------------------------------------- */

static SegmentWriter *
writer_create(const SearchSettings *settings, float4 average_length)
{
	SegmentWriter *writer = palloc0(sizeof(SegmentWriter));
	SegmentHeader *header = palloc0(BLCKSZ);
	CollectionStats stats;

	writer->context = CurrentMemoryContext;
	writer->settings = settings;
	writer->header = header;
	header->k1 = settings->k1;
	header->b = settings->b;
	header->average_length = average_length;
	header->nfields = settings->nfields;
	header->nfilters = settings->nfilters;
	header->terms_root = header->words_root = InvalidBlockNumber;
	header->terms_first_leaf = header->words_first_leaf = InvalidBlockNumber;

	stats.ndocs = 0;
	stats.average_length = average_length;
	stats.k1 = settings->k1;
	stats.b = settings->b;
	score_norms(&stats, writer->norms);

	writer->array.page = InvalidBlockNumber;
	writer->postings.page = InvalidBlockNumber;
	writer->skips.page = InvalidBlockNumber;
	writer->positions.page = InvalidBlockNumber;
	writer->term_length = -1;
	writer->filter = -1;
	return writer;
}

SegmentWriter *
segment_writer_begin(Relation index, const SearchSettings *settings, uint64 id,
					 float4 average_length)
{
	SegmentWriter *writer = writer_create(settings, average_length);

	writer->index = index;
	writer->header->id = id;
	writer->log = RelationNeedsWAL(index);
	writer->extents = palloc(SEGMENT_MAX_EXTENTS * sizeof(Extent));
	return writer;
}

SegmentWriter *
segment_writer_begin_temporary(BufFile *file, const SearchSettings *settings, float4 average_length)
{
	SegmentWriter *writer = writer_create(settings, average_length);

	writer->file = file;
	return writer;
}

void
segment_writer_set_unlogged(SegmentWriter *writer)
{
	writer->log = false;
}

/* --- documents -------------------------------------------------------------------------- */

void
writer_add_document(SegmentWriter *writer, ItemPointer tid, uint8 length_code)
{
	uint32 doc = writer->header->ndocs;

	if (writer->stage != WRITER_DOCUMENTS)
		elog(ERROR, "documents of a segment come first");
	if (doc >= SEARCH_MAX_DOCUMENTS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a segment cannot hold more than %u documents", SEARCH_MAX_DOCUMENTS)));
	if (doc >= writer->lengths_size)
	{
		Size size = Max((Size) writer->lengths_size * 2, 8192);

		size = Min(size, SEARCH_MAX_DOCUMENTS);
		if (writer->lengths == NULL)
			writer->lengths = MemoryContextAlloc(writer->context, size);
		else
			writer->lengths = repalloc_huge(writer->lengths, size);
		writer->lengths_size = (uint32) size;
	}
	writer->lengths[doc] = length_code;
	if (doc == 0)
		writer->header->tids_ascend = 1;
	else if (ItemPointerCompare(&writer->last_tid, tid) >= 0)
		writer->header->tids_ascend = 0;
	writer->last_tid = *tid;
	stream_append(writer, &writer->array, tid, sizeof(ItemPointerData));
	if (doc == 0)
		writer->header->tids_page = writer->array.page;
	writer->header->ndocs++;
}

void
segment_writer_add_document(SegmentWriter *writer, ItemPointer tid, uint32 length)
{
	writer_add_document(writer, tid, length_encode(length));
	writer->header->total_length += length;
}

/* Writes the arrays that are known when all documents are. */
static void
end_documents(SegmentWriter *writer)
{
	SegmentHeader *header = writer->header;
	uint32 ndocs = header->ndocs;

	if (writer->stage != WRITER_DOCUMENTS)
		return;
	writer->stage = WRITER_FILTERS;
	stream_end(writer, &writer->array);
	if (ndocs == 0)
		return;

	header->lengths_page = header->npages;
	for (uint32 doc = 0; doc < ndocs; doc += LENGTHS_PER_PAGE)
		stream_append(
			writer, &writer->array, writer->lengths + doc, Min(ndocs - doc, LENGTHS_PER_PAGE));
	stream_end(writer, &writer->array);

	header->deleted_page = header->npages;
	for (uint64 doc = 0; doc < ndocs; doc += DELETED_PER_PAGE)
	{
		uint32 size = (Min(ndocs - doc, DELETED_PER_PAGE) + 63) / 64 * sizeof(uint64);

		memset(stream_reserve(writer, &writer->array, size), 0, size);
		writer->array.used += size;
	}
	stream_end(writer, &writer->array);
}

/* --- filters ---------------------------------------------------------------------------- */

static void
end_filter_page(SegmentWriter *writer)
{
	WriterStream *stream = &writer->array;
	FilterPage *page = (FilterPage *) SearchPageContent(stream->image);
	FilterHeader *filter = &writer->header->filters[writer->filter];

	stream->used = TYPEALIGN(sizeof(uint16), stream->used);
	page->first_code = filter->nvalues - writer->filter_starts_n + 1;
	page->nvalues = (uint16) writer->filter_starts_n;
	page->starts = (uint16) stream->used;
	memcpy(SearchPageContent(stream->image) + stream->used,
		   writer->filter_starts,
		   writer->filter_starts_n * sizeof(uint16));
	stream->used += writer->filter_starts_n * sizeof(uint16);
	stream_end(writer, stream);
	filter->dictionary_pages++;
}

/* All values of the current filter are known. */
static void
end_filter_values(SegmentWriter *writer)
{
	FilterHeader *filter = &writer->header->filters[writer->filter];

	if (filter->width != 0)
		return;
	if (filter->nvalues > 0)
		end_filter_page(writer);
	filter->width = filter->nvalues <= PG_UINT8_MAX ? 1 : filter->nvalues <= PG_UINT16_MAX ? 2 : 4;
	filter->codes_page = writer->header->npages;
	if (writer->filter_nvalues != PG_UINT32_MAX && writer->filter_nvalues != filter->nvalues)
		elog(ERROR, "%u of %u values of a filter", filter->nvalues, writer->filter_nvalues);
}

static void
end_filter(SegmentWriter *writer)
{
	if (writer->filter < 0)
		return;
	end_filter_values(writer);
	if (writer->filter_codes != writer->header->ndocs)
		elog(ERROR, "codes of %u of %u documents", writer->filter_codes, writer->header->ndocs);
	stream_end(writer, &writer->array);
	writer->filter_done |= (uint32) 1 << writer->filter;
	writer->filter = -1;
}

void
writer_begin_filter(SegmentWriter *writer, int filter)
{
	end_documents(writer);
	end_filter(writer);
	if (writer->stage != WRITER_FILTERS || filter < 0 || filter >= writer->header->nfilters ||
		(writer->filter_done & ((uint32) 1 << filter)) != 0)
		elog(ERROR, "filter %d of a segment out of order", filter);
	if (writer->filter_starts == NULL)
		writer->filter_starts = MemoryContextAlloc(writer->context, SEARCH_PAGE_CONTENT);
	writer->filter = filter;
	writer->filter_codes = 0;
	writer->filter_nvalues = PG_UINT32_MAX;
}

void
segment_writer_begin_filter(SegmentWriter *writer, int filter, uint32 nvalues)
{
	writer_begin_filter(writer, filter);
	writer->filter_nvalues = nvalues;
}

void
segment_writer_add_filter_value(SegmentWriter *writer, Datum value)
{
	FilterHeader *filter = &writer->header->filters[writer->filter];
	const SearchFilterColumn *column = &writer->settings->filters[writer->filter];
	WriterStream *stream = &writer->array;
	const char *data = NULL;
	uint32 size;
	uint32 start;
	bool aligned = true;

	Assert(writer->filter >= 0 && filter->width == 0);
	if (column->typlen > 0)
	{
		size = column->typlen;
		if (!column->typbyval)
			data = DatumGetPointer(value);
	}
	else if (column->typlen == -1)
	{
		data = (const char *) PG_DETOAST_DATUM_PACKED(value);
		size = VARSIZE_ANY(data);
		aligned = !VARATT_IS_SHORT(data);
	}
	else
	{
		data = DatumGetCString(value);
		size = strlen(data) + 1;
	}
	/* No row brings such a one (document_check_filters): it was read from a damaged page. */
	if (size > SEARCH_MAX_FILTER_VALUE)
		ereport(ERROR,
				(errcode(ERRCODE_INDEX_CORRUPTED),
				 errmsg("a value in a segment of a pgopt_bm25 index is corrupted"),
				 errhint("Rebuild the index with REINDEX.")));

	for (;;)
	{
		if (stream->page == InvalidBlockNumber)
		{
			stream_reserve(writer, stream, sizeof(FilterPage));
			stream->used = sizeof(FilterPage);
			writer->filter_starts_n = 0;
			if (filter->nvalues == 0)
				filter->dictionary_page = stream->page;
		}
		start = stream->used;
		if (aligned)
			start = att_align_nominal(start, column->typalign);
		if (start + size + sizeof(uint16) * (writer->filter_starts_n + 2) <= SEARCH_PAGE_CONTENT)
			break;
		end_filter_page(writer);
	}
	memset(SearchPageContent(stream->image) + stream->used, 0, start - stream->used);
	if (data == NULL)
		store_att_byval(SearchPageContent(stream->image) + start, value, column->typlen);
	else
		memcpy(SearchPageContent(stream->image) + start, data, size);
	stream->used = start + size;
	writer->filter_starts[writer->filter_starts_n++] = (uint16) start;
	filter->nvalues++;
	if (column->typlen == -1 && data != DatumGetPointer(value))
		pfree((char *) data);
}

void
segment_writer_add_filter_code(SegmentWriter *writer, uint32 code)
{
	FilterHeader *filter = &writer->header->filters[writer->filter];
	char *place;

	if (filter->width == 0)
		end_filter_values(writer);
	if (code > filter->nvalues)
		elog(ERROR, "code %u of a filter with %u values", code, filter->nvalues);
	place = stream_reserve(writer, &writer->array, filter->width);
	if (filter->width == 1)
		*(uint8 *) place = (uint8) code;
	else if (filter->width == 2)
		*(uint16 *) place = (uint16) code;
	else
		*(uint32 *) place = code;
	writer->array.used += filter->width;
	writer->filter_codes++;
}

/* --- terms ------------------------------------------------------------------------------ */

static void
begin_terms(SegmentWriter *writer)
{
	end_documents(writer);
	end_filter(writer);
	if (writer->terms != NULL)
		return;
	if (writer->filter_done != ((uint32) 1 << writer->header->nfilters) - 1)
		elog(ERROR, "filters of a segment are missing");
	writer->stage = WRITER_TERMS;
	writer->terms = tree_begin(writer);
	writer->words = tree_begin(writer);
}

void
segment_writer_begin_term(SegmentWriter *writer, const char *term, int length)
{
	if (writer->stage != WRITER_TERMS)
		begin_terms(writer);
	if (length <= 0 || length > SEARCH_MAX_TERM)
		elog(ERROR, "term of %d bytes", length);
	Assert(writer->term_length < 0);
	memcpy(writer->term, term, length);
	writer->term_length = length;
	memset(&writer->info, 0, sizeof(TermInfo));
	writer->nblocks = 0;
	writer->last = -1;
	writer->n = 0;
	writer->nplaces = 0;
	writer->positions_start = 0;
}

/* The bound of SkipEntry for the postings at hand. */
static uint16
block_impact(const SegmentWriter *writer)
{
	double sums[SEARCH_BLOCK_SIZE];
	double tf = 0;
	double norm = 1;
	double impact;
	int n = writer->n;

	for (int i = 0; i < n; i++)
		sums[i] = (double) writer->settings->weights[0] * (int32) writer->tf[0][i];
	for (int field = 1; field < writer->header->nfields; field++)
	{
		double weight = writer->settings->weights[field];

		for (int i = 0; i < n; i++)
			sums[i] += weight * (int32) writer->tf[field][i];
	}
	/* tf / (tf + norm) grows with tf / norm: no division for each. */
	for (int i = 0; i < n; i++)
	{
		double this_norm = writer->norms[writer->lengths[writer->docs[i]]];

		if (sums[i] * norm > tf * this_norm)
		{
			tf = sums[i];
			norm = this_norm;
		}
	}
	if (tf <= 0)
		return 0;
	impact = ceil(65535.0 * (tf / (tf + norm)));
	return (uint16) Min(impact, 65535.0);
}

static void
put_places(SegmentWriter *writer)
{
	char packed[PACK_MAX];
	uint32 size = pack_numbers(writer->places, writer->nplaces, packed);
	SegmentPointer pointer = stream_append(writer, &writer->positions, packed, size);

	if (writer->positions_start == 0)
		writer->positions_start = pointer;
	writer->nplaces = 0;
}

void
writer_add_places(SegmentWriter *writer, const uint32 *places, uint32 n)
{
	while (n > 0)
	{
		uint32 count;

		if (writer->nplaces == SEARCH_BLOCK_SIZE)
			put_places(writer);
		count = Min(n, SEARCH_BLOCK_SIZE - writer->nplaces);
		memcpy(writer->places + writer->nplaces, places, count * sizeof(uint32));
		writer->nplaces += count;
		places += count;
		n -= count;
	}
}

static void
put_block_of_postings(SegmentWriter *writer)
{
	char block[BLOCK_MAX];
	uint32 size = block_encode(
		writer->docs, writer->tf, writer->n, writer->header->nfields, writer->last, block);
	SkipEntry entry;
	SegmentPointer pointer;

	if (writer->nplaces > 0)
		put_places(writer);
	pointer = stream_append(writer, &writer->postings, block, size);

	memset(&entry, 0, sizeof(entry));
	entry.last = writer->docs[writer->n - 1];
	entry.max_impact = block_impact(writer);
	entry.page = SegmentPointerPage(pointer);
	entry.offset = (uint16) SegmentPointerOffset(pointer);
	entry.positions_page = SegmentPointerPage(writer->positions_start);
	entry.positions_offset = (uint16) SegmentPointerOffset(writer->positions_start);

	if (writer->nblocks == 0)
	{
		writer->first = entry;
		writer->info.postings = pointer;
		writer->info.positions = writer->positions_start;
	}
	else
	{
		if (writer->nblocks == 1)
			writer->info.skips =
				stream_append(writer, &writer->skips, &writer->first, sizeof(SkipEntry));
		stream_append(writer, &writer->skips, &entry, sizeof(SkipEntry));
	}
	writer->info.max_impact = Max(writer->info.max_impact, entry.max_impact);
	writer->nblocks++;
	writer->last = entry.last;
	writer->n = 0;
	writer->positions_start = 0;
}

void
writer_make_room(SegmentWriter *writer)
{
	if (writer->n == SEARCH_BLOCK_SIZE)
		put_block_of_postings(writer);
}

void
segment_writer_add_posting(SegmentWriter *writer, uint32 doc, const uint32 *tf,
						   const uint32 *positions, uint32 npositions)
{
	int nfields = writer->header->nfields;
	uint32 total = 0;
	int n;

	writer_make_room(writer);
	n = writer->n;
	if ((int64) doc <= (n > 0 ? (int64) writer->docs[n - 1] : writer->last) ||
		doc >= writer->header->ndocs)
		elog(ERROR, "document %u of a term out of order", doc);
	writer->docs[n] = doc;
	for (int field = 0; field < nfields; field++)
	{
		writer->tf[field][n] = tf[field];
		total += tf[field];
	}
	if (total == 0)
		elog(ERROR, "document %u of a term without an occurrence", doc);
	writer->n++;
	writer->info.df++;

	if (writer->settings->positions)
	{
		int bits = writer->settings->field_bits;
		uint32 mask = ((uint32) 1 << bits) - 1;
		uint32 place = 0;

		if (npositions != total)
			elog(ERROR, "%u positions for %u occurrences", npositions, total);
		for (int field = 0; field < nfields; field++)
		{
			for (uint32 i = tf[field]; i > 0; i--, positions++)
			{
				uint32 here = *positions >> bits;

				if ((*positions & mask) != (uint32) field || here < place)
					elog(ERROR, "positions of a document out of order");
				if (writer->nplaces == SEARCH_BLOCK_SIZE)
					put_places(writer);
				writer->places[writer->nplaces++] = here - place;
				place = here;
			}
		}
	}
}

static char *
encode_pointer(SegmentPointer pointer, char *place)
{
	place += varint_encode(SegmentPointerPage(pointer), place);
	place += varint_encode(SegmentPointerOffset(pointer), place);
	return place;
}

void
segment_writer_end_term(SegmentWriter *writer)
{
	char payload[TERM_PAYLOAD_MAX];
	char *place = payload;
	TermInfo *info = &writer->info;
	char block[BLOCK_MAX];
	char packed[PACK_MAX];
	uint32 size = 0;
	uint32 packed_bytes = 0;
	bool inlined = false;
	uint16 impact;

	if (info->df == 0)
	{
		writer->term_length = -1;
		return;
	}
	/* Hardly more postings fit. */
	if (writer->nblocks == 0 && writer->positions_start == 0 && writer->n <= TERM_INLINE_MAX)
	{
		size =
			block_encode(writer->docs, writer->tf, writer->n, writer->header->nfields, -1, block);
		if (writer->nplaces > 0 && size <= TERM_INLINE_MAX)
			packed_bytes = pack_numbers(writer->places, writer->nplaces, packed);
		inlined = size + packed_bytes <= TERM_INLINE_MAX;
	}
	if (inlined)
		info->max_impact = block_impact(writer);
	else if (writer->n > 0) /* 0 after writer_make_room() */
		put_block_of_postings(writer);

	impact = (uint16) info->max_impact;
	place += varint_encode((uint64) info->df * 2 + (inlined ? 1 : 0), place);
	memcpy(place, &impact, sizeof(impact));
	place += sizeof(impact);
	if (inlined)
	{
		place += varint_encode(size, place);
		memcpy(place, block, size);
		place += size;
		memcpy(place, packed, packed_bytes);
		place += packed_bytes;
	}
	else
	{
		place = encode_pointer(info->postings, place);
		if (writer->nblocks > 1)
			place = encode_pointer(info->skips, place);
		if (writer->settings->positions)
			place = encode_pointer(info->positions, place);
	}
	tree_add(writer->terms, writer->term, writer->term_length, payload, place - payload);
	writer->header->npostings += info->df;
	writer->header->nterms++;
	writer->term_length = -1;
}

void
segment_writer_add_word(SegmentWriter *writer, const char *word, int length, uint32 df)
{
	char payload[VARINT_MAX];

	if (writer->stage != WRITER_TERMS)
		begin_terms(writer);
	tree_add(writer->words, word, length, payload, varint_encode(df, payload));
	writer->header->nwords++;
}

/* --- finishing -------------------------------------------------------------------------- */

/* Gives back what is too much and writes the header; returns its block. */
static BlockNumber
put_header(SegmentWriter *writer)
{
	SegmentHeader *header = writer->header;
	uint32 unused = writer->allocated - header->npages;
	Extent tail;
	char *image = writer_new_image(writer);
	uint32 size;

	if (unused > 0)
	{
		Extent *last = &writer->extents[writer->nextents - 1];

		Assert(last->npages > unused);
		last->npages -= unused;
		tail.start = last->start + last->npages;
		tail.npages = unused;
	}
	else
		tail = search_allocate(writer->index, 1);

	header->nextents = writer->nextents;
	memcpy(header->extents, writer->extents, writer->nextents * sizeof(Extent));
	size = offsetof(SegmentHeader, extents) + writer->nextents * sizeof(Extent);
	search_init_page((Page) image, header->id, SEARCH_PAGE_HEADER);
	memcpy(SearchPageContent(image), header, size);
	((PageHeader) image)->pd_lower = SEARCH_PAGE_OFFSET + size;
	put_block(writer, tail.start, image);
	pfree(image);

	if (tail.npages > 1)
	{
		Extent rest = {tail.start + 1, tail.npages - 1};

		search_free(writer->index, &rest, 1, true);
	}
	return tail.start;
}

static void
stream_free(WriterStream *stream)
{
	if (stream->image != NULL)
		pfree(stream->image);
}

void
segment_writer_finish(SegmentWriter *writer, SegmentEntry *entry, SegmentHeader **header)
{
	begin_terms(writer);
	stream_end(writer, &writer->postings);
	stream_end(writer, &writer->skips);
	stream_end(writer, &writer->positions);
	tree_finish(writer->terms,
				&writer->header->terms_root,
				&writer->header->terms_height,
				&writer->header->terms_first_leaf);
	tree_finish(writer->words,
				&writer->header->words_root,
				&writer->header->words_height,
				&writer->header->words_first_leaf);

	if (entry != NULL)
		memset(entry, 0, sizeof(SegmentEntry));
	if (writer->file == NULL)
	{
		BlockNumber block = put_header(writer);

		entry->id = writer->header->id;
		entry->header = block;
		entry->npages = writer->header->npages;
		entry->ndocs = writer->header->ndocs;
		entry->total_length = writer->header->total_length;
		pfree(writer->header);
		pfree(writer->extents);
	}
	else
		*header = writer->header;

	stream_free(&writer->array);
	stream_free(&writer->postings);
	stream_free(&writer->skips);
	stream_free(&writer->positions);
	if (writer->lengths != NULL)
		pfree(writer->lengths);
	if (writer->filter_starts != NULL)
		pfree(writer->filter_starts);
	pfree(writer);
}
