# PgoptQueries: random queries over a few small tables of many types, of every kind that a refresh by what changed has
# to get right. The same seed gives the same queries.
#
#   my $queries = PgoptQueries->new($seed);
#   $node->safe_psql($database, $queries->schema);
#   my $view = $queries->view;      # { sql => 'SELECT ...', classes => [ 'left join', 'having', ... ], ... }
package PgoptQueries;

use strict;
use warnings;

# --- chance -----------------------------------------------------------------------------------------------------------

# A generator of its own (a 64 bit linear congruential one): whatever else a test uses rand() for does not shift it.
sub new
{
  my ($class, $seed) = @_;
  my $self = bless { state => $seed, upstream => [], number => 0 }, $class;
  $self->below(2) foreach 1 .. 8;
  return $self;
}

sub below
{
  my ($self, $n) = @_;
  use integer;
  $self->{state} = $self->{state} * 6364136223846793005 + 1442695040888963407;
  return (($self->{state} >> 33) & 0x7fffffff) % $n;
}

sub chance
{
  my ($self, $percent) = @_;
  return $self->below(100) < $percent;
}

sub one_of
{
  my ($self, @choices) = @_;
  return $choices[ $self->below(scalar @choices) ];
}

# weighted(name => weight, ...): one of the names
sub weighted
{
  my ($self, @pairs) = @_;
  my $sum = 0;
  for (my $i = 1; $i < @pairs; $i += 2) { $sum += $pairs[$i]; }
  my $at = $self->below($sum);
  for (my $i = 0; $i < @pairs; $i += 2)
  {
    return $pairs[$i] if $at < $pairs[ $i + 1 ];
    $at -= $pairs[ $i + 1 ];
  }
  die 'not reached';
}

# --- the tables -------------------------------------------------------------------------------------------------------

# Every relation has id, k, kind and n. Kinds of columns: unscaled is a numeric without a scale, float holds multiples
# of a quarter, whose sums are exact in any order; long may be stored out of line.
my @common = (id => 'int', k => 'int', kind => 'text', n => 'int');
my %columns = (
  doc => { @common, b => 'bigint', m => 'numeric', u => 'unscaled', f => 'float', flag => 'bool', ts => 'timestamptz',
    d => 'date', mood => 'enum', j => 'jsonb', tags => 'array', body => 'long', twice => 'int' },
  item => { @common, doc => 'int', label => 'text', flag => 'bool', price => 'numeric' },
  part => { @common, m => 'numeric', ts => 'timestamptz' },
  part_low => { @common, m => 'numeric', ts => 'timestamptz' },
  base => { @common, d => 'date' },
  heir => { @common, d => 'date', extra => 'text' },
  dim => { @common, region => 'text', weight => 'int' },
  rare => { @common, region => 'text' },
);
my %has_key = map { $_ => 1 } qw(doc item dim);
my %is_table_class = (part => 'partitioned', part_low => 'partitioned', base => 'inherited');

