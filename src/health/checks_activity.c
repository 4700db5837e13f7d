/*
 * checks_activity.c
 *		What sessions do to each other: transactions left open, queries that
 *		do not end, locks, connections.
 *
 * All of it comes from the server's shared memory, and pg_locks is read only
 * when somebody waits: these checks are the quick ones.
 */
#include "pgopt.h"

#include "compat.h"
#include "health.h"

static Threshold idle_warning = {
	.name = "idle_in_transaction_warning",
	.unit = UNIT_SECONDS,
	.boot_value = 5 * 60,
	.description = "Time without a statement from which an open transaction is a warning.",
};

static Threshold idle_critical = {
	.name = "idle_in_transaction_critical",
	.unit = UNIT_SECONDS,
	.boot_value = 15 * 60,
	.description = "Time without a statement from which an open transaction is critical.",
};

static Threshold query_warning = {
	.name = "long_query_warning",
	.unit = UNIT_SECONDS,
	.boot_value = 30 * 60,
	.description = "Time from which a query that runs is a warning.",
};

static Threshold query_critical = {
	.name = "long_query_critical",
	.unit = UNIT_SECONDS,
	.boot_value = 4 * 3600,
	.description = "Time from which a query that runs is critical.",
};

static Threshold transaction_warning = {
	.name = "long_transaction_warning",
	.unit = UNIT_SECONDS,
	.boot_value = 3600,
	.description = "Age from which a transaction is a warning.",
};

static Threshold transaction_critical = {
	.name = "long_transaction_critical",
	.unit = UNIT_SECONDS,
	.boot_value = 6 * 3600,
	.description = "Age from which a transaction is critical.",
};

static Threshold wait_warning = {
	.name = "lock_wait_warning",
	.unit = UNIT_SECONDS,
	.boot_value = 5 * 60,
	.description = "Wait for a lock from which it is a warning.",
};

static Threshold wait_critical = {
	.name = "lock_wait_critical",
	.unit = UNIT_SECONDS,
	.boot_value = 10 * 60,
	.description = "Wait for a lock from which it is critical.",
};

static Threshold wait_counted = {
	.name = "lock_wait_counted",
	.unit = UNIT_SECONDS,
	.boot_value = 2,
	.description = "Wait for a lock from which a session counts as blocked.",
};

static Threshold wait_sessions = {
	.name = "lock_blocked_sessions",
	.unit = UNIT_NUMBER,
	.boot_value = 3,
	.description = "Sessions that one session blocks from which this is a warning.",
};

static Threshold ddl_warning = {
	.name = "ddl_queue_warning",
	.unit = UNIT_SECONDS,
	.boot_value = 1,
	.description =
		"Wait for a table lock, with other sessions queued behind it, from which it is a warning.",
};

static Threshold ddl_critical = {
	.name = "ddl_queue_critical",
	.unit = UNIT_SECONDS,
	.boot_value = 5 * 60,
	.description =
		"Wait for a table lock, with other sessions queued behind it, from which it is critical.",
};

static Threshold connections_warning = {
	.name = "connections_warning",
	.unit = UNIT_PERCENT,
	.boot_value = 75,
	.description = "Use of the connections from which it is a warning.",
};

static Threshold connections_critical = {
	.name = "connections_critical",
	.unit = UNIT_PERCENT,
	.boot_value = 90,
	.description = "Use of the connections from which it is critical.",
};

static Threshold limit_warning = {
	.name = "connection_limit_warning",
	.unit = UNIT_PERCENT,
	.boot_value = 90,
	.description = "Use of a role's or database's CONNECTION LIMIT from which it is a warning.",
};

static Threshold deadlocks_warning = {
	.name = "deadlocks_warning",
	.unit = UNIT_NUMBER,
	.boot_value = 1,
	.description = "Deadlocks within the hour from which they are a warning.",
};

static Threshold prepared_warning = {
	.name = "prepared_transaction_warning",
	.unit = UNIT_SECONDS,
	.boot_value = 5 * 60,
	.description = "Age from which a prepared transaction is a warning.",
};

static Threshold prepared_critical = {
	.name = "prepared_transaction_critical",
	.unit = UNIT_SECONDS,
	.boot_value = 15 * 60,
	.description = "Age from which a prepared transaction is critical.",
};

