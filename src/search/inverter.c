/*
 * inverter.c
 *		Turns documents into a segment's postings, in memory.
 *
 * A word of the analyzer carries its InverterWord as a tag, and that its
 * term: no token is hashed here.  A document's tokens are linked by word,
 * then its words by term, and each of its terms gets one posting: a few bytes
 * at the end of the term's chain of chunks.
 *
 *	posting := document - last document, occurrences, positions' differences
 *	occurrences := (tf * fields + field) * 2 + 1 where one field holds the
 *		term, else mask of the fields * 2, and tf of each
 *
 * all of them numbers of 7 bits a byte.  A chunk ends with a pointer to the
 * next, which is read or written only when the chunk is full; the first one,
 * for a posting or two, is in the term itself, since most terms stay there.
 *
 * Filter values get codes as they come, by their bytes; which of them are
 * equal, and their order, is found out by the compare function at the end.
 *
 * Memory: everything is in one context, which inverter_reset() empties; terms,
 * words and chunks are cut from large blocks.  Cost: a token writes 8 bytes;
 * a posting some more; writing sorts terms and words by their first bytes.
 */
#include "pgopt.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/memutils.h"

#include "compat.h"
#include "inverter_private.h"

#define NONE        PG_UINT32_MAX
#define BLOCK_BYTES (256 * 1024)

/* Scratch arrays of a document longer than this are given back after it. */
#define MAX_SCRATCH (1024 * 1024)

static void start(Inverter *inverter);

#define ST_SORT          sort_positions
#define ST_ELEMENT_TYPE  uint32
#define ST_COMPARE(a, b) (*(a) < *(b) ? -1 : *(a) > *(b))
#define ST_SCOPE         static
#define ST_DEFINE
#include "lib/sort_template.h"

/* --- memory -------------------------------------------------------------------------- */

Inverter *
inverter_create(const SearchSettings *settings, Analyzer *analyzer, MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(parent, "pgopt inverter", ALLOCSET_DEFAULT_SIZES);
	Inverter *inverter = MemoryContextAllocZero(context, sizeof(Inverter));

	inverter->settings = settings;
	inverter->analyzer = analyzer;
	inverter->context =
		AllocSetContextCreate(context, "pgopt inverter postings", ALLOCSET_DEFAULT_SIZES);
	inverter->document =
		AllocSetContextCreate(context, "pgopt inverter document", ALLOCSET_DEFAULT_SIZES);
	start(inverter);
	return inverter;
}

void *
inverter_grow(Inverter *inverter, void *array, Size bytes)
{
	if (array == NULL)
		return MemoryContextAllocHuge(inverter->context, bytes);
	return repalloc_huge(array, bytes);
}

static void *
take_bytes(Inverter *inverter, Size bytes)
{
	char *result;

	bytes = MAXALIGN(bytes);
	if (bytes > inverter->block_room)
	{
		if (bytes > BLOCK_BYTES / 8)
			return MemoryContextAllocHuge(inverter->context, bytes);
		inverter->block = MemoryContextAlloc(inverter->context, BLOCK_BYTES);
		inverter->block_room = BLOCK_BYTES;
	}
	result = inverter->block;
	inverter->block += bytes;
	inverter->block_room -= bytes;
	return result;
}

static void
start_table(Inverter *inverter, InverterTable *table, int key_at)
{
	table->size = 256;
	table->n = 0;
	table->key_at = key_at;
	table->slots = MemoryContextAllocZero(inverter->context, table->size * sizeof(InverterEntry *));
}

static int
filter_key_at(const SearchFilterColumn *column)
{
	/* Of a varlena the content is the key. */
	return offsetof(InverterValue, value) + (column->typlen == -1 ? VARHDRSZ : 0);
}

