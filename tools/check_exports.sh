#!/bin/sh
# Compares what a shared library exports with what its headers declare.
#
#   check_exports.sh midden LIBRARY   exactly the MIDDEN_API declarations of include/midden/*.h
#   check_exports.sh libgc LIBRARY    GC_* and nothing else, and no need of another midden library
set -eu
cd "$(dirname "$0")/.."
kind=$1
library=$2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

exported() {
  nm -D --defined-only "$1" | awk '{ sub(/@.*/, "", $3); print $3 }' | LC_ALL=C sort -u
}

# The names that follow MIDDEN_API: of functions (before a parenthesis) and of variables (before a semicolon).
declared() {
  cat include/midden/*.h | awk '
    { text = text " " $0 }
    END {
      while ((start = index(text, "/*")) > 0) {
        stop = index(substr(text, start), "*/")
        text = substr(text, 1, start - 1) " " substr(text, start + stop + 1)
      }
      count = split(text, statements, ";")
      for (i = 1; i <= count; i++) {
        if (!match(statements[i], /MIDDEN_API[ \t]+[a-z]/)) continue
        declaration = substr(statements[i], RSTART + 10)
        if (match(declaration, /midden_[a-z0-9_]+[ \t]*\(/)) name = substr(declaration, RSTART, RLENGTH - 1)
        else if (match(declaration, /midden_[a-z0-9_]+[ \t]*$/)) name = substr(declaration, RSTART, RLENGTH)
        else continue
        gsub(/[ \t]/, "", name)
        print name
      }
    }' | LC_ALL=C sort -u
}

exported "$library" >"$work/exported"
case $kind in
midden)
  declared >"$work/declared"
  [ -s "$work/declared" ] || { echo "found no declaration in include/midden"; exit 1; }
  if ! diff "$work/declared" "$work/exported" >"$work/differences"; then
    sed -n 's/^< /declared but not exported: /p; s/^> /exported but not declared: /p' "$work/differences"
    exit 1
  fi
  echo "$(wc -l <"$work/declared") names declared, the same exported"
  ;;
libgc)
  [ -s "$work/exported" ] || { echo "exports nothing"; exit 1; }
  if grep -v '^GC_' "$work/exported"; then
    echo "exported, but not of the interface"
    exit 1
  fi
  if readelf -d "$library" | grep 'NEEDED.*midden'; then
    echo "is not self-contained"
    exit 1
  fi
  readelf -d "$library" | grep -q 'SONAME.*\[libgc\.so\.1\]' || { echo "SONAME is not libgc.so.1"; exit 1; }
  echo "$(wc -l <"$work/exported") names exported, all GC_*"
  ;;
*)
  echo "usage: check_exports.sh midden|libgc LIBRARY" >&2
  exit 2
  ;;
esac
