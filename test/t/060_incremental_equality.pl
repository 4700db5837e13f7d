# Incremental refreshes are compared with the views' definitions, each in the snapshot of the refresh, while eight
# clients write. Views, writes and refreshes are random; the seed is printed, and PGOPT_SEED repeats it.
# PGOPT_EQUALITY_REFRESHES  how many incremental refreshes to compare (150; make equality: 10000)
# PGOPT_EQUALITY_SECONDS    how long at most
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use PgoptTest;
use PgoptViews;
use PgoptEquality;

my $wanted = $ENV{PGOPT_EQUALITY_REFRESHES} // 150;
my $seconds = $ENV{PGOPT_EQUALITY_SECONDS} // ($wanted > 1000 ? 7200 : 18);
my $is_long = $wanted > 1000;
my $seed = $ENV{PGOPT_SEED} // int(rand(1_000_000));
note("PGOPT_SEED=$seed");

my $node = pgopt_node('main', conf => equality_conf());
my %sum = map { $_ => 0 } qw(incremental differences control control_wrong all);
my (%classes, @refused, @failed, @damaged, %errors);
my $epochs = 0;
my $begun = time();

while ($sum{incremental} < $wanted && $sum{differences} < 10 && time() - $begun < $seconds)
{
  my $left = $seconds - (time() - $begun);
  my $epoch = run_epoch($node,
    seed => $seed + $epochs++,
    views => $is_long ? 24 : 14,
    refreshes => $is_long ? 600 : $wanted,
    seconds => $is_long && $left > 120 ? 120 : $left,
    interferes => $is_long || $epochs % 2 == 0,
    limit => $epochs % 4 == 0 ? '1MB' : undef);
  $sum{$_} += $epoch->{$_} foreach keys %sum;
  $classes{$_} += $epoch->{classes}{$_} foreach keys %{ $epoch->{classes} };
  push @refused, $epoch->{refused} if $epoch->{refused};
  push @failed, $epoch->{failed} if $epoch->{failed};
  push @damaged, $epoch->{damaged} if $epoch->{damaged};
  $errors{$_} = 1 foreach @{ $epoch->{errors} };
  note("epoch $epochs (seed $epoch->{seed}): $epoch->{incremental} incremental of $epoch->{all} refreshes, "
      . "$epoch->{differences} with a difference; control wrong in $epoch->{control_wrong} of $epoch->{control}; "
      . started() . ' s so far');
}

note("seed $seed: $sum{incremental} incremental refreshes compared, $sum{differences} with a difference, $epochs epochs");
note('incremental refreshes of each class: ' . join(', ', map { "$_ $classes{$_}" } sort keys %classes));
note("never refreshed incrementally:\n" . join("\n", @refused)) if @refused;
is($sum{differences}, 0, "every refresh gave what the definition gives (seed $seed)") or diag(join("\n\n", @failed));
cmp_ok($sum{incremental}, '>', $is_long ? $wanted - 1 : 20, 'enough of them were incremental');
# few tries may all be lucky
SKIP:
{
  skip "the wrong frontier was tried $sum{control} times only", 1 if $sum{control} < 60;
  cmp_ok($sum{control_wrong}, '>', 0, "a frontier without the list of running transactions is found to be wrong ($sum{control} tries)");
}
is("@damaged", '', 'indexes are sound');
is(join("\n", sort keys %errors), '', 'nobody got an error that is not of his own making');
if ($is_long)
{
  my @none = grep { !$classes{$_} } sort keys %classes;
  is("@none", '', 'queries of every class were refreshed incrementally');
}
no_crash($node);
$node->stop;
note('took ' . started() . ' s');
done_testing();
