/*
 * checks_replication.c
 *		Standbys, slots and subscriptions: does what is written here arrive,
 *		and what does the server keep for those that do not come?
 */
#include "pgopt.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "replication/syncrep.h"
#include "replication/walreceiver.h"
#include "replication/walsender.h"
#include "storage/spin.h"
#include "utils/guc.h"
#include "utils/pg_lsn.h"

#include "compat.h"
#include "health.h"

static Threshold slot_inactive_critical = {
	.name = "slot_inactive_critical",
	.unit = UNIT_MB,
	.boot_value = 1024,
	.description = "WAL kept for a slot that nobody uses from which it is critical.",
};

static Threshold retention_warning = {
	.name = "slot_retention_warning",
	.unit = UNIT_MB,
	.boot_value = 100,
	.description = "WAL kept for a slot in use from which it is a warning.",
};

static Threshold retention_critical = {
	.name = "slot_retention_critical",
	.unit = UNIT_MB,
	.boot_value = 1024,
	.description = "WAL kept for a slot in use from which it is critical.",
};

static Threshold slot_xmin_warning = {
	.name = "slot_xmin_warning",
	.unit = UNIT_NUMBER,
	.boot_value = 10000000,
	.description = "Transactions that a slot holds cleanup back by from which it is a warning.",
};

static Threshold slot_xmin_critical = {
	.name = "slot_xmin_critical",
	.unit = UNIT_NUMBER,
	.boot_value = 100000000,
	.description = "Transactions that a slot holds cleanup back by from which it is critical.",
};

static Threshold lag_warning = {
	.name = "replication_lag_warning",
	.unit = UNIT_MB,
	.boot_value = 100,
	.description = "WAL that a standby or subscriber is behind from which it is a warning.",
};

static Threshold lag_critical = {
	.name = "replication_lag_critical",
	.unit = UNIT_MB,
	.boot_value = 1024,
	.description = "WAL that a standby or subscriber is behind from which it is critical.",
};

static Threshold conflicts_info = {
	.name = "recovery_conflicts_info",
	.unit = UNIT_NUMBER,
	.boot_value = 1,
	.description =
		"Queries that recovery cancelled on a standby within the hour from which they are told.",
};

/* Where the server's WAL is. */
#define CURRENT_LSN                                                \
	"CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() " \
	"     ELSE pg_current_wal_lsn() END "

/* Slots, without those that go away by themselves; a standby's copies of its primary's are that one's. */
#define SLOTS                                                                                   \
	"(SELECT s.slot_name, s.slot_type, s.plugin, s.database, s.active, s.active_pid, "          \
	"        s.wal_status, s.restart_lsn, s.safe_wal_size, "                                    \
	"        coalesce(" COMPAT_SLOT_LOST ", false) AS lost, "                                   \
	"        " COMPAT_SLOT_LOST_REASON " AS reason, "                                           \
	"        " COMPAT_SLOT_INACTIVE_SINCE " AS inactive_since, "                                \
	"        greatest(age(s.xmin), age(s.catalog_xmin)) AS xids, "                              \
	"        greatest(pg_wal_lsn_diff(" CURRENT_LSN ", s.restart_lsn), 0)::bigint AS retained " \
	"   FROM pg_replication_slots s "                                                           \
	"  WHERE NOT s.temporary AND NOT " COMPAT_SLOT_SYNCED ") s "

#define SLOT_EVIDENCE                    \
	"'slot', s.slot_name, "              \
	"'type', s.slot_type, "              \
	"'plugin', s.plugin, "               \
	"'database', s.database, "           \
	"'active_pid', s.active_pid, "       \
	"'wal_status', s.wal_status, "       \
	"'restart_lsn', s.restart_lsn, "     \
	"'retained_bytes', s.retained, "     \
	"'safe_wal_size', s.safe_wal_size, " \
	"'xid_age', s.xids "

