/*
 * topk_window.c
 *		Evaluates windows of documents for the best k.
 *
 * The clauses with the largest bounds are decoded and added up, as many as it
 * takes for the others not to reach the k-th score by themselves; those are
 * looked up only for the documents that can still win.  Where a filter leaves
 * fewer documents than the postings are, its documents are the candidates, and
 * all clauses are looked up.  Phrases are looked up by their words, and their
 * positions read only where the document would win with the phrase.
 *
 * Windows are evaluated several at once where their postings are few: then the
 * work of a window is more than that of its postings.
 */
#include "pgopt.h"

#include "miscadmin.h"
#include "port/pg_bitutils.h"

#include "topk_private.h"

#define SPAN_AIMS     256 /* postings that windows which are evaluated together should have */
#define FILTER_FACTOR 8.0 /* a look-up costs as much as that many postings */

/* The length codes of the window, by document - run->from; more at once when it is the next one. */
static const uint8 *
window_lengths(TopkRun *run)
{
	uint32 loaded = run->lengths_from + run->lengths_n;

	if (run->from < run->lengths_from || run->to > loaded)
	{
		bool next = run->from <= loaded && run->to > loaded && run->from >= run->lengths_from;

		run->lengths_from = run->from;
		run->lengths_n =
			next ? Min(SPAN_MAX, run->segment->ndocs - run->from) : run->to - run->from;
		segment_lengths(run->segment->reader, run->lengths_from, run->lengths_n, run->lengths);
	}
	return run->lengths + (run->from - run->lengths_from);
}


Score
topk_clause_bound(const TopkRun *run, const TopkClause *tc, uint32 window, uint32 n)
{
	Score bound = 0;

	for (int i = 0; i < tc->clause->nterms; i++)
	{
		const uint16 *impacts = run->impacts[tc->clause->terms[i]];
		uint16 impact = impacts[window];

		for (uint32 w = window + 1; w < window + n; w++)
			impact = Max(impact, impacts[w]);
		if (impact == 0)
			return 0;
		bound += score_bound(&tc->bounds[i], impact);
	}
	return bound;
}

/* The part of a document's score from a clause all of whose words were just found in it. */
static inline Score
found_part(const TopkRun *run, const TopkClause *tc, double norm)
{
	Score part = 0;

	for (int i = 0; i < tc->clause->nterms; i++)
	{
		const SegmentTerm *term = &run->sq->terms[tc->clause->terms[i]];

		part += score_part(tc->weights[i], term_tf(run->sq, term, term->at), norm);
	}
	return part;
}

/*
 * Does the document hold the clause, and what does that add?  A document that
 * cannot reach `need` with this part and `more` is not looked at closely.
 */
static bool
look_up(TopkRun *run, const TopkClause *tc, uint32 doc, double norm, Score more, Score need,
		Score *part)
{
	if (!clause_find(run->sq, tc->clause, doc))
		return false;
	*part = found_part(run, tc, norm);
	if (!tc->clause->phrase || tc->clause->nterms == 1)
		return true;
	return *part + more >= need && clause_in_place(run->sq, tc->clause);
}

static inline void
touch(TopkRun *run, uint32 d, Score part)
{
	run->acc[d] += part;
	run->touched[d / 64] |= UINT64CONST(1) << (d % 64);
}

/* Adds a word's parts to all documents of the window that have it. */
static void
add_word(TopkRun *run, const TopkClause *tc, const uint8 *lengths)
{
	const SegmentQuery *sq = run->sq;
	SegmentTerm *term = &sq->terms[tc->clause->terms[0]];
	const PostingCursor *cursor = term->cursor;
	const uint32 *docs = cursor->docs;
	const uint64 *allowed = run->window_allowed;
	double weight = tc->weights[0];
	uint32 doc = run->from;

	while (doc < run->to && term_seek(term, doc))
	{
		int first = term->at;
		int i = first;
		uint32 to = run->to;
		uint32 fields = cursor->fields & term->fields;

		if ((fields & (fields - 1)) == 0 && fields != 0)
		{
			int f = pg_rightmost_one_pos32(fields);
			const uint32 *tf = cursor->tf[f];
			double field_weight = sq->settings->weights[f];
			bool all = fields == cursor->fields;

			for (; i < term->n && docs[i] < to; i++)
			{
				uint32 d = docs[i] - run->from;

				if (allowed != NULL && !bit_is_set(allowed, d))
					continue;
				if (!all && tf[i] == 0)
					continue;
				touch(run, d, score_part(weight, field_weight * tf[i], run->norms[lengths[d]]));
			}
		}
		else
			for (; i < term->n && docs[i] < to; i++)
			{
				uint32 d = docs[i] - run->from;
				double tf;

				if (allowed != NULL && !bit_is_set(allowed, d))
					continue;
				tf = term_tf(sq, term, i);
				if (tf > 0)
					touch(run, d, score_part(weight, tf, run->norms[lengths[d]]));
			}
		if (i < term->n)
		{
			term->at = i;
			break;
		}
		doc = term->last + 1;
	}
}

