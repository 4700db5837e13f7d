# The workload over restarts, with real clients, in bounded memory, on a standby, and with pg_stat_statements.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;
use PgoptTest;

my $node = pgopt_node('main', extension => 'app',
  conf => "pgopt.worker_naptime = '1s'\npgopt.workload_statements = 500\npgopt.workload_memory = '256kB'\n");

# Names of columns make no statement another one: each here has a function of its own.
sub seen
{
  my ($on, $where, $what) = @_;
  $what //= 'calls, samples > 0, captured';
  return $on->safe_psql('app', "SELECT $what FROM pgopt_workload() WHERE query ~ '$where' AND query !~ 'pgopt'");
}

$node->safe_psql('app', 'CREATE TABLE bill (id int PRIMARY KEY, title text);'
    . " INSERT INTO bill SELECT i, 'PL ' || i FROM generate_series(1, 1000) i; ANALYZE bill; SELECT pgopt_workload_reset()");

# pgbench: prepared and extended protocol, and text
my $script = $node->basedir . '/select.sql';
append_to_file($script, "\\set id random(1, 1000)\nSELECT title FROM bill WHERE id = :id;\n");
foreach my $mode (qw(prepared extended simple))
{
  $node->safe_psql('app', 'SELECT pgopt_workload_reset()');
  $node->command_ok(
    [ 'pgbench', '-n', '-M', $mode, '-c', '2', '-t', '100', '-f', $script, '-h', $node->host, '-p', $node->port, 'app' ],
    "pgbench -M $mode");
  is(seen($node, 'FROM bill WHERE id'), '200|t|t', "$mode: executions are counted, and some sampled");
  my $sample = $node->safe_psql('app', "SELECT s.query, s.parameters, s.rows FROM pgopt_workload() w,"
      . " pgopt_workload_samples(w.queryid) s WHERE w.query ~ 'FROM bill WHERE id' LIMIT 1");
  like($sample, $mode eq 'simple' ? qr/^SELECT title FROM bill WHERE id = \d+;?\|\{\}\|1$/
      : qr/^SELECT title FROM bill WHERE id = \$1;?\|\{"\$1": "\d+"\}\|1$/, "$mode: with its constant or its parameter");
}

# the worker writes by itself, without being asked
$node->safe_psql('app', 'SELECT pgopt_workload_reset(); SELECT variance(id) AS written FROM bill');
ok(poll_until($node, 'app', "SELECT count(*) FROM pgopt.workload_statements WHERE query ~ 'AS written'", '1', 60),
  'the worker writes what was captured');

# a restart loses nothing
$node->safe_psql('app', 'SELECT pgopt.workload_flush()');
$node->safe_psql('app', 'SELECT count(id) AS late FROM bill') for 1 .. 3;
my $since = $node->safe_psql('app', 'SELECT since FROM pgopt_workload_status()');
$node->restart;
is(seen($node, 'AS late'), '3|t|t', 'what was not written yet is written when the server stops');
is($node->safe_psql('app', 'SELECT since FROM pgopt_workload_status()'), $since, 'and it is known since when');

# a crash loses what was not written, and nothing else
$node->safe_psql('app', 'SELECT max(id) AS safe FROM bill; SELECT pgopt.workload_flush(); SELECT min(id) AS unsafe FROM bill');
$node->stop('immediate');
$node->start;
is(seen($node, 'AS safe'), '1|t|t', 'what was written survives a crash');
unlike(seen($node, 'AS unsafe', '*'), qr/\|[2-9]\|/, 'nothing is counted twice after one');

# CREATE INDEX CONCURRENTLY ends a period when it has ended
$node->safe_psql('app', 'SELECT pgopt_workload_reset()');
$node->safe_psql('app', "SELECT count(*) AS period FROM bill WHERE title = 'x'");
$node->safe_psql('app', 'CREATE INDEX CONCURRENTLY bill_title ON bill (title)');
$node->safe_psql('app', "SELECT count(*) AS period FROM bill WHERE title = 'y'");
$node->safe_psql('app', "SELECT count(*) AS period FROM bill WHERE title = 'z'");
$node->safe_psql('app', 'SELECT pgopt.workload_flush()');
is($node->safe_psql('app', "SELECT string_agg(calls::text, ' ' ORDER BY period_start) FROM pgopt.workload_history h"
      . " JOIN pgopt.workload_statements s USING (queryid, userid) WHERE s.query ~ 'AS period'"),
  '1 2', 'executions before and after an index that is built concurrently are counted apart');

# many distinct statements: memory stays bounded, the server lives, the tables stay bounded
my $many = $node->basedir . '/many.sql';
{
  open my $file, '>', $many or die;
  foreach my $i (1 .. 20000)
  {
    my ($columns, $left) = ('', $i);
    while ($left > 0)
    {
      $columns .= ($left % 2 ? ', id' : ', title');
      $left = int($left / 2);
    }
    print $file 'SELECT 1' . $columns . " FROM bill WHERE id = $i;\n";
  }
  close $file;
}
$node->safe_psql('app', 'SELECT pgopt_workload_reset()');
$node->command_ok([ 'psql', '-X', '-q', '-At', '-o', '/dev/null', '-f', $many, '-h', $node->host, '-p', $node->port, 'app' ],
  '20,000 distinct statements');
