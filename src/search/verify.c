/*
 * verify.c
 *		The function pgopt_search_verify(): is an index sound, and what its
 *		table says?
 *
 * Three steps: which page belongs to what; each segment in itself; and the
 * rows of the table that a new snapshot sees, each of which must be in the
 * index once, with the terms and values that an insert would give it today.
 * Problems are the rows of the result; damage that keeps a part from being
 * read is one of them.
 *
 * Locks: AccessShareLock on table and index.  The structure lock keeps merges
 * and VACUUM's work on this index waiting until the end; inserts go on, but
 * none makes a segment of the write buffer while that is read.
 *
 * Memory: 4 bytes a document of the largest segment, and maintenance_work_mem:
 * of larger indexes the table is looked at in parts, each of which reads all
 * postings.  Cost: reads index and table once, and analyses the rows that
 * `fraction` chooses.
 */
#include "pgopt.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "build_private.h"
#include "compat.h"
#include "verify_private.h"

PG_FUNCTION_INFO_V1(pgopt_search_verify);

#define MAX_PROBLEMS 1000

/* Pages of the write buffer have owners of their own: reading it checks them. */
#define ANY_OWNER 0

/* --- problems --------------------------------------------------------------------------- */

void
verify_report(Verifier *verifier, BlockNumber block, const ItemPointerData *tid,
			  const char *problem, ...)
{
	Datum values[4];
	bool nulls[4] = {false};
	char text[1024];
	va_list args;

	if (++verifier->nproblems > MAX_PROBLEMS)
		return;
	va_start(args, problem);
	vsnprintf(text, sizeof(text), problem, args);
	va_end(args);

	values[0] = CStringGetTextDatum(verifier->part);
	nulls[1] = block == InvalidBlockNumber;
	values[1] = Int64GetDatum((int64) block);
	nulls[2] = tid == NULL;
	values[2] = PointerGetDatum(tid);
	values[3] = CStringGetTextDatum(text);
	tuplestore_putvalues(verifier->result->setResult, verifier->result->setDesc, values, nulls);
}

bool
verify_guarded(Verifier *verifier, const char *part, VerifyCheck check, void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool sound = true;

	verifier->part = part;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		check(verifier, arg);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (error->sqlerrcode != ERRCODE_INDEX_CORRUPTED &&
			error->sqlerrcode != ERRCODE_DATA_CORRUPTED)
			ReThrowError(error);
		verify_report(verifier,
					  InvalidBlockNumber,
					  NULL,
					  "%s%s%s",
					  error->message,
					  error->detail != NULL ? ": " : "",
					  error->detail != NULL ? error->detail : "");
		sound = false;
	}
	PG_END_TRY();
	return sound && !verifier->stale;
}

void
verify_add_entry(VerifyEntries *entries, int source, uint32 document, const ItemPointerData *tid,
				 uint64 sum)
{
	VerifyEntry *entry;

	if (entries->n == entries->allocated)
	{
		entries->allocated = Max(1024, 2 * entries->allocated);
		entries->entries =
			entries->entries == NULL
				? MemoryContextAllocHuge(CurrentMemoryContext,
										 entries->allocated * sizeof(VerifyEntry))
				: repalloc_huge(entries->entries, entries->allocated * sizeof(VerifyEntry));
	}
	entry = &entries->entries[entries->n++];
	entry->sum = sum;
	entry->document = document;
	entry->source = source;
	entry->seen = false;
	entry->tid = *tid;
}

/* --- pages -------------------------------------------------------------------------------- */

/* What the pages belong to. */
typedef struct PageOwners
{
	BlockNumber nblocks;
	uint8 *owned; /* a bit a block */
} PageOwners;

/* Notes that a page has an owner; false, and a problem, when it has one already or is not there. */
static bool
own_block(Verifier *verifier, PageOwners *owners, BlockNumber block)
{
	uint8 bit = 1 << (block % 8);

	if (block >= owners->nblocks)
	{
		verify_report(verifier, block, NULL, "the block is beyond the end of the file");
		return false;
	}
	if (owners->owned[block / 8] & bit)
	{
		verify_report(verifier, block, NULL, "the block belongs to something else, too");
		return false;
	}
	owners->owned[block / 8] |= bit;
	return true;
}

