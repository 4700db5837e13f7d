/*
 * index.c
 *		Can a view be refreshed CONCURRENTLY, and which index would it need?
 */
#include "pgopt.h"

#include "access/genam.h"
#include "access/relation.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "lib/stringinfo.h"
#include "nodes/parsenodes.h"
#include "rewrite/prs2lock.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "matview_internal.h"

/* Can REFRESH ... CONCURRENTLY use this index?  The server's own conditions. */
static bool
index_is_usable(Relation index)
{
	Form_pg_index form = index->rd_index;

	if (!form->indisunique || !form->indimmediate || !form->indisvalid ||
		index->rd_rel->relam != BTREE_AM_OID || form->indnatts == 0 ||
		RelationGetIndexPredicate(index) != NIL)
		return false;
	for (int i = 0; i < form->indnatts; i++)
		if (form->indkey.values[i] <= 0)
			return false;
	return true;
}

/* With nowait, an index that is locked counts as usable: nothing is said against the view then. */
bool
matview_has_usable_index(Relation rel, bool nowait)
{
	List *indexes = RelationGetIndexList(rel);
	ListCell *lc;
	bool found = false;

	foreach(lc, indexes)
	{
		Oid indexoid = lfirst_oid(lc);
		Relation index;

		if (nowait && !ConditionalLockRelationOid(indexoid, AccessShareLock))
		{
			found = true;
			continue;
		}
		index = index_open(indexoid, nowait ? NoLock : AccessShareLock);
		found = found || index_is_usable(index);
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	return found;
}

/*
 * The grouping columns of a matview are the key that its rows have; without
 * GROUP BY or DISTINCT, nothing says that any columns are one.
 */
static List *
key_columns(Relation rel)
{
	Query *query;
	List *clause;
	List *columns = NIL;
	ListCell *lc;

	if (rel->rd_rules == NULL || rel->rd_rules->numLocks != 1)
		return NIL;
	query = linitial_node(Query, rel->rd_rules->rules[0]->actions);
	if (query->setOperations != NULL || query->groupingSets != NIL)
		return NIL;
	clause = query->groupClause ? query->groupClause : query->distinctClause;
	foreach(lc, clause)
	{
		SortGroupClause *group = lfirst_node(SortGroupClause, lc);
		ListCell *target;
		char *column = NULL;

		foreach(target, query->targetList)
		{
			TargetEntry *tle = lfirst_node(TargetEntry, target);

			if (tle->ressortgroupref == group->tleSortGroupRef && !tle->resjunk)
				column =
					pstrdup(NameStr(TupleDescAttr(RelationGetDescr(rel), tle->resno - 1)->attname));
		}
		if (column == NULL)
			return NIL; /* grouped by something that it does not show */
		columns = lappend(columns, column);
	}
	return columns;
}

char *
matview_index_advice(Oid matview, bool nowait)
{
	Relation rel;
	StringInfoData sql;
	List *columns;
	ListCell *lc;
	const char *separator = "";

	if (nowait && !ConditionalLockRelationOid(matview, AccessShareLock))
		return NULL;
	rel = try_relation_open(matview, nowait ? NoLock : AccessShareLock);
	if (rel == NULL)
		return NULL;
	if (rel->rd_rel->relkind != RELKIND_MATVIEW || matview_has_usable_index(rel, nowait))
	{
		relation_close(rel, AccessShareLock);
		return NULL;
	}

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE UNIQUE INDEX ON %s (", relation_qualified_name(rel));
	columns = key_columns(rel);
	if (columns == NIL)
		appendStringInfoString(&sql, "...");
	foreach(lc, columns)
	{
		appendStringInfo(&sql, "%s%s", separator, quote_identifier(lfirst(lc)));
		separator = ", ";
	}
	appendStringInfoString(&sql, columns == NIL ? ") -- columns that identify a row" : ")");
	relation_close(rel, AccessShareLock);
	return sql.data;
}
