/*
 * verify_table.c
 *		Compares an index with its table.
 *
 * Every row that the snapshot sees is in the index once, under the pointer
 * that an insert would have used, and says what the row says; what else is in
 * the index belongs to rows that nobody sees any more, or not yet, whose
 * pointers are still in use.
 *
 * A document is compared as a sum over its terms, for which the postings are
 * read once in their own order; only where the sums differ are the document's
 * terms looked up one by one.
 */
#include "pgopt.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "access/xlog.h"
#include "catalog/index.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "storage/bufmgr.h"
#include "utils/datum.h"
#include "utils/memutils.h"

#include "score.h"
#include "verify_private.h"

#define CHUNK         4096 /* documents at a time */
#define MAX_EXPLAINED 3    /* terms of a row */

/* A part of the table. */
typedef struct TablePart
{
	BlockNumber first;
	BlockNumber end;
	double fraction;
	VerifyEntries entries;
	bool summed[SEARCH_MAX_SEGMENTS];
	bool complete; /* all that is in the index is in the entries */
	int segment;   /* being read */
	Size from;     /* its first entry */
	MemoryContext row;
} TablePart;

/* --- the write buffer -------------------------------------------------------------------- */

static uint64
filter_sum(const SearchSettings *settings, int filter, Datum value, bool isnull)
{
	const SearchFilterColumn *column = &settings->filters[filter];
	uint32 hash = isnull ? 0 : datum_image_hash(value, column->typbyval, column->typlen);

	return hash_bytes_extended((const unsigned char *) &hash, sizeof(hash), filter + 1);
}

static uint64
length_sum(uint32 length)
{
	return hash_bytes_extended((const unsigned char *) &length, sizeof(length), 0);
}

static uint64
read_pending_document(Verifier *verifier, const PendingDocument *document)
{
	const SearchSettings *settings = verifier->settings;
	uint64 sum = length_sum(document->length);
	const char *last = NULL;
	int last_length = 0;
	const char *string;
	int length;
	uint32 tf[SEARCH_MAX_FIELDS];
	uint32 *positions;
	uint32 npositions;

	for (uint32 place = 0;
		 pending_next_term(document, &place, &string, &length, tf, &positions, &npositions);)
	{
		if (last != NULL && term_compare(last, last_length, string, length) >= 0)
			verify_report(verifier,
						  InvalidBlockNumber,
						  &document->tid,
						  "term \"%.*s\" is not in order",
						  length,
						  string);
		sum += verify_posting_sum(settings, string, length, tf, positions, npositions);
		last = string;
		last_length = length;
	}
	last = NULL;
	for (uint32 place = 0; pending_next_word(document, &place, &string, &length);)
	{
		if (last != NULL && term_compare(last, last_length, string, length) >= 0)
			verify_report(verifier,
						  InvalidBlockNumber,
						  &document->tid,
						  "word \"%.*s\" is not in order",
						  length,
						  string);
		last = string;
		last_length = length;
	}
	for (int f = 0; f < settings->nfilters; f++)
		sum += filter_sum(settings, f, document->filters[f], document->filter_nulls[f]);
	return sum;
}

static void
read_pending(Verifier *verifier, void *arg)
{
	const SearchMeta *meta = verifier->meta;
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt verify", ALLOCSET_DEFAULT_SIZES);
	PendingReader *reader =
		pending_open(verifier->index, verifier->settings, meta, &verifier->stale);
	PendingDocument document;
	uint64 length = 0;
	uint32 n = 0;

	while (pending_next(reader, &document))
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		uint64 sum;

		CHECK_FOR_INTERRUPTS();
		sum = read_pending_document(verifier, &document);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
		verify_add_entry(&verifier->pending, VERIFY_PENDING, n, &document.tid, sum);
		length += document.length;
		n++;
	}
	pending_close(reader);
	MemoryContextDelete(context);
	/* Nobody makes a segment of it meanwhile, but a primary that a standby follows. */
	if (verifier->stale && !RecoveryInProgress())
	{
		verifier->stale = false;
		verifier->pending_damaged = true;
		verify_report(verifier,
					  InvalidBlockNumber,
					  NULL,
					  "a page belongs to something else; %u of %u documents were read",
					  n,
					  meta->pending_docs);
	}
	if (verifier->stale || verifier->pending_damaged)
		return;
	if (n != meta->pending_docs)
		verify_report(verifier,
					  InvalidBlockNumber,
					  NULL,
					  "there are %u documents instead of %u",
					  n,
					  meta->pending_docs);
	if (length != meta->pending_length)
		verify_report(verifier,
					  InvalidBlockNumber,
					  NULL,
					  "the total length is " UINT64_FORMAT " instead of " UINT64_FORMAT,
					  length,
					  meta->pending_length);
}

