# Health checks of replication, with a primary, a streaming standby and a subscriber.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use PgoptTest;
use PgoptHealth;

my $primary = health_node('primary', conf => "log_statement = none\nwal_sender_timeout = '5min'\n");
$primary->safe_psql('postgres', <<'SQL');
CREATE DATABASE other;
CREATE TABLE account (id int PRIMARY KEY, balance int);
INSERT INTO account SELECT i, 100 FROM generate_series(1, 20) i;
CREATE TABLE filler (id int PRIMARY KEY, t text);
ANALYZE account;
CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
CREATE ROLE nobody LOGIN;
SQL
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "wal_receiver_status_interval = '1s'\nwal_retrieve_retry_interval = '200ms'\n");
$standby->start;
my $subscriber = health_node('subscriber', conf => "wal_retrieve_retry_interval = '1s'\n");
$primary->wait_for_catchup($standby);

sub above_info
{
  my ($node) = @_;
  return join ' ', map { "$_->{severity} $_->{check_id}" } grep { $_->{severity} ne 'info' } findings($node, 'postgres');
}

# That many megabytes of WAL.
sub write_wal
{
  my ($megabytes) = @_;
  my $rows = 1000 * $megabytes;
  $primary->safe_psql('postgres', "INSERT INTO filler SELECT i, repeat('x', 1000) FROM generate_series(1, $rows) i; TRUNCATE filler");
  return;
}

sub switch_wal
{
  my ($n) = @_;
  $primary->safe_psql('postgres', "SELECT pg_create_restore_point('x'); SELECT pg_switch_wal()") foreach 1 .. $n;
  # before a checkpoint removes what the standby has no slot for
  $primary->wait_for_catchup($standby);
  return;
}

is(above_info($primary), '', 'a primary with a standby: nothing above info');
is(above_info($standby), '', 'a standby: nothing above info');
is($standby->safe_psql('postgres', "SELECT string_agg(check_id, ' ') FROM pgopt_checks() WHERE component = 'replication' AND state = 'unknown'"),
  '', 'a standby knows of its replication');

# --- slots that nobody uses
fault($primary,
  check => 'slot_inactive',
  severity => 'info',
  object => qr/^slot unused$/,
  inject => "SELECT pg_create_physical_replication_slot('unused')");
fault($primary,
  check => 'slot_inactive',
  severity => 'warning',
  object => qr/^slot gone$/,
  inject => "SELECT pg_create_physical_replication_slot('gone', true)");
fault($primary,
  check => 'slot_inactive',
  severity => 'warning',
  inject => sub {
    $primary->safe_psql('other', "SELECT pg_create_logical_replication_slot('gone', 'pgoutput')");
  });
fault($primary,
  check => 'slot_inactive',
  severity => 'critical',
  settings => { 'pgopt.slot_inactive_critical' => '1MB' },
  inject => sub {
    $primary->safe_psql('postgres', "SELECT pg_create_physical_replication_slot('gone', true)");
    write_wal(2);
  },
  mend => sub {
    my ($node, $finding) = @_;
    cmp_ok($finding->{evidence}{retained_bytes}, '>=', 1048576, 'slot_inactive: the WAL that is kept for it');
    set_settings($node, { 'pgopt.slot_inactive_critical' => '1GB' });
    is((found($node, 'slot_inactive'))[0]{severity}, 'warning', 'slot_inactive: below the threshold it is a warning');
    mend($node, 'postgres', $finding);
  });
fault($primary,
  check => 'slot_inactive',
  severity => 'critical',
  settings => { max_slot_wal_keep_size => '1MB' },
  inject => sub {
    $primary->safe_psql('postgres', "SELECT pg_create_physical_replication_slot('gone', true)");
    switch_wal(3);
  },
  mend => sub {
    my ($node, $finding) = @_;
    is($finding->{evidence}{wal_status}, 'unreserved', 'slot_inactive: critical, as its WAL may go any moment');
    mend($node, 'postgres', $finding);
  });

# a temporary slot goes away by itself
my $session = $primary->background_psql('postgres');
$session->query_safe("SELECT pg_create_physical_replication_slot('temporary', true, true)");
is(scalar(grep { $_->{check_id} =~ /^slot_/ } findings($primary, 'postgres')), 0, 'a temporary slot is none');
$session->quit;

# --- a slot that is lost
fault($primary,
  check => 'slot_lost',
  severity => 'critical',
  object => qr/^slot gone$/,
  settings => { max_slot_wal_keep_size => '1MB' },
  inject => sub {
    $primary->safe_psql('postgres', "SELECT pg_create_physical_replication_slot('gone', true)");
    switch_wal(3);
    $primary->safe_psql('postgres', 'CHECKPOINT');
  });

# --- slots without a limit
fault($primary,
  check => 'slot_unlimited',
  severity => 'info',
  also => qr/^slot_inactive$/,
  inject => "SELECT pg_create_physical_replication_slot('gone', true)",
  mend => sub {
    my ($node, @found) = @_;
    mend($node, 'postgres', @found, found($node, 'slot_inactive'));
  });
