/* A memory limit that is far away has no say: cycles beside the program, which start before the heap has reached its goal, are put off
 * by no limiter, however much the collector has taken of the processor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/cycle.h"
#include "midden/barrier.h"
#include "support/heap_test.h"

enum { NODES = 200000, NODE_BYTES = 64, CYCLES = 3, SECONDS = 60 };

static void **list; /* static data: a root */

static void cycles_for_growth_are_not_put_off(void **state) {
  (void)state;
  for (size_t i = 0; i < NODES; i++) {
    void **node = midden_alloc(NODE_BYTES);
    midden_store(&node[0], list);
    midden_store(&list, node);
  }
  midden_collect();
  collector.limiter.level_ns = UINT64_MAX / 2; /* no cycle is under way */
  struct midden_stats before = test_stats();
  for (time_t end = time(NULL) + SECONDS; test_stats().collections_heap < before.collections_heap + CYCLES;) {
    REQUIRE(time(NULL) < end, "no cycles in %d s", SECONDS);
    for (size_t i = 0; i < 1000; i++) assert_non_null(midden_alloc(NODE_BYTES));
  }
  assert_int_equal(test_stats().limit_yields, before.limit_yields);
}

int main(void) {
  test_start("unit/limit_far");
  struct midden_options options = {.size = sizeof options,
                                   .mode = MIDDEN_MODE_BARRIER,
                                   .memory_limit_bytes = (size_t)1 << 40,
                                   .idle_collect_ms = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  const struct CMUnitTest tests[] = {cmocka_unit_test(cycles_for_growth_are_not_put_off)};
  return test_run_group(tests);
}
