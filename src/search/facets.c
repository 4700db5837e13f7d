/*
 * facets.c
 *		Counts by the values of columns: pgopt_facets(), pgopt_distribution().
 *
 * Where the columns are filter columns of the index, one pass over the index
 * counts codes; values are looked up at the end.  Counts are exact: a row
 * counts when the caller's snapshot sees it.  For that the table's visibility
 * map is asked first, and it may be trusted only while VACUUM cannot take
 * pointers out of the index (a pointer that was read before, to a row that is
 * gone since, would count on a page that is all-visible by now): the
 * structure lock is held, shared, or else, and on a standby, every row is
 * looked up.
 *
 * Under row level security, without an index, or for other columns, the
 * counts are SQL over the table.
 *
 * Memory: counters for each value of each part of the index.  Cost: a few
 * nanoseconds a matching row on pages that are all-visible, a look-up in the
 * table for the others.
 */
#include "pgopt.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/visibilitymap.h"
#include "access/xlog.h"
#include "catalog/index.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"

#include "core.h"
#include "pages.h"
#include "plan.h"
#include "scan.h"
#include "search.h"
#include "search_function.h"
#include "statement.h"

PG_FUNCTION_INFO_V1(pgopt_facets);
PG_FUNCTION_INFO_V1(pgopt_distribution);

#define MAX_COLUMNS SEARCH_MAX_FILTERS

/* One value of a column, and what was counted for it. */
typedef struct FacetGroup
{
	Datum value;
	bool null;
	int64 documents;
	int64 matching;
	Datum latest;
	bool has_latest;
} FacetGroup;

typedef struct GroupList
{
	FacetGroup *groups;
	int n;
	int allocated;
} GroupList;

/* Counters of one column within one part of the index, by code. */
typedef struct CodeCounts
{
	uint32 n;
	int64 *counts;
	uint32 *latest; /* greatest code of the column whose latest value is asked for */
} CodeCounts;

/* A pass over one index. */
typedef struct FacetPass
{
	Relation index;
	Relation heap;
	SearchView *view;
	int ncolumns;
	int filters[MAX_COLUMNS];
	bool want_latest; /* the last column is not counted but asked for its greatest value */
	bool trust_map;
	Buffer map;
	BlockNumber map_block; /* the block asked for last ... */
	bool map_visible;      /* ... and the answer */
	IndexFetchTableData *fetch;
	TupleTableSlot *slot;
	int nparts;
	CodeCounts (*parts)[MAX_COLUMNS];
} FacetPass;

/* --- counting --------------------------------------------------------------------------- */

static bool
row_visible(FacetPass *pass, ItemPointer tid)
{
	ItemPointerData place = *tid;
	bool again = false;
	bool dead = false;
	bool visible;

	if (pass->trust_map)
	{
		BlockNumber block = ItemPointerGetBlockNumber(tid);

		if (block != pass->map_block)
		{
			pass->map_visible = VM_ALL_VISIBLE(pass->heap, block, &pass->map);
			pass->map_block = block;
		}
		if (pass->map_visible)
			return true;
	}
	visible = table_index_fetch_tuple(
		pass->fetch, &place, GetActiveSnapshot(), pass->slot, &again, &dead);
	ExecClearTuple(pass->slot);
	return visible;
}

static CodeCounts *
counters(FacetPass *pass, int part, int column, uint32 code)
{
	CodeCounts *counts;

	if (part >= pass->nparts)
	{
		int n = part + 8;

		pass->parts = pass->parts == NULL ? palloc0(n * sizeof(*pass->parts))
										  : repalloc(pass->parts, n * sizeof(*pass->parts));
		memset(&pass->parts[pass->nparts], 0, (n - pass->nparts) * sizeof(*pass->parts));
		pass->nparts = n;
	}
	counts = &pass->parts[part][column];
	if (code >= counts->n)
	{
		Size n = Max((Size) code + 64, (Size) counts->n * 2);

		counts->counts = counts->counts == NULL
							 ? MemoryContextAllocHuge(CurrentMemoryContext, n * sizeof(int64))
							 : repalloc_huge(counts->counts, n * sizeof(int64));
		memset(&counts->counts[counts->n], 0, (n - counts->n) * sizeof(int64));
		if (pass->want_latest)
		{
			counts->latest = counts->latest == NULL
								 ? MemoryContextAllocHuge(CurrentMemoryContext, n * sizeof(uint32))
								 : repalloc_huge(counts->latest, n * sizeof(uint32));
			memset(&counts->latest[counts->n], 0, (n - counts->n) * sizeof(uint32));
		}
		counts->n = n;
	}
	return counts;
}

