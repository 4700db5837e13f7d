/*
 * tokenize.c
 *		Cuts Portuguese legal text into folded words and numbers.
 *
 * A word is a run of letters; numbers are read by tokenize_number.c.  Acronyms
 * lose their dots, ordinals their mark, and what only announces a number
 * ("nº", "art.") is no token at all.
 *
 * Owns nothing; the state is the caller's.  Cost: some ns a byte.
 */
#include "postgres.h"

#include "tokenize_private.h"

/* By byte: the lower-case letter, or one of these. */
#define BYTE_SEPARATOR 0
#define BYTE_DIGIT     1
#define BYTE_SPECIAL   2 /* an entity, or not ASCII: look closer */

static const unsigned char byte_class[256] = {
	['0'] = BYTE_DIGIT, ['1'] = BYTE_DIGIT, ['2'] = BYTE_DIGIT,   ['3'] = BYTE_DIGIT,
	['4'] = BYTE_DIGIT, ['5'] = BYTE_DIGIT, ['6'] = BYTE_DIGIT,   ['7'] = BYTE_DIGIT,
	['8'] = BYTE_DIGIT, ['9'] = BYTE_DIGIT, ['&'] = BYTE_SPECIAL, ['a'] = 'a',
	['b'] = 'b',        ['c'] = 'c',        ['d'] = 'd',          ['e'] = 'e',
	['f'] = 'f',        ['g'] = 'g',        ['h'] = 'h',          ['i'] = 'i',
	['j'] = 'j',        ['k'] = 'k',        ['l'] = 'l',          ['m'] = 'm',
	['n'] = 'n',        ['o'] = 'o',        ['p'] = 'p',          ['q'] = 'q',
	['r'] = 'r',        ['s'] = 's',        ['t'] = 't',          ['u'] = 'u',
	['v'] = 'v',        ['w'] = 'w',        ['x'] = 'x',          ['y'] = 'y',
	['z'] = 'z',        ['A'] = 'a',        ['B'] = 'b',          ['C'] = 'c',
	['D'] = 'd',        ['E'] = 'e',        ['F'] = 'f',          ['G'] = 'g',
	['H'] = 'h',        ['I'] = 'i',        ['J'] = 'j',          ['K'] = 'k',
	['L'] = 'l',        ['M'] = 'm',        ['N'] = 'n',          ['O'] = 'o',
	['P'] = 'p',        ['Q'] = 'q',        ['R'] = 'r',          ['S'] = 's',
	['T'] = 't',        ['U'] = 'u',        ['V'] = 'v',          ['W'] = 'w',
	['X'] = 'x',        ['Y'] = 'y',        ['Z'] = 'z',          [0x80 ... 0xFF] = BYTE_SPECIAL};

void
tokenizer_begin(Tokenizer *tokenizer, const char *text, int length)
{
	tokenizer->start = tokenizer->next = (const unsigned char *) text;
	tokenizer->end = tokenizer->start + length;
	tokenizer->position = 0;
	tokenizer->nqueued = tokenizer->taken = 0;
	tokenizer->last_word = NULL;
	tokenizer->behind_slash = NULL;
}

/* A character that is not plain ASCII, or an entity. */
static inline int
decode_special(const unsigned char *p, const unsigned char *end, uint32 *code)
{
	int length;

	if (*p != '&')
		return utf8_decode(p, end, code);
	length = entity_decode(p, end, code);
	if (length > 0)
		return length;
	*code = '&';
	return 1;
}

bool
begins_token(const unsigned char *p, const unsigned char *end)
{
	uint32 code;
	unsigned char folded[FOLD_MAX_BYTES];

	if (p >= end)
		return false;
	if (byte_class[*p] != BYTE_SPECIAL)
		return byte_class[*p] != BYTE_SEPARATOR;
	decode_special(p, end, &code);
	return code != 0xAA && code != 0xBA && fold_code(code, folded) > 0;
}