# What a row of each table is made of: I is the row's number, R another. Small domains, so that groups collide and
# become empty, and NULL in all of them.
my %values = (
  k => 'nullif((I * 5 + R) % 14, 13)',
  kind => "(ARRAY['lei', 'decreto', 'portaria', 'ação', NULL])[1 + (I * 3 + R) % 5]",
  n => 'nullif((I * 11 + R) % 23, 22) - 5',
  b => 'nullif((I * 13 + R) % 17, 16) * 1000000007::bigint',
  m => '(nullif((I * 7 + R) % 40, 39) / 8.0)::numeric(10,2)',
  u => "nullif((ARRAY['1', '1.0', '2.50', '-3.1415', '0', '100.000', '7e3', NULL])[1 + (I + R) % 8], '')::numeric",
  f => 'nullif((I * 3 + R) % 29, 28) * 0.25::float8',
  flag => '(ARRAY[true, false, NULL])[1 + (I + R) % 3]',
  ts => "timestamptz '2024-01-01 02:30:00+00' + nullif((I * 17 + R) % 50, 49) * interval '37 hours'",
  d => "date '2023-11-20' + nullif((I * 19 + R) % 60, 59)",
  mood => "(ARRAY['calm', 'cross', 'dull', NULL])[1 + (I * 5 + R) % 4]::mood",
  j => "CASE (I + R) % 7 WHEN 6 THEN NULL WHEN 5 THEN '{}' ELSE jsonb_build_object('state', "
    . "(ARRAY['SP', 'RJ', 'MG', NULL])[1 + (I * 3 + R) % 4], 'n', (I * R) % 4, 'org', 'órgão ' || (I + 2 * R) % 6) END",
  tags => "CASE (I + R) % 6 WHEN 5 THEN NULL ELSE (ARRAY['a', 'b', NULL, 'c', 'd'])[1 : (I * 7 + R) % 4] END",
  body => "CASE (I * 5 + R) % 11 WHEN 0 THEN repeat('palavra ' || R, 3000) WHEN 1 THEN NULL "
    . "WHEN 2 THEN (SELECT string_agg(md5((I * 1000 + R + x)::text), '') FROM generate_series(1, 120) x) ELSE 'texto ' || R % 3 END",
  doc => 'nullif((I * 7 + R) % 60, 59)',
  label => "(ARRAY['x', 'y', 'Ya', 'ÿ', NULL])[1 + (I * 2 + R) % 5]",
  price => '(nullif((I * 9 + R) % 31, 30) / 4.0)::numeric(10,2)',
  extra => "'e' || R % 3",
  region => "(ARRAY['norte', 'sul', 'leste', NULL])[1 + (I * 3 + R) % 4]",
  weight => 'nullif((I + R) % 9, 8)',
);

# row_values($table, $i, $r, @columns): SQL expressions for a row
sub row_values
{
  my ($i, $r, @names) = @_;
  return map { my $sql = $values{$_}; $sql =~ s/\bI\b/$i/g; $sql =~ s/\bR\b/$r/g; $sql } @names;
}

# The columns that one writes to (id comes by itself).
sub written_columns
{
  my ($table) = @_;
  return grep { $_ ne 'id' && $_ ne 'twice' } sort keys %{ $columns{$table} };
}

