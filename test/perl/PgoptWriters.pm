# PgoptWriters: clients that change the tables of PgoptQueries at random, in every way that SQL has: statements of one
# row and of many, COPY, MERGE, upserts, rows that change their partition, savepoints, rollbacks, transactions that
# commit late, prepared ones. What each client sends is made from the seed; how the clients interleave is chance.
package PgoptWriters;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Utils;

use PgoptQueries;

our @EXPORT = qw(start_client stop_clients writer_script rare_script owner_script);

my %size = (doc => 50, item => 60, part => 60, base => 30, heir => 20, dim => 18, rare => 40);
my @tables = (doc => 5, item => 5, part => 5, base => 2, heir => 2, dim => 2);

sub table { return $_[0]->weighted(@tables); }

# A condition that takes a few rows; mostly those that nobody else is changing.
sub some_rows
{
  my ($q, $table) = @_;
  my $modulus = $q->one_of(5, 9, 13, 30);
  my $rows = "id % $modulus = " . $q->below($modulus);
  return $q->chance(70) ? "id IN (SELECT id FROM $table WHERE $rows FOR UPDATE SKIP LOCKED)" : $rows;
}

sub row
{
  my ($q, $i, @names) = @_;
  my $r = $q->below(1000);
  my @values = PgoptQueries::row_values($i, $r, @names);
  foreach my $at (0 .. $#names)
  {
    $values[$at] = "(SELECT id FROM doc ORDER BY id LIMIT 1 OFFSET ($i + $r) % 40)" if $names[$at] eq 'doc';
  }
  return join(', ', @values);
}

sub insert
{
  my ($q, $table, $most) = @_;
  my @names = PgoptQueries::written_columns($table);
  return "INSERT INTO $table (" . join(', ', @names) . ') SELECT ' . row($q, 'i', @names)
    . ' FROM generate_series(1, ' . (1 + $q->below($most // 6)) . ') i;';
}

sub assignments
{
  my ($q, $table) = @_;
  my %extra = (
    doc => [ 'flag = NOT flag', 'f = f + 0.25', "j = j || '{\"state\": \"RJ\"}'", 'body = body || \'.\'', "ts = ts + interval '20 days'",
      'm = m + 0.5, u = u * 1.0', 'b = -b', "tags = tags || 'z'::text", "mood = 'cross'", 'd = d + 1, n = n' ],
    item => [ 'price = price * 2', 'flag = NULL', 'label = upper(label)', 'doc = NULL', 'doc = doc + 1' ],
    part => [ 'm = m + 1', "ts = ts - interval '40 days'" ],
    base => [ 'd = d - 1' ],
    heir => [ "extra = extra || 'x'", 'd = NULL' ],
    dim => [ 'weight = weight + 1', "region = 'sul'" ],
    rare => [ "region = 'norte'" ]);
  return $q->one_of(
    'n = n + 1', 'n = n + 1', 'n = -n', 'n = NULL', "kind = 'lei'", 'kind = NULL', 'k = (k + 5) % 13', 'k = NULL',
    'k = coalesce(k, 0) + 1', 'n = n', 'k = k, kind = kind, n = n', "n = 3, kind = 'ação', k = 4",
    @{ $extra{$table} }, @{ $extra{$table} });
}

sub copy
{
  my ($q) = @_;
  my $table = $q->one_of('item', 'base', 'part', 'dim');
  my @kinds = ('lei', 'decreto', 'ação', '\N');
  my $rows = '';
  $rows .= join("\t", $q->one_of(0 .. 12, '\N'), $q->one_of(@kinds), $q->one_of(-3 .. 9, '\N')) . "\n" foreach 1 .. 1 + $q->below(5);
  return "COPY $table (k, kind, n) FROM STDIN;\n$rows\\.";
}

sub statement
{
  my ($q) = @_;
  my $table = table($q);
  my $keyed = $q->one_of('doc', 'item', 'dim');
  my $rows = some_rows($q, $table);
  my $n = $q->below(20);
  my $kind = $q->weighted(insert => 20, update => 34, delete => 9, trim => 16, copy => 5, upsert => 6, merge => 4, move => 3,
    block => 2, replica => 1);

  return insert($q, $table) if $kind eq 'insert';
  return "UPDATE $table SET " . assignments($q, $table) . " WHERE $rows;" if $kind eq 'update';
  return "DELETE FROM $table WHERE $rows;" if $kind eq 'delete';
  return "DELETE FROM $table WHERE id IN (SELECT id FROM $table ORDER BY id LIMIT greatest(0, (SELECT count(*) FROM $table) - $size{$table})"
    . ' FOR UPDATE SKIP LOCKED);'
    if $kind eq 'trim';
  return copy($q) if $kind eq 'copy';
  return "INSERT INTO $keyed (id, k, kind, n) SELECT id, k, kind, n FROM (SELECT * FROM $keyed ORDER BY id DESC LIMIT 3) t "
    . "UNION ALL SELECT nextval('ids'), $n, 'lei', 1 ON CONFLICT (id) DO UPDATE SET "
    . $q->one_of("n = $keyed.n + 1", "k = excluded.k + 1, n = $n", 'kind = upper(excluded.kind)') . ';'
    if $kind eq 'upsert';
  return "MERGE INTO part p USING (SELECT k, kind, n FROM item ORDER BY id LIMIT 5 OFFSET $n) i ON p.k = i.k AND p.n = i.n"
    . " WHEN MATCHED AND p.kind = 'lei' THEN DELETE WHEN MATCHED THEN UPDATE SET n = p.n + 1"
    . ' WHEN NOT MATCHED THEN INSERT (k, kind, n) VALUES (i.k, i.kind, i.n);'
    if $kind eq 'merge';
  return 'WITH gone AS (DELETE FROM doc WHERE ' . some_rows($q, 'doc') . ' RETURNING k, kind, n) '
    . 'INSERT INTO base (k, kind, n) SELECT * FROM gone;'
    if $kind eq 'move';
  return 'SET LOCAL session_replication_role = replica; ' . insert($q, $table) . ' SET LOCAL session_replication_role = DEFAULT;'
    if $kind eq 'replica';
  my $insert = insert($q, $table, 2);
  return "DO \$\$ BEGIN FOR attempt IN 1..4 LOOP BEGIN $insert IF attempt % 2 = 0 THEN RAISE EXCEPTION 'no'; END IF; "
    . 'EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END $$;';
}

# transaction($q, $pauses): one, with what psql needs around it
sub transaction
{
  my ($q, $pauses) = @_;
  my @lines = ($q->chance(80) ? 'BEGIN;' : 'BEGIN ISOLATION LEVEL ' . $q->one_of('REPEATABLE READ', 'SERIALIZABLE') . ';');
  my $savepoints = 0;

  return statement($q) . "\n" if $q->chance(25) && !$pauses;
  foreach (1 .. 1 + $q->below(5))
  {
    push @lines, statement($q);
    if ($q->chance(20))
    {
      push @lines, 'SAVEPOINT s' . ++$savepoints . ';';
    }
    elsif ($savepoints && $q->chance(50))
    {
      push @lines, ($q->chance(65) ? 'ROLLBACK TO' : 'RELEASE') . " s$savepoints;";
      $savepoints-- if $lines[-1] =~ /RELEASE/;
    }
    push @lines, sprintf('SELECT pg_sleep(%.2f);', 0.03 + $q->below(30) / 100) if $q->chance(12);
  }
  my $end = $q->weighted(COMMIT => 84, ROLLBACK => 10, PREPARE => 6);
  if ($end eq 'PREPARE')
  {
    # it ends after the next transactions of this client; a failed one has become a rollback
    unshift @lines, "SELECT 'w' || nextval('ids') AS gid \\gset";
    push @lines, "PREPARE TRANSACTION :'gid';";
    push @lines, sprintf('SELECT pg_sleep(%.2f);', $q->below(30) / 100), statement($q) if $q->chance(70);
    push @lines, ($q->chance(80) ? 'COMMIT' : 'ROLLBACK') . " PREPARED :'gid';";
  }
  else
  {
    push @lines, "$end;";
  }
  return join("\n", @lines) . "\n";
}

# writer_script($q, $n): n transactions of one client
sub writer_script
{
  my ($q, $n) = @_;
  my $script = "SET lock_timeout = '200ms'; SET deadlock_timeout = '50ms'; SET client_min_messages = error; SET log_min_error_statement = panic;\n";
  foreach (1 .. $n)
  {
    $script .= transaction($q) . sprintf("SELECT pg_sleep(%.3f);\n", $q->below(150) / 1000);
  }
  return $script;
}

# rare_script($q, $n): changes of the table that is changed rarely
sub rare_script
{
  my ($q, $n) = @_;
  my $script = '';
  foreach (1 .. $n)
  {
    my $act = $q->one_of(insert($q, 'rare', 4), 'UPDATE rare SET ' . assignments($q, 'rare') . ' WHERE ' . some_rows($q, 'rare') . ';',
      'DELETE FROM rare WHERE id IN (SELECT id FROM rare ORDER BY id LIMIT greatest(0, (SELECT count(*) FROM rare) - 40));');
    $script .= ($q->chance(70) ? $act : "BEGIN; $act SELECT pg_sleep(0.3); " . $q->one_of('COMMIT', 'ROLLBACK') . ';')
      . sprintf("\nSELECT pg_sleep(%.2f);\n", 0.1 + $q->below(50) / 100);
  }
  return $script;
}

# owner_script($q, $n, @views): what the owner of tables and views does now and then. It is not done while a refresh is
# being compared: TRUNCATE and rewrites take rows from under an older snapshot.
sub owner_script
{
  my ($q, $n, @views) = @_;
  my $script = "SET lock_timeout = '500ms'; SET client_min_messages = error; SET log_min_error_statement = panic;\n";
  foreach (1 .. $n)
  {
    my $table = $q->one_of('doc', 'item', 'part_low_law', 'part_high', 'part_rest', 'base', 'heir', 'dim');
    my $view = $q->one_of(@views);
    my $act = $q->one_of(
      "TRUNCATE $table;",
      "BEGIN; TRUNCATE $table; ROLLBACK;",
      "VACUUM (FULL) $table;",
      "VACUUM (ANALYZE) $table;",
      'ALTER TABLE ' . ($table =~ /part/ ? 'part' : $table) . ' ADD COLUMN IF NOT EXISTS later int DEFAULT 3;',
      "ALTER TABLE $table DISABLE TRIGGER ALL;\n" . insert($q, 'doc') . "\nDELETE FROM $table WHERE n = 3;\nALTER TABLE $table ENABLE TRIGGER ALL;",
      "ALTER TABLE $table DISABLE TRIGGER USER;\nDELETE FROM $table WHERE n = 4;\nALTER TABLE $table ENABLE TRIGGER USER;",
      "BEGIN; ALTER TABLE part DETACH PARTITION part_high; UPDATE part_high SET n = n + 1; COMMIT;\n"
        . 'ALTER TABLE part ATTACH PARTITION part_high FOR VALUES FROM (5) TO (10);',
      "BEGIN; ALTER TABLE $table RENAME n TO n2; ALTER TABLE $table RENAME n2 TO n; COMMIT;",
      "REFRESH MATERIALIZED VIEW $view;",
      "BEGIN; REFRESH MATERIALIZED VIEW $view; ROLLBACK;",
      "REINDEX TABLE $table;",
      "SELECT pgopt_manage('$view', incremental => 'never');\n" . insert($q, $table =~ /part/ ? 'part' : $table) . "\nSELECT pgopt_manage('$view', incremental => 'auto');",
      "BEGIN; DROP INDEX IF EXISTS added; CREATE INDEX added ON $table (kind); COMMIT;",
      "BEGIN; ALTER TABLE heir NO INHERIT base; ALTER TABLE heir INHERIT base; COMMIT;",
      "ALTER TABLE $table REPLICA IDENTITY FULL;",
      'TRUNCATE base, dim; ' . insert($q, 'base', 20) . ' ' . insert($q, 'dim', 15));
    $script .= sprintf("SELECT pg_sleep(%.1f);\nSELECT pg_advisory_lock(1);\n%s\n", 0.5 + $q->below(20) / 10, $act)
      . ($q->chance(50) ? '' : insert($q, $table =~ /part/ ? 'part' : $table, 4) . "\n") . "SELECT pg_advisory_unlock(1);\n";
  }
  return $script;
}

# start_client($node, $database, $name, $folder, $script): psql that runs the script over and over
sub start_client
{
  my ($node, $database, $name, $folder, $script) = @_;
  my $file = "$folder/$name.sql";
  my %client = (name => $name, out => "$folder/$name.out", err => "$folder/$name.err");
  open(my $handle, '>', $file) or die "$file: $!";
  print $handle $script;
  close($handle);
  $client{run} = IPC::Run::start(
    [ 'psql', '-XAtq', '-d', $node->connstr($database) . " application_name=$name", ('-f', $file) x 500 ],
    '<', \undef, '>', $client{out}, '2>', $client{err});
  return \%client;
}

sub stop_clients
{
  my (@clients) = @_;
  foreach my $client (@clients) { $client->{run}->signal('TERM'); }
  foreach my $client (@clients) { eval { $client->{run}->finish }; }
  return;
}

1;
