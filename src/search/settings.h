/*
 * settings.h
 *		What an index was declared with: its columns, weights and options.
 *
 * Taken from the relation's catalog entry; kept in rd_amcache's place by
 * search_settings(), so that it costs nothing the second time.  Valid until
 * the next invalidation of the relation: a caller that keeps it longer copies.
 */
#ifndef PGOPT_SEARCH_SETTINGS_H
#define PGOPT_SEARCH_SETTINGS_H

#include "format.h"

#include "fmgr.h"
#include "utils/rel.h"

typedef struct SearchFilterColumn
{
	AttrNumber attno; /* in the index, from 1 */
	Oid type;
	int16 typlen;
	bool typbyval;
	char typalign;
	Oid collation;
	FmgrInfo compare; /* support function 1: btree comparison */
} SearchFilterColumn;

typedef struct SearchSettings
{
	int nfields;
	AttrNumber fields[SEARCH_MAX_FIELDS]; /* index columns, from 1 */
	float4 weights[SEARCH_MAX_FIELDS];
	int field_bits; /* bits of a position that tell the field: 0 for one field */
	int nfilters;
	SearchFilterColumn filters[SEARCH_MAX_FILTERS];
	float4 k1;
	float4 b;
	bool positions;
	int pending_limit; /* kB of write buffer before it becomes a segment */
	Oid config;        /* text search configuration */
} SearchSettings;

extern const SearchSettings *search_settings(Relation index);

#endif /* PGOPT_SEARCH_SETTINGS_H */
