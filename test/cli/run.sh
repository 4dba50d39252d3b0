#!/bin/sh
# `midden run`: what the program is given, how it ends, and what is said about it.
#
#   run.sh MIDDEN LIBGC PROBE PINNED    the command, the drop-in, the program of probe.c, and the same with the folder of
#                                       another libgc.so.1 inside
set -u
midden=$1
dropin=$(readlink -f "$2")
probe=$3
pinned=$4

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
unset LD_LIBRARY_PATH LD_PRELOAD MIDDEN_PERCENT MIDDEN_SMALL_PAGES MIDDEN_MEMORY_LIMIT MIDDEN_TRACE GC_MARKERS GC_NPROCS GC_PRINT_STATS

# check NAME STATUS OUTPUT MESSAGE COMMAND...: MESSAGE is a pattern for standard error, "" for nothing said.
check() {
  name=$1 status=$2 output=$3 message=$4
  shift 4
  found_output=$("$@" 2>"$work/errors")
  found_status=$?
  if [ -z "$message" ]; then said_right=$([ ! -s "$work/errors" ] && echo yes); else
    said_right=$(grep -q -- "$message" "$work/errors" && echo yes)
  fi
  if [ "$found_status" -ne "$status" ] || [ "$found_output" != "$output" ] || [ -z "$said_right" ]; then
    echo "$name: status $found_status, wanted $status; printed \"$found_output\", wanted \"$output\"; said:"
    cat "$work/errors"
    failures=$((failures + 1))
  fi
}

check "uses the drop-in" 0 "$dropin" "" "$midden" run "$probe" library
check "exit status" 7 "" "" "$midden" run "$probe" exit 7
check "signal" 143 "" "" "$midden" run "$probe" signal 15
check "arguments" 0 "--percent=1
-q
a b" "" "$midden" run "$probe" arguments --percent=1 -q "a b"
check "arguments after --" 0 "--" "" "$midden" run -- "$probe" arguments --
check "an option is a variable" 0 "50" "" "$midden" run --percent=50 "$probe" environment MIDDEN_PERCENT
check "an option of two words" 0 "1G" "" "$midden" run --memory-limit 1G "$probe" environment MIDDEN_MEMORY_LIMIT
check "a switch" 0 "1" "" "$midden" run --small-pages "$probe" environment MIDDEN_SMALL_PAGES
check "a switch with a value" 0 "0" "" "$midden" run --small-pages=0 "$probe" environment MIDDEN_SMALL_PAGES
check "an option wins over the environment" 0 "50" "" \
  env MIDDEN_PERCENT=70 "$midden" run --percent=50 "$probe" environment MIDDEN_PERCENT
check "other variables stay" 0 "70" "" env MIDDEN_PERCENT=70 "$midden" run "$probe" environment MIDDEN_PERCENT
check "the library path grows in front" 0 "$(dirname "$dropin"):/nowhere" "" \
  env LD_LIBRARY_PATH=/nowhere "$midden" run "$probe" environment LD_LIBRARY_PATH
check "the library judges values" 0 "many" "MIDDEN_PERCENT=many is not understood" \
  "$midden" run --percent=many "$probe" environment MIDDEN_PERCENT

check "the library says what it takes" 0 "0" "it takes a number from 1 to 100000, or off; growth" \
  "$midden" run --percent=0 "$probe" environment MIDDEN_PERCENT
check "a signal that nobody can handle" 0 "$dropin" "MIDDEN_SUSPEND_SIGNAL=9 is not understood" \
  "$midden" run --suspend-signal=9 "$probe" library

# Options of libgc's.
check "more processors than midden has markers" 0 "" "gc 1 @" \
  env GC_NPROCS=100 GC_PRINT_STATS=1 "$midden" run "$probe" collect
for size in -1 20000000000000000000 16E 4K0; do
  check "a size of $size" 0 "" "malformed size" env GC_INITIAL_HEAP_SIZE=$size "$midden" run "$probe" collect
done

# Files that cannot be written; the program goes on, and nobody waits for who may come to read a pipe.
nowhere="$work/nowhere/file"
mkfifo "$work/pipe"
check "a trace file nowhere" 0 "$dropin" "trace file $nowhere cannot be made: No such file" \
  "$midden" run --trace="file:$nowhere" "$probe" library
check "a profile nowhere" 0 "$dropin" "heap profile $nowhere cannot be written: No such file" \
  "$midden" run --profile-file="$nowhere" "$probe" library
check "a trace file that is a pipe" 0 "$dropin" "cannot be made" \
  timeout 20 "$midden" run --trace="file:$work/pipe" "$probe" library
check "a profile that is a pipe" 0 "$dropin" "cannot be written" \
  timeout 20 "$midden" run --profile-file="$work/pipe" "$probe" library

said=$("$midden" run --profile-sample=2T --profile-file="$work/profile" "$probe" library 2>&1 >/dev/null | grep -c heap)
[ "$said" -eq 1 ] || { echo "a profile that cannot begin: $said messages"; failures=$((failures + 1)); }

