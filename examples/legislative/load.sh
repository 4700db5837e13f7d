#!/bin/sh
# load.sh DATABASE [FILE]: load documents into legislative_documents.
# Without FILE the sample; with it real documents, a `kind TAB text` a line, plain or gzipped.
# PGHOST, PGPORT and PGUSER say where, as for psql. Documents that are there already stay as they are.
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
case ${1-} in
'' | -*)
  sed -n '2,4s/^# //p' "$0" >&2
  exit 2
  ;;
esac
database=$1
file=${2-}

run() { psql -X -q -v ON_ERROR_STOP=1 -d "$database" "$@"; }
count() { run -At -c 'SELECT count(*) FROM legislative_documents'; }

if [ -n "$file" ] && [ ! -r "$file" ]; then
  echo "load.sh: cannot read $file" >&2
  exit 1
fi
before=$(count)
if [ -z "$file" ]; then
  run -f "$here/load_sample.sql" <"$here/sample/bills.tsv"
elif gzip -t "$file" 2>/dev/null; then
  gzip -dc "$file" | tr -d '\r' | run -f "$here/load_texts.sql"
else
  tr -d '\r' <"$file" | run -f "$here/load_texts.sql"
fi
after=$(count)
echo "$((after - before)) documents loaded, $after in all"
if [ "$after" -eq 0 ]; then
  echo "load.sh: no line of the form 'kind TAB text' in $file" >&2
  exit 1
fi
