/* The pacer's goal: growth, the extra room of small heaps, floor, limit, overflow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/pacer.h"

#define MIB ((size_t)1 << 20)

static const struct pacer standard = {.percent = 100,
                                      .min_heap_bytes = 4 * MIB,
                                      .initial_heap_bytes = 4 * MIB,
                                      .memory_limit_bytes = SIZE_MAX,
                                      .max_heap_bytes = SIZE_MAX};

static const struct pacer_footprint empty;

static void growth_and_extra_room(void **state) {
  (void)state;
  assert_int_equal(pacer_goal(&standard, 0, &empty), 4 * MIB);
  assert_int_equal(pacer_goal(&standard, 100 * MIB, &empty), (200 + PACER_SMALL_FACTOR * 8) * MIB);
  struct pacer half = standard;
  half.percent = 50;
  assert_int_equal(pacer_goal(&half, 100 * MIB, &empty) / MIB,
                   150 + PACER_SMALL_FACTOR * 4 - 1); /* rounded down by less than 1 KiB */
  half.percent = 0;
  assert_int_equal(pacer_goal(&half, 100 * MIB, &empty), 100 * MIB + MIB / 4); /* or nothing else would be done */
  half.percent = 250;
  assert_true(pacer_goal(&half, 100 * MIB, &empty) > 350 * MIB);
}

/* It has room, and does not grow. */
static void what_is_dying(void **state) {
  (void)state;
  struct pacer pacer = standard;
  pacer.dying_bytes = 60 * MIB;
  assert_int_equal(pacer_goal(&pacer, 160 * MIB, &empty), (60 + 200 + PACER_SMALL_FACTOR * 8) * MIB);
  assert_int_equal(pacer_goal(&pacer, 60 * MIB, &empty), (60 + 4) * MIB);
  assert_int_equal(pacer_goal(&pacer, 40 * MIB, &empty), (40 + 4) * MIB);
  pacer.percent = -1;
  assert_true(pacer_goal(&pacer, 160 * MIB, &empty) == SIZE_MAX);
}

/* The limit is on memory, the goal on objects: tables, stacks and how full pages are lie between them. */
static void limits(void **state) {
  (void)state;
  struct pacer limited = standard;
  limited.memory_limit_bytes = 64 * 3 * MIB; /* of which a 64th, 3 MiB, is left for tables that grow */
  struct pacer_footprint footprint = {.fixed_bytes = 9 * MIB};
  assert_int_equal(pacer_goal(&limited, 100 * MIB, &footprint), 180 * MIB);
  footprint = (struct pacer_footprint){.fixed_bytes = 9 * MIB, .in_use_bytes = 150 * MIB, .object_bytes = 125 * MIB};
  assert_in_range(pacer_goal(&limited, 100 * MIB, &footprint), 150 * MIB - 1, 150 * MIB);
  /* Pages that are nearly empty promise no more than a half. */
  footprint.object_bytes = MIB;
  assert_int_equal(pacer_goal(&limited, 80 * MIB, &footprint), 90 * MIB);
  /* Live heap and the rest fill the limit: headroom remains. */
  assert_int_equal(pacer_goal(&limited, 192 * MIB, &footprint), 198 * MIB);
  footprint.fixed_bytes = SIZE_MAX / 2;
  assert_int_equal(pacer_goal(&limited, 1 * MIB, &footprint), 1 * MIB + MIB / 4);
  limited.memory_limit_bytes = 1;
  assert_int_equal(pacer_goal(&limited, 0, &empty), MIB / 4);
  assert_int_equal(pacer_unlimited_goal(&limited, 100 * MIB), (200 + PACER_SMALL_FACTOR * 8) * MIB);
}

/* It is on pages: what lies beside them does not count. */
static void largest_heap(void **state) {
  (void)state;
  struct pacer limited = standard;
  limited.max_heap_bytes = 64 * 3 * MIB;
  struct pacer_footprint footprint = {
      .fixed_bytes = 90 * MIB, .in_use_bytes = 150 * MIB, .object_bytes = 125 * MIB}; /* 1.2 bytes a byte */
  assert_int_equal(pacer_goal(&limited, 60 * MIB, &footprint), (120 + PACER_SMALL_FACTOR * 8) * MIB);
  assert_in_range(pacer_goal(&limited, 100 * MIB, &footprint), 189 * MIB / 12 * 10 - 1, 189 * MIB / 12 * 10);
  assert_int_equal(pacer_goal(&limited, 192 * MIB, &footprint), 198 * MIB); /* headroom remains */
  limited.memory_limit_bytes = 64 * 2 * MIB;
  assert_int_equal(pacer_goal(&limited, 20 * MIB, &footprint) / MIB, 30); /* the tighter one counts */
  limited.percent = -1;
  limited.memory_limit_bytes = SIZE_MAX;
  assert_true(pacer_goal(&limited, 100 * MIB, &footprint) < 192 * MIB);
}

static void pages_of_objects(void **state) {
  (void)state;
  const struct pacer_footprint footprint = {.in_use_bytes = 150 * MIB, .object_bytes = 125 * MIB};
  assert_in_range(pacer_pages_bytes(&footprint, 100 * MIB), 120 * MIB - 1, 120 * MIB);
  assert_int_equal(pacer_pages_bytes(&empty, 100 * MIB), 100 * MIB);
  assert_int_equal(pacer_pages_bytes(&footprint, SIZE_MAX), SIZE_MAX);
}

static void extremes(void **state) {
  (void)state;
  struct pacer off = standard;
  off.percent = -1;
  assert_int_equal(pacer_goal(&off, MIB, &empty), SIZE_MAX);
  assert_int_equal(pacer_first_goal(&off), SIZE_MAX);
  off.percent = 100000;
  assert_int_equal(pacer_goal(&off, SIZE_MAX / 2, &empty), SIZE_MAX);
  assert_int_equal(pacer_first_goal(&standard), 4 * MIB);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(growth_and_extra_room), cmocka_unit_test(what_is_dying),    cmocka_unit_test(limits),
      cmocka_unit_test(largest_heap),          cmocka_unit_test(pages_of_objects), cmocka_unit_test(extremes)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
