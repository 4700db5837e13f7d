/*
 * headline.c
 *		Finds, cuts and marks the fragments of a document that a search is
 *		shown with.
 *
 * The text is analyzed as documents and queries are, in pieces, and the tokens
 * whose terms the search has are its hits; words and whole phrases among them
 * become marks.  A window as wide as a fragment slides over the marks.
 *
 * Memory: the current context.  Locks: none.  Interrupts: at every piece, and
 * in the analyzer.  Cost: linear in the part of the text that is looked at.
 */
#include "pgopt.h"

#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "compat.h"
#include "headline.h"

#define PIECE_BYTES  (256 * 1024) /* analyzed at a time */
#define MAX_HITS     16384        /* enough to choose from */
#define WORD_BYTES   80           /* a longer word counts as several, and may be cut */
#define TAG_BYTES    1000         /* a longer tag is taken for text */
#define ENTITY_BYTES 12

/* Of a phrase, over the sum of its words. */
#define PHRASE_WEIGHT 1.5
/* Of what an earlier fragment shows already. */
#define AGAIN_WEIGHT 0.125

const HeadlineOptions headline_defaults = {
	.start_sel = "<b>",
	.stop_sel = "</b>",
	.delimiter = " ... ",
	.max_fragments = 2,
	.fragment_words = 15,
	.escape_html = true,
};

/* A term to look for. */
typedef struct Slot
{
	const QueryTerm *term;
	uint32 hash;
	bool word; /* also by itself, not only in a phrase */
	bool seen;
} Slot;

/* A token whose term is looked for. */
typedef struct Hit
{
	uint32 position;
	uint32 offset;
	uint32 length;
	int slot;
} Hit;

/* What is to be marked: a word (its unit is its slot's number) or a phrase. */
typedef struct Mark
{
	uint32 position;
	uint32 offset;
	uint32 end;
	int unit;
} Mark;

/* A part of the text. */
typedef struct Range
{
	uint32 offset;
	uint32 end;
} Range;

typedef struct Headline
{
	const SearchQuery *query;
	const HeadlineOptions *options;
	const char *text;
	int length;
	int nslots;
	Slot *slots;
	int *slot_of;    /* by number of the query's term; -1: not looked for */
	bool phrases;    /* is there one to look for? */
	double *weights; /* by unit: slots, then clauses */
	int nhits;
	int hits_allocated;
	Hit *hits;
	int nmarks;
	int marks_allocated;
	Mark *marks;
} Headline;

/* --- hits ------------------------------------------------------------------------------ */

static bool
is_shown(const Headline *headline, const QueryClause *clause)
{
	return clause->sign != CLAUSE_MUST_NOT &&
		   (headline->options->fields == 0 || (clause->fields & headline->options->fields) != 0);
}

static void
add_slot(Headline *headline, int number, bool word)
{
	const QueryTerm *term = &headline->query->terms[number];
	double weight = headline->options->weights != NULL ? headline->options->weights[number] : 1.0;
	int slot = headline->slot_of[number];

	if (slot < 0)
	{
		uint32 hash = hash_bytes((const unsigned char *) term->term, term->length);

		/* The same term of other columns is the same here. */
		for (slot = 0; slot < headline->nslots; slot++)
		{
			if (headline->slots[slot].hash == hash &&
				headline->slots[slot].term->length == term->length &&
				memcmp(headline->slots[slot].term->term, term->term, term->length) == 0)
				break;
		}
		if (slot == headline->nslots)
		{
			headline->slots[slot] = (Slot){.term = term, .hash = hash};
			headline->nslots++;
		}
		headline->slot_of[number] = slot;
	}
	headline->slots[slot].word |= word;
	/* A word of every document still counts for something. */
	headline->weights[slot] = Max(headline->weights[slot], Max(weight, 0.01));
}

static void
find_slots(Headline *headline)
{
	const SearchQuery *query = headline->query;

	headline->slots = palloc(Max(query->nterms, 1) * sizeof(Slot));
	headline->slot_of = palloc(Max(query->nterms, 1) * sizeof(int));
	headline->weights = palloc0((query->nterms + query->nclauses + 1) * sizeof(double));
	for (int i = 0; i < query->nterms; i++)
		headline->slot_of[i] = -1;
	for (int i = 0; i < query->nclauses; i++)
	{
		const QueryClause *clause = &query->clauses[i];

		if (!is_shown(headline, clause))
			continue;
		headline->phrases |= clause->phrase;
		for (int j = 0; j < clause->nterms; j++)
			add_slot(headline, clause->terms[j], !clause->phrase);
	}
	for (int i = 0; i < query->nclauses; i++)
	{
		const QueryClause *clause = &query->clauses[i];
		double sum = 0;

		if (!clause->phrase || !is_shown(headline, clause))
			continue;
		for (int j = 0; j < clause->nterms; j++)
			sum += headline->weights[headline->slot_of[clause->terms[j]]];
		headline->weights[headline->nslots + i] = sum * PHRASE_WEIGHT;
	}
}

