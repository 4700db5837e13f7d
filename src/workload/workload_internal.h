/*
 * workload_internal.h
 *		What the files of the room share.
 *
 * Shared memory (store.c): entries of statements in a partitioned hash table,
 * records of samples in one buffer, a slot for each database.  Locks: none is
 * held while another one is taken, but that all partition locks are taken in
 * order to evict or to read everything, and that an entry's spinlock is taken
 * under its partition's lock.
 */
#ifndef PGOPT_WORKLOAD_INTERNAL_H
#define PGOPT_WORKLOAD_INTERNAL_H

#include "pgopt.h"

#include "executor/execdesc.h"
#include "lib/stringinfo.h"
#include "port/atomics.h"
#include "storage/spin.h"

#include "workload.h"

/* Longer texts, and longer plans, are not kept. */
#define WORKLOAD_MAX_TEXT (64 * 1024)
#define WORKLOAD_MAX_PLAN (32 * 1024)

/* Parameters with longer values, and those behind so many others, are unknown. */
#define WORKLOAD_MAX_VALUE  1024
#define WORKLOAD_MAX_PARAMS 1000

/* Samples of a statement in the table. */
#define WORKLOAD_KEEP_SAMPLES 8

extern int pgopt_workload_retention; /* minutes; 0 = for ever */

/* --- shared memory (store.c) ------------------------------------------------- */

typedef struct StatementKey
{
	uint64 queryid;
	Oid dboid;
	Oid userid;
} StatementKey;

/* Executions of one period that are not in the table yet. */
typedef struct PeriodCounts
{
	TimestampTz start; /* of the period */
	TimestampTz last;  /* execution */
	double calls;
	double milliseconds;
	double squares; /* of milliseconds */
	double rows;
} PeriodCounts;

typedef struct StatementEntry
{
	StatementKey key; /* hash key */
	slock_t mutex;    /* protects all that follows */
	CmdType command;
	bool has_text;      /* a text of it went to the buffer */
	uint64 seen;        /* executions that were looked at */
	uint64 next_sample; /* the execution that is sampled next */
	uint64 slow_runs;
	double slowest; /* of those sampled */
	double usage;   /* who has least goes first */
	TimestampTz first_seen;
	TimestampTz last_seen;
	PeriodCounts current;
	PeriodCounts previous;
} StatementEntry;

typedef enum InstalledState
{
	INSTALLED_UNKNOWN, /* nobody has looked since the last change */
	INSTALLED,
	NOT_INSTALLED
} InstalledState;

/* What is known of a database. */
typedef struct WorkloadDatabase
{
	Oid dboid;                  /* InvalidOid = free */
	pg_atomic_uint32 installed; /* InstalledState of the extension */
	pg_atomic_uint32 waiting;   /* is something to be written? */
	pg_atomic_uint64 since;     /* when capture began */
	pg_atomic_uint64 period;    /* start of the current one */
	pg_atomic_uint64 written;   /* end of the last flush */
	pg_atomic_uint64 next;      /* no flush before it */
} WorkloadDatabase;

/* What status functions show. */
typedef struct WorkloadUsage
{
	int64 entries;
	int64 evicted;      /* entries, */
	int64 lost;         /* and those among them that had counts that were not written */
	int64 buffer_bytes; /* in use */
	int64 buffer_size;
	int64 dropped;    /* samples that found no room, or were never written */
	int64 long_texts; /* samples that were not taken because of their length */
	int64 failed;     /* samples that an error ended */
} WorkloadUsage;

typedef enum UsageCounter
{
	USAGE_EVICTED,
	USAGE_LOST,
	USAGE_DROPPED,
	USAGE_LONG,
	USAGE_FAILED,
	USAGE_COUNTERS
} UsageCounter;

extern void store_request(void);
extern void store_startup(void);
extern bool store_ready(void);
extern void store_add(UsageCounter counter, uint64 n);
extern void store_usage(WorkloadUsage *usage);

/* This database's slot, made where there is none; NULL where all are taken. */
extern WorkloadDatabase *store_database(void);
extern void store_forget_database(Oid dboid);

/* What one execution adds, and what follows from it. */
typedef struct Execution
{
	CmdType command;
	double weight; /* executions that it stands for */
	double milliseconds;
	double rows;
	TimestampTz at;
	TimestampTz period;
	bool may_sample;
	bool has_plan; /* it can be explained with its rows */
	/* out */
	bool sample;    /* a sample is due */
	bool want_plan; /* the next execution shall count rows */
} Execution;

/* False where there is no entry. */
extern bool store_count(const StatementKey *key, Execution *execution);

/* Makes an entry where there is none. */
extern void store_create(const StatementKey *key, CmdType command, TimestampTz now);
extern bool store_has_text(const StatementKey *key);
extern void store_set_text(const StatementKey *key, bool has_text);

/* A sample that was due did not get into the buffer. */
extern void store_postpone(const StatementKey *key);

/* Statements whose next execution is to count rows; take says so once. */
extern void store_want_plan(const StatementKey *key);
extern bool store_plans_wanted(void);
extern bool store_take_plan(const StatementKey *key);

/*
 * The entries of this database that have been executed, or all that have counts
 * not written yet; with take, those counts are the caller's from now on.
 */
extern StatementEntry *store_entries(bool take, int *count);
extern void store_give_back(const StatementEntry *entry);
extern void store_forget_entries(void);

/* --- records of samples (record.c) --------------------------------------------- */

typedef struct SampleRecord
{
	uint32 size; /* of all, a multiple of MAXIMUM_ALIGNOF */
	CmdType command;
	StatementKey key;
	TimestampTz at;
	double milliseconds;
	double rows;
	int32 text_size; /* of what follows, with its zero; 0 = none */
	int32 path_size;
	int32 plan_size;
	int32 nparams;
	bool is_template; /* the text was put together here; it stands for all samples */
	bool is_sample;   /* false: nothing but the text */
} SampleRecord;

/* In the caller's context. */
extern SampleRecord *record_build(const StatementKey *key, CmdType command,
								  const WorkloadSample *sample, bool is_template, bool is_sample);
extern void record_read(const SampleRecord *record, WorkloadSample *sample);

/* False where there is no room. */
extern bool buffer_append(const SampleRecord *record);
extern bool buffer_has_room(uint32 size);

/* Records of this database, oldest first, in the current context; with take, they leave the buffer. */
extern SampleRecord **buffer_records(bool take, int *count);

extern Size buffer_shmem_size(void);
extern void buffer_startup(struct LWLock *lock);
extern int64 buffer_used(void);

/* --- texts, parameters, plans (text.c) -------------------------------------------- */

/* The statement's own part of the source, or NULL where it is none that can be parsed again. */
extern const char *text_slice(const char *source, int location, int length, int *slice_length);

/* The analysed statement in words; without its constants where asked for.  Fills query and parameters' types. */
extern void text_deparse(Query *query, bool constants, WorkloadSample *sample);
extern bool text_reads_tables(Query *query, Oid except);
extern void text_parameters(const QueryDesc *queryDesc, WorkloadSample *sample);
extern char *text_plan(QueryDesc *queryDesc, double milliseconds);

/* --- hooks (capture.c) ------------------------------------------------------------- */

extern void capture_init(void);
extern bool capture_query_ids(void); /* does the server compute them? */

/* --- tables (flush.c) ---------------------------------------------------------------- */

extern void workload_reset(void);
extern void workload_write(bool wait);
extern void workload_lock_reading(void);
extern void workload_unlock_reading(void);

#endif /* PGOPT_WORKLOAD_INTERNAL_H */
