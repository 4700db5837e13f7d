/*
 * checks_wraparound.c
 *		How far transaction IDs and multixacts are from running out, and who
 *		keeps them from being given back.
 */
#include "pgopt.h"

#include "access/multixact.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "commands/dbcommands.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "postmaster/autovacuum.h"
#include "storage/proc.h"
#include "utils/builtins.h"

#include "compat.h"
#include "core.h"
#include "health.h"
#include "relations.h"

static Threshold xid_warning = {
	.name = "xid_age_warning",
	.unit = UNIT_PERCENT,
	.boot_value = 50,
	.description = "Share of the transaction IDs in use from which it is a warning.",
};

static Threshold xid_critical = {
	.name = "xid_age_critical",
	.unit = UNIT_PERCENT,
	.boot_value = 75,
	.description = "Share of the transaction IDs in use from which it is critical.",
};

static Threshold multixact_warning = {
	.name = "multixact_age_warning",
	.unit = UNIT_PERCENT,
	.boot_value = 50,
	.description = "Share of the multixact IDs in use from which it is a warning.",
};

static Threshold multixact_critical = {
	.name = "multixact_age_critical",
	.unit = UNIT_PERCENT,
	.boot_value = 75,
	.description = "Share of the multixact IDs in use from which it is critical.",
};

static Threshold horizon_warning = {
	.name = "xmin_horizon_warning",
	.unit = UNIT_SECONDS,
	.boot_value = 24 * 3600,
	.description = "Age from which a transaction that holds back cleanup is a warning.",
};

static Threshold horizon_xids_warning = {
	.name = "xmin_horizon_xids_warning",
	.unit = UNIT_NUMBER,
	.boot_value = 50000000,
	.description = "Transactions that cleanup may be held back by from which it is a warning.",
};

static Threshold horizon_xids_critical = {
	.name = "xmin_horizon_xids_critical",
	.unit = UNIT_NUMBER,
	.boot_value = 200000000,
	.description = "Transactions that cleanup may be held back by from which it is critical.",
};

static Threshold freeze_factor = {
	.name = "freeze_overdue_warning",
	.unit = UNIT_NUMBER,
	.boot_value = 2,
	.description = "Multiple of autovacuum_freeze_max_age from which a table's age is a warning.",
};

/* IDs that there are, as ages go. */
#define ID_SPACE 2147483648.0

/* Tables that a remedy or the evidence names one by one; of more, a remedy takes the whole database. */
#define MAX_TABLES 5

/* What differs between transaction IDs and multixacts. */
typedef struct IdKind
{
	const char *what;
	const char *freeze_setting;
	const char *query; /* database, age, does it accept connections? */
	double (*age)(const RelationInfo *table, uint32 next);
	uint32 (*next)(void); /* takes a lock that writers need: once a check, not once a table */
	Threshold *warning;
	Threshold *critical;
} IdKind;

static double
xid_age_of(const RelationInfo *table, TransactionId next)
{
	if (!TransactionIdIsNormal(table->frozenxid))
		return 0;
	return (int32) (next - table->frozenxid);
}

static double
multixact_age_of(const RelationInfo *table, MultiXactId next)
{
	if (!MultiXactIdIsValid(table->minmxid))
		return 0;
	return (int32) (next - table->minmxid);
}

static const IdKind xids = {
	.what = "transaction",
	.freeze_setting = "autovacuum_freeze_max_age",
	.query = "SELECT d.datname::text, age(d.datfrozenxid)::float8, d.datallowconn "
			 "  FROM pg_database d "
			 " WHERE d.datconnlimit <> -2 "
			 " ORDER BY 2 DESC",
	.age = xid_age_of,
	.next = ReadNextTransactionId,
	.warning = &xid_warning,
	.critical = &xid_critical,
};

static const IdKind multixacts = {
	.what = "multixact",
	.freeze_setting = "autovacuum_multixact_freeze_max_age",
	.query = "SELECT d.datname::text, mxid_age(d.datminmxid)::float8, d.datallowconn "
			 "  FROM pg_database d "
			 " WHERE d.datconnlimit <> -2 "
			 " ORDER BY 2 DESC",
	.age = multixact_age_of,
	.next = ReadNextMultiXactId,
	.warning = &multixact_warning,
	.critical = &multixact_critical,
};

