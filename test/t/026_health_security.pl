# Faults in security: who gets in, how, and what everybody may do.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use PgoptTest;
use PgoptHealth;

# The machine's own address on a network, for connections that are not local; none on a machine without one.
my ($address) = grep { !/^127\./ } split ' ', `hostname -I 2>/dev/null` =~ s/\S*:\S*//gr;

my $node = health_node('security');
my $hba = $node->data_dir . '/pg_hba.conf';
my $good = slurp_file($hba);

# with_rule($rule): what injects a line into pg_hba.conf
sub with_rule
{
  my ($rule) = @_;
  return sub { $node->append_conf('pg_hba.conf', $rule); $node->reload };
}

# What a remedy that says "once the line is mended" needs.
sub without_rule
{
  my ($server, @findings) = @_;
  open my $handle, '>', $hba or die "$hba: $!";
  print $handle $good;
  close $handle;
  mend($server, 'postgres', @findings);
  return;
}

is(join(', ', map { $_->{check_id} } grep { $_->{component} eq 'security' && $_->{severity} ne 'info' } findings($node)), '',
  'nothing above info is found at first');
is(join(', ', map { "$_->{check_id} $_->{severity}" } found($node, 'hba_trust')), 'hba_trust info',
  'trust on this machine is worth knowing, once');

#
# Roles
#
fault($node, check => 'superusers', severity => 'warning', object => qr/^"The Boss"$/,
  not_yet => { 'pgopt.superusers_allowed' => 1 }, inject => 'CREATE ROLE "The Boss" SUPERUSER LOGIN');
$node->safe_psql('postgres', 'CREATE ROLE no_login SUPERUSER');
is(scalar(found($node, 'superusers')), 0, 'a superuser that cannot log in is none');

fault($node, check => 'server_access', severity => 'warning', object => qr/^"App Role"$/,
  inject => 'CREATE ROLE "App Role" LOGIN; GRANT pg_execute_server_program TO "App Role"');
# by another grantor, and through another role
fault($node, check => 'server_access', severity => 'warning', object => qr/^deep$/,
  inject => 'CREATE ROLE "The Granter" CREATEROLE; GRANT pg_write_server_files TO "The Granter" WITH ADMIN OPTION; CREATE ROLE writers;'
    . ' SET ROLE "The Granter"; GRANT pg_write_server_files TO writers; RESET ROLE; CREATE ROLE deep LOGIN; GRANT writers TO deep');
$node->safe_psql('postgres', 'DROP ROLE deep, writers; REVOKE pg_write_server_files FROM "The Granter"; DROP ROLE "The Granter"');
fault($node, check => 'md5_passwords', severity => 'warning', object => qr/^old$/,
  inject => "SET password_encryption = md5; CREATE ROLE old LOGIN PASSWORD 'secret'",
  mend => sub { mend($_[0], 'postgres', $_[1]); $node->safe_psql('postgres', "ALTER ROLE old PASSWORD 'secret'") });
$node->safe_psql('postgres', "SET password_encryption = md5; CREATE ROLE \"new\nSELECT 1/0;\" PASSWORD 'secret'");
mend($node, 'postgres', found($node, 'md5_passwords'));
$node->safe_psql('postgres', "DROP ROLE \"new\nSELECT 1/0;\"");
fault($node, check => 'password_encryption_md5', severity => 'warning', object => qr/^password_encryption$/,
  inject => 'ALTER SYSTEM SET password_encryption = md5; SELECT pg_reload_conf()');
fault($node, check => 'password_encryption_md5', severity => 'warning', object => qr/^password_encryption of role old$/,
  inject => 'ALTER ROLE old SET password_encryption = md5');

#
# pg_hba.conf
#
fault($node, check => 'hba_trust', severity => 'warning', object => qr/^pg_hba\.conf line \d+$/,
  inject => with_rule('host app all 10.0.0.0/8 trust'), mend => sub { without_rule($_[0], $_[1]) });
fault($node, check => 'hba_trust', severity => 'critical', object => qr/^pg_hba\.conf line \d+$/,
  inject => with_rule('host all all 0.0.0.0/0 trust'), mend => sub { without_rule($_[0], $_[1]) });
is(scalar(found($node, 'encryption_off')), 0, 'without others there is nothing to encrypt');
fault($node, check => 'encryption_off', severity => 'info', object => qr/^pg_hba\.conf$/,
  inject => with_rule('host all all 10.0.0.0/8 scram-sha-256'),
  mend => sub { my ($server) = @_; open my $handle, '>', $hba or die; print $handle $good; close $handle; $server->reload });
foreach my $harmless ('hostssl all all 0.0.0.0/0 trust clientcert=verify-full', 'host all all 127.0.0.0/8 trust',
  'host all all samehost trust', 'host all all ::1/128 trust', 'host all all 10.0.0.0/8 scram-sha-256',
  'host all all 0.0.0.0/0 reject',
  'hostssl all all all trust')
{
  with_rule($harmless)->();
  is(join(', ', map { $_->{severity} } found($node, 'hba_trust')), 'info', "$harmless: none");
}
my %open = (
  'host all all 0.0.0.0/0' => 'critical', 'host all all ::/0' => 'critical', 'host all all all' => 'critical',
  'host replication all samenet' => 'warning', 'host all all 127.0.0.1 0.0.0.0' => 'warning',
  'hostnossl all all .example.org' => 'warning');
foreach my $open (sort keys %open)
{
  with_rule("$open trust")->();
  is((found($node, 'hba_trust'))[0]{severity}, $open{$open}, "$open trust: $open{$open}");
  without_rule($node);
}
fault($node, check => 'hba_cleartext', severity => 'warning', inject => with_rule('host all all 10.0.0.0/8 password'),
  mend => \&without_rule);
