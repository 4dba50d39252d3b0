/* Dirty-page mode, what is known of old objects and of young ones when a cycle is over: an old object that the program frees is none any
 * more, a large one counts by its size, and what was dropped beside the cycle does not count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "alloc/account.h"
#include "gc/cycle.h"
#include "span/guard.h"
#include "support/dirty_test.h"
#include "support/drained_step.h"

enum { LARGE_BYTES = 8 << 20, SMALLS = 1000, SMALL_BYTES = 208, GARBAGE_BYTES = 4 << 20 };

static void *volatile large;
static void **smalls;
static uintptr_t hidden[SMALLS];

/* ---- the program's side ---- */

static void collect_minor(void) {
  struct collector_totals before, after;
  test_scrub_stack();
  collector_read_totals(&before);
  collector_collect(COLLECT_STRESS, NULL, NULL);
  collector_read_totals(&after);
  REQUIRE(after.minor_collections == before.minor_collections + 1, "no minor cycle has ended");
}

/* Every other one: their spans stay. */
NOINLINE_TEST static void make_and_free(void) {
  for (size_t i = 0; i < SMALLS; i++) smalls[i] = midden_alloc(SMALL_BYTES);
  midden_collect();
  for (size_t i = 1; i < SMALLS; i += 2) {
    hidden[i] = test_hide(smalls[i]);
    midden_free(smalls[i]);
    smalls[i] = NULL;
  }
}

static void what_was_freed_is_not_old(void **state) {
  (void)state;
  make_and_free();
  collect_minor();
  for (size_t i = 1; i < SMALLS; i += 2) assert_false(midden_owns(test_unhide(hidden[i])));
  midden_verify();
}

static void an_old_large_object_counts(void **state) {
  (void)state;
  collect_minor();
  assert_in_range(atomic_load_relaxed(&collector.totals.marked_bytes), LARGE_BYTES, 2 * LARGE_BYTES);
}

NOINLINE_TEST static void allocate_garbage(void) {
  for (size_t bytes = 0; bytes < GARBAGE_BYTES; bytes += SMALL_BYTES)
    REQUIRE(midden_alloc(SMALL_BYTES) != NULL, "out of memory");
}

static void what_was_dropped_in_the_cycle_does_not_count(void **state) {
  (void)state;
  test_scrub_stack();
  cycle_begin(&drained);
  allocate_garbage();
  test_scrub_stack();
  cycle_go_on(&drained);
  cycle_end();
  size_t marked_bytes = atomic_load_relaxed(&collector.totals.marked_bytes);
  assert_in_range(atomic_load_relaxed(&account_live_bytes), marked_bytes, marked_bytes + GARBAGE_BYTES / 4);
}

int main(void) {
  test_start("unit/dirty_old");
  if (!test_writes_are_told()) return TEST_SKIPPED;
  cycle_init_dirty(MIDDEN_GENERATIONS_ALWAYS, MIDDEN_DEBUG_VERIFY);
  if (guard_active) return TEST_SKIPPED;
  cycle_step_init(&drained);
  alarm(60);
  large = midden_alloc(LARGE_BYTES);
  smalls = midden_alloc(SMALLS * sizeof *smalls);
  REQUIRE(large != NULL && smalls != NULL, "out of memory");
  midden_collect();
  const struct CMUnitTest tests[] = {
      test_scrubbed(what_was_freed_is_not_old),
      test_scrubbed(an_old_large_object_counts),
      test_scrubbed(what_was_dropped_in_the_cycle_does_not_count),
  };
  return test_run_group(tests);
}
