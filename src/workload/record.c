/*
 * record.c
 *		Samples on their way to the tables.
 *
 * Owns the buffer: records one after the other, under one LWLock.  A worker
 * takes those of its database out, and the others move together.  Where
 * nobody has done so for a minute (a standby has no workers), and no room is
 * left, the oldest quarter goes; otherwise a new record is refused.
 *
 * Cost: a copy of the record under the lock; taking, one pass over the buffer.
 */
#include "pgopt.h"

#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "miscadmin.h"

#include "workload_internal.h"

#define SHORTEST_STAY_MS (60 * 1000)

/* Statements whose texts went with the oldest quarter, at most so many a time. */
#define MAX_FORGOTTEN 512

typedef struct SampleBuffer
{
	uint32 size;
	uint32 used;
	TimestampTz taken; /* when records were last taken out */
	char data[FLEXIBLE_ARRAY_MEMBER];
} SampleBuffer;

static SampleBuffer *buffer = NULL;
static LWLock *buffer_lock = NULL;

/* Where a parameter's value is not there. */
#define VALUE_NULL    (-1)
#define VALUE_UNKNOWN (-2)

Size
buffer_shmem_size(void)
{
	return MAXALIGN(offsetof(SampleBuffer, data) + (Size) pgopt_workload_memory * 1024);
}

void
buffer_startup(LWLock *lock)
{
	bool found;

	buffer = ShmemInitStruct("pgopt workload samples", buffer_shmem_size(), &found);
	buffer_lock = lock;
	if (found)
		return;
	buffer->size = (uint32) pgopt_workload_memory * 1024;
	buffer->used = 0;
	buffer->taken = GetCurrentTimestamp();
}

int64
buffer_used(void)
{
	return buffer->used;
}

static SampleRecord *
record_at(uint32 offset)
{
	return (SampleRecord *) (buffer->data + offset);
}

/* Without the lock: a hint. */
bool
buffer_has_room(uint32 size)
{
	return buffer->size - buffer->used >= size ||
		   TimestampDifferenceExceeds(buffer->taken, GetCurrentTimestamp(), SHORTEST_STAY_MS);
}

/* Drops the oldest quarter.  Returns whose texts went; the caller holds the lock. */
static int
drop_oldest(StatementKey *forgotten)
{
	uint32 offset = 0;
	int dropped = 0;
	int n = 0;

	while (offset < buffer->used && offset < buffer->size / 4)
	{
		SampleRecord *record = record_at(offset);

		if (record->text_size > 0 && n < MAX_FORGOTTEN)
			forgotten[n++] = record->key;
		offset += record->size;
		dropped++;
	}
	memmove(buffer->data, buffer->data + offset, buffer->used - offset);
	buffer->used -= offset;
	store_add(USAGE_DROPPED, dropped);
	return n;
}

bool
buffer_append(const SampleRecord *record)
{
	StatementKey forgotten[MAX_FORGOTTEN];
	int nforgotten = 0;
	bool stored = false;

	LWLockAcquire(buffer_lock, LW_EXCLUSIVE);
	if (buffer->size - buffer->used < record->size &&
		TimestampDifferenceExceeds(buffer->taken, GetCurrentTimestamp(), SHORTEST_STAY_MS))
		nforgotten = drop_oldest(forgotten);
	if (buffer->size - buffer->used >= record->size)
	{
		memcpy(buffer->data + buffer->used, record, record->size);
		buffer->used += record->size;
		stored = true;
	}
	LWLockRelease(buffer_lock);

	for (int i = 0; i < nforgotten; i++)
		store_set_text(&forgotten[i], false);
	if (!stored)
		store_add(USAGE_DROPPED, 1);
	return stored;
}