/* Reads a page's header; InvalidBlockNumber, or the next page of the chain. */
static BlockNumber
check_page(Verifier *verifier, BlockNumber block, uint64 owner, uint16 kind)
{
	Buffer buffer = ReadBuffer(verifier->index, block);
	SearchPageOpaque *opaque;
	BlockNumber next;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	search_check_page(verifier->index, buffer, kind);
	opaque = SearchPageGetOpaque(BufferGetPage(buffer));
	if (owner == ANY_OWNER)
	{
		if (opaque->owner == 0 || opaque->owner >= verifier->meta->next_owner)
			verify_report(verifier, block, NULL, "the page belongs to an owner that is none");
	}
	else if (opaque->owner != owner)
		verify_report(verifier,
					  block,
					  NULL,
					  "the page belongs to owner " UINT64_FORMAT " instead of " UINT64_FORMAT,
					  opaque->owner,
					  owner);
	next = opaque->next;
	UnlockReleaseBuffer(buffer);
	return next;
}

typedef struct Chain
{
	PageOwners *owners;
	BlockNumber first;
	BlockNumber last; /* InvalidBlockNumber: where the chain ends */
	uint64 owner;
	uint16 kind;
	uint32 npages; /* result */
} Chain;

static void
check_chain(Verifier *verifier, void *arg)
{
	Chain *chain = arg;
	BlockNumber block = chain->first;

	chain->npages = 0;
	while (block != InvalidBlockNumber && own_block(verifier, chain->owners, block))
	{
		BlockNumber next = check_page(verifier, block, chain->owner, chain->kind);

		CHECK_FOR_INTERRUPTS();
		chain->npages++;
		if (block == chain->last)
			break;
		block = next;
	}
	if (chain->last != InvalidBlockNumber && block != chain->last)
		verify_report(
			verifier, chain->last, NULL, "the chain of pages does not lead to its last one");
}

typedef struct SegmentPages
{
	PageOwners *owners;
	int segment;
} SegmentPages;

static void
check_extents(Verifier *verifier, void *arg)
{
	SegmentPages *pages = arg;
	const SegmentEntry *entry = &verifier->meta->segments[pages->segment];
	uint32 left = entry->npages;
	int n;
	Extent *extents = search_segment_extents(verifier->index, entry, &n);

	/* The last one is the header itself. */
	for (int i = 0; i < n; i++)
	{
		for (uint32 j = 0; j < extents[i].npages; j++)
		{
			CHECK_FOR_INTERRUPTS();
			if (!own_block(verifier, pages->owners, extents[i].start + j))
				break;
			if (i < n - 1 && left > 0)
				left--;
			else if (i < n - 1)
				verify_report(
					verifier, extents[i].start + j, NULL, "the segment has more blocks than pages");
		}
	}
	if (left > 0)
		verify_report(verifier, entry->header, NULL, "%u pages have no blocks", left);
	pfree(extents);
}

static void
check_free_list(Verifier *verifier, void *arg)
{
	PageOwners *owners = arg;
	Buffer buffer = ReadBuffer(verifier->index, SEARCH_FREE_BLOCK);
	SearchFreeList *list = palloc(BLCKSZ);

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	search_check_page(verifier->index, buffer, SEARCH_PAGE_FREE);
	memcpy(list, SearchPageContent(BufferGetPage(buffer)), SEARCH_PAGE_CONTENT);
	UnlockReleaseBuffer(buffer);
	if (list->nextents > SEARCH_MAX_FREE)
		search_corrupted(verifier->index, SEARCH_FREE_BLOCK, "lists more extents than it can hold");
	for (uint32 i = 0; i < list->nextents; i++)
	{
		const FreeExtent *extent = &list->extents[i];

		if (i > 0 && extent->start < extent[-1].start + extent[-1].npages)
			verify_report(verifier, extent->start, NULL, "free extents are not in order");
		for (uint32 j = 0; j < extent->npages; j++)
		{
			CHECK_FOR_INTERRUPTS();
			/* After recovery the file may be shorter: search_allocate() lets it grow. */
			if (extent->start + j >= owners->nblocks ||
				!own_block(verifier, owners, extent->start + j))
				break;
		}
	}
	pfree(list);
}

