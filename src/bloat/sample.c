/*
 * sample.c
 *		Draws pages, measures them, and concludes from them on the relation.
 *
 * The population is cut into n equal stretches with one page drawn from each,
 * so that what is deleted or filled in one piece costs an error of about 1/n.
 * Where rows are wide a few consecutive pages are drawn instead of one, because
 * which row fits behind which matters then.
 * A sample grows by halving every stretch: the page that it has lies in one
 * half, a new one is drawn from the other.
 *
 * A mean is estimated by regression on the auxiliary variables from the maps,
 * whose population means are known, where that makes the residuals smaller.
 * The slope is drawn gently towards what is to be expected, so that a few odd
 * pages do not throw it about.  The variance comes from the differences of neighbours, as
 * befits a stratified sample with one page a stratum.
 *
 * Cost: the maps are one page in 4,000 (free space) and one in 32,000; a page
 * of the sample costs a read, a shared lock and what the caller does with it.
 */
#include "pgopt.h"

#include <math.h>

#include "access/visibilitymap.h"
#include "miscadmin.h"
#include "storage/bufpage.h"
#include "storage/freespace.h"
#include "storage/fsm_internals.h"
#include "storage/lmgr.h"
#include "storage/smgr.h"
#include "utils/rel.h"

#include "compat.h"
#include "sample.h"

#define PREFETCH_UNITS 16
/* Squared pages of free space that what is expected counts for in a regression. */
#define PRIOR_WEIGHT 0.2

#define MAX_SEAM     3
#define SMALL_BLOCKS 16384

/* Layout of the maps' files; the server has these definitions in its .c files. */
#define FSM_LEVELS       ((SlotsPerFSMPage >= 1626) ? 3 : 4)
#define FSM_STEP         (BLCKSZ / 256)
#define VM_BITS          2
#define VM_BLOCKS_A_BYTE (BITS_PER_BYTE / VM_BITS)
#define VM_BYTES         (BLCKSZ - MAXALIGN(SizeOfPageHeaderData))
#define VM_BLOCKS        (VM_BYTES * VM_BLOCKS_A_BYTE)

/* First unit of a stretch. */
static uint32
stretch_start(const Sample *sample, int stretch, int size)
{
	return (uint32) ((uint64) stretch * sample->population / size);
}

static uint32
stretch_length(const Sample *sample, int stretch)
{
	return stretch_start(sample, stretch + 1, sample->size) -
		   stretch_start(sample, stretch, sample->size);
}

void
sample_begin(Sample *sample, Relation rel, BlockNumber first, int run)
{
	BlockNumber blocks = RelationGetNumberOfBlocks(rel);

	memset(sample, 0, sizeof(Sample));
	sample->rel = rel;
	sample->first = Min(first, blocks);
	sample->blocks = blocks - sample->first;
	sample->strategy = GetAccessStrategy(BAS_BULKREAD);
	pg_prng_seed(&sample->random, pg_prng_uint64(&pg_global_prng_state));
	sample_set_run(sample, run);
}

/* Blocks of a unit; before anything is drawn. */
void
sample_set_run(Sample *sample, int run)
{
	sample->run = run;
	sample->population = (sample->blocks + run - 1) / run;
}

static BlockNumber
unit_start(const Sample *sample, const SampleUnit *unit)
{
	return sample->first + unit->number * sample->run;
}

static BlockNumber
unit_end(const Sample *sample, const SampleUnit *unit)
{
	return Min(unit_start(sample, unit) + sample->run, sample->first + sample->blocks);
}

int
sample_pages(const Sample *sample)
{
	return (int) Min((uint64) sample->size * sample->run, sample->blocks);
}

bool
sample_whole(const Sample *sample)
{
	return sample->size == sample->population;
}

