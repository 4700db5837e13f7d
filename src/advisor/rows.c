/*
 * rows.c
 *		Samples rows of a table.
 *
 * The blocks of the table, of all partitions in a row, are cut into equal
 * stretches, and one is drawn from each; of a block as many rows as are wanted
 * in all on average, one where the table is large: so that rows that lie
 * together, and often are alike, are not drawn together.  They are read as
 * TABLESAMPLE does it, through the table's access method, as the snapshot sees
 * them, with a ring of buffers where the table is large.
 *
 * Expressions and predicates are evaluated as the table's owner in a restricted
 * operation, as ANALYZE does it, and under a search_path of pg_catalog.  They
 * may come from the statement of somebody who could never build an index here,
 * so only where all of their functions are trusted by the owner anyway: the
 * server's, a superuser's, his own.
 *
 * Cost: about 3 microseconds for each of at most SAMPLE_ROWS blocks.
 */
#include "pgopt.h"

#include <float.h>
#include <math.h>

#include "access/detoast.h"
#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/tsmapi.h"
#include "access/tupconvert.h"
#include "access/toast_internals.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/plancat.h"
#include "partitioning/partdesc.h"
#include "storage/bufmgr.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "core.h"
#include "rows.h"

/* Rows of a sample, and so blocks that are read at most. */
#define SAMPLE_ROWS 4000

/* A block, or a row, that is not there is tried again elsewhere so often. */
#define TRIES    4

#define PREFETCH 32

/*
 * Evaluating an expression ends after that many nanoseconds, if that many rows
 * were done; not by the clock, which would give other sizes in each run: a byte
 * that it reads takes so long, and as much more as its functions cost (lower()
 * takes 19, LIKE 7, to_tsvector() of cost 100 about 110); a row is as many bytes
 * more.
 */
#define EVALUATE_NS   40e6
#define EVALUATE_ROWS 200
#define BYTE_NS       10
#define ROW_BYTES     32

/* With fewer rows of the sample that pass a predicate the planner knows better how many there are, if it is not far off. */
#define MIN_PASSING 30

static MemoryContext samples_context;
static List *samples;

/* --- drawing ------------------------------------------------------------------- */

/* A table, or a partition, with the blocks that are drawn from it. */
typedef struct Source
{
	Relation rel;
	BlockNumber before; /* blocks of the sources before it */
	BlockNumber blocks;
} Source;

typedef struct Draw
{
	pg_prng_state random;
	Relation rel;
	BlockNumber *blocks; /* of this source, ascending */
	int nblocks;
	int next;
	int prefetched;
	double rows_a_block; /* wanted */

	/* of the block at hand */
	bool begun;
	int wanted;
	int left;
	int tries;
	bool hit; /* the one that is wanted was there */
	OffsetNumber offset;

	/* line pointers of the blocks, for an idea of the number of rows where nobody has counted them */
	double pointers;
	double looked;
} Draw;

static BlockNumber
next_block(SampleScanState *node, BlockNumber nblocks)
{
	Draw *draw = node->tsm_state;

	while (draw->next < draw->nblocks && draw->blocks[draw->next] >= nblocks)
		draw->next++;
	if (draw->next >= draw->nblocks)
		return InvalidBlockNumber;
	if (effective_io_concurrency > 0)
		for (draw->prefetched = Max(draw->prefetched, draw->next + 1);
			 draw->prefetched < Min(draw->nblocks, draw->next + PREFETCH);
			 draw->prefetched++)
			(void) PrefetchBuffer(draw->rel, MAIN_FORKNUM, draw->blocks[draw->prefetched]);
	draw->wanted = (int) floor(draw->rows_a_block);
	if (pg_prng_double(&draw->random) < draw->rows_a_block - draw->wanted)
		draw->wanted++;
	draw->begun = false;
	draw->left = draw->wanted;
	draw->tries = 0;
	draw->hit = false;
	draw->offset = InvalidOffsetNumber;
	return draw->blocks[draw->next++];
}

