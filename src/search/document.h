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
	/* Weighted: rint(sum of weight * tokens without stop words), before quantising. */
	uint32 length;
	int nterms;
	DocumentTerm *terms; /* ascending: memcmp, then length */
	int nwords;
	/* Distinct, ascending; words with digits and of fewer than 3 letters are left out. */
	DocumentWord *words;
} Document;

/*
 * values and isnull are the index's columns (FormIndexDatum).  Fields follow
 * each other in one count of places, 100 apart, so that no phrase goes from
 * one into the next.  Compounds take part as terms, but do not count for the
 * length: their parts do.  Palloc'd in the current context, strings included;
 * toasted values are fetched and freed.  Uses the tags of the analyzer's words.
 */
extern Document *document_analyze(Analyzer *analyzer, const SearchSettings *settings,
								  const Datum *values, const bool *isnull);

/*
 * What document_analyze() and the inverter have in common: hands out each
 * field's tokens, in the order of the fields.  The place of a token is
 * first_place + its position; tokens past the last place that a position can
 * tell are left out.  Returns the weighted length.
 */
typedef void (*DocumentTokens)(void *state, int field, uint32 first_place, const Token *tokens,
							   int ntokens);
extern uint32 document_read(Analyzer *analyzer, const SearchSettings *settings, const Datum *values,
							const bool *isnull, DocumentTokens callback, void *state);

/* An error for a filter's value that is too long to be kept: to be called for every row. */
extern void document_check_filters(Relation index, const SearchSettings *settings,
								   const Datum *values, const bool *isnull);

/* Does a word belong into the word list? */
extern bool document_keeps_word(const char *word, int length);

/*
 * The analyzer of an index, with its restoring table: made at first use in a
 * backend and kept (renewed when the index was rebuilt or its configuration
 * changed, or it grew over some MB between two calls).  Valid until the next
 * call of this function, whatever the index.  Warns once a session when the
 * stemmer is another one than at build time.
 */
extern Analyzer *search_analyzer(Relation index);

/* Reads an index's restoring table into a context; NULL where there is none. */
extern RestoreTable *search_read_restore(Relation index, const SearchMeta *meta, MemoryContext cxt);

/* What the segments' readers and the inverter agree on: ascending by memcmp, then length. */
extern int term_compare(const char *a, int a_length, const char *b, int b_length);

#endif /* PGOPT_SEARCH_DOCUMENT_H */
