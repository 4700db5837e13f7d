/*
 * pending_record.c
 *		A document as the write buffer keeps it.
 *
 * A record holds all that a segment needs of a document, so that flushing
 * reads neither table nor text.  For searches, which look for a few terms in
 * each, a term is found by a binary search over 16 bits of its hash.  Offsets
 * and lengths are checked before they are used.
 *
 * Memory: the record in the caller's context; readers point into it.
 */
#include "pgopt.h"

#include "common/hashfn.h"
#include "utils/datum.h"
#include "utils/memutils.h"

#include "compat.h"
#include "pending_private.h"

/*
 * A record: this header, then
 *	the terms' hashes, 16 bits each, ascending;
 *	in the same order where in the terms each begins, 16 bits, or 32 (WIDE);
 *	the terms, ascending; the words, ascending; the filters' values.
 * Nothing is aligned.  Numbers in the terms are varints: 7 bits a byte, the
 * lowest first.
 */
typedef struct RecordHeader
{
	uint32 size; /* of the record */
	uint32 length;
	uint32 nterms;
	uint32 nwords;
	uint32 terms_size;
	uint32 words_size;
	ItemPointerData tid;
	uint16 flags;
} RecordHeader;

#define RECORD_WIDE 1

#define MAX_VARINT  5

/* --- making records ------------------------------------------------------------------ */

static inline char *
put_varint(char *to, uint32 value)
{
	while (value >= 0x80)
	{
		*to++ = (char) (value | 0x80);
		value >>= 7;
	}
	*to++ = (char) value;
	return to;
}

static inline char *
put_bytes(char *to, const void *bytes, Size size)
{
	memcpy(to, bytes, size);
	return to + size;
}

/* Length, term; a mask of fields where there are several, occurrences in each; differences of positions. */
static char *
put_term(char *to, const DocumentTerm *term, const SearchSettings *settings)
{
	uint32 last = 0;

	to = put_varint(to, term->length);
	to = put_bytes(to, term->term, term->length);
	if (settings->nfields > 1)
	{
		uint8 mask = 0;

		for (int field = 0; field < settings->nfields; field++)
			if (term->tf[field] > 0)
				mask |= 1 << field;
		*to++ = (char) mask;
	}
	for (int field = 0; field < settings->nfields; field++)
		if (term->tf[field] > 0 || settings->nfields == 1)
			to = put_varint(to, term->tf[field]);
	if (!settings->positions)
		return to;
	for (uint32 i = 0; i < term->npositions; i++)
	{
		to = put_varint(to, term->positions[i] - last);
		last = term->positions[i];
	}
	return to;
}

static Size
bound_of_term(const DocumentTerm *term, const SearchSettings *settings)
{
	return MAX_VARINT + term->length + 1 + settings->nfields * MAX_VARINT +
		   (settings->positions ? (Size) term->npositions * MAX_VARINT : 0);
}

#define ST_SORT          sort_hashes
#define ST_ELEMENT_TYPE  uint64
#define ST_COMPARE(a, b) (*(a) < *(b) ? -1 : *(a) > *(b))
#define ST_COMPARE_RUNTIME_POINTER_UNUSED
#define ST_SCOPE static
#define ST_DEFINE
#include "lib/sort_template.h"

/* Hashes and places of the terms, into the record; `sorted` has hash << 32 | place. */
static void
put_hashes(char *hashes, char *offsets, const uint64 *sorted, uint32 n, bool wide)
{
	for (uint32 i = 0; i < n; i++)
	{
		uint16 hash = (uint16) (sorted[i] >> 32);
		uint32 offset = (uint32) sorted[i];
		uint16 narrow = (uint16) offset;

		hashes = put_bytes(hashes, &hash, sizeof(hash));
		if (wide)
			offsets = put_bytes(offsets, &offset, sizeof(offset));
		else
			offsets = put_bytes(offsets, &narrow, sizeof(narrow));
	}
}

