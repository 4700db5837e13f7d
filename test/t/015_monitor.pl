# The monitoring views where they need more than one session or server: who waits for whom, standbys, the rate of WAL,
# autovacuum at work, and pg_stat_statements wherever it is.
use strict;
use warnings;
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use PgoptTest;

my $statements = library_installed('pg_stat_statements');
my $node = pgopt_node('primary', extension => 'app',
  preload => $statements ? 'pgopt,pg_stat_statements' : 'pgopt',
  conf => "deadlock_timeout = '10min'\nautovacuum_naptime = '1s'\n");
$node->safe_psql('app', <<'SQL');
CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
CREATE ROLE other LOGIN;
CREATE TABLE bill (id serial PRIMARY KEY, title text DEFAULT lower('NONE'));
INSERT INTO bill SELECT i, 'bill ' || i FROM generate_series(1, 10) i;
SQL

sub sql { return $node->safe_psql('app', join("\n", @_)); }

# sql as a member of pg_monitor and nothing else
sub seen { return $node->safe_psql('app', $_[0], extra_params => [ '-U', 'watcher' ]); }

# A session with its pid; say() sends a statement without waiting for its end.
sub session
{
  my ($name) = @_;
  my $psql = $node->background_psql('app', on_error_stop => 0);
  $psql->query_safe("SET application_name = '$name'");
  return { psql => $psql, name => $name, pid => $psql->query_safe('SELECT pg_backend_pid()') };
}

sub run { my ($session, $statement) = @_; return $session->{psql}->query($statement); }

sub say
{
  my ($session, $statement) = @_;
  $session->{psql}->query_until(qr/sent/, "\\echo sent\n$statement;\n");
  ok(poll_until($node, 'app', "SELECT cardinality(pg_blocking_pids($session->{pid})) > 0"), "$session->{name} waits");
  return;
}

# The tree without what differs from run to run: names for pids.
sub tree
{
  my ($columns) = @_;
  return seen("SELECT repeat('>', depth), coalesce(application, 'prepared'), coalesce((SELECT application FROM pgopt_blocking r WHERE r.pid = b.root_pid AND r.depth = 0), 'prepared'), $columns FROM pgopt_blocking b");
}

# --- what the test's own server is told off for, and nothing else
is(seen("SELECT string_agg(setting || ' ' || severity, ', ' ORDER BY setting) FROM pgopt_settings_advice"), 'fsync critical, full_page_writes critical',
  'settings that are dangerous, and no others');
$node->safe_psql('postgres', "ALTER SYSTEM SET enable_hashjoin = off; ALTER SYSTEM SET max_connections = 60; ALTER SYSTEM SET password_encryption = md5");
$node->reload;
ok(poll_until($node, 'app', "SELECT string_agg(setting || ' ' || value, ', ' ORDER BY setting) FROM pgopt_settings_advice WHERE severity = 'warning'",
  'enable_hashjoin off, max_connections 50, password_encryption md5'), 'settings that are changed while the server runs');
foreach my $suggestion (split /\n/, seen("SELECT suggestion FROM pgopt_settings_advice WHERE setting ~ '^(enable|password)'"))
{
  $node->safe_psql('postgres', $_) foreach split /; /, $suggestion;
}
ok(poll_until($node, 'app', "SELECT count(*) FROM pgopt_settings_advice WHERE setting ~ '^(enable|password)'", '0'), 'the suggestions mend them');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET max_connections; SELECT pg_reload_conf()');

# --- nobody waits
is(seen('SELECT count(*) FROM pgopt_blocking'), 0, 'nobody waits');

