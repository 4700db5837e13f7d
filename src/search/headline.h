/*
 * headline.h
 *		Fragments of a document that show why a search found it.
 *
 * The words of the search are marked however they are accented and inflected,
 * those of a phrase only where the phrase stands, those after a minus never.
 * The fragments are those that show the most of the search's words, of rarer
 * ones first, and of phrases before single words; the earlier of two equal
 * ones.  A text that fits is shown whole, and one that holds nothing of the
 * search is shown from its beginning.
 *
 * White space and control characters become one space.  Unless escape_html is
 * off, everything that comes from the document is escaped for HTML, so that
 * start_sel, stop_sel and delimiter are the only markup.  With escape_html
 * off the text is taken as markup: tags and entities are neither cut nor
 * marked inside, and the result is as trustworthy as the document.
 *
 * Cost: one analysis of the text, up to HEADLINE_SCAN_ENOUGH bytes as soon as
 * something was found, up to HEADLINE_SCAN_LIMIT otherwise.
 */
#ifndef PGOPT_SEARCH_HEADLINE_H
#define PGOPT_SEARCH_HEADLINE_H

#include "query.h"

#define HEADLINE_SCAN_ENOUGH   (1024 * 1024)
#define HEADLINE_SCAN_LIMIT    (4 * 1024 * 1024)

#define HEADLINE_MAX_FRAGMENTS 100
#define HEADLINE_MAX_WORDS     1000

typedef struct HeadlineOptions
{
	const char *start_sel;
	const char *stop_sel;
	const char *delimiter; /* between fragments */
	int max_fragments;     /* 1 .. HEADLINE_MAX_FRAGMENTS */
	int fragment_words;    /* 1 .. HEADLINE_MAX_WORDS; fewer fragments are longer ones */
	bool escape_html;
	uint32 fields; /* which the text belongs to: terms of others are not marked; 0 = any */
	const double
		*weights; /* how rare each term of the query is, such as its idf; NULL: all alike */
} HeadlineOptions;

/* <b>, </b>, " ... ", 2 fragments of 15 words, escaped. */
extern const HeadlineOptions headline_defaults;

/* The query must come from an analyzer of the same configuration. Uses the analyzer's tags. The result is palloc'd. */
extern text *search_headline(Analyzer *analyzer, const SearchQuery *query, const char *text,
							 int length, const HeadlineOptions *options);

#endif /* PGOPT_SEARCH_HEADLINE_H */
