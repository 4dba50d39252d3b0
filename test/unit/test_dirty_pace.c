/* The rounds of dirty-page mode: a program that writes everywhere at full speed, and allocates, is slowed until they help;
 * one that waits is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "gc/collector.h"
#include "mutator/written.h"
#include "support/heap_test.h"

enum { NODES = 1 << 20, STORES = 64, CYCLES = 3, SECONDS = 60, SLOTS = 8 };

struct node {
  struct node *slots[SLOTS];
};

static struct node **nodes;          /* static data: a root */
static size_t cycles, rests, rounds; /* atomic; of cycles that ran beside the program, since watch_reports */

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

/* `STORES` to random nodes for each object that it allocates. */
static void who_writes_everywhere_is_slowed(void **state) {
  (void)state;
  struct rng rng = {test_seed_value};
  watch_reports();
  for (time_t end = time(NULL) + SECONDS; atomic_load_relaxed(&rests) == 0;) {
    REQUIRE(time(NULL) < end, "%zu cycles beside the program, %zu rounds, nobody slowed in %d s", cycles, rounds,
            SECONDS);
    for (size_t i = 0; i < 1000; i++) {
      struct node *garbage = midden_alloc(sizeof(struct node));
      garbage->slots[0] = nodes[0];
      for (size_t k = 0; k < STORES; k++)
        nodes[rng_below(&rng, NODES)]->slots[k % SLOTS] = nodes[rng_below(&rng, NODES)];
    }
  }
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
  struct midden_options options = {
      .size = sizeof options, .mode = MIDDEN_MODE_DIRTY, .idle_collect_ms = -1, .brief_stop_us = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  collector_reporter = note_report;
  build();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(who_writes_everywhere_is_slowed),
      cmocka_unit_test(who_waits_is_not),
  };
  return test_run_group(tests);
}
