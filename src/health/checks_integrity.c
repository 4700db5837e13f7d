/*
 * checks_integrity.c
 *		Is what the data files hold what was written, and are the indexes in
 *		the order that the operating system sorts by today?
 */
#include "pgopt.h"

#include "health.h"

static Threshold failures_memory = {
	.name = "checksum_failures_memory",
	.unit = UNIT_SECONDS,
	.boot_value = 30 * 24 * 3600,
	.description = "How long a checksum failure is critical.",
};

static const char checksum_failures_query[] =
	"SELECT 'critical',"
	"       d.object,"
	"       format('%s pages in %s were damaged when they were read, the last at %s',"
	"              f.failures, d.object, f.last),"
	"       jsonb_build_object("
	"           'database', d.datname,"
	"           'failures', f.failures,"
	"           'last_failure', f.last),"
	"       f.last,"
	"       CASE WHEN d.oid <> 0"
	/* nothing here runs as printed: it would mend nothing, and take back the alarm */
	"            THEN E'-- restore from a backup what the server log names as damaged; only then,"
	" in that database, as this forgets the failures and all its other counts:\\n'"
	"                 || '-- SELECT pg_stat_reset(); ANALYZE;'"
	"            ELSE '-- restore from a backup what the server log names as damaged'"
	"       END,"
	"       'none'"
	"  FROM (SELECT d.oid, d.datname, 'database ' || quote_ident(d.datname) AS object"
	"          FROM pg_database d"
	"         UNION ALL "
	"        SELECT 0, NULL, 'the shared catalogs') d,"
	"       LATERAL (SELECT pg_stat_get_db_checksum_failures(d.oid),"
	"                       pg_stat_get_db_checksum_last_failure(d.oid)) AS f (failures, last)"
	" WHERE f.failures > 0"
	"   AND f.last > clock_timestamp() - $1 * interval '1 second'";

#define REINDEX_DATABASE                                                      \
	SQL_IN_DATABASE("d.datname",                                              \
					"format(E'REINDEX DATABASE CONCURRENTLY %1$I;"            \
					" -- skips exclusion constraints: REINDEX INDEX those\\n" \
					"ALTER DATABASE %1$I REFRESH COLLATION VERSION;', d.datname)")

/*
 * Opening a collation takes time, and there are hundreds: of those that
 * nothing uses and initdb made, only one for each version that they have.
 */
