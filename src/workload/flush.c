/*
 * flush.c
 *		What waits in shared memory goes into the tables.
 *
 * Run by the database's worker, as the owner of the extension.  The lock on
 * the extension keeps others out that do the same; neither it nor those on the
 * tables are waited for: what cannot be written now is written later.  All of
 * it is one subtransaction; when that fails, what was taken is given back.
 *
 * Cost: one row of pgopt.workload_history for each statement that ran, one of
 * pgopt.workload_samples for each sample.  A flush that took long is followed
 * by a pause of fifty times its length.
 */
#include "pgopt.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "core.h"
#include "workload_internal.h"

#define FLUSH_PAUSE_MS   (10 * 1000)
#define FAILED_PAUSE_MS  (60 * 1000)
#define LONGEST_PAUSE_MS (300 * 1000)
#define IDLE_WAIT_MS     (3600 * 1000)
#define LONGEST_PERIOD   (3600 * USECS_PER_SEC)
#define TRIM_PAUSE       (600 * USECS_PER_SEC)

/* Rows of pgopt.workload_history, and of statements, for each entry in shared memory, at most. */
#define HISTORY_ROWS   100
#define STATEMENT_ROWS 2

static const char *const own_tables[] = {
	"workload_statements", "workload_samples", "workload_history"};

static TimestampTz trimmed = 0;
static int64 inserted = 0; /* statements, since then */

/* --- when ---------------------------------------------------------------------------- */

void
workload_new_period(void)
{
	WorkloadDatabase *database = store_database();

	if (database != NULL)
		pg_atomic_write_u64(&database->period, (uint64) GetCurrentTimestamp());
}

long
workload_wait(void)
{
	WorkloadDatabase *database = store_database();
	TimestampTz now;

	if (database == NULL || pg_atomic_read_u32(&database->waiting) == 0)
		return IDLE_WAIT_MS; /* the first statement wakes the worker */
	now = GetCurrentTimestamp();
	return TimestampDifferenceMilliseconds(now, (TimestampTz) pg_atomic_read_u64(&database->next));
}

bool
workload_is_due(void)
{
	WorkloadDatabase *database = store_database();

	/* the worker runs where the extension is */
	if (database != NULL)
		pg_atomic_write_u32(&database->installed, INSTALLED);
	return workload_wait() == 0;
}

/* --- writing --------------------------------------------------------------------------- */

/*
 * Who reads tables and shared memory together waits here for a flush under
 * way, whose rows are in neither.  Not on a standby, where there is none.
 */
void
workload_lock_reading(void)
{
	if (!RecoveryInProgress())
		LockDatabaseObject(ExtensionRelationId, pgopt_extension_oid(), 0, ShareLock);
}

void
workload_unlock_reading(void)
{
	if (!RecoveryInProgress())
		UnlockDatabaseObject(ExtensionRelationId, pgopt_extension_oid(), 0, ShareLock);
}

static bool
lock_tables(bool wait)
{
	Oid extension = pgopt_extension_oid();

	if (!OidIsValid(extension))
		return false;
	if (wait)
		LockDatabaseObject(ExtensionRelationId, extension, 0, ShareUpdateExclusiveLock);
	else if (!ConditionalLockDatabaseObject(
				 ExtensionRelationId, extension, 0, ShareUpdateExclusiveLock))
		return false;
	for (int i = 0; i < lengthof(own_tables); i++)
	{
		Oid table = pgopt_table_oid(own_tables[i]);

		if (!OidIsValid(table) || !ConditionalLockRelationOid(table, RowExclusiveLock))
			return false;
	}
	return true;
}

/* One row of pgopt.workload_history. */
typedef struct HistoryArrays
{
	int n;
	Datum *columns[8];
} HistoryArrays;

static void
add_history(HistoryArrays *rows, const StatementEntry *entry, const PeriodCounts *counts)
{
	Datum row[] = {
		Int64GetDatum((int64) entry->key.queryid),
		ObjectIdGetDatum(entry->key.userid),
		TimestampTzGetDatum(counts->start),
		TimestampTzGetDatum(counts->last),
		Float8GetDatum(counts->calls),
		Float8GetDatum(counts->milliseconds),
		Float8GetDatum(counts->squares),
		Float8GetDatum(counts->rows),
	};

	if (counts->calls <= 0)
		return;
	for (int i = 0; i < lengthof(row); i++)
		rows->columns[i][rows->n] = row[i];
	rows->n++;
}