# Columns whose place in the file differs from their number, dropped columns, partitions and children whose columns are
# in another order, a domain, a generated column.
sub schema
{
  my ($self) = @_;
  my $fill = '';
  foreach my $table (qw(doc item part base heir dim rare))
  {
    my @names = written_columns($table);
    my $rows = $table eq 'dim' ? 16 : 50;
    $fill .= "INSERT INTO $table (" . join(', ', @names) . ') SELECT ' . join(', ', row_values('i', $self->below(100), @names))
      . " FROM generate_series(1, $rows) i;\n";
  }
  return <<'SQL' . $fill;
CREATE TYPE mood AS ENUM ('dull', 'calm', 'cross');
CREATE DOMAIN small AS int CHECK (VALUE < 1000000);
CREATE SEQUENCE ids;
CREATE TABLE doc (gone text, id int PRIMARY KEY DEFAULT nextval('ids'), body text, k int, kind text, n small, b bigint,
  m numeric(10,2), gone2 int, u numeric, f float8, flag boolean, ts timestamptz, d date, mood mood, j jsonb, tags text[],
  twice int GENERATED ALWAYS AS (n * 2) STORED);
ALTER TABLE doc DROP COLUMN gone, DROP COLUMN gone2;
CREATE TABLE item (id int PRIMARY KEY DEFAULT nextval('ids'), k int, kind text, n int, doc int, label text COLLATE "C",
  flag boolean, price numeric(10,2));
CREATE INDEX ON item (k);
CREATE TABLE part (id int DEFAULT nextval('ids'), k int, kind text, n int, m numeric(10,2), ts timestamptz)
  PARTITION BY RANGE (k);
CREATE TABLE part_low PARTITION OF part FOR VALUES FROM (0) TO (5) PARTITION BY LIST (kind);
CREATE TABLE part_low_law PARTITION OF part_low FOR VALUES IN ('lei', NULL);
CREATE TABLE part_low_rest PARTITION OF part_low DEFAULT;
CREATE TABLE part_high (ts timestamptz, m numeric(10,2), gone int, n int, kind text, k int, id int DEFAULT nextval('ids'));
ALTER TABLE part_high DROP COLUMN gone;
ALTER TABLE part ATTACH PARTITION part_high FOR VALUES FROM (5) TO (10);
CREATE TABLE part_rest PARTITION OF part DEFAULT;
CREATE INDEX ON part (id);
CREATE TABLE base (id int DEFAULT nextval('ids'), k int, kind text, n int, d date);
CREATE TABLE heir (extra text, d date, n int, kind text, k int, id int DEFAULT nextval('ids'));
ALTER TABLE heir INHERIT base;
CREATE TABLE dim (id int PRIMARY KEY DEFAULT nextval('ids'), k int, kind text, n int, region text, weight int);
CREATE TABLE rare (id int DEFAULT nextval('ids'), k int, kind text, n int, region text);
CREATE VIEW laws AS SELECT id, k, kind, n FROM doc WHERE kind IN ('lei', 'decreto');
CREATE VIEW priced AS SELECT i.id, i.k, d.kind, i.n FROM item i JOIN dim d ON d.k = i.k WHERE i.price > 1;
CREATE VIEW over_laws AS SELECT l.id, l.k, coalesce(l.kind, '?') AS kind, l.n + 1 AS n FROM laws l WHERE l.n IS NOT NULL;
SQL
}

# --- expressions ------------------------------------------------------------------------------------------------------

# What can be made of a column: pairs of expression and kind. X is the column.
my %made_of = (
  int => [ 'X', 'int', 'X', 'int', 'X % 3', 'int', 'coalesce(X, 0)', 'int', 'X + 1', 'int', 'abs(X)', 'int',
    "CASE WHEN X > 3 THEN 'alto' WHEN X IS NULL THEN NULL ELSE 'baixo' END", 'text', 'X IS NULL', 'bool' ],
  bigint => [ 'X', 'bigint', 'X * 2', 'bigint' ],
  numeric => [ 'X', 'numeric', 'round(X)', 'numeric', 'X > 2', 'bool' ],
  unscaled => [ 'X', 'unscaled', 'X * 1.10', 'unscaled', 'X > 1', 'bool' ],
  float => [ 'X', 'float', 'X * 2', 'float', 'X > 3', 'bool' ],
  text => [ 'X', 'text', 'X', 'text', 'upper(X)', 'text', "coalesce(X, '-')", 'text', 'length(X)', 'int', "X || '!'", 'text',
    'left(X, 1)', 'text' ],
  bool => [ 'X', 'bool', 'NOT X', 'bool', 'coalesce(X, false)', 'bool' ],
  timestamptz => [ 'X', 'timestamptz', "date_trunc('month', X)", 'timestamptz', "date_trunc('day', X)", 'timestamptz',
    'extract(year FROM X)::int', 'int', 'X::date', 'date', "to_char(X, 'YYYY-MM')", 'text' ],
  date => [ 'X', 'date', "date_trunc('month', X)", 'timestamptz', 'X + 1', 'date', 'extract(month FROM X)::int', 'int' ],
  enum => [ 'X', 'enum', 'X::text', 'text' ],
  jsonb => [ "X->>'state'", 'text', "X->>'org'", 'text', "(X->>'n')::int", 'int', 'X', 'jsonb', "X ? 'state'", 'bool' ],
  array => [ 'X', 'array', 'X[1]', 'text', 'array_length(X, 1)', 'int' ],
  long => [ 'length(X)', 'int', 'md5(X)', 'text', 'X', 'long', 'left(X, 9)', 'text' ],
);
my %is_key = map { $_ => 1 } qw(int bigint numeric text bool timestamptz date enum array);
my %is_ordered = map { $_ => 1 } qw(int bigint numeric unscaled float text timestamptz date enum array);