static const char collation_query[] =
	"WITH used AS MATERIALIZED ("
	"    SELECT DISTINCT d.refobjid AS oid"
	"      FROM pg_depend d"
	"     WHERE d.refclassid = 'pg_collation'::regclass"
	"), known AS MATERIALIZED ("
	"    SELECT c.oid, c.collname, n.nspname, c.collprovider, c.collversion,"
	"           c.oid >= 16384 OR u.oid IS NOT NULL AS counts"
	"      FROM pg_collation c"
	"      JOIN pg_namespace n ON n.oid = c.collnamespace"
	"      LEFT JOIN used u ON u.oid = c.oid"
	"     WHERE c.collversion IS NOT NULL"
	"       AND c.collencoding IN (-1, (SELECT d.encoding FROM pg_database d"
	"                                    WHERE d.datname = current_database()))"
	"), in_question AS MATERIALIZED ("
	"    SELECT c.*, 1 AS collations"
	"      FROM known c"
	"     WHERE c.counts"
	"     UNION ALL "
	"    SELECT DISTINCT ON (c.collprovider, c.collversion)"
	"           c.*, count(*) OVER (PARTITION BY c.collprovider, c.collversion)"
	"      FROM known c"
	"     WHERE NOT c.counts"
	"), changed AS MATERIALIZED ("
	"    SELECT q.*, format('%I.%I', q.nspname, q.collname) AS name,"
	"           pg_collation_actual_version(q.oid) AS actual"
	"      FROM in_question q"
	"     WHERE q.collversion <> pg_collation_actual_version(q.oid)"
	") "
	"SELECT 'warning',"
	"       'database ' || quote_ident(d.datname),"
	"       format('database %I was sorted by version %s of its collation, and the system has %s:"
	" its indexes may be out of order', d.datname, d.datcollversion, d.actual),"
	"       jsonb_build_object("
	"           'database', d.datname,"
	"           'collation', d.datcollate,"
	"           'version', d.datcollversion,"
	"           'actual_version', d.actual),"
	"       NULL::timestamptz,"
	"       " REINDEX_DATABASE ","
	"       'SHARE UPDATE EXCLUSIVE on each table'"
	"  FROM (SELECT d.datname, d.datcollate, d.datcollversion,"
	"               pg_database_collation_actual_version(d.oid) AS actual"
	"          FROM pg_database d"
	"         WHERE d.datallowconn) d"
	" WHERE d.datcollversion <> d.actual"
	" UNION ALL "
	"SELECT 'warning',"
	"       'collation ' || c.name,"
	"       format('what is sorted by collation %s was so by version %s, and the system has %s:"
	" indexes may be out of order', c.name, c.collversion, c.actual),"
	"       jsonb_build_object("
	"           'collation', c.name,"
	"           'version', c.collversion,"
	"           'actual_version', c.actual,"
	"           'indexes', coalesce(i.indexes, 0)),"
	"       NULL,"
	"       concat_ws(E'\\n', i.remedy, format('ALTER COLLATION %s REFRESH VERSION;', c.name)),"
	"       CASE WHEN i.indexes > 0 THEN 'SHARE UPDATE EXCLUSIVE on each table' ELSE 'none' END"
	"  FROM changed c,"
	"       LATERAL (SELECT count(*) AS indexes,"
	"                       string_agg(format(CASE WHEN x.indisexclusion THEN 'REINDEX INDEX %s;'"
	"                                              ELSE 'REINDEX INDEX CONCURRENTLY %s;' END,"
	"                                         d.objid::regclass), E'\\n') AS remedy"
	"                  FROM pg_depend d"
	"                  JOIN pg_index x ON x.indexrelid = d.objid"
	"                  JOIN pg_class r ON r.oid = d.objid AND r.relkind = 'i'"
	"                 WHERE d.refclassid = 'pg_collation'::regclass"
	"                   AND d.refobjid = c.oid"
	"                   AND d.classid = 'pg_class'::regclass) i"
	" WHERE c.counts"
	" UNION ALL "
	"SELECT 'info',"
	"       'unused collations',"
	"       format('the system has another version of %s collations that nothing in this database uses',"
	"              sum(c.collations)),"
	"       jsonb_build_object("
	"           'collations', sum(c.collations),"
	"           'versions', jsonb_agg(DISTINCT c.collversion),"
	"           'example', min(c.name),"
	"           'actual_version', min(c.actual)),"
	"       NULL,"
	"       string_agg(format('ALTER COLLATION %s REFRESH VERSION;', c.name), E'\\n')"
	"           || ' -- and so for the others of this version',"
	"       'none'"
	"  FROM changed c"
	" WHERE NOT c.counts"
	" HAVING count(*) > 0";

static const char checksums_off_query[] =
	"SELECT 'info',"
	"       'data_checksums',"
	"       'data checksums are off: what the storage damages is not noticed;"
	" pg_checksums --enable turns them on while the server is stopped',"
	"       jsonb_build_object('data_checksums', 'off'),"
	"       NULL::timestamptz,"
	"       NULL,"
	"       'restart of the server'"
	" WHERE current_setting('data_checksums') = 'off'";

const HealthCheck checks_integrity[] = {
	{
		.id = "checksum_failures",
		.family = "checksums",
		.weight = 2,
		.flags = CHECK_QUICK,
		.thresholds = {&failures_memory},
		.reference = DOCS("checksums.html"),
		.query = checksum_failures_query,
	},
	{
		.id = "collation_mismatch",
		.family = "collations",
		.weight = 1,
		.reference = DOCS("sql-altercollation.html#SQL-ALTERCOLLATION-NOTES"),
		.query = collation_query,
	},
	{
		.id = "checksums_off",
		.family = "checksums",
		.weight = 1,
		.reference = DOCS("app-pgchecksums.html"),
		.query = checksums_off_query,
	},
};

const int checks_integrity_count = lengthof(checks_integrity);
