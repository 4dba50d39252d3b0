/* Dirty-page mode, on a forced schedule: a full cycle protects a part of the heap, is then refused, and nobody comes to stop the
 * world for it.  What was written before is told by no page any more, so that no minor cycle may follow.
 *
 * The refusal is this file's (--wrap, see cmake/tests.cmake). */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "alloc/account.h"
#include "base/atomic.h"
#include "gc/collector.h"
#include "os/os_dirty.h"
#include "support/dirty_test.h"

enum { PATIENT_MS = 5000 };

static struct {
  void **old, *large;
  struct midden_weak *weak;
} roots; /* added */

static bool refuses;     /* atomic; the next scan that protects roots.old */
static bool was_refused; /* atomic */

/* ---- the collector's side ---- */

int __real_os_dirty_scan(struct os_range *rest, bool protect, struct os_range *written, size_t capacity, size_t *count);
int __wrap_os_dirty_scan(struct os_range *rest, bool protect, struct os_range *written, size_t capacity, size_t *count);

int __wrap_os_dirty_scan(struct os_range *rest, bool protect, struct os_range *written, size_t capacity,
                         size_t *count) {
  uintptr_t start = rest->start, old = (uintptr_t)roots.old;
  int error = __real_os_dirty_scan(rest, protect, written, capacity, count);
  bool is_passed = protect && start <= old && old < rest->start;
  if (error != 0 || !is_passed || !atomic_exchange_acq_rel(&refuses, false)) return error;
  atomic_store_release(&was_refused, true);
  return -ENOMEM;
}

/* ---- the program's side ---- */

static void hear(enum midden_event event, void *argument) { (void)event, (void)argument; }

static struct collector_totals totals(void) {
  struct collector_totals read;
  collector_read_totals(&read);
  return read;
}

NOINLINE_TEST static void store_young(void) {
  *roots.old = midden_alloc(64);
  roots.weak = midden_weak_new(*roots.old);
  REQUIRE(roots.weak != NULL, "out of memory");
}

/* A cycle beside the program, at the end of which roots.old is old. */
static void make_old(void) {
  roots.large = midden_alloc(4 << 20);
  roots.old = midden_alloc(48); /* in a page to which nothing else is stored */
  for (int i = 0; i < 2; i++) midden_collect();
}

/* Under a memory limit cycles are full.  This one is given up a second after it was refused. */
static void ask_and_be_idle(void) {
  uint64_t before = totals().collections;
  midden_set_memory_limit((size_t)1 << 40);
  atomic_store_release(&refuses, true);
  while (!account_collection_is_due()) REQUIRE(midden_alloc(1000) != NULL, "out of memory");
  collector_collect(COLLECT_HEAP, NULL, NULL);
  for (int ms = 0; ms < PATIENT_MS && !atomic_load_acquire(&was_refused); ms += 10) test_sleep_ms(10);
  REQUIRE(atomic_load_acquire(&was_refused), "no cycle has come");
  test_sleep_ms(1500);
  REQUIRE(totals().collections == before, "somebody has ended it");
  midden_set_memory_limit(0);
}

NOINLINE_TEST static bool is_alive(void) { return midden_weak_get(roots.weak) != NULL; }

static void no_minor_cycle_follows_one_that_was_refused(void **state) {
  (void)state;
  make_old();
  store_young();
  test_scrub_stack();
  ask_and_be_idle();
  uint64_t before = totals().collections;
  while (totals().collections == before) REQUIRE(midden_alloc(1000) != NULL, "out of memory");
  test_scrub_stack();
  midden_collect();
  assert_true(is_alive());
}

int main(void) {
  test_start("test_dirty_protect");
  if (!test_writes_are_told()) return TEST_SKIPPED;
  struct midden_options options = {.size = sizeof(options),
                                   .mode = MIDDEN_MODE_DIRTY,
                                   .generations = MIDDEN_GENERATIONS_ALWAYS,
                                   .background = -1,
                                   .idle_collect_ms = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  midden_set_event_callback(hear, NULL);
  REQUIRE(midden_root_add(&roots, &roots + 1) == 0, "midden_root_add");
  alarm(60);
  const struct CMUnitTest tests[] = {cmocka_unit_test(no_minor_cycle_follows_one_that_was_refused)};
  return test_run_group(tests);
}
