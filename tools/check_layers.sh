#!/bin/sh
# Checks the tree's includes against its layers.
#
#   check_layers.sh [ROOT]        complains about each wrong include; exit status 1 if there is one
#   check_layers.sh --self-test   plants wrong includes in a small tree and sees that each is found
#
# The rules:
#   src/LAYER        includes the public headers, its own layer and those below it, by paths relative to src/;
#   outside src/os   no header of the operating system (base/check.c may write its last words);
#   shim, cli, bench, examples, test/stress, test/compat, include
#                    never reach into src/, except for bench/pageheap and bench/dirty, which measure layers by themselves.
set -eu

LAYERS="base os meta page span alloc mutator gc observe api"

# Prints "FILE:LINE: complaint" for each wrong include of the files named on standard input.
complain() {
  awk -v layers="$LAYERS" '
    BEGIN {
      count = split(layers, names, " ")
      for (i = 1; i <= count; i++) rank[names[i]] = i
      system_header = "^(sys/|linux/|asm/|pthread\\.h|signal\\.h|sched\\.h|link\\.h|dlfcn\\.h|elf\\.h|ucontext\\.h|fcntl\\.h|unistd\\.h)"
    }

    function complaint(text) { print path ":" number ": " text; }

    function check_source(own, target, quoted) {
      if (!quoted) {
        if (own != "os" && path != "src/base/check.c" && target ~ system_header && target != "sys/types.h")
          complaint("<" target "> outside src/os")
        return
      }
      split(target, parts, "/")
      if (parts[1] == "midden") return
      if (!(parts[1] in rank) || index(target, "..")) complaint("\"" target "\" is not a path relative to src/")
      else if (rank[parts[1]] > rank[own]) complaint(own " includes " parts[1] ", which lies above it")
    }

    function exists(file, ignored, result) {
      result = (getline ignored < file) >= 0
      close(file)
      return result
    }

    # The drop-in has a folder gc/ of public headers, as src/ has one of its own: a file there decides.
    function check_outsider(target) {
      if (exists("shim/libgc/include/" target)) return
      if (index(target, "..") || target ~ /^src\// || exists("src/" target))
        complaint("\"" target "\" reaches into src/")
    }

    {
      path = $0
      number = 0
      split(path, folders, "/")
      while ((getline line < path) > 0) {
        number++
        if (line !~ /^[ \t]*#[ \t]*include[ \t]*[<"]/) continue
        quoted = line ~ /^[ \t]*#[ \t]*include[ \t]*"/
        target = line
        sub(/^[^<"]*[<"]/, "", target)
        sub(/[>"].*/, "", target)
        if (folders[1] != "src") check_outsider(target)
        else if (folders[2] in rank) check_source(folders[2], target, quoted)
        else complaint("src/" folders[2] " is no layer")
      }
      close(path)
    }'
}

check() {
  cd "$1"
  find src include shim cli bench examples test/stress test/compat -name '*.[ch]' ! -path 'bench/pageheap/*' \
    ! -path 'bench/dirty/*' 2>/dev/null |
    sort | complain
}

# plant FILE LINE: a file with one include.
plant() {
  mkdir -p "$(dirname "$1")"
  echo "#include $2" >"$1"
}

self_test() {
  tree=$(mktemp -d)
  trap 'rm -rf "$tree"' EXIT
  cd "$tree"

  plant src/page/good.c '"base/lock.h"'
  plant src/page/own.c '"page/span.h"'
  plant src/page/public.c '<midden/midden.h>'
  plant src/os/system.c '<sys/mman.h>'
  plant cli/good.c '"cli.h"'
  plant bench/pageheap/lab.c '"page/span.h"'
  plant bench/dirty/main.c '"os/os.h"'
  plant src/gc/gc.h '"base/lock.h"'
  plant shim/libgc/include/gc/gc.h '<stddef.h>'
  plant test/compat/gc_good.c '<gc/gc.h>'
  found=$(check "$tree")
  if [ -n "$found" ]; then
    echo "complained about a clean tree: $found"
    exit 1
  fi

  plant src/page/upward.c '"span/slots.h"'
  plant src/gc/relative.c '"../base/lock.h"'
  plant src/gc/bare.c '"lock.h"'
  plant src/gc/system.c '<sys/mman.h>'
  plant src/base/thread.h '<pthread.h>'
  plant src/extra/no_layer.c '"base/lock.h"'
  plant src/gc/cycle.h '<stddef.h>'
  plant src/os/os.h '<stddef.h>'
  plant bench/workloads/inner.c '"os/os.h"'
  plant cli/inner.c '"gc/cycle.h"'
  plant examples/dots.c '"../src/base/lock.h"'
  plant test/stress/inner.c '"os/os.h"'
  found=$(check "$tree")
  echo "$found"
  [ "$(echo "$found" | wc -l)" -eq 10 ] || { echo "expected ten complaints"; exit 1; }
  echo "each planted include was found"
}

if [ "${1:-}" = --self-test ]; then
  self_test
  exit
fi
found=$(check "${1:-$(dirname "$0")/..}")
if [ -n "$found" ]; then
  echo "$found"
  exit 1
fi
