/*
 * fold.c
 *		Folding: lower case, and diacritics away.
 *
 * Does not depend on the database's locale.  NFC and NFD give the same:
 * combining marks go.  Latin letters become ASCII; Greek and Cyrillic ones
 * lower case; letters of other scripts stay what they are.
 *
 * Owns nothing; results are palloc'd in the current context.  Cost: linear.
 */
#include "analysis.h"

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "tokenize.h"

/* U+00C0 to U+024F, two bytes each; blanks where there is no ASCII for it. */
static const char latin_letters[] = "a a a a a a aec e e e e i i i i "  /* 00C0 */
									"d n o o o o o   o u u u u y thss"  /* 00D0 */
									"a a a a a a aec e e e e i i i i "  /* 00E0 */
									"d n o o o o o   o u u u u y thy "  /* 00F0 */
									"a a a a a a c c c c c c c c d d "  /* 0100 */
									"d d e e e e e e e e e e g g g g "  /* 0110 */
									"g g g g h h h h i i i i i i i i "  /* 0120 */
									"i i ijijj j k k k l l l l l l l "  /* 0130 */
									"l l l n n n n n n n n n o o o o "  /* 0140 */
									"o o oeoer r r r r r s s s s s s "  /* 0150 */
									"s s t t t t t t u u u u u u u u "  /* 0160 */
									"u u u u w w y y y z z z z z z s "  /* 0170 */
									"b b     b b o c c d d d d d e e "  /* 0180 */
									"e f f g g hvi i k k l l m n n o "  /* 0190 */
									"o o oioip p r s s s   t t t t u "  /* 01A0 */
									"u u v y y z z z z z           w "  /* 01B0 */
									"        dzdzdzljljljnjnjnja a i "  /* 01C0 */
									"i o o u u u u u u u u u u e a a "  /* 01D0 */
									"a a aeae    g g k k o o o o z z "  /* 01E0 */
									"j dzdzdzg g hvw n n a a aeaeo o "  /* 01F0 */
									"a a a a e e e e i i i i o o o o "  /* 0200 */
									"r r r r u u u u s s t t y y h h "  /* 0210 */
									"n d ououz z a a e e o o o o o o "  /* 0220 */
									"o o y y l n t j dbqpa c c l t s "  /* 0230 */
									"z     b u   e e j j q q r r y y "; /* 0240 */

/* U+1E00 to U+1EFF. */
static const char latin_additional[] = "a a b b b b b b c c d d d d d d "  /* 1E00 */
									   "d d d d e e e e e e e e e e f f "  /* 1E10 */
									   "g g h h h h h h h h h h i i i i "  /* 1E20 */
									   "k k k k k k l l l l l l l l m m "  /* 1E30 */
									   "m m m m n n n n n n n n o o o o "  /* 1E40 */
									   "o o o o p p p p r r r r r r r r "  /* 1E50 */
									   "s s s s s s s s s s t t t t t t "  /* 1E60 */
									   "t t u u u u u u u u u u v v v v "  /* 1E70 */
									   "w w w w w w w w w w x x x x y y "  /* 1E80 */
									   "z z z z z z h t w y a s s s ss  "  /* 1E90 */
									   "a a a a a a a a a a a a a a a a "  /* 1EA0 */
									   "a a a a a a a a e e e e e e e e "  /* 1EB0 */
									   "e e e e e e e e i i i i o o o o "  /* 1EC0 */
									   "o o o o o o o o o o o o o o o o "  /* 1ED0 */
									   "o o o o u u u u u u u u u u u u "  /* 1EE0 */
									   "u u y y y y y y y y llllv v y y "; /* 1EF0 */

/* U+FB00 to U+FB06. */
static const char *const ligatures[] = {"ff", "fi", "fl", "ffi", "ffl", "st", "st"};

/* What separates words beyond Latin: punctuation, symbols, private characters. */
static const struct
{
	uint32 first;
	uint32 last;
} separators[] = {{0x2B0, 0x2FF},
				  {0x37E, 0x37E},
				  {0x387, 0x387},
				  {0x2000, 0x2BFF},
				  {0x2E00, 0x2E7F},
				  {0x3000, 0x3004},
				  {0x3008, 0x3020},
				  {0x3030, 0x3030},
				  {0x30FB, 0x30FB},
				  {0xD800, 0xF8FF},
				  {0xFE10, 0xFE6F},
				  {0xFF00, 0xFF20},
				  {0xFF3B, 0xFF40},
				  {0xFF5B, 0xFF65},
				  {0xFFE0, 0xFFFF},
				  {0x1F000, 0x1FAFF},
				  {0xE0000, 0x10FFFF}};

