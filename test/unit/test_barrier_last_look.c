/* Barrier mode, the last look before marking ends, on a forced schedule: all threads have answered, and nothing was found to be left;
 * before the collector's thread has closed the gate the main thread is handed the target of a weak reference, which makes it
 * grey.  What hangs on it is marked all the same.
 *
 * Linked with --wrap=mutator_close_gate, too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/cycle.h"
#include "support/cycle_steps.h"

static struct cycle_step closing; /* the gate, for the first time since all is marked */
static struct midden_weak *weak;
static uintptr_t got; /* hidden: what hangs on the target */

void __real_mutator_close_gate(struct mutator *self);
void __wrap_mutator_close_gate(struct mutator *self);

void __wrap_mutator_close_gate(struct mutator *self) {
  if (collector_phase() == COLLECTOR_MARK) cycle_wait_at(&closing);
  __real_mutator_close_gate(self);
}

NOINLINE_TEST static void make(void) {
  void **target = midden_alloc(64), *child = midden_alloc(64);
  midden_store(&target[0], child);
  midden_store(&weak, midden_weak_new(target));
  watch(child);
}

NOINLINE_TEST static void get(void) {
  void **target = midden_weak_get(weak);
  REQUIRE(target != NULL, "the target is dead, though the gate has not been closed");
  got = test_hide(target[0]);
}

static void what_is_marked_before_the_gate_is_closed_is_scanned(void **state) {
  (void)state;
  make();
  test_scrub_stack();
  cycle_begin(&closing);
  get();
  test_scrub_stack();
  cycle_go_on(&closing);
  cycle_end();
  assert_true(is_kept(got));
  assert_true(is_dropped_gone());
  test_collect_clean();
  assert_false(is_kept(got));
}

int main(void) {
  cycle_init();
  cycle_step_init(&closing);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_is_marked_before_the_gate_is_closed_is_scanned),
  };
  return test_run_group(tests);
}
