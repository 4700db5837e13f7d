/*
 * inspect.c
 *		The best documents of an index as the index itself gives them, pruned or
 *		by plain evaluation: for tests that compare both, and with what the rows
 *		say.
 *
 * The rows' visibility is not looked at; so only the index's owner may call
 * these.  Memory: the hits, in the call's context.
 */
#include "pgopt.h"

#include "access/genam.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "compat.h"
#include "plan.h"
#include "scan.h"
#include "search.h"

PG_FUNCTION_INFO_V1(pgopt_search_topk);
PG_FUNCTION_INFO_V1(pgopt_search_exhaustive);

static Relation
open_own_index(Oid oid)
{
	Relation index;

	if (get_rel_relkind(oid) != RELKIND_INDEX)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("OID %u is not an index", oid)));
	index = index_open(oid, AccessShareLock);
	if (index->rd_rel->relam != search_access_method())
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a pgopt_bm25 index", RelationGetRelationName(index))));
	if (!compat_owns_relation(oid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_INDEX, RelationGetRelationName(index));
	return index;
}

/* (index, search, k, fields) */
static Datum
best_documents(FunctionCallInfo fcinfo, bool exhaustive)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Relation index = open_own_index(PG_GETARG_OID(0));
	text *words = PG_GETARG_TEXT_PP(1);
	int k = PG_GETARG_INT32(2);
	PgoptQuery *query = search_bind_query(VARDATA_ANY(words),
										  VARSIZE_ANY_EXHDR(words),
										  RelationGetRelid(index),
										  (uint32) PG_GETARG_INT32(3));
	const CompiledQuery *compiled;
	SearchView *view;
	SearchHit *hits;
	int n;

	if (k <= 0 || k > (int) (MaxAllocSize / sizeof(SearchHit)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the number of documents must be between 1 and %zu",
						MaxAllocSize / sizeof(SearchHit))));
	InitMaterializedSRF(fcinfo, 0);
	compiled = search_compile(index, query);
	hits = palloc(k * sizeof(SearchHit));
	view = search_view_open(index, compiled->query, NULL, 0);
	search_view_set_stats(view, &compiled->stats);
	n = exhaustive ? search_exhaustive(view, k, hits) : search_topk(view, k, hits);
	for (int i = 0; i < n; i++)
	{
		Datum values[2];
		bool nulls[2] = {false, false};

		values[0] = PointerGetDatum(&hits[i].tid);
		values[1] = Float8GetDatum(hits[i].score / SCORE_UNIT);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	search_view_close(view);
	index_close(index, AccessShareLock);
	return (Datum) 0;
}

Datum
pgopt_search_topk(PG_FUNCTION_ARGS)
{
	return best_documents(fcinfo, false);
}

Datum
pgopt_search_exhaustive(PG_FUNCTION_ARGS)
{
	return best_documents(fcinfo, true);
}
