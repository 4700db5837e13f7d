/*
 * advice.c
 *		pgopt_index_advice(): the indexes worth building, best first.
 *
 * Reads the workload, has the indexes selected, and says of each what it does
 * for whom, what it costs those who write, and how sure that is.
 *
 * Memory: one context a call, gone at its end.
 *
 * Cost: that of the selection (selection.h), and one planner call more for each
 * statement that is helped.
 */
#include "pgopt.h"

#include <math.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_am_d.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "hypothetical.h"
#include "plan_tree.h"
#include "progress.h"
#include "selection.h"
#include "statement.h"
#include "verdict.h"
#include "workload.h"

PG_FUNCTION_INFO_V1(pgopt_index_advice);

#define ADVICE_COLUMNS 11

/* Shares of the workload that are saved, from which on an index is urgent, or worth its while. */
#define PRIORITY_HIGH   0.10
#define PRIORITY_MEDIUM 0.01

/* A workload that was watched for less than this says so. */
#define SHORT_WORKLOAD_S 3600

/* In how many scans of which kind an index is used. */
typedef struct Uses
{
	int index_only;
	int plain;
	int joins; /* looked up with values of another table */
	int ordered;
	int bitmaps;
} Uses;

typedef struct Advice
{
	List *statements;
	Selection *selection;
	double time;   /* measured, of all statements; 0 = not known */
	double cost;   /* planner's, of all calls */
	Uses *uses;    /* by position in the selection */
	List *names;   /* handed out */
	bool captured; /* from the workload, not from texts */
} Advice;

static List *watched; /* statements whose tables are locked; for the progress callback */

/* --- goal --------------------------------------------------------------------------- */

static double
parse_budget(text *budget)
{
	int64 bytes = DatumGetInt64(DirectFunctionCall1(pg_size_bytes, PointerGetDatum(budget)));

	if (bytes <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("budget must be greater than zero"),
				 errhint("Give a size such as '500MB', or null for no limit.")));
	return (double) bytes;
}

static void
note_progress(const char *phase, int done, int total, int planner_calls)
{
	progress_report(phase, done, total, planner_calls);
	statements_give_way(watched);
}

/* --- how an index is used -------------------------------------------------------------- */

typedef struct UseWalk
{
	const Selection *selection;
	const AdvisorQuery *query;
	Uses *uses;
} UseWalk;

static bool
has_exec_param(Node *node, void *arg)
{
	if (node == NULL)
		return false;
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXEC)
		return true;
	return expression_tree_walker(node, has_exec_param, arg);
}

static void
note_use(Plan *plan, Plan *parent, void *arg)
{
	UseWalk *walk = arg;
	Oid oid = plan_tree_index(plan);
	List *quals = NIL;

	if (!OidIsValid(oid))
		return;
	if (IsA(plan, IndexScan))
		quals = ((IndexScan *) plan)->indexqual;
	else if (IsA(plan, IndexOnlyScan))
		quals = ((IndexOnlyScan *) plan)->indexqual;
	else
		quals = ((BitmapIndexScan *) plan)->indexqual;

	for (int i = 0; i < walk->selection->nselected; i++)
	{
		Uses *uses = &walk->uses[i];

		if (walk->selection->selected[i].index->oid != oid)
			continue;
		if (has_exec_param((Node *) quals, NULL))
			uses->joins++;
		else if (IsA(plan, BitmapIndexScan))
			uses->bitmaps++;
		else if (IsA(plan, IndexOnlyScan))
			uses->index_only++;
		else if (quals == NIL)
			uses->ordered++;
		else
			uses->plain++;
		return;
	}
}

static void
plan_and_note(void *arg)
{
	UseWalk *walk = arg;

	plan_tree_visit(statement_plan(walk->query), note_use, walk);
}

