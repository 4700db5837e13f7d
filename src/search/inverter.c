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
#include "port/pg_bswap.h"
#include "utils/memutils.h"

#include "compat.h"
#include "inverter.h"

#define NONE        PG_UINT32_MAX
#define BLOCK_BYTES (256 * 1024)
#define FIRST_CHUNK 12 /* bytes of postings in the term itself */
#define MAX_CHUNK   4096
#define MAX_VARINT  10

/* Scratch arrays of a document longer than this are given back after it. */
#define MAX_SCRATCH (1024 * 1024)

/* What the hash tables know of their entries; the key follows at the table's key_at. */
typedef struct Entry
{
	uint32 hash;
	uint32 length;
} Entry;

typedef struct Table
{
	Entry **slots;
	uint32 size; /* a power of 2 */
	uint32 n;
	int key_at;
} Table;

typedef struct InverterTerm
{
	Entry entry;
	char *write; /* where the next byte goes ... */
	uint32 df;
	uint32 last;  /* document of the last posting */
	uint32 word;  /* in the document at hand: the first of its words, or NONE */
	uint16 room;  /* ... and how many bytes fit there */
	uint16 chunk; /* size of the chunk */
	char first[FIRST_CHUNK + sizeof(char *)];
	char term[FLEXIBLE_ARRAY_MEMBER];
} InverterTerm;

typedef struct InverterWord
{
	Entry entry;
	InverterTerm *term;
	uint32 df;
	uint32 document; /* the last that holds it */
	uint32 last;     /* there: the last of its tokens, whose next is the first */
	char word[FLEXIBLE_ARRAY_MEMBER];
} InverterWord;

/* Distinct by its bytes. */
typedef struct FilterValue
{
	Entry entry;
	uint32 code; /* from 1, as it came */
	union
	{
		uint64 align;
		Datum datum;               /* by value */
		char bytes[sizeof(Datum)]; /* by reference; a varlena has 4 bytes of header */
	} value;                       /* longer than this */
} FilterValue;

typedef struct FilterState
{
	Table values;
	uint32 *codes; /* one a document */
} FilterState;

typedef struct InverterToken
{
	uint32 position;
	uint32 next;
} InverterToken;

/* A string to sort: its first bytes decide most comparisons. */
typedef struct SortKey
{
	uint64 prefix;
	Entry *entry;
} SortKey;

struct Inverter
{
	const SearchSettings *settings;
	Analyzer *analyzer;
	MemoryContext context;  /* all that follows; emptied by a reset */
	MemoryContext document; /* for one document */
	char *block;
	Size block_room;
	Table terms;
	Table words;
	/* documents */
	uint32 ndocs;
	uint32 docs_allocated;
	ItemPointerData *tids;
	uint32 *lengths;
	uint64 total_length;
	FilterState *filters;
	/* the document at hand */
	InverterToken *tokens;
	Size ntokens;
	Size tokens_allocated;
	InverterWord **doc_words; /* its distinct words ... */
	uint32 *siblings;         /* ... and for each the next one with the same term */
	uint32 ndoc_words;
	uint32 doc_words_allocated;
	char *bytes; /* a posting in the making */
	Size bytes_allocated;
	uint32 *positions;
	Size positions_allocated;
};

static void start(Inverter *inverter);

#define ST_SORT          sort_positions
#define ST_ELEMENT_TYPE  uint32
#define ST_COMPARE(a, b) (*(a) < *(b) ? -1 : *(a) > *(b))
#define ST_SCOPE         static
#define ST_DEFINE
#include "lib/sort_template.h"

static int
compare_keys(const SortKey *a, const SortKey *b, int key_at)
{
	if (a->prefix != b->prefix)
		return a->prefix < b->prefix ? -1 : 1;
	return term_compare(
		(char *) a->entry + key_at, a->entry->length, (char *) b->entry + key_at, b->entry->length);
}

#define ST_SORT               sort_keys
#define ST_ELEMENT_TYPE       SortKey
#define ST_COMPARE(a, b, arg) compare_keys(a, b, *(arg))
#define ST_COMPARE_ARG_TYPE   const int
#define ST_SCOPE              static
#define ST_CHECK_FOR_INTERRUPTS
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

/* An array that grows by doubling, in the inverter's context. */
static void *
grow(Inverter *inverter, void *array, Size bytes)
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
start_table(Inverter *inverter, Table *table, int key_at)
{
	table->size = 256;
	table->n = 0;
	table->key_at = key_at;
	table->slots = MemoryContextAllocZero(inverter->context, table->size * sizeof(Entry *));
}

