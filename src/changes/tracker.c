/*
 * tracker.c
 *		Counts what a transaction changed, when it commits.
 *
 * In a transaction callback at commit the server's own statistics of the
 * transaction are still there: rows inserted, updated and deleted per table
 * by all of its subtransactions that committed, and whether the table was
 * truncated.  They cover every way in which rows change (DML, COPY, CREATE
 * TABLE AS, cascades, logical replication), rolled back parts excluded.
 *
 * The transaction is visible to others before the callback at commit runs.
 * So the tables are marked as in flight in the callback before commit, and
 * the mark goes away after the counts were added, or at abort.
 *
 * Changes of system catalogs are counted by the server in the same way.  This
 * is how DDL that redefines what views read is noticed: no statement needs to
 * be parsed for it.  catalogs.c says what it means.
 *
 * Rules of this file: no error, no memory that can run out (the list of pins
 * is kept for the life of the backend), no lock but the partition locks of
 * counters.c.  Only before commit, where the transaction can still be taken
 * back, may catalogs.c look at the catalogs that it changed.
 */
#include "pgopt.h"

#include "access/transam.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "changes_internal.h"
#include "compat.h"
#include "core.h"

/* What the transaction in progress has marked as in flight. */
static TableCounters **pins = NULL;
static int npins = 0;
static int max_pins = 0;
static DatabaseState *ddl_pin = NULL;
static DatabaseState *lost_pin = NULL;

/*
 * What its DDL changed.  Others' caches learn of it after the callback at
 * commit, so it is announced, and the marks are taken away, after that.
 */
static bool ddl_announced = false;
static bool functions_announced = false;
static bool contents_announced = false;
static bool roles_announced = false;

static bool counts_were_off = false; /* track_counts was off at some time in it */
static bool contents_kept = false;   /* its DDL leaves alone what expressions yield */

/* Matviews noted in it, and in which subtransaction. */
typedef struct NotedView
{
	Oid matview;
	SubTransactionId subid;
} NotedView;

typedef struct NotedViews
{
	NotedView *views; /* kept for the life of the backend */
	int count;
	int room;
} NotedViews;

static bool alter_statement = false; /* a table, type or owner was altered in this transaction */
static bool foreign_refresh = false; /* a REFRESH that is not pgopt's was run in this transaction */
static NotedViews own_refreshes;     /* refreshed by pgopt itself */
static NotedViews state_changes;     /* whose row in pgopt.matview_state changed */

/* The gid that PREPARE TRANSACTION was given; a replication worker gives none. */
static char prepare_gid[GIDSIZE];

static ExecutorStart_hook_type prev_ExecutorStart = NULL;
static ProcessUtility_hook_type prev_ProcessUtility = NULL;

static void
note_view(NotedViews *noted, Oid matview)
{
	if (noted->views == NULL)
	{
		noted->room = 16;
		noted->views = MemoryContextAlloc(TopMemoryContext, noted->room * sizeof(NotedView));
	}
	else if (noted->count == noted->room)
	{
		noted->views = repalloc(noted->views, 2 * noted->room * sizeof(NotedView));
		noted->room *= 2;
	}
	noted->views[noted->count].matview = matview;
	noted->views[noted->count++].subid = GetCurrentSubTransactionId();
}

void
tracker_own_refresh(Oid matview)
{
	note_view(&own_refreshes, matview);
}

void
tracker_note_state_change(Oid matview)
{
	note_view(&state_changes, matview);
}

/* How often pgopt refreshed it in this transaction. */
static int
count_own_refreshes(Oid relid)
{
	int count = 0;

	for (int i = 0; i < own_refreshes.count; i++)
		if (own_refreshes.views[i].matview == relid)
			count++;
	return count;
}

static bool
is_own_refresh(Oid relid)
{
	return !foreign_refresh && count_own_refreshes(relid) > 0;
}

/*
 * Whatever takes these changes back takes back the refresh that saw them too.
 * Only a TRUNCATE later in the transaction may take them back alone, so what
 * was truncated is left out: the view is stale then.  A matview that pgopt
 * refreshed itself is the exception; see count_table_change() for a second
 * refresh of it.
 */
