# PgoptViews: for TAP tests that ask whether managed views hold what their queries yield.
package PgoptViews;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use PgoptTest;

our @EXPORT = qw(create_checks wrongly_fresh differing all_fresh wait_fresh worker_pids
  no_crash begin_session log_matches started);

# create_checks($node, $database): SQL functions that compare views with their definitions.
sub create_checks
{
  my ($node, $database) = @_;
  $node->safe_psql($database, <<'SQL');
CREATE FUNCTION rows_that_differ(view regclass) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
  query text := rtrim(pg_get_viewdef(view), ';');
  result bigint;
BEGIN
  EXECUTE format('SELECT count(*) FROM ((TABLE %1$s EXCEPT ALL (%2$s)) UNION ALL ((%2$s) EXCEPT ALL TABLE %1$s)) d',
                 view, query) INTO result;
  RETURN result;
END $$;
SQL
  return;
}

# wrongly_fresh($node, $database): names of views that are called fresh and hold something else than their query yields.
# Under load this is exact for views that are refreshed concurrently: in one snapshot, a view that is called fresh
# holds what its query yields.  A full refresh swaps storage under that snapshot, so restrict $where to the others.
sub wrongly_fresh
{
  my ($node, $database, $where) = @_;
  $where //= 'true';
  return $node->safe_psql($database, <<"SQL");
BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;
SELECT string_agg(view::text || ' (' || rows_that_differ(view) || ' rows)', ', ')
  FROM pgopt_matviews WHERE fresh AND ($where) AND rows_that_differ(view) > 0;
COMMIT;
SQL
}

# differing($node, $database): names of managed views whose content is not what their query yields.
sub differing
{
  my ($node, $database) = @_;
  return $node->safe_psql($database,
    "SELECT string_agg(view::text, ', ') FROM pgopt.matview WHERE rows_that_differ(view) > 0");
}

# all_fresh($node, $database, $name, $seconds): waits until every managed view is called fresh, and then compares them
# all with their queries.  Two tests; nothing may be writing.
sub all_fresh
{
  my ($node, $database, $name, $seconds) = @_;
  wait_fresh($node, $database, "$name: every view becomes fresh", $seconds);
  is(differing($node, $database), '', "$name: every view holds what its query yields");
  return;
}

# wait_fresh($node, $database, $name, $seconds): the first of these two tests.
sub wait_fresh
{
  my ($node, $database, $name, $seconds) = @_;
  my $begun = time();
  my $fresh = poll_until($node, $database, 'SELECT count(*) > 0 AND bool_and(fresh) FROM pgopt_matviews', 't',
    $seconds // 60);
  ok($fresh, $name);
  note($node->safe_psql($database, "SELECT 'slow: ' || view_name, started_at::time, duration, outcome, reason, message"
        . " FROM pgopt.refresh_log ORDER BY id DESC LIMIT 15"))
    if time() - $begun > 2;
  diag($node->safe_psql($database, 'SELECT view, strategy, fresh, state, reason, last_error FROM pgopt_matviews'))
    unless $fresh;
  return $fresh;
}

# worker_pids($node, $kind, $database): pids of 'pgopt launcher', 'pgopt worker' or 'pgopt refresh' processes.
sub worker_pids
{
  my ($node, $kind, $database) = @_;
  my $where = defined $database ? "AND datname = '$database'" : '';
  return split /\n/, $node->safe_psql('postgres',
    "SELECT pid FROM pg_stat_activity WHERE backend_type = '$kind' $where ORDER BY backend_start");
}

# begin_session($node, $database, $sql): psql in the background, given statements that may take long; finish it with
# kill_kill or finish.
sub begin_session
{
  my ($node, $database, $sql) = @_;
  my %session = (out => '', err => '');
  my $in = "$sql\n\\q\n";
  $session{run} = IPC::Run::start(
    [ 'psql', '-XAtq', '-d', $node->connstr($database), '-f', '-' ],
    '<', \$in, '>', \$session{out}, '2>', \$session{err},
    IPC::Run::timeout(120));
  return \%session;
}

# log_matches($node, $pattern, $offset): lines of the server's log that match.
sub log_matches
{
  my ($node, $pattern, $offset) = @_;
  my $log = substr(slurp_file($node->logfile), $offset // 0);
  return grep { $_ =~ $pattern } split /\n/, $log;
}

# no_crash($node, $killed): the log tells of no failed assertion, no panic, and of no process that ended by a signal
# other than the $killed ones that the test killed itself.
sub no_crash
{
  my ($node, $killed) = @_;
  my @bad = log_matches($node, qr/TRAP:|PANIC:/);
  my @signals = log_matches($node, qr/was terminated by signal|exited with exit code [23]\b/);
  is(join("\n", @bad), '', 'no assertion failed and nothing panicked on ' . $node->name);
  cmp_ok(scalar(@signals), '<=', $killed // 0, 'no process of ' . $node->name . ' crashed by itself')
    or diag(join("\n", @signals));
  return;
}

# started(): seconds since this file began.
sub started
{
  return sprintf('%.1f', time() - $^T);
}

1;
