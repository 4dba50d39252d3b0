#!/bin/bash
# `make fuzz`: builds the fuzz targets with libFuzzer and the sanitizers, and runs each for its share of the time.
#
#   fuzz.sh MINUTES [TARGET...]     all targets, or the ones named: heap, pageheap, options
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
fi

# Leak detection cannot know what the collector keeps, and a fake stack would hide pointers from it.
export ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0:allocator_may_return_null=1
export UBSAN_OPTIONS=print_stacktrace=1

cmake --preset fuzz -B "$build" >/dev/null || exit 1
cmake --build "$build" -j"${JOBS:-$(nproc 2>/dev/null || echo 2)}" --target fuzzers || exit 1

seconds=$((minutes * 60 / ${#targets[@]}))
[ "$seconds" -gt 0 ] || seconds=1
failed=0
mkdir -p "$build/crashes"
for target in "${targets[@]}"; do
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
