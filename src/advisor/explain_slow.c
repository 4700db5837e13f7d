/*
 * explain_slow.c
 *		pgopt_explain_slow(): what makes a statement slow, and what would help.
 *
 * The plan that is looked at is the best that is to be had: one that the
 * workload measured when the statement was slow; one that is measured now,
 * where the caller wants it run; else the estimate for a captured text, or for
 * any values where only pg_stat_statements knows the statement.
 *
 * Everything is planned, and run, as the user who ran the statement, in a
 * security-restricted operation, read only, in a subtransaction that is rolled
 * back.  Only what reads is run.
 *
 * Memory: the context of the call.
 *
 * Cost: two or three planner calls, and those of the advisor for one statement;
 * with run => true, the statement's own.
 */
#include "pgopt.h"

#include <math.h>

#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "portability/instr_time.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "plan_words.h"

PG_FUNCTION_INFO_V1(pgopt_explain_slow);
PG_FUNCTION_INFO_V1(pgopt_explain_slow_plan);
PG_FUNCTION_INFO_V1(pgopt_explain_slow_json);

#define EXPLAIN_SLOW_COLUMNS 8

/* --- EXPLAIN ---------------------------------------------------------------------- */

static char *
explain(PlannedStmt *plan, const AdvisorQuery *query, bool analyze, const instr_time *planning)
{
	ExplainState *es = NewExplainState();

	es->format = EXPLAIN_FORMAT_JSON;
	es->costs = true;
	es->analyze = analyze;
	es->buffers = analyze;
	es->timing = analyze;
	es->summary = analyze;
	plan->queryId = 0; /* it is not counted as an execution */
	ExplainBeginOutput(es);
	compat_ExplainOnePlan(plan, es, query->text, query->params, planning);
	ExplainEndOutput(es);
	return es->str->data;
}

PlanTree *
plan_explain_estimate(const AdvisorQuery *query, PlannedStmt **plan, double *cost)
{
	PlannedStmt *made;
	PlanTree *tree;

	made = statement_plan(query);
	if (cost != NULL)
		*cost = made->planTree->total_cost;
	tree = plan_json_parse(explain(made, query, false, NULL), made->rtable);
	if (plan != NULL)
		*plan = made;
	return tree;
}

static void
estimate(void *arg)
{
	PlanReview *review = arg;

	review->estimate = plan_explain_estimate(review->query, &review->plan, &review->cost);
}

/* --- running it --------------------------------------------------------------------- */

/* Volatile functions of the server's that change nothing. */
static const char *const harmless[] = {
	"random", "random_normal", "clock_timestamp", "timeofday", "gen_random_uuid", "pg_sleep"};

static bool
is_harmful(Oid function, void *context)
{
	char *name;

	if (func_volatile(function) != PROVOLATILE_VOLATILE)
		return false;
	name = get_func_name(function);
	if (name != NULL && get_func_namespace(function) == PG_CATALOG_NAMESPACE)
		for (int i = 0; i < lengthof(harmless); i++)
			if (strcmp(name, harmless[i]) == 0)
				return false;
	*(Oid *) context = function;
	return true;
}

static bool
calls_harmful(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (check_functions_in_node(node, is_harmful, context))
		return true;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, calls_harmful, context, 0);
	return expression_tree_walker(node, calls_harmful, context);
}

static bool
locks_rows(const PlannedStmt *plan)
{
	ListCell *cell;

	foreach(cell, plan->rowMarks)
		if (((PlanRowMark *) lfirst(cell))->strength != LCS_NONE)
			return true;
	return false;
}

/* An error unless it reads only, and all of its values are known. */
static void
check_may_run(const PlanReview *review)
{
	Oid function = InvalidOid;
	const char *why = NULL;
	const char *hint = "Leave out run to see the estimates.";

	if (review->plan == NULL)
		return;
	if (review->plan->commandType != CMD_SELECT)
		why = "It is not a SELECT.";
	else if (review->plan->hasModifyingCTE)
		why = "It has a WITH query that writes.";
	else if (locks_rows(review->plan))
		why = "It locks rows.";
	else if (statement_values_unknown(review->query))
		why = "The values of its parameters are not known.";
	else if (calls_harmful((Node *) review->query->query, &function))
	{
		why = psprintf("It calls the function %s, which is volatile and may write.",
					   format_procedure(function));
		hint = "If the function only reads, declare it STABLE; or leave out run to see the "
			   "estimates.";
	}
	if (why != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("statement " INT64_FORMAT " is not run", review->known->queryid),
				 errdetail_internal("%s", why),
				 errhint("%s", hint)));
}