static void
find_uses(Advice *advice)
{
	const Selection *selection = advice->selection;
	HypotheticalIndex **indexes = palloc(selection->nselected * sizeof(HypotheticalIndex *));
	UseWalk walk = {.selection = selection, .uses = advice->uses};
	MemoryContext scratch =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt advice plans", ALLOCSET_DEFAULT_SIZES);
	ListCell *cell;

	for (int i = 0; i < selection->nselected; i++)
		indexes[i] = selection->selected[i].index;
	foreach(cell, advice->statements)
	{
		AdvisorStatement *statement = lfirst(cell);
		MemoryContext context;

		CHECK_FOR_INTERRUPTS();
		if (bms_is_empty(selection->used[statement->id]))
			continue;
		context = MemoryContextSwitchTo(scratch);
		walk.query = &statement->queries[0];
		hypothetical_show(indexes, selection->nselected, NULL, NIL);
		(void) statement_try(statement, plan_and_note, &walk);
		hypothetical_hide();
		MemoryContextSwitchTo(context);
		MemoryContextReset(scratch);
	}
	MemoryContextDelete(scratch);
}

/* --- words ---------------------------------------------------------------------------- */

/* 1,234 */
static char *
number_text(double value)
{
	char digits[64];
	StringInfoData grouped;
	int length = snprintf(digits, sizeof(digits), "%.0f", value);

	initStringInfo(&grouped);
	for (int i = 0; i < length; i++)
	{
		appendStringInfoChar(&grouped, digits[i]);
		if (digits[i] != '-' && i < length - 1 && (length - 1 - i) % 3 == 0)
			appendStringInfoChar(&grouped, ',');
	}
	return grouped.data;
}

static void
add_use(StringInfo words, int count, const char *what)
{
	if (count == 0)
		return;
	if (words->len > 0)
		appendStringInfoString(words, ", ");
	appendStringInfo(words, "%d %s", count, what);
}

static bool
has_expression(const HypotheticalIndex *index)
{
	for (int i = 0; i < index->nkeys; i++)
		if (index->columns[i].expression != NULL)
			return true;
	return false;
}

/* The first column of a B-tree that takes values of any length; NULL = none. */
static char *
unbounded_column(const HypotheticalIndex *index)
{
	if (index->am != BTREE_AM_OID)
		return NULL;
	for (int i = 0; i < index->ncolumns; i++)
	{
		const HypotheticalColumn *column = &index->columns[i];

		if (column->attnum > 0 && column->typmod < 0 &&
			(getBaseType(column->type) == TEXTOID || getBaseType(column->type) == VARCHAROID))
			return get_attname(index->table, column->attnum, true);
	}
	return NULL;
}

/* The share of the workload that goes away, by measured time where that is known. */
static double
saved_share(const Advice *advice, const SelectedIndex *selected)
{
	double saved = 0;
	int id = -1;

	while ((id = bms_next_member(selected->statements, id)) >= 0)
	{
		const AdvisorStatement *statement = list_nth(advice->statements, id);
		double before = advice->selection->cost_before[id];
		double part = before > 0 ? 1 - advice->selection->cost_after[id] / before : 0;

		if (advice->time > 0)
			saved += part * statement->milliseconds / advice->time;
		else if (advice->cost > 0)
			saved += part * before * statement->calls / advice->cost;
	}
	return Max(saved, 0);
}

static const char *
priority(double share, const SelectedIndex *selected)
{
	bool dear = selected->write_cost > (selected->cost_before - selected->cost_after) / 2;

	if (share >= PRIORITY_HIGH)
		return dear ? "medium" : "high";
	if (share >= PRIORITY_MEDIUM)
		return dear ? "low" : "medium";
	return "low";
}

