# Who merges the segments of a search index: the background worker, asked by inserts; inserts themselves where no worker
# runs; VACUUM in any case. A merge gives way to DDL, and an index that is gone is no error.
use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use PgoptTest;

my $setup = <<'SQL';
CREATE FUNCTION words(seed int, n int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT string_agg((ARRAY['lei','transporte','escolar','licitação','município'])[1 + (seed * 7 + i * i) % 5]
		|| CASE WHEN i % 3 = 0 THEN ((seed + i) % 3000)::text ELSE '' END, ' ') FROM generate_series(1, n) i
$$;
CREATE TABLE docs (id bigserial PRIMARY KEY, content text) WITH (autovacuum_enabled = off);
CREATE INDEX docs_i ON docs USING pgopt_bm25 (content) WITH (pending_limit = 64);
SQL
my $write = "INSERT INTO docs (content) SELECT words(i, 60) FROM generate_series(1, 1000) i";
my $merging = "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'pgopt refresh'"
  . " AND query = 'merging segments of index ' || 'docs_i'::regclass::oid";

my $node = pgopt_node('main', extension => 'app', conf => "pgopt.worker_naptime = '500ms'\n");
$node->safe_psql('app', $setup);
ok(poll_until($node, 'app', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pgopt worker'", '1'),
  'a worker looks after the database');
$node->safe_psql('app', $write) foreach (1 .. 5);
ok(poll_until($node, 'app', $merging), 'the worker has segments merged');
ok(poll_until($node, 'app', "SELECT segments < 24 AND documents = 5000 FROM pgopt_search_stats('docs_i')"),
  'few are left, with all documents');
is($node->safe_psql('app', "SELECT problem FROM pgopt_search_verify('docs_i')"), '', 'the index is sound');

# Indexes come and go under writers, merges and the worker.
my $script = $node->basedir . '/write.sql';
append_to_file($script, "INSERT INTO docs (content) SELECT words(i, 60) FROM generate_series(1, 100) i;\n");
my ($out, $err) = ('', '');
my $load = IPC::Run::start([ 'pgbench', '-n', '-c', '3', '-j', '1', '-T', '8', '-f', $script, $node->connstr('app') ],
  '<', \undef, '>', \$out, '2>', \$err);
foreach my $round (1 .. 6)
{
  $node->safe_psql('app', <<'SQL');
DROP INDEX docs_i;
CREATE INDEX docs_i ON docs USING pgopt_bm25 (content) WITH (pending_limit = 64);
SQL
  sleep(0.5);
  $node->safe_psql('app', $round % 2 ? 'REINDEX INDEX CONCURRENTLY docs_i' : 'VACUUM docs');
  sleep(0.3);
}
$load->finish;
like($out, qr/number of failed transactions: 0/, 'writers go on while the index is dropped, made, and built again');
is($err =~ /(ERROR.*)/ ? $1 : '', '', 'without errors');
is($node->safe_psql('app', "SELECT problem FROM pgopt_search_verify('docs_i')"), '', 'the index is sound');
unlike(slurp_file($node->logfile), qr/could not merge segments of index \d+: (?!gave way|canceling)/, 'no merge has failed');

# Deleted documents: VACUUM marks them and writes anew what has many.
$node->safe_psql('app', 'DELETE FROM docs WHERE id % 2 = 0');
$node->safe_psql('app', 'VACUUM docs');
is($node->safe_psql('app', "SELECT deleted, documents - (SELECT count(*) FROM docs) FROM pgopt_search_stats('docs_i')"), '0|0',
  'VACUUM drops deleted documents');
my $bytes = $node->safe_psql('app', "SELECT bytes FROM pgopt_search_stats('docs_i')");
foreach (1 .. 3)
{
  $node->safe_psql('app', 'UPDATE docs SET content = content || 1');
  $node->safe_psql('app', 'VACUUM docs');
}
cmp_ok($node->safe_psql('app', "SELECT bytes FROM pgopt_search_stats('docs_i')"), '<', 7 * $bytes,
  'pages are used again: the file does not grow with each change');
is($node->safe_psql('app', "SELECT problem FROM pgopt_search_verify('docs_i')"), '', 'the index is sound');

# Without a worker
my $bare = pgopt_node('bare', preload => '');
$bare->safe_psql('postgres', 'SET client_min_messages = error; CREATE EXTENSION pgopt');
$bare->safe_psql('postgres', $setup);
$bare->safe_psql('postgres', $write) foreach (1 .. 5);
is($bare->safe_psql('postgres', "SELECT segments < 24, documents FROM pgopt_search_stats('docs_i')"), 't|5000',
  'without a worker inserts merge');
is($bare->safe_psql('postgres', "SELECT problem FROM pgopt_search_verify('docs_i')"), '', 'the index is sound');

done_testing();
