/* Dirty-page mode where the kernel fails in the midst of a cycle, on a forced schedule: a round has protected a page again to which
 * the program had stored, and nobody hears of it.  The stop reads all that is marked once more; no minor cycle follows, and the
 * next full one knows what is written, as ever.  Where the program has closed the descriptors, others are opened.
 *
 * The refusal is this file's (--wrap, see cmake/tests.cmake). */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/cycle.h"
#include "gc/rounds.h"
#include "os/os_dirty.h"
#include "support/dirty_test.h"
#include "support/drained_step.h"

enum { LARGE_BYTES = 4 << 20, HOLDER_BYTES = 16 << 10 };

static void *volatile large; /* so that cycles run beside the program */
static void **holder;        /* old; nothing else is stored to its middle's page */
static bool refuses;         /* atomic; the next scan that protects the holder */

static void **middle(void) { return &holder[HOLDER_BYTES / sizeof(void *) / 2]; }

int __real_os_dirty_scan(struct os_range *rest, bool protect, struct os_range *written, size_t capacity, size_t *count);
int __wrap_os_dirty_scan(struct os_range *rest, bool protect, struct os_range *written, size_t capacity, size_t *count);

int __wrap_os_dirty_scan(struct os_range *rest, bool protect, struct os_range *written, size_t capacity,
                         size_t *count) {
  uintptr_t start = rest->start, at = (uintptr_t)middle();
  int error = __real_os_dirty_scan(rest, protect, written, capacity, count);
  bool is_passed = protect && start <= at && at < rest->start;
  if (error != 0 || !is_passed || !atomic_exchange_acq_rel(&refuses, false)) return error;
  return -EPERM;
}

NOINLINE_TEST static uintptr_t store_young(void) {
  void *young = midden_alloc(64);
  *middle() = young;
  watch(young);
  return test_hide(young);
}

static uint64_t minor_collections(void) {
  struct collector_totals totals;
  collector_read_totals(&totals);
  return totals.minor_collections;
}

static void what_a_failing_round_protected_is_read_in_the_stop(void **state) {
  (void)state;
  test_scrub_stack();
  cycle_begin(&drained);
  uintptr_t young = store_young();
  test_scrub_stack();
  atomic_store_release(&refuses, true);
  cycle_go_on(&drained);
  cycle_end();
  assert_false(atomic_load_acquire(&refuses));
  assert_true(is_kept(young));
  assert_true(is_dropped_gone());
  assert_true(rounds_are_lost());
}

static void no_minor_cycle_follows_and_the_next_is_not_lost(void **state) {
  (void)state;
  assert_false(generation_wants_minor(&collector.generation));
  uint64_t before = minor_collections();
  collector_collect(COLLECT_STRESS, NULL, NULL);
  assert_int_equal(minor_collections(), before);
  assert_false(rounds_are_lost());
  assert_true(generation_wants_minor(&collector.generation));
  collector_collect(COLLECT_STRESS, NULL, NULL);
  assert_int_equal(minor_collections(), before + 1);
}

/* ---- descriptors that the program closes ---- */

enum { FIRST_DESCRIPTOR = 960, LAST_DESCRIPTOR = 1023 }; /* the library's are there, and no others of this test */

static size_t concurrent_cycles;

static void note_report(const struct collector_report *report) { concurrent_cycles += report->concurrent; }

static void closed_descriptors_are_opened_anew(void **state) {
  (void)state;
  collector_reporter = note_report;
  midden_collect();
  assert_int_equal(concurrent_cycles, 1);
  for (int i = FIRST_DESCRIPTOR; i <= LAST_DESCRIPTOR; i++) close(i);
  assert_false(written_is_watched());
  midden_collect();
  assert_int_equal(concurrent_cycles, 2);
  collector_reporter = NULL;
}

int main(void) {
  test_start("unit/dirty_lost");
  if (!test_writes_are_told()) return TEST_SKIPPED;
  cycle_init_dirty(MIDDEN_GENERATIONS_ALWAYS, 0);
  cycle_step_init(&drained);
  large = midden_alloc(LARGE_BYTES);
  holder = midden_alloc(HOLDER_BYTES);
  REQUIRE(large != NULL && holder != NULL, "out of memory");
  alarm(60);
  test_scrub_stack();
  midden_collect(); /* they are old */
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_a_failing_round_protected_is_read_in_the_stop),
      cmocka_unit_test(no_minor_cycle_follows_and_the_next_is_not_lost),
      cmocka_unit_test(closed_descriptors_are_opened_anew),
  };
  return test_run_group(tests);
}