reset_settings($primary, { max_slot_wal_keep_size => 1 });

# --- slots that hold the horizon
foreach my $severity (qw(warning critical))
{
  fault($primary,
    check => 'slot_xmin',
    severity => $severity,
    also => qr/^slot_inactive$/,
    settings => {
      'pgopt.slot_xmin_warning' => 20,
      'pgopt.slot_xmin_critical' => $severity eq 'critical' ? 30 : 1000000
    },
    not_yet => { 'pgopt.slot_xmin_warning' => 1000000, 'pgopt.slot_xmin_critical' => 1000000 },
    inject => sub {
      $primary->safe_psql('postgres', "SELECT pg_create_logical_replication_slot('gone', 'pgoutput')");
      $primary->safe_psql('postgres',
        "DO \$\$BEGIN FOR i IN 1..40 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END\$\$");
    });
}

# --- a standby that falls behind, seen from both sides
foreach my $severity (qw(warning critical))
{
  my %settings = (
    'pgopt.replication_lag_warning' => '1MB',
    'pgopt.replication_lag_critical' => $severity eq 'critical' ? '1MB' : '1GB');
  my %not_yet = ('pgopt.replication_lag_warning' => '1GB', 'pgopt.replication_lag_critical' => '1GB');
  my $pause = sub {
    $standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
    poll_until($standby, 'postgres', "SELECT pg_get_wal_replay_pause_state() = 'paused'");
    write_wal(3);
  };
  fault($primary,
    check => 'replication_lag',
    severity => $severity,
    object => qr/^standby$/,
    settings => \%settings,
    not_yet => \%not_yet,
    inject => $pause,
    mend => sub { $standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()') });
  fault($standby,
    check => 'replication_lag',
    severity => $severity,
    object => qr/^this standby$/,
    also => qr/^replay_paused$/,
    settings => \%settings,
    not_yet => \%not_yet,
    inject => $pause);
}
# one that is meant to be behind
fault($standby,
  check => 'replication_lag',
  severity => 'info',
  settings => { 'pgopt.replication_lag_warning' => '1MB', recovery_min_apply_delay => '1h' },
  # the first commit waits, and with it what comes after it
  inject => sub { write_wal(1); write_wal(3) },
  mend => sub { reset_settings($standby, { recovery_min_apply_delay => 1 }) });
fault($standby,
  check => 'replay_paused',
  severity => 'warning',
  object => qr/^this standby$/,
  inject => 'SELECT pg_wal_replay_pause()');

# --- commits that wait for a standby
foreach my $names ('nobody', 'FIRST 2 (standby, nobody)', 'ANY 2 (standby, nobody, neither)')
{
  fault($primary,
    check => 'sync_standby_missing',
    severity => 'critical',
    object => qr/^synchronous_standby_names$/,
    inject => sub { reload_with($primary, "ALTER SYSTEM SET synchronous_standby_names = '$names'") });
}
reload_with($primary, "ALTER SYSTEM SET synchronous_standby_names = 'standby'");
ok(poll_until($primary, 'postgres', "SELECT sync_state = 'sync' FROM pg_stat_replication"), 'the standby is synchronous');
is(scalar(found($primary, 'sync_standby_missing')), 0, 'sync_standby_missing: one that is connected is none');
is($primary->safe_psql('postgres', "SET synchronous_commit = local; SET pgopt.slot_xmin_warning = 1; SELECT count(*) FROM pgopt_findings() WHERE check_id = 'sync_standby_missing'"),
  0, 'sync_standby_missing: nor is it, whatever synchronous_commit');
reload_with($primary, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
my $severity = "SELECT severity FROM pgopt_findings() WHERE check_id = 'sync_standby_missing'";
ok(poll_until($primary, 'postgres', "SET synchronous_commit = local; $severity", 'critical'),
  'sync_standby_missing: a session that does not wait hides nothing');
reload_with($primary, 'ALTER SYSTEM SET synchronous_commit = local');
ok(poll_until($primary, 'postgres', $severity, 'info'), 'sync_standby_missing: where commits do not wait it is worth knowing');
reload_with($primary, "ALTER SYSTEM RESET $_") foreach qw(synchronous_standby_names synchronous_commit);

# --- queries that recovery cancels
fault($standby,
  check => 'recovery_conflicts',
  severity => 'info',
  settings => { max_standby_streaming_delay => '0' },
  inject => sub {
    $session = $standby->background_psql('postgres', on_error_stop => 0);
    $session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM account');
    $primary->safe_psql('postgres', 'DELETE FROM account WHERE id = 20; VACUUM account');
  });
eval { $session->quit };
is($standby->safe_psql('postgres', 'SHOW hot_standby_feedback'), 'on', 'recovery_conflicts: the remedy is feedback');

# --- with which the standby holds the horizon of the primary
fault($primary,
  check => 'xmin_horizon',
  severity => 'warning',
  settings => { 'pgopt.xmin_horizon_xids_warning' => 20 },
  inject => sub {
    $session = $standby->background_psql('postgres');
    $session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM account');
    poll_until($primary, 'postgres', 'SELECT backend_xmin IS NOT NULL FROM pg_stat_replication');
    $primary->safe_psql('postgres',
      "DO \$\$BEGIN FOR i IN 1..40 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END\$\$");
  },
  mend => sub {
    my ($node, $finding) = @_;
    like($finding->{message}, qr/^standby standby, by its feedback/, 'xmin_horizon: says that it is a standby');
    $session->query_safe('COMMIT');
    $session->quit;
  });
reset_settings($standby, { hot_standby_feedback => 1 });

# --- a standby that lost its primary; one that has an archive lives on
foreach my $severity (qw(critical warning))
{
  fault($standby,
    check => 'standby_disconnected',
    severity => $severity,
    object => qr/^this standby$/,
    settings => $severity eq 'warning' ? { restore_command => 'false' } : {},
    inject => sub { $primary->stop },
    mend => sub { $primary->start });
}
$primary->wait_for_catchup($standby);

# --- subscriptions
my $connection = $primary->connstr . ' dbname=postgres';
$primary->safe_psql('postgres', 'CREATE PUBLICATION pub FOR TABLE account');
$subscriber->safe_psql('postgres', 'CREATE TABLE account (id int PRIMARY KEY, balance int); CREATE ROLE watcher LOGIN IN ROLE pg_monitor; CREATE ROLE nobody LOGIN');
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION sub CONNECTION '$connection' PUBLICATION pub");
$subscriber->wait_for_subscription_sync($primary, 'sub');
is(above_info($subscriber), '', 'a subscriber: nothing above info');
is(above_info($primary), '', 'a publisher: nothing above info');
fault($subscriber,
  check => 'subscription_down',
  severity => 'warning',
  object => qr/^subscription sub$/,
  inject => 'ALTER SUBSCRIPTION sub DISABLE');
fault($subscriber,
  check => 'subscription_down',
  severity => 'critical',
  object => qr/^subscription sub$/,
  inject => sub {
    $subscriber->safe_psql('postgres', 'INSERT INTO account VALUES (100, 0)');
    $primary->safe_psql('postgres', 'INSERT INTO account VALUES (100, 1)');
  },
  mend => sub { $subscriber->safe_psql('postgres', 'DELETE FROM account WHERE id = 100') });
fault($subscriber,
  check => 'subscription_down',
  severity => 'warning',
  object => qr/^subscription restored$/,
  inject => "SET client_min_messages = error; CREATE SUBSCRIPTION restored CONNECTION '$connection' PUBLICATION pub WITH (connect = false, slot_name = NONE)");

# --- a slot in use that keeps much, though its subscriber follows: a transaction is open
foreach my $severity (qw(warning critical))
{
  fault($primary,
    check => 'slot_retention',
    severity => $severity,
    object => qr/^slot sub$/,
    settings => {
      'pgopt.slot_retention_warning' => '1MB',
      'pgopt.slot_retention_critical' => $severity eq 'critical' ? '1MB' : '1GB'
    },
    not_yet => { 'pgopt.slot_retention_warning' => '1GB', 'pgopt.slot_retention_critical' => '1GB' },
    inject => sub {
      # until then its slot has followed
      $primary->wait_for_catchup('sub');
      $session = $primary->background_psql('postgres');
      $session->query_safe('BEGIN; UPDATE account SET balance = 1 WHERE id = 1');
      write_wal(3);
      $primary->safe_psql('postgres', 'CHECKPOINT');
      $primary->wait_for_catchup('sub');
    },
    mend => sub {
      $session->query_safe('COMMIT');
      $session->quit;
      ok(poll_until($primary, 'postgres',
          "CHECKPOINT; INSERT INTO filler VALUES (-1, ''); DELETE FROM filler; SELECT count(*) FROM pgopt_findings() WHERE check_id = 'slot_retention'", 0),
        'slot_retention: the slot follows');
    });
}

# --- who may see what
foreach my $node ($primary, $standby, $subscriber)
{
  my $name = $node->name;
  is($node->safe_psql('postgres', "SET ROLE watcher; SELECT string_agg(check_id, ' ') FROM pgopt_checks() WHERE component = 'replication' AND state = 'unknown'"),
    '', "$name: a member of pg_monitor is told everything");
  like($node->safe_psql('postgres', "SET ROLE nobody; SELECT string_agg(check_id || ': ' || reason, '; ') FROM pgopt_checks() WHERE component = 'replication' AND state = 'unknown'"),
    qr/^replication_lag: .*GRANT pg_read_all_stats TO nobody;$/, "$name: what others may not see is unknown to them, and why");
}

is(above_info($_), '', 'in the end: nothing above info on the ' . $_->name) foreach ($primary, $standby, $subscriber);
$subscriber->stop;
$standby->stop;
$primary->stop;
done_testing();
