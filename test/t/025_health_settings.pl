# Faults in settings: those that endanger the data, those that are wrong, and those that wait for a restart.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use PgoptTest;
use PgoptHealth;

my $node = health_node('settings', conf => "pgopt.unknown_changes_memory = 0\n");
my $conf = $node->data_dir . '/postgresql.conf';
my $auto_conf = $node->data_dir . '/postgresql.auto.conf';
my $hba = $node->data_dir . '/pg_hba.conf';

# Replaces the content of a file of the server.
sub rewrite
{
  my ($file, $content) = @_;
  open my $handle, '>', $file or die "$file: $!";
  print $handle $content;
  close $handle;
  return;
}

# system_setting($name, $value): SQL that sets it for the server.
sub system_setting
{
  my ($name, $value) = @_;
  return "ALTER SYSTEM SET $name = $value; SELECT pg_reload_conf();";
}

is(join(', ', map { $_->{check_id} } grep { $_->{component} eq 'settings' } findings($node)), '',
  'nothing is found at first');

#
# Settings that endanger the data: of the server, of a role, of a database
#
fault($node, check => 'fsync_off', severity => 'critical', object => qr/^fsync$/, inject => system_setting('fsync', 'off'));
fault($node, check => 'full_page_writes_off', severity => 'critical', inject => system_setting('full_page_writes', 'off'));
fault($node, check => 'autovacuum_off', severity => 'critical', inject => system_setting('autovacuum', 'off'));
fault($node, check => 'track_counts_off', severity => 'critical', also => qr/^pgopt_unknown_changes$/,
  inject => system_setting('track_counts', 'off'));
fault($node, check => 'zero_damaged_pages', severity => 'critical', inject => system_setting('zero_damaged_pages', 'on'));
fault($node, check => 'ignore_checksum_failure', severity => 'critical',
  inject => system_setting('ignore_checksum_failure', 'on'));

$node->safe_psql('postgres', 'CREATE ROLE "An App"; CREATE DATABASE "A Base"');
fault($node, check => 'zero_damaged_pages', severity => 'critical', object => qr/role "An App" in database "A Base"$/,
  inject => 'ALTER ROLE "An App" IN DATABASE "A Base" SET zero_damaged_pages = yes');
fault($node, check => 'ignore_checksum_failure', severity => 'critical', object => qr/of database "A Base"$/,
  inject => 'ALTER DATABASE "A Base" SET ignore_checksum_failure = 1');
fault($node, check => 'track_counts_off', severity => 'critical', object => qr/of role "An App"$/,
  inject => 'ALTER ROLE "An App" SET track_counts = False; ALTER ROLE "An App" SET application_name = \'a=b\'');
fault($node, check => 'track_counts_off', severity => 'critical', object => qr/of every role$/,
  also => qr/^pgopt_unknown_changes$/, inject => 'ALTER ROLE ALL SET track_counts = off');
$node->safe_psql('postgres', 'ALTER ROLE "An App" SET zero_damaged_pages = off; ALTER ROLE "An App" SET track_counts = on');
is(scalar(found($node, 'zero_damaged_pages')) + scalar(found($node, 'track_counts_off')), 0, 'safe values for a role are none');
is($node->safe_psql('postgres', "SET zero_damaged_pages = on; SET enable_seqscan = off;"
    . " SELECT count(*) FROM pgopt_findings() WHERE component = 'settings'"), 0, 'nor is what a session does for itself');

#
# The planner, and what can be lost
#
fault($node, check => 'planner_methods_off', severity => 'warning', object => qr/^enable_hashjoin$/,
  inject => system_setting('enable_hashjoin', 'off'));
fault($node, check => 'planner_methods_off', severity => 'warning', object => qr/^enable_nestloop of role "An App"$/,
  inject => 'ALTER ROLE "An App" SET enable_nestloop = off; ALTER ROLE "An App" SET enable_partitionwise_join = off');
fault($node, check => 'synchronous_commit_off', severity => 'info', inject => system_setting('synchronous_commit', 'off'));
fault($node, check => 'synchronous_commit_off', severity => 'info', object => qr/database "A Base"/,
  inject => 'ALTER DATABASE "A Base" SET synchronous_commit = off');
$node->safe_psql('postgres', 'ALTER DATABASE "A Base" SET synchronous_commit = local');
is(scalar(found($node, 'synchronous_commit_off')), 0, 'local is not off');

#
# What a finding makes of the score
#
my $score = 'SELECT score, status FROM pgopt_health()';
$node->safe_psql('postgres', 'ALTER ROLE "An App" SET enable_nestloop = off');
like($node->safe_psql('postgres', $score), qr/^7\d\|warning$/, 'with a warning the score is at most 79');
$node->safe_psql('postgres', 'ALTER ROLE "An App" SET zero_damaged_pages = on');
like($node->safe_psql('postgres', $score), qr/^5\d\|critical$/, 'with a critical finding it is at most 59');
like($node->safe_psql('postgres', "SELECT score, status FROM pgopt_health('quick')"), qr/^\d\d?\|critical$/, 'so it is at a quick look');
$node->safe_psql('postgres', 'ALTER ROLE "An App" RESET ALL');
like($node->safe_psql('postgres', $score), qr/^(9\d|100)\|healthy$/, 'and healthy again');