/* Who a session is; a is its row of pg_stat_activity. */
#define SESSION_NAME "format('session %s (role %s, database %s)', a.pid, a.usename, a.datname)"

#define SESSION_EVIDENCE                                 \
	"'pid', a.pid, "                                     \
	"'role', a.usename, "                                \
	"'database', a.datname, "                            \
	"'application', a.application_name, "                \
	"'client', coalesce(host(a.client_addr), 'local'), " \
	"'query', left(a.query, 300) "

/* Work on whole tables, which takes what it takes. */
#define IS_MAINTENANCE                                                                     \
	"(a.application_name IN ('pg_dump', 'pg_restore', 'vacuumdb', 'reindexdb') "           \
	" OR a.query ~* '^([[:space:]]|/[*]([^*]|[*]+[^*/])*[*]+/|--[^\n]*\n)*"                \
	"(vacuum|analy[sz]e|create[[:space:]]+(unique[[:space:]]+)?index|reindex|cluster|copy" \
	"|refresh|alter[[:space:]]+table)([^[:alnum:]_]|$)') "

/* Without it states are hidden. */
#define UNLESS_TRACKED                                                                 \
	"UNION ALL "                                                                       \
	"SELECT NULL, NULL, 'track_activities is off: sessions do not say what they do', " \
	"       NULL, NULL, NULL, NULL "                                                   \
	" WHERE current_setting('track_activities') = 'off'"

static const char idle_in_transaction[] =
	"WITH idle AS MATERIALIZED ("
	" SELECT a.*, t.now - a.state_change AS idle_for, t.now - a.xact_start AS open_for "
	"   FROM pg_stat_activity a, clock_timestamp() t (now) "
	"  WHERE a.backend_type = 'client backend' "
	"    AND a.state IN ('idle in transaction', 'idle in transaction (aborted)') "
	"    AND extract(epoch FROM t.now - a.state_change) >= $1"
	"), held AS ("
	" SELECT l.pid, count(*) AS locks, "
	"        (array_agg(DISTINCT l.relation::regclass::text) "
	"           FILTER (WHERE l.locktype = 'relation' AND d.datname = current_database() "
	"                     AND l.mode <> 'AccessShareLock'))[1:5] AS tables "
	"   FROM pg_locks l LEFT JOIN pg_database d ON d.oid = l.database "
	"  WHERE (SELECT count(*) > 0 FROM idle) "
	"    AND l.pid IN (SELECT i.pid FROM idle i) AND l.granted "
	"  GROUP BY l.pid"
	") "
	"SELECT CASE WHEN extract(epoch FROM a.idle_for) >= $2 THEN 'critical' ELSE 'warning' END, "
	"       format('pid %s', a.pid), "
	"       format('%s is idle in transaction for %s', "
	"              " SESSION_NAME ", date_trunc('second', a.idle_for)), "
	"       jsonb_build_object(" SESSION_EVIDENCE ", "
	"         'state', a.state, "
	"         'idle_seconds', extract(epoch FROM a.idle_for)::bigint, "
	"         'transaction_seconds', extract(epoch FROM a.open_for)::bigint, "
	"         'holds_xmin', coalesce(a.backend_xmin, a.backend_xid) IS NOT NULL, "
	"         'xid_age', age(coalesce(a.backend_xmin, a.backend_xid)), "
	"         'locks', coalesce(h.locks, 0), "
	"         'locked_tables', h.tables), "
	"       a.state_change, "
	"       format('SELECT pg_terminate_backend(%s);', a.pid), "
	"       'none' "
	"  FROM idle a LEFT JOIN held h ON h.pid = a.pid " UNLESS_TRACKED;