/* One is drawn by its place; of several, each in turn with the chance that is left for it. */
static OffsetNumber
next_row(SampleScanState *node, BlockNumber block, OffsetNumber max)
{
	Draw *draw = node->tsm_state;

	if (!draw->begun)
	{
		draw->begun = true;
		draw->pointers += max;
		draw->looked++;
	}
	if (draw->wanted == 1)
	{
		if (draw->hit || draw->tries++ >= TRIES || max == 0)
			return InvalidOffsetNumber;
		return (OffsetNumber) pg_prng_uint64_range(&draw->random, 1, max);
	}
	while (draw->left > 0 && draw->offset < max)
	{
		OffsetNumber offset = ++draw->offset;

		if (pg_prng_double(&draw->random) * (max - offset + 1) < draw->left)
		{
			draw->left--;
			return offset;
		}
	}
	return InvalidOffsetNumber;
}

static void
read_source(RowSample *sample, const Source *source, Draw *draw, int *capacity)
{
	TsmRoutine routine = {
		.type = T_TsmRoutine, .NextSampleBlock = next_block, .NextSampleTuple = next_row};
	SampleScanState *node = makeNode(SampleScanState);
	TupleTableSlot *slot = table_slot_create(source->rel, NULL);
	TupleConversionMap *map = NULL;
	TableScanDesc scan;

	draw->rel = source->rel;
	draw->next = 0;
	draw->prefetched = 0;
	node->tsmroutine = &routine;
	node->tsm_state = draw;
	if (RelationGetRelid(source->rel) != sample->table)
		map = convert_tuples_by_name(RelationGetDescr(source->rel), sample->desc);
	scan = table_beginscan_sampling(source->rel, GetActiveSnapshot(), 0, NULL, true, false, false);
	while (table_scan_sample_next_block(scan, node))
	{
		CHECK_FOR_INTERRUPTS();
		while (table_scan_sample_next_tuple(scan, node, slot))
		{
			HeapTuple tuple = ExecCopySlotHeapTuple(slot);

			draw->hit = true;
			if (map != NULL)
				tuple = execute_attr_map_tuple(tuple, map);
			if (sample->nrows == *capacity)
			{
				*capacity *= 2;
				sample->rows = repalloc(sample->rows, sizeof(HeapTuple) * *capacity);
			}
			sample->rows[sample->nrows++] = tuple;
		}
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	pfree(node);
}

/* The blocks of all sources that are read: one of each of equal stretches. */
static void
draw_blocks(RowSample *sample, const Source *sources, int nsources)
{
	Draw draw = {0};
	int ndrawn = (int) Min(sample->blocks, SAMPLE_ROWS);
	int capacity = SAMPLE_ROWS + SAMPLE_ROWS / 4;
	int source = 0;

	if (ndrawn == 0)
	{
		sample->tuples = 0;
		sample->whole = true;
		return;
	}
	pg_prng_seed(&draw.random, (uint64) sample->table << 32 | sample->blocks);
	/* tuples is not known where nobody has counted them: as if many then */
	draw.rows_a_block =
		sample->tuples >= 0 && sample->tuples <= SAMPLE_ROWS && sample->blocks <= SAMPLE_ROWS
			? MaxHeapTuplesPerPage
			: (double) SAMPLE_ROWS / ndrawn;
	draw.blocks = palloc(sizeof(BlockNumber) * ndrawn);
	sample->rows = palloc(sizeof(HeapTuple) * capacity);
	for (int i = 0; i < ndrawn; i++)
	{
		uint64 start = (uint64) i * sample->blocks / ndrawn;
		uint64 end = (uint64) (i + 1) * sample->blocks / ndrawn;
		BlockNumber block = (BlockNumber) pg_prng_uint64_range(&draw.random, start, end - 1);

		while (block >= sources[source].before + sources[source].blocks)
		{
			if (draw.nblocks > 0)
				read_source(sample, &sources[source], &draw, &capacity);
			draw.nblocks = 0;
			source++;
		}
		draw.blocks[draw.nblocks++] = block - sources[source].before;
	}
	if (draw.nblocks > 0)
		read_source(sample, &sources[source], &draw, &capacity);
	if (sample->tuples < 0)
		sample->tuples =
			draw.looked > 0 ? draw.pointers / draw.looked * sample->blocks : sample->nrows;
	sample->whole = draw.rows_a_block >= MaxHeapTuplesPerPage;
	if (sample->whole)
		sample->tuples = sample->nrows;
	sample->tuples = Max(sample->tuples, sample->nrows);
	pfree(draw.blocks);
}

/* Opens what holds the rows; their number, and that of blocks, into the sample. */
static Source *
open_sources(RowSample *sample, Relation rel, int *nsources)
{
	List *oids = list_make1_oid(sample->table);
	Source *sources;
	bool counted = true;
	ListCell *cell;

	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		oids = find_all_inheritors(sample->table, AccessShareLock, NULL);
	sources = palloc0(sizeof(Source) * list_length(oids));
	*nsources = 0;
	foreach(cell, oids)
	{
		Relation one = relation_open(lfirst_oid(cell), NoLock);
		BlockNumber blocks;
		double tuples;
		double allvisible;
		Source *source;

		if (one->rd_tableam == NULL || RELATION_IS_OTHER_TEMP(one))
		{
			relation_close(one, NoLock);
			continue;
		}
		source = &sources[(*nsources)++];
		source->rel = one;
		source->before = sample->blocks;
		source->blocks = RelationGetNumberOfBlocks(one);
		sample->blocks += source->blocks;
		if (one->rd_rel->reltuples < 0)
			counted = false;
		else if (source->blocks > 0)
		{
			estimate_rel_size(one, NULL, &blocks, &tuples, &allvisible);
			sample->tuples += tuples;
		}
	}
	if (!counted)
		sample->tuples = -1;
	return sources;
}

/* So that the first of them are a sample, too. */
static void
shuffle(RowSample *sample)
{
	pg_prng_state random;

	pg_prng_seed(&random, sample->table);
	sample->places = palloc(sizeof(int) * Max(sample->nrows, 1));
	for (int i = 0; i < sample->nrows; i++)
	{
		int j = (int) pg_prng_uint64_range(&random, 0, i);
		HeapTuple row = sample->rows[i];

		sample->rows[i] = sample->rows[j];
		sample->rows[j] = row;
		sample->places[i] = sample->places[j];
		sample->places[j] = i;
	}
}

static RowSample *
take_sample(Oid table)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgopt row sample", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	RowSample *sample = palloc0(sizeof(RowSample));
	Relation rel = table_open(table, AccessShareLock);
	Source *sources;
	int nsources;
	bool pushed = false;

	sample->context = context;
	sample->table = table;
	sample->owner = rel->rd_rel->relowner;
	sample->desc = CreateTupleDescCopyConstr(RelationGetDescr(rel));
	if (!ActiveSnapshotSet())
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		pushed = true;
	}
	sources = open_sources(sample, rel, &nsources);
	draw_blocks(sample, sources, nsources);
	for (int i = 0; i < nsources; i++)
		relation_close(sources[i].rel, NoLock);
	if (pushed)
		PopActiveSnapshot();
	table_close(rel, NoLock);
	shuffle(sample);
	MemoryContextSwitchTo(old);
	return sample;
}

