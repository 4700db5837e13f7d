/*
 * format.h
 *		What a pgopt_bm25 index looks like on disk.
 *
 * Block 0 is the meta page, block 1 the list of free extents.  Every other
 * page belongs to one owner: a segment, the restoring table, or an insert into
 * the write buffer; its opaque area says to which.  Owners are numbered
 * from 1 and a number is never used twice, so that a reader who comes late
 * (a merge has replaced the segment, and its pages hold something else by
 * now) sees that at once, on a primary and on a standby alike.
 *
 * A segment is immutable but for its bitmap of deleted documents.  Its pages
 * are numbered from 0 ("logical pages") and lie in extents of the file, which
 * its header lists.  It consists of
 *
 *	arrays, one entry a document: heap pointers (6 bytes), quantised lengths
 *	(1 byte), deleted bits, and codes of each filter column (1, 2 or 4 bytes;
 *	0 is NULL, others number the distinct values in ascending order from 1);
 *	filter dictionaries: the distinct values, ascending;
 *	postings: blocks of 128 documents, bit-packed, never across a page's end;
 *	skips: one entry a block, for terms of more than one block;
 *	positions: a byte stream;
 *	the term dictionary and the word list: trees, bulk-loaded.
 *
 * Arrays and filter dictionaries are contiguous in logical pages; the streams
 * are chains (opaque.next).
 */
#ifndef PGOPT_SEARCH_FORMAT_H
#define PGOPT_SEARCH_FORMAT_H

#include "postgres.h"

#include "access/transam.h"
#include "storage/bufpage.h"
#include "storage/itemptr.h"

#define SEARCH_MAGIC         0x53425047 /* "GPBS" */
#define SEARCH_VERSION       1
#define SEARCH_META_BLOCK    0
#define SEARCH_FREE_BLOCK    1
#define SEARCH_FIRST_BLOCK   2
#define SEARCH_PAGE_ID       0xFFA5
#define SEARCH_MAX_FIELDS    8  /* text columns */
#define SEARCH_MAX_FILTERS   24 /* filter columns */
#define SEARCH_MAX_SEGMENTS  120
#define SEARCH_MAX_TERM      255                   /* bytes */
#define SEARCH_BLOCK_SIZE    128                   /* postings in a block */
#define SEARCH_MAX_DOCUMENTS ((uint32) 0xFF000000) /* in one segment */

typedef enum SearchPageKind
{
	SEARCH_PAGE_META = 1,
	SEARCH_PAGE_FREE,   /* the list of free extents */
	SEARCH_PAGE_HEADER, /* a segment's header: always a page of its own outside the logical pages */
	SEARCH_PAGE_SEGMENT, /* a segment's logical page */
	SEARCH_PAGE_PENDING, /* write buffer */
	SEARCH_PAGE_RESTORE  /* restoring table */
} SearchPageKind;

/* At the end of every page. */
typedef struct SearchPageOpaque
{
	uint64 owner; /* segment, insert into the write buffer, ...; 0 on meta and free page */
	uint32
		next; /* next logical page of the stream (segments), next block (chains), or InvalidBlockNumber */
	uint16 kind; /* SearchPageKind */
	uint16 id;   /* SEARCH_PAGE_ID */
} SearchPageOpaque;

#define SearchPageGetOpaque(page) ((SearchPageOpaque *) PageGetSpecialPointer(page))

/* Bytes of content on a page, and where they begin.  pd_lower ends them. */
#define SEARCH_PAGE_OFFSET      MAXALIGN(SizeOfPageHeaderData)
#define SEARCH_PAGE_CONTENT     (BLCKSZ - SEARCH_PAGE_OFFSET - MAXALIGN(sizeof(SearchPageOpaque)))
#define SearchPageContent(page) ((char *) (page) + SEARCH_PAGE_OFFSET)

/* A place in a segment: logical page << 13 | offset in the page's content. */
typedef uint64 SegmentPointer;
#define SEGMENT_POINTER(page, offset) (((uint64) (page) << 13) | (offset))
#define SegmentPointerPage(pointer)   ((uint32) ((pointer) >> 13))
#define SegmentPointerOffset(pointer) ((uint32) ((pointer) &0x1FFF))

/* --- meta page ---------------------------------------------------------------- */

/* A segment as the meta page knows it. */
typedef struct SegmentEntry
{
	uint64 id;          /* owner of its pages */
	BlockNumber header; /* its SEARCH_PAGE_HEADER */
	uint32 npages;      /* logical pages, the header's own not counted */
	uint32 ndocs;       /* deleted ones too */
	uint32 ndeleted;
	uint64 total_length; /* sum of the documents' weighted lengths, deleted ones too */
} SegmentEntry;

