/*
 * hygiene.c
 *		The function pgopt_index_hygiene().
 *
 * A row for each index that is at fault, and for each foreign key that wants
 * one, with the statement that mends it.  All of them may be run: those that
 * rest on too little to be run today are comments.  What is more for
 * constraints, replica identities or clustering than for queries is not told.
 *
 * Locks: AccessShareLock on indexes that may be bloated and their tables, never
 * waited for; and those of planning (hygiene.h).  Memory: the caller's context.
 *
 * Cost: a pass over the catalogs, a planner call for each statement of the
 * workload on a table with an index that may be unused, and 0.2 to 3 ms for
 * each index that is large enough to be bloated.
 */
#include "pgopt.h"

#include "access/xlog.h"
#include "catalog/namespace.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "bloat.h"
#include "core.h"
#include "hygiene.h"
#include "monitor.h"

PG_FUNCTION_INFO_V1(pgopt_index_hygiene);

/* Columns of pgopt_index_hygiene(). */
enum
{
	COL_INDEX,
	COL_PROBLEM,
	COL_DDL,
	COL_REASON,
	COL_TABLE,
	COL_SIZE,
	COL_USAGE,
	COL_SCANS,
	COL_CONFIDENCE,
	COL_LOCK,
	COLUMNS
};

/* The order of rows: what is broken first, what may wait last. */
typedef enum Problem
{
	PROBLEM_INVALID,
	PROBLEM_DUPLICATE,
	PROBLEM_REDUNDANT,
	PROBLEM_UNUSED,
	PROBLEM_BLOATED,
	PROBLEM_FOREIGN_KEY,
	PROBLEM_RARELY_USED,
} Problem;

static const char *const problems[] = {
	[PROBLEM_INVALID] = "invalid",
	[PROBLEM_DUPLICATE] = "duplicate",
	[PROBLEM_REDUNDANT] = "redundant",
	[PROBLEM_UNUSED] = "unused",
	[PROBLEM_BLOATED] = "bloated",
	[PROBLEM_FOREIGN_KEY] = "foreign_key_unindexed",
	[PROBLEM_RARELY_USED] = "rarely_used",
};

typedef struct HygieneRow
{
	Problem problem;
	double bytes; /* of the index; of the table where there is none */
	Oid index;
	Oid table;
	double scans;
	const char *ddl;
	const char *reason;
	const char *confidence;
	const char *lock;
} HygieneRow;

/* --- words ------------------------------------------------------------------------ */

/* To the minute. */
static char *
date_text(TimestampTz when)
{
	return psprintf("%.16s", timestamptz_to_str(when));
}

/* "3.5 days" */
static char *
days_text(double seconds)
{
	double days = seconds / SECS_PER_DAY;

	if (seconds < SECS_PER_HOUR)
		return psprintf("%.0f minutes", seconds / SECS_PER_MINUTE);
	if (days < 1)
		return psprintf("%.0f hours", seconds / SECS_PER_HOUR);
	return psprintf("%.*f days", days < 10 ? 1 : 0, days);
}

/* A statement that is not to be run yet. */
static char *
as_comment(const char *when, const char *sql)
{
	/* a name of several lines would end the comment */
	return psprintf(
		"-- %s: %s", when, strpbrk(sql, "\r\n") == NULL ? sql : "DROP INDEX (its name has lines)");
}

/* ", but ...", of those who cannot be seen from here. */
static char *
standbys_text(const Hygiene *hygiene)
{
	int count = hygiene->standbys + hygiene->slots;

	if (count == 0)
		return "";
	return psprintf("; %d standby%s ha%s scans of %s own, which are not known here",
					count,
					count > 1 ? "s" : "",
					count > 1 ? "ve" : "s",
					count > 1 ? "their" : "its");
}

/* --- rows of indexes ---------------------------------------------------------------- */

static HygieneRow *
new_row(List **rows, Problem problem, const RelationIndex *index)
{
	HygieneRow *row = palloc0(sizeof(HygieneRow));

	row->problem = problem;
	if (index != NULL)
	{
		row->index = index->oid;
		row->table = index->table->oid;
		row->scans = index->scans;
		row->bytes = index->partitioned ? index->bytes : Max(relation_file_bytes(index->oid), 0);
	}
	*rows = lappend(*rows, row);
	return row;
}

