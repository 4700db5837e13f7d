/*
 * dependencies.c
 *		What a materialized view reads, from its definition.
 *
 * Walks the stored query tree through views, sublinks and CTEs.  Tables
 * stand for themselves and, where the query reads their children too, for
 * their partitions and inheritance children.  Another matview counts as a
 * table, since its rows are stored; what it reads in turn is followed only for
 * the order of refreshes.
 *
 * Some things make a result change without any counted row changing: those
 * are named, and a view that uses one is never called fresh.
 *
 * Cost: linear in the size of the definitions and the number of partitions.
 * No lock is kept.
 */
#include "pgopt.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_am.h"
#include "catalog/pg_attrdef.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"
#include "rewrite/prs2lock.h"
#include "rewrite/rewriteHandler.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "matview.h"

#define UNTRACKED_RLS "row security filters what the view's owner sees"

typedef struct Walk
{
	Dependencies *result;
	Oid owner;    /* whose rights count: of the matview, or of the view that is walked */
	List *relids; /* OID lists */
	List *upstream;
	List *visited;   /* views and matviews that were walked */
	List *row_types; /* composite types whose columns are in the fingerprint */
	int depth;
	bool counting;    /* false below another matview: only the order matters there */
	bool replaceable; /* it calls functions whose callees can be replaced */
	bool nowait;
	bool busy; /* nowait found a lock taken */
} Walk;

static bool walk_node(Node *node, Walk *walk);

static Dependency *
add_detail(Walk *walk, Oid relid, const char *name, const char *kind, const char *untracked)
{
	Dependency *detail = palloc0(sizeof(Dependency));

	detail->relid = relid;
	detail->name = name;
	detail->kind = kind;
	detail->depth = walk->depth;
	detail->untracked = untracked;
	walk->result->details = lappend(walk->result->details, detail);
	if (untracked != NULL && walk->counting && walk->result->untracked == NULL)
		walk->result->untracked =
			psprintf("%s: %s", OidIsValid(relid) ? get_rel_name(relid) : name, untracked);
	return detail;
}

/* Was this function, view or expression named already? */
static bool
named_before(Walk *walk, const char *name)
{
	ListCell *lc;

	foreach(lc, walk->result->details)
	{
		Dependency *detail = lfirst(lc);

		if (detail->name != NULL && strcmp(detail->name, name) == 0)
			return true;
	}
	return false;
}

static bool
listed_before(Walk *walk, Oid relid)
{
	ListCell *lc;

	foreach(lc, walk->result->details)
		if (((Dependency *) lfirst(lc))->relid == relid)
			return true;
	return false;
}

static void
mix_fingerprint(Walk *walk, const void *data, size_t length)
{
	walk->result->fingerprint = hash_bytes_extended(data, (int) length, walk->result->fingerprint);
}

/* The rule of a view or matview; the caller keeps the relation open while it uses it. */
static Query *
definition_of(Relation rel)
{
	if (rel->rd_rules == NULL || rel->rd_rules->numLocks < 1)
		return NULL;
	for (int i = 0; i < rel->rd_rules->numLocks; i++)
	{
		RewriteRule *rule = rel->rd_rules->rules[i];

		if (rule->event == CMD_SELECT && list_length(rule->actions) == 1)
			return linitial_node(Query, rule->actions);
	}
	return NULL;
}

