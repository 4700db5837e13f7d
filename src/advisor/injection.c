/*
 * injection.c
 *		Shows hypothetical indexes to the planner.
 *
 * Only planner calls that our own code makes, standard_planner() without the
 * hook before it, see anything: what comes in through the hook, be it from a
 * function that planning runs, is going to be executed.
 *
 * What the planner is told of an index is made ready once for each table that
 * has it, a partition for a partitioned one, and copied from then on: nodes may
 * end up in plans, arrays are shared.
 *
 * Memory: a context of the transaction, that goes with it, or with the
 * subtransaction in which something was shown if that fails.
 *
 * Cost: where nothing is shown, one test a planner call and one a table.
 *
 * Locks: none; the planner has locked the table.
 */
#include "pgopt.h"

#include <math.h>

#include "access/amapi.h"
#include "access/attmap.h"
#include "access/gist.h"
#include "access/spgist.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "commands/explain.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/plancat.h"
#include "optimizer/planner.h"

#include "rewrite/rewriteManip.h"
#include "utils/acl.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/selfuncs.h"

#include "compat.h"
#include "hypothetical.h"
#include "hypothetical_private.h"
#include "rows.h"
#include "size.h"

/* What the planner is told of one index of one table. */
typedef struct Template
{
	struct
	{
		Oid index;
		Oid table; /* a partition, where the index is its root's */
	} key;
	bool ready;
	IndexOptInfo info; /* without what differs between planner calls */
	List *columns;     /* Vars and expressions, varno 1 */
	List *expressions; /* varno 1, as all here */
	List *predicate;
} Template;

/* The shown indexes that a table has. */
typedef struct ShownTable
{
	Oid oid;
	int nindexes;
	HypotheticalIndex **indexes;
	Template **templates;
} ShownTable;

typedef struct ShownIndex
{
	Oid oid;
	HypotheticalIndex *index;
} ShownIndex;

static struct
{
	bool active;
	int depth;               /* of planner calls that are not ours */
	SubTransactionId within; /* what the context goes with */
	SubTransactionId shower; /* where it was shown last */
	MemoryContext context;   /* NULL: nothing was shown in this transaction */
	HTAB *templates;
	MemoryContext set; /* what belongs to these indexes, in context */
	int nindexes;
	HypotheticalIndex **indexes;
	Oid *oids; /* theirs, to know them by */
	HTAB *by_oid;
	HTAB *tables;
	const Bitmapset *visible;
	bool all_visible;
	List *without; /* with what hangs on partitioned ones */
	List *without_given;
} shown;

static get_relation_info_hook_type previous_relation_info;
static get_index_stats_hook_type previous_index_stats;
static explain_get_index_name_hook_type previous_index_name;
static planner_hook_type previous_planner;

/* --- what the planner is told ---------------------------------------------------- */

/* Can an index-only scan give back this column? */
static bool
can_return(const HypotheticalIndex *index, int column)
{
	const HypotheticalColumn *col = &index->columns[column];
	Oid family;
	Oid input;

	if (index->am == BTREE_AM_OID)
		return true;
	if (index->am != GIST_AM_OID && index->am != SPGIST_AM_OID)
		return false;
	if (column >= index->nkeys)
		return true;
	family = get_opclass_family(col->opclass);
	input = get_opclass_input_type(col->opclass);
	if (index->am == GIST_AM_OID)
		return OidIsValid(get_opfamily_proc(family, input, input, GIST_FETCH_PROC)) ||
			   !OidIsValid(get_opfamily_proc(family, input, input, GIST_COMPRESS_PROC));
	else
	{
		spgConfigIn in = {.attType = col->type};
		spgConfigOut out = {0};

		OidFunctionCall2Coll(get_opfamily_proc(family, input, input, SPGIST_CONFIG_PROC),
							 col->collation,
							 PointerGetDatum(&in),
							 PointerGetDatum(&out));
		return out.canReturnData;
	}
}

