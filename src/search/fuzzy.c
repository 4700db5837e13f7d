/*
 * fuzzy.c
 *		Corrects typing errors with the words that an index knows.
 *
 * The distance is that of optimal string alignment: insertions, deletions,
 * substitutions and exchanges of neighbours, over characters.  The words come
 * in ascending order, so that a row of the distance matrix is kept for every
 * character of the last word, and a word costs only what follows the part
 * that it shares with the one before; where that part is too far away from
 * what is looked for already, the word costs one comparison.  A row has only
 * the cells around the diagonal that the greatest distance can reach.
 *
 * Memory: the words at the best distance, in the correction's context, since
 * one word's documents add up over several sources.  Locks: none.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "document.h"
#include "query.h"

#define MAX_DISTANCE 2
#define ROW_CELLS    (2 * MAX_DISTANCE + 1)

/* Letters that a word needs to be corrected at all, and at distance 2. */
#define MIN_LETTERS      4
#define MIN_LETTERS_LONG 8

typedef struct CorrectionCandidate
{
	char *word;
	int length;
	uint64 df;
} CorrectionCandidate;

/* One correction while a source is read. */
typedef struct CorrectionScan
{
	Correction *correction;
	int limit; /* the greatest distance that is still of interest */
	int n;     /* characters of the word that is looked for */
	int nrows; /* rows that hold for the word at hand; row i is that of its first i characters */
	int dead; /* with so many characters in common with the word before, nothing is near; PG_INT32_MAX: unknown */
	uint32 letters[SEARCH_MAX_TERM];
	/* cell c of row i: distance of the first i characters to the first i - MAX_DISTANCE + c of the word */
	uint8 rows[SEARCH_MAX_TERM + 1][ROW_CELLS];
	/* of this source, ascending */
	CorrectionCandidate *found;
	int nfound;
	int allocated;
} CorrectionScan;

/* The character at p, in any form that tells it from others. */
static inline uint32
read_letter(const char *p, const char *end, int *length)
{
	uint32 letter = (unsigned char) *p;

	*length = 1;
	if (letter >= 0x80)
	{
		*length = Min(pg_encoding_mblen(GetDatabaseEncoding(), p), end - p);
		for (int i = 1; i < *length; i++)
			letter = letter << 8 | (unsigned char) p[i];
	}
	return letter;
}

void
correction_begin(Correction *correction, const char *folded, int length, int flags)
{
	int letters = 0;
	bool digits = (flags & (TOKEN_NUMBER | TOKEN_COMPOUND)) != 0;

	for (int i = 0, step; i < length; i += step)
	{
		uint32 letter = read_letter(folded + i, folded + length, &step);

		digits |= letter >= '0' && letter <= '9';
		letters++;
	}
	memset(correction, 0, sizeof(*correction));
	correction->word = folded;
	correction->length = length;
	if (digits || letters < MIN_LETTERS || length > SEARCH_MAX_TERM)
		correction->max_distance = 0;
	else
		correction->max_distance = letters < MIN_LETTERS_LONG ? 1 : MAX_DISTANCE;
	correction->best_distance = PG_INT32_MAX;
	correction->context = CurrentMemoryContext;
}

static void
scan_begin(CorrectionScan *scan, Correction *correction)
{
	const char *end = correction->word + correction->length;
	int step;

	scan->correction = correction;
	scan->limit = Min(correction->max_distance, correction->best_distance);
	scan->n = 0;
	for (const char *p = correction->word; p < end; p += step)
		scan->letters[scan->n++] = read_letter(p, end, &step);

	/* The row of no characters: everything of the word is to be inserted. */
	for (int c = 0; c < ROW_CELLS; c++)
		scan->rows[0][c] = c >= MAX_DISTANCE ? c - MAX_DISTANCE : MAX_DISTANCE + 1;
	scan->nrows = 1;
	scan->dead = PG_INT32_MAX;
	scan->found = NULL;
	scan->nfound = scan->allocated = 0;
}

/* Computes row i from those before; true when a cell is within the limit. */
static inline bool
compute_row(CorrectionScan *scan, const uint32 *letters, int i)
{
	const uint8 *previous = scan->rows[i - 1];
	uint8 *row = scan->rows[i];
	uint32 letter = letters[i - 1];
	int smallest = MAX_DISTANCE + 1;

	for (int c = 0; c < ROW_CELLS; c++)
	{
		int j = i - MAX_DISTANCE + c;
		int cell = MAX_DISTANCE + 1;

		if (j >= 0 && j <= scan->n)
		{
			if (j > 0)
				cell = previous[c] + (scan->letters[j - 1] != letter);
			if (c + 1 < ROW_CELLS)
				cell = Min(cell, previous[c + 1] + 1);
			if (c > 0)
				cell = Min(cell, row[c - 1] + 1);
			if (i > 1 && j > 1 && letter == scan->letters[j - 2] &&
				letters[i - 2] == scan->letters[j - 1])
				cell = Min(cell, scan->rows[i - 2][c] + 1);
			cell = Min(cell, MAX_DISTANCE + 1);
			smallest = Min(smallest, cell);
		}
		row[c] = cell;
	}
	return smallest <= scan->limit;
}

