/*
 * search_function.h
 *		pgopt_search() with an index and without.
 */
#ifndef PGOPT_SEARCH_FUNCTION_H
#define PGOPT_SEARCH_FUNCTION_H

#include "postgres.h"

#include "funcapi.h"
#include "utils/jsonb.h"

#include "headline.h"

/* The arguments of pgopt_search(). */
typedef struct SearchArguments
{
	Oid table;
	const char *words;
	int length;
	Jsonb *filters; /* or NULL */
	int64 limit;
	int64 skip;
	bool headlines;
	bool correct;
} SearchArguments;

/* What it returns of a row. */
enum
{
	RESULT_POSITION,
	RESULT_KEY,
	RESULT_SCORE,
	RESULT_HEADLINE,
	RESULT_SEARCHED,
	RESULT_RELATION,
	RESULT_PLACE,
	RESULT_COLUMNS
};

/*
 * An error unless it is a table and the caller may read all of it.  Who may
 * not read a table learns nothing of it, not even which words it holds.
 */
extern void search_check_access(Oid table);

/*
 * Puts the rows of the statement that was just run into the result.  Its
 * columns: relation, place, key, score, text for the headline.
 */
extern void search_return_rows(ReturnSetInfo *rsinfo, Analyzer *analyzer, const SearchQuery *query,
							   const HeadlineOptions *options, const char *searched, int64 skip);

/* Says why nothing can be found; false when there is something to look for. known: is any word? */
extern bool search_nothing_to_find(const SearchQuery *query, bool known, const char *words);

/* SQL for the row's key as text: the primary key's column, or all of them as a row; NULL without one. */
extern char *search_key_expression(Oid table);

/* Over a tsvector column or expression (fallback.c); says so. */
extern void search_without_index(ReturnSetInfo *rsinfo, const SearchArguments *arguments);

#endif /* PGOPT_SEARCH_FUNCTION_H */
