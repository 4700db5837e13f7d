# Faults of the schema: keys that run out, constraints and triggers that do nothing, what is empty or can be lost.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;

use PgoptHealth;
use PgoptTest;

my $node = health_node('schema');
my $s = '"My Schema"';

$node->safe_psql('postgres', qq(CREATE SCHEMA $s; CREATE ROLE reader; CREATE ROLE nobody;
  GRANT USAGE ON SCHEMA $s TO reader));

sub quiet
{
  my ($check, $what) = @_;
  is(join(' ', map { $_->{object} } grep { $_->{severity} ne 'info' } found($node, $check)), '', "$check: $what");
  return;
}

# --- sequence_exhausted
foreach my $part ([ 'warning', 1900000000 ], [ 'critical', 2100000000 ])
{
  fault(
    $node,
    check => 'sequence_exhausted',
    severity => $part->[0],
    object => qr/^"My Schema"\."Bills_Number_seq"$/,
    not_yet => { 'pgopt.keys_used_warning' => 99, 'pgopt.keys_used_critical' => 99 },
    inject => qq(DROP TABLE IF EXISTS $s."Bills"; CREATE TABLE $s."Bills" ("Number" serial PRIMARY KEY, body text);
      SELECT setval('$s."Bills_Number_seq"', $part->[1])));
}
is($node->safe_psql('postgres', qq(SELECT atttypid::regtype FROM pg_attribute WHERE attrelid = '$s."Bills"'::regclass AND attname = 'Number')),
  'bigint', 'sequence_exhausted: its column can hold more, too');
fault(
  $node,
  check => 'sequence_exhausted',
  severity => 'critical',
  object => qr/^public\.narrow_id_seq$/,
  inject => q(CREATE TABLE narrow (id int PRIMARY KEY); CREATE SEQUENCE narrow_id_seq OWNED BY narrow.id;
    ALTER TABLE narrow ALTER id SET DEFAULT nextval('narrow_id_seq'); SELECT setval('narrow_id_seq', 2147000000)));
fault(
  $node,
  check => 'sequence_exhausted',
  severity => 'critical',
  object => qr/^public\.ident_id_seq$/,
  inject => q(CREATE TABLE ident (id smallint PRIMARY KEY GENERATED ALWAYS AS IDENTITY);
    SELECT setval('ident_id_seq', 32000)));
fault(
  $node,
  check => 'sequence_exhausted',
  severity => 'warning',
  object => qr/^public\.bounded$/,
  inject => q(CREATE SEQUENCE bounded MAXVALUE 1000; SELECT setval('bounded', 900)));
fault(
  $node,
  check => 'sequence_exhausted',
  severity => 'critical',
  object => qr/^public\.downward$/,
  inject => q(CREATE SEQUENCE downward INCREMENT -1 MINVALUE -1000; SELECT setval('downward', -990)));
$node->safe_psql('postgres', q(CREATE SEQUENCE round MAXVALUE 1000 CYCLE; SELECT setval('round', 999);
  CREATE SEQUENCE fresh MAXVALUE 1000; CREATE SEQUENCE up MINVALUE -1000 MAXVALUE 1000; SELECT setval('up', 0);
  CREATE SEQUENCE large; SELECT setval('large', 4000000000)));
quiet('sequence_exhausted', 'one that begins anew, is new, half used or has a bigint to go is none');
$node->safe_psql('postgres', q(CREATE SEQUENCE secret MAXVALUE 1000; SELECT setval('secret', 999)));
my ($seen) = grep { $_->{check_id} eq 'sequence_exhausted' } findings($node, 'postgres', role => 'nobody');
is($seen->{evidence}{percent} > 99 && !exists $seen->{evidence}{last_value}, 1,
  'sequence_exhausted: whoever may not read it sees the percentage');
$node->safe_psql('postgres', 'DROP SEQUENCE secret');
{
  # while its sequence is being altered a check does not wait
  my $session = $node->background_psql('postgres');
  $session->query('BEGIN; LOCK TABLE narrow IN ACCESS EXCLUSIVE MODE; ALTER SEQUENCE bounded MAXVALUE 2000');
  is($node->safe_psql('postgres', q(SELECT state FROM pgopt_checks() WHERE check_id = 'sequence_exhausted')),
    'ok', 'sequence_exhausted: one that is locked is left out');
  $session->quit;
}

# --- int4_key_exhausted
my $fill = sub {
  my ($table, $top, $type) = @_;
  return "CREATE TABLE $table (\"Key\" $type PRIMARY KEY, v int); "
    . "INSERT INTO $table SELECT $top - i, i FROM generate_series(0, 12000) i; ANALYZE $table";
};
fault(
  $node,
  check => 'int4_key_exhausted',
  severity => 'warning',
  object => qr/^"Key" of "My Schema"\."Given Keys"$/,
  inject => $fill->(qq($s."Given Keys"), 1900000000, 'int'));
