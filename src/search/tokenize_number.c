/*
 * tokenize_number.c
 *		Numbers, dates and laws in Portuguese text.
 *
 * However a number is punctuated, it gives the same tokens: of 8.666/93,
 * 8666/1993, 8.666 / 1993 and 8.666-1993 come the compound 8666/1993 and its
 * parts 8666 and 1993, of 21.11.2026 the compound 2026-11-21 and three parts,
 * of a process number all its digits joined and its parts.  All of them stand
 * at one position, as a number without punctuation does, so that what follows
 * it in a phrase is found after any.
 *
 * Owns nothing; the tokens of a number, found together, go into the
 * tokenizer's queue.  Cost: linear in what is looked at, which ends after a
 * few words.
 */
#include "postgres.h"

#include "tokenize_private.h"

#define JOINED_DIGITS 7 /* from so many on, a compound is its digits alone */

#define LAW_DIGITS    6 /* at most, before the year */
#define YEAR_DIGITS \
	3 /* from so many on, two digits after a slash, or four after a hyphen, are a year wherever they stand */

#define SLASH_SPACES 16 /* bytes of spaces on either side of a slash; one further away separates */

/* A number as it stands: groups of digits, each with the separator before it. */
typedef struct Group
{
	const unsigned char *digits;
	int length;
	char separator; /* 0 for the first */
} Group;

/* After groups that thousands dots keep apart were joined. */
typedef struct Part
{
	int first; /* groups */
	int last;
	char separator;
} Part;

/* What may follow a number and belongs to it: º, ª, °, or o, a, os, as for it. */
static const unsigned char *
skip_ordinal(const unsigned char *p, const unsigned char *end)
{
	const unsigned char *after = skip_ordinal_mark(p, end);

	if (after > p)
		return after;
	if (after < end && ((*after | 0x20) == 'o' || (*after | 0x20) == 'a'))
	{
		after++;
		if (after < end && (*after | 0x20) == 's')
			after++;
		if (!begins_token(after, end))
			return after;
	}
	return p;
}

/* Room for a token's text, with the zeros that follow it. */
static char *
arena_allocate(Tokenizer *tokenizer, int size)
{
	char *result = tokenizer->arena + tokenizer->arena_used;
	int padded = TYPEALIGN(8, size + 1);

	if (tokenizer->arena_used + padded > (int) sizeof(tokenizer->arena))
		elog(ERROR, "number does not fit");
	memset(result, 0, padded);
	tokenizer->arena_used += padded;
	return result;
}

static RawToken *
queue_token(Tokenizer *tokenizer, RawKind kind, const char *folded, int folded_length,
			const unsigned char *begin, const unsigned char *end)
{
	RawToken *token;

	if (tokenizer->nqueued == lengthof(tokenizer->queue))
		elog(ERROR, "too many tokens in a number");
	token = &tokenizer->queue[tokenizer->nqueued++];
	token->kind = kind;
	token->parts = 0;
	token->folded = folded;
	token->folded_length = folded_length;
	token->position = tokenizer->position;
	token->offset = begin - tokenizer->start;
	token->length = end - begin;
	return token;
}

static int
two_digits(const unsigned char *digits, int length)
{
	int value = 0;

	for (int i = 0; i < length; i++)
		value = value * 10 + (digits[i] - '0');
	return value;
}

/* Four digits that are a year, as far as one can tell. */
static bool
is_year(const Group *group)
{
	return group->length == 4 && memcmp(group->digits, "18", 2) >= 0 &&
		   memcmp(group->digits, "21", 2) < 0;
}

/* Are the groups one number, with thousands dots or without? */
static bool
is_one_number(const Group *groups, int first, int last)
{
	if (last > first && groups[first].length > 3)
		return false;
	for (int g = first + 1; g <= last; g++)
	{
		if (groups[g].separator != '.' || groups[g].length != 3)
			return false;
	}
	return true;
}

/*
 * Is it a law and its year, with a hyphen between: 8.666-1993?  Two years are
 * rather a period, and fewer digits a part of something else.
 */
static bool
is_hyphenated_law(const Group *groups, int first, int last)
{
	int digits = 0;

	if (last == first || groups[last].separator != '-' || !is_year(&groups[last]) ||
		!is_one_number(groups, first, last - 1) || (last - first == 1 && is_year(&groups[first])))
		return false;
	for (int g = first; g < last; g++)
		digits += groups[g].length;
	return digits >= YEAR_DIGITS && digits <= LAW_DIGITS;
}