/* A logical slot is dropped in its database. */
#define DROP_SLOT                                               \
	SQL_IN_DATABASE("coalesce(s.database, current_database())", \
					"format('SELECT pg_drop_replication_slot(%L);', s.slot_name)")

static const char slot_inactive[] =
	"SELECT CASE WHEN s.retained >= $1 OR s.wal_status = 'unreserved' THEN 'critical' "
	"            WHEN s.restart_lsn IS NULL AND s.xids IS NULL THEN 'info' "
	"            ELSE 'warning' END, "
	"       format('slot %I', s.slot_name), "
	"       CASE WHEN s.restart_lsn IS NULL AND s.xids IS NULL "
	"            THEN format('nobody uses %s slot %I; it has kept nothing so far', "
	"                        s.slot_type, s.slot_name) "
	"            ELSE format('nobody uses %s slot %I, for which the server keeps %s of WAL, and more "
	"with every write', "
	"                        s.slot_type, s.slot_name, pg_size_pretty(coalesce(s.retained, 0))) END, "
	"       jsonb_build_object(" SLOT_EVIDENCE "), "
	"       s.inactive_since, "
	"       " DROP_SLOT " || ' -- if nobody will come back for it', "
	"       'none' "
	"  FROM " SLOTS " WHERE NOT s.active AND NOT s.lost";

static const char slot_lost[] =
	"SELECT 'critical', "
	"       format('slot %I', s.slot_name), "
	"       format('%s slot %I is lost (%s): whoever used it must be set up again', "
	"              s.slot_type, s.slot_name, s.reason), "
	"       jsonb_build_object(" SLOT_EVIDENCE ", 'reason', s.reason), "
	"       s.inactive_since, "
	"       " DROP_SLOT ", "
	"       'none' "
	"  FROM " SLOTS " WHERE s.lost";

/* One whose walsender is told by replication_lag is not told again. */
static const char slot_retention[] =
	"SELECT CASE WHEN s.retained >= $2 THEN 'critical' ELSE 'warning' END, "
	"       format('slot %I', s.slot_name), "
	"       format('the server keeps %s of WAL for %s slot %I, which is in use', "
	"              pg_size_pretty(s.retained), s.slot_type, s.slot_name), "
	"       jsonb_build_object(" SLOT_EVIDENCE ", "
	"         'application', r.application_name, "
	"         'lag_bytes', pg_wal_lsn_diff(" CURRENT_LSN ", r.replay_lsn)), "
	"       NULL::timestamptz, NULL, NULL "
	"  FROM " SLOTS "  LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid "
	" WHERE s.active AND NOT s.lost "
	"   AND s.retained >= $1 "
	"   AND coalesce(pg_wal_lsn_diff(" CURRENT_LSN ", r.replay_lsn), 0) < $3";

static const char slot_xmin[] =
	"SELECT CASE WHEN s.xids >= $2 THEN 'critical' ELSE 'warning' END, "
	"       format('slot %I', s.slot_name), "
	"       format('%s slot %I, %s, keeps VACUUM from removing what %s transactions left behind', "
	"              s.slot_type, s.slot_name, "
	"              CASE WHEN s.active THEN 'in use' ELSE 'used by nobody' END, s.xids), "
	"       jsonb_build_object(" SLOT_EVIDENCE ", 'active', s.active), "
	"       s.inactive_since, "
	"       CASE WHEN NOT s.active THEN " DROP_SLOT
	" || ' -- if nobody will come back for it' END, "
	"       CASE WHEN NOT s.active THEN 'none' END "
	"  FROM " SLOTS " WHERE s.xids >= $1 AND NOT s.lost";

