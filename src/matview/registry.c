/*
 * registry.c
 *		The managed views, read from pgopt's tables into one array.
 *
 * The server's worker keeps the array from cycle to cycle; SQL functions load
 * it once a call.  A view that was dropped stays configured under its name,
 * since a matview's definition can only be changed by dropping and creating
 * it again.
 */
#include "pgopt.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core.h"
#include "matview.h"

static const char *const strategy_names[] = {
	[STRATEGY_IMMEDIATE] = "immediate",
	[STRATEGY_SCHEDULED] = "scheduled",
	[STRATEGY_THRESHOLD] = "threshold",
	[STRATEGY_SMART] = "smart",
	[STRATEGY_MANUAL] = "manual",
};

bool
strategy_from_name(const char *name, Strategy *strategy)
{
	for (int i = 0; i < lengthof(strategy_names); i++)
	{
		if (pg_strcasecmp(name, strategy_names[i]) == 0)
		{
			*strategy = (Strategy) i;
			return true;
		}
	}
	return false;
}

const char *
strategy_name(Strategy strategy)
{
	return strategy_names[strategy];
}

/* Columns of the query below, in its order. */
enum
{
	COL_OID = 1,
	COL_SCHEMA,
	COL_NAME,
	COL_OWNER,
	COL_EXISTS,
	COL_POPULATED,
	COL_STRATEGY,
	COL_INTERVAL,
	COL_THRESHOLD,
	COL_PRIORITY,
	COL_INCREMENTAL,
	COL_MANAGED_SINCE,
	COL_SCAN_RELIDS,
	COL_HAS_STATE,
	COL_EPOCH,
	COL_RELIDS,
	COL_UPSTREAM,
	COL_FINGERPRINT,
	COL_UNTRACKED,
	COL_SEEN_ROWS,
	COL_SEEN_TRUNCATED,
	COL_SEEN_UNKNOWN,
	COL_SEEN_LOST,
	COL_SEEN_FOREIGN,
	COL_DDL_GENERATION,
	COL_SEEN_READS,
	COL_LAST_REFRESH,
	COL_LAST_CHECKED,
	COL_LAST_DURATION,
	COL_MEAN_DURATION,
	COL_LAST_MODE,
	COL_LAST_ERROR,
	COL_LAST_SQLSTATE,
	COL_FAILURES,
	COL_RETRY_AT
};

static const char *const load_sql =
	"SELECT CASE WHEN m.home = pgopt.home() THEN m.view ELSE 0::oid END, coalesce(n.nspname, m.schema_name)::text,"
	"       coalesce(c.relname, m.view_name)::text, coalesce(c.relowner, 0::oid),"
	"       c.oid IS NOT NULL, coalesce(c.relispopulated, false), m.strategy,"
	"       (extract(epoch FROM m.refresh_interval) * 1000000)::int8, m.threshold_changes,"
	"       m.priority, m.incremental, m.managed_since,"
	"       array(SELECT i.indexrelid FROM pg_index i WHERE i.indrelid = c.oid) || c.oid,"
	"       s.view IS NOT NULL, s.epoch, s.relations, s.upstream, s.fingerprint, s.untracked,"
	"       s.seen_rows, s.seen_truncated, s.seen_unknown, s.seen_lost, s.seen_foreign,"
	"       s.ddl_generation, s.seen_reads, s.last_refresh, s.last_checked, s.last_duration_us,"
	"       s.mean_duration_us, s.last_mode, s.last_error, s.last_sqlstate, s.failures, s.retry_at"
	"  FROM pgopt.matview m"
	"  LEFT JOIN pg_class c ON c.oid = m.view AND c.relkind = 'm' AND m.home = pgopt.home()"
	"  LEFT JOIN pg_namespace n ON n.oid = c.relnamespace"
	"  LEFT JOIN pgopt.matview_state s ON s.view = c.oid"
	" WHERE $1 IS NULL OR (m.view = ANY ($1) AND m.home = pgopt.home())"
	" ORDER BY 1";

