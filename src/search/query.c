/*
 * query.c
 *		Reads what a user searches for.
 *
 * The text is cut into items (signed words, words of a column, phrases, and
 * what is in between), each of which the analyzer turns into tokens.  There is
 * no grammar beyond that, nothing nests, and every byte is looked at a
 * constant number of times.
 *
 * Memory: the current context.  Locks: none.  Cost: that of the analysis.
 */
#include "pgopt.h"

#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "query.h"

/* Slots of the hash tables below: powers of two, at least twice what goes in. */
#define TERM_SLOTS   (4 * SEARCH_MAX_QUERY_TERMS)
#define CLAUSE_SLOTS (2 * SEARCH_MAX_QUERY_PLACES)

/* A column's name is looked for in at most so many bytes before a colon. */
#define MAX_FIELD_NAME (2 * NAMEDATALEN)

/* --- characters ------------------------------------------------------------------- */

int
search_space(const char *p, const char *end)
{
	unsigned char c = (unsigned char) *p;

	if (c < 0x80)
		return c <= ' ' || c == 0x7F ? 1 : 0;
	if (GetDatabaseEncoding() != PG_UTF8)
		return 0;
	/* U+00A0, U+2000 to U+200B, U+2028, U+2029, U+202F, U+3000: what word processors leave behind */
	if (c == 0xC2 && end - p >= 2 && (unsigned char) p[1] == 0xA0)
		return 2;
	if (c == 0xE2 && end - p >= 3 && (unsigned char) p[1] == 0x80)
	{
		unsigned char last = (unsigned char) p[2];

		return last <= 0x8B || last == 0xA8 || last == 0xA9 || last == 0xAF ? 3 : 0;
	}
	if (c == 0xE3 && end - p >= 3 && memcmp(p, "\xE3\x80\x80", 3) == 0)
		return 3;
	return 0;
}

/* Bytes of the quotation mark at p, 0 when it is none. */
static int
quote_length(const char *p, const char *end)
{
	unsigned char c = (unsigned char) *p;

	if (c == '"')
		return 1;
	if (c < 0x80)
		return 0;
	switch (GetDatabaseEncoding())
	{
		case PG_UTF8:
			if (end - p >= 3 &&
				(memcmp(p, "\xE2\x80\x9C", 3) == 0 || memcmp(p, "\xE2\x80\x9D", 3) == 0))
				return 3;
			if (end - p >= 2 && (memcmp(p, "\xC2\xAB", 2) == 0 || memcmp(p, "\xC2\xBB", 2) == 0))
				return 2;
			return 0;
		case PG_WIN1252:
			return c == 0x93 || c == 0x94 || c == 0xAB || c == 0xBB ? 1 : 0;
		case PG_LATIN1:
		case PG_LATIN9:
			return c == 0xAB || c == 0xBB ? 1 : 0;
		default:
			return 0;
	}
}

/* Does a signed word, or one of a column, end here? */
static bool
ends_word(const char *p, const char *end)
{
	if (search_space(p, end) > 0 || quote_length(p, end) > 0)
		return true;
	if (*p == ',')
		return p + 1 >= end || p[1] < '0' || p[1] > '9';
	return strchr(";()[]{}<>|!?", *p) != NULL;
}

/* --- items ------------------------------------------------------------------------ */

typedef struct QueryItem
{
	ClauseSign sign;
	int field; /* -1: no column was named */
	bool phrase;
	bool word; /* one word, which may be several tokens; otherwise any number of words */
	const char *text;
	int length;
} QueryItem;

typedef struct QueryScanner
{
	const char *place;
	const char *end;
	bool word_may_begin; /* are signs and columns read as such here? */
	int nfields;
	char *fields[SEARCH_MAX_FIELDS]; /* folded names */
	int field_lengths[SEARCH_MAX_FIELDS];
} QueryScanner;

static void
scanner_begin(QueryScanner *scanner, const char *text, int length, const char *const *field_names,
			  int nfields)
{
	Assert(nfields <= SEARCH_MAX_FIELDS);
	scanner->place = text;
	scanner->end = text + length;
	scanner->word_may_begin = true;
	scanner->nfields = nfields;
	for (int i = 0; i < nfields; i++)
		scanner->fields[i] =
			search_fold(field_names[i], strlen(field_names[i]), &scanner->field_lengths[i]);
}