static const char slot_unlimited[] =
	"SELECT 'info', "
	"       'max_slot_wal_keep_size', "
	"       format('the server keeps WAL without limit for %s slot(s): one that nobody comes for fills "
	"the disk', count(*)), "
	"       jsonb_build_object('slots', count(*), "
	"         'max_slot_wal_keep_size', current_setting('max_slot_wal_keep_size')), "
	"       NULL::timestamptz, "
	"       format('ALTER SYSTEM SET max_slot_wal_keep_size = %L; SELECT pg_reload_conf(); -- less than "
	"the disk of pg_wal has', "
	"              pg_size_pretty(greatest(8 * pg_size_bytes(current_setting('max_wal_size')), "
	"                                      pg_size_bytes('8GB'), " /* or it would end slots */
	"                                      max(2 * pg_wal_lsn_diff(" CURRENT_LSN ", "
	"                                                              s.restart_lsn))::bigint))), "
	"       'none' "
	"  FROM pg_replication_slots s "
	" WHERE NOT s.temporary "
	"   AND current_setting('max_slot_wal_keep_size') = '-1' "
	"HAVING count(*) > 0";

/* Those that this server sends to, and what it has received itself but not replayed. */
static const char replication_lag[] =
	"SELECT CASE WHEN r.lag >= $2 THEN 'critical' ELSE 'warning' END, "
	"       r.application_name, "
	"       format('%s is %s of WAL behind (%s)', "
	"              r.application_name, pg_size_pretty(r.lag), r.state), "
	"       jsonb_build_object("
	"         'application', r.application_name, "
	"         'client', coalesce(host(r.client_addr), 'local'), "
	"         'state', r.state, "
	"         'lag_bytes', r.lag, "
	"         'unsent_bytes', pg_wal_lsn_diff(" CURRENT_LSN ", r.sent_lsn)::bigint, "
	"         'unflushed_bytes', pg_wal_lsn_diff(" CURRENT_LSN ", r.flush_lsn)::bigint, "
	"         'replay_lag_seconds', extract(epoch FROM r.replay_lag), "
	"         'sync_state', r.sync_state, "
	"         'slot', r.slot_name), "
	"       NULL::timestamptz, "
	"       '-- on the receiver: is replay paused (then SELECT pg_wal_replay_resume();), does a "
	"query hold it up, is its disk or the network too slow?', "
	"       NULL "
	"  FROM (SELECT r.*, s.slot_name, "
	"               pg_wal_lsn_diff(" CURRENT_LSN ", "
	"                 coalesce(r.replay_lsn, r.flush_lsn, r.write_lsn, r.sent_lsn))::bigint AS lag "
	"          FROM pg_stat_replication r "
	"          LEFT JOIN pg_replication_slots s ON s.active_pid = r.pid "
	"         WHERE r.state IN ('streaming', 'catchup', 'stopping')) r "
	" WHERE r.lag >= $1 "
	"UNION ALL "
	"SELECT CASE WHEN l.delay <> '0' THEN 'info' "
	"            WHEN l.lag >= $2 THEN 'critical' ELSE 'warning' END, "
	"       'this standby', "
	"       format('this standby has received %s of WAL that it has not replayed', "
	"              pg_size_pretty(l.lag)), "
	"       jsonb_build_object("
	"         'lag_bytes', l.lag, "
	"         'received_lsn', pg_last_wal_receive_lsn(), "
	"         'replayed_lsn', pg_last_wal_replay_lsn(), "
	"         'last_replayed_transaction', pg_last_xact_replay_timestamp(), "
	"         'replay', CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() END, "
	"         'recovery_min_apply_delay', l.delay), "
	"       NULL::timestamptz, "
	"       CASE WHEN l.paused THEN 'SELECT pg_wal_replay_resume();' END, "
	"       CASE WHEN l.paused THEN 'none' END "
	"  FROM (SELECT pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::bigint AS lag, "
	"               current_setting('recovery_min_apply_delay') AS delay, "
	"               CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() END AS paused) l "
	" WHERE pg_is_in_recovery() AND l.lag >= $1";

