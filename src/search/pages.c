/*
 * pages.c
 *		Pages of a pgopt_bm25 index: meta page, free extents, locks.
 *
 * Changes of the two pages go through generic WAL.  New pages belong to
 * whoever asked for them until the meta page, or a page that it leads to,
 * refers to them: the record that makes it do so is what a crash keeps or
 * loses, so that there is never a reference without its page.  What a crash
 * leaves behind the other way, pages without a reference, VACUUM finds.
 *
 * Giving pages back comes after the record that took the reference away; a
 * crash in between leaves them to VACUUM, too.
 *
 * Memory: what is returned is palloc'd in the caller's context.  Cost: one
 * page read, or one page changed with one WAL record of a few dozen bytes.
 */
#include "pgopt.h"

#include "access/xloginsert.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "pages.h"
#include "scan.h"

/* Heavyweight locks are taken on block numbers; the allocation lock on one that no index has. */
#define LOCK_STRUCTURE  SEARCH_META_BLOCK
#define LOCK_FLUSH      SEARCH_FREE_BLOCK
#define LOCK_ALLOCATION MaxBlockNumber

/*
 * After a crash the file lacks extents that were taken and never written to,
 * of 1,024 pages at most.  That many pages beyond twice its size are more than
 * all of them.
 */
#define MAX_MISSING (128 * 1024 * 1024 / BLCKSZ)

/* --- checks ----------------------------------------------------------------------- */

void
search_corrupted(Relation index, BlockNumber block, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INDEX_CORRUPTED),
			 errmsg("index \"%s\" is corrupted at block %u", RelationGetRelationName(index), block),
			 errdetail("%s", detail),
			 errhint("Rebuild it: REINDEX INDEX %s.", RelationGetRelationName(index))));
}

Buffer
search_read_block(Relation index, BlockNumber block, BlockNumber *nblocks)
{
	if (block >= *nblocks)
	{
		*nblocks = RelationGetNumberOfBlocks(index);
		if (block >= *nblocks)
			search_corrupted(
				index,
				block,
				"Another page leads to this one, which is beyond the end of the file.");
	}
	return ReadBuffer(index, block);
}

void
search_check_page(Relation index, Buffer buffer, uint16 kind)
{
	Page page = BufferGetPage(buffer);
	PageHeader header = (PageHeader) page;
	const char *what = NULL;

	if (PageIsNew(page))
		what = "The page is empty.";
	else if (PageGetSpecialSize(page) != MAXALIGN(sizeof(SearchPageOpaque)) ||
			 header->pd_lower < SEARCH_PAGE_OFFSET || header->pd_lower > header->pd_upper ||
			 header->pd_upper > header->pd_special ||
			 SearchPageGetOpaque(page)->id != SEARCH_PAGE_ID)
		what = "The page is none of a pgopt_bm25 index.";
	else if (SearchPageGetOpaque(page)->kind != kind)
		what = psprintf("The page is of kind %u where kind %u is expected.",
						SearchPageGetOpaque(page)->kind,
						kind);
	if (what != NULL)
		search_corrupted(index, BufferGetBlockNumber(buffer), what);
}

bool
search_page_is_owned(Relation index, Buffer buffer, uint16 kind, uint64 owner)
{
	Page page = BufferGetPage(buffer);

	if (!PageIsNew(page) && PageGetSpecialSize(page) == MAXALIGN(sizeof(SearchPageOpaque)) &&
		SearchPageGetOpaque(page)->id == SEARCH_PAGE_ID &&
		SearchPageGetOpaque(page)->owner != owner)
		return false;
	search_check_page(index, buffer, kind);
	return true;
}

static void
check_meta(Relation index, Buffer buffer)
{
	SearchMeta *meta;

	search_check_page(index, buffer, SEARCH_PAGE_META);
	meta = (SearchMeta *) SearchPageContent(BufferGetPage(buffer));
	if (meta->magic != SEARCH_MAGIC)
		search_corrupted(
			index, SEARCH_META_BLOCK, "The page is no meta page of a pgopt_bm25 index.");
	if (meta->version != SEARCH_VERSION)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("index \"%s\" has format %u, this library reads format %d",
						RelationGetRelationName(index),
						meta->version,
						SEARCH_VERSION),
				 errhint("Rebuild it: REINDEX INDEX %s.", RelationGetRelationName(index))));
	if (meta->nsegments > SEARCH_MAX_SEGMENTS)
		search_corrupted(
			index, SEARCH_META_BLOCK, "The page lists more segments than there can be.");
}

