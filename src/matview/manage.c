/*
 * manage.c
 *		The SQL functions that put views under management and refresh them.
 *
 * Every one checks that the caller owns the view, and then works on pgopt's
 * tables as the owner of the extension.
 */
#include "pgopt.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "compat.h"
#include "core.h"
#include "incremental.h"
#include "matview.h"

PG_FUNCTION_INFO_V1(pgopt_manage);
PG_FUNCTION_INFO_V1(pgopt_unmanage);
PG_FUNCTION_INFO_V1(pgopt_unmanage_by_name);
PG_FUNCTION_INFO_V1(pgopt_refresh);
PG_FUNCTION_INFO_V1(pgopt_home);

/* Settings that can change what a query yields: kept per view when it is put under management. */
static const char *const pinned_settings[] = {
	"TimeZone",
	"DateStyle",
	"IntervalStyle",
	"default_text_search_config",
	"lc_time",
	"lc_numeric",
	"lc_monetary",
	"extra_float_digits",
	"bytea_output",
	"search_path",
};

void
matview_require_writable(const char *function)
{
	PreventCommandDuringRecovery(function);
	PreventCommandIfReadOnly(function);
}

static char *
qualified_name(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  get_rel_name(relid));
}

/* The matview that the caller named and owns. */
static Oid
own_matview(Oid relid)
{
	char relkind = get_rel_relkind(relid);

	if (relkind == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	if (relkind != RELKIND_MATVIEW)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a materialized view", get_rel_name(relid)),
				 errhint("pgopt refreshes what CREATE MATERIALIZED VIEW made.")));
	if (!compat_owns_relation(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_MATVIEW, get_rel_name(relid));
	return relid;
}

static Strategy
parse_strategy(const char *name)
{
	Strategy strategy;

	if (!strategy_from_name(name, &strategy))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown refresh strategy \"%s\"", name),
				 errhint("The strategies are immediate, scheduled, threshold, smart and manual.")));
	return strategy;
}

static IncrementalMode
parse_mode(const char *name)
{
	IncrementalMode mode;

	if (!incremental_mode_from_name(name, &mode))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown value for incremental: \"%s\"", name),
				 errhint("It is auto, always or never.")));
	return mode;
}

static void
check_interval(const Interval *interval)
{
	int64 span =
		interval->time + (interval->day + INT64CONST(30) * interval->month) * USECS_PER_DAY;

	if (span < MIN_INTERVAL_US || span > MAX_INTERVAL_US)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("refresh_interval is out of range"),
				 errdetail("It is %s; the range is 1 second to 366 days.",
						   DatumGetCString(
							   DirectFunctionCall1(interval_out, IntervalPGetDatum(interval))))));
}

static void
check_number(const char *what, int64 value, int64 low, int64 high)
{
	if (value < low || value > high)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s is out of range", what),
			 errdetail("It is " INT64_FORMAT "; the range is " INT64_FORMAT " to " INT64_FORMAT ".",
					   value,
					   low,
					   high)));
}

