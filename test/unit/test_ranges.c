/* Sets of ranges against an array of flags, and how long it takes to go through many of them piece by piece. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "mutator/ranges.h"
#include "mutator/roots.h"
#include "support/heap_test.h"

enum { PLACES = 64, STEPS = 20000, MANY = 100000 };

static bool is_member[PLACES];
static struct ranges set;
static struct rng rng;

static struct os_range random_range(void) {
  uintptr_t start = rng_below(&rng, PLACES);
  return (struct os_range){start, start + rng_below(&rng, PLACES - start + 1)};
}

static void set_members(struct os_range range, bool member) {
  for (uintptr_t at = range.start; at < range.end; at++) is_member[at] = member;
}

static void check_set(void) {
  bool found[PLACES] = {false};
  for (size_t i = 0; i < set.count; i++) {
    REQUIRE(set.items[i].start < set.items[i].end, "range %zu is empty", i);
    REQUIRE(i == 0 || set.items[i - 1].end < set.items[i].start, "ranges %zu and the one before touch", i);
    for (uintptr_t at = set.items[i].start; at < set.items[i].end; at++) found[at] = true;
  }
  REQUIRE(memcmp(found, is_member, sizeof found) == 0, "the set has other members");
}

static void check_first_beyond(uintptr_t address) {
  size_t first = 0;
  while (first < set.count && set.items[first].end <= address) first++;
  REQUIRE(ranges_first_beyond(&set, address) == first, "the first beyond %zu is another", (size_t)address);
}

static void mark_outside(void *argument, struct os_range range) {
  bool *outside = argument;
  for (uintptr_t at = range.start; at < range.end; at++) outside[at] = true;
}

static void check_outside(struct os_range range) {
  bool outside[PLACES] = {false};
  ranges_visit_outside(&set, range, mark_outside, outside);
  for (uintptr_t at = 0; at < PLACES; at++) {
    bool wanted = at >= range.start && at < range.end && !is_member[at];
    REQUIRE(outside[at] == wanted, "%zu is visited: %d", (size_t)at, outside[at]);
  }
}

static void they_are_as_flags(void **state) {
  (void)state;
  for (int i = 0; i < STEPS; i++) {
    struct os_range range = random_range();
    bool adds = rng_one_in(&rng, 2);
    REQUIRE((adds ? ranges_add : ranges_remove)(&set, range) == 0, "no memory");
    set_members(range, adds);
    check_set();
    check_first_beyond(rng_below(&rng, PLACES));
    check_outside(random_range());
  }
}

static void one_that_is_cut_in_two_finds_room(void **state) {
  (void)state;
  struct ranges full = {0};
  uintptr_t end = 0;
  do {
    REQUIRE(ranges_add(&full, (struct os_range){end + 10, end + 20}) == 0, "no memory");
    end += 20;
  } while (full.count < full.capacity);
  size_t before = full.count;
  assert_int_equal(ranges_remove(&full, (struct os_range){14, 16}), 0);
  assert_int_equal(full.count, before + 1);
  assert_true(full.count <= full.capacity);
}

/* As a cycle beside the program does: the next piece is found anew each time.  To go through all of them each time took ten
 * seconds and more. */
static void the_next_of_many_is_found_soon(void **state) {
  (void)state;
  static void *words[2 * MANY];
  for (size_t i = 0; i < MANY; i++) REQUIRE(midden_root_add(&words[2 * i], &words[2 * i + 1]) == 0, "no memory");
  struct os_range piece = {(uintptr_t)words, (uintptr_t)words}, all = {(uintptr_t)words, (uintptr_t)(words + 2 * MANY)};
  uint64_t start_ns = os_process_cpu_ns();
  size_t count = 0;
  for (; roots_first_added_in((struct os_range){piece.end, all.end}, &piece); count++) continue;
  uint64_t ns = os_process_cpu_ns() - start_ns;
  midden_root_clear();
  assert_int_equal(count, MANY);
  assert_true(ns < 2000000000);
}

int main(void) {
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  rng = test_start("test_ranges");
  const struct CMUnitTest tests[] = {cmocka_unit_test(they_are_as_flags),
                                     cmocka_unit_test(one_that_is_cut_in_two_finds_room),
                                     cmocka_unit_test(the_next_of_many_is_found_soon)};
  return test_run_group(tests);
}
