/*
 * verdict.c
 *		Judges indexes by the times that were measured before and after them.
 *
 * pgopt.index_advice remembers what was advised: at most MAX_ADVICE rows, the
 * latest for each definition.  Nothing of it is locked that another writer
 * might wait for: rows are only added, and old ones deleted where nobody else
 * is at it.
 *
 * An index is known to have come at the first period of the workload that
 * began after its file was made.  What is compared are the executions of up to
 * a week before with all since, of every statement that reads or writes its
 * table, whether or not the index was meant for it.
 */
#include "pgopt.h"

#include <math.h>

#include "access/commit_ts.h"
#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "core.h"
#include "hygiene.h"
#include "hypothetical.h"
#include "monitor.h"
#include "statement.h"
#include "verdict.h"
#include "verdicts.h"
#include "workload.h"

PG_FUNCTION_INFO_V1(pgopt_index_verdicts);

#define MAX_ADVICE 1000

/* Calls on both sides from which on means are compared. */
#define FEWEST_CALLS 5

/* A mean that changed by less is the same, however sure that is. */
#define LEAST_CHANGE 0.10

/* Columns of pgopt_index_verdicts(). */
enum
{
	COL_INDEX,
	COL_TABLE,
	COL_CREATED,
	COL_SIZE,
	COL_QUERYID,
	COL_CALLS_BEFORE,
	COL_MEAN_BEFORE,
	COL_CALLS_AFTER,
	COL_MEAN_AFTER,
	COL_RATIO,
	COL_VERDICT,
	COL_INDEX_VERDICT,
	COL_REVERT,
	COL_REASON,
	COL_ADVISED,
	COLUMNS
};

static const char *const outcomes[] = {
	[OUTCOME_TOO_FEW] = "too few",
	[OUTCOME_SAME] = "same",
	[OUTCOME_FASTER] = "faster",
	[OUTCOME_SLOWER] = "slower",
};

static const char *const index_outcomes[] = {
	[INDEX_TOO_EARLY] = "too early",
	[INDEX_KEEP] = "keep",
	[INDEX_REVERT] = "revert",
	[INDEX_UNUSED] = "unused",
};

/* --- what was advised ---------------------------------------------------------------- */

typedef struct Advised
{
	Oid table;
	char *definition;
	List *queryids; /* int64 * */
} Advised;

typedef struct Defining
{
	const char *ddl;
	Oid owner;
	char *definition;
} Defining;

static void
define(void *arg)
{
	Defining *defining = arg;
	Oid userid;
	int sec_context;

	GetUserIdAndSecContext(&userid, &sec_context);
	SetUserIdAndSecContext(defining->owner, sec_context | SECURITY_RESTRICTED_OPERATION);
	defining->definition = hypothetical_definition(hypothetical_parse(defining->ddl));
	SetUserIdAndSecContext(userid, sec_context);
}

/*
 * What CREATE INDEX says, without a name; NULL where it cannot be made any
 * more, or is none that is ever advised.  Expressions and predicates may call
 * functions of the table's owner, so it is him who does.
 */
static char *
definition_of(const char *ddl, Oid owner)
{
	Defining defining = {.ddl = ddl, .owner = owner};

	return core_try(define, &defining, true) == NULL ? defining.definition : NULL;
}

/* Whose functions an index may call. */
static Oid
owner_of(Oid table)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Oid owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

