# The worker: order, priorities, settings, cancelled and failing refreshes, processes that are ended.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use PgoptTest;
use PgoptViews;

my $node = pgopt_node('main', extension => 'app', conf => <<'CONF');
restart_after_crash = on
pgopt.worker_naptime = '300ms'
pgopt.auto_refresh = off
pgopt.max_refresh_workers = 1
CONF
create_checks($node, 'app');

sub sql { return $node->safe_psql('app', join("\n", @_)); }

sub set
{
  my ($setting, $value) = @_;
  sql("ALTER SYSTEM SET $setting = $value");
  sql('SELECT pg_reload_conf()');
  poll_until($node, 'app', "SELECT setting FROM pg_settings WHERE name = '$setting'", qr/^$value/, 10);
  return;
}

# The log since number $from: names, in the order in which their refreshes began.
sub order_since
{
  my ($from, $where) = @_;
  return sql("SELECT string_agg(split_part(view_name, '.', 2), ' ' ORDER BY started_at) FROM pgopt.refresh_log WHERE id > $from"
      . ($where ? " AND $where" : ''));
}
sub log_end { return sql('SELECT coalesce(max(id), 0) FROM pgopt.refresh_log'); }

sql(<<'SQL');
CREATE FUNCTION slowly(seconds float8) RETURNS float8 LANGUAGE plpgsql IMMUTABLE AS
  $$ BEGIN PERFORM pg_sleep(seconds); RETURN seconds; END $$;
CREATE TABLE t (id int);
CREATE TABLE nap (s float8);
INSERT INTO nap VALUES (0);
CREATE MATERIALIZED VIEW minor AS SELECT count(*) n FROM t;
CREATE MATERIALIZED VIEW middle AS SELECT count(*) n FROM t;
CREATE MATERIALIZED VIEW major AS SELECT count(*) n FROM t;
CREATE MATERIALIZED VIEW chain_1 AS SELECT count(*) n FROM t;
CREATE MATERIALIZED VIEW chain_2 AS SELECT n + 1 AS n FROM chain_1;
CREATE MATERIALIZED VIEW chain_3 AS SELECT n + 1 AS n FROM chain_2;
CREATE MATERIALIZED VIEW slow AS SELECT slowly(s) FROM nap;
CREATE MATERIALIZED VIEW slow_too AS SELECT slowly(s) + 1 FROM nap;
SELECT pgopt_manage('minor', 'immediate', priority => 9), pgopt_manage('middle', 'immediate'),
       pgopt_manage('major', 'immediate', priority => 2),
       pgopt_manage('chain_1', 'immediate', priority => 10), pgopt_manage('chain_2', 'immediate', priority => 10),
       pgopt_manage('chain_3', 'immediate', priority => 1),
       pgopt_manage('slow', 'immediate', priority => 4), pgopt_manage('slow_too', 'immediate', priority => 4);
SELECT pgopt_refresh_all();
SQL
ok(poll_until($node, 'app', 'SELECT bool_and(fresh) FROM pgopt_matviews'), 'pgopt_refresh_all() makes all fresh');