/* The slot of a word, kept as its tag. */
static int
slot_of_word(const Headline *headline, AnalyzerWord *word)
{
	static Slot none;

	if (word->tag == NULL)
	{
		Slot *found = &none;

		for (int i = 0; i < headline->nslots && found == &none; i++)
		{
			Slot *slot = &headline->slots[i];

			if (slot->hash == word->term_hash && slot->term->length == word->term_length &&
				memcmp(slot->term->term, word->term, word->term_length) == 0)
				found = slot;
		}
		word->tag = found;
	}
	return word->tag == &none ? -1 : (Slot *) word->tag - headline->slots;
}

/* Where a piece that begins at offset ends: between words where that is possible. */
static int
piece_end(const Headline *headline, int offset)
{
	int end = offset + PIECE_BYTES;

	if (headline->length - offset <= PIECE_BYTES)
		return headline->length;
	while (end > offset + PIECE_BYTES / 2 && (unsigned char) headline->text[end] > ' ')
		end--;
	if (end > offset + PIECE_BYTES / 2)
		return end;
	return offset + Max(pg_mbcliplen(headline->text + offset, PIECE_BYTES, PIECE_BYTES), 1);
}

static void
find_hits(Headline *headline, Analyzer *analyzer)
{
	uint32 base = 0; /* positions in the pieces before */
	int nseen = 0;
	int offset = 0;

	if (headline->nslots == 0)
		return;
	analyzer_clear_tags(analyzer);
	headline->hits_allocated = 64;
	headline->hits = palloc(headline->hits_allocated * sizeof(Hit));
	while (offset < headline->length)
	{
		int end = piece_end(headline, offset);
		const TokenList *tokens = analyzer_run(analyzer, headline->text + offset, end - offset);

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < tokens->n && headline->nhits < MAX_HITS; i++)
		{
			const Token *token = &tokens->tokens[i];
			int slot = slot_of_word(headline, token->word);

			if (slot < 0)
				continue;
			nseen += !headline->slots[slot].seen;
			headline->slots[slot].seen = true;
			if (headline->nhits >= headline->hits_allocated)
			{
				headline->hits_allocated *= 2;
				headline->hits = repalloc(headline->hits, headline->hits_allocated * sizeof(Hit));
			}
			headline->hits[headline->nhits++] = (Hit){.position = base + token->position,
													  .offset = offset + token->offset,
													  .length = token->length,
													  .slot = slot};
		}
		base += tokens->positions;
		offset = end;
		if (headline->nhits >= MAX_HITS || offset >= HEADLINE_SCAN_LIMIT ||
			(headline->nhits > 0 && offset >= HEADLINE_SCAN_ENOUGH) ||
			(nseen == headline->nslots && !headline->phrases))
			break;
	}
}

/* --- marks ----------------------------------------------------------------------------- */

static void
add_mark(Headline *headline, uint32 position, uint32 offset, uint32 end, int unit)
{
	if (headline->nmarks >= headline->marks_allocated)
	{
		headline->marks_allocated *= 2;
		headline->marks = repalloc(headline->marks, headline->marks_allocated * sizeof(Mark));
	}
	headline->marks[headline->nmarks++] =
		(Mark){.position = position, .offset = offset, .end = end, .unit = unit};
}

/* Does the phrase stand at the hit?  Gives the hit of its last word, or -1. */
static int
match_phrase(const Headline *headline, const QueryClause *clause, int first)
{
	uint32 base = headline->hits[first].position;
	int matched = 1;
	int i;

	for (i = first + 1; i < headline->nhits && matched < clause->nterms; i++)
	{
		const Hit *hit = &headline->hits[i];
		uint32 wanted = base + clause->places[matched];

		if (hit->position > wanted)
			return -1;
		if (hit->position == wanted && hit->slot == headline->slot_of[clause->terms[matched]])
			matched++;
	}
	return matched == clause->nterms ? i - 1 : -1;
}

static int
compare_marks(const void *a, const void *b)
{
	const Mark *left = a;
	const Mark *right = b;

	if (left->offset != right->offset)
		return left->offset < right->offset ? -1 : 1;
	return left->unit - right->unit;
}

