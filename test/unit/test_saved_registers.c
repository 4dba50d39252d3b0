/* A thread that says it will block, or switches stacks by its own means, goes on where its registers are what they were: what the
 * library's functions have saved of them on the way is copied before their frames are given up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/stacks.h"
#include "mutator/mutator.h"
#include "mutator/stack.h"
#include "support/heap_test.h"
#include "support/marked_registers.h"

static unsigned count_marks(const uintptr_t *words) {
  unsigned count = 0;
  for (unsigned i = 0; i < CALLEE_SAVED; i++) {
    unsigned word = 0;
    while (word < MUTATOR_SAVED_WORDS && words[word] != CALL_MARK + i + 1) word++;
    count += word < MUTATOR_SAVED_WORDS;
  }
  return count;
}

static void blocking_keeps_registers(void **state) {
  (void)state;
  struct mutator *self = mutator_self();
  call_with_marked_registers((void *)midden_blocking_enter, 0, 0, CALL_MARK);
  unsigned count = count_marks(self->saved_words);
  midden_blocking_leave();
  assert_int_equal(count, CALLEE_SAVED);
}

static bool is_visited;

static void look_for_saved_words(void *stack, struct os_range range) {
  if (range.start == (uintptr_t)((const struct midden_stack *)stack)->saved_words) is_visited = true;
}

/* Nothing is switched, but the library believes so until it is told of the way back. */
static void leaving_a_stack_keeps_registers(void **state) {
  (void)state;
  struct mutator *self = mutator_self();
  struct midden_stack *stack = midden_stack_alloc(0);
  assert_non_null(stack);
  call_with_marked_registers((void *)midden_stack_switch_begin, 0, (uintptr_t)stack, CALL_MARK);
  unsigned count = count_marks(self->own_stack.saved_words);
  call_with_marked_registers((void *)midden_stack_switch_begin, (uintptr_t)stack, 0, CALL_MARK);
  unsigned count_back = count_marks(stack->saved_words);
  unsigned count_left = count_marks(self->own_stack.saved_words);
  stacks_visit_parked(look_for_saved_words, stack);
  midden_stack_switch_end();
  midden_stack_switch_end();
  midden_stack_free(stack);
  assert_int_equal(count, CALLEE_SAVED);
  assert_int_equal(count_back, CALLEE_SAVED);
  assert_int_equal(count_left, 0); /* in use again: else they would be roots when a fiber runs next */
  assert_true(is_visited);
}

int main(void) {
  test_start("unit/saved_registers");
  REQUIRE(midden_init(NULL) == 0, "midden_init");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(blocking_keeps_registers),
      cmocka_unit_test(leaving_a_stack_keeps_registers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
