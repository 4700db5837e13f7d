/*
 * checks_bloat.c
 *		Space that a rewrite of a table or a rebuild of an index gives back.
 *
 * The first of these checks measures for all of them, the largest relations
 * first, within pgopt.bloat_time_budget: 32 pages tell whether there may be
 * enough to gain at all, and only then is it measured well.  A finding takes
 * the lower end of the interval above both thresholds.  Space of dead rows
 * does not count: that is a matter of VACUUM (see vacuum_overdue).
 *
 * Free space that the table's new rows will soon use is worth knowing only.
 *
 * Each relation is measured in a subtransaction of its own, so that a damaged
 * page hides nothing but what is behind it, and is a finding itself.
 *
 * Locks: AccessShareLock on one relation and its table or TOAST table, never
 * waited for.  Cost: a look at the file of every relation that may be large
 * enough, 0.2 to 3 ms for each that is, and no more than the budget in all.
 */
#include "pgopt.h"

#include <math.h>

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "utils/builtins.h"

#include "bloat.h"
#include "core.h"
#include "health.h"
#include "monitor.h"
#include "relations.h"
#include "suspects.h"

/*
 * Free space that a table's own traffic fills again within that time is what
 * it works with (see will_be_filled()), unless it is as much as this.
 */
#define FILLED_SECONDS (7 * SECS_PER_DAY)
#define FILLED_SHARE   0.05 /* of the rows that fit: what is no traffic to speak of */
#define MOST_PERCENT   50
#define MOST_BYTES     (1024.0 * 1024 * 1024)

typedef enum BloatKind
{
	KIND_TABLE,
	KIND_TOAST,
	KIND_INDEX,
	KIND_CATALOG,
	KINDS /* number of kinds */
} BloatKind;

typedef struct BloatCandidate
{
	BloatKind kind;
	const RelationInfo *table; /* that is measured, or that the index belongs to */
	const RelationIndex *index;
	double bytes;

	BloatJudgement judgement;

	bool
		filled; /* free space that its own new rows will fill: how many fit, came, and when it will be */
	double rows_fit;
	double rows_new;
	double rows_seconds;

	const ErrorData *damage; /* what was met there; NULL = none */
} BloatCandidate;

typedef struct BloatRun
{
	List *damaged;    /* tables with a page that cannot be read */
	int known[KINDS]; /* relations that are large enough */
	int missed[KINDS];
	const char *failure[KINDS]; /* of one that was missed; NULL = none failed */
	Suspects suspects[KINDS];
} BloatRun;

typedef struct Candidates
{
	BloatCandidate *all;
	int count;
	int capacity;
} Candidates;

/* --- which relations ------------------------------------------------------------ */

/*
 * May it be large enough?  Pages and rows are those of the last VACUUM or
 * ANALYZE, and what came since; before the first one the width of a row is not
 * known.
 */
static bool
may_be_large(uint32 pages, const RelationInfo *table)
{
	double rows = Max(table->tuples, 0) + table->stats.inserted + table->stats.updated;
	double width = table->pages == 0                ? BLCKSZ
				   : table->class == RELATION_TOAST ? BLCKSZ / 4
													: BLCKSZ / MaxHeapTuplesPerPage;

	return (double) pages * BLCKSZ * 2 >= threshold_value(&bloat_worth_size) ||
		   rows * width >= threshold_value(&bloat_worth_size);
}

static void
add_candidate(Candidates *candidates, BloatRun *bloat, BloatKind kind, const RelationInfo *table,
			  const RelationIndex *index)
{
	BloatCandidate candidate = {.kind = kind, .table = table, .index = index};

	if (!may_be_large(index != NULL ? index->pages : table->pages, table))
		return;
	candidate.bytes = relation_file_bytes(index != NULL ? index->oid : table->oid);
	if (candidate.bytes < threshold_value(&bloat_worth_size))
		return;
	if (candidates->count == candidates->capacity)
	{
		candidates->capacity = Max(2 * candidates->capacity, 64);
		candidates->all =
			candidates->all == NULL
				? palloc(candidates->capacity * sizeof(BloatCandidate))
				: repalloc_huge(candidates->all, candidates->capacity * sizeof(BloatCandidate));
	}
	candidates->all[candidates->count++] = candidate;
	bloat->known[kind]++;
}

