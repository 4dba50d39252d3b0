#!/bin/bash
# `make check`: builds midden in five ways, runs every test in each (with the thread sanitizer those of barrier mode), and
# ends with a table and the line "N passed, N failed".  Exit status 0 only if nothing failed and every build had tests.
#
#   check.sh [PRESET...]    only these builds
#
# Tests that look at no build (label "source": documents, formatting, models of the protocols, the stock library) run in the first
# one, and those that take system calls away (label "fault") in all but clang's.
#
# A build that breaks counts as one failed test.  Output of builds and tests is kept in build/PRESET.log.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

jobs=$(nproc 2>/dev/null || echo 2)
presets=("$@")
[ $# -gt 0 ] || presets=(release debug asan release-clang tsan)
table=()
total_passed=0
total_failed=0
total_skipped=0

note() { printf '\n==== %s\n' "$*"; }

add_row() { # preset passed failed skipped seconds remark
  table+=("$(printf '%-15s %7s %7s %8s %7ss  %s' "$@")")
  total_passed=$((total_passed + $2))
  total_failed=$((total_failed + $3))
  total_skipped=$((total_skipped + $4))
}

build() { # preset
  local targets=(all tests)
  [ "$1" != tsan ] || targets=(tsan)
  cmake --preset "$1" && cmake --build --preset "$1" -j"$jobs" --target "${targets[@]}"
}

# The outcome of each test, one line a test, as ctest reports it.
count() { # log pattern
  grep -E '^ *[0-9]+/[0-9]+ +Test +#' "$1" | grep -cE "$2"
}

run_preset() { # preset
  local preset=$1 start=$SECONDS log=build/$1.log selection=() without='^$'
  if [ "$preset" = release-clang ] && ! command -v clang >/dev/null; then
    note "$preset: clang is not installed, left out"
    add_row "$preset" 0 0 0 0 "left out: no clang"
    return
  fi

  note "$preset: building"
  mkdir -p build
  if ! build "$preset" >"$log" 2>&1; then
    tail -n 40 "$log"
    add_row "$preset" 0 1 0 $((SECONDS - start)) "the build is broken: $log"
    return
  fi

  note "$preset: testing"
  [ "$preset" = "${presets[0]}" ] || without+='|^source$'
  case $preset in
    tsan) selection=(-L tsan) ;; # see docs/sanitizers.md
    *san) without+='|^heavy$' ;;
    release-clang) without+='|^fault$' ;;
  esac
  ctest --preset "$preset" -j"$jobs" --no-tests=error -LE "$without" "${selection[@]}" 2>&1 | tee "$log.tests"
  local status=$?
  cat "$log.tests" >>"$log"
  local all passed skipped failed remark=""
  all=$(count "$log.tests" '.')
  passed=$(count "$log.tests" ' Passed ')
  skipped=$(count "$log.tests" '\*\*\*Skipped')
  failed=$((all - passed - skipped))
  rm -f "$log.tests"
  if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then
    failed=1
    remark="ctest failed without naming a test: $log"
  elif [ "$failed" -gt 0 ]; then
    remark="see $log"
  fi
  add_row "$preset" "$passed" "$failed" "$skipped" $((SECONDS - start)) "$remark"
}

if ! tools/setup.sh check; then
  echo "0 passed, 1 failed"
  exit 1
fi
# Some three hundred small programs a build: make takes a fifth longer.  A folder that make has built in stays with make.
if command -v ninja >/dev/null; then export CMAKE_GENERATOR=${CMAKE_GENERATOR:-Ninja}; fi
for preset in "${presets[@]}"; do run_preset "$preset"; done

note "summary"
printf '%-15s %7s %7s %8s %8s\n' build passed failed skipped time
printf '%s\n' "${table[@]}"
printf '%-15s %7s %7s %8s %7ss\n\n' total "$total_passed" "$total_failed" "$total_skipped" "$SECONDS"
echo "$total_passed passed, $total_failed failed"
[ "$total_failed" -eq 0 ] && [ "$total_passed" -gt 0 ]
