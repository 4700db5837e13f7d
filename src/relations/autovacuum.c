/*
 * autovacuum.c
 *		What autovacuum would do with a table, by its options and the server's
 *		settings.
 *
 * As the server computes it; no cost.
 */
#include "pgopt.h"

#include "catalog/pg_class.h"
#include "postmaster/autovacuum.h"
#include "utils/rel.h"

#include "compat.h"
#include "relations.h"

/* An option of the table, where it is set (they are not when negative), else the server's. */
#define OPTION(table, option, setting)                                    \
	((table)->options != NULL && (table)->options->autovacuum.option >= 0 \
		 ? (double) (table)->options->autovacuum.option                   \
		 : (double) (setting))

static double
rows_of(const RelationInfo *table)
{
	return Max(table->tuples, 0);
}

double
relation_vacuum_threshold(const RelationInfo *table)
{
	double threshold = OPTION(table, vacuum_threshold, autovacuum_vac_thresh) +
					   OPTION(table, vacuum_scale_factor, autovacuum_vac_scale) * rows_of(table);
	/* here -1 turns it off, and -2 is what is not set */
	double most = table->options != NULL && compat_vacuum_max(table->options) >= -1
					  ? compat_vacuum_max(table->options)
					  : compat_autovacuum_vacuum_max;

	return most >= 0 ? Min(threshold, most) : threshold;
}

double
relation_insert_threshold(const RelationInfo *table)
{
	double base = table->options != NULL && table->options->autovacuum.vacuum_ins_threshold >= -1
					  ? table->options->autovacuum.vacuum_ins_threshold
					  : autovacuum_vac_ins_thresh;
	double unfrozen = 1;

	if (base < 0)
		return -1;
	if (table->pages > 0 && table->all_frozen > 0)
		unfrozen = 1 - (double) Min(table->all_frozen, table->pages) / table->pages;
	return base + OPTION(table, vacuum_ins_scale_factor, autovacuum_vac_ins_scale) *
					  rows_of(table) * unfrozen;
}

double
relation_analyze_threshold(const RelationInfo *table)
{
	return OPTION(table, analyze_threshold, autovacuum_anl_thresh) +
		   OPTION(table, analyze_scale_factor, autovacuum_anl_scale) * rows_of(table);
}

bool
relation_has_autovacuum(const RelationInfo *table)
{
	return AutoVacuumingActive() && table->persistence != RELPERSISTENCE_TEMP &&
		   (table->options == NULL || table->options->autovacuum.enabled);
}

int
relation_fillfactor(const RelationInfo *table)
{
	return table->options != NULL && table->kind != RELKIND_TOASTVALUE ? table->options->fillfactor
																	   : HEAP_DEFAULT_FILLFACTOR;
}