/* -1, 0 or 1 by the order of a filter column. */
static int
compare_values(Relation index, int filter, Datum a, Datum b)
{
	const SearchFilterColumn *column = &search_settings(index)->filters[filter];

	return DatumGetInt32(FunctionCall2Coll((FmgrInfo *) &column->compare, column->collation, a, b));
}

/* Is one code's value after the other's?  Codes of a segment are in the values' order, those of the write buffer are not. */
static bool
code_after(FacetPass *pass, int part, int filter, uint32 a, uint32 b)
{
	bool a_null;
	bool b_null;
	Datum a_value;
	Datum b_value;

	if (part > 0)
		return a > b;
	a_value = search_match_value(pass->view, part, filter, a, &a_null);
	b_value = search_match_value(pass->view, part, filter, b, &b_null);
	return !a_null && (b_null || compare_values(pass->index, filter, a_value, b_value) > 0);
}

static void
count_match(void *state, ItemPointer tid, int part, const uint32 *codes)
{
	FacetPass *pass = state;
	int counted = pass->ncolumns - (pass->want_latest ? 1 : 0);

	if (!row_visible(pass, tid))
		return;
	for (int column = 0; column < counted; column++)
	{
		CodeCounts *counts = counters(pass, part, column, codes[column]);

		if (pass->want_latest &&
			(counts->counts[codes[column]] == 0 || code_after(pass,
															  part,
															  pass->filters[counted],
															  codes[counted],
															  counts->latest[codes[column]])))
			counts->latest[codes[column]] = codes[counted];
		counts->counts[codes[column]]++;
	}
}

/* --- values --------------------------------------------------------------------------------- */

typedef struct GroupOrder
{
	Relation index;
	int filter;
} GroupOrder;

/* By value, NULL last. */
static int
compare_groups(const void *a, const void *b, void *arg)
{
	const FacetGroup *left = a;
	const FacetGroup *right = b;
	GroupOrder *order = arg;

	if (left->null || right->null)
		return (int) left->null - (int) right->null;
	return compare_values(order->index, order->filter, left->value, right->value);
}

static FacetGroup *
add_group(GroupList *list)
{
	if (list->n == list->allocated)
	{
		list->allocated = Max(64, list->allocated * 2);
		list->groups = list->groups == NULL
						   ? palloc(list->allocated * sizeof(FacetGroup))
						   : repalloc_huge(list->groups, list->allocated * sizeof(FacetGroup));
	}
	memset(&list->groups[list->n], 0, sizeof(FacetGroup));
	return &list->groups[list->n++];
}

/* The counts of a pass as groups, a list a column; `matching` says what was counted. */
static void
collect_groups(FacetPass *pass, GroupList *lists, bool matching)
{
	const SearchSettings *settings = search_settings(pass->index);
	int counted = pass->ncolumns - (pass->want_latest ? 1 : 0);

	for (int part = 0; part < pass->nparts; part++)
	{
		for (int column = 0; column < counted; column++)
		{
			CodeCounts *counts = &pass->parts[part][column];
			const SearchFilterColumn *filter = &settings->filters[pass->filters[column]];

			for (uint32 code = 0; code < counts->n; code++)
			{
				FacetGroup *group;
				Datum value;

				if (counts->counts[code] == 0)
					continue;
				group = add_group(&lists[column]);
				value =
					search_match_value(pass->view, part, pass->filters[column], code, &group->null);
				if (!group->null)
					group->value = datumCopy(value, filter->typbyval, filter->typlen);
				if (matching)
					group->matching = counts->counts[code];
				else
					group->documents = counts->counts[code];
				if (pass->want_latest)
				{
					const SearchFilterColumn *latest = &settings->filters[pass->filters[counted]];
					bool null;

					value = search_match_value(
						pass->view, part, pass->filters[counted], counts->latest[code], &null);
					group->has_latest = !null;
					if (!null)
						group->latest = datumCopy(value, latest->typbyval, latest->typlen);
				}
			}
		}
	}
}

/* Joins groups of the same value; latest_filter is -1 when none is asked for. */
static void
merge_groups(Relation index, GroupList *list, int filter, int latest_filter)
{
	GroupOrder order = {index, filter};
	int n = 0;

	if (list->n == 0)
		return;
	qsort_arg(list->groups, list->n, sizeof(FacetGroup), compare_groups, &order);
	for (int i = 1; i < list->n; i++)
	{
		FacetGroup *into = &list->groups[n];
		FacetGroup *from = &list->groups[i];

		if (compare_groups(into, from, &order) != 0)
		{
			list->groups[++n] = *from;
			continue;
		}
		into->documents += from->documents;
		into->matching += from->matching;
		if (from->has_latest &&
			(!into->has_latest ||
			 compare_values(index, latest_filter, from->latest, into->latest) > 0))
		{
			into->latest = from->latest;
			into->has_latest = true;
		}
	}
	list->n = n + 1;
}

