/*
 * analysis.h
 *		From text to terms, for documents and queries alike.
 *
 * pgopt_portuguese: the text is cut into tokens, folded (lower case, accents
 * away), the commonest accented form of the corpus is restored, that is
 * stemmed by the server's portuguese_stem, and the stem folded.  Since only
 * folded words enter, accents in a query make no difference.  The restored
 * form comes from the index's restoring table, made from the corpus when the
 * index was built, and from rules for Portuguese endings where the table does
 * not know the word.
 *
 * Other text search configurations go through the server's parser and
 * dictionaries; every lexeme is a term, and its own word.
 *
 * Memory: an Analyzer owns a context, in which words are kept until
 * analyzer_free(); what analyzer_run() hands out besides lives until the next
 * run.  Cost: one hash look-up a token; a word is stemmed once.
 */
#ifndef PGOPT_SEARCH_ANALYSIS_H
#define PGOPT_SEARCH_ANALYSIS_H

#include "postgres.h"

#include "format.h"

/* A distinct folded word, for the life of the analyzer. */
typedef struct AnalyzerWord
{
	const char *word; /* folded, NUL-terminated */
	int word_length;
	const char *term; /* what is indexed; NULL for a stop word */
	int term_length;
	uint32 term_hash; /* hash_bytes() of the term */
	void *tag;        /* the caller's; NULL at first, reset by analyzer_clear_tags() */
	uint64 tag_epoch; /* private */
} AnalyzerWord;

/*
 * A compound is a number, law or date with its parts joined (8666/1993,
 * 2026-11-21); its offset and length cover them all.  The parts follow as
 * tokens of their own: those of a number that is written together, or with
 * spaces around its slash (8.666 / 1993), at the same position, those of one in
 * several words (8.666, de 21 de junho de 1993) from there on, each word at its
 * own.
 */
typedef enum TokenFlags
{
	TOKEN_COMPOUND = 1,
	TOKEN_NUMBER = 2 /* digits: never corrected, never stemmed */
} TokenFlags;

typedef struct Token
{
	AnalyzerWord *word;
	uint32 position; /* from 0; stop words count, noise such as "nº" does not */
	uint32 offset;   /* bytes in the text that was given ... */
	uint32 length;   /* ... and how many the token covers there */
	int flags;
} Token;

typedef struct TokenList
{
	Token *tokens; /* stop words left out */
	int n;
	int allocated;
	uint32 positions; /* number of positions in the text, stop words included */
} TokenList;

typedef struct Analyzer Analyzer;
typedef struct RestoreTable RestoreTable; /* folded word -> commonest accented form in the corpus */

/*
 * An analyzer for a text search configuration, in a context of its own below
 * `parent`.  restore may be NULL and must outlive the analyzer.  Errors:
 * ERRCODE_UNDEFINED_OBJECT for a configuration that is not there.
 */
extern Analyzer *analyzer_create(Oid config, const RestoreTable *restore, MemoryContext parent);
extern void analyzer_free(Analyzer *analyzer);
extern bool analyzer_is_portuguese(const Analyzer *analyzer);

/* The text is in the database's encoding, and valid. Checks for interrupts. */
extern const TokenList *analyzer_run(Analyzer *analyzer, const char *text, int length);

/* One word that is folded already (from a word list); NULL when it gives no term. */
extern AnalyzerWord *analyzer_word(Analyzer *analyzer, const char *folded, int length);

/* Begins a new epoch: tag is NULL for every word again. O(1); analyzer_run() clears a tag of an older epoch. */
extern void analyzer_clear_tags(Analyzer *analyzer);

/* Bytes in use; a builder frees the analyzer when it grows over its budget. */
extern Size analyzer_memory(const Analyzer *analyzer);

/*
 * Fingerprint of what the analysis gives for a fixed list of words: changes
 * when the server's stemmer, stop words or the configuration change.
 */
extern uint64 analyzer_fingerprint(Analyzer *analyzer);

/* --- the restoring table (restore.c) ------------------------------------------- */

/* Counts forms while a corpus is read. */
typedef struct RestoreBuilder RestoreBuilder;
extern RestoreBuilder *restore_builder_create(MemoryContext parent);
extern void restore_builder_add(RestoreBuilder *builder, const char *text, int length);

/*
 * The words whose commonest accented form stems otherwise than the rules would
 * have it, serialised for the index: sorted, front-coded.  Words that hardly
 * ever have accents are left to the rules.  The result is palloc'd.
 */
extern bytea *restore_builder_finish(RestoreBuilder *builder, uint32 *nwords);
extern RestoreTable *restore_table_load(const char *bytes, Size size, MemoryContext parent);

/* --- folding (fold.c) ----------------------------------------------------------- */

/* Lower case and without diacritics; result palloc'd, in the database's encoding. */
extern char *search_fold(const char *text, int length, int *result_length);

#endif /* PGOPT_SEARCH_ANALYSIS_H */
