# Disk: a view that is never refreshed cannot fill it. Past pgopt.incremental_log_limit what was logged for it is
# dropped, writers go on, and its next refresh is full; what was read is given back.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use PgoptTest;
use PgoptViews;

my $limit = 1024;
my $node = pgopt_node('main', extension => 'app', conf => <<"CONF");
pgopt.auto_refresh = off
pgopt.worker_naptime = '300ms'
pgopt.incremental_log_limit = '${limit}kB'
autovacuum_naptime = 1s
CONF
create_checks($node, 'app');
sub sql { return $node->safe_psql('app', join(";\n", @_)); }
sql(<<'SQL');
CREATE TABLE bill (id int PRIMARY KEY, topic text, body text);
CREATE TABLE other (id int);
INSERT INTO bill SELECT i, 'topic ' || i % 10, md5(i::text) FROM generate_series(1, 1000) i;
CREATE MATERIALIZED VIEW topics AS SELECT topic, count(*) n, min(body) FROM bill GROUP BY topic;
CREATE MATERIALIZED VIEW often AS SELECT count(*) n, count(DISTINCT body) d FROM bill;
SELECT pgopt_manage(v, 'manual', incremental => 'always') FROM unnest('{topics,often}'::regclass[]) v;
SELECT pgopt_refresh_all();
SQL

# What the log of bill takes on disk, everything included, in kB.
my $log_size = q{SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint / 1024 FROM pg_class
  WHERE relnamespace = 'pgopt'::regnamespace AND relkind = 'r' AND relname = 'log_' || 'bill'::regclass::oid};
sub refresh { return sql("SELECT CASE mode WHEN 'incremental' THEN mode ELSE 'full' END FROM pgopt_refresh('$_[0]') WHERE view = '$_[0]'::regclass"); }

sql("UPDATE bill SET topic = 'changed' WHERE id < 10");
is(refresh('topics'), 'incremental', 'below the limit refreshes are incremental');
is(refresh('often'), 'incremental', 'of both views');

# --- both are refreshed again and again: what they have read is given back
my $most = 0;
foreach (1 .. 15)
{
  sql("UPDATE bill SET body = md5(body), topic = 'topic ' || id % 9");
  refresh('topics');
  refresh('often');
  sql('SELECT pg_sleep(0.2)');
  my $size = sql($log_size);
  $most = $size if $size > $most;
}
note("15 updates of every row, refreshed each: the log has at most $most kB");
cmp_ok($most, '<', 4 * $limit, 'a log that is read does not grow');
is(differing($node, 'app'), '', 'the views are right');
sql('UPDATE bill SET topic = NULL WHERE id = 5');
is(refresh('topics'), 'incremental', 'and are refreshed incrementally');

# --- one of them is never refreshed
$most = 0;
foreach (1 .. 30)
{
  sql("UPDATE bill SET body = md5(body), topic = 'topic ' || id % 8");
  my $size = sql($log_size);
  $most = $size if $size > $most;
}
note("30 updates of every row, not refreshed: the log has at most $most kB");
cmp_ok($most, '<', 4 * $limit, 'a log that nobody reads stays within the limit');
# in one transaction, too
sql('BEGIN', ('UPDATE bill SET body = md5(body)') x 40, 'COMMIT');
my $size = sql($log_size);
note("and after a transaction with 40 more: $size kB");
cmp_ok($size, '<', 4 * $limit, 'a single transaction cannot fill it either');
ok(poll_until($node, 'app', "SELECT ($log_size) < $limit", 't', 30), 'what was given up is removed from the disk');
like(sql("SELECT incremental_reason FROM pgopt_matviews WHERE view = 'topics'::regclass"), qr/limit|dropped/, 'it is said why the next refresh is full');

is(refresh('topics'), 'full', 'past the limit the next refresh is full');
is(refresh('often'), 'full', 'of both views');
is(differing($node, 'app'), '', 'both are right');
sql("DELETE FROM bill WHERE id % 100 = 3", "INSERT INTO bill VALUES (5000, 'new', 'new')");
is(refresh('topics'), 'incremental', 'and the one after that incremental');
is(refresh('often'), 'incremental', 'of both views');
is(differing($node, 'app'), '', 'both are right');

# --- one view that is refreshed does not pay for one that is not
foreach (1 .. 20)
{
  sql("UPDATE bill SET body = md5(body) WHERE id % 2 = 0");
  sql("SELECT pgopt_refresh('often')", 'SELECT pg_sleep(0.1)');
}
isnt(differing($node, 'app'), '', 'the other one is stale');
sql("UPDATE bill SET body = 'x' WHERE id = 6");
is(refresh('often'), 'incremental', 'a view that is refreshed often stays incremental while another one is given up');
refresh('topics');
is(differing($node, 'app'), '', 'both are right');

# --- nobody needs it any more
sql("SELECT pgopt_unmanage('topics'::regclass)", "DROP MATERIALIZED VIEW often");
ok(poll_until($node, 'app', "SELECT count(*) FROM pg_class WHERE relnamespace = 'pgopt'::regnamespace AND relname ~ '^(log|groups|values)_[0-9]'", '0', 30),
  'logs and state go with the views that need them');
ok(poll_until($node, 'app', "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'bill'::regclass", '0', 10), 'and the trigger');
no_crash($node);
$node->stop;
note('took ' . started() . ' s');
done_testing();
