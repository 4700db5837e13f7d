# Health checks of transaction IDs and multixacts: a cluster is aged with pg_resetwal, and the horizon held back.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;
use PgoptTest;
use PgoptHealth;

# Autovacuum would mend by itself what is to be found: it is late here.
my $node = health_node('main', conf => <<'CONF');
autovacuum_naptime = '1d'
autovacuum_freeze_max_age = 2000000000
autovacuum_multixact_freeze_max_age = 2000000000
CONF
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE account (id int PRIMARY KEY, balance int, note text);
INSERT INTO account SELECT i, 100 FROM generate_series(1, 20) i;
VACUUM (ANALYZE) account;
CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
SQL

sub above_info
{
  return join ' ', map { "$_->{severity} $_->{check_id}" } grep { $_->{severity} ne 'info' } findings($node, 'postgres');
}

# Takes a server to a transaction ID or multixact ID far ahead, with the empty segment that it will look for.
sub age_cluster
{
  my ($folder, $ids_per_segment, $id, @options) = @_;
  $node->stop;
  my $segment = sprintf('%s/%s/%04X', $node->data_dir, $folder, int($id / $ids_per_segment));
  append_to_file($segment, "\0" x 262144) unless -e $segment;
  command_ok([ 'pg_resetwal', '-f', @options, $node->data_dir ], "pg_resetwal @options");
  $node->start;
  return;
}

# xids of the past, a transaction each
sub burn
{
  my ($n) = @_;
  $node->safe_psql('postgres',
    "DO \$\$BEGIN FOR i IN 1..$n LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END\$\$");
  return;
}

is(above_info(), '', 'a new cluster: nothing above info');

# --- who holds back the horizon
my $session;
fault($node,
  check => 'xmin_horizon',
  severity => 'warning',
  object => qr/^pid \d+$/,
  settings => { 'pgopt.xmin_horizon_warning' => '1s' },
  not_yet => { 'pgopt.xmin_horizon_warning' => '1h' },
  inject => sub {
    $session = $node->background_psql('postgres', on_error_stop => 0);
    $session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM account');
  });
eval { $session->quit };
foreach my $severity (qw(warning critical))
{
  fault($node,
    check => 'xmin_horizon',
    severity => $severity,
    settings => {
      'pgopt.xmin_horizon_xids_warning' => 20,
      'pgopt.xmin_horizon_xids_critical' => $severity eq 'critical' ? 30 : 1000000
    },
    not_yet => { 'pgopt.xmin_horizon_xids_warning' => 1000000, 'pgopt.xmin_horizon_xids_critical' => 1000000 },
    inject => sub {
      $session = $node->background_psql('postgres', on_error_stop => 0);
      $session->query_safe('BEGIN; UPDATE account SET balance = 0 WHERE id = 1');
      burn(40);
    });
  eval { $session->quit };
}
set_settings($node, { 'pgopt.xmin_horizon_warning' => '0s' });
$session = $node->background_psql('postgres');
$session->query_safe('BEGIN; SELECT 1');
is(scalar(found($node, 'xmin_horizon')), 0, 'xmin_horizon: a transaction that holds no snapshot is none');
$session->quit;
reset_settings($node, { 'pgopt.xmin_horizon_warning' => 1 });

# temporary tables of others hold the database back, and no VACUUM of ours reaches them
set_settings($node, { 'pgopt.xid_age_warning' => 0 });
$session = $node->background_psql('postgres', on_error_stop => 0);
my $owner = $session->query_safe('CREATE TEMP TABLE "old Scratch" (i int); SELECT pg_backend_pid()');
burn(40);
my ($held) = grep { $_->{object} eq 'database postgres' } found($node, 'xid_age');
like($held->{remedy}, qr/^SELECT pg_terminate_backend\($owner\);/, 'xid_age: the session with an old temporary table is named');
like($held->{remedy}, qr/VACUUM \(FREEZE\)/, 'xid_age: and the rest is frozen');
$session->quit;
reset_settings($node, { 'pgopt.xid_age_warning' => 1 });

# --- transaction IDs
my %age = (warning => 1_200_000_000, critical => 2_900_000_000);
foreach my $severity (qw(warning critical))
{
  fault($node,
    check => 'xid_age',
    severity => $severity,
    count => 3,
    object => qr/^database (postgres|template[01])$/,
    not_yet => { 'pgopt.xid_age_warning' => 95, 'pgopt.xid_age_critical' => 99 },
    inject => sub { age_cluster('pg_xact', 1048576, $age{$severity}, '-x', $age{$severity}) },
    mend => sub {
      my ($node, @found) = @_;
      my ($here) = grep { $_->{object} eq 'database postgres' } @found;
      is($here->{evidence}{autovacuum_freeze_max_age}, 2000000000, 'xid_age: evidence has the setting');
      is(scalar(@{ $here->{evidence}{oldest} }), 5, 'xid_age: and the oldest tables');
      is($here->{remedy}, 'VACUUM (FREEZE);', 'xid_age: where all is old, all is frozen');
      is($node->safe_psql('postgres', "SET ROLE watcher; SELECT count(*) FROM pgopt_findings('quick') WHERE check_id = 'xid_age'"),
        3, 'xid_age: a quick look of a member of pg_monitor finds it');
      mend($node, 'postgres', @found);
    });
}

# few tables that are old are named; a whole database need not be read
age_cluster('pg_xact', 1048576, 4_100_000_000, '-x', 4_100_000_000);
$node->safe_psql($_, 'VACUUM (FREEZE)') foreach qw(template1 postgres);
$node->safe_psql('postgres', 'ALTER DATABASE template0 ALLOW_CONNECTIONS true');
$node->safe_psql('template0', 'VACUUM (FREEZE)');
$node->safe_psql('postgres', 'ALTER DATABASE template0 ALLOW_CONNECTIONS false');
is(above_info(), '', 'frozen: nothing above info');

# --- a table that autovacuum does not freeze
$node->append_conf('postgresql.conf', "autovacuum_freeze_max_age = 100000\n");
$node->restart;
fault($node,
  check => 'freeze_overdue',
  severity => 'warning',
  object => qr/^public\.account$/,
  not_yet => { 'pgopt.freeze_overdue_warning' => 100 },
  inject => sub {
    # all is older, and all but one is frozen
    age_cluster('pg_xact', 1048576, 4_101_000_000, '-x', 4_101_000_000);
    my $others = $node->safe_psql('postgres',
      "SELECT string_agg(oid::regclass::text, ', ') FROM pg_class WHERE relkind IN ('r', 'm') AND relname <> 'account'");
    $node->safe_psql('postgres', "VACUUM (FREEZE) $others");
  });

# --- multixacts
%age = (warning => 1_200_000_000, critical => 2_900_000_000);
foreach my $severity (qw(warning critical))
{
  fault($node,
    check => 'multixact_age',
    severity => $severity,
    count => 3,
    object => qr/^database (postgres|template[01])$/,
    not_yet => { 'pgopt.multixact_age_warning' => 95, 'pgopt.multixact_age_critical' => 99 },
    inject => sub {
      my $oldest = $node->safe_psql('postgres', 'SELECT min(datminmxid::text::bigint) FROM pg_database');
      age_cluster('pg_multixact/offsets', 65536, $age{$severity}, '-m', "$age{$severity},$oldest");
    });
}

is(above_info(), '', 'in the end: nothing above info');
$node->stop;
done_testing();
