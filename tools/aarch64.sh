#!/bin/bash
# `make aarch64`: builds for 64-bit ARM and runs the tests under qemu's emulation of one process, where that emulation is
# able to: see the list below.  Not part of `make check`, which tests what runs natively.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/setup.sh aarch64
build=build/aarch64
cmake -S . -B $build -DCMAKE_TOOLCHAIN_FILE="$PWD/cmake/aarch64.cmake" -DMIDDEN_ASSERTS=ON -DMIDDEN_WERROR=ON \
  -DCMAKE_BUILD_TYPE=Release
cmake --build $build -j"$(nproc)" --target all tests

# Left out, and why.
left_out=(
  # The tree itself is checked by the native builds.
  '^rig/'
  # They start programs of the host.
  '^cli/' '^clients/'
  # They start themselves again, or another test, as programs of the host.
  '^compat/gc_config$' '^compat/gc_midden_environment$' '^unit/exec$' '^stress/barrier_missing$' '^stress/dirty_missing$'
  # The emulator does not keep RLIMIT_AS.
  '^fault/' '^unit/arena$' '^compat/gc_midden_starved_'
  # It ends with a segmentation fault there: probably since the emulator's first stack does not grow.
  '^compat/gc_midden_unknown_stacks$'
  # /proc/self/maps is the emulator's.
  '^unit/os$'
  # The emulator dies in the children of programs with threads.
  '^stress/threads' '^stress/fibers' '^compat/gc_fork$' '^unit/fork_locked$' '^unit/background$' '^model/specials' '^model/stats$' '^stress/fork_start$'
  '^stress/barrier_handover$' '^stress/settling\.barrier$' '^unit/events$' '^unit/fork_blocking$' '^compat/gc_midden_fork_locked$'
  # Takes more than the two minutes that it gives its child.
  '^stress/finalizer_calls$'
  # Not understood: what a thread had on a stack of the program's when it ended by the system call alone lives on.
  '^unit/ended_thread$'
)
left_out=$(IFS='|' && echo "${left_out[*]}")
in_background='^model/sweep$|^unit/ahead$|^unit/idle$|^stress/release$|^stress/spike$' # what they wait for

# Many tests fork, and with a thread in the background each program is one with threads.  So the thread stays away, but for
# the tests that do not fork.
run() { ctest --test-dir $build -j"$(nproc)" --output-on-failure --no-tests=error "$@"; }
MIDDEN_BACKGROUND=0 run -E "$left_out|$in_background"
run -L 'stress|examples' -E "$left_out"
run -R "$in_background" -LE 'stress|examples'
