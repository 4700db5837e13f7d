/*
 * postings.c
 *		Bit packing: blocks of 128 numbers, blocks of postings.
 *
 * Numbers of a full block lie in four lanes of 32-bit words, so that four of
 * them are unpacked by one vector instruction (Lemire and Boytsov, "Decoding
 * billions of integers per second through vectorization", 2015); the vectors
 * are the compiler's, so that this is plain C everywhere.  Numbers of a
 * shorter block follow each other bit by bit.  Few wide numbers do not widen
 * the others: their upper bits are kept apart (Zukowski et al., "Super-scalar
 * RAM-CPU cache compression", 2006).
 *
 * A block of postings:
 *		differences of the document numbers, less 1	(packed)
 *		mask of the fields that occur					(1 byte)
 *		for each of them the occurrences				(packed)
 * where the occurrences of a lone field are less 1, being never 0.
 *
 * Cost: about 0.3 ns a number to unpack, 2 ns to pack.  Nothing is allocated.
 */
#include "postgres.h"

#include "port/pg_bswap.h"

#include "segment_private.h"

typedef uint32 Lanes __attribute__((vector_size(16)));

#define LANES        4
#define LANES_GROUPS (SEARCH_BLOCK_SIZE / LANES)

static inline Lanes
lanes_load(const void *in, int i)
{
	Lanes lanes;

	memcpy(&lanes, (const char *) in + i * sizeof(Lanes), sizeof(Lanes));
	return lanes;
}

static inline void
lanes_store(void *out, int i, Lanes lanes)
{
	memcpy((char *) out + i * sizeof(Lanes), &lanes, sizeof(Lanes));
}

static inline uint32
low_bits(int width)
{
	return width == 32 ? PG_UINT32_MAX : ((uint32) 1 << width) - 1;
}

static inline int
number_width(uint32 number)
{
	return number == 0 ? 0 : pg_leftmost_one_pos32(number) + 1;
}

/* Bytes that the low bits of n numbers take. */
static inline uint32
low_bytes(int n, int width)
{
	return ((uint32) n * width + 7) / 8;
}

/* --- packing ------------------------------------------------------------------------- */

static void
pack_lanes(const uint32 *numbers, int width, char *out)
{
	Lanes mask = low_bits(width) - (Lanes){0, 0, 0, 0};
	Lanes word = {0, 0, 0, 0};
	int shift = 0;

	for (int i = 0; i < LANES_GROUPS; i++)
	{
		Lanes lanes = lanes_load(numbers, i) & mask;

		word |= lanes << shift;
		shift += width;
		if (shift >= 32)
		{
			lanes_store(out, 0, word);
			out += sizeof(Lanes);
			shift -= 32;
			if (shift > 0)
				word = lanes >> (width - shift);
			else
				word = (Lanes){0, 0, 0, 0};
		}
	}
}

static void
pack_bits(const uint32 *numbers, int n, int width, char *out)
{
	uint32 mask = low_bits(width);
	uint64 word = 0;
	int bits = 0;

	for (int i = 0; i < n; i++)
	{
		word |= (uint64) (numbers[i] & mask) << bits;
		for (bits += width; bits >= 8; bits -= 8)
		{
			*out++ = (char) word;
			word >>= 8;
		}
	}
	if (bits > 0)
		*out = (char) word;
}

/* The width at which n numbers take the fewest bytes. */
static int
choose_width(const uint32 *numbers, int n, bool *exceptions)
{
	int counts[33] = {0};
	int widest = 32;
	int best;
	int wider = 0;
	uint32 best_size;

	for (int i = 0; i < n; i++)
		counts[number_width(numbers[i])]++;
	while (widest > 0 && counts[widest] == 0)
		widest--;

	best = widest;
	best_size = low_bytes(n, widest);
	for (int width = widest - 1; width >= 0; width--)
	{
		uint32 size = low_bytes(n, width) + 1;

		wider += counts[width + 1];
		if (wider > PACK_MAX_EXCEPTION)
			break;
		for (int i = width + 1; i <= widest; i++)
			size += counts[i] * (1 + (i - width + 6) / 7);
		if (size < best_size)
		{
			best = width;
			best_size = size;
		}
	}
	*exceptions = best < widest;
	return best;
}