void
search_init_page(Page page, uint64 owner, uint16 kind)
{
	SearchPageOpaque *opaque;

	PageInit(page, BLCKSZ, sizeof(SearchPageOpaque));
	opaque = SearchPageGetOpaque(page);
	opaque->owner = owner;
	opaque->next = InvalidBlockNumber;
	opaque->kind = kind;
	opaque->id = SEARCH_PAGE_ID;
}

/* --- meta page --------------------------------------------------------------------- */

/* Only the segments that there are count as the page's content: the less there is to compare and log. */
static void
set_meta_end(Page page, const SearchMeta *meta)
{
	((PageHeader) page)->pd_lower = SEARCH_PAGE_OFFSET + offsetof(SearchMeta, segments) +
									meta->nsegments * sizeof(SegmentEntry);
}

void
search_create_pages(Relation index, ForkNumber fork, const SearchMeta *meta, bool log)
{
	Buffer meta_buffer = compat_extend(index, fork);
	Buffer free_buffer = compat_extend(index, fork);
	Page page;
	SearchFreeList *list;

	StaticAssertStmt(sizeof(SearchMeta) <= SEARCH_PAGE_CONTENT, "meta page too large");

	if (BufferGetBlockNumber(meta_buffer) != SEARCH_META_BLOCK ||
		BufferGetBlockNumber(free_buffer) != SEARCH_FREE_BLOCK)
		elog(ERROR, "index \"%s\" has pages already", RelationGetRelationName(index));

	START_CRIT_SECTION();
	page = BufferGetPage(meta_buffer);
	search_init_page(page, 0, SEARCH_PAGE_META);
	memcpy(SearchPageContent(page), meta, sizeof(SearchMeta));
	set_meta_end(page, meta);
	MarkBufferDirty(meta_buffer);

	page = BufferGetPage(free_buffer);
	search_init_page(page, 0, SEARCH_PAGE_FREE);
	list = (SearchFreeList *) SearchPageContent(page);
	list->nextents = 0;
	list->unused = 0;
	((PageHeader) page)->pd_lower = SEARCH_PAGE_OFFSET + offsetof(SearchFreeList, extents);
	MarkBufferDirty(free_buffer);

	if (fork == INIT_FORKNUM || (log && RelationNeedsWAL(index)))
	{
		log_newpage_buffer(meta_buffer, true);
		log_newpage_buffer(free_buffer, true);
	}
	END_CRIT_SECTION();
	UnlockReleaseBuffer(free_buffer);
	UnlockReleaseBuffer(meta_buffer);
}

SearchMeta *
search_read_meta(Relation index)
{
	Buffer buffer = ReadBuffer(index, SEARCH_META_BLOCK);
	SearchMeta *meta = palloc(sizeof(SearchMeta));

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	check_meta(index, buffer);
	memcpy(meta, SearchPageContent(BufferGetPage(buffer)), sizeof(SearchMeta));
	UnlockReleaseBuffer(buffer);
	return meta;
}

void
search_begin_change(Relation index, MetaChange *change)
{
	change->buffer = ReadBuffer(index, SEARCH_META_BLOCK);
	LockBuffer(change->buffer, BUFFER_LOCK_EXCLUSIVE);
	check_meta(index, change->buffer);
	change->xlog = GenericXLogStart(index);
	change->page = GenericXLogRegisterBuffer(change->xlog, change->buffer, 0);
	change->meta = (SearchMeta *) SearchPageContent(change->page);
}

void
search_commit_change(MetaChange *change)
{
	set_meta_end(change->page, change->meta);
	GenericXLogFinish(change->xlog);
	UnlockReleaseBuffer(change->buffer);
}

void
search_abort_change(MetaChange *change)
{
	GenericXLogAbort(change->xlog);
	UnlockReleaseBuffer(change->buffer);
}

