/* The span's state machine: every step of every pair of states, while marking and not; illegal ones in a child, which
 * must die with a message that names the step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "os/os.h"
#include "page/span.h"
#include "support/heap_test.h"

static const enum span_state all_states[] = {SPAN_DEAD, SPAN_FREE, SPAN_IN_USE, SPAN_STACK};

struct step {
  enum span_state from;
  enum span_state to;
  bool marking;
};

/* The table in span.h, written down once more. */
static bool step_is_legal(struct step step) {
  if (step.from == SPAN_DEAD) return step.to == SPAN_FREE;
  if (step.from == SPAN_FREE) return step.to != SPAN_FREE;
  return step.to == SPAN_FREE && !step.marking;
}

static struct span span_in(enum span_state state) {
  struct span span = {0};
  span_set_state(&span, SPAN_FREE);
  span_set_range(&span, 0x123400000, 7);
  if (state != SPAN_FREE) span_set_state(&span, state);
  return span;
}

static int take_step(void *argument) {
  const struct step *step = argument;
  struct span span = span_in(step->from);
  atomic_store_relaxed(&span_marking, step->marking);
  span_set_state(&span, step->to);
  return span_state(&span) == step->to ? 0 : 1;
}

static void check_step(struct step step) {
  struct test_outcome outcome = test_child(take_step, &step, 10);
  if (step_is_legal(step)) {
    assert_true(WIFEXITED(outcome.status) && WEXITSTATUS(outcome.status) == 0);
    return;
  }
  char expected[100];
  snprintf(expected, sizeof(expected), "illegal step from %s to %s%s", span_state_name(step.from),
           span_state_name(step.to), step.marking ? " while marking" : "");
  assert_true(WIFSIGNALED(outcome.status) && WTERMSIG(outcome.status) == SIGABRT);
  assert_non_null(strstr(outcome.message, expected));
  assert_non_null(strstr(outcome.message, "at 0x123400000, 7 pages"));
}

static void every_step_is_taken_or_refused_by_the_table(void **state) {
  (void)state;
  for (int marking = 0; marking <= 1; marking++) {
    for (size_t from = 0; from < TEST_COUNT_OF(all_states); from++) {
      for (size_t to = 0; to < TEST_COUNT_OF(all_states); to++) {
        check_step((struct step){all_states[from], all_states[to], marking != 0});
      }
    }
  }
}

static void a_corrupt_state_is_reported(void **state) {
  (void)state;
  assert_string_equal(span_state_name((enum span_state)77), "corrupt");
  struct step step = {SPAN_FREE, (enum span_state)77, false};
  struct test_outcome outcome = test_child(take_step, &step, 10);
  assert_true(WIFSIGNALED(outcome.status) && WTERMSIG(outcome.status) == SIGABRT);
}

static void a_span_knows_its_bounds(void **state) {
  (void)state;
  struct span span = span_in(SPAN_IN_USE);
  assert_int_equal(span_bytes(&span), 7 * PAGE_BYTES);
  assert_int_equal(span_end(&span), 0x123400000 + 7 * PAGE_BYTES);
  assert_int_equal(span_slot_bytes(&span), 7 * PAGE_BYTES);
  span.size_class = 1;
  span.slot_bytes_small = 48;
  assert_int_equal(span_slot_bytes(&span), 48);
}

/* Structures come zeroed from the system: that must mean DEAD. */
static void a_zeroed_structure_is_dead(void **state) {
  (void)state;
  struct span span = {0};
  assert_int_equal(span_state(&span), SPAN_DEAD);
}

int main(void) {
  os_init();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_step_is_taken_or_refused_by_the_table),
      cmocka_unit_test(a_corrupt_state_is_reported),
      cmocka_unit_test(a_span_knows_its_bounds),
      cmocka_unit_test(a_zeroed_structure_is_dead),
  };
  return test_run_group(tests);
}
