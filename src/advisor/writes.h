/*
 * writes.h
 *		What an index costs those who write.
 */
#ifndef PGOPT_WRITES_H
#define PGOPT_WRITES_H

#include "pgopt.h"

#include "hypothetical.h"
#include "statement.h"

typedef struct WriteCost
{
	double entries;  /* index entries that the workload's writes would make */
	double hot_lost; /* updates that are HOT today and would not be */
	double cost;     /* planner units, over the workload's executions */
} WriteCost;

/*
 * Over the executions that the statements stand for: INSERT, UPDATE, DELETE and
 * MERGE among them, and what the table's own statistics count beyond them
 * (COPY, foreign keys...) since the workload began.
 */
extern void writes_price(const HypotheticalIndex *index, List *statements, WriteCost *cost);

#endif /* PGOPT_WRITES_H */
