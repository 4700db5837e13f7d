/*
 * accumulate.c
 *		What groups are made of, and how it follows what changes.
 *
 * A count and a sum of integers or numerics can be added to and taken from
 * (Gupta, Mumick and Subrahmanian, Maintaining Views Incrementally, SIGMOD
 * 1993, section 4).  Of a minimum, the smallest values are kept, with
 * duplicates, up to EXTREMES_KEPT: when values go, those that are left are
 * still the smallest, until none is left (Palpanas, Sidle, Cochrane and
 * Pirahesh, Incremental Maintenance for Non-Distributive Aggregate Functions,
 * VLDB 2002).  A list that does not hold all values of its group ends with a
 * NULL, and of what is not in it, it is known only that it is not smaller than
 * the last that is.
 *
 * Memory: results and what a change keeps are allocated in the current context;
 * a change keeps what came and went of extremes value by value.
 */
#include "pgopt.h"

#include "catalog/pg_type.h"
#include "common/int.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"

#include "groups_private.h"

void
accumulator_types_init(AccumulatorType *types, const GroupSpec *spec)
{
	for (int i = 0; i < spec->naccumulators; i++)
	{
		AccumulatorType *type = &types[i];

		type->spec = &spec->accumulators[i];
		value_type_init(&type->column, &type->spec->column);
		value_type_init(&type->value, &type->spec->value);
	}
}

static Datum
int64_numeric(int64 number)
{
	return NumericGetDatum(int64_to_numeric(number));
}

Datum
accumulator_initial(const AccumulatorType *type, bool *isnull)
{
	*isnull = false;
	switch (type->spec->kind)
	{
		case ACC_COUNT:
		case ACC_SUM_INT:
			return Int64GetDatum(0);
		case ACC_SUM_NUMERIC:
			return int64_numeric(0);
		case ACC_SMALLEST:
		case ACC_LARGEST:
			return PointerGetDatum(construct_empty_array(type->value.type));
		case ACC_DISTINCT:
		case ACC_RECOMPUTED:
			break;
	}
	*isnull = true;
	return (Datum) 0;
}

/* --- sums --------------------------------------------------------------------------- */

static int64
add_int64(int64 a, int64 b)
{
	int64 sum;

	if (pg_add_s64_overflow(a, b, &sum))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE), errmsg("bigint out of range")));
	return sum;
}

static int64
multiply_int64(int64 a, int64 b)
{
	int64 product;

	if (pg_mul_s64_overflow(a, b, &product))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE), errmsg("bigint out of range")));
	return product;
}

/* A sum that NaN or infinity went into cannot be found without them. */
static void
check_finite(Datum number)
{
	Numeric numeric = DatumGetNumeric(number);

	if (numeric_is_nan(numeric) || numeric_is_inf(numeric))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a sum of NaN or infinity cannot follow changes")));
}

static void
add_numeric(AccumulatorChange *change, Datum number, int64 weight)
{
	Datum sum;

	check_finite(number);
	if (weight != 1)
		number = DirectFunctionCall2(numeric_mul, number, int64_numeric(weight));
	sum = change->sum == 0 ? datumCopy(number, false, -1)
						   : DirectFunctionCall2(numeric_add, change->sum, number);
	if (change->sum != 0)
		pfree(DatumGetPointer(change->sum));
	change->sum = sum;
}

/* A bigint is added as such for as long as that does not overflow. */
static void
add_bigint(AccumulatorChange *change, int64 number, int64 weight)
{
	int64 product;
	int64 sum;

	if (!pg_mul_s64_overflow(number, weight, &product) &&
		!pg_add_s64_overflow(change->number, product, &sum))
		change->number = sum;
	else
		add_numeric(change, int64_numeric(number), weight);
}

static int64
small_integer(const AccumulatorType *type, Datum value)
{
	if (type->value.length == sizeof(int16))
		return DatumGetInt16(value);
	if (type->value.length == sizeof(int32))
		return DatumGetInt32(value);
	return DatumGetInt64(value);
}

static Datum
numeric_after(Datum old, const AccumulatorChange *change)
{
	Datum sum = old;

	if (change->number != 0)
		sum = DirectFunctionCall2(numeric_add, sum, int64_numeric(change->number));
	if (change->sum != 0)
		sum = DirectFunctionCall2(numeric_add, sum, change->sum);
	return sum;
}

/* --- extremes --------------------------------------------------------------------- */

/* Before, in a list of extremes, is smaller in one of smallest values, and larger in the other. */
static int
compare_extremes(const AccumulatorType *type, Datum a, Datum b)
{
	int order = value_compare(&type->value, a, b);

	return type->spec->kind == ACC_LARGEST ? -order : order;
}

static int
compare_weighted(const void *a, const void *b, void *arg)
{
	return compare_extremes(
		arg, ((const WeightedValue *) a)->value, ((const WeightedValue *) b)->value);
}

typedef struct Extremes
{
	Datum values[EXTREMES_KEPT + 1];
	int length;
	bool complete; /* the group has no others */
} Extremes;