/* One pass over one index; query NULL counts all rows. */
static void
count_index(Relation index, const CompiledQuery *compiled, List *conditions, const int *filters,
			int ncolumns, bool want_latest, bool matching, GroupList *lists)
{
	FacetPass pass = {.index = index};
	ScanKey keys;
	int nkeys;

	(void) statement_scan_keys(index, conditions, &keys, &nkeys);
	pass.heap = table_open(IndexGetRelation(RelationGetRelid(index), false), AccessShareLock);
	pass.ncolumns = ncolumns;
	memcpy(pass.filters, filters, ncolumns * sizeof(int));
	pass.want_latest = want_latest;
	pass.map = InvalidBuffer;
	pass.map_block = InvalidBlockNumber;
	pass.fetch = table_index_fetch_begin(pass.heap);
	pass.slot = table_slot_create(pass.heap, NULL);
	pass.trust_map = !RecoveryInProgress() && search_try_share_structure(index);

	pass.view = search_view_open(index, compiled == NULL ? NULL : compiled->query, keys, nkeys);
	search_matches(pass.view, pass.filters, ncolumns, count_match, &pass);
	collect_groups(&pass, lists, matching);
	search_view_close(pass.view);

	if (pass.trust_map)
		search_unshare_structure(index);
	if (BufferIsValid(pass.map))
		ReleaseBuffer(pass.map);
	ExecDropSingleTupleTableSlot(pass.slot);
	table_index_fetch_end(pass.fetch);
	table_close(pass.heap, AccessShareLock);
}

/* --- what both functions ask for -------------------------------------------------------------- */

typedef struct FacetRequest
{
	Oid table;
	Oid index;    /* or InvalidOid */
	text *search; /* NULL: all rows */
	Jsonb *filters;
	int ncolumns;
	char *names[MAX_COLUMNS];
	FilterCondition columns[MAX_COLUMNS];
	List *conditions;
} FacetRequest;

/* Resolves the columns and filters; true when the index alone can count. */
static bool
prepare_request(FacetRequest *request, int numbers[MAX_COLUMNS])
{
	Relation index = NULL;
	ScanKey keys;
	int nkeys;
	bool direct;

	request->index = search_find_index(request->table);
	if (OidIsValid(request->index))
		index = relation_open(request->index, AccessShareLock);
	if (request->ncolumns == 0 && index != NULL)
	{
		const SearchSettings *settings = search_settings(index);

		for (int i = 0; i < settings->nfilters; i++)
			request->names[request->ncolumns++] =
				statement_column_name(index, settings->filters[i].attno);
	}
	if (request->ncolumns == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there are no columns to count by"),
				 errhint("Name them, or give the pgopt_bm25 index filter columns.")));

	request->conditions = statement_parse_filters(index, request->table, request->filters);
	direct = index != NULL && check_enable_rls(request->table, InvalidOid, true) != RLS_ENABLED &&
			 RelationGetIndexPredicate(index) == NIL &&
			 statement_scan_keys(index, request->conditions, &keys, &nkeys);
	for (int i = 0; i < request->ncolumns; i++)
	{
		statement_resolve_column(index, request->table, request->names[i], &request->columns[i]);
		numbers[i] = request->columns[i].column == 0
						 ? -1
						 : statement_filter_number(index, request->columns[i].column);
		direct = direct && numbers[i] >= 0;
	}
	if (index != NULL)
		relation_close(index, AccessShareLock);
	return direct;
}

/* " AND row @@@ 'words'", or nothing. */
static char *
search_condition(const FacetRequest *request)
{
	if (request->search == NULL)
		return pstrdup("");
	return psprintf(
		" AND " STATEMENT_ALIAS " %s %s",
		statement_operator("@@@"),
		statement_literal(VARDATA_ANY(request->search), VARSIZE_ANY_EXHDR(request->search)));
}

/* The value as text. */
static Datum
value_text(Oid type, Datum value)
{
	Oid output;
	bool varlena;

	getTypeOutputInfo(type, &output, &varlena);
	return CStringGetTextDatum(OidOutputFunctionCall(output, value));
}

