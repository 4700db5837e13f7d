# What the worker does with row logs: it drops what nobody needs, gives up views that are too far behind, and keeps
# the logs small; and what pg_dump makes of them: nothing.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use PgoptTest;
use PgoptViews;

my $node = pgopt_node('main', extension => 'app', conf => <<'CONF');
pgopt.worker_naptime = '200ms'
pgopt.incremental_log_limit = '2MB'
CONF
create_checks($node, 'app');
$node->safe_psql('app', <<'SQL');
CREATE TABLE bill (id int PRIMARY KEY, state text, votes int, content text);
INSERT INTO bill SELECT i, 'SP', i FROM generate_series(1, 100) i;
CREATE TABLE other (id int);
CREATE MATERIALIZED VIEW by_state AS SELECT state, sum(votes), max(length(content)) FROM bill GROUP BY state;
CREATE MATERIALIZED VIEW others AS SELECT id, count(*) FROM other GROUP BY id;
SELECT pgopt_manage('by_state', 'manual', incremental => 'always'), pgopt_manage('others', 'manual', incremental => 'always');
SQL

sub sql { return $node->safe_psql('app', join(";\n", @_)); }

sub mode_of
{
  my ($view) = @_;
  return sql("SELECT mode FROM pgopt_refresh('$view')");
}

sub captured { return "SELECT string_agg(relation::regclass::text, ',' ORDER BY relation::regclass::text) FROM pgopt.row_log"; }
my $logs = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname ~ '^log_[0-9]+'";
my $log = sql("SELECT log FROM pgopt.row_log WHERE relation = 'bill'::regclass");

is(mode_of('by_state'), 'full', 'the first refresh is full');
is(mode_of('others'), 'full', 'the first refresh of the other is full');

# What was read goes, while what was not stays.
sql("UPDATE bill SET votes = votes + 1", "INSERT INTO other VALUES (1)");
is(mode_of('by_state'), 'incremental', 'the next applies what changed');
ok(poll_until($node, 'app', "SELECT count(*) FROM $log", '0'), 'what was read is deleted');
is(sql('SELECT count(*) FROM ' . sql("SELECT log FROM pgopt.row_log WHERE relation = 'other'::regclass")), '1',
  'what was not read is kept');

# An old snapshot, which a refresh might have, keeps what came after it.
my $old = $node->background_psql('app');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1;');
sql('UPDATE bill SET votes = votes + 1 WHERE id = 1');
is(mode_of('by_state'), 'incremental', 'a refresh beside an old snapshot');
sleep 1;
is(sql("SELECT count(*) FROM $log"), '1', 'what an old snapshot does not see is kept');
$old->query_safe('COMMIT;');
$old->quit;
ok(poll_until($node, 'app', "SELECT count(*) FROM $log", '0'), 'it goes with the snapshot');

# A refresh that is prepared has let go of its snapshot, but its frontier is not there yet.
my $writer = $node->background_psql('app');
$writer->query_safe('BEGIN; UPDATE bill SET votes = votes + 10 WHERE id = 2;');
sql("UPDATE pgopt.incremental_state SET valid = false WHERE view = 'by_state'::regclass");
sql("BEGIN; SELECT pgopt_refresh('by_state'); PREPARE TRANSACTION 'refresh'");
$writer->query_safe('COMMIT;');
$writer->quit;
sql('SELECT txid_current()') for 1 .. 3;
sleep 1;
sql("COMMIT PREPARED 'refresh'");
is(mode_of('by_state'), 'incremental', 'the refresh after one that was prepared');
is(sql(q{SELECT count(*) FROM (SELECT state, sum(votes), max(length(content)) FROM bill GROUP BY state EXCEPT TABLE by_state) d}),
  '0', 'misses nothing');

# Nothing of it is dumped.
my ($out, $err) = run_command([ 'pg_dump', '-d', $node->connstr('app') ]);
unlike($out, qr/log_\d|log_change|pgopt_log/, 'a dump holds neither logs nor triggers');
like($out, qr/CREATE MATERIALIZED VIEW public.by_state/, 'but the views');
($out, $err) = run_command([ 'psql', '-X', '-d', $node->connstr('app'), '-c', '\d bill' ]);
unlike($out, qr/pgopt/, 'nor does \d show them');

# A view that is never refreshed.
sql('INSERT INTO other SELECT i FROM generate_series(1, 200000) i');
ok(poll_until($node, 'app', "SELECT valid FROM pgopt.incremental_state WHERE view = 'others'::regclass", 'f'),
  'a view that is too far behind is given up');
like(sql("SELECT incremental_reason FROM pgopt_matviews WHERE view = 'others'::regclass"), qr/other/, 'and the reason says so');
ok(poll_until($node, 'app', "SELECT log_bytes < 4 * 1024 * 1024 FROM pgopt_matviews WHERE view = 'others'::regclass"),
  'its log stays within about its limit');
sql("INSERT INTO bill SELECT i, 'RJ', 1, (SELECT string_agg(md5((i * j)::text), '') FROM generate_series(1, 100) j) FROM generate_series(1000, 6000) i");
isnt(mode_of('by_state'), 'incremental', 'TOASTed values count');
is(sql(q{SELECT count(*) FROM (SELECT state, sum(votes), max(length(content)) FROM bill GROUP BY state EXCEPT TABLE by_state) d}),
  '0', 'and are not lost');
isnt(mode_of('others'), 'incremental', 'given up: all is computed');
sql('INSERT INTO other VALUES (-1)');
is(mode_of('others'), 'incremental', 'and then again what changed');
is(sql('SELECT count(*) FROM (SELECT id, count(*) FROM other GROUP BY id EXCEPT TABLE others) d'), '0', 'correctly');

# Prepared transactions.
sql("BEGIN; INSERT INTO other VALUES (-2); PREPARE TRANSACTION 'late'");
sql('INSERT INTO other VALUES (-3)');
is(mode_of('others'), 'incremental', 'beside a prepared transaction');
$node->restart;
sql("COMMIT PREPARED 'late'");
is(mode_of('others'), 'incremental', 'what was prepared before a restart is read after it');
is(sql('SELECT count(*) FROM (SELECT id, count(*) FROM other GROUP BY id EXCEPT TABLE others) d'), '0', 'correctly, too');

# Captures end: with the table, with the view's configuration, with a publication of all tables.
is(sql(captured()), 'bill,other', 'both tables are captured');
sql('DROP TABLE other CASCADE');
ok(poll_until($node, 'app', $logs, '1'), 'the log of a table that is gone goes');
sql('CREATE PUBLICATION everything FOR ALL TABLES');
ok(poll_until($node, 'app', $logs, '0'), 'a publication of all tables ends captures');
is(sql("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'bill'::regclass"), '0', 'and takes the trigger along');
isnt(mode_of('by_state'), 'incremental', 'the view is computed');
sql('DROP PUBLICATION everything');
ok(poll_until($node, 'app', $logs, '1'), 'without it the worker captures again');
mode_of('by_state');
sql('UPDATE bill SET votes = 0 WHERE id = 1');
is(mode_of('by_state'), 'incremental', 'and the view is refreshed so again');
sql("SELECT pgopt_manage('by_state', incremental => 'never')");
ok(poll_until($node, 'app', $logs, '0'), 'a view that is to be computed needs no log');

no_crash($node);
done_testing();
