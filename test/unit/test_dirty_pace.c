/* The rounds of dirty-page mode: a program that has written everywhere by the time each of them reads, and allocates, is
 * slowed; one that waits is not.  Linked with --wrap=roots_visit_written_running, with which a round begins: who writes at
 * full speed is only on some machines faster than rounds are. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "gc/collector.h"
#include "mutator/roots.h"
#include "mutator/written.h"
#include "support/heap_test.h"

enum { NODES = 1 << 18, CYCLES = 3, SECONDS = 60, SLOTS = 8 };

struct node {
  struct node *slots[SLOTS];
};

static struct node **nodes;          /* static data: a root */
static size_t cycles, rests, rounds; /* atomic; of cycles that ran beside the program, since watch_reports */
static bool writes_everywhere;       /* atomic */

static void note_report(const struct collector_report *report) {
  if (!report->concurrent) return;
  atomic_add_relaxed(&cycles, (size_t)1);
  atomic_add_relaxed(&rests, report->rests);
  atomic_add_relaxed(&rounds, (size_t)report->rounds);
}

static void watch_reports(void) {
  atomic_store_relaxed(&cycles, (size_t)0);
  atomic_store_relaxed(&rests, (size_t)0);
  atomic_store_relaxed(&rounds, (size_t)0);
}

static void build(void) {
  nodes = midden_alloc(NODES * sizeof *nodes);
  for (size_t i = 0; i < NODES; i++) nodes[i] = midden_alloc(sizeof(struct node));
}

size_t __real_roots_visit_written_running(roots_visit_fn *visit, void *argument);
size_t __wrap_roots_visit_written_running(roots_visit_fn *visit, void *argument);

/* As the program would, meanwhile. */
size_t __wrap_roots_visit_written_running(roots_visit_fn *visit, void *argument) {
  if (atomic_load_relaxed(&writes_everywhere)) {
    for (size_t i = 0; i < NODES; i++) atomic_store_relaxed(&nodes[i]->slots[0], nodes[NODES - 1 - i]);
  }
  return __real_roots_visit_written_running(visit, argument);
}

static void *collect_until_slowed(void *unused) {
  while (atomic_load_relaxed(&writes_everywhere)) midden_collect();
  return unused;
}

/* Far below the heap's goal: for nothing but the rounds. */
static void who_writes_everywhere_is_slowed(void **state) {
  (void)state;
  pthread_t collector;
  watch_reports();
  atomic_store_relaxed(&writes_everywhere, true);
  REQUIRE(pthread_create(&collector, NULL, collect_until_slowed, NULL) == 0, "pthread_create");
  for (time_t end = time(NULL) + SECONDS; atomic_load_relaxed(&rests) == 0;) {
    REQUIRE(time(NULL) < end, "%zu cycles beside the program, %zu rounds, nobody slowed in %d s", cycles, rounds,
            SECONDS);
    for (size_t i = 0; i < 1000; i++) midden_alloc(sizeof(struct node));
    usleep(1000); /* cycles may take long */
  }
  atomic_store_relaxed(&writes_everywhere, false);
  pthread_join(collector, NULL);
}

static void who_waits_is_not(void **state) {
  (void)state;
  midden_collect();
  watch_reports();
  for (int i = 0; i < CYCLES; i++) midden_collect();
  assert_int_equal(cycles, CYCLES);
  assert_int_equal(rests, 0);
  assert_true(rounds <= 2 * CYCLES);
}

int main(void) {
  test_start("test_dirty_pace");
  if (!written_is_available()) return TEST_SKIPPED;
  struct midden_options options = {.size = sizeof options,
                                   .mode = MIDDEN_MODE_DIRTY,
                                   .initial_heap_bytes = (size_t)1 << 36,
                                   .percent = 10000,
                                   .idle_collect_ms = -1,
                                   .brief_stop_us = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  collector_reporter = note_report;
  build();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(who_writes_everywhere_is_slowed),
      cmocka_unit_test(who_waits_is_not),
  };
  return test_run_group(tests);
}