static const char *
segment_part(const Verifier *verifier, int segment)
{
	return psprintf("segment " UINT64_FORMAT, verifier->meta->segments[segment].id);
}

/*
 * Every block belongs to one thing.  Inserts may take free pages meanwhile:
 * these count as lost.
 */
static void
check_pages(Verifier *verifier)
{
	const SearchMeta *meta = verifier->meta;
	PageOwners owners = {.nblocks = RelationGetNumberOfBlocks(verifier->index)};
	Chain chain;
	BlockNumber lost = 0;

	owners.owned = palloc0(owners.nblocks / 8 + 1);
	verifier->part = "meta page";
	own_block(verifier, &owners, SEARCH_META_BLOCK);
	own_block(verifier, &owners, SEARCH_FREE_BLOCK);
	for (int i = 0; i < meta->nsegments; i++)
	{
		SegmentPages pages = {&owners, i};

		for (int j = 0; j < i; j++)
		{
			if (meta->segments[i].id == meta->segments[j].id)
				verify_report(verifier, SEARCH_META_BLOCK, NULL, "a segment is listed twice");
		}
		if (meta->segments[i].id >= meta->next_owner)
			verify_report(verifier, SEARCH_META_BLOCK, NULL, "a segment's number is yet to come");
		verify_guarded(verifier, segment_part(verifier, i), check_extents, &pages);
		verifier->part = "meta page";
	}
	chain = (Chain){
		&owners, meta->restore, InvalidBlockNumber, meta->restore_owner, SEARCH_PAGE_RESTORE, 0};
	verify_guarded(verifier, "table of accented words", check_chain, &chain);
	if (meta->pending_head != InvalidBlockNumber)
	{
		chain = (Chain){
			&owners, meta->pending_head, meta->pending_tail, ANY_OWNER, SEARCH_PAGE_PENDING, 0};
		if (verify_guarded(verifier, "write buffer", check_chain, &chain) &&
			chain.npages != meta->pending_pages)
			verify_report(verifier,
						  SEARCH_META_BLOCK,
						  NULL,
						  "there are %u pages instead of %u",
						  chain.npages,
						  meta->pending_pages);
	}
	verify_guarded(verifier, "free list", check_free_list, &owners);

	for (BlockNumber block = 0; block < owners.nblocks; block++)
		lost += (owners.owned[block / 8] & (1 << (block % 8))) == 0;
	if (lost > 0)
		ereport(NOTICE,
				(errmsg_plural("%u page of index \"%s\" is not in use",
							   "%u pages of index \"%s\" are not in use",
							   lost,
							   lost,
							   RelationGetRelationName(verifier->index)),
				 errdetail("A crash, a command that failed, or an insert under way leaves such "
						   "pages behind."),
				 errhint("VACUUM gives them back.")));
	pfree(owners.owned);
}

/* --- segments ------------------------------------------------------------------------------ */

static void
check_segment(Verifier *verifier, void *arg)
{
	int segment = *(int *) arg;
	const SegmentEntry *entry = &verifier->meta->segments[segment];
	int n;
	Extent *extents = search_segment_extents(verifier->index, entry, &n);

	/* The header was checked with that; first whose pages they are, then what is on them. */
	for (int i = 0; i < n - 1; i++)
	{
		for (uint32 j = 0; j < extents[i].npages; j++)
		{
			CHECK_FOR_INTERRUPTS();
			check_page(verifier, extents[i].start + j, entry->id, SEARCH_PAGE_SEGMENT);
		}
	}
	pfree(extents);
	verifier->segments[segment] =
		segment_open(verifier->index, verifier->settings, entry, &verifier->stale);
	verify_segment(verifier, segment);
}

/* --- the function ---------------------------------------------------------------------------- */

