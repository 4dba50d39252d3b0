#!/bin/sh
# Runs a real program on the stock libgc.so.1 and on midden's, and compares what they print; where there is a file
# NAME.expect, with that instead of the stock library.
#
#   run.sh NAME FOLDER plain|stress|dirty
#
# NAME.sh beside this file is the workload: it runs in an empty folder, finds its files in $SOURCES, and exits with 77
# where the program is not installed.  FOLDER holds the library under test.  "stress" collects at every so many
# allocations (as many as the workload names in a line "# stress: N"), walks the heap's structures after each collection
# and fills what is freed.  "dirty" marks beside the program, however little, by what the page
# tables tell, and again after each mark.
#
# That the library was really used is told by two witnesses: the loader's log names it and no other libgc, and its trace
# has a line for each collection.  SANITIZER_PRELOAD is loaded first into the second run: the runtime of a sanitizer
# with which the library was built, but not the program.
set -u

name=$1
folder=$(cd "$2" && pwd -P) || exit 1
mode=$3
SOURCES=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
LC_ALL=C.UTF-8
TZ=UTC
HOME=$work
export SOURCES LC_ALL TZ HOME

fail() {
  echo "$name, $mode: $1" >&2
  for file in stock.err midden.err; do
    [ ! -s "$work/$file" ] || { echo "---- $file" && grep -v '^midden: gc ' "$work/$file" | tail -n 15; } >&2
  done
  exit 1
}

# run NAME [VARIABLE=VALUE...]
run() {
  as=$1
  shift
  mkdir "$work/$as"
  (cd "$work/$as" && exec env "$@" sh -eu "$SOURCES/$name.sh") >"$work/$as.out" 2>"$work/$as.err"
}

if [ -f "$SOURCES/$name.expect" ]; then
  cp "$SOURCES/$name.expect" "$work/stock.out"
  status=0
else
  run stock
  status=$?
fi
[ "$status" -ne 77 ] || { echo "$name is not installed" && exit 77; }
[ "$status" -eq 0 ] || fail "status $status on the stock library"
[ -s "$work/stock.out" ] || fail "it printed nothing"

debug=
collector=auto
brief=
least=1
if [ "$mode" = stress ]; then
  interval=$(sed -n 's/^# stress: //p' "$SOURCES/$name.sh")
  debug=stress:$interval,verify,poison
  least=20
elif [ "$mode" = dirty ]; then
  debug=check
  collector=dirty
  brief=off
fi
run midden LD_LIBRARY_PATH="$folder" LD_DEBUG=libs LD_DEBUG_OUTPUT="$work/loaded" MIDDEN_TRACE=1 \
  MIDDEN_DEBUG="$debug" MIDDEN_MODE="$collector" MIDDEN_BRIEF_STOP="$brief" LD_PRELOAD="${SANITIZER_PRELOAD:-}"
status=$?
[ "$status" -ne 77 ] || { echo "$name is not installed" && exit 77; }
[ "$status" -eq 0 ] || fail "status $status on midden"

loaded=$(cat "$work"/loaded.* | grep -o 'calling init: .*/libgc\.so.*' | sort -u)
[ "$loaded" = "calling init: $folder/libgc.so.1" ] || fail "loaded was: $loaded"
collections=$(grep -c '^midden: gc ' "$work/midden.err")
[ "$collections" -ge "$least" ] || fail "only $collections collections"
[ "$mode" != dirty ] || grep -q '^midden: gc .*, beside the program ' "$work/midden.err" ||
  fail "no collection ran beside the program"
cmp -s "$work/stock.out" "$work/midden.out" || {
  diff "$work/stock.out" "$work/midden.out" | head -n 20 >&2
  fail "it printed something else on midden"
}
echo "$name, $mode: $(wc -l <"$work/midden.out") lines as on the stock library, $collections collections"