# --- a transaction holds a table and a row; DDL waits for it; others wait behind the DDL
my ($holder, $ddl, $reader, $writer, $second) = map { session($_) } qw(holder ddl reader writer second);
run($holder, 'BEGIN; UPDATE bill SET title = title WHERE id = 1');
say($writer, 'BEGIN; UPDATE bill SET title = title WHERE id = 1');
say($ddl, 'ALTER TABLE bill ADD state text');
say($reader, 'SELECT count(*) FROM bill');
say($second, 'SELECT count(*) FROM bill');
is(tree('blocked, lock_mode, relation, state'), <<'TREE' =~ s/\n\z//r, 'a tree whose root is who holds the lock');
|holder|holder|4|||idle in transaction
>|writer|holder||ShareLock|bill|active
>|ddl|holder||AccessExclusiveLock|bill|active
>>|reader|holder||AccessShareLock|bill|active
>>|second|holder||AccessShareLock|bill|active
TREE
is(seen("SELECT waits_for FROM pgopt_blocking WHERE application = 'writer'"), 'row (0,1) of bill', 'the row that is waited for');
is(seen('SELECT session FROM pgopt_blocking'),
  "$holder->{pid}\n  + $writer->{pid}\n  + $ddl->{pid}\n    + $reader->{pid}\n    + $second->{pid}", 'indented by depth');
is(seen("SELECT bool_and(wait > '0' AND wait < '10 min') FROM pgopt_blocking WHERE depth > 0"), 't', 'how long each has waited');
is(seen("SELECT database, user_name, query ~ '^UPDATE bill', transaction_age > '0' FROM pgopt_blocking WHERE depth = 0"),
  'app|' . sql('SELECT current_user') . '|t|t', 'what the root did last');
is(seen("SELECT blocked_by = '{$holder->{pid},$writer->{pid}}' OR blocked_by = '{$writer->{pid},$holder->{pid}}' FROM pgopt_blocking WHERE application = 'ddl'"),
  't', 'all that one waits for are there, too');
is(seen("SELECT application, state, blocked_by IS NOT NULL, waits_for, left(query, 6) FROM pgopt_active_connections WHERE application IN ('holder', 'reader') ORDER BY transaction_age DESC"),
  "holder|idle in transaction|f|Client: ClientRead|UPDATE\nreader|active|t|Lock: relation|SELECT", 'active connections, the oldest transaction first');
is(seen("SELECT lock_type, target, lock_mode, granted, wait IS NOT NULL, application FROM pgopt_locks WHERE target ~ '^bill' AND application = 'reader'"),
  'relation|bill|AccessShareLock|f|t|reader', 'locks that are waited for');
is(seen("SELECT granted FROM pgopt_locks LIMIT 1"), 'f', 'come first');
is(seen("SELECT target, lock_mode, granted FROM pgopt_locks WHERE application = 'holder' AND target = 'bill'"),
  'bill|RowExclusiveLock|t', 'locks that are held');
is(seen("SELECT state, connections FROM pgopt_connections WHERE application = 'holder'"), 'idle in transaction|1',
  'connections by state');

# --- nothing that looks at tables waits for the DDL that holds or awaits a lock
is(seen("SET statement_timeout = '20s'; SELECT count(*) FROM pgopt_table_sizes WHERE table_name = 'bill' AND total_bytes > 0"), 1,
  'sizes do not wait for a lock');
is(seen("SET statement_timeout = '20s'; SELECT count(*) FROM pgopt_index_usage v, pgopt_table_stats s, pgopt_autovacuum a "
  . "WHERE s.table_name = 'bill' AND a.table_name = 'bill' AND v.table_name = 'bill' AND index_bytes > 0"), 1, 'nor do statistics');
is(seen("SET statement_timeout = '20s'; SELECT count(v) FROM pgopt_columns v WHERE table_name = 'bill'"), 2, 'nor do columns');
# what needs a lock is done without for as long as somebody has it
my $locker = session('locker');
run($locker, 'BEGIN; ALTER SEQUENCE bill_id_seq MAXVALUE 1000');
is(sql("SET statement_timeout = '20s'; SELECT last_value, note FROM pgopt_sequences WHERE sequence_name = 'bill_id_seq'"),
  '|locked by another session', 'a sequence that is being altered');
run($locker, 'ROLLBACK');
run($locker, 'BEGIN; ALTER SEQUENCE bill_id_seq RENAME TO renamed');
is(sql("SET statement_timeout = '20s'; SELECT last_value, note FROM pgopt_sequences WHERE sequence_name = 'bill_id_seq'"),
  '|locked by another session', 'a sequence that is being renamed');
run($locker, 'ROLLBACK');
is(sql("BEGIN; SELECT note FROM pgopt_sequences WHERE sequence_name = 'bill_id_seq'; SELECT count(*) FROM pg_locks WHERE relation = 'bill_id_seq'::regclass"),
  "never used\n0", 'no lock is kept on a sequence');
$locker->{psql}->quit;

run($holder, 'ROLLBACK');
$_->{psql}->query('ROLLBACK;') foreach ($writer, $ddl, $reader, $second);
is(seen('SELECT count(*) FROM pgopt_blocking'), 0, 'the tree is gone with its root');

# --- a queue for one row: a line of waiters is no bush of paths
my @queue = map { session("queue$_") } 1 .. 8;
run($holder, 'BEGIN; UPDATE bill SET title = title WHERE id = 2');
say($_, 'UPDATE bill SET title = title WHERE id = 2') foreach @queue;
is(seen('SELECT count(*), count(DISTINCT pid), count(DISTINCT root_pid), max(blocked) FROM pgopt_blocking'), '9|9|1|8',
  'each waiter is there once');
run($holder, 'ROLLBACK');
$_->{psql}->query('') foreach @queue;
$_->{psql}->quit foreach @queue;

# --- a deadlock that the server has not broken yet
run($holder, 'BEGIN; UPDATE bill SET title = title WHERE id = 3');
run($writer, 'BEGIN; UPDATE bill SET title = title WHERE id = 4');
say($holder, 'UPDATE bill SET title = title WHERE id = 4');
say($writer, 'UPDATE bill SET title = title WHERE id = 3');
say($reader, 'UPDATE bill SET title = title WHERE id = 3');
my ($low, $high) = sort { $a <=> $b } $holder->{pid}, $writer->{pid};
is(seen("SELECT count(*), count(DISTINCT pid), bool_and(root_pid = $low), bool_or(depth = 0 AND pid = $low AND $high = ANY (blocked_by)) FROM pgopt_blocking"),
  '3|3|t|t', 'a circle has one root, and whoever waits for it is there');
sql("SELECT pg_cancel_backend($high)");
ok(poll_until($node, 'app', "SELECT state LIKE 'idle in transaction%' FROM pg_stat_activity WHERE pid = $high"), 'it is broken');
$_->{psql}->query('ROLLBACK;') foreach sort { $b->{pid} <=> $a->{pid} } ($holder, $writer);
$reader->{psql}->query('ROLLBACK;');

# --- a prepared transaction at the root
sql("BEGIN; UPDATE bill SET title = title WHERE id = 5; PREPARE TRANSACTION 'forgotten'");
say($reader, 'UPDATE bill SET title = title WHERE id = 5');
is(tree('session'), "|prepared|prepared|prepared\n>|reader|prepared|  + $reader->{pid}", 'a prepared transaction at the root');
is(seen("SELECT target FROM pgopt_locks WHERE pid IS NULL AND target = 'bill'"), 'bill', 'and among the locks');
sql("ROLLBACK PREPARED 'forgotten'");
run($reader, '');

# --- advisory locks, and locks of other databases
run($holder, 'SELECT pg_advisory_lock(4294967299), pg_advisory_lock(7, 8)');
is(seen("SELECT target FROM pgopt_locks WHERE application = 'holder' AND lock_type = 'advisory' ORDER BY target"),
  "advisory 4294967299\nadvisory 7, 8", 'advisory locks by their keys');
is($node->safe_psql('postgres', "CREATE EXTENSION pgopt; SELECT count(*) FROM pgopt_locks WHERE database = 'app' AND target ~ '^advisory'"), 2,
  'from another database');
$_->{psql}->quit foreach ($holder, $ddl, $reader, $writer, $second);

# --- vacuum at work
sql('CREATE TABLE big AS SELECT i, repeat($$x$$, 500) AS text FROM generate_series(1, 20000) i');
my $vacuum = session('vacuum');
$vacuum->{psql}->query_safe('SET vacuum_cost_delay = 50; SET vacuum_cost_limit = 1');
$vacuum->{psql}->query_until(qr/sent/, "\\echo sent\nVACUUM big;\n");
ok(poll_until($node, 'app', "SELECT running FROM pgopt_autovacuum WHERE table_name = 'big' AND running_pid = $vacuum->{pid}", qr/^vacuum: \w.* % scanned$/),
  'a vacuum at work is seen, with its progress');
sql("SELECT pg_cancel_backend($vacuum->{pid})");
$vacuum->{psql}->quit;
# the reason why a table that is due is not vacuumed, and that it is vacuumed when it can be
my $old = session('old');
sql('CREATE TABLE hot (i int) WITH (autovacuum_vacuum_threshold = 5, autovacuum_vacuum_scale_factor = 0); INSERT INTO hot SELECT generate_series(1, 100)');
$old->{psql}->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM hot;');
sql('DELETE FROM hot');
ok(poll_until($node, 'app', "SELECT why_not FROM pgopt_autovacuum WHERE table_name = 'hot' AND due ~ 'vacuum'",
  qr/^vacuumed, but a transaction that began at .* may still see its dead rows$/), 'a table whose dead rows are held');
$old->{psql}->query_safe('COMMIT');
ok(poll_until($node, 'app', "SELECT due || dead_rows FROM pgopt_autovacuum WHERE table_name = 'hot'", '0'), 'is vacuumed afterwards');
$old->{psql}->quit;

# --- WAL: what is written shows in the rate
$node->safe_psql('app', 'SELECT pgopt_restart_window()');
is(seen('SELECT wal_bytes < 1000000 FROM pgopt_wal'), 't', 'a new window begins with nothing');
sql('CREATE TABLE much AS SELECT i, repeat($$x$$, 1000) AS text FROM generate_series(1, 20000) i');
sleep(1);
is(seen(q{SELECT wal_bytes > 20000000, wal_size, bytes_per_second > 0, rate ~ '^[0-9]+ (bytes|kB|MB|GB)/s$', size_per_day ~ '^[0-9]+ (MB|GB|TB|PB)$', basis, "within" >= '1 s' FROM pgopt_wal})
  =~ s/\d+ MB\|/N MB|/r, 't|N MB|t|t|t|window|t', 'what was written, per second and per day');

# --- replication
$node->safe_psql('postgres', "SELECT pg_create_physical_replication_slot('of_standby', true)");
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "primary_slot_name = 'of_standby'\n");
$standby->start;
$node->wait_for_catchup($standby);
is(seen('SELECT kind, name, client, state, sync_state, slot, pid > 0 FROM pgopt_replication'), 'standby|standby|local|streaming|async|of_standby|t',
  'the primary sees its standby');
