/*
 * checks_indexes.c
 *		Indexes that are broken, and that nobody needs; those that are missing
 *		are in indexes_missing.c.
 *
 * An index of a partition is the business of the partitioned table's index:
 * findings are made there, and only for what a partition has of its own
 * otherwise.
 */
#include "pgopt.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/dependency.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_index.h"
#include "miscadmin.h"
#include "replication/slot.h"
#include "replication/walsender_private.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "core.h"
#include "health.h"
#include "monitor.h"
#include "relations.h"

#define DAY_S (24 * 3600)

static Threshold unused_info = {
	.name = "unused_index_info",
	.unit = UNIT_SECONDS,
	.boot_value = 7 * DAY_S,
	.description = "How long an index must not have been used to be worth knowing.",
};

static Threshold unused_warning = {
	.name = "unused_index_warning",
	.unit = UNIT_SECONDS,
	.boot_value = 35 * DAY_S,
	.description = "How long an index must not have been used to be a warning.",
};

static Threshold unused_size = {
	.name = "unused_index_size",
	.unit = UNIT_MB,
	.boot_value = 1,
	.description = "Size below which nobody is told that an index is not used.",
};

/* --- what indexes have in common -------------------------------------------- */

static bool
same_list(char *a, char *b)
{
	return a != NULL && b != NULL && equal(stringToNode(a), stringToNode(b));
}

static bool
same_predicate(const RelationIndex *a, const RelationIndex *b)
{
	if (a->has_predicate != b->has_predicate)
		return false;
	return !a->has_predicate || same_list(index_predicate(a->oid), index_predicate(b->oid));
}

static bool
same_expressions(const RelationIndex *a, const RelationIndex *b)
{
	if (a->has_expressions != b->has_expressions)
		return false;
	return !a->has_expressions || same_list(index_expressions(a->oid), index_expressions(b->oid));
}

static bool
same_keys(const RelationIndex *a, const RelationIndex *b, int n)
{
	return memcmp(a->keys, b->keys, n * sizeof(int16)) == 0 &&
		   memcmp(a->opclasses, b->opclasses, n * sizeof(Oid)) == 0 &&
		   memcmp(a->collations, b->collations, n * sizeof(Oid)) == 0 &&
		   memcmp(a->options, b->options, n * sizeof(int16)) == 0;
}

/* Does a primary key, unique or exclusion constraint own it? */
static bool
has_constraint(const RelationIndex *index)
{
	return index->primary || index->exclusion ||
		   (index->unique && OidIsValid(get_index_constraint(index->oid)));
}

/* How to get rid of one that no constraint owns. */
static void
remedy_drop(Finding *finding, const RelationIndex *index, const char *name)
{
	if (index->partitioned)
	{
		finding->remedy = psprintf("DROP INDEX %s;", name);
		finding->remedy_lock = "ACCESS EXCLUSIVE on the table and its partitions";
		return;
	}
	finding->remedy = psprintf("DROP INDEX CONCURRENTLY %s;", name);
	finding->remedy_lock = LOCK_SHARE_UPDATE;
}

/* --- index_invalid ----------------------------------------------------------- */

/*
 * Is it just being built, rebuilt or dropped?  Whoever does so holds a lock on
 * the index, or one on its table while reporting progress.
 */
static bool
is_being_built(const RelationIndex *index)
{
	Oid types[] = {OIDOID, OIDOID};
	Datum values[] = {ObjectIdGetDatum(index->oid), ObjectIdGetDatum(index->table->oid)};
	bool built;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	built =
		pgopt_spi_execute(
			"SELECT FROM pg_locks l"
			" WHERE l.locktype = 'relation'"
			"   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
			"   AND l.mode IN ('ShareUpdateExclusiveLock', 'AccessExclusiveLock')"
			"   AND (l.relation = $1 AND l.granted"
			"        OR l.relation = $2 AND l.pid IN (SELECT pid FROM pg_stat_progress_create_index))"
			" LIMIT 1",
			2,
			types,
			values,
			NULL,
			true,
			SPI_OK_SELECT) > 0;
	SPI_finish();
	return built;
}