static bool
is_catalog(const RelationInfo *table)
{
	return table->class == RELATION_CATALOG ||
		   (table->main != NULL && table->main->class == RELATION_CATALOG);
}

static void
find_candidates(const Relations *relations, BloatRun *bloat, Candidates *candidates)
{
	for (int i = 0; i < relations->ntables; i++)
	{
		const RelationInfo *table = &relations->tables[i];

		if (table->class == RELATION_TEMP || table->kind == RELKIND_PARTITIONED_TABLE ||
			(table->am != HEAP_TABLE_AM_OID && table->class != RELATION_TOAST))
			continue;
		add_candidate(candidates,
					  bloat,
					  is_catalog(table)     ? KIND_CATALOG
					  : table->main != NULL ? KIND_TOAST
											: KIND_TABLE,
					  table,
					  NULL);
	}
	for (int i = 0; i < relations->nindexes; i++)
	{
		const RelationIndex *index = &relations->indexes[i];

		if (index->partitioned || !index->valid || index->table == NULL ||
			index->table->class == RELATION_TEMP)
			continue;
		add_candidate(candidates,
					  bloat,
					  is_catalog(index->table) ? KIND_CATALOG : KIND_INDEX,
					  index->table,
					  index);
	}
}

static int
largest_first(const void *a, const void *b)
{
	const BloatCandidate *x = a;
	const BloatCandidate *y = b;

	return x->bytes > y->bytes ? -1 : x->bytes < y->bytes;
}

/* --- is it needed? ---------------------------------------------------------------- */

/* Will new rows fill the free space at the rate at which so many came in so many seconds? */
static bool
note_traffic(BloatCandidate *candidate, double rows, double seconds)
{
	candidate->rows_new = rows;
	candidate->rows_seconds = Max(seconds, 1);
	return rows > 0 && candidate->rows_fit / rows * candidate->rows_seconds <= FILLED_SECONDS;
}

/*
 * Is the free space what a queue, or a table that is purged, works with?  Only
 * inserts say so, since updates use what VACUUM makes of what they left; and
 * only those beyond what the file holds when it is full, since that many came
 * before there was free space.  Either they came since the last VACUUM, or, as
 * that may have been a moment ago, they have filled all of the free space
 * once, over a day or more, and have not stopped.
 */
static bool
will_be_filled(BloatCandidate *candidate, TimestampTz now)
{
	const BloatEstimate *estimate = &candidate->judgement.estimate;
	const RelationStats *stats = &candidate->table->stats;
	TimestampTz changed = Max(stats->vacuumed, stats->analyzed);
	double row, beyond, age;
	bool reset;
	TimestampTz since;

	if (!stats->known || estimate->live_rows < 1 || estimate->rewritten <= 0)
		return false;
	if (candidate->judgement.low >= MOST_BYTES &&
		bloat_percent(candidate->judgement.low, estimate) >= MOST_PERCENT)
		return false;
	/* What is no free space, dropped columns for one, no row fills. */
	if (bloat_is_enough(Max(candidate->judgement.low - estimate->free_bytes, 0), estimate))
		return false;
	row = estimate->rewritten / estimate->live_rows;
	candidate->rows_fit = Max(estimate->free_bytes / row, 1);
	beyond = stats->inserted - estimate->size / row;
	if (beyond < FILLED_SHARE * candidate->rows_fit)
		return false;
	if (stats->vacuumed > 0 && stats->added >= FILLED_SHARE * candidate->rows_fit &&
		note_traffic(
			candidate, Min(stats->added, beyond), (double) (now - stats->vacuumed) / USECS_PER_SEC))
		return true;
	since = relations_statistics_since(&reset);
	age = (double) (now - since) / USECS_PER_SEC;
	if (since == 0 || age < SECS_PER_DAY || beyond < candidate->rows_fit ||
		(stats->added == 0 && stats->modified == 0 && now - changed > USECS_PER_DAY))
		return false;
	return note_traffic(candidate, beyond, age);
}

