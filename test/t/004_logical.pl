# Logical replication: a subscriber whose tables are changed by apply workers, which run no SQL.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use PgoptTest;
use PgoptViews;

my $publisher = pgopt_node('publisher', allows_streaming => 'logical', preload => '',
  conf => "logical_decoding_work_mem = '64kB'\n");
my $subscriber = pgopt_node('subscriber', allows_streaming => 'logical', extension => 'app',
  conf => "restart_after_crash = on\npgopt.worker_naptime = '300ms'\n");
$publisher->safe_psql('postgres', 'CREATE DATABASE app');
create_checks($subscriber, 'app');

my $tables = <<'SQL';
CREATE TABLE t (id int PRIMARY KEY, v int);
CREATE TABLE p (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
CREATE TABLE p_low PARTITION OF p FOR VALUES FROM (MINVALUE) TO (100);
CREATE TABLE p_high PARTITION OF p FOR VALUES FROM (100) TO (MAXVALUE);
SQL
$publisher->safe_psql('app', $tables . <<'SQL');
INSERT INTO t SELECT i, i FROM generate_series(1, 100) i;
INSERT INTO p SELECT i, i FROM generate_series(91, 110) i;
CREATE PUBLICATION pub FOR TABLE t, p WITH (publish_via_partition_root = true);
SQL
$subscriber->safe_psql('app', $tables . <<'SQL');
CREATE MATERIALIZED VIEW mt AS SELECT v % 7 AS k, count(*) n, sum(v) s FROM t GROUP BY 1;
CREATE UNIQUE INDEX ON mt (k);
CREATE MATERIALIZED VIEW mp AS SELECT 1 AS one, count(*) n, sum(v) s FROM p;
CREATE UNIQUE INDEX ON mp (one);
CREATE MATERIALIZED VIEW total AS SELECT 1 AS one, sum(n) n FROM mt;
CREATE UNIQUE INDEX ON total (one);
SELECT pgopt_manage(v, 'immediate') FROM unnest('{mt,mp,total}'::regclass[]) v;
SQL
all_fresh($subscriber, 'app', 'before the subscription');

sub counts
{
  my ($table) = @_;
  return $subscriber->safe_psql('app',
    "SELECT inserted, updated, deleted, truncated, known FROM pgopt_table_changes WHERE relation = '$table'::regclass");
}

# Both servers hold the same rows, and the views show them.
sub in_step
{
  my ($name) = @_;
  $publisher->wait_for_catchup('sub');
  is(wrongly_fresh($subscriber, 'app'), '', "$name: no view is called fresh that is not");
  all_fresh($subscriber, 'app', $name);
  my $truth = 'SELECT (SELECT count(*) FROM t), (SELECT sum(v) FROM t), (SELECT count(*) FROM p), (SELECT sum(v) FROM p)';
  my $shown = 'SELECT (SELECT n FROM total), (SELECT sum(s) FROM mt), (SELECT n FROM mp), (SELECT s FROM mp)';
  my $there = $publisher->safe_psql('app', $truth);
  my $here = $subscriber->safe_psql('app', $shown);
  s/\b0\b//g foreach ($there, $here);
  is($here, $there, "$name: the views show what the publisher has");
  return;
}

# --- initial copy
my $connection = $publisher->connstr . ' dbname=app application_name=sub';
$subscriber->safe_psql('app',
  "CREATE SUBSCRIPTION sub CONNECTION '$connection' PUBLICATION pub WITH (two_phase = on, streaming = on)");
ok(poll_until($subscriber, 'app', "SELECT count(*) = 2 AND bool_and(srsubstate = 'r') FROM pg_subscription_rel"),
  'the tables are synchronised');
in_step('initial copy');
is(counts('t'), '100|0|0|f|t', 'initial copy: its rows are counted');
is(counts('p'), '20|0|0|f|t', 'initial copy: those of partitions too');
ok(poll_until($subscriber, 'app', "SELECT subtwophasestate FROM pg_subscription", 'e'), 'two-phase is enabled');

# --- rows
$publisher->safe_psql('app', 'INSERT INTO t SELECT i, 0 FROM generate_series(101, 110) i; UPDATE t SET v = -v WHERE id <= 20;'
    . 'DELETE FROM t WHERE id BETWEEN 50 AND 54; UPDATE p SET v = 7 WHERE id = 92;');
$publisher->safe_psql('app', 'BEGIN; INSERT INTO t VALUES (900, 1); SAVEPOINT s; INSERT INTO t VALUES (901, 1); ROLLBACK TO s; COMMIT');
in_step('INSERT, UPDATE, DELETE');
is(counts('t'), '111|20|5|f|t', 'INSERT, UPDATE, DELETE: counted exactly');
is(counts('p'), '20|1|0|f|t', 'UPDATE of a partition: counted exactly');

# a row that moves between partitions is deleted in one and inserted in the other
$publisher->safe_psql('app', 'UPDATE p SET id = 200 WHERE id = 91');
in_step('a row moves to another partition');
is(counts('p'), '21|1|1|f|t', 'a row moves to another partition: counted exactly');

# --- a transaction so large that it is streamed, and one that is rolled back
$publisher->safe_psql('app', 'INSERT INTO t SELECT i, 1 FROM generate_series(1001, 5000) i');
$publisher->safe_psql('app', 'BEGIN; INSERT INTO t SELECT i, 1 FROM generate_series(5001, 9000) i; ROLLBACK');
in_step('a streamed transaction');
is(counts('t'), '4111|20|5|f|t', 'a streamed transaction: counted exactly');

# --- many small transactions: no view is called fresh in between that is not
my $script = $publisher->basedir . '/load.sql';
append_to_file($script, "\\set id random(1001, 5000)\nUPDATE t SET v = v + 1 WHERE id = :id;\n"
    . "INSERT INTO p VALUES (nextval('ids'), 3);\n");
$publisher->safe_psql('app', 'CREATE SEQUENCE ids START 1000');
my ($out, $err) = ('', '');
my $load = IPC::Run::start([ 'pgbench', '-n', '-c', '2', '-T', '2', '-R', '200', '-f', $script, $publisher->connstr('app') ],
  '<', \undef, '>', \$out, '2>', \$err);
my (@wrong, $samples);
while ($load->pumpable)
{
  my $wrong = wrongly_fresh($subscriber, 'app');
  push @wrong, $wrong if $wrong ne '';
  $samples++;
  $load->pump_nb;
}
$load->finish;
is("@wrong", '', "under load: no view is called fresh that is not ($samples samples)");
in_step('after the load');

# --- TRUNCATE
$publisher->safe_psql('app', 'TRUNCATE t');
in_step('TRUNCATE');
like(counts('t'), qr/\|t\|t$/, 'TRUNCATE: seen as such');
$publisher->safe_psql('app', 'INSERT INTO t SELECT i, i FROM generate_series(1, 50) i');
in_step('INSERT after TRUNCATE');

# --- two-phase: the apply worker's COMMIT PREPARED runs no statement
my $prepared = 'SELECT count(*) FROM pg_prepared_xacts';
my $fresh = "SELECT string_agg(view::text, ' ' ORDER BY view::text) FROM pgopt_matviews WHERE fresh";
$publisher->safe_psql('app', "BEGIN; INSERT INTO t VALUES (60, 1); UPDATE t SET v = 0 WHERE id = 1; PREPARE TRANSACTION 'a'");
ok(poll_until($subscriber, 'app', $prepared, '1'), 'PREPARE reaches the subscriber');
is($subscriber->safe_psql('app', $fresh), 'mp', 'prepared: what reads its table is not called fresh');
$publisher->safe_psql('app', "COMMIT PREPARED 'a'");
in_step('COMMIT PREPARED');
is($subscriber->safe_psql('app', $prepared), 0, 'COMMIT PREPARED: nothing is left prepared');

$publisher->safe_psql('app', "BEGIN; DELETE FROM t WHERE id < 10; PREPARE TRANSACTION 'b'");
ok(poll_until($subscriber, 'app', $prepared, '1'), 'a second PREPARE reaches the subscriber');
$publisher->safe_psql('app', "ROLLBACK PREPARED 'b'");
in_step('ROLLBACK PREPARED');

# the worker sleeps without a time limit when nothing is going on: PREPARE must wake it
ok(poll_until($subscriber, 'app', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pgopt refresh'", '0', 20),
  'no refresh worker is left that would wake the worker');
$publisher->safe_psql('app', "BEGIN; INSERT INTO t VALUES (61, 1); PREPARE TRANSACTION 'idle'; COMMIT PREPARED 'idle'");
$publisher->wait_for_catchup('sub');
wait_fresh($subscriber, 'app', 'COMMIT PREPARED by an apply worker is noticed while nothing else goes on', 10);

# the subscriber crashes in between
$publisher->safe_psql('app', "BEGIN; INSERT INTO p VALUES (500000, 1); PREPARE TRANSACTION 'c'");
ok(poll_until($subscriber, 'app', $prepared, '1'), 'a third PREPARE reaches the subscriber');
$subscriber->stop('immediate');
$subscriber->start;
is(wrongly_fresh($subscriber, 'app'), '', 'prepared, and a crash of the subscriber: no view is called fresh that is not');
ok(poll_until($subscriber, 'app', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pgopt worker' AND datname = 'app'", '1'),
  'a worker runs after the crash');
is($subscriber->safe_psql('app', "SELECT fresh FROM pgopt_matviews WHERE view = 'mp'::regclass"), 'f',
  'prepared, and a crash of the subscriber: what reads its table is not called fresh');
$publisher->safe_psql('app', "COMMIT PREPARED 'c'");
in_step('COMMIT PREPARED after a crash of the subscriber');

# --- the apply worker writes while counting is turned off
$subscriber->safe_psql('app', 'ALTER SYSTEM SET track_counts = off');
$subscriber->reload;
ok(poll_until($subscriber, 'app', 'SHOW track_counts', 'off'), 'track_counts is off');
$subscriber->safe_psql('app', 'ALTER SUBSCRIPTION sub DISABLE');
$subscriber->safe_psql('app', 'ALTER SUBSCRIPTION sub ENABLE');
$publisher->safe_psql('app', 'INSERT INTO t VALUES (70, 1)');
$publisher->wait_for_catchup('sub');
is(wrongly_fresh($subscriber, 'app'), '', 'track_counts off: no view is called fresh that is not');
$subscriber->safe_psql('app', 'ALTER SYSTEM RESET track_counts');
$subscriber->reload;
ok(poll_until($subscriber, 'app', 'SHOW track_counts', 'on'), 'track_counts is on again');
in_step('track_counts was off for a while');

no_crash($_) foreach ($subscriber, $publisher);
$subscriber->stop;
$publisher->stop;
note('took ' . started() . ' s');
done_testing();