static const struct
{
	const char *name;
	uint32 code;
} entities[] = {
	{"nbsp", 0xA0},    {"amp", '&'},       {"lt", '<'},       {"gt", '>'},       {"quot", '"'},
	{"apos", '\''},    {"ordm", 0xBA},     {"ordf", 0xAA},    {"deg", 0xB0},     {"sect", 0xA7},
	{"para", 0xB6},    {"ldquo", 0x201C},  {"rdquo", 0x201D}, {"lsquo", 0x2018}, {"rsquo", 0x2019},
	{"sbquo", 0x201A}, {"bdquo", 0x201E},  {"laquo", 0xAB},   {"raquo", 0xBB},   {"ndash", 0x2013},
	{"mdash", 0x2014}, {"hellip", 0x2026}, {"bull", 0x2022},  {"middot", 0xB7},  {"shy", 0xAD},
	{"zwnj", 0x200C},  {"zwj", 0x200D},    {"ensp", 0x2002},  {"emsp", 0x2003},  {"thinsp", 0x2009},
	{"euro", 0x20AC},  {"pound", 0xA3},    {"cent", 0xA2},    {"yen", 0xA5},     {"copy", 0xA9},
	{"reg", 0xAE},     {"trade", 0x2122},  {"times", 0xD7},   {"divide", 0xF7},  {"plusmn", 0xB1},
	{"micro", 0xB5},   {"frac12", 0xBD},   {"frac14", 0xBC},  {"sup1", 0xB9},    {"sup2", 0xB2},
	{"sup3", 0xB3},    {"iexcl", 0xA1},    {"iquest", 0xBF},  {"acute", 0xB4},   {"cedil", 0xB8},
	{"aelig", 0xE6},   {"AElig", 0xC6},    {"oelig", 0x153},  {"OElig", 0x152},  {"szlig", 0xDF}};

/* A letter's name goes before these: &ccedil; &Atilde; */
static const char *const marks[] = {
	"grave", "acute", "circ", "tilde", "uml", "cedil", "ring", "slash"};

/* As in "aeiounAEIOUN" by mark, U+00C0 and so on; 0 where there is none. */
static const struct
{
	char letter;
	uint8 codes[8];
} marked[] = {{'a', {0xE0, 0xE1, 0xE2, 0xE3, 0xE4, 0, 0xE5, 0}},
			  {'c', {0, 0, 0, 0, 0, 0xE7, 0, 0}},
			  {'e', {0xE8, 0xE9, 0xEA, 0, 0xEB, 0, 0, 0}},
			  {'i', {0xEC, 0xED, 0xEE, 0, 0xEF, 0, 0, 0}},
			  {'n', {0, 0, 0, 0xF1, 0, 0, 0, 0}},
			  {'o', {0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0, 0, 0xF8}},
			  {'u', {0xF9, 0xFA, 0xFB, 0, 0xFC, 0, 0, 0}},
			  {'y', {0, 0xFD, 0, 0, 0xFF, 0, 0, 0}}};

int
utf8_decode(const unsigned char *p, const unsigned char *end, uint32 *code)
{
	unsigned char c = p[0];
	ptrdiff_t left = end - p;

	if (c >= 0xC2 && c <= 0xDF)
	{
		if (left >= 2 && (p[1] & 0xC0) == 0x80)
		{
			*code = (uint32) (c & 0x1F) << 6 | (p[1] & 0x3F);
			return 2;
		}
	}
	else if ((c & 0xF0) == 0xE0)
	{
		if (left >= 3 && (p[1] & 0xC0) == 0x80 && (p[2] & 0xC0) == 0x80)
		{
			*code = (uint32) (c & 0x0F) << 12 | (uint32) (p[1] & 0x3F) << 6 | (p[2] & 0x3F);
			if (*code >= 0x800 && (*code < 0xD800 || *code > 0xDFFF))
				return 3;
		}
	}
	else if (c >= 0xF0 && c <= 0xF4)
	{
		if (left >= 4 && (p[1] & 0xC0) == 0x80 && (p[2] & 0xC0) == 0x80 && (p[3] & 0xC0) == 0x80)
		{
			*code = (uint32) (c & 0x07) << 18 | (uint32) (p[1] & 0x3F) << 12 |
					(uint32) (p[2] & 0x3F) << 6 | (p[3] & 0x3F);
			if (*code >= 0x10000 && *code <= 0x10FFFF)
				return 4;
		}
	}
	*code = c;
	return 1;
}