/* The column that is named at p, whose colon *colon is set to; -1 when there is none. */
static int
scan_field(const QueryScanner *scanner, const char *p, const char **colon)
{
	const char *last = Min(scanner->end, p + MAX_FIELD_NAME);
	const char *q;
	char *name;
	int length;
	int field = -1;

	if (scanner->nfields == 0)
		return -1;
	for (q = p; q < last && *q != ':'; q++)
	{
		if (ends_word(q, scanner->end))
			return -1;
	}
	if (q >= last || q == p)
		return -1;
	name = search_fold(p, q - p, &length);
	for (int i = 0; i < scanner->nfields && field < 0; i++)
	{
		if (scanner->field_lengths[i] == length && memcmp(scanner->fields[i], name, length) == 0)
			field = i;
	}
	pfree(name);
	*colon = q;
	return field;
}

/* Reads a sign, a column or both, and the quotation mark or word after them; false when p is not an operator. */
static bool
scan_operator(const QueryScanner *scanner, const char *p, QueryItem *item)
{
	const char *end = scanner->end;
	const char *colon;

	item->sign = CLAUSE_SHOULD;
	if (*p == '-' || *p == '+')
	{
		item->sign = *p == '+' ? CLAUSE_MUST : CLAUSE_MUST_NOT;
		p++;
		/* Two signs are an ornament. */
		if (p >= end || *p == '-' || *p == '+')
			return false;
	}
	item->field = scan_field(scanner, p, &colon);
	if (item->field >= 0 && colon + 1 < end &&
		(quote_length(colon + 1, end) > 0 || !ends_word(colon + 1, end)))
		p = colon + 1;
	else
		item->field = -1;
	if (item->sign == CLAUSE_SHOULD && item->field < 0)
		return false;
	item->text = p;
	return quote_length(p, end) > 0 || !ends_word(p, end);
}

static bool
scan_item(QueryScanner *scanner, QueryItem *item)
{
	const char *end = scanner->end;
	const char *begin = scanner->place; /* of what belongs to no operator */
	const char *p = begin;
	int skip;

	while (p < end)
	{
		item->phrase = false;
		if (scanner->word_may_begin && scan_operator(scanner, p, item))
			break;
		if (quote_length(p, end) > 0)
		{
			item->sign = CLAUSE_SHOULD;
			item->field = -1;
			item->text = p;
			break;
		}
		skip = search_space(p, end);
		scanner->word_may_begin = skip > 0;
		p += Max(skip, 1);
	}

	if (p > begin)
	{
		/* First what stands before the operator, which is read again by the next call. */
		item->sign = CLAUSE_SHOULD;
		item->field = -1;
		item->phrase = false;
		item->word = false;
		item->text = begin;
		item->length = p - begin;
		scanner->place = p;
		return true;
	}
	if (p >= end)
		return false;

	p = item->text;
	skip = quote_length(p, end);
	item->phrase = skip > 0;
	item->word = !item->phrase;
	p += skip;
	item->text = p;
	if (item->phrase)
	{
		while (p < end && (skip = quote_length(p, end)) == 0)
			p++;
	}
	else
	{
		while (p < end && !ends_word(p, end))
			p++;
	}
	item->length = p - item->text;
	scanner->place = p < end ? p + skip : end;
	scanner->word_may_begin = item->phrase;
	return true;
}

/* --- terms and clauses --------------------------------------------------------------- */

typedef struct QueryBuilder
{
	SearchQuery *query;
	int terms_allocated;
	int clauses_allocated;
	int nplaces;       /* of all clauses */
	int16 *term_slots; /* numbers of terms plus 1; 0 is free */
	int16 *word_slots;
	int16 *clause_slots;
	int *numbers; /* of the phrase at hand */
	uint32 *places;
} QueryBuilder;

StaticAssertDecl(SEARCH_MAX_QUERY_PLACES < PG_INT16_MAX, "numbers of clauses are kept in an int16");

static void
too_many_words(void)
{
	ereport(ERROR,
			errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			errmsg("search query has too many words"),
			errdetail("At most %d different words, and %d in all phrases together, are allowed.",
					  SEARCH_MAX_QUERY_TERMS,
					  SEARCH_MAX_QUERY_PLACES),
			errhint("Search for the words that matter most."));
}

static int
add_term(QueryBuilder *builder, const AnalyzerWord *word, uint32 fields)
{
	SearchQuery *query = builder->query;
	uint32 slot = hash_combine(word->term_hash, murmurhash32(fields));
	QueryTerm *term;

	for (;; slot++)
	{
		int number = builder->term_slots[slot & (TERM_SLOTS - 1)] - 1;

		if (number < 0)
			break;
		term = &query->terms[number];
		if (term->fields == fields && term->length == word->term_length &&
			memcmp(term->term, word->term, word->term_length) == 0)
			return number;
	}

	if (query->nterms >= SEARCH_MAX_QUERY_TERMS)
		too_many_words();
	if (query->nterms >= builder->terms_allocated)
	{
		builder->terms_allocated *= 2;
		query->terms = repalloc(query->terms, builder->terms_allocated * sizeof(QueryTerm));
	}
	term = &query->terms[query->nterms];
	term->term = pnstrdup(word->term, word->term_length);
	term->length = word->term_length;
	term->fields = fields;
	builder->term_slots[slot & (TERM_SLOTS - 1)] = ++query->nterms;
	return query->nterms - 1;
}

