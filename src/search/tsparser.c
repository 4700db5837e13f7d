/*
 * tsparser.c
 *		The same analysis as a text search parser and dictionary of the server,
 *		so that pgopt_portuguese works with tsvector and GIN, too.
 *
 * The parser hands out what the tokenizer finds as pieces of the text; the
 * dictionary runs the tokenizer over a piece again and returns its terms.  A
 * number with several parts is one piece: its compound and its first part
 * share a position, the others follow.  A date written out comes before its
 * day, as a piece that the server's headlines leave out.
 *
 * Token types have the numbers that the server's own parser gives to their
 * likes, since its headline function (which is used) goes by these.
 *
 * Owns nothing shared.  The parser's state lives in the caller's context, the
 * dictionary's in that of the server's cache; its words are dropped when they
 * take more than DICTIONARY_MEMORY.
 */
#include "postgres.h"

#include "commands/defrem.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "tsearch/ts_cache.h"
#include "tsearch/ts_public.h"

#include "analysis_private.h"

#define TYPE_WORD         2
#define TYPE_COMPOUND     8
#define TYPE_BLANK        12
#define TYPE_DATE         17
#define TYPE_NUMBER       22

#define PIECE_SIZE        1000 /* the server refuses tokens from 2 kB on */
#define DICTIONARY_MEMORY (32 * 1024 * 1024)

typedef struct ParserState
{
	Tokenizer tokenizer;
	OffsetMap map;
	const char *text;
	uint32 length;
	uint32 done;  /* bytes of the text that were handed out */
	bool pending; /* a token was read, and waits for the blanks before it */
	int type;
	uint32 begin;
	uint32 end;
} ParserState;

typedef struct DictionaryState
{
	MemoryContext context;
	Analyzer *analyzer;
} DictionaryState;

PG_FUNCTION_INFO_V1(pgopt_parser_start);
PG_FUNCTION_INFO_V1(pgopt_parser_token);
PG_FUNCTION_INFO_V1(pgopt_parser_end);
PG_FUNCTION_INFO_V1(pgopt_parser_lextypes);
PG_FUNCTION_INFO_V1(pgopt_dictionary_init);
PG_FUNCTION_INFO_V1(pgopt_dictionary_lexize);

/* --- offsets ---------------------------------------------------------------------- */

void
offset_map_begin(OffsetMap *map, const char *utf8, int utf8_length, const char *text,
				 int text_length)
{
	map->utf8 = utf8 == text ? NULL : utf8;
	map->text = text;
	map->utf8_length = utf8_length;
	map->text_length = text_length;
	map->utf8_offset = map->text_offset = 0;
}

uint32
offset_map_to(OffsetMap *map, uint32 utf8_offset)
{
	if (map->utf8 == NULL)
		return utf8_offset;
	while (map->utf8_offset < utf8_offset && map->text_offset < map->text_length)
	{
		map->utf8_offset += pg_utf_mblen((const unsigned char *) map->utf8 + map->utf8_offset);
		map->text_offset += pg_mblen(map->text + map->text_offset);
	}
	return Min(map->text_offset, map->text_length);
}

/* --- parser ----------------------------------------------------------------------- */

Datum
pgopt_parser_start(PG_FUNCTION_ARGS)
{
	ParserState *state = palloc0(sizeof(ParserState));
	const char *utf8;
	int utf8_length;

	state->text = (const char *) PG_GETARG_POINTER(0);
	state->length = PG_GETARG_INT32(1);
	utf8 = text_to_utf8(state->text, state->length, &utf8_length);
	tokenizer_begin(&state->tokenizer, utf8, utf8_length);
	offset_map_begin(&state->map, utf8, utf8_length, state->text, state->length);
	PG_RETURN_POINTER(state);
}

/* Reads the next token that will be handed out; false at the end. */
static bool
read_token(ParserState *state)
{
	static const int types[] = {[RAW_WORD] = TYPE_WORD,
								[RAW_NUMBER] = TYPE_NUMBER,
								[RAW_COMPOUND] = TYPE_COMPOUND,
								[RAW_DATE] = TYPE_DATE,
								[RAW_SKIPPED] = TYPE_WORD};
	RawToken token, part;
	OffsetMap end;

	do
	{
		if (!tokenizer_next(&state->tokenizer, &token))
			return false;
		for (int i = 0; i < token.parts; i++)
			tokenizer_next(&state->tokenizer, &part);
	} while (token.kind == RAW_DATE && token.length > PIECE_SIZE);
	state->type = types[token.kind];
	state->begin = offset_map_to(&state->map, token.offset);
	end = state->map;
	state->end = offset_map_to(&end, token.offset + token.length);
	return true;
}

/* At most PIECE_SIZE bytes of the text from begin on, and whole characters. */
static int
clip_piece(const ParserState *state, uint32 begin, uint32 end)
{
	if (end - begin <= PIECE_SIZE)
		return end - begin;
	return Max(pg_mbcliplen(state->text + begin, end - begin, PIECE_SIZE), 1);
}