/* --- facets ------------------------------------------------------------------------------------- */

/* Most documents first, equal ones by value, whose order return_facets() notes in `matching`. */
static int
compare_documents(const void *a, const void *b)
{
	const FacetGroup *left = a;
	const FacetGroup *right = b;

	if (left->documents != right->documents)
		return left->documents > right->documents ? -1 : 1;
	return left->matching < right->matching ? -1 : 1;
}

static void
return_facets(ReturnSetInfo *rsinfo, FacetRequest *request, GroupList *lists, int max_values)
{
	for (int column = 0; column < request->ncolumns; column++)
	{
		GroupList *list = &lists[column];

		for (int i = 0; i < list->n; i++)
			list->groups[i].matching = i;
		qsort(list->groups, list->n, sizeof(FacetGroup), compare_documents);
		for (int i = 0; i < list->n && i < max_values; i++)
		{
			Datum values[3];
			bool nulls[3] = {false};

			values[0] = CStringGetTextDatum(request->names[column]);
			nulls[1] = list->groups[i].null;
			values[1] = nulls[1] ? (Datum) 0
								 : value_text(request->columns[column].type, list->groups[i].value);
			values[2] = Int64GetDatum(list->groups[i].documents);
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
	}
}

static void
facets_by_sql(ReturnSetInfo *rsinfo, FacetRequest *request, int max_values)
{
	for (int column = 0; column < request->ncolumns; column++)
	{
		char *sql = psprintf("SELECT %s, %s::text, count(*) FROM %s " STATEMENT_ALIAS
							 " WHERE true%s%s GROUP BY %s "
							 "ORDER BY 3 DESC, %s LIMIT %d",
							 quote_literal_cstr(request->names[column]),
							 request->columns[column].expression,
							 statement_table(request->table),
							 search_condition(request),
							 statement_conditions(request->conditions),
							 request->columns[column].expression,
							 request->columns[column].expression,
							 max_values);

		(void) pgopt_spi_execute(sql, 0, NULL, NULL, NULL, true, SPI_OK_SELECT);
		for (uint64 i = 0; i < SPI_tuptable->numvals; i++)
		{
			Datum values[3];
			bool nulls[3] = {false};

			values[0] = CStringGetTextDatum(request->names[column]);
			for (int k = 1; k < 3; k++)
				values[k] =
					SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, k + 1, &nulls[k]);
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
	}
}

/* --- the passes over all partitions -------------------------------------------------------------- */

/*
 * Counts all rows (search NULL) or those that match, over all leaves of the
 * request's index, and adds to the lists.
 */
static void
count_leaves(FacetRequest *request, const int *numbers, text *search, bool want_latest,
			 bool matching, GroupList *lists)
{
	ListCell *lc;
	List *leaves = statement_leaves(request->index);

	foreach(lc, leaves)
	{
		Relation index = index_open(lfirst_oid(lc), AccessShareLock);
		const CompiledQuery *compiled = NULL;

		if (search != NULL)
			compiled = search_compile(
				index,
				search_bind_query(
					VARDATA_ANY(search), VARSIZE_ANY_EXHDR(search), request->index, 0));
		count_index(index,
					compiled,
					request->conditions,
					numbers,
					request->ncolumns,
					want_latest,
					matching,
					lists);
		index_close(index, AccessShareLock);
	}
}

/* Joins what the parts and partitions counted; `counted` columns, then the one whose latest value is kept. */
static void
merge_lists(FacetRequest *request, const int *numbers, int counted, GroupList *lists)
{
	List *leaves = statement_leaves(request->index);
	Relation index;

	if (leaves == NIL)
		return;
	index = index_open(linitial_oid(leaves), AccessShareLock);
	for (int column = 0; column < counted; column++)
		merge_groups(index,
					 &lists[column],
					 numbers[column],
					 counted < request->ncolumns ? numbers[counted] : -1);
	index_close(index, AccessShareLock);
}

Datum
pgopt_facets(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	FacetRequest request = {0};
	GroupList lists[MAX_COLUMNS] = {{0}};
	int numbers[MAX_COLUMNS];
	int max_values;
	PgoptSpi spi;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the table to count in must be named")));
	request.table = PG_GETARG_OID(0);
	search_check_access(request.table);
	request.search = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	if (!PG_ARGISNULL(2))
	{
		Datum *names;
		bool *nulls;
		int n;

		deconstruct_array(
			PG_GETARG_ARRAYTYPE_P(2), TEXTOID, -1, false, TYPALIGN_INT, &names, &nulls, &n);
		if (n > MAX_COLUMNS)
			ereport(ERROR,
					(errcode(ERRCODE_TOO_MANY_COLUMNS),
					 errmsg("cannot count by more than %d columns at once", MAX_COLUMNS)));
		for (int i = 0; i < n; i++)
			request.names[request.ncolumns++] =
				nulls[i] ? pstrdup("") : TextDatumGetCString(names[i]);
	}
	request.filters = PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3);
	max_values = PG_ARGISNULL(4) ? INT_MAX : PG_GETARG_INT32(4);
	if (max_values < 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("max_values must not be negative")));

	pgopt_spi_begin_as_caller(&spi); /* pins search_path: names in statements are qualified */
	if (prepare_request(&request, numbers))
	{
		count_leaves(&request, numbers, request.search, false, false, lists);
		merge_lists(&request, numbers, request.ncolumns, lists);
		return_facets(rsinfo, &request, lists, max_values);
	}
	else
		facets_by_sql(rsinfo, &request, max_values);
	pgopt_spi_end(&spi);
	return (Datum) 0;
}

