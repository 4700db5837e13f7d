/*
 * hygiene_judge.c
 *		Which indexes are broken, and which nobody needs.
 *
 * In this order, each index once: those that are invalid; of those that do the
 * same, all but one; those that no query has used for long; those that begin
 * another one that stays; then, of those that stay for their own sake, those
 * that are rarely used, or not used as far as is known.  Partitioned tables
 * come before their partitions, whose own indexes may not lean on what goes
 * with the parent's.
 */
#include "pgopt.h"

#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_index.h"
#include "miscadmin.h"
#include "replication/slot.h"
#include "replication/walsender_private.h"
#include "storage/lwlock.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "core.h"
#include "hygiene.h"
#include "monitor.h"

#define DAY_S (24 * 3600)

Threshold hygiene_unused_info = {
	.name = "unused_index_info",
	.unit = UNIT_SECONDS,
	.boot_value = 7 * DAY_S,
	.description = "How long an index must not have been used to be worth knowing.",
};

Threshold hygiene_unused_warning = {
	.name = "unused_index_warning",
	.unit = UNIT_SECONDS,
	.boot_value = 35 * DAY_S,
	.description = "How long an index must not have been used to be a warning.",
};

/* --- what indexes have in common -------------------------------------------- */

static List *
tree_of(char *text)
{
	return text == NULL ? NIL : (List *) stringToNode(text);
}

static bool
same_predicate(const RelationIndex *a, const RelationIndex *b)
{
	List *of_a;

	if (a->has_predicate != b->has_predicate)
		return false;
	if (!a->has_predicate)
		return true;
	of_a = tree_of(index_predicate(a->oid));
	return of_a != NIL && equal(of_a, tree_of(index_predicate(b->oid)));
}

/* The expressions among the first n keys, which are as many in both. */
static bool
same_expressions(const RelationIndex *a, const RelationIndex *b, int n)
{
	int count = 0;
	List *of_a;
	List *of_b;

	for (int i = 0; i < n; i++)
		count += a->keys[i] == 0;
	if (count == 0)
		return true;
	of_a = tree_of(index_expressions(a->oid));
	of_b = tree_of(index_expressions(b->oid));
	if (list_length(of_a) < count || list_length(of_b) < count)
		return false; /* one is gone */
	for (int i = 0; i < count; i++)
		if (!equal(list_nth(of_a, i), list_nth(of_b, i)))
			return false;
	return true;
}

/* The parameters of the operator classes. */
static bool
same_class_options(const RelationIndex *a, const RelationIndex *b, int n)
{
	for (int i = 0; i < n; i++)
	{
		Datum of_a = get_attoptions(a->oid, i + 1);
		Datum of_b = get_attoptions(b->oid, i + 1);

		if ((of_a == (Datum) 0) != (of_b == (Datum) 0) ||
			(of_a != (Datum) 0 && !datumIsEqual(of_a, of_b, false, -1)))
			return false;
	}
	return true;
}

static bool
same_keys(const RelationIndex *a, const RelationIndex *b, int n)
{
	return memcmp(a->keys, b->keys, n * sizeof(int16)) == 0 &&
		   memcmp(a->opclasses, b->opclasses, n * sizeof(Oid)) == 0 &&
		   memcmp(a->collations, b->collations, n * sizeof(Oid)) == 0 &&
		   memcmp(a->options, b->options, n * sizeof(int16)) == 0;
}

/* Does b include all that a includes? */
static bool
includes(const RelationIndex *a, const RelationIndex *b)
{
	for (int i = a->nkeys; i < a->natts; i++)
	{
		bool found = false;

		for (int j = b->nkeys; j < b->natts; j++)
			found |= a->keys[i] == b->keys[j];
		if (!found)
			return false;
	}
	return true;
}

