/*
 * extremes.c
 *		The aggregates pgopt.smallest() and pgopt.largest(): a group's first
 *		values in order, or its last, as an array.
 *
 * The state is a sorted array of at most EXTREMES_KEPT values.  Once it is full,
 * a value that does not get in costs one comparison; in rows that come in random
 * order, about EXTREMES_KEPT * ln(n / EXTREMES_KEPT) of n do get in.
 *
 * Memory: values and the array in the aggregate's context; comparison support
 * with the calling expression, and so longer than any state.
 */
#include "pgopt.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/sortsupport.h"
#include "utils/typcache.h"

#include "compat.h"
#include "incremental_private.h"

PG_FUNCTION_INFO_V1(pgopt_smallest_add);
PG_FUNCTION_INFO_V1(pgopt_largest_add);
PG_FUNCTION_INFO_V1(pgopt_smallest_combine);
PG_FUNCTION_INFO_V1(pgopt_largest_combine);
PG_FUNCTION_INFO_V1(pgopt_extremes_serialize);
PG_FUNCTION_INFO_V1(pgopt_extremes_deserialize);
PG_FUNCTION_INFO_V1(pgopt_extremes_result);

#define FIRST_ALLOCATION 4

/* How values of a type are compared and copied. */
typedef struct ElementType
{
	Oid type;
	int16 length;
	bool by_value;
	char alignment;
	SortSupportData order; /* the better value first */
} ElementType;

typedef struct Extremes
{
	Oid type;
	int nvalues;
	int nallocated;
	Datum *values; /* the best first */
} Extremes;

/* --- types --------------------------------------------------------------------- */

/* What the calling expression compares with, made at its first call. */
static ElementType *
element_type(FunctionCallInfo fcinfo, Oid type, bool largest)
{
	ElementType *element = fcinfo->flinfo->fn_extra;
	TypeCacheEntry *entry;

	if (element != NULL && element->type == type)
		return element;

	entry = lookup_type_cache(type, TYPECACHE_LT_OPR | TYPECACHE_GT_OPR);
	if (!OidIsValid(entry->lt_opr) || !OidIsValid(entry->gt_opr))
		ereport(
			ERROR,
			(errcode(ERRCODE_UNDEFINED_FUNCTION),
			 errmsg("could not identify an ordering operator for type %s", format_type_be(type))));
	element = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(ElementType));
	element->type = type;
	get_typlenbyvalalign(type, &element->length, &element->by_value, &element->alignment);
	element->order.ssup_cxt = fcinfo->flinfo->fn_mcxt;
	element->order.ssup_collation = PG_GET_COLLATION();
	PrepareSortSupportFromOrderingOp(largest ? entry->gt_opr : entry->lt_opr, &element->order);
	fcinfo->flinfo->fn_extra = element;
	return element;
}

static MemoryContext
aggregate_context(FunctionCallInfo fcinfo)
{
	MemoryContext context;

	if (!AggCheckCallContext(fcinfo, &context))
		elog(ERROR, "aggregate function called in non-aggregate context");
	return context;
}

/* --- the sorted array ------------------------------------------------------------- */

static Extremes *
make_extremes(MemoryContext context, Oid type, int nallocated)
{
	Extremes *extremes = MemoryContextAlloc(context, sizeof(Extremes));

	extremes->type = type;
	extremes->nvalues = 0;
	extremes->nallocated = nallocated;
	extremes->values = MemoryContextAlloc(context, nallocated * sizeof(Datum));
	return extremes;
}

/* The value without TOAST, in memory that lasts as long as the state. */
static Datum
copy_value(MemoryContext context, ElementType *element, Datum value)
{
	MemoryContext old;
	Datum copy;

	if (element->by_value)
		return value;
	old = MemoryContextSwitchTo(context);
	copy = element->length == -1 ? PointerGetDatum(PG_DETOAST_DATUM_COPY(value))
								 : datumCopy(value, false, element->length);
	MemoryContextSwitchTo(old);
	return copy;
}

static int
compare(ElementType *element, Datum a, Datum b)
{
	return ApplySortComparator(a, false, b, false, &element->order);
}

static void
add_value(MemoryContext context, Extremes *extremes, ElementType *element, Datum value)
{
	int low = 0;
	int high = extremes->nvalues;

	if (high == EXTREMES_KEPT)
	{
		high--;
		if (compare(element, value, extremes->values[high]) >= 0)
			return;
		if (!element->by_value)
			pfree(DatumGetPointer(extremes->values[high]));
		extremes->nvalues--;
	}
	else if (high == extremes->nallocated)
	{
		extremes->nallocated = Min(extremes->nallocated * 2, EXTREMES_KEPT);
		extremes->values = repalloc(extremes->values, extremes->nallocated * sizeof(Datum));
	}

	/* after those that are equal */
	while (low < high)
	{
		int middle = (low + high) / 2;

		if (compare(element, value, extremes->values[middle]) < 0)
			high = middle;
		else
			low = middle + 1;
	}
	memmove(&extremes->values[low + 1],
			&extremes->values[low],
			(extremes->nvalues - low) * sizeof(Datum));
	extremes->values[low] = copy_value(context, element, value);
	extremes->nvalues++;
}