/* The one that is kept, unless the table was changed since by this transaction itself. */
static RowSample *
find_sample(Oid table)
{
	ListCell *cell;

	foreach(cell, samples)
	{
		RowSample *sample = lfirst(cell);
		Relation rel;
		bool current;

		if (sample->table != table)
			continue;
		rel = table_open(table, AccessShareLock);
		current = equalTupleDescs(sample->desc, RelationGetDescr(rel));
		table_close(rel, NoLock);
		if (current)
			return sample;
		samples = foreach_delete_current(samples, cell);
		MemoryContextDelete(sample->context);
		return NULL;
	}
	return NULL;
}

RowSample *
rows_sample(Oid table)
{
	RowSample *sample = find_sample(table);
	MemoryContext old;

	if (sample != NULL)
		return sample;
	sample = take_sample(table);
	if (samples_context == NULL)
		samples_context = AllocSetContextCreate(
			TopTransactionContext, "pgopt row samples", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSetParent(sample->context, samples_context);
	old = MemoryContextSwitchTo(samples_context);
	samples = lappend(samples, sample);
	MemoryContextSwitchTo(old);
	return sample;
}

void
rows_forget(void)
{
	MemoryContext context = samples_context;

	samples = NIL;
	samples_context = NULL;
	if (context != NULL)
		MemoryContextDelete(context);
}

/* --- whose functions may be run ---------------------------------------------------- */

static bool
is_untrusted(Oid function, void *owner)
{
	HeapTuple tuple;
	Oid by;

	if (function < FirstNormalObjectId)
		return false;
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(tuple))
		return true;
	by = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	return by != *(Oid *) owner && !superuser_arg(by);
}