static const char long_query[] =
	"SELECT CASE WHEN " IS_MAINTENANCE " THEN 'info' "
	"            WHEN extract(epoch FROM t.now - a.query_start) >= $2 THEN 'critical' "
	"            ELSE 'warning' END, "
	"       format('pid %s', a.pid), "
	"       format('%s has run one statement for %s', "
	"              " SESSION_NAME ", date_trunc('second', t.now - a.query_start)), "
	"       jsonb_build_object(" SESSION_EVIDENCE ", "
	"         'seconds', extract(epoch FROM t.now - a.query_start)::bigint, "
	"         'wait', a.wait_event_type || ': ' || a.wait_event, "
	"         'holds_xmin', a.backend_xmin IS NOT NULL, "
	"         'xid_age', age(a.backend_xmin)), "
	"       a.query_start, "
	"       format('SELECT pg_cancel_backend(%s);', a.pid), "
	"       'none' "
	"  FROM pg_stat_activity a, clock_timestamp() t (now) "
	" WHERE a.backend_type = 'client backend' "
	"   AND a.state IN ('active', 'fastpath function call') "
	"   AND extract(epoch FROM t.now - a.query_start) >= $1 "
	"   AND a.wait_event_type IS DISTINCT FROM 'Lock' " /* its blocker is the finding */
	"   AND a.pid <> pg_backend_pid() " UNLESS_TRACKED;

/* Those that leave their transaction open, or run one statement, for too long are told already. */
static const char long_transaction[] =
	"SELECT CASE WHEN " IS_MAINTENANCE " THEN 'info' "
	"            WHEN extract(epoch FROM t.now - a.xact_start) >= $2 THEN 'critical' "
	"            ELSE 'warning' END, "
	"       format('pid %s', a.pid), "
	"       format('%s has been in one transaction for %s', "
	"              " SESSION_NAME ", date_trunc('second', t.now - a.xact_start)), "
	"       jsonb_build_object(" SESSION_EVIDENCE ", "
	"         'state', a.state, "
	"         'transaction_seconds', extract(epoch FROM t.now - a.xact_start)::bigint, "
	"         'statement_seconds', extract(epoch FROM t.now - a.query_start)::bigint, "
	"         'holds_xmin', coalesce(a.backend_xmin, a.backend_xid) IS NOT NULL, "
	"         'xid_age', age(coalesce(a.backend_xmin, a.backend_xid))), "
	"       a.xact_start, "
	"       format('SELECT pg_terminate_backend(%s);', a.pid), "
	"       'none' "
	"  FROM pg_stat_activity a, clock_timestamp() t (now) "
	" WHERE a.backend_type = 'client backend' "
	"   AND extract(epoch FROM t.now - a.xact_start) >= $1 "
	"   AND NOT (a.state LIKE 'idle in transaction%' "
	"            AND extract(epoch FROM t.now - a.state_change) >= $3) "
	"   AND NOT (a.state = 'active' "
	"            AND extract(epoch FROM t.now - a.query_start) >= $4) "
	"   AND a.pid <> pg_backend_pid() " UNLESS_TRACKED;

/*
 * Who waits for whom, as a tree: of the sessions that block it, each waiter
 * hangs below one that waits for nobody, or else below the one that waits
 * longest.  ddl: it asks for a lock on a table that others cannot overtake.
 * behind: the first such request above it.
 *
 * pg_blocking_pids() stops the lock manager for a moment, and its answers are
 * as long as the queues: it is asked only when somebody has waited for some
 * time, and once for all who wait for the same lock in the same mode.
 */
#define LOCK_TREE                                                                            \
	"waiter AS MATERIALIZED ("                                                               \
	" SELECT l.pid, coalesce(l.waitstart, t.now) AS since, t.now, l.locktype, l.mode, "      \
	"        l.relation, d.datname = current_database() AS is_here, "                        \
	"        l.locktype = 'relation' "                                                       \
	"        AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', "         \
	"                       'AccessExclusiveLock') AS ddl, "                                 \
	"        first_value(l.pid) OVER (PARTITION BY l.locktype, l.database, l.relation, "     \
	"          l.page, l.tuple, l.virtualxid, l.transactionid::text, l.classid, l.objid, "   \
	"          l.objsubid, l.mode ORDER BY l.waitstart) AS first "                           \
	"   FROM pg_locks l LEFT JOIN pg_database d ON d.oid = l.database, "                     \
	"        clock_timestamp() t (now) "                                                     \
	"  WHERE NOT l.granted "                                                                 \
	"    AND (SELECT count(*) > 0 FROM pg_stat_activity s WHERE s.wait_event_type = 'Lock')" \
	"), blocked AS MATERIALIZED ("                                                           \
	" SELECT DISTINCT ON (w.pid) w.pid, b.pid AS blocker "                                   \
	"   FROM waiter w CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) b (pid) "           \
	"   LEFT JOIN waiter ahead ON ahead.pid = b.pid "                                        \
	"  WHERE w.pid = w.first "                                                               \
	"    AND (SELECT max(o.now - o.since) >= '1 second' FROM waiter o) "                     \
	"  ORDER BY w.pid, ahead.since NULLS FIRST, b.pid"                                       \
	"), edge AS MATERIALIZED ("                                                              \
	" SELECT w.*, b.blocker FROM waiter w JOIN blocked b ON b.pid = w.first"                 \
	"), tree AS ("                                                                           \
	" SELECT e.*, e.blocker AS root, 1 AS depth, NULL::int AS behind "                       \
	"   FROM edge e "                                                                        \
	"  WHERE NOT EXISTS (SELECT FROM edge o WHERE o.pid = e.blocker) "                       \
	" UNION ALL "                                                                            \
	" SELECT e.*, t.root, t.depth + 1, coalesce(t.behind, CASE WHEN t.ddl THEN t.pid END) "  \
	"   FROM tree t JOIN edge e ON e.blocker = t.pid"                                        \
	") "