static void
read_list(const AccumulatorType *type, Datum list, Extremes *extremes)
{
	const ValueType *value = &type->value;
	Datum *values;
	bool *nulls;
	int length;

	deconstruct_array(DatumGetArrayTypeP(list),
					  value->type,
					  value->length,
					  value->by_value,
					  value->align,
					  &values,
					  &nulls,
					  &length);
	extremes->complete = length == 0 || !nulls[length - 1];
	if (!extremes->complete)
		length--;
	if (length > EXTREMES_KEPT)
		elog(ERROR, "list of %d extremes", length);
	extremes->length = length;
	memcpy(extremes->values, values, sizeof(Datum) * length);
}

static Datum
make_list(const AccumulatorType *type, const Extremes *extremes)
{
	const ValueType *value = &type->value;
	Datum values[EXTREMES_KEPT + 1] = {0};
	bool nulls[EXTREMES_KEPT + 1] = {false};
	int length = extremes->length + (extremes->complete ? 0 : 1);
	int start = 1;

	if (length == 0)
		return PointerGetDatum(construct_empty_array(value->type));
	memcpy(values, extremes->values, sizeof(Datum) * extremes->length);
	nulls[extremes->length] = true;
	return PointerGetDatum(construct_md_array(values,
											  nulls,
											  1,
											  &length,
											  &start,
											  value->type,
											  value->length,
											  value->by_value,
											  value->align));
}

static void
add_extreme(const AccumulatorType *type, AccumulatorChange *change, Datum value, int64 weight)
{
	if (change->nvalues == change->room)
	{
		change->room = Max(4, change->room * 2);
		change->values = change->values == NULL
							 ? palloc(sizeof(WeightedValue) * change->room)
							 : repalloc_huge(change->values, sizeof(WeightedValue) * change->room);
	}
	change->values[change->nvalues].value = value_copy(&type->value, value);
	change->values[change->nvalues].weight = weight;
	change->nvalues++;
}

/*
 * Adds up the weights of values that are the same to the bit, among those that
 * compare as equal: 1.0 that came is not the 1.00 that went.
 */
static void
add_up_weights(const AccumulatorType *type, AccumulatorChange *change)
{
	WeightedValue *values = change->values;
	int first = 0; /* of those that compare as equal to the one looked at */
	int kept = 0;

	qsort_arg(values,
			  change->nvalues,
			  sizeof(WeightedValue),
			  compare_weighted,
			  unconstify(AccumulatorType *, type));
	for (int i = 0; i < change->nvalues; i++)
	{
		int same;

		if (kept > first && compare_extremes(type, values[first].value, values[i].value) != 0)
			first = kept;
		for (same = first; same < kept; same++)
		{
			if (value_same_image(&type->value, values[same].value, false, values[i].value, false))
				break;
		}
		if (same < kept)
			values[same].weight += values[i].weight;
		else
			values[kept++] = values[i];
	}
	change->nvalues = kept;
}

/* Takes a value out of the list as often as it went. Returns false if it is not there as often. */
static bool
take_from_list(const AccumulatorType *type, Extremes *list, const WeightedValue *went)
{
	int64 left = -went->weight;
	int kept = 0;

	for (int i = 0; i < list->length; i++)
	{
		if (left > 0 && value_same_image(&type->value, list->values[i], false, went->value, false))
			left--;
		else
			list->values[kept++] = list->values[i];
	}
	list->length = kept;
	return left == 0;
}

/* Puts a value into the list, at the cost of its last if there is no room. */
static void
put_into_list(const AccumulatorType *type, Extremes *list, Datum value)
{
	int at = list->length;

	while (at > 0 && compare_extremes(type, value, list->values[at - 1]) < 0)
		at--;
	memmove(&list->values[at + 1], &list->values[at], sizeof(Datum) * (list->length - at));
	list->values[at] = value;
	if (list->length < EXTREMES_KEPT)
		list->length++;
	else
		list->complete = false;
}

/*
 * Drops the changes beyond the last of a list that does not hold all: they were
 * not in it, and are not put in.
 */
static void
drop_beyond(const AccumulatorType *type, AccumulatorChange *change, Datum bound)
{
	int kept = 0;

	for (int i = 0; i < change->nvalues; i++)
	{
		if (compare_extremes(type, change->values[i].value, bound) <= 0)
			change->values[kept++] = change->values[i];
	}
	change->nvalues = kept;
}

/*
 * What goes is taken from the old list first: it had been there, or beyond.
 * What comes is put in if it belongs before the last of a list that does not
 * hold all: what else is beyond that is not known.
 */
