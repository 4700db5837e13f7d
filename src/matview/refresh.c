/*
 * refresh.c
 *		Refreshes one view and records what the refresh saw.
 *
 * Order of events, on which correctness rests (see matview.h):
 *
 *	1. the generation of DDL, then what the view reads, by its definition now;
 *	2. all of it is counted from here on;
 *	3. the counters are read;
 *	4. a new snapshot is taken, and the view is refreshed with it;
 *	5. the sums of step 3 are written, in the same transaction.
 *
 * A view with a usable unique index is refreshed by the server's REFRESH
 * MATERIALIZED VIEW CONCURRENTLY.  Any other is built anew beside the old one
 * under ExclusiveLock, which readers do not notice, and swapped at the end:
 * REFRESH itself would hold AccessExclusiveLock while the query runs.  The
 * lock for the swap is asked for with pgopt.refresh_lock_timeout, several
 * times, before the work is given up.
 */
#include "pgopt.h"

#include "access/genam.h"
#include "access/multixact.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/cluster.h"
#include "commands/matview.h"
#include "commands/tablecmds.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "rewrite/rewriteHandler.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "core.h"
#include "matview.h"

#define SWAP_ATTEMPTS       6
#define FIRST_SWAP_PAUSE_MS 50

/* Failures are retried after this, doubled each time. */
#define FIRST_RETRY   (INT64CONST(5) * USECS_PER_SEC)
#define LONGEST_RETRY (INT64CONST(3600) * USECS_PER_SEC)

/* What the counters said before the snapshot was taken. */
typedef struct Baseline
{
	Dependencies *dependencies;
	ChangeSums sums;
	uint64 ddl_generation;
	uint64 lost;
	uint64 foreign;
	int64 reads;
	TimestampTz taken;
} Baseline;

const char *
refresh_mode_name(RefreshMode mode)
{
	return mode == REFRESH_CONCURRENT ? "concurrent" : "full";
}

/* Can REFRESH ... CONCURRENTLY use this index?  The server's own conditions. */
static bool
index_is_usable(Relation index)
{
	Form_pg_index form = index->rd_index;

	if (!form->indisunique || !form->indimmediate || !form->indisvalid ||
		index->rd_rel->relam != BTREE_AM_OID || form->indnatts == 0 ||
		RelationGetIndexPredicate(index) != NIL)
		return false;
	for (int i = 0; i < form->indnatts; i++)
		if (form->indkey.values[i] <= 0)
			return false;
	return true;
}

