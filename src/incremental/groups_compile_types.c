/*
 * groups_compile_types.c
 *		What the types of keys and arguments allow: whether a table can hold them,
 *		whether they can be hashed, and whether values that are equal look the
 *		same.
 *
 * Cost: a look-up or two in the catalog's caches.
 */
#include "pgopt.h"

#include "access/nbtree.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/typcache.h"

#include "compat.h"
#include "groups_compile.h"

/* Can a column of a table have this type? */
bool
groups_is_storable(Oid type)
{
	return get_typtype(getBaseType(type)) != TYPTYPE_PSEUDO;
}

/* Can equal values be found by a hash of the type's own? */
bool
groups_can_be_hashed(Oid type)
{
	TypeCacheEntry *entry =
		lookup_type_cache(type, TYPECACHE_EQ_OPR | TYPECACHE_HASH_EXTENDED_PROC);

	return OidIsValid(entry->eq_opr) && OidIsValid(entry->hash_extended_proc);
}

/* Fields that extract() and date_part() give as whole numbers. */
static bool
is_whole_field(Const *field)
{
	static const char *const whole[] = {
		"year",
		"month",
		"day",
		"hour",
		"minute",
		"quarter",
		"week",
		"dow",
		"isodow",
		"doy",
		"isoyear",
		"decade",
		"century",
		"millennium",
	};
	char *name;

	if (!IsA(field, Const) || field->constisnull)
		return false;
	name = TextDatumGetCString(field->constvalue);
	for (int i = 0; i < lengthof(whole); i++)
		if (pg_strcasecmp(name, whole[i]) == 0)
			return true;
	return false;
}

static bool
gives_whole_field(FuncExpr *call)
{
	switch (call->funcid)
	{
		case F_EXTRACT_TEXT_DATE:
		case F_EXTRACT_TEXT_TIME:
		case F_EXTRACT_TEXT_TIMETZ:
		case F_EXTRACT_TEXT_TIMESTAMP:
		case F_EXTRACT_TEXT_TIMESTAMPTZ:
		case F_EXTRACT_TEXT_INTERVAL:
		case F_DATE_PART_TEXT_DATE:
		case F_DATE_PART_TEXT_TIME:
		case F_DATE_PART_TEXT_TIMETZ:
		case F_DATE_PART_TEXT_TIMESTAMP:
		case F_DATE_PART_TEXT_TIMESTAMPTZ:
		case F_DATE_PART_TEXT_INTERVAL:
			return is_whole_field(linitial(call->args));
		default:
			return false;
	}
}

/*
 * Digits after the point that every value of a numeric expression shows, or -1
 * where they can differ.
 */
int
groups_fixed_scale(Expr *expression)
{
	int32 typmod = exprTypmod((Node *) expression);
	FuncExpr *call = (FuncExpr *) expression;

	/* the scale is in the low 11 bits of a typmod, and may be negative (numeric.c) */
	if (typmod >= VARHDRSZ)
		return Max((((typmod - VARHDRSZ) & 0x7ff) ^ 1024) - 1024, 0);

	if (IsA(expression, FuncExpr))
	{
		if (gives_whole_field(call))
			return 0;
		switch (call->funcid)
		{
			case F_NUMERIC_INT2:
			case F_NUMERIC_INT4:
			case F_NUMERIC_INT8:
				return 0;
			case F_ROUND_NUMERIC:
			case F_TRUNC_NUMERIC:
				return 0;
			case F_ROUND_NUMERIC_INT4:
			case F_TRUNC_NUMERIC_INT4:
			{
				Const *digits = lsecond(call->args);

				if (IsA(digits, Const) && !digits->constisnull &&
					DatumGetInt32(digits->constvalue) <= NUMERIC_MAX_PRECISION)
					return Max(DatumGetInt32(digits->constvalue), 0);
				break;
			}
			default:
				break;
		}
	}
	return -1;
}

/* Are equal values of the type the same in all that they show, whatever their typmod? */
static bool
type_equal_is_same(Oid type, Oid collation)
{
	Oid element = get_element_type(type);
	TypeCacheEntry *entry;
	Oid function;

	if (OidIsValid(element))
		return type_equal_is_same(getBaseType(element), collation);
	/* blanks at the end do not count */
	if (type == BPCHAROID)
		return false;
	entry = lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY);
	if (!OidIsValid(entry->btree_opf))
		return false;
	function = get_opfamily_proc(
		entry->btree_opf, entry->btree_opintype, entry->btree_opintype, BTEQUALIMAGE_PROC);
	return OidIsValid(function) &&
		   DatumGetBool(
			   OidFunctionCall1Coll(function, collation, ObjectIdGetDatum(entry->btree_opintype)));
}

/*
 * Do equal values of this expression look the same?  If not (1.0 and 1.00, or
 * texts that a collation holds equal), a group's key or a distinct value could
 * be shown in a way that no row has any longer.
 */
bool
groups_equal_is_same(Expr *expression)
{
	Oid type = getBaseType(exprType((Node *) expression));

	if (type == NUMERICOID)
		return groups_fixed_scale(expression) >= 0;
	/* of floating point numbers only zero looks different, when it is negative */
	if (IsA(expression, FuncExpr) && gives_whole_field((FuncExpr *) expression))
		return true;
	if (type == BPCHAROID && exprTypmod((Node *) expression) >= VARHDRSZ)
		return true;
	return type_equal_is_same(type, exprCollation((Node *) expression));
}