# A column of the sources, of a kind in %$kinds if given: [ sql, kind ] or nothing
sub column
{
  my ($self, $sources, $kinds) = @_;
  my $source = $self->one_of(@$sources);
  my $from = $source->{columns};
  my @names = grep { !$kinds || $kinds->{ $from->{$_} } } sort keys %$from;
  return unless @names;
  my $name = $self->one_of(@names);
  return [ "$source->{alias}.$name", $from->{$name} ];
}

sub expression
{
  my ($self, $sources, $kinds) = @_;
  while (1)
  {
    my $column = $self->column($sources);
    my $made = $made_of{ $column->[1] };
    my $i = 2 * $self->below(@$made / 2);
    my ($sql, $kind) = ($made->[$i], $made->[ $i + 1 ]);
    next if $kinds && !$kinds->{$kind};
    $sql =~ s/\bX\b/$column->[0]/g;
    $self->has('date_trunc') if $sql =~ /date_trunc/;
    $self->has('expression') unless $sql eq $column->[0];
    return [ $sql, $kind ];
  }
}

sub condition
{
  my ($self, $sources) = @_;
  my $a = $sources->[ $self->below(scalar @$sources) ]{alias};
  my $number = $self->below(12);
  my $sql = $self->one_of(
    "$a.n > $number", "$a.n <= $number", "$a.kind = 'lei'", "$a.kind <> 'lei'", "$a.k IS NOT NULL", "$a.n IS NULL",
    "$a.kind LIKE '%e%'", "$a.k IN (1, 2, 3, $number)", "$a.n % 2 = 0", "coalesce($a.k, 0) < $number",
    "($a.k > $number OR $a.kind IS NULL)", "NOT ($a.n > $number AND $a.kind = 'lei')", "$a.kind IN ('lei', 'ação')",
    "$a.n BETWEEN 0 AND $number", "$a.k = ANY ('{1,3,5,7}')", "$a.kind IS DISTINCT FROM 'decreto'");
  $self->has('where');
  return $sql;
}

# --- sources ----------------------------------------------------------------------------------------------------------

sub has
{
  my ($self, $class) = @_;
  $self->{classes}{$class} = 1;
  return;
}

my @common_columns = qw(id k kind n);

