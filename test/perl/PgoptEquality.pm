# PgoptEquality: materialized views with random definitions that are refreshed incrementally while clients write, each
# compared with its definition in the snapshot of the refresh.
#
# An epoch has tables, writers and views of its own.  One view more, control, is refreshed from a wrong frontier: after
# each of its refreshes the list of transactions that had not ended is taken out of what it is said to have read, which
# is what a consumer has that remembers the highest transaction instead of a snapshot.  Transactions that commit late
# are lost then, and a comparison that never finds that finds nothing.
package PgoptEquality;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

use PgoptQueries;
use PgoptTest;
use PgoptWriters;

our @EXPORT = qw(equality_conf create_comparison create_views manage_views refresher_script
  chained_views come_to_rest unexpected_errors run_epoch epoch_counts);

# Settings of a server for it.
sub equality_conf
{
  return <<'CONF';
max_connections = 60
max_prepared_transactions = 20
autovacuum_naptime = 1s
pgopt.auto_refresh = off
pgopt.worker_naptime = '500ms'
log_line_prefix = '%m [%p] %a %e '
CONF
}

# Views are managed under this time zone, and refreshed under others.
my $time_zone = 'America/Sao_Paulo';

# create_comparison($node, $database): what compares. A difference is kept with the rows that make it.
sub create_comparison
{
  my ($node, $database) = @_;
  $node->safe_psql($database, <<"SQL");
CREATE TABLE spec (view text PRIMARY KEY, query text NOT NULL, compared text NOT NULL, classes text[] NOT NULL);
CREATE TABLE result (id bigserial, at timestamptz DEFAULT clock_timestamp(), view text, outcome text, mode text, message text,
  differences bigint, rows bigint, detail text);
-- Functions and tables that a search path must not lead to.
CREATE SCHEMA hostile;
CREATE TABLE hostile.doc (id int, k int, kind text, n int);
CREATE FUNCTION hostile.upper(text) RETURNS text LANGUAGE sql IMMUTABLE AS \$\$SELECT 'wrong'\$\$;
CREATE FUNCTION hostile.length(text) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT -1';

-- Rows that only the view has (+), or only its definition (-), as texts.
CREATE FUNCTION compare(name text, OUT differences bigint, OUT rows bigint, OUT detail text) LANGUAGE plpgsql AS \$\$
DECLARE
  s record;
BEGIN
  SELECT * INTO s FROM spec WHERE view = name;
  EXECUTE format('WITH held AS MATERIALIZED (SELECT %1\$s AS r FROM %2\$I q), due AS MATERIALIZED (SELECT %1\$s AS r FROM (%3\$s) q),'
      ' d AS (SELECT ''+'' AS side, r FROM (TABLE held EXCEPT ALL TABLE due) x'
      ' UNION ALL SELECT ''-'', r FROM (TABLE due EXCEPT ALL TABLE held) x)'
      ' SELECT count(*), (SELECT count(*) FROM held), left(string_agg(side || r, E''\\n'' ORDER BY r, side), 4000) FROM d',
      s.compared, s.view, s.query)
    INTO differences, rows, detail;
END \$\$;

-- Refreshes a view, and those below it that are not fresh, and compares each of them. In a REPEATABLE READ transaction.
CREATE FUNCTION refresh_and_compare(name text) RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
  r record;
  c record;
  answer text;
BEGIN
  FOR r IN SELECT * FROM public.pgopt_refresh(('public.' || name)::regclass) LOOP
    PERFORM set_config('search_path', 'public', true), set_config('TimeZone', '$time_zone', true);
    SELECT * INTO c FROM compare(r.view::text);
    INSERT INTO result (view, outcome, mode, message, differences, rows, detail)
      VALUES (r.view::text, r.outcome, r.mode, r.message, c.differences, c.rows,
        c.detail || E'\\n' || pg_current_snapshot());
    answer := concat_ws(' ', answer, r.view::text, r.mode, c.differences);
  END LOOP;
  RETURN answer;
END \$\$;

-- Forgets which transactions had not ended when control was refreshed.
CREATE FUNCTION forget_running() RETURNS void LANGUAGE plpgsql AS
  \$\$ BEGIN UPDATE pgopt.incremental_state SET frontier = (pg_snapshot_xmax(frontier) || ':' || pg_snapshot_xmax(frontier) || ':')::pg_snapshot
       WHERE view = 'control'::regclass; END \$\$;
-- What amcheck finds in the views, the logs and the state.
CREATE FUNCTION damaged() RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
  r record;
  n bigint;
  answer text;
BEGIN
  FOR r IN SELECT c.oid::regclass AS rel, c.relkind FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid
      JOIN pg_class t ON t.oid = coalesce(i.indrelid, c.oid) LEFT JOIN pg_am a ON a.oid = c.relam
      WHERE c.relkind IN ('r', 'm', 't', 'i') AND (c.relkind <> 'i' OR a.amname = 'btree') AND c.relpersistence = 'p'
        AND (t.relkind = 'm' OR t.relnamespace = 'pgopt'::regnamespace) LOOP
    BEGIN
      IF r.relkind = 'i' THEN
        PERFORM bt_index_check(r.rel, true);
      ELSE
        SELECT count(*) INTO n FROM verify_heapam(r.rel);
        IF n > 0 THEN
          answer := concat_ws(', ', answer, r.rel || ': ' || n || ' rows are damaged');
        END IF;
      END IF;
    EXCEPTION WHEN index_corrupted OR data_corrupted THEN
      answer := concat_ws(', ', answer, r.rel || ': ' || sqlerrm);
    END;
  END LOOP;
  RETURN answer;
END \$\$;
-- Views and their state as one text; the logs are not in it, since they may be trimmed at any time.
CREATE FUNCTION contents() RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
  r record;
  sum text;
  answer text;
BEGIN
  FOR r IN SELECT oid::regclass AS rel FROM pg_class WHERE relkind = 'm'
      OR (relkind = 'r' AND relnamespace = 'pgopt'::regnamespace AND relname ~ '^(groups|values)_') ORDER BY relname LOOP
    EXECUTE format('SELECT md5(string_agg(t::text, E''\\n'' ORDER BY t::text)) FROM %s t', r.rel) INTO sum;
    answer := concat_ws(E'\n', answer, r.rel || ' ' || coalesce(sum, 'empty'));
  END LOOP;
  RETURN answer;
END \$\$;
-- A wrong one begins again from a right one.
CREATE FUNCTION repair_control() RETURNS void LANGUAGE plpgsql AS
  \$\$ BEGIN
    IF (SELECT differences > 0 FROM result WHERE view = 'control' ORDER BY id DESC LIMIT 1) THEN
      REFRESH MATERIALIZED VIEW control;
    END IF;
  END \$\$;
SQL
  return;
}