ok(poll_until($node, 'app', 'SELECT replay_lag_bytes, replay_lag_size FROM pgopt_replication', '0|0 bytes'), 'which is not behind');
is(seen('SELECT slot, type, active, pid > 0, wal_status FROM pgopt_replication_slots'), 'of_standby|physical|t|t|reserved', 'and its slot');

sub there { return $standby->safe_psql('app', $_[0], extra_params => [ '-U', 'watcher' ]); }
ok(poll_until($standby, 'app', 'SELECT kind, name, state, slot, replay_lag_bytes, replay_lag FROM pgopt_replication',
  'this standby|standby|streaming|of_standby|0|00:00:00'), 'the standby sees itself');
# everything works there
foreach my $view (split /\n/, there(q{SELECT relname FROM pg_class WHERE relkind = 'v' AND relname LIKE 'pgopt\_%' ORDER BY 1}))
{
  my ($code, $out, $err) = $standby->psql('app', "SELECT count(v) FROM $view v", extra_params => [ '-U', 'watcher' ]);
  is($code, 0, "on a standby: $view") or diag($err);
}
is(there("SELECT total_bytes > 20000000 FROM pgopt_table_sizes LIMIT 1"), 't', 'sizes on the standby');
is(there('SELECT count(DISTINCT why_not), min(why_not) FROM pgopt_autovacuum'), '1|this is a standby: its primary vacuums', 'nothing is vacuumed there');
# replay that stands still
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
sql('CREATE TABLE more AS SELECT i, repeat($$x$$, 1000) AS text FROM generate_series(1, 5000) i');
$node->wait_for_catchup($standby, 'flush');
is(there("SELECT state, replay_lag_bytes > 5000000, replay_lag > '0' FROM pgopt_replication"), 'streaming, replay paused|t|t',
  'the standby sees that it is behind');
