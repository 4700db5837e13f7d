/*
 * health.h
 *		Checks: what is wrong, why, and which SQL mends it.
 *
 * A check is one entry in the table of its component: a query, or a function
 * where SQL will not do.  It reports findings; one that reports none is ok;
 * one that cannot run, or raises an error, is unknown with its reason, never
 * ok.  Scores are computed from the findings in SQL (pgopt_health() in the
 * install script).
 *
 * Owns no shared memory and takes no lock that waits.  Memory: what a run
 * shares lives in the context of the caller; what a check allocates, in one
 * that is reset after it.
 *
 * Cost: the sum of the checks.  Those over relations share one pass over the
 * catalogs (relations.h); no other check may cost more with more relations.
 */
#ifndef PGOPT_HEALTH_H
#define PGOPT_HEALTH_H

#include "pgopt.h"

#include "matview.h"
#include "threshold.h"

/* --- checks --------------------------------------------------------------- */

/* What checks share, made once a run; parts that not every run needs when they are asked for. */
typedef struct HealthRun
{
	TimestampTz now;
	bool quick;
	struct ReturnSetInfo *rsinfo; /* where rows go */
	MemoryContext context;        /* lives as long as the run */

	Registry *registry; /* see health_registry() */
	DatabaseState *db;
	struct Relations *relations; /* see health_relations() */
	bool relations_failed;       /* they could not be read */
	struct Hygiene *hygiene;     /* see health_hygiene() */
	struct BloatRun *bloat;      /* see checks_bloat.c */

	const struct HealthComponent *component; /* of the check that runs */
	const struct HealthCheck *check;         /* the one that runs */
	int found;                               /* findings of it so far */
	const char *unknown;                     /* why it cannot tell, or NULL */
} HealthRun;

/* Where a section of the README is, and one of the server's documentation. */
#define README_SECTION(anchor) "README.md#" anchor
#define DOCS(section)          "https://www.postgresql.org/docs/current/" section

/* A section of PostgreSQL's documentation, of the version that this is compiled for. */
#define PG_DOCS(section) "https://www.postgresql.org/docs/" PG_MAJORVERSION "/" section

/*
 * SQL expression for the remedy of findings that rest on a window of
 * counters: what was counted before it is no evidence any more.
 */
#define SQL_RESTART_WINDOW                                                  \
	"(SELECT format('SELECT %I.pgopt_restart_window();', n.nspname) "       \
	"   FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace " \
	"  WHERE e.extname = 'pgopt') "

/*
 * SQL expression for a remedy that has to run in a database: both are SQL
 * expressions.  psql's \c ends with the line, and takes what has a = or looks
 * like a URI for a connection string: of such names people are told instead.
 */
#define SQL_NO_NAME_TO_CONNECT "E'[\\n\\r=]|^postgres(ql)?://'"
#define SQL_IN_DATABASE(name, remedy)                                                                 \
	"(CASE WHEN " name " <> current_database() AND " name " ~ " SQL_NO_NAME_TO_CONNECT                \
	"      THEN '-- connect to that database, whose name psql cannot be given here, and look there' " \
	"      WHEN " name " <> current_database() THEN format(E'\\\\c %I\\n', " name ") || " remedy      \
	"      ELSE " remedy " END) "

#define MAX_THRESHOLDS 4

/* Cheap enough to be asked every few seconds. */
#define CHECK_QUICK 0x01

/* Has no meaning on a standby, and is unknown there. */
#define CHECK_PRIMARY 0x02

/* Rests on growing counters: unknown where only those of a lifetime are at hand. */
#define CHECK_DELTAS 0x04

/*
 * query: what finds, run as the caller, with the thresholds as $1 and so on
 * (float8).  A row a finding: severity, object, message, evidence (jsonb),
 * since, remedy, remedy_lock.  Without severity the row says, as message, why
 * the check cannot tell.
 */
typedef struct HealthCheck
{
	const char *id;
	const char *family; /* findings of one family saturate together */
	double weight;      /* of its findings in the component's score */
	int flags;
	const char *needs; /* predefined role that sees the data; NULL = everybody */
	Threshold *thresholds[MAX_THRESHOLDS];
	const char *reference;
	const char *query;
	void (*run)(HealthRun *run); /* where there is no query */
} HealthCheck;

typedef struct HealthComponent
{
	const char *name;
	double weight; /* in the overall score */
	const HealthCheck *checks;
	const int *count;
} HealthComponent;

/* One finding. Texts that are NULL become SQL nulls. */
typedef struct Finding
{
	const char *severity; /* critical, warning, info */
	const char *object;
	const char *message;
	const char *evidence; /* jsonb text */
	TimestampTz since;
	const char *remedy; /* SQL */
	const char *remedy_lock;
} Finding;

extern void health_init(void); /* makes the thresholds' settings; called once by _PG_init */

extern void health_report(HealthRun *run, const Finding *finding);

/* Runs a query of the kind described above, made at run time, and reports what it finds. */
extern void health_query(HealthRun *run, const char *query);

/* The managed views, evaluated and planned; and run->db. */
extern Registry *health_registry(HealthRun *run);

/* What the catalogs say of all relations (relations.h), and which indexes are at fault (hygiene.h). */
extern struct Relations *health_relations(HealthRun *run);
extern struct Hygiene *health_hygiene(HealthRun *run);

/* A jsonb string; null for NULL. */
extern char *health_json_string(const char *text);

/* May the caller call the function of the server's, "name(types)"?  Where not, the check cannot tell. */
extern bool health_may_call(HealthRun *run, const char *function);

/* "ALTER SYSTEM SET shared_preload_libraries = ..." with those that are there and one more. */
extern char *health_preload_remedy(const char *library);

/* Bytes of memory that the machine, or the container, has; 0 where it does not tell. */
extern double health_machine_memory(void);

/* --- the components ------------------------------------------------------- */

#define HEALTH_CHECKS(component)                   \
	extern const HealthCheck checks_##component[]; \
	extern const int checks_##component##_count

HEALTH_CHECKS(activity);
HEALTH_CHECKS(backup);
HEALTH_CHECKS(bloat);
HEALTH_CHECKS(disk);
HEALTH_CHECKS(indexes);
HEALTH_CHECKS(integrity);
HEALTH_CHECKS(load);
HEALTH_CHECKS(matviews);
HEALTH_CHECKS(pgopt);
HEALTH_CHECKS(pools);
HEALTH_CHECKS(replication);
HEALTH_CHECKS(schema);
HEALTH_CHECKS(security);
HEALTH_CHECKS(settings);
HEALTH_CHECKS(statistics);
HEALTH_CHECKS(vacuum);
HEALTH_CHECKS(wraparound);

#endif /* PGOPT_HEALTH_H */
