# Search indexes and crashes: while documents of all sizes are written, flushed, merged and vacuumed, a process is killed,
# or all at once. After each recovery every row of the tables is in its index, once, and nothing else is found.
# PGOPT_KILL_ROUNDS sets the number of rounds (4; 100 is the promise), PGOPT_SEED repeats a choice of victims.
use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use PgoptTest;

my $rounds = $ENV{PGOPT_KILL_ROUNDS} // 4;
my $seed = $ENV{PGOPT_SEED} // int(rand(1_000_000));
srand($seed);
note("PGOPT_SEED=$seed, $rounds rounds");

my $node = pgopt_node('main', extension => 'app', conf => <<'CONF');
restart_after_crash = on
autovacuum_naptime = 1s
autovacuum_vacuum_cost_delay = 0
checkpoint_timeout = 30s
pgopt.worker_naptime = '500ms'
CONF
$node->safe_psql('app', <<'SQL');
CREATE FUNCTION words(seed int, n int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT string_agg((ARRAY['lei','transporte','escolar','licitação','município','saúde','educação','orçamento'])[1 + (seed * 7 + i * i) % 8]
		|| CASE WHEN i % 3 = 0 THEN ((seed + i) % 3000)::text ELSE '' END, ' ') FROM generate_series(1, n) i
$$;
CREATE TABLE docs (id bigserial PRIMARY KEY, title text, content text, kind int)
	WITH (autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_insert_threshold = 2000);
INSERT INTO docs (title, content, kind) SELECT words(i, 5), words(i, 40), i % 9 FROM generate_series(1, 500) i;
CREATE INDEX docs_large_buffer ON docs USING pgopt_bm25 (content) WITH (positions = off, pending_limit = 2048);
CREATE INDEX docs_i ON docs USING pgopt_bm25 (title, content, kind) WITH (pending_limit = 64);
CREATE UNLOGGED TABLE volatile (t text);
CREATE INDEX volatile_i ON volatile USING pgopt_bm25 (t) WITH (pending_limit = 64);
SQL

# Writes of every kind, some of them rolled back; documents of a few words, of some pages, of many.
my $script = $node->basedir . '/search_load.sql';
append_to_file($script, <<'SQL');
\set r random(1, 1000000)
\set id random(1, 3000)
\set dice random(1, 100)
\if :dice <= 50
INSERT INTO docs (title, content, kind) VALUES (words(:r % 10000, 5), words(:r % 10000, 20 + :id % 60), :id % 9);
\elif :dice <= 65
UPDATE docs SET content = words(:r % 10000, 30) WHERE id = :id;
\elif :dice <= 80
DELETE FROM docs WHERE id = :id;
\elif :dice <= 85
BEGIN;
INSERT INTO docs (title, content, kind) SELECT words(i, 3), words(i, 30), 0 FROM generate_series(1, 50) i;
SAVEPOINT s;
DELETE FROM docs WHERE id BETWEEN :id AND :id + 20;
ROLLBACK TO s;
ROLLBACK;
\elif :dice <= 88
INSERT INTO docs (title, content, kind) VALUES ('grande', words(:r % 10000, 12000), 10);
\elif :dice <= 92
INSERT INTO docs (title, content, kind) SELECT words(i, 3), words(i + :r % 10000, 30), 1 FROM generate_series(1, 100) i;
\elif :dice <= 96
INSERT INTO volatile SELECT words(i, 30) FROM generate_series(1, 30) i;
\elif :dice <= 98
SELECT count(*) FROM docs d WHERE d @@@ '"transporte escolar" saúde' AND kind = 3;
\else
VACUUM docs;
\endif
SQL

# What a search finds, against what reading the table finds.
my $same = <<'SQL';
SELECT found IS NOT DISTINCT FROM expected, cardinality(found) FROM
	(SELECT array_agg(id ORDER BY id) AS found FROM docs d WHERE d @@@ 'orçamento' AND kind IN (1, 2, 10)) f,
	(SELECT array_agg(id ORDER BY id) AS expected FROM docs
	  WHERE (title || ' ' || content) ~ '\morçamento\M' AND kind IN (1, 2, 10)) e
SQL

my @kinds = ('client backend', 'all', 'pgopt refresh', 'autovacuum worker', 'checkpointer', 'walwriter');

foreach my $round (1 .. $rounds)
{
  my ($out, $err) = ('', '');
  my $before = $node->safe_psql('app', 'SELECT last_value FROM docs_id_seq');
  my $load = IPC::Run::start(
    [ 'pgbench', '-n', '-c', '5', '-j', '1', '-T', '60', '-f', $script, $node->connstr('app') ],
    '<', \undef, '>', \$out, '2>', \$err);
  ok(poll_until($node, 'app', "SELECT last_value > $before + 300 FROM docs_id_seq"), "round $round: documents are written");
  sleep(rand(1.5));

  my $kind = $round <= 2 ? $kinds[ $round - 1 ] : $kinds[ int(rand(@kinds)) ];
  if ($kind eq 'all')
  {
    $node->kill9;
    $load->finish;
    # it starts when the last of the old processes has seen that the postmaster is gone
    my $started = 0;
    for (my $try = 0; !$started && $try < 300; $try++)
    {
      $started = $node->start(fail_ok => 1);
      next if $started;
      sleep(0.2);
      $node->stop('fast', fail_ok => 1);
    }
    ok($started, "round $round: all processes were killed");
  }
  else
  {
    # those that come and go are looked for a while; a client is always there
    my $victim = '';
    foreach (1 .. 60)
    {
      $victim = $node->safe_psql('app', "SELECT pid FROM pg_stat_activity WHERE backend_type = '$kind'"
          . ' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1');
      last if $victim ne '';
      sleep(0.05);
    }
    my $killed = $victim ne '' && kill('KILL', $victim);
    # it may have been about to end by itself: then a client follows, unless the server is gone already
    my $client = eval { $node->safe_psql('app',
        "SELECT min(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()") };
    $killed = (defined $client && $client =~ /^\d+$/ && kill('KILL', $client)) || $killed;
    ok($killed, "round $round: a process of kind $kind was killed");
    $load->finish;
  }
  ok(poll_until($node, 'app', 'SELECT NOT pg_is_in_recovery()'), "round $round: the server is back");

  foreach my $index ('docs_i', 'docs_large_buffer', 'volatile_i')
  {
    is($node->safe_psql('app', "SELECT part, block, place, problem FROM pgopt_search_verify('$index')"),
      '', "round $round: $index is sound, and says what its table says");
  }
  is($node->safe_psql('app', 'SELECT count(*) FROM volatile'), 0, "round $round: the unlogged table is empty");
  like($node->safe_psql('app', $same), qr/^t\|/, "round $round: a search finds what the table holds");

  # what the crash left behind goes away: dead rows (however few they are), and pages that nothing refers to
  $node->safe_psql('app', 'VACUUM (INDEX_CLEANUP ON) docs');
  is($node->safe_psql('app', "SELECT s.documents - (SELECT count(*) FROM docs) FROM pgopt_search_stats('docs_i') s"),
    0, "round $round: after VACUUM there are as many documents as rows");
}

done_testing();