typedef struct OldTable
{
	RelationInfo *table; /* for a TOAST table, what it belongs to */
	double age;
} OldTable;

static int
compare_age(const void *a, const void *b)
{
	double left = ((const OldTable *) a)->age;
	double right = ((const OldTable *) b)->age;

	return left > right ? -1 : left < right;
}

/* Tables that can be vacuumed and are older than limit, the oldest first. */
static OldTable *
old_tables(HealthRun *run, const IdKind *kind, double limit, int *count)
{
	Relations *relations = health_relations(run);
	OldTable *found = palloc_extended((relations->ntables + 1) * sizeof(OldTable), MCXT_ALLOC_HUGE);
	uint32 next = kind->next();
	int n = 0;

	for (int i = 0; i < relations->ntables; i++)
	{
		RelationInfo *table = &relations->tables[i];
		double own = kind->age(table, next);
		double toast = table->toast != NULL ? kind->age(table->toast, next) : 0;

		if (table->class == RELATION_TEMP || table->class == RELATION_TOAST)
			continue;
		found[n].table = table;
		found[n].age = Max(own, toast);
		if (found[n].age > limit)
			n++;
	}
	qsort(found, n, sizeof(OldTable), compare_age);
	*count = n;
	return found;
}

/* VACUUM (FREEZE) of these, or of everything. */
static char *
freeze_command(const OldTable *tables, int n)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "VACUUM (FREEZE)");
	for (int i = 0; i < n && n <= MAX_TABLES; i++)
	{
		char *name = relation_name(tables[i].table->oid);

		if (name != NULL)
			appendStringInfo(&sql, "%s%s", sql.data[sql.len - 1] == ')' ? " " : ", ", name);
	}
	appendStringInfoChar(&sql, ';');
	return sql.data;
}

/*
 * Temporary tables of others hold the database back too, and only their session
 * can vacuum them.  Appends what ends them, a line each.
 */
static void
append_temp_remedies(HealthRun *run, const IdKind *kind, double limit, StringInfo sql)
{
	Relations *relations = health_relations(run);
	uint32 next = kind->next();
	int lines = 0;

	for (int i = 0; i < relations->ntables && lines < MAX_TABLES; i++)
	{
		const RelationInfo *table = &relations->tables[i];
		PGPROC *owner;
		char *name;

		if (table->class != RELATION_TEMP || table->main != NULL || kind->age(table, next) <= limit)
			continue;
		owner = checkTempNamespaceStatus(table->namespace) == TEMP_NAMESPACE_IN_USE
					? compat_temp_owner(table->namespace)
					: NULL;
		name = relation_name(table->oid);
		if (owner != NULL)
			appendStringInfo(sql, "SELECT pg_terminate_backend(%d);", owner->pid);
		else if (name != NULL)
			appendStringInfo(sql, "DROP TABLE %s;", name);
		else
			continue;
		appendStringInfoString(sql, " -- an old temporary table, which nobody else can vacuum\n");
		lines++;
	}
}

/* A JSON array of the oldest. */
static char *
tables_json(const OldTable *tables, int n)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoChar(&json, '[');
	for (int i = 0; i < Min(n, MAX_TABLES); i++)
	{
		char *name = relation_name(tables[i].table->oid);

		if (name != NULL)
			appendStringInfo(&json,
							 "%s{\"table\": %s, \"age\": %.0f}",
							 json.len > 1 ? ", " : "",
							 health_json_string(name),
							 tables[i].age);
	}
	appendStringInfoChar(&json, ']');
	return json.data;
}

/* May psql's \c take this name? The same as SQL_NO_NAME_TO_CONNECT. */
static bool
fits_connect(const char *database)
{
	return strpbrk(database, "\r\n=") == NULL && strncmp(database, "postgres://", 11) != 0 &&
		   strncmp(database, "postgresql://", 13) != 0;
}