/* All empty; the context is. */
static void
start(Inverter *inverter)
{
	const SearchSettings *settings = inverter->settings;

	inverter->block = NULL;
	inverter->block_room = 0;
	start_table(inverter, &inverter->terms, offsetof(InverterTerm, term));
	start_table(inverter, &inverter->words, offsetof(InverterWord, word));
	inverter->ndocs = 0;
	inverter->docs_allocated = 0;
	inverter->tids = NULL;
	inverter->lengths = NULL;
	inverter->total_length = 0;
	inverter->filters =
		MemoryContextAllocZero(inverter->context, settings->nfilters * sizeof(InverterFilter));
	for (int f = 0; f < settings->nfilters; f++)
		start_table(inverter, &inverter->filters[f].values, filter_key_at(&settings->filters[f]));
	inverter->tokens = NULL;
	inverter->ntokens = inverter->tokens_allocated = 0;
	inverter->doc_words = NULL;
	inverter->siblings = NULL;
	inverter->ndoc_words = inverter->doc_words_allocated = 0;
	inverter->bytes = NULL;
	inverter->bytes_allocated = 0;
	inverter->positions = NULL;
	inverter->positions_allocated = 0;
	if (inverter->analyzer != NULL)
		analyzer_clear_tags(inverter->analyzer);
}

void
inverter_reset(Inverter *inverter)
{
	MemoryContextReset(inverter->context);
	MemoryContextReset(inverter->document);
	start(inverter);
}

void
inverter_free(Inverter *inverter)
{
	MemoryContextDelete(GetMemoryChunkContext(inverter));
}

Size
inverter_memory(const Inverter *inverter)
{
	/* What sorting will take is counted in. */
	return MemoryContextMemAllocated(inverter->context, false) +
		   Max(inverter->terms.n, inverter->words.n) * sizeof(InverterSortKey);
}

uint32
inverter_documents(const Inverter *inverter)
{
	return inverter->ndocs;
}

uint64
inverter_total_length(const Inverter *inverter)
{
	return inverter->total_length;
}

/* --- hash tables ------------------------------------------------------------------------ */

static void
enlarge_table(Inverter *inverter, InverterTable *table)
{
	uint32 size = table->size * 2;
	InverterEntry **slots = MemoryContextAllocExtended(
		inverter->context, size * sizeof(InverterEntry *), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);

	for (uint32 i = 0; i < table->size; i++)
	{
		InverterEntry *entry = table->slots[i];

		if (entry != NULL)
		{
			uint32 at = entry->hash & (size - 1);

			while (slots[at] != NULL)
				at = (at + 1) & (size - 1);
			slots[at] = entry;
		}
	}
	pfree(table->slots);
	table->slots = slots;
	table->size = size;
}

/* The slot of a key: its entry, or an empty one to put it into (n is counted already). */
static InverterEntry **
find_slot(Inverter *inverter, InverterTable *table, const char *key, uint32 length, uint32 hash)
{
	uint32 at;

	if (table->n >= table->size / 4 * 3)
		enlarge_table(inverter, table);
	at = hash & (table->size - 1);
	while (table->slots[at] != NULL)
	{
		InverterEntry *entry = table->slots[at];

		if (entry->hash == hash && entry->length == length &&
			memcmp((char *) entry + table->key_at, key, length) == 0)
			return &table->slots[at];
		at = (at + 1) & (table->size - 1);
	}
	table->n++;
	return &table->slots[at];
}

static InverterTerm *
find_term(Inverter *inverter, const char *string, int length, uint32 hash)
{
	InverterEntry **slot = find_slot(inverter, &inverter->terms, string, length, hash);
	InverterTerm *term = (InverterTerm *) *slot;

	if (term == NULL)
	{
		term = take_bytes(inverter, offsetof(InverterTerm, term) + length);
		term->entry.hash = hash;
		term->entry.length = length;
		term->write = term->first;
		term->df = 0;
		term->last = 0;
		term->word = NONE;
		term->room = term->chunk = FIRST_CHUNK;
		memcpy(term->term, string, length);
		*slot = &term->entry;
	}
	return term;
}

static InverterWord *
make_word(Inverter *inverter, const char *string, int length, uint32 hash)
{
	InverterWord *word = take_bytes(inverter, offsetof(InverterWord, word) + length);

	word->entry.hash = hash;
	word->entry.length = length;
	word->term = NULL;
	word->df = 0;
	word->document = NONE;
	word->last = NONE;
	memcpy(word->word, string, length);
	return word;
}

