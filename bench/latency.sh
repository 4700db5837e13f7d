#!/bin/sh
# bench/latency.sh: how soon after a commit a materialized view is fresh.
#
#  1. Commits with pauses on an idle server, one view with strategy immediate over 10,000 rows. From the commit (the
#     time that the server gave it, before it was flushed: last_change of pgopt_table_changes) to the start of the
#     refresh (started_at of pgopt.refresh_log: written at its end, so rather late than early), and from the commit to
#     the new content, by polling the view every millisecond. With a refresh worker that still lingers from the last
#     refresh ("warm"), and after a pause in which it ended ("cold": a process is started). As a witness, a view
#     whose query notes its own time.
#  2. What a user would do instead: LISTEN/NOTIFY with a psql loop that looks every 100 ms, and a trigger that
#     refreshes in the writer's transaction, with its cost to the writers. pg_cron once a minute is simple to tell:
#     30 s in the mean, 60 s at worst.
#  3. A view of priority 1 while slow views (5 s each) are refreshed all the time, against the same without them.
# Printed: median, 95th percentile, greatest; milliseconds.
#   COMMITS=200 COLD=20 SLOW=100 WRITE_SECONDS=5 bench/latency.sh
set -eu
top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$top/script/lib.sh"
. "$top/bench/lib.sh"

commits=${COMMITS:-200}
cold=${COLD:-20}
slow=${SLOW:-100}
write_seconds=${WRITE_SECONDS:-5}

bench_begin
new_server main "shared_preload_libraries = 'pgopt'"
start_server main
sql main <<'SQL'
CREATE EXTENSION pgopt;
CREATE TABLE item (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind int NOT NULL, amount int NOT NULL);
INSERT INTO item (kind, amount) SELECT i % 100, i FROM generate_series(1, 10000) i;
CREATE MATERIALIZED VIEW item_by_kind AS
  SELECT kind, count(*) AS items, sum(amount) AS amount, max(id) AS last_id FROM item GROUP BY kind;
