/*
 * handler.c
 *		The access method pgopt_bm25: what the server calls.
 *
 * The index is scanned for a search (text @@@ pgopt_query), in the order of
 * its scores (text <@> pgopt_query), or both; conditions on filter columns
 * come along with either.  For conditions on filter columns alone a scan
 * works, but is priced out of every plan: there are better indexes for that.
 *
 * Memory: an insert's document lives in a context that is kept for the
 * statement and reset for each row.
 */
#include "pgopt.h"

#include "access/amapi.h"
#include "access/amvalidate.h"
#include "access/genam.h"
#include "catalog/pg_amop.h"
#include "catalog/pg_amproc.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_opfamily.h"
#include "catalog/pg_type.h"
#include "commands/vacuum.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/selfuncs.h"
#include "utils/syscache.h"

#include "build.h"
#include "compat.h"
#include "handler.h"
#include "merge_queue.h"
#include "pending.h"
#include "scan.h"
#include "search.h"
#include "settings.h"
#include "vacuum.h"

PG_FUNCTION_INFO_V1(pgopt_bm25_handler);

/* What a plan must cost that nobody should choose. */
#define FORBIDDING_COST 1.0e12

/* Block maxima spare most of the work of a search in order: about this part of the matches is scored. */
#define SCORED_FRACTION 0.1

void
search_handler_init(void)
{
	search_register_options();
	search_dependency_init();
	if (process_shared_preload_libraries_in_progress)
		merge_queue_init();
}

/* --- inserts ------------------------------------------------------------------------ */

static bool
search_insert(Relation index, Datum *values, bool *isnull, ItemPointer tid, Relation heap,
			  IndexUniqueCheck check, bool unchanged, IndexInfo *info)
{
	MemoryContext context = info->ii_AmCache;
	MemoryContext old;
	Analyzer *analyzer;
	SearchSettings settings;
	Document *document;

	if (context == NULL)
	{
		context =
			AllocSetContextCreate(info->ii_Context, "pgopt_bm25 insert", ALLOCSET_DEFAULT_SIZES);
		info->ii_AmCache = context;
	}
	old = MemoryContextSwitchTo(context);
	analyzer = search_analyzer(index); /* may look up catalogs: comes before the settings */
	settings = *search_settings(index);
	document_check_filters(index, &settings, values, isnull);
	document = document_analyze(analyzer, &settings, values, isnull);
	pending_insert(index, &settings, tid, document, values, isnull);
	MemoryContextSwitchTo(old);
	MemoryContextReset(context);
	return false;
}

/* --- costs --------------------------------------------------------------------------- */

/* Is there a search among the conditions? */
static bool
has_search(const IndexPath *path)
{
	ListCell *lc;

	foreach(lc, path->indexclauses)
	{
		IndexClause *clause = lfirst_node(IndexClause, lc);
		ListCell *lc2;

		foreach(lc2, clause->indexquals)
		{
			Node *qual = (Node *) lfirst_node(RestrictInfo, lc2)->clause;
			Oid family = path->indexinfo->opfamily[clause->indexcol];

			/* only text columns have an operator for ordering, or for pgopt_query */
			if (IsA(qual, OpExpr) &&
				get_op_opfamily_strategy(((OpExpr *) qual)->opno, family) ==
					SEARCH_STRATEGY_MATCH &&
				exprType(lsecond(((OpExpr *) qual)->args)) == search_query_type())
				return true;
		}
	}
	return false;
}

/*
 * A search reads the postings of its words: about as many as rows match.  In
 * order, the best are known before the first is returned, but most of the
 * matches are never scored; what follows costs little more each.
 */
