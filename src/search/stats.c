/*
 * stats.c
 *		The function pgopt_search_stats(): size and shape of an index.
 *
 * Locks: AccessShareLock on table and index.  Cost: reads the meta page, the
 * free page, the header of each segment, and a few words for the stemmer; it
 * is no snapshot of an index that is being written.
 */
#include "pgopt.h"

#include "access/relation.h"
#include "catalog/index.h"
#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"

#include "compat.h"
#include "document.h"
#include "pages.h"
#include "search.h"
#include "segment.h"
#include "settings.h"

PG_FUNCTION_INFO_V1(pgopt_search_stats);

/* Sums over the segments. */
typedef struct SegmentSums
{
	uint64 documents; /* deleted ones too */
	uint64 deleted;
	uint64 terms;
	uint64 words;
	uint64 postings;
	uint64 pages;
	int64 largest; /* documents in the largest one */
} SegmentSums;

static void
check_rights(Oid index)
{
	Oid table = IndexGetRelation(index, false);

	if (pg_class_aclcheck(table, GetUserId(), ACL_SELECT) != ACLCHECK_OK &&
		!has_privs_of_role(GetUserId(), ROLE_PG_MONITOR))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, get_rel_name(table));
}

/* Of the segments that are listed.  False when one was replaced before it was read. */
static bool
sum_segments(Relation index, const SearchMeta *meta, SegmentSums *sums)
{
	SearchSettings settings = *search_settings(index);
	bool stale = false;

	memset(sums, 0, sizeof(SegmentSums));
	for (int i = 0; i < (int) meta->nsegments && !stale; i++)
	{
		const SegmentEntry *entry = &meta->segments[i];
		SegmentReader *reader = segment_open(index, &settings, entry, &stale);

		CHECK_FOR_INTERRUPTS();
		if (!stale)
		{
			const SegmentHeader *header = segment_header(reader);

			sums->documents += entry->ndocs;
			sums->deleted += entry->ndeleted;
			sums->terms += header->nterms;
			sums->words += header->nwords;
			sums->postings += header->npostings;
			sums->pages += header->npages + 1;
			sums->largest = Max(sums->largest, (int64) entry->ndocs);
		}
		segment_close(reader);
	}
	return !stale;
}

void
search_space_of_index(Relation index, SearchSpace *space)
{
	SearchMeta *meta = search_read_meta(index);

	space->total = RelationGetNumberOfBlocks(index);
	space->free = search_free_pages(index);
	space->live = meta->pending_pages;
	space->deleted = 0;
	for (int i = 0; i < (int) meta->nsegments; i++)
	{
		const SegmentEntry *entry = &meta->segments[i];
		double deleted = entry->npages * (double) entry->ndeleted / Max(entry->ndocs, 1);

		space->deleted += deleted;
		space->live += entry->npages - deleted;
	}
	pfree(meta);
}

Datum
pgopt_search_stats(PG_FUNCTION_ARGS)
{
	Oid oid = PG_GETARG_OID(0);
	Relation index;
	const SearchSettings *settings;
	SearchMeta *meta;
	SegmentSums sums;
	TupleDesc desc;
	Datum values[22];
	bool nulls[22] = {false};
	int n = 0;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	index = search_open_index(oid, AccessShareLock);
	check_rights(oid);
	do
	{
		CHECK_FOR_INTERRUPTS();
		meta = search_read_meta(index);
	} while (!sum_segments(index, meta, &sums));

	values[n++] =
		Int64GetDatum((int64) (sums.documents - sums.deleted) + (int64) meta->pending_docs);
	values[n++] = Int64GetDatum((int64) sums.deleted);
	values[n++] = Int32GetDatum((int32) meta->nsegments);
	values[n++] = Int64GetDatum(sums.largest);
	values[n++] = Int64GetDatum((int64) meta->pending_docs);
	values[n++] = Int64GetDatum((int64) meta->pending_pages * BLCKSZ);
	values[n++] = Int64GetDatum((int64) sums.terms);
	values[n++] = Int64GetDatum((int64) sums.words);
	values[n++] = Int64GetDatum((int64) sums.postings);
	values[n++] = Float8GetDatum(search_average_length(meta));
	values[n++] = Int64GetDatum((int64) RelationGetNumberOfBlocks(index) * BLCKSZ);
	values[n++] = Int64GetDatum((int64) sums.pages * BLCKSZ);
	values[n++] = Int64GetDatum((int64) search_free_pages(index) * BLCKSZ);
	values[n++] = BoolGetDatum(meta->positions);
	values[n++] = Int64GetDatum((int64) meta->restore_words);

	settings = search_settings(index);
	values[n++] = Float4GetDatum(settings->k1);
	values[n++] = Float4GetDatum(settings->b);
	values[n++] = Int32GetDatum(settings->pending_limit);
	if (OidIsValid(settings->config))
	{
		Oid config = settings->config;

		values[n++] = ObjectIdGetDatum(config);
		values[n++] = BoolGetDatum(analyzer_fingerprint(search_analyzer(index)) != meta->stemmer);
	}
	else
	{
		nulls[n++] = true;
		nulls[n++] = true;
	}
	Assert(n == desc->natts);
	relation_close(index, AccessShareLock);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
