# PgoptHealth: faults for the tests of health checks. A fault is injected into a real server, must be found at its
# severity with nothing unrelated above info, is mended with the SQL that its finding printed, and must be gone.
package PgoptHealth;

use strict;
use warnings;

use Exporter 'import';
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

use PgoptTest;

our @EXPORT = qw(health_node findings found fault mend set_settings reset_settings reload_with is_executable);

# health_node($name, %options): a server as a careful user has it (durable, local socket only), with the extension
# in the database postgres. Options as those of pgopt_node.
sub health_node
{
  my ($name, %options) = @_;
  my $conf = "fsync = on\nfull_page_writes = on\nautovacuum = on\nshared_buffers = 128MB\nmax_wal_size = 1GB\n" . ($options{conf} // '');
  return pgopt_node($name, extension => 'postgres', %options, conf => $conf);
}

# findings($node, $database, %options): all findings, as a list of hashes. options: role, mode.
sub findings
{
  my ($node, $database, %options) = @_;
  my $mode = $options{mode} // 'full';
  my $set = $options{role} ? "SET ROLE \"$options{role}\";" : '';
  my $json = $node->safe_psql($database // 'postgres', "$set SELECT pgopt_findings_json('$mode')");
  return @{ decode_json($json) };
}

# found($node, $check, $database): the findings of one check.
sub found
{
  my ($node, $check, $database) = @_;
  return grep { $_->{check_id} eq $check } findings($node, $database);
}

sub set_settings
{
  my ($node, $settings) = @_;
  return unless $settings && %$settings;
  reload_with($node, map { "ALTER SYSTEM SET $_ = '$settings->{$_}'" } sort keys %$settings);
  return;
}

sub reset_settings
{
  my ($node, $settings) = @_;
  return unless $settings && %$settings;
  reload_with($node, map { "ALTER SYSTEM RESET $_" } sort keys %$settings);
  return;
}

# Runs the statements and reloads: from then on every new session has the settings.
sub reload_with
{
  my ($node, @statements) = @_;
  my $before = $node->safe_psql('postgres', 'SELECT pg_conf_load_time()');
  $node->safe_psql('postgres', $_) foreach @statements;
  $node->reload;
  poll_until($node, 'postgres', "SELECT pg_conf_load_time() > '$before'");
  return;
}

# mend($node, $database, @findings): runs the remedies as printed, through psql.
sub mend
{
  my ($node, $database, @findings) = @_;
  foreach my $finding (@findings)
  {
    ok(defined $finding->{remedy}, "$finding->{check_id}: a remedy for $finding->{object}") or next;
    my ($out, $err);
    my $code = $node->psql($database, $finding->{remedy}, stdout => \$out, stderr => \$err, on_error_stop => 1);
    is($code, 0, "$finding->{check_id}: the remedy runs as printed") or diag("$finding->{remedy}\n$err");
  }
  return;
}

# await_found($node, $database, $check, $enough): polls until $enough says yes to the findings of the check; returns them.
sub await_found
{
  my ($node, $database, $check, $enough) = @_;
  my $deadline = time() + $PostgreSQL::Test::Utils::timeout_default;
  my @found;

  while (1)
  {
    @found = found($node, $check, $database);
    last if $enough->(@found) || time() > $deadline;
    sleep(0.2);
  }
  return @found;
}

# is_executable($remedy): is there more in it than comments?
sub is_executable
{
  my ($remedy) = @_;
  return scalar grep { !/^\s*(--|$)/ } split /\n/, $remedy // '';
}

# fault($node, %fault): one fault from injection to health.
#   check      check_id of its finding;     severity   what it must have
#   inject     sub, or SQL for the database
#   mend       sub that gets the findings; without one their remedies are run as printed. After it the fault must be gone
#   restart    1: the remedy takes effect with a restart of the server
#   settings   hash of settings while the fault lasts (lower thresholds), reset after it
#   not_yet    hash of settings under which the same state must not be a finding (higher thresholds)
#   object     regular expression for its object; count: new findings (1 unless told; 0 = any)
#   also       regular expression for other checks that the same fault rightly raises above info
#   database   'postgres' unless told;      score      least score after it (95)
sub fault
{
  my ($node, %fault) = @_;
  my $check = $fault{check};
  my $database = $fault{database} // 'postgres';
  my $count = $fault{count} // 1;

  my @before = found($node, $check, $database);
  ok(!(grep { $_->{severity} eq $fault{severity} } @before), "$check: nothing found before");
  set_settings($node, $fault{settings});
  # what is measured over time begins with this look
  found($node, $check, $database);
  if (ref $fault{inject})
  {
    $fault{inject}->($node);
  }
  else
  {
    $node->safe_psql($database, $fault{inject});
  }

  my @found = await_found($node, $database, $check,
    sub { (grep { $_->{severity} eq $fault{severity} } @_) && @_ >= @before + $count });
  my @all = findings($node, $database);
  ok(@found > 0, "$check: found") or return;
  is(scalar(@found) - scalar(@before), $count, "$check: number of findings") if $count;
  is($found[0]{severity}, $fault{severity}, "$check: severity") or diag(explain(\@found));
  like($found[0]{object}, $fault{object}, "$check: object") if $fault{object};
  ok($found[0]{$_}, "$check: has $_") foreach qw(object message evidence reference);
  # whoever runs a remedy is told what it locks, and whoever is told of a threshold which setting that is
  my @silent = grep { is_executable($_->{remedy}) && !$_->{remedy_lock} } @found;
  is(scalar(@silent), 0, "$check: remedies say what they lock") or diag(explain(\@silent));
  foreach my $setting (grep { /^pgopt\./ } sort keys %{ { %{ $fault{settings} // {} }, %{ $fault{not_yet} // {} } } })
  {
    like($found[0]{threshold} // '', qr/\Q$setting\E = /, "$check: its threshold names $setting");
  }
  my @unrelated = grep {
    $_->{check_id} ne $check && $_->{severity} ne 'info' && !($fault{also} && $_->{check_id} =~ $fault{also})
  } @all;
  is(scalar(@unrelated), 0, "$check: nothing unrelated above info") or diag(explain(\@unrelated));

  if ($fault{not_yet})
  {
    set_settings($node, $fault{not_yet});
    is(scalar(grep { $_->{severity} ne 'info' } found($node, $check, $database)),
      0, "$check: below its threshold it is none");
    reset_settings($node, $fault{not_yet});
    set_settings($node, $fault{settings});
  }

  if ($fault{mend})
  {
    $fault{mend}->($node, @found);
  }
  else
  {
    mend($node, $database, @found);
  }
  $node->restart if $fault{restart};
  my $counts = sub { grep { $_->{severity} ne 'info' || $fault{severity} eq 'info' } @_ };
  my $remain = $counts->(@before);
  my @left = $counts->(await_found($node, $database, $check, sub { $counts->(@_) <= $remain }));
  is(scalar(@left), $remain, "$check: gone after its remedy") or diag(explain(\@left));
  reset_settings($node, $fault{settings});
  my $score = $node->safe_psql($database, 'SELECT score FROM pgopt_health()');
  cmp_ok($score, '>=', $fault{score} // 95, "$check: healthy again")
    or diag(explain([ grep { $_->{severity} ne 'info' } findings($node, $database) ]));
  return;
}

1;