static Datum
current_settings(void)
{
	Datum elements[lengthof(pinned_settings)];
	int count = 0;

	for (int i = 0; i < lengthof(pinned_settings); i++)
	{
		const char *value = GetConfigOption(pinned_settings[i], true, false);

		if (value != NULL)
			elements[count++] = CStringGetTextDatum(psprintf("%s=%s", pinned_settings[i], value));
	}
	return PointerGetDatum(construct_array(elements, count, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Says what a user should know about a view that was just put under management. */
static void
advise(Oid matview, const Dependencies *dependencies)
{
	char *index = matview_index_advice(matview, false);

	if (index != NULL)
		ereport(
			NOTICE,
			(errmsg("readers of %s will wait for the end of each refresh", qualified_name(matview)),
			 errdetail(
				 "It has no unique index that REFRESH MATERIALIZED VIEW CONCURRENTLY could use."),
			 errhint("%s", index)));
	if (dependencies->untracked != NULL)
		ereport(
			NOTICE,
			(errmsg("changes of what %s reads cannot all be counted", qualified_name(matview)),
			 errdetail("%s.", dependencies->untracked),
			 errhint(
				 "It is refreshed when refresh_interval has passed, and is never called fresh.")));
	if (!pgopt_is_preloaded())
		ereport(
			WARNING,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("pgopt was not loaded when the server started: nothing refreshes %s by itself",
					qualified_name(matview)),
			 errhint(PGOPT_PRELOAD_HINT)));
}

static char *
as_sentence(const char *text)
{
	char *sentence = pstrdup(text);

	sentence[0] = pg_toupper((unsigned char) sentence[0]);
	return sentence;
}

/* Begins to capture what the view reads, or lets go of it. */
static void
set_incremental(Oid matview, IncrementalMode mode)
{
	char *reason;
	char *hint;
	PrepareResult result;

	if (mode == INCREMENTAL_NEVER)
	{
		incremental_forget(matview);
		return;
	}

	/* in snapshots that see what was just configured, and made */
	do
	{
		CommandCounterIncrement();
		PushCopiedSnapshot(GetActiveSnapshot());
		UpdateActiveSnapshotCommandId();
		result = matview_prepare_incremental(matview, &reason, &hint);
		PopActiveSnapshot();
	} while (result == PREPARE_MORE);
	if (result == PREPARE_DONE)
		return;
	ereport(mode == INCREMENTAL_ALWAYS ? ERROR : NOTICE,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s cannot be refreshed incrementally", qualified_name(matview)),
			 errdetail("%s.", as_sentence(reason)),
			 hint
				 ? errhint("%s", hint)
				 : errhint("SELECT * FROM pgopt_explain_refresh('%s');", qualified_name(matview))));
}

Datum
pgopt_home(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(
		cstring_to_text(psprintf(UINT64_FORMAT "/%u", GetSystemIdentifier(), MyDatabaseId)));
}

Datum
pgopt_manage(PG_FUNCTION_ARGS)
{
	Oid matview;
	Dependencies *dependencies;
	PgoptSpi spi;
	Oid types[] = {OIDOID, TEXTOID, INTERVALOID, INT8OID, INT4OID, TEXTARRAYOID, TEXTOID};
	Datum values[lengthof(types)];
	char nulls[] = "       ";

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("view must not be null")));
	matview_require_writable("pgopt_manage()");
	matview = own_matview(PG_GETARG_OID(0));
	if (!PG_ARGISNULL(2))
		check_interval(PG_GETARG_INTERVAL_P(2));
	if (!PG_ARGISNULL(3))
		check_number("threshold_changes", PG_GETARG_INT64(3), 1, INT64CONST(1000000000000));
	if (!PG_ARGISNULL(4))
		check_number("priority", PG_GETARG_INT32(4), MIN_PRIORITY, MAX_PRIORITY);

	values[0] = ObjectIdGetDatum(matview);
	for (int i = 1; i <= 4; i++)
	{
		values[i] = PG_GETARG_DATUM(i);
		if (PG_ARGISNULL(i))
			nulls[i] = 'n';
	}
	if (!PG_ARGISNULL(1))
		values[1] = CStringGetTextDatum(
			strategy_name(parse_strategy(text_to_cstring(PG_GETARG_TEXT_PP(1)))));
	values[5] = current_settings();
	if (PG_ARGISNULL(5))
		nulls[6] = 'n';
	else
		values[6] = CStringGetTextDatum(
			incremental_mode_name(parse_mode(text_to_cstring(PG_GETARG_TEXT_PP(5)))));
	registry_rebind();

	pgopt_spi_begin(&spi);
	(void) pgopt_spi_execute(
		"INSERT INTO pgopt.matview AS m"
		" (view, schema_name, view_name, strategy, refresh_interval, threshold_changes, priority,"
		"  settings, incremental, managed_by)"
		" SELECT $1, n.nspname, c.relname, coalesce($2, '" DEFAULT_STRATEGY "'),"
		"        coalesce($3, interval '30 minutes'), coalesce($4, 1000), coalesce($5, 5), $6,"
		"        coalesce($7, 'never'), session_user"
		"   FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1"
		" ON CONFLICT (home, view) DO UPDATE SET"
		"   strategy = coalesce($2, m.strategy),"
		"   refresh_interval = coalesce($3, m.refresh_interval),"
		"   threshold_changes = coalesce($4, m.threshold_changes),"
		"   priority = coalesce($5, m.priority),"
		"   incremental = coalesce($7, m.incremental)",
		lengthof(types),
		types,
		values,
		nulls,
		false,
		SPI_OK_INSERT);
	pgopt_spi_end(&spi);

	/* Counting starts here, not when the worker comes by. */
	dependencies = dependencies_resolve(matview, false);
	if (pgopt_is_preloaded() && database_attach() != NULL)
	{
		for (int i = 0; i < dependencies->nrelids; i++)
			(void) counters_claim(dependencies->relids[i]);
		launcher_request_probe(MyDatabaseId);
	}
	advise(matview, dependencies);
	if (!PG_ARGISNULL(5))
		set_incremental(matview, parse_mode(text_to_cstring(PG_GETARG_TEXT_PP(5))));
	PG_RETURN_VOID();
}

