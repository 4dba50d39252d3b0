#!/bin/sh
# What `make install` installs, in a folder of its own: the command finds the drop-in there, the system's libgc.so.1 is not
# touched, a program compiles with the flags of pkg-config's file and by CMake's find_package, and man pages are found by each
# of their names.
#
#   install.sh BUILD LIBDIR PROBE [CC]    the build folder, the library folder below the prefix, the program of probe.c; a
#                                         compiler whose programs can use the library without further flags
set -eu
build=$1
libdir=$2
probe=$3
compiler=${4:-}

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

# The installation was not made for this prefix, as one that is moved was not.
printf '#include <midden/midden.h>\nint main(void) { return midden_alloc(16) == 0; }\n' >"$work/program.c"
if [ -n "$compiler" ] && command -v pkg-config >/dev/null; then
  PKG_CONFIG_PATH=$prefix/$libdir/pkgconfig
  export PKG_CONFIG_PATH
  # shellcheck disable=SC2046
  "$compiler" "$work/program.c" $(pkg-config --cflags --libs midden) -Wl,-rpath,"$prefix/$libdir" -o "$work/program" ||
    fail "a program does not compile with the flags of pkg-config"
  "$work/program" || fail "that program fails"
fi
if [ -n "$compiler" ]; then
  cat >"$work/CMakeLists.txt" <<'EOF'
cmake_minimum_required(VERSION 3.20)
project(user LANGUAGES C)
find_package(midden 0.1 REQUIRED)
add_executable(shared program.c)
target_link_libraries(shared midden::midden)
add_executable(static program.c)
target_link_libraries(static midden::midden_static)
EOF
  CC=$compiler cmake -S "$work" -B "$work/user" -DCMAKE_PREFIX_PATH="$prefix" >"$work/log" 2>&1 &&
    cmake --build "$work/user" >"$work/log" 2>&1 || { cat "$work/log"; fail "a program does not compile by find_package"; }
  for program in shared static; do
    "$work/user/$program" || fail "the $program program of find_package fails"
  done
fi

man=$(find "$prefix" -type d -name man)
for name in midden.1 midden.7 midden_options.7 midden_alloc.3 midden_thread_detach.3 midden_version.3; do
  file=$man/man${name##*.}/$name
  [ -e "$file" ] || fail "no man page $name"
  # An alias refers to a page that is there.
  target=$(sed -n 's/^\.so //p' "$file")
  [ -z "$target" ] || [ -e "$man/$target" ] || fail "$name refers to $target, which is not installed"
done
echo "installed as it should be"