static Datum
array_of(Datum *values, int n, Oid type)
{
	return PointerGetDatum(construct_array(values,
										   n,
										   type,
										   type == OIDOID ? 4 : 8,
										   type == OIDOID ? true : FLOAT8PASSBYVAL,
										   type == OIDOID ? TYPALIGN_INT : TYPALIGN_DOUBLE));
}

static void
write_counts(const StatementEntry *entries, int count)
{
	static const Oid column_types[] = {INT8OID,
									   OIDOID,
									   TIMESTAMPTZOID,
									   TIMESTAMPTZOID,
									   FLOAT8OID,
									   FLOAT8OID,
									   FLOAT8OID,
									   FLOAT8OID};
	Oid types[] = {INT8ARRAYOID,
				   OIDARRAYOID,
				   TIMESTAMPTZARRAYOID,
				   TIMESTAMPTZARRAYOID,
				   FLOAT8ARRAYOID,
				   FLOAT8ARRAYOID,
				   FLOAT8ARRAYOID,
				   FLOAT8ARRAYOID};
	Oid statement_types[] = {INT8ARRAYOID, OIDARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID};
	Datum values[lengthof(column_types)];
	HistoryArrays rows = {0};
	Datum *statements[4];

	if (count == 0)
		return;
	for (int i = 0; i < lengthof(column_types); i++)
		rows.columns[i] = palloc(2 * count * sizeof(Datum));
	for (int i = 0; i < lengthof(statements); i++)
		statements[i] = palloc(count * sizeof(Datum));
	for (int i = 0; i < count; i++)
	{
		const StatementEntry *entry = &entries[i];

		add_history(&rows, entry, &entry->previous);
		add_history(&rows, entry, &entry->current);
		statements[0][i] = Int64GetDatum((int64) entry->key.queryid);
		statements[1][i] = ObjectIdGetDatum(entry->key.userid);
		statements[2][i] = TimestampTzGetDatum(entry->first_seen);
		statements[3][i] = Int64GetDatum(entry->command);
	}
	for (int i = 0; i < lengthof(statements); i++)
		values[i] = array_of(statements[i],
							 count,
							 i == 0 || i == 3 ? INT8OID
							 : i == 1         ? OIDOID
											  : TIMESTAMPTZOID);
	inserted += pgopt_spi_execute(
		"INSERT INTO pgopt.workload_statements AS s (queryid, userid, first_seen, command)"
		" SELECT * FROM unnest($1, $2, $3, $4)"
		" ON CONFLICT (queryid, userid) DO NOTHING",
		lengthof(statement_types),
		statement_types,
		values,
		NULL,
		false,
		SPI_OK_INSERT);

	for (int i = 0; i < lengthof(column_types); i++)
		values[i] = array_of(rows.columns[i], rows.n, column_types[i]);
	pgopt_spi_execute(
		"INSERT INTO pgopt.workload_history AS h"
		" (queryid, userid, period_start, period_end, calls, milliseconds, squares, rows)"
		" SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)"
		" ON CONFLICT (queryid, userid, period_start) DO UPDATE SET"
		" period_end = greatest(h.period_end, EXCLUDED.period_end),"
		" calls = h.calls + EXCLUDED.calls, milliseconds = h.milliseconds + EXCLUDED.milliseconds,"
		" squares = h.squares + EXCLUDED.squares, rows = h.rows + EXCLUDED.rows",
		lengthof(types),
		types,
		values,
		NULL,
		false,
		SPI_OK_INSERT);
}

