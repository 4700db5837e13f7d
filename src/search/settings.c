/*
 * settings.c
 *		What an index was declared with: its columns, weights and options.
 *
 * The settings are one chunk in the relation's rd_amcache, made at first use
 * and thrown away by the server with any change of the index.  Whether
 * positions are kept is the built index's own business: the meta page says
 * so, and another option than that waits for REINDEX.
 *
 * A text search configuration without a schema is looked for among the
 * server's, then in pgopt's schema, and nowhere else: what an index means
 * must not depend on a session's search_path.
 *
 * Locks: none but for the meta page, read once.
 */
#include "pgopt.h"

#include "access/relation.h"
#include "access/reloptions.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_ts_config.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "handler.h"
#include "pages.h"
#include "search.h"
#include "settings.h"

PG_FUNCTION_INFO_V1(pgopt_text_options);

#define DEFAULT_CONFIG "pgopt_portuguese"

#define CONFIG_HINT                                                                           \
	"Without a schema, text_config names a configuration of the server's or of pgopt's own. " \
	"Name others as 'schema.name'."

/* Parsed reloptions. */
typedef struct SearchOptions
{
	int32 vl_len_;
	double k1;
	double b;
	int text_config; /* offset of the string, 0 = default */
	bool positions;
	int pending_limit;
} SearchOptions;

/* Parsed options of a text column. */
typedef struct TextOptions
{
	int32 vl_len_;
	double weight; /* 0 = not given */
} TextOptions;

#define DEFAULT_K1            0.9
#define DEFAULT_B             0.4
#define DEFAULT_PENDING_LIMIT 1024 /* kB */

static relopt_kind option_kind;

/* Moves when any text search configuration is made, dropped or renamed: an index names its own. */
static uint32 config_epoch = 0;
static bool watches_configs = false;

/* --- text search configurations ---------------------------------------------------- */

static Oid
config_in_schema(Oid schema, const char *name)
{
	return GetSysCacheOid2(
		TSCONFIGNAMENSP, Anum_pg_ts_config_oid, PointerGetDatum(name), ObjectIdGetDatum(schema));
}

/* Where the access method's handler is, pgopt's own objects are. */
static Oid
own_schema(void)
{
	HeapTuple tuple = SearchSysCache1(AMNAME, CStringGetDatum("pgopt_bm25"));
	Oid schema = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		schema = get_func_namespace(((Form_pg_am) GETSTRUCT(tuple))->amhandler);
		ReleaseSysCache(tuple);
	}
	return schema;
}

/* OID of a configuration, or InvalidOid; an error when the name cannot be read as one. */
static Oid
find_config(const char *name)
{
	List *names = textToQualifiedNameList(cstring_to_text(name));
	char *schema_name;
	char *config_name;
	Oid schema;
	Oid config;

	DeconstructQualifiedName(names, &schema_name, &config_name);
	if (schema_name != NULL)
	{
		schema = get_namespace_oid(schema_name, true);
		return OidIsValid(schema) ? config_in_schema(schema, config_name) : InvalidOid;
	}
	config = config_in_schema(PG_CATALOG_NAMESPACE, config_name);
	if (!OidIsValid(config) && OidIsValid(schema = own_schema()))
		config = config_in_schema(schema, config_name);
	return config;
}

static void
validate_config(const char *name)
{
	if (name != NULL && !OidIsValid(find_config(name)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("text search configuration \"%s\" does not exist", name),
				 errhint(CONFIG_HINT)));
}

static const char *
config_name(const bytea *options)
{
	int offset = options == NULL ? 0 : ((const SearchOptions *) options)->text_config;

	return offset == 0 ? DEFAULT_CONFIG : (const char *) options + offset;
}

Oid
search_config_of(const bytea *options)
{
	return find_config(config_name(options));
}

Oid
search_config(Relation index)
{
	const SearchSettings *settings = search_settings(index);

	if (!OidIsValid(settings->config))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("text search configuration \"%s\" of index \"%s\" does not exist",
						config_name(index->rd_options),
						RelationGetRelationName(index)),
				 errhint("Create it again, or choose another one with ALTER INDEX %s SET "
						 "(text_config = '...') and REINDEX INDEX %s.",
						 RelationGetRelationName(index),
						 RelationGetRelationName(index))));
	return settings->config;
}

