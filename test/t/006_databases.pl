# Databases and the extension come and go while a worker and a long refresh run: nothing waits for them.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use PgoptTest;
use PgoptViews;

my $prompt = 5;    # seconds that no statement may take
my $node = pgopt_node('main', extension => 'app', conf => "restart_after_crash = on\npgopt.worker_naptime = '500ms'\n");
create_checks($node, 'app');
# slow sleeps for as long as nap says, once for each row, and counts as any other view
$node->safe_psql('app', <<'SQL');
CREATE FUNCTION slowly(seconds float8) RETURNS float8 LANGUAGE plpgsql IMMUTABLE AS
  $$ BEGIN PERFORM pg_sleep(seconds); RETURN seconds; END $$;
CREATE TABLE nap (s float8);
INSERT INTO nap VALUES (0);
CREATE TABLE t (id int);
CREATE MATERIALIZED VIEW slow AS SELECT slowly(s) FROM nap;
CREATE MATERIALIZED VIEW quick AS SELECT count(*) n FROM t;
CREATE MATERIALIZED VIEW by_hand AS SELECT count(*) n FROM t;
SELECT pgopt_manage('slow', 'immediate'), pgopt_manage('quick', 'immediate', priority => 1),
       pgopt_manage('by_hand', 'manual');
SELECT pgopt_refresh('by_hand');
SQL
all_fresh($node, 'app', 'at the start');

my $busy = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pgopt refresh' AND wait_event = 'PgSleep'";

sub workers
{
  my ($database) = @_;
  return "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pgopt worker' AND datname = '$database'";
}

# A refresh that takes long is under way in the database.  One that was ended before is no failure to wait for.
sub long_refresh
{
  my ($database, $name) = @_;
  $node->safe_psql($database, 'UPDATE nap SET s = 0');
  $node->poll_query_until($database, "SELECT count(pg_cancel_backend(pid)) = 0 FROM pg_stat_activity"
      . " WHERE backend_type = 'pgopt refresh' AND datname = '$database' AND state = 'active'");
  $node->safe_psql($database, "SELECT pgopt_refresh('slow')");
  $node->safe_psql($database, 'UPDATE nap SET s = 120');
  ok(poll_until($node, 'postgres', "$busy AND datname = '$database'", '1', 20), "$name: a long refresh runs")
    or diag($node->safe_psql($database, 'SELECT view, state, reason, last_error FROM pgopt_matviews'));
  return;
}

# A statement that must not wait.
sub prompt
{
  my ($database, $sql, $name) = @_;
  my $begun = time();
  my ($code, $out, $err) = $node->psql($database, $sql);
  my $seconds = time() - $begun;
  is($code, 0, "$name: succeeds") or diag($err);
  cmp_ok($seconds, '<', $prompt, sprintf('%s: does not wait (%.1f s)', $name, $seconds));
  return;
}

sub looked_after
{
  my ($database, $name) = @_;
  ok(poll_until($node, 'postgres', workers($database), '1', 15), "$name: a worker looks after $database");
  $node->safe_psql($database, 'INSERT INTO t VALUES (1)');
  ok(poll_until($node, $database, "SELECT fresh AND (SELECT n FROM quick) = (SELECT count(*) FROM t) FROM pgopt_matviews WHERE view = 'quick'::regclass", 't', 15),
    "$name: a change in $database is refreshed");
  return;
}

# --- CREATE DATABASE ... TEMPLATE; by_hand is stale, and so is its copy
$node->safe_psql('app', 'INSERT INTO t VALUES (1)');
long_refresh('app', 'CREATE DATABASE TEMPLATE');
prompt('postgres', 'CREATE DATABASE copy TEMPLATE app', 'CREATE DATABASE TEMPLATE');
is(wrongly_fresh($node, 'copy', "view::text <> 'slow'"), '', 'a copied database calls no view fresh that is not');
is($node->safe_psql('copy', "SELECT fresh FROM pgopt_matviews WHERE view = 'by_hand'::regclass"), 'f',
  'a view that was stale when its database was copied is not fresh in the copy');
looked_after('copy', 'CREATE DATABASE TEMPLATE');
is(wrongly_fresh($node, 'copy', "view::text <> 'slow'"), '',
  'a copied database calls no view fresh that is not once its worker runs');
looked_after('app', 'CREATE DATABASE TEMPLATE');

# from a session in the template itself
long_refresh('app', 'CREATE DATABASE TEMPLATE from inside');
prompt('app', 'CREATE DATABASE copy_2 TEMPLATE app', 'CREATE DATABASE TEMPLATE from inside');
prompt('postgres', 'DROP DATABASE copy_2', 'DROP DATABASE of a new copy');

# --- DROP DATABASE, also by force and at once after its creation
long_refresh('copy', 'DROP DATABASE');
prompt('postgres', 'DROP DATABASE copy', 'DROP DATABASE');
foreach my $round (1 .. 4)
{
  prompt('postgres', 'CREATE DATABASE copy TEMPLATE app', "in a row $round: CREATE DATABASE TEMPLATE");
  prompt('postgres', $round == 4 ? 'DROP DATABASE copy WITH (FORCE)' : 'DROP DATABASE copy', "in a row $round: DROP DATABASE");
}