uint32
pack_numbers(const uint32 *numbers, int n, char *out)
{
	bool exceptions;
	int width = choose_width(numbers, n, &exceptions);
	char *place = out;

	*place++ = (char) (width | (exceptions ? PACK_EXCEPTIONS : 0));
	if (width > 0)
	{
		if (n == SEARCH_BLOCK_SIZE)
			pack_lanes(numbers, width, place);
		else
			pack_bits(numbers, n, width, place);
		place += low_bytes(n, width);
	}
	if (exceptions)
	{
		char *count = place++;

		*count = 0;
		for (int i = 0; i < n; i++)
		{
			uint32 rest = numbers[i] >> width;

			if (rest > 0)
			{
				(*count)++;
				*place++ = (char) i;
				place += varint_encode(rest, place);
			}
		}
	}
	return place - out;
}

/* --- unpacking ----------------------------------------------------------------------- */

/* With a constant width this becomes a few shifts without a branch. */
static pg_attribute_always_inline void
unpack_group(const char *in, uint32 *out, const int width, const int group, Lanes mask, Lanes base)
{
	const int word = group * width / 32;
	const int shift = group * width % 32;
	Lanes lanes = lanes_load(in, word) >> shift;

	if (shift + width > 32)
		lanes |= lanes_load(in, word + 1) << (32 - shift);
	lanes_store(out, group, (lanes & mask) + base);
}

#define UNPACK_4(w, i)                             \
	unpack_group(in, out, w, (i), mask, base);     \
	unpack_group(in, out, w, (i) + 1, mask, base); \
	unpack_group(in, out, w, (i) + 2, mask, base); \
	unpack_group(in, out, w, (i) + 3, mask, base)
#define UNPACK_CASE(w)   \
	case w:              \
		UNPACK_4(w, 0);  \
		UNPACK_4(w, 4);  \
		UNPACK_4(w, 8);  \
		UNPACK_4(w, 12); \
		UNPACK_4(w, 16); \
		UNPACK_4(w, 20); \
		UNPACK_4(w, 24); \
		UNPACK_4(w, 28); \
		break

static void
unpack_lanes(const char *in, int width, uint32 added, uint32 *out)
{
	const Lanes zero = {0, 0, 0, 0};
	const Lanes mask = low_bits(width) - zero;
	const Lanes base = added - zero;

	/* clang-format off */
	switch (width)
	{
		UNPACK_CASE(1); UNPACK_CASE(2); UNPACK_CASE(3); UNPACK_CASE(4);
		UNPACK_CASE(5); UNPACK_CASE(6); UNPACK_CASE(7); UNPACK_CASE(8);
		UNPACK_CASE(9); UNPACK_CASE(10); UNPACK_CASE(11); UNPACK_CASE(12);
		UNPACK_CASE(13); UNPACK_CASE(14); UNPACK_CASE(15); UNPACK_CASE(16);
		UNPACK_CASE(17); UNPACK_CASE(18); UNPACK_CASE(19); UNPACK_CASE(20);
		UNPACK_CASE(21); UNPACK_CASE(22); UNPACK_CASE(23); UNPACK_CASE(24);
		UNPACK_CASE(25); UNPACK_CASE(26); UNPACK_CASE(27); UNPACK_CASE(28);
		UNPACK_CASE(29); UNPACK_CASE(30); UNPACK_CASE(31); UNPACK_CASE(32);
		default:
			for (int i = 0; i < LANES_GROUPS; i++)
				lanes_store(out, i, base);
	}
	/* clang-format on */
}

static void
unpack_bits(const char *in, int n, int width, uint32 base, uint32 *out)
{
	uint32 mask = low_bits(width);

	for (int i = 0; i < n; i++)
	{
		uint32 bit = (uint32) i * width;
		uint64 word;

		memcpy(&word, in + bit / 8, sizeof(word));
#ifdef WORDS_BIGENDIAN
		word = pg_bswap64(word);
#endif
		out[i] = ((uint32) (word >> bit % 8) & mask) + base;
	}
}

/* Adds the upper bits of the wide numbers; or, out being NULL, only finds their end. */
static uint32
unpack_exceptions(const char *in, uint32 available, int n, int width, uint32 *out)
{
	const char *place = in;
	const char *end = in + available;
	int count;

	if (available < 1)
		return 0;
	count = (uint8) *place++;
	while (count-- > 0)
	{
		uint64 rest;
		uint8 i;

		if (place >= end)
			return 0;
		i = (uint8) *place++;
		if (!varint_decode(&place, end, &rest) || i >= n)
			return 0;
		if (out != NULL)
			out[i] += (uint32) rest << width;
	}
	return place - in;
}

