/*
 * size.c
 *		How many pages an index would have.
 */
#include "pgopt.h"

#include <math.h>

#include "access/htup_details.h"
#include "access/itup.h"
#include "access/nbtree.h"
#include "access/table.h"
#include "catalog/pg_statistic.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/plancat.h"
#include "storage/bufpage.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "hypothetical.h"
#include "hypothetical_private.h"

int
btree_height(double pages, double fanout)
{
	int height = 0;

	for (; pages > 1 && height < 20; height++)
		pages = ceil(pages / fanout);
	return height;
}

void
hypothetical_measure(HypotheticalIndex *index)
{
	Relation rel;
	BlockNumber pages;
	double tuples;
	double allvisible;
	double width = 0;
	double distinct = 1;

	if (index->measured)
		return;
	rel = table_open(index->table, AccessShareLock);
	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		tuples = Max(rel->rd_rel->reltuples, 0);
	else
		estimate_rel_size(rel, NULL, &pages, &tuples, &allvisible);
	for (int i = 0; i < index->ncolumns; i++)
	{
		const HypotheticalColumn *col = &index->columns[i];
		HeapTuple stats = SearchSysCache3(STATRELATTINH,
										  ObjectIdGetDatum(index->table),
										  Int16GetDatum(col->attnum),
										  BoolGetDatum(false));

		if (HeapTupleIsValid(stats))
		{
			Form_pg_statistic form = (Form_pg_statistic) GETSTRUCT(stats);

			width += form->stawidth;
			distinct *= form->stadistinct < 0 ? -form->stadistinct * tuples : form->stadistinct;
			ReleaseSysCache(stats);
		}
		else
		{
			width += get_typavgwidth(col->type, col->typmod);
			distinct *= tuples;
		}
	}
	distinct = Max(1, Min(distinct, tuples));
	index->table_rows = tuples;
	index->rows = index->predicate != NIL ? tuples / 10 : tuples;
	width = MAXALIGN(width) + sizeof(IndexTupleData) + sizeof(ItemIdData);
	index->bytes = (distinct * width + (index->rows - distinct) * sizeof(ItemPointerData)) / 0.9;
	index->pages = (BlockNumber) ceil(index->bytes / (BLCKSZ - 40)) + 1;
	index->bytes = (double) index->pages * BLCKSZ;
	index->fanout = 0.7 * BLCKSZ / width;
	index->tree_height = index->am == BTREE_AM_OID ? btree_height(index->pages, index->fanout) : -1;
	index->measured = true;
	table_close(rel, NoLock);
}

void
hypothetical_forget_samples(void)
{
}