float4
search_average_length(const SearchMeta *meta)
{
	double documents = meta->pending_docs;
	double length = meta->pending_length;

	for (int i = 0; i < (int) meta->nsegments; i++)
	{
		documents += meta->segments[i].ndocs;
		length += meta->segments[i].total_length;
	}
	return documents > 0 ? (float4) (length / documents) : 0;
}

uint64
search_new_owner(Relation index)
{
	MetaChange change;
	uint64 owner;

	search_begin_change(index, &change);
	owner = change.meta->next_owner++;
	search_commit_change(&change);
	return owner;
}

/* --- locks --------------------------------------------------------------------------- */

void
search_lock_structure(Relation index)
{
	LockPage(index, LOCK_STRUCTURE, ExclusiveLock);
}

bool
search_try_lock_structure(Relation index)
{
	return ConditionalLockPage(index, LOCK_STRUCTURE, ExclusiveLock);
}

void
search_unlock_structure(Relation index)
{
	UnlockPage(index, LOCK_STRUCTURE, ExclusiveLock);
}

bool
search_try_share_structure(Relation index)
{
	return ConditionalLockPage(index, LOCK_STRUCTURE, ShareLock);
}

void
search_unshare_structure(Relation index)
{
	UnlockPage(index, LOCK_STRUCTURE, ShareLock);
}

bool
search_try_claim(Relation index, const SegmentEntry *segment)
{
	return ConditionalLockPage(index, segment->header, ExclusiveLock);
}

void
search_unclaim(Relation index, const SegmentEntry *segment)
{
	UnlockPage(index, segment->header, ExclusiveLock);
}

void
search_lock_flush(Relation index)
{
	LockPage(index, LOCK_FLUSH, ExclusiveLock);
}

bool
search_try_lock_flush(Relation index)
{
	return ConditionalLockPage(index, LOCK_FLUSH, ExclusiveLock);
}

void
search_unlock_flush(Relation index)
{
	UnlockPage(index, LOCK_FLUSH, ExclusiveLock);
}

void
search_share_allocation(Relation index)
{
	LockPage(index, LOCK_ALLOCATION, ShareLock);
}

void
search_unshare_allocation(Relation index)
{
	UnlockPage(index, LOCK_ALLOCATION, ShareLock);
}

/* --- free extents ------------------------------------------------------------------------ */

/* Are the extents in order, and none of them impossible? */
static bool
extents_are_sound(const SearchFreeList *list)
{
	BlockNumber end = SEARCH_FIRST_BLOCK;

	for (int i = 0; i < (int) list->nextents; i++)
	{
		const FreeExtent *extent = &list->extents[i];

		if (extent->start < end || extent->start > MaxBlockNumber || extent->npages == 0 ||
			extent->npages > MaxBlockNumber - extent->start)
			return false;
		end = extent->start + extent->npages;
	}
	return true;
}

static Buffer
lock_free_page(Relation index, int mode)
{
	Buffer buffer = ReadBuffer(index, SEARCH_FREE_BLOCK);
	SearchFreeList *list;

	LockBuffer(buffer, mode);
	search_check_page(index, buffer, SEARCH_PAGE_FREE);
	list = (SearchFreeList *) SearchPageContent(BufferGetPage(buffer));
	if (list->nextents > SEARCH_MAX_FREE)
		search_corrupted(index, SEARCH_FREE_BLOCK, "The page lists more extents than it can hold.");
	if (!extents_are_sound(list))
		search_corrupted(index, SEARCH_FREE_BLOCK, "The page lists extents that cannot be.");
	return buffer;
}

static void
set_free_end(Page page, const SearchFreeList *list)
{
	((PageHeader) page)->pd_lower = SEARCH_PAGE_OFFSET + offsetof(SearchFreeList, extents) +
									list->nextents * sizeof(FreeExtent);
}

/* May the pages be used again?  The horizon of all databases is asked for: nobody's open table is needed for that. */
static bool
reusable(const FreeExtent *extent)
{
	return !FullTransactionIdIsValid(extent->freed) ||
		   GlobalVisCheckRemovableFullXid(NULL, extent->freed);
}

/*
 * Does nobody read the index just now?  Then all that is free may be used: who
 * comes later starts from a meta page that does not lead there.  So a
 * transaction that writes much can use what it has freed itself.
 */
