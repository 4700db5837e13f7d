/*
 * vacuum.c
 *		What VACUUM does to an index.
 *
 * The pointers that VACUUM asks to remove are of rows that were dead before it
 * came here, so their inserts into the index are complete: each is in a
 * segment or in the write buffer.  VACUUM first makes segments of the buffer,
 * waiting for a flush under way, and then looks through the segments that are
 * listed.  What is inserted or flushed after that is of newer rows.  Merges
 * are kept out by the structure lock, so that no document goes from a segment
 * that was not looked at yet into one that is not listed yet.
 *
 * A deleted document has its bit set, and is counted with it, in one WAL record
 * a page of bits; it is skipped by every search from then on, and the next
 * merge drops it.  A search
 * that has read its pointer before still gives it out: its snapshot is older
 * than whatever row takes the place, so the executor sees no row there.
 *
 * Memory: the bits of one page, and pointers of some thousand documents.
 * Cost: reads 6 bytes and a bit a document.
 */
#include "pgopt.h"

#include "commands/vacuum.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/memutils.h"

#include "compat.h"
#include "merge.h"
#include "pages.h"
#include "pending.h"
#include "search.h"
#include "segment.h"
#include "settings.h"
#include "vacuum.h"

/* Documents looked at between two delays; a multiple of 64. */
#define DOCUMENTS_AT_ONCE 4096

/* Merges of one VACUUM, at most. */
#define MAX_MERGES 32

/* Deletion from one segment. */
typedef struct Deletion
{
	Relation index;
	SegmentReader *reader;
	const SegmentEntry *entry;
	const bool *stale; /* the reader's */
	IndexBulkDeleteCallback callback;
	void *callback_state;
} Deletion;

/* Makes segments of all documents that the buffer has now (structure lock held, exclusive). */
static void
flush_all(Relation index)
{
	uint32 left;

	search_lock_flush(index);
	do
	{
		SearchMeta *meta = search_read_meta(index);

		left = meta->pending_docs;
		if (left > 0 && meta->nsegments == SEARCH_MAX_SEGMENTS && !merge_smallest(index))
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("index \"%s\" has %d segments, and they cannot be merged",
							RelationGetRelationName(index),
							SEARCH_MAX_SEGMENTS),
					 errhint("Increase maintenance_work_mem, or rebuild the index with REINDEX.")));
		pfree(meta);
		if (left > 0)
			left -= Min(left, pending_flush(index));
	} while (left > 0);
	search_unlock_flush(index);
}

/* The segment's place in the meta page, as it is in a change. */
static SegmentEntry *
find_segment(Relation index, SearchMeta *meta, uint64 id)
{
	for (int i = 0; i < (int) meta->nsegments; i++)
		if (meta->segments[i].id == id)
			return &meta->segments[i];
	elog(ERROR, "segments of index \"%s\" changed", RelationGetRelationName(index));
}

/* Sets bits on the page that holds them and counts the new ones, in one WAL record. */
static void
write_bits(Deletion *deletion, uint32 page, const uint64 *bits, uint32 nwords, uint32 added)
{
	uint64 id = segment_header(deletion->reader)->id;
	BlockNumber block = segment_block(deletion->reader, page);
	MetaChange change;
	Buffer buffer;
	uint64 *content;

	search_begin_change(deletion->index, &change);
	buffer = ReadBuffer(deletion->index, block);
	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	if (!search_page_is_owned(deletion->index, buffer, SEARCH_PAGE_SEGMENT, id))
		search_corrupted(deletion->index, block, "A page of a segment has another owner.");
	content = (uint64 *) SearchPageContent(GenericXLogRegisterBuffer(change.xlog, buffer, 0));
	for (uint32 i = 0; i < nwords; i++)
		content[i] |= bits[i];
	find_segment(deletion->index, change.meta, id)->ndeleted += added;
	search_commit_change(&change);
	UnlockReleaseBuffer(buffer);
}

/* The segment is listed, and so has its pages. */
static void
check_not_stale(const Deletion *deletion)
{
	if (*deletion->stale)
		search_corrupted(
			deletion->index, deletion->entry->header, "A page of a segment has another owner.");
}

/* Asks for documents [from, from + n), whose bits are given; sets those of dead ones.  Returns their number. */
static uint32
delete_range(Deletion *deletion, uint32 from, uint32 n, uint64 *bits)
{
	ItemPointerData tids[DOCUMENTS_AT_ONCE];
	uint32 removed = 0;

	segment_tids(deletion->reader, from, n, tids);
	segment_deleted(deletion->reader, from, n, bits);
	check_not_stale(deletion); /* before what was not read is believed */
	for (uint32 i = 0; i < n; i++)
	{
		uint64 bit = UINT64CONST(1) << (i % 64);

		if ((bits[i / 64] & bit) == 0 && deletion->callback(&tids[i], deletion->callback_state))
		{
			bits[i / 64] |= bit;
			removed++;
		}
	}
	return removed;
}