/* As the catalog has it by now. */
static bool
is_still_invalid(Oid oid)
{
	HeapTuple tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(oid));
	bool invalid;

	if (!HeapTupleIsValid(tuple))
		return false;
	invalid = !((Form_pg_index) GETSTRUCT(tuple))->indisvalid;
	ReleaseSysCache(tuple);
	return invalid;
}

static bool
ends_with(const char *name, const char *ending)
{
	const char *at = strstr(name, ending);

	/* a number may follow where the name was taken */
	return at != NULL && strspn(at + strlen(ending), "0123456789") == strlen(at + strlen(ending));
}

static bool
describe_invalid(HealthRun *run, const Suspect *suspect, Finding *finding)
{
	const RelationIndex *index = suspect->what;
	char *name = relation_name(index->oid);
	char *table = relation_name(index->table->oid);
	char *plain = get_rel_name(index->oid);
	bool leftover;

	if (is_being_built(index) || !is_still_invalid(index->oid) || name == NULL || table == NULL ||
		plain == NULL)
		return false;
	leftover = ends_with(plain, "_ccnew") || ends_with(plain, "_ccold");

	finding->object = name;
	finding->message =
		psprintf("the index %s of %s (%s) is invalid: queries do not use it, %s",
				 name,
				 table,
				 bytes_text(Max(relation_file_bytes(index->oid), 0)),
				 index->ready ? "every write pays for it" : "and it does not hold what is written");
	finding->evidence = psprintf(
		"{\"table\": %s, \"bytes\": %.0f, \"ready\": %s, \"unique\": %s, \"leftover\": %s}",
		health_json_string(table),
		Max(relation_file_bytes(index->oid), 0),
		index->ready ? "true" : "false",
		index->unique ? "true" : "false",
		leftover ? "true" : "false");
	if (index->parent != NULL || index->exclusion || (!leftover && has_constraint(index)))
	{
		/* these cannot be dropped; an exclusion constraint's cannot be rebuilt concurrently */
		finding->remedy =
			psprintf("REINDEX INDEX %s%s;", index->exclusion ? "" : "CONCURRENTLY ", name);
		finding->remedy_lock = index->exclusion ? LOCK_ALL : LOCK_SHARE_UPDATE;
	}
	else if (leftover)
		remedy_drop(finding, index, name);
	else if (index->unique)
	{
		/* it became invalid because of duplicates, and would again */
		char *definition = pg_get_indexdef_string(index->oid);
		char *rest = strstr(definition, " INDEX ");

		remedy_drop(finding, index, name);
		if (rest != NULL && strpbrk(definition, "\r\n") == NULL)
			finding->remedy = psprintf(
				"%s -- and once there are no duplicates: CREATE UNIQUE INDEX CONCURRENTLY %s;",
				finding->remedy,
				rest + strlen(" INDEX "));
	}
	else
	{
		finding->remedy = psprintf("REINDEX INDEX CONCURRENTLY %s;", name);
		finding->remedy_lock = LOCK_SHARE_UPDATE;
	}
	return true;
}

static void
check_invalid(HealthRun *run)
{
	Relations *relations = health_relations(run);
	Suspects suspects = {0};

	for (int i = 0; i < relations->nindexes; i++)
	{
		const RelationIndex *index = &relations->indexes[i];

		if (index->table == NULL || index->valid || index->partitioned)
			continue;
		if (index->table->class == RELATION_USER || index->table->class == RELATION_TOAST)
			suspects_add(&suspects, SEVERITY_WARNING, index->bytes, index, NULL);
	}
	suspects_report(run, &suspects, describe_invalid, "indexes are invalid");
}

/* --- index_duplicate, index_redundant ------------------------------------------ */

/* Which of two equal indexes must stay: the higher one. */
static int
importance(const RelationIndex *index)
{
	return (index->primary ? 64 : 0) + (has_constraint(index) ? 32 : 0) +
		   (index->referenced ? 16 : 0) + (index->parent != NULL ? 8 : 0) +
		   (index->replica_identity ? 4 : 0) + (index->unique ? 2 : 0) + (index->clustered ? 1 : 0);
}

