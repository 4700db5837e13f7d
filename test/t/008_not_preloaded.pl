# Without shared_preload_libraries: one message with the line to add, a working SQL surface, and nothing called fresh.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use PgoptTest;
use PgoptViews;

my $node = pgopt_node('main', preload => '');
$node->safe_psql('postgres', 'CREATE DATABASE app');

my $line = qr/shared_preload_libraries = 'pgopt'/;

sub run
{
  my ($sql) = @_;
  my ($code, $out, $err) = $node->psql('app', "\\set VERBOSITY verbose\n$sql");
  $err =~ s/^psql:<stdin>:\d+: //gm;
  return ($code, $out, $err);
}

my ($code, $out, $err) = run('CREATE EXTENSION pgopt');
is($code, 0, 'CREATE EXTENSION works without the preload');
my @warnings = $err =~ /^(?:WARNING|NOTICE|ERROR):.*$/gm;
is(scalar(@warnings), 1, 'CREATE EXTENSION gives one message') or diag($err);
like($err, qr/^WARNING:  55000: .*not loaded when the server started/m, 'the message says what is missing');
like($err, qr/^HINT:  .*$line/m, 'the message has the line to add');

# another session, in which the library is not loaded yet
create_checks($node, 'app');
$node->safe_psql('app', <<'SQL');
CREATE TABLE t (id int);
CREATE MATERIALIZED VIEW first AS SELECT 1 AS one, count(*) n FROM t;
CREATE UNIQUE INDEX ON first (one);
CREATE MATERIALIZED VIEW second AS SELECT n FROM first;
INSERT INTO t VALUES (1), (2);
SQL
is($node->safe_psql('app', 'SELECT pgopt_version() IS NOT NULL'), 't', 'pgopt_version()');

($code, $out, $err) = run("SELECT pgopt_manage('first', 'immediate', priority => 1)");
is($code, 0, 'pgopt_manage() works');
like($err, qr/^WARNING:  55000: .*nothing refreshes public\.first by itself/m, 'pgopt_manage() warns');
like($err, qr/^HINT:  .*$line/m, 'pgopt_manage() names the line to add');
run("SELECT pgopt_manage('second')");
is($node->safe_psql('app', 'SELECT view, strategy, fresh, pending_changes IS NULL, reason FROM pgopt_matviews ORDER BY priority'),
  "first|immediate|f|t|pgopt is not in shared_preload_libraries\nsecond|smart|f|t|pgopt is not in shared_preload_libraries",
  'pgopt_matviews: not fresh, and why');

is($node->safe_psql('app', "SELECT view, outcome, mode FROM pgopt_refresh('second')"),
  "first|refreshed|concurrent\nsecond|refreshed|full", 'pgopt_refresh() refreshes a chain');
is(differing($node, 'app'), '', 'pgopt_refresh(): the content is right');
is($node->safe_psql('app', 'SELECT count(*) FROM pgopt_matviews WHERE fresh'), 0, 'a view is not called fresh after pgopt_refresh()');
is($node->safe_psql('app', 'SELECT count(*) FROM pgopt_matviews WHERE last_refresh IS NOT NULL AND last_duration IS NOT NULL'),
  2, 'last_refresh and last_duration are kept');
$node->safe_psql('app', 'INSERT INTO t VALUES (3)');
is($node->safe_psql('app', "SELECT string_agg(outcome, ' ') FROM pgopt_refresh_all()"), 'refreshed refreshed', 'pgopt_refresh_all()');
is(differing($node, 'app'), '', 'pgopt_refresh_all(): the content is right');
$node->safe_psql('app', 'INSERT INTO t VALUES (4)');
is($node->safe_psql('app', "SELECT outcome FROM pgopt_refresh_due() WHERE view = 'first'::regclass"), 'refreshed',
  'pgopt_refresh_due(): what may have changed is due');
is($node->safe_psql('app', 'SELECT n FROM first'), 4, 'pgopt_refresh_due(): the content is right');
is($node->safe_psql('app', 'SELECT count(*) FROM pgopt.refresh_log'), $node->safe_psql('app', "SELECT count(*) FROM pgopt.refresh_log WHERE outcome = 'refreshed'"),
  'refreshes are logged');