static const char subscription_down[] =
	"SELECT CASE WHEN s.subenabled THEN 'critical' ELSE 'warning' END, "
	"       format('subscription %I', s.subname), "
	"       CASE WHEN s.subenabled "
	"            THEN format('no process applies the changes of subscription %I%s: the server log says why', "
	"                        s.subname, "
	"                        CASE WHEN e.apply_error_count > 0 "
	"                             THEN format(' (%s errors so far)', e.apply_error_count) END) "
	"            WHEN s.subdisableonerr AND e.apply_error_count + e.sync_error_count > 0 "
	"            THEN format('subscription %I disabled itself after an error', s.subname) "
	"            ELSE format('subscription %I is disabled', s.subname) END, "
	"       jsonb_build_object("
	"         'subscription', s.subname, "
	"         'enabled', s.subenabled, "
	"         'slot', s.subslotname, "
	"         'publications', s.subpublications, "
	"         'apply_errors', e.apply_error_count, "
	"         'sync_errors', e.sync_error_count), "
	"       NULL::timestamptz, "
	"       CASE WHEN s.subenabled "
	"            THEN format('-- is the publisher there?  A change that cannot be applied: ALTER SUBSCRIPTION %I"
	" SKIP (lsn = ...), with the LSN of the server log', translate(s.subname, E'\\n\\r', '  ')) "
	"            WHEN s.subslotname IS NULL "
	"            THEN format('DROP SUBSCRIPTION %I; -- it has no slot; or give it one and enable it', "
	"                        s.subname) "
	"            ELSE format('ALTER SUBSCRIPTION %I ENABLE;', s.subname) END, "
	"       CASE WHEN NOT s.subenabled THEN 'none' END "
	"  FROM pg_subscription s "
	"  JOIN pg_database d ON d.oid = s.subdbid "
	"  LEFT JOIN pg_stat_subscription_stats e ON e.subid = s.oid "
	" WHERE d.datname = current_database() "
	"   AND NOT pg_is_in_recovery() "
	"   AND (NOT s.subenabled "
	"        OR NOT EXISTS (SELECT FROM pg_stat_subscription w "
	"                        WHERE w.subid = s.oid AND w.pid IS NOT NULL AND w.relid IS NULL)) "
	"UNION ALL "
	"SELECT 'warning', "
	"       format('subscription %I', s.subname), "
	"       format('the first copy of %s of subscription %I fails again and again: the server log says why', "
	"              string_agg(r.srrelid::regclass::text, ', ' ORDER BY r.srrelid), s.subname), "
	"       jsonb_build_object("
	"         'subscription', s.subname, "
	"         'tables', jsonb_agg(r.srrelid::regclass::text ORDER BY r.srrelid), "
	"         'sync_errors', max(e.sync_error_count)), "
	"       NULL::timestamptz, "
	"       string_agg(format('-- TRUNCATE %s; if the publisher has all of its rows', "
	/* a name of several lines would end the comment */
	"                         translate(r.srrelid::regclass::text, E'\\n\\r', '  ')), "
	"                  E'\\n' ORDER BY r.srrelid), "
	"       'ACCESS EXCLUSIVE on the table' "
	"  FROM pg_subscription s "
	"  JOIN pg_database d ON d.oid = s.subdbid "
	"  JOIN pg_subscription_rel r ON r.srsubid = s.oid AND r.srsubstate IN ('i', 'd') "
	"  JOIN pg_stat_subscription_stats e ON e.subid = s.oid "
	" WHERE d.datname = current_database() "
	"   AND NOT pg_is_in_recovery() "
	"   AND s.subenabled "
	"   AND e.sync_error_count > 0 "
	"   AND NOT EXISTS (SELECT FROM pg_stat_subscription w "
	"                    WHERE w.subid = s.oid AND w.relid = r.srrelid AND w.pid IS NOT NULL) "
	" GROUP BY s.subname";

