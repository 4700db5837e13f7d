/*
 * state.c
 *		Rows of pgopt.incremental_state, and the frontier.
 *
 * Cost: one look-up by primary key, one update a refresh.
 */
#include "pgopt.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"

#include "core.h"
#include "sources.h"

static int64
int64_or_zero(int column)
{
	bool isnull;
	Datum value = pgopt_spi_value(0, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

static char *
text_or_null(MemoryContext context, int column)
{
	char *text = pgopt_spi_text(0, column);

	return text ? MemoryContextStrdup(context, text) : NULL;
}

/* Elements of an array column, as many as there are. */
static int
elements(int column, Oid type, Datum **values)
{
	bool isnull;
	Datum value = pgopt_spi_value(0, column, &isnull);
	int count;

	deconstruct_array(DatumGetArrayTypeP(value),
					  type,
					  type == OIDOID ? sizeof(Oid) : sizeof(int64),
					  type == OIDOID ? true : FLOAT8PASSBYVAL,
					  type == OIDOID ? TYPALIGN_INT : TYPALIGN_DOUBLE,
					  values,
					  NULL,
					  &count);
	return count;
}

void
state_load(Oid matview, IncrementalState *state)
{
	static SPIPlanPtr plan = NULL;
	MemoryContext caller = CurrentMemoryContext;
	PgoptSpi spi;
	Oid types[] = {OIDOID};
	Datum values[] = {ObjectIdGetDatum(matview)};

	memset(state, 0, sizeof(IncrementalState));
	pgopt_spi_begin(&spi);
	if (pgopt_spi_execute_kept(
			&plan,
			"SELECT valid, reason, frontier, sources, source_marks, view_mark, fingerprint,"
			"       full_us, fixed_us, change_ns, last_error"
			"  FROM pgopt.incremental_state WHERE view = $1",
			1,
			types,
			values,
			NULL,
			true,
			SPI_OK_SELECT) > 0)
	{
		Datum *oids;
		Datum *marks;
		Datum frontier;
		bool isnull;
		MemoryContext old;

		state->found = true;
		state->valid = DatumGetBool(pgopt_spi_value(0, 1, &isnull));
		state->reason = text_or_null(caller, 2);
		frontier = pgopt_spi_value(0, 3, &isnull);
		old = MemoryContextSwitchTo(caller);
		if (!isnull)
			state->frontier = PointerGetDatum(PG_DETOAST_DATUM_COPY(frontier));
		state->nsources = elements(4, OIDOID, &oids);
		state->sources = palloc((state->nsources + 1) * sizeof(Oid));
		state->marks = palloc0((state->nsources + 1) * sizeof(int64));
		if (elements(5, INT8OID, &marks) != state->nsources || state->frontier == (Datum) 0)
			state->valid = false;
		for (int i = 0; i < state->nsources; i++)
		{
			state->sources[i] = DatumGetObjectId(oids[i]);
			if (state->valid)
				state->marks[i] = DatumGetInt64(marks[i]);
		}
		MemoryContextSwitchTo(old);
		state->view_mark = int64_or_zero(6);
		state->fingerprint = (uint64) int64_or_zero(7);
		state->costs.full_us = int64_or_zero(8);
		state->costs.fixed_us = int64_or_zero(9);
		state->costs.change_ns = int64_or_zero(10);
		state->last_error = text_or_null(caller, 11);
	}
	pgopt_spi_end(&spi);
}

void
state_save(Oid matview, const IncrementalState *state, List *sources, int64 changes)
{
	static SPIPlanPtr plan = NULL;
	PgoptSpi spi;
	Oid types[] = {OIDOID,
				   BOOLOID,
				   TEXTOID,
				   PG_SNAPSHOTOID,
				   OIDARRAYOID,
				   INT8ARRAYOID,
				   INT8OID,
				   INT8OID,
				   INT8OID,
				   INT8OID,
				   INT8OID,
				   INT8OID,
				   TEXTOID};
	Datum values[lengthof(types)];
	char nulls[lengthof(types) + 1];
	int count = list_length(sources);
	Datum *oids = palloc((count + 1) * sizeof(Datum));
	Datum *marks = palloc((count + 1) * sizeof(Datum));
	ListCell *lc;
	int i = 0;

	memset(nulls, ' ', sizeof(nulls));
	nulls[lengthof(types)] = '\0';
	foreach(lc, sources)
	{
		const Source *source = lfirst(lc);

		oids[i] = ObjectIdGetDatum(source->relid);
		marks[i++] = Int64GetDatum(source->mark);
	}
	values[0] = ObjectIdGetDatum(matview);
	values[1] = BoolGetDatum(state->valid);
	if (state->reason)
		values[2] = CStringGetTextDatum(state->reason);
	else
		nulls[2] = 'n';
	values[3] = state->frontier;
	if (state->frontier == (Datum) 0)
		nulls[3] = 'n';
	values[4] =
		PointerGetDatum(construct_array(oids, count, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
	values[5] = PointerGetDatum(
		construct_array(marks, count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[6] = Int64GetDatum(state->view_mark);
	values[7] = Int64GetDatum((int64) state->fingerprint);
	values[8] = Int64GetDatum(state->costs.full_us);
	values[9] = Int64GetDatum(state->costs.fixed_us);
	values[10] = Int64GetDatum(state->costs.change_ns);
	values[11] = Int64GetDatum(changes);
	if (changes < 0)
		nulls[11] = 'n';
	if (state->last_error)
		values[12] = CStringGetTextDatum(state->last_error);
	else
		nulls[12] = 'n';

	pgopt_spi_begin(&spi);
	(void) pgopt_spi_execute_kept(
		&plan,
		"INSERT INTO pgopt.incremental_state"
		" (view, valid, reason, frontier, sources, source_marks, view_mark, fingerprint,"
		"  full_us, fixed_us, change_ns, last_changes, last_error)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, nullif($9, 0), nullif($10, 0), nullif($11, 0),"
		"         $12, $13)"
		" ON CONFLICT (view) DO UPDATE SET"
		"  valid = excluded.valid, reason = excluded.reason, frontier = excluded.frontier,"
		"  sources = excluded.sources, source_marks = excluded.source_marks,"
		"  view_mark = excluded.view_mark, fingerprint = excluded.fingerprint,"
		"  full_us = excluded.full_us, fixed_us = excluded.fixed_us,"
		"  change_ns = excluded.change_ns, last_changes = excluded.last_changes,"
		"  last_error = excluded.last_error",
		lengthof(types),
		types,
		values,
		nulls,
		false,
		SPI_OK_INSERT);
	pgopt_spi_end(&spi);
}

void
state_invalidate(Oid matview, const char *reason)
{
	PgoptSpi spi;
	Oid types[] = {OIDOID, TEXTOID};
	Datum values[] = {ObjectIdGetDatum(matview), CStringGetTextDatum(reason)};

	pgopt_spi_begin(&spi);
	(void) pgopt_spi_execute("UPDATE pgopt.incremental_state SET valid = false, reason = $2"
							 " WHERE view = $1",
							 2,
							 types,
							 values,
							 NULL,
							 false,
							 SPI_OK_UPDATE);
	pgopt_spi_end(&spi);
}

void
state_delete(Oid matview)
{
	PgoptSpi spi;
	Oid types[] = {OIDOID};
	Datum values[] = {ObjectIdGetDatum(matview)};

	pgopt_spi_begin(&spi);
	(void) pgopt_spi_execute("DELETE FROM pgopt.incremental_state WHERE view = $1",
							 1,
							 types,
							 values,
							 NULL,
							 false,
							 SPI_OK_DELETE);
	pgopt_spi_end(&spi);
}

/* Numbers of transactions in a snapshot are at most half the space of 32 bits away from the next. */
static uint64
full_xid(TransactionId xid, FullTransactionId next)
{
	uint64 epoch = EpochFromFullTransactionId(next);

	if (xid > XidFromFullTransactionId(next))
		epoch--;
	return (epoch << 32) | xid;
}

static int
compare_xids(const void *a, const void *b)
{
	uint64 x = *(const uint64 *) a;
	uint64 y = *(const uint64 *) b;

	return (x > y) - (x < y);
}

/*
 * pg_current_snapshot() does not list the transaction that asks.  Here it
 * counts as running, so that its changes after the refresh are not taken for
 * read, or, where it has read its own, as ended; then all that began between
 * the snapshot and its own number are running.
 */
Datum
frontier_of(Snapshot snapshot, bool reads_own)
{
	FullTransactionId next = ReadNextFullTransactionId();
	TransactionId own_xid = GetTopTransactionIdIfAny();
	uint64 own = TransactionIdIsValid(own_xid) ? full_xid(own_xid, next) : 0;
	uint64 xmin = full_xid(snapshot->xmin, next);
	uint64 xmax = full_xid(snapshot->xmax, next);
	uint64 running = reads_own && own >= xmax ? own - xmax : 0;
	uint64 *xids = palloc((snapshot->xcnt + running + 1) * sizeof(uint64));
	int count = 0;
	StringInfoData text;

	for (uint32 i = 0; i < snapshot->xcnt; i++)
		xids[count++] = full_xid(snapshot->xip[i], next);
	for (uint64 i = 0; i < running; i++)
		xids[count++] = xmax + i;
	if (running > 0 || (reads_own && own == xmax))
		xmax = own + 1;
	if (own != 0 && own < xmax && !reads_own)
	{
		xids[count++] = own;
		xmin = Min(xmin, own);
	}
	qsort(xids, count, sizeof(uint64), compare_xids);

	initStringInfo(&text);
	appendStringInfo(&text, UINT64_FORMAT ":" UINT64_FORMAT ":", xmin, xmax);
	for (int i = 0; i < count; i++)
	{
		if (i > 0 && xids[i] == xids[i - 1])
			continue;
		appendStringInfo(&text, "%s" UINT64_FORMAT, i > 0 ? "," : "", xids[i]);
	}
	return DirectFunctionCall1(pg_snapshot_in, CStringGetDatum(text.data));
}
