/*
 * analyzer.c
 *		Documents and queries into terms.
 *
 * Words are kept, folded, with the term that they give: a word is restored
 * and stemmed once in an analyzer's life.  The cache is a hash table of
 * pointers to words in chunks of memory, all in the analyzer's context; what
 * a run needs besides is in a context below it that the next run resets.
 *
 * A configuration that is not ours goes through the server's parser and
 * dictionaries, without a cache of tokens; its lexemes are kept as words.
 *
 * Cost: some ten ns a token for words that are known.
 */
#include "analysis.h"

#include "catalog/namespace.h"
#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "tsearch/ts_cache.h"
#include "tsearch/ts_public.h"
#include "tsearch/ts_utils.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "analysis_private.h"
#include "compat.h"

#define CHUNK_SIZE       (64 * 1024)
#define TOKENS_AT_FIRST  1024
#define TOKENS_KEPT      (64 * 1024) /* a list that grew longer is freed by the next run */
#define INTERRUPT_TOKENS 4096

/* A word and the key that it is found by: folded, in UTF-8. */
typedef struct CachedWord
{
	AnalyzerWord word;               /* first: callers have pointers to it */
	char key[FLEXIBLE_ARRAY_MEMBER]; /* zeros follow up to a multiple of 8 bytes, as in RawToken */
} CachedWord;

typedef struct WordKey
{
	const char *folded;
	int length;
} WordKey;

typedef struct WordSlot
{
	WordKey key;
	CachedWord *word;
	uint32 hash;
	char status;
} WordSlot;

/* Eight bytes at a time; zeros follow the word up to there. */
static inline uint32
hash_word(const char *folded, int length)
{
	uint64 hash = length;

	for (int i = 0; i < length; i += 8)
	{
		uint64 part;

		memcpy(&part, folded + i, 8);
		hash = (hash ^ part) * UINT64CONST(0x9E3779B97F4A7C15);
		hash ^= hash >> 32;
	}
	return (uint32) (hash ^ hash >> 29);
}

static inline bool
same_word(WordKey a, WordKey b)
{
	if (a.length != b.length)
		return false;
	for (int i = 0; i < a.length; i += 8)
	{
		uint64 part_a, part_b;

		memcpy(&part_a, a.folded + i, 8);
		memcpy(&part_b, b.folded + i, 8);
		if (part_a != part_b)
			return false;
	}
	return true;
}

#define SH_PREFIX          words
#define SH_ELEMENT_TYPE    WordSlot
#define SH_KEY_TYPE        WordKey
#define SH_KEY             key
#define SH_HASH_KEY(tb, k) hash_word((k).folded, (k).length)
#define SH_EQUAL(tb, a, b) same_word(a, b)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) ((a)->hash)
#define SH_SCOPE           static inline
#define SH_DEFINE
#define SH_DECLARE
#include "lib/simplehash.h"

struct Analyzer
{
	MemoryContext context;
	MemoryContext run_context;  /* reset by every run */
	MemoryContext word_context; /* reset by every word that is new */
	Oid config;
	bool portuguese;
	const RestoreTable *restore;
	Oid stemmer;         /* the server's portuguese_stem */
	StopList stop_words; /* folded */
	words_hash *words;
	char *chunk; /* free bytes for words */
	Size chunk_left;
	uint64 epoch;
	TokenList list;
};

static char *
allocate(Analyzer *analyzer, Size size)
{
	char *result;

	size = MAXALIGN(size);
	if (size > CHUNK_SIZE / 8)
		return MemoryContextAlloc(analyzer->context, size);
	if (size > analyzer->chunk_left)
	{
		analyzer->chunk = MemoryContextAlloc(analyzer->context, CHUNK_SIZE);
		analyzer->chunk_left = CHUNK_SIZE;
	}
	result = analyzer->chunk;
	analyzer->chunk += size;
	analyzer->chunk_left -= size;
	return result;
}