/* Puts the digits of the groups into out, without leading zeros; their number. */
static int
join_groups(const Group *groups, int first, int last, char *out)
{
	int n = 0;

	for (int g = first; g <= last; g++)
	{
		for (int i = 0; i < groups[g].length; i++)
		{
			if (n == 1 && out[0] == '0')
				n = 0;
			out[n++] = groups[g].digits[i];
		}
	}
	return n;
}

/* Two digits of a year mean 1930 to 2029. */
static int
full_year(char *out, const unsigned char *digits)
{
	memcpy(out, digits[0] >= '3' ? "19" : "20", 2);
	memcpy(out + 2, digits, 2);
	return 4;
}

static bool
is_date(int year_length, const Group *year, const Group *month, const Group *day)
{
	return year->length == year_length && month->length <= 2 && day->length <= 2 &&
		   two_digits(month->digits, month->length) >= 1 &&
		   two_digits(month->digits, month->length) <= 12 &&
		   two_digits(day->digits, day->length) >= 1 && two_digits(day->digits, day->length) <= 31;
}

static void
put_date(char *out, const unsigned char *year, int year_length, int month, int day)
{
	if (year_length == 2)
		full_year(out, year);
	else
		memcpy(out, year, 4);
	out[4] = '-';
	out[5] = '0' + month / 10;
	out[6] = '0' + month % 10;
	out[7] = '-';
	out[8] = '0' + day / 10;
	out[9] = '0' + day % 10;
}

/* Is it a date?  Then its ten bytes, and which group is the year. */
static bool
read_date(const Group *groups, char *out, int *year)
{
	const Group *first = &groups[0];
	const Group *month = &groups[1];
	const Group *last = &groups[2];
	const Group *day;

	if (month->separator != last->separator || month->separator == ',')
		return false;
	if (is_date(4, last, month, first) ||
		(month->separator == '/' && is_date(2, last, month, first)))
	{
		*year = 2;
		day = first;
	}
	else if (is_date(4, first, month, last))
	{
		*year = 0;
		day = last;
	}
	else
		return false;
	put_date(out,
			 groups[*year].digits,
			 groups[*year].length,
			 two_digits(month->digits, month->length),
			 two_digits(day->digits, day->length));
	return true;
}

/* Joins groups that only thousands dots keep apart: one to three digits, then always three. */
static int
join_thousands(const Group *groups, int first, int last, Part *parts)
{
	int nparts = 0;

	for (int g = first; g <= last;)
	{
		int end = g;
		bool thousands = groups[g].length <= 3;

		while (end < last && groups[end + 1].separator == '.')
		{
			end++;
			thousands = thousands && groups[end].length == 3;
		}
		for (int from = g; from <= end; from = parts[nparts++].last + 1)
		{
			parts[nparts].first = from;
			parts[nparts].last = thousands ? end : from;
			parts[nparts].separator = from == first ? 0 : groups[from].separator;
		}
		g = end + 1;
	}
	return nparts;
}

/* Was the last token a kind of document that has a number and a year, or the end of its name? */
static bool
follows_law_word(const Tokenizer *tokenizer)
{
	static const char *const words[] = {
		"acordao",      "acordaos",    "ato",        "complementar", "constitucional",
		"dec",          "decisao",     "decreto",    "decretos",     "dl",
		"ec",           "edital",      "emenda",     "in",           "instrucao",
		"lc",           "legislativo", "lei",        "leis",         "mp",
		"mpv",          "normativa",   "ordinaria",  "parecer",      "pdc",
		"pdl",          "pec",         "pl",         "plc",          "pln",
		"plp",          "pls",         "plv",        "portaria",     "portarias",
		"prc",          "proc",        "processo",   "projeto",      "provisoria",
		"requerimento", "resolucao",   "resolucoes", "sumula"};
	char word[16];
	int length;

	if (tokenizer->last_word == NULL)
		return false;
	fold_letters(tokenizer->last_word, tokenizer->end, word, sizeof(word), &length);
	for (int i = 0; i < lengthof(words); i++)
	{
		if (length == (int) strlen(words[i]) && memcmp(word, words[i], length) == 0)
			return true;
	}
	return false;
}

