/*
 * row_table.h
 *		Rows in memory, found by their content.
 */
#ifndef PGOPT_ROW_TABLE_H
#define PGOPT_ROW_TABLE_H

#include "pgopt.h"

#include "access/tupdesc.h"

/* The same bytes, however they are stored? */
extern bool
column_image_eq(Form_pg_attribute attribute, Datum a, bool a_isnull, Datum b, bool b_isnull);

#endif /* PGOPT_ROW_TABLE_H */
