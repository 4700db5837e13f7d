# A crash of the server: shared memory and with it every count is gone.  Processes are killed under a writing load,
# and after that no managed view may be called fresh that does not hold what its query yields.
# PGOPT_KILL_ROUNDS sets the number of rounds (3), PGOPT_SEED repeats a choice of victims.
use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use PgoptTest;
use PgoptViews;

my $rounds = $ENV{PGOPT_KILL_ROUNDS} // 3;
my $seed = $ENV{PGOPT_SEED} // int(rand(1_000_000));
srand($seed);
note("PGOPT_SEED=$seed, $rounds rounds");

my $node = pgopt_node('main', extension => 'app', conf => <<'CONF');
restart_after_crash = on
pgopt.worker_naptime = '500ms'
CONF
create_checks($node, 'app');
$node->safe_psql('app', <<'SQL');
CREATE TABLE item (id bigint PRIMARY KEY, grp int NOT NULL, val int NOT NULL);
INSERT INTO item SELECT i, i % 20, 0 FROM generate_series(1, 500) i;
CREATE TABLE part (id bigint NOT NULL, val int NOT NULL) PARTITION BY HASH (id);
CREATE TABLE part_0 PARTITION OF part FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE part_1 PARTITION OF part FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE SEQUENCE ids START 1000;

CREATE MATERIALIZED VIEW by_group AS SELECT grp, count(*) n, sum(val) s FROM item GROUP BY grp;
CREATE UNIQUE INDEX ON by_group (grp);
CREATE MATERIALIZED VIEW of_groups AS SELECT 1 AS one, sum(n) n, max(s) s FROM by_group;
CREATE UNIQUE INDEX ON of_groups (one);
CREATE MATERIALIZED VIEW by_part AS SELECT id % 10 AS k, count(*) n, sum(val) s FROM part GROUP BY 1;
CREATE UNIQUE INDEX ON by_part (k);
CREATE MATERIALIZED VIEW no_index AS SELECT grp, max(id) FROM item WHERE val > 2 GROUP BY grp;
CREATE MATERIALIZED VIEW of_both AS SELECT count(*) n, (SELECT count(*) FROM part) m FROM item;
SELECT pgopt_manage('by_group', 'immediate'), pgopt_manage('of_groups', 'immediate', priority => 1),
       pgopt_manage('by_part', 'threshold', interval '2 seconds', 20),
       pgopt_manage('no_index', 'scheduled', interval '1 second'),
       pgopt_manage('of_both', 'smart', interval '3 seconds');
SQL
all_fresh($node, 'app', 'at the start');

# Writes of every kind, some of them rolled back.
my $script = $node->basedir . '/load.sql';
append_to_file($script, <<'SQL');
\set grp random(0, 19)
\set id random(1, 500)
\set kind random(1, 10)
\if :kind <= 4
UPDATE item SET val = val + 1 WHERE id = :id;
\elif :kind <= 6
BEGIN;
INSERT INTO item VALUES (nextval('ids'), :grp, 1);
SAVEPOINT s;
DELETE FROM item WHERE id >= 1000 AND grp = :grp;
ROLLBACK TO s;
INSERT INTO part VALUES (nextval('ids'), :grp);
COMMIT;
\elif :kind = 7
BEGIN;
UPDATE item SET val = val + 5 WHERE grp = :grp;
ROLLBACK;
\elif :kind <= 9
INSERT INTO part SELECT nextval('ids'), i FROM generate_series(1, :grp) i;
\else
DELETE FROM item WHERE id IN (SELECT id FROM item WHERE id >= 1000 AND grp = :grp LIMIT 5);
\endif
SQL

# What is killed, in turn; then at random.
my @kinds = ('client backend', 'pgopt refresh', 'pgopt worker', 'pgopt launcher', 'checkpointer');
my $concurrent = "view::text IN ('by_group', 'of_groups', 'by_part')";
my ($samples, $killed) = (0, 0);