void
verdict_remember(const SelectedIndex *selected, const char *ddl, ArrayType *queryids)
{
	Oid types[] = {TEXTOID, TEXTOID, OIDOID, INT8OID, INT8ARRAYOID, FLOAT8OID, FLOAT8OID};
	Datum values[lengthof(types)];
	Oid trim_types[] = {INT4OID};
	Datum trim_values[] = {Int32GetDatum(MAX_ADVICE)};
	Oid owner = owner_of(selected->index->table);
	char *definition;
	PgoptSpi spi;

	if (RecoveryInProgress() || XactReadOnly || IsInParallelMode() || !OidIsValid(owner) ||
		!OidIsValid(pgopt_table_oid("index_advice")))
		return;
	/* as it will be read from the catalogs again */
	definition = definition_of(ddl, owner);
	if (definition == NULL)
		return;
	values[0] = CStringGetTextDatum(definition);
	values[1] = CStringGetTextDatum(ddl);
	values[2] = ObjectIdGetDatum(selected->index->table);
	values[3] = Int64GetDatum((int64) selected->index->bytes);
	values[4] = PointerGetDatum(queryids);
	values[5] = Float8GetDatum(selected->cost_before);
	values[6] = Float8GetDatum(selected->cost_after);
	pgopt_spi_begin(&spi);
	pgopt_spi_execute("INSERT INTO pgopt.index_advice"
					  " (definition, ddl, table_oid, size_bytes, queryids, cost_before, cost_after)"
					  " VALUES ($1, $2, $3, $4, $5, $6, $7)",
					  lengthof(types),
					  types,
					  values,
					  NULL,
					  false,
					  SPI_OK_INSERT);
	pgopt_spi_execute(
		"DELETE FROM pgopt.index_advice WHERE id IN (SELECT a.id FROM pgopt.index_advice a"
		" WHERE a.id <= (SELECT max(id) FROM pgopt.index_advice) - $1 OR EXISTS"
		"   (SELECT FROM pgopt.index_advice l WHERE l.definition = a.definition AND l.id > a.id)"
		" FOR UPDATE SKIP LOCKED)",
		lengthof(trim_types),
		trim_types,
		trim_values,
		NULL,
		false,
		SPI_OK_DELETE);
	pgopt_spi_end(&spi);
}

static List *
int8_list(ArrayType *array)
{
	List *list = NIL;
	Datum *values;
	bool *nulls;
	int count;

	deconstruct_array(
		array, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &values, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		int64 *value = palloc(sizeof(int64));

		*value = nulls[i] ? 0 : DatumGetInt64(values[i]);
		list = lappend(list, value);
	}
	return list;
}

static List *
read_advice(void)
{
	MemoryContext context = CurrentMemoryContext;
	List *advice = NIL;
	PgoptSpi spi;
	uint64 count;

	pgopt_spi_begin(&spi);
	count = pgopt_spi_execute("SELECT DISTINCT ON (definition) table_oid, definition, queryids"
							  "  FROM pgopt.index_advice ORDER BY definition, id DESC",
							  0,
							  NULL,
							  NULL,
							  NULL,
							  true,
							  SPI_OK_SELECT);
	MemoryContextSwitchTo(context);
	for (uint64 row = 0; row < count; row++)
	{
		Advised *advised = palloc(sizeof(Advised));
		bool isnull;

		advised->table = DatumGetObjectId(pgopt_spi_value(row, 1, &isnull));
		advised->definition = pgopt_spi_text(row, 2);
		advised->queryids = int8_list(DatumGetArrayTypeP(pgopt_spi_value(row, 3, &isnull)));
		advice = lappend(advice, advised);
	}
	pgopt_spi_end(&spi);
	MemoryContextSwitchTo(context);
	return advice;
}

static const Advised *
find_advised(List *advice, const RelationIndex *index)
{
	char *definition = NULL;
	ListCell *cell;

	foreach(cell, advice)
	{
		const Advised *advised = lfirst(cell);

		if (advised->table != index->table->oid || get_rel_name(index->oid) == NULL)
			continue;
		if (definition == NULL)
			definition = definition_of(pg_get_indexdef_string(index->oid), index->table->owner);
		if (definition == NULL)
			return NULL;
		if (strcmp(definition, advised->definition) == 0)
			return advised;
	}
	return NULL;
}

/* When it came: when its file was made, or its row of pg_index last changed; 0 = not known. */
static TimestampTz
created_at(const Relations *relations, const RelationIndex *index)
{
	TimestampTz created = index->partitioned ? 0 : relation_file_created(index->oid);
	HeapTuple tuple;

	/* a partitioned one is as old as the oldest of its partitions' */
	for (int i = 0; index->partitioned && i < relations->nindexes; i++)
		for (const RelationIndex *p = relations->indexes[i].parent; p != NULL; p = p->parent)
			if (p == index && !relations->indexes[i].partitioned)
			{
				TimestampTz part = relation_file_created(relations->indexes[i].oid);

				created = created == 0 ? part : Min(created, part);
			}
	if (created != 0 || !track_commit_timestamp)
		return created;
	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index->oid));
	if (HeapTupleIsValid(tuple))
	{
		TransactionId xid = HeapTupleHeaderGetXmin(tuple->t_data);

		if (TransactionIdIsNormal(xid) && !TransactionIdGetCommitTsData(xid, &created, NULL))
			created = 0;
		ReleaseSysCache(tuple);
	}
	return created;
}

