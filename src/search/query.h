/*
 * query.h
 *		What a search asks for: from the user's words to terms.
 *
 * The language: words (any of them, the more and rarer the better), "phrases",
 * -word or -"phrase" (not), +word or +"phrase" (must), column:word and
 * column:"phrase".  Nothing is an error: what cannot be read as an operator
 * is a separator.  Signs and columns are operators at the beginning of a word
 * only, so that decreto-lei is two words; the sign comes first (-title:word).
 *
 * A document matches when every + clause does (where there is any), at least
 * one clause without a sign does (where there is no + clause), and no -
 * clause does.  Its score is the sum of the parts (score.h) of the words that
 * it holds, each weighted by how often the query has it; a phrase that it
 * holds counts as its words.  Where several tokens come from one word
 * (decreto-lei; 8.666/1993: the compound and its parts) each is an optional
 * word of its own; with a sign they are a phrase.
 *
 * In a phrase a compound stands for its parts, so that a number is found, or
 * rejected, however it is written: punctuated (8.666/1993, 8.666 / 1993,
 * 8.666-1993), joined, or as "8.666, de 21 de junho de 1993".  It takes one place in the first two, and as many as it has
 * words in the third: a phrase that goes on after a number finds documents
 * that write it in one word where the search does, or in as many words.
 */
#ifndef PGOPT_SEARCH_QUERY_H
#define PGOPT_SEARCH_QUERY_H

#include "postgres.h"

#include "fmgr.h"
#include "nodes/pg_list.h"

#include "compat.h"
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
#define SEARCH_MAX_QUERY               (1024 * 1024) /* bytes; more is ERRCODE_PROGRAM_LIMIT_EXCEEDED */
#define SEARCH_MAX_QUERY_TERMS         256           /* distinct ones; more is the same error */
#define SEARCH_MAX_QUERY_PLACES \
	2048 /* words of all clauses together, repeated clauses not counted; likewise */

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
} QueryTerm;

/* A word as the user wrote it, folded; several may give one term. */
typedef struct QueryWord
{
	const char *word;
	int length;
	int term;  /* index into SearchQuery.terms */
	int flags; /* TokenFlags */
} QueryWord;

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
	int nwords; /* at most SEARCH_MAX_QUERY_TERMS, others are left out: for corrections */
	QueryWord *words;
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

/* Bytes of the white space character at p, which is before end; 0 when it is none. */
extern int search_space(const char *p, const char *end);

/* --- corrections (fuzzy.c) ---------------------------------------------------------- */

/* Gives the words of an index one after the other, ascending; false at the end. */
typedef bool (*NextWord)(void *source, const char **word, int *length, uint32 *df);

/*
 * What is looked for, and the best that was found so far, over several
 * sources: smallest distance, then most documents in all sources together,
 * then first in the order of the words.
 */
typedef struct Correction
{
	const char *word; /* folded */
	int length;
	int max_distance; /* 0 (too short, a number), 1, or 2 for long words */
	char best[SEARCH_MAX_TERM + 1];
	int best_length;
	int best_distance; /* PG_INT32_MAX: nothing found */
	uint64 best_df;
	/* private: all words at best_distance */
	struct CorrectionCandidate *candidates;
	int ncandidates;
	MemoryContext context;
} Correction;

/* The word must outlive the correction, whose memory is in the current context. */
extern void correction_begin(Correction *correction, const char *folded, int length, int flags);

/* Offers all words of a source to several corrections at once. */
extern void correction_scan(Correction *corrections, int n, NextWord next, void *source);

/*
 * The query's text with the words of the corrections replaced wherever they
 * stand as words; operators, columns and everything else stay as they are.
 * The result is palloc'd.  Uses the tags of the analyzer.
 */
extern char *search_query_correct(Analyzer *analyzer, const char *text, int length,
								  const char *const *field_names, int nfields,
								  const Correction *corrections, int ncorrections);

#endif /* PGOPT_SEARCH_QUERY_H */
