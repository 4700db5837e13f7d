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
 * A deleted document has its bit set, one WAL record a page of bits, and is
 * skipped by every search from then on; the next merge drops it.  A search
 * that has read its pointer before still gives it out: its snapshot is older
 * than whatever row takes the place, so the executor sees no row there.
 *
 * The counts of deleted documents are taken from the bits each time, and
 * written last: a crash leaves counts that are too low, until the next VACUUM.
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
	IndexBulkDeleteCallback callback;
	void *callback_state;
	uint64 deleted; /* bits that are set now */
	uint64 removed; /* of these, by us */
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

/* Sets bits on the page that holds them, in one WAL record. */
static void
write_bits(Deletion *deletion, uint32 page, const uint64 *bits, uint32 nwords)
{
	const SegmentHeader *header = segment_header(deletion->reader);
	BlockNumber block = segment_block(deletion->reader, page);
	Buffer buffer = ReadBuffer(deletion->index, block);
	GenericXLogState *xlog;
	uint64 *content;

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	if (!search_page_is_owned(deletion->index, buffer, SEARCH_PAGE_SEGMENT, header->id))
		search_corrupted(deletion->index, block, "A page of a segment has another owner.");
	xlog = GenericXLogStart(deletion->index);
	content = (uint64 *) SearchPageContent(GenericXLogRegisterBuffer(xlog, buffer, 0));
	for (uint32 i = 0; i < nwords; i++)
		content[i] |= bits[i];
	GenericXLogFinish(xlog);
	UnlockReleaseBuffer(buffer);
}

/* Asks for documents [from, from + n), whose bits are given; sets those of dead ones.  Returns whether there are any. */
static bool
delete_range(Deletion *deletion, uint32 from, uint32 n, uint64 *bits)
{
	ItemPointerData tids[DOCUMENTS_AT_ONCE];
	bool any = false;

	segment_tids(deletion->reader, from, n, tids);
	segment_deleted(deletion->reader, from, n, bits);
	for (uint32 i = 0; i < n; i++)
	{
		uint64 bit = UINT64CONST(1) << (i % 64);

		if (bits[i / 64] & bit)
			deletion->deleted++;
		else if (deletion->callback(&tids[i], deletion->callback_state))
		{
			bits[i / 64] |= bit;
			deletion->deleted++;
			deletion->removed++;
			any = true;
		}
	}
	return any;
}

static void
delete_from_segment(Deletion *deletion)
{
	const SegmentHeader *header = segment_header(deletion->reader);
	uint64 *bits = palloc(SEARCH_PAGE_CONTENT);

	for (uint32 first = 0, page = header->deleted_page; first < header->ndocs;
		 first += DELETED_PER_PAGE, page++)
	{
		uint32 on_page = Min(header->ndocs - first, DELETED_PER_PAGE);
		bool any = false;

		memset(bits, 0, SEARCH_PAGE_CONTENT);
		for (uint32 from = 0; from < on_page; from += DOCUMENTS_AT_ONCE)
		{
			compat_vacuum_delay_point();
			any |= delete_range(
				deletion, first + from, Min(on_page - from, DOCUMENTS_AT_ONCE), bits + from / 64);
		}
		if (any)
			write_bits(deletion, page, bits, (on_page + 63) / 64);
	}
	pfree(bits);
}

/* The new counts into the meta page; a segment that has only deleted documents is dropped. */
static void
write_counts(Relation index, const SearchMeta *counted)
{
	MetaChange change;
	SearchMeta *meta;
	const SegmentEntry *dropped[SEARCH_MAX_SEGMENTS];
	int ndropped = 0;
	int n = 0;

	search_begin_change(index, &change);
	meta = change.meta;
	for (int i = 0; i < (int) meta->nsegments; i++)
	{
		SegmentEntry *segment = &meta->segments[i];

		/* one that is not counted is newer than this VACUUM */
		for (int j = 0; j < (int) counted->nsegments; j++)
		{
			if (counted->segments[j].id != segment->id)
				continue;
			segment->ndeleted = counted->segments[j].ndeleted;
			if (segment->ndeleted == segment->ndocs)
				dropped[ndropped++] = &counted->segments[j];
		}
		if (segment->ndeleted < segment->ndocs)
			meta->segments[n++] = *segment;
	}
	meta->nsegments = n;
	search_commit_change(&change);

	for (int i = 0; i < ndropped; i++)
	{
		int nextents;
		Extent *extents = search_segment_extents(index, dropped[i], &nextents);

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
	bool changed = false;

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
		Deletion deletion = {0};
		bool stale = false;

		deletion.index = index;
		deletion.callback = callback;
		deletion.callback_state = callback_state;
		deletion.reader = segment_open(index, &settings, &meta->segments[i], &stale);
		if (!stale)
			delete_from_segment(&deletion);
		if (stale)
			search_corrupted(
				index, meta->segments[i].header, "A page of a segment has another owner.");
		segment_close(deletion.reader);
		changed |= deletion.deleted != meta->segments[i].ndeleted;
		meta->segments[i].ndeleted = (uint32) deletion.deleted;
		stats->tuples_removed += (double) deletion.removed;
	}
	if (changed)
		write_counts(index, meta);
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
