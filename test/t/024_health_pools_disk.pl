# Health checks of connection pools and of disks.
use strict;
use warnings;
use File::Path qw(remove_tree);
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;
use PgoptTest;
use PgoptHealth;

my $node = health_node('main', conf => "log_statement = none\n");
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE filler (id int PRIMARY KEY, t text);
CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
CREATE ROLE nobody LOGIN;
SQL

sub above_info
{
  return join ' ', map { "$_->{severity} $_->{check_id}" } grep { $_->{severity} ne 'info' } findings($node, 'postgres');
}

# Findings of a check, as many as there are with settings of the session.
sub count_with
{
  my ($check, @settings) = @_;
  my $set = join '', map { "SET $_;" } @settings;
  return $node->safe_psql('postgres', "$set SELECT count(*) FROM pgopt_findings() WHERE check_id = '$check'");
}

is(above_info(), '', 'a new cluster: nothing above info');

# --- a session for each query
my $script = PostgreSQL::Test::Utils::tempdir() . '/select.sql';
append_to_file($script, "SELECT 1;\n");
fault($node,
  check => 'pool_churn',
  severity => 'warning',
  object => qr/^database postgres$/,
  inject => sub {
    $node->command_ok([ 'pgbench', '-n', '-C', '-c', 4, '-t', 260, '-f', $script, '-h', $node->host, '-p', $node->port, 'postgres' ],
      'pool_churn: a connection for each transaction');
  },
  mend => sub {
    my ($node, $finding) = @_;
    cmp_ok($finding->{evidence}{sessions}, '>=', 1040, 'pool_churn: sessions are counted');
    is(count_with('pool_churn', 'pgopt.pool_churn_warning = 100000'), 0, 'pool_churn: fewer a second are none');
    is(count_with('pool_churn', 'pgopt.pool_churn_sessions = 100000'), 0, 'pool_churn: fewer in all are none');
    mend($node, 'postgres', $finding);
  });

# --- pools that are too large
my @sessions;
fault($node,
  check => 'pool_idle',
  severity => 'info',
  settings => { 'pgopt.pool_idle_sessions' => 6, 'pgopt.pool_idle_age' => '1s' },
  inject => sub {
    push @sessions, $node->background_psql('postgres') foreach 1 .. 6;
  },
  mend => sub {
    my ($node, $finding) = @_;
    is(count_with('pool_idle', 'pgopt.pool_idle_sessions = 7'), 0, 'pool_idle: fewer are none');
    is(count_with('pool_idle', 'pgopt.pool_idle_age = 3600'), 0, 'pool_idle: younger ones are none');
    mend($node, 'postgres', $finding);
  });
foreach my $session (splice @sessions)
{
  local $SIG{PIPE} = 'IGNORE';
  eval { $session->quit };
}

# --- clients that vanish
fault($node,
  check => 'sessions_lost',
  severity => 'warning',
  object => qr/^database postgres$/,
  inject => sub {
    push @sessions, $node->background_psql('postgres') foreach 1 .. 10;
    $_->{run}->signal('KILL') foreach @sessions;
    eval { $_->{run}->finish } foreach splice @sessions;
  },
  mend => sub {
    my ($node, $finding) = @_;
    is($finding->{evidence}{abandoned}, 10, 'sessions_lost: by reason');
    is(count_with('sessions_lost', 'pgopt.sessions_lost_warning = 11'), 0, 'sessions_lost: fewer are none');
    is(count_with('sessions_lost', 'pgopt.sessions_lost_share = 100'), 0, 'sessions_lost: a smaller share is none');
    mend($node, 'postgres', $finding);
  });

# those that an administrator ends are meant
push @sessions, $node->background_psql('postgres', on_error_stop => 0) foreach 1 .. 12;
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()");
ok(poll_until($node, 'postgres', 'SELECT sessions_killed >= 12 FROM pgopt.counter_deltas()'), 'sessions are killed');
is(scalar(found($node, 'sessions_lost')), 0, 'sessions_lost: what an administrator ends is none');
foreach my $session (splice @sessions)
{
  local $SIG{PIPE} = 'IGNORE';
  eval { $session->quit };
}

# --- disks
my ($percent, $used, $available) = df($node->data_dir);

sub df
{
  my ($path) = @_;
  my ($line) = (split /\n/, `df -B1 --output=pcent,used,avail $path`)[1];
  return $line =~ /(\d+)%\s+(\d+)\s+(\d+)/;
}

