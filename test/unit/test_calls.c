/* The queue of calls, while it is marked: threads take calls between two steps of that, also the one that would be marked next.  And
 * what is called off is neither marked nor counted, nor counted off twice.
 *
 * Linked with --wrap=lock_pass, where they come in between, and --wrap=midden_barrier_record (cmake/tests.cmake). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/lock.h"
#include "gc/calls.h"
#include "gc/mark.h"
#include "mutator/barrier.h"
#include "mutator/mutator.h"
#include "support/heap_test.h"

enum { CALLS = 1000, TAKEN = 300, CALLED_OFF = 10 };

static bool takes; /* at the next pass */
static unsigned passes, marks, marked[CALLS];
static unsigned marks_before; /* some were taken */
static const void *last_noted[2];

static void *argument_of(size_t i) { return (void *)(16 * (i + 1)); }

static void ignore(void *argument) { (void)argument; }

static void finalize(void *object, void *argument) { (void)object, (void)argument; }

static struct call *make(size_t i, enum special_kind kind) {
  struct call *call = special_alloc(false);
  REQUIRE(call != NULL, "out of memory");
  *call = (struct call){.many.special.kind = (uint8_t)kind, .argument = argument_of(i)};
  if (kind == SPECIAL_CLEANUP) {
    call->cleanup = ignore;
  } else {
    call->finalizer = finalize;
  }
  return call;
}

static void take(size_t first, size_t count) {
  for (size_t i = first; i < first + count; i++) {
    struct due_call due;
    REQUIRE(calls_take(&due) && due.cleanup == ignore && due.argument == argument_of(i), "another call");
    REQUIRE(last_noted[1] == due.argument && last_noted[0] == due.object, "the barrier was not told");
  }
}

void __real_lock_pass(struct lock *lock);
void __wrap_lock_pass(struct lock *lock);
void __wrap_midden_barrier_record(const void *slot, const void *old, const void *value);

void __wrap_midden_barrier_record(const void *slot, const void *old, const void *value) {
  (void)slot, (void)value;
  last_noted[0] = last_noted[1];
  last_noted[1] = old;
}

void __wrap_lock_pass(struct lock *lock) {
  passes++;
  if (!takes) {
    __real_lock_pass(lock);
    return;
  }
  takes = false;
  marks_before = marks;
  lock_release(lock);
  take(0, TAKEN);
  lock_acquire(lock);
}

static void count_mark(struct midden_tracer *tracer, uintptr_t word, bool is_stack) {
  (void)tracer, (void)is_stack;
  REQUIRE(word % 16 == 0 && word / 16 - 1 < CALLS, "a word that is no argument");
  marked[word / 16 - 1]++;
  marks++;
}

static uint64_t mark_all(void) {
  struct midden_tracer tracer = {.mode = MARK_CONCURRENT, .visit = count_mark};
  memset(marked, 0, sizeof marked);
  return calls_mark_roots(&tracer);
}

static void the_rest_is_marked_where_some_are_taken(void **state) {
  (void)state;
  for (size_t i = 0; i < CALLS; i++) calls_append(make(i, SPECIAL_CLEANUP));
  assert_int_equal(calls_count(), CALLS);
  takes = true;
  assert_int_equal(mark_all(), CALLS);
  assert_true(passes > 1 && !takes);
  for (size_t i = TAKEN; i < CALLS; i++) assert_int_equal(marked[i], 1);
  assert_in_range(marks_before, 1, TAKEN - 1);
  assert_int_equal(marks, marks_before + CALLS - TAKEN);
  assert_int_equal(calls_count(), CALLS - TAKEN);
  take(TAKEN, CALLS - TAKEN);
  assert_int_equal(calls_count(), 0);
}

static void what_is_called_off_is_as_good_as_gone(void **state) {
  (void)state;
  struct call *calls[CALLED_OFF];
  for (size_t i = 0; i < CALLED_OFF; i++) {
    calls[i] = make(i, SPECIAL_QUEUED);
    calls_append(calls[i]);
  }
  calls_append(make(CALLED_OFF, SPECIAL_CLEANUP));
  for (size_t i = 0; i < CALLED_OFF; i++) calls_cancel_locked(calls[i]);
  assert_int_equal(calls_count(), 1);
  mark_all();
  for (size_t i = 0; i <= CALLED_OFF; i++) assert_int_equal(marked[i], i == CALLED_OFF);
  take(CALLED_OFF, 1);
}

/* Somebody frees the object of a finalizer that has just been taken. */
static void what_was_taken_is_not_called_off(void **state) {
  (void)state;
  struct call *call = make(0, SPECIAL_QUEUED);
  call->many.special.taken = true;
  calls_cancel_locked(call);
  assert_int_equal(calls_count(), 0);
  assert_true(call->finalizer == finalize);
  special_free(&call->many.special);
}

static int run_in_section(void **state) {
  (void)state;
  mutator_enter(mutator_self());
  barrier_activate(true);
  return 0;
}

static int leave_section(void **state) {
  (void)state;
  barrier_activate(false);
  mutator_leave(mutator_self());
  return 0;
}

int main(void) {
  test_start("unit/calls");
  struct midden_options options = {
      .size = sizeof options, .mode = MIDDEN_MODE_STW, .background = -1, .idle_collect_ms = -1};
  REQUIRE(midden_init(&options) == 0 && midden_thread_attach() == 0, "midden_init");
  const struct CMUnitTest tests[] = {cmocka_unit_test(the_rest_is_marked_where_some_are_taken),
                                     cmocka_unit_test(what_is_called_off_is_as_good_as_gone),
                                     cmocka_unit_test(what_was_taken_is_not_called_off)};
  return cmocka_run_group_tests(tests, run_in_section, leave_section);
}
