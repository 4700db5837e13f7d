# Faults of indexes: broken ones, those that nobody needs, and those that are missing.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;

use PgoptHealth;
use PgoptTest;

my $node = health_node('indexes');

$node->safe_psql('postgres', <<'SQL');
CREATE SCHEMA "The Shop";
CREATE TABLE "The Shop"."Customer" ("Id" int PRIMARY KEY, "Full Name" text, city text, country text);
CREATE TABLE "The Shop"."Order" (id int PRIMARY KEY, "Customer Id" int, placed date, amount int);
INSERT INTO "The Shop"."Customer" SELECT i, 'c' || i, 'x', 'y' FROM generate_series(1, 20000) i;
INSERT INTO "The Shop"."Order" SELECT i, i, '2026-01-01', i FROM generate_series(1, 20000) i;
CREATE TABLE part (id int, k int, body text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10000);
CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (10000) TO (1000000);
INSERT INTO part SELECT i, i, repeat('x', 100) FROM generate_series(1, 20000) i;
VACUUM ANALYZE;
SQL

my $shop = '"The Shop"';

sub above_info
{
  my ($check) = @_;
  return scalar(grep { $_->{severity} ne 'info' } found($node, $check));
}

# A session that ran the statements and stays; one that hangs in a statement.
sub holding
{
  my ($sql) = @_;
  my $session = $node->background_psql('postgres', on_error_stop => 0);
  $session->query($sql);
  return $session;
}

sub hanging
{
  my ($sql) = @_;
  my $session = $node->background_psql('postgres', on_error_stop => 0);
  $session->query_until(qr/begun/, "\\echo begun\n$sql;\n");
  return $session;
}

# --- index_invalid
fault(
  $node,
  check => 'index_invalid',
  severity => 'warning',
  object => qr/^"The Shop"\."one customer"$/,
  inject => sub {
    $node->psql('postgres', qq(INSERT INTO $shop."Order" VALUES (30000, 5, '2026-01-01', 1)));
    $node->psql('postgres', qq(CREATE UNIQUE INDEX CONCURRENTLY "one customer" ON $shop."Order" ("Customer Id")));
  });
fault(
  $node,
  check => 'index_invalid',
  severity => 'warning',
  object => qr/placed at/,
  inject => qq(CREATE INDEX "placed at" ON $shop."Order" (placed);
    UPDATE pg_index SET indisvalid = false WHERE indexrelid = '$shop."placed at"'::regclass));
is($node->safe_psql('postgres', qq(SELECT indisvalid FROM pg_index WHERE indexrelid = '$shop."placed at"'::regclass)),
  't', 'index_invalid: an ordinary index is rebuilt');
$node->safe_psql('postgres', 'CREATE INDEX part_only ON ONLY part (k)');
is(scalar(found($node, 'index_invalid')), 0, "index_invalid: a partitioned table's is none");
$node->safe_psql('postgres', 'DROP INDEX part_only');

my $writer = holding(qq(BEGIN; UPDATE $shop."Order" SET amount = 0 WHERE id = 1));
my $builder = hanging(qq(CREATE INDEX CONCURRENTLY being_built ON $shop."Order" (amount)));
poll_until($node, 'postgres', q(SELECT count(*) FROM pg_index WHERE NOT indisvalid), '1');
is(scalar(found($node, 'index_invalid')), 0, 'index_invalid: one that is being built is none');
$node->safe_psql('postgres', q(CREATE ROLE watcher; GRANT pg_monitor TO watcher; CREATE ROLE nobody));
is(scalar(grep { $_->{check_id} eq 'index_invalid' } findings($node, 'postgres', role => $_)),
  0, "index_invalid: nor for the role $_")
  foreach qw(watcher nobody);
$_->quit foreach $writer, $builder;
is(scalar(found($node, 'index_invalid')), 0, 'index_invalid: nor is it when it is built');
$node->safe_psql('postgres', qq(DROP INDEX $shop.being_built));

