/*
 * checks_pools.c
 *		How applications connect: too often, too many, or not for long.
 */
#include "pgopt.h"

#include "health.h"

static Threshold churn_rate = {
	.name = "pool_churn_warning",
	.unit = UNIT_NUMBER,
	.boot_value = 10,
	.description = "New sessions a second from which they are a warning.",
};

static Threshold churn_least = {
	.name = "pool_churn_sessions",
	.unit = UNIT_NUMBER,
	.boot_value = 300,
	.description = "New sessions within the hour that there must be before their rate counts.",
};

static Threshold idle_sessions = {
	.name = "pool_idle_sessions",
	.unit = UNIT_NUMBER,
	.boot_value = 50,
	.description = "Idle sessions from which a pool that is too large is told.",
};

static Threshold idle_share = {
	.name = "pool_idle_share",
	.unit = UNIT_PERCENT,
	.boot_value = 70,
	.description = "Share of idle sessions from which a pool that is too large is told.",
};

static Threshold idle_age = {
	.name = "pool_idle_age",
	.unit = UNIT_SECONDS,
	.boot_value = 600,
	.description = "Age of the sessions of which the idle ones are counted.",
};

static Threshold lost_least = {
	.name = "sessions_lost_warning",
	.unit = UNIT_NUMBER,
	.boot_value = 10,
	.description = "Sessions that were lost within the hour from which they are a warning.",
};

static Threshold lost_share = {
	.name = "sessions_lost_share",
	.unit = UNIT_PERCENT,
	.boot_value = 1,
	.description = "Share of the sessions that must be lost to be a warning.",
};

/* How long they last follows from how many there are at once, and how many begin. */
static const char pool_churn[] =
	"SELECT 'warning', "
	"       format('database %I', current_database()), "
	"       format('%s sessions began within %s, %s a second, each a new process for about %s s', "
	"              c.sessions, date_trunc('second', make_interval(secs => c.seconds)), "
	"              c.rate, c.mean), "
	"       jsonb_build_object('sessions', c.sessions, 'seconds', c.seconds::bigint, "
	"         'per_second', c.rate, 'mean_session_seconds', c.mean, 'connected', c.numbackends), "
	"       c.since, "
	"       " SQL_RESTART_WINDOW
	"       || ' -- after the application keeps its connections, or a pool such as PgBouncer does', "
	"       'none' "
	"  FROM (SELECT d.sessions, d.seconds, d.since, s.numbackends, "
	"               round((d.sessions / greatest(d.seconds, 1))::numeric, 1) AS rate, "
	"               round((s.numbackends * d.seconds / greatest(d.sessions, 1))::numeric, 1) AS mean "
	"          FROM pgopt.counter_deltas() d, pg_stat_database s "
	"         WHERE s.datname = current_database()) c "
	" WHERE c.rate >= $1 AND c.sessions >= $2 AND c.mean < 60";

static const char pool_idle[] =
	"SELECT 'info', "
	"       'client sessions', "
	"       format('%s of the %s sessions that are older than %s are idle: the pools are larger than "
	"their use', "
	"              c.idle, c.sessions, make_interval(secs => $3)), "
	"       jsonb_build_object('idle', c.idle, 'sessions', c.sessions, "
	"         'percent', round(100.0 * c.idle / c.sessions, 1), "
	"         'by_application', (SELECT jsonb_object_agg(a.application_name, a.n) "
	"                              FROM (SELECT a.application_name, count(*) AS n "
	"                                      FROM pg_stat_activity a "
	"                                     WHERE a.backend_type = 'client backend' AND a.state = 'idle' "
	"                                     GROUP BY 1 ORDER BY 2 DESC LIMIT 5) a)), "
	"       NULL::timestamptz, "
	"       format('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = "
	"''client backend'' AND state = ''idle'' AND state_change < now() - interval ''%s seconds'' "
	"AND pid <> pg_backend_pid(); -- after the pools are made smaller', $3), "
	"       'none' "
	"  FROM (SELECT count(*) AS sessions, "
	"               count(*) FILTER (WHERE a.state = 'idle') AS idle "
	"          FROM pg_stat_activity a, clock_timestamp() t (now) "
	"         WHERE a.backend_type = 'client backend' "
	"           AND extract(epoch FROM t.now - a.backend_start) >= $3) c "
	" WHERE c.idle >= $1 AND c.sessions > 0 AND 100.0 * c.idle / greatest(c.sessions, 1) >= $2";

/* Those that an administrator ended were meant to end. */
static const char sessions_lost[] =
	"SELECT 'warning', "
	"       format('database %I', current_database()), "
	"       format('%s of %s sessions ended without saying so within %s: %s lost their client, %s died "
	"of an error', "
	"              c.lost, c.sessions, date_trunc('second', make_interval(secs => c.seconds)), "
	"              c.sessions_abandoned, c.sessions_fatal), "
	"       jsonb_build_object('sessions', c.sessions, 'abandoned', c.sessions_abandoned, "
	"         'fatal', c.sessions_fatal, 'killed', c.sessions_killed, 'seconds', c.seconds::bigint, "
	"         'percent', round(100.0 * c.lost / greatest(c.sessions, c.lost), 1)), "
	"       c.since, "
	"       " SQL_RESTART_WINDOW
	"       || ' -- after what the server log says about them is mended', "
	"       'none' "
	"  FROM (SELECT d.*, d.sessions_abandoned + d.sessions_fatal AS lost "
	"          FROM pgopt.counter_deltas() d) c "
	" WHERE c.lost >= greatest($1, 1) "
	"   AND 100.0 * c.lost / greatest(c.sessions, c.lost) >= $2";

const HealthCheck checks_pools[] = {
	{
		.id = "pool_churn",
		.family = "churn",
		.weight = 1,
		.flags = CHECK_DELTAS,
		.thresholds = {&churn_rate, &churn_least},
		.reference = PG_DOCS("connect-estab.html"),
		.query = pool_churn,
	},
	{
		.id = "pool_idle",
		.family = "idle",
		.weight = 1,
		.needs = "pg_read_all_stats",
		.thresholds = {&idle_sessions, &idle_share, &idle_age},
		.reference = PG_DOCS("runtime-config-connection.html#GUC-MAX-CONNECTIONS"),
		.query = pool_idle,
	},
	{
		.id = "sessions_lost",
		.family = "lost",
		.weight = 1,
		.flags = CHECK_DELTAS,
		.thresholds = {&lost_least, &lost_share},
		.reference = PG_DOCS("monitoring-stats.html#MONITORING-PG-STAT-DATABASE-VIEW"),
		.query = sessions_lost,
	},
};

const int checks_pools_count = lengthof(checks_pools);