static int64
get_int64(uint64 row, int column)
{
	bool isnull;
	Datum value = pgopt_spi_value(row, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

static char *
get_text(MemoryContext context, uint64 row, int column)
{
	char *text = pgopt_spi_text(row, column);

	return text ? MemoryContextStrdup(context, text) : NULL;
}

static Oid *
get_oids(MemoryContext context, uint64 row, int column, int *count)
{
	bool isnull;
	Datum value = pgopt_spi_value(row, column, &isnull);
	ArrayType *array;
	Datum *elements;
	bool *nulls;
	int nelements;
	Oid *oids;

	*count = 0;
	if (isnull)
		return NULL;
	array = DatumGetArrayTypeP(value);
	deconstruct_array(
		array, OIDOID, sizeof(Oid), true, TYPALIGN_INT, &elements, &nulls, &nelements);
	oids = MemoryContextAlloc(context, (nelements + 1) * sizeof(Oid));
	for (int i = 0; i < nelements; i++)
		if (!nulls[i])
			oids[(*count)++] = DatumGetObjectId(elements[i]);
	return oids;
}

static void
fill_view(MemoryContext context, ManagedView *view, uint64 row)
{
	bool isnull;
	char *strategy = pgopt_spi_text(row, COL_STRATEGY);

	view->oid = DatumGetObjectId(pgopt_spi_value(row, COL_OID, &isnull));
	view->schema = get_text(context, row, COL_SCHEMA);
	view->name = get_text(context, row, COL_NAME);
	view->owner = DatumGetObjectId(pgopt_spi_value(row, COL_OWNER, &isnull));
	view->exists = DatumGetBool(pgopt_spi_value(row, COL_EXISTS, &isnull));
	view->populated = DatumGetBool(pgopt_spi_value(row, COL_POPULATED, &isnull));
	if (!strategy_from_name(strategy, &view->strategy))
		elog(ERROR, "unknown strategy \"%s\" in pgopt.matview", strategy);
	view->interval = get_int64(row, COL_INTERVAL);
	view->threshold = get_int64(row, COL_THRESHOLD);
	view->priority = DatumGetInt32(pgopt_spi_value(row, COL_PRIORITY, &isnull));
	view->incremental = get_text(context, row, COL_INCREMENTAL);
	view->managed_since = (TimestampTz) get_int64(row, COL_MANAGED_SINCE);
	view->scan_relids = get_oids(context, row, COL_SCAN_RELIDS, &view->nscan_relids);

	view->has_state = DatumGetBool(pgopt_spi_value(row, COL_HAS_STATE, &isnull));
	if (!view->has_state)
		return;
	view->epoch = (uint64) get_int64(row, COL_EPOCH);
	view->relids = get_oids(context, row, COL_RELIDS, &view->nrelids);
	view->upstream = get_oids(context, row, COL_UPSTREAM, &view->nupstream);
	view->fingerprint = (uint64) get_int64(row, COL_FINGERPRINT);
	view->untracked = get_text(context, row, COL_UNTRACKED);
	view->seen_rows = (uint64) get_int64(row, COL_SEEN_ROWS);
	view->seen_truncated = (uint64) get_int64(row, COL_SEEN_TRUNCATED);
	view->seen_unknown = (uint64) get_int64(row, COL_SEEN_UNKNOWN);
	view->seen_lost = (uint64) get_int64(row, COL_SEEN_LOST);
	view->seen_foreign = (uint64) get_int64(row, COL_SEEN_FOREIGN);
	view->ddl_generation = (uint64) get_int64(row, COL_DDL_GENERATION);
	view->seen_reads = get_int64(row, COL_SEEN_READS);
	view->last_refresh = (TimestampTz) get_int64(row, COL_LAST_REFRESH);
	view->last_checked = (TimestampTz) get_int64(row, COL_LAST_CHECKED);
	view->last_duration = get_int64(row, COL_LAST_DURATION);
	view->mean_duration = get_int64(row, COL_MEAN_DURATION);
	view->last_mode = get_text(context, row, COL_LAST_MODE);
	view->last_error = get_text(context, row, COL_LAST_ERROR);
	view->last_sqlstate = get_text(context, row, COL_LAST_SQLSTATE);
	view->failures = DatumGetInt32(pgopt_spi_value(row, COL_FAILURES, &isnull));
	view->retry_at = (TimestampTz) get_int64(row, COL_RETRY_AT);
}

/* Runs the query for some views, or for all where there is no array. Returns the rows. */
static uint64
run_load(const Oid *views, int nviews)
{
	static SPIPlanPtr plan = NULL;
	Oid types[] = {OIDARRAYOID};
	Datum values[1] = {(Datum) 0};
	const char *nulls = views ? " " : "n";

	if (views != NULL)
	{
		Datum *elements = palloc(nviews * sizeof(Datum));

		for (int i = 0; i < nviews; i++)
			elements[i] = ObjectIdGetDatum(views[i]);
		values[0] = PointerGetDatum(
			construct_array(elements, nviews, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
	}
	return pgopt_spi_execute_kept(&plan, load_sql, 1, types, values, nulls, false, SPI_OK_SELECT);
}

Registry *
registry_load(MemoryContext context)
{
	PgoptSpi spi;
	uint64 rows;
	Registry *registry;

	registry = MemoryContextAllocZero(context, sizeof(Registry));
	registry->context = context;

	pgopt_spi_begin(&spi);
	rows = run_load(NULL, 0);
	registry->nviews = (int) rows;
	registry->views = MemoryContextAllocZero(context, (rows + 1) * sizeof(ManagedView));
	registry->by_oid = MemoryContextAllocZero(context, (rows + 1) * sizeof(ManagedView *));
	for (uint64 row = 0; row < rows; row++)
	{
		fill_view(context, &registry->views[row], row);
		registry->by_oid[row] = &registry->views[row];
	}
	pgopt_spi_end(&spi);
	return registry;
}

void
registry_reload(Registry *registry, const Oid *views, int nviews)
{
	PgoptSpi spi;
	uint64 rows;

	pgopt_spi_begin(&spi);
	rows = run_load(views, nviews);
	for (uint64 row = 0; row < rows; row++)
	{
		bool isnull;
		ManagedView *view =
			registry_find(registry, DatumGetObjectId(pgopt_spi_value(row, COL_OID, &isnull)));

		if (view == NULL)
			continue;
		memset(view, 0, sizeof(ManagedView));
		fill_view(registry->context, view, row);
	}
	pgopt_spi_end(&spi);
}

ManagedView *
registry_find(const Registry *registry, Oid oid)
{
	int low = 0;
	int high = registry->nviews - 1;

	while (low <= high)
	{
		int middle = (low + high) / 2;
		ManagedView *view = registry->by_oid[middle];

		if (view->oid == oid)
			return view;
		if (view->oid < oid)
			low = middle + 1;
		else
			high = middle - 1;
	}
	return NULL;
}

static Oid *
copy_oids(MemoryContext context, const Oid *oids, int count)
{
	Oid *copy = MemoryContextAlloc(context, (count + 1) * sizeof(Oid));

	memcpy(copy, oids, count * sizeof(Oid));
	return copy;
}

/* What a view reads that was never refreshed: no state says it yet. */
static void
resolve_new(Registry *registry, ManagedView *view, uint64 generation)
{
	MemoryContext scratch =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt definition", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(scratch);
	Dependencies *found = dependencies_resolve(view->oid, true);

	if (found != NULL)
	{
		view->relids = copy_oids(registry->context, found->relids, found->nrelids);
		view->nrelids = found->nrelids;
		view->upstream = copy_oids(registry->context, found->upstream, found->nupstream);
		view->nupstream = found->nupstream;
		view->untracked =
			found->untracked ? MemoryContextStrdup(registry->context, found->untracked) : NULL;
		view->resolved_at = generation;
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
}

/* Does the view still read what it read at its last refresh? */
static void
verify_view(Registry *registry, ManagedView *view, uint64 generation)
{
	MemoryContext scratch =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt definition", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(scratch);
	Dependencies *found = dependencies_resolve(view->oid, true);

	if (found != NULL && found->fingerprint == view->fingerprint)
	{
		view->ddl_generation = generation;
		if (registry->trusts_definitions)
			counters_set_verified(view->oid, generation, view->fingerprint);
	}
	else if (found != NULL)
		view->redefined = true;
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
}

void
registry_verify(Registry *registry, DatabaseState *db)
{
	uint64 generation = db ? pg_atomic_read_u64(&db->ddl_generation) : 0;

	/* While definitions are being committed, the evaluation calls all views uncertain. */
	bool in_flight = db == NULL || pg_atomic_read_u32(&db->ddl_in_flight) > 0;

	for (int i = 0; i < registry->nviews; i++)
	{
		ManagedView *view = &registry->views[i];

		CHECK_FOR_INTERRUPTS();
		if (!view->exists)
			continue;
		if (view->last_refresh == 0)
		{
			if (view->resolved_at != generation || generation == 0)
				resolve_new(registry, view, generation);
		}
		else if (in_flight || view->epoch != changes_epoch() ||
				 view->ddl_generation == generation || view->redefined)
			continue;
		else if (counters_is_verified(view->oid, generation, view->fingerprint))
			view->ddl_generation = generation;
		else
			verify_view(registry, view, generation);
	}
}

Registry *
registry_load_evaluated(DatabaseState *db)
{
	Registry *registry = registry_load(CurrentMemoryContext);

	registry_verify(registry, db);
	status_evaluate(registry, db, GetCurrentTimestamp());
	return registry;
}

/* Rows that somebody else has locked are left for the next time: the worker must not wait. */
void
registry_rebind(void)
{
	static SPIPlanPtr rebind = NULL;
	static SPIPlanPtr rename = NULL;
	static SPIPlanPtr forget = NULL;
	PgoptSpi spi;

	pgopt_spi_begin(&spi);
	/* dropped and created again, or restored from elsewhere: same name, other OID */
	(void) pgopt_spi_execute_kept(
		&rebind,
		"UPDATE pgopt.matview m SET view = f.found, home = pgopt.home()"
		"  FROM (SELECT DISTINCT ON (l.found) l.home, l.view, l.found"
		"          FROM (SELECT o.home, o.view, o.managed_since, c.oid AS found"
		"                  FROM pgopt.matview o"
		"                  JOIN pg_namespace n ON n.nspname = o.schema_name"
		"                  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = o.view_name"
		"                 WHERE c.relkind = 'm'"
		"                   AND (o.home <> pgopt.home()"
		"                        OR (c.oid <> o.view"
		"                            AND NOT EXISTS (SELECT FROM pg_class x"
		"                                             WHERE x.oid = o.view AND x.relkind = 'm')))"
		"                   AND NOT EXISTS (SELECT FROM pgopt.matview y"
		"                                    WHERE y.view = c.oid AND y.home = pgopt.home())"
		"                   FOR UPDATE OF o SKIP LOCKED) l"
		"         ORDER BY l.found, l.managed_since DESC) f"
		" WHERE m.view = f.view AND m.home = f.home",
		0,
		NULL,
		NULL,
		NULL,
		false,
		SPI_OK_UPDATE);
	/* renamed, or moved to another schema */
	(void) pgopt_spi_execute_kept(
		&rename,
		"UPDATE pgopt.matview m SET schema_name = f.nspname, view_name = f.relname"
		"  FROM (SELECT o.view, n.nspname, c.relname"
		"          FROM pgopt.matview o"
		"          JOIN pg_class c ON c.oid = o.view AND c.relkind = 'm' AND o.home = pgopt.home()"
		"          JOIN pg_namespace n ON n.oid = c.relnamespace"
		"         WHERE (o.schema_name, o.view_name) IS DISTINCT FROM (n.nspname, c.relname)"
		"           FOR UPDATE OF o SKIP LOCKED) f"
		" WHERE m.view = f.view AND m.home = pgopt.home()",
		0,
		NULL,
		NULL,
		NULL,
		false,
		SPI_OK_UPDATE);
	(void) pgopt_spi_execute_kept(
		&forget,
		"DELETE FROM pgopt.matview_state WHERE view IN"
		" (SELECT s.view FROM pgopt.matview_state s"
		"   WHERE NOT EXISTS (SELECT FROM pgopt.matview m"
		"                      WHERE m.view = s.view AND m.home = pgopt.home())"
		"     FOR UPDATE SKIP LOCKED)",
		0,
		NULL,
		NULL,
		NULL,
		false,
		SPI_OK_DELETE);
	pgopt_spi_end(&spi);
	CommandCounterIncrement();
}

List *
matview_unprepared(void)
{
	static SPIPlanPtr plan = NULL;
	MemoryContext caller = CurrentMemoryContext;
	PgoptSpi spi;
	List *views = NIL;
	uint64 count;
	bool isnull;

	pgopt_spi_begin(&spi);
	count =
		pgopt_spi_execute_kept(&plan,
							   "SELECT c.oid FROM pgopt.matview m JOIN pg_class c"
							   "    ON c.oid = m.view AND c.relkind = 'm' AND m.home = pgopt.home()"
							   "  LEFT JOIN pgopt.incremental_state s ON s.view = c.oid"
							   " WHERE m.incremental <> 'never' AND s.valid IS NOT TRUE",
							   0,
							   NULL,
							   NULL,
							   NULL,
							   true,
							   SPI_OK_SELECT);
	for (uint64 i = 0; i < count; i++)
	{
		Oid view = DatumGetObjectId(pgopt_spi_value(i, 1, &isnull));
		MemoryContext old = MemoryContextSwitchTo(caller);

		views = lappend_oid(views, view);
		MemoryContextSwitchTo(old);
	}
	pgopt_spi_end(&spi);
	return views;
}
