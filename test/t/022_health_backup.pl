# Health checks of WAL archiving.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;
use PgoptTest;
use PgoptHealth;

my $archive = PostgreSQL::Test::Utils::tempdir();
my $keep = "cp \"%p\" \"$archive/%f\"";
my $node = health_node('main', conf => "archive_mode = on\narchive_command = '$keep'\n");
$node->safe_psql('postgres', 'CREATE ROLE watcher LOGIN IN ROLE pg_monitor; CREATE ROLE nobody LOGIN');

sub above_info
{
  return join ' ', map { "$_->{severity} $_->{check_id}" } grep { $_->{severity} ne 'info' } findings($node, 'postgres');
}

# Fills WAL files.
sub switch_wal
{
  my ($n) = @_;
  $node->safe_psql('postgres', "SELECT pg_create_restore_point('x'); SELECT pg_switch_wal()") foreach 1 .. $n;
  return;
}

sub archive_with
{
  my ($command) = @_;
  reload_with($node, "ALTER SYSTEM SET archive_command = '$command'");
  return;
}

switch_wal(2);
ok(poll_until($node, 'postgres', 'SELECT archived_count > 0 FROM pg_stat_archiver'), 'the archiver works');
is(above_info(), '', 'nothing above info');
is(scalar(found($node, $_)), 0, "$_: none where WAL is archived") foreach qw(archive_off archive_nothing wal_level_minimal);

# --- the archiver fails, now and a while ago
my %settings = (
  critical => {},
  warning => { 'pgopt.archiver_failing_critical' => '0s' });
foreach my $severity (qw(critical warning))
{
  fault($node,
    check => 'archiver_failing',
    severity => $severity,
    settings => $settings{$severity},
    not_yet => { 'pgopt.archiver_failing_critical' => '0s', 'pgopt.archiver_failing_warning' => '0s' },
    inject => sub {
      archive_with('false');
      switch_wal(1);
    },
    mend => sub {
      my ($node, $finding) = @_;
      like($finding->{message}, qr/^WAL file [0-9A-F]{24} could not be archived/, 'archiver_failing: names the file');
      is($finding->{evidence}{archive_command}, 'false', 'archiver_failing: and the command');
      # its cause is outside SQL
      archive_with($keep);
      mend($node, 'postgres', $finding);
    });
}

# a failure that was followed by a success is none, however many there were
cmp_ok($node->safe_psql('postgres', 'SELECT failed_count FROM pg_stat_archiver'), '>=', 2, 'failures stay counted');
is(scalar(found($node, 'archiver_failing')), 0, 'archiver_failing: what has healed is none');

# --- it does not fail, but is slow
foreach my $severity (qw(warning critical))
{
  my $go = "$archive/go.$severity";
  fault($node,
    check => 'archive_backlog',
    severity => $severity,
    settings => {
      'pgopt.archive_backlog_warning' => 3,
      'pgopt.archive_backlog_critical' => $severity eq 'critical' ? 4 : 100
    },
    not_yet => { 'pgopt.archive_backlog_warning' => 100, 'pgopt.archive_backlog_critical' => 100 },
    inject => sub {
      archive_with("while ! test -e $go; do sleep 0.2; done; $keep");
      switch_wal(5);
    },
    mend => sub {
      my ($node, $finding) = @_;
      cmp_ok($finding->{evidence}{ready}, '>=', 4, 'archive_backlog: counts the files');
      append_to_file($go, '');
      mend($node, 'postgres', $finding);
    });
}

# --- commands that keep nothing
foreach my $command ('true', '/bin/true', ' : ', 'exit 0', 'cd .', 'echo archived %f')
{
  archive_with($command);
  my @found = found($node, 'archive_nothing');
  is("@{[ map { $_->{severity} } @found ]}", 'warning', "archive_nothing: $command");
}
archive_with($_), is(scalar(found($node, 'archive_nothing')), 0, "archive_nothing: not $_")
  foreach ('true && cp %p /tmp/%f', 'echo %p >> /dev/null; exit 1', 'exit 1');
archive_with($keep);
switch_wal(1);
ok(poll_until($node, 'postgres', "SELECT count(*) FROM pgopt_findings() WHERE severity <> 'info'", 0), 'it archives again');
foreach my $command ('', '/bin/true')
{
  fault($node,
    check => 'archive_nothing',
    severity => 'warning',
    object => qr/^archive_command$/,
    restart => 1,
    inject => sub { archive_with($command) });
  is(scalar(found($node, 'archive_off')), 1, 'archive_off: is said instead');
  reload_with($node, 'ALTER SYSTEM RESET archive_mode', "ALTER SYSTEM SET archive_command = '$keep'");
  $node->restart;
}

# --- no archive, no WAL for it
fault($node,
  check => 'archive_off',
  severity => 'info',
  restart => 1,
  inject => sub {
    reload_with($node, "ALTER SYSTEM SET archive_mode = off");
    $node->restart;
  });
fault($node,
  check => 'wal_level_minimal',
  severity => 'info',
  restart => 1,
  inject => sub {
    $node->safe_psql('postgres', "ALTER SYSTEM SET $_")
      foreach ('archive_mode = off', 'wal_level = minimal', 'max_wal_senders = 0');
    $node->restart;
  });
is($node->safe_psql('postgres', 'SHOW wal_level'), 'replica', 'wal_level_minimal: mended');
$node->safe_psql('postgres', "ALTER SYSTEM RESET $_") foreach qw(archive_mode wal_level max_wal_senders);
$node->restart;

# --- who may see what
is($node->safe_psql('postgres', "SET ROLE watcher; SELECT string_agg(check_id, ' ') FROM pgopt_checks() WHERE component = 'backup' AND state = 'unknown'"),
  '', 'a member of pg_monitor is told everything');
like($node->safe_psql('postgres', "SET ROLE nobody; SELECT string_agg(check_id || ': ' || reason, '; ') FROM pgopt_checks() WHERE component = 'backup' AND state = 'unknown'"),
  qr/^archive_backlog: .*GRANT pg_monitor TO nobody;$/, 'what others may not see is unknown to them, and why');

is(above_info(), '', 'in the end: nothing above info');
$node->stop;
done_testing();