/* --- distribution --------------------------------------------------------------------------------- */

static void
distribution_by_sql(ReturnSetInfo *rsinfo, FacetRequest *request)
{
	bool latest = request->ncolumns > 1;
	char *sql = psprintf(
		"WITH matching AS MATERIALIZED (SELECT %s AS value, count(*) AS n FROM %s " STATEMENT_ALIAS
		" WHERE %s%s GROUP BY 1) SELECT r.value::text, r.documents, r.latest, coalesce(m.n, 0) FROM "
		"(SELECT %s AS value, count(*) AS documents, %s::text AS latest FROM %s " STATEMENT_ALIAS
		" WHERE true%s GROUP BY 1) r LEFT JOIN matching m ON m.value IS NOT DISTINCT FROM r.value ORDER "
		"BY r.value",
		request->columns[0].expression,
		statement_table(request->table),
		request->search == NULL ? "false" : "true",
		psprintf("%s%s", search_condition(request), statement_conditions(request->conditions)),
		request->columns[0].expression,
		latest ? psprintf("max(%s)", request->columns[1].expression) : "NULL",
		statement_table(request->table),
		statement_conditions(request->conditions));

	(void) pgopt_spi_execute(sql, 0, NULL, NULL, NULL, true, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_tuptable->numvals; i++)
	{
		Datum values[4];
		bool nulls[4] = {false};

		for (int k = 0; k < 4; k++)
			values[k] =
				SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, k + 1, &nulls[k]);
		nulls[3] = nulls[3] || request->search == NULL;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
}

Datum
pgopt_distribution(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	FacetRequest request = {0};
	GroupList list = {0};
	int numbers[MAX_COLUMNS];
	PgoptSpi spi;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the table and the column to count by must be named")));
	request.table = PG_GETARG_OID(0);
	search_check_access(request.table);
	request.names[request.ncolumns++] = text_to_cstring(PG_GETARG_TEXT_PP(1));
	if (!PG_ARGISNULL(2))
		request.names[request.ncolumns++] = text_to_cstring(PG_GETARG_TEXT_PP(2));
	request.search = PG_ARGISNULL(3) ? NULL : PG_GETARG_TEXT_PP(3);
	request.filters = PG_ARGISNULL(4) ? NULL : PG_GETARG_JSONB_P(4);

	pgopt_spi_begin_as_caller(&spi); /* pins search_path: names in statements are qualified */
	if (!prepare_request(&request, numbers))
	{
		distribution_by_sql(rsinfo, &request);
		pgopt_spi_end(&spi);
		return (Datum) 0;
	}
	count_leaves(&request, numbers, NULL, request.ncolumns > 1, false, &list);
	if (request.search != NULL)
		count_leaves(&request, numbers, request.search, request.ncolumns > 1, true, &list);
	merge_lists(&request, numbers, 1, &list);
	for (int i = 0; i < list.n; i++)
	{
		const FacetGroup *group = &list.groups[i];
		Datum values[4] = {0};
		bool nulls[4] = {false};

		nulls[0] = group->null;
		if (!group->null)
			values[0] = value_text(request.columns[0].type, group->value);
		values[1] = Int64GetDatum(group->documents);
		nulls[2] = !group->has_latest;
		if (group->has_latest)
			values[2] = value_text(request.columns[1].type, group->latest);
		nulls[3] = request.search == NULL;
		values[3] = Int64GetDatum(group->matching);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	pgopt_spi_end(&spi);
	return (Datum) 0;
}