/* --- measuring ---------------------------------------------------------------------- */

/* false: it could not be locked.  One that is gone is as good as measured. */
static bool
measure_table(BloatCandidate *candidate)
{
	BloatEstimate *estimate = &candidate->judgement.estimate;
	bool locked;
	Relation table = bloat_open(candidate->table->oid, &locked);
	Relation owner;
	BloatEstimate of_owner;

	if (table == NULL)
		return !locked;
	candidate->judgement.reading = candidate->table->oid;
	bloat_measure_heap(table, &bloat_budget_screen, estimate);
	if (bloat_is_enough(bloat_reclaimable_high(estimate), estimate))
	{
		bloat_measure_heap(table, &bloat_budget_full, estimate);
		candidate->judgement.low = Max(bloat_reclaimable_low(estimate) - estimate->dead_bytes, 0);
		if (candidate->table->main == NULL)
			bloat_table_remedy(table, estimate, true, &candidate->judgement.remedy);
		else if ((owner = bloat_open(candidate->table->main->oid, &locked)) != NULL)
		{
			candidate->judgement.reading = candidate->table->main->oid;
			bloat_measure_heap(owner, &bloat_budget_full, &of_owner);
			bloat_weigh_toast(&of_owner, estimate);
			candidate->judgement.low =
				Max(bloat_reclaimable_low(estimate) - estimate->dead_bytes, 0);
			bloat_table_remedy(owner, estimate, true, &candidate->judgement.remedy);
			relation_close(owner, AccessShareLock);
		}
		else
		{
			relation_close(table, AccessShareLock);
			return !locked;
		}
	}
	relation_close(table, AccessShareLock);
	return true;
}

static bool
is_damage(int code)
{
	return code == ERRCODE_DATA_CORRUPTED || code == ERRCODE_INDEX_CORRUPTED ||
		   code == ERRCODE_IO_ERROR || code == ERRCODE_UNDEFINED_FILE;
}

typedef struct Measuring
{
	BloatCandidate *candidate;
	bool measured;
} Measuring;

static void
measure_now(void *arg)
{
	Measuring *measuring = arg;
	BloatCandidate *candidate = measuring->candidate;

	measuring->measured =
		candidate->index != NULL
			? bloat_judge_index(candidate->index->oid, candidate->table->oid, &candidate->judgement)
			: measure_table(candidate);
}

/* false: missed.  Whatever goes wrong is the candidate's own affair. */
static bool
measure(BloatRun *bloat, BloatCandidate *candidate)
{
	Measuring measuring = {.candidate = candidate};
	ErrorData *error = core_try(measure_now, &measuring, true);

	if (error == NULL)
		return measuring.measured;
	candidate->judgement.remedy.sql = NULL;
	bloat->failure[candidate->kind] = error->message;
	/* What many read is told of once. */
	if (is_damage(error->sqlerrcode) &&
		!list_member_oid(bloat->damaged, candidate->judgement.reading))
	{
		candidate->damage = error;
		if (OidIsValid(candidate->judgement.reading))
			bloat->damaged = lappend_oid(bloat->damaged, candidate->judgement.reading);
		suspects_add(&bloat->suspects[candidate->kind],
					 SEVERITY_CRITICAL,
					 candidate->bytes,
					 candidate,
					 NULL);
	}
	return false;
}