static int
filter_key_at(const SearchFilterColumn *column)
{
	/* Of a varlena the content is the key. */
	return offsetof(FilterValue, value) + (column->typlen == -1 ? VARHDRSZ : 0);
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
		MemoryContextAllocZero(inverter->context, settings->nfilters * sizeof(FilterState));
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
		   Max(inverter->terms.n, inverter->words.n) * sizeof(SortKey);
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
enlarge_table(Inverter *inverter, Table *table)
{
	uint32 size = table->size * 2;
	Entry **slots = MemoryContextAllocExtended(
		inverter->context, size * sizeof(Entry *), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);

	for (uint32 i = 0; i < table->size; i++)
	{
		Entry *entry = table->slots[i];

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
static Entry **
find_slot(Inverter *inverter, Table *table, const char *key, uint32 length, uint32 hash)
{
	uint32 at;

	if (table->n >= table->size / 4 * 3)
		enlarge_table(inverter, table);
	at = hash & (table->size - 1);
	while (table->slots[at] != NULL)
	{
		Entry *entry = table->slots[at];

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
	Entry **slot = find_slot(inverter, &inverter->terms, string, length, hash);
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
	Entry **slot = find_slot(inverter, &inverter->words, string, length, hash);

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
		inverter->bytes = grow(inverter, inverter->bytes, inverter->bytes_allocated);
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
		inverter->tokens =
			grow(inverter, inverter->tokens, inverter->tokens_allocated * sizeof(InverterToken));
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
					grow(inverter,
						 inverter->doc_words,
						 (Size) inverter->doc_words_allocated * sizeof(InverterWord *));
				inverter->siblings = grow(inverter,
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
		inverter->positions =
			grow(inverter, inverter->positions, inverter->positions_allocated * sizeof(uint32));
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
	Table *table = &inverter->filters[filter].values;
	struct varlena *packed = NULL;
	const char *key;
	uint32 length;
	uint32 hash;
	Entry **slot;
	FilterValue *entry;

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
	entry = (FilterValue *) *slot;
	if (entry == NULL)
	{
		entry = take_bytes(inverter, Max(sizeof(FilterValue), table->key_at + length));
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
	inverter->tids = grow(inverter, inverter->tids, n * sizeof(ItemPointerData));
	inverter->lengths = grow(inverter, inverter->lengths, n * sizeof(uint32));
	for (int f = 0; f < inverter->settings->nfilters; f++)
		inverter->filters[f].codes = grow(inverter, inverter->filters[f].codes, n * sizeof(uint32));
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

/* --- writing ----------------------------------------------------------------------------------- */

/* Reads a term's chunks. */
typedef struct ChunkReader
{
	const char *read;
	const char *end;
	uint16 chunk;
} ChunkReader;

static uint64
get_number_across(ChunkReader *reader)
{
	uint64 number = 0;

	for (int shift = 0;; shift += 7)
	{
		uint8 byte;

		if (reader->read == reader->end)
		{
			memcpy(&reader->read, reader->end, sizeof(char *));
			reader->chunk = Min(2 * reader->chunk, MAX_CHUNK);
			reader->end = reader->read + reader->chunk;
		}
		byte = (uint8) *reader->read++;
		number |= (uint64) (byte & 0x7F) << shift;
		if (byte < 0x80)
			return number;
	}
}

static inline uint64
get_number(ChunkReader *reader)
{
	const char *from = reader->read;
	uint64 number;

	if (reader->end - from < MAX_VARINT)
		return get_number_across(reader);
	number = (uint8) *from++;
	if (number >= 0x80)
	{
		number &= 0x7F;
		for (int shift = 7;; shift += 7)
		{
			uint8 byte = (uint8) *from++;

			number |= (uint64) (byte & 0x7F) << shift;
			if (byte < 0x80)
				break;
		}
	}
	reader->read = from;
	return number;
}

/* A table's entries in the order of their keys; palloc'd. */
static SortKey *
sorted_keys(Inverter *inverter, Table *table)
{
	SortKey *keys = MemoryContextAllocHuge(inverter->document, table->n * sizeof(SortKey));
	uint32 n = 0;

	for (uint32 i = 0; i < table->size; i++)
	{
		Entry *entry = table->slots[i];
		uint64 prefix = 0;

		if (entry == NULL)
			continue;
		memcpy(&prefix, (char *) entry + table->key_at, Min(entry->length, sizeof(prefix)));
		keys[n].prefix = pg_ntoh64(prefix);
		keys[n].entry = entry;
		n++;
	}
	Assert(n == table->n);
	sort_keys(keys, n, &table->key_at);
	return keys;
}

static void
write_term(Inverter *inverter, SegmentWriter *writer, const InverterTerm *term)
{
	const SearchSettings *settings = inverter->settings;
	ChunkReader reader = {term->first, term->first + FIRST_CHUNK, FIRST_CHUNK};
	uint32 document = 0;

	segment_writer_begin_term(writer, term->term, term->entry.length);
	for (uint32 i = 0; i < term->df; i++)
	{
		uint32 tf[SEARCH_MAX_FIELDS] = {0};
		uint64 occurrences;
		Size npositions = 0;

		document += (uint32) get_number(&reader);
		occurrences = get_number(&reader);
		if (occurrences & 1)
		{
			npositions = (occurrences >> 1) / settings->nfields;
			tf[(occurrences >> 1) % settings->nfields] = (uint32) npositions;
		}
		else
		{
			for (int field = 0; field < settings->nfields; field++)
			{
				if (occurrences >> 1 & (uint64) 1 << field)
				{
					tf[field] = (uint32) get_number(&reader);
					npositions += tf[field];
				}
			}
		}
		if (settings->positions)
		{
			uint32 position = 0;

			if (npositions > inverter->positions_allocated)
			{
				inverter->positions_allocated = Max(2 * npositions, 1024);
				inverter->positions = grow(
					inverter, inverter->positions, inverter->positions_allocated * sizeof(uint32));
			}
			for (Size p = 0; p < npositions; p++)
			{
				position += (uint32) get_number(&reader);
				inverter->positions[p] = position;
			}
		}
		else
			npositions = 0;
		segment_writer_add_posting(writer, document, tf, inverter->positions, (uint32) npositions);
	}
	segment_writer_end_term(writer);
}

static Datum
filter_datum(const SearchFilterColumn *column, FilterValue *entry)
{
	return column->typbyval ? entry->value.datum : PointerGetDatum(entry->value.bytes);
}

/* By value; which of several equal ones stands for them is settled by the order in which they came. */
static int
compare_values(const void *a, const void *b, void *arg)
{
	FilterValue *x = *(FilterValue *const *) a;
	FilterValue *y = *(FilterValue *const *) b;
	SearchFilterColumn *column = arg;
	int order;

	CHECK_FOR_INTERRUPTS();
	order = DatumGetInt32(FunctionCall2Coll(
		&column->compare, column->collation, filter_datum(column, x), filter_datum(column, y)));
	if (order == 0)
		return x->code < y->code ? -1 : x->code > y->code;
	return order;
}

static void
write_filter(Inverter *inverter, SegmentWriter *writer, int filter)
{
	SearchFilterColumn column = inverter->settings->filters[filter];
	const FilterState *state = &inverter->filters[filter];
	uint32 n = state->values.n;
	FilterValue **values = palloc_extended((Size) n * sizeof(FilterValue *), MCXT_ALLOC_HUGE);
	uint32 *codes = palloc_extended(((Size) n + 1) * sizeof(uint32), MCXT_ALLOC_HUGE);
	uint32 nvalues = 0;

	for (uint32 i = 0, at = 0; i < state->values.size; i++)
	{
		if (state->values.slots[i] != NULL)
			values[at++] = (FilterValue *) state->values.slots[i];
	}
	qsort_arg(values, n, sizeof(FilterValue *), compare_values, &column);
	codes[0] = 0;
	for (uint32 i = 0; i < n; i++)
	{
		if (i == 0 || DatumGetInt32(FunctionCall2Coll(&column.compare,
													  column.collation,
													  filter_datum(&column, values[i - 1]),
													  filter_datum(&column, values[i]))) != 0)
			values[nvalues++] = values[i];
		codes[values[i]->code] = nvalues;
	}
	segment_writer_begin_filter(writer, filter, nvalues);
	for (uint32 i = 0; i < nvalues; i++)
		segment_writer_add_filter_value(writer, filter_datum(&column, values[i]));
	for (uint32 i = 0; i < inverter->ndocs; i++)
	{
		segment_writer_add_filter_code(writer, codes[state->codes[i]]);
		if (i % 65536 == 0)
			CHECK_FOR_INTERRUPTS();
	}
	pfree(values);
	pfree(codes);
}

void
inverter_write(Inverter *inverter, SegmentWriter *writer)
{
	SortKey *keys;

	for (uint32 i = 0; i < inverter->ndocs; i++)
	{
		segment_writer_add_document(writer, &inverter->tids[i], inverter->lengths[i]);
		if (i % 65536 == 0)
			CHECK_FOR_INTERRUPTS();
	}
	for (int f = 0; f < inverter->settings->nfilters; f++)
		write_filter(inverter, writer, f);

	keys = sorted_keys(inverter, &inverter->terms);
	for (uint32 i = 0; i < inverter->terms.n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		write_term(inverter, writer, (InverterTerm *) keys[i].entry);
	}
	pfree(keys);

	keys = sorted_keys(inverter, &inverter->words);
	for (uint32 i = 0; i < inverter->words.n; i++)
	{
		const InverterWord *word = (InverterWord *) keys[i].entry;

		CHECK_FOR_INTERRUPTS();
		segment_writer_add_word(writer, word->word, word->entry.length, word->df);
	}
	pfree(keys);
}
