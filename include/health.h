/*
 * health.h
 *		Checks: what is wrong, why, and which SQL mends it.
 *
 * A check is one function in the table of checks.c.  It reports findings; one
 * that reports none is ok; one that cannot run, or raises an error, is unknown
 * with its reason, never ok.  Scores are computed from the findings in SQL
 * (pgopt_health() in the install script).
 *
 * Owns no shared memory and takes no lock that waits.  Memory: the context of
 * the caller.
 */
#ifndef PGOPT_HEALTH_H
#define PGOPT_HEALTH_H

#include "pgopt.h"

#include "matview.h"

/* What checks share, made once a run. */
typedef struct HealthRun
{
	TimestampTz now;
	Registry *registry; /* evaluated and planned */
	DatabaseState *db;
	struct ReturnSetInfo *rsinfo;    /* where rows go */
	const struct HealthCheck *check; /* the one that runs */
	int found;                       /* findings of it so far */
	const char *unknown;             /* why it cannot tell, or NULL */
} HealthRun;

typedef struct HealthCheck
{
	const char *id;
	const char *component;
	void (*run)(HealthRun *run);
} HealthCheck;

/* One finding. Texts that are NULL become SQL nulls. */
typedef struct Finding
{
	const char *severity; /* critical, warning, info */
	const char *object;
	const char *message;
	const char *evidence; /* jsonb text */
	const char *threshold;
	TimestampTz since;
	const char *remedy; /* SQL */
	const char *remedy_lock;
	const char *reference;
} Finding;

extern const HealthCheck health_checks[];
extern const int health_check_count;

extern void health_report(HealthRun *run, const Finding *finding);

#endif /* PGOPT_HEALTH_H */
