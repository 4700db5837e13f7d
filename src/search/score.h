/*
 * score.h
 *		BM25 over weighted fields, in one place, so that every way to compute
 *		a score gives the same bits.
 *
 * Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and
 * Beyond" (2009), section 3.6: the occurrences in each field are weighted and
 * summed before they saturate.  The constant factor k1 + 1 is left out; the
 * idf is ln(1 + (N - df + 0.5) / (df + 0.5)), which is never negative.
 *
 * A term's part of a score is an integer, in units of 2^-20: sums of integers
 * do not depend on their order, so that pruned and exhaustive evaluation
 * agree exactly.  Lengths are quantised to a byte.
 */
#ifndef PGOPT_SEARCH_SCORE_H
#define PGOPT_SEARCH_SCORE_H

#include "postgres.h"

#include <math.h>

#define SCORE_UNIT 1048576.0

typedef int64 Score;

/* Statistics of the collection that a query is scored with. */
typedef struct CollectionStats
{
	double ndocs;          /* all partitions, write buffer and deleted documents included */
	double average_length; /* weighted */
	double k1;
	double b;
} CollectionStats;

static inline double
score_idf(double ndocs, double df)
{
	return log(1.0 + (ndocs - df + 0.5) / (df + 0.5));
}

/*
 * Lengths: 0 to 39 exactly, from there on 8 steps an octave (3 bits below the
 * leading one), capped at 255; decode gives the lowest length of a step.
 */
static inline uint8
length_encode(uint32 length)
{
	int shift;
	uint32 code;

	if (length < 40)
		return (uint8) length;
	length -= 24; /* continues at 16 = 2 * 8 with steps of 2 from 40 on */
	shift = 0;
	for (uint32 rest = length; rest >= 16; rest >>= 1)
		shift++;
	code = 40 + (shift - 1) * 8 + ((length >> shift) - 8);
	return (uint8) Min(code, 255);
}

static inline uint32
length_decode(uint8 code)
{
	int shift;

	if (code < 40)
		return code;
	shift = (code - 40) / 8 + 1;
	return ((uint32) ((code - 40) % 8 + 8) << shift) + 24;
}

/* The K of tf / (tf + K), by length code; above 0 also where k1 is 0. */
static inline double
score_norm(const CollectionStats *stats, uint8 code)
{
	double norm = stats->k1 * (1.0 - stats->b +
							   stats->b * length_decode(code) / Max(stats->average_length, 1e-9));

	return Max(norm, 1e-300);
}

static inline void
score_norms(const CollectionStats *stats, double norms[256])
{
	for (int code = 0; code < 256; code++)
		norms[code] = score_norm(stats, (uint8) code);
}

/* One term's part; weight = boost * idf, tf = sum over fields of weight * occurrences > 0. */
static inline Score
score_part(double weight, double tf, double norm)
{
	return (Score) (weight * (tf / (tf + norm)) * SCORE_UNIT + 0.5);
}

/*
 * No part of a term's score in a block can exceed this: impact as in
 * SkipEntry, made with k1, b and average length of the segment's header.
 * (tf + K) / (tf + K') <= max(1, K / K'), and K / K' is a ratio of two linear
 * functions of the length, so that its extremes are at length 0 and infinity.
 */
static inline double
score_bound_scale(double built_k1, double built_b, double built_average,
				  const CollectionStats *stats)
{
	double at_zero, at_infinity;
	double now_zero = stats->k1 * (1.0 - stats->b);
	double now_slope = stats->k1 * stats->b / Max(stats->average_length, 1e-9);

	if (built_k1 == stats->k1 && built_b == stats->b)
		at_zero = 1.0; /* also where both are 0 */
	else
		at_zero = now_zero > 0 ? built_k1 * (1.0 - built_b) / now_zero : INFINITY;
	if (built_k1 * built_b == 0.0)
		at_infinity = 1.0;
	else
		at_infinity =
			now_slope > 0 ? built_k1 * built_b / Max(built_average, 1e-9) / now_slope : INFINITY;
	return Max(1.0, Max(at_zero, at_infinity));
}

typedef struct ScoreBound
{
	double factor; /* of an impact */
	double cap;
} ScoreBound;

static inline ScoreBound
score_bound_prepare(double weight, double scale)
{
	ScoreBound bound;

	/* A little more for the floating point that follows. */
	bound.cap = weight * SCORE_UNIT * (1 + 1e-9);
	bound.factor = bound.cap * scale / 65535.0;
	return bound;
}

static inline Score
score_bound(const ScoreBound *bound, uint32 impact)
{
	double part = impact * bound->factor;

	/* One unit more for rounding, and one for the fraction that is cut off. */
	return (Score) Min(part, bound->cap) + 2;
}

#endif /* PGOPT_SEARCH_SCORE_H */
