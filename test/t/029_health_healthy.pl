# Health says nothing above info where all is well: on an empty cluster, the example, pgbench, a restored dump and a
# standby. And it answers everybody, in every state of a session, whatever check fails.
#
# PGOPT_PGBENCH_SECONDS: how long pgbench runs.
use strict;
use warnings;
use File::Basename;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use PgoptTest;
use PgoptHealth;

my $examples = dirname(__FILE__) . '/../../examples/legislative';
my $seconds = $ENV{PGOPT_PGBENCH_SECONDS} // 20;

# alarms($server, $database): findings above info, as text
sub alarms
{
  my ($server, $database, %options) = @_;
  return join("\n", map { "$_->{severity}: $_->{check_id}: $_->{message}" . ' ' . encode_json($_->{evidence}) }
      grep { $_->{severity} ne 'info' } findings($server, $database, %options));
}

# healthy($server, $database, $name): three tests
sub healthy
{
  my ($server, $database, $name) = @_;
  is(alarms($server, $database), '', "$name: nothing above info");
  is(alarms($server, $database, mode => 'quick'), '', "$name: nor at a quick look");
  like($server->safe_psql($database, 'SELECT score, status FROM pgopt_health()'), qr/^(9[5-9]|100)\|healthy$/, "$name: healthy");
  is($server->safe_psql($database, "SELECT string_agg(check_id || ': ' || reason, E'\\n') FROM pgopt_checks() WHERE reason LIKE 'the check failed%'"), '',
    "$name: no check fails");
  return;
}

# client(@command): a client program of PostgreSQL with the server's address in its environment
sub with_server
{
  my ($server, @command) = @_;
  local %ENV = (%ENV, PGHOST => $server->host, PGPORT => $server->port);
  system_or_bail(@command);
  return;
}

#
# An empty new cluster, as initdb makes it
#
my $empty = PostgreSQL::Test::Cluster->new('empty');
$empty->init(extra => [ '--encoding=UTF8', '--locale=C.UTF-8' ]);
$empty->append_conf('postgresql.conf', (join "\n", grep { /^(extension|dynamic_library)/ } split /\n/, pgopt_conf()) . "\n");
$empty->append_conf('postgresql.conf', "shared_preload_libraries = 'pgopt'\nfsync = on\n");
$empty->start;
$empty->safe_psql('postgres', 'CREATE EXTENSION pgopt');
healthy($empty, 'postgres', 'an empty cluster');
# asked often, it does not make the load that it finds
$empty->safe_psql('postgres', 'SELECT count(*) FROM (SELECT pgopt_health() FROM generate_series(1, 30)) s');
healthy($empty, 'postgres', 'asked again');
$empty->stop;

