/*
 * checks_vacuum.c
 *		Dead rows that stay, and why autovacuum does not get to them.
 */
#include "pgopt.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "postmaster/autovacuum.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "bloat.h"
#include "compat.h"
#include "core.h"
#include "health.h"
#include "monitor.h"
#include "relations.h"
#include "suspects.h"

/* Where autovacuum looks more seldom, it is not about to come. */
#define SOON_S 600

static Threshold overdue_percent = {
	.name = "vacuum_overdue_percent",
	.unit = UNIT_PERCENT,
	.boot_value = 20,
	.description = "Percentage of dead rows from which on a table waits for VACUUM.",
};

static Threshold overdue_size = {
	.name = "vacuum_overdue_size",
	.unit = UNIT_MB,
	.boot_value = 10,
	.description = "Size of the dead rows from which on a table waits for VACUUM.",
};

static Threshold saturated_tables = {
	.name = "autovacuum_saturated_tables",
	.unit = UNIT_NUMBER,
	.boot_value = 10,
	.description =
		"Number of tables that wait for autovacuum while all of its workers are busy that is a "
		"warning.",
};

/* The table as people know it: what VACUUM and ALTER TABLE are told. */
static const RelationInfo *
main_of(const RelationInfo *table)
{
	return table->main != NULL ? table->main : table;
}

/* Names of a TOAST table mean nothing to anybody. */
static char *
display_name(const RelationInfo *table)
{
	char *name = relation_name(main_of(table)->oid);

	return name != NULL && table->main != NULL ? psprintf("TOAST of %s", name) : name;
}

static char *
timestamp_json(TimestampTz time)
{
	return time != 0 ? health_json_string(timestamptz_to_str(time)) : "null";
}

/* --- vacuum_overdue --------------------------------------------------------- */

typedef struct Overdue
{
	const RelationInfo *table;
	double dead_bytes;
	double percent;
	bool running;
	bool coming;
} Overdue;

/*
 * What is dead on a sample of pages.  The counters alone will not do: those of
 * a transaction may arrive after the VACUUM that removed its rows.  False where
 * it cannot be measured.
 */
static bool
measure_dead(const RelationInfo *table, double *percent, bool *held)
{
	BloatEstimate estimate;
	bool locked;
	Relation rel = bloat_open(table->oid, &locked);
	double dead;

	if (rel == NULL)
		return false;
	bloat_measure_heap(rel, &bloat_budget_rows, &estimate);
	relation_close(rel, AccessShareLock);
	if (estimate.confidence == BLOAT_UNKNOWN)
		return false;
	dead = Max(estimate.dead_rows, estimate.dead_entries) + estimate.held_rows;
	*percent = dead > 0 ? 100 * dead / (dead + estimate.live_rows) : 0;
	*held = estimate.held_rows > dead / 2;
	return true;
}

/* Who keeps dead rows from being removed, if it is a session: the SQL that ends it. */
static char *
end_of_holder(void)
{
	char *sql = NULL;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (pgopt_spi_execute("SELECT a.pid::text"
						  "  FROM pg_stat_activity a"
						  " WHERE a.pid <> pg_backend_pid()"
						  "   AND a.backend_type = 'client backend'"
						  "   AND coalesce(a.backend_xmin, a.backend_xid) IS NOT NULL"
						  " ORDER BY greatest(age(a.backend_xmin), age(a.backend_xid)) DESC"
						  " LIMIT 1",
						  0,
						  NULL,
						  NULL,
						  NULL,
						  true,
						  SPI_OK_SELECT) == 1)
		sql = psprintf("SELECT pg_terminate_backend(%s, 10000);", pgopt_spi_text(0, 1));
	if (sql != NULL)
		sql = strcpy(SPI_palloc(strlen(sql) + 1), sql);
	SPI_finish();
	return sql;
}