/* --- what was measured ------------------------------------------------------------------ */

/*
 * Fills in the timings of an index's statements.  The period in which its file
 * was made is one of those before: it ended when the index was complete.
 */
static void
read_timings(IndexVerdict *verdict)
{
	Oid types[] = {TIMESTAMPTZOID, INT8ARRAYOID};
	Datum values[lengthof(types)];
	Datum *queryids = palloc((list_length(verdict->statements) + 1) * sizeof(Datum));
	ListCell *cell;
	PgoptSpi spi;
	uint64 count;

	foreach(cell, verdict->statements)
		queryids[foreach_current_index(cell)] =
			Int64GetDatum(((StatementVerdict *) lfirst(cell))->queryid);
	values[0] = TimestampTzGetDatum(verdict->created);
	values[1] = PointerGetDatum(construct_array(queryids,
												list_length(verdict->statements),
												INT8OID,
												sizeof(int64),
												FLOAT8PASSBYVAL,
												TYPALIGN_DOUBLE));
	pgopt_spi_begin(&spi);
	count =
		pgopt_spi_execute("WITH made AS (SELECT coalesce(min(period_start), 'infinity') AS at"
						  "  FROM pgopt.workload_history WHERE period_start >= $1)"
						  " SELECT h.queryid, h.period_start >= m.at,"
						  "  sum(h.calls), sum(h.milliseconds), sum(h.squares)"
						  "  FROM pgopt.workload_history h, made m"
						  " WHERE h.queryid = ANY ($2) AND h.period_start >= $1 - interval '7 days'"
						  " GROUP BY 1, 2",
						  lengthof(types),
						  types,
						  values,
						  NULL,
						  true,
						  SPI_OK_SELECT);
	for (uint64 row = 0; row < count; row++)
	{
		bool isnull;
		int64 queryid = DatumGetInt64(pgopt_spi_value(row, 1, &isnull));
		bool after = DatumGetBool(pgopt_spi_value(row, 2, &isnull));

		foreach(cell, verdict->statements)
		{
			StatementVerdict *statement = lfirst(cell);
			Timing *timing = after ? &statement->after : &statement->before;

			if (statement->queryid != queryid)
				continue;
			timing->calls = DatumGetFloat8(pgopt_spi_value(row, 3, &isnull));
			timing->milliseconds = DatumGetFloat8(pgopt_spi_value(row, 4, &isnull));
			timing->squares = DatumGetFloat8(pgopt_spi_value(row, 5, &isnull));
		}
	}
	pgopt_spi_end(&spi);
}

static double
mean(const Timing *timing)
{
	return timing->calls > 0 ? timing->milliseconds / timing->calls : 0;
}

/* Variance of the mean; observed: how many executions the counts stand on. */
static double
mean_variance(const Timing *timing, double observed)
{
	double about = timing->squares - timing->calls * mean(timing) * mean(timing);

	return Max(about, 0) / timing->calls * observed / (observed - 1) / observed;
}

/*
 * The 99.5 % point of Student's distribution, by the normal's: Abramowitz and
 * Stegun, Handbook of Mathematical Functions (1964), 26.7.5.
 */
static double
student_limit(double freedom)
{
	const double x = 2.575829;
	double f = Max(freedom, 3);

	return x + (pow(x, 3) + x) / (4 * f) + (5 * pow(x, 5) + 16 * pow(x, 3) + 3 * x) / (96 * f * f) +
		   (3 * pow(x, 7) + 19 * pow(x, 5) + 17 * pow(x, 3) - 15 * x) / (384 * f * f * f);
}

/*
 * Have the means before and after changed, for certain and by enough?  Welch,
 * The generalization of "Student's" problem when several different population
 * variances are involved, Biometrika 34 (1947): neither the variances nor the
 * numbers of calls need be alike.
 */
