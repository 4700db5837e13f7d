/*
 * bloat.h
 *		How much of a table or an index a rewrite would give back.
 *
 * An estimate comes from a sample of pages, one at random from each of n
 * equal stretches of the relation, on which the rewrite is simulated: what
 * would be kept, how long it would be, and how it would be packed.  The free
 * space map and the visibility map are read whole, a page at a time, and serve
 * as auxiliary variables whose means are known.  Small relations are read
 * whole.
 *
 * Locks: AccessShareLock on the relation (and, for an index, on its table),
 * taken by the caller without waiting; one page at a time, shared.  Pages are
 * read through the buffer manager with a ring, as a large sequential scan does.
 * Nothing is written but hint bits.
 *
 * Memory: the estimators work in a context of their own; what they return is
 * in the struct that the caller gives.  Reasons are constant texts.
 *
 * Cost: some microseconds a page; BloatBudget says how many.  A tenth of a
 * percent of the relation's size is read from the maps besides.
 */
#ifndef PGOPT_BLOAT_H
#define PGOPT_BLOAT_H

#include "pgopt.h"

#include "storage/block.h"
#include "utils/relcache.h"

#include "threshold.h"

typedef enum BloatConfidence
{
	BLOAT_UNKNOWN, /* not measured; the reason says why */
	BLOAT_LOW,     /* not a simulation of a rewrite */
	BLOAT_MEDIUM,
	BLOAT_HIGH
} BloatConfidence;

/*
 * What a measurement may cost.  A relation of at most whole pages is read
 * whole; otherwise first pages are sampled, then twice as many, until the
 * sampling error is below target (in percent of the size), at most pages most
 * and at most share of the relation.
 */
typedef struct BloatBudget
{
	int whole;
	int first;
	int most;
	double share;
	double target;
	bool rows_only;
} BloatBudget;

extern const BloatBudget bloat_budget_full;   /* what the SQL functions use */
extern const BloatBudget bloat_budget_index;  /* and they for indexes */
extern const BloatBudget bloat_budget_rows;   /* an index's table, for bloat_measure_index() */
extern const BloatBudget bloat_budget_screen; /* 32 pages */

/*
 * What was found.  Sizes are in bytes.  rewritten is the size after a rewrite
 * now, low and high its 95 % interval.  free_bytes lies in pages and can take
 * new rows; dead_bytes could if the table were vacuumed; held_bytes is dead
 * too, but some snapshot may still need it, and a rewrite keeps it.
 *
 * entries (tables): index entries that a rebuild of a full index would make,
 * with its standard error; dead_entries: those that await a vacuum.
 * toast (tables): what the out-of-line values of the rows that stay would take
 * in a new TOAST table, with its standard error.  empty_tail: pages at the end
 * of the table without a live row.
 */
typedef struct BloatEstimate
{
	BlockNumber pages;
	int pages_sampled;
	bool exact;
	BloatConfidence confidence;
	const char *reason; /* why it could not be measured, or not well; may be NULL */
	double size;
	double rewritten;
	double rewritten_error; /* standard error of the sampling */
	double rewritten_low;
	double rewritten_high;
	double free_bytes;
	double dead_bytes;
	double held_bytes;
	double live_rows;
	double dead_rows;
	double held_rows;
	double entries;
	double entries_error;
	double dead_entries;
	double toast;
	double toast_error;
	bool columns_dropped;
	double empty_tail;
	double milliseconds;
} BloatEstimate;

/* A table, materialized view or TOAST table; any relation with the heap access method. */
extern void bloat_measure_heap(Relation rel, const BloatBudget *budget, BloatEstimate *estimate);

/*
 * Corrects what was found for a TOAST table by what its table refers to: a
 * rewrite of the table writes the values in the table's order, and forgets
 * those of dropped columns.
 */
extern void bloat_weigh_toast(const BloatEstimate *table, BloatEstimate *toast);

/*
 * An index.  heap is what was found for its table, or NULL; without it an index
 * that holds dead entries is judged by its own pages only.
 */
extern void bloat_measure_index(Relation rel, Relation table, const BloatEstimate *heap,
								const BloatBudget *budget, BloatEstimate *estimate);

/* What a rewrite would give back, never negative, and the interval of that. */
extern double bloat_reclaimable(const BloatEstimate *estimate);
extern double bloat_reclaimable_low(const BloatEstimate *estimate);
extern double bloat_reclaimable_high(const BloatEstimate *estimate);

extern double bloat_percent(double part, const BloatEstimate *estimate);
extern const char *bloat_confidence_name(BloatConfidence confidence);

/* --- what to do about it (remedy.c) ----------------------------------------- */

typedef struct BloatRemedy
{
	const char *sql; /* NULL = none */
	const char *lock;
	const char *reason; /* kept where it is given */
} BloatRemedy;

/* 30 % and 10 MB, for certain. */
extern bool bloat_is_worth_it(const BloatEstimate *estimate);

extern void bloat_table_remedy(Relation table, const BloatEstimate *estimate, bool worth_it,
							   BloatRemedy *remedy);
extern void bloat_index_remedy(Relation index, bool worth_it, BloatRemedy *remedy);

/* --- whether it is enough to tell (judge.c) ---------------------------------- */

extern Threshold bloat_worth_percent;
extern Threshold bloat_worth_size;

typedef struct BloatJudgement
{
	BloatEstimate estimate;
	BloatRemedy remedy; /* where there may be enough */
	double low;         /* what is certain, without dead rows */
	Oid reading; /* the relation whose pages are read, for whoever catches an error; 0 = both */
} BloatJudgement;

/* Are so many of its bytes, in percent too, a finding? */
extern bool bloat_is_enough(double bytes, const BloatEstimate *estimate);

/* false: it could not be locked.  One that is gone is as good as measured. */
extern bool bloat_judge_index(Oid index, Oid table, BloatJudgement *judgement);

/* May the caller measure that table, and its indexes? */
extern bool bloat_may_measure(Oid table);

/* Opens a relation under AccessShareLock if that is to be had at once; NULL if it is gone or locked. */
extern Relation bloat_open(Oid relid, bool *locked);

extern int pgopt_bloat_time_budget; /* ms */
extern void bloat_init(void);       /* makes the setting; called once by _PG_init */

#endif /* PGOPT_BLOAT_H */
