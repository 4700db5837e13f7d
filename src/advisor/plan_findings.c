/*
 * plan_findings.c
 *		Findings about plans: how they are kept, and the words that all have in common.
 */
#include "pgopt.h"

#include <math.h>

#include "catalog/partition.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/lsyscache.h"

#include "plan_words.h"

/* Beyond that much for one sort or hash table another way should be found. */
#define SENSIBLE_WORK_MEM (1024.0 * 1024 * 1024)

/* --- words ---------------------------------------------------------------------- */

char *
plan_count(double number)
{
	char *digits;
	StringInfoData out;
	int length;

	if (number < 10 && fabs(number - rint(number)) >= 0.05)
		return psprintf("%.1f", number);
	digits = psprintf("%.0f", Max(number, 0));
	length = (int) strlen(digits);
	initStringInfo(&out);
	for (int i = 0; i < length; i++)
	{
		if (i > 0 && (length - i) % 3 == 0)
			appendStringInfoChar(&out, ',');
		appendStringInfoChar(&out, digits[i]);
	}
	return out.data;
}

char *
plan_rows_text(double number)
{
	char *count = plan_count(number);

	return psprintf("%s %s", count, strcmp(count, "1") == 0 ? "row" : "rows");
}

char *
plan_percent(double share)
{
	return psprintf("%.0f %%", 100 * share);
}

char *
plan_time(double milliseconds)
{
	if (milliseconds < 10)
		return psprintf("%.1f ms", milliseconds);
	if (milliseconds < 10000)
		return psprintf("%s ms", plan_count(rint(milliseconds)));
	return psprintf("%s s", plan_count(rint(milliseconds / 1000)));
}

char *
plan_bytes(double bytes)
{
	return text_to_cstring(DatumGetTextPP(
		DirectFunctionCall1(pg_size_pretty, Int64GetDatum((int64) Min(Max(bytes, 0), 9e18)))));
}

char *
plan_table_name(Oid relid)
{
	char *name = OidIsValid(relid) ? get_rel_name(relid) : NULL;
	char *schema = name != NULL ? get_namespace_name_or_temp(get_rel_namespace(relid)) : NULL;

	return schema != NULL ? quote_qualified_identifier(schema, name) : NULL;
}

char *
plan_work_mem(double bytes)
{
	double megabytes = ceil(bytes / (1024 * 1024));

	if (bytes > SENSIBLE_WORK_MEM)
		return psprintf("it would need work_mem = '%.0fMB': read fewer rows or columns instead",
						megabytes);
	return psprintf("SET work_mem = '%.0fMB';", Max(megabytes, 1));
}

/* --- findings --------------------------------------------------------------------- */

PlanFinding *
plan_report(PlanReview *review, const char *problem, double share)
{
	PlanFinding *finding = palloc0(sizeof(PlanFinding));

	finding->problem = problem;
	finding->share = share > 1 ? 1 : share;
	finding->what = "";
	finding->cost_before = NAN;
	finding->cost_after = NAN;
	initStringInfo(&finding->evidence);
	review->findings = lappend(review->findings, finding);
	return finding;
}

static void
evidence_key(PlanFinding *finding, const char *key)
{
	if (finding->evidence.len > 0)
		appendStringInfoString(&finding->evidence, ", ");
	escape_json(&finding->evidence, key);
	appendStringInfoString(&finding->evidence, ": ");
}

void
plan_evidence_number(PlanFinding *finding, const char *key, double value)
{
	evidence_key(finding, key);
	if (isfinite(value))
		appendStringInfo(&finding->evidence, "%.15g", value);
	else
		appendStringInfoString(&finding->evidence, "null");
}

void
plan_evidence_text(PlanFinding *finding, const char *key, const char *value)
{
	if (value == NULL)
		return;
	evidence_key(finding, key);
	escape_json(&finding->evidence, value);
}

