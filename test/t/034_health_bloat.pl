# Faults of bloat: free space that only a rewrite gives back, in tables, TOAST tables, indexes and catalogs.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;

use PgoptHealth;
use PgoptTest;

my $node = health_node('bloat', conf => "autovacuum_naptime = '1h'\nautovacuum_vacuum_cost_delay = 0\n");

# the state of a check
sub state_of
{
  my ($check, $before) = @_;
  return $node->safe_psql('postgres',
    ($before // '') . "SELECT state || coalesce(': ' || reason, '') FROM pgopt_checks() WHERE check_id = '$check'");
}

$node->safe_psql('postgres', <<'SQL');
CREATE SCHEMA "A b";
CREATE TABLE "A b"."Big Table" (id int PRIMARY KEY, body text);
INSERT INTO "A b"."Big Table" SELECT i, repeat('x', 400) FROM generate_series(1, 60000) i;
CREATE TABLE wide (id int PRIMARY KEY, body text);
ALTER TABLE wide ALTER body SET STORAGE EXTERNAL;
INSERT INTO wide SELECT i, repeat('y', 4000) FROM generate_series(1, 6000) i;
CREATE TABLE keys (id int, n int) WITH (fillfactor = 60);
CREATE INDEX keys_id ON keys (id);
INSERT INTO keys SELECT i, i FROM generate_series(1, 300000) i;
CREATE TABLE hashed (id int);
CREATE INDEX hashed_id ON hashed USING gist (int8range(id, id + 1));
INSERT INTO hashed SELECT i FROM generate_series(1, 60000) i;
SQL
$node->safe_psql('postgres', 'VACUUM (ANALYZE)');

# --- nothing, on what was just loaded
is(state_of($_), 'ok', "$_: nothing on fresh tables") foreach qw(bloat_table bloat_toast bloat_index bloat_catalog);

# --- bloat_table
fault(
  $node,
  check => 'bloat_table',
  severity => 'warning',
  object => qr/^"A b"\."Big Table"$/,
  not_yet => { 'pgopt.bloat_percent' => 70 },
  inject => sub {
    my ($server) = @_;
    $server->safe_psql('postgres', 'DELETE FROM "A b"."Big Table" WHERE id % 5 < 3');
    $server->safe_psql('postgres', 'VACUUM (ANALYZE) "A b"."Big Table"');
  });

# dead rows are a matter of VACUUM, and of no other check
$node->safe_psql('postgres', <<'SQL');
INSERT INTO "A b"."Big Table" SELECT i, repeat('x', 400) FROM generate_series(100001, 160000) i;
ANALYZE "A b"."Big Table";
DELETE FROM "A b"."Big Table" WHERE id > 100000 AND id % 5 < 4;
SQL
is(state_of('bloat_table'), 'ok', 'dead rows alone are no bloat');
$node->safe_psql('postgres', 'VACUUM FULL "A b"."Big Table"');

# free space that a queue fills again is its own; when nothing comes any more it is not
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE queue (id int, body text);
INSERT INTO queue SELECT i, repeat('x', 500) FROM generate_series(1, 60000) i;
SQL
$node->safe_psql('postgres', 'DELETE FROM queue WHERE id % 10 < 7');
$node->safe_psql('postgres', 'VACUUM (ANALYZE) queue');
is(join(' ', map { $_->{severity} } found($node, 'bloat_table')), 'warning', 'a purge is a warning');
$node->safe_psql('postgres', q(INSERT INTO queue SELECT i, repeat('x', 500) FROM generate_series(60001, 64000) i));
my @queue = found($node, 'bloat_table');
is(join(' ', map { $_->{severity} } @queue), 'info', 'a queue with rows coming in is none');
like($queue[0]{message}, qr/ of public\.queue would be .*, but new rows will use it: \d+ came within [\d.]+ hours, and \d+ fit/,
  'and it is said why');
is($queue[0]{remedy}, undef, 'nothing is to be done about it');
cmp_ok($queue[0]{evidence}{rows_fit}, '>', 30000, 'the rows that fit');
$node->safe_psql('postgres', 'VACUUM (ANALYZE) queue');
is(join(' ', map { $_->{severity} } found($node, 'bloat_table')), 'warning', 'nothing comes any more: a warning');
$node->safe_psql('postgres', 'DROP TABLE queue');

# a dropped column is no free space: what comes in does not help
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE dropped (id int, body text, wide text);
INSERT INTO dropped SELECT i, repeat('x', 100), repeat('y', 500) FROM generate_series(1, 60000) i;
SQL
$node->safe_psql('postgres', 'ALTER TABLE dropped DROP wide');
$node->safe_psql('postgres', 'VACUUM (ANALYZE) dropped');
$node->safe_psql('postgres', q(INSERT INTO dropped SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i));
is(join(' ', map { $_->{severity} } found($node, 'bloat_table')), 'warning', 'a dropped column is a warning');
$node->safe_psql('postgres', 'DROP TABLE dropped');

# --- bloat_toast
fault(
  $node,
  check => 'bloat_toast',
  severity => 'warning',
  object => qr/^TOAST of public\.wide$/,
  not_yet => { 'pgopt.bloat_size' => '50MB' },
  inject => sub {
    my ($server) = @_;
    $server->safe_psql('postgres', 'DELETE FROM wide WHERE id % 3 <> 0');
    $server->safe_psql('postgres', 'VACUUM (ANALYZE) wide');
  });

# --- bloat_index
fault(
  $node,
  check => 'bloat_index',
  severity => 'warning',
  object => qr/^public\.keys_id$/,
  settings => { 'pgopt.bloat_size' => '2MB' },
  not_yet => { 'pgopt.bloat_size' => '100MB' },
  inject => sub {
    my ($server) = @_;
    $server->safe_psql('postgres', <<'SQL');
ALTER INDEX keys_id SET (fillfactor = 30);
REINDEX INDEX keys_id;
ALTER INDEX keys_id RESET (fillfactor);
SQL
  });

# an index is found beside its table: rebuilding it locks nobody out, rewriting the table does
set_settings($node, { 'pgopt.bloat_size' => '2MB' });
$node->safe_psql('postgres', 'DELETE FROM keys WHERE id % 2 = 0');
$node->safe_psql('postgres', 'VACUUM (ANALYZE) keys');
is(join(' ', map { "$_->{check_id} $_->{severity}" } grep { $_->{check_id} =~ /^bloat/ } findings($node)),
  'bloat_index warning bloat_table warning', 'a table and its index are found each');
$node->safe_psql('postgres', 'VACUUM FULL keys');
reset_settings($node, { 'pgopt.bloat_size' => '2MB' });

# --- bloat_catalog
fault(
  $node,
  check => 'bloat_catalog',
  severity => 'warning',
  object => qr/^pg_catalog\.pg_attribute$/,
  settings => { 'pgopt.bloat_size' => '2MB' },
  count => 0,
  inject => sub {
    my ($server) = @_;
    my $columns = join(', ', map { "c$_ int" } 1 .. 100);
    $server->safe_psql('postgres', <<"SQL");
DO \$\$ BEGIN FOR i IN 1..400 LOOP EXECUTE format('CREATE TABLE catalog_%s ($columns)', i); END LOOP; END \$\$;
DO \$\$ BEGIN FOR i IN 1..400 LOOP IF i % 10 <> 0 THEN EXECUTE format('DROP TABLE catalog_%s', i); END IF; END LOOP; END \$\$;
SQL
    $server->safe_psql('postgres', 'VACUUM ANALYZE');
  },
  mend => sub {
    my ($server, @found) = @_;
    my ($rewrite) = grep { $_->{remedy} =~ /^VACUUM \(FULL/ } @found;
    like($rewrite->{remedy_lock}, qr/logins wait/, 'bloat_catalog: its rewrite stops everybody, and says so');
    like($rewrite->{remedy}, qr/^-- .* more on the disk$/m, 'bloat_catalog: and what it takes meanwhile');
    PgoptHealth::mend($server, 'postgres', @found);
  });
$node->safe_psql('postgres', <<'SQL');
DO $$ BEGIN FOR i IN 1..400 LOOP EXECUTE format('DROP TABLE IF EXISTS catalog_%s', i); END LOOP; END $$;
SQL
$node->safe_psql('postgres', 'VACUUM ANALYZE');

# --- what could not be measured is not called well
like(
  state_of('bloat_table', 'SET pgopt.bloat_time_budget = 0; '),
  qr/^unknown: \d+ of \d+ tables were not measured.*pgopt_table_bloat/,
  'no time: unknown');
$node->safe_psql('postgres', 'CREATE ROLE stranger; CREATE ROLE watcher IN ROLE pg_monitor');
like(
  state_of('bloat_table', 'SET ROLE stranger; '),
  qr/^unknown: .*GRANT pg_stat_scan_tables TO stranger;/,
  'no privilege: unknown, with the grant');
is(state_of('bloat_table', 'SET ROLE watcher; '), 'ok', 'pg_monitor is enough');

# --- a locked table is not waited for
my $session = $node->background_psql('postgres');
$session->query_safe('BEGIN; LOCK TABLE "A b"."Big Table"');
$node->safe_psql('postgres', 'SELECT 1');
like(state_of('bloat_table', 'SET pgopt.bloat_size = 2;'), qr/^unknown: 1 of/, 'a locked table makes it unknown');
$session->query_safe('ROLLBACK');
$session->quit;

# --- a damaged page hides nothing else, and is told of
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE damaged (id int, body text);
INSERT INTO damaged SELECT i, repeat('x', 400) FROM generate_series(1, 60000) i;
CREATE TABLE damaged_index (id int, body text);
INSERT INTO damaged_index SELECT i, i || repeat('x', 300) FROM generate_series(1, 40000) i;
CREATE INDEX "damaged B" ON damaged_index (body);
TRUNCATE "A b"."Big Table";
INSERT INTO "A b"."Big Table" SELECT i, repeat('x', 400) FROM generate_series(1, 60000) i;
SQL
$node->safe_psql('postgres', 'DELETE FROM "A b"."Big Table" WHERE id % 5 < 3');
$node->safe_psql('postgres', 'VACUUM (ANALYZE)');
my %damage = map { $_ => $node->safe_psql('postgres', "SELECT pg_relation_filepath('$_')") } 'damaged', '"damaged B"';
$node->stop;
foreach my $file (values %damage)
{
  open(my $handle, '+<:raw', $node->data_dir . "/$file") or die $!;
  for (my $block = 4; $block * 8192 < -s $handle; $block++)
  {
    seek($handle, $block * 8192 + 8, 0);
    print $handle "\xff" x 16;
  }
  close($handle);
}
$node->start;
my @bloat = sort { $a->{object} cmp $b->{object} } grep { $_->{check_id} =~ /^bloat/ } findings($node);
is(
  join('; ', map { "$_->{check_id} $_->{severity} $_->{object}" } @bloat),
  'bloat_table warning "A b"."Big Table"; bloat_index critical public."damaged B"; bloat_table critical public.damaged',
  'damaged pages are critical, and the bloat beside them is found');
like($_->{message}, qr/cannot be read: invalid page in block \d+ of relation "?base/, 'what the server says')
  foreach @bloat[ 1, 2 ];
is($bloat[2]{remedy}, undef, 'nothing brings back a table');
PgoptHealth::mend($node, 'postgres', $bloat[1]);
$node->safe_psql('postgres', 'DROP TABLE damaged; VACUUM FULL "A b"."Big Table"');
is(state_of('bloat_index'), 'ok', 'the index is rebuilt');
is(state_of('bloat_table'), 'ok', 'and the damaged table gone');

$node->stop;
done_testing();