CREATE UNIQUE INDEX ON item_by_kind (kind);
CREATE MATERIALIZED VIEW item_witness AS SELECT max(id) AS last_id, clock_timestamp() AS queried_at FROM item;
CREATE UNIQUE INDEX ON item_witness (last_id);
CREATE TABLE slow_item (n int);
INSERT INTO slow_item SELECT generate_series(1, 10);
DO $$
BEGIN
  FOR i IN 1..4 LOOP
    EXECUTE format('CREATE MATERIALIZED VIEW slow_%s AS SELECT %s AS id, count(*) AS items,
      (SELECT pg_sleep(5))::text AS slept FROM slow_item WITH NO DATA', i, i);
  END LOOP;
END $$;
CREATE TABLE sample (run text, mark bigint, committed timestamptz, returned timestamptz, visible timestamptz,
                     slow_running int);
VACUUM ANALYZE;

-- n commits with pauses; after each, waits until the view shows it. Not seen within 30 s: visible stays null.
CREATE PROCEDURE write_and_watch(run text, view regclass, n int, shortest float8, longest float8) LANGUAGE plpgsql AS $$
DECLARE
  mark bigint;
  seen bigint;
  returned timestamptz;
  visible timestamptz;
  sleeping int;
BEGIN
  FOR i IN 1..n LOOP
    PERFORM pg_sleep(shortest + random() * (longest - shortest));
    SELECT count(*) INTO sleeping FROM pg_stat_activity WHERE backend_type LIKE 'pgopt%' AND wait_event = 'PgSleep';
    COMMIT;
    INSERT INTO item (kind, amount) VALUES (i % 100, i) RETURNING id INTO mark;
    COMMIT;
    returned := clock_timestamp();
    LOOP
      EXECUTE format('SELECT max(last_id) FROM %s', view) INTO seen;
      visible := CASE WHEN seen >= mark THEN clock_timestamp() END;
      COMMIT;
      EXIT WHEN seen >= mark OR clock_timestamp() > returned + interval '30 seconds';
      PERFORM pg_sleep(0.001);
    END LOOP;
    INSERT INTO sample SELECT run, mark, (SELECT last_change FROM pgopt_table_changes WHERE relation = 'item'::regclass),
      returned, visible, sleeping;
    COMMIT;
  END LOOP;
END $$;

CREATE FUNCTION summary(what text, milliseconds float8[]) RETURNS text LANGUAGE sql AS $$
  SELECT format('  %s %s %s %s %s', rpad(what, 58), lpad(count(*)::text, 5),
    lpad(round((percentile_cont(0.5) WITHIN GROUP (ORDER BY m))::numeric, 1)::text, 8),
    lpad(round((percentile_cont(0.95) WITHIN GROUP (ORDER BY m))::numeric, 1)::text, 8),
    lpad(round(max(m)::numeric, 1)::text, 8)) FROM unnest(milliseconds) m WHERE m IS NOT NULL;
$$;

-- from the commit to the first refresh that started after it
CREATE FUNCTION to_start(run_name text, of regclass) RETURNS float8[] LANGUAGE sql AS $$
  SELECT array_agg(extract(epoch FROM l.started_at - s.committed) * 1000)
    FROM sample s, LATERAL (SELECT started_at FROM pgopt.refresh_log l WHERE l.view = of::oid
                              AND l.outcome = 'refreshed' AND l.started_at >= s.committed ORDER BY started_at LIMIT 1) l
   WHERE s.run = run_name;
$$;

CREATE FUNCTION to_content(run_name text) RETURNS float8[] LANGUAGE sql AS $$
  SELECT array_agg(extract(epoch FROM s.visible - s.committed) * 1000) FROM sample s WHERE s.run = run_name;
$$;
SQL

header() {
  printf '  %-58s %5s %8s %8s %8s\n' "milliseconds" n median p95 greatest
}

manage() {
  ask main "SELECT pgopt_manage('$1', '$2', NULL, NULL, $3)" >/dev/null
}

settle() {
  wait_until 60 main "the refreshes to end" \
    "SELECT NOT EXISTS (SELECT FROM pgopt_matviews WHERE state IN ('due', 'refreshing', 'retrying'))"
}

# watch RUN VIEW COMMITS SHORTEST LONGEST
watch() {
  sql main -c "CALL write_and_watch('$1', '$2', $3, $4, $5)" </dev/null
}

lost() {
  n=$(ask main "SELECT count(*) FROM sample WHERE run LIKE '$1' AND visible IS NULL")
  [ "$n" = 0 ] || say "  $n commits were not visible within 30 s"
}

# --- 1 ---
quiet "1. strategy immediate, $commits commits 150 to 350 ms apart; $cold commits 6 to 7 s apart"
manage item_by_kind immediate 1
settle
watch warmup item_by_kind 3 0.2 0.3
watch warm item_by_kind "$commits" 0.15 0.35
header
ask main "SELECT summary('commit to start of the refresh', to_start('warm', 'item_by_kind'));
  SELECT summary('commit to visible new content', to_content('warm'));
  SELECT summary('  of which the refresh itself', (SELECT array_agg(extract(epoch FROM duration) * 1000) FROM pgopt.refresh_log
    WHERE view = 'item_by_kind'::regclass AND started_at >= (SELECT min(committed) FROM sample WHERE run = 'warm')))"
lost warm
watch cold item_by_kind "$cold" 6 7
ask main "SELECT summary('commit to start of the refresh, process started for it', to_start('cold', 'item_by_kind'));
  SELECT summary('commit to visible new content, process started for it', to_content('cold'))"
lost cold
manage item_by_kind manual 1
manage item_witness immediate 1
settle
# the witness is refreshed CONCURRENTLY; its query's time is read in the procedure's own pauses
ask main "CREATE TABLE witness (last_id bigint, queried_at timestamptz);
  CREATE PROCEDURE watch_witness(n int) LANGUAGE plpgsql AS \$\$
  BEGIN
    FOR i IN 1..n LOOP
      CALL write_and_watch('witness', 'item_witness', 1, 0.15, 0.35);
      INSERT INTO witness SELECT last_id, queried_at FROM item_witness;
      COMMIT;
    END LOOP;
  END \$\$"
ask main "CALL watch_witness($((commits / 4 + 1)))"
ask main "SELECT summary('commit to the view''s query, by a view that notes it', array_agg(extract(epoch FROM w.queried_at - s.committed)
    * 1000)) FROM witness w JOIN sample s ON s.run = 'witness' AND s.mark = w.last_id"
manage item_witness manual 1

# --- 2 ---
quiet "2. instead of pgopt: LISTEN/NOTIFY and a psql loop that looks every 100 ms"
sql main <<'SQL'
CREATE FUNCTION notify_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NOTIFY item_changed; RETURN NULL; END $$;
CREATE TRIGGER notify_change AFTER INSERT OR UPDATE OR DELETE ON item EXECUTE FUNCTION notify_change();
SQL
rm -f "$stage/stop"
{
  echo 'LISTEN item_changed;'
  while [ ! -e "$stage/stop" ]; do
    sleep 0.1
    echo 'SELECT 1 WHERE false;'
  done
} | sql main -At 2>/dev/null | while read -r line; do
  case $line in
    *item_changed*) sql main -c 'REFRESH MATERIALIZED VIEW CONCURRENTLY item_by_kind' </dev/null ;;
  esac