#
# Files
#
fault($node, check => 'pending_restart', severity => 'warning', object => qr/^max_connections$/, 
  inject => system_setting('max_connections', '60'), mend => sub { $node->restart });
is($node->safe_psql('postgres', 'SHOW max_connections'), '60', 'the restart applied it');

my $good = slurp_file($conf);
fault($node, check => 'config_file_errors', severity => 'critical', object => qr/^postgresql\.conf line \d+$/,
  inject => sub { $node->append_conf('postgresql.conf', "work_mem = 'much'"); $node->reload });
rewrite($conf, $good);
fault($node, check => 'config_file_errors', severity => 'critical',
  inject => sub { $node->append_conf('postgresql.conf', "no_such_setting = 1"); $node->reload },
  mend => sub { rewrite($conf, $good); mend($node, 'postgres', $_[1]) });
fault($node, check => 'config_file_errors', severity => 'critical',
  inject => sub { $node->append_conf('postgresql.conf', "work_mem = = 1"); $node->reload },
  mend => sub { rewrite($conf, $good); mend($node, 'postgres', $_[1]) });
fault($node, check => 'config_file_errors', severity => 'critical', object => qr/^postgresql\.auto\.conf line \d+$/,
  inject => sub { append_to_file($auto_conf, "log_min_messages = 'loud'\n"); $node->reload });

$good = slurp_file($hba);
fault($node, check => 'hba_file_errors', severity => 'critical', object => qr/^pg_hba\.conf line \d+$/,
  inject => sub { $node->append_conf('pg_hba.conf', 'host all all 10.0.0.0/8 scram'); $node->reload },
  mend => sub { rewrite($hba, $good); mend($node, 'postgres', $_[1]) });

fault($node, check => 'hba_file_errors', severity => 'info', object => qr/^pg_hba\.conf line \d+$/,
  inject => sub { $node->append_conf('pg_hba.conf', 'hostssl all all 10.0.0.0/8 scram-sha-256'); $node->reload },
  mend => sub { rewrite($hba, $good); mend($node, 'postgres', $_[1]) });

my $ident = $node->data_dir . '/pg_ident.conf';
my $good_ident = slurp_file($ident);
fault($node, check => 'ident_file_errors', severity => 'warning', object => qr/^pg_ident\.conf line \d+$/,
  inject => sub { $node->append_conf('pg_ident.conf', 'lonely'); $node->reload },
  mend => sub { rewrite($ident, $good_ident); mend($node, 'postgres', $_[1]) });

#
# Triggers and foreign keys
#
fault($node, check => 'replication_role', severity => 'warning', object => qr/of database postgres$/,
  inject => 'ALTER DATABASE postgres SET session_replication_role = replica');
fault($node, check => 'replication_role', severity => 'warning', object => qr/^session_replication_role$/,
  inject => system_setting('session_replication_role', 'replica'));

#
# Memory
#
fault($node, check => 'work_mem_risk', severity => 'info', inject => system_setting('work_mem', "'20GB'"));
$node->safe_psql('postgres', system_setting('work_mem', "'64MB'"));
is(scalar(found($node, 'work_mem_risk')), 0, 'below its threshold work_mem is none');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET work_mem; SELECT pg_reload_conf()');

$node->safe_psql('postgres', system_setting('shared_buffers', "'16MB'"));
$node->restart;
$node->safe_psql('postgres', 'CREATE TABLE large AS SELECT i, repeat(\'x\', 500) t FROM generate_series(1, 50000) i; VACUUM ANALYZE large');
is(scalar(found($node, 'memory_defaults')), 0, 'a database twice as large as shared_buffers is none');
fault($node, check => 'memory_defaults', severity => 'info', restart => 1, object => qr/^shared_buffers$/,
  settings => { 'pgopt.default_shared_buffers_info' => 1 }, inject => 'SELECT 1');
$node->safe_psql('postgres', 'DROP TABLE large');

#
# What the caller may not see is unknown, and it is said why
#
$node->safe_psql('postgres', 'CREATE ROLE nobody');
my $unknown = "SET ROLE nobody; SELECT check_id, reason FROM pgopt_checks() WHERE component = 'settings' AND state = 'unknown' ORDER BY 1";
is($node->safe_psql('postgres', $unknown), <<'ROWS' =~ s/\n\z//r, 'a role without rights: unknown, with the grant');
config_file_errors|it needs pg_show_all_file_settings(): GRANT EXECUTE ON FUNCTION pg_show_all_file_settings() TO nobody;
hba_file_errors|it needs pg_hba_file_rules(): GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO nobody;
ident_file_errors|it needs pg_ident_file_mappings(): GRANT EXECUTE ON FUNCTION pg_ident_file_mappings() TO nobody;
ROWS
$node->safe_psql('postgres', 'GRANT EXECUTE ON FUNCTION pg_show_all_file_settings() TO nobody; GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO nobody; GRANT EXECUTE ON FUNCTION pg_ident_file_mappings() TO nobody');
is($node->safe_psql('postgres', $unknown), '', 'the grants that were named are enough');

done_testing();
