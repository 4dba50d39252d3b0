#!/bin/bash
# Runs the differential program on the stock libgc.so.1 and on midden's in each of its modes, and compares the logs.
#
#   compare.sh PROGRAM FOLDER STOCK STEPS SEED...        FOLDER has midden's library; STOCK is the other, or a word:
#                                                        `missing` to be skipped, `none` to compare the modes alone
#   compare.sh PROGRAM FOLDER STOCK STEPS --seconds N    random seeds, for so long
#
# Both libraries keep a dead object by mistake now and then, so a seed has three tries.  The logs of one that fails stay in
# differential-SEED in the working folder.
set -uo pipefail

program=$1 folder=$2 stock=$3 steps=$4
shift 4
if [ "$stock" = missing ]; then
  echo "skipped: there is no stock libgc.so.1 on this machine to compare with"
  exit 77
fi

# Name, then variables of the environment.
modes=(
  "dirty MIDDEN_MODE=dirty"
  "dirty-small MIDDEN_MODE=dirty MIDDEN_BRIEF_STOP=off MIDDEN_GENERATIONS=always"
  "stw MIDDEN_MODE=stw"
  "checked MIDDEN_DEBUG=check,poison"
)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# run LOG SEED LIBRARIES [VARIABLE...]: the status goes to the log, too.
run() {
  local log=$1 seed=$2 libraries=$3
  shift 3
  env LD_LIBRARY_PATH="$libraries" "$@" timeout -s KILL 100 "$program" "$seed" "$steps" >"$log" 2>"$log.errors"
  echo "status $?" >>"$log"
}

# The first differences; nothing where both came to the same end.
compare() {
  diff "$1" "$2" | sed -n '1,12p'
  tail -n 1 "$2" | grep -v '^status 0$'
}

# One try: names the mode that differs; 2 where the stock library crashed.
try_seed() {
  local seed=$1 reference=$work/stock name variables
  if [ "$stock" = none ]; then
    reference=$work/stw
    run "$reference" "$seed" "$folder" MIDDEN_MODE=stw
  else
    run "$reference" "$seed" "$(dirname "$stock")"
    if grep -q '^status 1[0-9][0-9]$' "$reference"; then return 2; fi
  fi
  for mode in "${modes[@]}"; do
    read -ra variables <<<"$mode"
    name=${variables[0]}
    run "$work/log" "$seed" "$folder" "${variables[@]:1}"
    if [ -n "$(compare "$reference" "$work/log")" ]; then
      cp "$work/log" "$work/differs"
      echo "seed $seed differs in $name: $(tail -n 1 "$reference"), $(tail -n 1 "$work/log")"
      compare "$reference" "$work/log"
      cat "$work/log.errors"
      return 1
    fi
  done
}

failed=0 crashed=0 count=0
check() {
  local seed=$1 status
  count=$((count + 1))
  for attempt in 1 2 3; do
    try_seed "$seed" >"$work/message"
    status=$?
    [ "$status" -ne 0 ] || return 0
  done
  if [ "$status" -eq 2 ]; then
    echo "seed $seed: the stock library crashed"
    crashed=$((crashed + 1))
    return 0
  fi
  failed=$((failed + 1))
  cat "$work/message"
  mkdir -p "differential-$seed"
  cp "$work"/* "differential-$seed/"
}

if [ "${1:-}" = --seconds ]; then
  end=$((SECONDS + $2))
  while [ "$SECONDS" -lt "$end" ]; do check "$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')"; done
else
  for seed in "$@"; do check "$seed"; done
fi
echo "differential: $count seeds of $steps steps, $failed differ, the stock library crashed in $crashed"
[ "$failed" -eq 0 ] && { [ "$crashed" -eq 0 ] || [ "$crashed" -lt "$count" ]; }
