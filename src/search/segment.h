/*
 * segment.h
 *		Segments: writing, reading, merging.
 *
 * A segment is written once, by SegmentWriter, to the index file or to a
 * temporary file (the runs of a build that does not fit into
 * maintenance_work_mem), and read by SegmentReader from either.  Whoever
 * writes to the index file holds the index's structure lock (pages.h).
 *
 * Readers take a share lock on one page at a time, check its owner, copy what
 * they need, and let go: nothing is locked between calls.  When a page has
 * another owner, the segment is gone: the reader's `stale` is set, the call
 * says that there is nothing more (arrays are zeros then, a filter's value is
 * (Datum) 0, a loaded block is empty), and the caller starts again with a new
 * view.  That the meta page no longer lists the segment is checked first.
 * Everything else that does not fit is a corrupted index: an error.
 *
 * Memory: a reader, writer or cursor lives in the context that was current
 * when it was made.
 */
#ifndef PGOPT_SEARCH_SEGMENT_H
#define PGOPT_SEARCH_SEGMENT_H

#include "compat.h"
#include "format.h"

#include "storage/buf.h"
#include "storage/buffile.h"
#include "utils/rel.h"

#include "settings.h"

/* --- reading ---------------------------------------------------------------------- */

typedef struct SegmentReader SegmentReader;

/* `stale` is set for good when the segment is found to be replaced; may be shared by many readers. */
extern SegmentReader *segment_open(Relation index, const SearchSettings *settings,
								   const SegmentEntry *entry, bool *stale);
extern SegmentReader *
segment_open_temporary(BufFile *file, const SearchSettings *settings, SegmentHeader *header);
extern void segment_close(SegmentReader *reader);
extern const SegmentHeader *segment_header(const SegmentReader *reader);

/* The block of the file that holds a logical page: for who changes deleted bits. */
extern BlockNumber segment_block(SegmentReader *reader, uint32 page);

extern bool segment_find_term(SegmentReader *reader, const char *term, int length, TermInfo *info);

/* Arrays: copies entries [from, from + n) */
extern void segment_tids(SegmentReader *reader, uint32 from, uint32 n, ItemPointerData *tids);
extern void segment_lengths(SegmentReader *reader, uint32 from, uint32 n, uint8 *lengths);
extern void segment_codes(SegmentReader *reader, int filter, uint32 from, uint32 n, uint32 *codes);

/* The same as they are stored, in 1, 2 or 4 bytes each, which is returned; whether they have values is not checked. */
extern uint32
segment_raw_codes(SegmentReader *reader, int filter, uint32 from, uint32 n, void *codes);

/* Deleted bits of documents [from, from + n), from a multiple of 64; bit i of word i / 64. */
extern void segment_deleted(SegmentReader *reader, uint32 from, uint32 n, uint64 *bits);

/*
 * The codes whose values are < or <= (inclusive) the given one: 1 .. result.
 * A range, an equality and an IN are made of these.
 */
extern uint32 segment_filter_upto(SegmentReader *reader, int filter, Datum value, bool inclusive);
extern Datum segment_filter_value(SegmentReader *reader, int filter, uint32 code); /* palloc'd */

/* Postings of one term.  Memory: 5 kB, and a page when there are skip entries or positions are read. */
typedef struct PostingCursor
{
	SegmentReader *reader;
	TermInfo info;
	uint32 nblocks;
	uint32 block;                   /* loaded, or PG_UINT32_MAX */
	int n;                          /* postings in the loaded block */
	uint32 docs[SEARCH_BLOCK_SIZE]; /* ascending */
	uint32 tf[SEARCH_MAX_FIELDS]
			 [SEARCH_BLOCK_SIZE]; /* occurrences in each field; only nfields rows are set */
	uint32
		fields; /* mask of the fields that occur in the block at all; rows of others are not set */
	/* private */
	MemoryContext context;
	uint32 recent_page; /* of the block loaded last, and where it was then */
	Buffer recent;
	bool copied; /* that page is in copy */
	uint32 copy_length;
	char *copy;
	SkipEntry *skips; /* those of one page, of blocks [skips_first, skips_first + skips_n) */
	uint32 skips_first;
	uint32 skips_n;
	struct PostingSkipPage *skip_pages; /* the pages that are known, from the first on */
	uint32 skip_pages_n;
	uint32 skip_pages_size;
	struct PostingPositions *positions;
} PostingCursor;

