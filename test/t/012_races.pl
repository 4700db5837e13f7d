# What happens while a refresh, the worker or the launcher is in the middle of something: nothing that was committed is
# missed.  Processes are stopped (SIGSTOP) where the moment matters.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use PgoptTest;
use PgoptViews;

my $node = pgopt_node('main', extension => 'app', conf => "restart_after_crash = on\npgopt.worker_naptime = '300ms'\n");
create_checks($node, 'app');

sub sql { return $node->safe_psql('app', join("\n", @_)); }
sub fresh { return sql("SELECT fresh FROM pgopt_matviews WHERE view = '$_[0]'::regclass"); }

# Each view has a table of its own that says how long its refreshes take; its snapshot is taken before that.  They are
# of strategy threshold, since an immediate view rests after a long refresh.
sql(<<'SQL');
CREATE FUNCTION slowly(seconds float8) RETURNS float8 LANGUAGE plpgsql IMMUTABLE AS
  $$ BEGIN PERFORM pg_sleep(seconds); RETURN 0; END $$;
CREATE TABLE nap_t (s float8);
CREATE TABLE nap_p (s float8);
INSERT INTO nap_t VALUES (1.2);
INSERT INTO nap_p VALUES (0);
CREATE TABLE t (v int);
CREATE TABLE p (v int) PARTITION BY LIST (v);
CREATE TABLE p_1 PARTITION OF p FOR VALUES IN (1);
CREATE TABLE p_2 (v int);
INSERT INTO p VALUES (1);
INSERT INTO p_2 VALUES (2);
CREATE FUNCTION factor() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE MATERIALIZED VIEW other AS SELECT 1 AS x;
CREATE MATERIALIZED VIEW of_t AS SELECT count(*) n, (SELECT slowly(max(s)) FROM nap_t) FROM t WITH NO DATA;
CREATE MATERIALIZED VIEW of_p AS SELECT count(*) n, factor(), (SELECT slowly(max(s)) FROM nap_p) FROM p;
SQL

my $sleeping = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pgopt refresh' AND wait_event = 'PgSleep'";

# during($name, $start, @acts): starts a refresh with one act, carries out the others while it is under way, and checks.
# An act is SQL, or code.
sub during
{
  my ($name, $start, @acts) = @_;
  sql($start);
  ok(poll_until($node, 'app', $sleeping, '1', 15), "$name: a refresh is under way");
  sql('UPDATE nap_t SET s = 0; UPDATE nap_p SET s = 0');
  foreach my $act (@acts) { ref $act ? $act->() : $node->safe_psql('app', $act); }
  is(sql($sleeping), 1, "$name: it happened during the refresh");
  ok(poll_until($node, 'app', $sleeping, '0', 15), "$name: the refresh ends");
  is(wrongly_fresh($node, 'app'), '', "$name: no view is called fresh that is not");
  all_fresh($node, 'app', $name, 20);
  return;
}

my ($slow_t, $slow_p) = ('UPDATE nap_t SET s = 1.2', 'UPDATE nap_p SET s = 1.2');

# --- the first refresh of a view, during which its table changes and the worker reads its configuration anew
during('a change and a new configuration during the first refresh', "SELECT pgopt_manage('of_t', 'threshold', '1 second', 1)",
  'INSERT INTO t VALUES (1), (2), (3)',
  "SELECT pgopt_manage('other', 'manual'); SELECT pgopt_refresh('other');",
  "SELECT pgopt_manage('other', 'scheduled')");
is(sql('SELECT n FROM of_t'), 3, 'a change during the first refresh is shown');

# --- definitions that change during a refresh
sql("SELECT pgopt_manage('of_p', 'threshold', '1 second', 1)");
all_fresh($node, 'app', 'before definitions change', 20);
during('ATTACH PARTITION during a refresh', $slow_p, 'ALTER TABLE p ATTACH PARTITION p_2 FOR VALUES IN (2)');
is(sql('SELECT n FROM of_p'), 2, 'ATTACH PARTITION during a refresh: its rows are shown');
during('a change of an attached partition during a refresh', $slow_p, 'INSERT INTO p_2 VALUES (2)');
is(sql('SELECT n FROM of_p'), 3, 'a change of an attached partition: its rows are shown');
during('CREATE OR REPLACE FUNCTION during a refresh', $slow_p,
  "CREATE OR REPLACE FUNCTION factor() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2'");
is(sql('SELECT factor FROM of_p'), 2, 'CREATE OR REPLACE FUNCTION during a refresh: the new one is used');

# --- a transaction that began before the refresh and commits during it, or after
my $session = $node->background_psql('app');
$session->query_safe('BEGIN; INSERT INTO t VALUES (4)');
during('a transaction that commits during a refresh', $slow_t, sub { $session->query_safe('COMMIT') });
is(sql('SELECT n FROM of_t'), 4, 'a transaction that commits during a refresh is shown');
$session->query_safe('BEGIN; INSERT INTO t VALUES (5); SAVEPOINT a; INSERT INTO t VALUES (6); ROLLBACK TO a');
is(fresh('of_t'), 't', 'a view stays fresh while a transaction is open');
during('a transaction that is open during a refresh', $slow_t);
$session->query_safe('COMMIT');
is(wrongly_fresh($node, 'app'), '', 'a transaction that commits after a refresh: no view is called fresh that is not');
all_fresh($node, 'app', 'a transaction that commits after a refresh', 20);
is(sql('SELECT n FROM of_t'), 5, 'a transaction that commits after a refresh is shown');
$session->quit;

