# pg_cron calls pgopt_refresh_due() where pgopt's own workers may not refresh.  pg_cron 1.4 knows whole minutes and
# @reboot only: the job at @reboot needs no waiting.  PGOPT_SLOW=1 also waits for the next minute.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use PgoptTest;
use PgoptViews;

plan skip_all => 'pg_cron is not installed' unless library_installed('pg_cron');

my $node = pgopt_node('main', preload => 'pg_cron, pgopt', extension => 'app', conf => <<'CONF');
pgopt.auto_refresh = off
cron.database_name = 'app'
cron.timezone = 'UTC'
CONF
$node->append_conf('postgresql.conf', "cron.host = '" . $node->host . "'\n");
$node->restart;
create_checks($node, 'app');
my $user = $node->safe_psql('app', 'SELECT current_user');
$node->safe_psql('app', <<'SQL');
CREATE EXTENSION pg_cron;
CREATE TABLE t (id int);
CREATE MATERIALIZED VIEW first AS SELECT count(*) n FROM t;
CREATE MATERIALIZED VIEW second AS SELECT n + 1 AS n FROM first;
CREATE MATERIALIZED VIEW not_due AS SELECT 1 AS x;
CREATE MATERIALIZED VIEW by_hand AS SELECT count(*) n FROM t;
SELECT pgopt_manage('first', 'immediate'), pgopt_manage('second', 'immediate'),
       pgopt_manage('not_due', 'scheduled', interval '1 hour'), pgopt_manage('by_hand', 'manual');
SELECT pgopt_refresh_all();
SELECT cron.schedule('at start', '@reboot', 'SELECT count(*) FROM pgopt_refresh_due()');
SELECT cron.schedule('every minute', '* * * * *', 'SELECT count(*) FROM pgopt_refresh_due()');
SQL
is($node->safe_psql('app', 'SELECT bool_and(fresh) FROM pgopt_matviews'), 't', 'all views are fresh at the start');

# --- the function itself, as a job would call it
my $log = "SELECT coalesce(max(id), 0) FROM pgopt.refresh_log";
my $from = $node->safe_psql('app', $log);
$node->safe_psql('app', 'INSERT INTO t VALUES (1)');
is($node->safe_psql('app', 'SELECT view, outcome FROM pgopt_refresh_due() ORDER BY view::text'),
  "first|refreshed\nsecond|refreshed", 'pgopt_refresh_due() refreshes what is due, and what reads it');
is($node->safe_psql('app', 'SELECT n FROM second'), 2, 'what reads it shows the change');
is($node->safe_psql('app', 'SELECT count(*) FROM pgopt_refresh_due()'), 0, 'nothing is due afterwards');
is($node->safe_psql('app', "SELECT string_agg(DISTINCT source, ' ') FROM pgopt.refresh_log WHERE id > $from"), 'due',
  'the log says who refreshed');

# --- the job: after a restart every view counts as not fresh
$node->safe_psql('app', 'INSERT INTO t VALUES (2)');
$from = $node->safe_psql('app', $log);
$node->restart;
my $ran = "SELECT count(*) FROM cron.job_run_details d JOIN cron.job j USING (jobid) WHERE j.jobname = 'at start' AND d.status = 'succeeded'";
ok(poll_until($node, 'app', $ran, '1', 20), 'pg_cron runs the job')
  or diag($node->safe_psql('app', 'SELECT * FROM cron.job_run_details'));
ok(poll_until($node, 'app', "SELECT bool_and(fresh) FROM pgopt_matviews WHERE view::text IN ('first', 'second')", 't', 20),
  'views are fresh after the job of pg_cron');
is($node->safe_psql('app', "SELECT string_agg(DISTINCT source, ' ') FROM pgopt.refresh_log WHERE id > $from"), 'due',
  'it was the job of pg_cron that refreshed');
is($node->safe_psql('app', 'SELECT (SELECT n FROM first), (SELECT n FROM second), (SELECT n FROM by_hand)'), '2|3|0',
  'views show what was committed, and a manual one is left alone');
is($node->safe_psql('app', "SELECT fresh FROM pgopt_matviews WHERE view = 'by_hand'::regclass"), 'f', 'a manual view is not called fresh');

SKIP:
{
  skip 'PGOPT_SLOW is not set: a minute of waiting', 2 unless $ENV{PGOPT_SLOW};
  $node->safe_psql('app', 'INSERT INTO t VALUES (3)');
  ok(poll_until($node, 'app', 'SELECT n FROM second', '4', 70), 'the job of every minute refreshes');
  is($node->safe_psql('app', "SELECT count(*) FROM cron.job_run_details WHERE status = 'failed'"), 0, 'no job failed');
}

no_crash($node);
$node->stop;
note('took ' . started() . ' s');
done_testing();