/* With nowait, an index that is locked counts as usable: nothing is said against the view then. */
static bool
has_usable_index(Relation rel, bool nowait)
{
	List *indexes = RelationGetIndexList(rel);
	ListCell *lc;
	bool found = false;

	foreach(lc, indexes)
	{
		Oid indexoid = lfirst_oid(lc);
		Relation index;

		if (nowait && !ConditionalLockRelationOid(indexoid, AccessShareLock))
		{
			found = true;
			continue;
		}
		index = index_open(indexoid, nowait ? NoLock : AccessShareLock);
		found = found || index_is_usable(index);
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	return found;
}

/*
 * Applies the settings that were in force when the view was put under
 * management: what it shows must not depend on who refreshes it.  A setting
 * that is gone is no reason not to refresh.
 */
static void
apply_pinned_settings(ArrayType *settings)
{
	Datum *elements;
	int nelements;

	if (settings == NULL)
		return;
	deconstruct_array(settings, TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &nelements);
	for (int i = 0; i < nelements; i++)
	{
		char *name = TextDatumGetCString(elements[i]);
		char *value = strchr(name, '=');

		if (value == NULL)
			continue;
		*value++ = '\0';
		if (strcmp(name, "search_path") == 0 && !COMPAT_REFRESH_USES_SEARCH_PATH)
			continue;
		(void) set_config_option(
			name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, WARNING, false);
	}
}

static ArrayType *
load_pinned_settings(Oid matview)
{
	PgoptSpi spi;
	Oid types[] = {OIDOID};
	Datum values[] = {ObjectIdGetDatum(matview)};
	MemoryContext caller = CurrentMemoryContext;
	ArrayType *settings = NULL;
	bool isnull;

	pgopt_spi_begin(&spi);
	if (pgopt_spi_execute("SELECT settings FROM pgopt.matview WHERE view = $1",
						  1,
						  types,
						  values,
						  NULL,
						  true,
						  SPI_OK_SELECT) > 0)
	{
		Datum value = pgopt_spi_value(0, 1, &isnull);

		if (!isnull)
		{
			MemoryContext old = MemoryContextSwitchTo(caller);

			settings = DatumGetArrayTypePCopy(value);
			MemoryContextSwitchTo(old);
		}
	}
	pgopt_spi_end(&spi);
	return settings;
}

/* Scans of the view so far, those of this backend that are not reported yet included. */
static int64
count_reads(Relation rel)
{
	List *relids = lcons_oid(RelationGetRelid(rel), RelationGetIndexList(rel));
	ListCell *lc;
	int64 reads = 0;

	foreach(lc, relids)
	{
		PgStat_StatTabEntry *entry = pgstat_fetch_stat_tabentry(lfirst_oid(lc));
		PgStat_TableStatus *pending = find_tabstat_entry(lfirst_oid(lc));

		if (entry != NULL)
			reads += compat_tabentry_scans(entry);
		if (pending != NULL)
			reads += compat_tabstat_scans(pending);
	}
	return reads;
}

static void
take_baseline(Oid matview, DatabaseState *db, Baseline *baseline)
{
	TableCounters *own;

	memset(baseline, 0, sizeof(Baseline));
	if (db != NULL)
	{
		/* Definitions that are being committed now: the next look at them is needed anyway. */
		baseline->ddl_generation = pg_atomic_read_u64(&db->ddl_generation);
		pg_read_barrier();
		if (pg_atomic_read_u32(&db->ddl_in_flight) > 0)
			baseline->ddl_generation = 0;
	}
	baseline->dependencies = dependencies_resolve(matview, false);
	baseline->taken = GetCurrentTimestamp();
	if (db == NULL)
		return;

	for (int i = 0; i < baseline->dependencies->nrelids; i++)
		(void) counters_claim(baseline->dependencies->relids[i]);
	own = counters_claim(matview);

	baseline->lost = database_lost(db);
	baseline->foreign = own ? pg_atomic_read_u64(&own->foreign) : 0;
	counters_sum(baseline->dependencies->relids, baseline->dependencies->nrelids, &baseline->sums);
	tracker_add_own_changes(
		baseline->dependencies->relids, baseline->dependencies->nrelids, &baseline->sums);
}

/* Runs the view's query into a new heap. Returns the rows. */
static uint64
fill_heap(Query *definition, Oid heap)
{
	List *rewritten;
	Query *query = copyObject(definition);
	PlannedStmt *plan;
	QueryDesc *desc;
	uint64 rows;

	AcquireRewriteLocks(query, true, false);
	rewritten = QueryRewrite(query);
	if (list_length(rewritten) != 1)
		elog(ERROR, "unexpected rewrite result for a materialized view");
	CHECK_FOR_INTERRUPTS();

	plan = pg_plan_query(
		linitial_node(Query, rewritten), "REFRESH MATERIALIZED VIEW", CURSOR_OPT_PARALLEL_OK, NULL);
	PushCopiedSnapshot(GetActiveSnapshot());
	UpdateActiveSnapshotCommandId();
	desc = CreateQueryDesc(plan,
						   "REFRESH MATERIALIZED VIEW",
						   GetActiveSnapshot(),
						   InvalidSnapshot,
						   CreateTransientRelDestReceiver(heap),
						   NULL,
						   NULL,
						   0);
	ExecutorStart(desc, 0);
	compat_ExecutorRun(desc);
	rows = desc->estate->es_processed;
	ExecutorFinish(desc);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
	PopActiveSnapshot();
	return rows;
}

static void
set_lock_timeout(int milliseconds)
{
	char value[32];

	snprintf(value, sizeof(value), "%d", milliseconds);
	(void) set_config_option(
		"lock_timeout", value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/* Whoever has locked the view's row in pgopt.matview_state is waited for before readers are. */
static void
lock_state(Oid matview)
{
	PgoptSpi spi;
	Oid types[] = {OIDOID};
	Datum values[] = {ObjectIdGetDatum(matview)};

	pgopt_spi_begin(&spi);
	(void) pgopt_spi_execute("SELECT FROM pgopt.matview_state WHERE view = $1 FOR UPDATE",
							 1,
							 types,
							 values,
							 NULL,
							 false,
							 SPI_OK_SELECT);
	pgopt_spi_end(&spi);
}

/* Waits for the lock for as long as lock_timeout allows. Returns false when that was too short. */
static bool
try_swap_lock(Oid matview, bool last_attempt)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool locked = false;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		LockRelationOid(matview, AccessExclusiveLock);
		ReleaseCurrentSubTransaction();
		locked = true;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		RollbackAndReleaseCurrentSubTransaction();
		CurrentResourceOwner = owner;
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE || last_attempt)
			ReThrowError(error);
		FlushErrorState();
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return locked;
}

/*
 * Asks for the lock of the swap.  Readers that come while it waits in the
 * queue wait behind it, so each attempt is short and the pauses between them
 * let readers through.
 */
static void
lock_for_swap(Oid matview)
{
	long pause = FIRST_SWAP_PAUSE_MS;

	for (int attempt = 1; !try_swap_lock(matview, attempt == SWAP_ATTEMPTS); attempt++)
	{
		(void) WaitLatch(
			MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, pause, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		pause *= 2;
	}
}

/*
 * Builds the view anew and swaps.  The caller has ExclusiveLock.  This is
 * what the server's ExecRefreshMatView() does without CONCURRENTLY, but for
 * the moment at which readers are locked out.
 */
static uint64
refresh_full(Relation rel)
{
	Oid matview = RelationGetRelid(rel);
	Oid save_userid;
	int save_sec_context;
	int save_nestlevel;
	Oid heap;
	uint64 rows;

	if (rel->rd_rules == NULL || rel->rd_rules->numLocks != 1 ||
		list_length(rel->rd_rules->rules[0]->actions) != 1)
		elog(ERROR, "materialized view \"%s\" has no single rule", RelationGetRelationName(rel));
	CheckTableNotInUse(rel, "REFRESH MATERIALIZED VIEW");

	GetUserIdAndSecContext(&save_userid, &save_sec_context);
	SetUserIdAndSecContext(rel->rd_rel->relowner, save_sec_context | SECURITY_RESTRICTED_OPERATION);
	save_nestlevel = NewGUCNestLevel();
	compat_RestrictSearchPath();

	heap = make_new_heap(matview,
						 rel->rd_rel->reltablespace,
						 rel->rd_rel->relam,
						 rel->rd_rel->relpersistence,
						 ExclusiveLock);
	LockRelationOid(heap, AccessExclusiveLock);
	rows = fill_heap(linitial_node(Query, rel->rd_rules->rules[0]->actions), heap);

	/* the query may have called what sets it */
	set_lock_timeout(pgopt_refresh_lock_timeout);
	lock_state(matview);
	lock_for_swap(matview);
	CheckTableNotInUse(rel, "REFRESH MATERIALIZED VIEW");
	SetMatViewPopulatedState(rel, true);
	finish_heap_swap(matview,
					 heap,
					 false,
					 false,
					 true,
					 true,
					 RecentXmin,
					 ReadNextMultiXactId(),
					 rel->rd_rel->relpersistence);
	pgstat_count_truncate(rel);
	pgstat_count_heap_insert(rel, rows);

	AtEOXact_GUC(false, save_nestlevel);
	SetUserIdAndSecContext(save_userid, save_sec_context);
	return rows;
}

static char *
qualified_name(Relation rel)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
									  RelationGetRelationName(rel));
}

