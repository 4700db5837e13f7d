/*
 * dependency.c
 *		An index depends on its text search configuration.
 *
 * Documents and queries are analysed with the configuration that the option
 * text_config names, so that must not go away under the index: DROP TEXT
 * SEARCH CONFIGURATION is refused, and takes the index along with CASCADE.
 *
 * The dependency is recorded when an index, or a partitioned index, is made,
 * when its options change, and when it is built again, since by then a name
 * may stand for another configuration.  A hook sees to the first two: the
 * server tells an access method of neither.  REINDEX CONCURRENTLY makes a new
 * index with the same options, and swaps the dependencies of the two.
 *
 * Locks: where a dependency is new, AccessShareLock on the configuration until
 * the end of the transaction, which keeps out one that drops it.
 */
#include "pgopt.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/reloptions.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_index.h"
#include "catalog/pg_ts_config.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "handler.h"
#include "search.h"
#include "settings.h"

static object_access_hook_type prev_object_access = NULL;

/* The configuration that a pgopt_bm25 index names now, even as the last command left it; else InvalidOid. */
static Oid
named_config(Oid index)
{
	Relation rel = table_open(RelationRelationId, AccessShareLock);
	Oid config = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_class_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(index));
	scan = systable_beginscan(rel, ClassOidIndexId, true, SnapshotSelf, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);

		if ((form->relkind == RELKIND_INDEX || form->relkind == RELKIND_PARTITIONED_INDEX) &&
			form->relam == search_access_method())
			config =
				search_config_of(extractRelOptions(tuple, RelationGetDescr(rel), search_options));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return config;
}

static bool
has_config(Node *node, void *config)
{
	if (node == NULL)
		return false;
	if (IsA(node, Const) && ((Const *) node)->consttype == REGCONFIGOID &&
		!((Const *) node)->constisnull &&
		DatumGetObjectId(((Const *) node)->constvalue) == *(Oid *) config)
		return true;
	return expression_tree_walker(node, has_config, config);
}

/* Is a configuration in the expressions of an index, or in its condition?  Then that dependency is the server's. */
static bool
expressions_have_config(Oid index, Oid config)
{
	static const AttrNumber attributes[] = {Anum_pg_index_indexprs, Anum_pg_index_indpred};
	HeapTuple tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index));
	bool result = false;

	if (!HeapTupleIsValid(tuple))
		return false;
	for (int i = 0; i < lengthof(attributes); i++)
	{
		bool isnull;
		Datum string = SysCacheGetAttr(INDEXRELID, tuple, attributes[i], &isnull);

		if (!isnull && has_config(stringToNode(TextDatumGetCString(string)), &config))
			result = true;
	}
	ReleaseSysCache(tuple);
	return result;
}

/* Deletes what an index depends on beside this configuration; true when it depends on that already. */
static bool
forget_other_configs(Oid index, Oid config)
{
	Relation rel = table_open(DependRelationId, RowExclusiveLock);
	bool found = false;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&keys[0],
				Anum_pg_depend_classid,
				BTEqualStrategyNumber,
				F_OIDEQ,
				ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(
		&keys[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(index));
	scan = systable_beginscan(rel, DependDependerIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);

		if (form->refclassid != TSConfigRelationId || form->deptype != DEPENDENCY_NORMAL)
			continue;
		if (form->refobjid == config)
			found = true;
		else if (!expressions_have_config(index, form->refobjid))
			CatalogTupleDelete(rel, &tuple->t_self);
	}
	systable_endscan(scan);
	table_close(rel, RowExclusiveLock);
	return found;
}

void
search_depend_on_config(Oid index)
{
	Oid config = named_config(index);
	ObjectAddress depender;
	ObjectAddress referenced;

	if (!OidIsValid(config) || forget_other_configs(index, config))
		return;
	LockDatabaseObject(TSConfigRelationId, config, 0, AccessShareLock);
	if (!SearchSysCacheExists1(TSCONFIGOID, ObjectIdGetDatum(config)))
		return; /* dropped meanwhile: whoever needs it says so */
	ObjectAddressSet(depender, RelationRelationId, index);
	ObjectAddressSet(referenced, TSConfigRelationId, config);
	recordDependencyOn(&depender, &referenced, DEPENDENCY_NORMAL);
}

static void
object_accessed(ObjectAccessType access, Oid class, Oid object, int sub, void *arg)
{
	if (prev_object_access)
		prev_object_access(access, class, object, sub, arg);
	if ((access == OAT_POST_CREATE || access == OAT_POST_ALTER) && class == RelationRelationId &&
		sub == 0)
		search_depend_on_config(object);
}

void
search_dependency_init(void)
{
	prev_object_access = object_access_hook;
	object_access_hook = object_accessed;
}
