/*
 * document.h
 *		One row of a table as the index sees it: terms, words, length, filter
 *		values.  And the analyzer that belongs to an index.
 *
 * Used where documents come one by one: inserts, scores computed from the
 * row, verification.  Builds go through the inverter, with the same result.
 */
#ifndef PGOPT_SEARCH_DOCUMENT_H
#define PGOPT_SEARCH_DOCUMENT_H

#include "analysis.h"
#include "settings.h"

typedef struct DocumentTerm
{
	const char *term;
	int length;
	uint32 tf[SEARCH_MAX_FIELDS];
	uint32 npositions; /* sum of tf */
	uint32 *positions; /* place << field_bits | field, ascending */
} DocumentTerm;

typedef struct DocumentWord
{
	const char *word; /* folded */
	int length;
} DocumentWord;

typedef struct Document
{
	uint32 length; /* weighted: rint(sum of weight * tokens without stop words), before quantising */
	int nterms;
	DocumentTerm *terms; /* ascending: memcmp, then length */
	int nwords;
	DocumentWord *words; /* distinct, ascending; words with digits and of fewer than 3 letters are left out */
} Document;

/*
 * values and isnull are the index's columns (FormIndexDatum).  Fields follow
 * each other in one count of places, 100 apart, so that no phrase goes from
 * one into the next.  Compounds take part as terms.  Palloc'd in the current
 * context; toasted values are fetched and freed.
 */
extern Document *document_analyze(Analyzer *analyzer, const SearchSettings *settings,
								  const Datum *values, const bool *isnull);

/*
 * The analyzer of an index, with its restoring table: made at first use in a
 * backend and kept (renewed when the index was rebuilt or its configuration
 * changed, emptied when it grew over some MB between two calls).  Warns once
 * a session when the stemmer is another one than at build time.
 */
extern Analyzer *search_analyzer(Relation index);

/* What the segments' readers and the inverter agree on: ascending by memcmp, then length. */
extern int term_compare(const char *a, int a_length, const char *b, int b_length);

#endif /* PGOPT_SEARCH_DOCUMENT_H */
