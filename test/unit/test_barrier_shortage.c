/* Barrier mode, an allocation that finds no room: it is not refused because another cycle has come in between, beside which another
 * thread has taken all that there was: none of that is new since the last cycle, which has freed nothing of it, and the next one does.
 *
 * On a forced schedule: the second time that the thread sweeps, after a collection of its own that has found the heap full of what
 * lives.  Linked with --wrap=sweep_finish, too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/sweep.h"
#include "support/cycle_steps.h"

#define MIB ((size_t)1 << 20)

enum { HEAP_MIB = 16, FILLING = 13, WANTED_MIB = 4, SECOND = 2 };

static void *volatile filling[FILLING]; /* static data: a root */
static unsigned sweeps;                 /* by the thread that wants memory */
static struct mutator *wants;

void __real_sweep_finish(struct mutator *self);
void __wrap_sweep_finish(struct mutator *self);

NOINLINE_TEST static void fill(bool keep) {
  for (size_t i = 0; i < FILLING; i++) {
    void *object = midden_alloc_data(MIB);
    REQUIRE(object != NULL, "out of memory");
    if (keep) filling[i] = object;
  }
}

NOINLINE_TEST static void drop(void) {
  for (size_t i = 0; i < FILLING; i++) filling[i] = NULL;
}

/* As another thread might: what is taken in a cycle lives through it. */
static void take_all_beside_a_cycle(void) {
  drop();
  test_scrub_stack();
  midden_collect();
  cycle_begin(&cycle.scanned);
  fill(false);
  cycle_go_on(&cycle.scanned);
  cycle_end();
  test_scrub_stack();
}

void __wrap_sweep_finish(struct mutator *self) {
  if (self == wants && ++sweeps == SECOND) take_all_beside_a_cycle();
  __real_sweep_finish(self);
}

static void what_was_taken_beside_a_cycle_is_waited_for(void **state) {
  (void)state;
  fill(true);
  test_scrub_stack();
  wants = mutator_self();
  void *object = midden_alloc_data(WANTED_MIB * MIB);
  wants = NULL;
  assert_in_range(sweeps, SECOND, UINT32_MAX); /* or there was room */
  assert_non_null(object);
}

int main(void) {
  setenv("MIDDEN_DEBUG", "notools", 0); /* guards take memory of their own */
  cycle_init_with(&(struct midden_options){
      .size = sizeof(struct midden_options), .mode = MIDDEN_MODE_BARRIER, .max_heap_bytes = HEAP_MIB * MIB});
  test_start("unit/barrier_shortage");
  alarm(60);
  const struct CMUnitTest tests[] = {cmocka_unit_test(what_was_taken_beside_a_cycle_is_waited_for)};
  return test_run_group(tests);
}