void
verify_pending(Verifier *verifier)
{
	if (verifier->meta->pending_head != InvalidBlockNumber &&
		!verify_guarded(verifier, "write buffer", read_pending, NULL))
		verifier->pending_damaged = true;
}

/* --- what the index has -------------------------------------------------------------------- */

/* Entries of the segment's live documents whose rows are in the part. */
static void
read_entries(Verifier *verifier, void *arg)
{
	TablePart *part = arg;
	SegmentReader *reader = verifier->segments[part->segment];
	uint32 ndocs = segment_header(reader)->ndocs;
	ItemPointerData *tids = palloc(CHUNK * sizeof(ItemPointerData));
	uint64 deleted[CHUNK / 64];

	for (uint32 from = 0; from < ndocs; from += CHUNK)
	{
		uint32 n = Min(CHUNK, ndocs - from);

		CHECK_FOR_INTERRUPTS();
		segment_tids(reader, from, n, tids);
		segment_deleted(reader, from, n, deleted);
		for (uint32 i = 0; i < n && !verifier->stale; i++)
		{
			BlockNumber block = ItemPointerGetBlockNumberNoCheck(&tids[i]);

			if ((deleted[i / 64] >> (i % 64) & 1) == 0 && block >= part->first && block < part->end)
				verify_add_entry(&part->entries, part->segment, from + i, &tids[i], 0);
		}
	}
	pfree(tids);
}

static void
sum_entries(Verifier *verifier, void *arg)
{
	TablePart *part = arg;

	verify_sum_postings(
		verifier, part->segment, part->entries.entries + part->from, part->entries.n - part->from);
}

static int
compare_entries(const void *a, const void *b)
{
	return ItemPointerCompare((ItemPointer) & ((const VerifyEntry *) a)->tid,
							  (ItemPointer) & ((const VerifyEntry *) b)->tid);
}

static const char *
source_name(const Verifier *verifier, int source)
{
	return source == VERIFY_PENDING
			   ? "write buffer"
			   : psprintf("segment " UINT64_FORMAT, verifier->meta->segments[source].id);
}

static void
collect_entries(Verifier *verifier, TablePart *part)
{
	part->complete = !verifier->pending_damaged;
	for (int i = 0; i < verifier->meta->nsegments; i++)
	{
		const char *name = source_name(verifier, i);

		part->segment = i;
		part->from = part->entries.n;
		part->summed[i] = false;
		if (verifier->segments[i] == NULL || !verify_guarded(verifier, name, read_entries, part))
			part->complete = false;
		else if (part->fraction > 0)
			part->summed[i] = verify_guarded(verifier, name, sum_entries, part);
	}
	for (Size i = 0; i < verifier->pending.n; i++)
	{
		const VerifyEntry *entry = &verifier->pending.entries[i];
		BlockNumber block = ItemPointerGetBlockNumberNoCheck(&entry->tid);

		if (block >= part->first && block < part->end)
			verify_add_entry(
				&part->entries, entry->source, entry->document, &entry->tid, entry->sum);
	}

	qsort(part->entries.entries, part->entries.n, sizeof(VerifyEntry), compare_entries);
	for (Size i = 1; i < part->entries.n; i++)
	{
		const VerifyEntry *entry = &part->entries.entries[i];

		if (compare_entries(entry - 1, entry) != 0)
			continue;
		verifier->part = source_name(verifier, entry->source);
		verify_report(verifier,
					  InvalidBlockNumber,
					  &entry->tid,
					  "the row is in the %s, too",
					  source_name(verifier, entry[-1].source));
	}
}

/* --- what the table says ---------------------------------------------------------------------- */