static bool
nobody_reads(Relation index)
{
	VirtualTransactionId *readers;
	int n;

	if (search_scan_is_open(RelationGetRelid(index)))
		return false;
	readers = GetCurrentVirtualXIDs(
		InvalidTransactionId, true, false, PROC_IS_AUTOVACUUM | PROC_IN_VACUUM, &n);
	pfree(readers);
	return n == 0;
}

/*
 * The smallest extent that is large enough, else the largest.  Not one that is
 * much too small: a segment has room for some hundred extents, and fragments
 * do for the write buffer.
 */
static int
choose_extent(const SearchFreeList *list, uint32 wanted, bool any)
{
	int chosen = -1;

	for (int i = 0; i < (int) list->nextents; i++)
	{
		uint32 npages = list->extents[i].npages;

		if (npages < wanted && npages < wanted / 4)
			continue;
		if (chosen >= 0)
		{
			uint32 best = list->extents[chosen].npages;

			if (best >= wanted ? npages < wanted || npages >= best : npages <= best)
				continue;
		}
		if (any || reusable(&list->extents[i]))
			chosen = i;
	}
	return chosen;
}

/* Where the last free extent ends. */
static BlockNumber
end_of_free(const SearchFreeList *list)
{
	const FreeExtent *last;

	if (list->nextents == 0)
		return 0;
	last = &list->extents[list->nextents - 1];
	return last->start + last->npages;
}

/*
 * That the file was extended is not in the WAL.  After a promotion, or a crash
 * of the machine, there may be less of it than the free list says; then a new
 * block would be one that is listed.  So the file comes to its old length
 * first, with the free page locked.
 *
 * A damaged list must not make it fill the disk.
 */
static void
extend_to(Relation index, BlockNumber end)
{
	if (end > 2 * (uint64) RelationGetNumberOfBlocks(index) + MAX_MISSING)
		search_corrupted(
			index, SEARCH_FREE_BLOCK, "The page lists an extent far beyond the end of the file.");
	for (;;)
	{
		BlockNumber nblocks = RelationGetNumberOfBlocks(index);
		uint32 missing = end - nblocks;

		if (nblocks >= end)
			break;
		(void) compat_extend_by(index, &missing);
	}
}

/* Takes pages from a free extent, with the free page locked. */
static void
take_pages(Relation index, Buffer buffer, int chosen, Extent *extent)
{
	GenericXLogState *xlog = GenericXLogStart(index);
	Page page = GenericXLogRegisterBuffer(xlog, buffer, 0);
	SearchFreeList *list = (SearchFreeList *) SearchPageContent(page);
	FreeExtent *from = &list->extents[chosen];

	extent->npages = Min(extent->npages, from->npages);
	extent->start = from->start;
	from->start += extent->npages;
	from->npages -= extent->npages;
	if (from->npages == 0)
	{
		memmove(from, from + 1, (list->nextents - chosen - 1) * sizeof(FreeExtent));
		list->nextents--;
	}
	set_free_end(page, list);
	GenericXLogFinish(xlog);
}

/*
 * The free page stays locked while the file is extended, so that nobody can
 * free blocks beyond its end meanwhile.
 */
Extent
search_allocate(Relation index, uint32 wanted)
{
	Extent extent = {InvalidBlockNumber, Max(wanted, 1)};
	Buffer buffer = lock_free_page(index, BUFFER_LOCK_SHARE);
	SearchFreeList *list = (SearchFreeList *) SearchPageContent(BufferGetPage(buffer));
	bool too_short = end_of_free(list) > RelationGetNumberOfBlocks(index);
	bool any = false;

	if (list->nextents > 0 && choose_extent(list, extent.npages, false) < 0)
		any = nobody_reads(index);
	if (too_short || choose_extent(list, extent.npages, any) >= 0)
	{
		int chosen;

		LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
		LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
		extend_to(index, end_of_free(list));
		any = any && nobody_reads(index); /* others may have freed what readers use */
		chosen = choose_extent(list, extent.npages, any);
		if (chosen >= 0)
			take_pages(index, buffer, chosen, &extent);
	}
	if (extent.start == InvalidBlockNumber)
		extent.start = compat_extend_by(index, &extent.npages);
	UnlockReleaseBuffer(buffer);
	return extent;
}