static void
run_now(void *arg)
{
	PlanReview *review = arg;
	PlannedStmt *plan;
	instr_time start;
	instr_time planning;

	INSTR_TIME_SET_CURRENT(start);
	plan = statement_plan(review->query);
	INSTR_TIME_SET_CURRENT(planning);
	INSTR_TIME_SUBTRACT(planning, start);
	review->tree = plan_json_parse(explain(plan, review->query, true, &planning), plan->rtable);
}

/* --- the review ----------------------------------------------------------------------- */

/* That with a measured plan, else the slowest: the one that shows what is wrong. */
static int
telling_sample(const WorkloadStatement *known)
{
	int best = 0;

	for (int i = 1; i < known->nsamples; i++)
	{
		const WorkloadSample *sample = &known->samples[i];
		const WorkloadSample *other = &known->samples[best];

		if ((sample->plan != NULL) != (other->plan != NULL)
				? sample->plan != NULL
				: sample->milliseconds > other->milliseconds)
			best = i;
	}
	return best;
}

/* The same statement with that sample before the others; its normalised text for one where there is none. */
static WorkloadStatement *
with_sample_first(const WorkloadStatement *known, int sample)
{
	WorkloadStatement *copy = palloc(sizeof(WorkloadStatement));

	*copy = *known;
	if (known->nsamples == 0 && known->text != NULL)
	{
		copy->samples = palloc0(sizeof(WorkloadSample));
		copy->samples->query = known->text;
		copy->samples->search_path = statement_path_unknown(known->userid);
		copy->nsamples = 1;
		return copy;
	}
	copy->samples = palloc(Max(known->nsamples, 1) * sizeof(WorkloadSample));
	for (int i = 0; i < known->nsamples; i++)
		copy->samples[i] = known->samples[i == 0 ? sample : i <= sample ? i - 1 : i];
	return copy;
}

static void
report_unplannable(PlanReview *review, const char *why)
{
	PlanFinding *finding = plan_report(review, "not_planned", NAN);

	finding->what = psprintf(
		"the statement cannot be planned%s: %s", review->known->captured ? " any more" : "", why);
	plan_evidence_text(finding, "error", why);
	if (!review->known->captured)
		plan_remedy_add(finding,
						"only its normalised text is known: let it run again with "
						"pgopt.workload_capture on, so that a text that was sent is kept");
}

static void
prepare(PlanReview *review)
{
	List *failed = NIL;
	List *prepared;

	if (review->known->nsamples > 0)
		review->sample = &review->known->samples[0];
	prepared =
		statements_prepare(list_make1(unconstify(WorkloadStatement *, review->known)), &failed);
	if (prepared == NIL)
	{
		report_unplannable(review,
						   failed != NIL ? ((AdvisorStatement *) linitial(failed))->failure
						   : review->sample == NULL
							   ? "its text is not known"
							   : "it reads no table, or what it reads is not there outside "
								 "of a function");
		return;
	}
	review->statement = linitial(prepared);
	review->query = &review->statement->queries[0];
	/* the first that could be parsed */
	for (int i = 0; i < review->known->nsamples; i++)
		if (review->known->samples[i].query == review->query->text)
		{
			review->sample = &review->known->samples[i];
			break;
		}
	if (!statement_try(review->statement, estimate, review))
	{
		report_unplannable(review, review->statement->failure);
		review->plan = NULL;
		review->estimate = NULL;
		return;
	}
	plan_json_weigh(review->estimate);
	plan_conditions_collect(review);
}

static void
choose_tree(PlanReview *review, bool run)
{
	if (run && review->plan == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("statement " INT64_FORMAT " cannot be run", review->known->queryid),
				 errdetail_internal("%s", ((PlanFinding *) linitial(review->findings))->what)));
	if (run)
	{
		check_may_run(review);
		review->source = "run";
		if (!statement_try(review->statement, run_now, review))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("statement " INT64_FORMAT " could not be run: %s",
							review->known->queryid,
							review->statement->failure),
					 errhint("Leave out run to see the estimates.")));
	}
	else if (review->sample != NULL && review->sample->plan != NULL)
	{
		review->source = "measured";
		review->tree = plan_json_parse(review->sample->plan,
									   review->plan != NULL ? review->plan->rtable : NIL);
		if (review->tree->milliseconds == 0)
			review->tree->milliseconds = review->sample->milliseconds;
	}
	else
	{
		review->source = "estimated";
		review->tree = review->estimate;
		return;
	}
	plan_json_weigh(review->tree);
}

