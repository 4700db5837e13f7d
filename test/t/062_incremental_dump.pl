# pg_dump and restore: a view is refreshed by what changed afterwards as it was before. What is logged and kept of the
# views is no part of a dump, and is made anew by the first refresh after it, which is full; the next one is incremental.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use PgoptTest;
use PgoptViews;

my $node = pgopt_node('main', extension => 'app', conf => "pgopt.auto_refresh = off\npgopt.worker_naptime = '300ms'\n");
create_checks($node, 'app');
$node->safe_psql('app', <<'SQL');
CREATE SCHEMA "Odd ""Names""";
CREATE TABLE "Odd ""Names"""."Über T" (id int PRIMARY KEY, "Größe" int, topic text);
INSERT INTO "Odd ""Names"""."Über T" SELECT i, i % 17, 'topic ' || i % 5 FROM generate_series(1, 300) i;
CREATE TABLE part (id int, topic text) PARTITION BY RANGE (id);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (100);
CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (100) TO (1000);
INSERT INTO part SELECT i, 'topic ' || i % 7 FROM generate_series(1, 200) i;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER mine BEFORE INSERT ON part FOR EACH ROW EXECUTE FUNCTION note();
CREATE MATERIALIZED VIEW "Odd ""Names"""."My ""View""" AS SELECT topic, count(*) n, sum("Größe") s, min("Größe"), string_agg(DISTINCT "Größe"::text, ',')
  FROM "Odd ""Names"""."Über T" GROUP BY topic;
CREATE MATERIALIZED VIEW joined AS SELECT p.id, t."Größe" FROM part p LEFT JOIN "Odd ""Names"""."Über T" t USING (id);
CREATE MATERIALIZED VIEW above AS SELECT count(*) n, sum(n) s FROM "Odd ""Names"""."My ""View""";
CREATE MATERIALIZED VIEW computed AS SELECT count(*) n FROM part;
CREATE MATERIALIZED VIEW usual AS SELECT max(id) FROM part;
SELECT pgopt_manage('"Odd ""Names"""."My ""View"""', 'manual', incremental => 'always'), pgopt_manage('joined', 'manual', incremental => 'always'),
  pgopt_manage('above', 'manual', incremental => 'always'), pgopt_manage('computed', 'manual', incremental => 'never'),
  pgopt_manage('usual', 'manual');
SQL

my $change = <<'SQL';
UPDATE "Odd ""Names"""."Über T" SET "Größe" = "Größe" + 1 WHERE id % 50 = 0;
DELETE FROM "Odd ""Names"""."Über T" WHERE id = (SELECT min(id) FROM "Odd ""Names"""."Über T");
INSERT INTO part SELECT max(id) + 1, NULL FROM part;
UPDATE part SET id = id + 97 WHERE id = (SELECT min(id) FROM part);
SQL
my $configured = 'SELECT schema_name, view_name, strategy, incremental FROM pgopt.matview ORDER BY 1, 2';
my $modes = q{SELECT string_agg(view_name || ' ' || CASE mode WHEN 'incremental' THEN mode ELSE 'full' END, ', ' ORDER BY view_name) FROM
  (SELECT relname AS view_name, r.mode FROM pgopt.matview m JOIN pg_class c ON c.oid = m.view, pgopt_refresh(m.view) r
    WHERE r.view = m.view AND relname <> 'usual' ORDER BY relname = 'above') x};
my $all_full = 'My "View" full, above full, computed full, joined full';
my $incremental = 'My "View" incremental, above incremental, computed full, joined incremental';

# wrong($database): views that do not hold what their query yields
sub wrong
{
  my ($database) = @_;
  return $node->safe_psql($database, "SELECT string_agg(view_name, ', ') FROM pgopt.matview WHERE rows_that_differ(view) > 0");
}