/* Storage parameters that say what an index can do; those of the built-in trees say how it is stored. */
static bool
same_options(const RelationIndex *a, const RelationIndex *b)
{
	Datum options[2] = {0};
	const RelationIndex *of[2] = {a, b};
	bool isnull[2] = {true, true};
	bool same;

	if (a->am == BTREE_AM_OID || a->am == HASH_AM_OID || a->am == GIST_AM_OID ||
		a->am == SPGIST_AM_OID || a->am == GIN_AM_OID)
		return true;
	for (int i = 0; i < 2; i++)
	{
		HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(of[i]->oid));

		if (!HeapTupleIsValid(tuple))
			return false;
		options[i] = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_reloptions, &isnull[i]);
		if (!isnull[i])
			options[i] = datumCopy(options[i], false, -1);
		ReleaseSysCache(tuple);
	}
	same = isnull[0] == isnull[1] && (isnull[0] || datumIsEqual(options[0], options[1], false, -1));
	return same;
}

bool
index_has_constraint(const RelationIndex *index)
{
	return index->primary || index->exclusion ||
		   (index->unique && OidIsValid(get_index_constraint(index->oid)));
}

/* Those that are there for something else than queries. */
static bool
has_to_stay(const RelationIndex *index)
{
	return index->parent != NULL || index->referenced || index->replica_identity ||
		   index->clustered;
}

bool
index_is_for_queries(const RelationIndex *index)
{
	return !index->unique && !index->primary && !index->exclusion && !has_to_stay(index);
}

/* Which of two equal indexes must stay: the higher one. */
static int
importance(const RelationIndex *index)
{
	return (index->primary ? 64 : 0) + (index_has_constraint(index) ? 32 : 0) +
		   (index->referenced ? 16 : 0) + (index->parent != NULL ? 8 : 0) +
		   (index->replica_identity ? 4 : 0) + (index->unique ? 2 : 0) + (index->clustered ? 1 : 0);
}

/* Does b all that a does, for queries and for writers? */
static bool
stands_in(const RelationIndex *b, const RelationIndex *a)
{
	if (a->am != b->am || a->natts != b->natts || a->nkeys != b->nkeys || a->exclusion ||
		b->exclusion || a->partitioned != b->partitioned || !b->valid)
		return false;
	if (a->parent != NULL && b->parent != NULL)
		return false; /* told at the parent */
	if (a->unique && (!b->unique || a->nulls_not_distinct != b->nulls_not_distinct ||
					  a->immediate != b->immediate))
		return false;
	/* a deferred one is of no use to the planner's proofs, nor for ON CONFLICT */
	if (!a->unique && b->unique && !b->immediate)
		return false;
	return same_keys(a, b, a->nkeys) && includes(a, b) && same_predicate(a, b) &&
		   same_expressions(a, b, a->nkeys) && same_class_options(a, b, a->nkeys) &&
		   same_options(a, b);
}

/* Are the keys of a those that b begins with, so that whoever uses a could use b? */
static bool
is_prefix(const RelationIndex *a, const RelationIndex *b)
{
	if (a->am != BTREE_AM_OID || b->am != BTREE_AM_OID || a->nkeys >= b->nkeys ||
		a->partitioned != b->partitioned || !b->valid)
		return false;
	/* one that includes columns is there for them */
	return a->natts == a->nkeys && same_keys(a, b, a->nkeys) && same_predicate(a, b) &&
		   same_expressions(a, b, a->nkeys) && same_class_options(a, b, a->nkeys);
}

/* --- judging -------------------------------------------------------------------- */

bool
hygiene_drops(const Hygiene *hygiene, const RelationIndex *index)
{
	for (; hygiene != NULL && index != NULL; index = index->parent)
	{
		IndexFault fault = hygiene_of(hygiene, index)->fault;

		if (fault == FAULT_DUPLICATE || fault == FAULT_REDUNDANT || fault == FAULT_UNUSED)
			return true;
	}
	return false;
}

static void
judge(Hygiene *hygiene, const RelationIndex *index, IndexFault fault, const RelationIndex *cover)
{
	IndexJudgement *judgement = hygiene_of(hygiene, index);

	judgement->fault = fault;
	judgement->cover = cover;
	/* it must stay, and so must what it is a part of */
	for (; cover != NULL; cover = cover->parent)
		hygiene_of(hygiene, cover)->covers = true;
}

