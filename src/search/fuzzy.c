/*
 * fuzzy.c
 *		Corrects typing errors with the words that an index knows.
 *
 * The distance is that of optimal string alignment: insertions, deletions,
 * substitutions and exchanges of neighbours, over characters.  A row of the
 * distance matrix is three masks of bits, one for each distance (Wu and
 * Manber, "Fast Text Searching Allowing Errors", 1992; the exchange is one
 * more way to come to a state).  The words come in ascending order, so that a
 * row is kept for every character of the last word, and a word costs only
 * what follows the part that it shares with the one before; where that part
 * is too far away from what is looked for already, it costs one comparison.
 *
 * Memory: the words at the best distance, in the correction's context, since
 * one word's documents add up over several sources.  Locks: none.
 */
#include "pgopt.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "document.h"
#include "query.h"

#define MAX_DISTANCE 2

/* Letters that a word needs to be corrected at all, and at distance 2; and how many it may have. */
#define MIN_LETTERS      4
#define MIN_LETTERS_LONG 8
#define MAX_LETTERS      60

/* Rows that can be reached before a row is empty. */
#define MAX_ROWS (MAX_LETTERS + MAX_DISTANCE + 2)

typedef struct CorrectionCandidate
{
	char *word;
	int length;
	uint64 df;
} CorrectionCandidate;

/* After the first i characters of a word of the source. */
typedef struct Row
{
	uint64
		reached[MAX_DISTANCE +
				1]; /* bit j of mask d: the first j letters of the correction are at most d away */
	uint64
		letter; /* where the i-th character stands in the correction: bit j for its j-th letter */
} Row;

/* One correction while a source is read. */
typedef struct CorrectionScan
{
	Correction *correction;
	int limit; /* the greatest distance that is still of interest */
	int n;     /* letters of the correction */
	int nrows; /* rows that hold for the word at hand, the one of no characters included */
	int dead; /* no word that has so many bytes in common with the word before is near; PG_INT32_MAX: unknown */
	uint32 letters[MAX_LETTERS + 1]; /* from 1 */
	uint64 ascii[128];               /* Row.letter by character */
	Row rows[MAX_ROWS];
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
	if (digits || letters < MIN_LETTERS || letters > MAX_LETTERS)
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
	memset(scan->ascii, 0, sizeof(scan->ascii));
	for (const char *p = correction->word; p < end; p += step)
	{
		uint32 letter = read_letter(p, end, &step);

		scan->letters[++scan->n] = letter;
		if (letter < 128)
			scan->ascii[letter] |= UINT64CONST(1) << scan->n;
	}

	/* Before the first character: as many letters are missing as there are errors. */
	for (int d = 0; d <= MAX_DISTANCE; d++)
		scan->rows[0].reached[d] = (UINT64CONST(2) << d) - 1;
	scan->rows[0].letter = 0;
	scan->nrows = 1;
	scan->dead = PG_INT32_MAX;
	scan->found = NULL;
	scan->nfound = scan->allocated = 0;
}

/* Computes row i for the character from the rows before it; false when it is empty. */
static inline bool
compute_row(CorrectionScan *scan, uint32 character, int i)
{
	const Row *previous = &scan->rows[i - 1];
	Row *row = &scan->rows[i];
	uint64 letter = 0;

	if (character < 128)
		letter = scan->ascii[character];
	else
	{
		for (int j = 1; j <= scan->n; j++)
		{
			if (scan->letters[j] == character)
				letter |= UINT64CONST(1) << j;
		}
	}
	row->letter = letter;
	row->reached[0] = (previous->reached[0] << 1) & letter;
	for (int d = 1; d <= MAX_DISTANCE; d++)
	{
		uint64 reached = (previous->reached[d] << 1) & letter;

		reached |= previous->reached[d - 1];      /* one character too many */
		reached |= previous->reached[d - 1] << 1; /* another one */
		reached |= row->reached[d - 1] << 1;      /* one missing */
		if (i > 1)                                /* exchanged with the one before */
			reached |= (scan->rows[i - 2].reached[d - 1] << 2) & (letter << 1) & previous->letter;
		row->reached[d] = reached;
	}
	/* Bits above n are of no meaning, and lead to none below. */
	return (row->reached[scan->limit] & ((UINT64CONST(2) << scan->n) - 1)) != 0;
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
	uint32
		letters[MAX_ROWS]; /* characters of the word at hand, as far as they were needed; from 1 */
	int ends[MAX_ROWS];    /* bytes of its first i characters */
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
			int i;

			if (scan->dead <= shared)
				continue;
			scan->dead = PG_INT32_MAX;
			for (i = Min(scan->nrows, nshared + 1);; i++)
			{
				int step;

				if (i > nletters)
				{
					if (ends[nletters] >= length)
						break;
					letters[i] = read_letter(word + ends[nletters], word + length, &step);
					ends[i] = ends[nletters] + step;
					nletters = i;
				}
				if (!compute_row(scan, letters[i], i))
				{
					scan->dead = ends[i];
					break;
				}
			}
			scan->nrows = i;
			if (scan->dead != PG_INT32_MAX)
				continue;
			for (int d = 0; d <= scan->limit; d++)
			{
				if (scan->rows[i - 1].reached[d] & (UINT64CONST(1) << scan->n))
				{
					add_candidate(scan, word, length, df, d);
					break;
				}
			}
		}
	}
	for (int s = 0; s < nscans; s++)
		scan_end(&scans[s]);
	pfree(scans);
}