sub literal
{
  my ($text) = @_;
  $text =~ s/'/''/g;
  return "'$text'";
}

# create_views($node, $database, $queries, $n): the tables' upstream views, control, and n random views. Returns the
# random ones' names, and where they are to be refreshed.
sub create_views
{
  my ($node, $database, $queries, $n) = @_;
  my %views = (
    up_rows => { sql => "SELECT k, upper(kind) AS kind, n FROM rare WHERE n <> 2", classes => [ 'plain', 'upstream' ], compared => 'ROW(k, kind, n)::text' },
    up_groups => { sql => 'SELECT k, kind, count(*)::int AS n, max(region) AS m FROM rare GROUP BY k, kind', classes => [ 'group by', 'upstream' ], compared => 'ROW(k, kind, n, m)::text' },
    control => { sql => 'SELECT k, kind, count(*) AS c, sum(n) AS s FROM doc GROUP BY k, kind', classes => ['control'], compared => 'ROW(k, kind, c, s)::text' },
  );
  my @names;

  $queries->upstream('up_rows', 'up_groups') unless @{ $queries->{upstream} };
  foreach my $i (1 .. $n)
  {
    my $view = $queries->view;
    push @names, "v$i";
    $views{"v$i"} = $view;
  }
  my $sql = "SET TimeZone = '$time_zone';\n";
  foreach my $name ('up_rows', 'up_groups', 'control', @names)
  {
    my $view = $views{$name};
    $sql .= "CREATE MATERIALIZED VIEW $name AS $view->{sql};\n"
      . 'INSERT INTO spec VALUES (' . join(', ', map { literal($_) } $name, $view->{sql}, $view->{compared})
      . ', ARRAY[' . join(', ', map { literal($_) } @{ $view->{classes} }) . "]);\n";
  }
  # some views have indexes; a change must reach them
  foreach my $name (@names)
  {
    $sql .= "CREATE INDEX ON $name (c1);\n" if $queries->chance(25);
  }
  $sql .= "CREATE UNIQUE INDEX ON up_groups (k, kind);\nCREATE UNIQUE INDEX ON control (k, kind);\n";
  $node->safe_psql($database, $sql);
  return @names;
}