/* A word that is kept in the list. */
static InverterWord *
find_word(Inverter *inverter, const char *string, int length)
{
	uint32 hash = hash_bytes((const unsigned char *) string, length);
	InverterEntry **slot = find_slot(inverter, &inverter->words, string, length, hash);

	if (*slot == NULL)
		*slot = &make_word(inverter, string, length, hash)->entry;
	return (InverterWord *) *slot;
}

/* --- adding --------------------------------------------------------------------------------- */

static inline char *
put_number(char *to, uint64 number)
{
	while (number >= 0x80)
	{
		*to++ = (char) (number | 0x80);
		number >>= 7;
	}
	*to++ = (char) number;
	return to;
}

/* Appends to a term's chunks. */
static void
append_bytes(Inverter *inverter, InverterTerm *term, const char *bytes, Size n)
{
	while (n > term->room)
	{
		char *chunk;

		memcpy(term->write, bytes, term->room);
		bytes += term->room;
		n -= term->room;
		term->chunk = Min(2 * term->chunk, MAX_CHUNK);
		chunk = take_bytes(inverter, term->chunk + sizeof(char *));
		memcpy(term->write + term->room, &chunk, sizeof(char *));
		term->write = chunk;
		term->room = term->chunk;
	}
	memcpy(term->write, bytes, n);
	term->write += n;
	term->room -= n;
}

static void
add_posting(Inverter *inverter, InverterTerm *term, const uint32 *tf, const uint32 *positions,
			uint32 npositions)
{
	const SearchSettings *settings = inverter->settings;
	uint32 document = inverter->ndocs;
	uint32 mask = 0;
	Size most;
	char *to;

	if (!settings->positions)
		npositions = 0;
	most = (2 + SEARCH_MAX_FIELDS) * MAX_VARINT + (Size) npositions * 5;
	if (most > inverter->bytes_allocated)
	{
		inverter->bytes_allocated = Max(most, 4096);
		inverter->bytes = inverter_grow(inverter, inverter->bytes, inverter->bytes_allocated);
	}
	for (int field = 0; field < settings->nfields; field++)
		mask |= (uint32) (tf[field] > 0) << field;
	to = put_number(inverter->bytes, document - term->last);
	if ((mask & (mask - 1)) == 0)
	{
		int field = pg_rightmost_one_pos32(mask);

		to = put_number(to, ((uint64) tf[field] * settings->nfields + field) << 1 | 1);
	}
	else
	{
		to = put_number(to, mask << 1);
		for (int field = 0; field < settings->nfields; field++)
		{
			if (tf[field] > 0)
				to = put_number(to, tf[field]);
		}
	}
	for (uint32 i = 0; i < npositions; i++)
		to = put_number(to, positions[i] - (i > 0 ? positions[i - 1] : 0));
	append_bytes(inverter, term, inverter->bytes, to - inverter->bytes);
	term->last = document;
	term->df++;
}

static InverterWord *
resolve_word(Inverter *inverter, AnalyzerWord *word)
{
	InverterWord *result;

	if (document_keeps_word(word->word, word->word_length))
		result = find_word(inverter, word->word, word->word_length);
	else
		result = make_word(inverter, word->word, word->word_length, 0);
	result->term = find_term(inverter, word->term, word->term_length, word->term_hash);
	word->tag = result;
	return result;
}

/* Links the tokens of one field to their words. */
static void
add_tokens(void *state, int field, uint32 first_place, const Token *tokens, int ntokens)
{
	Inverter *inverter = state;
	int field_bits = inverter->settings->field_bits;
	uint32 document = inverter->ndocs;
	InverterToken *to;

	if (inverter->ntokens + ntokens > inverter->tokens_allocated)
	{
		inverter->tokens_allocated = Max(inverter->ntokens + ntokens, 1024);
		inverter->tokens = inverter_grow(
			inverter, inverter->tokens, inverter->tokens_allocated * sizeof(InverterToken));
	}
	to = inverter->tokens;
	for (int i = 0; i < ntokens; i++)
	{
		uint32 number = (uint32) inverter->ntokens++;
		InverterWord *word = tokens[i].word->tag;

		if (word == NULL)
			word = resolve_word(inverter, tokens[i].word);
		to[number].position = (first_place + tokens[i].position) << field_bits | (uint32) field;
		if (word->document == document)
		{
			to[number].next = to[word->last].next;
			to[word->last].next = number;
		}
		else
		{
			if (inverter->ndoc_words == inverter->doc_words_allocated)
			{
				inverter->doc_words_allocated = Max(1024, 2 * inverter->doc_words_allocated);
				inverter->doc_words =
					inverter_grow(inverter,
								  inverter->doc_words,
								  (Size) inverter->doc_words_allocated * sizeof(InverterWord *));
				inverter->siblings =
					inverter_grow(inverter,
								  inverter->siblings,
								  (Size) inverter->doc_words_allocated * sizeof(uint32));
			}
			inverter->doc_words[inverter->ndoc_words++] = word;
			word->document = document;
			word->df++;
			to[number].next = number;
		}
		word->last = number;
	}
}

