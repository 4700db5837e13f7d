/*
 * views.c
 *		The rows behind pgopt_matviews, pgopt_matview_dependencies and
 *		pgopt_table_changes.
 *
 * Members of pg_monitor see everything; others see the views and tables that
 * they own.  No lock is waited for: what DDL has locked is shown as unknown.
 *
 * Cost: one look-up in shared memory a table that a managed view reads; for
 * the dependencies, one walk of the definition a view.
 */
#include "pgopt.h"

#include "access/htup_details.h"
#include "catalog/partition.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "core.h"
#include "incremental.h"
#include "matview_internal.h"

PG_FUNCTION_INFO_V1(pgopt_matview_status);
PG_FUNCTION_INFO_V1(pgopt_matview_dependency_list);
PG_FUNCTION_INFO_V1(pgopt_table_change_list);
PG_FUNCTION_INFO_V1(pgopt_explain_refresh);

bool
matview_role_may_see(Oid role, Oid owner)
{
	return has_privs_of_role(role, ROLE_PG_MONITOR) ||
		   (OidIsValid(owner) && has_privs_of_role(role, owner));
}

bool
matview_may_see(Oid owner)
{
	return matview_role_may_see(GetUserId(), owner);
}

/* Fills row columns one after the other. */
typedef struct Row
{
	Datum values[24];
	bool nulls[24];
	int count;
} Row;

static void
put(Row *row, Datum value, bool isnull)
{
	Assert(row->count < lengthof(row->values));
	row->values[row->count] = value;
	row->nulls[row->count++] = isnull;
}

static void
put_text(Row *row, const char *text)
{
	put(row, text ? CStringGetTextDatum(text) : (Datum) 0, text == NULL);
}

static void
put_time(Row *row, TimestampTz time)
{
	put(row, TimestampTzGetDatum(time), time == 0 || TIMESTAMP_NOT_FINITE(time));
}

static void
put_interval(Row *row, int64 microseconds, bool isnull)
{
	Interval *interval = palloc0(sizeof(Interval));

	interval->day = (int32) (microseconds / USECS_PER_DAY);
	interval->time = microseconds % USECS_PER_DAY;
	put(row, IntervalPGetDatum(interval), isnull);
}

static void
put_incremental(Row *row, const ManagedView *view)
{
	IncrementalStatus status;

	incremental_status(view->oid, &status);
	put_text(row, status.reason);
	put(row, Int64GetDatum(status.log_bytes), !status.found);
	put(row, Int64GetDatum(status.state_bytes), !status.found);
}

static const char *
state_of(const ManagedView *view, TimestampTz now)
{
	if (!view->exists)
		return "missing";
	if (slots_running_since(view->oid) != 0)
		return "refreshing";
	if (now < view->retry_at)
		return "retrying";
	if (view->due)
		return "due";
	return view->strategy == STRATEGY_MANUAL ? "manual" : "waiting";
}

Datum
pgopt_matview_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz now = GetCurrentTimestamp();
	Registry *registry;

	InitMaterializedSRF(fcinfo, 0);
	registry = registry_load_evaluated(database_state());
	plan_make(registry, now);

	for (int i = 0; i < registry->nviews; i++)
	{
		ManagedView *view = &registry->views[i];
		const char *reason = view->reason;
		Row row = {0};

		CHECK_FOR_INTERRUPTS();
		if (!matview_may_see(view->owner))
			continue;
		if (view->failures > 0 && view->last_sqlstate == NULL &&
			slots_running_since(view->oid) != 0)
		{
			/* noted before it began, and under way */
			view->failures--;
			view->last_error = NULL;
		}
		if (!view->exists)
			reason =
				psprintf("%s does not exist; create it again, or SELECT pgopt_unmanage(%s)",
						 quote_qualified_identifier(view->schema, view->name),
						 quote_literal_cstr(quote_qualified_identifier(view->schema, view->name)));

		put(&row, ObjectIdGetDatum(view->oid), false);
		put_text(&row, strategy_name(view->strategy));
		put(&row, Int64GetDatum(view->pending), !view->known);
		put(&row, Float8GetDatum(view->staleness), false);
		put(&row, BoolGetDatum(view->fresh), false);
		put_time(&row, view->last_refresh);
		put_interval(&row, view->last_duration, view->last_refresh == 0);
		put_text(&row, view->last_mode);
		put_text(&row, view->last_error);
		put_time(&row, view->next_at);
		put(&row, Int32GetDatum(view->priority), false);
		put_interval(&row, view->interval, false);
		put(&row, Int64GetDatum(view->threshold), false);
		put_text(&row, state_of(view, now));
		put_text(&row, reason);
		put_text(&row, view->exists ? matview_index_advice(view->oid, true) : NULL);
		put(&row, Int32GetDatum(view->failures), false);
		put_text(&row, view->last_sqlstate);
		put_text(&row, view->incremental);
		put_incremental(&row, view);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row.values, row.nulls);
	}
	return (Datum) 0;
}

