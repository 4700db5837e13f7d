/*
 * inverter_private.h
 *		What the files of the inverter share: its terms, words and values.
 */
#ifndef PGOPT_SEARCH_INVERTER_PRIVATE_H
#define PGOPT_SEARCH_INVERTER_PRIVATE_H

#include "inverter.h"

#define FIRST_CHUNK 12 /* bytes of postings in the term itself */
#define MAX_CHUNK   4096
#define MAX_VARINT  10

/* What the hash tables know of their entries; the key follows at the table's key_at. */
typedef struct InverterEntry
{
	uint32 hash;
	uint32 length;
} InverterEntry;

typedef struct InverterTable
{
	InverterEntry **slots;
	uint32 size; /* a power of 2 */
	uint32 n;
	int key_at;
} InverterTable;

typedef struct InverterTerm
{
	InverterEntry entry;
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
	InverterEntry entry;
	InverterTerm *term;
	uint32 df;
	uint32 document; /* the last that holds it */
	uint32 last;     /* there: the last of its tokens, whose next is the first */
	char word[FLEXIBLE_ARRAY_MEMBER];
} InverterWord;

/* Distinct by its bytes. */
typedef struct InverterValue
{
	InverterEntry entry;
	uint32 code; /* from 1, as it came */
	union
	{
		uint64 align;
		Datum datum;               /* by value */
		char bytes[sizeof(Datum)]; /* by reference; a varlena has 4 bytes of header */
	} value;                       /* longer than this */
} InverterValue;

typedef struct InverterFilter
{
	InverterTable values;
	uint32 *codes; /* one a document */
} InverterFilter;

typedef struct InverterToken
{
	uint32 position;
	uint32 next;
} InverterToken;

/* A string to sort: its first bytes decide most comparisons. */
typedef struct InverterSortKey
{
	uint64 prefix;
	InverterEntry *entry;
} InverterSortKey;

struct Inverter
{
	const SearchSettings *settings;
	Analyzer *analyzer;
	MemoryContext context;  /* all that follows; emptied by a reset */
	MemoryContext document; /* for one document */
	char *block;
	Size block_room;
	InverterTable terms;
	InverterTable words;
	/* documents */
	uint32 ndocs;
	uint32 docs_allocated;
	ItemPointerData *tids;
	uint32 *lengths;
	uint64 total_length;
	InverterFilter *filters;
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

/* An array that grows, in the inverter's context. */
extern void *inverter_grow(Inverter *inverter, void *array, Size bytes);

#endif /* PGOPT_SEARCH_INVERTER_PRIVATE_H */