static void
add_candidate(CorrectionScan *scan, const char *word, int length, uint32 df, int distance)
{
	Correction *correction = scan->correction;
	CorrectionCandidate *candidate;

	if (distance < correction->best_distance)
	{
		scan->nfound = 0;
		correction->ncandidates = 0;
		correction->best_distance = scan->limit = distance;
		correction->best_df = 0;
	}
	if (scan->nfound >= scan->allocated)
	{
		Size size;

		scan->allocated = Max(16, scan->allocated * 2);
		size = scan->allocated * sizeof(CorrectionCandidate);
		scan->found = scan->found == NULL ? MemoryContextAlloc(correction->context, size)
										  : repalloc(scan->found, size);
	}
	candidate = &scan->found[scan->nfound++];
	candidate->word = MemoryContextAlloc(correction->context, length + 1);
	memcpy(candidate->word, word, length);
	candidate->length = length;
	candidate->df = df;
}

/* The candidates of this source join those of the others. */
static void
scan_end(CorrectionScan *scan)
{
	Correction *correction = scan->correction;
	CorrectionCandidate *merged;
	int n = 0;
	int old = 0;

	if (scan->nfound == 0)
		return;
	merged =
		MemoryContextAlloc(correction->context,
						   (correction->ncandidates + scan->nfound) * sizeof(CorrectionCandidate));
	for (int i = 0; i < scan->nfound || old < correction->ncandidates;)
	{
		int order;

		if (i >= scan->nfound || old >= correction->ncandidates)
			order = i >= scan->nfound ? 1 : -1;
		else
			order = term_compare(scan->found[i].word,
								 scan->found[i].length,
								 correction->candidates[old].word,
								 correction->candidates[old].length);
		if (order <= 0)
			merged[n] = scan->found[i++];
		else
			merged[n] = correction->candidates[old];
		if (order == 0)
			merged[n].df += correction->candidates[old].df;
		if (order >= 0)
			old++;
		n++;
	}

	correction->best_df = 0;
	for (int i = 0; i < n; i++)
	{
		if (i > 0 && merged[i].df <= correction->best_df)
			continue;
		correction->best_df = merged[i].df;
		correction->best_length = merged[i].length;
		memcpy(correction->best, merged[i].word, merged[i].length);
		correction->best[merged[i].length] = '\0';
	}
	if (correction->candidates != NULL)
		pfree(correction->candidates);
	pfree(scan->found);
	correction->candidates = merged;
	correction->ncandidates = n;
}

void
correction_scan(Correction *corrections, int n, NextWord next, void *source)
{
	CorrectionScan *scans = palloc(Max(n, 1) * sizeof(CorrectionScan));
	int nscans = 0;
	char previous[SEARCH_MAX_TERM];
	int previous_length = 0;
	uint32 letters[SEARCH_MAX_TERM]; /* of the word at hand, as far as they were needed */
	int ends[SEARCH_MAX_TERM + 1];   /* bytes of its first i characters */
	int nletters = 0;
	const char *word;
	int length;
	uint32 df;
	uint32 count = 0;

	for (int i = 0; i < n; i++)
	{
		if (corrections[i].max_distance > 0)
			scan_begin(&scans[nscans++], &corrections[i]);
	}
	ends[0] = 0;
	while (nscans > 0 && next(source, &word, &length, &df))
	{
		int shared = 0; /* bytes in common with the word before */
		int nshared;    /* characters of those */

		if ((++count & 1023) == 0)
			CHECK_FOR_INTERRUPTS();
		if (length > SEARCH_MAX_TERM)
			continue;
		while (shared < length && shared < previous_length && word[shared] == previous[shared])
			shared++;
		memcpy(previous + shared, word + shared, length - shared);
		previous_length = length;
		while (nletters > 0 && ends[nletters] > shared)
			nletters--;
		nshared = nletters;

		for (int s = 0; s < nscans; s++)
		{
			CorrectionScan *scan = &scans[s];
			int row;
			int distance;

			if (scan->dead <= shared)
				continue;
			scan->dead = PG_INT32_MAX;
			row = Min(scan->nrows, nshared + 1);
			for (;; row++)
			{
				int step;

				if (row > nletters)
				{
					if (ends[nletters] >= length)
						break;
					letters[nletters] = read_letter(word + ends[nletters], word + length, &step);
					ends[nletters + 1] = ends[nletters] + step;
					nletters++;
				}
				if (row > scan->n + scan->limit || !compute_row(scan, letters, row))
				{
					scan->dead = ends[row];
					break;
				}
			}
			scan->nrows = row;
			if (scan->dead != PG_INT32_MAX)
				continue;
			/* Row `row` - 1 is that of the whole word. */
			if (row - 1 < scan->n - scan->limit)
				continue;
			distance = scan->rows[row - 1][scan->n - (row - 1) + MAX_DISTANCE];
			if (distance <= scan->limit)
				add_candidate(scan, word, length, df, distance);
		}
	}
	for (int s = 0; s < nscans; s++)
		scan_end(&scans[s]);
	pfree(scans);
}