/* What all of the checks report, measured by the first that asks. */
static BloatRun *
bloat_of(HealthRun *run)
{
	MemoryContext old;
	Candidates candidates = {0};
	instr_time start, now;
	BloatRun *bloat;

	if (run->bloat != NULL)
		return run->bloat;
	old = MemoryContextSwitchTo(run->context);
	bloat = palloc0(sizeof(BloatRun));
	INSTR_TIME_SET_CURRENT(start);
	find_candidates(health_relations(run), bloat, &candidates);
	if (candidates.count > 1)
		qsort(candidates.all, candidates.count, sizeof(BloatCandidate), largest_first);
	for (int i = 0; i < candidates.count; i++)
	{
		BloatCandidate *candidate = &candidates.all[i];

		CHECK_FOR_INTERRUPTS();
		INSTR_TIME_SET_CURRENT(now);
		INSTR_TIME_SUBTRACT(now, start);
		if (INSTR_TIME_GET_MILLISEC(now) >= pgopt_bloat_time_budget || !measure(bloat, candidate))
		{
			bloat->missed[candidate->kind]++;
			continue;
		}
		if (candidate->judgement.remedy.sql == NULL ||
			!bloat_is_enough(candidate->judgement.low, &candidate->judgement.estimate))
			continue;
		if (candidate->index == NULL)
			candidate->filled = will_be_filled(candidate, run->now);
		suspects_add(&bloat->suspects[candidate->kind],
					 candidate->judgement.estimate.confidence >= BLOAT_MEDIUM && !candidate->filled
						 ? SEVERITY_WARNING
						 : SEVERITY_INFO,
					 candidate->judgement.low,
					 candidate,
					 NULL);
	}
	MemoryContextSwitchTo(old);
	run->bloat = bloat;
	return bloat;
}

/* --- findings -------------------------------------------------------------------------- */

static bool
describe_damage(const BloatCandidate *candidate, Finding *finding)
{
	const RelationInfo *table = candidate->table;
	bool index =
		candidate->index != NULL && (!OidIsValid(candidate->judgement.reading) ||
									 candidate->judgement.reading == candidate->index->oid);
	bool toast = candidate->index == NULL && table->main != NULL &&
				 candidate->judgement.reading == table->oid;
	char *name = relation_name(index   ? candidate->index->oid
							   : toast ? table->main->oid
									   : candidate->judgement.reading);

	if (name == NULL)
		return false;
	finding->object = toast ? psprintf("TOAST of %s", name) : name;
	finding->message =
		psprintf("a page of %s cannot be read: %s", finding->object, candidate->damage->message);
	finding->evidence = psprintf("{\"error\": %s, \"sqlstate\": \"%s\", \"size_bytes\": %.0f}",
								 health_json_string(candidate->damage->message),
								 unpack_sql_state(candidate->damage->sqlerrcode),
								 rint(candidate->bytes));
	/* Of a table nothing brings back what was there but a backup. */
	if (index && OidIsValid(candidate->judgement.reading))
	{
		finding->remedy = psprintf("REINDEX INDEX %s;", name);
		finding->remedy_lock = "SHARE on the table, ACCESS EXCLUSIVE on the index";
	}
	return true;
}

