/*
 * plan_statement.c
 *		What is wrong with a statement as a whole: one small function a problem.
 *
 * Statistics of its tables, compilation, triggers, and how what was measured
 * compares with what is planned now.
 *
 * Locks: AccessShareLock on the catalogs, and on tables whose rows are counted.
 * Cost: one look at each table of the plan; a planner call for the generic plan.
 */
#include "pgopt.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "jit/jit.h"
#include "miscadmin.h"
#include "nodes/params.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "core.h"
#include "plan_words.h"

/* Statistics are stale where so many rows, and that part of all, changed: twice what autovacuum waits for. */
#define STALE_ROWS 1000
#define STALE_PART 0.2

/* Estimates that are less off than that were right in spite of it. */
#define RIGHT 2

/* A table that has that many pages should have been analyzed. */
#define KNOWN_PAGES 10

/* A result of that many rows takes time to send and to read. */
#define MANY_RESULTS 100000

/* Compilation that takes that part of the time does not pay. */
#define JIT_PART 0.1

/* Statements below that time cannot win much by being compiled (ms). */
#define JIT_SHORT 500

/* Misestimates of the result, and times that cannot be reproduced, count from this factor on. */
#define FACTOR 10

/* ... and these numbers. */
#define FACTOR_ROWS 100
#define FACTOR_MS   100

/* A trigger that is called more often than that is worth knowing, where times were not taken. */
#define MANY_CALLS 1000

/* --- statistics -------------------------------------------------------------------- */

static bool
has_statistics(Oid relid)
{
	for (AttrNumber attnum = 1;
		 SearchSysCacheExists2(ATTNUM, ObjectIdGetDatum(relid), Int16GetDatum(attnum));
		 attnum++)
		for (int inherited = 0; inherited < 2; inherited++)
			if (SearchSysCacheExists3(STATRELATTINH,
									  ObjectIdGetDatum(relid),
									  Int16GetDatum(attnum),
									  BoolGetDatum(inherited == 1)))
				return true;
	return false;
}

/* How far off the estimates of a table's rows were, at most; 0 where nothing was measured. */
static double
worst_misestimate(const PlanReview *review, Oid relid)
{
	double worst = 0;
	ListCell *cell;

	foreach(cell, review->tree->nodes)
	{
		const PlanNode *node = lfirst(cell);
		double planned = Max(node->plan_rows, 1);
		double actual = Max(node->rows, 1);

		if (node->relid == relid && node->executed)
			worst = Max(worst, Max(planned / actual, actual / planned));
	}
	return worst;
}

static void
stale_statistics_of(PlanReview *review, Oid relid)
{
	PgStat_StatTabEntry *entry = pgstat_fetch_stat_tabentry(relid);
	double changed = entry != NULL ? compat_tabentry_modified(entry) : 0;
	bool never = !has_statistics(relid);
	BlockNumber pages;
	double rows = plan_table_rows(relid, &pages);
	double off = worst_misestimate(review, relid);
	PlanFinding *finding;

	if (get_rel_name(relid) == NULL || (review->tree->measured && off < RIGHT))
		return;
	if (never ? pages < KNOWN_PAGES : changed < STALE_ROWS || changed < STALE_PART * rows)
		return;
	finding = plan_report(
		review, "stale_statistics", review->tree->measured ? plan_share_of(review, relid) : NAN);
	finding->relid = relid;
	if (never)
		finding->what = psprintf("%s was never analyzed: the planner guesses how many of its rows "
								 "meet a condition",
								 get_rel_name(relid));
	else
		finding->what =
			psprintf("the statistics of %s are old: %s of its %s changed since it was analyzed",
					 get_rel_name(relid),
					 plan_count(Min(changed, rows)),
					 plan_rows_text(rows));
	plan_evidence_text(finding, "table", get_rel_name(relid));
	plan_evidence_number(finding, "rows", rint(rows));
	plan_evidence_number(finding, "changed", changed);
	plan_remedy_add(finding, psprintf("ANALYZE %s;", plan_table_name(plan_known_table(relid))));
}

static void
stale_statistics(PlanReview *review)
{
	List *seen = NIL;
	ListCell *cell;

	foreach(cell, review->tree->nodes)
	{
		Oid relid = ((PlanNode *) lfirst(cell))->relid;

		CHECK_FOR_INTERRUPTS();
		if (!OidIsValid(relid) || list_member_oid(seen, relid) ||
			!RELKIND_HAS_TABLE_AM(get_rel_relkind(relid)))
			continue;
		seen = lappend_oid(seen, relid);
		stale_statistics_of(review, relid);
	}
}

