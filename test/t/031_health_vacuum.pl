# Faults of vacuum: dead rows that stay, and autovacuum that does not get to them.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;

use PgoptHealth;
use PgoptTest;

my $node = health_node('vacuum', conf => "autovacuum_naptime = '1h'\n");

sub holding
{
  my ($sql) = @_;
  my $session = $node->background_psql('postgres', on_error_stop => 0);
  $session->query($sql);
  return $session;
}

# 40,000 rows of about 400 bytes: 16 MB
$node->safe_psql('postgres', <<'SQL');
CREATE SCHEMA "A b";
CREATE TABLE "A b"."Big Table" (id int PRIMARY KEY, body text);
INSERT INTO "A b"."Big Table" SELECT i, repeat('x', 400) FROM generate_series(1, 40000) i;
CREATE TABLE wide (id int PRIMARY KEY, body text);
ALTER TABLE wide ALTER body SET STORAGE EXTERNAL;
INSERT INTO wide SELECT i, repeat('y', 4000) FROM generate_series(1, 5000) i;
CREATE TABLE tiny (id int PRIMARY KEY);
INSERT INTO tiny SELECT generate_series(1, 1000);
SQL
# in a session of its own: what the one above counted must be there before
$node->safe_psql('postgres', 'VACUUM (ANALYZE)');

# --- vacuum_overdue
fault(
  $node,
  check => 'vacuum_overdue',
  severity => 'warning',
  object => qr/^"A b"\."Big Table"$/,
  settings => { 'pgopt.vacuum_overdue_size' => '5MB' },
  not_yet => { 'pgopt.vacuum_overdue_size' => '15MB' },
  inject => 'DELETE FROM "A b"."Big Table" WHERE id % 2 = 0');
$node->safe_psql('postgres',
  q(INSERT INTO "A b"."Big Table" SELECT i, repeat('x', 400) FROM generate_series(2, 40000, 2) i));
$node->safe_psql('postgres', 'VACUUM (ANALYZE) "A b"."Big Table"');
fault(
  $node,
  check => 'vacuum_overdue',
  severity => 'warning',
  object => qr/^TOAST of public\.wide$/,
  not_yet => { 'pgopt.vacuum_overdue_percent' => 90 },
  inject => q(DELETE FROM wide WHERE id > 1000),
  also => qr/stale/);

# autovacuum is about to come; and it will not
fault(
  $node,
  check => 'vacuum_overdue',
  severity => 'info',
  object => qr/Big Table/,
  settings => { 'pgopt.vacuum_overdue_size' => '2MB', 'autovacuum_naptime' => '10min' },
  inject => 'DELETE FROM "A b"."Big Table" WHERE id % 4 = 1');
$node->safe_psql('postgres', 'DELETE FROM "A b"."Big Table" WHERE id % 4 = 2');
$node->safe_psql('postgres', 'VACUUM (ANALYZE) "A b"."Big Table"');

# the counts of deletes can arrive after the VACUUM that removed the rows: what is counted is looked at
$node->safe_psql('postgres', <<'SQL');
SET stats_fetch_consistency = none;
CREATE TABLE counted (id int, body text);
INSERT INTO counted SELECT i, repeat('x', 400) FROM generate_series(1, 40000) i;
DELETE FROM counted WHERE id % 10 < 7;
VACUUM ANALYZE counted;
SQL
is(join(' ', map { $_->{object} } found($node, 'vacuum_overdue')), '', 'vacuum_overdue: what is not there is not dead');
$node->safe_psql('postgres', 'DROP TABLE counted');

# what an old snapshot needs no VACUUM removes: who has it is named
my $snapshot = $node->background_psql('postgres', on_error_stop => 0);
my $holder = $snapshot->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM wide; SELECT pg_backend_pid()');
$holder =~ s/^.*\n//s;
$node->safe_psql('postgres', q(CREATE TABLE "Kept" AS SELECT i, repeat('x', 400) AS body FROM generate_series(1, 40000) i));
$node->safe_psql('postgres', 'UPDATE "Kept" SET body = body');
set_settings($node, { 'pgopt.vacuum_overdue_size' => '2MB' });
my ($kept) = found($node, 'vacuum_overdue');
like($kept->{message}, qr/an old snapshot keeps VACUUM from removing them/, 'vacuum_overdue: an old snapshot is told of');
like($kept->{remedy}, qr/^SELECT pg_terminate_backend\($holder, 10000\);\nVACUUM/, 'vacuum_overdue: and who has it');
mend($node, 'postgres', $kept) if $kept;
is(scalar(found($node, 'vacuum_overdue')), 0, 'vacuum_overdue: gone with the snapshot');
eval { $snapshot->quit };
reset_settings($node, { 'pgopt.vacuum_overdue_size' => 1 });
$node->safe_psql('postgres', 'DROP TABLE "Kept"');

# while a VACUUM is at work it is no warning
$node->safe_psql('postgres', 'UPDATE "A b"."Big Table" SET body = body');
$node->safe_psql('postgres', q(ALTER SYSTEM SET pgopt.vacuum_overdue_size = '2MB'));
$node->reload;
ok(poll_until($node, 'postgres', q(SELECT severity FROM pgopt_findings() WHERE check_id = 'vacuum_overdue'), 'warning'),
  'vacuum_overdue: dead rows');
