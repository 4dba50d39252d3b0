/* Barrier mode and midden_alloc_many, on forced schedules.
 *
 * The list is stored to an object of another thread's that was scanned before this one: nobody reads that object in this cycle,
 * so that nothing but what the library tells the collector keeps the new objects, which are white.  And the list replaces one
 * that the thread, scanned, has just loaded. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "span/guard.h"
#include "support/cycle_steps.h"

/* ---- an object that is not scanned ---- */

static void **holder; /* holder[0]: the list */

static void *make_holder(void *unused) {
  (void)unused;
  await_own_scan();
  midden_store(&holder, midden_alloc(64));
  return NULL;
}

enum { BYTES = 48 };

NOINLINE_TEST static void fill_window(midden_kind kind) { midden_alloc_kind(kind, BYTES); }

static uintptr_t hidden[256];
static size_t count;

NOINLINE_TEST static void make_list(midden_kind kind) {
  count = midden_alloc_many(kind, BYTES, (void **)&holder[0]);
  size_t i = 0;
  for (void **object = holder[0]; object != NULL; object = object[0]) hidden[i++] = test_hide(object);
}

NOINLINE_TEST static size_t count_living(void) {
  size_t living = 0;
  for (size_t i = 0; i < count; i++) living += midden_owns(test_unhide(hidden[i]));
  return living;
}

static void keeps_what_another_holds(midden_kind kind) {
  pthread_t maker;
  test_scrub_stack();
  fill_window(kind);
  cycle_begin(&cycle.armed);
  block_handshakes(true);
  cycle_go_on(&cycle.armed);
  REQUIRE(pthread_create(&maker, NULL, make_holder, NULL) == 0, "pthread_create");
  pthread_join(maker, NULL);
  make_list(kind);
  test_scrub_stack();
  block_handshakes(false);
  cycle_end();
  assert_true(count > 1 || guard_active); /* guarded, a batch is one */
  assert_int_equal(count_living(), count);
}

/* What a trace function of the program's would find by its own lists: nothing reads the objects. */
static void trace_nothing(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *argument) {
  (void)object, (void)slot_bytes, (void)tracer, (void)argument;
}

static void a_list_in_an_object_of_a_scanned_thread_is_kept(void **state) {
  (void)state;
  keeps_what_another_holds(MIDDEN_CONSERVATIVE);
}

static void all_of_it_is_kept_where_only_trace_functions_find_it(void **state) {
  (void)state;
  int kind = midden_kind_new(&(struct midden_kind_options){
      .size = sizeof(struct midden_kind_options), .name = "traced", .trace = trace_nothing});
  REQUIRE(kind >= 0, "midden_kind_new");
  keeps_what_another_holds((midden_kind)kind);
}

/* ---- what the list replaces ---- */

NOINLINE_TEST static void make_old(void) {
  void *old = midden_alloc(64);
  midden_store(&holder, midden_alloc(64));
  midden_store(&holder[0], old);
  watch(old);
}

NOINLINE_TEST static uintptr_t load_and_replace(void) {
  uintptr_t old = test_hide(holder[0]);
  REQUIRE(midden_alloc_many(MIDDEN_CONSERVATIVE, BYTES, (void **)&holder[0]) != 0, "out of memory");
  return old;
}

static void what_the_list_replaces_is_kept(void **state) {
  (void)state;
  make_old();
  test_scrub_stack();
  cycle_begin(&cycle.read);
  uintptr_t old = load_and_replace();
  test_scrub_stack();
  cycle_go_on(&cycle.read);
  cycle_end();
  assert_true(is_kept(old));
  assert_true(is_dropped_gone());
}

int main(void) {
  cycle_init();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_list_in_an_object_of_a_scanned_thread_is_kept),
      cmocka_unit_test(all_of_it_is_kept_where_only_trace_functions_find_it),
      cmocka_unit_test(what_the_list_replaces_is_kept),
  };
  return test_run_group(tests);
}
