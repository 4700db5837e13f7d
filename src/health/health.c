/*
 * health.c
 *		Runs the checks and returns what they found.
 *
 * Each check runs in a subtransaction of its own: one that fails is unknown,
 * and the others go on.  All of them run as the caller, with search_path
 * pinned, a short lock_timeout, and without what makes short queries long
 * (compilation, parallel workers, plans of their own for each threshold).
 * In a subtransaction the server answers a recovery conflict on a standby by
 * ending the session, not the statement: what probes a standby must be ready to
 * connect again.
 */
#include "pgopt.h"

#include <unistd.h>

#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "storage/fd.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "compat.h"
#include "core.h"
#include "health.h"
#include "relations.h"
#include "window.h"

PG_FUNCTION_INFO_V1(pgopt_run_checks);

/* Columns of pgopt.run_checks(). */
enum
{
	COL_CHECK,
	COL_COMPONENT,
	COL_STATE,
	COL_REASON,
	COL_SEVERITY,
	COL_OBJECT,
	COL_MESSAGE,
	COL_EVIDENCE,
	COL_THRESHOLD,
	COL_SINCE,
	COL_REMEDY,
	COL_REMEDY_LOCK,
	COL_REFERENCE,
	COL_FAMILY,
	COL_WEIGHT,
	COL_COMPONENT_WEIGHT,
	COLUMNS
};

/* Columns of a check's query. */
enum
{
	QUERY_SEVERITY = 1,
	QUERY_OBJECT,
	QUERY_MESSAGE,
	QUERY_EVIDENCE,
	QUERY_SINCE,
	QUERY_REMEDY,
	QUERY_REMEDY_LOCK,
	QUERY_COLUMNS = QUERY_REMEDY_LOCK
};

/* Counters of more than this many seconds are no evidence about now. */
#define MAX_LIFETIME_S (24 * 3600)

/* The components and their weights in the overall score: what can lose data or stop the site weighs most. */
#define COMPONENT(name, weight)                              \
	{                                                        \
#name, weight, checks_##name, &checks_##name##_count \
	}

static const HealthComponent components[] = {
	COMPONENT(pgopt, 1.0),
	COMPONENT(matviews, 1.0),
	COMPONENT(activity, 1.5),
	COMPONENT(wraparound, 2.0),
	COMPONENT(backup, 1.5),
	COMPONENT(replication, 1.5),
	COMPONENT(disk, 1.5),
	COMPONENT(pools, 1.0),
	COMPONENT(vacuum, 1.0),
	COMPONENT(bloat, 1.0),
	COMPONENT(indexes, 1.0),
	COMPONENT(statistics, 0.5),
	COMPONENT(schema, 1.0),
	COMPONENT(integrity, 2.0),
	COMPONENT(load, 1.0),
	COMPONENT(settings, 1.5),
	COMPONENT(security, 1.0),
};

/* A plan for each check that has a query, made when it first runs. */
static SPIPlanPtr **plans = NULL;

void
health_init(void)
{
	for (int i = 0; i < lengthof(components); i++)
		for (int j = 0; j < *components[i].count; j++)
			for (int k = 0; k < MAX_THRESHOLDS; k++)
				if (components[i].checks[j].thresholds[k] != NULL)
					threshold_define(components[i].checks[j].thresholds[k]);
}

/* "pgopt.idle_in_transaction_warning = 5min, pgopt.idle_in_transaction_critical = 15min" */
static char *
threshold_text(const HealthCheck *check)
{
	StringInfoData text;

	if (check->thresholds[0] == NULL)
		return NULL;
	initStringInfo(&text);
	for (int i = 0; i < MAX_THRESHOLDS && check->thresholds[i] != NULL; i++)
	{
		const Threshold *threshold = check->thresholds[i];
		char *name = psprintf("pgopt.%s", threshold->name);

		appendStringInfo(&text,
						 "%s%s = %s%s",
						 i > 0 ? ", " : "",
						 name,
						 GetConfigOptionByName(name, NULL, false),
						 threshold->unit == UNIT_PERCENT ? " %" : "");
	}
	return text.data;
}

