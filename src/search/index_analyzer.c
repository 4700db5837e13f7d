/*
 * index_analyzer.c
 *		The analyzer that belongs to an index, and its restoring table.
 *
 * Analyzers are kept in this backend, by the index's OID.  An invalidation of
 * the index marks its entry; the next look at it compares what the analyzer
 * was made from, the file, the configuration and the restoring table, and
 * makes it anew only where these differ.  A change of any text search object
 * renews all.
 *
 * Memory: each entry has a context of its own below CacheMemoryContext; the
 * one used longest ago goes when there are more than MAX_ANALYZERS.  Cost:
 * nothing but a look-up when the entry is there.
 */
#include "pgopt.h"

#include "catalog/index.h"
#include "storage/bufmgr.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "compat.h"
#include "document.h"
#include "pages.h"

#define MAX_ANALYZERS       16
#define MAX_ANALYZER_MEMORY (16 * 1024 * 1024)

typedef struct CachedAnalyzer
{
	Oid index;     /* key */
	bool doubtful; /* the index was invalidated: compare */
	bool outdated; /* make it anew */
	bool warned;
	CompatFiles files;
	Oid config;
	uint64 restore_owner;
	uint64 used;           /* clock */
	MemoryContext context; /* NULL: no analyzer */
	Analyzer *analyzer;
} CachedAnalyzer;

static HTAB *cache = NULL;
static uint64 cache_clock = 0;

static void
invalidate_relation(Datum arg, Oid relid)
{
	if (OidIsValid(relid))
	{
		CachedAnalyzer *entry = hash_search(cache, &relid, HASH_FIND, NULL);

		if (entry != NULL)
			entry->doubtful = true;
	}
	else
	{
		HASH_SEQ_STATUS status;
		CachedAnalyzer *entry;

		hash_seq_init(&status, cache);
		while ((entry = hash_seq_search(&status)) != NULL)
			entry->doubtful = true;
	}
}

static void
invalidate_text_search(Datum arg, int cacheid, uint32 hashvalue)
{
	HASH_SEQ_STATUS status;
	CachedAnalyzer *entry;

	hash_seq_init(&status, cache);
	while ((entry = hash_seq_search(&status)) != NULL)
		entry->outdated = true;
}

static void
create_cache(void)
{
	HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(CachedAnalyzer)};

	cache = hash_create("pgopt analyzers", MAX_ANALYZERS, &control, HASH_ELEM | HASH_BLOBS);
	CacheRegisterRelcacheCallback(invalidate_relation, (Datum) 0);
	CacheRegisterSyscacheCallback(TSCONFIGOID, invalidate_text_search, (Datum) 0);
	CacheRegisterSyscacheCallback(TSCONFIGMAP, invalidate_text_search, (Datum) 0);
	CacheRegisterSyscacheCallback(TSDICTOID, invalidate_text_search, (Datum) 0);
}

static void
drop_analyzer(CachedAnalyzer *entry)
{
	MemoryContext context = entry->context;

	entry->context = NULL;
	entry->analyzer = NULL;
	if (context != NULL)
		MemoryContextDelete(context);
}

/* Makes room for one more. */
static void
drop_oldest(void)
{
	while (hash_get_num_entries(cache) >= MAX_ANALYZERS)
	{
		HASH_SEQ_STATUS status;
		CachedAnalyzer *entry;
		CachedAnalyzer *oldest = NULL;

		hash_seq_init(&status, cache);
		while ((entry = hash_seq_search(&status)) != NULL)
		{
			if (oldest == NULL || entry->used < oldest->used)
				oldest = entry;
		}
		drop_analyzer(oldest);
		hash_search(cache, &oldest->index, HASH_REMOVE, NULL);
	}
}