static void
find_marks(Headline *headline)
{
	const SearchQuery *query = headline->query;

	if (headline->nhits == 0)
		return;
	headline->marks_allocated = headline->nhits;
	headline->marks = palloc(headline->marks_allocated * sizeof(Mark));
	for (int i = 0; i < headline->nhits; i++)
	{
		const Hit *hit = &headline->hits[i];

		if (headline->slots[hit->slot].word)
			add_mark(headline, hit->position, hit->offset, hit->offset + hit->length, hit->slot);
	}
	for (int c = 0; c < query->nclauses && headline->phrases; c++)
	{
		const QueryClause *clause = &query->clauses[c];
		int slot;

		if (!clause->phrase || !is_shown(headline, clause))
			continue;
		slot = headline->slot_of[clause->terms[0]];
		for (int i = 0; i < headline->nhits; i++)
		{
			const Hit *hit = &headline->hits[i];
			int last;

			if (hit->slot != slot)
				continue;
			CHECK_FOR_INTERRUPTS();
			last = match_phrase(headline, clause, i);
			if (last >= 0)
				add_mark(headline,
						 hit->position,
						 hit->offset,
						 headline->hits[last].offset + headline->hits[last].length,
						 headline->nslots + c);
		}
	}
	qsort(headline->marks, headline->nmarks, sizeof(Mark), compare_marks);
}

/* --- choosing windows ------------------------------------------------------------------ */

/*
 * Finds the window of marks, none of which is used, that is worth most; the
 * first of equal ones.  A window is as wide as a fragment has words.  counts
 * is 0 for every unit, before and after.
 */
static bool
choose_window(const Headline *headline, const bool *used, const bool *covered, int *counts,
			  int *first, int *last)
{
	const Mark *marks = headline->marks;
	double best = 0;
	double sum = 0;
	int right = 0; /* the window is that of the marks from left to right - 1 */

	for (int left = 0; left < headline->nmarks; left++)
	{
		uint32 end = marks[left].position + headline->options->fragment_words;
		int unit = marks[left].unit;

		for (right = Max(right, left);
			 right < headline->nmarks && !used[right] && marks[right].position < end;
			 right++)
		{
			int added = marks[right].unit;

			if (counts[added]++ == 0)
				sum += headline->weights[added] * (covered[added] ? AGAIN_WEIGHT : 1.0);
		}
		if (right == left)
			continue; /* this mark is used */
		if (sum > best * (1 + 1e-9))
		{
			best = sum;
			*first = left;
			*last = right - 1;
		}
		if (--counts[unit] == 0)
			sum -= headline->weights[unit] * (covered[unit] ? AGAIN_WEIGHT : 1.0);
	}
	return best > 0;
}

/* --- cutting --------------------------------------------------------------------------- */

/* Where the character before p begins; p itself where that cannot be told. */
static const char *
previous_character(const char *begin, const char *p)
{
	const char *q = p - 1;

	if (pg_database_encoding_max_length() == 1 || (unsigned char) *q < 0x80)
		return q;
	if (GetDatabaseEncoding() != PG_UTF8)
		return p;
	while (q > begin && ((unsigned char) *q & 0xC0) == 0x80)
		q--;
	return q;
}

/* Is there white space right before p? */
static bool
space_before(const char *begin, const char *p)
{
	for (int n = 1; n <= 3 && p - n >= begin; n++)
	{
		if (search_space(p - n, p) == n)
			return true;
	}
	return false;
}

/* The beginning of the word that p is in, or of a part of it, at most so many bytes before p. */
static const char *
word_begin(const char *begin, const char *p, int limit)
{
	const char *stop = p - Min(limit, p - begin);

	while (p > stop && !space_before(begin, p))
	{
		const char *q = previous_character(begin, p);

		if (q == p)
			break;
		p = q;
	}
	return p;
}

/* The end of the word that p is in, or of a part of it. */
static const char *
word_end(const char *p, const char *end)
{
	const char *begin = p;

	while (p < end && search_space(p, end) == 0 && p - begin < WORD_BYTES)
		p += Min(pg_encoding_mblen(GetDatabaseEncoding(), p), end - p);
	return p;
}

/* Goes over up to *n words; *n becomes the number that there were. */
static const char *
skip_words(const char *p, const char *end, int *n)
{
	int done = 0;

	while (done < *n)
	{
		const char *word = p;
		int skip;

		while (word < end && (skip = search_space(word, end)) > 0)
			word += skip;
		if (word >= end)
			break;
		p = word_end(word, end);
		done++;
	}
	*n = done;
	return p;
}