SampleRecord **
buffer_records(bool take, int *count)
{
	SampleRecord **records;
	char *copy;
	uint32 copied = 0;
	uint32 kept = 0;
	int n = 0;

	/* memory first: nothing may be raised under the lock */
	copy = MemoryContextAllocHuge(CurrentMemoryContext, buffer->size);
	LWLockAcquire(buffer_lock, take ? LW_EXCLUSIVE : LW_SHARED);
	for (uint32 offset = 0; offset < buffer->used;)
	{
		SampleRecord *record = record_at(offset);
		uint32 size = record->size;

		if (record->key.dboid == MyDatabaseId)
		{
			memcpy(copy + copied, record, size);
			copied += size;
			n++;
		}
		else if (take)
		{
			if (kept < offset)
				memmove(buffer->data + kept, record, size);
			kept += size;
		}
		offset += size;
	}
	if (take)
	{
		buffer->used = kept;
		buffer->taken = GetCurrentTimestamp();
	}
	LWLockRelease(buffer_lock);

	records = palloc((n + 1) * sizeof(SampleRecord *));
	*count = n;
	for (uint32 offset = 0, i = 0; offset < copied; i++)
	{
		records[i] = (SampleRecord *) (copy + offset);
		offset += records[i]->size;
	}
	return records;
}

/* --- one record --------------------------------------------------------------------- */

static int32
append_string(StringInfo out, const char *text)
{
	int32 size = text != NULL ? (int32) strlen(text) + 1 : 0;

	if (size > 0)
		appendBinaryStringInfo(out, text, size);
	return size;
}

SampleRecord *
record_build(const StatementKey *key, CmdType command, const WorkloadSample *sample,
			 bool is_template, bool is_sample)
{
	SampleRecord header = {0};
	StringInfoData out;

	initStringInfo(&out);
	appendBinaryStringInfo(&out, (char *) &header, sizeof(header));
	header.key = *key;
	header.command = command;
	header.at = sample->captured;
	header.milliseconds = sample->milliseconds;
	header.rows = sample->rows;
	header.is_template = is_template;
	header.is_sample = is_sample;
	header.nparams = sample->nparams;
	header.text_size = append_string(&out, sample->query);
	header.path_size = append_string(&out, sample->search_path);
	header.plan_size = append_string(&out, sample->plan);
	for (int i = 0; i < sample->nparams; i++)
	{
		const char *value = sample->param_known[i] ? sample->param_values[i] : NULL;
		int32 length = value != NULL ? (int32) strlen(value) : VALUE_NULL;

		if (!sample->param_known[i])
			length = VALUE_UNKNOWN;
		appendBinaryStringInfo(&out, (char *) &sample->param_types[i], sizeof(Oid));
		appendBinaryStringInfo(&out, (char *) &length, sizeof(length));
		if (length >= 0)
			appendBinaryStringInfo(&out, value, length + 1);
	}
	while (out.len % MAXIMUM_ALIGNOF != 0)
		appendStringInfoCharMacro(&out, '\0');
	header.size = (uint32) out.len;
	memcpy(out.data, &header, sizeof(header));
	return (SampleRecord *) out.data;
}

static const char *
take_string(const char **at, int32 size)
{
	const char *text = size > 0 ? *at : NULL;

	*at += size;
	return text;
}

/* What is read points into the record. */
void
record_read(const SampleRecord *record, WorkloadSample *sample)
{
	const char *at = (const char *) record + sizeof(SampleRecord);

	memset(sample, 0, sizeof(WorkloadSample));
	sample->query = take_string(&at, record->text_size);
	sample->search_path = take_string(&at, record->path_size);
	sample->plan = take_string(&at, record->plan_size);
	sample->captured = record->at;
	sample->milliseconds = record->milliseconds;
	sample->rows = record->rows;
	sample->nparams = record->nparams;
	sample->param_types = palloc0(record->nparams * sizeof(Oid));
	sample->param_values = palloc0(record->nparams * sizeof(char *));
	sample->param_known = palloc0(record->nparams * sizeof(bool));
	for (int i = 0; i < record->nparams; i++)
	{
		int32 length;

		memcpy(&sample->param_types[i], at, sizeof(Oid));
		memcpy(&length, at + sizeof(Oid), sizeof(length));
		at += sizeof(Oid) + sizeof(length);
		sample->param_known[i] = length != VALUE_UNKNOWN;
		if (length >= 0)
			sample->param_values[i] = take_string(&at, length + 1);
	}
}