#
# The example
#
my $node = health_node('main', preload => 'pgopt,pg_stat_statements', allows_streaming => 1, conf => "pgopt.worker_naptime = '1s'\n");
$node->safe_psql('postgres', "CREATE DATABASE legislative");
with_server($node, 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', 'legislative', '-f', "$examples/$_.sql") foreach qw(settings schema);
with_server($node, "$examples/load.sh", 'legislative');
with_server($node, 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', 'legislative', '-f', "$examples/views.sql", '-c', 'CREATE EXTENSION pgopt',
  '-f', "$examples/manage.sql", '-f', "$examples/monitoring.sql");
healthy($node, 'legislative', 'the example');
with_server($node, 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', 'legislative', '-f', "$examples/changes.sql") foreach 1 .. 3;
ok(poll_until($node, 'legislative', "SELECT bool_and(fresh) FROM pgopt_matviews WHERE strategy <> 'scheduled'"), 'its views are refreshed');
healthy($node, 'legislative', 'the example at work');

#
# A standby
#
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
healthy($standby, 'legislative', 'a standby');
healthy($node, 'legislative', 'its primary');

#
# pgbench
#
$node->safe_psql('postgres', 'CREATE DATABASE bench');
$node->safe_psql('bench', 'CREATE EXTENSION pgopt; CREATE EXTENSION pg_stat_statements');
with_server($node, 'pgbench', '-q', '-i', '-s', $ENV{PGOPT_PGBENCH_SCALE} // 5, 'bench');
{
  local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port);
  my ($out, %seen, $looks) = ('');
  my $bench = IPC::Run::start([ 'pgbench', '-n', '-c', 4, '-T', $seconds, 'bench' ], '<', \undef, '>', \$out, '2>', \$out,
    IPC::Run::timeout($seconds + 180));
  for (my $until = time() + $seconds; time() < $until; sleep($seconds > 60 ? 5 : 2))
  {
    $seen{$_}++ foreach split /\n/, alarms($node, 'bench');
    $seen{$_}++ foreach split /\n/, alarms($standby, 'bench');
    $looks++;
  }
  $bench->finish;
  is(join("\n", sort keys %seen), '', "nothing above info in $looks looks during pgbench");
  like($out, qr/number of failed transactions: 0/, 'pgbench did its work');
}
healthy($node, 'bench', 'after pgbench');
$node->wait_for_catchup($standby);
healthy($standby, 'bench', 'the standby after pgbench');
$standby->stop;

#
# A restored dump, asked at once: no statistics yet
#
$node->safe_psql('legislative', <<'SQL');
CREATE TABLE vote_session (id int PRIMARY KEY, held_on date NOT NULL);
CREATE TABLE vote (
	id bigint PRIMARY KEY,
	session_id int NOT NULL REFERENCES vote_session,
	document_id bigint REFERENCES legislative_documents (id),
	member text NOT NULL,
	remarks text);
INSERT INTO vote_session SELECT i, date '2020-01-01' + i FROM generate_series(1, 1000) i;
INSERT INTO vote
SELECT i, i % 1000 + 1, (SELECT min(id) FROM legislative_documents), 'member ' || i % 500, repeat(md5(i::text), 10)
  FROM generate_series(1, 300000) i;
CREATE INDEX ON vote (session_id);
CREATE INDEX ON vote (document_id);
CREATE INDEX ON vote (member, id);
SQL
cmp_ok($node->safe_psql('legislative', "SELECT pg_table_size('vote')"), '>', 100e6, 'the dump has a table of more than 100 MB');
my $dump = $node->basedir . '/legislative.dump';
with_server($node, 'pg_dump', '-Fc', '-Z', 1, '-f', $dump, 'legislative');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
with_server($node, 'pg_restore', '-j', 2, '-d', 'restored', $dump);
healthy($node, 'restored', 'a restored dump');
unlink $dump;
ok(poll_until($node, 'restored', "SELECT bool_and(fresh) FROM pgopt_matviews WHERE strategy <> 'scheduled'"), 'its views are refreshed');
healthy($node, 'restored', 'a restored dump with its views');
$node->safe_psql('postgres', 'DROP DATABASE restored');

#
# Roles that may see less: what they may not see is unknown, with what would show it
#
$node->safe_psql('postgres', 'CREATE ROLE monitor LOGIN IN ROLE pg_monitor; CREATE ROLE nobody LOGIN');
my $unknown = 'SELECT check_id, reason FROM pgopt_checks() WHERE state = \'unknown\' ORDER BY 1';
foreach my $role (qw(monitor nobody))
{
  is(alarms($node, 'legislative', role => $role), '', "$role: nothing above info");
  my @unknown = split /\n/, $node->safe_psql('legislative', "SET ROLE $role; $unknown");
  note(join("\n", "unknown to $role:", @unknown));
  cmp_ok(scalar(@unknown), '>', 0, "$role: something is unknown");
  is(join("\n", grep { !/GRANT |superuser|own|standby|the extension pg_stat_statements is not/ } @unknown), '', "$role: with what would show it");
}
cmp_ok($node->safe_psql('legislative', 'SET ROLE monitor; SELECT coverage FROM pgopt_health()'), '>=', 0.9, 'pg_monitor sees nearly everything');
like($node->safe_psql('legislative', 'SET ROLE nobody; SELECT status, confidence FROM pgopt_health()'), qr/^healthy\|(medium|low)$/,
  'little is known without rights, and it says so');

#
# One check that fails is unknown, and the others go on
#
my $count = $node->safe_psql('legislative', 'SET ROLE monitor; SELECT count(*) FROM pgopt_checks()');
$node->safe_psql('legislative', 'REVOKE EXECUTE ON FUNCTION pg_stat_get_db_checksum_failures(oid), unnest(anyarray), pg_get_userbyid(oid) FROM PUBLIC');
like($node->safe_psql('legislative', "SET ROLE monitor; $unknown"), qr/checksum_failures\|the check failed: permission denied for function pg_stat_get_db_checksum_failures/,
  'a check that fails says why');
is($node->safe_psql('legislative', 'SET ROLE monitor; SELECT count(*) FROM pgopt_checks()'), $count, 'and the others go on');
ok($node->safe_psql('legislative', 'SET ROLE monitor; SELECT score FROM pgopt_health()') > 0, 'there is a score');
$node->safe_psql('legislative', 'GRANT EXECUTE ON FUNCTION pg_stat_get_db_checksum_failures(oid), unnest(anyarray), pg_get_userbyid(oid) TO PUBLIC');

#
# Hostile names
#
$node->safe_psql('legislative', <<'SQL');
CREATE SCHEMA evil;
CREATE FUNCTION evil.boom() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE FUNCTION evil.current_setting(text) RETURNS text LANGUAGE sql AS 'SELECT evil.boom()';
CREATE FUNCTION evil.format(text, VARIADIC text[]) RETURNS text LANGUAGE sql AS 'SELECT evil.boom()';
CREATE FUNCTION evil.count(int) RETURNS int LANGUAGE sql AS 'SELECT 1 FROM evil.boom()';
CREATE FUNCTION evil.equal(text, text) RETURNS bool LANGUAGE sql AS 'SELECT evil.boom() IS NULL';
CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.equal);
CREATE OPERATOR evil.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.equal);
CREATE OPERATOR evil.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.equal);
CREATE VIEW evil.pg_settings AS SELECT evil.boom() AS name;
CREATE VIEW evil.pg_stat_activity AS SELECT evil.boom() AS pid;
CREATE VIEW evil.pg_database AS SELECT evil.boom() AS oid;
CREATE VIEW evil.pg_class AS SELECT evil.boom() AS oid;
CREATE VIEW evil.pg_roles AS SELECT evil.boom() AS oid;
CREATE DOMAIN evil.jsonb AS int;
SQL
# the ids of everything that is found
my $ids = 'SELECT string_agg(check_id, \' \' ORDER BY check_id COLLATE "C") FROM public.pgopt_findings()';
my $hostile = 'SET search_path = evil, pg_catalog, public; SET standard_conforming_strings = off; SET quote_all_identifiers = on;'
  . ' SET "DateStyle" = \'SQL, DMY\'; SET "IntervalStyle" = sql_standard; SET bytea_output = escape; SET "TimeZone" = \'America/Sao_Paulo\';'
  . ' SET escape_string_warning = off; SET enable_seqscan = off; SET enable_nestloop = off; SET extra_float_digits = -15;';
