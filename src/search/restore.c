/*
 * restore.c
 *		The table of accents: for folded words the commonest accented form in a
 *		corpus, where the rules of rules.c would lead to another term.
 *
 * Owns: builders and tables, each in a context of its own below the caller's.
 * A builder keeps folded words with their forms, up to what fits into
 * maintenance_work_mem and never more than MAX_WORDS; when there are more, it
 * forgets the rarest.  The table's bytes are in UTF-8 whatever
 * the database's encoding, and hold, ascending by memcmp:
 *
 *	version (1 byte), words (4 bytes), and for each word: bytes it shares with
 *	the one before, bytes that follow, these; bytes of its form, these.
 *
 * Cost: building, one hash look-up a word of the corpus; looking up, a binary
 * search, once for each distinct word.
 */
#include "analysis.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "compat.h"
#include "analysis_private.h"
#include "document.h"

#define TABLE_VERSION   1
#define MAX_WORDS       1000000
#define MIN_WORDS       50000 /* are always kept */
#define WORD_MEMORY     160   /* bytes that a word takes in a builder, about */
#define MIN_ACCENTED    10    /* per cent of a word's occurrences with accents, to restore them */
#define MIN_WORD        3
#define MAX_WORD        100 /* bytes; longer ones are no words */
#define MAX_FORM        (2 * MAX_WORD)
#define INTERRUPT_WORDS 4096

/* One form of a word. */
typedef struct WordForm
{
	struct WordForm *next;
	uint32 count;
	uint8 length;
	char form[FLEXIBLE_ARRAY_MEMBER];
} WordForm;

typedef struct FormKey
{
	const char *word;
	int length;
} FormKey;

typedef struct FormSlot
{
	FormKey key;
	WordForm *forms; /* those with accents */
	uint32 plain;    /* how often without any */
	uint32 hash;
	char status;
} FormSlot;

#define SH_PREFIX          forms
#define SH_ELEMENT_TYPE    FormSlot
#define SH_KEY_TYPE        FormKey
#define SH_KEY             key
#define SH_HASH_KEY(tb, k) hash_bytes((const unsigned char *) (k).word, (k).length)
#define SH_EQUAL(tb, a, b) ((a).length == (b).length && memcmp((a).word, (b).word, (a).length) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) ((a)->hash)
#define SH_SCOPE           static inline
#define SH_DEFINE
#define SH_DECLARE
#include "lib/simplehash.h"

struct RestoreBuilder
{
	MemoryContext context;
	MemoryContext words_context; /* table, words and forms: replaced when words are forgotten */
	forms_hash *words;
	uint32 max_words;
};

struct RestoreTable
{
	uint32 nwords;
	const char **entries; /* length byte, word, length byte, form */
};

/* --- building --------------------------------------------------------------------- */

static void
begin_words(RestoreBuilder *builder)
{
	builder->words_context =
		AllocSetContextCreate(builder->context, "pgopt restoring words", ALLOCSET_DEFAULT_SIZES);
	builder->words = forms_create(builder->words_context, 4096, NULL);
}

RestoreBuilder *
restore_builder_create(MemoryContext parent)
{
	MemoryContext context =
		AllocSetContextCreate(parent, "pgopt restoring table", ALLOCSET_DEFAULT_SIZES);
	RestoreBuilder *builder = MemoryContextAllocZero(context, sizeof(RestoreBuilder));

	builder->context = context;
	builder->max_words =
		Min(MAX_WORDS, Max(MIN_WORDS, (Size) maintenance_work_mem * 1024 / WORD_MEMORY));
	begin_words(builder);
	return builder;
}

static FormSlot *
add_word(RestoreBuilder *builder, const char *word, int length)
{
	FormKey key = {word, length};
	FormSlot *slot = forms_lookup(builder->words, key);
	bool found;

	if (slot != NULL)
		return slot;
	key.word = memcpy(MemoryContextAlloc(builder->words_context, length), word, length);
	slot = forms_insert(builder->words, key, &found);
	slot->forms = NULL;
	slot->plain = 0;
	return slot;
}

static void
add_form(RestoreBuilder *builder, FormSlot *slot, const char *form, int length, uint32 count)
{
	WordForm *known = slot->forms;

	while (known != NULL && (known->length != length || memcmp(known->form, form, length) != 0))
		known = known->next;
	if (known == NULL)
	{
		known = MemoryContextAlloc(builder->words_context, offsetof(WordForm, form) + length);
		known->count = 0;
		known->length = length;
		memcpy(known->form, form, length);
		known->next = slot->forms;
		slot->forms = known;
	}
	known->count += count;
}