typedef struct SearchMeta
{
	uint32 magic;
	uint32 version;
	uint16 nfields; /* as the index was built; a check against the catalog */
	uint16 nfilters;
	bool positions; /* are positions kept? */
	uint64 next_owner;
	uint64 stemmer; /* fingerprint of the analysis at build time; another one now means REINDEX */
	BlockNumber restore; /* first page of the restoring table, or InvalidBlockNumber */
	uint64 restore_owner;
	uint32 restore_words;
	/* write buffer: a chain of pages from head to tail (pending.h); empty when head is invalid */
	uint64 pending_owner; /* of the head */
	BlockNumber pending_head;
	BlockNumber pending_tail;
	uint32 pending_start; /* where the first document begins in the head's content */
	uint32 pending_pages;
	uint32 pending_docs;
	uint64 pending_length; /* sum of weighted lengths */
	uint32 nsegments;
	SegmentEntry segments[SEARCH_MAX_SEGMENTS];
} SearchMeta;

/* Free extents, sorted by start; adjacent ones are joined when both may be used. */
typedef struct FreeExtent
{
	BlockNumber start;
	uint32 npages;
	FullTransactionId freed; /* may be used again once no snapshot is older */
} FreeExtent;

#define SEARCH_MAX_FREE ((SEARCH_PAGE_CONTENT - 8) / sizeof(FreeExtent))

typedef struct SearchFreeList
{
	uint32 nextents;
	uint32 unused;
	FreeExtent extents[FLEXIBLE_ARRAY_MEMBER];
} SearchFreeList;

/* Entries on a page of a segment's arrays. */
#define TIDS_PER_PAGE    (SEARCH_PAGE_CONTENT / sizeof(ItemPointerData))
#define LENGTHS_PER_PAGE SEARCH_PAGE_CONTENT
#define DELETED_PER_PAGE \
	(SEARCH_PAGE_CONTENT / sizeof(uint64) * 64) /* bit i % 64 of uint64 i / 64 */

/* A filter's value may have that many bytes at most, with its header of 4 bytes. */
#define SEARCH_MAX_FILTER_VALUE 2000

/* --- segment header ------------------------------------------------------------- */

typedef struct Extent
{
	BlockNumber start;
	uint32 npages;
} Extent;

/* One filter column of a segment. */
typedef struct FilterHeader
{
	uint32 codes_page; /* first logical page of the codes */
	uint32 width;      /* bytes a code: 1, 2 or 4 */
	uint32 dictionary_page;
	uint32 dictionary_pages;
	uint32 nvalues; /* distinct, NULL not counted */
} FilterHeader;

typedef struct SegmentHeader
{
	uint64 id;
	uint32 ndocs;
	uint32 npages;
	uint64 total_length;
	uint64 npostings;
	uint64 nterms;
	uint64 nwords;
	float4 k1; /* with which the block maxima were computed ... */
	float4 b;
	float4 average_length; /* ... and the mean weighted length */
	uint16 nfields;
	uint16 nfilters;
	uint32 tids_page;
	uint32 lengths_page;
	uint32 deleted_page;
	uint32 terms_root;   /* logical page; InvalidBlockNumber: no terms */
	uint32 terms_height; /* 0: the root is a leaf */
	uint32 terms_first_leaf;
	uint32 words_root;
	uint32 words_height;
	uint32 words_first_leaf;
	uint32 tids_ascend; /* 1: the heap pointers do, with the documents' numbers */
	uint32 nextents;
	FilterHeader filters[SEARCH_MAX_FILTERS];
	Extent extents[FLEXIBLE_ARRAY_MEMBER]; /* as many as fit on the page */
} SegmentHeader;

/* --- term dictionary ------------------------------------------------------------- */

/* What the dictionary knows of a term. */
typedef struct TermInfo
{
	uint32 df;                /* documents that hold it, deleted ones too */
	uint32 max_impact;        /* over all blocks, as in SkipEntry */
	SegmentPointer postings;  /* first block */
	SegmentPointer skips;     /* first SkipEntry; 0 when df <= SEARCH_BLOCK_SIZE */
	SegmentPointer positions; /* first byte; 0 when positions are not kept */
} TermInfo;

/*
 * A block of postings.  max_impact bounds tf / (tf + K) over the block,
 * times 65535, rounded up, with the header's k1, b and average length.
 */
typedef struct SkipEntry
{
	uint32 last; /* last document of the block */
	uint16 max_impact;
	uint16 offset; /* SegmentPointerOffset of the block */
	uint32 page;   /* SegmentPointerPage of the block */
	uint32 positions_page;
	uint16 positions_offset;
	uint16 unused;
} SkipEntry;

#define SEGMENT_MAX_EXTENTS \
	((SEARCH_PAGE_CONTENT - offsetof(SegmentHeader, extents)) / sizeof(Extent))

#define SKIPS_PER_PAGE (SEARCH_PAGE_CONTENT / sizeof(SkipEntry))

#endif /* PGOPT_SEARCH_FORMAT_H */