fault($node, check => 'hba_cleartext', severity => 'warning', inject => with_rule('hostnossl all all 0.0.0.0/0 radius radiusservers="127.0.0.1" radiussecrets="s"'),
  mend => \&without_rule);
with_rule("hostssl all all 10.0.0.0/8 password\nhost all all 127.0.0.1/32 password")->();
is(scalar(found($node, 'hba_cleartext')), 0, 'a password that is encrypted, or stays on the machine, is none');
without_rule($node);
fault($node, check => 'hba_cleartext', severity => 'info', inject => with_rule("host all all 10.0.0.0/8 md5\nlocal all old md5"),
  mend => \&without_rule);

#
# What everybody may do
#
fault($node, check => 'public_schema_writable', severity => 'warning', object => qr/^public$/,
  inject => 'GRANT CREATE ON SCHEMA public TO PUBLIC');
fault($node, check => 'public_schema_writable', severity => 'warning', object => qr/^"My App"$/,
  inject => 'CREATE SCHEMA "My App"; GRANT ALL ON SCHEMA "My App" TO PUBLIC');
fault($node, check => 'public_data', severity => 'warning', object => qr/^"My App"\."A Table"$/,
  inject => 'CREATE TABLE "My App"."A Table" (id int PRIMARY KEY); GRANT ALL ON "My App"."A Table" TO PUBLIC');
is($node->safe_psql('postgres', q(SELECT has_table_privilege('old', '"My App"."A Table"', 'SELECT'))), 't', 'what everybody may read stays so');
$node->safe_psql('postgres', 'CREATE TABLE guarded (id int PRIMARY KEY); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;'
    . ' GRANT ALL ON guarded TO PUBLIC; CREATE SCHEMA closed; CREATE TABLE closed.t (id int PRIMARY KEY); GRANT ALL ON closed.t TO PUBLIC');
is(scalar(found($node, 'public_data')), 0, 'row security guards a table, and so does a schema that is closed');
fault($node, check => 'rls_without_enable', severity => 'warning', object => qr/^public\.papers$/,
  inject => 'CREATE TABLE papers (id int PRIMARY KEY); CREATE POLICY own ON papers USING (id > 0); CREATE POLICY other ON papers USING (id = 0);'
    . ' CREATE POLICY own ON guarded USING (true)');

fault($node, check => 'security_definer_path', severity => 'warning', object => qr/^"My App"\.f\(integer\)$/,
  inject => 'CREATE FUNCTION "My App".f(int) RETURNS int LANGUAGE sql SECURITY DEFINER AS $$ SELECT $1 $$');
fault($node, check => 'security_definer_path', severity => 'info', object => qr/^public\.g\(\)$/,
  inject => 'CREATE PROCEDURE g() LANGUAGE sql SECURITY DEFINER AS $$ SELECT 1 $$; ALTER PROCEDURE g OWNER TO old');
$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION parsed() RETURNS int LANGUAGE sql SECURITY DEFINER RETURN 1;
CREATE FUNCTION pinned() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$ SELECT 1 $$;
CREATE FUNCTION mine() RETURNS int LANGUAGE sql SECURITY DEFINER AS $$ SELECT 1 $$;
REVOKE EXECUTE ON FUNCTION mine() FROM PUBLIC;
CREATE FUNCTION closed.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS $$ SELECT 1 $$;
SQL
is(scalar(found($node, 'security_definer_path')), 0, 'functions that nobody can mislead are none');

#
# What the caller may not see is unknown
#
$node->safe_psql('postgres', 'CREATE ROLE nobody; CREATE ROLE monitor IN ROLE pg_monitor');
my $unknown = "SELECT check_id, reason FROM pgopt_checks() WHERE component = 'security' AND state = 'unknown' ORDER BY 1";
is($node->safe_psql('postgres', "SET ROLE nobody; $unknown"), <<'ROWS' =~ s/\n\z//r, 'a role without rights: unknown, with the grant');
encryption_off|it needs pg_hba_file_rules(): GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO nobody;
hba_cleartext|it needs pg_hba_file_rules(): GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO nobody;
hba_trust|it needs pg_hba_file_rules(): GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO nobody;
md5_passwords|only superusers see how passwords are stored: ask as one
unencrypted_connections|it needs the privileges of pg_read_all_stats: GRANT pg_read_all_stats TO nobody;
ROWS
unlike($node->safe_psql('postgres', "SET ROLE monitor; $unknown"), qr/unencrypted/, 'pg_monitor sees the connections');

#
# The network: the server listens, and somebody comes without encryption
#
SKIP:
{
  skip('the machine has no address on a network', 1) unless $address;

  $node->append_conf('postgresql.conf', "listen_addresses = '*'\n");
  $node->restart;
  fault($node, check => 'hba_trust', severity => 'critical', inject => with_rule("host all all 0.0.0.0/0 trust"),
    mend => sub { without_rule($_[0], $_[1]) });
  with_rule("host all old $address/32 scram-sha-256")->();

  my $session;
  fault($node, check => 'unencrypted_connections', severity => 'warning', object => qr/^old in database postgres$/,
    inject => sub {
      local $ENV{PGPASSWORD} = 'secret';
      $session = IPC::Run::start(
        [ 'psql', '-XAtq', '-d', "host=$address port=" . $node->port . ' dbname=postgres user=old sslmode=disable', '-c', 'SELECT pg_sleep(600)' ],
        '<', \undef, '>', \my $out, '2>', \my $err);
    },
    mend => sub {
      mend($_[0], 'postgres', $_[1]);
      $node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'old'");
      $session->finish;
    });
}

done_testing();