static void
add_query_word(QueryBuilder *builder, const Token *token, int term)
{
	SearchQuery *query = builder->query;
	const AnalyzerWord *word = token->word;
	uint32 slot = hash_combine(hash_bytes((const unsigned char *) word->word, word->word_length),
							   murmurhash32(term));
	QueryWord *known;

	for (;; slot++)
	{
		int number = builder->word_slots[slot & (TERM_SLOTS - 1)] - 1;

		if (number < 0)
			break;
		known = &query->words[number];
		if (known->term == term && known->length == word->word_length &&
			memcmp(known->word, word->word, word->word_length) == 0)
			return;
	}

	if (query->nwords >= SEARCH_MAX_QUERY_TERMS)
		return;
	known = &query->words[query->nwords];
	known->word = pnstrdup(word->word, word->word_length);
	known->length = word->word_length;
	known->term = term;
	known->flags = token->flags;
	builder->word_slots[slot & (TERM_SLOTS - 1)] = ++query->nwords;
}

/* The number of the token's term, which is added if need be. */
static int
add_token(QueryBuilder *builder, const Token *token, uint32 fields)
{
	int term = add_term(builder, token->word, fields);

	add_query_word(builder, token, term);
	return term;
}

/* numbers and places are copied; a clause that is there already weighs one more. */
static void
add_clause(QueryBuilder *builder, ClauseSign sign, uint32 fields, int n, const int *numbers,
		   const uint32 *places, uint32 offset, uint32 length)
{
	SearchQuery *query = builder->query;
	bool phrase = n > 1;
	QueryClause *clause;
	uint32 slot;

	slot = murmurhash32(fields) ^ sign ^ n;
	for (int i = 0; i < n; i++)
		slot = hash_combine(slot, murmurhash32(numbers[i] + (places[i] << 8)));
	for (;; slot++)
	{
		int number = builder->clause_slots[slot & (CLAUSE_SLOTS - 1)] - 1;

		if (number < 0)
			break;
		clause = &query->clauses[number];
		if (clause->sign == sign && clause->fields == fields && clause->nterms == n &&
			memcmp(clause->terms, numbers, n * sizeof(int)) == 0 &&
			memcmp(clause->places, places, n * sizeof(uint32)) == 0)
		{
			clause->boost += 1.0;
			return;
		}
	}

	builder->nplaces += n;
	if (builder->nplaces > SEARCH_MAX_QUERY_PLACES)
		too_many_words();
	if (query->nclauses >= builder->clauses_allocated)
	{
		builder->clauses_allocated *= 2;
		query->clauses = repalloc(query->clauses, builder->clauses_allocated * sizeof(QueryClause));
	}
	clause = &query->clauses[query->nclauses];
	clause->sign = sign;
	clause->fields = fields;
	clause->phrase = phrase;
	clause->boost = 1.0;
	clause->nterms = n;
	clause->terms = palloc(n * sizeof(int));
	memcpy(clause->terms, numbers, n * sizeof(int));
	clause->places = palloc(n * sizeof(uint32));
	memcpy(clause->places, places, n * sizeof(uint32));
	clause->offset = offset;
	clause->length = length;
	builder->clause_slots[slot & (CLAUSE_SLOTS - 1)] = ++query->nclauses;
}

static void
add_word(QueryBuilder *builder, uint32 fields, const Token *token, uint32 base)
{
	int number = add_token(builder, token, fields);
	uint32 place = 0;

	add_clause(
		builder, CLAUSE_SHOULD, fields, 1, &number, &place, base + token->offset, token->length);
}

/*
 * The tokens one after the other.  A compound stands for its parts, which not
 * every way to write the number has.
 */
static void
add_phrase(QueryBuilder *builder, const QueryItem *item, uint32 fields, const TokenList *tokens,
		   uint32 base)
{
	const Token *first = NULL;
	uint32 covered = 0; /* where the last compound ends */
	uint32 end = 0;
	int n = 0;

	for (int i = 0; i < tokens->n; i++)
	{
		const Token *token = &tokens->tokens[i];

		if (token->offset < covered)
			continue;
		if (n >= SEARCH_MAX_QUERY_PLACES)
			too_many_words();
		if (token->flags & TOKEN_COMPOUND)
			covered = token->offset + token->length;
		if (first == NULL)
			first = token;
		end = token->offset + token->length;
		builder->numbers[n] = add_token(builder, token, fields);
		builder->places[n] = token->position - first->position;
		n++;
	}
	if (n > 0)
		add_clause(builder,
				   item->sign,
				   fields,
				   n,
				   builder->numbers,
				   builder->places,
				   base + first->offset,
				   end - first->offset);
}

