/*
 * build_runs.c
 *		One process of a build: rows into memory, memory into runs, runs into
 *		segments.
 *
 * Runs are merged in one pass where memory allows it; of more than that, the
 * oldest are merged first, so that each is read about as often as any other.
 * The documents of the final segment are those of the runs one after the
 * other.
 *
 * Memory: the builder's context.  The analyzer's words count; it is made anew
 * after a run when it holds a quarter of the budget.  A merge takes
 * MERGE_MEMORY for each of its runs.
 */
#include "pgopt.h"

#include <fcntl.h>

#include "commands/progress.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/memutils.h"

#include "build_private.h"

#define MERGE_MEMORY   (128 * 1024)
#define MIN_FAN_IN     4
#define MAX_FAN_IN     256
#define PROGRESS_EVERY 256

const SearchSettings *
build_copy_settings(Relation index, MemoryContext context)
{
	SearchSettings *copy = MemoryContextAlloc(context, sizeof(SearchSettings));

	memcpy(copy, search_settings(index), sizeof(SearchSettings));
	for (int f = 0; f < copy->nfilters; f++)
	{
		FmgrInfo compare = copy->filters[f].compare;

		fmgr_info_copy(&copy->filters[f].compare, &compare, context);
	}
	return copy;
}

/* --- from rows to runs --------------------------------------------------------------- */

static void
start_analysis(Builder *builder)
{
	builder->analyzer =
		analyzer_create(builder->settings->config, builder->restore, builder->context);
	builder->inverter = inverter_create(builder->settings, builder->analyzer, builder->context);
}

/* In a context of its own below the current one. The meta page tells of the restoring table. */
Builder *
builder_create(Relation index, Size budget)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt builder", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Builder *builder = palloc0(sizeof(Builder));
	SearchMeta *meta = search_read_meta(index);

	builder->index = index;
	builder->context = context;
	builder->settings = build_copy_settings(index, context);
	builder->restore = search_read_restore(index, meta, context);
	builder->budget = budget;
	start_analysis(builder);
	pfree(meta);
	MemoryContextSwitchTo(old);
	return builder;
}

/* Temporary files go too. */
void
builder_free(Builder *builder)
{
	MemoryContextDelete(builder->context);
}

/* Callback of the table's scan. */
void
builder_add(Relation index, ItemPointer tid, Datum *values, bool *isnull, bool alive, void *state)
{
	Builder *builder = state;

	document_check_filters(index, builder->settings, values, isnull);
	inverter_add(builder->inverter, tid, values, isnull);
	builder->ntuples++;
	if (inverter_memory(builder->inverter) + analyzer_memory(builder->analyzer) > builder->budget ||
		inverter_documents(builder->inverter) == SEARCH_MAX_DOCUMENTS)
		builder_spill(builder);
	if (builder->leader && (int64) builder->ntuples % PROGRESS_EVERY == 0)
		pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, (int64) builder->ntuples);
}

static float4
average_length(double ndocs, double length)
{
	return ndocs > 0 ? (float4) (length / ndocs) : 0;
}

/* Mean over what this process has seen so far. */
static float4
running_average(const Builder *builder)
{
	return average_length((double) builder->run_documents + inverter_documents(builder->inverter),
						  (double) builder->run_length + inverter_total_length(builder->inverter));
}

static char *
file_name(int participant, int number)
{
	return psprintf("p%d.r%d", participant, number);
}

/* A run whose file is open for writing; to be closed by end_run(). */
static BuildRun *
begin_run(Builder *builder)
{
	MemoryContext old = MemoryContextSwitchTo(builder->context);
	BuildRun *run = palloc0(sizeof(BuildRun));

	if (builder->fileset != NULL)
	{
		run->name = file_name(builder->participant, builder->nfiles++);
		run->file = BufFileCreateFileSet(&builder->fileset->fs, run->name);
	}
	else
		run->file = BufFileCreateTemp(false);
	MemoryContextSwitchTo(old);
	return run;
}

