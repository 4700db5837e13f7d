/*
 * row_table.c
 *		Rows in memory, found by their content.
 */
#include "pgopt.h"

#include "utils/datum.h"

#include "compat.h"
#include "row_table.h"

/* Are both the same value in the same TOAST table? */
static bool
same_toast_pointer(Datum a, Datum b)
{
	struct varlena *x = (struct varlena *) DatumGetPointer(a);
	struct varlena *y = (struct varlena *) DatumGetPointer(b);

	return VARATT_IS_EXTERNAL_ONDISK(x) && VARATT_IS_EXTERNAL_ONDISK(y) &&
		   memcmp(VARDATA_EXTERNAL(x), VARDATA_EXTERNAL(y), sizeof(varatt_external)) == 0;
}

bool
column_image_eq(Form_pg_attribute attribute, Datum a, bool a_isnull, Datum b, bool b_isnull)
{
	if (a_isnull || b_isnull)
		return a_isnull && b_isnull;
	if (attribute->attlen == -1 && same_toast_pointer(a, b))
		return true;
	return datum_image_eq(a, b, attribute->attbyval, attribute->attlen);
}