char *
pending_make_record(const SearchSettings *settings, ItemPointer tid, const Document *document,
					const Datum *values, const bool *isnull)
{
	RecordHeader header = {0};
	Datum filters[SEARCH_MAX_FILTERS];
	Size bound = sizeof(RecordHeader);
	Size tables;
	uint64 *sorted = palloc(Max(document->nterms, 1) * sizeof(uint64));
	char *record;
	char *terms;
	char *to;

	for (int i = 0; i < document->nterms; i++)
		bound += sizeof(uint16) + sizeof(uint32) + bound_of_term(&document->terms[i], settings);
	for (int i = 0; i < document->nwords; i++)
		bound += MAX_VARINT + document->words[i].length;
	for (int i = 0; i < settings->nfilters; i++)
	{
		const SearchFilterColumn *filter = &settings->filters[i];
		bool null = isnull[filter->attno - 1];

		filters[i] = values[filter->attno - 1];
		if (!null && filter->typlen == -1)
			filters[i] = PointerGetDatum(PG_DETOAST_DATUM_PACKED(filters[i]));
		bound += datumEstimateSpace(filters[i], null, filter->typbyval, filter->typlen);
	}
	if (bound > MAX_RECORD)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("document is too large for a pgopt_bm25 index"),
				 errdetail("Its terms take %zu bytes.", bound)));

	/* The terms are written behind the widest possible tables, and moved when these are narrow. */
	record = palloc(bound);
	tables = document->nterms * (sizeof(uint16) + sizeof(uint32));
	terms = to = record + sizeof(RecordHeader) + tables;
	for (int i = 0; i < document->nterms; i++)
	{
		const DocumentTerm *term = &document->terms[i];
		uint32 hash = hash_bytes((const unsigned char *) term->term, term->length);

		sorted[i] = ((uint64) (hash & 0xFFFF) << 32) | (uint32) (to - terms);
		to = put_term(to, term, settings);
	}
	header.terms_size = to - terms;
	header.flags = header.terms_size > PG_UINT16_MAX ? RECORD_WIDE : 0;
	if (header.flags == 0)
	{
		tables = document->nterms * 2 * sizeof(uint16);
		memmove(record + sizeof(RecordHeader) + tables, terms, header.terms_size);
		to = record + sizeof(RecordHeader) + tables + header.terms_size;
	}
	sort_hashes(sorted, document->nterms);
	put_hashes(record + sizeof(RecordHeader),
			   record + sizeof(RecordHeader) + document->nterms * sizeof(uint16),
			   sorted,
			   document->nterms,
			   header.flags != 0);

	terms = to;
	for (int i = 0; i < document->nwords; i++)
	{
		to = put_varint(to, document->words[i].length);
		to = put_bytes(to, document->words[i].word, document->words[i].length);
	}
	header.words_size = to - terms;
	for (int i = 0; i < settings->nfilters; i++)
	{
		const SearchFilterColumn *filter = &settings->filters[i];

		datumSerialize(
			filters[i], isnull[filter->attno - 1], filter->typbyval, filter->typlen, &to);
	}
	header.size = to - record;
	header.length = document->length;
	header.nterms = document->nterms;
	header.nwords = document->nwords;
	header.tid = *tid;
	memcpy(record, &header, sizeof(header));
	pfree(sorted);
	return record;
}

/* --- reading them ------------------------------------------------------------------------ */

/* A value that datumSerialize() has written; advances *from.  False when it cannot be one. */
static bool
restore_value(const SearchFilterColumn *filter, const char **from, const char *end, Datum *value,
			  bool *isnull)
{
	char *next = unconstify(char *, *from);
	Size available = end - *from;
	int kind; /* -2: NULL, -1: by value, else the length */

	if (available < sizeof(kind))
		return false;
	memcpy(&kind, *from, sizeof(kind));
	available -= sizeof(kind);
	if (kind == -1 && (!filter->typbyval || available < sizeof(Datum)))
		return false;
	if (kind >= 0 && (filter->typbyval || kind < VARHDRSZ_SHORT || available < (Size) kind ||
					  (filter->typlen > 0 && kind != filter->typlen)))
		return false;
	if (kind < -2)
		return false;
	*value = datumRestore(&next, isnull);
	*from = next;
	return *isnull || filter->typlen != -1 ||
		   (!VARATT_IS_EXTERNAL(DatumGetPointer(*value)) &&
			!VARATT_IS_COMPRESSED(DatumGetPointer(*value)) &&
			VARSIZE_ANY(DatumGetPointer(*value)) <= kind);
}

bool
pending_read_record(const char *record, const SearchSettings *settings, Datum *filters,
					bool *filter_nulls, PendingDocument *document)
{
	RecordHeader header;
	Size tables;
	const char *values;

	if (pending_record_size(record) < sizeof(header))
		return false;
	memcpy(&header, record, sizeof(header));
	tables = (Size) header.nterms *
			 (header.flags & RECORD_WIDE ? sizeof(uint16) + sizeof(uint32) : 2 * sizeof(uint16));
	if (sizeof(header) + tables + header.terms_size + header.words_size > header.size)
		return false;
	document->tid = header.tid;
	document->length = header.length;
	document->nterms = header.nterms;
	document->nwords = header.nwords;
	document->hashes = record + sizeof(header);
	document->offsets = document->hashes + header.nterms * sizeof(uint16);
	document->terms = document->hashes + tables;
	document->words = document->terms + header.terms_size;
	document->end = document->words + header.words_size;
	document->settings = settings;
	document->filters = filters;
	document->filter_nulls = filter_nulls;
	values = document->end;
	for (int i = 0; i < settings->nfilters; i++)
		if (!restore_value(&settings->filters[i],
						   &values,
						   record + header.size,
						   &filters[i],
						   &filter_nulls[i]))
			return false;
	return true;
}

