/* What is charged for the stacks of fibers, where those end beside a cycle: the account neither falls short of what lives nor makes
 * the next goal one that is never reached. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/cycle_steps.h"

enum { FIBERS = 400, STACK_BYTES = 32 << 10, MOST_BYTES = 64 << 20 };

static struct midden_fiber *fibers[FIBERS]; /* static data: roots */

static void *nothing(void *argument) { return argument; }

/* Charged in this generation. */
static void make_fibers(void) {
  for (size_t i = 0; i < FIBERS; i++) {
    struct midden_fiber *fiber = midden_fiber_new(nothing, NULL, STACK_BYTES);
    assert_non_null(fiber);
    midden_store(&fibers[i], fiber);
  }
}

static void run_fibers(void) {
  for (size_t i = 0; i < FIBERS; i++) assert_int_equal(midden_fiber_resume(fibers[i], NULL, NULL), 0);
}

static void check_account(void) {
  struct midden_stats stats = test_stats();
  REQUIRE(stats.heap_live >= stats.heap_marked && stats.heap_live < MOST_BYTES, "%zu bytes live, %zu marked",
          stats.heap_live, stats.heap_marked);
  REQUIRE(stats.heap_goal < MOST_BYTES, "the next collection comes at %zu bytes", stats.heap_goal);
}

static void stacks_of_before_end_beside_a_cycle(void **state) {
  (void)state;
  midden_collect();
  make_fibers();
  cycle_begin(&cycle.read);
  run_fibers();
  cycle_go_on(&cycle.read);
  cycle_end();
  check_account();
}

/* Those that come and go in the cycle count for nothing. */
static void stacks_come_and_go_beside_a_cycle(void **state) {
  (void)state;
  midden_collect();
  cycle_begin(&cycle.read);
  size_t before = test_stats().heap_live;
  for (int i = 0; i < 50; i++) {
    make_fibers();
    run_fibers();
  }
  size_t after = test_stats().heap_live;
  cycle_go_on(&cycle.read);
  cycle_end();
  REQUIRE(after - before < (size_t)50 * FIBERS * 1024, "%zu bytes for stacks that went again", after - before);
  check_account();
}

/* A cycle that was given up, and the next one: no other was over in between. */
static void stacks_of_a_cycle_that_was_given_up_end_in_the_next(void **state) {
  (void)state;
  midden_collect();
  cycle.gives_up = true;
  cycle_begin(&cycle.read);
  make_fibers();
  cycle_go_on(&cycle.read);
  cycle_end();
  cycle_begin(&cycle.read);
  run_fibers();
  cycle_go_on(&cycle.read);
  cycle_end();
  check_account();
}

int main(void) {
  test_start("unit/fiber_account");
  cycle_init();
  const struct CMUnitTest tests[] = {cmocka_unit_test(stacks_of_before_end_beside_a_cycle),
                                     cmocka_unit_test(stacks_come_and_go_beside_a_cycle),
                                     cmocka_unit_test(stacks_of_a_cycle_that_was_given_up_end_in_the_next)};
  return test_run_group(tests);
}