/* The first row: what is known of the statement. */
static PlanFinding *
describe(PlanReview *review)
{
	const WorkloadStatement *known = review->known;
	double calls = Max(known->calls, 1);
	char *user = GetUserNameFromId(known->userid, true);
	const char *plan;
	double best = review->cost;
	PlanFinding *finding;
	ListCell *cell;

	if (review->tree == NULL)
		plan = "there is no plan";
	else if (strcmp(review->source, "measured") == 0)
		plan = psprintf("the plan was measured at %s (%s)",
						timestamptz_to_str(review->sample->captured),
						plan_time(review->tree->milliseconds));
	else if (strcmp(review->source, "run") == 0)
		plan = psprintf("it was run now (%s)", plan_time(review->tree->milliseconds));
	else
		plan = psprintf(
			"the plan is estimated%s",
			statement_values_unknown(review->query) ? " for any values, since none are known" : "");
	finding = plan_report(review, "statement", NAN);
	finding->what = psprintf("%s %s, %s and %s each on average; %s",
							 plan_count(known->calls),
							 calls < 1.5 ? "call" : "calls",
							 plan_time(known->milliseconds / calls),
							 plan_rows_text(known->rows / calls),
							 plan);
	plan_evidence_text(finding, "role", user);
	plan_evidence_number(finding, "calls", known->calls);
	plan_evidence_number(
		finding, "mean_milliseconds", rint(1000 * known->milliseconds / calls) / 1000);
	plan_evidence_number(finding, "mean_rows", known->rows / calls);
	plan_evidence_text(finding, "plan", review->tree != NULL ? review->source : "none");
	if (review->tree != NULL && review->tree->milliseconds > 0)
		plan_evidence_number(finding, "plan_milliseconds", review->tree->milliseconds);
	plan_evidence_text(
		finding, "query", review->sample != NULL ? review->sample->query : known->text);
	foreach(cell, review->indexes)
		best = Min(best, ((PricedIndex *) lfirst(cell))->cost);
	if (review->plan != NULL)
		finding->cost_before = review->cost;
	if (best < review->cost)
		finding->cost_after = best;
	return finding;
}

/* Indexes that help, of tables of which nothing was said. */
static void
report_other_indexes(PlanReview *review)
{
	ListCell *cell;

	foreach(cell, review->indexes)
	{
		const PricedIndex *index = lfirst(cell);
		PlanFinding *finding;
		bool said = false;
		ListCell *other;

		foreach(other, review->findings)
		{
			const PlanFinding *reported = lfirst(other);

			said |= reported->remedy != NULL && strstr(reported->remedy, index->ddl) != NULL;
		}
		if (said)
			continue;
		finding = plan_report(review, "index_missing", plan_share_of(review, index->table));
		finding->relid = index->table;
		finding->what = psprintf("with another index on %s the statement is expected to cost %s "
								 "instead of %s",
								 get_rel_name(index->table),
								 plan_count(index->cost),
								 plan_count(review->cost));
		plan_evidence_text(finding, "table", get_rel_name(index->table));
		plan_evidence_number(finding, "bytes", rint(index->bytes));
		plan_remedy_add(finding, psprintf("%s;", index->ddl));
		finding->cost_before = review->cost;
		finding->cost_after = index->cost;
	}
}

/* That the statement is first, then what hurts most; what has no share comes last. */
static int
worst_first(const ListCell *a, const ListCell *b)
{
	const PlanFinding *x = lfirst(a);
	const PlanFinding *y = lfirst(b);
	bool nan_x = isnan(x->share);
	bool nan_y = isnan(y->share);

	if (nan_x != nan_y)
		return nan_x ? 1 : -1;
	if (!nan_x && x->share != y->share)
		return x->share > y->share ? -1 : 1;
	return strcmp(x->problem, y->problem);
}

