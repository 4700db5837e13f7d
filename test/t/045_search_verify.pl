# Verification of search indexes: pages that are damaged are told and raise errors, never more; a standby can verify, too;
# a build that is cancelled leaves nothing.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use PgoptTest;

my $node = pgopt_node('damaged', extension => 'app', conf => "autovacuum = off\n");
sub sql { return $node->safe_psql('app', $_[0]); }

sql(<<'SQL');
CREATE TABLE docs (id int, title text, body text, kind text);
INSERT INTO docs SELECT i, 'Projeto ' || i % 50, 'licitação transporte escolar lei ' || i || ' relator' || i % 77, 'K' || i % 3 FROM generate_series(1, 4000) i;
CREATE INDEX docs_search ON docs USING pgopt_bm25 (title, body, kind pgopt_filter_ops);
INSERT INTO docs SELECT i, 'Emenda ' || i, 'contrato público ' || i, NULL FROM generate_series(5001, 5100) i;
SQL
my $verify = q{SELECT count(*) FROM pgopt_search_verify('docs_search')};
my $search = q{SELECT count(*) FROM (SELECT FROM docs d WHERE d @@@ 'licitação contrato' ORDER BY d <@> 'licitação contrato' LIMIT 20) s};
is(sql($verify), 0, 'sound');
is(sql($search), 20, 'searched');

# a standby, which does not see what the primary damages behind its back
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
sql(q{INSERT INTO docs SELECT i, 'Emenda ' || i, 'contrato público ' || i, NULL FROM generate_series(6001, 6100) i;
	DELETE FROM docs WHERE id % 10 = 0; VACUUM docs});
$node->wait_for_catchup($standby);
is($standby->safe_psql('app', $verify), 0, 'sound on the standby');
is($standby->safe_psql('app', $search), 20, 'searched on the standby');
$standby->stop;

# One kind of damage after the other, each to a file as it was.
sql('CHECKPOINT');
my $file = $node->data_dir . '/' . sql(q{SELECT pg_relation_filepath('docs_search')});
my $pages = sql(q{SELECT pg_relation_size('docs_search') / 8192});
$node->stop;
my $whole = slurp_file($file);

sub write_file
{
  my ($content) = @_;
  open(my $handle, '+<', $file) or die "$file: $!";
  binmode $handle;
  print $handle $content;
  close $handle;
}

sub damaged
{
  my ($name, $change) = @_;
  my $content = $whole;
  $change->(\$content);
  write_file($content);
  $node->start;
  my ($status, $found, $errors) = $node->psql('app', $verify);
  ok($status == 0 ? $found > 0 : $errors =~ /corrupted|invalid page/, "$name: told") or diag("$status $found $errors");
  ($status, undef, $errors) = $node->psql('app', $search);
  ok($status == 0 || $errors =~ /corrupted|invalid page/, "$name: a search works, or says why it does not") or diag($errors);
  $node->stop;
}

damaged('meta page', sub { substr(${ $_[0] }, 24, 4) = "\0\0\0\0" });
damaged('free list', sub { substr(${ $_[0] }, 8192 + 24, 8) = "\xff" x 8 });
damaged('empty page', sub { substr(${ $_[0] }, 8192 * 8, 8192) = "\0" x 8192 });
damaged('owner', sub { substr(${ $_[0] }, 8192 * 6 - 16, 8) = "\x63" . "\0" x 7 });
damaged('two pages exchanged', sub {
  my $third = substr(${ $_[0] }, 8192 * 3, 8192);
  substr(${ $_[0] }, 8192 * 3, 8192) = substr(${ $_[0] }, 8192 * 4, 8192);
  substr(${ $_[0] }, 8192 * 4, 8192) = $third;
});
foreach my $page (2 .. ($pages > 12 ? 12 : $pages - 1))
{
  damaged("content of page $page", sub { substr(${ $_[0] }, 8192 * $page + 24, 600) = "\xa5" x 600 });
}

# blocks beyond the end: of a segment's header, and of the extent that is free
damaged('block number', sub { substr(${ $_[0] }, 24 + 112, 4) = "\xff" x 4 });
is(-s $file, length $whole, 'the file does not grow');
{
  my $content = $whole;
  substr($content, 8192 + 24, 24) = pack('LLLLQ', 1, 0, $pages, 0x10000000, 0);
  write_file($content);
  $node->start;
  my (undef, undef, $errors) = $node->psql('app', q{INSERT INTO docs VALUES (7001, 'x', 'y', 'z')});
  like($errors, qr/corrupted at block 1/, 'an extent that is free far beyond the end is told');
  $node->stop;
  is(-s $file, length $whole, 'and the file does not grow');
}

substr($whole, 8192 * 4, 8192) = "\0" x 8192;
write_file($whole);
$node->start;
isnt(sql($verify), 0, 'damaged');
sql('REINDEX INDEX docs_search');
is(sql($verify), 0, 'REINDEX mends it');

# cancelled in the middle
sql(q{CREATE TABLE words AS SELECT (SELECT string_agg(md5((i * j)::text), ' ') FROM generate_series(1, 100) j) AS t FROM generate_series(1, 5000) i});
my ($status, undef, $errors) = $node->psql('app', q{SET statement_timeout = '300ms'; SET maintenance_work_mem = '1MB'; CREATE INDEX ON words USING pgopt_bm25 (t)});
like($errors, qr/statement timeout/, 'a build is cancelled');
is(sql(q{SELECT count(*) FROM pg_ls_tmpdir()}), 0, 'and leaves no temporary files');
$node->stop;
done_testing();