/* Do both do the same for queries, and the one that stays all that the other does for writers? */
static bool
is_duplicate(const RelationIndex *a, const RelationIndex *b)
{
	if (a->am != b->am || a->natts != b->natts || a->nkeys != b->nkeys || a->exclusion ||
		b->exclusion || a->partitioned != b->partitioned)
		return false;
	if (a->parent != NULL && b->parent != NULL)
		return false; /* told at the parent */
	if (a->unique && b->unique &&
		(a->nulls_not_distinct != b->nulls_not_distinct || a->immediate != b->immediate))
		return false;
	/* a deferred one is of no use to the planner's proofs, nor for ON CONFLICT */
	if (a->unique != b->unique && !(a->unique ? a : b)->immediate)
		return false;
	return same_keys(a, b, a->nkeys) && memcmp(a->keys, b->keys, a->natts * sizeof(int16)) == 0 &&
		   same_expressions(a, b) && same_predicate(a, b);
}

static bool
describe_duplicate(HealthRun *run, const Suspect *suspect, Finding *finding)
{
	const RelationIndex *drop = suspect->what;
	const RelationIndex *keep = suspect->other;
	char *name = relation_name(drop->oid);
	char *other = relation_name(keep->oid);
	char *table = relation_name(drop->table->oid);

	if (name == NULL || other == NULL || table == NULL)
		return false;
	finding->object = name;
	finding->message = psprintf("the index %s (%s) of %s does what %s does as well",
								name,
								bytes_text(drop->bytes),
								table,
								other);
	finding->evidence =
		psprintf("{\"table\": %s, \"duplicate_of\": %s, \"bytes\": %.0f, "
				 "\"scans\": " INT64_FORMAT ", \"scans_of_other\": " INT64_FORMAT "}",
				 health_json_string(table),
				 health_json_string(other),
				 drop->bytes,
				 drop->scans,
				 keep->scans);
	if (has_constraint(drop))
	{
		char *constraint = get_constraint_name(get_index_constraint(drop->oid));

		if (constraint == NULL)
			return false;
		finding->remedy =
			psprintf("ALTER TABLE %s DROP CONSTRAINT %s;", table, quote_identifier(constraint));
		finding->remedy_lock = LOCK_ALL;
	}
	else
		remedy_drop(finding, drop, name);
	return true;
}

static void
check_duplicate(HealthRun *run)
{
	Relations *relations = health_relations(run);
	Suspects suspects = {0};

	for (int i = 0; i < relations->ntables; i++)
	{
		const RelationInfo *table = &relations->tables[i];

		if (!relation_is_users(table) || table->indexes == NULL || table->indexes->next == NULL)
			continue;
		CHECK_FOR_INTERRUPTS();
		/* each that is one too many is told of once */
		for (const RelationIndex *a = table->indexes; a != NULL; a = a->next)
			for (const RelationIndex *b = table->indexes; b != NULL; b = b->next)
			{
				int of_a;
				int of_b;

				if (a == b || !index_is_usable(a) || !index_is_usable(b) || !is_duplicate(a, b))
					continue;
				of_a = importance(a);
				of_b = importance(b);
				if (of_a > of_b || (of_a == of_b && a->oid < b->oid))
					continue;
				if (a->parent != NULL || a->referenced)
					continue; /* has to stay */
				suspects_add(&suspects, SEVERITY_WARNING, a->bytes, a, b);
				break;
			}
	}
	suspects_report(run, &suspects, describe_duplicate, "indexes do what another one does");
}

/* Are the keys of a those that b begins with, so that whoever uses a could use b? */
static bool
is_prefix(const RelationIndex *a, const RelationIndex *b)
{
	if (a->am != BTREE_AM_OID || b->am != BTREE_AM_OID || a->nkeys >= b->nkeys ||
		a->partitioned != b->partitioned)
		return false;
	if (a->unique || a->primary || a->exclusion || a->replica_identity || a->clustered ||
		a->has_expressions || a->parent != NULL)
		return false;
	for (int i = 0; i < a->nkeys; i++)
		if (b->keys[i] == 0)
			return false;
	/* what it only includes must be in the other, too */
	for (int i = a->nkeys; i < a->natts; i++)
	{
		bool found = false;

		for (int j = 0; j < b->natts; j++)
			found |= a->keys[i] == b->keys[j];
		if (!found)
			return false;
	}
	return same_keys(a, b, a->nkeys) && same_predicate(a, b);
}