foreach my $severity (qw(warning critical))
{
  fault($node,
    check => 'disk_space',
    severity => $severity,
    object => qr/^data directory, pg_wal$/,
    not_yet => { 'pgopt.disk_space_warning' => 100, 'pgopt.disk_space_critical' => 100 },
    # a disk cannot be filled here: what it has is too much
    inject => sub {
      set_settings($node, {
          'pgopt.disk_space_warning' => $percent - 1,
          'pgopt.disk_space_critical' => $severity eq 'critical' ? $percent - 1 : 100
        });
    },
    mend => sub {
      my ($node) = @_;
      set_settings($node, {
          'pgopt.disk_space_warning' => $percent - 1,
          'pgopt.disk_space_critical' => 100
        });
      my ($finding) = found($node, 'disk_space');
      my ($p, $u, $a) = df($node->data_dir);
      cmp_ok(abs($finding->{evidence}{percent} - $p), '<=', 1, 'disk_space: the percentage is that of df');
      cmp_ok(abs($finding->{evidence}{used_bytes} / $u - 1), '<', 0.02, 'disk_space: so are the bytes in use');
      cmp_ok(abs($finding->{evidence}{available_bytes} / $a - 1), '<', 0.02, 'disk_space: and those that are left');
      reset_settings($node, { map { ("pgopt.disk_space_$_" => 1) } qw(warning critical) });
    });
}

# each file system once, with what is on it
SKIP:
{
  my $shm = "/dev/shm/pgopt_test_$$";
  skip 'no second file system here', 4 unless -w '/dev/shm' && (stat '/dev/shm')[0] != (stat $node->data_dir)[0];
  mkdir $shm;
  $node->safe_psql('postgres', "CREATE TABLESPACE \"in Memory\" LOCATION '$shm'");
  my $inner = $node->basedir . '/tablespace';
  mkdir $inner;
  $node->safe_psql('postgres', "CREATE TABLESPACE near LOCATION '$inner'");
  set_settings($node, { 'pgopt.disk_space_warning' => 0 });
  my %by_object = map { $_->{object} => $_ } found($node, 'disk_space');
  is(join('; ', sort keys %by_object), 'data directory, pg_wal, tablespace near; tablespace "in Memory"', 'disk_space: file systems');
  my $evidence = $by_object{'tablespace "in Memory"'}{evidence};
  my ($p, $u, $a) = df($shm);
  cmp_ok(abs($evidence->{percent} - $p), '<=', 1, 'disk_space: the percentage of another file system');
  cmp_ok(abs($evidence->{available_bytes} / $a - 1), '<', 0.02, 'disk_space: its bytes');
  like($evidence->{path}, qr/^\Q$shm\E/, 'disk_space: where it is');
  $node->safe_psql('postgres', 'DROP TABLESPACE "in Memory"');
  $node->safe_psql('postgres', 'DROP TABLESPACE near');
  remove_tree($shm);
  reset_settings($node, { 'pgopt.disk_space_warning' => 1 });
}

# --- more WAL than the settings say
sub switch_wal
{
  my ($n) = @_;
  $node->safe_psql('postgres', "SELECT pg_create_restore_point('x'); SELECT pg_switch_wal()") foreach 1 .. $n;
  return;
}

sub limit_wal
{
  my ($size) = @_;
  reload_with($node, "ALTER SYSTEM SET max_wal_size = '$size'", "ALTER SYSTEM SET min_wal_size = '32MB'");
  return;
}
limit_wal('1GB');
fault($node,
  check => 'wal_size',
  severity => 'warning',
  object => qr/^pg_wal$/,
  settings => { 'pgopt.wal_size_minimum' => '64MB' },
  not_yet => { 'pgopt.wal_size_minimum' => '1GB' },
  inject => sub {
    $node->safe_psql('postgres', 'CHECKPOINT');
    switch_wal(10);
    limit_wal('32MB');
  });

# it is told once what keeps it
limit_wal('1GB');
fault($node,
  check => 'wal_size',
  severity => 'info',
  also => qr/^slot_inactive$/,
  settings => { 'pgopt.wal_size_minimum' => '64MB' },
  inject => sub {
    $node->safe_psql('postgres', "CHECKPOINT; SELECT pg_create_physical_replication_slot('gone', true)");
    switch_wal(10);
    limit_wal('32MB');
  },
  mend => sub {
    my ($node, $finding) = @_;
    is($finding->{evidence}{kept_for}, 'replication slots', 'wal_size: says what keeps it');
    mend($node, 'postgres', found($node, 'slot_inactive'));
    $node->safe_psql('postgres', 'CHECKPOINT');
  });
reset_settings($node, { max_wal_size => 1, min_wal_size => 1 });

# --- who may see what
is($node->safe_psql('postgres', "SET ROLE watcher; SELECT string_agg(check_id, ' ') FROM pgopt_checks() WHERE component IN ('pools', 'disk') AND state = 'unknown'"),
  '', 'a member of pg_monitor is told everything');
my %unknown = map { split /\|/ }
  split /\n/, $node->safe_psql('postgres', "SET ROLE nobody; SELECT check_id || '|' || reason FROM pgopt_checks() WHERE component IN ('pools', 'disk') AND state = 'unknown'");
is(join(' ', sort keys %unknown), 'disk_space pool_idle wal_size', 'what others may not see is unknown to them');
like($unknown{disk_space}, qr/GRANT pg_monitor TO nobody;/, 'and the grant that is missing is named');

is(above_info(), '', 'in the end: nothing above info');
$node->stop;
done_testing();
