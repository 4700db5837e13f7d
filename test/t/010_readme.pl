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
$node->stop;
done_testing();
