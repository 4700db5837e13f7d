/*
 * advice.c
 *		pgopt_refresh_advice(): which strategy would fit a view, from history.
 *
 * Weighs what the refreshes of the last seven days cost against the reads and
 * the changes that they served.  Three things are worth advice, in this order:
 *
 *	- nobody reads the view: manual;
 *	- it is refreshed for more than a fifth of the time: threshold, with an
 *	  interval that makes refreshes take a twentieth of the time, and the
 *	  changes of such an interval for threshold;
 *	- it is refreshed more than four times for each read: smart.
 *
 * Reads are scans of the view since the statistics were reset, brought to the
 * same span; the two scans that a CONCURRENTLY refresh makes itself are
 * subtracted.  Cost: one pass over seven days of pgopt.refresh_log.
 */
#include "pgopt.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"

#include "core.h"
#include "matview.h"

PG_FUNCTION_INFO_V1(pgopt_refresh_advice);

#define ADVICE_COLUMNS 7

static const char *const advice_sql =
	"WITH history AS ("
	"  SELECT l.view, count(*)::float8 AS refreshes,"
	"         avg(extract(epoch FROM l.duration))::float8 AS seconds,"
	"         coalesce(sum(l.pending_changes), 0)::float8 AS changes,"
	"         count(*) FILTER (WHERE l.mode = 'concurrent') AS own_scans,"
	"         greatest(extract(epoch FROM clock_timestamp() - min(l.started_at)), 1)::float8 AS span"
	"    FROM pgopt.refresh_log l"
	"   WHERE l.outcome = 'refreshed' AND l.started_at > clock_timestamp() - interval '7 days'"
	"   GROUP BY l.view"
	"), scans AS ("
	"  SELECT t.relid, t.seq_scan + coalesce(t.idx_scan, 0) AS scans,"
	"         greatest(extract(epoch FROM clock_timestamp()"
	"                          - coalesce(d.stats_reset, pg_postmaster_start_time())), 1) AS span"
	"    FROM pg_stat_all_tables t, pg_stat_database d WHERE d.datname = current_database()"
	"), facts AS ("
	"  SELECT m.view, m.strategy, m.refresh_interval, m.threshold_changes, c.relowner,"
	"         coalesce(h.refreshes, 0) AS refreshes, coalesce(h.seconds, 0) AS seconds,"
	"         coalesce(h.changes, 0) AS changes, coalesce(h.span, 1) AS span,"
	"         greatest(s.scans - 2 * coalesce(h.own_scans, 0), 0)"
	"         * least(coalesce(h.span, 1) / s.span, 1)::float8 AS reads,"
	"         s.span AS observed"
	"    FROM pgopt.matview m"
	"    JOIN pg_class c ON c.oid = m.view AND m.home = pgopt.home()"
	"    JOIN scans s ON s.relid = m.view"
	"    LEFT JOIN history h ON h.view = m.view"
	"), verdict AS ("
	"  SELECT f.*, CASE"
	"           WHEN refreshes < 5 THEN 'history'"
	"           WHEN strategy = 'manual' THEN 'fits'"
	"           WHEN reads < 1 AND observed > 86400 THEN 'unread'"
	"           WHEN refreshes * seconds > 0.2 * span THEN 'busy'"
	"           WHEN strategy <> 'smart' AND refreshes > 4 * reads + 1 THEN 'wasted'"
	"           ELSE 'fits' END AS kind,"
	"         greatest(ceil(20 * seconds), 1) * interval '1 second' AS longer"
	"    FROM facts f"
	"), advice AS ("
	"  SELECT v.*,"
	"         CASE kind WHEN 'unread' THEN 'manual' WHEN 'busy' THEN 'threshold'"
	"                   WHEN 'wasted' THEN 'smart' ELSE strategy END AS new_strategy,"
	"         CASE kind WHEN 'busy' THEN greatest(refresh_interval, longer)"
	"                   ELSE refresh_interval END AS new_interval,"
	"         CASE kind WHEN 'busy'"
	"              THEN greatest(changes / span * extract(epoch FROM longer)::float8, 1)::int8"
	"              ELSE threshold_changes END AS new_threshold,"
	"         CASE kind WHEN 'unread' THEN refreshes * seconds / span"
	"                   WHEN 'busy' THEN refreshes * seconds / span - 0.05"
	"                   WHEN 'wasted' THEN (refreshes - reads) * seconds / span"
	"                   ELSE 0 END * 86400 AS saved"
	"    FROM verdict v)"
	" SELECT a.relowner, a.view::regclass, a.new_strategy, a.new_interval, a.new_threshold,"
	"        CASE kind"
	"          WHEN 'history' THEN format('too little history: %s refreshes in 7 days', refreshes)"
	"          WHEN 'unread' THEN format('nobody read it, and it was refreshed %s times', refreshes)"
	"          WHEN 'busy' THEN format('it is refreshed for %s %% of the time',"
	"                                  round((100 * refreshes * seconds / span)::numeric))"
	"          WHEN 'wasted' THEN format('it was refreshed %s times for %s reads', refreshes,"
	"                                    round(reads::numeric))"
	"          ELSE 'it fits' END,"
	"        round(saved::numeric, 1) * interval '1 second',"
	"        CASE WHEN kind NOT IN ('history', 'fits') THEN"
	"          format('SELECT pgopt_manage(%L, strategy => %L, refresh_interval => %L,'"
	"                 || ' threshold_changes => %s);',"
	"                 a.view::regclass::text, new_strategy, new_interval, new_threshold) END"
	"   FROM advice a ORDER BY saved DESC, a.view::regclass::text";

Datum
pgopt_refresh_advice(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	PgoptSpi spi;
	uint64 rows;
	Oid caller = GetUserId();

	InitMaterializedSRF(fcinfo, 0);
	pgopt_spi_begin(&spi);
	rows = pgopt_spi_execute(advice_sql, 0, NULL, NULL, NULL, false, SPI_OK_SELECT);
	for (uint64 row = 0; row < rows; row++)
	{
		Datum values[ADVICE_COLUMNS];
		bool nulls[ADVICE_COLUMNS];
		bool isnull;

		if (!matview_role_may_see(caller, DatumGetObjectId(pgopt_spi_value(row, 1, &isnull))))
			continue;
		for (int i = 0; i < ADVICE_COLUMNS; i++)
			values[i] = pgopt_spi_value(row, i + 2, &nulls[i]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	pgopt_spi_end(&spi);
	return (Datum) 0;
}