static void
judge_statement(StatementVerdict *statement)
{
	const Timing *before = &statement->before;
	const Timing *after = &statement->after;
	/* counts of a sample are scaled up, but are no better known for that */
	double n_before = before->calls * pgopt_workload_sample_rate;
	double n_after = after->calls * pgopt_workload_sample_rate;
	double v_before, v_after, freedom;
	double change = mean(after) - mean(before);

	statement->outcome = OUTCOME_TOO_FEW;
	if (n_before < FEWEST_CALLS || n_after < FEWEST_CALLS)
		return;
	statement->outcome = OUTCOME_SAME;
	if (fabs(change) < LEAST_CHANGE * mean(before))
		return;
	v_before = mean_variance(before, n_before);
	v_after = mean_variance(after, n_after);
	if (v_before + v_after > 0)
	{
		freedom = (v_before + v_after) * (v_before + v_after) /
				  (v_before * v_before / (n_before - 1) + v_after * v_after / (n_after - 1));
		statement->t = change / sqrt(v_before + v_after);
		if (fabs(statement->t) < student_limit(freedom))
			return;
	}
	else if (change == 0)
		return;
	statement->outcome = change < 0 ? OUTCOME_FASTER : OUTCOME_SLOWER;
}

/* --- words --------------------------------------------------------------------------------- */

/* "0.42 ms" */
static char *
milliseconds_text(double milliseconds)
{
	if (milliseconds >= 10000)
		return psprintf("%.1f s", milliseconds / 1000);
	return psprintf("%.*f ms", milliseconds >= 100 ? 0 : milliseconds >= 1 ? 1 : 3, milliseconds);
}

static char *
statement_reason(const StatementVerdict *verdict)
{
	char *times = psprintf("%s a call on average before (%.0f calls), %s since (%.0f calls)",
						   milliseconds_text(mean(&verdict->before)),
						   verdict->before.calls,
						   milliseconds_text(mean(&verdict->after)),
						   verdict->after.calls);

	switch (verdict->outcome)
	{
		case OUTCOME_TOO_FEW:
			return psprintf("too few calls to compare: %.0f before, %.0f since; it takes %d each",
							verdict->before.calls,
							verdict->after.calls,
							FEWEST_CALLS);
		case OUTCOME_SAME:
			return psprintf("%s: no difference that is both sure and %.0f %% or more",
							times,
							100 * LEAST_CHANGE);
		case OUTCOME_FASTER:
		case OUTCOME_SLOWER:
			break;
	}
	return psprintf("%s%s",
					times,
					verdict->outcome == OUTCOME_SLOWER && verdict->writes
						? ": it writes to the table, and so to the index"
						: "");
}

static char *
index_reason(const IndexVerdict *verdict)
{
	int judged = 0;
	char *counts;
	ListCell *cell;

	foreach(cell, verdict->statements)
		judged += ((StatementVerdict *) lfirst(cell))->outcome != OUTCOME_TOO_FEW;
	counts = psprintf("of %d statements that could be compared %d got faster and %d slower",
					  judged,
					  verdict->faster,
					  verdict->slower);
	switch (verdict->outcome)
	{
		case INDEX_TOO_EARLY:
			return list_length(verdict->statements) == 0
					   ? "no statement of the workload is known to touch its table"
					   : "no statement on its table ran often enough before and after";
		case INDEX_UNUSED:
			return psprintf("%s, and no query has used the index", counts);
		case INDEX_REVERT:
			return psprintf("%s; in all %s %s since",
							counts,
							milliseconds_text(fabs(verdict->saved)),
							verdict->saved >= 0 ? "were saved" : "were lost");
		case INDEX_KEEP:
			break;
	}
	return verdict->slower > 0
			   ? psprintf(
					 "%s; those that got slower write to the table, and in all %s were saved since",
					 counts,
					 milliseconds_text(verdict->saved))
			   : counts;
}

/* --- judging --------------------------------------------------------------------------------- */

static int
most_changed_first(const ListCell *x, const ListCell *y)
{
	const StatementVerdict *a = lfirst(x);
	const StatementVerdict *b = lfirst(y);
	double of_a = (mean(&a->after) - mean(&a->before)) * a->after.calls;
	double of_b = (mean(&b->after) - mean(&b->before)) * b->after.calls;

	if (a->outcome != b->outcome)
		return a->outcome > b->outcome ? -1 : 1; /* slower, faster, same, too few */
	if (fabs(of_a) != fabs(of_b))
		return fabs(of_a) > fabs(of_b) ? -1 : 1;
	return a->queryid < b->queryid ? -1 : a->queryid > b->queryid;
}

