# The example's search: its index and functions, with the parameters, columns and order that its users call.
use strict;
use warnings;
use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;
use PgoptTest;

my $examples = "$FindBin::RealBin/../../examples/legislative";
my $node = pgopt_node('example', extension => 'legislative');
my @psql = ('psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('legislative'));
sub sql { return $node->safe_psql('legislative', $_[0]); }

command_ok([ @psql, '-f', "$examples/schema.sql" ], 'schema');
$ENV{PGHOST} = $node->host;
$ENV{PGPORT} = $node->port;
command_ok([ "$examples/load.sh", 'legislative' ], 'sample');
command_ok([ @psql, '-f', "$examples/views.sql" ], 'views');
my $distribution = 'SELECT state, document_count, latest_document, transport_related FROM get_document_distribution_by_state()';
my $by_table = sql($distribution);
command_ok([ @psql, '-f', "$examples/search.sql" ], 'search');
command_ok([ @psql, '-f', "$examples/search.sql" ], 'search, once more');

is(sql(q{SELECT pg_get_function_arguments('search_documents_ranked'::regproc) || ' -> ' || pg_get_function_result('search_documents_ranked'::regproc)}),
	'search_query text, doc_types text[] DEFAULT NULL::text[], states text[] DEFAULT NULL::text[], limit_count integer DEFAULT 50'
	  . ' -> TABLE(id bigint, title text, rank real, headline text)',
	'search_documents_ranked() as its users call it');

# every answer matches, in the order of the scores, and nothing better is left out
is(sql(q{
	SELECT count(*) = 50, bool_and(rank <= previous), bool_and(headline LIKE '%<b>%'), count(DISTINCT id) = 50
	  FROM (SELECT *, coalesce(lag(rank) OVER (), 'Infinity') AS previous FROM search_documents_ranked('licitação transporte saúde')) AS s}),
	't|t|t|t', 'fifty documents, best first, with headlines');
is(sql(q{
	SELECT count(*) > 0, bool_and(d.document_type = 'PL'), bool_and(d.metadata->>'state' IN ('SP', 'RJ'))
	  FROM search_documents_ranked('educação', ARRAY['PL'], ARRAY['SP', 'RJ'], 50) AS s JOIN legislative_documents AS d USING (id)}),
	't|t|t', 'types and states are kept to');
is(sql(q{SELECT count(*) FROM search_documents_ranked('educação', ARRAY['PL'], ARRAY['SP', 'RJ'], 1000)}),
	sql(q{SELECT count(*) FROM legislative_documents AS d WHERE d @@@ 'educação' AND document_type = 'PL' AND metadata->>'state' IN ('SP', 'RJ')}),
	'all of them');
is(sql(q{SELECT count(*) FROM search_documents_ranked('educação', ARRAY['PL'], ARRAY['SP', 'RJ'], 2147483647)}),
	sql(q{SELECT count(*) FROM search_documents_ranked('educação', ARRAY['PL'], ARRAY['SP', 'RJ'], 1000)}),
	'any limit will do');
is(sql(q{SELECT string_agg(id::text, ' ') FROM search_documents_ranked('licitacao')}),
	sql(q{SELECT string_agg(id::text, ' ') FROM search_documents_ranked('LICITAÇÃO')}),
	'accents and case make no difference');
is(sql(q{SELECT count(*) FROM search_documents_ranked('de para com')}), 0, 'stop words find nothing');
is(sql($distribution), $by_table, 'the distribution out of the index is that of the table');
is(sql(q{SELECT bool_and(similarity > 0.3) FROM find_similar_titles((SELECT title FROM legislative_documents ORDER BY id LIMIT 1))}),
	't', 'titles that look alike');
is(sql(q{SELECT count(*) FROM pgopt_search_verify('legislative_documents_search_idx')}), 0, 'the index is sound');
$node->stop;
done_testing();
