/*
 * settings.c
 *		The pgopt.* settings.
 */
#include "pgopt.h"

#include "compat.h"
#include "core.h"

bool pgopt_auto_refresh = true;
int pgopt_max_refresh_workers = 3;
int pgopt_refresh_lock_timeout = 500;
int pgopt_refresh_log_retention = 30 * 24 * 60;
int pgopt_worker_naptime = 10000;
bool pgopt_track_all_tables = false;
int pgopt_max_tracked_tables = 20000;

void
settings_init(void)
{
	DefineCustomBoolVariable(
		"pgopt.auto_refresh",
		"Lets pgopt's workers refresh the managed materialized views.",
		"When off, views are refreshed by pgopt_refresh(), pgopt_refresh_due() "
		"and pgopt_refresh_all() only.",
		&pgopt_auto_refresh,
		true,
		PGC_SIGHUP,
		0,
		NULL,
		NULL,
		NULL);

	DefineCustomIntVariable(
		"pgopt.max_refresh_workers",
		"Number of refreshes that may run at once in the whole server.",
		"With two or more, the last free one is kept for views of priority 1 to 3.",
		&pgopt_max_refresh_workers,
		3,
		1,
		PGOPT_MAX_REFRESH_SLOTS,
		PGC_SIGHUP,
		0,
		NULL,
		NULL,
		NULL);

	DefineCustomIntVariable(
		"pgopt.refresh_lock_timeout",
		"Longest time that a refresh waits in the queue of a lock.",
		"Readers can wait behind it for at most this long; zero waits without limit.",
		&pgopt_refresh_lock_timeout,
		500,
		0,
		INT_MAX,
		PGC_SUSET,
		GUC_UNIT_MS,
		NULL,
		NULL,
		NULL);

	DefineCustomIntVariable("pgopt.refresh_log_retention",
							"How long rows of pgopt.refresh_log are kept.",
							"Zero keeps them for ever.",
							&pgopt_refresh_log_retention,
							30 * 24 * 60,
							0,
							10 * 366 * 24 * 60,
							PGC_SIGHUP,
							GUC_UNIT_MIN,
							NULL,
							NULL,
							NULL);

	DefineCustomIntVariable(
		"pgopt.worker_naptime",
		"Longest pause between two looks at what no commit announces.",
		"The use of views that strategy smart weighs, prepared transactions, new databases.",
		&pgopt_worker_naptime,
		10000,
		100,
		3600 * 1000,
		PGC_SIGHUP,
		GUC_UNIT_MS,
		NULL,
		NULL,
		NULL);

	DefineCustomBoolVariable(
		"pgopt.track_all_tables",
		"Counts the changes of every table, not only of those that managed views read.",
		NULL,
		&pgopt_track_all_tables,
		false,
		PGC_SIGHUP,
		0,
		NULL,
		NULL,
		NULL);

	/* One that needs a restart cannot be made once the server runs, nor the prefix be reserved. */
	if (!process_shared_preload_libraries_in_progress)
		return;
	DefineCustomIntVariable(
		"pgopt.max_tracked_tables",
		"Number of tables whose changes can be counted in the whole server.",
		"Tables beyond it count as unknown, never as unchanged. About 200 bytes each.",
		&pgopt_max_tracked_tables,
		20000,
		10,
		10000000,
		PGC_POSTMASTER,
		0,
		NULL,
		NULL,
		NULL);
	MarkGUCPrefixReserved("pgopt");
}

void
settings_set_lock_timeout(int milliseconds)
{
	char value[32];

	snprintf(value, sizeof(value), "%d", milliseconds);
	(void) set_config_option(
		"lock_timeout", value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}
