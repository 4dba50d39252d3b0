/* Barrier mode, minor cycles, on a forced schedule where it matters: what an old object refers to lives, whichever way it was stored; so
 * does what a new object refers to that was being filled while a cycle went by; what was born in a cycle is not old for that; and what
 * has no place in the heap by which it could be remembered is asked for each time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "span/guard.h"
#include "support/cycle_steps.h"

enum { SLOTS = 8, MEDIUM_SLOTS = 250, LARGE_SLOTS = 40000, GARBAGE = 1000, WORDS = SLOTS * sizeof(void *) };

static void **holder; /* static data; an old object, as a rule */
static uintptr_t young;

/* ---- the program's side ---- */

NOINLINE_TEST static void run_minor_cycle(void) {
  static struct collector_totals before, after; /* large, and what is not written of a frame may name an object */
  collector_read_totals(&before);
  collector_collect(COLLECT_STRESS, NULL, NULL);
  collector_read_totals(&after);
  REQUIRE(after.minor_collections == before.minor_collections + 1, "no minor cycle has ended");
}

/* As test_collect_clean. */
__attribute__((always_inline)) static inline void collect_minor(void) {
  test_scrub_stack();
  run_minor_cycle();
}

/* Garbage is found by it, or the rest proves nothing. */
NOINLINE_TEST static void *make_young(void) {
  void *object = midden_alloc(WORDS);
  young = test_hide(object);
  watch(object);
  return object;
}

static void expect_kept(bool garbage_is_young) {
  for (int i = 0; i < 3; i++) {
    collect_minor();
    assert_true(is_kept(young));
    assert_true(!garbage_is_young || is_dropped_gone());
  }
}

static void expect_kept_by_minor_cycles(void) { expect_kept(true); }

/* Further down the stack than what collects, whose frame covers not all of what they leave. */
NOINLINE_TEST static void deep_below(void (*function)(size_t i), size_t i) {
  volatile char room[512];
  room[0] = 0;
  function(i);
  room[sizeof room - 1] = 0;
}

NOINLINE_TEST static void make_holder(size_t slots) { midden_store(&holder, midden_alloc(slots * sizeof(void *))); }

/* The minor cycle is the last that looks into it because this thread might have been filling it. */
static void make_old_holder(size_t slots) {
  make_holder(slots);
  test_scrub_stack();
  midden_collect();
  collect_minor();
}

/* ---- ways to store ---- */

NOINLINE_TEST static void by_store(size_t i) { midden_store(&holder[i], make_young()); }

NOINLINE_TEST static void by_exchange(size_t i) { midden_exchange(&holder[i], make_young()); }

NOINLINE_TEST static void by_cas(size_t i) {
  void *expected = NULL;
  REQUIRE(midden_cas(&holder[i], &expected, make_young()), "another value");
}

NOINLINE_TEST static void by_range(size_t i) {
  void *made = make_young();
  midden_copy_range(&holder[i], &made, 1);
}

NOINLINE_TEST static void by_own_barrier(size_t i) {
  void *made = make_young();
  bool active = midden_barrier_begin();
  void *old = holder[i];
  __atomic_store_n(&holder[i], made, __ATOMIC_RELEASE);
  if (active) {
    midden_barrier_record(&holder[i], old, made);
  } else {
    midden_barrier_end();
  }
}

static void what_is_stored_to_an_old_object_is_kept(void **state) {
  (void)state;
  static void (*const ways[])(size_t i) = {by_store, by_exchange, by_cas, by_range, by_own_barrier};
  for (size_t way = 0; way < TEST_COUNT_OF(ways); way++) {
    make_old_holder(SLOTS);
    deep_below(ways[way], way % SLOTS);
    expect_kept_by_minor_cycles();
    make_old_holder(MEDIUM_SLOTS); /* on several cards */
    deep_below(ways[way], MEDIUM_SLOTS - 1 - way);
    expect_kept_by_minor_cycles();
  }
}

static void what_is_stored_to_a_large_old_object_is_kept(void **state) {
  (void)state;
  for (size_t i = 0; i < LARGE_SLOTS; i += LARGE_SLOTS / 3) {
    make_old_holder(LARGE_SLOTS);
    deep_below(by_store, i);
    expect_kept_by_minor_cycles();
  }
}