static bool
describe_overdue(HealthRun *run, const Suspect *suspect, Finding *finding)
{
	const Overdue *overdue = suspect->what;
	const RelationInfo *table = overdue->table;
	char *name = display_name(table);
	char *holder = NULL;
	double measured = overdue->percent;
	double dead_bytes = overdue->dead_bytes;
	bool held = false;

	if (name == NULL)
		return false;
	if (measure_dead(table, &measured, &held))
		dead_bytes *= measured / overdue->percent;
	if (measured < threshold_value(&overdue_percent) || dead_bytes < threshold_value(&overdue_size))
		return false;
	if (held)
		holder = end_of_holder();
	finding->object = name;
	finding->message =
		psprintf("%.0f %% of the rows of %s are dead, about %s%s",
				 measured,
				 name,
				 bytes_text(dead_bytes),
				 held               ? ", and an old snapshot keeps VACUUM from removing them"
				 : overdue->running ? "; a VACUUM is at work"
				 : overdue->coming  ? "; autovacuum is about to come"
				 : !relation_has_autovacuum(table) ? ", and autovacuum does not look after it"
												   : ", and autovacuum does not keep up");
	finding->evidence =
		psprintf("{\"dead_rows\": " INT64_FORMAT ", \"live_rows\": " INT64_FORMAT
				 ", \"percent\": %.1f, \"dead_bytes\": %.0f, \"autovacuum_threshold\": %.0f, "
				 "\"autovacuum\": %s, \"vacuum_running\": %s, \"held_by_snapshot\": %s, "
				 "\"last_vacuum\": %s}",
				 table->stats.dead,
				 table->stats.live,
				 measured,
				 dead_bytes,
				 relation_vacuum_threshold(table),
				 relation_has_autovacuum(table) ? "true" : "false",
				 overdue->running ? "true" : "false",
				 held ? "true" : "false",
				 timestamp_json(table->stats.vacuumed));
	finding->remedy = psprintf("%s%sVACUUM (ANALYZE) %s;",
							   holder != NULL ? holder : "",
							   holder != NULL ? "\n" : "",
							   relation_name(main_of(table)->oid));
	finding->remedy_lock = LOCK_SHARE_UPDATE;
	return true;
}

static void
check_overdue(HealthRun *run)
{
	Relations *relations = health_relations(run);
	Suspects suspects = {0};

	for (int i = 0; i < relations->ntables; i++)
	{
		const RelationInfo *table = &relations->tables[i];
		Overdue overdue = {.table = table};
		double share;

		/* a page holds one row at least */
		if (table->stats.dead == 0 || table->class == RELATION_TEMP ||
			(double) table->stats.dead * BLCKSZ < threshold_value(&overdue_size))
			continue;
		share = (double) table->stats.dead / (table->stats.dead + Max(table->stats.live, 0));
		overdue.percent = 100 * share;

		/* The counts may be far off: those that come near are looked at. */
		if (overdue.percent < threshold_value(&overdue_percent) / 2)
			continue;
		CHECK_FOR_INTERRUPTS();
		overdue.dead_bytes = share * relation_file_bytes(table->oid);
		if (overdue.dead_bytes < threshold_value(&overdue_size) / 2)
			continue;

		/* It is nobody's business while it is being done, or autovacuum is about to begin. */
		overdue.running = relation_is_maintained(table);
		overdue.coming = relation_has_autovacuum(table) && autovacuum_naptime <= SOON_S &&
						 table->stats.dead < 2 * relation_vacuum_threshold(table);
		suspects_add(&suspects,
					 overdue.running || overdue.coming ? SEVERITY_INFO : SEVERITY_WARNING,
					 overdue.dead_bytes,
					 memcpy(palloc(sizeof(Overdue)), &overdue, sizeof(Overdue)),
					 NULL);
	}
	suspects_report(run, &suspects, describe_overdue, "tables wait for VACUUM");
}

/* --- autovacuum_disabled ------------------------------------------------------ */

static bool
describe_disabled(HealthRun *run, const Suspect *suspect, Finding *finding)
{
	const RelationInfo *table = suspect->what;
	const RelationInfo *altered = main_of(table);
	char *name = display_name(table);

	if (name == NULL)
		return false;
	finding->object = name;
	finding->message = psprintf("autovacuum is turned off for %s (%s, " INT64_FORMAT
								" dead rows), but against wraparound",
								name,
								bytes_text(Max(relation_file_bytes(table->oid), 0)),
								table->stats.dead);
	finding->evidence = psprintf("{\"rows\": %.0f, \"dead_rows\": " INT64_FORMAT
								 ", \"modified_since_analyze\": " INT64_FORMAT
								 ", \"last_vacuum\": %s, \"last_analyze\": %s}",
								 table->rows,
								 table->stats.dead,
								 table->stats.modified,
								 timestamp_json(table->stats.vacuumed),
								 timestamp_json(table->stats.analyzed));
	finding->remedy = psprintf("ALTER %s %s RESET (%sautovacuum_enabled);",
							   altered->kind == RELKIND_MATVIEW ? "MATERIALIZED VIEW" : "TABLE",
							   relation_name(altered->oid),
							   table->main != NULL ? "toast." : "");
	finding->remedy_lock = LOCK_SHARE_UPDATE;
	return true;
}