# manage_views($node, $database, @names): under whatever load there is. A lock that cannot be had is asked for again; what
# cannot be incremental is refreshed as it can be.
sub manage_views
{
  my ($node, $database, @names) = @_;
  foreach my $name (@names)
  {
    my ($code, $error) = (1, '');
    foreach my $try (1 .. 30)
    {
      my $how = $error eq '' || $error =~ /could not be had/ ? 'always' : 'auto';
      $code = $node->psql($database,
        "SET client_min_messages = warning; SET TimeZone = '$time_zone'; SELECT pgopt_manage('$name', 'manual', incremental => '$how')",
        stderr => \$error);
      last if $code == 0;
    }
    die "$name cannot be managed: $error" if $code != 0;
  }
  return;
}

# refresher_script($q, $n, $chained, @views): n refreshes of these views, most of them compared; $chained has those that
# read upstream views
sub refresher_script
{
  my ($q, $n, $chained, @views) = @_;
  my $script = "SET pgopt.refresh_lock_timeout = '2s'; SET statement_timeout = '60s';\n";
  foreach my $i (1 .. $n)
  {
    my $view = $q->one_of(@views);
    my $compared = "SELECT refresh_and_compare('$view');\n";
    # what it reads is made fresh before, or by the same transaction
    my $before = $chained->{$view} && $q->chance(50) ? "SELECT mode FROM unnest('{public.up_rows,public.up_groups}'::regclass[]) v, public.pgopt_refresh(v);\n" : '';
    my $kind = $view eq 'control' ? 'control' : $q->weighted(compared => 76, late => 6, plain => 4, rollback => 4, changed => 3, again => 4,
      twice => $chained->{$view} ? 10 : 0);
    $script .= 'SET TimeZone = ' . literal($q->one_of('UTC', 'Asia/Tokyo', 'America/New_York')) . ";\n" if $q->chance(10);
    $script .= 'SET search_path = ' . $q->one_of('public', 'hostile, public', 'hostile, pg_catalog, public') . ";\n" if $q->chance(10);
    $script .= "SELECT pg_advisory_lock_shared(1);\n$before";
    if ($kind eq 'plain')
    {
      $script .= "SELECT mode FROM public.pgopt_refresh('public.$view');\n";
    }
    elsif ($kind eq 'twice')
    {
      # what it reads is refreshed again and again after it, in its transaction
      my $below = "SELECT mode FROM unnest('{public.up_rows,public.up_groups}'::regclass[]) v, public.pgopt_refresh(v);";
      $script .= "BEGIN; INSERT INTO public.rare (k, kind, n) VALUES (3, 'lei', 1); SELECT mode FROM public.pgopt_refresh('public.$view');\n"
        . "SAVEPOINT s; UPDATE public.rare SET n = n + 1 WHERE id % 7 = 3; $below " . $q->one_of('ROLLBACK TO s;', 'RELEASE s;')
        . " DELETE FROM public.rare WHERE id % 31 = 5; $below COMMIT;\n";
    }
    elsif ($kind eq 'rollback')
    {
      $script .= "BEGIN; SELECT mode FROM public.pgopt_refresh('public.$view'); ROLLBACK;\n";
    }
    else
    {
      $script .= "SELECT public.repair_control();\n" if $kind eq 'control';
      $script .= "BEGIN ISOLATION LEVEL REPEATABLE READ;\n";
      $script .= "SELECT FROM pg_class LIMIT 1; SELECT pg_sleep(0.05);\n" if $kind eq 'late';
      $script .= "INSERT INTO public.doc (k, kind, n) VALUES (3, 'lei', 1);\n" if $kind eq 'changed';
      $script .= "SAVEPOINT s; SELECT mode FROM public.pgopt_refresh('public.$view'); ROLLBACK TO s;\n" if $kind eq 'again';
      $compared =~ s/SELECT /SELECT public./;
      $script .= $compared x ($kind eq 'again' ? 2 : 1);
      $script .= "SELECT public.forget_running();\n" if $kind eq 'control';
      $script .= "COMMIT;\n";
    }
    $script .= "SELECT pg_advisory_unlock_shared(1);\n";
  }
  return $script;
}