static void
set_access_method(IndexOptInfo *info, Oid am, Relation rel)
{
	IndexAmRoutine *routine = GetIndexAmRoutineByAmId(am, false);

	info->relam = am;
	info->amcanorderbyop = routine->amcanorderbyop;
	info->amoptionalkey = routine->amoptionalkey;
	info->amsearcharray = routine->amsearcharray;
	info->amsearchnulls = routine->amsearchnulls;
	info->amcanparallel = routine->amcanparallel;
	info->amhasgettuple = routine->amgettuple != NULL;
	info->amhasgetbitmap = routine->amgetbitmap != NULL && compat_table_has_bitmap_scan(rel);
	info->amcanmarkpos = routine->ammarkpos != NULL && routine->amrestrpos != NULL;
	if (am == GIN_AM_OID)
		info->amcostestimate = gin_cost;
	else if (am == BRIN_AM_OID)
		info->amcostestimate = brin_cost;
	else
		info->amcostestimate = routine->amcostestimate;
	pfree(routine);
}

static void
set_columns(Template *template, const HypotheticalIndex *index, Relation rel, const AttrMap *map)
{
	IndexOptInfo *info = &template->info;

	info->ncolumns = index->ncolumns;
	info->nkeycolumns = index->nkeys;
	info->indexkeys = palloc(sizeof(int) * index->ncolumns);
	info->canreturn = palloc(sizeof(bool) * index->ncolumns);
	info->indexcollations = palloc(sizeof(Oid) * index->nkeys);
	info->opfamily = palloc(sizeof(Oid) * index->nkeys);
	info->opcintype = palloc(sizeof(Oid) * index->nkeys);
	info->opclassoptions = palloc0(sizeof(bytea *) * index->ncolumns);
	for (int i = 0; i < index->ncolumns; i++)
	{
		const HypotheticalColumn *col = &index->columns[i];
		AttrNumber attnum = col->attnum;

		if (attnum > 0 && map != NULL)
			attnum = map->attnums[attnum - 1];
		info->indexkeys[i] = attnum;
		info->canreturn[i] = can_return(index, i);
		if (attnum != 0)
		{
			Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(rel), attnum - 1);

			template->columns = lappend(template->columns,
										makeVar(1,
												attnum,
												attribute->atttypid,
												attribute->atttypmod,
												attribute->attcollation,
												0));
		}
		else
			template->expressions = lappend(template->expressions, copyObject(col->expression));
		if (i >= index->nkeys)
			continue;
		info->indexcollations[i] = col->collation;
		info->opfamily[i] = get_opclass_family(col->opclass);
		info->opcintype[i] = get_opclass_input_type(col->opclass);
	}
	if (index->am == BTREE_AM_OID)
	{
		info->sortopfamily = info->opfamily;
		info->reverse_sort = palloc(sizeof(bool) * index->nkeys);
		info->nulls_first = palloc(sizeof(bool) * index->nkeys);
		for (int i = 0; i < index->nkeys; i++)
		{
			info->reverse_sort[i] = index->columns[i].descending;
			info->nulls_first[i] = index->columns[i].nulls_first;
		}
	}
}

static void
set_size(IndexOptInfo *info, const HypotheticalIndex *index, double share)
{
	info->pages = Max(1, (BlockNumber) rint(index->pages * share));
	info->tuples = index->rows * share;
	info->tree_height = index->tree_height;
	if (share != 1 && index->am == BTREE_AM_OID)
		info->tree_height = btree_height(info->pages, index->fanout);
}

/* share: of the partitioned table's rows that this partition has. */
static void
make_template(Template *template, HypotheticalIndex *index, double share)
{
	MemoryContext old = MemoryContextSwitchTo(shown.context);
	Relation rel = table_open(template->key.table, NoLock);
	IndexOptInfo *info = &template->info;
	AttrMap *map = NULL;

	memset((char *) template + sizeof(template->key), 0, sizeof(Template) - sizeof(template->key));
	if (template->key.table != index->table)
	{
		Relation root = table_open(index->table, AccessShareLock);

		map = compat_attrmap_by_name(RelationGetDescr(rel), RelationGetDescr(root));
		table_close(root, NoLock);
	}
	info->type = T_IndexOptInfo;
	info->indexoid = index->oid;
	info->unique = index->unique;
	info->immediate = true;
	info->hypothetical = true;
	compat_set_nulls_not_distinct(info, index->nulls_not_distinct);
	set_access_method(info, index->am, rel);
	set_columns(template, index, rel, map);
	set_size(info, index, share);
	template->predicate = copyObject(index->predicate);
	if (map != NULL)
	{
		bool whole_row;

		template->expressions = (List *) map_variable_attnos(
			(Node *) template->expressions, 1, 0, map, InvalidOid, &whole_row);
		template->predicate = (List *) map_variable_attnos(
			(Node *) template->predicate, 1, 0, map, InvalidOid, &whole_row);
		free_attrmap(map);
	}
	template->ready = true;
	table_close(rel, NoLock);
	MemoryContextSwitchTo(old);
}