# --- RENAME, and a move to another tablespace
long_refresh('app', 'ALTER DATABASE RENAME');
prompt('postgres', 'ALTER DATABASE app RENAME TO renamed', 'ALTER DATABASE RENAME');
looked_after('renamed', 'ALTER DATABASE RENAME');
long_refresh('renamed', 'ALTER DATABASE SET TABLESPACE');
$node->safe_psql('postgres', "SET allow_in_place_tablespaces = on; CREATE TABLESPACE elsewhere LOCATION ''");
prompt('postgres', 'ALTER DATABASE renamed SET TABLESPACE elsewhere', 'ALTER DATABASE SET TABLESPACE');
prompt('postgres', 'ALTER DATABASE renamed SET TABLESPACE pg_default', 'ALTER DATABASE SET TABLESPACE back');
prompt('postgres', 'ALTER DATABASE renamed RENAME TO app', 'ALTER DATABASE RENAME back');
looked_after('app', 'ALTER DATABASE SET TABLESPACE');

# --- a statement that fails leaves the workers at work
my $session = $node->background_psql('app');
my ($code, $out, $err) = $node->psql('postgres', 'DROP DATABASE app');
like($err, qr/is being accessed by other users/, 'DROP DATABASE fails when a user is connected');
$session->quit;
looked_after('app', 'DROP DATABASE that failed');

# --- roles that may not: they cannot stop a worker
$node->safe_psql('postgres', 'CREATE ROLE nobody LOGIN; CREATE ROLE creator LOGIN CREATEDB');
my ($worker) = worker_pids($node, 'pgopt worker', 'app');
foreach my $sql ('DROP DATABASE app', 'DROP DATABASE app WITH (FORCE)', 'ALTER DATABASE app RENAME TO mine',
  'ALTER DATABASE app SET TABLESPACE elsewhere', 'CREATE DATABASE mine TEMPLATE app')
{
  ($code, $out, $err) = $node->psql('postgres', $sql, extra_params => [ '-U', 'nobody' ]);
  like($err, qr/must be owner of database app|permission denied to create database/, "a role without rights: $sql fails");
}
is(join(' ', worker_pids($node, 'pgopt worker', 'app')), $worker, 'a role without rights does not end the worker');
($code, $out, $err) = $node->psql('postgres', 'CREATE DATABASE mine TEMPLATE app', extra_params => [ '-U', 'creator' ]);
like($err, qr/permission denied to copy database "app"/, 'a role that may create databases may not copy this one');
is(join(' ', worker_pids($node, 'pgopt worker', 'app')), $worker,
  'a role that may not copy the database does not end its worker by trying');
looked_after('app', 'after attempts without rights');

# --- a database that comes later, one with the extension from its template, one without
$node->safe_psql('postgres', 'CREATE DATABASE late');
$node->safe_psql('late', 'CREATE EXTENSION pgopt; CREATE TABLE t (id int); CREATE MATERIALIZED VIEW quick AS SELECT count(*) n FROM t;'
    . "SELECT pgopt_manage('quick', 'immediate')");
looked_after('late', 'a database created later');
$node->safe_psql('template1', 'CREATE EXTENSION pgopt');
ok(poll_until($node, 'postgres', workers('template1'), '1', 15), 'a worker looks after template1');
foreach my $number (1 .. 3)
{
  prompt('postgres', "CREATE DATABASE new_$number", "CREATE DATABASE from a template1 with the extension, $number");
}
foreach my $number (1 .. 3)
{
  ok(poll_until($node, 'postgres', workers("new_$number"), '1', 15), "a worker looks after new_$number");
}
prompt('postgres', "DROP DATABASE new_$_", "DROP DATABASE new_$_") foreach (1 .. 3);
$node->safe_psql('template1', 'DROP EXTENSION pgopt');
ok(poll_until($node, 'postgres', workers('template1'), '0', 15), 'the worker of template1 ends with the extension');
is($node->safe_psql('postgres', workers('postgres')), 0, 'no worker stays in a database without the extension');

# --- DROP EXTENSION during a long refresh, and CREATE EXTENSION again
long_refresh('app', 'DROP EXTENSION');
prompt('app', 'DROP EXTENSION pgopt CASCADE', 'DROP EXTENSION');
ok(poll_until($node, 'postgres', workers('app'), '0', 10), 'DROP EXTENSION: the worker ends');
ok(poll_until($node, 'postgres', "$busy AND datname = 'app'", '0', 10), 'DROP EXTENSION: the long refresh ends');
$node->safe_psql('app', 'UPDATE nap SET s = 0');
prompt('app', 'CREATE EXTENSION pgopt', 'CREATE EXTENSION again');
$node->safe_psql('app', "SELECT pgopt_manage('slow', 'immediate'), pgopt_manage('quick', 'immediate')");
all_fresh($node, 'app', 'CREATE EXTENSION again');
looked_after('app', 'CREATE EXTENSION again');
prompt('app', 'BEGIN; DROP EXTENSION pgopt; CREATE EXTENSION pgopt; COMMIT', 'DROP and CREATE EXTENSION in one transaction');
$node->safe_psql('app', "SELECT pgopt_manage('quick', 'immediate')");
looked_after('app', 'DROP and CREATE EXTENSION in one transaction');
prompt('app', 'BEGIN; DROP EXTENSION pgopt; ROLLBACK', 'DROP EXTENSION that is rolled back');
looked_after('app', 'DROP EXTENSION that is rolled back');

no_crash($node);
$node->stop;
note('took ' . started() . ' s');
done_testing();