static void
judge_invalid(Hygiene *hygiene)
{
	const Relations *relations = hygiene->relations;

	for (int i = 0; i < relations->nindexes; i++)
	{
		const RelationIndex *index = &relations->indexes[i];

		if (index->table != NULL && !index->valid && !index->partitioned &&
			(index->table->class == RELATION_USER || index->table->class == RELATION_TOAST))
			judge(hygiene, index, FAULT_INVALID, NULL);
	}
}

/*
 * Each gives way to the most important of its kind, which gives way to none:
 * what stands in for that one would stand in for it, too.
 */
static void
judge_duplicates(Hygiene *hygiene, const RelationInfo *table)
{
	for (const RelationIndex *a = table->indexes; a != NULL; a = a->next)
	{
		const RelationIndex *best = NULL;
		int of_best = 0;
		int of_a;

		if (!index_is_usable(a) || has_to_stay(a))
			continue;
		of_a = importance(a);
		for (const RelationIndex *b = table->indexes; b != NULL; b = b->next)
		{
			int of_b;

			if (a == b || !index_is_usable(b) || !stands_in(b, a) ||
				hygiene_drops(hygiene, b->parent))
				continue;
			of_b = importance(b);
			if (of_b < of_a || (of_b == of_a && b->oid > a->oid))
				continue;
			if (best == NULL || of_b > of_best || (of_b == of_best && b->oid < best->oid))
			{
				best = b;
				of_best = of_b;
			}
		}
		if (best != NULL)
			judge(hygiene, a, FAULT_DUPLICATE, best);
	}
}

static void
judge_redundant(Hygiene *hygiene, const RelationInfo *table)
{
	int most = 0;

	for (const RelationIndex *a = table->indexes; a != NULL; a = a->next)
		most = Max(most, a->nkeys);
	/* the longest first: what covers must not be covered */
	for (int nkeys = most - 1; nkeys > 0; nkeys--)
		for (const RelationIndex *a = table->indexes; a != NULL; a = a->next)
		{
			IndexJudgement *judgement = hygiene_of(hygiene, a);
			const RelationIndex *best = NULL;

			if (a->nkeys != nkeys || !index_is_usable(a) || !index_is_for_queries(a) ||
				judgement->fault == FAULT_UNUSED)
				continue;
			for (const RelationIndex *b = table->indexes; b != NULL; b = b->next)
				if (index_is_usable(b) && !hygiene_drops(hygiene, b) && is_prefix(a, b) &&
					(best == NULL || b->bytes < best->bytes ||
					 (b->bytes == best->bytes && b->oid < best->oid)))
					best = b;
			judgement->longer = best;
			if (best != NULL && judgement->fault != FAULT_DUPLICATE)
				judge(hygiene, a, FAULT_REDUNDANT, best);
		}
}

/* All tables with more than one index of the users' own, and partitioned ones before their partitions. */
static void
judge_tables(Hygiene *hygiene, void (*judge_table)(Hygiene *hygiene, const RelationInfo *table))
{
	const Relations *relations = hygiene->relations;
	bool deeper = true;

	for (int depth = 0; deeper; depth++)
	{
		deeper = false;
		for (int i = 0; i < relations->ntables; i++)
		{
			const RelationInfo *table = &relations->tables[i];
			int above = 0;

			if (!relation_is_users(table) || table->indexes == NULL || table->indexes->next == NULL)
				continue;
			for (const RelationInfo *p = table->parent; p != NULL; p = p->parent)
				above++;
			CHECK_FOR_INTERRUPTS();
			deeper |= above > depth;
			if (above == depth)
				judge_table(hygiene, table);
		}
	}
}

/* --- use ------------------------------------------------------------------------ */