#define ROLLBACK_PREPARED                                                                   \
	SQL_IN_DATABASE(                                                                        \
		"p.database",                                                                       \
		"format('ROLLBACK PREPARED %L; -- or COMMIT PREPARED, if its coordinator says so'," \
		"       p.gid)")

/* The tables that a waiter and those behind it want are told once: by ddl_queue. */
static const char lock_chain[] =
	"WITH RECURSIVE " LOCK_TREE ", chain AS ("
	" SELECT w.root, max(w.now - w.since) AS waits, min(w.since) AS since, count(*) AS waiters, "
	"        count(*) FILTER (WHERE extract(epoch FROM w.now - w.since) >= $3) AS blocked, "
	"        max(w.depth) AS depth, "
	"        jsonb_agg(jsonb_build_object("
	"          'pid', w.pid, "
	"          'waits_for', w.blocker, "
	"          'seconds', extract(epoch FROM w.now - w.since)::bigint, "
	"          'lock', w.locktype, "
	"          'mode', w.mode, "
	"          'table', CASE WHEN w.is_here THEN w.relation::regclass::text END, "
	"          'query', left(a.query, 100)) ORDER BY w.n) FILTER (WHERE w.n <= 20) AS tree "
	"   FROM (SELECT w.*, row_number() OVER (PARTITION BY w.root ORDER BY w.depth, w.since) AS n "
	"           FROM tree w "
	"          WHERE w.behind IS NULL "
	"            AND NOT (w.ddl AND EXISTS (SELECT FROM tree o WHERE o.behind = w.pid))) w "
	"   LEFT JOIN pg_stat_activity a ON a.pid = w.pid AND w.n <= 20 "
	"  GROUP BY w.root"
	"), prepared AS (" /* one that a waiter waits for: pg_locks has no process for it */
	" SELECT p.gid, p.database "
	"   FROM pg_prepared_xacts p "
	"  WHERE EXISTS (SELECT FROM chain c WHERE c.root = 0) "
	"    AND EXISTS (SELECT FROM pg_locks own "
	"                 JOIN pg_locks held ON held.virtualtransaction = own.virtualtransaction "
	"                  AND held.pid IS NULL AND held.granted "
	"                 JOIN pg_locks wanted ON NOT wanted.granted "
	"                  AND (wanted.locktype, wanted.database, wanted.relation, "
	"                       wanted.transactionid) "
	"                  IS NOT DISTINCT FROM (held.locktype, held.database, held.relation, "
	"                                        held.transactionid) "
	"                WHERE own.transactionid = p.transaction "
	"                  AND own.pid IS NULL AND own.granted) "
	"  ORDER BY p.prepared LIMIT 1"
	") "
	"SELECT CASE WHEN extract(epoch FROM c.waits) >= $2 THEN 'critical' ELSE 'warning' END, "
	"       CASE WHEN c.root = 0 THEN format('prepared transaction %s', p.gid) "
	"            ELSE format('pid %s', c.root) END, "
	"       format('%s blocks %s session(s), the first for %s', "
	"              CASE WHEN c.root = 0 THEN format('prepared transaction %s', p.gid) "
	"                   WHEN a.usename IS NULL THEN format('%s %s', a.backend_type, c.root) "
	"                   ELSE " SESSION_NAME " || coalesce(', ' || a.state || ',', '') END, "
	"              c.waiters, date_trunc('second', c.waits)), "
	"       jsonb_build_object(" SESSION_EVIDENCE ", "
	"         'root', c.root, "
	"         'state', a.state, "
	"         'transaction_seconds', extract(epoch FROM clock_timestamp() - a.xact_start)::bigint, "
	"         'waiters', c.waiters, "
	"         'longest_wait_seconds', extract(epoch FROM c.waits)::bigint, "
	"         'depth', c.depth, "
	"         'tree', c.tree), "
	"       c.since, "
	"       CASE WHEN c.root = 0 THEN " ROLLBACK_PREPARED
	"            WHEN a.state = 'active' THEN format('SELECT pg_cancel_backend(%s);', c.root) "
	"            ELSE format('SELECT pg_terminate_backend(%s);', c.root) END, "
	"       'none' "
	"  FROM chain c "
	"  LEFT JOIN pg_stat_activity a ON a.pid = c.root "
	"  LEFT JOIN prepared p ON c.root = 0 "
	" WHERE (extract(epoch FROM c.waits) >= $1 OR c.blocked >= $4) "
	"   AND (a.pid IS NOT NULL OR p.gid IS NOT NULL)";