pg_noreturn static void corrupted_document(void);

static void
corrupted_document(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INDEX_CORRUPTED),
			 errmsg("a document in the write buffer of a pgopt_bm25 index is corrupted"),
			 errhint("Rebuild the index with REINDEX.")));
}

static inline const char *
get_varint(const char *from, const char *end, uint32 *value)
{
	uint32 result = 0;
	int shift = 0;
	uint8 byte;

	do
	{
		if (unlikely(from >= end))
			corrupted_document();
		byte = (uint8) *from++;
		result |= (uint32) (byte & 0x7F) << shift;
		shift += 7;
	} while ((byte & 0x80) && shift < 35);
	*value = result;
	return from;
}

/* A term or word: its length, and where it begins. */
static inline const char *
get_text(const char *from, const char *end, uint32 *length)
{
	from = get_varint(from, end, length);
	if (unlikely(*length > (Size) (end - from)))
		corrupted_document();
	return from;
}

/* Reads what follows the term itself.  Returns the end, unless positions are not asked for. */
static const char *
get_occurrences(const PendingDocument *document, const char *from, uint32 *tf, uint32 **positions,
				uint32 *npositions)
{
	const SearchSettings *settings = document->settings;
	uint8 mask = 1;
	uint64 n = 0;
	uint32 last = 0;

	if (settings->nfields > 1)
	{
		if (from >= document->words)
			corrupted_document();
		mask = (uint8) *from++;
	}
	for (int field = 0; field < settings->nfields; field++)
	{
		tf[field] = 0;
		if (mask & (1 << field))
			from = get_varint(from, document->words, &tf[field]);
		n += tf[field];
	}
	if (unlikely(n == 0))
		corrupted_document();
	if (positions == NULL)
		return from;
	*positions = NULL;
	*npositions = 0;
	if (!settings->positions)
		return from;
	if (n > document->words - from)
		corrupted_document();
	*npositions = (uint32) n;
	*positions = palloc(Max(n, 1) * sizeof(uint32));
	for (uint32 i = 0; i < n; i++)
	{
		uint32 difference;

		from = get_varint(from, document->words, &difference);
		(*positions)[i] = last += difference;
	}
	return from;
}

static inline uint16
hash_at(const PendingDocument *document, uint32 i)
{
	uint16 hash;

	memcpy(&hash, document->hashes + i * sizeof(hash), sizeof(hash));
	return hash;
}

static inline const char *
term_at(const PendingDocument *document, uint32 i)
{
	uint32 offset;

	if (document->offsets + document->nterms * sizeof(uint16) == document->terms)
	{
		uint16 narrow;

		memcpy(&narrow, document->offsets + i * sizeof(narrow), sizeof(narrow));
		offset = narrow;
	}
	else
		memcpy(&offset, document->offsets + i * sizeof(offset), sizeof(offset));
	if (unlikely(offset >= (Size) (document->words - document->terms)))
		corrupted_document();
	return document->terms + offset;
}

bool
pending_find_term(const PendingDocument *document, const char *term, int length, uint32 hash,
				  uint32 *tf, uint32 **positions, uint32 *npositions)
{
	uint16 wanted = (uint16) hash;
	uint32 low = 0;
	uint32 high = document->nterms;

	while (low < high)
	{
		uint32 middle = low + (high - low) / 2;

		if (hash_at(document, middle) < wanted)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < document->nterms && hash_at(document, low) == wanted; low++)
	{
		uint32 found_length;
		const char *found = get_text(term_at(document, low), document->words, &found_length);

		if (found_length != (uint32) length || memcmp(found, term, length) != 0)
			continue;
		(void) get_occurrences(document, found + length, tf, positions, npositions);
		return true;
	}
	return false;
}

bool
pending_next_term(const PendingDocument *document, uint32 *place, const char **term, int *length,
				  uint32 *tf, uint32 **positions, uint32 *npositions)
{
	const char *from = document->terms + *place;
	uint32 found_length;

	if (from >= document->words)
		return false;
	*term = get_text(from, document->words, &found_length);
	*length = (int) found_length;
	from = get_occurrences(document, *term + *length, tf, positions, npositions);
	*place = from - document->terms;
	return true;
}

bool
pending_next_word(const PendingDocument *document, uint32 *place, const char **word, int *length)
{
	const char *from = document->words + *place;
	uint32 found_length;

	if (from >= document->end)
		return false;
	*word = get_text(from, document->end, &found_length);
	*length = (int) found_length;
	*place = *word + *length - document->words;
	return true;
}
