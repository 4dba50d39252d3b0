/* A further step of a cycle in dirty-page mode (cycle_steps.h), before its rounds; cycle_step_init(&drained) comes first.
 *
 * Linked with --wrap=rounds_run too (cmake/tests.cmake). */
#ifndef MIDDEN_TEST_SUPPORT_DRAINED_STEP_H
#define MIDDEN_TEST_SUPPORT_DRAINED_STEP_H

#include "gc/rounds.h"
#include "support/cycle_steps.h"

static struct cycle_step drained; /* all that was reachable is marked, and scanned; no round has begun */

/* The names are the linker's. */
void __real_rounds_run(struct cycle *running);
void __wrap_rounds_run(struct cycle *running);

void __wrap_rounds_run(struct cycle *running) {
  cycle_wait_at(&drained);
  __real_rounds_run(running);
}

#endif
