/* From which size of the heap on threads are slowed, in rounds and while the heap is drained. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>

#include "alloc/account.h"
#include "base/bits.h"
#include "gc/cycle.h"
#include "gc/slowing.h"
#include "support/heap_test.h"

#define GOAL_BYTES ((size_t)1600 << 20)

static bool is_due_at(size_t live_bytes) {
  account_live_bytes = live_bytes;
  return slowing_is_due();
}

static bool is_slowed_at(void (*stem)(void), size_t live_bytes) {
  stem();
  bool is_due = is_due_at(live_bytes);
  slowing_stop();
  assert_false(is_due_at(live_bytes));
  return is_due;
}

/* The first size at which `stem` slows is just above `bytes`. */
static void require_from(void (*stem)(void), size_t bytes) {
  assert_false(is_slowed_at(stem, 0));
  assert_false(is_slowed_at(stem, bytes));
  assert_true(is_slowed_at(stem, bytes + 1));
  assert_true(is_slowed_at(stem, SIZE_MAX));
}

static void set_up(size_t goal_bytes, size_t limit_bytes) {
  collector.totals.goal_bytes = goal_bytes;
  collector.pacer.memory_limit_bytes = limit_bytes;
}

static void a_little_beyond_the_goal_is_let_pass(void **state) {
  (void)state;
  set_up(GOAL_BYTES, SIZE_MAX);
  require_from(slowing_stem_growth, GOAL_BYTES + GOAL_BYTES / 16);
}

static void from_below(void) { slowing_stem_runaway(GOAL_BYTES / 2); }
static void from_beyond(void) { slowing_stem_runaway(4 * GOAL_BYTES); }

static void a_cycle_that_begins_beyond_the_goal_counts_from_there(void **state) {
  (void)state;
  set_up(GOAL_BYTES, SIZE_MAX);
  require_from(from_below, GOAL_BYTES + GOAL_BYTES / 8);
  require_from(from_beyond, 4 * GOAL_BYTES + GOAL_BYTES / 2);
}

static void under_a_limit_nothing_is(void **state) {
  (void)state;
  set_up(GOAL_BYTES, 2 * GOAL_BYTES);
  require_from(slowing_stem_growth, GOAL_BYTES);
  require_from(from_below, GOAL_BYTES + GOAL_BYTES / 8);
}

static void without_a_goal_nobody_is_slowed(void **state) {
  (void)state;
  static const size_t goals[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - (SIZE_MAX >> 6)}; /* by a least size of the heap */
  for (size_t i = 0; i < TEST_COUNT_OF(goals); i++) {
    set_up(goals[i], SIZE_MAX);
    assert_false(is_slowed_at(slowing_stem_growth, SIZE_MAX));
    assert_false(is_slowed_at(from_below, SIZE_MAX));
  }
}

static void all_are_slowed_until_it_is_over(void **state) {
  (void)state;
  set_up(GOAL_BYTES, SIZE_MAX);
  slowing_stem_all();
  slowing_stem_runaway(0);
  assert_true(is_due_at(1));
  slowing_stop();
  assert_false(is_due_at(SIZE_MAX));
}

enum { OWN_RESTS = 5, OTHERS_RESTS = 2 };

static void rest(unsigned count) {
  struct mutator *self = mutator_self();
  for (unsigned i = 0; i < count; i++) slowing_rest(self, 0);
}

static void *rest_in_thread(void *argument) {
  (void)argument;
  rest(OTHERS_RESTS);
  return NULL;
}