static SegmentHeader *
copy_header(Builder *builder, const SegmentHeader *header)
{
	Size size = offsetof(SegmentHeader, extents) + header->nextents * sizeof(Extent);
	SegmentHeader *copy = MemoryContextAlloc(builder->context, size);

	memcpy(copy, header, size);
	return copy;
}

/* Appends it to the runs. */
static void
end_run(Builder *builder, BuildRun *run, const SegmentHeader *header)
{
	MemoryContext old = MemoryContextSwitchTo(builder->context);

	if (builder->fileset != NULL)
	{
		BufFileExportFileSet(run->file);
		BufFileClose(run->file);
		run->file = NULL;
	}
	run->header = copy_header(builder, header);
	builder->runs = lappend(builder->runs, run);
	MemoryContextSwitchTo(old);
}

/* What is in memory becomes a run; nothing happens when there is nothing. */
void
builder_spill(Builder *builder)
{
	MemoryContext context;
	MemoryContext old;
	BuildRun *run;
	SegmentWriter *writer;
	SegmentEntry entry;
	SegmentHeader *header;

	if (inverter_documents(builder->inverter) == 0)
		return;
	context = AllocSetContextCreate(CurrentMemoryContext, "pgopt run", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	run = begin_run(builder);
	writer = segment_writer_begin_temporary(run->file, builder->settings, running_average(builder));
	inverter_write(builder->inverter, writer);
	segment_writer_finish(writer, &entry, &header);
	end_run(builder, run, header);
	builder->run_documents += inverter_documents(builder->inverter);
	builder->run_length += inverter_total_length(builder->inverter);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);

	if (analyzer_memory(builder->analyzer) > builder->budget / 4)
	{
		inverter_free(builder->inverter);
		analyzer_free(builder->analyzer);
		start_analysis(builder);
	}
	else
		inverter_reset(builder->inverter);
}

/* --- between processes ------------------------------------------------------------------ */

static char *
list_name(int participant)
{
	return psprintf("p%d.runs", participant);
}

/* Writes down, for the leader, which runs there are. */
void
builder_publish_runs(Builder *builder)
{
	BufFile *file = BufFileCreateFileSet(&builder->fileset->fs, list_name(builder->participant));
	int n = list_length(builder->runs);
	ListCell *cell;

	BufFileWrite(file, &n, sizeof(n));
	foreach(cell, builder->runs)
	{
		SegmentHeader *header = ((BuildRun *) lfirst(cell))->header;
		Size size = offsetof(SegmentHeader, extents) + header->nextents * sizeof(Extent);

		BufFileWrite(file, &size, sizeof(size));
		BufFileWrite(file, header, size);
	}
	BufFileExportFileSet(file);
	BufFileClose(file);
}

static void
read_list(BufFile *file, void *to, Size size)
{
	if (BufFileRead(file, to, size) != size)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read a temporary file of an index build: %m")));
}

/* Takes over the runs of another process, which is done. */
void
builder_adopt_runs(Builder *builder, int participant)
{
	MemoryContext old = MemoryContextSwitchTo(builder->context);
	BufFile *file =
		BufFileOpenFileSet(&builder->fileset->fs, list_name(participant), O_RDONLY, false);
	int n;

	read_list(file, &n, sizeof(n));
	for (int i = 0; i < n; i++)
	{
		BuildRun *run = palloc0(sizeof(BuildRun));
		Size size;

		read_list(file, &size, sizeof(size));
		run->name = file_name(participant, i);
		run->header = palloc(size);
		read_list(file, run->header, size);
		builder->runs = lappend(builder->runs, run);
		builder->run_documents += run->header->ndocs;
		builder->run_length += run->header->total_length;
	}
	BufFileClose(file);
	MemoryContextSwitchTo(old);
}

/* --- from runs to segments ---------------------------------------------------------------- */

