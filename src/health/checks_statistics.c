/*
 * checks_statistics.c
 *		Tables that the planner knows nothing about, or nothing new.
 *
 * What autovacuum will do by itself is only worth knowing; what it never will
 * is a warning.
 */
#include "pgopt.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_statistic.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/timestamp.h"

#include "health.h"
#include "monitor.h"
#include "relations.h"
#include "suspects.h"

/* Where nothing is known of rows: as many bytes as few of them take. */
#define BYTES_A_ROW 100

/* Files looked at for that, at most. */
#define MAX_FILES 1000

static Threshold never_rows = {
	.name = "never_analysed_rows",
	.unit = UNIT_NUMBER,
	.boot_value = 10000,
	.description = "Number of rows from which on a table should have been analyzed.",
};

static Threshold stale_percent = {
	.name = "stale_statistics_percent",
	.unit = UNIT_PERCENT,
	.boot_value = 50,
	.description =
		"Percentage of a table's rows that changed since it was analyzed from which on its "
		"statistics are stale.",
};

static Threshold stale_rows = {
	.name = "stale_statistics_rows",
	.unit = UNIT_NUMBER,
	.boot_value = 10000,
	.description =
		"Number of rows of a table, and of those that changed since it was analyzed, below which its "
		"statistics are never stale.",
};

static Threshold reset_memory = {
	.name = "statistics_reset_memory",
	.unit = UNIT_SECONDS,
	.boot_value = 24 * 3600,
	.description = "How long after the cumulative statistics were reset this is worth knowing.",
};

/* Why nobody will analyze it. */
static const char *
hindrance(const RelationInfo *table)
{
	if (table->kind == RELKIND_PARTITIONED_TABLE)
		return "autovacuum does not analyze partitioned tables";
	return relation_has_autovacuum(table) ? "autovacuum will" : "autovacuum will not";
}

static Severity
severity_of(const RelationInfo *table)
{
	return table->kind == RELKIND_PARTITIONED_TABLE || relation_has_autovacuum(table)
			   ? SEVERITY_INFO
			   : SEVERITY_WARNING;
}

