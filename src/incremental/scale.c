/*
 * scale.c
 *		The longest fraction in a group of numerics, kept as a number that can be
 *		added to and taken from.
 *
 * A sum of numerics shows as many digits after the point as the longest of the
 * summands.  Each value adds 1 to a digit position of its own scale: 10 to the
 * power of 16 times the scale; so 16 digits of the sum count the values of one
 * scale, and the sum's length tells the longest.  It is right for less than
 * 10^16 values.
 *
 * Memory: the last mark is kept with the calling expression.
 */
#include "pgopt.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "compat.h"

PG_FUNCTION_INFO_V1(pgopt_scale_mark);
PG_FUNCTION_INFO_V1(pgopt_longest_scale);

#define DIGITS_PER_SCALE 16

/* Digits before the point that a numeric can have, by the server's documentation. */
#define MAX_DIGITS 131072

typedef struct ScaleMark
{
	int scale;
	Numeric mark;
} ScaleMark;

static Numeric
make_mark(int scale)
{
	int length = scale * DIGITS_PER_SCALE;
	char *digits;

	if (length >= MAX_DIGITS)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("numeric with %d digits after the decimal point", scale),
				 errdetail("At most %d are kept count of.", (MAX_DIGITS - 1) / DIGITS_PER_SCALE)));
	digits = palloc(length + 2);
	digits[0] = '1';
	memset(digits + 1, '0', length);
	digits[length + 1] = '\0';
	return DatumGetNumeric(DirectFunctionCall3(
		numeric_in, CStringGetDatum(digits), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

/* NULL for NaN and infinities, which have no digits. */
Datum
pgopt_scale_mark(PG_FUNCTION_ARGS)
{
	Numeric value = PG_GETARG_NUMERIC(0);
	ScaleMark *last = fcinfo->flinfo->fn_extra;
	MemoryContext old;
	int scale;

	if (numeric_is_nan(value) || numeric_is_inf(value))
		PG_RETURN_NULL();
	scale = DatumGetInt32(DirectFunctionCall1(numeric_scale, NumericGetDatum(value)));
	if (last != NULL && last->scale == scale)
		PG_RETURN_NUMERIC(last->mark);

	old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	if (last == NULL)
		last = palloc0(sizeof(ScaleMark));
	else if (last->mark != NULL)
		pfree(last->mark);
	last->mark = NULL;
	last->mark = make_mark(scale);
	last->scale = scale;
	fcinfo->flinfo->fn_extra = last;
	MemoryContextSwitchTo(old);
	PG_RETURN_NUMERIC(last->mark);
}

/* The longest scale in a sum of marks; 0 for a sum of none. */
Datum
pgopt_longest_scale(PG_FUNCTION_ARGS)
{
	char *digits = DatumGetCString(DirectFunctionCall1(numeric_out, PG_GETARG_DATUM(0)));

	PG_RETURN_INT32((strlen(digits) - 1) / DIGITS_PER_SCALE);
}