/* --- options ------------------------------------------------------------------------- */

static void
forget_configs(Datum arg, int cacheid, uint32 hashvalue)
{
	config_epoch++;
}

void
search_register_options(void)
{
	option_kind = add_reloption_kind();
	add_real_reloption(option_kind,
					   "k1",
					   "How soon more occurrences of a word stop to count (BM25)",
					   DEFAULT_K1,
					   0.0,
					   10.0,
					   ShareUpdateExclusiveLock);
	add_real_reloption(option_kind,
					   "b",
					   "How much longer documents count less (BM25)",
					   DEFAULT_B,
					   0.0,
					   1.0,
					   ShareUpdateExclusiveLock);
	add_string_reloption(
		option_kind,
		"text_config",
		"Text search configuration of documents and queries; a change needs REINDEX",
		NULL,
		validate_config,
		ShareUpdateExclusiveLock);
	add_bool_reloption(option_kind,
					   "positions",
					   "Keep where words stand, for phrases; a change needs REINDEX",
					   true,
					   ShareUpdateExclusiveLock);
	add_int_reloption(option_kind,
					  "pending_limit",
					  "Size of the write buffer, in kB",
					  DEFAULT_PENDING_LIMIT,
					  64,
					  1024 * 1024,
					  ShareUpdateExclusiveLock);
}

bytea *
search_options(Datum reloptions, bool validate)
{
	static const relopt_parse_elt table[] = {
		{.optname = "k1", .opttype = RELOPT_TYPE_REAL, .offset = offsetof(SearchOptions, k1)},
		{.optname = "b", .opttype = RELOPT_TYPE_REAL, .offset = offsetof(SearchOptions, b)},
		{.optname = "text_config",
		 .opttype = RELOPT_TYPE_STRING,
		 .offset = offsetof(SearchOptions, text_config)},
		{.optname = "positions",
		 .opttype = RELOPT_TYPE_BOOL,
		 .offset = offsetof(SearchOptions, positions)},
		{.optname = "pending_limit",
		 .opttype = RELOPT_TYPE_INT,
		 .offset = offsetof(SearchOptions, pending_limit)},
	};

	return (bytea *) build_reloptions(
		reloptions, validate, option_kind, sizeof(SearchOptions), table, lengthof(table));
}

/* Options of the operator classes for text that is searched. */
Datum
pgopt_text_options(PG_FUNCTION_ARGS)
{
	local_relopts *options = (local_relopts *) PG_GETARG_POINTER(0);

	init_local_reloptions(options, sizeof(TextOptions));
	add_local_real_reloption(options,
							 "weight",
							 "how much a word in this column counts",
							 0.0, /* not given */
							 0.01,
							 1000.0,
							 offsetof(TextOptions, weight));
	PG_RETURN_VOID();
}

/* --- columns ---------------------------------------------------------------------------- */

static void
add_filter(SearchSettings *settings, Relation index, int column)
{
	Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(index), column);
	SearchFilterColumn *filter;

	if (settings->nfilters == SEARCH_MAX_FILTERS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a pgopt_bm25 index has at most %d filter columns", SEARCH_MAX_FILTERS)));
	filter = &settings->filters[settings->nfilters++];
	filter->attno = column + 1;
	filter->type = attribute->atttypid;
	filter->typlen = attribute->attlen;
	filter->typbyval = attribute->attbyval;
	filter->typalign = attribute->attalign;
	filter->collation = index->rd_indcollation[column];

	/* A partitioned index has no functions ready, and is never scanned itself. */
	if (index->rd_supportinfo != NULL)
		fmgr_info_copy(&filter->compare,
					   index_getprocinfo(index, column + 1, SEARCH_PROC_COMPARE),
					   index->rd_indexcxt);
}