/* Folds the run of letters at p into out (at most size bytes are kept); its end. */
static inline const unsigned char *
fold_run(const unsigned char *p, const unsigned char *end, char *out, int size, int *length)
{
	int n = 0;

	while (p < end)
	{
		unsigned char class = byte_class[*p];
		uint32 code;
		unsigned char folded[FOLD_MAX_BYTES];
		int bytes, width;

		if (class > BYTE_SPECIAL)
		{
			if (n < size)
				out[n] = class;
			n++;
			p++;
			continue;
		}
		if (class != BYTE_SPECIAL)
			break;
		bytes = decode_special(p, end, &code);
		width = fold_code(code, folded);
		if (width == FOLD_SEPARATOR)
			break;
		for (int i = 0; i < width; i++, n++)
		{
			if (n < size)
				out[n] = folded[i];
		}
		p += bytes;
	}
	*length = n;
	return p;
}

const unsigned char *
fold_letters(const unsigned char *p, const unsigned char *end, char *out, int size, int *length)
{
	return fold_run(p, end, out, size, length);
}

const unsigned char *
skip_spaces(const unsigned char *p, const unsigned char *end)
{
	for (;;)
	{
		if (p < end && (*p == ' ' || (*p >= '\t' && *p <= '\r')))
			p++;
		else if (end - p >= 2 && p[0] == 0xC2 && p[1] == 0xA0)
			p += 2;
		else if (end - p >= 6 && memcmp(p, "&nbsp;", 6) == 0)
			p += 6;
		else
			return p;
	}
}

const unsigned char *
skip_ordinal_mark(const unsigned char *p, const unsigned char *end)
{
	const unsigned char *mark = p;
	uint32 code;
	int bytes;

	if (mark < end && *mark == '.')
		mark++;
	if (mark >= end || byte_class[*mark] != BYTE_SPECIAL)
		return p;
	bytes = decode_special(mark, end, &code);
	return code == 0xAA || code == 0xBA || code == 0xB0 ? mark + bytes : p;
}

/* Is there a º among the letters of the word? */
static bool
has_ordinal_mark(const unsigned char *p, const unsigned char *end)
{
	while (p < end)
	{
		uint32 code;

		p += decode_special(p, end, &code);
		if (code == 0xBA)
			return true;
	}
	return false;
}

/*
 * Does the word that was read only announce a number: art. 5, nº 5, n. 5,
 * No. 5, no 8.666/1993?  If so, the beginning of the number, else NULL.
 */
static const unsigned char *
skip_number_sign(const unsigned char *begin, const unsigned char *p, const unsigned char *end,
				 const char *word, int length)
{
	const unsigned char *after;
	bool is_article = (length == 3 && memcmp(word, "art", 3) == 0) ||
					  (length == 4 && memcmp(word, "arts", 4) == 0);
	bool is_no = length == 2 && memcmp(word, "no", 2) == 0;
	bool sign = is_article;

	if (!is_article && !(length == 1 && word[0] == 'n') && !is_no &&
		!(length == 2 && memcmp(word, "nr", 2) == 0) &&
		!(length == 3 && memcmp(word, "nos", 3) == 0))
		return NULL;
	if (length > 1 && !is_article)
		sign = has_ordinal_mark(begin, p);
	after = skip_ordinal_mark(p, end);
	if (after > p)
	{
		sign = true;
		if (after < end && (*after | 0x20) == 's')
			after++;
	}
	if (after < end && *after == '.')
	{
		sign = true;
		after++;
	}
	after = skip_spaces(after, end);
	if (after >= end || !IS_DIGIT(*after))
		return NULL;
	return sign || (is_no && is_announced_number(after, end)) ? after : NULL;
}