my ($statements, $evicted, $used, $size) = split /\|/, $node->safe_psql('app',
  'SELECT statements, statements_evicted, memory_used, memory_size FROM pgopt_workload_status()');
cmp_ok($statements, '<=', 500, 'entries stay within their bound');
cmp_ok($evicted, '>=', 19000, 'the others went');
cmp_ok($used, '<=', $size, 'so do samples');
$node->safe_psql('app', 'SELECT pgopt.workload_flush()');
$node->safe_psql('app', 'SELECT pgopt.workload_flush()');
cmp_ok($node->safe_psql('app', 'SELECT count(*) FROM pgopt.workload_statements'), '<=', 2500, 'and rows of the table');
$node->safe_psql('app', "SELECT sum(id) AS often FROM bill") for 1 .. 5;
is(seen($node, 'AS often'), '5|t|t', 'it goes on after that');

# another database of the server has a workload of its own; one without the extension has none
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE TABLE t (a int); INSERT INTO t VALUES (1); CREATE EXTENSION pgopt; SELECT count(*) AS elsewhere FROM t');
is($node->safe_psql('other', "SELECT calls FROM pgopt_workload() WHERE query ~ 'AS elsewhere'"), '1', 'captured as soon as it is there');
is($node->safe_psql('other', "SELECT count(*) FROM pgopt_workload() WHERE query ~ 'INSERT'"), '0', 'not before');
is(seen($node, 'AS elsewhere', 'count(*)'), '0', 'and not seen from elsewhere');
$node->safe_psql('postgres', 'DROP DATABASE other WITH (FORCE)');

# a standby captures too, in shared memory, and shows the primary's beside it
$node->safe_psql('app', 'SELECT avg(id) AS replicated FROM bill; SELECT pgopt.workload_flush()');
$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
$standby->safe_psql('app', 'SELECT min(title) AS read_only FROM bill') for 1 .. 2;
is(seen($standby, 'AS read_only'), '2|t|t', 'a standby captures what it runs');
is(seen($standby, 'AS replicated'), '1|t|t', 'and knows what was replicated');
my ($code, $out, $err) = $standby->psql('app', 'SELECT pgopt.workload_flush()');
is($code, 0, 'where nothing can be written, nothing is');
$standby->promote;
ok(poll_until($standby, 'app', "SELECT count(*) FROM pgopt.workload_statements WHERE query ~ 'AS read_only'", '1', 60),
  'it is written after a promotion');
$standby->stop;

# pg_stat_statements knows what was not captured
SKIP:
{
  skip 'pg_stat_statements is not installed', 4 unless library_installed('pg_stat_statements');
  $node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_stat_statements, pgopt'\npgopt.workload_capture = off\n");
  $node->restart;
  $node->safe_psql('app', 'CREATE SCHEMA stats; CREATE EXTENSION pg_stat_statements SCHEMA stats');
  $node->safe_psql('app', 'SELECT title AS unseen FROM bill WHERE id = 5') for 1 .. 3;
  is(seen($node, 'AS unseen', 'calls, samples, captured, query'), '3|0|f|SELECT title AS unseen FROM bill WHERE id = $1',
    'a statement that only pg_stat_statements knows, by its normalised text');
  $node->append_conf('postgresql.conf', 'pgopt.workload_capture = on');
  $node->reload;
  $node->safe_psql('app', 'SELECT id, title AS both FROM bill WHERE id = 5') for 1 .. 3;
  is(seen($node, 'AS both', 'calls, samples > 0, captured, query'), '3|t|t|SELECT id, title AS both FROM bill WHERE id = 5',
    'one that both know is told once, with its own text');
  is($node->safe_psql('app', "SELECT calls, shared_blks_hit > 0 FROM stats.pg_stat_statements WHERE query ~ 'AS both'"), '3|t',
    'and pg_stat_statements measures as before');
  $node->append_conf('postgresql.conf', "shared_preload_libraries = 'pgopt, pg_stat_statements'\n");
  $node->restart;
  $node->safe_psql('app', 'SELECT title, id AS order_of_loading FROM bill WHERE id = 5') for 1 .. 3;
  is($node->safe_psql('app', "SELECT calls, shared_blks_hit > 0 FROM stats.pg_stat_statements WHERE query ~ 'order_of'"), '3|t',
    'in whatever order they are loaded');
}

# without the library nothing is captured, what was is still there, and it is said
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->restart;
is($node->safe_psql('app', 'SELECT capturing, reason FROM pgopt_workload_status()'),
  'f|pgopt was not loaded when the server started', 'not preloaded: said so');
is(seen($node, 'AS safe', 'captured'), '', 'what was forgotten stays so');
like(seen($node, 'AS replicated', 'calls, captured'), qr/^1\|t$/, 'what was captured is still told');

$node->stop;
done_testing();
