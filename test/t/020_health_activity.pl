# Health checks of activity: each is injected into a real server with real sessions, found, and mended with the SQL
# that its finding prints.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;
use PgoptTest;
use PgoptHealth;

my $node = health_node('main');
$node->safe_psql('postgres', <<'SQL');
CREATE DATABASE other;
CREATE TABLE account (id int PRIMARY KEY, balance int);
INSERT INTO account SELECT i, 100 FROM generate_series(1, 20) i;
ANALYZE account;
CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
CREATE ROLE nobody LOGIN;
CREATE ROLE app LOGIN;
GRANT ALL ON account TO app;
SQL

# Sessions that the faults need; those that a remedy ends are gone already when they are closed.
my @sessions;

sub session
{
  my ($database, %options) = @_;
  my $session = $node->background_psql($database // 'postgres', on_error_stop => 0, %options);
  push @sessions, $session;
  return $session;
}

# A session in which a statement runs that does not return yet.
sub running
{
  my ($sql, @begin) = @_;
  my $session = session();
  $session->query_safe($_) foreach @begin;
  $session->query_until(qr/started/, "\\echo started\n$sql;\n");
  return $session;
}

sub close_sessions
{
  foreach my $session (splice @sessions)
  {
    local $SIG{PIPE} = 'IGNORE';
    eval { $session->quit };
  }
  return;
}

sub waiting
{
  my ($n) = @_;
  poll_until($node, 'postgres', "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'", $n);
  return;
}

sub nothing_above_info
{
  my ($what) = @_;
  my @found = grep { $_->{severity} ne 'info' } findings($node, 'postgres');
  is(scalar(@found), 0, "$what: nothing above info") or diag(explain(\@found));
  return;
}

nothing_above_info('a new cluster');

# --- a transaction that is left open
foreach my $severity (qw(warning critical))
{
  fault($node,
    check => 'idle_in_transaction',
    severity => $severity,
    object => qr/^pid \d+$/,
    settings => {
      'pgopt.idle_in_transaction_warning' => '1s',
      'pgopt.idle_in_transaction_critical' => $severity eq 'critical' ? '1s' : '1h'
    },
    not_yet => { 'pgopt.idle_in_transaction_warning' => '1h', 'pgopt.idle_in_transaction_critical' => '2h' },
    inject => sub {
      session()->query_safe('BEGIN; UPDATE account SET balance = 0 WHERE id = 1');
    },
    mend => sub {
      my ($node, $finding) = @_;
      my $evidence = $finding->{evidence};
      ok($evidence->{holds_xmin}, 'idle_in_transaction: it holds the horizon');
      cmp_ok($evidence->{locks}, '>=', 3, 'idle_in_transaction: its locks are counted');
      is("@{$evidence->{locked_tables}}", 'public.account public.account_pkey',
        'idle_in_transaction: the tables that it locks');
      like($finding->{threshold}, qr/^pgopt.idle_in_transaction_warning = /, 'idle_in_transaction: its threshold');
      mend($node, 'postgres', $finding);
    });
  close_sessions();
}

# --- a query that does not end
foreach my $severity (qw(warning critical))
{
  fault($node,
    check => 'long_query',
    severity => $severity,
    object => qr/^pid \d+$/,
    settings => {
      'pgopt.long_query_warning' => '1s',
      'pgopt.long_query_critical' => $severity eq 'critical' ? '1s' : '1h'
    },
    not_yet => { 'pgopt.long_query_warning' => '1h', 'pgopt.long_query_critical' => '2h' },
    inject => sub { running('SELECT pg_sleep(900)') });
  close_sessions();
}

# work on whole tables takes what it takes
fault($node,
  check => 'long_query',
  severity => 'info',
  settings => { 'pgopt.long_query_warning' => '1s', 'pgopt.long_query_critical' => '1s' },
  inject => sub { running("/* export */ -- of accounts\n COPY (SELECT pg_sleep(900)) TO STDOUT") });
close_sessions();

# --- a transaction of many statements; a dump takes what it takes
fault($node,
  check => 'long_transaction',
  severity => 'info',
  settings => { 'pgopt.long_transaction_warning' => '1s', 'pgopt.long_transaction_critical' => '1s' },
  inject => sub { session()->query_safe("SET application_name = 'pg_dump'; BEGIN; SELECT 1") });
close_sessions();
foreach my $severity (qw(warning critical))
{
  fault($node,
    check => 'long_transaction',
    severity => $severity,
    settings => {
      'pgopt.long_transaction_warning' => '1s',
      'pgopt.long_transaction_critical' => $severity eq 'critical' ? '1s' : '1h'
    },
    not_yet => { 'pgopt.long_transaction_warning' => '1h', 'pgopt.long_transaction_critical' => '2h' },
    inject => sub { session()->query_safe('BEGIN; SELECT 1') });
  close_sessions();
}

# the same state is told once
set_settings($node, { map { ("pgopt.${_}_warning" => '1s') } qw(idle_in_transaction long_transaction long_query) });
session()->query_safe('BEGIN; SELECT 1');
running('SELECT pg_sleep(900)', 'BEGIN');
poll_until($node, 'postgres',
  "SELECT count(*) FROM pgopt_findings() WHERE check_id IN ('idle_in_transaction', 'long_query')", 2);
is(scalar(found($node, 'long_transaction')), 0, 'long_transaction: what other checks tell is not told again');
mend($node, 'postgres', found($node, 'idle_in_transaction'), found($node, 'long_query'));
close_sessions();
reset_settings($node, { map { ("pgopt.${_}_warning" => 1) } qw(idle_in_transaction long_transaction long_query) });

# --- sessions that wait for one another
my $root;
foreach my $severity (qw(warning critical))
{
  fault($node,
    check => 'lock_chain',
    severity => $severity,
    settings => {
      'pgopt.lock_wait_warning' => '1s',
      'pgopt.lock_wait_critical' => $severity eq 'critical' ? '1s' : '1h'
    },
    not_yet => { 'pgopt.lock_wait_warning' => '1h', 'pgopt.lock_wait_critical' => '2h' },
    inject => sub {
      my $session = session();
      $root = $session->query_safe('BEGIN; UPDATE account SET balance = 0 WHERE id = 1 RETURNING pg_backend_pid()');
      running('UPDATE account SET balance = 1 WHERE id = 1; COMMIT', 'BEGIN', 'UPDATE account SET balance = 1 WHERE id = 2');
      waiting(1);
      running('UPDATE account SET balance = 2 WHERE id = 2');
      waiting(2);
    },
    mend => sub {
      my ($node, $finding) = @_;
      is($finding->{object}, "pid $root", 'lock_chain: the root is named, not who waits itself');
      is($finding->{evidence}{depth}, 2, 'lock_chain: the depth of the tree');
      is(scalar(@{ $finding->{evidence}{tree} }), 2, 'lock_chain: the tree has all who wait');
      is($finding->{evidence}{tree}[0]{waits_for}, $root, 'lock_chain: who waits for whom');
      mend($node, 'postgres', $finding);
    });
  close_sessions();
}

# many are blocked, though for a short time; the blocker runs a statement
fault($node,
  check => 'lock_chain',
  severity => 'warning',
  settings => { 'pgopt.lock_wait_counted' => '1s' },
  not_yet => { 'pgopt.lock_blocked_sessions' => 4 },
  inject => sub {
    running('SELECT pg_sleep(900)', 'BEGIN', 'UPDATE account SET balance = 0 WHERE id = 1');
    running('UPDATE account SET balance = 1 WHERE id = 1') foreach 1 .. 3;
    waiting(3);
  },
  mend => sub {
    my ($node, $finding) = @_;
    like($finding->{remedy}, qr/pg_cancel_backend/, 'lock_chain: a statement that runs is cancelled');
    mend($node, 'postgres', $finding);
  });
close_sessions();

# two are not many
set_settings($node, { 'pgopt.lock_wait_counted' => '0s' });
session()->query_safe('BEGIN; UPDATE account SET balance = 0 WHERE id = 1');
running('UPDATE account SET balance = 1 WHERE id = 1') foreach 1 .. 2;
waiting(2);
is(scalar(found($node, 'lock_chain')), 0, 'lock_chain: two that wait for a short time are none');
$sessions[0]->query_safe('ROLLBACK');
close_sessions();
reset_settings($node, { 'pgopt.lock_wait_counted' => 1 });

# blocked by nobody that has a process
fault($node,
  check => 'lock_chain',
  severity => 'warning',
  object => qr/^prepared transaction it's left$/,
  settings => { 'pgopt.lock_wait_warning' => '1s' },
  inject => sub {
    $node->safe_psql('postgres', "BEGIN; UPDATE account SET balance = 0 WHERE id = 1; PREPARE TRANSACTION 'it''s left'");
    running('UPDATE account SET balance = 1 WHERE id = 1');
    waiting(1);
  });
close_sessions();

# --- a change of a table that everybody queues behind
foreach my $severity (qw(warning critical))
{
  fault($node,
    check => 'ddl_queue',
    severity => $severity,
    settings => $severity eq 'critical' ? { 'pgopt.ddl_queue_critical' => '1s' } : {},
    not_yet => { 'pgopt.ddl_queue_warning' => '1h', 'pgopt.ddl_queue_critical' => '2h' },
    inject => sub {
      session()->query_safe('BEGIN; SELECT count(*) FROM account');
      running('ALTER TABLE account ADD COLUMN note text');
      waiting(1);
      running('SELECT sum(balance) FROM account') foreach 1 .. 3;
      waiting(4);
    },
    mend => sub {
      my ($node, $finding) = @_;
      is($finding->{evidence}{table}, 'public.account', 'ddl_queue: the table');
      is($finding->{evidence}{queued}, 3, 'ddl_queue: who queues is counted');
      is($finding->{evidence}{root_state}, 'idle in transaction', 'ddl_queue: what it waits for');
      is(scalar(found($node, 'lock_chain')), 0, 'ddl_queue: is not told twice');
      mend($node, 'postgres', $finding);
    });
  $sessions[0]->query_safe('ROLLBACK');
  close_sessions();
}

# --- deadlocks
fault($node,
  check => 'deadlocks',
  severity => 'warning',
  inject => sub {
    my $one = session();
    $one->query_safe('BEGIN; UPDATE account SET balance = 1 WHERE id = 1');
    running('UPDATE account SET balance = 2 WHERE id = 1', 'BEGIN', 'UPDATE account SET balance = 2 WHERE id = 2');
    waiting(1);
    $one->query('UPDATE account SET balance = 1 WHERE id = 2; ROLLBACK');
    close_sessions();
  });
fault($node,
  check => 'deadlocks',
  severity => 'warning',
  settings => { 'pgopt.deadlocks_warning' => 2 },
  count => 1,
  inject => sub {
    foreach my $round (1 .. 2)
    {
      is(scalar(found($node, 'deadlocks')), 0, 'deadlocks: fewer than the threshold are none');
      my $one = session();
      $one->query_safe('BEGIN; UPDATE account SET balance = 1 WHERE id = 1');
      running('UPDATE account SET balance = 2 WHERE id = 1', 'BEGIN', 'UPDATE account SET balance = 2 WHERE id = 2');
      waiting(1);
      $one->query('UPDATE account SET balance = 1 WHERE id = 2; ROLLBACK');
      close_sessions();
    }
  });

# --- prepared transactions that nobody ends
$node->safe_psql('postgres', qq(CREATE DATABASE "other\nDROP TABLE account; --"));
foreach my $case ([ 'warning', 'postgres' ], [ 'critical', 'other' ], [ 'warning', "other\nDROP TABLE account; --" ])
{
  my ($severity, $database) = @$case;
  $node->safe_psql($database, 'CREATE TABLE IF NOT EXISTS prepared_row (id int)');
  fault($node,
    check => 'prepared_transactions',
    severity => $severity,
    object => qr/^it's "left"$/,
    settings => {
      'pgopt.prepared_transaction_warning' => '1s',
      'pgopt.prepared_transaction_critical' => $severity eq 'critical' ? '1s' : '1h'
    },
    not_yet => { 'pgopt.prepared_transaction_warning' => '1h', 'pgopt.prepared_transaction_critical' => '2h' },
    inject => sub {
      $node->safe_psql($database, "BEGIN; INSERT INTO prepared_row VALUES (1); PREPARE TRANSACTION 'it''s \"left\"'");
    },
    # a name with a line break does not go on behind the command that connects
    $database !~ /\n/ ? () : (mend => sub {
      my ($node, $finding) = @_;
      like($finding->{remedy}, qr/^--[^\n]*\z/, 'prepared_transactions: a name of two lines leaves a comment');
      $node->safe_psql($database, "ROLLBACK PREPARED 'it''s \"left\"'");
    }));
}
$node->safe_psql('postgres', 'DROP TABLE prepared_row');

# --- limits of roles and databases
$node->safe_psql('postgres', 'ALTER ROLE app CONNECTION LIMIT 3; ALTER DATABASE other CONNECTION LIMIT 4');
fault($node,
  check => 'connection_limits',
  severity => 'warning',
  object => qr/^role app$/,
  not_yet => { 'pgopt.connection_limit_warning' => 100 },
  settings => { 'pgopt.connection_limit_warning' => 60 },
  inject => sub {
    session('postgres', extra_params => [ '-U', 'app' ]) foreach 1 .. 2;
  });
close_sessions();
fault($node,
  check => 'connection_limits',
  severity => 'warning',
  object => qr/^database other$/,
  inject => sub {
    session('other') foreach 1 .. 4;
  });
close_sessions();

# --- who may see what
my %unknown = map { split /\|/ }
  split /\n/, $node->safe_psql('postgres', "SET ROLE watcher; SELECT check_id || '|' || coalesce(reason, '') FROM pgopt_checks() WHERE component = 'activity' AND state <> 'ok'");
is(join(' ', sort keys %unknown), '', 'a member of pg_monitor is told everything');
%unknown = map { split /\|/ }
  split /\n/, $node->safe_psql('postgres', "SET ROLE nobody; SELECT check_id || '|' || coalesce(reason, '') FROM pgopt_checks() WHERE component = 'activity' AND state = 'unknown'");
is(join(' ', sort keys %unknown),
  'connection_limits connections ddl_queue idle_in_transaction lock_chain long_query long_transaction',
  'what others may not see is unknown to them');
like($unknown{connections}, qr/GRANT pg_read_all_stats TO nobody;/, 'and the grant that is missing is named');

# sessions that do not say what they do
$node->safe_psql('postgres', 'ALTER SYSTEM SET track_activities = off');
$node->reload;
ok(poll_until($node, 'postgres',
    "SELECT string_agg(check_id, ' ' ORDER BY check_id) FROM pgopt_checks() WHERE state = 'unknown' AND reason ~ 'track_activities'",
    'idle_in_transaction long_query long_transaction'), 'without track_activities they are unknown');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET track_activities');
$node->reload;
is($node->safe_psql('postgres', "SELECT pgopt_restart_window() IS NOT NULL"), 't', 'the window begins again');

# --- a busy database is none
$node->command_ok([ 'pgbench', '-i', '-q', '-h', $node->host, '-p', $node->port, 'other' ], 'pgbench -i');
$node->safe_psql('other', 'CREATE EXTENSION pgopt; ALTER DATABASE other CONNECTION LIMIT -1');
my $bench = IPC::Run::start(
  [ 'pgbench', '-n', '-c', 8, '-T', 8, '-h', $node->host, '-p', $node->port, 'other' ],
  '>', \my $out, '2>', \my $err);
my %seen;
foreach my $round (1 .. 12)
{
  $seen{"$_->{severity} $_->{check_id}"}++ foreach grep { $_->{component} eq 'activity' } findings($node, 'other');
  Time::HiRes::sleep(0.5);
}
$bench->finish;
is(join(', ', sort keys %seen), '', 'pgbench with 8 clients is no finding');

# --- connections, on a server with few
$node->stop;
my $small = health_node('small', conf => "max_connections = 21\n");
$node = $small;
foreach my $case ([ 'warning', 15 ], [ 'critical', 17 ])
{
  my ($severity, $n) = @$case;
  fault($node,
    check => 'connections',
    severity => $severity,
    not_yet => { 'pgopt.connections_warning' => 100, 'pgopt.connections_critical' => 100 },
    inject => sub { session() foreach 1 .. $n });
  close_sessions();
}

# none that works is ended
fault($node,
  check => 'connections',
  severity => 'warning',
  inject => sub {
    session() foreach 1 .. 11;
    session()->query_safe('BEGIN; SELECT 1') foreach 1 .. 2;
    running('SELECT pg_sleep(900)') foreach 1 .. 2;
  },
  mend => sub {
    my ($node, @found) = @_;
    mend($node, 'postgres', @found);
    is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend' AND state <> 'idle'"),
      4, 'connections: sessions that work are left alone');
  });
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ 'sleep' AND pid <> pg_backend_pid()");
close_sessions();

$node->stop;
done_testing();
