# Faults in integrity: pages that the storage damaged, and indexes whose collation has changed under them.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use PgoptTest;
use PgoptHealth;

my $node = health_node('integrity',
  init => [ extra => [ '--encoding=UTF8', '--locale=C.UTF-8', '--data-checksums' ] ]);

is(join(', ', map { $_->{check_id} } grep { $_->{component} eq 'integrity' } findings($node)), '', 'nothing is found at first');

#
# A damaged page, read by a query
#
# damage($database): a table there with a page that is not what was written.
sub damage
{
  my ($database) = @_;
  $node->safe_psql($database, 'CREATE TABLE damaged AS SELECT i AS id FROM generate_series(1, 1000) i; CHECKPOINT');
  my $file = $node->data_dir . '/' . $node->safe_psql($database, "SELECT pg_relation_filepath('damaged')");
  $node->stop;
  open my $handle, '+<', $file or die "$file: $!";
  binmode $handle;
  seek $handle, 8192 + 4000, 0;
  print $handle 'damage';
  close $handle;
  $node->start;
  my ($out, $err);
  isnt($node->psql($database, 'SELECT count(*) FROM damaged', stdout => \$out, stderr => \$err), 0, 'the page cannot be read');
  return;
}

# restore($database, $found): what the finding asks for, as somebody would who has read it.
sub restore
{
  my ($database, $found) = @_;
  is(scalar(is_executable($found->{remedy})), 0, 'checksum_failures: nothing that takes back the alarm is run unread');
  mend($node, $database, $found);
  is(scalar(grep { $_->{object} eq $found->{object} } found($node, 'checksum_failures')), 1, 'checksum_failures: it stays until it is mended');
  $node->safe_psql($database, 'DROP TABLE damaged');
  my ($last) = $found->{remedy} =~ /^-- (SELECT pg_stat_reset\(\);.*)\z/m;
  $node->safe_psql($database, $_) foreach split /; */, $last;
  return;
}

fault($node, check => 'checksum_failures', severity => 'critical', object => qr/^database postgres$/,
  not_yet => { 'pgopt.checksum_failures_memory' => '0' },
  inject => sub { damage('postgres') },
  mend => sub { restore('postgres', $_[1]) });

$node->safe_psql('postgres', 'CREATE DATABASE "An Other"');
fault($node, check => 'checksum_failures', severity => 'critical', object => qr/^database "An Other"$/,
  inject => sub { damage('An Other') },
  mend => sub { restore('An Other', $_[1]) });

#
# Collations: versions as they were before an upgrade of the system
#
$node->safe_psql('postgres', 'ALTER DATABASE postgres REFRESH COLLATION VERSION');
my $versioned = $node->safe_psql('postgres', "SELECT pg_database_collation_actual_version(oid) IS NOT NULL FROM pg_database WHERE datname = 'postgres'") eq 't';
SKIP:
{
  skip('the locale of the test servers has no version here', 1) unless $versioned;
  fault($node, check => 'collation_mismatch', severity => 'warning', object => qr/^database postgres$/,
    inject => "CREATE TABLE names (name text PRIMARY KEY); INSERT INTO names VALUES ('a');"
      . " UPDATE pg_database SET datcollversion = '1.0' WHERE datname = 'postgres'");
  fault($node, check => 'collation_mismatch', severity => 'warning', object => qr/^database "An Other"$/,
    inject => "UPDATE pg_database SET datcollversion = '1.0' WHERE datname = 'An Other'");
}

my $icu = $node->safe_psql('postgres', "SELECT collname FROM pg_collation WHERE collprovider = 'i' AND collversion IS NOT NULL ORDER BY collname = 'pt-BR-x-icu' DESC LIMIT 1");
SKIP:
{
  skip('the server was built without ICU', 1) unless $icu;
  fault($node, check => 'collation_mismatch', severity => 'warning', object => qr/^collation pg_catalog\."$icu"$/,
    inject => qq(CREATE TABLE cities (name text COLLATE "$icu" PRIMARY KEY, EXCLUDE (name WITH =));)
      . qq( UPDATE pg_collation SET collversion = '1.0' WHERE collname = '$icu'));
  fault($node, check => 'collation_mismatch', severity => 'warning', object => qr/^collation public\."My Order"$/,
    inject => qq(CREATE COLLATION "My Order" FROM "$icu"; UPDATE pg_collation SET collversion = '1.0' WHERE collname = 'My Order'));
  fault($node, check => 'collation_mismatch', severity => 'info', object => qr/^unused collations$/,
    inject => "UPDATE pg_collation SET collversion = '1.0' WHERE collname = 'de-AT-x-icu'");
}

#
# A server without checksums
#
my $bare = health_node('bare', init => [ extra => [ '--encoding=UTF8', '--locale=C.UTF-8', $node->safe_psql('postgres', "SELECT current_setting('server_version_num')::int") >= 180000 ? '--no-data-checksums' : () ] ]);
my ($found) = found($bare, 'checksums_off');
is($found->{severity}, 'info', 'checksums that are off are worth knowing');
is($found->{remedy_lock}, 'restart of the server', 'and what it takes');
$bare->stop;
system_or_bail('pg_checksums', '--enable', '-D', $bare->data_dir);
$bare->start;
is(scalar(found($bare, 'checksums_off')), 0, 'what the finding names mends it');

done_testing();
