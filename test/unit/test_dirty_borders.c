/* Dirty-page mode and objects that lie across the border of two OS pages: what is stored to the part behind the border is found, where
 * that page alone is reported and the object, or its element, begins on the one before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "span/guard.h"
#include "support/dirty_test.h"
#include "support/drained_step.h"

enum { ELEMENTS = 1 << 16, SMALLS = 4096, SMALL_WORDS = 26 };

struct element {
  uintptr_t numbers[2];
  void *reference;
};

static const uint64_t pointers[] = {4};
static const struct midden_type element_type = {
    .name = "element", .size = sizeof(struct element), .pointers = pointers};

static struct element *elements; /* large */
static void ***smalls;           /* of conservative objects */

/* ---- the program's side ---- */

static uintptr_t page_of(const void *address) { return (uintptr_t)address / (uintptr_t)sysconf(_SC_PAGESIZE); }

static void **behind_border_in_array(void) {
  size_t i = ELEMENTS / 2;
  while (page_of(&elements[i]) == page_of(&elements[i].reference)) i++;
  return &elements[i].reference;
}

static void **behind_border_in_small(void) {
  size_t i = SMALLS / 2;
  while (i < SMALLS && page_of(smalls[i]) == page_of(&smalls[i][SMALL_WORDS - 1])) i++;
  REQUIRE(i < SMALLS, "no object lies across a border");
  return &smalls[i][SMALL_WORDS - 1];
}

/* Beside typed objects, whose types may have trace functions, all that is new lives through the cycle: so it is old. */
NOINLINE_TEST static void make_garbage(void) { watch(midden_alloc(64)); }

NOINLINE_TEST static uintptr_t store_garbage(void **slot) {
  *slot = midden_weak_get(watched);
  return test_hide(*slot);
}

static void finds_what_is_stored_to(void **slot) {
  make_garbage();
  test_scrub_stack();
  cycle_begin(&drained);
  uintptr_t stored = store_garbage(slot);
  test_scrub_stack();
  cycle_go_on(&drained);
  cycle_end();
  assert_true(is_kept(stored));
  assert_true(is_dropped_gone());
  *slot = NULL;
  test_collect_clean();
  assert_false(is_kept(stored));
}

static void an_element_of_a_typed_array(void **state) {
  (void)state;
  finds_what_is_stored_to(behind_border_in_array());
}

static void a_small_object(void **state) {
  (void)state;
  finds_what_is_stored_to(behind_border_in_small());
}

static int set_up(void **state) {
  (void)state;
  elements = midden_alloc_array(&element_type, ELEMENTS);
  smalls = midden_alloc(SMALLS * sizeof *smalls);
  REQUIRE(elements != NULL && smalls != NULL, "out of memory");
  for (size_t i = 0; i < SMALLS; i++) smalls[i] = midden_alloc(SMALL_WORDS * sizeof(void *));
  midden_collect();
  return 0;
}

int main(void) {
  test_start("unit/dirty_borders");
  if (!test_writes_are_told()) return TEST_SKIPPED;
  cycle_init_dirty(MIDDEN_GENERATIONS_OFF, 0);
  if (guard_active) return TEST_SKIPPED; /* typed objects are read in the stop alone */
  cycle_step_init(&drained);
  alarm(60);
  const struct CMUnitTest tests[] = {
      test_scrubbed(an_element_of_a_typed_array),
      test_scrubbed(a_small_object),
  };
  return cmocka_run_group_tests(tests, set_up, NULL);
}