void
search_costestimate(struct PlannerInfo *root, struct IndexPath *path, double loop_count,
					Cost *startup_cost, Cost *total_cost, Selectivity *selectivity,
					double *correlation, double *pages)
{
	IndexOptInfo *index = path->indexinfo;
	bool search = has_search(path);
	bool ordered = path->indexorderbys != NIL;
	GenericCosts costs = {0};
	double matches;
	double read;

	genericcostestimate(root, path, loop_count, &costs);
	*selectivity = costs.indexSelectivity;
	*correlation = 0.0;

	/* IN lists are looked up once, not searched for once a value. */
	matches = Max(costs.indexSelectivity * index->rel->tuples, 1.0);
	read = Min(Max(matches / Max(index->tuples, 1.0), 0.0), 1.0) * index->pages;
	*pages = ceil(Max(ordered ? read * SCORED_FRACTION : read, 1.0));

	*startup_cost = costs.indexStartupCost + cpu_operator_cost * 100.0 + random_page_cost;
	if (ordered)
		*startup_cost += SCORED_FRACTION * matches * cpu_operator_cost;
	*total_cost = *startup_cost + *pages * seq_page_cost + matches * cpu_operator_cost;
	if (!search && !ordered)
	{
		*startup_cost += FORBIDDING_COST;
		*total_cost += FORBIDDING_COST;
	}
}

/* --- operator classes -------------------------------------------------------------------- */

/* What is being validated. */
typedef struct Validation
{
	const char *family;
	Oid type;  /* the class's input type */
	bool text; /* is it searched, or a filter? */
	bool sound;
} Validation;

static void
complain(Validation *validation, const char *what, const char *name, int number)
{
	ereport(INFO,
			(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
			 errmsg("operator family \"%s\" of access method pgopt_bm25 contains %s %s with number "
					"%d, which does not fit",
					validation->family,
					what,
					name,
					number)));
	validation->sound = false;
}

static void
check_function(Validation *validation, Form_pg_amproc form)
{
	bool fits = form->amproclefttype == form->amprocrighttype;

	if (fits && form->amproclefttype == validation->type)
	{
		if (form->amprocnum == SEARCH_PROC_COMPARE && !validation->text)
			fits = check_amproc_signature(
				form->amproc, INT4OID, true, 2, 2, validation->type, validation->type);
		else
			fits = form->amprocnum == SEARCH_PROC_OPTIONS && validation->text &&
				   check_amoptsproc_signature(form->amproc);
	}
	if (!fits)
		complain(validation, "function", format_procedure(form->amproc), form->amprocnum);
}

static void
check_operator(Validation *validation, Form_pg_amop form)
{
	Oid result = BOOLOID;
	bool fits;

	if (validation->text && form->amopstrategy == SEARCH_STRATEGY_ORDER)
	{
		fits = form->amoppurpose == AMOP_ORDER &&
			   opfamily_can_sort_type(form->amopsortfamily, FLOAT8OID);
		result = FLOAT8OID;
	}
	else
	{
		fits =
			form->amoppurpose == AMOP_SEARCH && form->amopstrategy >= 1 &&
			form->amopstrategy <= (validation->text ? SEARCH_STRATEGY_MATCH : BTMaxStrategyNumber);
	}
	if (validation->text)
		fits = fits && form->amoprighttype == search_query_type();
	if (!fits ||
		!check_amop_signature(form->amopopr, result, form->amoplefttype, form->amoprighttype))
		complain(validation, "operator", format_operator(form->amopopr), form->amopstrategy);
}

/* Every class needs its operators, but a text class may do with those of text in its family. */
static void
check_complete(Validation *validation, Oid family, const char *class_name)
{
	int last = validation->text ? SEARCH_STRATEGY_ORDER : BTMaxStrategyNumber;
	Oid left = validation->text ? TEXTOID : validation->type;
	Oid right = validation->text ? search_query_type() : validation->type;

	for (int strategy = 1; strategy <= last; strategy++)
	{
		if (OidIsValid(get_opfamily_member(family, left, right, strategy)))
			continue;
		ereport(INFO,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("operator class \"%s\" of access method pgopt_bm25 lacks operator %d",
						class_name,
						strategy)));
		validation->sound = false;
	}
}