void
tracker_add_own_changes(const Oid *relids, int nrelids, ChangeSums *sums)
{
	if (nrelids == 0 || !TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return;
	for (PgStat_SubXactStatus *level =
			 pgstat_get_xact_stack_level(GetCurrentTransactionNestLevel());
		 level != NULL;
		 level = level->prev)
	{
		for (PgStat_TableXactStatus *trans = level->first; trans != NULL; trans = trans->next)
		{
			Oid relid = compat_tabstat_relid(trans->parent);

			if (bsearch(&relid, relids, nrelids, sizeof(Oid), oid_cmp) == NULL)
				continue;
			if (trans->truncdropped && !is_own_refresh(relid))
				sums->unknown++; /* never equal again, whatever is committed */
			sums->rows += trans->tuples_inserted + trans->tuples_updated + trans->tuples_deleted;
			if (trans->truncdropped)
				sums->truncated++;
		}
	}
}

static PgStat_TableXactStatus *
first_change(void)
{
	return pgstat_get_xact_stack_level(1)->first;
}

/* What its change of a system catalog means. */
static CatalogMeaning
meaning_of(const PgStat_TableXactStatus *trans)
{
	return catalog_meaning(trans, alter_statement, contents_kept);
}

static void
add_pin(DatabaseState *db, TableCounters *counters)
{
	if (npins == max_pins)
	{
		int size = max_pins == 0 ? 64 : max_pins * 2;
		TableCounters **grown = MemoryContextAllocExtended(
			TopMemoryContext, size * sizeof(TableCounters *), MCXT_ALLOC_NO_OOM);

		if (grown == NULL)
		{
			/* without the mark, readers must not trust the counts for good */
			counters_mark_unknown(db, counters, GetCurrentTimestamp());
			counters_unpin(counters);
			return;
		}
		if (pins != NULL)
		{
			memcpy(grown, pins, npins * sizeof(TableCounters *));
			pfree(pins);
		}
		pins = grown;
		max_pins = size;
	}
	pins[npins++] = counters;
}

/* Everything that this transaction will count, or make unknown, is marked as in flight. */
static void
mark_in_flight(DatabaseState *db)
{
	if (!pgstat_track_counts)
		counts_were_off = true;
	if (counts_were_off && lost_pin == NULL)
	{
		pg_atomic_fetch_add_u32(&db->in_flight, 1);
		lost_pin = db;
	}

	for (PgStat_TableXactStatus *trans = first_change(); trans != NULL; trans = trans->next)
	{
		Oid relid = compat_tabstat_relid(trans->parent);
		TableCounters *counters;

		if (!changed_something(trans))
			continue;
		if (relid < FirstNormalObjectId)
		{
			CatalogMeaning meaning = meaning_of(trans);

			if ((meaning == CATALOG_DEFINITIONS || meaning == CATALOG_FUNCTIONS) && ddl_pin == NULL)
			{
				pg_atomic_fetch_add_u32(&db->ddl_in_flight, 1);
				ddl_pin = db;
			}
			else if (meaning == CATALOG_CONTENTS && lost_pin == NULL)
			{
				pg_atomic_fetch_add_u32(&db->in_flight, 1);
				lost_pin = db;
			}
			continue;
		}
		counters = counters_pin(relid);
		if (counters != NULL)
			add_pin(db, counters);
	}
}

static void
release_marks(void)
{
	for (int i = 0; i < npins; i++)
		counters_unpin(pins[i]);
	npins = 0;
}

/* Announces DDL that was committed, once the caches of others can know of it. */
static void
tracker_release_callback(ResourceReleasePhase phase, bool isCommit, bool isTopLevel, void *arg)
{
	DatabaseState *db;

	if (phase != RESOURCE_RELEASE_AFTER_LOCKS || !isTopLevel)
		return;
	db = ddl_announced || contents_announced ? database_state() : NULL;

	if (functions_announced && db != NULL)
		pg_atomic_fetch_add_u64(&db->function_generation, 1);
	if (ddl_announced && db != NULL)
		pg_atomic_fetch_add_u64(&db->ddl_generation, 1);
	if (contents_announced && db != NULL)
		database_mark_lost(db, LOST_CATALOG);
	if (roles_announced)
		databases_redefine_all();
	if (ddl_pin != NULL)
		pg_atomic_fetch_sub_u32(&ddl_pin->ddl_in_flight, 1);
	if (lost_pin != NULL)
		pg_atomic_fetch_sub_u32(&lost_pin->in_flight, 1);
	ddl_pin = lost_pin = NULL;

	if (ddl_announced && db != NULL)
		database_wake_for_ddl(db);
	ddl_announced = functions_announced = contents_announced = roles_announced = false;
}

static void
end_transaction(void)
{
	counts_were_off = false;
	contents_kept = false;
	alter_statement = false;
	foreign_refresh = false;
	own_refreshes.count = 0;
	state_changes.count = 0;
	prepare_gid[0] = '\0';
}

/* May pgopt.track_all_tables count it?  Only permanent tables and matviews whose relcache entry is there. */
static bool
worth_counting(const PgStat_TableXactStatus *trans)
{
	Relation rel = trans->parent->relation;

	return pgopt_track_all_tables && rel != NULL &&
		   rel->rd_rel->relpersistence != RELPERSISTENCE_TEMP &&
		   (rel->rd_rel->relkind == RELKIND_RELATION || rel->rd_rel->relkind == RELKIND_MATVIEW);
}

/* Entry of a changed table: the pinned one when the lists still run in step. */
static TableCounters *
entry_of(const PgStat_TableXactStatus *trans, int *next_pin)
{
	Oid relid = compat_tabstat_relid(trans->parent);
	TableCounters *counters;

	if (*next_pin < npins && pins[*next_pin]->key.relid == relid)
		return pins[(*next_pin)++];
	counters = counters_find(MyDatabaseId, relid);
	if (counters == NULL && worth_counting(trans))
		counters = counters_enter_unregistered(relid);
	return counters;
}

static void
count_catalog_change(DatabaseState *db, const PgStat_TableXactStatus *trans)
{
	switch (meaning_of(trans))
	{
		case CATALOG_NOTHING:
			break;
		case CATALOG_FUNCTIONS:
			functions_announced = ddl_announced = true;
			break;
		case CATALOG_DEFINITIONS:
			ddl_announced = true;
			break;
		case CATALOG_CONTENTS:
			contents_announced = true;
			break;
		case CATALOG_ROLES:
			roles_announced = true;
			break;
		case CATALOG_EXTENSION:
			if (db != NULL)
			{
				pg_atomic_fetch_add_u64(&db->config_generation, 1);
				database_wake_worker(db);
			}
			launcher_request_probe(MyDatabaseId);
			break;
		case CATALOG_DATABASE:
			launcher_request_probe(InvalidOid);
			break;
	}
}

static void
count_table_change(DatabaseState *db, const PgStat_TableXactStatus *trans, int *next_pin)
{
	Oid relid = compat_tabstat_relid(trans->parent);
	TableCounters *counters;
	TableDelta delta;

	if (relid == pg_atomic_read_u32(&db->config_relid))
	{
		pg_atomic_fetch_add_u64(&db->config_generation, 1);
		database_wake_worker(db);
		return;
	}

	counters = entry_of(trans, next_pin);
	if (counters == NULL)
		return;
	delta.inserted = trans->tuples_inserted;
	delta.updated = trans->tuples_updated;
	delta.deleted = trans->tuples_deleted;
	delta.truncated = trans->truncdropped;
	/* A view that was refreshed between two refreshes of this one has seen other rows. */
	if (count_own_refreshes(relid) > 1)
		counters_mark_unknown(db, counters, GetCurrentTransactionStopTimestamp());
	if (!is_own_refresh(relid))
	{
		pg_atomic_fetch_add_u64(&counters->foreign, 1);
		if (foreign_refresh)
			database_push_state_change(db, relid); /* whether it is populated may have changed */
	}
	counters_add(db, counters, &delta, GetCurrentTransactionStopTimestamp());
}

static void
count_changes(DatabaseState *db)
{
	int next_pin = 0;

	for (PgStat_TableXactStatus *trans = first_change(); trans != NULL; trans = trans->next)
	{
		Oid relid = compat_tabstat_relid(trans->parent);

		if (!changed_something(trans))
			continue;
		if (relid < FirstNormalObjectId)
			count_catalog_change(db, trans);
		else if (db != NULL)
			count_table_change(db, trans, &next_pin);
	}

	if (db == NULL)
		return;
	if (counts_were_off || !pgstat_track_counts)
		database_mark_lost(db, LOST_TRACK_COUNTS);
	for (int i = 0; i < state_changes.count; i++)
		database_push_state_change(db, state_changes.views[i].matview);
	if (state_changes.count > 0)
		database_wake_worker(db);
}

/* The transaction was prepared: its tables stay in flight, on the account of a record. */
static void
record_prepared(DatabaseState *db, TransactionId xid)
{
	Oid relids[256];
	int nrelids = 0;
	bool ddl = (ddl_pin != NULL);
	bool all = (counts_were_off || lost_pin != NULL);
	char gid[GIDSIZE];

	for (PgStat_TableXactStatus *trans = first_change(); trans != NULL; trans = trans->next)
	{
		Oid relid = compat_tabstat_relid(trans->parent);

		if (!changed_something(trans))
			continue;
		if (relid < FirstNormalObjectId)
		{
			ddl = ddl || meaning_of(trans) != CATALOG_NOTHING;
			continue;
		}
		if (nrelids == lengthof(relids))
		{
			all = true;
			break;
		}
		relids[nrelids++] = relid;
	}
	strlcpy(gid, prepare_gid, GIDSIZE);
	prepared_record(db, xid, gid, all, ddl, relids, nrelids);
}

static void
tracker_xact_callback(XactEvent event, void *arg)
{
	bool wrote = TransactionIdIsValid(GetTopTransactionIdIfAny());
	DatabaseState *db = wrote ? database_state() : NULL;

	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			/* a database without state may get one before this transaction is announced in it */
			if (wrote)
				contents_kept = catalogs_keep_contents(first_change());
			if (db != NULL)
				mark_in_flight(db);
			break;

		case XACT_EVENT_COMMIT:
			if (wrote)
				count_changes(db);
			release_marks();
			end_transaction();
			break;

		case XACT_EVENT_PREPARE:
			if (db != NULL)
				record_prepared(db, GetTopTransactionIdIfAny());
			release_marks();
			end_transaction();
			break;

		case XACT_EVENT_ABORT:
			release_marks();
			end_transaction();
			break;

		default:
			break; /* parallel workers change nothing */
	}
}

