#!/bin/bash
# Runs the models in test/model/*.pml by spin: the protocols must hold in every order of steps, and each variant that is
# wrong on purpose must be found out.
#
#   models.sh [--short|--long] [MODEL]      --short (the default): seconds; --long: minutes, up to 6 GiB of memory
#
# Exit status 77 where spin or a C compiler is missing.
set -uo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
length=--short
case ${1:-} in --short | --long)
  length=$1
  shift
  ;;
esac
only=${1:-}
command -v spin >/dev/null && command -v "${CC:-cc}" >/dev/null || exit 77
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failures=0

# verify OPTIMIZE MODEL FLAGS...: the outcome in `outcome`: holds, fails, or incomplete.
verify() {
  local optimize=$1 model=$2 options="-w -DSAFETY -DMEMLIM=3000"
  shift 2
  [ $length = --long ] && options="-w -DSAFETY -DCOLLAPSE -DMEMLIM=6000"
  rm -f "$work"/*
  # shellcheck disable=SC2086 # options are words
  (cd "$work" && spin -a "$@" "$root/test/model/$model.pml" >spin.out && "${CC:-cc}" $optimize $options -o pan pan.c &&
    ./pan -m1000000 >pan.out) || { outcome=broken && return; }
  if grep -q "max search depth too small\|Search not completed\|reached -DMEMLIM" "$work/pan.out"; then
    outcome=incomplete
  else
    outcome=holds
  fi
  grep -q "^pan:1: \(assertion violated\|invalid end state\)" "$work/pan.out" && outcome=fails
  states=$(awk '/states, stored/ { print $1 }' "$work/pan.out")
}

# expect OUTCOME MODEL FLAGS...
expect() {
  local expected=$1
  shift
  [ -z "$only" ] || [ "$only" = "$1" ] || return 0
  states=""
  # What fails does so soon: compiling is what takes time then.
  local optimize=-O2
  [ $length$expected = --shortfails ] && optimize=-O0
  verify $optimize "$@"
  echo "$*: $outcome, ${states:-no} states"
  [ "$outcome" = "$expected" ] && return
  echo "models: $* should be: $expected"
  failures=$((failures + 1))
}

# ---- the sweep generation ----

expect holds sweepgen -DNO_ALLOCATOR -DNO_RECLAIM
if [ $length = --long ]; then
  expect holds sweepgen -DNO_ALLOCATOR
  expect holds sweepgen -DNO_FREER
  expect holds sweepgen -DNO_ALLOCATOR -DNO_FREER -DWALKERS=2
  expect holds sweepgen -DNO_ALLOCATOR -DNO_RECLAIM -DROUNDS=2
fi
for wrong in NO_RECHECK NO_LOCK STEP_OUTSIDE FLIP_WHILE_INSIDE NO_WAIT LIST_LATE FREE_LISTED; do
  expect fails sweepgen -DNO_ALLOCATOR -D$wrong
done
for wrong in GEN_AFTER_STATE TAKE_UNSWEPT; do expect fails sweepgen -DNO_FREER -D$wrong; done

# ---- the states of a span ----

expect holds span_state -DMUTATORS=1
if [ $length = --long ]; then
  expect holds span_state -DMUTATORS=1 -DLIVES=3
  expect holds span_state -DMUTATORS=2 -DLIVES=1
  expect fails span_state -DMUTATORS=1 -DLIVES=4 -DSAME_STATE
fi
for wrong in FREE_WHILE_MARKING MARK_WHILE_INSIDE STATE_BEFORE_RANGE ONE_LOOK; do
  expect fails span_state -DMUTATORS=1 -DLIVES=3 -D$wrong
done

# ---- dirty-page mode ----

expect holds written
for wrong in NO_PUBLISH OLD_VIEW LATE_MARK NO_WAIT; do expect fails written -D$wrong; done

# ---- barrier mode ----

two="-DMUTATORS=2 -DLOOKS"
buffers="-DMUTATORS=2 -DLOADERS=1 -DSTORE_BUFFERS"
library="-DMUTATORS=2 -DLOADERS=1 -DLOOKS -DLIBRARY"
one="-DMUTATORS=1 -DLOCALS=2 -DFREE=1 -DAMBIGUOUS"
weak="-DMUTATORS=1 -DWEAK=1"
# shellcheck disable=SC2086 # options are words
{
  expect holds barrier $two
  expect holds barrier $buffers
  expect holds barrier $weak
  expect holds barrier $library
  expect holds barrier $two -DPAIR
  if [ $length = --long ]; then
    expect holds barrier $one
    expect holds barrier $buffers -DLOOKS
    expect holds barrier $two -DLIBRARY
    expect holds barrier $library -DSTORE_BUFFERS
    expect fails barrier $buffers -DLOOKS -DONE_ARM
    expect holds barrier -DMUTATORS=2 -DLOADERS=1 -DHELPER
    expect holds barrier -DMUTATORS=2 -DLOADERS=1 -DLIVE=2 -DPAIR
    expect fails barrier $one -DSCAN_EARLY
  fi
  for wrong in NO_DELETION NO_INSERTION NO_FLUSH_ROUND LOOK_EARLY NO_ORDER NOT_WHOLE STORE_FIRST; do
    expect fails barrier $two -D$wrong
  done
  expect fails barrier $library -DLOOK_AT_STORES
  for wrong in NO_DELETION NO_FLUSH_ROUND; do expect fails barrier $two -DPAIR -D$wrong; done
  for wrong in ONE_ARM NO_ARM; do expect fails barrier $buffers -D$wrong; done
  for wrong in BLACK_EARLY TAKE_BACK SECOND_FILL; do expect fails barrier $one -D$wrong; done
  for wrong in WEAK_NO_MARK WEAK_IN_MARK_ONLY; do expect fails barrier $weak -D$wrong; done
}

# ---- minor cycles of barrier mode ----

expect holds minor -DNARROW
for wrong in NO_CARDS NO_STACK_NOTE BORN_EARLY EPOCH_LATE; do expect fails minor -DNARROW -D$wrong; done
if [ $length = --long ]; then
  expect holds minor -DALONE -DMINORS=2
  for wrong in NO_CLAIM_NOTE NO_WINDOW_NOTE ONE_EPOCH; do expect fails minor -DNARROW -D$wrong; done
fi

[ $failures -eq 0 ] || exit 1