/* Standbys that may run queries of their own, of which nothing is known here. */
static void
count_standbys(Hygiene *hygiene)
{
	for (int i = 0; i < max_wal_senders; i++)
	{
		WalSnd *sender = &WalSndCtl->walsnds[i];
		pid_t pid;
		bool applies;

		SpinLockAcquire(&sender->mutex);
		pid = sender->pid;
		applies = sender->state == WALSNDSTATE_STREAMING && !XLogRecPtrIsInvalid(sender->apply);
		SpinLockRelease(&sender->mutex);
		if (pid == 0 || !applies)
			continue;
		/* a subscription's is none */
		LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
		for (int j = 0; j < max_replication_slots; j++)
		{
			ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[j];

			if (slot->in_use && slot->active_pid == pid && SlotIsLogical(slot))
				applies = false;
		}
		LWLockRelease(ReplicationSlotControlLock);
		if (applies)
			hygiene->standbys++;
	}
	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	for (int j = 0; j < max_replication_slots; j++)
	{
		ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[j];

		if (slot->in_use && slot->active_pid == 0 && SlotIsPhysical(slot))
			hygiene->slots++;
	}
	LWLockRelease(ReplicationSlotControlLock);
}

static int
largest_first(const ListCell *x, const ListCell *y)
{
	const RelationIndex *a = lfirst(x);
	const RelationIndex *b = lfirst(y);

	if (a->bytes != b->bytes)
		return a->bytes > b->bytes ? -1 : 1;
	return a->oid > b->oid ? -1 : a->oid < b->oid;
}

/* Those that may be called unused or rarely used, largest first. */
static List *
find_idle(Hygiene *hygiene, double unused_bytes)
{
	const Relations *relations = hygiene->relations;
	List *idle = NIL;
	List *roots = NIL;
	List *planned;
	ListCell *cell;

	for (int i = 0; i < relations->nindexes; i++)
	{
		const RelationIndex *index = &relations->indexes[i];
		IndexJudgement *judgement = &hygiene->judgement[i];

		if (!index_is_usable(index) || index->scans >= HYGIENE_RARE_SCANS ||
			index->bytes < unused_bytes || !relation_is_users(index->table) ||
			!index_is_for_queries(index) || judgement->fault != FAULT_NONE || judgement->covers)
			continue;
		CHECK_FOR_INTERRUPTS();
		idle = lappend(idle, (void *) index);
		/* it may be younger than the statistics */
		if (hygiene->since != 0)
			judgement->since = Max(hygiene->since, relation_file_created(index->oid));
	}
	if (idle == NIL)
		return NIL;
	foreach(cell, idle)
		roots = list_append_unique_oid(roots,
									   relation_root(((RelationIndex *) lfirst(cell))->table)->oid);
	planned = hygiene_planned_indexes(relations, roots);
	foreach(cell, idle)
	{
		const RelationIndex *index = lfirst(cell);
		bool used = false;
		ListCell *plan;

		foreach(plan, planned)
			for (const RelationIndex *i = relations_index(relations, lfirst_oid(plan)); i != NULL;
				 i = i->parent)
				used |= i == index;
		if (used)
			idle = foreach_delete_current(idle, cell);
	}
	list_sort(idle, largest_first);
	return idle;
}

static bool
was_watched(const Hygiene *hygiene, const RelationIndex *index)
{
	TimestampTz since = hygiene_of(hygiene, index)->since;

	return since != 0 && (double) (hygiene->now - since) / USECS_PER_SEC >= hygiene->seconds;
}