# A table, view, subquery, CTE, list of values or materialized view, with an alias of its own.
sub source
{
  my ($self, $table) = @_;
  my $alias = 's' . ++$self->{number};
  my %common = @common;
  my $kind = $table ? 'table' : $self->weighted(table => 60, view => 12, subquery => 9, cte => 8, values => 3, union => 4,
    matview => @{ $self->{upstream} } ? 8 : 0);

  if ($kind eq 'table')
  {
    $table ||= $self->weighted(doc => 9, item => 7, part => 6, part_low => 1, base => 4, heir => 1, dim => 6);
    $self->has($is_table_class{$table}) if $is_table_class{$table};
    my $only = $table eq 'base' && $self->chance(15) ? 'ONLY ' : '';
    return { sql => "$only$table $alias", alias => $alias, columns => $columns{$table}, table => $table };
  }
  if ($kind eq 'view')
  {
    $self->has('view');
    return { sql => $self->one_of('laws', 'priced', 'over_laws') . " $alias", alias => $alias, columns => \%common };
  }
  if ($kind eq 'matview')
  {
    $self->has('matview');
    my $upstream = $self->one_of(@{ $self->{upstream} });
    return { sql => "$upstream $alias", alias => $alias, columns => { k => 'int', kind => 'text', n => 'int' } };
  }
  if ($kind eq 'values')
  {
    $self->has('values');
    return {
      sql => "(VALUES (1, 1, 'lei', 3), (2, 4, 'ação', NULL), (3, NULL, NULL, 7), (4, 4, 'lei', 0)) $alias (id, k, kind, n)",
      alias => $alias, columns => \%common };
  }
  if ($kind eq 'union')
  {
    $self->has('subquery');
    $self->has('union all inside');
    my @branches = map { "SELECT id, k, kind, n FROM $_" } ($self->one_of('doc', 'base', 'part'), $self->one_of('item', 'dim'));
    return { sql => '(' . join(' UNION ALL ', @branches) . ") $alias", alias => $alias, columns => \%common };
  }

  # a simple query, inline or as a CTE
  my $inner = $self->source($self->one_of('doc', 'item', 'part', 'base', 'dim'));
  my $sql = "SELECT $inner->{alias}.id, $inner->{alias}.k, upper($inner->{alias}.kind) AS kind, $inner->{alias}.n FROM $inner->{sql}";
  if ($self->chance(30))
  {
    my $other = $self->source($self->one_of('doc', 'dim'));
    $sql .= " JOIN $other->{sql} ON $other->{alias}.k = $inner->{alias}.k";
  }
  $sql .= ' WHERE ' . $self->condition([$inner]) if $self->chance(70);
  $self->has($kind);
  if ($kind eq 'cte')
  {
    my $name = 'c' . ++$self->{number};
    push @{ $self->{with} }, "$name AS " . $self->one_of('', '', 'MATERIALIZED ', 'NOT MATERIALIZED ') . "($sql)";
    return { sql => "$name $alias", alias => $alias, columns => \%common, again => $name };
  }
  return { sql => "($sql) $alias", alias => $alias, columns => \%common };
}

# How two sources are joined. Only a FULL JOIN is restricted to equalities.
sub join_condition
{
  my ($self, $a, $b, $join) = @_;
  my ($x, $y) = ($a->{alias}, $b->{alias});
  my @equal = ("$x.k = $y.k", "$x.k = $y.k", "$x.k = $y.k AND $x.kind = $y.kind", "$x.kind = $y.kind AND $x.n = $y.n",
    "$x.n = $y.n");
  push @equal, "$x.id = $y.doc" if $a->{columns}{id} && $b->{columns}{doc};
  push @equal, "$x.doc = $y.id" if $a->{columns}{doc} && $b->{columns}{id};
  return $self->one_of(@equal) if $join eq 'FULL';
  return $self->one_of(@equal, @equal, "$x.k = $y.k AND $x.n < $y.n", "$x.k = $y.k AND $y.kind = 'lei'",
    "$x.k = $y.k AND $x.n > 2", "$x.k = $y.k AND ($x.n > $y.n OR $x.kind IS NULL)", "$x.k + 1 = $y.k AND $y.n > 0");
}

