/*
 * whatif.c
 *		pgopt_whatif() and pgopt_whatif_indexes(): what a given set of indexes
 *		would do, and how large they would be.
 *
 * Nothing is built or executed.  The statements are planned as their users,
 * and explained as them, in a subtransaction that is rolled back.
 *
 * Locks: AccessShare on the tables, until the transaction ends.  Memory: the
 * call's own context.
 *
 * Cost: two planner calls a statement, and a sample of each table.
 */
#include "pgopt.h"

#include <math.h>

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/explain.h"
#include "executor/execdesc.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "parser/parser.h"
#include "tcop/dest.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "core.h"
#include "hypothetical.h"
#include "plan_tree.h"
#include "statement.h"
#include "workload.h"

PG_FUNCTION_INFO_V1(pgopt_whatif);
PG_FUNCTION_INFO_V1(pgopt_whatif_indexes);

#define WHATIF_COLUMNS  8
#define INDEXES_COLUMNS 7

/* What the caller gave. */
typedef struct Changes
{
	int count;
	char **ddl;
	HypotheticalIndex **of_ddl; /* NULL for a DROP INDEX */
	HypotheticalIndex **indexes;
	int nindexes;
	List *without; /* OIDs of real indexes */
	List *names;
} Changes;

/* --- what is given -------------------------------------------------------------- */

static DropStmt *
parse_drop(const char *ddl)
{
	List *statements = raw_parser(ddl, RAW_PARSE_DEFAULT);
	Node *statement;

	if (list_length(statements) != 1)
		return NULL;
	statement = linitial_node(RawStmt, statements)->stmt;
	if (!IsA(statement, DropStmt) || ((DropStmt *) statement)->removeType != OBJECT_INDEX)
		return NULL;
	return (DropStmt *) statement;
}

/* OIDs of the indexes that it drops. */
static List *
dropped_indexes(const DropStmt *stmt)
{
	List *oids = NIL;
	ListCell *cell;

	foreach(cell, stmt->objects)
	{
		RangeVar *name = makeRangeVarFromNameList(lfirst(cell));
		Oid oid = RangeVarGetRelid(name, NoLock, stmt->missing_ok);
		char kind = OidIsValid(oid) ? get_rel_relkind(oid) : RELKIND_INDEX;

		if (kind != RELKIND_INDEX && kind != RELKIND_PARTITIONED_INDEX)
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("\"%s\" is not an index", name->relname)));
		if (OidIsValid(oid))
			oids = lappend_oid(oids, oid);
	}
	return oids;
}

static void
add_change(Changes *changes, int i)
{
	DropStmt *drop = parse_drop(changes->ddl[i]);
	HypotheticalIndex *index;

	if (drop != NULL)
	{
		changes->without = list_concat_unique_oid(changes->without, dropped_indexes(drop));
		return;
	}
	index = hypothetical_parse(changes->ddl[i]);
	hypothetical_measure(index);
	index->id = changes->nindexes;
	index->name = hypothetical_name(index, &changes->names);
	changes->indexes[changes->nindexes++] = index;
	changes->of_ddl[i] = index;
}

static void
begin_changes(Changes *changes, ArrayType *texts)
{
	Datum *values;
	bool *nulls;

	deconstruct_array(texts, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &changes->count);
	changes->ddl = palloc0(sizeof(char *) * Max(changes->count, 1));
	changes->of_ddl = palloc0(sizeof(HypotheticalIndex *) * Max(changes->count, 1));
	changes->indexes = palloc0(sizeof(HypotheticalIndex *) * Max(changes->count, 1));
	for (int i = 0; i < changes->count; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("the list of indexes must not contain nulls")));
		changes->ddl[i] = TextDatumGetCString(values[i]);
	}
}

/* --- one statement ---------------------------------------------------------------- */

typedef struct Pricing
{
	const Changes *changes;
	const AdvisorStatement *statement;
	bool explain;
	double before; /* of one call */
	double after;
	Bitmapset *used; /* ids of indexes */
	char *plan;
} Pricing;

static void
note_used(Plan *plan, Plan *parent, void *arg)
{
	Pricing *pricing = arg;
	HypotheticalIndex *index = hypothetical_by_oid(plan_tree_index(plan));

	if (index != NULL)
		pricing->used = bms_add_member(pricing->used, index->id);
}

static char *
explain_plan(PlannedStmt *plan, const AdvisorQuery *query)
{
	ExplainState *es = NewExplainState();
	QueryDesc *desc;

	es->costs = true;
	desc = CreateQueryDesc(plan,
						   query->text,
						   GetActiveSnapshot(),
						   InvalidSnapshot,
						   None_Receiver,
						   query->params,
						   NULL,
						   0);
	ExecutorStart(desc, EXEC_FLAG_EXPLAIN_ONLY);
	ExplainPrintPlan(es, desc);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
	while (es->str->len > 0 && es->str->data[es->str->len - 1] == '\n')
		es->str->data[--es->str->len] = '\0';
	return es->str->data;
}

/* As the statement's user, in a subtransaction. */
static void
price(void *arg)
{
	Pricing *pricing = arg;
	const AdvisorStatement *statement = pricing->statement;

	hypothetical_hide();
	for (int i = 0; i < statement->nqueries; i++)
	{
		const AdvisorQuery *query = &statement->queries[i];

		pricing->before += query->weight * statement_plan(query)->planTree->total_cost;
	}
	hypothetical_show(
		pricing->changes->indexes, pricing->changes->nindexes, NULL, pricing->changes->without);
	for (int i = 0; i < statement->nqueries; i++)
	{
		const AdvisorQuery *query = &statement->queries[i];
		PlannedStmt *plan = statement_plan(query);

		pricing->after += query->weight * plan->planTree->total_cost;
		plan_tree_visit(plan, note_used, pricing);
		if (pricing->explain && i == 0)
			pricing->plan = explain_plan(plan, query);
	}
	hypothetical_hide();
}