check "an unknown option" 125 "" "unrecognized option" "$midden" run --no-such-thing "$probe" library
check "no program" 125 "" "which program" "$midden" run
check "a program that is not there" 127 "" "no-such-program" "$midden" run no-such-program
check "a program that cannot be run" 126 "" "Permission denied" "$midden" run "$work"
check "an unknown command" 125 "" "no command" "$midden" no-such-command
check "nothing" 125 "" "usage" "$midden"

check "a program without libgc" 0 "" "not linked to libgc" "$midden" run true
check "the same, quietly" 0 "" "" "$midden" run --quiet true
printf '#!/bin/sh\nexit 3\n' >"$work/script"
chmod +x "$work/script"
check "a script" 3 "" "cannot tell whether .* it is a script" "$midden" run "$work/script"
check "the same, by PATH" 3 "" "it is a script" env PATH="$work:$PATH" "$midden" run script
other=$("$pinned" library)
check "a program with a path inside" 0 "$other" "loads .*, not midden" "$midden" run "$pinned" library
if LD_PRELOAD=$dropin "$probe" library >/dev/null 2>&1; then # not with a sanitizer, which wants to come first
  check "the drop-in is loaded before" 0 "$dropin" "" env LD_PRELOAD="$dropin" "$midden" run "$probe" library
  check "another one is" 0 "$other" "loads .*, not midden" env LD_PRELOAD="$other" "$midden" run "$probe" library
fi

# A program whose loader is not there: the kernel says that nothing was found.
LC_ALL=C sed 's,/ld-,/no-,g' "$probe" >"$work/no_loader"
chmod +x "$work/no_loader"
check "a loader that is not there" 127 "" "cannot tell whether .* the loader does not list its libraries" \
  "$midden" run "$work/no_loader" library

# Where the loader ignores LD_LIBRARY_PATH: also for root, who runs a program of another group.
privileged="it runs with other privileges"
if [ "$(id -u)" -eq 0 ] && cp /bin/true "$work/of_group" && chgrp 65534 "$work/of_group" && chmod 2755 "$work/of_group"; then
  check "a program of another group" 0 "" "$privileged" "$midden" run "$work/of_group"
  chmod 2745 "$work/of_group"
  check "that bit without the other" 0 "" "not linked to libgc" "$midden" run "$work/of_group"
  chmod 2755 "$work/of_group" && chown 65534 "$work/of_group" && chmod 4755 "$work/of_group"
  check "a program of another user" 0 "" "$privileged" "$midden" run "$work/of_group"
fi

# Where nothing tells which file this command is; not with sanitizers, which want that themselves.
without_proc='umount -l /proc && exec "$0" "$@"'
if [ "$(id -u)" -eq 0 ] && unshare -m sh -c "$without_proc" "$midden" version >/dev/null 2>&1; then
  check "no /proc" 0 "$dropin" "" unshare -m sh -c "$without_proc" "$midden" run "$probe" library
fi

# The program is given neither the closed descriptors nor the signal in another state than the command was.
check "no standard input and output" 7 "" "" sh -c '"$0" "$@" <&- >&-' "$midden" run "$probe" exit 7
check "no descriptors at all" 7 "" "" sh -c '"$0" "$@" <&- >&- 2>&-' "$midden" run "$probe" exit 7
check "SIGCHLD is ignored" 0 "ignored" "" env --ignore-signal=CHLD "$midden" run "$probe" handling 17

for option in percent memory-limit max-heap min-heap initial-heap markers suspend-signal debug trace mode; do
  "$midden" help run | grep -q -- "--$option=" || { echo "help run: no --$option"; failures=$((failures + 1)); }
done
for command in run help version; do
  "$midden" help "$command" | grep -q "^usage: midden $command" || { echo "help $command: no usage"; failures=$((failures + 1)); }
done
"$midden" help version | grep -q '^Print the version\.$' || { echo "help version: no summary"; failures=$((failures + 1)); }
"$midden" help run | grep -q 'growth of the heap before' || { echo "help run: no explanation"; failures=$((failures + 1)); }
too_wide=$("$midden" help run | grep -c '.\{80\}')
[ "$too_wide" -eq 0 ] || { echo "help run: $too_wide lines do not fit a terminal"; failures=$((failures + 1)); }
"$midden" version | grep -Eq '^midden [0-9]+\.[0-9]+\.[0-9]+$' || { echo "version: no version"; failures=$((failures + 1)); }

if [ -c /dev/full ]; then
  for words in help "help run" version "run --help"; do
    # shellcheck disable=SC2086
    check "no room for what $words prints" 125 "" "cannot be written" sh -c '"$0" "$@" >/dev/full' "$midden" $words
  done
fi

cp "$midden" "$work/midden"
check "a command without its library" 125 "" "there is no libgc.so.1" "$work/midden" run "$probe" library

[ "$failures" -eq 0 ] || { echo "$failures checks failed"; exit 1; }
echo "all as it should be"