static void
add_item(QueryBuilder *builder, const QueryItem *item, uint32 fields, const TokenList *tokens,
		 uint32 base)
{
	if (item->phrase || (item->word && item->sign != CLAUSE_SHOULD))
	{
		add_phrase(builder, item, fields, tokens, base);
		return;
	}
	for (int i = 0; i < tokens->n; i++)
		add_word(builder, fields, &tokens->tokens[i], base);
}

static void
check_query_length(int length)
{
	if (length > SEARCH_MAX_QUERY)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("search query is too long"),
				errdetail("It has %d bytes, at most %d are allowed.", length, SEARCH_MAX_QUERY));
}

SearchQuery *
search_query_parse(Analyzer *analyzer, const char *text, int length, const char *const *field_names,
				   int nfields, uint32 fields)
{
	SearchQuery *query = palloc0(sizeof(SearchQuery));
	QueryBuilder builder = {.query = query};
	QueryScanner scanner;
	QueryItem item;
	bool any_word = false;
	bool impossible = false;

	check_query_length(length);
	if (fields == 0)
		fields = nfields > 0 ? ((uint32) 1 << nfields) - 1 : 1;
	builder.terms_allocated = builder.clauses_allocated = 16;
	query->terms = palloc(builder.terms_allocated * sizeof(QueryTerm));
	query->words = palloc(SEARCH_MAX_QUERY_TERMS * sizeof(QueryWord));
	query->clauses = palloc(builder.clauses_allocated * sizeof(QueryClause));
	builder.term_slots = palloc0(TERM_SLOTS * sizeof(int16));
	builder.word_slots = palloc0(TERM_SLOTS * sizeof(int16));
	builder.clause_slots = palloc0(CLAUSE_SLOTS * sizeof(int16));
	builder.numbers = palloc(SEARCH_MAX_QUERY_PLACES * sizeof(int));
	builder.places = palloc(SEARCH_MAX_QUERY_PLACES * sizeof(uint32));

	scanner_begin(&scanner, text, length, field_names, nfields);
	while (scan_item(&scanner, &item))
	{
		const TokenList *tokens = analyzer_run(analyzer, item.text, item.length);
		uint32 item_fields = item.field < 0 ? fields : fields & ((uint32) 1 << item.field);

		CHECK_FOR_INTERRUPTS();
		any_word |= tokens->positions > 0;
		if (item_fields != 0)
			add_item(&builder, &item, item_fields, tokens, item.text - text);
		else if (item.sign == CLAUSE_MUST && tokens->n > 0)
			impossible = true; /* in a column that this search does not look into */
	}

	query->only_stop_words = any_word && query->nclauses == 0;
	if (impossible)
		query->nclauses = query->nterms = query->nwords = 0;
	pfree(builder.term_slots);
	pfree(builder.word_slots);
	pfree(builder.clause_slots);
	pfree(builder.numbers);
	pfree(builder.places);
	return query;
}

/* --- corrected queries ------------------------------------------------------------------ */

char *
search_query_correct(Analyzer *analyzer, const char *text, int length,
					 const char *const *field_names, int nfields, const Correction *corrections,
					 int ncorrections)
{
	static const Correction none; /* the tag of words that stay */
	QueryScanner scanner;
	QueryItem item;
	StringInfoData result;
	const char *done = text;

	check_query_length(length);
	initStringInfo(&result);
	analyzer_clear_tags(analyzer);
	scanner_begin(&scanner, text, length, field_names, nfields);
	while (scan_item(&scanner, &item))
	{
		const TokenList *tokens = analyzer_run(analyzer, item.text, item.length);

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < tokens->n; i++)
		{
			const Token *token = &tokens->tokens[i];
			const AnalyzerWord *word = token->word;
			const char *place = item.text + token->offset;
			const Correction *correction = token->word->tag;

			if (correction == NULL)
			{
				correction = &none;
				for (int j = 0; j < ncorrections; j++)
				{
					if (corrections[j].best_distance != PG_INT32_MAX &&
						corrections[j].length == word->word_length &&
						memcmp(corrections[j].word, word->word, word->word_length) == 0)
						correction = &corrections[j];
				}
				token->word->tag = unconstify(Correction *, correction);
			}
			if (correction == &none || place < done)
				continue;
			appendBinaryStringInfo(&result, done, place - done);
			appendBinaryStringInfo(&result, correction->best, correction->best_length);
			done = place + token->length;
		}
	}
	appendBinaryStringInfo(&result, done, text + length - done);
	return result.data;
}
