/* Dirty-page mode: what nothing but arguments of finalizers and cleanups lead to is marked beside the program.  The stop, which visits
 * them once more, finds it marked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mutator/world.h"
#include "span/guard.h"
#include "support/cycle_steps.h"
#include "support/dirty_test.h"

enum { NODES = 32768, SOME_CALLS = NODES / 16 };

struct node {
  struct node *next;
  uintptr_t more[7];
};

static midden_kind kind;
static void *volatile holder;

static size_t calls_beside, calls_stopped; /* atomic */

static void trace(void *object, size_t bytes, struct midden_tracer *tracer, void *argument) {
  (void)bytes, (void)argument;
  atomic_add_relaxed(world_is_stopped() ? &calls_stopped : &calls_beside, (size_t)1);
  midden_trace(tracer, ((const struct node *)object)->next);
}

static struct node *make_list(void) {
  struct node *list = NULL;
  for (int i = 0; i < NODES; i++) {
    struct node *node = midden_alloc_kind(kind, sizeof *node);
    REQUIRE(node != NULL, "out of memory");
    node->next = list;
    list = node;
  }
  return list;
}

static void finalize(void *object, void *argument) { (void)object, (void)argument; }
static void clean_up(void *argument) { (void)argument; }

NOINLINE_TEST static void hang_on_finalizer(void) {
  int error = midden_finalizer_set(holder, finalize, make_list(), MIDDEN_FINALIZE_ORDERED, NULL, NULL);
  REQUIRE(error == 0, "midden_finalizer_set: %d", error);
}

NOINLINE_TEST static void hang_on_cleanup(void) {
  int error = midden_cleanup_add(holder, clean_up, make_list(), NULL);
  REQUIRE(error == 0, "midden_cleanup_add: %d", error);
}

static void require_marked_beside(void (*hang)(void)) {
  holder = midden_alloc(64);
  hang();
  test_scrub_stack();
  for (int i = 0; i < 3; i++) {
    calls_beside = calls_stopped = 0;
    midden_collect();
    assert_in_range(calls_beside, NODES, SIZE_MAX);
    assert_in_range(calls_stopped, 0, SOME_CALLS);
  }
  holder = NULL;
}

static void what_a_finalizer_refers_to_is(void **state) {
  (void)state;
  require_marked_beside(hang_on_finalizer);
}

static void what_a_cleanup_refers_to_is(void **state) {
  (void)state;
  require_marked_beside(hang_on_cleanup);
}

int main(void) {
  test_start("unit/dirty_specials");
  if (!test_writes_are_told()) return TEST_SKIPPED;
  cycle_init_dirty(MIDDEN_GENERATIONS_OFF, 0);
  if (guard_active) return TEST_SKIPPED; /* guarded objects are read in the stop alone */
  struct midden_kind_options options = {.size = sizeof options, .name = "node", .trace = trace, .trace_beside = true};
  int number = midden_kind_new(&options);
  REQUIRE(number >= MIDDEN_KINDS_BUILT_IN, "midden_kind_new: %d", number);
  kind = (midden_kind)number;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_a_finalizer_refers_to_is),
      cmocka_unit_test(what_a_cleanup_refers_to_is),
  };
  return test_run_group(tests);
}