int
utf8_encode(uint32 code, unsigned char *out)
{
	if (code < 0x80)
	{
		out[0] = code;
		return 1;
	}
	if (code < 0x800)
	{
		out[0] = 0xC0 | code >> 6;
		out[1] = 0x80 | (code & 0x3F);
		return 2;
	}
	if (code < 0x10000)
	{
		out[0] = 0xE0 | code >> 12;
		out[1] = 0x80 | (code >> 6 & 0x3F);
		out[2] = 0x80 | (code & 0x3F);
		return 3;
	}
	out[0] = 0xF0 | code >> 18;
	out[1] = 0x80 | (code >> 12 & 0x3F);
	out[2] = 0x80 | (code >> 6 & 0x3F);
	out[3] = 0x80 | (code & 0x3F);
	return 4;
}

/* One or two letters of a table; a letter that it has no ASCII for stays. */
static int
fold_from_table(const char *letters, uint32 code, unsigned char *out)
{
	if (letters[0] == ' ')
		return utf8_encode(code, out);
	out[0] = letters[0];
	if (letters[1] == ' ')
		return 1;
	out[1] = letters[1];
	return 2;
}

int
fold_code(uint32 code, unsigned char *out)
{
	if (code < 0x80)
	{
		if (code >= 'A' && code <= 'Z')
			code += 'a' - 'A';
		else if (code < 'a' || code > 'z')
			return FOLD_SEPARATOR;
		out[0] = code;
		return 1;
	}
	if (code < 0xC0)
	{
		if (code == 0xAD)
			return FOLD_IGNORED;
		if (code != 0xAA && code != 0xBA)
			return code == 0xB5 ? utf8_encode(code, out) : FOLD_SEPARATOR;
		out[0] = code == 0xAA ? 'a' : 'o';
		return 1;
	}
	if (code < 0x250)
	{
		if (code == 0xD7 || code == 0xF7)
			return FOLD_SEPARATOR;
		return fold_from_table(latin_letters + 2 * (code - 0xC0), code, out);
	}
	if ((code >= 0x300 && code <= 0x36F) || (code >= 0x200B && code <= 0x200D) || code == 0x2060 ||
		code == 0xFEFF || (code >= 0xFE00 && code <= 0xFE0F))
		return FOLD_IGNORED;
	if (code >= 0x1E00 && code <= 0x1EFF)
		return fold_from_table(latin_additional + 2 * (code - 0x1E00), code, out);
	if (code >= 0xFB00 && code <= 0xFB06)
	{
		int n = strlen(ligatures[code - 0xFB00]);

		memcpy(out, ligatures[code - 0xFB00], n);
		return n;
	}
	for (int i = 0; i < lengthof(separators) && separators[i].first <= code; i++)
	{
		if (code <= separators[i].last)
			return FOLD_SEPARATOR;
	}
	if ((code >= 0x391 && code <= 0x3A9 && code != 0x3A2) || (code >= 0x410 && code <= 0x42F))
		code += 0x20;
	else if (code >= 0x400 && code <= 0x40F)
		code += 0x50;
	return utf8_encode(code, out);
}

/* The number in &#231; or &#xE7; */
static int
entity_number(const unsigned char *p, const unsigned char *end, uint32 *code)
{
	const unsigned char *digits = p + 2;
	uint32 value = 0;
	bool hex = digits < end && (*digits == 'x' || *digits == 'X');
	int n = 0;

	if (hex)
		digits++;
	for (; digits < end && n < 7; digits++, n++)
	{
		if (*digits >= '0' && *digits <= '9')
			value = value * (hex ? 16 : 10) + (*digits - '0');
		else if (hex && ((*digits | 0x20) >= 'a' && (*digits | 0x20) <= 'f'))
			value = value * 16 + ((*digits | 0x20) - 'a' + 10);
		else
			break;
	}
	if (n == 0 || digits >= end || *digits != ';' || value == 0 || value > 0x10FFFF)
		return 0;
	*code = value;
	return digits + 1 - p;
}

