# Incremental refresh and crashes: while clients write and views are refreshed, the server is killed. After each
# recovery every view is refreshed and equals its definition, views, logs and state are sound, and a streaming standby
# has the same rows.
# PGOPT_KILL_ROUNDS sets the number of rounds (5; 100 is the promise), PGOPT_SEED repeats views, writes and victims.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use PgoptTest;
use PgoptViews;
use PgoptQueries;
use PgoptWriters;
use PgoptEquality;

my $rounds = $ENV{PGOPT_KILL_ROUNDS} // 5;
my $seed = $ENV{PGOPT_SEED} // int(rand(1_000_000));
note("PGOPT_SEED=$seed, $rounds rounds");

my $primary = pgopt_node('primary', conf => equality_conf() . <<'CONF');
restart_after_crash = on
checkpoint_timeout = 30s
wal_keep_size = 1GB
pgopt.worker_naptime = '300ms'
CONF
my $queries = PgoptQueries->new($seed);
$primary->safe_psql('postgres', 'CREATE DATABASE app');
$primary->safe_psql('app', "CREATE EXTENSION pgopt; CREATE EXTENSION amcheck;\n" . $queries->schema);
create_comparison($primary, 'app');
my @views = ('up_rows', 'up_groups', 'control', create_views($primary, 'app', $queries, 10));
manage_views($primary, 'app', @views);
my @scripts = map { writer_script($queries, 200) } 1 .. 5;
push @scripts, rare_script($queries, 100);
my $refresher = refresher_script($queries, 500, chained_views($primary, 'app'), grep { $_ ne 'control' } @views);

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "wal_retrieve_retry_interval = '100ms'\nhot_standby_feedback = on\n");
$standby->start;

# All processes at once, as if the machine had stopped.
sub kill_server
{
  my ($node) = @_;
  my $postmaster = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
  my @children = split ' ', `ps -o pid= --ppid $postmaster`;
  $node->kill9;
  kill('KILL', @children);
  foreach (1 .. 200)
  {
    last unless grep { -e "/proc/$_" } $postmaster, @children;
    sleep(0.05);
  }
  return $node->start;
}

sub kill_one
{
  my ($node, $kind) = @_;
  my $victim = '';
  foreach (1 .. 40)
  {
    $victim = $node->safe_psql('app', "SELECT pid FROM pg_stat_activity WHERE backend_type = '$kind' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1");
    last if $victim ne '';
    sleep(0.05);
  }
  return 0 unless $victim ne '' && kill('KILL', $victim);
  # the others end one after the other
  poll_until($node, 'app', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $victim)");
  return 1;
}

my %sum = map { $_ => 0 } qw(incremental compared after_crash differences);

foreach my $round (1 .. $rounds)
{
  my $before = $primary->safe_psql('app', 'SELECT count(*) FROM result');
  my @clients = map { start_client($primary, 'app', "writer_$_", $primary->basedir, $scripts[ $_ - 1 ]) } 1 .. @scripts;
  push @clients, start_client($primary, 'app', 'refresher_1', $primary->basedir, $refresher);
  ok(poll_until($primary, 'app', "SELECT count(*) >= $before + 12 FROM result", 't', 30), "round $round: views are refreshed under load");
  sleep($queries->below(1000) / 1000);

  my $kind = $round % 4 == 2 ? $queries->one_of('client backend', 'client backend', 'checkpointer', 'pgopt worker') : 'all';
  ok($kind eq 'all' ? kill_server($primary) : kill_one($primary, $kind), "round $round: killed: $kind");
  stop_clients(@clients);
  ok(poll_until($primary, 'app', 'SELECT NOT pg_is_in_recovery()'), "round $round: the server is back");
  come_to_rest($primary, 'app');

  $before = $primary->safe_psql('app', 'SELECT coalesce(max(id), 0) FROM result');
  foreach my $name (grep { $_ ne 'control' } @views)
  {
    $primary->safe_psql('app', "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT refresh_and_compare('$name'); COMMIT;");
  }
  is($primary->safe_psql('app', "SELECT DISTINCT concat_ws(E'\\n', view, mode, query, detail) FROM result JOIN spec USING (view) WHERE differences > 0"),
    '', "round $round: every refresh gave what the definition gives (seed $seed)");
  $sum{after_crash} += $primary->safe_psql('app', "SELECT count(*) FROM result WHERE id > $before AND mode = 'incremental'");
  is($primary->safe_psql('app', 'SELECT damaged()'), '', "round $round: views, logs and state are sound");

  $primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
  is($standby->safe_psql('app', 'SELECT contents()'), $primary->safe_psql('app', 'SELECT contents()'), "round $round: the standby has the same rows");
  is($standby->safe_psql('app', "SET TimeZone = 'America/Sao_Paulo'; SELECT string_agg(view, ', ') FROM spec, compare(view) WHERE differences > 0 AND view <> 'control'"),
    '', "round $round: and they are what the definitions give there");
}
is($standby->safe_psql('app', 'SELECT damaged()'), '', 'the standby is sound');
($sum{incremental}, $sum{differences}) = epoch_counts($primary, 'app');
note("$rounds rounds, $sum{incremental} incremental refreshes compared, $sum{after_crash} of them the first after a crash, "
    . "$sum{differences} with a difference (seed $seed), " . started() . ' s');
cmp_ok($sum{after_crash}, '>=', $rounds, 'what a refresh has read survives a crash: the next one is incremental');

# promoted, it goes on where the primary was
$primary->stop;
$standby->promote;
foreach my $name (grep { $_ ne 'control' } @views)
{
  $standby->safe_psql('app', "INSERT INTO doc (k, kind, n) VALUES (2, 'lei', 4); BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT refresh_and_compare('$name'); COMMIT;");
}
my ($incremental, $differences) = epoch_counts($standby, 'app');
is($differences, 0, 'a promoted standby refreshes rightly');
cmp_ok($incremental, '>', $sum{incremental}, 'and incrementally');
$standby->stop;
note('took ' . started() . ' s');
done_testing();
