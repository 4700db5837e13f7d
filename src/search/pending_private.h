/*
 * pending_private.h
 *		Records of the write buffer, between pending.c and pending_record.c.
 */
#ifndef PGOPT_SEARCH_PENDING_PRIVATE_H
#define PGOPT_SEARCH_PENDING_PRIVATE_H

#include "utils/memutils.h"

#include "pending.h"

/* More than anybody's write buffer. */
#define MAX_RECORD (MaxAllocSize - 1024)

/* Every record begins with its size, itself included; none is smaller than this. */
#define MIN_RECORD sizeof(uint32)

static inline uint32
pending_record_size(const char *record)
{
	uint32 size;

	memcpy(&size, record, sizeof(size));
	return size;
}

/* Makes a record (palloc'd). */
extern char *pending_make_record(const SearchSettings *settings, ItemPointer tid,
								 const Document *document, const Datum *values, const bool *isnull);

/*
 * Takes a record apart; what points into it lives as long as it does.  Values
 * of filters go into arrays of the caller's, what they point to into the
 * current context.  False when it is none.
 */
extern bool pending_read_record(const char *record, const SearchSettings *settings, Datum *filters,
								bool *filter_nulls, PendingDocument *document);

#endif /* PGOPT_SEARCH_PENDING_PRIVATE_H */