Datum
pgopt_parser_token(PG_FUNCTION_ARGS)
{
	ParserState *state = (ParserState *) PG_GETARG_POINTER(0);
	const char **token = (const char **) PG_GETARG_POINTER(1);
	int *length = (int *) PG_GETARG_POINTER(2);
	uint32 begin = state->done;
	int type = TYPE_BLANK;

	if (!state->pending)
		state->pending = read_token(state);
	if (!state->pending)
		*length = clip_piece(state, begin, state->length);
	else if (state->begin > begin)
		*length = clip_piece(state, begin, state->begin);
	else
	{
		begin = state->begin;
		type = state->type;
		*length = clip_piece(state, begin, state->end);
		state->pending = false;
	}
	*token = state->text + begin;
	if (type != TYPE_DATE)
		state->done = begin + *length;
	PG_RETURN_INT32(*length > 0 ? type : 0);
}

Datum
pgopt_parser_end(PG_FUNCTION_ARGS)
{
	pfree(PG_GETARG_POINTER(0));
	PG_RETURN_VOID();
}

Datum
pgopt_parser_lextypes(PG_FUNCTION_ARGS)
{
	static const LexDescr types[] = {
		{TYPE_WORD, "word", "Word"},
		{TYPE_COMPOUND, "compound", "Number with several parts, date"},
		{TYPE_BLANK, "blank", "What stands between words"},
		{TYPE_DATE, "date", "Date written out"},
		{TYPE_NUMBER, "number", "Number"},
	};
	LexDescr *result = palloc0((lengthof(types) + 1) * sizeof(LexDescr));

	for (int i = 0; i < lengthof(types); i++)
	{
		result[i].lexid = types[i].lexid;
		result[i].alias = pstrdup(types[i].alias);
		result[i].descr = pstrdup(types[i].descr);
	}
	PG_RETURN_POINTER(result);
}

/* --- dictionary ------------------------------------------------------------------- */

Datum
pgopt_dictionary_init(PG_FUNCTION_ARGS)
{
	List *options = (List *) PG_GETARG_POINTER(0);
	DictionaryState *state;

	if (options != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unrecognized parameter of a pgopt_portuguese dictionary: \"%s\"",
						linitial_node(DefElem, options)->defname),
				 errdetail("It has no parameters.")));
	state = palloc0(sizeof(DictionaryState));
	state->context = CurrentMemoryContext;
	PG_RETURN_POINTER(state);
}

Datum
pgopt_dictionary_lexize(PG_FUNCTION_ARGS)
{
	DictionaryState *state = (DictionaryState *) PG_GETARG_POINTER(0);
	const char *text = (const char *) PG_GETARG_POINTER(1);
	int length = PG_GETARG_INT32(2);
	Tokenizer tokenizer;
	RawToken token;
	TSLexeme *lexemes = NULL;
	int n = 0;
	uint32 position = 0;

	if (state->analyzer != NULL && analyzer_memory(state->analyzer) > DICTIONARY_MEMORY)
	{
		Analyzer *old = state->analyzer;

		state->analyzer = NULL;
		analyzer_free(old);
	}
	if (state->analyzer == NULL)
		state->analyzer = analyzer_create_portuguese(NULL, state->context);

	text = text_to_utf8(text, length, &length);
	tokenizer_begin(&tokenizer, text, length);
	while (tokenizer_next(&tokenizer, &token))
	{
		AnalyzerWord *word;

		/* Room for this one and the end. */
		if (lexemes == NULL)
			lexemes = palloc0(2 * sizeof(TSLexeme));
		if (token.kind == RAW_SKIPPED)
			continue;
		word = analyzer_raw_word(state->analyzer, &token);
		if (word->term == NULL)
			continue;
		lexemes = repalloc(lexemes, (n + 2) * sizeof(TSLexeme));
		memset(&lexemes[n], 0, 2 * sizeof(TSLexeme));
		lexemes[n].lexeme = pstrdup(word->term);
		lexemes[n].nvariant = n + 1;
		if (n > 0 && token.position > position)
			lexemes[n].flags = TSL_ADDPOS;
		position = token.position;
		n++;
		/* The parser hands out the words of the date, too. */
		if (token.kind == RAW_DATE)
			break;
	}
	PG_RETURN_POINTER(lexemes);
}

bool
config_is_portuguese(Oid config)
{
	static const int types[] = {TYPE_WORD, TYPE_COMPOUND, TYPE_DATE, TYPE_NUMBER};
	TSConfigCacheEntry *entry = lookup_ts_config_cache(config);

	if (lookup_ts_parser_cache(entry->prsId)->prsstart.fn_addr != pgopt_parser_start)
		return false;
	for (int i = 0; i < lengthof(types); i++)
	{
		const ListDictionary *dictionaries = &entry->map[types[i]];

		if (types[i] >= entry->lenmap || dictionaries->len != 1 ||
			lookup_ts_dictionary_cache(dictionaries->dictIds[0])->lexize.fn_addr !=
				pgopt_dictionary_lexize)
			return false;
	}
	return true;
}
