#!/bin/bash
# `make fuzz`: builds the fuzz targets with libFuzzer and the sanitizers, and runs each for its share of the time.
#
#   fuzz.sh MINUTES [TARGET...]     all targets, or the ones named: heap, pageheap, options, differential
#
# The last is another thing: fuzz/differential, the drop-in beside the stock libgc.so.1, from the release build.
#
# What was learned stays in build/fuzz/corpus/TARGET and is built upon the next time.  An input that breaks something is
# named at the end; the same program runs it again when the file is its argument.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

minutes=$1
shift
build=${MIDDEN_FUZZ_BUILD:-build/fuzz}
targets=("$@")
if [ $# -eq 0 ]; then
  for source in fuzz/fuzz_*.c; do
    name=$(basename "$source" .c)
    targets+=("${name#fuzz_}")
  done
  targets+=(differential)
fi

# Leak detection cannot know what the collector keeps, and a fake stack would hide pointers from it.
export ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0:allocator_may_return_null=1
export UBSAN_OPTIONS=print_stacktrace=1

jobs=${JOBS:-$(nproc 2>/dev/null || echo 2)}
if [ "${targets[*]}" != differential ]; then
  cmake --preset fuzz -B "$build" >/dev/null || exit 1
  cmake --build "$build" -j"$jobs" --target fuzzers || exit 1
fi

# The logs of a seed that differs stay in build/release/fuzz/differential-SEED.
run_differential() {
  cmake --preset release >/dev/null || return 1
  cmake --build --preset release -j"$jobs" --target differential libgc >/dev/null || return 1
  local stock
  stock=$(sed -n 's/^STOCK_LIBGC:FILEPATH=//p' build/release/CMakeCache.txt)
  if [ ! -e "$stock" ]; then
    echo "fuzz: there is no stock libgc.so.1: the drop-in's modes are compared among themselves"
    stock=none
  fi
  (cd build/release/fuzz &&
    bash ../../../fuzz/differential/compare.sh ./differential .. "$stock" 600 --seconds "$1")
}

seconds=$((minutes * 60 / ${#targets[@]}))
[ "$seconds" -gt 0 ] || seconds=1
failed=0
mkdir -p "$build/crashes"
for target in "${targets[@]}"; do
  if [ "$target" = differential ]; then
    echo "fuzz: differential for $seconds s"
    run_differential "$seconds" || failed=1
    continue
  fi
  corpus=$build/corpus/$target
  mkdir -p "$corpus"
  echo "fuzz: $target for $seconds s"
  if ! "$build/fuzz/fuzz_$target" -max_total_time="$seconds" -max_len=4096 -len_control=0 -timeout=30 -rss_limit_mb=4096 \
    -print_final_stats=1 -artifact_prefix="$build/crashes/$target-" "$corpus" >"$build/$target.log" 2>&1; then
    grep -E 'FAILED|midden: |ERROR|runtime error' "$build/$target.log" | tail -n 5
    # By its age: fuzz_options takes standard error for itself while the parser runs.
    artifact=$(find "$build/crashes" -name "$target-*" -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d' ' -f2-)
    echo "fuzz: $target FAILED, see $build/$target.log; again with: $build/fuzz/fuzz_$target $artifact"
    failed=1
  else
    grep -E 'number_of_executed_units' "$build/$target.log"
  fi
done
[ "$failed" -eq 0 ] && echo "fuzz: nothing found"
exit "$failed"
