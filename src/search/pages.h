/*
 * pages.h
 *		Pages of a pgopt_bm25 index: meta page, free extents, locks.
 *
 * Heavyweight locks on the index, in this order (all are released at the end
 * of the transaction at the latest):
 *	1. the structure lock: shared by merges, exclusive for VACUUM, which sets
 *	   deleted bits, and for whoever wants the segments to stay as they are;
 *	2. claims on segments, each for the merge that will replace it;
 *	3. the flush lock: for whoever makes segments of the write buffer;
 *	4. the allocation lock: shared by inserts while they hold pages that
 *	   nothing refers to yet; exclusive while lost pages are looked for.
 * Inserts take 3 only when it is free, searches take none.
 *
 * Then buffer content locks, in this order:
 *	5. the meta page: exclusive to append to the write buffer and to change the
 *	   list of segments, for the time of one WAL record;
 *	6. the free page;
 *	7. one other page (appending: the buffer's tail, then its successor).
 *
 * A page that was freed is used again once no snapshot on this server is
 * older than its freeing, or when nobody reads; that spares readers a new start, and their safety
 * does not rest on it (format.h: owners), so that standbys need no conflicts.
 * Pages of the write buffer are used again at once: reading it anew is cheap.
 */
#ifndef PGOPT_SEARCH_PAGES_H
#define PGOPT_SEARCH_PAGES_H

#include "compat.h"
#include "format.h"

#include "access/generic_xlog.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/rel.h"

/*
 * Writes meta page and free page of an empty index to a fork that has no
 * pages; WAL-logs them for the init fork and when `log`.  A build that goes on
 * to use search_allocate() and search_new_owner() has them logged, since
 * those log changes of these two pages.
 */
extern void search_create_pages(Relation index, ForkNumber fork, const SearchMeta *meta, bool log);

/* Copies the meta page (palloc'd); checks magic and version. */
extern SearchMeta *search_read_meta(Relation index);

/* Mean weighted length of all documents, for the block maxima of a new segment. */
extern float4 search_average_length(const SearchMeta *meta);

/* A change of the meta page as one WAL record, to which other pages may be added before the commit. */
typedef struct MetaChange
{
	SearchMeta *meta; /* change this */
	GenericXLogState *xlog;
	Buffer buffer;
	Page page;
} MetaChange;

extern void search_begin_change(Relation index, MetaChange *change);
extern void search_commit_change(MetaChange *change);
extern void search_abort_change(MetaChange *change);

/*
 * Reads a block that a page has led to; ERRCODE_INDEX_CORRUPTED when it is
 * beyond the end of the file, which is looked up when *nblocks, 0 at first, is
 * not enough.
 */
extern Buffer search_read_block(Relation index, BlockNumber block, BlockNumber *nblocks);

/* Checks page header, kind, and id; ERRCODE_INDEX_CORRUPTED otherwise. Not the owner. */
extern void search_check_page(Relation index, Buffer buffer, uint16 kind);

/* The same for a page that may have passed to another owner: false then. */
extern bool search_page_is_owned(Relation index, Buffer buffer, uint16 kind, uint64 owner);

/* Raises that error; the detail is a sentence. */
pg_noreturn extern void search_corrupted(Relation index, BlockNumber block, const char *detail);

extern void search_init_page(Page page, uint64 owner, uint16 kind);

/* The structure lock, exclusive. */
extern void search_lock_structure(Relation index);
extern bool search_try_lock_structure(Relation index);
extern void search_unlock_structure(Relation index);

/* The same, shared. */
extern bool search_try_share_structure(Relation index);
extern void search_unshare_structure(Relation index);

/* A merge's claim on a segment (structure lock shared or exclusive). */
extern bool search_try_claim(Relation index, const SegmentEntry *segment);
extern void search_unclaim(Relation index, const SegmentEntry *segment);

extern void search_lock_flush(Relation index);
extern bool search_try_lock_flush(Relation index);
extern void search_unlock_flush(Relation index);

extern void search_share_allocation(Relation index);
extern void search_unshare_allocation(Relation index);

/*
 * Gives between 1 and `wanted` contiguous pages, from the free list or by
 * extending the file; the caller owns them.  A crash before they are referred
 * to leaks them until VACUUM (search_reclaim).  The caller holds one of the
 * heavyweight locks above, or the index is being built.
 */
extern Extent search_allocate(Relation index, uint32 wanted);

/* Gives pages back: to be used again once no snapshot is older, or at once. */
extern void search_free(Relation index, const Extent *extents, int n, bool at_once);

/* A number for a new segment or generation; WAL-logged at once. */
extern uint64 search_new_owner(Relation index);

/* The segment's pages, its header too (palloc'd). The caller keeps others from replacing it. */
extern Extent *search_segment_extents(Relation index, const SegmentEntry *segment, int *n);

/*
 * Frees the pages that nothing refers to (structure lock and flush lock held).
 * Returns their number; 0 when an insert is about to use pages.
 */
extern BlockNumber search_reclaim(Relation index);

/* How many pages are on the free list. */
extern BlockNumber search_free_pages(Relation index);

#endif /* PGOPT_SEARCH_PAGES_H */