my $vacuum = $node->background_psql('postgres', on_error_stop => 0);
$vacuum->query_until(qr/begun/, qq(\\echo begun\nSET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1; VACUUM "A b"."Big Table";\n));
ok(poll_until($node, 'postgres', q(SELECT count(*) FROM pg_stat_progress_vacuum), '1'), 'a VACUUM is at work');
is((found($node, 'vacuum_overdue'))[0]{severity}, 'info', 'vacuum_overdue: a VACUUM that is at work is no warning');
$node->safe_psql('postgres', q(SELECT pg_cancel_backend(pid) FROM pg_stat_progress_vacuum));
$vacuum->quit;
$node->safe_psql('postgres', q(VACUUM (ANALYZE) "A b"."Big Table"; ALTER SYSTEM RESET pgopt.vacuum_overdue_size));
$node->reload;

$node->safe_psql('postgres', 'DELETE FROM tiny WHERE id > 10');
is(scalar(found($node, 'vacuum_overdue')), 0, 'vacuum_overdue: a tiny table is none');
$node->safe_psql('postgres', 'VACUUM (ANALYZE) tiny');

# --- autovacuum_disabled
fault(
  $node,
  check => 'autovacuum_disabled',
  severity => 'warning',
  object => qr/Big Table/,
  inject => 'ALTER TABLE "A b"."Big Table" SET (autovacuum_enabled = false)');
fault(
  $node,
  check => 'autovacuum_disabled',
  severity => 'warning',
  object => qr/^TOAST of public\.wide$/,
  inject => 'ALTER TABLE wide SET (toast.autovacuum_enabled = off)');
fault(
  $node,
  check => 'autovacuum_disabled',
  severity => 'warning',
  object => qr/"Old View"/,
  inject => 'CREATE MATERIALIZED VIEW "Old View" WITH (autovacuum_enabled = false) AS SELECT 1 AS a');
my $other = holding('CREATE TEMP TABLE t (a int) WITH (autovacuum_enabled = false); INSERT INTO t VALUES (1)');
$node->safe_psql('postgres', q(CREATE TABLE empty (id int PRIMARY KEY) WITH (autovacuum_enabled = false);
  CREATE TABLE of_extension (id int PRIMARY KEY) WITH (autovacuum_enabled = false); INSERT INTO of_extension VALUES (1);
  ALTER EXTENSION pgopt ADD TABLE of_extension));
is(scalar(found($node, 'autovacuum_disabled')), 0,
  "autovacuum_disabled: an empty table, a temporary one and an extension's are none");
$other->quit;
$node->safe_psql('postgres', 'ALTER EXTENSION pgopt DROP TABLE of_extension; DROP TABLE of_extension, empty');

# --- autovacuum_saturated: one worker, at work on a table for a long time, while others wait
my %one = (
  autovacuum_vacuum_cost_delay => '100ms',
  autovacuum_vacuum_cost_limit => 1,
  'pgopt.autovacuum_saturated_tables' => 3);
$node->append_conf('postgresql.conf', "autovacuum_max_workers = 1\nautovacuum_naptime = '1s'\n");
fault(
  $node,
  check => 'autovacuum_saturated',
  severity => 'warning',
  object => qr/^autovacuum$/,
  settings => {%one},
  also => qr/vacuum_overdue/,
  inject => sub {
    $node->safe_psql('postgres', join(';', map {
      "CREATE TABLE busy_$_ (id int PRIMARY KEY, v int); INSERT INTO busy_$_ SELECT i FROM generate_series(1, 5000) i"
    } 1 .. 5));
    $node->safe_psql('postgres', 'VACUUM ANALYZE');
    $node->restart;
    $node->safe_psql('postgres', join(';', map { "UPDATE busy_$_ SET v = 1" } 1 .. 5));
    ok(poll_until($node, 'postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'), '1'), 'the only worker is at work');
  },
  mend => sub {
    my ($n, @found) = @_;
    mend($n, 'postgres', @found);
    is($n->safe_psql('postgres', 'SHOW autovacuum_vacuum_cost_limit'), '2', 'autovacuum_saturated: it may work faster');
    # how fast is a matter of patience: tests have none
    $n->safe_psql('postgres', 'ALTER SYSTEM SET autovacuum_vacuum_cost_delay = 0');
    $n->safe_psql('postgres', 'ALTER SYSTEM RESET autovacuum_vacuum_cost_limit');
    $n->reload;
    $n->safe_psql('postgres', q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'));
  });
$node->safe_psql('postgres', 'CREATE ROLE nobody');
is($node->safe_psql('postgres', q(SET ROLE nobody; SELECT state, reason ~ 'GRANT' FROM pgopt_checks() WHERE check_id = 'autovacuum_saturated')),
  'unknown|t', 'autovacuum_saturated: unknown to those who cannot see it');
$node->stop;
done_testing();
