/*
 * tokenize.h
 *		UTF-8, folding and tokens: what analyzer, restoring table and text
 *		search parser share.  Private to them.
 *
 * All of it works on UTF-8; text of other encodings is converted before.
 * Bytes that are no UTF-8 (possible where the database's encoding is
 * SQL_ASCII) are taken for Latin-1.
 */
#ifndef PGOPT_SEARCH_TOKENIZE_H
#define PGOPT_SEARCH_TOKENIZE_H

#include "format.h"

/* --- characters (fold.c) --------------------------------------------------------- */

#define FOLD_SEPARATOR (-1) /* no letter */
#define FOLD_IGNORED   0    /* a combining mark, a soft hyphen: nothing, within a word */
#define FOLD_MAX_BYTES 4

/* Bytes of the character at p < end, and its code point; never reads beyond end. */
extern int utf8_decode(const unsigned char *p, const unsigned char *end, uint32 *code);
extern int utf8_encode(uint32 code, unsigned char *out);

/* Folded bytes of a letter into out, and how many; or FOLD_SEPARATOR, FOLD_IGNORED. Digits are no letters. */
extern int fold_code(uint32 code, unsigned char *out);

/* A named or numbered HTML entity at p ('&'): its length and code point, or 0 when it is none. */
extern int entity_decode(const unsigned char *p, const unsigned char *end, uint32 *code);

/* A lower-case ASCII letter with a combining mark in one code point, or 0 where Latin-1 has none. */
extern uint32 compose_mark(uint32 letter, uint32 mark);

/* The text in UTF-8: itself where no conversion is needed, else palloc'd. */
extern const char *text_to_utf8(const char *text, int length, int *result_length);

/* The text in the database's encoding, NUL-terminated and palloc'd; NULL where that cannot hold it. */
extern char *text_from_utf8(const char *text, int length);

/* True where text_to_utf8() gives the text itself. */
extern bool text_is_utf8(void);

/* --- tokens (tokenize.c, tokenize_number.c) ------------------------------------------------------------ */

typedef enum RawKind
{
	RAW_WORD,
	RAW_NUMBER,
	RAW_COMPOUND, /* a number with its parts joined; the parts follow, at the same position */
	RAW_SPANNING, /* the same of what is not written together: a date in words, a law "8.666, de 21 de junho de 1993"; its words take places */
	RAW_SKIPPED   /* too long: takes a position, and is no token */
} RawKind;

typedef struct RawToken
{
	RawKind kind;
	int parts;          /* of a RAW_COMPOUND: how many tokens follow that are parts of it */
	const char *folded; /* valid until the next call; zeros follow up to a multiple of 8 bytes */
	int folded_length;
	uint32 position;
	uint32 offset; /* in the UTF-8 text */
	uint32 length;
} RawToken;

#define TOKENIZER_MAX_GROUPS 16  /* of digits that one number may have */
#define TOKENIZER_MAX_DIGITS 120 /* in a number of several groups */

typedef struct Tokenizer
{
	const unsigned char *start;
	const unsigned char *next;
	const unsigned char *end;
	uint32 position;
	const unsigned char *last_word;    /* the last token, when it was a word; else NULL */
	const unsigned char *behind_slash; /* what follows the last number and a slash; else NULL */
	int nqueued;                       /* tokens of a number, found together */
	int taken;
	int arena_used;
	RawToken queue[2 * TOKENIZER_MAX_GROUPS];
	char word[SEARCH_MAX_TERM + 1 + 8];
	char arena[1024];
} Tokenizer;

extern void tokenizer_begin(Tokenizer *tokenizer, const char *text, int length);

/* The next token; false at the end. Constant stack, and time linear in the text. */
extern bool tokenizer_next(Tokenizer *tokenizer, RawToken *token);

/*
 * The lower-case form, accents kept (those of Latin-1), of a word of the text
 * at its whole length.  The result is its length, 0 when it is over size.
 */
extern int tokenizer_form(const char *word, int length, char *out, int size);

#endif /* PGOPT_SEARCH_TOKENIZE_H */
