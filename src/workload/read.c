/*
 * read.c
 *		The workload: tables, what is not written yet, and pg_stat_statements.
 *
 * A lock keeps the worker from moving anything from the one to the other
 * meanwhile, for as long as the reading takes.
 * Cost: a pass over the tables and over shared memory; one over
 * pg_stat_statements where it is there.
 */
#include "pgopt.h"

#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "core.h"
#include "monitor.h"
#include "workload_internal.h"

/* Samples of one statement that are handed out: the table's, and unwritten ones. */
#define MAX_SAMPLES (2 * WORKLOAD_KEEP_SAMPLES)

typedef struct ReadKey
{
	uint64 queryid;
	uint64 userid; /* as wide, so that there is no padding */
} ReadKey;

typedef struct ReadStatement
{
	ReadKey key; /* hash key */
	WorkloadStatement statement;
	/* the text that stands for samples without one, and its parameters */
	bool text_is_written;
	const char *search_path;
	int nparams;
	Oid *param_types;
} ReadStatement;

typedef struct Reading
{
	uint64 queryid; /* 0 = all */
	HTAB *statements;
	MemoryContext context; /* of what is handed out */
} Reading;

static ReadStatement *
find_or_add(Reading *reading, uint64 queryid, Oid userid, bool add)
{
	ReadKey key = {.queryid = queryid, .userid = userid};
	ReadStatement *found;
	bool exists;

	found = hash_search(reading->statements, &key, add ? HASH_ENTER : HASH_FIND, &exists);
	if (!exists && found != NULL)
	{
		memset((char *) found + sizeof(ReadKey), 0, sizeof(ReadStatement) - sizeof(ReadKey));
		found->statement.queryid = (int64) queryid;
		found->statement.userid = userid;
	}
	return found;
}

/* --- values of rows ---------------------------------------------------------------------- */