fault(
  $node,
  check => 'int4_key_exhausted',
  severity => 'critical',
  object => qr/of public\.small_keys$/,
  not_yet => { 'pgopt.keys_used_warning' => 100, 'pgopt.keys_used_critical' => 100 },
  inject => $fill->('small_keys', 32000, 'smallint'));
fault(
  $node,
  check => 'int4_key_exhausted',
  severity => 'critical',
  object => qr/of public\.parted$/,
  inject => q(CREATE TABLE parted (other int, id int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (2100000000);
    CREATE TABLE parted_2 (id int NOT NULL, other int);
    ALTER TABLE parted ATTACH PARTITION parted_2 FOR VALUES FROM (2100000000) TO (MAXVALUE);
    INSERT INTO parted SELECT i, 2099990000 + i FROM generate_series(0, 25000) i; ANALYZE parted),
  # a partition key's type cannot be changed
  mend => sub { $_[0]->safe_psql('postgres', 'DROP TABLE parted') });
$node->safe_psql('postgres', $fill->('sentinel', 50000, 'int') . '; INSERT INTO sentinel VALUES (2147483647, 0);'
    . $fill->('wide_key', 5000000000, 'bigint') . '; CREATE TABLE few (id int PRIMARY KEY); INSERT INTO few VALUES (2147483647);'
    . $fill->('by_sequence', 2147483647, 'int') . '; CREATE SEQUENCE bs OWNED BY by_sequence."Key"; '
    . $fill->('gone', 2147483647, 'int') . '; DELETE FROM gone; VACUUM gone; ');
quiet('int4_key_exhausted', 'a value that stands alone, bigint, small and empty tables, and those with a sequence are none');
$node->safe_psql('postgres', 'DROP TABLE sentinel, wide_key, few, by_sequence, gone');

# --- not_valid_constraints
fault(
  $node,
  check => 'not_valid_constraints',
  severity => 'warning',
  object => qr/^"Not Yet" of "My Schema"\."Bills"$/,
  inject => qq(ALTER TABLE $s."Bills" ADD CONSTRAINT "Not Yet" CHECK (body <> '') NOT VALID));
fault(
  $node,
  check => 'not_valid_constraints',
  severity => 'warning',
  inject => qq(CREATE TABLE item (id int PRIMARY KEY, bill bigint); CREATE INDEX ON item (bill);
    ALTER TABLE item ADD FOREIGN KEY (bill) REFERENCES $s."Bills" NOT VALID));
fault(
  $node,
  check => 'not_valid_constraints',
  severity => 'warning',
  object => qr/of "My Schema"\."Positive"$/,
  inject => qq(CREATE DOMAIN $s."Positive" AS int; CREATE TABLE p (id int PRIMARY KEY, v $s."Positive");
    ALTER DOMAIN $s."Positive" ADD CHECK (VALUE > 0) NOT VALID));
fault(
  $node,
  check => 'not_valid_constraints',
  severity => 'warning',
  object => qr/of public\.pp$/,
  inject => q(CREATE TABLE pp (id int PRIMARY KEY) PARTITION BY RANGE (id);
    CREATE TABLE pp_1 PARTITION OF pp FOR VALUES FROM (0) TO (10); INSERT INTO pp VALUES (1);
    ALTER TABLE pp ADD CHECK (id > 0) NOT VALID));

# --- no_primary_key
fault(
  $node,
  check => 'no_primary_key',
  severity => 'info',
  object => qr/^"My Schema"\."No Key"$/,
  inject => qq(CREATE TABLE $s."No Key" ("A" int, id text)),
  mend => sub {
    my ($node, $found) = @_;
    is(scalar(is_executable($found->{remedy})), 0, 'no_primary_key: nothing to be run unread');
    # its last line, by somebody who has read it
    $node->safe_psql('postgres', $found->{remedy} =~ /^-- (ALTER TABLE [^\n]*;)\z/m);
  });
fault(
  $node,
  check => 'no_primary_key',
  severity => 'info',
  object => qr/^public\.almost$/,
  inject => 'CREATE TABLE almost (a int NOT NULL, b text); CREATE UNIQUE INDEX "Almost A" ON almost (a)');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_constraint WHERE conrelid = 'almost'::regclass AND contype = 'p')),
  '1', 'no_primary_key: an index that could be it becomes it');
fault(
  $node,
  check => 'no_primary_key',
  severity => 'info',
  object => qr/^public\.plog$/,
  inject => 'CREATE TABLE plog (a int) PARTITION BY RANGE (a); CREATE TABLE plog_1 PARTITION OF plog FOR VALUES FROM (0) TO (10)',
  mend => sub { $_[0]->safe_psql('postgres', 'ALTER TABLE plog ADD PRIMARY KEY (a)') });
