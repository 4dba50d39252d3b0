/* Dirty-page mode, a cycle that begins far beyond its goal, since collections were disabled: while it marks, threads that allocate do
 * not rest for that.  Each of their windows cost them a rest, so that they were as good as stopped.
 *
 * Linked with --wrap=assist_drain, before which the heap is what it was when the cycle began, or little more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "gc/assist.h"
#include "gc/collector.h"
#include "gc/slowing.h"
#include "support/dirty_test.h"

#define MIB ((size_t)1 << 20)

enum { BLOCKS = 64 };

static void *volatile blocks[BLOCKS]; /* static data: a root */
static unsigned drains;               /* atomic */
static bool is_slowed;                /* atomic; in the first */

void __real_assist_drain(struct cycle *cycle);
void __wrap_assist_drain(struct cycle *cycle);

void __wrap_assist_drain(struct cycle *cycle) {
  if (atomic_add_relaxed(&drains, 1u) == 0) atomic_store_relaxed(&is_slowed, slowing_is_due());
  __real_assist_drain(cycle);
}

static void nobody_rests_while_it_marks(void **state) {
  (void)state;
  midden_disable();
  for (size_t i = 0; i < BLOCKS; i++) assert_non_null(blocks[i] = midden_alloc(MIB));
  struct midden_stats stats = test_stats();
  assert_in_range(stats.heap_live, 2 * stats.heap_goal, SIZE_MAX);
  midden_enable();
  for (time_t end = time(NULL) + 60; test_stats().collections == stats.collections;) {
    REQUIRE(time(NULL) < end, "no collection");
    for (size_t i = 0; i < 100; i++) midden_alloc(100);
  }
  assert_in_range(atomic_load_relaxed(&drains), 1, UINT32_MAX);
  assert_false(atomic_load_relaxed(&is_slowed));
}

int main(void) {
  test_start("unit/dirty_begun_beyond");
  if (!test_writes_are_told()) return TEST_SKIPPED;
  struct midden_options options = {
      .size = sizeof options, .mode = MIDDEN_MODE_DIRTY, .idle_collect_ms = -1, .brief_stop_us = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  const struct CMUnitTest tests[] = {cmocka_unit_test(nobody_rests_while_it_marks)};
  return test_run_group(tests);
}
