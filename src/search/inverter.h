/*
 * inverter.h
 *		Turns documents into a segment's postings, in memory.
 *
 * Memory: one context below `parent`; inverter_memory() tells when to write
 * and reset.  Cost: one look-up a token; writing sorts terms and words.
 */
#ifndef PGOPT_SEARCH_INVERTER_H
#define PGOPT_SEARCH_INVERTER_H

#include "document.h"
#include "pending.h"
#include "segment.h"

typedef struct Inverter Inverter;

/* The analyzer may be NULL when only buffered documents are added. */
extern Inverter *
inverter_create(const SearchSettings *settings, Analyzer *analyzer, MemoryContext parent);
extern void
inverter_add(Inverter *inverter, ItemPointer tid, const Datum *values, const bool *isnull);
extern void inverter_add_pending(Inverter *inverter, const PendingDocument *document);

extern Size inverter_memory(const Inverter *inverter);
extern uint32 inverter_documents(const Inverter *inverter);
extern uint64 inverter_total_length(const Inverter *inverter);

/* Everything through the writer, which the caller has begun and will finish. */
extern void inverter_write(Inverter *inverter, SegmentWriter *writer);
extern void inverter_reset(Inverter *inverter);
extern void inverter_free(Inverter *inverter);

#endif /* PGOPT_SEARCH_INVERTER_H */
