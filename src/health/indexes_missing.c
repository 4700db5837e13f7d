/*
 * indexes_missing.c
 *		Indexes that are missing: for foreign keys, and for tables that are
 *		read from end to end.
 *
 * Findings are made at the root of a tree of partitions.
 */
#include "pgopt.h"

#include "catalog/dependency.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "health.h"
#include "hygiene.h"
#include "relations.h"
#include "suspects.h"

Threshold missing_key_rows = {
	.name = "foreign_key_rows",
	.unit = UNIT_NUMBER,
	.boot_value = 10000,
	.description =
		"Number of rows of a table from which on a foreign key without an index is a warning.",
};

Threshold missing_scans_size = {
	.name = "sequential_scans_size",
	.unit = UNIT_MB,
	.boot_value = 10,
	.description = "Size of a table below which sequential scans are all right.",
};

Threshold missing_scans_rows = {
	.name = "sequential_scans_rows",
	.unit = UNIT_NUMBER,
	.boot_value = 10000,
	.description =
		"Number of rows read by each sequential scan, on average, that is worth an index.",
};

Threshold missing_scans_info = {
	.name = "sequential_scans_info",
	.unit = UNIT_NUMBER,
	.boot_value = 50,
	.description = "Number of such sequential scans of a table that is worth knowing.",
};

Threshold missing_scans_warning = {
	.name = "sequential_scans_warning",
	.unit = UNIT_NUMBER,
	.boot_value = 1000,
	.description = "Number of such sequential scans of a table a day that is a warning.",
};

/* --- foreign_key_unindexed -------------------------------------------------------- */

static bool
describe_foreign_key(HealthRun *run, const Suspect *suspect, Finding *finding)
{
	const RelationConstraint *constraint = suspect->what;
	const RelationInfo *table = constraint->table;
	char *name = get_constraint_name(constraint->oid);
	char *from = relation_name(table->oid);
	char *to = relation_name(constraint->referenced->oid);
	char *columns = key_columns(constraint);
	int64 removed = constraint->referenced->stats.deleted;

	if (name == NULL || from == NULL || to == NULL || columns == NULL)
		return false;
	finding->object = psprintf("%s of %s", quote_identifier(name), from);
	finding->message = psprintf(
		"no index of %s begins with (%s): each row that goes from %s, or changes its key, costs a "
		"scan of about %.0f rows",
		from,
		columns,
		to,
		table->rows);
	finding->evidence =
		psprintf("{\"table\": %s, \"columns\": %s, \"references\": %s, \"rows\": %.0f, "
				 "\"bytes\": %.0f, \"deleted_from_referenced\": " INT64_FORMAT "}",
				 health_json_string(from),
				 health_json_string(columns),
				 health_json_string(to),
				 table->rows,
				 table->bytes,
				 removed);
	finding->remedy = key_index_sql(constraint, NULL, &finding->remedy_lock);
	return true;
}

void
missing_check_foreign_keys(HealthRun *run)
{
	Relations *relations = health_relations(run);
	Suspects suspects = {0};

	for (int i = 0; i < relations->nconstraints; i++)
	{
		const RelationConstraint *constraint = &relations->constraints[i];
		const RelationInfo *table = constraint->table;

		CHECK_FOR_INTERRUPTS();
		if (key_lacks_index(constraint))
			suspects_add(&suspects,
						 table->rows >= threshold_value(&missing_key_rows) ? SEVERITY_WARNING
																		   : SEVERITY_INFO,
						 table->rows,
						 constraint,
						 NULL);
	}
	suspects_report(run, &suspects, describe_foreign_key, "foreign keys have no index");
}

/* --- sequential_scans ----------------------------------------------------------------- */

/* In days: a rate over less says little. */
#define SHORTEST_OBSERVATION (1.0 / 24)

/* Of a table, or of all partitions of one. */
typedef struct Scans
{
	RelationInfo *table;
	int64 scans;
	int64 read;
	int64 index_scans;
} Scans;

static bool
describe_scans(HealthRun *run, const Suspect *suspect, Finding *finding)
{
	const Scans *scans = suspect->what;
	char *name = relation_name(scans->table->oid);

	if (name == NULL)
		return false;
	finding->object = name;
	finding->message = psprintf("%s (%s) was read from end to end " INT64_FORMAT
								" times, %.0f rows each, and " INT64_FORMAT " times by an index",
								name,
								bytes_text(scans->table->bytes),
								scans->scans,
								(double) scans->read / scans->scans,
								scans->index_scans);
	finding->evidence =
		psprintf("{\"bytes\": %.0f, \"sequential_scans\": " INT64_FORMAT
				 ", \"rows_read\": " INT64_FORMAT ", \"index_scans\": " INT64_FORMAT "}",
				 scans->table->bytes,
				 scans->scans,
				 scans->read,
				 scans->index_scans);
	finding->remedy = psprintf(
		"-- CREATE INDEX CONCURRENTLY on what its statements look for (pgopt_slow_queries());\n"
		"-- then, to count anew: SELECT pg_stat_reset_single_table_counters(%u); -- of %s",
		scans->table->oid,
		strpbrk(name, "\r\n") == NULL ? name : "that table");
	finding->remedy_lock = "SHARE UPDATE EXCLUSIVE on the table";
	return true;
}

void
missing_check_scans(HealthRun *run)
{
	Relations *relations = health_relations(run);
	Suspects suspects = {0};
	Scans *roots = NULL;
	bool reset;
	double days = (run->now - relations_statistics_since(&reset)) / (double) USECS_PER_DAY;

	for (int i = 0; i < relations->ntables; i++)
	{
		RelationInfo *table = &relations->tables[i];
		RelationInfo *root;
		Scans *scans;

		if (table->stats.scans == 0 || !relation_is_users(table))
			continue;
		root = relation_root(table);
		if (root->bytes < threshold_value(&missing_scans_size))
			continue;
		if (root == table)
		{
			scans = palloc0(sizeof(Scans));
			scans->scans = table->stats.scans;
			scans->read = table->stats.read;
			scans->index_scans = table->index_scans;
		}
		else
		{
			/* one query reads many partitions: its scans are those of the one read most often */
			if (roots == NULL)
				roots = palloc0(relations->ntables * sizeof(Scans));
			scans = &roots[root - relations->tables];
			scans->scans = Max(scans->scans, table->stats.scans);
			scans->read += table->stats.read;
			scans->index_scans = Max(scans->index_scans, table->index_scans);
			if (scans->table != NULL)
				continue; /* it is on the list */
		}
		scans->table = root;
		suspects_add(&suspects, SEVERITY_INFO, 0, scans, NULL);
	}

	/* now that partitions are added up */
	for (int i = 0; i < suspects.count;)
	{
		Suspect *suspect = &suspects.all[i];
		const Scans *scans = suspect->what;

		if (scans->scans < threshold_value(&missing_scans_info) ||
			(double) scans->read / scans->scans < threshold_value(&missing_scans_rows) ||
			scans->scans <= scans->index_scans)
		{
			*suspect = suspects.all[--suspects.count];
			continue;
		}
		suspect->badness = (double) scans->read;
		if (scans->scans / Max(days, SHORTEST_OBSERVATION) >=
			threshold_value(&missing_scans_warning))
			suspect->severity = SEVERITY_WARNING;
		i++;
	}
	suspects_report(run, &suspects, describe_scans, "large tables are read from end to end");
}
