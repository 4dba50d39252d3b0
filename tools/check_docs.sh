#!/bin/sh
# Checks that the documents keep up with the tree:
#
#   - a man page names each function of midden.h and barrier.h, in its NAME section and in its SYNOPSIS, and each figure of midden_stats;
#   - a page is named after the first of its names, and where groff is installed, groff finds nothing wrong with it;
#   - README.md's C program is examples/hello.c;
#   - src/README.md has a line for each file of src/;
#   - docs/locks.md has a line for each lock rank;
#   - relative links in Markdown files lead to files.
#
# Complains about each thing found; exit status 1 if there is one.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

complain() { echo "$*" >>"$work/complaints"; }

# The names in a page's NAME section, one a line.
names_of() {
  awk '/^\.SH/ { inside = $2 == "NAME"; next } inside' "$1" | sed 's/\\-.*//' | tr -s ', ' '\n' | sed '/^$/d'
}

synopsis_of() { awk '/^\.SH/ { inside = $2 == "SYNOPSIS"; next } inside' "$1"; }

functions() {
  sed 's|/\*.*||' include/midden/midden.h include/midden/barrier.h |
    grep -E '^(MIDDEN_API|static inline)' | grep -o 'midden_[a-z0-9_]*(' | tr -d '(' | grep -v '^midden_barrier_'
}

check_functions() {
  functions | sort -u >"$work/functions"
  [ -s "$work/functions" ] || complain "no functions found in the headers"
  for page in man/*.3; do
    names_of "$page" | sed "s|\$| $page|"
  done >"$work/names"
  while read -r function; do
    page=$(awk -v name="$function" '$1 == name { print $2 }' "$work/names")
    if [ -z "$page" ]; then
      complain "$function is in no man page"
    elif ! synopsis_of "$page" | grep -q "[ *]$function("; then
      complain "$page: $function is not in its SYNOPSIS"
    fi
  done <"$work/functions"
  while read -r name page; do
    grep -qx "$name" "$work/functions" || complain "$page: there is no function $name"
  done <"$work/names"
}

check_figures() {
  awk '/^struct midden_stats \{/ { inside = 1; next } /^\};/ { inside = 0 } inside' include/midden/midden.h |
    sed -n 's/^ *[a-z0-9_]* \([a-z_]*\);.*/\1/p' | while read -r figure; do
    grep -qE "^\.I (\\*)?$figure\$" man/midden_stats.3 || complain "man/midden_stats.3: no $figure"
  done
}

check_pages() {
  for page in man/*.[137]; do
    own=$(basename "$page")
    [ "$(names_of "$page" | head -n 1)" = "${own%.*}" ] || complain "$page: its first name is not its own"
    command -v groff >/dev/null || continue
    groff -ww -z -man -Tutf8 "$page" >"$work/groff" 2>&1
    [ ! -s "$work/groff" ] || complain "$page: $(head -n 1 "$work/groff")"
  done
}

check_readme() {
  awk '/^```c$/ { inside = 1; next } /^```$/ { if (inside) exit } inside' README.md >"$work/hello.c"
  cmp -s "$work/hello.c" examples/hello.c || complain "README.md: its program is not examples/hello.c"
}

check_source_list() {
  for path in src/*/*.[ch]; do
    # A header and its source share a line: `lock.h` `.c`.
    folder=$(basename "$(dirname "$path")")
    name=$(basename "$path")
    awk -v folder="$folder" '/^## / { inside = $2 == "`" folder "`" } inside' src/README.md |
      grep -qF "\`${name%.*}" || complain "src/README.md: nothing about $path"
  done
}

check_ranks() {
  grep -o 'LOCK_RANK_[A-Z]*' src/base/lock.h | sort -u | grep -v 'LOCK_RANK_COUNT' | while read -r rank; do
    grep -q "$rank" docs/locks.md || complain "docs/locks.md: no $rank"
  done
}

check_links() {
  find . -name '*.md' -not -path './build/*' -not -path './.git/*' | sort | while read -r file; do
    grep -o '](\([^)#:]*\)[)#]' "$file" | sed 's/^](//; s/[)#]$//' | while read -r target; do
      [ -z "$target" ] || [ -e "$(dirname "$file")/$target" ] || complain "$file: no $target"
    done
  done
}

check_functions
check_figures
check_pages
check_readme
check_source_list
check_ranks
check_links
if [ -e "$work/complaints" ]; then
  cat "$work/complaints"
  exit 1
fi
echo "the documents are up to date"