char *
health_json_string(const char *text)
{
	StringInfoData json;

	if (text == NULL)
		return "null"; /* a name that is gone by now */
	initStringInfo(&json);
	escape_json(&json, text);
	return json.data;
}

bool
health_may_call(HealthRun *run, const char *function)
{
	if (DatumGetBool(DirectFunctionCall2(has_function_privilege_name,
										 CStringGetTextDatum(function),
										 CStringGetTextDatum("EXECUTE"))))
		return true;
	run->unknown = psprintf("it needs %s: GRANT EXECUTE ON FUNCTION %s TO %s;",
							function,
							function,
							quote_identifier(GetUserNameFromId(GetUserId(), false)));
	return false;
}

/* The limit of a container; 0 where there is none. */
static double
container_memory(void)
{
	FILE *file = AllocateFile("/sys/fs/cgroup/memory.max", "r");
	double limit = 0;

	if (file == NULL)
		return 0;
	if (fscanf(file, "%lf", &limit) != 1)
		limit = 0; /* "max" */
	FreeFile(file);
	return limit;
}

double
health_machine_memory(void)
{
	double limit = container_memory();
	double memory = 0;

#ifdef _SC_PHYS_PAGES
	memory = (double) sysconf(_SC_PHYS_PAGES) * (double) sysconf(_SC_PAGESIZE);
#endif
	if (memory <= 0)
		return limit;
	return limit > 0 ? Min(limit, memory) : memory;
}

/* As far as the caller may see those that are there: without them it must not be run. */
char *
health_preload_remedy(const char *library)
{
	StringInfoData sql;
	List *names = NIL;
	ListCell *cell;

	if (!has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_SETTINGS))
		return psprintf("-- add '%s' to shared_preload_libraries; then restart", library);
	initStringInfo(&sql);
	appendStringInfoString(&sql, "ALTER SYSTEM SET shared_preload_libraries = ");
	if (shared_preload_libraries_string != NULL &&
		SplitDirectoriesString(pstrdup(shared_preload_libraries_string), ',', &names))
		foreach(cell, names)
			appendStringInfo(&sql, "%s, ", quote_literal_cstr((char *) lfirst(cell)));
	appendStringInfo(&sql, "'%s'; -- then restart", library);
	return sql.data;
}

Registry *
health_registry(HealthRun *run)
{
	MemoryContext old;

	if (run->registry != NULL)
		return run->registry;
	old = MemoryContextSwitchTo(run->context);
	run->db = database_state();
	run->registry = registry_load_evaluated(run->db);
	plan_make(run->registry, run->now);
	MemoryContextSwitchTo(old);
	return run->registry;
}

Relations *
health_relations(HealthRun *run)
{
	if (run->relations_failed)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the catalogs could not be read")));
	if (run->relations == NULL)
	{
		run->relations_failed = true;
		run->relations = relations_read(run->context);
		run->relations_failed = false;
	}
	return run->relations;
}

static void
put_row(HealthRun *run, const char *state, const char *reason, const Finding *finding)
{
	const HealthCheck *check = run->check;
	const char *texts[COLUMNS] = {
		[COL_CHECK] = check->id,
		[COL_COMPONENT] = run->component->name,
		[COL_STATE] = state,
		[COL_REASON] = reason,
		[COL_FAMILY] = check->family,
	};
	Datum values[COLUMNS] = {0};
	bool nulls[COLUMNS];

	if (finding != NULL)
	{
		texts[COL_SEVERITY] = finding->severity;
		texts[COL_OBJECT] = finding->object;
		texts[COL_MESSAGE] = finding->message;
		texts[COL_THRESHOLD] = threshold_text(check);
		texts[COL_REMEDY] = finding->remedy;
		texts[COL_REMEDY_LOCK] = finding->remedy_lock;
		texts[COL_REFERENCE] = check->reference;
	}
	for (int i = 0; i < COLUMNS; i++)
	{
		nulls[i] = (texts[i] == NULL);
		if (texts[i] != NULL)
			values[i] = CStringGetTextDatum(texts[i]);
	}
	if (finding != NULL && finding->evidence != NULL)
	{
		values[COL_EVIDENCE] = DirectFunctionCall1(jsonb_in, CStringGetDatum(finding->evidence));
		nulls[COL_EVIDENCE] = false;
	}
	if (finding != NULL && finding->since != 0)
	{
		values[COL_SINCE] = TimestampTzGetDatum(finding->since);
		nulls[COL_SINCE] = false;
	}
	values[COL_WEIGHT] = Float8GetDatum(check->weight);
	values[COL_COMPONENT_WEIGHT] = Float8GetDatum(run->component->weight);
	nulls[COL_WEIGHT] = nulls[COL_COMPONENT_WEIGHT] = false;
	tuplestore_putvalues(run->rsinfo->setResult, run->rsinfo->setDesc, values, nulls);
}

