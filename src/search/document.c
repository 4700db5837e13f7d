/*
 * document.c
 *		From a row to a document: terms with their places, words, length.
 *
 * The words' tags link a document's tokens by word; then the few hundred
 * words of a document are sorted instead of its thousands of tokens.  Two
 * words that give one term are the exception, and only their places are
 * sorted.
 *
 * Memory: the result is palloc'd in the caller's context.  Cost: one look-up
 * a token, and a sort of the distinct words.
 */
#include "pgopt.h"

#include <math.h>

#include "access/detoast.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "compat.h"
#include "document.h"

/* Places between two fields. */
#define FIELD_GAP 100

#define NO_TOKEN  PG_UINT32_MAX

/* A word of the document at hand: the tag of its AnalyzerWord. */
typedef struct DocWord
{
	AnalyzerWord *word;
	uint32 first; /* chain through DocState.tokens */
	uint32 last;
	uint32 n;
} DocWord;

typedef struct DocToken
{
	uint32 position; /* place << field bits | field */
	uint32 next;
} DocToken;

typedef struct DocState
{
	const SearchSettings *settings;
	DocToken *tokens;
	Size ntokens;
	Size tokens_allocated;
	DocWord **words;
	int nwords;
	int words_allocated;
} DocState;

#define ST_SORT          sort_positions
#define ST_ELEMENT_TYPE  uint32
#define ST_COMPARE(a, b) (*(a) < *(b) ? -1 : *(a) > *(b))
#define ST_SCOPE         static
#define ST_DEFINE
#include "lib/sort_template.h"

int
term_compare(const char *a, int a_length, const char *b, int b_length)
{
	int order = memcmp(a, b, Min(a_length, b_length));

	return order != 0 ? order : a_length - b_length;
}

bool
document_keeps_word(const char *word, int length)
{
	if (length < 3 || length > SEARCH_MAX_TERM)
		return false;
	for (int i = 0; i < length; i++)
	{
		if (word[i] >= '0' && word[i] <= '9')
			return false;
	}
	return pg_mbstrlen_with_len(word, length) >= 3;
}

void
document_check_filters(Relation index, const SearchSettings *settings, const Datum *values,
					   const bool *isnull)
{
	for (int f = 0; f < settings->nfilters; f++)
	{
		const SearchFilterColumn *column = &settings->filters[f];
		Size size;

		if (column->typlen != -1 || isnull[column->attno - 1])
			continue;
		size = toast_raw_datum_size(values[column->attno - 1]);
		if (size > SEARCH_MAX_FILTER_VALUE)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("value of a filter column is too long for index \"%s\"",
							RelationGetRelationName(index)),
					 errdetail("It has %zu bytes; the most is %d.",
							   size - VARHDRSZ,
							   SEARCH_MAX_FILTER_VALUE - VARHDRSZ),
					 errhint("Index an expression instead of the column, such as left(column, "
							 "100).")));
	}
}

uint32
document_read(Analyzer *analyzer, const SearchSettings *settings, const Datum *values,
			  const bool *isnull, DocumentTokens callback, void *state)
{
	uint32 max_place = PG_UINT32_MAX >> settings->field_bits;
	uint64 first_place = 0;
	double length = 0;

	for (int field = 0; field < settings->nfields; field++)
	{
		AttrNumber attno = settings->fields[field];

		if (!isnull[attno - 1])
		{
			Datum value = values[attno - 1];
			struct varlena *text = PG_DETOAST_DATUM_PACKED(value);
			const TokenList *list =
				analyzer_run(analyzer, VARDATA_ANY(text), VARSIZE_ANY_EXHDR(text));
			int n = list->n;
			int compounds = 0;

			while (n > 0 && first_place + list->tokens[n - 1].position >= max_place)
				n--;
			for (int i = 0; i < n; i++)
				compounds += (list->tokens[i].flags & TOKEN_COMPOUND) != 0;
			length += (double) settings->weights[field] * (n - compounds);
			if (n > 0)
				callback(state, field, (uint32) first_place, list->tokens, n);
			first_place += list->positions;
			if ((Pointer) text != DatumGetPointer(value))
				pfree(text);
		}
		first_place += FIELD_GAP;
	}
	return (uint32) Min(rint(length), (double) PG_UINT32_MAX);
}

static DocWord *
add_word(DocState *state, AnalyzerWord *word)
{
	DocWord *entry = palloc(sizeof(DocWord));

	if (state->nwords == state->words_allocated)
	{
		state->words_allocated = Max(64, 2 * state->words_allocated);
		state->words =
			state->words == NULL
				? palloc(state->words_allocated * sizeof(DocWord *))
				: repalloc_huge(state->words, state->words_allocated * sizeof(DocWord *));
	}
	state->words[state->nwords++] = entry;
	entry->word = word;
	entry->first = entry->last = NO_TOKEN;
	entry->n = 0;
	word->tag = entry;
	return entry;
}

