/* Dirty-page mode: which heaps are marked beside the program, and which in a stop altogether. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "gc/collector.h"
#include "mutator/written.h"
#include "support/heap_test.h"

enum { SKIPPED = 77, NODES = 100000, CYCLES = 4, SECONDS = 60, NEVER = -1, WHATEVER_IT_TAKES = 1000000 };

static void **nodes;           /* static data: a root */
static size_t beside, stopped; /* atomic; cycles */

static void note_report(const struct collector_report *report) {
  atomic_add_relaxed(report->concurrent ? &beside : &stopped, (size_t)1);
}

static void run(int brief_stop_us, enum midden_generations generations) {
  struct midden_options options = {.size = sizeof options,
                                   .mode = MIDDEN_MODE_DIRTY,
                                   .generations = generations,
                                   .idle_collect_ms = -1,
                                   .brief_stop_us = brief_stop_us};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  collector_reporter = note_report;
  nodes = midden_alloc(NODES * sizeof *nodes);
  for (size_t i = 0; i < NODES; i++) nodes[i] = midden_alloc(64);
  for (int i = 0; i < CYCLES; i++) {
    midden_collect();
    for (size_t k = 0; k < NODES; k++) nodes[k] = midden_alloc(64); /* cycles come of this, too */
  }
}

static int stops(void *argument) {
  (void)argument;
  run(WHATEVER_IT_TAKES, MIDDEN_GENERATIONS_AUTO);
  return beside == 0 && stopped >= CYCLES ? 0 : 1;
}

static int runs_beside(void *argument) {
  (void)argument;
  run(NEVER, MIDDEN_GENERATIONS_AUTO);
  return stopped == 0 && beside >= CYCLES ? 0 : 1;
}

/* A stop would leave nothing that is old. */
static int runs_beside_for_generations(void *argument) {
  (void)argument;
  run(WHATEVER_IT_TAKES, MIDDEN_GENERATIONS_ALWAYS);
  return stopped == 0 && beside >= CYCLES ? 0 : 1;
}

static int rejects(void *argument) {
  (void)argument;
  struct midden_options options = {.size = sizeof options, .brief_stop_us = -2};
  return midden_init(&options) == -EINVAL ? 0 : 1;
}

int main(void) {
  test_start("test_dirty_brief");
  if (!written_is_available()) return SKIPPED;
  test_child_succeeds("a stop, where it may take any time", stops, NULL, SECONDS);
  test_child_succeeds("beside the program, where none is brief", runs_beside, NULL, SECONDS);
  test_child_succeeds("beside the program, for minor cycles", runs_beside_for_generations, NULL, SECONDS);
  test_child_succeeds("an option out of range", rejects, NULL, SECONDS);
  return 0;
}
