/* Barrier mode and what is a root no more, on a forced schedule: all stacks are scanned, no root and nothing of the heap is,
 * when the main thread gets a reference from a root and has the library give that root up.  From then on its stack alone
 * holds what it got, and nobody will look there: it is kept by what the library marks, or tells the collector. */
#define _GNU_SOURCE 1
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/cycle_steps.h"

enum { WORDS = 64 };

static uintptr_t got; /* hidden */

NOINLINE_TEST static void *new_object(void) {
  void *object = midden_alloc(64);
  watch(object);
  return object;
}

/* A cycle in which `drop`, which notes in `got` what it got, gives up what `make` has made to hold a new object. */
static void keeps(void (*make)(void), void (*drop)(void)) {
  make();
  test_scrub_stack();
  cycle_begin(&cycle.scanned);
  drop();
  test_scrub_stack();
  cycle_go_on(&cycle.scanned);
  cycle_end();
  assert_true(is_kept(got));
  assert_true(is_dropped_gone());
  test_collect_clean();
  assert_false(is_kept(got));
}

/* ---- calls that are due ---- */

static void note_argument(void *argument) { got = test_hide(argument); }

static void note_finalizer(void *object, void *argument) {
  (void)object;
  got = test_hide(argument);
}

NOINLINE_TEST static void add_cleanup(void) {
  REQUIRE(midden_cleanup_add(midden_alloc(32), note_argument, new_object(), NULL) == 0, "midden_cleanup_add");
}

NOINLINE_TEST static void add_finalizer(void) {
  REQUIRE(
      midden_finalizer_set(midden_alloc(32), note_finalizer, new_object(), MIDDEN_FINALIZE_ORDERED, NULL, NULL) == 0,
      "midden_finalizer_set");
}

static void make_cleanup(void) {
  add_cleanup();
  test_collect_clean();
  REQUIRE(midden_finalizers_ready(), "the cleanup is not ready");
}

static void make_finalizer(void) {
  add_finalizer();
  test_collect_clean();
  REQUIRE(midden_finalizers_ready(), "the finalizer is not ready");
}

NOINLINE_TEST static void run_one(void) { REQUIRE(midden_finalizers_run(1) == 1, "midden_finalizers_run"); }

static void the_argument_of_a_cleanup_is_kept(void **state) {
  (void)state;
  keeps(make_cleanup, run_one);
}

static void the_argument_of_a_finalizer_is_kept(void **state) {
  (void)state;
  keeps(make_finalizer, run_one);
}

/* ---- ranges ---- */

static void **range;
static uintptr_t static_words[WORDS];

NOINLINE_TEST static void make_range(void) {
  if (range == NULL) range = calloc(WORDS, sizeof *range);
  REQUIRE(midden_root_add(range, range + WORDS) == 0, "midden_root_add");
  midden_store(&range[WORDS / 2], new_object());
}

NOINLINE_TEST static void load_and_remove(void) {
  got = test_hide(range[WORDS / 2]);
  midden_root_remove(range, range + WORDS);
}

NOINLINE_TEST static void load_and_remove_half(void) {
  got = test_hide(range[WORDS / 2]);
  midden_root_remove(range + WORDS / 2, range + WORDS);
}

NOINLINE_TEST static void load_and_clear(void) {
  got = test_hide(range[WORDS / 2]);
  midden_root_clear();
}

NOINLINE_TEST static void make_static(void) { midden_store(&static_words[WORDS / 2], new_object()); }

NOINLINE_TEST static void load_and_ignore(void) {
  got = test_hide((void *)static_words[WORDS / 2]);
  REQUIRE(midden_root_exclude(static_words, static_words + WORDS) == 0, "midden_root_exclude");
}

static void what_a_range_that_goes_held_is_kept(void **state) {
  (void)state;
  keeps(make_range, load_and_remove);
  keeps(make_range, load_and_remove_half);
  keeps(make_range, load_and_clear);
}

/* A handshake waits for the end of a critical section: no large range is looked at in one. */

enum { LARGE_WORDS = 1 << 19, MOST_BYTES = 64 << 10 };

static void **large_range;
static size_t largest; /* that a thread of the program looked at */

void __real_mark_range(struct midden_tracer *tracer, struct os_range bytes, bool is_stack);
void __wrap_mark_range(struct midden_tracer *tracer, struct os_range bytes, bool is_stack);

void __wrap_mark_range(struct midden_tracer *tracer, struct os_range bytes, bool is_stack) {
  if (gettid() == getpid() && bytes.end - bytes.start > largest) largest = bytes.end - bytes.start;
  __real_mark_range(tracer, bytes, is_stack);
}

NOINLINE_TEST static void make_large(void) {
  if (large_range == NULL) large_range = calloc(LARGE_WORDS, sizeof *large_range);
  REQUIRE(midden_root_add(large_range, large_range + LARGE_WORDS) == 0, "midden_root_add");
  midden_store(&large_range[LARGE_WORDS - 1], new_object());
}

static void load_from_large(void) {
  got = test_hide(large_range[LARGE_WORDS - 1]);
  largest = 0;
}

