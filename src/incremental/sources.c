/*
 * sources.c
 *		The stored relations whose row logs a compiled view consumes.
 *
 * A program's leaf names a relation as the view does; its changes are in the
 * logs of the tables that hold its rows: itself, its partitions, what inherits
 * from it.
 *
 * Locks: ACCESS SHARE on each, kept to the end of the transaction.  Cost:
 * linear in leaves and their children.
 */
#include "pgopt.h"

#include "access/sysattr.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"

#include "sources.h"

static Source *
find_or_add(List **sources, Oid relid)
{
	Source *source;
	ListCell *lc;

	foreach(lc, *sources)
	{
		source = lfirst(lc);
		if (source->relid == relid)
			return source;
	}
	source = palloc0(sizeof(Source));
	source->relid = relid;
	*sources = lappend(*sources, source);
	return source;
}

static void
add_columns(Source *source, const DeltaStore *leaf)
{
	for (int i = 0; i < leaf->ncolumns; i++)
	{
		AttrNumber attnum = leaf->attnums[i];

		if (source->relid != leaf->relid)
			attnum = get_attnum(source->relid, get_attname(leaf->relid, attnum, false));
		source->columns =
			bms_add_member(source->columns, attnum - FirstLowInvalidHeapAttributeNumber);
	}
}

List *
sources_of(const IncrementalPlan *plan)
{
	List *sources = NIL;

	for (int i = 0; i < plan->program->nstores; i++)
	{
		const DeltaStore *leaf = &plan->program->stores[i];
		List *relids;
		ListCell *lc;

		if (!OidIsValid(leaf->relid))
			continue;
		if (leaf->inherited)
			relids = find_all_inheritors(leaf->relid, AccessShareLock, NULL);
		else
		{
			LockRelationOid(leaf->relid, AccessShareLock);
			relids = list_make1_oid(leaf->relid);
		}
		foreach(lc, relids)
		{
			if (get_rel_relkind(lfirst_oid(lc)) != RELKIND_PARTITIONED_TABLE)
				add_columns(find_or_add(&sources, lfirst_oid(lc)), leaf);
		}
	}
	return sources;
}

void
sources_mark(List *sources, Snapshot snapshot)
{
	ListCell *lc;

	foreach(lc, sources)
	{
		Source *source = lfirst(lc);

		source->mark = rowlog_mark(source->relid, snapshot);
	}
}
