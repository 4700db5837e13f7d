# Health of a database with many relations: what is found among them, and that nothing is kept or locked.
# How long it takes is for bench/health.sh.
use strict;
use warnings;

use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

use PgoptHealth;
use PgoptTest;

my $tables = $ENV{PGOPT_SCALE_TABLES} // 1000;
my $node = health_node('scale', conf => "max_locks_per_transaction = 512\nautovacuum_naptime = '1h'\n");

$node->safe_psql('postgres', <<"SQL");
CREATE TABLE hub (id int PRIMARY KEY);
INSERT INTO hub VALUES (1);
DO \$\$
BEGIN
  FOR t IN 1..$tables LOOP
    EXECUTE format('CREATE TABLE t_%s (id %s GENERATED ALWAYS AS IDENTITY %s, h int %s, body text)', t,
      CASE WHEN t % 10 = 0 THEN 'int' ELSE 'bigint' END, CASE WHEN t % 4 = 0 THEN '' ELSE 'PRIMARY KEY' END,
      CASE WHEN t % 20 = 0 THEN 'REFERENCES hub' ELSE '' END);
    EXECUTE format('INSERT INTO t_%s (h, body) VALUES (1, ''x'')', t);
    IF t % 10 = 1 THEN
      EXECUTE format('CREATE INDEX a_%1\$s ON t_%1\$s (h)', t);
    END IF;
    IF t % 100 = 1 THEN
      EXECUTE format('CREATE INDEX b_%1\$s ON t_%1\$s (h)', t);
      EXECUTE format('CREATE INDEX c_%1\$s ON t_%1\$s (h, id)', t);
    END IF;
  END LOOP;
END \$\$;
SQL

my %expected = (
  no_primary_key => [ 'info', $tables / 4 ],
  foreign_key_unindexed => [ 'info', $tables / 20 ],
  index_duplicate => [ 'warning', $tables / 100 ],
  index_redundant => [ 'info', 2 * $tables / 100 ]);

sub check_counts
{
  my ($when) = @_;
  my @all = findings($node);
  foreach my $check (sort keys %expected)
  {
    my ($severity, $number) = @{ $expected{$check} };
    my @found = grep { $_->{check_id} eq $check } @all;
    my ($more) = grep { exists $_->{evidence}{more} } @found;
    is(@found + ($more ? $more->{evidence}{more} - 1 : 0), $number, "$check: $number, $when");
    cmp_ok(scalar(@found), '<=', 21, "$check: no more than a page of them, $when");
    is(scalar(grep { $_->{severity} ne $severity } @found), 0, "$check: all of them $severity, $when");
  }
  return;
}

check_counts('with counters');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pgopt_checks() WHERE state = 'unknown' AND reason ~ 'failed')),
  '0', 'no check failed');

# one that is about to run out among a thousand that are not
$node->safe_psql('postgres', q(SELECT setval('t_10_id_seq', 2147483640)));
is(join(' ', map { $_->{object} } found($node, 'sequence_exhausted')), 'public.t_10_id_seq', 'the one sequence is found');
$node->safe_psql('postgres', q(SELECT setval('t_10_id_seq', 1)));

# many foreign keys of one table: the look-up of indexes is by table
is($node->safe_psql('postgres', q(SELECT state FROM pgopt_checks() WHERE check_id = 'index_unused')), 'ok', 'index_unused');

# nothing stays: neither locks on users' relations nor memory
my $left = $node->safe_psql('postgres', <<'SQL');
BEGIN;
SELECT count(*) > 0 FROM pgopt_findings();
SELECT count(*) FROM pg_locks l LEFT JOIN pg_index i ON i.indexrelid = l.relation
 WHERE l.pid = pg_backend_pid() AND l.relation >= 16384
   AND coalesce(i.indrelid, l.relation) NOT IN (SELECT objid FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e');
COMMIT;
SQL
is($left, "t\n0", "no lock on a user's relation is kept");
my $call = "SELECT FROM pgopt_health() \\g /dev/null\n";
# plans are kept from the sixth call on
my $memory = $node->safe_psql('postgres', $call x 8
    . "SELECT sum(total_bytes) AS before FROM pg_backend_memory_contexts \\gset\n"
    . $call x 4
    . 'SELECT sum(total_bytes) - :before < 1000000 FROM pg_backend_memory_contexts');
is($memory, 't', 'a session that asks again and again does not grow');

# while others hold locks on users' tables, nobody waits
my $locker = $node->background_psql('postgres');
$locker->query(q(BEGIN; DO $$ BEGIN FOR t IN 1..200 LOOP EXECUTE format('LOCK TABLE t_%s IN ACCESS EXCLUSIVE MODE', t); END LOOP;
  END $$; LOCK TABLE hub IN ACCESS EXCLUSIVE MODE));
check_counts('while tables are locked');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pgopt_checks() WHERE state = 'unknown' AND reason ~ 'failed')),
  '0', 'and no check failed');
$locker->quit;

# a role without rights finds as much in the catalogs
$node->safe_psql('postgres', 'CREATE ROLE nobody');
my @seen = grep { $_->{check_id} eq 'index_duplicate' } findings($node, 'postgres', role => 'nobody');
is(scalar(@seen), scalar(found($node, 'index_duplicate')), 'so does a role without rights');

# tables that come and go meanwhile
my $churn = $node->background_psql('postgres', on_error_stop => 0);
$churn->query_until(qr/begun/, <<'SQL');
\echo begun
DO $$ BEGIN FOR i IN 1..400 LOOP
  EXECUTE format('CREATE TABLE churn_%s (id serial PRIMARY KEY, h int REFERENCES hub, b text)', i);
  EXECUTE format('CREATE INDEX ON churn_%s (h)', i);
  COMMIT;
  EXECUTE format('DROP TABLE churn_%s', i);
  COMMIT;
END LOOP; END $$;
SQL
my $failed = 0;
$failed += $node->safe_psql('postgres', q(SELECT count(*) FROM pgopt_checks() WHERE state = 'unknown' AND reason ~ 'failed'))
  foreach 1 .. 20;
is($failed, 0, 'no check fails while tables come and go');
$churn->quit;

$node->stop;
done_testing();