static Datum
used_ddl(const Pricing *pricing)
{
	const Changes *changes = pricing->changes;
	Datum *values = palloc(sizeof(Datum) * Max(changes->count, 1));
	int count = 0;

	for (int i = 0; i < changes->count; i++)
		if (changes->of_ddl[i] != NULL && bms_is_member(changes->of_ddl[i]->id, pricing->used))
			values[count++] = CStringGetTextDatum(changes->ddl[i]);
	return PointerGetDatum(construct_array(values, count, TEXTOID, -1, false, TYPALIGN_INT));
}

static void
put_statement(ReturnSetInfo *rsinfo, AdvisorStatement *statement, const Changes *changes,
			  bool explain)
{
	Pricing pricing = {.changes = changes, .statement = statement, .explain = explain};
	Datum values[WHATIF_COLUMNS];
	bool nulls[WHATIF_COLUMNS] = {false};

	values[0] = Int64GetDatum(statement->queryid);
	values[1] = CStringGetTextDatum(statement->text);
	values[2] = Float8GetDatum(statement->calls);
	if (statement_try(statement, price, &pricing))
	{
		values[3] = Float8GetDatum(pricing.before);
		values[4] = Float8GetDatum(pricing.after);
		values[5] = Float8GetDatum(pricing.before > 0 ? pricing.after / pricing.before : 1);
		values[6] = used_ddl(&pricing);
		nulls[7] = pricing.plan == NULL;
		if (!nulls[7])
			values[7] = CStringGetTextDatum(pricing.plan);
	}
	else
	{
		hypothetical_hide();
		nulls[3] = nulls[4] = nulls[5] = nulls[6] = true;
		values[7] = CStringGetTextDatum(
			psprintf("This statement cannot be planned any more: %s", statement->failure));
	}
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

Datum
pgopt_whatif(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Changes changes = {0};
	bool explain = PG_ARGISNULL(2) || PG_GETARG_BOOL(2);
	MemoryContext context;
	MemoryContext row;
	MemoryContext old;
	List *statements;
	ListCell *cell;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	hypothetical_forget_samples();
	context = AllocSetContextCreate(CurrentMemoryContext, "pgopt what-if", ALLOCSET_DEFAULT_SIZES);
	row = AllocSetContextCreate(context, "pgopt what-if statement", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	begin_changes(&changes, PG_GETARG_ARRAYTYPE_P(0));
	for (int i = 0; i < changes.count; i++)
		add_change(&changes, i);
	statements = PG_ARGISNULL(1) ? statements_prepare(workload_read(0), NULL)
								 : statements_from_texts(PG_GETARG_ARRAYTYPE_P(1));
	/* Here, since what is made ready goes with the subtransaction that shows it first. */
	hypothetical_show(changes.indexes, changes.nindexes, NULL, changes.without);
	hypothetical_hide();
	foreach(cell, statements)
	{
		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(row);
		put_statement(rsinfo, lfirst(cell), &changes, explain);
		MemoryContextSwitchTo(context);
		MemoryContextReset(row);
		statements_give_way(statements);
	}
	hypothetical_hide();
	hypothetical_forget_samples();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return (Datum) 0;
}

/* --- the indexes themselves ---------------------------------------------------------- */

typedef struct Change
{
	Changes *changes;
	int number;
} Change;

static void
add_one_change(void *arg)
{
	const Change *change = arg;

	add_change(change->changes, change->number);
}

/* Returns why it cannot be built, or NULL. */
static char *
try_change(Changes *changes, int i)
{
	Change change = {.changes = changes, .number = i};
	ErrorData *error = core_try(add_one_change, &change, true);

	return error != NULL ? error->message : NULL;
}

static void
put_index(ReturnSetInfo *rsinfo, Changes *changes, int i)
{
	char *problem = try_change(changes, i);
	HypotheticalIndex *index = changes->of_ddl[i];
	Datum values[INDEXES_COLUMNS];
	bool nulls[INDEXES_COLUMNS] = {false, true, true, true, true, true, true};

	values[0] = CStringGetTextDatum(changes->ddl[i]);
	if (problem != NULL)
	{
		values[6] = CStringGetTextDatum(problem);
		nulls[6] = false;
	}
	if (index != NULL && index->problem != NULL)
	{
		values[6] = CStringGetTextDatum(index->problem);
		nulls[6] = false;
	}
	else if (index != NULL)
	{
		Oid covered_by = hypothetical_covered_by(index);

		if (list_member_oid(changes->without, covered_by))
			covered_by = InvalidOid;

		values[1] = Int64GetDatum((int64) index->bytes);
		values[2] = Float8GetDatum(rint(index->rows));
		values[3] = Int64GetDatum((int64) index->pages);
		if (index->tree_height >= 0)
			values[4] = Int32GetDatum(index->tree_height);
		nulls[1] = nulls[2] = nulls[3] = false;
		nulls[4] = index->tree_height < 0;
		if (OidIsValid(covered_by))
			values[5] = ObjectIdGetDatum(covered_by);
		nulls[5] = !OidIsValid(covered_by);
	}
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

Datum
pgopt_whatif_indexes(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Changes changes = {0};
	MemoryContext context;
	MemoryContext old;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	hypothetical_forget_samples();
	context = AllocSetContextCreate(CurrentMemoryContext, "pgopt what-if", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	begin_changes(&changes, PG_GETARG_ARRAYTYPE_P(0));
	for (int i = 0; i < changes.count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		put_index(rsinfo, &changes, i);
	}
	hypothetical_forget_samples();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return (Datum) 0;
}
