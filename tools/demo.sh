#!/bin/bash
# `make demo`: runs a real program, Guile with a Scheme workload, on the stock collector and on midden, and shows what
# was measured side by side.  The program is the distribution's, not recompiled and not relinked: only
# LD_LIBRARY_PATH differs.
#
#   demo.sh FOLDER    the folder that holds midden's libgc.so.1
#
# Each run must give the same output, and the loader's own report must show that it used the library that it is counted
# for and no other.  The two take turns, ROUNDS=3 times each; medians are printed, and nothing that was not measured.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(cd "$1" && pwd -P)
rounds=${ROUNDS:-3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Whatever collector options the caller has set would count for both.
unset GC_PRINT_STATS GC_PRINT_VERBOSE_STATS GC_INITIAL_HEAP_SIZE GC_MAXIMUM_HEAP_SIZE GC_MARKERS GC_NPROCS \
  GC_ENABLE_INCREMENTAL GC_LOG_FILE LD_LIBRARY_PATH LD_PRELOAD "${!MIDDEN_@}" "${!GUILE_@}"

die() {
  echo "demo: $*" >&2
  exit 1
}

guile=$(command -v guile-3.0 || command -v guile) || die "Guile is not installed"
[ -e "$folder/libgc.so.1" ] || die "there is no libgc.so.1 in $folder: run make first"
midden_library=$(readlink -f "$folder/libgc.so.1")

# The library that the loader initialised in a run, from the reports of LD_DEBUG=libs.
libraries_of() { # name of the run
  cat "$work/$1".loader.* | sed -n 's/.*calling init: \(.*\/libgc\.so[^ ]*\)$/\1/p' | sort -u |
    while read -r path; do readlink -f "$path"; done
}

run() { # name, then variables for the environment
  local name=$1 status=0
  shift
  env LD_DEBUG=libs LD_DEBUG_OUTPUT="$work/$name.loader" "$@" \
    /usr/bin/time -o "$work/$name.time" -f '%e %U %S %M' \
    "$guile" --no-auto-compile -c "(load-compiled \"$work/demo.go\")" >"$work/$name.out" 2>"$work/$name.trace" || status=$?
  if [ "$status" -ne 0 ]; then
    tail -n 5 "$work/$name.trace" >&2
    die "the program failed in run $name (status $status)"
  fi
}

# Pauses in milliseconds, one a line, from each collector's own trace.
stock_pauses() {
  sed -n 's/^World-stopped marking took \([0-9]*\) ms \([0-9]*\) ns.*/\1 \2/p' "$1" | awk '{ print $1 + $2 / 1e6 }'
}
midden_pauses() { # some cycles have two: one for trace functions comes first
  sed -n 'h; s/^midden: gc .* pause for calls \([0-9.]*\) ms.*/\1/p; g; s/^midden: gc .* pause \([0-9.]*\) ms.*/\1/p' "$1"
}

stock_collections() { stock_pauses "$1" | wc -l; }
midden_collections() { grep -c '^midden: gc .* pause ' "$1"; }

# One line a run: wall, CPU, peak MiB, collections, longest pause, all pauses.
figures() { # engine, name of the run
  local pauses
  pauses=$("$1_pauses" "$work/$2.trace" | awk '{ sum += $1; if ($1 > most) most = $1 } END { print most + 0, sum + 0 }')
  awk -v pauses="$("$1_collections" "$work/$2.trace") $pauses" 'END { print $1, $2 + $3, $4 / 1024, pauses }' "$work/$2.time"
}

one_run() { # engine, round
  local name=$1.$2 expected=$stock_library
  if [ "$1" = stock ]; then
    run "$name" GC_PRINT_STATS=1
  else
    expected=$midden_library
    run "$name" LD_LIBRARY_PATH="$folder" MIDDEN_TRACE=gc
  fi
  [ "$(libraries_of "$name")" = "$expected" ] || die "run $name used $(libraries_of "$name"), not $expected"
  cmp -s "$work/$name.out" "$work/reference.out" || die "run $name printed something else than the stock run"
  # A workload of this size cannot do without: no line means that the trace was not read, not that all is well.
  [ -n "$("$1_pauses" "$work/$name.trace")" ] || die "run $name left no trace of a collection"
  figures "$1" "$name" >>"$work/$1.figures"
  awk -v engine="$1" -v round="$2" 'END { printf "  round %s  %-6s  %6.2f s\n", round, engine, $1 }' "$work/$name.time"
}

median() { # file, column
  awk -v column="$2" '{ print $column }' "$1" | sort -g |
    awk '{ value[NR] = $1 } END { print NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2 }'
}

row() { # label, column, printf format of a figure
  local stock midden
  stock=$(median "$work/stock.figures" "$2")
  midden=$(median "$work/midden.figures" "$2")
  awk -v label="$1" -v stock="$stock" -v midden="$midden" -v format="$3" 'BEGIN {
    ratio = stock > 0 ? sprintf("%9.1f%%", 100 * midden / stock) : ""
    printf "  %-22s %12s %12s %10s\n", label, sprintf(format, stock), sprintf(format, midden), ratio
  }'
}

echo "demo: $("$guile" --version | head -n 1), examples/demo.scm, on $(uname -sm) with $(nproc) processors"
"$guile" --no-auto-compile -c "(use-modules (system base compile))
  (compile-file \"examples/demo.scm\" #:output-file \"$work/demo.go\" #:optimization-level 2)" >"$work/compile.out" 2>&1 ||
  { cat "$work/compile.out"; die "Guile cannot compile the workload"; }

# The first run, not counted, warms the file cache and tells which library is the stock one.
run reference
stock_library=$(libraries_of reference)
[ -n "$stock_library" ] || die "this Guile does not use a shared libgc"
[ "$stock_library" != "$midden_library" ] || die "the system's libgc.so.1 is midden already: nothing to compare with"
sed 's/^/demo: it says: /' "$work/reference.out"
echo "demo: stock  is $stock_library"
echo "demo: midden is $midden_library"

for ((round = 1; round <= rounds; round++)); do
  one_run stock "$round"
  one_run midden "$round"
done

echo
printf '  %-22s %12s %12s %10s\n' "median of $rounds runs" stock midden "of stock"
row "wall time, s" 1 %.2f
row "CPU time, s" 2 %.2f
row "peak memory, MiB" 3 %.1f
row "collections" 4 %.0f
row "longest pause, ms" 5 %.2f
row "all pauses, ms" 6 %.1f
echo
echo "Every run printed the same text, and the loader confirmed its library.  Pauses are what each collector's own"
echo "trace says (GC_PRINT_STATS=1 and MIDDEN_TRACE=gc, both on in all of these runs).  The last of midden's:"
grep '^midden: gc ' "$work/midden.$rounds.trace" | tail -n 4 | sed 's/^/  /'