static List *
copy_nodes(List *nodes, int varno)
{
	List *copy = copyObject(nodes);

	if (varno != 1)
		ChangeVarNodes((Node *) copy, 1, varno, 0);
	return copy;
}

static IndexOptInfo *
copy_template(const Template *template, RelOptInfo *rel)
{
	IndexOptInfo *info = makeNode(IndexOptInfo);
	ListCell *column = list_head(template->columns);
	ListCell *expression;

	*info = template->info;
	info->rel = rel;
	info->tuples = rel->tuples;
	if (template->expressions != NIL)
		info->indexprs = copy_nodes(template->expressions, rel->relid);
	if (template->predicate != NIL)
	{
		info->indpred = copy_nodes(template->predicate, rel->relid);
		info->tuples = Min(template->info.tuples, rel->tuples);
	}
	expression = list_head(info->indexprs);
	for (int i = 0; i < info->ncolumns; i++)
	{
		Expr *expr;

		if (info->indexkeys[i] != 0)
		{
			Var *var = makeNode(Var);

			*var = *(Var *) lfirst(column);
			var->varno = rel->relid;
			var->varnosyn = rel->relid;
			expr = (Expr *) var;
			column = lnext(template->columns, column);
		}
		else
		{
			expr = lfirst(expression);
			expression = lnext(info->indexprs, expression);
		}
		info->indextlist = lappend(info->indextlist, makeTargetEntry(expr, i + 1, NULL, false));
	}
	return info;
}

/* --- which are shown ---------------------------------------------------------------- */

static bool
belongs_to(const HypotheticalIndex *index, Oid table, const List *ancestors)
{
	return index->table == table || list_member_oid(ancestors, index->table);
}

static ShownTable *
find_table(Oid oid)
{
	bool found;
	ShownTable *table = hash_search(shown.tables, &oid, HASH_ENTER, &found);
	List *ancestors;
	MemoryContext old;

	if (found)
		return table;
	table->nindexes = 0;
	table->indexes = NULL;
	table->templates = NULL;
	ancestors = get_rel_relispartition(oid) ? get_partition_ancestors(oid) : NIL;
	old = MemoryContextSwitchTo(shown.set);
	for (int i = 0; i < shown.nindexes; i++)
	{
		if (!belongs_to(shown.indexes[i], oid, ancestors))
			continue;
		if (table->nindexes == 0)
		{
			table->indexes = palloc(sizeof(HypotheticalIndex *) * (shown.nindexes - i));
			table->templates = palloc0(sizeof(Template *) * (shown.nindexes - i));
		}
		table->indexes[table->nindexes++] = shown.indexes[i];
	}
	MemoryContextSwitchTo(old);
	list_free(ancestors);
	return table;
}

static Template *
find_template(HypotheticalIndex *index, RelOptInfo *rel, Oid table)
{
	struct
	{
		Oid index;
		Oid table;
	} key = {index->oid, table};
	bool found;
	Template *template = hash_search(shown.templates, &key, HASH_ENTER, &found);

	if (!found)
		template->ready = false;
	if (!template->ready)
	{
		double share = 1;

		if (table != index->table && index->table_rows > 0)
			share = Min(1, rel->tuples / index->table_rows);
		make_template(template, index, share);
	}
	return template;
}

static void
hide_real(RelOptInfo *rel)
{
	ListCell *cell;

	foreach(cell, rel->indexlist)
		if (list_member_oid(shown.without, lfirst_node(IndexOptInfo, cell)->indexoid))
			rel->indexlist = foreach_delete_current(rel->indexlist, cell);
}