static bool
describe_redundant(HealthRun *run, const Suspect *suspect, Finding *finding)
{
	const RelationIndex *drop = suspect->what;
	const RelationIndex *keep = suspect->other;
	char *name = relation_name(drop->oid);
	char *other = relation_name(keep->oid);
	char *table = relation_name(drop->table->oid);

	if (name == NULL || other == NULL || table == NULL)
		return false;
	finding->object = name;
	finding->message = psprintf("%s begins with the columns of the index %s (%s) and can stand in "
								"for it",
								other,
								name,
								bytes_text(drop->bytes));
	finding->evidence =
		psprintf("{\"table\": %s, \"covered_by\": %s, \"bytes\": %.0f, \"bytes_of_other\": %.0f, "
				 "\"scans\": " INT64_FORMAT "}",
				 health_json_string(table),
				 health_json_string(other),
				 drop->bytes,
				 keep->bytes,
				 drop->scans);
	remedy_drop(finding, drop, name);
	return true;
}

static void
check_redundant(HealthRun *run)
{
	Relations *relations = health_relations(run);
	Suspects suspects = {0};

	for (int i = 0; i < relations->ntables; i++)
	{
		const RelationInfo *table = &relations->tables[i];

		if (!relation_is_users(table) || table->indexes == NULL || table->indexes->next == NULL)
			continue;
		CHECK_FOR_INTERRUPTS();
		for (const RelationIndex *a = table->indexes; a != NULL; a = a->next)
			for (const RelationIndex *b = table->indexes; b != NULL; b = b->next)
				if (a != b && index_is_usable(a) && index_is_usable(b) && is_prefix(a, b))
				{
					suspects_add(&suspects, SEVERITY_INFO, a->bytes, a, b);
					break;
				}
	}
	suspects_report(
		run, &suspects, describe_redundant, "indexes begin another one, which can stand in");
}

/* --- index_unused ------------------------------------------------------------------ */

/* Standbys that may run queries of their own, of which nothing is known here. */
static int
count_standbys(void)
{
	int count = 0;

	for (int i = 0; i < max_wal_senders; i++)
	{
		WalSnd *sender = &WalSndCtl->walsnds[i];
		pid_t pid;
		bool applies;

		SpinLockAcquire(&sender->mutex);
		pid = sender->pid;
		applies = sender->state == WALSNDSTATE_STREAMING && !XLogRecPtrIsInvalid(sender->apply);
		SpinLockRelease(&sender->mutex);
		if (pid == 0 || !applies)
			continue;
		/* a subscription's is none */
		LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
		for (int j = 0; j < max_replication_slots; j++)
		{
			ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[j];

			if (slot->in_use && slot->active_pid == pid && SlotIsLogical(slot))
				applies = false;
		}
		LWLockRelease(ReplicationSlotControlLock);
		if (applies)
			count++;
	}
	return count;
}

typedef struct Unused
{
	const RelationIndex *index;
	TimestampTz since;
	int standbys;
} Unused;

static bool
describe_unused(HealthRun *run, const Suspect *suspect, Finding *finding)
{
	const Unused *unused = suspect->what;
	const RelationIndex *index = unused->index;
	char *name = relation_name(index->oid);
	char *table = relation_name(index->table->oid);
	double days = (double) (run->now - unused->since) / USECS_PER_DAY;

	if (name == NULL || table == NULL)
		return false;
	finding->object = name;
	finding->message = psprintf("no query has used the index %s (%s) of %s for %.0f days%s",
								name,
								bytes_text(index->bytes),
								table,
								days,
								unused->standbys > 0 ? ", but standbys may" : "");
	finding->evidence = psprintf("{\"table\": %s, \"bytes\": %.0f, \"days\": %.2f, \"scans\": 0, "
								 "\"scans_of_table\": " INT64_FORMAT
								 ", \"writes_of_table\": " INT64_FORMAT ", \"standbys\": %d}",
								 health_json_string(table),
								 index->bytes,
								 days,
								 index->table->stats.scans + index->table->index_scans,
								 index->table->stats.inserted + index->table->stats.updated -
									 index->table->stats.hot_updated,
								 unused->standbys);
	finding->since = unused->since;
	remedy_drop(finding, index, name);
	return true;
}

