/*
 * text_length.c
 *		How many letters a text has, without looking at each.
 *
 * In UTF-8 a letter is one byte that does not begin with the bits 10, and those
 * that follow it, which do.  Eight bytes are looked at together (Warren,
 * Hacker's Delight, 2nd edition, section 5-1).  Other encodings count as the
 * server does.
 */
#include "pgopt.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"

#include "compat.h"

PG_FUNCTION_INFO_V1(pgopt_text_length);

#define LOWEST_BITS UINT64CONST(0x0101010101010101)

/* Bytes that continue a letter. */
static int
continuing_bytes(const char *data, int length)
{
	int continuing = 0;
	int i = 0;

	for (; i + (int) sizeof(uint64) <= length; i += sizeof(uint64))
	{
		uint64 bytes;

		memcpy(&bytes, data + i, sizeof(bytes));
		/* the highest bit set and the next one not, as a 1 in each such byte; then their sum */
		bytes = (bytes >> 7) & (~bytes >> 6) & LOWEST_BITS;
		continuing += (int) ((bytes * LOWEST_BITS) >> 56);
	}
	for (; i < length; i++)
		continuing += ((unsigned char) data[i] & 0xC0) == 0x80;
	return continuing;
}

Datum
pgopt_text_length(PG_FUNCTION_ARGS)
{
	text *value = PG_GETARG_TEXT_PP(0);
	const char *data = VARDATA_ANY(value);
	int length = VARSIZE_ANY_EXHDR(value);

	if (GetDatabaseEncoding() == PG_UTF8)
		length -= continuing_bytes(data, length);
	else
		length = pg_mbstrlen_with_len(data, length);
	PG_RETURN_INT32(length);
}
