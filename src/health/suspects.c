/*
 * suspects.c
 *		Of many findings of one check the worst, and how many more there are.
 *
 * A database of a thousand foreign keys without indexes needs no thousand
 * lines to say so, and looking up the names of a thousand relations takes
 * longer than finding them.
 */
#include "pgopt.h"

#include "miscadmin.h"

#include "health.h"
#include "relations.h"
#include "suspects.h"

static const char *const severities[] = {
	[SEVERITY_INFO] = "info",
	[SEVERITY_WARNING] = "warning",
	[SEVERITY_CRITICAL] = "critical",
};

void
suspects_add(Suspects *suspects, Severity severity, double badness, const void *what,
			 const void *other)
{
	if (suspects->count == suspects->capacity)
	{
		suspects->capacity = Max(2 * suspects->capacity, 64);
		suspects->all = suspects->all == NULL
							? palloc(suspects->capacity * sizeof(Suspect))
							: repalloc_huge(suspects->all, suspects->capacity * sizeof(Suspect));
	}
	suspects->all[suspects->count++] = (Suspect){severity, badness, what, other};
}

static int
worst_first(const void *a, const void *b)
{
	const Suspect *x = a;
	const Suspect *y = b;

	if (x->severity != y->severity)
		return x->severity > y->severity ? -1 : 1;
	if (x->badness != y->badness)
		return x->badness > y->badness ? -1 : 1;
	return x->what < y->what ? -1 : x->what > y->what ? 1 : 0;
}

void
suspects_sort(Suspects *suspects)
{
	if (suspects->count > 1)
		qsort(suspects->all, suspects->count, sizeof(Suspect), worst_first);
}

void
suspects_report(HealthRun *run, Suspects *suspects,
				bool (*describe)(HealthRun *run, const Suspect *suspect, Finding *finding),
				const char *rest)
{
	int counts[lengthof(severities)] = {0};
	int reported = 0;
	int i;

	if (suspects->count == 0)
		return;
	suspects_sort(suspects);
	for (i = 0; i < suspects->count && reported < MAX_REPORTED; i++)
	{
		Finding finding = {.severity = severities[suspects->all[i].severity]};

		CHECK_FOR_INTERRUPTS();
		if (!describe(run, &suspects->all[i], &finding))
			continue;
		health_report(run, &finding);
		reported++;
	}
	if (i < suspects->count)
	{
		int more = suspects->count - i;
		Finding finding = {
			.severity = severities[suspects->all[i].severity],
			.object = psprintf("%d more", more),
			.message = psprintf("%d more %s", more, rest),
		};

		for (; i < suspects->count; i++)
			counts[suspects->all[i].severity]++;
		finding.evidence =
			psprintf("{\"more\": %d, \"critical\": %d, \"warning\": %d, \"info\": %d}",
					 more,
					 counts[SEVERITY_CRITICAL],
					 counts[SEVERITY_WARNING],
					 counts[SEVERITY_INFO]);
		health_report(run, &finding);
	}
}