static char *
reason(const Advice *advice, int position, double share)
{
	const SelectedIndex *selected = &advice->selection->selected[position];
	const HypotheticalIndex *index = selected->index;
	const Uses *uses = &advice->uses[position];
	char *table = quote_identifier(get_rel_name(index->table)) != NULL
					  ? pstrdup(quote_identifier(get_rel_name(index->table)))
					  : pstrdup("?");
	int helped = bms_num_members(selected->statements);
	StringInfoData kinds;
	StringInfoData words;

	initStringInfo(&kinds);
	add_use(&kinds, uses->index_only, "index-only");
	add_use(&kinds, uses->plain, "by key");
	add_use(&kinds, uses->joins, "for each row of a join or subquery");
	add_use(&kinds, uses->ordered, "in its order");
	add_use(&kinds, uses->bitmaps, "by bitmap");

	initStringInfo(&words);
	appendStringInfo(&words, "helps %d of %d statements", helped, list_length(advice->statements));
	if (kinds.len > 0)
		appendStringInfo(&words, " (scans: %s)", kinds.data);
	appendStringInfo(&words,
					 ": their cost falls from %s to %s",
					 number_text(selected->cost_before),
					 number_text(selected->cost_after));
	appendStringInfo(&words,
					 "; %s%.1f %% of the %s is saved",
					 advice->selection->nselected > 1 ? "together with the rest of this list, "
													  : "",
					 100 * share,
					 advice->time > 0 ? "measured time" : "cost");
	if (selected->writes >= 1)
		appendStringInfo(&words,
						 "; about %s entries are written to it, at a cost of %s",
						 number_text(selected->writes),
						 number_text(selected->write_cost));
	else
		appendStringInfo(&words, "; nothing in the workload writes to it");
	if (selected->hot_lost >= 1)
		appendStringInfo(&words,
						 "; %s updates can no longer be HOT (heap-only)",
						 number_text(selected->hot_lost));
	if (has_expression(index))
		appendStringInfo(
			&words,
			"; run ANALYZE %s afterwards: its expressions have statistics of their own",
			table);
	if (unbounded_column(index) != NULL)
		appendStringInfo(
			&words,
			"; rows with a value of %s that is longer than 2,600 bytes could not be stored then",
			quote_identifier(unbounded_column(index)));
	if (get_rel_relkind(index->table) == RELKIND_PARTITIONED_TABLE)
		appendStringInfo(
			&words,
			"; a partitioned table cannot have it made CONCURRENTLY: writers wait meanwhile");
	if (advice->captured)
	{
		TimestampTz since = workload_since();

		if (since != 0 &&
			!TimestampDifferenceExceeds(since, GetCurrentTimestamp(), SHORT_WORKLOAD_S * 1000))
			appendStringInfo(&words,
							 "; low confidence: the workload is known since %s only",
							 timestamptz_to_str(since));
	}
	return words.data;
}

/* --- rows ------------------------------------------------------------------------------- */

static int
by_time_saved(const ListCell *a, const ListCell *b)
{
	const double *left = lfirst(a);
	const double *right = lfirst(b);

	return left[0] > right[0] ? -1 : left[0] < right[0] ? 1 : 0;
}

/* Ids of the statements that it helps, most saved first. */
static int *
helped_statements(const Advice *advice, const SelectedIndex *selected, int *count)
{
	List *order = NIL;
	ListCell *cell;
	int *ids;
	int id = -1;

	while ((id = bms_next_member(selected->statements, id)) >= 0)
	{
		const AdvisorStatement *statement = list_nth(advice->statements, id);
		double *key = palloc(2 * sizeof(double));

		key[0] = (advice->selection->cost_before[id] - advice->selection->cost_after[id]) *
				 statement->calls;
		key[1] = id;
		order = lappend(order, key);
	}
	list_sort(order, by_time_saved);
	*count = list_length(order);
	ids = palloc(Max(*count, 1) * sizeof(int));
	foreach(cell, order)
		ids[foreach_current_index(cell)] = (int) ((double *) lfirst(cell))[1];
	return ids;
}