static const char ddl_queue[] =
	"WITH RECURSIVE " LOCK_TREE ", queue AS ("
	" SELECT o.behind AS pid, count(*) AS sessions, "
	"        jsonb_agg(jsonb_build_object("
	"          'pid', o.pid, "
	"          'seconds', extract(epoch FROM o.now - o.since)::bigint, "
	"          'mode', o.mode, "
	"          'query', left(s.query, 100)) ORDER BY o.n) FILTER (WHERE o.n <= 20) AS list "
	"   FROM (SELECT t.*, row_number() OVER (PARTITION BY t.behind ORDER BY t.since) AS n "
	"           FROM tree t "
	"          WHERE t.behind IS NOT NULL) o "
	"   LEFT JOIN pg_stat_activity s ON s.pid = o.pid AND o.n <= 20 "
	"  GROUP BY o.behind"
	") "
	"SELECT CASE WHEN extract(epoch FROM w.now - w.since) >= $2 THEN 'critical' "
	"            ELSE 'warning' END, "
	"       format('pid %s', w.pid), "
	"       format('%s has waited %s for %s on %s, and %s session(s) queue behind it', "
	"              " SESSION_NAME ", date_trunc('second', w.now - w.since), w.mode, "
	"              CASE WHEN w.is_here THEN w.relation::regclass::text "
	"                   ELSE 'a table of another database' END, "
	"              q.sessions), "
	"       jsonb_build_object(" SESSION_EVIDENCE ", "
	"         'table', CASE WHEN w.is_here THEN w.relation::regclass::text END, "
	"         'mode', w.mode, "
	"         'seconds', extract(epoch FROM w.now - w.since)::bigint, "
	"         'queued', q.sessions, "
	"         'queue', q.list, "
	"         'blocked_by', w.blocker, "
	"         'root', w.root, "
	"         'root_state', r.state, "
	"         'root_query', left(r.query, 100)), "
	"       w.since, "
	"       format('SELECT pg_cancel_backend(%s);', w.pid), "
	"       'none' "
	"  FROM tree w JOIN queue q ON q.pid = w.pid "
	"  JOIN pg_stat_activity a ON a.pid = w.pid "
	"  LEFT JOIN pg_stat_activity r ON r.pid = w.root "
	" WHERE extract(epoch FROM w.now - w.since) >= $1";