static void
report_database(HealthRun *run, const IdKind *kind, const char *name, double age, bool connectable)
{
	double percent = 100 * age / ID_SPACE;
	bool here = strcmp(name, get_database_name(MyDatabaseId)) == 0;
	const char *quoted = quote_identifier(name);
	const char *tables = "null";
	Finding finding = {
		.severity = percent >= threshold_value(kind->critical) ? "critical" : "warning",
		.object = psprintf("database %s", quoted),
		.message = psprintf("database %s has used %.1f %% of the %s IDs: its oldest is %.0f ago, "
							"and %.0f are left until it takes no more writes",
							quoted,
							percent,
							kind->what,
							age,
							ID_SPACE - 3000000 - age),
		.remedy_lock = "SHARE UPDATE EXCLUSIVE on each table in turn",
	};

	if (here)
	{
		int n;
		OldTable *oldest =
			old_tables(run, kind, threshold_value(kind->warning) / 100 * ID_SPACE, &n);

		StringInfoData sql;

		tables = tables_json(oldest, n);
		initStringInfo(&sql);
		append_temp_remedies(run, kind, threshold_value(kind->warning) / 100 * ID_SPACE, &sql);
		appendStringInfoString(&sql, freeze_command(oldest, n));
		finding.remedy = sql.data;
	}
	else if (!fits_connect(name))
	{
		finding.remedy =
			"-- connect to that database, whose name psql cannot be given here, and VACUUM (FREEZE)";
		finding.remedy_lock = NULL;
	}
	else if (connectable)
		finding.remedy = psprintf("\\c %s\nVACUUM (FREEZE);", quoted);
	else if (!fits_connect(get_database_name(MyDatabaseId)))
		finding.remedy = psprintf(
			"ALTER DATABASE %s ALLOW_CONNECTIONS true; -- connect to it, VACUUM (FREEZE), and back",
			quoted);
	else
		finding.remedy = psprintf("ALTER DATABASE %s ALLOW_CONNECTIONS true;\n"
								  "\\c %s\n"
								  "VACUUM (FREEZE);\n"
								  "\\c %s\n"
								  "ALTER DATABASE %s ALLOW_CONNECTIONS false;",
								  quoted,
								  quoted,
								  quote_identifier(get_database_name(MyDatabaseId)),
								  quoted);
	finding.evidence =
		psprintf("{\"age\": %.0f, \"percent\": %.1f, \"left\": %.0f, \"%s\": %s, \"oldest\": %s}",
				 age,
				 percent,
				 ID_SPACE - 3000000 - age,
				 kind->freeze_setting,
				 GetConfigOption(kind->freeze_setting, false, false),
				 tables);
	health_report(run, &finding);
}

static void
check_databases(HealthRun *run, const IdKind *kind)
{
	uint64 n;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	n = pgopt_spi_execute(kind->query, 0, NULL, NULL, NULL, true, SPI_OK_SELECT);
	for (uint64 row = 0; row < n; row++)
	{
		bool isnull;
		double age = DatumGetFloat8(pgopt_spi_value(row, 2, &isnull));
		bool connectable = DatumGetBool(pgopt_spi_value(row, 3, &isnull));

		if (100 * age / ID_SPACE < threshold_value(kind->warning))
			break;
		report_database(run, kind, pgopt_spi_text(row, 1), age, connectable);
	}
	SPI_finish();
}

static void
check_xid_age(HealthRun *run)
{
	check_databases(run, &xids);
}

static void
check_multixact_age(HealthRun *run)
{
	check_databases(run, &multixacts);
}

/* Autovacuum freezes from autovacuum_freeze_max_age on: a table twice that age is one that it does not get through. */
static void
check_freeze_overdue(HealthRun *run)
{
	double limit = threshold_value(&freeze_factor) * autovacuum_freeze_max_age;
	double told = threshold_value(&xid_warning) / 100 * ID_SPACE;
	OldTable *tables;
	int n;
	Finding finding = {
		.severity = "warning",
		.remedy_lock = "SHARE UPDATE EXCLUSIVE on each table in turn",
	};

	tables = old_tables(run, &xids, limit, &n);
	if (n == 0 || tables[0].age >= told)
		return; /* of what is older, xid_age tells */
	finding.object =
		n == 1 ? relation_name(tables[0].table->oid)
			   : psprintf("database %s", quote_identifier(get_database_name(MyDatabaseId)));
	finding.message = psprintf(
		"autovacuum does not get through with freezing: %d table(s) are older than %.0f transactions, the oldest, %s, %.0f",
		n,
		limit,
		relation_name(tables[0].table->oid),
		tables[0].age);
	finding.evidence = psprintf(
		"{\"tables\": %d, \"limit\": %.0f, \"autovacuum_freeze_max_age\": %d, \"oldest\": %s}",
		n,
		limit,
		autovacuum_freeze_max_age,
		tables_json(tables, n));
	finding.remedy = freeze_command(tables, n);
	health_report(run, &finding);
}

