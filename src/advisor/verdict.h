/*
 * verdict.h
 *		What became of the statements once an index was there.
 */
#ifndef PGOPT_VERDICT_H
#define PGOPT_VERDICT_H

#include "pgopt.h"

#include "utils/array.h"

#include "selection.h"

/*
 * Remembers an index that was advised, in pgopt.index_advice, so that it is
 * known again by its definition when somebody has made it.  queryids: of the
 * statements that it is for (bigint[]).  Does nothing where nothing can be
 * written.  Waits for nobody.
 */
extern void verdict_remember(const SelectedIndex *selected, const char *ddl, ArrayType *queryids);

#endif /* PGOPT_VERDICT_H */
