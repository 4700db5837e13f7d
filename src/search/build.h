/*
 * build.h
 *		Making an index of a whole table: the access method's build callbacks.
 */
#ifndef PGOPT_SEARCH_BUILD_H
#define PGOPT_SEARCH_BUILD_H

#include "access/genam.h"
#include "nodes/execnodes.h"
#include "utils/rel.h"

/* ambuild, ambuildempty, ambuildphasename. */
extern IndexBuildResult *search_build(Relation heap, Relation index, struct IndexInfo *info);
extern void search_build_empty(Relation index);
extern char *search_build_phase_name(int64 phase);

#endif /* PGOPT_SEARCH_BUILD_H */
