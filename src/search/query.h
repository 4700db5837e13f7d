/*
 * query.h
 *		What a search asks for: from the user's words to terms.
 *
 * The language: words (any of them, the more and rarer the better), "phrases",
 * -word or -"phrase" (not), +word or +"phrase" (must), column:word and
 * column:"phrase".  Nothing is an error: what cannot be read as an operator
 * is a separator.
 *
 * A document matches when every + clause does (where there is any), at least
 * one clause without a sign does (where there is no + clause), and no -
 * clause does.  Its score is the sum of the parts (score.h) of the words that
 * it holds, each weighted by how often the query has it; a phrase that it
 * holds counts as its words.  Where several tokens come from one word
 * (8.666/1993: the compound and its parts) each is an optional word of its
 * own; + demands the parts, - rejects the compound.
 */
#ifndef PGOPT_SEARCH_QUERY_H
#define PGOPT_SEARCH_QUERY_H

#include "postgres.h"

#include "fmgr.h"
#include "nodes/pg_list.h"

#include "analysis.h"

/* The SQL type pgopt_query: a search bound to an index. */
typedef struct PgoptQuery
{
	int32 vl_len_;
	Oid index;     /* index or partitioned index; InvalidOid when it is not bound */
	uint32 fields; /* mask of the index's text columns to look in; 0 = all */
	char text[FLEXIBLE_ARRAY_MEMBER];
} PgoptQuery;

#define PGOPT_QUERY_TEXT_LENGTH(query) (VARSIZE_ANY(query) - offsetof(PgoptQuery, text))
#define SEARCH_MAX_QUERY (1024 * 1024) /* bytes; more is ERRCODE_PROGRAM_LIMIT_EXCEEDED */
#define SEARCH_MAX_QUERY_TERMS 256     /* distinct ones; more is the same error */

typedef enum ClauseSign
{
	CLAUSE_SHOULD,
	CLAUSE_MUST,
	CLAUSE_MUST_NOT
} ClauseSign;

/* A term in certain fields. */
typedef struct QueryTerm
{
	const char *term;
	int length;
	uint32 fields; /* mask, never 0 */
	const char *word; /* as the user wrote it, folded; for corrections and notices */
	int word_length;
	int flags;     /* TokenFlags */
} QueryTerm;

typedef struct QueryClause
{
	ClauseSign sign;
	uint32 fields;
	bool phrase;
	double boost;   /* how often the query has it */
	int nterms;     /* 1 for a word */
	int *terms;     /* indexes into SearchQuery.terms */
	uint32 *places; /* of a phrase: positions relative to the first */
	uint32 offset;  /* where the clause's words stand in the query's text */
	uint32 length;
} QueryClause;

typedef struct SearchQuery
{
	int nterms;
	QueryTerm *terms;
	int nclauses;
	QueryClause *clauses;
	bool only_stop_words; /* there were words, and none is left */
} SearchQuery;

/*
 * field_names has nfields names, for column: prefixes (others are words).
 * fields masks all clauses; 0 = all.  Everything is palloc'd in the current
 * context; terms are copied.
 */
extern SearchQuery *search_query_parse(Analyzer *analyzer, const char *text, int length,
									   const char *const *field_names, int nfields, uint32 fields);

/* --- corrections (fuzzy.c) ---------------------------------------------------------- */

/* Gives the words of an index one after the other, ascending; false at the end. */
typedef bool (*NextWord)(void *source, const char **word, int *length, uint32 *df);

/* What is looked for, and the best that was found so far, over several sources. */
typedef struct Correction
{
	const char *word; /* folded */
	int length;
	int max_distance; /* 0 (too short, a number), 1, or 2 for long words */
	char best[SEARCH_MAX_TERM + 1];
	int best_length;
	int best_distance; /* PG_INT32_MAX: nothing found */
	uint64 best_df;
} Correction;

extern void correction_begin(Correction *correction, const char *folded, int length, int flags);

/* Offers all words of a source to several corrections at once; df of the same word in several sources adds up only within one. */
extern void correction_scan(Correction *corrections, int n, NextWord next, void *source);

#endif /* PGOPT_SEARCH_QUERY_H */
