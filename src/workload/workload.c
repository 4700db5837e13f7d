/*
 * workload.c
 *		Settings of the room, and its functions.
 */
#include "pgopt.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "core.h"
#include "workload_internal.h"

PG_FUNCTION_INFO_V1(pgopt_workload);
PG_FUNCTION_INFO_V1(pgopt_workload_samples);
PG_FUNCTION_INFO_V1(pgopt_workload_status);
PG_FUNCTION_INFO_V1(pgopt_workload_reset);
PG_FUNCTION_INFO_V1(pgopt_workload_flush);

bool pgopt_workload_capture = true;
bool pgopt_workload_capture_constants = true;
double pgopt_workload_sample_rate = 1.0;
int pgopt_workload_slow = 1000;
int pgopt_workload_statements = 5000;
int pgopt_workload_memory = 4096;
int pgopt_workload_retention = 30 * 24 * 60;

static void
define_settings(void)
{
	DefineCustomBoolVariable("pgopt.workload_capture",
							 "Counts statements, and keeps some of their texts or parameters.",
							 "The index advisor reads them.",
							 &pgopt_workload_capture,
							 true,
							 PGC_SUSET,
							 0,
							 NULL,
							 NULL,
							 NULL);
	DefineCustomBoolVariable(
		"pgopt.workload_capture_constants",
		"Keeps statements with their constants and parameters.",
		"When off, texts are kept with parameters in their places, and no values, nor plans.",
		&pgopt_workload_capture_constants,
		true,
		PGC_SUSET,
		0,
		NULL,
		NULL,
		NULL);
	DefineCustomRealVariable("pgopt.workload_sample_rate",
							 "Share of executions that is looked at.",
							 "Counts and times are scaled up.",
							 &pgopt_workload_sample_rate,
							 1.0,
							 0.0,
							 1.0,
							 PGC_SUSET,
							 0,
							 NULL,
							 NULL,
							 NULL);
	DefineCustomIntVariable(
		"pgopt.workload_slow",
		"Executions that take longer are slow: now and then one is kept with its plan.",
		"Its rows are counted at every node; its times are not measured.",
		&pgopt_workload_slow,
		1000,
		1,
		INT_MAX,
		PGC_SUSET,
		GUC_UNIT_MS,
		NULL,
		NULL,
		NULL);
	DefineCustomIntVariable("pgopt.workload_retention",
							"How long the workload is kept.",
							"Zero keeps it until there is too much of it.",
							&pgopt_workload_retention,
							30 * 24 * 60,
							0,
							10 * 366 * 24 * 60,
							PGC_SIGHUP,
							GUC_UNIT_MIN,
							NULL,
							NULL,
							NULL);
	if (!process_shared_preload_libraries_in_progress)
		return;
	DefineCustomIntVariable("pgopt.workload_statements",
							"Number of statements that are counted in shared memory.",
							"In the whole server; the least used go. About 250 bytes each.",
							&pgopt_workload_statements,
							5000,
							100,
							1000000,
							PGC_POSTMASTER,
							0,
							NULL,
							NULL,
							NULL);
	DefineCustomIntVariable("pgopt.workload_memory",
							"Shared memory for samples that are not written yet.",
							NULL,
							&pgopt_workload_memory,
							4096,
							256,
							1024 * 1024,
							PGC_POSTMASTER,
							GUC_UNIT_KB,
							NULL,
							NULL,
							NULL);
}

void
workload_init(void)
{
	static const ShmemRoom room = {store_request, store_startup};

	define_settings();
	if (!process_shared_preload_libraries_in_progress)
		return;
	shmem_add_room(&room);
	capture_init();
}

/* --- functions ------------------------------------------------------------------------- */

static Datum
time_or_null(TimestampTz time, bool *isnull)
{
	*isnull = time == 0;
	return TimestampTzGetDatum(time);
}

static Datum
text_or_null(const char *text, bool *isnull)
{
	*isnull = text == NULL;
	return text != NULL ? CStringGetTextDatum(text) : (Datum) 0;
}