/* The longest idle go, as many as it takes to be well below the threshold. */
static const char connections[] =
	"SELECT CASE WHEN u.percent >= $2 OR u.used >= u.room THEN 'critical' ELSE 'warning' END, "
	"       'max_connections', "
	"       format('%s of %s connections are taken (%s %%), %s of them idle%s', "
	"              u.used, u.most, u.percent, u.idle, "
	"              CASE WHEN u.used >= u.room THEN ': what is left is for superusers' END), "
	"       jsonb_build_object("
	"         'used', u.used, "
	"         'max_connections', u.most, "
	"         'without_reserved', u.room, "
	"         'percent', u.percent, "
	"         'idle', u.idle, "
	"         'idle_in_transaction', u.open, "
	"         'active', u.active, "
	"         'by_role', (SELECT jsonb_object_agg(r.usename, r.n) "
	"                       FROM (SELECT coalesce(a.usename, '?') AS usename, count(*) AS n "
	"                               FROM pg_stat_activity a "
	"                              WHERE a.backend_type = 'client backend' "
	"                              GROUP BY 1 ORDER BY 2 DESC LIMIT 5) r)), "
	"       NULL::timestamptz, "
	"       CASE WHEN u.idle > 0 "
	"            THEN format('SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity"
	" WHERE backend_type = ''client backend'' AND state = ''idle'' AND pid <> pg_backend_pid()"
	" ORDER BY state_change LIMIT %s) longest_idle;', "
	"                        least(u.idle, "
	"                              u.used - floor(u.most * greatest($1 - 5, 0) / 100))) "
	"            ELSE format('ALTER SYSTEM SET max_connections = %s; -- then restart; better: a pool', "
	"                        current_setting('max_connections')::int * 2) END, "
	"       CASE WHEN u.idle > 0 THEN 'none' ELSE 'restart of the server' END "
	"  FROM (SELECT c.*, round(100.0 * c.used / c.most, 1) AS percent "
	"          FROM (SELECT count(*) AS used, "
	"                       count(*) FILTER (WHERE a.state = 'idle') AS idle, "
	"                       count(*) FILTER (WHERE a.state LIKE 'idle in%') AS open, "
	"                       count(*) FILTER (WHERE a.state = 'active') AS active, "
	"                       current_setting('max_connections')::int AS most, "
	"                       greatest(current_setting('max_connections')::int "
	"                                - " COMPAT_RESERVED_CONNECTIONS ", 1) AS room "
	"                  FROM pg_stat_activity a "
	"                 WHERE a.backend_type = 'client backend') c) u "
	" WHERE u.percent >= $1";

/* A limit of one is a way to say "only once", and meant to be reached. */
static const char connection_limits[] =
	"WITH session AS MATERIALIZED ("
	" SELECT a.usesysid, a.datid, count(*) AS n "
	"   FROM pg_stat_activity a "
	"  WHERE a.backend_type IN ('client backend', 'walsender') "
	"  GROUP BY a.usesysid, a.datid"
	"), usage AS ("
	" SELECT 'role' AS kind, r.rolname AS name, r.rolconnlimit AS most, sum(s.n)::bigint AS used "
	"   FROM pg_roles r JOIN session s ON s.usesysid = r.oid "
	"  WHERE r.rolconnlimit > 1 AND NOT r.rolsuper "
	"  GROUP BY r.rolname, r.rolconnlimit "
	" UNION ALL "
	" SELECT 'database', d.datname, d.datconnlimit, sum(s.n)::bigint "
	"   FROM pg_database d JOIN session s ON s.datid = d.oid "
	"  WHERE d.datconnlimit > 1 "
	"  GROUP BY d.datname, d.datconnlimit"
	") "
	"SELECT 'warning', "
	"       format('%s %I', u.kind, u.name), "
	"       format('%s %I has %s of the %s connections that its limit allows', "
	"              u.kind, u.name, u.used, u.most), "
	"       jsonb_build_object('used', u.used, 'limit', u.most, "
	"         'percent', round(100.0 * u.used / u.most, 1)), "
	"       NULL::timestamptz, "
	"       format('ALTER %s %I CONNECTION LIMIT %s;', upper(u.kind), u.name, "
	"              least(u.most::bigint * 2, 2147483647)), "
	"       'none' "
	"  FROM usage u "
	" WHERE 100.0 * u.used / u.most >= $1";

static const char deadlocks[] =
	"SELECT 'warning', "
	"       format('database %I', current_database()), "
	"       format('%s deadlock(s) within %s', "
	"              d.deadlocks, date_trunc('second', make_interval(secs => d.seconds))), "
	"       jsonb_build_object('deadlocks', d.deadlocks, 'seconds', d.seconds::bigint, "
	"         'basis', d.basis), "
	"       d.since, "
	"       " SQL_RESTART_WINDOW
	"       || ' -- after the sessions named in the server log take their locks in one order', "
	"       'none' "
	"  FROM pgopt.counter_deltas() d "
	" WHERE d.deadlocks >= greatest($1, 1)";

