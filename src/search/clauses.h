/*
 * clauses.h
 *		A query's clauses: on a document at hand, and over a segment's postings.
 *
 * A document holds a word when it occurs in one of the fields asked for, with
 * a weight above 0.  Where an index keeps no positions, a phrase is held by a
 * document that holds all its words.
 */
#ifndef PGOPT_SEARCH_CLAUSES_H
#define PGOPT_SEARCH_CLAUSES_H

#include "query.h"
#include "score.h"
#include "segment.h"
#include "topk.h"

/* --- one document (evaluate.c) -------------------------------------------------------- */

/* What a document holds of a query's terms. */
typedef struct HeldTerms
{
	double *tf;               /* weighted occurrences in the term's fields; 0: does not hold it */
	const uint32 **positions; /* set for terms of phrases, where the index keeps positions */
	uint32 *npositions;
} HeldTerms;

extern HeldTerms *held_terms_create(const SearchQuery *query);

/* Occurrences by field, weighted and summed: the only place where this is done in this order. */
static inline double
weighted_tf(const SearchSettings *settings, uint32 fields, const uint32 *tf)
{
	double sum = 0;

	for (int f = 0; f < settings->nfields; f++)
		if (fields & (1U << f))
			sum += (double) settings->weights[f] * tf[f];
	return sum;
}

/* Is the phrase there?  positions and npositions by the clause's words. */
extern bool phrase_occurs(const QueryClause *clause, int field_bits, const uint32 *const *positions,
						  const uint32 *npositions);

/*
 * Can the index tell whether a document holds the clause?  Without positions
 * it gives the documents that hold a phrase's words: more than hold the
 * phrase.  Where a clause must not be held, these may not be left out; the
 * planner has the rows themselves looked at (plan.c).
 */
static inline bool
clause_decidable(const QueryClause *clause, const SearchSettings *settings)
{
	return !clause->phrase || clause->nterms == 1 || settings->positions;
}

/*
 * Does the document match?  held (may be NULL) is set for each clause that
 * counts for the score.
 */
extern bool query_matches(const SearchQuery *query, const SearchSettings *settings,
						  const HeldTerms *terms, bool *held);

/* A clause's part of the score of a document that holds it. */
static inline Score
clause_part(const QueryClause *clause, const double *idf, const double *tf, double norm)
{
	Score part = 0;

	for (int i = 0; i < clause->nterms; i++)
		part += score_part(clause->boost * idf[clause->terms[i]], tf[clause->terms[i]], norm);
	return part;
}

/* By term; palloc'd. */
extern double *query_idf(const SearchQuery *query, const SearchStats *stats);

/* Which terms are in a phrase, and which clauses have anything to look for; palloc'd. */
extern bool *query_phrase_terms(const SearchQuery *query);

/* --- a segment (clauses.c) -------------------------------------------------------------- */

/* A term's postings; all clauses share it. */
typedef struct SegmentTerm
{
	PostingCursor *cursor; /* NULL: the segment does not have the term */
	uint32 fields;
	uint32 df;
	/* The loaded block has all postings from low to last; low > last: nothing is loaded. */
	uint32 low;
	uint32 last;
	int n;
	int at; /* where the last look-up ended */
} SegmentTerm;

typedef struct SegmentQuery
{
	const SearchQuery *query;
	const SearchSettings *settings;
	SegmentReader *reader;
	SegmentTerm *terms;
	bool *present; /* by clause: the segment has all its words */
	int nmust;
	bool possible; /* can any document match? */
} SegmentQuery;

extern SegmentQuery *segment_query_open(SegmentReader *reader, const SearchSettings *settings,
										const SearchQuery *query, const TermInfo *terms);
extern void segment_query_close(SegmentQuery *sq);

/* Goes to the first posting from doc on; false when there is none. */
extern bool term_seek(SegmentTerm *term, uint32 doc);

/* Does the document have the term?  Sets at. */
extern bool term_find(SegmentTerm *term, uint32 doc);

/* How often the posting at `at` has it, weighted. */
static inline double
term_tf(const SegmentQuery *sq, const SegmentTerm *term, int at)
{
	const PostingCursor *cursor = term->cursor;
	const SearchSettings *settings = sq->settings;
	uint32 fields = term->fields & cursor->fields;
	double sum = 0;

	for (int f = 0; f < settings->nfields; f++)
		if (fields & (1U << f))
			sum += (double) settings->weights[f] * cursor->tf[f][at];
	return sum;
}

/* Finds all words of a clause in a document; their `at` is where they are. */
extern bool clause_find(SegmentQuery *sq, const QueryClause *clause, uint32 doc);

/* After clause_find(): the positions of a phrase. True for words, and without positions. */
extern bool clause_in_place(SegmentQuery *sq, const QueryClause *clause);

/* The clause's word with the fewest documents. */
extern int clause_rarest(const SegmentQuery *sq, const QueryClause *clause);

/* Bit i of bits: document base + i matches; base is a multiple of 64, bits of others stay off. `within` may be NULL. */
extern void
segment_query_bits(SegmentQuery *sq, uint32 base, uint32 end, const uint64 *within, uint64 *bits);

#endif /* PGOPT_SEARCH_CLAUSES_H */