/* --- compilation ------------------------------------------------------------------------ */

static double
mean_milliseconds(const PlanReview *review)
{
	return review->known->calls > 0 ? review->known->milliseconds / review->known->calls : 0;
}

static void
slow_plan_jit(PlanReview *review)
{
	JsonbContainer *jit = plan_part(review->tree->json, "JIT");
	JsonbContainer *timing;
	double functions;
	double spent;
	double mean = mean_milliseconds(review);
	PlanFinding *finding;

	/* what the workload keeps of a plan says nothing of it */
	if (jit == NULL && strcmp(review->source, "measured") == 0 && review->estimate != NULL)
		jit = plan_part(review->estimate->json, "JIT");
	if (jit == NULL)
		return;
	timing = plan_part(jit, "Timing");
	functions = plan_number(jit, "Functions", 0);
	spent = timing != NULL ? plan_number(timing, "Total", 0) : 0;

	if (spent > 0 && review->tree->milliseconds > 0)
	{
		if (spent < JIT_PART * review->tree->milliseconds)
			return;
		finding = plan_report(review, "slow_plan_jit", spent / review->tree->milliseconds);
		finding->what = psprintf("compiling %s functions took %s of %s",
								 plan_count(functions),
								 plan_time(spent),
								 plan_time(review->tree->milliseconds));
	}
	else if (functions > 0 && mean > 0 && mean < JIT_SHORT)
	{
		finding = plan_report(review, "slow_plan_jit", NAN);
		finding->what = psprintf("the plan is compiled (JIT), because its cost of %s is above "
								 "jit_above_cost, but takes %s only",
								 plan_count(review->tree->root->total_cost),
								 plan_time(mean));
	}
	else
		return;
	plan_evidence_number(finding, "functions", functions);
	plan_evidence_number(finding, "milliseconds", spent);
	plan_evidence_number(finding, "jit_above_cost", jit_above_cost);
	plan_remedy_add(finding,
					psprintf("SET jit_above_cost = %.0f; -- or: SET jit = off;",
							 ceil(2 * review->tree->root->total_cost)));
}

/* --- triggers and foreign keys ------------------------------------------------------------ */

static void
trigger_time(PlanReview *review)
{
	JsonbContainer *triggers = plan_part(review->tree->json, "Triggers");

	for (int i = 0; i < plan_length(triggers); i++)
	{
		JsonbContainer *trigger = plan_element(triggers, i);
		double time = plan_number(trigger, "Time", -1);
		double calls = plan_number(trigger, "Calls", 0);
		char *constraint = plan_text(trigger, "Constraint Name");
		char *name = constraint != NULL ? constraint : plan_text(trigger, "Trigger Name");
		double share =
			time >= 0 && review->tree->milliseconds > 0 ? time / review->tree->milliseconds : NAN;
		PlanFinding *finding;

		if (isnan(share) ? calls < MANY_CALLS : share < PLAN_MIN_SHARE)
			continue;
		finding = plan_report(review, "trigger_time", share);
		finding->what = psprintf("%s %s of %s was called %s times%s",
								 constraint != NULL ? "the check of constraint" : "trigger",
								 name != NULL ? quote_identifier(name) : "?",
								 plan_text(trigger, "Relation"),
								 plan_count(calls),
								 time >= 0 ? psprintf(" and took %s", plan_time(time)) : "");
		plan_evidence_text(finding, "trigger", plan_text(trigger, "Trigger Name"));
		plan_evidence_text(finding, "constraint", constraint);
		plan_evidence_text(finding, "table", plan_text(trigger, "Relation"));
		plan_evidence_number(finding, "calls", calls);
		plan_evidence_number(finding, "milliseconds", time >= 0 ? time : NAN);
	}
}