# FROM and the conditions that come with it: { sql, sources, conditions }
sub from_clause
{
  my ($self, $most) = @_;
  my $n = $self->weighted(1 => 40, 2 => 40, 3 => 20);
  $n = $most if $most && $n > $most;
  my @sources = ($self->source);
  my ($sql, @conditions) = ($sources[0]{sql});
  my $commas = $self->chance(25);

  foreach my $i (2 .. $n)
  {
    my $previous = $self->one_of(@sources);
    my $again = $previous->{again};
    my $next;
    if ($again && $self->chance(50))
    {
      my $alias = 's' . ++$self->{number};
      $next = { %$previous, sql => "$again $alias", alias => $alias };
      $self->has('cte twice');
    }
    elsif ($previous->{table} && $self->chance(20))
    {
      $next = $self->source($previous->{table});
      $self->has('self-join');
    }
    else
    {
      $next = $self->source;
    }
    my $join = $commas ? ',' : $self->weighted(INNER => 40, LEFT => 25, RIGHT => 12, FULL => 13, USING => 10);
    $self->has($join =~ /LEFT|RIGHT|FULL/ ? lc($join) . ' join' : 'inner join');
    if ($join eq ',')
    {
      $sql .= ", $next->{sql}";
      push @conditions, $self->join_condition($previous, $next, 'INNER');
    }
    elsif ($join eq 'USING' && $i == 2)
    {
      $sql .= ' ' . $self->one_of('', 'LEFT ') . "JOIN $next->{sql} USING (k)";
    }
    else
    {
      $join = 'INNER' if $join eq 'USING';
      $sql .= " $join JOIN $next->{sql} ON " . $self->join_condition($previous, $next, $join);
    }
    push @sources, $next;
  }
  $self->has("$n tables") if $n > 2;
  $self->has('join') if $n > 1;

  push @conditions, $self->condition(\@sources) while $self->chance(35);
  push @conditions, $self->semijoin(\@sources) while $self->chance(14);
  return { sql => $sql, sources => \@sources, conditions => \@conditions };
}

sub semijoin
{
  my ($self, $sources) = @_;
  my $a = $self->one_of(@$sources)->{alias};
  my $inner = $self->source($self->one_of('doc', 'item', 'part', 'base', 'dim'));
  my $b = $inner->{alias};
  my $more = $self->chance(50) ? ' AND ' . $self->condition([$inner]) : '';
  my $not = $self->chance(45) ? 'NOT ' : '';
  if ($self->chance(50))
  {
    $self->has(lc($not) . 'exists');
    my $on = $self->one_of("$b.k = $a.k", "$b.k = $a.k AND $b.n > $a.n", "$b.kind = $a.kind AND $b.n = $a.n");
    return "${not}EXISTS (SELECT " . $self->one_of('1', '', "$b.*") . " FROM $inner->{sql} WHERE $on$more)";
  }
  $self->has(lc($not) . 'in');
  return "($a.k, $a.kind) ${not}IN (SELECT $b.k, $b.kind FROM $inner->{sql} WHERE $b.n > 3$more)" if $self->chance(25);
  my $never_null = $not && $self->chance(70) ? " AND $b.k IS NOT NULL" : '';
  return "$a.k ${not}IN (SELECT $b.k FROM $inner->{sql} WHERE $b.n > 3$never_null$more)";
}

sub where_clause
{
  my ($from) = @_;
  return @{ $from->{conditions} } ? ' WHERE ' . join(' AND ', @{ $from->{conditions} }) : '';
}

# --- aggregates -------------------------------------------------------------------------------------------------------

my %ints = (int => 1);
my %integers = (int => 1, bigint => 1);
my %numbers = (int => 1, bigint => 1, numeric => 1, unscaled => 1);
my %numbers_and_floats = (%numbers, float => 1);
my %texts = (text => 1);
my %bools = (bool => 1);
my %listed = (int => 1, text => 1, date => 1, enum => 1, numeric => 1);