/* Commits wait for ever. */
static void
check_sync_standbys(HealthRun *run)
{
	SyncRepStandbyData *standbys;
	int connected;
	/* what the caller set for himself is no matter */
	const char *commit = GetConfigOptionResetString("synchronous_commit");
	bool waits = strcmp(commit, "off") != 0 && strcmp(commit, "local") != 0;
	const char *names = GetConfigOption("synchronous_standby_names", false, false);
	Finding finding = {
		.severity = waits ? "critical" : "info",
		.object = "synchronous_standby_names",
		.remedy = "ALTER SYSTEM SET synchronous_standby_names = '';"
				  " SELECT pg_reload_conf(); -- commits then wait for no standby",
		.remedy_lock = "none",
	};

	if (RecoveryInProgress() || max_wal_senders == 0 || SyncRepConfig == NULL)
		return;
	connected = SyncRepGetCandidateStandbys(&standbys);
	if (connected >= SyncRepConfig->num_sync)
		return;
	finding.message =
		psprintf("%d of the %d synchronous standbys are connected: commits %s",
				 connected,
				 SyncRepConfig->num_sync,
				 waits ? "wait until the others come" : "would wait, but for synchronous_commit");
	finding.evidence =
		psprintf("{\"connected\": %d, \"required\": %d, "
				 "\"synchronous_standby_names\": %s, \"synchronous_commit\": \"%s\"}",
				 connected,
				 SyncRepConfig->num_sync,
				 health_json_string(names),
				 commit);
	health_report(run, &finding);
}

/* Its receiver says it streams as soon as it starts: only when it is connected it shows itself. */
static void
check_standby_connected(HealthRun *run)
{
	bool streams;
	bool from_archive = recoveryRestoreCommand != NULL && recoveryRestoreCommand[0] != '\0';
	XLogRecPtr received;
	XLogRecPtr replayed;
	TimestampTz last = GetLatestXTime();
	Finding finding = {
		.severity = from_archive ? "warning" : "critical",
		.object = "this standby",
		.remedy =
			"-- does the primary run, and does it let primary_conninfo in?  The server log says why not",
	};

	if (!RecoveryInProgress() || PrimaryConnInfo == NULL || PrimaryConnInfo[0] == '\0')
		return;
	SpinLockAcquire(&WalRcv->mutex);
	streams = WalRcv->ready_to_display &&
			  (WalRcv->walRcvState == WALRCV_STREAMING || WalRcv->walRcvState == WALRCV_RESTARTING);
	SpinLockRelease(&WalRcv->mutex);
	if (streams)
		return;
	received = GetWalRcvFlushRecPtr(NULL, NULL);
	replayed = GetXLogReplayRecPtr(NULL);
	finding.message =
		psprintf("this standby is not connected to its primary%s",
				 from_archive ? ", and lives on what it restores from the archive" : "");
	finding.evidence = psprintf("{\"received_lsn\": \"%X/%X\", \"replayed_lsn\": \"%X/%X\", "
								"\"last_replayed_transaction\": %s, \"restore_command\": %s}",
								LSN_FORMAT_ARGS(received),
								LSN_FORMAT_ARGS(replayed),
								last == 0 ? "null" : health_json_string(timestamptz_to_str(last)),
								from_archive ? "true" : "false");
	finding.since = last;
	health_report(run, &finding);
}

static const char replay_paused[] =
	"SELECT 'warning', "
	"       'this standby', "
	"       format('replay is paused: this standby is %s of WAL behind what it has received', "
	"              pg_size_pretty(p.lag)), "
	"       jsonb_build_object('state', p.state, 'lag_bytes', p.lag, "
	"         'last_replayed_transaction', pg_last_xact_replay_timestamp()), "
	"       pg_last_xact_replay_timestamp(), "
	"       'SELECT pg_wal_replay_resume();', "
	"       'none' "
	"  FROM (SELECT CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() END AS state, "
	"               coalesce(pg_wal_lsn_diff(pg_last_wal_receive_lsn(), "
	"                                        pg_last_wal_replay_lsn()), 0)::bigint AS lag) p "
	" WHERE p.state <> 'not paused'";