static int
compare_extents(const void *a, const void *b)
{
	BlockNumber start_a = ((const FreeExtent *) a)->start;
	BlockNumber start_b = ((const FreeExtent *) b)->start;

	return start_a < start_b ? -1 : start_a > start_b;
}

static int
compare_sizes(const void *a, const void *b)
{
	uint32 size_a = ((const FreeExtent *) a)->npages;
	uint32 size_b = ((const FreeExtent *) b)->npages;

	return size_a > size_b ? -1 : size_a < size_b;
}

/* Joins neighbours in a sorted array: those that both may be used or were freed together, or all. */
static int
join_extents(Relation index, FreeExtent *extents, int n, bool all)
{
	int joined = 0;

	for (int i = 1; i < n; i++)
	{
		FreeExtent *last = &extents[joined];
		FreeExtent *next = &extents[i];

		if (next->start < last->start + last->npages)
			search_corrupted(index, next->start, "The page was freed twice.");
		if (next->start == last->start + last->npages &&
			(all ||
			 U64FromFullTransactionId(next->freed) == U64FromFullTransactionId(last->freed) ||
			 (reusable(next) && reusable(last))))
		{
			last->npages += next->npages;
			if (FullTransactionIdPrecedes(last->freed, next->freed))
				last->freed = next->freed;
		}
		else
			extents[++joined] = *next;
	}
	return n > 0 ? joined + 1 : 0;
}

void
search_free(Relation index, const Extent *extents, int n, bool at_once)
{
	FullTransactionId freed = at_once ? InvalidFullTransactionId : ReadNextFullTransactionId();
	FreeExtent *all = palloc((SEARCH_MAX_FREE + n) * sizeof(FreeExtent));
	Buffer buffer = lock_free_page(index, BUFFER_LOCK_EXCLUSIVE);
	GenericXLogState *xlog = GenericXLogStart(index);
	Page page = GenericXLogRegisterBuffer(xlog, buffer, 0);
	SearchFreeList *list = (SearchFreeList *) SearchPageContent(page);
	int total = list->nextents;

	memcpy(all, list->extents, total * sizeof(FreeExtent));
	for (int i = 0; i < n; i++)
		all[total++] = (FreeExtent){extents[i].start, extents[i].npages, freed};
	qsort(all, total, sizeof(FreeExtent), compare_extents);
	total = join_extents(index, all, total, false);
	if (total > SEARCH_MAX_FREE)
		total = join_extents(index, all, total, true);
	if (total > SEARCH_MAX_FREE)
	{
		/* The smallest are let go of; VACUUM finds them again. */
		qsort(all, total, sizeof(FreeExtent), compare_sizes);
		total = SEARCH_MAX_FREE;
		qsort(all, total, sizeof(FreeExtent), compare_extents);
	}
	memcpy(list->extents, all, total * sizeof(FreeExtent));
	list->nextents = total;
	set_free_end(page, list);
	GenericXLogFinish(xlog);
	UnlockReleaseBuffer(buffer);
	pfree(all);
}

BlockNumber
search_free_pages(Relation index)
{
	Buffer buffer = lock_free_page(index, BUFFER_LOCK_SHARE);
	SearchFreeList *list = (SearchFreeList *) SearchPageContent(BufferGetPage(buffer));
	BlockNumber pages = 0;

	for (int i = 0; i < (int) list->nextents; i++)
		pages += list->extents[i].npages;
	UnlockReleaseBuffer(buffer);
	return pages;
}

Extent *
search_segment_extents(Relation index, const SegmentEntry *segment, int *n)
{
	BlockNumber nblocks = 0;
	Buffer buffer = search_read_block(index, segment->header, &nblocks);
	SegmentHeader *header;
	Extent *extents;
	Size size;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	search_check_page(index, buffer, SEARCH_PAGE_HEADER);
	header = (SegmentHeader *) SearchPageContent(BufferGetPage(buffer));
	size = offsetof(SegmentHeader, extents) + header->nextents * sizeof(Extent);
	if (SearchPageGetOpaque(BufferGetPage(buffer))->owner != segment->id ||
		header->id != segment->id || size > SEARCH_PAGE_CONTENT)
		search_corrupted(
			index, segment->header, "The page is not the header of the segment that is listed.");
	*n = header->nextents + 1;
	extents = palloc(*n * sizeof(Extent));
	memcpy(extents, header->extents, header->nextents * sizeof(Extent));
	extents[header->nextents] = (Extent){segment->header, 1};
	UnlockReleaseBuffer(buffer);
	return extents;
}

