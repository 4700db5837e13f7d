/*
 * merge.c
 *		Which segments become one.
 *
 * Segments are in tiers by size, each tier eight times the one before.  When
 * a tier has eight, all of it becomes one segment, of a higher tier; so a
 * document is written anew once a tier (seven times in an index of 100 GB),
 * and a search meets a few segments of each.  A segment of which a fifth is deleted is written anew by itself.
 *
 * A merge holds the structure lock in share mode, so that nobody sets deleted
 * bits meanwhile, and claims its segments; other merges and flushes go on.
 * What it reads never changes, what it writes nobody sees, until one WAL
 * record of the meta page puts the new segment in the place of the old ones.
 * Their pages are freed after that.  A crash before that record loses pages,
 * which VACUUM finds, and a crash after it at most the freeing.
 *
 * A search that reads an old segment goes on to read it, until one of its
 * pages is used again; it sees that by the page's owner and starts anew.
 *
 * Memory: a context of its own, by segment_merge() 4 bytes a document; a
 * merge for which maintenance_work_mem is too small does not take place.
 * Cost: one pass over the segments.
 */
#include "pgopt.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "merge.h"
#include "merge_queue.h"
#include "search.h"
#include "segment.h"
#include "settings.h"

#define TIER_FACTOR      8
#define FIRST_TIER_PAGES 8  /* segments smaller than this are of the first tier */
#define MAX_MERGED       64 /* segments at once */
#define DELETED_SHARE    5  /* one in so many deleted documents is worth a merge */

/* From so many segments on an insert that makes one more merges before it goes on. */
#define CROWDED_SEGMENTS 100

/* So many of a tier show that the background worker has another merge under way, and a long one. */
#define NEGLECTED_SEGMENTS 16

/* A merge of fewer pages is an insert's own business where nobody else does it soon. */
#define SMALL_MERGE_PAGES 4096

/* Segments to be merged, by their places in the meta page. */
typedef struct Choice
{
	int n;
	int places[MAX_MERGED];
	uint64 documents; /* live */
	uint64 bytes;     /* memory */
} Choice;

static int
tier(const SegmentEntry *segment)
{
	int result = 0;

	for (uint32 size = segment->npages / FIRST_TIER_PAGES; size > 0; size /= TIER_FACTOR)
		result++;
	return result;
}

static bool
is_worn(const SegmentEntry *segment)
{
	return segment->ndeleted > 0 &&
		   (uint64) segment->ndeleted * DELETED_SHARE >= (uint64) segment->ndocs;
}

/* False when the merge would become too large. */
static bool
add_choice(Choice *choice, const SearchMeta *meta, int place)
{
	const SegmentEntry *segment = &meta->segments[place];
	uint64 documents = segment->ndocs - segment->ndeleted;
	uint64 bytes = (uint64) segment->ndocs * sizeof(uint32);

	if (choice->n == MAX_MERGED || choice->documents + documents > SEARCH_MAX_DOCUMENTS ||
		(choice->n > 0 && choice->bytes + bytes > (uint64) maintenance_work_mem * 1024))
		return false;
	choice->places[choice->n++] = place;
	choice->documents += documents;
	choice->bytes += bytes;
	return true;
}

/* Is the segment free to be merged? */
static bool
may_merge(const bool *busy, int place)
{
	return busy == NULL || !busy[place];
}

/* The lowest tier that is full, else a segment with many deleted documents. */
static bool
choose_due(const SearchMeta *meta, const bool *busy, Choice *choice)
{
	int counts[33] = {0};

	memset(choice, 0, sizeof(Choice));
	for (int i = 0; i < (int) meta->nsegments; i++)
		if (may_merge(busy, i))
			counts[tier(&meta->segments[i])]++;
	for (int t = 0; t < (int) lengthof(counts); t++)
	{
		if (counts[t] < TIER_FACTOR)
			continue;
		memset(choice, 0, sizeof(Choice));
		for (int i = 0; i < (int) meta->nsegments; i++)
			if (may_merge(busy, i) && tier(&meta->segments[i]) == t)
				(void) add_choice(choice, meta, i);
		if (choice->n > 1)
			return true;
	}
	memset(choice, 0, sizeof(Choice));
	for (int i = 0; i < (int) meta->nsegments; i++)
		if (may_merge(busy, i) && is_worn(&meta->segments[i]))
			return add_choice(choice, meta, i);
	return false;
}