/* The tokens of groups that belong together: a compound if there are several parts, and these. */
static void
queue_number(Tokenizer *tokenizer, const Group *groups, int first, int last,
			 const unsigned char *end)
{
	Part parts[TOKENIZER_MAX_GROUPS];
	int nparts = join_thousands(groups, first, last, parts);
	RawToken *compound = NULL;
	int year = -1; /* part with a year of two digits, which becomes four */
	int digits = 0;
	bool hyphenated = is_hyphenated_law(groups, first, last);

	for (int g = first; g <= last; g++)
		digits += groups[g].length;

	if (nparts > 1)
	{
		char *text = arena_allocate(tokenizer, digits + nparts + 2);
		int n = 0;
		int date_year;

		if (last - first == 2 && nparts == 3 && read_date(groups + first, text, &date_year))
		{
			n = 10;
			if (groups[first + date_year].length == 2)
				year = date_year;
		}
		else if (digits >= JOINED_DIGITS && parts[1].separator != ',' && !hyphenated &&
				 !(nparts == 2 && parts[1].separator == '/'))
			n = join_groups(groups, first, last, text);
		else
		{
			/* 24/48 is a year of two digits only after a word like "lei". */
			if (nparts == 2 && parts[1].separator == '/' && groups[last].length == 2 &&
				digits <= LAW_DIGITS + 2 &&
				(digits >= YEAR_DIGITS + 2 || follows_law_word(tokenizer)))
				year = 1;
			for (int i = 0; i < nparts; i++)
			{
				if (i > 0)
					text[n++] = hyphenated ? '/' : parts[i].separator;
				if (i == year)
					n += full_year(text + n, groups[parts[i].first].digits);
				else if (parts[i].separator == ',')
				{
					memcpy(text + n, groups[last].digits, groups[last].length);
					n += groups[last].length;
				}
				else
					n += join_groups(groups, parts[i].first, parts[i].last, text + n);
			}
		}
		compound = queue_token(tokenizer, RAW_COMPOUND, text, n, groups[first].digits, end);
		compound->parts = nparts;
	}

	for (int i = 0; i < nparts; i++)
	{
		const Group *last_group = &groups[parts[i].last];
		const unsigned char *part_end = last_group->digits + last_group->length;
		int length = part_end - groups[parts[i].first].digits;
		char *text;
		int n;

		if (parts[i].last == last)
			part_end = end;
		if (length > SEARCH_MAX_TERM)
		{
			queue_token(tokenizer, RAW_SKIPPED, "", 0, groups[parts[i].first].digits, part_end);
			continue;
		}
		text = arena_allocate(tokenizer, Max(length, 4));
		if (i == year)
			n = full_year(text, groups[parts[i].first].digits);
		else
			n = join_groups(groups, parts[i].first, parts[i].last, text);
		queue_token(tokenizer, RAW_NUMBER, text, n, groups[parts[i].first].digits, part_end);
	}
	tokenizer->position++;
}

/* Hyphen, or one of those that look like it. */
static int
hyphen_length(const unsigned char *p, const unsigned char *end)
{
	if (*p == '-')
		return 1;
	if (end - p >= 3 && p[0] == 0xE2 && p[1] == 0x80 &&
		(p[2] == 0x90 || p[2] == 0x91 || p[2] == 0x93))
		return 3;
	return 0;
}

/* Behind a slash at p and the spaces on both sides of it; NULL when there is none. */
static const unsigned char *
skip_slash(const unsigned char *p, const unsigned char *end)
{
	p = skip_spaces(p, end - p > SLASH_SPACES ? p + SLASH_SPACES : end);
	if (p >= end || *p != '/')
		return NULL;
	p++;
	return skip_spaces(p, end - p > SLASH_SPACES ? p + SLASH_SPACES : end);
}

/* Do more digits follow, behind a separator or a slash with spaces? */
static bool
digits_follow(const unsigned char *p, const unsigned char *end)
{
	const unsigned char *next = skip_slash(p, end);

	if (next == NULL && p < end)
		next = *p == '.' ? p + 1 : p + hyphen_length(p, end);
	return next != NULL && next < end && IS_DIGIT(*next);
}