# what a REINDEX CONCURRENTLY leaves that was cancelled, of the table and of its TOAST table
fault(
  $node,
  check => 'index_invalid',
  severity => 'warning',
  object => qr/_ccnew/,
  count => 2,
  inject => sub {
    $writer = holding(qq(BEGIN; UPDATE $shop."Customer" SET city = 'x' WHERE "Id" = 1));
    $builder = hanging(qq(REINDEX TABLE CONCURRENTLY $shop."Customer"));
    poll_until($node, 'postgres', q(SELECT count(*) FROM pg_index WHERE NOT indisvalid), '2');
    $node->safe_psql('postgres', q(SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'REINDEX%'));
    $_->quit foreach $builder, $writer;
  });

# --- index_duplicate
fault(
  $node,
  check => 'index_duplicate',
  severity => 'warning',
  object => qr/"By City 2"/,
  inject => qq(CREATE INDEX "By City" ON $shop."Customer" (city) WHERE lower(country) = 'y';
    CREATE INDEX "By City 2" ON $shop."Customer"  (city) WHERE lower(country)  =  'y'));
fault(
  $node,
  check => 'index_duplicate',
  severity => 'warning',
  object => qr/lower_2/,
  inject => qq(CREATE INDEX lower_1 ON $shop."Customer" (lower("Full Name"));
    CREATE INDEX lower_2 ON $shop."Customer" (lower("Full Name"))));
fault(
  $node,
  check => 'index_duplicate',
  severity => 'warning',
  object => qr/like_the_key/,
  inject => qq(CREATE INDEX like_the_key ON $shop."Customer" ("Id")));
fault(
  $node,
  check => 'index_duplicate',
  severity => 'warning',
  object => qr/"The Key Again"/,
  inject => qq(ALTER TABLE $shop."Customer" ADD CONSTRAINT "The Key Again" UNIQUE ("Id")));
fault(
  $node,
  check => 'index_duplicate',
  severity => 'warning',
  object => qr/^public\.part_k_2$/,
  inject => q(CREATE INDEX part_k_1 ON part (k); CREATE INDEX part_k_2 ON part (k)));
fault(
  $node,
  check => 'index_duplicate',
  severity => 'warning',
  object => qr/^public\.part_1_k_own$/,
  inject => q(CREATE INDEX part_1_k_own ON part_1 (k)));
$node->safe_psql('postgres', qq(DROP INDEX part_k_1, $shop."By City", $shop.lower_1));

$node->safe_psql('postgres', qq(
  CREATE INDEX a1 ON $shop."Order" (placed DESC);
  CREATE INDEX a2 ON $shop."Order" USING hash (placed);
  CREATE INDEX a3 ON $shop."Order" (placed) WHERE amount > 1;
  CREATE INDEX a4 ON $shop."Order" (placed) WHERE amount > 2;
  CREATE INDEX a5 ON $shop."Order" (placed) INCLUDE (amount);
  CREATE INDEX t1 ON $shop."Customer" (city);
  CREATE INDEX t2 ON $shop."Customer" (city text_pattern_ops);
  CREATE INDEX t3 ON $shop."Customer" (city COLLATE "C");
  ALTER TABLE $shop."Customer" ADD UNIQUE (country) DEFERRABLE) =~ s/ADD UNIQUE \(country\)/ADD UNIQUE ("Id")/r);
is(scalar(found($node, 'index_duplicate')), 0, 'index_duplicate: those that differ in something are none');
$node->safe_psql('postgres', qq(DROP INDEX $shop.a1, $shop.a2, $shop.a3, $shop.a4, $shop.a5, $shop.t1, $shop.t2, $shop.t3;
  ALTER TABLE $shop."Customer" DROP CONSTRAINT "Customer_Id_key"));

# --- index_redundant
fault(
  $node,
  check => 'index_redundant',
  severity => 'info',
  object => qr/"City Only"/,
  inject => qq(CREATE INDEX "City Only" ON $shop."Customer" (city);
    CREATE INDEX city_country ON $shop."Customer" (city, country)));
$node->safe_psql('postgres', qq(CREATE UNIQUE INDEX country_u ON $shop."Customer" (country, "Id");
  CREATE INDEX desc_first ON $shop."Customer" (city DESC);
  CREATE INDEX country_partial ON $shop."Customer" (country) WHERE city > 'a'));
