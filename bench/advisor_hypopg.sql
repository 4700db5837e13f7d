-- A peer: what can be had with HypoPG from outside the server, as dexter, pg_idx_advisor's like and the "Extend" of
-- Schlosser et al. (ICDE 2019) do it: B-trees on single columns first, then columns appended to what was chosen, each
-- time the step that saves most cost per byte, by EXPLAIN of all statements that name the table's columns, within the
-- budget by HypoPG's own sizes. At most two columns wide, as the tools that people use.

\set ON_ERROR_STOP on
CREATE EXTENSION IF NOT EXISTS hypopg;

CREATE TABLE IF NOT EXISTS bench.peer_cost (name text, indexes text, cost float8, PRIMARY KEY (name, indexes));

-- Columns that statements name, by the names alone: keywords and strings are gone.
CREATE OR REPLACE VIEW bench.peer_column AS
SELECT s.name, a.attrelid::regclass AS tbl, quote_ident(a.attname) AS col
  FROM bench.statement AS s, pg_attribute AS a, pg_class AS c
 WHERE c.oid = a.attrelid AND c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT attisdropped
   AND regexp_replace(s.query, '''[^'']*''', '', 'g') ~* ('\m' || c.relname || '\M')
   AND regexp_replace(s.query, '''[^'']*''', '', 'g') ~* ('\m' || a.attname || '\M')
   AND EXISTS (SELECT FROM pg_opclass WHERE opcintype = a.atttypid AND opcmethod = 403 AND opcdefault
               UNION ALL SELECT WHERE a.atttypid = 'varchar'::regtype);

CREATE OR REPLACE PROCEDURE bench.peer_extend(configuration text, budget float8, condition text, width int DEFAULT 2)
LANGUAGE plpgsql AS $$
DECLARE
  begun timestamptz := clock_timestamp();
  chosen_statements text[];
  chosen text[] := '{}';            -- "table (columns)"
  step record;
  candidate text;
  tried text[];
  best text[];
  best_ratio float8;
  now_cost float8;
  now_bytes float8;
  cost float8;
  bytes float8;
  calls int := 0;
  affected text[];
  s text;
  part float8;
  i text;
  key text;
BEGIN
  EXECUTE 'SELECT array_agg(name) FROM bench.statement WHERE ' || condition INTO chosen_statements;
  CREATE TEMP TABLE IF NOT EXISTS peer_now (name text PRIMARY KEY, cost float8);
  TRUNCATE peer_now, bench.peer_cost;
  PERFORM hypopg_reset();
  INSERT INTO peer_now SELECT name, bench.plan_cost(query) FROM bench.statement WHERE name = ANY (chosen_statements);
  calls := cardinality(chosen_statements);
  now_bytes := 0;
  LOOP
    best := NULL;
    best_ratio := 0;
    FOR step IN
      SELECT DISTINCT NULL::text AS gone, format('%s (%s)', tbl, col) AS come, tbl
        FROM bench.peer_column WHERE name = ANY (chosen_statements)
      UNION
      SELECT DISTINCT c, regexp_replace(c, '\)$', ', ' || p.col || ')'), p.tbl
        FROM unnest(chosen) AS c JOIN bench.peer_column AS p ON c LIKE p.tbl || ' (%' AND p.name = ANY (chosen_statements)
       WHERE array_length(string_to_array(c, ','), 1) < width AND c !~ ('\m' || p.col || '\M')
    LOOP
      CONTINUE WHEN step.come = ANY (chosen);
      tried := array_append(array_remove(chosen, step.gone), step.come);
      PERFORM hypopg_reset();
      bytes := 0;
      FOREACH i IN ARRAY tried LOOP
        bytes := bytes + (SELECT hypopg_relation_size(indexrelid) FROM hypopg_create_index('CREATE INDEX ON ' || i));
      END LOOP;
      CONTINUE WHEN bytes > budget OR bytes <= now_bytes;
      cost := 0;
      FOR s, part IN SELECT n.name, n.cost FROM peer_now AS n LOOP
        IF EXISTS (SELECT FROM bench.peer_column WHERE name = s AND tbl = step.tbl) THEN
          SELECT string_agg(t, ';' ORDER BY t) INTO key FROM unnest(tried) AS t
           WHERE EXISTS (SELECT FROM bench.peer_column AS p WHERE p.name = s AND t LIKE p.tbl || ' (%');
          SELECT p.cost INTO part FROM bench.peer_cost AS p WHERE p.name = s AND p.indexes = key;
          IF NOT FOUND THEN
            SELECT bench.plan_cost(query) INTO part FROM bench.statement WHERE name = s;
            calls := calls + 1;
            INSERT INTO bench.peer_cost VALUES (s, key, part);
          END IF;
        END IF;
        cost := cost + part;
      END LOOP;
      now_cost := (SELECT sum(n.cost) FROM peer_now AS n);
      IF (now_cost - cost) / greatest(bytes - now_bytes, 8192) > best_ratio AND cost < now_cost * 0.9999 THEN
        best_ratio := (now_cost - cost) / greatest(bytes - now_bytes, 8192);
        best := tried;
      END IF;
    END LOOP;
    EXIT WHEN best IS NULL;
    chosen := best;
    PERFORM hypopg_reset();
    now_bytes := 0;
    FOREACH i IN ARRAY chosen LOOP
      now_bytes := now_bytes + (SELECT hypopg_relation_size(indexrelid) FROM hypopg_create_index('CREATE INDEX ON ' || i));
    END LOOP;
    UPDATE peer_now AS n SET cost = bench.plan_cost(query) FROM bench.statement AS st WHERE st.name = n.name;
    calls := calls + cardinality(chosen_statements);
  END LOOP;
  INSERT INTO bench.configuration (name, author, budget, ms) VALUES
    (configuration, 'HypoPG, ' || calls || ' plans', budget, extract(epoch FROM clock_timestamp() - begun) * 1000);
  PERFORM hypopg_reset();
  INSERT INTO bench.advice (configuration, place, ddl, predicted)
  SELECT configuration, n, 'CREATE INDEX ON ' || c, (SELECT hypopg_relation_size(indexrelid) FROM hypopg_create_index('CREATE INDEX ON ' || c))
    FROM unnest(chosen) WITH ORDINALITY AS u (c, n);
  PERFORM hypopg_reset();
END $$;
