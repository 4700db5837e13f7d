/*
 * checks_indexes.c
 *		Indexes that are broken, and that nobody needs; those that are missing
 *		are in indexes_missing.c.
 *
 * Which ones that are, hygiene.h judges; here they are reported.
 */
#include "pgopt.h"

#include "catalog/dependency.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "utils/timestamp.h"

#include "health.h"
#include "hygiene.h"
#include "monitor.h"
#include "relations.h"
#include "suspects.h"
#include "verdicts.h"

static Threshold unused_size = {
	.name = "unused_index_size",
	.unit = UNIT_MB,
	.boot_value = 1,
	.description = "Size below which nobody is told that an index is not used.",
};

Hygiene *
health_hygiene(HealthRun *run)
{
	if (run->hygiene == NULL)
	{
		Relations *relations = health_relations(run);
		MemoryContext old = MemoryContextSwitchTo(run->context);

		run->hygiene = hygiene_judge(relations, run->now, threshold_value(&unused_size));
		MemoryContextSwitchTo(old);
	}
	return run->hygiene;
}

/* Reports all indexes with a fault. */
static void
report_fault(HealthRun *run, IndexFault fault,
			 bool (*describe)(HealthRun *run, const Suspect *suspect, Finding *finding),
			 const char *rest)
{
	const Hygiene *hygiene = health_hygiene(run);
	Suspects suspects = {0};

	for (int i = 0; i < hygiene->relations->nindexes; i++)
	{
		const RelationIndex *index = &hygiene->relations->indexes[i];
		const IndexJudgement *judgement = &hygiene->judgement[i];

		if (judgement->fault == fault)
			suspects_add(&suspects, SEVERITY_WARNING, index->bytes, index, judgement->cover);
	}
	suspects_report(run, &suspects, describe, rest);
}

/* --- index_invalid ----------------------------------------------------------- */

static bool
describe_invalid(HealthRun *run, const Suspect *suspect, Finding *finding)
{
	const RelationIndex *index = suspect->what;
	char *name = relation_name(index->oid);
	char *table = relation_name(index->table->oid);
	bool failed;

	if (!index_is_invalid(index) || name == NULL || table == NULL)
		return false;

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
		index_is_leftover(index) ? "true" : "false");
	finding->remedy = index_invalid_sql(run->hygiene, index, name, &finding->remedy_lock, &failed);
	if (failed)
	{
		/* it became invalid because of duplicates, and would again */
		char *definition = pg_get_indexdef_string(index->oid);
		char *rest = strstr(definition, " INDEX ");

		if (rest != NULL && strpbrk(definition, "\r\n") == NULL)
			finding->remedy = psprintf(
				"%s -- and once there are no duplicates: CREATE UNIQUE INDEX CONCURRENTLY %s;",
				finding->remedy,
				rest + strlen(" INDEX "));
	}
	return true;
}

static void
check_invalid(HealthRun *run)
{
	report_fault(run, FAULT_INVALID, describe_invalid, "indexes are invalid");
}

/* --- index_duplicate, index_redundant ------------------------------------------ */

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
	if (index_has_constraint(drop))
	{
		char *constraint = get_constraint_name(get_index_constraint(drop->oid));

		if (constraint == NULL)
			return false;
		finding->remedy =
			psprintf("ALTER TABLE %s DROP CONSTRAINT %s;", table, quote_identifier(constraint));
		finding->remedy_lock = LOCK_ALL;
	}
	else
		finding->remedy = index_drop_sql(drop, name, &finding->remedy_lock);
	return true;
}

static void
check_duplicate(HealthRun *run)
{
	report_fault(run, FAULT_DUPLICATE, describe_duplicate, "indexes do what another one does");
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
	finding->remedy = index_drop_sql(drop, name, &finding->remedy_lock);
	return true;
}

static void
check_redundant(HealthRun *run)
{
	const Hygiene *hygiene = health_hygiene(run);
	Suspects suspects = {0};

	for (int i = 0; i < hygiene->relations->nindexes; i++)
	{
		const RelationIndex *index = &hygiene->relations->indexes[i];

		if (hygiene->judgement[i].longer != NULL)
			suspects_add(
				&suspects, SEVERITY_INFO, index->bytes, index, hygiene->judgement[i].longer);
	}
	suspects_report(
		run, &suspects, describe_redundant, "indexes begin another one, which can stand in");
}

/* --- index_unused ------------------------------------------------------------------ */