static CombineResult
combine_extremes(const AccumulatorType *type, Datum *list, AccumulatorChange *change)
{
	Extremes extremes;
	bool bounded;
	Datum bound;
	Datum old = *list;

	if (change->nvalues == 0)
		return COMBINE_SAME;
	read_list(type, old, &extremes);
	bounded = !extremes.complete;
	if (bounded && extremes.length == 0)
		elog(ERROR, "list of no extremes");
	bound = bounded ? extremes.values[extremes.length - 1] : (Datum) 0;
	if (bounded)
		drop_beyond(type, change, bound);
	if (change->nvalues == 0)
		return COMBINE_SAME;
	add_up_weights(type, change);

	for (int i = 0; i < change->nvalues; i++)
	{
		const WeightedValue *went = &change->values[i];

		if (went->weight < 0 && !take_from_list(type, &extremes, went) &&
			(!bounded || compare_extremes(type, went->value, bound) < 0))
			elog(ERROR, "a value that went is not among the extremes");
	}
	for (int i = 0; i < change->nvalues; i++)
	{
		const WeightedValue *came = &change->values[i];

		for (int64 times = 0; times < came->weight && times <= EXTREMES_KEPT; times++)
			put_into_list(type, &extremes, came->value);
	}
	if (extremes.length == 0 && !extremes.complete)
		return COMBINE_EXHAUSTED;
	*list = make_list(type, &extremes);
	return value_same_image(&type->column, old, false, *list, false) ? COMBINE_SAME
																	 : COMBINE_CHANGED;
}

static Datum
merge_lists(const AccumulatorType *type, Datum a, Datum b)
{
	Extremes merged;
	Extremes other;

	read_list(type, a, &merged);
	read_list(type, b, &other);
	for (int i = 0; i < other.length; i++)
	{
		if (merged.length == EXTREMES_KEPT &&
			compare_extremes(type, other.values[i], merged.values[EXTREMES_KEPT - 1]) >= 0)
			break;
		put_into_list(type, &merged, other.values[i]);
	}
	merged.complete = true;
	return make_list(type, &merged);
}

/* A statement gives the extremes without saying whether there are more. */
static Datum
mark_incomplete(const AccumulatorType *type, Datum list)
{
	Extremes extremes;

	if (ArrayGetNItems(ARR_NDIM(DatumGetArrayTypeP(list)), ARR_DIMS(DatumGetArrayTypeP(list))) <
		EXTREMES_KEPT)
		return list;
	read_list(type, list, &extremes);
	extremes.complete = false;
	return make_list(type, &extremes);
}

/* --- all kinds ------------------------------------------------------------------------ */

void
accumulator_add(const AccumulatorType *type, AccumulatorChange *change, Datum value, int64 weight)
{
	switch (type->spec->kind)
	{
		case ACC_COUNT:
			change->number += weight;
			break;
		case ACC_SUM_INT:
			change->number =
				add_int64(change->number, multiply_int64(small_integer(type, value), weight));
			break;
		case ACC_SUM_NUMERIC:
			if (type->value.type == INT8OID)
				add_bigint(change, DatumGetInt64(value), weight);
			else
				add_numeric(change, value, weight);
			break;
		case ACC_SMALLEST:
		case ACC_LARGEST:
			add_extreme(type, change, value, weight);
			break;
		case ACC_DISTINCT:
		case ACC_RECOMPUTED:
			break;
	}
}

CombineResult
accumulator_combine(const AccumulatorType *type, Datum *value, AccumulatorChange *change)
{
	Datum old = *value;

	switch (type->spec->kind)
	{
		case ACC_COUNT:
			*value = Int64GetDatum(DatumGetInt64(old) + change->number);
			if (DatumGetInt64(*value) < 0)
				elog(ERROR, "a count of rows became " INT64_FORMAT, DatumGetInt64(*value));
			return change->number == 0 ? COMBINE_SAME : COMBINE_CHANGED;
		case ACC_SUM_INT:
			*value = Int64GetDatum(add_int64(DatumGetInt64(old), change->number));
			return change->number == 0 ? COMBINE_SAME : COMBINE_CHANGED;
		case ACC_SUM_NUMERIC:
			if (change->number == 0 && change->sum == 0)
				return COMBINE_SAME;
			check_finite(old);
			*value = numeric_after(old, change);
			return value_same_image(&type->column, old, false, *value, false) ? COMBINE_SAME
																			  : COMBINE_CHANGED;
		case ACC_SMALLEST:
		case ACC_LARGEST:
			return combine_extremes(type, value, change);
		case ACC_DISTINCT:
		case ACC_RECOMPUTED:
			break;
	}
	return COMBINE_SAME;
}

Datum
accumulator_merge(const AccumulatorType *type, Datum a, Datum b)
{
	switch (type->spec->kind)
	{
		case ACC_COUNT:
		case ACC_SUM_INT:
			return Int64GetDatum(add_int64(DatumGetInt64(a), DatumGetInt64(b)));
		case ACC_SUM_NUMERIC:
			return DirectFunctionCall2(numeric_add, a, b);
		case ACC_SMALLEST:
		case ACC_LARGEST:
			return merge_lists(type, a, b);
		case ACC_DISTINCT:
		case ACC_RECOMPUTED:
			break;
	}
	elog(ERROR, "parts of accumulator of kind %d cannot be added up", type->spec->kind);
	return (Datum) 0;
}

Datum
accumulator_from_sql(const AccumulatorType *type, Datum value, bool *isnull)
{
	if (*isnull)
		return accumulator_initial(type, isnull);
	if (type->spec->kind == ACC_SMALLEST || type->spec->kind == ACC_LARGEST)
		return mark_incomplete(type, value);
	return value;
}