is(scalar(found($node, 'index_redundant')), 0, 'index_redundant: another order or predicate is none');
$node->safe_psql('postgres', qq(DROP INDEX $shop.city_country, $shop.country_u, $shop.desc_first, $shop.country_partial));

# --- foreign_key_unindexed
fault(
  $node,
  check => 'foreign_key_unindexed',
  severity => 'warning',
  object => qr/^"By Customer" of "The Shop"\."Order"$/,
  not_yet => { 'pgopt.foreign_key_rows' => 100000 },
  inject => qq(DELETE FROM $shop."Order" WHERE id = 30000;
    ALTER TABLE $shop."Order" ADD CONSTRAINT "By Customer" FOREIGN KEY ("Customer Id") REFERENCES $shop."Customer"));
fault(
  $node,
  check => 'foreign_key_unindexed',
  severity => 'warning',
  object => qr/of public\.part$/,
  inject => qq(ALTER TABLE part ADD FOREIGN KEY (k) REFERENCES $shop."Customer"));
fault(
  $node,
  check => 'foreign_key_unindexed',
  severity => 'info',
  object => qr/of public\.small$/,
  inject => qq(CREATE TABLE small (id int PRIMARY KEY, c int REFERENCES $shop."Customer")));
$node->safe_psql('postgres', qq(DROP TABLE small; CREATE TABLE two (a int, b int, c int, PRIMARY KEY (a, b));
  CREATE TABLE refers (id int PRIMARY KEY, x int, y int, z int, FOREIGN KEY (x, y) REFERENCES two (a, b),
    FOREIGN KEY (z) REFERENCES $shop."Customer");
  CREATE INDEX ON refers (y, x, z); CREATE INDEX ON refers (z) WHERE z IS NOT NULL));
is(scalar(found($node, 'foreign_key_unindexed')), 0,
  'foreign_key_unindexed: columns in another order and an index without nulls serve it');
$node->safe_psql('postgres', 'DROP TABLE refers, two');

# --- index_unused
my %at_once = ('pgopt.unused_index_info' => '0s', 'pgopt.unused_index_warning' => '0s');
fault(
  $node,
  check => 'index_unused',
  severity => 'warning',
  object => qr/"Nobody's"/,
  settings => {%at_once},
  not_yet => { 'pgopt.unused_index_size' => '100MB', %at_once },
  inject => qq(DROP INDEX IF EXISTS $shop."placed at";
    INSERT INTO $shop."Customer" SELECT i, 'c' || i, 'x', i FROM generate_series(20001, 60000) i;
    CREATE INDEX "Nobody's" ON $shop."Customer" (country)));
fault(
  $node,
  check => 'index_unused',
  severity => 'info',
  object => qr/nobodys/,
  settings => { 'pgopt.unused_index_info' => '0s' },
  not_yet => { 'pgopt.unused_index_info' => '1d' },
  inject => qq(CREATE INDEX nobodys ON $shop."Customer" (country)));
fault(
  $node,
  check => 'index_unused',
  severity => 'warning',
  settings => { %at_once, 'pgopt.unused_index_size' => 0 },
  inject => 'CREATE INDEX part_k ON part (body)',
  # the foreign keys' indexes of before count with size 0
  count => 0,
  mend => sub {
    my ($n, @found) = @_;
    is(scalar(grep { $_->{object} =~ /part_[12]/ } @found), 0, 'index_unused: partitions are not told of');
    is(scalar(grep { $_->{object} eq 'public.part_k' } @found), 1, 'index_unused: but the partitioned table');
    mend($n, 'postgres', @found);
  });
$node->safe_psql('postgres', qq(CREATE INDEX used ON $shop."Customer" (country);
  CREATE UNIQUE INDEX unused_but_unique ON $shop."Customer" (country, "Id");
  ALTER TABLE $shop."Customer" ADD EXCLUDE USING btree (country WITH =, "Id" WITH =)));
$node->safe_psql('postgres', qq(SET enable_seqscan = off; SELECT * FROM $shop."Customer" WHERE country = '1'));
set_settings($node, {%at_once});
ok(poll_until($node, 'postgres', q(SELECT sum(idx_scan) > 0 FROM pg_stat_user_indexes WHERE indexrelname = 'used')),
  'an index was used');
