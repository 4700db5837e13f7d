/*
 * segment_tree.c
 *		The term dictionary and the word list of a segment: static trees.
 *
 * A tree is loaded bottom-up: its leaves in the order of the keys, each page
 * of a level entered into the level above when it is begun, with the shortest
 * key that tells it from the page before.  A page holds
 *		number of entries, number of restarts			(2 + 2 bytes)
 *		entries: bytes shared with the key before, further bytes, bytes of
 *			payload (variable-length), key's further bytes, payload
 *		offsets of the restarts							(2 bytes each)
 * Every 16th entry is a restart: it shares nothing, so that the page can be
 * searched by halving.  The payload of an inner entry is the number of the
 * page below.
 *
 * Short postings, with their positions, lie in the leaf itself, behind the
 * term's other data; TermInfo then points into the leaf.
 *
 * Cost: a look-up reads height + 1 pages, and compares about 16 + log2(300/16)
 * keys on each; building keeps one page a level.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "segment_private.h"

#define TREE_RESTART 16

typedef struct TreePage
{
	uint16 nentries;
	uint16 nrestarts;
} TreePage;

#define TREE_MAX_RESTARTS (SEARCH_PAGE_CONTENT / 4 / TREE_RESTART + 1)

/* --- building -------------------------------------------------------------------------- */

typedef struct TreeLevel
{
	uint32 page;
	uint32 used;
	uint32 nentries;
	uint32 nrestarts;
	char *image;
	int last_length;
	char last[SEARCH_MAX_TERM];
	uint16 restarts[TREE_MAX_RESTARTS];
} TreeLevel;

struct TreeBuilder
{
	SegmentWriter *writer;
	int nlevels;
	uint32 first_leaf;
	TreeLevel *levels[TREE_MAX_HEIGHT];
};

TreeBuilder *
tree_begin(SegmentWriter *writer)
{
	TreeBuilder *tree = MemoryContextAllocZero(writer->context, sizeof(TreeBuilder));

	tree->writer = writer;
	tree->first_leaf = InvalidBlockNumber;
	return tree;
}

static void
level_begin_page(TreeLevel *level, uint32 page)
{
	level->page = page;
	level->used = sizeof(TreePage);
	level->nentries = 0;
	level->nrestarts = 0;
}

static void
level_end_page(TreeBuilder *tree, TreeLevel *level, uint32 next)
{
	char *content = SearchPageContent(level->image);
	TreePage *header = (TreePage *) content;

	if (level->used % sizeof(uint16) != 0)
		content[level->used++] = 0;
	memcpy(content + level->used, level->restarts, level->nrestarts * sizeof(uint16));
	header->nentries = (uint16) level->nentries;
	header->nrestarts = (uint16) level->nrestarts;
	writer_put_page(tree->writer,
					level->page,
					level->image,
					level->used + level->nrestarts * sizeof(uint16),
					next);
}

static void
level_add(TreeBuilder *tree, int number, const char *key, int length, const char *payload,
		  uint32 payload_length)
{
	TreeLevel *level;
	char size[VARINT_MAX];
	uint32 size_length = varint_encode(payload_length, size);
	uint32 shared = 0;
	uint32 needed;
	char *place;

	if (number >= TREE_MAX_HEIGHT)
		elog(ERROR, "tree of a segment is too high");
	if (number == tree->nlevels)
	{
		level = MemoryContextAlloc(tree->writer->context, sizeof(TreeLevel));
		level->image = writer_new_image(tree->writer);
		level_begin_page(level, writer_new_page(tree->writer));
		level->last_length = 0;
		tree->levels[tree->nlevels++] = level;
		if (number == 0)
			tree->first_leaf = level->page;
	}
	level = tree->levels[number];

	if (level->nentries % TREE_RESTART != 0)
	{
		uint32 most = Min(length, level->last_length);

		while (shared < most && key[shared] == level->last[shared])
			shared++;
	}
	needed = 2 + size_length + length - shared + payload_length;
	if (level->used + needed + 1 + (level->nrestarts + 1) * sizeof(uint16) > SEARCH_PAGE_CONTENT)
	{
		uint32 page = level->page;
		uint32 next = writer_new_page(tree->writer);
		uint32 separator = 0;
		char child[VARINT_MAX];

		level_end_page(tree, level, next);
		level_begin_page(level, next);

		if (number + 1 == tree->nlevels)
			level_add(tree, number + 1, "", 0, child, varint_encode(page, child));
		if (number > 0)
			separator = length;
		else
		{
			while (separator < level->last_length && key[separator] == level->last[separator])
				separator++;
			separator++;
		}
		level_add(tree, number + 1, key, separator, child, varint_encode(next, child));

		shared = 0;
		needed = 2 + size_length + length + payload_length;
	}

	if (level->nentries % TREE_RESTART == 0)
	{
		Assert(shared == 0);
		level->restarts[level->nrestarts++] = (uint16) level->used;
	}
	place = SearchPageContent(level->image) + level->used;
	*place++ = (char) shared;
	*place++ = (char) (length - shared);
	memcpy(place, size, size_length);
	place += size_length;
	memcpy(place, key + shared, length - shared);
	place += length - shared;
	memcpy(place, payload, payload_length);
	level->used += needed;
	level->nentries++;
	memcpy(level->last + shared, key + shared, length - shared);
	level->last_length = length;
}