/* When no weight is given at all, the first of several columns (the title) weighs twice the others. */
static void
set_weights(SearchSettings *settings, Relation index)
{
	bytea **options = RelationGetIndexAttOptions(index, false);
	bool given = false;

	for (int field = 0; field < settings->nfields; field++)
	{
		TextOptions *parsed = (TextOptions *) options[settings->fields[field] - 1];

		settings->weights[field] = 1.0;
		if (parsed == NULL || parsed->weight == 0.0)
			continue;
		settings->weights[field] = (float4) parsed->weight;
		given = true;
	}
	if (!given && settings->nfields > 1)
		settings->weights[0] = 2.0;
}

/* What was decided when the index was built. */
static void
read_built(SearchSettings *settings, Relation index)
{
	SearchMeta *meta;

	if (index->rd_rel->relkind != RELKIND_INDEX || RelationGetNumberOfBlocks(index) == 0)
		return;
	meta = search_read_meta(index);
	if (meta->nfields != settings->nfields || meta->nfilters != settings->nfilters)
		search_corrupted(
			index, SEARCH_META_BLOCK, "The page tells of other columns than the catalog.");
	settings->positions = meta->positions;
	pfree(meta);
}

const SearchSettings *
search_settings(Relation index)
{
	SearchOptions *options = (SearchOptions *) index->rd_options;
	SearchSettings *settings;

	if (index->rd_amcache != NULL)
	{
		settings = index->rd_amcache;
		if (settings->config_epoch != config_epoch)
		{
			uint32 epoch = config_epoch;
			Oid config = search_config_of(index->rd_options);

			/* the look-up may have thrown the settings away */
			if (index->rd_amcache == NULL)
				return search_settings(index);
			settings = index->rd_amcache;
			settings->config = config;
			settings->config_epoch = epoch;
		}
		return settings;
	}
	if (!watches_configs)
		CacheRegisterSyscacheCallback(TSCONFIGNAMENSP, forget_configs, (Datum) 0);
	watches_configs = true;

	settings = MemoryContextAllocZero(index->rd_indexcxt, sizeof(SearchSettings));
	for (int column = 0; column < IndexRelationGetNumberOfKeyAttributes(index); column++)
	{
		if (OidIsValid(index_getprocid(index, column + 1, SEARCH_PROC_COMPARE)))
			add_filter(settings, index, column);
		else if (settings->nfields == SEARCH_MAX_FIELDS)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("a pgopt_bm25 index has at most %d text columns", SEARCH_MAX_FIELDS),
					 errhint("Columns that only filter take the operator class pgopt_filter_ops; "
							 "several texts can be one expression.")));
		else
			settings->fields[settings->nfields++] = column + 1;
	}
	if (settings->nfields == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("a pgopt_bm25 index needs a text column"),
				 errhint("Columns of type text are searched unless they take the operator class "
						 "pgopt_filter_ops.")));
	while ((1 << settings->field_bits) < settings->nfields)
		settings->field_bits++;
	set_weights(settings, index);

	settings->k1 = (float4) (options != NULL ? options->k1 : DEFAULT_K1);
	settings->b = (float4) (options != NULL ? options->b : DEFAULT_B);
	settings->positions = options != NULL ? options->positions : true;
	settings->pending_limit = options != NULL ? options->pending_limit : DEFAULT_PENDING_LIMIT;
	settings->config_epoch = config_epoch;
	settings->config = search_config_of(index->rd_options);
	read_built(settings, index);

	/* Looking up catalogs may have made another one meanwhile. */
	if (index->rd_amcache != NULL)
		pfree(settings);
	else
		index->rd_amcache = settings;
	return index->rd_amcache;
}

/* --- opening ------------------------------------------------------------------------------ */

Relation
search_open_index(Oid oid, LOCKMODE lockmode)
{
	Relation index = relation_open(oid, lockmode);

	if ((index->rd_rel->relkind != RELKIND_INDEX &&
		 index->rd_rel->relkind != RELKIND_PARTITIONED_INDEX) ||
		index->rd_rel->relam != search_access_method())
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a pgopt_bm25 index", RelationGetRelationName(index))));
	if (index->rd_rel->relkind == RELKIND_PARTITIONED_INDEX)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is a partitioned index", RelationGetRelationName(index)),
				 errhint("Name the index of one of its partitions: see pg_inherits.")));
	if (RELATION_IS_OTHER_TEMP(index))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot access temporary indexes of other sessions")));
	return index;
}