/* The version of a view's rule stands for its definition. */
static void
mix_rule(Walk *walk, Oid relid)
{
	Relation rel = table_open(RewriteRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(
		&key, Anum_pg_rewrite_ev_class, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, RewriteRelRulenameIndexId, true, NULL, 1, &key);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		Oid rule = ((Form_pg_rewrite) GETSTRUCT(tuple))->oid;
		TransactionId version = HeapTupleHeaderGetRawXmin(tuple->t_data);

		mix_fingerprint(walk, &rule, sizeof(rule));
		mix_fingerprint(walk, &version, sizeof(version));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/* Walks the definition of a view or matview, which is locked while this goes on. */
static void
walk_definition(Walk *walk, Oid relid)
{
	Relation rel;
	Query *query;

	if (walk->nowait && !ConditionalLockRelationOid(relid, AccessShareLock))
	{
		walk->busy = true;
		return;
	}
	if (!walk->nowait)
		LockRelationOid(relid, AccessShareLock);
	rel = try_relation_open(relid, NoLock);
	query = rel ? definition_of(rel) : NULL;
	if (query == NULL)
	{
		if (rel != NULL)
			relation_close(rel, NoLock);
		UnlockRelationOid(relid, AccessShareLock);
		return;
	}
	if (rel->rd_rel->relkind == RELKIND_VIEW && !RelationHasSecurityInvoker(rel))
		walk->owner = rel->rd_rel->relowner;
	if (walk->counting)
		mix_rule(walk, relid);
	walk->depth++;
	(void) walk_node((Node *) query, walk);
	walk->depth--;
	relation_close(rel, AccessShareLock);
}

/* Why counters cannot tell of changes of a relation with stored rows, or NULL. */
static const char *
why_untracked(Walk *walk, Oid relid, Form_pg_class form)
{
	if (relid < FirstNormalObjectId)
		return "system catalogs are not counted";
	switch (form->relkind)
	{
		case RELKIND_RELATION:
		case RELKIND_MATVIEW:
			if (form->relam != HEAP_TABLE_AM_OID)
				return "its access method may not count changes";
			break;
		case RELKIND_FOREIGN_TABLE:
			return "changes on a foreign server cannot be seen";
		case RELKIND_SEQUENCE:
			return "a sequence moves without transactions";
		default:
			return "this kind of relation is not counted";
	}
	if (form->relkind == RELKIND_RELATION &&
		check_enable_rls(relid, walk->owner, true) == RLS_ENABLED)
		return UNTRACKED_RLS;
	return NULL;
}

/*
 * What DDL on a table can change in the result of a query that reads it: row
 * security, and the expressions of generated columns.
 */
static void
mix_table(Walk *walk, Oid relid)
{
	int rls = check_enable_rls(relid, walk->owner, true);
	Relation rel;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	mix_fingerprint(walk, &relid, sizeof(relid));
	mix_fingerprint(walk, &rls, sizeof(rls));

	rel = table_open(AttrDefaultRelationId, AccessShareLock);
	ScanKeyInit(
		&key, Anum_pg_attrdef_adrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, AttrDefaultIndexId, true, NULL, 1, &key);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		TransactionId version = HeapTupleHeaderGetRawXmin(tuple->t_data);

		mix_fingerprint(walk, &version, sizeof(version));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/*
 * The columns of a composite type, or of the table or view that it belongs to,
 * for a query that uses such a row as a whole; those of its columns in turn.
 */
static void
mix_row_type(Walk *walk, Oid type)
{
	Oid element = get_element_type(type);
	Oid relid = get_typ_typrelid(getBaseType(OidIsValid(element) ? element : type));
	Relation rel;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	if (!OidIsValid(relid) || !walk->counting || list_member_oid(walk->row_types, relid))
		return;
	check_stack_depth();
	walk->row_types = lappend_oid(walk->row_types, relid);

	rel = table_open(AttributeRelationId, AccessShareLock);
	ScanKeyInit(
		&key, Anum_pg_attribute_attrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, AttributeRelidNumIndexId, true, NULL, 1, &key);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		Form_pg_attribute form = (Form_pg_attribute) GETSTRUCT(tuple);

		mix_fingerprint(walk, &form->attnum, sizeof(form->attnum));
		mix_fingerprint(walk, NameStr(form->attname), strlen(NameStr(form->attname)));
		mix_fingerprint(walk, &form->atttypid, sizeof(form->atttypid));
		if (form->atttypid >= FirstNormalObjectId)
			mix_row_type(walk, form->atttypid);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

static void
add_stored_relation(Walk *walk, Oid relid, const char *kind)
{
	HeapTuple tuple;
	Form_pg_class form;
	const char *untracked;

	if (walk->counting ? list_member_oid(walk->relids, relid) : listed_before(walk, relid))
		return;
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	if (!HeapTupleIsValid(tuple))
		return;
	form = (Form_pg_class) GETSTRUCT(tuple);
	if (kind == NULL)
	{
		kind = form->relkind == RELKIND_MATVIEW         ? "materialized view"
			   : form->relkind == RELKIND_FOREIGN_TABLE ? "foreign table"
			   : form->relkind == RELKIND_SEQUENCE      ? "sequence"
														: "table";
	}
	untracked = why_untracked(walk, relid, form);
	add_detail(walk, relid, NULL, kind, untracked);
	if (walk->counting && form->relkind != RELKIND_FOREIGN_TABLE)
	{
		walk->relids = lappend_oid(walk->relids, relid);
		mix_table(walk, relid);
	}
	ReleaseSysCache(tuple);
}

/* A table with all that is read through it. */
static void
add_table(Walk *walk, Oid relid, bool inherited)
{
	List *children;
	ListCell *lc;
	char relkind = get_rel_relkind(relid);

	if (relkind == RELKIND_PARTITIONED_TABLE)
	{
		/* its policies are the ones that apply, not those of its partitions */
		if (!listed_before(walk, relid))
			add_detail(walk,
					   relid,
					   NULL,
					   "partitioned table",
					   check_enable_rls(relid, walk->owner, true) == RLS_ENABLED ? UNTRACKED_RLS
																				 : NULL);
		if (walk->counting)
			mix_table(walk, relid);
	}
	else
		add_stored_relation(walk, relid, NULL);

	if (!inherited)
		return;

	/* has_subclass() is not asked: it may lag behind */
	children = find_all_inheritors(relid, NoLock, NULL);
	walk->depth++;
	foreach(lc, children)
	{
		Oid child = lfirst_oid(lc);

		if (child == relid)
			continue;
		if (get_rel_relkind(child) == RELKIND_PARTITIONED_TABLE)
		{
			if (walk->counting)
				mix_fingerprint(walk, &child, sizeof(child));
			continue;
		}
		add_stored_relation(walk,
							child,
							get_rel_relispartition(child) &&
									get_rel_relkind(child) != RELKIND_FOREIGN_TABLE
								? "partition"
								: NULL);
	}
	walk->depth--;
	list_free(children);
}

/* A view reads with the rights of its own owner, unless it is a security invoker. */
static void
walk_view(Walk *walk, Oid relid)
{
	Oid caller = walk->owner;

	if (list_member_oid(walk->visited, relid))
		return;
	walk->visited = lappend_oid(walk->visited, relid);
	add_detail(walk, relid, NULL, "view", NULL);
	walk_definition(walk, relid);
	walk->owner = caller;
}

static void
walk_matview(Walk *walk, Oid relid)
{
	bool was_counting = walk->counting;

	add_stored_relation(walk, relid, NULL);
	if (list_member_oid(walk->upstream, relid))
		return;
	walk->upstream = lappend_oid(walk->upstream, relid);

	/* Its rows are counted like a table's; below it only the order matters. */
	walk->counting = false;
	walk_definition(walk, relid);
	walk->counting = was_counting;
}

static void
add_relation(Walk *walk, RangeTblEntry *rte)
{
	/* OLD and NEW of a view's own rule; or a loop, which the server refuses to run */
	if (list_member_oid(walk->visited, rte->relid))
		return;

	switch (get_rel_relkind(rte->relid))
	{
		case RELKIND_VIEW:
			walk_view(walk, rte->relid);
			break;
		case RELKIND_MATVIEW:
			walk_matview(walk, rte->relid);
			break;
		case '\0':
			break;
		default:
			add_table(walk, rte->relid, rte->inh);
			break;
	}
	if (rte->tablesample != NULL && !named_before(walk, "TABLESAMPLE"))
		add_detail(walk, InvalidOid, "TABLESAMPLE", "expression", "samples differ from run to run");
}

/*
 * Why a stable function of the server itself can yield something else although
 * no row changed.  Those that depend on settings alone are fine: a view's
 * settings are pinned.
 */
static const char *
why_untracked_builtin(Oid funcid)
{
	static const char *const prefixes[] = {
		"pg_",       "has_",          "inet_",        "txid_",       "query_to_",
		"table_to_", "schema_to_",    "database_to_", "cursor_to_",  "reg",
		"to_reg",    "row_security_", "current_",     "session_",    "getpg",
		"obj_desc",  "col_desc",      "shobj_desc",   "format_type",
	};
	char *name;

	switch (funcid)
	{
		case F_NOW:
		case F_TRANSACTION_TIMESTAMP:
		case F_STATEMENT_TIMESTAMP:
		case F_AGE_TIMESTAMPTZ:
		case F_AGE_TIMESTAMP:
		case F_AGE_XID:
		case F_MXID_AGE:
			return "depends on the current time";
		case F_PG_TYPEOF:
		case F_PG_CLIENT_ENCODING:
		case F_PG_COLUMN_SIZE:
			return NULL;
		default:
			break;
	}
	name = get_func_name(funcid);
	for (int i = 0; name != NULL && i < lengthof(prefixes); i++)
		if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
			return "depends on the session or on system catalogs";
	return NULL;
}

/*
 * The version of a function's row, read past the catalog cache: the
 * generation of definitions moves before caches are invalidated.
 */
static TransactionId
function_version(Oid funcid)
{
	Relation rel = table_open(ProcedureRelationId, AccessShareLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	TransactionId version = InvalidTransactionId;

	ScanKeyInit(&key, Anum_pg_proc_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(funcid));
	scan = systable_beginscan(rel, ProcedureOidIndexId, true, snapshot, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		version = HeapTupleHeaderGetRawXmin(tuple->t_data);
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return version;
}

static bool
check_function(Oid funcid, void *context)
{
	Walk *walk = context;
	HeapTuple tuple;
	Form_pg_proc form;
	const char *untracked = NULL;

	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(funcid));
	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_proc) GETSTRUCT(tuple);

	if (form->prokind == PROKIND_AGGREGATE && funcid >= FirstNormalObjectId)
	{
		HeapTuple aggtuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(funcid));

		if (HeapTupleIsValid(aggtuple))
		{
			Form_pg_aggregate agg = (Form_pg_aggregate) GETSTRUCT(aggtuple);

			(void) check_function(agg->aggtransfn, context);
			if (OidIsValid(agg->aggfinalfn))
				(void) check_function(agg->aggfinalfn, context);
			ReleaseSysCache(aggtuple);
		}
	}
	else if (form->provolatile == PROVOLATILE_VOLATILE)
		untracked = "is volatile";
	else if (form->provolatile == PROVOLATILE_STABLE)
	{
		if (funcid < FirstNormalObjectId)
			untracked = why_untracked_builtin(funcid);
		else if (form->prolang != ClanguageId || strcmp(NameStr(form->proname), "unaccent") != 0)
			untracked = "is STABLE, so what it reads cannot be seen";
	}

	/* A function of the user's can be replaced: its row version stands for its body. */
	if (funcid >= FirstNormalObjectId && walk->counting)
	{
		/* what a refresh will run is in the cache; what was committed last is not yet */
		TransactionId version =
			walk->nowait ? function_version(funcid) : HeapTupleHeaderGetRawXmin(tuple->t_data);

		mix_fingerprint(walk, &funcid, sizeof(funcid));
		mix_fingerprint(walk, &version, sizeof(version));
		if (form->prolang != ClanguageId && form->prolang != INTERNALlanguageId)
			walk->replaceable = true;
	}
	if (untracked != NULL || funcid >= FirstNormalObjectId)
	{
		char *name = psprintf("%s()", NameStr(form->proname));

		if (!named_before(walk, name))
			add_detail(walk, InvalidOid, name, "function", untracked);
	}
	ReleaseSysCache(tuple);
	return false;
}

/* 'now'::text::timestamptz and the like read the clock when they are converted. */
static bool
converts_constant_to_time(Node *node)
{
	CoerceViaIO *coercion = (CoerceViaIO *) node;

	if (!IsA(node, CoerceViaIO) || !IsA(coercion->arg, Const))
		return false;
	switch (coercion->resulttype)
	{
		case DATEOID:
		case TIMEOID:
		case TIMETZOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return true;
		default:
			return false;
	}
}

static bool
walk_node(Node *node, Walk *walk)
{
	const char *untracked = NULL;
	const char *what = NULL;

	if (node == NULL)
		return false;
	check_stack_depth();

	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_RELATION)
			add_relation(walk, rte);
		return false; /* query_tree_walker goes into the rest by itself */
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, walk_node, walk, QTW_EXAMINE_RTES_BEFORE);

	if (IsA(node, SQLValueFunction))
	{
		switch (((SQLValueFunction *) node)->op)
		{
			case SVFOP_CURRENT_ROLE:
			case SVFOP_CURRENT_USER:
			case SVFOP_USER:
			case SVFOP_SESSION_USER:
			case SVFOP_CURRENT_CATALOG:
			case SVFOP_CURRENT_SCHEMA:
				what = "current user or schema";
				untracked = "depends on the session";
				break;
			default:
				what = "current date or time";
				untracked = "depends on the current time";
				break;
		}
	}
	else if ((IsA(node, Var) || IsA(node, FuncExpr)) && exprType(node) >= FirstNormalObjectId)
		mix_row_type(walk, exprType(node));
	else if (IsA(node, NextValueExpr))
	{
		what = "nextval";
		untracked = "is volatile";
	}
	else if (converts_constant_to_time(node))
	{
		what = "text constant converted to a time";
		untracked = "depends on the current time";
	}
	if (untracked != NULL && !named_before(walk, what))
		add_detail(walk, InvalidOid, what, "expression", untracked);

	(void) check_functions_in_node(node, check_function, walk);
	return expression_tree_walker(node, walk_node, walk);
}

static Oid *
sorted_array(List *oids, int *count)
{
	Oid *array = palloc((list_length(oids) + 1) * sizeof(Oid));
	ListCell *lc;

	*count = 0;
	foreach(lc, oids)
		array[(*count)++] = lfirst_oid(lc);
	qsort(array, *count, sizeof(Oid), oid_cmp);
	return array;
}

Dependencies *
dependencies_resolve(Oid matview, bool nowait)
{
	HeapTuple tuple;
	Form_pg_class form;
	Walk walk = {0};

	AcceptInvalidationMessages();
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(matview));
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("materialized view with OID %u does not exist", matview)));
	form = (Form_pg_class) GETSTRUCT(tuple);
	if (form->relkind != RELKIND_MATVIEW)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a materialized view", NameStr(form->relname))));
	walk.owner = form->relowner;
	ReleaseSysCache(tuple);

	walk.result = palloc0(sizeof(Dependencies));
	walk.counting = true;
	walk.nowait = nowait;
	walk.visited = list_make1_oid(matview);
	walk_definition(&walk, matview);
	if (walk.busy)
		return NULL;

	/* A function that calls others does not say which: any that was replaced may be one. */
	if (walk.replaceable && database_state() != NULL)
	{
		uint64 generation = pg_atomic_read_u64(&database_state()->function_generation);

		mix_fingerprint(&walk, &generation, sizeof(generation));
	}
	walk.result->relids = sorted_array(walk.relids, &walk.result->nrelids);
	walk.result->upstream = sorted_array(walk.upstream, &walk.result->nupstream);
	mix_fingerprint(&walk, walk.result->relids, walk.result->nrelids * sizeof(Oid));
	walk.result->fingerprint &= PG_INT64_MAX; /* it is kept in a bigint */
	return walk.result;
}
