# Where room runs out: too few processes, too little memory for counters.  Late is allowed, wrong is not.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use PgoptTest;
use PgoptViews;

# --- one process for the launcher, one for the server's own, one for a worker: none for refresh workers
my $node = pgopt_node('processes', extension => 'app', conf => <<'CONF');
max_worker_processes = 3
pgopt.worker_naptime = '500ms'
CONF
create_checks($node, 'app');
$node->safe_psql('app', <<'SQL');
CREATE TABLE t (id int);
CREATE MATERIALIZED VIEW first AS SELECT count(*) n FROM t;
CREATE MATERIALIZED VIEW second AS SELECT n + 1 AS n FROM first;
CREATE MATERIALIZED VIEW fails AS SELECT 1 / (count(*) - 3) AS x FROM t;
SELECT pgopt_manage('first', 'immediate'), pgopt_manage('second', 'immediate', priority => 1), pgopt_manage('fails', 'immediate');
SQL
ok(poll_until($node, 'app', 'SELECT bool_and(fresh) FROM pgopt_matviews', 't', 30), 'no process for refresh workers: views become fresh');
is($node->safe_psql('app', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pgopt refresh'"), 0,
  'no process for refresh workers: there is none');
$node->safe_psql('app', 'INSERT INTO t VALUES (1), (2)');
ok(poll_until($node, 'app', 'SELECT n FROM second', '3', 20), 'no process for refresh workers: changes are refreshed');
$node->safe_psql('app', 'INSERT INTO t VALUES (3)');
ok(poll_until($node, 'app', "SELECT last_sqlstate FROM pgopt_matviews WHERE view = 'fails'::regclass", '22012', 20),
  'no process for refresh workers: a failure is kept');
ok(poll_until($node, 'app', 'SELECT n FROM second', '4', 20), 'no process for refresh workers: a failure stops nobody else');
$node->safe_psql('app', 'INSERT INTO t VALUES (4)');
all_fresh($node, 'app', 'no process for refresh workers', 20);
ok((() = log_matches($node, qr/Increase max_worker_processes/)) > 0, 'no process for refresh workers: the log says what to do');
no_crash($node);

# --- one process less: no worker can run, and that is said
$node->append_conf('postgresql.conf', "max_worker_processes = 2\n");
$node->restart;
ok(poll_until($node, 'app', "SELECT severity FROM pgopt_findings() WHERE check_id = 'pgopt_worker'", 'critical', 10),
  'no process for a worker: pgopt_health() says so');
is($node->safe_psql('app', 'SELECT count(*) FROM pgopt_matviews WHERE fresh'), 0, 'no process for a worker: no view is called fresh');
is($node->safe_psql('app', "SELECT count(*) FROM pgopt_refresh_due() WHERE outcome = 'refreshed'"), 3,
  'no process for a worker: pgopt_refresh_due() refreshes what is due');
$node->safe_psql('app', 'INSERT INTO t VALUES (4)');
is($node->safe_psql('app', "SELECT count(*) FROM pgopt_refresh('second') WHERE outcome = 'refreshed'"), 2,
  'no process for a worker: pgopt_refresh() works');
is($node->safe_psql('app', "SELECT fresh FROM pgopt_matviews WHERE view = 'second'::regclass"), 't', 'and its view is fresh then');
$node->safe_psql('app', 'INSERT INTO t VALUES (5)');
is(wrongly_fresh($node, 'app'), '', 'no process for a worker: changes are counted all the same');
$node->stop;

# --- room for few tables
$node = pgopt_node('tables', extension => 'app', conf => <<'CONF');
pgopt.max_tracked_tables = 10
pgopt.worker_naptime = '500ms'
CONF
create_checks($node, 'app');
my $tables = 100;
$node->safe_psql('app', join("\n", (map { "CREATE TABLE t_$_ (id int);" } 1 .. $tables),
    'CREATE MATERIALIZED VIEW wide AS SELECT 1 AS one, ' . join(' + ', map { "(SELECT count(*) FROM t_$_)" } 1 .. $tables) . ' AS n;',
    'CREATE UNIQUE INDEX ON wide (one);', "SELECT pgopt_manage('wide', 'immediate', interval '2 seconds');"));
ok(poll_until($node, 'app', 'SELECT last_refresh IS NOT NULL FROM pgopt_matviews', 't', 20), 'more tables than room: the view is refreshed');
is($node->safe_psql('app', 'SELECT fresh, pending_changes IS NULL FROM pgopt_matviews'), 'f|t', 'more tables than room: not fresh, nothing known');
like($node->safe_psql('app', 'SELECT reason FROM pgopt_matviews'), qr/max_tracked_tables/, 'more tables than room: the reason is said');
is($node->safe_psql('app', "SELECT severity, remedy LIKE '%max_tracked_tables%' FROM pgopt_findings() WHERE check_id = 'pgopt_room'"), 'warning|t',
  'more tables than room: pgopt_health() says so, with the SQL that mends it');
$node->safe_psql('app', join("\n", map { "INSERT INTO t_$_ VALUES (1);" } 1 .. $tables));
is(wrongly_fresh($node, 'app'), '', 'more tables than room: not called fresh after changes');
ok(poll_until($node, 'app', 'SELECT n FROM wide', $tables, 20), 'more tables than room: refreshed when its interval has passed');
is($node->safe_psql('app', 'SELECT fresh FROM pgopt_matviews'), 'f', 'more tables than room: not called fresh after its refresh');
my $refreshes = 'SELECT count(*) FROM pgopt.refresh_log';
my ($before, $begun) = ($node->safe_psql('app', $refreshes), time());
ok(poll_until($node, 'app', "SELECT ($refreshes) >= $before + 2", 't', 20), 'more tables than room: refreshed again by its interval');
cmp_ok(time() - $begun, '>', 1.5, 'more tables than room: not more often than its interval');

# --- a view that fits is not harmed for long
$node->safe_psql('app', "SELECT pgopt_unmanage('wide'::regclass); CREATE MATERIALIZED VIEW small AS SELECT count(*) n FROM t_100;"
    . "SELECT pgopt_manage('small', 'immediate')");
ok(poll_until($node, 'app', 'SELECT fresh FROM pgopt_matviews', 't', 20), 'a view that fits becomes fresh once there is room');
$node->safe_psql('app', 'INSERT INTO t_100 VALUES (2)');
is(wrongly_fresh($node, 'app'), '', 'a view that fits is not called fresh after a change');
all_fresh($node, 'app', 'a view that fits');

# --- all tables counted, by a setting, never takes the room of a view
$node->safe_psql('app', 'ALTER SYSTEM SET pgopt.track_all_tables = on');
$node->reload;
ok(poll_until($node, 'app', 'SHOW pgopt.track_all_tables', 'on'), 'track_all_tables is on');
$node->safe_psql('app', join("\n", map { "INSERT INTO t_$_ VALUES (3);" } 1 .. 99));
$node->safe_psql('app', "CREATE MATERIALIZED VIEW another AS SELECT count(*) FROM t_1, t_2; SELECT pgopt_manage('another', 'immediate')");
all_fresh($node, 'app', 'a view comes when all room is taken by tables that no view reads', 20);
no_crash($node);

# --- long work ends with the server
$node->safe_psql('app', <<'SQL');
CREATE FUNCTION slowly(seconds float8) RETURNS float8 LANGUAGE plpgsql IMMUTABLE AS
  $$ BEGIN PERFORM pg_sleep(seconds); RETURN seconds; END $$;
CREATE TABLE nap (s float8);
INSERT INTO nap VALUES (120);
CREATE MATERIALIZED VIEW slow AS SELECT slowly(s) FROM nap WITH NO DATA;
SELECT pgopt_manage('slow', 'immediate');
SQL
foreach my $mode ('smart', 'fast')
{
  ok(poll_until($node, 'app', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pgopt refresh' AND wait_event = 'PgSleep'", '1', 20),
    "$mode shutdown: a long refresh runs");
  $begun = time();
  $node->stop($mode);
  my $seconds = sprintf('%.1f', time() - $begun);
  cmp_ok($seconds, '<', 5, "$mode shutdown during a long refresh is prompt ($seconds s)");
  $node->start;
}
$node->stop;
note('took ' . started() . ' s');
done_testing();
