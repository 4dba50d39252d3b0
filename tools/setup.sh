#!/bin/sh
# Installs the Debian packages that a goal needs and that are missing.
#
#   setup.sh build|check|bench|demo|fuzz|aarch64
#
# Says nothing and needs neither network nor root when nothing is missing.  Without root (or sudo that asks no password)
# it names the packages and fails; optional ones are then only mentioned.
set -eu

goal=${1:-build}

# One need a line: package, then what must exist for it not to be missing: a command, a header, or a library.
build_needs="
gcc gcc
libc6-dev header:stdio.h
make make
cmake cmake"
check_needs="$build_needs
binutils readelf"
check_wishes="
ninja-build ninja
libcmocka-dev header:cmocka.h
clang clang
clang-format-14 clang-format-14|clang-format
valgrind valgrind
spin spin
libgc1 library:libgc.so.1"
bench_wishes="
golang-go go
libgc1 library:libgc.so.1"
demo_needs="$build_needs
guile-3.0 guile-3.0|guile
libgc1 library:libgc.so.1
time /usr/bin/time"
# The run-time library of clang lies in a folder of its own version.
fuzz_needs="$build_needs
clang clang
libclang-rt-dev runtime:libclang_rt.fuzzer-*.a"
fuzz_wishes="
libgc1 library:libgc.so.1"
aarch64_needs="$build_needs
gcc-aarch64-linux-gnu aarch64-linux-gnu-gcc
libc6-dev-arm64-cross /usr/aarch64-linux-gnu/include/stdio.h
qemu-user qemu-aarch64"

case $goal in
build) needs=$build_needs wishes="" ;;
check) needs=$check_needs wishes=$check_wishes ;;
bench) needs=$build_needs wishes=$bench_wishes ;;
demo) needs=$demo_needs wishes="" ;;
fuzz) needs=$fuzz_needs wishes=$fuzz_wishes ;;
aarch64) needs=$aarch64_needs wishes="" ;;
*)
  echo "usage: setup.sh build|check|bench|demo|fuzz|aarch64" >&2
  exit 2
  ;;
esac

has_library() {
  PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null | grep -q "[[:space:]]$1 " && return
  for folder in /lib /usr/lib /lib/*-linux-gnu /usr/lib/*-linux-gnu; do
    [ -e "$folder/$1" ] && return
  done
  return 1
}

has_header() {
  for folder in /usr/include /usr/local/include /usr/include/*-linux-gnu; do
    [ -e "$folder/$1" ] && return
  done
  return 1
}

has_runtime() {
  # shellcheck disable=SC2086 # the name is a pattern
  ls /usr/lib/llvm-*/lib/clang/*/lib/linux/$1 >/dev/null 2>&1
}

has() {
  case $1 in
  runtime:*) has_runtime "${1#runtime:}" ;;
  library:*) has_library "${1#library:}" ;;
  /*) [ -e "$1" ] ;;
  header:*) has_header "${1#header:}" ;;
  *\|*) has "${1%%|*}" || has "${1#*|}" ;;
  *) command -v "$1" >/dev/null 2>&1 ;;
  esac
}

missing() {
  echo "$1" | while read -r package proof; do
    [ -z "$package" ] || has "$proof" || echo "$package"
  done
}

needed=$(missing "$needs")
wished=$(missing "$wishes")
[ -n "$needed$wished" ] || exit 0

# shellcheck disable=SC2086 # a list of words from here on
set -- $needed $wished
echo "setup: missing for $goal: $*"
if [ "$(id -u)" -eq 0 ]; then
  as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
  as_root="sudo -n"
else
  echo "setup: not root; install them with: apt-get install $*"
  [ -z "$needed" ] || exit 1
  echo "setup: going on without, since these are optional"
  exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
  echo "setup: this is no Debian; install what provides: $*"
  [ -z "$needed" ] || exit 1
  exit 0
fi

install() {
  echo "setup: apt-get install $*"
  # shellcheck disable=SC2086
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" </dev/null
}

# The package lists may be absent or old: fetch them only if the first try fails.
if ! install "$@"; then
  echo "setup: apt-get update"
  $as_root apt-get update -q || true
  # shellcheck disable=SC2086
  [ -z "$needed" ] || install $needed
  for package in $wished; do
    install "$package" || echo "setup: going on without $package, which is optional"
  done
fi

still=$(missing "$needs")
if [ -n "$still" ]; then
  echo "setup: still missing: $still" >&2
  exit 1
fi
echo "setup: done"
