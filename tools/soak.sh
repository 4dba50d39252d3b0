#!/bin/bash
# `make soak`: runs the stress, model and fault tests of a build round after round until the time is up, each round with
# a new seed in MIDDEN_TEST_SEED.  One round at least, then the long form of the models in test/model/*.pml.  Stops at the
# first failure and names the seed.
#
#   soak.sh BUILD_FOLDER MINUTES
set -uo pipefail

build=$1
end=$((SECONDS + $2 * 60))
seed=${MIDDEN_TEST_SEED:-$(date +%s)}
rounds=0

while [ "$rounds" -eq 0 ] || [ "$SECONDS" -lt "$end" ]; do
  rounds=$((rounds + 1))
  echo "soak: round $rounds, MIDDEN_TEST_SEED=$seed, $((end - SECONDS)) s left"
  if ! MIDDEN_TEST_SEED=$seed ctest --test-dir "$build" -L '^(stress|model|fault)$' --no-tests=error --output-on-failure; then
    echo "soak: failed in round $rounds; again with: MIDDEN_TEST_SEED=$seed ctest --test-dir $build -L 'stress|model|fault'"
    exit 1
  fi
  seed=$((seed + 1))
done
echo "soak: $rounds rounds passed"

bash "$(dirname "$0")/models.sh" --long
status=$?
[ $status -eq 77 ] && echo "soak: spin is missing, the protocols' models did not run" && exit 0
exit $status
