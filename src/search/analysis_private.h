/*
 * analysis_private.h
 *		What analyzer.c, restore.c and tsparser.c know of each other.
 */
#ifndef PGOPT_SEARCH_ANALYSIS_PRIVATE_H
#define PGOPT_SEARCH_ANALYSIS_PRIVATE_H

#include "analysis.h"
#include "tokenize.h"

/* --- analyzer.c ------------------------------------------------------------------ */

/* An analyzer for Portuguese that belongs to no configuration. */
extern Analyzer *analyzer_create_portuguese(const RestoreTable *restore, MemoryContext parent);

/* The word of a token; its term is NULL for a stop word. */
extern AnalyzerWord *analyzer_raw_word(Analyzer *analyzer, const RawToken *token);

/*
 * The term of a form (UTF-8), in the database's encoding, or NULL for a stop
 * word.  Palloc'd.
 */
extern char *analyzer_stem(Analyzer *analyzer, const char *form, int length);
extern bool analyzer_is_stop_word(Analyzer *analyzer, const char *folded);

/* --- restore.c ------------------------------------------------------------------- */

#define FORM_MAX_BYTES (2 * SEARCH_MAX_TERM + 2)

/* The form that the table has for a folded word (UTF-8), or NULL. */
extern const char *
restore_table_find(const RestoreTable *table, const char *word, int length, int *form_length);

/* The form by rule; out has FORM_MAX_BYTES, the result is its length. */
extern int restore_by_rule(const char *word, int length, char *out);

/*
 * Changes a form in place where the stemmer would not let it meet its
 * relatives: plurals in -ões, -ais, -veis, -ns and others become singular.
 * The result is the new length, never greater than the old one.
 */
extern int form_normalize(char *form, int length);

/* --- tsparser.c ------------------------------------------------------------------ */

/* Does the configuration use our parser, and our dictionary for all kinds of words? */
extern bool config_is_portuguese(Oid config);

/* A monotonous walk from offsets in UTF-8 to offsets in the text that was converted. */
typedef struct OffsetMap
{
	const char *utf8; /* NULL: both are the same */
	const char *text;
	uint32 utf8_length;
	uint32 text_length;
	uint32 utf8_offset;
	uint32 text_offset;
} OffsetMap;

extern void offset_map_begin(OffsetMap *map, const char *utf8, int utf8_length, const char *text,
							 int text_length);
extern uint32 offset_map_to(OffsetMap *map, uint32 utf8_offset);

#endif /* PGOPT_SEARCH_ANALYSIS_PRIVATE_H */