/* One posting for each term of the document's words. */
static void
add_postings(Inverter *inverter)
{
	const SearchSettings *settings = inverter->settings;
	uint32 field_mask = ((uint32) 1 << settings->field_bits) - 1;

	/* Words of one term are linked: most are alone. */
	for (uint32 i = 0; i < inverter->ndoc_words; i++)
	{
		InverterTerm *term = inverter->doc_words[i]->term;

		inverter->siblings[i] = term->word;
		term->word = i;
		__builtin_prefetch(term->write, 1);
	}
	if (inverter->ntokens > inverter->positions_allocated)
	{
		inverter->positions_allocated = Max(inverter->ntokens, 1024);
		inverter->positions = inverter_grow(
			inverter, inverter->positions, inverter->positions_allocated * sizeof(uint32));
	}
	for (uint32 i = 0; i < inverter->ndoc_words; i++)
	{
		InverterTerm *term = inverter->doc_words[i]->term;
		uint32 tf[SEARCH_MAX_FIELDS] = {0};
		uint32 n = 0;
		bool several;

		if (term->word == NONE)
			continue; /* done with an earlier word */
		several = inverter->siblings[term->word] != NONE;
		for (uint32 word = term->word; word != NONE; word = inverter->siblings[word])
		{
			uint32 last = inverter->doc_words[word]->last;
			uint32 token = last;

			do
			{
				uint32 position;

				token = inverter->tokens[token].next;
				position = inverter->tokens[token].position;
				tf[position & field_mask]++;
				inverter->positions[n++] = position;
			} while (token != last);
		}
		term->word = NONE;
		if (several)
			sort_positions(inverter->positions, n);
		add_posting(inverter, term, tf, inverter->positions, n);
	}
}

/* The code of a filter's value, by its bytes; 0 for NULL. */
static uint32
filter_code(Inverter *inverter, int filter, Datum value, bool isnull)
{
	const SearchFilterColumn *column = &inverter->settings->filters[filter];
	InverterTable *table = &inverter->filters[filter].values;
	struct varlena *packed = NULL;
	const char *key;
	uint32 length;
	uint32 hash;
	InverterEntry **slot;
	InverterValue *entry;

	if (isnull)
		return 0;
	if (column->typbyval)
	{
		key = (const char *) &value;
		length = sizeof(Datum);
	}
	else if (column->typlen == -1)
	{
		packed = PG_DETOAST_DATUM_PACKED(value);
		key = VARDATA_ANY(packed);
		length = VARSIZE_ANY_EXHDR(packed);
	}
	else
	{
		Assert(column->typlen > 0);
		key = DatumGetPointer(value);
		length = column->typlen;
	}
	hash = hash_bytes((const unsigned char *) key, length);
	slot = find_slot(inverter, table, key, length, hash);
	entry = (InverterValue *) *slot;
	if (entry == NULL)
	{
		entry = take_bytes(inverter, Max(sizeof(InverterValue), table->key_at + length));
		entry->entry.hash = hash;
		entry->entry.length = length;
		entry->code = table->n;
		if (column->typlen == -1)
			SET_VARSIZE(entry->value.bytes, length + VARHDRSZ);
		memcpy((char *) entry + table->key_at, key, length);
		*slot = &entry->entry;
	}
	if (packed != NULL && (Pointer) packed != DatumGetPointer(value))
		pfree(packed);
	return entry->code;
}