/* Which of the document's terms the segment has otherwise. */
static void
explain_terms(Verifier *verifier, const VerifyEntry *entry, const Document *document)
{
	const SearchSettings *settings = verifier->settings;
	SegmentReader *reader = verifier->segments[entry->source];
	int found = 0;

	for (int t = 0; t < document->nterms && found < MAX_EXPLAINED; t++)
	{
		const DocumentTerm *term = &document->terms[t];
		const char *problem = "the row's term \"%.*s\" is not in the index";
		TermInfo info;
		PostingCursor cursor;
		uint32 block;

		CHECK_FOR_INTERRUPTS();
		if (segment_find_term(reader, term->term, term->length, &info))
		{
			posting_open(&cursor, reader, &info);
			block = posting_seek(&cursor, 0, entry->document);
			if (block < cursor.nblocks)
				posting_load(&cursor, block);
			for (int i = 0; block < cursor.nblocks && i < cursor.n; i++)
			{
				const uint32 *positions = NULL;
				uint32 tf[SEARCH_MAX_FIELDS];
				int n = 0;

				if (cursor.docs[i] != entry->document)
					continue;
				for (int field = 0; field < settings->nfields; field++)
					tf[field] = cursor.fields & ((uint32) 1 << field) ? cursor.tf[field][i] : 0;
				if (settings->positions)
					n = posting_positions(&cursor, i, &positions);
				problem =
					verify_posting_sum(settings, term->term, term->length, tf, positions, n) ==
							verify_posting_sum(settings,
											   term->term,
											   term->length,
											   term->tf,
											   term->positions,
											   term->npositions)
						? NULL
						: "the row has term \"%.*s\" in other places than the index";
			}
			posting_close(&cursor);
		}
		if (problem != NULL)
		{
			verify_report(
				verifier, InvalidBlockNumber, &entry->tid, problem, term->length, term->term);
			found++;
		}
	}
	if (found == 0)
		verify_report(verifier,
					  InvalidBlockNumber,
					  &entry->tid,
					  "the index has terms that the row does not have");
}

static void
compare_filters(Verifier *verifier, const VerifyEntry *entry, const Datum *values,
				const bool *nulls)
{
	for (int f = 0; f < verifier->settings->nfilters; f++)
	{
		SearchFilterColumn column = verifier->settings->filters[f];
		uint32 code;
		bool same;

		segment_codes(verifier->segments[entry->source], f, entry->document, 1, &code);
		if (code == 0 || nulls[column.attno - 1])
			same = code == 0 && nulls[column.attno - 1];
		else
		{
			Datum value = segment_filter_value(verifier->segments[entry->source], f, code);

			same = verifier->stale ||
				   DatumGetInt32(FunctionCall2Coll(
					   &column.compare, column.collation, value, values[column.attno - 1])) == 0;
		}
		if (!same)
			verify_report(verifier,
						  InvalidBlockNumber,
						  &entry->tid,
						  "column %d of the row has another value than the index",
						  column.attno);
	}
}

static void
compare_row(Verifier *verifier, TablePart *part, const VerifyEntry *entry, const Datum *values,
			const bool *nulls)
{
	const SearchSettings *settings = verifier->settings;
	Document *document =
		document_analyze(search_analyzer(verifier->index), settings, values, nulls);
	uint64 sum = 0;

	for (int t = 0; t < document->nterms; t++)
	{
		const DocumentTerm *term = &document->terms[t];

		sum += verify_posting_sum(
			settings, term->term, term->length, term->tf, term->positions, term->npositions);
	}

	if (entry->source == VERIFY_PENDING)
	{
		sum += length_sum(document->length);
		for (int f = 0; f < settings->nfilters; f++)
		{
			int column = settings->filters[f].attno - 1;

			sum += filter_sum(settings, f, values[column], nulls[column]);
		}
		if (sum != entry->sum)
			verify_report(verifier,
						  InvalidBlockNumber,
						  &entry->tid,
						  "the row says something else than the index");
		return;
	}
	if (verifier->segments[entry->source] != NULL)
	{
		uint8 length;

		segment_lengths(verifier->segments[entry->source], entry->document, 1, &length);
		if (length != length_encode(document->length) && !verifier->stale)
			verify_report(verifier,
						  InvalidBlockNumber,
						  &entry->tid,
						  "the row has length %u, the index has %u",
						  document->length,
						  length_decode(length));
		compare_filters(verifier, entry, values, nulls);
		if (part->summed[entry->source] && sum != entry->sum)
			explain_terms(verifier, entry, document);
	}
}

typedef struct RowCheck
{
	Verifier *verifier;
	TablePart *part;
} RowCheck;

/* Callback of the table's scan: a row that the snapshot sees. */
static void
check_row(Relation index, ItemPointer tid, Datum *values, bool *nulls, bool alive, void *state)
{
	Verifier *verifier = ((RowCheck *) state)->verifier;
	TablePart *part = ((RowCheck *) state)->part;
	VerifyEntry key = {.tid = *tid};
	VerifyEntry *entry;
	VerifyEntry *end = part->entries.entries + part->entries.n;
	MemoryContext old;

	entry = part->entries.n == 0 ? NULL
								 : bsearch(&key,
										   part->entries.entries,
										   part->entries.n,
										   sizeof(VerifyEntry),
										   compare_entries);
	if (entry == NULL)
	{
		if (part->complete)
			verify_report(verifier, InvalidBlockNumber, tid, "the row is not in the index");
		return;
	}
	/* When it is there several times, all are meant. */
	while (entry > part->entries.entries && compare_entries(entry - 1, &key) == 0)
		entry--;
	for (VerifyEntry *same = entry; same < end && compare_entries(same, &key) == 0; same++)
		same->seen = true;

	if (hash_bytes((const unsigned char *) tid, sizeof(ItemPointerData)) >=
		part->fraction * 4294967296.0)
		return;
	old = MemoryContextSwitchTo(part->row);
	compare_row(verifier, part, entry, values, nulls);
	MemoryContextSwitchTo(old);
	MemoryContextReset(part->row);
}

