# The SQL in README.md runs as printed, and does what the text around it says.
use strict;
use warnings;
use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;
use PgoptTest;

my @blocks = slurp_file("$FindBin::RealBin/../../README.md") =~ /^```sql\n(.*?)^```/msg;
cmp_ok(scalar(@blocks), '>=', 4, 'README.md has examples');

my $statements = library_installed('pg_stat_statements');
my $node = pgopt_node('readme', preload => $statements ? 'pgopt,pg_stat_statements' : 'pgopt');
@blocks = grep { $statements || !/pg_stat_statements/ } @blocks;
$node->safe_psql('postgres', 'CREATE DATABASE readme');
for my $block (@blocks)
{
	my ($first) = $block =~ /^(.*)$/m;
	my ($code, $out, $err) = $node->psql('readme', $block, on_error_stop => 1);
	is($code, 0, "runs: $first") or diag($err);
	next unless $node->safe_psql('readme', q{SELECT to_regclass('bills_by_state') IS NOT NULL}) eq 't';
	ok(poll_until($node, 'readme', q{SELECT bool_and(fresh) FROM pgopt_matviews}, 't'),
		'the view becomes fresh by itself');
}
is($node->safe_psql('readme', q{SELECT string_agg(state || pages, ' ' ORDER BY state) FROM bills_by_state}),
	'RJ7 SP12', 'and shows the rows of the examples');

# every check is described, and nothing that is none
my %described = map { $_ => 1 }
  slurp_file("$FindBin::RealBin/../../src/health/README.md") =~ /^\| `(\w+)`/mg;
my %checks = map { $_ => 1 } split /\n/, $node->safe_psql('readme', 'SELECT check_id FROM pgopt_checks()');
cmp_ok(scalar(keys %checks), '>=', 55, 'there are checks');
is(join(' ', sort grep { !$described{$_} } keys %checks), '', 'each is in src/health/README.md');
is(join(' ', sort grep { !$checks{$_} } keys %described), '', 'which lists no other');
my $settings = join "\n", slurp_file("$FindBin::RealBin/../../src/health/README.md") =~ /^\|.*$/mg;
is(join(' ', grep { !/_(info|warning|critical|rows|size|percent|minimum|sessions|share|transactions|count|accesses|calls|memory|mean)$/ && $settings !~ /\b$_\b/ }
	  split /\n/, $node->safe_psql('readme', q{SELECT substr(name, 7) FROM pg_settings WHERE name LIKE 'pgopt.%' AND context = 'user'})),
	'', 'their settings, too');
$node->stop;
done_testing();