static bool
describe_unused(HealthRun *run, const Suspect *suspect, Finding *finding)
{
	const RelationIndex *index = suspect->what;
	TimestampTz since = hygiene_of(run->hygiene, index)->since;
	char *name = relation_name(index->oid);
	char *table = relation_name(index->table->oid);
	double days = (double) (run->now - since) / USECS_PER_DAY;

	if (name == NULL || table == NULL)
		return false;
	finding->object = name;
	finding->message = psprintf("no query has used the index %s (%s) of %s for %.0f days%s",
								name,
								bytes_text(index->bytes),
								table,
								days,
								run->hygiene->standbys > 0 ? ", but standbys may" : "");
	finding->evidence = psprintf("{\"table\": %s, \"bytes\": %.0f, \"days\": %.2f, \"scans\": 0, "
								 "\"scans_of_table\": " INT64_FORMAT
								 ", \"writes_of_table\": " INT64_FORMAT ", \"standbys\": %d}",
								 health_json_string(table),
								 index->bytes,
								 days,
								 index->table->stats.scans + index->table->index_scans,
								 index->table->stats.inserted + index->table->stats.updated -
									 index->table->stats.hot_updated,
								 run->hygiene->standbys);
	finding->since = since;
	finding->remedy = index_drop_sql(index, name, &finding->remedy_lock);
	return true;
}

static void
check_unused(HealthRun *run)
{
	const Hygiene *hygiene = health_hygiene(run);
	Suspects suspects = {0};
	int candidates = 0;

	for (int i = 0; i < hygiene->relations->nindexes; i++)
	{
		const RelationIndex *index = &hygiene->relations->indexes[i];
		const IndexJudgement *judgement = &hygiene->judgement[i];
		double seconds = (double) (run->now - judgement->since) / USECS_PER_SEC;

		if (judgement->fault == FAULT_UNSEEN)
			candidates++;
		if (judgement->fault != FAULT_UNUSED)
			continue;
		suspects_add(&suspects,
					 seconds >= threshold_value(&hygiene_unused_warning) && hygiene->standbys == 0
						 ? SEVERITY_WARNING
						 : SEVERITY_INFO,
					 index->bytes,
					 index,
					 NULL);
	}
	if (candidates > 0 && hygiene->since == 0)
		run->unknown = "it is not known since when scans are counted";
	suspects_report(run, &suspects, describe_unused, "indexes are not used");
}

/* --- index_verdict_slower ---------------------------------------------------------- */

static bool
describe_slower(HealthRun *run, const Suspect *suspect, Finding *finding)
{
	const IndexVerdict *verdict = suspect->what;
	const RelationIndex *index = verdict->index;
	char *name = relation_name(index->oid);
	char *table = relation_name(index->table->oid);
	StringInfoData queryids;
	ListCell *cell;

	if (name == NULL || table == NULL)
		return false;
	initStringInfo(&queryids);
	foreach(cell, verdict->statements)
	{
		const StatementVerdict *statement = lfirst(cell);

		if (statement->outcome == OUTCOME_SLOWER)
			appendStringInfo(&queryids,
							 "%s\"" INT64_FORMAT "\"",
							 queryids.len > 0 ? ", " : "",
							 statement->queryid);
	}
	finding->object = name;
	finding->message = psprintf("since the index %s (%s) of %s was made on advice, %s",
								name,
								bytes_text(index->bytes),
								table,
								verdict->reason);
	finding->evidence = psprintf(
		"{\"table\": %s, \"slower\": %d, \"faster\": %d, \"saved_ms\": %.3f, \"queryids\": [%s]}",
		health_json_string(table),
		verdict->slower,
		verdict->faster,
		verdict->saved,
		queryids.data);
	finding->since = verdict->created;
	if (verdict->revert != NULL)
		finding->remedy = index_drop_sql(index, name, &finding->remedy_lock);
	return true;
}

static void
check_slower(HealthRun *run)
{
	Suspects suspects = {0};
	ListCell *cell;

	foreach(cell, verdicts_read(health_relations(run), true))
	{
		const IndexVerdict *verdict = lfirst(cell);

		if (verdict->slower > 0)
			suspects_add(&suspects,
						 verdict->outcome == INDEX_REVERT ? SEVERITY_WARNING : SEVERITY_INFO,
						 -verdict->saved,
						 verdict,
						 NULL);
	}
	suspects_report(run, &suspects, describe_slower, "indexes made statements slower");
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
		.thresholds = {&hygiene_unused_info, &hygiene_unused_warning, &unused_size},
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
		.id = "index_verdict_slower",
		.family = "advice",
		.weight = 1,
		.flags = CHECK_PRIMARY,
		.needs = "pg_read_all_stats",
		.reference = README_SECTION("index-advisor"),
		.run = check_slower,
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
