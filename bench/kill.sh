#!/bin/bash
# bench/kill.sh: is a view ever called fresh that is not, when processes are killed under write load?
#
# ROUNDS times: 4 pgbench clients write (single rows, several tables in a transaction, rollbacks to savepoints, bulk
# inserts, TRUNCATE, prepared transactions), a random process of pgopt or of a client is killed with SIGKILL, and
# the server restarts itself. Every view that pgopt calls fresh is compared with its query, row by row:
#   under load   shortly before the kill, with the tables locked against writers for the time of the comparison
#   restarted    as soon as the server accepts connections again; prepared transactions may be left over
#   resolved     after these were committed or rolled back, as soon as that is done
#   settled      when the worker has brought every view up to date; all must be fresh, and right
# Half of the rounds run with synchronous_commit off. The last line says how many views were called fresh and were not.
#   ROUNDS=50 SEED=... bench/kill.sh     The exit code is 0 only if there was none.
set -eu
top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$top/script/lib.sh"
. "$top/bench/lib.sh"

rounds=${ROUNDS:-50}
seed=${SEED:-$(od -An -N3 -tu4 /dev/urandom | tr -d ' ')}
RANDOM=$seed

bench_begin
new_server main "shared_preload_libraries = 'pgopt'" "max_prepared_transactions = 20" "fsync = off" \
  "restart_after_crash = on" "autovacuum = on" "pgopt.worker_naptime = 1s"
start_server main
sql main <<'SQL'
CREATE EXTENSION pgopt;
CREATE TABLE a (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, k int NOT NULL, n int NOT NULL);
CREATE TABLE b (k int PRIMARY KEY, n bigint NOT NULL);
CREATE TABLE p (k int NOT NULL, n int NOT NULL) PARTITION BY RANGE (k);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (50);
CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (50) TO (100);
CREATE TABLE log (k int, n int);
INSERT INTO a (k, n) SELECT i % 100, i FROM generate_series(1, 2000) i;
INSERT INTO b SELECT i, 0 FROM generate_series(0, 99) i;
INSERT INTO p SELECT i % 100, i FROM generate_series(1, 500) i;

CREATE VIEW joined AS SELECT a.k, a.n, b.n AS m FROM a JOIN b USING (k);
CREATE MATERIALIZED VIEW m_a AS SELECT k, count(*) AS c, sum(n) AS s FROM a GROUP BY k;
CREATE UNIQUE INDEX ON m_a (k);
CREATE MATERIALIZED VIEW m_b AS SELECT * FROM b;
CREATE UNIQUE INDEX ON m_b (k);
CREATE MATERIALIZED VIEW m_joined AS SELECT k, sum(n) AS n, sum(m) AS m FROM joined GROUP BY k;
CREATE UNIQUE INDEX ON m_joined (k);
CREATE MATERIALIZED VIEW m_p AS SELECT k, sum(n) AS n FROM p GROUP BY k;
CREATE UNIQUE INDEX ON m_p (k);
CREATE MATERIALIZED VIEW m_log AS SELECT k, count(*) AS c FROM log GROUP BY k;
CREATE MATERIALIZED VIEW m_all AS SELECT (SELECT sum(n) FROM a) AS a, (SELECT sum(n) FROM b) AS b, (SELECT sum(n) FROM p) AS p;
CREATE MATERIALIZED VIEW m_a_top AS SELECT k, s FROM m_a WHERE s > 0;
CREATE UNIQUE INDEX ON m_a_top (k);
CREATE MATERIALIZED VIEW m_top AS SELECT count(*) AS c, sum(s) AS s FROM m_a_top;
SELECT pgopt_manage('m_a', 'immediate', priority => 1), pgopt_manage('m_b', 'immediate'), pgopt_manage('m_joined', 'smart', interval '2 s'),
  pgopt_manage('m_p', 'threshold', interval '2 s', 20), pgopt_manage('m_log', 'scheduled', interval '1 s'),
  pgopt_manage('m_all', 'threshold', interval '3 s', 50), pgopt_manage('m_a_top', 'immediate'),
  pgopt_manage('m_top', 'scheduled', interval '2 s', priority => 10) \g /dev/null

