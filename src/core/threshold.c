/*
 * threshold.c
 *		Thresholds and their settings.
 */
#include "pgopt.h"

#include <limits.h>

#include "utils/guc.h"

#include "threshold.h"

double
threshold_value(const Threshold *threshold)
{
	switch (threshold->unit)
	{
		case UNIT_MB:
			return threshold->value * 1048576.0;
		case UNIT_MILLISECONDS:
			return threshold->value / 1000.0;
		default:
			return threshold->value;
	}
}

void
threshold_define(Threshold *threshold)
{
	static const int flags[] = {
		[UNIT_NUMBER] = 0,
		[UNIT_PERCENT] = 0,
		[UNIT_SECONDS] = GUC_UNIT_S,
		[UNIT_MILLISECONDS] = GUC_UNIT_MS,
		[UNIT_MB] = GUC_UNIT_MB,
	};

	if (threshold->defined)
		return; /* two checks share it */
	threshold->defined = true;
	DefineCustomIntVariable(psprintf("pgopt.%s", threshold->name),
							threshold->description,
							NULL,
							&threshold->value,
							threshold->boot_value,
							0,
							threshold->unit == UNIT_PERCENT ? 100 : INT_MAX,
							PGC_USERSET,
							flags[threshold->unit],
							NULL,
							NULL,
							NULL);
}
