/* Spans in which nothing lives stay with their size class where sweeping is paid as debt: as many as were taken there in the last
 * generation, and no more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "alloc/central.h"
#include "mutator/mutator.h"
#include "support/heap_test.h"

enum { OBJECT_BYTES = 1000, OBJECTS = 4000 };

static struct central *central;
static void **kept; /* a root */

NOINLINE_TEST static void make_garbage(void) {
  for (unsigned i = 0; i < OBJECTS; i++) REQUIRE(midden_alloc_data(OBJECT_BYTES) != NULL, "out of memory");
}

static void make_dead(void) {
  make_garbage();
  test_collect_clean();
}

NOINLINE_TEST static void make_kept(void) {
  kept = midden_alloc(OBJECTS * sizeof *kept);
  for (unsigned i = 0; i < OBJECTS; i++) kept[i] = midden_alloc_data(OBJECT_BYTES);
}

/* Sweeps all spans of the class; returns how many pages went back. */
static size_t sweep_all(bool keeps_wanted, size_t *spans_swept) {
  struct span *spans[CENTRAL_MANY];
  struct mutator *self = mutator_self();
  size_t freed_pages = 0, count;
  *spans_swept = 0;
  mutator_enter(self);
  while ((count = central_claim_first(central, spans, CENTRAL_MANY)) != 0) {
    for (size_t i = 0; i < count; i++) central_swept_pages[SWEEPER_DEBT] += spans[i]->page_count;
    freed_pages += central_sweep_many(spans, count, keeps_wanted);
    *spans_swept += count;
  }
  mutator_leave(self);
  return freed_pages;
}

static size_t pages_in_use(void) { return test_stats().heap_in_use >> PAGE_SHIFT; }

static void what_was_taken_is_kept_and_used(void **state) {
  (void)state;
  size_t spans;
  make_dead();
  assert_int_equal(sweep_all(true, &spans), 0);
  assert_true(spans > OBJECTS / 16);
  size_t before = pages_in_use();
  make_garbage();
  assert_int_equal(pages_in_use(), before);
}

static void who_does_not_ask_for_it_has_all(void **state) {
  (void)state;
  size_t spans;
  make_dead();
  assert_true(sweep_all(false, &spans) >= spans);
}

static void what_nobody_took_goes_back(void **state) {
  (void)state;
  size_t spans;
  make_dead();
  assert_int_equal(sweep_all(true, &spans), 0);
  test_collect_clean();
  assert_true(sweep_all(true, &spans) >= spans);
  assert_true(spans > OBJECTS / 16);
}

static void what_was_taken_long_ago_does_not_count(void **state) {
  (void)state;
  size_t spans;
  make_kept();
  test_collect_clean(); /* they live; none is taken from now on */
  kept = NULL;
  test_collect_clean();
  assert_true(sweep_all(true, &spans) >= spans);
  assert_true(spans > OBJECTS / 16);
}

static void more_than_was_taken_goes_back(void **state) {
  (void)state;
  size_t spans;
  make_kept();
  test_collect_clean();
  make_garbage(); /* taken: half of what dies then */
  kept = NULL;
  test_collect_clean();
  size_t freed_pages = sweep_all(true, &spans), span_pages = size_class_pages[size_class_of(OBJECT_BYTES)];
  assert_in_range(freed_pages / span_pages, spans / 3, spans * 2 / 3);
}

int main(void) {
  setenv("MIDDEN_DEBUG", "notools", 0); /* guarded objects are all swept at once */
  test_start("unit/empty_spans");
  struct midden_options options = {
      .size = sizeof options, .mode = MIDDEN_MODE_STW, .background = -1, .idle_collect_ms = -1, .percent = -1};
  REQUIRE(midden_init(&options) == 0 && midden_thread_attach() == 0, "midden_init");
  REQUIRE(midden_alloc_data(OBJECT_BYTES) != NULL, "out of memory");
  central = central_if_exists(MIDDEN_DATA, size_class_of(OBJECT_BYTES));
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_was_taken_is_kept_and_used), cmocka_unit_test(who_does_not_ask_for_it_has_all),
      cmocka_unit_test(what_nobody_took_goes_back), cmocka_unit_test(what_was_taken_long_ago_does_not_count),
      cmocka_unit_test(more_than_was_taken_goes_back)};
  return test_run_group(tests);
}