static void
forget_from(NotedViews *noted, SubTransactionId subid)
{
	while (noted->count > 0 && noted->views[noted->count - 1].subid >= subid)
		noted->count--;
}

/*
 * A refresh that was rolled back is nobody's; one that follows it may be the
 * user's.  Subtransactions are numbered upwards, so what the aborted one and
 * its children did has at least its number.
 */
static void
tracker_subxact_callback(SubXactEvent event, SubTransactionId mySubid, SubTransactionId parentSubid,
						 void *arg)
{
	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	forget_from(&own_refreshes, mySubid);
	forget_from(&state_changes, mySubid);
}

static void
tracker_ExecutorStart(QueryDesc *queryDesc, int eflags)
{
	if (!pgstat_track_counts)
		counts_were_off = true;

	if (prev_ExecutorStart)
		prev_ExecutorStart(queryDesc, eflags);
	else
		standard_ExecutorStart(queryDesc, eflags);
}

static void
tracker_ProcessUtility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
					   ProcessUtilityContext context, ParamListInfo params,
					   QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	Node *parsetree = pstmt->utilityStmt;
	TransactionStmtKind kind;
	PreparedWatch watch;
	DatabaseState *db;

	if (!pgstat_track_counts)
		counts_were_off = true;

	switch (nodeTag(parsetree))
	{
		case T_RefreshMatViewStmt:
			foreign_refresh = true;
			break;
		case T_AlterTableStmt:
		case T_RenameStmt:
		case T_AlterOwnerStmt:
		case T_ReassignOwnedStmt:
		case T_AlterObjectSchemaStmt:
			alter_statement = true;
			break;
		default:
			break;
	}

	if (!IsA(parsetree, TransactionStmt) || database_state() == NULL)
	{
		next_ProcessUtility(prev_ProcessUtility,
							pstmt,
							queryString,
							readOnlyTree,
							context,
							params,
							queryEnv,
							dest,
							qc);
		return;
	}

	kind = castNode(TransactionStmt, parsetree)->kind;
	if (kind == TRANS_STMT_PREPARE)
		strlcpy(prepare_gid, castNode(TransactionStmt, parsetree)->gid, GIDSIZE);
	if (kind != TRANS_STMT_COMMIT_PREPARED && kind != TRANS_STMT_ROLLBACK_PREPARED)
	{
		next_ProcessUtility(prev_ProcessUtility,
							pstmt,
							queryString,
							readOnlyTree,
							context,
							params,
							queryEnv,
							dest,
							qc);
		return;
	}

	prepared_before_finish(castNode(TransactionStmt, parsetree)->gid, &watch);
	next_ProcessUtility(
		prev_ProcessUtility, pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
	db = database_state();
	if (db != NULL && kind == TRANS_STMT_COMMIT_PREPARED)
		prepared_after_commit(db, &watch);
	else if (db != NULL)
		prepared_after_rollback(db, &watch);
}

static void
changes_shmem_request(void)
{
	databases_shmem_request();
	counters_shmem_request();
	prepared_shmem_request();
}

static void
changes_shmem_startup(void)
{
	databases_shmem_startup();
	counters_shmem_startup();
	prepared_shmem_startup();
}

void
changes_init(void)
{
	static const ShmemRoom room = {changes_shmem_request, changes_shmem_startup};

	shmem_add_room(&room);
	RegisterXactCallback(tracker_xact_callback, NULL);
	RegisterResourceReleaseCallback(tracker_release_callback, NULL);
	RegisterSubXactCallback(tracker_subxact_callback, NULL);
	prev_ExecutorStart = ExecutorStart_hook;
	ExecutorStart_hook = tracker_ExecutorStart;
	prev_ProcessUtility = ProcessUtility_hook;
	ProcessUtility_hook = tracker_ProcessUtility;
}