static void
check_disabled(HealthRun *run)
{
	Relations *relations = health_relations(run);
	Suspects suspects = {0};

	for (int i = 0; i < relations->ntables; i++)
	{
		const RelationInfo *table = &relations->tables[i];

		if (table->options == NULL || table->options->autovacuum.enabled ||
			!relation_is_users(main_of(table)) || table->kind == RELKIND_PARTITIONED_TABLE)
			continue;
		if (table->main != NULL && table->options == table->main->options)
			continue; /* it only follows its table */
		if (table->pages > 0 || table->rows > 0 || relation_file_bytes(table->oid) > 0)
			suspects_add(&suspects, SEVERITY_WARNING, (double) table->stats.dead, table, NULL);
	}
	suspects_report(run, &suspects, describe_disabled, "tables have autovacuum turned off");
}

/* --- autovacuum_saturated -------------------------------------------------------- */

static void
check_saturated(HealthRun *run)
{
	Relations *relations = health_relations(run);
	Finding finding = {.severity = "warning", .object = "autovacuum", .remedy_lock = "none"};
	int waiting = 0;
	int64 workers;
	int limit = autovacuum_vac_cost_limit > 0 ? autovacuum_vac_cost_limit : VacuumCostLimit;
	bool isnull;

	/* far over: the rest of what waits are those whose turn has just come */
	for (int i = 0; i < relations->ntables; i++)
	{
		const RelationInfo *table = &relations->tables[i];

		if (table->class != RELATION_TEMP && relation_has_autovacuum(table) &&
			table->stats.dead > 2 * relation_vacuum_threshold(table))
			waiting++;
	}
	if (waiting < threshold_value(&saturated_tables) || waiting == 0)
		return;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	(void) pgopt_spi_execute("SELECT count(*), min(xact_start) FROM pg_stat_activity"
							 " WHERE backend_type = 'autovacuum worker'",
							 0,
							 NULL,
							 NULL,
							 NULL,
							 true,
							 SPI_OK_SELECT);
	workers = DatumGetInt64(pgopt_spi_value(0, 1, &isnull));
	finding.since = DatumGetTimestampTz(pgopt_spi_value(0, 2, &isnull));
	if (isnull)
		finding.since = 0;
	SPI_finish();
	if (workers < autovacuum_max_workers)
		return;

	finding.message = psprintf("all " INT64_FORMAT " autovacuum workers are busy, and %d tables "
							   "have more than twice the dead rows at which their turn comes",
							   workers,
							   waiting);
	finding.evidence =
		psprintf("{\"workers\": " INT64_FORMAT ", \"tables_waiting\": %d, \"cost_limit\": %d, "
				 "\"cost_delay_ms\": %.1f}",
				 workers,
				 waiting,
				 limit,
				 autovacuum_vac_cost_delay >= 0 ? autovacuum_vac_cost_delay : VacuumCostDelay);
	if (limit < 10000)
		finding.remedy =
			psprintf("ALTER SYSTEM SET autovacuum_vacuum_cost_limit = %d; SELECT pg_reload_conf();",
					 Min(2 * limit, 10000));
	else
	{
		finding.remedy = psprintf("ALTER SYSTEM SET autovacuum_max_workers = %d; -- then restart",
								  autovacuum_max_workers + 2);
		finding.remedy_lock = "restart of the server";
	}
	health_report(run, &finding);
}

const HealthCheck checks_vacuum[] = {
	{
		.id = "vacuum_overdue",
		.family = "overdue",
		.weight = 1,
		.flags = CHECK_PRIMARY,
		.thresholds = {&overdue_percent, &overdue_size},
		.reference = DOCS("routine-vacuuming.html#VACUUM-FOR-SPACE-RECOVERY"),
		.run = check_overdue,
	},
	{
		.id = "autovacuum_disabled",
		.family = "autovacuum",
		.weight = 1,
		.reference = DOCS("sql-createtable.html#RELOPTION-AUTOVACUUM-ENABLED"),
		.run = check_disabled,
	},
	{
		.id = "autovacuum_saturated",
		.family = "autovacuum",
		.weight = 1,
		.flags = CHECK_PRIMARY,
		.needs = "pg_read_all_stats",
		.thresholds = {&saturated_tables},
		.reference = DOCS("routine-vacuuming.html#AUTOVACUUM"),
		.run = check_saturated,
	},
};

const int checks_vacuum_count = lengthof(checks_vacuum);
