/*
 * health.c
 *		Runs the checks and returns what they found.
 *
 * Each check runs in a subtransaction of its own: one that fails is unknown,
 * and the others go on.  Cost: the sum of the checks, plus one load of the
 * registry of managed views.
 */
#include "pgopt.h"

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "core.h"
#include "health.h"

PG_FUNCTION_INFO_V1(pgopt_run_checks);

static void
put_row(HealthRun *run, const char *state, const char *reason, const Finding *finding)
{
	const char *texts[13] = {run->check->id, run->check->component, state, reason};
	Datum values[13];
	bool nulls[13];

	if (finding != NULL)
	{
		texts[4] = finding->severity;
		texts[5] = finding->object;
		texts[6] = finding->message;
		texts[7] = finding->evidence;
		texts[8] = finding->threshold;
		texts[10] = finding->remedy;
		texts[11] = finding->remedy_lock;
		texts[12] = finding->reference;
	}
	for (int i = 0; i < lengthof(values); i++)
	{
		nulls[i] = (texts[i] == NULL);
		values[i] = (Datum) 0;
		if (texts[i] == NULL)
			continue;
		values[i] = i == 7 ? DirectFunctionCall1(jsonb_in, CStringGetDatum(texts[i]))
						   : CStringGetTextDatum(texts[i]);
	}
	if (finding != NULL && finding->since != 0)
	{
		values[9] = TimestampTzGetDatum(finding->since);
		nulls[9] = false;
	}
	tuplestore_putvalues(run->rsinfo->setResult, run->rsinfo->setDesc, values, nulls);
}

void
health_report(HealthRun *run, const Finding *finding)
{
	run->found++;
	put_row(run, "found", NULL, finding);
}

static void
run_check(HealthRun *run, const HealthCheck *check)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	run->check = check;
	run->found = 0;
	run->unknown = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		check->run(run);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		RollbackAndReleaseCurrentSubTransaction();
		FlushErrorState();
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			ReThrowError(error);
		run->unknown = psprintf("the check failed: %s", error->message);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;

	if (run->unknown != NULL)
		put_row(run, "unknown", run->unknown, NULL);
	else if (run->found == 0)
		put_row(run, "ok", NULL, NULL);
}

Datum
pgopt_run_checks(PG_FUNCTION_ARGS)
{
	HealthRun run = {0};

	InitMaterializedSRF(fcinfo, 0);
	run.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	run.now = GetCurrentTimestamp();
	run.db = database_state();
	run.registry = registry_load_evaluated(run.db);
	plan_make(run.registry, run.now);

	for (int i = 0; i < health_check_count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		run_check(&run, &health_checks[i]);
	}
	return (Datum) 0;
}
