-- Draws the queries that search is measured with from the texts, and writes them down in search_query. Called by
-- bench/search_corpus.sh after the peers' tables are filled.
--
-- Single words: the two whose share of the documents is nearest to 1, 10, 30 and 49 %. Several words: from each of three
-- texts, the first 3, 4 and 8 different words that neither almost all documents hold nor almost none.

\set ON_ERROR_STOP on
DROP TABLE IF EXISTS search_query;
CREATE TABLE search_query (class text, position int, words int, query text, alternatives text, share numeric,
                           PRIMARY KEY (class, position));
COMMENT ON COLUMN search_query.alternatives IS 'the same words as text of a tsquery, with |';
COMMENT ON COLUMN search_query.share IS 'percent of the documents that hold one of the words';

-- Stems and the percentage of the documents that hold them, by every twentieth document; each with its commonest form.
CREATE TEMP TABLE stem AS
SELECT word AS stem, 100.0 * ndoc / (SELECT count(*) FROM peer_gin WHERE id % 20 = 0) AS share
  FROM ts_stat('SELECT tsv FROM peer_gin WHERE id % 20 = 0');
CREATE TEMP TABLE word AS
SELECT t.n, w.place, lower(w.word) AS word, (ts_lexize('portuguese_stem', lower(w.word)))[1] AS stem
  FROM search_text AS t, regexp_split_to_table(t.text, '[^[:alpha:]]+') WITH ORDINALITY AS w (word, place)
 WHERE length(w.word) >= 3;
CREATE TEMP TABLE known AS
SELECT stem, mode() WITHIN GROUP (ORDER BY word) AS word, min(s.share) AS share
  FROM word JOIN stem AS s USING (stem)
 GROUP BY stem;

INSERT INTO search_query
SELECT format('1 word, %s %%', target), k.position, 1, k.word, k.word, NULL
  FROM unnest(ARRAY[1, 10, 30, 49]) AS target
 CROSS JOIN LATERAL (SELECT *, row_number() OVER (ORDER BY abs(share - target), word) AS position FROM known) AS k
 WHERE k.position <= 2;

INSERT INTO search_query
SELECT format('%s words', n_words), row_number() OVER (PARTITION BY n_words ORDER BY md5(n_words || ':' || n)),
       n_words, string_agg, alternatives, NULL
  FROM unnest(ARRAY[3, 4, 8]) AS n_words
 CROSS JOIN LATERAL (
       SELECT n, string_agg(word, ' ' ORDER BY place), string_agg(word, ' | ' ORDER BY place) AS alternatives,
              row_number() OVER (ORDER BY md5(n_words || ':' || n)) AS draw
         FROM (SELECT n, word, place, row_number() OVER (PARTITION BY n ORDER BY place) AS i
                 FROM (SELECT DISTINCT ON (w.n, w.stem) w.n, w.word, w.place
                         FROM word AS w JOIN known AS k USING (stem)
                        WHERE k.share BETWEEN 0.1 AND 45
                        ORDER BY w.n, w.stem, w.place) AS once) AS numbered
        WHERE i <= n_words
        GROUP BY n
       HAVING count(*) = n_words) AS drawn
 WHERE draw <= 3;

UPDATE search_query
   SET share = round(100.0 * (SELECT count(*) FROM peer_gin WHERE tsv @@ to_tsquery('portuguese', alternatives))
                     / (SELECT count(*) FROM peer_gin), 1);