foreach my $round (1 .. $rounds)
{
  my ($out, $err) = ('', '');
  my $counted = 'SELECT coalesce(sum(inserted + updated + deleted), 0) FROM pgopt_table_changes';
  my $before = $node->safe_psql('app', $counted);
  my $load = IPC::Run::start(
    [ 'pgbench', '-n', '-c', '4', '-j', '1', '-T', '60', '-R', '400', '-f', $script, $node->connstr('app') ],
    '<', \undef, '>', \$out, '2>', \$err);
  ok(poll_until($node, 'app', "SELECT ($counted) > $before + 20"), "round $round: changes are counted under load");

  my $until = time() + 0.3 + rand(1);
  my @wrong;
  while (time() < $until)
  {
    my $wrong = wrongly_fresh($node, 'app', $concurrent);
    push @wrong, $wrong if $wrong ne '';
    $samples++;
  }
  is("@wrong", '', "round $round: no view is called fresh under load that is not");

  # refresh workers come and go: look for one for a while
  my $kind = $round <= 3 ? $kinds[ $round - 1 ] : $kinds[ int(rand(@kinds)) ];
  my $victim;
  foreach (1 .. 100)
  {
    $victim = $node->safe_psql('app', "SELECT pid FROM pg_stat_activity WHERE backend_type = '$kind'"
        . ' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1');
    last if $victim ne '';
    sleep(0.05);
  }
  ok($victim ne '' && kill('KILL', $victim), "round $round: a process of kind $kind was killed");
  $killed++;
  # all clients lose their connection, and pgbench ends
  $load->finish;
  ok(poll_until($node, 'app', 'SELECT NOT pg_is_in_recovery()'), "round $round: the server is back");
  is(wrongly_fresh($node, 'app'), '', "round $round: no view is called fresh after the crash that is not");
  all_fresh($node, 'app', "round $round");
  is(wrongly_fresh($node, 'app'), '', "round $round: no view is called fresh later that is not");
}
note("$samples samples under load, " . started() . ' s so far');

# From here on nothing but the test itself refreshes.
$node->safe_psql('app', 'ALTER SYSTEM SET pgopt.auto_refresh = off');
$node->reload;
my $called_fresh = 'SELECT count(*) FROM pgopt_matviews WHERE fresh';
my $reasons = "SELECT string_agg(DISTINCT reason, ', ') FROM pgopt_matviews";
foreach my $mode ('immediate', 'fast')
{
  ok(poll_until($node, 'app', "SELECT NOT current_setting('pgopt.auto_refresh')::bool"), 'auto_refresh is off');
  $node->safe_psql('app', 'SELECT pgopt_refresh_all()');
  is($node->safe_psql('app', $called_fresh), 5, "$mode shutdown: all views are fresh before it");
  $node->safe_psql('app', 'UPDATE item SET val = val + 1 WHERE id = 7') if $mode eq 'immediate';
  $node->stop($mode);
  $node->start;
  is($node->safe_psql('app', $called_fresh), 0, "$mode shutdown: no view is called fresh after it");
  like($node->safe_psql('app', $reasons), qr/restarted|no change is counted/,
    "$mode shutdown: the reason is said");
  # also when the worker has looked at them, and for views that nothing was changed for
  ok(poll_until($node, 'app', $reasons, 'the server was restarted since the last refresh'),
    "$mode shutdown: the worker looks after the database, and the reason is the restart");
  is($node->safe_psql('app', $called_fresh), 0, "$mode shutdown: no view is called fresh before its refresh");
  my $row = $node->safe_psql('app',
    "SELECT pending_changes IS NULL, staleness >= 0.7, state FROM pgopt_matviews WHERE view::text = 'by_group'");
  is($row, 't|t|due', "$mode shutdown: pending changes are unknown, and the view counts as overdue");
}

# One refresh makes one view fresh, and not the others.
$node->safe_psql('app', "SELECT pgopt_refresh('by_part')");
is($node->safe_psql('app', "SELECT string_agg(view::text, ' ') FROM pgopt_matviews WHERE fresh"),
  'by_part', 'only the view that was refreshed is fresh');

$node->safe_psql('app', 'ALTER SYSTEM RESET pgopt.auto_refresh');
$node->reload;
all_fresh($node, 'app', 'with auto_refresh on again');
no_crash($node, $killed);
$node->stop;
note('took ' . started() . ' s');
done_testing();