static void
add_indexes(PlannerInfo *root, Oid oid, bool inhparent, RelOptInfo *rel)
{
	ShownTable *table;

	if (previous_relation_info != NULL)
		previous_relation_info(root, oid, inhparent, rel);
	if (!shown.active || shown.depth > 0)
		return;
	if (shown.without != NIL)
		hide_real(rel);
	/* The rows of a parent are its children's, itself among these unless it is partitioned. */
	if (inhparent)
		return;
	table = find_table(oid);
	for (int i = 0; i < table->nindexes; i++)
	{
		HypotheticalIndex *index = table->indexes[i];

		if (!shown.all_visible && !bms_is_member(index->id, shown.visible))
			continue;
		if (table->templates[i] == NULL)
			table->templates[i] = find_template(index, rel, oid);
		/* The latest comes first, as it does among real ones. */
		rel->indexlist = lcons(copy_template(table->templates[i], rel), rel->indexlist);
	}
}

static void
free_nothing(HeapTuple tuple)
{
}

/*
 * May the user see values of the table's rows through their statistics?  What
 * the planner hands to the hook besides the index is not always filled in.
 */
static bool
may_see_statistics(PlannerInfo *root, const HypotheticalIndex *index)
{
	for (int i = 1; i < root->simple_rel_array_size; i++)
	{
		RelOptInfo *rel = root->simple_rel_array[i];
		RangeTblEntry *rte = root->simple_rte_array[i];

		if (rel == NULL || rte->relid != index->table)
			continue;
		if (rte->securityQuals != NIL ||
			pg_class_aclcheck(index->table,
							  OidIsValid(rel->userid) ? rel->userid : GetUserId(),
							  ACL_SELECT) != ACLCHECK_OK)
			return false;
	}
	return true;
}

static bool
give_statistics(PlannerInfo *root, Oid oid, AttrNumber attnum, VariableStatData *vardata)
{
	HypotheticalIndex *index = shown.active ? hypothetical_by_oid(oid) : NULL;
	int expression = 0;

	if (index == NULL)
		return previous_index_stats != NULL && previous_index_stats(root, oid, attnum, vardata);
	/* Those of a part of the rows say nothing of all: the server does not take them either. */
	if (index->predicate != NIL)
		return false;
	for (int i = 0; i < attnum - 1; i++)
		expression += index->columns[i].attnum == 0;
	if (expression >= list_length(index->key_stats))
		return false;
	vardata->statsTuple = list_nth(index->key_stats, expression);
	if (vardata->statsTuple == NULL)
		return false;
	vardata->freefunc = free_nothing;
	vardata->acl_ok = may_see_statistics(root, index);
	return true;
}

static const char *
give_name(Oid oid)
{
	HypotheticalIndex *index = hypothetical_by_oid(oid);

	if (index != NULL)
		return index->name != NULL ? index->name : hypothetical_name(index, NULL);
	return previous_index_name != NULL ? previous_index_name(oid) : NULL;
}

static PlannedStmt *
plan_next(Query *parse, const char *query_string, int options, ParamListInfo params)
{
	return previous_planner != NULL ? previous_planner(parse, query_string, options, params)
									: standard_planner(parse, query_string, options, params);
}

/* What is planned by the server's own ways is going to be executed: nothing is shown there. */
static PlannedStmt *
plan_hidden(Query *parse, const char *query_string, int options, ParamListInfo params)
{
	PlannedStmt *plan;

	if (!shown.active)
		return plan_next(parse, query_string, options, params);
	shown.depth++;
	PG_TRY();
	{
		plan = plan_next(parse, query_string, options, params);
	}
	PG_CATCH();
	{
		shown.depth = Max(shown.depth - 1, 0);
		PG_RE_THROW();
	}
	PG_END_TRY();
	shown.depth = Max(shown.depth - 1, 0);
	return plan;
}

/* --- shown and hidden -------------------------------------------------------------- */

static void
forget(void)
{
	MemoryContext context = shown.context;

	memset(&shown, 0, sizeof(shown));
	if (context != NULL)
		MemoryContextDelete(context);
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
		case XACT_EVENT_PREPARE:
			forget();
			rows_forget();
			break;
		default:
			break;
	}
}

static void
at_subtransaction_end(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (shown.context == NULL)
		return;
	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		if (shown.within == mine)
			forget();
		else if (shown.shower == mine)
			hypothetical_hide(); /* an error kept the caller from it */
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		if (shown.within == mine)
			shown.within = parent;
		if (shown.shower == mine)
			shown.shower = parent;
	}
}