static Datum
oid_array(const Oid *oids, int n)
{
	Datum *values = palloc((n + 1) * sizeof(Datum));

	for (int i = 0; i < n; i++)
		values[i] = ObjectIdGetDatum(oids[i]);
	return PointerGetDatum(construct_array(values, n, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

static Datum
bool_array(const bool *bools, int n)
{
	Datum *values = palloc((n + 1) * sizeof(Datum));

	for (int i = 0; i < n; i++)
		values[i] = BoolGetDatum(bools[i]);
	return PointerGetDatum(construct_array(values, n, BOOLOID, 1, true, TYPALIGN_CHAR));
}

static Datum
text_array(const char **texts, int n)
{
	Datum *values = palloc((n + 1) * sizeof(Datum));
	bool *nulls = palloc((n + 1) * sizeof(bool));
	int lower = 1;

	if (n == 0)
		return PointerGetDatum(construct_empty_array(TEXTOID));
	for (int i = 0; i < n; i++)
	{
		nulls[i] = texts[i] == NULL;
		values[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(texts[i]);
	}
	return PointerGetDatum(
		construct_md_array(values, nulls, 1, &n, &lower, TEXTOID, -1, false, TYPALIGN_INT));
}

static void
write_text(const SampleRecord *record, const WorkloadSample *sample)
{
	Oid types[] = {
		INT8OID, OIDOID, INT8OID, TIMESTAMPTZOID, TEXTOID, TEXTOID, BOOLOID, OIDARRAYOID};
	Datum values[lengthof(types)];

	values[0] = Int64GetDatum((int64) record->key.queryid);
	values[1] = ObjectIdGetDatum(record->key.userid);
	values[2] = Int64GetDatum(record->command);
	values[3] = TimestampTzGetDatum(record->at);
	values[4] = CStringGetTextDatum(sample->query);
	values[5] = CStringGetTextDatum(sample->search_path);
	values[6] = BoolGetDatum(record->is_template);
	values[7] = oid_array(sample->param_types, sample->nparams);
	inserted += pgopt_spi_execute(
		"INSERT INTO pgopt.workload_statements AS s"
		" (queryid, userid, command, first_seen, query, search_path, template, param_types)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
		" ON CONFLICT (queryid, userid) DO UPDATE SET query = EXCLUDED.query,"
		" search_path = EXCLUDED.search_path, template = EXCLUDED.template,"
		" param_types = EXCLUDED.param_types WHERE s.query IS NULL",
		lengthof(types),
		types,
		values,
		NULL,
		false,
		SPI_OK_INSERT);
}

static void
write_sample(const SampleRecord *record, const WorkloadSample *sample)
{
	Oid types[] = {INT8OID,
				   OIDOID,
				   TIMESTAMPTZOID,
				   TEXTOID,
				   TEXTOID,
				   OIDARRAYOID,
				   TEXTARRAYOID,
				   BOOLARRAYOID,
				   FLOAT8OID,
				   FLOAT8OID,
				   TEXTOID};
	Datum values[lengthof(types)];
	char nulls[lengthof(types) + 1] = "           ";

	values[0] = Int64GetDatum((int64) record->key.queryid);
	values[1] = ObjectIdGetDatum(record->key.userid);
	values[2] = TimestampTzGetDatum(sample->captured);
	nulls[3] = sample->query != NULL ? ' ' : 'n';
	values[3] = sample->query != NULL ? CStringGetTextDatum(sample->query) : (Datum) 0;
	values[4] = CStringGetTextDatum(sample->search_path);
	values[5] = oid_array(sample->param_types, sample->nparams);
	values[6] = text_array(sample->param_values, sample->nparams);
	values[7] = bool_array(sample->param_known, sample->nparams);
	values[8] = Float8GetDatum(sample->milliseconds);
	values[9] = Float8GetDatum(sample->rows);
	nulls[10] = sample->plan != NULL ? ' ' : 'n';
	values[10] = sample->plan != NULL ? CStringGetTextDatum(sample->plan) : (Datum) 0;
	pgopt_spi_execute(
		"INSERT INTO pgopt.workload_samples (queryid, userid, captured_at, query, search_path,"
		" param_types, param_values, param_known, milliseconds, rows, plan)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
		lengthof(types),
		types,
		values,
		nulls,
		false,
		SPI_OK_INSERT);
}

/*
 * Of the statements that got samples: the newest four, the slowest two, the
 * newest with a plan and the oldest; of equal ones the newest.
 */
static void
trim_samples(Datum *queryids, int n)
{
	Oid types[] = {INT8ARRAYOID};
	Datum values[1];

	if (n == 0)
		return;
	values[0] = array_of(queryids, n, INT8OID);
	pgopt_spi_execute(
		"DELETE FROM pgopt.workload_samples d USING ("
		" SELECT id, again, row_number() OVER (w ORDER BY again, captured_at DESC, id DESC) AS new,"
		"  row_number() OVER (w ORDER BY again, milliseconds DESC, id) AS slow,"
		"  row_number() OVER (w ORDER BY again, plan IS NULL, captured_at DESC, id DESC) AS planned,"
		"  row_number() OVER (w ORDER BY again, captured_at, id) AS old"
		"  FROM (SELECT s.*, row_number() OVER"
		"    (PARTITION BY queryid, userid, query, param_values, param_known"
		"     ORDER BY plan IS NULL, captured_at DESC, id DESC) > 1 AS again"
		"    FROM pgopt.workload_samples s WHERE queryid = ANY ($1)) s"
		"  WINDOW w AS (PARTITION BY queryid, userid)) r"
		" WHERE d.id = r.id AND (r.again OR NOT (new <= 4 OR slow <= 2 OR planned <= 1 OR old <= 1))",
		lengthof(types),
		types,
		values,
		NULL,
		false,
		SPI_OK_DELETE);
}

static void
write_records(SampleRecord **records, int count)
{
	Datum *queryids = palloc((count + 1) * sizeof(Datum));
	int n = 0;
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt sample", ALLOCSET_DEFAULT_SIZES);

	for (int i = 0; i < count; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		WorkloadSample sample;

		CHECK_FOR_INTERRUPTS();
		record_read(records[i], &sample);
		if (sample.query != NULL)
			write_text(records[i], &sample);
		/* what the text says need not be said again */
		if (records[i]->is_sample)
		{
			write_sample(records[i], &sample);
			queryids[n++] = Int64GetDatum((int64) records[i]->key.queryid);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	trim_samples(queryids, n);
}

/* --- bounds -------------------------------------------------------------------------------- */

/* What is too old, and the oldest of what is too much. */
static void
trim_tables(void)
{
	Oid types[] = {INT8OID, INT8OID, INT8OID};
	Datum values[3];
	TimestampTz now = GetCurrentTimestamp();

	if (now - trimmed < TRIM_PAUSE && inserted < pgopt_workload_statements)
		return;
	trimmed = now;
	inserted = 0;
	values[0] = Int64GetDatum(pgopt_workload_retention);
	values[1] = Int64GetDatum((int64) pgopt_workload_statements * HISTORY_ROWS);
	values[2] = Int64GetDatum((int64) pgopt_workload_statements * STATEMENT_ROWS);
	pgopt_spi_execute("DELETE FROM pgopt.workload_history WHERE $1 > 0 AND period_end <"
					  " now() - least($1, 5000000) * interval '1 minute'",
					  1,
					  types,
					  values,
					  NULL,
					  false,
					  SPI_OK_DELETE);
	pgopt_spi_execute("DELETE FROM pgopt.workload_history WHERE period_end <"
					  " (SELECT period_end FROM pgopt.workload_history"
					  "   ORDER BY period_end DESC OFFSET $1 LIMIT 1)",
					  1,
					  types + 1,
					  values + 1,
					  NULL,
					  false,
					  SPI_OK_DELETE);
	/* those that took least of the time */
	pgopt_spi_execute("DELETE FROM pgopt.workload_statements d USING ("
					  " SELECT s.queryid, s.userid FROM pgopt.workload_statements s"
					  "   LEFT JOIN (SELECT queryid, userid, sum(milliseconds) AS milliseconds"
					  "     FROM pgopt.workload_history GROUP BY 1, 2) h USING (queryid, userid)"
					  "   ORDER BY coalesce(h.milliseconds, -1) DESC OFFSET $1) r"
					  " WHERE d.queryid = r.queryid AND d.userid = r.userid",
					  1,
					  types + 2,
					  values + 2,
					  NULL,
					  false,
					  SPI_OK_DELETE);
	pgopt_spi_execute("DELETE FROM pgopt.workload_statements s WHERE NOT EXISTS"
					  " (SELECT FROM pgopt.workload_history h"
					  "   WHERE h.queryid = s.queryid AND h.userid = s.userid)"
					  " AND first_seen < now() - interval '1 hour'",
					  0,
					  NULL,
					  NULL,
					  NULL,
					  false,
					  SPI_OK_DELETE);
	pgopt_spi_execute("DELETE FROM pgopt.workload_history h WHERE NOT EXISTS"
					  " (SELECT FROM pgopt.workload_statements s"
					  "   WHERE h.queryid = s.queryid AND h.userid = s.userid)",
					  0,
					  NULL,
					  NULL,
					  NULL,
					  false,
					  SPI_OK_DELETE);
	pgopt_spi_execute("DELETE FROM pgopt.workload_samples h WHERE NOT EXISTS"
					  " (SELECT FROM pgopt.workload_statements s"
					  "   WHERE h.queryid = s.queryid AND h.userid = s.userid)",
					  0,
					  NULL,
					  NULL,
					  NULL,
					  false,
					  SPI_OK_DELETE);
}

/* --- all of it -------------------------------------------------------------------------------- */

typedef struct Waiting
{
	StatementEntry *entries;
	int nentries;
	SampleRecord **records;
	int nrecords;
} Waiting;

static void
write_all(const Waiting *waiting)
{
	PgoptSpi spi;

	pgopt_spi_begin(&spi);
	write_counts(waiting->entries, waiting->nentries);
	write_records(waiting->records, waiting->nrecords);
	trim_tables();
	pgopt_spi_end(&spi);
}

static void
give_back(const Waiting *waiting)
{
	for (int i = 0; i < waiting->nentries; i++)
		store_give_back(&waiting->entries[i]);
	for (int i = 0; i < waiting->nrecords; i++)
		(void) buffer_append(waiting->records[i]);
}

static bool
write_or_give_back(const Waiting *waiting)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool written = true;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		write_all(waiting);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		give_back(waiting);
		ereport(LOG,
				(errmsg("pgopt could not write the workload that it captured: %s", error->message),
				 errdetail("It stays in shared memory, and is tried again.")));
		written = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return written;
}

void
workload_flush(void)
{
	workload_write(false);
}

/* The same; with wait, after another one that is under way. */
void
workload_write(bool wait)
{
	WorkloadDatabase *database = store_database();
	TimestampTz start = GetCurrentTimestamp();
	long pause = FAILED_PAUSE_MS;
	MemoryContext context;
	MemoryContext old;
	Waiting waiting;

	if (database == NULL || RecoveryInProgress() || !lock_tables(wait))
	{
		if (database != NULL)
			pg_atomic_write_u64(&database->next,
								(uint64) TimestampTzPlusMilliseconds(start, FLUSH_PAUSE_MS));
		return;
	}
	context = AllocSetContextCreate(CurrentMemoryContext, "pgopt workload", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	pg_atomic_write_u32(&database->waiting, 0);
	waiting.entries = store_entries(true, &waiting.nentries);
	waiting.records = buffer_records(true, &waiting.nrecords);
	if (write_or_give_back(&waiting))
	{
		TimestampTz end = GetCurrentTimestamp();

		pause = Max(FLUSH_PAUSE_MS, 50 * TimestampDifferenceMilliseconds(start, end));
		pause = Min(pause, LONGEST_PAUSE_MS);
		pg_atomic_write_u64(&database->written, (uint64) end);
	}
	else
		pg_atomic_write_u32(&database->waiting, 1);
	pg_atomic_write_u64(&database->next,
						(uint64) TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pause));
	if (start - (TimestampTz) pg_atomic_read_u64(&database->period) >= LONGEST_PERIOD)
		workload_new_period();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* Forgets this database's workload, what is written and what is not. */
void
workload_reset(void)
{
	PgoptSpi spi;
	int count;

	pgopt_spi_begin(&spi);
	pgopt_spi_execute("TRUNCATE pgopt.workload_statements, pgopt.workload_samples,"
					  " pgopt.workload_history",
					  0,
					  NULL,
					  NULL,
					  NULL,
					  false,
					  SPI_OK_UTILITY);
	pgopt_spi_end(&spi);
	if (!store_ready())
		return;
	store_forget_entries();
	(void) buffer_records(true, &count);
	if (store_database() != NULL)
		pg_atomic_write_u64(&store_database()->since, 0);
	workload_new_period();
}
