# PgoptTest: what the TAP tests share. Under script/test the nodes find pgopt in its staged installation
# (PGOPT_TEMP_CONFIG names the settings for that); under make installcheck they take the installed one.
package PgoptTest;

use strict;
use warnings;

use Exporter 'import';
use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(pgopt_node pgopt_conf poll_until library_installed);

# The settings that a server needs for pgopt, as in test/pgopt.conf, and the staged installation's.
sub pgopt_conf
{
  my $file = $ENV{PGOPT_TEMP_CONFIG} // dirname(__FILE__) . '/../pgopt.conf';
  return slurp_file($file);
}

# pgopt_node($name, %options): a new server with pgopt preloaded, started.
#   preload           shared_preload_libraries: 'pgopt' unless told; '' preloads nothing
#   conf              further settings, one text
#   init              arguments for PostgreSQL::Test::Cluster->init, for example [ has_archiving => 1 ]
#   allows_streaming  1 or 'logical' as there (physical standbys and logical replication work either way)
#   extension         database(s) to create the extension in; none unless told
#   start             0 leaves the server initialised but not started
sub pgopt_node
{
  my ($name, %options) = @_;
  my $node = PostgreSQL::Test::Cluster->new($name);
  my $preload = $options{preload} // 'pgopt';

  $node->init(
    allows_streaming => $options{allows_streaming} // 1,
    extra => [ '--encoding=UTF8', '--locale=C.UTF-8' ],
    @{ $options{init} // [] });
  $node->append_conf('postgresql.conf', pgopt_conf());
  $node->append_conf('postgresql.conf', "shared_preload_libraries = '$preload'\nmax_connections = 50\n");
  $node->append_conf('postgresql.conf', $options{conf}) if defined $options{conf};
  return $node if defined $options{start} && !$options{start};

  $node->start;
  my $databases = $options{extension} // [];
  foreach my $database (ref $databases ? @$databases : ($databases))
  {
    $node->safe_psql('postgres', "CREATE DATABASE \"$database\"")
      unless $node->safe_psql('postgres', "SELECT 1 FROM pg_database WHERE datname = '$database'");
    $node->safe_psql($database, 'CREATE EXTENSION pgopt');
  }
  return $node;
}

# library_installed('pg_cron'): whether the server has that library, for tests with real companions.
sub library_installed
{
  my ($library) = @_;
  chomp(my $folder = `pg_config --pkglibdir`);
  return -e "$folder/$library.so";
}

# poll_until($node, $database, $sql, $expected, $seconds): true once the query's output is $expected ('t' unless
# told, or a regular expression). Errors count as "not yet". On timeout the last answer is in the diagnostics.
sub poll_until
{
  my ($node, $database, $sql, $expected, $seconds) = @_;
  $expected //= 't';
  $seconds //= $PostgreSQL::Test::Utils::timeout_default;
  my $deadline = time() + $seconds;
  my ($output, $error);

  while (1)
  {
    my $code = $node->psql($database, $sql, stdout => \$output, stderr => \$error, on_error_die => 0);
    if ($code == 0)
    {
      return 1 if ref $expected eq 'Regexp' ? $output =~ $expected : $output eq $expected;
    }
    last if time() > $deadline;
    sleep(0.1);
  }
  diag("timed out after $seconds s, waiting for \"$expected\" from: $sql");
  diag("last answer: \"" . ($output // '') . '"' . ($error ? ", error: $error" : ''));
  return 0;
}

1;