static bool
calls_untrusted(Node *node, void *owner)
{
	if (node == NULL)
		return false;
	if (check_functions_in_node(node, is_untrusted, owner))
		return true;
	return expression_tree_walker(node, calls_untrusted, owner);
}

/* While rows are evaluated. */
typedef struct AsOwner
{
	Oid userid;
	int sec_context;
	int nestlevel;
} AsOwner;

static void
become_owner(AsOwner *saved, const RowSample *sample)
{
	GetUserIdAndSecContext(&saved->userid, &saved->sec_context);
	SetUserIdAndSecContext(sample->owner, saved->sec_context | SECURITY_RESTRICTED_OPERATION);
	saved->nestlevel = NewGUCNestLevel();
	(void) set_config_option("search_path",
							 "pg_catalog, pg_temp",
							 PGC_USERSET,
							 PGC_S_SESSION,
							 GUC_ACTION_SAVE,
							 true,
							 0,
							 false);
}

static void
become_caller(const AsOwner *saved)
{
	AtEOXact_GUC(false, saved->nestlevel);
	SetUserIdAndSecContext(saved->userid, saved->sec_context);
}

/* --- columns ------------------------------------------------------------------------ */

Size
rows_raw_bytes(Datum value, int16 length)
{
	return length > 0 ? (Size) length : toast_raw_datum_size(value);
}

static void
read_attribute(RowSample *sample, RowColumn *column)
{
	column->form = *TupleDescAttr(sample->desc, column->attnum - 1);
	column->known = true;
	column->nrows = sample->nrows;
	for (int i = 0; i < sample->nrows; i++)
	{
		column->values[i] =
			heap_getattr(sample->rows[i], column->attnum, sample->desc, &column->nulls[i]);
		column->nnulls += column->nulls[i];
	}
}

/* As ConstructTupleDescriptor() has it for an expression of an index. */
static void
set_form(RowColumn *column)
{
	HeapTuple tuple;
	Form_pg_type type;

	column->form.atttypid = exprType(column->expression);
	column->form.atttypmod = exprTypmod(column->expression);
	column->form.attcollation = exprCollation(column->expression);
	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(column->form.atttypid));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for type %u", column->form.atttypid);
	type = (Form_pg_type) GETSTRUCT(tuple);
	column->form.attlen = type->typlen;
	column->form.attbyval = type->typbyval;
	column->form.attalign = type->typalign;
	column->form.attstorage = type->typstorage;
	ReleaseSysCache(tuple);
}

typedef void (*RowCallback)(int row, Datum value, bool isnull, void *arg);

typedef struct Evaluation
{
	RowSample *sample;
	Node *expression;
	RowCallback callback;
	void *arg;
	int nrows; /* that were evaluated */
} Evaluation;

/* Bytes of these columns, as pull_varattnos() counts them, back from TOAST. */
static double
bytes_read(const RowSample *sample, int row, const Bitmapset *columns)
{
	double bytes = 0;
	int member = -1;

	while ((member = bms_next_member(columns, member)) >= 0)
	{
		AttrNumber attnum = member + FirstLowInvalidHeapAttributeNumber;
		Datum value;
		bool isnull;

		if (attnum <= 0)
		{
			bytes += sample->rows[row]->t_len;
			continue;
		}
		value = heap_getattr(sample->rows[row], attnum, sample->desc, &isnull);
		if (!isnull)
			bytes += rows_raw_bytes(value, TupleDescAttr(sample->desc, attnum - 1)->attlen);
	}
	return bytes;
}