static Datum
queryids(const Advice *advice, const int *ids, int count)
{
	Datum *values = palloc(Max(count, 1) * sizeof(Datum));

	for (int i = 0; i < count; i++)
		values[i] =
			Int64GetDatum(((AdvisorStatement *) list_nth(advice->statements, ids[i]))->queryid);
	return PointerGetDatum(
		construct_array(values, count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

static Datum
statements_json(const Advice *advice, const int *ids, int count)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoChar(&json, '[');
	for (int i = 0; i < count; i++)
	{
		const AdvisorStatement *statement = list_nth(advice->statements, ids[i]);
		double before = advice->selection->cost_before[ids[i]];
		double after = advice->selection->cost_after[ids[i]];

		appendStringInfo(&json,
						 "%s{\"queryid\": " INT64_FORMAT
						 ", \"calls\": %.0f, \"cost_before\": %.2f, \"cost_after\": %.2f",
						 i > 0 ? ", " : "",
						 statement->queryid,
						 statement->calls,
						 before,
						 after);
		if (statement->milliseconds > 0)
			appendStringInfo(
				&json,
				", \"mean_ms\": %.3f, \"expected_ms\": %.3f",
				statement->milliseconds / statement->calls,
				before > 0 ? statement->milliseconds / statement->calls * after / before : 0);
		appendStringInfoString(&json, ", \"query\": ");
		escape_json(&json, statement->text);
		appendStringInfoChar(&json, '}');
	}
	appendStringInfoChar(&json, ']');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

static double
rounded(double value)
{
	return rint(value * 100) / 100;
}

static void
put_row(Advice *advice, int position, ReturnSetInfo *rsinfo)
{
	const SelectedIndex *selected = &advice->selection->selected[position];
	double share = saved_share(advice, selected);
	Datum values[ADVICE_COLUMNS];
	bool nulls[ADVICE_COLUMNS] = {false};
	int count;
	int *ids = helped_statements(advice, selected, &count);
	char *ddl = hypothetical_ddl(selected->index, true, &advice->names);

	values[0] = CStringGetTextDatum(ddl);
	values[1] = Int64GetDatum((int64) selected->index->bytes);
	values[2] = Float8GetDatum(rounded(selected->cost_before));
	values[3] = Float8GetDatum(rounded(selected->cost_after));
	values[4] = Float8GetDatum(rounded(selected->write_cost));
	values[5] = queryids(advice, ids, count);
	values[6] = CStringGetTextDatum(priority(share, selected));
	values[7] = CStringGetTextDatum(reason(advice, position, share));
	values[8] = DirectFunctionCall1(pg_size_pretty, values[1]);
	values[9] = ObjectIdGetDatum(selected->index->table);
	values[10] = statements_json(advice, ids, count);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	if (advice->captured)
		verdict_remember(selected, ddl, DatumGetArrayTypeP(values[5]));
}

/* Why there is no row. */
static void
say_nothing(const Advice *advice)
{
	if (advice->statements == NIL && !advice->captured)
		ereport(NOTICE,
				(errmsg("none of the statements given reads or writes an ordinary table"),
				 errhint("Give SELECT, INSERT, UPDATE, DELETE or MERGE statements.")));
	else if (advice->statements == NIL)
		ereport(NOTICE,
				(errmsg("no statement of this database is known that could be planned"),
				 pgopt_workload_capture
					 ? errhint("Let the application run for a while and call again, or give "
							   "statements: pgopt_index_advice(queries => ARRAY['SELECT ...']).")
					 : errhint("Set pgopt.workload_capture = on.")));
	else
		ereport(NOTICE,
				(errmsg("no index would pay for itself"),
				 errdetail("%d statements were looked at, with %d possible indexes.",
						   list_length(advice->statements),
						   advice->selection->candidates)));
}

Datum
pgopt_index_advice(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	SelectionGoal goal = {.budget = INFINITY, .max_indexes = 0};
	Advice advice = {.captured = PG_ARGISNULL(1)};
	MemoryContext context;
	MemoryContext old;
	ListCell *cell;

	if (!PG_ARGISNULL(0))
		goal.budget = parse_budget(PG_GETARG_TEXT_PP(0));
	if (!PG_ARGISNULL(2))
	{
		goal.max_indexes = PG_GETARG_INT32(2);
		if (goal.max_indexes <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("max_indexes must be greater than zero")));
	}
	InitMaterializedSRF(fcinfo, 0);
	context = AllocSetContextCreate(CurrentMemoryContext, "pgopt advisor", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);

	progress_begin();
	advice.statements = advice.captured ? statements_prepare(workload_read(0), NULL)
										: statements_from_texts(PG_GETARG_ARRAYTYPE_P(1));
	watched = advice.statements;
	if (advice.statements != NIL)
		advice.selection = selection_run(advice.statements, &goal, note_progress);
	if (advice.statements == NIL || advice.selection->nselected == 0)
		say_nothing(&advice);
	else
	{
		foreach(cell, advice.statements)
		{
			const AdvisorStatement *statement = lfirst(cell);

			advice.time += statement->milliseconds;
			advice.cost += advice.selection->cost_before[statement->id] * statement->calls;
		}
		advice.uses = palloc0(advice.selection->nselected * sizeof(Uses));
		find_uses(&advice);
		for (int i = 0; i < advice.selection->nselected; i++)
			put_row(&advice, i, rsinfo);
	}
	watched = NIL;
	hypothetical_forget_samples();
	progress_end();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return (Datum) 0;
}