# name => [ class, kinds of the argument, SQL with X, how it is compared ]
my @aggregates = (
  [ 'count(*)', 'count', undef, 'count(*)' ],
  [ 'count(x)', 'count', \%is_key, 'count(X)' ],
  [ 'sum', 'sum', \%numbers, 'sum(X)' ],
  [ 'sum', 'sum', \%integers, 'coalesce(sum(X), 0)' ],
  [ 'avg', 'avg', \%numbers, 'avg(X)' ],
  [ 'avg', 'avg', \%integers, 'round(avg(X), 2)' ],
  [ 'min', 'min', \%is_ordered, 'min(X)' ],
  [ 'max', 'max', \%is_ordered, 'max(X)' ],
  [ 'both', 'max', \%integers, 'max(X) - min(X)' ],
  [ 'distinct', 'count(distinct)', \%is_key, 'count(DISTINCT X)' ],
  [ 'sum distinct', 'sum(distinct)', \%integers, 'sum(DISTINCT X)' ],
  [ 'bool', 'bool_and/or', \%bools, 'bool_and(X)' ],
  [ 'bool', 'bool_and/or', \%bools, 'bool_or(X)' ],
  [ 'bool', 'bool_and/or', \%ints, 'every(X > 0)' ],
  [ 'string_agg', 'string_agg(distinct)', \%texts, "string_agg(DISTINCT X, ', ')" ],
  [ 'string_agg', 'string_agg(distinct)', \%texts, "string_agg(DISTINCT X, ', ' ORDER BY X DESC)", undef, 'same' ],
  [ 'string_agg ordered', 'string_agg', \%texts, "string_agg(X, ',' ORDER BY X)" ],
  [ 'array_agg', 'array_agg', \%listed, 'array_agg(X)', 'sorted' ],
  [ 'array_agg', 'array_agg(distinct)', \%listed, 'array_agg(DISTINCT X)' ],
  [ 'array_agg ordered', 'array_agg', \%listed, 'array_agg(X ORDER BY X)' ],
  [ 'float', 'float sum', { float => 1 }, 'sum(X)', 'rounded' ],
  [ 'float', 'float sum', { float => 1 }, 'avg(X)', 'rounded' ],
  [ 'stddev', 'stddev', \%numbers, 'stddev(X)' ],
  [ 'stddev', 'stddev', { float => 1 }, 'var_pop(X)', 'rounded' ],
  [ 'ordered set', 'ordered set', \%ints, 'percentile_disc(0.5) WITHIN GROUP (ORDER BY X)' ],
  [ 'bits', 'bit_and', \%ints, 'bit_or(X)' ],
  [ 'json', 'jsonb_agg', \%texts, 'jsonb_agg(X ORDER BY X)' ],
  [ 'two', 'expression of aggregates', \%ints, 'sum(X)::numeric / nullif(count(X), 0)' ],
);