/* The smallest ones, whatever their tier. */
static bool
choose_smallest(const SearchMeta *meta, const bool *busy, Choice *choice)
{
	memset(choice, 0, sizeof(Choice));
	while (choice->n < TIER_FACTOR)
	{
		int smallest = -1;

		for (int i = 0; i < (int) meta->nsegments; i++)
		{
			bool chosen = !may_merge(busy, i);

			for (int j = 0; j < choice->n; j++)
				chosen |= choice->places[j] == i;
			if (!chosen &&
				(smallest < 0 || meta->segments[i].npages < meta->segments[smallest].npages))
				smallest = i;
		}
		if (smallest < 0 || !add_choice(choice, meta, smallest))
			break;
	}
	return choice->n > 1;
}

static int
compare_places(const void *a, const void *b)
{
	return *(const int *) a - *(const int *) b;
}

static bool
same_segment(const SegmentEntry *a, const SegmentEntry *b)
{
	return a->id == b->id && a->header == b->header;
}

static int
find_segment(const SearchMeta *meta, const SegmentEntry *segment)
{
	for (int i = 0; i < (int) meta->nsegments; i++)
		if (same_segment(&meta->segments[i], segment))
			return i;
	return -1;
}

static void
release_claims(Relation index, const SearchMeta *meta, const Choice *choice, int n)
{
	for (int i = 0; i < n; i++)
		search_unclaim(index, &meta->segments[choice->places[i]]);
}

/*
 * Claims the chosen segments.  When another merge has one, that is marked as
 * busy and nothing is claimed; the same when one is gone meanwhile.
 */
static bool
claim(Relation index, const SearchMeta *meta, const Choice *choice, bool *busy)
{
	SearchMeta *now;
	bool all = true;

	for (int i = 0; i < choice->n; i++)
	{
		int place = choice->places[i];

		if (search_try_claim(index, &meta->segments[place]))
			continue;
		busy[place] = true;
		release_claims(index, meta, choice, i);
		return false;
	}
	now = search_read_meta(index);
	for (int i = 0; i < choice->n; i++)
	{
		int place = choice->places[i];

		if (find_segment(now, &meta->segments[place]) < 0)
			busy[place] = true;
		all = all && !busy[place];
	}
	pfree(now);
	if (!all)
		release_claims(index, meta, choice, choice->n);
	return all;
}

/* Puts the new segment, if it has documents, in the place of the first of the old ones. */
static void
replace_segments(Relation index, const SegmentEntry *old, int nold, const SegmentEntry *new)
{
	MetaChange change;
	SearchMeta *meta;
	bool placed = new == NULL;
	int n = 0;

	search_begin_change(index, &change);
	meta = change.meta;
	for (int i = 0; i < (int) meta->nsegments; i++)
	{
		bool replaced = false;

		for (int j = 0; j < nold && !replaced; j++)
			replaced = same_segment(&meta->segments[i], &old[j]);
		if (!replaced)
			meta->segments[n++] = meta->segments[i];
		else if (!placed)
		{
			meta->segments[n++] = *new;
			placed = true;
		}
	}
	if (!placed)
		elog(ERROR, "segments of index \"%s\" changed", RelationGetRelationName(index));
	meta->nsegments = n;
	search_commit_change(&change);
}

