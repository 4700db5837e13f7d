-- Times statements against each other: what is to be measured goes into statement, and comes out in measured. Read by the
-- benchmarks of search.

\set ON_ERROR_STOP on
DROP TABLE IF EXISTS statement, measured;
CREATE TABLE statement (kind text, kind_order int, class text, position int, method text, repeats int, statement text);
CREATE TABLE measured (kind text, class text, position int, method text, round int, ms float8, rows bigint);

-- Round 0 warms up and is forgotten. The methods of a query run in turn, and in reverse order in every other round.
CREATE OR REPLACE PROCEDURE measure(rounds int) LANGUAGE plpgsql AS $$
DECLARE
  q record;
  s record;
  begun timestamptz;
  found bigint;
BEGIN
  FOR round IN 0..rounds LOOP
    FOR q IN SELECT DISTINCT kind, class, position, md5(kind || class || position || round) FROM statement ORDER BY md5 LOOP
      FOR s IN
        SELECT st.method, st.statement, i
          FROM statement AS st, generate_series(1, CASE WHEN round = 0 THEN 1 ELSE repeats END) AS i
         WHERE (kind, class, position) = (q.kind, q.class, q.position)
         ORDER BY i, hashtext(method) * CASE round % 2 WHEN 0 THEN 1 ELSE -1 END
      LOOP
        begun := clock_timestamp();
        EXECUTE s.statement;
        GET DIAGNOSTICS found = ROW_COUNT;
        INSERT INTO measured VALUES (q.kind, q.class, q.position, s.method, round,
          extract(epoch FROM clock_timestamp() - begun) * 1000, found);
      END LOOP;
      COMMIT;
    END LOOP;
  END LOOP;
  DELETE FROM measured WHERE round = 0;
END $$;
