# Shell functions that script/setup, script/test, script/demo and script/test-versions share. Source it with
#   top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P); . "$top/script/lib.sh"
#
# Servers refuse to run as root, so as root everything that starts one goes through as_user, which drops to
# the user "postgres". That user may be unable to enter the clone: what it needs is staged in a folder of its own.
# shellcheck shell=sh

PG_MAJOR=${PG_MAJOR:-15}

say() {
  printf '%s\n' "$*"
}

die() {
  printf '%s: %s\n' "$(basename -- "$0")" "$*" >&2
  exit 1
}

have() {
  command -v "$1" >/dev/null 2>&1
}

is_root() {
  [ "$(id -u)" = 0 ]
}

# The pg_config to build with: $PG_CONFIG, or that of Debian's $PG_MAJOR, or whatever is in the path.
find_pg_config() {
  if [ -n "${PG_CONFIG:-}" ]; then
    command -v "$PG_CONFIG" || die "PG_CONFIG=$PG_CONFIG is not there"
  elif [ -x "/usr/lib/postgresql/$PG_MAJOR/bin/pg_config" ]; then
    say "/usr/lib/postgresql/$PG_MAJOR/bin/pg_config"
  else
    command -v pg_config || die "no pg_config found: run script/setup"
  fi
}

# Sets PG_CONFIG, bindir, sharedir, pkglibdir, pgxs_dir and pg_num (150020 and the like).
load_pg_config() {
  PG_CONFIG=$(find_pg_config)
  export PG_CONFIG
  bindir=$("$PG_CONFIG" --bindir)
  sharedir=$("$PG_CONFIG" --sharedir)
  pkglibdir=$("$PG_CONFIG" --pkglibdir)
  pgxs_dir=$("$PG_CONFIG" --pgxs)
  pgxs_dir=${pgxs_dir%/src/makefiles/pgxs.mk}
  pg_version=$("$PG_CONFIG" --version | sed 's/^PostgreSQL \([0-9.]*\).*/\1/')
  pg_major=${pg_version%%.*}
}

# The user that servers run as, and as_user COMMAND...: run it as that user, in the present folder and environment.
server_user() {
  if is_root; then say "${PGOPT_USER:-postgres}"; else id -un; fi
}

as_user() {
  if is_root; then
    runuser -u "$(server_user)" -- env HOME="${stage:-/tmp}" USER="$(server_user)" LOGNAME="$(server_user)" "$@"
  else
    env HOME="${stage:-${HOME:-/tmp}}" "$@"
  fi
}

# give DIR...: hand folders to the user that servers run as.
give() {
  if is_root; then chown -R "$(server_user)" "$@"; fi
}

# Sets $stage to a new folder that the server's user owns and may enter. The path is short, because sockets live below.
make_stage() {
  stage=$(mktemp -d "${PGOPT_TMPDIR:-/tmp}/pgopt.XXXXXX")
  chmod 755 "$stage"
  give "$stage"
}

# working_below DIR: the processes whose working folder is below DIR; every server's is its data folder.
working_below() {
  find /proc -maxdepth 2 -path '/proc/[0-9]*/cwd' -lname "$1/*" 2>/dev/null | cut -d / -f 3
}

# remove_stage: end whatever still runs below $stage, then remove it.
remove_stage() {
  [ -n "${stage:-}" ] && [ -d "$stage" ] || return 0
  cd /
  for signal in QUIT KILL; do
    left=$(working_below "$stage")
    [ -n "$left" ] || break
    # shellcheck disable=SC2086
    kill -$signal $left 2>/dev/null || true
    for _ in 1 2 3 4 5 6 7 8 9 10; do
      [ -n "$(working_below "$stage")" ] || break
      sleep 0.2
    done
  done
  rm -rf "$stage"
  stage=
}