/* --- the functions of the aggregates ------------------------------------------------ */

/* The type of the values that the calling expression adds. */
static ElementType *
added_type(FunctionCallInfo fcinfo, bool largest)
{
	Oid type;

	if (fcinfo->flinfo->fn_extra != NULL)
		return fcinfo->flinfo->fn_extra;
	type = get_fn_expr_argtype(fcinfo->flinfo, 1);
	if (!OidIsValid(type))
		elog(ERROR, "could not determine the type of the aggregate's argument");
	return element_type(fcinfo, type, largest);
}

static Datum
add_extreme(FunctionCallInfo fcinfo, bool largest)
{
	MemoryContext context = aggregate_context(fcinfo);
	Extremes *extremes = PG_ARGISNULL(0) ? NULL : (Extremes *) PG_GETARG_POINTER(0);
	ElementType *element;

	if (PG_ARGISNULL(1))
	{
		if (extremes == NULL)
			PG_RETURN_NULL();
		PG_RETURN_POINTER(extremes);
	}
	element = added_type(fcinfo, largest);
	if (extremes == NULL)
		extremes = make_extremes(context, element->type, FIRST_ALLOCATION);
	add_value(context, extremes, element, PG_GETARG_DATUM(1));
	PG_RETURN_POINTER(extremes);
}

Datum
pgopt_smallest_add(PG_FUNCTION_ARGS)
{
	return add_extreme(fcinfo, false);
}

Datum
pgopt_largest_add(PG_FUNCTION_ARGS)
{
	return add_extreme(fcinfo, true);
}

static Datum
combine_extremes(FunctionCallInfo fcinfo, bool largest)
{
	MemoryContext context = aggregate_context(fcinfo);
	Extremes *extremes = PG_ARGISNULL(0) ? NULL : (Extremes *) PG_GETARG_POINTER(0);
	Extremes *other = PG_ARGISNULL(1) ? NULL : (Extremes *) PG_GETARG_POINTER(1);
	ElementType *element;

	if (other == NULL)
	{
		if (extremes == NULL)
			PG_RETURN_NULL();
		PG_RETURN_POINTER(extremes);
	}
	element = element_type(fcinfo, other->type, largest);
	if (extremes == NULL)
		extremes = make_extremes(context, other->type, Max(other->nvalues, FIRST_ALLOCATION));
	for (int i = 0; i < other->nvalues; i++)
	{
		/* the other is sorted: nothing after this one gets in either */
		if (extremes->nvalues == EXTREMES_KEPT &&
			compare(element, other->values[i], extremes->values[EXTREMES_KEPT - 1]) >= 0)
			break;
		add_value(context, extremes, element, other->values[i]);
	}
	PG_RETURN_POINTER(extremes);
}

Datum
pgopt_smallest_combine(PG_FUNCTION_ARGS)
{
	return combine_extremes(fcinfo, false);
}

Datum
pgopt_largest_combine(PG_FUNCTION_ARGS)
{
	return combine_extremes(fcinfo, true);
}

/* As an array, which names its element type. */
static ArrayType *
make_array(Extremes *extremes)
{
	int16 length;
	bool by_value;
	char alignment;

	get_typlenbyvalalign(extremes->type, &length, &by_value, &alignment);
	return construct_array(
		extremes->values, extremes->nvalues, extremes->type, length, by_value, alignment);
}

/* An array is a varlena as a bytea is; within one server its image means the same to all. */
Datum
pgopt_extremes_serialize(PG_FUNCTION_ARGS)
{
	(void) aggregate_context(fcinfo);
	PG_RETURN_BYTEA_P((bytea *) make_array((Extremes *) PG_GETARG_POINTER(0)));
}

Datum
pgopt_extremes_deserialize(PG_FUNCTION_ARGS)
{
	ArrayType *array;
	Extremes *extremes;
	int16 length;
	bool by_value;
	char alignment;

	(void) aggregate_context(fcinfo);
	array = (ArrayType *) PG_DETOAST_DATUM_COPY(PG_GETARG_DATUM(0));
	extremes = palloc(sizeof(Extremes));
	extremes->type = ARR_ELEMTYPE(array);
	get_typlenbyvalalign(extremes->type, &length, &by_value, &alignment);
	deconstruct_array(array,
					  extremes->type,
					  length,
					  by_value,
					  alignment,
					  &extremes->values,
					  NULL,
					  &extremes->nvalues);
	extremes->nallocated = extremes->nvalues;
	PG_RETURN_POINTER(extremes);
}

/* The array; an empty one where there was no value. */
Datum
pgopt_extremes_result(PG_FUNCTION_ARGS)
{
	Oid type;

	(void) aggregate_context(fcinfo);
	if (!PG_ARGISNULL(0))
		PG_RETURN_ARRAYTYPE_P(make_array((Extremes *) PG_GETARG_POINTER(0)));
	type = get_fn_expr_argtype(fcinfo->flinfo, 1);
	if (!OidIsValid(type))
		elog(ERROR, "could not determine the type of the aggregate's argument");
	PG_RETURN_ARRAYTYPE_P(construct_empty_array(type));
}