Datum
pgopt_matview_dependency_list(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Registry *registry;

	InitMaterializedSRF(fcinfo, 0);
	registry = registry_load(CurrentMemoryContext);

	for (int i = 0; i < registry->nviews; i++)
	{
		ManagedView *view = &registry->views[i];
		Dependencies *dependencies;
		ListCell *lc;

		CHECK_FOR_INTERRUPTS();
		if (!view->exists || !matview_may_see(view->owner))
			continue;
		dependencies = dependencies_resolve(view->oid, true);
		if (dependencies == NULL)
			continue;
		foreach(lc, dependencies->details)
		{
			Dependency *detail = lfirst(lc);
			Row row = {0};
			char *name;

			if (OidIsValid(detail->relid))
				name = DatumGetCString(
					DirectFunctionCall1(regclassout, ObjectIdGetDatum(detail->relid)));
			else
				name = pstrdup(detail->name);
			put(&row, ObjectIdGetDatum(view->oid), false);
			put_text(&row, name);
			put_text(&row, detail->kind);
			put(&row, Int32GetDatum(detail->depth), false);
			put(&row, BoolGetDatum(detail->untracked == NULL), false);
			put_text(&row, detail->untracked);
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row.values, row.nulls);
		}
	}
	return (Datum) 0;
}

/* Counts of one table as users see it: a partitioned table is the sum of its partitions. */
typedef struct TableRow
{
	Oid relid; /* hash key */
	bool seen;
	uint64 inserted;
	uint64 updated;
	uint64 deleted;
	bool truncated;
	bool known;
	TimestampTz last_change;
} TableRow;

/* The root of a partition tree, or the table itself; InvalidOid where it is not for the user. */
static Oid
table_to_show(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class form;
	Oid shown = relid;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	form = (Form_pg_class) GETSTRUCT(tuple);
	if (form->relpersistence == RELPERSISTENCE_TEMP || !matview_may_see(form->relowner) ||
		(form->relkind != RELKIND_RELATION && form->relkind != RELKIND_MATVIEW))
		shown = InvalidOid;
	else if (form->relispartition)
	{
		List *ancestors = get_partition_ancestors(relid);

		if (ancestors != NIL)
			shown = llast_oid(ancestors);
	}
	ReleaseSysCache(tuple);
	return shown;
}

Datum
pgopt_table_change_list(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	DatabaseState *db;
	HASHCTL info = {0};
	HTAB *rows;
	HASH_SEQ_STATUS scan;
	TableRow *entry;
	Oid *relids;
	int nrelids;
	bool counted;

	pgopt_require_preload("pgopt_table_changes");
	InitMaterializedSRF(fcinfo, 0);

	db = database_state();
	counted = (db != NULL && database_lost(db) == 0);
	relids = counters_list(&nrelids);
	info.keysize = sizeof(Oid);
	info.entrysize = sizeof(TableRow);
	info.hcxt = CurrentMemoryContext;
	rows = hash_create("pgopt table changes", 256, &info, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

	for (int i = 0; i < nrelids; i++)
	{
		Oid shown = table_to_show(relids[i]);
		TableCounters *counters = counters_find(MyDatabaseId, relids[i]);
		TableRow *row;
		bool found;

		CHECK_FOR_INTERRUPTS();
		if (!OidIsValid(shown) || counters == NULL)
			continue;
		row = hash_search(rows, &shown, HASH_ENTER, &found);
		if (!found)
		{
			memset(row, 0, sizeof(TableRow));
			row->relid = shown;
			row->known = counted;
		}
		row->inserted += pg_atomic_read_u64(&counters->inserted);
		row->updated += pg_atomic_read_u64(&counters->updated);
		row->deleted += pg_atomic_read_u64(&counters->deleted);
		row->truncated = row->truncated || pg_atomic_read_u64(&counters->truncated) > 0;
		row->known = row->known && pg_atomic_read_u64(&counters->unknown) == 0;
		row->last_change =
			Max(row->last_change, (TimestampTz) pg_atomic_read_u64(&counters->last_change));
	}

	hash_seq_init(&scan, rows);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		Row row = {0};

		put(&row, ObjectIdGetDatum(entry->relid), false);
		put(&row, Int64GetDatum((int64) entry->inserted), false);
		put(&row, Int64GetDatum((int64) entry->updated), false);
		put(&row, Int64GetDatum((int64) entry->deleted), false);
		put(&row, BoolGetDatum(entry->truncated), false);
		put(&row, BoolGetDatum(entry->known), false);
		put_time(&row, entry->last_change);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row.values, row.nulls);
	}
	return (Datum) 0;
}

Datum
pgopt_explain_refresh(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid matview = PG_GETARG_OID(0);
	char *name = get_rel_name(matview);
	ListCell *lc;

	InitMaterializedSRF(fcinfo, 0);
	if (name == NULL || get_rel_relkind(matview) != RELKIND_MATVIEW)
		ereport(
			ERROR,
			(errcode(name ? ERRCODE_WRONG_OBJECT_TYPE : ERRCODE_UNDEFINED_TABLE),
			 errmsg("%s is not a materialized view",
					DatumGetCString(DirectFunctionCall1(regclassout, ObjectIdGetDatum(matview))))));
	if (!compat_owns_relation(matview, GetUserId()) &&
		!has_privs_of_role(GetUserId(), ROLE_PG_MONITOR))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_MATVIEW, name);
	foreach(lc, matview_explain(matview))
	{
		const RefreshPart *part = lfirst(lc);
		Row row = {0};

		put_text(&row, part->part);
		put_text(&row, part->way);
		put_text(&row, part->reason);
		put(&row, Float8GetDatum(part->cost_ms), part->cost_ms < 0);
		put_text(&row, part->hint);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row.values, row.nulls);
	}
	return (Datum) 0;
}