Datum
pgopt_workload(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	ListCell *cell;

	InitMaterializedSRF(fcinfo, 0);
	foreach(cell, workload_read(0))
	{
		WorkloadStatement *statement = lfirst(cell);
		Datum values[12];
		bool nulls[12] = {0};

		CHECK_FOR_INTERRUPTS();
		values[0] = Int64GetDatum(statement->queryid);
		values[1] = ObjectIdGetDatum(statement->userid);
		values[2] = DirectFunctionCall1(
			namein, CStringGetDatum(GetUserNameFromId(statement->userid, false)));
		values[3] = Int64GetDatum((int64) rint(statement->calls));
		values[4] = Float8GetDatum(statement->milliseconds);
		values[5] =
			Float8GetDatum(statement->calls > 0 ? statement->milliseconds / statement->calls : 0);
		values[6] = Int64GetDatum((int64) rint(statement->rows));
		values[7] = Int32GetDatum(statement->nsamples);
		values[8] = BoolGetDatum(statement->captured);
		values[9] = time_or_null(statement->first_seen, &nulls[9]);
		values[10] = time_or_null(statement->last_seen, &nulls[10]);
		values[11] = text_or_null(statement->text, &nulls[11]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* {"$1": "value"}: those that are known. */
static Datum
parameters_json(const WorkloadSample *sample)
{
	StringInfoData out;
	const char *comma = "";

	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	for (int i = 0; i < sample->nparams; i++)
	{
		if (!sample->param_known[i])
			continue;
		appendStringInfo(&out, "%s\"$%d\": ", comma, i + 1);
		if (sample->param_values[i] == NULL)
			appendStringInfoString(&out, "null");
		else
			escape_json(&out, sample->param_values[i]);
		comma = ", ";
	}
	appendStringInfoChar(&out, '}');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(out.data));
}

Datum
pgopt_workload_samples(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	ListCell *cell;

	InitMaterializedSRF(fcinfo, 0);
	foreach(cell, workload_read(PG_GETARG_INT64(0)))
	{
		WorkloadStatement *statement = lfirst(cell);

		for (int i = 0; i < statement->nsamples; i++)
		{
			WorkloadSample *sample = &statement->samples[i];
			Datum values[8];
			bool nulls[8] = {0};

			values[0] = TimestampTzGetDatum(sample->captured);
			values[1] = DirectFunctionCall1(
				namein, CStringGetDatum(GetUserNameFromId(statement->userid, false)));
			values[2] = CStringGetTextDatum(sample->query);
			values[3] = CStringGetTextDatum(sample->search_path);
			values[4] = parameters_json(sample);
			values[5] = Float8GetDatum(sample->milliseconds);
			values[6] = Int64GetDatum((int64) sample->rows);
			values[7] = BoolGetDatum(sample->plan != NULL);
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
	}
	return (Datum) 0;
}

/* Why nothing is captured; NULL where it is. */
static const char *
why_not(void)
{
	if (!store_ready())
		return "pgopt was not loaded when the server started";
	if (!pgopt_workload_capture)
		return "pgopt.workload_capture is off";
	if (!capture_query_ids())
		return "compute_query_id is off";
	if (pgopt_workload_sample_rate <= 0)
		return "pgopt.workload_sample_rate is 0";
	if (store_database() == NULL)
		return "too many databases are captured already";
	return NULL;
}

Datum
pgopt_workload_status(PG_FUNCTION_ARGS)
{
	Datum values[14];
	bool nulls[14] = {0};
	TupleDesc desc;
	WorkloadUsage usage = {0};
	WorkloadDatabase *database = store_database();
	const char *reason = why_not();

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE ||
		desc->natts != lengthof(values))
		elog(ERROR, "workload_status: wrong row type");
	if (store_ready())
		store_usage(&usage);
	values[0] = BoolGetDatum(reason == NULL);
	values[1] = text_or_null(reason, &nulls[1]);
	values[2] = BoolGetDatum(pgopt_workload_capture_constants);
	values[3] = time_or_null(workload_since(), &nulls[3]);
	values[4] =
		time_or_null(database ? (TimestampTz) pg_atomic_read_u64(&database->period) : 0, &nulls[4]);
	values[5] = time_or_null(database ? (TimestampTz) pg_atomic_read_u64(&database->written) : 0,
							 &nulls[5]);
	values[6] = Int64GetDatum(usage.entries);
	values[7] = Int64GetDatum(usage.evicted);
	values[8] = Int64GetDatum(usage.lost);
	values[9] = Int64GetDatum(usage.buffer_bytes);
	values[10] = Int64GetDatum(usage.buffer_size);
	values[11] = Int64GetDatum(usage.dropped);
	values[12] = Int64GetDatum(usage.long_texts);
	values[13] = Int64GetDatum(usage.failed);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

Datum
pgopt_workload_reset(PG_FUNCTION_ARGS)
{
	workload_reset();
	PG_RETURN_VOID();
}

Datum
pgopt_workload_flush(PG_FUNCTION_ARGS)
{
	pgopt_require_preload("writing the workload");
	workload_write(true);
	PG_RETURN_VOID();
}