Hygiene *
hygiene_judge(const Relations *relations, TimestampTz now, double unused_bytes)
{
	Hygiene *hygiene = palloc0(sizeof(Hygiene));
	List *idle;
	ListCell *cell;

	hygiene->relations = relations;
	hygiene->now = now;
	hygiene->seconds = threshold_value(&hygiene_unused_info);
	hygiene->since = relations_statistics_since(&hygiene->reset);
	hygiene->judgement = palloc_extended(Max(relations->nindexes, 1) * sizeof(IndexJudgement),
										 MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	count_standbys(hygiene);

	judge_invalid(hygiene);
	judge_tables(hygiene, judge_duplicates);

	/* on a standby nobody knows what the primary's queries use */
	idle = RecoveryInProgress() ? NIL : find_idle(hygiene, unused_bytes);
	foreach(cell, idle)
	{
		const RelationIndex *index = lfirst(cell);

		if (index->scans == 0 && pgstat_track_counts && was_watched(hygiene, index) &&
			!key_needs_index(hygiene, index))
			judge(hygiene, index, FAULT_UNUSED, NULL);
	}
	judge_tables(hygiene, judge_redundant);
	foreach(cell, idle)
	{
		const RelationIndex *index = lfirst(cell);
		const IndexJudgement *judgement = hygiene_of(hygiene, index);

		if (judgement->fault != FAULT_NONE || judgement->covers || key_needs_index(hygiene, index))
			continue;
		if (index->scans == 0)
			judge(hygiene, index, FAULT_UNSEEN, NULL);
		else if (was_watched(hygiene, index))
			judge(hygiene, index, FAULT_RARELY_USED, NULL);
	}
	return hygiene;
}

/* --- what is to be done ----------------------------------------------------------- */

char *
index_drop_sql(const RelationIndex *index, const char *name, const char **lock)
{
	*lock =
		index->partitioned ? "ACCESS EXCLUSIVE on the table and its partitions" : LOCK_SHARE_UPDATE;
	return psprintf("DROP INDEX %s%s;", index->partitioned ? "" : "CONCURRENTLY ", name);
}

/*
 * Is it just being built, rebuilt or dropped?  Whoever does so holds a lock on
 * the index, or one on its table while reporting progress.
 */
static bool
is_being_built(const RelationIndex *index)
{
	Oid types[] = {OIDOID, OIDOID};
	Datum values[] = {ObjectIdGetDatum(index->oid), ObjectIdGetDatum(index->table->oid)};
	bool built;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	built =
		pgopt_spi_execute(
			"SELECT FROM pg_locks l"
			" WHERE l.locktype = 'relation'"
			"   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
			"   AND l.mode IN ('ShareUpdateExclusiveLock', 'AccessExclusiveLock')"
			"   AND (l.relation = $1 AND l.granted"
			"        OR l.relation = $2 AND l.pid IN (SELECT pid FROM pg_stat_progress_create_index))"
			" LIMIT 1",
			2,
			types,
			values,
			NULL,
			true,
			SPI_OK_SELECT) > 0;
	SPI_finish();
	return built;
}

bool
index_is_invalid(const RelationIndex *index)
{
	HeapTuple tuple;
	bool invalid;

	if (is_being_built(index))
		return false;
	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index->oid));
	if (!HeapTupleIsValid(tuple))
		return false;
	invalid = !((Form_pg_index) GETSTRUCT(tuple))->indisvalid;
	ReleaseSysCache(tuple);
	return invalid;
}

static bool
ends_with(const char *name, const char *ending)
{
	const char *at = strstr(name, ending);

	/* a number may follow where the name was taken */
	return at != NULL && strspn(at + strlen(ending), "0123456789") == strlen(at + strlen(ending));
}

bool
index_is_leftover(const RelationIndex *index)
{
	char *name = get_rel_name(index->oid);

	return name != NULL && (ends_with(name, "_ccnew") || ends_with(name, "_ccold"));
}

/* Would it be of no use, were it valid? */
static bool
is_needless(const Hygiene *hygiene, const RelationIndex *index)
{
	for (const RelationIndex *b = index->table->indexes; b != NULL; b = b->next)
		if (b != index && index_is_usable(b) && !hygiene_drops(hygiene, b) &&
			(stands_in(b, index) || (index_is_for_queries(index) && is_prefix(index, b))))
			return true;
	return false;
}

char *
index_invalid_sql(const Hygiene *hygiene, const RelationIndex *index, const char *name,
				  const char **lock, bool *failed)
{
	bool leftover = index_is_leftover(index);

	*failed = false;
	if (index->parent != NULL || index->exclusion || (!leftover && index_has_constraint(index)))
	{
		/* these cannot be dropped; an exclusion constraint's cannot be rebuilt concurrently */
		*lock = index->exclusion ? LOCK_ALL : LOCK_SHARE_UPDATE;
		return psprintf("REINDEX INDEX %s%s;", index->exclusion ? "" : "CONCURRENTLY ", name);
	}
	*failed = !leftover && index->unique;
	/* a unique one became invalid because of duplicates, and would again */
	if (leftover || index->unique || !index->live || is_needless(hygiene, index))
		return index_drop_sql(index, name, lock);
	*lock = LOCK_SHARE_UPDATE;
	return psprintf("REINDEX INDEX CONCURRENTLY %s;", name);
}