# A folder NAME that lives on after the script: below the tree if the server's user can use it there, else in /var/tmp.
# Sets $run_dir. Sockets need a path of at most 107 bytes, so a deep clone also goes to /var/tmp.
make_run_dir() {
  run_dir=$top/$1
  mkdir -p "$run_dir" 2>/dev/null || true
  if is_root && [ -d "$run_dir" ]; then give "$run_dir"; fi
  if [ ${#run_dir} -gt 80 ] || ! (cd / && as_user test -w "$run_dir") 2>/dev/null; then
    rmdir "$run_dir" 2>/dev/null || true
    run_dir=/var/tmp/pgopt-$(id -un)-$(printf '%s' "$top" | cksum | cut -d ' ' -f 1)/$1
    mkdir -p "$run_dir"
    chmod 755 "$(dirname "$run_dir")"
    give "$run_dir"
  fi
}

# copy_sources DIR: what a build and the tests need, with the times kept so that a second build is incremental.
copy_sources() {
  mkdir -p "$1"
  # folders are replaced file by file: what has gone from the tree goes from the copy too
  rm -rf "$1/test"
  for d in src include; do
    [ ! -d "$1/$d" ] || (cd "$1" && find "$d" -name '*.[ch]') | while read -r f; do
      [ -e "$top/$f" ] || rm -f "$1/$f" "$1/${f%.c}.o" "$1/pgopt.so"
    done
  done
  (cd "$top" && tar -cf - --exclude='*.o' --exclude='*.bc' --exclude='*.so' \
    Makefile ./*.control ./*--*.sql src include test .clang-format) | (cd "$1" && tar -xf - --no-same-owner)
}

jobs() {
  n=$(nproc 2>/dev/null || echo 1)
  [ "$n" -le 4 ] || n=4
  say "$n"
}

# build DIR [MAKE-ARGUMENT...]: build the sources that copy_sources put there; what it says goes to DIR/build.log.
build() {
  build_in=$1
  shift
  make -C "$build_in" -j"$(jobs)" with_llvm=no PG_CONFIG="$PG_CONFIG" "$@" >"$build_in/build.log" 2>&1 || {
    grep -nE '(error|warning): |\*\*\*' "$build_in/build.log" | head -n 40 >&2 || true
    return 1
  }
}

# install_staged DIR DEST: install the build of DIR under DEST, and set $staging to the server settings that
# make a server find it there: Debian's extension_destdir up to 17, extension_control_path from 18 on. A server
# that has neither (one's own build of 15 to 17) gets a real installation, if its folders can be written.
install_staged() {
  make -C "$1" -s install with_llvm=no PG_CONFIG="$PG_CONFIG" DESTDIR="$2" >"$1/install.log" 2>&1 || {
    cat "$1/install.log" >&2
    return 1
  }
  if [ "$pg_major" -ge 18 ]; then
    staging="extension_control_path = '$2$sharedir:\$system'
dynamic_library_path = '$2$pkglibdir:\$libdir'"
  elif grep -qa extension_destdir "$bindir/postgres"; then
    staging="extension_destdir = '$2'
dynamic_library_path = '$2$pkglibdir:\$libdir'"
  else
    staging=
    make -C "$1" -s install with_llvm=no PG_CONFIG="$PG_CONFIG" >"$1/install.log" 2>&1 ||
      die "$bindir has neither extension_destdir nor extension_control_path, and pgopt cannot be installed there"
  fi
}

# server_init DATADIR: initdb, in UTF-8 whatever the machine's locale is.
server_init() {
  as_user "$bindir/initdb" -D "$1" -U postgres -A trust -E UTF8 --locale=C.UTF-8 -N >/dev/null
}

# server_start DATADIR, server_stop DATADIR [MODE]
server_start() {
  as_user "$bindir/pg_ctl" -D "$1" -l "$1.log" -w -t 60 start >/dev/null 2>&1 || {
    tail -n 20 "$1.log" >&2
    return 1
  }
}

server_stop() {
  as_user "$bindir/pg_ctl" -D "$1" -m "${2:-fast}" -w -t 60 stop >/dev/null 2>&1
}

server_running() {
  as_user "$bindir/pg_ctl" -D "$1" status >/dev/null 2>&1
}