/* The same for a phrase: by its rarest word; others is what the window's other clauses can add. */
static void
add_phrase(TopkRun *run, const TopkClause *tc, const uint8 *lengths, Score others)
{
	SegmentTerm *term = &run->sq->terms[tc->rarest];
	const uint32 *docs = term->cursor->docs;
	uint32 doc = run->from;
	Score need = needed_score(run);

	while (doc < run->to && term_seek(term, doc))
	{
		int i = term->at;

		for (; i < term->n && docs[i] < run->to; i++)
		{
			uint32 d = docs[i] - run->from;
			Score part;

			if (run->window_allowed != NULL && !bit_is_set(run->window_allowed, d))
				continue;
			if (look_up(run, tc, docs[i], run->norms[lengths[d]], others, need, &part))
				touch(run, d, part);
		}
		if (i < term->n)
			break;
		doc = term->last + 1;
	}
}

static void
add_clause(TopkRun *run, const TopkClause *tc, const uint8 *lengths)
{
	if (tc->clause->nterms == 1)
		add_word(run, tc, lengths);
	else
		add_phrase(run, tc, lengths, run->rest[0] - tc->bound);
}

/*
 * Puts the window's clauses in order: those that must match, the rarest first;
 * then by bound, the largest first.  False when no document can win.
 */
static bool
order_clauses(TopkRun *run, uint32 window, uint32 nwindows, Score need)
{
	Score sum = 0;
	int n = 0;

	for (int c = 0; c < run->nclauses; c++)
	{
		TopkClause *tc = &run->clauses[c];
		int i;

		tc->bound = topk_clause_bound(run, tc, window, nwindows);
		if (tc->bound == 0)
		{
			if (tc->must)
				return false;
			continue;
		}
		for (i = n++; i > 0; i--)
		{
			const TopkClause *other = run->order[i - 1];

			if (tc->must ? other->must && other->df <= tc->df
						 : other->must || other->bound >= tc->bound)
				break;
			run->order[i] = run->order[i - 1];
		}
		run->order[i] = tc;
	}
	run->nordered = n;
	for (int i = n - 1; i >= 0; i--)
	{
		sum += run->order[i]->bound;
		run->rest[i] = sum;
	}
	run->rest[n] = 0;
	return n > 0 && sum >= need;
}

/* How many clauses must be added up, so that the others alone are not enough? */
static int
essential_clauses(const TopkRun *run, Score need)
{
	int n = 1;

	if (run->nmust > 0)
		return 1;
	while (n < run->nordered && run->rest[n] >= need)
		n++;
	return n;
}

/* Candidates that cannot reach `need` any more fall out. */
static void
drop_candidates(TopkRun *run, Score more, Score need)
{
	int n = 0;

	for (int i = 0; i < run->ncandidates; i++)
		if (run->scores[i] + more >= need)
		{
			run->candidates[n] = run->candidates[i];
			run->found[n] = run->found[i];
			run->scores[n++] = run->scores[i];
		}
	run->ncandidates = n;
}

/* Looks a clause up for all candidates. */
static void
look_up_candidates(TopkRun *run, int ordered, const uint8 *lengths, Score need)
{
	const TopkClause *tc = run->order[ordered];
	Score more = run->rest[ordered + 1];
	int n = 0;

	for (int i = 0; i < run->ncandidates; i++)
	{
		uint16 d = run->candidates[i];
		Score score = run->scores[i];
		Score part = 0;
		bool found =
			look_up(run, tc, run->from + d, run->norms[lengths[d]], score + more, need, &part);

		if (found)
			score += part;
		else if (tc->must)
			continue;
		if (score + more < need)
			continue;
		run->candidates[n] = d;
		run->found[n] = run->found[i] || found;
		run->scores[n++] = score;
	}
	run->ncandidates = n;
}

