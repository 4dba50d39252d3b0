/* Barrier mode, and values that hang on what is marked last, on a forced schedule: the heap is drained, and a key is known to nobody
 * but the main thread's record of its stores.  The handshake at the end of marking marks it.  It holds no pointers, so nothing
 * becomes grey by it; what follows from it must be marked all the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/cycle_steps.h"

static void **holder; /* holder[0]: the key */
static struct midden_ephemeron *pair;
static uintptr_t key, value; /* hidden */

NOINLINE_TEST static void *make_key(void) {
  void *made = midden_alloc_data(64);
  midden_store(&holder, midden_alloc(64));
  midden_store(&holder[0], made);
  return made;
}

NOINLINE_TEST static void *make_value(void) {
  void *made = midden_alloc(64);
  value = test_hide(made);
  watch(made);
  return made;
}

/* From here on the record alone names it. */
NOINLINE_TEST static void load_and_clear(void) {
  key = test_hide(holder[0]);
  midden_store(&holder[0], NULL);
}

static void collect_while_the_key_is_recorded(void) {
  test_scrub_stack();
  cycle_begin(&cycle.read);
  load_and_clear();
  test_scrub_stack();
  cycle_go_on(&cycle.read);
  cycle_end();
  assert_true(midden_owns(test_unhide(key)));
  assert_true(is_dropped_gone());
}

NOINLINE_TEST static void make_pair(void) { midden_store(&pair, midden_ephemeron_new(make_key(), make_value())); }

static void the_value_of_an_ephemeron_is_kept(void **state) {
  (void)state;
  make_pair();
  collect_while_the_key_is_recorded();
  assert_true(test_hide(midden_ephemeron_value(pair)) == value);
  assert_true(is_kept(value));
}

static void ignore(void *argument) { (void)argument; }

NOINLINE_TEST static void make_cleanup(void) {
  REQUIRE(midden_cleanup_add(make_key(), ignore, make_value(), NULL) == 0, "midden_cleanup_add");
}

static void the_argument_of_a_cleanup_is_kept(void **state) {
  (void)state;
  make_cleanup();
  collect_while_the_key_is_recorded();
  assert_true(is_kept(value));
}

/* ---- a value that a thread was given ---- */

/* From here on this thread alone has it, whose stack was scanned: with the key its ephemerons lose their values. */
NOINLINE_TEST static void get_and_free(void) {
  REQUIRE(test_hide(midden_ephemeron_value(pair)) == value, "another value");
  void *freed = holder[0];
  midden_store(&holder[0], NULL);
  midden_free(freed);
}

static void one_whose_key_is_freed_is_kept(void **state) {
  (void)state;
  make_pair();
  test_scrub_stack();
  cycle_begin(&cycle.read);
  await_own_scan();
  get_and_free();
  test_scrub_stack();
  cycle_go_on(&cycle.read);
  cycle_end();
  assert_null(midden_ephemeron_value(pair));
  assert_true(is_kept(value));
  assert_true(is_dropped_gone());
}

int main(void) {
  cycle_init();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_value_of_an_ephemeron_is_kept),
      cmocka_unit_test(the_argument_of_a_cleanup_is_kept),
      cmocka_unit_test(one_whose_key_is_freed_is_kept),
  };
  return test_run_group(tests);
}