done &
listener=$!
sleep 1
watch listen item_by_kind $((commits / 4 + 1)) 0.3 0.5
touch "$stage/stop"
wait "$listener" || true
sql main -c 'DROP TRIGGER notify_change ON item' </dev/null
header
ask main "SELECT summary('commit to visible new content, LISTEN/NOTIFY', to_content('listen'))"
lost listen

quiet "   cost to the writers: single-row INSERTs for $write_seconds s, prepared, synchronous_commit on"
sql main <<'SQL'
CREATE FUNCTION refresh_now() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN REFRESH MATERIALIZED VIEW CONCURRENTLY item_by_kind; RETURN NULL; END $$;
SQL
echo 'INSERT INTO item (kind, amount) VALUES (1, 1);' >"$stage/insert.sql"
printf '  %-58s %14s %14s\n' "" "ms, 1 client" "ms, 4 clients"
# write_cost CLIENTS: milliseconds a transaction, on a table of the same size each time
write_cost() {
  sql main -c 'DELETE FROM item WHERE id > 12000' -c 'VACUUM item' </dev/null
  tps main -M prepared -c "$1" -j 1 -T "$write_seconds" -f "$stage/insert.sql" >/dev/null
  sed -n 's/^latency average = \([0-9.]*\) ms/\1/p' "$stage/pgbench.out"
}
for _ in 1 2 3; do
  for way in none immediate trigger; do
    case $way in
      immediate) manage item_by_kind immediate 1 ;;
      trigger) sql main -c 'CREATE TRIGGER refresh_now AFTER INSERT ON item EXECUTE FUNCTION refresh_now()' </dev/null ;;
    esac
    write_cost 1 >>"$stage/cost.$way.1"
    write_cost 4 >>"$stage/cost.$way.4"
    case $way in
      immediate) manage item_by_kind manual 1 ;;
      trigger) sql main -c 'DROP TRIGGER refresh_now ON item' </dev/null ;;
    esac
  done
done
for way in "none:view not refreshed" "immediate:pgopt, immediate (refreshes run beside the writers)" "trigger:trigger with REFRESH CONCURRENTLY"; do
  printf '  %-58s %14.2f %14.2f\n' "${way#*:}" "$(median <"$stage/cost.${way%%:*}.1")" "$(median <"$stage/cost.${way%%:*}.4")"
done
sql main -c 'DELETE FROM item WHERE id > 12000' -c 'VACUUM item' </dev/null

# --- 3 ---
quiet "3. a view of priority 1 beside 4 slow ones (5 s each, priority 5) that change all the time"
manage item_by_kind immediate 1
rm -f "$stage/stop"
# two writers' worth of changes for the slow views, twice a second, throughout
while [ ! -e "$stage/stop" ]; do
  echo 'UPDATE slow_item SET n = n + 1 WHERE n = (SELECT min(n) FROM slow_item);'
  sleep 0.5
done | sql main >/dev/null &
writer=$!

# slow_views STRATEGY: all of them
slow_views() {
  for i in 1 2 3 4; do manage "slow_$i" "$1" 5; done
  if [ "$1" = immediate ]; then
    wait_until 60 main "two slow refreshes at once" \
      "SELECT count(*) >= $2 FROM pg_stat_activity WHERE backend_type LIKE 'pgopt%' AND wait_event = 'PgSleep'"
  else
    wait_until 60 main "the slow refreshes to end" \
      "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'pgopt%' AND wait_event = 'PgSleep'"
  fi
}

quarter=$(((slow + 3) / 4))
for block in without with with without without with with without; do
  case $block in with) slow_views immediate 2 ;; *) slow_views manual ;; esac
  watch "$block" item_by_kind $(((quarter + 1) / 2 * 2)) 0.15 0.35
done
header
for block in without with; do
  ask main "SELECT summary('commit to start, $block slow refreshes', to_start('$block', 'item_by_kind'));
    SELECT summary('commit to visible new content, $block slow refreshes', to_content('$block'))"
done
lost 'with%'
say "  slow refreshes running at those commits: $(ask main "SELECT round(avg(slow_running), 2) || ' in the mean, at least one at '
  || round(100.0 * count(*) FILTER (WHERE slow_running > 0) / count(*)) || ' %' FROM sample WHERE run = 'with'")"
say "  the same with pgopt.max_refresh_workers = 1, as a single loop over the views would do it:"
ask main "ALTER SYSTEM SET pgopt.max_refresh_workers = 1" >/dev/null
ask main "SELECT pg_reload_conf()" >/dev/null
slow_views manual
slow_views immediate 1
watch one item_by_kind $(((slow + 9) / 10)) 0.15 0.35
ask main "SELECT summary('commit to start, beside slow refreshes, one worker', to_start('one', 'item_by_kind'))"
touch "$stage/stop"
wait "$writer" || true
