# Faults in load: spills, checkpoints, reads, rollbacks, slow statements. Each also with too little evidence.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use PgoptTest;
use PgoptHealth;

my $node = health_node('load', preload => 'pgopt,pg_stat_statements', conf => <<'CONF');
max_wal_size = 32MB
min_wal_size = 32MB
shared_buffers = 16MB
jit = off
pg_stat_statements.track = none
CONF

sub restart_window
{
  $node->safe_psql('postgres', 'SELECT pgopt_restart_window()');
  return;
}

# load_findings(): ids of the component's findings
sub load_findings
{
  return join(', ', map { "$_->{check_id} $_->{severity}" } grep { $_->{component} eq 'load' } findings($node));
}

#
# pg_stat_statements: missing, in a schema of its own
#
is(load_findings(), 'pgss_missing info', 'nothing but pg_stat_statements is missing at first');
like((found($node, 'pgss_missing'))[0]{remedy}, qr/^CREATE EXTENSION pg_stat_statements;$/, 'its remedy creates it');
$node->safe_psql('postgres', q(CREATE SCHEMA "The ""Stat's 100%s"; CREATE EXTENSION pg_stat_statements SCHEMA "The ""Stat's 100%s"));
is(load_findings(), '', 'it is found in any schema');

#
# Temporary files
#
my $spill = q(SET work_mem = '1MB'; SELECT max(t) FROM (SELECT i, repeat('x', 200) t FROM generate_series(1, %d) i ORDER BY i DESC OFFSET 0) s);
restart_window();
$node->safe_psql('postgres', sprintf($spill, 50_000));
is(scalar(found($node, 'temp_spills')), 0, 'a small spill is none');
fault($node, check => 'temp_spills', severity => 'info', object => qr/^database postgres$/, inject => sprintf($spill, 600_000));
$node->safe_psql('postgres', 'ALTER SYSTEM RESET work_mem; SELECT pg_reload_conf()');
restart_window();
fault($node, check => 'temp_spills', severity => 'warning', settings => { 'pgopt.temp_bytes_warning' => '110MB' },
  not_yet => { 'pgopt.temp_bytes_warning' => '10GB' },
  inject => sub { restart_window(); $node->safe_psql('postgres', sprintf($spill, 600_000)) });
is($node->safe_psql('postgres', 'SHOW work_mem'), '64MB', 'the remedy gives work_mem what the files need, within reason');
# what a load spills for its indexes is in proportion to its WAL
set_settings($node, { 'pgopt.temp_bytes_info' => '4MB', 'pgopt.temp_bytes_warning' => '4MB' });
restart_window();
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE loaded AS SELECT i, repeat('x', 60) t FROM generate_series(1, 500000) i;
SET maintenance_work_mem = '1MB';
ALTER TABLE loaded ADD PRIMARY KEY (i);
SQL
like((found($node, 'temp_spills'))[0]{severity}, qr/^info$/, 'the indexes of a load are worth knowing at most');
$node->safe_psql('postgres', 'DROP TABLE loaded; ALTER SYSTEM RESET work_mem');
reset_settings($node, { 'pgopt.temp_bytes_info' => 1, 'pgopt.temp_bytes_warning' => 1 });

#
# Checkpoints
#
restart_window();
$node->safe_psql('postgres', 'CHECKPOINT') foreach 1 .. 10;
is(scalar(found($node, 'checkpoints_frequent')), 0, 'checkpoints that somebody asks for are none');
my $write_wal = <<'SQL';
DO $$
BEGIN
  FOR i IN 1..140 LOOP
    PERFORM pg_logical_emit_message(false, 'test', repeat('x', 1000000));
    PERFORM pg_sleep(0.02);
  END LOOP;
END $$
SQL
fault($node, check => 'checkpoints_frequent', severity => 'warning', object => qr/^max_wal_size$/,
  not_yet => { 'pgopt.checkpoint_min_count' => 1000 }, inject => sub { restart_window(); $node->safe_psql('postgres', $write_wal) });
cmp_ok($node->safe_psql('postgres', "SELECT pg_size_bytes(current_setting('max_wal_size')) / 1048576"), '>=', 64, 'the remedy made room');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET max_wal_size; SELECT pg_reload_conf()');
fault($node, check => 'checkpoints_frequent', severity => 'info', settings => { 'pgopt.checkpoint_interval_warning' => 0 },
  inject => sub { restart_window(); $node->safe_psql('postgres', $write_wal) });

#
# Cache
#
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE large AS SELECT i, repeat('x', 1000) t FROM generate_series(1, 40000) i;
VACUUM ANALYZE large;
SQL
my $scan = 'SELECT count(*) FROM large;';
restart_window();
$node->safe_psql('postgres', 'SELECT count(*) FROM (SELECT i FROM large LIMIT 7000) s');
is(scalar(found($node, 'cache_hit')), 0, 'few accesses are no evidence');
fault($node, check => 'cache_hit', severity => 'warning', restart => 1, object => qr/^database postgres$/,
  not_yet => { 'pgopt.cache_hit_min_accesses' => 1000000 },
  inject => sub { restart_window(); $node->safe_psql('postgres', $scan x 5) });
restart_window();
$node->safe_psql('postgres', $scan x 8);
is(scalar(found($node, 'cache_hit')), 0, 'nothing is found in a database that fits into shared_buffers');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET shared_buffers');
$node->restart;
fault($node, check => 'cache_hit', severity => 'info', settings => { 'pgopt.cache_hit_warning' => 0 }, restart => 1,
  inject => sub { restart_window(); $node->safe_psql('postgres', $scan x 5) });