static uint32
count_of(const FormSlot *slot)
{
	uint32 count = slot->plain;

	for (const WordForm *form = slot->forms; form != NULL; form = form->next)
		count += form->count;
	return count;
}

/* Keeps what is more frequent than a limit, which doubles until a quarter is gone. */
static void
forget_rare_words(RestoreBuilder *builder)
{
	uint32 limit = 1;

	while (builder->words->members > builder->max_words / 4 * 3)
	{
		forms_hash *old_words = builder->words;
		MemoryContext old_context = builder->words_context;
		forms_iterator iterator;
		FormSlot *slot;

		begin_words(builder);
		forms_start_iterate(old_words, &iterator);
		while ((slot = forms_iterate(old_words, &iterator)) != NULL)
		{
			FormSlot *kept;

			if (count_of(slot) <= limit)
				continue;
			kept = add_word(builder, slot->key.word, slot->key.length);
			kept->plain = slot->plain;
			for (WordForm *form = slot->forms; form != NULL; form = form->next)
				add_form(builder, kept, form->form, form->length, form->count);
		}
		MemoryContextDelete(old_context);
		limit *= 2;
	}
}

void
restore_builder_add(RestoreBuilder *builder, const char *text, int length)
{
	Tokenizer tokenizer;
	RawToken token;
	uint32 count = 0;
	const char *utf8 = text_to_utf8(text, length, &length);

	tokenizer_begin(&tokenizer, utf8, length);
	while (tokenizer_next(&tokenizer, &token))
	{
		FormSlot *slot;
		char form[MAX_FORM + FOLD_MAX_BYTES];
		int form_length;

		if (++count % INTERRUPT_WORDS == 0)
			CHECK_FOR_INTERRUPTS();
		if (token.kind != RAW_WORD || token.folded_length < MIN_WORD ||
			token.folded_length > MAX_WORD)
			continue;
		form_length = tokenizer_form(utf8 + token.offset, token.length, form, sizeof(form));
		if (form_length == 0 || form_length > MAX_FORM)
			continue;
		slot = add_word(builder, token.folded, token.folded_length);
		if (form_length == token.folded_length && memcmp(form, token.folded, form_length) == 0)
			slot->plain++;
		else
			add_form(builder, slot, form, form_length, 1);
		if (builder->words->members > builder->max_words)
			forget_rare_words(builder);
	}
	if (utf8 != text)
		pfree(unconstify(char *, utf8));
}

/*
 * The commonest of the forms with accents, the least of equals; NULL where
 * accents are too rare to be more than errors.  Spellings without accents have
 * no say: capitals and careless typing lose them, and the rules would have to
 * lose to these.
 */
static const WordForm *
accented_form(const FormSlot *slot)
{
	const WordForm *best = NULL;
	uint64 accented = 0;

	for (const WordForm *form = slot->forms; form != NULL; form = form->next)
	{
		accented += form->count;
		if (best == NULL || form->count > best->count ||
			(form->count == best->count &&
			 term_compare(form->form, form->length, best->form, best->length) < 0))
			best = form;
	}
	return accented * 100 >= (accented + slot->plain) * MIN_ACCENTED ? best : NULL;
}

/* Would the rules lead to another term than this form? */
static bool
differs_from_rule(Analyzer *analyzer, const FormSlot *slot, const WordForm *form)
{
	char word[MAX_WORD + 1];
	char rule[FORM_MAX_BYTES];
	int rule_length = restore_by_rule(slot->key.word, slot->key.length, rule);
	const char *term;
	const char *rule_term;

	if (rule_length == form->length && memcmp(rule, form->form, rule_length) == 0)
		return false;
	memcpy(word, slot->key.word, slot->key.length);
	word[slot->key.length] = '\0';
	if (analyzer_is_stop_word(analyzer, word))
		return false;
	term = analyzer_stem(analyzer, form->form, form->length);
	rule_term = analyzer_stem(analyzer, rule, rule_length);
	if (term == NULL || rule_term == NULL)
		return term != rule_term;
	return strcmp(term, rule_term) != 0;
}

static int
compare_slots(const void *a, const void *b)
{
	const FormSlot *first = *(const FormSlot *const *) a;
	const FormSlot *second = *(const FormSlot *const *) b;
	int result =
		memcmp(first->key.word, second->key.word, Min(first->key.length, second->key.length));

	return result != 0 ? result : first->key.length - second->key.length;
}