/* Merges the first n runs into a writer that was begun, and takes them from the list. */
static void
merge_runs(Builder *builder, int n, SegmentWriter *writer)
{
	SegmentReader **readers = palloc(n * sizeof(SegmentReader *));

	for (int i = 0; i < n; i++)
	{
		BuildRun *run = list_nth(builder->runs, i);

		if (run->file == NULL)
			run->file = BufFileOpenFileSet(&builder->fileset->fs, run->name, O_RDONLY, false);
		readers[i] = segment_open_temporary(run->file, builder->settings, run->header);
	}
	segment_merge(readers, n, writer);
	for (int i = 0; i < n; i++)
	{
		BuildRun *run = list_nth(builder->runs, i);

		segment_close(readers[i]);
		BufFileClose(run->file);
		if (run->name != NULL)
			BufFileDeleteFileSet(&builder->fileset->fs, run->name, false);
	}
	builder->runs = list_delete_first_n(builder->runs, n);
}

/* Until there are no more runs than can be merged at once. */
static void
reduce_runs(Builder *builder, float4 average)
{
	int fan_in = (int) Max(MIN_FAN_IN, Min(MAX_FAN_IN, builder->budget / MERGE_MEMORY));

	while (list_length(builder->runs) > fan_in)
	{
		int n = Min(fan_in, list_length(builder->runs) - fan_in + 1);
		MemoryContext context =
			AllocSetContextCreate(CurrentMemoryContext, "pgopt merge", ALLOCSET_DEFAULT_SIZES);
		MemoryContext old = MemoryContextSwitchTo(context);
		BuildRun *run = begin_run(builder);
		SegmentWriter *writer =
			segment_writer_begin_temporary(run->file, builder->settings, average);
		SegmentEntry entry;
		SegmentHeader *header;

		merge_runs(builder, n, writer);
		segment_writer_finish(writer, &entry, &header);
		end_run(builder, run, header);
		MemoryContextSwitchTo(old);
		MemoryContextDelete(context);
	}
}

/* How many of the first runs one segment can take. */
static int
runs_of_segment(const Builder *builder)
{
	uint64 documents = 0;
	int n = 0;
	ListCell *cell;

	foreach(cell, builder->runs)
	{
		documents += ((BuildRun *) lfirst(cell))->header->ndocs;
		if (n > 0 && documents > SEARCH_MAX_DOCUMENTS)
			break;
		n++;
	}
	return n;
}

static void
write_segment(Builder *builder, float4 average, int nruns, SegmentEntry *entry)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt segment", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	SegmentWriter *writer = segment_writer_begin(
		builder->index, builder->settings, search_new_owner(builder->index), average);
	SegmentHeader *header;

	segment_writer_set_unlogged(writer);
	if (nruns > 0)
		merge_runs(builder, nruns, writer);
	else
		inverter_write(builder->inverter, writer);
	segment_writer_finish(writer, entry, &header);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/*
 * All that was added, and adopted, into the index file; returns the number of
 * segments.  The builder is of no use afterwards.
 */
int
builder_write_segments(Builder *builder, SegmentEntry *entries)
{
	int n = 0;
	float4 average;

	if (builder->runs == NIL)
	{
		if (inverter_documents(builder->inverter) == 0)
			return 0;
		pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, BUILD_PHASE_WRITE);
		write_segment(builder, running_average(builder), 0, &entries[0]);
		return 1;
	}

	builder_spill(builder);
	inverter_free(builder->inverter);
	analyzer_free(builder->analyzer);
	builder->inverter = NULL;
	builder->analyzer = NULL;
	average = average_length((double) builder->run_documents, (double) builder->run_length);
	pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, BUILD_PHASE_MERGE);
	reduce_runs(builder, average);
	while (builder->runs != NIL)
	{
		if (n == SEARCH_MAX_SEGMENTS)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("index \"%s\" would have too many documents",
							RelationGetRelationName(builder->index))));
		write_segment(builder, average, runs_of_segment(builder), &entries[n++]);
	}
	return n;
}