/* Returns how many rows were evaluated. */
static int
evaluate_rows(RowSample *sample, Node *expression, RowCallback callback, void *arg)
{
	EState *estate = CreateExecutorState();
	ExprState *state = ExecPrepareExpr((Expr *) expression, estate);
	ExprContext *econtext = GetPerTupleExprContext(estate);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(sample->desc, &TTSOpsHeapTuple);
	Bitmapset *columns = NULL;
	QualCost cost;
	double left; /* bytes */
	int row;

	pull_varattnos(expression, 1, &columns);
	cost_qual_eval_node(&cost, expression, NULL);
	left = EVALUATE_NS / (BYTE_NS + cost.per_tuple / Max(cpu_operator_cost, DBL_MIN));
	econtext->ecxt_scantuple = slot;
	for (row = 0; row < sample->nrows; row++)
	{
		Datum value;
		bool isnull;

		CHECK_FOR_INTERRUPTS();
		left -= bytes_read(sample, row, columns) + ROW_BYTES;
		if (row >= EVALUATE_ROWS && left < 0)
			break;
		ResetExprContext(econtext);
		ExecStoreHeapTuple(sample->rows[row], slot, false);
		value = ExecEvalExprSwitchContext(state, econtext, &isnull);
		callback(row, value, isnull, arg);
	}
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
	return row;
}

typedef struct OwnersCall
{
	const RowSample *sample;
	void (*callback)(void *arg);
	void *arg;
} OwnersCall;

static void
call_as_owner(void *arg)
{
	const OwnersCall *call = arg;
	AsOwner saved;

	become_owner(&saved, call->sample);
	call->callback(call->arg);
	become_caller(&saved);
}

/* What the functions do, beyond the values, is not wanted: it is rolled back. */
const char *
rows_as_owner(const RowSample *sample, void (*callback)(void *arg), void *arg)
{
	OwnersCall call = {.sample = sample, .callback = callback, .arg = arg};
	ErrorData *error = core_try(call_as_owner, &call, false);

	if (error == NULL)
		return NULL;
	if (error->sqlerrcode == ERRCODE_OUT_OF_MEMORY)
		ReThrowError(error);
	return error->message;
}

static void
evaluate_as_owner(void *arg)
{
	Evaluation *evaluation = arg;

	evaluation->nrows = evaluate_rows(
		evaluation->sample, evaluation->expression, evaluation->callback, evaluation->arg);
}

/* False where it must not be evaluated, or raises an error: then an index on it could not be built either. */
static bool
evaluate(RowSample *sample, Node *expression, RowCallback callback, void *arg, int *nrows,
		 const char **problem)
{
	Evaluation evaluation = {
		.sample = sample, .expression = expression, .callback = callback, .arg = arg};

	if (calls_untrusted(expression, &sample->owner))
		return false;
	*problem = rows_as_owner(sample, evaluate_as_owner, &evaluation);
	*nrows = evaluation.nrows;
	return *problem == NULL;
}

static void
keep_value(int row, Datum value, bool isnull, void *arg)
{
	RowColumn *column = arg;

	column->nulls[row] = isnull;
	column->nnulls += isnull;
	column->values[row] =
		isnull ? (Datum) 0 : datumCopy(value, column->form.attbyval, column->form.attlen);
}

RowColumn *
rows_column(RowSample *sample, AttrNumber attnum, Node *expression)
{
	RowColumn *column;
	MemoryContext old;
	ListCell *cell;

	foreach(cell, sample->columns)
	{
		column = lfirst(cell);
		if (column->attnum == attnum && (attnum != 0 || equal(column->expression, expression)))
			return column;
	}
	old = MemoryContextSwitchTo(sample->context);
	column = palloc0(sizeof(RowColumn));
	column->attnum = attnum;
	column->values = palloc(sizeof(Datum) * Max(sample->nrows, 1));
	column->nulls = palloc(sizeof(bool) * Max(sample->nrows, 1));
	if (attnum != 0)
		read_attribute(sample, column);
	else
	{
		column->expression = copyObject(expression);
		set_form(column);
		column->known = evaluate(
			sample, column->expression, keep_value, column, &column->nrows, &column->problem);
	}
	sample->columns = lappend(sample->columns, column);
	MemoryContextSwitchTo(old);
	return column;
}