/* Returns the number of documents that were removed. */
static uint64
delete_from_segment(Deletion *deletion)
{
	const SegmentHeader *header = segment_header(deletion->reader);
	uint64 *bits = palloc(SEARCH_PAGE_CONTENT);
	uint64 total = 0;

	for (uint32 first = 0, page = header->deleted_page; first < header->ndocs;
		 first += DELETED_PER_PAGE, page++)
	{
		uint32 on_page = Min(header->ndocs - first, DELETED_PER_PAGE);
		uint32 removed = 0;

		memset(bits, 0, SEARCH_PAGE_CONTENT);
		for (uint32 from = 0; from < on_page; from += DOCUMENTS_AT_ONCE)
		{
			compat_vacuum_delay_point();
			removed += delete_range(
				deletion, first + from, Min(on_page - from, DOCUMENTS_AT_ONCE), bits + from / 64);
		}
		if (removed > 0)
			write_bits(deletion, page, bits, (on_page + 63) / 64, removed);
		total += removed;
	}
	pfree(bits);
	return total;
}

/* Drops segments that have only deleted documents. */
static void
drop_empty_segments(Relation index)
{
	MetaChange change;
	SearchMeta *meta;
	SegmentEntry dropped[SEARCH_MAX_SEGMENTS];
	int ndropped = 0;
	int n = 0;

	search_begin_change(index, &change);
	meta = change.meta;
	for (int i = 0; i < (int) meta->nsegments; i++)
	{
		if (meta->segments[i].ndeleted == meta->segments[i].ndocs)
			dropped[ndropped++] = meta->segments[i];
		else
			meta->segments[n++] = meta->segments[i];
	}
	meta->nsegments = n;
	if (ndropped > 0)
		search_commit_change(&change);
	else
		search_abort_change(&change);

	for (int i = 0; i < ndropped; i++)
	{
		int nextents;
		Extent *extents = search_segment_extents(index, &dropped[i], &nextents);

		search_free(index, extents, nextents, false);
	}
}

static void
fill_stats(Relation index, IndexBulkDeleteResult *stats)
{
	SearchMeta *meta = search_read_meta(index);

	stats->num_pages = RelationGetNumberOfBlocks(index);
	stats->num_index_tuples = meta->pending_docs;
	for (int i = 0; i < (int) meta->nsegments; i++)
		stats->num_index_tuples += meta->segments[i].ndocs - meta->segments[i].ndeleted;
	stats->estimated_count = false;
	stats->pages_free = search_free_pages(index);
	pfree(meta);
}

IndexBulkDeleteResult *
search_bulkdelete(IndexVacuumInfo *info, IndexBulkDeleteResult *stats,
				  IndexBulkDeleteCallback callback, void *callback_state)
{
	Relation index = info->index;
	MemoryContext context;
	MemoryContext old;
	SearchSettings settings;
	SearchMeta *meta;
	uint64 removed = 0;

	if (stats == NULL)
		stats = palloc0(sizeof(IndexBulkDeleteResult));
	context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt_bm25 vacuum", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);

	search_lock_structure(index);
	flush_all(index);
	settings = *search_settings(index);
	meta = search_read_meta(index);
	for (int i = 0; i < (int) meta->nsegments; i++)
	{
		bool stale = false;
		Deletion deletion = {index, NULL, &meta->segments[i], &stale, callback, callback_state};

		deletion.reader = segment_open(index, &settings, &meta->segments[i], &stale);
		check_not_stale(&deletion);
		removed += delete_from_segment(&deletion);
		segment_close(deletion.reader);
	}
	if (removed > 0)
		drop_empty_segments(index);
	stats->tuples_removed += (double) removed;
	search_unlock_structure(index);

	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	fill_stats(index, stats);
	return stats;
}

IndexBulkDeleteResult *
search_vacuumcleanup(IndexVacuumInfo *info, IndexBulkDeleteResult *stats)
{
	Relation index = info->index;

	if (info->analyze_only)
		return stats;
	if (stats == NULL)
		stats = palloc0(sizeof(IndexBulkDeleteResult));

	for (int merges = 0; merges < MAX_MERGES && search_merge_step(index); merges++)
		compat_vacuum_delay_point();

	/* Whoever works on the index now may own pages that nothing refers to yet: then the next VACUUM looks. */
	if (search_try_lock_structure(index))
	{
		if (search_try_lock_flush(index))
		{
			(void) pending_flush(index);
			(void) search_reclaim(index);
			search_unlock_flush(index);
		}
		search_unlock_structure(index);
	}
	fill_stats(index, stats);
	return stats;
}