is($node->safe_psql('legislative', "$hostile SELECT pg_catalog.string_agg(check_id, ' ' ORDER BY check_id COLLATE \"C\") FROM public.pgopt_findings()"),
  $node->safe_psql('legislative', $ids), 'a hostile search_path and odd settings change nothing');
is($node->safe_psql('legislative', "CREATE TEMP TABLE pg_settings (name text); CREATE TEMP TABLE pg_class (oid oid); CREATE TEMP TABLE pg_database (oid oid); $ids"),
  $node->safe_psql('legislative', $ids), 'nor do temporary tables');
is($node->safe_psql('legislative', "$hostile SELECT pg_catalog.count(*) FROM public.pgopt_checks() WHERE reason LIKE 'the check failed%'"), '0', 'no check fails on them');
$node->safe_psql('legislative', 'DROP SCHEMA evil CASCADE');

#
# States of a session
#
my ($out, $err);
isnt($node->psql('legislative', "SET statement_timeout = '1ms'; SELECT pgopt_health(); SELECT pgopt_health()", stdout => \$out, stderr => \$err, on_error_stop => 1), 0,
  'a statement timeout ends it');
like($err, qr/canceling statement due to statement timeout/, 'as any statement');
is($node->safe_psql('legislative', "BEGIN READ ONLY; $ids; COMMIT"), $node->safe_psql('legislative', $ids), 'in a transaction that only reads');
is($node->safe_psql('legislative', "SET default_transaction_isolation = 'serializable'; $ids"), $node->safe_psql('legislative', $ids), 'in a serializable one');
{
  my $before = $node->safe_psql('legislative', $ids);
  $node->safe_psql('legislative', 'CREATE TABLE passing AS SELECT i FROM generate_series(1, 10) i; CREATE INDEX ON passing (i)');
  my $in = '';
  my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('legislative'), '-f', '-' ], '<', \$in, '>', \($out = ''), '2>', \($err = ''), IPC::Run::timeout(120));
  $in .= "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 'snapshot';\n";
  $session->pump until $out =~ /snapshot/ || $err;
  $node->safe_psql('legislative', 'DROP TABLE passing; CREATE TABLE after (id int PRIMARY KEY); CREATE ROLE later; DROP ROLE later');
  $in .= "$ids;\nSELECT 'failed:' || count(*) FROM pgopt_checks() WHERE reason LIKE 'the check failed%';\nCOMMIT;\n\\q\n";
  $session->finish;
  like($out, qr/^failed:0$/m, 'with an old snapshot, of tables that are gone');
  is($err, '', 'nothing is raised');
  $node->safe_psql('legislative', 'DROP TABLE after');
}

#
# Nearly all connections are taken: by others, and it still answers those who get in
#
{
  my $max = $node->safe_psql('postgres', "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int");
  my @sessions = map {
    IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres') . ' user=nobody', '-c', 'SELECT pg_sleep(120)' ], '<', \undef, '>', \my $o, '2>', \my $e)
  } 1 .. int($max * 0.95);
  poll_until($node, 'postgres', "SELECT count(*) >= $max * 0.95 - 1 FROM pg_stat_activity WHERE usename = 'nobody'");
  my ($found) = grep { $_->{check_id} eq 'connections' } findings($node, 'legislative');
  ok($found, 'connections are found to run out');
  is(join(' ', map { $_->{check_id} } grep { $_->{severity} ne 'info' } findings($node, 'legislative')), 'connections', 'and nothing else');
  like($node->safe_psql('legislative', 'SELECT coverage FROM pgopt_health()', extra_params => [ '-U', 'monitor' ]), qr/^[01]\.\d+$/, 'it answers those who are no superusers');
  $node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'nobody'");
  $_->finish foreach @sessions;
}

done_testing();
