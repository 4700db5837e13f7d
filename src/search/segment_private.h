/*
 * segment_private.h
 *		What the files of segments share: bit packing, blocks of postings,
 *		pages of a reader and a writer, trees.
 */
#ifndef PGOPT_SEARCH_SEGMENT_PRIVATE_H
#define PGOPT_SEARCH_SEGMENT_PRIVATE_H

#include "postgres.h"

#include "port/pg_bitutils.h"
#include "storage/bufmgr.h"

#include "compat.h"
#include "segment.h"

/* Nothing of this is called from outside: no detours for what could replace it. */
#pragma GCC visibility push(hidden)

/* --- packed numbers and blocks (postings.c) ------------------------------------------ */

/*
 * Up to 128 numbers, packed: a byte with the width (and PACK_EXCEPTIONS), the
 * low `width` bits of every number, and, for those that are wider, their
 * count, and for each its place and the rest as a variable-length integer.
 */
#define PACK_EXCEPTIONS    0x40
#define PACK_MAX_EXCEPTION (SEARCH_BLOCK_SIZE / 8)
#define PACK_MAX           (1 + SEARCH_BLOCK_SIZE * 4 + 1 + PACK_MAX_EXCEPTION * 6)
#define BLOCK_MAX          ((1 + SEARCH_MAX_FIELDS) * PACK_MAX + 1)

/* Returns the number of bytes written, at most PACK_MAX. */
extern uint32 pack_numbers(const uint32 *numbers, int n, char *out);

/*
 * Adds `base` to each.  Returns the number of bytes read, 0 when `available`
 * does not hold them.  May read, but not use, 8 bytes beyond `available`: on
 * a page that is its opaque area.
 */
extern uint32 unpack_numbers(const char *in, uint32 available, int n, uint32 base, uint32 *out);
extern uint32 packed_size(const char *in, uint32 available, int n);

/* Rows of tf are SEARCH_BLOCK_SIZE long; previous is the last document of the block before, or -1. */
extern uint32 block_encode(const uint32 *docs, uint32 (*tf)[SEARCH_BLOCK_SIZE], int n, int nfields,
						   int64 previous, char *out);

/* Returns the bytes read, 0 when the block does not fit; no document is ndocs or more. */
extern uint32
block_decode(const char *in, uint32 available, int n, int nfields, int64 previous, uint32 ndocs,
			 uint32 *docs, uint32 (*tf)[SEARCH_BLOCK_SIZE], uint32 *fields);

/* Variable-length integers, 7 bits a byte, low ones first. */
#define VARINT_MAX 10

static inline uint32
varint_encode(uint64 value, char *out)
{
	uint32 n = 0;

	while (value >= 0x80)
	{
		out[n++] = (char) (value | 0x80);
		value >>= 7;
	}
	out[n++] = (char) value;
	return n;
}

/* Advances *place, which stays at or before `end`; false when there is no whole integer. */
static inline bool
varint_decode(const char **place, const char *end, uint64 *value)
{
	uint64 result = 0;

	for (int shift = 0; *place < end && shift < 64; shift += 7)
	{
		uint8 byte = (uint8) * (*place)++;

		result |= (uint64) (byte & 0x7F) << shift;
		if (byte < 0x80)
		{
			*value = result;
			return true;
		}
	}
	return false;
}

/* Order of terms and words. */
static inline int
key_compare(const char *a, int a_length, const char *b, int b_length)
{
	int result = memcmp(a, b, Min(a_length, b_length));

	return result != 0 ? result : a_length - b_length;
}

/* --- reader --------------------------------------------------------------------------- */

struct SegmentReader
{
	MemoryContext context;
	Relation index; /* or */
	BufFile *file;
	const SearchSettings *settings;
	bool *stale;
	bool never_stale;      /* what `stale` points to for a file */
	SegmentHeader *header; /* without extents for a file */
	BlockNumber header_block;
	uint32 *extent_first; /* first logical page of each extent */
	uint32 extent;        /* the one used last */
	char *image;          /* file: the page read last */
	uint32 image_page;
};

/* A logical page, looked at under a share lock. */
typedef struct SegmentView
{
	const char *content;
	uint32 length; /* of the content */
	uint32 next;   /* of the stream: greater than the page's own number, or InvalidBlockNumber */
	Buffer buffer;
} SegmentView;

/* False: stale.  Only one page at a time.  recent: a buffer where the page was, or InvalidBuffer. */
extern bool segment_view(SegmentReader *reader, uint32 page, Buffer recent, SegmentView *view);

static inline void
segment_view_end(SegmentView *view)
{
	if (BufferIsValid(view->buffer))
		UnlockReleaseBuffer(view->buffer);
}

/* A logical page, copied. */
typedef struct SegmentPage
{
	uint32 page; /* InvalidBlockNumber: none */
	uint32 length;
	uint32 next;
	char *image; /* BLCKSZ, from MemoryContext of the reader at first use */
} SegmentPage;