ok(poll_until($node, 'app', 'SELECT replay_lag_bytes > 5000000, flush_lag_bytes, replay_lag_size FROM pgopt_replication', qr/^t\|0\|\d+ kB$/),
  'and so does the primary');
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
$standby->stop;
ok(poll_until($node, 'app', 'SELECT active, retained_bytes > 0, retained_size IS NOT NULL FROM pgopt_replication_slots', 'f|t|t'),
  'a slot without its standby keeps WAL');
is(seen('SELECT count(*) FROM pgopt_replication'), 0, 'who is gone is not there');
sql("SELECT pg_drop_replication_slot('of_standby')");

# --- slow queries, with pg_stat_statements in a schema with a difficult name
SKIP:
{
  skip 'pg_stat_statements is not installed', 17 unless $statements;
  my ($code, $out, $err) = $node->psql('app', 'SELECT * FROM pgopt_slow_queries()');
  like($err, qr/ERROR:  the extension pg_stat_statements is not in this database\nHINT:  Run CREATE EXTENSION pg_stat_statements\./,
    'an error that says what to run');
  sql('CREATE SCHEMA "Of ""them"; CREATE EXTENSION pg_stat_statements SCHEMA "Of ""them"; GRANT USAGE ON SCHEMA "Of ""them" TO PUBLIC;');
  sql("SELECT 'slow', pg_sleep(1.2)");
  sql("SELECT 'often', pg_sleep(0.2) FROM generate_series(1, 2)") for 1 .. 4;
  $node->safe_psql('postgres', "SELECT 'elsewhere', pg_sleep(1.1)");
  is(seen("SELECT calls, mean_ms BETWEEN 1200 AND 20000, max_ms = mean_ms, total_ms = mean_ms, total_percent BETWEEN 1 AND 100, rows, temp_bytes, temp_size, wal_bytes, user_name = '"
    . sql('SELECT current_user') . "', query FROM pgopt_slow_queries() WHERE query ~ 'pg_sleep'"),
    '1|t|t|t|t|1|0|0 bytes|0|t|SELECT $1, pg_sleep($2)', 'a second on average, in this database, by default');
  is(seen("SELECT query FROM pgopt_slow_queries('1 hour', '1500 ms') WHERE query ~ 'pg_sleep'"), 'SELECT $1, pg_sleep($2) FROM generate_series($3, $4)',
    'or so much time in all');
  is(seen("SELECT string_agg(calls::text, ' ' ORDER BY total_ms DESC) FROM pgopt_slow_queries('300 ms') WHERE query ~ 'pg_sleep'"), '4 1',
    'the threshold can be set; most time in all first');
  is(seen("SELECT count(*) FROM pgopt_slow_queries('1 hour')"), 0, 'nothing takes an hour');
  is(seen('SELECT count(*) FROM pgopt_slow_queries(NULL, NULL, 3)'), 3, 'without a limit, as many rows as asked');
  cmp_ok(seen('SELECT count(*) FROM pgopt_slow_queries(NULL, NULL, NULL)'), '>', 10, 'or all');
  is(seen('SELECT round(sum(total_percent)) BETWEEN 98 AND 102 FROM pgopt_slow_queries(NULL, NULL, NULL)'), 't', 'shares add up to 100 %');
  # who may not see others' texts sees their own only
  sql('GRANT EXECUTE ON FUNCTION pgopt_slow_queries(interval, interval, integer) TO other');
  is($node->safe_psql('app', "SELECT pg_sleep(0.01); SELECT count(*) > 0, bool_and(user_name = 'other') FROM pgopt_slow_queries(NULL)",
    extra_params => [ '-U', 'other' ]), "\nt|t", 'others see their own statements only');
  ($code, $out, $err) = $node->psql('app', 'SELECT * FROM pgopt_slow_queries(max_rows => -1)');
  like($err, qr/max_rows must not be negative/, 'a negative number of rows');
  # the example's views, under the names and columns that its users know
  my $example = "$FindBin::RealBin/../../examples/legislative/monitoring.sql";
  is($node->psql('app', "\\i $example"), 0, 'the example is made');
  is(sql("SELECT count(*) FROM v_slow_queries WHERE query ~ 'pg_sleep'"), 1, 'v_slow_queries: a second');
  $node->psql('app', "\\set slow '300 ms'\n\\i $example");
  is(sql("SELECT string_agg(calls::text, ' ' ORDER BY mean_ms) FROM v_slow_queries WHERE query ~ 'pg_sleep'"), '4 1', 'or as long as asked');
  is(sql("SELECT string_agg(attname, ', ' ORDER BY attrelid::regclass::text, attnum) FROM pg_attribute WHERE attrelid = ANY ('{v_slow_queries, v_index_usage, v_table_sizes}'::regclass[]) AND attnum > 0"),
    'schema_name, table_name, index_name, scans, rows_read, index_bytes, index_size, usage, query, calls, mean_ms, max_ms, total_ms, rows, hit_percent, '
    . 'schema_name, table_name, kind, estimated_rows, total_bytes, total_size, table_size, index_size', 'columns of the example');
  is(sql("SELECT (SELECT count(*) > 0 FROM v_index_usage WHERE usage IN ('unused', 'rarely_used', 'active')), (SELECT total_bytes > 20000000 FROM v_table_sizes LIMIT 1)"), 't|t',
    'and their rows');
  # the server was started without it
  $node->safe_psql('postgres', "ALTER SYSTEM SET shared_preload_libraries = 'pgopt'");
  $node->restart;
  ($code, $out, $err) = $node->psql('app', 'SELECT * FROM pgopt_slow_queries()');
  like($err, qr/ERROR:  pg_stat_statements was not loaded when the server started/, 'not preloaded: an error');
  like($err, qr/HINT:  Add it in postgresql.conf and restart: shared_preload_libraries = 'pgopt, pg_stat_statements'\.$/m, 'that says what to do');
}
$node->stop;
done_testing();