NOINLINE_TEST static void behind_the_barrier(size_t i) { holder[i] = make_young(); }

/* So the tests above test something: nothing else keeps it. */
static void what_is_stored_behind_the_barrier_is_not(void **state) {
  (void)state;
  make_old_holder(MEDIUM_SLOTS); /* its first card is not the window's that comes after it */
  deep_below(behind_the_barrier, 0);
  collect_minor();
  assert_false(is_kept(young));
  holder[0] = NULL;
}

static void full_cycles_free_what_was_old(void **state) {
  (void)state;
  make_old_holder(SLOTS);
  deep_below(by_store, 0);
  collect_minor();
  midden_store(&holder[0], NULL);
  collect_minor();
  assert_true(is_kept(young));
  test_scrub_stack();
  midden_collect();
  assert_false(is_kept(young));
}

/* ---- new objects that are filled without barrier ---- */

static bool is_cycle_minor;

static void run_cycle(void) {
  if (is_cycle_minor) {
    collector_collect(COLLECT_STRESS, NULL, NULL);
  } else {
    midden_collect();
  }
}

/* Its address stays in this frame, or in a register, from before the cycles to after them. */
NOINLINE_TEST static void fill_behind_cycles(size_t slots, size_t i, int cycles) {
  void *volatile *object = midden_alloc(slots * sizeof(void *));
  while (cycles-- > 0) run_cycle();
  object[i] = make_young();
  midden_store(&holder[0], (void *)(uintptr_t)object);
}

static void what_is_filled_behind_a_cycle_is_read_again(void **state) {
  (void)state;
  for (int cycles = 1; cycles <= 3; cycles++) {
    is_cycle_minor = cycles != 2;
    make_old_holder(SLOTS);
    fill_behind_cycles(SLOTS, SLOTS - 1, cycles);
    expect_kept_by_minor_cycles();
    make_old_holder(SLOTS);
    fill_behind_cycles(LARGE_SLOTS, LARGE_SLOTS - 1, cycles);
    expect_kept_by_minor_cycles();
  }
}

/* What waited in the window when the thread was scanned is used up: what comes is born in the cycle. */
NOINLINE_TEST static void leave_the_window(void) {
  for (size_t bytes = 0; bytes < 2 * CACHE_WINDOW_BYTES_MOST; bytes += WORDS)
    REQUIRE(midden_alloc(WORDS) != NULL, "out of memory");
}

/* The thread was scanned; what it stores now is black. */
NOINLINE_TEST static void fill_in_the_cycle(void) {
  void *volatile *object = midden_alloc(WORDS);
  cycle_begin(&cycle.read);
  leave_the_window();
  object[0] = make_young();
  midden_store(&holder[0], (void *)(uintptr_t)object);
  cycle_go_on(&cycle.read);
  cycle_end();
}

static void what_is_filled_in_a_cycle_is_read_again(void **state) {
  (void)state;
  for (int minor = 0; minor < 2; minor++) {
    make_old_holder(SLOTS);
    cycle.is_minor = minor != 0;
    fill_in_the_cycle();
    expect_kept_by_minor_cycles();
  }
}

static void *shared;

/* Attached in the middle of it, and so scanned. */
static void *make_and_share(void *unused) {
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  midden_store(&shared, make_young());
  return unused;
}

/* By a thread that is not yet scanned, with what one that is has allocated; and nothing of it is left when this thread is. */
NOINLINE_TEST static void fill_between_scans(size_t unused) {
  (void)unused;
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, make_and_share, NULL) == 0, "pthread_create");
  pthread_join(thread, NULL);
  REQUIRE(collector_phase() == COLLECTOR_SCAN, "phase %d", (int)collector_phase());
  void *volatile *object = midden_alloc(MEDIUM_SLOTS * sizeof(void *)); /* from the window */
  object[MEDIUM_SLOTS - 1] = shared;
  midden_store(&holder[0], (void *)(uintptr_t)object);
  midden_store(&shared, NULL);
  REQUIRE(!cache_is_black(&mutator_self()->cache), "this thread was scanned");
}

