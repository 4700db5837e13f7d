/*
 * build_private.h
 *		What the files of the build share.
 */
#ifndef PGOPT_SEARCH_BUILD_PRIVATE_H
#define PGOPT_SEARCH_BUILD_PRIVATE_H

#include "access/genam.h"
#include "nodes/execnodes.h"
#include "storage/sharedfileset.h"

#include "inverter.h"
#include "pages.h"

/* Phases in pg_stat_progress_create_index; the server sets the first one. */
typedef enum BuildPhase
{
	BUILD_PHASE_INITIALIZE = 1,
	BUILD_PHASE_SAMPLE,
	BUILD_PHASE_SCAN,
	BUILD_PHASE_MERGE,
	BUILD_PHASE_WRITE,
	BUILD_PHASE_LOG
} BuildPhase;

/* A segment in a temporary file. */
typedef struct BuildRun
{
	char *name;    /* in the shared file set; NULL: file */
	BufFile *file; /* of this backend */
	SegmentHeader *header;
} BuildRun;

/*
 * One process that reads the table, with its share of maintenance_work_mem.
 * What it has in memory becomes a run when that is used up.
 */
typedef struct Builder
{
	Relation index;
	MemoryContext context; /* all that follows */
	const SearchSettings *settings;
	const RestoreTable *restore;
	Analyzer *analyzer;
	Inverter *inverter;
	Size budget;
	bool leader;    /* reports progress */
	double ntuples; /* rows added */
	/* runs */
	SharedFileSet *fileset; /* NULL: the files are this backend's own */
	int participant;        /* number in the parallel build: prefix of file names */
	int nfiles;             /* names used up */
	List *runs;             /* of BuildRun */
	uint64 run_documents;   /* in all runs */
	uint64 run_length;
} Builder;

/* build_runs.c */
extern const SearchSettings *build_copy_settings(Relation index, MemoryContext context);
extern Builder *builder_create(Relation index, Size budget);
extern void builder_add(Relation index, ItemPointer tid, Datum *values, bool *isnull, bool alive,
						void *builder);
extern void builder_spill(Builder *builder);
extern int builder_write_segments(Builder *builder, SegmentEntry *entries);
extern void builder_publish_runs(Builder *builder);
extern void builder_adopt_runs(Builder *builder, int participant);
extern void builder_free(Builder *builder);

/* build_sample.c */
extern bytea *build_sample(Relation heap, Relation index, IndexInfo *info, uint32 *nwords);

/* build_parallel.c */
typedef struct BuildLeader BuildLeader;
extern BuildLeader *
build_begin_parallel(Relation heap, Relation index, IndexInfo *info, int nworkers);
extern double build_parallel_scan(BuildLeader *leader, Relation heap, Relation index,
								  IndexInfo *info, Builder **builder);
extern int build_workers(const BuildLeader *leader);
extern void build_end_parallel(BuildLeader *leader);

#endif /* PGOPT_SEARCH_BUILD_PRIVATE_H */
