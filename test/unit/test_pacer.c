/* The pacer's goal: growth, the extra room of small heaps, floor, limit, overflow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/pacer.h"

#define MIB ((size_t)1 << 20)

static const struct pacer standard = {
    .percent = 100, .min_heap_bytes = 4 * MIB, .initial_heap_bytes = 4 * MIB, .memory_limit_bytes = SIZE_MAX};

static void growth_and_extra_room(void **state) {
  (void)state;
  assert_int_equal(pacer_goal(&standard, 0, 0), 4 * MIB);
  assert_int_equal(pacer_goal(&standard, 100 * MIB, 0), (200 + PACER_SMALL_FACTOR * 8) * MIB);
  struct pacer half = standard;
  half.percent = 50;
  assert_int_equal(pacer_goal(&half, 100 * MIB, 0) / MIB,
                   150 + PACER_SMALL_FACTOR * 4 - 1); /* rounded down by less than 1 KiB */
  half.percent = 250;
  assert_true(pacer_goal(&half, 100 * MIB, 0) > 350 * MIB);
}

static void limits(void **state) {
  (void)state;
  struct pacer limited = standard;
  limited.memory_limit_bytes = 150 * MIB;
  assert_int_equal(pacer_goal(&limited, 100 * MIB, 10 * MIB), 140 * MIB);
  /* Live and overhead fill the limit: headroom remains. */
  assert_int_equal(pacer_goal(&limited, 160 * MIB, 10 * MIB), 180 * MIB);
  assert_int_equal(pacer_goal(&limited, 1 * MIB, 200 * MIB), 1 * MIB + MIB / 4);
}

static void extremes(void **state) {
  (void)state;
  struct pacer off = standard;
  off.percent = -1;
  assert_int_equal(pacer_goal(&off, MIB, 0), SIZE_MAX);
  assert_int_equal(pacer_first_goal(&off), SIZE_MAX);
  off.percent = 100000;
  assert_int_equal(pacer_goal(&off, SIZE_MAX / 2, 0), SIZE_MAX);
  assert_int_equal(pacer_first_goal(&standard), 4 * MIB);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(growth_and_extra_room), cmocka_unit_test(limits),
                                     cmocka_unit_test(extremes)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