CREATE TABLE verdict (round int, moment text, view text, fresh boolean, wrong boolean);

CREATE FUNCTION differs(view regclass) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  different boolean;
BEGIN
  EXECUTE format('SELECT EXISTS ((TABLE %1$s EXCEPT ALL (%2$s)) UNION ALL ((%2$s) EXCEPT ALL TABLE %1$s))',
    view, rtrim(pg_get_viewdef(view), ';')) INTO different;
  RETURN different;
END $$;

-- Compares every view that is called fresh with its query. With lock, writers are kept out for that time: then all
-- that was committed is counted, because a transaction lets go of its locks after that.
CREATE FUNCTION compare(round int, moment text, lock boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v record;
BEGIN
  IF lock THEN
    LOCK TABLE a, b, p, log IN SHARE MODE;
  END IF;
  FOR v IN SELECT view, fresh FROM pgopt_matviews LOOP
    INSERT INTO verdict VALUES (round, moment, v.view::text, v.fresh, v.fresh AND differs(v.view));
  END LOOP;
END $$;
SQL

cat >"$stage/load.sql" <<'SQL'
\set k random(0, 99)
\set kind random(1, 100)
\if :kind <= 35
UPDATE b SET n = n + 1 WHERE k = :k;
\elif :kind <= 60
INSERT INTO a (k, n) VALUES (:k, 1);
\elif :kind <= 68
BEGIN;
UPDATE b SET n = n + 1 WHERE k = :k;
INSERT INTO p VALUES (:k, 1);
SAVEPOINT s;
DELETE FROM a WHERE k = :k AND id > 2000;
ROLLBACK TO s;
INSERT INTO log VALUES (:k, 1);
COMMIT;
\elif :kind <= 74
BEGIN;
INSERT INTO a (k, n) SELECT i, 1 FROM generate_series(0, 99) i;
ROLLBACK;
\elif :kind <= 80
INSERT INTO log SELECT :k, i FROM generate_series(1, 20) i;
\elif :kind <= 90
BEGIN;
INSERT INTO p VALUES (:k, 2);
INSERT INTO a (k, n) VALUES (:k, 2);
PREPARE TRANSACTION 'gid';
COMMIT PREPARED 'gid';
\elif :kind <= 95
DELETE FROM a WHERE k = :k AND id > 2000;
\elif :kind <= 99
MERGE INTO b USING (VALUES (:k)) AS s (k) ON b.k = s.k WHEN MATCHED THEN UPDATE SET n = b.n + 2;
\else
TRUNCATE log;
\endif
SQL
# each client has a prepared transaction of its own name
for c in 1 2 3 4; do sed "s/'gid'/'g$c'/g" "$stage/load.sql" >"$stage/load$c.sql"; done

ready="SELECT true"
settled="SELECT bool_and(fresh) FROM pgopt_matviews"
kinds="'pgopt worker', 'pgopt refresh', 'pgopt launcher', 'client backend'"
say "SEED=$seed"
wait_until 60 main "the first refreshes" "$settled"
[ "$(sql main -At -c 'BEGIN; UPDATE b SET n = -1 WHERE k = 7' -c "SELECT differs('m_b')" -c ROLLBACK </dev/null)" = t ] ||
  die "the comparison does not see a difference"
: >"$stage/left_over"
restarts=0
missed=0
declare -A killed

for round in $(seq "$rounds"); do
  sync=$([ $((round % 2)) = 0 ] && echo on || echo off)
  writers=
  for c in 1 2 3 4; do
    PGOPTIONS="-c synchronous_commit=$sync" bench main -c 1 -T 60 -f "$stage/load$c.sql" >"$stage/load$c.log" 2>&1 </dev/null &
    writers="$writers $!"
  done
  sleep "0.$((RANDOM % 900 + 100))"
  # the lock on four tables can be the victim of a deadlock with the writers
  until ask main "SELECT compare($round, 'under load', true)" >/dev/null 2>"$stage/compare.err"; do
    grep -q deadlock "$stage/compare.err" || die "$(cat "$stage/compare.err")"
  done
  sleep "$((RANDOM % 2)).$((RANDOM % 900 + 100))"

  # a process of a random kind; the checks' own connection is no candidate
  read -r pid kind <<<"$(sql main -At -F ' ' -c "SELECT pid, backend_type FROM (SELECT DISTINCT ON (backend_type) pid, backend_type
     FROM pg_stat_activity WHERE backend_type IN ($kinds) AND (backend_type <> 'client backend' OR application_name = 'pgbench')
     ORDER BY backend_type, random()) c ORDER BY random() LIMIT 1" </dev/null)"
  postmaster_log=$(grep -c 'all server processes terminated; reinitializing' "$stage/main.log" || true)
  kill -9 "$pid" 2>/dev/null || true
  killed[$kind]=$((${killed[$kind]:-0} + 1))

  crashed=
  for _ in $(seq 100); do
    if [ "$(grep -c 'all server processes terminated; reinitializing' "$stage/main.log" || true)" -gt "$postmaster_log" ]; then
      crashed=1
      break
    fi
    sleep 0.1
  done
  if [ -n "$crashed" ]; then restarts=$((restarts + 1)); else missed=$((missed + 1)); fi
  # shellcheck disable=SC2086
  if [ -z "$crashed" ]; then kill $writers 2>/dev/null || true; fi
  # shellcheck disable=SC2086
  wait $writers 2>/dev/null || true
  until [ "$(ask main "$ready" 2>/dev/null || true)" = t ]; do sleep 0.05; done
  begun=$(date +%s%N)

  ask main "SELECT compare($round, 'restarted', false)" >/dev/null
  for gid in $(ask main "SELECT gid FROM pg_prepared_xacts"); do
    if [ $((RANDOM % 2)) = 0 ]; then what=COMMIT; else what=ROLLBACK; fi
    sql main -c "$what PREPARED '$gid'" </dev/null
    echo "$what" >>"$stage/left_over"
  done
  ask main "SELECT compare($round, 'resolved', false)" >/dev/null
  wait_until 120 main "the views to be fresh after the restart" "$settled"
  echo $((($(date +%s%N) - begun) / 1000000)) >>"$stage/settle_ms"
  ask main "SELECT compare($round, 'settled', false)" >/dev/null
  [ -z "${VERBOSE:-}" ] || say "round $round: killed $kind, all fresh after $(tail -n 1 "$stage/settle_ms") ms"
done

say ""
say "$rounds rounds, $restarts restarts of the server$([ "$missed" = 0 ] || echo ", $missed kills of a process that had gone")"
for kind in "${!killed[@]}"; do say "  killed: $kind ${killed[$kind]} times"; done
say "  prepared transactions left over: $(wc -l <"$stage/left_over")"
say "  all views fresh again after the server accepted connections: median $(median <"$stage/settle_ms") ms," \
  "longest $(sort -n "$stage/settle_ms" | tail -n 1) ms"
ask main "SELECT format('  %s %s verdicts, %s of them fresh, %s of these wrong', rpad(moment, 12), count(*), count(*) FILTER (WHERE fresh),
    count(*) FILTER (WHERE wrong)) FROM verdict GROUP BY moment ORDER BY moment"
ask main "SELECT format('  WRONG in round %s, %s: %s', round, moment, view) FROM verdict WHERE wrong"
wrong=$(ask main "SELECT count(*) FROM verdict WHERE wrong")
say "views called fresh that were not: $wrong"
[ "$wrong" = 0 ]
