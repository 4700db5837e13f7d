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
	PAGE_KINDS,       /* index: 1 for a page that is part of the tree */
	PAGE_VARIABLES    /* number of variables */
} PageVariable;

/* Auxiliary variables: the space that the map says is free, and the all-visible bit. */
#define PAGE_AUXILIARIES 2

typedef struct SamplePage
{
	BlockNumber block;
	bool measured;
	float aux[PAGE_AUXILIARIES];
	float value[PAGE_VARIABLES];
} SamplePage;

/* Sums over all pages of a relation, from its maps. */
typedef struct PageMaps
{
	bool has_fsm;
	bool has_vm;
	double mean[PAGE_AUXILIARIES];
} PageMaps;

/*
 * One page at random from each of size stretches of the population, in the
 * order of blocks.  The population begins at block first.
 */
typedef struct Sample
{
	Relation rel;
	BlockNumber first;
	BlockNumber population;
	int size;
	SamplePage *pages;
	PageMaps maps;
	BufferAccessStrategy strategy;
	pg_prng_state random;
} Sample;

/* Measures one page, which is locked, into page->value (zeroes on entry). */
typedef void (*PageMeasure)(void *state, Buffer buffer, SamplePage *page);

extern void sample_begin(Sample *sample, Relation rel, BlockNumber first);
extern bool sample_whole(const Sample *sample);
extern void sample_all(Sample *sample);
extern void sample_draw(Sample *sample, int size);
extern bool sample_double(Sample *sample);
extern void sample_measure(Sample *sample, PageMeasure measure, void *state);

/* Mean of a variable over the population, with its standard error. */
extern double sample_mean(const Sample *sample, PageVariable variable, double *error);

/* Ratio of two variables' sums, with its standard error; 0 where the second is 0. */
extern double
sample_ratio(const Sample *sample, PageVariable above, PageVariable below, double *error);

extern void maps_read(Sample *sample);
extern void maps_look_up(Sample *sample);

/* Goes on sampling until estimate's error is small enough or the budget is used up. */
extern int sample_limit(const Sample *sample, const BloatBudget *budget);

/* btree.c, other.c */
extern void bloat_measure_btree(Relation rel, const BloatEstimate *heap, const BloatBudget *budget,
								BloatEstimate *estimate);
extern void bloat_measure_other(Relation rel, const BloatBudget *budget, BloatEstimate *estimate);

#endif /* PGOPT_SAMPLE_H */