/* Its own rests add up, in each cycle anew; others' do not. */
static void the_longest_rests_are_one_threads(void **state) {
  (void)state;
  set_up(0, SIZE_MAX);
  account_live_bytes = GOAL_BYTES;
  for (int cycle = 0; cycle < 3; cycle++) {
    slowing_begin();
    rest(OWN_RESTS);
    uint64_t own_ns = slowing_rested_ns();
    assert_int_equal(slowing_longest_ns(), own_ns);
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, rest_in_thread, NULL) == 0, "pthread_create");
    pthread_join(thread, NULL);
    assert_int_equal(slowing_rests(), OWN_RESTS + OTHERS_RESTS);
    uint64_t others_ns = slowing_rested_ns() - own_ns;
    assert_true(others_ns > 0);
    assert_int_equal(slowing_longest_ns(), max_size(own_ns, others_ns));
  }
  slowing_stop();
  account_live_bytes = 0;
}

/* It may be in a callback of the program's, with the world stopped, and would wait for itself. */
static void who_collects_does_not_rest(void **state) {
  (void)state;
  struct mutator *self = mutator_self();
  set_up(0, SIZE_MAX);
  slowing_begin();
  slowing_stem_all();
  account_live_bytes = GOAL_BYTES;
  collector_acquire(self);
  slowing_rest(self, 0);
  collector_release();
  mutator_enter(self);
  slowing_rest(self, 0);
  mutator_leave(self);
  assert_int_equal(slowing_rests(), 0);
  rest(1);
  assert_int_equal(slowing_rests(), 1);
  slowing_stop();
  account_live_bytes = 0;
}

static struct mutator *told;
static size_t rests_when_told;

static void be_told(void *unused) {
  (void)unused;
  told = mutator_self();
  slowing_starving = 1;
  size_t before = slowing_rests();
  slowing_rest(told, 0);
  rests_when_told = slowing_rests() - before;
  slowing_starving = 0;
}

static void finalize(void *object, void *argument) { (void)object, (void)argument; }

NOINLINE_TEST static void drop_some(void) {
  for (int i = 0; i < 20; i++)
    midden_finalizer_set(midden_alloc(64), finalize, NULL, MIDDEN_FINALIZE_UNORDERED, NULL, NULL);
}

/* It may run finalizers, which allocate, before those that starve hear that the cycle is over. */
static void who_starves_waits_for_no_rest_of_the_drivers(void **state) {
  (void)state;
  set_up(GOAL_BYTES, SIZE_MAX);
  midden_set_finalizer_notify(be_told, NULL);
  drop_some();
  test_scrub_stack();
  midden_collect();
  midden_set_finalizer_notify(NULL, NULL);
  assert_non_null(told);
  assert_ptr_not_equal(told, mutator_self());
  assert_int_equal(rests_when_told, 0);
  midden_finalizers_run(SIZE_MAX);
  slowing_starving = 1;
  size_t before = slowing_rests();
  rest(1);
  slowing_starving = 0;
  assert_int_equal(slowing_rests() - before, 1);
}

static int is_slowed(void *unused) {
  (void)unused;
  return is_due_at(SIZE_MAX);
}

static void a_forks_child_is_not_slowed(void **state) {
  (void)state;
  set_up(GOAL_BYTES, SIZE_MAX);
  slowing_stem_all();
  slowing_starving = 1;
  test_child_succeeds("the child", is_slowed, NULL, 20);
  slowing_starving = 0;
  slowing_stop();
}

int main(void) {
  test_start("unit/slowing");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_little_beyond_the_goal_is_let_pass),
      cmocka_unit_test(a_cycle_that_begins_beyond_the_goal_counts_from_there),
      cmocka_unit_test(under_a_limit_nothing_is),
      cmocka_unit_test(without_a_goal_nobody_is_slowed),
      cmocka_unit_test(all_are_slowed_until_it_is_over),
      cmocka_unit_test(the_longest_rests_are_one_threads),
      cmocka_unit_test(who_collects_does_not_rest),
      cmocka_unit_test(who_starves_waits_for_no_rest_of_the_drivers),
      cmocka_unit_test(a_forks_child_is_not_slowed),
  };
  struct midden_options options = {
      .size = sizeof options, .mode = MIDDEN_MODE_BARRIER, .percent = -1, .idle_collect_ms = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  return test_run_group(tests);
}
