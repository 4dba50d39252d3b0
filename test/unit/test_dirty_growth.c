/* Dirty-page mode, a marker that was in the midst of its slice while the arena grew: it knows of what lies there by now when it comes
 * to an object that was stored to meanwhile.  Nobody reads that one again: another marker has protected its page, and passed it
 * over, since it was not marked yet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/concurrent.h"
#include "mutator/world.h"
#include "mutator/written.h"
#include "page/arena.h"
#include "span/guard.h"
#include "support/cycle_steps.h"
#include "support/dirty_test.h"

enum { BALLAST_BYTES = 2 << 20, YOUNG_BYTES = 8 << 20, HOLDER_BYTES = 16 << 10, YOUNG_MOST = 16 };

/* It shares the page of its middle with nothing. */
struct holder {
  void *words[HOLDER_BYTES / sizeof(void *)];
};

struct gate {
  struct holder *holder;
  uintptr_t more[7];
};

static struct gate *gate;
static void *volatile ballast; /* heaps of less than a megabyte are marked in a stop */

static void **middle_of(struct holder *holder) { return &holder->words[HOLDER_BYTES / sizeof(void *) / 2]; }

/* ---- the collector's side ---- */

static struct cycle_step at_gate; /* a marker scans the gate: nothing that hangs on it is marked */

static void trace(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *argument) {
  (void)slot_bytes, (void)argument;
  if (!world_is_stopped()) cycle_wait_at(&at_gate);
  midden_trace(tracer, atomic_load_relaxed(&((struct gate *)object)->holder));
}

/* ---- another marker: the test's thread ---- */

static size_t passed_over;

static void read_range(void *tracer, struct os_range range) {
  uintptr_t middle = (uintptr_t)middle_of(gate->holder);
  passed_over += range.start <= middle && middle < range.end && !midden_is_marked(gate->holder);
  mark_range_again(tracer, range);
}

static void read_what_was_written(void) {
  struct mutator *self = mutator_self();
  mutator_enter(self);
  struct midden_tracer *tracer = concurrent_tracer(self);
  written_divide();
  for (size_t part = 0; part < written_part_count(); part++)
    REQUIRE(written_visit(part, true, read_range, tracer) >= 0, "written_visit");
  concurrent_publish(tracer);
  mutator_leave(self);
}

/* ---- the program's side ---- */

/* The first ones may take what is free at the arena's end: what the background thread has made ready there, too. */
NOINLINE_TEST static void store_young(void) {
  uintptr_t frontier = heap_arena.used;
  void *young = midden_alloc(YOUNG_BYTES);
  for (int i = 0; i < YOUNG_MOST && (uintptr_t)young < frontier; i++) young = midden_alloc(YOUNG_BYTES);
  REQUIRE((uintptr_t)young >= frontier, "the arena did not grow");
  watch(young);
  *middle_of(gate->holder) = young;
}

static void what_lies_where_the_arena_has_grown_is_found(void **state) {
  (void)state;
  test_scrub_stack();
  midden_collect(); /* nothing is left to be swept */
  cycle_begin(&at_gate);
  store_young();
  read_what_was_written();
  test_scrub_stack();
  cycle_go_on(&at_gate);
  cycle_end();
  assert_int_equal(passed_over, 1);
  assert_true(is_dropped_gone());
  assert_true(is_kept(test_hide(*middle_of(gate->holder))));
}

static int set_up(void **state) {
  (void)state;
  struct midden_kind_options options = {.size = sizeof options, .name = "gate", .trace = trace, .trace_beside = true};
  int number = midden_kind_new(&options);
  REQUIRE(number >= MIDDEN_KINDS_BUILT_IN, "midden_kind_new: %d", number);
  gate = midden_alloc_kind((midden_kind)number, sizeof *gate);
  ballast = midden_alloc_data(BALLAST_BYTES);
  REQUIRE(gate != NULL && ballast != NULL, "out of memory");
  gate->holder = midden_alloc(sizeof *gate->holder);
  REQUIRE(gate->holder != NULL, "out of memory");
  return 0;
}

int main(void) {
  test_start("unit/dirty_growth");
  if (!test_writes_are_told()) return TEST_SKIPPED;
  cycle_init_dirty(MIDDEN_GENERATIONS_OFF, 0);
  if (guard_active) return TEST_SKIPPED; /* trace functions are called in the stop alone */
  cycle_step_init(&at_gate);
  alarm(120);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_lies_where_the_arena_has_grown_is_found),
  };
  return cmocka_run_group_tests(tests, set_up, NULL);
}