static const char *
skip_words_back(const char *begin, const char *p, int *n)
{
	int done = 0;

	while (done < *n)
	{
		const char *word = p;
		const char *first;

		while (word > begin && space_before(begin, word))
		{
			const char *q = previous_character(begin, word);

			if (q == word)
				break;
			word = q;
		}
		if (word <= begin)
			break;
		first = word_begin(begin, word, WORD_BYTES);
		if (first == word)
			break;
		p = first;
		done++;
	}
	*n = done;
	return p;
}

/*
 * The tag or entity that begins at p: its length, or 0.
 */
static int
markup_length(const char *p, const char *end)
{
	const char *q = p + 1;

	if (*p == '<')
	{
		if (q >= end ||
			strchr("/!?abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", *q) == NULL)
			return 0;
		for (end = Min(end, p + TAG_BYTES); q < end; q++)
		{
			if (*q == '>')
				return q + 1 - p;
		}
	}
	else if (*p == '&')
	{
		for (end = Min(end, p + ENTITY_BYTES); q < end; q++)
		{
			if (*q == ';')
				return q > p + 1 ? q + 1 - p : 0;
			if (strchr("#0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", *q) ==
				NULL)
				return 0;
		}
	}
	return 0;
}

/* Moves a cut out of a tag or entity: before it, or after it. */
static const char *
leave_markup(const Headline *headline, const char *p, bool forward)
{
	const char *end = headline->text + headline->length;
	const char *stop = p - Min(TAG_BYTES, p - headline->text);

	for (const char *q = p; q > stop;)
	{
		int length = 0;

		q--;
		if (*q == '<' || *q == '&')
			length = markup_length(q, end);
		if (length > p - q)
			return forward ? q + length : q;
		if (*q == '<' || *q == '>')
			break;
	}
	return p;
}

/* A fragment of `words` words around the marks. */
static Range
cut_fragment(const Headline *headline, int first, int last, int words)
{
	const char *text = headline->text;
	const char *text_end = text + headline->length;
	uint32 marks_end = 0;
	const char *begin;
	const char *end;
	int n;
	int after;

	for (int i = first; i <= last; i++)
		marks_end = Max(marks_end, headline->marks[i].end);
	/* So that the first mark is in the first word even if that is only a part of a long one. */
	begin = word_begin(text, text + headline->marks[first].offset, WORD_BYTES / 2);

	/* The words of the marks themselves, which may be more than fit when they are a long phrase. */
	n = 0;
	for (end = begin; end < text + marks_end && n < words; n++)
	{
		int one = 1;

		end = skip_words(end, text_end, &one);
		if (one == 0)
			break;
	}

	/* As many before as after, and what one side does not have goes to the other. */
	after = words - n;
	n = after / 2;
	begin = skip_words_back(text, begin, &n);
	n = after = after - n;
	end = skip_words(end, text_end, &n);
	n = after - n;
	begin = skip_words_back(text, begin, &n);
	return (Range){.offset = begin - text, .end = end - text};
}

static int
compare_ranges(const void *a, const void *b)
{
	const Range *left = a;
	const Range *right = b;

	return left->offset < right->offset ? -1 : left->offset > right->offset;
}

/* Joins ranges that overlap, or have at most `gap` bytes between them; gives their number. */
static int
join_ranges(Range *ranges, int n, uint32 gap)
{
	int joined = 0;

	for (int i = 0; i < n; i++)
	{
		if (joined > 0 && ranges[i].offset <= ranges[joined - 1].end + gap)
			ranges[joined - 1].end = Max(ranges[joined - 1].end, ranges[i].end);
		else
			ranges[joined++] = ranges[i];
	}
	return joined;
}

/* The fragments, in the order of the text. */
static int
find_fragments(const Headline *headline, Range *fragments)
{
	const HeadlineOptions *options = headline->options;
	const char *text = headline->text;
	int words = options->max_fragments * options->fragment_words;
	int nunits = headline->nslots + headline->query->nclauses;
	bool *used;
	bool *covered;
	int *counts;
	int *firsts;
	int *lasts;
	int n;
	const char *end;

	/* All of it where it fits, or the beginning where there is nothing better. */
	end = skip_words(text, text + headline->length, &words);
	n = 1;
	if (headline->nmarks == 0 || skip_words(end, text + headline->length, &n) == end)
	{
		fragments[0] = (Range){.offset = 0, .end = end - text};
		return 1;
	}

	used = palloc0(headline->nmarks * sizeof(bool));
	covered = palloc0(nunits * sizeof(bool));
	firsts = palloc(options->max_fragments * sizeof(int));
	lasts = palloc(options->max_fragments * sizeof(int));
	counts = palloc0(nunits * sizeof(int));
	for (n = 0; n < options->max_fragments; n++)
	{
		if (!choose_window(headline, used, covered, counts, &firsts[n], &lasts[n]))
			break;
		for (int i = firsts[n]; i <= lasts[n]; i++)
		{
			used[i] = true;
			covered[headline->marks[i].unit] = true;
		}
	}
	for (int i = 0; i < n; i++)
		fragments[i] = cut_fragment(headline, firsts[i], lasts[i], words / n);
	pfree(used);
	pfree(covered);
	pfree(counts);
	pfree(firsts);
	pfree(lasts);
	qsort(fragments, n, sizeof(Range), compare_ranges);
	return join_ranges(fragments, n, 1);
}

