#!/bin/sh
# What `make install` installs, in a folder of its own: the command finds the drop-in there, the system's libgc.so.1 is not
# touched, a program compiles with the flags of pkg-config's file, and man pages are found by each of their names.
#
#   install.sh BUILD LIBDIR PROBE    the build folder, the library folder below the prefix, the program of probe.c
set -eu
build=$1
libdir=$2
probe=$3

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
unset LD_LIBRARY_PATH DESTDIR || true
cmake --install "$build" --prefix "$prefix" >"$work/log" || { cat "$work/log"; exit 1; }

fail() {
  echo "$*"
  exit 1
}

library=$("$prefix/bin/midden" run "$probe" library)
[ "$library" = "$(readlink -f "$prefix/$libdir/midden/libgc.so.1")" ] || fail "midden run uses $library"
[ ! -e "$prefix/$libdir/libgc.so.1" ] || fail "libgc.so.1 lies where programs find it without being asked"
for file in include/midden/midden.h include/midden/libgc/gc/gc.h "$libdir/libmidden.so" "$libdir/libmidden.a" \
  "$libdir/pkgconfig/midden.pc"; do
  [ -e "$prefix/$file" ] || fail "not installed: $file"
done

man=$(find "$prefix" -type d -name man)
for name in midden.1 midden.7 midden_options.7 midden_alloc.3 midden_thread_detach.3 midden_version.3; do
  file=$man/man${name##*.}/$name
  [ -e "$file" ] || fail "no man page $name"
  # An alias refers to a page that is there.
  target=$(sed -n 's/^\.so //p' "$file")
  [ -z "$target" ] || [ -e "$man/$target" ] || fail "$name refers to $target, which is not installed"
done
echo "installed as it should be"
