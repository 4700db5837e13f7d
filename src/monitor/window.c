/*
 * window.c
 *		Samples of cumulative counters, and their growth since.
 *
 * Owns WindowTable in shared memory: a ring of samples for each database, all
 * under one LWLock.  See window.h.
 */
#include "pgopt.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "core.h"
#include "window.h"

PG_FUNCTION_INFO_V1(pgopt_counter_deltas);
PG_FUNCTION_INFO_V1(pgopt_restart_window);

#define WINDOW_SAMPLES 60

static uint64 archived(void);
static uint64 archive_failures(void);
static uint64 wal_position(void);

/* The counters, in the order of the columns of pgopt.counter_deltas(). */
static const struct CounterSource
{
	PGFunction database;   /* of this database, */
	PGFunction server;     /* of the server, by SQL function, */
	uint64 (*value)(void); /* or otherwise */
} sources[] = {
	{.database = pg_stat_get_db_xact_commit},
	{.database = pg_stat_get_db_xact_rollback},
	{.database = pg_stat_get_db_blocks_fetched},
	{.database = pg_stat_get_db_blocks_hit},
	{.database = pg_stat_get_db_temp_files},
	{.database = pg_stat_get_db_temp_bytes},
	{.database = pg_stat_get_db_deadlocks},
	{.database = pg_stat_get_db_conflict_all},
	{.database = pg_stat_get_db_sessions},
	{.database = pg_stat_get_db_sessions_abandoned},
	{.database = pg_stat_get_db_sessions_fatal},
	{.database = pg_stat_get_db_sessions_killed},
	{.server = compat_timed_checkpoints},
	{.server = compat_requested_checkpoints},
	{.value = wal_position},
	{.value = archived},
	{.value = archive_failures},
};

#define COUNTERS lengthof(sources)

typedef struct Sample
{
	TimestampTz at;
	uint64 counters[COUNTERS];
} Sample;

typedef struct Ring
{
	Oid dboid;        /* InvalidOid = free */
	uint64 taken;     /* samples ever taken; the last is samples[(taken - 1) % WINDOW_SAMPLES] */
	TimestampTz from; /* samples before it do not count */
	Sample samples[WINDOW_SAMPLES];
} Ring;

typedef struct WindowTable
{
	LWLock *lock;
	Ring rings[PGOPT_MAX_DATABASES];
} WindowTable;

static WindowTable *table = NULL;

/* When this process last saw or took a sample; what others take is seen in the ring. */
static TimestampTz last_seen = 0;

static void
window_shmem_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(WindowTable)));
	RequestNamedLWLockTranche("pgopt window", 1);
}

static void
window_shmem_startup(void)
{
	bool found;

	table = ShmemInitStruct("pgopt window", sizeof(WindowTable), &found);
	if (found)
		return;
	memset(table, 0, sizeof(WindowTable));
	table->lock = &(GetNamedLWLockTranche("pgopt window"))[0].lock;
}

void
window_init(void)
{
	static const ShmemRoom room = {
		.request = window_shmem_request,
		.startup = window_shmem_startup,
	};

	shmem_add_room(&room);
}

static uint64
archived(void)
{
	return (uint64) pgstat_fetch_stat_archiver()->archived_count;
}

static uint64
archive_failures(void)
{
	return (uint64) pgstat_fetch_stat_archiver()->failed_count;
}

static uint64
wal_position(void)
{
	return RecoveryInProgress() ? GetXLogReplayRecPtr(NULL) : GetXLogInsertRecPtr();
}

static void
take_sample(Sample *sample)
{
	pgstat_clear_snapshot();
	sample->at = GetCurrentTimestamp();
	for (int i = 0; i < COUNTERS; i++)
	{
		const struct CounterSource *source = &sources[i];

		if (source->value != NULL)
			sample->counters[i] = source->value();
		else if (source->database != NULL)
			sample->counters[i] = (uint64) DatumGetInt64(
				DirectFunctionCall1(source->database, ObjectIdGetDatum(MyDatabaseId)));
		else
			sample->counters[i] =
				(uint64) DatumGetInt64(DirectFunctionCall1(source->server, (Datum) 0));
	}
}

/* This database's ring, or NULL; the caller holds the lock. */
static Ring *
find_ring(void)
{
	for (int i = 0; i < PGOPT_MAX_DATABASES; i++)
		if (table->rings[i].dboid == MyDatabaseId)
			return &table->rings[i];
	return NULL;
}

static const Sample *
newest(const Ring *ring)
{
	return ring->taken == 0 ? NULL : &ring->samples[(ring->taken - 1) % WINDOW_SAMPLES];
}

/* A ring for this database: its own, a free one, or that which was not used for the longest time. */
static Ring *
find_or_make_ring(void)
{
	Ring *ring = find_ring();

	if (ring != NULL)
		return ring;
	for (int i = 0; i < PGOPT_MAX_DATABASES; i++)
	{
		Ring *other = &table->rings[i];

		if (!OidIsValid(other->dboid))
		{
			ring = other;
			break;
		}
		if (ring == NULL || newest(other)->at < newest(ring)->at)
			ring = other;
	}
	memset(ring, 0, sizeof(Ring));
	ring->dboid = MyDatabaseId;
	return ring;
}