int
entity_decode(const unsigned char *p, const unsigned char *end, uint32 *code)
{
	const char *name = (const char *) p + 1;
	int n = 0;

	if (end - p < 4)
		return 0;
	if (p[1] == '#')
		return entity_number(p, end, code);
	while (n < 8 && p + 1 + n < end && name[n] != ';')
		n++;
	if (n < 2 || p + 1 + n >= end || name[n] != ';')
		return 0;
	for (int i = 0; i < lengthof(marked); i++)
	{
		if ((name[0] | 0x20) != marked[i].letter)
			continue;
		for (int m = 0; m < lengthof(marks); m++)
		{
			if (marked[i].codes[m] != 0 && (int) strlen(marks[m]) == n - 1 &&
				memcmp(name + 1, marks[m], n - 1) == 0)
			{
				*code = marked[i].codes[m];
				if (name[0] < 'a' && *code != 0xFF)
					*code -= 0x20;
				return n + 2;
			}
		}
	}
	for (int i = 0; i < lengthof(entities); i++)
	{
		if ((int) strlen(entities[i].name) == n && memcmp(name, entities[i].name, n) == 0)
		{
			*code = entities[i].code;
			return n + 2;
		}
	}
	return 0;
}

uint32
compose_mark(uint32 letter, uint32 mark)
{
	static const uint32 combining[] = {0x300, 0x301, 0x302, 0x303, 0x308, 0x327, 0x30A, 0x338};

	for (int i = 0; i < lengthof(marked); i++)
	{
		if (marked[i].letter != letter)
			continue;
		for (int m = 0; m < lengthof(combining); m++)
		{
			if (combining[m] == mark)
				return marked[i].codes[m];
		}
	}
	return 0;
}

bool
text_is_utf8(void)
{
	return GetDatabaseEncoding() == PG_UTF8 || GetDatabaseEncoding() == PG_SQL_ASCII;
}

const char *
text_to_utf8(const char *text, int length, int *result_length)
{
	char *converted;

	*result_length = length;
	if (text_is_utf8())
		return text;
	converted = pg_server_to_any(text, length, PG_UTF8);
	if (converted != text)
		*result_length = strlen(converted);
	return converted;
}

char *
text_from_utf8(const char *text, int length)
{
	Oid proc;
	Size size;
	char *result;

	if (text_is_utf8())
		return pnstrdup(text, length);
	proc = FindDefaultConversionProc(PG_UTF8, GetDatabaseEncoding());
	if (!OidIsValid(proc))
		return NULL;
	size = (Size) length * MAX_CONVERSION_GROWTH + 1;
	result = palloc_extended(size, MCXT_ALLOC_HUGE);
	if (pg_do_encoding_conversion_buf(proc,
									  PG_UTF8,
									  GetDatabaseEncoding(),
									  (unsigned char *) unconstify(char *, text),
									  length,
									  (unsigned char *) result,
									  (int) Min(size, (Size) PG_INT32_MAX),
									  true) < length)
	{
		pfree(result);
		return NULL;
	}
	return result;
}

char *
search_fold(const char *text, int length, int *result_length)
{
	int n;
	const unsigned char *p = (const unsigned char *) text_to_utf8(text, length, &n);
	const unsigned char *end = p + n;
	/* A byte of Latin-1 may become two letters; UTF-8 never grows. */
	unsigned char *result = palloc_extended((Size) n * 2 + FOLD_MAX_BYTES, MCXT_ALLOC_HUGE);
	unsigned char *out = result;

	while (p < end)
	{
		uint32 code;
		int bytes = utf8_decode(p, end, &code);
		int folded = fold_code(code, out);

		if (folded == FOLD_SEPARATOR)
		{
			memcpy(out, p, bytes);
			folded = bytes;
		}
		out += folded;
		p += bytes;
	}
	*out = '\0';
	*result_length = out - result;
	if (!text_is_utf8())
	{
		char *converted = pg_any_to_server((char *) result, *result_length, PG_UTF8);

		*result_length = strlen(converted);
		return converted;
	}
	return (char *) result;
}
