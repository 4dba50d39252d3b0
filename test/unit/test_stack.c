/* Stacks that nobody needs any more: while the heap is marked they stay idle, since no span may become free then; afterwards they go, but
 * for those that were in use since they were last looked through. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "mutator/mutator.h"
#include "mutator/stack.h"
#include "support/heap_test.h"

enum { STACKS = 4 };
#define LARGE_BYTES (2 * STACK_CACHED_MOST_BYTES)

static struct mutator *self;

static size_t idle_bytes(void) {
  struct stacks_figures figures;
  stacks_read(&figures);
  return figures.idle_bytes;
}

/* As a cycle beside the program does, with the gate closed; none runs here. */
static void set_marking(bool marking) { atomic_store_relaxed(&span_marking, marking); }

static void use(size_t bytes, unsigned count) {
  struct midden_stack *stacks[STACKS];
  for (unsigned i = 0; i < count; i++) {
    stacks[i] = stack_take(bytes, NULL);
    REQUIRE(stacks[i] != NULL, "out of memory");
  }
  for (unsigned i = 0; i < count; i++) stack_put(stacks[i]);
}

static void trim_nothing(size_t idle) {
  assert_int_equal(stacks_trim() + stacks_trim_some(1) + stacks_trim_all(), 0);
  assert_int_equal(idle_bytes(), idle);
}

static void none_goes_while_the_heap_is_marked(void **state) {
  (void)state;
  mutator_enter(self);
  use(0, STACKS);
  size_t idle = idle_bytes();
  assert_true(idle > STACKS * STACK_DEFAULT_BYTES);
  set_marking(true);
  use(LARGE_BYTES, 1);
  assert_true(idle_bytes() > idle + LARGE_BYTES);
  trim_nothing(idle_bytes());
  set_marking(false);
  use(LARGE_BYTES, 1); /* the larger ones go with the next that is put back */
  assert_int_equal(idle_bytes(), idle);
  assert_int_equal(stacks_trim_some(1), idle / STACKS);
  assert_int_equal(stacks_trim_all(), idle - idle / STACKS);
  assert_int_equal(idle_bytes(), 0);
  assert_int_equal(stacks_resident_estimate(), 0);
  mutator_leave(self);
}

static size_t trim_after_a_while(void) {
  test_sleep_ms(1010);
  mutator_enter(self);
  size_t bytes = stacks_trim();
  mutator_leave(self);
  return bytes;
}

static void what_was_in_use_stays(void **state) {
  (void)state;
  mutator_enter(self);
  use(0, STACKS);
  mutator_leave(self);
  size_t idle = idle_bytes(), one = idle / STACKS;
  assert_int_equal(trim_after_a_while(), 0); /* all of them were, since there was the first */
  mutator_enter(self);
  use(0, 1);
  assert_int_equal(stacks_trim(), 0); /* too soon */
  mutator_leave(self);
  assert_int_equal(trim_after_a_while(), idle - one);
  assert_int_equal(idle_bytes(), one);
  assert_int_equal(trim_after_a_while(), one);
}

/* ---- sizes ---- */

static size_t usable(size_t bytes) {
  struct midden_stack *stack = stack_take(bytes, NULL);
  REQUIRE(stack != NULL, "out of memory");
  size_t result = stack->high - stack->low;
  stack_put(stack);
  return result;
}

static void only_those_that_are_kept_have_few_sizes(void **state) {
  (void)state;
  mutator_enter(self);
  size_t least = usable(1), factor = least / STACK_LEAST_BYTES; /* more than 1 with a sanitizer */
  assert_int_equal(usable(STACK_LEAST_BYTES), least);
  assert_int_equal(usable(STACK_LEAST_BYTES + 1), 2 * least);
  assert_int_equal(usable(0), factor * STACK_DEFAULT_BYTES);
  assert_in_range(usable(LARGE_BYTES + 1), factor * LARGE_BYTES + 1, factor * LARGE_BYTES + LARGE_BYTES / 2);
  mutator_leave(self);
}

/* ---- registered ones ---- */

enum { REGISTRATIONS = 20000 };

static void register_often(unsigned times) {
  static char memory[4096];
  mutator_enter(self);
  for (unsigned i = 0; i < times; i++) {
    struct midden_stack *stack = stack_register((uintptr_t)memory, (uintptr_t)memory + sizeof memory);
    REQUIRE(stack != NULL, "out of memory");
    stack_unregister(stack);
  }
  mutator_leave(self);
}

static void what_a_registration_takes_is_given_back(void **state) {
  (void)state;
  register_often(1);
  size_t before = test_stats().metadata;
  register_often(REGISTRATIONS);
  assert_int_equal(test_stats().metadata, before);
}

/* ---- freed ones ---- */

static void what_is_freed_is_used_again(void **state) {
  (void)state;
  REQUIRE(midden_stack_free(midden_stack_alloc(LARGE_BYTES)) == 0, "midden_stack_free");
  size_t stacks = test_stats().stacks, metadata = test_stats().metadata;
  for (int i = 0; i < 1000; i++) REQUIRE(midden_stack_free(midden_stack_alloc(LARGE_BYTES)) == 0, "midden_stack_free");
  assert_int_equal(test_stats().stacks, stacks);
  assert_int_equal(test_stats().metadata, metadata);
}

int main(void) {
  test_start("unit/stack");
  struct midden_options options = {
      .size = sizeof options, .mode = MIDDEN_MODE_STW, .background = -1, .idle_collect_ms = -1};
  REQUIRE(midden_init(&options) == 0 && midden_thread_attach() == 0, "midden_init");
  self = mutator_self();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(none_goes_while_the_heap_is_marked), cmocka_unit_test(what_was_in_use_stays),
      cmocka_unit_test(only_those_that_are_kept_have_few_sizes),
      cmocka_unit_test(what_a_registration_takes_is_given_back), cmocka_unit_test(what_is_freed_is_used_again)};
  return test_run_group(tests);
}
