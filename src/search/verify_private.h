/*
 * verify_private.h
 *		What the files of the verification share.
 */
#ifndef PGOPT_SEARCH_VERIFY_PRIVATE_H
#define PGOPT_SEARCH_VERIFY_PRIVATE_H

#include "funcapi.h"

#include "document.h"
#include "pages.h"
#include "pending.h"
#include "segment.h"

/* Where a document of the index is. */
#define VERIFY_PENDING SEARCH_MAX_SEGMENTS /* source: the write buffer; else a segment */

/* A document that is not deleted, as the index has it. */
typedef struct VerifyEntry
{
	uint64
		sum; /* of what verify_posting_sum() gives for its terms; of the write buffer, all of it */
	uint32 document;
	uint16 source;
	bool seen; /* a row of the table came */
	ItemPointerData tid;
} VerifyEntry;

/* Entries, by source and document at first, by row pointer later. */
typedef struct VerifyEntries
{
	VerifyEntry *entries;
	Size n;
	Size allocated;
} VerifyEntries;

typedef struct Verifier
{
	Relation heap;
	Relation index;
	const SearchSettings *settings; /* a copy */
	Snapshot snapshot;              /* taken before the meta page was read */
	SearchMeta *meta;
	ReturnSetInfo *result;
	int64 nproblems;
	const char *part;         /* being looked at */
	bool stale;               /* a segment was replaced: on a standby only */
	SegmentReader **segments; /* NULL: one that cannot be read */
	VerifyEntries pending;    /* documents of the write buffer ... */
	bool pending_damaged;     /* ... which may not be all */
} Verifier;

/* A row of the result. block may be InvalidBlockNumber, tid NULL. */
extern void verify_report(Verifier *verifier, BlockNumber block, const ItemPointerData *tid,
						  const char *problem, ...) pg_attribute_printf(4, 5);

/*
 * Calls check(verifier, arg); when it finds a page that is damaged, that
 * becomes a problem.  False: it was, or a segment was replaced.
 */
typedef void (*VerifyCheck)(Verifier *verifier, void *arg);
extern bool verify_guarded(Verifier *verifier, const char *part, VerifyCheck check, void *arg);

extern void verify_add_entry(VerifyEntries *entries, int source, uint32 document,
							 const ItemPointerData *tid, uint64 sum);

/* One term of a document as a number; those of all its terms are added up. */
extern uint64 verify_posting_sum(const SearchSettings *settings, const char *term, int length,
								 const uint32 *tf, const uint32 *positions, uint32 npositions);

/* verify_segment.c: everything in a segment that can be checked without the table. */
extern void verify_segment(Verifier *verifier, int segment);

/* For the segment's entries, which ascend by document: adds up their terms. */
extern void verify_sum_postings(Verifier *verifier, int segment, VerifyEntry *entries, Size n);

/* verify_table.c: the write buffer, while nobody makes a segment of it; then the table. */
extern void verify_pending(Verifier *verifier);
extern void verify_table(Verifier *verifier, double fraction);

#endif /* PGOPT_SEARCH_VERIFY_PRIVATE_H */