extern void posting_open(PostingCursor *cursor, SegmentReader *reader, const TermInfo *info);

/* Last document and impact bound of a block, without loading it; block < nblocks. */
extern uint32 posting_block_last(PostingCursor *cursor, uint32 block);
extern uint32 posting_block_impact(PostingCursor *cursor, uint32 block); /* 0 .. 65535 */

/* First block from `from` on whose last document is >= target; nblocks when there is none. */
extern uint32 posting_seek(PostingCursor *cursor, uint32 from, uint32 target);
extern void posting_load(PostingCursor *cursor, uint32 block);

/*
 * Positions of the i-th posting of the loaded block, ascending, and their
 * number; position = place in the document << field bits | field (settings).
 * The array is the cursor's and lives until the next call.  Asking for
 * ascending i reads every page once.
 */
extern int posting_positions(PostingCursor *cursor, int i, const uint32 **positions);
extern void posting_close(PostingCursor *cursor);

/* All terms, ascending (memcmp, then length). */
typedef struct TermCursor TermCursor;
extern TermCursor *term_cursor_open(SegmentReader *reader);
extern bool term_cursor_next(TermCursor *cursor, const char **term, int *length, TermInfo *info);
extern void term_cursor_close(TermCursor *cursor);

/* All words as written (folded), ascending, with the number of documents and the term that each gives. */
typedef struct WordCursor WordCursor;
extern WordCursor *word_cursor_open(SegmentReader *reader);
extern bool word_cursor_next(WordCursor *cursor, const char **word, int *length, uint32 *df);
extern void word_cursor_close(WordCursor *cursor);

/* --- writing ---------------------------------------------------------------------- */

typedef struct SegmentWriter SegmentWriter;

/*
 * The order of calls: begin; for each document in the order of its number
 * add_document; for each filter set_filter; for each term, ascending,
 * begin_term, add_posting for each document ascending, end_term; for each
 * word, ascending, add_word; finish.  average_length is that of the whole
 * index, for the block maxima.
 */
extern SegmentWriter *segment_writer_begin(Relation index, const SearchSettings *settings,
										   uint64 id, float4 average_length);
extern SegmentWriter *segment_writer_begin_temporary(BufFile *file, const SearchSettings *settings,
													 float4 average_length);
extern void segment_writer_add_document(SegmentWriter *writer, ItemPointer tid, uint32 length);

/*
 * Values ascending by the filter's order, without NULL and duplicates, of
 * SEARCH_MAX_FILTER_VALUE bytes at most; codes of all documents follow by number.
 */
extern void segment_writer_begin_filter(SegmentWriter *writer, int filter, uint32 nvalues);
extern void segment_writer_add_filter_value(SegmentWriter *writer, Datum value);
extern void segment_writer_add_filter_code(SegmentWriter *writer, uint32 code);

extern void segment_writer_begin_term(SegmentWriter *writer, const char *term, int length);
/*
 * tf[] has nfields entries, positions sum(tf) (ignored when they are not kept):
 * those of the first field, then those of the second ..., whose places ascend
 * altogether, as document.h has it.
 */
extern void segment_writer_add_posting(SegmentWriter *writer, uint32 doc, const uint32 *tf,
									   const uint32 *positions, uint32 npositions);
extern void segment_writer_end_term(SegmentWriter *writer);
extern void segment_writer_add_word(SegmentWriter *writer, const char *word, int length, uint32 df);

/*
 * Writes what is left and the header.  In the index file every page is
 * WAL-logged unless the index is being built (writer_set_unlogged), and
 * nothing refers to the segment until the caller puts *entry into the meta
 * page.  For a temporary segment *header is a palloc'd copy.
 */
extern void segment_writer_set_unlogged(SegmentWriter *writer);
extern void
segment_writer_finish(SegmentWriter *writer, SegmentEntry *entry, SegmentHeader **header);

/* --- merging ---------------------------------------------------------------------- */

/*
 * Writes the live documents of the readers, in their order, through the
 * writer (begun, not finished).  Costs one pass over all postings; memory:
 * 4 bytes a document and filter value of the readers with deleted documents,
 * 4 bytes a filter value of the others, and three pages a reader.  The total
 * length leaves out what deleted documents have by their quantised lengths.
 */
extern void segment_merge(SegmentReader **readers, int nreaders, SegmentWriter *writer);

#endif /* PGOPT_SEARCH_SEGMENT_H */