static const char prepared_transactions[] =
	"SELECT CASE WHEN extract(epoch FROM t.now - p.prepared) >= $2 THEN 'critical' "
	"            ELSE 'warning' END, "
	"       p.gid, "
	"       format('prepared transaction %s of role %s in database %s has waited %s for its end', "
	"              p.gid, p.owner, p.database, date_trunc('second', t.now - p.prepared)), "
	"       jsonb_build_object('gid', p.gid, 'owner', p.owner, 'database', p.database, "
	"         'seconds', extract(epoch FROM t.now - p.prepared)::bigint, "
	"         'xid_age', age(p.transaction)), "
	"       p.prepared, "
	"       " ROLLBACK_PREPARED ", "
	"       'none' "
	"  FROM pg_prepared_xacts p, clock_timestamp() t (now) "
	" WHERE extract(epoch FROM t.now - p.prepared) >= $1";

const HealthCheck checks_activity[] = {
	{
		.id = "idle_in_transaction",
		.family = "transactions",
		.weight = 1,
		.flags = CHECK_QUICK,
		.needs = "pg_read_all_stats",
		.thresholds = {&idle_warning, &idle_critical},
		.reference = PG_DOCS("runtime-config-client.html#GUC-IDLE-IN-TRANSACTION-SESSION-TIMEOUT"),
		.query = idle_in_transaction,
	},
	{
		.id = "long_transaction",
		.family = "transactions",
		.weight = 1,
		.flags = CHECK_QUICK,
		.needs = "pg_read_all_stats",
		.thresholds = {&transaction_warning, &transaction_critical, &idle_warning, &query_warning},
		.reference = PG_DOCS("routine-vacuuming.html"),
		.query = long_transaction,
	},
	{
		.id = "prepared_transactions",
		.family = "transactions",
		.weight = 1.5,
		.flags = CHECK_QUICK,
		.thresholds = {&prepared_warning, &prepared_critical},
		.reference = PG_DOCS("sql-prepare-transaction.html"),
		.query = prepared_transactions,
	},
	{
		.id = "long_query",
		.family = "queries",
		.weight = 1,
		.flags = CHECK_QUICK,
		.needs = "pg_read_all_stats",
		.thresholds = {&query_warning, &query_critical},
		.reference = PG_DOCS("runtime-config-client.html#GUC-STATEMENT-TIMEOUT"),
		.query = long_query,
	},
	{
		.id = "lock_chain",
		.family = "locks",
		.weight = 1.5,
		.flags = CHECK_QUICK,
		.needs = "pg_read_all_stats",
		.thresholds = {&wait_warning, &wait_critical, &wait_counted, &wait_sessions},
		.reference = PG_DOCS("view-pg-locks.html"),
		.query = lock_chain,
	},
	{
		.id = "ddl_queue",
		.family = "locks",
		.weight = 1.5,
		.flags = CHECK_QUICK,
		.needs = "pg_read_all_stats",
		.thresholds = {&ddl_warning, &ddl_critical},
		.reference = PG_DOCS("runtime-config-client.html#GUC-LOCK-TIMEOUT"),
		.query = ddl_queue,
	},
	{
		.id = "deadlocks",
		.family = "locks",
		.weight = 1,
		.flags = CHECK_DELTAS,
		.thresholds = {&deadlocks_warning},
		.reference = PG_DOCS("explicit-locking.html#LOCKING-DEADLOCKS"),
		.query = deadlocks,
	},
	{
		.id = "connections",
		.family = "connections",
		.weight = 1.5,
		.flags = CHECK_QUICK,
		.needs = "pg_read_all_stats",
		.thresholds = {&connections_warning, &connections_critical},
		.reference = PG_DOCS("runtime-config-connection.html#GUC-MAX-CONNECTIONS"),
		.query = connections,
	},
	{
		.id = "connection_limits",
		.family = "connections",
		.weight = 1,
		.needs = "pg_read_all_stats",
		.thresholds = {&limit_warning},
		.reference = PG_DOCS("sql-alterrole.html"),
		.query = connection_limits,
	},
};

const int checks_activity_count = lengthof(checks_activity);
