# Faults of the planner's and the cumulative statistics.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;

use PgoptHealth;
use PgoptTest;

my $node = health_node('statistics', conf => "autovacuum_naptime = '1h'\n");

# --- never_analysed
fault(
  $node,
  check => 'never_analysed',
  severity => 'info',
  object => qr/"New Table"/,
  not_yet => { 'pgopt.never_analysed_rows' => 30000 },
  inject => q(CREATE TABLE "New Table" (id int PRIMARY KEY, body text);
    INSERT INTO "New Table" SELECT i, 'x' FROM generate_series(1, 20000) i));
fault(
  $node,
  check => 'never_analysed',
  severity => 'warning',
  object => qr/^public\.alone$/,
  also => qr/autovacuum_disabled/,
  inject => q(CREATE TABLE alone (id int PRIMARY KEY, body text) WITH (autovacuum_enabled = false);
    INSERT INTO alone SELECT i, 'x' FROM generate_series(1, 20000) i),
  mend => sub {
    my ($n, @found) = @_;
    mend($n, 'postgres', @found);
    $n->safe_psql('postgres', 'ALTER TABLE alone RESET (autovacuum_enabled)');
  });
fault(
  $node,
  check => 'never_analysed',
  severity => 'info',
  object => qr/^public\.parts$/,
  inject => q(CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY HASH (id);
    CREATE TABLE parts_1 PARTITION OF parts FOR VALUES WITH (MODULUS 1, REMAINDER 0);
    INSERT INTO parts SELECT generate_series(1, 20000); ANALYZE parts_1));
$node->safe_psql('postgres', 'CREATE TABLE small (id int PRIMARY KEY); INSERT INTO small SELECT generate_series(1, 100)');
is(scalar(found($node, 'never_analysed')), 0, 'never_analysed: a small table is none');

# counters that a crash took away do not make an analyzed table a new one
$node->stop('immediate');
$node->start;
is(scalar(found($node, 'never_analysed')), 0, 'never_analysed: none after a crash that lost the counters');
$node->safe_psql('postgres', q(CREATE TABLE lost (id int PRIMARY KEY, body text);
  INSERT INTO lost SELECT i, repeat('x', 100) FROM generate_series(1, 30000) i; CHECKPOINT));
$node->stop('immediate');
$node->start;
is((found($node, 'never_analysed'))[0]{object}, 'public.lost', 'never_analysed: without counters its file tells');
$node->safe_psql('postgres', 'ANALYZE lost');

# --- stale_statistics
fault(
  $node,
  check => 'stale_statistics',
  severity => 'info',
  object => qr/"New Table"/,
  not_yet => { 'pgopt.stale_statistics_rows' => 100000 },
  inject => q(UPDATE "New Table" SET body = 'y'));
fault(
  $node,
  check => 'stale_statistics',
  severity => 'warning',
  object => qr/^public\.alone$/,
  also => qr/autovacuum_disabled/,
  not_yet => { 'pgopt.stale_statistics_percent' => 99 },
  inject => q(ALTER TABLE alone SET (autovacuum_enabled = false); UPDATE alone SET body = 'y' WHERE id <= 15000),
  mend => sub {
    my ($n, @found) = @_;
    mend($n, 'postgres', @found);
    $n->safe_psql('postgres', 'ALTER TABLE alone RESET (autovacuum_enabled)');
  });
$node->safe_psql('postgres', 'UPDATE small SET id = -id');
is(scalar(found($node, 'stale_statistics')), 0, 'stale_statistics: a small table is none');

# --- statistics_reset; the cluster is younger than an hour, so that nothing else begins its statistics
fault(
  $node,
  check => 'statistics_reset',
  severity => 'info',
  object => qr/^postgres$/,
  settings => { 'pgopt.statistics_reset_memory' => '1d' },
  inject => 'SELECT pg_stat_reset()',
  mend => sub { set_settings($_[0], { 'pgopt.statistics_reset_memory' => '0s' }) });

$node->stop;
done_testing();
