/*
 * sample.c
 *		Draws pages, measures them, and concludes from them on the relation.
 *
 * The population is cut into n equal stretches with one page drawn from each,
 * so that what is deleted or filled in one piece costs an error of about 1/n.
 * A sample grows by halving every stretch: the page that it has lies in one
 * half, a new one is drawn from the other.
 *
 * A mean is estimated by regression on the auxiliary variables from the maps,
 * whose population means are known, where that makes the residuals smaller.
 * The slope is drawn gently towards -1 for the free space (a page that is
 * freer by its whole size holds a page less), so that a few odd pages do not
 * throw it about.  The variance comes from the differences of neighbours, as
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

#include "sample.h"

#define PREFETCH_PAGES 16

/* Layout of the maps' files; the server has these definitions in its .c files. */
#define FSM_LEVELS       ((SlotsPerFSMPage >= 1626) ? 3 : 4)
#define FSM_STEP         (BLCKSZ / 256)
#define VM_BITS          2
#define VM_BLOCKS_A_BYTE (BITS_PER_BYTE / VM_BITS)
#define VM_BYTES         (BLCKSZ - MAXALIGN(SizeOfPageHeaderData))
#define VM_BLOCKS        (VM_BYTES * VM_BLOCKS_A_BYTE)

/* First block of a stretch. */
static BlockNumber
stretch_start(const Sample *sample, int stretch, int size)
{
	return sample->first + (BlockNumber) ((uint64) stretch * sample->population / size);
}

static BlockNumber
stretch_length(const Sample *sample, int stretch)
{
	return stretch_start(sample, stretch + 1, sample->size) -
		   stretch_start(sample, stretch, sample->size);
}

void
sample_begin(Sample *sample, Relation rel, BlockNumber first)
{
	BlockNumber blocks = RelationGetNumberOfBlocks(rel);

	memset(sample, 0, sizeof(Sample));
	sample->rel = rel;
	sample->first = Min(first, blocks);
	sample->population = blocks - sample->first;
	sample->strategy = GetAccessStrategy(BAS_BULKREAD);
	pg_prng_seed(&sample->random, pg_prng_uint64(&pg_global_prng_state));
}

bool
sample_whole(const Sample *sample)
{
	return sample->size == sample->population;
}