/* Keys must ascend. */
void
tree_add(TreeBuilder *tree, const char *key, int length, const char *payload, uint32 payload_length)
{
	if (length <= 0 || length > SEARCH_MAX_TERM)
		elog(ERROR, "term of %d bytes", length);
	if (tree->nlevels > 0 &&
		key_compare(tree->levels[0]->last, tree->levels[0]->last_length, key, length) >= 0)
		elog(ERROR, "terms of a segment do not ascend");
	level_add(tree, 0, key, length, payload, payload_length);
}

void
tree_finish(TreeBuilder *tree, uint32 *root, uint32 *height, uint32 *first_leaf)
{
	*root = InvalidBlockNumber;
	*height = 0;
	*first_leaf = tree->first_leaf;
	for (int i = 0; i < tree->nlevels; i++)
	{
		TreeLevel *level = tree->levels[i];

		level_end_page(tree, level, InvalidBlockNumber);
		*root = level->page;
		*height = i;
		pfree(level->image);
		pfree(level);
	}
	pfree(tree);
}

/* --- reading --------------------------------------------------------------------------- */

/* A walk over the entries of a page. */
typedef struct TreeWalk
{
	const char *content;
	uint32 place; /* of the next entry */
	uint32 end;   /* of the entries */
	int length;
	char key[SEARCH_MAX_TERM];
	const char *payload;
	uint32 payload_length;
} TreeWalk;

static bool
walk_begin(TreeWalk *walk, const char *content, uint32 length)
{
	const TreePage *page = (const TreePage *) content;

	walk->content = content;
	walk->place = sizeof(TreePage);
	walk->length = 0;
	if (length < sizeof(TreePage) || page->nrestarts == 0 ||
		page->nrestarts > (length - sizeof(TreePage)) / sizeof(uint16) ||
		page->nrestarts != (page->nentries + TREE_RESTART - 1) / TREE_RESTART)
		return false;
	walk->end = length - page->nrestarts * sizeof(uint16);
	return walk->end % sizeof(uint16) == 0;
}

/* Splits an entry; false when it does not fit. */
static inline bool
walk_entry(TreeWalk *walk, uint32 at, uint32 *shared, const char **suffix, uint32 *suffix_length)
{
	const char *place = walk->content + at;
	const char *end = walk->content + walk->end;
	uint64 payload_length;

	if (at + 3 > walk->end)
		return false;
	*shared = (uint8) place[0];
	*suffix_length = (uint8) place[1];
	place += 2;
	if (!varint_decode(&place, end, &payload_length))
		return false;
	*suffix = place;
	if (*suffix_length > end - place)
		return false;
	place += *suffix_length;
	if (payload_length > end - place)
		return false;
	walk->payload = place;
	walk->payload_length = (uint32) payload_length;
	return true;
}

/* Takes the next entry, which must be there. */
static inline bool
walk_next(TreeWalk *walk)
{
	uint32 shared, suffix_length;
	const char *suffix;

	if (!walk_entry(walk, walk->place, &shared, &suffix, &suffix_length) || shared > walk->length ||
		shared + suffix_length > SEARCH_MAX_TERM)
		return false;
	memcpy(walk->key + shared, suffix, suffix_length);
	walk->length = shared + suffix_length;
	walk->place = walk->payload + walk->payload_length - walk->content;
	return true;
}