static bool
forget_view(Oid matview)
{
	PgoptSpi spi;
	Oid types[] = {OIDOID};
	Datum values[] = {ObjectIdGetDatum(matview)};
	bool found;

	pgopt_spi_begin(&spi);
	found = pgopt_spi_execute("DELETE FROM pgopt.matview WHERE view = $1 AND home = pgopt.home()",
							  1,
							  types,
							  values,
							  NULL,
							  false,
							  SPI_OK_DELETE) > 0;
	(void) pgopt_spi_execute("DELETE FROM pgopt.matview_state WHERE view = $1",
							 1,
							 types,
							 values,
							 NULL,
							 false,
							 SPI_OK_DELETE);
	pgopt_spi_end(&spi);
	incremental_forget(matview);
	return found;
}

Datum
pgopt_unmanage(PG_FUNCTION_ARGS)
{
	Oid matview;

	matview_require_writable("pgopt_unmanage()");
	matview = own_matview(PG_GETARG_OID(0));
	if (!forget_view(matview))
	{
		ereport(NOTICE, (errmsg("%s is not managed by pgopt", qualified_name(matview))));
		PG_RETURN_BOOL(false);
	}
	PG_RETURN_BOOL(true);
}

/*
 * The same by name, which also reaches a view that was dropped: its entry
 * belongs to whoever put it under management.
 */
Datum
pgopt_unmanage_by_name(PG_FUNCTION_ARGS)
{
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	List *names = textToQualifiedNameList(PG_GETARG_TEXT_PP(0));
	Oid matview;
	PgoptSpi spi;
	Oid types[] = {NAMEOID, NAMEOID, OIDOID};
	Datum values[3];
	char nulls[] = "   ";
	bool found;
	char *schema;
	char *relname;

	matview_require_writable("pgopt_unmanage()");
	matview = RangeVarGetRelid(makeRangeVarFromNameList(names), NoLock, true);
	if (OidIsValid(matview))
		PG_RETURN_DATUM(DirectFunctionCall1(pgopt_unmanage, ObjectIdGetDatum(matview)));

	DeconstructQualifiedName(names, &schema, &relname);
	values[0] = DirectFunctionCall1(namein, CStringGetDatum(relname));
	values[1] = schema ? DirectFunctionCall1(namein, CStringGetDatum(schema)) : (Datum) 0;
	if (schema == NULL)
		nulls[1] = 'n';
	values[2] = ObjectIdGetDatum(GetUserId());

	pgopt_spi_begin(&spi);
	found = pgopt_spi_execute(
				"DELETE FROM pgopt.matview"
				" WHERE view_name = $1 AND ($2 IS NULL OR schema_name = $2)"
				"   AND NOT EXISTS (SELECT FROM pg_class c"
				"                    WHERE c.oid = view AND home = pgopt.home())"
				"   AND EXISTS (SELECT FROM pg_roles r LEFT JOIN pg_roles m"
				"                 ON m.rolname = managed_by WHERE r.oid = $3"
				"                AND (r.rolsuper OR pg_has_role(r.oid, m.oid, 'MEMBER')))",
				3,
				types,
				values,
				nulls,
				false,
				SPI_OK_DELETE) > 0;
	pgopt_spi_end(&spi);
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("no materialized view \"%s\" is managed by pgopt", name)));
	PG_RETURN_BOOL(true);
}