#define SegmentPageContent(copy) ((const char *) SearchPageContent((copy)->image))

extern bool segment_copy_page(SegmentReader *reader, uint32 page, SegmentPage *copy);

/* what: goes on after "the page". */
pg_noreturn extern void segment_corrupted(SegmentReader *reader, uint32 page, const char *what);

/* --- filter dictionaries (segment_read.c, segment_write.c) ------------------------------ */

/* At the start of a page of values; ends[] follows the values. */
typedef struct FilterPage
{
	uint32 first_code;
	uint16 nvalues;
	uint16 starts; /* where the array of nvalues offsets begins */
} FilterPage;

extern bool segment_filter_page(SegmentReader *reader, int filter, uint32 i, SegmentPage *copy);
extern Datum
segment_filter_datum(SegmentReader *reader, int filter, const SegmentPage *copy, uint32 i);

static inline int
filter_compare(const SearchFilterColumn *column, Datum a, Datum b)
{
	return DatumGetInt32(FunctionCall2Coll((FmgrInfo *) &column->compare, column->collation, a, b));
}

/* --- trees (segment_tree.c) -------------------------------------------------------------- */

#define TREE_MAX_HEIGHT 16

typedef struct TreeBuilder TreeBuilder;
extern TreeBuilder *tree_begin(SegmentWriter *writer);
extern void tree_add(TreeBuilder *tree, const char *key, int length, const char *payload,
					 uint32 payload_length);
extern void tree_finish(TreeBuilder *tree, uint32 *root, uint32 *height, uint32 *first_leaf);

/* Postings and positions that take no more bytes lie with their term. */
#define TERM_INLINE_MAX  64
#define TERM_PAYLOAD_MAX (TERM_INLINE_MAX + 8 * VARINT_MAX)

/* The leaf that the cursor is on: short postings lie there. */
extern const SegmentPage *term_cursor_leaf(const TermCursor *cursor);

/* --- writer (segment_write.c) -------------------------------------------------------------- */

/* A stream of a segment being written: its current page. */
typedef struct WriterStream
{
	uint32 page; /* InvalidBlockNumber: not begun */
	uint32 used; /* bytes of content */
	char *image; /* BLCKSZ */
} WriterStream;

struct SegmentWriter
{
	MemoryContext context;
	Relation index; /* or */
	BufFile *file;
	const SearchSettings *settings;
	bool log;
	SegmentHeader *header; /* being filled in; extents apart */
	uint32 nextents;
	uint32 allocated; /* pages in the extents */
	Extent *extents;
	uint32 written; /* file: pages that exist */

	enum
	{
		WRITER_DOCUMENTS,
		WRITER_FILTERS,
		WRITER_TERMS,
		WRITER_WORDS
	} stage;
	double norms[256]; /* by length code */
	uint8 *lengths;    /* codes, by document */
	uint32 lengths_size;
	ItemPointerData last_tid;
	WriterStream array; /* the array or dictionary of values being written */

	int filter;          /* the one being written */
	uint32 filter_done;  /* mask of filters */
	uint32 filter_codes; /* codes written so far */
	uint32 filter_nvalues;
	uint32 filter_starts_n; /* values on the current page of the dictionary ... */
	uint16 *filter_starts;  /* ... and where they begin */

	/* the term being written */
	char term[SEARCH_MAX_TERM];
	int term_length;
	TermInfo info;
	uint32 nblocks; /* written to the stream */
	int64 last;     /* last document of the block before */
	int n;          /* postings not yet written */
	uint32 docs[SEARCH_BLOCK_SIZE];
	uint32 tf[SEARCH_MAX_FIELDS][SEARCH_BLOCK_SIZE];
	SegmentPointer positions_start;   /* of these postings, when a pack is already written */
	uint32 nplaces;                   /* not yet written */
	uint32 places[SEARCH_BLOCK_SIZE]; /* differences to the place before in the document */
	SkipEntry first;                  /* of the first block, until there is a second */

	WriterStream postings;
	WriterStream skips;
	WriterStream positions;
	TreeBuilder *terms;
	TreeBuilder *words;
};

extern void writer_add_document(SegmentWriter *writer, ItemPointer tid, uint8 length_code);
extern void writer_begin_filter(SegmentWriter *writer, int filter);

/* Writes out the block when it is full; then there is room for at least one posting. */
extern void writer_make_room(SegmentWriter *writer);
extern void writer_add_places(SegmentWriter *writer, const uint32 *places, uint32 n);

/*
 * Pages are numbered when they are begun, filled in an image, which can be
 * used again, and put into the file when they are full.
 */
extern uint32 writer_new_page(SegmentWriter *writer);
extern char *writer_new_image(SegmentWriter *writer);
extern void
writer_put_page(SegmentWriter *writer, uint32 page, char *image, uint32 used, uint32 next);

#pragma GCC visibility pop

#endif /* PGOPT_SEARCH_SEGMENT_PRIVATE_H */
