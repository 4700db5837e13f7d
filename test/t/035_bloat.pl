# Bloat among others: locks, standbys, snapshots, tables that come and go, and cancelled statements.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use PgoptTest;

my $node = pgopt_node('primary', extension => 'postgres', conf => "autovacuum = off\nmax_prepared_transactions = 5\n");
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t SELECT g, repeat('x', 300) FROM generate_series(1, 100000) g;
DELETE FROM t WHERE id % 2 = 0;
CREATE TABLE other (id int);
INSERT INTO other SELECT generate_series(1, 100000);
VACUUM ANALYZE;
SQL

# --- nobody is waited for
my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE');
is(
  $node->safe_psql('postgres', "SET statement_timeout = '20s'; SELECT part, reclaimable_bytes IS NULL, confidence IS NULL, reason
    FROM pgopt_table_bloat('t') WHERE part = 'table'"),
  'table|t|t|locked', 'a locked table is reported as locked');
like(
  $node->safe_psql('postgres', "SELECT relation, size_bytes > 0, reason FROM pgopt_table_bloat(min_size => 1000000) WHERE relation IN ('t'::regclass::oid, 'other'::regclass::oid) ORDER BY 1"),
  qr/^t\|t\|locked$/m, 'and among all tables with the size that the catalog knows');
is($node->safe_psql('postgres', "SELECT DISTINCT reason FROM pgopt_index_bloat('t_pkey')"), 'locked', 'so is its index');
is(
  $node->safe_psql('postgres', "SELECT count(*) FROM pgopt_vacuum_candidates() WHERE relation::oid = 't'::regclass"),
  0, 'and no candidate for VACUUM');
$locker->query_safe('ROLLBACK');

# who waits for an exclusive lock is not overtaken, and not waited for either
$locker->query_safe('BEGIN; SELECT 1 FROM t LIMIT 1');
my $waiter = $node->background_psql('postgres');
$waiter->query_until(qr/begun/, "\\echo begun\nBEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE;\n");
ok(poll_until($node, 'postgres', "SELECT count(*) = 1 FROM pg_locks WHERE NOT granted"), 'somebody waits');
is(
  $node->safe_psql('postgres', "SET statement_timeout = '20s'; SELECT reason FROM pgopt_table_bloat('t') WHERE part = 'table'"),
  'locked', 'a table that somebody waits for is locked, too');
$locker->query_safe('ROLLBACK');
$waiter->quit;

# --- an old snapshot keeps dead rows
$node->safe_psql('postgres', "BEGIN; CREATE TABLE held (); PREPARE TRANSACTION 'held'");
$node->safe_psql('postgres', 'DELETE FROM t WHERE id % 3 <> 0');
is(
  $node->safe_psql('postgres', "SELECT dead_bytes, held_bytes > 9000000, live_rows < 17000, reclaimable_percent BETWEEN 45 AND 55
    FROM pgopt_table_bloat('t') WHERE part = 'table'"),
  '0|t|t|t', 'rows that a snapshot may need are held, not reclaimable');
$node->safe_psql('postgres', 'INSERT INTO t SELECT g, repeat($$x$$, 300) FROM generate_series(200001, 240000) g');
$node->safe_psql('postgres', 'DELETE FROM t WHERE id > 200000');
is(
  $node->safe_psql('postgres', "SELECT relation, reason, remedy FROM pgopt_vacuum_candidates()"),
  q(t|most of the dead rows may still be needed by the prepared transaction 'held'|VACUUM (ANALYZE) public.t; -- once that has ended),
  'the candidate names what holds them');
$node->safe_psql('postgres', "ROLLBACK PREPARED 'held'");
is($node->safe_psql('postgres', "SELECT held_bytes, dead_bytes > 9000000 FROM pgopt_table_bloat('t') WHERE part = 'table'"),
  '0|t', 'and then they are dead');
is($node->safe_psql('postgres', 'SELECT relation, reason FROM pgopt_vacuum_candidates()'), 't|autovacuum is off',
  'autovacuum is off');

# --- tables of other sessions
$locker->query_safe('CREATE TEMP TABLE theirs AS SELECT generate_series(1, 100000) AS g');
is(
  $node->safe_psql('postgres', "SELECT count(*) FROM pgopt_table_bloat(min_size => 0) WHERE relation::text ~ 'theirs'"),
  0, 'temporary tables of others are left out');
is(
  $node->safe_psql('postgres', "SELECT count(*) FROM pgopt_table_bloat((SELECT oid FROM pg_class WHERE relname = 'theirs'))"),
  0, 'also by name');
$locker->quit;

# --- tables that come and go meanwhile
my $script = PostgreSQL::Test::Utils::tempdir() . '/churn.sql';
append_to_file($script, <<'SQL');
DROP TABLE IF EXISTS churn_:client_id;
CREATE TABLE churn_:client_id AS SELECT g, md5(g::text) AS v FROM generate_series(1, 3000) g;
CREATE INDEX ON churn_:client_id (v);
DELETE FROM churn_:client_id WHERE g % 2 = 0;
VACUUM churn_:client_id;
TRUNCATE churn_:client_id;
SQL
my $measure = PostgreSQL::Test::Utils::tempdir() . '/measure.sql';
append_to_file($measure, <<'SQL');
SELECT count(*) FROM pgopt_table_bloat(min_size => 0);
SELECT count(*) FROM pgopt_index_bloat(min_size => 0);
SQL
$node->command_ok(
  [ 'pgbench', '-n', '-c', 4, '-T', 8, '-f', "$script\@3", '-f', "$measure\@2", 'postgres' ],
  'tables are dropped and truncated while they are measured');

# --- cancelled, and an error in between
my ($code, $out, $err) = $node->psql('postgres',
  "SET statement_timeout = '30ms'; SELECT count(*) FROM (SELECT pgopt_table_bloat('t') FROM generate_series(1, 100000)) s");
like($err, qr/canceling statement due to statement timeout/, 'it can be cancelled');

# --- pages that were never written, at the end of the file
my $path = $node->data_dir . '/' . $node->safe_psql('postgres', "CHECKPOINT; SELECT pg_relation_filepath('other')");
my $rows = $node->safe_psql('postgres', "SELECT live_rows, size_bytes FROM pgopt_table_bloat('other')");
$node->stop;
append_to_file($path, "\0" x (8192 * 50));
$node->start;
my ($live, $bytes) = split /\|/, $rows;
is($node->safe_psql('postgres', "SELECT live_rows, size_bytes, reclaimable_bytes FROM pgopt_table_bloat('other')"),
  "$live|" . ($bytes + 8192 * 50) . '|' . (8192 * 50), 'empty pages are reclaimable');

# --- a standby
$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
my $query = q(SELECT relation, part, size_bytes, reclaimable_bytes, live_rows, dead_rows + held_bytes FROM pgopt_table_bloat('other'));
is($standby->safe_psql('postgres', $query), $node->safe_psql('postgres', $query), 'a standby says the same');
$query = q(SELECT index, reclaimable_bytes, entries FROM pgopt_index_bloat('t_pkey'));
is($standby->safe_psql('postgres', "SELECT count(*) FROM ($query) x"), 1, 'of indexes, too');
$standby->stop;
$node->stop;
done_testing();