foreach my $what ('FOR TABLE "My Schema"."Log"', 'FOR TABLES IN SCHEMA "My Schema"', 'FOR ALL TABLES')
{
  fault(
    $node,
    check => 'no_primary_key',
    severity => 'warning',
    object => qr/^"My Schema"\."Log"$/,
    inject => qq(CREATE TABLE $s."Log" (a int); CREATE PUBLICATION pub $what));
  $node->safe_psql('postgres', qq(DROP PUBLICATION pub; DROP TABLE $s."Log"));
}
$node->safe_psql('postgres', qq(CREATE TABLE l1 (a int); CREATE UNLOGGED TABLE l2 (a int); CREATE PUBLICATION i FOR TABLE l1 WITH (publish = 'insert')));
quiet('no_primary_key', 'published only for INSERT is none');
$node->safe_psql('postgres', 'DROP PUBLICATION i; CREATE TABLE l3 (a int NOT NULL UNIQUE); ALTER TABLE l3 REPLICA IDENTITY USING INDEX l3_a_key;'
    . 'CREATE PUBLICATION i FOR TABLE l3');
quiet('no_primary_key', 'an index as identity will do');
$node->safe_psql('postgres', 'DROP TABLE l1, l2, l3; DROP PUBLICATION i');

# --- disabled_triggers
$node->safe_psql('postgres', q(CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'));
fault(
  $node,
  check => 'disabled_triggers',
  severity => 'warning',
  object => qr/^"My Schema"\."Bills"$/,
  inject => qq(CREATE TRIGGER "First One" BEFORE INSERT ON $s."Bills" FOR EACH ROW EXECUTE FUNCTION nothing();
    CREATE TRIGGER second BEFORE UPDATE ON $s."Bills" FOR EACH ROW EXECUTE FUNCTION nothing();
    ALTER TABLE $s."Bills" DISABLE TRIGGER USER));
fault(
  $node,
  check => 'disabled_triggers',
  severity => 'warning',
  object => qr/^public\.item$/,
  inject => 'ALTER TABLE item DISABLE TRIGGER ALL');
fault(
  $node,
  check => 'disabled_triggers',
  severity => 'warning',
  object => qr/^public\.pp$/,
  inject => 'CREATE TRIGGER pt AFTER INSERT ON pp FOR EACH ROW EXECUTE FUNCTION nothing(); ALTER TABLE pp DISABLE TRIGGER pt');
$node->safe_psql('postgres', qq(ALTER TABLE $s."Bills" ENABLE REPLICA TRIGGER second));
quiet('disabled_triggers', 'one for replicas is none');

# --- matview_unpopulated
fault(
  $node,
  check => 'matview_unpopulated',
  severity => 'warning',
  object => qr/^"My Schema"\."Empty View"$/,
  inject => qq(CREATE MATERIALIZED VIEW $s."Empty View" AS SELECT 1 AS a WITH NO DATA));

# --- unlogged_tables
fault(
  $node,
  check => 'unlogged_tables',
  severity => 'info',
  object => qr/^"My Schema"\."Fast"$/,
  inject => qq(CREATE UNLOGGED TABLE $s."Fast" (id int PRIMARY KEY)));

# --- extension_outdated
fault(
  $node,
  check => 'extension_outdated',
  severity => 'info',
  object => qr/^pgstattuple$/,
  inject => q(CREATE EXTENSION pgstattuple VERSION '1.4'));

# --- an extension's own
$node->safe_psql('postgres', q(CREATE UNLOGGED TABLE of_ext (a int); CREATE SEQUENCE of_seq MAXVALUE 10; SELECT setval('of_seq', 10);
  ALTER TABLE of_ext ADD CHECK (a > 0) NOT VALID; CREATE MATERIALIZED VIEW of_view AS SELECT 1 WITH NO DATA;
  CREATE TRIGGER t BEFORE INSERT ON of_ext FOR EACH ROW EXECUTE FUNCTION nothing(); ALTER TABLE of_ext DISABLE TRIGGER t;
  ALTER EXTENSION pgopt ADD TABLE of_ext; ALTER EXTENSION pgopt ADD SEQUENCE of_seq;
  ALTER EXTENSION pgopt ADD MATERIALIZED VIEW of_view));
my $other = $node->background_psql('postgres');
$other->query(q(CREATE TEMP TABLE t (a serial); SELECT setval('t_a_seq', 2147483647);));
is(join(' ', map { "$_->{check_id} $_->{object}" } grep { $_->{component} eq 'schema' } findings($node)),
  '', "neither an extension's objects nor temporary ones are told of");
$other->quit;

$node->stop;
done_testing();
