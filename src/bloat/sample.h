/*
 * sample.h
 *		Samples of a relation's pages, and what can be concluded from them.
 *		Internal to the room bloat.
 */
#ifndef PGOPT_SAMPLE_H
#define PGOPT_SAMPLE_H

#include "bloat.h"

#include "common/pg_prng.h"
#include "storage/bufmgr.h"

/* What is summed up, page by page. */
typedef enum PageVariable
{
	PAGE_REWRITTEN, /* pages that its contents would fill after a rewrite */
	PAGE_ENTRIES,   /* heap: index entries a rebuild would make; index: entries packed */
	PAGE_FREE,      /* bytes */
	PAGE_DEAD,      /* bytes */
	PAGE_HELD,      /* bytes */
	PAGE_LIVE_ROWS,
	PAGE_DEAD_ROWS,
	PAGE_HELD_ROWS,
	PAGE_DEAD_ENTRIES,
	PAGE_RAW_ENTRIES, /* index: all entries that are not marked dead */
	PAGE_TOAST,       /* heap: pages that its out-of-line values would fill */
	PAGE_KINDS,       /* index: 1 for a page that is part of the tree */
	PAGE_VARIABLES    /* number of variables */
} PageVariable;

/* Auxiliary variables: the space that the map says is free, and the all-visible bit. */
#define PAGE_AUXILIARIES 2

/*
 * What was found on a unit of the sample: one page, or some consecutive ones.
 * Values and auxiliary variables are sums over its pages.
 */
typedef struct SampleUnit
{
	uint32 number;
	Buffer recent; /* where its page was when it was announced, or InvalidBuffer */
	bool measured;
	float aux[PAGE_AUXILIARIES];
	float value[PAGE_VARIABLES];
} SampleUnit;

/* What the maps say of the whole relation: means of the auxiliary variables a unit. */
typedef struct PageMaps
{
	bool has_fsm;
	bool has_vm;
	double mean[PAGE_AUXILIARIES];
} PageMaps;

/*
 * One unit at random from each of size stretches of the population, in the
 * order of blocks.  The blocks begin at first; each unit has run of them, but
 * for the last.
 */
typedef struct Sample
{
	Relation rel;
	BlockNumber first;
	BlockNumber blocks;
	int run;
	uint32 population; /* units */
	int size;          /* units drawn */
	bool in_order;     /* all of them, and they are measured in their order */
	SampleUnit *units;
	PageMaps maps;
	BufferAccessStrategy strategy;
	pg_prng_state random;
} Sample;

/* Adds what is found on a page, which is locked, to value. */
typedef void (*PageMeasure)(void *state, Buffer buffer, BlockNumber block, float *value);

extern void sample_begin(Sample *sample, Relation rel, BlockNumber first, int run);
extern void sample_set_run(Sample *sample, int run);
extern int sample_pages(const Sample *sample);
extern bool sample_whole(const Sample *sample);
extern void sample_all(Sample *sample);
extern void sample_draw(Sample *sample, int size);
extern bool sample_double(Sample *sample);

/*
 * Is shown the pages behind a unit of several pages, one after the other, as
 * long as it returns true; block is InvalidBlockNumber where there are no more.
 */
typedef bool (*PageSeam)(void *state, Buffer buffer, BlockNumber block, float *value);

/* Measures the units that are not measured yet. */
extern void sample_measure(Sample *sample, PageMeasure measure, PageSeam seam, void *state);

/* Mean of a variable a unit, with its standard error. */
extern double sample_mean(const Sample *sample, PageVariable variable, double *error);

/* Ratio of two variables' sums, with its standard error; 0 where the second is 0. */
extern double
sample_ratio(const Sample *sample, PageVariable above, PageVariable below, double *error);

extern void maps_read(Sample *sample);
extern void maps_look_up(Sample *sample);

/* Units that a budget allows. */
extern int sample_limit(const Sample *sample, const BloatBudget *budget);

/* btree.c, other.c */
extern void bloat_measure_btree(Relation rel, Relation table, const BloatEstimate *heap,
								const BloatBudget *budget, BloatEstimate *estimate);
extern void bloat_measure_other(Relation rel, const BloatBudget *budget, BloatEstimate *estimate);

#endif /* PGOPT_SAMPLE_H */
