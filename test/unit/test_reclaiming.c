/* Before the page heap touches new memory, spans without any mark are swept: in each generation anew, and no others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/sweep.h"
#include "support/heap_test.h"

enum { OBJECT_BYTES = 1000, OBJECTS = 8000, LEAST_PAGES = 256 };

static void **kept; /* a root */

NOINLINE_TEST static void make_garbage(void) {
  for (unsigned i = 0; i < OBJECTS; i++) REQUIRE(midden_alloc_data(OBJECT_BYTES) != NULL, "out of memory");
}

static size_t reclaim(void) {
  struct sweep_stats stats;
  struct mutator *self = mutator_self();
  mutator_enter(self);
  sweep_reclaim(SIZE_MAX / 2);
  mutator_leave(self);
  sweep_read_stats(&stats);
  size_t pages = stats.swept_pages[SWEEPER_RECLAIM];
  REQUIRE(stats.freed_pages >= pages, "%zu pages reclaimed, %zu freed", pages, stats.freed_pages);
  return pages;
}

static void what_died_is_found_in_each_generation(void **state) {
  (void)state;
  for (unsigned i = 0; i < 3; i++) {
    make_garbage();
    test_collect_clean();
    assert_true(sweep_left_pages() > LEAST_PAGES);
    assert_true(reclaim() > LEAST_PAGES);
    assert_true(sweep_left_pages() < LEAST_PAGES);
  }
}

static void what_is_given_back_is_counted(void **state) {
  (void)state;
  make_garbage();
  test_collect_clean();
  struct midden_stats before = test_stats();
  midden_release_memory();
  struct midden_stats after = test_stats();
  assert_true(after.heap_released > before.heap_released);
  assert_int_equal(after.released_total - before.released_total, after.heap_released - before.heap_released);
}

static void what_lives_is_left_alone(void **state) {
  (void)state;
  kept = midden_alloc(OBJECTS * sizeof *kept);
  for (unsigned i = 0; i < OBJECTS; i++) kept[i] = midden_alloc_data(OBJECT_BYTES);
  test_collect_clean();
  size_t left_pages = sweep_left_pages();
  assert_true(left_pages > LEAST_PAGES);
  size_t pages = reclaim();
  assert_int_equal(sweep_left_pages(), left_pages - pages);
  assert_true(pages < LEAST_PAGES);
}

int main(void) {
  setenv("MIDDEN_DEBUG", "notools", 0); /* guarded objects are all swept at once */
  test_start("unit/reclaiming");
  struct midden_options options = {
      .size = sizeof options, .mode = MIDDEN_MODE_STW, .background = -1, .idle_collect_ms = -1, .percent = -1};
  REQUIRE(midden_init(&options) == 0 && midden_thread_attach() == 0, "midden_init");
  const struct CMUnitTest tests[] = {cmocka_unit_test(what_died_is_found_in_each_generation),
                                     cmocka_unit_test(what_is_given_back_is_counted),
                                     cmocka_unit_test(what_lives_is_left_alone)};
  return test_run_group(tests);
}
