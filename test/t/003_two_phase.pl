# Two-phase commit: what a prepared transaction changed counts when it commits, exactly where that can be known, and
# as unknown elsewhere.  Until then no view that reads it is called fresh.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use PgoptTest;
use PgoptViews;

my $node = pgopt_node('main', extension => 'app', conf => <<'CONF');
restart_after_crash = on
pgopt.worker_naptime = '200ms'
pgopt.auto_refresh = off
CONF
create_checks($node, 'app');
$node->safe_psql('app', <<'SQL');
CREATE TABLE t (id int PRIMARY KEY, v int);
CREATE TABLE other (id int);
CREATE MATERIALIZED VIEW mv AS SELECT count(*) n, sum(v) s FROM t;
SELECT pgopt_manage('mv', 'immediate');
SELECT pgopt_refresh('mv');
SQL

sub sql { return $node->safe_psql('app', join("\n", @_)); }

sub counts
{
  return sql("SELECT inserted, updated, deleted, truncated, known FROM pgopt_table_changes WHERE relation = 't'::regclass");
}
sub is_fresh { return sql("SELECT fresh FROM pgopt_matviews WHERE view = 'mv'::regclass"); }

sub refreshed
{
  my ($name) = @_;
  sql("SELECT pgopt_refresh('mv')");
  is(is_fresh(), 't', "$name: fresh after its refresh");
  is(differing($node, 'app'), '', "$name: right after its refresh");
  return;
}

is(counts(), '0|0|0|f|t', 'nothing is counted at the start');
is(is_fresh(), 't', 'fresh at the start');

# --- counts, in one session, with subtransactions
sql('BEGIN;', 'INSERT INTO t SELECT i, 0 FROM generate_series(1, 10) i;', 'SAVEPOINT a;',
  'DELETE FROM t WHERE id < 5;', 'ROLLBACK TO a;', 'SAVEPOINT b;', 'UPDATE t SET v = 1 WHERE id <= 3;',
  'RELEASE b;', 'DELETE FROM t WHERE id = 10;', "PREPARE TRANSACTION 'one';");
is(counts(), '0|0|0|f|t', 'PREPARE counts nothing');
is(is_fresh(), 'f', 'a view is not called fresh while a transaction that changed its table is prepared');
like(sql("SELECT reason FROM pgopt_matviews"), qr/prepared/, 'the reason says so');
sql("SELECT pgopt_refresh('mv')");
is(is_fresh(), 'f', 'nor after a refresh, which could not see it');
sql("COMMIT PREPARED 'one'");
is(counts(), '10|3|1|f|t', 'COMMIT PREPARED from another session counts exactly');
is(is_fresh(), 'f', 'a view is not called fresh after COMMIT PREPARED');
is(sql('SELECT pending_changes FROM pgopt_matviews'), 14, 'pending changes are known');
refreshed('COMMIT PREPARED');

# --- the same session does other things before and after
sql("BEGIN; INSERT INTO t VALUES (11, 0); PREPARE TRANSACTION 'two';", 'INSERT INTO t VALUES (12, 0), (13, 0);',
  "COMMIT PREPARED 'two';", 'DELETE FROM t WHERE id = 13;');
is(counts(), '13|3|2|f|t', 'counts of a session that changes the table before and after COMMIT PREPARED');
refreshed('same session');

# --- rollback
sql("BEGIN; INSERT INTO t VALUES (20, 0); TRUNCATE other; PREPARE TRANSACTION 'three';");
is(is_fresh(), 'f', 'not called fresh while prepared, whatever its end');
sql("ROLLBACK PREPARED 'three'");
is(counts(), '13|3|2|f|t', 'ROLLBACK PREPARED counts nothing');
is(is_fresh(), 't', 'a view is fresh again after ROLLBACK PREPARED');