void
health_report(HealthRun *run, const Finding *finding)
{
	run->found++;
	put_row(run, "found", NULL, finding);
}

/* Reports the rows of SPI_tuptable. */
static void
report_rows(HealthRun *run)
{
	if (SPI_tuptable->tupdesc->natts != QUERY_COLUMNS)
		elog(ERROR,
			 "check %s: its query gives %d columns",
			 run->check->id,
			 SPI_tuptable->tupdesc->natts);
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		bool no_since;
		Datum since = pgopt_spi_value(row, QUERY_SINCE, &no_since);
		Finding finding = {
			.severity = pgopt_spi_text(row, QUERY_SEVERITY),
			.object = pgopt_spi_text(row, QUERY_OBJECT),
			.message = pgopt_spi_text(row, QUERY_MESSAGE),
			.evidence = pgopt_spi_text(row, QUERY_EVIDENCE),
			.since = no_since ? 0 : DatumGetTimestampTz(since),
			.remedy = pgopt_spi_text(row, QUERY_REMEDY),
			.remedy_lock = pgopt_spi_text(row, QUERY_REMEDY_LOCK),
		};

		if (finding.severity != NULL)
			health_report(run, &finding);
		else if (run->unknown == NULL)
			run->unknown = MemoryContextStrdup(run->context, finding.message);
	}
}

static int
threshold_params(const HealthCheck *check, Oid *types, Datum *values)
{
	int n = 0;

	for (; n < MAX_THRESHOLDS && check->thresholds[n] != NULL; n++)
	{
		types[n] = FLOAT8OID;
		values[n] = Float8GetDatum(threshold_value(check->thresholds[n]));
	}
	return n;
}

void
health_query(HealthRun *run, const char *query)
{
	Oid types[MAX_THRESHOLDS];
	Datum values[MAX_THRESHOLDS];
	int n = threshold_params(run->check, types, values);

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	(void) pgopt_spi_execute(query, n, types, values, NULL, true, SPI_OK_SELECT);
	report_rows(run);
	SPI_finish();
}

/* Runs the query of a check, planned once a session. */
static void
run_query(HealthRun *run)
{
	int component = run->component - components;
	int check = run->check - run->component->checks;
	Oid types[MAX_THRESHOLDS];
	Datum values[MAX_THRESHOLDS];
	int n = threshold_params(run->check, types, values);
	int result;

	if (plans == NULL)
		plans = MemoryContextAllocZero(TopMemoryContext, lengthof(components) * sizeof(*plans));
	if (plans[component] == NULL)
		plans[component] =
			MemoryContextAllocZero(TopMemoryContext, *run->component->count * sizeof(SPIPlanPtr));

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (plans[component][check] == NULL)
	{
		SPIPlanPtr plan = SPI_prepare(run->check->query, n, types);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "check %s: %s", run->check->id, SPI_result_code_string(SPI_result));
		plans[component][check] = plan;
	}
	result = SPI_execute_plan(plans[component][check], values, NULL, true, 0);
	if (result != SPI_OK_SELECT)
		elog(ERROR, "check %s: %s", run->check->id, SPI_result_code_string(result));
	report_rows(run);
	SPI_finish();
}