# epoch_counts($node, $database): (refreshes by what changed that were compared, differences, of the control)
sub epoch_counts
{
  my ($node, $database) = @_;
  my $row = $node->safe_psql($database, q{SELECT count(*) FILTER (WHERE mode = 'incremental' AND view <> 'control'),
    count(*) FILTER (WHERE differences > 0 AND view <> 'control'),
    count(*) FILTER (WHERE mode = 'incremental' AND view = 'control'),
    count(*) FILTER (WHERE differences > 0 AND view = 'control') FROM result});
  return split /\|/, $row;
}

# chained_views($node, $database): those that read other materialized views, as keys
sub chained_views
{
  my ($node, $database) = @_;
  return { map { $_ => 1 } split /\n/, $node->safe_psql($database, "SELECT view FROM spec WHERE 'matview' = ANY (classes)") };
}

# run_epoch($node, %options): a database of its own, writers, refreshes, comparisons.
#   seed, views       views is how many
#   refreshes         how many incremental ones to compare
#   seconds           at most
#   interferes        whether the owner of the tables does more than writing: TRUNCATE, DDL, plain REFRESH
#   limit             of each log, if not the default
# Returns a hash: incremental, differences, control, control_wrong, all (refreshes), classes (refreshes of each),
# refused (messages), failed (texts of differences).
sub run_epoch
{
  my ($node, %options) = @_;
  my $database = 'epoch_' . $options{seed};
  my $folder = $node->basedir;
  my $queries = PgoptQueries->new($options{seed});

  my $log = -s $node->logfile;

  $node->safe_psql('postgres', 'ALTER SYSTEM ' . ($options{limit} ? "SET pgopt.incremental_log_limit = '$options{limit}'" : 'RESET pgopt.incremental_log_limit'));
  $node->reload;
  $node->safe_psql('postgres', "CREATE DATABASE $database");
  $node->safe_psql($database, "CREATE EXTENSION pgopt; CREATE EXTENSION amcheck;\n" . $queries->schema);
  create_comparison($node, $database);
  my @views = create_views($node, $database, $queries, $options{views});
  my @scripts = map { writer_script($queries, 300) } 1 .. 8;
  my $owner = owner_script($queries, 40, @views, 'up_rows', 'up_groups');
  # a view is refreshed by one session alone, so that no refresh finds itself overtaken; chains by the first
  my @of = ([], []);
  my $chained = chained_views($node, $database);
  foreach my $name (@views)
  {
    push @{ $of[ $chained->{$name} ? 0 : @{ $of[0] } > @{ $of[1] } ? 1 : 0 ] }, $name;
  }
  push @{ $of[0] }, 'up_rows', 'up_groups';
  push @{ $of[1] }, ('control') x (1 + @{ $of[1] } / 4);
  my @refreshers = map { refresher_script($queries, 2000, $chained, @$_) } @of;

  my @clients = map { start_client($node, $database, "writer_$_", $folder, $scripts[ $_ - 1 ]) } 1 .. 8;
  push @clients, start_client($node, $database, 'writer_9', $folder, rare_script($queries, 100));
  manage_views($node, $database, 'up_rows', 'up_groups', 'control', @views);
  push @clients, map { start_client($node, $database, "refresher_$_", $folder, $refreshers[$_]) } 0 .. 1;
  push @clients, start_client($node, $database, 'owner', $folder, $owner) if $options{interferes};

  my $until = time() + $options{seconds};
  my ($incremental, $differences) = (0, 0);
  while (time() < $until && $incremental < $options{refreshes} && $differences < 10)
  {
    sleep(0.5);
    ($incremental, $differences) = epoch_counts($node, $database);
  }
  stop_clients(@clients);
  come_to_rest($node, $database);

  # at rest, everything once more, each by itself
  foreach my $name ('up_rows', 'up_groups', @views)
  {
    $node->safe_psql($database, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT refresh_and_compare('$name'); COMMIT;");
  }
  my %epoch = (seed => $options{seed}, errors => unexpected_errors($node, $log));
  ($epoch{incremental}, $epoch{differences}, $epoch{control}, $epoch{control_wrong}) = epoch_counts($node, $database);
  $epoch{all} = $node->safe_psql($database, 'SELECT count(*) FROM result');
  $epoch{failed} = $node->safe_psql($database, q{SELECT concat_ws(E'\n', 'view ' || view || ' (' || mode || '), ' || differences || ' differences: ', query, detail)
    FROM (SELECT DISTINCT ON (view) * FROM result WHERE differences > 0 AND view <> 'control' ORDER BY view, id) r JOIN spec USING (view)});
  $epoch{damaged} = $node->safe_psql($database, 'SELECT damaged()');
  $epoch{classes} = { map { split /\|/ } split /\n/, $node->safe_psql($database, q{SELECT class, count(r.*) FROM spec s CROSS JOIN unnest(classes) class
    LEFT JOIN result r ON r.view = s.view AND mode = 'incremental' GROUP BY class}) };
  $epoch{refused} = $node->safe_psql($database, q{SELECT concat(s.view, ': ', m.incremental_reason, E'\n  ', query)
    FROM spec s LEFT JOIN pgopt_matviews m ON m.view::text = s.view WHERE NOT EXISTS (SELECT FROM result r WHERE r.view = s.view AND mode = 'incremental')});
  $node->safe_psql('postgres', "DROP DATABASE $database WITH (FORCE)") unless $epoch{differences};
  return \%epoch;
}

# Waits for the clients' last statements, and ends what they have prepared.
sub come_to_rest
{
  my ($node, $database) = @_;
  poll_until($node, $database, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name ~ '^(writer|refresher|owner)')");
  foreach my $gid (split /\n/, $node->safe_psql($database, 'SELECT gid FROM pg_prepared_xacts WHERE database = current_database()'))
  {
    $node->safe_psql($database, "COMMIT PREPARED '$gid'");
  }
  return;
}

# Errors in the server's log, from an offset, that no writer asked for. Writers wait for each other, overtake each other, violate keys,
# and go on in transactions that have failed.
sub unexpected_errors
{
  my ($node, $offset) = @_;
  my $expected = qr/(writer_\d+ (23505|23514|40001|40P01|55P03|25P02|42704|42601|22003|3B001|21000)|owner [^X]\w{4}|refresher_\d+ 40001|[a-z]+(_\d+)? (57014|57P01|08006)) /;
  my @lines = grep { $_ !~ /cannot be refreshed incrementally/ && /\b(ERROR|PANIC|FATAL):|TRAP:/ && $_ !~ $expected && !/the database system is|database \d+ does not exist/ } split /\n/, substr(slurp_file($node->logfile), $offset);
  return \@lines;
}

1;
