/*
 * document.c
 *		From a row to a document: terms with their places, words, length.
 *
 * The words' tags link a document's tokens by word; then the few hundred
 * words of a document are sorted instead of its thousands of tokens.  Two
 * words that give one term are the exception, and only their places are
 * merged.
 *
 * Memory: the result is palloc'd in the caller's context.  Cost: one look-up
 * a token, and a sort of the distinct words.
 */
#include "pgopt.h"

#include "document.h"

int
term_compare(const char *a, int a_length, const char *b, int b_length)
{
	int order = memcmp(a, b, Min(a_length, b_length));

	return order != 0 ? order : a_length - b_length;
}