/* The view is locked, but not open here: REFRESH wants it for itself. */
static uint64
refresh_concurrently(const char *qualified_name)
{
	char *sql = psprintf("REFRESH MATERIALIZED VIEW CONCURRENTLY %s", qualified_name);
	int result;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	tracker_own_statement(true);
	result = SPI_execute(sql, false, 0);
	tracker_own_statement(false);
	if (result != SPI_OK_UTILITY)
		elog(ERROR, "REFRESH gave %s", SPI_result_code_string(result));
	SPI_finish();
	return 0;
}

static Datum
oid_array(const Oid *oids, int count)
{
	Datum *elements = palloc((count + 1) * sizeof(Datum));

	for (int i = 0; i < count; i++)
		elements[i] = ObjectIdGetDatum(oids[i]);
	return PointerGetDatum(
		construct_array(elements, count, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

static void
record_state(Oid matview, const Baseline *baseline, const RefreshResult *result)
{
	const Dependencies *dependencies = baseline->dependencies;
	PgoptSpi spi;
	Oid types[] = {OIDOID,
				   INT8OID,
				   OIDARRAYOID,
				   OIDARRAYOID,
				   INT8OID,
				   TEXTOID,
				   INT8OID,
				   INT8OID,
				   INT8OID,
				   INT8OID,
				   INT8OID,
				   INT8OID,
				   INT8OID,
				   TIMESTAMPTZOID,
				   INT8OID,
				   TEXTOID};
	Datum values[lengthof(types)];
	char nulls[lengthof(types) + 1];

	memset(nulls, ' ', sizeof(nulls));
	nulls[lengthof(types)] = '\0';
	values[0] = ObjectIdGetDatum(matview);
	values[1] = Int64GetDatum((int64) changes_epoch());
	values[2] = oid_array(dependencies->relids, dependencies->nrelids);
	values[3] = oid_array(dependencies->upstream, dependencies->nupstream);
	values[4] = Int64GetDatum((int64) dependencies->fingerprint);
	if (dependencies->untracked)
		values[5] = CStringGetTextDatum(dependencies->untracked);
	else
		nulls[5] = 'n';
	values[6] = Int64GetDatum((int64) baseline->sums.rows);
	values[7] = Int64GetDatum((int64) baseline->sums.truncated);
	values[8] = Int64GetDatum((int64) baseline->sums.unknown);
	values[9] = Int64GetDatum((int64) baseline->lost);
	values[10] = Int64GetDatum((int64) baseline->foreign);
	values[11] = Int64GetDatum((int64) baseline->ddl_generation);
	values[12] = Int64GetDatum(baseline->reads);
	values[13] = TimestampTzGetDatum(baseline->taken);
	values[14] = Int64GetDatum(result->duration);
	values[15] = CStringGetTextDatum(refresh_mode_name(result->mode));

	pgopt_spi_begin(&spi);
	(void) pgopt_spi_execute(
		"INSERT INTO pgopt.matview_state AS s"
		" (view, epoch, relations, upstream, fingerprint, untracked, seen_rows, seen_truncated,"
		"  seen_unknown, seen_lost, seen_foreign, ddl_generation, seen_reads, last_refresh,"
		"  last_duration_us, mean_duration_us, last_mode)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15, $16)"
		" ON CONFLICT (view) DO UPDATE SET"
		"  epoch = excluded.epoch, relations = excluded.relations, upstream = excluded.upstream,"
		"  fingerprint = excluded.fingerprint, untracked = excluded.untracked,"
		"  seen_rows = excluded.seen_rows, seen_truncated = excluded.seen_truncated,"
		"  seen_unknown = excluded.seen_unknown, seen_lost = excluded.seen_lost,"
		"  seen_foreign = excluded.seen_foreign, ddl_generation = excluded.ddl_generation,"
		"  seen_reads = excluded.seen_reads, last_refresh = excluded.last_refresh,"
		"  last_checked = NULL, last_duration_us = excluded.last_duration_us,"
		/* a moving mean over about the last eight refreshes */
		"  mean_duration_us = coalesce((7 * s.mean_duration_us + excluded.last_duration_us) / 8,"
		"                              excluded.last_duration_us),"
		"  last_mode = excluded.last_mode, last_error = NULL, last_sqlstate = NULL,"
		"  failures = 0, retry_at = NULL",
		lengthof(types),
		types,
		values,
		nulls,
		false,
		SPI_OK_INSERT);
	pgopt_spi_end(&spi);
}

static void
write_log(Oid matview, const char *source, const char *reason, const char *outcome,
		  const char *mode, int64 duration, int64 pending, const char *sqlstate,
		  const char *message)
{
	PgoptSpi spi;
	Oid types[] = {OIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT8OID, INT8OID, TEXTOID, TEXTOID};
	Datum values[lengthof(types)];
	char nulls[lengthof(types) + 1];
	const char *texts[] = {NULL, source, reason, outcome, mode, NULL, NULL, sqlstate, message};

	memset(nulls, ' ', sizeof(nulls));
	nulls[lengthof(types)] = '\0';
	for (int i = 0; i < lengthof(types); i++)
	{
		if (types[i] != TEXTOID)
			continue;
		if (texts[i])
			values[i] = CStringGetTextDatum(texts[i]);
		else
			nulls[i] = 'n';
	}
	values[0] = ObjectIdGetDatum(matview);
	values[5] = Int64GetDatum(duration);
	values[6] = Int64GetDatum(pending);
	if (pending < 0)
		nulls[6] = 'n';

	pgopt_spi_begin(&spi);
	(void) pgopt_spi_execute(
		"INSERT INTO pgopt.refresh_log"
		" (view, view_name, source, reason, outcome, mode, started_at, duration,"
		"  pending_changes, sqlstate, message)"
		" SELECT $1, coalesce((SELECT n.nspname || '.' || c.relname FROM pg_class c"
		"                        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1),"
		"                     (SELECT m.schema_name || '.' || m.view_name"
		"                        FROM pgopt.matview m WHERE m.view = $1), $1::text),"
		"        $2, $3, $4, $5, clock_timestamp() - $6 * interval '1 microsecond',"
		"        $6 * interval '1 microsecond', $7, $8, $9",
		lengthof(types),
		types,
		values,
		nulls,
		false,
		SPI_OK_INSERT);
	pgopt_spi_end(&spi);
}

/* Rows that were pending for this refresh, or -1 where that is not known. */
static int64
pending_for(Oid matview, const Baseline *baseline)
{
	PgoptSpi spi;
	Oid types[] = {OIDOID, INT8OID};
	Datum values[] = {ObjectIdGetDatum(matview), Int64GetDatum((int64) changes_epoch())};
	int64 pending = -1;
	bool isnull;

	pgopt_spi_begin(&spi);
	if (pgopt_spi_execute(
			"SELECT seen_rows FROM pgopt.matview_state WHERE view = $1 AND epoch = $2",
			2,
			types,
			values,
			NULL,
			true,
			SPI_OK_SELECT) > 0)
		pending =
			(int64) (baseline->sums.rows - (uint64) DatumGetInt64(pgopt_spi_value(0, 1, &isnull)));
	pgopt_spi_end(&spi);
	return pending;
}

void
matview_refresh(Oid matview, const char *source, const char *reason, RefreshResult *result)
{
	DatabaseState *db = database_attach();
	Baseline baseline;
	Relation rel;
	Oid save_userid;
	int save_sec_context;
	int save_nestlevel;
	ArrayType *settings;
	int64 pending;
	instr_time start;
	instr_time duration;

	INSTR_TIME_SET_CURRENT(start);
	settings = load_pinned_settings(matview);
	save_nestlevel = NewGUCNestLevel();
	set_lock_timeout(pgopt_refresh_lock_timeout);

	/* One refresh of a view at a time; readers do not notice this lock. */
	rel = try_relation_open(matview, ExclusiveLock);
	if (rel == NULL || rel->rd_rel->relkind != RELKIND_MATVIEW)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("materialized view with OID %u does not exist", matview)));

	GetUserIdAndSecContext(&save_userid, &save_sec_context);
	SetUserIdAndSecContext(rel->rd_rel->relowner, save_sec_context | SECURITY_LOCAL_USERID_CHANGE);
	apply_pinned_settings(settings);

	take_baseline(matview, db, &baseline);
	pending = pending_for(matview, &baseline);

	PushActiveSnapshot(GetTransactionSnapshot());
	result->mode = RelationIsPopulated(rel) && has_usable_index(rel, false) ? REFRESH_CONCURRENT
																			: REFRESH_FULL;
	if (result->mode == REFRESH_CONCURRENT)
	{
		char *name = qualified_name(rel);

		table_close(rel, NoLock);
		result->rows = refresh_concurrently(name);
		rel = table_open(matview, NoLock);
		if (strcmp(name, qualified_name(rel)) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("%s was renamed while it was refreshed", name)));
	}
	else
		result->rows = refresh_full(rel);
	PopActiveSnapshot();
	baseline.reads = count_reads(rel);
	table_close(rel, NoLock);

	INSTR_TIME_SET_CURRENT(duration);
	INSTR_TIME_SUBTRACT(duration, start);
	result->duration = INSTR_TIME_GET_MICROSEC(duration);

	SetUserIdAndSecContext(save_userid, save_sec_context);

	/*
	 * Under an isolation level with one snapshot for the whole transaction,
	 * the refresh saw less than the counters: then it is recorded as a refresh
	 * of unknown content.
	 */
	if (IsolationUsesXactSnapshot())
		baseline.foreign--;
	else
		tracker_own_refresh(matview);
	record_state(matview, &baseline, result);
	write_log(matview,
			  source,
			  reason,
			  "refreshed",
			  refresh_mode_name(result->mode),
			  result->duration,
			  pending,
			  NULL,
			  NULL);
	tracker_note_state_change(matview);
	AtEOXact_GUC(false, save_nestlevel);
}

