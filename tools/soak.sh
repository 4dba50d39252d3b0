#!/bin/bash
# `make soak`: runs the stress, model and fault tests of a build round after round until the time is up, each round with
# a new seed in MIDDEN_TEST_SEED.  One round at least, then the long form of the models in test/model/*.pml.  Stops at the
# first failure and names the seed.
#
# The tests of barrier mode run once more in each round, with steps that double from round to round up to a limit.  Their
# barriered stores are counted, and the soak goes on, whatever the time, until there were MIDDEN_SOAK_STORES (default 0).
#
#   soak.sh BUILD_FOLDER MINUTES
set -uo pipefail

build=$1
end=$((SECONDS + $2 * 60))
seed=${MIDDEN_TEST_SEED:-$(date +%s)}
rounds=0

stores_wanted=${MIDDEN_SOAK_STORES:-0}
stores=0
steps=100000
steps_most=3200000

# Runs the programs of barrier mode; their output goes to the log, and their stores to `stores`.
run_barrier_tests() {
  local program log
  log=$(mktemp)
  for program in "$build"/test/stress/test_barrier*; do
    case $program in *_missing) continue ;; esac
    echo "soak: $(basename "$program"), MIDDEN_TEST_SEED=$seed MIDDEN_TEST_STEPS=$steps"
    if ! MIDDEN_TEST_SEED=$seed MIDDEN_TEST_STEPS=$steps "$program" >"$log" 2>&1; then
      cat "$log"
      rm -f "$log"
      echo "soak: failed in round $rounds; again with: MIDDEN_TEST_SEED=$seed MIDDEN_TEST_STEPS=$steps $program"
      return 1
    fi
    cat "$log"
    stores=$((stores + $(awk '{ for (i = 2; i < NF; i++) if ($i == "barriered") sum += $(i - 1) } END { print sum + 0 }' "$log")))
  done
  rm -f "$log"
  echo "soak: $stores barriered stores so far"
}

while [ "$rounds" -eq 0 ] || [ "$SECONDS" -lt "$end" ] || [ "$stores" -lt "$stores_wanted" ]; do
  rounds=$((rounds + 1))
  echo "soak: round $rounds, MIDDEN_TEST_SEED=$seed, $((end - SECONDS)) s left"
  if ! MIDDEN_TEST_SEED=$seed ctest --test-dir "$build" -L '^(stress|model|fault)$' --no-tests=error --output-on-failure; then
    echo "soak: failed in round $rounds; again with: MIDDEN_TEST_SEED=$seed ctest --test-dir $build -L 'stress|model|fault'"
    exit 1
  fi
  run_barrier_tests || exit 1
  seed=$((seed + 1))
  [ "$steps" -lt "$steps_most" ] && steps=$((steps * 2))
done
echo "soak: $rounds rounds passed, $stores barriered stores"

bash "$(dirname "$0")/models.sh" --long
status=$?
[ $status -eq 77 ] && echo "soak: spin is missing, the protocols' models did not run" && exit 0
exit $status
