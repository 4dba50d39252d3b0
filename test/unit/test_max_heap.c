/* The largest heap: collections begin before there is no room, and the goal follows when the program changes it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/heap_test.h"

#define MIB ((size_t)1 << 20)

enum { NODES = 600000, NODE_BYTES = 64, TURNS = 4 };

static const size_t most = 64 * MIB;
static void **list; /* static data: a root; 37 MiB */

static void make_list(void) {
  for (size_t i = 0; i < NODES; i++) {
    void **node = midden_alloc(NODE_BYTES);
    assert_non_null(node);
    node[0] = list;
    list = node;
  }
}

static void no_allocation_waits_for_want_of_room(void **state) {
  (void)state;
  make_list();
  midden_collect();
  struct midden_stats before = test_stats();
  assert_in_range(before.heap_goal, before.heap_live, most);
  for (size_t i = 0; i < TURNS * NODES; i++) assert_non_null(midden_alloc(NODE_BYTES));
  struct midden_stats after = test_stats();
  assert_true(after.collections_heap > before.collections_heap);
  assert_int_equal(after.collections_out_of_memory, before.collections_out_of_memory);
}

static void the_goal_follows(void **state) {
  (void)state;
  size_t limited_bytes = test_stats().heap_goal;
  assert_int_equal(midden_set_max_heap(0), most);
  assert_in_range(test_stats().heap_goal, most, SIZE_MAX);
  assert_int_equal(midden_set_max_heap(most), 0);
  assert_int_equal(test_stats().heap_goal, limited_bytes);
}

int main(void) {
  test_start("unit/max_heap");
  struct midden_options options = {
      .size = sizeof options, .mode = MIDDEN_MODE_STW, .max_heap_bytes = most, .idle_collect_ms = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  const struct CMUnitTest tests[] = {cmocka_unit_test(no_allocation_waits_for_want_of_room),
                                     cmocka_unit_test(the_goal_follows)};
  return test_run_group(tests);
}