static bool
search_validate(Oid class_oid)
{
	HeapTuple class_tuple = SearchSysCache1(CLAOID, ObjectIdGetDatum(class_oid));
	Form_pg_opclass class_form;
	HeapTuple family_tuple;
	CatCList *functions;
	CatCList *operators;
	Validation validation = {.sound = true};

	if (!HeapTupleIsValid(class_tuple))
		elog(ERROR, "cache lookup failed for operator class %u", class_oid);
	class_form = (Form_pg_opclass) GETSTRUCT(class_tuple);
	family_tuple = SearchSysCache1(OPFAMILYOID, ObjectIdGetDatum(class_form->opcfamily));
	if (!HeapTupleIsValid(family_tuple))
		elog(ERROR, "cache lookup failed for operator family %u", class_form->opcfamily);
	validation.family = NameStr(((Form_pg_opfamily) GETSTRUCT(family_tuple))->opfname);
	validation.type = class_form->opcintype;
	validation.text = !OidIsValid(get_opfamily_proc(
		class_form->opcfamily, validation.type, validation.type, SEARCH_PROC_COMPARE));
	if (validation.text && validation.type != TEXTOID && validation.type != BPCHAROID)
	{
		ereport(
			INFO,
			(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
			 errmsg("operator class \"%s\" of access method pgopt_bm25 lacks support function %d",
					NameStr(class_form->opcname),
					SEARCH_PROC_COMPARE)));
		validation.sound = false;
	}

	functions = SearchSysCacheList1(AMPROCNUM, ObjectIdGetDatum(class_form->opcfamily));
	for (int i = 0; i < functions->n_members; i++)
		check_function(&validation, (Form_pg_amproc) GETSTRUCT(&functions->members[i]->tuple));
	ReleaseCatCacheList(functions);

	operators = SearchSysCacheList1(AMOPSTRATEGY, ObjectIdGetDatum(class_form->opcfamily));
	for (int i = 0; i < operators->n_members; i++)
		check_operator(&validation, (Form_pg_amop) GETSTRUCT(&operators->members[i]->tuple));
	ReleaseCatCacheList(operators);

	check_complete(&validation, class_form->opcfamily, NameStr(class_form->opcname));
	ReleaseSysCache(family_tuple);
	ReleaseSysCache(class_tuple);
	return validation.sound;
}

/* --- the handler ------------------------------------------------------------------------------ */

Datum
pgopt_bm25_handler(PG_FUNCTION_ARGS)
{
	IndexAmRoutine *am = makeNode(IndexAmRoutine);

	am->amstrategies = 0; /* they differ between text and filters */
	am->amsupport = 2;
	am->amoptsprocnum = SEARCH_PROC_OPTIONS;
	am->amcanorderbyop = true;
	am->amcanmulticol = true;
	am->amoptionalkey = true;
	am->amsearcharray = true;
	am->amsearchnulls = true;
	am->amusemaintenanceworkmem = true;
	am->amparallelvacuumoptions = VACUUM_OPTION_PARALLEL_BULKDEL | VACUUM_OPTION_PARALLEL_CLEANUP;
	am->amkeytype = InvalidOid;
	compat_am_can_build_parallel(am);

	am->ambuild = search_build;
	am->ambuildempty = search_build_empty;
	am->aminsert = search_insert;
	am->ambulkdelete = search_bulkdelete;
	am->amvacuumcleanup = search_vacuumcleanup;
	am->amcostestimate = search_costestimate;
	am->amoptions = search_options;
	am->ambuildphasename = search_build_phase_name;
	am->amvalidate = search_validate;
	am->ambeginscan = search_beginscan;
	am->amrescan = search_rescan;
	am->amgettuple = search_gettuple;
	am->amendscan = search_endscan;
	PG_RETURN_POINTER(am);
}