/* The documents that were added up become candidates. */
static void
collect_touched(TopkRun *run, Score more, Score need)
{
	int nwords = (run->to - run->from + 63) / 64;

	run->ncandidates = 0;
	for (int w = 0; w < nwords; w++)
	{
		uint64 word = run->touched[w];

		run->touched[w] = 0;
		for (; word != 0; word &= word - 1)
		{
			int d = w * 64 + pg_rightmost_one_pos64(word);
			Score score = run->acc[d];

			run->acc[d] = 0;
			if (score + more < need)
				continue;
			run->candidates[run->ncandidates] = d;
			run->found[run->ncandidates] = true;
			run->scores[run->ncandidates++] = score;
		}
	}
}

/* All documents that the filter allows become candidates. */
static void
collect_allowed(TopkRun *run)
{
	int nwords = (run->to - run->from + 63) / 64;

	run->ncandidates = 0;
	for (int w = 0; w < nwords; w++)
		for (uint64 word = run->window_allowed[w]; word != 0; word &= word - 1)
		{
			run->candidates[run->ncandidates] = w * 64 + pg_rightmost_one_pos64(word);
			run->found[run->ncandidates] = false;
			run->scores[run->ncandidates++] = 0;
		}
}

/* What is left has its whole score. */
static void
offer_candidates(TopkRun *run)
{
	for (int i = 0; i < run->ncandidates; i++)
	{
		uint32 doc = run->from + run->candidates[i];
		Score score = run->scores[i];
		bool rejected = !run->found[i] || score < needed_score(run);

		for (int c = 0; c < run->nnots && !rejected; c++)
			rejected =
				clause_find(run->sq, run->nots[c], doc) && clause_in_place(run->sq, run->nots[c]);
		if (!rejected && (run->after == NULL || score <= run->after->score))
			topk_offer(run, score, doc);
	}
}

/*
 * The documents of the window that may be given out at all; NULL for all.
 * Their number goes to *n.
 */
static const uint64 *
allowed_documents(TopkRun *run, uint64 *bits, uint32 *n)
{
	const uint64 *allowed = NULL;
	int nwords = (run->to - run->from + 63) / 64;

	*n = run->to - run->from;
	if (run->allowed != NULL)
		allowed = run->allowed + (run->from - run->base) / 64;
	for (int i = 0; i < run->view->nrequired; i++)
	{
		uint64 more[SPAN_MAX / 64];

		segment_query_bits(run->required[i], run->from, run->to, allowed, more);
		memcpy(bits, more, nwords * sizeof(uint64));
		allowed = bits;
	}
	if (allowed != NULL)
	{
		*n = 0;
		for (int w = 0; w < nwords; w++)
			*n += pg_popcount64(allowed[w]);
	}
	return allowed;
}

uint32
topk_span(TopkRun *run, uint32 window, uint32 limit)
{
	Score need = needed_score(run);
	double postings = 0;
	int n;

	if (limit == 1 || !order_clauses(run, window, 1, need))
		return 1;
	n = essential_clauses(run, need);
	for (int i = 0; i < n; i++)
		postings += run->order[i]->df;
	postings *= (double) run->width / run->segment->ndocs;
	if (run->allowed != NULL)
		postings = Min(
			postings, (double) run->nallowed * FILTER_FACTOR * run->width / (run->end - run->base));
	return Max((uint32) Min(SPAN_AIMS / postings, limit), 1);
}

void
topk_evaluate(TopkRun *run, uint32 window, uint32 nwindows)
{
	Score need = needed_score(run);
	uint64 bits[SPAN_MAX / 64];
	uint32 nallowed;
	double expected = 0;
	const uint8 *lengths;
	int n;

	CHECK_FOR_INTERRUPTS();
	run->from = run->base + window * run->width;
	run->to = run->from + Min(nwindows * run->width, run->end - run->from);
	if (!order_clauses(run, window, nwindows, need))
		return;
	run->window_allowed = allowed_documents(run, bits, &nallowed);
	if (nallowed == 0)
		return;
	lengths = window_lengths(run);
	n = essential_clauses(run, need);
	for (int i = 0; i < n; i++)
		expected += run->order[i]->df;
	expected *= (double) (run->to - run->from) / run->segment->ndocs;

	if (run->window_allowed != NULL && nallowed * FILTER_FACTOR < expected)
	{
		n = 0;
		collect_allowed(run);
	}
	else
	{
		for (int i = 0; i < n; i++)
			add_clause(run, run->order[i], lengths);
		collect_touched(run, run->rest[n], need);
	}
	for (int i = n; i < run->nordered && run->ncandidates > 0; i++)
		look_up_candidates(run, i, lengths, need);
	drop_candidates(run, 0, need);
	if (!run->view->stale)
		offer_candidates(run);
}