static void
check_unused(HealthRun *run)
{
	Relations *relations = health_relations(run);
	Suspects suspects = {0};
	TimestampTz since = 0;
	int standbys = 0;
	bool asked = false;
	bool reset;

	for (int i = 0; i < relations->nindexes; i++)
	{
		const RelationIndex *index = &relations->indexes[i];
		Unused *unused;
		TimestampTz made;
		double seconds;

		if (!index_is_usable(index) || index->scans > 0 || index->parent != NULL ||
			index->bytes < threshold_value(&unused_size) || !relation_is_users(index->table) ||
			index->unique || index->primary || index->exclusion || index->replica_identity ||
			index->clustered)
			continue;
		CHECK_FOR_INTERRUPTS();
		if (!asked)
		{
			since = health_statistics_since(&reset);
			standbys = count_standbys();
			asked = true;
		}
		if (since == 0)
		{
			run->unknown = "it is not known since when scans are counted";
			return;
		}

		if (run->now - since < threshold_value(&unused_info) * USECS_PER_SEC)
			return;

		/* it may be younger than the statistics */
		made = relation_file_created(index->oid);
		made = Max(since, made);
		seconds = (double) (run->now - made) / USECS_PER_SEC;
		if (seconds < threshold_value(&unused_info))
			continue;

		/* without it the foreign key would be the next finding */
		if (missing_without(index))
			continue;

		unused = palloc(sizeof(Unused));
		*unused = (Unused){index, made, standbys};
		suspects_add(&suspects,
					 seconds >= threshold_value(&unused_warning) && standbys == 0 ? SEVERITY_WARNING
																				  : SEVERITY_INFO,
					 index->bytes,
					 unused,
					 NULL);
	}
	suspects_report(run, &suspects, describe_unused, "indexes are not used");
}

const HealthCheck checks_indexes[] = {
	{
		.id = "index_invalid",
		.family = "broken",
		.weight = 1,
		.flags = CHECK_PRIMARY,
		.reference = DOCS("sql-createindex.html#SQL-CREATEINDEX-CONCURRENTLY"),
		.run = check_invalid,
	},
	{
		.id = "index_unused",
		.family = "needless",
		.weight = 0.5,
		.flags = CHECK_PRIMARY,
		.thresholds = {&unused_info, &unused_warning, &unused_size},
		.reference = DOCS("monitoring-stats.html#MONITORING-PG-STAT-ALL-INDEXES-VIEW"),
		.run = check_unused,
	},
	{
		.id = "index_duplicate",
		.family = "needless",
		.weight = 1,
		.reference = DOCS("indexes-intro.html"),
		.run = check_duplicate,
	},
	{
		.id = "index_redundant",
		.family = "needless",
		.weight = 0.5,
		.reference = DOCS("indexes-multicolumn.html"),
		.run = check_redundant,
	},
	{
		.id = "foreign_key_unindexed",
		.family = "missing",
		.weight = 1,
		.thresholds = {&missing_key_rows},
		.reference = DOCS("ddl-constraints.html#DDL-CONSTRAINTS-FK"),
		.run = missing_check_foreign_keys,
	},
	{
		.id = "sequential_scans",
		.family = "missing",
		.weight = 1,
		.thresholds =
			{&missing_scans_size, &missing_scans_rows, &missing_scans_info, &missing_scans_warning},
		.reference = DOCS("indexes-examine.html"),
		.run = missing_check_scans,
	},
};

const int checks_indexes_count = lengthof(checks_indexes);
