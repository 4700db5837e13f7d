/*
 * plan_cache.c
 *		Compiled plans, kept in this backend.
 *
 * Owns a hash table of plans by matview.  A plan is forgotten when a relation
 * that its definition reads is altered (relcache invalidation; ANALYZE and
 * VACUUM of one of them count as that), when a function that it calls is
 * replaced, or when a schema is renamed.
 *
 * A plan that was forgotten may be in use further up the stack: it lives until
 * the transaction ends.
 *
 * Locks: ACCESS SHARE on all that the definition reads, to the end of the
 * transaction.  Memory: CacheMemoryContext, at most MAX_PLANS plans; the one
 * that was used longest ago goes first.  Cost: a look-up, and a lock for each
 * relation.
 */
#include "pgopt.h"

#include "access/relation.h"
#include "access/xact.h"
#include "nodes/plannodes.h"
#include "optimizer/optimizer.h"
#include "storage/lmgr.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "incremental_private.h"

#define MAX_PLANS 64

typedef struct PlanEntry
{
	Oid matview;
	IncrementalPlan *plan;
	List *relids;    /* that it reads, itself included; in the plan's context */
	List *functions; /* of PlanInvalItem * */
	uint64 last_used;
	bool valid;
} PlanEntry;

static HTAB *plans;
static List *forgotten; /* contexts of plans, in CacheMemoryContext, until the transaction ends */
static uint64 uses;
static uint64 catalog_changes;

/* --- forgetting ------------------------------------------------------------------------ */

static void
relation_changed(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS status;
	PlanEntry *entry;

	hash_seq_init(&status, plans);
	while ((entry = hash_seq_search(&status)) != NULL)
		if (!OidIsValid(relid) || list_member_oid(entry->relids, relid))
			entry->valid = false;
}

/* hash 0 stands for all of the catalog. */
static bool
calls_function(const PlanEntry *entry, int cache, uint32 hash)
{
	ListCell *lc;

	foreach(lc, entry->functions)
	{
		const PlanInvalItem *item = lfirst(lc);

		if (item->cacheId == cache && (hash == 0 || item->hashValue == hash))
			return true;
	}
	return false;
}

static void
catalog_changed(Datum arg, int cache, uint32 hash)
{
	HASH_SEQ_STATUS status;
	PlanEntry *entry;

	catalog_changes++;
	hash_seq_init(&status, plans);
	while ((entry = hash_seq_search(&status)) != NULL)
		if (cache == NAMESPACEOID || calls_function(entry, cache, hash))
			entry->valid = false;
}

static void
transaction_ends(XactEvent event, void *arg)
{
	ListCell *lc;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	foreach(lc, forgotten)
		MemoryContextDelete(lfirst(lc));
	list_free(forgotten);
	forgotten = NIL;
}

static void
forget(PlanEntry *entry)
{
	MemoryContext old = MemoryContextSwitchTo(CacheMemoryContext);

	forgotten = lappend(forgotten, entry->plan->context);
	hash_search(plans, &entry->matview, HASH_REMOVE, NULL);
	MemoryContextSwitchTo(old);
}

void
plan_forget(Oid matview)
{
	PlanEntry *entry = plans != NULL ? hash_search(plans, &matview, HASH_FIND, NULL) : NULL;

	if (entry != NULL)
		entry->valid = false;
}

static void
forget_oldest(void)
{
	HASH_SEQ_STATUS status;
	PlanEntry *entry;
	PlanEntry *oldest = NULL;

	hash_seq_init(&status, plans);
	while ((entry = hash_seq_search(&status)) != NULL)
		if (oldest == NULL || entry->last_used < oldest->last_used)
			oldest = entry;
	forget(oldest);
}

/* --- keeping --------------------------------------------------------------------------- */

static void
initialize(void)
{
	HASHCTL control = {
		.keysize = sizeof(Oid), .entrysize = sizeof(PlanEntry), .hcxt = CacheMemoryContext};

	if (plans != NULL)
		return;
	plans = hash_create("pgopt plans", MAX_PLANS, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(PROCOID, catalog_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, catalog_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, catalog_changed, (Datum) 0);
	RegisterXactCallback(transaction_ends, NULL);
}

/* With the locks held, nothing more can happen to the relations. */
static bool
is_current(PlanEntry *entry)
{
	ListCell *lc;

	foreach(lc, entry->relids)
		LockRelationOid(lfirst_oid(lc), AccessShareLock);
	return entry->valid;
}

/* What the definition reads and calls; locks the relations. */
static void
find_dependencies(Oid matview, List **relids, List **functions)
{
	Relation rel = relation_open(matview, AccessShareLock);
	bool has_row_security;

	extract_query_dependencies((Node *) plan_definition(rel), relids, functions, &has_row_security);
	*relids = list_concat_unique_oid(list_make1_oid(matview), *relids);
	relation_close(rel, NoLock);
}

/* The plan, the lists, and all that was allocated for them; compiled in a context that an error takes away. */
static PlanEntry
compile(Oid matview)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt plan", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	PlanEntry entry = {.matview = matview};
	uint64 changes_before;

	find_dependencies(matview, &entry.relids, &entry.functions);
	changes_before = catalog_changes;
	entry.plan = plan_compile(matview);
	/* what stands in the way may go without a trace here: a right, an operator class */
	entry.valid = entry.plan->program != NULL && catalog_changes == changes_before;
	MemoryContextSwitchTo(old);
	return entry;
}

IncrementalPlan *
plan_get(Oid matview)
{
	PlanEntry *entry;
	PlanEntry compiled;

	initialize();
	entry = hash_search(plans, &matview, HASH_FIND, NULL);
	if (entry != NULL && is_current(entry))
	{
		entry->last_used = ++uses;
		return entry->plan;
	}

	compiled = compile(matview);
	compiled.last_used = ++uses;
	entry = hash_search(plans, &matview, HASH_FIND, NULL);
	if (entry != NULL)
		forget(entry);
	else if (hash_get_num_entries(plans) >= MAX_PLANS)
		forget_oldest();
	entry = hash_search(plans, &matview, HASH_ENTER, NULL);
	*entry = compiled;
	MemoryContextSetParent(compiled.plan->context, CacheMemoryContext);
	return compiled.plan;
}
