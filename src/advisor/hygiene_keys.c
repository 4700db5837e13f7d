/*
 * hygiene_keys.c
 *		Foreign keys and the indexes that serve them.
 *
 * Whoever deletes a row that others may refer to, or changes its key, looks for
 * them; without an index that is a scan of their table for each such row.
 */
#include "pgopt.h"

#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/primnodes.h"

#include "hygiene.h"

static bool
has_key(const RelationConstraint *constraint, int16 attnum)
{
	for (int i = 0; i < constraint->nkeys; i++)
		if (constraint->keys[i] == attnum)
			return true;
	return false;
}

/* Only "column IS NOT NULL" of the key, which every look-up of a foreign key implies? */
static bool
is_not_null_only(const RelationIndex *index, const RelationConstraint *constraint)
{
	char *predicate = index_predicate(index->oid);
	ListCell *cell;

	if (predicate == NULL)
		return false;
	/* the catalog has it explicitly ANDed */
	foreach(cell, make_ands_implicit((Expr *) stringToNode(predicate)))
	{
		NullTest *test = (NullTest *) lfirst(cell);

		if (!IsA(test, NullTest) || test->nulltesttype != IS_NOT_NULL || !IsA(test->arg, Var) ||
			!has_key(constraint, ((Var *) test->arg)->varattno))
			return false;
	}
	return true;
}

/* Can it find the rows that refer to a given one? */
static bool
serves(const RelationIndex *index, const RelationConstraint *constraint)
{
	if (!index_is_usable(index) || index->nkeys < constraint->nkeys)
		return false;
	if (index->am != BTREE_AM_OID && !(index->am == HASH_AM_OID && constraint->nkeys == 1))
		return false;
	for (int i = 0; i < constraint->nkeys; i++)
	{
		bool found = false;

		if (!has_key(constraint, index->keys[i]))
			return false;
		for (int j = 0; j < constraint->nkeys; j++)
			found |= index->keys[j] == constraint->keys[i];
		if (!found)
			return false;
	}
	return !index->has_predicate || is_not_null_only(index, constraint);
}

bool
key_needs_index(const Hygiene *hygiene, const RelationIndex *index)
{
	for (const RelationConstraint *c = index->table->constraints; c != NULL; c = c->next)
	{
		bool served = false;

		if (c->kind != CONSTRAINT_FOREIGN || !serves(index, c))
			continue;
		for (const RelationIndex *i = index->table->indexes; i != NULL && !served; i = i->next)
			served = i != index && i->valid && serves(i, c) && !hygiene_drops(hygiene, i);
		if (!served)
			return true;
	}
	return false;
}

bool
key_lacks_index(const RelationConstraint *constraint)
{
	const RelationInfo *table = constraint->table;

	if (constraint->kind != CONSTRAINT_FOREIGN || OidIsValid(constraint->parent) ||
		!constraint->enforced || table == NULL || constraint->referenced == NULL ||
		!relation_is_users(table))
		return false;
	for (const RelationIndex *i = table->indexes; i != NULL; i = i->next)
		if (serves(i, constraint))
			return false;
	return true;
}

bool
key_serves_key(const RelationConstraint *longer, const RelationConstraint *shorter)
{
	if (longer->table != shorter->table || longer->nkeys < shorter->nkeys)
		return false;
	for (int i = 0; i < shorter->nkeys; i++)
		if (!has_key(shorter, longer->keys[i]))
			return false;
	return true;
}

char *
key_columns(const RelationConstraint *constraint)
{
	StringInfoData columns;

	initStringInfo(&columns);
	for (int i = 0; i < constraint->nkeys; i++)
	{
		char *column = relation_column(constraint->table->oid, constraint->keys[i]);

		if (column == NULL)
			return NULL;
		appendStringInfo(&columns, "%s%s", i > 0 ? ", " : "", column);
	}
	return columns.data;
}

char *
key_index_sql(const RelationConstraint *constraint, const char *name, const char **lock)
{
	bool partitioned = constraint->table->kind == RELKIND_PARTITIONED_TABLE;
	char *table = relation_name(constraint->table->oid);
	char *columns = key_columns(constraint);

	if (table == NULL || columns == NULL)
		return NULL;
	*lock = partitioned ? "SHARE on the table and its partitions" : LOCK_SHARE_UPDATE;
	return psprintf("CREATE INDEX %s%s%sON %s (%s);",
					partitioned ? "" : "CONCURRENTLY ",
					name != NULL ? name : "",
					name != NULL ? " " : "",
					table,
					columns);
}
