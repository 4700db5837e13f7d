# Search indexes on a streaming standby: searches go on and are right while the primary writes, flushes, merges and uses
# pages again; nothing is cancelled for them. After promotion the standby writes, vacuums and merges on its own.
use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use PgoptTest;

my $primary = pgopt_node('primary', extension => 'app', conf => <<'CONF');
pgopt.worker_naptime = '500ms'
autovacuum = off
CONF
$primary->safe_psql('app', <<'SQL');
CREATE FUNCTION words(seed int, n int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT string_agg((ARRAY['lei','transporte','escolar','licitação','município','saúde','educação'])[1 + (seed * 7 + i * i) % 7]
		|| CASE WHEN i % 3 = 0 THEN ((seed + i) % 3000)::text ELSE '' END, ' ') FROM generate_series(1, n) i
$$;
CREATE TABLE docs (id bigserial PRIMARY KEY, batch int, content text);
INSERT INTO docs (batch, content) SELECT 0, 'orçamento ' || words(i, 40) FROM generate_series(1, 2000) i;
CREATE INDEX docs_i ON docs USING pgopt_bm25 (content, batch) WITH (pending_limit = 64);
SQL
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
# queries are never cancelled for replay: it waits, and they see pages change under them as soon as it goes on
$standby->append_conf('postgresql.conf', "hot_standby_feedback = off\nmax_standby_streaming_delay = -1\n");
$standby->start;
$primary->wait_for_catchup($standby);

is($standby->safe_psql('app', "SELECT count(*) FROM docs WHERE content @@@ 'orcamento'"), 2000, 'the standby searches');
is($standby->safe_psql('app', "SELECT documents, segments FROM pgopt_search_stats('docs_i')"), '2000|1',
  'pgopt_search_stats() on a standby');

# Every batch has the same number of documents, and of each batch a tenth is replaced by the next: whatever a snapshot
# sees, the documents of the first batch are all there, and no batch is there in part.
my $write = $primary->basedir . '/write.sql';
append_to_file($write, <<'SQL');
BEGIN;
SELECT nextval('docs_id_seq') AS batch \gset
INSERT INTO docs (batch, content) SELECT :batch, 'orçamento ' || words(i + :batch, 40) FROM generate_series(1, 50) i;
DELETE FROM docs WHERE batch = (SELECT max(batch) FROM docs WHERE batch > 0 AND batch < :batch);
COMMIT;
SQL
my $vacuum = $primary->basedir . '/vacuum.sql';
append_to_file($vacuum, "VACUUM docs;\n\\sleep 300 ms\n");

my $check = $standby->basedir . '/check.sql';
append_to_file($check, <<'SQL');
DO $$
DECLARE
	first int; others int; partial int; best int; distinct_best int;
BEGIN
	SELECT count(*) FILTER (WHERE batch = 0), count(*) FILTER (WHERE batch > 0) INTO first, others
	  FROM docs WHERE content @@@ 'orçamento';
	IF first <> 2000 OR others % 50 <> 0 THEN
		RAISE EXCEPTION 'wrong: % of the first batch, % others', first, others;
	END IF;
	SELECT count(*), count(DISTINCT id) INTO best, distinct_best
	  FROM (SELECT id FROM docs WHERE content @@@ 'orçamento' ORDER BY content <@> 'orçamento' LIMIT 500) s;
	IF best <> 500 OR distinct_best <> 500 THEN
		RAISE EXCEPTION 'wrong: % of the best, % different', best, distinct_best;
	END IF;
END $$;
SQL

my @jobs;
sub start_job
{
  my ($node, $file, @options) = @_;
  my %job = (out => '', err => '');
  $job{handle} = IPC::Run::start([ 'pgbench', '-n', '-T', '12', '-f', $file, @options, $node->connstr('app') ],
    '<', \undef, '>', \$job{out}, '2>', \$job{err});
  return \%job;
}
my $before = $primary->safe_psql('app', 'SELECT last_value FROM docs_id_seq');
my $writer = start_job($primary, $write, '-c', '1', '-R', '20');
my $vacuumer = start_job($primary, $vacuum, '-c', '1');
my $reader = start_job($standby, $check, '-c', '2', '-j', '1');
$_->{handle}->finish foreach ($writer, $vacuumer, $reader);
like($writer->{out}, qr/number of failed transactions: 0/, 'the primary wrote') or diag($writer->{err});
is($reader->{err} =~ /(ERROR.*)/ ? $1 : '', '', 'searches on the standby are right, and none is cancelled');
my ($searches) = $reader->{out} =~ /transactions actually processed: (\d+)/;
cmp_ok($searches // 0, '>', 10, 'they went on all the time');
my $written = $primary->safe_psql('app', "SELECT last_value - $before FROM docs_id_seq");
cmp_ok($written, '>', 1000, 'while documents were written');

# A cursor that is open while everything that it reads is merged away and used again.
my $session = $standby->background_psql('app');
$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$session->query_safe("DECLARE c CURSOR FOR SELECT id FROM docs WHERE content @@@ 'orçamento' ORDER BY content <@> 'orçamento'");
my @rows = split(/\n/, $session->query_safe('FETCH 10 FROM c'));
my $expected = $session->query_safe("SELECT count(*) FROM docs WHERE content LIKE 'orçamento%'");
$primary->safe_psql('app', <<'SQL');
INSERT INTO docs (batch, content) SELECT 1, 'novo ' || words(i, 40) FROM generate_series(1, 3000) i;
VACUUM docs;
INSERT INTO docs (batch, content) SELECT 1, 'novo ' || words(i, 40) FROM generate_series(1, 3000) i;
SQL
# VACUUM's removal of rows is what replay waits with, for the snapshot; what came before it has changed the index
push @rows, split(/\n/, $session->query_safe('FETCH ALL FROM c'));
my %different = map { $_ => 1 } @rows;
is(scalar(@rows) . ' ' . scalar(keys %different), "$expected $expected", 'an open cursor reads all of its rows, each once');
$session->query_safe('COMMIT');
$session->quit;
$primary->wait_for_catchup($standby);
is($standby->safe_psql('app', "SELECT count(*) FROM docs WHERE content @@@ 'novo'"), 6000, 'and replay goes on after it');
is($primary->safe_psql('app', "SELECT problem FROM pgopt_search_verify('docs_i')"), '', 'the primary is sound');

# --- promotion
$standby->promote;
ok(poll_until($standby, 'app', 'SELECT NOT pg_is_in_recovery()'), 'the standby is promoted');
is($standby->safe_psql('app', "SELECT problem FROM pgopt_search_verify('docs_i')"), '', 'its index is sound');
$standby->safe_psql('app', <<'SQL');
INSERT INTO docs (batch, content) SELECT 2, 'saneamento ' || words(i, 40) FROM generate_series(1, 3000) i;
DELETE FROM docs WHERE batch = 1;
VACUUM docs;
INSERT INTO docs (batch, content) SELECT 3, 'saneamento ' || words(i, 40) FROM generate_series(1, 1000) i;
SQL
is($standby->safe_psql('app', "SELECT count(*) FROM docs WHERE content @@@ 'saneamento'"), 4000, 'it writes');
is($standby->safe_psql('app', "SELECT count(*) FROM docs WHERE content @@@ 'novo'"), 0, 'and removes');
is($standby->safe_psql('app', "SELECT problem FROM pgopt_search_verify('docs_i')"), '', 'and its index stays sound');

done_testing();