/* Why the caller, here, cannot be told; or NULL. */
static char *
hindrance(HealthRun *run)
{
	const HealthCheck *check = run->check;

	if (check->needs != NULL && !has_privs_of_role(GetUserId(), get_role_oid(check->needs, false)))
		return psprintf("it needs the privileges of %s: GRANT %s TO %s;",
						check->needs,
						check->needs,
						quote_identifier(GetUserNameFromId(GetUserId(), false)));
	if ((check->flags & CHECK_PRIMARY) != 0 && RecoveryInProgress())
		return "this is a standby: ask the primary";
	if ((check->flags & CHECK_DELTAS) != 0 && !pgopt_is_preloaded() &&
		!window_lifetime_is_short(MAX_LIFETIME_S))
		return "it compares counters over time, and pgopt is not in shared_preload_libraries";
	return NULL;
}

static void
check_now(void *arg)
{
	HealthRun *run = arg;

	run->unknown = hindrance(run);
	if (run->unknown == NULL && run->check->query != NULL)
		run_query(run);
	else if (run->unknown == NULL)
		run->check->run(run);
}

static void
run_check(HealthRun *run)
{
	MemoryContext context =
		AllocSetContextCreate(run->context, "pgopt health check", ALLOCSET_DEFAULT_SIZES);
	ErrorData *error;
	instr_time begun;
	instr_time took;

	run->found = 0;
	run->unknown = NULL;
	INSTR_TIME_SET_CURRENT(begun);

	MemoryContextSwitchTo(context);
	error = core_try(check_now, run, true);
	if (error != NULL)
		run->unknown = psprintf("the check failed: %s", error->message);

	/* What was found before it could not go on stands. */
	if (run->unknown != NULL && run->found == 0)
		put_row(run, "unknown", run->unknown, NULL);
	else if (run->found == 0)
		put_row(run, "ok", NULL, NULL);
	INSTR_TIME_SET_CURRENT(took);
	INSTR_TIME_SUBTRACT(took, begun);
	elog(DEBUG1, "check %s took %.3f ms", run->check->id, INSTR_TIME_GET_MILLISEC(took));
	MemoryContextSwitchTo(run->context);
	MemoryContextDelete(context);
}

/* Settings of the run, until its GUC nest level ends. */
static void
pin_settings(void)
{
	static const char *const settings[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"lock_timeout", "100ms"},
		{"jit", "off"},
		{"max_parallel_workers_per_gather", "0"},
		{"plan_cache_mode", "force_generic_plan"}, /* thresholds are no reason to plan again */
		{"bytea_output", "hex"},
		{"standard_conforming_strings", "on"},
		{"standard_conforming_strings", "on"},
	};

	for (int i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i][0],
								 settings[i][1],
								 PGC_USERSET,
								 PGC_S_SESSION,
								 GUC_ACTION_SAVE,
								 true,
								 0,
								 false);
}

/* pgopt.run_checks(mode): rows of all checks, or of those that a quick look asks for. */
Datum
pgopt_run_checks(PG_FUNCTION_ARGS)
{
	char *mode = text_to_cstring(PG_GETARG_TEXT_PP(0));
	HealthRun run = {0};
	MemoryContext old = CurrentMemoryContext;
	int nestlevel;

	if (strcmp(mode, "quick") == 0)
		run.quick = true;
	else if (strcmp(mode, "full") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown mode of a health check: \"%s\"", mode),
				 errhint("It is full, or quick for a probe every few seconds.")));

	InitMaterializedSRF(fcinfo, 0);
	run.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	run.now = GetCurrentTimestamp();
	run.context = AllocSetContextCreate(old, "pgopt health", ALLOCSET_DEFAULT_SIZES);
	pgstat_clear_snapshot();
	nestlevel = NewGUCNestLevel();
	pin_settings();
	MemoryContextSwitchTo(run.context);

	for (int i = 0; i < lengthof(components); i++)
		for (int j = 0; j < *components[i].count; j++)
		{
			CHECK_FOR_INTERRUPTS();
			run.component = &components[i];
			run.check = &components[i].checks[j];
			if (!run.quick || (run.check->flags & CHECK_QUICK) != 0)
				run_check(&run);
		}

	MemoryContextSwitchTo(old);
	AtEOXact_GUC(false, nestlevel);
	MemoryContextDelete(run.context);
	return (Datum) 0;
}