/* Slots have a check of their own (slot_xmin), and so have prepared transactions. */
static const char xmin_horizon[] =
	"SELECT CASE WHEN h.xids >= $3 THEN 'critical' ELSE 'warning' END, "
	"       format('pid %s', h.pid), "
	"       CASE WHEN h.backend_type = 'walsender' "
	"            THEN format('standby %s, by its feedback, keeps VACUUM from removing what %s "
	"transaction(s) left behind', "
	"                        h.application_name, h.xids) "
	"            ELSE format('%s %s (role %s, database %s) keeps VACUUM from removing what %s "
	"transaction(s) left behind, for %s', "
	"                        h.backend_type, h.pid, h.usename, h.datname, h.xids, "
	"                        date_trunc('second', h.age)) END, "
	"       jsonb_build_object("
	"         'pid', h.pid, "
	"         'backend_type', h.backend_type, "
	"         'role', h.usename, "
	"         'database', h.datname, "
	"         'application', h.application_name, "
	"         'state', h.state, "
	"         'transaction_seconds', extract(epoch FROM h.age)::bigint, "
	"         'xid_age', h.xids, "
	"         'query', left(h.query, 300)), "
	"       h.xact_start, "
	"       CASE WHEN h.backend_type <> 'walsender' "
	"            THEN format('SELECT pg_terminate_backend(%s);', h.pid) END, "
	"       CASE WHEN h.backend_type <> 'walsender' THEN 'none' END "
	"  FROM (SELECT a.*, t.now - a.xact_start AS age, "
	"               greatest(age(a.backend_xmin), age(a.backend_xid)) AS xids "
	"          FROM pg_stat_activity a, clock_timestamp() t (now) "
	"         WHERE coalesce(a.backend_xmin, a.backend_xid) IS NOT NULL "
	"           AND a.backend_type NOT IN ('autovacuum worker', 'parallel worker') "
	"           AND a.pid <> pg_backend_pid()) h "
	" WHERE h.xids >= $2 OR extract(epoch FROM h.age) >= $1";

const HealthCheck checks_wraparound[] = {
	{
		.id = "xid_age",
		.family = "xids",
		.weight = 2,
		.flags = CHECK_QUICK | CHECK_PRIMARY,
		.thresholds = {&xid_warning, &xid_critical},
		.reference = PG_DOCS("routine-vacuuming.html#VACUUM-FOR-WRAPAROUND"),
		.run = check_xid_age,
	},
	{
		.id = "multixact_age",
		.family = "multixacts",
		.weight = 2,
		.flags = CHECK_QUICK | CHECK_PRIMARY,
		.thresholds = {&multixact_warning, &multixact_critical},
		.reference = PG_DOCS("routine-vacuuming.html#VACUUM-FOR-MULTIXACT-WRAPAROUND"),
		.run = check_multixact_age,
	},
	{
		.id = "xmin_horizon",
		.family = "horizon",
		.weight = 1,
		.flags = CHECK_QUICK,
		.needs = "pg_read_all_stats",
		.thresholds = {&horizon_warning, &horizon_xids_warning, &horizon_xids_critical},
		.reference = PG_DOCS("routine-vacuuming.html#VACUUM-FOR-WRAPAROUND"),
		.query = xmin_horizon,
	},
	{
		.id = "freeze_overdue",
		.family = "xids",
		.weight = 1,
		.flags = CHECK_PRIMARY,
		.thresholds = {&freeze_factor},
		.reference = PG_DOCS("routine-vacuuming.html#AUTOVACUUM"),
		.run = check_freeze_overdue,
	},
};

const int checks_wraparound_count = lengthof(checks_wraparound);