static char *
fold_stop_word(const char *word COMPAT_WORDOP_MORE_ARGUMENTS)
{
	int length;

	return search_fold(word, strlen(word), &length);
}

static Analyzer *
create(Oid config, bool portuguese, const RestoreTable *restore, MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(parent, "pgopt analyzer", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old_context = MemoryContextSwitchTo(context);
	Analyzer *analyzer = palloc0(sizeof(Analyzer));

	analyzer->context = context;
	analyzer->run_context =
		AllocSetContextCreate(context, "pgopt analyzer run", ALLOCSET_DEFAULT_SIZES);
	analyzer->word_context =
		AllocSetContextCreate(context, "pgopt analyzer word", ALLOCSET_SMALL_SIZES);
	analyzer->config = config;
	analyzer->portuguese = portuguese;
	analyzer->restore = restore;
	analyzer->epoch = 1;
	analyzer->words = words_create(context, 1024, NULL);
	if (portuguese)
	{
		analyzer->stemmer = get_ts_dict_oid(
			list_make2(makeString("pg_catalog"), makeString("portuguese_stem")), false);
		readstoplist("portuguese", &analyzer->stop_words, fold_stop_word);
	}
	MemoryContextSwitchTo(old_context);
	return analyzer;
}

Analyzer *
analyzer_create(Oid config, const RestoreTable *restore, MemoryContext parent)
{
	if (!SearchSysCacheExists1(TSCONFIGOID, ObjectIdGetDatum(config)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("text search configuration with OID %u does not exist", config)));
	return create(config, config_is_portuguese(config), restore, parent);
}

Analyzer *
analyzer_create_portuguese(const RestoreTable *restore, MemoryContext parent)
{
	return create(InvalidOid, true, restore, parent);
}

void
analyzer_free(Analyzer *analyzer)
{
	MemoryContextDelete(analyzer->context);
}

bool
analyzer_is_portuguese(const Analyzer *analyzer)
{
	return analyzer->portuguese;
}

Size
analyzer_memory(const Analyzer *analyzer)
{
	return MemoryContextMemAllocated(analyzer->context, true);
}

void
analyzer_clear_tags(Analyzer *analyzer)
{
	analyzer->epoch++;
}

/* --- words ------------------------------------------------------------------------ */

bool
analyzer_is_stop_word(Analyzer *analyzer, const char *folded)
{
	return searchstoplist(&analyzer->stop_words, unconstify(char *, folded));
}

char *
analyzer_stem(Analyzer *analyzer, const char *form, int length)
{
	char normal[FORM_MAX_BYTES + 1];
	TSDictionaryCacheEntry *stemmer;
	DictSubState state = {false, false, NULL};
	TSLexeme *lexemes;
	char *word;
	char *term;
	int term_length;

	memcpy(normal, form, length);
	word = text_from_utf8(normal, form_normalize(normal, length));
	if (word == NULL)
		return NULL;
	stemmer = lookup_ts_dictionary_cache(analyzer->stemmer);
	lexemes = (TSLexeme *) DatumGetPointer(FunctionCall4(&stemmer->lexize,
														 PointerGetDatum(stemmer->dictData),
														 PointerGetDatum(word),
														 Int32GetDatum((int32) strlen(word)),
														 PointerGetDatum(&state)));
	if (lexemes != NULL && lexemes[0].lexeme == NULL)
		return NULL;
	if (lexemes != NULL)
		word = lexemes[0].lexeme;
	term = search_fold(word, strlen(word), &term_length);
	return term_length > 0 && term_length <= SEARCH_MAX_TERM ? term : NULL;
}

/* The term of a folded word that is neither a number nor known yet. */
static char *
find_term(Analyzer *analyzer, const char *folded, int length)
{
	char rule[FORM_MAX_BYTES];
	const char *form = NULL;
	int form_length = 0;

	if (analyzer_is_stop_word(analyzer, folded))
		return NULL;
	if (analyzer->restore != NULL)
		form = restore_table_find(analyzer->restore, folded, length, &form_length);
	if (form == NULL)
	{
		form_length = restore_by_rule(folded, length, rule);
		form = rule;
	}
	return analyzer_stem(analyzer, form, form_length);
}

static void
fill_word(Analyzer *analyzer, CachedWord *cached, int length)
{
	AnalyzerWord *word = &cached->word;
	const char *folded = cached->key;
	const char *term = NULL;
	MemoryContext old_context;

	memset(word, 0, sizeof(AnalyzerWord));
	word->word = folded;
	word->word_length = length;
	MemoryContextReset(analyzer->word_context);
	old_context = MemoryContextSwitchTo(analyzer->word_context);
	if (analyzer->portuguese && !text_is_utf8())
	{
		const char *converted = text_from_utf8(folded, length);

		if (converted != NULL)
		{
			word->word_length = strlen(converted);
			word->word =
				memcpy(allocate(analyzer, word->word_length + 1), converted, word->word_length + 1);
		}
	}
	if (!analyzer->portuguese || (folded[0] >= '0' && folded[0] <= '9'))
		term = word->word;
	else
		term = find_term(analyzer, folded, length);
	MemoryContextSwitchTo(old_context);

	if (term == NULL)
		return;
	word->term_length = strlen(term);
	if (strcmp(term, word->word) == 0)
		word->term = word->word;
	else
		word->term = memcpy(allocate(analyzer, word->term_length + 1), term, word->term_length + 1);
	word->term_hash = hash_bytes((const unsigned char *) word->term, word->term_length);
}

/* The word; zeros follow it up to a multiple of 8 bytes. */
static inline AnalyzerWord *
find_word(Analyzer *analyzer, const char *folded, int length)
{
	WordKey key = {folded, length};
	WordSlot *slot = words_lookup(analyzer->words, key);
	CachedWord *cached;

	if (likely(slot != NULL))
		cached = slot->word;
	else
	{
		bool found;

		cached =
			(CachedWord *) allocate(analyzer, offsetof(CachedWord, key) + TYPEALIGN(8, length + 1));
		memset(cached->key, 0, TYPEALIGN(8, length + 1));
		memcpy(cached->key, folded, length);
		fill_word(analyzer, cached, length); /* may fail: only then it goes into the table */
		key.folded = cached->key;
		slot = words_insert(analyzer->words, key, &found);
		slot->word = cached;
	}
	if (cached->word.tag_epoch != analyzer->epoch)
	{
		cached->word.tag = NULL;
		cached->word.tag_epoch = analyzer->epoch;
	}
	return &cached->word;
}

AnalyzerWord *
analyzer_raw_word(Analyzer *analyzer, const RawToken *token)
{
	return find_word(analyzer, token->folded, token->folded_length);
}

AnalyzerWord *
analyzer_word(Analyzer *analyzer, const char *folded, int length)
{
	char padded[SEARCH_MAX_TERM + 8];
	AnalyzerWord *word;

	if (analyzer->portuguese)
		folded = text_to_utf8(folded, length, &length);
	if (length <= 0 || length > SEARCH_MAX_TERM)
		return NULL;
	memset(padded, 0, sizeof(padded));
	memcpy(padded, folded, length);
	word = find_word(analyzer, padded, length);
	return word->term != NULL ? word : NULL;
}

/* --- texts ------------------------------------------------------------------------ */

static void
add_token(Analyzer *analyzer, AnalyzerWord *word, uint32 position, uint32 offset, uint32 length,
		  int flags)
{
	TokenList *list = &analyzer->list;
	Token *token;

	if (list->n == list->allocated)
	{
		int allocated = Max(2 * list->allocated, TOKENS_AT_FIRST);

		if (list->tokens == NULL)
			list->tokens = MemoryContextAlloc(analyzer->context, allocated * sizeof(Token));
		else
			list->tokens = repalloc_huge(list->tokens, allocated * sizeof(Token));
		list->allocated = allocated;
	}
	token = &list->tokens[list->n++];
	token->word = word;
	token->position = position;
	token->offset = offset;
	token->length = length;
	token->flags = flags;
}

static void
run_portuguese(Analyzer *analyzer, const char *text, int length)
{
	Tokenizer tokenizer;
	RawToken raw;
	OffsetMap map;
	int utf8_length;
	const char *utf8 = text_to_utf8(text, length, &utf8_length);
	uint32 count = 0;

	tokenizer_begin(&tokenizer, utf8, utf8_length);
	offset_map_begin(&map, utf8, utf8_length, text, length);
	while (tokenizer_next(&tokenizer, &raw))
	{
		static const int flags[] = {[RAW_WORD] = 0,
									[RAW_NUMBER] = TOKEN_NUMBER,
									[RAW_COMPOUND] = TOKEN_NUMBER | TOKEN_COMPOUND,
									[RAW_SPANNING] = TOKEN_NUMBER | TOKEN_COMPOUND};
		AnalyzerWord *word;
		OffsetMap end;
		uint32 offset;

		if (++count % INTERRUPT_TOKENS == 0)
			CHECK_FOR_INTERRUPTS();
		if (raw.kind == RAW_SKIPPED)
			continue;
		word = find_word(analyzer, raw.folded, raw.folded_length);
		if (word->term == NULL)
			continue;
		offset = offset_map_to(&map, raw.offset);
		end = map;
		add_token(analyzer,
				  word,
				  raw.position,
				  offset,
				  offset_map_to(&end, raw.offset + raw.length) - offset,
				  flags[raw.kind]);
	}
	analyzer->list.positions = tokenizer.position;
}

/* A lexeme of the server's; too long a one is no token. */
static void
add_lexeme(Analyzer *analyzer, const char *lexeme, int length, uint32 position, uint32 offset,
		   uint32 token_length)
{
	AnalyzerWord *word = analyzer_word(analyzer, lexeme, length);

	if (word != NULL)
		add_token(analyzer, word, position, offset, token_length, 0);
}

/* With a dictionary of several words (a thesaurus): only the server can tell, and not where. */
static void
run_whole(Analyzer *analyzer, const char *text, int length)
{
	ParsedText parsed = {NULL, 64, 0, 0};
	uint32 position = 0;

	parsed.words = palloc(parsed.lenwords * sizeof(ParsedWord));
	parsetext(analyzer->config, &parsed, unconstify(char *, text), length);
	for (int i = 0; i < parsed.curwords; i++)
	{
		const ParsedWord *word = &parsed.words[i];

		/* The server counts up to a limit; from there on we do. */
		if (word->pos.pos < MAXENTRYPOS - 1)
			position = word->pos.pos - 1;
		else
			position++;
		add_lexeme(analyzer, word->word, word->len, position, 0, 0);
	}
	analyzer->list.positions = Max(position + 1, (uint32) parsed.pos);
}

/* One token through its dictionaries; *more is set when one wants to see what follows. */
static TSLexeme *
lexize(const ListDictionary *dictionaries, char *token, int length, bool *more)
{
	for (int i = 0; i < dictionaries->len; i++)
	{
		TSDictionaryCacheEntry *dictionary = lookup_ts_dictionary_cache(dictionaries->dictIds[i]);
		DictSubState state = {false, false, NULL};
		TSLexeme *lexemes =
			(TSLexeme *) DatumGetPointer(FunctionCall4(&dictionary->lexize,
													   PointerGetDatum(dictionary->dictData),
													   PointerGetDatum(token),
													   Int32GetDatum(length),
													   PointerGetDatum(&state)));

		*more = state.getnext;
		if (state.getnext)
			return NULL;
		if (lexemes == NULL)
			continue;
		if (!(lexemes->flags & TSL_FILTER))
			return lexemes;
		token = lexemes->lexeme;
		length = strlen(token);
	}
	return NULL;
}

static void
run_server(Analyzer *analyzer, const char *text, int length)
{
	TSConfigCacheEntry *config = lookup_ts_config_cache(analyzer->config);
	TSParserCacheEntry *parser = lookup_ts_parser_cache(config->prsId);
	Datum state;
	uint32 position = 0; /* from 1, while we count */
	bool more = false;

	state = FunctionCall2(
		&parser->prsstart, PointerGetDatum(unconstify(char *, text)), Int32GetDatum(length));
	while (!more)
	{
		char *token = NULL;
		int token_length = 0;
		TSLexeme *lexemes;
		bool inside;
		int type = DatumGetInt32(FunctionCall3(
			&parser->prstoken, state, PointerGetDatum(&token), PointerGetDatum(&token_length)));

		CHECK_FOR_INTERRUPTS();
		if (type <= 0)
			break;
		if (type >= config->lenmap || config->map[type].len == 0 || token_length >= MAXSTRLEN)
			continue;
		lexemes = lexize(&config->map[type], token, token_length, &more);
		if (lexemes == NULL)
			continue;
		position++;
		inside = token >= text && token < text + length;
		for (; lexemes->lexeme != NULL; lexemes++)
		{
			if (lexemes->flags & TSL_ADDPOS)
				position++;
			add_lexeme(analyzer,
					   lexemes->lexeme,
					   strlen(lexemes->lexeme),
					   position - 1,
					   inside ? token - text : 0,
					   inside ? token_length : 0);
		}
	}
	FunctionCall1(&parser->prsend, state);
	analyzer->list.positions = position;
	if (more)
	{
		analyzer->list.n = 0;
		run_whole(analyzer, text, length);
	}
}

const TokenList *
analyzer_run(Analyzer *analyzer, const char *text, int length)
{
	TokenList *list = &analyzer->list;
	MemoryContext old_context;

	if (list->allocated > TOKENS_KEPT)
	{
		pfree(list->tokens);
		list->tokens = NULL;
		list->allocated = 0;
	}
	list->n = 0;
	list->positions = 0;
	MemoryContextReset(analyzer->run_context);
	old_context = MemoryContextSwitchTo(analyzer->run_context);
	if (analyzer->portuguese)
		run_portuguese(analyzer, text, length);
	else
		run_server(analyzer, text, length);
	MemoryContextSwitchTo(old_context);
	return list;
}

uint64
analyzer_fingerprint(Analyzer *analyzer)
{
	/* ASCII, so that it is the same in every encoding; endings that the stemmer knows, stop words, numbers. */
	static const char sample[] =
		"nao e a o os as um uma de do da em para com que se por mais foi sao ser tem sua ate "
		"licitacao licitacoes licitar licitado decisao decisoes competencia circunstancia "
		"responsavel possiveis tributaria necessario municipal municipais constituido amavelmente "
		"rapidamente unidade atividades logia tecnologias ativos nervosa turistas beleza cantaram "
		"escreveria partindo correu mantem orgaos maes viagens ordem publico publicas transporte "
		"the running children Lei 8.666/1993 art. 5 PL-5634/2019 21/11/2026 S.A. COVID-19 R$ 1.234,56 "
		"Lei no 8.666 / 1993, PL 5634-2019";
	Analyzer *fresh = create(analyzer->config, analyzer->portuguese, NULL, CurrentMemoryContext);
	const TokenList *list = analyzer_run(fresh, sample, sizeof(sample) - 1);
	uint64 result = hash_bytes_uint32_extended(list->positions, SEARCH_VERSION);

	for (int i = 0; i < list->n; i++)
	{
		const Token *token = &list->tokens[i];

		result = hash_bytes_extended((const unsigned char *) token->word->term,
									 token->word->term_length,
									 result + token->position);
	}
	analyzer_free(fresh);
	return result;
}
