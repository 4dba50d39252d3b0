/* Dirty-page mode and an object with a trace function that is made right before the stop, on a forced schedule: where there are such,
 * what is new is marked from the start, so that no marker meets it.  It is the first of its kind that lives, and what it refers to was
 * garbage that a weak reference led to: the stop calls its trace function all the same.
 *
 * So it does with the trace functions of types. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/collector.h"
#include "support/cycle_steps.h"
#include "support/dirty_test.h"

enum { LARGE_BYTES = 4 << 20, BYTES = 64 };

static void *volatile large; /* so that cycles run beside the program */
static void **traced;        /* found by its trace function alone */
static midden_kind kind;

static void trace(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *argument) {
  (void)slot_bytes, (void)argument;
  midden_trace(tracer, *(void **)object);
}

/* ---- the collector's side ---- */

static struct cycle_step stopping; /* all rounds are over */

bool __real_collector_stop_world(struct mutator *self);
bool __wrap_collector_stop_world(struct mutator *self);

bool __wrap_collector_stop_world(struct mutator *self) {
  if (collector_phase() == COLLECTOR_MARK) cycle_wait_at(&stopping);
  return __real_collector_stop_world(self);
}

/* ---- the program's side ---- */

NOINLINE_TEST static void make_garbage(void) { watch(midden_alloc(BYTES)); }

NOINLINE_TEST static uintptr_t make_traced(void) {
  traced = midden_alloc_kind(kind, BYTES);
  REQUIRE(traced != NULL, "out of memory");
  traced[0] = midden_weak_get(watched);
  return test_hide(traced[0]);
}

static void what_a_black_object_refers_to_is_kept(void **state) {
  (void)state;
  make_garbage();
  test_scrub_stack();
  cycle_begin(&stopping);
  uintptr_t stored = make_traced();
  test_scrub_stack();
  cycle_go_on(&stopping);
  cycle_end();
  assert_true(is_kept(stored));
  assert_true(is_dropped_gone());
}

/* ---- typed objects ---- */

static void trace_type(void *element, size_t bytes, struct midden_tracer *tracer, void *argument) {
  (void)bytes, (void)argument;
  midden_trace(tracer, *(void **)element);
}

static const struct midden_type traced_type = {.name = "traced", .size = BYTES, .trace = trace_type};

NOINLINE_TEST static uintptr_t make_typed(void) {
  void *object = midden_alloc(BYTES);
  traced = midden_alloc_type(&traced_type);
  REQUIRE(traced != NULL, "out of memory");
  traced[0] = object;
  watch(object);
  return test_hide(object);
}

/* Met beside the program, where it is not called. */
static void what_a_type_traces_is_kept(void **state) {
  (void)state;
  uintptr_t stored = make_typed();
  for (int i = 0; i < 2; i++) test_collect_clean();
  assert_true(is_kept(stored));
  assert_true(is_dropped_gone());
}

/* One that is gone, or nothing that is new would be marked. */
static int set_up(void **state) {
  (void)state;
  int number = midden_kind_new(
      &(struct midden_kind_options){.size = sizeof(struct midden_kind_options), .name = "traced", .trace = trace});
  REQUIRE(number >= MIDDEN_KINDS_BUILT_IN, "midden_kind_new: %d", number);
  kind = (midden_kind)number;
  large = midden_alloc(LARGE_BYTES);
  REQUIRE(large != NULL && midden_alloc_kind(kind, BYTES) != NULL, "out of memory");
  test_collect_clean();
  return 0;
}

int main(void) {
  test_start("unit/dirty_black");
  if (!test_writes_are_told()) return TEST_SKIPPED;
  cycle_init_dirty(MIDDEN_GENERATIONS_OFF, 0);
  cycle_step_init(&stopping);
  alarm(60);
  const struct CMUnitTest tests[] = {
      test_scrubbed(what_a_black_object_refers_to_is_kept),
      test_scrubbed(what_a_type_traces_is_kept),
  };
  return cmocka_run_group_tests(tests, set_up, NULL);
}
