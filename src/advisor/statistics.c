/*
 * statistics.c
 *		What ANALYZE would say of the expressions of an index.
 *
 * The sampled values go through the type's own functions for ANALYZE, and what
 * they find becomes a tuple of pg_statistic's shape, which the planner gets in
 * place of one.  The number of distinct values is what a sample tells least of;
 * where the expression is made of one column of which ANALYZE has seen more, it
 * is set right by that.
 *
 * Memory: the tuple is kept with the sample; an index has a copy of its own.
 *
 * Cost: a sort of the sample's values for each expression.
 */
#include "pgopt.h"

#include <math.h>

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_statistic.h"
#include "catalog/pg_type.h"
#include "commands/vacuum.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/array.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "compat.h"
#include "hypothetical.h"
#include "rows.h"
#include "size.h"

/* Sampled rows that may differ in expression and column, of which still nobody would say that it has fewer values. */
#define SAME_DISTINCT 0.002

typedef struct Analysis
{
	RowSample *sample;
	RowColumn *column;
	Oid collation;
	VacAttrStats *stats;
} Analysis;

static Datum
fetch_value(VacAttrStatsP stats, int row, bool *isnull)
{
	*isnull = stats->exprnulls[row];
	return stats->exprvals[row];
}

/* In the order in which they lie in the table: that is what the correlation is with. */
static void
set_values(VacAttrStats *stats, const RowSample *sample, const RowColumn *column)
{
	int *order = palloc(sizeof(int) * Max(sample->nrows, 1));
	int n = 0;

	stats->exprvals = palloc(sizeof(Datum) * Max(column->nrows, 1));
	stats->exprnulls = palloc(sizeof(bool) * Max(column->nrows, 1));
	stats->rowstride = 1;
	memset(order, -1, sizeof(int) * sample->nrows);
	for (int i = 0; i < column->nrows; i++)
		order[sample->places[i]] = i;
	for (int i = 0; i < sample->nrows; i++)
	{
		if (order[i] < 0)
			continue;
		stats->exprvals[n] = column->values[order[i]];
		stats->exprnulls[n++] = column->nulls[order[i]];
	}
	pfree(order);
}

static void
analyze(void *arg)
{
	Analysis *analysis = arg;
	VacAttrStats *stats = palloc0(sizeof(VacAttrStats));
	Form_pg_attribute form = &analysis->column->form;
	HeapTuple type = SearchSysCacheCopy1(TYPEOID, ObjectIdGetDatum(form->atttypid));
	bool found;

	if (!HeapTupleIsValid(type))
		elog(ERROR, "cache lookup failed for type %u", form->atttypid);
	compat_set_statistics_target(stats, -1);
	stats->attrtypid = form->atttypid;
	stats->attrtypmod = form->atttypmod;
	stats->attrtype = (Form_pg_type) GETSTRUCT(type);
	stats->attrcollid = analysis->collation;
	stats->anl_context = CurrentMemoryContext;
	for (int i = 0; i < STATISTIC_NUM_SLOTS; i++)
	{
		stats->statypid[i] = stats->attrtypid;
		stats->statyplen[i] = stats->attrtype->typlen;
		stats->statypbyval[i] = stats->attrtype->typbyval;
		stats->statypalign[i] = stats->attrtype->typalign;
	}
	found =
		OidIsValid(stats->attrtype->typanalyze)
			? DatumGetBool(OidFunctionCall1(stats->attrtype->typanalyze, PointerGetDatum(stats)))
			: std_typanalyze(stats);
	if (!found || stats->compute_stats == NULL)
		return;
	set_values(stats, analysis->sample, analysis->column);
	stats->compute_stats(stats, fetch_value, analysis->column->nrows, analysis->sample->tuples);
	if (stats->stats_valid)
		analysis->stats = stats;
}

/* --- distinct values ------------------------------------------------------------------- */

static int
by_hash(const void *a, const void *b)
{
	uint32 x = *(const uint32 *) a;
	uint32 y = *(const uint32 *) b;

	return x < y ? -1 : x > y ? 1 : 0;
}

static int
sample_distinct(RowSample *sample, RowColumn *column, int nrows)
{
	const uint32 *hashes = rows_hashes(sample, column);
	uint32 *sorted = palloc(sizeof(uint32) * Max(nrows, 1));
	int n = 0;
	int distinct;

	for (int i = 0; i < nrows; i++)
		if (!column->nulls[i])
			sorted[n++] = hashes[i];
	qsort(sorted, n, sizeof(uint32), by_hash);
	distinct = n > 0 ? 1 : 0;
	for (int i = 1; i < n; i++)
		distinct += sorted[i] != sorted[i - 1];
	pfree(sorted);
	return distinct;
}