RestoreTable *
search_read_restore(Relation index, const SearchMeta *meta, MemoryContext cxt)
{
	StringInfoData bytes;
	BlockNumber block = meta->restore;
	BlockNumber nblocks = 0;
	RestoreTable *table;

	if (block == InvalidBlockNumber)
		return NULL;
	initStringInfo(&bytes);
	while (block != InvalidBlockNumber)
	{
		Buffer buffer;
		Page page;
		BlockNumber next;
		uint64 owner;

		CHECK_FOR_INTERRUPTS();
		buffer = search_read_block(index, block, &nblocks);
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		search_check_page(index, buffer, SEARCH_PAGE_RESTORE);
		page = BufferGetPage(buffer);
		owner = SearchPageGetOpaque(page)->owner;
		next = SearchPageGetOpaque(page)->next;
		appendBinaryStringInfo(
			&bytes, SearchPageContent(page), ((PageHeader) page)->pd_lower - SEARCH_PAGE_OFFSET);
		UnlockReleaseBuffer(buffer);
		if (owner != meta->restore_owner || bytes.len > (Size) nblocks * BLCKSZ)
			ereport(ERROR,
					(errcode(ERRCODE_INDEX_CORRUPTED),
					 errmsg("index \"%s\" is corrupted", RelationGetRelationName(index)),
					 errdetail("Block %u does not belong to the table of accented words.", block),
					 errhint("REINDEX it.")));
		block = next;
	}
	table = restore_table_load(bytes.data, bytes.len, cxt);
	pfree(bytes.data);
	return table;
}

static void
make_analyzer(CachedAnalyzer *entry, Relation index, const SearchMeta *meta)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt analyzer", ALLOCSET_SMALL_SIZES);
	Oid config = search_config(index);
	Analyzer *analyzer =
		analyzer_create(config, search_read_restore(index, meta, context), context);

	if (!entry->warned && analyzer_fingerprint(analyzer) != meta->stemmer)
	{
		entry->warned = true;
		ereport(WARNING,
				(errmsg("index \"%s\" was built with another analysis of words",
						RelationGetRelationName(index)),
				 errdetail("The server's stemmer or the text search configuration has changed "
						   "since; some words may not be found."),
				 errhint("REINDEX it.")));
	}
	MemoryContextSetParent(context, CacheMemoryContext);
	entry->context = context;
	entry->analyzer = analyzer;
	entry->files = compat_rel_files(index);
	entry->config = config;
	entry->restore_owner = meta->restore_owner;
}

Analyzer *
search_analyzer(Relation index)
{
	Oid relid = RelationGetRelid(index);
	Oid config = search_config(index);
	SearchMeta *meta = NULL;
	CachedAnalyzer *entry;

	if (cache == NULL)
		create_cache();
	entry = hash_search(cache, &relid, HASH_FIND, NULL);
	if (entry == NULL)
	{
		bool found;

		drop_oldest();
		entry = hash_search(cache, &relid, HASH_ENTER, &found);
		memset((char *) entry + sizeof(Oid), 0, sizeof(CachedAnalyzer) - sizeof(Oid));
	}
	entry->used = ++cache_clock;
	if (entry->context != NULL)
	{
		CompatFiles files = compat_rel_files(index);

		if (entry->outdated || entry->config != config ||
			memcmp(&files, &entry->files, sizeof(CompatFiles)) != 0 ||
			analyzer_memory(entry->analyzer) > MAX_ANALYZER_MEMORY)
			drop_analyzer(entry);
		else if (entry->doubtful)
		{
			entry->doubtful = false;
			meta = search_read_meta(index);
			if (meta->restore_owner != entry->restore_owner)
				drop_analyzer(entry);
		}
	}
	if (entry->context == NULL)
	{
		/* What is invalidated from here on counts. */
		entry->doubtful = entry->outdated = false;
		if (meta == NULL)
			meta = search_read_meta(index);
		make_analyzer(entry, index, meta);
	}
	if (meta != NULL)
		pfree(meta);
	return entry->analyzer;
}
