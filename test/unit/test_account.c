/* The account of what was allocated: it never falls below nothing, and who watches is told once of what the program does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "alloc/account.h"
#include "support/heap_test.h"

static unsigned wakes;

static void wake(void) { wakes++; }

/* An object may be freed before what its thread allocated is added. */
static void it_stops_at_nothing(void **state) {
  (void)state;
  account_add(100);
  account_subtract(30);
  assert_int_equal(account_live_bytes, 70);
  account_subtract(71);
  assert_int_equal(account_live_bytes, 0);
  account_trigger_bytes = 100;
  assert_false(account_collection_is_due());
  account_add(100);
  assert_true(account_collection_is_due());
  account_subtract(100);
}

static void who_watches_is_told_once(void (*act)(size_t bytes)) {
  wakes = 0;
  account_watch = ACCOUNT_WATCH_LOOK;
  act(1);
  assert_int_equal(account_watch, ACCOUNT_WATCH_NONE);
  assert_int_equal(wakes, 0); /* who looks is awake */
  account_watch = ACCOUNT_WATCH_WAKE;
  act(1);
  act(1);
  assert_int_equal(account_watch, ACCOUNT_WATCH_NONE);
  assert_int_equal(wakes, 1);
}

static void who_watches_is_told_of_allocations(void **state) {
  (void)state;
  who_watches_is_told_once(account_add);
}

static void who_watches_is_told_of_frees(void **state) {
  (void)state;
  who_watches_is_told_once(account_subtract);
}

int main(void) {
  account_waker = wake;
  const struct CMUnitTest tests[] = {cmocka_unit_test(it_stops_at_nothing),
                                     cmocka_unit_test(who_watches_is_told_of_allocations),
                                     cmocka_unit_test(who_watches_is_told_of_frees)};
  return test_run_group(tests);
}
