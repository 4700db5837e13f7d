/*
 * rules.c
 *		Accents for folded words by their endings, and endings that the stemmer
 *		does not bring together.
 *
 * Accents matter only where the server's stemmer looks for them: in -ção,
 * -ência, -ável and their like.  So the rules know endings, and words that
 * are frequent and do not follow them.
 *
 * Owns nothing.  Cost: a walk through short lists, once for each distinct word.
 */
#include "postgres.h"

#include "analysis_private.h"

typedef struct Ending
{
	const char *folded;
	const char *accented;
	int least; /* letters that must come before it */
} Ending;

/* The first that fits counts. */
static const Ending endings[] = {
	{"cao", "ção", 1},         {"coes", "ções", 1},       {"encia", "ência", 1},
	{"encias", "ências", 1},   {"ancia", "ância", 1},     {"ancias", "âncias", 1},
	{"avel", "ável", 1},       {"aveis", "áveis", 1},     {"ivel", "ível", 1},
	{"iveis", "íveis", 1},     {"oes", "ões", 2},         {"aes", "ães", 1},
	{"ao", "ão", 1},           {"aos", "ãos", 2},         {"avamos", "ávamos", 1},
	{"iamos", "íamos", 1},     {"assemos", "ássemos", 1}, {"essemos", "êssemos", 1},
	{"issemos", "íssemos", 1}, {"aria", "ária", 2},       {"arias", "árias", 2},
};

/* Endings of forms that the stemmer leaves apart from their singular or masculine. */
static const Ending normal_endings[] = {
	{"ões", "ão", 1},
	{"ães", "ão", 1},
	{"ais", "al", 2},
	{"éis", "el", 1},
	{"veis", "vel", 2},
	{"ns", "m", 3},
	{"âncias", "ância", 1},
};

static bool
ends_with(const char *word, int length, const char *ending, int least)
{
	int n = strlen(ending);

	return length >= n + least && memcmp(word + length - n, ending, n) == 0;
}

/* Puts another ending in place of one that was found; the new length. */
static int
replace_ending(char *word, int length, const Ending *ending)
{
	int n = strlen(ending->accented);

	length -= strlen(ending->folded);
	memcpy(word + length, ending->accented, n);
	return length + n;
}

int
restore_by_rule(const char *word, int length, char *out)
{
	memcpy(out, word, length);
	for (int i = 0; i < lengthof(endings); i++)
	{
		if (ends_with(word, length, endings[i].folded, endings[i].least))
			return replace_ending(out, length, &endings[i]);
	}
	return length;
}

int
form_normalize(char *form, int length)
{
	for (int i = 0; i < lengthof(normal_endings); i++)
	{
		if (ends_with(form, length, normal_endings[i].folded, normal_endings[i].least))
			return replace_ending(form, length, &normal_endings[i]);
	}
	return length;
}