# triggers that pgopt has made
my $captured = q{SELECT count(*) FROM pg_trigger t JOIN pg_proc p ON p.oid = tgfoid
  JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_extension'::regclass};

# goes_on($database, $name, $first): the first refresh is full, the next incremental, and both are right
sub goes_on
{
  my ($database, $name, $first) = @_;
  is($node->safe_psql($database, $modes), $first, "$name: the first refresh") if defined $first;
  $node->safe_psql($database, 'SELECT pgopt_refresh_all()') unless defined $first;
  is(wrong($database), '', "$name: every view is right after it");
  foreach my $again (1, 2)
  {
    $node->safe_psql($database, $change);
    is($node->safe_psql($database, $modes), $incremental, "$name: refresh " . ($again + 1));
    is(wrong($database), '', "$name: every view is right after it");
  }
  return;
}

goes_on('app', 'before the dump', $all_full);
my $expected = $node->safe_psql('app', $configured);
my $triggers = $node->safe_psql('app', $captured);
cmp_ok($triggers, '>=', 3, 'tables are captured');
# something that no refresh has read yet
$node->safe_psql('app', $change);

# restored($database, $name): configured as app is, and what it needs is made anew
sub restored
{
  my ($database, $name) = @_;
  is($node->safe_psql($database, $configured), $expected, "$name: the configuration is kept");
  # a view that is created after its row was restored is bound by the worker
  ok(poll_until($node, $database, "SELECT count(*) FROM pgopt.matview m JOIN pg_class c ON c.oid = m.view AND c.relname = m.view_name AND c.relkind = 'm'", '5', 20),
    "$name: it belongs to the right views");
  # and so is what it reads
  ok(poll_until($node, $database, $captured, $triggers, 20), "$name: the same tables are captured again");
  goes_on($database, $name, $all_full);
  return;
}

# --- plain text
my $plain = $node->basedir . '/plain.sql';
$node->command_ok([ 'pg_dump', '-f', $plain, $node->connstr('app') ], 'pg_dump');
my $text = slurp_file($plain);
unlike($text, qr/\b(log|groups|values)_\d+/, 'no log and no state is in the dump');
is(join(' ', $text =~ /^CREATE .*TRIGGER (\S+)/mg), 'mine', 'no trigger but the user\'s is in the dump');
unlike($text, qr/COPY pgopt\.(incremental_state|row_log)/, 'nor what was read and what is captured');
$node->safe_psql('postgres', 'CREATE DATABASE plain TEMPLATE template0');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $plain, $node->connstr('plain') ], 'the dump is restored without an error');
restored('plain', 'pg_dump and psql');

# --- custom format, in parallel, and over what is there already
my $custom = $node->basedir . '/custom.dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $custom, $node->connstr('app') ], 'pg_dump -Fc');
$node->safe_psql('postgres', 'CREATE DATABASE parallel TEMPLATE template0');
$node->command_ok([ 'pg_restore', '-j2', '--exit-on-error', '-d', $node->connstr('parallel'), $custom ], 'pg_restore -j2 restores without an error');
restored('parallel', 'pg_restore -j2');
$node->command_ok([ 'pg_restore', '--clean', '--if-exists', '--exit-on-error', '-d', $node->connstr('parallel'), $custom ],
  'pg_restore --clean over captured tables restores without an error');
restored('parallel', 'pg_restore --clean');

# --- the rows of the tables alone, into a database that captures them
$node->safe_psql('parallel', 'SELECT pgopt_refresh_all()');
$node->command_ok([ 'pg_dump', '-Fc', '--data-only', '-t', 'part*', '-f', "$custom.data", $node->connstr('app') ], 'pg_dump --data-only');
$node->safe_psql('parallel', 'DELETE FROM part');
$node->command_ok([ 'pg_restore', '--disable-triggers', '--exit-on-error', '-d', $node->connstr('parallel'), "$custom.data" ],
  'pg_restore --disable-triggers');
$node->safe_psql('parallel', 'SELECT pgopt_refresh_all()');
is(wrong('parallel'), '', 'pg_restore --disable-triggers: every view is right after a refresh');
goes_on('parallel', 'after pg_restore --disable-triggers');

# --- a copy of the database: the same tables with the same numbers, log and state included
$node->safe_psql('postgres', 'CREATE DATABASE copied TEMPLATE app');
$node->safe_psql('app', $change);
$node->safe_psql('copied', $change . 'DELETE FROM part WHERE topic IS NULL');
goes_on('copied', 'CREATE DATABASE TEMPLATE');
goes_on('app', 'the database that was copied', $incremental);

# --- and without the extension nothing is left
$node->safe_psql('app', 'DROP EXTENSION pgopt');
is($node->safe_psql('app', 'SELECT count(*) FROM pg_trigger WHERE tgname !~ \'^mine\''), 0, 'DROP EXTENSION drops the triggers');
is($node->safe_psql('app', "SELECT count(*) FROM pg_class WHERE relname ~ '^(log|groups|values)_[0-9]'"), 0, 'and the tables');
$node->safe_psql('app', $change);
no_crash($node);
$node->stop;
note('took ' . started() . ' s');
done_testing();
