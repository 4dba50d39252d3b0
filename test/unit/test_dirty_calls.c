/* Dirty-page mode and what only a trace function leads to: it reads the head of a list that no page and no stack tells of.  A stop
 * that looks ahead calls it, and the list is marked beside the program, so that the stop that ends the cycle finds it marked; what
 * the program hangs there between the two calls is found by the second. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gc/assist.h"
#include "gc/mark.h"
#include "mutator/world.h"
#include "support/cycle_steps.h"
#include "support/dirty_test.h"

enum { BALLAST_BYTES = 4 << 20, NODES = 20000, CALLS_MOST = 8, SECONDS = 60 };

struct node {
  struct node *next;
  uintptr_t value;
};

static void *volatile ballast; /* heaps of less than a megabyte are marked in a stop */
static void *volatile caller;  /* the object that has the trace function */

static struct {
  uintptr_t head; /* hidden: atomic */
  unsigned count; /* of calls in this cycle */
  bool found_marked[CALLS_MOST], world_stopped[CALLS_MOST];
} calls;

static uintptr_t by_hand; /* hidden; nothing else marks it */

static struct cycle_step called; /* the first call was made, and what it leads to is not yet marked */

/* ---- the collector's side ---- */

static void report_head(struct midden_tracer *tracer) {
  struct node *head = test_unhide(atomic_load_relaxed(&calls.head));
  midden_trace(tracer, head);
  if (tracer->visit != NULL) return; /* the check's own */
  REQUIRE(calls.count < CALLS_MOST, "called too often");
  calls.found_marked[calls.count] = mark_is_marked(head->next->next);
  calls.world_stopped[calls.count++] = world_is_stopped();
}

/* Each stop marks by hand what is asked of it. */
static void mark_by_itself(void) {
  if (by_hand == 0) return;
  void *object = test_unhide(by_hand);
  midden_mark(object);
  REQUIRE(midden_is_marked(object), "it was not marked by hand");
}

static void trace(void *object, size_t bytes, struct midden_tracer *tracer, void *argument) {
  (void)bytes, (void)argument;
  if (object != caller) return;
  if (tracer->visit == NULL) mark_by_itself();
  report_head(tracer);
}

static void report_roots(struct midden_tracer *tracer, void *argument) {
  (void)argument;
  report_head(tracer);
}

void __real_assist_drain(struct cycle *running);
void __wrap_assist_drain(struct cycle *running);

void __wrap_assist_drain(struct cycle *running) {
  if (calls.count != 0) cycle_wait_at(&called);
  __real_assist_drain(running);
}

/* To look ahead costs nothing: where it does not pay, cycles do without, and on a busy machine that may be any. */
uint64_t __wrap_os_thread_cpu_ns(void);
uint64_t __wrap_os_thread_cpu_ns(void) { return 0; }

/* ---- the program's side ---- */

/* Nobody but a call knows of it. */
NOINLINE_TEST static void make_list(void) {
  struct node *head = NULL;
  for (uintptr_t i = 0; i < NODES; i++) {
    struct node *node = midden_alloc(sizeof *node);
    REQUIRE(node != NULL, "out of memory");
    *node = (struct node){head, i};
    head = node;
  }
  atomic_store_relaxed(&calls.head, test_hide(head));
}

NOINLINE_TEST static void check_list(void) {
  for (int i = 0; i < NODES; i++) memset(midden_alloc_data(sizeof(struct node)), 0xdd, sizeof(struct node));
  uintptr_t value = NODES;
  for (const struct node *node = test_unhide(calls.head); node != NULL; node = node->next)
    REQUIRE(midden_base(node) == node && node->value == --value, "node %zu is gone", (size_t)value);
  assert_int_equal(value, 0);
}

/* By the thread that waits for the cycle, where the program has callbacks; else by the driver. */
static void run_cycle(bool changes) {
  make_list();
  midden_collect();
  test_scrub_stack();
  calls.count = 0;
  cycle_begin(&called);
  if (changes) make_list();
  test_scrub_stack();
  cycle_go_on(&called);
  cycle_end();
  check_list();
}

static void check_calls(unsigned count) {
  assert_int_equal(calls.count, count);
  for (unsigned i = 0; i < count; i++) assert_true(calls.world_stopped[i]);
  assert_false(calls.found_marked[0]);
}

static void what_is_called_is_marked_beside_the_program(void **state) {
  (void)state;
  run_cycle(false);
  check_calls(2);
  assert_true(calls.found_marked[1]);
}

static void what_changes_between_two_calls_is_found(void **state) {
  (void)state;
  run_cycle(true);
  check_calls(2);
}

/* They come as a pair with events, once in a cycle. */
static void roots_of_the_program_are_called_in_the_last_stop_alone(void **state) {
  (void)state;
  midden_set_root_callback(report_roots, NULL);
  run_cycle(false);
  check_calls(3);
  assert_true(calls.found_marked[1] && calls.found_marked[2]);
  midden_set_root_callback(NULL, NULL);
}

static void what_is_marked_by_hand_lives(void **state) {
  (void)state;
  void *object = midden_alloc_kind(MIDDEN_DATA, 64);
  by_hand = test_hide(object);
  object = NULL;
  run_cycle(false);
  midden_verify();
  assert_ptr_equal(midden_base(test_unhide(by_hand)), test_unhide(by_hand));
}

/* There is nothing to call ahead for: each stop has its price. */
static void without_a_trace_function_there_is_one_stop(void **state) {
  (void)state;
  caller = NULL;
  midden_set_root_callback(report_roots, NULL);
  make_list();
  test_scrub_stack();
  midden_collect(); /* the object is gone */
  calls.count = 0;
  midden_collect();
  assert_int_equal(calls.count, 1);
  midden_set_root_callback(NULL, NULL);
  check_list();
}

int main(void) {
  if (!test_writes_are_told()) return TEST_SKIPPED;
  test_start("unit/dirty_calls");
  cycle_init_dirty(MIDDEN_GENERATIONS_OFF, MIDDEN_DEBUG_CHECK);
  cycle_step_init(&called);
  alarm(SECONDS);
  ballast = midden_alloc(BALLAST_BYTES);
  int kind = midden_kind_new(&(struct midden_kind_options){.size = sizeof(struct midden_kind_options), .trace = trace});
  REQUIRE(kind >= 0, "midden_kind_new");
  caller = midden_alloc_kind((unsigned)kind, 64);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_is_called_is_marked_beside_the_program),
      cmocka_unit_test(what_changes_between_two_calls_is_found),
      cmocka_unit_test(roots_of_the_program_are_called_in_the_last_stop_alone),
      cmocka_unit_test(what_is_marked_by_hand_lives),
      cmocka_unit_test(without_a_trace_function_there_is_one_stop),
  };
  return test_run_group(tests);
}