static void what_is_filled_between_scans_with_what_is_black_is_kept(void **state) {
  (void)state;
  if (guard_active) skip(); /* each allocation looks whether its thread is to be scanned */
  for (int minor = 0; minor < 2; minor++) {
    make_old_holder(SLOTS);
    make_holder(MEDIUM_SLOTS); /* opens a window */
    make_old_holder(SLOTS);
    cycle.is_minor = minor != 0;
    block_handshakes(true);
    REQUIRE(pthread_create(&cycle.thread, NULL, cycle_collect, NULL) == 0, "pthread_create");
    while (collector_phase() != COLLECTOR_SCAN) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    deep_below(fill_between_scans, 0);
    test_scrub_stack();
    block_handshakes(false);
    cycle_end();
    expect_kept(false);
  }
}

/* ---- objects that are born in a cycle ---- */

static uintptr_t garbage[GARBAGE];

NOINLINE_TEST static void make_garbage(void) {
  for (size_t i = 0; i < GARBAGE; i++) garbage[i] = test_hide(midden_alloc(i % 100 == 0 ? 100000 : 16 + i % 200));
}

static size_t garbage_left(void) {
  size_t left = 0;
  for (size_t i = 0; i < GARBAGE; i++) left += midden_owns(test_unhide(garbage[i]));
  return left;
}

static void what_was_born_in_a_cycle_is_not_old(void **state) {
  (void)state;
  for (int minor = 0; minor < 2; minor++) {
    cycle.is_minor = minor != 0;
    test_scrub_stack();
    cycle_begin(&cycle.read);
    make_garbage();
    test_scrub_stack();
    cycle_go_on(&cycle.read);
    cycle_end();
    assert_int_equal(garbage_left(), GARBAGE);
    collect_minor();
    assert_in_range(garbage_left(), 0, GARBAGE / 4); /* what had waited in windows when the thread was scanned */
  }
}

NOINLINE_TEST static void store_in_the_cycle(struct cycle_step *step) {
  cycle_begin(step);
  if (step != &cycle.armed) leave_the_window();
  by_store(0);
  test_scrub_stack();
  cycle_go_on(step);
  cycle_end();
}

static void what_was_born_in_a_cycle_and_stored_is_kept(void **state) {
  (void)state;
  struct cycle_step *const steps[] = {&cycle.armed, &cycle.scanned, &cycle.read};
  for (size_t i = 0; i < 2 * TEST_COUNT_OF(steps); i++) {
    make_old_holder(SLOTS);
    cycle.is_minor = i % 2 != 0;
    store_in_the_cycle(steps[i / 2]);
    expect_kept(steps[i / 2] != &cycle.armed); /* what came before the thread was scanned may have been seen */
  }
}

static void what_was_born_in_a_cycle_may_be_freed(void **state) {
  (void)state;
  cycle_begin(&cycle.read);
  make_garbage();
  cycle_go_on(&cycle.read);
  cycle_end();
  for (size_t i = 0; i < GARBAGE; i++) midden_free(test_unhide(garbage[i]));
  midden_verify();
  make_garbage();
  collect_minor();
  midden_verify();
}

/* ---- what no card tells of ---- */

static void trace_outside(void *object, size_t bytes, struct midden_tracer *tracer, void *argument) {
  (void)bytes, (void)argument;
  void **elsewhere = __atomic_load_n((void ***)object, __ATOMIC_RELAXED);
  if (elsewhere != NULL) midden_trace(tracer, __atomic_load_n(elsewhere, __ATOMIC_RELAXED));
}

static void **outside;

NOINLINE_TEST static void make_tracer(size_t unused) {
  (void)unused;
  int kind = midden_kind_new(&(struct midden_kind_options){
      .size = sizeof(struct midden_kind_options), .name = "outside", .trace = trace_outside});
  REQUIRE(kind >= 0, "midden_kind_new");
  void **object = midden_alloc_kind((unsigned)kind, WORDS);
  REQUIRE(object != NULL, "out of memory");
  object[0] = outside;
  midden_store(&holder, object);
}

NOINLINE_TEST static void store_outside(size_t i) { midden_store(&outside[i], make_young()); }