sub aggregate
{
  my ($self, $sources) = @_;
  while (1)
  {
    my ($name, $class, $kinds, $sql, $compare, $same) = @{ $self->one_of(@aggregates) };
    my $argument = ['', ''];
    if ($kinds)
    {
      my $possible = grep { my $s = $_; grep { $kinds->{$_} } values %{ $s->{columns} } } @$sources;
      next unless $possible;
      # sorting by an expression asks for the same one twice
      $argument = $same ? $self->column($sources, $kinds) : $self->expression($sources, $kinds);
      next unless $argument;
      $sql =~ s/\bX\b/$argument->[0]/g;
    }
    $self->has($class);
    if ($self->chance(12) && $sql =~ /^[a-z_]+\(/ && $name !~ /two|both/ && $sql !~ /^(coalesce|round)/)
    {
      $sql .= ' FILTER (WHERE ' . $self->condition($sources) . ')';
      $self->has('filter');
    }
    return { sql => $sql, compare => $compare // '' };
  }
}

# --- queries ----------------------------------------------------------------------------------------------------------

# A text of a column that is equal when the values are. What has no order of its own is sorted, and sums of floats that
# were added in another order may differ in their last digits.
my %compared = ('' => 'NAME', sorted => 'ARRAY(SELECT e FROM unnest(NAME) e ORDER BY e)', rounded => 'round(NAME::numeric, 6)');

sub output
{
  my ($self, $i, $expression, $compare) = @_;
  my $name = "c$i";
  (my $compared = $compared{ $compare // '' }) =~ s/NAME/$name/g;
  push @{ $self->{compared} }, $compared;
  return "$expression AS $name";
}

sub plain
{
  my ($self, $distinct) = @_;
  my $from = $self->from_clause;
  my @list = map { $self->output($_, $self->expression($from->{sources}, $distinct ? \%is_key : undef)->[0]) } 1 .. 1 + $self->below(4);
  $self->has($distinct ? 'distinct' : @{ $from->{sources} } > 1 ? 'plain join' : 'plain');
  my $order = !$distinct && $self->chance(10) ? ' ORDER BY 1' : '';
  return 'SELECT ' . ($distinct ? 'DISTINCT ' : '') . join(', ', @list) . " FROM $from->{sql}" . where_clause($from) . $order;
}

sub grouped
{
  my ($self, $global) = @_;
  my $from = $self->from_clause;
  my $sources = $from->{sources};
  my (@list, @keys);
  my $i = 0;

  my ($keyed) = grep { $_->{table} && $has_key{ $_->{table} } } @$sources;
  if ($global)
  {
    $self->has('global');
  }
  elsif ($keyed && $self->chance(10))
  {
    # the other columns depend on the primary key
    $self->has('group by primary key');
    @keys = ("$keyed->{alias}.id");
    push @list, $self->output(++$i, "$keyed->{alias}.$_") foreach 'id', 'kind', 'n';
  }
  else
  {
    foreach (1 .. $self->weighted(1 => 40, 2 => 40, 3 => 20))
    {
      my $key = $self->expression($sources, \%is_key)->[0];
      push @keys, $key;
      push @list, $self->output(++$i, $key) if $self->chance(90);
    }
    $self->has('group by');
  }
  foreach (1 .. 1 + $self->below(4))
  {
    my $aggregate = $self->aggregate($sources);
    push @list, $self->output(++$i, $aggregate->{sql}, $aggregate->{compare});
  }
  my $having = '';
  if ($self->chance(20))
  {
    $self->has('having');
    my $n = $sources->[0]{alias} . '.n';
    $having = ' HAVING ' . $self->one_of('count(*) > 1', 'count(*) % 2 = 0', "sum($n) > 3", "max($n) IS NOT NULL",
      "min($n) < 0 OR count(*) > 3", "count(DISTINCT $n) > 1");
  }
  return 'SELECT ' . join(', ', @list) . " FROM $from->{sql}" . where_clause($from)
    . (@keys ? ' GROUP BY ' . join(', ', @keys) : '') . $having;
}

sub united
{
  my ($self, $word) = @_;
  $self->has(lc $word);
  my @branches;
  foreach (1 .. 2 + $self->below(2))
  {
    my $from = $self->from_clause(2);
    my $a = $self->one_of(@{ $from->{sources} })->{alias};
    push @branches, "SELECT $a.k AS c1, " . $self->one_of("$a.kind", "upper($a.kind)", "'x'") . " AS c2, $a.n AS c3"
      . " FROM $from->{sql}" . where_clause($from);
  }
  $self->{compared} = [qw(c1 c2 c3)];
  return join(" $word ", @branches);
}

# view(): a query. In the result are its SQL, what makes its rows comparable, which classes it is of, and how many
# leading columns are its group's key.
sub view
{
  my ($self) = @_;
  $self->{classes} = {};
  $self->{with} = [];
  $self->{compared} = [];
  $self->{number} = 0;
  my $kind = $self->weighted(group => 50, plain => 20, distinct => 8, global => 7, 'union all' => 8, union => 7);
  my $sql = $kind eq 'group' ? $self->grouped(0)
    : $kind eq 'global' ? $self->grouped(1)
    : $kind eq 'plain' ? $self->plain(0)
    : $kind eq 'distinct' ? $self->plain(1)
    : $self->united(uc $kind);
  $sql = 'WITH ' . join(', ', @{ $self->{with} }) . " $sql" if @{ $self->{with} };
  return { sql => $sql, compared => 'ROW(' . join(', ', @{ $self->{compared} }) . ')::text', classes => [ sort keys %{ $self->{classes} } ] };
}

# upstream(NAME...): materialized views with columns k, kind and n that later queries may read
sub upstream
{
  my ($self, @names) = @_;
  push @{ $self->{upstream} }, @names;
  return;
}

1;