void
hypothetical_init(void)
{
	previous_relation_info = get_relation_info_hook;
	get_relation_info_hook = add_indexes;
	previous_index_stats = get_index_stats_hook;
	get_index_stats_hook = give_statistics;
	previous_index_name = explain_get_index_name_hook;
	explain_get_index_name_hook = give_name;
	previous_planner = planner_hook;
	planner_hook = plan_hidden;
	RegisterXactCallback(at_transaction_end, NULL);
	RegisterSubXactCallback(at_subtransaction_end, NULL);
}

static HTAB *
make_hash(const char *name, Size key, Size entry, MemoryContext context)
{
	HASHCTL control = {.keysize = key, .entrysize = entry, .hcxt = context};

	return hash_create(name, 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static bool
is_same_set(HypotheticalIndex **indexes, int nindexes)
{
	if (shown.set == NULL || nindexes != shown.nindexes)
		return false;
	for (int i = 0; i < nindexes; i++)
		if (indexes[i] != shown.indexes[i] || indexes[i]->oid != shown.oids[i])
			return false;
	return true;
}

static void
set_indexes(HypotheticalIndex **indexes, int nindexes)
{
	MemoryContext old;

	if (shown.set != NULL)
		MemoryContextDelete(shown.set);
	shown.set = AllocSetContextCreate(shown.context, "pgopt shown indexes", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(shown.set);
	shown.by_oid = make_hash("pgopt shown indexes", sizeof(Oid), sizeof(ShownIndex), shown.set);
	shown.tables = make_hash("pgopt shown tables", sizeof(Oid), sizeof(ShownTable), shown.set);
	shown.nindexes = nindexes;
	shown.indexes = palloc(sizeof(HypotheticalIndex *) * Max(nindexes, 1));
	shown.oids = palloc(sizeof(Oid) * Max(nindexes, 1));
	for (int i = 0; i < nindexes; i++)
	{
		ShownIndex *entry;

		shown.indexes[i] = indexes[i];
		shown.oids[i] = indexes[i]->oid;
		entry = hash_search(shown.by_oid, &indexes[i]->oid, HASH_ENTER, NULL);
		entry->index = indexes[i];
	}
	MemoryContextSwitchTo(old);
}

/* With the parts of partitioned indexes. */
static void
set_without(List *without)
{
	MemoryContext old;
	ListCell *cell;

	if (equal(without, shown.without_given))
		return;
	old = MemoryContextSwitchTo(shown.context);
	list_free(shown.without);
	list_free(shown.without_given);
	shown.without = NIL;
	shown.without_given = list_copy(without);
	foreach(cell, without)
	{
		if (get_rel_relkind(lfirst_oid(cell)) == RELKIND_PARTITIONED_INDEX)
			shown.without =
				list_concat(shown.without, find_all_inheritors(lfirst_oid(cell), NoLock, NULL));
		else
			shown.without = lappend_oid(shown.without, lfirst_oid(cell));
	}
	MemoryContextSwitchTo(old);
}

void
hypothetical_show(HypotheticalIndex **indexes, int nindexes, const Bitmapset *visible,
				  List *without)
{
	shown.active = false;
	for (int i = 0; i < nindexes; i++)
		hypothetical_measure(indexes[i]);
	if (shown.context == NULL)
	{
		shown.context = AllocSetContextCreate(
			TopTransactionContext, "pgopt hypothetical indexes", ALLOCSET_DEFAULT_SIZES);
		shown.templates = make_hash("pgopt hypothetical indexes",
									sizeof(((Template *) 0)->key),
									sizeof(Template),
									shown.context);
		shown.within = GetCurrentSubTransactionId();
	}
	if (!is_same_set(indexes, nindexes))
		set_indexes(indexes, nindexes);
	set_without(without);
	shown.visible = visible;
	shown.all_visible = visible == NULL;
	shown.depth = 0;
	shown.shower = GetCurrentSubTransactionId();
	shown.active = true;
}

void
hypothetical_hide(void)
{
	shown.active = false;
	shown.visible = NULL;
	shown.depth = 0;
}

bool
injection_pause(void)
{
	bool active = shown.active;

	shown.active = false;
	return active;
}

void
injection_resume(bool active)
{
	shown.active = active;
}

HypotheticalIndex *
hypothetical_by_oid(Oid oid)
{
	ShownIndex *entry;

	if (shown.by_oid == NULL)
		return NULL;
	entry = hash_search(shown.by_oid, &oid, HASH_FIND, NULL);
	return entry != NULL ? entry->index : NULL;
}
