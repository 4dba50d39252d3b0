/* The spans that a thread's cache takes ahead of need: few locks for who allocates much, few spans for who does not, none after a
 * cycle. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "alloc/cache.h"
#include "alloc/central.h"
#include "mutator/mutator.h"
#include "span/guard.h"
#include "support/heap_test.h"

enum { OBJECT_BYTES = 64, LARGE_BYTES = 24 << 10, SPANS = 400, MOST = 8 };

static struct cache_bin *bin_of(size_t bytes) {
  return cache_bin_of(&mutator_self()->cache, MIDDEN_DATA, size_class_of(bytes));
}

/* Spans of the chain after, or before, one of them. */
static unsigned count_spans(const struct span *span, bool after) {
  unsigned count = 0;
  for (const struct link *link = &span->link; (link = after ? link->next : link->prev) != NULL; count++) {
    const struct span *other = CONTAINER_OF(link, struct span, link);
    REQUIRE(other->in_cache && link->list == NULL, "a span of a chain is on a list");
  }
  return count;
}

/* Allocates until so many spans have been used up; returns how many chains that were, and how many spans were most ahead. */
static NOINLINE_TEST unsigned use_up(size_t bytes, unsigned spans, unsigned *most_ahead) {
  const struct cache_bin *bin = bin_of(bytes);
  unsigned chains = 0, used_up = 0;
  const struct span *current = bin->span;
  *most_ahead = 0;
  while (used_up < spans) {
    REQUIRE(midden_alloc_data(bytes) != NULL, "out of memory");
    if (bin->span == current) continue;
    current = bin->span;
    used_up++;
    unsigned ahead = count_spans(current, true), behind = count_spans(current, false);
    chains += behind == 0;
    REQUIRE(ahead + behind < MOST && ahead <= used_up, "%u spans ahead, %u behind, after %u", ahead, behind, used_up);
    if (ahead > *most_ahead) *most_ahead = ahead;
  }
  return chains;
}

static void require_nothing_held(size_t bytes) {
  const struct cache_bin *bin = bin_of(bytes);
  assert_null(bin->span);
  assert_int_equal(bin->chains, 0);
}

/* Memory that was never touched is taken a span at a time. */
static void memory_that_is_not_resident_is_not_taken_ahead(void **state) {
  (void)state;
  unsigned most_ahead;
  assert_int_equal(use_up(OBJECT_BYTES, SPANS, &most_ahead), SPANS);
  assert_int_equal(most_ahead, 0);
}

/* 1, 2, and so on, then MOST at a time. */
static void who_allocates_much_takes_many_at_once(void **state) {
  (void)state;
  unsigned most_ahead;
  midden_collect();
  require_nothing_held(OBJECT_BYTES);
  unsigned chains = use_up(OBJECT_BYTES, SPANS, &most_ahead);
  assert_in_range(chains, SPANS / MOST, SPANS / MOST + MOST);
  assert_int_equal(most_ahead, MOST - 1);
}

static void who_allocates_little_holds_little(void **state) {
  (void)state;
  unsigned most_ahead;
  midden_collect();
  require_nothing_held(OBJECT_BYTES);
  use_up(OBJECT_BYTES, 3, &most_ahead);
  assert_in_range(most_ahead, 0, 1);
}

static void large_spans_are_taken_one_at_a_time(void **state) {
  (void)state;
  unsigned most_ahead;
  use_up(LARGE_BYTES, SPANS / 4, &most_ahead);
  midden_collect();
  assert_int_equal(use_up(LARGE_BYTES, SPANS / 4, &most_ahead), SPANS / 4);
  assert_int_equal(most_ahead, 0);
}

/* In the lists of living spans, too: those with free slots go to the next who asks. */
static void what_lives_and_has_room_is_taken_ahead(void **state) {
  (void)state;
  enum { LIVING = 4096 };
  static void *living[LIVING]; /* a root */
  unsigned most_ahead;
  for (unsigned i = 0; i < LIVING; i++) {
    for (unsigned gap = 0; gap < 7; gap++) REQUIRE(midden_alloc_data(OBJECT_BYTES) != NULL, "out of memory");
    REQUIRE((living[i] = midden_alloc_data(OBJECT_BYTES)) != NULL, "out of memory");
  }
  midden_collect();
  unsigned chains = use_up(OBJECT_BYTES, LIVING / 32, &most_ahead);
  assert_in_range(chains, 1, LIVING / 32 / 2);
  for (unsigned i = 0; i < LIVING; i++) living[i] = NULL;
}

int main(void) {
  struct midden_options options = {
      .size = sizeof options, .mode = MIDDEN_MODE_STW, .min_heap_bytes = (size_t)256 << 20, .markers = 1};
  REQUIRE(midden_init(&options) == 0, "no start");
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  if (guard_active) return TEST_SKIPPED; /* objects are larger than they say */
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(memory_that_is_not_resident_is_not_taken_ahead),
      cmocka_unit_test(who_allocates_much_takes_many_at_once), cmocka_unit_test(who_allocates_little_holds_little),
      cmocka_unit_test(large_spans_are_taken_one_at_a_time), cmocka_unit_test(what_lives_and_has_room_is_taken_ahead)};
  return test_run_group(tests);
}
