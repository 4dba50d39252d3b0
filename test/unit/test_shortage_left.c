/* An allocation that finds no memory tells the program of finalizers, which may leave it for good: what the thread waits for afterwards
 * is not for want of memory, and others do not rest for it.  It went on to count as such. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mutator/mutator.h"
#include "support/heap_test.h"

#define MIB ((size_t)1 << 20)

enum { HEAP_MIB = 16, OBJECTS = 50 };

static jmp_buf left;
static unsigned notified;
static void *volatile filling, *volatile wanted; /* static data: roots */

static void ignore(void *object, void *argument) { (void)object, (void)argument; }

static void leave(void *unused) {
  (void)unused;
  notified++;
  longjmp(left, 1);
}

NOINLINE_TEST static void make_ready(void) {
  for (size_t i = 0; i < OBJECTS; i++)
    assert_int_equal(midden_finalizer_set(midden_alloc(1), ignore, NULL, MIDDEN_FINALIZE_ORDERED, NULL, NULL), 0);
}

static void who_has_left_starves_no_more(void **state) {
  (void)state;
  filling = midden_alloc_data((HEAP_MIB - 4) * MIB);
  assert_non_null(filling);
  make_ready();
  test_scrub_stack();
  midden_set_finalizer_notify(leave, NULL);
  if (setjmp(left) == 0) wanted = midden_alloc_data(HEAP_MIB / 2 * MIB);
  assert_int_equal(notified, 1);
  assert_false(mutator_self()->is_starving);
}

int main(void) {
  setenv("MIDDEN_DEBUG", "notools", 0); /* guards take memory of their own */
  test_start("unit/shortage_left");
  struct midden_options options = {
      .size = sizeof options, .mode = MIDDEN_MODE_STW, .max_heap_bytes = HEAP_MIB * MIB, .idle_collect_ms = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  const struct CMUnitTest tests[] = {cmocka_unit_test(who_has_left_starves_no_more)};
  return test_run_group(tests);
}