static SampleUnit *
allocate_units(int size)
{
	return MemoryContextAllocExtended(
		CurrentMemoryContext, sizeof(SampleUnit) * Max(size, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

static uint32
draw_unit(Sample *sample, uint32 start, uint32 end)
{
	return start + (uint32) pg_prng_uint64_range(&sample->random, 0, end - start - 1);
}

/* One unit from each of size stretches. */
void
sample_draw(Sample *sample, int size)
{
	Assert(size >= 1 && size <= sample->population);
	sample->size = size;
	sample->units = allocate_units(size);
	for (int i = 0; i < size; i++)
		sample->units[i].number =
			draw_unit(sample, stretch_start(sample, i, size), stretch_start(sample, i + 1, size));
}

void
sample_all(Sample *sample)
{
	sample->size = sample->population;
	sample->in_order = true;
	sample->units = allocate_units(sample->size);
	for (int i = 0; i < sample->size; i++)
		sample->units[i].number = i;
}

/* Halves every stretch; false where they are too short for that. */
bool
sample_double(Sample *sample)
{
	int size = sample->size * 2;
	SampleUnit *units;

	if (size > sample->population)
		return false;
	units = allocate_units(size);
	for (int i = 0; i < sample->size; i++)
	{
		uint32 start = stretch_start(sample, 2 * i, size);
		uint32 middle = stretch_start(sample, 2 * i + 1, size);
		uint32 end = stretch_start(sample, 2 * i + 2, size);
		bool right = sample->units[i].number >= middle;

		units[2 * i + right] = sample->units[i];
		units[2 * i + !right].number =
			right ? draw_unit(sample, start, middle) : draw_unit(sample, middle, end);
	}
	pfree(sample->units);
	sample->units = units;
	sample->size = size;
	return true;
}

/* recent: where the page was not long ago, which saves looking for it. */
static Buffer
lock_page(Sample *sample, BlockNumber block, Buffer recent)
{
	Buffer buffer = recent;

	if (!BufferIsValid(recent) ||
		!ReadRecentBuffer(compat_rel_files(sample->rel), MAIN_FORKNUM, block, recent))
		buffer = ReadBufferExtended(sample->rel, MAIN_FORKNUM, block, RBM_NORMAL, sample->strategy);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	return buffer;
}

static void
show_seam(Sample *sample, SampleUnit *unit, PageSeam seam, void *state)
{
	BlockNumber block = unit_end(sample, unit);
	BlockNumber end = Min(block + MAX_SEAM, sample->first + sample->blocks);
	bool more = true;

	for (; more && block < end; block++)
	{
		Buffer buffer = lock_page(sample, block, InvalidBuffer);

		more = seam(state, buffer, block, unit->value);
		UnlockReleaseBuffer(buffer);
	}
	if (more)
		(void) seam(state, InvalidBuffer, InvalidBlockNumber, unit->value);
}

void
sample_measure(Sample *sample, PageMeasure measure, PageSeam seam, void *state)
{
	int ahead = 0;

	maps_look_up(sample);
	for (int i = 0; i < sample->size; i++)
	{
		SampleUnit *unit = &sample->units[i];
		BlockNumber end = unit_end(sample, unit);

		if (unit->measured)
			continue;
		CHECK_FOR_INTERRUPTS();
		for (ahead = Max(ahead, i + 1); ahead < sample->size && ahead <= i + PREFETCH_UNITS;
			 ahead++)
		{
			SampleUnit *next = &sample->units[ahead];

			if (next->measured)
				continue;
			for (BlockNumber block = unit_start(sample, next); block < unit_end(sample, next);
				 block++)
				next->recent = PrefetchBuffer(sample->rel, MAIN_FORKNUM, block).recent_buffer;
		}
		for (BlockNumber block = unit_start(sample, unit); block < end; block++)
		{
			Buffer buffer =
				lock_page(sample, block, sample->run == 1 ? unit->recent : InvalidBuffer);

			measure(state, buffer, block, unit->value);
			UnlockReleaseBuffer(buffer);
		}
		if (seam != NULL && sample->run > 1)
			show_seam(sample, unit, seam, state);
		unit->measured = true;
	}
}

int
sample_limit(const Sample *sample, const BloatBudget *budget)
{
	double most = budget->most;

	/* Where the whole is small, a few milliseconds more are nothing to anybody. */
	if (sample->blocks <= SMALL_BLOCKS)
		most *= 2;
	most = Max(budget->share * sample->blocks, most) / sample->run;
	return (int) Min(Max(most, 1), sample->population);
}

/* --- maps -------------------------------------------------------------------- */

static BlockNumber
map_blocks(Relation rel, ForkNumber fork)
{
	if (!smgrexists(RelationGetSmgr(rel), fork))
		return 0;
	return RelationGetNumberOfBlocksInFork(rel, fork);
}

/* Block of the free space map that holds the n-th leaf page. */
static BlockNumber
fsm_block(BlockNumber leaf)
{
	BlockNumber pages = 0;

	for (int level = 0; level < FSM_LEVELS; level++)
	{
		pages += leaf + 1;
		leaf /= SlotsPerFSMPage;
	}
	return pages - 1;
}

static uint8 *
fsm_slots(Page page)
{
	return ((FSMPage) PageGetContents(page))->fp_nodes + NonLeafNodesPerPage;
}

/* Space that the map says is free, as a share of a page. */
static double
fsm_share(uint8 category)
{
	return Min((double) category * FSM_STEP / BLCKSZ, 1.0);
}

/* Without a lock, as the map's own readers look at single bytes: it is a hint. */
static Buffer
read_map(Sample *sample, ForkNumber fork, BlockNumber block)
{
	return ReadBufferExtended(sample->rel, fork, block, RBM_ZERO_ON_ERROR, sample->strategy);
}

/* Sums up the maps over all of the population. */
void
maps_read(Sample *sample)
{
	BlockNumber end = sample->first + sample->blocks;
	BlockNumber fsm_end = map_blocks(sample->rel, FSM_FORKNUM);
	BlockNumber vm_end = map_blocks(sample->rel, VISIBILITYMAP_FORKNUM);
	uint64 categories[256] = {0};
	double sum = 0;

	if (sample->population == 0)
		return;
	for (BlockNumber leaf = 0; leaf * (uint64) SlotsPerFSMPage < end; leaf++)
	{
		BlockNumber from = leaf * SlotsPerFSMPage;
		uint32 count = Min(end - from, SlotsPerFSMPage);
		Buffer buffer;
		uint8 *slots;

		if (fsm_block(leaf) >= fsm_end)
			break;
		CHECK_FOR_INTERRUPTS();
		buffer = read_map(sample, FSM_FORKNUM, fsm_block(leaf));
		slots = fsm_slots(BufferGetPage(buffer));
		for (uint32 i = from == 0 ? sample->first : 0; i < count; i++)
			categories[slots[i]]++;
		ReleaseBuffer(buffer);
		sample->maps.has_fsm = true;
	}
	for (int i = 1; i < 256; i++)
		sum += categories[i] * fsm_share(i);
	sample->maps.mean[0] = sum / sample->population;

	if (vm_end > 0)
	{
		BlockNumber visible;

		visibilitymap_count(sample->rel, &visible, NULL);
		sample->maps.mean[1] = (double) Min(visible, sample->blocks) / sample->population;
		sample->maps.has_vm = true;
	}
}

/* A map's page, kept pinned while the next block is on it too. */
typedef struct PinnedMap
{
	ForkNumber fork;
	BlockNumber end;
	BlockNumber block;
	Buffer buffer;
} PinnedMap;

static Page
map_page(Sample *sample, PinnedMap *map, BlockNumber block)
{
	if (block >= map->end)
		return NULL;
	if (!BufferIsValid(map->buffer) || block != map->block)
	{
		if (BufferIsValid(map->buffer))
			ReleaseBuffer(map->buffer);
		map->buffer = read_map(sample, map->fork, block);
		map->block = block;
	}
	return BufferGetPage(map->buffer);
}

/* Looks the auxiliary variables of the units up that are not measured yet. */
void
maps_look_up(Sample *sample)
{
	PinnedMap fsm = {.fork = FSM_FORKNUM};
	PinnedMap vm = {.fork = VISIBILITYMAP_FORKNUM};

	if (sample->maps.has_fsm)
		fsm.end = map_blocks(sample->rel, FSM_FORKNUM);
	if (sample->maps.has_vm)
		vm.end = map_blocks(sample->rel, VISIBILITYMAP_FORKNUM);
	if (fsm.end == 0 && vm.end == 0)
		return;
	for (int i = 0; i < sample->size; i++)
	{
		SampleUnit *unit = &sample->units[i];

		if (unit->measured)
			continue;
		for (BlockNumber block = unit_start(sample, unit); block < unit_end(sample, unit); block++)
		{
			uint32 offset = block % VM_BLOCKS;
			Page page = map_page(sample, &fsm, fsm_block(block / SlotsPerFSMPage));

			if (page != NULL)
				unit->aux[0] += fsm_share(fsm_slots(page)[block % SlotsPerFSMPage]);
			page = map_page(sample, &vm, block / VM_BLOCKS);
			if (page != NULL)
				unit->aux[1] += ((uint8 *) PageGetContents(page))[offset / VM_BLOCKS_A_BYTE] >>
									(offset % VM_BLOCKS_A_BYTE * VM_BITS) &
								VISIBILITYMAP_ALL_VISIBLE;
		}
	}
	if (BufferIsValid(fsm.buffer))
		ReleaseBuffer(fsm.buffer);
	if (BufferIsValid(vm.buffer))
		ReleaseBuffer(vm.buffer);
}

/* --- estimates ------------------------------------------------------------------ */

/* Standard error of the mean of residuals, from the differences of neighbours. */
static double
neighbour_error(const Sample *sample, const double *residual)
{
	double sum = 0;
	double left = 1.0 - (double) sample->size / sample->population;

	if (sample->size < 2)
		return 1.0;
	for (int i = 1; i < sample->size; i++)
		sum += (residual[i] - residual[i - 1]) * (residual[i] - residual[i - 1]);
	return sqrt(left * sum / (2.0 * (sample->size - 1)) / sample->size);
}

/* Weighted means of a variable and of the auxiliary ones in the sample. */
static void
sample_means(const Sample *sample, PageVariable variable, double *mean, double *aux)
{
	*mean = aux[0] = aux[1] = 0;
	for (int i = 0; i < sample->size; i++)
	{
		double weight = (double) stretch_length(sample, i) / sample->population;

		*mean += weight * sample->units[i].value[variable];
		for (int k = 0; k < PAGE_AUXILIARIES; k++)
			aux[k] += weight * sample->units[i].aux[k];
	}
}

/*
 * The slope on free space that is to be expected: what a page holds is in
 * proportion to the space that is not free.
 */
static double
expected_slope(const Sample *sample, PageVariable variable, double mean, const double *aux)
{
	switch (variable)
	{
		case PAGE_REWRITTEN:
		case PAGE_ENTRIES:
		case PAGE_LIVE_ROWS:
		case PAGE_RAW_ENTRIES:
		case PAGE_TOAST:
			return -mean / Max(sample->run - aux[0], 0.05);
		case PAGE_FREE:
			return BLCKSZ;
		default:
			return 0;
	}
}

/* Slopes of the regression, mixed with what is to be expected. */
static void
fit_slopes(const Sample *sample, PageVariable variable, double mean, const double *aux,
		   double *slope)
{
	double expected = expected_slope(sample, variable, mean, aux);
	double xx = PRIOR_WEIGHT, xv = 0, vv = PRIOR_WEIGHT, xy = PRIOR_WEIGHT * expected, vy = 0;

	for (int i = 0; i < sample->size; i++)
	{
		const SampleUnit *unit = &sample->units[i];
		double x = unit->aux[0] - aux[0];
		double v = unit->aux[1] - aux[1];
		double y = unit->value[variable] - mean;

		xx += x * x;
		xv += x * v;
		vv += v * v;
		xy += x * y;
		vy += v * y;
	}
	slope[0] = (xy * vv - vy * xv) / (xx * vv - xv * xv);
	slope[1] = (vy * xx - xy * xv) / (xx * vv - xv * xv);
}

double
sample_mean(const Sample *sample, PageVariable variable, double *error)
{
	double mean, plain_error, fitted_error;
	double aux[PAGE_AUXILIARIES], slope[PAGE_AUXILIARIES];
	double *residual;

	*error = 0;
	if (sample->size == 0)
		return 0;
	sample_means(sample, variable, &mean, aux);
	if (sample_whole(sample))
		return mean;

	residual = palloc(sizeof(double) * sample->size);
	for (int i = 0; i < sample->size; i++)
		residual[i] = sample->units[i].value[variable];
	plain_error = neighbour_error(sample, residual);
	if (sample->maps.has_fsm || sample->maps.has_vm)
	{
		fit_slopes(sample, variable, mean, aux, slope);
		for (int i = 0; i < sample->size; i++)
			residual[i] -= slope[0] * sample->units[i].aux[0] + slope[1] * sample->units[i].aux[1];
		fitted_error = neighbour_error(sample, residual);
		if (fitted_error <= plain_error)
		{
			plain_error = fitted_error;
			for (int k = 0; k < PAGE_AUXILIARIES; k++)
				mean += slope[k] * (sample->maps.mean[k] - aux[k]);
		}
	}
	pfree(residual);
	*error = plain_error;
	return Max(mean, 0.0);
}

double
sample_ratio(const Sample *sample, PageVariable above, PageVariable below, double *error)
{
	double sum_above = 0, sum_below = 0, ratio;
	double *residual;

	*error = 0;
	for (int i = 0; i < sample->size; i++)
	{
		sum_above += sample->units[i].value[above];
		sum_below += sample->units[i].value[below];
	}
	if (sum_below <= 0)
		return 0;
	ratio = sum_above / sum_below;
	if (sample_whole(sample))
		return ratio;
	residual = palloc(sizeof(double) * sample->size);
	for (int i = 0; i < sample->size; i++)
		residual[i] = sample->units[i].value[above] - ratio * sample->units[i].value[below];
	*error = neighbour_error(sample, residual) * sample->size / sum_below;
	pfree(residual);
	return ratio;
}