/* Merges segments that are claimed. */
static void
merge_segments(Relation index, const SearchMeta *meta, const Choice *choice)
{
	SearchSettings settings = *search_settings(index);
	SegmentEntry *old = palloc(choice->n * sizeof(SegmentEntry));
	SegmentReader **readers = palloc(choice->n * sizeof(SegmentReader *));
	Extent **extents = palloc(choice->n * sizeof(Extent *));
	int *nextents = palloc(choice->n * sizeof(int));
	SegmentEntry merged;
	bool stale = false;

	for (int i = 0; i < choice->n; i++)
	{
		old[i] = meta->segments[choice->places[i]];
		extents[i] = search_segment_extents(index, &old[i], &nextents[i]);
	}
	if (choice->documents > 0)
	{
		SegmentWriter *writer = segment_writer_begin(
			index, &settings, search_new_owner(index), search_average_length(meta));

		for (int i = 0; i < choice->n; i++)
			readers[i] = segment_open(index, &settings, &old[i], &stale);
		if (!stale)
			segment_merge(readers, choice->n, writer);
		if (stale)
			search_corrupted(index, old[0].header, "A page of a segment has another owner.");
		segment_writer_finish(writer, &merged, NULL);
		for (int i = 0; i < choice->n; i++)
			segment_close(readers[i]);
	}
	replace_segments(index, old, choice->n, choice->documents > 0 ? &merged : NULL);
	for (int i = 0; i < choice->n; i++)
		search_free(index, extents[i], nextents[i], false);
}

/* One merge, of those that are due or of the smallest segments.  False when there is none to do. */
static bool
merge_once(Relation index, bool (*choose)(const SearchMeta *, const bool *, Choice *))
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt_bm25 merge", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	SearchMeta *meta = search_read_meta(index);
	bool busy[SEARCH_MAX_SEGMENTS] = {false};
	Choice choice;
	bool found;

	while ((found = choose(meta, busy, &choice)))
	{
		/* documents of one segment follow those of an older one */
		qsort(choice.places, choice.n, sizeof(int), compare_places);
		if (claim(index, meta, &choice, busy))
			break;
	}
	if (found)
	{
		merge_segments(index, meta, &choice);
		release_claims(index, meta, &choice, choice.n);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return found;
}

bool
merge_due(Relation index)
{
	return merge_once(index, choose_due);
}

bool
merge_smallest(Relation index)
{
	return merge_once(index, choose_smallest);
}

bool
search_merge_step(Relation index)
{
	bool merged;

	if (!search_try_share_structure(index))
		return false;
	merged = merge_due(index);
	search_unshare_structure(index);
	return merged;
}

void
merge_after_flush(Relation index)
{
	SearchMeta *meta = search_read_meta(index);
	Choice choice;
	bool crowded = meta->nsegments >= CROWDED_SEGMENTS;
	bool due = choose_due(meta, NULL, &choice);
	uint64 pages = 0;

	for (int i = 0; i < choice.n; i++)
		pages += meta->segments[choice.places[i]].npages;
	pfree(meta);
	if (!crowded && (!due || (merge_request(index) && choice.n < NEGLECTED_SEGMENTS) ||
					 pages >= SMALL_MERGE_PAGES))
		return;
	if (!search_try_share_structure(index))
		return;
	if (crowded)
		(void) merge_smallest(index);
	else
		(void) merge_due(index);
	search_unshare_structure(index);
}

/*
 * Starts a transaction and opens the index; NULL when it is gone, or none of
 * ours any more.  A merge needs no snapshot, and may take long: it must not
 * keep VACUUM from removing rows.
 */
static Relation
begin_merge(Oid oid)
{
	Relation index;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	index = try_relation_open(oid, RowExclusiveLock);
	if (index != NULL && (index->rd_rel->relkind != RELKIND_INDEX ||
						  index->rd_rel->relam != search_access_method() ||
						  RelationUsesLocalBuffers(index) || !index->rd_index->indisready))
	{
		relation_close(index, RowExclusiveLock);
		index = NULL;
	}
	if (index != NULL)
		(void) search_settings(index);
	PopActiveSnapshot();
	InvalidateCatalogSnapshot();
	return index;
}

void
search_merge_all(Oid oid)
{
	bool more = true;

	while (more)
	{
		Relation index = begin_merge(oid);

		more = index != NULL && search_merge_step(index);
		if (index != NULL)
			relation_close(index, RowExclusiveLock);
		CommitTransactionCommand();
	}
}
