/*
 * build.c
 *		CREATE INDEX and REINDEX: from a table to an index.
 *
 * For Portuguese, a sample of the table says first which accented form of a
 * word dominates; that becomes the restoring table, which every analysis for
 * this index needs from then on.  Then the table is read once, by several
 * processes where that is worth it.  When all of it fits into
 * maintenance_work_mem, the index's one segment is written at once; otherwise
 * what fits becomes a temporary run, and the runs are merged into the segment.
 *
 * Pages are written through shared buffers without WAL, and logged whole at
 * the end; the meta page refers to them after that.
 *
 * Locks: nobody else uses the index yet.  Memory: maintenance_work_mem, shared
 * by the processes, and the one document at hand.
 */
#include "pgopt.h"

#include "access/tableam.h"
#include "access/xloginsert.h"
#include "catalog/index.h"
#include "commands/progress.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"

#include "build.h"
#include "build_private.h"
#include "compat.h"

static void
fill_meta(Relation index, SearchMeta *meta)
{
	const SearchSettings *settings = search_settings(index);

	memset(meta, 0, sizeof(SearchMeta));
	meta->magic = SEARCH_MAGIC;
	meta->version = SEARCH_VERSION;
	meta->nfields = settings->nfields;
	meta->nfilters = settings->nfilters;
	meta->positions = settings->positions;
	meta->next_owner = 1;
	meta->restore = InvalidBlockNumber;
	meta->pending_head = InvalidBlockNumber;
	meta->pending_tail = InvalidBlockNumber;
}

static uint64
analysis_fingerprint(Relation index, const RestoreTable *restore)
{
	Analyzer *analyzer = analyzer_create(search_config(index), restore, CurrentMemoryContext);
	uint64 fingerprint = analyzer_fingerprint(analyzer);

	analyzer_free(analyzer);
	return fingerprint;
}

/* Writes the restoring table into a chain of pages; returns the first. */
static BlockNumber
write_restore(Relation index, uint64 owner, const char *bytes, Size size)
{
	uint32 npages = (size + SEARCH_PAGE_CONTENT - 1) / SEARCH_PAGE_CONTENT;
	BlockNumber *blocks = palloc((npages + 1) * sizeof(BlockNumber));
	BlockNumber first;

	for (uint32 n = 0; n < npages;)
	{
		Extent extent = search_allocate(index, npages - n);

		for (uint32 i = 0; i < extent.npages; i++)
			blocks[n++] = extent.start + i;
	}
	first = blocks[0];
	blocks[npages] = InvalidBlockNumber;
	for (uint32 i = 0; i < npages; i++)
	{
		Buffer buffer = ReadBufferExtended(index, MAIN_FORKNUM, blocks[i], RBM_ZERO_AND_LOCK, NULL);
		Page page = BufferGetPage(buffer);
		Size part = Min(size, SEARCH_PAGE_CONTENT);

		search_init_page(page, owner, SEARCH_PAGE_RESTORE);
		SearchPageGetOpaque(page)->next = blocks[i + 1];
		memcpy(SearchPageContent(page), bytes, part);
		((PageHeader) page)->pd_lower = SEARCH_PAGE_OFFSET + part;
		MarkBufferDirty(buffer);
		UnlockReleaseBuffer(buffer);
		bytes += part;
		size -= part;
	}
	pfree(blocks);
	return first;
}

/* What the analysis of this index is made from, into the meta page. */
static void
set_up_analysis(Relation heap, Relation index, IndexInfo *info)
{
	Analyzer *analyzer = analyzer_create(search_config(index), NULL, CurrentMemoryContext);
	bool portuguese = analyzer_is_portuguese(analyzer);
	RestoreTable *restore = NULL;
	BlockNumber block = InvalidBlockNumber;
	uint64 owner = 0;
	uint32 nwords = 0;
	uint64 fingerprint;
	MetaChange change;

	analyzer_free(analyzer);
	if (portuguese)
	{
		bytea *bytes;

		pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, BUILD_PHASE_SAMPLE);
		bytes = build_sample(heap, index, info, &nwords);
		if (nwords > 0)
		{
			restore = restore_table_load(
				VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes), CurrentMemoryContext);
			owner = search_new_owner(index);
			block = write_restore(index, owner, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
		}
	}
	fingerprint = analysis_fingerprint(index, restore);

	search_begin_change(index, &change);
	change.meta->restore = block;
	change.meta->restore_owner = owner;
	change.meta->restore_words = nwords;
	change.meta->stemmer = fingerprint;
	search_commit_change(&change);
}