static bool
describe_bloat(HealthRun *run, const Suspect *suspect, Finding *finding)
{
	const BloatCandidate *candidate = suspect->what;
	const BloatEstimate *estimate = &candidate->judgement.estimate;
	const RelationInfo *table = candidate->table;
	Oid oid = candidate->index != NULL ? candidate->index->oid
			  : table->main != NULL    ? table->main->oid
									   : table->oid;
	char *name;

	if (candidate->damage != NULL)
		return describe_damage(candidate, finding);
	name = relation_name(oid);
	if (name == NULL)
		return false;
	if (candidate->index == NULL && table->main != NULL)
		name = psprintf("TOAST of %s", name);
	finding->object = name;
	finding->message = psprintf("%s of %s (%.0f %%) of %s would be given back by a %s",
								bytes_text(bloat_reclaimable(estimate)),
								bytes_text(estimate->size),
								bloat_percent(bloat_reclaimable(estimate), estimate),
								name,
								candidate->index != NULL ? "rebuild" : "rewrite");
	if (candidate->filled)
		finding->message = psprintf(
			"%s, but new rows will use it: %.0f came within %.1f hours, and %.0f fit into it",
			finding->message,
			candidate->rows_new,
			candidate->rows_seconds / SECS_PER_HOUR,
			candidate->rows_fit);
	finding->evidence = psprintf(
		"{\"size_bytes\": %.0f, \"reclaimable_bytes\": %.0f, \"reclaimable_low\": %.0f, "
		"\"reclaimable_high\": %.0f, \"reclaimable_percent\": %.1f, \"free_bytes\": %.0f, "
		"\"dead_bytes\": %.0f, \"pages_sampled\": %d, \"confidence\": \"%s\"%s}",
		rint(estimate->size),
		rint(bloat_reclaimable(estimate)),
		rint(bloat_reclaimable_low(estimate)),
		rint(bloat_reclaimable_high(estimate)),
		bloat_percent(bloat_reclaimable(estimate), estimate),
		rint(estimate->free_bytes),
		rint(estimate->dead_bytes),
		estimate->pages_sampled,
		bloat_confidence_name(estimate->confidence),
		candidate->filled
			? psprintf(", \"rows_fit\": %.0f, \"rows_new\": %.0f, \"rows_new_seconds\": %.0f",
					   candidate->rows_fit,
					   candidate->rows_new,
					   candidate->rows_seconds)
			: "");
	/* What a rewrite would give back comes again. */
	if (!candidate->filled)
	{
		finding->remedy = candidate->judgement.remedy.sql;
		finding->remedy_lock = candidate->judgement.remedy.lock;
	}
	if (finding->remedy != NULL && strncmp(finding->remedy, "VACUUM (FULL", 12) == 0)
	{
		finding->remedy = psprintf("%s\n-- until it ends this takes %s more on the disk",
								   finding->remedy,
								   bytes_text(estimate->rewritten));
		if (candidate->kind == KIND_CATALOG)
			finding->remedy_lock =
				"ACCESS EXCLUSIVE on the catalog: other sessions and logins wait until it ends";
	}
	return true;
}

static void
report(HealthRun *run, BloatKind kind, const char *what)
{
	BloatRun *bloat = bloat_of(run);

	suspects_report(
		run, &bloat->suspects[kind], describe_bloat, psprintf("%s have space to give back", what));
	if (run->found == 0 && bloat->missed[kind] > 0)
		run->unknown = psprintf("%d of %d %s were not measured, because %s; see %s()",
								bloat->missed[kind],
								bloat->known[kind],
								what,
								bloat->failure[kind] != NULL
									? bloat->failure[kind]
									: "they are locked or pgopt.bloat_time_budget was used up",
								kind == KIND_INDEX ? "pgopt_index_bloat" : "pgopt_table_bloat");
}

static void
check_table(HealthRun *run)
{
	report(run, KIND_TABLE, "tables");
}

static void
check_toast(HealthRun *run)
{
	report(run, KIND_TOAST, "TOAST tables");
}

static void
check_index(HealthRun *run)
{
	report(run, KIND_INDEX, "indexes");
}

static void
check_catalog(HealthRun *run)
{
	report(run, KIND_CATALOG, "system catalogs and their indexes");
}

#define BLOAT_CHECK(what, in_family, its_weight)                                                 \
	{                                                                                            \
		.id = "bloat_" #what, .family = in_family, .weight = its_weight,                         \
		.needs = "pg_stat_scan_tables", .thresholds = {&bloat_worth_percent, &bloat_worth_size}, \
		.reference = README_SECTION("bloat"), .run = check_##what,                               \
	}

const HealthCheck checks_bloat[] = {
	BLOAT_CHECK(table, "heap", 1),
	BLOAT_CHECK(toast, "heap", 1),
	BLOAT_CHECK(index, "index", 1),
	BLOAT_CHECK(catalog, "catalog", 1),
};

const int checks_bloat_count = lengthof(checks_bloat);