void
matview_note_failure(Oid matview, const char *source, const char *reason, int64 duration,
					 const ErrorData *error)
{
	PgoptSpi spi;
	Oid types[] = {OIDOID, TEXTOID, TEXTOID, INT8OID, INT8OID, BOOLOID};
	Datum values[lengthof(types)];
	const char *sqlstate = unpack_sql_state(error->sqlerrcode);
	char *message;
	int save_nestlevel = NewGUCNestLevel();

	message = error->detail ? psprintf("%s (%s)", error->message, error->detail)
							: pstrdup(error->message);
	set_lock_timeout(pgopt_refresh_lock_timeout);
	values[0] = ObjectIdGetDatum(matview);
	values[1] = CStringGetTextDatum(message);
	values[2] = CStringGetTextDatum(sqlstate);
	values[3] = Int64GetDatum(FIRST_RETRY);
	values[4] = Int64GetDatum(LONGEST_RETRY);

	/*
	 * An attempt that was noted before it began is this one.  A lock that
	 * could not be had is no failure of the view: it is tried again soon.
	 */
	values[5] = BoolGetDatum(error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE);
	pgopt_spi_begin(&spi);
	(void) pgopt_spi_execute(
		"INSERT INTO pgopt.matview_state AS s"
		" (view, last_error, last_sqlstate, failures, retry_at)"
		" VALUES ($1, $2, $3, CASE WHEN $6 THEN 0 ELSE 1 END,"
		"         clock_timestamp() + $4 * interval '1 microsecond')"
		" ON CONFLICT (view) DO UPDATE SET"
		"  failures = s.failures + CASE WHEN $6 THEN 0 ELSE 1 END"
		"             - CASE WHEN s.failures > 0 AND s.last_sqlstate IS NULL THEN 1 ELSE 0 END,"
		"  last_error = $2, last_sqlstate = $3,"
		"  retry_at = clock_timestamp() + interval '1 microsecond'"
		"           * CASE WHEN $6 THEN $4"
		"             ELSE least($5, $4 * power(2, least(greatest(s.failures - 1, 0), 20))) END",
		lengthof(types),
		types,
		values,
		NULL,
		false,
		SPI_OK_INSERT);
	pgopt_spi_end(&spi);
	write_log(matview, source, reason, "failed", NULL, duration, -1, sqlstate, message);
	tracker_note_state_change(matview);
	AtEOXact_GUC(false, save_nestlevel);
}