static void
check_usable(Relation heap, Relation index)
{
	if (!compat_owns_relation(RelationGetRelid(index), GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_INDEX, RelationGetRelationName(index));
	if (!index->rd_index->indisvalid)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("index \"%s\" is not valid", RelationGetRelationName(index)),
				 errhint("It was not built to its end: drop it, or REINDEX it.")));
	if (heap->rd_rel->relam != HEAP_TABLE_AM_OID)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("table \"%s\" is not stored by the access method heap",
						RelationGetRelationName(heap))));
}

static Snapshot
take_snapshot(Relation index)
{
	Snapshot snapshot = RegisterSnapshot(GetTransactionSnapshot());

	/* Rows may have other values than the index for a transaction that began before it was made. */
	if (IsolationUsesXactSnapshot() && index->rd_index->indcheckxmin &&
		!TransactionIdPrecedes(HeapTupleHeaderGetXmin(index->rd_indextuple->t_data),
							   snapshot->xmin))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("index \"%s\" cannot be verified in this transaction",
						RelationGetRelationName(index)),
				 errdetail("The index is newer than the transaction's snapshot.")));
	return snapshot;
}

static void
verify(Verifier *verifier, bool check_table, double fraction)
{
	Relation index = verifier->index;

	search_lock_structure(index);
	search_lock_flush(index);
	/* What this sees was in the index before, and is in the meta page read next. */
	verifier->snapshot = take_snapshot(index);
	verifier->meta = search_read_meta(index);
	check_pages(verifier);
	verifier->segments = palloc0(SEARCH_MAX_SEGMENTS * sizeof(SegmentReader *));
	verify_pending(verifier);
	search_unlock_flush(index);

	for (int i = 0; i < verifier->meta->nsegments; i++)
	{
		if (!verify_guarded(verifier, segment_part(verifier, i), check_segment, &i))
			verifier->segments[i] = NULL;
	}
	if (check_table)
		verify_table(verifier, fraction);
	UnregisterSnapshot(verifier->snapshot);
	if (verifier->stale)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("index \"%s\" was changed while it was verified",
						RelationGetRelationName(index)),
				 errdetail("On a standby, changes from the primary cannot be kept waiting."),
				 errhint("Try again.")));
	search_unlock_structure(index);
}

Datum
pgopt_search_verify(PG_FUNCTION_ARGS)
{
	Oid index_oid = PG_GETARG_OID(0);
	bool check_table = PG_GETARG_BOOL(1);
	double fraction = PG_GETARG_FLOAT8(2);
	Oid heap_oid = IndexGetRelation(index_oid, true);
	Verifier verifier = {0};
	Oid save_user;
	int save_context;
	int save_nestlevel;

	if (!(fraction >= 0 && fraction <= 1))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("fraction must be between 0 and 1")));
	InitMaterializedSRF(fcinfo, 0);
	verifier.result = (ReturnSetInfo *) fcinfo->resultinfo;

	/* The table first, as everybody does; that it is the index's is sure once both are locked. */
	if (OidIsValid(heap_oid))
		verifier.heap = table_open(heap_oid, AccessShareLock);
	verifier.index = search_open_index(index_oid, AccessShareLock);
	if (verifier.heap == NULL || verifier.index->rd_index->indrelid != heap_oid)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("index \"%s\" was replaced meanwhile",
						RelationGetRelationName(verifier.index))));
	check_usable(verifier.heap, verifier.index);
	verifier.settings = build_copy_settings(verifier.index, CurrentMemoryContext);

	/* Expressions of the index run as its owner, as when it was built. */
	GetUserIdAndSecContext(&save_user, &save_context);
	SetUserIdAndSecContext(verifier.heap->rd_rel->relowner,
						   save_context | SECURITY_RESTRICTED_OPERATION);
	save_nestlevel = NewGUCNestLevel();
	compat_RestrictSearchPath();
	verify(&verifier, check_table, fraction);
	AtEOXact_GUC(false, save_nestlevel);
	SetUserIdAndSecContext(save_user, save_context);

	if (verifier.nproblems > MAX_PROBLEMS)
		ereport(NOTICE,
				(errmsg("%lld problems were found, %d of them are listed",
						(long long) verifier.nproblems,
						MAX_PROBLEMS)));
	index_close(verifier.index, AccessShareLock);
	table_close(verifier.heap, AccessShareLock);
	return (Datum) 0;
}