/* The new pages into the log, then the segments into the meta page. */
static void
publish_segments(Relation index, const SegmentEntry *entries, int nentries)
{
	BlockNumber nblocks = RelationGetNumberOfBlocks(index);
	MetaChange change;

	if (RelationNeedsWAL(index) && nblocks > SEARCH_FIRST_BLOCK)
	{
		pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, BUILD_PHASE_LOG);
		log_newpage_range(index, MAIN_FORKNUM, SEARCH_FIRST_BLOCK, nblocks, true);
	}
	search_begin_change(index, &change);
	change.meta->nsegments = nentries;
	memcpy(change.meta->segments, entries, nentries * sizeof(SegmentEntry));
	search_commit_change(&change);
}

IndexBuildResult *
search_build(Relation heap, Relation index, IndexInfo *info)
{
	IndexBuildResult *result = palloc0(sizeof(IndexBuildResult));
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt index build", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	SegmentEntry entries[SEARCH_MAX_SEGMENTS];
	int nentries;
	SearchMeta meta;
	BuildLeader *leader = NULL;
	Builder *builder;
	int nworkers;

	if (RelationGetNumberOfBlocks(index) != 0)
		elog(ERROR, "index \"%s\" already contains data", RelationGetRelationName(index));
	search_depend_on_config(RelationGetRelid(index));
	fill_meta(index, &meta);
	search_create_pages(index, MAIN_FORKNUM, &meta, true);
	set_up_analysis(heap, index, info);

	pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, BUILD_PHASE_SCAN);
	nworkers = compat_build_workers(heap, index, info);
	if (nworkers > 0)
		leader = build_begin_parallel(heap, index, info, nworkers);
	if (leader != NULL)
		result->heap_tuples = build_parallel_scan(leader, heap, index, info, &builder);
	else
	{
		builder = builder_create(index, (Size) maintenance_work_mem * 1024);
		builder->leader = true;
		result->heap_tuples =
			table_index_build_scan(heap, index, info, false, true, builder_add, builder, NULL);
	}
	result->index_tuples = builder->ntuples;
	pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, (int64) builder->ntuples);
	pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_TOTAL, (int64) builder->ntuples);
	ereport(DEBUG1,
			(errmsg_internal("index \"%s\": %.0f rows, %d temporary runs, %d parallel workers",
							 RelationGetRelationName(index),
							 builder->ntuples,
							 list_length(builder->runs),
							 leader != NULL ? build_workers(leader) : 0)));
	nentries = builder_write_segments(builder, entries);
	builder_free(builder);
	if (leader != NULL)
		build_end_parallel(leader);
	publish_segments(index, entries, nentries);

	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return result;
}

void
search_build_empty(Relation index)
{
	SearchMeta meta;

	fill_meta(index, &meta);
	meta.stemmer = analysis_fingerprint(index, NULL);
	search_create_pages(index, INIT_FORKNUM, &meta, true);
}

char *
search_build_phase_name(int64 phase)
{
	switch (phase)
	{
		case BUILD_PHASE_INITIALIZE:
			return "initializing";
		case BUILD_PHASE_SAMPLE:
			return "sampling words";
		case BUILD_PHASE_SCAN:
			return "scanning table";
		case BUILD_PHASE_MERGE:
			return "merging runs";
		case BUILD_PHASE_WRITE:
			return "writing segments";
		case BUILD_PHASE_LOG:
			return "logging pages";
		default:
			return NULL;
	}
}