void
matview_lock(Oid matview)
{
	int save_nestlevel = NewGUCNestLevel();

	/* Long enough for the server to end an autovacuum of the view that is in the way. */
	set_lock_timeout(Max(pgopt_refresh_lock_timeout, 3 * DeadlockTimeout));
	LockRelationOid(matview, ExclusiveLock);
	AtEOXact_GUC(false, save_nestlevel);
}

void
matview_note_attempt(Oid matview)
{
	PgoptSpi spi;
	Oid types[] = {OIDOID, INT8OID, INT8OID, INT8OID};
	Datum values[] = {ObjectIdGetDatum(matview),
					  Int64GetDatum((int64) changes_epoch()),
					  Int64GetDatum(FIRST_RETRY),
					  Int64GetDatum(LONGEST_RETRY)};
	int save_nestlevel = NewGUCNestLevel();

	set_lock_timeout(pgopt_refresh_lock_timeout);
	pgopt_spi_begin(&spi);
	if (pgopt_spi_execute("SELECT FROM pgopt.matview_state WHERE view = $1 AND epoch = $2",
						  2,
						  types,
						  values,
						  NULL,
						  false,
						  SPI_OK_SELECT) == 0)
		(void) pgopt_spi_execute(
			"INSERT INTO pgopt.matview_state AS s (view, epoch, failures, last_error, retry_at)"
			" VALUES ($1, $2, 1, 'a refresh was begun and did not end',"
			"         clock_timestamp() + $3 * interval '1 microsecond')"
			" ON CONFLICT (view) DO UPDATE SET"
			"  failures = s.failures + 1, last_error = excluded.last_error, last_sqlstate = NULL,"
			"  retry_at = clock_timestamp()"
			"           + least($4, $3 * power(2, least(s.failures, 20))) * interval '1 microsecond'"
			" WHERE s.epoch <> $2",
			lengthof(types),
			types,
			values,
			NULL,
			false,
			SPI_OK_INSERT);
	pgopt_spi_end(&spi);
	AtEOXact_GUC(false, save_nestlevel);
}

