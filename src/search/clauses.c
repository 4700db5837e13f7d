/*
 * clauses.c
 *		A query's clauses over one segment: postings found by document, and the
 *		documents that match as bits.
 *
 * Nothing is locked between calls.  When the segment is found to be replaced,
 * postings end early; callers look at the view's `stale`.  Memory: a cursor
 * (5 kB) for each term that the segment has, in the current context.  Cost: a
 * look-up is a search in 128 documents, and the decoding of a block where it
 * enters another one.
 */
#include "pgopt.h"

#include "miscadmin.h"

#include "clauses.h"

SegmentQuery *
segment_query_open(SegmentReader *reader, const SearchSettings *settings, const SearchQuery *query,
				   const TermInfo *terms)
{
	SegmentQuery *sq = palloc0(sizeof(SegmentQuery));
	bool should = false;

	sq->query = query;
	sq->settings = settings;
	sq->reader = reader;
	sq->terms = palloc0(Max(query->nterms, 1) * sizeof(SegmentTerm));
	sq->present = palloc0(Max(query->nclauses, 1) * sizeof(bool));
	sq->possible = true;
	for (int c = 0; c < query->nclauses; c++)
	{
		const QueryClause *clause = &query->clauses[c];
		bool present = clause->nterms > 0;

		for (int i = 0; i < clause->nterms; i++)
			present &= terms[clause->terms[i]].df > 0;
		sq->present[c] = present;
		if (clause->sign == CLAUSE_MUST)
		{
			sq->nmust++;
			sq->possible &= present;
		}
		should |= clause->sign == CLAUSE_SHOULD && present;
	}
	sq->possible &= sq->nmust > 0 || should;
	if (!sq->possible)
		return sq;

	for (int i = 0; i < query->nterms; i++)
	{
		SegmentTerm *term = &sq->terms[i];

		term->fields = query->terms[i].fields;
		term->df = terms[i].df;
		if (term->df == 0)
			continue;
		term->cursor = palloc0(sizeof(PostingCursor));
		posting_open(term->cursor, reader, &terms[i]);
		term->low = 1;
		term->last = 0;
	}
	return sq;
}

void
segment_query_close(SegmentQuery *sq)
{
	for (int i = 0; i < sq->query->nterms; i++)
		if (sq->terms[i].cursor != NULL)
		{
			posting_close(sq->terms[i].cursor);
			pfree(sq->terms[i].cursor);
		}
	pfree(sq->terms);
	pfree(sq->present);
	pfree(sq);
}

/* Loads the block that has the first posting from doc on. */
static void
term_load(SegmentTerm *term, uint32 doc)
{
	PostingCursor *cursor = term->cursor;
	uint32 from = term->low <= term->last && doc > term->last ? cursor->block : 0;
	uint32 block = posting_seek(cursor, from, doc);

	term->at = 0;
	if (block < cursor->nblocks)
	{
		posting_load(cursor, block);
		term->n = cursor->n;
	}
	else
		term->n = 0;
	if (term->n > 0)
	{
		term->low = Min(doc, cursor->docs[0]);
		term->last = cursor->docs[term->n - 1];
	}
	else
	{
		term->low = doc;
		term->last = PG_UINT32_MAX;
	}
}

/* The first of docs[low] to docs[n - 1] that is not below doc, or n. */
static inline int
lower_bound(const uint32 *docs, int low, int n, uint32 doc)
{
	int length = n - low;

	while (length > 0)
	{
		int half = length >> 1;

		if (docs[low + half] < doc)
		{
			low += half + 1;
			length -= half + 1;
		}
		else
			length = half;
	}
	return low;
}

bool
term_seek(SegmentTerm *term, uint32 doc)
{
	const uint32 *docs = term->cursor->docs;

	if (doc < term->low || doc > term->last)
		term_load(term, doc);
	if (term->n == 0)
		return false;
	term->at =
		lower_bound(docs, term->at < term->n && docs[term->at] <= doc ? term->at : 0, term->n, doc);
	return term->at < term->n;
}

bool
term_find(SegmentTerm *term, uint32 doc)
{
	return term_seek(term, doc) && term->cursor->docs[term->at] == doc;
}