/* A number ends at p: is it followed by a slash with spaces and a year? Then the year, else NULL. */
static const unsigned char *
find_spaced_year(const unsigned char *p, const unsigned char *end)
{
	Group year = {.digits = skip_slash(p, end)};

	if (year.digits == NULL)
		return NULL;
	p = year.digits;
	while (p < end && p - year.digits <= 4 && IS_DIGIT(*p))
		p++;
	year.length = p - year.digits;
	return is_year(&year) && !digits_follow(p, end) ? year.digits : NULL;
}

/*
 * Reads the groups of digits at p; their number.  Where spaced is true, a
 * slash before a year may have spaces around it.
 */
static int
read_groups(const unsigned char *p, const unsigned char *end, bool spaced, Group *groups)
{
	int ngroups = 0;
	int digits = 0;
	char separator = 0;

	while (ngroups < TOKENIZER_MAX_GROUPS)
	{
		const unsigned char *begin = p;
		const unsigned char *next;
		int hyphen;

		while (p < end && IS_DIGIT(*p))
			p++;
		digits += p - begin;
		if (ngroups > 0 && digits > TOKENIZER_MAX_DIGITS)
			break;
		groups[ngroups].digits = begin;
		groups[ngroups].length = p - begin;
		groups[ngroups].separator = separator;
		ngroups++;
		if (p >= end)
			break;
		if (*p == '.' || *p == '/' || *p == ',')
		{
			separator = *p;
			next = p + 1;
		}
		else
		{
			hyphen = hyphen_length(p, end);
			separator = '-';
			next = hyphen > 0 ? p + hyphen : end;
		}
		if (next >= end || !IS_DIGIT(*next))
		{
			if (!spaced || !is_one_number(groups, 0, ngroups - 1))
				break;
			next = find_spaced_year(p, end);
			if (next == NULL)
				break;
			separator = '/';
		}
		p = next;
	}
	return ngroups;
}

/* Is the next word, after spaces, this one?  Then its end, else NULL. */
static const unsigned char *
expect_word(const unsigned char *p, const unsigned char *end, const char *word)
{
	char folded[16];
	int length;

	p = skip_spaces(p, end);
	p = fold_letters(p, end, folded, sizeof(folded), &length);
	return length == (int) strlen(word) && memcmp(folded, word, length) == 0 ? p : NULL;
}

/* A day was read that ends at p: is it followed by "de novembro de 2026"?  Then the end, and the date. */
static const unsigned char *
read_written_date(const unsigned char *p, const unsigned char *end, const Group *day, char *out)
{
	static const char *const months[] = {"janeiro",
										 "fevereiro",
										 "marco",
										 "abril",
										 "maio",
										 "junho",
										 "julho",
										 "agosto",
										 "setembro",
										 "outubro",
										 "novembro",
										 "dezembro"};
	const unsigned char *year;
	char name[16];
	int length;
	int month = 0;

	if (day->length > 2 || two_digits(day->digits, day->length) < 1 ||
		two_digits(day->digits, day->length) > 31)
		return NULL;
	p = skip_spaces(p, end);
	if (p >= end || (*p | 0x20) != 'd' || (p = expect_word(p, end, "de")) == NULL)
		return NULL;
	p = skip_spaces(p, end);
	p = fold_letters(p, end, name, sizeof(name), &length);
	while (month < 12 &&
		   !(length == (int) strlen(months[month]) && memcmp(name, months[month], length) == 0))
		month++;
	if (month == 12 || (p = expect_word(p, end, "de")) == NULL)
		return NULL;
	year = skip_spaces(p, end);
	p = year;
	while (p < end && p - year <= 4 && IS_DIGIT(*p))
		p++;
	if (p - year != 4)
		return NULL;
	put_date(out, year, 4, month + 1, two_digits(day->digits, day->length));
	return p;
}

/*
 * A number that ends at p may be a law's, by its full name: "8.666, de 21 de
 * junho de 1993", or "8.666 de 1993".  Then the end, and the four digits of
 * the year.
 */