void
matview_forget_attempt(Oid matview)
{
	PgoptSpi spi;
	Oid types[] = {OIDOID};
	Datum values[] = {ObjectIdGetDatum(matview)};

	pgopt_spi_begin(&spi);
	(void) pgopt_spi_execute(
		"UPDATE pgopt.matview_state SET failures = failures - 1, last_error = NULL, retry_at = NULL"
		" WHERE view IN (SELECT view FROM pgopt.matview_state WHERE view = $1"
		"                   AND failures > 0 AND last_sqlstate IS NULL FOR UPDATE SKIP LOCKED)",
		1,
		types,
		values,
		NULL,
		false,
		SPI_OK_UPDATE);
	pgopt_spi_end(&spi);
}

/* The log gets one row for a run of such findings: an idle database writes next to nothing. */
void
matview_note_unchanged(Oid matview, const char *source, const char *reason)
{
	PgoptSpi spi;
	Oid types[] = {OIDOID};
	Datum values[] = {ObjectIdGetDatum(matview)};
	bool first;

	pgopt_spi_begin(&spi);
	first = pgopt_spi_execute("SELECT FROM pgopt.matview_state"
							  " WHERE view = $1 AND last_checked IS NULL",
							  1,
							  types,
							  values,
							  NULL,
							  false,
							  SPI_OK_SELECT) > 0;
	/* A row that a refresh has locked is about to be written anyway. */
	(void) pgopt_spi_execute("UPDATE pgopt.matview_state SET last_checked = clock_timestamp()"
							 " WHERE view IN (SELECT view FROM pgopt.matview_state"
							 "                 WHERE view = $1 FOR UPDATE SKIP LOCKED)",
							 1,
							 types,
							 values,
							 NULL,
							 false,
							 SPI_OK_UPDATE);
	pgopt_spi_end(&spi);
	if (first)
		write_log(matview, source, reason, "unchanged", NULL, 0, 0, NULL, NULL);
}