static const char recovery_conflicts[] =
	"SELECT 'info', "
	"       format('database %I', current_database()), "
	"       format('recovery cancelled %s query(s) of this standby within %s', "
	"              d.conflicts, date_trunc('second', make_interval(secs => d.seconds))), "
	"       jsonb_build_object('conflicts', d.conflicts, 'seconds', d.seconds::bigint, "
	"         'hot_standby_feedback', current_setting('hot_standby_feedback'), "
	"         'max_standby_streaming_delay', current_setting('max_standby_streaming_delay')), "
	"       d.since, "
	"       CASE WHEN current_setting('hot_standby_feedback') = 'off' "
	"            THEN 'ALTER SYSTEM SET hot_standby_feedback = on; SELECT pg_reload_conf();' "
	"            ELSE " SQL_RESTART_WINDOW " END, "
	"       'none' "
	"  FROM pgopt.counter_deltas() d "
	" WHERE pg_is_in_recovery() AND d.conflicts >= greatest($1, 1)";

const HealthCheck checks_replication[] = {
	{
		.id = "slot_inactive",
		.family = "slots",
		.weight = 1,
		.thresholds = {&slot_inactive_critical},
		.reference = PG_DOCS("warm-standby.html#STREAMING-REPLICATION-SLOTS"),
		.query = slot_inactive,
	},
	{
		.id = "slot_lost",
		.family = "slots",
		.weight = 1,
		.reference = PG_DOCS("view-pg-replication-slots.html"),
		.query = slot_lost,
	},
	{
		.id = "slot_retention",
		.family = "slots",
		.weight = 1,
		.thresholds = {&retention_warning, &retention_critical, &lag_warning},
		.reference = PG_DOCS("view-pg-replication-slots.html"),
		.query = slot_retention,
	},
	{
		.id = "slot_xmin",
		.family = "slots",
		.weight = 1,
		.thresholds = {&slot_xmin_warning, &slot_xmin_critical},
		.reference = PG_DOCS("view-pg-replication-slots.html"),
		.query = slot_xmin,
	},
	{
		.id = "slot_unlimited",
		.family = "slots",
		.weight = 1,
		.reference = PG_DOCS("runtime-config-replication.html#GUC-MAX-SLOT-WAL-KEEP-SIZE"),
		.query = slot_unlimited,
	},
	{
		.id = "replication_lag",
		.family = "lag",
		.weight = 1,
		.flags = CHECK_QUICK,
		.needs = "pg_read_all_stats",
		.thresholds = {&lag_warning, &lag_critical},
		.reference = PG_DOCS("monitoring-stats.html#MONITORING-PG-STAT-REPLICATION-VIEW"),
		.query = replication_lag,
	},
	{
		.id = "sync_standby_missing",
		.family = "standbys",
		.weight = 2,
		.flags = CHECK_QUICK,
		.reference = PG_DOCS("warm-standby.html#SYNCHRONOUS-REPLICATION"),
		.run = check_sync_standbys,
	},
	{
		.id = "standby_disconnected",
		.family = "standbys",
		.weight = 1.5,
		.flags = CHECK_QUICK,
		.reference = PG_DOCS("warm-standby.html#STREAMING-REPLICATION"),
		.run = check_standby_connected,
	},
	{
		.id = "replay_paused",
		.family = "lag",
		.weight = 1,
		.flags = CHECK_QUICK,
		.reference = PG_DOCS("functions-admin.html#FUNCTIONS-RECOVERY-CONTROL"),
		.query = replay_paused,
	},
	{
		.id = "recovery_conflicts",
		.family = "conflicts",
		.weight = 1,
		.flags = CHECK_DELTAS,
		.thresholds = {&conflicts_info},
		.reference = PG_DOCS("hot-standby.html#HOT-STANDBY-CONFLICT"),
		.query = recovery_conflicts,
	},
	{
		.id = "subscription_down",
		.family = "subscriptions",
		.weight = 1.5,
		.reference = PG_DOCS("logical-replication-subscription.html"),
		.query = subscription_down,
	},
};

const int checks_replication_count = lengthof(checks_replication);