# a failure
$node->safe_psql('app', 'CREATE TABLE u (d int); INSERT INTO u VALUES (1); CREATE MATERIALIZED VIEW fails AS SELECT 1 / d AS x FROM u; UPDATE u SET d = 0');
run("SELECT pgopt_manage('fails')");
($code, $out, $err) = run("SELECT pgopt_refresh('fails')");
like($err, qr/ERROR:  22012/, 'pgopt_refresh() raises the error of the view');
is($node->safe_psql('app', "SELECT outcome, message FROM pgopt_refresh_due() WHERE view = 'fails'::regclass"),
  'failed|22012: division by zero', 'pgopt_refresh_due() reports it as a row');

# --- dependencies, changes, health
is($node->safe_psql('app', "SELECT relation, kind, tracked FROM pgopt_matview_dependencies WHERE view = 'second'::regclass ORDER BY depth"),
  "first|materialized view|t\nt|table|t", 'pgopt_matview_dependencies');
($code, $out, $err) = run('SELECT * FROM pgopt_table_changes');
isnt($code, 0, 'pgopt_table_changes fails');
like($err, qr/^ERROR:  55000: /m, 'pgopt_table_changes: SQLSTATE');
like($err, qr/^HINT:  .*$line/m, 'pgopt_table_changes: the line to add');
is($node->safe_psql('app', "SELECT severity, remedy LIKE '%shared_preload_libraries%' FROM pgopt_findings() WHERE check_id = 'pgopt_preload'"),
  'warning|t', 'pgopt_findings() says it, with the SQL that mends it');
is($node->safe_psql('app', "SELECT status <> 'healthy', score < 80 FROM pgopt_health()"), 't|t', 'pgopt_health() is not healthy');
is($node->safe_psql('app', "SELECT string_agg(check_id, ' ' ORDER BY check_id) FROM pgopt_checks() WHERE state = 'unknown' AND check_id IN ('pgopt_room', 'pgopt_unknown_changes')"),
  'pgopt_room pgopt_unknown_changes', 'checks that need the counters are unknown, not passed');
is($node->safe_psql('app', 'SELECT count(*) >= 0 FROM pgopt_refresh_advice()'), 't', 'pgopt_refresh_advice()');

# --- settings can be seen and set
is($node->safe_psql('app', "SET pgopt.refresh_lock_timeout = '1s'; LOAD 'pgopt'; SHOW pgopt.refresh_lock_timeout"), '1s',
  'settings hold when the library comes later');
is($node->safe_psql('app', "LOAD 'pgopt'; SELECT count(*) FROM pg_settings WHERE name LIKE 'pgopt.%' AND short_desc <> ''") > 5, 1,
  'settings have descriptions');

# --- transactions of every kind go on as ever
$node->safe_psql('app', "LOAD 'pgopt'; BEGIN; INSERT INTO t VALUES (5); SAVEPOINT a; TRUNCATE t; ROLLBACK TO a; PREPARE TRANSACTION 'x'; COMMIT PREPARED 'x'");
is($node->safe_psql('app', 'SELECT count(*) FROM t'), 5, 'two-phase commit works');
is($node->safe_psql('app', "SELECT pgopt_unmanage('fails'::regclass)"), 't', 'pgopt_unmanage()');

# --- the line is added: what was managed is looked after
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pgopt'\n");
$node->restart;
$node->safe_psql('app', "SELECT pgopt_manage('second', 'immediate')");
all_fresh($node, 'app', 'with the preload');
is($node->safe_psql('app', "SELECT count(*) FROM pgopt_findings() WHERE check_id IN ('pgopt_preload', 'pgopt_worker')"), 0,
  'with the preload: pgopt_health() has no such finding any more');

# --- and taken away: what was fresh is not any more
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->restart;
is($node->safe_psql('app', 'SELECT count(*) FROM pgopt_matviews WHERE fresh'), 0, 'without the preload again: no view is called fresh');
$node->safe_psql('app', 'DROP EXTENSION pgopt');
is($node->safe_psql('app', "SELECT count(*) FROM pg_namespace WHERE nspname = 'pgopt'"), 0, 'DROP EXTENSION works');

no_crash($node);
$node->stop;
note('took ' . started() . ' s');
done_testing();