static SamplePage *
allocate_pages(int size)
{
	return MemoryContextAllocExtended(
		CurrentMemoryContext, sizeof(SamplePage) * Max(size, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

static BlockNumber
draw_block(Sample *sample, BlockNumber start, BlockNumber end)
{
	return start + (BlockNumber) pg_prng_uint64_range(&sample->random, 0, end - start - 1);
}

/* One page from each of size stretches. */
void
sample_draw(Sample *sample, int size)
{
	Assert(size >= 1 && size <= sample->population);
	sample->size = size;
	sample->pages = allocate_pages(size);
	for (int i = 0; i < size; i++)
		sample->pages[i].block =
			draw_block(sample, stretch_start(sample, i, size), stretch_start(sample, i + 1, size));
}

void
sample_all(Sample *sample)
{
	sample->size = sample->population;
	sample->pages = allocate_pages(sample->size);
	for (int i = 0; i < sample->size; i++)
		sample->pages[i].block = sample->first + i;
}

/* Halves every stretch; false where they are too short for that. */
bool
sample_double(Sample *sample)
{
	int size = sample->size * 2;
	SamplePage *pages;

	if (size > sample->population)
		return false;
	pages = allocate_pages(size);
	for (int i = 0; i < sample->size; i++)
	{
		BlockNumber start = stretch_start(sample, 2 * i, size);
		BlockNumber middle = stretch_start(sample, 2 * i + 1, size);
		BlockNumber end = stretch_start(sample, 2 * i + 2, size);
		bool right = sample->pages[i].block >= middle;

		pages[2 * i + right] = sample->pages[i];
		pages[2 * i + !right].block =
			right ? draw_block(sample, start, middle) : draw_block(sample, middle, end);
	}
	pfree(sample->pages);
	sample->pages = pages;
	sample->size = size;
	return true;
}

/* Measures the pages that are not measured yet. */
void
sample_measure(Sample *sample, PageMeasure measure, void *state)
{
	int ahead = 0;

	maps_look_up(sample);
	for (int i = 0; i < sample->size; i++)
	{
		SamplePage *page = &sample->pages[i];
		Buffer buffer;

		if (page->measured)
			continue;
		CHECK_FOR_INTERRUPTS();
		for (ahead = Max(ahead, i + 1); ahead < sample->size && ahead <= i + PREFETCH_PAGES;
			 ahead++)
		{
			if (!sample->pages[ahead].measured)
				PrefetchBuffer(sample->rel, MAIN_FORKNUM, sample->pages[ahead].block);
		}
		buffer = ReadBufferExtended(
			sample->rel, MAIN_FORKNUM, page->block, RBM_NORMAL, sample->strategy);
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		measure(state, buffer, page);
		UnlockReleaseBuffer(buffer);
		page->measured = true;
	}
}

int
sample_limit(const Sample *sample, const BloatBudget *budget)
{
	double limit = Max(budget->share * sample->population, budget->most);

	return (int) Min(limit, sample->population);
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
	BlockNumber end = sample->first + sample->population;
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
		sample->maps.mean[1] = Min((double) visible / sample->population, 1.0);
		sample->maps.has_vm = true;
	}
}

/* Looks the auxiliary variables of the pages up that are not measured yet. */
void
maps_look_up(Sample *sample)
{
	BlockNumber fsm_end = sample->maps.has_fsm ? map_blocks(sample->rel, FSM_FORKNUM) : 0;
	BlockNumber vm_end = sample->maps.has_vm ? map_blocks(sample->rel, VISIBILITYMAP_FORKNUM) : 0;
	BlockNumber fsm_page = InvalidBlockNumber;
	BlockNumber vm_page = InvalidBlockNumber;
	Buffer fsm = InvalidBuffer;
	Buffer vm = InvalidBuffer;

	for (int i = 0; i < sample->size; i++)
	{
		SamplePage *page = &sample->pages[i];
		BlockNumber map_page = fsm_block(page->block / SlotsPerFSMPage);

		if (page->measured)
			continue;
		if (map_page < fsm_end)
		{
			if (map_page != fsm_page)
			{
				if (BufferIsValid(fsm))
					ReleaseBuffer(fsm);
				fsm = read_map(sample, FSM_FORKNUM, map_page);
				fsm_page = map_page;
			}
			page->aux[0] = fsm_share(fsm_slots(BufferGetPage(fsm))[page->block % SlotsPerFSMPage]);
		}
		map_page = page->block / VM_BLOCKS;
		if (map_page < vm_end)
		{
			uint32 offset = page->block % VM_BLOCKS;
			uint8 *bytes;

			if (map_page != vm_page)
			{
				if (BufferIsValid(vm))
					ReleaseBuffer(vm);
				vm = read_map(sample, VISIBILITYMAP_FORKNUM, map_page);
				vm_page = map_page;
			}
			bytes = (uint8 *) PageGetContents(BufferGetPage(vm));
			page->aux[1] =
				(bytes[offset / VM_BLOCKS_A_BYTE] >> (offset % VM_BLOCKS_A_BYTE * VM_BITS)) &
				VISIBILITYMAP_ALL_VISIBLE;
		}
	}
	if (BufferIsValid(fsm))
		ReleaseBuffer(fsm);
	if (BufferIsValid(vm))
		ReleaseBuffer(vm);
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

		*mean += weight * sample->pages[i].value[variable];
		for (int k = 0; k < PAGE_AUXILIARIES; k++)
			aux[k] += weight * sample->pages[i].aux[k];
	}
}

/*
 * Slopes of the regression.  prior is the slope on free space that the sample
 * is mixed with, as if it came from half a page of observations.
 */
static void
fit_slopes(const Sample *sample, PageVariable variable, double mean, const double *aux,
		   double prior, double *slope)
{
	double xx = 0.5, xv = 0, vv = 0.5, xy = 0.5 * prior, vy = 0;

	for (int i = 0; i < sample->size; i++)
	{
		const SamplePage *page = &sample->pages[i];
		double x = page->aux[0] - aux[0];
		double v = page->aux[1] - aux[1];
		double y = page->value[variable] - mean;

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
		residual[i] = sample->pages[i].value[variable];
	plain_error = neighbour_error(sample, residual);
	if (sample->maps.has_fsm || sample->maps.has_vm)
	{
		fit_slopes(sample, variable, mean, aux, variable == PAGE_REWRITTEN ? -1.0 : 0.0, slope);
		for (int i = 0; i < sample->size; i++)
			residual[i] -= slope[0] * sample->pages[i].aux[0] + slope[1] * sample->pages[i].aux[1];
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
		sum_above += sample->pages[i].value[above];
		sum_below += sample->pages[i].value[below];
	}
	if (sum_below <= 0)
		return 0;
	ratio = sum_above / sum_below;
	if (sample_whole(sample))
		return ratio;
	residual = palloc(sizeof(double) * sample->size);
	for (int i = 0; i < sample->size; i++)
		residual[i] = sample->pages[i].value[above] - ratio * sample->pages[i].value[below];
	*error = neighbour_error(sample, residual) * sample->size / sum_below;
	pfree(residual);
	return ratio;
}
