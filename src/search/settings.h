/*
 * settings.h
 *		What an index was declared with: its columns, weights and options.
 *
 * Taken from the relation's catalog entry, and from the meta page what a built
 * index cannot change; kept in rd_amcache by search_settings(), so that it
 * costs nothing the second time.  Valid until the next invalidation of the
 * relation: a caller that keeps it longer copies.
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
	bool positions;    /* are kept: as the index was built, or is to be built */
	int pending_limit; /* kB of write buffer before it becomes a segment */
	Oid config; /* text search configuration; InvalidOid when it is gone: search_config() says so */
	uint32 config_epoch; /* private */
} SearchSettings;

/* Of an index, built or not, or a partitioned index. Errors: no text column, too many columns. */
extern const SearchSettings *search_settings(Relation index);

/* The index's text search configuration; ERRCODE_UNDEFINED_OBJECT with its name and a hint when it is not there. */
extern Oid search_config(Relation index);

/* The same by the reloptions alone, as search_options() returns them (may be NULL); InvalidOid when it is not there. */
extern Oid search_config_of(const bytea *options);

/* Records that an index depends on its configuration, and on no other one; does nothing to other relations. */
extern void search_depend_on_config(Oid index);

/* Opens an index for reading; an error when it is none of pgopt_bm25, or is not there to be read. */
extern Relation search_open_index(Oid index, LOCKMODE lockmode);

/* Registers the reloptions (settings.c). */
extern void search_register_options(void);

/* Watches indexes that are made or altered (dependency.c). */
extern void search_dependency_init(void);

/* amoptions. */
extern bytea *search_options(Datum reloptions, bool validate);

#endif /* PGOPT_SEARCH_SETTINGS_H */