static const unsigned char *
read_year_of_law(const unsigned char *p, const unsigned char *end, char *out)
{
	Group groups[TOKENIZER_MAX_GROUPS];
	char date[10];
	int ngroups, year;

	p = skip_spaces(p, end);
	if (p < end && *p == ',')
		p = skip_spaces(p + 1, end);
	if (p >= end || (*p | 0x20) != 'd' || (p = expect_word(p, end, "de")) == NULL)
		return NULL;
	p = skip_spaces(p, end);
	if (p >= end || !IS_DIGIT(*p))
		return NULL;
	ngroups = read_groups(p, end, false, groups);
	p = groups[ngroups - 1].digits + groups[ngroups - 1].length;
	if (ngroups == 1 && is_year(&groups[0]))
		memcpy(date, groups[0].digits, 4);
	else if (ngroups == 3)
	{
		if (!read_date(groups, date, &year))
			return NULL;
	}
	else if (ngroups > 1 ||
			 (p = read_written_date(skip_ordinal(p, end), end, &groups[0], date)) == NULL)
		return NULL;
	memcpy(out, date, 4);
	return p;
}

/* A compound that is not written together: a date, or a law and its year. */
static void
queue_spanning(Tokenizer *tokenizer, const Group *groups, int ngroups, const unsigned char *p)
{
	const unsigned char *begin = groups[0].digits;
	const unsigned char *after;
	char text[16];
	char *copy;
	int length = 0;

	for (int g = 0; g < ngroups; g++)
		length += groups[g].length;
	if (length > LAW_DIGITS)
		return;
	if (ngroups == 1 && (after = read_written_date(p, tokenizer->end, &groups[0], text)) != NULL)
		length = 10;
	else
	{
		length = join_groups(groups, 0, ngroups - 1, text);
		text[length++] = '/';
		after = read_year_of_law(p, tokenizer->end, text + length);
		length += 4;
	}
	if (after == NULL)
		return;
	copy = arena_allocate(tokenizer, length);
	memcpy(copy, text, length);
	queue_token(tokenizer, RAW_SPANNING, copy, length, begin, after);
}

bool
is_announced_number(const unsigned char *p, const unsigned char *end)
{
	Group groups[TOKENIZER_MAX_GROUPS];
	Part parts[TOKENIZER_MAX_GROUPS];
	char date[10];
	int ngroups = read_groups(p, end, true, groups);
	int nparts = join_thousands(groups, 0, ngroups - 1, parts);
	const Group *last = &groups[ngroups - 1];
	int digits = 0;
	bool dots = false;
	int year;

	if (nparts == 1)
		return ngroups > 1;
	for (int g = 0; g < ngroups; g++)
	{
		if (groups[g].separator == ',')
			return false;
		dots = dots || groups[g].separator == '.';
		digits += groups[g].length;
	}
	if (last->separator == '/' && is_one_number(groups, 0, ngroups - 2))
		return is_year(last) || (last->length == 2 && digits >= YEAR_DIGITS + 2);
	if (is_hyphenated_law(groups, 0, ngroups - 1))
		return true;
	return dots && digits >= JOINED_DIGITS && !(nparts == 3 && read_date(groups, date, &year));
}

const unsigned char *
tokenizer_read_number(Tokenizer *tokenizer, const unsigned char *p)
{
	Group groups[TOKENIZER_MAX_GROUPS];
	Part parts[TOKENIZER_MAX_GROUPS];
	int ngroups = read_groups(p, tokenizer->end, p != tokenizer->behind_slash, groups);
	const Group *last = &groups[ngroups - 1];
	const unsigned char *end = skip_ordinal(last->digits + last->length, tokenizer->end);
	int nparts;

	tokenizer->nqueued = tokenizer->taken = tokenizer->arena_used = 0;
	nparts = join_thousands(groups, 0, ngroups - 1, parts);
	if (nparts == 1)
		queue_spanning(tokenizer, groups, ngroups, end);

	/* A comma stands in a decimal number; otherwise it separates. */
	if (nparts == 2 && parts[1].separator == ',')
		queue_number(tokenizer, groups, 0, ngroups - 1, end);
	else
	{
		for (int first = 0; first < ngroups;)
		{
			int to = first;

			while (to + 1 < ngroups && groups[to + 1].separator != ',')
				to++;
			queue_number(tokenizer,
						 groups,
						 first,
						 to,
						 to + 1 < ngroups ? groups[to].digits + groups[to].length : end);
			first = to + 1;
		}
	}
	tokenizer->last_word = NULL;
	tokenizer->behind_slash = skip_slash(end, tokenizer->end);
	return end;
}