static void
judge_index(IndexVerdict *verdict)
{
	const RelationIndex *index = verdict->index;
	bool judged = false;
	bool reads_slower = false;
	char *name = relation_name(index->oid);
	ListCell *cell;

	read_timings(verdict);
	foreach(cell, verdict->statements)
	{
		StatementVerdict *statement = lfirst(cell);

		judge_statement(statement);
		judged |= statement->outcome != OUTCOME_TOO_FEW;
		if (statement->outcome != OUTCOME_FASTER && statement->outcome != OUTCOME_SLOWER)
			continue;
		verdict->saved +=
			(mean(&statement->before) - mean(&statement->after)) * statement->after.calls;
		if (statement->outcome == OUTCOME_FASTER)
			verdict->faster++;
		else
		{
			verdict->slower++;
			reads_slower |= !statement->writes;
		}
	}
	list_sort(verdict->statements, most_changed_first);

	/* that writes cost more was known when it was made, that reads do was not */
	verdict->outcome = !judged                                      ? INDEX_TOO_EARLY
					   : reads_slower                               ? INDEX_REVERT
					   : verdict->slower > 0 && verdict->saved <= 0 ? INDEX_REVERT
					   : verdict->faster > 0                        ? INDEX_KEEP
					   : index->scans == 0                          ? INDEX_UNUSED
																	: INDEX_KEEP;
	verdict->reason = index_reason(verdict);
	if (verdict->slower > 0 && name != NULL && index_is_for_queries(index))
	{
		const char *lock;

		verdict->revert = index_drop_sql(index, name, &lock);
		if (key_needs_index(NULL, index))
			verdict->reason =
				psprintf("%s; without it a foreign key would have no index", verdict->reason);
	}
}

static StatementVerdict *
add_statement(IndexVerdict *verdict, int64 queryid)
{
	StatementVerdict *statement;
	ListCell *cell;

	foreach(cell, verdict->statements)
	{
		statement = lfirst(cell);
		if (statement->queryid == queryid)
			return statement;
	}
	statement = palloc0(sizeof(StatementVerdict));
	statement->queryid = queryid;
	verdict->statements = lappend(verdict->statements, statement);
	return statement;
}

/* Those that read or write the index's table, or are partitions of the same, and those that it was meant for. */
static void
add_statements(const Relations *relations, IndexVerdict *verdict, List *workload,
			   const Advised *advised)
{
	const RelationInfo *root = relation_root(verdict->index->table);
	ListCell *cell;
	ListCell *lc;

	foreach(cell, workload)
	{
		const AdvisorStatement *statement = lfirst(cell);

		foreach(lc, statement->relations)
		{
			RelationInfo *table = relations_table(relations, lfirst_oid(lc));

			if (table == NULL || relation_root(table) != root)
				continue;
			table = relations_table(relations, statement->target);
			add_statement(verdict, statement->queryid)->writes |=
				statement->command != CMD_SELECT && table != NULL && relation_root(table) == root;
			break;
		}
	}
	if (advised != NULL)
		foreach(cell, advised->queryids)
			(void) add_statement(verdict, *(int64 *) lfirst(cell));
}

static bool
was_called_before(const IndexVerdict *verdict)
{
	ListCell *cell;

	foreach(cell, verdict->statements)
		if (((StatementVerdict *) lfirst(cell))->before.calls > 0)
			return true;
	return false;
}

static int
advised_first(const ListCell *x, const ListCell *y)
{
	const IndexVerdict *a = lfirst(x);
	const IndexVerdict *b = lfirst(y);

	if (a->advised != b->advised)
		return a->advised ? -1 : 1;
	if (a->created != b->created)
		return a->created > b->created ? -1 : 1;
	return a->index->oid < b->index->oid ? -1 : a->index->oid > b->index->oid;
}