/* Foreign keys that point to the table, of tables where no index begins with their columns. */
static const char *const unindexed_keys =
	"SELECT c.conrelid, c.conname,"
	"       (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.place)"
	"          FROM unnest(c.conkey) WITH ORDINALITY k (attnum, place)"
	"          JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum),"
	"       (SELECT array_agg(k) FROM unnest(c.confkey) k)"
	"  FROM pg_constraint c"
	" WHERE c.confrelid = $1 AND c.contype = 'f' AND c.conparentid = 0"
	"   AND NOT EXISTS (SELECT FROM pg_index i"
	"                    WHERE i.indrelid = c.conrelid AND i.indisvalid AND i.indpred IS NULL"
	"                      AND i.indnkeyatts >= cardinality(c.conkey)"
	"                      AND c.conkey <@ (i.indkey::int2[])[0:cardinality(c.conkey) - 1])"
	" ORDER BY c.conname";

/* Rows that the statement writes each time. */
static double
rows_written(const PlanReview *review)
{
	const PlanNode *below = plan_child(review->tree->root, "Outer");

	return below != NULL ? plan_all_rows(below) : 0;
}

static void
foreign_key_unindexed(PlanReview *review)
{
	Oid types[1] = {OIDOID};
	Datum args[1];
	PgoptSpi spi;
	MemoryContext context = CurrentMemoryContext;

	/* an update looks only for keys that it changes; those are rare */
	if (review->statement == NULL || review->statement->command != CMD_DELETE ||
		!OidIsValid(review->statement->target))
		return;
	args[0] = ObjectIdGetDatum(review->statement->target);
	pgopt_spi_begin_as_caller(&spi);
	pgopt_spi_execute(unindexed_keys, 1, types, args, NULL, true, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		bool isnull;
		Oid relid = DatumGetObjectId(pgopt_spi_value(i, 1, &isnull));
		char *constraint = pgopt_spi_text(i, 2);
		char *columns = pgopt_spi_text(i, 3);
		BlockNumber pages;
		double rows = plan_table_rows(relid, &pages);
		double cost = Max(rows_written(review), 1) *
					  (pages * seq_page_cost + rows * (cpu_tuple_cost + cpu_operator_cost));
		PlanFinding *finding;

		if (rows >= STALE_ROWS && columns != NULL)
		{
			finding = plan_report(
				review, "foreign_key_unindexed", cost / (cost + review->tree->root->total_cost));
			finding->relid = relid;
			finding->what =
				psprintf("for each row that is deleted all %s of %s are read, because foreign key "
						 "%s (%s) has no index",
						 plan_rows_text(rows),
						 get_rel_name(relid),
						 quote_identifier(constraint),
						 columns);
			plan_evidence_text(finding, "table", get_rel_name(relid));
			plan_evidence_text(finding, "constraint", constraint);
			plan_evidence_number(finding, "rows", rint(rows));
			plan_evidence_number(finding, "rows_deleted", rint(rows_written(review)));
			plan_remedy_add(
				finding,
				psprintf("CREATE INDEX%s ON %s (%s);",
						 get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE ? "" : " CONCURRENTLY",
						 plan_table_name(relid),
						 columns));
		}
		MemoryContextSwitchTo(old);
	}
	pgopt_spi_end(&spi);
}

/* --- the result ------------------------------------------------------------------------------ */

static double
mean_rows(const PlanReview *review)
{
	return review->known->calls > 0 ? review->known->rows / review->known->calls : 0;
}

static void
many_results(PlanReview *review)
{
	double rows = review->tree->measured ? review->tree->root->rows : mean_rows(review);
	PlanFinding *finding;

	if (review->statement == NULL || review->statement->command != CMD_SELECT ||
		rows < MANY_RESULTS)
		return;
	finding = plan_report(review, "many_results", NAN);
	finding->what =
		psprintf("the statement returns %s, which all are sent to the client and read there",
				 plan_rows_text(rows));
	plan_evidence_number(finding, "rows", rint(rows));
	plan_remedy_add(finding, "aggregate in the database, or read with LIMIT or a cursor");
}

