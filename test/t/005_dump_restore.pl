# pg_dump and restore: what users configured comes along, for the right views; what was measured does not, so every
# view counts as not fresh until it was refreshed.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use PgoptTest;
use PgoptViews;

my $node = pgopt_node('main', extension => 'app', conf => "pgopt.worker_naptime = '500ms'\n");
create_checks($node, 'app');
$node->safe_psql('app', <<'SQL');
CREATE SCHEMA "Odd Names";
CREATE TABLE "Odd Names"."Über T" (id int PRIMARY KEY, "Größe" int);
INSERT INTO "Odd Names"."Über T" SELECT i, i FROM generate_series(1, 1000) i;
CREATE TABLE t (id int PRIMARY KEY, name text);
INSERT INTO t SELECT i, 'n' || i FROM generate_series(1, 50) i;
CREATE MATERIALIZED VIEW "Odd Names"."My ""View""" AS SELECT id % 10 AS k, sum("Größe") s FROM "Odd Names"."Über T" GROUP BY 1;
CREATE UNIQUE INDEX ON "Odd Names"."My ""View""" (k);
CREATE MATERIALIZED VIEW chain AS SELECT count(*) n, sum(s) s FROM "Odd Names"."My ""View""";
CREATE MATERIALIZED VIEW empty AS SELECT id FROM t WITH NO DATA;
CREATE MATERIALIZED VIEW not_managed AS SELECT 1 AS x;
CREATE MATERIALIZED VIEW gone AS SELECT count(*) FROM t;
-- dumped after the table's data, since it needs the primary key
CREATE MATERIALIZED VIEW by_key AS SELECT t.id, t.name, count(u.id) n FROM t LEFT JOIN "Odd Names"."Über T" u USING (id) GROUP BY t.id;
SELECT pgopt_manage('"Odd Names"."My ""View"""', 'threshold', interval '7 minutes', 17, 2),
       pgopt_manage('chain', 'immediate', priority => 9), pgopt_manage('empty', 'immediate', interval '1 hour'),
       pgopt_manage('gone', 'manual'), pgopt_manage('by_key', 'immediate');
SQL
all_fresh_but_gone('app', 'before the dump');
# a managed view that was dropped: its entry stays, without a view
$node->safe_psql('app', 'DROP MATERIALIZED VIEW gone');

sub all_fresh_but_gone
{
  my ($database, $name) = @_;
  ok(poll_until($node, $database, "SELECT bool_and(fresh) FROM pgopt_matviews WHERE view::text NOT LIKE '%gone' AND state <> 'missing'", 't', 40),
    "$name: every view becomes fresh")
    or diag($node->safe_psql($database, 'SELECT view, fresh, state, reason, last_error FROM pgopt_matviews'));
  return;
}

my $configured = <<'SQL';
SELECT schema_name, view_name, strategy, refresh_interval, threshold_changes, priority, settings, managed_by, managed_since
  FROM pgopt.matview WHERE view_name <> 'gone' ORDER BY 1, 2
SQL
my $expected = $node->safe_psql('app', $configured);
is(scalar(split /\n/, $expected), 4, 'four views are managed');

# The database holds what app holds.
sub compare
{
  my ($database, $name) = @_;
  is($node->safe_psql($database, $configured), $expected, "$name: the configuration is kept");
  is($node->safe_psql($database, "SELECT count(*) FROM pgopt.matview m JOIN pg_class c ON c.oid = m.view WHERE m.view_name = 'gone'"), 0,
    "$name: a managed view that was dropped is not taken for another relation");
  is(wrongly_fresh($node, $database, "state <> 'missing'"), '', "$name: no view is called fresh that is not");
  # a view that is created after its row was restored is bound by the worker
  ok(poll_until($node, $database, "SELECT count(*) FROM pgopt.matview m JOIN pg_class c ON c.oid = m.view AND c.relname = m.view_name AND c.relkind = 'm'"
        . " JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = m.schema_name", '4', 15),
    "$name: it belongs to the right views");
  all_fresh_but_gone($database, $name);
  is($node->safe_psql($database, "SELECT string_agg(view::text, ' ') FROM pgopt.matview JOIN pg_class c ON c.oid = view AND c.relkind = 'm' WHERE rows_that_differ(view) > 0"),
    '', "$name: every view holds what its query yields");
  is($node->safe_psql($database, 'SELECT n, s FROM chain'), '10|500500', "$name: the chain of views is right");
  is($node->safe_psql($database, "SELECT count(*) FROM pgopt.refresh_log WHERE source = 'worker' AND outcome = 'refreshed'") > 0, 1,
    "$name: its worker refreshed");
  return;
}

# --- plain
my $plain = $node->basedir . '/plain.sql';
$node->command_ok([ 'pg_dump', '-f', $plain, $node->connstr('app') ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE plain TEMPLATE template0');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $plain, $node->connstr('plain') ],
  'the dump is restored without an error');
compare('plain', 'pg_dump and psql');

# --- custom format, in parallel
my $custom = $node->basedir . '/custom.dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $custom, $node->connstr('app') ], 'pg_dump -Fc');
$node->safe_psql('postgres', 'CREATE DATABASE parallel TEMPLATE template0');
$node->command_ok([ 'pg_restore', '-j2', '--exit-on-error', '-d', $node->connstr('parallel'), $custom ],
  'pg_restore -j2 restores without an error');
compare('parallel', 'pg_restore -j2');

# --- over what is there already
$node->command_ok([ 'pg_restore', '--clean', '--if-exists', '--exit-on-error', '-d', $node->connstr('parallel'), $custom ],
  'pg_restore --clean over a database with a worker restores without an error');
compare('parallel', 'pg_restore --clean');

# --- dumps of parts
$node->command_ok([ 'pg_dump', '--schema-only', '-f', "$plain.schema", $node->connstr('app') ], 'pg_dump --schema-only');
unlike(slurp_file("$plain.schema"), qr/COPY pgopt\./, 'a dump of the schema has no rows of pgopt');
$node->command_ok([ 'pg_dump', '-Fp', '--data-only', '-f', "$plain.data", $node->connstr('app') ], 'pg_dump --data-only');
unlike(slurp_file("$plain.data"), qr/COPY pgopt\.(matview_state|refresh_log)/, 'what was measured is not dumped');

# --- a copy of the database
$node->safe_psql('postgres', 'CREATE DATABASE copied TEMPLATE app');
compare('copied', 'CREATE DATABASE TEMPLATE');

no_crash($node);
$node->stop;
note('took ' . started() . ' s');
done_testing();