/* --- writing --------------------------------------------------------------------------- */

static void
append_escaped(StringInfo out, char c)
{
	switch (c)
	{
		case '&':
			appendStringInfoString(out, "&amp;");
			break;
		case '<':
			appendStringInfoString(out, "&lt;");
			break;
		case '>':
			appendStringInfoString(out, "&gt;");
			break;
		case '"':
			appendStringInfoString(out, "&quot;");
			break;
		case '\'':
			appendStringInfoString(out, "&#39;");
			break;
		default:
			appendStringInfoCharMacro(out, c);
			break;
	}
}

/* *mark is the first range that ends behind what was written. */
static void
append_fragment(const Headline *headline, StringInfo out, const Range *fragment, const Range **mark,
				const Range *marks_end)
{
	const HeadlineOptions *options = headline->options;
	const char *p = headline->text + fragment->offset;
	const char *end = headline->text + fragment->end;
	int begin = out->len;
	bool space = false;         /* waits for something to separate */
	const Range *marked = NULL; /* begun, and not ended */
	const char *markup_end;

	if (!options->escape_html)
	{
		p = leave_markup(headline, p, true);
		end = leave_markup(headline, end, false);
	}
	markup_end = p;
	while (p < end)
	{
		uint32 offset = p - headline->text;
		int skip = search_space(p, end);
		const Range *here = NULL;

		if (skip > 0)
		{
			space = out->len > begin;
			p += skip;
			continue;
		}
		if (!options->escape_html && p >= markup_end)
			markup_end = p + markup_length(p, end);
		while (*mark < marks_end && (*mark)->end <= offset)
			(*mark)++;
		if (p >= markup_end && *mark < marks_end && (*mark)->offset <= offset)
			here = *mark;

		if (marked != NULL && marked != here)
			appendStringInfoString(out, options->stop_sel);
		if (space)
			appendStringInfoChar(out, ' ');
		if (here != NULL && marked != here)
			appendStringInfoString(out, options->start_sel);
		marked = here;
		space = false;
		if (options->escape_html)
			append_escaped(out, *p);
		else
			appendStringInfoCharMacro(out, *p);
		p++;
	}
	if (marked != NULL)
		appendStringInfoString(out, options->stop_sel);
}

text *
search_headline(Analyzer *analyzer, const SearchQuery *query, const char *document, int length,
				const HeadlineOptions *options)
{
	Headline headline = {.query = query, .options = options, .text = document, .length = length};
	Range *fragments = palloc(options->max_fragments * sizeof(Range));
	Range *marked;
	const Range *mark;
	int nfragments;
	int nmarked;
	StringInfoData out;
	text *result;

	find_slots(&headline);
	find_hits(&headline, analyzer);
	find_marks(&headline);
	nfragments = find_fragments(&headline, fragments);

	marked = palloc(Max(headline.nmarks, 1) * sizeof(Range));
	for (int i = 0; i < headline.nmarks; i++)
		marked[i] = (Range){.offset = headline.marks[i].offset, .end = headline.marks[i].end};
	nmarked = join_ranges(marked, headline.nmarks, 0);

	initStringInfo(&out);
	mark = marked;
	for (int i = 0; i < nfragments; i++)
	{
		if (i > 0)
			appendStringInfoString(&out, options->delimiter);
		append_fragment(&headline, &out, &fragments[i], &mark, marked + nmarked);
	}
	result = cstring_to_text_with_len(out.data, out.len);

	pfree(out.data);
	pfree(marked);
	pfree(fragments);
	pfree(headline.slots);
	pfree(headline.slot_of);
	pfree(headline.weights);
	if (headline.hits != NULL)
		pfree(headline.hits);
	if (headline.marks != NULL)
		pfree(headline.marks);
	return result;
}