List *
verdicts_read(const Relations *relations, bool advised_only)
{
	TimestampTz since = workload_since();
	List *advice = read_advice();
	List *workload = NIL;
	List *verdicts = NIL;
	bool prepared = false;

	for (int i = 0; since != 0 && i < relations->nindexes; i++)
	{
		const RelationIndex *index = &relations->indexes[i];
		const Advised *advised;
		TimestampTz created;
		IndexVerdict *verdict;

		if (!index_is_usable(index) || !relation_is_users(index->table) || index->parent != NULL)
			continue;
		CHECK_FOR_INTERRUPTS();
		advised = find_advised(advice, index);
		created = advised != NULL || !advised_only ? created_at(relations, index) : 0;
		if (created == 0 || (advised == NULL && (advised_only || created < since)))
			continue;
		if (!prepared)
		{
			workload = statements_prepare(workload_read(0), NULL);
			prepared = true;
		}
		verdict = palloc0(sizeof(IndexVerdict));
		verdict->index = index;
		verdict->advised = advised != NULL;
		verdict->created = created;
		add_statements(relations, verdict, workload, advised);
		judge_index(verdict);
		/* those that came with their table tell nothing */
		if (verdict->advised || was_called_before(verdict))
			verdicts = lappend(verdicts, verdict);
	}
	list_sort(verdicts, advised_first);
	return verdicts;
}

/* --- rows ---------------------------------------------------------------------------------------- */

static void
put_row(ReturnSetInfo *rsinfo, const IndexVerdict *verdict, const StatementVerdict *statement)
{
	Datum values[COLUMNS] = {0};
	bool nulls[COLUMNS] = {0};
	double bytes = verdict->index->partitioned ? verdict->index->bytes
											   : relation_file_bytes(verdict->index->oid);

	values[COL_INDEX] = ObjectIdGetDatum(verdict->index->oid);
	values[COL_TABLE] = ObjectIdGetDatum(verdict->index->table->oid);
	values[COL_CREATED] = TimestampTzGetDatum(verdict->created);
	values[COL_SIZE] = Int64GetDatum((int64) Max(bytes, 0));
	values[COL_INDEX_VERDICT] = CStringGetTextDatum(index_outcomes[verdict->outcome]);
	nulls[COL_REVERT] = verdict->revert == NULL;
	if (verdict->revert != NULL)
		values[COL_REVERT] = CStringGetTextDatum(verdict->revert);
	values[COL_ADVISED] = BoolGetDatum(verdict->advised);
	if (statement == NULL)
	{
		for (int i = COL_QUERYID; i <= COL_RATIO; i++)
			nulls[i] = true;
		values[COL_VERDICT] = CStringGetTextDatum(outcomes[OUTCOME_TOO_FEW]);
		values[COL_REASON] = CStringGetTextDatum(verdict->reason);
	}
	else
	{
		nulls[COL_MEAN_BEFORE] = statement->before.calls <= 0;
		nulls[COL_MEAN_AFTER] = statement->after.calls <= 0;
		nulls[COL_RATIO] = mean(&statement->before) <= 0 || nulls[COL_MEAN_AFTER];
		values[COL_QUERYID] = Int64GetDatum(statement->queryid);
		values[COL_CALLS_BEFORE] = Int64GetDatum((int64) rint(statement->before.calls));
		values[COL_MEAN_BEFORE] = Float8GetDatum(mean(&statement->before));
		values[COL_CALLS_AFTER] = Int64GetDatum((int64) rint(statement->after.calls));
		values[COL_MEAN_AFTER] = Float8GetDatum(mean(&statement->after));
		if (!nulls[COL_RATIO])
			values[COL_RATIO] = Float8GetDatum(mean(&statement->after) / mean(&statement->before));
		values[COL_VERDICT] = CStringGetTextDatum(outcomes[statement->outcome]);
		values[COL_REASON] = CStringGetTextDatum(
			psprintf("%s; of the index: %s", statement_reason(statement), verdict->reason));
	}
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

Datum
pgopt_index_verdicts(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	ListCell *cell;
	PgoptSpi spi;

	InitMaterializedSRF(fcinfo, 0);
	pgstat_clear_snapshot();
	pgopt_spi_begin_as_caller(&spi);
	foreach(cell, verdicts_read(relations_read(CurrentMemoryContext), false))
	{
		const IndexVerdict *verdict = lfirst(cell);
		ListCell *lc;

		if (relation_name(verdict->index->oid) == NULL)
			continue; /* gone since */
		foreach(lc, verdict->statements)
			put_row(rsinfo, verdict, lfirst(lc));
		if (verdict->statements == NIL)
			put_row(rsinfo, verdict, NULL);
	}
	pgopt_spi_end(&spi);
	return (Datum) 0;
}