is(scalar(found($node, 'index_unused')), 0, 'index_unused: keys, constraints and what is used are none');
$node->safe_psql('postgres', qq(SELECT pg_stat_reset()));
is(scalar(found($node, 'index_unused')), 0, 'index_unused: after a reset, what is known of the workload speaks for an index');
$node->safe_psql('postgres', qq(SELECT pgopt_workload_reset()));
like((found($node, 'index_unused'))[0]{object}, qr/used$/, 'index_unused: after a reset nothing has been used');
set_settings($node, { 'pgopt.unused_index_info' => '1h' });
is(scalar(found($node, 'index_unused')), 0, 'index_unused: but only since then');
reset_settings($node, {%at_once});
$node->safe_psql('postgres', qq(DROP INDEX $shop.used, $shop.unused_but_unique;
  ALTER TABLE $shop."Customer" DROP CONSTRAINT "Customer_country_Id_excl"));

# --- sequential_scans
my %few = (
  'pgopt.sequential_scans_size' => '1MB',
  'pgopt.sequential_scans_info' => 3,
  'pgopt.sequential_scans_warning' => 300); # a day, of which there was an hour at least

sub scan_often
{
  my ($times) = @_;
  $node->safe_psql('postgres',
    qq(SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off;)
      . qq(SELECT count(*) FROM $shop."Customer" WHERE city = 'z';) x $times);
  return;
}

sub use_index
{
  $node->safe_psql('postgres', qq(SET enable_seqscan = off;)
      . qq(SELECT count(*) FROM $shop."Customer" WHERE "Id" = 5;) x 30);
  ok(poll_until($node, 'postgres', q(SELECT idx_scan > seq_scan FROM pg_stat_user_tables WHERE relname = 'Customer')),
    'the index was used more often');
  return;
}

$node->safe_psql('postgres', qq(VACUUM ANALYZE));
fault(
  $node,
  check => 'sequential_scans',
  severity => 'info',
  object => qr/"Customer"/,
  settings => {%few},
  inject => sub { scan_often(5) },
  mend => sub { use_index() });
$node->safe_psql('postgres', 'SELECT pg_stat_reset()');
fault(
  $node,
  check => 'sequential_scans',
  severity => 'warning',
  object => qr/"Customer"/,
  settings => {%few},
  not_yet => { %few, 'pgopt.sequential_scans_rows' => 100000 },
  inject => sub { scan_often(25) },
  mend => sub { use_index(); reset_settings($_[0], { 'pgopt.sequential_scans_rows' => 1 }); });
is(scalar(found($node, 'sequential_scans')), 0, 'sequential_scans: a small table may be scanned');

# --- what is not the user's
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE of_extension (id int PRIMARY KEY, k int REFERENCES of_extension);
CREATE INDEX oe1 ON of_extension (id);
CREATE INDEX oe2 ON of_extension (id);
ALTER EXTENSION pgopt ADD TABLE of_extension;
SQL
my $other = holding('CREATE TEMP TABLE tt (id int, k int); CREATE INDEX ON tt (k); CREATE INDEX ON tt (k)');
is(join(' ', map { $_->{object} } grep { $_->{component} eq 'indexes' } findings($node)),
  '', "neither an extension's tables nor temporary ones are told of");
$other->quit;
$node->safe_psql('postgres', 'ALTER EXTENSION pgopt DROP TABLE of_extension; DROP TABLE of_extension');

# --- many of them
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE hub (id int PRIMARY KEY);
DO $$ BEGIN FOR i IN 1..60 LOOP EXECUTE format('CREATE TABLE spoke_%s (id int PRIMARY KEY, h int REFERENCES hub)', i);
END LOOP; END $$;
SQL
my @many = found($node, 'foreign_key_unindexed');
is(scalar(@many), 21, 'of many findings 20 are told, and one says how many more there are');
is(scalar(grep { $_->{object} eq '40 more' && $_->{evidence}{info} == 40 } @many), 1, 'it says so with their number');

$node->stop;
done_testing();
