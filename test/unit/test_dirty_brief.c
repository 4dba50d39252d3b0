/* Dirty-page mode: which heaps are marked beside the program, and which in a stop altogether. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "gc/collector.h"
#include "gc/cycle.h"
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

/* ---- collections for which a thread waits ---- */

enum other { NO_OTHER, OTHER_BLOCKS, OTHER_RUNS };

struct wait {
  const char *what;
  enum other other; /* thread of the program, and what it does */
  size_t most_bytes;
  bool stops;
};

static uint32_t other_is_there; /* atomic */

static void *be_there(void *argument) {
  bool blocks = *(const enum other *)argument == OTHER_BLOCKS;
  REQUIRE(midden_alloc(64) != NULL, "out of memory");
  if (blocks) midden_blocking_enter();
  for (;;) atomic_store_release(&other_is_there, UINT32_C(1));
  return NULL;
}

/* As if any heap took longer than a stop may, and none, or each, longer than one may for which all wait. */
static void collect_awaited(size_t most_bytes) {
  collector_acquire(mutator_self());
  atomic_store_relaxed(&collector.brief_most_bytes, (size_t)0);
  atomic_store_relaxed(&collector.awaited_most_bytes, most_bytes);
  beside = stopped = 0;
  collector_release();
  midden_collect();
}

static void note_forced(const struct collector_report *report) {
  if (report->reason == COLLECT_FORCED) note_report(report);
}

static int wait_for_collection(void *argument) {
  const struct wait *wait = argument;
  struct midden_options options = {
      .size = sizeof options, .mode = MIDDEN_MODE_DIRTY, .percent = 1000, .background = -1, .idle_collect_ms = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  collector_reporter = note_forced;
  nodes = midden_alloc(NODES * sizeof *nodes);
  for (size_t i = 0; i < NODES; i++) nodes[i] = midden_alloc(64);
  pthread_t thread;
  enum other other = wait->other;
  if (other != NO_OTHER) {
    REQUIRE(pthread_create(&thread, NULL, be_there, &other) == 0, "pthread_create");
    while (atomic_load_acquire(&other_is_there) == 0) {
    }
  }
  collect_awaited(wait->most_bytes);
  REQUIRE(beside + stopped == 1, "%zu and %zu collections", beside, stopped);
  return (stopped == 1) == wait->stops ? 0 : 1;
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
  struct wait waits[] = {
      {"a stop, where nobody else is there", NO_OTHER, SIZE_MAX, true},
      {"a stop, where all others are blocked", OTHER_BLOCKS, SIZE_MAX, true},
      {"beside who runs", OTHER_RUNS, SIZE_MAX, false},
      {"beside nobody, where a stop takes too long", NO_OTHER, 0, false},
  };
  for (size_t i = 0; i < TEST_COUNT_OF(waits); i++)
    test_child_succeeds(waits[i].what, wait_for_collection, &waits[i], SECONDS);
  test_child_succeeds("an option out of range", rejects, NULL, SECONDS);
  return 0;
}