static char *
text_column(uint64 row, int column)
{
	bool isnull;
	Datum value = pgopt_spi_value(row, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static double
float_column(uint64 row, int column)
{
	bool isnull;
	Datum value = pgopt_spi_value(row, column, &isnull);

	return isnull ? 0 : DatumGetFloat8(value);
}

static int64
int_column(uint64 row, int column)
{
	bool isnull;
	Datum value = pgopt_spi_value(row, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

static int
oids_column(uint64 row, int column, Oid **oids)
{
	bool isnull;
	Datum array = pgopt_spi_value(row, column, &isnull);
	Datum *values;
	int n = 0;

	*oids = NULL;
	if (isnull)
		return 0;
	deconstruct_array(
		DatumGetArrayTypeP(array), OIDOID, sizeof(Oid), true, TYPALIGN_INT, &values, NULL, &n);
	*oids = palloc0((n + 1) * sizeof(Oid));
	for (int i = 0; i < n; i++)
		(*oids)[i] = DatumGetObjectId(values[i]);
	return n;
}

/* --- the tables ----------------------------------------------------------------------------- */

static void
read_statements(Reading *reading)
{
	Oid types[] = {INT8OID};
	Datum values[] = {Int64GetDatum((int64) reading->queryid)};

	pgopt_spi_execute(
		"SELECT s.queryid, s.userid::int8, s.command, s.query, s.search_path, s.param_types,"
		" h.calls, h.milliseconds, h.rows, h.last_seen, s.first_seen"
		" FROM pgopt.workload_statements s"
		" LEFT JOIN (SELECT queryid, userid, sum(calls) AS calls, sum(milliseconds) AS milliseconds,"
		"   sum(rows) AS rows, max(period_end) AS last_seen FROM pgopt.workload_history"
		"   WHERE $1 = 0 OR queryid = $1 GROUP BY queryid, userid) h USING (queryid, userid)"
		" WHERE $1 = 0 OR s.queryid = $1",
		1,
		types,
		values,
		NULL,
		true,
		SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(reading->context);
		ReadStatement *read =
			find_or_add(reading, (uint64) int_column(i, 1), (Oid) int_column(i, 2), true);
		WorkloadStatement *statement = &read->statement;

		CHECK_FOR_INTERRUPTS();
		statement->captured = true;
		statement->command = (CmdType) int_column(i, 3);
		statement->text = text_column(i, 4);
		read->text_is_written = statement->text != NULL;
		read->search_path = text_column(i, 5);
		read->nparams = oids_column(i, 6, &read->param_types);
		statement->calls = float_column(i, 7);
		statement->milliseconds = float_column(i, 8);
		statement->rows = float_column(i, 9);
		statement->last_seen = int_column(i, 10);
		statement->first_seen = int_column(i, 11);
		MemoryContextSwitchTo(old);
	}
}

/* Adds one behind those that are there. */
static void
add_sample(Reading *reading, ReadStatement *read, const WorkloadSample *sample)
{
	WorkloadStatement *statement = &read->statement;
	WorkloadSample *copy;

	if (statement->nsamples >= MAX_SAMPLES)
		return;
	if (statement->samples == NULL)
		statement->samples =
			MemoryContextAllocZero(reading->context, MAX_SAMPLES * sizeof(WorkloadSample));
	copy = &statement->samples[statement->nsamples++];
	*copy = *sample;
}

static void
read_samples(Reading *reading)
{
	Oid types[] = {INT8OID};
	Datum values[] = {Int64GetDatum((int64) reading->queryid)};

	pgopt_spi_execute("SELECT queryid, userid::int8, captured_at, query, search_path, param_types,"
					  " param_values, param_known, milliseconds, rows, plan"
					  " FROM pgopt.workload_samples WHERE $1 = 0 OR queryid = $1"
					  " ORDER BY captured_at DESC, id DESC",
					  1,
					  types,
					  values,
					  NULL,
					  true,
					  SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(reading->context);
		ReadStatement *read =
			find_or_add(reading, (uint64) int_column(i, 1), (Oid) int_column(i, 2), false);
		WorkloadSample sample = {0};
		bool isnull;
		Datum *elements;
		bool *nulls;
		int n;

		CHECK_FOR_INTERRUPTS();
		if (read == NULL)
		{
			MemoryContextSwitchTo(old);
			continue;
		}
		sample.captured = int_column(i, 3);
		sample.query = text_column(i, 4);
		sample.search_path = text_column(i, 5);
		sample.nparams = oids_column(i, 6, &sample.param_types);
		sample.param_values = palloc0((sample.nparams + 1) * sizeof(char *));
		sample.param_known = palloc0((sample.nparams + 1) * sizeof(bool));
		deconstruct_array(DatumGetArrayTypeP(pgopt_spi_value(i, 7, &isnull)),
						  TEXTOID,
						  -1,
						  false,
						  TYPALIGN_INT,
						  &elements,
						  &nulls,
						  &n);
		for (int j = 0; j < Min(n, sample.nparams); j++)
			sample.param_values[j] = nulls[j] ? NULL : TextDatumGetCString(elements[j]);
		deconstruct_array(DatumGetArrayTypeP(pgopt_spi_value(i, 8, &isnull)),
						  BOOLOID,
						  1,
						  true,
						  TYPALIGN_CHAR,
						  &elements,
						  NULL,
						  &n);
		for (int j = 0; j < Min(n, sample.nparams); j++)
			sample.param_known[j] = DatumGetBool(elements[j]);
		sample.milliseconds = float_column(i, 9);
		sample.rows = float_column(i, 10);
		sample.plan = text_column(i, 11);
		add_sample(reading, read, &sample);
		MemoryContextSwitchTo(old);
	}
}

/* --- shared memory ----------------------------------------------------------------------------- */

static void
add_counts(WorkloadStatement *statement, const PeriodCounts *counts)
{
	statement->calls += counts->calls;
	statement->milliseconds += counts->milliseconds;
	statement->rows += counts->rows;
}

/* What has not been written: later than what has been. */
static void
read_shared_memory(Reading *reading)
{
	MemoryContext old = MemoryContextSwitchTo(reading->context);
	StatementEntry *entries;
	SampleRecord **records;
	int nentries;
	int nrecords;

	entries = store_entries(false, &nentries);
	for (int i = 0; i < nentries; i++)
	{
		const StatementEntry *entry = &entries[i];
		WorkloadStatement *statement;

		if (reading->queryid != 0 && entry->key.queryid != reading->queryid)
			continue;
		statement = &find_or_add(reading, entry->key.queryid, entry->key.userid, true)->statement;
		statement->captured = true;
		statement->command = entry->command;
		add_counts(statement, &entry->current);
		add_counts(statement, &entry->previous);
		statement->last_seen = Max(statement->last_seen, entry->last_seen);
		if (statement->first_seen == 0 || statement->first_seen > entry->first_seen)
			statement->first_seen = entry->first_seen;
	}
	pfree(entries);

	records = buffer_records(false, &nrecords);
	for (int i = nrecords - 1; i >= 0; i--)
	{
		const SampleRecord *record = records[i];
		ReadStatement *read = find_or_add(reading, record->key.queryid, record->key.userid, false);
		WorkloadSample sample;

		CHECK_FOR_INTERRUPTS();
		if (read == NULL)
			continue;
		record_read(record, &sample);
		/* from the newest to the oldest, which is what the table will have */
		if (sample.query != NULL && !read->text_is_written)
		{
			read->statement.text = sample.query;
			read->search_path = sample.search_path;
			read->nparams = sample.nparams;
			read->param_types = sample.param_types;
		}
		if (record->is_sample)
			add_sample(reading, read, &sample);
	}
	MemoryContextSwitchTo(old);
}

/* Gives samples their text, and statements without samples their text as one. */
static void
complete_samples(ReadStatement *read)
{
	WorkloadStatement *statement = &read->statement;
	int kept = 0;

	if (statement->nsamples == 0 && statement->text != NULL && statement->captured)
	{
		WorkloadSample *sample = palloc0(sizeof(WorkloadSample));

		sample->query = statement->text;
		sample->search_path = read->search_path;
		sample->nparams = read->nparams;
		sample->param_types = read->param_types;
		sample->param_values = palloc0((read->nparams + 1) * sizeof(char *));
		sample->param_known = palloc0((read->nparams + 1) * sizeof(bool));
		sample->captured = statement->last_seen;
		sample->milliseconds = statement->milliseconds / Max(statement->calls, 1);
		sample->rows = statement->rows / Max(statement->calls, 1);
		statement->samples = sample;
		statement->nsamples = 1;
		return;
	}
	for (int i = 0; i < statement->nsamples; i++)
	{
		WorkloadSample *sample = &statement->samples[i];

		if (sample->query == NULL && statement->text != NULL)
		{
			sample->query = statement->text;
			sample->search_path = read->search_path;
			/* parameters that this execution did not show have a type all the same */
			if (sample->nparams < read->nparams)
			{
				Oid *types = palloc0(read->nparams * sizeof(Oid));
				const char **values = palloc0(read->nparams * sizeof(char *));
				bool *known = palloc0(read->nparams * sizeof(bool));

				memcpy(types, sample->param_types, sample->nparams * sizeof(Oid));
				memcpy(values, sample->param_values, sample->nparams * sizeof(char *));
				memcpy(known, sample->param_known, sample->nparams * sizeof(bool));
				sample->param_types = types;
				sample->param_values = values;
				sample->param_known = known;
				sample->nparams = read->nparams;
			}
			for (int j = 0; j < read->nparams; j++)
				if (!OidIsValid(sample->param_types[j]))
					sample->param_types[j] = read->param_types[j];
		}
		if (sample->query != NULL)
			statement->samples[kept++] = *sample;
	}
	statement->nsamples = kept;
}

/* --- pg_stat_statements -------------------------------------------------------------------------- */

/* Its view in this database, or InvalidOid. */
static Oid
statements_view(void)
{
	bool isnull;

	if (!monitor_statements_preloaded() || !OidIsValid(get_extension_oid(MONITOR_STATEMENTS, true)))
		return InvalidOid;
	pgopt_spi_execute("SELECT c.oid FROM pg_extension e JOIN pg_class c"
					  " ON c.relnamespace = e.extnamespace AND c.relname = e.extname"
					  " AND c.relkind = 'v' WHERE e.extname = '" MONITOR_STATEMENTS "'",
					  0,
					  NULL,
					  NULL,
					  NULL,
					  true,
					  SPI_OK_SELECT);
	return SPI_processed == 1 ? DatumGetObjectId(pgopt_spi_value(0, 1, &isnull)) : InvalidOid;
}

/* What it knows of statements that were not captured, and texts of those whose text was not. */
static void
read_pg_stat_statements(Reading *reading)
{
	Oid types[] = {INT8OID};
	Datum values[] = {Int64GetDatum((int64) reading->queryid)};
	Oid view = statements_view();
	bool old_names;

	if (!OidIsValid(view))
		return;
	old_names = get_attnum(view, "total_exec_time") == InvalidAttrNumber;
	pgopt_spi_execute(
		psprintf(
			"SELECT s.queryid, s.userid::int8, s.query, sum(s.calls)::float8,"
			" sum(s.%s)::float8, sum(s.rows)::float8 FROM %s.%s s"
			" WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
			" AND s.queryid IS NOT NULL AND ($1 = 0 OR s.queryid = $1)"
			/* not what cannot be planned */
			" AND s.query ~* '^[[:space:](]*(select|with|insert|update|delete|merge|values|table)\\M'"
			" GROUP BY 1, 2, 3",
			old_names ? "total_time" : "total_exec_time",
			quote_identifier(get_namespace_name(get_rel_namespace(view))),
			quote_identifier(get_rel_name(view))),
		1,
		types,
		values,
		NULL,
		true,
		SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(reading->context);
		ReadStatement *read =
			find_or_add(reading, (uint64) int_column(i, 1), (Oid) int_column(i, 2), true);
		WorkloadStatement *statement = &read->statement;

		CHECK_FOR_INTERRUPTS();
		if (statement->text == NULL)
			statement->text = text_column(i, 3);
		if (!statement->captured)
		{
			statement->calls = float_column(i, 4);
			statement->milliseconds = float_column(i, 5);
			statement->rows = float_column(i, 6);
		}
		MemoryContextSwitchTo(old);
	}
}

/* --- all of it ------------------------------------------------------------------------------------ */

static int
compare_time(const ListCell *a, const ListCell *b)
{
	const WorkloadStatement *left = lfirst(a);
	const WorkloadStatement *right = lfirst(b);

	if (left->milliseconds != right->milliseconds)
		return left->milliseconds < right->milliseconds ? 1 : -1;
	return (left->queryid > right->queryid) - (left->queryid < right->queryid);
}

List *
workload_read(int64 queryid)
{
	Reading reading = {.queryid = (uint64) queryid, .context = CurrentMemoryContext};
	HASHCTL info = {0};
	HASH_SEQ_STATUS scan;
	ReadStatement *read;
	List *list = NIL;
	PgoptSpi spi;

	info.keysize = sizeof(ReadKey);
	info.entrysize = sizeof(ReadStatement);
	info.hcxt = CurrentMemoryContext;
	reading.statements =
		hash_create("pgopt workload", 1024, &info, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

	workload_lock_reading();
	PushActiveSnapshot(GetLatestSnapshot());
	pgopt_spi_begin(&spi);
	read_statements(&reading);
	if (store_ready())
		read_shared_memory(&reading);
	read_samples(&reading);
	read_pg_stat_statements(&reading);
	pgopt_spi_end(&spi);
	PopActiveSnapshot();
	workload_unlock_reading();

	hash_seq_init(&scan, reading.statements);
	while ((read = hash_seq_search(&scan)) != NULL)
	{
		if (read->statement.calls <= 0 || GetUserNameFromId(read->statement.userid, true) == NULL)
			continue;
		complete_samples(read);
		list = lappend(list, &read->statement);
	}
	list_sort(list, compare_time);
	return list;
}

TimestampTz
workload_since(void)
{
	WorkloadDatabase *database = store_database();
	TimestampTz since = database != NULL ? (TimestampTz) pg_atomic_read_u64(&database->since) : 0;
	PgoptSpi spi;
	bool isnull;
	Datum first;

	pgopt_spi_begin(&spi);
	pgopt_spi_execute("SELECT min(first_seen) FROM pgopt.workload_statements",
					  0,
					  NULL,
					  NULL,
					  NULL,
					  true,
					  SPI_OK_SELECT);
	first = pgopt_spi_value(0, 1, &isnull);
	if (!isnull && (since == 0 || DatumGetTimestampTz(first) < since))
		since = DatumGetTimestampTz(first);
	pgopt_spi_end(&spi);
	return since;
}