static void
keep_sample(const Sample *sample, bool restart)
{
	Ring *ring;

	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	ring = find_or_make_ring();
	ring->samples[ring->taken++ % WINDOW_SAMPLES] = *sample;
	if (restart)
		ring->from = sample->at;
	LWLockRelease(table->lock);
	last_seen = sample->at;
}

long
window_wait(void)
{
	const Sample *last;
	Ring *ring;
	TimestampTz now = GetCurrentTimestamp();

	if (table == NULL)
		return WINDOW_SAMPLE_MS;
	if (TimestampDifferenceExceeds(last_seen, now, WINDOW_SAMPLE_MS))
	{
		LWLockAcquire(table->lock, LW_SHARED);
		ring = find_ring();
		last = ring ? newest(ring) : NULL;
		last_seen = last ? last->at : 0;
		LWLockRelease(table->lock);
	}
	return TimestampDifferenceMilliseconds(
		now, TimestampTzPlusMilliseconds(last_seen, WINDOW_SAMPLE_MS));
}

bool
window_is_due(void)
{
	return table != NULL && window_wait() == 0;
}

void
window_note(void)
{
	Sample sample;

	if (!window_is_due())
		return;
	take_sample(&sample);
	keep_sample(&sample, false);
}

void
window_restart(void)
{
	Sample sample;

	if (table == NULL)
		return;
	take_sample(&sample);
	keep_sample(&sample, true);
}

/*
 * When the configuration was loaded, as far as this session knows: one that is
 * older than that hears of it at its next command only, whenever that is.
 */
static TimestampTz
configured_at(void)
{
	return PgReloadTime <= MyStartTimestamp ? PgReloadTime : 0;
}

/* The oldest sample that counts: of the last hour, and of this configuration. */
static bool
find_baseline(const Sample *now, Sample *baseline)
{
	TimestampTz from = TimestampTzPlusMilliseconds(now->at, -WINDOW_SAMPLES * WINDOW_SAMPLE_MS);
	Ring *ring;
	bool found = false;

	from = Max(from, configured_at());
	LWLockAcquire(table->lock, LW_SHARED);
	ring = find_ring();
	for (uint64 back = Min(ring ? ring->taken : 0, WINDOW_SAMPLES); back > 0 && !found; back--)
	{
		const Sample *sample = &ring->samples[(ring->taken - back) % WINDOW_SAMPLES];

		found = sample->at >= Max(from, ring->from);
		if (found)
			*baseline = *sample;
	}
	LWLockRelease(table->lock);
	return found;
}

/* When this database's statistics were reset; 0 = never. */
static TimestampTz
database_reset(void)
{
	Datum reset;
	LOCAL_FCINFO(fcinfo, 1);

	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = ObjectIdGetDatum(MyDatabaseId);
	fcinfo->args[0].isnull = false;
	reset = pg_stat_get_db_stat_reset_time(fcinfo);
	return fcinfo->isnull ? 0 : DatumGetTimestampTz(reset);
}

/*
 * Counters that were reset since the baseline began at zero.  Its time stays:
 * a rate is rather too low than too high.
 */
static void
follow_resets(const Sample *now, Sample *baseline)
{
	bool database = database_reset() > baseline->at;

	for (int i = 0; i < COUNTERS; i++)
		if (now->counters[i] < baseline->counters[i] || (database && sources[i].database != NULL))
			baseline->counters[i] = 0;
}

/* When the lifetime counters began: 0 where that is not known. */
static TimestampTz
lifetime_start(void)
{
	return Max(database_reset(), pgstat_fetch_stat_archiver()->stat_reset_timestamp);
}

bool
window_lifetime_is_short(int seconds)
{
	return !TimestampDifferenceExceeds(lifetime_start(), GetCurrentTimestamp(), seconds * 1000);
}

/* One row: what the window rests on, its start and length, and the growth of each counter. */
Datum
pgopt_counter_deltas(PG_FUNCTION_ARGS)
{
	Datum values[3 + COUNTERS];
	bool nulls[3 + COUNTERS] = {0};
	TupleDesc desc;
	Sample now;
	Sample baseline = {0};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE ||
		desc->natts != lengthof(values))
		elog(ERROR, "counter_deltas: wrong row type");
	take_sample(&now);
	if (table != NULL && find_baseline(&now, &baseline))
	{
		follow_resets(&now, &baseline);
		values[0] = CStringGetTextDatum("window");
	}
	else if (table != NULL)
	{
		/* the first look: the window begins here */
		keep_sample(&now, false);
		baseline = now;
		values[0] = CStringGetTextDatum("window");
	}
	else
	{
		baseline.at = lifetime_start();
		values[0] = CStringGetTextDatum("lifetime");
	}
	values[1] = TimestampTzGetDatum(baseline.at);
	values[2] = Float8GetDatum((now.at - baseline.at) / (double) USECS_PER_SEC);
	for (int i = 0; i < COUNTERS; i++)
		values[3 + i] = Int64GetDatum((int64) (now.counters[i] - baseline.counters[i]));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

Datum
pgopt_restart_window(PG_FUNCTION_ARGS)
{
	Sample sample;

	pgopt_require_preload("a window of counters");
	take_sample(&sample);
	keep_sample(&sample, true);
	PG_RETURN_TIMESTAMPTZ(sample.at);
}
