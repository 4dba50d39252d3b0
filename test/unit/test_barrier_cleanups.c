/* Barrier mode and arguments of cleanups, on a forced schedule: those of an unreachable object are marked late, when every thread has
 * flushed its buffer.  The collector's thread waits where such an argument is marked and not yet scanned, and a thread that has a
 * weak reference to it, or to the object, acts.
 *
 * Linked with --wrap=cycle_drain_alone, too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/cycle.h"
#include "support/cycle_steps.h"

static struct cycle_step marked; /* the argument is */
static struct midden_weak *to_object, *to_argument;
static uintptr_t hidden_argument;
static size_t alone_bytes; /* scanned by the one marker that follows chains of values */

void __real_cycle_drain_alone(struct midden_tracer *tracer);
void __wrap_cycle_drain_alone(struct midden_tracer *tracer);

void __wrap_cycle_drain_alone(struct midden_tracer *tracer) {
  mark_settle(tracer);
  if (marked.waits && mark_is_marked(test_unhide(hidden_argument))) cycle_wait_at(&marked);
  size_t before_bytes = tracer->scanned_bytes;
  __real_cycle_drain_alone(tracer);
  alone_bytes += tracer->scanned_bytes - before_bytes;
}

static void ignore(void *argument) { (void)argument; }

/* Nothing leads to the object; its cleanup's argument alone to what is watched. */
NOINLINE_TEST static void make(void) {
  void *object = midden_alloc(64), **argument = midden_alloc(64), *child = midden_alloc(64);
  REQUIRE(object != NULL && argument != NULL && child != NULL, "out of memory");
  argument[0] = child;
  REQUIRE(midden_cleanup_add(object, ignore, argument, NULL) == 0, "midden_cleanup_add");
  midden_store(&to_object, midden_weak_new(object));
  midden_store(&to_argument, midden_weak_new(argument));
  hidden_argument = test_hide(argument);
  watch(child);
}

static void begin(void) {
  make();
  test_scrub_stack();
  cycle_begin(&marked);
}

/* It returns hidden what it has taken out. */
NOINLINE_TEST static uintptr_t take_child(void) {
  void **argument = midden_weak_get(to_argument);
  REQUIRE(argument != NULL, "the argument of a cleanup that is to run was collected");
  uintptr_t child = test_hide(argument[0]);
  midden_store(&argument[0], NULL);
  return child;
}

static void what_a_thread_takes_out_of_an_argument_is_kept(void **state) {
  (void)state;
  begin();
  uintptr_t child = take_child();
  cycle_go_on(&marked);
  cycle_end();
  assert_true(is_kept(child));
  assert_true(is_dropped_gone());
}

NOINLINE_TEST static bool reach_object(void) { return midden_weak_get(to_object) != NULL; }

static void an_object_that_a_thread_reaches_is_not_stuck(void **state) {
  (void)state;
  begin();
  assert_true(reach_object());
  cycle_go_on(&marked);
  cycle_end();
  assert_true(reach_object());
  assert_int_equal(test_stats().cleanups_stuck, 0);
}

static void its_cleanup_runs_when_it_is_dropped(void **state) {
  (void)state;
  test_scrub_stack();
  size_t ran = test_stats().cleanups_run;
  test_collect_clean();
  midden_finalizers_run(SIZE_MAX);
  assert_true(test_stats().cleanups_run > ran);
  assert_false(reach_object());
}

enum { OBJECTS = 4096, LIST_NODES = 16, NODE_BYTES = 64 };

static void *volatile objects;

NOINLINE_TEST static void make_objects_with_lists(void) {
  for (int i = 0; i < OBJECTS; i++) {
    void **object = midden_alloc(NODE_BYTES), **list = NULL;
    for (int k = 0; k < LIST_NODES; k++) {
      void **node = midden_alloc(NODE_BYTES);
      midden_store(node, list);
      list = node;
    }
    midden_store(object, objects);
    REQUIRE(midden_cleanup_add(object, ignore, list, NULL) == 0, "midden_cleanup_add");
    objects = object;
  }
}

/* Of objects that live: else nobody would assist while it is, and the heap would grow. */
static void what_many_arguments_lead_to_is_marked_by_all(void **state) {
  (void)state;
  make_objects_with_lists();
  test_scrub_stack();
  alone_bytes = 0;
  midden_collect();
  assert_in_range(alone_bytes, 0, OBJECTS * LIST_NODES * NODE_BYTES / 16);
  objects = NULL;
}

int main(void) {
  cycle_init();
  cycle_step_init(&marked);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_a_thread_takes_out_of_an_argument_is_kept),
      cmocka_unit_test(an_object_that_a_thread_reaches_is_not_stuck),
      cmocka_unit_test(its_cleanup_runs_when_it_is_dropped),
      cmocka_unit_test(what_many_arguments_lead_to_is_marked_by_all),
  };
  return test_run_group(tests);
}