# --- an end that fails is no end
sql("BEGIN; INSERT INTO t VALUES (21, 0); PREPARE TRANSACTION 'four';");
isnt($node->psql('app', "BEGIN; COMMIT PREPARED 'four'"), 0, 'COMMIT PREPARED in a transaction fails');
isnt($node->psql('app', "COMMIT PREPARED 'nobody'"), 0, 'COMMIT PREPARED of an unknown name fails');
is(is_fresh(), 'f', 'not called fresh after a COMMIT PREPARED that failed');
sql("COMMIT PREPARED 'four'");
is(counts(), '14|3|2|f|t', 'counted once it succeeds');
refreshed('a COMMIT PREPARED that failed first');

# --- truncate, and the row counts that go with it
sql("BEGIN; INSERT INTO t VALUES (30, 0); TRUNCATE t; INSERT INTO t VALUES (31, 0); PREPARE TRANSACTION 'five';");
sql("COMMIT PREPARED 'five'");
is(sql("SELECT truncated, known FROM pgopt_table_changes WHERE relation = 't'::regclass"), 't|t',
  'TRUNCATE in a prepared transaction');
is(is_fresh(), 'f', 'a view is not called fresh after a prepared TRUNCATE');
refreshed('TRUNCATE');

# --- several at once
sql("BEGIN; INSERT INTO t VALUES (40, 0); PREPARE TRANSACTION 'a'; BEGIN; INSERT INTO t VALUES (41, 0), (42, 0);"
    . "PREPARE TRANSACTION 'b';");
my $before = sql("SELECT inserted FROM pgopt_table_changes WHERE relation = 't'::regclass");
sql("COMMIT PREPARED 'b'");
sql("SELECT pgopt_refresh('mv')");
is(is_fresh(), 'f', 'one of two is committed and shown, the other is still prepared: not called fresh');
sql("COMMIT PREPARED 'a'");
is(sql("SELECT inserted - $before FROM pgopt_table_changes WHERE relation = 't'::regclass"), 3, 'both are counted');
refreshed('two at once');

# --- more tables than a record holds
my @tables = map { "many_$_" } 1 .. 330;
sql((map { "CREATE TABLE $_ (id int);" } @tables),
  'CREATE MATERIALIZED VIEW of_1 AS SELECT count(*) FROM many_1;',
  'CREATE MATERIALIZED VIEW of_40 AS SELECT count(*) FROM many_40;',
  'CREATE MATERIALIZED VIEW of_330 AS SELECT count(*) FROM many_330;',
  "SELECT pgopt_manage(v, 'immediate') FROM unnest('{of_1,of_40,of_330}'::regclass[]) v;",
  'SELECT pgopt_refresh_all();');
foreach my $number (40, 330)
{
  my @in = @tables[ 0 .. $number - 1 ];
  sql('SELECT pgopt_refresh_all()');
  is(sql("SELECT bool_and(fresh) FROM pgopt_matviews"), 't', "$number tables: all fresh before");
  sql('BEGIN;', (map { "INSERT INTO $_ VALUES (1);" } @in), "PREPARE TRANSACTION 'many';");
  is(sql("SELECT string_agg(view::text, ' ') FROM pgopt_matviews WHERE fresh AND view::text IN ('of_1', 'of_40', 'of_$number')"),
    '', "$number tables: no view is called fresh while it is prepared");
  sql('SELECT pgopt_refresh_all()');
  sql("COMMIT PREPARED 'many'");
  is(wrongly_fresh($node, 'app'), '', "$number tables: no view is called fresh after COMMIT PREPARED that is not");
  is(sql("SELECT sum(inserted) FROM pgopt_table_changes WHERE relation = 'many_40'::regclass"), 1,
    '40 tables: counted exactly')
    if $number == 40;
  sql('SELECT pgopt_refresh_all()');
  is(sql("SELECT bool_and(fresh) FROM pgopt_matviews"), 't', "$number tables: all fresh after a refresh");
  is(differing($node, 'app'), '', "$number tables: all right after a refresh");
}