$node->safe_psql('postgres', 'DROP TABLE large; ALTER SYSTEM RESET shared_buffers');
$node->restart;

#
# Rollbacks
#
# transactions($committed, $rolled_back)
sub transactions
{
  my ($committed, $rolled_back) = @_;
  $node->safe_psql('postgres', ("BEGIN; SELECT 1; COMMIT;\n" x $committed) . ("BEGIN; SELECT 1; ROLLBACK;\n" x $rolled_back));
  return;
}
restart_window();
transactions(0, 300);
is(scalar(found($node, 'rollbacks')), 0, 'few transactions are no evidence');
restart_window();
transactions(1500, 100);
is(scalar(found($node, 'rollbacks')), 0, 'few rollbacks are none');
fault($node, check => 'rollbacks', severity => 'warning', object => qr/^database postgres$/,
  not_yet => { 'pgopt.rollbacks_warning' => 50 }, inject => sub { restart_window(); transactions(900, 300) });

#
# Statements
#
$node->safe_psql('postgres', 'ALTER SYSTEM SET pg_stat_statements.track = top; SELECT pg_reload_conf()');
$node->safe_psql('postgres', 'SELECT pg_sleep(1.1)') foreach 1 .. 2;
is(scalar(found($node, 'slow_statements')), 0, 'two calls are no evidence');
$node->safe_psql('postgres', 'COPY (SELECT 1 FROM pg_sleep(1.1)) TO STDOUT') foreach 1 .. 3;
is(scalar(found($node, 'slow_statements')), 0, 'utility statements are none');
fault($node, check => 'slow_statements', severity => 'warning', object => qr/^statement -?\d+$/,
  not_yet => { 'pgopt.slow_statement_mean' => '2s' }, inject => "/* why */ -- so\n SELECT pg_sleep(1.1); SELECT pg_sleep(1.1); SELECT pg_sleep(1.1)");
fault($node, check => 'slow_statements', severity => 'info', settings => { 'pgopt.slow_statement_share_warning' => 100 },
  inject => "WITH a AS (SELECT pg_sleep(1.1)) SELECT * FROM a; WITH a AS (SELECT pg_sleep(1.1)) SELECT * FROM a; WITH a AS (SELECT pg_sleep(1.1)) SELECT * FROM a; SELECT pg_sleep(0.1)");
$node->safe_psql('postgres', "SELECT 'hush', pg_sleep(1.1)") foreach 1 .. 3;
$node->safe_psql('postgres', 'CREATE ROLE nobody; CREATE ROLE monitor IN ROLE pg_monitor;'
    . q( GRANT USAGE ON SCHEMA "The ""Stat's 100%s" TO PUBLIC));
like($node->safe_psql('postgres', 'SET ROLE monitor; SELECT pgopt_findings_json()'), qr/pg_sleep/, 'pg_monitor sees slow statements');
unlike($node->safe_psql('postgres', 'SET ROLE nobody; SELECT pgopt_findings_json()'), qr/pg_sleep/, 'texts are not shown to others');
is($node->safe_psql('postgres', "SET ROLE nobody; SELECT reason FROM pgopt_checks() WHERE check_id = 'slow_statements'"),
  'it needs the privileges of pg_read_all_stats: GRANT pg_read_all_stats TO nobody;', 'and it is said which right is missing');
is($node->safe_psql('postgres', "SET standard_conforming_strings = off; SELECT count(*) FROM pgopt_findings() WHERE check_id = 'slow_statements'"),
  1, 'whatever the session makes of backslashes');
mend($node, 'postgres', found($node, 'slow_statements'));

#
# Statements that are discarded
#
$node->append_conf('postgresql.conf', "pg_stat_statements.max = 100\n");
$node->restart;
# so many statements of different shape
my $many = join('', map { 'SELECT ' . join(', ', (1) x $_) . ";\n" } 1 .. 300);
fault($node, check => 'pgss_evicting', severity => 'warning', restart => 1, not_yet => { 'pgopt.pgss_evictions_warning' => 100000 }, inject => $many);
is($node->safe_psql('postgres', 'SHOW pg_stat_statements.max'), '200', 'the remedy doubled the room');
fault($node, check => 'pgss_evicting', severity => 'info', restart => 1, settings => { 'pgopt.pgss_evictions_warning' => 100000 }, inject => $many);
set_settings($node, { 'pgopt.pgss_evictions_info' => 100000, 'pgopt.pgss_evictions_warning' => 100000 });
$node->safe_psql('postgres', $many);
is(scalar(found($node, 'pgss_evicting')), 0, 'below its threshold nothing is found');

#
# Not loaded at all
#
fault($node, check => 'pgss_missing', severity => 'info', restart => 1,
  inject => sub {
    $node->safe_psql('postgres', "ALTER SYSTEM SET shared_preload_libraries = 'pgopt'; DROP EXTENSION pg_stat_statements");
    $node->restart;
    is($node->safe_psql('postgres', "SELECT reason FROM pgopt_checks() WHERE check_id = 'pgss_evicting'"),
      'pg_stat_statements is not in shared_preload_libraries', 'without the library it is unknown');
  });
is($node->safe_psql('postgres', 'SHOW shared_preload_libraries'), 'pgopt, pg_stat_statements', 'the remedy keeps the libraries that are there');

done_testing();
