#!/bin/sh
# Checks that every C file is as clang-format would write it; with --fix, writes it so.  Skips (77) without version 14:
# other versions disagree with it.
set -eu
cd "$(dirname "$0")/.."

find_clang_format() {
  for name in clang-format-14 clang-format; do
    if command -v "$name" >/dev/null 2>&1 && "$name" --version | grep -q 'version 14\.'; then
      echo "$name"
      return
    fi
  done
}

clang_format=$(find_clang_format)
if [ -z "$clang_format" ]; then
  echo "clang-format 14 is not installed; skipped" >&2
  exit 77
fi

files=$(find src include shim cli bench examples test fuzz tools -name '*.[ch]' 2>/dev/null | sort)
if [ "${1:-}" = --fix ]; then
  # shellcheck disable=SC2086 # one word a file: no name in the tree has spaces
  exec "$clang_format" -i $files
fi
# shellcheck disable=SC2086
exec "$clang_format" --dry-run -Werror $files