typedef enum TreeMatch
{
	TREE_NONE, /* all keys are greater */
	TREE_LESS, /* the walk is at the last that is less */
	TREE_EQUAL,
	TREE_BAD
} TreeMatch;

/* The last entry whose key is not greater. */
static TreeMatch
page_search(TreeWalk *walk, const char *content, uint32 length, const char *key, int key_length)
{
	const TreePage *page = (const TreePage *) content;
	const uint16 *restarts;
	uint32 low = 0;
	uint32 high, n;
	int order = -1;
	const char *payload = NULL;
	uint32 payload_length = 0;

	if (!walk_begin(walk, content, length))
		return TREE_BAD;
	restarts = (const uint16 *) (content + walk->end);

	/* Restarts before `low` are not greater. */
	high = page->nrestarts;
	while (low < high)
	{
		uint32 middle = (low + high) / 2;
		uint32 shared, suffix_length;
		const char *suffix;

		if (!walk_entry(walk, restarts[middle], &shared, &suffix, &suffix_length) || shared != 0)
			return TREE_BAD;
		if (key_compare(suffix, suffix_length, key, key_length) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0)
		return TREE_NONE;

	walk->place = restarts[low - 1];
	n = Min(TREE_RESTART, page->nentries - (low - 1) * TREE_RESTART);
	while (n-- > 0)
	{
		if (!walk_next(walk))
			return TREE_BAD;
		order = key_compare(walk->key, walk->length, key, key_length);
		if (order > 0)
			break;
		payload = walk->payload;
		payload_length = walk->payload_length;
		if (order == 0)
			break;
	}
	if (payload == NULL)
		return TREE_BAD;
	walk->payload = payload;
	walk->payload_length = payload_length;
	return order == 0 ? TREE_EQUAL : TREE_LESS;
}

/* --- terms ----------------------------------------------------------------------------- */

static inline bool
decode_pointer(const char **place, const char *end, SegmentPointer *pointer)
{
	uint64 page, offset;

	if (!varint_decode(place, end, &page) || !varint_decode(place, end, &offset) ||
		page >= MaxBlockNumber || offset > SEARCH_PAGE_CONTENT)
		return false;
	*pointer = SEGMENT_POINTER(page, offset);
	return true;
}

/*
 * The payload of a term, as segment_writer_end_term() makes it: df * 2, odd when the
 * postings follow; impact (2 bytes); then either the length of the postings, the
 * postings, and the positions to the end, or the pointers.
 */
static bool
decode_term(SegmentReader *reader, uint32 leaf, const TreeWalk *walk, TermInfo *info)
{
	const char *place = walk->payload;
	const char *end = place + walk->payload_length;
	uint64 df;
	uint16 impact;

	if (!varint_decode(&place, end, &df) || end - place < sizeof(impact))
		return false;
	memcpy(&impact, place, sizeof(impact));
	place += sizeof(impact);
	if (df < 2 || df / 2 > reader->header->ndocs)
		return false;
	info->df = (uint32) (df / 2);
	info->max_impact = impact;
	info->skips = 0;
	info->positions = 0;
	if (df & 1)
	{
		uint64 length;

		if (info->df > SEARCH_BLOCK_SIZE || !varint_decode(&place, end, &length) ||
			length > end - place)
			return false;
		info->postings = SEGMENT_POINTER(leaf, place - walk->content);
		if (reader->settings->positions)
			info->positions = SEGMENT_POINTER(leaf, place - walk->content + length);
		return true;
	}
	return decode_pointer(&place, end, &info->postings) &&
		   (info->df <= SEARCH_BLOCK_SIZE || decode_pointer(&place, end, &info->skips)) &&
		   (!reader->settings->positions || decode_pointer(&place, end, &info->positions));
}

bool
segment_find_term(SegmentReader *reader, const char *term, int length, TermInfo *info)
{
	uint32 page = reader->header->terms_root;
	TreeWalk walk;
	SegmentView view;

	if (page == InvalidBlockNumber || length <= 0 || length > SEARCH_MAX_TERM)
		return false;
	for (uint32 level = reader->header->terms_height; level > 0; level--)
	{
		TreeMatch match;
		const char *place;
		uint64 child = 0;

		if (!segment_view(reader, page, InvalidBuffer, &view))
			return false;
		match = page_search(&walk, view.content, view.length, term, length);
		place = walk.payload;
		if (match == TREE_NONE || match == TREE_BAD ||
			!varint_decode(&place, walk.payload + walk.payload_length, &child) ||
			child >= reader->header->npages)
			match = TREE_BAD;
		segment_view_end(&view);
		if (match == TREE_BAD)
			segment_corrupted(reader, page, "is not an inner page of a dictionary");
		page = (uint32) child;
	}

	if (!segment_view(reader, page, InvalidBuffer, &view))
		return false;
	{
		TreeMatch match = page_search(&walk, view.content, view.length, term, length);

		if (match == TREE_EQUAL && !decode_term(reader, page, &walk, info))
			match = TREE_BAD;
		segment_view_end(&view);
		if (match == TREE_BAD)
			segment_corrupted(reader, page, "is not a leaf of a dictionary");
		return match == TREE_EQUAL;
	}
}

/* --- cursors --------------------------------------------------------------------------- */

/* Over the leaves of either tree. */
struct TermCursor
{
	SegmentReader *reader;
	SegmentPage leaf;
	uint32 left; /* entries on the page */
	TreeWalk walk;
};

struct WordCursor
{
	TermCursor entries;
};

static void
cursor_begin(TermCursor *cursor, SegmentReader *reader, uint32 root, uint32 first_leaf)
{
	memset(cursor, 0, sizeof(TermCursor));
	cursor->reader = reader;
	cursor->leaf.page = InvalidBlockNumber;
	cursor->leaf.next = root == InvalidBlockNumber ? InvalidBlockNumber : first_leaf;
}

static bool
cursor_next(TermCursor *cursor)
{
	SegmentPage *leaf = &cursor->leaf;

	if (cursor->left == 0)
	{
		if (leaf->next == InvalidBlockNumber)
			return false;
		CHECK_FOR_INTERRUPTS();
		if (!segment_copy_page(cursor->reader, leaf->next, leaf))
		{
			leaf->next = InvalidBlockNumber;
			return false;
		}
		if (!walk_begin(&cursor->walk, SegmentPageContent(leaf), leaf->length))
			segment_corrupted(cursor->reader, leaf->page, "is not a leaf of a dictionary");
		cursor->left = ((const TreePage *) SegmentPageContent(leaf))->nentries;
	}
	if (!walk_next(&cursor->walk))
		segment_corrupted(cursor->reader, leaf->page, "is not a leaf of a dictionary");
	cursor->left--;
	return true;
}

TermCursor *
term_cursor_open(SegmentReader *reader)
{
	TermCursor *cursor = palloc(sizeof(TermCursor));

	cursor_begin(cursor, reader, reader->header->terms_root, reader->header->terms_first_leaf);
	return cursor;
}

bool
term_cursor_next(TermCursor *cursor, const char **term, int *length, TermInfo *info)
{
	if (!cursor_next(cursor))
		return false;
	if (!decode_term(cursor->reader, cursor->leaf.page, &cursor->walk, info))
		segment_corrupted(cursor->reader, cursor->leaf.page, "has a wrong term");
	*term = cursor->walk.key;
	*length = cursor->walk.length;
	return true;
}

/* The leaf that the cursor is on: short postings lie there. */
const SegmentPage *
term_cursor_leaf(const TermCursor *cursor)
{
	return &cursor->leaf;
}

void
term_cursor_close(TermCursor *cursor)
{
	if (cursor->leaf.image != NULL)
		pfree(cursor->leaf.image);
	pfree(cursor);
}

WordCursor *
word_cursor_open(SegmentReader *reader)
{
	WordCursor *cursor = palloc(sizeof(WordCursor));

	cursor_begin(
		&cursor->entries, reader, reader->header->words_root, reader->header->words_first_leaf);
	return cursor;
}

bool
word_cursor_next(WordCursor *cursor, const char **word, int *length, uint32 *df)
{
	TermCursor *entries = &cursor->entries;
	const char *place;
	uint64 value;

	if (!cursor_next(entries))
		return false;
	place = entries->walk.payload;
	if (!varint_decode(&place, place + entries->walk.payload_length, &value))
		segment_corrupted(entries->reader, entries->leaf.page, "has a wrong word");
	*word = entries->walk.key;
	*length = entries->walk.length;
	*df = (uint32) Min(value, PG_UINT32_MAX);
	return true;
}

void
word_cursor_close(WordCursor *cursor)
{
	if (cursor->entries.leaf.image != NULL)
		pfree(cursor->entries.leaf.image);
	pfree(cursor);
}