/* Single letters with dots between, or two with a slash: the end of the acronym, or p. */
static const unsigned char *
read_acronym(const unsigned char *p, const unsigned char *end, char *word, int *length)
{
	int n = *length;
	char separator = *p;

	while (p < end && *p == separator && n < SEARCH_MAX_TERM - FOLD_MAX_BYTES)
	{
		const unsigned char *letter = p + 1;
		uint32 code;
		int bytes, width;

		if (letter >= end || byte_class[*letter] == BYTE_SEPARATOR ||
			byte_class[*letter] == BYTE_DIGIT || *letter == '&')
			break;
		bytes = utf8_decode(letter, end, &code);
		if (code == 0xAA || code == 0xBA || begins_token(letter + bytes, end))
			break;
		width = fold_code(code, (unsigned char *) word + n);
		if (width <= 0)
			break;
		n += width;
		p = letter + bytes;
		if (separator == '/')
			break;
	}
	if (n == *length)
		return p;
	*length = n;
	if (separator == '.' && p < end && *p == '.')
		p++;
	return p;
}

/* --- tokens ------------------------------------------------------------------------- */

/* A word at p, which begins with a letter; false when it is none but announces a number. */
static bool
read_word(Tokenizer *tokenizer, const unsigned char *begin, RawToken *token)
{
	const unsigned char *end = tokenizer->end;
	const unsigned char *p;
	char *word = tokenizer->word;
	int length;

	p = fold_run(begin, end, word, SEARCH_MAX_TERM, &length);
	if (length <= 4 && p < end)
	{
		const unsigned char *number = NULL;

		if (word[0] == 'n' || word[0] == 'a')
			number = skip_number_sign(begin, p, end, word, length);
		if (number != NULL)
		{
			tokenizer->next = number;
			return false;
		}
		else if (*p == '$' && length == 1 && word[0] == 'r')
		{
			tokenizer->next = p;
			return false;
		}
		if ((*p == '.' || *p == '/') && length == 1)
			p = read_acronym(p, end, word, &length);
	}
	tokenizer->next = p;
	tokenizer->last_word = begin;
	token->kind = length > SEARCH_MAX_TERM ? RAW_SKIPPED : RAW_WORD;
	token->parts = 0;
	token->folded = word;
	token->folded_length = Min(length, SEARCH_MAX_TERM);
	memset(word + token->folded_length, 0, 8);
	token->position = tokenizer->position++;
	token->offset = begin - tokenizer->start;
	token->length = p - begin;
	return true;
}

bool
tokenizer_next(Tokenizer *tokenizer, RawToken *token)
{
	const unsigned char *p;
	const unsigned char *end = tokenizer->end;

	for (;;)
	{
		if (tokenizer->taken < tokenizer->nqueued)
		{
			*token = tokenizer->queue[tokenizer->taken++];
			return true;
		}

		p = tokenizer->next;
		while (p < end && byte_class[*p] == BYTE_SEPARATOR)
			p++;
		if (p >= end)
		{
			tokenizer->next = end;
			return false;
		}
		if (byte_class[*p] == BYTE_DIGIT)
			tokenizer->next = tokenizer_read_number(tokenizer, p);
		else if (byte_class[*p] == BYTE_SPECIAL && !begins_token(p, end))
		{
			uint32 code;

			tokenizer->next = p + decode_special(p, end, &code);
		}
		else if (read_word(tokenizer, p, token))
			return true;
	}
}

int
tokenizer_form(const char *word, int length, char *out, int size)
{
	const unsigned char *p = (const unsigned char *) word;
	const unsigned char *end = p + length;
	int n = 0;
	int last = -1; /* where the last letter begins, when it is ASCII */

	while (p < end)
	{
		uint32 code, composed;
		unsigned char folded[FOLD_MAX_BYTES];
		int width;

		if (n > size - FOLD_MAX_BYTES)
			return 0;
		p += decode_special(p, end, &code);
		width = fold_code(code, folded);
		if (width == FOLD_SEPARATOR)
			continue; /* an acronym's dots */
		if (width == FOLD_IGNORED)
		{
			if (last >= 0 && (composed = compose_mark(out[last], code)) != 0)
			{
				n = last + utf8_encode(composed, (unsigned char *) out + last);
				last = -1;
			}
			continue;
		}
		if (code >= 0xC0 && code <= 0xDE)
			code += 0x20;
		if (code >= 0xE0 && code <= 0xFF)
			width = utf8_encode(code, folded);
		last = width == 1 ? n : -1;
		memcpy(out + n, folded, width);
		n += width;
	}
	return n;
}