static void
scan_table(Verifier *verifier, void *arg)
{
	TablePart *part = arg;
	BlockNumber nblocks = RelationGetNumberOfBlocks(verifier->heap);
	IndexInfo *info = BuildIndexInfo(verifier->index);
	RowCheck check = {verifier, part};
	TableScanDesc scan;

	if (part->first >= nblocks)
		return;
	/* As a concurrent build sees the rows, but of this snapshot and these blocks. */
	info->ii_Concurrent = true;
	scan = table_beginscan_strat(verifier->heap, verifier->snapshot, 0, NULL, true, false);
	heap_setscanlimits(scan, part->first, Min(part->end, nblocks) - part->first);
	table_index_build_scan(
		verifier->heap, verifier->index, info, true, false, check_row, &check, scan);
}

/* --- entries without a row ---------------------------------------------------------------------- */

static const char *
pointer_problem(Verifier *verifier, Buffer buffer, const VerifyEntry *entry)
{
	Page page = BufferGetPage(buffer);
	OffsetNumber offset = ItemPointerGetOffsetNumberNoCheck(&entry->tid);
	ItemPointerData tid = entry->tid;
	HeapTupleData tuple;
	ItemId item;

	if (offset < FirstOffsetNumber || offset > PageGetMaxOffsetNumber(page))
		return "there is no such row";
	item = PageGetItemId(page, offset);
	if (!ItemIdIsUsed(item))
		return "the row's pointer is not in use";
	if (ItemIdIsNormal(item) &&
		HeapTupleHeaderIsHeapOnly((HeapTupleHeader) PageGetItem(page, item)))
		return "the row is one that no index should point to";
	if (heap_hot_search_buffer(
			&tid, verifier->heap, buffer, verifier->snapshot, &tuple, NULL, true))
		return "the row should not be in the index";
	return NULL;
}

/* Rows that the snapshot does not see: dead, or not yet committed. */
static void
check_unseen(Verifier *verifier, void *arg)
{
	TablePart *part = arg;
	BlockNumber nblocks = RelationGetNumberOfBlocks(verifier->heap);
	Buffer buffer = InvalidBuffer;

	for (Size i = 0; i < part->entries.n; i++)
	{
		const VerifyEntry *entry = &part->entries.entries[i];
		BlockNumber block = ItemPointerGetBlockNumberNoCheck(&entry->tid);
		const char *problem = "the row is beyond the end of the table";

		CHECK_FOR_INTERRUPTS();
		if (entry->seen)
			continue;
		if (block < nblocks)
		{
			buffer = ReleaseAndReadBuffer(buffer, verifier->heap, block);
			LockBuffer(buffer, BUFFER_LOCK_SHARE);
			problem = pointer_problem(verifier, buffer, entry);
			LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
		}
		if (problem != NULL)
		{
			verifier->part = source_name(verifier, entry->source);
			verify_report(verifier, InvalidBlockNumber, &entry->tid, "%s", problem);
		}
	}
	if (BufferIsValid(buffer))
		ReleaseBuffer(buffer);
}

void
verify_table(Verifier *verifier, double fraction)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt verify table", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	BlockNumber nblocks = RelationGetNumberOfBlocks(verifier->heap);
	uint64 most = (uint64) maintenance_work_mem * 1024 / sizeof(VerifyEntry);
	uint64 ndocs = verifier->pending.n;
	uint64 nparts;
	TablePart part = {.fraction = fraction};

	for (int i = 0; i < verifier->meta->nsegments; i++)
		ndocs += verifier->meta->segments[i].ndocs;
	nparts = ndocs / most + 1;
	part.row = AllocSetContextCreate(context, "pgopt verify row", ALLOCSET_DEFAULT_SIZES);
	for (uint64 i = 0; i < nparts && !verifier->stale; i++)
	{
		part.first = (BlockNumber) (nblocks * i / nparts);
		part.end =
			i == nparts - 1 ? InvalidBlockNumber : (BlockNumber) (nblocks * (i + 1) / nparts);
		part.entries.n = 0;
		collect_entries(verifier, &part);
		if (verify_guarded(verifier, "table", scan_table, &part))
			verify_guarded(verifier, "table", check_unseen, &part);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