# --- auto_refresh = off: nothing happens by itself
my $log = log_end();
sql('INSERT INTO t VALUES (1)');
is(sql("SELECT state, fresh FROM pgopt_matviews WHERE view::text = 'major'"), 'due|f', 'auto_refresh off: a changed view is due');
is(sql("SELECT count(*) FROM pgopt_findings() WHERE check_id = 'pgopt_auto_refresh'"), 1, 'auto_refresh off: pgopt_health() says so');
ok(poll_until($node, 'app', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pgopt worker' AND datname = 'app'", '1'),
  'auto_refresh off: the worker runs');
sleep(0.7);
is(log_end(), $log, 'auto_refresh off: the worker refreshes nothing');

# --- on again, by SIGHUP; one at a time, so that the order shows
set('pgopt.auto_refresh', 'on');
wait_fresh($node, 'app', 'auto_refresh on: what was due is refreshed', 10);
my $order = order_since($log, "view_name NOT LIKE '%slow%'");
is($order, 'chain_1 chain_2 chain_3 major middle minor',
  'order: a chain in one go, at the priority of its last view; then by priority');
is(differing($node, 'app'), '', 'the content is right');

# --- a slow view and a critical one
set('pgopt.max_refresh_workers', 2);
sql('UPDATE nap SET s = 120');
my $sleeping = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pgopt refresh' AND wait_event = 'PgSleep'";
ok(poll_until($node, 'app', $sleeping, '1', 10), 'a slow view is being refreshed');
is(sql("SELECT state FROM pgopt_matviews WHERE view::text = 'slow'"), 'refreshing', 'pgopt_matviews shows it');
my @latencies;
foreach (1 .. 5)
{
  $log = log_end();
  my $committed = sql('INSERT INTO t VALUES (2) RETURNING clock_timestamp()');
  ok(poll_until($node, 'app', "SELECT count(*) > 0 FROM pgopt.refresh_log WHERE id > $log AND view_name = 'public.major'", 't', 10),
    'a critical view is refreshed beside a slow one');
  push @latencies, sql("SELECT round(1000 * extract(epoch FROM min(started_at) - '$committed')) FROM pgopt.refresh_log WHERE id > $log AND view_name = 'public.major'");
}
@latencies = sort { $a <=> $b } @latencies;
note("commit to start of a critical refresh beside a slow one: @latencies ms");
cmp_ok($latencies[2], '<', 500, "a critical view does not wait for a slow one (median $latencies[2] ms)");
is(sql($sleeping), 1, 'the last refresh worker is kept for critical views: no two slow ones at once');

# --- cancel
my ($pid) = split /\n/, sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'pgopt refresh' AND wait_event = 'PgSleep'");
my ($cancelled) = split /\n/, sql("SELECT substring(query FROM 'view (\\w+)') FROM pg_stat_activity WHERE pid = $pid");
is(sql("SELECT pg_cancel_backend($pid)"), 't', 'a refresh is cancelled');
ok(poll_until($node, 'app', "SELECT last_sqlstate, failures FROM pgopt_matviews WHERE view::text = '$cancelled'", '57014|1', 10),
  'a cancelled refresh is kept as a failure with SQLSTATE 57014');
my $row = sql("SELECT state, fresh, last_error LIKE 'canceling statement%', extract(epoch FROM next_refresh - now()) BETWEEN 1 AND 5.1 FROM pgopt_matviews WHERE view::text = '$cancelled'");
is($row, 'retrying|f|t|t', 'a cancelled refresh is retried within 5 s');
is(sql("SELECT outcome, sqlstate FROM pgopt.refresh_log WHERE view_name = 'public.$cancelled' ORDER BY id DESC LIMIT 1"), 'failed|57014',
  'a cancelled refresh is in the log');
is(sql("SELECT severity FROM pgopt_findings() WHERE check_id = 'matview_failing' AND object LIKE '%$cancelled'"), 'warning',
  'pgopt_health() tells of it');
sql('UPDATE nap SET s = 0');
# the other slow view has taken the place
ok(poll_until($node, 'app', "SELECT count(pg_cancel_backend(pid)) = 0 FROM pg_stat_activity WHERE backend_type = 'pgopt refresh' AND wait_event = 'PgSleep'"),
  'the other slow refresh is cancelled too');

# --- failures
sql(<<'SQL');
CREATE TABLE d (x int);
INSERT INTO d VALUES (1);
CREATE MATERIALIZED VIEW fails AS SELECT 1 / x AS y FROM d;
CREATE MATERIALIZED VIEW reads_it AS SELECT y FROM fails;
SELECT pgopt_manage('fails', 'immediate', priority => 1), pgopt_manage('reads_it', 'immediate');
SQL
wait_fresh($node, 'app', 'after the failures: all become fresh', 20);
is(sql('SELECT count(*) FROM pgopt_matviews WHERE failures > 0 OR last_error IS NOT NULL'), 0, 'after a success no failure is left');
sql('UPDATE d SET x = 0');
ok(poll_until($node, 'app', "SELECT failures, last_sqlstate, last_error FROM pgopt_matviews WHERE view::text = 'fails'", '1|22012|division by zero', 10),
  'a failure is kept with SQLSTATE and message');
$log = log_end();
sql('INSERT INTO t VALUES (3)');
ok(poll_until($node, 'app', "SELECT bool_and(fresh) FROM pgopt_matviews WHERE view::text NOT IN ('fails', 'reads_it')", 't', 10),
  'a failing view of priority 1 holds nobody up');
ok(poll_until($node, 'app', "SELECT failures FROM pgopt_matviews WHERE view::text = 'fails'", '2', 12), 'a failing view is retried');
my $pauses = sql("SELECT string_agg(round(extract(epoch FROM s.pause))::text, ' ') FROM (SELECT started_at - lag(started_at) OVER (ORDER BY id) AS pause FROM pgopt.refresh_log WHERE view_name = 'public.fails' AND outcome = 'failed') s");
is($pauses, '5', 'the first retry comes after 5 s');
is(sql("SELECT extract(epoch FROM retry_at - now()) BETWEEN 8 AND 10.1 FROM pgopt.matview_state WHERE view = 'fails'::regclass"), 't',
  'the second would come after 10 s');
is(sql("SELECT fresh FROM pgopt_matviews WHERE view::text = 'reads_it'"), 'f', 'a view that reads a failing one is not called fresh');
sql('UPDATE d SET x = 1');
is(sql("SELECT outcome FROM pgopt_refresh('fails')"), 'refreshed', 'pgopt_refresh() does not wait for the retry');
wait_fresh($node, 'app', 'once the view works again all become fresh', 10);

# --- processes that are ended
$log = log_end();
sql('UPDATE nap SET s = 120');
ok(poll_until($node, 'app', $sleeping, '1', 10), 'a slow view is being refreshed again');
sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'pgopt refresh' AND wait_event = 'PgSleep'");
sql('UPDATE nap SET s = 0');
sql("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE backend_type = 'pgopt refresh' AND wait_event = 'PgSleep'");
foreach my $kind ('pgopt worker', 'pgopt launcher')
{
  my ($old) = worker_pids($node, $kind, $kind eq 'pgopt worker' ? 'app' : undef);
  foreach my $signal ('pg_cancel_backend', 'pg_terminate_backend')
  {
    my $at = "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE backend_type = '$kind'" . ($kind eq 'pgopt worker' ? " AND datname = 'app'" : '');
    $old = sql($at);
    sql("SELECT $signal($old)");
    ok(poll_until($node, 'app', $at, $signal eq 'pg_cancel_backend' ? qr/^\d+$/ : qr/^(?!$old$)\d+$/, 15), "$signal($kind): one runs afterwards");
  }
}
# the launcher that was started again finds the workers that run
ok(poll_until($node, 'app', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pgopt worker' AND datname = 'app'", '1', 10),
  'a new launcher finds the worker that runs');
sleep(1);
is(scalar(worker_pids($node, 'pgopt worker', 'app')), 1, 'no second worker is started in a database');
sql('INSERT INTO t VALUES (4)');
ok(poll_until($node, 'app', "SELECT bool_and(fresh) FROM pgopt_matviews WHERE view::text NOT LIKE 'slow%'", 't', 10), 'changes are refreshed afterwards');
all_fresh($node, 'app', 'at the end');

no_crash($node);
$node->stop;
note('took ' . started() . ' s');
done_testing();