bytea *
restore_builder_finish(RestoreBuilder *builder, uint32 *nwords)
{
	MemoryContext context = AllocSetContextCreate(
		builder->context, "pgopt restoring words to stem", ALLOCSET_DEFAULT_SIZES);
	Analyzer *analyzer = analyzer_create_portuguese(NULL, builder->context);
	const FormSlot **slots = MemoryContextAllocHuge(
		builder->context, (Size) Max(builder->words->members, 1) * sizeof(FormSlot *));
	forms_iterator iterator;
	const FormSlot *slot;
	const FormSlot *previous = NULL;
	uint32 n = 0;
	Size size = VARHDRSZ + 1 + sizeof(uint32);
	bytea *result;
	char *out;

	forms_start_iterate(builder->words, &iterator);
	while ((slot = forms_iterate(builder->words, &iterator)) != NULL)
	{
		MemoryContext old_context = MemoryContextSwitchTo(context);
		const WordForm *form = accented_form(slot);

		CHECK_FOR_INTERRUPTS();
		if (form != NULL && differs_from_rule(analyzer, slot, form))
		{
			slots[n++] = slot;
			size += 3 + slot->key.length + form->length;
		}
		MemoryContextSwitchTo(old_context);
		MemoryContextReset(context);
	}
	qsort(slots, n, sizeof(FormSlot *), compare_slots);

	result = palloc(size);
	out = VARDATA(result);
	*out++ = TABLE_VERSION;
	memcpy(out, &n, sizeof(uint32));
	out += sizeof(uint32);
	for (uint32 i = 0; i < n; i++)
	{
		int shared = 0;
		const WordForm *form = accented_form(slots[i]);

		slot = slots[i];
		while (previous != NULL && shared < Min(slot->key.length, previous->key.length) &&
			   slot->key.word[shared] == previous->key.word[shared])
			shared++;
		*out++ = shared;
		*out++ = slot->key.length - shared;
		memcpy(out, slot->key.word + shared, slot->key.length - shared);
		out += slot->key.length - shared;
		*out++ = form->length;
		memcpy(out, form->form, form->length);
		out += form->length;
		previous = slot;
	}
	SET_VARSIZE(result, out - (char *) result);
	*nwords = n;
	MemoryContextDelete(builder->context);
	return result;
}

/* --- looking up ------------------------------------------------------------------- */

RestoreTable *
restore_table_load(const char *bytes, Size size, MemoryContext parent)
{
	MemoryContext context =
		AllocSetContextCreate(parent, "pgopt restoring table", ALLOCSET_DEFAULT_SIZES);
	RestoreTable *table = MemoryContextAllocZero(context, sizeof(RestoreTable));
	const unsigned char *p = (const unsigned char *) bytes;
	const unsigned char *end = p + size;
	const char *previous = NULL;
	uint32 n;

	if (size < 1 + sizeof(uint32) || *p != TABLE_VERSION)
		goto corrupted;
	memcpy(&n, p + 1, sizeof(uint32));
	p += 1 + sizeof(uint32);
	if (n > MAX_WORDS)
		goto corrupted;
	table->entries = MemoryContextAllocHuge(context, Max(n, 1) * sizeof(char *));
	for (uint32 i = 0; i < n; i++)
	{
		int shared, more, form_length;
		char *entry;

		if (end - p < 2)
			goto corrupted;
		shared = p[0];
		more = p[1];
		p += 2;
		if (shared > (previous == NULL ? 0 : (unsigned char) previous[0]) ||
			shared + more > MAX_WORD || end - p < more + 1)
			goto corrupted;
		form_length = p[more];
		if (form_length == 0 || form_length > MAX_FORM || end - p < more + 1 + form_length)
			goto corrupted;
		entry = MemoryContextAlloc(context, 2 + shared + more + form_length);
		entry[0] = shared + more;
		if (shared > 0)
			memcpy(entry + 1, previous + 1, shared);
		memcpy(entry + 1 + shared, p, more + 1 + form_length);
		p += more + 1 + form_length;
		table->entries[i] = previous = entry;
	}
	table->nwords = n;
	return table;

corrupted:
	ereport(ERROR,
			(errcode(ERRCODE_INDEX_CORRUPTED),
			 errmsg("restoring table of a search index is corrupted"),
			 errhint("REINDEX the index.")));
}

const char *
restore_table_find(const RestoreTable *table, const char *word, int length, int *form_length)
{
	uint32 low = 0;
	uint32 high = table->nwords;

	while (low < high)
	{
		uint32 middle = low + (high - low) / 2;
		const char *entry = table->entries[middle];
		int entry_length = (unsigned char) entry[0];
		int order = memcmp(word, entry + 1, Min(length, entry_length));

		if (order == 0)
			order = length - entry_length;
		if (order == 0)
		{
			*form_length = (unsigned char) entry[1 + entry_length];
			return entry + 2 + entry_length;
		}
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}