int
clause_rarest(const SegmentQuery *sq, const QueryClause *clause)
{
	int rarest = clause->terms[0];

	for (int i = 1; i < clause->nterms; i++)
		if (sq->terms[clause->terms[i]].df < sq->terms[rarest].df)
			rarest = clause->terms[i];
	return rarest;
}

bool
clause_find(SegmentQuery *sq, const QueryClause *clause, uint32 doc)
{
	for (int i = 0; i < clause->nterms; i++)
	{
		SegmentTerm *term = &sq->terms[clause->terms[i]];

		if (term->cursor == NULL || !term_find(term, doc) || term_tf(sq, term, term->at) <= 0)
			return false;
	}
	return clause->nterms > 0;
}

bool
clause_in_place(SegmentQuery *sq, const QueryClause *clause)
{
	const uint32 **positions;
	uint32 *npositions;
	bool occurs;

	if (!clause->phrase || clause->nterms == 1 || !sq->settings->positions)
		return true;
	positions = palloc(clause->nterms * sizeof(uint32 *));
	npositions = palloc(clause->nterms * sizeof(uint32));
	for (int i = 0; i < clause->nterms; i++)
	{
		SegmentTerm *term = &sq->terms[clause->terms[i]];

		npositions[i] = posting_positions(term->cursor, term->at, &positions[i]);
	}
	occurs = phrase_occurs(clause, sq->settings->field_bits, positions, npositions);
	pfree(positions);
	pfree(npositions);
	return occurs;
}

/* Adds the documents of base to end that hold a clause to the bits. */
static void
clause_bits(SegmentQuery *sq, const QueryClause *clause, uint32 base, uint32 end,
			const uint64 *within, uint64 *bits)
{
	SegmentTerm *term = &sq->terms[clause_rarest(sq, clause)];
	const uint32 *docs = term->cursor->docs;
	uint32 doc = base;

	CHECK_FOR_INTERRUPTS();
	while (doc < end && term_seek(term, doc))
	{
		int i = term->at;

		for (; i < term->n && docs[i] < end; i++)
		{
			uint32 d = docs[i] - base;

			if (within != NULL && !(within[d / 64] & (UINT64CONST(1) << (d % 64))))
				continue;
			if (clause->nterms == 1)
			{
				if (term_tf(sq, term, i) <= 0)
					continue;
			}
			else if (!clause_find(sq, clause, docs[i]) || !clause_in_place(sq, clause))
				continue;
			bits[d / 64] |= UINT64CONST(1) << (d % 64);
		}
		if (i < term->n)
			break;
		doc = term->last + 1;
	}
}

void
segment_query_bits(SegmentQuery *sq, uint32 base, uint32 end, const uint64 *within, uint64 *bits)
{
	int nwords = (end - base + 63) / 64;
	bool first = true;
	uint64 *more = NULL;

	memset(bits, 0, nwords * sizeof(uint64));
	if (!sq->possible)
		return;
	for (int c = 0; c < sq->query->nclauses; c++)
	{
		const QueryClause *clause = &sq->query->clauses[c];

		if (clause->sign != (sq->nmust > 0 ? CLAUSE_MUST : CLAUSE_SHOULD) || !sq->present[c])
			continue;
		if (sq->nmust == 0 || first)
			clause_bits(sq, clause, base, end, within, bits);
		else
		{
			if (more == NULL)
				more = palloc(nwords * sizeof(uint64));
			memset(more, 0, nwords * sizeof(uint64));
			clause_bits(sq, clause, base, end, bits, more);
			memcpy(bits, more, nwords * sizeof(uint64));
		}
		first = false;
	}
	for (int c = 0; c < sq->query->nclauses; c++)
	{
		const QueryClause *clause = &sq->query->clauses[c];

		if (clause->sign != CLAUSE_MUST_NOT || !sq->present[c] ||
			!clause_decidable(clause, sq->settings))
			continue;
		if (more == NULL)
			more = palloc(nwords * sizeof(uint64));
		memset(more, 0, nwords * sizeof(uint64));
		clause_bits(sq, clause, base, end, bits, more);
		for (int w = 0; w < nwords; w++)
			bits[w] &= ~more[w];
	}
	if (more != NULL)
		pfree(more);
}