static void
add_invalid(const Hygiene *hygiene, const RelationIndex *index, const char *name, List **rows)
{
	HygieneRow *row;
	bool failed;

	if (!index_is_invalid(index))
		return;
	row = new_row(rows, PROBLEM_INVALID, index);
	row->ddl = index_invalid_sql(hygiene, index, name, &row->lock, &failed);
	row->confidence = "high";
	row->reason = psprintf(
		"queries do not use it%s: %s",
		index->ready ? ", and every write pays for it" : "",
		index_is_leftover(index) ? "it is left over from a REINDEX CONCURRENTLY that did not end"
		: failed
			? "it was to be unique, and most likely there are duplicates; once there are none, "
			  "create it again"
			: "CREATE, REINDEX or DROP INDEX CONCURRENTLY did not end");
}

static void
add_covered(const Hygiene *hygiene, const RelationIndex *index, const char *name, List **rows)
{
	const IndexJudgement *judgement = hygiene_of(hygiene, index);
	const RelationIndex *cover = judgement->cover;
	bool duplicate = judgement->fault == FAULT_DUPLICATE;
	char *other = relation_name(cover->oid);
	HygieneRow *row;

	if (index_has_constraint(index) || other == NULL)
		return;
	row = new_row(rows, duplicate ? PROBLEM_DUPLICATE : PROBLEM_REDUNDANT, index);
	row->ddl = index_drop_sql(index, name, &row->lock);
	row->confidence = "high";
	row->reason =
		duplicate ? psprintf("%s does the same: table, method, columns, operator classes, "
							 "collations, order and predicate are equal",
							 other)
				  : psprintf("%s (%s) begins with its columns, in the same order, with the same "
							 "operator classes, collations and predicate, and can stand in for it",
							 other,
							 bytes_text(cover->bytes));
	if (duplicate && judgement->longer != NULL)
		row->reason = psprintf(
			"%s; %s begins with its columns", row->reason, relation_name(judgement->longer->oid));
}

/* How sure it is that nobody, or hardly anybody, uses it; and until when one should wait. */
static void
add_idle(const Hygiene *hygiene, const RelationIndex *index, const IndexJudgement *judgement,
		 const char *name, List **rows)
{
	bool rare = judgement->fault == FAULT_RARELY_USED;
	HygieneRow *row = new_row(rows, rare ? PROBLEM_RARELY_USED : PROBLEM_UNUSED, index);
	char *sql = index_drop_sql(index, name, &row->lock);
	TimestampTz since = judgement->since;
	double seconds = (double) (hygiene->now - since) / USECS_PER_SEC;
	TimestampTz from = since + (TimestampTz) (hygiene->seconds * USECS_PER_SEC);
	char *watched = since == 0 ? "it is not known since when scans are counted"
							   : psprintf("scans are counted for %s, since %s%s",
										  days_text(seconds),
										  date_text(since),
										  since > hygiene->since ? ", when its file was made"
										  : hygiene->reset ? ", when the statistics were reset"
														   : ", when the server began to");
	bool unseen = hygiene->standbys + hygiene->slots > 0;

	row->confidence = "low";
	if (rare)
		row->ddl = as_comment("if those few queries can do without", sql);
	else if (!pgstat_track_counts)
		row->ddl = as_comment("not before track_counts is on", sql);
	else if (judgement->fault == FAULT_UNSEEN)
		row->ddl = as_comment(since == 0 ? "not before it is known to be unused"
										 : psprintf("not before %s", date_text(from)),
							  sql);
	else if (unseen)
		row->ddl = as_comment("if no standby uses it", sql);
	else
	{
		row->ddl = sql;
		row->confidence = seconds >= threshold_value(&hygiene_unused_warning) ? "high" : "medium";
	}
	row->reason = psprintf(
		"%s%s; %s%s%s%s",
		rare ? psprintf("used " INT64_FORMAT " times", index->scans) : "no query has used it",
		index->has_expressions ? ", though the planner may use the statistics of its expressions"
							   : "",
		watched,
		judgement->fault != FAULT_UNSEEN || since == 0
			? ""
			: psprintf(": too short to judge before %s", date_text(from)),
		pgstat_track_counts ? "" : "; track_counts is off",
		standbys_text(hygiene));
}

/* --- bloat --------------------------------------------------------------------------- */

