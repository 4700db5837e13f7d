/*
 * outcome.c
 *		What a refresh leaves behind: the view's row in pgopt.matview_state,
 *		and a row in pgopt.refresh_log.
 *
 * All of it is written as the owner of the extension.  Where somebody else
 * has locked a row, what is not essential is skipped, and the rest waits for
 * no longer than pgopt.refresh_lock_timeout.
 */
#include "pgopt.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/elog.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "core.h"
#include "matview_internal.h"

/* Failures are retried after this, doubled each time. */
#define FIRST_RETRY   (INT64CONST(5) * USECS_PER_SEC)
#define LONGEST_RETRY (INT64CONST(3600) * USECS_PER_SEC)

static Datum
oid_array(const Oid *oids, int count)
{
	Datum *elements = palloc((count + 1) * sizeof(Datum));

	for (int i = 0; i < count; i++)
		elements[i] = ObjectIdGetDatum(oids[i]);
	return PointerGetDatum(
		construct_array(elements, count, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

void
outcome_record(Oid matview, const Baseline *baseline, const RefreshResult *result)
{
	const Dependencies *dependencies = baseline->dependencies;
	static SPIPlanPtr plan = NULL;
	PgoptSpi spi;
	Oid types[] = {OIDOID,
				   INT8OID,
				   OIDARRAYOID,
				   OIDARRAYOID,
				   INT8OID,
				   TEXTOID,
				   INT8OID,
				   INT8OID,
				   INT8OID,
				   INT8OID,
				   INT8OID,
				   INT8OID,
				   INT8OID,
				   TIMESTAMPTZOID,
				   INT8OID,
				   TEXTOID};
	Datum values[lengthof(types)];
	char nulls[lengthof(types) + 1];

	memset(nulls, ' ', sizeof(nulls));
	nulls[lengthof(types)] = '\0';
	values[0] = ObjectIdGetDatum(matview);
	values[1] = Int64GetDatum((int64) changes_epoch());
	values[2] = oid_array(dependencies->relids, dependencies->nrelids);
	values[3] = oid_array(dependencies->upstream, dependencies->nupstream);
	values[4] = Int64GetDatum((int64) dependencies->fingerprint);
	if (dependencies->untracked)
		values[5] = CStringGetTextDatum(dependencies->untracked);
	else
		nulls[5] = 'n';
	values[6] = Int64GetDatum((int64) baseline->sums.rows);
	values[7] = Int64GetDatum((int64) baseline->sums.truncated);
	values[8] = Int64GetDatum((int64) baseline->sums.unknown);
	values[9] = Int64GetDatum((int64) baseline->lost);
	values[10] = Int64GetDatum((int64) baseline->foreign);
	values[11] = Int64GetDatum((int64) baseline->ddl_generation);
	values[12] = Int64GetDatum(baseline->reads);
	values[13] = TimestampTzGetDatum(baseline->taken);
	values[14] = Int64GetDatum(result->duration);
	values[15] = CStringGetTextDatum(refresh_mode_name(result->mode));

	pgopt_spi_begin(&spi);
	(void) pgopt_spi_execute_kept(
		&plan,
		"INSERT INTO pgopt.matview_state AS s"
		" (view, epoch, relations, upstream, fingerprint, untracked, seen_rows, seen_truncated,"
		"  seen_unknown, seen_lost, seen_foreign, ddl_generation, seen_reads, last_refresh,"
		"  last_duration_us, mean_duration_us, last_mode)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15, $16)"
		" ON CONFLICT (view) DO UPDATE SET"
		"  epoch = excluded.epoch, relations = excluded.relations, upstream = excluded.upstream,"
		"  fingerprint = excluded.fingerprint, untracked = excluded.untracked,"
		"  seen_rows = excluded.seen_rows, seen_truncated = excluded.seen_truncated,"
		"  seen_unknown = excluded.seen_unknown, seen_lost = excluded.seen_lost,"
		"  seen_foreign = excluded.seen_foreign, ddl_generation = excluded.ddl_generation,"
		"  seen_reads = excluded.seen_reads, last_refresh = excluded.last_refresh,"
		"  last_checked = NULL, last_duration_us = excluded.last_duration_us,"
		/* a moving mean over about the last eight refreshes */
		"  mean_duration_us = coalesce((7 * s.mean_duration_us + excluded.last_duration_us) / 8,"
		"                              excluded.last_duration_us),"
		"  last_mode = excluded.last_mode, last_error = NULL, last_sqlstate = NULL,"
		"  failures = 0, retry_at = NULL",
		lengthof(types),
		types,
		values,
		nulls,
		false,
		SPI_OK_INSERT);
	pgopt_spi_end(&spi);
}

void
outcome_log(Oid matview, const char *source, const char *reason, const char *outcome,
			const char *mode, int64 duration, int64 pending, const char *sqlstate,
			const char *message)
{
	static SPIPlanPtr plan = NULL;
	PgoptSpi spi;
	Oid types[] = {OIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT8OID, INT8OID, TEXTOID, TEXTOID};
	Datum values[lengthof(types)];
	char nulls[lengthof(types) + 1];
	const char *texts[] = {NULL, source, reason, outcome, mode, NULL, NULL, sqlstate, message};

	memset(nulls, ' ', sizeof(nulls));
	nulls[lengthof(types)] = '\0';
	for (int i = 0; i < lengthof(types); i++)
	{
		if (types[i] != TEXTOID)
			continue;
		if (texts[i])
			values[i] = CStringGetTextDatum(texts[i]);
		else
			nulls[i] = 'n';
	}
	values[0] = ObjectIdGetDatum(matview);
	values[5] = Int64GetDatum(duration);
	values[6] = Int64GetDatum(pending);
	if (pending < 0)
		nulls[6] = 'n';

	pgopt_spi_begin(&spi);
	(void) pgopt_spi_execute_kept(
		&plan,
		"INSERT INTO pgopt.refresh_log"
		" (view, view_name, source, reason, outcome, mode, started_at, duration,"
		"  pending_changes, sqlstate, message)"
		" SELECT $1, coalesce((SELECT n.nspname || '.' || c.relname FROM pg_class c"
		"                        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1),"
		"                     (SELECT m.schema_name || '.' || m.view_name"
		"                        FROM pgopt.matview m WHERE m.view = $1 AND m.home = pgopt.home()), $1::text),"
		"        $2, $3, $4, $5, clock_timestamp() - $6 * interval '1 microsecond',"
		"        $6 * interval '1 microsecond', $7, $8, $9",
		lengthof(types),
		types,
		values,
		nulls,
		false,
		SPI_OK_INSERT);
	pgopt_spi_end(&spi);
}

/* Rows that were pending for this refresh, or -1 where that is not known. */
int64
outcome_pending(Oid matview, const Baseline *baseline)
{
	static SPIPlanPtr plan = NULL;
	PgoptSpi spi;
	Oid types[] = {OIDOID, INT8OID};
	Datum values[] = {ObjectIdGetDatum(matview), Int64GetDatum((int64) changes_epoch())};
	int64 pending = -1;
	bool isnull;

	pgopt_spi_begin(&spi);
	if (pgopt_spi_execute_kept(&plan,
							   "SELECT seen_rows FROM pgopt.matview_state"
							   " WHERE view = $1 AND epoch = $2 AND last_refresh IS NOT NULL",
							   2,
							   types,
							   values,
							   NULL,
							   true,
							   SPI_OK_SELECT) > 0)
		pending =
			(int64) (baseline->sums.rows - (uint64) DatumGetInt64(pgopt_spi_value(0, 1, &isnull)));
	pgopt_spi_end(&spi);
	return pending;
}

void
matview_note_failure(Oid matview, const char *source, const char *reason, int64 duration,
					 const ErrorData *error)
{
	PgoptSpi spi;
	Oid types[] = {OIDOID, TEXTOID, TEXTOID, INT8OID, INT8OID, BOOLOID};
	Datum values[lengthof(types)];
	const char *sqlstate = unpack_sql_state(error->sqlerrcode);
	char *message;
	int save_nestlevel = NewGUCNestLevel();

	message = error->detail ? psprintf("%s (%s)", error->message, error->detail)
							: pstrdup(error->message);
	settings_set_lock_timeout(pgopt_refresh_lock_timeout);
	values[0] = ObjectIdGetDatum(matview);
	values[1] = CStringGetTextDatum(message);
	values[2] = CStringGetTextDatum(sqlstate);
	values[3] = Int64GetDatum(FIRST_RETRY);
	values[4] = Int64GetDatum(LONGEST_RETRY);

	/*
	 * An attempt that was noted before it began is this one.  A lock that
	 * could not be had is no failure of the view: it is tried again soon.
	 */
	values[5] = BoolGetDatum(error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE);
	pgopt_spi_begin(&spi);
	(void) pgopt_spi_execute(
		"INSERT INTO pgopt.matview_state AS s"
		" (view, last_error, last_sqlstate, failures, retry_at)"
		" VALUES ($1, $2, $3, CASE WHEN $6 THEN 0 ELSE 1 END,"
		"         clock_timestamp() + $4 * interval '1 microsecond')"
		" ON CONFLICT (view) DO UPDATE SET"
		"  failures = s.failures + CASE WHEN $6 THEN 0 ELSE 1 END"
		"             - CASE WHEN s.failures > 0 AND s.last_sqlstate IS NULL THEN 1 ELSE 0 END,"
		"  last_error = $2, last_sqlstate = $3,"
		"  retry_at = clock_timestamp() + interval '1 microsecond'"
		"           * CASE WHEN $6 THEN $4"
		"             ELSE least($5, $4 * power(2, least(s.failures"
		"                   - CASE WHEN s.failures > 0 AND s.last_sqlstate IS NULL THEN 1 ELSE 0 END, 20))) END",
		lengthof(types),
		types,
		values,
		NULL,
		false,
		SPI_OK_INSERT);
	pgopt_spi_end(&spi);
	outcome_log(matview, source, reason, "failed", NULL, duration, -1, sqlstate, message);
	tracker_note_state_change(matview);
	AtEOXact_GUC(false, save_nestlevel);
}

void
matview_note_attempt(Oid matview)
{
	PgoptSpi spi;
	Oid types[] = {OIDOID, INT8OID, INT8OID, INT8OID};
	Datum values[] = {ObjectIdGetDatum(matview),
					  Int64GetDatum((int64) changes_epoch()),
					  Int64GetDatum(FIRST_RETRY),
					  Int64GetDatum(LONGEST_RETRY)};
	int save_nestlevel = NewGUCNestLevel();

	settings_set_lock_timeout(pgopt_refresh_lock_timeout);
	pgopt_spi_begin(&spi);
	if (pgopt_spi_execute("SELECT FROM pgopt.matview_state WHERE view = $1 AND epoch = $2",
						  2,
						  types,
						  values,
						  NULL,
						  false,
						  SPI_OK_SELECT) == 0)
		(void) pgopt_spi_execute(
			"INSERT INTO pgopt.matview_state AS s (view, epoch, failures, last_error, retry_at)"
			" VALUES ($1, $2, 1, 'a refresh was begun and did not end',"
			"         clock_timestamp() + $3 * interval '1 microsecond')"
			" ON CONFLICT (view) DO UPDATE SET"
			"  failures = s.failures + 1, last_error = excluded.last_error, last_sqlstate = NULL,"
			"  retry_at = clock_timestamp()"
			"           + least($4, $3 * power(2, least(s.failures, 20))) * interval '1 microsecond'"
			" WHERE s.epoch <> $2",
			lengthof(types),
			types,
			values,
			NULL,
			false,
			SPI_OK_INSERT);
	pgopt_spi_end(&spi);
	AtEOXact_GUC(false, save_nestlevel);
}

void
matview_forget_attempt(Oid matview)
{
	PgoptSpi spi;
	Oid types[] = {OIDOID};
	Datum values[] = {ObjectIdGetDatum(matview)};

	pgopt_spi_begin(&spi);
	(void) pgopt_spi_execute(
		"UPDATE pgopt.matview_state SET failures = failures - 1, last_error = NULL, retry_at = NULL"
		" WHERE view IN (SELECT view FROM pgopt.matview_state WHERE view = $1"
		"                   AND failures > 0 AND last_sqlstate IS NULL FOR UPDATE SKIP LOCKED)",
		1,
		types,
		values,
		NULL,
		false,
		SPI_OK_UPDATE);
	pgopt_spi_end(&spi);
}

/* The log gets one row for a run of such findings: an idle database writes next to nothing. */
void
matview_note_unchanged(Oid matview, const char *source, const char *reason)
{
	PgoptSpi spi;
	Oid types[] = {OIDOID};
	Datum values[] = {ObjectIdGetDatum(matview)};
	bool first;

	pgopt_spi_begin(&spi);
	first = pgopt_spi_execute("SELECT FROM pgopt.matview_state"
							  " WHERE view = $1 AND last_checked IS NULL",
							  1,
							  types,
							  values,
							  NULL,
							  false,
							  SPI_OK_SELECT) > 0;
	/* A row that a refresh has locked is about to be written anyway. */
	(void) pgopt_spi_execute("UPDATE pgopt.matview_state SET last_checked = clock_timestamp()"
							 " WHERE view IN (SELECT view FROM pgopt.matview_state"
							 "                 WHERE view = $1 FOR UPDATE SKIP LOCKED)",
							 1,
							 types,
							 values,
							 NULL,
							 false,
							 SPI_OK_UPDATE);
	pgopt_spi_end(&spi);
	if (first)
		outcome_log(matview, source, reason, "unchanged", NULL, 0, 0, NULL, NULL);
}

int64
matview_trim_log(void)
{
	PgoptSpi spi;
	Oid types[] = {INT4OID};
	Datum values[] = {Int32GetDatum(pgopt_refresh_log_retention)};
	int64 rows;

	if (pgopt_refresh_log_retention == 0)
		return 0;
	pgopt_spi_begin(&spi);
	rows = (int64) pgopt_spi_execute(
		"DELETE FROM pgopt.refresh_log"
		" WHERE started_at < clock_timestamp() - make_interval(mins => $1)",
		1,
		types,
		values,
		NULL,
		false,
		SPI_OK_DELETE);
	pgopt_spi_end(&spi);
	return rows;
}