static PlanReview *
review_statement(int64 queryid, bool run)
{
	PlanReview *review = palloc0(sizeof(PlanReview));
	List *workload = queryid != 0 ? workload_read(queryid) : NIL;
	const WorkloadStatement *known;
	PlanFinding *first;

	if (workload == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("statement " INT64_FORMAT " is not known", queryid),
				 errdetail("Neither was it captured in this database, nor does pg_stat_statements "
						   "know it."),
				 errhint("pgopt_workload() lists the statements that are known.")));
	known = linitial(workload);
	review->known = with_sample_first(known, telling_sample(known));
	prepare(review);
	choose_tree(review, run);
	if (review->tree != NULL)
	{
		if (review->plan != NULL)
			plan_price_candidates(review);
		plan_words_nodes(review);
		plan_words_conditions(review);
		plan_words_statement(review);
		plan_fold_partitions(review);
		report_other_indexes(review);
		if (review->findings == NIL)
			plan_report(review, "nothing_found", NAN)->what =
				"nothing in the plan stands out: what it takes, it takes for its rows";
	}
	list_sort(review->findings, worst_first);
	first = describe(review);
	review->findings = lcons(first, list_delete_last(review->findings));
	return review;
}

/* --- SQL ----------------------------------------------------------------------------------- */

static Datum
jsonb_of(const char *text)
{
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(text));
}

Datum
pgopt_explain_slow(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	PlanReview *review;
	ListCell *cell;
	int step = 0;

	InitMaterializedSRF(fcinfo, 0);
	review = review_statement(PG_GETARG_INT64(0), PG_GETARG_BOOL(1));
	foreach(cell, review->findings)
	{
		const PlanFinding *finding = lfirst(cell);
		Datum values[EXPLAIN_SLOW_COLUMNS];
		bool nulls[EXPLAIN_SLOW_COLUMNS] = {0};

		values[0] = Int32GetDatum(step++);
		values[1] = CStringGetTextDatum(finding->problem);
		values[2] = Float4GetDatum((float4) finding->share);
		nulls[2] = isnan(finding->share);
		values[3] = CStringGetTextDatum(finding->what);
		values[4] = jsonb_of(psprintf("{%s}", finding->evidence.data));
		nulls[5] = finding->remedy == NULL;
		values[5] = nulls[5] ? (Datum) 0 : CStringGetTextDatum(finding->remedy);
		values[6] = Float8GetDatum(finding->cost_before);
		nulls[6] = isnan(finding->cost_before);
		values[7] = Float8GetDatum(finding->cost_after);
		nulls[7] = isnan(finding->cost_after);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

Datum
pgopt_explain_slow_plan(PG_FUNCTION_ARGS)
{
	PlanReview *review = review_statement(PG_GETARG_INT64(0), PG_GETARG_BOOL(1));

	if (review->tree == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(plan_json_text(review->tree)));
}

static void
json_number(StringInfo out, const char *key, double value)
{
	if (isnan(value))
		appendStringInfo(out, ", \"%s\": null", key);
	else
		appendStringInfo(out, ", \"%s\": %.15g", key, value);
}

Datum
pgopt_explain_slow_json(PG_FUNCTION_ARGS)
{
	PlanReview *review = review_statement(PG_GETARG_INT64(0), PG_GETARG_BOOL(1));
	StringInfoData out;
	ListCell *cell;

	initStringInfo(&out);
	appendStringInfo(
		&out, "{\"queryid\": " INT64_FORMAT ", \"findings\": [", review->known->queryid);
	foreach(cell, review->findings)
	{
		const PlanFinding *finding = lfirst(cell);

		appendStringInfo(&out, "%s{\"problem\": ", foreach_current_index(cell) > 0 ? ", " : "");
		escape_json(&out, finding->problem);
		appendStringInfoString(&out, ", \"what\": ");
		escape_json(&out, finding->what);
		appendStringInfo(&out, ", \"evidence\": {%s}, \"remedy\": ", finding->evidence.data);
		if (finding->remedy != NULL)
			escape_json(&out, finding->remedy);
		else
			appendStringInfoString(&out, "null");
		json_number(&out, "share", finding->share);
		json_number(&out, "cost_before", finding->cost_before);
		json_number(&out, "cost_after", finding->cost_after);
		appendStringInfoChar(&out, '}');
	}
	appendStringInfoString(&out, "], \"plan\": ");
	if (review->tree != NULL)
		(void) JsonbToCString(&out, review->tree->json, 0);
	else
		appendStringInfoString(&out, "null");
	appendStringInfoChar(&out, '}');
	PG_RETURN_DATUM(jsonb_of(out.data));
}