/* What was measured of all calls, against the estimate; only where no plan was measured. */
static void
misestimated_result(PlanReview *review)
{
	double expected = Max(review->tree->root->plan_rows, 1);
	double actual = Max(mean_rows(review), 1);
	double factor = Max(expected / actual, actual / expected);
	PlanFinding *finding;
	Oid relid = InvalidOid;

	if (review->tree->measured || review->known->calls < 1 ||
		statement_values_unknown(review->query) || plan_is(review->tree->root, "ModifyTable") ||
		factor < FACTOR || Max(expected, actual) < FACTOR_ROWS)
		return;
	if (list_length(review->conditions) == 1)
		relid = ((ScanConditions *) linitial(review->conditions))->relid;
	finding = plan_report(review, "misestimated", NAN);
	finding->what = psprintf("the planner expects %s, but a call returned %s on average: %s times "
							 "%s",
							 plan_rows_text(expected),
							 plan_count(mean_rows(review)),
							 plan_count(factor),
							 actual > expected ? "more" : "fewer");
	finding->relid = relid;
	plan_evidence_number(finding, "rows_expected", expected);
	plan_evidence_number(finding, "rows_actual", mean_rows(review));
	if (OidIsValid(relid))
		plan_remedy_add(finding, plan_statistics_ddl(review, relid));
}

/* --- what was measured, against what is planned now ------------------------------------------- */

typedef struct Generic
{
	PlanReview *review;
	PlanTree *tree;
	double cost;
} Generic;

static void
plan_for_any_values(void *arg)
{
	Generic *generic = arg;
	AdvisorQuery query = *generic->review->query;

	query.params = makeParamList(query.params->numParams);
	/* without types: not known */
	memset(query.params->params, 0, query.params->numParams * sizeof(ParamExternData));
	generic->tree = plan_explain_estimate(&query, NULL, &generic->cost);
}

/* Was it run with the plan that serves all values, though another would be better for these? */
static bool
generic_plan(PlanReview *review)
{
	Generic generic = {.review = review};
	PlanFinding *finding;

	if (review->sample->nparams == 0 || review->query->params == NULL ||
		!statement_try(review->statement, plan_for_any_values, &generic) || generic.tree == NULL ||
		!plan_json_alike(review->tree, generic.tree))
		return false;
	finding = plan_report(review, "generic_plan", NAN);
	finding->what = psprintf("it was run with a plan that serves any values; for these values "
							 "another one is expected to be better, at a cost of %s",
							 plan_count(review->cost));
	plan_evidence_number(finding, "cost_generic", generic.cost);
	plan_evidence_number(finding, "cost_custom", review->cost);
	plan_remedy_add(finding, "SET plan_cache_mode = 'force_custom_plan';");
	return true;
}

static void
plan_changed(PlanReview *review)
{
	PlanFinding *finding;

	if (strcmp(review->source, "measured") != 0 || review->estimate == NULL ||
		plan_json_alike(review->tree, review->estimate) || generic_plan(review))
		return;
	finding = plan_report(review, "plan_changed", NAN);
	finding->what = psprintf("the plan that was measured (cost %s) is not the one that would be "
							 "made now (cost %s): indexes, statistics or settings have changed",
							 plan_count(review->tree->root->total_cost),
							 plan_count(review->cost));
	plan_evidence_number(finding, "cost_measured", review->tree->root->total_cost);
	plan_evidence_number(finding, "cost_now", review->cost);
	plan_evidence_text(finding, "measured_at", timestamptz_to_str(review->sample->captured));
	plan_remedy_add(finding, "look at the plan of now: run => true");
}

static void
not_reproduced(PlanReview *review)
{
	double mean = mean_milliseconds(review);
	double now = Max(review->tree->milliseconds, 0.001);
	PlanFinding *finding;

	if (strcmp(review->source, "run") != 0 || mean < FACTOR_MS || mean < FACTOR * now)
		return;
	finding = plan_report(review, "not_reproduced", NAN);
	finding->what =
		psprintf("it took %s now, but %s on average: the time went into something that a plan does "
				 "not show, such as locks, blocks that were not in memory, or other values",
				 plan_time(now),
				 plan_time(mean));
	plan_evidence_number(finding, "milliseconds", now);
	plan_evidence_number(finding, "mean_milliseconds", mean);
	plan_remedy_add(finding,
					"ALTER SYSTEM SET log_lock_waits = on; -- then SELECT pg_reload_conf()");
}

/* --- the table of rules --------------------------------------------------------------------- */

static void (*const statement_rules[])(PlanReview *review) = {
	stale_statistics,
	slow_plan_jit,
	trigger_time,
	foreign_key_unindexed,
	many_results,
	misestimated_result,
	plan_changed,
	not_reproduced,
};

void
plan_words_statement(PlanReview *review)
{
	for (int i = 0; i < lengthof(statement_rules); i++)
	{
		CHECK_FOR_INTERRUPTS();
		statement_rules[i](review);
	}
}
