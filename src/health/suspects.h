/*
 * suspects.h
 *		Of many findings of one check the worst, and checks of relations that
 *		are in files of their own.
 */
#ifndef PGOPT_SUSPECTS_H
#define PGOPT_SUSPECTS_H

#include "pgopt.h"

#include "health.h"
#include "relations.h"

/* So many are reported one by one, and the number of the rest as one more. */
#define MAX_REPORTED 20

typedef enum Severity
{
	SEVERITY_INFO,
	SEVERITY_WARNING,
	SEVERITY_CRITICAL,
} Severity;

typedef struct Suspect
{
	Severity severity;
	double badness;    /* orders those of one severity; often bytes or rows */
	const void *what;  /* the check's own */
	const void *other; /* the same */
} Suspect;

typedef struct Suspects
{
	Suspect *all;
	int count;
	int capacity;
} Suspects;

extern void suspects_add(Suspects *suspects, Severity severity, double badness, const void *what,
						 const void *other);

extern void suspects_sort(Suspects *suspects); /* worst first */

/*
 * Reports the worst.  describe() fills in all but the severity, or says that
 * it is none after all (gone since).  rest: what the others are, "foreign keys
 * without an index".
 */
extern void
suspects_report(HealthRun *run, Suspects *suspects,
				bool (*describe)(HealthRun *run, const Suspect *suspect, Finding *finding),
				const char *rest);

/* --- indexes that are missing (indexes_missing.c) ------------------------------- */

extern Threshold missing_key_rows;
extern Threshold missing_scans_size;
extern Threshold missing_scans_rows;
extern Threshold missing_scans_info;
extern Threshold missing_scans_warning;

extern void missing_check_foreign_keys(HealthRun *run);
extern void missing_check_scans(HealthRun *run);

/* --- keys that run out (keys.c) ----------------------------------------------- */

extern Threshold keys_warning;
extern Threshold keys_critical;

extern void keys_check_sequences(HealthRun *run);
extern void keys_check_integers(HealthRun *run);

#endif /* PGOPT_SUSPECTS_H */