typedef struct Judging
{
	const RelationIndex *index;
	BloatJudgement *judgement;
	bool bloated;
} Judging;

static void
judge_bloat(void *arg)
{
	Judging *judging = arg;
	BloatJudgement *judgement = judging->judgement;

	judging->bloated =
		bloat_judge_index(judging->index->oid, judging->index->table->oid, judgement) &&
		judgement->remedy.sql != NULL && bloat_is_enough(judgement->low, &judgement->estimate);
}

/* A page that cannot be read is health's business. */
static bool
is_bloated(const RelationIndex *index, BloatJudgement *judgement)
{
	Judging judging = {.index = index, .judgement = judgement};

	return core_try(judge_bloat, &judging, true) == NULL && judging.bloated;
}

static void
add_bloated(const Hygiene *hygiene, const RelationIndex *index, List **rows)
{
	BloatJudgement judgement = {0};
	const BloatEstimate *estimate = &judgement.estimate;
	HygieneRow *row;

	if (index->partitioned || !index_is_usable(index) || hygiene_drops(hygiene, index) ||
		(index->table->class != RELATION_USER && index->table->class != RELATION_TOAST) ||
		relation_file_bytes(index->oid) < threshold_value(&bloat_worth_size) ||
		!bloat_may_measure(index->table->main != NULL ? index->table->main->oid
													  : index->table->oid) ||
		!is_bloated(index, &judgement))
		return;
	row = new_row(rows, PROBLEM_BLOATED, index);
	row->ddl = judgement.remedy.sql;
	row->lock = judgement.remedy.lock;
	row->confidence = bloat_confidence_name(estimate->confidence);
	row->reason = psprintf("a rebuild would give back %s of %s (%.0f %%), at least %s",
						   bytes_text(bloat_reclaimable(estimate)),
						   bytes_text(estimate->size),
						   bloat_percent(bloat_reclaimable(estimate), estimate),
						   bytes_text(judgement.low));
}

/* --- foreign keys ---------------------------------------------------------------------- */

/* The one that goes furthest of those that an index on some of its columns would serve. */
static bool
is_served_by_longer(const Relations *relations, const RelationConstraint *key)
{
	for (const RelationConstraint *c = key->table->constraints; c != NULL; c = c->next)
		if (c != key && key_lacks_index(c) && key_serves_key(c, key) &&
			(c->nkeys > key->nkeys || c->oid < key->oid))
			return true;
	return false;
}

static void
add_foreign_key(const RelationConstraint *key, List **rows, List **names)
{
	char *constraint = get_constraint_name(key->oid);
	char *to = relation_name(key->referenced->oid);
	char *columns = key_columns(key);
	char *table = get_rel_name(key->table->oid);
	char *schema = get_namespace_name(key->table->namespace);
	StringInfoData also;
	StringInfoData words;
	HygieneRow *row;
	char *name = NULL;

	if (constraint == NULL || to == NULL || columns == NULL || table == NULL || schema == NULL)
		return;
	initStringInfo(&words);
	for (int i = 0; i < key->nkeys; i++)
	{
		char *column = get_attname(key->table->oid, key->keys[i], true);

		if (column == NULL)
			return;
		appendStringInfo(&words, "%s%s", i > 0 ? "_" : "", column);
	}
	/* as the server would choose it, but for the names that are given to others here */
	for (int i = 0; name == NULL; i++)
	{
		ListCell *cell;

		name = ChooseRelationName(table,
								  words.data,
								  i == 0 ? "idx" : psprintf("idx_%d", i),
								  key->table->namespace,
								  false);
		foreach(cell, *names)
			if (name != NULL && strcmp(quote_qualified_identifier(schema, name), lfirst(cell)) == 0)
				name = NULL;
	}
	*names = lappend(*names, quote_qualified_identifier(schema, name));

	initStringInfo(&also);
	for (const RelationConstraint *c = key->table->constraints; c != NULL; c = c->next)
		if (c != key && key_lacks_index(c) && key_serves_key(key, c))
			appendStringInfo(
				&also, "; serves %s, too", quote_identifier(get_constraint_name(c->oid)));

	row = new_row(rows, PROBLEM_FOREIGN_KEY, NULL);
	row->table = key->table->oid;
	row->bytes = key->table->bytes;
	row->ddl = key_index_sql(key, quote_identifier(name), &row->lock);
	row->confidence = "high";
	row->reason =
		psprintf("no index of it begins with (%s), the foreign key %s: each row that goes "
				 "from %s, or changes its key, costs a scan of about %.0f rows%s",
				 columns,
				 quote_identifier(constraint),
				 to,
				 key->table->rows,
				 also.data);
}