int64
matview_trim_log(void)
{
	PgoptSpi spi;
	Oid types[] = {INT4OID};
	Datum values[] = {Int32GetDatum(pgopt_refresh_log_retention)};
	int64 rows;

	if (pgopt_refresh_log_retention == 0)
		return 0;
	pgopt_spi_begin(&spi);
	rows = (int64) pgopt_spi_execute(
		"DELETE FROM pgopt.refresh_log"
		" WHERE started_at < clock_timestamp() - make_interval(mins => $1)",
		1,
		types,
		values,
		NULL,
		false,
		SPI_OK_DELETE);
	pgopt_spi_end(&spi);
	return rows;
}

/*
 * The grouping columns of a matview are the key that its rows have; without
 * GROUP BY or DISTINCT, nothing says that any columns are one.
 */
static List *
key_columns(Relation rel)
{
	Query *query;
	List *clause;
	List *columns = NIL;
	ListCell *lc;

	if (rel->rd_rules == NULL || rel->rd_rules->numLocks != 1)
		return NIL;
	query = linitial_node(Query, rel->rd_rules->rules[0]->actions);
	if (query->setOperations != NULL || query->groupingSets != NIL)
		return NIL;
	clause = query->groupClause ? query->groupClause : query->distinctClause;
	foreach(lc, clause)
	{
		SortGroupClause *group = lfirst_node(SortGroupClause, lc);
		ListCell *target;
		char *column = NULL;

		foreach(target, query->targetList)
		{
			TargetEntry *tle = lfirst_node(TargetEntry, target);

			if (tle->ressortgroupref == group->tleSortGroupRef && !tle->resjunk)
				column =
					pstrdup(NameStr(TupleDescAttr(RelationGetDescr(rel), tle->resno - 1)->attname));
		}
		if (column == NULL)
			return NIL; /* grouped by something that it does not show */
		columns = lappend(columns, column);
	}
	return columns;
}

char *
matview_index_advice(Oid matview, bool nowait)
{
	Relation rel;
	StringInfoData sql;
	List *columns;
	ListCell *lc;
	const char *separator = "";

	if (nowait && !ConditionalLockRelationOid(matview, AccessShareLock))
		return NULL;
	rel = try_relation_open(matview, nowait ? NoLock : AccessShareLock);
	if (rel == NULL)
		return NULL;
	if (rel->rd_rel->relkind != RELKIND_MATVIEW || has_usable_index(rel, nowait))
	{
		relation_close(rel, AccessShareLock);
		return NULL;
	}

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE UNIQUE INDEX ON %s (", qualified_name(rel));
	columns = key_columns(rel);
	if (columns == NIL)
		appendStringInfoString(&sql, "...");
	foreach(lc, columns)
	{
		appendStringInfo(&sql, "%s%s", separator, quote_identifier(lfirst(lc)));
		separator = ", ";
	}
	appendStringInfoString(&sql, columns == NIL ? ") -- columns that identify a row" : ")");
	relation_close(rel, AccessShareLock);
	return sql.data;
}