/* Splits the first byte; false when the numbers do not fit. */
static inline bool
pack_header(const char *in, uint32 available, int n, int *width, bool *exceptions, uint32 *size)
{
	uint8 header;

	if (available < 1)
		return false;
	header = (uint8) *in;
	*exceptions = (header & PACK_EXCEPTIONS) != 0;
	*width = header & ~PACK_EXCEPTIONS;
	if (*width > 32 - (*exceptions ? 1 : 0))
		return false;
	*size = 1 + low_bytes(n, *width);
	return *size <= available;
}

uint32
unpack_numbers(const char *in, uint32 available, int n, uint32 base, uint32 *out)
{
	int width;
	bool exceptions;
	uint32 size;

	if (!pack_header(in, available, n, &width, &exceptions, &size))
		return 0;
	if (n == SEARCH_BLOCK_SIZE)
		unpack_lanes(in + 1, width, base, out);
	else
		unpack_bits(in + 1, n, width, base, out);
	if (unlikely(exceptions))
	{
		uint32 more = unpack_exceptions(in + size, available - size, n, width, out);

		if (more == 0)
			return 0;
		size += more;
	}
	return size;
}

uint32
packed_size(const char *in, uint32 available, int n)
{
	int width;
	bool exceptions;
	uint32 size;

	if (!pack_header(in, available, n, &width, &exceptions, &size))
		return 0;
	if (exceptions)
	{
		uint32 more = unpack_exceptions(in + size, available - size, n, width, NULL);

		if (more == 0)
			return 0;
		size += more;
	}
	return size;
}

/* --- blocks of postings ---------------------------------------------------------------- */

uint32
block_encode(const uint32 *docs, uint32 (*tf)[SEARCH_BLOCK_SIZE], int n, int nfields,
			 int64 previous, char *out)
{
	uint32 numbers[SEARCH_BLOCK_SIZE];
	uint32 fields = 0;
	uint32 lone;
	char *place = out;

	for (int i = 0; i < n; i++)
	{
		numbers[i] = (uint32) (docs[i] - previous - 1);
		previous = docs[i];
	}
	place += pack_numbers(numbers, n, place);

	for (int field = 0; field < nfields; field++)
	{
		uint32 any = 0;

		for (int i = 0; i < n; i++)
			any |= tf[field][i];
		if (any != 0)
			fields |= (uint32) 1 << field;
	}
	*place++ = (char) fields;

	lone = (fields & (fields - 1)) == 0 ? 1 : 0;
	for (int field = 0; field < nfields; field++)
	{
		if ((fields & ((uint32) 1 << field)) == 0)
			continue;
		for (int i = 0; i < n; i++)
			numbers[i] = tf[field][i] - lone;
		place += pack_numbers(numbers, n, place);
	}
	return place - out;
}

uint32
block_decode(const char *in, uint32 available, int n, int nfields, int64 previous, uint32 ndocs,
			 uint32 *docs, uint32 (*tf)[SEARCH_BLOCK_SIZE], uint32 *fields)
{
	uint32 size = unpack_numbers(in, available, n, 0, docs);
	uint32 mask, lone;
	uint64 doc = (uint64) previous;

	if (size == 0 || size >= available)
		return 0;
	/* In 64 bits, so that nothing wraps around unseen; previous may be -1, which does. */
	for (int i = 0; i < n; i++)
	{
		doc += (uint64) docs[i] + 1;
		docs[i] = (uint32) doc;
	}
	if (doc >= ndocs)
		return 0;

	mask = (uint8) in[size++];
	if (mask == 0 || mask >> nfields != 0)
		return 0;
	*fields = mask;
	lone = (mask & (mask - 1)) == 0 ? 1 : 0;
	while (mask != 0)
	{
		int field = pg_rightmost_one_pos32(mask);
		uint32 part = unpack_numbers(in + size, available - size, n, lone, tf[field]);

		if (part == 0)
			return 0;
		size += part;
		mask &= mask - 1;
	}
	return size;
}
