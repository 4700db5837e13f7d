/*
 * pending.h
 *		The write buffer: documents that are inserted, until they are a segment.
 *
 * An insert appends one record to the tail of a chain of pages.  A record
 * holds the document whole (terms with occurrences and positions, words,
 * filter values), so that making a segment of it needs neither table nor
 * analysis.  A record that does not fit on a page of its own is written to
 * new pages first and linked by one WAL record at the end: readers see all of
 * it or nothing.
 *
 * Cost: an insert writes its record's bytes and reads nothing but the meta
 * page; a search reads the whole buffer, which is why it is small
 * (pending_limit).
 */
#ifndef PGOPT_SEARCH_PENDING_H
#define PGOPT_SEARCH_PENDING_H

#include "document.h"
#include "format.h"

/* values and isnull are the index's columns; only filter columns are looked at. */
extern void pending_insert(Relation index, const SearchSettings *settings, ItemPointer tid,
						   const Document *document, const Datum *values, const bool *isnull);

/* A document read from the buffer; points into the reader's memory, valid until the next call. */
typedef struct PendingDocument
{
	ItemPointerData tid;
	uint32 length;
	Datum *filters; /* by filter number */
	bool *filter_nulls;
	uint32 nterms;
	uint32 nwords;
	/* private: parts of the record (pending.c) */
	const char *hashes;
	const char *offsets;
	const char *terms;
	const char *words;
	const char *end; /* of the words */
	const SearchSettings *settings;
} PendingDocument;

typedef struct PendingReader PendingReader;

/* Reads the chain as *meta describes it; *stale is set when it was flushed and its pages were used again. */
extern PendingReader *
pending_open(Relation index, const SearchSettings *settings, const SearchMeta *meta, bool *stale);
extern bool pending_next(PendingReader *reader, PendingDocument *document);
extern void pending_close(PendingReader *reader);

/*
 * hash: hash_bytes() of the term, compared first.  False when the document
 * does not hold it.  positions may be NULL; else palloc'd, or NULL when they
 * are not kept.
 */
extern bool pending_find_term(const PendingDocument *document, const char *term, int length,
							  uint32 hash, uint32 *tf, uint32 **positions, uint32 *npositions);

/* All terms ascending, all words ascending. *place is 0 at first. positions as above. */
extern bool pending_next_term(const PendingDocument *document, uint32 *place, const char **term,
							  int *length, uint32 *tf, uint32 **positions, uint32 *npositions);
extern bool
pending_next_word(const PendingDocument *document, uint32 *place, const char **word, int *length);

/*
 * Makes segments of the buffer's documents (flush lock held), as many as
 * maintenance_work_mem demands; inserts go on meanwhile.  Returns the number
 * of documents; not all, when the list of segments is full.
 */
extern uint32 pending_flush(Relation index);

#endif /* PGOPT_SEARCH_PENDING_H */