/* --- refresh --------------------------------------------------------------- */

void
matview_put_outcome(ReturnSetInfo *rsinfo, Oid matview, const char *outcome, const char *mode,
					int64 duration, const char *message)
{
	Datum values[5];
	bool nulls[5] = {false};
	Interval *interval = palloc0(sizeof(Interval));

	interval->time = duration;
	values[0] = ObjectIdGetDatum(matview);
	values[1] = CStringGetTextDatum(outcome);
	if (mode)
		values[2] = CStringGetTextDatum(mode);
	nulls[2] = (mode == NULL);
	values[3] = IntervalPGetDatum(interval);
	if (message)
		values[4] = CStringGetTextDatum(message);
	nulls[4] = (message == NULL);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

void
matview_refresh_isolated(ReturnSetInfo *rsinfo, ManagedView *view, const char *source)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	RefreshResult result;
	ErrorData *volatile error = NULL;
	instr_time start;
	instr_time duration;

	INSTR_TIME_SET_CURRENT(start);
	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		matview_refresh(view->oid, source, view->due_reason, &result);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		RollbackAndReleaseCurrentSubTransaction();
		FlushErrorState();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;

	if (error == NULL)
	{
		matview_put_outcome(rsinfo,
							view->oid,
							"refreshed",
							refresh_mode_name(result.mode),
							result.duration,
							view->due_reason);
		return;
	}
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	INSTR_TIME_SET_CURRENT(duration);
	INSTR_TIME_SUBTRACT(duration, start);
	view->failed = true;
	matview_note_failure(
		view->oid, source, view->due_reason, INSTR_TIME_GET_MICROSEC(duration), error);
	matview_put_outcome(rsinfo,
						view->oid,
						"failed",
						NULL,
						INSTR_TIME_GET_MICROSEC(duration),
						psprintf("%s: %s", unpack_sql_state(error->sqlerrcode), error->message));
}

Datum
pgopt_refresh(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid matview;
	Registry *registry;
	ManagedView *view;

	matview_require_writable("pgopt_refresh()");
	matview = own_matview(PG_GETARG_OID(0));
	InitMaterializedSRF(fcinfo, 0);

	registry = registry_load_evaluated(pgopt_is_preloaded() ? database_attach() : NULL);
	view = registry_find(registry, matview);
	if (view == NULL)
	{
		/* one that was dropped and created again may not have been found yet */
		registry_rebind();
		registry = registry_load_evaluated(database_state());
		view = registry_find(registry, matview);
	}
	if (view == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s is not managed by pgopt", qualified_name(matview)),
				 errhint("SELECT pgopt_manage('%s');", qualified_name(matview))));
	plan_request(registry, view);

	/* What it reads comes first, where the caller may refresh that; its own error is the caller's. */
	while ((view = plan_next(registry, MAX_PRIORITY)) != NULL)
	{
		RefreshResult result;

		view->done = true;
		if (view->oid != matview && !compat_owns_relation(view->oid, GetUserId()))
			continue;
		matview_refresh(view->oid, "user", view->due_reason, &result);
		matview_put_outcome(rsinfo,
							view->oid,
							"refreshed",
							refresh_mode_name(result.mode),
							result.duration,
							view->due_reason);
	}
	return (Datum) 0;
}
