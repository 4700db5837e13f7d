/*
 * remedy.c
 *		What an estimate means: how much, and which SQL gives it back.
 *
 * A rewrite is worth its lock from 30 % and 10 MB on, for certain (that is,
 * at the lower end of the interval).
 */
#include "pgopt.h"

#include "access/relation.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "bloat.h"

#define WORTH_BYTES   (10.0 * 1024 * 1024)
#define WORTH_PERCENT 30.0
#define DEAD_PERCENT  20.0

#define LOCK_VACUUM   "SHARE UPDATE EXCLUSIVE on the table"
#define LOCK_REINDEX  "SHARE on the table, ACCESS EXCLUSIVE on the index"

int pgopt_bloat_time_budget = 100;

const BloatBudget bloat_budget_full = {
	.whole = 1000, .first = 192, .most = 1000, .share = 0.012, .target = 0.5};
const BloatBudget bloat_budget_screen = {
	.whole = 32, .first = 32, .most = 32, .share = 0, .target = 0};

/* An index has a page with a few hundred entries where a table has a few rows. */
const BloatBudget bloat_budget_index = {
	.whole = 1000, .first = 96, .most = 1000, .share = 0.012, .target = 1.0};

/* For an index's table only the number of its rows is wanted. */
const BloatBudget bloat_budget_rows = {
	.whole = 500, .first = 96, .most = 640, .share = 0.005, .target = 0.8, .rows_only = true};

void
bloat_init(void)
{
	DefineCustomIntVariable(
		"pgopt.bloat_time_budget",
		"Time that the bloat checks of one look at health may take.",
		"Relations are measured largest first; those that are not reached make the checks unknown.",
		&pgopt_bloat_time_budget,
		100,
		0,
		3600 * 1000,
		PGC_USERSET,
		GUC_UNIT_MS,
		NULL,
		NULL,
		NULL);
}

Relation
bloat_open(Oid relid, bool *locked)
{
	Relation rel;

	*locked = !ConditionalLockRelationOid(relid, AccessShareLock);
	if (*locked)
		return NULL;
	rel = try_relation_open(relid, NoLock);
	if (rel == NULL)
		UnlockRelationOid(relid, AccessShareLock);
	return rel;
}

double
bloat_reclaimable(const BloatEstimate *estimate)
{
	return Max(estimate->size - estimate->rewritten, 0);
}

double
bloat_reclaimable_low(const BloatEstimate *estimate)
{
	return Max(estimate->size - estimate->rewritten_high, 0);
}

double
bloat_reclaimable_high(const BloatEstimate *estimate)
{
	return Max(estimate->size - estimate->rewritten_low, 0);
}

const char *
bloat_confidence_name(BloatConfidence confidence)
{
	switch (confidence)
	{
		case BLOAT_HIGH:
			return "high";
		case BLOAT_MEDIUM:
			return "medium";
		case BLOAT_LOW:
			return "low";
		case BLOAT_UNKNOWN:
			break;
	}
	return NULL;
}

double
bloat_percent(double part, const BloatEstimate *estimate)
{
	return estimate->size > 0 ? 100 * part / estimate->size : 0;
}

bool
bloat_is_worth_it(const BloatEstimate *estimate)
{
	double low = bloat_reclaimable_low(estimate);

	return low >= WORTH_BYTES && bloat_percent(low, estimate) >= WORTH_PERCENT;
}

static char *
qualified_name(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  get_rel_name(relid));
}

