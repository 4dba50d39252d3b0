/* How often dirty-page mode reads stacks beside the threads' own, those of fibers and those that the program registered: while
 * a cycle marks, a switch reads the stack that it goes to, the first time, and no other; rounds read none that is parked, and
 * stops each once: fibers, which trace functions read, in the one that looks ahead too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/mark.h"
#include "mutator/fiber.h"
#include "mutator/world.h"
#include "support/coroutine.h"
#include "support/cycle_steps.h"
#include "support/dirty_test.h"

enum { STACKS = 32, TURNS = 8, PIECES = 2 /* a registered stack is read in: its words, and its registers */ };
enum { BALLAST_BYTES = 4 << 20, GARBAGE = 1 << 14 };

static void *volatile ballast; /* heaps of less than a megabyte are marked in a stop */

/* ---- the collector's side ---- */

static bool switches; /* the test's thread, in a cycle that waits for it */
static size_t pieces; /* of stacks, that were read meanwhile */

static struct parked {
  uintptr_t low, high;
  size_t beside, stopped; /* atomic; how often it was read, and when */
} parked[STACKS];

static void note_read_of(struct parked *stack, uintptr_t start) {
  if (start - stack->low < stack->high - stack->low)
    atomic_add_relaxed(world_is_stopped() ? &stack->stopped : &stack->beside, (size_t)1);
}

void __real_mark_range(struct midden_tracer *tracer, struct os_range range, bool is_stack);
void __wrap_mark_range(struct midden_tracer *tracer, struct os_range range, bool is_stack);

void __wrap_mark_range(struct midden_tracer *tracer, struct os_range range, bool is_stack) {
  if (is_stack && switches) pieces++;
  for (size_t i = 0; is_stack && i < STACKS; i++) note_read_of(&parked[i], range.start);
  __real_mark_range(tracer, range, is_stack);
}

/* ---- the program's side ---- */

/* Switches to each in turn, and back; how much of stacks was read. */
static size_t read_in_switches(void (*enter)(size_t stack)) {
  pieces = 0;
  switches = true;
  for (size_t i = 0; i < TURNS * STACKS; i++) enter(i % STACKS);
  switches = false;
  return pieces;
}

static void end(void) {
  cycle_go_on(&cycle.read);
  cycle_end();
}

/* More than a round lets pass without looking at the threads' stacks. */
static void allocate_for_a_round(void) {
  for (size_t i = 0; i < GARBAGE; i++) REQUIRE(midden_alloc(64) != NULL, "out of memory");
}

/* A cycle that leaves them where they are. */
static void each_is_read_once_in(unsigned stops) {
  cycle_begin(&cycle.read);
  allocate_for_a_round();
  end();
  for (size_t i = 0; i < STACKS; i++) {
    assert_true(parked[i].beside <= 1);
    assert_int_equal(parked[i].stopped, stops);
    parked[i] = (struct parked){0};
  }
}

/* ---- registered stacks ---- */

static struct coroutine coroutines[STACKS];

static void take_turns(void) {
  struct coroutine *self = coroutine_begin();
  for (size_t i = 0; i < TURNS; i++) coroutine_leave(self);
  coroutine_end(self);
}

static void enter_coroutine(size_t stack) { coroutine_enter(&coroutines[stack]); }

/* Each has begun. */
static void start_coroutines(void) {
  struct rng rng = {test_seed_value};
  for (size_t i = 0; i < STACKS; i++) {
    coroutine_start(&coroutines[i], &rng, take_turns);
    enter_coroutine(i);
  }
}

static void free_coroutines(void) {
  for (size_t i = 0; i < STACKS; i++) REQUIRE(midden_stack_free(coroutines[i].stack) == 0, "midden_stack_free");
}

static void a_registered_stack_is_read_by_the_first_switch_to_it(void **state) {
  (void)state;
  start_coroutines();
  cycle_begin(&cycle.read);
  size_t read = read_in_switches(enter_coroutine);
  end();
  assert_in_range(read, 1, STACKS * PIECES);
}

static void registered_stacks_are_read_once_in_the_stop(void **state) {
  (void)state;
  start_coroutines();
  for (size_t i = 0; i < STACKS; i++) {
    const struct midden_stack *stack = coroutines[i].stack;
    parked[i] = (struct parked){.low = stack->low, .high = stack->high};
  }
  each_is_read_once_in(1);
  free_coroutines();
}

/* ---- fibers ---- */

static struct midden_fiber *fibers[STACKS];

static void *yield_in_turns(void *unused) {
  for (size_t i = 0; i < TURNS; i++) midden_fiber_yield(NULL);
  return unused;
}

static void make_fibers(void) {
  for (size_t i = 0; i < STACKS; i++) {
    fibers[i] = midden_fiber_new(yield_in_turns, NULL, 0);
    REQUIRE(fibers[i] != NULL, "out of memory");
  }
}

static void resume(size_t stack) {
  REQUIRE(midden_fiber_resume(fibers[stack], NULL, NULL) == 0, "midden_fiber_resume");
}

/* The first of all: before them, none tells that there may be such. */
static void a_new_fiber_is_read_by_the_first_switch_to_it(void **state) {
  (void)state;
  cycle_begin(&cycle.read);
  make_fibers();
  size_t read = read_in_switches(resume);
  end();
  assert_in_range(read, 1, STACKS);
}

static void an_old_fiber_is_read_by_the_first_switch_to_it(void **state) {
  (void)state;
  make_fibers();
  cycle_begin(&cycle.read);
  size_t read = read_in_switches(resume);
  end();
  assert_in_range(read, 1, STACKS);
}

static void fibers_are_read_once_in_each_stop(void **state) {
  (void)state;
  make_fibers();
  for (size_t i = 0; i < STACKS; i++) {
    resume(i);
    parked[i] = (struct parked){.low = fibers[i]->stack->low, .high = fibers[i]->stack->high};
  }
  each_is_read_once_in(2); /* of which one looks ahead */
}

int main(void) {
  if (!test_writes_are_told()) return TEST_SKIPPED;
  test_start("unit/dirty_stacks");
  cycle_init_dirty(MIDDEN_GENERATIONS_AUTO, MIDDEN_DEBUG_VERIFY);
  ballast = midden_alloc(BALLAST_BYTES);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_registered_stack_is_read_by_the_first_switch_to_it),
      cmocka_unit_test(registered_stacks_are_read_once_in_the_stop),
      cmocka_unit_test(a_new_fiber_is_read_by_the_first_switch_to_it),
      cmocka_unit_test(an_old_fiber_is_read_by_the_first_switch_to_it),
      cmocka_unit_test(fibers_are_read_once_in_each_stop),
  };
  return test_run_group(tests);
}