/* --- pages that were lost in a crash --------------------------------------------------------- */

typedef struct PageMap
{
	Relation index;
	BlockNumber nblocks;
	uint8 *known; /* a bit a block */
} PageMap;

static void
mark_extent(PageMap *map, BlockNumber start, uint32 npages)
{
	for (BlockNumber block = start; block < start + npages && block < map->nblocks; block++)
		map->known[block / 8] |= 1 << (block % 8);
}

static bool
is_known(const PageMap *map, BlockNumber block)
{
	return (map->known[block / 8] & (1 << (block % 8))) != 0;
}

/* Follows a chain of blocks; one that leads to a page that is known already leads in a circle. */
static void
mark_chain(PageMap *map, BlockNumber block, BlockNumber last, uint16 kind)
{
	while (block != InvalidBlockNumber && block < map->nblocks)
	{
		Buffer buffer;
		BlockNumber next;

		CHECK_FOR_INTERRUPTS();
		if (is_known(map, block))
			search_corrupted(map->index, block, "The page is part of two things at once.");
		mark_extent(map, block, 1);
		buffer = ReadBuffer(map->index, block);
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		search_check_page(map->index, buffer, kind);
		next = SearchPageGetOpaque(BufferGetPage(buffer))->next;
		UnlockReleaseBuffer(buffer);
		if (block == last)
			break;
		block = next;
	}
}

/* Marks every page that the meta page leads to, and every free one. */
static void
mark_known(PageMap *map)
{
	SearchMeta *meta = search_read_meta(map->index);
	Buffer buffer;
	SearchFreeList *list;

	mark_extent(map, SEARCH_META_BLOCK, SEARCH_FIRST_BLOCK);
	for (int i = 0; i < (int) meta->nsegments; i++)
	{
		int n;
		Extent *extents = search_segment_extents(map->index, &meta->segments[i], &n);

		for (int j = 0; j < n; j++)
			mark_extent(map, extents[j].start, extents[j].npages);
		pfree(extents);
	}
	mark_chain(map, meta->restore, InvalidBlockNumber, SEARCH_PAGE_RESTORE);
	mark_chain(map, meta->pending_head, meta->pending_tail, SEARCH_PAGE_PENDING);

	buffer = lock_free_page(map->index, BUFFER_LOCK_SHARE);
	list = (SearchFreeList *) SearchPageContent(BufferGetPage(buffer));
	for (int i = 0; i < (int) list->nextents; i++)
		mark_extent(map, list->extents[i].start, list->extents[i].npages);
	UnlockReleaseBuffer(buffer);
	pfree(meta);
}

/*
 * The allocation lock keeps inserts from taking pages and linking them
 * meanwhile; inserts into pages that there are go on.  Whatever else takes
 * pages holds one of the caller's locks.
 */
BlockNumber
search_reclaim(Relation index)
{
	PageMap map;
	Extent *lost;
	int nlost = 0;
	BlockNumber pages = 0;

	if (!ConditionalLockPage(index, LOCK_ALLOCATION, ExclusiveLock))
		return 0;
	map.index = index;
	map.nblocks = RelationGetNumberOfBlocks(index);
	map.known = palloc0(map.nblocks / 8 + 1);
	mark_known(&map);

	lost = palloc(SEARCH_MAX_FREE * sizeof(Extent));
	for (BlockNumber block = 0; block < map.nblocks; block++)
	{
		if (is_known(&map, block))
			continue;
		if (nlost > 0 && lost[nlost - 1].start + lost[nlost - 1].npages == block)
			lost[nlost - 1].npages++;
		else if (nlost < SEARCH_MAX_FREE)
			lost[nlost++] = (Extent){block, 1};
		else
			break; /* the next VACUUM finds the others */
		pages++;
	}
	if (nlost > 0)
		search_free(index, lost, nlost, false);
	UnlockPage(index, LOCK_ALLOCATION, ExclusiveLock);
	pfree(lost);
	pfree(map.known);
	return pages;
}