static void
vacuum_remedy(Relation table, BloatRemedy *remedy)
{
	char *name = qualified_name(RelationGetRelid(table));
	StdRdOptions *options = (StdRdOptions *) table->rd_options;
	const char *kind = table->rd_rel->relkind == RELKIND_MATVIEW ? "MATERIALIZED VIEW" : "TABLE";

	remedy->sql = psprintf("VACUUM (ANALYZE) %s;", name);
	remedy->lock = LOCK_VACUUM;
	remedy->reason = "dead rows: a vacuum makes their space usable again";
	if (options != NULL && !options->autovacuum.enabled)
	{
		remedy->sql =
			psprintf("%s\nALTER %s %s RESET (autovacuum_enabled);", remedy->sql, kind, name);
		remedy->reason = "dead rows that autovacuum is told to leave alone: a vacuum makes their "
						 "space usable again";
	}
	else if ((options == NULL || options->autovacuum.vacuum_scale_factor < 0) &&
			 !IsCatalogRelation(table))
		remedy->sql = psprintf("%s\nALTER %s %s SET (autovacuum_vacuum_scale_factor = 0.05); "
							   "-- sooner next time",
							   remedy->sql,
							   kind,
							   name);
}

void
bloat_table_remedy(Relation table, const BloatEstimate *estimate, bool worth_it,
				   BloatRemedy *remedy)
{
	char *name = qualified_name(RelationGetRelid(table));

	if (estimate->dead_bytes >= WORTH_BYTES &&
		bloat_percent(estimate->dead_bytes, estimate) >= DEAD_PERCENT)
		vacuum_remedy(table, remedy);
	else if (worth_it && estimate->empty_tail >= Min(1000, estimate->pages / 16) &&
			 estimate->empty_tail * BLCKSZ >= 0.6 * bloat_reclaimable(estimate))
	{
		remedy->sql = psprintf("VACUUM (TRUNCATE) %s;", name);
		remedy->lock = "ACCESS EXCLUSIVE on the table, for moments and only if nobody waits";
		remedy->reason = "the end of the file is empty: a vacuum gives it back";
	}
	else if (worth_it)
	{
		remedy->sql = psprintf("VACUUM (FULL, ANALYZE) %s;", name);
		remedy->lock = "ACCESS EXCLUSIVE on the table";
		/* a name of several lines would end the comment */
		if (OidIsValid(get_extension_oid("pg_repack", true)) && strpbrk(name, "\r\n") == NULL &&
			strpbrk(get_database_name(MyDatabaseId), "\r\n") == NULL)
			remedy->sql =
				psprintf("%s\n-- or, in a shell, without that lock: pg_repack -d %s -t %s",
						 remedy->sql,
						 quote_identifier(get_database_name(MyDatabaseId)),
						 name);
		remedy->reason = "free space that new rows can use, but that only a rewrite gives back";
	}
	else if (estimate->held_bytes >= WORTH_BYTES &&
			 bloat_percent(estimate->held_bytes, estimate) >= DEAD_PERCENT)
		remedy->reason =
			"dead rows that an old snapshot may still need: not even a rewrite removes "
			"them before it is gone";
	else if (remedy->reason == NULL)
		remedy->reason = "less than 30 % or 10 MB for certain: not worth a rewrite";
}

void
bloat_index_remedy(Relation index, bool worth_it, BloatRemedy *remedy)
{
	char *name = qualified_name(RelationGetRelid(index));

	if (!worth_it)
	{
		if (remedy->reason == NULL)
			remedy->reason = "less than 30 % or 10 MB for certain: not worth a rebuild";
		return;
	}
	if (remedy->reason == NULL)
		remedy->reason = "free space in its pages that only a rebuild gives back";
	if (IsCatalogRelationOid(index->rd_index->indrelid))
	{
		remedy->sql = psprintf("REINDEX INDEX %s;", name);
		remedy->lock = LOCK_REINDEX;
	}
	else if (index->rd_index->indisexclusion)
	{
		remedy->sql = psprintf(
			"REINDEX INDEX %s; -- exclusion constraints cannot be rebuilt concurrently", name);
		remedy->lock = LOCK_REINDEX;
	}
	else
	{
		remedy->sql = psprintf("REINDEX INDEX CONCURRENTLY %s;", name);
		remedy->lock = LOCK_VACUUM;
	}
}
