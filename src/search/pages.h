/*
 * pages.h
 *		Pages of a pgopt_bm25 index: meta page, free extents, write buffer.
 *
 * Locks, in this order:
 *	1. the structure lock, a heavyweight lock on the index's meta page
 *	   (LockPage), held by whoever writes segments or deleted bits: flush,
 *	   merge, VACUUM.  Inserts and searches never take it.
 *	2. the meta buffer's content lock: exclusive to append to the write buffer
 *	   and to change the list of segments, for the time of one WAL record;
 *	3. the free page's content lock;
 *	4. the content lock of one other page.
 *
 * A page that was freed is used again once no snapshot on this server is
 * older than its freeing; that spares readers a new start, and their safety
 * does not rest on it (segment.h: owners), so that standbys need no conflicts.
 */
#ifndef PGOPT_SEARCH_PAGES_H
#define PGOPT_SEARCH_PAGES_H

#include "format.h"

#include "access/generic_xlog.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/rel.h"

/* Writes meta page and free page of an empty index to a fork; WAL-logs them for the init fork and when `log`. */
extern void search_create_pages(Relation index, ForkNumber fork, const SearchMeta *meta, bool log);

/* Copies the meta page (palloc'd); checks magic and version. */
extern SearchMeta *search_read_meta(Relation index);

/* Checks page header, kind, and id; ERRCODE_INDEX_CORRUPTED otherwise. Not the owner. */
extern void search_check_page(Relation index, Buffer buffer, uint16 kind);

extern void search_init_page(Page page, uint64 owner, uint16 kind);

extern void search_lock_structure(Relation index);
extern bool search_try_lock_structure(Relation index);
extern void search_unlock_structure(Relation index);

/*
 * Gives between 1 and `wanted` contiguous pages, from the free list or by
 * extending the file; the caller owns them.  A crash before they are referred
 * to leaks them until VACUUM (search_reclaim).
 */
extern Extent search_allocate(Relation index, uint32 wanted);
extern void search_free(Relation index, const Extent *extents, int n);

/* A number for a new segment or generation; WAL-logged with the next change of the meta page at the latest. */
extern uint64 search_new_owner(Relation index);

#endif /* PGOPT_SEARCH_PAGES_H */
