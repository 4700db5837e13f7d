/*
 * threshold.h
 *		Settings that say from where on something is a finding.
 *
 * Owns nothing but the settings; each threshold lives in the room that judges
 * by it, and health, which lists those of its checks, makes their settings.
 */
#ifndef PGOPT_THRESHOLD_H
#define PGOPT_THRESHOLD_H

#include "pgopt.h"

typedef enum ThresholdUnit
{
	UNIT_NUMBER,
	UNIT_PERCENT,
	UNIT_SECONDS,
	UNIT_MILLISECONDS, /* checks get seconds */
	UNIT_MB,           /* checks get bytes */
} ThresholdUnit;

/* A setting pgopt.<name> that says from where on something is a finding. */
typedef struct Threshold
{
	const char *name; /* <what>_info, <what>_warning, <what>_critical, or what it is */
	ThresholdUnit unit;
	int boot_value;
	const char *description; /* a sentence */
	int value;               /* what the setting says now, in its unit */
	bool defined;            /* its setting exists */
} Threshold;

/* Its value in base units: seconds, bytes, percent, numbers. */
extern double threshold_value(const Threshold *threshold);

/* Makes its setting, unless that exists. */
extern void threshold_define(Threshold *threshold);

#endif /* PGOPT_THRESHOLD_H */