static void
add_tokens(void *arg, int field, uint32 first_place, const Token *tokens, int ntokens)
{
	DocState *state = arg;
	int field_bits = state->settings->field_bits;

	if (state->ntokens + ntokens > state->tokens_allocated)
	{
		state->tokens_allocated = state->ntokens + ntokens;
		state->tokens =
			state->tokens == NULL
				? MemoryContextAllocHuge(CurrentMemoryContext,
										 state->tokens_allocated * sizeof(DocToken))
				: repalloc_huge(state->tokens, state->tokens_allocated * sizeof(DocToken));
	}
	for (int i = 0; i < ntokens; i++)
	{
		AnalyzerWord *word = tokens[i].word;
		DocWord *entry = word->tag;
		uint32 number = (uint32) state->ntokens++;

		if (entry == NULL)
			entry = add_word(state, word);
		state->tokens[number].position =
			(first_place + tokens[i].position) << field_bits | (uint32) field;
		state->tokens[number].next = NO_TOKEN;
		if (entry->n++ == 0)
			entry->first = number;
		else
			state->tokens[entry->last].next = number;
		entry->last = number;
	}
	CHECK_FOR_INTERRUPTS();
}

static int
compare_by_word(const void *a, const void *b)
{
	const AnalyzerWord *x = (*(DocWord *const *) a)->word;
	const AnalyzerWord *y = (*(DocWord *const *) b)->word;

	return term_compare(x->word, x->word_length, y->word, y->word_length);
}

static int
compare_by_term(const void *a, const void *b)
{
	const AnalyzerWord *x = (*(DocWord *const *) a)->word;
	const AnalyzerWord *y = (*(DocWord *const *) b)->word;

	return term_compare(x->term, x->term_length, y->term, y->term_length);
}

static bool
same_term(const AnalyzerWord *a, const AnalyzerWord *b)
{
	return a->term_hash == b->term_hash && a->term_length == b->term_length &&
		   memcmp(a->term, b->term, a->term_length) == 0;
}

static char *
copy_string(char **free_bytes, const char *string, int length)
{
	char *copy = *free_bytes;

	memcpy(copy, string, length);
	*free_bytes += length;
	return copy;
}

/* The words, sorted by word, into document->words. */
static void
take_words(DocState *state, Document *document)
{
	Size bytes = 0;
	char *free_bytes;

	qsort(state->words, state->nwords, sizeof(DocWord *), compare_by_word);
	document->words =
		MemoryContextAllocHuge(CurrentMemoryContext, state->nwords * sizeof(DocumentWord));
	for (int i = 0; i < state->nwords; i++)
		bytes += state->words[i]->word->word_length;
	free_bytes = MemoryContextAllocHuge(CurrentMemoryContext, bytes);
	for (int i = 0; i < state->nwords; i++)
	{
		const AnalyzerWord *word = state->words[i]->word;
		DocumentWord *result = &document->words[document->nwords];

		if (!document_keeps_word(word->word, word->word_length))
			continue;
		result->word = copy_string(&free_bytes, word->word, word->word_length);
		result->length = word->word_length;
		document->nwords++;
	}
}

/* The words, grouped by term, into document->terms. */
static void
take_terms(DocState *state, Document *document)
{
	uint32 field_mask = ((uint32) 1 << state->settings->field_bits) - 1;
	uint32 *positions =
		MemoryContextAllocHuge(CurrentMemoryContext, state->ntokens * sizeof(uint32));
	Size bytes = 0;
	char *free_bytes;

	qsort(state->words, state->nwords, sizeof(DocWord *), compare_by_term);
	document->terms =
		MemoryContextAllocHuge(CurrentMemoryContext, state->nwords * sizeof(DocumentTerm));
	for (int i = 0; i < state->nwords; i++)
		bytes += state->words[i]->word->term_length;
	free_bytes = MemoryContextAllocHuge(CurrentMemoryContext, bytes);
	for (int i = 0; i < state->nwords;)
	{
		DocumentTerm *term = &document->terms[document->nterms++];
		const AnalyzerWord *word = state->words[i]->word;
		int first = i;

		memset(term, 0, sizeof(DocumentTerm));
		term->term = copy_string(&free_bytes, word->term, word->term_length);
		term->length = word->term_length;
		term->positions = positions;
		do
		{
			for (uint32 t = state->words[i]->first; t != NO_TOKEN; t = state->tokens[t].next)
			{
				uint32 position = state->tokens[t].position;

				*positions++ = position;
				term->tf[position & field_mask]++;
			}
			i++;
		} while (i < state->nwords && same_term(word, state->words[i]->word));
		term->npositions = positions - term->positions;
		if (i - first > 1)
			sort_positions(term->positions, term->npositions);
		CHECK_FOR_INTERRUPTS();
	}
}

Document *
document_analyze(Analyzer *analyzer, const SearchSettings *settings, const Datum *values,
				 const bool *isnull)
{
	Document *document = palloc0(sizeof(Document));
	DocState state = {.settings = settings};

	analyzer_clear_tags(analyzer);
	document->length = document_read(analyzer, settings, values, isnull, add_tokens, &state);
	if (state.nwords > 0)
	{
		take_words(&state, document);
		take_terms(&state, document);
		for (int i = 0; i < state.nwords; i++)
			pfree(state.words[i]);
		pfree(state.words);
		pfree(state.tokens);
	}
	return document;
}
