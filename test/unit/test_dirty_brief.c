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

enum { NODES = 100000, CYCLES = 4, SECONDS = 60, NEVER = -1, WHATEVER_IT_TAKES = 1000000 };

static void **nodes;           /* static data: a root */
static size_t beside, stopped; /* atomic; cycles */

static void note_report(const struct collector_report *report) {
  atomic_add_relaxed(report->concurrent ? &beside : &stopped, (size_t)1);
}

struct plan {
  const char *what;
  int brief_stop_us;
  enum midden_generations generations;
  bool stops; /* or all cycles run beside the program */
};

static int run(void *argument) {
  const struct plan *plan = argument;
  struct midden_options options = {.size = sizeof options,
                                   .mode = MIDDEN_MODE_DIRTY,
                                   .generations = plan->generations,
                                   .idle_collect_ms = -1,
                                   .brief_stop_us = plan->brief_stop_us};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  collector_reporter = note_report;
  nodes = midden_alloc(NODES * sizeof *nodes);
  for (size_t i = 0; i < NODES; i++) nodes[i] = midden_alloc(64);
  for (int i = 0; i < CYCLES; i++) {
    midden_collect();
    for (size_t k = 0; k < NODES; k++) nodes[k] = midden_alloc(64); /* cycles come of this, too */
  }
  size_t wanted = plan->stops ? stopped : beside, unwanted = plan->stops ? beside : stopped;
  return unwanted == 0 && wanted >= CYCLES ? 0 : 1;
}

static int rejects(void *argument) {
  (void)argument;
  struct midden_options options = {.size = sizeof options, .brief_stop_us = -2};
  return midden_init(&options) == -EINVAL ? 0 : 1;
}

int main(void) {
  test_start("test_dirty_brief");
  if (!written_is_available()) return TEST_SKIPPED;
  struct plan plans[] = {
      {"a stop, where it may take any time", WHATEVER_IT_TAKES, MIDDEN_GENERATIONS_AUTO, true},
      {"beside the program, where none is brief", NEVER, MIDDEN_GENERATIONS_AUTO, false},
      /* a stop would leave nothing that is old */
      {"beside the program, for minor cycles", WHATEVER_IT_TAKES, MIDDEN_GENERATIONS_ALWAYS, false},
  };
  for (size_t i = 0; i < TEST_COUNT_OF(plans); i++) test_child_succeeds(plans[i].what, run, &plans[i], SECONDS);
  test_child_succeeds("an option out of range", rejects, NULL, SECONDS);
  return 0;
}