/* Equal values of one column have equal images, as a rule; a value that is kept elsewhere is taken for one of its own. */
static uint32
image_hash(const RowColumn *column, Datum value)
{
	if (column->form.attbyval)
		return hash_combine(murmurhash32((uint32) value), (uint32) ((uint64) value >> 32));
	if (column->form.attlen == -1)
	{
		struct varlena *bytes = (struct varlena *) DatumGetPointer(value);

		if (VARATT_IS_EXTERNAL(bytes))
			return hash_bytes((unsigned char *) bytes, VARSIZE_EXTERNAL(bytes));
		if (VARATT_IS_COMPRESSED(bytes))
			return hash_bytes((unsigned char *) bytes, VARSIZE(bytes));
		return hash_bytes((unsigned char *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
	}
	if (column->form.attlen == -2)
		return hash_bytes((unsigned char *) DatumGetCString(value), strlen(DatumGetCString(value)));
	return hash_bytes((unsigned char *) DatumGetPointer(value), column->form.attlen);
}

const uint32 *
rows_hashes(RowSample *sample, RowColumn *column)
{
	if (column->hashes != NULL)
		return column->hashes;
	column->hashes = MemoryContextAlloc(sample->context, sizeof(uint32) * Max(sample->nrows, 1));
	for (int i = 0; i < column->nrows; i++)
		column->hashes[i] = column->nulls[i] ? 0 : image_hash(column, column->values[i]);
	return column->hashes;
}

/*
 * Bytes that the value takes in an index tuple, with its header: index_form_tuple()
 * brings values back from TOAST, compresses long ones, and gives short ones a
 * short header.  Negative: without alignment.
 */
static int16
value_size(const RowColumn *column, Datum value)
{
	struct varlena *bytes;
	Size size;

	if (column->form.attlen > 0)
		return column->form.attlen;
	if (column->form.attlen == -2)
		return -(int16) Min(strlen(DatumGetCString(value)) + 1, PG_INT16_MAX);
	bytes = (struct varlena *) DatumGetPointer(value);
	if (VARATT_IS_EXTERNAL_ONDISK(bytes))
	{
		struct varatt_external pointer;

		VARATT_EXTERNAL_GET_POINTER(pointer, bytes);
		size = VARATT_EXTERNAL_GET_EXTSIZE(pointer) + VARHDRSZ;
		return (int16) Min(size, PG_INT16_MAX);
	}
	if (VARATT_IS_SHORT(bytes))
		return -(int16) VARSIZE_SHORT(bytes);
	if (VARATT_IS_EXTERNAL(bytes))
		return (int16) Min(toast_datum_size(value), PG_INT16_MAX);
	size = VARSIZE(bytes);
	if (VARATT_IS_COMPRESSED(bytes))
		return (int16) Min(size, PG_INT16_MAX);
	if (size > TOAST_INDEX_TARGET && (column->form.attstorage == TYPSTORAGE_EXTENDED ||
									  column->form.attstorage == TYPSTORAGE_MAIN))
	{
		Datum compressed = toast_compress_datum(value, column->form.attcompression);

		if (DatumGetPointer(compressed) != NULL)
		{
			size = VARSIZE(DatumGetPointer(compressed));
			pfree(DatumGetPointer(compressed));
		}
		return (int16) Min(size, PG_INT16_MAX);
	}
	if (column->form.attstorage != TYPSTORAGE_PLAIN && VARATT_CAN_MAKE_SHORT(bytes))
		return -(int16) VARATT_CONVERTED_SHORT_SIZE(bytes);
	return (int16) Min(size, PG_INT16_MAX);
}

const int16 *
rows_sizes(RowSample *sample, RowColumn *column)
{
	if (column->sizes != NULL)
		return column->sizes;
	column->sizes = MemoryContextAlloc(sample->context, sizeof(int16) * Max(sample->nrows, 1));
	for (int i = 0; i < column->nrows; i++)
		column->sizes[i] = column->nulls[i] ? 0 : value_size(column, column->values[i]);
	return column->sizes;
}

/* --- predicates ---------------------------------------------------------------------- */

static void
keep_verdict(int row, Datum value, bool isnull, void *arg)
{
	RowFilter *filter = arg;

	filter->passes[row] = !isnull && DatumGetBool(value);
	filter->npassing += filter->passes[row];
}

/* As the planner sees it from the statistics of the columns. */
static double
planner_selectivity(RowSample *sample, List *predicate)
{
	Query *query = makeNode(Query);
	PlannerInfo *root = makeNode(PlannerInfo);
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	double selectivity;

	query->commandType = CMD_SELECT;
	rte->rtekind = RTE_RELATION;
	rte->relid = sample->table;
	rte->relkind = get_rel_relkind(sample->table);
	rte->rellockmode = AccessShareLock;
	rte->inh = rte->relkind == RELKIND_PARTITIONED_TABLE;
	rte->inFromCl = true;
	compat_add_range_entry(query, rte);
	root->parse = query;
	root->glob = makeNode(PlannerGlobal);
	root->query_level = 1;
	root->planner_cxt = CurrentMemoryContext;
	root->wt_param_id = -1;
	setup_simple_rel_arrays(root);
	build_simple_rel(root, 1, NULL)->tuples = sample->tuples;
	selectivity = clauselist_selectivity(root, copyObject(predicate), 0, JOIN_INNER, NULL);
	if (root->glob->partition_directory != NULL)
		DestroyPartitionDirectory(root->glob->partition_directory);
	return selectivity;
}

/*
 * Of one column, ANALYZE has seen more rows than the sample has; of several, the
 * planner takes them for independent, and the sample knows better as soon as it
 * has a few.
 */
static double
filter_share(RowSample *sample, RowFilter *filter)
{
	Bitmapset *columns = NULL;
	double seen;
	double planned;
	double noise;
	double least;
	double most;

	if (filter->known && sample->whole && filter->nrows == sample->nrows)
		return sample->nrows > 0 ? (double) filter->npassing / sample->nrows : 0;
	planned = planner_selectivity(sample, filter->predicate);
	if (!filter->known || filter->nrows == 0)
		return planned;
	seen = (double) filter->npassing / filter->nrows;
	noise = 3 * sqrt(filter->npassing) + 3;
	least = Max(0, (filter->npassing - noise) / filter->nrows);
	most = Min(1, (filter->npassing + noise) / filter->nrows);
	if (planned < least || planned > most)
		return seen;
	pull_varattnos((Node *) filter->predicate, 1, &columns);
	if (filter->npassing < MIN_PASSING ||
		(bms_membership(columns) == BMS_SINGLETON && list_length(filter->predicate) == 1))
		return planned;
	return seen;
}

RowFilter *
rows_filter(RowSample *sample, List *predicate)
{
	RowFilter *filter;
	MemoryContext old;
	ListCell *cell;

	foreach(cell, sample->filters)
	{
		filter = lfirst(cell);
		if (equal(filter->predicate, predicate))
			return filter;
	}
	old = MemoryContextSwitchTo(sample->context);
	filter = palloc0(sizeof(RowFilter));
	filter->predicate = copyObject(predicate);
	filter->passes = palloc0(sizeof(bool) * Max(sample->nrows, 1));
	filter->known = evaluate(sample,
							 (Node *) make_ands_explicit(copyObject(predicate)),
							 keep_verdict,
							 filter,
							 &filter->nrows,
							 &filter->problem);
	filter->share = filter_share(sample, filter);
	sample->filters = lappend(sample->filters, filter);
	MemoryContextSwitchTo(old);
	return filter;
}