# --- track_counts off in a prepared transaction: its counts are lost, and that is known when it commits
sql("SET track_counts = off; BEGIN; INSERT INTO t VALUES (50, 0); PREPARE TRANSACTION 'off';");
is(is_fresh(), 'f', 'track_counts off: not called fresh while it is prepared');
sql("SELECT pgopt_refresh('mv')");
sql("COMMIT PREPARED 'off'");
is(wrongly_fresh($node, 'app'), '', 'track_counts off: not called fresh after COMMIT PREPARED');
sql('SELECT pgopt_refresh_all()');
is(differing($node, 'app'), '', 'track_counts off: right after a refresh');

# --- COMMIT PREPARED by a session with track_counts off
sql("BEGIN; INSERT INTO t VALUES (51, 0); PREPARE TRANSACTION 'on';");
sql("SET track_counts = off; COMMIT PREPARED 'on'");
is(wrongly_fresh($node, 'app'), '', 'track_counts off at COMMIT PREPARED: not called fresh');
sql('SELECT pgopt_refresh_all()');
is(wrongly_fresh($node, 'app'), '', 'track_counts off at COMMIT PREPARED: right after a refresh');

# --- DDL in a prepared transaction
sql('CREATE TABLE p (id int, v int) PARTITION BY LIST (id);', 'CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);',
  'CREATE TABLE p2 (id int, v int);', 'INSERT INTO p VALUES (1, 1);', 'INSERT INTO p2 VALUES (2, 10);',
  'CREATE FUNCTION f(int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT $1 $$;',
  'CREATE MATERIALIZED VIEW mp AS SELECT sum(f(v)) FROM p;', "SELECT pgopt_manage('mp', 'immediate');",
  'SELECT pgopt_refresh_all();');
is(sql("SELECT fresh FROM pgopt_matviews WHERE view = 'mp'::regclass"), 't', 'DDL: fresh before');
sql("BEGIN; ALTER TABLE p ATTACH PARTITION p2 FOR VALUES IN (2); PREPARE TRANSACTION 'ddl';");
# what the prepared transaction has locked cannot be read
sql("COMMIT PREPARED 'ddl'");
is(wrongly_fresh($node, 'app'), '', 'ATTACH PARTITION in a prepared transaction: not called fresh after it');
sql('SELECT pgopt_refresh_all()');
is(sql("SELECT fresh, (SELECT sum FROM mp) FROM pgopt_matviews WHERE view = 'mp'::regclass"), 't|11',
  'ATTACH PARTITION in a prepared transaction: fresh and right after a refresh');
sql('BEGIN; CREATE OR REPLACE FUNCTION f(int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT -$1 $$;'
    . "PREPARE TRANSACTION 'function';");
is(sql("SELECT fresh FROM pgopt_matviews WHERE view = 'mp'::regclass"), 'f',
  'CREATE OR REPLACE FUNCTION prepared: not called fresh');
sql('SELECT pgopt_refresh_all()');
sql("COMMIT PREPARED 'function'");
is(wrongly_fresh($node, 'app'), '', 'CREATE OR REPLACE FUNCTION in a prepared transaction: not called fresh after it');
sql('SELECT pgopt_refresh_all()');
is(sql("SELECT fresh, (SELECT sum FROM mp) FROM pgopt_matviews WHERE view = 'mp'::regclass"), 't|-11',
  'CREATE OR REPLACE FUNCTION in a prepared transaction: fresh and right after a refresh');

# --- prepared before the view is managed: in this database, and in one that pgopt was not looking after
sql("BEGIN; INSERT INTO other VALUES (1); PREPARE TRANSACTION 'early';");
sql('CREATE MATERIALIZED VIEW mo AS SELECT count(*) FROM other;', "SELECT pgopt_manage('mo', 'immediate');",
  "SELECT pgopt_refresh('mo');");
is(sql("SELECT fresh FROM pgopt_matviews WHERE view = 'mo'::regclass"), 'f',
  'prepared before pgopt_manage: not called fresh');
sql("COMMIT PREPARED 'early'");
is(wrongly_fresh($node, 'app'), '', 'prepared before pgopt_manage: not called fresh after COMMIT PREPARED');
sql("SELECT pgopt_refresh('mo')");
is(sql("SELECT fresh, (SELECT count FROM mo) FROM pgopt_matviews WHERE view = 'mo'::regclass"), 't|1',
  'prepared before pgopt_manage: fresh and right after a refresh');

