# A standby that is promoted writes on: the file of its index may be shorter than the primary's, whose unused pages at
# the end were never written.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use PgoptTest;

my $primary = pgopt_node('primary', extension => 'app', conf => "autovacuum = off\n");
$primary->safe_psql('app', q{
	CREATE TABLE docs (id int, body text);
	CREATE INDEX docs_search ON docs USING pgopt_bm25 (body) WITH (pending_limit = 64)});
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

# rows come, a third goes, VACUUM merges and frees pages
sub write_round
{
	my ($node, $from, $round) = @_;
	$node->safe_psql('app', "INSERT INTO docs SELECT g, 'casa rio ' || md5(g::text) FROM generate_series($from, $from + 200 + $round * 271 % 700) g");
	$node->safe_psql('app', "DELETE FROM docs WHERE id % 3 = $round % 3");
	$node->safe_psql('app', 'VACUUM docs');
}
my $pages = "SELECT pg_relation_size('docs_search') / 8192";
my ($longer, $shorter) = (0, 0);
for my $round (0 .. 99)
{
	write_round($primary, $round * 1000, $round);
	next if $round < 5;
	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('write'));
	($longer, $shorter) = ($primary->safe_psql('app', $pages), $standby->safe_psql('app', $pages));
	last if $longer > $shorter;
}
cmp_ok($longer, '>', $shorter, 'the file is shorter on the standby');
is($standby->safe_psql('app', 'SELECT count(*) FROM docs d WHERE d @@@ \'casa\''),
	$primary->safe_psql('app', 'SELECT count(*) FROM docs'), 'the standby finds every row');

$primary->stop('immediate');
$standby->promote;
is($standby->safe_psql('app', 'SELECT count(*) FROM pgopt_search_verify(\'docs_search\')'), 0, 'sound after promotion');
write_round($standby, 100000 + $_ * 1000, $_) for (0 .. 19);
is($standby->safe_psql('app', 'SELECT count(*) FROM pgopt_search_verify(\'docs_search\')'), 0, 'sound after more writes');
is($standby->safe_psql('app', 'SELECT count(*) FROM docs d WHERE d @@@ \'casa\''),
	$standby->safe_psql('app', 'SELECT count(*) FROM docs'), 'and every row is found');
$standby->stop;
done_testing();