/* Does the planner have statistics of any column? */
static bool
has_statistics(Oid oid)
{
	Relation rel = table_open(StatisticRelationId, AccessShareLock);
	SysScanDesc scan;
	ScanKeyData key;
	bool found;

	ScanKeyInit(
		&key, Anum_pg_statistic_starelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(oid));
	scan = systable_beginscan(rel, StatisticRelidAttnumInhIndexId, true, NULL, 1, &key);
	found = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

static bool
describe_never(HealthRun *run, const Suspect *suspect, Finding *finding)
{
	const RelationInfo *table = suspect->what;
	char *name = relation_name(table->oid);
	double bytes =
		table->kind == RELKIND_PARTITIONED_TABLE ? table->bytes : relation_file_bytes(table->oid);

	if (name == NULL)
		return false;
	finding->object = name;
	finding->message =
		psprintf("%s (%s) has never been analyzed, and %s",
				 name,
				 table->rows > 0 ? psprintf("%.0f rows", table->rows) : bytes_text(bytes),
				 hindrance(table));
	finding->evidence =
		psprintf("{\"rows\": %.0f, \"bytes\": %.0f, \"autovacuum\": %s}",
				 table->rows,
				 Max(bytes, 0),
				 severity_of(table) == SEVERITY_WARNING || table->kind == RELKIND_PARTITIONED_TABLE
					 ? "false"
					 : "true");
	finding->remedy = psprintf("ANALYZE %s;", name);
	finding->remedy_lock = LOCK_SHARE_UPDATE;
	return true;
}

static void
check_never(HealthRun *run)
{
	Relations *relations = health_relations(run);
	Suspects suspects = {0};
	int files = 0;

	for (int i = 0; i < relations->ntables; i++)
	{
		const RelationInfo *table = &relations->tables[i];
		bool large = table->rows >= threshold_value(&never_rows);

		if (table->stats.analyzed != 0 || !relation_is_users(table) || !table->populated)
			continue;
		CHECK_FOR_INTERRUPTS();
		if (!large && table->rows == 0 && table->tuples < 0 && !table->stats.known &&
			table->kind != RELKIND_PARTITIONED_TABLE && files++ < MAX_FILES)
			large = relation_file_bytes(table->oid) >= threshold_value(&never_rows) * BYTES_A_ROW;
		/* counters may have been lost since */
		if (large && !has_statistics(table->oid))
			suspects_add(&suspects, severity_of(table), table->rows, table, NULL);
	}
	suspects_report(run, &suspects, describe_never, "tables have never been analyzed");
}

static bool
describe_stale(HealthRun *run, const Suspect *suspect, Finding *finding)
{
	const RelationInfo *table = suspect->what;
	char *name = relation_name(table->oid);
	double percent = 100.0 * table->stats.modified / Max(table->rows, 1);

	if (name == NULL)
		return false;
	finding->object = name;
	finding->message =
		psprintf(INT64_FORMAT " rows of %s (%.0f %%) changed since it was analyzed, and %s",
				 table->stats.modified,
				 name,
				 percent,
				 hindrance(table));
	finding->evidence =
		psprintf("{\"modified\": " INT64_FORMAT ", \"rows\": %.0f, \"percent\": %.1f, "
				 "\"autovacuum_threshold\": %.0f, \"autovacuum\": %s}",
				 table->stats.modified,
				 table->rows,
				 percent,
				 relation_analyze_threshold(table),
				 relation_has_autovacuum(table) ? "true" : "false");
	finding->since = table->stats.analyzed;
	finding->remedy = psprintf("ANALYZE %s;", name);
	finding->remedy_lock = LOCK_SHARE_UPDATE;
	return true;
}

static void
check_stale(HealthRun *run)
{
	Relations *relations = health_relations(run);
	Suspects suspects = {0};

	for (int i = 0; i < relations->ntables; i++)
	{
		const RelationInfo *table = &relations->tables[i];

		if (table->stats.modified < threshold_value(&stale_rows) || !relation_is_users(table) ||
			100.0 * table->stats.modified < threshold_value(&stale_percent) * table->rows)
			continue;
		if (table->stats.modified == 0 || table->rows < threshold_value(&stale_rows))
			continue; /* any plan will do for a small table */
		/* one that never was is the other check's */
		if (table->stats.analyzed == 0 && !has_statistics(table->oid))
			continue;
		suspects_add(&suspects, severity_of(table), (double) table->stats.modified, table, NULL);
	}
	suspects_report(run, &suspects, describe_stale, "tables have stale statistics");
}

static void
check_reset(HealthRun *run)
{
	bool reset;
	TimestampTz since = relations_statistics_since(&reset);
	/* when initdb ran is in the upper half of the system's identifier */
	TimestampTz born = time_t_to_timestamptz((pg_time_t) (GetSystemIdentifier() >> 32));
	Finding finding = {
		.severity = "info",
		.object = quote_identifier(get_database_name(MyDatabaseId)),
		.since = since,
	};
	double hours = (double) (run->now - since) / USECS_PER_HOUR;

	if (since == 0 || (!reset && since - born < USECS_PER_HOUR) ||
		run->now - since >= threshold_value(&reset_memory) * USECS_PER_SEC)
		return;
	finding.message = psprintf(
		"the cumulative statistics were %s %.1f hours ago: what rests on them, autovacuum too, knows "
		"nothing of before",
		reset ? "reset" : "lost, or begun anew,",
		hours);
	finding.evidence =
		psprintf("{\"hours\": %.2f, \"reset\": %s}", hours, reset ? "true" : "false");
	health_report(run, &finding);
}

const HealthCheck checks_statistics[] = {
	{
		.id = "never_analysed",
		.family = "planner",
		.weight = 1,
		.flags = CHECK_PRIMARY,
		.thresholds = {&never_rows},
		.reference = DOCS("routine-vacuuming.html#VACUUM-FOR-STATISTICS"),
		.run = check_never,
	},
	{
		.id = "stale_statistics",
		.family = "planner",
		.weight = 1,
		.flags = CHECK_PRIMARY,
		.thresholds = {&stale_percent, &stale_rows},
		.reference = DOCS("routine-vacuuming.html#VACUUM-FOR-STATISTICS"),
		.run = check_stale,
	},
	{
		.id = "statistics_reset",
		.family = "counters",
		.weight = 1,
		.thresholds = {&reset_memory},
		.reference = DOCS("monitoring-stats.html#MONITORING-STATS-FUNCTIONS"),
		.run = check_reset,
	},
};

const int checks_statistics_count = lengthof(checks_statistics);