/* A function of one column has no more values than that, and as many where the sample shows no difference. */
static void
correct_distinct(VacAttrStats *stats, RowSample *sample, RowColumn *column)
{
	Bitmapset *columns = NULL;
	AttrNumber attnum;
	RowColumn *base;
	double known;
	double estimate =
		stats->stadistinct < 0 ? -stats->stadistinct * sample->tuples : stats->stadistinct;

	pull_varattnos(column->expression, 1, &columns);
	if (sample->tuples <= 0 || bms_membership(columns) != BMS_SINGLETON)
		return;
	attnum = bms_singleton_member(columns) + FirstLowInvalidHeapAttributeNumber;
	if (attnum <= 0)
		return;
	known = size_known_distinct(sample->table,
								attnum,
								get_rel_relkind(sample->table) == RELKIND_PARTITIONED_TABLE,
								sample->tuples);
	if (known <= 0)
		return;
	base = rows_column(sample, attnum, NULL);
	if (estimate < known)
	{
		int mine = sample_distinct(sample, column, column->nrows);
		int theirs = sample_distinct(sample, base, column->nrows);

		if (theirs - mine > SAME_DISTINCT * theirs)
			return;
	}
	/* As ANALYZE says it: what is more than a tenth of the rows grows with them. */
	stats->stadistinct = known > 0.1 * sample->tuples ? -Min(known / sample->tuples, 1) : known;
}

/* --- the tuple --------------------------------------------------------------------------- */

static Datum
float_array(const float4 *numbers, int n)
{
	Datum *values = palloc(sizeof(Datum) * n);

	for (int i = 0; i < n; i++)
		values[i] = Float4GetDatum(numbers[i]);
	return PointerGetDatum(
		construct_array(values, n, FLOAT4OID, sizeof(float4), true, TYPALIGN_INT));
}

static HeapTuple
form_tuple(const VacAttrStats *stats, Oid table)
{
	Relation catalog = table_open(StatisticRelationId, AccessShareLock);
	Datum values[Natts_pg_statistic] = {0};
	bool nulls[Natts_pg_statistic] = {false};
	HeapTuple tuple;

	values[Anum_pg_statistic_starelid - 1] = ObjectIdGetDatum(table);
	values[Anum_pg_statistic_staattnum - 1] = Int16GetDatum(1);
	values[Anum_pg_statistic_stainherit - 1] = BoolGetDatum(false);
	values[Anum_pg_statistic_stanullfrac - 1] = Float4GetDatum(stats->stanullfrac);
	values[Anum_pg_statistic_stawidth - 1] = Int32GetDatum(stats->stawidth);
	values[Anum_pg_statistic_stadistinct - 1] = Float4GetDatum(stats->stadistinct);
	for (int i = 0; i < STATISTIC_NUM_SLOTS; i++)
	{
		int numbers = Anum_pg_statistic_stanumbers1 - 1 + i;
		int elements = Anum_pg_statistic_stavalues1 - 1 + i;

		values[Anum_pg_statistic_stakind1 - 1 + i] = Int16GetDatum(stats->stakind[i]);
		values[Anum_pg_statistic_staop1 - 1 + i] = ObjectIdGetDatum(stats->staop[i]);
		values[Anum_pg_statistic_stacoll1 - 1 + i] = ObjectIdGetDatum(stats->stacoll[i]);
		nulls[numbers] = stats->numnumbers[i] <= 0;
		if (!nulls[numbers])
			values[numbers] = float_array(stats->stanumbers[i], stats->numnumbers[i]);
		nulls[elements] = stats->numvalues[i] <= 0;
		if (!nulls[elements])
			values[elements] = PointerGetDatum(construct_array(stats->stavalues[i],
															   stats->numvalues[i],
															   stats->statypid[i],
															   stats->statyplen[i],
															   stats->statypbyval[i],
															   stats->statypalign[i]));
	}
	tuple = heap_form_tuple(RelationGetDescr(catalog), values, nulls);
	table_close(catalog, AccessShareLock);
	return tuple;
}

/* Of one expression, once a sample; NULL where there are none. */
static HeapTuple
expression_statistics(RowSample *sample, RowColumn *column, Oid collation)
{
	MemoryContext scratch;
	MemoryContext old;
	Analysis analysis = {.sample = sample, .column = column, .collation = collation};

	if (column->stats_tried)
		return column->stats;
	column->stats_tried = true;
	if (!column->known || column->nrows == 0)
		return NULL;
	scratch = AllocSetContextCreate(
		CurrentMemoryContext, "pgopt expression statistics", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(scratch);
	if (rows_as_owner(sample, analyze, &analysis) == NULL && analysis.stats != NULL)
	{
		HeapTuple tuple;

		correct_distinct(analysis.stats, sample, column);
		tuple = form_tuple(analysis.stats, sample->table);
		MemoryContextSwitchTo(sample->context);
		column->stats = heap_copytuple(tuple);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
	return column->stats;
}

List *
statistics_of(const HypotheticalIndex *index, RowSample *sample)
{
	List *all = NIL;

	for (int i = 0; i < index->nkeys; i++)
	{
		const HypotheticalColumn *col = &index->columns[i];
		HeapTuple tuple;

		if (col->attnum != 0)
			continue;
		tuple =
			expression_statistics(sample, rows_column(sample, 0, col->expression), col->collation);
		all = lappend(all, tuple != NULL ? heap_copytuple(tuple) : NULL);
	}
	return all;
}