/* The document's entry in the arrays; its number is used up. */
static void
add_document(Inverter *inverter, ItemPointer tid, uint32 length)
{
	inverter->tids[inverter->ndocs] = *tid;
	inverter->lengths[inverter->ndocs] = length;
	inverter->total_length += length;
	inverter->ndocs++;
}

static void
make_room_for_document(Inverter *inverter)
{
	Size n = inverter->docs_allocated;

	if (inverter->ndocs < n)
		return;
	if (inverter->ndocs >= SEARCH_MAX_DOCUMENTS)
		elog(ERROR, "too many documents in memory");
	n = Min(Max(256, 2 * n), SEARCH_MAX_DOCUMENTS);
	inverter->tids = inverter_grow(inverter, inverter->tids, n * sizeof(ItemPointerData));
	inverter->lengths = inverter_grow(inverter, inverter->lengths, n * sizeof(uint32));
	for (int f = 0; f < inverter->settings->nfilters; f++)
		inverter->filters[f].codes =
			inverter_grow(inverter, inverter->filters[f].codes, n * sizeof(uint32));
	inverter->docs_allocated = (uint32) n;
}

/* A very long document does not leave its arrays behind. */
static void
trim_scratch(Inverter *inverter)
{
	if (inverter->tokens_allocated > MAX_SCRATCH)
	{
		pfree(inverter->tokens);
		inverter->tokens = NULL;
		inverter->tokens_allocated = 0;
	}
	if (inverter->positions_allocated > MAX_SCRATCH)
	{
		pfree(inverter->positions);
		inverter->positions = NULL;
		inverter->positions_allocated = 0;
	}
	if (inverter->bytes_allocated > MAX_SCRATCH)
	{
		pfree(inverter->bytes);
		inverter->bytes = NULL;
		inverter->bytes_allocated = 0;
	}
}

void
inverter_add(Inverter *inverter, ItemPointer tid, const Datum *values, const bool *isnull)
{
	const SearchSettings *settings = inverter->settings;
	MemoryContext old = MemoryContextSwitchTo(inverter->document);
	uint32 length;

	make_room_for_document(inverter);
	inverter->ntokens = 0;
	inverter->ndoc_words = 0;
	length = document_read(inverter->analyzer, settings, values, isnull, add_tokens, inverter);
	add_postings(inverter);
	for (int f = 0; f < settings->nfilters; f++)
	{
		int column = settings->filters[f].attno - 1;

		inverter->filters[f].codes[inverter->ndocs] =
			filter_code(inverter, f, values[column], isnull[column]);
	}
	add_document(inverter, tid, length);
	trim_scratch(inverter);
	MemoryContextSwitchTo(old);
	MemoryContextReset(inverter->document);
}

void
inverter_add_pending(Inverter *inverter, const PendingDocument *document)
{
	const SearchSettings *settings = inverter->settings;
	MemoryContext old = MemoryContextSwitchTo(inverter->document);
	uint32 tf[SEARCH_MAX_FIELDS];
	uint32 *positions;
	uint32 npositions;
	const char *string;
	int length;

	make_room_for_document(inverter);
	for (uint32 place = 0;
		 pending_next_term(document, &place, &string, &length, tf, &positions, &npositions);)
	{
		InverterTerm *term =
			find_term(inverter, string, length, hash_bytes((const unsigned char *) string, length));

		if (term->df > 0 && term->last == inverter->ndocs)
			ereport(ERROR,
					(errcode(ERRCODE_INDEX_CORRUPTED),
					 errmsg("a document in the write buffer of a pgopt_bm25 index is corrupted"),
					 errdetail("It has the term \"%.*s\" twice.", length, string),
					 errhint("Rebuild the index with REINDEX.")));
		add_posting(inverter, term, tf, positions, npositions);
	}
	for (uint32 place = 0; pending_next_word(document, &place, &string, &length);)
		find_word(inverter, string, length)->df++;
	for (int f = 0; f < settings->nfilters; f++)
		inverter->filters[f].codes[inverter->ndocs] =
			filter_code(inverter, f, document->filters[f], document->filter_nulls[f]);
	{
		ItemPointerData tid = document->tid;

		add_document(inverter, &tid, document->length);
	}
	trim_scratch(inverter);
	MemoryContextSwitchTo(old);
	MemoryContextReset(inverter->document);
}