NOINLINE_TEST static void load_and_remove_large(void) {
  load_from_large();
  midden_root_remove(large_range, large_range + LARGE_WORDS);
  REQUIRE(largest != 0 && largest <= MOST_BYTES, "%zu bytes in one critical section", largest);
}

NOINLINE_TEST static void load_and_clear_large(void) {
  load_from_large();
  midden_root_clear();
  REQUIRE(largest != 0 && largest <= MOST_BYTES, "%zu bytes in one critical section", largest);
}

static void a_large_range_goes_piece_by_piece(void **state) {
  (void)state;
  keeps(make_large, load_and_remove_large);
  keeps(make_large, load_and_clear_large);
}

static void what_static_data_that_is_excluded_held_is_kept(void **state) {
  (void)state;
  keeps(make_static, load_and_ignore);
}

/* ---- the root callback ---- */

static void **reported;

static void report(struct midden_tracer *tracer, void *unused) {
  (void)unused;
  midden_trace(tracer, __atomic_load_n(reported, __ATOMIC_RELAXED));
}

NOINLINE_TEST static void make_reported(void) {
  if (reported == NULL) reported = calloc(1, sizeof *reported);
  midden_set_root_callback(report, NULL);
  midden_store(reported, new_object());
}

NOINLINE_TEST static void load_and_take_back(void) {
  got = test_hide(*reported);
  midden_set_root_callback(NULL, NULL);
}

static void what_a_root_callback_reported_is_kept(void **state) {
  (void)state;
  keeps(make_reported, load_and_take_back);
}

/* ---- stacks ---- */

static struct midden_stack *stack;

static void **word_of_stack(void) { return (void **)midden_stack_high(stack) - 4; }

NOINLINE_TEST static void make_stack(void) {
  stack = midden_stack_alloc(0);
  REQUIRE(stack != NULL, "out of memory");
  midden_store(word_of_stack(), new_object());
  REQUIRE(midden_stack_set_pointer(stack, word_of_stack()) == 0, "midden_stack_set_pointer");
}

NOINLINE_TEST static void load_and_free_stack(void) {
  got = test_hide(*word_of_stack());
  REQUIRE(midden_stack_free(stack) == 0, "midden_stack_free");
}

NOINLINE_TEST static void load_and_pop(void) {
  got = test_hide(*word_of_stack());
  REQUIRE(midden_stack_set_pointer(stack, midden_stack_high(stack)) == 0, "midden_stack_set_pointer");
}

static void what_a_parked_stack_held_is_kept(void **state) {
  (void)state;
  keeps(make_stack, load_and_free_stack);
  keeps(make_stack, load_and_pop);
  midden_stack_free(stack);
}

static struct midden_fiber *fiber;
static void *volatile *local; /* the fiber's */

static void *hold(void *argument) {
  void *volatile held = argument;
  local = &held;
  midden_fiber_yield(NULL);
  return held;
}

NOINLINE_TEST static void make_fiber(void) {
  midden_store(&fiber, midden_fiber_new(hold, new_object(), 0));
  REQUIRE(fiber != NULL && midden_fiber_resume(fiber, NULL, NULL) == 0, "midden_fiber_resume");
}

NOINLINE_TEST static void load_and_free_fiber(void) {
  got = test_hide(*local);
  REQUIRE(midden_fiber_free(fiber) == 0, "midden_fiber_free");
}

static void what_a_suspended_fiber_held_is_kept(void **state) {
  (void)state;
  keeps(make_fiber, load_and_free_fiber);
}

/* ---- kinds ---- */

static void trace_nothing(void *object, size_t size, struct midden_tracer *tracer, void *argument) {
  (void)object, (void)size, (void)tracer, (void)argument;
}

NOINLINE_TEST static void make_kind(void) {
  void *argument = new_object();
  struct midden_kind_options options = {.size = sizeof options, .trace = trace_nothing, .argument = argument};
  got = test_hide(argument);
  REQUIRE(midden_kind_new(&options) >= 0, "midden_kind_new");
}

/* Where static data is none, the library's own is none either. */
static void the_argument_of_a_kind_is_kept(void **state) {
  (void)state;
  make_kind();
  midden_root_add(&watched, &watched + 1);
  midden_root_add(&dropped, &dropped + 1);
  midden_root_modules(false);
  test_collect_clean();
  midden_root_modules(true);
  midden_root_clear();
  assert_true(is_kept(got));
  assert_true(is_dropped_gone());
}

int main(void) {
  cycle_init();
  cycle.scanned.patience_ms = 300; /* where the cycle is waited for, it goes on */
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_argument_of_a_cleanup_is_kept),
      cmocka_unit_test(the_argument_of_a_finalizer_is_kept),
      cmocka_unit_test(what_a_range_that_goes_held_is_kept),
      cmocka_unit_test(a_large_range_goes_piece_by_piece),
      cmocka_unit_test(what_static_data_that_is_excluded_held_is_kept),
      cmocka_unit_test(what_a_root_callback_reported_is_kept),
      cmocka_unit_test(what_a_parked_stack_held_is_kept),
      cmocka_unit_test(what_a_suspended_fiber_held_is_kept),
      cmocka_unit_test(the_argument_of_a_kind_is_kept),
  };
  return test_run_group(tests);
}
