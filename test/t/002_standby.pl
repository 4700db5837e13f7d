# A streaming standby: what only reads works there, what writes says why it cannot, no process of pgopt runs; on
# promotion they start, and views become fresh.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use PgoptTest;
use PgoptViews;

my $primary = pgopt_node('primary', extension => 'app', conf => "pgopt.worker_naptime = '500ms'\n");
create_checks($primary, 'app');
$primary->safe_psql('app', <<'SQL');
CREATE TABLE t (id int PRIMARY KEY, v int);
INSERT INTO t SELECT i, i FROM generate_series(1, 10) i;
CREATE MATERIALIZED VIEW first AS SELECT count(*) n, sum(v) s FROM t;
CREATE MATERIALIZED VIEW second AS SELECT n + s AS x FROM first;
CREATE UNIQUE INDEX ON second (x);
CREATE MATERIALIZED VIEW by_hand AS SELECT max(v) FROM t;
SELECT pgopt_manage('first', 'immediate'), pgopt_manage('second', 'immediate'), pgopt_manage('by_hand', 'manual');
SELECT pgopt_refresh('by_hand');
SQL
all_fresh($primary, 'app', 'on the primary');

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
# a change that the primary has not refreshed for: by_hand is stale from here on
$primary->safe_psql('app', 'UPDATE t SET v = 100 WHERE id = 1');
all_fresh_but($primary, 'by_hand');
$primary->wait_for_catchup($standby);

sub all_fresh_but
{
  my ($node, $view) = @_;
  ok(poll_until($node, 'app', "SELECT bool_and(fresh) FROM pgopt_matviews WHERE view::text <> '$view'"),
    'on ' . $node->name . ": every view but $view becomes fresh");
  return;
}

# --- what reads works
is($standby->safe_psql('app', 'SELECT pg_is_in_recovery()'), 't', 'the standby is in recovery');
is($standby->safe_psql('app', 'SELECT n, s FROM first'), $primary->safe_psql('app', 'SELECT n, s FROM first'),
  'refreshes of the primary reach the standby');
is($standby->safe_psql('app', 'SELECT view, strategy, fresh FROM pgopt_matviews ORDER BY 1'),
  "first|immediate|f\nsecond|immediate|f\nby_hand|manual|f", 'pgopt_matviews: no view is called fresh on a standby');
is($standby->safe_psql('app', 'SELECT count(*) FROM pgopt_matviews WHERE reason IS NULL OR last_refresh IS NULL'),
  0, 'pgopt_matviews: says why, and when the last refresh was');
is($standby->safe_psql('app', "SELECT string_agg(relation, ' ' ORDER BY depth, relation) FROM pgopt_matview_dependencies WHERE view = 'second'::regclass"),
  $primary->safe_psql('app', "SELECT string_agg(relation, ' ' ORDER BY depth, relation) FROM pgopt_matview_dependencies WHERE view = 'second'::regclass"),
  'pgopt_matview_dependencies');
is($standby->safe_psql('app', 'SELECT count(*) >= 0 FROM pgopt_table_changes'), 't', 'pgopt_table_changes');
my $health = $standby->safe_psql('app', 'SELECT score BETWEEN 0 AND 100, status IS NOT NULL, coverage IS NOT NULL, jsonb_typeof(findings) FROM pgopt_health()');
is($health, 't|t|t|array', 'pgopt_health()');
is($standby->safe_psql('app', 'SELECT count(*) > 0 FROM pgopt_checks()'), 't', 'pgopt_checks()');
is($standby->safe_psql('app', "SELECT jsonb_typeof(pgopt_health_json())"), 'object', 'pgopt_health_json()');
is($standby->safe_psql('app', "SELECT count(*) FROM pgopt_findings() WHERE check_id = 'pgopt_worker'"), 0,
  'that no worker runs is no finding on a standby');
is($standby->safe_psql('app', "SELECT count(*) FROM pgopt_checks() WHERE check_id IN ('pgopt_worker', 'matview_overdue') AND state = 'ok' AND reason IS NULL"),
  0, 'checks that cannot be made on a standby are not called passed');
is($standby->safe_psql('app', 'SELECT count(*) >= 0 FROM pgopt_refresh_advice()'), 't', 'pgopt_refresh_advice()');

# --- what writes says why it cannot
foreach my $call ("pgopt_manage('first')", "pgopt_unmanage('first'::regclass)", "pgopt_unmanage('first'::text)",
  "pgopt_refresh('first')", 'pgopt_refresh_all()', 'pgopt_refresh_due()')
{
  my ($code, $out, $err) = $standby->psql('app', "\\set VERBOSITY verbose\nSELECT $call");
  isnt($code, 0, "$call fails on a standby");
  my ($function) = $call =~ /^(\w+)/;
  like($err, qr/ERROR:  25006: cannot execute $function\(\) during recovery/, "$call: clear error, SQLSTATE 25006");
}
is($standby->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pgopt%'"), 0,
  'no launcher and no worker runs on a standby');
ok($standby->log_contains(qr/entering standby mode|started streaming/), 'the standby streams');

# --- a restart of the standby, and a plain session on it that lives through the promotion
$standby->restart;
my $session = $standby->background_psql('app');
is($session->query_safe('SELECT count(*) FROM pgopt_matviews WHERE fresh'), 0, 'nothing fresh after a restart of the standby');

# --- promotion, with a transaction that was prepared on the primary
$primary->safe_psql('app', "BEGIN; INSERT INTO t VALUES (50, 1000); PREPARE TRANSACTION 'carried over'");
$primary->wait_for_catchup($standby);
$primary->stop('immediate');
$standby->promote;
ok(poll_until($standby, 'app',
    "SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('pgopt launcher', 'pgopt worker') AND (datname = 'app' OR datname IS NULL)", '2', 30),
  'launcher and worker start on promotion');
ok(poll_until($standby, 'app', "SELECT count(DISTINCT view) = 2 FROM pgopt.refresh_log WHERE source = 'worker' AND started_at > (SELECT min(backend_start) FROM pg_stat_activity WHERE backend_type = 'pgopt launcher')", 't', 30),
  'views are refreshed on the new primary');
is(wrongly_fresh($standby, 'app'), '', 'no view is called fresh after promotion that is not');
is($standby->safe_psql('app', "SELECT fresh FROM pgopt_matviews WHERE view = 'by_hand'::regclass"), 'f',
  'a manual view that is stale is not called fresh after promotion');
is($standby->safe_psql('app', 'SELECT count(*) FROM pgopt_matviews WHERE fresh'), 0,
  'no view is called fresh while a transaction is prepared that changed what it reads');
$standby->safe_psql('app', "COMMIT PREPARED 'carried over'");
is(wrongly_fresh($standby, 'app'), '', 'no view is called fresh after COMMIT PREPARED that is not');
all_fresh_but($standby, 'by_hand');
is($standby->safe_psql('app', 'SELECT n FROM first'), 11, 'the new primary shows what was prepared on the old one');

# --- and it works on as any primary
is($session->query_safe("INSERT INTO t VALUES (51, 1); SELECT pgopt_refresh('by_hand') IS NOT NULL"), 't',
  'a session from before the promotion writes and refreshes');
$session->quit;
all_fresh($standby, 'app', 'on the new primary');
is($standby->safe_psql('app', 'SELECT n FROM first'), 12, 'changes are counted on the new primary');
no_crash($_) foreach ($primary, $standby);
$standby->stop;
note('took ' . started() . ' s');
done_testing();