void
plan_evidence_node(PlanFinding *finding, const PlanNode *node)
{
	static const char *const conditions[][2] = {{"index", "Index Name"},
												{"index_condition", "Index Cond"},
												{"filter", "Filter"},
												{"join_filter", "Join Filter"}};

	plan_evidence_text(finding, "node", node->type);
	plan_evidence_text(finding, "table", node->relation);
	if (node->alias != NULL && node->relation != NULL && strcmp(node->alias, node->relation) != 0)
		plan_evidence_text(finding, "alias", node->alias);
	for (int i = 0; i < lengthof(conditions); i++)
		plan_evidence_text(finding, conditions[i][0], plan_text(node->json, conditions[i][1]));
	finding->relid = node->relid;
}

void
plan_remedy_add(PlanFinding *finding, const char *remedy)
{
	if (remedy == NULL)
		return;
	if (finding->remedy == NULL)
		finding->remedy = remedy;
	else if (strstr(finding->remedy, remedy) == NULL)
		finding->remedy = psprintf("%s\n%s", finding->remedy, remedy);
}

/* --- tables ---------------------------------------------------------------------- */

Oid
plan_known_table(Oid relid)
{
	List *ancestors = get_rel_relispartition(relid) ? get_partition_ancestors(relid) : NIL;

	return ancestors != NIL ? llast_oid(ancestors) : relid;
}

double
plan_share_of(const PlanReview *review, Oid relid)
{
	double share = 0;
	ListCell *cell;

	foreach(cell, review->tree->nodes)
	{
		const PlanNode *node = lfirst(cell);

		if (OidIsValid(node->relid) && plan_known_table(node->relid) == plan_known_table(relid))
			share += node->share;
	}
	return share;
}

/* --- indexes ------------------------------------------------------------------------ */

bool
plan_remedy_indexes(PlanReview *review, PlanFinding *finding)
{
	ListCell *cell;
	bool found = false;

	foreach(cell, review->indexes)
	{
		const PricedIndex *index = lfirst(cell);

		if (!OidIsValid(finding->relid) ||
			(index->table != finding->relid && index->table != plan_known_table(finding->relid)))
			continue;
		plan_remedy_add(finding, psprintf("%s;", index->ddl));
		finding->cost_before = review->cost;
		if (!found || index->cost < finding->cost_after)
			finding->cost_after = index->cost;
		found = true;
	}
	return found;
}

/* What is said of many partitions of a table in the same way is said of the worst, with how many more there are. */
void
plan_fold_partitions(PlanReview *review)
{
	List *kept = NIL;
	ListCell *cell;

	foreach(cell, review->findings)
	{
		PlanFinding *finding = lfirst(cell);
		PlanFinding *same = NULL;
		ListCell *other;

		CHECK_FOR_INTERRUPTS();
		if (OidIsValid(finding->relid) && get_rel_relispartition(finding->relid))
			foreach(other, kept)
			{
				PlanFinding *before = lfirst(other);

				if (strcmp(before->problem, finding->problem) == 0 && OidIsValid(before->relid) &&
					plan_known_table(before->relid) == plan_known_table(finding->relid))
					same = before;
			}
		if (same == NULL)
		{
			kept = lappend(kept, finding);
			continue;
		}
		if (finding->share > same->share)
		{
			double share = same->share;
			int others = same->others;

			*same = *finding;
			finding->share = share;
			same->others = others;
		}
		same->share += isnan(finding->share) ? 0 : finding->share;
		same->others++;
	}
	foreach(cell, kept)
	{
		PlanFinding *finding = lfirst(cell);

		if (finding->others == 0)
			continue;
		finding->what = psprintf("%s; and the like in %s more of the partitions of %s",
								 finding->what,
								 plan_count(finding->others),
								 get_rel_name(plan_known_table(finding->relid)));
		plan_evidence_number(finding, "partitions", finding->others + 1);
	}
	review->findings = kept;
}
