# The memory of a worker, of a refresh worker and of the launcher stays flat over thousands of cycles of every kind.
# PGOPT_CYCLES sets their number (2000).
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);
use PgoptTest;
use PgoptViews;

plan skip_all => 'no /proc to read memory from' unless -r '/proc/self/status';

my $cycles = $ENV{PGOPT_CYCLES} // 2000;
my $node = pgopt_node('main', extension => 'app', conf => <<'CONF');
log_statement = none
pgopt.worker_naptime = '200ms'
pgopt.max_refresh_workers = 1
temp_buffers = '800kB'
CONF
create_checks($node, 'app');
$node->safe_psql('app', <<'SQL');
CREATE TABLE t (id int);
CREATE TABLE p (id int) PARTITION BY RANGE (id);
CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (1000);
CREATE MATERIALIZED VIEW concurrently_refreshed AS SELECT 1 AS one, count(*) n FROM t;
CREATE UNIQUE INDEX ON concurrently_refreshed (one);
CREATE MATERIALIZED VIEW built_anew AS SELECT count(*) n FROM t;
CREATE MATERIALIZED VIEW of_parts AS SELECT count(*) n FROM p;
CREATE MATERIALIZED VIEW fails AS SELECT 1 / (count(*) + 1) FROM t;
SELECT pgopt_manage('concurrently_refreshed', 'immediate'), pgopt_manage('built_anew', 'immediate'),
       pgopt_manage('of_parts', 'immediate'), pgopt_manage('fails', 'smart');
CREATE FUNCTION anything() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
-- a commit that wakes the worker, in as many transactions as are asked for
CREATE PROCEDURE wake(cycles int, sql text) LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1 .. cycles LOOP
    EXECUTE sql;
    COMMIT;
    PERFORM pg_sleep(0.001);
  END LOOP;
END $$;
SQL
all_fresh($node, 'app', 'at the start');

# Private memory of a process, in kB.
sub memory
{
  my ($kind) = @_;
  my ($pid) = worker_pids($node, $kind, $kind eq 'pgopt launcher' ? undef : 'app');
  return unless $pid;
  my ($kilobytes) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB/m;
  return ($pid, $kilobytes);
}

my %work = (
  'changes and refreshes' => [ $cycles / 4, 'INSERT INTO t VALUES (1)' ],
  'changes of the configuration' => [ $cycles, q{SELECT pgopt_manage('built_anew', priority => 1 + (random() * 9)::int)} ],
  'changes of definitions' => [ $cycles / 4, q{CREATE OR REPLACE FUNCTION anything() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2'} ],
  'partitions that come and go' => [ $cycles / 20, 'CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (1000) TO (2000); INSERT INTO p VALUES (1), (1001); DROP TABLE p_2' ],
  'views that are managed and not' => [ $cycles / 4, q{SELECT pgopt_unmanage('fails'::regclass); SELECT pgopt_manage('fails')} ],
);

sub work
{
  my ($share) = @_;
  foreach my $name (sort keys %work)
  {
    my ($number, $sql) = @{ $work{$name} };
    $sql =~ s/'/''/g;
    $node->safe_psql('app', sprintf("CALL wake(%d, '%s')", $number * $share + 1, $sql));
  }
  return;
}

# compare($kind, $pid, $kilobytes): the process is the same, and has not grown since.
sub compare
{
  my ($kind, $pid, $kilobytes) = @_;
  my ($now_pid, $now) = memory($kind);
  is($now_pid, $pid, "the $kind is still the same process");
  my $growth = ($now // 0) - ($kilobytes // 0);
  note("$kind: $kilobytes kB, then $now kB");
  cmp_ok($growth, '<', 1024, "memory of the $kind stays flat (grew by $growth kB)");
  return;
}

# What is cached once is cached in the first part.
work(0.25);
my $refreshes = 'SELECT count(*) FROM pgopt.refresh_log';
my $inserts = "CALL wake(%d, 'INSERT INTO t VALUES (1)')";

# A refresh worker lives for as long as there is work.  The server keeps something of each CONCURRENTLY refresh for the
# life of the process, so it must not live for ever.
my $first = $node->safe_psql('app', $refreshes);
$node->safe_psql('app', "SELECT pgopt_unmanage(v) FROM unnest('{built_anew,fails}'::regclass[]) v");
my $session = $node->background_psql('app');
$session->query_until(qr/begun/, sprintf("\\echo begun\nCALL wake(%d, 'INSERT INTO t SELECT 1 FROM pg_sleep(0.005)');\n", $cycles * 0.6));
my ($least, $most, @pids);
while ($node->safe_psql('app', "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CALL wake%' AND state = 'active'"))
{
  my ($pid, $kilobytes) = memory('pgopt refresh');
  next unless defined $kilobytes;
  push @pids, $pid unless grep { $_ == $pid } @pids;
  $least = $kilobytes if !defined $least || $kilobytes < $least;
  $most = $kilobytes if !defined $most || $kilobytes > $most;
  sleep(0.2);
}
$session->quit;
note(sprintf('refreshes: %d, by %d processes, %d to %d kB', $node->safe_psql('app', $refreshes) - $first, scalar(@pids), $least, $most));
$node->safe_psql('app', "SELECT pgopt_manage('built_anew', 'immediate'), pgopt_manage('fails', 'smart')");
cmp_ok($most - $least, '<', 3 * 1024, 'memory of refresh workers is bounded');

my @worker = memory('pgopt worker');
my @launcher = memory('pgopt launcher');
work(1);
compare('pgopt worker', @worker);
compare('pgopt launcher', @launcher);
all_fresh($node, 'app', 'at the end');
no_crash($node);
$node->stop;
note('took ' . started() . ' s');
done_testing();
