#!/bin/sh
# Memory checkers report misuse of objects, and nothing else: probe.c under one of them.
#
#   checkers.sh TOOL COMPILER LIBRARY INCLUDE PROBE.c
#
# TOOL: asan, msan (the program instrumented, the library as it is shipped), valgrind or redzone (no tool at all).
set -u
tool=$1 compiler=$2 library=$3 include=$4 source=$5
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
unset MIDDEN_DEBUG
export ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0 MSAN_OPTIONS=

skip() {
  echo "skipped: $1"
  exit 77
}

case $tool in
asan) flags="-fsanitize=address" ;;
msan) flags="-fsanitize=memory -fsanitize-memory-track-origins" ;;
*) flags="" ;;
esac
if [ "$tool" = valgrind ]; then
  command -v valgrind >/dev/null || skip "valgrind is not installed"
  echo '#include <valgrind/memcheck.h>' | "$compiler" -E - >/dev/null 2>&1 || skip "no headers of valgrind's"
fi
echo 'int main(void) { return 0; }' >"$work/empty.c"
# shellcheck disable=SC2086
"$compiler" $flags "$work/empty.c" -o "$work/empty" 2>/dev/null || skip "$compiler has no $tool"
# shellcheck disable=SC2086
"$compiler" -g -O1 -fno-omit-frame-pointer $flags -I"$include" "$source" "$library" -pthread -o "$work/probe" || exit 1

run() { # cases
  # shellcheck disable=SC2086
  case $tool in
  valgrind) valgrind -q --num-callers=24 --error-exitcode=9 "$work/probe" $1 >"$work/out" 2>&1 ;;
  redzone) MIDDEN_DEBUG=redzone,poison,verify "$work/probe" $1 >"$work/out" 2>&1 ;;
  *) "$work/probe" $1 >"$work/out" 2>&1 ;;
  esac
}

complain() { # text
  echo "$tool: $1"
  sed 's/^/    /' "$work/out"
  exit 1
}

# The report must have every pattern, and the program must not end well.
reports() { # cases pattern...
  names=$1
  shift
  run "$names" && complain "$names went unnoticed"
  for pattern in "$@"; do
    grep -Eq "$pattern" "$work/out" || complain "$names: no '$pattern' in the report"
  done
  echo "$tool: $names: reported"
}

run "clean zeroed" || complain "a report, though nothing is wrong"
grep -Eq '^(==[0-9]+==|midden: )' "$work/out" && complain "there are reports, though nothing is wrong"
case $tool in
asan)
  for name in collected freed overrun typed large; do reports $name "AddressSanitizer: use-after-poison" "main|use"; done
  ;;
msan)
  for name in collected freed raw; do reports $name "MemorySanitizer: use-of-uninitialized-value"; done
  ;;
valgrind) # which goes on after a report
  # What is reported first lies on fresh pages: of an address used twice Valgrind tells the oldest story.
  reports "typed freed collected large raw overrun" \
    "Invalid read of size 1" "8 bytes inside a block of size 40 free'd" "collect_here" \
    "8 bytes inside a block of size 80 free'd" "midden_free" \
    "Block was alloc'd at" "alloc_guarded" \
    "Invalid write of size 1" "0 bytes after a block of size 40 alloc'd" \
    "0 bytes after a block of size 16 alloc'd" "0 bytes after a block of size 100,000 alloc'd" \
    "depends on uninitialised"
  [ "$(grep -c 'Invalid\|uninitialised value' "$work/out")" -eq 6 ] || complain "not six reports for six misuses"
  ;;
redzone)
  reports tail "written beyond the end of an object: 0x[0-9a-f]+, size 40, kind conservative: damaged at offset 40, bytes 01 fb"
  ;;
esac