/* --- all of them ------------------------------------------------------------------------ */

static void
collect(const Hygiene *hygiene, List **rows)
{
	const Relations *relations = hygiene->relations;
	List *names = NIL;

	for (int i = 0; i < relations->nindexes; i++)
	{
		const RelationIndex *index = &relations->indexes[i];
		const IndexJudgement *judgement = &hygiene->judgement[i];
		char *name;

		CHECK_FOR_INTERRUPTS();
		if (index->table == NULL)
			continue;
		add_bloated(hygiene, index, rows);
		name = judgement->fault != FAULT_NONE ? relation_name(index->oid) : NULL;
		if (name == NULL || relation_name(index->table->oid) == NULL)
			continue;
		switch (judgement->fault)
		{
			case FAULT_NONE:
				break;
			case FAULT_INVALID:
				add_invalid(hygiene, index, name, rows);
				break;
			case FAULT_DUPLICATE:
			case FAULT_REDUNDANT:
				add_covered(hygiene, index, name, rows);
				break;
			case FAULT_UNUSED:
			case FAULT_UNSEEN:
			case FAULT_RARELY_USED:
				add_idle(hygiene, index, judgement, name, rows);
				break;
		}
	}
	for (int i = 0; i < relations->nconstraints; i++)
	{
		const RelationConstraint *key = &relations->constraints[i];

		CHECK_FOR_INTERRUPTS();
		if (key_lacks_index(key) && !is_served_by_longer(relations, key))
			add_foreign_key(key, rows, &names);
	}
}

static int
worst_first(const ListCell *x, const ListCell *y)
{
	const HygieneRow *a = lfirst(x);
	const HygieneRow *b = lfirst(y);

	if (a->problem != b->problem)
		return a->problem < b->problem ? -1 : 1;
	if (a->bytes != b->bytes)
		return a->bytes > b->bytes ? -1 : 1;
	if (a->table != b->table)
		return a->table < b->table ? -1 : 1;
	return a->index < b->index ? -1 : a->index > b->index;
}

static void
put_row(ReturnSetInfo *rsinfo, const HygieneRow *row)
{
	bool key = row->problem == PROBLEM_FOREIGN_KEY;
	const char *texts[COLUMNS] = {
		[COL_PROBLEM] = problems[row->problem],
		[COL_DDL] = row->ddl,
		[COL_REASON] = row->reason,
		[COL_USAGE] = key                               ? NULL
					  : row->scans == 0                 ? "unused"
					  : row->scans < HYGIENE_RARE_SCANS ? "rarely_used"
														: "active",
		[COL_CONFIDENCE] = row->confidence,
		[COL_LOCK] = row->lock,
	};
	Datum values[COLUMNS] = {0};
	bool nulls[COLUMNS];

	for (int i = 0; i < COLUMNS; i++)
	{
		nulls[i] = (texts[i] == NULL);
		if (texts[i] != NULL)
			values[i] = CStringGetTextDatum(texts[i]);
	}
	values[COL_TABLE] = ObjectIdGetDatum(row->table);
	nulls[COL_TABLE] = false;
	values[COL_INDEX] = ObjectIdGetDatum(row->index);
	values[COL_SIZE] = Int64GetDatum((int64) row->bytes);
	values[COL_SCANS] = Int64GetDatum((int64) row->scans);
	nulls[COL_INDEX] = nulls[COL_SIZE] = nulls[COL_SCANS] = key;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

Datum
pgopt_index_hygiene(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	List *rows = NIL;
	ListCell *cell;
	PgoptSpi spi;

	InitMaterializedSRF(fcinfo, 0);
	pgstat_clear_snapshot();
	pgopt_spi_begin_as_caller(&spi);
	collect(hygiene_judge(relations_read(CurrentMemoryContext), GetCurrentTimestamp(), 0), &rows);
	list_sort(rows, worst_first);
	foreach(cell, rows)
		put_row(rsinfo, lfirst(cell));
	pgopt_spi_end(&spi); /* with it goes the memory of all this */
	return (Datum) 0;
}