$node->safe_psql('postgres', 'CREATE DATABASE late');
$node->safe_psql('late', "CREATE TABLE x (id int); BEGIN; INSERT INTO x VALUES (1); PREPARE TRANSACTION 'unseen';"
    . "BEGIN; INSERT INTO x VALUES (2); PREPARE TRANSACTION 'unseen 2';");
$node->safe_psql('late', "CREATE EXTENSION pgopt; CREATE MATERIALIZED VIEW mx AS SELECT count(*) FROM x;"
    . "SELECT pgopt_manage('mx', 'immediate');");
create_checks($node, 'late');
$node->safe_psql('late', "SELECT pgopt_refresh('mx')");
is($node->safe_psql('late', 'SELECT fresh FROM pgopt_matviews'), 'f',
  'prepared before CREATE EXTENSION: not called fresh');
$node->safe_psql('late', "COMMIT PREPARED 'unseen'");
is($node->safe_psql('late', 'SELECT fresh FROM pgopt_matviews'), 'f',
  'prepared before CREATE EXTENSION: not called fresh after COMMIT PREPARED');
$node->safe_psql('late', "ROLLBACK PREPARED 'unseen 2'");
$node->safe_psql('late', "SELECT pgopt_refresh('mx')");
is($node->safe_psql('late', 'SELECT fresh, (SELECT count FROM mx) FROM pgopt_matviews'), 't|1',
  'prepared before CREATE EXTENSION: fresh and right after a refresh');

# --- across a crash
sql("BEGIN; INSERT INTO t VALUES (60, 0); PREPARE TRANSACTION 'crash 1';");
sql("BEGIN; INSERT INTO t VALUES (61, 0); PREPARE TRANSACTION 'crash 2';");
sql("BEGIN; INSERT INTO other VALUES (2); PREPARE TRANSACTION 'crash 3';");
$node->stop('immediate');
$node->start;
ok(poll_until($node, 'app', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pgopt worker' AND datname = 'app'", '1'),
  'a worker runs after the crash');
sql('SELECT pgopt_refresh_all()');
is(sql("SELECT count(*) FROM pgopt_matviews WHERE fresh AND view::text IN ('mo', 'mv')"), 0,
  'after a crash and a refresh, views of which something is prepared are not called fresh');
sql("COMMIT PREPARED 'crash 1'");
is(is_fresh(), 'f', 'COMMIT PREPARED after a crash: not called fresh');
sql("SELECT pgopt_refresh('mv')");
is(is_fresh(), 'f', 'one of two is still prepared: not called fresh');
sql("ROLLBACK PREPARED 'crash 2'", ";", "COMMIT PREPARED 'crash 3'");
is(wrongly_fresh($node, 'app'), '', 'all are ended after a crash: no view is called fresh that is not');
sql('SELECT pgopt_refresh_all()');
is(sql('SELECT bool_and(fresh) FROM pgopt_matviews'), 't', 'all are ended after a crash: fresh after a refresh');
is(differing($node, 'app'), '', 'all are ended after a crash: right after a refresh');

# --- with the worker on duty, a change of a prepared transaction is refreshed at its commit
$node->safe_psql('app', 'ALTER SYSTEM SET pgopt.auto_refresh = on');
$node->reload;
sql("BEGIN; INSERT INTO t VALUES (70, 0); PREPARE TRANSACTION 'last';");
is(is_fresh(), 'f', 'not called fresh while prepared, with the worker on duty');
my $refreshes = sql("SELECT count(*) FROM pgopt.refresh_log WHERE view_name LIKE '%mv'");
sql("COMMIT PREPARED 'last'");
all_fresh($node, 'app', 'the worker refreshes after COMMIT PREPARED');
is(sql('SELECT n FROM mv'), sql('SELECT count(*) FROM t'), 'it shows what was committed');
is(sql('SELECT count(*) FROM pg_prepared_xacts'), 0, 'nothing is left prepared');

no_crash($node);
$node->stop;
note('took ' . started() . ' s');
done_testing();