static void what_a_trace_function_finds_elsewhere_is_kept(void **state) {
  (void)state;
  outside = calloc(1, sizeof *outside);
  deep_below(make_tracer, 0);
  test_scrub_stack();
  midden_collect();
  deep_below(store_outside, 0);
  expect_kept_by_minor_cycles();
  midden_store(&holder, NULL);
  test_scrub_stack();
  midden_collect();
  free(outside);
}

static struct midden_weak_table *table;

NOINLINE_TEST static void make_entry(size_t unused) {
  (void)unused;
  midden_store(&holder, midden_alloc(WORDS));
  midden_store(&table, midden_weak_table_new());
  REQUIRE(midden_weak_table_set(table, holder, NULL) == 0, "midden_weak_table_set");
}

NOINLINE_TEST static void give_value(size_t unused) {
  (void)unused;
  REQUIRE(midden_weak_table_set(table, holder, make_young()) == 0, "midden_weak_table_set");
}

static void ignore(void *argument) { (void)argument; }

NOINLINE_TEST static void add_cleanup(size_t unused) {
  (void)unused;
  REQUIRE(midden_cleanup_add(holder, ignore, make_young(), NULL) == 0, "midden_cleanup_add");
}

static void what_hangs_on_old_keys_and_objects_is_kept(void **state) {
  (void)state;
  deep_below(make_entry, 0);
  test_scrub_stack();
  midden_collect();
  deep_below(give_value, 0);
  expect_kept_by_minor_cycles();
  deep_below(add_cleanup, 0);
  expect_kept_by_minor_cycles();
  midden_store(&table, NULL);
}

static void *run_fiber(void *argument) {
  for (int i = 0; i < 3; i++) {
    void *volatile local = make_young();
    midden_fiber_yield(NULL);
    (void)local;
  }
  return argument;
}

static struct midden_fiber *fiber;

NOINLINE_TEST static void make_fiber(size_t unused) {
  (void)unused;
  midden_store(&fiber, midden_fiber_new(run_fiber, NULL, 0));
}
NOINLINE_TEST static void resume(size_t unused) {
  (void)unused;
  REQUIRE(midden_fiber_resume(fiber, NULL, NULL) == 0, "midden_fiber_resume");
}

static void what_an_old_fiber_has_on_its_stack_is_kept(void **state) {
  (void)state;
  deep_below(make_fiber, 0);
  test_scrub_stack();
  midden_collect();
  for (int i = 0; i < 3; i++) {
    deep_below(resume, 0);
    expect_kept(false); /* on its stack, too, there are stale words */
  }
  midden_store(&fiber, NULL);
}

int main(void) {
  test_start("unit/barrier_minor");
  cycle_init_with(&(struct midden_options){.size = sizeof(struct midden_options),
                                           .mode = MIDDEN_MODE_BARRIER,
                                           .generations = MIDDEN_GENERATIONS_ALWAYS,
                                           .debug = MIDDEN_DEBUG_VERIFY,
                                           .initial_heap_bytes = (size_t)1 << 30,
                                           .percent = 10000,
                                           .idle_collect_ms = -1});
  alarm(120);
  const struct CMUnitTest tests[] = {
      test_scrubbed(what_is_stored_to_an_old_object_is_kept),
      test_scrubbed(what_is_stored_to_a_large_old_object_is_kept),
      test_scrubbed(what_is_stored_behind_the_barrier_is_not),
      test_scrubbed(full_cycles_free_what_was_old),
      test_scrubbed(what_is_filled_behind_a_cycle_is_read_again),
      test_scrubbed(what_is_filled_in_a_cycle_is_read_again),
      test_scrubbed(what_is_filled_between_scans_with_what_is_black_is_kept),
      test_scrubbed(what_was_born_in_a_cycle_is_not_old),
      test_scrubbed(what_was_born_in_a_cycle_and_stored_is_kept),
      test_scrubbed(what_was_born_in_a_cycle_may_be_freed),
      test_scrubbed(what_a_trace_function_finds_elsewhere_is_kept),
      test_scrubbed(what_hangs_on_old_keys_and_objects_is_kept),
      test_scrubbed(what_an_old_fiber_has_on_its_stack_is_kept),
  };
  return test_run_group(tests);
}
