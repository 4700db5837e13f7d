/*
 * tsparser.c
 *		The same analysis as a text search parser and dictionary of the server,
 *		so that pgopt_portuguese works with tsvector and GIN, too.
 *
 * The parser hands out what the tokenizer finds as pieces of the text; the
 * dictionary runs the tokenizer over a piece again and returns its terms.  A
 * number with several parts is one piece, and its terms share one position:
 * the compound as one variant, the parts together as another, so that a query
 * for it becomes (compound | part & part).  A compound that is not written
 * together (a date in words) comes after its parts, as a piece of its own that
 * the server's headlines leave out.
 *
 * A piece has no word before it, so that 24/48 is no year here, even of a law.
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
#define TYPE_WRITTEN      17
#define TYPE_NUMBER       22

#define PIECE_SIZE        1000 /* the server refuses tokens from 2 kB on */
#define DICTIONARY_MEMORY (32 * 1024 * 1024)

/* Bytes of the text. */
typedef struct Piece
{
	int type;
	uint32 begin;
	uint32 end;
} Piece;

#define MAX_HELD 4

typedef struct ParserState
{
	Tokenizer tokenizer;
	OffsetMap map;
	const char *text;
	uint32 length;
	uint32 done;  /* bytes of the text that were handed out */
	bool pending; /* next was read, and waits for what comes before it */
	Piece next;
	int nheld; /* compounds not written together, until their parts are handed out */
	Piece held[MAX_HELD];
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

/*
 * Reads up to the next token that is not held back.  At the end an empty one
 * stands behind the text.
 */
static void
read_token(ParserState *state)
{
	static const int types[] = {[RAW_WORD] = TYPE_WORD,
								[RAW_NUMBER] = TYPE_NUMBER,
								[RAW_COMPOUND] = TYPE_COMPOUND,
								[RAW_SPANNING] = TYPE_WRITTEN,
								[RAW_SKIPPED] = TYPE_WORD};

	for (;;)
	{
		RawToken token, part;
		OffsetMap end;
		Piece piece = {TYPE_BLANK, state->length, state->length};

		if (tokenizer_next(&state->tokenizer, &token))
		{
			for (int i = 0; i < token.parts; i++)
				tokenizer_next(&state->tokenizer, &part);
			piece.type = types[token.kind];
			piece.begin = offset_map_to(&state->map, token.offset);
			end = state->map;
			piece.end = offset_map_to(&end, token.offset + token.length);
		}
		if (piece.type != TYPE_WRITTEN)
		{
			state->next = piece;
			state->pending = true;
			return;
		}
		if (state->nheld < MAX_HELD && piece.end - piece.begin <= PIECE_SIZE)
			state->held[state->nheld++] = piece;
	}
}

/* Takes the first piece that was held back and whose parts come before the next token. */
static bool
take_held(ParserState *state, Piece *piece)
{
	for (int i = 0; i < state->nheld; i++)
	{
		if (state->held[i].end <= state->next.begin)
		{
			*piece = state->held[i];
			state->nheld--;
			memmove(&state->held[i], &state->held[i + 1], (state->nheld - i) * sizeof(Piece));
			return true;
		}
	}
	return false;
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
	Piece piece;

	if (!state->pending)
		read_token(state);
	if (take_held(state, &piece))
		*length = piece.end - piece.begin;
	else
	{
		if (state->next.begin > state->done)
		{
			piece.type = TYPE_BLANK;
			piece.begin = state->done;
			piece.end = state->next.begin;
		}
		else
		{
			piece = state->next;
			state->pending = false;
		}
		*length = clip_piece(state, piece.begin, piece.end);
		state->done = piece.begin + *length;
	}
	*token = state->text + piece.begin;
	PG_RETURN_INT32(*length > 0 ? piece.type : 0);
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
		{TYPE_COMPOUND, "compound", "Number or date with several parts"},
		{TYPE_BLANK, "blank", "What stands between words"},
		{TYPE_WRITTEN, "written", "Date or law and year, in words; its parts follow"},
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
	int parts = 0; /* of a compound, that are still to come */
	uint16 variant = 0;
	bool new_position = false;

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
		if (parts > 0)
			parts--;
		else
		{
			variant++;
			new_position = true;
		}
		if (token.kind == RAW_SKIPPED)
			continue;
		word = analyzer_raw_word(state->analyzer, &token);
		if (word->term == NULL)
			continue;
		lexemes = repalloc(lexemes, (n + 2) * sizeof(TSLexeme));
		memset(&lexemes[n], 0, 2 * sizeof(TSLexeme));
		lexemes[n].lexeme = pstrdup(word->term);
		lexemes[n].nvariant = variant;
		if (n > 0 && new_position)
			lexemes[n].flags = TSL_ADDPOS;
		new_position = false;
		n++;
		if (token.kind == RAW_COMPOUND)
		{
			parts = token.parts;
			variant++;
		}
		/* The parser hands out the parts, too. */
		if (token.kind == RAW_SPANNING)
			break;
	}
	PG_RETURN_POINTER(lexemes);
}

bool
config_is_portuguese(Oid config)
{
	static const int types[] = {TYPE_WORD, TYPE_COMPOUND, TYPE_WRITTEN, TYPE_NUMBER};
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
