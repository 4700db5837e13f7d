/*
 * tokenize_private.h
 *		What tokenize.c and tokenize_number.c know of each other.
 */
#ifndef PGOPT_SEARCH_TOKENIZE_PRIVATE_H
#define PGOPT_SEARCH_TOKENIZE_PRIVATE_H

#include "tokenize.h"

#define IS_DIGIT(c) ((c) >= '0' && (c) <= '9')

/* --- tokenize.c -------------------------------------------------------------------- */

/* Does a letter or digit begin at p? Marks that only go on with a word do not count. */
extern bool begins_token(const unsigned char *p, const unsigned char *end);

/* Folds the run of letters at p into out; at most size bytes are kept, *length counts all.  Its end. */
extern const unsigned char *
fold_letters(const unsigned char *p, const unsigned char *end, char *out, int size, int *length);

/* Behind spaces, those that do not break included. */
extern const unsigned char *skip_spaces(const unsigned char *p, const unsigned char *end);

/* Behind an ordinal's mark: º, ª, ° (which stands for it in many texts), with a dot before or without. */
extern const unsigned char *skip_ordinal_mark(const unsigned char *p, const unsigned char *end);

/* --- tokenize_number.c ------------------------------------------------------------- */

/* Everything that the digits at p belong to, into the queue; its end. */
extern const unsigned char *tokenizer_read_number(Tokenizer *tokenizer, const unsigned char *p);

/* Is it a number that "no" before it is a number's sign of: a law's, a process's, one with thousands dots? */
extern bool is_announced_number(const unsigned char *p, const unsigned char *end);

#endif /* PGOPT_SEARCH_TOKENIZE_PRIVATE_H */
