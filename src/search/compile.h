/*
 * compile.h
 *		Compiled queries, as scans use them: a scan opens a view anyway, and
 *		takes the statistics from it instead of opening another.
 */
#ifndef PGOPT_SEARCH_COMPILE_H
#define PGOPT_SEARCH_COMPILE_H

#include "scan.h"

/* As search_compile(), but without the statistics of a query's own index when `complete` comes back false. */
extern CompiledQuery *compile_begin(Relation index, const PgoptQuery *query, bool *complete);

/* Takes them from a view that was opened for compiled->query. */
extern void compile_finish(CompiledQuery *compiled, SearchView *view);

/* A pinned one stays, whatever else is compiled. */
extern void compiled_pin(const CompiledQuery *compiled);
extern void compiled_unpin(const CompiledQuery *compiled);

/* Pins it for as long as the current memory context lives. */
extern void compiled_keep(const CompiledQuery *compiled);

#endif /* PGOPT_SEARCH_COMPILE_H */