# --- a refresh whose view is given up meanwhile, changed, and managed again
sql($slow_t);
ok(poll_until($node, 'app', $sleeping, '1', 15), 'pgopt_unmanage() during a refresh: one is under way');
sql("SELECT pgopt_unmanage('of_t'::regclass); UPDATE nap_t SET s = 0");
ok(poll_until($node, 'app', $sleeping, '0', 15), 'pgopt_unmanage() during a refresh: it ends');
is(sql("SELECT count(*) FROM pgopt_matviews WHERE view = 'of_t'::regclass"), 0, 'pgopt_unmanage() during a refresh: it stays unmanaged');
all_fresh($node, 'app', 'pgopt_unmanage() during a refresh', 20);
sql('CREATE TABLE t_2 (v int); CREATE MATERIALIZED VIEW of_t_2 AS SELECT count(*) n, (SELECT slowly(max(s)) FROM nap_t) FROM t_2 WITH NO DATA');
sql("$slow_t; SELECT pgopt_manage('of_t_2', 'threshold', '1 second', 1)");
ok(poll_until($node, 'app', $sleeping, '1', 15), 'pgopt_unmanage() during the first refresh: one is under way');
sql("SELECT pgopt_unmanage('of_t_2'::regclass); UPDATE nap_t SET s = 0");
ok(poll_until($node, 'app', $sleeping, '0', 15), 'pgopt_unmanage() during the first refresh: it ends');
sql("SELECT pgopt_manage('other', 'manual')");
sleep(0.5);
sql('INSERT INTO t_2 VALUES (1)');
sql("SELECT pgopt_manage('of_t_2', 'manual')");
is(fresh('of_t_2'), 'f', 'a view that is managed again is not called fresh before its refresh');
sleep(0.5);
is(wrongly_fresh($node, 'app'), '', 'nor after the worker looked at it');
sql("SELECT pgopt_manage(v, 'threshold', '1 second', 1) FROM unnest('{of_t,of_t_2,other}'::regclass[]) v");
all_fresh($node, 'app', 'managed again', 20);

# --- the extension goes and comes while the launcher does not look
my ($launcher) = worker_pids($node, 'pgopt launcher');
ok(kill('STOP', $launcher), 'the launcher is stopped');
sql('DROP EXTENSION pgopt');
ok(poll_until($node, 'app', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pgopt worker' AND datname = 'app'", '0', 15),
  'DROP EXTENSION: the worker ends without the launcher');
sql('CREATE EXTENSION pgopt', ';', "SELECT pgopt_manage('of_t', 'manual')", ';', "SELECT pgopt_refresh('of_t')");
sql('INSERT INTO t VALUES (5)');
is(fresh('of_t'), 'f', 'CREATE EXTENSION while the launcher does not look: changes are counted');
kill('CONT', $launcher);
ok(poll_until($node, 'app', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pgopt worker' AND datname = 'app'", '1', 15),
  'the launcher goes on and starts a worker');
sleep(0.5);
is(wrongly_fresh($node, 'app'), '', 'CREATE EXTENSION while the launcher does not look: no view is called fresh that is not');
is(fresh('of_t'), 'f', 'the change was not forgotten');
sql("SELECT pgopt_manage('of_t', 'threshold', '1 second', 1)");
all_fresh($node, 'app', 'after the launcher looked again', 20);

# --- a worker that does not look: what it would do is late, and nothing is called fresh; nobody waits for it
my ($worker) = worker_pids($node, 'pgopt worker', 'app');
ok(kill('STOP', $worker), 'the worker is stopped');
my $begun = time();
sql('INSERT INTO t VALUES (6)', ';', 'CREATE OR REPLACE FUNCTION factor() RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT 3 $$');
is(fresh('of_t'), 'f', 'a worker that does not look: a changed view is not called fresh');
sql("SELECT pgopt_manage('other', 'manual')", ';', "SELECT pgopt_refresh('of_t')");
is(wrongly_fresh($node, 'app'), '', 'a worker that does not look: after pgopt_refresh() no view is called fresh that is not');
sql('CREATE MATERIALIZED VIEW late AS SELECT count(*) n FROM t', ';', "SELECT pgopt_manage('late', 'immediate')");
sql('DROP MATERIALIZED VIEW other', ';', 'CREATE MATERIALIZED VIEW other AS SELECT count(*) FROM t');
is(wrongly_fresh($node, 'app'), '', 'a worker that does not look: a view that was dropped and created again is not called fresh');
cmp_ok(time() - $begun, '<', 5, 'a worker that does not look: nobody waits for it');
kill('CONT', $worker);
sql("SELECT pgopt_manage('other', 'immediate')");
all_fresh($node, 'app', 'after the worker looked again', 20);

no_crash($node);
$node->stop;
note('took ' . started() . ' s');
done_testing();
